// Containers by intent: docker's life cycle over records, snapshots and tasks. What all doors' container calls come to, except
// containerd's, whose clients put the steps in order themselves.
//
// Values are messages of gantry.v1 (docs/adr/0004). A container is found by id, by name, or by an unambiguous prefix of its id; those that
// containerd's clients made are found as well, with what is known of them. The intent is stored with the record (extension
// "gantry", a gantry.v1.ContainerConfig); the state of the last run in a record of its own, so both survive a reboot.
//
// Thread-safe. Operations on one container take turns (its operation lock); lists and inspection never wait for them.
// kNotFound: no such container; kInvalidArgument: ambiguous prefix, bad request; kFailedPrecondition: its state forbids it.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_SERVICE_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_SERVICE_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "base/byte_stream.h"
#include "proto/gantry/v1/containers.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/container_locks.h"
#include "supervisor/core/delayed.h"
#include "supervisor/core/event_subjects.h"
#include "supervisor/core/health_board.h"
#include "supervisor/core/image_service.h"
#include "supervisor/core/mount_points.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"
#include "supervisor/oci/host_facts.h"
#include "supervisor/oci/user_lookup.h"
#include "supervisor/runtime/runtime_probe.h"
#include "supervisor/runtime/shim_client.h"

namespace gantry::core {

// Exec ids that this service gives begin so; containerd's clients choose their own.
inline constexpr char kExecPrefix[] = "gantry-exec-";

class ContainerService : public ExitObserver {
 public:
  struct Parts {
    Stores* stores;
    EventBus* events;
    EventSubjects* subjects;
    const HealthBoard* health;
    TaskService* tasks;
    ImageService* images;
    Executor* workers;
    const oci::HostFacts* host;
    runtime::RuntimeProbe* runtimes;
    const MountPoints* mount_points;
    // <state>/mounts/ is for moments; <state>/containers/<ns>/<id>/ holds the generated files of a container that removes itself.
    std::string state_directory;
    // <root>/containers/<ns>/<id>/ holds a container's log, and its generated files if it outlives a reboot.
    std::string root_directory;
    std::string init_path;        // static init for --init; "" none
    std::string default_runtime;  // as configured, to be shown
    int64_t log_max_size_bytes = 20 << 20;
    int32_t log_max_files = 5;
  };
  explicit ContainerService(const Parts& parts);
  ~ContainerService() override;

  // Reserves the name, prepares the root file system, writes the record: in this order, each undone if a later one fails.
  // kNotFound: no such image (pull it first); kAlreadyExists: the name is taken, by whom.
  absl::StatusOr<v1::CreateContainerResponse> Create(const CallContext& context,
                                                     const v1::CreateContainerRequest& request);
  absl::StatusOr<v1::StartContainerResponse> Start(const CallContext& context,
                                                   const v1::StartContainerRequest& request);
  absl::StatusOr<v1::StopContainerResponse> Stop(const CallContext& context,
                                                 const v1::StopContainerRequest& request);
  absl::Status Kill(const CallContext& context, const std::string& container,
                    const std::string& signal);
  absl::Status Restart(const CallContext& context, const v1::RestartContainerRequest& request);
  absl::Status Pause(const CallContext& context, const std::string& container);
  absl::Status Unpause(const CallContext& context, const std::string& container);
  // kFailedPrecondition: it runs and `force` is not set. Whatever stands in the way is written down first, so removal ends
  // even if the daemon dies in it.
  absl::StatusOr<v1::RemoveContainerResponse> Remove(const CallContext& context,
                                                     const v1::RemoveContainerRequest& request);
  absl::Status Rename(const CallContext& context, const std::string& container,
                      const std::string& new_name);
  absl::StatusOr<v1::UpdateContainerResponse> Update(const CallContext& context,
                                                     const v1::UpdateContainerRequest& request);
  absl::StatusOr<v1::PruneContainersResponse> Prune(const CallContext& context,
                                                    const v1::PruneContainersRequest& request);

