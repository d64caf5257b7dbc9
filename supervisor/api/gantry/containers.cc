#include "supervisor/api/gantry/containers.h"

#include <map>
#include <string>
#include <utility>

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "base/executor.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/containers.grpc.pb.h"
#include "supervisor/api/gantry/attach_reactor.h"
#include "supervisor/api/gantry/call.h"
#include "supervisor/api/gantry/work_call.h"
#include "supervisor/api/gantry/work_stream.h"
#include "supervisor/api/grpc_status.h"
#include "supervisor/core/container_files.h"
#include "supervisor/core/container_lifecycle.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/container_streams.h"
#include "supervisor/core/container_view.h"
#include "supervisor/core/container_wait.h"
#include "supervisor/core/exec_service.h"
#include "supervisor/core/log_reader.h"

namespace gantry::api::gantry_v1 {
namespace {

constexpr absl::Duration kStatsPeriod = absl::Seconds(1);
constexpr size_t kLogBatchBytes = 64 << 10;

absl::Time FromProto(const google::protobuf::Timestamp& t) {
  return absl::FromUnixSeconds(t.seconds()) + absl::Nanoseconds(t.nanos());
}

void ToProto(absl::Time time, google::protobuf::Timestamp* t) {
  t->set_seconds(absl::ToUnixSeconds(time));
  t->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(t->seconds()))));
}

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
  RunReactor(grpc::CallbackServerContext* context, const ContainersParts& parts, Executor& executor)
      : AttachReactor(context, executor), parts_(parts) {}

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
    Send(std::move(output));
    const absl::Status status = open.detach() ? StartDetached() : StartConnected(open.config());
    if (status.ok()) return;
    if (open.config().auto_remove()) RemoveFailed();
    End(status);
  }

  void Exited(const v1::ProcessExited& exited) override {
    // Whoever hears of the exit finds it in the records, and the container gone if that was asked for. The call's own token may be
    // cancelled by now: that is no reason to leave the records behind.
    core::CallContext context = call();
    context.cancel = nullptr;
    const absl::StatusOr<bool> removed = parts_.wait->SettleExit(context, id_);
    v1::RunOutput output;
    *output.mutable_exited() = exited;
    Send(std::move(output));
    if (removed.ok() && *removed) {
      v1::RunOutput gone;
      gone.set_removed(true);
      Send(std::move(gone));
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
    Send(std::move(output));
    End(absl::OkStatus());
    return absl::OkStatus();
  }

  absl::Status StartConnected(const v1::ContainerConfig& config) {
    GANTRY_ASSIGN_OR_RETURN(
        core::ContainerStreams::ConnectedStart start,
        parts_.streams->StartConnected(call(), AttachAll(id_, config), this, [this] {
          v1::RunOutput output;
          output.mutable_attached();
          Send(std::move(output));
        }));
    v1::RunOutput started;
    started.mutable_started()->set_pid(start.pid);
    Send(std::move(started));
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
                         Executor& executor)
      : AttachReactor(context, executor), parts_(parts) {}

 protected:
  void Begin(const v1::AttachInput& input) override {
    const v1::AttachInput::Open& open = input.open();
    auto id = parts_.records->ResolveId(call(), open.container());
    if (!id.ok()) return End(id.status());
    id_ = *std::move(id);
    const absl::Status status = open.start() ? StartConnected(open) : Join(open);
    if (!status.ok()) End(status);
  }

  void Exited(const v1::ProcessExited& exited) override {
    core::CallContext context = call();
    context.cancel = nullptr;
    (void)parts_.wait->SettleExit(context, id_);
    v1::AttachOutput output;
    *output.mutable_exited() = exited;
    Send(std::move(output));
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
    Send(std::move(started));
    Connected(std::move(start.stream));
    return absl::OkStatus();
  }

  absl::Status Join(const v1::AttachInput::Open& open) {
    GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<runtime::AttachStream> stream,
                            parts_.streams->Attach(call(), open, this));
    GANTRY_RETURN_IF_ERROR(WaitAttached());
    if (open.logs()) GANTRY_RETURN_IF_ERROR(SendLogs(open));
    SendAttached();
    Connected(std::move(stream));
    return absl::OkStatus();
  }

  void SendAttached() {
    v1::AttachOutput output;
    output.mutable_attached();
    Send(std::move(output));
  }

  absl::Status SendLogs(const v1::AttachInput::Open& open) {
    GANTRY_ASSIGN_OR_RETURN(std::string path, parts_.streams->LogPath(call(), id_));
    core::LogQuery query;
    query.want_stdout = open.stdout();
    query.want_stderr = open.stderr();
    query.until = absl::Now();
    query.cancel = &cancel_;
    return core::ReadLog(path, query, [this](const core::LogEntry& entry) {
      v1::AttachOutput output;
      entry.is_stderr ? output.set_stderr(entry.text) : output.set_stdout(entry.text);
      return SendWhenRoom(std::move(output));
    });
  }

  const ContainersParts& parts_;
  std::string id_;
};

