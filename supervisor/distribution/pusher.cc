#include "supervisor/distribution/pusher.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/byte_stream.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "supervisor/distribution/transfer_scope.h"
#include "supervisor/oci/manifest.h"
#include "supervisor/oci/platform.h"

namespace gantry::distribution {
namespace {

constexpr int kMaxIndexDepth = 4;
constexpr size_t kMaxManifests = 4096;
constexpr absl::Duration kProgressInterval = absl::Milliseconds(100);
constexpr int64_t kMaxLocationBytes = 16 << 10;
// A smaller blob is sent again sooner than its upload is looked up.
constexpr int64_t kNotedBytes = 1 << 20;

bool GaveUp(const absl::Status& status) {
  return absl::IsCancelled(status) || absl::IsDeadlineExceeded(status);
}

// A part of a blob, as an upload reads it.
class BlobSource : public ByteSource {
 public:
  BlobSource(content::BlobReader& reader, int64_t offset, int64_t end,
             std::function<void(int64_t)> moved)
      : reader_(reader), offset_(offset), end_(end), moved_(std::move(moved)) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    n = static_cast<size_t>(std::min<int64_t>(n, end_ - offset_));
    if (n == 0) return size_t{0};
    GANTRY_ASSIGN_OR_RETURN(size_t got, reader_.ReadAt(offset_, buffer, n));
    offset_ += got;
    moved_(offset_);
    return got;
  }

 private:
  content::BlobReader& reader_;
  int64_t offset_;
  const int64_t end_;
  const std::function<void(int64_t)> moved_;
};

// "0-99": the registry has 100 bytes. Nothing usable: 0.
int64_t Received(absl::string_view range) {
  absl::ConsumePrefix(&range, "bytes=");
  size_t dash = range.find('-');
  int64_t last = 0;
  if (dash == absl::string_view::npos || !absl::SimpleAtoi(range.substr(dash + 1), &last) ||
      last <= 0)
    return 0;
  return last + 1;
}

// Where the registry wants the rest of a blob, remembered from one push to the next. What is lost
// with it is work, not truth: the registry says how much it has.
class UploadNote {
 public:
  UploadNote(const std::string& directory, const std::string& origin, const Reference& ref,
             const content::Digest& digest) {
    if (directory.empty()) return;
    const std::string name(
        content::Digest::Sha256Of(absl::StrCat(origin, "\n", ref.path(), "\n", digest.str()))
            .hex());
    path_ = absl::StrCat(directory, "/", name, ".upload");
  }
  std::string Read() const {
    if (path_.empty()) return "";
    absl::StatusOr<std::string> location = ReadFile(path_, kMaxLocationBytes);
    return location.ok() ? *std::move(location) : "";
  }
  void Write(const std::string& location) const {
    // It may carry a signature. Without the note the next push begins anew, no more.
    if (!path_.empty()) WriteFile(path_, location, 0600).IgnoreError();
  }
  void Remove() const {
    if (!path_.empty()) unlink(path_.c_str());
  }

 private:
  std::string path_;
};

}  // namespace

class Pusher::Session {
 public:
  Session(RegistryClient& client, const std::string& spool_directory, const Reference& ref,
          content::Store& store, const PushOptions& options, const CallContext& context)
      : client_(client),
        spool_directory_(spool_directory),
        store_(store),
        options_(options),
        scope_(ref, client, context, options.progress),
        ref_(scope_.ref()),
        context_(scope_.context()) {}

  absl::StatusOr<PushedImage> Run(const content::Descriptor& target);

 private:
  struct Document {
    content::Descriptor descriptor;
    std::string bytes;
    std::optional<content::Descriptor> subject;
    std::string artifact_type;
    std::map<std::string, std::string> annotations;
  };

  void Tell(const content::Descriptor& descriptor, Progress::State state, int64_t offset,
            absl::string_view detail = "") const {
    scope_.Tell(descriptor, state, offset, detail);
  }

  std::string What(const content::Descriptor& descriptor) const {
    return absl::StrCat("push ", ref_.familiar(), ": blob ", descriptor.digest.str());
  }

  RegistryRequest Request(absl::string_view method, std::string path) const {
    RegistryRequest request;
    request.method = std::string(method);
    request.path = std::move(path);
    request.scope_repository = ref_.path();
    request.scope_actions = "pull,push";
    return request;
  }