  absl::StatusOr<v1::ListContainersResponse> List(const CallContext& context,
                                                  const v1::ListContainersRequest& request);
  absl::StatusOr<v1::ContainerDetails> Inspect(const CallContext& context,
                                               const std::string& container, bool size);
  absl::StatusOr<v1::TopResponse> Top(const CallContext& context, const v1::TopRequest& request);
  // One sample; of all running containers when none is named. A container whose shim does not answer in time is left out.
  // `previous` holds the caller's last sample of each and is brought up to date: rates are between the two.
  absl::StatusOr<v1::StatsResponse> Stats(const CallContext& context,
                                          const v1::StatsRequest& request,
                                          std::map<std::string, v1::ContainerStats>& previous);
  absl::StatusOr<v1::DiffResponse> Diff(const CallContext& context, const std::string& container);

  // The id behind what a person typed.
  absl::StatusOr<std::string> ResolveId(const CallContext& context, absl::string_view container);

  // Calls `done` once with the answer, on any thread. Returns a function that gives up the wait (kCancelled); call it at most
  // once and not from `done`.
  std::function<void()> WaitAsync(
      const CallContext& context, const v1::WaitContainerRequest& request,
      std::function<void(absl::StatusOr<v1::WaitContainerResponse>)> done);

  // ---- streams: the door moves messages between its client and the stream ----

  // Streams of the running main process. kFailedPrecondition: it does not run.
  absl::StatusOr<std::unique_ptr<runtime::AttachStream>> Attach(
      const CallContext& context, const v1::AttachInput::Open& open,
      runtime::AttachStream::Handler* handler);
  struct ConnectedStart {
    int32_t pid = 0;
    std::unique_ptr<runtime::AttachStream> stream;
  };
  // A client is about to start something, which is not known yet: what a start waits for in the kernel begins now. Never blocks.
  void AnnounceStart();
  // Starts the container with its streams connected, so that no output is missed: the shim lets it go when it has both calls.
  // `before_start` is called between the two. A failure leaves the container as it was, not started.
  absl::StatusOr<ConnectedStart> StartConnected(const CallContext& context,
                                                const v1::AttachInput::Open& open,
                                                runtime::AttachStream::Handler* handler,
                                                const std::function<void()>& before_start);

  // After the main process was seen to end: returns once its end is in the records (and the container removed, with auto_remove:
  // true), so that whoever is told of the exit finds it there. Does that work itself if nobody has yet.
  absl::StatusOr<bool> SettleExit(const CallContext& context, const std::string& container);

  struct StartedExec {
    std::string exec_id;
    int32_t pid = 0;
    std::unique_ptr<runtime::AttachStream> stream;  // null when detached
  };
  // One more process. With a handler its streams are connected before it starts; without, it runs detached. Its end removes it.
  absl::StatusOr<StartedExec> Exec(const CallContext& context, const v1::ExecInput::Open& open,
                                   runtime::AttachStream::Handler* handler);
  absl::Status Resize(const CallContext& context, const v1::ResizeRequest& request);
  absl::Status SignalExec(const CallContext& context, const std::string& container,
                          const std::string& exec_id, const std::string& signal);

  // ---- files ----

  absl::StatusOr<v1::PathStat> StatPath(const CallContext& context,
                                        const v1::StatPathRequest& request);
  // Sends `begin` the path's stat, then a tar of it into `out`.
  absl::Status CopyFrom(const CallContext& context, const v1::CopyFromRequest& request,
                        const std::function<absl::Status(const v1::PathStat&)>& begin,
                        ByteSink& out);
  absl::Status CopyTo(const CallContext& context, const v1::CopyToRequest::Open& open,
                      ByteSource& tar);
  absl::Status Export(const CallContext& context, const std::string& container, ByteSink& out);
  absl::StatusOr<v1::CommitResponse> Commit(const CallContext& context,
                                            const v1::CommitRequest& request);

  // The log as the shim writes it: <path>, <path>.1, ... in json-file format. kFailedPrecondition: the container keeps no log.
  absl::StatusOr<std::string> LogPath(const CallContext& context, const std::string& container);
  // True while more may be written to the log.
  bool MayWriteLog(const CallContext& context, const std::string& container);

  // ---- for the daemon ----

  // After TaskService::Recover(): brings records in line with what lives, finishes removals, starts what the restart policy wants.
  absl::Status Reconcile();

  void OnExit(const std::string& ns, const Process& process) override;

  // No more restarts by policy. Before the workers go.
  void Stop();

