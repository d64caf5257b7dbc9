// Sandbox records. Thread-safe. Events are the caller's to publish. Semantics: containerd sandbox
// store.
#ifndef GANTRY_SUPERVISOR_METADATA_SANDBOX_STORE_H_
#define GANTRY_SUPERVISOR_METADATA_SANDBOX_STORE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/clock.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/filter.h"
#include "supervisor/metadata/scope.h"

namespace gantry::metadata {

class SandboxStore {
 public:
  using Sandbox = record::v1::Sandbox;

  SandboxStore(Database& db, const Clock& clock) : db_(db), clock_(clock) {}

  // kNotFound: no such sandbox.
  absl::StatusOr<Sandbox> Get(const Scope& scope, absl::string_view id);

  // In id order, from one consistent view.
  absl::Status List(const Scope& scope, const Filter& filter,
                    const std::function<absl::Status(const Sandbox&)>& visit);

  // Sets the times. kAlreadyExists; kInvalidArgument: id, labels, runtime name.
  absl::StatusOr<Sandbox> Create(const Scope& scope, Sandbox sandbox,
                                 Durability durability = Durability::kSynced);

  // Empty `fields` replaces labels, extensions, spec and runtime options (the runtime's name
  // stays); else "labels[.<k>]", "extensions[.<k>]", "runtime", "spec".
  absl::StatusOr<Sandbox> Update(const Scope& scope, const Sandbox& sandbox,
                                 const std::vector<std::string>& fields,
                                 Durability durability = Durability::kSynced);

  absl::Status Delete(const Scope& scope, absl::string_view id,
                      Durability durability = Durability::kSynced);

  // What became of a sandbox. It needs no record: the two have lives of their own.
  absl::Status PutState(const Scope& scope, absl::string_view id,
                        const record::v1::SandboxState& state,
                        Durability durability = Durability::kSynced);
  absl::Status DeleteState(const Scope& scope, absl::string_view id,
                           Durability durability = Durability::kSynced);
  // Of every namespace.
  absl::Status ListStates(
      const std::function<absl::Status(absl::string_view ns, absl::string_view id,
                                       const record::v1::SandboxState& state)>& visit);

 private:
  Database& db_;
  const Clock& clock_;
};

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_SANDBOX_STORE_H_
