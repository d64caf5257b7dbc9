// For which platforms this machine runs programs: its own, and those that the kernel hands to an
// emulator (binfmt_misc).
//
// A value; reads the kernel's table when it is made. Spec: Linux, admin-guide/binfmt-misc.
#ifndef GANTRY_SUPERVISOR_BUILD_EMULATION_H_
#define GANTRY_SUPERVISOR_BUILD_EMULATION_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

#include "content-store/descriptor.h"
#include "supervisor/build/build_plan.h"

namespace gantry::build {

class Emulation {
 public:
  // `table`: where binfmt_misc is mounted.
  explicit Emulation(content::Platform host, const std::string& table = "/proc/sys/fs/binfmt_misc");

  // True where programs of that platform run in a container of any image: natively, or by an
  // interpreter that the kernel holds open (flag F), since an image does not have it.
  bool Runs(const content::Platform& platform) const;

  // kFailedPrecondition: a stage that the target needs runs a command for a platform that this
  // machine does not run; the message says what to do.
  absl::Status Check(const BuildPlan& plan) const;
  absl::Status CheckRun(const BuildPlan& plan, const Stage& stage, int line) const;

 private:
  struct Interpreter {
    size_t offset = 0;
    std::string magic;
    std::string mask;
    bool held_open = false;
  };
  const content::Platform host_;
  const std::string table_;
  std::vector<Interpreter> interpreters_;
};

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_EMULATION_H_
