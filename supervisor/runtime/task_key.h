// Names one task (and its bundle and shim): a containerd namespace and a container id in it.
//
// Value type; immutable once made. Ids are checked where they enter the daemon and again by
// BundleStore, which makes paths of them.
#ifndef GANTRY_SUPERVISOR_RUNTIME_TASK_KEY_H_
#define GANTRY_SUPERVISOR_RUNTIME_TASK_KEY_H_

#include <compare>
#include <string>
#include <utility>

namespace gantry::runtime {

struct TaskKey {
  std::string ns;
  std::string container_id;

  // "ns/container_id", for messages and logs.
  std::string ToString() const { return ns + "/" + container_id; }

  friend bool operator==(const TaskKey&, const TaskKey&) = default;
  friend auto operator<=>(const TaskKey&, const TaskKey&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const TaskKey& key) {
    return H::combine(std::move(state), key.ns, key.container_id);
  }
};

}  // namespace gantry::runtime

#endif  // GANTRY_SUPERVISOR_RUNTIME_TASK_KEY_H_
