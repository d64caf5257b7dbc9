#include "supervisor/core/build_cache.h"

#include <algorithm>
#include <memory>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/engine/units.h"
#include "base/status_macros.h"
#include "content-store/store.h"
#include "proto/gantry/v1/builds.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/build_exchange.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/distribution/walk_budget.h"
#include "supervisor/gc/scheduler.h"
#include "supervisor/metadata/filter.h"
#include "supervisor/oci/manifest.h"

namespace gantry::core {
namespace {

int64_t SizeOf(const record::v1::BuildCacheRecord& record) {
  return record.size_bytes() + record.unpacked_size_bytes();
}

v1::BuildCacheRecord Shown(const metadata::StoredCacheRecord& stored) {
  v1::BuildCacheRecord out;
  out.set_id(stored.key.substr(stored.key.find(':') + 1));
  out.set_type("regular");
  out.set_description(stored.record.description());
  out.set_size_bytes(SizeOf(stored.record));
  *out.mutable_created_at() = stored.record.created_at();
  *out.mutable_last_used_at() = stored.record.last_used_at();
  out.set_uses(stored.record.uses());
  return out;
}

// Digests of what is below an image. What cannot be read is left out.
void AddTree(content::Store& store, const content::Descriptor& descriptor,
             distribution::WalkBudget& budget, int depth, std::set<std::string>& digests) {
  if (!digests.insert(descriptor.digest.str()).second) return;
  if (!oci::IsIndexType(descriptor.media_type) && !oci::IsManifestType(descriptor.media_type))
    return;
  const absl::StatusOr<oci::Document> document =
      budget.Read(store, descriptor, descriptor.digest.str(), depth);
  if (!document.ok()) return;
  for (const content::Descriptor& child : oci::Children(*document))
    AddTree(store, child, budget, depth + 1, digests);
}

// Whether all filters select the record. `id` matches a prefix; `until` and `unused-for` the time
// since the last use.
absl::StatusOr<bool> Selects(const google::protobuf::RepeatedPtrField<v1::Filter>& filters,
                             const v1::BuildCacheRecord& record, absl::Time now) {
  for (const v1::Filter& filter : filters) {
    const bool yes = filter.value() == "true" || filter.value() == "1";
    if (filter.key() == "id") {
      if (!absl::StartsWith(record.id(), filter.value())) return false;
    } else if (filter.key() == "type") {
      if (filter.value() != record.type()) return false;
    } else if (filter.key() == "description") {
      if (!absl::StrContains(record.description(), filter.value())) return false;
    } else if (filter.key() == "inuse") {
      if (yes != record.in_use()) return false;
    } else if (filter.key() == "shared") {
      if (yes != record.shared()) return false;
    } else if (filter.key() == "private") {
      if (yes == record.shared()) return false;
    } else if (filter.key() == "until" || filter.key() == "unused-for") {
      GANTRY_ASSIGN_OR_RETURN(const absl::Duration age, engine::ParseDuration(filter.value()));
      if (absl::FromUnixSeconds(record.last_used_at().seconds()) > now - age) return false;
    } else {
      return absl::InvalidArgumentError(absl::StrCat(
          "invalid filter '", filter.key(),
          "': there is id, type, description, inuse, shared, private, until and ", "unused-for"));
    }
  }
  return true;
}

}  // namespace

absl::StatusOr<absl::optional<BuildCache::Hit>> BuildCache::Find(ImageBuild::Session& session,
                                                                 const BuildRoot& root,
                                                                 const std::string& key) {
  const metadata::Scope scope{.ns = session.context().ns};
  absl::StatusOr<record::v1::BuildCacheRecord> found = records_.Find(scope, key);
  if (absl::IsNotFound(found.status())) {
    std::vector<std::string> others;
    GANTRY_RETURN_IF_ERROR(
        parts_.stores->namespaces.List([&](const record::v1::Namespace& one) -> absl::Status {
          if (one.name() != scope.ns) others.push_back(one.name());
          return absl::OkStatus();
        }));
    for (const std::string& other : others) {
      GANTRY_ASSIGN_OR_RETURN(absl::optional<Hit> hit, TakeOver(session, root, key, other));
      if (hit.has_value()) return hit;
    }
    return absl::optional<Hit>();
  }
  if (!found.ok()) return found.status();
  content::Descriptor layer;
  layer.media_type = found->media_type();
  layer.size_bytes = found->size_bytes();
  GANTRY_ASSIGN_OR_RETURN(layer.digest, content::Digest::Parse(found->digest()));
  GANTRY_ASSIGN_OR_RETURN(const content::Digest diff_id, content::Digest::Parse(found->diff_id()));
  absl::StatusOr<BuildRoot> reused = session.Reuse(root, layer, diff_id);
  if (absl::IsNotFound(reused.status())) {
    // Somebody removed the blob or the snapshot behind the cache's back.
    GANTRY_RETURN_IF_ERROR(records_.Remove(scope, key));
    return absl::optional<Hit>();
  }
  if (!reused.ok()) return reused.status();
  // It may go while this build runs; the session keeps what is used.
  const absl::Status touched = records_.Touch(scope, key, parts_.stores->clock.Now());
  if (!touched.ok() && !absl::IsNotFound(touched)) return touched;
  Hit hit;
  hit.root = *std::move(reused);
  hit.made_at = absl::FromUnixSeconds(found->created_at().seconds()) +
                absl::Nanoseconds(found->created_at().nanos());
  return absl::optional<Hit>(std::move(hit));
}

absl::StatusOr<absl::optional<BuildCache::Hit>> BuildCache::TakeOver(ImageBuild::Session& session,
                                                                     const BuildRoot& root,
                                                                     const std::string& key,
                                                                     const std::string& other) {
  const absl::StatusOr<record::v1::BuildCacheRecord> found = records_.Find({.ns = other}, key);
  if (absl::IsNotFound(found.status())) return absl::optional<Hit>();
  if (!found.ok()) return found.status();
  content::Descriptor layer;
  layer.media_type = found->media_type();
  layer.size_bytes = found->size_bytes();
  GANTRY_ASSIGN_OR_RETURN(layer.digest, content::Digest::Parse(found->digest()));
  GANTRY_ASSIGN_OR_RETURN(const content::Digest diff_id, content::Digest::Parse(found->diff_id()));
  const content::IngestOptions options = {absl::StrCat("build-cache-", layer.digest.str()),
                                          layer.size_bytes, layer.digest};
  absl::StatusOr<std::unique_ptr<content::Ingest>> ingest = session.store().OpenIngest(options);
  absl::Status here = ingest.status();
  if (ingest.ok()) {
    content::CommitOptions commit;
    commit.expected = layer.digest;
    commit.size_bytes = layer.size_bytes;
    // Complete from the start, unless the blob is gone.
    here = (*ingest)->offset() == layer.size_bytes ? (*ingest)->Commit(commit).status()
                                                   : absl::NotFoundError("the blob is gone");
    // One that stays is collected later.
    if (!here.ok()) (void)session.store().AbortIngest(options.ref);
  }
  // Another build may be at the same blob: this one does the step.
  if (!here.ok() && !absl::IsAlreadyExists(here)) return absl::optional<Hit>();
  Hit hit;
  GANTRY_ASSIGN_OR_RETURN(hit.root, session.exchange().Adopt(root, layer, diff_id));
  hit.made_at = absl::FromUnixSeconds(found->created_at().seconds()) +
                absl::Nanoseconds(found->created_at().nanos());
  GANTRY_RETURN_IF_ERROR(Put(session, key, found->description(), hit.root, hit.made_at));
  return absl::optional<Hit>(std::move(hit));
}

absl::Status BuildCache::Put(ImageBuild::Session& session, const std::string& key,
                             const std::string& description, const BuildRoot& after,
                             absl::Time made_at) {
  const content::Descriptor& layer = after.manifest.layers.back();
  record::v1::BuildCacheRecord record;
  record.set_description(description);
  record.set_media_type(layer.media_type);
  record.set_digest(layer.digest.str());
  record.set_size_bytes(layer.size_bytes);
  record.set_diff_id(after.diff_ids.back().str());
  record.set_snapshotter(parts_.stores->default_snapshotter);
  record.set_chain_id(after.chain_id());
  record.set_depth(static_cast<int>(after.diff_ids.size()));
  const metadata::Scope scope{.ns = session.context().ns};
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots("", scope));
  if (const absl::StatusOr<snapshot::Usage> usage = snapshots.Usage(record.chain_id()); usage.ok())
    record.set_unpacked_size_bytes(usage->size_bytes);
  const int64_t seconds = absl::ToUnixSeconds(made_at);
  record.mutable_created_at()->set_seconds(seconds);
  record.mutable_created_at()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(made_at - absl::FromUnixSeconds(seconds))));
  record.mutable_last_used_at()->set_seconds(seconds);
  return records_.Put(scope, key, record);
}

