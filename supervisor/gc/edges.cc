#include "supervisor/gc/edges.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "proto/record/v1/build_cache.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/metadata/build_cache_store.h"
#include "supervisor/metadata/key_space.h"
#include "supervisor/metadata/lease_store.h"
#include "supervisor/metadata/record_store.h"
#include "supervisor/metadata/record_values.h"

namespace gantry::gc {
namespace {

constexpr absl::string_view kRootLabel = "containerd.io/gc.root";
constexpr absl::string_view kExpireLabel = "containerd.io/gc.expire";
constexpr absl::string_view kFlatLabel = "containerd.io/gc.flat";
constexpr absl::string_view kReferencePrefix = "containerd.io/gc.ref.";
constexpr absl::string_view kBackReferencePrefix = "containerd.io/gc.bref.";
constexpr absl::string_view kConditionPrefix = "containerd.io/gc.cond.snapshot";
constexpr absl::string_view kUsedAtLabel = "containerd.io/gc.cond.value-usedat";
constexpr absl::string_view kGcPrefix = "containerd.io/gc.";

// "usedat<24h" over a snapshot's label, on a reference from `from` to `to`.
struct Conditional {
  Graph::Id from;
  Graph::Id to;
  char comparison;
  absl::Duration age;
};

std::optional<absl::Time> ParseTime(absl::string_view text) {
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text, &time, &error)) return std::nullopt;
  return time;
}

// What follows "snapshot." up to a '/': the rest is a name that only makes the label unique.
absl::string_view SnapshotterOf(absl::string_view suffix) {
  return suffix.substr(0, suffix.find('/'));
}

// `suffix` is what follows the prefix "containerd.io/gc.ref." or "...bref.": "content",
// "content.l.0", "snapshot.overlayfs/x".
std::optional<Node> Referenced(absl::string_view suffix, absl::string_view ns,
                               absl::string_view name) {
  static constexpr std::pair<absl::string_view, Type> kKinds[] = {{"content", Type::kContent},
                                                                  {"image", Type::kImage},
                                                                  {"container", Type::kContainer},
                                                                  {"mount", Type::kMount}};
  if (absl::ConsumePrefix(&suffix, "snapshot.")) {
    return Node{Type::kSnapshot, std::string(ns), std::string(name),
                std::string(SnapshotterOf(suffix))};
  }
  for (const auto& [kind, type] : kKinds) {
    absl::string_view rest = suffix;
    if (absl::ConsumePrefix(&rest, kind) && (rest.empty() || rest[0] == '.' || rest[0] == '/')) {
      return Node{type, std::string(ns), std::string(name), ""};
    }
  }
  return std::nullopt;
}

class InventoryTaker {
 public:
  InventoryTaker(const metadata::ReadView& view, const metadata::Snapshotters& snapshotters,
                 absl::Time now, MountSource* mounts)
      : view_(view), snapshotters_(snapshotters), now_(now), mounts_(mounts) {}

  absl::StatusOr<Inventory> Take() {
    GANTRY_RETURN_IF_ERROR(Leases());
    GANTRY_RETURN_IF_ERROR(LeaseResources());
    GANTRY_RETURN_IF_ERROR(BuildCache());
    GANTRY_RETURN_IF_ERROR(Images());
    GANTRY_RETURN_IF_ERROR(Containers());
    GANTRY_RETURN_IF_ERROR(Sandboxes());
    GANTRY_RETURN_IF_ERROR(Contents());
    GANTRY_RETURN_IF_ERROR(Ingests());
    for (const auto& [name, snapshotter] : snapshotters_.all()) {
      GANTRY_RETURN_IF_ERROR(Snapshots(name, *snapshotter));
    }
    if (mounts_ != nullptr) Mounts();
    EvaluateConditions();
    return std::move(inventory_);
  }

 private:
  static std::pair<absl::string_view, absl::string_view> Split(absl::string_view key) {
    return absl::StrSplit(key, absl::MaxSplits(metadata::kSeparator, 1));
  }

  // True when `expiry` has passed; remembers it when it has not.
  bool Expired(absl::Time expiry) {
    if (expiry < now_) return true;
    inventory_.next_expiry = std::min(inventory_.next_expiry, expiry);
    return false;
  }

