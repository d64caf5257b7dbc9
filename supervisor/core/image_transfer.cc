// Images on the move: pull, push, load, save, import; and the checking of what is here.
#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

#include "base/cancel_token.h"
#include "base/clock.h"
#include "base/compression.h"
#include "base/processor_time.h"
#include "base/status_macros.h"
#include "supervisor/core/image_service.h"
#include "supervisor/core/lease_scope.h"
#include "supervisor/distribution/archive.h"
#include "supervisor/distribution/credentials.h"
#include "supervisor/distribution/hosts_config.h"
#include "supervisor/distribution/progress.h"
#include "supervisor/distribution/puller.h"
#include "supervisor/distribution/pusher.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/registry_client.h"
#include "supervisor/distribution/resolver.h"
#include "supervisor/distribution/runnable_image.h"
#include "supervisor/distribution/unpacker.h"
#include "supervisor/oci/config_change.h"

namespace gantry::core {
namespace {

constexpr size_t kPiece = 1 << 20;
// How long what an interrupted pull has got is kept for the next attempt.
constexpr absl::Duration kInterruptedPatience = absl::Hours(24);

// The caller's token, or one of our own where the caller has none.
class Token {
 public:
  explicit Token(CancelToken* given) : token_(given) {
    if (token_ == nullptr) token_ = &own_.emplace();
  }
  CancelToken& operator*() { return *token_; }
  CancelToken* get() { return token_; }

 private:
  std::optional<CancelToken> own_;
  CancelToken* token_;
};

v1::Progress::State ToState(distribution::Progress::State state, bool uploading) {
  using State = distribution::Progress::State;
  switch (state) {
    case State::kResolving:
    case State::kWaiting:
      return v1::Progress::WAITING;
    case State::kMoving:
      return uploading ? v1::Progress::UPLOADING : v1::Progress::DOWNLOADING;
    case State::kRetrying:
      return v1::Progress::RETRYING;
    case State::kVerifying:
      return v1::Progress::VERIFYING;
    case State::kDone:
      return uploading ? v1::Progress::UPLOADED : v1::Progress::DOWNLOADED;
    case State::kExists:
      return v1::Progress::EXISTS;
    case State::kMounted:
      return v1::Progress::MOUNTED;
    case State::kSkipped:
      return v1::Progress::EXISTS;
  }
  return v1::Progress::STATE_UNSPECIFIED;
}

distribution::ProgressFn TransferProgress(const ProgressFn& progress, bool uploading) {
  if (!progress) return nullptr;
  return [progress, uploading](const distribution::Progress& step) {
    v1::Progress out;
    if (step.kind != distribution::Progress::Kind::kReference) out.set_id(step.ref);
    out.set_state(ToState(step.state, uploading));
    out.set_current_bytes(step.offset_bytes);
    out.set_total_bytes(step.total_bytes);
    out.set_detail(step.detail);
    switch (step.kind) {
      case distribution::Progress::Kind::kLayer:
        out.set_media_type("layer");
        break;
      case distribution::Progress::Kind::kConfig:
        out.set_media_type("config");
        break;
      case distribution::Progress::Kind::kManifest:
        out.set_media_type("manifest");
        break;
      case distribution::Progress::Kind::kIndex:
        out.set_media_type("index");
        break;
      default:
        break;
    }
    progress(out);
  };
}

distribution::UnpackProgressFn UnpackProgressTo(const ProgressFn& progress) {
  if (!progress) return nullptr;
  return [progress](const distribution::UnpackProgress& step) {
    v1::Progress out;
    out.set_id(!step.layer.empty() ? step.layer.str() : step.diff_id.str());
    if (out.id().empty()) return;
    out.set_media_type("layer");
    switch (step.state) {
      case distribution::UnpackProgress::State::kUnpacking:
        out.set_state(v1::Progress::UNPACKING);
        break;
      case distribution::UnpackProgress::State::kDone:
        out.set_state(v1::Progress::COMPLETE);
        break;
      case distribution::UnpackProgress::State::kExists:
        out.set_state(v1::Progress::EXISTS);
        break;
    }
    out.set_current_bytes(step.offset_bytes);
    out.set_total_bytes(step.total_bytes);
    progress(out);
  };
}

distribution::ArchiveProgressFn ArchiveProgress(const ProgressFn& progress,
                                                v1::Progress::State state) {
  if (!progress) return nullptr;
  return [progress, state](absl::string_view entry, int64_t offset, int64_t total) {
    v1::Progress out;
    out.set_id(std::string(entry));
    out.set_state(total > 0 && offset >= total ? v1::Progress::COMPLETE : state);
    out.set_current_bytes(offset);
    out.set_total_bytes(total);
    progress(out);
  };
}

// One call on a registry: with the credential that the request brought along, else the daemon's; with the hosts it asked for, else the
// daemon's.
class RegistryCall {
 public:
  RegistryCall(const v1::RegistryAuth& auth, const std::string& domain,
               distribution::CredentialSource* fallback, CancelToken* cancel) {
    context.cancel = cancel;
    context.credentials = fallback;
    if (auth.username().empty() && auth.password().empty() && auth.identity_token().empty() &&
        auth.registry_token().empty())
      return;
    distribution::Credential credential;
    credential.username = auth.username();
    credential.password = auth.password();
    credential.identity_token = auth.identity_token();
    credential.registry_token = auth.registry_token();
    credential.source = "the request";
    own_.emplace(domain, credential);
    context.credentials = &*own_;
  }
  RegistryCall(const RegistryCall&) = delete;
  RegistryCall& operator=(const RegistryCall&) = delete;

