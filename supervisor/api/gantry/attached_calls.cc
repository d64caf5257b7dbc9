#include "supervisor/api/gantry/attached_calls.h"

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "base/engine/proto_time.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/containers.grpc.pb.h"
#include "supervisor/api/gantry/attach_reactor.h"
#include "supervisor/core/container_lifecycle.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/container_streams.h"
#include "supervisor/core/container_wait.h"
#include "supervisor/core/exec_service.h"
#include "supervisor/core/log_reader.h"

namespace gantry::api::gantry_v1 {
namespace {

using engine::FromProto;

v1::AttachInput::Open AttachAll(const std::string& container, const v1::ContainerConfig& config) {
  v1::AttachInput::Open open;
  open.set_container(container);
  open.set_stdin(config.attach_stdin());
  open.set_stdout(config.attach_stdout());
  open.set_stderr(config.attach_stderr());
  return open;
}

class RunReactor final : public AttachReactor<v1::RunInput, v1::RunOutput> {
 public:
  RunReactor(grpc::CallbackServerContext* context, const ContainersParts& parts, Lane& lane)
      : AttachReactor(context, lane), parts_(parts) {}

 protected:
  void Begin(const v1::RunInput& input) override {
    const v1::RunInput::Open& open = input.open();
    v1::CreateContainerRequest create;
    create.set_name(open.name());
    *create.mutable_config() = open.config();
    auto created = parts_.lifecycle->Create(call(), create, core::CreateFor::kRun);
    if (!created.ok()) return End(created.status());
    id_ = created->id();
    v1::RunOutput output;
    *output.mutable_created() = *std::move(created);
    Post(std::move(output));
    const absl::Status status = open.detach() ? StartDetached() : StartConnected(open.config());
    if (status.ok()) return;
    if (open.config().auto_remove()) RemoveFailed();
    End(status);
  }

  void Exited(const v1::ProcessExited& exited) override {
    // Before the client is answered the exit is in the records, and the container is gone if that
    // was asked for. The call's own token may be cancelled by now; the records are settled all the
    // same.
    core::CallContext context = call();
    context.cancel = nullptr;
    const absl::StatusOr<bool> removed = parts_.wait->SettleExit(context, id_);
    v1::RunOutput output;
    *output.mutable_exited() = exited;
    Post(std::move(output));
    if (removed.ok() && *removed) {
      v1::RunOutput gone;
      gone.set_removed(true);
      Post(std::move(gone));
    }
    End(absl::OkStatus());
  }

  void Signal(const std::string& signal) override {
    // The process may have ended meanwhile; its exit tells.
    (void)parts_.lifecycle->Kill(call(), id_, signal);
  }

 private:
  absl::Status StartDetached() {
    v1::StartContainerRequest request;
    request.set_container(id_);
    GANTRY_RETURN_IF_ERROR(parts_.lifecycle->Start(call(), request).status());
    v1::RunOutput output;
    output.mutable_started();
    Post(std::move(output));
    End(absl::OkStatus());
    return absl::OkStatus();
  }

  absl::Status StartConnected(const v1::ContainerConfig& config) {
    GANTRY_ASSIGN_OR_RETURN(
        core::ContainerStreams::ConnectedStart start,
        parts_.streams->StartConnected(call(), AttachAll(id_, config), this, [this] {
          v1::RunOutput output;
          output.mutable_attached();
          Post(std::move(output));
        }));
    v1::RunOutput started;
    started.mutable_started()->set_pid(start.pid);
    Post(std::move(started));
    Connected(std::move(start.stream));
    return absl::OkStatus();
  }

  void RemoveFailed() {
    v1::RemoveContainerRequest request;
    request.set_container(id_);
    request.set_force(true);
    core::CallContext context = call();
    context.cancel = nullptr;
    (void)parts_.lifecycle->Remove(context, request);
  }

  const ContainersParts& parts_;
  std::string id_;  // set in Begin(), before anything else can ask
};

class ContainerAttachReactor final : public AttachReactor<v1::AttachInput, v1::AttachOutput> {
 public:
  ContainerAttachReactor(grpc::CallbackServerContext* context, const ContainersParts& parts,
                         Lane& lane)
      : AttachReactor(context, lane), parts_(parts) {}

 protected:
  void Begin(const v1::AttachInput& input) override {
    const v1::AttachInput::Open& open = input.open();
    auto id = parts_.records->ResolveId(call(), open.container());
    if (!id.ok()) return End(id.status());
    id_ = *std::move(id);
    if (open.wait_for_start()) return AwaitStart(open);
    const absl::Status status = open.start() ? StartConnected(open) : Join(open);
    if (!status.ok()) End(status);
  }

  void Exited(const v1::ProcessExited& exited) override {
    core::CallContext context = call();
    context.cancel = nullptr;
    (void)parts_.wait->SettleExit(context, id_);
    v1::AttachOutput output;
    *output.mutable_exited() = exited;
    Post(std::move(output));
    End(absl::OkStatus());
  }

  void Signal(const std::string& signal) override {
    (void)parts_.lifecycle->Kill(call(), id_, signal);
  }

 private:
  absl::Status StartConnected(v1::AttachInput::Open open) {
    open.set_container(id_);
    GANTRY_ASSIGN_OR_RETURN(
        core::ContainerStreams::ConnectedStart start,
        parts_.streams->StartConnected(call(), open, this, [this] { SendAttached(); }));
    v1::AttachOutput started;
    started.mutable_started()->set_pid(start.pid);
    Post(std::move(started));
    Connected(std::move(start.stream));
    return absl::OkStatus();
  }

