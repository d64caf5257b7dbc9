// The connection of one plugin: over one socket, ttrpc both ways. On one logical connection the
// plugin serves nri.pkg.api.v1alpha1.Plugin, on the other this side serves Runtime.
//
// What the peer sends is bounded: frames of at most 4 MiB, few requests at a time. What breaks the
// rules, or does not take what is sent to it, loses the connection; calls that wait are answered
// then.
//
// Life: construct -> Call() from any thread -> Close() or the peer's end -> destruction, which
// waits for the handlers that run. Thread-safe.
// Wire: a header of two u32 (big endian), the logical connection's id and a length, before each
// piece of the ttrpc frames of base/ttrpc_frame.h.
#ifndef GANTRY_SUPERVISOR_NRI_PLUGIN_LINK_H_
#define GANTRY_SUPERVISOR_NRI_PLUGIN_LINK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/executor.h"
#include "base/unique_fd.h"

namespace gantry::nri {

class PluginLink {
 public:
  // A method that the plugin may call: the request's message against the answer's. Runs on a thread
  // of the link's own, one at a time.
  using Handler = std::function<absl::StatusOr<std::string>(absl::string_view request)>;
  struct Hooks {
    std::map<std::string, Handler> methods;  // by "package.Service/Method"
    // Once, when no more calls are answered. On the link's thread; must not destroy the link.
    std::function<void()> closed;
  };

  // What became of a call. Without an answer the connection is of no use any more: the plugin is
  // gone, or did not answer in time.
  struct Result {
    bool answered = false;
    absl::StatusOr<std::string> message = absl::UnavailableError("the plugin is gone");
  };

  // `socket` is connected. The hooks are not called before Start().
  explicit PluginLink(UniqueFd socket);
  ~PluginLink();
  PluginLink(const PluginLink&) = delete;
  PluginLink& operator=(const PluginLink&) = delete;

  // Once. kResourceExhausted: there are no more threads.
  absl::Status Start(Hooks hooks);

  // Calls "nri.pkg.api.v1alpha1.Plugin/<method>" and waits.
  Result Call(absl::string_view method, absl::string_view message, absl::Duration timeout);

  // Idempotent.
  void Close();
  bool closed() const;

 private:
  // What came of one logical connection and is not a whole frame yet.
  using Pieces = std::map<uint32_t, std::string>;

  void Run();
  // False: the connection is over.
  bool Receive();
  bool TakePieces();
  bool TakeFrames(uint32_t connection, std::string& bytes);
  bool Send();
  void Answer(uint32_t stream, absl::string_view payload);
  // Frames of the logical connection, cut as the peer can take them.
  void Queue(uint32_t connection, const std::string& frame) ABSL_LOCKS_EXCLUDED(mu_);
  void Wake();

  const UniqueFd socket_;
  const UniqueFd wake_;  // an eventfd: there is something to send, or the end has come
  Hooks hooks_;
  std::unique_ptr<Executor> requests_;
  std::thread thread_;

  // Of the thread alone.
  std::string in_;
  Pieces pieces_;

  mutable absl::Mutex mu_;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::string out_ ABSL_GUARDED_BY(mu_);
  uint32_t next_stream_ ABSL_GUARDED_BY(mu_) = 1;
  int serving_ ABSL_GUARDED_BY(mu_) = 0;  // requests of the plugin that have no answer yet
  std::map<uint32_t, Result*> waiting_ ABSL_GUARDED_BY(mu_);  // by stream
};

}  // namespace gantry::nri

#endif  // GANTRY_SUPERVISOR_NRI_PLUGIN_LINK_H_
