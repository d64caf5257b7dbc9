// A client of gantry.v1 as a build sees it: what its request says, and the messages that follow it.
//
// Files come as a tar, or as listings and contents of what the daemon lacks. Made for one call;
// ends before its stream. Update() and Files() are called before the first Agent().
#ifndef GANTRY_SUPERVISOR_API_GANTRY_BUILD_STREAM_H_
#define GANTRY_SUPERVISOR_API_GANTRY_BUILD_STREAM_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "base/byte_stream.h"
#include "base/unique_fd.h"
#include "proto/gantry/v1/builds.pb.h"
#include "supervisor/api/gantry/context_socket.h"
#include "supervisor/build/build_client.h"

namespace gantry::api::gantry_v1 {

class StreamedBuildClient final : public build::RequestClient {
 public:
  struct Stream {
    // The next message; false at their end and after interrupt(). `patient`: it may be a long time.
    std::function<absl::StatusOr<bool>(v1::BuildRequest&, bool patient)> next;
    std::function<void()> interrupt;
    std::function<absl::Status(v1::BuildResponse)> send;
  };
  // Neither `request` nor `data` is owned. `sockets` is a directory for those by which contents may
  // come; "" for none.
  StreamedBuildClient(const v1::BuildRequest::Open& request, ByteSource& data, Stream stream,
                      std::string sockets = "")
      : RequestClient(request, data),
        request_(request),
        stream_(std::move(stream)),
        sockets_(std::move(sockets)) {}
  ~StreamedBuildClient() override;

  std::string ContextKey(int index) const override;
  absl::Status Update(int index, build::ContextUpdate& update, CancelToken* cancel,
                      const std::function<void(int64_t)>& progress) override;
  absl::StatusOr<UniqueFd> Agent(const std::string& id, CancelToken* cancel) override
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // A connection to an agent of the client: our end of a pair of sockets, and the thread that sends
  // what is written to the other end.
  struct Connection {
    UniqueFd ours;
    std::thread sender;
  };
  // Takes what the client's agents answer, on a thread of its own from the first connection on.
  void TakeAnswers() ABSL_LOCKS_EXCLUDED(mu_);
  void SendFrom(uint32_t number, int ours);
  // `socket` is null unless the contents may come by one.
  absl::Status Want(int index, build::ContextUpdate& update, size_t& wanted,
                    std::unique_ptr<ContextSocket>& socket);

  const v1::BuildRequest::Open& request_;
  const Stream stream_;
  const std::string sockets_;

  absl::Mutex mu_;
  std::map<uint32_t, Connection> connections_ ABSL_GUARDED_BY(mu_);
  std::thread answers_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_BUILD_STREAM_H_
