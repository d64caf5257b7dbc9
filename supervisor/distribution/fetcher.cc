#include "supervisor/distribution/fetcher.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

#include "base/cancel_token.h"
#include "base/clock.h"
#include "base/errno_status.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "supervisor/distribution/credentials.h"
#include "supervisor/distribution/http_client.h"
#include "supervisor/distribution/range_sink.h"
#include "supervisor/distribution/range_spool.h"
#include "supervisor/oci/manifest.h"

namespace gantry::distribution {
namespace {

// A try that brought less than this counts as a failed one, so a registry that breaks every
// connection after a byte is left.
constexpr int64_t kProgressBytes = 64 << 10;
// A network faster than this is left alone: one connection brings what unpacking can take.
constexpr double kFastBytesPerSecond = 64.0 * (1 << 20);
constexpr size_t kCopyBytes = 256 << 10;

bool GaveUp(const absl::Status& status) {
  return absl::IsCancelled(status) || absl::IsDeadlineExceeded(status);
}

std::string BlobPath(const Reference& ref, const content::Digest& digest) {
  return absl::StrCat("/", ref.path(), "/blobs/", digest.str());
}

}  // namespace

// One blob from several connections: workers fill ranges ahead, the calling thread hands them on in
// order.
class Fetcher::RangeTransfer {
 public:
  RangeTransfer(RegistryClient& client, const RegistryHost& host, const RegistryRequest& request,
                const CallContext& context, const FetchOptions& options, RangeSpool& spool,
                int64_t offset, int64_t size, int64_t range_bytes, int workers)
      : client_(client),
        host_(host),
        request_(request),
        context_(context),
        options_(options),
        spool_(spool),
        size_(size),
        range_bytes_(range_bytes),
        workers_(workers),
        stop_(absl::InfiniteDuration(), context.cancel),
        reading_(offset / range_bytes),
        next_(reading_),
        offset_(offset) {
    context_.cancel = &stop_;
  }

  // Hands bytes to `sink` until the end or the first failure; `offset` is how far it came,
  // `sink_failed` whose fault it is.
  absl::Status Run(ByteSink& sink, int64_t& offset, bool& sink_failed) {
    std::vector<std::thread> threads;
    absl::Status status;
    for (int i = 0; i < workers_ && status.ok(); ++i) {
      absl::StatusOr<std::thread> thread = NewThread([this] { Work(); });
      if (thread.ok())
        threads.push_back(*std::move(thread));
      else
        status = thread.status();
    }
    // Fewer do as well.
    if (!threads.empty()) status = Drain(sink, sink_failed);
    stop_.Cancel("the transfer has ended");
    {
      absl::MutexLock lock(&mutex_);
      ended_ = true;
    }
    for (std::thread& thread : threads) thread.join();
    offset = offset_;
    return status;
  }

 private:
  class Filler : public RangeSink {
   public:
    Filler(RangeTransfer& transfer, size_t range, int64_t offset, int64_t end)
        : RangeSink(offset, end, transfer.size_, transfer.options_.received_bytes),
          transfer_(transfer),
          range_(range) {}

   protected:
    absl::Status Take(int64_t offset, absl::string_view bytes) override {
      GANTRY_RETURN_IF_ERROR(transfer_.spool_.Put(offset, bytes));
      absl::MutexLock lock(&transfer_.mutex_);
      transfer_.spool_.Grew(range_, offset + static_cast<int64_t>(bytes.size()) -
                                        static_cast<int64_t>(range_) * transfer_.range_bytes_);
      return absl::OkStatus();
    }

   private:
    RangeTransfer& transfer_;
    const size_t range_;
  };

  int64_t RangeEnd(size_t range) const {
    return std::min<int64_t>((range + 1) * range_bytes_, size_);
  }
  size_t Ranges() const { return (size_ + range_bytes_ - 1) / range_bytes_; }

  bool MayStart() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return ended_ || !failure_.ok() || next_ >= Ranges() ||
           next_ < reading_ + 2 * static_cast<size_t>(workers_);
  }

