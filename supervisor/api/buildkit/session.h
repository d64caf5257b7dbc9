// A client's session: a connection on which the client is the server. It gives out files, secrets
// and credentials for builds, and takes their results.
//
// Thread-safe. Sessions are shared by the connection that carries them and by the builds that use
// them; calls on one whose client has gone fail with kUnavailable.
#ifndef GANTRY_SUPERVISOR_API_BUILDKIT_SESSION_H_
#define GANTRY_SUPERVISOR_API_BUILDKIT_SESSION_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/byte_stream.h"
#include "base/unique_fd.h"

namespace grpc {
class Channel;
}
namespace gantry {
class CancelToken;
}
namespace gantry::build {
class ContextUpdate;
}

namespace gantry::api::buildkit {

class PacketStream;

// What a client says when it opens a session.
struct SessionOffer {
  std::string id;
  std::string name;
  std::string shared_key;
  std::vector<std::string> methods;  // "/package.Service/Method"
};

class Session {
 public:
  // `connection` is non-blocking.
  Session(const SessionOffer& offer, UniqueFd connection);

  const std::string& shared_key() const { return shared_key_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  // Methods are compared without regard to case, as their clients send them.
  bool Supports(absl::string_view method) const;

  // What of a directory the client is to send.
  struct Files {
    std::string name;                   // as the client knows the directory: "context"
    std::vector<std::string> paths;     // only these, links followed; empty: all
    std::vector<std::string> excludes;  // patterns of an ignore file
  };
  // Into an empty directory, open as `directory`. Errors: ReceiveFiles().
  absl::Status Receive(const Files& files, int directory, CancelToken* cancel,
                       const std::function<void(int64_t)>& progress);
  // The same into a context that is kept: only contents that have changed are sent. Errors:
  // ReceiveContext().
  absl::Status Update(const Files& files, build::ContextUpdate& update, CancelToken* cancel,
                      const std::function<void(int64_t)>& progress);
  // What the client was given on its standard input. `consume` reads it as far as it wants.
  absl::Status Pull(const std::string& path, CancelToken* cancel,
                    const std::function<absl::Status(ByteSource&)>& consume);
  // kNotFound: the client has none of that id, or none at all.
  absl::StatusOr<std::string> Secret(const std::string& id, CancelToken* cancel);
  struct Credentials {
    std::string username;
    std::string secret;  // without a user name it is an identity token
  };
  absl::StatusOr<Credentials> CredentialsFor(const std::string& host, CancelToken* cancel);
  // The files beneath an open directory, for the build's exporter of that number. Errors:
  // SendFiles(). kNotFound: the client takes no files.
  absl::Status SendTree(int exporter, int directory, CancelToken* cancel);
  // A file that the client writes to where its user asked for it. Destroyed before Close(): the
  // client is told that it is not whole.
  class Output : public ByteSink {
   public:
    // The client has all of it.
    virtual absl::Status Close() = 0;
  };
  // The output of the build's exporter of that number. kNotFound: the client takes no files.
  absl::StatusOr<std::unique_ptr<Output>> OpenOutput(int exporter, CancelToken* cancel);

 private:
  absl::Status Transfer(const Files& files, CancelToken* cancel,
                        const std::function<absl::Status(PacketStream&)>& receive);

  const std::string shared_key_;
  const std::set<std::string> methods_;
  const std::shared_ptr<grpc::Channel> channel_;
};

// Those that are open, by id.
class Sessions {
 public:
  // Serves the session until its client leaves. kAlreadyExists: one of that id is open.
  absl::Status Serve(const SessionOffer& offer, UniqueFd connection);
  // Waits for one that is about to be opened. kNotFound: there was none within `patience`.
  absl::StatusOr<std::shared_ptr<Session>> Find(const std::string& id, CancelToken* cancel,
                                                absl::Duration patience = absl::Seconds(10));

 private:
  absl::Mutex mu_;
  // Null: one is being made.
  std::map<std::string, std::shared_ptr<Session>> sessions_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::api::buildkit

#endif  // GANTRY_SUPERVISOR_API_BUILDKIT_SESSION_H_