absl::StatusOr<std::vector<BuildCache::Item>> BuildCache::InOrder(
    const absl::optional<std::string>& ns) {
  std::vector<std::string> namespaces;
  if (ns.has_value()) {
    namespaces.push_back(*ns);
  } else {
    GANTRY_RETURN_IF_ERROR(
        parts_.stores->namespaces.List([&](const record::v1::Namespace& one) -> absl::Status {
          namespaces.push_back(one.name());
          return absl::OkStatus();
        }));
  }
  std::vector<Item> all;
  for (const std::string& name : namespaces) {
    GANTRY_ASSIGN_OR_RETURN(const std::vector<metadata::StoredCacheRecord> records,
                            records_.List(name));
    for (const metadata::StoredCacheRecord& stored : records) {
      Item& item = all.emplace_back();
      item.shown = Shown(stored);
      item.ns = name;
      item.key = stored.key;
      item.layer = stored.record.digest();
      item.depth = stored.record.depth();
    }
  }
  for (BuildCacheDirectories* directories : directories_) {
    GANTRY_ASSIGN_OR_RETURN(const std::vector<BuildCacheDirectories::Directory> found,
                            directories->Directories());
    for (const BuildCacheDirectories::Directory& one : found) {
      Item& item = all.emplace_back();
      item.directories = directories;
      item.shown.set_id(one.id);
      item.shown.set_type(one.type);
      item.shown.set_description(one.description);
      item.shown.set_size_bytes(one.size_bytes);
      item.shown.set_in_use(one.in_use);
      item.shown.mutable_last_used_at()->set_seconds(absl::ToUnixSeconds(one.last_used_at));
      *item.shown.mutable_created_at() = item.shown.last_used_at();
    }
  }
  std::sort(all.begin(), all.end(), [](const Item& a, const Item& b) {
    // Seconds: the steps of one build are used within one or a few.
    return std::make_tuple(a.shown.last_used_at().seconds(), -a.depth, a.shown.id()) <
           std::make_tuple(b.shown.last_used_at().seconds(), -b.depth, b.shown.id());
  });
  return all;
}