  void Work() {
    while (true) {
      size_t range;
      int64_t have;
      {
        absl::MutexLock lock(&mutex_);
        mutex_.Await(absl::Condition(this, &RangeTransfer::MayStart));
        if (ended_ || !failure_.ok() || next_ >= Ranges()) return;
        range = next_++;
        have = spool_.have(range);
      }
      absl::Status status = Fill(range, have);
      if (!status.ok()) {
        absl::MutexLock lock(&mutex_);
        if (failure_.ok() && !ended_) failure_ = status;
        return;
      }
    }
  }

  absl::Status Fill(size_t range, int64_t have) {
    int64_t start = static_cast<int64_t>(range) * range_bytes_;
    int64_t at = start + have;
    // The first range begins where the caller stands.
    {
      absl::MutexLock lock(&mutex_);
      if (range == reading_ && at < offset_) {
        at = offset_;
        spool_.Grew(range, at - start);
      }
    }
    int failures = 0;
    while (at < RangeEnd(range)) {
      RegistryRequest request = request_;
      request.headers.emplace_back("Range", absl::StrCat("bytes=", at, "-", RangeEnd(range) - 1));
      Filler filler(*this, range, at, RangeEnd(range));
      absl::StatusOr<RegistryResponse> response = client_.Send(host_, request, context_, &filler);
      int64_t gained = filler.offset() - at;
      at = filler.offset();
      if (!filler.contradiction().ok()) return filler.contradiction();
      if (response.ok() && !filler.partial())
        return absl::DataLossError("it stopped answering ranges");
      if (response.ok() && at >= filler.end()) continue;
      if (!response.ok() && !absl::IsUnavailable(response.status())) return response.status();
      if (gained >= kProgressBytes) failures = 0;
      if (++failures >= client_.options().max_attempts) {
        return response.ok() ? absl::UnavailableError("the answers end too early")
                             : response.status();
      }
      if (options_.on_retry)
        options_.on_retry(response.ok() ? "answer ended early" : response.status().message());
      GANTRY_RETURN_IF_ERROR(client_.Backoff(failures, context_));
    }
    return absl::OkStatus();
  }

  bool HasMore() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return Available() > 0 || !failure_.ok();
  }

  int64_t Available() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return static_cast<int64_t>(reading_) * range_bytes_ + spool_.have(reading_) - offset_;
  }

  absl::Status Drain(ByteSink& sink, bool& sink_failed) {
    std::string buffer(kCopyBytes, '\0');
    while (offset_ < size_) {
      int64_t available;
      {
        absl::MutexLock lock(&mutex_);
        // Cancellation reaches the workers, which then report it as their failure.
        mutex_.Await(absl::Condition(this, &RangeTransfer::HasMore));
        available = Available();
        if (available <= 0) return failure_;
      }
      size_t want = std::min<int64_t>(available, buffer.size());
      GANTRY_ASSIGN_OR_RETURN(size_t got, spool_.Get(offset_, buffer.data(), want));
      if (got == 0) return absl::DataLossError("spool of early ranges: shorter than it was");
      absl::Status status = sink.Write(absl::string_view(buffer.data(), got));
      if (!status.ok()) {
        sink_failed = true;
        return status;
      }
      absl::MutexLock lock(&mutex_);
      offset_ += got;
      if (offset_ >= RangeEnd(reading_) && offset_ < size_) {
        spool_.Release(reading_);
        ++reading_;
      }
    }
    return absl::OkStatus();
  }

  RegistryClient& client_;
  const RegistryHost& host_;
  const RegistryRequest& request_;
  CallContext context_;
  const FetchOptions& options_;
  RangeSpool& spool_;
  const int64_t size_;
  const int64_t range_bytes_;
  const int workers_;
  CancelToken stop_;

  absl::Mutex mutex_;
  size_t reading_;  // the range being handed on; written by the calling thread, under the lock
  size_t next_ ABSL_GUARDED_BY(mutex_);  // the next one without a worker
  int64_t offset_;                       // written by the calling thread, under the lock
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

// One blob from whatever hosts there are.
class Fetcher::BlobTransfer {
 public:
  BlobTransfer(Fetcher& fetcher, const Reference& ref, const content::Descriptor& descriptor,
               const FetchOptions& options, const CallContext& context, ByteSink& sink)
      : fetcher_(fetcher),
        client_(*fetcher.client_),
        ref_(ref),
        descriptor_(descriptor),
        options_(options),
        context_(context),
        sink_(sink),
        offset_(options.offset_bytes) {}

