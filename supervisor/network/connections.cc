#include "supervisor/network/connections.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "supervisor/network/netns.h"

namespace gantry::network {
namespace {

constexpr size_t kReadBytes = 64 << 10;
constexpr char kReading[] = "reading the kernel's connections";

uint16_t MessageType(int message) {
  return static_cast<uint16_t>(NFNL_SUBSYS_CTNETLINK << 8 | message);
}

// The payload of the first attribute of this type; empty without it.
absl::string_view Attribute(absl::string_view attributes, int wanted) {
  while (attributes.size() >= sizeof(nlattr)) {
    nlattr head;
    std::memcpy(&head, attributes.data(), sizeof head);
    if (head.nla_len < NLA_HDRLEN || head.nla_len > attributes.size()) break;
    if ((head.nla_type & NLA_TYPE_MASK) == wanted)
      return attributes.substr(NLA_HDRLEN, head.nla_len - NLA_HDRLEN);
    attributes.remove_prefix(std::min<size_t>(NLA_ALIGN(head.nla_len), attributes.size()));
  }
  return {};
}

// False: not one of IPv4 or IPv6 with ports.
bool ReadEnd(absl::string_view tuple, bool source, Address& address, uint16_t& port,
             uint8_t& protocol) {
  const absl::string_view ip = Attribute(tuple, CTA_TUPLE_IP);
  absl::string_view bytes = Attribute(ip, source ? CTA_IP_V4_SRC : CTA_IP_V4_DST);
  if (bytes.empty()) bytes = Attribute(ip, source ? CTA_IP_V6_SRC : CTA_IP_V6_DST);
  const absl::string_view ends = Attribute(tuple, CTA_TUPLE_PROTO);
  const absl::string_view number = Attribute(ends, CTA_PROTO_NUM);
  const absl::string_view number_of_port =
      Attribute(ends, source ? CTA_PROTO_SRC_PORT : CTA_PROTO_DST_PORT);
  if ((bytes.size() != 4 && bytes.size() != 16) || number.size() != 1 ||
      number_of_port.size() != sizeof port)
    return false;
  address = Address::FromBytes(bytes);
  protocol = static_cast<uint8_t>(number[0]);
  std::memcpy(&port, number_of_port.data(), sizeof port);
  port = ntohs(port);
  return true;
}

void AppendAttribute(std::string& message, uint16_t type, absl::string_view payload) {
  const nlattr head = {static_cast<uint16_t>(NLA_HDRLEN + payload.size()), type};
  message.append(reinterpret_cast<const char*>(&head), sizeof head);
  message.append(payload.data(), payload.size());
  message.append(NLA_ALIGN(payload.size()) - payload.size(), '\0');
}

std::string Request(int type, int flags, uint8_t family) {
  nlmsghdr head = {};
  head.nlmsg_type = MessageType(type);
  head.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  nfgenmsg generic = {};
  generic.nfgen_family = family;
  generic.version = NFNETLINK_V0;
  std::string message(reinterpret_cast<const char*>(&head), sizeof head);
  message.append(reinterpret_cast<const char*>(&generic), sizeof generic);
  return message;
}

void SetLength(std::string& message) {
  const auto length = static_cast<uint32_t>(message.size());
  std::memcpy(message.data(), &length, sizeof length);
}

// The request that forgets the connection of a listed message.
std::string Deletion(uint8_t family, absl::string_view attributes) {
  std::string message = Request(IPCTNL_MSG_CT_DELETE, NLM_F_ACK, family);
  AppendAttribute(message, CTA_TUPLE_ORIG | NLA_F_NESTED, Attribute(attributes, CTA_TUPLE_ORIG));
  // Without its number a connection of the same ends that came meanwhile would go.
  for (const int type : {CTA_ID, CTA_ZONE}) {
    if (const absl::string_view value = Attribute(attributes, type); !value.empty())
      AppendAttribute(message, static_cast<uint16_t>(type), value);
  }
  SetLength(message);
  return message;
}

bool CameTo(const Connection& connection, const PublishedPort& port) {
  return !port.opened && connection.protocol == ProtocolNumber(port.protocol) &&
         connection.to_port == port.host_port &&
         connection.to.family() == port.container.family() &&
         (!port.host.has_value() || *port.host == connection.to);
}

bool GoesTo(const Connection& connection, const PublishedPort& port) {
  return connection.answers_from == port.container &&
         connection.answers_port == port.container_port;
}

}  // namespace

bool GoesAstray(const Connection& connection, const PublishedPort& port) {
  return CameTo(connection, port) && !GoesTo(connection, port);
}

bool GoesThrough(const Connection& connection, const PublishedPort& port) {
  return CameTo(connection, port) && GoesTo(connection, port);
}

absl::StatusOr<std::unique_ptr<Connections>> Connections::Open() {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (!fd.valid()) return ErrnoToStatus(errno, "netlink socket for connections");
  // The kernel answers at once; a kernel that does not holds up nobody for long.
  const timeval patience = {5, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return std::unique_ptr<Connections>(new Connections(std::move(fd)));
}

absl::StatusOr<std::unique_ptr<Connections>> Connections::OpenIn(int netns) {
  absl::StatusOr<std::unique_ptr<Connections>> made;
  GANTRY_RETURN_IF_ERROR(InNetns(netns, [&made] {
    made = Open();
    return made.status();
  }));
  return made;
}

absl::StatusOr<int> Connections::Forget(const std::function<bool(const Connection&)>& chosen) {
  absl::MutexLock lock(&mu_);
  std::string list = Request(IPCTNL_MSG_CT_GET, NLM_F_DUMP, AF_UNSPEC);
  SetLength(list);
  if (send(socket_.get(), list.data(), list.size(), 0) < 0) return ErrnoToStatus(errno, kReading);
  std::vector<std::string> deletions;
  std::vector<char> buffer(kReadBytes);
  for (bool more = true; more;) {
    const ssize_t got = recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoToStatus(errno, kReading);
    auto left = static_cast<int>(got);
    for (const auto* one = reinterpret_cast<const nlmsghdr*>(buffer.data()); NLMSG_OK(one, left);
         one = NLMSG_NEXT(one, left)) {
      if (one->nlmsg_type == NLMSG_DONE || one->nlmsg_type == NLMSG_ERROR) {
        more = false;
        int error = 0;
        if (one->nlmsg_len >= NLMSG_LENGTH(sizeof error))
          std::memcpy(&error, NLMSG_DATA(one), sizeof error);
        if (error == -EINVAL || error == -EOPNOTSUPP) {
          return absl::UnimplementedError(
              "the kernel does not list its connections (CONFIG_NF_CT_NETLINK, module "
              "nf_conntrack_netlink)");
        }
        if (error != 0) return ErrnoToStatus(-error, kReading);
        break;
      }
      constexpr size_t kHead = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(nfgenmsg));
      if (one->nlmsg_len < kHead) continue;
      nfgenmsg generic;
      std::memcpy(&generic, NLMSG_DATA(one), sizeof generic);
      const absl::string_view attributes(reinterpret_cast<const char*>(one) + kHead,
                                         one->nlmsg_len - kHead);
      Connection connection;
      if (!ReadEnd(Attribute(attributes, CTA_TUPLE_ORIG), /*source=*/false, connection.to,
                   connection.to_port, connection.protocol) ||
          !ReadEnd(Attribute(attributes, CTA_TUPLE_REPLY), /*source=*/true, connection.answers_from,
                   connection.answers_port, connection.protocol))
        continue;
      if (chosen(connection)) deletions.push_back(Deletion(generic.nfgen_family, attributes));
    }
  }
  int forgotten = 0;
  for (const std::string& deletion : deletions) {
    if (send(socket_.get(), deletion.data(), deletion.size(), 0) < 0)
      return ErrnoToStatus(errno, "forgetting a connection");
    const ssize_t got = recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0) return ErrnoToStatus(errno, "forgetting a connection");
    nlmsgerr answer = {};
    if (static_cast<size_t>(got) >= NLMSG_LENGTH(sizeof answer))
      std::memcpy(&answer, buffer.data() + NLMSG_HDRLEN, sizeof answer);
    // ENOENT: it has ended meanwhile.
    if (answer.error == 0) ++forgotten;
  }
  return forgotten;
}

}  // namespace gantry::network
