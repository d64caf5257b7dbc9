// What every call into core carries: whose name space, which lease, and until when.
#ifndef GANTRY_SUPERVISOR_CORE_CALL_CONTEXT_H_
#define GANTRY_SUPERVISOR_CORE_CALL_CONTEXT_H_

#include <string>

namespace gantry {
class CancelToken;
}

namespace gantry::core {

struct CallContext {
  std::string ns;                 // containerd namespace, checked by the door
  std::string lease;              // "" for none
  CancelToken* cancel = nullptr;  // outlives the call; null: never cancelled
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CALL_CONTEXT_H_
