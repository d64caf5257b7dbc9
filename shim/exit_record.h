// What a returning supervisor must know about a container whose shim it can no longer ask: how the
// init process ended, and how far removal had come.
//
//   <bundle>/exit.json   ExitRecord, written aside and renamed before the exit is announced
//   <bundle>/deleted     empty; the runtime's state, the mounts and the cgroup are gone, only the bundle is left
//
// The bundle is on a tmpfs or other directory that a reboot empties, together with the processes it
// tells about: nothing is synced. Written by the shim, or by the supervisor for a shim that died.
#ifndef GANTRY_SHIM_EXIT_RECORD_H_
#define GANTRY_SHIM_EXIT_RECORD_H_

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace gantry::shim {

struct ExitRecord {
  std::string name_space;
  std::string id;
  pid_t pid = 0;
  uint32_t exit_status = 0;                      // exit code, or 128 + signal
  absl::Time started_at = absl::InfinitePast();  // InfinitePast: never started
  absl::Time exited_at = absl::InfinitePast();
  bool oom_killed = false;
  // Empty for an ordinary exit; otherwise why the status is not the process's own ("shim was
  // killed").
  std::string reason;

  friend bool operator==(const ExitRecord&, const ExitRecord&) = default;
};

std::string EncodeExitRecord(const ExitRecord& record);
// kDataLoss: not such a record.
absl::StatusOr<ExitRecord> DecodeExitRecord(absl::string_view json);

// kResourceExhausted and others: as the file system says; an older record is then still whole.
absl::Status WriteExitRecord(const std::string& bundle, const ExitRecord& record);
// kNotFound: the init process had not ended when the shim was last well. kDataLoss: damaged.
absl::StatusOr<ExitRecord> ReadExitRecord(const std::string& bundle);

absl::Status MarkDeleted(const std::string& bundle);
bool IsDeleted(const std::string& bundle);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_EXIT_RECORD_H_
