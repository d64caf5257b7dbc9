// containerd.services.snapshots.v1.
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "proto/containerd/events/snapshot.pb.h"
#include "proto/containerd/services/snapshots/v1/snapshots.grpc.pb.h"
#include "supervisor/api/containerd/call.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/stores.h"
#include "supervisor/metadata/filter.h"
#include "supervisor/metadata/record_fields.h"
#include "supervisor/metadata/record_values.h"

namespace gantry::api::containerd_api {
namespace {

using namespace containerd::services::snapshots::
    v1;  // NOLINT(google-build-using-namespace): the messages of this file
using metadata::SnapshotNamespace;

constexpr int kInfosPerMessage = 100;

void SetInfo(const snapshot::Info& info, Info* out) {
  out->set_name(info.name);
  out->set_parent(info.parent);
  out->set_kind(static_cast<Kind>(info.kind));
  SetTime(info.created_at, out->mutable_created_at());
  SetTime(info.updated_at, out->mutable_updated_at());
  metadata::SetLabels(info.labels, out->mutable_labels());
}

class SnapshotsService final : public Snapshots::Service, public DoorService {
 public:
  explicit SnapshotsService(const Room& room) : room_(room) {}
  grpc::Service* service() override { return this; }

  grpc::Status Prepare(grpc::ServerContext* context, const PrepareSnapshotRequest* request,
                       PrepareSnapshotResponse* response) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      GANTRY_ASSIGN_OR_RETURN(std::vector<snapshot::Mount> mounts,
                              snapshots.Prepare(request->key(), request->parent(),
                                                metadata::LabelsOf(request->labels())));
      SetMounts(mounts, response->mutable_mounts());
      containerd::events::SnapshotPrepare event;
      event.set_key(request->key());
      event.set_parent(request->parent());
      event.set_snapshotter(request->snapshotter());
      room_.events->Publish(call.ns(), "/snapshot/prepare", event);
      return absl::OkStatus();
    });
  }

  grpc::Status View(grpc::ServerContext* context, const ViewSnapshotRequest* request,
                    ViewSnapshotResponse* response) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      GANTRY_ASSIGN_OR_RETURN(
          std::vector<snapshot::Mount> mounts,
          snapshots.View(request->key(), request->parent(), metadata::LabelsOf(request->labels())));
      SetMounts(mounts, response->mutable_mounts());
      return absl::OkStatus();
    });
  }

  grpc::Status Mounts(grpc::ServerContext* context, const MountsRequest* request,
                      MountsResponse* response) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      GANTRY_ASSIGN_OR_RETURN(std::vector<snapshot::Mount> mounts,
                              snapshots.Mounts(request->key()));
      SetMounts(mounts, response->mutable_mounts());
      return absl::OkStatus();
    });
  }

  grpc::Status Commit(grpc::ServerContext* context, const CommitSnapshotRequest* request,
                      google::protobuf::Empty*) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      snapshot::CommitOptions options;
      options.labels = metadata::LabelsOf(request->labels());
      options.parent = request->parent();
      GANTRY_RETURN_IF_ERROR(snapshots.Commit(request->name(), request->key(), options));
      containerd::events::SnapshotCommit event;
      event.set_key(request->key());
      event.set_name(request->name());
      event.set_snapshotter(request->snapshotter());
      room_.events->Publish(call.ns(), "/snapshot/commit", event);
      return absl::OkStatus();
    });
  }

  grpc::Status Remove(grpc::ServerContext* context, const RemoveSnapshotRequest* request,
                      google::protobuf::Empty*) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      GANTRY_RETURN_IF_ERROR(snapshots.Remove(request->key()));
      containerd::events::SnapshotRemove event;
      event.set_key(request->key());
      event.set_snapshotter(request->snapshotter());
      room_.events->Publish(call.ns(), "/snapshot/remove", event);
      return absl::OkStatus();
    });
  }

  grpc::Status Stat(grpc::ServerContext* context, const StatSnapshotRequest* request,
                    StatSnapshotResponse* response) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      GANTRY_ASSIGN_OR_RETURN(snapshot::Info info, snapshots.Stat(request->key()));
      SetInfo(info, response->mutable_info());
      return absl::OkStatus();
    });
  }

  grpc::Status Update(grpc::ServerContext* context, const UpdateSnapshotRequest* request,
                      UpdateSnapshotResponse* response) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      GANTRY_ASSIGN_OR_RETURN(
          snapshot::Info info,
          snapshots.Update(request->info().name(), metadata::LabelsOf(request->info().labels()),
                           TextsOf(request->update_mask().paths())));
      SetInfo(info, response->mutable_info());
      return absl::OkStatus();
    });
  }

  grpc::Status List(grpc::ServerContext* context, const ListSnapshotsRequest* request,
                    grpc::ServerWriter<ListSnapshotsResponse>* writer) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      absl::StatusOr<metadata::Filter> parsed =
          metadata::Filter::Parse(TextsOf(request->filters()));
      // Of no class, as with containerd.
      if (!parsed.ok()) return absl::UnknownError(parsed.status().message());
      const metadata::Filter filter = *std::move(parsed);
      ListSnapshotsResponse batch;
      const auto send = [&]() -> absl::Status {
        const bool sent = writer->Write(batch);
        batch.clear_info();
        return sent ? absl::OkStatus() : absl::CancelledError("the client has gone");
      };
      GANTRY_RETURN_IF_ERROR(snapshots.Walk([&](const snapshot::Info& info) -> absl::Status {
        if (!filter.matches_everything() && !filter.Matches(metadata::FieldsOf(info)))
          return absl::OkStatus();
        SetInfo(info, batch.add_info());
        return batch.info_size() < kInfosPerMessage ? absl::OkStatus() : send();
      }));
      return batch.info_size() == 0 ? absl::OkStatus() : send();
    });
  }

  grpc::Status Usage(grpc::ServerContext* context, const UsageRequest* request,
                     UsageResponse* response) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      GANTRY_ASSIGN_OR_RETURN(snapshot::Usage usage, snapshots.Usage(request->key()));
      response->set_size(usage.size_bytes);
      response->set_inodes(usage.inodes);
      return absl::OkStatus();
    });
  }

  grpc::Status Cleanup(grpc::ServerContext* context, const CleanupRequest* request,
                       google::protobuf::Empty*) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      return snapshots.Cleanup();
    });
  }

 private:
  // No default here: a client that leaves the name out is refused.
  absl::StatusOr<SnapshotNamespace> Open(const Call& call, const std::string& snapshotter) const {
    return SnapshotNamespace::Create(room_.stores->snapshotters, snapshotter, room_.stores->db,
                                     call.scope());
  }

  const Room& room_;
};

}  // namespace

std::unique_ptr<DoorService> NewSnapshotsService(const Room& room) {
  return std::make_unique<SnapshotsService>(room);
}

}  // namespace gantry::api::containerd_api
