#include "ctl/rows.h"

#include <set>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "base/engine/proto_time.h"
#include "base/engine/state_words.h"
#include "base/engine/units.h"
#include "ctl/text.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry::ctl {
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
  const std::string command = engine::CommandText(c);
  row.Set("Command", absl::StrCat("\"", truncate ? Ellipsis(command, 20) : command, "\""));
  row.Set("CreatedAt", engine::TableTime(engine::FromProto(c.created_at())));
  row.Set("ID", truncate ? engine::ShortId(c.id()) : c.id());
  std::string image = c.image();
  if (truncate && absl::StartsWith(image, "sha256:")) image = engine::ShortId(image);
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
  row.Set("Platform", c.platform());
  row.Set("Ports", PortsText(c));
  row.Set("RunningFor",
          absl::StrCat(engine::HumanDuration(now - engine::FromProto(c.created_at())), " ago"));
  row.Set("Size", c.has_size_rootfs_bytes()
                      ? absl::StrCat(engine::HumanSize(c.size_rw_bytes()), " (virtual ",
                                     engine::HumanSize(c.size_rootfs_bytes()), ")")
                      : engine::HumanSize(c.size_rw_bytes()));
  row.Set("State", engine::StateWord(c.state()));
  row.Set("Status", engine::StatusText(c, now));
  return row;
}

Value StatsRow(const v1::ContainerStats& s, bool truncate) {
  Value row = Value::EmptyObject();
  const bool on = s.running();
  row.Set("BlockIO",
          on ? absl::StrCat(engine::HumanSize(static_cast<int64_t>(s.block_read_bytes())), " / ",
                            engine::HumanSize(static_cast<int64_t>(s.block_write_bytes())))
             : "--");
  row.Set("CPUPerc", on ? absl::StrFormat("%.2f%%", s.cpu_percent()) : "--");
  row.Set("Container", s.name());
  row.Set("ID", truncate ? engine::ShortId(s.id()) : s.id());
  row.Set("MemPerc", on ? absl::StrFormat("%.2f%%", s.memory_percent()) : "--");
  row.Set("MemUsage", on ? absl::StrCat(engine::BinarySize(s.memory_usage_bytes()), " / ",
                                        engine::BinarySize(s.memory_limit_bytes()))
                         : "-- / --");
  row.Set("Name", s.name());
  row.Set("NetIO",
          on ? absl::StrCat(engine::HumanSize(static_cast<int64_t>(s.network_rx_bytes())), " / ",
                            engine::HumanSize(static_cast<int64_t>(s.network_tx_bytes())))
             : "--");
  row.Set("PIDs", on ? absl::StrCat(s.pids_current()) : "--");
  return row;
}

}  // namespace gantry::ctl
