#include "shim/dns_port_rules.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "base/errno_status.h"
#include "base/unique_fd.h"

namespace gantry::shim {
namespace {

constexpr char kTable[] = "gantry-names";
constexpr char kOut[] = "out";
constexpr char kIn[] = "in";
// Before connection tracking, which is at -200.
constexpr int kBeforeTracking = -300;
constexpr uint16_t kDnsPort = 53;

// Of the IP header, and of the headers of TCP and UDP.
constexpr uint32_t kSourceAddress = 12;
constexpr uint32_t kDestinationAddress = 16;
constexpr uint32_t kSourcePort = 0;
constexpr uint32_t kDestinationPort = 2;
constexpr uint32_t kTcpChecksum = 16;
constexpr uint32_t kUdpChecksum = 6;

// Netlink messages behind each other, put together from the front.
class Batch {
 public:
  void Begin(uint16_t type, uint16_t flags, uint8_t family, uint16_t resource = 0) {
    End();
    message_ = bytes_.size();
    nlmsghdr header = {};
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
    header.nlmsg_seq = ++sequence_;
    Append(&header, sizeof header);
    nfgenmsg generic = {};
    generic.nfgen_family = family;
    generic.version = NFNETLINK_V0;
    generic.res_id = htons(resource);
    Append(&generic, sizeof generic);
  }
  void Table(uint16_t type, uint16_t flags) {
    Begin(static_cast<uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | type), flags, NFPROTO_IPV4);
  }
  // The length of the message that was begun last.
  void End() {
    if (sequence_ == 0) return;
    const auto size = static_cast<uint32_t>(bytes_.size() - message_);
    std::memcpy(&bytes_[message_], &size, sizeof size);
  }

  size_t OpenNest(uint16_t type) {
    const size_t at = bytes_.size();
    const nlattr attribute = {0, static_cast<uint16_t>(type | NLA_F_NESTED)};
    Append(&attribute, sizeof attribute);
    return at;
  }
  void CloseNest(size_t at) {
    const auto size = static_cast<uint16_t>(bytes_.size() - at);
    std::memcpy(&bytes_[at], &size, sizeof size);
  }
  void Put(uint16_t type, const void* data, size_t size) {
    const nlattr attribute = {static_cast<uint16_t>(NLA_HDRLEN + size), type};
    Append(&attribute, sizeof attribute);
    Append(data, size);
  }
  // With the NUL at its end.
  void PutText(uint16_t type, const char* text) { Put(type, text, std::strlen(text) + 1); }
  void PutNumber(uint16_t type, uint32_t value) {
    value = htonl(value);
    Put(type, &value, sizeof value);
  }

  const std::string& bytes() const { return bytes_; }
  uint32_t sequence() const { return sequence_; }

 private:
  void Append(const void* data, size_t size) {
    bytes_.append(static_cast<const char*>(data), size);
    bytes_.append(NLMSG_ALIGN(size) - size, '\0');
  }

  std::string bytes_;
  size_t message_ = 0;
  uint32_t sequence_ = 0;
};

// The expressions of one rule. All values pass through the first register.
class Rule {
 public:
  Rule(Batch& batch, const char* chain, uint16_t more_flags) : batch_(batch) {
    batch_.Table(NFT_MSG_NEWRULE, static_cast<uint16_t>(NLM_F_CREATE | NLM_F_APPEND | more_flags));
    batch_.PutText(NFTA_RULE_TABLE, kTable);
    batch_.PutText(NFTA_RULE_CHAIN, chain);
    list_ = batch_.OpenNest(NFTA_RULE_EXPRESSIONS);
  }
  ~Rule() { batch_.CloseNest(list_); }
  Rule(const Rule&) = delete;
  Rule& operator=(const Rule&) = delete;

  // Goes on only if `size` bytes at `offset` of the header are these.
  void Match(uint32_t header, uint32_t offset, const void* bytes, size_t size) {
    Expression("payload", [&] {
      batch_.PutNumber(NFTA_PAYLOAD_DREG, NFT_REG_1);
      batch_.PutNumber(NFTA_PAYLOAD_BASE, header);
      batch_.PutNumber(NFTA_PAYLOAD_OFFSET, offset);
      batch_.PutNumber(NFTA_PAYLOAD_LEN, static_cast<uint32_t>(size));
    });
    Compare(bytes, size);
  }
  void MatchProtocol(uint8_t protocol) {
    Expression("meta", [&] {
      batch_.PutNumber(NFTA_META_DREG, NFT_REG_1);
      batch_.PutNumber(NFTA_META_KEY, NFT_META_L4PROTO);
    });
    Compare(&protocol, sizeof protocol);
  }
  void WritePort(uint32_t offset, uint16_t port, uint32_t checksum_offset) {
    port = htons(port);
    Expression("immediate", [&] {
      batch_.PutNumber(NFTA_IMMEDIATE_DREG, NFT_REG_1);
      Value(NFTA_IMMEDIATE_DATA, &port, sizeof port);
    });
    Expression("payload", [&] {
      batch_.PutNumber(NFTA_PAYLOAD_SREG, NFT_REG_1);
      batch_.PutNumber(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_TRANSPORT_HEADER);
      batch_.PutNumber(NFTA_PAYLOAD_OFFSET, offset);
      batch_.PutNumber(NFTA_PAYLOAD_LEN, sizeof port);
      batch_.PutNumber(NFTA_PAYLOAD_CSUM_TYPE, NFT_PAYLOAD_CSUM_INET);
      batch_.PutNumber(NFTA_PAYLOAD_CSUM_OFFSET, checksum_offset);
    });
  }