  absl::Status Run() {
    if (offset_ > descriptor_.size_bytes || offset_ < 0) {
      return absl::OutOfRangeError(absl::StrCat("blob ", descriptor_.digest.str(), ": offset ",
                                                offset_, " is outside its ", descriptor_.size_bytes,
                                                " bytes"));
    }
    if (offset_ == descriptor_.size_bytes) return absl::OkStatus();
    std::vector<absl::Status> failures;
    GANTRY_ASSIGN_OR_RETURN(std::vector<RegistryHost> hosts,
                            client_.Hosts(ref_, RegistryClient::Need::kPull, context_));
    std::vector<RegistryHost> usable;
    for (RegistryHost& host : hosts) {
      if (options_.avoid_origins.count(host.origin()) == 0) usable.push_back(std::move(host));
    }
    bool has_urls = !descriptor_.urls.empty();
    for (size_t i = 0; i < usable.size(); ++i) {
      RegistryRequest request;
      request.path = BlobPath(ref_, descriptor_.digest);
      request.scope_repository = ref_.path();
      absl::Status status = From(usable[i], request, i + 1 == usable.size() && !has_urls, context_);
      if (status.ok() || sink_failed_ || GaveUp(status)) return status;
      failures.push_back(absl::Status(
          status.code(), absl::StrCat("blob ", descriptor_.digest.str(), ": ", status.message())));
    }
    for (const std::string& text : descriptor_.urls) {
      absl::Status status = FromUrl(text);
      if (status.ok() || sink_failed_ || GaveUp(status)) return status;
      failures.push_back(absl::Status(
          status.code(), absl::StrCat("blob ", descriptor_.digest.str(), ": ", status.message())));
    }
    if (failures.empty()) {
      return absl::NotFoundError(absl::StrCat("blob ", descriptor_.digest.str(),
                                              ": no host is left that has not sent wrong bytes"));
    }
    return MostTelling(failures);
  }

 private:
  // Streams, and measures who is the slower: the network or the one who takes the bytes.
  class Streamer : public RangeSink {
   public:
    Streamer(BlobTransfer& transfer, const RegistryHost& host, int64_t end)
        : RangeSink(transfer.offset_, end, transfer.descriptor_.size_bytes,
                    transfer.options_.received_bytes),
          transfer_(transfer),
          host_(host) {}

    absl::Duration taking = absl::ZeroDuration();
    absl::Duration begun = absl::ZeroDuration();

   protected:
    absl::Status OnBegin() override {
      begun = Clock::Real().Monotonic();
      return absl::OkStatus();
    }
    absl::Status Take(int64_t, absl::string_view bytes) override {
      transfer_.Used(host_);
      absl::Duration before = Clock::Real().Monotonic();
      absl::Status status = transfer_.sink_.Write(bytes);
      taking += Clock::Real().Monotonic() - before;
      return status;
    }

   private:
    BlobTransfer& transfer_;
    const RegistryHost& host_;
  };

  void Used(const RegistryHost& host) {
    if (options_.origins != nullptr) options_.origins->insert(host.origin());
  }

