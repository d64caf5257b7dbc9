#include "supervisor/network/firewall.h"

#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "glog/logging.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "supervisor/network/legacy_tables.h"
#include "supervisor/network/netns.h"

namespace gantry::network {
namespace {

constexpr size_t kGenerations = 1000;

// Chains of other programs that drop what is forwarded unless a rule of theirs accepts it, as "ip
// filter FORWARD", of what `nft list chains` printed.
std::vector<std::string> DroppingChains(absl::string_view listed) {
  std::vector<std::string> found;
  std::string table;
  std::string chain;
  for (const absl::string_view line : absl::StrSplit(listed, '\n')) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    if (words.size() >= 3 && words[0] == "table") {
      table = absl::StrCat(words[1], " ", words[2]);
    } else if (words.size() >= 2 && words[0] == "chain") {
      chain = std::string(words[1]);
    } else if (absl::StrContains(line, " hook forward ") &&
               absl::StrContains(line, "policy drop")) {
      found.push_back(absl::StrCat(table, " ", chain));
    }
  }
  return found;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Firewall>> Firewall::Open(absl::string_view table) {
  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<Nftables> nft, Nftables::Open());
  GANTRY_ASSIGN_OR_RETURN(RulesetGeneration generation, RulesetGeneration::Open());
  GANTRY_ASSIGN_OR_RETURN(ElementSocket elements, ElementSocket::Open());
  UniqueFd netns(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!netns.valid()) return ErrnoToStatus(errno, "cannot open the network namespace");
  return std::unique_ptr<Firewall>(new Firewall(std::move(nft), std::move(generation),
                                                std::move(elements), std::move(netns), table));
}

absl::StatusOr<std::unique_ptr<Firewall>> Firewall::OpenIn(int netns, absl::string_view table) {
  absl::StatusOr<std::unique_ptr<Firewall>> made;
  GANTRY_RETURN_IF_ERROR(InNetns(netns, [&made, table] {
    made = Open(table);
    return made.status();
  }));
  return made;
}

absl::StatusOr<RulesetEvents> Firewall::OpenEvents() {
  absl::StatusOr<RulesetEvents> events = absl::UnknownError("");
  GANTRY_RETURN_IF_ERROR(InNetns(netns_.get(), [&] {
    events = RulesetEvents::Open(table_);
    return events.status();
  }));
  return events;
}

bool Firewall::Made(uint32_t generation) {
  absl::MutexLock lock(&mu_);
  return std::find(made_.begin(), made_.end(), generation) != made_.end();
}

absl::Status Firewall::Transact(const std::function<absl::Status()>& transaction) {
  const absl::StatusOr<uint32_t> before = generation_.Get();
  GANTRY_RETURN_IF_ERROR(transaction());
  // If another program's transaction came between, it cannot be said which is whose; the guard then
  // writes the rules once too often.
  const absl::StatusOr<uint32_t> after = generation_.Get();
  if (before.ok() && after.ok() && *after == *before + 1) {
    made_.push_back(*after);
    if (made_.size() > kGenerations) made_.pop_front();
  }
  return absl::OkStatus();
}

absl::Status Firewall::Run(absl::string_view commands, absl::string_view what) {
  return Transact([&] { return RunCommands(commands, what); });
}

absl::Status Firewall::RunCommands(absl::string_view commands, absl::string_view what) {
  const Nftables::Outcome outcome = nft_->Run(absl::StrReplaceAll(commands, {{"$table", table_}}));
  if (outcome.ok) return absl::OkStatus();
  const absl::string_view error =
      absl::string_view(outcome.error).substr(0, outcome.error.find('\n'));
  const std::string said = absl::StrCat(what, ": nftables: ", error);
  // An element of a map that leads elsewhere is "busy".
  if (absl::StrContains(error, "File exists") ||
      absl::StrContains(error, "Device or resource busy"))
    return absl::AlreadyExistsError(said);
  if (absl::StrContains(error, "No such file or directory")) return absl::NotFoundError(said);
  if (absl::StrContains(error, "not supported")) return absl::UnimplementedError(said);
  if (absl::StrContains(error, "Operation not permitted")) return absl::PermissionDeniedError(said);
  return absl::InternalError(said);
}

std::string Firewall::Everything() const {
  std::string text = FixedRules(bridge_family_);
  std::string elements;
  for (const auto& [bridge, network] : networks_) {
    absl::StrAppend(&text, Chains(network));
    absl::StrAppend(&elements, Jumps("add", network));
  }
  absl::StrAppend(&text, "}\n", elements);
  for (const auto& [place, port] : ports_)
    absl::StrAppend(&text, ElementOf(port).Command("add", table_));
  for (const auto& [device, port] : bridge_ports_) {
    for (const SetElement& element : PortElements(port))
      absl::StrAppend(&text, element.Command("add", table_));
  }
  for (const auto& [devices, link] : links_) {
    for (const SetElement& element : ElementsOf(link, bridge_family_))
      absl::StrAppend(&text, element.Command("add", table_));
  }
  return text;
}

absl::Status Firewall::WriteEverything() {
  constexpr char kWhat[] = "writing the rules of all networks";
  absl::Status written = Run(Everything(), kWhat);
  if (!absl::IsUnimplemented(written) || !bridge_family_) return written;
  bridge_family_ = false;
  written = Run(Everything(), kWhat);
  LOG_IF(WARNING, written.ok())
      << "this kernel has no nftables rules for bridges (CONFIG_NF_TABLES_BRIDGE): containers can "
         "send with addresses that are not theirs, and enable_icc=false separates them only where "
         "net.bridge.bridge-nf-call-iptables is 1";
  return written;
}

absl::Status Firewall::Add(absl::string_view commands, absl::string_view what) {
  absl::Status added = Run(commands, what);
  return absl::IsNotFound(added) ? WriteEverything() : added;
}

std::vector<SetElement> Firewall::PortElements(const BridgePort& port) const {
  return bridge_family_ ? ElementsOf(port) : std::vector<SetElement>();
}

absl::Status Firewall::AddElements(const std::vector<SetElement>& elements) {
  if (elements.empty()) return absl::OkStatus();
  const absl::Status added = Transact(
      [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return elements_.Add(table_, elements); });
  return absl::IsNotFound(added) ? WriteEverything() : added;
}

absl::Status Firewall::DeleteElements(const std::vector<SetElement>& elements) {
  if (elements.empty()) return absl::OkStatus();
  const absl::Status removed = Transact(
      [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return elements_.Delete(table_, elements); });
  // A part of it may be in the kernel yet.
  return absl::IsNotFound(removed) ? WriteEverything() : removed;
}

absl::StatusOr<std::vector<std::string>> Firewall::ForwardDrops() {
  std::vector<std::string> dropping;
  for (const std::string& chain : DroppingChains(nft_->Run("list chains").output))
    dropping.push_back(absl::StrCat("nftables chain ", chain));
  GANTRY_RETURN_IF_ERROR(InNetns(netns_.get(), [&dropping] {
    for (const std::string& program : LegacyProgramsThatDrop())
      dropping.push_back(absl::StrCat("chain FORWARD of ", program));
    return absl::OkStatus();
  }));
  return dropping;
}

absl::Status Firewall::Replace(const std::vector<FirewallNetwork>& networks,
                               const std::vector<PublishedPort>& ports,
                               const std::vector<BridgePort>& bridge_ports,
                               const std::vector<BridgeLink>& links) {
  for (const FirewallNetwork& network : networks) GANTRY_RETURN_IF_ERROR(CheckNetwork(network));
  for (const BridgePort& port : bridge_ports) GANTRY_RETURN_IF_ERROR(CheckDevice(port.device));
  for (const BridgeLink& link : links) GANTRY_RETURN_IF_ERROR(CheckLink(link));
  GANTRY_RETURN_IF_ERROR(CheckPorts(ports));
  absl::MutexLock lock(&mu_);
  // Host rules that drop are respected: a packet passes only when every program lets it.
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> dropping, ForwardDrops());
  static std::atomic<bool> said{false};
  if (!dropping.empty() && !said.exchange(true)) {
    LOG(WARNING) << absl::StrJoin(dropping, " and ")
                 << " drops what this host forwards: containers on networks reach out, and other "
                    "hosts reach their published ports, only as far as its rules accept it. To let "
                    "them, accept there what is established or related, what was translated (nft: "
                    "ct status dnat; iptables: --ctstate DNAT), and what comes from the networks' "
                    "bridges";
  }
  networks_.clear();
  ports_.clear();
  bridge_ports_.clear();
  links_.clear();
  for (const BridgePort& port : bridge_ports) bridge_ports_[port.device] = port;
  for (const BridgeLink& link : links) links_[{link.from.device, link.to.device}] = link;
  for (const FirewallNetwork& network : networks) networks_[network.bridge] = network;
  for (const PublishedPort& port : ports) ports_.emplace(ElementOf(port).Place(), port);
  return WriteEverything();
}

