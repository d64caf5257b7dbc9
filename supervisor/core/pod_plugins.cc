// Plugins of NRI: what they are asked about pods and their containers, and what they ask for.
#include "supervisor/core/pod_plugins.h"

#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include <nlohmann/json.hpp>

#include "base/cancel_token.h"
#include "base/status_macros.h"
#include "supervisor/core/pod_containers.h"
#include "supervisor/core/pod_entry.h"
#include "supervisor/core/pod_view.h"
#include "supervisor/core/proto_time.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"

namespace gantry::core {
namespace {

namespace wire = nri::wire;
using Round = nri::Plugins::Round;

// Of what plugins ask for on the side: nobody waits longer for it.
constexpr absl::Duration kPluginPatience = absl::Seconds(10);
constexpr uint32_t kStartRefused = 128;

std::optional<Process> TaskOf(const TaskView& tasks, const std::string& ns, const std::string& id) {
  absl::StatusOr<Process> task = tasks.Get(ns, id, "");
  return task.ok() ? std::optional<Process>(*std::move(task)) : std::nullopt;
}

}  // namespace

// The one who says that a container has ended; others who come meanwhile wait until it was said.
struct PodContainers::Ending {
  absl::Notification said;
};

std::unique_ptr<PodService::PluginRound> PodService::BeginMaking() const {
  if (parts_.plugins == nullptr) return nullptr;
  return std::make_unique<PluginRound>(*parts_.plugins, Round::Of::kMaking);
}
std::unique_ptr<PodService::PluginRound> PodService::BeginEnding() const {
  if (parts_.plugins == nullptr) return nullptr;
  return std::make_unique<PluginRound>(*parts_.plugins, Round::Of::kEnding);
}

wire::PodSandbox PodService::ViewForPlugins(const Entry& entry) const {
  const std::optional<Process> init =
      TaskOf(parts_.tasks->view(), entry.key.first, entry.key.second);
  return ViewOfPod(View(entry), Directory(entry.key), init.has_value() ? init->pid : 0);
}

wire::PodSandbox PodService::PodForPlugins(const CallContext& context,
                                           const std::string& pod) const {
  const absl::StatusOr<EntryPtr> entry = Find(context, pod);
  if (entry.ok()) return ViewForPlugins(**entry);
  wire::PodSandbox unknown;
  unknown.set_id(pod);
  return unknown;
}

void PodService::StartPlugins() {
  if (parts_.plugins == nullptr) return;
  nri::Plugins::Host host;
  host.list = [this](std::vector<wire::PodSandbox>& pods,
                     std::vector<wire::Container>& containers) {
    ListForPlugins(pods, containers);
  };
  host.update = [this](const wire::ContainerUpdate& update) {
    return containers_->ApplyUpdate(update);
  };
  host.evict = [this](const wire::ContainerEviction& eviction) -> absl::Status {
    CancelToken limit(2 * kPluginPatience);
    CallContext context;
    context.cancel = &limit;
    GANTRY_ASSIGN_OR_RETURN(context.ns, containers_->NamespaceOf(eviction.container_id()));
    return containers_->Stop(context, eviction.container_id(), absl::ZeroDuration());
  };
  parts_.plugins->Start(std::move(host));
}

void PodService::ListForPlugins(std::vector<wire::PodSandbox>& pods,
                                std::vector<wire::Container>& containers) const {
  std::vector<EntryPtr> entries;
  std::set<std::string> namespaces;
  {
    absl::MutexLock lock(&mu_);
    for (const auto& [key, entry] : pods_) entries.push_back(entry);
  }
  for (const EntryPtr& entry : entries) {
    {
      absl::MutexLock lock(&entry->mu);
      if (entry->phase != Entry::Phase::kReady && entry->phase != Entry::Phase::kStopping) continue;
    }
    namespaces.insert(entry->key.first);
    pods.push_back(ViewForPlugins(*entry));
  }
  for (const std::string& ns : namespaces) {
    CallContext context;
    context.ns = ns;
    const absl::StatusOr<std::vector<LoadedContainer>> all = containers_->ListWhole(context);
    LOG_IF(ERROR, !all.ok()) << "NRI: ns=" << ns << " " << all.status();
    if (!all.ok()) continue;
    for (const LoadedContainer& one : *all) {
      wire::Container view = ViewOfContainer(one, TaskOf(parts_.tasks->view(), ns, one.id()));
      // Plugins manage what uses something.
      if (view.state() == wire::CONTAINER_STOPPED || view.state() == wire::CONTAINER_UNKNOWN)
        continue;
      containers.push_back(std::move(view));
    }
  }
}

absl::StatusOr<std::string> PodContainers::NamespaceOf(const std::string& container) const {
  for (const std::string& ns : pods_.Namespaces()) {
    CallContext context;
    context.ns = ns;
    const absl::StatusOr<LoadedContainer> found = Load(context, container);
    if (found.ok() && found->id() == container) return ns;
  }
  return absl::NotFoundError(absl::StrCat("container ", container, ": not found"));
}

absl::Status PodContainers::ApplyUpdate(const wire::ContainerUpdate& update) {
  CancelToken limit(kPluginPatience);
  CallContext context;
  context.cancel = &limit;
  GANTRY_ASSIGN_OR_RETURN(context.ns, NamespaceOf(update.container_id()));
  GANTRY_ASSIGN_OR_RETURN(const oci::Resources change,
                          FromPluginResources(update.linux().resources()));
  return ChangeLimits(context, update.container_id(), change, /*extension=*/nullptr);
}

absl::Status PodContainers::ApplyUpdates(const std::vector<wire::ContainerUpdate>& updates) {
  for (const wire::ContainerUpdate& update : updates) {
    const absl::Status done = ApplyUpdate(update);
    if (done.ok()) continue;
    if (!update.ignore_failure()) return done;
    LOG(WARNING) << "NRI: update of container " << update.container_id() << ": " << done;
  }
  return absl::OkStatus();
}

void PodContainers::Evict(const std::vector<wire::ContainerEviction>& evictions) {
  for (const wire::ContainerEviction& eviction : evictions) {
    // It may wait for what the caller holds.
    parts_.plugins->Later([this, id = eviction.container_id(), reason = eviction.reason()] {
      CancelToken limit(2 * kPluginPatience);
      CallContext context;
      context.cancel = &limit;
      absl::StatusOr<std::string> ns = NamespaceOf(id);
      absl::Status ended = ns.status();
      if (ns.ok()) {
        context.ns = *ns;
        ended = Stop(context, id, absl::ZeroDuration());
      }
      LOG(INFO) << "NRI: a plugin ends container " << id << " (" << reason << "): " << ended;
    });
  }
}

absl::Status PodService::AskToRun(PluginRound* round, Entry& entry) const {
  if (round == nullptr || round->round.empty()) return absl::OkStatus();
  {
    // From here on plugins know of it, also where one of them refuses.
    absl::MutexLock lock(&entry.mu);
    entry.shown_to_plugins = true;
  }
  return round->round.RunPodSandbox(ViewForPlugins(entry));
}

void PodService::TellStopped(Entry& entry) const {
  const std::unique_ptr<PluginRound> round = BeginEnding();
  if (round == nullptr || round->round.empty()) return;
  {
    absl::MutexLock lock(&entry.mu);
    if (!entry.shown_to_plugins || entry.stop_told) return;
    entry.stop_told = true;
  }
  round->round.StopPodSandbox(ViewForPlugins(entry));
}

void PodService::TellRemoved(PluginRound* round, const Entry& entry) const {
  if (round == nullptr || round->round.empty()) return;
  {
    absl::MutexLock lock(&entry.mu);
    if (!entry.shown_to_plugins) return;
  }
  round->round.RemovePodSandbox(ViewForPlugins(entry));
}

absl::Status PodService::Update(const CallContext& context, absl::string_view id,
                                const oci::Resources& overhead, const oci::Resources& resources) {
  GANTRY_ASSIGN_OR_RETURN(const EntryPtr entry, Find(context, id));
  const std::unique_ptr<PluginRound> round = BeginMaking();
  if (round == nullptr || round->round.empty()) return absl::OkStatus();
  const wire::PodSandbox pod = ViewForPlugins(*entry);
  GANTRY_RETURN_IF_ERROR(round->round.UpdatePodSandbox(pod, ToPluginResources(overhead),
                                                       ToPluginResources(resources)));
  round->round.PostUpdatePodSandbox(pod);
  return absl::OkStatus();
}

absl::Status PodContainers::AskToCreate(PluginRound& round, const Entry& entry,
                                        const PodContainer& container, const std::string& id,
                                        oci::RuntimeSpec& spec, std::vector<std::string>& cdi) {
  GANTRY_ASSIGN_OR_RETURN(
      nri::Plugins::Created created,
      round.round.CreateContainer(pods_.ViewForPlugins(entry),
                                  ViewOfNewContainer(container, id, entry.key.second),
                                  spec.document()));
  // What they set is held to the rules of what a client sets.
  if (const nlohmann::json& document = spec.document();
      document.contains("linux") && document["linux"].contains("resources")) {
    GANTRY_ASSIGN_OR_RETURN(const oci::Resources limits,
                            oci::ResourcesFromJson(document["linux"]["resources"]));
    GANTRY_RETURN_IF_ERROR(oci::CheckResources(limits));
  }
  cdi = std::move(created.cdi_devices);
  GANTRY_RETURN_IF_ERROR(ApplyUpdates(created.updates));
  Evict(created.evictions);
  return absl::OkStatus();
}

void PodContainers::TellCreated(const CallContext& context, PluginRound* round, const Entry& entry,
                                const std::string& id) const {
  if (round == nullptr || round->round.empty()) return;
  const absl::StatusOr<LoadedContainer> loaded = Load(context, id);
  if (!loaded.ok()) return;  // it was removed at once
  round->round.PostCreateContainer(pods_.ViewForPlugins(entry),
                                   ViewOfContainer(*loaded, std::nullopt));
}

void PodContainers::TellNotCreated(PluginRound& round, const Entry& entry,
                                   const PodContainer& container, const std::string& id) const {
  const wire::PodSandbox pod = pods_.ViewForPlugins(entry);
  const wire::Container view = ViewOfNewContainer(container, id, entry.key.second);
  (void)round.round.StopContainer(pod, view);
  round.round.RemoveContainer(pod, view);
}

absl::Status PodContainers::AskToStart(const CallContext& context, PluginRound* round,
                                       const LoadedContainer& loaded) const {
  if (round == nullptr || round->round.empty()) return absl::OkStatus();
  return round->round.StartContainer(pods_.PodForPlugins(context, loaded.record.sandbox()),
                                     ViewOfContainer(loaded, std::nullopt));
}

void PodContainers::TellStarted(const CallContext& context, PluginRound* round,
                                const std::string& id) const {
  if (round == nullptr || round->round.empty()) return;
  const absl::StatusOr<LoadedContainer> loaded = Load(context, id);
  if (!loaded.ok()) return;  // it was removed at once
  round->round.PostStartContainer(
      pods_.PodForPlugins(context, loaded->record.sandbox()),
      ViewOfContainer(*loaded, TaskOf(parts_.tasks->view(), context.ns, id)));
}

absl::Status PodContainers::NoteStartRefused(const CallContext& context, const std::string& id,
                                             const absl::Status& why) {
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded, parts_.records->LoadLocked(context, id, lock));
  return parts_.records->UpdateState(loaded, [&why](record::v1::ContainerState& state) {
    if (state.status() != record::v1::ContainerState::CREATED) return;
    state.set_status(record::v1::ContainerState::STOPPED);
    state.set_error(std::string(why.message()));
    state.set_exit_code(kStartRefused);
    SetTimestamp(absl::Now(), state.mutable_finished_at());
  });
}

