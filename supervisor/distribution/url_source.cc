#include "supervisor/distribution/url_source.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/new_thread.h"
#include "base/status_macros.h"

namespace gantry::distribution {
namespace {

constexpr int kMaxRedirects = 10;

absl::Status StatusOf(const Url& url, const HttpHead& head) {
  const std::string what =
      absl::StrCat("GET ", url.without_query(), ": ", head.status, " ", head.reason);
  switch (head.status) {
    case 401:
      return absl::UnauthenticatedError(what);
    case 403:
      return absl::PermissionDeniedError(what);
    case 404:
    case 410:
      return absl::NotFoundError(what);
    default:
      return absl::UnavailableError(what);
  }
}

}  // namespace

class UrlSource::Receiver : public HttpReceiver {
 public:
  Receiver(UrlSource& source, const Url& url) : source_(source), url_(url) {}

  absl::Status OnHead(const HttpHead& head) override {
    if (head.status >= 300 && head.status < 400 && !head.header("location").empty()) {
      location = std::string(head.header("location"));
      return absl::OkStatus();
    }
    if (head.status < 200 || head.status >= 300) return StatusOf(url_, head);
    begun_ = true;
    int64_t size = -1;
    if (!absl::SimpleAtoi(head.header("content-length"), &size)) size = -1;
    absl::MutexLock lock(&source_.mu_);
    source_.announced_ = size;
    source_.answered_ = true;
    return absl::OkStatus();
  }

  absl::Status OnBody(absl::string_view bytes) override {
    if (!begun_) return absl::OkStatus();  // the text of a redirect
    while (!bytes.empty()) {
      const ssize_t sent = send(source_.writer_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0) return ErrnoToStatus(errno, "the reader of a URL");
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return absl::OkStatus();
  }

  std::string location;

 private:
  UrlSource& source_;
  const Url& url_;
  bool begun_ = false;
};

UrlSource::UrlSource(HttpClient& http, Url url, CancelToken* cancel, UniqueFd reader,
                     UniqueFd writer)
    : http_(http),
      url_(std::move(url)),
      cancel_(absl::InfiniteDuration(), cancel),
      reader_(std::move(reader)),
      writer_(std::move(writer)) {}

absl::StatusOr<std::unique_ptr<UrlSource>> UrlSource::Open(HttpClient& http, absl::string_view text,
                                                           CancelToken* cancel) {
  GANTRY_ASSIGN_OR_RETURN(Url url, Url::Parse(text));
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return ErrnoToStatus(errno, "socket pair");
  std::unique_ptr<UrlSource> source(
      new UrlSource(http, std::move(url), cancel, UniqueFd(ends[0]), UniqueFd(ends[1])));
  GANTRY_ASSIGN_OR_RETURN(source->thread_, NewThread([self = source.get()] { self->Transfer(); }));
  absl::MutexLock lock(&source->mu_);
  const auto settled = [self = source.get()]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(self->mu_) {
    return self->answered_ || self->ended_;
  };
  source->mu_.Await(absl::Condition(&settled));
  if (!source->answered_) {
    const absl::Status failed = source->result_;
    return failed.ok() ? absl::DataLossError(absl::StrCat(text, ": no answer")) : failed;
  }
  source->size_bytes_ = source->announced_;
  return source;
}

UrlSource::~UrlSource() {
  cancel_.Cancel("its reader has ended");
  shutdown(reader_.get(), SHUT_RDWR);
  if (thread_.joinable()) thread_.join();
}

void UrlSource::Transfer() {
  absl::Status result = TransferFrom(url_);
  absl::MutexLock lock(&mu_);
  result_ = std::move(result);
  ended_ = true;
  shutdown(writer_.get(), SHUT_WR);
}

absl::Status UrlSource::TransferFrom(Url url) {
  for (int followed = 0; followed <= kMaxRedirects; ++followed) {
    HttpRequest request;
    request.url = url;
    request.cancel = &cancel_;
    Receiver receiver(*this, url);
    const HttpResult result = http_.Do(request, receiver);
    if (!result.status.ok()) {
      if (result.from_caller) return result.status;
      return absl::Status(result.status.code(),
                          absl::StrCat("GET ", url.without_query(), ": ", result.status.message()));
    }
    if (receiver.location.empty()) return absl::OkStatus();
    GANTRY_ASSIGN_OR_RETURN(url, url.Resolve(receiver.location));
  }
  return absl::UnavailableError(
      absl::StrCat("GET ", url_.without_query(), ": more than ", kMaxRedirects, " redirects"));
}

absl::StatusOr<size_t> UrlSource::Read(char* buffer, size_t n) {
  while (true) {
    const ssize_t got = recv(reader_.get(), buffer, n, 0);
    if (got > 0) return static_cast<size_t>(got);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoToStatus(errno, "the body of a URL");
    absl::MutexLock lock(&mu_);
    if (!ended_) return absl::CancelledError("the transfer was ended");
    if (!result_.ok()) return result_;
    return 0;
  }
}

}  // namespace gantry::distribution
