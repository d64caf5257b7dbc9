#include "ctl/compose/engine.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "base/byte_stream.h"
#include "base/engine/proto_time.h"
#include "base/status_macros.h"
#include "base/tar/entry.h"
#include "base/tar/writer.h"
#include "ctl/compose/container_config.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_files.pb.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/networks.pb.h"
#include "proto/gantry/v1/volumes.pb.h"

namespace gantry::compose {
namespace {

// Between two looks at a container that something waits for.
constexpr absl::Duration kLookAgain = absl::Milliseconds(100);
// Of a file that is copied, in one message.
constexpr size_t kPieceBytes = 256 << 10;

void AddFilter(const std::string& key, const std::string& value,
               google::protobuf::RepeatedPtrField<v1::Filter>* filters) {
  v1::Filter* filter = filters->Add();
  filter->set_key(key);
  filter->set_value(value);
}

std::string LabelOf(const v1::ContainerSummary& container, const char* label) {
  const auto found = container.labels().find(label);
  return found == container.labels().end() ? "" : found->second;
}

State StateOf(v1::ContainerState state) {
  switch (state) {
    case v1::CONTAINER_STATE_RUNNING:
      return State::kRunning;
    case v1::CONTAINER_STATE_PAUSED:
      return State::kPaused;
    case v1::CONTAINER_STATE_RESTARTING:
      return State::kRestarting;
    case v1::CONTAINER_STATE_REMOVING:
      return State::kRemoving;
    case v1::CONTAINER_STATE_EXITED:
      return State::kExited;
    case v1::CONTAINER_STATE_DEAD:
      return State::kDead;
    default:
      return State::kCreated;
  }
}

// Names that nobody chose.
bool Anonymous(const std::string& volume) {
  return volume.size() == 64 && volume.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace

ObservedContainer Engine::Describe(const v1::ContainerSummary& summary) {
  ObservedContainer out;
  out.id = summary.id();
  out.name = summary.name();
  out.service = LabelOf(summary, kServiceLabel);
  if (!absl::SimpleAtoi(LabelOf(summary, kNumberLabel), &out.number)) out.number = 0;
  out.one_off = LabelOf(summary, kOneOffLabel) == "True";
  out.hash = LabelOf(summary, kHashLabel);
  out.image_digest = LabelOf(summary, kImageLabel);
  out.state = StateOf(summary.state());
  out.exit_code = summary.exit_code();
  out.health = summary.health();
  out.networks.assign(summary.networks().begin(), summary.networks().end());
  for (const v1::MountPoint& mount : summary.mounts()) {
    if (!mount.name().empty()) out.volumes.push_back(mount.name());
  }
  return out;
}

absl::StatusOr<std::vector<v1::ContainerSummary>> Engine::Containers(
    const std::string& project, const std::vector<std::string>& services, bool all) {
  v1::ListContainersRequest request;
  request.set_all(all);
  AddFilter("label", absl::StrCat(kProjectLabel, "=", project), request.mutable_filters());
  v1::ListContainersResponse response;
  GANTRY_RETURN_IF_ERROR(client_.Call(request, &response));
  std::vector<v1::ContainerSummary> out;
  for (v1::ContainerSummary& container : *response.mutable_containers()) {
    const std::string service = LabelOf(container, kServiceLabel);
    if (!services.empty() && std::find(services.begin(), services.end(), service) == services.end())
      continue;
    out.push_back(std::move(container));
  }
  return out;
}

absl::StatusOr<Observed> Engine::Observe(const Project& project,
                                         const std::vector<std::string>& services) {
  Observed out;
  GANTRY_ASSIGN_OR_RETURN(const std::vector<v1::ContainerSummary> containers,
                          Containers(project.name, {}, /*all=*/true));
  for (const v1::ContainerSummary& summary : containers)
    out.containers.push_back(Describe(summary));
  v1::ListNetworksResponse networks;
  GANTRY_RETURN_IF_ERROR(client_.Call(v1::ListNetworksRequest(), &networks));
  const auto resource = [](const auto& labels) {
    const auto owner = labels.find(kProjectLabel);
    const auto hash = labels.find(kHashLabel);
    return ObservedResource{owner == labels.end() ? "" : owner->second,
                            hash == labels.end() ? "" : hash->second};
  };
  for (const v1::Network& network : networks.networks())
    out.networks[network.name()] = resource(network.labels());
  v1::ListVolumesResponse volumes;
  GANTRY_RETURN_IF_ERROR(client_.Call(v1::ListVolumesRequest(), &volumes));
  for (const v1::Volume& volume : volumes.volumes())
    out.volumes[volume.name()] = resource(volume.labels());
  std::set<std::string> asked;
  const auto ask = [&](const std::string& image) -> absl::Status {
    if (!asked.insert(image).second) return absl::OkStatus();
    v1::InspectImageRequest request;
    request.set_image(image);
    v1::InspectImageResponse response;
    const absl::Status status = client_.Call(request, &response);
    if (absl::IsNotFound(status)) return absl::OkStatus();
    GANTRY_RETURN_IF_ERROR(status);
    out.images[image] = response.image().summary().id();
    if (response.image().has_last_tagged_at()) {
      out.image_ages[image] = absl::Now() - engine::FromProto(response.image().last_tagged_at());
    }
    return absl::OkStatus();
  };
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> order, InBuildOrder(project, services));
  for (const std::string& service : order) {
    const Node* node = project.FindService(service);
    if (node->Find("provider") != nullptr) continue;
    GANTRY_RETURN_IF_ERROR(ask(ImageOf(project, service)));
    for (const std::string& image : MountedImages(*node)) GANTRY_RETURN_IF_ERROR(ask(image));
  }
  return out;
}

absl::StatusOr<std::string> Engine::ImageDigest(const std::string& image) {
  v1::InspectImageRequest request;
  request.set_image(image);
  v1::InspectImageResponse response;
  GANTRY_RETURN_IF_ERROR(client_.Call(request, &response));
  return response.image().summary().id();
}

absl::Status Engine::CreateNetwork(const Project& project, const std::string& key) {
  GANTRY_ASSIGN_OR_RETURN(const v1::CreateNetworkRequest request, NetworkRequestOf(project, key));
  v1::CreateNetworkResponse response;
  const absl::Status status = client_.Call(request, &response);
  // Somebody else's `up` of the same project was faster.
  return absl::IsAlreadyExists(status) ? absl::OkStatus() : status;
}

absl::Status Engine::RecreateNetwork(const Project& project, const std::string& key) {
  GANTRY_ASSIGN_OR_RETURN(const v1::CreateNetworkRequest create, NetworkRequestOf(project, key));
  v1::InspectNetworkRequest inspect;
  inspect.set_network(create.name());
  v1::InspectNetworkResponse there;
  GANTRY_RETURN_IF_ERROR(client_.Call(inspect, &there));
  for (const v1::ConnectedContainer& endpoint : there.network().endpoints()) {
    v1::DisconnectNetworkRequest disconnect;
    disconnect.set_network(there.network().id());
    disconnect.set_container(endpoint.container_id());
    disconnect.set_force(true);
    v1::DisconnectNetworkResponse response;
    const absl::Status status = client_.Call(disconnect, &response);
    if (!status.ok() && !absl::IsNotFound(status)) return status;
  }
  v1::RemoveNetworkRequest remove;
  remove.set_network(there.network().id());
  v1::RemoveNetworkResponse removed;
  GANTRY_RETURN_IF_ERROR(client_.Call(remove, &removed));
  v1::CreateNetworkResponse created;
  return client_.Call(create, &created);
}

absl::StatusOr<bool> Engine::RemoveNetwork(const std::string& name) {
  v1::RemoveNetworkRequest request;
  request.set_network(name);
  v1::RemoveNetworkResponse response;
  const absl::Status status = client_.Call(request, &response);
  if (status.ok() || absl::IsNotFound(status)) return true;
  if (absl::IsFailedPrecondition(status)) return false;
  return status;
}

absl::Status Engine::CreateVolume(const Project& project, const std::string& key) {
  const Node* section = project.model.Find("volumes");
  const Node* volume = section == nullptr ? nullptr : section->Find(key);
  if (volume == nullptr) return absl::NotFoundError(absl::StrCat("no such volume: ", key));
  v1::CreateVolumeRequest request;
  request.set_name(volume->TextOf("name"));
  request.set_driver(volume->TextOf("driver"));
  if (const Node* options = volume->Find("driver_opts")) {
    for (const auto& [name, value] : options->entries)
      (*request.mutable_options())[name] = value.text;
  }
  for (const auto& [name, value] : ResourceLabels(project, "volumes", key))
    (*request.mutable_labels())[name] = value;
  v1::CreateVolumeResponse response;
  return client_.Call(request, &response);
}

void Engine::Know(const std::string& service, const std::string& id) {
  absl::MutexLock lock(&mutex_);
  known_[service].push_back(id);
}

std::map<std::string, std::string> Engine::KnownIds() {
  absl::MutexLock lock(&mutex_);
  std::map<std::string, std::string> out;
  for (const auto& [service, ids] : known_) {
    if (!ids.empty()) out[service] = ids.front();
  }
  return out;
}

absl::StatusOr<std::string> Engine::CreateFrom(const v1::ContainerConfig& config,
                                               const std::string& name) {
  v1::CreateContainerRequest request;
  request.set_name(name);
  *request.mutable_config() = config;
  v1::CreateContainerResponse response;
  GANTRY_RETURN_IF_ERROR(client_.Call(request, &response));
  return response.id();
}

absl::StatusOr<std::string> Engine::CreateContainer(const Project& project,
                                                    const std::string& service, int number,
                                                    const std::string& name,
                                                    const std::string& inherit,
                                                    const std::string& replaced) {
  Replica replica{service, number, "", ""};
  GANTRY_ASSIGN_OR_RETURN(replica.image_digest, ImageDigest(ImageOf(project, service)));
  GANTRY_ASSIGN_OR_RETURN(v1::ContainerConfig config,
                          ContainerConfigOf(project, replica, KnownIds()));
  if (!replaced.empty()) (*config.mutable_labels())[kReplaceLabel] = replaced;
  if (!inherit.empty()) {
    v1::InspectContainerRequest inspect;
    inspect.set_container(inherit);
    v1::InspectContainerResponse old;
    GANTRY_RETURN_IF_ERROR(client_.Call(inspect, &old));
    for (const v1::MountPoint& mount : old.container().summary().mounts()) {
      if (!Anonymous(mount.name())) continue;
      // The new one may say itself what it wants there.
      const auto same =
          std::find_if(config.mutable_mounts()->begin(), config.mutable_mounts()->end(),
                       [&](const v1::Mount& one) { return one.target() == mount.destination(); });
      if (same != config.mutable_mounts()->end() && !same->source().empty()) continue;
      v1::Mount* kept = same != config.mutable_mounts()->end() ? &*same : config.add_mounts();
      kept->set_type(v1::Mount::VOLUME);
      kept->set_source(mount.name());
      kept->set_target(mount.destination());
    }
  }
  const std::string wanted = name.empty() ? ContainerNameOf(project, replica) : name;
  absl::StatusOr<std::string> id = CreateFrom(config, wanted);
  if (!absl::IsAlreadyExists(id.status())) return id;
  // Another `up` of the same project may have asked for it just now: one that runs beside this, or
  // one whose client was killed.
  v1::InspectContainerRequest inspect;
  inspect.set_container(wanted);
  v1::InspectContainerResponse there;
  if (!client_.Call(inspect, &there).ok()) return id;
  const auto& labels = there.container().summary().labels();
  const auto same = [&](const char* label) {
    const auto found = labels.find(label);
    return found != labels.end() && found->second == config.labels().at(label);
  };
  if (same(kProjectLabel) && same(kServiceLabel) && same(kHashLabel))
    return there.container().summary().id();
  return id;
}

absl::StatusOr<std::string> Engine::RecreateContainer(const Project& project, const Step& step,
                                                      std::optional<int> timeout_seconds,
                                                      bool keep_anonymous_volumes) {
  const std::string temporary = TemporaryName(step.id, step.object);
  GANTRY_ASSIGN_OR_RETURN(const std::string id,
                          CreateContainer(project, step.service, step.number, temporary,
                                          keep_anonymous_volumes ? step.id : "", step.object));
  // A failure from here on leaves both; the next `up` sees the old one as outdated, and this one as
  // a container of the same number, of which one goes.
  GANTRY_RETURN_IF_ERROR(StopWithHooks(project, step.service, step.id, timeout_seconds));
  GANTRY_RETURN_IF_ERROR(Remove(step.id, /*force=*/true, /*volumes=*/false));
  GANTRY_RETURN_IF_ERROR(Rename(id, step.object));
  return id;
}

std::string Engine::TemporaryName(const std::string& old_id, const std::string& name) {
  return absl::StrCat(old_id.substr(0, 12), "_", name);
}

absl::Status Engine::Rename(const std::string& id, const std::string& name) {
  v1::RenameContainerRequest request;
  request.set_container(id);
  request.set_new_name(name);
  v1::RenameContainerResponse response;
  return client_.Call(request, &response);
}

absl::Status Engine::Inject(const Project& project, const std::string& service,
                            const std::string& id) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<InjectedFile> injected,
                          InjectedFilesOf(project, service));
  std::vector<SyncedFile> files;
  for (const InjectedFile& file : injected) {
    files.push_back(
        {file.target, file.content, "", false, file.mode, file.uid, file.gid, absl::UnixEpoch()});
  }
  return files.empty() ? absl::OkStatus() : CopyFiles(id, files);
}

