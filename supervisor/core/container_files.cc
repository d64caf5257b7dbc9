// Files of a container: looking at a path, copying out and in, exporting all, committing to an
// image.
//
// The tree is hostile and alive. Every path is resolved once, by openat2 beneath the container's
// root, and used through the descriptor it gave. The work is done by a thread whose root is the
// container's: it joins the mount namespace of a running container, and makes one like it, with the
// container's bind mounts, for any other. So a mistake here does not reach the host's tree.
#include "supervisor/core/container_files.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

#include "base/cancel_token.h"
#include "base/compression.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/in_root.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "base/tar/tree_extractor.h"
#include "base/tar/tree_writer.h"
#include "base/tar/writer.h"
#include "base/unique_fd.h"
#include "base/user_namespace.h"
#include "proto/gantry/v1/container_files.pb.h"
#include "snapshotter/layer_diff.h"
#include "snapshotter/private_mounts.h"
#include "supervisor/core/container_ids.h"
#include "supervisor/core/image_assembly.h"
#include "supervisor/core/lease_scope.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/oci/config_change.h"
#include "supervisor/oci/manifest.h"

namespace gantry::core {
namespace {

// A container's root directory and what messages call the container.
struct Root {
  int fd;
  std::string container;

  absl::Status Error(int error, absl::string_view path) const {
    if (error == ENOENT)
      return absl::NotFoundError(
          absl::StrCat("no such file or directory in container ", container, ": ", path));
    return ErrnoToStatus(error, absl::StrCat("container ", container, ": ", path));
  }
};

// A path in the container, split where a final link must not be followed.
struct SplitPath {
  std::string parent;  // "/a"
  std::string name;    // "b", or "" for the root or a directory's content
  bool content = false;
};

absl::StatusOr<SplitPath> Split(absl::string_view path) {
  if (path.empty() || path.size() > 4096 || path.find('\0') != absl::string_view::npos) {
    return absl::InvalidArgumentError(
        "the path in the container is empty, too long or holds a NUL byte");
  }
  SplitPath split;
  std::string text = absl::StrCat("/", path);
  if (absl::EndsWith(text, "/.")) {
    split.content = true;
    split.parent = text;
    return split;
  }
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  const size_t slash = text.rfind('/');
  split.parent = text.substr(0, slash + 1);
  split.name = text.substr(slash + 1);
  if (split.name == "..") {
    split.parent = text;
    split.name.clear();
    split.content = true;
  }
  return split;
}

void FillStat(const struct stat& info, const std::string& name, v1::PathStat& out) {
  out.set_name(name);
  out.set_size_bytes(info.st_size);
  out.set_mode(info.st_mode);
  out.mutable_modified_at()->set_seconds(info.st_mtim.tv_sec);
  out.mutable_modified_at()->set_nanos(static_cast<int32_t>(info.st_mtim.tv_nsec));
}

absl::StatusOr<v1::PathStat> StatIn(const Root& root, const std::string& path) {
  GANTRY_ASSIGN_OR_RETURN(SplitPath split, Split(path));
  UniqueFd parent = OpenInRoot(root.fd, split.parent, O_PATH | O_DIRECTORY);
  if (!parent.valid()) return root.Error(errno, path);
  struct stat info;
  v1::PathStat out;
  if (split.name.empty()) {
    if (fstat(parent.get(), &info) != 0) return root.Error(errno, path);
    FillStat(info, split.content ? "." : "/", out);
    return out;
  }
  if (fstatat(parent.get(), split.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
    return root.Error(errno, path);
  FillStat(info, split.name, out);
  if (S_ISLNK(info.st_mode)) {
    absl::StatusOr<std::string> target = FollowLinksInRoot(root.fd, path);
    if (!target.ok())
      return WithContext(target.status(), absl::StrCat("container ", root.container));
    out.set_link_target(*std::move(target));
  }
  return out;
}

// Carries out the bind mounts of a container that does not run in a view of its root file system,
// as the runtime would: sources are host paths, targets are resolved with `root` as the root.
// Missing targets are made. Only descriptors are used once a path has been resolved.
absl::Status MountBinds(int root, const std::string& spec_json) {
  const nlohmann::json spec = nlohmann::json::parse(spec_json, nullptr, /*allow_exceptions=*/false);
  if (!spec.is_object() || !spec.contains("mounts") || !spec["mounts"].is_array())
    return absl::OkStatus();
  for (const nlohmann::json& mount : spec["mounts"]) {
    if (!mount.is_object()) continue;
    const auto text = [&](const char* key) {
      const auto found = mount.find(key);
      return found != mount.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    std::vector<std::string> options;
    if (const auto found = mount.find("options"); found != mount.end() && found->is_array()) {
      for (const nlohmann::json& option : *found) {
        if (option.is_string()) options.push_back(option.get<std::string>());
      }
    }
    const auto has = [&](absl::string_view option) {
      return std::find(options.begin(), options.end(), option) != options.end();
    };
    const bool recursive = has("rbind");
    if (!recursive && !has("bind") && text("type") != "bind") continue;
    const std::string source = text("source");
    const std::string destination = text("destination");
    const auto failed = [&] {
      return ErrnoToStatus(errno, absl::StrCat("mount ", source, " at ", destination));
    };
    const unsigned int depth = recursive ? AT_RECURSIVE : 0;
    const UniqueFd tree(
        open_tree(AT_FDCWD, source.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | depth));
    struct stat info;
    if (!tree.valid() || fstat(tree.get(), &info) != 0) return failed();
    if (has("ro") || has("rro")) {
      struct mount_attr attributes = {};
      attributes.attr_set = MOUNT_ATTR_RDONLY;
      if (mount_setattr(tree.get(), "", AT_EMPTY_PATH | (has("rro") ? AT_RECURSIVE : 0),
                        &attributes, sizeof attributes) != 0)
        return failed();
    }
    GANTRY_ASSIGN_OR_RETURN(const UniqueFd target,
                            OpenOrMakeInRoot(root, destination, S_ISDIR(info.st_mode)));
    if (move_mount(tree.get(), "", target.get(), "",
                   MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0)
      return failed();
  }
  return absl::OkStatus();
}

// By which the calling thread, which works in the root of the container, sees owners: with a user
// namespace those of the host while it runs, for there it has been made its root; else the
// container's own, as they are on disk.
IdMaps IdsSeen(const LoadedContainer& loaded) {
  IdMaps ids = IdsOf(loaded.config);
  return ActsAsRootOf(ids) ? ids : IdMaps();
}

}  // namespace

absl::Status ContainerFiles::WithRootfs(const CallContext& context, const LoadedContainer& loaded,
                                        bool writable, View view,
                                        const std::function<absl::Status(int root_fd)>& use) {
  absl::StatusOr<Process> task = parts_.tasks->view().Get(context.ns, loaded.id(), "");
  if (task.ok() &&
      (task->status == ProcessStatus::kRunning || task->status == ProcessStatus::kPaused)) {
    const std::string proc = absl::StrCat("/proc/", task->pid);
    UniqueFd mounts(open((proc + "/ns/mnt").c_str(), O_RDONLY | O_CLOEXEC));
    if (!mounts.valid())
      return ErrnoToStatus(errno, absl::StrCat("container ", loaded.id(), ": its mount namespace"));
    // The pid may have been another's by the time it was opened: it is ours if the container still
    // runs with it now.
    absl::StatusOr<Process> again = parts_.tasks->view().Get(context.ns, loaded.id(), "");
    if (!again.ok() || again->pid != task->pid || again->status == ProcessStatus::kStopped) {
      return absl::AbortedError(
          absl::StrCat("container ", loaded.id(), " ended meanwhile; try again"));
    }
    absl::Status result;
    absl::StatusOr<std::thread> worker = NewThread([&] {
      if (unshare(CLONE_FS) != 0 || setns(mounts.get(), CLONE_NEWNS) != 0) {
        result = ErrnoToStatus(
            errno, absl::StrCat("container ", loaded.id(), ": entering its mount namespace"));
        return;
      }
      umask(0);
      UniqueFd root(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (!root.valid()) {
        result = ErrnoToStatus(errno, absl::StrCat("container ", loaded.id(), ": its root"));
        return;
      }
      result = ActAsRootOf(IdsOf(loaded.config));
      if (result.ok()) result = use(root.get());
    });
    if (!worker.ok())
      return WithContext(worker.status(),
                         absl::StrCat("container ", loaded.id(), ": entering its mount namespace"));
    worker->join();
    return result;
  }
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots(loaded.record.snapshotter(), loaded.scope));
  GANTRY_ASSIGN_OR_RETURN(std::vector<snapshot::Mount> layers,
                          snapshots.Mounts(loaded.record.snapshot_key()));
  const std::vector<snapshot::Mount> mounts =
      loaded.ours ? parts_.mount_points->Below(std::move(layers)) : std::move(layers);
  std::string random(8, '\0');
  if (getrandom(random.data(), random.size(), 0) != 8)
    return absl::UnavailableError("the kernel gives no random numbers");
  const std::string at =
      absl::StrCat(parts_.state_directory, "/mounts/", absl::BytesToHexString(random));
  GANTRY_RETURN_IF_ERROR(MakeDirectories(at, 0700));
  absl::Cleanup remove = [&at] {
    if (rmdir(at.c_str()) != 0) PLOG(WARNING) << "cannot remove " << at;
  };
  const bool read_only = loaded.ours && loaded.config.read_only_rootfs();
  // In a mount namespace of its own: what is mounted there ends with it, and the rest of the host's
  // tree is out of reach once the view is the root.
  return snapshot::RunWithPrivateMounts([&]() -> absl::Status {
    // As its run has mounted it, or the kernel refuses the tree.
    GANTRY_RETURN_IF_ERROR(loaded.ours && loaded.config.auto_remove()
                               ? snapshot::MountAllUnsynced(mounts, at)
                               : snapshot::MountAll(mounts, at));
    const UniqueFd root(open(at.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root.valid()) return ErrnoToStatus(errno, at);
    if (view == View::kWithMounts)
      GANTRY_RETURN_IF_ERROR(MountBinds(root.get(), loaded.record.spec().value()));
    if (read_only) {
      struct mount_attr attributes = {};
      attributes.attr_set = MOUNT_ATTR_RDONLY;
      if (mount_setattr(root.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0)
        return ErrnoToStatus(errno, absl::StrCat("make ", at, " read-only"));
    }
    if (fchdir(root.get()) != 0 || chroot(".") != 0)
      return ErrnoToStatus(errno, absl::StrCat("enter ", at));
    umask(0);
    GANTRY_RETURN_IF_ERROR(use(root.get()));
    // What was written is on disk before it is acknowledged.
    if (writable && !read_only && syncfs(root.get()) != 0)
      return ErrnoToStatus(errno, absl::StrCat("container ", loaded.id(), ": sync its files"));
    return absl::OkStatus();
  });
}

absl::StatusOr<v1::PathStat> ContainerFiles::StatPath(const CallContext& context,
                                                      const v1::StatPathRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->Load(context, request.container()));
  v1::PathStat out;
  GANTRY_RETURN_IF_ERROR(
      WithRootfs(context, loaded, false, View::kWithMounts, [&](int root_fd) -> absl::Status {
        GANTRY_ASSIGN_OR_RETURN(out, StatIn({root_fd, loaded.ShownName()}, request.path()));
        return absl::OkStatus();
      }));
  return out;
}

absl::Status ContainerFiles::CopyFrom(const CallContext& context,
                                      const v1::CopyFromRequest& request,
                                      const std::function<absl::Status(const v1::PathStat&)>& begin,
                                      ByteSink& out) {
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->Load(context, request.container()));
  const auto copy = [&](int root_fd) -> absl::Status {
    const Root root{root_fd, loaded.ShownName()};
    GANTRY_ASSIGN_OR_RETURN(v1::PathStat stat, StatIn(root, request.path()));
    GANTRY_ASSIGN_OR_RETURN(SplitPath split, Split(request.path()));
    GANTRY_RETURN_IF_ERROR(begin(stat));
    TarWriter tar(out, TarWriter::Seconds::kExact);
    TreeWriter tree(tar, {.cancel = context.cancel, .ids = IdsSeen(loaded)});
    if (split.name.empty()) {
      UniqueFd directory = OpenInRoot(root.fd, split.parent, O_RDONLY | O_DIRECTORY);
      if (!directory.valid()) return root.Error(errno, request.path());
      GANTRY_RETURN_IF_ERROR(tree.Add(directory.get(), ".", "."));
    } else {
      UniqueFd parent = OpenInRoot(root.fd, split.parent, O_RDONLY | O_DIRECTORY);
      if (!parent.valid()) return root.Error(errno, request.path());
      GANTRY_RETURN_IF_ERROR(tree.Add(parent.get(), split.name, split.name));
    }
    return tar.Finish();
  };
  GANTRY_RETURN_IF_ERROR(WithRootfs(context, loaded, false, View::kWithMounts, copy));
  parts_.records->Publish(loaded, "archive-path");
  return absl::OkStatus();
}

absl::Status ContainerFiles::CopyTo(const CallContext& context, const v1::CopyToRequest::Open& open,
                                    ByteSource& tar) {
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded, parts_.records->Load(context, open.container()));
  const auto extract = [&](int root_fd) -> absl::Status {
    const Root root{root_fd, loaded.ShownName()};
    UniqueFd base = OpenInRoot(root.fd, open.path(), O_RDONLY | O_DIRECTORY);
    if (!base.valid()) {
      if (errno == ENOTDIR)
        return absl::InvalidArgumentError(
            absl::StrCat(open.path(), " is not a directory in container ", loaded.ShownName()));
      return root.Error(errno, open.path());
    }
    GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Decompressor> plain, OpenDecompressor(tar));
    ExtractOptions options;
    options.owner =
        open.copy_uid_gid() ? ExtractOptions::Owner::kArchive : ExtractOptions::Owner::kRoot;
    options.follow_links = true;
    options.no_overwrite_dir_non_dir = open.no_overwrite_dir_non_dir();
    options.cancel = context.cancel;
    options.ids = IdsSeen(loaded);
    return ExtractTree(*plain, base.get(), options).status();
  };
  GANTRY_RETURN_IF_ERROR(WithRootfs(context, loaded, true, View::kWithMounts, extract));
  parts_.records->Publish(loaded, "extract-to-dir");
  return absl::OkStatus();
}

absl::Status ContainerFiles::Export(const CallContext& context, const std::string& container,
                                    ByteSink& out) {
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded, parts_.records->Load(context, container));
  const auto write = [&](int root) -> absl::Status {
    TarWriter tar(out);
    TreeWriter tree(tar,
                    {.cancel = context.cancel, .one_file_system = true, .ids = IdsSeen(loaded)});
    // A copy of the root's mount alone shows what lies below the mounts of a running container:
    // volumes may be of the same file system, and files are mounted too. The kernel refuses it
    // where a mount was locked by a more privileged user namespace.
    const UniqueFd bare(open_tree(root, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
    const int top = bare.valid() ? bare.get() : root;
    GANTRY_RETURN_IF_ERROR(
        tree.AddChildren(UniqueFd(openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)), ""));
    return tar.Finish();
  };
  GANTRY_RETURN_IF_ERROR(WithRootfs(context, loaded, false, View::kRootOnly, write));
  parts_.records->Publish(loaded, "export");
  return absl::OkStatus();
}

absl::StatusOr<v1::CommitResponse> ContainerFiles::Commit(const CallContext& context,
                                                          const v1::CommitRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->Load(context, request.container()));
  if (!loaded.ours)
    return absl::FailedPreconditionError(
        absl::StrCat("container ", request.container(), " was made by another client"));
  std::string name;
  if (!request.reference().empty()) {
    GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                            distribution::Reference::Parse(request.reference()));
    name = reference.canonical();
  }
  Stores& stores = *parts_.stores;
  GANTRY_ASSIGN_OR_RETURN(
      ResolvedImage base,
      parts_.images->Resolve(context,
                             loaded.image_id.empty() ? loaded.config.image() : loaded.image_id));
  oci::ImageConfig config = base.config;
  config.author = request.author();
  config.user = loaded.config.user();
  config.env.assign(loaded.config.env().begin(), loaded.config.env().end());
  config.entrypoint.assign(loaded.config.entrypoint().values().begin(),
                           loaded.config.entrypoint().values().end());
  config.cmd.assign(loaded.config.command().begin(), loaded.config.command().end());
  config.working_dir = loaded.config.working_dir();
  config.labels.clear();
  config.labels.insert(loaded.config.labels().begin(), loaded.config.labels().end());
  for (const std::string& change : request.changes()) {
    GANTRY_RETURN_IF_ERROR(oci::ApplyChange(change, config));
  }
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope lease, LeaseScope::Create(stores.leases, stores.clock, context.ns, context.lease));
  metadata::ContentNamespace content = stores.Content(lease.scope());
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          stores.Snapshots(loaded.record.snapshotter(), lease.scope()));
  GANTRY_ASSIGN_OR_RETURN(snapshot::Info info, snapshots.Stat(loaded.record.snapshot_key()));
  GANTRY_ASSIGN_OR_RETURN(std::vector<snapshot::Mount> newer,
                          snapshots.Mounts(loaded.record.snapshot_key()));

  absl::StatusOr<Process> task = parts_.tasks->view().Get(context.ns, loaded.id(), "");
  bool pause = request.pause() && task.ok() && task->status == ProcessStatus::kRunning;
  if (pause) {
    const absl::Status paused = parts_.tasks->Pause(context, loaded.id());
    // One that has ended meanwhile changes nothing any more. The shim says so in this way.
    if (!paused.ok() && !absl::IsFailedPrecondition(paused) && !absl::IsNotFound(paused))
      return paused;
    pause = paused.ok();
  }
  absl::Cleanup resume = [&] {
    if (!pause) return;
    absl::Status resumed = parts_.tasks->Resume(context, loaded.id());
    if (!resumed.ok())
      LOG(ERROR) << "ns=" << context.ns << " id=" << loaded.id()
                 << " resuming after a commit: " << resumed;
  };

  std::vector<snapshot::Mount> older;
  const std::string view = absl::StrCat(loaded.id(), "-commit-", absl::ToUnixNanos(absl::Now()));
  if (!info.parent.empty()) {
    GANTRY_ASSIGN_OR_RETURN(older, snapshots.View(view, info.parent, {}));
  }
  absl::Cleanup drop_view = [&] {
    if (info.parent.empty()) return;
    absl::Status removed = snapshots.Remove(view);
    if (!removed.ok()) LOG(ERROR) << "ns=" << context.ns << " " << removed;
  };
  snapshot::DiffOptions diff_options;
  diff_options.cancel = context.cancel;
  ImageAssembly assembly;
  GANTRY_ASSIGN_OR_RETURN(
      const ImageLayer layer,
      assembly.LayerFrom(content, absl::StrCat("commit-", view), [&](ByteSink& out) {
        return snapshot::WriteDiff(older, newer, out, diff_options).status();
      }));
  oci::History history;
  history.author = request.author();
  history.comment = request.comment();
  history.created_by = absl::StrJoin(loaded.config.command(), " ");
  oci::Manifest manifest = base.manifest_document;
  ImageAssembly::Stack(layer, std::move(history), stores.clock.Now(), config, manifest);
  GANTRY_ASSIGN_OR_RETURN(const content::Descriptor target,
                          assembly.WriteImage(content, config, std::move(manifest)));
  GANTRY_RETURN_IF_ERROR(parts_.images->Name(
      context, name.empty() ? ImageCatalog::DanglingName(target.digest) : name, target));
  v1::CommitResponse response;
  response.set_image_id(target.digest.str());
  parts_.records->Publish(loaded, "commit",
                          {{"comment", request.comment()},
                           {"imageID", response.image_id()},
                           {"imageRef", request.reference()}});
  if (!name.empty())
    parts_.images->Announce(context, "tag", target, response.image_id(), request.reference());
  return response;
}

}  // namespace gantry::core