  // The next start of the container connects the streams. No thread waits for it.
  void AwaitStart(v1::AttachInput::Open open) {
    open.set_container(id_);
    std::function<void()> give_up = parts_.streams->AttachAtStart(
        call(), open, this,
        [this,
         self = shared_from_this()](absl::StatusOr<std::unique_ptr<runtime::AttachStream>> stream) {
          if (!stream.ok()) return End(stream.status());
          SendAttachedOnce();
          Connected(*std::move(stream));
        });
    SendAttachedOnce();
    {
      absl::MutexLock lock(&mu_);
      if (!gone_) give_up_ = std::exchange(give_up, nullptr);
    }
    if (give_up) give_up();
  }

  void Withdraw() override {
    std::function<void()> give_up;
    {
      absl::MutexLock lock(&mu_);
      give_up = std::exchange(give_up_, nullptr);
    }
    if (give_up) give_up();
  }

  absl::Status Join(const v1::AttachInput::Open& open) {
    GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<runtime::AttachStream> stream,
                            parts_.streams->Attach(call(), open, this));
    GANTRY_RETURN_IF_ERROR(WaitAttached());
    if (open.logs()) {
      core::LogQuery query;
      query.want_stdout = open.stdout();
      query.want_stderr = open.stderr();
      query.until = absl::Now();
      GANTRY_RETURN_IF_ERROR(
          parts_.streams->Logs(call(), id_, query, [this](const core::LogEntry& entry) {
            v1::AttachOutput output;
            entry.is_stderr ? output.set_stderr(entry.text) : output.set_stdout(entry.text);
            return Send(std::move(output));
          }));
    }
    SendAttached();
    Connected(std::move(stream));
    return absl::OkStatus();
  }

  void SendAttachedOnce() {
    if (!attached_sent_.test_and_set()) SendAttached();
  }

  void SendAttached() {
    v1::AttachOutput output;
    output.mutable_attached();
    Post(std::move(output));
  }

  const ContainersParts& parts_;
  std::string id_;                                      // set in Begin()
  std::function<void()> give_up_ ABSL_GUARDED_BY(mu_);  // while it waits for the start
  std::atomic_flag attached_sent_ = ATOMIC_FLAG_INIT;
};

class ExecReactor final : public AttachReactor<v1::ExecInput, v1::ExecOutput> {
 public:
  ExecReactor(grpc::CallbackServerContext* context, const ContainersParts& parts, Lane& lane)
      : AttachReactor(context, lane), parts_(parts) {}

 protected:
  void Begin(const v1::ExecInput& input) override {
    const v1::ExecInput::Open& open = input.open();
    container_ = open.container();
    auto started = parts_.execs->Exec(call(), open, open.detach() ? nullptr : this);
    if (!started.ok()) return End(started.status());
    exec_id_ = started->exec_id;
    if (!open.detach()) {
      absl::MutexLock lock(&mu_);
      attached_exec_ = {started->container_id, started->exec_id};
    }
    v1::ExecOutput output;
    output.mutable_started()->set_exec_id(exec_id_);
    output.mutable_started()->set_pid(started->pid);
    Post(std::move(output));
    if (open.detach()) return End(absl::OkStatus());
    Connected(std::move(started->stream));
    EndIfAbandoned();
  }

  void Withdraw() override {
    Later([this, self = shared_from_this()] { EndIfAbandoned(); });
  }

  void Exited(const v1::ProcessExited& exited) override {
    // A client that hears of the end finds it by the exec's id.
    parts_.execs->NoteExit(call().ns(), exec_id_, exited.exit_code(),
                           FromProto(exited.exited_at()));
    v1::ExecOutput output;
    *output.mutable_exited() = exited;
    Post(std::move(output));
    End(absl::OkStatus());
  }

  void Signal(const std::string& signal) override {
    (void)parts_.execs->SignalExec(call(), container_, exec_id_, signal);
  }

 private:
  // Whichever is last, the start of the process or the client's departure, finds both.
  void EndIfAbandoned() {
    std::pair<std::string, std::string> exec;
    {
      absl::MutexLock lock(&mu_);
      if (!abandoned()) return;
      exec.swap(attached_exec_);
    }
    parts_.execs->ClientLeft(call().ns(), exec.first, exec.second);
  }

  const ContainersParts& parts_;
  std::string container_;
  std::string exec_id_;
  // Container and id, of an exec with a client that is started.
  std::pair<std::string, std::string> attached_exec_ ABSL_GUARDED_BY(mu_);
};

template <class Reactor>
Reactor* OpenReactor(grpc::CallbackServerContext* context, const ContainersParts& parts,
                     Lane& lane) {
  auto reactor = std::make_shared<Reactor>(context, parts, lane);
  reactor->Open();
  return reactor.get();
}

}  // namespace

grpc::ServerBidiReactor<v1::RunInput, v1::RunOutput>* NewRunCall(
    grpc::CallbackServerContext* context, const ContainersParts& parts, Lane& lane) {
  return OpenReactor<RunReactor>(context, parts, lane);
}

grpc::ServerBidiReactor<v1::AttachInput, v1::AttachOutput>* NewAttachCall(
    grpc::CallbackServerContext* context, const ContainersParts& parts, Lane& lane) {
  return OpenReactor<ContainerAttachReactor>(context, parts, lane);
}

grpc::ServerBidiReactor<v1::ExecInput, v1::ExecOutput>* NewExecCall(
    grpc::CallbackServerContext* context, const ContainersParts& parts, Lane& lane) {
  return OpenReactor<ExecReactor>(context, parts, lane);
}

}  // namespace gantry::api::gantry_v1
