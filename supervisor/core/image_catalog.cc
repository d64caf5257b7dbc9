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

#include "base/cancel_token.h"
#include "base/crash_point.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/filters.h"
#include "supervisor/core/image_filters.h"
#include "supervisor/core/image_names.h"
#include "supervisor/core/lease_scope.h"
#include "supervisor/core/record_facts.h"
#include "supervisor/core/shown_images.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/runnable_image.h"
#include "supervisor/gc/scheduler.h"

namespace gantry::core {
namespace {

constexpr int64_t kMaxConfigBytes = 8 << 20;
constexpr size_t kShortIdDigits = 12;  // of the ids that lists show

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

std::string ImageOfContainer(const record::v1::Container& container) {
  auto it = container.extensions().find("gantry.image");
  record::v1::Descriptor target;
  if (it == container.extensions().end() || !target.ParseFromString(it->second.value())) return "";
  return target.digest();
}

std::string ImageCatalog::DanglingName(const content::Digest& digest) {
  return absl::StrCat(kDanglingPrefix, digest.str());
}

absl::StatusOr<std::vector<record::v1::Image>> ImageCatalog::Find(const CallContext& context,
                                                                  absl::string_view image) {
  if (image.empty()) return absl::InvalidArgumentError("image: the name is empty");
  absl::string_view hex = image;
  const bool prefixed = absl::ConsumePrefix(&hex, "sha256:");
  const bool id = IsHex(hex) && hex.size() <= 64 && (prefixed || hex.size() >= 3);
  const auto found = [](const absl::StatusOr<std::vector<record::v1::Image>>& records) {
    return records.ok() || !absl::IsNotFound(records.status());
  };
  // What reads as an id, short ones as lists show them included, is one before it is a name: a name
  // is whatever an archive says it is.
  const bool id_first = id && (prefixed || hex.size() >= kShortIdDigits);
  if (id_first) {
    absl::StatusOr<std::vector<record::v1::Image>> records = FindById(context, image, hex);
    if (found(records)) return records;
  }
  absl::StatusOr<distribution::Reference> reference = distribution::Reference::Parse(image);
  if (!ReadsAsId(image)) {
    absl::StatusOr<std::vector<record::v1::Image>> records = FindByName(context, image, reference);
    if (found(records)) return records;
  }
  if (id && !id_first) return FindById(context, image, hex);
  return absl::NotFoundError(absl::StrCat(
      "no such image: ", image,
      reference.ok() || id ? "" : absl::StrCat(" (", reference.status().message(), ")")));
}

// By its exact name (containerd's clients may use any), then as a person writes it; by
// repository@digest, any name of the repository that points there.
absl::StatusOr<std::vector<record::v1::Image>> ImageCatalog::FindByName(
    const CallContext& context, absl::string_view image,
    const absl::StatusOr<distribution::Reference>& reference) {
  const metadata::Scope scope{context.ns, ""};
  Stores& stores = *parts_.stores;
  std::vector<std::string> names = {std::string(image)};
  if (reference.ok()) names.push_back(reference->canonical());
  for (const std::string& name : names) {
    absl::StatusOr<record::v1::Image> record = stores.images.Get(scope, name);
    if (absl::IsNotFound(record.status()) || absl::IsInvalidArgument(record.status())) continue;
    GANTRY_RETURN_IF_ERROR(record.status());
    GANTRY_ASSIGN_OR_RETURN(const content::Descriptor target, TargetOf(*record));
    // One that breaks its promise is not what was asked for.
    if (CheckImageName(name, target.digest).ok())
      return std::vector<record::v1::Image>{*std::move(record)};
  }
  std::vector<record::v1::Image> records;
  if (reference.ok() && !reference->digest().empty()) {
    GANTRY_ASSIGN_OR_RETURN(records, RecordsOf(context, reference->digest().str()));
    std::erase_if(records, [&](const record::v1::Image& record) {
      absl::StatusOr<distribution::Reference> own =
          distribution::Reference::ParseName(record.name());
      return own.ok() && own->repository() != reference->repository();
    });
  }
  if (records.empty()) return absl::NotFoundError(absl::StrCat("no such image: ", image));
  return records;
}

// By the digest of what names point at, or of its configuration, as some tools call an image; `hex`
// may be the beginning of it.
absl::StatusOr<std::vector<record::v1::Image>> ImageCatalog::FindById(const CallContext& context,
                                                                      absl::string_view image,
                                                                      absl::string_view hex) {
  const metadata::Scope scope{context.ns, ""};
  Stores& stores = *parts_.stores;
  std::map<std::string, std::vector<record::v1::Image>> by_target;
  const std::string beginning = absl::StrCat("sha256:", hex);
  GANTRY_RETURN_IF_ERROR(
      stores.images.ListNaming(scope, beginning, [&](const record::v1::Image& record) {
        if (absl::StartsWith(record.target().digest(), beginning))
          by_target[record.target().digest()].push_back(record);
        return absl::OkStatus();
      }));
  if (by_target.empty() && hex.size() >= kShortIdDigits) {
    metadata::ContentNamespace content = stores.Content(scope);
    GANTRY_RETURN_IF_ERROR(
        stores.images.List(scope, metadata::Filter(), [&](const record::v1::Image& record) {
          absl::StatusOr<content::Descriptor> target = TargetOf(record);
          if (!target.ok()) return absl::OkStatus();
          absl::StatusOr<distribution::RunnableImage> runnable = distribution::FindRunnable(
              content, *target, oci::PlatformMatcher::All(), context.cancel);
          if (runnable.ok() && absl::StartsWith(runnable->config.digest.hex(), hex))
            by_target[record.target().digest()].push_back(record);
          return context.cancel == nullptr ? absl::OkStatus() : context.cancel->Check();
        }));
  }
  if (by_target.empty()) return absl::NotFoundError(absl::StrCat("no such image: ", image));
  if (by_target.size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "image id ", image, " is ambiguous: ", by_target.size(), " images begin with it"));
  }
  return std::move(by_target.begin()->second);
}