  absl::Status Gather(const content::Descriptor& descriptor, int depth);
  absl::StatusOr<content::Descriptor> Narrow(const content::Descriptor& target);
  absl::Status Blob(const content::Descriptor& descriptor);
  absl::Status FetchMissing(const content::Descriptor& descriptor, const content::Labels& labels);
  absl::StatusOr<int64_t> Continued(std::string& location, const content::Descriptor& descriptor);
  absl::StatusOr<std::string> Begin(const content::Descriptor& descriptor,
                                    const content::Labels& labels, std::string& mounted_from);
  absl::Status Upload(const content::Descriptor& descriptor, content::BlobReader& reader,
                      std::string location, int64_t offset, const UploadNote& note);
  absl::Status Manifest(const Document& document, const std::string& object);
  absl::Status AnnounceReferrer(const Document& document);
  absl::StatusOr<bool> Exists(const std::string& path, const content::Digest& digest);

  RegistryClient& client_;
  const std::string& spool_directory_;
  content::Store& store_;
  const PushOptions& options_;
  TransferScope scope_;
  const Reference& ref_;
  const CallContext& context_;
  RegistryHost host_;

  std::vector<content::Descriptor> blobs_;               // each once
  std::map<content::Digest, content::Digest> named_by_;  // blob -> a manifest that names it
  std::vector<Document> documents_;                      // children before parents
  std::set<content::Digest> gathered_;
  std::atomic<int64_t> sent_{0}, skipped_{0}, mounted_{0};
};

absl::StatusOr<bool> Pusher::Session::Exists(const std::string& path,
                                             const content::Digest& digest) {
  RegistryRequest request = Request("HEAD", path);
  request.headers = {{"Accept", "*/*"}};
  absl::StatusOr<RegistryResponse> response = client_.Send(host_, request, context_);
  if (response.ok()) {
    absl::string_view named = response->header("docker-content-digest");
    return named.empty() || named == digest.str();
  }
  if (absl::IsNotFound(response.status())) return false;
  return response.status();
}

// Lists what has to be there, from `descriptor` down. Reads only the store.
absl::Status Pusher::Session::Gather(const content::Descriptor& descriptor, int depth) {
  if (!gathered_.insert(descriptor.digest).second) return absl::OkStatus();
  if (depth > kMaxIndexDepth || gathered_.size() > kMaxManifests) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "push ", ref_.familiar(), ": more or deeper nested manifests than are accepted"));
  }
  absl::StatusOr<std::string> bytes =
      content::ReadBlob(store_, descriptor.digest, oci::kMaxManifestBytes);
  if (absl::IsNotFound(bytes.status())) {
    // A platform that was never pulled. Fine if the registry has it.
    GANTRY_ASSIGN_OR_RETURN(
        bool there, Exists(absl::StrCat("/", ref_.path(), "/manifests/", descriptor.digest.str()),
                           descriptor.digest));
    if (there) {
      Tell(descriptor, Progress::State::kExists, descriptor.size_bytes);
      return absl::OkStatus();
    }
    return absl::FailedPreconditionError(absl::StrCat(
        "push ", ref_.familiar(), ": manifest ", descriptor.digest.str(),
        descriptor.platform ? absl::StrCat(" (", oci::FormatPlatform(*descriptor.platform), ")")
                            : "",
        " is neither here nor in the registry; pull all platforms first, or push one of them"));
  }
  GANTRY_RETURN_IF_ERROR(bytes.status());
  GANTRY_ASSIGN_OR_RETURN(oci::Document parsed,
                          oci::ParseDocument(*bytes, descriptor.media_type,
                                             absl::StrCat("manifest ", descriptor.digest.str())));
  Document document;
  document.descriptor = descriptor;
  document.descriptor.size_bytes = bytes->size();
  document.bytes = *std::move(bytes);
  if (parsed.index) {
    document.subject = parsed.index->subject;
    document.artifact_type = parsed.index->artifact_type;
    document.annotations = parsed.index->annotations;
    for (const content::Descriptor& child : parsed.index->manifests)
      GANTRY_RETURN_IF_ERROR(Gather(child, depth + 1));
  } else {
    document.subject = parsed.manifest->subject;
    document.artifact_type = parsed.manifest->artifact_type.empty()
                                 ? parsed.manifest->config.media_type
                                 : parsed.manifest->artifact_type;
    document.annotations = parsed.manifest->annotations;
    for (const content::Descriptor& child : oci::Children(parsed)) {
      if (!gathered_.insert(child.digest).second) continue;
      if (oci::IsForeignLayerType(child.media_type)) {
        Tell(child, Progress::State::kSkipped, 0, "foreign layer");
        continue;
      }
      blobs_.push_back(child);
      named_by_.emplace(child.digest, descriptor.digest);
    }
  }
  documents_.push_back(std::move(document));
  return absl::OkStatus();
}