absl::Status Engine::CopyFiles(const std::string& id, const std::vector<SyncedFile>& files) {
  v1::CopyToResponse response;
  auto stream = client_.OpenWriter<v1::CopyToRequest>(&response);
  v1::CopyToRequest open;
  open.mutable_open()->set_container(id);
  open.mutable_open()->set_path("/");
  open.mutable_open()->set_copy_uid_gid(true);
  stream->Write(open);
  class Sink : public ByteSink {
   public:
    explicit Sink(ctl::WriteStream<v1::CopyToRequest>& stream) : stream_(stream) {}
    absl::Status Write(absl::string_view bytes) override {
      while (!bytes.empty()) {
        v1::CopyToRequest part;
        part.set_data(std::string(bytes.substr(0, kPieceBytes)));
        bytes.remove_prefix(std::min(bytes.size(), kPieceBytes));
        // A refusal is the call's end, and Finish() tells why.
        if (!stream_.Write(part)) return absl::CancelledError("the call has ended");
      }
      return absl::OkStatus();
    }

   private:
    ctl::WriteStream<v1::CopyToRequest>& stream_;
  };
  Sink sink(*stream);
  TarWriter writer(sink);
  for (const SyncedFile& file : files) {
    TarEntry entry;
    entry.path = file.target.substr(1);
    entry.mode = file.mode;
    entry.uid = static_cast<uint32_t>(file.uid);
    entry.gid = static_cast<uint32_t>(file.gid);
    const timespec modified = absl::ToTimespec(file.modified);
    entry.mtime.seconds = modified.tv_sec;
    entry.mtime.nanos = static_cast<int32_t>(modified.tv_nsec);
    if (!file.link.empty()) {
      entry.type = TarType::kSymlink;
      entry.link_target = file.link;
    } else if (file.folder) {
      entry.type = TarType::kDirectory;
    }
    const bool plain = file.link.empty() && !file.folder;
    if (!(plain ? writer.WriteFile(std::move(entry), file.content) : writer.WriteEntry(entry)).ok())
      break;
  }
  const absl::Status finished = writer.Finish();
  GANTRY_RETURN_IF_ERROR(stream->Finish());
  return finished;
}