absl::StatusOr<std::vector<record::v1::Image>> ImageCatalog::RecordsOf(const CallContext& context,
                                                                       const std::string& digest) {
  std::vector<record::v1::Image> records;
  GANTRY_RETURN_IF_ERROR(parts_.stores->images.ListNaming({context.ns, ""}, digest,
                                                          [&](const record::v1::Image& record) {
                                                            if (record.target().digest() == digest)
                                                              records.push_back(record);
                                                            return absl::OkStatus();
                                                          }));
  return records;
}

absl::StatusOr<ResolvedImage> ImageCatalog::Resolve(const CallContext& context,
                                                    absl::string_view image,
                                                    absl::string_view platform) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records, Find(context, image));
  GANTRY_ASSIGN_OR_RETURN(oci::PlatformMatcher matcher, MatcherFor(platform));
  return ResolveRecords(context, records, image, matcher);
}

// An image that cannot run here is looked at all the same.
absl::StatusOr<ResolvedImage> ImageCatalog::ResolveToShow(
    const CallContext& context, const std::vector<record::v1::Image>& records,
    absl::string_view platform) {
  GANTRY_ASSIGN_OR_RETURN(oci::PlatformMatcher matcher, MatcherFor(platform));
  const std::string& name = records.front().name();
  absl::StatusOr<ResolvedImage> image = ResolveRecords(context, records, name, matcher);
  if (platform.empty() && absl::IsFailedPrecondition(image.status())) {
    absl::StatusOr<ResolvedImage> other =
        ResolveRecords(context, records, name, oci::PlatformMatcher::All());
    if (other.ok()) return other;
  }
  return image;
}

absl::StatusOr<ResolvedImage> ImageCatalog::ResolveRecords(
    const CallContext& context, const std::vector<record::v1::Image>& records,
    absl::string_view image, const oci::PlatformMatcher& matcher) {
  GANTRY_ASSIGN_OR_RETURN(const content::Descriptor target, TargetOf(records.front()));
  absl::StatusOr<ResolvedImage> resolved = ResolveTarget(context, target, matcher);
  if (!resolved.ok()) {
    return absl::Status(resolved.status().code(),
                        absl::StrCat("image ", image, ": ", resolved.status().message()));
  }
  for (const record::v1::Image& record : records) resolved->names.push_back(record.name());
  return resolved;
}

absl::StatusOr<ResolvedImage> ImageCatalog::ResolveTarget(const CallContext& context,
                                                          const content::Descriptor& target,
                                                          const oci::PlatformMatcher& matcher) {
  ResolvedImage resolved;
  resolved.target = target;
  metadata::ContentNamespace content = parts_.stores->Content({context.ns, context.lease});
  absl::StatusOr<distribution::RunnableImage> runnable =
      distribution::FindRunnable(content, target, matcher, context.cancel);
  if (absl::IsNotFound(runnable.status()))
    return absl::FailedPreconditionError(runnable.status().message());
  GANTRY_RETURN_IF_ERROR(runnable.status());
  resolved.manifest = runnable->manifest;
  const std::string what = target.digest.str();
  GANTRY_ASSIGN_OR_RETURN(
      std::string manifest,
      content::ReadBlob(content, runnable->manifest.digest, oci::kMaxManifestBytes));
  GANTRY_ASSIGN_OR_RETURN(resolved.manifest_document,
                          oci::ParseManifest(manifest, runnable->manifest.media_type, what));
  GANTRY_ASSIGN_OR_RETURN(resolved.config_json,
                          content::ReadBlob(content, runnable->config.digest, kMaxConfigBytes));
  GANTRY_ASSIGN_OR_RETURN(resolved.config, oci::ParseImageConfig(resolved.config_json, what));
  resolved.chain_ids = oci::ChainIds(resolved.config.diff_ids);
  return resolved;
}

