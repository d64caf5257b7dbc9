// A transaction of nftables as netlink messages: put together from the front, sent and answered at
// once. For the few messages that are sent so often, or from so small a program, that libnftables
// would cost too much.
//
// Thread-compatible. linux/netfilter/nf_tables.h, nfnetlink.h.
#ifndef GANTRY_BASE_NF_BATCH_H_
#define GANTRY_BASE_NF_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/unique_fd.h"

namespace gantry {

class NfBatch {
 public:
  // A socket in the network namespace of the calling thread.
  static absl::StatusOr<UniqueFd> OpenSocket();

  NfBatch();

  // The next message, of NFT_MSG_*, about a table of this family. What follows belongs to it.
  void Begin(uint16_t type, uint16_t flags, uint8_t family);

  // Attributes. An open nest holds what follows until it is closed.
  size_t OpenNest(uint16_t type);
  void CloseNest(size_t nest);
  void Put(uint16_t type, absl::string_view data);
  void PutText(uint16_t type, absl::string_view text);  // with a NUL at its end
  void PutNumber(uint16_t type, uint32_t value);        // in network order
  // Bytes for registers, in the nest that the kernel wants around them.
  void PutValue(uint16_t type, absl::string_view bytes);

  // Carries all of it out or nothing. 0, or the errno of what is wrong first; EPROTO when the
  // kernel does not answer. Once per batch.
  int Send(int socket);

 private:
  void Message(uint16_t type, uint16_t flags, uint8_t family, uint16_t resource);
  void EndMessage();
  void Append(const void* data, size_t size);

  std::string bytes_;
  size_t message_ = 0;  // where the last one begins
  uint32_t sequence_ = 0;
};

}  // namespace gantry

#endif  // GANTRY_BASE_NF_BATCH_H_