  absl::Status Apply(const RegistryAccess& access, const distribution::HostsConfig* hosts) {
    context.headers = access.headers;
    if (access.hosts_directory.empty() && access.default_scheme.empty()) return absl::OkStatus();
    distribution::HostsConfigOptions options;
    if (hosts != nullptr) options = hosts->options();
    if (!access.hosts_directory.empty()) {
      options.directories = absl::StrSplit(access.hosts_directory, ':');
      for (const std::string& directory : options.directories) {
        if (!absl::StartsWith(directory, "/")) {
          return absl::InvalidArgumentError(absl::StrCat(
              "directory of registry hosts \"", directory, "\": must be an absolute path"));
        }
      }
    }
    options.default_scheme = absl::AsciiStrToLower(access.default_scheme);
    if (!options.default_scheme.empty() && options.default_scheme != "http" &&
        options.default_scheme != "https") {
      return absl::InvalidArgumentError(
          absl::StrCat("scheme \"", access.default_scheme, "\" of a registry: use http or https"));
    }
    context.hosts = &hosts_.emplace(std::move(options));
    return absl::OkStatus();
  }

  distribution::CallContext context;

 private:
  std::optional<distribution::StaticCredentials> own_;
  std::optional<distribution::HostsConfig> hosts_;
};

// Layers that are not in the store although an image names them, because the policy is to discard them once they are unpacked: brought
// back from where the manifest's labels say they came from, and let go again with this object when the policy still says so.
class Refetched {
 public:
  Refetched(distribution::Puller& puller, content::Store& store, bool discard)
      : puller_(puller), store_(store), discard_(discard) {}
  ~Refetched() {
    if (!discard_) return;
    // What stays is garbage for the next collection.
    for (const content::Digest& digest : fetched_) store_.Delete(digest).IgnoreError();
  }
  Refetched(const Refetched&) = delete;
  Refetched& operator=(const Refetched&) = delete;

  // `labels` are the manifest's. `context_of` gives what to ask a registry with, by its domain. Thread-safe.
  using ContextOf = std::function<distribution::CallContext(const std::string& domain)>;
  absl::Status Fetch(const content::Descriptor& blob, const content::Labels& labels,
                     const ContextOf& context_of) {
    constexpr absl::string_view kSource = "containerd.io/distribution.source.";
    absl::Status failure = absl::NotFoundError("where it came from is not known");
    for (const auto& [key, repositories] : labels) {
      if (!absl::StartsWith(key, kSource)) continue;
      const std::string domain = key.substr(kSource.size());
      for (absl::string_view repository : absl::StrSplit(repositories, ',', absl::SkipEmpty())) {
        absl::StatusOr<distribution::Reference> source =
            distribution::Reference::ParseName(absl::StrCat(domain, "/", repository));
        if (!source.ok()) continue;
        failure = puller_.FetchOne(*source, blob, store_, distribution::PullOptions(),
                                   context_of(source->domain()));
        if (failure.ok()) {
          absl::MutexLock lock(&mu_);
          fetched_.push_back(blob.digest);
        }
        if (failure.ok() || absl::IsCancelled(failure) || absl::IsDeadlineExceeded(failure))
          return failure;
      }
    }
    return failure;
  }

