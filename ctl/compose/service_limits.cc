#include "ctl/compose/service_limits.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "base/engine/units.h"
#include "base/engine/value_syntax.h"
#include "base/status_macros.h"
#include "ctl/compose/service_reader.h"
#include "proto/gantry/v1/container_config.pb.h"

namespace gantry::compose {
namespace {

class Limits : private ServiceReader {
 public:
  using ServiceReader::ServiceReader;

  absl::Status Set(v1::ContainerConfig* config) const {
    v1::Resources* r = config->mutable_resources();
    GANTRY_RETURN_IF_ERROR(
        Bytes(service_, "mem_limit", [&](int64_t bytes) { r->set_memory_bytes(bytes); }));
    GANTRY_RETURN_IF_ERROR(Bytes(service_, "mem_reservation",
                                 [&](int64_t bytes) { r->set_memory_reservation_bytes(bytes); }));
    GANTRY_RETURN_IF_ERROR(
        Bytes(service_, "memswap_limit", [&](int64_t bytes) { r->set_memory_swap_bytes(bytes); }));
    GANTRY_RETURN_IF_ERROR(
        Number("mem_swappiness", [&](int64_t value) { r->set_memory_swappiness(value); }));
    r->set_oom_kill_disable(service_.TrueAt("oom_kill_disable"));
    if (const std::string cpus = service_.TextOf("cpus"); !cpus.empty()) {
      const absl::StatusOr<int64_t> nanos = engine::ParseNanoCpus(cpus);
      if (!nanos.ok()) return Bad("cpus", nanos.status());
      r->set_nano_cpus(*nanos);
    }
    GANTRY_RETURN_IF_ERROR(Number("cpu_shares", [&](int64_t v) { r->set_cpu_shares(v); }));
    GANTRY_RETURN_IF_ERROR(Number("cpu_period", [&](int64_t v) { r->set_cpu_period_micros(v); }));
    GANTRY_RETURN_IF_ERROR(Number("cpu_quota", [&](int64_t v) { r->set_cpu_quota_micros(v); }));
    GANTRY_RETURN_IF_ERROR(
        Number("cpu_rt_period", [&](int64_t v) { r->set_cpu_rt_period_micros(v); }));
    GANTRY_RETURN_IF_ERROR(
        Number("cpu_rt_runtime", [&](int64_t v) { r->set_cpu_rt_runtime_micros(v); }));
    r->set_cpuset_cpus(service_.TextOf("cpuset"));
    GANTRY_RETURN_IF_ERROR(Number("pids_limit", [&](int64_t v) { r->set_pids_limit(v); }));
    if (const Node* ulimits = Below(service_, "ulimits")) {
      for (const auto& [name, limit] : ulimits->entries) {
        const std::string text = limit.is_map() ? absl::StrCat(name, "=", limit.TextOf("soft"), ":",
                                                               limit.TextOf("hard"))
                                                : absl::StrCat(name, "=", limit.text);
        absl::StatusOr<v1::Ulimit> parsed = engine::ParseUlimit(text);
        if (!parsed.ok()) return Bad("ulimits", parsed.status());
        *r->add_ulimits() = *std::move(parsed);
      }
    }
    if (const Node* devices = Below(service_, "devices")) {
      v1::DeviceRequest cdi;
      for (const Node& device : devices->items) {
        const std::string source = device.TextOf("source");
        if (IsCdiName(source)) {
          cdi.add_device_ids(source);
          continue;
        }
        v1::Device* out = r->add_devices();
        out->set_host_path(source);
        const std::string target = device.TextOf("target");
        out->set_container_path(target.empty() ? out->host_path() : target);
        const std::string permissions = device.TextOf("permissions");
        out->set_permissions(permissions.empty() ? "rwm" : permissions);
      }
      if (!cdi.device_ids().empty()) {
        cdi.set_driver("cdi");
        *config->add_device_requests() = std::move(cdi);
      }
    }
    Each("device_cgroup_rules", [&](const std::string& rule) { r->add_device_cgroup_rules(rule); });
    if (const Node* gpus = Below(service_, "gpus")) {
      GANTRY_RETURN_IF_ERROR(Requests("gpus", *gpus, /*gpu=*/true, config));
    }
    GANTRY_RETURN_IF_ERROR(BlockIo(r));
    return DeployLimits(config);
  }