absl::Status ImageCatalog::Put(const CallContext& context, const ImageNaming& naming,
                               const content::Descriptor& target) {
  GANTRY_RETURN_IF_ERROR(CheckImageName(naming.name, target.digest));
  // Blobs first: also those that another call has committed and not yet synced.
  if (parts_.sync_blobs) GANTRY_RETURN_IF_ERROR(parts_.sync_blobs());
  record::v1::Image record;
  record.set_name(naming.name);
  record.mutable_target()->set_media_type(target.media_type);
  record.mutable_target()->set_digest(target.digest.str());
  record.mutable_target()->set_size(target.size_bytes);
  for (const auto& [key, value] : target.annotations)
    (*record.mutable_target()->mutable_annotations())[key] = value;
  record.mutable_labels()->insert(naming.labels.begin(), naming.labels.end());
  bool created = false;
  CrashPoint("image.whole");
  GANTRY_ASSIGN_OR_RETURN(const record::v1::Image stored,
                          parts_.stores->images.Put({context.ns, ""}, std::move(record), &created));
  CrashPoint("image.recorded");
  parts_.events->Publish(context.ns,
                         ImageRecordWritten(created ? action::kCreate : action::kUpdate, stored));
  return absl::OkStatus();
}

void ImageCatalog::Announce(const CallContext& context, absl::string_view action,
                            const content::Descriptor& target, absl::string_view id,
                            absl::string_view name) {
  Event event(EventKind::kImage, action, id);
  const Facts facts = FactsOf(context, target);
  event.attributes.insert(facts.labels.begin(), facts.labels.end());
  event.attributes["name"] = std::string(name);
  parts_.events->Publish(context.ns, std::move(event));
}

absl::Status ImageCatalog::Name(const CallContext& context, const std::string& name,
                                const content::Descriptor& target) {
  // An image that loses the name stays reachable by id, as with docker, until pruned.
  absl::StatusOr<record::v1::Image> before = parts_.stores->images.Get({context.ns, ""}, name);
  GANTRY_RETURN_IF_ERROR(Put(context, {name, {}}, target));
  if (before.ok() && before->target().digest() != target.digest.str() &&
      !absl::StartsWith(name, kDanglingPrefix)) {
    GANTRY_ASSIGN_OR_RETURN(const std::vector<record::v1::Image> others,
                            RecordsOf(context, before->target().digest()));
    if (others.empty()) {
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
      parts_.stores->images.Delete({context.ns, ""}, DanglingName(target.digest), target.digest);
  if (!dropped.ok() && !absl::IsNotFound(dropped)) return dropped;
  Announce(context, "tag", target, target.digest.str(), reference.familiar());
  return absl::OkStatus();
}

absl::StatusOr<std::string> ImageCatalog::UserOf(const CallContext& context,
                                                 const std::string& digest) {
  std::string user;
  GANTRY_RETURN_IF_ERROR(parts_.stores->containers.ListWithoutSpecs(
      {context.ns, ""}, [&](absl::string_view id, absl::string_view bytes) {
        // Most containers have another image: not worth parsing.
        if (!user.empty() || !absl::StrContains(bytes, digest)) return absl::OkStatus();
        record::v1::Container container;
        if (!container.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
          return absl::OkStatus();
        const std::vector<std::string> shown = ShownImages(container);
        if (ImageOfContainer(container) == digest ||
            std::find(shown.begin(), shown.end(), digest) != shown.end())
          user = std::string(id);
        return absl::OkStatus();
      }));
  return user;
}

absl::Status ImageCatalog::DropName(const CallContext& context, const record::v1::Image& record,
                                    v1::RemoveImageResponse& response) {
  GANTRY_ASSIGN_OR_RETURN(const content::Digest expected,
                          content::Digest::Parse(record.target().digest()));
  GANTRY_RETURN_IF_ERROR(parts_.stores->images.Delete({context.ns, ""}, record.name(), expected));
  parts_.events->Publish(context.ns, ImageRecordGone(record.name()));
  if (absl::StartsWith(record.name(), kDanglingPrefix)) return absl::OkStatus();
  absl::StatusOr<distribution::Reference> reference = distribution::Reference::Parse(record.name());
  const std::string name = reference.ok() ? reference->familiar() : record.name();
  response.add_removals()->set_untagged(name);
  GANTRY_ASSIGN_OR_RETURN(const content::Descriptor target, TargetOf(record));
  Announce(context, "untag", target, target.digest.str(), name);
  return absl::OkStatus();
}

absl::StatusOr<v1::RemoveImageResponse> ImageCatalog::Remove(
    const CallContext& context, const v1::RemoveImageRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records, Find(context, request.image()));
  const std::string digest = records.front().target().digest();
  GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> same, RecordsOf(context, digest));
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
                     "); remove them one by one, or all by force"));
  }
  const bool last_names = going.size() == same.size();
  if (last_names && !request.force()) {
    GANTRY_ASSIGN_OR_RETURN(const std::string user, UserOf(context, digest));
    if (!user.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat("image ", request.image(), " is used by container ", user.substr(0, 12),
                       "; remove that first, or take the name away by force"));
    }
  }
  v1::RemoveImageResponse response;
  for (const record::v1::Image& record : going)
    GANTRY_RETURN_IF_ERROR(DropName(context, record, response));
  if (last_names) {
    response.add_removals()->set_deleted(digest);
    GANTRY_ASSIGN_OR_RETURN(const content::Descriptor target, TargetOf(records.front()));
    Announce(context, "delete", target, digest, digest);
    // People look at the disk next. Not waited for: a thousand removals share a few collections.
    parts_.gc->CollectSoon();
  }
  return response;
}

