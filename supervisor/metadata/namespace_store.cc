#include "supervisor/metadata/namespace_store.h"

#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "supervisor/metadata/record_store.h"
#include "supervisor/metadata/record_values.h"

namespace gantry::metadata {
namespace {

const RecordStore namespaces(kNamespaces);

// The prefix of build_cache_store.h, whose records are not in a family of their own.
constexpr absl::string_view kBuildCachePrefix = "build_cache";

absl::Status NotFound(absl::string_view name) {
  return absl::NotFoundError(absl::StrCat("namespace \"", name, "\": not found"));
}

// Ends a walk that has seen enough.
absl::Status Enough() { return absl::OutOfRangeError("enough"); }

absl::StatusOr<bool> HasAnyBelow(Transaction& tx, Family family, const std::string& prefix) {
  bool any = false;
  absl::Status scanned = tx.Scan(family, prefix, [&any](absl::string_view, absl::string_view) {
    any = true;
    return Enough();
  });
  if (any) return true;
  GANTRY_RETURN_IF_ERROR(scanned);
  return false;
}

absl::StatusOr<bool> HasAny(Transaction& tx, Family family, absl::string_view ns) {
  return HasAnyBelow(tx, family, MakePrefix(ns));
}

absl::StatusOr<bool> HasSnapshots(snapshot::Snapshotter& snapshotter, absl::string_view ns) {
  const std::string prefix = absl::StrCat(ns, "/");
  bool any = false;
  absl::Status walked = snapshotter.Walk([&](const snapshot::Info& info) {
    any = absl::StartsWith(info.name, prefix);
    // The walk is in key order, so what is behind the prefix need not be seen.
    return any || info.name > prefix ? Enough() : absl::OkStatus();
  });
  if (any || walked.ok() || absl::IsOutOfRange(walked)) return any;
  return walked;
}

absl::Status DeleteAll(Transaction& tx, Family family, absl::string_view ns) {
  std::vector<std::string> keys;
  GANTRY_RETURN_IF_ERROR(
      tx.Scan(family, MakePrefix(ns), [&keys](absl::string_view key, absl::string_view) {
        keys.emplace_back(key);
        return absl::OkStatus();
      }));
  for (const std::string& key : keys) GANTRY_RETURN_IF_ERROR(tx.Delete(family, key));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<record::v1::Namespace> NamespaceStore::Get(absl::string_view name) {
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("namespace", name));
  GANTRY_ASSIGN_OR_RETURN(auto ns, namespaces.Get(db_, name));
  if (ns.has_value()) return *std::move(ns);
  Namespace unknown;
  unknown.set_name(std::string(name));
  return unknown;
}

absl::Status NamespaceStore::List(const std::function<absl::Status(const Namespace&)>& visit) {
  ReadView view(db_);
  return namespaces.List(view, "",
                         [&](absl::string_view, const Namespace& ns) { return visit(ns); });
}

absl::StatusOr<record::v1::Namespace> NamespaceStore::Create(Namespace ns) {
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("namespace", ns.name()));
  const LabelMap labels = PresentLabels(LabelsOf(ns.labels()));
  GANTRY_RETURN_IF_ERROR(ValidateLabels(labels));
  SetLabels(labels, ns.mutable_labels());
  *ns.mutable_created_at() = StampOf(clock_.Now());
  GANTRY_RETURN_IF_ERROR(db_.Run([&](Transaction& tx) -> absl::Status {
    GANTRY_ASSIGN_OR_RETURN(auto present, namespaces.GetForUpdate(tx, ns.name()));
    if (present.has_value()) {
      return absl::AlreadyExistsError(
          absl::StrCat("namespace \"", ns.name(), "\": already exists"));
    }
    return namespaces.Put(tx, ns.name(), ns);
  }));
  return ns;
}

absl::StatusOr<record::v1::Namespace> NamespaceStore::Update(
    const Namespace& ns, const std::vector<std::string>& fields) {
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("namespace", ns.name()));
  const std::string what = absl::StrCat("namespace \"", ns.name(), "\"");
  for (const std::string& field : fields) {
    if (field == "labels") {
      return absl::InvalidArgumentError(
          absl::StrCat(what, ": cannot update field \"labels\" as a whole: name each label"));
    }
  }
  Namespace result;
  GANTRY_RETURN_IF_ERROR(db_.Run([&](Transaction& tx) -> absl::Status {
    GANTRY_ASSIGN_OR_RETURN(auto present, namespaces.GetForUpdate(tx, ns.name()));
    // Like the first object of a namespace, the first label makes it.
    if (present.has_value()) result = *std::move(present);
    result.set_name(ns.name());
    LabelMap labels = LabelsOf(result.labels());
    GANTRY_RETURN_IF_ERROR(ApplyLabelUpdate(what, LabelsOf(ns.labels()), fields, labels));
    SetLabels(labels, result.mutable_labels());
    return namespaces.Put(tx, ns.name(), result);
  }));
  return result;
}

absl::Status NamespaceStore::Delete(absl::string_view name) {
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("namespace", name));
  return db_.Run([&](Transaction& tx) -> absl::Status {
    // Everybody who makes an object shares this key until the object's record is in.
    GANTRY_ASSIGN_OR_RETURN(auto present, namespaces.GetForUpdate(tx, name));
    if (!present.has_value()) return NotFound(name);
    static constexpr std::pair<Family, const char*> kObjects[] = {
        {Family::kImages, "images"},         {Family::kContent, "blobs"},
        {Family::kContainers, "containers"}, {Family::kSandboxes, "sandboxes"},
        {Family::kNetworks, "networks"},     {Family::kVolumes, "volumes"}};
    std::vector<std::string> left;
    for (const auto& [family, noun] : kObjects) {
      GANTRY_ASSIGN_OR_RETURN(bool any, HasAny(tx, family, name));
      if (any) left.push_back(noun);
    }
    for (const auto& [snapshotter_name, snapshotter] : snapshotters_.all()) {
      GANTRY_ASSIGN_OR_RETURN(bool any, HasSnapshots(*snapshotter, name));
      if (any) left.push_back(absl::StrCat("snapshots on \"", snapshotter_name, "\" snapshotter"));
    }
    GANTRY_ASSIGN_OR_RETURN(const bool cached,
                            HasAnyBelow(tx, Family::kMeta, MakePrefix(kBuildCachePrefix, name)));
    if (cached) left.push_back("build cache records, which `ctl builder prune` removes");
    if (!left.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "namespace \"", name, "\" must be empty, but it still has ", absl::StrJoin(left, ", ")));
    }
    // Leases and half-written blobs do not keep a namespace.
    for (Family family : {Family::kLeases, Family::kLeaseResources, Family::kIngests}) {
      GANTRY_RETURN_IF_ERROR(DeleteAll(tx, family, name));
    }
    tx.NoteDeletion();
    return namespaces.Delete(tx, name);
  });
}

}  // namespace gantry::metadata