absl::Status Engine::RemoveFiles(const std::string& id, const std::vector<std::string>& paths) {
  Node hook = Node::Map();
  Node& command = hook.Set("command", Node::List());
  for (const char* word : {"rm", "-rf", "--"}) command.Append(Node::String(word));
  for (const std::string& path : paths) command.Append(Node::String(path));
  hook.Set("user", Node::String("0"));
  return RunHook(hook, absl::StrCat("removing ", paths.size(), " files"), id);
}

absl::Status Engine::RemoveImage(const std::string& image) {
  v1::RemoveImageRequest request;
  request.set_image(image);
  v1::RemoveImageResponse response;
  return client_.Call(request, &response);
}

absl::Status Engine::RunHooks(const Project& project, const std::string& service,
                              const std::string& id, const std::string& key) {
  const Node* node = project.FindService(service);
  const Node* hooks = node == nullptr ? nullptr : node->Find(key);
  if (hooks == nullptr) return absl::OkStatus();
  for (const Node& hook : hooks->items)
    GANTRY_RETURN_IF_ERROR(RunHook(hook, absl::StrCat("services.", service, ".", key), id));
  return absl::OkStatus();
}

absl::Status Engine::RunHook(const Node& hook, const std::string& place, const std::string& id) {
  auto stream = client_.OpenDuplex<v1::ExecInput, v1::ExecOutput>();
  v1::ExecInput open;
  open.mutable_open()->set_container(id);
  v1::ExecConfig* config = open.mutable_open()->mutable_config();
  if (const Node* command = hook.Find("command")) {
    for (const Node& word : command->items) config->add_command(word.text);
  }
  if (const Node* environment = hook.Find("environment")) {
    for (const auto& [name, value] : environment->entries)
      config->add_env(value.is_null() ? name : absl::StrCat(name, "=", value.text));
  }
  config->set_user(hook.TextOf("user"));
  config->set_working_dir(hook.TextOf("working_dir"));
  config->set_privileged(hook.TrueAt("privileged"));
  config->set_attach_stdout(true);
  config->set_attach_stderr(true);
  stream->Write(open);
  v1::ExecOutput output;
  std::optional<uint32_t> code;
  while (stream->Read(&output)) {
    if (output.has_exited()) code = output.exited().exit_code();
  }
  GANTRY_RETURN_IF_ERROR(stream->Finish());
  if (code.value_or(1) == 0) return absl::OkStatus();
  const std::string at = hook.at.Text();
  return absl::FailedPreconditionError(absl::StrCat(
      at.empty() ? "" : at + ": ", place, ": the command exited with status ", code.value_or(1)));
}