void PodContainers::TellEnded(const CallContext& context, const LoadedContainer& loaded) {
  const std::unique_ptr<PluginRound> round = pods_.BeginEnding();
  if (round == nullptr || round->round.empty()) return;
  const Key key(context.ns, loaded.id());
  std::shared_ptr<Ending> ending;
  bool first = false;
  {
    absl::MutexLock lock(&mu_);
    std::shared_ptr<Ending>& place = endings_[key];
    first = place == nullptr;
    if (first) place = std::make_shared<Ending>();
    ending = place;
  }
  if (!first) {
    ending->said.WaitForNotificationWithTimeout(kPluginPatience);
    return;
  }
  const std::vector<wire::ContainerUpdate> updates = round->round.StopContainer(
      pods_.PodForPlugins(context, loaded.record.sandbox()),
      ViewOfContainer(loaded, TaskOf(parts_.tasks->view(), context.ns, loaded.id())));
  for (const wire::ContainerUpdate& update : updates) {
    const absl::Status done = ApplyUpdate(update);
    LOG_IF(WARNING, !done.ok()) << "NRI: update of container " << update.container_id()
                                << " after the end of another: " << done;
  }
  ending->said.Notify();
}

void PodContainers::TellRemoved(const CallContext& context, PluginRound* round,
                                const LoadedContainer& loaded) {
  if (round == nullptr) return;
  if (!round->round.empty()) {
    round->round.RemoveContainer(pods_.PodForPlugins(context, loaded.record.sandbox()),
                                 ViewOfContainer(loaded, std::nullopt));
  }
  absl::MutexLock lock(&mu_);
  endings_.erase(Key(context.ns, loaded.id()));
}

