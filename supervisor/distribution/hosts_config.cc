#include "supervisor/distribution/hosts_config.h"

#include <arpa/inet.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#define TOML_EXCEPTIONS 0  // as everywhere: third_party/BUILD.bazel
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include <toml++/toml.h>

#include "base/file.h"
#include "base/status_macros.h"
#include "supervisor/distribution/reference.h"

namespace gantry::distribution {
namespace {

constexpr int64_t kMaxConfigBytes = 1 << 20;

bool IsDirectory(const std::string& path) {
  struct stat st;
  return stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

std::string TomlKey(const toml::key& key) { return std::string(key.str()); }

// Reads the keys of one host (the root table for the server, or one [host."URL"]).
class HostReader {
 public:
  HostReader(std::string file, std::string directory)
      : file_(std::move(file)), directory_(std::move(directory)) {}

  absl::Status Wrong(const toml::node& node, absl::string_view key, absl::string_view why) const {
    return absl::FailedPreconditionError(absl::StrCat(
        "registry configuration ", file_, ":", node.source().begin.line, ": ", key, ": ", why));
  }

  std::string Absolute(absl::string_view path) const {
    return absl::StartsWith(path, "/") ? std::string(path) : absl::StrCat(directory_, "/", path);
  }

  absl::StatusOr<std::string> File(const toml::node& node, absl::string_view key) const {
    std::optional<std::string> text = node.value_exact<std::string>();
    if (!text || text->empty()) return Wrong(node, key, "a file name is expected");
    std::string path = Absolute(*text);
    if (!Exists(path)) return Wrong(node, key, absl::StrCat("no such file: ", path));
    return path;
  }

  absl::Status ReadTls(const toml::table& table, TlsConfig& tls) const {
    if (const toml::node* node = table.get("ca")) {
      if (const toml::array* list = node->as_array()) {
        for (const toml::node& item : *list) {
          GANTRY_ASSIGN_OR_RETURN(std::string path, File(item, "ca"));
          tls.ca_files.push_back(std::move(path));
        }
      } else {
        GANTRY_ASSIGN_OR_RETURN(std::string path, File(*node, "ca"));
        tls.ca_files.push_back(std::move(path));
      }
    }
    if (const toml::node* node = table.get("client")) {
      if (const toml::array* list = node->as_array()) {
        for (const toml::node& item : *list) {
          if (const toml::array* pair = item.as_array()) {
            if (pair->empty() || pair->size() > 2)
              return Wrong(item, "client", "a pair [certificate, key] is expected");
            GANTRY_ASSIGN_OR_RETURN(std::string cert, File(*pair->get(0), "client"));
            std::string key;
            if (pair->size() == 2 && pair->get(1)->value_or(std::string_view("x")) != "") {
              GANTRY_ASSIGN_OR_RETURN(key, File(*pair->get(1), "client"));
            }
            tls.client_pairs.emplace_back(std::move(cert), std::move(key));
          } else {
            GANTRY_ASSIGN_OR_RETURN(std::string cert, File(item, "client"));
            tls.client_pairs.emplace_back(std::move(cert), "");
          }
        }
      } else {
        GANTRY_ASSIGN_OR_RETURN(std::string cert, File(*node, "client"));
        tls.client_pairs.emplace_back(std::move(cert), "");
      }
    }
    if (const toml::node* node = table.get("skip_verify")) {
      std::optional<bool> value = node->value_exact<bool>();
      if (!value) return Wrong(*node, "skip_verify", "true or false is expected");
      tls.skip_verify = *value;
    }
    return absl::OkStatus();
  }

  absl::Status ReadHost(const toml::table& table, RegistryHost& host) const {
    GANTRY_RETURN_IF_ERROR(ReadTls(table, host.tls));
    if (const toml::node* node = table.get("capabilities")) {
      const toml::array* list = node->as_array();
      if (!list) return Wrong(*node, "capabilities", "a list is expected");
      host.can_pull = host.can_resolve = host.can_push = host.can_referrers = false;
      for (const toml::node& item : *list) {
        std::string name = item.value_or(std::string());
        if (name == "pull") {
          host.can_pull = true;
          host.can_referrers = true;
        } else if (name == "resolve") {
          host.can_resolve = true;
        } else if (name == "push") {
          host.can_push = true;
        } else if (name == "referrers") {
          host.can_referrers = true;
        } else {
          return Wrong(item, "capabilities",
                       absl::StrCat("\"", name, "\" is not one of pull, resolve, push, referrers"));
        }
      }
    }
    if (const toml::node* node = table.get("header")) {
      const toml::table* headers = node->as_table();
      if (!headers) return Wrong(*node, "header", "a table is expected");
      for (const auto& [key, value] : *headers) {
        std::vector<std::string> values;
        if (const toml::array* list = value.as_array()) {
          for (const toml::node& item : *list) values.push_back(item.value_or(std::string()));
        } else if (std::optional<std::string> text = value.value_exact<std::string>()) {
          values.push_back(*text);
        } else {
          return Wrong(value, TomlKey(key), "a string or a list of strings is expected");
        }
        for (const std::string& text : values) {
          if (text.find_first_of("\r\n") != std::string::npos ||
              TomlKey(key).find_first_of("\r\n: ") != std::string::npos) {
            return Wrong(value, TomlKey(key), "a header cannot contain line breaks");
          }
          host.headers.emplace_back(TomlKey(key), text);
        }
      }
    }
    if (const toml::node* node = table.get("token_realms")) {
      const toml::array* list = node->as_array();
      if (!list) return Wrong(*node, "token_realms", "a list of URLs is expected");
      for (const toml::node& item : *list) {
        RegistryHost realm;
        GANTRY_RETURN_IF_ERROR(
            ReadUrl(item, item.value_or(std::string()), /*override_path=*/true, realm));
        host.token_realms.push_back(realm.origin());
      }
    }
    if (const toml::node* node = table.get("private_redirects")) {
      std::optional<bool> allowed = node->value_exact<bool>();
      if (!allowed) return Wrong(*node, "private_redirects", "true or false is expected");
      host.private_redirects = *allowed;
    }
    if (const toml::node* node = table.get("dial_timeout")) {
      std::string text = node->value_or(std::string());
      if (!absl::ParseDuration(text, &host.dial_timeout) ||
          host.dial_timeout <= absl::ZeroDuration()) {
        return Wrong(*node, "dial_timeout", "a duration such as \"5s\" is expected");
      }
    }
    return absl::OkStatus();
  }

  // Sets scheme, host and path out of a URL as it may be written in the file.
  absl::Status ReadUrl(const toml::node& where, absl::string_view text, bool override_path,
                       RegistryHost& host) const {
    absl::string_view rest = text;
    if (absl::ConsumePrefix(&rest, "http://")) {
      host.scheme = "http";
    } else if (absl::ConsumePrefix(&rest, "https://")) {
      host.scheme = "https";
    } else if (absl::StrContains(rest, "://")) {
      return Wrong(where, text, "a host is an http:// or https:// URL");
    } else {
      host.scheme = "https";
    }
    size_t slash = rest.find('/');
    host.host = absl::AsciiStrToLower(rest.substr(0, slash));
    if (host.host.empty() || host.host.find_first_of("@?# \t\\") != std::string::npos) {
      return Wrong(where, text, "this URL has no usable host");
    }
    std::string path = slash == absl::string_view::npos ? "" : std::string(rest.substr(slash));
    while (absl::EndsWith(path, "/")) path.pop_back();
    if (path.find_first_of("?# ") != std::string::npos)
      return Wrong(where, text, "a host URL has no query");
    if (override_path) {
      host.path = path;
    } else {
      host.path = absl::EndsWith(path, "/v2") ? path : absl::StrCat(path, "/v2");
    }
    return absl::OkStatus();
  }

  const std::string& file() const { return file_; }

 private:
  const std::string file_;
  const std::string directory_;
};

bool OverridePath(const toml::table& table) { return table["override_path"].value_or(false); }

// docker's --insecure-registry: an exact host[:port], a host for all its ports, or an IPv4 network.
bool IsInsecure(const std::vector<std::string>& rules, absl::string_view domain) {
  absl::string_view host = domain;
  size_t colon = host.rfind(':');
  if (colon != absl::string_view::npos && host.find(']', colon) == absl::string_view::npos)
    host = host.substr(0, colon);
  for (const std::string& rule : rules) {
    if (rule == domain || rule == host) return true;
    std::vector<std::string> parts = absl::StrSplit(rule, '/');
    int bits = 0;
    in_addr network, address;
    if (parts.size() == 2 && absl::SimpleAtoi(parts[1], &bits) && bits >= 0 && bits <= 32 &&
        inet_pton(AF_INET, parts[0].c_str(), &network) == 1 &&
        inet_pton(AF_INET, std::string(host).c_str(), &address) == 1) {
      uint32_t mask = bits == 0 ? 0 : ~uint32_t{0} << (32 - bits);
      if ((ntohl(network.s_addr) & mask) == (ntohl(address.s_addr) & mask)) return true;
    }
  }
  return false;
}

RegistryHost DefaultHost(absl::string_view domain, const HostsConfigOptions& options) {
  RegistryHost host;
  host.host = absl::AsciiStrToLower(ApiHost(domain));
  host.upstream_domain = std::string(domain);
  host.rule = "built in: the registry itself";
  if (!options.default_scheme.empty()) {
    host.scheme = options.default_scheme;
    host.rule = absl::StrCat("asked for with the request: ", options.default_scheme);
    return host;
  }
  const bool insecure = IsInsecure(options.insecure_registries, domain);
  if (!insecure && !IsLoopbackHost(domain)) return host;
  if (absl::EndsWith(host.host, ":80")) host.scheme = "http";
  host.tls.skip_verify = true;
  host.http_fallback = true;
  host.rule = insecure ? "insecure registry: https unverified, then http"
                       : "built in: loopback, https unverified, then http";
  return host;
}

absl::StatusOr<std::vector<RegistryHost>> ReadHostsToml(const std::string& directory,
                                                        const std::string& file,
                                                        absl::string_view domain,
                                                        const HostsConfigOptions& options,
                                                        std::vector<std::string>& looked_at) {
  GANTRY_ASSIGN_OR_RETURN(std::string text, ReadFile(file, kMaxConfigBytes));
  toml::parse_result parsed = toml::parse(text, file);
  if (!parsed) {
    return absl::FailedPreconditionError(absl::StrCat("registry configuration ", file, ":",
                                                      parsed.error().source().begin.line, ": ",
                                                      std::string(parsed.error().description())));
  }
  const toml::table& root = parsed.table();
  HostReader reader(file, directory);
  std::vector<RegistryHost> hosts;

  static constexpr const char* kKnown[] = {
      "server", "host",          "capabilities", "ca",           "client",           "skip_verify",
      "header", "override_path", "dial_timeout", "token_realms", "private_redirects"};
  auto note_unknown = [&](const toml::table& table) {
    for (const auto& [key, value] : table) {
      bool known = false;
      for (const char* name : kKnown) known |= TomlKey(key) == name;
      if (!known) {
        looked_at.push_back(absl::StrCat(file, ":", value.source().begin.line, ": key ",
                                         TomlKey(key), " is not known, ignored"));
      }
    }
  };
  note_unknown(root);

  if (const toml::node* node = root.get("host")) {
    const toml::table* table = node->as_table();
    if (!table) return reader.Wrong(*node, "host", "a table is expected");
    // The library sorts keys; the file's order is the order to ask in.
    std::vector<std::pair<std::string, const toml::table*>> entries;
    for (const auto& [key, value] : *table) {
      const toml::table* entry = value.as_table();
      if (!entry) return reader.Wrong(value, TomlKey(key), "a table is expected");
      entries.emplace_back(TomlKey(key), entry);
    }
    std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
      const auto& x = a.second->source().begin;
      const auto& y = b.second->source().begin;
      return std::make_pair(x.line, x.column) < std::make_pair(y.line, y.column);
    });
    for (const auto& [url, entry] : entries) {
      note_unknown(*entry);
      RegistryHost host;
      host.upstream_domain = std::string(domain);
      GANTRY_RETURN_IF_ERROR(reader.ReadUrl(*entry, url, OverridePath(*entry), host));
      GANTRY_RETURN_IF_ERROR(reader.ReadHost(*entry, host));
      host.mirror = host.host != absl::AsciiStrToLower(ApiHost(domain));
      host.rule = absl::StrCat(file, ":", entry->source().begin.line, " [host.\"", url, "\"]");
      hosts.push_back(std::move(host));
    }
  }

