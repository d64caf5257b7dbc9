// What a container's resolver answers by itself: names of neighbours and their addresses, as the
// files of names_file.h have them at this moment.
//
// A name is looked for among the container's links, then as it stands in each network, then with
// its last labels taken as a network's name: "a.b.c" is "a.b" on the network "c" or "a" on "b.c".
// The first network that has it answers. Networks that the container is not on are not looked at.
//
// Thread-compatible. Not a copy: the names stay in the mapped files.
#ifndef GANTRY_SHIM_NAME_LOOKUP_H_
#define GANTRY_SHIM_NAME_LOOKUP_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "supervisor/network/names_file.h"

namespace gantry::shim {

class NameLookup {
 public:
  // Of a resolver file.
  explicit NameLookup(std::string config_path) : config_path_(std::move(config_path)) {}

  // Takes in files that have changed. After an error, which is reported once per file version, what
  // was read before goes on to be answered.
  absl::Status Refresh();

  struct Found {
    bool known = false;
    std::vector<network::NameAddress> addresses;  // of both families
  };
  // `name` in lower case, without the final dot.
  Found Find(absl::string_view name) const;
  // "NAME.NETWORK", "" when no neighbour has the address.
  std::string NameOf(const network::NameAddress& address) const;

  // Who to ask for other names.
  struct Server {
    std::string address;
    bool of_host = false;  // to be asked from the host's network namespace
  };
  const std::vector<Server>& servers() const { return servers_; }
  bool single_labels_stay() const { return config_.single_labels_stay; }

 private:
  absl::Status ReadConfig();

  const std::string config_path_;
  network::FileVersion config_version_;
  network::FileVersion host_version_;
  network::ResolverConfig config_;
  std::vector<std::unique_ptr<network::NamesFile>> networks_;
  std::vector<Server> servers_;
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_NAME_LOOKUP_H_
