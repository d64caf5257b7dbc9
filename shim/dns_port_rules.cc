#include "shim/dns_port_rules.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netlink.h>
#include <netinet/in.h>

#include <cerrno>
#include <cstddef>

#include "base/errno_status.h"
#include "base/nf_batch.h"
#include "base/status_macros.h"
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

void BeginInTable(NfBatch& batch, uint16_t type, uint16_t flags) {
  batch.Begin(type, flags, NFPROTO_IPV4);
}

// The expressions of one rule. All values pass through the first register.
class Rule {
 public:
  Rule(NfBatch& batch, const char* chain) : batch_(batch) {
    BeginInTable(batch_, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
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
      batch_.PutValue(NFTA_IMMEDIATE_DATA, {reinterpret_cast<const char*>(&port), sizeof port});
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
  void Compare(const void* bytes, size_t size) {
    Expression("cmp", [&] {
      batch_.PutNumber(NFTA_CMP_SREG, NFT_REG_1);
      batch_.PutNumber(NFTA_CMP_OP, NFT_CMP_EQ);
      batch_.PutValue(NFTA_CMP_DATA, {static_cast<const char*>(bytes), size});
    });
  }

  NfBatch& batch_;
  size_t list_;
};

void PutTable(NfBatch& batch, uint16_t type, uint16_t flags) {
  BeginInTable(batch, type, flags);
  batch.PutText(NFTA_TABLE_NAME, kTable);
}

void PutChain(NfBatch& batch, const char* name, uint32_t hook) {
  BeginInTable(batch, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
  batch.PutText(NFTA_CHAIN_TABLE, kTable);
  batch.PutText(NFTA_CHAIN_NAME, name);
  const size_t nest = batch.OpenNest(NFTA_CHAIN_HOOK);
  batch.PutNumber(NFTA_HOOK_HOOKNUM, hook);
  batch.PutNumber(NFTA_HOOK_PRIORITY, static_cast<uint32_t>(kBeforeTracking));
  batch.CloseNest(nest);
  batch.PutText(NFTA_CHAIN_TYPE, "filter");
}

void PutRules(NfBatch& batch, uint16_t port) {
  const uint32_t address = htonl(kResolverAddress);
  const struct {
    uint8_t number;
    uint32_t checksum;
  } protocols[] = {{IPPROTO_UDP, kUdpChecksum}, {IPPROTO_TCP, kTcpChecksum}};
  const uint16_t dns = htons(kDnsPort);
  const uint16_t ours = htons(port);
  for (const auto& protocol : protocols) {
    {
      Rule query(batch, kOut);
      query.Match(NFT_PAYLOAD_NETWORK_HEADER, kDestinationAddress, &address, sizeof address);
      query.MatchProtocol(protocol.number);
      query.Match(NFT_PAYLOAD_TRANSPORT_HEADER, kDestinationPort, &dns, sizeof dns);
      query.WritePort(kDestinationPort, port, protocol.checksum);
    }
    Rule answer(batch, kIn);
    answer.Match(NFT_PAYLOAD_NETWORK_HEADER, kSourceAddress, &address, sizeof address);
    answer.MatchProtocol(protocol.number);
    answer.Match(NFT_PAYLOAD_TRANSPORT_HEADER, kSourcePort, &ours, sizeof ours);
    answer.WritePort(kSourcePort, kDnsPort, protocol.checksum);
  }
}

}  // namespace

absl::Status RedirectDnsPort(uint16_t port) {
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd socket_fd, NfBatch::OpenSocket());
  const auto write = [&](bool over_another) {
    NfBatch batch;
    if (over_another) PutTable(batch, NFT_MSG_DELTABLE, 0);
    PutTable(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL);
    PutChain(batch, kOut, NF_INET_LOCAL_OUT);
    PutChain(batch, kIn, NF_INET_LOCAL_IN);
    PutRules(batch, port);
    return batch.Send(socket_fd.get());
  };
  int error = write(/*over_another=*/false);
  // An attempt that failed has left its table in this namespace. Only then is one deleted: after a
  // transaction that deletes, the close of its socket waits for a grace period, some 10 ms.
  if (error == EEXIST) error = write(/*over_another=*/true);
  return error == 0 ? absl::OkStatus() : ErrnoToStatus(error, "rules for the resolver's port");
}

}  // namespace gantry::shim