  RegistryHost server = DefaultHost(domain, options);
  bool wants_tls = root.contains("ca") || root.contains("client") || root.contains("skip_verify");
  if (wants_tls) {
    server.http_fallback = false;
    server.tls.skip_verify = false;
  }
  if (const toml::node* node = root.get("server")) {
    std::string url = node->value_or(std::string());
    server.http_fallback = false;
    server.tls.skip_verify = false;
    GANTRY_RETURN_IF_ERROR(reader.ReadUrl(*node, url, OverridePath(root), server));
    // "https://docker.io" is how people write the Hub.
    if (server.host == "docker.io") server.host = ApiHost("docker.io");
    server.mirror = server.host != absl::AsciiStrToLower(ApiHost(domain));
    server.rule = absl::StrCat(file, ":", node->source().begin.line, " server");
  } else {
    server.rule = absl::StrCat(file, ": no server key, ", server.rule);
  }
  GANTRY_RETURN_IF_ERROR(reader.ReadHost(root, server));
  hosts.push_back(std::move(server));
  return hosts;
}

// docker's layout: *.crt are authorities, NAME.cert with NAME.key is us.
absl::StatusOr<bool> ReadDockerCerts(const std::string& directory, TlsConfig& tls) {
  const absl::StatusOr<std::vector<std::string>> names = ListDirectory(directory);
  if (!names.ok()) return false;
  bool found = false;
  for (const std::string& name : *names) {
    std::string path = absl::StrCat(directory, "/", name);
    if (absl::EndsWith(name, ".crt")) {
      tls.ca_files.push_back(path);
      found = true;
    } else if (absl::EndsWith(name, ".cert")) {
      std::string key = absl::StrCat(absl::StripSuffix(path, ".cert"), ".key");
      if (!Exists(key)) {
        return absl::FailedPreconditionError(
            absl::StrCat("registry configuration ", path, ": its key ", key,
                         " is missing (a CA certificate ends in .crt)"));
      }
      tls.client_pairs.emplace_back(path, key);
      found = true;
    }
  }
  return found;
}

}  // namespace

