// Which plugin has set what of which container, while one request goes from plugin to plugin: two
// plugins do not set the same thing.
//
// Thread-compatible.
#ifndef GANTRY_SUPERVISOR_NRI_OWNERS_H_
#define GANTRY_SUPERVISOR_NRI_OWNERS_H_

#include <map>
#include <string>
#include <tuple>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "supervisor/nri/wire.h"

namespace gantry::nri {

class Owners {
 public:
  // `key`: of a field that has many entries, which one: the name of a variable, a mount's place; ""
  // for one that has one value.
  //   kFailedPrecondition  another plugin owns it, which the message names; the same plugin twice
  //                        is no conflict
  absl::Status Claim(const std::string& container, wire::Field field, const std::string& key,
                     const std::string& plugin);
  // Hooks add up: every plugin that adds some owns the field.
  void ClaimHooks(const std::string& container, const std::string& plugin);
  // What a plugin removes may be set again, by it and by others.
  void Release(const std::string& container, wire::Field field, const std::string& key);

  wire::OwningPlugins ToProto() const;

 private:
  using Key = std::tuple<std::string, wire::Field, std::string>;
  std::map<Key, std::string> owners_;
};

// "environment variable", "mount": what a message calls the field.
absl::string_view FieldName(wire::Field field);

}  // namespace gantry::nri

#endif  // GANTRY_SUPERVISOR_NRI_OWNERS_H_