  // As far as this host brings us; OK: to the end.
  absl::Status From(const RegistryHost& host, RegistryRequest request, bool last,
                    const CallContext& context) {
    const FetcherOptions& fetcher = fetcher_.options_;
    request.last_resort = last;
    int failures = 0;
    bool ranges = fetcher.max_ranges_per_blob > 1;
    bool network_is_slow =
        RangeSpool::Left(fetcher.spool_directory, descriptor_.digest, fetcher.range_bytes);
    auto wrong = [&](const absl::Status& status) {
      return absl::Status(status.code(),
                          absl::StrCat("registry ", host.origin(), ": ", status.message()));
    };
    while (offset_ < descriptor_.size_bytes) {
      int64_t remaining = descriptor_.size_bytes - offset_;
      bool large = remaining > fetcher.range_threshold_bytes;
      int64_t before = offset_;
      if (ranges && network_is_slow && remaining > fetcher.range_bytes) {
        absl::Status status = InRanges(host, request, context);
        if (status.ok()) return absl::OkStatus();
        if (sink_failed_ || GaveUp(status)) return status;
        // Whatever went wrong, one plain stream from here is the simpler thing to try before
        // leaving this host.
        ranges = false;
        if (options_.on_retry && !absl::IsUnimplemented(status))
          options_.on_retry(status.message());
        continue;
      }
      bool probe = ranges && large && !network_is_slow;
      int64_t end = probe ? offset_ + fetcher.range_bytes : -1;
      RegistryRequest one = request;
      if (offset_ > 0 || probe) {
        one.headers.emplace_back("Range", probe ? absl::StrCat("bytes=", offset_, "-", end - 1)
                                                : absl::StrCat("bytes=", offset_, "-"));
      }
      Streamer streamer(*this, host, end);
      absl::StatusOr<RegistryResponse> response = client_.Send(host, one, context, &streamer);
      offset_ = streamer.offset();
      if (streamer.taker_failed()) {
        sink_failed_ = true;
        return response.status();
      }
      if (!streamer.contradiction().ok()) return wrong(streamer.contradiction());
      const int64_t asked = probe ? fetcher.range_bytes : remaining;
      // A server may answer less than was asked for, but not in crumbs.
      if (response.ok() && offset_ >= streamer.end() &&
          offset_ - before >= std::min(asked, kProgressBytes)) {
        if (probe) {
          ranges = ranges && streamer.partial();
          absl::Duration took = Clock::Real().Monotonic() - streamer.begun;
          double rate =
              static_cast<double>(offset_ - before) / std::max(absl::ToDoubleSeconds(took), 1e-6);
          network_is_slow = streamer.taking < took * 0.5 && rate < kFastBytesPerSecond;
          if (!network_is_slow) ranges = false;
        }
        continue;
      }
      absl::Status status =
          response.ok()
              ? absl::UnavailableError(absl::StrCat("the body ended after ", offset_, " of ",
                                                    descriptor_.size_bytes, " bytes"))
              : response.status();
      if (GaveUp(status)) return status;
      if (!absl::IsUnavailable(status)) return status;
      if (offset_ - before >= kProgressBytes) failures = 0;
      if (++failures >= (last ? client_.options().max_attempts : 2)) {
        return response.ok() ? wrong(status) : status;
      }
      // Send() has tried before it gave up on a host that sends nothing at all.
      if (offset_ == before && !response.ok()) return status;
      if (options_.on_retry) options_.on_retry(status.message());
      GANTRY_RETURN_IF_ERROR(client_.Backoff(failures, context));
    }
    return absl::OkStatus();
  }

  absl::Status InRanges(const RegistryHost& host, const RegistryRequest& request,
                        const CallContext& context) {
    const FetcherOptions& fetcher = fetcher_.options_;
    int granted = 0;
    for (int i = 0; i < fetcher.max_ranges_per_blob; ++i) {
      if (fetcher_.range_connections_.fetch_add(1) >= fetcher.max_range_connections) {
        fetcher_.range_connections_.fetch_sub(1);
        break;
      }
      ++granted;
    }
    absl::Cleanup give_back = [&] { fetcher_.range_connections_.fetch_sub(granted); };
    if (granted < 2)
      return absl::UnimplementedError("other blobs have all the connections there are");
    GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<RangeSpool> spool,
                            RangeSpool::Open(fetcher.spool_directory, descriptor_.digest,
                                             descriptor_.size_bytes, fetcher.range_bytes));
    RangeTransfer transfer(client_, host, request, context, options_, *spool, offset_,
                           descriptor_.size_bytes, fetcher.range_bytes, granted);
    Used(host);
    absl::Status status = transfer.Run(sink_, offset_, sink_failed_);
    if (status.ok()) spool->Remove();
    return status;
  }

  // A foreign layer lives at a URL of its own: https, no credentials, no headers of ours.
  absl::Status FromUrl(const std::string& text) {
    GANTRY_ASSIGN_OR_RETURN(Url url, Url::Parse(text));
    if (url.scheme != "https" && !IsLoopbackHost(url.host)) {
      return absl::FailedPreconditionError(
          absl::StrCat("foreign layer at ", url.without_query(), ": only https is accepted"));
    }
    MemoCredentials anonymous(nullptr);
    CallContext context = context_;
    context.credentials = &anonymous;
    context.headers.clear();
    RegistryHost host;
    host.scheme = url.scheme;
    host.host = url.host;
    host.path.clear();
    host.rule = "urls of the layer's descriptor";
    RegistryRequest request;
    request.path = url.str();
    return From(host, request, true, context);
  }

  Fetcher& fetcher_;
  RegistryClient& client_;
  const Reference& ref_;
  const content::Descriptor& descriptor_;
  const FetchOptions& options_;
  const CallContext& context_;
  ByteSink& sink_;
  int64_t offset_;
  bool sink_failed_ = false;
};

