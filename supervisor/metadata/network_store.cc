#include "supervisor/metadata/network_store.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"
#include "supervisor/metadata/key_space.h"
#include "supervisor/metadata/validate.h"

namespace gantry::metadata {
namespace {

// A key that every change of networks and places takes: choices look at all of them.
constexpr absl::string_view kChoice = "network_choice";

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("network record ", what, " does not parse"));
}

absl::StatusOr<StoredNetwork> ParseNetwork(absl::string_view ns, absl::string_view value) {
  StoredNetwork network;
  network.ns = std::string(ns);
  if (!network.record.ParseFromArray(value.data(), static_cast<int>(value.size())) ||
      !network.settings.ParseFromString(network.record.settings().value()))
    return Damaged(ns);
  return network;
}

absl::StatusOr<StoredEndpoint> ParseEndpoint(absl::string_view ns, absl::string_view network_id,
                                             absl::string_view value) {
  StoredEndpoint endpoint;
  endpoint.ns = std::string(ns);
  endpoint.network_id = std::string(network_id);
  if (!endpoint.record.ParseFromArray(value.data(), static_cast<int>(value.size())))
    return Damaged(network_id);
  return endpoint;
}

absl::StatusOr<StoredNetns> ParseNetns(absl::string_view ns, absl::string_view value) {
  StoredNetns netns;
  netns.ns = std::string(ns);
  if (!netns.record.ParseFromArray(value.data(), static_cast<int>(value.size())))
    return absl::DataLossError(
        absl::StrCat("record of a network namespace of ", ns, " does not parse"));
  return netns;
}

std::string Serialize(const StoredNetwork& network) {
  record::v1::Network record = network.record;
  record.mutable_settings()->set_type_url("gantry.record.v1.NetworkSettings");
  record.mutable_settings()->set_value(network.settings.SerializeAsString());
  return record.SerializeAsString();
}

// Everything below a prefix, sorted into the two kinds. `Source` is a ReadView or a Transaction.
template <typename Source>
absl::Status Scan(Source& source, absl::string_view prefix, std::vector<StoredNetwork>* networks,
                  std::vector<StoredEndpoint>* endpoints) {
  return source.Scan(Family::kNetworks, prefix,
                     [&](absl::string_view key, absl::string_view value) -> absl::Status {
                       const std::vector<absl::string_view> parts = absl::StrSplit(key, kSeparator);
                       if (parts.size() == 2 && networks != nullptr) {
                         GANTRY_ASSIGN_OR_RETURN(StoredNetwork network,
                                                 ParseNetwork(parts[0], value));
                         networks->push_back(std::move(network));
                       } else if (parts.size() == 3 && endpoints != nullptr) {
                         GANTRY_ASSIGN_OR_RETURN(StoredEndpoint endpoint,
                                                 ParseEndpoint(parts[0], parts[1], value));
                         endpoints->push_back(std::move(endpoint));
                       }
                       return absl::OkStatus();
                     });
}

template <typename Source>
absl::StatusOr<std::vector<StoredNetns>> ScanNetns(Source& source) {
  std::vector<StoredNetns> all;
  GANTRY_RETURN_IF_ERROR(
      source.Scan(Family::kNetworkNamespaces, "",
                  [&](absl::string_view key, absl::string_view value) -> absl::Status {
                    GANTRY_ASSIGN_OR_RETURN(StoredNetns one,
                                            ParseNetns(key.substr(0, key.find(kSeparator)), value));
                    all.push_back(std::move(one));
                    return absl::OkStatus();
                  }));
  return all;
}

}  // namespace

absl::StatusOr<StoredNetwork> NetworkStore::Find(const Scope& scope, absl::string_view text) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredNetwork> all, List(scope.ns));
  std::vector<const StoredNetwork*> begins;
  for (const StoredNetwork& one : all) {
    if (one.record.id() == text) return one;
  }
  for (const StoredNetwork& one : all) {
    if (one.record.name() == text) return one;
    if (!text.empty() && absl::StartsWith(one.record.id(), text)) begins.push_back(&one);
  }
  if (begins.size() == 1) return *begins.front();
  if (begins.empty()) return absl::NotFoundError(absl::StrCat("network ", text, " not found"));
  return absl::InvalidArgumentError(absl::StrCat("network ", text, " is ambiguous (", begins.size(),
                                                 " matches found based on ID prefix)"));
}

absl::StatusOr<std::vector<StoredNetwork>> NetworkStore::List(absl::string_view ns) {
  const ReadView view(db_);
  std::vector<StoredNetwork> all;
  GANTRY_RETURN_IF_ERROR(Scan(view, ns.empty() ? std::string() : MakePrefix(ns), &all, nullptr));
  std::sort(all.begin(), all.end(), [](const StoredNetwork& a, const StoredNetwork& b) {
    return std::tie(a.ns, a.record.name()) < std::tie(b.ns, b.record.name());
  });
  return all;
}

