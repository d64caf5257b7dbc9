#include "supervisor/runtime/fake_shim.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/grpcpp.h"

#include "proto/shim/v1/shim.grpc.pb.h"

namespace gantry::runtime {
namespace {

namespace pb = ::gantry::shim::v1;

constexpr absl::Duration kLook =
    absl::Milliseconds(5);  // how soon a handler notices that its call was cancelled
constexpr absl::Duration kAwaitCalls = absl::Seconds(10);
constexpr int kFirstPid = 1000;

google::protobuf::Timestamp Now() {
  const absl::Time now = absl::Now();
  google::protobuf::Timestamp out;
  out.set_seconds(absl::ToUnixSeconds(now));
  out.set_nanos(
      static_cast<int32_t>((now - absl::FromUnixSeconds(out.seconds())) / absl::Nanoseconds(1)));
  return out;
}

grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

}  // namespace

struct FakeShim::State {
  TaskKey key;
  std::string socket_path;

  absl::Mutex mu;
  bool stopping ABSL_GUARDED_BY(mu) = false;
  std::set<std::string> frozen ABSL_GUARDED_BY(mu);  // names of calls; "" for all
  std::function<void()> before_answer ABSL_GUARDED_BY(mu);
  std::function<void()> on_shutdown ABSL_GUARDED_BY(mu);
  int break_generation ABSL_GUARDED_BY(mu) = 0;
  int event_streams ABSL_GUARDED_BY(mu) = 0;
  std::vector<std::string> calls ABSL_GUARDED_BY(mu);
  std::map<std::string, absl::Status> failures ABSL_GUARDED_BY(mu);
  std::map<std::string, pb::ProcessState> processes ABSL_GUARDED_BY(mu);  // by exec id
  std::vector<pb::Event> events ABSL_GUARDED_BY(mu);
  uint64_t forgotten ABSL_GUARDED_BY(mu) = 0;
  pb::CreateRequest create_request ABSL_GUARDED_BY(mu);
  std::string stdin_received ABSL_GUARDED_BY(mu);
  std::string output ABSL_GUARDED_BY(mu);
  bool created ABSL_GUARDED_BY(mu) = false;
  bool streams_held ABSL_GUARDED_BY(mu) = false;
  int next_pid ABSL_GUARDED_BY(mu) = kFirstPid;
  std::optional<pb::StatsResponse> stats ABSL_GUARDED_BY(mu);

  std::set<Attached*> attached ABSL_GUARDED_BY(mu);

  std::unique_ptr<grpc::Service> service;
  std::unique_ptr<grpc::Server> server;

  void Append(pb::Event event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    event.set_number(events.size() + 1);
    *event.mutable_at() = Now();
    events.push_back(std::move(event));
  }
  void End(const std::string& exec_id, uint32_t status, bool oom_killed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    const auto it = processes.find(exec_id);
    if (it == processes.end() || it->second.status() == pb::STATUS_STOPPED) return;
    it->second.set_status(pb::STATUS_STOPPED);
    it->second.set_exit_status(status);
    it->second.set_oom_killed(oom_killed);
    *it->second.mutable_exited_at() = Now();
    pb::Event event;
    event.mutable_exited()->set_exec_id(exec_id);
    event.mutable_exited()->set_pid(it->second.pid());
    event.mutable_exited()->set_exit_status(status);
    event.mutable_exited()->set_oom_killed(oom_killed);
    *event.mutable_exited()->mutable_exited_at() = it->second.exited_at();
    Append(std::move(event));
    PokeAttached();
  }
  void PokeAttached() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
};

// One attached client. Serves the output collected so far and what follows, then the exit.
class FakeShim::Attached : public grpc::ServerBidiReactor<pb::AttachInput, pb::AttachOutput> {
 public:
  explicit Attached(State* state) : state_(state) { StartRead(&input_); }

