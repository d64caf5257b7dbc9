#include "supervisor/core/image_build.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "glog/logging.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/in_root.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/record/v1/record.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "snapshotter/layer_diff.h"
#include "snapshotter/mount.h"
#include "snapshotter/private_mounts.h"
#include "supervisor/core/brief_containers.h"
#include "supervisor/core/build_exchange.h"
#include "supervisor/core/call_token.h"
#include "supervisor/core/container_lifecycle.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/container_streams.h"
#include "supervisor/core/container_wait.h"

namespace gantry::core {
namespace {

std::string RandomName(absl::string_view what) {
  std::string random(8, '\0');
  while (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
  }
  return absl::StrCat("build-", what, "-", absl::BytesToHexString(random));
}

// A directory below <state>/mounts/ for the length of a call. What is mounted there is the caller's
// to unmount before.
class MountPoint {
 public:
  static absl::StatusOr<MountPoint> Make(const std::string& state_directory) {
    const std::string at = absl::StrCat(state_directory, "/mounts/", RandomName("root"));
    GANTRY_RETURN_IF_ERROR(MakeDirectories(at, 0700));
    return MountPoint(at);
  }
  ~MountPoint() {
    if (!path_.empty() && rmdir(path_.c_str()) != 0) PLOG(WARNING) << "cannot remove " << path_;
  }
  MountPoint(MountPoint&& other) noexcept : path_(std::exchange(other.path_, "")) {}
  MountPoint& operator=(MountPoint&&) = delete;
  const std::string& path() const { return path_; }

 private:
  explicit MountPoint(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// A snapshot of this build that is not a layer: a view, or an active one that was not committed.
class ScopedSnapshot {
 public:
  ScopedSnapshot(metadata::SnapshotNamespace snapshots, std::string key)
      : snapshots_(std::move(snapshots)), key_(std::move(key)) {}
  ~ScopedSnapshot() {
    const absl::Status removed = snapshots_.Remove(key_);
    if (!removed.ok() && !absl::IsNotFound(removed))
      LOG(ERROR) << "snapshot " << key_ << " of a build: " << removed;
  }
  ScopedSnapshot(const ScopedSnapshot&) = delete;
  ScopedSnapshot& operator=(const ScopedSnapshot&) = delete;
  metadata::SnapshotNamespace& snapshots() { return snapshots_; }
  const std::string& key() const { return key_; }

 private:
  metadata::SnapshotNamespace snapshots_;
  const std::string key_;
};

// The output of a step's container: one message at a time, taken by the thread that runs the step.
class StepOutput final : public runtime::AttachStream::Handler {
 public:
  void OnOutput(shim::v1::AttachOutput output) override {
    absl::MutexLock lock(&mu_);
    waiting_.push_back(std::move(output));
  }
  void OnWritable() override {}
  void OnDone(const absl::Status& status) override {
    absl::MutexLock lock(&mu_);
    done_ = status;
  }
  void Cancel() {
    absl::MutexLock lock(&mu_);
    cancelled_ = true;
  }

  // The next message; nullopt at the end, with how it ended in `end`.
  absl::optional<shim::v1::AttachOutput> Next(absl::Status& end) {
    absl::MutexLock lock(&mu_);
    const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return !waiting_.empty() || done_.has_value() || cancelled_;
    };
    mu_.Await(absl::Condition(&something));
    if (cancelled_) {
      end = absl::CancelledError("the build was cancelled");
      return absl::nullopt;
    }
    if (!waiting_.empty()) {
      shim::v1::AttachOutput first = std::move(waiting_.front());
      waiting_.pop_front();
      return first;
    }
    end = *done_;
    return absl::nullopt;
  }
  void WaitDone() {
    absl::MutexLock lock(&mu_);
    const auto done = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return done_.has_value(); };
    mu_.Await(absl::Condition(&done));
  }

