#include "supervisor/api/containerd/event_message.h"

#include <utility>
#include <variant>

#include "google/protobuf/descriptor.h"

#include "proto/containerd/events/container.pb.h"
#include "proto/containerd/events/content.pb.h"
#include "proto/containerd/events/image.pb.h"
#include "proto/containerd/events/namespace.pb.h"
#include "proto/containerd/events/sandbox.pb.h"
#include "proto/containerd/events/snapshot.pb.h"
#include "proto/containerd/events/task.pb.h"
#include "proto/containerd/services/events/v1/events.pb.h"
#include "supervisor/api/containerd/wire.h"

namespace gantry::api::containerd_api {
namespace {

namespace action = core::action;
namespace images = containerd::services::images::v1;
using core::Event;
using core::EventKind;
using google::protobuf::Message;

using MessagePtr = std::unique_ptr<Message>;
using Make = MessagePtr (*)(const Event&);

// Events have the facts of their kind and action; none at all reads like empty ones.
template <typename Facts>
const Facts& FactsIn(const Event& event) {
  static const Facts& none = *new Facts();  // NOLINT(cppcoreguidelines-owning-memory): for ever
  const Facts* facts = std::get_if<Facts>(&event.facts);
  return facts == nullptr ? none : *facts;
}

template <typename MapField>
void Fill(const std::map<std::string, std::string>& from, MapField* to) {
  to->insert(from.begin(), from.end());
}

MessagePtr ContainerCreate(const Event& event) {
  const auto& facts = FactsIn<core::ContainerFacts>(event);
  auto message = std::make_unique<containerd::events::ContainerCreate>();
  message->set_id(event.id);
  message->set_image(facts.image);
  message->mutable_runtime()->set_name(facts.runtime);
  if (!facts.runtime_options_type_url.empty()) {
    message->mutable_runtime()->mutable_options()->set_type_url(facts.runtime_options_type_url);
    message->mutable_runtime()->mutable_options()->set_value(facts.runtime_options);
  }
  return message;
}

MessagePtr ContainerUpdate(const Event& event) {
  const auto& facts = FactsIn<core::ContainerFacts>(event);
  auto message = std::make_unique<containerd::events::ContainerUpdate>();
  message->set_id(event.id);
  message->set_image(facts.image);
  message->set_snapshot_key(facts.snapshot_key);
  Fill(facts.labels, message->mutable_labels());
  return message;
}

MessagePtr ContainerDelete(const Event& event) {
  auto message = std::make_unique<containerd::events::ContainerDelete>();
  message->set_id(event.id);
  return message;
}

MessagePtr TaskCreate(const Event& event) {
  const auto& facts = FactsIn<core::ProcessFacts>(event);
  auto message = std::make_unique<containerd::events::TaskCreate>();
  message->set_container_id(event.id);
  message->set_pid(static_cast<uint32_t>(facts.pid));
  if (facts.setup == nullptr) return message;
  message->set_bundle(facts.setup->bundle);
  SetMounts(facts.setup->rootfs, message->mutable_rootfs());
  message->mutable_io()->set_stdin(facts.setup->stdin_uri);
  message->mutable_io()->set_stdout(facts.setup->stdout_uri);
  message->mutable_io()->set_stderr(facts.setup->stderr_uri);
  message->mutable_io()->set_terminal(facts.setup->terminal);
  message->set_checkpoint(facts.setup->checkpoint);
  return message;
}

MessagePtr TaskStart(const Event& event) {
  auto message = std::make_unique<containerd::events::TaskStart>();
  message->set_container_id(event.id);
  message->set_pid(static_cast<uint32_t>(FactsIn<core::ProcessFacts>(event).pid));
  return message;
}

// TaskExit and TaskDelete have the same fields.
template <typename Ended>
MessagePtr TaskEnded(const Event& event) {
  const auto& facts = FactsIn<core::ProcessFacts>(event);
  auto message = std::make_unique<Ended>();
  message->set_container_id(event.id);
  message->set_id(facts.exec_id.empty() ? event.id : facts.exec_id);
  message->set_pid(static_cast<uint32_t>(facts.pid));
  message->set_exit_status(facts.exit_status);
  SetTime(facts.exited_at, message->mutable_exited_at());
  return message;
}

MessagePtr ExecAdded(const Event& event) {
  auto message = std::make_unique<containerd::events::TaskExecAdded>();
  message->set_container_id(event.id);
  message->set_exec_id(FactsIn<core::ProcessFacts>(event).exec_id);
  return message;
}

MessagePtr ExecStarted(const Event& event) {
  const auto& facts = FactsIn<core::ProcessFacts>(event);
  auto message = std::make_unique<containerd::events::TaskExecStarted>();
  message->set_container_id(event.id);
  message->set_exec_id(facts.exec_id);
  message->set_pid(static_cast<uint32_t>(facts.pid));
  return message;
}

// TaskOOM, TaskPaused and TaskResumed name the container only.
template <typename Happened>
MessagePtr OfTask(const Event& event) {
  auto message = std::make_unique<Happened>();
  message->set_container_id(event.id);
  return message;
}

MessagePtr TaskCheckpointed(const Event& event) {
  auto message = std::make_unique<containerd::events::TaskCheckpointed>();
  message->set_container_id(event.id);
  message->set_checkpoint(FactsIn<core::ProcessFacts>(event).checkpoint);
  return message;
}

// A record with a name and labels was written.
template <typename Written>
MessagePtr RecordWritten(const Event& event) {
  auto message = std::make_unique<Written>();
  message->set_name(event.id);
  Fill(FactsIn<core::RecordFacts>(event).labels, message->mutable_labels());
  return message;
}

template <typename Deleted>
MessagePtr RecordDeleted(const Event& event) {
  auto message = std::make_unique<Deleted>();
  message->set_name(event.id);
  return message;
}

MessagePtr ContentCreate(const Event& event) {
  auto message = std::make_unique<containerd::events::ContentCreate>();
  message->set_digest(event.id);
  message->set_size(FactsIn<core::ContentFacts>(event).size_bytes);
  return message;
}

MessagePtr ContentDelete(const Event& event) {
  auto message = std::make_unique<containerd::events::ContentDelete>();
  message->set_digest(event.id);
  return message;
}

MessagePtr SnapshotPrepare(const Event& event) {
  const auto& facts = FactsIn<core::SnapshotFacts>(event);
  auto message = std::make_unique<containerd::events::SnapshotPrepare>();
  message->set_key(event.id);
  message->set_parent(facts.parent);
  message->set_snapshotter(facts.snapshotter);
  return message;
}

MessagePtr SnapshotCommit(const Event& event) {
  const auto& facts = FactsIn<core::SnapshotFacts>(event);
  auto message = std::make_unique<containerd::events::SnapshotCommit>();
  message->set_key(event.id);
  message->set_name(facts.name);
  message->set_snapshotter(facts.snapshotter);
  return message;
}

MessagePtr SnapshotRemove(const Event& event) {
  auto message = std::make_unique<containerd::events::SnapshotRemove>();
  message->set_key(event.id);
  message->set_snapshotter(FactsIn<core::SnapshotFacts>(event).snapshotter);
  return message;
}

template <typename Happened>
MessagePtr OfSandbox(const Event& event) {
  auto message = std::make_unique<Happened>();
  message->set_sandbox_id(event.id);
  return message;
}

MessagePtr SandboxExit(const Event& event) {
  auto message = std::make_unique<containerd::events::SandboxExit>();
  message->set_sandbox_id(event.id);
  SetTime(FactsIn<core::SandboxFacts>(event).exited_at, message->mutable_exited_at());
  return message;
}

struct Row {
  EventKind kind;
  const char* action;
  const char* topic;
  Make make;
};

constexpr Row kRows[] = {
    {EventKind::kContainer, action::kCreate, "/containers/create", ContainerCreate},
    {EventKind::kContainer, action::kUpdate, "/containers/update", ContainerUpdate},
    {EventKind::kContainer, action::kDestroy, "/containers/delete", ContainerDelete},
    {EventKind::kContainer, action::kTaskCreate, "/tasks/create", TaskCreate},
    {EventKind::kContainer, action::kStart, "/tasks/start", TaskStart},
    {EventKind::kContainer, action::kDie, "/tasks/exit", TaskEnded<containerd::events::TaskExit>},
    {EventKind::kContainer, action::kExecDie, "/tasks/exit",
     TaskEnded<containerd::events::TaskExit>},
    {EventKind::kContainer, action::kTaskDelete, "/tasks/delete",
     TaskEnded<containerd::events::TaskDelete>},
    {EventKind::kContainer, action::kExecCreate, "/tasks/exec-added", ExecAdded},
    {EventKind::kContainer, action::kExecStart, "/tasks/exec-started", ExecStarted},
    {EventKind::kContainer, action::kOom, "/tasks/oom", OfTask<containerd::events::TaskOOM>},
    {EventKind::kContainer, action::kPause, "/tasks/paused",
     OfTask<containerd::events::TaskPaused>},
    {EventKind::kContainer, action::kUnpause, "/tasks/resumed",
     OfTask<containerd::events::TaskResumed>},
    {EventKind::kContainer, action::kCheckpoint, "/tasks/checkpointed", TaskCheckpointed},
    {EventKind::kImage, action::kCreate, "/images/create", RecordWritten<images::ImageCreate>},
    {EventKind::kImage, action::kUpdate, "/images/update", RecordWritten<images::ImageUpdate>},
    {EventKind::kImage, action::kRemove, "/images/delete", RecordDeleted<images::ImageDelete>},
    {EventKind::kContent, action::kCreate, "/content/create", ContentCreate},
    {EventKind::kContent, action::kDelete, "/content/delete", ContentDelete},
    {EventKind::kSnapshot, action::kCreate, "/snapshot/prepare", SnapshotPrepare},
    {EventKind::kSnapshot, action::kCommit, "/snapshot/commit", SnapshotCommit},
    {EventKind::kSnapshot, action::kRemove, "/snapshot/remove", SnapshotRemove},
    {EventKind::kNamespace, action::kCreate, "/namespaces/create",
     RecordWritten<containerd::events::NamespaceCreate>},
    {EventKind::kNamespace, action::kUpdate, "/namespaces/update",
     RecordWritten<containerd::events::NamespaceUpdate>},
    {EventKind::kNamespace, action::kDelete, "/namespaces/delete",
     RecordDeleted<containerd::events::NamespaceDelete>},
    {EventKind::kSandbox, action::kCreate, "/sandboxes/create",
     OfSandbox<containerd::events::SandboxCreate>},
    {EventKind::kSandbox, action::kStart, "/sandboxes/start",
     OfSandbox<containerd::events::SandboxStart>},
    {EventKind::kSandbox, action::kExit, "/sandboxes/exit", SandboxExit},
};

const Row* RowOf(const Event& event) {
  for (const Row& row : kRows) {
    if (row.kind == event.kind && event.action == row.action) return &row;
  }
  return nullptr;
}

MessagePtr Decode(const core::ForeignFacts& facts) {
  const google::protobuf::Descriptor* type =
      google::protobuf::DescriptorPool::generated_pool()->FindMessageTypeByName(
          facts.type_url.substr(facts.type_url.rfind('/') + 1));
  if (type == nullptr) return nullptr;
  const Message* prototype =
      google::protobuf::MessageFactory::generated_factory()->GetPrototype(type);
  if (prototype == nullptr) return nullptr;
  MessagePtr message(prototype->New());
  if (!message->ParseFromString(facts.payload)) return nullptr;
  return message;
}

}  // namespace

absl::string_view TopicOf(const Event& event) {
  if (const auto* foreign = std::get_if<core::ForeignFacts>(&event.facts)) return foreign->topic;
  const Row* row = RowOf(event);
  return row == nullptr ? absl::string_view() : row->topic;
}

MessagePtr PayloadOf(const Event& event) {
  if (const auto* foreign = std::get_if<core::ForeignFacts>(&event.facts)) return Decode(*foreign);
  const Row* row = RowOf(event);
  return row == nullptr ? nullptr : row->make(event);
}

bool FillEnvelope(const Event& event, containerd::types::Envelope& envelope) {
  const absl::string_view topic = TopicOf(event);
  if (topic.empty()) return false;
  envelope.Clear();
  SetTime(event.at, envelope.mutable_timestamp());
  envelope.set_namespace_(event.ns);
  envelope.set_topic(std::string(topic));
  if (const auto* foreign = std::get_if<core::ForeignFacts>(&event.facts)) {
    envelope.mutable_event()->set_type_url(foreign->type_url);
    envelope.mutable_event()->set_value(foreign->payload);
  } else {
    *envelope.mutable_event() = AnyOf(*PayloadOf(event));
  }
  return true;
}

}  // namespace gantry::api::containerd_api
