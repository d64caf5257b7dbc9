// Who makes a call of an API, as far as its door knows: the process at the other end of a unix
// socket, as the kernel named it when it connected, or the address of a client on the network.
//
// Values. The number of a process may belong to another one once the caller has ended, so
// FindProgram() is called while the call is being served.
#ifndef GANTRY_SUPERVISOR_CORE_CALLER_H_
#define GANTRY_SUPERVISOR_CORE_CALLER_H_

#include <sys/types.h>

#include <string>

#include "absl/strings/string_view.h"

namespace gantry::core {

struct Caller {
  // "gantry", "containerd", "CRI", "Docker"; "": the daemon itself.
  const char* door = "";
  pid_t pid = 0;  // 0: not known, and neither is uid
  uid_t uid = 0;
  std::string program = {};  // executable file; "" until FindProgram()
  std::string address = {};  // of a client on the network
};

// Of a connected socket. Of others: the door alone.
Caller CallerOfSocket(int socket, const char* door);

// Of a gRPC connection whose descriptor the daemon accepted itself; gRPC's name of its peer is
// "fd:NUMBER".
Caller CallerOfPeer(absl::string_view peer, const char* door);

// Looks the program up; "" when the process has ended.
void FindProgram(Caller& caller);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CALLER_H_
