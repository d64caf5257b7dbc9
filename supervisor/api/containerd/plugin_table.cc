#include "supervisor/api/containerd/plugin_table.h"

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"

namespace gantry::api::containerd_api {

std::vector<Plugin> PluginTable(const std::map<std::string, std::string>& snapshotters,
                                const std::string& content_directory) {
  std::vector<Plugin> plugins;
  const auto add = [&plugins](std::string type, std::string id,
                              std::vector<std::string> requires_types = {}) -> Plugin& {
    Plugin& plugin = plugins.emplace_back();
    plugin.type = std::move(type);
    plugin.id = std::move(id);
    plugin.requires_types = std::move(requires_types);
    return plugin;
  };
  add("io.containerd.content.v1", "content").exports["root"] = content_directory;
  add("io.containerd.differ.v1", "walking", {"io.containerd.metadata.v1"}).on_platform = true;
  add("io.containerd.event.v1", "exchange");
  add("io.containerd.gc.v1", "scheduler", {"io.containerd.metadata.v1"});
  add("io.containerd.lease.v1", "manager", {"io.containerd.metadata.v1"});
  add("io.containerd.metadata.v1", "bolt",
      {"io.containerd.content.v1", "io.containerd.event.v1", "io.containerd.snapshotter.v1"});
  add(kRuntimePlugin, "task", {"io.containerd.event.v1", "io.containerd.metadata.v1"}).on_platform =
      true;
  add("io.containerd.monitor.container.v1", "restart",
      {"io.containerd.event.v1", "io.containerd.service.v1"})
      .capabilities = {"no", "always", "on-failure", "unless-stopped"};
  add("io.containerd.sandbox.controller.v1", "shim", {kRuntimePlugin, "io.containerd.event.v1"});
  add("io.containerd.sandbox.store.v1", "local", {"io.containerd.metadata.v1"});
  for (const auto& [name, directory] : snapshotters) {
    Plugin& plugin = add("io.containerd.snapshotter.v1", name);
    plugin.on_platform = true;
    plugin.exports["root"] = directory;
  }
  add("io.containerd.streaming.v1", "manager", {"io.containerd.metadata.v1"});
  add("io.containerd.transfer.v1", "local",
      {"io.containerd.lease.v1", "io.containerd.metadata.v1", "io.containerd.differ.v1"});
  for (const char* id : {"containers", "content", "diff", "events", "healthcheck", "images",
                         "introspection", "leases", "mounts", "namespaces", "sandbox-controllers",
                         "sandboxes", "snapshots", "streaming", "tasks", "transfer", "version"}) {
    add("io.containerd.grpc.v1", id);
  }
  for (const char* noun : {"containers", "content", "diff", "images", "introspection", "namespaces",
                           "snapshots", "tasks"}) {
    add("io.containerd.service.v1", absl::StrCat(noun, "-service"));
  }
  std::sort(plugins.begin(), plugins.end(), [](const Plugin& a, const Plugin& b) {
    return std::tie(a.type, a.id) < std::tie(b.type, b.id);
  });
  return plugins;
}

metadata::Filter::Fields FieldsOf(const Plugin& plugin) {
  return [&plugin](absl::Span<const std::string> path) -> std::optional<std::string> {
    if (path.size() != 1) return std::nullopt;
    if (path[0] == "type") return plugin.type;
    if (path[0] == "id") return plugin.id;
    return std::nullopt;
  };
}

content::Platform ServedPlatform(content::Platform host) {
  if (host.architecture == "amd64") host.variant.clear();
  return host;
}

}  // namespace gantry::api::containerd_api
