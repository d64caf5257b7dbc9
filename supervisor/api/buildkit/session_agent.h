// Connections to the SSH agents that a client gives over its session.
//
// Each is a pair of sockets, whose other end two threads carry to and from a call. All end with the
// object. Thread-safe.
#ifndef GANTRY_SUPERVISOR_API_BUILDKIT_SESSION_AGENT_H_
#define GANTRY_SUPERVISOR_API_BUILDKIT_SESSION_AGENT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "base/unique_fd.h"
#include "supervisor/api/buildkit/session.h"

namespace gantry::api::buildkit {

class SessionAgents {
 public:
  explicit SessionAgents(std::shared_ptr<Session> session);
  ~SessionAgents();
  SessionAgents(const SessionAgents&) = delete;
  SessionAgents& operator=(const SessionAgents&) = delete;

  // kNotFound: the client gives no agent of that id.
  absl::StatusOr<UniqueFd> Connect(const std::string& id, CancelToken* cancel)
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  class Connection;

  const std::shared_ptr<Session> session_;
  absl::Mutex mu_;
  std::vector<std::unique_ptr<Connection>> connections_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::api::buildkit

#endif  // GANTRY_SUPERVISOR_API_BUILDKIT_SESSION_AGENT_H_
