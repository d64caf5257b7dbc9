#include "supervisor/metadata/name_index.h"

#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/metadata/record_store.h"
#include "supervisor/metadata/validate.h"

namespace gantry::metadata {
namespace {

const RecordStore names(kContainerNames);
const RecordStore names_of(kNamesOf);

absl::string_view AfterNamespace(absl::string_view key, const Scope& scope) {
  return key.substr(scope.ns.size() + 1);
}

template <typename Source>
absl::StatusOr<std::string> NameOfContainer(Source& source, const Scope& scope,
                                            absl::string_view id) {
  GANTRY_ASSIGN_OR_RETURN(auto name, names_of.Get(source, MakeKey(scope.ns, id)));
  return name.has_value() ? name->name() : "";
}

}  // namespace

absl::StatusOr<NamedContainer> NameIndex::Resolve(const Scope& scope, absl::string_view text) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  // docker's API writes a name with a slash before it, and its clients send it back so.
  if (text.size() > 1) absl::ConsumePrefix(&text, "/");
  GANTRY_RETURN_IF_ERROR(ValidateName("container", text));
  ReadView view(db_);
  auto named = [&](std::string id) -> absl::StatusOr<NamedContainer> {
    GANTRY_ASSIGN_OR_RETURN(std::string name, NameOfContainer(view, scope, id));
    return NamedContainer{.id = std::move(id), .name = std::move(name)};
  };
  GANTRY_ASSIGN_OR_RETURN(auto exact, view.Get(Family::kContainers, MakeKey(scope.ns, text)));
  if (exact.has_value()) return named(std::string(text));
  GANTRY_ASSIGN_OR_RETURN(auto by_name, names.Get(view, MakeKey(scope.ns, text)));
  if (by_name.has_value())
    return NamedContainer{.id = by_name->container_id(), .name = std::string(text)};

  std::vector<std::string> ids;
  absl::Status scanned = view.Scan(
      Family::kContainers, MakeKey(scope.ns, text), [&](absl::string_view key, absl::string_view) {
        ids.emplace_back(AfterNamespace(key, scope));
        return ids.size() > 1 ? absl::OutOfRangeError("several") : absl::OkStatus();
      });
  if (ids.size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat("container id prefix \"", text,
                                                   "\" fits several containers: ", ids[0], ", ",
                                                   ids[1], "; give more of the id"));
  }
  GANTRY_RETURN_IF_ERROR(scanned);
  if (ids.empty()) return absl::NotFoundError(absl::StrCat("No such container: ", text));
  return named(ids[0]);
}

absl::StatusOr<std::string> NameIndex::NameOf(const Scope& scope, absl::string_view id) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  return NameOfContainer(db_, scope, id);
}

absl::Status NameIndex::Rename(const Scope& scope, absl::string_view id, absl::string_view name,
                               Durability durability) {
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("container id", id));
  return db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope));
        // Shared: the container stays while its name is made.
        GANTRY_ASSIGN_OR_RETURN(auto container,
                                tx.GetShared(Family::kContainers, MakeKey(scope.ns, id)));
        if (!container.has_value()) {
          return absl::NotFoundError(
              absl::StrCat("container \"", id, "\" in namespace \"", scope.ns, "\": not found"));
        }
        return Claim(tx, scope, {.id = std::string(id), .name = std::string(name)});
      },
      durability);
}

absl::Status NameIndex::List(const Scope& scope,
                             const std::function<absl::Status(const NamedContainer&)>& visit) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  ReadView view(db_);
  return names.List(
      view, MakePrefix(scope.ns),
      [&](absl::string_view key, const record::v1::ContainerName& name) {
        return visit({.id = name.container_id(), .name = std::string(AfterNamespace(key, scope))});
      });
}

absl::Status NameIndex::Claim(Transaction& tx, const Scope& scope,
                              const NamedContainer& container) {
  GANTRY_RETURN_IF_ERROR(ValidateName("container name", container.name));
  const std::string id_key = MakeKey(scope.ns, container.id);
  const std::string name_key = MakeKey(scope.ns, container.name);
  GANTRY_ASSIGN_OR_RETURN(auto former, names_of.GetForUpdate(tx, id_key));
  GANTRY_ASSIGN_OR_RETURN(auto holder, names.GetForUpdate(tx, name_key));
  if (holder.has_value() && holder->container_id() != container.id) {
    return absl::AlreadyExistsError(absl::StrCat(
        "the container name \"", container.name, "\" is already in use by container \"",
        holder->container_id(), "\": remove or rename that container, or choose another name"));
  }
  if (former.has_value() && former->name() != container.name) {
    GANTRY_RETURN_IF_ERROR(names.Delete(tx, MakeKey(scope.ns, former->name())));
  }
  record::v1::ContainerName record;
  record.set_container_id(container.id);
  record.set_name(container.name);
  GANTRY_RETURN_IF_ERROR(names_of.Put(tx, id_key, record));
  return names.Put(tx, name_key, record);
}

absl::Status NameIndex::Release(Transaction& tx, const Scope& scope, absl::string_view id) {
  const std::string id_key = MakeKey(scope.ns, id);
  GANTRY_ASSIGN_OR_RETURN(auto name, names_of.GetForUpdate(tx, id_key));
  if (!name.has_value()) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(names.Delete(tx, MakeKey(scope.ns, name->name())));
  return names_of.Delete(tx, id_key);
}

}  // namespace gantry::metadata