  // More output, or an exit.
  // Tells the analysis that this client's state is the one that is locked.
  void AssertLocked() const ABSL_ASSERT_EXCLUSIVE_LOCK(state_->mu) { state_->mu.AssertHeld(); }
  void Poke() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mu) {
    if (!open_ || writing_ || finished_) return;
    output_.Clear();
    const auto it = state_->processes.find(exec_id_);
    if (sent_ < state_->output.size()) {
      output_.set_stdout(state_->output.substr(sent_));
      sent_ = state_->output.size();
    } else if (exit_sent_) {
      finished_ = true;
      Finish(grpc::Status::OK);
      return;
    } else if (state_->streams_held || (exec_id_.empty() && !state_->created)) {
      return;
    } else if (it == state_->processes.end() || it->second.status() == pb::STATUS_STOPPED) {
      output_.mutable_exited();
      if (it != state_->processes.end()) {
        output_.mutable_exited()->set_exit_status(it->second.exit_status());
      }
      exit_sent_ = true;
    } else {
      return;
    }
    writing_ = true;
    StartWrite(&output_);
  }

  void Stop() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mu) {
    if (finished_) return;
    finished_ = true;
    Finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the shim ends"));
  }

  void OnReadDone(bool ok) override {
    absl::MutexLock lock(&state_->mu);
    if (!ok) return;
    if (input_.has_open()) {
      state_->calls.push_back("Attach");
      exec_id_ = input_.open().exec_id();
      // The first process may be attached to before it is created, as in a real shim.
      if (state_->processes.count(exec_id_) == 0 && !exec_id_.empty()) {
        finished_ = true;
        Finish(grpc::Status(grpc::StatusCode::NOT_FOUND, "no such process"));
        return;
      }
      open_ = true;
      state_->attached.insert(this);
      output_.mutable_attached();
      writing_ = true;
      StartWrite(&output_);
    } else if (input_.has_stdin()) {
      state_->stdin_received += input_.stdin();
    }
    if (!finished_) StartRead(&input_);
  }
  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&state_->mu);
    writing_ = false;
    if (ok) Poke();
  }
  void OnCancel() override {
    absl::MutexLock lock(&state_->mu);
    if (!finished_) {
      finished_ = true;
      Finish(grpc::Status::CANCELLED);
    }
  }
  void OnDone() override {
    {
      absl::MutexLock lock(&state_->mu);
      state_->attached.erase(this);
    }
    delete this;  // NOLINT: the last callback
  }

 private:
  FakeShim::State* const state_;
  pb::AttachInput input_;
  pb::AttachOutput output_;
  std::string exec_id_;
  size_t sent_ = 0;
  bool open_ = false;
  bool writing_ = false;
  bool exit_sent_ = false;
  bool finished_ = false;
};

void FakeShim::State::PokeAttached() {
  for (Attached* client : attached) {
    client->AssertLocked();
    client->Poke();
  }
}

class FakeShim::Service : public pb::Shim::WithCallbackMethod_Attach<pb::Shim::Service> {
 public:
  explicit Service(struct FakeShim::State* state) : state_(state) {}

  grpc::Status Info(grpc::ServerContext* context, const pb::InfoRequest*,
                    pb::InfoResponse* response) override {
    absl::MutexLock lock(&state_->mu);
    if (grpc::Status status = Enter("Info", context); !status.ok()) return status;
    response->set_namespace_(state_->key.ns);
    response->set_container_id(state_->key.container_id);
    response->set_shim_pid(getpid());
    response->set_version("fake");
    response->set_last_event(state_->events.size());
    response->mutable_init()->set_status(pb::STATUS_EMPTY);
    for (const auto& [exec_id, process] : state_->processes) {
      *(exec_id.empty() ? response->mutable_init() : response->add_execs()) = process;
    }
    return grpc::Status::OK;
  }

  grpc::Status Create(grpc::ServerContext* context, const pb::CreateRequest* request,
                      pb::CreateResponse* response) override {
    absl::MutexLock lock(&state_->mu);
    if (grpc::Status status = Enter("Create", context); !status.ok()) return status;
    if (state_->processes.count("") > 0) {
      return grpc::Status(grpc::StatusCode::ALREADY_EXISTS, "created already");
    }
    state_->create_request = *request;
    state_->created = true;
    Add("", request->stdio());
    pb::Event created;
    created.mutable_created()->set_pid(state_->processes[""].pid());
    state_->Append(std::move(created));
    response->set_pid(state_->processes[""].pid());
    if (request->start()) Run("");
    RunHook();
    return grpc::Status::OK;
  }

