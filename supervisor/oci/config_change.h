// Changes to an image's configuration in a Dockerfile's words, for `commit --change` and `import
// --change`.
//
// Free functions, safe to call from any thread. Only instructions that change the configuration:
// none of them runs anything. Spec: Dockerfile reference, "CMD" to "WORKDIR".
#ifndef GANTRY_SUPERVISOR_OCI_CONFIG_CHANGE_H_
#define GANTRY_SUPERVISOR_OCI_CONFIG_CHANGE_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "supervisor/oci/image_config.h"

namespace gantry::oci {

// Applies one instruction: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL,
// USER, VOLUME or WORKDIR. `$NAME` and `${NAME}` stand for the image's environment where a
// Dockerfile expands them. kInvalidArgument: another instruction, or one that is malformed;
// `config` is then as it was.
absl::Status ApplyChange(absl::string_view instruction, ImageConfig& config);

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_CONFIG_CHANGE_H_