// Of an index, the part for the wanted platforms: one image, or an index made of the several.
absl::StatusOr<content::Descriptor> Pusher::Session::Narrow(const content::Descriptor& target) {
  if (options_.platforms.empty() || !oci::IsIndexType(target.media_type)) return target;
  GANTRY_ASSIGN_OR_RETURN(std::string bytes,
                          content::ReadBlob(store_, target.digest, oci::kMaxManifestBytes));
  GANTRY_ASSIGN_OR_RETURN(
      oci::Index index,
      oci::ParseIndex(bytes, target.media_type, absl::StrCat("index ", target.digest.str())));
  std::vector<content::Descriptor> wanted;
  for (const content::Platform& platform : options_.platforms) {
    std::vector<content::Descriptor> fitting = oci::SelectManifests(
        index.manifests, oci::PlatformMatcher::Only(oci::NormalizePlatform(platform)));
    if (fitting.empty()) {
      return absl::NotFoundError(absl::StrCat(
          "push ", ref_.familiar(), ": the image has nothing for ", oci::FormatPlatform(platform)));
    }
    bool known = false;
    for (const content::Descriptor& have : wanted) known |= have.digest == fitting.front().digest;
    if (!known) wanted.push_back(fitting.front());
  }
  if (wanted.size() == 1) return wanted.front();
  index.manifests = wanted;
  Document document;
  document.bytes = oci::PrintIndex(index);
  document.descriptor.media_type = index.media_type;
  document.descriptor.digest = content::Digest::Sha256Of(document.bytes);
  document.descriptor.size_bytes = document.bytes.size();
  for (const content::Descriptor& child : wanted) GANTRY_RETURN_IF_ERROR(Gather(child, 1));
  content::Descriptor made = document.descriptor;
  gathered_.insert(made.digest);
  documents_.push_back(std::move(document));
  return made;
}

// Starts an upload; the Location to send to. Or the blob was mounted: then `mounted_from` is the
// repository that has it.
absl::StatusOr<std::string> Pusher::Session::Begin(const content::Descriptor& descriptor,
                                                   const content::Labels& labels,
                                                   std::string& mounted_from) {
  std::string path = absl::StrCat("/", ref_.path(), "/blobs/uploads/");
  mounted_from.clear();
  auto sources = labels.find(absl::StrCat("containerd.io/distribution.source.", ref_.domain()));
  if (sources != labels.end()) {
    int tried = 0;
    for (absl::string_view source : absl::StrSplit(sources->second, ',', absl::SkipEmpty())) {
      if (source == ref_.path() ||
          !Reference::ParseName(absl::StrCat(ref_.domain(), "/", source)).ok())
        continue;
      if (++tried > 3) break;
      RegistryRequest request = Request("POST", path);
      request.query = {{"mount", descriptor.digest.str()}, {"from", std::string(source)}};
      request.extra_scope = absl::StrCat("repository:", source, ":pull");
      absl::StatusOr<RegistryResponse> response = client_.Send(host_, request, context_);
      if (!response.ok()) {
        if (GaveUp(response.status())) return response.status();
        break;  // no right there, or no mounts here: upload
      }
      if (response->status == 201) {
        mounted_from = std::string(source);
        return std::string();
      }
      if (response->status == 202 && !response->location.empty()) return response->location;
    }
  }
  GANTRY_ASSIGN_OR_RETURN(RegistryResponse response,
                          client_.Send(host_, Request("POST", path), context_));
  if (response.location.empty()) {
    return absl::DataLossError(absl::StrCat(
        "registry ", host_.origin(), ": starts an upload without saying where (no Location)"));
  }
  return response.location;
}

