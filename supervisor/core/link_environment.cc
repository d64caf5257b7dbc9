#include "supervisor/core/link_environment.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"

namespace gantry::core {
namespace {

struct Port {
  std::string protocol;  // in capitals
  int number = 0;

  friend bool operator<(const Port& a, const Port& b) {
    return std::tie(a.protocol, a.number) < std::tie(b.protocol, b.number);
  }
};

std::vector<Port> PortsOf(const std::vector<std::string>& exposed) {
  std::vector<Port> ports;
  for (const absl::string_view text : exposed) {
    const size_t slash = text.find('/');
    Port port;
    if (!absl::SimpleAtoi(text.substr(0, slash), &port.number)) continue;
    port.protocol = absl::AsciiStrToUpper(
        slash == absl::string_view::npos ? absl::string_view("tcp") : text.substr(slash + 1));
    ports.push_back(std::move(port));
  }
  std::sort(ports.begin(), ports.end());
  return ports;
}

bool Follows(const Port& before, const Port& port) {
  return before.protocol == port.protocol && before.number + 1 == port.number;
}

}  // namespace

std::string LinkAlias(absl::string_view link) {
  const absl::string_view alias = link.substr(link.rfind(':') + 1);
  return std::string(alias.substr(alias.rfind('/') + 1));
}

std::vector<std::pair<std::string, std::string>> LinkEnvironment(const std::string& name,
                                                                 const LinkedContainer& linked) {
  const std::string prefix = absl::StrReplaceAll(absl::AsciiStrToUpper(linked.alias), {{"-", "_"}});
  const std::vector<Port> ports = PortsOf(linked.exposed_ports);
  std::vector<std::pair<std::string, std::string>> out;
  const auto url = [&linked](const Port& port) {
    return absl::StrCat(absl::AsciiStrToLower(port.protocol), "://", linked.address, ":",
                        port.number);
  };
  // The first port stands for the container; TCP comes before UDP.
  if (!ports.empty()) out.emplace_back(prefix + "_PORT", url(ports.front()));
  const auto add = [&](const Port& port, const std::string& stem) {
    out.emplace_back(stem, url(port));
    out.emplace_back(stem + "_ADDR", linked.address);
    out.emplace_back(stem + "_PORT", absl::StrCat(port.number));
    out.emplace_back(stem + "_PROTO", absl::AsciiStrToLower(port.protocol));
  };
  for (size_t i = 0; i < ports.size();) {
    size_t end = i + 1;
    while (end < ports.size() && Follows(ports[end - 1], ports[end])) ++end;
    const auto stem = [&prefix](const Port& port) {
      return absl::StrCat(prefix, "_PORT_", port.number, "_", port.protocol);
    };
    if (end - i > 1) {
      const std::string first = stem(ports[i]);
      out.emplace_back(first + "_START", url(ports[i]));
      out.emplace_back(first + "_PORT_START", absl::StrCat(ports[i].number));
      out.emplace_back(first + "_END", url(ports[end - 1]));
      out.emplace_back(first + "_PORT_END", absl::StrCat(ports[end - 1].number));
    }
    for (; i < end; ++i) add(ports[i], stem(ports[i]));
  }
  out.emplace_back(prefix + "_NAME", absl::StrCat("/", name, "/", linked.alias));
  for (const absl::string_view entry : linked.env) {
    const size_t equals = entry.find('=');
    const absl::string_view variable = entry.substr(0, equals);
    // Those say nothing about the service.
    if (equals == absl::string_view::npos || variable == "HOME" || variable == "PATH") continue;
    out.emplace_back(absl::StrCat(prefix, "_ENV_", variable), entry.substr(equals + 1));
  }
  return out;
}

}  // namespace gantry::core
