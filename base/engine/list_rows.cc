#include "base/engine/list_rows.h"

#include <algorithm>
#include <initializer_list>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "base/engine/columns.h"
#include "base/engine/image_json.h"
#include "base/engine/proto_time.h"
#include "base/engine/state_words.h"
#include "base/engine/units.h"
#include "proto/gantry/v1/builds.pb.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry::engine {

namespace {

// Characters of a build cache record's id in tables.
constexpr size_t kShownCacheId = 25;

struct Named {
  std::string repository = "<none>";
  std::string tag = "<none>";
  std::string digest = "<none>";
};

// "host:5000/a/b:tag" at its last colon that is not part of the host.
std::pair<std::string, std::string> SplitTag(const std::string& reference) {
  const size_t colon = reference.rfind(':');
  if (colon == std::string::npos || reference.find('/', colon) != std::string::npos) {
    return {reference, "<none>"};
  }
  return {reference.substr(0, colon), reference.substr(colon + 1)};
}

// The lines of one image: one per tag, or one for what has none.
std::vector<Named> Names(const v1::ImageSummary& image, bool digests) {
  std::vector<Named> names;
  std::vector<std::string> used;
  for (const std::string& reference : image.repo_tags()) {
    Named named;
    std::tie(named.repository, named.tag) = SplitTag(reference);
    for (const std::string& d : image.repo_digests()) {
      const size_t at = d.find('@');
      if (at != std::string::npos && d.substr(0, at) == named.repository) {
        named.digest = d.substr(at + 1);
        used.push_back(d);
      }
    }
    names.push_back(std::move(named));
  }
  for (const std::string& d : image.repo_digests()) {
    if (std::find(used.begin(), used.end(), d) != used.end()) continue;
    if (!names.empty() && !digests) continue;
    const size_t at = d.find('@');
    if (at == std::string::npos) continue;
    Named named;
    named.repository = d.substr(0, at);
    named.digest = d.substr(at + 1);
    names.push_back(std::move(named));
  }
  if (names.empty()) names.emplace_back();
  return names;
}

std::string Since(absl::Time created, absl::Time now) {
  return created == absl::InfinitePast() ? "N/A"
                                         : absl::StrCat(HumanDuration(now - created), " ago");
}

std::string WholeSeconds(absl::Time time) {
  return JsonTime(time == absl::InfinitePast() ? time
                                               : absl::FromUnixSeconds(absl::ToUnixSeconds(time)));
}

}  // namespace

std::string PortsText(const v1::ContainerSummary& c) {
  std::set<std::string> shown;
  std::vector<std::string> texts;
  for (const v1::PublishedPort& port : c.ports()) {
    std::string text;
    if (port.public_port() != 0) {
      const bool v6 = absl::StrContains(port.ip(), ":");
      text = absl::StrCat(v6 ? "[" : "", port.ip(), v6 ? "]" : "", ":", port.public_port(), "->",
                          port.private_port(), "/", port.protocol());
    } else {
      text = absl::StrCat(port.private_port(), "/", port.protocol());
    }
    if (shown.insert(text).second) texts.push_back(std::move(text));
  }
  return absl::StrJoin(texts, ", ");
}

