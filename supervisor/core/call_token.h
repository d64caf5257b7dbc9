// What cancels a piece of work: the caller's token, or one of our own where the caller has none.
//
// Thread-compatible; the token that it gives is thread-safe. Outlives nothing of the caller's.
#ifndef GANTRY_SUPERVISOR_CORE_CALL_TOKEN_H_
#define GANTRY_SUPERVISOR_CORE_CALL_TOKEN_H_

#include <optional>

#include "base/cancel_token.h"

namespace gantry::core {

class CallToken {
 public:
  explicit CallToken(CancelToken* given) : token_(given) {
    if (token_ == nullptr) token_ = &own_.emplace();
  }
  CancelToken& operator*() { return *token_; }
  CancelToken* get() { return token_; }

 private:
  std::optional<CancelToken> own_;
  CancelToken* token_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CALL_TOKEN_H_
