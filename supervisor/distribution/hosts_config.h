// Which hosts serve a registry's name, in which order and with which TLS: containerd's hosts.toml
// directories and docker's certs.d, read for every door alike.
//
// Lookup per configured directory, first hit wins: `<host>_<port>_/`, `<host>:<port>/`, `<host>/`,
// `_default/`. In it
// `hosts.toml`; without one, `*.crt` are CAs and `*.cert` + `*.key` client pairs (docker's layout).
// Without any directory the registry itself over https; a loopback host is tried over https without
// verification, then over http.
//
// Files are read at each lookup (they are small, and an edit takes effect at once). Thread-safe.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_HOSTS_CONFIG_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_HOSTS_CONFIG_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace gantry::distribution {

struct TlsConfig {
  bool skip_verify = false;
  std::vector<std::string> ca_files;  // added to the system's
  std::vector<std::pair<std::string, std::string>>
      client_pairs;  // certificate and key files; empty key: in the same file

  friend bool operator==(const TlsConfig&, const TlsConfig&) = default;
};

// One host to ask.
struct RegistryHost {
  std::string scheme = "https";
  std::string host;             // "registry-1.docker.io", "mirror:5000"
  std::string path = "/v2";     // prefix of every request, no trailing slash
  std::string upstream_domain;  // the registry it stands for, "docker.io"
  bool mirror = false;          // not the registry itself: requests carry ?ns=<upstream domain>
  bool can_pull = true, can_resolve = true, can_push = true, can_referrers = true;
  bool http_fallback =
      false;  // https was a guess: a failed handshake may be followed by plain http
  TlsConfig tls;
  std::vector<std::pair<std::string, std::string>> headers;  // sent to this origin only
  absl::Duration dial_timeout = absl::Seconds(30);
  // Origins of token servers that may see this host's credentials, besides the host itself and
  // those that are built in.
  std::vector<std::string> token_realms;
  // Redirects may lead from a server on the internet to addresses of this machine or its private
  // network.
  bool private_redirects = false;
  std::string
      rule;  // why it is in the list: "/etc/gantry/certs.d/docker.io/hosts.toml:3 [host.\"https://m\"]"

  std::string origin() const { return scheme + "://" + host; }
};

struct HostsLookup {
  std::string domain;
  std::vector<std::string> looked_at;  // each path tried, in order, with what was found there
  std::string used;                 // the directory or file that decided; empty: built-in defaults
  std::vector<RegistryHost> hosts;  // in the order they are asked; never empty
};

struct HostsConfigOptions {
  // Directories in the layout above. A relative path is an error of the caller's.
  std::vector<std::string> directories = {"/etc/gantry/certs.d", "/etc/containerd/certs.d",
                                          "/etc/docker/certs.d"};

  // Registries (host or host:port) to which plain HTTP and unverified TLS are allowed, as dockerd's
  // insecure-registries.
  std::vector<std::string> insecure_registries;

  // "http": a registry that no file speaks of is asked without TLS. "https": with verified TLS,
  // also on loopback. "": see above.
  std::string default_scheme;
};

class HostsConfig {
 public:
  explicit HostsConfig(HostsConfigOptions options = {}) : options_(std::move(options)) {}
  HostsConfig(const HostsConfig&) = delete;
  HostsConfig& operator=(const HostsConfig&) = delete;

  // kFailedPrecondition: a file that applies cannot be read or parsed (file, line and key are
  // named): a broken rule is never skipped silently.
  absl::StatusOr<HostsLookup> Lookup(absl::string_view domain) const;

  const HostsConfigOptions& options() const { return options_; }

 private:
  const HostsConfigOptions options_;
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_HOSTS_CONFIG_H_
