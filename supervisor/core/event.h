// Something that happened, in core's own words. Doors make the events of their APIs from it.
//
// Kinds, actions and attributes are docker's, because people read them. What other APIs have fields
// for beside that (process ids, mounts, labels of a record) stands in `facts`. Some steps have no
// docker event: they are marked low_level and only doors that show single steps deliver them.
//
// Values; an event on the bus is immutable.
#ifndef GANTRY_SUPERVISOR_CORE_EVENT_H_
#define GANTRY_SUPERVISOR_CORE_EVENT_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "snapshotter/mount.h"
#include "supervisor/core/caller.h"

namespace gantry::core {

enum class EventKind {
  kContainer,
  kImage,
  kNetwork,
  kVolume,
  kDaemon,
  // Low-level only:
  kContent,
  kSnapshot,
  kNamespace,
  kSandbox,
  // Published by a client in its own format; delivered to clients of that format only.
  kForeign,
};

// "container", "image", ...
absl::string_view EventKindName(EventKind kind);

// Actions that code compares. Others are written where they happen: "tag", "resize", ...
namespace action {
inline constexpr char kCreate[] = "create";
inline constexpr char kUpdate[] = "update";
inline constexpr char kDelete[] = "delete";
inline constexpr char kDestroy[] = "destroy";  // a container's record is gone
inline constexpr char kStart[] = "start";
inline constexpr char kDie[] = "die";
inline constexpr char kOom[] = "oom";
inline constexpr char kPause[] = "pause";
inline constexpr char kUnpause[] = "unpause";
inline constexpr char kCheckpoint[] = "checkpoint";
inline constexpr char kExecCreate[] = "exec_create";
inline constexpr char kExecStart[] = "exec_start";
inline constexpr char kExecDie[] = "exec_die";
inline constexpr char kHealthStatus[] = "health_status";
// Low-level only:
inline constexpr char kTaskCreate[] = "task_create";
inline constexpr char kTaskDelete[] = "task_delete";  // also of an exec
inline constexpr char kCommit[] = "commit";           // of a snapshot
inline constexpr char kExit[] = "exit";               // of a sandbox
inline constexpr char kRemove[] = "remove";           // of a snapshot, an image's record
}  // namespace action

// What a task was made of.
struct TaskSetup {
  std::string bundle;
  std::vector<snapshot::Mount> rootfs;
  std::string stdin_uri;
  std::string stdout_uri;
  std::string stderr_uri;
  bool terminal = false;
  std::string checkpoint;  // what it is restored from; "" for a fresh start
};

// Of start, die, oom, pause, checkpoint, exec_*, task_*.
struct ProcessFacts {
  std::string exec_id;  // "" for the container's own process
  int32_t pid = 0;
  uint32_t exit_status = 0;
  absl::Time exited_at = absl::InfinitePast();
  std::string checkpoint;                  // where a checkpoint was written
  std::shared_ptr<const TaskSetup> setup;  // of task_create
};

// Of a container's record that was created or updated.
struct ContainerFacts {
  std::string image;
  std::string snapshot_key;
  std::string runtime;
  std::string runtime_options_type_url;
  std::string runtime_options;
  std::map<std::string, std::string> labels;
};

// Of the record of an image or a namespace that was written or deleted.
struct RecordFacts {
  std::map<std::string, std::string> labels;
};

struct ContentFacts {
  int64_t size_bytes = 0;
};

struct SnapshotFacts {
  std::string snapshotter;
  std::string parent;  // of create
  std::string name;    // of commit: the key under which it is committed
};

struct SandboxFacts {
  absl::Time exited_at = absl::InfinitePast();
};

// An event as a client handed it in.
struct ForeignFacts {
  std::string topic;     // "/tasks/exit"
  std::string type_url;  // full message name: "containerd.events.TaskExit"
  std::string payload;   // the serialized message
};

struct Event {
  using Attributes = std::map<std::string, std::string>;

  Event() = default;
  Event(EventKind event_kind, absl::string_view event_action, absl::string_view event_id,
        Attributes event_attributes = {})
      : kind(event_kind),
        action(event_action),
        id(event_id),
        attributes(std::move(event_attributes)) {}

  uint64_t sequence = 0;  // 1, 2, ... for this run of the supervisor; the bus numbers
  absl::Time at;          // the bus notes it
  std::string ns;

  EventKind kind = EventKind::kContainer;
  std::string action;  // "start"
  std::string detail;  // what follows the action: the command of exec_create, the health status
  std::string id;      // of the object that it happened to
  // What belongs to this event. Name, image and labels of a container are added where the event is
  // read (event_subjects.h).
  Attributes attributes;
  bool low_level = false;
  // Who asked for it, of events that ask a process to end; null: the daemon itself, or not noted.
  // Not shown to clients.
  std::shared_ptr<const Caller> caller;
  std::variant<std::monostate, ProcessFacts, ContainerFacts, RecordFacts, ContentFacts,
               SnapshotFacts, SandboxFacts, ForeignFacts>
      facts;

  // "start", "exec_create: sh -c true".
  std::string ActionText() const;
  // Approximate memory use.
  size_t bytes() const;
};
using EventPtr = std::shared_ptr<const Event>;

// An event that only doors deliver which show single steps.
template <typename Facts = std::monostate>
Event LowLevelEvent(EventKind kind, absl::string_view action, absl::string_view id,
                    Facts facts = {}) {
  Event event(kind, action, id);
  event.low_level = true;
  event.facts = std::move(facts);
  return event;
}

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_EVENT_H_
