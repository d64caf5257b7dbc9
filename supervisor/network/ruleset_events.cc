#include "supervisor/network/ruleset_events.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/errno_status.h"

namespace gantry::network {
namespace {

constexpr int MessageType(int message) { return NFNL_SUBSYS_NFTABLES << 8 | message; }
constexpr size_t kReadBytes = 64 << 10;
// Rules of a thousand containers that are written in one transaction.
constexpr int kQueueBytes = 4 << 20;

absl::StatusOr<UniqueFd> OpenSocket(uint32_t groups) {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (!fd.valid()) return ErrnoToStatus(errno, "netlink socket for nftables");
  sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_groups = groups;
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return ErrnoToStatus(errno, "binding a netlink socket for nftables");
  return fd;
}

// The payload of the first attribute of this type behind the message's nfgenmsg; empty without it.
absl::string_view Attribute(const nlmsghdr& message, int wanted) {
  const char* const start = reinterpret_cast<const char*>(&message);
  size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(nfgenmsg));
  while (at + sizeof(nlattr) <= message.nlmsg_len) {
    nlattr attribute;
    std::memcpy(&attribute, start + at, sizeof attribute);
    if (attribute.nla_len < NLA_HDRLEN || at + attribute.nla_len > message.nlmsg_len) break;
    if ((attribute.nla_type & NLA_TYPE_MASK) == wanted)
      return {start + at + NLA_HDRLEN, static_cast<size_t>(attribute.nla_len - NLA_HDRLEN)};
    at += NLA_ALIGN(attribute.nla_len);
  }
  return {};
}

uint32_t GenerationOf(const nlmsghdr& message) {
  uint32_t id = 0;
  const absl::string_view bytes = Attribute(message, NFTA_GEN_ID);
  if (bytes.size() == sizeof id) std::memcpy(&id, bytes.data(), sizeof id);
  return ntohl(id);
}

}  // namespace

absl::StatusOr<RulesetGeneration> RulesetGeneration::Open() {
  absl::StatusOr<UniqueFd> fd = OpenSocket(0);
  if (!fd.ok()) return fd.status();
  return RulesetGeneration(*std::move(fd));
}

absl::StatusOr<uint32_t> RulesetGeneration::Get() {
  struct {
    nlmsghdr header;
    nfgenmsg body;
  } request = {};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = MessageType(NFT_MSG_GETGEN);
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.body.nfgen_family = AF_UNSPEC;
  request.body.version = NFNETLINK_V0;
  if (send(socket_.get(), &request, sizeof request, 0) < 0)
    return ErrnoToStatus(errno, "asking for the generation of nftables' rules");
  alignas(nlmsghdr) char buffer[4096];
  // The kernel has queued the answer when send() returns.
  const ssize_t got = recv(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
  if (got < 0) return ErrnoToStatus(errno, "reading the generation of nftables' rules");
  const auto& answer = *reinterpret_cast<const nlmsghdr*>(buffer);
  if (static_cast<size_t>(got) < sizeof answer || answer.nlmsg_len > static_cast<size_t>(got) ||
      answer.nlmsg_type != MessageType(NFT_MSG_NEWGEN))
    return absl::UnimplementedError("the kernel does not number nftables' rules");
  return GenerationOf(answer);
}

absl::StatusOr<RulesetEvents> RulesetEvents::Open(absl::string_view table) {
  absl::StatusOr<UniqueFd> fd = OpenSocket(1u << (NFNLGRP_NFTABLES - 1));
  if (!fd.ok()) return fd.status();
  // With a smaller queue notifications may be lost, which Read() tells.
  if (setsockopt(fd->get(), SOL_SOCKET, SO_RCVBUFFORCE, &kQueueBytes, sizeof kQueueBytes) != 0)
    (void)setsockopt(fd->get(), SOL_SOCKET, SO_RCVBUF, &kQueueBytes, sizeof kQueueBytes);
  return RulesetEvents(*std::move(fd), table);
}

absl::StatusOr<RulesetEvents::Batch> RulesetEvents::Read() {
  Batch batch;
  std::vector<char> buffer(kReadBytes);
  for (;;) {
    const ssize_t got = recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return batch;
    if (got < 0 && errno == ENOBUFS) {
      batch.lost = true;
      continue;
    }
    if (got < 0) return ErrnoToStatus(errno, "reading notifications of nftables");
    size_t at = 0;
    while (at + sizeof(nlmsghdr) <= static_cast<size_t>(got)) {
      const auto& message = *reinterpret_cast<const nlmsghdr*>(buffer.data() + at);
      if (message.nlmsg_len < sizeof(nlmsghdr) || at + message.nlmsg_len > static_cast<size_t>(got))
        break;
      if (message.nlmsg_type == MessageType(NFT_MSG_NEWGEN)) {
        batch.changes.push_back({GenerationOf(message), std::exchange(ours_, false)});
      } else if (message.nlmsg_type >> 8 == NFNL_SUBSYS_NFTABLES) {
        // Attribute 1 is the table's name in every message of nftables but that of a generation.
        absl::string_view table = Attribute(message, NFTA_TABLE_NAME);
        table = table.substr(0, table.find('\0'));
        if (table == table_) ours_ = true;
      }
      at += NLMSG_ALIGN(message.nlmsg_len);
    }
  }
}

}  // namespace gantry::network