 private:
  // One container as a call found it.
  struct Loaded {
    metadata::Scope scope;
    record::v1::Container record;
    record::v1::ContainerState state;
    std::string name;
    bool ours = false;  // made here, so `config` says what was wanted
    v1::ContainerConfig config;
    std::string image_id;
    const std::string& id() const { return record.id(); }
    std::string ShownName() const { return name.empty() ? id().substr(0, 12) : name; }
  };
  // An answer given once, by whoever comes first.
  class PendingAnswer {
   public:
    explicit PendingAnswer(std::function<void(absl::StatusOr<v1::WaitContainerResponse>)> done)
        : done_(std::move(done)) {}
    void Answer(absl::StatusOr<v1::WaitContainerResponse> response);

   private:
    absl::Mutex mu_;
    std::function<void(absl::StatusOr<v1::WaitContainerResponse>)> done_ ABSL_GUARDED_BY(mu_);
  };

  static void ReadIntent(Loaded& loaded);
  absl::StatusOr<Loaded> Load(const CallContext& context, absl::string_view container);
  // Loads again under the container's operation lock, which `lock` then holds.
  absl::StatusOr<Loaded> LoadLocked(const CallContext& context, absl::string_view container,
                                    OperationLock& lock);
  // Pid of the first process of another container. kFailedPrecondition: it does not run.
  absl::StatusOr<int32_t> InitPid(const CallContext& context, absl::string_view container);
  // The stored spec with the namespaces it shares with other containers as they are now: the pids of its making are gone, or others'.
  absl::StatusOr<std::string> SpecToStart(const CallContext& context, const Loaded& loaded);
  absl::StatusOr<CreateTask> DescribeTask(const CallContext& context, const Loaded& loaded);
  absl::StatusOr<int32_t> StartLocked(const CallContext& context, Loaded& loaded,
                                      std::function<void(runtime::Shim&)> before_create = nullptr);
  absl::Status NoteStarted(Loaded& loaded, int32_t pid);
  void NoteStartFailed(Loaded& loaded, const absl::Status& why);
  // Tells of the signal, then sends it, so that the news of it stands before that of the end it causes.
  absl::Status SendSignal(const CallContext& context, const Loaded& loaded, int signal);
  void PublishKill(const Loaded& loaded, int signal);
  absl::Status StopLocked(const CallContext& context, Loaded& loaded, const std::string& signal,
                          absl::Duration patience, bool* killed);
  // Takes the ended task's exit into the record and the task away. True: the container was removed as well.
  absl::StatusOr<bool> SettleLocked(const CallContext& context, Loaded& loaded);
  absl::Status RemoveLocked(const CallContext& context, Loaded& loaded, bool force);
  void ScheduleRestart(const Loaded& loaded);
  void Publish(const Loaded& loaded, absl::string_view action,
               const std::map<std::string, std::string>& attributes = {});
  v1::ContainerSummary Summarize(const Loaded& loaded, const Process* task) const;
  absl::StatusOr<std::vector<Loaded>> LoadAll(const CallContext& context);
  absl::StatusOr<oci::User> LookUpUser(const std::string& chain_id,
                                       const std::vector<snapshot::Mount>& mounts,
                                       const std::string& user,
                                       const std::vector<std::string>& groups);
  std::string Directory(const std::string& ns, const std::string& id) const;
  // Where its hostname, hosts and resolv.conf are.
  std::string GeneratedDirectory(const std::string& ns, const std::string& id,
                                 const v1::ContainerConfig& config) const;
  // Removes directories of containers that have no record: a crash came between the two.
  absl::Status SweepDirectories();
  absl::Status WriteGeneratedFiles(const std::string& directory, const v1::ContainerConfig& config,
                                   const std::string& id);
  // Runs `use` on the root of the container's file system, through the running container's own view or a mount of its snapshot.
  absl::Status WithRootfs(const CallContext& context, const Loaded& loaded, bool writable,
                          const std::function<absl::Status(int root_fd)>& use);

  const Parts parts_;
  OperationLocks locks_;
  const std::unique_ptr<Delayed> restarts_;

  absl::Mutex mu_;
  // Waits for condition REMOVED, by namespace and id.
  std::multimap<std::pair<std::string, std::string>, std::shared_ptr<PendingAnswer>> removals_
      ABSL_GUARDED_BY(mu_);
  // Users and groups of image roots, by top chain ID; a few of the latest.
  std::map<std::string, oci::UserDatabase> users_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_SERVICE_H_