absl::Status BuildCache::MarkShared(const CallContext& context, std::vector<Item>& items) {
  std::vector<content::Descriptor> images;
  GANTRY_RETURN_IF_ERROR(parts_.stores->images.List(
      {.ns = context.ns}, metadata::Filter(), [&](const record::v1::Image& record) {
        const absl::StatusOr<content::Descriptor> target = TargetOf(record);
        if (target.ok()) images.push_back(*target);
        return absl::OkStatus();
      }));
  metadata::ContentNamespace content = parts_.stores->Content({.ns = context.ns});
  distribution::WalkBudget budget(context.cancel);
  std::set<std::string> digests;
  for (const content::Descriptor& image : images) AddTree(content, image, budget, 0, digests);
  for (Item& item : items)
    item.shown.set_shared(!item.layer.empty() && digests.count(item.layer) > 0);
  return absl::OkStatus();
}

absl::StatusOr<bool> BuildCache::Remove(const Item& item) {
  if (item.directories != nullptr) return item.directories->RemoveDirectory(item.shown.id());
  GANTRY_RETURN_IF_ERROR(records_.Remove({.ns = item.ns}, item.key));
  return true;
}

absl::StatusOr<v1::BuildCacheUsageResponse> BuildCache::Usage(
    const CallContext& context, const v1::BuildCacheUsageRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<Item> all, InOrder(context.ns));
  GANTRY_RETURN_IF_ERROR(MarkShared(context, all));
  v1::BuildCacheUsageResponse response;
  for (auto item = all.rbegin(); item != all.rend(); ++item) {
    GANTRY_ASSIGN_OR_RETURN(const bool selected,
                            Selects(request.filters(), item->shown, parts_.stores->clock.Now()));
    if (!selected) continue;
    *response.add_records() = item->shown;
    response.set_total_bytes(response.total_bytes() + item->shown.size_bytes());
  }
  return response;
}

absl::StatusOr<v1::PruneBuildCacheResponse> BuildCache::Prune(
    const CallContext& context, const v1::PruneBuildCacheRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<Item> all, InOrder(context.ns));
  GANTRY_RETURN_IF_ERROR(MarkShared(context, all));
  int64_t left = 0;
  for (const Item& item : all) left += item.shown.size_bytes();
  v1::PruneBuildCacheResponse response;
  for (const Item& item : all) {
    if (request.keep_bytes() > 0 && left <= request.keep_bytes()) break;
    if (item.shown.shared() && !request.all()) continue;
    GANTRY_ASSIGN_OR_RETURN(const bool selected,
                            Selects(request.filters(), item.shown, parts_.stores->clock.Now()));
    if (!selected) continue;
    GANTRY_ASSIGN_OR_RETURN(const bool removed, Remove(item));
    if (!removed) continue;
    left -= item.shown.size_bytes();
    *response.add_removed() = item.shown;
    response.set_space_reclaimed_bytes(response.space_reclaimed_bytes() + item.shown.size_bytes());
  }
  if (!response.removed().empty() && parts_.gc != nullptr) parts_.gc->CollectSoon();
  return response;
}

absl::Status BuildCache::KeepCeiling() {
  if (parts_.max_bytes == 0) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(const std::vector<Item> all, InOrder(absl::nullopt));
  int64_t left = 0;
  for (const Item& item : all) left += item.shown.size_bytes();
  bool any = false;
  for (const Item& item : all) {
    if (left <= parts_.max_bytes) break;
    GANTRY_ASSIGN_OR_RETURN(const bool removed, Remove(item));
    if (!removed) continue;
    left -= item.shown.size_bytes();
    any = true;
  }
  if (any && parts_.gc != nullptr) parts_.gc->CollectSoon();
  return absl::OkStatus();
}

}  // namespace gantry::core