  grpc::Status Start(grpc::ServerContext* context, const pb::StartRequest* request,
                     pb::StartResponse* response) override {
    absl::MutexLock lock(&state_->mu);
    if (grpc::Status status = Enter("Start", context); !status.ok()) return status;
    const auto it = state_->processes.find(request->exec_id());
    if (it == state_->processes.end()) return NoSuchProcess(request->exec_id());
    if (it->second.status() != pb::STATUS_CREATED) {
      return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "not in state created");
    }
    Run(request->exec_id());
    response->set_pid(it->second.pid());
    return grpc::Status::OK;
  }

  grpc::Status Exec(grpc::ServerContext* context, const pb::ExecRequest* request,
                    pb::ExecResponse* response) override {
    absl::MutexLock lock(&state_->mu);
    if (grpc::Status status = Enter("Exec", context); !status.ok()) return status;
    if (state_->processes.count(request->exec_id()) > 0) {
      return grpc::Status(grpc::StatusCode::ALREADY_EXISTS, "exec id is taken");
    }
    Add(request->exec_id(), request->stdio());
    state_->processes[request->exec_id()].set_process_json(request->process_json());
    pb::Event added;
    added.mutable_exec_added()->set_exec_id(request->exec_id());
    state_->Append(std::move(added));
    if (request->start()) {
      Run(request->exec_id());
      response->set_pid(state_->processes[request->exec_id()].pid());
    }
    RunHook();
    return grpc::Status::OK;
  }

  grpc::Status State(grpc::ServerContext* context, const pb::StateRequest* request,
                     pb::ProcessState* response) override {
    absl::MutexLock lock(&state_->mu);
    if (grpc::Status status = Enter("State", context); !status.ok()) return status;
    const auto it = state_->processes.find(request->exec_id());
    if (it == state_->processes.end()) return NoSuchProcess(request->exec_id());
    *response = it->second;
    return grpc::Status::OK;
  }

  grpc::Status Wait(grpc::ServerContext* context, const pb::WaitRequest* request,
                    pb::WaitResponse* response) override {
    absl::MutexLock lock(&state_->mu);
    if (grpc::Status status = Enter("Wait", context); !status.ok()) return status;
    while (true) {
      const auto it = state_->processes.find(request->exec_id());
      if (it == state_->processes.end()) return NoSuchProcess(request->exec_id());
      if (it->second.status() == pb::STATUS_STOPPED) {
        response->set_exit_status(it->second.exit_status());
        response->set_oom_killed(it->second.oom_killed());
        *response->mutable_exited_at() = it->second.exited_at();
        return grpc::Status::OK;
      }
      if (Over(context)) return grpc::Status::CANCELLED;
      Linger();
    }
  }

  grpc::Status Kill(grpc::ServerContext* context, const pb::KillRequest* request,
                    pb::KillResponse*) override {
    absl::MutexLock lock(&state_->mu);
    if (grpc::Status status = Enter("Kill", context); !status.ok()) return status;
    const auto it = state_->processes.find(request->exec_id());
    if (it == state_->processes.end()) return NoSuchProcess(request->exec_id());
    if (it->second.status() == pb::STATUS_STOPPED) {
      return grpc::Status(grpc::StatusCode::NOT_FOUND, "process already finished");
    }
    if (request->signal() == SIGKILL || request->signal() == SIGTERM) {
      state_->End(request->exec_id(), 128 + request->signal(), false);
    }
    return grpc::Status::OK;
  }

  grpc::Status Delete(grpc::ServerContext* context, const pb::DeleteRequest* request,
                      pb::DeleteResponse* response) override {
    absl::MutexLock lock(&state_->mu);
    if (grpc::Status status = Enter("Delete", context); !status.ok()) return status;
    const auto it = state_->processes.find(request->exec_id());
    if (it == state_->processes.end()) return grpc::Status::OK;
    if (it->second.status() == pb::STATUS_RUNNING || it->second.status() == pb::STATUS_PAUSED) {
      if (!request->force()) {
        return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "still running");
      }
      state_->End(request->exec_id(), 128 + SIGKILL, false);
    }
    response->set_pid(it->second.pid());
    response->set_exit_status(it->second.exit_status());
    *response->mutable_exited_at() = it->second.exited_at();
    pb::Event deleted;
    deleted.mutable_deleted()->set_exec_id(request->exec_id());
    deleted.mutable_deleted()->set_pid(it->second.pid());
    deleted.mutable_deleted()->set_exit_status(it->second.exit_status());
    state_->Append(std::move(deleted));
    state_->processes.erase(it);
    return grpc::Status::OK;
  }

  grpc::Status Pids(grpc::ServerContext* context, const pb::PidsRequest*,
                    pb::PidsResponse* response) override {
    absl::MutexLock lock(&state_->mu);
    if (grpc::Status status = Enter("Pids", context); !status.ok()) return status;
    for (const auto& [exec_id, process] : state_->processes) {
      if (process.status() != pb::STATUS_RUNNING) continue;
      pb::PidsResponse::Process* out = response->add_processes();
      out->set_pid(process.pid());
      out->set_exec_id(exec_id);
    }
    return grpc::Status::OK;
  }

  grpc::Status Pause(grpc::ServerContext* context, const pb::PauseRequest*,
                     pb::PauseResponse*) override {
    return Switch("Pause", context, pb::STATUS_RUNNING, pb::STATUS_PAUSED);
  }
  grpc::Status Resume(grpc::ServerContext* context, const pb::ResumeRequest*,
                      pb::ResumeResponse*) override {
    return Switch("Resume", context, pb::STATUS_PAUSED, pb::STATUS_RUNNING);
  }
  grpc::Status Update(grpc::ServerContext* context, const pb::UpdateRequest*,
                      pb::UpdateResponse*) override {
    absl::MutexLock lock(&state_->mu);
    return Enter("Update", context);
  }
  grpc::Status Stats(grpc::ServerContext* context, const pb::StatsRequest*,
                     pb::StatsResponse* response) override {
    absl::MutexLock lock(&state_->mu);
    if (grpc::Status status = Enter("Stats", context); !status.ok()) return status;
    if (state_->stats.has_value()) {
      *response = *state_->stats;
      return grpc::Status::OK;
    }
    response->set_pids_current(state_->processes.size());
    *response->mutable_read_at() = Now();
    return grpc::Status::OK;
  }
  grpc::Status Checkpoint(grpc::ServerContext* context, const pb::CheckpointRequest*,
                          pb::CheckpointResponse*) override {
    absl::MutexLock lock(&state_->mu);
    return Enter("Checkpoint", context);
  }
  grpc::Status ResizePty(grpc::ServerContext* context, const pb::ResizePtyRequest*,
                         pb::ResizePtyResponse*) override {
    absl::MutexLock lock(&state_->mu);
    return Enter("ResizePty", context);
  }
  grpc::Status CloseStdin(grpc::ServerContext* context, const pb::CloseStdinRequest*,
                          pb::CloseStdinResponse*) override {
    absl::MutexLock lock(&state_->mu);
    return Enter("CloseStdin", context);
  }
  grpc::Status ReopenLog(grpc::ServerContext* context, const pb::ReopenLogRequest*,
                         pb::ReopenLogResponse*) override {
    absl::MutexLock lock(&state_->mu);
    return Enter("ReopenLog", context);
  }
  grpc::Status Shutdown(grpc::ServerContext* context, const pb::ShutdownRequest*,
                        pb::ShutdownResponse*) override {
    absl::MutexLock lock(&state_->mu);
    if (grpc::Status status = Enter("Shutdown", context); !status.ok()) return status;
    if (state_->on_shutdown) state_->on_shutdown();
    return grpc::Status::OK;
  }

  grpc::Status Events(grpc::ServerContext* context, const pb::EventsRequest* request,
                      grpc::ServerWriter<pb::Event>* writer) override {
    state_->mu.Lock();
    if (grpc::Status status = Enter("Events", context); !status.ok()) {
      state_->mu.Unlock();
      return status;
    }
    uint64_t next = request->after() + 1;
    const int generation = state_->break_generation;
    ++state_->event_streams;
    grpc::Status end = grpc::Status::OK;
    while (true) {
      if (next <= state_->forgotten) {
        end = grpc::Status(grpc::StatusCode::DATA_LOSS, "these events are no longer kept");
        break;
      }
      if (generation != state_->break_generation) {
        end = grpc::Status(grpc::StatusCode::UNAVAILABLE, "broken on purpose");
        break;
      }
      if (Over(context)) break;
      if (next > state_->events.size()) {
        Linger();
        continue;
      }
      const pb::Event event = state_->events[next - 1];
      state_->mu.Unlock();
      const bool written = writer->Write(event);
      state_->mu.Lock();
      if (!written) break;
      ++next;
    }
    --state_->event_streams;
    state_->mu.Unlock();
    return end;
  }

  grpc::ServerBidiReactor<pb::AttachInput, pb::AttachOutput>* Attach(
      grpc::CallbackServerContext*) override {
    return new Attached(state_);  // NOLINT: owns itself until OnDone
  }

 private:
  grpc::Status Enter(const std::string& method, grpc::ServerContext* context)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mu) {
    state_->calls.push_back(method);
    while (state_->frozen.count("") > 0 || state_->frozen.count(method) > 0) {
      if (Over(context)) return grpc::Status::CANCELLED;
      Linger();
    }
    const auto it = state_->failures.find(method);
    return it == state_->failures.end() ? grpc::Status::OK : ToGrpc(it->second);
  }
  bool Over(grpc::ServerContext* context) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mu) {
    return state_->stopping || context->IsCancelled();
  }
  void RunHook() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mu) {
    const std::function<void()> hook = std::exchange(state_->before_answer, nullptr);
    if (!hook) return;
    state_->mu.Unlock();
    hook();
    state_->mu.Lock();
  }
  // Waits a little with the lock released.
  void Linger() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mu) {
    state_->mu.AwaitWithTimeout(absl::Condition(&state_->stopping), kLook);
  }
  void Add(const std::string& exec_id, const pb::Stdio& stdio)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mu) {
    pb::ProcessState& process = state_->processes[exec_id];
    process.set_exec_id(exec_id);
    process.set_status(pb::STATUS_CREATED);
    process.set_pid(state_->next_pid++);
    process.set_terminal(stdio.terminal());
    process.set_stdin(stdio.stdin());
    process.set_stdout(stdio.stdout());
    process.set_stderr(stdio.stderr());
  }
  void Run(const std::string& exec_id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mu) {
    pb::ProcessState& process = state_->processes[exec_id];
    process.set_status(pb::STATUS_RUNNING);
    *process.mutable_started_at() = Now();
    pb::Event started;
    started.mutable_started()->set_exec_id(exec_id);
    started.mutable_started()->set_pid(process.pid());
    state_->Append(std::move(started));
  }
  grpc::Status Switch(const std::string& method, grpc::ServerContext* context, pb::Status from,
                      pb::Status to) {
    absl::MutexLock lock(&state_->mu);
    if (grpc::Status status = Enter(method, context); !status.ok()) return status;
    const auto it = state_->processes.find("");
    if (it == state_->processes.end()) return NoSuchProcess("");
    if (it->second.status() != from) {
      return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION,
                          absl::StrCat("not in state ", pb::Status_Name(from)));
    }
    it->second.set_status(to);
    pb::Event event;
    if (to == pb::STATUS_PAUSED) {
      event.mutable_paused();
    } else {
      event.mutable_resumed();
    }
    state_->Append(std::move(event));
    return grpc::Status::OK;
  }
  grpc::Status NoSuchProcess(const std::string& exec_id) {
    return grpc::Status(grpc::StatusCode::NOT_FOUND, absl::StrCat("no process \"", exec_id, "\""));
  }

  struct FakeShim::State* const state_;
};

