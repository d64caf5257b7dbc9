#include "supervisor/core/image_push.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/call_token.h"
#include "supervisor/core/lease_scope.h"
#include "supervisor/core/refetch.h"
#include "supervisor/distribution/puller.h"
#include "supervisor/distribution/pusher.h"
#include "supervisor/distribution/reference.h"

namespace gantry::core {

absl::StatusOr<std::vector<v1::PushedImage>> ImagePush::Push(const CallContext& context,
                                                             const v1::PushRequest& request,
                                                             const ProgressFn& progress,
                                                             const RegistryAccess& access) {
  std::vector<distribution::Reference> references;
  if (request.all_tags()) {
    GANTRY_ASSIGN_OR_RETURN(distribution::Reference repository,
                            distribution::Reference::ParseName(request.reference()));
    GANTRY_RETURN_IF_ERROR(parts_.stores->images.List(
        {context.ns, ""}, metadata::Filter(), [&](const record::v1::Image& record) {
          absl::StatusOr<distribution::Reference> own =
              distribution::Reference::ParseName(record.name());
          if (own.ok() && own->repository() == repository.repository() && !own->tag().empty())
            references.push_back(*own);
          return absl::OkStatus();
        }));
    if (references.empty())
      return absl::NotFoundError(
          absl::StrCat("no image of repository ", request.reference(), " is here"));
  } else {
    GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                            distribution::Reference::Parse(request.reference()));
    references.push_back(reference);
  }
  PushOrder order;
  order.platform = request.platform();
  order.auth = request.auth();
  for (const distribution::Reference& reference : references) {
    GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records,
                            parts_.catalog->Find(context, reference.canonical()));
    GANTRY_ASSIGN_OR_RETURN(content::Descriptor target, TargetOf(records.front()));
    order.images.emplace_back(reference.canonical(), std::move(target));
  }
  return PushAs(context, order, progress, access);
}

absl::StatusOr<std::vector<v1::PushedImage>> ImagePush::PushAs(const CallContext& context,
                                                               const PushOrder& order,
                                                               const ProgressFn& progress,
                                                               const RegistryAccess& access) {
  CallToken token(context.cancel);
  std::vector<std::pair<distribution::Reference, content::Descriptor>> images;
  for (const auto& [text, target] : order.images) {
    GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                            distribution::Reference::Parse(text));
    images.emplace_back(std::move(reference), target);
  }
  if (images.empty()) return absl::InvalidArgumentError("push: no image is named");
  const std::string domain = images.front().first.domain();
  RegistryCall call(order.auth, domain, parts_.credentials, token.get());
  GANTRY_RETURN_IF_ERROR(call.Apply(access, parts_.hosts));
  distribution::PushOptions options;
  options.max_parallel_blobs = parts_.max_parallel_blobs;
  options.progress = TransferProgress(progress, true);
  if (!order.platform.empty()) {
    GANTRY_ASSIGN_OR_RETURN(content::Platform platform, oci::ParsePlatform(order.platform));
    options.platforms.push_back(platform);
  }
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope lease,
      LeaseScope::Create(parts_.stores->leases, parts_.stores->clock, context.ns, context.lease));
  metadata::ContentNamespace content = parts_.stores->Content(lease.scope());
  Refetch refetched(*parts_.puller, content, parts_.discard_blobs);
  options.fetch_missing = [&](const content::Descriptor& blob, const content::Labels& labels) {
    return refetched.Fetch(blob, labels, [&](const std::string& asked) {
      return asked == domain ? call.context : DaemonsCall(parts_.credentials, *token);
    });
  };
  std::vector<v1::PushedImage> answers;
  for (const auto& [reference, target] : images) {
    GANTRY_ASSIGN_OR_RETURN(distribution::PushedImage pushed,
                            parts_.pusher->Push(reference, target, content, options, call.context));
    v1::PushedImage& answer = answers.emplace_back();
    answer.set_reference(reference.canonical());
    answer.set_tag(reference.tag());
    answer.set_digest(pushed.target.digest.str());
    answer.set_size_bytes(pushed.target.size_bytes);
    parts_.catalog->Announce(context, "push", target, reference.familiar(),
                             reference.familiar_repository());
  }
  return answers;
}

}  // namespace gantry::core
