#include "supervisor/runtime/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "openssl/sha.h"

#include "base/crash_point.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace gantry::runtime {
namespace {

constexpr size_t kMaxConfigBytes = 16 << 20;
constexpr size_t kMaxRecordBytes = 4 << 20;

absl::Status WriteRenamed(const std::string& path, absl::string_view data) {
  const std::string temporary = path + ".new";
  GANTRY_RETURN_IF_ERROR(WriteFile(temporary, data, 0600));
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("rename ", temporary));
  }
  return absl::OkStatus();
}

absl::Status MakeDirectory(const std::string& path, mode_t mode) {
  if (mkdir(path.c_str(), mode) != 0 && errno != EEXIST) {
    return ErrnoToStatus(errno, absl::StrCat("mkdir ", path));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> IsMountPoint(const std::string& path) {
  struct statx info;
  if (statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, 0, &info) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("statx ", path));
  }
  return (info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

absl::Status MakePrivateMount(const std::string& path) {
  GANTRY_ASSIGN_OR_RETURN(const bool mounted, IsMountPoint(path));
  if (!mounted && mount(path.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("bind mount ", path, " onto itself"));
  }
  if (mount(nullptr, path.c_str(), nullptr, MS_PRIVATE, nullptr) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("make mount ", path, " private"));
  }
  return absl::OkStatus();
}

absl::Status CheckName(absl::string_view what, absl::string_view name) {
  const auto bad = [&](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " \"", absl::CHexEscape(name.substr(0, 64)), "\": ", why));
  };
  if (name.empty()) return bad("is empty");
  if (name.size() > 255) return bad(absl::StrCat("is ", name.size(), " bytes long, at most 255"));
  if (!absl::ascii_isalnum(name[0])) return bad("must start with a letter or a digit");
  for (const char c : name) {
    if (!absl::ascii_isalnum(c) && c != '_' && c != '.' && c != '-') {
      return bad("may hold letters, digits, '_', '.' and '-' only");
    }
  }
  return absl::OkStatus();
}

std::string ToJson(const TaskKey& key, const LaunchRecord& launch) {
  nlohmann::json out;
  out["version"] = 1;
  out["namespace"] = key.ns;
  out["id"] = key.container_id;
  out["boot_id"] = launch.boot_id;
  out["created_at"] = absl::FormatTime(absl::RFC3339_full, launch.created_at, absl::UTCTimeZone());
  out["cgroup_path"] = launch.cgroup_path;
  out["private_pid_namespace"] = launch.private_pid_namespace;
  // Binary, because a record must come back whole from any later version's fields too; base64 keeps
  // the file text.
  out["create"] = absl::Base64Escape(launch.create.SerializeAsString());
  return out.dump(1, ' ', false, nlohmann::json::error_handler_t::replace);
}

absl::StatusOr<LaunchRecord> FromJson(const TaskKey& key, const std::string& text) {
  const nlohmann::json in = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto damaged = [&](absl::string_view why) {
    return absl::DataLossError(absl::StrCat("launch.json: ", why));
  };
  if (!in.is_object()) return damaged("is not a JSON object");
  const auto text_at = [&](const char* name) {
    const auto it = in.find(name);
    return it != in.end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  if (text_at("namespace") != key.ns || text_at("id") != key.container_id) {
    return damaged(absl::StrCat("belongs to ", text_at("namespace"), "/", text_at("id")));
  }
  LaunchRecord launch;
  launch.boot_id = text_at("boot_id");
  launch.cgroup_path = text_at("cgroup_path");
  const auto private_pids = in.find("private_pid_namespace");
  launch.private_pid_namespace =
      private_pids != in.end() && private_pids->is_boolean() && private_pids->get<bool>();
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text_at("created_at"), &launch.created_at, &error)) {
    return damaged(absl::StrCat("created_at: ", error));
  }
  std::string create;
  if (!absl::Base64Unescape(text_at("create"), &create) || !launch.create.ParseFromString(create)) {
    return damaged("create cannot be read");
  }
  return launch;
}

std::string SocketName(const TaskKey& key) {
  const std::string name = key.ToString();
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(name.data()), name.size(), hash);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(hash), 8));
}

}  // namespace

absl::Status CheckTaskKey(const TaskKey& key) {
  GANTRY_RETURN_IF_ERROR(CheckName("namespace", key.ns));
  return CheckName("container id", key.container_id);
}

absl::StatusOr<uint64_t> ReadStartTime(pid_t pid) {
  const absl::StatusOr<std::string> stat = ReadFile(absl::StrCat("/proc/", pid, "/stat"), 4096);
  if (!stat.ok()) return absl::NotFoundError(absl::StrCat("no process ", pid));
  // The command name, in parentheses, may hold anything, also parentheses and spaces.
  const size_t name_end = stat->rfind(')');
  if (name_end == std::string::npos) return absl::InternalError("unreadable /proc stat line");
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(*stat).substr(name_end + 2), ' ');
  uint64_t start = 0;
  if (fields.size() < 20 || !absl::SimpleAtoi(fields[19], &start)) {
    return absl::InternalError("unreadable /proc stat line");
  }
  return start;
}