void PodContainers::OnExit(const std::string& ns, const std::string& container) {
  if (parts_.plugins == nullptr) return;
  {
    // Nobody is there to be told, and most containers are not of pods.
    Round round(*parts_.plugins, Round::Of::kEnding);
    if (round.empty()) return;
  }
  parts_.plugins->Later([this, ns, container] {
    CallContext context;
    context.ns = ns;
    const absl::StatusOr<LoadedContainer> loaded = Load(context, container);
    if (loaded.ok()) TellEnded(context, *loaded);
  });
}

absl::StatusOr<oci::Resources> PodContainers::AskToUpdate(const CallContext& context,
                                                          PluginRound* round,
                                                          const LoadedContainer& loaded,
                                                          const oci::Resources& change) {
  if (round == nullptr || round->round.empty()) return change;
  GANTRY_ASSIGN_OR_RETURN(
      const nri::Plugins::Updated updated,
      round->round.UpdateContainer(
          pods_.PodForPlugins(context, loaded.record.sandbox()),
          ViewOfContainer(loaded, TaskOf(parts_.tasks->view(), context.ns, loaded.id())),
          ToPluginResources(change)));
  GANTRY_RETURN_IF_ERROR(ApplyUpdates(updated.updates));
  Evict(updated.evictions);
  return FromPluginResources(updated.resources);
}

void PodContainers::TellUpdated(const CallContext& context, PluginRound* round,
                                const std::string& id) const {
  if (round == nullptr || round->round.empty()) return;
  const absl::StatusOr<LoadedContainer> loaded = Load(context, id);
  if (!loaded.ok()) return;
  round->round.PostUpdateContainer(
      pods_.PodForPlugins(context, loaded->record.sandbox()),
      ViewOfContainer(*loaded, TaskOf(parts_.tasks->view(), context.ns, id)));
}

}  // namespace gantry::core
