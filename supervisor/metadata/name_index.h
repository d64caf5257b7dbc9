// People's names for containers: unique within a namespace, looked up as docker does (id, then
// name, then id prefix).
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_METADATA_NAME_INDEX_H_
#define GANTRY_SUPERVISOR_METADATA_NAME_INDEX_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "supervisor/metadata/database.h"
#include "supervisor/metadata/scope.h"

namespace gantry::metadata {

struct NamedContainer {
  std::string id;
  std::string name;  // "" when it has none
};

class NameIndex {
 public:
  explicit NameIndex(Database& db) : db_(db) {}

  // What a person means by `text`: a whole id, a name, or the beginning of exactly one id.
  //   kNotFound         nothing by that name
  //   kInvalidArgument  the prefix fits several
  absl::StatusOr<NamedContainer> Resolve(const Scope& scope, absl::string_view text);

  // "" when it has none.
  absl::StatusOr<std::string> NameOf(const Scope& scope, absl::string_view id);

  // Gives the container another name, or its first. kAlreadyExists: taken, the message says by
  // whom; kNotFound: no such container.
  absl::Status Rename(const Scope& scope, absl::string_view id, absl::string_view name,
                      Durability durability = Durability::kSynced);

  // In name order.
  absl::Status List(const Scope& scope,
                    const std::function<absl::Status(const NamedContainer&)>& visit);

  // Parts of larger transactions. Claim() frees the container's former name; kAlreadyExists:
  // another container has the new one.
  static absl::Status Claim(Transaction& tx, const Scope& scope, const NamedContainer& container);
  static absl::Status Release(Transaction& tx, const Scope& scope, absl::string_view id);

 private:
  Database& db_;
};

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_NAME_INDEX_H_
