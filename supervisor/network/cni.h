// Interfaces of pods, made and removed by CNI plugins: programs that are run one after the other
// as a network's configuration says.
//
// The network is the first one, by file name, in the configuration directory (*.conflist, *.conf,
// *.json). The directory is looked at whenever the network is needed, so a change takes effect
// with the next call and a directory may appear later. A file that cannot be read as a network
// makes the network unavailable, rather than the next file's network the pods' one.
//
// An attachment is one interface of one pod (container id and interface name). It is recorded on
// disk, with the configuration and the arguments that it was made with, before the first plugin
// runs, and its result before Add() returns. So after a crash of this process, or a boot of the
// machine, Remove() still runs DEL with what ADD was given, whatever the directory says by then:
// addresses that plugins keep on disk do not leak. A record goes once DEL has succeeded. A DEL that
// fails is repeated with pauses of 1 s to 60 s until it succeeds.
//
// Calls on one attachment run one after the other; Remove() ends an Add() that is under way. Calls
// on different attachments do not wait for each other, except that the plugins' own garbage
// collection is not run beside ADD and DEL. No mutex is held while a plugin runs. Each plugin has
// Options::plugin_timeout and is killed, with its children, when that passes or the call is
// cancelled.
//
// Thread-safe. Spec: CNI 1.1; versions 0.1 to 1.1 of configurations and results are served.
#ifndef GANTRY_SUPERVISOR_NETWORK_CNI_H_
#define GANTRY_SUPERVISOR_NETWORK_CNI_H_

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "supervisor/network/cni_request.h"
#include "supervisor/network/cni_result.h"

namespace gantry {
class CancelToken;
}

namespace gantry::network {

struct CniAttachment {
  enum class State {
    kAdding,  // ADD is under way, or was when the daemon ended
    kAttached,
    kRemoving,  // DEL is under way, or failed and will be repeated
  };
  std::string container_id;
  std::string interface;
  std::string network;
  std::string netns;
  State state = State::kAdding;
  std::string error;  // of the last DEL
};

class Cni {
 public:
  struct Options {
    std::string conf_dir = "/etc/cni/net.d";
    std::vector<std::string> bin_dirs = {"/opt/cni/bin"};  // looked through in this order
    std::string record_dir;                                // of this daemon alone, below its root
    absl::Duration plugin_timeout = absl::Seconds(60);
    // Between repetitions of a DEL that failed: doubled each time, up to the second one.
    absl::Duration first_pause = absl::Seconds(1);
    absl::Duration longest_pause = absl::Seconds(60);
  };

  // Reads the records. An unfinished one (State::kAdding, kRemoving) is removed in the background
  // from now on. Files that are not records are left alone and reported in the log.
  static absl::StatusOr<std::unique_ptr<Cni>> Open(Options options);
  // Kills the plugins that run, and waits for the calls and the background's end.
  ~Cni();
  Cni(const Cni&) = delete;
  Cni& operator=(const Cni&) = delete;

  // Whether a pod can be attached now: OK, or why not, for people. Looks for every plugin's program
  // and asks the plugins' STATUS where the network has version 1.1.
  //   kFailedPrecondition  no network is configured, or its file is wrong, or a program is missing
  //   kUnavailable         a plugin says that it is not ready
  absl::Status Ready(CancelToken* cancel = nullptr);

  // Brings the loopback device up and runs ADD. Repeated for an attachment that exists with the
  // same namespace, it returns the result that there is; one that was left half-made, or was made
  // for another namespace, is removed first. After an error nothing is attached: DEL has been run,
  // or is repeated in the background.
  //   kInvalidArgument     the request; or a plugin refused configuration or arguments
  //   kFailedPrecondition  as Ready(); or the namespace is not there
  //   kUnavailable         a plugin failed; the message has its own words
  //   kDeadlineExceeded    a plugin did not end in time
  //   kCancelled           by `cancel`, by Remove(), or the daemon stops
  absl::StatusOr<CniResult> Add(const CniRequest& request, CancelToken* cancel = nullptr);

  // Runs DEL, for every interface of the pod. OK also when there is none. After an error DEL is
  // repeated in the background until it succeeds, so that a caller may go on with its removal; the
  // namespace may be gone by then.
  absl::Status Remove(const std::string& container_id, CancelToken* cancel = nullptr);

  // Runs CHECK. OK also where the configuration disables it or has a version below 0.4.
  //   kNotFound     not attached
  //   kUnavailable  the interface is not as it was made; the message has the plugin's words
  absl::Status Check(const std::string& container_id, CancelToken* cancel = nullptr);

  // What Add() returned, from memory. kNotFound: not attached.
  absl::StatusOr<CniResult> Result(const std::string& container_id,
                                   const std::string& interface = "eth0") const;
  std::vector<CniAttachment> Attachments() const;

  // Removes, in the background, the attachments of pods that are not in `pods`, then runs the
  // plugins' own garbage collection (GC) where the network has version 1.1. For a start of the
  // daemon, once all pods are known and before the first Add().
  void CollectGarbage(const std::set<std::string>& pods);

  // For people and for CRI's verbose status: the network as JSON, "{}" when there is none, and what
  // became of reading it ("OK" or the error).
  std::string ConfigJson();
  std::string LoadStatus();

 private:
  class Work;
  explicit Cni(std::unique_ptr<Work> work);

  const std::unique_ptr<Work> work_;
};

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_CNI_H_
