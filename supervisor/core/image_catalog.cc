// Finding, naming and removing images. How lists and details are made is in image_list.cc.
#include "supervisor/core/image_catalog.h"

#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

#include "base/crash_point.h"
#include "base/status_macros.h"
#include "proto/containerd/events/image.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/image_filters.h"
#include "supervisor/core/lease_scope.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/runnable_image.h"
#include "supervisor/gc/scheduler.h"

namespace gantry::core {
namespace {

constexpr int64_t kMaxConfigBytes = 8 << 20;

bool IsHex(absl::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789abcdef") == absl::string_view::npos;
}

absl::StatusOr<oci::PlatformMatcher> MatcherFor(absl::string_view platform) {
  if (platform.empty()) return oci::PlatformMatcher::Host();
  GANTRY_ASSIGN_OR_RETURN(content::Platform parsed, oci::ParsePlatform(platform));
  return oci::PlatformMatcher::Only(parsed);
}

}  // namespace

absl::StatusOr<content::Descriptor> TargetOf(const record::v1::Image& image) {
  content::Descriptor target;
  target.media_type = image.target().media_type();
  target.size_bytes = image.target().size();
  target.annotations.insert(image.target().annotations().begin(),
                            image.target().annotations().end());
  GANTRY_ASSIGN_OR_RETURN(target.digest, content::Digest::Parse(image.target().digest()));
  return target;
}

std::string ImageCatalog::DanglingName(const content::Digest& digest) {
  return absl::StrCat(kDanglingPrefix, digest.str());
}

absl::StatusOr<std::vector<record::v1::Image>> ImageCatalog::Find(const CallContext& context,
                                                                  absl::string_view image) {
  const metadata::Scope scope{context.ns, ""};
  Stores& stores = *parts_.stores;
  if (image.empty()) return absl::InvalidArgumentError("image: the name is empty");
  // By its exact name (containerd's clients may use any), then as a person writes it.
  std::vector<std::string> names = {std::string(image)};
  absl::StatusOr<distribution::Reference> reference = distribution::Reference::Parse(image);
  if (reference.ok()) names.push_back(reference->canonical());
  for (const std::string& name : names) {
    absl::StatusOr<record::v1::Image> found = stores.images.Get(scope, name);
    if (found.ok()) return std::vector<record::v1::Image>{*std::move(found)};
    if (!absl::IsNotFound(found.status()) && !absl::IsInvalidArgument(found.status()))
      return found.status();
  }
  // By repository@digest: any name of the repository that points there.
  std::map<std::string, std::vector<record::v1::Image>> by_target;
  absl::string_view hex = image;
  const bool prefixed = absl::ConsumePrefix(&hex, "sha256:");
  const bool id = IsHex(hex) && hex.size() <= 64 && (prefixed || hex.size() >= 3);
  const std::string wanted_digest = reference.ok() ? reference->digest().str() : "";
  if (!id && wanted_digest.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no such image: ", image,
                     reference.ok() ? "" : absl::StrCat(" (", reference.status().message(), ")")));
  }
  GANTRY_RETURN_IF_ERROR(
      stores.images.List(scope, metadata::Filter(), [&](const record::v1::Image& record) {
        const std::string& digest = record.target().digest();
        if (!wanted_digest.empty()) {
          if (digest != wanted_digest) return absl::OkStatus();
          absl::StatusOr<distribution::Reference> own =
              distribution::Reference::ParseName(record.name());
          if (own.ok() && own->repository() != reference->repository()) return absl::OkStatus();
          by_target[digest].push_back(record);
        } else if (absl::StartsWith(absl::StripPrefix(digest, "sha256:"), hex)) {
          by_target[digest].push_back(record);
        }
        return absl::OkStatus();
      }));
  if (by_target.empty() && id && hex.size() >= 12) {
    // Some tools call an image by the digest of its configuration.
    metadata::ContentNamespace content = stores.Content(scope);
    GANTRY_RETURN_IF_ERROR(
        stores.images.List(scope, metadata::Filter(), [&](const record::v1::Image& record) {
          absl::StatusOr<content::Descriptor> target = TargetOf(record);
          if (!target.ok()) return absl::OkStatus();
          absl::StatusOr<distribution::RunnableImage> runnable =
              distribution::FindRunnable(content, *target, oci::PlatformMatcher::All());
          if (runnable.ok() && absl::StartsWith(runnable->config.digest.hex(), hex))
            by_target[record.target().digest()].push_back(record);
          return absl::OkStatus();
        }));
  }
  if (by_target.empty()) return absl::NotFoundError(absl::StrCat("no such image: ", image));
  if (by_target.size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "image id ", image, " is ambiguous: ", by_target.size(), " images begin with it"));
  }
  return by_target.begin()->second;
}

