#include "supervisor/core/mount_activations.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

#include "base/crash_point.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "snapshotter/loop_device.h"
#include "supervisor/metadata/scope.h"
#include "supervisor/metadata/validate.h"

namespace gantry::core {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxMounts = 255;
constexpr size_t kMaxRecordBytes = 4 << 20;
constexpr absl::Duration kTurn = absl::Seconds(60);
constexpr absl::Duration kMkfsTime = absl::Minutes(5);

std::string What(const std::string& name) { return absl::StrCat("mount activation ", name); }

Json ToJson(const snapshot::Mount& mount) {
  return {{"type", mount.type},
          {"source", mount.source},
          {"target", mount.target},
          {"options", mount.options}};
}

snapshot::Mount MountFrom(const Json& json) {
  return {.type = json.at("type").get<std::string>(),
          .source = json.at("source").get<std::string>(),
          .target = json.at("target").get<std::string>(),
          .options = json.at("options").get<std::vector<std::string>>()};
}

// A record that was read back.
struct Found {
  std::string ns;
  MountActivation activation;
  size_t count = 0;
  bool complete = false;
  std::string boot_id;
};

std::optional<Found> Parse(const std::string& text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  try {
    Found found;
    found.ns = json.at("ns").get<std::string>();
    found.count = json.at("count").get<size_t>();
    found.complete = json.at("complete").get<bool>();
    found.boot_id = json.at("boot_id").get<std::string>();
    MountActivation& activation = found.activation;
    activation.name = json.at("name").get<std::string>();
    activation.lease = json.at("lease").get<std::string>();
    activation.labels = json.at("labels").get<std::map<std::string, std::string>>();
    for (const Json& one : json.at("active")) {
      activation.active.push_back({MountFrom(one.at("mount")),
                                   absl::FromUnixNanos(one.at("mounted_at").get<int64_t>()),
                                   one.at("mount_point").get<std::string>()});
    }
    for (const Json& one : json.at("system")) activation.system.push_back(MountFrom(one));
    return found;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

}  // namespace

MountActivations::MountActivations(const Parts& parts) : parts_(parts) {}

std::string MountActivations::DirectoryOf(uint64_t id) const {
  return absl::StrCat(parts_.state_directory, "/activations/", id);
}

absl::Status MountActivations::Open() {
  const std::string top = parts_.state_directory + "/activations";
  GANTRY_RETURN_IF_ERROR(MakeDirectories(top, 0700));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(top));
  for (const std::string& name : names) {
    uint64_t id = 0;
    if (!absl::SimpleAtoi(name, &id) || absl::StrCat(id) != name) continue;
    {
      absl::MutexLock lock(&mu_);
      next_id_ = std::max(next_id_, id + 1);
    }
    const absl::StatusOr<std::string> text =
        ReadFile(DirectoryOf(id) + "/record.json", kMaxRecordBytes);
    std::optional<Found> found;
    if (text.ok()) found = Parse(*text);
    if (found.has_value() && found->complete && found->boot_id == parts_.boot_id) {
      absl::MutexLock lock(&mu_);
      const Key key(found->ns, found->activation.name);
      entries_[key] = {id, std::move(found->activation)};
      continue;
    }
    if (absl::Status ended = End(id, found.has_value() ? found->count : kMaxMounts); !ended.ok())
      LOG(WARNING) << "an activation of mounts that was not complete stays: " << ended;
  }
  return absl::OkStatus();
}

absl::Status MountActivations::WriteRecord(const std::string& ns, const Entry& entry, size_t count,
                                           bool complete) const {
  const MountActivation& activation = entry.activation;
  Json json = {{"ns", ns},
               {"name", activation.name},
               {"lease", activation.lease},
               {"labels", activation.labels},
               {"count", count},
               {"complete", complete},
               {"boot_id", parts_.boot_id},
               {"active", Json::array()},
               {"system", Json::array()}};
  for (const ActiveMount& active : activation.active) {
    json["active"].push_back({{"mount", ToJson(active.mount)},
                              {"mounted_at", absl::ToUnixNanos(active.mounted_at)},
                              {"mount_point", active.mount_point}});
  }
  for (const snapshot::Mount& mount : activation.system) json["system"].push_back(ToJson(mount));
  return WriteFileAtomic(DirectoryOf(entry.id) + "/record.json",
                         json.dump(-1, ' ', false, Json::error_handler_t::replace), 0600);
}

absl::StatusOr<UniqueFd> MountActivations::OpenParent(const std::string& path,
                                                      std::string* name) const {
  for (const std::string& top : {parts_.root_directory, parts_.state_directory + "/activations"}) {
    if (!absl::StartsWith(path, top + "/")) continue;
    std::string below = path.substr(top.size() + 1);
    while (!below.empty() && below.back() == '/') below.pop_back();
    const size_t slash = below.rfind('/');
    *name = slash == std::string::npos ? below : below.substr(slash + 1);
    const std::string parent = slash == std::string::npos ? "." : below.substr(0, slash);
    if (name->empty() || *name == "." || *name == "..") break;
    const UniqueFd root(open(top.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", top));
    open_how how = {};
    how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    const long fd = syscall(SYS_openat2, root.get(), parent.c_str(), &how, sizeof(how));
    if (fd < 0) return ErrnoToStatus(errno, absl::StrCat("open ", top, "/", parent));
    return UniqueFd(static_cast<int>(fd));
  }
  return absl::UnimplementedError(absl::StrCat("mount activation: \"", path, "\" is not below ",
                                               parts_.root_directory, ": not implemented"));
}

absl::Status MountActivations::MakeDirectoryAt(const MkdirOption& option) const {
  std::string name;
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd parent, OpenParent(option.path, &name));
  if (mkdirat(parent.get(), name.c_str(), option.mode) != 0) {
    struct stat info;
    if (errno == EEXIST && fstatat(parent.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISDIR(info.st_mode)) {
      return absl::OkStatus();
    }
    return ErrnoToStatus(errno, absl::StrCat("mkdir ", option.path));
  }
  const UniqueFd made(
      openat(parent.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  // The mode without the umask's share.
  if (!made.valid() || fchmod(made.get(), option.mode) != 0)
    return ErrnoToStatus(errno, absl::StrCat("chmod ", option.path));
  if (option.uid.has_value() && fchown(made.get(), *option.uid, *option.gid) != 0)
    return ErrnoToStatus(errno, absl::StrCat("chown ", option.path));
  return absl::OkStatus();
}

absl::Status MountActivations::MakeFileSystem(const std::string& path,
                                              const MkfsOption& option) const {
  std::string name;
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd parent, OpenParent(path, &name));
  struct stat info;
  if (fstatat(parent.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) return absl::OkStatus();
  if (errno != ENOENT) return ErrnoToStatus(errno, absl::StrCat("stat ", path));
  // Under a name of its own until it is whole: a file system that is there is used as it is.
  const std::string temporary = absl::StrCat(".", name, ".mkfs-", getpid());
  absl::Cleanup remove = [&] { unlinkat(parent.get(), temporary.c_str(), 0); };
  unlinkat(parent.get(), temporary.c_str(), 0);
  const UniqueFd file(openat(parent.get(), temporary.c_str(),
                             O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640));
  if (!file.valid() || ftruncate(file.get(), option.size_bytes) != 0)
    return ErrnoToStatus(errno, absl::StrCat("create ", path));
  Command command;
  // Where Debian has them, also when PATH is a user's and leaves it out.
  const std::string program = absl::StrCat("mkfs.", option.file_system);
  const std::string installed = absl::StrCat("/usr/sbin/", program);
  command.argv = {access(installed.c_str(), X_OK) == 0 ? installed : program, "-q"};
  if (!option.uuid.empty() && option.file_system == "xfs") {
    command.argv.insert(command.argv.end(), {"-m", absl::StrCat("uuid=", option.uuid)});
  } else if (!option.uuid.empty()) {
    command.argv.insert(command.argv.end(), {"-U", option.uuid});
  }
  command.argv.push_back("/proc/self/fd/3");
  command.extra_fds.emplace_back(file.get(), 3);
  command.timeout = kMkfsTime;
  GANTRY_ASSIGN_OR_RETURN(const CommandResult made, RunCommand(command));
  if (!made.status.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat(command.argv[0], " of ", path, ": ", made.status.ToString(), ": ", made.err));
  }
  if (fsync(file.get()) != 0 ||
      renameat(parent.get(), temporary.c_str(), parent.get(), name.c_str()) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("create ", path));
  }
  std::move(remove).Cancel();
  return absl::OkStatus();
}

absl::StatusOr<snapshot::Mount> MountActivations::Apply(
    const std::vector<MountStep>& steps, snapshot::Mount mount,
    const std::vector<ActiveMount>& before) const {
  for (const MountStep step : steps) {
    switch (step) {
      case MountStep::kFormat: {
        GANTRY_ASSIGN_OR_RETURN(mount, FormatMount(std::move(mount), before));
        break;
      }
      case MountStep::kMkdir: {
        GANTRY_ASSIGN_OR_RETURN(const std::vector<MkdirOption> made, TakeMkdirOptions(mount));
        for (const MkdirOption& option : made) GANTRY_RETURN_IF_ERROR(MakeDirectoryAt(option));
        break;
      }
      case MountStep::kMkfs: {
        GANTRY_ASSIGN_OR_RETURN(const MkfsOption option, TakeMkfsOption(mount));
        GANTRY_RETURN_IF_ERROR(MakeFileSystem(mount.source, option));
        break;
      }
    }
  }
  return mount;
}

absl::StatusOr<ActiveMount> MountActivations::Perform(const std::string& directory, size_t index,
                                                      snapshot::Mount mount) const {
  const std::string target = absl::StrCat(directory, "/", index);
  if (mount.type == "loop") {
    // The name of the file first: with the link it says what the device is for.
    GANTRY_RETURN_IF_ERROR(WriteFile(target + ".backing", mount.source, 0600));
    const bool read_only =
        std::find(mount.options.begin(), mount.options.end(), "ro") != mount.options.end();
    GANTRY_ASSIGN_OR_RETURN(const snapshot::LoopDevice device,
                            snapshot::AttachLoopDevice(mount.source, read_only));
    if (symlink(device.path.c_str(), target.c_str()) != 0)
      return ErrnoToStatus(errno, absl::StrCat("symlink ", target));
    GANTRY_RETURN_IF_ERROR(snapshot::KeepLoopDevice(device));
  } else {
    if (mkdir(target.c_str(), 0700) != 0)
      return ErrnoToStatus(errno, absl::StrCat("mkdir ", target));
    GANTRY_RETURN_IF_ERROR(snapshot::MountAll({mount}, target));
  }
  return ActiveMount{std::move(mount), absl::Now(), target};
}

absl::Status MountActivations::End(uint64_t id, size_t count) const {
  const std::string directory = DirectoryOf(id);
  for (size_t i = count; i-- > 0;) {
    const std::string target = absl::StrCat(directory, "/", i);
    struct stat info;
    if (lstat(target.c_str(), &info) != 0) continue;
    if (S_ISLNK(info.st_mode)) {
      char device[256];
      const ssize_t size = readlink(target.c_str(), device, sizeof(device));
      if (size <= 0) return ErrnoToStatus(errno, absl::StrCat("readlink ", target));
      GANTRY_ASSIGN_OR_RETURN(const std::string file, ReadFile(target + ".backing", 8192));
      GANTRY_RETURN_IF_ERROR(
          snapshot::DetachLoopDevice(std::string(device, static_cast<size_t>(size)), file));
    } else {
      GANTRY_RETURN_IF_ERROR(snapshot::UnmountAll(target, /*lazy=*/false));
    }
  }
  return RemoveTree(directory);
}

absl::StatusOr<MountActivation> MountActivations::Activate(const CallContext& context,
                                                           Request request) {
  GANTRY_RETURN_IF_ERROR(metadata::ValidateName("mount activation", request.name));
  GANTRY_RETURN_IF_ERROR(metadata::ValidateLabels(request.labels));
  if (request.mounts.size() > kMaxMounts) {
    return absl::InvalidArgumentError(absl::StrCat(What(request.name), ": ", request.mounts.size(),
                                                   " mounts, at most ", kMaxMounts));
  }
  const MountPlan plan = PlanMounts(request.mounts, request.temporary);
  if (!plan.performed.has_value()) {
    return absl::UnimplementedError(absl::StrCat(
        What(request.name), ": no mount needs the daemon, the client mounts: not implemented"));
  }
  metadata::KeyLocks::Held turn(names_);
  if (!turn.Exclusive(absl::StrCat(context.ns, "/", request.name), kTurn))
    return absl::UnavailableError(absl::StrCat(What(request.name), ": another call is at work"));
  Entry entry;
  {
    absl::MutexLock lock(&mu_);
    if (entries_.count({context.ns, request.name}) > 0)
      return absl::AlreadyExistsError(absl::StrCat(What(request.name), ": already exists"));
    entry.id = next_id_++;
  }
  entry.activation.name = request.name;
  entry.activation.labels = request.labels;
  entry.activation.lease = context.lease;
  const metadata::Scope scope = {context.ns, context.lease};
  const auto enter = [&](metadata::Transaction& tx) { return metadata::EnterScope(tx, scope); };
  GANTRY_RETURN_IF_ERROR(parts_.db->Run(enter, metadata::Durability::kBuffered));

  const size_t performed = *plan.performed;
  const std::string directory = DirectoryOf(entry.id);
  if (mkdir(directory.c_str(), 0700) != 0)
    return ErrnoToStatus(errno, absl::StrCat("mkdir ", directory));
  absl::Cleanup undo = [&] {
    if (absl::Status ended = End(entry.id, performed); !ended.ok())
      LOG(ERROR) << What(request.name) << ": undoing it: " << ended;
  };
  GANTRY_RETURN_IF_ERROR(WriteRecord(context.ns, entry, performed, /*complete=*/false));
  std::vector<ActiveMount>& active = entry.activation.active;
  std::vector<snapshot::Mount>& system = entry.activation.system;
  for (size_t i = 0; i < request.mounts.size(); ++i) {
    snapshot::Mount mount = std::move(request.mounts[i]);
    if (i <= performed) {
      mount.type = plan.types[i];
      GANTRY_ASSIGN_OR_RETURN(mount, Apply(plan.steps[i], std::move(mount), active));
    }
    if (i >= performed) {
      system.push_back(std::move(mount));
      continue;
    }
    GANTRY_ASSIGN_OR_RETURN(ActiveMount made, Perform(directory, i, std::move(mount)));
    active.push_back(std::move(made));
    CrashPoint("mount.activated");
  }
  if (request.temporary && !active.empty()) {
    system.push_back(
        {.type = "bind", .source = active.back().mount_point, .target = "", .options = {"rbind"}});
  }
  GANTRY_RETURN_IF_ERROR(WriteRecord(context.ns, entry, performed, /*complete=*/true));
  std::move(undo).Cancel();
  MountActivation answer = entry.activation;
  {
    absl::MutexLock lock(&mu_);
    entries_[{context.ns, request.name}] = std::move(entry);
  }
  parts_.db->NoteChange(/*deletion=*/false);
  return answer;
}

absl::Status MountActivations::Remove(const std::string& ns, const std::string& name) {
  metadata::KeyLocks::Held turn(names_);
  if (!turn.Exclusive(absl::StrCat(ns, "/", name), kTurn))
    return absl::UnavailableError(absl::StrCat(What(name), ": another call is at work"));
  uint64_t id = 0;
  size_t count = 0;
  {
    absl::MutexLock lock(&mu_);
    const auto found = entries_.find({ns, name});
    if (found == entries_.end())
      return absl::NotFoundError(absl::StrCat("mount activation \"", name, "\": not found"));
    id = found->second.id;
    count = found->second.activation.active.size();
  }
  GANTRY_RETURN_IF_ERROR(WithContext(End(id, count), What(name)));
  absl::MutexLock lock(&mu_);
  entries_.erase({ns, name});
  return absl::OkStatus();
}

absl::Status MountActivations::Deactivate(const CallContext& context, const std::string& name) {
  return Remove(context.ns, name);
}

absl::StatusOr<MountActivation> MountActivations::Info(const CallContext& context,
                                                       const std::string& name) {
  absl::MutexLock lock(&mu_);
  const auto found = entries_.find({context.ns, name});
  if (found == entries_.end())
    return absl::NotFoundError(absl::StrCat("mount activation \"", name, "\": not found"));
  return found->second.activation;
}

std::vector<MountActivation> MountActivations::List(const CallContext& context) {
  std::vector<MountActivation> all;
  absl::MutexLock lock(&mu_);
  for (const auto& [key, entry] : entries_) {
    if (key.first == context.ns) all.push_back(entry.activation);
  }
  return all;
}

absl::StatusOr<MountActivation> MountActivations::Update(
    const CallContext& context, const std::string& name,
    const std::map<std::string, std::string>& labels, const std::vector<std::string>& fields) {
  metadata::KeyLocks::Held turn(names_);
  if (!turn.Exclusive(absl::StrCat(context.ns, "/", name), kTurn))
    return absl::UnavailableError(absl::StrCat(What(name), ": another call is at work"));
  Entry entry;
  {
    absl::MutexLock lock(&mu_);
    const auto found = entries_.find({context.ns, name});
    if (found == entries_.end())
      return absl::NotFoundError(absl::StrCat("mount activation \"", name, "\": not found"));
    entry = found->second;
  }
  GANTRY_RETURN_IF_ERROR(
      metadata::ApplyLabelUpdate(What(name), labels, fields, entry.activation.labels));
  GANTRY_RETURN_IF_ERROR(
      WriteRecord(context.ns, entry, entry.activation.active.size(), /*complete=*/true));
  MountActivation answer = entry.activation;
  {
    absl::MutexLock lock(&mu_);
    entries_[{context.ns, name}] = std::move(entry);
  }
  // A label may have been all that kept it.
  parts_.db->NoteChange(/*deletion=*/true);
  return answer;
}

std::vector<gc::MountSource::Activation> MountActivations::Activations() {
  std::vector<Activation> all;
  absl::MutexLock lock(&mu_);
  for (const auto& [key, entry] : entries_)
    all.push_back({key.first, key.second, entry.activation.lease, entry.activation.labels});
  return all;
}

}  // namespace gantry::core
