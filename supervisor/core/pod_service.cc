// Pods themselves. Containers in them are in pod_containers.cc.
#include "supervisor/core/pod_service.h"

#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"

#include "base/cancel_token.h"
#include "base/crash_point.h"
#include "base/executor.h"
#include "base/field_error.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/container_ids.h"
#include "supervisor/core/container_lifecycle.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/name_files.h"
#include "supervisor/core/pod_containers.h"
#include "supervisor/core/pod_entry.h"
#include "supervisor/core/pod_namespaces.h"
#include "supervisor/core/pod_plugins.h"
#include "supervisor/core/sandbox_service.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"
#include "supervisor/metadata/record_values.h"
#include "supervisor/network/cni.h"
#include "supervisor/runtime/runtime_probe.h"

namespace gantry::core {
namespace {

// Who wrote the record, as containerd's clients see it.
constexpr char kSandboxer[] = "gantry.pods";
constexpr char kConfigType[] = "gantry.v1.PodConfig";
constexpr char kDoorExtension[] = "cri";
constexpr char kRuntimeName[] = "io.containerd.runc.v2";

// However long its parts take, such as plugins that do not end, a run is over then.
constexpr absl::Duration kRunLimit = absl::Minutes(4);
constexpr absl::Duration kStopLimit = absl::Minutes(2);
// A joined call looks this often whether its own caller has gone.
constexpr absl::Duration kLook = absl::Milliseconds(50);

std::string NewId() {
  std::string bytes(32, '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = getrandom(bytes.data() + done, bytes.size() - done, 0);
    if (got > 0) done += static_cast<size_t>(got);
  }
  return absl::BytesToHexString(bytes);
}

// Mounts by the kubelet are mapped by the runtime; layers of images by us.
bool HasUserNamespaces(const runtime::RuntimeInfo& runtime, const oci::HostFacts& host) {
  return runtime.idmap_mounts &&
         std::pair(host.kernel_major, host.kernel_minor) >= std::pair(5, 19);
}

std::string NameOf(const v1::PodConfig& config) {
  return absl::StrJoin(
      {config.name(), config.group(), config.uid(), absl::StrCat(config.attempt())}, "_");
}

absl::Status Check(const v1::PodConfig& config) {
  if (config.name().empty() || config.uid().empty() || config.group().empty())
    return FieldError("metadata", "a pod needs a name, a uid and a namespace");
  if (!config.log_directory().empty() && config.log_directory().front() != '/')
    return FieldError("log_directory", "is not an absolute path");
  if (const IdMaps ids = IdsOf(config); !ids.empty()) {
    absl::Status checked = CheckIdRanges("user ids", ids.uids);
    checked.Update(CheckIdRanges("group ids", ids.gids));
    if (!checked.ok()) return FieldError("userns_options", checked.message());
    if (config.host_pid() || config.host_ipc() || config.privileged()) {
      return FieldError("userns_options",
                        "a pod with a user namespace can have neither the host's processes or IPC "
                        "nor privileged containers");
    }
  }
  if (config.hostname().size() > 64) return FieldError("hostname", "at most 64 characters");
  return absl::OkStatus();
}

// Which ones the pod has for itself.
PodNamespaces NamespacesOf(const v1::PodConfig& config) {
  PodNamespaces wanted;
  wanted.network = !config.host_network();
  wanted.uts = !config.host_network();
  wanted.ipc = !config.host_ipc();
  return wanted;
}

}  // namespace

class PodService::Operation {
 public:
  Operation() = default;
  ~Operation();
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  // The entry outlives this. Errors are the token's.
  absl::Status Begin(const CallContext& context, Entry& entry);

 private:
  Entry* entry_ = nullptr;
};

struct PodService::Flight {
  bool over = false;
  absl::StatusOr<std::string> result = absl::UnknownError("not over");
};

absl::Status PodService::Operation::Begin(const CallContext& context, Entry& entry) {
  absl::MutexLock lock(&entry.mu);
  const auto idle = [&entry]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu) { return !entry.busy; };
  while (!entry.mu.AwaitWithTimeout(absl::Condition(&idle), kLook)) {
    if (context.cancel != nullptr) GANTRY_RETURN_IF_ERROR(context.cancel->Check());
  }
  entry.busy = true;
  entry_ = &entry;
  return absl::OkStatus();
}

