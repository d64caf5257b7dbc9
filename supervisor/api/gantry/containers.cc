#include "supervisor/api/gantry/containers.h"

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "base/byte_stream.h"
#include "base/executor.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/containers.grpc.pb.h"
#include "supervisor/api/gantry/attached_calls.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"
#include "supervisor/api/grpc/list_stream.h"
#include "supervisor/api/grpc/outgoing.h"
#include "supervisor/api/grpc/upload_stream.h"
#include "supervisor/api/grpc/work_call.h"
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

// Calls of one connection at once.
constexpr size_t kShare = 32;
constexpr size_t kFollowersShare = 128;
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

// Waits without a thread.
class WaitReactor final : public grpc::ServerUnaryReactor {
 public:
  static WaitReactor* Start(grpc::CallbackServerContext* context, core::ContainerWait& waits,
                            const v1::WaitContainerRequest& request,
                            v1::WaitContainerResponse* response) {
    auto reactor = std::make_shared<WaitReactor>(context);
    reactor->self_ = reactor;
    WaitReactor* const raw = reactor.get();
    if (absl::Status valid = raw->call_.Validate(); !valid.ok()) {
      raw->Finish(ToGrpc(valid));
      return raw;
    }
    reactor->StartSendInitialMetadata();
    std::weak_ptr<WaitReactor> weak = reactor;
    core::CallContext unbounded = raw->call_;
    unbounded.cancel = nullptr;  // the wait is withdrawn by OnCancel()
    std::function<void()> give_up = waits.WaitAsync(
        unbounded, request, [weak, response](absl::StatusOr<v1::WaitContainerResponse> answer) {
          const std::shared_ptr<WaitReactor> waiting = weak.lock();
          if (waiting != nullptr) waiting->Answered(std::move(answer), response);
        });
    bool cancelled;
    {
      absl::MutexLock lock(&raw->mu_);
      cancelled = raw->cancelled_;
      if (!raw->answered_ && !cancelled) raw->give_up_ = std::move(give_up);
    }
    if (cancelled && give_up) give_up();
    return raw;
  }

  explicit WaitReactor(grpc::CallbackServerContext* context) : call_(*context, Scoped::kDefault) {}

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

  const Call call_;
  std::shared_ptr<WaitReactor> self_;  // until gRPC is done
  absl::Mutex mu_;
  std::function<void()> give_up_ ABSL_GUARDED_BY(mu_);
  bool answered_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
};

core::LogQuery QueryOf(const v1::LogsRequest& request) {
  core::LogQuery query;
  query.want_stdout = request.stdout();
  query.want_stderr = request.stderr();
  if (request.has_since()) query.since = FromProto(request.since());
  if (request.has_until()) query.until = FromProto(request.until());
  if (request.has_tail()) query.tail = request.tail();
  query.follow = request.follow();
  return query;
}

bool MergeLogs(v1::LogsResponse& last, v1::LogsResponse& next) {
  if (last.ByteSizeLong() > kLogBatchBytes) return false;
  for (auto& entry : *next.mutable_entries()) *last.add_entries() = std::move(entry);
  return true;
}

class ContainersDoor final : public v1::Containers::CallbackService {
 public:
  ContainersDoor(const ContainersParts& parts, Executor& work, Executor& followers)
      : parts_(parts),
        work_(work, kShare, Scoped::kDefault),
        followers_(followers, kFollowersShare, Scoped::kDefault) {}

