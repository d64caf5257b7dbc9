// In whose name a metadata call is made: a namespace, and the lease that what it makes is attached
// to.
#ifndef GANTRY_SUPERVISOR_METADATA_SCOPE_H_
#define GANTRY_SUPERVISOR_METADATA_SCOPE_H_

#include <string>

#include "absl/status/status.h"

namespace gantry::metadata {

class Transaction;

struct Scope {
  std::string ns;
  std::string lease = {};  // "" for none

  // kFailedPrecondition: no namespace ("namespace is required"); kInvalidArgument: not an
  // identifier.
  absl::Status Validate() const;
};

// The first thing in every transaction that writes objects: makes the namespace's record if this is
// its first object, and keeps it from being deleted until the transaction ends. kNotFound: the
// scope's lease does not exist.
absl::Status EnterScope(Transaction& tx, const Scope& scope);

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_SCOPE_H_
