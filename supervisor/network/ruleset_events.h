// The kernel's own account of changes to nftables rules: its generation number, and notifications.
//
// Each committed transaction of a network namespace gives the rules a new generation and sends
// notifications to the netlink group NFNLGRP_NFTABLES: one for each object that changed, then one
// with the new generation. Both classes work in the network namespace that they were opened in.
// Thread-compatible.
#ifndef GANTRY_SUPERVISOR_NETWORK_RULESET_EVENTS_H_
#define GANTRY_SUPERVISOR_NETWORK_RULESET_EVENTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/unique_fd.h"

namespace gantry::network {

class RulesetGeneration {
 public:
  // In the namespace of the calling thread.
  static absl::StatusOr<RulesetGeneration> Open();

  // Number of the last committed transaction.
  absl::StatusOr<uint32_t> Get();

 private:
  explicit RulesetGeneration(UniqueFd socket) : socket_(std::move(socket)) {}
  UniqueFd socket_;
};

class RulesetEvents {
 public:
  // In the namespace of the calling thread. Tables of other names are left out of the changes.
  static absl::StatusOr<RulesetEvents> Open(absl::string_view table);

  // Readable when Read() has something to return.
  int fd() const { return socket_.get(); }

  struct Change {
    uint32_t generation = 0;
    bool ours = false;  // something in a table of the name changed, of any family
  };
  struct Batch {
    std::vector<Change> changes;  // transactions that are complete
    bool lost = false;            // the kernel dropped notifications
  };
  // What has arrived; does not wait.
  absl::StatusOr<Batch> Read();

 private:
  RulesetEvents(UniqueFd socket, absl::string_view table)
      : socket_(std::move(socket)), table_(table) {}

  UniqueFd socket_;
  std::string table_;
  bool ours_ = false;  // of the transaction whose generation has not arrived yet
};

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_RULESET_EVENTS_H_
