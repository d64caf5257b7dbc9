#include "supervisor/core/resolv_conf.h"

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "proto/gantry/v1/container_config.pb.h"

namespace gantry::core {
namespace {

constexpr char kResolver[] = "127.0.0.11";
constexpr char kStub[] = "127.0.0.53";

struct ResolvConf {
  std::vector<std::string> servers;
  std::vector<std::string> search;
  std::vector<std::string> options;
  std::vector<std::string> others;  // whole lines
};

ResolvConf Parse(absl::string_view text) {
  ResolvConf conf;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<std::string> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty() || words[0][0] == '#' || words[0][0] == ';') continue;
    const std::vector<std::string> values(words.begin() + 1, words.end());
    if (words[0] == "nameserver") {
      if (!values.empty()) conf.servers.push_back(values[0]);
    } else if (words[0] == "search" || words[0] == "domain") {
      conf.search = values;  // the last one counts
    } else if (words[0] == "options") {
      conf.options.insert(conf.options.end(), values.begin(), values.end());
    } else {
      conf.others.push_back(absl::StrJoin(words, " "));
    }
  }
  return conf;
}

std::string Print(const ResolvConf& conf) {
  std::string text;
  for (const std::string& server : conf.servers)
    absl::StrAppend(&text, "nameserver ", server, "\n");
  if (!conf.search.empty())
    absl::StrAppend(&text, "search ", absl::StrJoin(conf.search, " "), "\n");
  if (!conf.options.empty())
    absl::StrAppend(&text, "options ", absl::StrJoin(conf.options, " "), "\n");
  for (const std::string& line : conf.others) absl::StrAppend(&text, line, "\n");
  return text;
}

bool IsLoopback(absl::string_view server) {
  return absl::StartsWith(server, "127.") || server == "::1";
}
bool IsIpv6(absl::string_view server) { return absl::StrContains(server, ':'); }

void Override(const v1::ContainerConfig& config, ResolvConf& conf) {
  if (config.dns_size() > 0) conf.servers = {config.dns().begin(), config.dns().end()};
  if (config.dns_search_size() > 0) {
    conf.search = {config.dns_search().begin(), config.dns_search().end()};
    std::erase(conf.search, ".");
  }
  if (config.dns_options_size() > 0)
    conf.options = {config.dns_options().begin(), config.dns_options().end()};
}

// Of the last valid "ndots:N"; -1 without one.
int Ndots(const std::vector<std::string>& options) {
  int ndots = -1;
  for (absl::string_view option : options) {
    int number;
    if (absl::ConsumePrefix(&option, "ndots:") && absl::SimpleAtoi(option, &number) && number >= 0)
      ndots = number;
  }
  return ndots;
}

}  // namespace

std::string MakeResolvConf(absl::string_view host, const v1::ContainerConfig& config,
                           ResolvConfFor kind) {
  const bool overridden =
      config.dns_size() + config.dns_search_size() + config.dns_options_size() > 0;
  if (kind == ResolvConfFor::kHostNetwork && !overridden) return std::string(host);
  ResolvConf conf = Parse(kind == ResolvConfFor::kNoNetwork ? absl::string_view() : host);
  if (kind == ResolvConfFor::kPlainNetwork || kind == ResolvConfFor::kPlainNetworkWithIpv6) {
    std::erase_if(conf.servers, [kind](const std::string& server) {
      return IsLoopback(server) || (kind == ResolvConfFor::kPlainNetwork && IsIpv6(server));
    });
    if (conf.servers.empty()) conf.servers = {kResolver};
  }
  Override(config, conf);
  if (kind == ResolvConfFor::kNamedNetwork) {
    conf.servers = {kResolver};
    if (Ndots(conf.options) < 0) {
      std::erase_if(conf.options,
                    [](const std::string& option) { return absl::StartsWith(option, "ndots:"); });
      conf.options.push_back("ndots:0");
    }
  }
  return Print(conf);
}

bool KeepsSingleLabels(absl::string_view host, const v1::ContainerConfig& config) {
  ResolvConf conf = Parse(host);
  Override(config, conf);
  return Ndots(conf.options) > 0;
}

bool NamesOnlyResolvedStub(absl::string_view host) {
  const std::vector<std::string> servers = Parse(host).servers;
  return !servers.empty() && std::all_of(servers.begin(), servers.end(),
                                         [](const std::string& server) { return server == kStub; });
}

}  // namespace gantry::core