  // What is missing of the layers below `target`, which may be an index; platforms that were never fetched are none of ours.
  absl::Status FetchBelow(const content::Descriptor& target, const ContextOf& context_of) {
    absl::StatusOr<content::Info> info = store_.Stat(target.digest);
    if (absl::IsNotFound(info.status())) return absl::OkStatus();
    GANTRY_RETURN_IF_ERROR(info.status());
    GANTRY_ASSIGN_OR_RETURN(const std::string text,
                            content::ReadBlob(store_, target.digest, oci::kMaxManifestBytes));
    GANTRY_ASSIGN_OR_RETURN(const oci::Document document,
                            oci::ParseDocument(text, target.media_type, target.digest.str()));
    for (const content::Descriptor& child : oci::Children(document)) {
      if (oci::IsIndexType(child.media_type) || oci::IsManifestType(child.media_type)) {
        GANTRY_RETURN_IF_ERROR(FetchBelow(child, context_of));
      } else if (oci::IsLayerType(child.media_type) && !oci::IsForeignLayerType(child.media_type) &&
                 absl::IsNotFound(store_.Stat(child.digest).status())) {
        absl::Status fetched = Fetch(child, info->labels, context_of);
        if (!fetched.ok()) {
          return absl::Status(
              fetched.code(),
              absl::StrCat("layer ", child.digest.str(),
                           " was discarded after unpacking and cannot be fetched again: ",
                           fetched.message()));
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  distribution::Puller& puller_;
  content::Store& store_;
  const bool discard_;
  absl::Mutex mu_;
  std::vector<content::Digest> fetched_ ABSL_GUARDED_BY(mu_);
};

absl::StatusOr<oci::PlatformMatcher> Matcher(
    const google::protobuf::RepeatedPtrField<std::string>& platforms,
    const oci::PlatformMatcher& otherwise) {
  if (platforms.empty()) return otherwise;
  std::vector<content::Platform> parsed;
  for (const std::string& text : platforms) {
    GANTRY_ASSIGN_OR_RETURN(content::Platform platform, oci::ParsePlatform(text));
    parsed.push_back(platform);
  }
  return oci::PlatformMatcher::AnyOf(parsed);
}

std::string Seconds(absl::Duration duration) {
  return absl::StrFormat("%.3fs", absl::ToDoubleSeconds(duration));
}

// Where the processor time of a transfer went.
std::string CostOf(absl::Duration receiving, const snapshot::ApplyCost& cost) {
  return absl::StrCat("processor: receive=", Seconds(receiving), " inflate=", Seconds(cost.inflate),
                      " hash=", Seconds(cost.hash), " files=", Seconds(cost.files));
}

std::string NowText() {
  return absl::FormatTime(absl::RFC3339_full, absl::Now(), absl::UTCTimeZone());
}

}  // namespace

absl::StatusOr<std::string> ImageService::EnsureUnpacked(const CallContext& context,
                                                         const ResolvedImage& image,
                                                         const std::string& snapshotter,
                                                         const ProgressFn& progress) {
  if (image.chain_ids.empty()) return std::string();
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots(snapshotter, {context.ns, context.lease}));
  if (snapshots.Stat(image.chain_id()).ok()) return image.chain_id();
  Token token(context.cancel);
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope lease,
      LeaseScope::Create(parts_.stores->leases, parts_.stores->clock, context.ns, context.lease));
  metadata::ContentNamespace content = parts_.stores->Content(lease.scope());
  distribution::UnpackTarget target;
  target.store = &content;
  target.snapshotter = &snapshots;
  target.snapshotter_name = snapshots.name();
  target.scope = context.ns;
  Refetched refetched(*parts_.puller, content, parts_.discard_blobs);
  GANTRY_RETURN_IF_ERROR(
      refetched.FetchBelow(image.manifest, [&](const std::string&) { return Daemons(*token); }));
  GANTRY_ASSIGN_OR_RETURN(
      distribution::UnpackResult result,
      parts_.unpacker->UnpackImage(target, image.manifest, *token, UnpackProgressTo(progress)));
  return result.chain_id.str();
}

// For work on a registry that no request's credential is meant for.
distribution::CallContext ImageService::Daemons(CancelToken& cancel) const {
  distribution::CallContext context;
  context.cancel = &cancel;
  context.credentials = parts_.credentials;
  return context;
}

absl::Status ImageService::Recover() {
  std::vector<std::string> namespaces;
  GANTRY_RETURN_IF_ERROR(
      parts_.stores->namespaces.List([&](const record::v1::Namespace& name_space) {
        namespaces.push_back(name_space.name());
        return absl::OkStatus();
      }));
  for (const std::string& ns : namespaces) {
    GANTRY_RETURN_IF_ERROR(LeaseScope::TakeOver(parts_.stores->leases, parts_.stores->clock, ns,
                                                kInterruptedPatience));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::PulledImage> ImageService::Pull(const CallContext& context,
                                                   const v1::PullRequest& request,
                                                   const ProgressFn& progress,
                                                   const RegistryAccess& access) {
  Stores& stores = *parts_.stores;
  Token token(context.cancel);
  GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                          request.all_tags()
                              ? distribution::Reference::ParseName(request.reference())
                              : distribution::Reference::Parse(request.reference()));
  RegistryCall call(request.auth(), reference.domain(), parts_.credentials, token.get());
  GANTRY_RETURN_IF_ERROR(call.Apply(access, parts_.hosts));
  if (request.all_tags()) {
    GANTRY_ASSIGN_OR_RETURN(std::vector<std::string> tags,
                            parts_.resolver->ListTags(reference, call.context));
    v1::PulledImage last;
    v1::PullRequest one = request;
    one.set_all_tags(false);
    for (const std::string& tag : tags) {
      GANTRY_ASSIGN_OR_RETURN(distribution::Reference tagged, reference.WithTag(tag));
      one.set_reference(tagged.canonical());
      GANTRY_ASSIGN_OR_RETURN(last, Pull(context, one, progress, access));
    }
    if (tags.empty())
      return absl::NotFoundError(absl::StrCat(request.reference(), ": the repository has no tags"));
    return last;
  }

  const std::string work = absl::StrCat("pull ", reference.canonical());
  GANTRY_ASSIGN_OR_RETURN(LeaseScope lease, LeaseScope::Create(stores.leases, stores.clock,
                                                               context.ns, context.lease, work));
  const absl::Duration begun_at = Clock::Real().Monotonic();
  {
    absl::MutexLock lock(&mu_);
    ++pulls_.running;
  }
  absl::StatusOr<v1::PulledImage> pulled =
      PullUnder(lease, context, request, reference, call.context, *token, progress);
  {
    absl::MutexLock lock(&mu_);
    --pulls_.running;
    ++(pulled.ok() ? pulls_.succeeded : pulls_.failed);
    pulls_.took += Clock::Real().Monotonic() - begun_at;
  }
  // Where another attempt may go on, it finds what this one has got.
  absl::Status left;
  if (pulled.ok()) {
    left = LeaseScope::Forget(stores.leases, context.ns, work);
  } else if (absl::IsCancelled(pulled.status()) || absl::IsDeadlineExceeded(pulled.status()) ||
             absl::IsUnavailable(pulled.status()) || absl::IsResourceExhausted(pulled.status())) {
    left = lease.Keep(stores.clock, work, kInterruptedPatience);
  }
  LOG_IF(WARNING, !left.ok()) << "ns=" << context.ns << " " << work << ": " << left;
  return pulled;
}

PullCounts ImageService::pull_counts() const {
  absl::MutexLock lock(&mu_);
  return pulls_;
}

absl::StatusOr<v1::PulledImage> ImageService::PullUnder(
    const LeaseScope& lease, const CallContext& context, const v1::PullRequest& request,
    const distribution::Reference& reference, const distribution::CallContext& registry,
    CancelToken& cancel, const ProgressFn& progress) {
  Stores& stores = *parts_.stores;
  metadata::ContentNamespace content = stores.Content(lease.scope());
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          stores.Snapshots("", lease.scope()));
  distribution::UnpackTarget target;
  target.store = &content;
  target.snapshotter = &snapshots;
  target.snapshotter_name = snapshots.name();
  target.scope = context.ns;
  std::unique_ptr<distribution::UnpackSession> session =
      parts_.unpacker->Start(target, cancel, UnpackProgressTo(progress));

  std::optional<distribution::ImagePlan> plan;
  distribution::PullOptions options;
  if (!request.platform().empty()) {
    GANTRY_ASSIGN_OR_RETURN(content::Platform platform, oci::ParsePlatform(request.platform()));
    options.platforms.push_back(platform);
  }
  options.max_parallel_blobs = parts_.max_parallel_blobs;
  options.fetch_unpacked_layers = !parts_.discard_blobs;
  options.sync_blobs = parts_.sync_blobs == nullptr;
  options.sink = session.get();
  options.progress = TransferProgress(progress, false);
  options.on_image = [&](const distribution::ImagePlan& found) {
    if (!plan.has_value()) {
      plan = found;
      session->Expect(found.layers, found.diff_ids);
    }
    return absl::OkStatus();
  };
  options.is_unpacked = [&](const distribution::ImagePlan& found, size_t index) {
    const std::vector<content::Digest> chain = oci::ChainIds(found.diff_ids);
    return index < chain.size() && snapshots.Stat(chain[index].str()).ok();
  };
  GANTRY_ASSIGN_OR_RETURN(distribution::PulledImage pulled,
                          parts_.puller->Pull(reference, content, options, registry));
  const absl::Duration fetched_at = Clock::Real().Monotonic();
  distribution::UnpackResult unpacked;
  if (plan.has_value()) {
    GANTRY_ASSIGN_OR_RETURN(unpacked,
                            session->Finish(plan->config.digest, plan->layers, plan->diff_ids));
  }
  const absl::Duration unpacked_at = Clock::Real().Monotonic();
  if (parts_.sync_blobs) GANTRY_RETURN_IF_ERROR(parts_.sync_blobs());
  const absl::Duration synced_at = Clock::Real().Monotonic();

  v1::PulledImage answer;
  const std::string name = reference.canonical();
  absl::StatusOr<record::v1::Image> before = stores.images.Get({context.ns, ""}, name);
  answer.set_up_to_date(before.ok() && before->target().digest() == pulled.target.digest.str() &&
                        pulled.fetched_bytes == 0);
  CallContext leased = context;
  leased.lease = lease.scope().lease;
  GANTRY_RETURN_IF_ERROR(Name(leased, name, pulled.target));
  if (parts_.discard_blobs && plan.has_value()) {
    for (const content::Descriptor& layer : plan->layers) {
      absl::Status dropped = content.Delete(layer.digest);
      if (!dropped.ok() && !absl::IsNotFound(dropped)) return dropped;
    }
  }
  {
    absl::MutexLock lock(&mu_);
    pulls_.fetched_bytes += pulled.fetched_bytes;
  }
  answer.set_reference(name);
  answer.set_digest(pulled.target.digest.str());
  answer.set_image_id(pulled.target.digest.str());
  if (unpacked.layers_unpacked > 0) {
    LOG(INFO) << "ns=" << context.ns << " pulled " << name << ": " << pulled.fetched_bytes
              << " bytes, " << unpacked.layers_unpacked
              << " layers; stages: resolve=" << Seconds(pulled.resolving)
              << " fetch=" << Seconds(pulled.fetching)
              << " unpack_rest=" << Seconds(unpacked_at - fetched_at - unpacked.syncing)
              << " sync=" << Seconds(unpacked.syncing + synced_at - unpacked_at)
              << " record=" << Seconds(Clock::Real().Monotonic() - synced_at) << "; "
              << CostOf(pulled.fetch_cost, unpacked.cost);
  }
  return answer;
}

absl::StatusOr<std::vector<v1::PushedImage>> ImageService::Push(const CallContext& context,
                                                                const v1::PushRequest& request,
                                                                const ProgressFn& progress,
                                                                const RegistryAccess& access) {
  Token token(context.cancel);
  std::vector<distribution::Reference> references;
  if (request.all_tags()) {
    GANTRY_ASSIGN_OR_RETURN(distribution::Reference repository,
                            distribution::Reference::ParseName(request.reference()));
    GANTRY_RETURN_IF_ERROR(parts_.stores->images.List(
        {context.ns, ""}, metadata::Filter(), [&](const record::v1::Image& record) {
          absl::StatusOr<distribution::Reference> own =
              distribution::Reference::ParseName(record.name());
          if (own.ok() && own->repository() == repository.repository() && !own->tag().empty())
            references.push_back(*own);
          return absl::OkStatus();
        }));
    if (references.empty())
      return absl::NotFoundError(
          absl::StrCat("no image of repository ", request.reference(), " is here"));
  } else {
    GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                            distribution::Reference::Parse(request.reference()));
    references.push_back(reference);
  }
  RegistryCall call(request.auth(), references.front().domain(), parts_.credentials, token.get());
  GANTRY_RETURN_IF_ERROR(call.Apply(access, parts_.hosts));
  distribution::PushOptions options;
  options.max_parallel_blobs = parts_.max_parallel_blobs;
  options.progress = TransferProgress(progress, true);
  if (!request.platform().empty()) {
    GANTRY_ASSIGN_OR_RETURN(content::Platform platform, oci::ParsePlatform(request.platform()));
    options.platforms.push_back(platform);
  }
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope lease,
      LeaseScope::Create(parts_.stores->leases, parts_.stores->clock, context.ns, context.lease));
  metadata::ContentNamespace content = parts_.stores->Content(lease.scope());
  Refetched refetched(*parts_.puller, content, parts_.discard_blobs);
  options.fetch_missing = [&](const content::Descriptor& blob, const content::Labels& labels) {
    return refetched.Fetch(blob, labels, [&](const std::string& domain) {
      return domain == references.front().domain() ? call.context : Daemons(*token);
    });
  };
  std::vector<v1::PushedImage> answers;
  for (const distribution::Reference& reference : references) {
    GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records,
                            FindRecords(context, reference.canonical()));
    content::Descriptor target;
    target.media_type = records.front().target().media_type();
    target.size_bytes = records.front().target().size();
    GANTRY_ASSIGN_OR_RETURN(target.digest,
                            content::Digest::Parse(records.front().target().digest()));
    GANTRY_ASSIGN_OR_RETURN(distribution::PushedImage pushed,
                            parts_.pusher->Push(reference, target, content, options, call.context));
    v1::PushedImage& answer = answers.emplace_back();
    answer.set_reference(reference.canonical());
    answer.set_tag(reference.tag());
    answer.set_digest(pushed.target.digest.str());
    answer.set_size_bytes(pushed.target.size_bytes);
  }
  return answers;
}