FakeShim::FakeShim(TaskKey key, std::string socket_path) : state_(std::make_unique<State>()) {
  state_->key = std::move(key);
  state_->socket_path = std::move(socket_path);
  state_->service = std::make_unique<Service>(state_.get());
  unlink(state_->socket_path.c_str());
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + state_->socket_path, grpc::InsecureServerCredentials());
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 1);
  builder.RegisterService(state_->service.get());
  state_->server = builder.BuildAndStart();
}

FakeShim::~FakeShim() {
  {
    absl::MutexLock lock(&state_->mu);
    state_->stopping = true;
    for (Attached* client : state_->attached) client->Stop();
  }
  state_->server->Shutdown(std::chrono::system_clock::now());
  unlink(state_->socket_path.c_str());
}

void FakeShim::Exit(const std::string& exec_id, uint32_t status, bool oom_killed) {
  absl::MutexLock lock(&state_->mu);
  state_->End(exec_id, status, oom_killed);
}

void FakeShim::Emit(pb::Event event) {
  absl::MutexLock lock(&state_->mu);
  state_->Append(std::move(event));
}

void FakeShim::Output(const std::string& bytes) {
  absl::MutexLock lock(&state_->mu);
  state_->output += bytes;
  state_->PokeAttached();
}

void FakeShim::HoldStreams() {
  absl::MutexLock lock(&state_->mu);
  state_->streams_held = true;
}

