#include "supervisor/core/container_networks.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/field_error.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/networks.pb.h"
#include "supervisor/core/container_intent.h"
#include "supervisor/core/container_spec.h"
#include "supervisor/core/live_name_files.h"
#include "supervisor/core/network_choice.h"
#include "supervisor/core/network_places.h"
#include "supervisor/core/network_service.h"
#include "supervisor/core/place_choice.h"

namespace gantry::core {
namespace {

NetworkClient ClientOf(const LoadedContainer& loaded) {
  return core::ClientOf(loaded.id(), loaded.ShownName(), loaded.config);
}

// Whether the configuration names this network, by its name or its id.
bool Names(const std::string& text, const metadata::StoredNetwork& network) {
  return text == network.record.name() || text == network.record.id() ||
         (text.size() >= 12 && absl::StartsWith(network.record.id(), text));
}

}  // namespace

bool ContainerNetworks::Runs(const CallContext& context, const LoadedContainer& loaded) const {
  const absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  return task.ok() && task->status != ProcessStatus::kStopped;
}

absl::Status ContainerNetworks::WriteConfig(LoadedContainer& loaded) {
  WriteIntent(loaded.config, loaded.record);
  return parts_.stores->containers.Update(loaded.scope, loaded.record, {"extensions"}).status();
}

NamesOfNetworks ContainerNetworks::NamesNow(const CallContext& context,
                                            const LoadedContainer& loaded) const {
  NamesOfNetworks names;
  const auto held = parts_.places->NamesOf(context, loaded.id(), loaded.config);
  if (!held.ok()) return names;
  names.addresses = held->addresses;
  names.resolver = held->has_names;
  return names;
}

void ContainerNetworks::ChangeNames(const CallContext& context, const LoadedContainer& loaded,
                                    const NamesOfNetworks& before) {
  absl::Status changed = parts_.places->ChangeNames(context, loaded.id(), loaded.config);
  // What it sees, and what its next start begins with.
  for (const std::string& directory :
       {parts_.records->GeneratedDirectory(context.ns, loaded.id(), loaded.config),
        LiveNameFiles(*parts_.tasks, context.ns, loaded.id())}) {
    if (directory.empty()) continue;
    changed.Update(
        UpdateNameFiles(directory, loaded.config, loaded.id(), before, NamesNow(context, loaded)));
  }
  changed.Update(CopyToJoined(context, loaded));
  LOG_IF(WARNING, !changed.ok()) << "ns=" << context.ns << " id=" << loaded.id()
                                 << " names after a change of its networks: " << changed;
}

std::string ContainerNetworks::FilesNow(const CallContext& context,
                                        const LoadedContainer& loaded) const {
  std::string live = LiveNameFiles(*parts_.tasks, context.ns, loaded.id());
  return live.empty() ? parts_.records->GeneratedDirectory(context.ns, loaded.id(), loaded.config)
                      : live;
}

absl::Status ContainerNetworks::CopyToJoined(const CallContext& context,
                                             const LoadedContainer& loaded) {
  const std::string mode = absl::StrCat("container:", loaded.id());
  absl::Status all;
  for (const auto& [ns, task] : parts_.tasks->List(context.ns)) {
    const std::string& id = task.container_id;
    if (task.status == ProcessStatus::kStopped || id == loaded.id()) continue;
    const absl::StatusOr<LoadedContainer> other = parts_.records->Load(context, id);
    // One that was removed meanwhile, or is another client's, joined nothing here.
    if (!other.ok() || !other->ours || other->config.network_mode() != mode) continue;
    const std::string from = FilesNow(context, loaded);
    const std::string to = FilesNow(context, *other);
    if (const std::string kept = parts_.records->GeneratedDirectory(context.ns, id, other->config);
        kept != to)
      all.Update(CopyNameFiles(from, kept));
    all.Update(CopyNameFiles(from, to));
  }
  return all;
}

absl::Status ContainerNetworks::Connect(const CallContext& context,
                                        const v1::ConnectNetworkRequest& request) {
  const std::string& wanted = request.attachment().network();
  if (wanted == "host") {
    return absl::FailedPreconditionError(
        "cannot connect container to host network - container must be created in host network "
        "mode");
  }
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, request.container(), lock));
  GANTRY_RETURN_IF_ERROR(ContainerRecords::CheckReadable(loaded));
  if (!loaded.ours) {
    return absl::FailedPreconditionError(absl::StrCat(
        "container ", loaded.id(), " was made by another client; its networks are that one's"));
  }
  GANTRY_ASSIGN_OR_RETURN(const NetworkChoice choice, NetworkOf(loaded.config));
  if (choice.kind == NetworkChoice::Kind::kHost || choice.kind == NetworkChoice::Kind::kContainer) {
    return absl::FailedPreconditionError(
        "container sharing network namespace with another container or host cannot be connected to "
        "any other network");
  }
  const bool runs = Runs(context, loaded);
  const absl::Status isolated = absl::FailedPreconditionError(
      "container cannot be connected to multiple networks with one of the networks in private "
      "(none) mode");
  const bool asked_for_none =
      choice.kind == NetworkChoice::Kind::kNone && !loaded.config.networks().empty();
  if (wanted == "none" || (asked_for_none && runs)) return isolated;
  GANTRY_ASSIGN_OR_RETURN(const metadata::StoredNetwork network,
                          parts_.networks->FindOrMakeDefault(context, wanted));
  const bool connected = choice.kind == NetworkChoice::Kind::kNetwork;
  if (connected) {
    for (const v1::NetworkAttachment& one : AttachmentsOf(choice.network, loaded.config)) {
      if (!Names(one.network(), network)) continue;
      return absl::AlreadyExistsError(absl::StrCat("endpoint with name ", loaded.ShownName(),
                                                   " already exists in network ",
                                                   network.record.name()));
    }
  }
  v1::NetworkAttachment attachment = request.attachment();
  attachment.set_network(network.record.name());
  if (!connected) loaded.config.set_network_mode(network.record.name());
  *loaded.config.add_networks() = attachment;
  GANTRY_RETURN_IF_ERROR(CheckContainerConfig(loaded.config));
  NamesOfNetworks before;
  if (runs) {
    before = NamesNow(context, loaded);
    const absl::Status placed =
        parts_.places->Connect(lock.Within(context), ClientOf(loaded), attachment);
    // One that was taken off its last network has a namespace that networks can be connected to;
    // one that was started without a network has none.
    if (choice.kind == NetworkChoice::Kind::kNone && absl::IsFailedPrecondition(placed))
      return isolated;
    GANTRY_RETURN_IF_ERROR(placed);
  }
  const absl::Status written = WriteConfig(loaded);
  if (!written.ok() && runs) {
    const absl::Status undone =
        parts_.places->Disconnect(context, ClientOf(loaded), network.record.id());
    LOG_IF(ERROR, !undone.ok()) << "ns=" << context.ns << " id=" << loaded.id() << " " << undone;
  }
  if (written.ok() && runs) ChangeNames(context, loaded, before);
  return written;
}

