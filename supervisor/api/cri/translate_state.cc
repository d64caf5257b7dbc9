// How pods and containers are doing, in CRI's messages.
#include <sys/types.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <nlohmann/json.hpp>

#include "supervisor/api/cri/translate.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry::api::cri {
namespace {

using nlohmann::json;
using State = record::v1::ContainerState;

constexpr uint32_t kStartFailed = 128;
constexpr uint32_t kLost = 255;

int64_t Nanos(absl::Time at) { return at == absl::InfinitePast() ? 0 : absl::ToUnixNanos(at); }

int64_t Nanos(const google::protobuf::Timestamp& at) {
  return at.seconds() * 1000000000 + at.nanos();
}

wire::PodSandboxConfig ConfigOf(const core::Pod& pod) {
  wire::PodSandboxConfig config;
  // Our own bytes; what cannot be read is shown as empty.
  (void)config.ParseFromString(*pod.extension);
  return config;
}

// The name of an image without its tag, with the digest that it had.
std::string RefOf(const std::string& name, const std::string& digest) {
  if (absl::StrContains(name, '@') || digest.empty()) return name;
  const size_t slash = name.rfind('/');
  const size_t colon = name.rfind(':');
  const bool tagged = colon != std::string::npos && (slash == std::string::npos || colon > slash);
  if (absl::StartsWith(name, "sha256:")) return digest;
  return absl::StrCat(tagged ? name.substr(0, colon) : name, "@", digest);
}

struct Ended {
  uint32_t code = 0;
  bool oom = false;
  int64_t at = 0;
};
Ended EndOf(const ContainerNow& container) {
  if (container.task.has_value() && container.task->status == core::ProcessStatus::kStopped)
    return {container.task->exit_status, container.task->oom_killed,
            Nanos(container.task->exited_at)};
  const State& state = container.loaded.state;
  return {state.exit_code(), state.oom_killed(), Nanos(state.finished_at())};
}

std::string ReasonOf(const ContainerNow& container, const Ended& end) {
  const std::string& error = container.loaded.state.error();
  if (end.oom) return "OOMKilled";
  if (end.code == 0) return "Completed";
  if (!error.empty() && end.code == kStartFailed) return "StartError";
  if (!error.empty() && end.code == kLost) return "Unknown";
  return "Error";
}

template <class From, class To>
void CopyMetadata(const From& from, To& to) {
  *to.mutable_metadata() = from.metadata();
  *to.mutable_labels() = from.labels();
  *to.mutable_annotations() = from.annotations();
}

void FillImage(const ContainerNow& container, wire::ImageSpec& spec, std::string& ref,
               std::string& id) {
  id = core::ImageOfContainer(container.loaded.record);
  spec = container.config.image();
  const std::string& name = container.loaded.record.image();
  if (!name.empty() && !absl::StartsWith(name, core::kDanglingPrefix) &&
      !absl::StartsWith(name, "sha256:"))
    spec.set_image(name);
  ref = RefOf(spec.image(), id);
}

json SpecOf(const ContainerNow& container) {
  return json::parse(container.loaded.record.spec().value(), nullptr, /*allow_exceptions=*/false);
}

}  // namespace

wire::PodSandbox ToSandbox(const core::Pod& pod) {
  wire::PodSandbox out;
  out.set_id(pod.id);
  CopyMetadata(ConfigOf(pod), out);
  out.set_state(pod.ready ? wire::SANDBOX_READY : wire::SANDBOX_NOTREADY);
  out.set_created_at(Nanos(pod.created_at));
  out.set_runtime_handler(pod.config->runtime());
  return out;
}

wire::PodSandboxStatus ToSandboxStatus(const core::Pod& pod) {
  const wire::PodSandboxConfig config = ConfigOf(pod);
  wire::PodSandboxStatus out;
  out.set_id(pod.id);
  CopyMetadata(config, out);
  out.set_state(pod.ready ? wire::SANDBOX_READY : wire::SANDBOX_NOTREADY);
  out.set_created_at(Nanos(pod.created_at));
  out.set_runtime_handler(pod.config->runtime());
  out.mutable_network();
  for (size_t i = 0; i < pod.addresses.size(); ++i) {
    if (i == 0) {
      out.mutable_network()->set_ip(pod.addresses[i]);
    } else {
      out.mutable_network()->add_additional_ips()->set_ip(pod.addresses[i]);
    }
  }
  *out.mutable_linux()->mutable_namespaces()->mutable_options() =
      config.linux().security_context().namespace_options();
  return out;
}