absl::StatusOr<std::vector<v1::LoadedImage>> ImageService::Load(
    const CallContext& context, const v1::LoadRequest::Open& request, ByteSource& archive,
    const ProgressFn& progress) {
  Stores& stores = *parts_.stores;
  Token token(context.cancel);
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope lease, LeaseScope::Create(stores.leases, stores.clock, context.ns, context.lease));
  metadata::ContentNamespace content = stores.Content(lease.scope());
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          stores.Snapshots("", lease.scope()));
  distribution::UnpackTarget target;
  target.store = &content;
  target.snapshotter = &snapshots;
  target.snapshotter_name = snapshots.name();
  target.scope = context.ns;
  std::unique_ptr<distribution::UnpackSession> session;
  if (!request.no_unpack())
    session = parts_.unpacker->Start(target, *token, UnpackProgressTo(progress));

  distribution::ImportOptions options;
  GANTRY_ASSIGN_OR_RETURN(options.platforms,
                          Matcher(request.platforms(), oci::PlatformMatcher::All()));
  options.sync_blobs = parts_.sync_blobs == nullptr;
  const absl::Duration begun = Clock::Real().Monotonic();
  const absl::Duration busy_before = ThreadProcessorTime();
  GANTRY_ASSIGN_OR_RETURN(
      std::vector<distribution::ImportedImage> imported,
      distribution::ImportArchive(archive, content, session.get(), options, *token,
                                  ArchiveProgress(progress, v1::Progress::READING)));
  const absl::Duration receiving = ThreadProcessorTime() - busy_before;
  if (parts_.sync_blobs) GANTRY_RETURN_IF_ERROR(parts_.sync_blobs());
  const absl::Duration read_at = Clock::Real().Monotonic();
  distribution::UnpackResult all;
  std::vector<v1::LoadedImage> answers;
  std::set<content::Digest> unpacked;
  CallContext leased = context;
  leased.lease = lease.scope().lease;
  for (const distribution::ImportedImage& image : imported) {
    if (session != nullptr && unpacked.insert(image.target.digest).second) {
      absl::StatusOr<distribution::RunnableImage> runnable =
          distribution::FindRunnable(content, image.target, oci::PlatformMatcher::Host());
      // An image for other machines only is taken in all the same; it cannot be run here.
      if (runnable.ok()) {
        GANTRY_ASSIGN_OR_RETURN(
            distribution::UnpackResult one,
            session->Finish(runnable->config.digest, runnable->layers, runnable->diff_ids));
        all.layers_unpacked += one.layers_unpacked;
        all.cost += one.cost;
        all.syncing += one.syncing;
      } else if (!absl::IsNotFound(runnable.status())) {
        return runnable.status();
      }
    }
    std::string name = image.name;
    if (name.empty() && !request.name().empty()) {
      GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                              distribution::Reference::Parse(request.name()));
      name = reference.canonical();
    }
    GANTRY_RETURN_IF_ERROR(
        Name(leased, name.empty() ? DanglingName(image.target.digest) : name, image.target));
    v1::LoadedImage& answer = answers.emplace_back();
    if (!name.empty()) {
      absl::StatusOr<distribution::Reference> reference = distribution::Reference::Parse(name);
      answer.set_reference(reference.ok() ? reference->familiar() : name);
    }
    answer.set_image_id(image.target.digest.str());
  }
  if (all.layers_unpacked > 0) {
    LOG(INFO) << "ns=" << context.ns << " loaded " << answers.size() << " images, "
              << all.layers_unpacked << " layers; stages: read=" << Seconds(read_at - begun)
              << " unpack_rest=" << Seconds(Clock::Real().Monotonic() - read_at - all.syncing)
              << " sync=" << Seconds(all.syncing) << "; " << CostOf(receiving, all.cost);
  }
  return answers;
}

