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
  if (request.all_tags()) {
    CallToken token(context.cancel);
    GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                            distribution::Reference::ParseName(request.reference()));
    RegistryCall call(request.auth(), reference.domain(), parts_.credentials, token.get());
    GANTRY_RETURN_IF_ERROR(call.Apply(access, parts_.hosts));
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

  GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                          distribution::Reference::Parse(request.reference()));
  PullOrder order;
  order.reference = request.reference();
  if (!request.platform().empty()) order.platforms.push_back(request.platform());
  order.auth = request.auth();
  v1::PulledImage answer;
  answer.set_reference(reference.canonical());
  bool was_there = false;
  GANTRY_ASSIGN_OR_RETURN(
      const Pulled pulled,
      PullAs(context, order, progress, access,
             [&](const CallContext& leased, const content::Descriptor& target) {
               absl::StatusOr<record::v1::Image> before =
                   parts_.stores->images.Get({context.ns, ""}, answer.reference());
               was_there = before.ok() && before->target().digest() == target.digest.str();
               return parts_.catalog->Name(leased, answer.reference(), target);
             }));
  answer.set_up_to_date(was_there && pulled.fetched_bytes == 0);
  answer.set_digest(pulled.target.digest.str());
  answer.set_image_id(pulled.target.digest.str());
  return answer;
}

absl::StatusOr<Pulled> ImagePull::PullAs(const CallContext& context, const PullOrder& order,
                                         const ProgressFn& progress, const RegistryAccess& access,
                                         const NameFn& name) {
  Stores& stores = *parts_.stores;
  CallToken token(context.cancel);
  GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                          distribution::Reference::Parse(order.reference));
  RegistryCall call(order.auth, reference.domain(), parts_.credentials, token.get());
  GANTRY_RETURN_IF_ERROR(call.Apply(access, parts_.hosts));
  const std::string work = absl::StrCat("pull ", reference.canonical());
  GANTRY_ASSIGN_OR_RETURN(LeaseScope lease, LeaseScope::Create(stores.leases, stores.clock,
                                                               context.ns, context.lease, work));
  const absl::Duration begun_at = Clock::Real().Monotonic();
  {
    absl::MutexLock lock(&mu_);
    ++pulls_.running;
  }
  absl::StatusOr<Pulled> pulled =
      PullUnder(lease, context, order, reference, call.context, *token, progress, name);
  {
    absl::MutexLock lock(&mu_);
    --pulls_.running;
    ++(pulled.ok() ? pulls_.succeeded : pulls_.failed);
    pulls_.took += Clock::Real().Monotonic() - begun_at;
    if (pulled.ok()) pulls_.fetched_bytes += pulled->fetched_bytes;
  }
  if (pulled.ok()) {
    parts_.catalog->Announce(context, "pull", pulled->target, reference.familiar(),
                             reference.familiar_repository());
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

absl::StatusOr<Pulled> ImagePull::PullUnder(const LeaseScope& lease, const CallContext& context,
                                            const PullOrder& order,
                                            distribution::Reference reference,
                                            const distribution::CallContext& registry,
                                            CancelToken& cancel, const ProgressFn& progress,
                                            const NameFn& name) {
  std::vector<std::string> platforms = order.platforms;
  if (platforms.empty()) platforms.emplace_back();
  Pulled all;
  std::vector<content::Digest> discard;
  for (const std::string& platform : platforms) {
    GANTRY_ASSIGN_OR_RETURN(Pulled one, FetchUnder(lease, context, platform, reference, registry,
                                                   cancel, progress, discard));
    all.fetched_bytes += one.fetched_bytes;
    all.target = std::move(one.target);
    // The other platforms are of the same image, wherever the tag has moved meanwhile.
    reference = reference.WithDigest(all.target.digest);
  }
  CallContext leased = context;
  leased.lease = lease.scope().lease;
  GANTRY_RETURN_IF_ERROR(name(leased, all.target));
  metadata::ContentNamespace content = parts_.stores->Content(lease.scope());
  for (const content::Digest& layer : discard) {
    absl::Status dropped = content.Delete(layer);
    if (!dropped.ok() && !absl::IsNotFound(dropped)) return dropped;
  }
  return all;
}

absl::StatusOr<Pulled> ImagePull::FetchUnder(const LeaseScope& lease, const CallContext& context,
                                             const std::string& platform,
                                             const distribution::Reference& reference,
                                             const distribution::CallContext& registry,
                                             CancelToken& cancel, const ProgressFn& progress,
                                             std::vector<content::Digest>& discard) {
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
  if (!platform.empty()) {
    GANTRY_ASSIGN_OR_RETURN(content::Platform parsed, oci::ParsePlatform(platform));
    options.platforms.push_back(parsed);
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
  if (parts_.discard_blobs && plan.has_value()) {
    for (const content::Descriptor& layer : plan->layers) discard.push_back(layer.digest);
  }
  if (unpacked.layers_unpacked > 0) {
    LOG(INFO) << "ns=" << context.ns << " pulled " << reference.canonical() << ": "
              << pulled.fetched_bytes << " bytes, " << unpacked.layers_unpacked
              << " layers; stages: resolve=" << Seconds(pulled.resolving)
              << " fetch=" << Seconds(pulled.fetching)
              << " unpack_rest=" << Seconds(unpacked_at - fetched_at - unpacked.syncing)
              << " sync=" << Seconds(unpacked.syncing + Clock::Real().Monotonic() - unpacked_at)
              << "; " << CostOf(pulled.fetch_cost, unpacked.cost);
  }
  return Pulled{pulled.target, pulled.fetched_bytes};
}

}  // namespace gantry::core
