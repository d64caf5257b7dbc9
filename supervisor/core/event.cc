#include "supervisor/core/event.h"

#include "absl/strings/str_cat.h"

namespace gantry::core {
namespace {

using Strings = std::map<std::string, std::string>;

constexpr size_t kNode = 64;  // a map's, beside the strings in it

size_t SizeOf(const Strings& strings) {
  size_t size = 0;
  for (const auto& [key, value] : strings) size += kNode + key.size() + value.size();
  return size;
}

size_t SizeOf(const TaskSetup& setup) {
  size_t size = sizeof(setup) + setup.bundle.size() + setup.stdin_uri.size() +
                setup.stdout_uri.size() + setup.stderr_uri.size() + setup.checkpoint.size();
  for (const snapshot::Mount& mount : setup.rootfs) {
    size += sizeof(mount) + mount.type.size() + mount.source.size() + mount.target.size();
    for (const std::string& option : mount.options) size += sizeof(option) + option.size();
  }
  return size;
}

struct FactsSize {
  size_t operator()(const std::monostate&) const { return 0; }
  size_t operator()(const ProcessFacts& facts) const {
    return facts.exec_id.size() + facts.checkpoint.size() +
           (facts.setup == nullptr ? 0 : SizeOf(*facts.setup));
  }
  size_t operator()(const ContainerFacts& facts) const {
    return facts.image.size() + facts.snapshot_key.size() + facts.runtime.size() +
           facts.runtime_options_type_url.size() + facts.runtime_options.size() +
           SizeOf(facts.labels);
  }
  size_t operator()(const RecordFacts& facts) const { return SizeOf(facts.labels); }
  size_t operator()(const ContentFacts&) const { return 0; }
  size_t operator()(const SnapshotFacts& facts) const {
    return facts.snapshotter.size() + facts.parent.size() + facts.name.size();
  }
  size_t operator()(const SandboxFacts&) const { return 0; }
  size_t operator()(const ForeignFacts& facts) const {
    return facts.topic.size() + facts.type_url.size() + facts.payload.size();
  }
};

}  // namespace

absl::string_view EventKindName(EventKind kind) {
  switch (kind) {
    case EventKind::kContainer:
      return "container";
    case EventKind::kImage:
      return "image";
    case EventKind::kNetwork:
      return "network";
    case EventKind::kVolume:
      return "volume";
    case EventKind::kDaemon:
      return "daemon";
    case EventKind::kContent:
      return "content";
    case EventKind::kSnapshot:
      return "snapshot";
    case EventKind::kNamespace:
      return "namespace";
    case EventKind::kSandbox:
      return "sandbox";
    case EventKind::kForeign:
      return "foreign";
  }
  return "";
}

std::string Event::ActionText() const {
  return detail.empty() ? action : absl::StrCat(action, ": ", detail);
}

size_t Event::bytes() const {
  return sizeof(Event) + ns.size() + action.size() + detail.size() + id.size() +
         SizeOf(attributes) + std::visit(FactsSize(), facts);
}

}  // namespace gantry::core
