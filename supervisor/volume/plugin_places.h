// Where volume drivers are: docker's plugin protocol v1.
//
// A driver NAME has a socket DIR/NAME.sock or DIR/NAME/NAME.sock, or a file NAME.spec (an address)
// or NAME.json ({"Name", "Addr", "TLSConfig"}) in one of the specification directories, or in a
// directory of its name there. Sockets win over files, the first directory over the next, .spec
// over .json. Directories are looked at each time: a driver may come and go.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_VOLUME_PLUGIN_PLACES_H_
#define GANTRY_SUPERVISOR_VOLUME_PLUGIN_PLACES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::volume {

struct PluginPlaces {
  std::string sockets = "/run/docker/plugins";
  std::vector<std::string> specs = {"/etc/docker/plugins", "/usr/lib/docker/plugins"};
};

// How a driver is reached.
struct PluginAddress {
  std::string socket;  // path; "": over the network
  std::string url;     // "http://localhost" with a socket, else "http://HOST:PORT" or https
  bool verify_peer = true;
  std::string ca_file;
  std::string certificate_file;
  std::string key_file;

  friend bool operator==(const PluginAddress&, const PluginAddress&) = default;
};

// "unix:///PATH", "tcp://HOST:PORT", "http://...", "https://...". kInvalidArgument.
absl::StatusOr<PluginAddress> ParsePluginAddress(absl::string_view text);

//   kNotFound         no driver of that name, in docker's words; or the name is no name of a file
//   kInvalidArgument  its file does not say where it is
absl::StatusOr<PluginAddress> FindPlugin(const PluginPlaces& places, absl::string_view name);

// The names of all, sorted. A driver that is named need not answer.
std::vector<std::string> ListPlugins(const PluginPlaces& places);

}  // namespace gantry::volume

#endif  // GANTRY_SUPERVISOR_VOLUME_PLUGIN_PLACES_H_
