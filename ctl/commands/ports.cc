#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/filters.h"
#include "ctl/listing.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry::ctl {
namespace {

std::string ReachableFrom(const std::string& address) {
  if (address == "0.0.0.0" || address == "::") return "every host";
  if (absl::StartsWith(address, "127.") || address == "::1") return "this host";
  return absl::StrCat("hosts with a way to ", address);
}

struct Row {
  v1::PublishedPort port;
  std::string container;
  std::string to;
  std::string by;
};

// The published ports of a container. The shim carries what the kernel cannot: an IPv6 address of
// the host for a container without one, and [::1].
void AddRows(const v1::ContainerDetails& container, std::vector<Row>& rows) {
  std::string ipv4;
  std::string ipv6;
  for (const v1::NetworkEndpoint& endpoint : container.endpoints()) {
    if (ipv4.empty()) ipv4 = endpoint.ip_address();
    if (ipv6.empty()) ipv6 = endpoint.global_ipv6_address();
  }
  for (const v1::PublishedPort& port : container.summary().ports()) {
    if (port.public_port() == 0) continue;
    const bool at_ipv6 = absl::StrContains(port.ip(), ":");
    Row row;
    row.port = port;
    row.container = container.summary().name();
    row.by = at_ipv6 && (ipv6.empty() || port.ip() == "::1") ? "shim" : "nftables";
    row.to = at_ipv6 && !ipv6.empty() ? absl::StrCat("[", ipv6, "]") : ipv4;
    absl::StrAppend(&row.to, ":", port.private_port());
    rows.push_back(std::move(row));
  }
}

class PortsAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&format_, "format", 0, "template", "table, json, or a Go template");
    filters_.AddFlags(flags);
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    v1::ListContainersRequest request;
    GANTRY_RETURN_IF_ERROR(filters_.Fill(request.mutable_filters()));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::ListContainersResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    std::vector<Row> found;
    for (const v1::ContainerSummary& container : response.containers()) {
      if (container.ports().empty()) continue;
      v1::InspectContainerRequest inspect;
      inspect.set_container(container.id());
      v1::InspectContainerResponse details;
      const absl::Status seen = client->Call(inspect, &details);
      if (absl::IsNotFound(seen)) continue;  // removed meanwhile
      GANTRY_RETURN_IF_ERROR(seen);
      AddRows(details.container(), found);
    }
    std::sort(found.begin(), found.end(), [](const Row& a, const Row& b) {
      return std::tuple(a.port.public_port(), a.port.protocol(), a.port.ip(), a.container) <
             std::tuple(b.port.public_port(), b.port.protocol(), b.port.ip(), b.container);
    });
    std::vector<Value> rows;
    for (const Row& one : found) {
      const bool at_ipv6 = absl::StrContains(one.port.ip(), ":");
      Value row = Value::EmptyObject();
      row.Set("By", one.by);
      row.Set("Container", one.container);
      row.Set("From", ReachableFrom(one.port.ip()));
      row.Set("Host", absl::StrCat(at_ipv6 ? "[" : "", one.port.ip(), at_ipv6 ? "]" : "", ":",
                                   one.port.public_port(), "/", one.port.protocol()));
      row.Set("To", one.to);
      rows.push_back(std::move(row));
    }
    Listing listing;
    listing.headings = {{"Host", "PUBLISHED"},
                        {"To", "LEADS TO"},
                        {"Container", "CONTAINER"},
                        {"From", "REACHABLE FROM"},
                        {"By", "BY"}};
    listing.default_table = "{{.Host}}\t{{.To}}\t{{.Container}}\t{{.From}}\t{{.By}}";
    listing.quiet_field = "Host";
    GANTRY_ASSIGN_OR_RETURN(const std::string text, Render(listing, rows, format_, false));
    context.Out(text);
    return 0;
  }

 private:
  std::string format_;
  FilterFlags filters_;
};

}  // namespace

Verb PortsVerb() {
  return {.name = "ports",
          .summary = "List every published port: who can reach it, and what carries it",
          .examples =
              "  ctl ports\n"
              "  ctl ports -f publish=8080\n"
              "  ctl ports -f name=web --format json\n",
          .make = [] { return std::make_unique<PortsAction>(); }};
}

}  // namespace gantry::ctl
