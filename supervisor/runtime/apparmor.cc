#include "supervisor/runtime/apparmor.h"

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"

#include "base/file.h"
#include "base/subprocess.h"

namespace gantry::runtime {
namespace {

constexpr size_t kMostBytes = 16 << 20;
constexpr absl::Duration kParserPatience = absl::Seconds(30);

// What a container's processes may do beyond what capabilities, seccomp and the read-only mounts of
// its /proc and /sys forbid: everything but to mount, to write to the kernel's settings should one
// of these mounts be missing, and to meddle with processes outside. cgroups are left to their
// mount, because a container may have been given its own to write.
constexpr char kDefaultProfile[] = R"(#include <tunables/global>
profile docker-default flags=(attach_disconnected, mediate_deleted) {
  file,
  network,
  capability,
  unix,
  umount,
  deny mount,
  signal (receive) peer=unconfined,
  signal (send, receive) peer=docker-default,
  ptrace (read, readby, trace, tracedby) peer=docker-default,
  deny @{PROC}/{kcore,kmem,mem,sysrq-trigger} rwklx,
  deny @{PROC}/{acpi,bus,fs,irq,scsi,sys}/** wklx,
  deny /sys/{block,bus,class,dev,devices,firmware,hypervisor,kernel,module,power}/** wklx,
  deny /sys/{firmware,kernel/security}/** rwklx,
}
)";

bool IsOn(const std::string& root) {
  const absl::StatusOr<std::string> enabled =
      ReadFile(root + "/sys/module/apparmor/parameters/enabled", 16);
  return enabled.ok() && absl::StartsWith(*enabled, "Y");
}

// A line is "NAME (MODE)"; names may have spaces.
bool IsLoaded(absl::string_view name, const std::string& root) {
  const absl::StatusOr<std::string> profiles =
      ReadFile(root + "/sys/kernel/security/apparmor/profiles", kMostBytes);
  if (!profiles.ok()) return false;
  for (const absl::string_view line : absl::StrSplit(*profiles, '\n')) {
    const size_t mode = line.rfind(" (");
    if (mode != absl::string_view::npos && line.substr(0, mode) == name) return true;
  }
  return false;
}

}  // namespace

absl::Status LoadDefaultAppArmorProfile(const std::string& root) {
  if (!IsOn(root) || IsLoaded(kDefaultAppArmorProfile, root)) return absl::OkStatus();
  Command parser;
  // Its cache is for files, by their names.
  parser.argv = {"apparmor_parser", "--replace", "--skip-cache", "--quiet"};
  parser.timeout = kParserPatience;
  const absl::StatusOr<CommandResult> result = RunCommand(parser, kDefaultProfile);
  if (absl::IsNotFound(result.status())) {
    return absl::NotFoundError(
        "AppArmor is on and apparmor_parser is not installed, so containers have no profile: "
        "apt-get install apparmor");
  }
  if (!result.ok()) return result.status();
  if (result->status.ok()) return absl::OkStatus();
  return absl::UnknownError(absl::StrCat("apparmor_parser: profile ", kDefaultAppArmorProfile, ": ",
                                         result->status.ToString(), ": ", result->err));
}

absl::Status CheckAppArmorProfile(absl::string_view name, const std::string& root) {
  if (!IsOn(root)) {
    return absl::FailedPreconditionError(
        absl::StrCat("profile ", name, ": this host has no AppArmor"));
  }
  if (IsLoaded(name, root)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("profile ", name, ": is not loaded on this host; load it with apparmor_parser"));
}

}  // namespace gantry::runtime
