// What every call into core carries: whose name space, which lease, until when, and who asks.
#ifndef GANTRY_SUPERVISOR_CORE_CALL_CONTEXT_H_
#define GANTRY_SUPERVISOR_CORE_CALL_CONTEXT_H_

#include <string>

#include "supervisor/core/caller.h"

namespace gantry {
class CancelToken;
}

namespace gantry::core {

struct CallContext {
  std::string ns;                 // containerd namespace, checked by the door
  std::string lease;              // "" for none
  CancelToken* cancel = nullptr;  // outlives the call; null: never cancelled
  Caller caller = {};             // for reports of ends; nothing is decided by it
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CALL_CONTEXT_H_
