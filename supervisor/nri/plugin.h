// One plugin: who it is, what it wants to see, and its turn. It is asked one thing at a time.
//
//   construct -> Handshake() -> Synchronize() -> Ask() ... -> gone
//
// A plugin that does not answer in time, or whose connection ends, is gone: nothing is asked any
// more, and whoever waits for it goes on without it.
//
// Thread-safe. Private to the room.
#ifndef GANTRY_SUPERVISOR_NRI_PLUGIN_H_
#define GANTRY_SUPERVISOR_NRI_PLUGIN_H_

#include <google/protobuf/message_lite.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "supervisor/nri/plugin_link.h"
#include "supervisor/nri/wire.h"

namespace gantry::nri {

class Plugin {
 public:
  struct Setup {
    std::string runtime_name;
    std::string runtime_version;
    absl::Duration registration_timeout;
    absl::Duration request_timeout;
    // The text that a plugin is configured with.
    std::function<std::string(const std::string& index, const std::string& name)> config;
    // Unsolicited changes; returns those that failed.
    std::function<wire::UpdateContainersResponse(const std::string& plugin,
                                                 const wire::UpdateContainersRequest& request)>
        update;
    // On a thread of the plugin's link.
    std::function<void()> gone;
  };

  // One that connected by itself says who it is. `process` is that of one that was started here; it
  // ends with the plugin.
  explicit Plugin(UniqueFd socket) : link_(std::move(socket)) {}
  Plugin(UniqueFd socket, std::string index, std::string name, Process process);
  ~Plugin();
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;

  // Waits for the registration, then configures.
  //   kDeadlineExceeded  it does not register, or does not answer
  //   kInvalidArgument   its name, or what it subscribes to
  absl::Status Handshake(const Setup& setup);

  // Shows all there is, in parts, and then what was put off meanwhile; from then on it is asked.
  // Returns the changes that it wants.
  absl::StatusOr<std::vector<wire::ContainerUpdate>> Synchronize(
      const std::vector<wire::PodSandbox>& pods, const std::vector<wire::Container>& containers);

  // "10-name"; "" before it registered.
  std::string full_name() const;
  std::string index() const;
  std::string name() const;
  bool Wants(wire::Event event) const;
  bool gone() const;

  // While it is being synchronized: kWait until that is over, kPutOff leaves the message for later.
  enum class IfBusy { kWait, kPutOff };
  // Asks, in turn, what it subscribed to. OK without `*answered` if it did not, or is gone. Errors
  // are the plugin's own.
  absl::Status Ask(wire::Event event, absl::string_view method,
                   const google::protobuf::MessageLite& request, const wire::StateChangeEvent& old,
                   IfBusy if_busy, google::protobuf::MessageLite* reply, bool* answered);

  // Asks it to end, for as long as one request may take, and ends the connection.
  void Shutdown(absl::Duration patience);
  void Drop(absl::string_view why);

 private:
  enum class State { kConnected, kSynchronizing, kReady, kGone };
  struct PutOff {
    wire::Event event;
    std::string method;
    std::string message;
    std::string old;  // the same, as a state change
  };

  absl::StatusOr<std::string> Register(absl::string_view request);
  // One call, in its turn. OK with `*answered` false: it is gone.
  absl::Status CallInTurn(wire::Event event, absl::string_view method, const std::string& message,
                          const std::string& old, std::string* reply, bool* answered);
  absl::Status SendPutOff() ABSL_LOCKS_EXCLUDED(mu_);

  Setup setup_;

  mutable absl::Mutex mu_;
  State state_ ABSL_GUARDED_BY(mu_) = State::kConnected;
  bool registered_ ABSL_GUARDED_BY(mu_) = false;
  bool launched_ ABSL_GUARDED_BY(mu_) = false;
  bool busy_ ABSL_GUARDED_BY(mu_) = false;  // somebody has the turn
  std::string index_ ABSL_GUARDED_BY(mu_);
  std::string name_ ABSL_GUARDED_BY(mu_);
  uint32_t events_ ABSL_GUARDED_BY(mu_) = 0;
  bool old_ ABSL_GUARDED_BY(mu_) = false;  // knows StateChange() only
  std::vector<PutOff> put_off_ ABSL_GUARDED_BY(mu_);
  Process process_ ABSL_GUARDED_BY(mu_);

  PluginLink link_;  // last: its thread uses the others
};

}  // namespace gantry::nri

#endif  // GANTRY_SUPERVISOR_NRI_PLUGIN_H_