absl::StatusOr<StoredNetwork> NetworkStore::Create(
    const Scope& scope, StoredNetwork network,
    const std::function<absl::Status(const std::vector<StoredNetwork>& all, StoredNetwork& made)>&
        decide) {
  network.ns = scope.ns;
  StoredNetwork made;
  GANTRY_RETURN_IF_ERROR(db_.Run([&](Transaction& tx) -> absl::Status {
    GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope));
    GANTRY_RETURN_IF_ERROR(tx.GetForUpdate(Family::kMeta, kChoice).status());
    std::vector<StoredNetwork> all;
    GANTRY_RETURN_IF_ERROR(Scan(tx, "", &all, nullptr));
    for (const StoredNetwork& one : all) {
      if (one.ns == scope.ns && one.record.name() == network.record.name()) {
        return absl::AlreadyExistsError(
            absl::StrCat("network with name ", network.record.name(), " already exists"));
      }
    }
    made = network;
    GANTRY_RETURN_IF_ERROR(decide(all, made));
    return tx.Put(Family::kNetworks, MakeKey(scope.ns, made.record.id()), Serialize(made));
  }));
  return made;
}

absl::Status NetworkStore::Delete(const Scope& scope, const StoredNetwork& network) {
  return db_.Run([&](Transaction& tx) -> absl::Status {
    const std::string key = MakeKey(scope.ns, network.record.id());
    GANTRY_RETURN_IF_ERROR(tx.GetForUpdate(Family::kMeta, kChoice).status());
    GANTRY_ASSIGN_OR_RETURN(const auto stored, tx.GetForUpdate(Family::kNetworks, key));
    if (!stored.has_value())
      return absl::NotFoundError(absl::StrCat("network ", network.record.name(), " not found"));
    std::vector<StoredEndpoint> endpoints;
    GANTRY_RETURN_IF_ERROR(
        Scan(tx, MakePrefix(scope.ns, network.record.id()), nullptr, &endpoints));
    if (!endpoints.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "network ", network.record.name(), " has active endpoints (container ",
          endpoints.front().record.container_name(), "); stop or remove its containers first"));
    }
    return tx.Delete(Family::kNetworks, key);
  });
}

absl::StatusOr<record::v1::NetworkEndpoint> NetworkStore::AddEndpoint(
    const StoredNetwork& network, record::v1::NetworkEndpoint endpoint,
    const std::function<absl::Status(const std::vector<StoredEndpoint>& all,
                                     record::v1::NetworkEndpoint& made)>& decide) {
  record::v1::NetworkEndpoint made;
  GANTRY_RETURN_IF_ERROR(db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(tx.GetForUpdate(Family::kMeta, kChoice).status());
        GANTRY_ASSIGN_OR_RETURN(
            const auto stored, tx.Get(Family::kNetworks, MakeKey(network.ns, network.record.id())));
        if (!stored.has_value())
          return absl::NotFoundError(absl::StrCat("network ", network.record.name(), " not found"));
        const std::string key = MakeKey(network.ns, network.record.id(), endpoint.container_id());
        GANTRY_ASSIGN_OR_RETURN(const auto present, tx.GetForUpdate(Family::kNetworks, key));
        if (present.has_value()) {
          return absl::AlreadyExistsError(
              absl::StrCat("endpoint with name ", endpoint.container_name(),
                           " already exists in network ", network.record.name()));
        }
        std::vector<StoredEndpoint> all;
        GANTRY_RETURN_IF_ERROR(
            Scan(tx, MakePrefix(network.ns, network.record.id()), nullptr, &all));
        made = endpoint;
        GANTRY_RETURN_IF_ERROR(decide(all, made));
        return tx.Put(Family::kNetworks, key, made.SerializeAsString());
      },
      Durability::kBuffered));
  return made;
}

absl::Status NetworkStore::UpdateEndpoint(const StoredEndpoint& endpoint) {
  return db_.Run(
      [&](Transaction& tx) -> absl::Status {
        const std::string key =
            MakeKey(endpoint.ns, endpoint.network_id, endpoint.record.container_id());
        GANTRY_ASSIGN_OR_RETURN(const auto present, tx.GetForUpdate(Family::kNetworks, key));
        if (!present.has_value()) {
          return absl::NotFoundError(absl::StrCat("container ", endpoint.record.container_name(),
                                                  " is not connected to the network"));
        }
        return tx.Put(Family::kNetworks, key, endpoint.record.SerializeAsString());
      },
      Durability::kBuffered);
}

absl::Status NetworkStore::RemoveEndpoint(const StoredEndpoint& endpoint) {
  return db_.Run(
      [&](Transaction& tx) {
        return tx.Delete(Family::kNetworks,
                         MakeKey(endpoint.ns, endpoint.network_id, endpoint.record.container_id()));
      },
      Durability::kBuffered);
}

absl::StatusOr<std::vector<StoredEndpoint>> NetworkStore::Endpoints(const StoredNetwork& network) {
  const ReadView view(db_);
  std::vector<StoredEndpoint> all;
  GANTRY_RETURN_IF_ERROR(Scan(view, MakePrefix(network.ns, network.record.id()), nullptr, &all));
  return all;
}

