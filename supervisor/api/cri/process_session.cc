#include "supervisor/api/cri/process_session.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/oci/json_document.h"

namespace gantry::api::cri {
namespace {

using nlohmann::json;

constexpr size_t kMaxSizeText = 4096;  // of an incomplete message with a terminal's size

std::string SuccessText() {
  return oci::PrintJson(json{{"metadata", json::object()}, {"status", "Success"}});
}

std::string ExitWords(uint32_t code) {
  return absl::StrCat("command terminated with non-zero exit code: exit status ", code);
}

std::string ExitText(uint32_t code) {
  const json cause = {{"reason", "ExitCode"}, {"message", absl::StrCat(code)}};
  return oci::PrintJson(json{{"metadata", json::object()},
                             {"status", "Failure"},
                             {"reason", "NonZeroExitCode"},
                             {"message", ExitWords(code)},
                             {"details", {{"causes", json::array({cause})}}}});
}

std::string FailureText(absl::string_view message) {
  return oci::PrintJson(json{{"metadata", json::object()},
                             {"status", "Failure"},
                             {"reason", "InternalError"},
                             {"message", std::string(message)},
                             {"code", 500}});
}

// What the shim's stream says, from gRPC's threads to the session's. Thread-safe.
class Inbox : public runtime::AttachStream::Handler {
 public:
  Inbox() : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  int wake() const { return wake_.get(); }

  void OnOutput(shim::v1::AttachOutput output) override {
    absl::MutexLock lock(&mu_);
    output_ = std::move(output);
    eventfd_write(wake_.get(), 1);
  }
  void OnWritable() override {
    absl::MutexLock lock(&mu_);
    writable_ = true;
    eventfd_write(wake_.get(), 1);
  }
  void OnDone(const absl::Status& status) override {
    absl::MutexLock lock(&mu_);
    done_ = status;
    eventfd_write(wake_.get(), 1);
  }

  // One is asked for at a time, so there is at most one.
  std::optional<shim::v1::AttachOutput> TakeOutput() {
    absl::MutexLock lock(&mu_);
    eventfd_t count = 0;
    eventfd_read(wake_.get(), &count);
    return std::exchange(output_, std::nullopt);
  }
  bool TakeWritable() {
    absl::MutexLock lock(&mu_);
    return std::exchange(writable_, false);
  }
  std::optional<absl::Status> done() const {
    absl::MutexLock lock(&mu_);
    return done_;
  }

 private:
  const UniqueFd wake_;
  mutable absl::Mutex mu_;
  std::optional<shim::v1::AttachOutput> output_ ABSL_GUARDED_BY(mu_);
  bool writable_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<absl::Status> done_ ABSL_GUARDED_BY(mu_);
};

class ProcessSession {
 public:
  ProcessSession(LinkConnection& connection, const LinkPurpose& purpose, bool is_exec)
      : connection_(connection), link_(connection.link()), purpose_(purpose), is_exec_(is_exec) {}

  void Run(absl::Duration creation_time, const OpenProcess& open) {
    if (inbox_.wake() < 0 || !Collect(creation_time).ok()) return;
    absl::StatusOr<OpenedProcess> opened = open(&inbox_);
    if (!opened.ok()) {
      Fail(opened.status());
      return;
    }
    stream_ = std::move(opened->stream);
    const absl::Status served = Serve();
    // Before the inbox ends: this waits for the stream's last call.
    // Input that ends with its client is the shim's decision where the process is a container's.
    if (!served.ok() && is_exec_ && !purpose_.tty && purpose_.in) CloseStdin();
    if (!served.ok()) stream_->Cancel();
    stream_.reset();
    if (!served.ok() && opened->client_left) opened->client_left();
  }

 private:
  // Waits for the channels that the purpose has.
  absl::Status Collect(absl::Duration creation_time) {
    std::vector<std::string> wanted = {"error"};
    if (purpose_.in) wanted.emplace_back("stdin");
    if (purpose_.out) wanted.emplace_back("stdout");
    if (purpose_.err) wanted.emplace_back("stderr");
    if (purpose_.tty && link_.has_resize()) wanted.emplace_back("resize");
    const absl::Duration deadline = Clock::Real().Monotonic() + creation_time;
    const auto complete = [&] {
      for (const std::string& role : wanted) {
        if (!channels_.contains(role)) return false;
      }
      return true;
    };
    while (true) {
      std::vector<LinkEvent> events;
      std::vector<pollfd> none;
      GANTRY_RETURN_IF_ERROR(connection_.Wait(true, deadline, none, events));
      for (LinkEvent& event : events) {
        if (event.kind == LinkEvent::Kind::kOpened) {
          Open(event);
        } else {
          early_.push_back(std::move(event));
        }
      }
      if (complete()) return absl::OkStatus();
      if (Clock::Real().Monotonic() >= deadline)
        return absl::DeadlineExceededError("the client did not open its streams in time");
    }
  }

  void Open(const LinkEvent& event) {
    const bool wanted = event.role == "error" || (event.role == "stdin" && purpose_.in) ||
                        (event.role == "stdout" && purpose_.out) ||
                        (event.role == "stderr" && purpose_.err) ||
                        (event.role == "resize" && purpose_.tty);
    if (!wanted || channels_.contains(event.role)) {
      link_.Refuse(event.channel);
      return;
    }
    channels_[event.role] = event.channel;
    roles_[event.channel] = event.role;
    link_.Accept(event.channel);
  }

