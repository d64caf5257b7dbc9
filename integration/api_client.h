// One client of containerd's API on a unix socket: a connection of its own, the stubs, and calls
// that name a namespace. For tests and benchmarks that must not pay for a client program with every
// call.
//
// Thread-safe as gRPC's stubs are; calls of one client share its connection.
#ifndef GANTRY_INTEGRATION_API_CLIENT_H_
#define GANTRY_INTEGRATION_API_CLIENT_H_

#include <grpcpp/grpcpp.h>

#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "proto/containerd/services/containers/v1/containers.grpc.pb.h"
#include "proto/containerd/services/content/v1/content.grpc.pb.h"
#include "proto/containerd/services/events/v1/events.grpc.pb.h"
#include "proto/containerd/services/images/v1/images.grpc.pb.h"
#include "proto/containerd/services/leases/v1/leases.grpc.pb.h"
#include "proto/containerd/services/snapshots/v1/snapshots.grpc.pb.h"
#include "proto/containerd/services/tasks/v1/tasks.grpc.pb.h"

namespace gantry::integration {

namespace containers_api = ::containerd::services::containers::v1;
namespace content_api = ::containerd::services::content::v1;
namespace events_api = ::containerd::services::events::v1;
namespace images_api = ::containerd::services::images::v1;
namespace leases_api = ::containerd::services::leases::v1;
namespace snapshots_api = ::containerd::services::snapshots::v1;
namespace tasks_api = ::containerd::services::tasks::v1;

// The status of a call in the words of the rest.
absl::Status FromGrpc(const grpc::Status& status);

class ApiClient {
 public:
  enum class Windows {
    kGrowing,  // as gRPC has it
    kSmall,    // the protocol's 64 KiB: a client that does not read has little buffered for it
  };
  // Connects with the first call. Messages of up to 16 MiB, as containerd's own client takes them.
  ApiClient(const std::string& socket, std::string ns, Windows windows = Windows::kGrowing);

  // The context of one call: our namespace, a deadline, and a lease unless "".
  std::unique_ptr<grpc::ClientContext> Context(absl::Duration timeout = absl::Seconds(60),
                                               const std::string& lease = "") const;

  const std::string& ns() const { return ns_; }
  // For services that have no stub here.
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

  containers_api::Containers::Stub& containers() { return *containers_; }
  content_api::Content::Stub& content() { return *content_; }
  events_api::Events::Stub& events() { return *events_; }
  images_api::Images::Stub& images() { return *images_; }
  leases_api::Leases::Stub& leases() { return *leases_; }
  snapshots_api::Snapshots::Stub& snapshots() { return *snapshots_; }
  tasks_api::Tasks::Stub& tasks() { return *tasks_; }

  // Writes one blob in messages of 1 MiB, as containerd's client does, and commits it; returns its
  // digest. With `expected`, kAlreadyExists comes before any byte is sent.
  absl::StatusOr<std::string> WriteBlob(const std::string& ref, absl::string_view bytes,
                                        const std::map<std::string, std::string>& labels = {},
                                        const std::string& lease = "",
                                        const std::string& expected = "");

  // Streams a blob; returns how many bytes came, or all of them in `out` unless null.
  absl::StatusOr<int64_t> ReadBlob(const std::string& digest, std::string* out = nullptr);

  // A record with this spec (a JSON document), for a container that is not started.
  absl::Status CreateContainer(const std::string& id, const std::string& image,
                               const std::string& spec, const std::string& snapshot_key = "");

 private:
  const std::string ns_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<containers_api::Containers::Stub> containers_;
  std::unique_ptr<content_api::Content::Stub> content_;
  std::unique_ptr<events_api::Events::Stub> events_;
  std::unique_ptr<images_api::Images::Stub> images_;
  std::unique_ptr<leases_api::Leases::Stub> leases_;
  std::unique_ptr<snapshots_api::Snapshots::Stub> snapshots_;
  std::unique_ptr<tasks_api::Tasks::Stub> tasks_;
};

}  // namespace gantry::integration

#endif  // GANTRY_INTEGRATION_API_CLIENT_H_
