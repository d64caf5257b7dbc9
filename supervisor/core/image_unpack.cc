#include "supervisor/core/image_unpack.h"

#include <utility>

#include "base/status_macros.h"
#include "supervisor/core/call_token.h"
#include "supervisor/core/lease_scope.h"
#include "supervisor/core/refetch.h"
#include "supervisor/core/registry_call.h"
#include "supervisor/distribution/unpacker.h"

namespace gantry::core {

absl::StatusOr<std::string> ImageUnpack::EnsureUnpacked(const CallContext& context,
                                                        const ResolvedImage& image,
                                                        const std::string& snapshotter,
                                                        const ProgressFn& progress) {
  if (image.chain_ids.empty()) return std::string();
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots(snapshotter, {context.ns, context.lease}));
  if (snapshots.Stat(image.chain_id()).ok()) return image.chain_id();
  CallToken token(context.cancel);
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope lease,
      LeaseScope::Create(parts_.stores->leases, parts_.stores->clock, context.ns, context.lease));
  metadata::ContentNamespace content = parts_.stores->Content(lease.scope());
  distribution::UnpackTarget target;
  target.store = &content;
  target.snapshotter = &snapshots;
  target.snapshotter_name = snapshots.name();
  target.scope = context.ns;
  Refetch refetched(*parts_.puller, content, parts_.discard_blobs);
  GANTRY_RETURN_IF_ERROR(refetched.FetchBelow(
      image.manifest, [&](const std::string&) { return DaemonsCall(parts_.credentials, *token); },
      token.get()));
  GANTRY_ASSIGN_OR_RETURN(
      distribution::UnpackResult result,
      parts_.unpacker->UnpackImage(target, image.manifest, *token, UnpackProgressTo(progress)));
  return result.chain_id.str();
}

}  // namespace gantry::core
