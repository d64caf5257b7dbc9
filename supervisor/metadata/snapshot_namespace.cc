#include "supervisor/metadata/snapshot_namespace.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "supervisor/metadata/key_space.h"
#include "supervisor/metadata/validate.h"

namespace gantry::metadata {
namespace {

// The caller will commit to the chain id that this label gives; if a snapshot of that name exists,
// there is nothing to prepare.
constexpr char kTargetLabel[] = "containerd.io/snapshot.ref";

constexpr char kSlash = '/';

absl::Status Behind() { return absl::OutOfRangeError("behind the namespace"); }

}  // namespace

absl::StatusOr<SnapshotNamespace> SnapshotNamespace::Create(const Snapshotters& snapshotters,
                                                            absl::string_view name, Database& db,
                                                            Scope scope) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  GANTRY_ASSIGN_OR_RETURN(snapshot::Snapshotter * below, snapshotters.Find(name));
  return SnapshotNamespace(*below, std::string(name), db, std::move(scope));
}

std::string SnapshotNamespace::Below(absl::string_view key) const {
  if (key.empty()) return "";
  return absl::StrCat(scope_.ns, std::string(1, kSlash), key);
}

snapshot::Info SnapshotNamespace::Above(snapshot::Info info) const {
  const size_t prefix = scope_.ns.size() + 1;
  info.name.erase(0, prefix);
  if (!info.parent.empty()) info.parent.erase(0, prefix);
  return info;
}

LeaseResource SnapshotNamespace::Resource(absl::string_view key) const {
  return {.type = absl::StrCat(kSnapshotResource, name_), .id = std::string(key)};
}

absl::Status SnapshotNamespace::Detach(absl::string_view key) {
  if (scope_.lease.empty()) return absl::OkStatus();
  absl::Status detached = db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope_));
        return LeaseStore::Detach(tx, scope_, Resource(key));
      },
      Durability::kBuffered);
  // The lease ended meanwhile: its list went with it.
  return absl::IsNotFound(detached) ? absl::OkStatus() : detached;
}

absl::StatusOr<snapshot::Info> SnapshotNamespace::Stat(absl::string_view key) {
  GANTRY_RETURN_IF_ERROR(scope_.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateName("snapshot key", key));
  GANTRY_ASSIGN_OR_RETURN(snapshot::Info info, below_.Stat(Below(key)));
  return Above(std::move(info));
}

absl::StatusOr<snapshot::Info> SnapshotNamespace::Update(absl::string_view key,
                                                         const snapshot::Labels& labels,
                                                         const std::vector<std::string>& fields) {
  GANTRY_RETURN_IF_ERROR(scope_.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateName("snapshot key", key));
  GANTRY_RETURN_IF_ERROR(ValidateLabels(labels));
  // A label may make the snapshot a root: not while the collector decides about it.
  GcGate::Shared gate = db_.gate().EnterShared();
  GANTRY_ASSIGN_OR_RETURN(snapshot::Info info, below_.Update(Below(key), labels, fields));
  gate.Release();
  db_.NoteChange(/*deletion=*/false);
  return Above(std::move(info));
}

absl::StatusOr<snapshot::Usage> SnapshotNamespace::Usage(absl::string_view key) {
  GANTRY_RETURN_IF_ERROR(scope_.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateName("snapshot key", key));
  return below_.Usage(Below(key));
}

absl::StatusOr<std::vector<snapshot::Mount>> SnapshotNamespace::Mounts(absl::string_view key) {
  GANTRY_RETURN_IF_ERROR(scope_.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateName("snapshot key", key));
  return below_.Mounts(Below(key));
}

absl::StatusOr<std::vector<snapshot::Mount>> SnapshotNamespace::Make(
    snapshot::Kind kind, absl::string_view key, absl::string_view parent,
    const snapshot::Labels& labels) {
  GANTRY_RETURN_IF_ERROR(ValidateName("snapshot key", key));
  if (!parent.empty()) GANTRY_RETURN_IF_ERROR(ValidateName("snapshot parent", parent));
  const snapshot::Labels present = PresentLabels(labels);
  GANTRY_RETURN_IF_ERROR(ValidateLabels(present));

  if (auto target = present.find(kTargetLabel); target != present.end()) {
    bool there = false;
    GANTRY_RETURN_IF_ERROR(db_.Run(
        [&](Transaction& tx) -> absl::Status {
          GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope_));
          // Inside the gate: it cannot be collected between the look and the lease.
          auto info = below_.Stat(Below(target->second));
          there = info.ok() && info->kind == snapshot::Kind::kCommitted;
          return there ? LeaseStore::Attach(tx, scope_, Resource(target->second))
                       : absl::OkStatus();
        },
        Durability::kBuffered));
    // Saves the caller an unpack; without it the caller unpacks, whatever the reason.
    if (!there)
      there = Share(target->second, {.parent = std::string(parent), .labels = present}).ok();
    if (there) {
      return absl::AlreadyExistsError(
          absl::StrCat("snapshot ", scope_.ns, "/", target->second, ": already exists"));
    }
  }

  // The lease first: making the snapshot may copy a whole tree, which must neither hold up the
  // collector nor be collected. A failure leaves the lease naming a snapshot that is not there, or
  // is another's: it keeps too much until it ends, never too little.
  GANTRY_RETURN_IF_ERROR(db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope_));
        return LeaseStore::Attach(tx, scope_, Resource(key));
      },
      Durability::kBuffered));
  auto mounts = kind == snapshot::Kind::kView ? below_.View(Below(key), Below(parent), present)
                                              : below_.Prepare(Below(key), Below(parent), present);
  if (mounts.ok()) db_.NoteChange(/*deletion=*/false);
  return mounts;
}