absl::Status Engine::Start(const std::string& id) {
  v1::StartContainerRequest request;
  request.set_container(id);
  v1::StartContainerResponse response;
  return client_.Call(request, &response);
}

absl::Status Engine::Stop(const std::string& id, std::optional<int> timeout_seconds) {
  v1::StopContainerRequest request;
  request.set_container(id);
  if (timeout_seconds.has_value()) request.set_timeout_seconds(*timeout_seconds);
  v1::StopContainerResponse response;
  const absl::Status status = client_.Call(request, &response);
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::Status Engine::StopWithHooks(const Project& project, const std::string& service,
                                   const std::string& id, std::optional<int> timeout_seconds) {
  const Node* node = project.FindService(service);
  if (node != nullptr && node->Find("pre_stop") != nullptr) {
    bool unused = false;
    const absl::StatusOr<ObservedContainer> now = Look(id, &unused);
    if (now.ok() && now->state == State::kRunning)
      GANTRY_RETURN_IF_ERROR(RunHooks(project, service, id, "pre_stop"));
  }
  return Stop(id, timeout_seconds);
}

absl::Status Engine::Kill(const std::string& id, const std::string& signal) {
  v1::KillContainerRequest request;
  request.set_container(id);
  request.set_signal(signal);
  v1::KillContainerResponse response;
  return client_.Call(request, &response);
}

absl::Status Engine::Restart(const std::string& id, std::optional<int> timeout_seconds) {
  v1::RestartContainerRequest request;
  request.set_container(id);
  if (timeout_seconds.has_value()) request.set_timeout_seconds(*timeout_seconds);
  v1::RestartContainerResponse response;
  return client_.Call(request, &response);
}

std::vector<std::string> Engine::AnonymousVolumes(const std::string& id) {
  std::vector<std::string> out;
  v1::InspectContainerRequest request;
  request.set_container(id);
  v1::InspectContainerResponse response;
  // One that is gone has none.
  if (!client_.Call(request, &response).ok()) return out;
  for (const v1::MountPoint& mount : response.container().summary().mounts()) {
    if (!Anonymous(mount.name())) continue;
    v1::InspectVolumeRequest inspect;
    inspect.set_name(mount.name());
    v1::InspectVolumeResponse volume;
    if (client_.Call(inspect, &volume).ok() &&
        volume.volume().labels().count("com.docker.volume.anonymous") > 0)
      out.push_back(mount.name());
  }
  return out;
}

absl::Status Engine::Remove(const std::string& id, bool force, bool volumes) {
  // Those that a container has taken over from its predecessor are mounted by name, and stay with
  // the daemon's own removal.
  const std::vector<std::string> anonymous =
      volumes ? AnonymousVolumes(id) : std::vector<std::string>();
  v1::RemoveContainerRequest request;
  request.set_container(id);
  request.set_force(force);
  request.set_volumes(volumes);
  v1::RemoveContainerResponse response;
  const absl::Status status = client_.Call(request, &response);
  if (!status.ok() && !absl::IsNotFound(status)) return status;
  for (const std::string& name : anonymous) {
    v1::RemoveVolumeRequest remove;
    remove.set_name(name);
    v1::RemoveVolumeResponse removed;
    // Most are gone with the container; one that another container uses stays.
    (void)client_.Call(remove, &removed);
  }
  return absl::OkStatus();
}

absl::Status Engine::Pause(const std::string& id, bool pause) {
  if (pause) {
    v1::PauseContainerRequest request;
    request.set_container(id);
    v1::PauseContainerResponse response;
    return client_.Call(request, &response);
  }
  v1::UnpauseContainerRequest request;
  request.set_container(id);
  v1::UnpauseContainerResponse response;
  return client_.Call(request, &response);
}

absl::Status Engine::Breathe() {
  absl::SleepFor(kLookAgain);
  return cancelled_ ? absl::CancelledError("interrupted") : absl::OkStatus();
}

absl::StatusOr<ObservedContainer> Engine::Look(const std::string& id, bool* has_health_check) {
  v1::InspectContainerRequest request;
  request.set_container(id);
  v1::InspectContainerResponse response;
  GANTRY_RETURN_IF_ERROR(client_.Call(request, &response));
  const v1::HealthCheck& check = response.container().config().health_check();
  *has_health_check = check.test_size() > 0 && check.test(0) != "NONE";
  return Describe(response.container().summary());
}

absl::Status Engine::AwaitDependencies(
    const Project& project, const std::string& service,
    const std::function<void(const std::string&, const char*)>& waiting) {
  for (const Dependency& dependency : DependenciesOf(*project.FindService(service))) {
    const Node* other = project.FindService(dependency.service);
    // A service that is off, or has no containers, is not waited for.
    if (other == nullptr || other->Find("provider") != nullptr) continue;
    if (dependency.condition == Dependency::Condition::kStarted) continue;
    GANTRY_ASSIGN_OR_RETURN(const std::vector<v1::ContainerSummary> containers,
                            Containers(project.name, {dependency.service}, /*all=*/true));
    bool any = false;
    for (const v1::ContainerSummary& summary : containers) {
      const ObservedContainer container = Describe(summary);
      if (container.one_off) continue;
      any = true;
      const absl::Status status = AwaitOne(dependency.service, dependency, container, waiting);
      if (status.ok() || (!dependency.required && !absl::IsCancelled(status))) continue;
      return status;
    }
    if (!any && dependency.required && ScaleOf(*other) > 0) {
      return absl::FailedPreconditionError(
          absl::StrCat(service, " is missing dependency ", dependency.service));
    }
  }
  return absl::OkStatus();
}

absl::Status Engine::AwaitOne(const std::string& dependency, const Dependency& wanted,
                              const ObservedContainer& first,
                              const std::function<void(const std::string&, const char*)>& waiting) {
  waiting(first.name, "Waiting");
  while (true) {
    bool has_health_check = false;
    GANTRY_ASSIGN_OR_RETURN(const ObservedContainer now, Look(first.id, &has_health_check));
    const bool ended = now.state == State::kExited || now.state == State::kDead;
    if (wanted.condition == Dependency::Condition::kCompleted) {
      if (ended) {
        waiting(first.name, "Exited");
        if (now.exit_code == 0) return absl::OkStatus();
        return absl::FailedPreconditionError(absl::StrCat(
            "service \"", dependency, "\" didn't complete successfully: exit ", now.exit_code));
      }
    } else {
      if (!has_health_check) {
        return absl::FailedPreconditionError(absl::StrCat(
            "dependency failed to start: container ", now.name, " has no healthcheck configured"));
      }
      if (now.state == State::kRunning && now.health == "healthy") {
        waiting(first.name, "Healthy");
        return absl::OkStatus();
      }
      if (ended) {
        return absl::FailedPreconditionError(absl::StrCat(
            "dependency failed to start: container ", now.name, " exited (", now.exit_code, ")"));
      }
      if (now.health == "unhealthy") {
        return absl::FailedPreconditionError(
            absl::StrCat("dependency failed to start: container ", now.name, " is unhealthy"));
      }
    }
    GANTRY_RETURN_IF_ERROR(Breathe());
  }
}

absl::Status Engine::AwaitReady(const std::string& id, absl::Time deadline, bool may_complete) {
  while (true) {
    bool has_health_check = false;
    GANTRY_ASSIGN_OR_RETURN(const ObservedContainer now, Look(id, &has_health_check));
    if (now.state == State::kRunning && (!has_health_check || now.health == "healthy"))
      return absl::OkStatus();
    if (now.health == "unhealthy") {
      return absl::FailedPreconditionError(absl::StrCat("container ", now.name, " is unhealthy"));
    }
    if (now.state == State::kExited || now.state == State::kDead) {
      if (may_complete && now.exit_code == 0) return absl::OkStatus();
      return absl::FailedPreconditionError(
          absl::StrCat("container ", now.name, " exited (", now.exit_code, ")"));
    }
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat("container ", now.name, " is not ready"));
    }
    GANTRY_RETURN_IF_ERROR(Breathe());
  }
}