void FakeShim::FailCalls(const std::string& method, absl::Status status) {
  absl::MutexLock lock(&state_->mu);
  state_->failures.erase(method);
  if (!status.ok()) state_->failures.emplace(method, std::move(status));
}

void FakeShim::Freeze(const std::string& method) {
  absl::MutexLock lock(&state_->mu);
  state_->frozen.insert(method);
}

void FakeShim::Unfreeze() {
  absl::MutexLock lock(&state_->mu);
  state_->frozen.clear();
}

void FakeShim::BeforeAnswer(std::function<void()> hook) {
  absl::MutexLock lock(&state_->mu);
  state_->before_answer = std::move(hook);
}

void FakeShim::OnShutdown(std::function<void()> hook) {
  absl::MutexLock lock(&state_->mu);
  state_->on_shutdown = std::move(hook);
}

bool FakeShim::AwaitCalls(const std::string& method, int count) const {
  absl::MutexLock lock(&state_->mu);
  const auto arrived = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mu) {
    return std::count(state_->calls.begin(), state_->calls.end(), method) >= count;
  };
  return state_->mu.AwaitWithTimeout(absl::Condition(&arrived), kAwaitCalls);
}

void FakeShim::BreakEventStreams() {
  absl::MutexLock lock(&state_->mu);
  ++state_->break_generation;
}

void FakeShim::ForgetEvents(uint64_t number) {
  absl::MutexLock lock(&state_->mu);
  state_->forgotten = number;
}

void FakeShim::SetNextPid(int pid) {
  absl::MutexLock lock(&state_->mu);
  state_->next_pid = pid;
}

void FakeShim::SetStats(shim::v1::StatsResponse stats) {
  absl::MutexLock lock(&state_->mu);
  state_->stats = std::move(stats);
}

std::vector<std::string> FakeShim::calls() const {
  absl::MutexLock lock(&state_->mu);
  return state_->calls;
}

pb::CreateRequest FakeShim::create_request() const {
  absl::MutexLock lock(&state_->mu);
  return state_->create_request;
}

std::string FakeShim::stdin_received() const {
  absl::MutexLock lock(&state_->mu);
  return state_->stdin_received;
}

int FakeShim::event_streams() const {
  absl::MutexLock lock(&state_->mu);
  return state_->event_streams;
}

}  // namespace gantry::runtime
