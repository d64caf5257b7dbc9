// A plugin of NRI for tests: registers itself and answers by functions. What has no function is
// answered with an empty message.
//
// Thread-safe. Functions run on threads of their own and may take their time.
#ifndef GANTRY_SUPERVISOR_NRI_FAKE_PLUGIN_H_
#define GANTRY_SUPERVISOR_NRI_FAKE_PLUGIN_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "supervisor/nri/wire.h"

namespace gantry::nri {

class FakePlugin {
 public:
  using Handler = std::function<absl::StatusOr<std::string>(const std::string& request)>;
  struct Options {
    std::string index = "10";
    std::string name = "fake";
    int32_t events = 0;                       // all
    std::map<std::string, Handler> handlers;  // by method
    bool registers = true;
  };

  // A connection to the socket at `path`.
  static absl::StatusOr<UniqueFd> Connect(const std::string& path);

  FakePlugin(UniqueFd socket, Options options);
  ~FakePlugin();
  FakePlugin(const FakePlugin&) = delete;
  FakePlugin& operator=(const FakePlugin&) = delete;

  // A handler that takes and returns messages.
  template <class Request, class Response>
  static Handler On(std::function<absl::StatusOr<Response>(const Request&)> handle) {
    return [handle = std::move(handle)](const std::string& bytes) -> absl::StatusOr<std::string> {
      Request request;
      request.ParseFromString(bytes);
      absl::StatusOr<Response> response = handle(request);
      if (!response.ok()) return response.status();
      return response->SerializeAsString();
    };
  }

  // What RegisterPlugin was answered with; waits for it.
  absl::Status registered();
  // Calls a method of the runtime's service.
  absl::StatusOr<std::string> CallRuntime(const std::string& method, const std::string& message);
  // Methods that were called, with their requests, in order.
  std::vector<std::pair<std::string, std::string>> calls() const;
  int count(const std::string& method) const;
  // False: it was not called so often within the time.
  bool WaitFor(const std::string& method, int count = 1,
               absl::Duration limit = absl::Seconds(10)) const;
  bool WaitClosed(absl::Duration limit = absl::Seconds(10)) const;
  // As a plugin that dies.
  void Close();

 private:
  void Run();
  bool TakeFrames(uint32_t connection, std::string& bytes);
  void Send(uint32_t connection, uint32_t stream, uint8_t type, const std::string& payload);

  const UniqueFd socket_;
  const Options options_;
  mutable absl::Mutex mu_;
  absl::Mutex send_mu_;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  uint32_t next_stream_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<uint32_t, absl::StatusOr<std::string>> answers_ ABSL_GUARDED_BY(mu_);
  std::vector<std::pair<std::string, std::string>> calls_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mu_);
  absl::Status registered_ ABSL_GUARDED_BY(mu_);
  std::thread reader_;
  std::thread registering_;
};

}  // namespace gantry::nri

#endif  // GANTRY_SUPERVISOR_NRI_FAKE_PLUGIN_H_
