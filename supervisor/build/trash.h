// Removes directories in the background: a build does not wait for the removal of what it no longer
// needs.
//
// A directory that is still waiting when the daemon ends is removed by the next one (Recover()).
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_BUILD_TRASH_H_
#define GANTRY_SUPERVISOR_BUILD_TRASH_H_

#include <deque>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace gantry::build {

class Trash {
 public:
  // What waits lies in `directory`, on the file system of what is taken.
  explicit Trash(std::string directory) : directory_(std::move(directory)) {}
  // Ends after the removal that is under way.
  ~Trash();
  Trash(const Trash&) = delete;
  Trash& operator=(const Trash&) = delete;

  // At start: takes everything that lies in the directory.
  void Recover();
  // The path is free at once. What cannot be moved is removed in place, before this returns.
  void Take(const std::string& path);
  // For tests: waits until nothing is left to remove.
  void Drain();

 private:
  void Add(std::string path);
  void Work();

  const std::string directory_;
  absl::Mutex mu_;
  std::deque<std::string> waiting_ ABSL_GUARDED_BY(mu_);
  bool busy_ ABSL_GUARDED_BY(mu_) = false;
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_TRASH_H_