 private:
  absl::Mutex mu_;
  std::deque<shim::v1::AttachOutput> waiting_ ABSL_GUARDED_BY(mu_);
  absl::optional<absl::Status> done_ ABSL_GUARDED_BY(mu_);
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace

std::string BuildRoot::chain_id() const {
  if (diff_ids.empty()) return "";
  return oci::ChainIds(diff_ids).back().str();
}

absl::StatusOr<std::unique_ptr<ImageBuild::Session>> ImageBuild::Begin(const CallContext& context) {
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope lease,
      LeaseScope::Create(parts_.stores->leases, parts_.stores->clock, context.ns, context.lease));
  return std::make_unique<Session>(parts_, context, std::move(lease));
}

absl::Status ImageBuild::Recover() {
  std::vector<std::string> namespaces;
  GANTRY_RETURN_IF_ERROR(parts_.stores->namespaces.List([&](const record::v1::Namespace& one) {
    namespaces.push_back(one.name());
    return absl::OkStatus();
  }));
  for (const std::string& ns : namespaces) {
    CallContext context;
    context.ns = ns;
    GANTRY_ASSIGN_OR_RETURN(const std::vector<LoadedContainer> all, AllBriefly(*parts_.stores, ns));
    for (const LoadedContainer& one : all) {
      if (one.record.labels().count(kBuildStepLabel) == 0) continue;
      v1::RemoveContainerRequest remove;
      remove.set_container(one.id());
      remove.set_force(true);
      remove.set_volumes(true);
      // Goes on by itself where it does not end now.
      const absl::Status removed = parts_.containers->Remove(context, remove).status();
      LOG_IF(WARNING, !removed.ok()) << "ns=" << ns << " id=" << one.id()
                                     << " container of a build that was cut off: " << removed;
    }
  }
  return absl::OkStatus();
}

ImageBuild::Session::Session(const Parts& parts, const CallContext& context, LeaseScope lease)
    : parts_(parts),
      context_(context),
      lease_(std::move(lease)),
      leased_(context),
      content_(parts.stores->Content(lease_.scope())),
      exchange_(std::make_unique<BuildExchange>(*this)) {
  leased_.lease = lease_.scope().lease;
}

ImageBuild::Session::~Session() = default;

absl::StatusOr<BuildBase> ImageBuild::Session::Base(const std::string& reference,
                                                    const std::string& platform, Pull pull,
                                                    const v1::RegistryAuth& auth,
                                                    const ProgressFn& progress) {
  absl::StatusOr<ResolvedImage> image = absl::NotFoundError("");
  if (pull == Pull::kMissing) image = parts_.catalog->Resolve(leased_, reference, platform);
  if (absl::IsNotFound(image.status()) || absl::IsFailedPrecondition(image.status())) {
    v1::PullRequest request;
    request.set_reference(reference);
    request.set_platform(platform);
    *request.mutable_auth() = auth;
    GANTRY_RETURN_IF_ERROR(parts_.pull->Pull(leased_, request, progress).status());
    image = parts_.catalog->Resolve(leased_, reference, platform);
  }
  if (!image.ok()) return image.status();
  GANTRY_RETURN_IF_ERROR(
      parts_.unpack->EnsureUnpacked(leased_, *image, parts_.stores->default_snapshotter, progress)
          .status());
  BuildBase base;
  base.root.manifest = image->manifest_document;
  base.root.manifest.annotations.clear();
  base.root.manifest.subject.reset();
  base.root.manifest.artifact_type.clear();
  base.root.diff_ids = image->config.diff_ids;
  base.config = std::move(image->config);
  base.id = image->target.digest;
  return base;
}

absl::Status ImageBuild::Session::Look(absl::Span<const BuildRoot* const> sources,
                                       const std::function<absl::Status(const Trees&)>& look) {
  std::vector<std::unique_ptr<ScopedSnapshot>> views;
  std::vector<std::vector<snapshot::Mount>> mounts;
  std::vector<MountPoint> points;
  for (const BuildRoot* source : sources) {
    GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                            parts_.stores->Snapshots("", lease_.scope()));
    auto& view =
        views.emplace_back(std::make_unique<ScopedSnapshot>(snapshots, RandomName("view")));
    GANTRY_ASSIGN_OR_RETURN(mounts.emplace_back(),
                            snapshots.View(view->key(), source->chain_id(), {}));
    GANTRY_ASSIGN_OR_RETURN(MountPoint point, MountPoint::Make(parts_.state_directory));
    points.push_back(std::move(point));
  }
  return snapshot::RunWithPrivateMounts([&]() -> absl::Status {
    Trees trees;
    std::vector<UniqueFd> roots;
    for (size_t i = 0; i < mounts.size(); ++i) {
      GANTRY_RETURN_IF_ERROR(snapshot::MountAll(mounts[i], points[i].path()));
      UniqueFd root(open(points[i].path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (!root.valid()) return ErrnoToStatus(errno, points[i].path());
      trees.sources.push_back(root.get());
      roots.push_back(std::move(root));
    }
    umask(0);
    return look(trees);
  });
}

absl::StatusOr<BuildRoot> ImageBuild::Session::Change(
    const BuildRoot& root, const std::string& what, absl::Span<const BuildRoot* const> sources,
    const std::function<absl::Status(const Trees&)>& change) {
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots("", lease_.scope()));
  ScopedSnapshot active(snapshots, RandomName(what));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<snapshot::Mount> mounts,
                          snapshots.Prepare(active.key(), root.chain_id(), {}));
  GANTRY_ASSIGN_OR_RETURN(const MountPoint point, MountPoint::Make(parts_.state_directory));
  GANTRY_RETURN_IF_ERROR(Look(sources, [&](const Trees& given) -> absl::Status {
    // In the private mounts of this thread. Once it has the target as its root, a mistake does not
    // reach the host's tree; the sources are reached through their descriptors.
    Trees trees = given;
    GANTRY_RETURN_IF_ERROR(snapshot::MountAll(mounts, point.path()));
    const UniqueFd target(open(point.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!target.valid()) return ErrnoToStatus(errno, point.path());
    if (fchdir(target.get()) != 0 || chroot(".") != 0)
      return ErrnoToStatus(errno, absl::StrCat("enter ", point.path()));
    trees.target = target.get();
    return change(trees);
  }));
  return Commit(root, active.key(), what);
}

absl::StatusOr<BuildRoot> ImageBuild::Session::Commit(const BuildRoot& root, const std::string& key,
                                                      const std::string& what) {
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots("", lease_.scope()));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<snapshot::Mount> newer, snapshots.Mounts(key));
  std::vector<snapshot::Mount> older;
  std::unique_ptr<ScopedSnapshot> view;
  if (!root.diff_ids.empty()) {
    view = std::make_unique<ScopedSnapshot>(snapshots, RandomName("below"));
    GANTRY_ASSIGN_OR_RETURN(older, snapshots.View(view->key(), root.chain_id(), {}));
  }
  snapshot::DiffOptions options;
  options.cancel = context_.cancel;
  GANTRY_ASSIGN_OR_RETURN(const ImageLayer layer,
                          parts_.assembly->LayerFrom(content_, what, [&](ByteSink& out) {
                            return snapshot::WriteDiff(older, newer, out, options).status();
                          }));
  BuildRoot made = root;
  made.diff_ids.push_back(layer.diff_id);
  content::Descriptor blob = layer.blob;
  if (made.manifest.media_type == oci::kDockerManifest) blob.media_type = oci::kDockerLayerGzip;
  made.manifest.layers.push_back(std::move(blob));
  snapshot::CommitOptions commit;
  commit.layer = layer.blob.digest.str();
  const absl::Status committed = snapshots.Commit(made.chain_id(), key, commit);
  if (absl::IsAlreadyExists(committed)) {
    // Another build made the same; it stays for the length of this one, too.
    GANTRY_RETURN_IF_ERROR(Hold(absl::StrCat("snapshots/", snapshots.name()), made.chain_id()));
    GANTRY_RETURN_IF_ERROR(snapshots.Stat(made.chain_id()).status());
    return made;
  }
  GANTRY_RETURN_IF_ERROR(committed);
  return made;
}