class ExecReactor final : public AttachReactor<v1::ExecInput, v1::ExecOutput> {
 public:
  ExecReactor(grpc::CallbackServerContext* context, const ContainersParts& parts,
              Executor& executor)
      : AttachReactor(context, executor), parts_(parts) {}

 protected:
  void Begin(const v1::ExecInput& input) override {
    const v1::ExecInput::Open& open = input.open();
    container_ = open.container();
    auto started = parts_.execs->Exec(call(), open, open.detach() ? nullptr : this);
    if (!started.ok()) return End(started.status());
    exec_id_ = started->exec_id;
    v1::ExecOutput output;
    output.mutable_started()->set_exec_id(exec_id_);
    output.mutable_started()->set_pid(started->pid);
    Send(std::move(output));
    if (open.detach()) return End(absl::OkStatus());
    Connected(std::move(started->stream));
  }

  void Exited(const v1::ProcessExited& exited) override {
    v1::ExecOutput output;
    *output.mutable_exited() = exited;
    Send(std::move(output));
    End(absl::OkStatus());
  }

  void Signal(const std::string& signal) override {
    (void)parts_.execs->SignalExec(call(), container_, exec_id_, signal);
  }

 private:
  const ContainersParts& parts_;
  std::string container_;
  std::string exec_id_;
};

// Waits without a thread.
class WaitReactor final : public grpc::ServerUnaryReactor {
 public:
  static WaitReactor* Start(grpc::CallbackServerContext* context, core::ContainerWait& waits,
                            const v1::WaitContainerRequest& request,
                            v1::WaitContainerResponse* response) {
    auto reactor = std::make_shared<WaitReactor>(context);
    reactor->self_ = reactor;
    reactor->StartSendInitialMetadata();
    std::weak_ptr<WaitReactor> weak = reactor;
    std::function<void()> give_up =
        waits.WaitAsync(reactor->call_, request,
                        [weak, response](absl::StatusOr<v1::WaitContainerResponse> answer) {
                          const std::shared_ptr<WaitReactor> waiting = weak.lock();
                          if (waiting != nullptr) waiting->Answered(std::move(answer), response);
                        });
    WaitReactor* const raw = reactor.get();
    bool cancelled;
    {
      absl::MutexLock lock(&raw->mu_);
      cancelled = raw->cancelled_;
      if (!raw->answered_ && !cancelled) raw->give_up_ = std::move(give_up);
    }
    if (cancelled && give_up) give_up();
    return raw;
  }

  explicit WaitReactor(grpc::CallbackServerContext* context)
      : call_(MakeCallContext(*context, nullptr)) {}

  void OnSendInitialMetadataDone(bool ok) override {}

  void OnCancel() override {
    std::function<void()> give_up;
    {
      absl::MutexLock lock(&mu_);
      cancelled_ = true;
      give_up = std::exchange(give_up_, nullptr);
    }
    if (give_up) give_up();
  }

  void OnDone() override { auto last = std::move(self_); }

 private:
  void Answered(absl::StatusOr<v1::WaitContainerResponse> answer,
                v1::WaitContainerResponse* response) {
    std::function<void()> unused;
    {
      absl::MutexLock lock(&mu_);
      if (std::exchange(answered_, true)) return;
      unused = std::exchange(give_up_, nullptr);
      if (answer.ok()) *response = *answer;
    }
    Finish(ToGrpc(answer.status()));
  }

  const core::CallContext call_;
  std::shared_ptr<WaitReactor> self_;  // until gRPC is done
  absl::Mutex mu_;
  std::function<void()> give_up_ ABSL_GUARDED_BY(mu_);
  bool answered_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
};

bool MergeLogs(v1::LogsResponse& last, v1::LogsResponse& next) {
  if (last.ByteSizeLong() > kLogBatchBytes) return false;
  for (auto& entry : *next.mutable_entries()) *last.add_entries() = std::move(entry);
  return true;
}

