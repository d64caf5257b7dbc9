#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include <nlohmann/json.hpp>

#include "base/cancel_token.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "proto/cri/v1/runtime_service.grpc.pb.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/api/cri/container_events.h"
#include "supervisor/api/cri/container_now.h"
#include "supervisor/api/cri/cri_door.h"
#include "supervisor/api/cri/exec_to_end.h"
#include "supervisor/api/cri/in_namespace.h"
#include "supervisor/api/cri/runtime_status.h"
#include "supervisor/api/cri/sampler.h"
#include "supervisor/api/cri/stats.h"
#include "supervisor/api/cri/stream_server.h"
#include "supervisor/api/cri/translate.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"
#include "supervisor/api/grpc/list_stream.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/core/container_lifecycle.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/exec_runner.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/pod_containers.h"
#include "supervisor/core/pod_service.h"
#include "supervisor/core/task_service.h"

namespace gantry::api::cri {
namespace {

// The kubelet has one connection for everything.
constexpr size_t kRuntimeShare = 512;
constexpr size_t kMaxProfileBytes = 4 << 20;
constexpr size_t kItemsPerMessage = 100;

constexpr char kRuntimeName[] = "gantry";
constexpr char kKubeletVersion[] = "0.1.0";
constexpr char kApiVersion[] = "v1";

class RuntimeService final : public wire::RuntimeService::CallbackService {
 public:
  RuntimeService(const CriParts& parts, Executor& work)
      : parts_(parts), lane_(work, kRuntimeShare, Scoped::kNo), sampler_(parts) {}

