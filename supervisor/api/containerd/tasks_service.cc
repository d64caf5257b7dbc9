// containerd.services.tasks.v1.
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

#include "base/file.h"
#include "base/status_macros.h"
#include "proto/containerd/services/containers/v1/containers.pb.h"
#include "proto/containerd/services/tasks/v1/tasks.grpc.pb.h"
#include "proto/containerd/types/runc/options/oci.pb.h"
#include "snapshotter/layer_apply.h"
#include "snapshotter/layer_diff.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/store_stream.h"
#include "supervisor/api/containerd/task_metrics.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/api/grpc_status.h"
#include "supervisor/core/exec_service.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"
#include "supervisor/metadata/filter.h"
#include "supervisor/metadata/validate.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry::api::containerd_api {
namespace {

using namespace containerd::services::tasks::
    v1;  // NOLINT(google-build-using-namespace): the messages of this file
using google::protobuf::Empty;
using TaskProcess = containerd::v1::types::Process;

constexpr char kCheckpointTar[] = "application/vnd.containerd.container.criu.checkpoint.criu.tar";
constexpr char kCheckpointConfig[] =
    "application/vnd.containerd.container.checkpoint.config.v1+proto";
constexpr char kResourcesType[] =
    "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

void SetProcess(const core::Process& process, TaskProcess* out) {
  out->set_container_id(process.container_id);
  out->set_id(process.exec_id.empty() ? process.container_id : process.exec_id);
  out->set_pid(static_cast<uint32_t>(process.pid));
  out->set_status(static_cast<containerd::v1::types::Status>(process.status));
  out->set_stdin(process.stdin_uri);
  out->set_stdout(process.stdout_uri);
  out->set_stderr(process.stderr_uri);
  out->set_terminal(process.terminal);
  out->set_exit_status(process.exit_status);
  SetTime(process.exited_at, out->mutable_exited_at());
}

void SetExit(const core::Exit& exit, DeleteResponse* out) {
  out->set_pid(static_cast<uint32_t>(exit.pid));
  out->set_exit_status(exit.status);
  SetTime(exit.at, out->mutable_exited_at());
}

// "Still running" has no class of its own with containerd: clients have looked before they delete,
// and show the text.
absl::Status DeleteError(const absl::Status& status) {
  if (!absl::IsFailedPrecondition(status)) return status;
  return absl::UnknownError(status.message());
}

// What a runtime says when it fails, and what is wrong in a document it is given, is of no class
// with containerd.
absl::Status RuntimeError(const absl::Status& status) {
  if (!absl::IsInternal(status) && !absl::IsInvalidArgument(status)) return status;
  return absl::UnknownError(status.message());
}

// A directory for a moment. What a daemon that dies leaves there, the next start sweeps.
class Scratch {
 public:
  static absl::StatusOr<Scratch> Create(const std::string& root, const std::string& id) {
    std::string path = absl::StrCat(root, "/checkpoints/", id, "-", absl::ToUnixNanos(absl::Now()));
    GANTRY_RETURN_IF_ERROR(MakeDirectories(path, 0700));
    return Scratch(std::move(path));
  }
  Scratch(Scratch&& other) noexcept : path_(std::exchange(other.path_, "")) {}
  Scratch& operator=(Scratch&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }
  ~Scratch() {
    if (path_.empty()) return;
    absl::Status removed = RemoveTree(path_);
    LOG_IF(WARNING, !removed.ok()) << "checkpoint directory left behind: " << removed;
  }
  const std::string& path() const { return path_; }