 private:
  absl::Status BlockIo(v1::Resources* r) const {
    const Node* blkio = Below(service_, "blkio_config");
    if (blkio == nullptr) return absl::OkStatus();
    uint32_t weight = 0;
    if (absl::SimpleAtoi(blkio->TextOf("weight"), &weight)) r->set_blkio_weight(weight);
    const auto rates = [&](const char* key, const char* what, auto add) -> absl::Status {
      const Node* list = Below(*blkio, key);
      if (list == nullptr) return absl::OkStatus();
      for (const Node& item : list->items) {
        const absl::StatusOr<int64_t> rate = engine::ParseBytes(item.TextOf(what));
        if (!rate.ok())
          return Bad("blkio_config", absl::StrCat(key, ": ", rate.status().message()));
        v1::DeviceRate* out = add();
        out->set_path(item.TextOf("path"));
        out->set_rate(static_cast<uint64_t>(*rate));
      }
      return absl::OkStatus();
    };
    GANTRY_RETURN_IF_ERROR(
        rates("weight_device", "weight", [&] { return r->add_blkio_weight_device(); }));
    GANTRY_RETURN_IF_ERROR(
        rates("device_read_bps", "rate", [&] { return r->add_blkio_device_read_bps(); }));
    GANTRY_RETURN_IF_ERROR(
        rates("device_write_bps", "rate", [&] { return r->add_blkio_device_write_bps(); }));
    GANTRY_RETURN_IF_ERROR(
        rates("device_read_iops", "rate", [&] { return r->add_blkio_device_read_iops(); }));
    return rates("device_write_iops", "rate", [&] { return r->add_blkio_device_write_iops(); });
  }

  absl::Status DeployLimits(v1::ContainerConfig* config) const {
    v1::Resources* r = config->mutable_resources();
    const Node* deploy = Below(service_, "deploy");
    const Node* resources = deploy == nullptr ? nullptr : Below(*deploy, "resources");
    if (resources == nullptr) return absl::OkStatus();
    if (const Node* limits = Below(*resources, "limits")) {
      if (const std::string cpus = limits->TextOf("cpus"); !cpus.empty()) {
        const absl::StatusOr<int64_t> nanos = engine::ParseNanoCpus(cpus);
        if (!nanos.ok()) return Bad("deploy", nanos.status());
        r->set_nano_cpus(*nanos);
      }
      GANTRY_RETURN_IF_ERROR(
          Bytes(*limits, "memory", [&](int64_t bytes) { r->set_memory_bytes(bytes); }));
      int64_t pids = 0;
      if (absl::SimpleAtoi(limits->TextOf("pids"), &pids)) r->set_pids_limit(pids);
    }
    if (const Node* reservations = Below(*resources, "reservations")) {
      GANTRY_RETURN_IF_ERROR(Bytes(*reservations, "memory",
                                   [&](int64_t bytes) { r->set_memory_reservation_bytes(bytes); }));
      if (const Node* devices = Below(*reservations, "devices"))
        GANTRY_RETURN_IF_ERROR(Requests("deploy", *devices, /*gpu=*/false, config));
    }
    return absl::OkStatus();
  }

  // "vendor.com/class=name".
  static bool IsCdiName(absl::string_view text) {
    const size_t slash = text.find('/');
    return slash != text.npos && slash > 0 && text.find('=', slash) != text.npos;
  }

  // Devices by what they can do. With `gpu` that they are GPUs need not be said.
  absl::Status Requests(const char* key, const Node& list, bool gpu,
                        v1::ContainerConfig* config) const {
    for (const Node& item : list.items) {
      v1::DeviceRequest request;
      request.set_driver(item.TextOf("driver"));
      if (const Node* ids = Below(item, "device_ids")) {
        for (const Node& id : ids->items) request.add_device_ids(id.text);
      }
      const std::string count = item.TextOf("count");
      int32_t number = count.empty() && request.device_ids().empty() ? -1 : 0;
      if (count == "all") {
        number = -1;
      } else if (!count.empty() && !absl::SimpleAtoi(count, &number)) {
        return Bad(key, absl::StrCat("count \"", count, "\": expected a number or all"));
      }
      if (number != 0 && !request.device_ids().empty())
        return Bad(key, "count and device_ids exclude each other; leave one of them out");
      request.set_count(number);
      v1::StringList capabilities;
      if (const Node* words = Below(item, "capabilities")) {
        for (const Node& word : words->items) capabilities.add_values(word.text);
      }
      const bool named = std::find(capabilities.values().begin(), capabilities.values().end(),
                                   "gpu") != capabilities.values().end();
      if (gpu && !named) capabilities.add_values("gpu");
      if (!capabilities.values().empty()) *request.add_capabilities() = std::move(capabilities);
      if (const Node* options = Below(item, "options")) {
        for (const auto& [name, value] : options->entries)
          (*request.mutable_options())[name] = value.text;
      }
      *config->add_device_requests() = std::move(request);
    }
    return absl::OkStatus();
  }
};

}  // namespace

absl::Status SetLimits(const std::string& name, const Node& service, v1::ContainerConfig* config) {
  const Limits limits(name, service);
  return limits.Set(config);
}

}  // namespace gantry::compose