absl::Status Firewall::Restore() {
  absl::MutexLock lock(&mu_);
  return WriteEverything();
}

absl::Status Firewall::AddNetwork(const FirewallNetwork& network) {
  GANTRY_RETURN_IF_ERROR(CheckNetwork(network));
  absl::MutexLock lock(&mu_);
  if (!networks_.emplace(network.bridge, network).second) {
    return absl::AlreadyExistsError(
        absl::StrCat("bridge ", network.bridge, " has the rules of a network already"));
  }
  const absl::Status added =
      Add(absl::StrCat("table inet $table {\n", Chains(network), "}\n", Jumps("create", network)),
          absl::StrCat("writing the rules of bridge ", network.bridge));
  if (!added.ok()) networks_.erase(network.bridge);
  return added;
}

absl::Status Firewall::RemoveNetwork(const FirewallNetwork& network) {
  GANTRY_RETURN_IF_ERROR(CheckDevice(network.bridge));
  absl::MutexLock lock(&mu_);
  const auto found = networks_.find(network.bridge);
  if (found == networks_.end())
    return absl::NotFoundError(absl::StrCat("bridge ", network.bridge, " has no rules"));
  std::string text = Jumps("delete", found->second);
  networks_.erase(found);
  for (const char* chain : {"home", "to", "from", "leaving", "entering"}) {
    absl::StrAppend(&text, "flush chain inet $table ", chain, "-", network.bridge,
                    "\ndelete chain inet $table ", chain, "-", network.bridge, "\n");
  }
  const absl::Status removed =
      Run(text, absl::StrCat("removing the rules of bridge ", network.bridge));
  // A part of it may be in the kernel yet.
  return absl::IsNotFound(removed) ? WriteEverything() : removed;
}