// One CopyTo call: its opening message, then its bytes, which are asked for one message at a time.
class CopyToCall final : public grpc::ServerReadReactor<v1::CopyToRequest>, public ByteSource {
 public:
  static CopyToCall* Start(grpc::CallbackServerContext* context, Executor& executor,
                           core::ContainerFiles& files) {
    // NOLINTNEXTLINE(cppcoreguidelines-owning-memory): gRPC's; deleted in OnDone
    auto* call = new CopyToCall(context, executor, files);
    call->StartRead(&call->message_);
    return call;
  }

  void OnReadDone(bool ok) override {
    {
      absl::MutexLock lock(&mu_);
      arrived_ = true;
      arrived_ok_ = ok;
    }
    if (!begun_) {
      begun_ = true;
      if (!executor_.Schedule([this] { Work(); }))
        Finish(ToGrpc(absl::UnavailableError("gantryd is stopping")));
    }
  }
  void OnCancel() override { cancel_.Cancel("the client has gone"); }
  void OnDone() override { delete this; }  // NOLINT(cppcoreguidelines-owning-memory)

  // For the work, on its own thread.
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    while (offset_ == message_.data().size()) {
      offset_ = 0;
      {
        absl::MutexLock lock(&mu_);
        if (!arrived_ok_) return 0;
        arrived_ = false;
      }
      StartRead(&message_);
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(&arrived_));
      if (arrived_ok_) continue;
      message_.Clear();
      GANTRY_RETURN_IF_ERROR(cancel_.Check());
      return 0;
    }
    const size_t taken = message_.data().copy(buffer, n, offset_);
    offset_ += taken;
    return taken;
  }

 private:
  CopyToCall(grpc::CallbackServerContext* context, Executor& executor, core::ContainerFiles& files)
      : executor_(executor),
        files_(files),
        cancel_(TimeLeft(*context)),
        call_(MakeCallContext(*context, &cancel_)) {}

  void Work() {
    absl::Status status = absl::InvalidArgumentError("the first message must be `open`");
    if (message_.has_open()) {
      const v1::CopyToRequest open = std::move(message_);
      message_.Clear();
      status = files_.CopyTo(call_, open.open(), *this);
    }
    Finish(ToGrpc(status));
  }

  Executor& executor_;
  core::ContainerFiles& files_;
  CancelToken cancel_;
  const core::CallContext call_;
  v1::CopyToRequest message_;  // gRPC's while a read is under way
  size_t offset_ = 0;
  bool begun_ = false;
  absl::Mutex mu_;
  bool arrived_ ABSL_GUARDED_BY(mu_) = false;
  bool arrived_ok_ ABSL_GUARDED_BY(mu_) = false;
};

class ContainersDoor final : public v1::Containers::CallbackService {
 public:
  ContainersDoor(const ContainersParts& parts, Executor& work, Executor& followers)
      : parts_(parts), work_(work), followers_(followers) {}

