#include "snapshotter/overlay_snapshotter.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/project_quota.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "snapshotter/tree_usage.h"

namespace gantry::snapshot {
namespace {

constexpr char kUidMapping[] = "containerd.io/snapshot/uidmapping";
constexpr char kMaxSize[] = "containerd.io/snapshot/max-size";  // bytes; of an active snapshot
constexpr char kGidMapping[] = "containerd.io/snapshot/gidmapping";

// In a user namespace overlayfs may not use trusted.* attributes.
bool InUserNamespace() {
  const absl::StatusOr<std::string> map = ReadFile("/proc/self/uid_map", 65536);
  if (!map.ok()) return false;
  const std::vector<std::string> words =
      absl::StrSplit(*map, absl::ByAnyChar(" \t\n"), absl::SkipEmpty());
  return words != std::vector<std::string>{"0", "0", "4294967295"};
}

// Has the kernel accept an overlay below `root`, without attaching it anywhere.
absl::Status Probe(const std::string& root) {
  // One name, so that a crash leaves nothing that is not removed here.
  const std::string directory = root + "/probe";
  GANTRY_RETURN_IF_ERROR(RemoveTree(directory));
  if (mkdir(directory.c_str(), 0700) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("make ", directory));
  }
  // Should it stay, the next probe removes it or says why it cannot.
  const absl::Cleanup remove = [&] { RemoveTree(directory).IgnoreError(); };
  for (const char* name : {"/lower", "/upper", "/work"}) {
    if (mkdir((directory + name).c_str(), 0700) != 0)
      return ErrnoToStatus(errno, absl::StrCat("make ", directory, name));
  }
  UniqueFd fs(fsopen("overlay", FSOPEN_CLOEXEC));
  if (!fs.valid()) {
    if (errno == ENOSYS || errno == EPERM) return absl::OkStatus();  // the first mount will tell
    return absl::FailedPreconditionError("this kernel has no overlayfs (try: modprobe overlay)");
  }
  const auto set = [&](const char* key, const std::string& value) {
    return fsconfig(fs.get(), FSCONFIG_SET_STRING, key, value.c_str(), 0) == 0;
  };
  if (directory.size() > 240) return absl::OkStatus();  // too long for this interface
  if (set("lowerdir", directory + "/lower") && set("upperdir", directory + "/upper") &&
      set("workdir", directory + "/work") &&
      fsconfig(fs.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0) {
    return absl::OkStatus();
  }
  const int err = errno;
  std::string why(1024, '\0');
  const ssize_t n = read(fs.get(), why.data(), why.size());
  why.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return absl::FailedPreconditionError(absl::StrCat(
      "its file system cannot carry overlay layers: ", ErrnoToStatus(err, "overlayfs").message(),
      " ", absl::StripAsciiWhitespace(why),
      "; choose another root directory or the native snapshotter"));
}

std::vector<std::string> TrailingOptions(const std::vector<std::string>& configured) {
  std::vector<std::string> options = configured;
  if (InUserNamespace()) options.push_back("userxattr");
  // With index=on an upper directory cannot be mounted again after its lower ones moved.
  if (access("/sys/module/overlay/parameters/index", F_OK) == 0) options.push_back("index=off");
  return options;
}

// The host id of container root: the first range of "container:host:length[,...]" that begins at 0.
std::optional<uint32_t> MappedRoot(const Labels& labels, const char* label) {
  const auto found = labels.find(label);
  if (found == labels.end()) return std::nullopt;
  for (const absl::string_view range : absl::StrSplit(found->second, ',')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(range, ':');
    uint32_t host = 0;
    if (parts.size() == 3 && parts[0] == "0" && absl::SimpleAtoi(parts[1], &host)) return host;
  }
  return std::nullopt;
}

}  // namespace

OverlaySnapshotter::OverlaySnapshotter(const std::string& root,
                                       std::vector<std::string> trailing_options,
                                       std::unique_ptr<SnapshotIndex> index)
    : index_(std::move(index)),
      directories_(root, *index_),
      trailing_options_(std::move(trailing_options)) {}

absl::StatusOr<std::unique_ptr<OverlaySnapshotter>> OverlaySnapshotter::Open(
    OverlayOptions options, std::unique_ptr<SnapshotIndex> index) {
  if (options.root.empty() || options.root[0] != '/' ||
      options.root.find_first_of(":,\\\n") != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "overlay snapshotter: root \"", options.root,
        "\" must be an absolute path without the characters : , \\ that separate mount options"));
  }
  GANTRY_RETURN_IF_ERROR(MakeDirectories(options.root, 0711));
  if (absl::Status probed = Probe(options.root); !probed.ok()) {
    return WithContext(probed, absl::StrCat("overlay snapshotter: root ", options.root));
  }
  std::unique_ptr<OverlaySnapshotter> snapshotter(new OverlaySnapshotter(
      options.root, TrailingOptions(options.mount_options), std::move(index)));
  GANTRY_RETURN_IF_ERROR(snapshotter->directories_.Open());
  return snapshotter;
}

