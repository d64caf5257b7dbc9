#include "supervisor/oci/spec_mounts.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "supervisor/oci/checked_text.h"

namespace gantry::oci {
namespace {

using nlohmann::json;

bool IsBelow(absl::string_view path, absl::string_view directory) {
  return absl::ConsumePrefix(&path, directory) && absl::StartsWith(path, "/");
}

json MountToJson(absl::string_view destination, absl::string_view type, absl::string_view source,
                 std::vector<std::string> options) {
  return {{"destination", std::string(destination)},
          {"type", std::string(type)},
          {"source", std::string(source)},
          {"options", std::move(options)}};
}

std::vector<json> DefaultMounts(const ContainerConfig& config) {
  std::vector<std::string> sys = {"nosuid", "noexec", "nodev"};
  std::vector<std::string> cgroup = {"nosuid", "noexec", "nodev"};
  if (!config.privileged) {
    sys.push_back("ro");
    if (!config.writable_cgroups) cgroup.insert(cgroup.begin(), "ro");
  }
  std::vector<json> out;
  out.push_back(MountToJson("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}));
  out.push_back(
      MountToJson("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}));
  std::vector<std::string> terminals = {"nosuid", "noexec", "newinstance", "ptmxmode=0666",
                                        "mode=0620"};
  // The kernel refuses a group that the user namespace does not have.
  if (config.gids.empty() || HostIdOf(config.gids, 5).has_value()) terminals.push_back("gid=5");
  out.push_back(MountToJson("/dev/pts", "devpts", "devpts", std::move(terminals)));
  if (!config.uids.empty() && config.network.kind == NamespaceMode::Kind::kHost) {
    // Only who owns a network namespace may mount what shows its devices.
    out.push_back(MountToJson("/sys", "bind", "/sys",
                              {"rbind", "rprivate", "nosuid", "noexec", "nodev", "rro"}));
  } else {
    out.push_back(MountToJson("/sys", "sysfs", "sysfs", std::move(sys)));
  }
  out.push_back(MountToJson("/sys/fs/cgroup", "cgroup", "cgroup", std::move(cgroup)));
  // Shows the queues of the namespace the container is in, the host's too: no need for the host to
  // have it mounted.
  if (config.uids.empty() || config.ipc.kind != NamespaceMode::Kind::kHost)
    out.push_back(MountToJson("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}));
  if (!config.shm_path.empty()) {
    out.push_back(MountToJson("/dev/shm", "bind", config.shm_path,
                              {"rbind", "rprivate", "nosuid", "noexec", "nodev"}));
  } else if (config.ipc.kind == NamespaceMode::Kind::kHost) {
    out.push_back(MountToJson("/dev/shm", "bind", "/dev/shm", {"rbind", "rprivate"}));
  } else if (config.shm_size_bytes > 0) {
    out.push_back(MountToJson(
        "/dev/shm", "tmpfs", "shm",
        {"nosuid", "noexec", "nodev", "mode=1777", absl::StrCat("size=", config.shm_size_bytes)}));
  }
  return out;
}

// The mount option that `option` takes back; "" if there is none.
absl::string_view OppositeOf(absl::string_view option) {
  static constexpr std::pair<absl::string_view, absl::string_view> kPairs[] = {
      {"exec", "noexec"}, {"suid", "nosuid"},   {"dev", "nodev"},          {"rw", "ro"},
      {"sync", "async"},  {"atime", "noatime"}, {"diratime", "nodiratime"}};
  for (const auto& [on, off] : kPairs) {
    if (option == on) return off;
    if (option == off) return on;
  }
  return "";
}

absl::StatusOr<json> UserMount(const MountConfig& mount, const std::string& destination) {
  static constexpr const char* kPropagation[] = {
      "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"};
  for (const std::string& option : mount.options) {
    if (option.empty() || HasControl(option)) {
      return absl::InvalidArgumentError(absl::StrCat("mount ", destination, ": malformed option"));
    }
  }
  if (mount.type == MountConfig::Type::kTmpfs) {
    std::vector<std::string> options = {"noexec", "nosuid", "nodev", "rprivate"};
    if (mount.read_only) options.push_back("ro");
    // Runtimes differ in what wins, "noexec" or "exec" after it: only the last of two opposites is
    // kept.
    for (const std::string& option : mount.options) {
      const absl::string_view opposite = OppositeOf(option);
      options.erase(
          std::remove_if(options.begin(), options.end(),
                         [&](const std::string& o) { return o == opposite || o == option; }),
          options.end());
      options.push_back(option);
    }
    return MountToJson(destination, "tmpfs", "tmpfs", std::move(options));
  }
  if (mount.type == MountConfig::Type::kOverlay) {
    std::vector<std::string> options = {
        "ro", absl::StrCat("lowerdir=", absl::StrJoin(mount.layers, ":"))};
    options.insert(options.end(), mount.options.begin(), mount.options.end());
    return MountToJson(destination, "overlay", "overlay", std::move(options));
  }
  GANTRY_ASSIGN_OR_RETURN(std::string source, CleanPath("mount source", mount.source));
  std::vector<std::string> options = {mount.non_recursive ? "bind" : "rbind"};
  std::string propagation = mount.propagation.empty() ? "rprivate" : mount.propagation;
  if (std::find(std::begin(kPropagation), std::end(kPropagation), propagation) ==
      std::end(kPropagation)) {
    return absl::InvalidArgumentError(
        absl::StrCat("mount ", destination, ": unknown propagation ", propagation));
  }
  options.push_back(std::move(propagation));
  if (mount.read_only) options.push_back(mount.recursive_read_only ? "rro" : "ro");
  options.insert(options.end(), mount.options.begin(), mount.options.end());
  json out = MountToJson(destination, "bind", source, std::move(options));
  if (!mount.uids.empty()) {
    out["uidMappings"] = RangesToJson(mount.uids);
    out["gidMappings"] = RangesToJson(mount.gids);
  }
  return out;
}

}  // namespace

json RangesToJson(const std::vector<IdRange>& ranges) {
  json out = json::array();
  for (const IdRange& range : ranges) {
    out.push_back(
        {{"containerID", range.container_id}, {"hostID", range.host_id}, {"size", range.length}});
  }
  return out;
}

absl::StatusOr<json> BuildMounts(const ContainerConfig& config, bool& needs_shared_root,
                                 bool& needs_slave_root) {
  struct User {
    std::string destination;
    size_t depth = 0;
    json mount;
  };
  std::vector<User> users;
  std::set<std::string> destinations;
  for (const MountConfig& mount : config.mounts) {
    GANTRY_ASSIGN_OR_RETURN(std::string destination,
                            CleanPath("mount destination", mount.destination));
    if (destination == "/") {
      return absl::InvalidArgumentError(
          "mount destination \"/\": the root file system itself cannot be replaced");
    }
    if (!destinations.insert(destination).second) {
      return absl::InvalidArgumentError(absl::StrCat("duplicate mount point: ", destination));
    }
    GANTRY_ASSIGN_OR_RETURN(json built, UserMount(mount, destination));
    needs_shared_root |= mount.propagation == "shared" || mount.propagation == "rshared";
    needs_slave_root |= mount.propagation == "slave" || mount.propagation == "rslave";
    const auto depth = static_cast<size_t>(std::count(destination.begin(), destination.end(), '/'));
    users.push_back({std::move(destination), depth, std::move(built)});
  }
  // Outer directories first, whatever the order they were asked for.
  std::stable_sort(users.begin(), users.end(),
                   [](const User& a, const User& b) { return a.depth < b.depth; });

  json out = json::array();
  for (json& mount : DefaultMounts(config)) {
    const std::string& destination = mount["destination"].get_ref<const std::string&>();
    const bool replaced = std::any_of(users.begin(), users.end(), [&](const User& user) {
      return user.destination == destination ||
             (user.destination == "/dev" && IsBelow(destination, "/dev"));
    });
    if (!replaced) out.push_back(std::move(mount));
  }
  if (!config.init_path.empty()) {
    GANTRY_ASSIGN_OR_RETURN(const std::string source, CleanPath("init", config.init_path));
    out.push_back(MountToJson(kInitInContainer, "bind", source, {"bind", "ro", "rprivate"}));
  }
  for (User& user : users) out.push_back(std::move(user.mount));
  return out;
}

}  // namespace gantry::oci
