// Elements of nftables' sets and maps, as commands for libnftables and as netlink messages of our
// own.
//
// libnftables asks the kernel for every table before it carries out a command, which is right for a
// whole table and costs milliseconds for one element. What comes and goes with a container is
// elements only, so these are sent without it. Both forms are made from one description.
//
// Values are thread-compatible; an ElementSocket is used by one thread at a time.
// nft(8), linux/netfilter/nf_tables.h (NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM).
#ifndef GANTRY_SUPERVISOR_NETWORK_SET_ELEMENTS_H_
#define GANTRY_SUPERVISOR_NETWORK_SET_ELEMENTS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/unique_fd.h"
#include "supervisor/network/address.h"

namespace gantry::network {

// One part of a key or of a value: as nft writes it, and its bytes in the kernel's order.
struct ElementField {
  std::string text;
  std::string bytes;
};
ElementField DeviceField(absl::string_view device);  // at most 15 bytes
ElementField AddressField(const Address& address);
// The same as a number, for sets whose type has no name for an address.
ElementField AddressNumberField(const Address& address);
ElementField PortField(uint16_t port);
// `number`: of the protocol, as in an IP header.
ElementField ProtocolField(absl::string_view name, uint8_t number);

struct SetElement {
  enum class Table { kInet, kBridge };
  Table table = Table::kInet;
  std::string set;
  std::vector<ElementField> key;
  std::vector<ElementField> value;  // of a map; empty for a set

  // "ports4 { tcp . 8080": no two elements have the same.
  std::string Place() const;
  // A line for libnftables. `verb`: "add" or "delete"; `name`: of the table.
  std::string Command(absl::string_view verb, absl::string_view name) const;
};

// A socket in the network namespace of the thread that opened it.
class ElementSocket {
 public:
  static absl::StatusOr<ElementSocket> Open();

  // One transaction: all of it or nothing. An element that is there already is added again.
  //   kNotFound       a table or set is not there, or an element that is to be deleted
  //   kAlreadyExists  an element that is to be added leads elsewhere
  absl::Status Add(absl::string_view table, const std::vector<SetElement>& elements);
  absl::Status Delete(absl::string_view table, const std::vector<SetElement>& elements);

 private:
  explicit ElementSocket(UniqueFd socket) : socket_(std::move(socket)) {}
  absl::Status Send(uint16_t type, uint16_t flags, absl::string_view table,
                    const std::vector<SetElement>& elements);

  UniqueFd socket_;
};

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_SET_ELEMENTS_H_