Value ContainerRow(const v1::ContainerSummary& c, bool truncate, absl::Time now) {
  Value row = Value::EmptyObject();
  const std::string command = CommandText(c);
  row.Set("Command", JsonQuote(truncate ? Ellipsis(command, 20) : command));
  row.Set("CreatedAt", TableTime(FromProto(c.created_at())));
  row.Set("ID", truncate ? ShortId(c.id()) : c.id());
  std::string image = c.image();
  if (truncate && absl::StartsWith(image, "sha256:")) image = ShortId(image);
  row.Set("Image", image.empty() ? "<no image>" : image);
  row.Set("Labels", LabelsText(c.labels()));
  row.Set("LabelMap", Value::StringMap(c.labels()));
  int volumes = 0;
  std::vector<std::string> mounts;
  for (const v1::MountPoint& mount : c.mounts()) {
    if (mount.type() == "volume") ++volumes;
    const std::string name = mount.name().empty() ? mount.source() : mount.name();
    mounts.push_back(truncate ? Ellipsis(name, 15) : name);
  }
  row.Set("LocalVolumes", absl::StrCat(volumes));
  row.Set("Mounts", absl::StrJoin(mounts, ","));
  row.Set("Names", c.name());
  row.Set("Networks", absl::StrJoin(c.networks(), ","));
  // What it was made from, where that is known; else what it was asked to be.
  const std::string& platform =
      c.has_image_manifest() ? c.image_manifest().platform() : c.platform();
  row.Set("Platform", platform.empty() ? Value() : PlatformDocument(platform));
  if (!platform.empty()) row.Set("PlatformText", platform);
  row.Set("Ports", PortsText(c));
  row.Set("RunningFor", absl::StrCat(HumanDuration(now - FromProto(c.created_at())), " ago"));
  row.Set("Size", c.has_size_rootfs_bytes()
                      ? absl::StrCat(HumanSize(c.size_rw_bytes()), " (virtual ",
                                     HumanSize(c.size_rootfs_bytes()), ")")
                      : HumanSize(c.size_rw_bytes()));
  row.Set("State", StateWord(c.state()));
  row.Set("Status", StatusText(c, now));
  return row;
}

Value StatsRow(const v1::ContainerStats& s, absl::string_view asked, bool truncate) {
  Value row = Value::EmptyObject();
  const bool on = s.running();
  row.Set("BlockIO", on ? absl::StrCat(HumanSize(static_cast<int64_t>(s.block_read_bytes())), " / ",
                                       HumanSize(static_cast<int64_t>(s.block_write_bytes())))
                        : "--");
  row.Set("CPUPerc", on ? absl::StrFormat("%.2f%%", s.cpu_percent()) : "--");
  row.Set("Container", asked.empty() ? (truncate ? ShortId(s.id()) : s.id()) : std::string(asked));
  row.Set("ID", truncate ? ShortId(s.id()) : s.id());
  row.Set("MemPerc", on ? absl::StrFormat("%.2f%%", s.memory_percent()) : "--");
  row.Set("MemUsage", on ? absl::StrCat(BinarySize(s.memory_usage_bytes()), " / ",
                                        BinarySize(s.memory_limit_bytes()))
                         : "-- / --");
  row.Set("Name", s.name());
  row.Set("NetIO", on ? absl::StrCat(HumanSize(static_cast<int64_t>(s.network_rx_bytes())), " / ",
                                     HumanSize(static_cast<int64_t>(s.network_tx_bytes())))
                      : "--");
  row.Set("PIDs", on ? absl::StrCat(s.pids_current()) : "--");
  return row;
}

std::vector<Value> ImageRows(const v1::ImageSummary& image, bool digests, bool truncate,
                             absl::Time now) {
  std::vector<Value> rows;
  const absl::Time created = FromProto(image.has_created_at(), image.created_at());
  const auto size = [&image](int64_t bytes) {
    return image.has_shared_size_bytes() ? HumanSize(bytes) : "N/A";
  };
  for (const Named& named : Names(image, digests)) {
    Value row = Value::EmptyObject();
    row.Set("Containers", image.has_containers() ? absl::StrCat(image.containers()) : "N/A");
    row.Set("CreatedAt", TableTime(created));
    row.Set("CreatedSince", Since(created, now));
    row.Set("Digest", named.digest);
    row.Set("FullID", image.id());
    row.Set("ID", truncate ? ShortId(image.id()) : image.id());
    row.Set("Repository", named.repository);
    row.Set("SharedSize", size(image.shared_size_bytes()));
    row.Set("Size", HumanSize(image.size_bytes()));
    row.Set("Tag", named.tag);
    row.Set("UniqueSize", size(image.size_bytes() - image.shared_size_bytes()));
    row.Set("VirtualSize", HumanSize(image.size_bytes()));
    row.Set("Labels", LabelsText(image.labels()));
    row.Set("LabelMap", Value::StringMap(image.labels()));
    rows.push_back(std::move(row));
  }
  return rows;
}

