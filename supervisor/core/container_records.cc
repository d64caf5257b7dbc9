#include "supervisor/core/container_records.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "base/utf8.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/container_intent.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/record_facts.h"
#include "supervisor/metadata/filter.h"

namespace gantry::core {
namespace {

void MakeText(std::string& text) {
  if (!IsValidUtf8(text)) text = ToValidUtf8(text);
}

bool AsksForAnEnd(absl::string_view action) {
  return action == "kill" || action == "stop" || action == "restart";
}

}  // namespace

void ContainerRecords::ReadIntent(LoadedContainer& loaded) {
  if (std::optional<v1::ContainerConfig> config = core::ReadIntent(loaded.record)) {
    loaded.ours = true;
    loaded.config = *std::move(config);
  }
  auto image = loaded.record.extensions().find(kImageExtension);
  record::v1::Descriptor target;
  if (image != loaded.record.extensions().end() && target.ParseFromString(image->second.value())) {
    loaded.image_id = target.digest();
  }
  if (!loaded.ours) {
    loaded.config.set_image(loaded.record.image());
    *loaded.config.mutable_labels() = loaded.record.labels();
  }
}

absl::StatusOr<LoadedContainer> ContainerRecords::Load(const CallContext& context,
                                                       absl::string_view container) {
  LoadedContainer loaded;
  loaded.scope = metadata::Scope{context.ns, ""};
  loaded.caller = context.caller;
  Stores& stores = *parts_.stores;
  GANTRY_ASSIGN_OR_RETURN(metadata::NamedContainer found,
                          stores.names.Resolve(loaded.scope, container));
  loaded.name = found.name;
  absl::StatusOr<record::v1::Container> record = stores.containers.Get(loaded.scope, found.id);
  if (absl::IsDataLoss(record.status())) {
    loaded.damaged = true;
    loaded.record.set_id(found.id);
  } else {
    GANTRY_ASSIGN_OR_RETURN(loaded.record, std::move(record));
  }
  absl::StatusOr<std::optional<record::v1::ContainerState>> state =
      stores.containers.GetState(loaded.scope, found.id);
  if (absl::IsDataLoss(state.status())) {
    loaded.damaged = true;
  } else {
    GANTRY_RETURN_IF_ERROR(state.status());
    if (state->has_value()) loaded.state = *std::move(*state);
  }
  ReadIntent(loaded);
  return loaded;
}

absl::StatusOr<LoadedContainer> ContainerRecords::LoadLocked(const CallContext& context,
                                                             absl::string_view container,
                                                             OperationLock& lock,
                                                             Interruptible interruptible) {
  GANTRY_ASSIGN_OR_RETURN(metadata::NamedContainer found,
                          parts_.stores->names.Resolve(metadata::Scope{context.ns, ""}, container));
  GANTRY_ASSIGN_OR_RETURN(lock,
                          locks_.Acquire(context.ns, found.id, context.cancel, interruptible));
  return Load(context, found.id);
}

absl::Status ContainerRecords::CheckReadable(const LoadedContainer& loaded) {
  if (!loaded.damaged) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("container ", loaded.id(), ": its record is damaged; it can only be removed"));
}

absl::Status ContainerRecords::UpdateState(
    LoadedContainer& loaded, const std::function<void(record::v1::ContainerState&)>& change,
    metadata::Durability durability) {
  GANTRY_ASSIGN_OR_RETURN(loaded.state, parts_.stores->containers.UpdateState(
                                            loaded.scope, loaded.id(),
                                            [&change](record::v1::ContainerState& state) {
                                              change(state);
                                              // They quote names of files and programs, and one
                                              // byte that is no text makes a damaged record.
                                              MakeText(*state.mutable_error());
                                              MakeText(*state.mutable_removal_waits_for());
                                              return absl::OkStatus();
                                            },
                                            durability));
  NoteState(loaded.scope.ns, loaded.id(), loaded.state);
  return absl::OkStatus();
}

void ContainerRecords::NoteState(const std::string& ns, const std::string& id,
                                 const record::v1::ContainerState& state) {
  // What waits no more is dropped by the next look: of two states that are noted at the same time
  // it is not known here which one is stored.
  if (!state.has_restart_at()) return;
  absl::MutexLock lock(&waiting_mu_);
  waiting_[{ns, id}] = ++notices_;
}

absl::StatusOr<std::vector<std::string>> ContainerRecords::WaitingToRestart(const std::string& ns) {
  std::vector<std::pair<std::string, uint64_t>> noted;
  {
    absl::MutexLock lock(&waiting_mu_);
    for (const auto& [key, notice] : waiting_) {
      if (key.first == ns) noted.emplace_back(key.second, notice);
    }
  }
  std::vector<std::string> waiting;
  for (auto& [id, notice] : noted) {
    const absl::StatusOr<std::optional<record::v1::ContainerState>> state =
        parts_.stores->containers.GetState({ns, ""}, id);
    if (!state.ok() && !absl::IsDataLoss(state.status())) return state.status();
    if (state.ok() && state->has_value() && (*state)->has_restart_at()) {
      waiting.push_back(std::move(id));
      continue;
    }
    absl::MutexLock lock(&waiting_mu_);
    const auto it = waiting_.find(std::pair(ns, id));
    if (it != waiting_.end() && it->second == notice) waiting_.erase(it);
  }
  return waiting;
}

absl::StatusOr<std::string> ContainerRecords::ResolveId(const CallContext& context,
                                                        absl::string_view container) {
  GANTRY_ASSIGN_OR_RETURN(metadata::NamedContainer found,
                          parts_.stores->names.Resolve(metadata::Scope{context.ns, ""}, container));
  return found.id;
}

void ContainerRecords::Publish(const LoadedContainer& loaded, absl::string_view action,
                               const std::map<std::string, std::string>& attributes) {
  Event event(EventKind::kContainer, action, loaded.id(), attributes);
  if (action == action::kUpdate) event.facts = FactsOfRecord(loaded.record);
  if (*loaded.caller.door != '\0' && AsksForAnEnd(action)) {
    Caller caller = loaded.caller;
    FindProgram(caller);
    event.caller = std::make_shared<const Caller>(std::move(caller));
  }
  parts_.events->Publish(loaded.scope.ns, std::move(event));
}

std::string ContainerRecords::Directory(const std::string& ns, const std::string& id) const {
  return absl::StrCat(parts_.root_directory, "/containers/", ns, "/", id);
}

std::string ContainerRecords::GeneratedDirectory(const std::string& ns, const std::string& id,
                                                 const v1::ContainerConfig& config) const {
  if (!config.auto_remove()) return Directory(ns, id);
  return absl::StrCat(parts_.state_directory, "/containers/", ns, "/", id);
}

}  // namespace gantry::core
