// Every key of Gantry's own configuration file: where it is kept, what it means. Reading, printing,
// the reference in docs/user and the manual page are made from this one table.
#ifndef GANTRY_SUPERVISOR_CONFIG_KEYS_H_
#define GANTRY_SUPERVISOR_CONFIG_KEYS_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/man_page.h"
#include "supervisor/config.h"

namespace gantry {

class ConfigReader;

struct ConfigKey {
  // Where a value that is the default is not written.
  enum class Print { kAlways, kIfSet };

  absl::string_view name;  // dotted: "registry.pinned_images"
  std::variant<std::string Config::*, bool Config::*, int32_t Config::*, int64_t Config::*,
               double Config::*, absl::Duration Config::*, std::vector<std::string> Config::*>
      value;
  absl::string_view help;
  Print print = Print::kAlways;
  bool one_or_many = false;  // of a list: one string is a list of one
};

// A key of [runtimes.NAME].
struct RuntimeKey {
  absl::string_view name;
  std::variant<std::string RuntimeConfig::*, bool RuntimeConfig::*> value;
  absl::string_view help;
};

// In the order in which they are printed; those of one table are together.
const std::vector<ConfigKey>& ConfigKeys();
const std::vector<RuntimeKey>& RuntimeKeys();

// Sets what the file has. Mistakes are in reader.error().
void ReadConfigKeys(ConfigReader& reader, Config& config);

// The keys as Markdown: docs/user/configuration.md.
std::string ConfigReference();
// The same as gantry-config.toml(5).
ManPage ConfigManual();

}  // namespace gantry

#endif  // GANTRY_SUPERVISOR_CONFIG_KEYS_H_
