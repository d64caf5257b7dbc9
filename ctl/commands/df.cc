#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

#include "base/engine/list_rows.h"
#include "base/engine/proto_time.h"
#include "base/engine/units.h"
#include "base/engine/volume_json.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/listing.h"
#include "ctl/table.h"
#include "proto/gantry/v1/builds.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/system.pb.h"
#include "proto/gantry/v1/volumes.pb.h"

namespace gantry::ctl {
namespace {

// "default/0123456789ab" of what is named in a namespace.
std::string ShortName(const std::string& id) {
  const size_t slash = id.find('/');
  if (slash == std::string::npos) return engine::ShortId(id);
  return absl::StrCat(id.substr(0, slash + 1), engine::ShortId(id.substr(slash + 1)));
}

// Each blob, snapshot and file, with what keeps it.
std::string OwnersText(const v1::DiskUsageResponse& usage) {
  const absl::Time now = absl::Now();
  std::string out;
  for (const auto& kind : usage.kinds()) {
    if (kind.items().empty()) continue;
    absl::StrAppend(&out, kind.name(), " space usage:\n\n");
    std::string table = "TYPE\tID\tNAME\tSIZE\tSHARED\tUNIQUE\tCREATED\tSTATE\tOWNERS\n";
    for (const auto& item : kind.items()) {
      const absl::Time created = engine::FromProto(item.created_at());
      absl::StrAppend(&table, item.type(), "\t", ShortName(item.id()), "\t",
                      item.name().empty() ? "-" : item.name(), "\t",
                      engine::HumanSize(item.size_bytes()), "\t",
                      engine::HumanSize(item.shared_bytes()), "\t",
                      engine::HumanSize(item.unique_bytes()), "\t",
                      created == absl::InfinitePast()
                          ? "-"
                          : absl::StrCat(engine::HumanDuration(now - created), " ago"),
                      "\t", item.state().empty() ? "-" : item.state(), "\t",
                      item.owners().empty() ? "none: the next collection removes it"
                                            : absl::StrJoin(item.owners(), ", "),
                      "\n");
    }
    absl::StrAppend(&out, AlignColumns(table), "\n");
  }
  absl::StrAppend(&out, "Total on disk: ", engine::HumanSize(usage.total_bytes()), "\n");
  return out;
}

Value OwnersRow(const v1::DiskUsageResponse::Kind& kind) {
  Value row = engine::DiskUsageRow(kind);
  Value items = Value::EmptyList();
  for (const auto& item : kind.items()) {
    Value one = Value::EmptyObject();
    one.Set("Type", item.type());
    one.Set("ID", item.id());
    one.Set("Name", item.name());
    one.Set("Size", item.size_bytes());
    one.Set("Shared", item.shared_bytes());
    one.Set("Unique", item.unique_bytes());
    one.Set("References", item.references());
    one.Set("State", item.state());
    one.Set("Detail", item.detail());
    one.Set("Owners", Value::StringRange(item.owners()));
    items.Append(std::move(one));
  }
  row.Set("Items", std::move(items));
  return row;
}

Listing DfListing() {
  Listing listing;
  listing.headings = {{"Type", "TYPE"},
                      {"TotalCount", "TOTAL"},
                      {"Active", "ACTIVE"},
                      {"Size", "SIZE"},
                      {"Reclaimable", "RECLAIMABLE"}};
  listing.default_table = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
  listing.quiet_field = "Type";
  return listing;
}

// docker's tables of `system df -v`.
absl::StatusOr<std::string> DetailTables(const std::vector<Value>& images,
                                         const std::vector<Value>& containers,
                                         const std::vector<Value>& volumes,
                                         const std::vector<Value>& build_cache,
                                         int64_t build_cache_bytes) {
  Listing listing;
  listing.headings = {{"Repository", "REPOSITORY"},
                      {"Tag", "TAG"},
                      {"ID", "IMAGE ID"},
                      {"CreatedSince", "CREATED"},
                      {"Size", "SIZE"},
                      {"SharedSize", "SHARED SIZE"},
                      {"UniqueSize", "UNIQUE SIZE"},
                      {"Containers", "CONTAINERS"}};
  listing.default_table =
      "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t"
      "{{.UniqueSize}}\t{{.Containers}}";
  GANTRY_ASSIGN_OR_RETURN(const std::string image_table, Render(listing, images, "", false));
  listing.headings = {{"ID", "CONTAINER ID"}, {"Image", "IMAGE"},
                      {"Command", "COMMAND"}, {"LocalVolumes", "LOCAL VOLUMES"},
                      {"Size", "SIZE"},       {"RunningFor", "CREATED"},
                      {"Status", "STATUS"},   {"Names", "NAMES"}};
  listing.default_table =
      "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t"
      "{{.Status}}\t{{.Names}}";
  GANTRY_ASSIGN_OR_RETURN(const std::string container_table,
                          Render(listing, containers, "", false));
  listing.headings = {{"Name", "VOLUME NAME"}, {"Links", "LINKS"}, {"Size", "SIZE"}};
  listing.default_table = "{{.Name}}\t{{.Links}}\t{{.Size}}";
  GANTRY_ASSIGN_OR_RETURN(const std::string volume_table, Render(listing, volumes, "", false));
  listing.headings = {
      {"ID", "CACHE ID"},          {"CacheType", "CACHE TYPE"},    {"Size", "SIZE"},
      {"CreatedSince", "CREATED"}, {"LastUsedSince", "LAST USED"}, {"UsageCount", "USAGE"},
      {"Shared", "SHARED"}};
  listing.default_table =
      "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t"
      "{{.UsageCount}}\t{{.Shared}}";
  GANTRY_ASSIGN_OR_RETURN(const std::string cache_table, Render(listing, build_cache, "", false));
  return absl::StrCat("Images space usage:\n\n", image_table, "\nContainers space usage:\n\n",
                      container_table, "\nLocal Volumes space usage:\n\n", volume_table,
                      "\nBuild cache usage: ", engine::HumanSize(build_cache_bytes), "\n\n",
                      cache_table);
}

class DfAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&verbose_, "verbose", 'v', "Show each image and container");
    flags.Bool(&owners_, "owners", 0, "Show each blob and snapshot, with what keeps it");
    flags.String(&format_, "format", 0, "template", "table, json, or a Go template");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    if (verbose_) return Detail(context, *client);
    v1::DiskUsageRequest request;
    request.set_verbose(owners_);
    v1::DiskUsageResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    if (owners_ && format_.empty()) {
      context.Out(OwnersText(response));
      return 0;
    }
    std::vector<Value> rows;
    for (const auto& kind : response.kinds())
      rows.push_back(owners_ ? OwnersRow(kind) : engine::DiskUsageRow(kind));
    GANTRY_ASSIGN_OR_RETURN(std::string text, Render(DfListing(), rows, format_, false));
    context.Out(text);
    return 0;
  }

 private:
  absl::StatusOr<int> Detail(Context& context, Client& client) {
    v1::ListImagesRequest images;
    images.set_shared_size(true);
    v1::ListImagesResponse found_images;
    GANTRY_RETURN_IF_ERROR(client.Call(images, &found_images));
    v1::ListContainersRequest containers;
    containers.set_all(true);
    containers.set_size(true);
    v1::ListContainersResponse found_containers;
    GANTRY_RETURN_IF_ERROR(client.Call(containers, &found_containers));
    v1::ListVolumesRequest volumes;
    volumes.set_size(true);
    v1::ListVolumesResponse found_volumes;
    GANTRY_RETURN_IF_ERROR(client.Call(volumes, &found_volumes));
    std::vector<Value> volume_rows;
    for (const v1::Volume& volume : found_volumes.volumes())
      volume_rows.push_back(engine::VolumeRow(volume));
    v1::BuildCacheUsageResponse cache;
    GANTRY_RETURN_IF_ERROR(client.Call(v1::BuildCacheUsageRequest(), &cache));
    const absl::Time now = absl::Now();
    std::vector<Value> image_rows, container_rows, cache_rows;
    for (const v1::BuildCacheRecord& record : cache.records())
      cache_rows.push_back(engine::BuildCacheRow(record, /*truncate=*/true, now));
    for (const v1::ImageSummary& image : found_images.images()) {
      std::vector<Value> rows = engine::ImageRows(image, /*digests=*/false, /*truncate=*/true, now);
      std::move(rows.begin(), rows.end(), std::back_inserter(image_rows));
    }
    for (v1::ContainerSummary& container : *found_containers.mutable_containers()) {
      container.clear_size_rootfs_bytes();  // what it takes by itself
      container_rows.push_back(engine::ContainerRow(container, /*truncate=*/true, now));
    }
    std::string text;
    if (format_.empty() || format_ == "table") {
      GANTRY_ASSIGN_OR_RETURN(text, DetailTables(image_rows, container_rows, volume_rows,
                                                 cache_rows, cache.total_bytes()));
    } else {
      GANTRY_ASSIGN_OR_RETURN(text, RenderOne(engine::DiskUsageDocument(image_rows, container_rows,
                                                                        volume_rows, cache_rows),
                                              format_));
    }
    context.Out(text);
    return 0;
  }

  bool verbose_ = false, owners_ = false;
  std::string format_;
};

}  // namespace

Verb DfVerb() {
  return {.name = "df",
          .arguments = "[OPTIONS]",
          .summary = "Show what takes disk space, and who keeps it",
          .examples =
              "  ctl system df\n"
              "  ctl system df -v\n"
              "  ctl system df --owners\n",
          .max_args = 0,
          .make = [] { return std::make_unique<DfAction>(); }};
}

}  // namespace gantry::ctl