  template <typename Labels>
  bool ExpiredByLabel(const Labels& labels) {
    auto label = labels.find(std::string(kExpireLabel));
    if (label == labels.end()) return false;
    const std::optional<absl::Time> expiry = ParseTime(label->second);
    return expiry.has_value() && Expired(*expiry);
  }

  // Everything but what makes a root of it.
  template <typename Labels>
  void FollowLabels(Graph::Id id, const Labels& labels) {
    for (const auto& [key, value] : labels) {
      absl::string_view suffix = key;
      if (!absl::StartsWith(suffix, kGcPrefix)) continue;
      const std::string ns = graph().node(id).ns;
      if (absl::ConsumePrefix(&suffix, kReferencePrefix)) {
        // A lease need not keep a container: containers are roots already.
        const std::optional<Node> to = Referenced(suffix, ns, value);
        if (to.has_value() && to->type != Type::kContainer)
          graph().AddEdge(id, graph().Intern(*to), Reach::kDeep);
      } else if (absl::ConsumePrefix(&suffix, kBackReferencePrefix)) {
        const std::optional<Node> from = Referenced(suffix, ns, value);
        if (from.has_value()) graph().AddEdge(graph().Intern(*from), id, Reach::kDeep);
      } else if (absl::ConsumePrefix(&suffix, kConditionPrefix)) {
        AddConditions(id, suffix, value);
      }
    }
  }

  // "usedat<24h,usedat>90d|key": any of the conditions will do.
  void AddConditions(Graph::Id id, absl::string_view suffix, absl::string_view value) {
    while (absl::ConsumePrefix(&suffix, ".") || absl::ConsumePrefix(&suffix, "/")) {
    }
    const size_t bar = value.find('|');
    if (bar == absl::string_view::npos) return;
    const Graph::Id to =
        graph().Intern({Type::kSnapshot, graph().node(id).ns, std::string(value.substr(bar + 1)),
                        std::string(SnapshotterOf(suffix))});
    for (absl::string_view condition : absl::StrSplit(value.substr(0, bar), ',')) {
      if (!absl::ConsumePrefix(&condition, "usedat") || condition.empty()) continue;
      const char comparison = condition[0];
      absl::Duration age;
      if ((comparison != '<' && comparison != '>') ||
          !absl::ParseDuration(condition.substr(1), &age))
        continue;
      conditionals_.push_back({id, to, comparison, age});
    }
  }

  void EvaluateConditions() {
    for (const Conditional& conditional : conditionals_) {
      auto used_at = used_at_.find(conditional.to);
      if (used_at == used_at_.end()) continue;
      const absl::Duration age = now_ - used_at->second;
      const bool holds =
          conditional.comparison == '<' ? age < conditional.age : age > conditional.age;
      if (!holds) continue;
      graph().AddEdge(conditional.from, conditional.to, Reach::kDeep);
      if (conditional.comparison == '<') {
        inventory_.next_expiry =
            std::min(inventory_.next_expiry, used_at->second + conditional.age);
      }
    }
  }

  absl::Status Leases() {
    return metadata::RecordStore(metadata::kLeases)
        .List(view_, "", [this](absl::string_view key, const record::v1::Lease& lease) {
          const auto [ns, id] = Split(key);
          const Graph::Id node = Add(Type::kLease, ns, id);
          if (ExpiredByLabel(lease.labels())) return absl::OkStatus();
          const Reach reach =
              lease.labels().contains(std::string(kFlatLabel)) ? Reach::kFlat : Reach::kDeep;
          live_leases_.insert(node);
          graph().AddRoot(node, reach);
          return absl::OkStatus();
        });
  }

  // A layer's snapshot keeps those below it by itself.
  absl::Status BuildCache() {
    const std::string prefix = metadata::MakePrefix(metadata::kBuildCachePrefix);
    return view_.Scan(
        metadata::Family::kMeta, prefix,
        [&](absl::string_view key, absl::string_view value) -> absl::Status {
          record::v1::BuildCacheRecord record;
          if (!record.ParseFromArray(value.data(), static_cast<int>(value.size())))
            return absl::DataLossError("a record of the build cache does not parse");
          const std::string ns(Split(key.substr(prefix.size())).first);
          graph().AddRoot(graph().Intern({Type::kContent, ns, record.digest(), ""}), Reach::kDeep);
          graph().AddRoot(
              graph().Intern({Type::kSnapshot, ns, record.chain_id(), record.snapshotter()}),
              Reach::kDeep);
          return absl::OkStatus();
        });
  }