absl::StatusOr<v1::PruneImagesResponse> ImageCatalog::Prune(const CallContext& context,
                                                            const v1::PruneImagesRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(const Filters filters,
                          Filters::Parse(request.filters(), {"dangling", "until"}));
  bool all = request.all();
  for (const std::string& value : filters.Values("dangling")) {
    GANTRY_ASSIGN_OR_RETURN(const bool dangling, ParseTruth("dangling", value));
    all = !dangling;
  }
  v1::ListImagesRequest list;
  for (const v1::Filter& filter : request.filters())
    if (filter.key() != "dangling") *list.add_filters() = filter;
  GANTRY_ASSIGN_OR_RETURN(v1::ListImagesResponse images, List(context, list));
  // A request for room takes that of interrupted pulls too.
  GANTRY_RETURN_IF_ERROR(LeaseScope::ForgetAll(parts_.stores->leases, context.ns));
  std::map<std::string, std::vector<record::v1::Image>> by_target;
  std::set<std::string> pinned;
  GANTRY_RETURN_IF_ERROR(parts_.stores->images.List(
      {context.ns, ""}, metadata::Filter(), [&](const record::v1::Image& record) {
        by_target[record.target().digest()].push_back(record);
        const auto it = record.labels().find(metadata::kPinnedLabel);
        if (it != record.labels().end() && it->second == metadata::kPinned)
          pinned.insert(record.target().digest());
        return absl::OkStatus();
      }));
  v1::PruneImagesResponse response;
  for (const v1::ImageSummary& image : images.images()) {
    if (pinned.contains(image.id())) continue;
    if (image.containers() > 0 || (!all && !image.repo_tags().empty())) continue;
    v1::RemoveImageResponse removed;
    for (const record::v1::Image& record : by_target[image.id()]) {
      absl::Status dropped = DropName(context, record, removed);
      if (!dropped.ok() && !absl::IsNotFound(dropped)) return dropped;
    }
    removed.add_removals()->set_deleted(image.id());
    GANTRY_ASSIGN_OR_RETURN(const content::Descriptor target,
                            TargetOf(by_target[image.id()].front()));
    Announce(context, "delete", target, image.id(), image.id());
    response.mutable_removals()->MergeFrom(removed.removals());
    response.set_space_reclaimed_bytes(response.space_reclaimed_bytes() + image.size_bytes());
  }
  // One collection for all of them.
  GANTRY_RETURN_IF_ERROR(parts_.gc->CollectAndWait(false, absl::Now() + absl::Minutes(2)));
  parts_.events->Publish(context.ns,
                         Event(EventKind::kImage, "prune", "",
                               {{"reclaimed", absl::StrCat(response.space_reclaimed_bytes())}}));
  return response;
}

}  // namespace gantry::core
