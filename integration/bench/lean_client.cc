#include "integration/bench/lean_client.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/status_macros.h"

namespace gantry::integration {
namespace {

constexpr size_t kReadBytes = 256 << 10;
constexpr int32_t kStreamWindow = 4 << 20;
constexpr int32_t kConnectionWindow = 16 << 20;
constexpr int kPatienceSeconds = 60;

nghttp2_nv Field(absl::string_view name, absl::string_view value) {
  return {reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
          NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

}  // namespace

absl::StatusOr<std::unique_ptr<LeanClient>> LeanClient::Connect(const std::string& socket,
                                                                const std::string& ns) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  socket.copy(address.sun_path, sizeof address.sun_path - 1);
  const struct timeval patience = {kPatienceSeconds, 0};
  if (!fd.valid() ||
      connect(fd.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof address) != 0 ||
      setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("connect to ", socket));
  }
  std::unique_ptr<LeanClient> client(new LeanClient(std::move(fd), socket, ns));
  GANTRY_RETURN_IF_ERROR(client->Handshake());
  return client;
}

LeanClient::LeanClient(UniqueFd fd, std::string socket, std::string ns)
    : fd_(std::move(fd)),
      socket_(std::move(socket)),
      ns_(std::move(ns)),
      buffer_(new uint8_t[kReadBytes]) {}

absl::Status LeanClient::Handshake() {
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, OnData);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, OnHeader);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, OnClose);
  nghttp2_session_callbacks_set_send_data_callback(callbacks, OnSendData);
  nghttp2_session* session = nullptr;
  const int made = nghttp2_session_client_new(&session, callbacks, this);
  nghttp2_session_callbacks_del(callbacks);
  if (made != 0) return Error("session", made);
  session_.reset(session);
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindow},
  };
  int done = nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, 2);
  if (done == 0) {
    done = nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
  }
  return done == 0 ? Write() : Error("settings", done);
}

absl::Status LeanClient::Error(absl::string_view what, int nghttp2_error) const {
  return absl::UnavailableError(
      absl::StrCat(socket_, ": ", what, ": ", nghttp2_strerror(nghttp2_error)));
}

absl::Status LeanClient::Open(const std::string& path) {
  path_ = path;  // referred to until it is sent
  stream_ = -1;
  closed_ = false;
  status_code_ = -1;
  status_message_.clear();
  front_.clear();
  payload_ = {};
  sent_ = 0;
  last_ = false;
  counting_ = false;
  counted_ = 0;
  prefix_size_ = 0;
  missing_ = 0;
  message_.clear();
  messages_.clear();
  const nghttp2_nv fields[] = {Field(":method", "POST"),
                               Field(":scheme", "http"),
                               Field(":path", path_),
                               Field(":authority", "localhost"),
                               Field("content-type", "application/grpc"),
                               Field("te", "trailers"),
                               Field("user-agent", "lean-client"),
                               Field("containerd-namespace", ns_)};
  nghttp2_data_provider body = {};
  body.read_callback = OnSource;
  stream_ = nghttp2_submit_request(session_.get(), nullptr, fields, std::size(fields), &body, this);
  return stream_ > 0 ? absl::OkStatus() : Error(path, stream_);
}

absl::Status LeanClient::Send(absl::string_view head, absl::string_view payload, bool last) {
  const auto size = static_cast<uint32_t>(head.size() + payload.size());
  front_.assign(1, '\0');
  for (int shift = 24; shift >= 0; shift -= 8) front_.push_back(static_cast<char>(size >> shift));
  front_.append(head.data(), head.size());
  payload_ = payload;
  sent_ = 0;
  last_ = last;
  nghttp2_session_resume_data(session_.get(), stream_);  // an error: it was never deferred
  GANTRY_RETURN_IF_ERROR(Write());
  // The rest when the server opens its window.
  while (!closed_ && sent_ < front_.size() + payload_.size()) GANTRY_RETURN_IF_ERROR(ReadSome());
  return absl::OkStatus();
}

absl::StatusOr<bool> LeanClient::Receive(std::string* message) {
  while (messages_.empty() && !closed_) GANTRY_RETURN_IF_ERROR(ReadSome());
  if (messages_.empty()) return false;
  *message = std::move(messages_.front());
  messages_.erase(messages_.begin());
  return true;
}

absl::StatusOr<int64_t> LeanClient::Drain() {
  counting_ = true;
  while (!closed_) GANTRY_RETURN_IF_ERROR(ReadSome());
  return counted_;
}

absl::Status LeanClient::Finish() {
  while (!closed_) GANTRY_RETURN_IF_ERROR(ReadSome());
  if (status_code_ == 0) return absl::OkStatus();
  if (status_code_ < 0) return absl::UnavailableError(absl::StrCat(socket_, ": no status came"));
  return absl::Status(static_cast<absl::StatusCode>(status_code_), status_message_);
}

absl::StatusOr<std::string> LeanClient::Call(const std::string& path, absl::string_view request) {
  GANTRY_RETURN_IF_ERROR(Open(path));
  GANTRY_RETURN_IF_ERROR(Send(request, {}, /*last=*/true));
  GANTRY_RETURN_IF_ERROR(Finish());
  return messages_.empty() ? std::string() : std::move(messages_.front());
}

