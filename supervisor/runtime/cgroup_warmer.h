// Pays the kernel's price for moving a process between cgroups ahead of time.
//
// The first write to any cgroup.procs after a pause waits for a grace period of the whole machine
// (6 ms typically); the writes that follow within some milliseconds are cheap. A request that will
// end in a container starting, or an exec, calls Poke() first: a background thread then rewrites
// the daemon's own pid into the cgroup it is in already (nothing moves), and the runtime's write, a
// few milliseconds later, finds the lock cheap. It repeats the write, now cheap, for half a second
// more: what is started within that time after another start does not wait at all.
//
// Thread-safe; Poke() never blocks. Where no cgroup.procs may be written it does nothing.
#ifndef GANTRY_SUPERVISOR_RUNTIME_CGROUP_WARMER_H_
#define GANTRY_SUPERVISOR_RUNTIME_CGROUP_WARMER_H_

#include <cstdint>
#include <memory>
#include <string>

namespace gantry::runtime {

class CgroupWarmer {
 public:
  // `procs_file` is found by itself when empty.
  explicit CgroupWarmer(std::string procs_file = "");
  ~CgroupWarmer();
  CgroupWarmer(const CgroupWarmer&) = delete;
  CgroupWarmer& operator=(const CgroupWarmer&) = delete;

  void Poke();
  // Writes made so far. However often it is poked, there are no more than one in 6 ms.
  uint64_t writes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace gantry::runtime

#endif  // GANTRY_SUPERVISOR_RUNTIME_CGROUP_WARMER_H_
