#include "supervisor/core/brief_containers.h"

#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

#include "base/status_macros.h"
#include "supervisor/core/container_intent.h"

namespace gantry::core {
namespace {

// Reads the stored bytes into `loaded.record`. What it held before is gone, the memory for it is
// used again.
void ReadRecord(const metadata::Scope& scope, absl::string_view id, absl::string_view bytes,
                LoadedContainer& loaded) {
  loaded.scope = scope;
  loaded.damaged = !loaded.record.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  if (loaded.damaged) {
    loaded.record.Clear();
    loaded.record.set_id(std::string(id));
  }
}

// The state is null if it is damaged, and one that says nothing if there is none.
absl::StatusOr<std::optional<record::v1::ContainerState>> ReadState(Stores& stores,
                                                                    const metadata::Scope& scope,
                                                                    absl::string_view id) {
  absl::StatusOr<std::optional<record::v1::ContainerState>> state =
      stores.containers.GetState(scope, id);
  if (absl::IsDataLoss(state.status())) return std::nullopt;
  if (state.ok() && !state->has_value()) state->emplace();
  return state;
}

absl::Status ReadStateAndName(Stores& stores, LoadedContainer& loaded) {
  GANTRY_ASSIGN_OR_RETURN(std::optional<record::v1::ContainerState> state,
                          ReadState(stores, loaded.scope, loaded.id()));
  loaded.damaged = loaded.damaged || !state.has_value();
  loaded.state = std::move(state).value_or(record::v1::ContainerState());
  GANTRY_ASSIGN_OR_RETURN(loaded.name, stores.names.NameOf(loaded.scope, loaded.id()));
  return absl::OkStatus();
}

using States = absl::flat_hash_map<std::string, std::optional<record::v1::ContainerState>>;

// Null: damaged.
absl::StatusOr<States> StatesOf(Stores& stores, const metadata::Scope& scope) {
  States states;
  GANTRY_RETURN_IF_ERROR(stores.containers.ListStates(
      scope, [&states](absl::string_view id, const record::v1::ContainerState* state) {
        auto& stored = states[id];
        if (state != nullptr) stored = *state;
        return absl::OkStatus();
      }));
  return states;
}

}  // namespace

void ReadBriefly(const metadata::Scope& scope, absl::string_view id, absl::string_view record,
                 LoadedContainer& loaded) {
  ReadRecord(scope, id, record, loaded);
  loaded.ours = ReadIntent(loaded.record, loaded.config);
  if (!loaded.ours) {
    loaded.config.Clear();
    loaded.config.set_image(loaded.record.image());
    *loaded.config.mutable_labels() = loaded.record.labels();
  }
  loaded.image_id.clear();
  const auto image = loaded.record.extensions().find(kImageExtension);
  record::v1::Descriptor target;
  if (image != loaded.record.extensions().end() && target.ParseFromString(image->second.value()))
    loaded.image_id = std::move(*target.mutable_digest());
}

absl::Status EachStored(Stores& stores, const std::string& ns,
                        const std::function<void(StoredContainer&)>& visit) {
  const metadata::Scope scope{ns, ""};
  GANTRY_ASSIGN_OR_RETURN(States states, StatesOf(stores, scope));
  absl::flat_hash_map<std::string, std::string> names;
  GANTRY_RETURN_IF_ERROR(stores.names.List(scope, [&names](const metadata::NamedContainer& named) {
    names.emplace(named.id, named.name);
    return absl::OkStatus();
  }));
  StoredContainer stored;
  return stores.containers.ListWithoutSpecs(
      scope, [&](absl::string_view id, absl::string_view bytes) -> absl::Status {
        stored.id = id;
        stored.record = bytes;
        std::optional<record::v1::ContainerState> state;
        const auto known = states.find(id);
        if (known == states.end()) {  // it was made since
          GANTRY_ASSIGN_OR_RETURN(state, ReadState(stores, scope, id));
          GANTRY_ASSIGN_OR_RETURN(stored.name, stores.names.NameOf(scope, id));
        } else {
          state = std::move(known->second);
          const auto name = names.find(id);
          stored.name = name == names.end() ? "" : std::move(name->second);
        }
        stored.state_damaged = !state.has_value();
        stored.state = std::move(state).value_or(record::v1::ContainerState());
        visit(stored);
        return absl::OkStatus();
      });
}

absl::Status EachBriefly(Stores& stores, const std::string& ns,
                         const std::function<void(LoadedContainer&)>& visit) {
  const metadata::Scope scope{ns, ""};
  LoadedContainer loaded;
  return EachStored(stores, ns, [&](StoredContainer& stored) {
    ReadBriefly(scope, stored.id, stored.record, loaded);
    loaded.damaged = loaded.damaged || stored.state_damaged;
    loaded.state.Swap(&stored.state);
    loaded.name.swap(stored.name);
    visit(loaded);
  });
}

absl::Status EachRecord(Stores& stores, const std::string& ns,
                        const std::function<void(LoadedContainer&)>& visit) {
  const metadata::Scope scope{ns, ""};
  GANTRY_ASSIGN_OR_RETURN(States states, StatesOf(stores, scope));
  LoadedContainer loaded;
  return stores.containers.ListWithoutSpecs(
      scope, [&](absl::string_view id, absl::string_view bytes) -> absl::Status {
        ReadRecord(scope, id, bytes, loaded);
        const auto state = states.find(id);
        if (state == states.end()) {  // it was made since
          GANTRY_RETURN_IF_ERROR(ReadStateAndName(stores, loaded));
          loaded.name.clear();
        } else {
          loaded.damaged = loaded.damaged || !state->second.has_value();
          loaded.state.Clear();
          if (state->second.has_value()) loaded.state.Swap(&*state->second);
        }
        visit(loaded);
        return absl::OkStatus();
      });
}

absl::StatusOr<std::vector<LoadedContainer>> AllBriefly(Stores& stores, const std::string& ns) {
  std::vector<LoadedContainer> all;
  GANTRY_RETURN_IF_ERROR(EachBriefly(
      stores, ns, [&all](LoadedContainer& loaded) { all.push_back(std::move(loaded)); }));
  return all;
}

absl::StatusOr<std::vector<LoadedContainer>> SomeBriefly(Stores& stores, const std::string& ns,
                                                         const std::vector<std::string>& ids) {
  const metadata::Scope scope{ns, ""};
  std::vector<LoadedContainer> some;
  some.reserve(ids.size());
  for (const std::string& id : ids) {
    const absl::StatusOr<std::string> bytes = stores.containers.GetWithoutSpec(scope, id);
    if (absl::IsNotFound(bytes.status())) continue;
    GANTRY_RETURN_IF_ERROR(bytes.status());
    LoadedContainer loaded;
    ReadBriefly(scope, id, *bytes, loaded);
    GANTRY_RETURN_IF_ERROR(ReadStateAndName(stores, loaded));
    some.push_back(std::move(loaded));
  }
  return some;
}

}  // namespace gantry::core
