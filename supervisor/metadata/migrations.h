// The steps from what earlier versions of Gantry stored to what this one stores. See key_space.h.
//
// Each step may be cut off anywhere and run again: it changes only what is not as it should be yet.
#ifndef GANTRY_SUPERVISOR_METADATA_MIGRATIONS_H_
#define GANTRY_SUPERVISOR_METADATA_MIGRATIONS_H_

#include <vector>

#include "supervisor/metadata/database.h"

namespace gantry::metadata {

// In order, one for each version before kSchemaVersion.
std::vector<Migration> RealMigrations();

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_MIGRATIONS_H_
