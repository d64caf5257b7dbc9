// Configurations of CNI networks: lists of plugins, as administrators and network add-ons write
// them into a directory.
//
// A plugin's object is handed on as it was written; what the specification adds to it or takes from
// it is added and taken when its input is made. Values are thread-compatible, the functions
// thread-safe, CniConfigDirectory too. Spec: CNI 1.1 section 1.
#ifndef GANTRY_SUPERVISOR_NETWORK_CNI_CONFIG_H_
#define GANTRY_SUPERVISOR_NETWORK_CNI_CONFIG_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace gantry::network {

// Of a configuration, and of what a plugin prints.
inline constexpr int64_t kMaxCniBytes = 1 << 20;
// Less than what a record of an attachment is read with, which has these documents inside it.
inline constexpr int kMaxCniDepth = 48;

// A version that is served: 0.1.0 to 1.1.0.
bool IsCniVersion(absl::string_view version);
// Both as "1.0.0"; "" is 0.1.0.
bool CniVersionAtLeast(absl::string_view version, absl::string_view least);

struct CniPlugin {
  std::string type;                    // name of its program
  std::string json;                    // the object as it was written
  std::set<std::string> capabilities;  // that it declares
};

struct CniNetwork {
  std::string name;
  std::string version;  // the highest that both sides know
  bool disable_check = false;
  bool disable_gc = false;
  std::vector<CniPlugin> plugins;  // at least one
  std::string json;                // as a list, with the chosen version; ParseCniNetwork() reads it
};

// `text` is a list of plugins, or the configuration of a single one. kInvalidArgument says which
// field is wrong.
absl::StatusOr<CniNetwork> ParseCniNetwork(absl::string_view text);

// The first network of a directory, by file name: *.conflist, *.conf and *.json. A list may leave
// plugins to files of their own in a subdirectory of its name (loadOnlyInlinedPlugins is false).
//   kFailedPrecondition  there is none, or its file is wrong; the message names the file
absl::StatusOr<CniNetwork> LoadCniNetwork(const std::string& directory);

// The first network of a directory as it is now. Files are read again only after a change.
class CniConfigDirectory {
 public:
  explicit CniConfigDirectory(std::string path) : path_(std::move(path)) {}

  // As LoadCniNetwork(). Never null.
  absl::StatusOr<std::shared_ptr<const CniNetwork>> Get();

 private:
  const std::string path_;
  absl::Mutex mu_;
  std::string seen_ ABSL_GUARDED_BY(mu_);  // names and versions of the files read last; "" none
  absl::StatusOr<std::shared_ptr<const CniNetwork>> read_ ABSL_GUARDED_BY(mu_);
};

// What a plugin reads from its standard input.
struct CniInput {
  std::map<std::string, std::string> capability_args;  // of all; given as far as it declares them
  std::string previous_result;                         // JSON; "" none
  // For GC: container id and interface of each attachment that is in use.
  const std::vector<std::pair<std::string, std::string>>* valid_attachments = nullptr;
};
std::string PrintCniInput(const CniNetwork& network, const CniPlugin& plugin,
                          const CniInput& input);

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_CNI_CONFIG_H_
