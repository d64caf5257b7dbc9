// containerd.services.snapshots.v1.
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "proto/containerd/services/snapshots/v1/snapshots.grpc.pb.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/list_stream.h"
#include "supervisor/api/grpc/outgoing.h"
#include "supervisor/api/grpc/work_call.h"
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

class SnapshotsService final : public Snapshots::CallbackService, public DoorService {
 public:
  explicit SnapshotsService(const Room& room) : room_(room) {}
  grpc::Service* service() override { return this; }

  grpc::ServerUnaryReactor* Prepare(grpc::CallbackServerContext* context,
                                    const PrepareSnapshotRequest* request,
                                    PrepareSnapshotResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      GANTRY_ASSIGN_OR_RETURN(std::vector<snapshot::Mount> mounts,
                              snapshots.Prepare(request->key(), request->parent(),
                                                metadata::LabelsOf(request->labels())));
      SetMounts(mounts, response->mutable_mounts());
      core::SnapshotFacts facts;
      facts.snapshotter = request->snapshotter();
      facts.parent = request->parent();
      room_.events->Publish(call.ns(),
                            core::LowLevelEvent(core::EventKind::kSnapshot, core::action::kCreate,
                                                request->key(), std::move(facts)));
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* View(grpc::CallbackServerContext* context,
                                 const ViewSnapshotRequest* request,
                                 ViewSnapshotResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      GANTRY_ASSIGN_OR_RETURN(
          std::vector<snapshot::Mount> mounts,
          snapshots.View(request->key(), request->parent(), metadata::LabelsOf(request->labels())));
      SetMounts(mounts, response->mutable_mounts());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Mounts(grpc::CallbackServerContext* context,
                                   const MountsRequest* request,
                                   MountsResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      GANTRY_ASSIGN_OR_RETURN(std::vector<snapshot::Mount> mounts,
                              snapshots.Mounts(request->key()));
      SetMounts(mounts, response->mutable_mounts());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Commit(grpc::CallbackServerContext* context,
                                   const CommitSnapshotRequest* request,
                                   google::protobuf::Empty*) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      snapshot::CommitOptions options;
      options.labels = metadata::LabelsOf(request->labels());
      options.parent = request->parent();
      GANTRY_RETURN_IF_ERROR(snapshots.Commit(request->name(), request->key(), options));
      core::SnapshotFacts facts;
      facts.snapshotter = request->snapshotter();
      facts.name = request->name();
      room_.events->Publish(call.ns(),
                            core::LowLevelEvent(core::EventKind::kSnapshot, core::action::kCommit,
                                                request->key(), std::move(facts)));
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Remove(grpc::CallbackServerContext* context,
                                   const RemoveSnapshotRequest* request,
                                   google::protobuf::Empty*) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      GANTRY_RETURN_IF_ERROR(snapshots.Remove(request->key()));
      core::SnapshotFacts facts;
      facts.snapshotter = request->snapshotter();
      room_.events->Publish(call.ns(),
                            core::LowLevelEvent(core::EventKind::kSnapshot, core::action::kRemove,
                                                request->key(), std::move(facts)));
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Stat(grpc::CallbackServerContext* context,
                                 const StatSnapshotRequest* request,
                                 StatSnapshotResponse* response) override {
    return HandleQuick(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      GANTRY_ASSIGN_OR_RETURN(snapshot::Info info, snapshots.Stat(request->key()));
      SetInfo(info, response->mutable_info());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Update(grpc::CallbackServerContext* context,
                                   const UpdateSnapshotRequest* request,
                                   UpdateSnapshotResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      GANTRY_ASSIGN_OR_RETURN(
          snapshot::Info info,
          snapshots.Update(request->info().name(), metadata::LabelsOf(request->info().labels()),
                           TextsOf(request->update_mask().paths())));
      SetInfo(info, response->mutable_info());
      return absl::OkStatus();
    });
  }

  grpc::ServerWriteReactor<ListSnapshotsResponse>* List(
      grpc::CallbackServerContext* context, const ListSnapshotsRequest* request) override {
    return HandleList<ListSnapshotsResponse>(
        *room_.long_calls, *context,
        [this, request](Call& call, Sender<ListSnapshotsResponse>& out) -> absl::Status {
          GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
          absl::StatusOr<metadata::Filter> parsed =
              metadata::Filter::Parse(TextsOf(request->filters()));
          // Of no class, as with containerd.
          if (!parsed.ok()) return absl::UnknownError(parsed.status().message());
          const metadata::Filter filter = *std::move(parsed);
          ListSnapshotsResponse batch;
          const auto send = [&]() -> absl::Status { return out.Send(std::exchange(batch, {})); };
          GANTRY_RETURN_IF_ERROR(snapshots.Walk([&](const snapshot::Info& info) -> absl::Status {
            if (!filter.matches_everything() && !filter.Matches(metadata::FieldsOf(info)))
              return absl::OkStatus();
            SetInfo(info, batch.add_info());
            return batch.info_size() < kInfosPerMessage ? absl::OkStatus() : send();
          }));
          return batch.info_size() == 0 ? absl::OkStatus() : send();
        });
  }

  grpc::ServerUnaryReactor* Usage(grpc::CallbackServerContext* context, const UsageRequest* request,
                                  UsageResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      GANTRY_ASSIGN_OR_RETURN(snapshot::Usage usage, snapshots.Usage(request->key()));
      response->set_size(usage.size_bytes);
      response->set_inodes(usage.inodes);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Cleanup(grpc::CallbackServerContext* context,
                                    const CleanupRequest* request,
                                    google::protobuf::Empty*) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(SnapshotNamespace snapshots, Open(call, request->snapshotter()));
      return snapshots.Cleanup(&call.cancel());
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
