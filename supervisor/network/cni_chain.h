// The plugins of a network, run one after the other: what each command of CNI means for a chain.
//
// Functions are thread-safe, keep nothing and block until the last plugin has ended. Errors are
// RunCniPlugin()'s. Spec: CNI 1.1 section 3 and 4.
#ifndef GANTRY_SUPERVISOR_NETWORK_CNI_CHAIN_H_
#define GANTRY_SUPERVISOR_NETWORK_CNI_CHAIN_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "supervisor/network/cni_plugin.h"
#include "supervisor/network/cni_record.h"

namespace gantry::network {

// In order, each with the result of the one before it; the last result. A failure leaves what the
// plugins before it have made: DelCniChain() is the caller's next step. Where a plugin refuses the
// network's version, the error says which versions it knows.
absl::StatusOr<CniResult> AddCniChain(const CniRunner& runner, const CniRecord& record,
                                      CancelToken* cancel);

// In reverse order, up to the first failure: an address is not given back, and so not to another
// pod, before the rules that lead to it are gone. Without CNI_NETNS when the namespace is gone.
absl::Status DelCniChain(const CniRunner& runner, const CniRecord& record, CancelToken* cancel);

// OK without a run where the network disables it or has a version below 0.4.
absl::Status CheckCniChain(const CniRunner& runner, const CniRecord& record, CancelToken* cancel);

// STATUS; OK without a run where the network has a version below 1.1.
absl::Status AskCniStatus(const CniRunner& runner, const CniNetwork& network, CancelToken* cancel);

bool HasCniGarbageCollection(const CniNetwork& network);
// GC, for every plugin whatever the others say; the first failure. `valid`: container id and
// interface of each attachment that is in use.
absl::Status RunCniGarbageCollection(const CniRunner& runner, const CniNetwork& network,
                                     const std::vector<std::pair<std::string, std::string>>& valid,
                                     CancelToken* cancel);

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_CNI_CHAIN_H_