  grpc::ServerUnaryReactor* Create(grpc::CallbackServerContext* context,
                                   const v1::CreateContainerRequest* request,
                                   v1::CreateContainerResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(parts_.lifecycle->Create(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Start(grpc::CallbackServerContext* context,
                                  const v1::StartContainerRequest* request,
                                  v1::StartContainerResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) { return Answer(parts_.lifecycle->Start(call, *request), response); },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* Stop(grpc::CallbackServerContext* context,
                                 const v1::StopContainerRequest* request,
                                 v1::StopContainerResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(parts_.lifecycle->Stop(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Kill(grpc::CallbackServerContext* context,
                                 const v1::KillContainerRequest* request,
                                 v1::KillContainerResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) {
          return parts_.lifecycle->Kill(call, request->container(), request->signal());
        },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* Restart(grpc::CallbackServerContext* context,
                                    const v1::RestartContainerRequest* request,
                                    v1::RestartContainerResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) { return parts_.lifecycle->Restart(call, *request); },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* Pause(grpc::CallbackServerContext* context,
                                  const v1::PauseContainerRequest* request,
                                  v1::PauseContainerResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) { return parts_.lifecycle->Pause(call, request->container()); },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* Unpause(grpc::CallbackServerContext* context,
                                    const v1::UnpauseContainerRequest* request,
                                    v1::UnpauseContainerResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) { return parts_.lifecycle->Unpause(call, request->container()); },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* Wait(grpc::CallbackServerContext* context,
                                 const v1::WaitContainerRequest* request,
                                 v1::WaitContainerResponse* response) override {
    return WaitReactor::Start(context, *parts_.wait, *request, response);
  }
  grpc::ServerUnaryReactor* Remove(grpc::CallbackServerContext* context,
                                   const v1::RemoveContainerRequest* request,
                                   v1::RemoveContainerResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) {
          return Answer(parts_.lifecycle->Remove(call, *request), response);
        },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* Rename(grpc::CallbackServerContext* context,
                                   const v1::RenameContainerRequest* request,
                                   v1::RenameContainerResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) {
          return parts_.lifecycle->Rename(call, request->container(), request->new_name());
        },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* Update(grpc::CallbackServerContext* context,
                                   const v1::UpdateContainerRequest* request,
                                   v1::UpdateContainerResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) {
          return Answer(parts_.lifecycle->Update(call, *request), response);
        },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* Prune(grpc::CallbackServerContext* context,
                                  const v1::PruneContainersRequest* request,
                                  v1::PruneContainersResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) { return Answer(parts_.lifecycle->Prune(call, *request), response); },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const v1::ListContainersRequest* request,
                                 v1::ListContainersResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(parts_.view->List(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Inspect(grpc::CallbackServerContext* context,
                                    const v1::InspectContainerRequest* request,
                                    v1::InspectContainerResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(parts_.view->Inspect(call, request->container(), request->size()),
                    response->mutable_container());
    });
  }
  grpc::ServerUnaryReactor* Top(grpc::CallbackServerContext* context, const v1::TopRequest* request,
                                v1::TopResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(parts_.view->Top(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Diff(grpc::CallbackServerContext* context,
                                 const v1::DiffRequest* request,
                                 v1::DiffResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(parts_.view->Diff(call, request->container()), response);
    });
  }
  grpc::ServerUnaryReactor* InspectExec(grpc::CallbackServerContext* context,
                                        const v1::InspectExecRequest* request,
                                        v1::InspectExecResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(
          const core::ExecState state,
          parts_.execs->Inspect(call, request->exec_id(), request->container()));
      v1::ExecDetails* exec = response->mutable_exec();
      exec->set_exec_id(state.exec_id);
      exec->set_container_id(state.container_id);
      *exec->mutable_config() = *state.config;
      exec->set_running(state.running());
      exec->set_pid(state.pid);
      if (state.exit_code.has_value()) exec->set_exit_code(*state.exit_code);
      return absl::OkStatus();
    });
  }
  grpc::ServerUnaryReactor* KillExec(grpc::CallbackServerContext* context,
                                     const v1::KillExecRequest* request,
                                     v1::KillExecResponse*) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return parts_.execs->SignalExec(call, request->container(), request->exec_id(),
                                      request->signal());
    });
  }
  grpc::ServerUnaryReactor* Resize(grpc::CallbackServerContext* context,
                                   const v1::ResizeRequest* request,
                                   v1::ResizeResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return request->exec_id().empty()
                 ? parts_.streams->Resize(call, *request)
                 : parts_.execs->Resize(call, request->exec_id(), request->size());
    });
  }
  grpc::ServerUnaryReactor* StatPath(grpc::CallbackServerContext* context,
                                     const v1::StatPathRequest* request,
                                     v1::StatPathResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(parts_.files->StatPath(call, *request), response->mutable_stat());
    });
  }
  grpc::ServerUnaryReactor* Commit(grpc::CallbackServerContext* context,
                                   const v1::CommitRequest* request,
                                   v1::CommitResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) { return Answer(parts_.files->Commit(call, *request), response); },
        Departure::kIgnored);
  }

  grpc::ServerBidiReactor<v1::RunInput, v1::RunOutput>* Run(
      grpc::CallbackServerContext* context) override {
    parts_.streams->AnnounceStart();
    return NewRunCall(context, parts_, work_);
  }
  grpc::ServerBidiReactor<v1::AttachInput, v1::AttachOutput>* Attach(
      grpc::CallbackServerContext* context) override {
    return NewAttachCall(context, parts_, work_);
  }
  grpc::ServerBidiReactor<v1::ExecInput, v1::ExecOutput>* Exec(
      grpc::CallbackServerContext* context) override {
    parts_.streams->AnnounceStart();
    return NewExecCall(context, parts_, work_);
  }

  grpc::ServerWriteReactor<v1::StatsResponse>* Stats(grpc::CallbackServerContext* context,
                                                     const v1::StatsRequest* request) override {
    return HandleList<v1::StatsResponse>(
        followers_, *context,
        [this, request = *request](Call& call, Sender<v1::StatsResponse>& out) -> absl::Status {
          std::map<std::string, v1::ContainerStats> previous;
          // A rate needs two samples: the first only begins it.
          bool first = true;
          while (true) {
            GANTRY_ASSIGN_OR_RETURN(v1::StatsResponse sample,
                                    parts_.view->Stats(call, request, previous));
            if (!first || !request.once()) GANTRY_RETURN_IF_ERROR(out.Send(std::move(sample)));
            if (!first && request.once()) return absl::OkStatus();
            first = false;
            GANTRY_RETURN_IF_ERROR(call.cancel().Sleep(kStatsPeriod));
          }
        },
        kViewerPatience);
  }

  grpc::ServerWriteReactor<v1::LogsResponse>* Logs(grpc::CallbackServerContext* context,
                                                   const v1::LogsRequest* request) override {
    return HandleList<v1::LogsResponse>(
        request->follow() ? followers_ : work_, *context,
        [this, request = *request](Call& call, Sender<v1::LogsResponse>& out) {
          return parts_.streams->Logs(call, request.container(), QueryOf(request),
                                      [&](const core::LogEntry& entry) {
                                        v1::LogsResponse response;
                                        v1::LogsResponse::Entry* to = response.add_entries();
                                        to->set_stderr(entry.is_stderr);
                                        ToProto(entry.at, to->mutable_at());
                                        to->set_text(entry.text);
                                        if (request.details())
                                          to->mutable_attributes()->insert(entry.attributes.begin(),
                                                                           entry.attributes.end());
                                        return out.SendMerging(std::move(response), MergeLogs);
                                      });
        },
        kViewerPatience);
  }

  grpc::ServerWriteReactor<v1::CopyFromResponse>* CopyFrom(
      grpc::CallbackServerContext* context, const v1::CopyFromRequest* request) override {
    return HandleList<v1::CopyFromResponse>(
        work_, *context, [this, request = *request](Call& call, Sender<v1::CopyFromResponse>& out) {
          SenderSink<v1::CopyFromResponse> sink(out, [](std::string bytes) {
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
    return HandleReceive<v1::CopyToRequest>(
        work_, *context, [this](Call& call, const v1::CopyToRequest& request, ByteSource& tar) {
          return parts_.files->CopyTo(call, request.open(), tar);
        });
  }

  grpc::ServerWriteReactor<v1::ExportResponse>* Export(grpc::CallbackServerContext* context,
                                                       const v1::ExportRequest* request) override {
    return HandleList<v1::ExportResponse>(
        work_, *context, [this, request = *request](Call& call, Sender<v1::ExportResponse>& out) {
          SenderSink<v1::ExportResponse> sink(out, [](std::string bytes) {
            v1::ExportResponse response;
            response.set_data(std::move(bytes));
            return response;
          });
          GANTRY_RETURN_IF_ERROR(parts_.files->Export(call, request.container(), sink));
          return sink.Flush();
        });
  }

 private:
  const ContainersParts parts_;
  Lane work_;
  Lane followers_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewContainersDoor(const ContainersParts& parts, Executor& work,
                                                 Executor& followers) {
  return std::make_unique<ContainersDoor>(parts, work, followers);
}

}  // namespace gantry::api::gantry_v1