  absl::Status LeaseResources() {
    return metadata::RecordStore(metadata::kLeaseResources)
        .List(view_, "", [this](absl::string_view key, const record::v1::LeaseResource& resource) {
          const std::vector<absl::string_view> parts =
              absl::StrSplit(key, absl::MaxSplits(metadata::kSeparator, 2));
          const Graph::Id lease =
              graph().Intern({Type::kLease, std::string(parts[0]), std::string(parts[1]), ""});
          if (live_leases_.contains(lease)) {
            graph().AddEdge(lease, graph().Intern(NodeOf(resource, parts[0])), Reach::kFlat);
          } else {
            inventory_.dead_lease_rows.emplace_back(key);
          }
          return absl::OkStatus();
        });
  }

  static Node NodeOf(const record::v1::LeaseResource& resource, absl::string_view ns) {
    absl::string_view type = resource.type();
    if (absl::ConsumePrefix(&type, metadata::kSnapshotResource)) {
      return {Type::kSnapshot, std::string(ns), resource.id(), std::string(type)};
    }
    const Type which = type == metadata::kImageResource    ? Type::kImage
                       : type == metadata::kIngestResource ? Type::kIngest
                                                           : Type::kContent;
    return {which, std::string(ns), resource.id(), ""};
  }

  absl::Status Images() {
    return metadata::RecordStore(metadata::kImages)
        .List(view_, "", [this](absl::string_view key, const record::v1::Image& image) {
          const auto [ns, name] = Split(key);
          const Graph::Id id = Add(Type::kImage, ns, name);
          graph().AddEdge(
              id, graph().Intern({Type::kContent, std::string(ns), image.target().digest(), ""}),
              Reach::kFlat);
          FollowLabels(id, image.labels());
          if (!ExpiredByLabel(image.labels())) graph().AddRoot(id, Reach::kDeep);
          return absl::OkStatus();
        });
  }

  absl::Status Containers() {
    return metadata::RecordStore(metadata::kContainers)
        .List(view_, "", [this](absl::string_view key, const record::v1::Container& container) {
          const auto [ns, container_id] = Split(key);
          const Graph::Id id = Add(Type::kContainer, ns, container_id);
          if (!container.snapshotter().empty()) {
            graph().AddEdge(id,
                            graph().Intern({Type::kSnapshot, std::string(ns),
                                            container.snapshot_key(), container.snapshotter()}),
                            Reach::kFlat);
          }
          FollowLabels(id, container.labels());
          graph().AddRoot(id, Reach::kDeep);
          return absl::OkStatus();
        });
  }

  absl::Status Sandboxes() {
    return metadata::RecordStore(metadata::kSandboxes)
        .List(view_, "", [this](absl::string_view key, const record::v1::Sandbox& sandbox) {
          const auto [ns, sandbox_id] = Split(key);
          const Graph::Id id = Add(Type::kSandbox, ns, sandbox_id);
          FollowLabels(id, sandbox.labels());
          graph().AddRoot(id, Reach::kDeep);
          return absl::OkStatus();
        });
  }

  absl::Status Contents() {
    return metadata::RecordStore(metadata::kContent)
        .List(view_, "", [this](absl::string_view key, const record::v1::Content& content) {
          const auto [ns, digest] = Split(key);
          const Graph::Id id = Add(Type::kContent, ns, digest);
          FollowLabels(id, content.labels());
          if (IsRoot(content.labels())) graph().AddRoot(id, Reach::kDeep);
          return absl::OkStatus();
        });
  }

  absl::Status Ingests() {
    return metadata::RecordStore(metadata::kIngests)
        .List(view_, "", [this](absl::string_view key, const record::v1::Ingest& ingest) {
          const auto [ns, ref] = Split(key);
          const Graph::Id id = Add(Type::kIngest, ns, ref);
          if (!ingest.expected().empty()) {
            graph().AddEdge(
                id, graph().Intern({Type::kContent, std::string(ns), ingest.expected(), ""}),
                Reach::kFlat);
          }
          if (ingest.has_expires_at() && !Expired(metadata::TimeOf(ingest.expires_at()))) {
            graph().AddRoot(id, Reach::kDeep);
          }
          return absl::OkStatus();
        });
  }