absl::Status Engine::AwaitSteady(const std::string& id, const std::string& name,
                                 absl::Duration monitor) {
  const absl::Time begin = absl::Now();
  while (true) {
    v1::InspectContainerRequest request;
    request.set_container(id);
    v1::InspectContainerResponse response;
    GANTRY_RETURN_IF_ERROR(client_.Call(request, &response));
    const v1::HealthCheck& check = response.container().config().health_check();
    const bool checked = check.test_size() > 0 && check.test(0) != "NONE";
    const ObservedContainer now = Describe(response.container().summary());
    if (now.health == "unhealthy")
      return absl::FailedPreconditionError(absl::StrCat("container ", name, " is unhealthy"));
    if (now.state != State::kRunning) {
      return absl::FailedPreconditionError(
          absl::StrCat("container ", name, " exited (", now.exit_code, ")"));
    }
    if (response.container().summary().restart_count() > 0)
      return absl::FailedPreconditionError(absl::StrCat("container ", name, " was restarted"));
    if (checked ? now.health == "healthy" : absl::Now() - begin >= monitor) return absl::OkStatus();
    GANTRY_RETURN_IF_ERROR(Breathe());
  }
}

absl::Status Engine::Rest(absl::Duration duration) {
  const absl::Time end = absl::Now() + duration;
  while (absl::Now() < end) GANTRY_RETURN_IF_ERROR(Breathe());
  return cancelled_ ? absl::CancelledError("interrupted") : absl::OkStatus();
}

absl::StatusOr<int> Engine::AwaitExit(const std::string& id) {
  v1::WaitContainerRequest request;
  request.set_container(id);
  v1::WaitContainerResponse response;
  GANTRY_RETURN_IF_ERROR(client_.Call(request, &response));
  return static_cast<int>(response.exit_code());
}

}  // namespace gantry::compose