Value HistoryRow(const v1::ImageHistoryResponse::Entry& entry, bool human, bool truncate,
                 absl::Time now) {
  const absl::Time created = FromProto(entry.has_created_at(), entry.created_at());
  Value row = Value::EmptyObject();
  row.Set("Comment", entry.comment());
  row.Set("CreatedAt", WholeSeconds(created));
  row.Set("CreatedBy", truncate ? Ellipsis(entry.created_by(), 45) : entry.created_by());
  row.Set("CreatedSince",
          human || created == absl::InfinitePast() ? Since(created, now) : WholeSeconds(created));
  row.Set("ID", entry.id().empty() ? "<missing>" : truncate ? ShortId(entry.id()) : entry.id());
  row.Set("Size", human ? HumanSize(entry.size_bytes()) : absl::StrCat(entry.size_bytes()));
  return row;
}

Value DiskUsageRow(const v1::DiskUsageResponse::Kind& kind) {
  Value row = Value::EmptyObject();
  row.Set("Type", kind.name());
  row.Set("TotalCount", absl::StrCat(kind.total()));
  row.Set("Active", absl::StrCat(kind.active()));
  row.Set("Size", HumanSize(kind.size_bytes()));
  row.Set("SizeBytes", kind.size_bytes());
  // Without a share where there is nothing, as docker shows it.
  row.Set("Reclaimable", kind.size_bytes() > 0
                             ? absl::StrFormat("%s (%d%%)", HumanSize(kind.reclaimable_bytes()),
                                               kind.reclaimable_bytes() * 100 / kind.size_bytes())
                             : HumanSize(kind.reclaimable_bytes()));
  return row;
}

Value BuildCacheRow(const v1::BuildCacheRecord& record, bool truncate, absl::Time now) {
  const auto ago = [now](absl::Time time) {
    return absl::StrCat(HumanDuration(now - time), " ago");
  };
  const auto local = [](absl::Time time) {
    return absl::FormatTime("%Y-%m-%d %H:%M:%S %z", time, absl::LocalTimeZone());
  };
  const absl::Time created = FromProto(record.created_at());
  Value row = Value::EmptyObject();
  row.Set("ID", truncate ? record.id().substr(0, kShownCacheId) : record.id());
  row.Set("Parent", "");
  row.Set("CacheType", record.type());
  row.Set("Description", record.description());
  row.Set("Size", HumanSize(record.size_bytes()));
  row.Set("CreatedSince", ago(created));
  row.Set("CreatedAt", local(created));
  // A record that was never used has neither.
  const absl::Time used = FromProto(record.last_used_at());
  row.Set("LastUsedSince", record.has_last_used_at() ? ago(used) : "");
  row.Set("LastUsedAt", record.has_last_used_at() ? local(used) : "");
  row.Set("UsageCount", absl::StrCat(record.uses()));
  row.Set("InUse", record.in_use() ? "true" : "false");
  row.Set("Shared", record.shared() ? "true" : "false");
  return row;
}

Value DiskUsageDocument(const std::vector<Value>& images, const std::vector<Value>& containers,
                        const std::vector<Value>& volumes, const std::vector<Value>& build_cache) {
  const auto only = [](const std::vector<Value>& rows,
                       std::initializer_list<absl::string_view> keys) {
    Value list = Value::EmptyList();
    for (const Value& row : rows) {
      Value out = Value::EmptyObject();
      for (const absl::string_view key : keys) {
        if (const Value* field = row.Find(key)) out.Set(key, *field);
      }
      list.Append(std::move(out));
    }
    return list;
  };
  Value out = Value::EmptyObject();
  out.Set("Images",
          only(images, {"Containers", "CreatedAt", "CreatedSince", "Digest", "ID", "Repository",
                        "SharedSize", "Size", "Tag", "UniqueSize", "VirtualSize"}));
  out.Set("Containers", only(containers, {"Command", "CreatedAt", "ID", "Image", "Labels",
                                          "LocalVolumes", "Mounts", "Names", "Networks", "Ports",
                                          "RunningFor", "Size", "State", "Status"}));
  out.Set("Volumes", only(volumes, {"Availability", "Driver", "Group", "Labels", "Links",
                                    "Mountpoint", "Name", "Scope", "Size", "Status"}));
  out.Set("BuildCache",
          only(build_cache, {"CacheType", "CreatedSince", "Description", "ID", "InUse",
                             "LastUsedSince", "Parent", "Shared", "Size", "UsageCount"}));
  return out;
}

}  // namespace gantry::engine
