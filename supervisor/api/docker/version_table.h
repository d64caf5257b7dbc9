// What documents of some API versions do not have: the one table of fields by version.
//
// Handlers make a document with everything; what a client's version does not know yet, or no
// longer, is taken out before it is sent. Query parameters and behaviour that depend on the version
// are with their handlers.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_VERSION_TABLE_H_
#define GANTRY_SUPERVISOR_API_DOCKER_VERSION_TABLE_H_

#include "absl/strings/string_view.h"

#include "base/engine/value.h"
#include "supervisor/api/docker/api_version.h"

namespace gantry::api::docker {

enum class Document { kContainer, kContainerSummary, kInfo };

// Whether a version has what the table lists: for those that leave it out while they make a
// document.
bool HasField(Document document, ApiVersion version, absl::string_view path);

engine::Value ForVersion(Document document, ApiVersion version, engine::Value whole);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_VERSION_TABLE_H_
