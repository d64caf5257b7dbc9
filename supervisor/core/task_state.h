// One task as this daemon knows it, and the words for it in errors.
//
// Private to the task service. TaskCore has all of them; TaskChanges changes them.
#ifndef GANTRY_SUPERVISOR_CORE_TASK_STATE_H_
#define GANTRY_SUPERVISOR_CORE_TASK_STATE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"

#include "base/unique_fd.h"
#include "supervisor/core/event.h"
#include "supervisor/core/task_process.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {

constexpr absl::Duration kRuntimeCall = absl::Seconds(60);  // calls that run the OCI runtime
constexpr absl::Duration kShortCall = absl::Seconds(10);    // calls the shim answers by itself
constexpr absl::Duration kReapCall = absl::Seconds(10);  // cleaning up after a dead shim, one try

constexpr char kCheckpoint[] = "/checkpoint";  // in a bundle: what its task is restored from

absl::Time FromProto(const google::protobuf::Timestamp& at);

// "task "ID" in namespace "NS"", or of its exec.
std::string ProcessText(const runtime::TaskKey& key, const std::string& exec_id);
// The arguments of an OCI process document in one line; "" where it cannot be read.
std::string CommandOf(const std::string& process_json);
absl::Status NoSuchProcess(const runtime::TaskKey& key, const std::string& exec_id);

// The number of the newest event this supervisor has handled, kept in the bundle so that a
// successor republishes nothing and misses nothing. State is on tmpfs: a write costs microseconds.
class SeenEvents {
 public:
  static constexpr char kFile[] = "/events.seen";

  void Open(const std::string& bundle_path);
  uint64_t Read() const;
  void Write(uint64_t number);

 private:
  UniqueFd fd_;
};

// One task. `mu` guards what is known of it; it is held while events are published (which only
// fills queues), so that every subscriber sees the task's events in order. It is never held across
// a call to the shim.
struct Task {
  struct Known {
    Process process;
    std::string command;  // of an exec, in one line
    bool created_published = false;
    bool started_published = false;
    bool oom_published = false;
    bool exit_published = false;  // by this supervisor or its predecessor
    bool exit_told = false;       // by this supervisor
  };

  explicit Task(runtime::TaskKey task_key) : key(std::move(task_key)) {}

  const runtime::TaskKey key;

  mutable absl::Mutex mu;
  // What is under way for the whole task, "" for nothing: see TaskCore::Operation.
  std::string operation ABSL_GUARDED_BY(mu);
  // Null: it died, and what it left behind is being cleaned up.
  std::shared_ptr<runtime::Shim> shim ABSL_GUARDED_BY(mu);
  std::optional<runtime::Bundle> bundle ABSL_GUARDED_BY(mu);
  std::map<std::string, Known> processes ABSL_GUARDED_BY(mu);
  std::unique_ptr<runtime::EventStream> stream ABSL_GUARDED_BY(mu);
  std::string bundle_path ABSL_GUARDED_BY(mu);
  std::shared_ptr<const TaskSetup> setup ABSL_GUARDED_BY(mu);
  bool ready ABSL_GUARDED_BY(mu) = false;  // Create has succeeded; lists show it
  bool deleted ABSL_GUARDED_BY(mu) = false;
  bool to_follow ABSL_GUARDED_BY(mu) = false;  // Follow() has still to listen to its shim
  uint64_t history_until ABSL_GUARDED_BY(mu) =
      0;  // events up to here happened while no supervisor listened
  uint64_t applied_until ABSL_GUARDED_BY(mu) = 0;  // the shim's last event that was published
  SeenEvents seen ABSL_GUARDED_BY(mu);
  // Answers to pauses and resumes less their events: the later of the two says nothing new, and may
  // come when the next pause or resume has been done.
  int switches_ahead ABSL_GUARDED_BY(mu) = 0;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_TASK_STATE_H_