absl::StatusOr<v1::LoadedImage> ImageService::Import(const CallContext& context,
                                                     const v1::ImportRequest::Open& request,
                                                     ByteSource& tar, const ProgressFn& progress) {
  Stores& stores = *parts_.stores;
  Token token(context.cancel);
  std::string name;
  if (!request.reference().empty()) {
    GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                            distribution::Reference::Parse(request.reference()));
    name = reference.canonical();
  }
  oci::ImageConfig config;
  config.platform = oci::HostPlatform();
  config.platform.variant.clear();
  if (!request.platform().empty()) {
    GANTRY_ASSIGN_OR_RETURN(config.platform, oci::ParsePlatform(request.platform()));
  }
  for (const std::string& change : request.changes()) {
    GANTRY_RETURN_IF_ERROR(oci::ApplyChange(change, config));
  }
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope lease, LeaseScope::Create(stores.leases, stores.clock, context.ns, context.lease));
  metadata::ContentNamespace content = stores.Content(lease.scope());

  content::IngestOptions ingest_options;
  ingest_options.ref = absl::StrCat("import-", absl::ToUnixNanos(absl::Now()));
  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<content::Ingest> ingest,
                          content.OpenIngest(ingest_options));
  class IngestSink : public ByteSink {
   public:
    explicit IngestSink(content::Ingest& target) : target_(target) {}
    absl::Status Write(absl::string_view bytes) override { return target_.Append(bytes); }

   private:
    content::Ingest& target_;
  };
  IngestSink sink(*ingest);
  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<Decompressor> plain, OpenDecompressor(tar));
  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<Compressor> gzip,
                          OpenCompressor(sink, Compression::kGzip));
  content::Hasher diff_id;
  std::vector<char> piece(kPiece);
  int64_t total = 0;
  while (true) {
    GANTRY_RETURN_IF_ERROR((*token).Check());
    GANTRY_ASSIGN_OR_RETURN(size_t n, plain->Read(piece.data(), piece.size()));
    if (n == 0) break;
    const absl::string_view bytes(piece.data(), n);
    diff_id.Update(bytes);
    GANTRY_RETURN_IF_ERROR(gzip->Write(bytes));
    total += static_cast<int64_t>(n);
    if (progress) {
      v1::Progress step;
      step.set_id("import");
      step.set_state(v1::Progress::READING);
      step.set_current_bytes(total);
      step.set_total_bytes(request.total_bytes());
      progress(step);
    }
  }
  GANTRY_RETURN_IF_ERROR(gzip->Finish());
  oci::Manifest manifest;
  manifest.media_type = oci::kOciManifest;
  content::Descriptor layer;
  layer.media_type = oci::kOciLayerGzip;
  layer.size_bytes = ingest->offset();
  layer.digest = ingest->current_digest();
  content::CommitOptions commit;
  commit.labels["containerd.io/uncompressed"] = diff_id.Current().str();
  absl::StatusOr<content::Digest> committed = ingest->Commit(commit);
  if (!committed.ok() && !absl::IsAlreadyExists(committed.status())) return committed.status();
  manifest.layers.push_back(layer);

  config.created = NowText();
  config.diff_ids.push_back(diff_id.Current());
  oci::History history;
  history.created = config.created;
  history.comment = request.comment().empty() ? "Imported from a tar" : request.comment();
  config.history.push_back(history);
  const std::string config_json = oci::PrintImageConfig(config);
  manifest.config.media_type = oci::kOciConfig;
  manifest.config.digest = content::Digest::Sha256Of(config_json);
  manifest.config.size_bytes = static_cast<int64_t>(config_json.size());
  const std::string manifest_json = oci::PrintManifest(manifest);
  content::Descriptor target;
  target.media_type = oci::kOciManifest;
  target.digest = content::Digest::Sha256Of(manifest_json);
  target.size_bytes = static_cast<int64_t>(manifest_json.size());
  oci::Document document;
  document.manifest = manifest;
  GANTRY_RETURN_IF_ERROR(content::WriteBlob(content,
                                            absl::StrCat("config-", manifest.config.digest.str()),
                                            config_json, manifest.config.digest)
                             .status());
  GANTRY_RETURN_IF_ERROR(content::WriteBlob(content, absl::StrCat("manifest-", target.digest.str()),
                                            manifest_json, target.digest,
                                            oci::ChildLabels(document))
                             .status());
  CallContext leased = context;
  leased.lease = lease.scope().lease;
  // Unpacked before it is named: a tar that is none, or a hostile one, never becomes an image.
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          stores.Snapshots("", lease.scope()));
  distribution::UnpackTarget unpack;
  unpack.store = &content;
  unpack.snapshotter = &snapshots;
  unpack.snapshotter_name = snapshots.name();
  unpack.scope = context.ns;
  GANTRY_RETURN_IF_ERROR(
      parts_.unpacker->UnpackImage(unpack, target, *token, UnpackProgressTo(progress)).status());
  GANTRY_RETURN_IF_ERROR(Name(leased, name.empty() ? DanglingName(target.digest) : name, target));
  v1::LoadedImage answer;
  answer.set_reference(request.reference());
  answer.set_image_id(target.digest.str());
  return answer;
}