std::string OverlaySnapshotter::Layer(uint64_t id) const { return directories_.PathOf(id) + "/fs"; }
std::string OverlaySnapshotter::Work(uint64_t id) const {
  return directories_.PathOf(id) + "/work";
}

// Makes what is missing: at creation everything, after a power cut what the directory above has
// forgotten (the record is durable earlier than an empty directory).
absl::Status OverlaySnapshotter::MakeFor(const SnapshotRecord& record) const {
  if (record.info.kind == Kind::kView && !record.ancestors.empty()) return absl::OkStatus();
  const std::string layer = Layer(record.info.directory);
  const std::string whole = directories_.PathOf(record.info.directory);
  if (mkdir(whole.c_str(), 0700) == 0) {
    // On the directory that no container sees, so that none can change it.
    if (const auto size = record.info.labels.find(kMaxSize);
        size != record.info.labels.end() && record.info.kind == Kind::kActive) {
      GANTRY_ASSIGN_OR_RETURN(const int64_t bytes, ParseTreeSize(size->second));
      GANTRY_RETURN_IF_ERROR(LimitTree(whole, bytes));
    }
  } else if (errno != EEXIST) {
    return ErrnoToStatus(errno, absl::StrCat("mkdir ", whole));
  }
  if (mkdir(layer.c_str(), 0755) == 0) {
    struct stat owner = {};
    if (!record.ancestors.empty() && stat(Layer(record.ancestors.front()).c_str(), &owner) != 0) {
      return ErrnoToStatus(errno, absl::StrCat("stat ", Layer(record.ancestors.front())));
    }
    owner.st_uid = MappedRoot(record.info.labels, kUidMapping).value_or(owner.st_uid);
    owner.st_gid = MappedRoot(record.info.labels, kGidMapping).value_or(owner.st_gid);
    // Whatever the umask took away.
    if (chmod(layer.c_str(), 0755) != 0) return ErrnoToStatus(errno, absl::StrCat("chmod ", layer));
    if ((owner.st_uid != 0 || owner.st_gid != 0) &&
        chown(layer.c_str(), owner.st_uid, owner.st_gid) != 0) {
      return ErrnoToStatus(errno, absl::StrCat("chown ", layer));
    }
  } else if (errno != EEXIST) {
    return ErrnoToStatus(errno, absl::StrCat("mkdir ", layer));
  }
  if (record.info.kind == Kind::kActive && !record.ancestors.empty() &&
      mkdir(Work(record.info.directory).c_str(), 0711) != 0 && errno != EEXIST) {
    return ErrnoToStatus(errno, absl::StrCat("mkdir ", Work(record.info.directory)));
  }
  return absl::OkStatus();
}

std::vector<Mount> OverlaySnapshotter::MountsOf(const SnapshotRecord& record) const {
  Mount mount;
  for (const auto& [label, option] :
       {std::pair(kUidMapping, "uidmap="), std::pair(kGidMapping, "gidmap=")}) {
    const auto found = record.info.labels.find(label);
    if (found != record.info.labels.end())
      mount.options.push_back(absl::StrCat(option, found->second));
  }
  const bool writable = record.info.kind == Kind::kActive;
  if (record.ancestors.empty() || (!writable && record.ancestors.size() == 1)) {
    mount.type = "bind";
    mount.source =
        Layer(record.ancestors.empty() ? record.info.directory : record.ancestors.front());
    mount.options.push_back(writable ? "rw" : "ro");
    mount.options.push_back("rbind");
    return {mount};
  }
  mount.type = "overlay";
  mount.source = "overlay";
  if (writable) {
    mount.options.push_back(absl::StrCat("workdir=", Work(record.info.directory)));
    mount.options.push_back(absl::StrCat("upperdir=", Layer(record.info.directory)));
  }
  mount.options.push_back(absl::StrCat(
      "lowerdir=", absl::StrJoin(record.ancestors, ":", [this](std::string* out, uint64_t id) {
        absl::StrAppend(out, Layer(id));
      })));
  mount.options.insert(mount.options.end(), trailing_options_.begin(), trailing_options_.end());
  return {mount};
}

