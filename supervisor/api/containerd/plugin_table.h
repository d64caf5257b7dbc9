// The plugins that containerd's clients look for, as far as this daemon stands in for them. Pure.
#ifndef GANTRY_SUPERVISOR_API_CONTAINERD_PLUGIN_TABLE_H_
#define GANTRY_SUPERVISOR_API_CONTAINERD_PLUGIN_TABLE_H_

#include <map>
#include <string>
#include <vector>

#include "content-store/descriptor.h"
#include "supervisor/metadata/filter.h"

namespace gantry::api::containerd_api {

struct Plugin {
  std::string type;
  std::string id;
  std::vector<std::string> requires_types;
  bool on_platform = false;  // is about this machine's platform
  std::map<std::string, std::string> exports;
  std::vector<std::string> capabilities;
};

inline constexpr char kRuntimePlugin[] = "io.containerd.runtime.v2";

// In the order of type, then id. `snapshotters`: name to directory.
std::vector<Plugin> PluginTable(const std::map<std::string, std::string>& snapshotters,
                                const std::string& content_directory);

// type, id.
metadata::Filter::Fields FieldsOf(const Plugin& plugin);

// This machine as clients match layers against it: amd64 without a micro-architecture level.
content::Platform ServedPlatform(content::Platform host);

}  // namespace gantry::api::containerd_api

#endif  // GANTRY_SUPERVISOR_API_CONTAINERD_PLUGIN_TABLE_H_
