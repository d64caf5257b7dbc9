// Plays the supervisor for tests of the real gantry-shim with real runtimes: private directory,
// bundle, zygote, gRPC stub.
//
// Everything lives below one temporary directory and one cgroup path; the destructor checks that
// nothing of it is left.
#ifndef GANTRY_SHIM_SHIM_TESTBED_H_
#define GANTRY_SHIM_SHIM_TESTBED_H_

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

#include "base/unique_fd.h"
#include "proto/shim/v1/shim.grpc.pb.h"
#include "proto/shim/v1/shim.pb.h"

namespace gantry::shim {

// "" when this machine can run the tests, otherwise why not.
std::string WhyRealRuntimesCannotRun(const std::string& runtime);

// Waits for a condition without a fixed sleep; false after `timeout`.
bool Eventually(const std::function<bool()>& condition, absl::Duration timeout = absl::Seconds(10));

// One private mount for all bundles of the test program; made at the first use, undone at its end.
class TestState {
 public:
  static TestState& Get();
  ~TestState();
  const std::string& path() const { return path_; }
  const std::string& shim_program() const { return shim_program_; }
  // Starts the zygote if none runs.
  int zygote_socket();
  pid_t zygote_pid() const { return zygote_pid_; }
  void KillZygote();

 private:
  TestState();
  std::string path_;
  std::string shim_program_;
  UniqueFd zygote_;
  pid_t zygote_pid_ = 0;
};

class TestContainer {
 public:
  // Writes a bundle with a busybox root whose init is `args`. `runtime` is "crun" or "runc".
  TestContainer(const std::string& runtime, std::vector<std::string> args);
  // Ends what still runs, and fails the test on leftovers.
  ~TestContainer();
  TestContainer(const TestContainer&) = delete;
  TestContainer& operator=(const TestContainer&) = delete;

  // To be changed before Launch().
  nlohmann::json spec;
  v1::CreateRequest create;

  // Through the zygote, or directly.
  void Launch(bool zygote = true);
  // A further connection to the same shim.
  std::unique_ptr<v1::Shim::Stub> Connect() const;
  v1::Shim::Stub& stub() { return *stub_; }

  // gRPC errors as absl::Status; 30 s deadline.
  absl::Status Create();
  absl::Status Start(const std::string& exec_id = "");
  // Registers and starts `args` as an exec; streams can be attached to.
  absl::Status Exec(const std::string& exec_id, std::vector<std::string> args,
                    const std::function<void(v1::ExecRequest&)>& edit = nullptr);
  absl::Status Kill(int signal, const std::string& exec_id = "", bool all = false);
  // Exit status, -1 on error.
  int Wait(const std::string& exec_id = "");
  v1::WaitResponse WaitResult(const std::string& exec_id = "");
  absl::Status Delete(const std::string& exec_id = "", bool force = false);
  v1::ProcessState State(const std::string& exec_id = "");
  // Events after `after`, as words ("created", "started", "exited e1 3", ...), until one equals
  // `last`.
  std::vector<std::string> Events(const std::string& last, uint64_t after = 0);

  bool ShimIsAlive() const;
  bool WaitForShimExit(absl::Duration timeout = absl::Seconds(10)) const;
  pid_t shim_pid() const { return shim_pid_; }
  const std::string& bundle() const { return bundle_; }
  const std::string& id() const { return id_; }
  std::string rootfs() const { return bundle_ + "/image"; }
  std::string log_path() const { return bundle_ + "-log.json"; }
  // Texts of the "log" fields of the JSON log, joined.
  std::string LogText() const;

 private:
  std::string id_;
  std::string bundle_;
  std::string socket_;
  std::string cgroup_;
  pid_t shim_pid_ = 0;
  UniqueFd shim_pidfd_;
  std::unique_ptr<v1::Shim::Stub> stub_;
};

// A client attached to one process: what it saw, and how it ended.
class AttachedStreams {
 public:
  AttachedStreams(v1::Shim::Stub& stub, const std::string& exec_id, bool with_stdin = false);
  ~AttachedStreams();

  void Send(const std::string& bytes);
  void CloseStdin();
  void Resize(int width, int height);
  // Reads until the stream ends; the final status.
  grpc::Status ReadToEnd();
  // Reads until what came on stdout contains `text`; false at the end of the stream.
  bool ReadUntil(const std::string& text);

  const std::string& out() const { return out_; }
  const std::string& err() const { return err_; }
  const std::optional<v1::AttachOutput::Exited>& exited() const { return exited_; }
  grpc::ClientContext& context() { return context_; }

 private:
  bool ReadOne();

  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::AttachInput, v1::AttachOutput>> stream_;
  std::string out_;
  std::string err_;
  std::optional<v1::AttachOutput::Exited> exited_;
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_SHIM_TESTBED_H_