absl::Status ImageService::Save(const CallContext& context, const v1::SaveRequest& request,
                                ByteSink& out, const ProgressFn& progress) {
  if (request.images().empty()) return absl::InvalidArgumentError("save: no image given");
  Token token(context.cancel);
  std::map<content::Digest, size_t> where;
  std::vector<distribution::ExportImage> images;
  for (const std::string& text : request.images()) {
    GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records, FindRecords(context, text));
    for (const record::v1::Image& record : records) {
      content::Descriptor target;
      target.media_type = record.target().media_type();
      target.size_bytes = record.target().size();
      GANTRY_ASSIGN_OR_RETURN(target.digest, content::Digest::Parse(record.target().digest()));
      auto [it, fresh] = where.emplace(target.digest, images.size());
      if (fresh) images.push_back({target, {}});
      std::vector<std::string>& names = images[it->second].names;
      const bool nameless = absl::StartsWith(record.name(), "<none>");
      if (!nameless && std::find(names.begin(), names.end(), record.name()) == names.end())
        names.push_back(record.name());
    }
  }
  distribution::ExportOptions options;
  GANTRY_ASSIGN_OR_RETURN(options.platforms,
                          Matcher(request.platforms(), oci::PlatformMatcher::All()));
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope lease,
      LeaseScope::Create(parts_.stores->leases, parts_.stores->clock, context.ns, context.lease));
  metadata::ContentNamespace content = parts_.stores->Content(lease.scope());
  Refetched refetched(*parts_.puller, content, parts_.discard_blobs);
  for (const distribution::ExportImage& image : images) {
    GANTRY_RETURN_IF_ERROR(
        refetched.FetchBelow(image.target, [&](const std::string&) { return Daemons(*token); }));
  }
  return distribution::ExportArchive(content, images, options, out, *token,
                                     ArchiveProgress(progress, v1::Progress::WRITING));
}