absl::StatusOr<std::vector<snapshot::Mount>> SnapshotNamespace::Prepare(
    absl::string_view key, absl::string_view parent, const snapshot::Labels& labels) {
  return Make(snapshot::Kind::kActive, key, parent, labels);
}

absl::StatusOr<std::vector<snapshot::Mount>> SnapshotNamespace::View(
    absl::string_view key, absl::string_view parent, const snapshot::Labels& labels) {
  return Make(snapshot::Kind::kView, key, parent, labels);
}

absl::Status SnapshotNamespace::Commit(absl::string_view name, absl::string_view key,
                                       const snapshot::CommitOptions& options) {
  GANTRY_RETURN_IF_ERROR(ValidateName("snapshot name", name));
  GANTRY_RETURN_IF_ERROR(ValidateName("snapshot key", key));
  snapshot::CommitOptions below = options;
  below.labels = PresentLabels(options.labels);
  GANTRY_RETURN_IF_ERROR(ValidateLabels(below.labels));
  if (!options.parent.empty()) {
    GANTRY_RETURN_IF_ERROR(ValidateName("snapshot parent", options.parent));
    below.parent = Below(options.parent);
  }
  // Leased under both names in between, as it may take long (sync, usage).
  GANTRY_RETURN_IF_ERROR(db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope_));
        return LeaseStore::Attach(tx, scope_, Resource(name));
      },
      Durability::kBuffered));
  GANTRY_RETURN_IF_ERROR(below_.Commit(Below(name), Below(key), below));
  db_.NoteChange(/*deletion=*/false);
  return Detach(key);
}

absl::StatusOr<std::vector<snapshot::Info>> SnapshotNamespace::LayersElsewhere(
    absl::string_view name, absl::string_view parent) {
  std::vector<snapshot::Info> found;
  ReadView view(db_);
  GANTRY_RETURN_IF_ERROR(
      view.Scan(Family::kNamespaces, "", [&](absl::string_view ns, absl::string_view) {
        if (ns == scope_.ns) return absl::OkStatus();
        const std::string prefix = absl::StrCat(ns, "/");
        // A damaged record elsewhere is not this caller's concern.
        absl::StatusOr<snapshot::Info> info = below_.Stat(absl::StrCat(prefix, name));
        const std::string below = parent.empty() ? "" : absl::StrCat(prefix, parent);
        if (info.ok() && info->kind == snapshot::Kind::kCommitted && !info->layer.empty() &&
            info->parent == below) {
          found.push_back(*std::move(info));
        }
        return absl::OkStatus();
      }));
  return found;
}

absl::Status SnapshotNamespace::Share(absl::string_view name,
                                      const snapshot::ShareOptions& options) {
  GANTRY_RETURN_IF_ERROR(scope_.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateName("snapshot name", name));
  snapshot::ShareOptions below = options;
  below.labels = PresentLabels(options.labels);
  GANTRY_RETURN_IF_ERROR(ValidateLabels(below.labels));
  if (!options.source.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("snapshot ", name, ": a namespace chooses the source of a shared layer"));
  }
  if (!options.parent.empty()) {
    GANTRY_RETURN_IF_ERROR(ValidateName("snapshot parent", options.parent));
    below.parent = Below(options.parent);
  }
  GANTRY_ASSIGN_OR_RETURN(const std::vector<snapshot::Info> layers,
                          LayersElsewhere(name, options.parent));
  for (const snapshot::Info& layer : layers) {
    bool held = !options.layer.empty();
    GANTRY_RETURN_IF_ERROR(db_.Run(
        [&](Transaction& tx) -> absl::Status {
          GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope_));
          if (options.layer.empty()) {
            GANTRY_ASSIGN_OR_RETURN(
                const auto blob, tx.GetShared(Family::kContent, MakeKey(scope_.ns, layer.layer)));
            held = blob.has_value();
          }
          return held ? LeaseStore::Attach(tx, scope_, Resource(name)) : absl::OkStatus();
        },
        Durability::kBuffered));
    if (!held) continue;
    below.source = layer.name;
    const absl::Status shared = below_.Share(Below(name), below);
    // Removed since: another namespace may have one too.
    if (absl::IsNotFound(shared) && below_.Stat(layer.name).status().code() == shared.code()) {
      continue;
    }
    GANTRY_RETURN_IF_ERROR(shared);
    db_.NoteChange(/*deletion=*/false);
    return absl::OkStatus();
  }
  return absl::NotFoundError(
      absl::StrCat("snapshot ", scope_.ns, "/", name, ": no layer of that name to share"));
}

absl::Status SnapshotNamespace::Remove(absl::string_view key) {
  GANTRY_RETURN_IF_ERROR(scope_.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateName("snapshot key", key));
  GANTRY_RETURN_IF_ERROR(below_.Remove(Below(key)));
  db_.NoteChange(/*deletion=*/true);
  return Detach(key);
}

absl::Status SnapshotNamespace::Walk(
    const std::function<absl::Status(const snapshot::Info&)>& visit) {
  GANTRY_RETURN_IF_ERROR(scope_.Validate());
  const std::string prefix = absl::StrCat(scope_.ns, "/");
  bool behind = false;
  absl::Status walked = below_.Walk([&](const snapshot::Info& info) -> absl::Status {
    if (absl::StartsWith(info.name, prefix)) return visit(Above(info));
    behind = info.name > prefix;
    return behind ? Behind() : absl::OkStatus();
  });
  return behind ? absl::OkStatus() : walked;
}

absl::Status SnapshotNamespace::Cleanup(const CancelToken* cancel) {
  return below_.Cleanup(cancel);
}

}  // namespace gantry::metadata
