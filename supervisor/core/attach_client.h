// A client of a process's streams, for tests: reads all there is and keeps it. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_ATTACH_CLIENT_H_
#define GANTRY_SUPERVISOR_CORE_ATTACH_CLIENT_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "proto/shim/v1/shim.pb.h"
#include "supervisor/runtime/shim_client.h"

namespace gantry::core {

class AttachClient final : public runtime::AttachStream::Handler {
 public:
  ~AttachClient() override {
    std::unique_ptr<runtime::AttachStream> stream;
    absl::MutexLock lock(&mu_);
    stream = std::move(stream_);
    mu_.Unlock();  // the stream's end waits for a running call, which takes this lock
    stream.reset();
    mu_.Lock();
  }

  // The stream, which may have called this already.
  void Use(std::unique_ptr<runtime::AttachStream> stream) {
    absl::MutexLock lock(&mu_);
    stream_ = std::move(stream);
    if (std::exchange(read_wanted_, false)) stream_->Read();
  }
  void Write(const std::string& bytes) {
    shim::v1::AttachInput input;
    input.set_stdin(bytes);
    absl::MutexLock lock(&mu_);
    stream_->Write(std::move(input));
  }

  void OnOutput(shim::v1::AttachOutput output) override {
    absl::MutexLock lock(&mu_);
    if (output.has_attached()) attached_ = true;
    text_ += output.stdout();
    if (output.has_exited()) {
      exit_code_ = output.exited().exit_status();
    } else if (stream_ != nullptr) {
      stream_->Read();
    } else {
      read_wanted_ = true;
    }
  }
  void OnWritable() override {}
  void OnDone(const absl::Status&) override {}

  std::string text() const {
    absl::MutexLock lock(&mu_);
    return text_;
  }
  bool attached() const {
    absl::MutexLock lock(&mu_);
    return attached_;
  }
  std::optional<uint32_t> exit_code() const {
    absl::MutexLock lock(&mu_);
    return exit_code_;
  }

 private:
  mutable absl::Mutex mu_;
  std::unique_ptr<runtime::AttachStream> stream_ ABSL_GUARDED_BY(mu_);
  std::string text_ ABSL_GUARDED_BY(mu_);
  std::optional<uint32_t> exit_code_ ABSL_GUARDED_BY(mu_);
  bool attached_ ABSL_GUARDED_BY(mu_) = false;
  bool read_wanted_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_ATTACH_CLIENT_H_