absl::StatusOr<v1::VerifyResponse::Result> ImageService::Verify(
    const CallContext& context, const v1::VerifyRequest& request,
    const std::function<void(const v1::VerifyResponse::Finding&)>& found,
    const ProgressFn& progress) {
  Stores& stores = *parts_.stores;
  Token token(context.cancel);
  std::map<std::string, record::v1::Image> wanted;
  if (request.images().empty()) {
    GANTRY_RETURN_IF_ERROR(stores.images.List({context.ns, ""}, metadata::Filter(),
                                              [&](const record::v1::Image& record) {
                                                wanted.emplace(record.name(), record);
                                                return absl::OkStatus();
                                              }));
  }
  for (const std::string& text : request.images()) {
    GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records, FindRecords(context, text));
    wanted.emplace(records.front().name(), records.front());
  }
  metadata::ContentNamespace content = stores.Content({context.ns, ""});
  v1::VerifyResponse::Result result;
  std::set<content::Digest> seen;
  std::vector<char> piece(kPiece);
  for (const auto& [name, record] : wanted) {
    result.set_images(result.images() + 1);
    content::Descriptor target;
    target.media_type = record.target().media_type();
    target.size_bytes = record.target().size();
    GANTRY_ASSIGN_OR_RETURN(target.digest, content::Digest::Parse(record.target().digest()));
    // Children of a manifest that is itself damaged are found once it is repaired.
    std::vector<content::Descriptor> todo = {target};
    while (!todo.empty()) {
      GANTRY_RETURN_IF_ERROR((*token).Check());
      content::Descriptor blob = todo.back();
      todo.pop_back();
      if (!seen.insert(blob.digest).second) continue;
      auto check = [&]() -> std::string {
        absl::StatusOr<std::unique_ptr<content::BlobReader>> reader = content.Open(blob.digest);
        if (!reader.ok())
          return absl::IsNotFound(reader.status()) ? "missing"
                                                   : std::string(reader.status().message());
        if (blob.size_bytes > 0 && (*reader)->size_bytes() != blob.size_bytes) {
          return absl::StrCat("has ", (*reader)->size_bytes(), " bytes, not ", blob.size_bytes);
        }
        content::Hasher hasher(blob.digest.algorithm());
        for (int64_t offset = 0; offset < (*reader)->size_bytes();) {
          absl::StatusOr<size_t> n = (*reader)->ReadAt(offset, piece.data(), piece.size());
          if (!n.ok()) return std::string(n.status().message());
          if (*n == 0) return "shorter than its own length says";
          hasher.Update(absl::string_view(piece.data(), *n));
          offset += static_cast<int64_t>(*n);
          result.set_bytes(result.bytes() + static_cast<int64_t>(*n));
        }
        return hasher.Current() == blob.digest
                   ? ""
                   : absl::StrCat("its bytes hash to ", hasher.Current().str());
      };
      const bool child_of_index = blob.platform.has_value() && oci::IsManifestType(blob.media_type);
      if (!content.Stat(blob.digest).ok() &&
          (child_of_index || (parts_.discard_blobs && oci::IsLayerType(blob.media_type)))) {
        continue;  // another platform's image that was never fetched, or a layer that the policy discards
      }
      result.set_blobs(result.blobs() + 1);
      std::string problem = check();
      if (progress) {
        v1::Progress step;
        step.set_id(blob.digest.str());
        step.set_state(v1::Progress::VERIFYING);
        step.set_current_bytes(blob.size_bytes);
        step.set_total_bytes(blob.size_bytes);
        progress(step);
      }
      if (!problem.empty()) {
        result.set_damaged(result.damaged() + 1);
        v1::VerifyResponse::Finding finding;
        finding.set_image(name);
        finding.set_digest(blob.digest.str());
        finding.set_problem(problem);
        if (request.repair()) {
          absl::Status repaired = [&, image_name = name]() -> absl::Status {
            GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                                    distribution::Reference::Parse(image_name));
            GANTRY_ASSIGN_OR_RETURN(
                LeaseScope lease,
                LeaseScope::Create(stores.leases, stores.clock, context.ns, context.lease));
            metadata::ContentNamespace leased = stores.Content(lease.scope());
            absl::StatusOr<content::Info> before = content.Stat(blob.digest);
            absl::Status dropped = content.Delete(blob.digest);
            if (!dropped.ok() && !absl::IsNotFound(dropped)) return dropped;
            // The damaged bytes themselves: no namespace may take them over again.
            dropped = stores.blobs.files().Delete(blob.digest);
            if (!dropped.ok() && !absl::IsNotFound(dropped)) return dropped;
            RegistryCall call(request.auth(), reference.domain(), parts_.credentials, token.get());
            GANTRY_RETURN_IF_ERROR(parts_.puller->FetchOne(
                reference, blob, leased, distribution::PullOptions(), call.context));
            if (before.ok() && !before->labels.empty()) {
              GANTRY_RETURN_IF_ERROR(leased.Update(blob.digest, before->labels, {}).status());
            }
            return absl::OkStatus();
          }();
          finding.set_repaired(repaired.ok());
          if (repaired.ok()) {
            result.set_repaired(result.repaired() + 1);
            problem.clear();
          } else {
            finding.set_problem(absl::StrCat(problem, "; repair: ", repaired.message()));
          }
        }
        found(finding);
      }
      if (!problem.empty() ||
          (!oci::IsIndexType(blob.media_type) && !oci::IsManifestType(blob.media_type)))
        continue;
      GANTRY_ASSIGN_OR_RETURN(std::string bytes,
                              content::ReadBlob(content, blob.digest, oci::kMaxManifestBytes));
      GANTRY_ASSIGN_OR_RETURN(oci::Document document,
                              oci::ParseDocument(bytes, blob.media_type, name));
      const std::vector<content::Descriptor> children = oci::Children(document);
      todo.insert(todo.end(), children.begin(), children.end());
      if (document.index.has_value() &&
          std::none_of(children.begin(), children.end(), [&](const content::Descriptor& child) {
            return content.Stat(child.digest).ok();
          })) {
        // Platforms may be left out, but not all of them.
        result.set_damaged(result.damaged() + 1);
        v1::VerifyResponse::Finding finding;
        finding.set_image(name);
        finding.set_digest(blob.digest.str());
        finding.set_problem("none of the images of this index is here; pull it again");
        found(finding);
      }
    }
  }
  return result;
}

