// containerd.services.diff.v1: layers onto mounts, and mounts into layers.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "base/byte_stream.h"
#include "base/compression.h"
#include "base/status_macros.h"
#include "proto/containerd/services/diff/v1/diff.grpc.pb.h"
#include "snapshotter/layer_apply.h"
#include "snapshotter/layer_diff.h"
#include "supervisor/api/containerd/media_type.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/store_stream.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/stores.h"
#include "supervisor/metadata/record_values.h"

namespace gantry::api::containerd_api {
namespace {

using namespace containerd::services::diff::
    v1;  // NOLINT(google-build-using-namespace): the messages of this file

class DiffService final : public Diff::CallbackService, public DoorService {
 public:
  explicit DiffService(const Room& room) : room_(room) {}
  grpc::Service* service() override { return this; }

  grpc::ServerUnaryReactor* Apply(grpc::CallbackServerContext* context, const ApplyRequest* request,
                                  ApplyResponse* response) override {
    return HandleOn(*room_.long_calls, *context, [this, request, response](Call& call) {
      return Apply(call, *request, *response);
    });
  }

  grpc::ServerUnaryReactor* Diff(grpc::CallbackServerContext* context, const DiffRequest* request,
                                 DiffResponse* response) override {
    return HandleOn(*room_.long_calls, *context, [this, request, response](Call& call) {
      return MakeDiff(call, *request, *response);
    });
  }

 private:
  absl::Status Apply(Call& call, const ApplyRequest& request, ApplyResponse& response) {
    GANTRY_ASSIGN_OR_RETURN(content::Descriptor layer, DescriptorFrom(request.diff()));
    if (!IsLayer(layer.media_type)) {
      return absl::UnknownError(
          absl::StrCat("no differ applies media type \"", layer.media_type, "\""));
    }
    metadata::ContentNamespace store = room_.stores->Content(call.scope());
    GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<content::BlobReader> blob, store.Open(layer.digest));
    BlobSource source(*blob);
    const std::vector<snapshot::Mount> mounts = MountsFrom(request.mounts());
    snapshot::ApplyOptions options;
    options.cancel = &call.cancel();
    GANTRY_ASSIGN_OR_RETURN(snapshot::ApplyResult result,
                            snapshot::ApplyLayer(source, mounts, options));
    // The client mounted the parent along, if there is one: what the layer left open concerns
    // nothing below it.
    if (!result.deferred.empty()) {
      GANTRY_RETURN_IF_ERROR(snapshot::CompleteLayer(result.deferred, mounts, {}));
    }
    if (request.sync_fs()) {
      GANTRY_RETURN_IF_ERROR(snapshot::SyncLayer(mounts));
    }
    response.mutable_applied()->set_media_type(std::string(kTarLayer));
    response.mutable_applied()->set_digest(result.diff_id);
    response.mutable_applied()->set_size(result.uncompressed_bytes);
    return absl::OkStatus();
  }

  absl::Status MakeDiff(Call& call, const DiffRequest& request, DiffResponse& response) {
    const std::string media_type =
        request.media_type().empty() ? absl::StrCat(kTarLayer, "+gzip") : request.media_type();
    GANTRY_ASSIGN_OR_RETURN(Compression compression, CompressionToMake(media_type));

    metadata::ContentNamespace store = room_.stores->Content(call.scope());
    content::IngestOptions ingest_options;
    ingest_options.ref = request.ref().empty()
                             ? absl::StrCat("diff-", absl::ToUnixNanos(absl::Now()))
                             : request.ref();
    GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<content::Ingest> ingest,
                            store.OpenIngest(ingest_options));
    // A ref of ours that is not new was left by a client that gave up: its bytes are of another
    // diff.
    GANTRY_RETURN_IF_ERROR(ingest->Truncate(0));
    IngestSink sink(*ingest);
    GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<Compressor> compressor,
                            OpenCompressor(sink, compression));
    snapshot::DiffOptions options;
    options.cancel = &call.cancel();
    if (request.has_source_date_epoch())
      options.source_date_epoch = metadata::TimeOf(request.source_date_epoch());
    GANTRY_ASSIGN_OR_RETURN(snapshot::DiffResult result,
                            snapshot::WriteDiff(MountsFrom(request.left()),
                                                MountsFrom(request.right()), *compressor, options));
    GANTRY_RETURN_IF_ERROR(compressor->Finish());

    content::Descriptor layer;
    layer.media_type = media_type;
    layer.size_bytes = ingest->offset();
    layer.digest = ingest->current_digest();
    content::CommitOptions commit;
    commit.labels = metadata::LabelsOf(request.labels());
    if (compression != Compression::kNone)
      commit.labels["containerd.io/uncompressed"] = result.diff_id;
    absl::Status committed = ingest->Commit(commit).status();
    if (absl::IsAlreadyExists(committed)) {
      // The same changes were written before. Their blob may lack the labels.
      std::vector<std::string> fields;
      for (const auto& [key, value] : commit.labels) fields.push_back("labels." + key);
      if (!fields.empty()) {
        GANTRY_RETURN_IF_ERROR(store.Update(layer.digest, commit.labels, fields).status());
      }
    } else {
      GANTRY_RETURN_IF_ERROR(committed);
      room_.events->Publish(
          call.ns(), core::LowLevelEvent(core::EventKind::kContent, core::action::kCreate,
                                         layer.digest.str(), core::ContentFacts{layer.size_bytes}));
    }
    SetDescriptor(layer, response.mutable_diff());
    return absl::OkStatus();
  }

  const Room& room_;
};

}  // namespace

std::unique_ptr<DoorService> NewDiffService(const Room& room) {
  return std::make_unique<DiffService>(room);
}

}  // namespace gantry::api::containerd_api