 private:
  explicit Scratch(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// The waits there are, so that the door can end them. Thread-safe.
class Waits {
 public:
  struct Wait {
    absl::Mutex mu;
    std::optional<uint64_t> ticket ABSL_GUARDED_BY(mu);
    bool cancelled ABSL_GUARDED_BY(mu) = false;
  };

  // False: the door is stopping.
  bool Add(const std::shared_ptr<Wait>& wait) {
    absl::MutexLock lock(&mu_);
    if (!stopping_) all_.emplace(wait.get(), wait);
    return !stopping_;
  }
  void Remove(const Wait* wait) {
    absl::MutexLock lock(&mu_);
    all_.erase(wait);
  }
  bool stopping() {
    absl::MutexLock lock(&mu_);
    return stopping_;
  }
  std::vector<std::shared_ptr<Wait>> Stop() {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    std::vector<std::shared_ptr<Wait>> all;
    for (const auto& [key, wait] : all_) all.push_back(wait);
    return all;
  }

 private:
  absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::map<const Wait*, std::shared_ptr<Wait>> all_ ABSL_GUARDED_BY(mu_);
};

// One Wait call. Holds no thread; the reactor lives until gRPC is done with the answer.
class WaitCall final : public grpc::ServerUnaryReactor {
 public:
  WaitCall(const grpc::CallbackServerContext& context, core::TaskService& tasks, Waits& waits)
      : call_(context), tasks_(tasks), waits_(waits) {}

  void Begin(const WaitRequest& request, WaitResponse* response) {
    absl::Status valid = call_.Validate();
    if (valid.ok() && !waits_.Add(wait_)) valid = absl::UnavailableError("the daemon is stopping");
    if (!valid.ok()) {
      Finish(ToGrpcWithClass(valid));
      return;
    }
    // After the answer this object may be gone at any moment, before WaitAsync() has returned even.
    std::shared_ptr<Waits::Wait> wait = wait_;
    core::TaskService& tasks = tasks_;
    const uint64_t ticket = tasks.waits().WaitAsync(
        call_.ns(), request.container_id(), request.exec_id(),
        [this, response](absl::StatusOr<core::Exit> exit) { Answer(exit, response); });
    bool cancel = false;
    {
      absl::MutexLock lock(&wait->mu);
      wait->ticket = ticket;
      cancel = wait->cancelled;
    }
    if (cancel) tasks.waits().CancelWait(ticket);
  }

  static void Cancel(core::TaskService& tasks, Waits::Wait& wait) {
    std::optional<uint64_t> ticket;
    {
      absl::MutexLock lock(&wait.mu);
      wait.cancelled = true;
      ticket = wait.ticket;
    }
    if (ticket.has_value()) tasks.waits().CancelWait(*ticket);
  }

  void OnCancel() override { Cancel(tasks_, *wait_); }
  void OnDone() override {
    waits_.Remove(wait_.get());
    delete this;  // NOLINT(cppcoreguidelines-owning-memory): made for this call
  }

 private:
  void Answer(const absl::StatusOr<core::Exit>& exit, WaitResponse* response) {
    if (exit.ok()) {
      response->set_exit_status(exit->status);
      SetTime(exit->at, response->mutable_exited_at());
      Finish(grpc::Status::OK);
    } else if (absl::IsCancelled(exit.status()) && waits_.stopping()) {
      Finish(ToGrpcWithClass(absl::UnavailableError("the daemon is stopping")));
    } else {
      Finish(ToGrpcWithClass(exit.status()));
    }
  }

  Call call_;
  core::TaskService& tasks_;
  Waits& waits_;
  const std::shared_ptr<Waits::Wait> wait_ = std::make_shared<Waits::Wait>();
};

class TasksService final : public Tasks::CallbackService, public DoorService {
 public:
  explicit TasksService(const Room& room) : room_(room), tasks_(*room.tasks) {}
  grpc::Service* service() override { return this; }
  void Stop() override {
    for (const std::shared_ptr<Waits::Wait>& wait : waits_.Stop()) WaitCall::Cancel(tasks_, *wait);
  }

  grpc::ServerUnaryReactor* Create(grpc::CallbackServerContext* context,
                                   const CreateTaskRequest* request,
                                   CreateTaskResponse* response) override {
    return HandleOn(*room_.long_calls, *context, [this, request, response](Call& call) {
      return CreateTask(call, *request, *response);
    });
  }

  grpc::ServerUnaryReactor* Start(grpc::CallbackServerContext* context, const StartRequest* request,
                                  StartResponse* response) override {
    return HandleOn(*room_.long_calls, *context, [=, this](Call& call) -> absl::Status {
      const absl::StatusOr<int32_t> pid =
          tasks_.Start(call.context(), request->container_id(), request->exec_id());
      if (!pid.ok()) return RuntimeError(pid.status());
      response->set_pid(static_cast<uint32_t>(*pid));
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Delete(grpc::CallbackServerContext* context,
                                   const DeleteTaskRequest* request,
                                   DeleteResponse* response) override {
    return HandleOn(*room_.long_calls, *context, [=, this](Call& call) -> absl::Status {
      absl::StatusOr<core::Exit> exit = tasks_.Delete(call.context(), request->container_id(), "");
      if (!exit.ok()) return DeleteError(exit.status());
      SetExit(*exit, response);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* DeleteProcess(grpc::CallbackServerContext* context,
                                          const DeleteProcessRequest* request,
                                          DeleteResponse* response) override {
    return HandleOn(*room_.long_calls, *context, [=, this](Call& call) -> absl::Status {
      if (request->exec_id().empty())
        return absl::InvalidArgumentError("delete process: no exec id");
      absl::StatusOr<core::Exit> exit =
          tasks_.Delete(call.context(), request->container_id(), request->exec_id());
      if (!exit.ok()) return DeleteError(exit.status());
      response->set_id(request->exec_id());
      SetExit(*exit, response);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Get(grpc::CallbackServerContext* context, const GetRequest* request,
                                GetResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(
          core::Process process,
          tasks_.view().Get(call.ns(), request->container_id(), request->exec_id()));
      SetProcess(process, response->mutable_process());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context, const ListTasksRequest*,
                                 ListTasksResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      for (const auto& [ns, process] : tasks_.view().List(call.ns()))
        SetProcess(process, response->add_tasks());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Kill(grpc::CallbackServerContext* context, const KillRequest* request,
                                 Empty*) override {
    return HandleOn(*room_.long_calls, *context, [=, this](Call& call) {
      return tasks_.Kill(call.context(), request->container_id(), request->exec_id(),
                         request->signal(), request->exec_id().empty() && request->all());
    });
  }

  grpc::ServerUnaryReactor* Exec(grpc::CallbackServerContext* context,
                                 const ExecProcessRequest* request, Empty*) override {
    return HandleOn(*room_.long_calls, *context, [=, this](Call& call) -> absl::Status {
      if (request->exec_id().empty()) return absl::InvalidArgumentError("exec: no exec id");
      GANTRY_RETURN_IF_ERROR(metadata::ValidateIdentifier("exec id", request->exec_id()));
      absl::StatusOr<oci::RuntimeSpec> process = oci::RuntimeSpec::Parse(request->spec().value());
      if (!process.ok())
        return absl::UnknownError(absl::StrCat("exec process: ", process.status().message()));
      // What the request says of a terminal counts, whatever the process says.
      std::string process_json = request->spec().value();
      if (process->document().value("terminal", nlohmann::json(false)) != request->terminal()) {
        process->document()["terminal"] = request->terminal();
        process_json = process->Print();
      }
      shim::v1::Stdio stdio;
      stdio.set_stdin(request->stdin());
      stdio.set_stdout(request->stdout());
      stdio.set_stderr(request->stderr());
      stdio.set_terminal(request->terminal());
      return DeleteError(room_.execs->Add(call.context(), request->container_id(),
                                          request->exec_id(), process_json, stdio));
    });
  }

  grpc::ServerUnaryReactor* ResizePty(grpc::CallbackServerContext* context,
                                      const ResizePtyRequest* request, Empty*) override {
    return HandleOn(*room_.long_calls, *context, [=, this](Call& call) {
      return tasks_.ResizePty(call.context(), request->container_id(), request->exec_id(),
                              request->width(), request->height());
    });
  }

  grpc::ServerUnaryReactor* CloseIO(grpc::CallbackServerContext* context,
                                    const CloseIORequest* request, Empty*) override {
    return HandleOn(*room_.long_calls, *context, [=, this](Call& call) -> absl::Status {
      if (!request->stdin())
        return tasks_.view().Get(call.ns(), request->container_id(), request->exec_id()).status();
      return tasks_.CloseStdin(call.context(), request->container_id(), request->exec_id());
    });
  }

  grpc::ServerUnaryReactor* Pause(grpc::CallbackServerContext* context,
                                  const PauseTaskRequest* request, Empty*) override {
    return HandleOn(*room_.long_calls, *context, [=, this](Call& call) {
      return DeleteError(tasks_.Pause(call.context(), request->container_id()));
    });
  }

  grpc::ServerUnaryReactor* Resume(grpc::CallbackServerContext* context,
                                   const ResumeTaskRequest* request, Empty*) override {
    return HandleOn(*room_.long_calls, *context, [=, this](Call& call) {
      return DeleteError(tasks_.Resume(call.context(), request->container_id()));
    });
  }

  grpc::ServerUnaryReactor* ListPids(grpc::CallbackServerContext* context,
                                     const ListPidsRequest* request,
                                     ListPidsResponse* response) override {
    return HandleOn(*room_.long_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(shim::v1::PidsResponse pids,
                              tasks_.view().Pids(call.context(), request->container_id()));
      for (const auto& process : pids.processes()) {
        containerd::v1::types::ProcessInfo* out = response->add_processes();
        out->set_pid(static_cast<uint32_t>(process.pid()));
        if (process.exec_id().empty()) continue;
        containerd::runc::v1::ProcessDetails details;
        details.set_exec_id(process.exec_id());
        *out->mutable_info() = AnyOf(details);
      }
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Checkpoint(grpc::CallbackServerContext* context,
                                       const CheckpointTaskRequest* request,
                                       CheckpointTaskResponse* response) override {
    return HandleOn(*room_.long_calls, *context, [this, request, response](Call& call) {
      return CheckpointTask(call, *request, *response);
    });
  }

  grpc::ServerUnaryReactor* Update(grpc::CallbackServerContext* context,
                                   const UpdateTaskRequest* request, Empty*) override {
    return HandleOn(*room_.long_calls, *context, [=, this](Call& call) -> absl::Status {
      if (request->resources().type_url() != kResourcesType) {
        return absl::UnknownError(absl::StrCat("update: expected ", kResourcesType, ", got \"",
                                               request->resources().type_url(), "\""));
      }
      return RuntimeError(
          tasks_.Update(call.context(), request->container_id(), request->resources().value()));
    });
  }

  grpc::ServerUnaryReactor* Metrics(grpc::CallbackServerContext* context,
                                    const MetricsRequest* request,
                                    MetricsResponse* response) override {
    return HandleOn(*room_.long_calls, *context, [=, this](Call& call) -> absl::Status {
      absl::StatusOr<metadata::Filter> parsed =
          metadata::Filter::Parse(TextsOf(request->filters()));
      // Of no class, as with containerd.
      if (!parsed.ok()) return absl::UnknownError(parsed.status().message());
      const metadata::Filter filter = *std::move(parsed);
      for (const auto& [ns, process] : tasks_.view().List(call.ns())) {
        const bool wanted =
            filter.Matches([&ns = ns, &id = process.container_id](
                               absl::Span<const std::string> path) -> std::optional<std::string> {
              if (path.size() != 1) return std::nullopt;
              return path[0] == "id"          ? std::optional(id)
                     : path[0] == "namespace" ? std::optional(ns)
                                              : std::nullopt;
            });
        if (!wanted) continue;
        GANTRY_RETURN_IF_ERROR(call.cancel().Check());
        // One that has just ended has no numbers, and is left out.
        absl::StatusOr<shim::v1::StatsResponse> stats =
            tasks_.view().Stats(call.context(), process.container_id);
        if (!stats.ok()) continue;
        containerd::types::Metric* metric = response->add_metrics();
        *metric->mutable_timestamp() = stats->read_at();
        metric->set_id(process.container_id);
        *metric->mutable_data() = MetricsOf(*stats);
      }
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Wait(grpc::CallbackServerContext* context, const WaitRequest* request,
                                 WaitResponse* response) override {
    auto* wait =
        new WaitCall(*context, tasks_,
                     waits_);  // NOLINT(cppcoreguidelines-owning-memory): deletes itself in OnDone
    wait->Begin(*request, response);
    return wait;
  }

 private:
  absl::Status CreateTask(Call& call, const CreateTaskRequest& request,
                          CreateTaskResponse& response) {
    GANTRY_ASSIGN_OR_RETURN(record::v1::Container container,
                            room_.stores->containers.Get(call.scope(), request.container_id()));
    core::CreateTask create;
    create.container_id = request.container_id();
    create.spec_json = container.spec().value();
    create.rootfs = MountsFrom(request.rootfs());
    create.stdio.set_stdin(request.stdin());
    create.stdio.set_stdout(request.stdout());
    create.stdio.set_stderr(request.stderr());
    create.stdio.set_terminal(request.terminal());
    create.runtime =
        request.runtime_path().empty() ? container.runtime().name() : request.runtime_path();
    const google::protobuf::Any& options =
        request.has_options() ? request.options() : container.runtime().options();
    create.runtime_options_type_url = options.type_url();
    create.runtime_options = options.value();

    if (request.has_checkpoint() && !request.checkpoint().digest().empty()) {
      create.fill_restore_image = [&](const std::string& directory) {
        return UnpackCheckpoint(call, request, directory);
      };
    } else if (TypeName(options) == "containerd.runc.v1.Options") {
      containerd::runc::v1::Options runc;
      if (!runc.ParseFromString(options.value()))
        return absl::UnknownError("task create: the runtime options do not parse");
      create.restore_image_path = runc.criu_image_path();
    }
    // Before the start: what the restart monitor may use later, it must know whatever happens next.
    const auto label = container.labels().find("containerd.io/restart.loguri");
    if (label != container.labels().end() && label->second == request.stdout() &&
        container.client_log_uri() != request.stdout()) {
      GANTRY_RETURN_IF_ERROR(room_.stores->containers.NoteLogUri(
          call.scope(), request.container_id(), request.stdout()));
    }
    const absl::StatusOr<int32_t> pid = tasks_.Create(call.context(), create);
    if (!pid.ok()) return RuntimeError(pid.status());
    response.set_container_id(request.container_id());
    response.set_pid(static_cast<uint32_t>(*pid));
    return absl::OkStatus();
  }

  // The checkpoint's files, out of the content store.
  absl::Status UnpackCheckpoint(Call& call, const CreateTaskRequest& request,
                                const std::string& directory) {
    if (request.checkpoint().media_type() != kCheckpointTar) {
      return absl::InvalidArgumentError(absl::StrCat("task create: unsupported checkpoint type \"",
                                                     request.checkpoint().media_type(), "\""));
    }
    GANTRY_ASSIGN_OR_RETURN(content::Descriptor descriptor, DescriptorFrom(request.checkpoint()));
    GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<content::BlobReader> blob,
                            room_.stores->Content(call.scope()).Open(descriptor.digest));
    BlobSource source(*blob);
    snapshot::ApplyOptions options;
    options.cancel = &call.cancel();
    return snapshot::ApplyLayerToDirectory(source, directory, options).status();
  }

  absl::Status CheckpointTask(Call& call, const CheckpointTaskRequest& request,
                              CheckpointTaskResponse& response) {
    containerd::runc::v1::CheckpointOptions options;
    if (request.has_options()) {
      GANTRY_RETURN_IF_ERROR(RuntimeError(ReadAny(request.options(), &options)));
    }
    GANTRY_RETURN_IF_ERROR(tasks_.view().Get(call.ns(), request.container_id(), "").status());
    std::optional<Scratch> scratch;
    shim::v1::CheckpointRequest checkpoint;
    checkpoint.set_image_path(options.image_path());
    if (options.image_path().empty()) {
      GANTRY_ASSIGN_OR_RETURN(scratch,
                              Scratch::Create(room_.root_directory, request.container_id()));
      checkpoint.set_image_path(scratch->path());
    }
    checkpoint.set_work_path(options.work_path());
    checkpoint.set_leave_running(!options.exit());
    checkpoint.set_tcp_established(options.open_tcp());
    checkpoint.set_external_unix_sockets(options.external_unix_sockets());
    checkpoint.set_terminal(options.terminal());
    checkpoint.set_file_locks(options.file_locks());
    GANTRY_RETURN_IF_ERROR(tasks_.Checkpoint(call.context(), request.container_id(), checkpoint));
    if (!scratch.has_value()) return absl::OkStatus();

    // The client named no place: it gets the files as a blob, and the specification they go with as
    // another.
    metadata::ContentNamespace store = room_.stores->Content(call.scope());
    GANTRY_ASSIGN_OR_RETURN(record::v1::Container container,
                            room_.stores->containers.Get(call.scope(), request.container_id()));
    const std::string ref =
        absl::StrCat("checkpoint-", request.container_id(), "-", absl::ToUnixNanos(absl::Now()));
    content::IngestOptions ingest_options;
    ingest_options.ref = ref;
    GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<content::Ingest> ingest,
                            store.OpenIngest(ingest_options));
    IngestSink sink(*ingest);
    snapshot::Mount files;
    files.type = "bind";
    files.source = scratch->path();
    files.options = {"rbind", "ro"};
    snapshot::DiffOptions diff;
    diff.cancel = &call.cancel();
    GANTRY_RETURN_IF_ERROR(snapshot::WriteDiff({}, {&files, 1}, sink, diff).status());
    content::Descriptor tar;
    tar.media_type = kCheckpointTar;
    tar.digest = ingest->current_digest();
    tar.size_bytes = ingest->offset();
    absl::Status committed = ingest->Commit(content::CommitOptions()).status();
    if (!committed.ok() && !absl::IsAlreadyExists(committed)) return committed;
    SetDescriptor(tar, response.add_descriptors());

    content::Descriptor spec;
    spec.media_type = kCheckpointConfig;
    const std::string bytes = container.spec().SerializeAsString();
    GANTRY_ASSIGN_OR_RETURN(spec.digest,
                            content::WriteBlob(store, absl::StrCat(ref, "-spec"), bytes));
    spec.size_bytes = static_cast<int64_t>(bytes.size());
    SetDescriptor(spec, response.add_descriptors());
    return absl::OkStatus();
  }

  const Room& room_;
  core::TaskService& tasks_;
  Waits waits_;
};

}  // namespace

std::unique_ptr<DoorService> NewTasksService(const Room& room) {
  return std::make_unique<TasksService>(room);
}

}  // namespace gantry::api::containerd_api