absl::StatusOr<ResolvedImage> ImageCatalog::Resolve(const CallContext& context,
                                                    absl::string_view image,
                                                    absl::string_view platform) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records, Find(context, image));
  GANTRY_ASSIGN_OR_RETURN(oci::PlatformMatcher matcher, MatcherFor(platform));
  ResolvedImage resolved;
  for (const record::v1::Image& record : records) resolved.names.push_back(record.name());
  GANTRY_ASSIGN_OR_RETURN(resolved.target, TargetOf(records.front()));
  metadata::ContentNamespace content = parts_.stores->Content({context.ns, context.lease});
  absl::StatusOr<distribution::RunnableImage> runnable =
      distribution::FindRunnable(content, resolved.target, matcher);
  if (!runnable.ok()) {
    return absl::Status(absl::IsNotFound(runnable.status()) ? absl::StatusCode::kFailedPrecondition
                                                            : runnable.status().code(),
                        absl::StrCat("image ", image, ": ", runnable.status().message()));
  }
  resolved.manifest = runnable->manifest;
  GANTRY_ASSIGN_OR_RETURN(
      std::string manifest,
      content::ReadBlob(content, runnable->manifest.digest, oci::kMaxManifestBytes));
  GANTRY_ASSIGN_OR_RETURN(resolved.manifest_document,
                          oci::ParseManifest(manifest, runnable->manifest.media_type, image));
  GANTRY_ASSIGN_OR_RETURN(resolved.config_json,
                          content::ReadBlob(content, runnable->config.digest, kMaxConfigBytes));
  GANTRY_ASSIGN_OR_RETURN(
      resolved.config, oci::ParseImageConfig(resolved.config_json, absl::StrCat("image ", image)));
  resolved.chain_ids = oci::ChainIds(resolved.config.diff_ids);
  return resolved;
}

absl::Status ImageCatalog::Name(const CallContext& context, const std::string& name,
                                const content::Descriptor& target) {
  record::v1::Image record;
  record.set_name(name);
  record.mutable_target()->set_media_type(target.media_type);
  record.mutable_target()->set_digest(target.digest.str());
  record.mutable_target()->set_size(target.size_bytes);
  for (const auto& [key, value] : target.annotations)
    (*record.mutable_target()->mutable_annotations())[key] = value;
  const metadata::Scope scope{context.ns, ""};

  // Who loses the name stays reachable by id, as with docker, until pruned.
  absl::StatusOr<record::v1::Image> before = parts_.stores->images.Get(scope, name);
  bool created = false;
  CrashPoint("image.whole");
  GANTRY_RETURN_IF_ERROR(parts_.stores->images.Put(scope, record, &created).status());
  CrashPoint("image.recorded");
  if (created) {
    containerd::services::images::v1::ImageCreate event;
    event.set_name(name);
    parts_.events->Publish(context.ns, "/images/create", event);
  } else {
    containerd::services::images::v1::ImageUpdate event;
    event.set_name(name);
    parts_.events->Publish(context.ns, "/images/update", event);
  }
  if (before.ok() && before->target().digest() != target.digest.str() &&
      !absl::StartsWith(name, kDanglingPrefix)) {
    bool still_named = false;
    GANTRY_RETURN_IF_ERROR(
        parts_.stores->images.List(scope, metadata::Filter(), [&](const record::v1::Image& other) {
          still_named = still_named || other.target().digest() == before->target().digest();
          return absl::OkStatus();
        }));
    if (!still_named) {
      GANTRY_ASSIGN_OR_RETURN(content::Descriptor old, TargetOf(*before));
      return Name(context, DanglingName(old.digest), old);
    }
  }
  return absl::OkStatus();
}

absl::Status ImageCatalog::Tag(const CallContext& context, const v1::TagImageRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records, Find(context, request.image()));
  GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                          distribution::Reference::Parse(request.reference()));
  if (!reference.digest().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tag ", request.reference(), ": a tag cannot carry a digest"));
  }
  GANTRY_ASSIGN_OR_RETURN(content::Descriptor target, TargetOf(records.front()));
  GANTRY_RETURN_IF_ERROR(Name(context, reference.canonical(), target));
  // With a name of its own it is nameless no more.
  absl::Status dropped =
      parts_.stores->images.Delete({context.ns, ""}, DanglingName(target.digest));
  return absl::IsNotFound(dropped) ? absl::OkStatus() : dropped;
}

