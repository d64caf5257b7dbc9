// Connects containers to networks and takes them off: at once where the container runs, and for its
// next starts. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_NETWORKS_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_NETWORKS_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/name_files.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_view.h"

namespace gantry::v1 {
class ConnectNetworkRequest;
class ContainerConfig;
class DisconnectNetworkRequest;
class ListPortsRequest;
class ListPortsResponse;
}  // namespace gantry::v1

namespace gantry::core {

class NetworkPlaces;
class NetworkService;

class ContainerNetworks {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    Stores* stores;
    const TaskView* tasks;
    NetworkService* networks;
    NetworkPlaces* places;
  };
  explicit ContainerNetworks(const Parts& parts) : parts_(parts) {}

  // kNotFound: no such container or network. kAlreadyExists: it is connected to it, or another
  // container has the address. kFailedPrecondition: it shares the network namespace of the host or
  // of another container, or another client made it. kInvalidArgument: an address or option.
  absl::Status Connect(const CallContext& context, const v1::ConnectNetworkRequest& request);
  // kNotFound: no such container or network. kFailedPrecondition: it is not connected to it.
  // With force, what is left of a container that is gone goes too.
  absl::Status Disconnect(const CallContext& context, const v1::DisconnectNetworkRequest& request);
  // The published ports of a container that runs become those of `config`: its bindings and, where
  // it publishes all, the exposed ports. Ports that it has and keeps stay as they are: their host
  // port, also one that was chosen for it, and the connections over them. The others are closed and
  // opened at once. A port that cannot be opened leaves everything as it was.
  //
  // The caller holds the operation lock (`context` is within it) and writes `config` afterwards; it
  // calls again with the former configuration where that fails. What a crash between the two leaves
  // is one port too many or too few until the container's next start. Idempotent.
  //   kFailedPrecondition  it has no network namespace that ports can lead to: it runs in the host's
  //                        or another container's, or was started without a network. Its next start
  //                        publishes what its configuration then says
  //   kAlreadyExists       a port that another container or a program has; it is named
  //   kInvalidArgument     a port, a range or an address of a binding; field port_bindings
  //   kResourceExhausted   every port of a range is taken
  absl::Status SetPorts(const CallContext& context, const LoadedContainer& loaded,
                        const v1::ContainerConfig& config);
  // For the containers that are named by their ids and have ports now.
  absl::Status ListPorts(const CallContext& context, const v1::ListPortsRequest& request,
                         v1::ListPortsResponse* response);

 private:
  absl::Status WriteConfig(LoadedContainer& loaded);
  // Its resolver and its hosts file, after a change while it runs. What fails is logged: the
  // container is on its networks all the same, and its next start writes both.
  void ChangeNames(const CallContext& context, const LoadedContainer& loaded,
                   const NamesOfNetworks& before);
  // To the running containers that share its network namespace.
  absl::Status CopyToJoined(const CallContext& context, const LoadedContainer& loaded);
  // The directory with its name files as it sees them now.
  std::string FilesNow(const CallContext& context, const LoadedContainer& loaded) const;
  NamesOfNetworks NamesNow(const CallContext& context, const LoadedContainer& loaded) const;
  bool Runs(const CallContext& context, const LoadedContainer& loaded) const;

  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_NETWORKS_H_
