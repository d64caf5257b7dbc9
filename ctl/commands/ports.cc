#include <algorithm>
#include <map>
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
#include "proto/gantry/v1/networks.pb.h"

namespace gantry::ctl {
namespace {

std::string ReachableFrom(const v1::PortWay& way) {
  const std::string& address = way.address();
  if (way.opened()) return absl::StrCat("hosts with a route to ", address);
  if (address == "0.0.0.0" || address == "::") return "every host";
  if (absl::StartsWith(address, "127.") || address == "::1") return "this host";
  return absl::StrCat("hosts with a route to ", address);
}

std::string WithPort(const std::string& address, uint32_t port) {
  return absl::StrContains(address, ':') ? absl::StrCat("[", address, "]:", port)
                                         : absl::StrCat(address, ":", port);
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
    v1::ListPortsRequest ports;
    std::map<std::string, std::string> names;
    for (const v1::ContainerSummary& container : response.containers()) {
      ports.add_containers(container.id());
      names[container.id()] = container.name();
    }
    v1::ListPortsResponse found;
    GANTRY_RETURN_IF_ERROR(client->Call(ports, &found));
    std::sort(found.mutable_ways()->begin(), found.mutable_ways()->end(),
              [](const v1::PortWay& a, const v1::PortWay& b) {
                return std::tuple(a.port(), a.protocol(), a.address(), a.container()) <
                       std::tuple(b.port(), b.protocol(), b.address(), b.container());
              });
    std::vector<Value> rows;
    for (const v1::PortWay& way : found.ways()) {
      Value row = Value::EmptyObject();
      row.Set("By", way.rule().empty() ? "shim" : "nftables");
      row.Set("Container", names[way.container()]);
      row.Set("From", ReachableFrom(way));
      row.Set("Host", absl::StrCat(WithPort(way.address(), way.port()), "/", way.protocol()));
      row.Set("Rule", way.rule().empty() ? "gantry-shim listens" : way.rule());
      row.Set("To", WithPort(way.leads_to(), way.container_port()));
      rows.push_back(std::move(row));
    }
    Listing listing;
    listing.headings = {{"Host", "PUBLISHED"},      {"To", "LEADS TO"}, {"Container", "CONTAINER"},
                        {"From", "REACHABLE FROM"}, {"By", "BY"},       {"Rule", "RULE"}};
    listing.default_table = "{{.Host}}\t{{.To}}\t{{.Container}}\t{{.From}}\t{{.Rule}}";
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
          .summary = "List every published port: who can reach it, and which rule carries it",
          .examples =
              "  ctl ports\n"
              "  ctl ports -f publish=8080\n"
              "  ctl ports -f name=web --format json\n",
          .make = [] { return std::make_unique<PortsAction>(); }};
}

}  // namespace gantry::ctl