absl::StatusOr<std::string> Bundle::ReadConfig() const {
  return ReadFile(config_path(), kMaxConfigBytes);
}

absl::StatusOr<ShimProcess> Bundle::ReadShimProcess() const {
  GANTRY_ASSIGN_OR_RETURN(const std::string text, ReadFile(path_ + "/shim.json", kMaxRecordBytes));
  const nlohmann::json in = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!in.is_object() || !in.contains("pid") || !in["pid"].is_number_integer() ||
      !in.contains("start_time_ticks") || !in["start_time_ticks"].is_number_unsigned()) {
    return absl::DataLossError("shim.json is damaged");
  }
  return ShimProcess{in["pid"].get<pid_t>(), in["start_time_ticks"].get<uint64_t>()};
}

absl::Status Bundle::WriteShimProcess(const ShimProcess& process) const {
  return WriteRenamed(path_ + "/shim.json",
                      absl::StrCat("{\"pid\":", process.pid,
                                   ",\"start_time_ticks\":", process.start_time_ticks, "}\n"));
}

BundleStore::BundleStore(std::string state_dir, std::string boot_id)
    : state_dir_(std::move(state_dir)), boot_id_(std::move(boot_id)) {}

absl::StatusOr<std::unique_ptr<BundleStore>> BundleStore::Open(std::string state_dir,
                                                               bool private_mount,
                                                               std::string boot_id) {
  while (state_dir.size() > 1 && state_dir.back() == '/') state_dir.pop_back();
  if (state_dir.empty() || state_dir[0] != '/') {
    return absl::InvalidArgumentError(
        absl::StrCat("state directory \"", state_dir, "\" is not an absolute path"));
  }
  // "/s/", 16 digits and the terminating NUL.
  constexpr size_t kMaxStateDir = sizeof(sockaddr_un::sun_path) - 20;
  if (state_dir.size() > kMaxStateDir) {
    return absl::InvalidArgumentError(
        absl::StrCat("state directory ", state_dir, " is ", state_dir.size(),
                     " bytes long; sockets below it need it to be at most ", kMaxStateDir));
  }
  if (boot_id.empty()) {
    GANTRY_ASSIGN_OR_RETURN(boot_id, ReadFile("/proc/sys/kernel/random/boot_id", 256));
    while (!boot_id.empty() && boot_id.back() == '\n') boot_id.pop_back();
  }
  GANTRY_RETURN_IF_ERROR(MakeDirectories(state_dir, 0711));
  GANTRY_RETURN_IF_ERROR(MakeDirectory(state_dir + "/tasks", 0711));
  GANTRY_RETURN_IF_ERROR(MakeDirectory(state_dir + "/s", 0700));
  if (private_mount) GANTRY_RETURN_IF_ERROR(MakePrivateMount(state_dir + "/tasks"));
  auto store =
      std::unique_ptr<BundleStore>(new BundleStore(std::move(state_dir), std::move(boot_id)));

  // A socket without a bundle is one that is never looked for: a shim bound it after its bundle
  // was abandoned.
  GANTRY_ASSIGN_OR_RETURN(const std::vector<FoundBundle> bundles, store->List());
  std::set<std::string> wanted;
  for (const FoundBundle& found : bundles) wanted.insert(SocketName(found.key));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> sockets,
                          ListDirectory(store->state_dir_ + "/s"));
  for (const std::string& name : sockets) {
    if (wanted.count(name) == 0) unlink(absl::StrCat(store->state_dir_, "/s/", name).c_str());
  }
  return store;
}

std::string BundleStore::PathOf(const TaskKey& key) const {
  return absl::StrCat(state_dir_, "/tasks/", key.ns, "/", key.container_id);
}

std::string BundleStore::SocketPathOf(const TaskKey& key) const {
  return absl::StrCat(state_dir_, "/s/", SocketName(key));
}

