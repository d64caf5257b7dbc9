#include "supervisor/core/brief_containers.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "base/status_macros.h"
#include "supervisor/core/container_intent.h"

namespace gantry::core {
namespace {

bool ParseWithoutSpec(absl::string_view bytes, record::v1::Container& record) {
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()),
                                            static_cast<int>(bytes.size()));
  std::string rest;
  size_t from = 0;
  while (const uint32_t tag = in.ReadTag()) {
    const int field = google::protobuf::internal::WireFormatLite::GetTagFieldNumber(tag);
    if (!google::protobuf::internal::WireFormatLite::SkipField(&in, tag)) return false;
    const size_t to = static_cast<size_t>(in.CurrentPosition());
    if (field != record::v1::Container::kSpecFieldNumber)
      rest.append(bytes.data() + from, to - from);
    from = to;
  }
  return from == bytes.size() && record.ParseFromString(rest);
}

LoadedContainer FromBytes(const metadata::Scope& scope, absl::string_view id,
                          absl::string_view bytes) {
  LoadedContainer loaded;
  loaded.scope = scope;
  if (!ParseWithoutSpec(bytes, loaded.record)) {
    loaded.damaged = true;
    loaded.record.Clear();
    loaded.record.set_id(std::string(id));
  }
  if (std::optional<v1::ContainerConfig> config = ReadIntent(loaded.record)) {
    loaded.ours = true;
    loaded.config = *std::move(config);
  } else {
    loaded.config.set_image(loaded.record.image());
    *loaded.config.mutable_labels() = loaded.record.labels();
  }
  const auto image = loaded.record.extensions().find(kImageExtension);
  record::v1::Descriptor target;
  if (image != loaded.record.extensions().end() && target.ParseFromString(image->second.value()))
    loaded.image_id = target.digest();
  return loaded;
}

}  // namespace

absl::StatusOr<std::vector<LoadedContainer>> AllBriefly(Stores& stores, const std::string& ns) {
  const metadata::Scope scope{ns, ""};
  std::vector<LoadedContainer> all;
  absl::flat_hash_map<std::string, size_t> where;
  GANTRY_RETURN_IF_ERROR(
      stores.containers.ListRaw(scope, [&](absl::string_view id, absl::string_view bytes) {
        all.push_back(FromBytes(scope, id, bytes));
        where.emplace(id, all.size() - 1);
        return absl::OkStatus();
      }));
  GANTRY_RETURN_IF_ERROR(stores.containers.ListStates(
      scope, [&](absl::string_view id, const record::v1::ContainerState* state) {
        const auto it = where.find(id);
        if (it == where.end()) return absl::OkStatus();
        if (state != nullptr) {
          all[it->second].state = *state;
        } else {
          all[it->second].damaged = true;
        }
        return absl::OkStatus();
      }));
  GANTRY_RETURN_IF_ERROR(stores.names.List(scope, [&](const metadata::NamedContainer& named) {
    const auto it = where.find(named.id);
    if (it != where.end()) all[it->second].name = named.name;
    return absl::OkStatus();
  }));
  return all;
}

absl::StatusOr<std::vector<LoadedContainer>> SomeBriefly(Stores& stores, const std::string& ns,
                                                         const std::vector<std::string>& ids) {
  const metadata::Scope scope{ns, ""};
  std::vector<LoadedContainer> some;
  some.reserve(ids.size());
  for (const std::string& id : ids) {
    const absl::StatusOr<std::string> bytes = stores.containers.GetRaw(scope, id);
    if (absl::IsNotFound(bytes.status())) continue;
    GANTRY_RETURN_IF_ERROR(bytes.status());
    LoadedContainer loaded = FromBytes(scope, id, *bytes);
    absl::StatusOr<std::optional<record::v1::ContainerState>> state =
        stores.containers.GetState(scope, id);
    if (absl::IsDataLoss(state.status())) {
      loaded.damaged = true;
    } else {
      GANTRY_RETURN_IF_ERROR(state.status());
      if (state->has_value()) loaded.state = *std::move(*state);
    }
    GANTRY_ASSIGN_OR_RETURN(loaded.name, stores.names.NameOf(scope, id));
    some.push_back(std::move(loaded));
  }
  return some;
}

}  // namespace gantry::core