// How much the registry has of an upload that an earlier push began; 0: nothing that could be
// continued. `location` becomes where the rest goes.
absl::StatusOr<int64_t> Pusher::Session::Continued(std::string& location,
                                                   const content::Descriptor& descriptor) {
  RegistryRequest request = Request("GET", location);
  request.retry = false;
  absl::StatusOr<RegistryResponse> state = client_.Send(host_, request, context_);
  if (GaveUp(state.status())) return state.status();
  if (!state.ok()) return 0;
  const int64_t has = Received(state->header("range"));
  if (has > descriptor.size_bytes) return 0;
  if (!state->location.empty()) location = state->location;
  return has;
}

absl::Status Pusher::Session::Upload(const content::Descriptor& descriptor,
                                     content::BlobReader& reader, std::string location,
                                     int64_t offset, const UploadNote& note) {
  const int64_t size = reader.size_bytes();
  int failures = 0;
  // From the middle only chunks can go on.
  bool in_chunks = options_.chunk_bytes > 0 || offset > 0;
  int64_t chunk_bytes = options_.chunk_bytes > 0 ? options_.chunk_bytes : size;
  absl::Duration told = absl::ZeroDuration();
  auto moved = [&](int64_t at) {
    absl::Duration now = Clock::Real().Monotonic();
    if (now - told < kProgressInterval) return;
    told = now;
    Tell(descriptor, Progress::State::kMoving, at);
  };
  while (true) {
    bool last = !in_chunks || offset == size;
    RegistryRequest request = Request(last ? "PUT" : "PATCH", location);
    request.retry = false;
    request.headers = {{"Content-Type", "application/octet-stream"}};
    int64_t begin = offset;
    int64_t end = in_chunks ? std::min(size, offset + chunk_bytes) : size;
    if (last) request.query = {{"digest", descriptor.digest.str()}};
    if (in_chunks && !last)
      request.headers.emplace_back("Content-Range", absl::StrCat(begin, "-", end - 1));
    if (end > begin) {
      request.body_size_bytes = end - begin;
      request.open_body = [&reader, begin, end,
                           &moved]() -> absl::StatusOr<std::unique_ptr<ByteSource>> {
        return std::make_unique<BlobSource>(reader, begin, end, moved);
      };
    }
    absl::StatusOr<RegistryResponse> response = client_.Send(host_, request, context_);
    if (response.ok()) {
      sent_ += end - begin;
      if (last) {
        absl::string_view stored = response->header("docker-content-digest");
        if (!stored.empty() && stored != descriptor.digest.str()) {
          return absl::DataLossError(
              absl::StrCat(What(descriptor), ": the registry says it stored ", stored));
        }
        note.Remove();
        return absl::OkStatus();
      }
      if (!response->location.empty()) {
        location = response->location;
        note.Write(location);
      }
      absl::string_view range = response->header("range");
      offset = range.empty() ? end : Received(range);
      if (offset <= begin || offset > end) {
        return absl::DataLossError(absl::StrCat(What(descriptor), ": sent up to byte ", end - 1,
                                                ", the registry says it has \"", range, "\""));
      }
      failures = 0;
      continue;
    }
    absl::Status status = response.status();
    // Out of range: the registry is at another byte than we thought, which its status tells.
    bool resumable = absl::IsUnavailable(status) || absl::IsOutOfRange(status);
    if (GaveUp(status) || !resumable || ++failures >= client_.options().max_attempts) {
      return absl::Status(status.code(), absl::StrCat(What(descriptor), ": ", status.message()));
    }
    Tell(descriptor, Progress::State::kRetrying, offset, status.message());
    GANTRY_RETURN_IF_ERROR(client_.Backoff(failures, context_));
    absl::StatusOr<RegistryResponse> state =
        client_.Send(host_, Request("GET", location), context_);
    if (state.ok()) {
      int64_t has = Received(state->header("range"));
      if (has >= 0 && has <= size) {
        if (has > offset) failures = 0;
        offset = has;
        if (!state->location.empty()) {
          location = state->location;
          note.Write(location);
        }
        in_chunks = in_chunks || offset > 0;
        continue;
      }
    } else if (GaveUp(state.status())) {
      return state.status();
    }
    // The session is lost: from the beginning.
    std::string mounted_from;
    GANTRY_ASSIGN_OR_RETURN(location, Begin(descriptor, {}, mounted_from));
    note.Write(location);
    offset = 0;
    in_chunks = options_.chunk_bytes > 0;
  }
}