PodService::Operation::~Operation() {
  if (entry_ == nullptr) return;
  absl::MutexLock lock(&entry_->mu);
  entry_->busy = false;
}

PodService::PodService(const Parts& parts)
    : parts_(parts), containers_(std::make_unique<PodContainers>(*this)) {}

PodService::~PodService() { UnsharePodMounts(parts_.state_directory + "/pods"); }

std::string PodService::Directory(const Key& key) const {
  return absl::StrCat(parts_.state_directory, "/pods/", key.first, "/", key.second);
}

absl::Status PodService::Recover() {
  // Without it a namespace outlives its pod for as long as a shim that was forked meanwhile.
  const absl::Status shared = SharePodMounts(parts_.state_directory + "/pods");
  LOG_IF(WARNING, !shared.ok()) << shared;
  std::vector<std::string> namespaces;
  GANTRY_RETURN_IF_ERROR(
      parts_.stores->namespaces.List([&namespaces](const record::v1::Namespace& ns) {
        namespaces.push_back(ns.name());
        return absl::OkStatus();
      }));
  std::vector<Key> halves, bereft;
  for (const std::string& ns : namespaces) {
    GANTRY_RETURN_IF_ERROR(parts_.stores->sandboxes.List(
        {ns, ""}, metadata::Filter(), [&](const record::v1::Sandbox& record) {
          if (record.sandboxer() != kSandboxer) return absl::OkStatus();
          const Key key(ns, record.sandbox_id());
          v1::PodConfig config;
          if (!config.ParseFromString(record.spec().value())) {
            LOG(ERROR) << "ns=" << ns << " pod=" << key.second << " its record is damaged";
            return absl::OkStatus();
          }
          const auto extension = record.extensions().find(kDoorExtension);
          auto entry = std::make_shared<Entry>(
              key, std::move(config),
              extension == record.extensions().end() ? "" : extension->second.value(),
              metadata::TimeOf(record.created_at()));
          const absl::StatusOr<Sandbox> state = parts_.sandboxes->Get(ns, key.second);
          {
            absl::MutexLock lock(&entry->mu);
            entry->phase = !state.ok() || !state->started  ? Entry::Phase::kMaking
                           : state->stopped_at.has_value() ? Entry::Phase::kStopped
                                                           : Entry::Phase::kReady;
            entry->shown_to_plugins = entry->phase != Entry::Phase::kMaking;
            entry->stop_told = entry->phase == Entry::Phase::kStopped;
            if (entry->phase == Entry::Phase::kMaking) halves.push_back(key);
            // What was in them has ended without a word.
            if (entry->phase == Entry::Phase::kReady &&
                !HasPodNamespaces(Directory(key), NamespacesOf(*entry->config))) {
              entry->phase = Entry::Phase::kStopping;
              bereft.push_back(key);
            }
          }
          ReadAddresses(*entry);
          absl::MutexLock lock(&mu_);
          pods_[key] = std::move(entry);
          return absl::OkStatus();
        }));
  }
  if (parts_.cni != nullptr) {
    // A pod that a boot has ended is stopped, and its network was never given back.
    std::set<std::string> attached;
    absl::MutexLock lock(&mu_);
    for (const auto& [key, entry] : pods_) {
      absl::MutexLock entry_lock(&entry->mu);
      if (entry->phase != Entry::Phase::kStopped) attached.insert(key.second);
    }
    parts_.cni->CollectGarbage(attached);
  }
  for (const Key& key : bereft) {
    LOG(WARNING) << "ns=" << key.first << " pod=" << key.second
                 << " has lost its namespaces; it is stopped";
    parts_.workers->Schedule([this, key] {
      CallContext context;
      context.ns = key.first;
      const absl::Status stopped = Stop(context, key.second);
      LOG_IF(ERROR, !stopped.ok()) << "ns=" << key.first << " pod=" << key.second << " " << stopped;
    });
  }
  for (const Key& key : halves) {
    LOG(WARNING) << "ns=" << key.first << " pod=" << key.second
                 << " was being made when the daemon ended; it is removed";
    parts_.workers->Schedule([this, key] {
      CallContext context;
      context.ns = key.first;
      const absl::Status removed = Remove(context, key.second);
      LOG_IF(ERROR, !removed.ok()) << "ns=" << key.first << " pod=" << key.second << " " << removed;
    });
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> PodService::Together(
    const CallContext& context, const std::string& name,
    const std::function<absl::StatusOr<std::string>(const CallContext& alone)>& work) {
  const std::string key = absl::StrCat(context.ns, "/", name);
  std::shared_ptr<Flight> flight;
  {
    absl::MutexLock lock(&mu_);
    std::shared_ptr<Flight>& place = flights_[key];
    if (place != nullptr) {
      flight = place;
      while (!mu_.AwaitWithTimeout(absl::Condition(&flight->over), kLook)) {
        if (context.cancel != nullptr) GANTRY_RETURN_IF_ERROR(context.cancel->Check());
      }
      return flight->result;
    }
    place = flight = std::make_shared<Flight>();
  }
  // The caller may give up; its repeated call is to find the work done, not begun anew.
  CancelToken limit(kRunLimit);
  CallContext alone = context;
  alone.cancel = &limit;
  absl::StatusOr<std::string> result = work(alone);
  absl::MutexLock lock(&mu_);
  flight->result = result;
  flight->over = true;
  flights_.erase(key);
  return result;
}

absl::StatusOr<std::string> PodService::Run(const CallContext& context, const v1::PodConfig& config,
                                            const std::string& extension) {
  GANTRY_RETURN_IF_ERROR(Check(config));
  return Together(context, absl::StrCat("pod ", NameOf(config)),
                  [&](const CallContext& alone) { return RunAlone(alone, config, extension); });
}

absl::StatusOr<std::string> PodService::RunAlone(const CallContext& context,
                                                 const v1::PodConfig& config,
                                                 const std::string& extension) {
  const std::string name = NameOf(config);
  {
    absl::MutexLock lock(&mu_);
    for (const auto& [key, entry] : pods_) {
      if (key.first != context.ns || NameOf(*entry->config) != name) continue;
      absl::MutexLock state(&entry->mu);
      // The answer to the first call was lost.
      if (entry->phase == Entry::Phase::kReady && *entry->extension == extension) return key.second;
      return absl::AlreadyExistsError(
          absl::StrCat("pod ", name, ": is there as ", key.second.substr(0, 12),
                       entry->phase == Entry::Phase::kReady ? " with another configuration"
                                                            : " and was stopped; remove it first"));
    }
  }
  // Fails early for a runtime that is not there, or cannot do what is asked for.
  GANTRY_ASSIGN_OR_RETURN(const runtime::RuntimeInfo chosen,
                          parts_.runtimes->Resolve(config.runtime()));
  if (config.uids_size() > 0 && !HasUserNamespaces(chosen, *parts_.host)) {
    return absl::FailedPreconditionError(
        absl::StrCat("pod ", config.name(),
                     ": user namespaces need Linux 5.19 and a runtime with id-mapped "
                     "mounts; ",
                     chosen.name, " ", chosen.version,
                     " has none: use crun, or set hostUsers to "
                     "true"));
  }
  const Key key(context.ns, NewId());
  record::v1::Sandbox record;
  record.set_sandbox_id(key.second);
  record.set_sandboxer(kSandboxer);
  record.mutable_runtime()->set_name(kRuntimeName);
  record.mutable_spec()->set_type_url(kConfigType);
  record.mutable_spec()->set_value(config.SerializeAsString());
  google::protobuf::Any& door = (*record.mutable_extensions())[kDoorExtension];
  door.set_type_url(kDoorExtension);
  door.set_value(extension);
  GANTRY_ASSIGN_OR_RETURN(const record::v1::Sandbox stored,
                          parts_.stores->sandboxes.Create({context.ns, ""}, record));
  CrashPoint("pod.recorded");
  auto entry =
      std::make_shared<Entry>(key, config, extension, metadata::TimeOf(stored.created_at()));
  {
    absl::MutexLock lock(&mu_);
    pods_[key] = entry;
  }
  const absl::Status made = Make(context, *entry);
  if (!made.ok()) {
    CallContext undo = context;
    CancelToken limit(kStopLimit);
    undo.cancel = &limit;
    const absl::Status removed = Remove(undo, key.second);
    LOG_IF(ERROR, !removed.ok()) << "ns=" << key.first << " pod=" << key.second
                                 << " undoing a failed start: " << removed;
    return absl::Status(made.code(), absl::StrCat("pod ", config.name(), ": ", made.message()));
  }
  return key.second;
}

absl::Status PodService::Make(const CallContext& context, Entry& entry) {
  const Key& key = entry.key;
  Operation operation;
  GANTRY_RETURN_IF_ERROR(operation.Begin(context, entry));
  CallContext running = context;
  running.cancel = &entry.making;
  GANTRY_RETURN_IF_ERROR(parts_.sandboxes->Create(key.first, key.second));
  GANTRY_RETURN_IF_ERROR(MakeFiles(entry));
  GANTRY_RETURN_IF_ERROR(MakeNamespaces(entry));
  CrashPoint("pod.namespaces");
  GANTRY_RETURN_IF_ERROR(Attach(running, entry));
  CrashPoint("pod.attached");
  if (entry.config->shared_pid()) GANTRY_RETURN_IF_ERROR(StartInit(running, entry));
  // Until it can be seen: a plugin that joins sees it then.
  const std::unique_ptr<PluginRound> round = BeginMaking();
  GANTRY_RETURN_IF_ERROR(AskToRun(round.get(), entry));
  GANTRY_RETURN_IF_ERROR(entry.making.Check());
  GANTRY_RETURN_IF_ERROR(parts_.sandboxes->Start(key.first, key.second).status());
  CrashPoint("pod.started");
  absl::MutexLock lock(&entry.mu);
  if (entry.phase != Entry::Phase::kMaking)
    return absl::AbortedError("it was stopped while it was being made");
  entry.phase = Entry::Phase::kReady;
  return absl::OkStatus();
}

absl::Status PodService::MakeFiles(const Entry& entry) {
  const v1::PodConfig& config = *entry.config;
  const std::string directory = Directory(entry.key);
  GANTRY_RETURN_IF_ERROR(MakeDirectories(directory, 0711));
  // As for a container of its network.
  v1::ContainerConfig names;
  names.set_hostname(config.hostname());
  names.set_network_mode(config.host_network() ? "host" : "none");
  GANTRY_RETURN_IF_ERROR(WriteNameFiles(directory, names, entry.key.second));
  // The servers are reached over a network that core does not make, so the host's own file is as
  // good as any.
  std::string resolv = ReadFile("/etc/resolv.conf", 1 << 20).value_or("");
  if (config.has_dns()) {
    resolv.clear();
    if (config.dns().searches_size() > 0)
      absl::StrAppend(&resolv, "search ", absl::StrJoin(config.dns().searches(), " "), "\n");
    for (const std::string& server : config.dns().servers())
      absl::StrAppend(&resolv, "nameserver ", server, "\n");
    if (config.dns().options_size() > 0)
      absl::StrAppend(&resolv, "options ", absl::StrJoin(config.dns().options(), " "), "\n");
  }
  GANTRY_RETURN_IF_ERROR(WriteFile(directory + "/resolv.conf", resolv));
  return GiveNameFilesTo(IdsOf(config), directory);
}

absl::Status PodService::MakeNamespaces(const Entry& entry) {
  const v1::PodConfig& config = *entry.config;
  PodNamespaces wanted = NamespacesOf(config);
  wanted.hostname = config.hostname();
  wanted.ids = IdsOf(config);
  oci::ContainerConfig owners;
  owners.network = wanted.network ? oci::NamespaceMode::Private() : oci::NamespaceMode::Host();
  owners.ipc = wanted.ipc ? oci::NamespaceMode::Private() : oci::NamespaceMode::Host();
  owners.uts = wanted.uts ? oci::NamespaceMode::Private() : oci::NamespaceMode::Host();
  owners.sysctls.insert(config.sysctls().begin(), config.sysctls().end());
  GANTRY_ASSIGN_OR_RETURN(wanted.sysctls, oci::CheckedSysctls(owners));
  return MakePodNamespaces(Directory(entry.key), wanted);
}

absl::Status PodService::Stop(const CallContext& context, absl::string_view id) {
  const absl::StatusOr<EntryPtr> entry = Find(context, id);
  if (absl::IsNotFound(entry.status())) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(entry.status());
  return StopEntry(context, **entry);
}

absl::Status PodService::StopEntry(const CallContext& context, Entry& entry) {
  const Key& key = entry.key;
  entry.making.Cancel("the pod is being stopped");
  {
    absl::MutexLock lock(&entry.mu);
    if (entry.phase == Entry::Phase::kReady) entry.phase = Entry::Phase::kStopping;
  }
  Operation operation;
  GANTRY_RETURN_IF_ERROR(operation.Begin(context, entry));
  {
    absl::MutexLock lock(&entry.mu);
    if (entry.phase == Entry::Phase::kStopped) return absl::OkStatus();
    entry.phase = Entry::Phase::kStopping;
  }
  GANTRY_RETURN_IF_ERROR(containers_->EndAll(context, entry));
  GANTRY_RETURN_IF_ERROR(EndTask(context, key.second));
  TellStopped(entry);
  GANTRY_RETURN_IF_ERROR(Detach(context, entry));
  GANTRY_RETURN_IF_ERROR(RemovePodNamespaces(Directory(key)));
  const absl::Status stopped = parts_.sandboxes->Stop(key.first, key.second);
  if (!stopped.ok() && !absl::IsNotFound(stopped)) return stopped;
  absl::MutexLock lock(&entry.mu);
  entry.phase = Entry::Phase::kStopped;
  entry.addresses.clear();
  return absl::OkStatus();
}

absl::Status PodService::Remove(const CallContext& context, absl::string_view id) {
  const absl::StatusOr<EntryPtr> found = Find(context, id);
  if (absl::IsNotFound(found.status())) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(found.status());
  Entry& entry = **found;
  const Key& key = entry.key;
  GANTRY_RETURN_IF_ERROR(StopEntry(context, entry));
  Operation operation;
  GANTRY_RETURN_IF_ERROR(operation.Begin(context, entry));
  GANTRY_RETURN_IF_ERROR(containers_->RemoveAll(context, entry));
  // Also of one that a former daemon had stopped, and of which the machine's end took the rest.
  GANTRY_RETURN_IF_ERROR(RemovePodNamespaces(Directory(key)));
  GANTRY_RETURN_IF_ERROR(RemoveTree(Directory(key)));
  CrashPoint("pod.gone");
  const absl::Status shut = parts_.sandboxes->Shutdown(key.first, key.second);
  if (!shut.ok() && !absl::IsNotFound(shut)) return shut;
  const std::unique_ptr<PluginRound> round = BeginEnding();
  TellRemoved(round.get(), entry);
  const absl::Status deleted = parts_.stores->sandboxes.Delete({key.first, ""}, key.second);
  if (absl::IsNotFound(deleted)) return absl::OkStatus();  // another call was first
  GANTRY_RETURN_IF_ERROR(deleted);
  {
    absl::MutexLock lock(&mu_);
    pods_.erase(key);
  }
  parts_.events->Publish(key.first,
                         LowLevelEvent(EventKind::kSandbox, action::kDelete, key.second));
  return absl::OkStatus();
}

absl::Status PodService::EndTask(const CallContext& context, const std::string& id) {
  // From outside where its shim does not answer.
  const absl::Status ended = parts_.tasks->Delete(context, id, "", /*force=*/true).status();
  return absl::IsNotFound(ended) ? absl::OkStatus() : ended;
}

absl::StatusOr<PodService::EntryPtr> PodService::Find(const CallContext& context,
                                                      absl::string_view id) const {
  absl::MutexLock lock(&mu_);
  const Key key(context.ns, id);
  auto found = pods_.lower_bound(key);
  const auto fits = [&](auto it) {
    return it != pods_.end() && it->first.first == context.ns &&
           absl::StartsWith(it->first.second, id);
  };
  if (id.empty() || !fits(found))
    return absl::NotFoundError(absl::StrCat("pod ", absl::CHexEscape(id), ": not found"));
  if (found->first.second != id && fits(std::next(found))) {
    return absl::InvalidArgumentError(
        absl::StrCat("pod ", absl::CHexEscape(id), ": several begin with this id"));
  }
  return found->second;
}

std::set<std::string> PodService::Namespaces() const {
  std::set<std::string> namespaces;
  absl::MutexLock lock(&mu_);
  for (const auto& [key, entry] : pods_) namespaces.insert(key.first);
  return namespaces;
}

Pod PodService::View(const Entry& entry) const {
  Pod pod;
  pod.id = entry.key.second;
  pod.config = entry.config;
  pod.extension = entry.extension;
  pod.created_at = entry.created_at;
  absl::MutexLock lock(&entry.mu);
  pod.ready = entry.phase == Entry::Phase::kReady;
  pod.addresses = entry.addresses;
  pod.network_json = entry.network_json;
  if (pod.ready && entry.config->shared_pid()) {
    const absl::StatusOr<Process> init =
        parts_.tasks->view().Get(entry.key.first, entry.key.second, "");
    pod.ready = init.ok() && init->status != ProcessStatus::kStopped;
  }
  return pod;
}

absl::StatusOr<Pod> PodService::Get(const CallContext& context, absl::string_view id) const {
  GANTRY_ASSIGN_OR_RETURN(const EntryPtr entry, Find(context, id));
  return View(*entry);
}

std::vector<Pod> PodService::List(const CallContext& context) const {
  std::vector<EntryPtr> entries;
  {
    absl::MutexLock lock(&mu_);
    for (auto it = pods_.lower_bound({context.ns, ""});
         it != pods_.end() && it->first.first == context.ns; ++it)
      entries.push_back(it->second);
  }
  std::vector<Pod> pods;
  for (const EntryPtr& entry : entries) {
    {
      // What is not up yet was not promised to anybody.
      absl::MutexLock lock(&entry->mu);
      if (entry->phase == Entry::Phase::kMaking) continue;
    }
    pods.push_back(View(*entry));
  }
  return pods;
}

absl::StatusOr<std::vector<PodRuntime>> PodService::Runtimes() const {
  GANTRY_RETURN_IF_ERROR(parts_.runtimes->Resolve("").status());
  std::vector<std::string> names = parts_.runtimes->names();
  names.insert(names.begin(), "");
  std::vector<PodRuntime> out;
  for (const std::string& name : names) {
    const absl::StatusOr<runtime::RuntimeInfo> info = parts_.runtimes->Resolve(name);
    if (!info.ok()) continue;
    PodRuntime& one = out.emplace_back();
    one.name = name;
    // In its own list of the mount options that it knows. crun knew them before it had such a list.
    one.recursive_read_only = info->is_crun || absl::StrContains(info->features_json, "\"rro\"");
    one.user_namespaces = HasUserNamespaces(*info, *parts_.host);
    one.systemd_cgroup = info->systemd_cgroup;
  }
  return out;
}

absl::StatusOr<std::string> PodService::NetnsPath(const CallContext& context,
                                                  absl::string_view id) const {
  GANTRY_ASSIGN_OR_RETURN(const EntryPtr entry, Find(context, id));
  if (entry->config->host_network()) return std::string();
  absl::MutexLock lock(&entry->mu);
  if (entry->phase != Entry::Phase::kReady)
    return absl::FailedPreconditionError(absl::StrCat("pod ", id, ": is not ready"));
  return Directory(entry->key) + "/net";
}

}  // namespace gantry::core