absl::StatusOr<std::vector<StoredEndpoint>> NetworkStore::EndpointsOf(
    absl::string_view ns, absl::string_view container_id) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredNetwork> networks, List(ns));
  std::vector<StoredEndpoint> found;
  for (const StoredNetwork& network : networks) {
    GANTRY_ASSIGN_OR_RETURN(
        const auto stored,
        db_.Get(Family::kNetworks, MakeKey(ns, network.record.id(), container_id)));
    if (!stored.has_value()) continue;
    GANTRY_ASSIGN_OR_RETURN(StoredEndpoint endpoint,
                            ParseEndpoint(ns, network.record.id(), *stored));
    found.push_back(std::move(endpoint));
  }
  return found;
}

absl::StatusOr<std::vector<StoredEndpoint>> NetworkStore::AllEndpoints() {
  const ReadView view(db_);
  std::vector<StoredEndpoint> all;
  GANTRY_RETURN_IF_ERROR(Scan(view, "", nullptr, &all));
  return all;
}

absl::StatusOr<StoredNetns> NetworkStore::AddNetns(
    absl::string_view ns, record::v1::NetworkNamespace netns,
    const std::function<absl::Status(const std::vector<StoredNetns>& all,
                                     record::v1::NetworkNamespace& made)>& decide) {
  StoredNetns added;
  added.ns = std::string(ns);
  GANTRY_RETURN_IF_ERROR(db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(tx.GetForUpdate(Family::kMeta, kChoice).status());
        const std::string key = MakeKey(ns, netns.container_id());
        GANTRY_ASSIGN_OR_RETURN(const auto present,
                                tx.GetForUpdate(Family::kNetworkNamespaces, key));
        if (present.has_value()) {
          return absl::AlreadyExistsError(absl::StrCat("container ", netns.container_name(),
                                                       " has a network namespace already"));
        }
        GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredNetns> all, ScanNetns(tx));
        added.record = netns;
        GANTRY_RETURN_IF_ERROR(decide(all, added.record));
        return tx.Put(Family::kNetworkNamespaces, key, added.record.SerializeAsString());
      },
      Durability::kBuffered));
  return added;
}

absl::StatusOr<StoredNetns> NetworkStore::ChangeNetns(
    absl::string_view ns, absl::string_view container_id,
    const std::function<absl::Status(const std::vector<StoredNetns>& all,
                                     record::v1::NetworkNamespace& changed)>& decide) {
  StoredNetns changed;
  changed.ns = std::string(ns);
  GANTRY_RETURN_IF_ERROR(db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(tx.GetForUpdate(Family::kMeta, kChoice).status());
        const std::string key = MakeKey(ns, container_id);
        GANTRY_ASSIGN_OR_RETURN(const auto present,
                                tx.GetForUpdate(Family::kNetworkNamespaces, key));
        if (!present.has_value() || !changed.record.ParseFromString(*present)) {
          return absl::NotFoundError(
              absl::StrCat("container ", container_id, " has no network namespace"));
        }
        GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredNetns> all, ScanNetns(tx));
        GANTRY_RETURN_IF_ERROR(decide(all, changed.record));
        return tx.Put(Family::kNetworkNamespaces, key, changed.record.SerializeAsString());
      },
      Durability::kBuffered));
  return changed;
}

absl::Status NetworkStore::UpdateNetns(const StoredNetns& netns) {
  return db_.Run(
      [&](Transaction& tx) -> absl::Status {
        const std::string key = MakeKey(netns.ns, netns.record.container_id());
        GANTRY_ASSIGN_OR_RETURN(const auto present,
                                tx.GetForUpdate(Family::kNetworkNamespaces, key));
        if (!present.has_value()) {
          return absl::NotFoundError(absl::StrCat("container ", netns.record.container_name(),
                                                  " has no network namespace"));
        }
        return tx.Put(Family::kNetworkNamespaces, key, netns.record.SerializeAsString());
      },
      Durability::kBuffered);
}

absl::Status NetworkStore::RemoveNetns(const StoredNetns& netns) {
  return db_.Run(
      [&](Transaction& tx) {
        return tx.Delete(Family::kNetworkNamespaces,
                         MakeKey(netns.ns, netns.record.container_id()));
      },
      Durability::kBuffered);
}

absl::StatusOr<StoredNetns> NetworkStore::FindNetns(absl::string_view ns,
                                                    absl::string_view container_id) {
  GANTRY_ASSIGN_OR_RETURN(const auto stored,
                          db_.Get(Family::kNetworkNamespaces, MakeKey(ns, container_id)));
  if (!stored.has_value()) {
    return absl::NotFoundError(
        absl::StrCat("container ", container_id, " is not connected to a network"));
  }
  return ParseNetns(ns, *stored);
}

absl::StatusOr<std::vector<StoredNetns>> NetworkStore::AllNetns() {
  const ReadView view(db_);
  return ScanNetns(view);
}

}  // namespace gantry::metadata
