#include "supervisor/network/announcer.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <pthread.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <functional>

#include "absl/strings/str_cat.h"

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "supervisor/network/netns.h"

namespace gantry::network {
namespace {

std::string Bytes(std::initializer_list<int> values) {
  std::string text;
  for (const int value : values) text.push_back(static_cast<char>(value));
  return text;
}

std::string BytesOf(const MacAddress& mac) {
  return {reinterpret_cast<const char*>(mac.bytes().data()), mac.bytes().size()};
}

// An ARP request of an address for itself, to everybody.
std::string ArpFrame(const MacAddress& mac, const Address& address) {
  return absl::StrCat(std::string(6, '\xff'), BytesOf(mac), Bytes({0x08, 0x06}),
                      // Ethernet, IPv4, lengths of the addresses, request.
                      Bytes({0, 1, 0x08, 0, 6, 4, 0, 1}), BytesOf(mac), address.Bytes(),
                      std::string(6, '\0'), address.Bytes());
}

uint16_t Checksum(absl::string_view bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i + 1 < bytes.size(); i += 2)
    sum += uint32_t{static_cast<uint8_t>(bytes[i])} << 8 | static_cast<uint8_t>(bytes[i + 1]);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

// A neighbour advertisement to all nodes, which overrides what they know.
std::string NeighbourFrame(const MacAddress& mac, const Address& address) {
  const std::string all_nodes = Bytes({0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
  std::string message = absl::StrCat(Bytes({136, 0, 0, 0, 0x20, 0, 0, 0}), address.Bytes(),
                                     // Option: the link-layer address of the target.
                                     Bytes({2, 1}), BytesOf(mac));
  const uint16_t sum = Checksum(
      absl::StrCat(address.Bytes(), all_nodes,
                   Bytes({0, 0, 0, static_cast<int>(message.size()), 0, 0, 0, 58}), message));
  message[2] = static_cast<char>(sum >> 8);
  message[3] = static_cast<char>(sum & 0xff);
  return absl::StrCat(Bytes({0x33, 0x33, 0, 0, 0, 1}), BytesOf(mac), Bytes({0x86, 0xdd}),
                      // Version, length, ICMPv6, hop limit.
                      Bytes({0x60, 0, 0, 0, 0, static_cast<int>(message.size()), 58, 255}),
                      address.Bytes(), all_nodes, message);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Announcer>> Announcer::Open() {
  // Protocol 0: it receives nothing.
  UniqueFd made(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made.valid()) return ErrnoToStatus(errno, "a socket for announcements of addresses");
  return std::unique_ptr<Announcer>(new Announcer(std::move(made)));
}

absl::StatusOr<std::unique_ptr<Announcer>> Announcer::OpenIn(int netns) {
  absl::StatusOr<std::unique_ptr<Announcer>> made;
  GANTRY_RETURN_IF_ERROR(InNetns(netns, [&made] {
    made = Open();
    return made.status();
  }));
  return made;
}

Announcer::~Announcer() {
  std::thread running;
  {
    absl::MutexLock lock(&mu_);
    stop_ = true;
    running = std::move(thread_);
  }
  if (running.joinable()) running.join();
}

absl::Status Announcer::Send(const Announcement& announcement) const {
  for (const Address& address : announcement.addresses) {
    const bool ipv4 = address.family() == Family::kIpv4;
    const std::string frame =
        ipv4 ? ArpFrame(announcement.mac, address) : NeighbourFrame(announcement.mac, address);
    sockaddr_ll to = {};
    to.sll_family = AF_PACKET;
    to.sll_protocol = htons(ipv4 ? ETH_P_ARP : ETH_P_IPV6);
    to.sll_ifindex = announcement.device;
    to.sll_halen = ETH_ALEN;
    std::copy_n(frame.begin(), ETH_ALEN, to.sll_addr);
    if (sendto(socket_.get(), frame.data(), frame.size(), 0, reinterpret_cast<const sockaddr*>(&to),
               sizeof to) < 0)
      return ErrnoToStatus(errno, absl::StrCat("announcing ", address.ToString()));
  }
  return absl::OkStatus();
}

absl::Status Announcer::Announce(absl::string_view key, Announcement announcement) {
  if (announcement.times <= 0) return absl::OkStatus();
  const absl::Status sent = Send(announcement);
  if (--announcement.times == 0) return sent;
  absl::MutexLock lock(&mu_);
  const absl::Duration at = Clock::Real().Monotonic() + announcement.interval;
  due_.insert_or_assign(std::string(key), Due{std::move(announcement), at});
  if (running_) return sent;
  // The one before has ended, or is about to.
  if (thread_.joinable()) thread_.join();
  GANTRY_ASSIGN_OR_RETURN(thread_, NewThread([this] { Loop(); }));
  running_ = true;
  return sent;
}

void Announcer::Forget(absl::string_view key) {
  absl::MutexLock lock(&mu_);
  if (const auto found = due_.find(key); found != due_.end()) due_.erase(found);
}

void Announcer::Loop() {
  pthread_setname_np(pthread_self(), "announcer");
  absl::MutexLock lock(&mu_);
  while (!stop_ && !due_.empty()) {
    const absl::Duration now = Clock::Real().Monotonic();
    absl::Duration next = now + absl::Seconds(1);
    for (auto it = due_.begin(); it != due_.end();) {
      Due& one = it->second;
      bool over = false;
      if (one.at <= now) {
        // Never blocks. The device may have gone: no neighbour is there to hear it.
        over = !Send(one.announcement).ok() || --one.announcement.times == 0;
        one.at = now + one.announcement.interval;
      }
      next = std::min(next, one.at);
      it = over ? due_.erase(it) : std::next(it);
    }
    mu_.AwaitWithTimeout(absl::Condition(&stop_), next - now);
  }
  running_ = false;
}

}  // namespace gantry::network
