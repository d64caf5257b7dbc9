// A connection to gantryd, by what --address, GANTRY_ADDRESS or a context names.
//
// unix:///PATH or PATH: that socket. ssh://[USER@]HOST[:PORT][/PATH]: the program ssh runs `ctl
// system dial-stdio` on HOST, with the socket PATH there if one is given; ssh asks for passwords
// and complains on its own, and ends with the connection.
#ifndef GANTRY_CTL_DIAL_H_
#define GANTRY_CTL_DIAL_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/unique_fd.h"

namespace gantry::ctl {

// A connected stream. kUnavailable: no daemon listens there; the message says what to do.
absl::StatusOr<UniqueFd> Dial(const std::string& address);

bool IsSshAddress(absl::string_view address);
// The command line of ssh for an address. kInvalidArgument: no host in it, or what ssh would take
// for one of its options.
absl::StatusOr<std::vector<std::string>> SshCommand(absl::string_view address);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_DIAL_H_
