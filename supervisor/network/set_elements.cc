#include "supervisor/network/set_elements.h"

#include <linux/if.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netlink.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/errno_status.h"
#include "base/nf_batch.h"
#include "base/status_macros.h"

namespace gantry::network {
namespace {

constexpr char kWhat[] = "changing elements of nftables' sets";

std::string Joined(const std::vector<ElementField>& fields) {
  return absl::StrJoin(
      fields, " . ", [](std::string* out, const ElementField& field) { out->append(field.text); });
}

// Each field fills whole registers of four bytes.
std::string Registers(const std::vector<ElementField>& fields) {
  std::string bytes;
  for (const ElementField& field : fields) {
    bytes.append(field.bytes);
    bytes.append((4 - field.bytes.size() % 4) % 4, '\0');
  }
  return bytes;
}

absl::Status StatusOf(int error) {
  const std::string said = absl::StrCat(kWhat, ": ", std::strerror(error));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(said);
    case EEXIST:
    case EBUSY:  // an element of a map that leads elsewhere
      return absl::AlreadyExistsError(said);
    default:
      return ErrnoToStatus(error, kWhat);
  }
}

}  // namespace

ElementField DeviceField(absl::string_view device) {
  ElementField field{absl::StrCat("\"", device, "\""), std::string(device.substr(0, IFNAMSIZ - 1))};
  field.bytes.resize(IFNAMSIZ, '\0');
  return field;
}

ElementField AddressField(const Address& address) { return {address.ToString(), address.Bytes()}; }

ElementField AddressNumberField(const Address& address) {
  const std::string bytes = address.Bytes();
  return {absl::StrCat("0x", absl::BytesToHexString(bytes)), bytes};
}

ElementField PortField(uint16_t port) {
  return {absl::StrCat(port), {static_cast<char>(port >> 8), static_cast<char>(port & 0xff)}};
}

ElementField ProtocolField(absl::string_view name, uint8_t number) {
  return {std::string(name), std::string(1, static_cast<char>(number))};
}

std::string SetElement::Place() const { return absl::StrCat(set, " { ", Joined(key)); }

std::string SetElement::Command(absl::string_view verb, absl::string_view name) const {
  return absl::StrCat(verb, " element ", table == Table::kInet ? "inet " : "bridge ", name, " ",
                      Place(), value.empty() ? "" : absl::StrCat(" : ", Joined(value)), " }\n");
}

absl::StatusOr<ElementSocket> ElementSocket::Open() {
  GANTRY_ASSIGN_OR_RETURN(UniqueFd fd, NfBatch::OpenSocket());
  return ElementSocket(std::move(fd));
}

absl::Status ElementSocket::Add(absl::string_view table, const std::vector<SetElement>& elements) {
  return Send(NFT_MSG_NEWSETELEM, NLM_F_CREATE, table, elements);
}

absl::Status ElementSocket::Delete(absl::string_view table,
                                   const std::vector<SetElement>& elements) {
  return Send(NFT_MSG_DELSETELEM, 0, table, elements);
}

absl::Status ElementSocket::Send(uint16_t type, uint16_t flags, absl::string_view table,
                                 const std::vector<SetElement>& elements) {
  if (elements.empty()) return absl::OkStatus();
  NfBatch batch;
  for (const SetElement& element : elements) {
    batch.Begin(type, flags,
                element.table == SetElement::Table::kInet ? NFPROTO_INET : NFPROTO_BRIDGE);
    batch.PutText(NFTA_SET_ELEM_LIST_TABLE, table);
    batch.PutText(NFTA_SET_ELEM_LIST_SET, element.set);
    const size_t list = batch.OpenNest(NFTA_SET_ELEM_LIST_ELEMENTS);
    const size_t one = batch.OpenNest(NFTA_LIST_ELEM);
    batch.PutValue(NFTA_SET_ELEM_KEY, Registers(element.key));
    if (!element.value.empty() && type == NFT_MSG_NEWSETELEM)
      batch.PutValue(NFTA_SET_ELEM_DATA, Registers(element.value));
    batch.CloseNest(one);
    batch.CloseNest(list);
  }
  const int error = batch.Send(socket_.get());
  return error == 0 ? absl::OkStatus() : StatusOf(error);
}

}  // namespace gantry::network