absl::StatusOr<std::vector<std::string>> ImageBuild::Session::MissingTargets(
    const BuildRoot& root, const v1::ContainerConfig& config) {
  std::vector<std::string> stubs;
  if (config.mounts().empty()) return stubs;
  GANTRY_RETURN_IF_ERROR(Look({&root}, [&](const Trees& trees) -> absl::Status {
    for (const v1::Mount& mount : config.mounts()) {
      GANTRY_ASSIGN_OR_RETURN(std::string path,
                              FollowLinksInRoot(trees.sources[0], mount.target()));
      // The runtime mounts these itself, so what is made there is not in the layer.
      if (absl::StartsWith(path, "/dev/") || absl::StartsWith(path, "/proc/") ||
          absl::StartsWith(path, "/sys/"))
        continue;
      while (path.size() > 1 && !OpenInRoot(trees.sources[0], path, O_PATH | O_NOFOLLOW).valid()) {
        stubs.push_back(path);
        path.resize(std::max<size_t>(path.rfind('/'), 1));
      }
    }
    return absl::OkStatus();
  }));
  std::sort(stubs.begin(), stubs.end(), std::greater<>());
  stubs.erase(std::unique(stubs.begin(), stubs.end()), stubs.end());
  return stubs;
}

absl::Status ImageBuild::Session::RemoveStubs(const std::string& key,
                                              const std::vector<std::string>& stubs) {
  if (stubs.empty()) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots("", lease_.scope()));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<snapshot::Mount> mounts, snapshots.Mounts(key));
  return snapshot::RunConfinedTo(mounts, [&]() -> absl::Status {
    const UniqueFd root(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root.valid()) return ErrnoToStatus(errno, "the files of a step");
    for (const std::string& stub : stubs) {
      const size_t slash = stub.rfind('/');
      const UniqueFd parent =
          OpenInRoot(root.get(), stub.substr(0, slash + 1), O_PATH | O_DIRECTORY);
      const std::string name = stub.substr(slash + 1);
      struct stat info;
      if (!parent.valid() || fstatat(parent.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
        continue;
      // What the command wrote there itself stays.
      if (S_ISDIR(info.st_mode)) {
        if (unlinkat(parent.get(), name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOTEMPTY)
          return ErrnoToStatus(errno, stub);
      } else if (S_ISREG(info.st_mode) && info.st_size == 0) {
        if (unlinkat(parent.get(), name.c_str(), 0) != 0) return ErrnoToStatus(errno, stub);
      }
    }
    return absl::OkStatus();
  });
}

absl::Status ImageBuild::Session::Hold(const std::string& type, const std::string& id) {
  return parts_.stores->leases.AddResource({leased_.ns, ""}, leased_.lease, {type, id},
                                           metadata::Durability::kBuffered);
}

absl::StatusOr<ImageBuild::Session::Ran> ImageBuild::Session::Run(
    const BuildRoot& root, const v1::ContainerConfig& config,
    const std::function<absl::Status(const std::string& id)>& created, const OutputFn& output) {
  ResolvedImage image;
  image.manifest_document = root.manifest;
  image.config.platform = oci::HostPlatform();
  image.config.diff_ids = root.diff_ids;
  image.chain_ids = oci::ChainIds(root.diff_ids);
  image.target.media_type = root.manifest.media_type;
  image.target.digest = content::Digest::Sha256Of(root.chain_id());
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> stubs, MissingTargets(root, config));
  v1::CreateContainerRequest request;
  *request.mutable_config() = config;
  v1::ContainerConfig& step = *request.mutable_config();
  step.set_image(image.target.digest.str());  // it has no name
  step.set_attach_stdout(true);
  step.set_attach_stderr(true);
  step.mutable_log()->set_driver("none");
  step.mutable_health_check()->add_test("NONE");
  (*step.mutable_labels())[kBuildStepLabel] = "1";
  GANTRY_ASSIGN_OR_RETURN(const v1::CreateContainerResponse made,
                          parts_.containers->CreateFrom(leased_, request, image));
  CallContext without_end = leased_;  // what is made is undone also after a cancellation
  without_end.cancel = nullptr;
  absl::Cleanup remove = [&] {
    v1::RemoveContainerRequest removal;
    removal.set_container(made.id());
    removal.set_force(true);
    removal.set_volumes(true);
    const absl::Status removed = parts_.containers->Remove(without_end, removal).status();
    LOG_IF(WARNING, !removed.ok() && !absl::IsNotFound(removed))
        << "ns=" << context_.ns << " id=" << made.id() << " container of a build: " << removed;
  };
  GANTRY_RETURN_IF_ERROR(created(made.id()));

  StepOutput handler;
  CancelToken::Registration cancelled;
  if (context_.cancel != nullptr)
    cancelled = context_.cancel->OnCancel([&handler] { handler.Cancel(); });
  v1::AttachInput::Open open;
  open.set_container(made.id());
  open.set_stdout(true);
  open.set_stderr(true);
  GANTRY_ASSIGN_OR_RETURN(ContainerStreams::ConnectedStart started,
                          parts_.streams->StartConnected(leased_, open, &handler, [] {}));
  absl::Cleanup end_stream = [&] {
    started.stream->Cancel();
    handler.WaitDone();
  };
  Ran ran;
  bool exited = false;
  absl::Status end;
  while (!exited) {
    absl::optional<shim::v1::AttachOutput> message = handler.Next(end);
    if (!message.has_value()) {
      if (end.ok()) end = absl::UnavailableError("the step's container ended without a status");
      return end;
    }
    if (message->has_exited()) {
      ran.exit_code = static_cast<int>(message->exited().exit_status());
      exited = true;
      break;
    }
    if (!message->stdout().empty()) GANTRY_RETURN_IF_ERROR(output(1, message->stdout()));
    if (!message->stderr().empty()) GANTRY_RETURN_IF_ERROR(output(2, message->stderr()));
    started.stream->Read();
  }
  // The shim waits for its clients.
  std::move(end_stream).Invoke();
  // The mounts of the container are gone with this, so its files are complete.
  GANTRY_RETURN_IF_ERROR(parts_.waits->SettleExit(without_end, made.id()).status());
  if (ran.exit_code != 0) return ran;
  GANTRY_RETURN_IF_ERROR(RemoveStubs(made.id(), stubs));
  GANTRY_ASSIGN_OR_RETURN(ran.root, Commit(root, made.id(), "run"));
  return ran;
}

namespace {

class MountedView final : public ImageBuild::Session::View {
 public:
  MountedView(std::unique_ptr<ScopedSnapshot> snapshot, MountPoint point,
              snapshot::ScopedMount mounted)
      : snapshot_(std::move(snapshot)), point_(std::move(point)), mounted_(std::move(mounted)) {}
  const std::string& path() const override { return point_.path(); }

 private:
  // In the order in which they are made.
  std::unique_ptr<ScopedSnapshot> snapshot_;
  MountPoint point_;
  snapshot::ScopedMount mounted_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ImageBuild::Session::View>> ImageBuild::Session::Mount(
    const BuildRoot& root) {
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots("", lease_.scope()));
  auto view = std::make_unique<ScopedSnapshot>(snapshots, RandomName("mount"));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<snapshot::Mount> mounts,
                          snapshots.View(view->key(), root.chain_id(), {}));
  GANTRY_ASSIGN_OR_RETURN(MountPoint point, MountPoint::Make(parts_.state_directory));
  GANTRY_ASSIGN_OR_RETURN(snapshot::ScopedMount mounted,
                          snapshot::ScopedMount::Create(mounts, point.path()));
  return std::make_unique<MountedView>(std::move(view), std::move(point), std::move(mounted));
}

absl::StatusOr<BuildRoot> ImageBuild::Session::Reuse(const BuildRoot& root,
                                                     const content::Descriptor& layer,
                                                     const content::Digest& diff_id) {
  BuildRoot made = root;
  made.diff_ids.push_back(diff_id);
  content::Descriptor blob = layer;
  if (made.manifest.media_type == oci::kDockerManifest) blob.media_type = oci::kDockerLayerGzip;
  made.manifest.layers.push_back(blob);
  // Into the lease first: what is there after that stays.
  GANTRY_RETURN_IF_ERROR(Hold("content", blob.digest.str()));
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots("", lease_.scope()));
  GANTRY_RETURN_IF_ERROR(Hold(absl::StrCat("snapshots/", snapshots.name()), made.chain_id()));
  GANTRY_RETURN_IF_ERROR(content_.Stat(blob.digest).status());
  GANTRY_RETURN_IF_ERROR(snapshots.Stat(made.chain_id()).status());
  return made;
}

}  // namespace gantry::core