  void Mounts() {
    for (const MountSource::Activation& activation : mounts_->Activations()) {
      const Graph::Id id = Add(Type::kMount, activation.ns, activation.name);
      FollowLabels(id, activation.labels);
      if (IsRoot(activation.labels)) graph().AddRoot(id, Reach::kDeep);
      if (activation.lease.empty()) continue;
      const Graph::Id lease = graph().Intern({Type::kLease, activation.ns, activation.lease, ""});
      if (live_leases_.contains(lease)) graph().AddEdge(lease, id, Reach::kFlat);
    }
  }

  absl::Status Snapshots(const std::string& snapshotter_name, snapshot::Snapshotter& snapshotter) {
    std::vector<std::pair<Graph::Id, Graph::Id>> parents;
    GANTRY_RETURN_IF_ERROR(snapshotter.Walk([&](const snapshot::Info& info) {
      const std::pair<std::string, std::string> name =
          absl::StrSplit(info.name, absl::MaxSplits('/', 1));
      const Graph::Id id = Add(Type::kSnapshot, name.first, name.second, snapshotter_name);
      inventory_.snapshot_depth.emplace(id, 0);
      if (!info.parent.empty()) {
        const std::pair<std::string, std::string> parent =
            absl::StrSplit(info.parent, absl::MaxSplits('/', 1));
        const Graph::Id below =
            graph().Intern({Type::kSnapshot, parent.first, parent.second, snapshotter_name});
        graph().AddEdge(id, below, Reach::kFlat);
        parents.emplace_back(id, below);
      }
      FollowLabels(id, info.labels);
      if (IsRoot(info.labels)) graph().AddRoot(id, Reach::kDeep);
      if (auto used_at = info.labels.find(std::string(kUsedAtLabel));
          used_at != info.labels.end()) {
        if (const std::optional<absl::Time> time = ParseTime(used_at->second))
          used_at_.emplace(id, *time);
      }
      return absl::OkStatus();
    }));
    Depths(parents);
    return absl::OkStatus();
  }

  void Depths(const std::vector<std::pair<Graph::Id, Graph::Id>>& parents) {
    absl::flat_hash_map<Graph::Id, Graph::Id> parent_of(parents.begin(), parents.end());
    absl::flat_hash_map<Graph::Id, int>& depth = inventory_.snapshot_depth;
    for (const auto& [child, parent] : parents) {
      std::vector<Graph::Id> chain;
      // Up to a base or to one whose depth is known; chains are as long as an image has layers.
      for (Graph::Id at = child; depth[at] == 0 && parent_of.contains(at); at = parent_of[at])
        chain.push_back(at);
      for (auto at = chain.rbegin(); at != chain.rend(); ++at)
        depth[*at] = depth[parent_of[*at]] + 1;
    }
  }

  // Content and snapshots: kept by a label of their own, without limit or until a time.
  template <typename Labels>
  bool IsRoot(const Labels& labels) {
    auto root = labels.find(std::string(kRootLabel));
    if (root != labels.end() && !root->second.empty()) return true;
    auto expire = labels.find(std::string(kExpireLabel));
    if (expire == labels.end()) return false;
    const std::optional<absl::Time> expiry = ParseTime(expire->second);
    return expiry.has_value() && !Expired(*expiry);
  }

  Graph::Id Add(Type type, absl::string_view ns, absl::string_view name,
                const std::string& snapshotter = "") {
    const Graph::Id id = graph().Intern({type, std::string(ns), std::string(name), snapshotter});
    graph().SetExists(id);
    return id;
  }

  Graph& graph() { return inventory_.graph; }

  const metadata::ReadView& view_;
  const metadata::Snapshotters& snapshotters_;
  const absl::Time now_;
  MountSource* const mounts_;
  Inventory inventory_;
  absl::flat_hash_set<Graph::Id> live_leases_;
  absl::flat_hash_map<Graph::Id, absl::Time> used_at_;
  std::vector<Conditional> conditionals_;
};

}  // namespace

absl::StatusOr<Inventory> TakeInventory(const metadata::ReadView& view,
                                        const metadata::Snapshotters& snapshotters, absl::Time now,
                                        MountSource* mounts) {
  return InventoryTaker(view, snapshotters, now, mounts).Take();
}

}  // namespace gantry::gc