absl::StatusOr<v1::RemoveImageResponse> ImageCatalog::Remove(
    const CallContext& context, const v1::RemoveImageRequest& request) {
  Stores& stores = *parts_.stores;
  const metadata::Scope scope{context.ns, ""};
  GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records, Find(context, request.image()));
  const std::string digest = records.front().target().digest();
  std::vector<record::v1::Image> same;
  GANTRY_RETURN_IF_ERROR(
      stores.images.List(scope, metadata::Filter(), [&](const record::v1::Image& record) {
        if (record.target().digest() == digest) same.push_back(record);
        return absl::OkStatus();
      }));
  absl::string_view hex = request.image();
  absl::ConsumePrefix(&hex, "sha256:");
  const bool by_id = records.front().name() != request.image() && IsHex(hex) &&
                     absl::StartsWith(absl::StripPrefix(digest, "sha256:"), hex);
  std::vector<record::v1::Image> going = by_id ? same : records;
  if (by_id && same.size() > 1 && !request.force()) {
    std::vector<std::string> names;
    for (const record::v1::Image& record : same) names.push_back(record.name());
    return absl::FailedPreconditionError(
        absl::StrCat("image ", request.image(), " has several names (", absl::StrJoin(names, ", "),
                     "); remove them one by one, or all with --force"));
  }
  const bool last_names = going.size() == same.size();
  if (last_names && !request.force()) {
    std::string user;
    GANTRY_RETURN_IF_ERROR(stores.containers.List(
        scope, metadata::Filter(), [&](const record::v1::Container& container) {
          auto it = container.extensions().find("gantry.image");
          record::v1::Descriptor target;
          if (it != container.extensions().end() && target.ParseFromString(it->second.value()) &&
              target.digest() == digest)
            user = container.id();
          return absl::OkStatus();
        }));
    if (!user.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat("image ", request.image(), " is used by container ", user.substr(0, 12),
                       "; remove that first, or use --force to take the name away"));
    }
  }
  v1::RemoveImageResponse response;
  for (const record::v1::Image& record : going) {
    GANTRY_ASSIGN_OR_RETURN(content::Digest expected, content::Digest::Parse(digest));
    GANTRY_RETURN_IF_ERROR(stores.images.Delete(scope, record.name(), expected));
    containerd::services::images::v1::ImageDelete event;
    event.set_name(record.name());
    parts_.events->Publish(context.ns, "/images/delete", event);
    if (absl::StartsWith(record.name(), kDanglingPrefix)) continue;
    absl::StatusOr<distribution::Reference> reference =
        distribution::Reference::Parse(record.name());
    response.add_removals()->set_untagged(reference.ok() ? reference->familiar() : record.name());
  }
  if (last_names) {
    response.add_removals()->set_deleted(digest);
    // People look at the disk next: what nothing else needs goes now.
    GANTRY_RETURN_IF_ERROR(parts_.gc->CollectAndWait(false, absl::Now() + absl::Minutes(2)));
  }
  return response;
}

absl::StatusOr<v1::PruneImagesResponse> ImageCatalog::Prune(const CallContext& context,
                                                            const v1::PruneImagesRequest& request) {
  absl::Time until = absl::InfiniteFuture();
  v1::ListImagesRequest list;
  bool all = request.all();
  for (const v1::Filter& filter : request.filters()) {
    if (filter.key() == "until") {
      GANTRY_ASSIGN_OR_RETURN(until, ParseUntil(filter.value()));
    } else if (filter.key() == "dangling") {
      all = filter.value() == "false" || filter.value() == "0";
    } else {
      *list.add_filters() = filter;
    }
  }
  // Who asks for room gets that of interrupted pulls too.
  GANTRY_RETURN_IF_ERROR(LeaseScope::ForgetAll(parts_.stores->leases, context.ns));
  GANTRY_ASSIGN_OR_RETURN(v1::ListImagesResponse images, List(context, list));
  std::set<std::string> pinned;
  GANTRY_RETURN_IF_ERROR(parts_.stores->images.List(
      {context.ns, ""}, metadata::Filter(), [&pinned](const record::v1::Image& record) {
        const auto it = record.labels().find(metadata::kPinnedLabel);
        if (it != record.labels().end() && it->second == metadata::kPinned)
          pinned.insert(record.target().digest());
        return absl::OkStatus();
      }));
  v1::PruneImagesResponse response;
  for (const v1::ImageSummary& image : images.images()) {
    if (pinned.contains(image.id())) continue;
    if (image.containers() > 0 || (!all && !image.repo_tags().empty())) continue;
    if (absl::FromUnixSeconds(image.created_at().seconds()) > until) continue;
    v1::RemoveImageRequest remove;
    remove.set_image(image.id());
    remove.set_force(true);
    absl::StatusOr<v1::RemoveImageResponse> removed = Remove(context, remove);
    if (absl::IsNotFound(removed.status())) continue;
    GANTRY_RETURN_IF_ERROR(removed.status());
    response.mutable_removals()->MergeFrom(removed->removals());
    response.set_space_reclaimed_bytes(response.space_reclaimed_bytes() + image.size_bytes());
  }
  return response;
}

}  // namespace gantry::core