absl::Status ContainerNetworks::Disconnect(const CallContext& context,
                                           const v1::DisconnectNetworkRequest& request) {
  if (request.network() == "host") {
    return absl::FailedPreconditionError(
        "cannot disconnect container from host network - container was created in host network "
        "mode");
  }
  OperationLock lock;
  absl::StatusOr<LoadedContainer> found =
      parts_.records->LoadLocked(context, request.container(), lock);
  if (absl::IsNotFound(found.status()) && request.force()) {
    // Its record is gone; a place of its could still be there.
    return parts_.places->Leave(context, request.container());
  }
  GANTRY_RETURN_IF_ERROR(found.status());
  LoadedContainer& loaded = *found;
  GANTRY_RETURN_IF_ERROR(ContainerRecords::CheckReadable(loaded));
  GANTRY_ASSIGN_OR_RETURN(const metadata::StoredNetwork network,
                          parts_.networks->FindOrMakeDefault(context, request.network()));
  GANTRY_ASSIGN_OR_RETURN(const NetworkChoice choice, NetworkOf(loaded.config));
  const absl::Status absent = absl::FailedPreconditionError(absl::StrCat(
      "container ", loaded.id(), " is not connected to network ", network.record.name()));
  if (choice.kind != NetworkChoice::Kind::kNetwork) return absent;
  std::vector<v1::NetworkAttachment> attachments = AttachmentsOf(choice.network, loaded.config);
  const auto it = std::find_if(attachments.begin(), attachments.end(),
                               [&](const auto& one) { return Names(one.network(), network); });
  if (it == attachments.end()) return absent;
  const bool runs = Runs(context, loaded);
  const NamesOfNetworks before = runs ? NamesNow(context, loaded) : NamesOfNetworks();
  if (runs) {
    const absl::Status gone =
        parts_.places->Disconnect(lock.Within(context), ClientOf(loaded), network.record.id());
    // What the configuration names need not be there: an earlier try may have got this far.
    if (!gone.ok() && !absl::IsFailedPrecondition(gone)) return gone;
  }
  attachments.erase(it);
  loaded.config.clear_networks();
  for (v1::NetworkAttachment& one : attachments) *loaded.config.add_networks() = std::move(one);
  loaded.config.clear_mac_address();
  loaded.config.set_network_mode(attachments.empty() ? "none"
                                                     : loaded.config.networks(0).network());
  if (runs) ChangeNames(context, loaded, before);
  return WriteConfig(loaded);
}

absl::Status ContainerNetworks::SetPorts(const CallContext& context, const LoadedContainer& loaded,
                                         const v1::ContainerConfig& config) {
  GANTRY_ASSIGN_OR_RETURN(const NetworkChoice choice, NetworkOf(loaded.config));
  if (choice.kind != NetworkChoice::Kind::kNetwork) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", loaded.ShownName(),
                     choice.kind == NetworkChoice::Kind::kNone
                         ? " is on no network"
                         : " shares its network namespace with the host or another container",
                     ", so no port can lead to it while it runs"));
  }
  return parts_.places->ChangePorts(context, ClientOf(loaded), choice.network, config);
}

absl::Status ContainerNetworks::ListPorts(const CallContext& context,
                                          const v1::ListPortsRequest& request,
                                          v1::ListPortsResponse* response) {
  for (const std::string& id : request.containers()) {
    GANTRY_ASSIGN_OR_RETURN(std::vector<v1::PortWay> ways, parts_.places->PortWays(context, id));
    for (v1::PortWay& way : ways) *response->add_ways() = std::move(way);
  }
  return absl::OkStatus();
}

}  // namespace gantry::core