absl::Status Firewall::Note(const std::vector<PublishedPort>& ports,
                            std::vector<std::string>& places, std::vector<SetElement>& elements) {
  for (const PublishedPort& port : ports) {
    std::string place = ElementOf(port).Place();
    if (!ports_.emplace(place, port).second) {
      return absl::AlreadyExistsError(
          absl::StrCat("port ", port.host_port, "/", ProtocolName(port.protocol), " of ",
                       port.host.has_value() ? port.host->ToString() : "every address",
                       " is published already"));
    }
    places.push_back(std::move(place));
    elements.push_back(ElementOf(port));
  }
  return absl::OkStatus();
}

absl::Status Firewall::Publish(const std::vector<PublishedPort>& ports) {
  GANTRY_RETURN_IF_ERROR(CheckPorts(ports));
  if (ports.empty()) return absl::OkStatus();
  absl::MutexLock lock(&mu_);
  std::vector<SetElement> elements;
  std::vector<std::string> places;
  absl::Status added = Note(ports, places, elements);
  if (added.ok()) added = AddElements(elements);
  if (!added.ok()) {
    for (const std::string& place : places) ports_.erase(place);
  }
  return added;
}

absl::Status Firewall::Join(const BridgePort& port, const std::vector<PublishedPort>& published,
                            const std::vector<BridgeLink>& links) {
  GANTRY_RETURN_IF_ERROR(CheckDevice(port.device));
  for (const BridgeLink& link : links) GANTRY_RETURN_IF_ERROR(CheckLink(link));
  GANTRY_RETURN_IF_ERROR(CheckPorts(published));
  absl::MutexLock lock(&mu_);
  if (!bridge_ports_.emplace(port.device, port).second)
    return absl::AlreadyExistsError(absl::StrCat("device ", port.device, " has rules already"));
  std::vector<SetElement> elements = PortElements(port);
  std::vector<std::string> places;
  absl::Status added = Note(published, places, elements);
  std::vector<std::pair<std::string, std::string>> linked;
  for (const BridgeLink& link : links) {
    const auto devices = std::make_pair(link.from.device, link.to.device);
    if (!links_.emplace(devices, link).second) continue;
    linked.push_back(devices);
    for (SetElement& element : ElementsOf(link, bridge_family_))
      elements.push_back(std::move(element));
  }
  if (added.ok()) added = AddElements(elements);
  if (!added.ok()) {
    for (const std::string& place : places) ports_.erase(place);
    for (const auto& devices : linked) links_.erase(devices);
    bridge_ports_.erase(port.device);
  }
  return added;
}