 private:
  template <typename Fill>
  void Expression(const char* name, Fill fill) {
    const size_t element = batch_.OpenNest(NFTA_LIST_ELEM);
    batch_.PutText(NFTA_EXPR_NAME, name);
    const size_t data = batch_.OpenNest(NFTA_EXPR_DATA);
    fill();
    batch_.CloseNest(data);
    batch_.CloseNest(element);
  }
  void Value(uint16_t type, const void* bytes, size_t size) {
    const size_t data = batch_.OpenNest(type);
    batch_.Put(NFTA_DATA_VALUE, bytes, size);
    batch_.CloseNest(data);
  }
  void Compare(const void* bytes, size_t size) {
    Expression("cmp", [&] {
      batch_.PutNumber(NFTA_CMP_SREG, NFT_REG_1);
      batch_.PutNumber(NFTA_CMP_OP, NFT_CMP_EQ);
      Value(NFTA_CMP_DATA, bytes, size);
    });
  }

  Batch& batch_;
  size_t list_;
};

void PutTable(Batch& batch, uint16_t type) {
  batch.Table(type, type == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0);
  batch.PutText(NFTA_TABLE_NAME, kTable);
}

void PutChain(Batch& batch, const char* name, uint32_t hook) {
  batch.Table(NFT_MSG_NEWCHAIN, NLM_F_CREATE);
  batch.PutText(NFTA_CHAIN_TABLE, kTable);
  batch.PutText(NFTA_CHAIN_NAME, name);
  const size_t nest = batch.OpenNest(NFTA_CHAIN_HOOK);
  batch.PutNumber(NFTA_HOOK_HOOKNUM, hook);
  batch.PutNumber(NFTA_HOOK_PRIORITY, static_cast<uint32_t>(kBeforeTracking));
  batch.CloseNest(nest);
  batch.PutText(NFTA_CHAIN_TYPE, "filter");
}

void PutRules(Batch& batch, uint16_t port) {
  const uint32_t address = htonl(kResolverAddress);
  const struct {
    uint8_t number;
    uint32_t checksum;
  } protocols[] = {{IPPROTO_UDP, kUdpChecksum}, {IPPROTO_TCP, kTcpChecksum}};
  const uint16_t dns = htons(kDnsPort);
  const uint16_t ours = htons(port);
  for (const auto& protocol : protocols) {
    {
      Rule query(batch, kOut, 0);
      query.Match(NFT_PAYLOAD_NETWORK_HEADER, kDestinationAddress, &address, sizeof address);
      query.MatchProtocol(protocol.number);
      query.Match(NFT_PAYLOAD_TRANSPORT_HEADER, kDestinationPort, &dns, sizeof dns);
      query.WritePort(kDestinationPort, port, protocol.checksum);
    }
    Rule answer(batch, kIn, protocol.number == IPPROTO_TCP ? NLM_F_ACK : 0);
    answer.Match(NFT_PAYLOAD_NETWORK_HEADER, kSourceAddress, &address, sizeof address);
    answer.MatchProtocol(protocol.number);
    answer.Match(NFT_PAYLOAD_TRANSPORT_HEADER, kSourcePort, &ours, sizeof ours);
    answer.WritePort(kSourcePort, kDnsPort, protocol.checksum);
  }
}

}  // namespace

absl::Status RedirectDnsPort(uint16_t port) {
  Batch batch;
  batch.Begin(NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  // Made, so that deleting it cannot fail, and made anew.
  PutTable(batch, NFT_MSG_NEWTABLE);
  PutTable(batch, NFT_MSG_DELTABLE);
  PutTable(batch, NFT_MSG_NEWTABLE);
  PutChain(batch, kOut, NF_INET_LOCAL_OUT);
  PutChain(batch, kIn, NF_INET_LOCAL_IN);
  PutRules(batch, port);
  const uint32_t last = batch.sequence();
  batch.Begin(NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  batch.End();

  constexpr char kWhat[] = "rules for the resolver's port";
  const UniqueFd socket_fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (!socket_fd.valid()) return ErrnoToStatus(errno, kWhat);
  // The kernel carries it out within send(); its answers are there when that returns.
  if (send(socket_fd.get(), batch.bytes().data(), batch.bytes().size(), 0) < 0)
    return ErrnoToStatus(errno, kWhat);
  alignas(nlmsghdr) char buffer[4096];
  for (;;) {
    const ssize_t got = recv(socket_fd.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0) return ErrnoToStatus(errno, kWhat);
    auto left = static_cast<int>(got);
    for (const auto* header = reinterpret_cast<const nlmsghdr*>(buffer); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type != NLMSG_ERROR) continue;
      const auto* answer = static_cast<const nlmsgerr*>(NLMSG_DATA(header));
      if (answer->error != 0) return ErrnoToStatus(-answer->error, kWhat);
      if (header->nlmsg_seq == last) return absl::OkStatus();
    }
  }
}

}  // namespace gantry::shim