absl::StatusOr<HostsLookup> HostsConfig::Lookup(absl::string_view domain) const {
  HostsLookup lookup;
  lookup.domain = std::string(domain);

  std::vector<std::string> names;
  absl::string_view host = domain;
  size_t colon = domain.rfind(':');
  if (colon != absl::string_view::npos && domain.find(']', colon) == absl::string_view::npos) {
    host = domain.substr(0, colon);
    names.push_back(absl::StrCat(host, "_", domain.substr(colon + 1), "_"));
    names.push_back(std::string(domain));
  }
  names.push_back(std::string(host));
  // Docker keeps the Hub's certificates under the name of its API host.
  if (domain == "docker.io") names.push_back("registry-1.docker.io");
  names.push_back("_default");

  for (const std::string& root : options_.directories) {
    if (root.empty()) continue;
    for (const std::string& name : names) {
      std::string directory = absl::StrCat(root, "/", name);
      if (!IsDirectory(directory)) {
        lookup.looked_at.push_back(absl::StrCat(directory, ": not there"));
        continue;
      }
      std::string file = absl::StrCat(directory, "/hosts.toml");
      if (Exists(file)) {
        GANTRY_ASSIGN_OR_RETURN(lookup.hosts,
                                ReadHostsToml(directory, file, domain, options_, lookup.looked_at));
        lookup.looked_at.push_back(absl::StrCat(file, ": used"));
        lookup.used = file;
        return lookup;
      }
      RegistryHost only = DefaultHost(domain, options_);
      GANTRY_ASSIGN_OR_RETURN(bool found, ReadDockerCerts(directory, only.tls));
      if (found) {
        if (!only.tls.ca_files.empty()) {
          // Who installs an authority wants it to be checked.
          only.tls.skip_verify = false;
          only.http_fallback = false;
        }
        only.rule = absl::StrCat(directory, ": certificates in docker's layout");
        lookup.hosts.push_back(std::move(only));
        lookup.looked_at.push_back(absl::StrCat(directory, ": used (certificates)"));
        lookup.used = directory;
        return lookup;
      }
      lookup.looked_at.push_back(absl::StrCat(directory, ": neither hosts.toml nor certificates"));
    }
  }
  lookup.hosts.push_back(DefaultHost(domain, options_));
  return lookup;
}

}  // namespace gantry::distribution