absl::StatusOr<Bundle> BundleStore::Create(const TaskKey& key, absl::string_view config_json,
                                           LaunchRecord launch) {
  GANTRY_RETURN_IF_ERROR(CheckTaskKey(key));
  // What cannot be removed now does no harm, unless it has this name.
  leftovers_.Sweep().IgnoreError();
  const std::string path = PathOf(key);
  GANTRY_RETURN_IF_ERROR(MakeDirectory(absl::StrCat(state_dir_, "/tasks/", key.ns), 0711));
  if (absl::Status made = leftovers_.Make(path, 0700); absl::IsAlreadyExists(made)) {
    return absl::AlreadyExistsError(absl::StrCat("task ", key.ToString(), " exists"));
  } else if (!made.ok()) {
    return WithContext(made, absl::StrCat("task ", key.ToString()));
  }
  absl::Cleanup undo = [&] { leftovers_.Remove(path).IgnoreError(); };
  CrashPoint("bundle.made");

  launch.boot_id = boot_id_;

  const std::string task = absl::StrCat("task ", key.ToString());
  GANTRY_RETURN_IF_ERROR(WithContext(MakeDirectory(path + "/rootfs", 0711), task));
  if (launch.root_gid.has_value()) {
    // The container's root must be able to walk to its root file system.
    if (chown(path.c_str(), 0, *launch.root_gid) != 0 || chmod(path.c_str(), 0710) != 0) {
      return ErrnoToStatus(errno, absl::StrCat(task, ": chown ", path));
    }
  }
  GANTRY_RETURN_IF_ERROR(WithContext(WriteFile(path + "/config.json", config_json, 0600), task));
  // A socket of this name can only be a leftover: the bundle did not exist.
  const std::string socket_path = SocketPathOf(key);
  unlink(socket_path.c_str());
  GANTRY_RETURN_IF_ERROR(
      WithContext(WriteRenamed(path + "/launch.json", ToJson(key, launch)), task));
  std::move(undo).Cancel();
  CrashPoint("bundle.recorded");
  return Bundle(key, path, socket_path, std::move(launch));
}

absl::StatusOr<Bundle> BundleStore::Load(const TaskKey& key) const {
  GANTRY_RETURN_IF_ERROR(CheckTaskKey(key));
  const std::string path = PathOf(key);
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) {
      return absl::NotFoundError(absl::StrCat("task ", key.ToString(), " has no bundle"));
    }
    return ErrnoToStatus(errno, absl::StrCat("stat ", path));
  }
  const absl::StatusOr<std::string> text = ReadFile(path + "/launch.json", kMaxRecordBytes);
  if (!text.ok()) {
    const absl::StatusCode code =
        absl::IsNotFound(text.status()) ? absl::StatusCode::kDataLoss : text.status().code();
    return absl::Status(code, absl::StrCat("task ", key.ToString(), ": ", text.status().message()));
  }
  absl::StatusOr<LaunchRecord> launch = FromJson(key, *text);
  if (!launch.ok()) {
    return WithContext(launch.status(), absl::StrCat("task ", key.ToString()));
  }
  return Bundle(key, path, SocketPathOf(key), *std::move(launch));
}

absl::Status BundleStore::Remove(const TaskKey& key) {
  GANTRY_RETURN_IF_ERROR(CheckTaskKey(key));
  // The launch record goes first: a directory without one is known to be half removed, or half
  // made.
  const std::string path = PathOf(key);
  if (unlink((path + "/launch.json").c_str()) != 0 && errno != ENOENT) {
    return ErrnoToStatus(errno, absl::StrCat("unlink ", path, "/launch.json"));
  }
  CrashPoint("bundle.unrecorded");
  // The directory goes last: as soon as it is gone the id may be used again, and a socket of this
  // name is then another shim's.
  if (unlink(SocketPathOf(key).c_str()) != 0 && errno != ENOENT) {
    return ErrnoToStatus(errno, absl::StrCat("unlink ", SocketPathOf(key)));
  }
  GANTRY_RETURN_IF_ERROR(leftovers_.Remove(path));
  CrashPoint("bundle.removed");
  return absl::OkStatus();
}

absl::StatusOr<std::vector<FoundBundle>> BundleStore::List() const {
  const std::string tasks = state_dir_ + "/tasks";
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> namespaces, ListDirectory(tasks));
  std::vector<FoundBundle> found;
  for (const std::string& ns : namespaces) {
    const absl::StatusOr<std::vector<std::string>> ids =
        ListDirectory(absl::StrCat(tasks, "/", ns));
    if (!ids.ok()) continue;  // not a directory, or removed meanwhile: nothing that Create() made
    for (const std::string& id : *ids) {
      TaskKey key{ns, id};
      if (!CheckTaskKey(key).ok()) continue;
      absl::StatusOr<Bundle> bundle = Load(key);
      if (absl::IsNotFound(bundle.status())) continue;
      found.push_back(FoundBundle{std::move(key), std::move(bundle)});
    }
  }
  return found;
}

absl::Status BundleStore::ReleaseMount() {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<FoundBundle> bundles, List());
  if (!bundles.empty()) return absl::OkStatus();
  const std::string tasks = state_dir_ + "/tasks";
  GANTRY_ASSIGN_OR_RETURN(const bool mounted, IsMountPoint(tasks));
  if (mounted && umount2(tasks.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("unmount ", tasks));
  }
  return absl::OkStatus();
}

}  // namespace gantry::runtime