absl::Status Pusher::Session::FetchMissing(const content::Descriptor& descriptor,
                                           const content::Labels& labels) {
  absl::Status fetched =
      options_.fetch_missing ? options_.fetch_missing(descriptor, labels) : absl::NotFoundError("");
  if (fetched.ok() || GaveUp(fetched)) return fetched;
  return absl::FailedPreconditionError(absl::StrCat(
      What(descriptor), " (", descriptor.media_type,
      ") is neither here nor in the registry; if it was discarded after unpacking, pull the image "
      "again first",
      fetched.message().empty() ? "" : absl::StrCat(": ", fetched.message())));
}

absl::Status Pusher::Session::Blob(const content::Descriptor& descriptor) {
  GANTRY_ASSIGN_OR_RETURN(bool there,
                          Exists(absl::StrCat("/", ref_.path(), "/blobs/", descriptor.digest.str()),
                                 descriptor.digest));
  if (there) {
    skipped_ += descriptor.size_bytes;
    Tell(descriptor, Progress::State::kExists, descriptor.size_bytes);
    return absl::OkStatus();
  }
  // A blob that is not here is asked for only when it cannot be mounted either: the manifest knows
  // where it came from.
  absl::StatusOr<content::Info> info = store_.Stat(descriptor.digest);
  const bool here = info.ok();
  if (absl::IsNotFound(info.status())) info = store_.Stat(named_by_.at(descriptor.digest));
  GANTRY_RETURN_IF_ERROR(info.status());
  const UploadNote note(descriptor.size_bytes >= kNotedBytes ? spool_directory_ : "",
                        host_.origin(), ref_, descriptor.digest);
  std::string location = note.Read();
  int64_t offset = 0;
  if (!location.empty()) {
    GANTRY_ASSIGN_OR_RETURN(offset, Continued(location, descriptor));
    if (offset == 0) {
      note.Remove();
      location.clear();
    }
  }
  std::string mounted_from;
  if (location.empty()) {
    GANTRY_ASSIGN_OR_RETURN(location, Begin(descriptor, info->labels, mounted_from));
    if (mounted_from.empty()) note.Write(location);
  }
  if (!mounted_from.empty()) {
    mounted_ += descriptor.size_bytes;
    Tell(descriptor, Progress::State::kMounted, descriptor.size_bytes, mounted_from);
    return absl::OkStatus();
  }
  if (!here) GANTRY_RETURN_IF_ERROR(FetchMissing(descriptor, info->labels));
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<content::BlobReader> reader,
                          store_.Open(descriptor.digest));
  Tell(descriptor, Progress::State::kMoving, offset, offset > 0 ? "resumed" : "");
  GANTRY_RETURN_IF_ERROR(Upload(descriptor, *reader, std::move(location), offset, note));
  Tell(descriptor, Progress::State::kDone, descriptor.size_bytes);
  return absl::OkStatus();
}

absl::Status Pusher::Session::Manifest(const Document& document, const std::string& object) {
  const content::Descriptor& descriptor = document.descriptor;
  std::string path = absl::StrCat("/", ref_.path(), "/manifests/", object);
  RegistryRequest head = Request("HEAD", path);
  head.headers = {{"Accept", absl::StrCat(descriptor.media_type, ", */*")}};
  absl::StatusOr<RegistryResponse> there = client_.Send(host_, head, context_);
  if (there.ok() && there->header("docker-content-digest") == descriptor.digest.str()) {
    Tell(descriptor, Progress::State::kExists, descriptor.size_bytes);
    return absl::OkStatus();
  }
  if (GaveUp(there.status())) return there.status();
  Tell(descriptor, Progress::State::kMoving, 0);
  RegistryRequest put = Request("PUT", path);
  put.headers = {{"Content-Type", descriptor.media_type}};
  put.body = document.bytes;
  absl::StatusOr<RegistryResponse> response = client_.Send(host_, put, context_);
  if (!response.ok()) {
    absl::StatusCode code =
        absl::IsInvalidArgument(response.status()) || absl::IsNotFound(response.status())
            ? absl::StatusCode::kFailedPrecondition
            : response.status().code();
    return absl::Status(
        code, absl::StrCat("push ", ref_.familiar(), ": manifest ", descriptor.digest.str(), ": ",
                           response.status().message()));
  }
  absl::string_view stored = response->header("docker-content-digest");
  if (!stored.empty() && stored != descriptor.digest.str()) {
    return absl::DataLossError(absl::StrCat("push ", ref_.familiar(), ": sent manifest ",
                                            descriptor.digest.str(),
                                            ", the registry says it stored ", stored));
  }
  if (document.subject && response->header("oci-subject").empty())
    GANTRY_RETURN_IF_ERROR(AnnounceReferrer(document));
  Tell(descriptor, Progress::State::kDone, descriptor.size_bytes);
  return absl::OkStatus();
}

