// containerd's ttrpc socket, `<address>.ttrpc`: unary calls in ttrpc's frames, for shims and
// plugins that publish events there.
//
// Handlers run on the server's one thread and must not block. A client that takes no answers, or
// sends what is no frame, loses its connection; so does one beyond the most there may be.
//
// Life: construct -> Adopt() connections -> destruction, which closes them. Adopt() is thread-safe.
// Wire: base/ttrpc_frame.h.
#ifndef GANTRY_SUPERVISOR_API_CONTAINERD_TTRPC_SERVER_H_
#define GANTRY_SUPERVISOR_API_CONTAINERD_TTRPC_SERVER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "base/unique_fd.h"

namespace gantry::api {

class TtrpcServer {
 public:
  // A method: the bytes of the request's message against those of the answer's.
  using Handler = std::function<absl::StatusOr<std::string>(absl::string_view request)>;
  // By "package.Service/Method".
  using Methods = std::map<std::string, Handler>;

  explicit TtrpcServer(Methods methods);
  ~TtrpcServer();
  TtrpcServer(const TtrpcServer&) = delete;
  TtrpcServer& operator=(const TtrpcServer&) = delete;

  // Serves a connected, non-blocking socket until its client closes it.
  void Adopt(UniqueFd connection) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Connection {
    UniqueFd fd;
    std::string in;     // what came of frames that are not whole yet
    uint64_t skip = 0;  // bytes of a payload that was too long
    std::string out;    // answers that the socket did not take yet
  };

  void Run();
  // False: close it.
  bool Receive(Connection& connection);
  bool TakeFrames(Connection& connection);
  static bool Flush(Connection& connection);
  // The answer's frame.
  std::string Answer(uint32_t stream, absl::string_view payload) const;

  const Methods methods_;
  const UniqueFd wake_;  // an eventfd: connections were adopted, or the end has come
  absl::Mutex mu_;
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<UniqueFd> adopted_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;
};

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_CONTAINERD_TTRPC_SERVER_H_