absl::Status Firewall::Leave(absl::string_view device,
                             const std::vector<PublishedPort>& published) {
  GANTRY_RETURN_IF_ERROR(CheckPorts(published));
  absl::MutexLock lock(&mu_);
  std::vector<SetElement> elements;
  for (const PublishedPort& port : published) {
    const auto found = ports_.find(ElementOf(port).Place());
    // Another container may have it by now.
    if (found == ports_.end() || found->second.container != port.container ||
        found->second.container_port != port.container_port)
      continue;
    elements.push_back(ElementOf(port));
    ports_.erase(found);
  }
  if (const auto found = bridge_ports_.find(std::string(device)); found != bridge_ports_.end()) {
    for (SetElement& element : PortElements(found->second)) elements.push_back(std::move(element));
    bridge_ports_.erase(found);
  }
  // Two containers that are linked to each other share some elements.
  std::map<std::string, SetElement> of_links;
  for (auto it = links_.begin(); it != links_.end();) {
    if (it->first.first != device && it->first.second != device) {
      ++it;
      continue;
    }
    for (SetElement& element : ElementsOf(it->second, bridge_family_)) {
      std::string place = element.Place();
      of_links.emplace(std::move(place), std::move(element));
    }
    it = links_.erase(it);
  }
  for (auto& [place, element] : of_links) elements.push_back(std::move(element));
  return DeleteElements(elements);
}

absl::Status Firewall::Unpublish(const std::vector<PublishedPort>& ports) {
  GANTRY_RETURN_IF_ERROR(CheckPorts(ports));
  absl::MutexLock lock(&mu_);
  std::vector<SetElement> elements;
  bool missing = false;
  for (const PublishedPort& port : ports) {
    if (ports_.erase(ElementOf(port).Place()) == 0) {
      missing = true;
    } else {
      elements.push_back(ElementOf(port));
    }
  }
  GANTRY_RETURN_IF_ERROR(DeleteElements(elements));
  return missing ? absl::NotFoundError("removing published ports: some were not published")
                 : absl::OkStatus();
}

absl::StatusOr<bool> Firewall::Stands() {
  absl::MutexLock lock(&mu_);
  std::vector<absl::string_view> chains = {"inet $table forward"};
  if (bridge_family_) chains.push_back("bridge $table sources");
  for (const absl::string_view chain : chains) {
    const absl::Status listed = Run(absl::StrCat("list chain ", chain), "looking for our rules");
    if (absl::IsNotFound(listed)) return false;
    GANTRY_RETURN_IF_ERROR(listed);
  }
  return true;
}

absl::Status Firewall::Remove() {
  absl::MutexLock lock(&mu_);
  networks_.clear();
  ports_.clear();
  bridge_ports_.clear();
  links_.clear();
  return Run(
      absl::StrCat("add table inet $table\ndelete table inet $table\n",
                   bridge_family_ ? "add table bridge $table\ndelete table bridge $table" : ""),
      "removing the rules of all networks");
}

}  // namespace gantry::network
