// A CDI file: devices of one kind, and what a container needs to be changed to have each of them.
//
// Values and pure functions. Spec: Container Device Interface, versions 0.3.0 to 1.1.0.
#ifndef GANTRY_SUPERVISOR_OCI_CDI_CDI_FILE_H_
#define GANTRY_SUPERVISOR_OCI_CDI_CDI_FILE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include <nlohmann/json_fwd.hpp>

namespace gantry::oci::cdi {

struct DeviceNode {
  std::string path = {};       // in the container
  std::string host_path = {};  // "": the same
  std::string type = {};       // "b", "c", "u", "p"; "": as on the host
  std::optional<int64_t> major = {};
  std::optional<int64_t> minor = {};
  std::optional<uint32_t> file_mode = {};
  std::string permissions = {};  // of "rwm"; "": all
  std::optional<uint32_t> uid = {};
  std::optional<uint32_t> gid = {};
};

struct Mount {
  std::string host_path = {};
  std::string container_path = {};
  std::string type = {};
  std::vector<std::string> options = {};
};

struct Hook {
  std::string name = {};  // "prestart", "createRuntime", ...
  std::string path = {};
  std::vector<std::string> args = {};
  std::vector<std::string> env = {};
  std::optional<int64_t> timeout_seconds = {};
};

struct IntelRdt {
  std::string clos_id = {};
  std::string l3_cache_schema = {};
  std::string memory_bandwidth_schema = {};
  std::vector<std::string> schemata = {};
  bool enable_cmt = false;
  bool enable_mbm = false;
  bool enable_monitoring = false;
};

// What is changed in a container's configuration. All of it is the file's: the environment of the
// container, programs that the runtime starts as root on the host.
struct ContainerEdits {
  std::vector<std::string> env;  // "NAME=value"
  std::vector<DeviceNode> device_nodes;
  std::vector<Mount> mounts;
  std::vector<Hook> hooks;
  std::vector<uint32_t> additional_gids;
  std::optional<IntelRdt> intel_rdt;
  std::vector<std::string> net_devices;  // interfaces of the host, which our runtimes cannot move

  // Adds what `other` has, behind. Of two IntelRdt the later counts.
  void Append(const ContainerEdits& other);
  bool empty() const;
};

struct Device {
  std::string name;
  std::map<std::string, std::string> annotations;
  ContainerEdits edits;
};

struct CdiFile {
  std::string version;
  std::string kind;  // "vendor.com/class"
  std::map<std::string, std::string> annotations;
  std::vector<Device> devices;
  ContainerEdits edits;  // with each of the devices, once
};

// kInvalidArgument: a member is missing, unknown, of the wrong type or has no sense; a version that
// is unknown, or older than what the file uses. `what` names the file in the message.
absl::StatusOr<CdiFile> ParseCdiFile(const nlohmann::json& document, absl::string_view what);

// Whether the text has the form VENDOR/CLASS=NAME. What has not may still be a path.
bool IsDeviceName(absl::string_view text);

}  // namespace gantry::oci::cdi

#endif  // GANTRY_SUPERVISOR_OCI_CDI_CDI_FILE_H_