  grpc::ServerUnaryReactor* Version(grpc::CallbackServerContext* context,
                                    const wire::VersionRequest*,
                                    wire::VersionResponse* response) override {
    return HandleQuick(
        *context,
        [=, this](Call&) {
          response->set_version(kKubeletVersion);
          response->set_runtime_name(kRuntimeName);
          response->set_runtime_version(parts_.version);
          response->set_runtime_api_version(kApiVersion);
          return absl::OkStatus();
        },
        Scoped::kNo);
  }

  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* context,
                                   const wire::StatusRequest* request,
                                   wire::StatusResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) {
      FillStatus(parts_, InNamespace(call), request->verbose(), *response);
      return absl::OkStatus();
    });
  }
  grpc::ServerUnaryReactor* RuntimeConfig(grpc::CallbackServerContext* context,
                                          const wire::RuntimeConfigRequest*,
                                          wire::RuntimeConfigResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call&) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(const std::vector<core::PodRuntime> runtimes,
                              parts_.pods->Runtimes());
      response->mutable_linux()->set_cgroup_driver(
          runtimes.front().systemd_cgroup ? wire::SYSTEMD : wire::CGROUPFS);
      return absl::OkStatus();
    });
  }
  grpc::ServerUnaryReactor* UpdateRuntimeConfig(grpc::CallbackServerContext* context,
                                                const wire::UpdateRuntimeConfigRequest*,
                                                wire::UpdateRuntimeConfigResponse*) override {
    // Addresses of pods are the network plugins' matter.
    return HandleQuick(
        *context, [](Call&) { return absl::OkStatus(); }, Scoped::kNo);
  }

  // ---- pods ----
  grpc::ServerUnaryReactor* RunPodSandbox(grpc::CallbackServerContext* context,
                                          const wire::RunPodSandboxRequest* request,
                                          wire::RunPodSandboxResponse* response) override {
    return HandleOn(
        lane_, *context,
        [=, this](Call& call) -> absl::Status {
          GANTRY_ASSIGN_OR_RETURN(const gantry::v1::PodConfig config,
                                  ToPod(request->config(), request->runtime_handler()));
          GANTRY_ASSIGN_OR_RETURN(
              *response->mutable_pod_sandbox_id(),
              parts_.pods->Run(InNamespace(call), config, request->config().SerializeAsString()));
          return absl::OkStatus();
        },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* StopPodSandbox(grpc::CallbackServerContext* context,
                                           const wire::StopPodSandboxRequest* request,
                                           wire::StopPodSandboxResponse*) override {
    return HandleOn(
        lane_, *context,
        [=, this](Call& call) {
          return parts_.pods->Stop(InNamespace(call), request->pod_sandbox_id());
        },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* RemovePodSandbox(grpc::CallbackServerContext* context,
                                             const wire::RemovePodSandboxRequest* request,
                                             wire::RemovePodSandboxResponse*) override {
    return HandleOn(
        lane_, *context,
        [=, this](Call& call) {
          return parts_.pods->Remove(InNamespace(call), request->pod_sandbox_id());
        },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* PodSandboxStatus(grpc::CallbackServerContext* context,
                                             const wire::PodSandboxStatusRequest* request,
                                             wire::PodSandboxStatusResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(const core::Pod pod,
                              parts_.pods->Get(InNamespace(call), request->pod_sandbox_id()));
      *response->mutable_status() = ToSandboxStatus(pod);
      if (request->verbose()) (*response->mutable_info())["info"] = PodInfo(pod);
      return absl::OkStatus();
    });
  }
  grpc::ServerUnaryReactor* ListPodSandbox(grpc::CallbackServerContext* context,
                                           const wire::ListPodSandboxRequest* request,
                                           wire::ListPodSandboxResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) {
      for (wire::PodSandbox& one : Sandboxes(call, request->filter()))
        *response->add_items() = std::move(one);
      return absl::OkStatus();
    });
  }
  grpc::ServerWriteReactor<wire::StreamPodSandboxesResponse>* StreamPodSandboxes(
      grpc::CallbackServerContext* context,
      const wire::StreamPodSandboxesRequest* request) override {
    return HandleList<wire::StreamPodSandboxesResponse>(
        lane_, *context,
        [this, request = *request](Call& call, Sender<wire::StreamPodSandboxesResponse>& out) {
          return SendInParts(Sandboxes(call, request.filter()), out,
                             [](wire::StreamPodSandboxesResponse& message, wire::PodSandbox one) {
                               *message.add_pod_sandboxes() = std::move(one);
                             });
        });
  }

  // ---- containers ----
  grpc::ServerUnaryReactor* CreateContainer(grpc::CallbackServerContext* context,
                                            const wire::CreateContainerRequest* request,
                                            wire::CreateContainerResponse* response) override {
    return HandleOn(
        lane_, *context,
        [=, this](Call& call) -> absl::Status {
          const core::CallContext in = InNamespace(call);
          wire::ContainerConfig config = request->config();
          // As they are now; shown in the container's status.
          for (wire::Mount& mount : *config.mutable_mounts()) {
            if (mount.has_image()) NameImageOf(in, mount);
          }
          GANTRY_ASSIGN_OR_RETURN(
              const core::PodContainer container,
              ToContainer(request->pod_sandbox_id(), config, [](const std::string& path) {
                return ReadFile(path, kMaxProfileBytes);
              }));
          GANTRY_ASSIGN_OR_RETURN(*response->mutable_container_id(),
                                  parts_.pod_containers->Create(in, container));
          return absl::OkStatus();
        },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* StartContainer(grpc::CallbackServerContext* context,
                                           const wire::StartContainerRequest* request,
                                           wire::StartContainerResponse*) override {
    return HandleOn(
        lane_, *context,
        [=, this](Call& call) {
          return parts_.pod_containers->Start(InNamespace(call), request->container_id());
        },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* StopContainer(grpc::CallbackServerContext* context,
                                          const wire::StopContainerRequest* request,
                                          wire::StopContainerResponse*) override {
    return HandleOn(lane_, *context, [=, this](Call& call) {
      return parts_.pod_containers->Stop(InNamespace(call), request->container_id(),
                                         absl::Seconds(request->timeout()));
    });
  }
  grpc::ServerUnaryReactor* RemoveContainer(grpc::CallbackServerContext* context,
                                            const wire::RemoveContainerRequest* request,
                                            wire::RemoveContainerResponse*) override {
    return HandleOn(
        lane_, *context,
        [=, this](Call& call) {
          return parts_.pod_containers->Remove(InNamespace(call), request->container_id());
        },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* ListContainers(grpc::CallbackServerContext* context,
                                           const wire::ListContainersRequest* request,
                                           wire::ListContainersResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) {
      return EachContainer(call, request->filter(), [response](wire::Container one) {
        *response->add_containers() = std::move(one);
      });
    });
  }
  grpc::ServerWriteReactor<wire::StreamContainersResponse>* StreamContainers(
      grpc::CallbackServerContext* context, const wire::StreamContainersRequest* request) override {
    return HandleList<wire::StreamContainersResponse>(
        lane_, *context,
        [this, request = *request](Call& call,
                                   Sender<wire::StreamContainersResponse>& out) -> absl::Status {
          std::vector<wire::Container> found;
          GANTRY_RETURN_IF_ERROR(
              EachContainer(call, request.filter(),
                            [&found](wire::Container one) { found.push_back(std::move(one)); }));
          return SendInParts(std::move(found), out,
                             [](wire::StreamContainersResponse& message, wire::Container one) {
                               *message.add_containers() = std::move(one);
                             });
        });
  }
  grpc::ServerUnaryReactor* ContainerStatus(grpc::CallbackServerContext* context,
                                            const wire::ContainerStatusRequest* request,
                                            wire::ContainerStatusResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      const core::CallContext in = InNamespace(call);
      GANTRY_ASSIGN_OR_RETURN(const ContainerNow now, Load(in, request->container_id()));
      const absl::StatusOr<core::Pod> pod = parts_.pods->Get(in, now.loaded.record.sandbox());
      *response->mutable_status() = ToStatus(now, pod.ok() ? &*pod : nullptr);
      if (request->verbose()) (*response->mutable_info())["info"] = VerboseInfo(now);
      return absl::OkStatus();
    });
  }
  grpc::ServerUnaryReactor* ReopenContainerLog(grpc::CallbackServerContext* context,
                                               const wire::ReopenContainerLogRequest* request,
                                               wire::ReopenContainerLogResponse*) override {
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      const core::CallContext in = InNamespace(call);
      GANTRY_ASSIGN_OR_RETURN(const ContainerNow now, Load(in, request->container_id()));
      GANTRY_RETURN_IF_ERROR(CheckRunning(now));
      return parts_.tasks->ReopenLog(in, now.loaded.id());
    });
  }

  grpc::ServerUnaryReactor* UpdateContainerResources(
      grpc::CallbackServerContext* context, const wire::UpdateContainerResourcesRequest* request,
      wire::UpdateContainerResourcesResponse*) override {
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      const core::CallContext in = InNamespace(call);
      GANTRY_ASSIGN_OR_RETURN(ContainerNow now, Load(in, request->container_id()));
      GANTRY_ASSIGN_OR_RETURN(const oci::Resources change, ToResources(request->linux()));
      MergeResources(request->linux(), *now.config.mutable_linux()->mutable_resources());
      return parts_.pod_containers->Update(in, now.loaded.id(), change, kExtension,
                                           now.config.SerializeAsString());
    });
  }
  grpc::ServerUnaryReactor* CheckpointContainer(grpc::CallbackServerContext* context,
                                                const wire::CheckpointContainerRequest* request,
                                                wire::CheckpointContainerResponse*) override {
    return HandleOn(lane_, *context, [=, this](Call& call) {
      core::CallContext in = InNamespace(call);
      CancelToken limit(
          request->timeout() > 0 ? absl::Seconds(request->timeout()) : absl::InfiniteDuration(),
          in.cancel);
      in.cancel = &limit;
      return parts_.pod_containers->Checkpoint(in, request->container_id(), request->location());
    });
  }
  grpc::ServerUnaryReactor* UpdatePodSandboxResources(
      grpc::CallbackServerContext* context, const wire::UpdatePodSandboxResourcesRequest* request,
      wire::UpdatePodSandboxResourcesResponse*) override {
    // The kubelet has set the pod's cgroup; plugins may want to know.
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(const oci::Resources overhead, ToResources(request->overhead()));
      GANTRY_ASSIGN_OR_RETURN(const oci::Resources resources, ToResources(request->resources()));
      return parts_.pods->Update(InNamespace(call), request->pod_sandbox_id(), overhead, resources);
    });
  }

  // ---- what is used ----
  grpc::ServerUnaryReactor* ContainerStats(grpc::CallbackServerContext* context,
                                           const wire::ContainerStatsRequest* request,
                                           wire::ContainerStatsResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      const core::CallContext in = InNamespace(call);
      std::vector<ContainerNow> one;
      GANTRY_ASSIGN_OR_RETURN(ContainerNow now, Load(in, request->container_id()));
      one.push_back(std::move(now));
      *response->mutable_stats() = ToStats(sampler_.Sample(in, std::move(one)).front());
      return absl::OkStatus();
    });
  }
  grpc::ServerUnaryReactor* ListContainerStats(
      grpc::CallbackServerContext* context, const wire::ListContainerStatsRequest* request,
      wire::ListContainerStatsResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(const std::vector<ContainerSample> samples,
                              sampler_.Samples(InNamespace(call), request->filter()));
      for (const ContainerSample& one : samples) *response->add_stats() = ToStats(one);
      return absl::OkStatus();
    });
  }
  grpc::ServerWriteReactor<wire::StreamContainerStatsResponse>* StreamContainerStats(
      grpc::CallbackServerContext* context,
      const wire::StreamContainerStatsRequest* request) override {
    return HandleList<wire::StreamContainerStatsResponse>(
        lane_, *context,
        [this, request = *request](
            Call& call, Sender<wire::StreamContainerStatsResponse>& out) -> absl::Status {
          GANTRY_ASSIGN_OR_RETURN(std::vector<ContainerSample> samples,
                                  sampler_.Samples(InNamespace(call), request.filter()));
          return SendInParts(
              std::move(samples), out,
              [](wire::StreamContainerStatsResponse& message, const ContainerSample& one) {
                *message.add_container_stats() = ToStats(one);
              });
        });
  }
  grpc::ServerUnaryReactor* PodSandboxStats(grpc::CallbackServerContext* context,
                                            const wire::PodSandboxStatsRequest* request,
                                            wire::PodSandboxStatsResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      const core::CallContext in = InNamespace(call);
      GANTRY_ASSIGN_OR_RETURN(const core::Pod pod, parts_.pods->Get(in, request->pod_sandbox_id()));
      GANTRY_ASSIGN_OR_RETURN(const std::vector<ContainerSample> samples,
                              sampler_.SamplesOf(in, pod));
      *response->mutable_stats() = ToPodStats(pod, samples, sampler_.Sample(pod));
      return absl::OkStatus();
    });
  }
  grpc::ServerUnaryReactor* ListPodSandboxStats(
      grpc::CallbackServerContext* context, const wire::ListPodSandboxStatsRequest* request,
      wire::ListPodSandboxStatsResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(std::vector<wire::PodSandboxStats> all,
                              sampler_.PodStats(InNamespace(call), request->filter()));
      for (wire::PodSandboxStats& one : all) *response->add_stats() = std::move(one);
      return absl::OkStatus();
    });
  }
  grpc::ServerWriteReactor<wire::StreamPodSandboxStatsResponse>* StreamPodSandboxStats(
      grpc::CallbackServerContext* context,
      const wire::StreamPodSandboxStatsRequest* request) override {
    return HandleList<wire::StreamPodSandboxStatsResponse>(
        lane_, *context,
        [this, request = *request](
            Call& call, Sender<wire::StreamPodSandboxStatsResponse>& out) -> absl::Status {
          GANTRY_ASSIGN_OR_RETURN(std::vector<wire::PodSandboxStats> all,
                                  sampler_.PodStats(InNamespace(call), request.filter()));
          return SendInParts(
              std::move(all), out,
              [](wire::StreamPodSandboxStatsResponse& message, wire::PodSandboxStats one) {
                *message.add_pod_sandbox_stats() = std::move(one);
              });
        });
  }
  grpc::ServerUnaryReactor* ListMetricDescriptors(
      grpc::CallbackServerContext* context, const wire::ListMetricDescriptorsRequest*,
      wire::ListMetricDescriptorsResponse* response) override {
    return HandleQuick(
        *context,
        [response](Call&) {
          for (wire::MetricDescriptor& one : MetricDescriptors())
            *response->add_descriptors() = std::move(one);
          return absl::OkStatus();
        },
        Scoped::kNo);
  }
  grpc::ServerUnaryReactor* ListPodSandboxMetrics(
      grpc::CallbackServerContext* context, const wire::ListPodSandboxMetricsRequest*,
      wire::ListPodSandboxMetricsResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(std::vector<wire::PodSandboxMetrics> all,
                              sampler_.PodMetrics(InNamespace(call)));
      for (wire::PodSandboxMetrics& one : all) *response->add_pod_metrics() = std::move(one);
      return absl::OkStatus();
    });
  }
  grpc::ServerWriteReactor<wire::StreamPodSandboxMetricsResponse>* StreamPodSandboxMetrics(
      grpc::CallbackServerContext* context, const wire::StreamPodSandboxMetricsRequest*) override {
    return HandleList<wire::StreamPodSandboxMetricsResponse>(
        lane_, *context,
        [this](Call& call, Sender<wire::StreamPodSandboxMetricsResponse>& out) -> absl::Status {
          GANTRY_ASSIGN_OR_RETURN(std::vector<wire::PodSandboxMetrics> all,
                                  sampler_.PodMetrics(InNamespace(call)));
          return SendInParts(
              std::move(all), out,
              [](wire::StreamPodSandboxMetricsResponse& message, wire::PodSandboxMetrics one) {
                *message.add_pod_sandbox_metrics() = std::move(one);
              });
        });
  }

  // Ends when the client leaves, or is too slow to read.
  grpc::ServerWriteReactor<wire::ContainerEventResponse>* GetContainerEvents(
      grpc::CallbackServerContext* context, const wire::GetEventsRequest*) override {
    return HandleList<wire::ContainerEventResponse>(
        lane_, *context,
        [this](Call& call, Sender<wire::ContainerEventResponse>& out) {
          return SendEvents(parts_, InNamespace(call), call.cancel(), out);
        },
        kViewerPatience);
  }

  // ---- processes ----
  grpc::ServerUnaryReactor* ExecSync(grpc::CallbackServerContext* context,
                                     const wire::ExecSyncRequest* request,
                                     wire::ExecSyncResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      const core::CallContext in = InNamespace(call);
      GANTRY_ASSIGN_OR_RETURN(const ContainerNow now, Load(in, request->container_id()));
      GANTRY_RETURN_IF_ERROR(CheckRunning(now));
      if (request->cmd_size() == 0) return absl::InvalidArgumentError("cmd: is empty");
      return ExecToEnd(*parts_.exec_runner, call, in.ns, now.loaded.id(), *request, *response);
    });
  }
  grpc::ServerUnaryReactor* Exec(grpc::CallbackServerContext* context,
                                 const wire::ExecRequest* request,
                                 wire::ExecResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckStreams(*request, request->container_id()));
      GANTRY_ASSIGN_OR_RETURN(const ContainerNow now,
                              Load(InNamespace(call), request->container_id()));
      GANTRY_RETURN_IF_ERROR(CheckRunning(now));
      GANTRY_ASSIGN_OR_RETURN(
          *response->mutable_url(),
          parts_.streams->ExecUrl(now.loaded.id(), {request->cmd().begin(), request->cmd().end()},
                                  StreamsOf(*request)));
      return absl::OkStatus();
    });
  }
  grpc::ServerUnaryReactor* Attach(grpc::CallbackServerContext* context,
                                   const wire::AttachRequest* request,
                                   wire::AttachResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckStreams(*request, request->container_id()));
      GANTRY_ASSIGN_OR_RETURN(const ContainerNow now,
                              Load(InNamespace(call), request->container_id()));
      GANTRY_RETURN_IF_ERROR(CheckRunning(now));
      GANTRY_ASSIGN_OR_RETURN(*response->mutable_url(),
                              parts_.streams->AttachUrl(now.loaded.id(), StreamsOf(*request)));
      return absl::OkStatus();
    });
  }
  grpc::ServerUnaryReactor* PortForward(grpc::CallbackServerContext* context,
                                        const wire::PortForwardRequest* request,
                                        wire::PortForwardResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(const core::Pod pod,
                              parts_.pods->Get(InNamespace(call), request->pod_sandbox_id()));
      if (!pod.ready)
        return absl::FailedPreconditionError(absl::StrCat("pod ", pod.id, ": is not ready"));
      GANTRY_ASSIGN_OR_RETURN(
          *response->mutable_url(),
          parts_.streams->PortForwardUrl(pod.id, {request->port().begin(), request->port().end()}));
      return absl::OkStatus();
    });
  }

 private:
  template <class Request>
  static StreamChoice StreamsOf(const Request& request) {
    StreamChoice streams;
    streams.tty = request.tty();
    streams.in = request.stdin();
    streams.out = request.stdout();
    streams.err = request.stderr();
    return streams;
  }
  template <class Request>
  static absl::Status CheckStreams(const Request& request, const std::string& id) {
    if (id.empty()) return absl::InvalidArgumentError("container_id: is empty");
    if (request.tty() && request.stderr())
      return absl::InvalidArgumentError("tty: a terminal has no stderr of its own");
    if (!request.stdin() && !request.stdout() && !request.stderr())
      return absl::InvalidArgumentError("none of stdin, stdout and stderr is asked for");
    return absl::OkStatus();
  }

  template <class Item, class Message, class Add>
  static absl::Status SendInParts(std::vector<Item> items, Sender<Message>& out, const Add& add) {
    Message message;
    size_t count = 0;
    for (Item& item : items) {
      add(message, std::move(item));
      if (++count % kItemsPerMessage != 0 && count != items.size()) continue;
      GANTRY_RETURN_IF_ERROR(out.Send(std::exchange(message, Message())));
    }
    return absl::OkStatus();
  }

  std::string PodInfo(const core::Pod& pod) {
    const absl::StatusOr<core::Process> init = parts_.tasks->view().Get(kNamespace, pod.id, "");
    nlohmann::json info = {{"pid", init.ok() ? init->pid : 0},
                           {"netNamespaceClosed", !pod.ready},
                           {"runtimeHandler", pod.config->runtime()},
                           {"hostname", pod.config->hostname()},
                           {"cgroupParent", pod.config->cgroup_parent()}};
    info["cniResult"] =
        nlohmann::json::parse(pod.network_json, nullptr, /*allow_exceptions=*/false);
    if (info["cniResult"].is_discarded()) info["cniResult"] = nullptr;
    return info.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }

  std::vector<wire::PodSandbox> Sandboxes(const Call& call, const wire::PodSandboxFilter& filter) {
    std::vector<wire::PodSandbox> found;
    for (const core::Pod& pod : parts_.pods->List(InNamespace(call))) {
      if (!absl::StartsWith(pod.id, filter.id())) continue;
      if (filter.has_state() && (filter.state().state() == wire::SANDBOX_READY) != pod.ready)
        continue;
      if (!LabelsFit(pod.config->labels(), filter.label_selector())) continue;
      found.push_back(ToSandbox(pod));
    }
    return found;
  }

  // Shows `take` what the filter selects, in order of id.
  absl::Status EachContainer(const Call& call, const wire::ContainerFilter& filter,
                             absl::FunctionRef<void(wire::Container)> take) {
    ContainerNow now;  // one for all: what it holds is most of what a row costs
    return parts_.pod_containers->Each(InNamespace(call), [&](core::LoadedContainer& loaded) {
      if (!absl::StartsWith(loaded.id(), filter.id())) return;
      if (!absl::StartsWith(loaded.record.sandbox(), filter.pod_sandbox_id())) return;
      now.loaded = std::move(loaded);
      AddTask(*parts_.tasks, now);
      const bool wanted = LabelsFit(now.config.labels(), filter.label_selector()) &&
                          (!filter.has_state() || filter.state().state() == StateOf(now));
      if (wanted) take(ToContainerItem(now));
      loaded = std::move(now.loaded);  // and with it the memory for the next
    });
  }

  absl::StatusOr<ContainerNow> Load(const core::CallContext& in, const std::string& id) {
    GANTRY_ASSIGN_OR_RETURN(core::LoadedContainer loaded, parts_.pod_containers->Load(in, id));
    return WithTask(*parts_.tasks, std::move(loaded));
  }
  // An image that is not here is an error of the container's creation.
  void NameImageOf(const core::CallContext& in, wire::Mount& mount) {
    const auto records = parts_.images->Find(in, mount.image().image());
    if (records.ok() && !records->empty())
      mount.mutable_image()->set_image_ref(records->front().target().digest());
  }
  static absl::Status CheckRunning(const ContainerNow& now) {
    if (StateOf(now) == wire::CONTAINER_RUNNING) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("container ", now.loaded.id().substr(0, 12), ": is not running"));
  }

  const CriParts parts_;
  Lane lane_;
  Sampler sampler_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewRuntimeService(const CriParts& parts, Executor& work) {
  return std::make_unique<RuntimeService>(parts, work);
}

}  // namespace gantry::api::cri