absl::StatusOr<v1::LoginResponse> ImageService::Login(const CallContext& context,
                                                      const v1::LoginRequest& request) {
  const std::string domain =
      request.auth().server_address().empty() ? "docker.io" : request.auth().server_address();
  RegistryCall call(request.auth(), domain, nullptr, context.cancel);
  if (call.context.credentials == nullptr)
    return absl::InvalidArgumentError("login: neither user name and password nor a token given");
  GANTRY_RETURN_IF_ERROR(parts_.resolver->CheckLogin(domain, call.context).status());
  v1::LoginResponse response;
  response.set_status("Login Succeeded");
  return response;
}

absl::StatusOr<v1::ExplainRegistryResponse> ImageService::ExplainRegistry(
    const CallContext& context, const v1::ExplainRegistryRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                          distribution::Reference::Parse(request.reference()));
  RegistryCall call(request.auth(), reference.domain(), parts_.credentials, context.cancel);
  GANTRY_ASSIGN_OR_RETURN(distribution::Explanation explanation,
                          parts_.resolver->Explain(reference, call.context));
  v1::ExplainRegistryResponse response;
  response.set_reference(reference.canonical());
  for (const std::string& file : explanation.lookup.looked_at) response.add_files_read(file);
  for (const distribution::RegistryHost& host : explanation.lookup.hosts) {
    v1::ExplainRegistryResponse::Host* out = response.add_hosts();
    out->set_url(host.origin() + host.path);
    if (host.can_pull) out->add_capabilities("pull");
    if (host.can_resolve) out->add_capabilities("resolve");
    if (host.can_push) out->add_capabilities("push");
    out->set_source(explanation.lookup.used.empty() ? "default" : explanation.lookup.used);
    out->set_rule(host.rule);
    out->set_skip_verify(host.tls.skip_verify);
    out->set_ca(absl::StrJoin(host.tls.ca_files, ", "));
    if (!host.tls.client_pairs.empty())
      out->set_client_certificate(host.tls.client_pairs.front().first);
    for (const distribution::Attempt& attempt : explanation.attempts) {
      if (attempt.host != host.origin()) continue;
      v1::ExplainRegistryResponse::Attempt* tried = out->add_attempts();
      const size_t space = attempt.request.find(' ');
      tried->set_method(attempt.request.substr(0, space));
      tried->set_url(absl::StrCat(
          attempt.host, space == std::string::npos ? "" : attempt.request.substr(space + 1)));
      tried->set_status(attempt.status);
      if (attempt.status < 200 || attempt.status >= 300) tried->set_error(attempt.answer);
      tried->set_duration_micros(absl::ToInt64Microseconds(attempt.took));
      out->set_credential(attempt.credential);
    }
  }
  if (explanation.result.ok()) {
    response.mutable_resolved()->set_media_type(explanation.result->media_type);
    response.mutable_resolved()->set_digest(explanation.result->digest.str());
    response.mutable_resolved()->set_size_bytes(explanation.result->size_bytes);
  } else {
    response.set_error(std::string(explanation.result.status().message()));
  }
  return response;
}

}  // namespace gantry::core
