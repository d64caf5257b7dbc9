#include "base/host/forward_policy.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "base/unique_fd.h"

namespace gantry::host {
namespace {

// Calls `use` with type and content of each attribute in `bytes`.
template <class Use>
void EachAttribute(absl::string_view bytes, const Use& use) {
  while (bytes.size() >= sizeof(nlattr)) {
    nlattr head;
    memcpy(&head, bytes.data(), sizeof head);
    if (head.nla_len < sizeof head || head.nla_len > bytes.size()) return;
    use(head.nla_type & NLA_TYPE_MASK, bytes.substr(sizeof head, head.nla_len - sizeof head));
    bytes.remove_prefix(std::min<size_t>(NLA_ALIGN(head.nla_len), bytes.size()));
  }
}

uint32_t BigEndian(absl::string_view bytes) {
  uint32_t value = 0;
  if (bytes.size() >= sizeof value) memcpy(&value, bytes.data(), sizeof value);
  return ntohl(value);
}

std::string Name(absl::string_view bytes) { return std::string(bytes.substr(0, bytes.find('\0'))); }

void TakeChain(absl::string_view message, std::vector<std::string>& found) {
  if (message.size() < NLMSG_ALIGN(sizeof(nfgenmsg))) return;
  std::string table, chain;
  bool forward = false;
  bool drops = false;
  EachAttribute(message.substr(NLMSG_ALIGN(sizeof(nfgenmsg))),
                [&](int type, absl::string_view content) {
                  if (type == NFTA_CHAIN_TABLE) table = Name(content);
                  if (type == NFTA_CHAIN_NAME) chain = Name(content);
                  if (type == NFTA_CHAIN_POLICY) drops = BigEndian(content) == NF_DROP;
                  if (type != NFTA_CHAIN_HOOK) return;
                  EachAttribute(content, [&](int inner, absl::string_view value) {
                    if (inner == NFTA_HOOK_HOOKNUM) forward = BigEndian(value) == NF_INET_FORWARD;
                  });
                });
  if (forward && drops && !absl::StartsWith(table, "gantry"))
    found.push_back(absl::StrCat(table, " ", chain));
}

}  // namespace

std::vector<std::string> DroppingForwardChains(bool* usable) {
  *usable = false;
  std::vector<std::string> found;
  const UniqueFd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (!netlink.valid()) return found;
  const struct timeval patience = {2, 0};
  // Without it an answer that does not come is waited for; the kernel always answers.
  (void)setsockopt(netlink.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  struct {
    nlmsghdr head;
    nfgenmsg body;
  } request = {};
  request.head.nlmsg_len = sizeof request;
  request.head.nlmsg_type = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETCHAIN;
  request.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.version = NFNETLINK_V0;
  if (send(netlink.get(), &request, sizeof request, 0) != sizeof request) return found;
  std::array<char, 64 << 10> buffer;
  for (;;) {
    const ssize_t size = recv(netlink.get(), buffer.data(), buffer.size(), 0);
    if (size <= 0) return found;
    absl::string_view rest(buffer.data(), static_cast<size_t>(size));
    while (rest.size() >= sizeof(nlmsghdr)) {
      nlmsghdr head;
      memcpy(&head, rest.data(), sizeof head);
      if (head.nlmsg_len < sizeof head || head.nlmsg_len > rest.size()) return found;
      if (head.nlmsg_type == NLMSG_ERROR) return found;
      *usable = true;
      if (head.nlmsg_type == NLMSG_DONE) return found;
      TakeChain(rest.substr(NLMSG_HDRLEN, head.nlmsg_len - NLMSG_HDRLEN), found);
      rest.remove_prefix(std::min<size_t>(NLMSG_ALIGN(head.nlmsg_len), rest.size()));
    }
  }
}

}  // namespace gantry::host