void ReadConfig(ContainerNow& now) {
  now.config.Clear();
  const auto found = now.loaded.record.extensions().find(kExtension);
  // Our own bytes, as above.
  if (found != now.loaded.record.extensions().end())
    (void)now.config.ParseFromString(found->second.value());
}

wire::ContainerState StateOf(const ContainerNow& container) {
  if (container.task.has_value()) {
    switch (container.task->status) {
      case core::ProcessStatus::kCreated:
        return wire::CONTAINER_CREATED;
      case core::ProcessStatus::kRunning:
      case core::ProcessStatus::kPaused:
      case core::ProcessStatus::kPausing:
        return wire::CONTAINER_RUNNING;
      case core::ProcessStatus::kStopped:
        return wire::CONTAINER_EXITED;
      case core::ProcessStatus::kUnknown:
        return wire::CONTAINER_UNKNOWN;
    }
  }
  switch (container.loaded.state.status()) {
    case State::CREATED:
      return wire::CONTAINER_CREATED;
    case State::RUNNING:
    case State::PAUSED:
      // The record says it runs and there is no task: it has ended, and that is being written down.
    case State::STOPPED:
      return wire::CONTAINER_EXITED;
    default:
      return wire::CONTAINER_UNKNOWN;
  }
}

wire::Container ToContainerItem(const ContainerNow& container) {
  wire::Container out;
  out.set_id(container.loaded.id());
  out.set_pod_sandbox_id(container.loaded.record.sandbox());
  CopyMetadata(container.config, out);
  FillImage(container, *out.mutable_image(), *out.mutable_image_ref(), *out.mutable_image_id());
  out.set_state(StateOf(container));
  out.set_created_at(Nanos(container.loaded.record.created_at()));
  return out;
}

wire::ContainerStatus ToStatus(const ContainerNow& container, const core::Pod* pod) {
  wire::ContainerStatus out;
  out.set_id(container.loaded.id());
  CopyMetadata(container.config, out);
  FillImage(container, *out.mutable_image(), *out.mutable_image_ref(), *out.mutable_image_id());
  out.set_state(StateOf(container));
  out.set_created_at(Nanos(container.loaded.record.created_at()));
  if (out.state() != wire::CONTAINER_CREATED) {
    out.set_started_at(Nanos(container.loaded.state.started_at()));
    if (container.task.has_value() && container.task->started_at != absl::InfinitePast())
      out.set_started_at(Nanos(container.task->started_at));
  }
  if (out.state() == wire::CONTAINER_EXITED) {
    const Ended end = EndOf(container);
    out.set_finished_at(end.at);
    out.set_exit_code(static_cast<int32_t>(end.code));
    out.set_reason(ReasonOf(container, end));
    if (out.reason() == "StartError") out.clear_started_at();
  }
  out.set_message(container.loaded.state.error());
  *out.mutable_mounts() = container.config.mounts();
  if (pod != nullptr && !container.config.log_path().empty())
    out.set_log_path(absl::StrCat(pod->config->log_directory(), "/", container.config.log_path()));
  *out.mutable_resources()->mutable_linux() = container.config.linux().resources();
  const json spec = SpecOf(container);
  if (spec.is_object() && spec.contains("process") && spec["process"].contains("user")) {
    const json& user = spec["process"]["user"];
    wire::LinuxContainerUser& shown = *out.mutable_user()->mutable_linux();
    shown.set_uid(user.value("uid", int64_t{0}));
    shown.set_gid(user.value("gid", int64_t{0}));
    if (user.contains("additionalGids")) {
      for (const json& group : user["additionalGids"])
        shown.add_supplemental_groups(group.get<int64_t>());
    }
  }
  wire::Signal signal = wire::SIGNAL_SIGTERM;
  if (container.config.stop_signal() != wire::SIGNAL_RUNTIME_DEFAULT) {
    signal = container.config.stop_signal();
  } else if (const std::string& name = container.loaded.config.stop_signal(); !name.empty()) {
    // One that the image names otherwise, such as by number, is shown as the usual one.
    (void)wire::Signal_Parse(
        absl::StrCat("SIGNAL_", absl::StartsWith(name, "SIG") ? "" : "SIG", name), &signal);
  }
  out.set_stop_signal(signal);
  return out;
}

std::string VerboseInfo(const ContainerNow& container) {
  json info = {{"sandboxID", container.loaded.record.sandbox()},
               {"pid", container.task.has_value() ? container.task->pid : 0},
               {"removing", container.loaded.state.removing()},
               {"snapshotKey", container.loaded.record.snapshot_key()},
               {"snapshotter", container.loaded.record.snapshotter()},
               {"runtimeType", container.loaded.record.runtime().name()},
               {"runtimeSpec", SpecOf(container)}};
  return info.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace gantry::api::cri