  grpc::ServerUnaryReactor* Create(grpc::CallbackServerContext* context,
                                   const v1::CreateContainerRequest* request,
                                   v1::CreateContainerResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return Answer(parts_.lifecycle->Create(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Start(grpc::CallbackServerContext* context,
                                  const v1::StartContainerRequest* request,
                                  v1::StartContainerResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return Answer(parts_.lifecycle->Start(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Stop(grpc::CallbackServerContext* context,
                                 const v1::StopContainerRequest* request,
                                 v1::StopContainerResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return Answer(parts_.lifecycle->Stop(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Kill(grpc::CallbackServerContext* context,
                                 const v1::KillContainerRequest* request,
                                 v1::KillContainerResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return ToGrpc(parts_.lifecycle->Kill(call, request->container(), request->signal()));
    });
  }
  grpc::ServerUnaryReactor* Restart(grpc::CallbackServerContext* context,
                                    const v1::RestartContainerRequest* request,
                                    v1::RestartContainerResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return ToGrpc(parts_.lifecycle->Restart(call, *request));
    });
  }
  grpc::ServerUnaryReactor* Pause(grpc::CallbackServerContext* context,
                                  const v1::PauseContainerRequest* request,
                                  v1::PauseContainerResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return ToGrpc(parts_.lifecycle->Pause(call, request->container()));
    });
  }
  grpc::ServerUnaryReactor* Unpause(grpc::CallbackServerContext* context,
                                    const v1::UnpauseContainerRequest* request,
                                    v1::UnpauseContainerResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return ToGrpc(parts_.lifecycle->Unpause(call, request->container()));
    });
  }
  grpc::ServerUnaryReactor* Wait(grpc::CallbackServerContext* context,
                                 const v1::WaitContainerRequest* request,
                                 v1::WaitContainerResponse* response) override {
    return WaitReactor::Start(context, *parts_.wait, *request, response);
  }
  grpc::ServerUnaryReactor* Remove(grpc::CallbackServerContext* context,
                                   const v1::RemoveContainerRequest* request,
                                   v1::RemoveContainerResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return Answer(parts_.lifecycle->Remove(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Rename(grpc::CallbackServerContext* context,
                                   const v1::RenameContainerRequest* request,
                                   v1::RenameContainerResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return ToGrpc(parts_.lifecycle->Rename(call, request->container(), request->new_name()));
    });
  }
  grpc::ServerUnaryReactor* Update(grpc::CallbackServerContext* context,
                                   const v1::UpdateContainerRequest* request,
                                   v1::UpdateContainerResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return Answer(parts_.lifecycle->Update(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Prune(grpc::CallbackServerContext* context,
                                  const v1::PruneContainersRequest* request,
                                  v1::PruneContainersResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return Answer(parts_.lifecycle->Prune(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const v1::ListContainersRequest* request,
                                 v1::ListContainersResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return Answer(parts_.view->List(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Inspect(grpc::CallbackServerContext* context,
                                    const v1::InspectContainerRequest* request,
                                    v1::InspectContainerResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return Answer(parts_.view->Inspect(call, request->container(), request->size()),
                    response->mutable_container());
    });
  }
  grpc::ServerUnaryReactor* Top(grpc::CallbackServerContext* context, const v1::TopRequest* request,
                                v1::TopResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return Answer(parts_.view->Top(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Diff(grpc::CallbackServerContext* context,
                                 const v1::DiffRequest* request,
                                 v1::DiffResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return Answer(parts_.view->Diff(call, request->container()), response);
    });
  }
  grpc::ServerUnaryReactor* Resize(grpc::CallbackServerContext* context,
                                   const v1::ResizeRequest* request,
                                   v1::ResizeResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return ToGrpc(parts_.streams->Resize(call, *request));
    });
  }
  grpc::ServerUnaryReactor* StatPath(grpc::CallbackServerContext* context,
                                     const v1::StatPathRequest* request,
                                     v1::StatPathResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return Answer(parts_.files->StatPath(call, *request), response->mutable_stat());
    });
  }
  grpc::ServerUnaryReactor* Commit(grpc::CallbackServerContext* context,
                                   const v1::CommitRequest* request,
                                   v1::CommitResponse* response) override {
    return WorkCall::Start(context, work_, [=, this](const core::CallContext& call) {
      return Answer(parts_.files->Commit(call, *request), response);
    });
  }

  grpc::ServerBidiReactor<v1::RunInput, v1::RunOutput>* Run(
      grpc::CallbackServerContext* context) override {
    parts_.streams->AnnounceStart();
    return OpenReactor<RunReactor>(context);
  }
  grpc::ServerBidiReactor<v1::AttachInput, v1::AttachOutput>* Attach(
      grpc::CallbackServerContext* context) override {
    return OpenReactor<ContainerAttachReactor>(context);
  }
  grpc::ServerBidiReactor<v1::ExecInput, v1::ExecOutput>* Exec(
      grpc::CallbackServerContext* context) override {
    parts_.streams->AnnounceStart();
    return OpenReactor<ExecReactor>(context);
  }

  grpc::ServerWriteReactor<v1::StatsResponse>* Stats(grpc::CallbackServerContext* context,
                                                     const v1::StatsRequest* request) override {
    return WorkStream<v1::StatsResponse>::Start(
        context, followers_,
        [this, request = *request](const core::CallContext& call, Emitter<v1::StatsResponse>& out) {
          std::map<std::string, v1::ContainerStats> previous;
          // A rate needs two samples: the first only begins it.
          bool first = true;
          while (true) {
            GANTRY_ASSIGN_OR_RETURN(v1::StatsResponse sample,
                                    parts_.view->Stats(call, request, previous));
            if (!first || !request.once()) GANTRY_RETURN_IF_ERROR(out.Send(std::move(sample)));
            if (!first && request.once()) return absl::OkStatus();
            first = false;
            GANTRY_RETURN_IF_ERROR(call.cancel->Sleep(kStatsPeriod));
          }
        });
  }

  grpc::ServerWriteReactor<v1::LogsResponse>* Logs(grpc::CallbackServerContext* context,
                                                   const v1::LogsRequest* request) override {
    return WorkStream<v1::LogsResponse>::Start(
        context, request->follow() ? followers_ : work_,
        [this, request = *request](const core::CallContext& call, Emitter<v1::LogsResponse>& out) {
          return SendLogs(call, request, out);
        });
  }

  grpc::ServerWriteReactor<v1::CopyFromResponse>* CopyFrom(
      grpc::CallbackServerContext* context, const v1::CopyFromRequest* request) override {
    return WorkStream<v1::CopyFromResponse>::Start(
        context, work_,
        [this, request = *request](const core::CallContext& call,
                                   Emitter<v1::CopyFromResponse>& out) {
          EmitterSink<v1::CopyFromResponse> sink(out, [](std::string bytes) {
            v1::CopyFromResponse response;
            response.set_data(std::move(bytes));
            return response;
          });
          GANTRY_RETURN_IF_ERROR(parts_.files->CopyFrom(
              call, request,
              [&out](const v1::PathStat& stat) {
                v1::CopyFromResponse response;
                *response.mutable_stat() = stat;
                return out.Send(std::move(response));
              },
              sink));
          return sink.Flush();
        });
  }

  grpc::ServerReadReactor<v1::CopyToRequest>* CopyTo(grpc::CallbackServerContext* context,
                                                     v1::CopyToResponse* response) override {
    return CopyToCall::Start(context, work_, *parts_.files);
  }

  grpc::ServerWriteReactor<v1::ExportResponse>* Export(grpc::CallbackServerContext* context,
                                                       const v1::ExportRequest* request) override {
    return WorkStream<v1::ExportResponse>::Start(
        context, work_,
        [this, request = *request](const core::CallContext& call,
                                   Emitter<v1::ExportResponse>& out) {
          EmitterSink<v1::ExportResponse> sink(out, [](std::string bytes) {
            v1::ExportResponse response;
            response.set_data(std::move(bytes));
            return response;
          });
          GANTRY_RETURN_IF_ERROR(parts_.files->Export(call, request.container(), sink));
          return sink.Flush();
        });
  }

 private:
  template <class Reactor>
  Reactor* OpenReactor(grpc::CallbackServerContext* context) {
    auto reactor = std::make_shared<Reactor>(context, parts_, work_);
    reactor->Open();
    return reactor.get();
  }

  absl::Status SendLogs(const core::CallContext& call, const v1::LogsRequest& request,
                        Emitter<v1::LogsResponse>& out) {
    if (!request.stdout() && !request.stderr()) {
      return absl::InvalidArgumentError("logs: neither stdout nor stderr is asked for");
    }
    GANTRY_ASSIGN_OR_RETURN(std::string id, parts_.records->ResolveId(call, request.container()));
    GANTRY_ASSIGN_OR_RETURN(std::string path, parts_.streams->LogPath(call, id));
    core::LogQuery query;
    query.want_stdout = request.stdout();
    query.want_stderr = request.stderr();
    if (request.has_since()) query.since = FromProto(request.since());
    if (request.has_until()) query.until = FromProto(request.until());
    if (request.has_tail()) query.tail = request.tail();
    query.follow = request.follow();
    query.more_may_come = [&] { return parts_.streams->MayWriteLog(call, id); };
    query.cancel = call.cancel;
    absl::Status status = core::ReadLog(path, query, [&](const core::LogEntry& entry) {
      v1::LogsResponse response;
      v1::LogsResponse::Entry* to = response.add_entries();
      to->set_stderr(entry.is_stderr);
      ToProto(entry.at, to->mutable_at());
      to->set_text(entry.text);
      return out.SendMerging(std::move(response), MergeLogs);
    });
    // A container that was never started has written nothing.
    return absl::IsNotFound(status) ? absl::OkStatus() : status;
  }

  const ContainersParts parts_;
  Executor& work_;
  Executor& followers_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewContainersDoor(const ContainersParts& parts, Executor& work,
                                                 Executor& followers) {
  return std::make_unique<ContainersDoor>(parts, work, followers);
}

}  // namespace gantry::api::gantry_v1