Fetcher::Fetcher(RegistryClient* client, FetcherOptions options)
    : client_(client), options_(std::move(options)) {}

absl::Status Fetcher::FetchBlob(const Reference& ref, const content::Descriptor& descriptor,
                                const FetchOptions& options, const CallContext& context,
                                ByteSink& sink) {
  return BlobTransfer(*this, ref, descriptor, options, context, sink).Run();
}

absl::StatusOr<std::string> Fetcher::FetchManifest(const Reference& ref,
                                                   const content::Descriptor& descriptor,
                                                   const CallContext& context) {
  if (descriptor.size_bytes > oci::kMaxManifestBytes) {
    return absl::ResourceExhaustedError(absl::StrCat("manifest ", descriptor.digest.str(), ": ",
                                                     descriptor.size_bytes, " bytes, at most ",
                                                     oci::kMaxManifestBytes, " are accepted"));
  }
  GANTRY_ASSIGN_OR_RETURN(std::vector<RegistryHost> hosts,
                          client_->Hosts(ref, RegistryClient::Need::kPull, context));
  std::vector<absl::Status> failures;
  for (size_t i = 0; i < hosts.size(); ++i) {
    RegistryRequest request;
    request.path = absl::StrCat("/", ref.path(), "/manifests/", descriptor.digest.str());
    request.headers = {{"Accept", absl::StrCat(descriptor.media_type, ", */*")}};
    request.scope_repository = ref.path();
    request.last_resort = i + 1 == hosts.size();
    request.max_response_bytes = oci::kMaxManifestBytes;
    absl::StatusOr<RegistryResponse> response = client_->Send(hosts[i], request, context);
    if (!response.ok()) {
      if (GaveUp(response.status())) return response.status();
      failures.push_back(response.status());
      continue;
    }
    std::string what =
        absl::StrCat("registry ", hosts[i].origin(), ": manifest ", descriptor.digest.str());
    if (static_cast<int64_t>(response->body.size()) != descriptor.size_bytes) {
      failures.push_back(
          absl::DataLossError(absl::StrCat(what, ": ", response->body.size(),
                                           " bytes, its descriptor says ", descriptor.size_bytes)));
      continue;
    }
    content::Hasher hasher(descriptor.digest.algorithm());
    hasher.Update(response->body);
    if (hasher.Current() != descriptor.digest) {
      failures.push_back(
          absl::DataLossError(absl::StrCat(what, ": the bytes hash to ", hasher.Current().str())));
      continue;
    }
    return std::move(response->body);
  }
  return MostTelling(failures);
}

absl::Status Fetcher::SweepSpool(absl::Duration older_than) {
  if (options_.spool_directory.empty()) return absl::OkStatus();
  std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(options_.spool_directory.c_str()),
                                                closedir);
  if (!directory) {
    return errno == ENOENT
               ? absl::OkStatus()
               : ErrnoToStatus(errno, absl::StrCat("spool ", options_.spool_directory, ": open"));
  }
  int fd = dirfd(directory.get());
  absl::Time limit = absl::Now() - older_than;
  while (const dirent* entry = readdir(directory.get())) {
    struct stat st;
    if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) continue;
    if (absl::TimeFromTimespec(st.st_mtim) > limit) continue;
    UniqueFd file(openat(fd, entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file.valid() || flock(file.get(), LOCK_EX | LOCK_NB) != 0)
      continue;  // a transfer is using it
    unlinkat(fd, entry->d_name, 0);
  }
  return absl::OkStatus();
}

void Fetcher::DropSpool(const content::Digest& digest) {
  if (options_.spool_directory.empty()) return;
  std::string stem = absl::StrCat(options_.spool_directory, "/", std::string(digest.hex()), ".",
                                  options_.range_bytes);
  unlink(absl::StrCat(stem, ".map").c_str());
  unlink(absl::StrCat(stem, ".data").c_str());
}

}  // namespace gantry::distribution
