#include "supervisor/core/image_pull.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/clock.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/call_token.h"
#include "supervisor/core/lease_scope.h"
#include "supervisor/distribution/puller.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/resolver.h"
#include "supervisor/distribution/unpacker.h"

namespace gantry::core {
namespace {

// How long what an interrupted pull has got is kept for the next attempt.
constexpr absl::Duration kInterruptedPatience = absl::Hours(24);

}  // namespace

absl::Status ImagePull::Recover() {
  std::vector<std::string> namespaces;
  GANTRY_RETURN_IF_ERROR(
      parts_.stores->namespaces.List([&](const record::v1::Namespace& name_space) {
        namespaces.push_back(name_space.name());
        return absl::OkStatus();
      }));
  for (const std::string& ns : namespaces) {
    GANTRY_RETURN_IF_ERROR(LeaseScope::TakeOver(parts_.stores->leases, parts_.stores->clock, ns,
                                                kInterruptedPatience));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::PulledImage> ImagePull::Pull(const CallContext& context,
                                                const v1::PullRequest& request,
                                                const ProgressFn& progress,
                                                const RegistryAccess& access) {
  Stores& stores = *parts_.stores;
  CallToken token(context.cancel);
  GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                          request.all_tags()
                              ? distribution::Reference::ParseName(request.reference())
                              : distribution::Reference::Parse(request.reference()));
  RegistryCall call(request.auth(), reference.domain(), parts_.credentials, token.get());
  GANTRY_RETURN_IF_ERROR(call.Apply(access, parts_.hosts));
  if (request.all_tags()) {
    GANTRY_ASSIGN_OR_RETURN(std::vector<std::string> tags,
                            parts_.resolver->ListTags(reference, call.context));
    v1::PulledImage last;
    v1::PullRequest one = request;
    one.set_all_tags(false);
    for (const std::string& tag : tags) {
      GANTRY_ASSIGN_OR_RETURN(distribution::Reference tagged, reference.WithTag(tag));
      one.set_reference(tagged.canonical());
      GANTRY_ASSIGN_OR_RETURN(last, Pull(context, one, progress, access));
    }
    if (tags.empty())
      return absl::NotFoundError(absl::StrCat(request.reference(), ": the repository has no tags"));
    return last;
  }

  const std::string work = absl::StrCat("pull ", reference.canonical());
  GANTRY_ASSIGN_OR_RETURN(LeaseScope lease, LeaseScope::Create(stores.leases, stores.clock,
                                                               context.ns, context.lease, work));
  const absl::Duration begun_at = Clock::Real().Monotonic();
  {
    absl::MutexLock lock(&mu_);
    ++pulls_.running;
  }
  absl::StatusOr<v1::PulledImage> pulled =
      PullUnder(lease, context, request, reference, call.context, *token, progress);
  {
    absl::MutexLock lock(&mu_);
    --pulls_.running;
    ++(pulled.ok() ? pulls_.succeeded : pulls_.failed);
    pulls_.took += Clock::Real().Monotonic() - begun_at;
  }
  // Where another attempt may go on, it finds what this one has got.
  absl::Status left;
  if (pulled.ok()) {
    left = LeaseScope::Forget(stores.leases, context.ns, work);
  } else if (absl::IsCancelled(pulled.status()) || absl::IsDeadlineExceeded(pulled.status()) ||
             absl::IsUnavailable(pulled.status()) || absl::IsResourceExhausted(pulled.status())) {
    left = lease.Keep(stores.clock, work, kInterruptedPatience);
  }
  LOG_IF(WARNING, !left.ok()) << "ns=" << context.ns << " " << work << ": " << left;
  return pulled;
}

PullCounts ImagePull::pull_counts() const {
  absl::MutexLock lock(&mu_);
  return pulls_;
}

absl::StatusOr<v1::PulledImage> ImagePull::PullUnder(
    const LeaseScope& lease, const CallContext& context, const v1::PullRequest& request,
    const distribution::Reference& reference, const distribution::CallContext& registry,
    CancelToken& cancel, const ProgressFn& progress) {
  Stores& stores = *parts_.stores;
  metadata::ContentNamespace content = stores.Content(lease.scope());
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          stores.Snapshots("", lease.scope()));
  distribution::UnpackTarget target;
  target.store = &content;
  target.snapshotter = &snapshots;
  target.snapshotter_name = snapshots.name();
  target.scope = context.ns;
  std::unique_ptr<distribution::UnpackSession> session =
      parts_.unpacker->Start(target, cancel, UnpackProgressTo(progress));

  std::optional<distribution::ImagePlan> plan;
  distribution::PullOptions options;
  if (!request.platform().empty()) {
    GANTRY_ASSIGN_OR_RETURN(content::Platform platform, oci::ParsePlatform(request.platform()));
    options.platforms.push_back(platform);
  }
  options.max_parallel_blobs = parts_.max_parallel_blobs;
  options.fetch_unpacked_layers = !parts_.discard_blobs;
  options.sync_blobs = parts_.sync_blobs == nullptr;
  options.sink = session.get();
  options.progress = TransferProgress(progress, false);
  options.on_image = [&](const distribution::ImagePlan& found) {
    if (!plan.has_value()) {
      plan = found;
      session->Expect(found.layers, found.diff_ids);
    }
    return absl::OkStatus();
  };
  options.is_unpacked = [&](const distribution::ImagePlan& found, size_t index) {
    const std::vector<content::Digest> chain = oci::ChainIds(found.diff_ids);
    return index < chain.size() && snapshots.Stat(chain[index].str()).ok();
  };
  GANTRY_ASSIGN_OR_RETURN(distribution::PulledImage pulled,
                          parts_.puller->Pull(reference, content, options, registry));
  const absl::Duration fetched_at = Clock::Real().Monotonic();
  distribution::UnpackResult unpacked;
  if (plan.has_value()) {
    GANTRY_ASSIGN_OR_RETURN(unpacked,
                            session->Finish(plan->config.digest, plan->layers, plan->diff_ids));
  }
  const absl::Duration unpacked_at = Clock::Real().Monotonic();
  if (parts_.sync_blobs) GANTRY_RETURN_IF_ERROR(parts_.sync_blobs());
  const absl::Duration synced_at = Clock::Real().Monotonic();

  v1::PulledImage answer;
  const std::string name = reference.canonical();
  absl::StatusOr<record::v1::Image> before = stores.images.Get({context.ns, ""}, name);
  answer.set_up_to_date(before.ok() && before->target().digest() == pulled.target.digest.str() &&
                        pulled.fetched_bytes == 0);
  CallContext leased = context;
  leased.lease = lease.scope().lease;
  GANTRY_RETURN_IF_ERROR(parts_.catalog->Name(leased, name, pulled.target));
  if (parts_.discard_blobs && plan.has_value()) {
    for (const content::Descriptor& layer : plan->layers) {
      absl::Status dropped = content.Delete(layer.digest);
      if (!dropped.ok() && !absl::IsNotFound(dropped)) return dropped;
    }
  }
  {
    absl::MutexLock lock(&mu_);
    pulls_.fetched_bytes += pulled.fetched_bytes;
  }
  answer.set_reference(name);
  answer.set_digest(pulled.target.digest.str());
  answer.set_image_id(pulled.target.digest.str());
  if (unpacked.layers_unpacked > 0) {
    LOG(INFO) << "ns=" << context.ns << " pulled " << name << ": " << pulled.fetched_bytes
              << " bytes, " << unpacked.layers_unpacked
              << " layers; stages: resolve=" << Seconds(pulled.resolving)
              << " fetch=" << Seconds(pulled.fetching)
              << " unpack_rest=" << Seconds(unpacked_at - fetched_at - unpacked.syncing)
              << " sync=" << Seconds(unpacked.syncing + synced_at - unpacked_at)
              << " record=" << Seconds(Clock::Real().Monotonic() - synced_at) << "; "
              << CostOf(pulled.fetch_cost, unpacked.cost);
  }
  return answer;
}

}  // namespace gantry::core
