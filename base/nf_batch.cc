#include "base/nf_batch.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/errno_status.h"

namespace gantry {

absl::StatusOr<UniqueFd> NfBatch::OpenSocket() {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (!fd.valid()) return ErrnoToStatus(errno, "netlink socket for nftables");
  return fd;
}

NfBatch::NfBatch() { Message(NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES); }

void NfBatch::Message(uint16_t type, uint16_t flags, uint8_t family, uint16_t resource) {
  EndMessage();
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

void NfBatch::Append(const void* data, size_t size) {
  bytes_.append(static_cast<const char*>(data), size);
  bytes_.append(NLMSG_ALIGN(size) - size, '\0');
}

void NfBatch::EndMessage() {
  if (bytes_.empty()) return;
  const auto size = static_cast<uint32_t>(bytes_.size() - message_);
  std::memcpy(&bytes_[message_], &size, sizeof size);
}

void NfBatch::Begin(uint16_t type, uint16_t flags, uint8_t family) {
  Message(static_cast<uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | type), flags, family, 0);
}

size_t NfBatch::OpenNest(uint16_t type) {
  const size_t at = bytes_.size();
  const nlattr attribute = {0, static_cast<uint16_t>(type | NLA_F_NESTED)};
  Append(&attribute, sizeof attribute);
  return at;
}

void NfBatch::CloseNest(size_t nest) {
  const auto size = static_cast<uint16_t>(bytes_.size() - nest);
  std::memcpy(&bytes_[nest], &size, sizeof size);
}

void NfBatch::Put(uint16_t type, absl::string_view data) {
  const nlattr attribute = {static_cast<uint16_t>(NLA_HDRLEN + data.size()), type};
  Append(&attribute, sizeof attribute);
  Append(data.data(), data.size());
}

void NfBatch::PutText(uint16_t type, absl::string_view text) {
  std::string whole(text);
  whole.push_back('\0');
  Put(type, whole);
}

void NfBatch::PutNumber(uint16_t type, uint32_t value) {
  value = htonl(value);
  Put(type, {reinterpret_cast<const char*>(&value), sizeof value});
}

void NfBatch::PutValue(uint16_t type, absl::string_view bytes) {
  const size_t nest = OpenNest(type);
  Put(NFTA_DATA_VALUE, bytes);
  CloseNest(nest);
}

int NfBatch::Send(int socket) {
  // The kernel says what is wrong with any message, and is to answer the last in any case.
  nlmsghdr header;
  std::memcpy(&header, &bytes_[message_], sizeof header);
  header.nlmsg_flags |= NLM_F_ACK;
  std::memcpy(&bytes_[message_], &header, sizeof header);
  const uint32_t last = sequence_;
  Message(NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  EndMessage();
  if (send(socket, bytes_.data(), bytes_.size(), 0) < 0) return errno;
  // It is carried out, and answered, when send() returns. All answers are read, so that the next
  // transaction finds an empty queue.
  int first = 0;
  bool answered = false;
  alignas(nlmsghdr) char buffer[8192];
  for (;;) {
    const ssize_t got = recv(socket, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) break;
    auto left = static_cast<int>(got);
    for (const auto* one = reinterpret_cast<const nlmsghdr*>(buffer); NLMSG_OK(one, left);
         one = NLMSG_NEXT(one, left)) {
      if (one->nlmsg_type != NLMSG_ERROR || one->nlmsg_len < NLMSG_LENGTH(sizeof(nlmsgerr)))
        continue;
      const auto* answer = static_cast<const nlmsgerr*>(NLMSG_DATA(one));
      if (answer->error != 0 && first == 0) first = -answer->error;
      answered |= one->nlmsg_seq == last;
    }
  }
  return first != 0 || answered ? first : EPROTO;
}

}  // namespace gantry
