// The connection to one shim's socket, and what its failures mean. Used by ShimClient and its
// streams only.
#ifndef GANTRY_SUPERVISOR_RUNTIME_SHIM_DIALLER_H_
#define GANTRY_SUPERVISOR_RUNTIME_SHIM_DIALLER_H_

#include <grpc/support/time.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/grpcpp.h"

#include "proto/shim/v1/shim.grpc.pb.h"

namespace gantry::runtime {

namespace pb = ::gantry::shim::v1;

// The code as it is, the message after `what`. A connection that has ended or cannot be made is
// kUnavailable with words of ours: gRPC's would be taken for the connection to gantryd.
absl::Status ToAbsl(const grpc::Status& status, absl::string_view what);

// From now on, as gRPC counts time.
gpr_timespec After(absl::Duration duration);

// Whether a process listens at a socket. None does once it is dead, however recently.
bool SomebodyListens(const std::string& path);

// One connection. As long as a call holds it, it stays.
struct Link {
  explicit Link(std::shared_ptr<grpc::Channel> made)
      : channel(std::move(made)), stub(pb::Shim::NewStub(channel)) {}
  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<pb::Shim::Stub> stub;
};

// The connection to a shim's socket, made anew after it was lost. Thread-safe.
class ShimDialler {
 public:
  explicit ShimDialler(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }

  std::shared_ptr<Link> Get();
  // A call on it failed in a way that may mean that it is broken.
  void Lost(const std::shared_ptr<Link>& link);

 private:
  std::shared_ptr<grpc::Channel> Dial() const;

  const std::string path_;
  absl::Mutex mu_;
  std::shared_ptr<Link> link_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::runtime

#endif  // GANTRY_SUPERVISOR_RUNTIME_SHIM_DIALLER_H_
