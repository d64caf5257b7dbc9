// Container records, the state of their last run, and their names.
//
// A record may exist without name (containerd's clients give none). Its state exists as long as it
// does and holds its time of creation, so that lists of ids read states only. Its spec is stored
// apart, so that lists need not read what they do not show. Deleting it takes name, state and spec
// along. Whether the image or snapshot exists is not checked. Events are the
// caller's to publish. Thread-safe. Semantics: containerd "containers" service.
#ifndef GANTRY_SUPERVISOR_METADATA_CONTAINER_STORE_H_
#define GANTRY_SUPERVISOR_METADATA_CONTAINER_STORE_H_

#include <functional>
#include <optional>
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

// What Create() stores beside the record, in the same transaction.
struct NewContainer {
  record::v1::Container record;
  std::string name;  // "" for none; unique within the namespace
  std::optional<record::v1::ContainerState> state;
};

class ContainerStore {
 public:
  using Container = record::v1::Container;
  using State = record::v1::ContainerState;

  ContainerStore(Database& db, const Clock& clock) : db_(db), clock_(clock) {}

  // kNotFound: no such container.
  absl::StatusOr<Container> Get(const Scope& scope, absl::string_view id);
  // The same as it is stored: the bytes of a record::v1::Container, which is a
  // containerd.services.containers.v1.Container.
  absl::StatusOr<std::string> GetRaw(const Scope& scope, absl::string_view id);
  // The same without the spec.
  absl::StatusOr<std::string> GetWithoutSpec(const Scope& scope, absl::string_view id);

  // In id order, from one consistent view; a status other than OK from `visit` ends the list and is
  // returned.
  absl::Status List(const Scope& scope, const Filter& filter,
                    const std::function<absl::Status(const Container&)>& visit);

  // As it is stored: for lists that are sent as they are.
  absl::Status ListRaw(
      const Scope& scope,
      const std::function<absl::Status(absl::string_view id, absl::string_view bytes)>& visit);
  // The same without the specs, for a fraction of the cost.
  absl::Status ListWithoutSpecs(
      const Scope& scope,
      const std::function<absl::Status(absl::string_view id, absl::string_view bytes)>& visit);

  // Sets the times. kAlreadyExists: id or name taken; the message says by what. kInvalidArgument:
  // id, labels, runtime name, spec, snapshot key without snapshotter, extension without key.
  absl::StatusOr<Container> Create(const Scope& scope, NewContainer container,
                                   Durability durability = Durability::kSynced);

  // Empty `fields` replaces labels, spec, extensions, image and snapshot key (changing snapshotter
  // or runtime name is kInvalidArgument); else "labels[.<k>]", "spec", "extensions[.<k>]", "image",
  // "snapshotkey".
  absl::StatusOr<Container> Update(const Scope& scope, const Container& container,
                                   const std::vector<std::string>& fields,
                                   Durability durability = Durability::kSynced);

  // Remembers with which log URI a client started the container.
  absl::Status NoteLogUri(const Scope& scope, absl::string_view id, const std::string& uri,
                          Durability durability = Durability::kSynced);

  // Drops record, state and name.
  absl::Status Delete(const Scope& scope, absl::string_view id,
                      Durability durability = Durability::kSynced);

  // No value: no such container.
  absl::StatusOr<std::optional<State>> GetState(const Scope& scope, absl::string_view id);
  // Reads the state, lets `change` change it and stores it, in one transaction: what others change
  // meanwhile is neither lost nor overwritten. `change` may run more than once, each time on the
  // state as it is then; a status other than OK from it is returned and nothing is stored. Returns
  // the state as stored. kNotFound: the container is gone.
  absl::StatusOr<State> UpdateState(const Scope& scope, absl::string_view id,
                                    const std::function<absl::Status(State&)>& change,
                                    Durability durability = Durability::kSynced);
  // A state that is damaged is visited as null.
  absl::Status ListStates(
      const Scope& scope,
      const std::function<absl::Status(absl::string_view id, const State*)>& visit);

 private:
  Database& db_;
  const Clock& clock_;
};

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_CONTAINER_STORE_H_
