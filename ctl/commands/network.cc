#include <arpa/inet.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "base/engine/absent_fields.h"
#include "base/engine/network_json.h"
#include "base/engine/value_syntax.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/prune.h"
#include "ctl/filters.h"
#include "ctl/listing.h"
#include "proto/gantry/v1/networks.pb.h"

namespace gantry::ctl {
namespace {

// Whether an address, or the subnet ADDRESS/LENGTH, begins with the bits of `subnet`.
bool SubnetHolds(const std::string& subnet, const std::string& address) {
  const auto parse = [](absl::string_view text, std::array<unsigned char, 16>& bytes) {
    const std::string alone(text.substr(0, text.find('/')));
    bytes = {};
    if (inet_pton(AF_INET, alone.c_str(), bytes.data()) == 1) return 32;
    return inet_pton(AF_INET6, alone.c_str(), bytes.data()) == 1 ? 128 : 0;
  };
  std::array<unsigned char, 16> a, b;
  const size_t slash = subnet.find('/');
  int length = 0;
  const int family = parse(subnet, a);
  if (slash == std::string::npos || !absl::SimpleAtoi(subnet.substr(slash + 1), &length) ||
      family == 0 || parse(address, b) != family || length < 0 || length > family)
    return false;
  for (int bit = 0; bit < length; ++bit) {
    const int mask = 0x80 >> (bit % 8);
    if (((a[bit / 8] ^ b[bit / 8]) & mask) != 0) return false;
  }
  return true;
}

class ListNetworksAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&quiet_, "quiet", 'q', "Print ids only");
    flags.Bool(&no_trunc_, "no-trunc", 0, "Do not shorten");
    flags.String(&format_, "format", 0, "template", "table, json, or a Go template");
    filters_.AddFlags(flags);
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    v1::ListNetworksRequest request;
    GANTRY_RETURN_IF_ERROR(filters_.Fill(request.mutable_filters()));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::ListNetworksResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    std::vector<Value> rows;
    for (const v1::Network& network : response.networks())
      rows.push_back(engine::NetworkRow(network, !no_trunc_));
    Listing listing;
    listing.headings = {{"ID", "NETWORK ID"},    {"Name", "NAME"},
                        {"Driver", "DRIVER"},    {"Scope", "SCOPE"},
                        {"IPv4", "IPV4"},        {"IPv6", "IPV6"},
                        {"Labels", "LABELS"},    {"CreatedAt", "CREATED AT"},
                        {"Internal", "INTERNAL"}};
    listing.default_table = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
    listing.quiet_field = "ID";
    listing.raw = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n";
    GANTRY_ASSIGN_OR_RETURN(const std::string text, Render(listing, rows, format_, quiet_));
    context.Out(text);
    return 0;
  }

 private:
  bool quiet_ = false;
  bool no_trunc_ = false;
  std::string format_;
  FilterFlags filters_;
};

class CreateNetworkAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&driver_, "driver", 'd', "name", "Kind of network (default bridge)");
    flags.Strings(&subnets_, "subnet", 0, "cidr", "Its addresses, for example 10.1.0.0/16");
    flags.Strings(&gateways_, "gateway", 0, "ip", "Address of the host in it");
    flags.Strings(&ranges_, "ip-range", 0, "cidr", "Give containers addresses from here");
    flags.Strings(&auxiliary_, "aux-address", 0, "name=ip", "An address not to give out");
    flags.Strings(&options_, "opt", 'o', "key=value", "Option of the driver");
    flags.Strings(&labels_, "label", 0, "key=value", "Set a label");
    flags.Bool(&internal_, "internal", 0, "Without a way to other networks");
    flags.Bool(&ipv4_, "ipv4", 0, "With IPv4 addresses (default true)");
    flags.Bool(&ipv6_, "ipv6", 0, "With IPv6 addresses");
    flags.Bool(&attachable_, "attachable", 0, "Recorded only");
    flags.Bool(&config_only_, "config-only", 0, "Only holds settings for other networks");
    flags.String(&config_from_, "config-from", 0, "network", "Take the settings of this network");
    flags.String(&scope_, "scope", 0, "local", "Accepted: networks are of this machine");
    flags.String(&ipam_driver_, "ipam-driver", 0, "default", "Accepted: there is one");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    v1::CreateNetworkRequest request;
    request.set_name(args[0]);
    request.set_driver(driver_);
    request.set_internal(internal_);
    request.set_ipv6(ipv6_);
    request.set_no_ipv4(!ipv4_);
    request.set_configuration_only(config_only_);
    request.set_configuration_from(config_from_);
    if (!scope_.empty() && scope_ != "local") {
      return absl::InvalidArgumentError(
          absl::StrCat("--scope: \"", scope_, "\": networks of this engine are \"local\""));
    }
    if (!ipam_driver_.empty() && ipam_driver_ != "default") {
      return absl::InvalidArgumentError(
          absl::StrCat("--ipam-driver: \"", ipam_driver_, "\" is not there; use \"default\""));
    }
    request.set_attachable(attachable_);
    for (const std::string& text : options_) {
      auto [key, value] = engine::SplitAssignment(text);
      (*request.mutable_options())[key] = value;
    }
    for (const std::string& text : labels_) {
      auto [key, value] = engine::SplitAssignment(text);
      (*request.mutable_labels())[key] = value;
    }
    if (subnets_.empty() && (!gateways_.empty() || !ranges_.empty() || !auxiliary_.empty())) {
      return absl::InvalidArgumentError(
          "--gateway, --ip-range and --aux-address need the --subnet that they are in");
    }
    for (const std::string& subnet : subnets_) request.add_pools()->set_subnet(subnet);
    // With several subnets each belongs to the one that holds it, or else to one of its family: the
    // daemon says what is wrong with it.
    const auto pool_for = [&request](const std::string& address) {
      v1::IpamPool* of_family = nullptr;
      for (v1::IpamPool& pool : *request.mutable_pools()) {
        if (SubnetHolds(pool.subnet(), address)) return &pool;
        if ((pool.subnet().find(':') == std::string::npos) ==
                (address.find(':') == std::string::npos) &&
            of_family == nullptr)
          of_family = &pool;
      }
      return of_family != nullptr ? of_family : request.mutable_pools(0);
    };
    for (const std::string& gateway : gateways_) pool_for(gateway)->set_gateway(gateway);
    for (const std::string& range : ranges_) pool_for(range)->set_ip_range(range);
    for (const std::string& text : auxiliary_) {
      auto [name, address] = engine::SplitAssignment(text);
      (*pool_for(address)->mutable_auxiliary_addresses())[name] = address;
    }
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::CreateNetworkResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    context.Out(absl::StrCat(response.id(), "\n"));
    return 0;
  }

 private:
  std::string driver_;
  std::vector<std::string> subnets_, gateways_, ranges_, auxiliary_, options_, labels_;
  bool internal_ = false;
  bool ipv6_ = false;
  bool attachable_ = false;
  bool ipv4_ = true;
  bool config_only_ = false;
  std::string config_from_, scope_, ipam_driver_;
};

class ConnectAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Strings(&aliases_, "alias", 0, "name", "Further name of the container in the network");
    flags.Strings(&options_, "driver-opt", 0, "key=value", "Option of the driver");
    flags.String(&priority_, "gw-priority", 0, "number",
                 "The network with the highest has the default route");
    flags.String(&ip_, "ip", 0, "address", "IPv4 address (default: a free one)");
    flags.String(&ip6_, "ip6", 0, "address", "IPv6 address (default: a free one)");
    flags.Strings(&links_, "link", 0, "container:alias",
                  "Name by which it alone finds another container of the network");
    flags.Strings(&link_local_, "link-local-ip", 0, "address",
                  "Further address, in 169.254/16 or fe80::/10");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    v1::ConnectNetworkRequest request;
    request.set_container(args[1]);
    v1::NetworkAttachment& attachment = *request.mutable_attachment();
    attachment.set_network(args[0]);
    for (const std::string& alias : aliases_) attachment.add_aliases(alias);
    for (const std::string& text : options_) {
      auto [key, value] = engine::SplitAssignment(text);
      (*attachment.mutable_driver_options())[key] = value;
    }
    int32_t priority = 0;
    if (!priority_.empty() && !absl::SimpleAtoi(priority_, &priority)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--gw-priority: \"", priority_, "\" is not a number"));
    }
    attachment.set_gateway_priority(priority);
    attachment.set_ipv4_address(ip_);
    attachment.set_ipv6_address(ip6_);
    for (const std::string& link : links_) attachment.add_links(link);
    for (const std::string& address : link_local_) attachment.add_link_local_addresses(address);
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::ConnectNetworkResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    return 0;
  }

 private:
  std::vector<std::string> aliases_, options_, links_, link_local_;
  std::string priority_, ip_, ip6_;
};

class DisconnectAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&force_, "force", 'f', "Also what is left of a container that is gone");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    v1::DisconnectNetworkRequest request;
    request.set_network(args[0]);
    request.set_container(args[1]);
    request.set_force(force_);
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::DisconnectNetworkResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    return 0;
  }

 private:
  bool force_ = false;
};

class InspectNetworkAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&format_, "format", 'f', "template", "json, or a Go template");
    flags.Bool(&verbose_, "verbose", 'v', "Accepted; there is nothing more to show");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    Value list = Value::EmptyList();
    int exit_status = 0;
    for (const std::string& name : args) {
      v1::InspectNetworkRequest request;
      request.set_network(name);
      v1::InspectNetworkResponse response;
      absl::Status status = CheckName("network", name);
      if (status.ok()) status = client->Call(request, &response);
      if (status.ok()) {
        list.Append(engine::NetworkDocument(response.network()));
      } else {
        exit_status = 1;
        context.Complain(status);
      }
    }
    if (format_.empty() || format_ == "json") {
      context.Out(absl::StrCat(format_.empty() ? list.ToPrettyJson(4) : list.ToJson(), "\n"));
      return exit_status;
    }
    for (const Value& one : list.list()) {
      GANTRY_ASSIGN_OR_RETURN(const std::string text, RenderOne(one, format_, [](const auto& path) {
                                return engine::AbsentField(engine::Document::kNetwork, path);
                              }));
      context.Out(text);
    }
    return exit_status;
  }

 private:
  std::string format_;
  bool verbose_ = false;
};

class RemoveNetworkAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&force_, "force", 'f', "Do not complain of a network that does not exist");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    return ForEach(context, args, [&](const std::string& name) -> absl::StatusOr<std::string> {
      GANTRY_RETURN_IF_ERROR(CheckName("network", name));
      v1::RemoveNetworkRequest request;
      request.set_network(name);
      v1::RemoveNetworkResponse response;
      const absl::Status status = client->Call(request, &response);
      if (force_ && absl::IsNotFound(status)) return std::string();
      GANTRY_RETURN_IF_ERROR(status);
      return name;
    });
  }

 private:
  bool force_ = false;
};

class PruneNetworksAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&force_, "force", 'f', "Do not ask");
    filters_.AddFlag(flags, 0);
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    if (!force_) {
      GANTRY_ASSIGN_OR_RETURN(
          const bool agreed,
          Agreed(context,
                 "This will remove all custom networks not used by at least one container."));
      if (!agreed) return 0;
    }
    GANTRY_RETURN_IF_ERROR(PruneNetworks(context, filters_));
    return 0;
  }

 private:
  bool force_ = false;
  FilterFlags filters_;
};

}  // namespace

absl::Status PruneNetworks(Context& context, const FilterFlags& filters) {
  v1::PruneNetworksRequest request;
  GANTRY_RETURN_IF_ERROR(filters.Fill(request.mutable_filters()));
  GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::PruneNetworksResponse response;
  GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
  if (response.names().empty()) return absl::OkStatus();
  std::string out = "Deleted Networks:\n";
  for (const std::string& name : response.names()) absl::StrAppend(&out, name, "\n");
  context.Out(absl::StrCat(out, "\n"));
  return absl::OkStatus();
}

std::vector<Verb> NetworkVerbs() {
  return {{.name = "ls",
           .aliases = {"list"},
           .arguments = "[OPTIONS]",
           .summary = "List networks",
           .examples = "  ctl network ls --filter type=custom\n",
           .max_args = 0,
           .make = [] { return std::make_unique<ListNetworksAction>(); }},
          {.name = "create",
           .arguments = "[OPTIONS] NETWORK",
           .summary = "Make a network",
           .examples = "  ctl network create web\n"
                       "  ctl network create --subnet 10.1.0.0/16 --gateway 10.1.0.1 db\n"
                       "  ctl network create --internal back\n"
                       "  ctl network create -d macvlan -o parent=eth0 --subnet 192.168.1.0/24 "
                       "--gateway 192.168.1.1 lan\n",
           .min_args = 1,
           .max_args = 1,
           .make = [] { return std::make_unique<CreateNetworkAction>(); }},
          {.name = "connect",
           .arguments = "[OPTIONS] NETWORK CONTAINER",
           .summary = "Connect a container to a network, at once if it runs",
           .examples = "  ctl network connect db web1\n"
                       "  ctl network connect --alias cache --ip 10.1.0.9 db web1\n",
           .min_args = 2,
           .max_args = 2,
           .completes = "network-and-container",
           .make = [] { return std::make_unique<ConnectAction>(); }},
          {.name = "disconnect",
           .arguments = "[OPTIONS] NETWORK CONTAINER",
           .summary = "Take a container off a network",
           .examples = "  ctl network disconnect db web1\n",
           .min_args = 2,
           .max_args = 2,
           .completes = "network-and-container",
           .make = [] { return std::make_unique<DisconnectAction>(); }},
          {.name = "inspect",
           .arguments = "[OPTIONS] NETWORK [NETWORK...]",
           .summary = "Show everything about networks",
           .examples = "  ctl network inspect -f '{{range .IPAM.Config}}{{.Subnet}}{{end}}' web\n",
           .min_args = 1,
           .completes = "networks",
           .make = [] { return std::make_unique<InspectNetworkAction>(); }},
          {.name = "rm",
           .aliases = {"remove"},
           .arguments = "[OPTIONS] NETWORK [NETWORK...]",
           .summary = "Remove networks without containers",
           .examples = "  ctl network rm web db\n",
           .min_args = 1,
           .completes = "networks",
           .make = [] { return std::make_unique<RemoveNetworkAction>(); }},
          {.name = "prune",
           .arguments = "[OPTIONS]",
           .summary = "Remove every network without containers",
           .examples = "  ctl network prune -f\n",
           .max_args = 0,
           .make = [] { return std::make_unique<PruneNetworksAction>(); }}};
}

}  // namespace gantry::ctl
