// docker's contexts: named daemons, in the files of docker's command line, which ctl shares with it.
//
// Below the configuration directory (DOCKER_CONFIG, else ~/.docker) a context NAME is the file
// contexts/meta/SHA256(NAME)/meta.json, and config.json names the current one. ctl connects to
// what the endpoint "gantry" of a context names if it has one, else to what "docker" names. The
// context "default" has no file: it is the daemon that is used without contexts.
//
// Thread-compatible; every call reads or writes the files.
#ifndef GANTRY_CTL_CONTEXTS_H_
#define GANTRY_CTL_CONTEXTS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/engine/value.h"

namespace gantry::ctl {

constexpr char kDefaultContext[] = "default";

struct ContextRecord {
  std::string name;
  // The file as it is: Name, Metadata, Endpoints, and what other programs keep there.
  engine::Value document = engine::Value::EmptyObject();

  std::string description() const;
  std::string docker_host() const;  // "" if there is no such endpoint
  std::string host() const;         // what ctl connects to
  void SetDescription(absl::string_view text);
  // Of an endpoint, "docker" or "gantry".
  void SetHost(absl::string_view endpoint, absl::string_view host);
};

class ContextStore {
 public:
  explicit ContextStore(const std::map<std::string, std::string>& environment);

  // Sorted by name, without "default".
  absl::StatusOr<std::vector<ContextRecord>> List() const;
  // kNotFound: no such context.
  absl::StatusOr<ContextRecord> Find(absl::string_view name) const;
  // Writes a new or changed one. kInvalidArgument: bad name.
  absl::Status Put(const ContextRecord& record) const;
  // kNotFound.
  absl::Status Remove(absl::string_view name) const;

  // What config.json names as the current one; "" or "default" for none.
  absl::StatusOr<std::string> Current() const;
  absl::Status SetCurrent(absl::string_view name) const;

  std::string MetadataPath(absl::string_view name) const;  // directories
  std::string TlsPath(absl::string_view name) const;

 private:
  std::string directory_;
};

// kInvalidArgument: not a name that docker would take.
absl::Status CheckContextName(absl::string_view name);
// kInvalidArgument: neither unix://, ssh:// nor one of docker's other kinds.
absl::Status CheckContextHost(absl::string_view host);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_CONTEXTS_H_