absl::StatusOr<std::vector<Mount>> OverlaySnapshotter::Create(Kind kind, absl::string_view key,
                                                              absl::string_view parent,
                                                              const Labels& labels) {
  // Known failures before any directory is made: ext4 is slow to reuse inodes that come and go.
  SnapshotRecord record;
  if (index_->Get(key).ok())
    return absl::AlreadyExistsError(
        absl::StrCat("snapshot ", absl::CHexEscape(key), ": already exists"));
  record.id = index_->ReserveId();
  // A directory that stays has no record: the next Cleanup() takes it.
  absl::Cleanup undo = [&] {
    RemoveTree(directories_.PathOf(record.id)).IgnoreError();
    index_->Forget(record.id);
  };
  if (!parent.empty()) {
    const absl::StatusOr<SnapshotRecord> below = index_->Get(parent);
    if (below.ok()) {
      record.ancestors = below->ancestors;
      record.ancestors.insert(record.ancestors.begin(), below->info.directory);
    }
  }
  record.info.kind = kind;
  record.info.labels = labels;
  record.info.directory = record.id;
  if (absl::Status made = MakeFor(record); !made.ok()) {
    return WithContext(made, absl::StrCat("snapshot ", absl::CHexEscape(key)));
  }
  GANTRY_ASSIGN_OR_RETURN(record, index_->Create(record.id, kind, key, parent, labels));
  std::move(undo).Cancel();
  return MountsOf(record);
}

absl::StatusOr<Info> OverlaySnapshotter::Stat(absl::string_view key) {
  GANTRY_ASSIGN_OR_RETURN(SnapshotRecord record, index_->Get(key));
  return std::move(record.info);
}

absl::StatusOr<Info> OverlaySnapshotter::Update(absl::string_view key, const Labels& labels,
                                                const std::vector<std::string>& fields) {
  GANTRY_ASSIGN_OR_RETURN(SnapshotRecord record, index_->SetLabels(key, labels, fields));
  return std::move(record.info);
}

absl::StatusOr<snapshot::Usage> OverlaySnapshotter::Usage(absl::string_view key) {
  GANTRY_ASSIGN_OR_RETURN(const SnapshotRecord record, index_->Get(key));
  if (record.info.kind == Kind::kCommitted) return record.usage;
  if (record.info.kind == Kind::kView && !record.ancestors.empty()) return snapshot::Usage();
  return UsageOfTree(Layer(record.info.directory));
}

absl::StatusOr<std::vector<Mount>> OverlaySnapshotter::Mounts(absl::string_view key) {
  GANTRY_ASSIGN_OR_RETURN(const SnapshotRecord record, index_->Get(key));
  if (record.info.kind == Kind::kCommitted) {
    return absl::FailedPreconditionError(
        absl::StrCat("snapshot ", absl::CHexEscape(key),
                     ": is committed and cannot be mounted; prepare or view it"));
  }
  if (absl::Status made = MakeFor(record); !made.ok()) {
    return WithContext(made, absl::StrCat("snapshot ", absl::CHexEscape(key)));
  }
  return MountsOf(record);
}

absl::StatusOr<std::vector<Mount>> OverlaySnapshotter::Prepare(absl::string_view key,
                                                               absl::string_view parent,
                                                               const Labels& labels) {
  return Create(Kind::kActive, key, parent, labels);
}

absl::StatusOr<std::vector<Mount>> OverlaySnapshotter::View(absl::string_view key,
                                                            absl::string_view parent,
                                                            const Labels& labels) {
  return Create(Kind::kView, key, parent, labels);
}

absl::Status OverlaySnapshotter::Commit(absl::string_view name, absl::string_view key,
                                        const CommitOptions& options) {
  GANTRY_ASSIGN_OR_RETURN(const SnapshotRecord record, index_->Get(key));
  if (record.info.kind != Kind::kActive) {
    return absl::FailedPreconditionError(
        absl::StrCat("snapshot ", absl::CHexEscape(key), ": is not active"));
  }
  GANTRY_ASSIGN_OR_RETURN(const snapshot::Usage usage, UsageOfTree(Layer(record.info.directory)));
  if (options.sync) GANTRY_RETURN_IF_ERROR(directories_.Sync());
  return index_->Commit(name, key, usage, options).status();
}

absl::Status OverlaySnapshotter::Share(absl::string_view name, const ShareOptions& options) {
  return index_->Share(name, options).status();
}

absl::Status OverlaySnapshotter::Remove(absl::string_view key) {
  return index_->Remove(key).status();
}

absl::Status OverlaySnapshotter::Walk(const std::function<absl::Status(const Info&)>& visit) {
  return index_->Walk([&](const SnapshotRecord& record) { return visit(record.info); });
}

absl::Status OverlaySnapshotter::Cleanup(const CancelToken* cancel) {
  return directories_.Sweep(cancel);
}

}  // namespace gantry::snapshot
