// The configuration of an image, docker's extensions included: bytes <-> struct.
//
// Values and free functions, safe to call from any thread. Members we do not know survive Parse ->
// change -> Print. Spec: OCI image-spec v1.1 "Image Configuration".
#ifndef GANTRY_SUPERVISOR_OCI_IMAGE_CONFIG_H_
#define GANTRY_SUPERVISOR_OCI_IMAGE_CONFIG_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "content-store/descriptor.h"
#include "content-store/digest.h"

namespace gantry::oci {

struct HealthCheck {
  std::vector<std::string> test;  // {} inherit, {"NONE"}, {"CMD", ...}, {"CMD-SHELL", "..."}
  absl::Duration interval;        // zero: the default
  absl::Duration timeout;
  absl::Duration start_period;
  absl::Duration start_interval;
  int retries = 0;

  friend bool operator==(const HealthCheck&, const HealthCheck&) = default;
};

struct History {
  std::string created;  // RFC 3339, as written
  std::string author;
  std::string created_by;
  std::string comment;
  bool empty_layer = false;
};

struct ImageConfig {
  std::string created;  // RFC 3339, as written; may be empty
  std::string author;
  content::Platform platform;

  std::string user;
  std::set<std::string> exposed_ports;  // "80/tcp"
  std::vector<std::string> env;         // "NAME=value"
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::set<std::string> volumes;
  std::string working_dir;
  std::map<std::string, std::string> labels;
  std::string stop_signal;
  bool args_escaped = false;

  std::vector<std::string> on_build;
  std::vector<std::string> shell;
  std::optional<HealthCheck> health_check;
  std::optional<int> stop_timeout_seconds;

  std::vector<content::Digest> diff_ids;  // base first
  std::vector<History> history;

  // The document as it was read; Print changes only what differs. "" for a new one.
  std::string original;
};

// Bytes that are not UTF-8 read as U+FFFD; `original` keeps them. kInvalidArgument: not JSON, wrong
// types, malformed diff ids; kResourceExhausted: too large. Unlike docker, a history whose length
// does not fit is accepted: it describes and decides nothing.
absl::StatusOr<ImageConfig> ParseImageConfig(absl::string_view bytes, absl::string_view what);

// Deterministic: equal structs print equal bytes.
std::string PrintImageConfig(const ImageConfig& config);

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_IMAGE_CONFIG_H_