// A registry from before referrers were part of the API: the list is kept by its clients under the
// tag <alg>-<hex>.
absl::Status Pusher::Session::AnnounceReferrer(const Document& document) {
  const content::Digest& subject = document.subject->digest;
  std::string path = absl::StrCat("/", ref_.path(), "/manifests/", std::string(subject.algorithm()),
                                  "-", std::string(subject.hex()).substr(0, 64));
  oci::Index index;
  index.media_type = oci::kOciIndex;
  RegistryRequest get = Request("GET", path);
  get.headers = {{"Accept", oci::kOciIndex}};
  get.max_response_bytes = oci::kMaxManifestBytes;
  absl::StatusOr<RegistryResponse> response = client_.Send(host_, get, context_);
  if (response.ok()) {
    GANTRY_ASSIGN_OR_RETURN(index, oci::ParseIndex(response->body, oci::kOciIndex,
                                                   absl::StrCat("referrers of ", subject.str())));
  } else if (!absl::IsNotFound(response.status())) {
    return response.status();
  }
  for (const content::Descriptor& known : index.manifests) {
    if (known.digest == document.descriptor.digest) return absl::OkStatus();
  }
  content::Descriptor entry = document.descriptor;
  entry.artifact_type = document.artifact_type;
  entry.annotations = document.annotations;
  index.manifests.push_back(std::move(entry));
  RegistryRequest put = Request("PUT", path);
  put.headers = {{"Content-Type", oci::kOciIndex}};
  put.body = oci::PrintIndex(index);
  return client_.Send(host_, put, context_).status();
}

absl::StatusOr<PushedImage> Pusher::Session::Run(const content::Descriptor& target) {
  if (ref_.object().empty())
    return absl::InvalidArgumentError(
        absl::StrCat("push ", ref_.familiar(), ": a tag or digest is needed"));
  GANTRY_ASSIGN_OR_RETURN(std::vector<RegistryHost> hosts,
                          client_.Hosts(ref_, RegistryClient::Need::kPush, context_));
  host_ = hosts.front();
  GANTRY_ASSIGN_OR_RETURN(content::Descriptor root, Narrow(target));
  GANTRY_RETURN_IF_ERROR(Gather(root, 0));
  if (!ref_.digest().empty() && ref_.digest() != root.digest) {
    return absl::InvalidArgumentError(absl::StrCat("push ", ref_.familiar(), ": the image is ",
                                                   root.digest.str(), ", not what the name says"));
  }
  for (const content::Descriptor& blob : blobs_) Tell(blob, Progress::State::kWaiting, 0);
  GANTRY_RETURN_IF_ERROR(scope_.ForEach(blobs_.size(), options_.max_parallel_blobs,
                                        [&](size_t i) { return Blob(blobs_[i]); }));
  PushedImage pushed;
  for (const Document& document : documents_) {
    bool is_root = document.descriptor.digest == root.digest;
    GANTRY_RETURN_IF_ERROR(
        Manifest(document, is_root ? ref_.object() : document.descriptor.digest.str()));
    if (is_root) pushed.target = document.descriptor;
  }
  if (pushed.target.digest.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("push ", ref_.familiar(), ": manifest ", root.digest.str(), " is not here"));
  }
  pushed.sent_bytes = sent_;
  pushed.skipped_bytes = skipped_;
  pushed.mounted_bytes = mounted_;
  return pushed;
}

absl::StatusOr<PushedImage> Pusher::Push(const Reference& ref, const content::Descriptor& target,
                                         content::Store& store, const PushOptions& options,
                                         const CallContext& context) {
  return Session(*client_, spool_directory_, ref, store, options, context).Run(target);
}

}  // namespace gantry::distribution
