// The calls of containerd's services that the low-level verbs make.
#include "ctl/client_wire.h"
#include "proto/containerd/services/content/v1/content.grpc.pb.h"
#include "proto/containerd/services/leases/v1/leases.grpc.pb.h"
#include "proto/containerd/services/namespaces/v1/namespace.grpc.pb.h"
#include "proto/containerd/services/snapshots/v1/snapshots.grpc.pb.h"
#include "proto/containerd/services/tasks/v1/tasks.grpc.pb.h"

namespace gantry::ctl {

namespace content = containerd::services::content::v1;
namespace leases = containerd::services::leases::v1;
namespace namespaces = containerd::services::namespaces::v1;
namespace snapshots = containerd::services::snapshots::v1;
namespace tasks = containerd::services::tasks::v1;
using google::protobuf::Empty;

GANTRY_CTL_READ(content::Content, List, content::ListContentRequest, content::ListContentResponse)
GANTRY_CTL_READ(content::Content, Read, content::ReadContentRequest, content::ReadContentResponse)
GANTRY_CTL_UNARY(content::Content, Delete, content::DeleteContentRequest, Empty)
GANTRY_CTL_UNARY(content::Content, ListStatuses, content::ListStatusesRequest,
                 content::ListStatusesResponse)
GANTRY_CTL_UNARY(content::Content, Abort, content::AbortRequest, Empty)

GANTRY_CTL_READ(snapshots::Snapshots, List, snapshots::ListSnapshotsRequest,
                snapshots::ListSnapshotsResponse)
GANTRY_CTL_UNARY(snapshots::Snapshots, Stat, snapshots::StatSnapshotRequest,
                 snapshots::StatSnapshotResponse)
GANTRY_CTL_UNARY(snapshots::Snapshots, Usage, snapshots::UsageRequest, snapshots::UsageResponse)
GANTRY_CTL_UNARY(snapshots::Snapshots, Remove, snapshots::RemoveSnapshotRequest, Empty)

GANTRY_CTL_UNARY(leases::Leases, List, leases::ListRequest, leases::ListResponse)
GANTRY_CTL_UNARY(leases::Leases, Create, leases::CreateRequest, leases::CreateResponse)
GANTRY_CTL_UNARY(leases::Leases, Delete, leases::DeleteRequest, Empty)
GANTRY_CTL_UNARY(leases::Leases, ListResources, leases::ListResourcesRequest,
                 leases::ListResourcesResponse)

GANTRY_CTL_UNARY(namespaces::Namespaces, List, namespaces::ListNamespacesRequest,
                 namespaces::ListNamespacesResponse)
GANTRY_CTL_UNARY(namespaces::Namespaces, Create, namespaces::CreateNamespaceRequest,
                 namespaces::CreateNamespaceResponse)
GANTRY_CTL_UNARY(namespaces::Namespaces, Update, namespaces::UpdateNamespaceRequest,
                 namespaces::UpdateNamespaceResponse)
GANTRY_CTL_UNARY(namespaces::Namespaces, Delete, namespaces::DeleteNamespaceRequest, Empty)

GANTRY_CTL_UNARY(tasks::Tasks, List, tasks::ListTasksRequest, tasks::ListTasksResponse)

}  // namespace gantry::ctl