absl::Status LeanClient::Write() {
  frames_.clear();
  pieces_.clear();
  while (true) {
    const uint8_t* bytes = nullptr;
    const ssize_t size = nghttp2_session_mem_send(session_.get(), &bytes);
    if (size < 0) return Error("send", static_cast<int>(size));
    if (size == 0) break;
    pieces_.push_back({nullptr, frames_.size(), static_cast<size_t>(size)});
    frames_.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
  }
  vector_.clear();
  for (const Piece& piece : pieces_) {
    const char* bytes = piece.bytes != nullptr ? piece.bytes : frames_.data() + piece.offset;
    vector_.push_back({const_cast<char*>(bytes), piece.size});
  }
  for (size_t next = 0; next < vector_.size();) {
    msghdr message = {};
    message.msg_iov = &vector_[next];
    message.msg_iovlen = std::min<size_t>(vector_.size() - next, 1024);
    ssize_t sent = sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return ErrnoToStatus(errno, absl::StrCat(socket_, ": send"));
    while (sent > 0) {
      const size_t taken = std::min(static_cast<size_t>(sent), vector_[next].iov_len);
      vector_[next].iov_base = static_cast<char*>(vector_[next].iov_base) + taken;
      vector_[next].iov_len -= taken;
      sent -= static_cast<ssize_t>(taken);
      if (vector_[next].iov_len == 0) ++next;
    }
  }
  return absl::OkStatus();
}

absl::Status LeanClient::ReadSome() {
  ssize_t got;
  // Not by a read that blocks: that would be woken also when the server has taken what was sent, at
  // the server's expense.
  while ((got = recv(fd_.get(), buffer_.get(), kReadBytes, MSG_DONTWAIT)) < 0) {
    if (errno == EINTR) continue;
    if (errno != EAGAIN) break;
    struct pollfd wait = {fd_.get(), POLLIN, 0};
    const int ready = poll(&wait, 1, kPatienceSeconds * 1000);
    if (ready == 0)
      return absl::DeadlineExceededError(
          absl::StrCat(socket_, ": no answer for ", kPatienceSeconds, " s"));
    if (ready < 0 && errno != EINTR) break;
  }
  if (got < 0) return ErrnoToStatus(errno, absl::StrCat(socket_, ": receive"));
  if (got == 0) return absl::UnavailableError(absl::StrCat(socket_, ": the server hung up"));
  const ssize_t taken =
      nghttp2_session_mem_recv(session_.get(), buffer_.get(), static_cast<size_t>(got));
  if (taken < 0) return Error("receive", static_cast<int>(taken));
  return nghttp2_session_want_write(session_.get()) != 0 ? Write() : absl::OkStatus();
}

void LeanClient::Take(const uint8_t* data, size_t size) {
  while (size > 0) {
    if (prefix_size_ < sizeof prefix_) {
      const size_t taken = std::min(size, sizeof prefix_ - prefix_size_);
      memcpy(prefix_ + prefix_size_, data, taken);
      prefix_size_ += taken;
      data += taken;
      size -= taken;
      if (prefix_size_ < sizeof prefix_) return;
      missing_ = 0;
      for (int i = 1; i < 5; ++i) missing_ = missing_ << 8 | static_cast<uint8_t>(prefix_[i]);
      if (!counting_) message_.reserve(missing_);
    }
    const size_t taken = std::min(size, missing_);
    if (counting_) {
      counted_ += static_cast<int64_t>(taken);
    } else {
      message_.append(reinterpret_cast<const char*>(data), taken);
    }
    data += taken;
    size -= taken;
    missing_ -= taken;
    if (missing_ > 0) return;
    prefix_size_ = 0;
    if (!counting_) messages_.push_back(std::exchange(message_, std::string()));
  }
}

int LeanClient::OnData(nghttp2_session*, uint8_t, int32_t stream, const uint8_t* data, size_t size,
                       void* self) {
  auto* client = static_cast<LeanClient*>(self);
  if (stream == client->stream_) client->Take(data, size);
  return 0;
}

int LeanClient::OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name,
                         size_t name_size, const uint8_t* value, size_t value_size, uint8_t,
                         void* self) {
  auto* client = static_cast<LeanClient*>(self);
  if (frame->hd.stream_id != client->stream_) return 0;
  const absl::string_view key(reinterpret_cast<const char*>(name), name_size);
  const absl::string_view text(reinterpret_cast<const char*>(value), value_size);
  if (key == "grpc-status" && !absl::SimpleAtoi(text, &client->status_code_)) {
    client->status_code_ = -1;
  } else if (key == "grpc-message") {
    client->status_message_ = std::string(text);
  }
  return 0;
}

int LeanClient::OnClose(nghttp2_session*, int32_t stream, uint32_t, void* self) {
  auto* client = static_cast<LeanClient*>(self);
  if (stream == client->stream_) client->closed_ = true;
  return 0;
}

ssize_t LeanClient::OnSource(nghttp2_session*, int32_t, uint8_t*, size_t most, uint32_t* flags,
                             nghttp2_data_source*, void* self) {
  auto* client = static_cast<LeanClient*>(self);
  const size_t left = client->front_.size() + client->payload_.size() - client->sent_;
  if (left == 0) return NGHTTP2_ERR_DEFERRED;
  *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  if (left <= most && client->last_) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return static_cast<ssize_t>(std::min(left, most));
}

int LeanClient::OnSendData(nghttp2_session*, nghttp2_frame*, const uint8_t* head, size_t size,
                           nghttp2_data_source*, void* self) {
  auto* client = static_cast<LeanClient*>(self);
  client->pieces_.push_back({nullptr, client->frames_.size(), 9});
  client->frames_.append(reinterpret_cast<const char*>(head), 9);
  if (client->sent_ < client->front_.size()) {
    const size_t taken = std::min(size, client->front_.size() - client->sent_);
    client->pieces_.push_back({client->front_.data() + client->sent_, 0, taken});
    client->sent_ += taken;
    size -= taken;
  }
  if (size > 0) {
    client->pieces_.push_back(
        {client->payload_.data() + (client->sent_ - client->front_.size()), 0, size});
    client->sent_ += size;
  }
  return 0;
}

}  // namespace gantry::integration