  // OK: the process has ended, or its streams have, and the client has been told. Else the client
  // has gone.
  absl::Status Serve() {
    GANTRY_RETURN_IF_ERROR(Handle(std::exchange(early_, {})));
    while (true) {
      if (std::optional<shim::v1::AttachOutput> output = inbox_.TakeOutput()) {
        if (output->has_exited()) {
          Succeed(output->exited().exit_status());
          return absl::OkStatus();
        }
        Forward(*output);
        read_wanted_ = true;
      }
      if (inbox_.TakeWritable()) held_ = false;
      if (const std::optional<absl::Status> done = inbox_.done()) {
        Fail(done->ok() ? absl::UnavailableError("the process's streams ended before it did")
                        : *done);
        return absl::OkStatus();
      }
      if (read_wanted_ && !connection_.full()) {
        read_wanted_ = false;
        stream_->Read();
      }
      std::vector<pollfd> more = {{inbox_.wake(), POLLIN, 0}};
      std::vector<LinkEvent> events;
      GANTRY_RETURN_IF_ERROR(connection_.Wait(!held_, absl::InfiniteDuration(), more, events));
      GANTRY_RETURN_IF_ERROR(Handle(std::move(events)));
    }
  }

  absl::Status Handle(std::vector<LinkEvent> events) {
    for (LinkEvent& event : events) {
      if (event.kind == LinkEvent::Kind::kClosed)
        return absl::CancelledError("the client has closed the connection");
      if (event.kind == LinkEvent::Kind::kOpened) {
        link_.Refuse(event.channel);
        continue;
      }
      const auto role = roles_.find(event.channel);
      if (role == roles_.end()) continue;
      if (event.kind == LinkEvent::Kind::kData) {
        const size_t bytes = event.data.size();
        if (role->second == "stdin") WriteStdin(std::move(event.data));
        if (role->second == "resize") Resize(event.data);
        link_.Consumed(event.channel, bytes);
      } else if (role->second == "stdin") {
        CloseStdin();
      }
    }
    return absl::OkStatus();
  }

  void WriteStdin(std::string data) {
    if (stdin_closed_) return;
    shim::v1::AttachInput input;
    input.set_stdin(std::move(data));
    if (!stream_->Write(std::move(input))) held_ = true;
  }

  void CloseStdin() {
    if (std::exchange(stdin_closed_, true)) return;
    // A container's input outlives its clients, unless it was made to end with the first.
    if (!is_exec_) {
      stream_->WritesDone();
      return;
    }
    shim::v1::AttachInput input;
    input.set_close_stdin(true);
    stream_->Write(std::move(input));
  }

  // A sequence of JSON objects, which come in any pieces. Nonsense is dropped: a terminal of the
  // wrong size is no reason to end a session.
  void Resize(const std::string& data) {
    size_text_ += data;
    size_t end;
    while ((end = size_text_.find('}')) != std::string::npos) {
      const std::string one = size_text_.substr(0, end + 1);
      size_text_.erase(0, end + 1);
      const absl::StatusOr<json> size = oci::ParseJson(one, "terminal size");
      if (!size.ok() || !size->is_object()) continue;
      const auto length = [&size](const char* key) -> uint32_t {
        const auto found = size->find(key);
        if (found == size->end() || !found->is_number_unsigned()) return 0;
        const uint64_t value = found->get<uint64_t>();
        return value <= 65535 ? static_cast<uint32_t>(value) : 0;
      };
      shim::v1::AttachInput input;
      input.mutable_resize()->set_width(length("Width"));
      input.mutable_resize()->set_height(length("Height"));
      const bool valid = input.resize().width() > 0 && input.resize().height() > 0;
      // After WritesDone() nothing can be written.
      if (valid && (is_exec_ || !stdin_closed_)) stream_->Write(std::move(input));
    }
    if (size_text_.size() > kMaxSizeText) size_text_.clear();
  }

  void Forward(const shim::v1::AttachOutput& output) {
    if (output.has_stdout()) SendTo("stdout", output.stdout());
    if (output.has_stderr()) SendTo("stderr", output.stderr());
  }

  void SendTo(const std::string& role, absl::string_view data) {
    const auto found = channels_.find(role);
    if (found != channels_.end()) link_.Send(found->second, data);
  }

  void Succeed(uint32_t exit_code) {
    const bool failed = is_exec_ && exit_code != 0;
    if (link_.has_status()) {
      SendTo("error", failed ? ExitText(exit_code) : SuccessText());
    } else if (failed) {
      SendTo("error", ExitWords(exit_code));
    }
    FinishAll();
  }

  void Fail(const absl::Status& status) {
    SendTo("error",
           link_.has_status() ? FailureText(status.message()) : std::string(status.message()));
    FinishAll();
  }

  void FinishAll() {
    for (const auto& [role, channel] : channels_) {
      if (role != "error") link_.Finish(channel);
    }
    link_.Finish(channels_["error"]);
  }

  LinkConnection& connection_;
  StreamLink& link_;
  const LinkPurpose purpose_;
  const bool is_exec_;

  std::map<std::string, uint32_t> channels_;  // by role
  std::map<uint32_t, std::string> roles_;     // by channel
  std::vector<LinkEvent> early_;              // what came before the process was there
  std::string size_text_;
  bool stdin_closed_ = false;
  bool held_ = false;         // the shim takes no more input for now
  bool read_wanted_ = false;  // opening the stream asks for the first message

  Inbox inbox_;
  std::unique_ptr<runtime::AttachStream> stream_;
};

}  // namespace

void ServeProcess(LinkConnection& connection, const LinkPurpose& purpose,
                  absl::Duration creation_time, bool is_exec, const OpenProcess& open) {
  ProcessSession(connection, purpose, is_exec).Run(creation_time, open);
}

}  // namespace gantry::api::cri
