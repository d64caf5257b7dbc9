#include "ctl/compose/container_config.h"

#include <functional>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/engine/units.h"
#include "base/engine/value_syntax.h"
#include "base/status_macros.h"
#include "ctl/compose/service_limits.h"
#include "ctl/compose/service_reader.h"
#include "ctl/version.h"
#include "proto/gantry/v1/container_config.pb.h"

namespace gantry::compose {
namespace {

// Reads one service into a configuration. Each step says which key is wrong.
class Translator : private ServiceReader {
 public:
  Translator(const Project& project, const Replica& replica,
             const std::map<std::string, std::string>& containers)
      : ServiceReader(replica.service, *project.FindService(replica.service)),
        project_(project),
        replica_(replica),
        containers_(containers) {}

  absl::StatusOr<v1::ContainerConfig> Translate() {
    for (const auto& step : {&Translator::Process, &Translator::Labels, &Translator::Life,
                             &Translator::Mounts, &Translator::Security, &Translator::Namespaces,
                             &Translator::Networks, &Translator::Refused}) {
      GANTRY_RETURN_IF_ERROR((this->*step)());
    }
    GANTRY_RETURN_IF_ERROR(SetLimits(name_, service_, &config_));
    return std::move(config_);
  }

 private:
  absl::Status Process() {
    config_.set_image(ImageOf(project_, replica_.service));
    config_.set_platform(service_.TextOf("platform"));
    if (const Node* entrypoint = Below(service_, "entrypoint")) {
      config_.mutable_entrypoint();
      for (const Node& word : entrypoint->items)
        config_.mutable_entrypoint()->add_values(word.text);
    }
    Each("command", [&](const std::string& word) { config_.add_command(word); });
    if (const Node* environment = Below(service_, "environment")) {
      for (const auto& [name, value] : environment->entries)
        config_.add_env(value.is_null() ? name : absl::StrCat(name, "=", value.text));
    }
    config_.set_working_dir(service_.TextOf("working_dir"));
    config_.set_user(service_.TextOf("user"));
    Each("group_add", [&](const std::string& group) { config_.add_group_add(group); });
    config_.set_hostname(service_.TextOf("hostname"));
    config_.set_domainname(service_.TextOf("domainname"));
    config_.set_tty(service_.TrueAt("tty"));
    config_.set_open_stdin(service_.TrueAt("stdin_open"));
    config_.set_attach_stdout(true);
    config_.set_attach_stderr(true);
    config_.set_stop_signal(service_.TextOf("stop_signal"));
    if (const std::string text = service_.TextOf("stop_grace_period"); !text.empty()) {
      const absl::StatusOr<absl::Duration> grace = engine::ParseDuration(text);
      if (!grace.ok()) return Bad("stop_grace_period", grace.status());
      config_.set_stop_timeout_seconds(
          static_cast<int32_t>(absl::ToInt64Seconds(absl::Ceil(*grace, absl::Seconds(1)))));
    }
    if (!service_.TextOf("init").empty()) config_.set_init(service_.TrueAt("init"));
    if (const Node* annotations = Below(service_, "annotations")) {
      for (const auto& [key, value] : annotations->entries)
        (*config_.mutable_annotations())[key] = value.text;
    }
    return absl::OkStatus();
  }

  absl::Status Labels() {
    auto& labels = *config_.mutable_labels();
    if (const Node* own = Below(service_, "labels")) {
      for (const auto& [key, value] : own->entries) labels[key] = value.text;
    }
    labels[kProjectLabel] = project_.name;
    labels[kServiceLabel] = replica_.service;
    labels[kOneOffLabel] = replica_.one_off.empty() ? "False" : "True";
    if (replica_.one_off.empty()) {
      labels[kNumberLabel] = absl::StrCat(replica_.number);
    } else {
      labels[kSlugLabel] = replica_.one_off;
    }
    labels[kHashLabel] = ServiceHash(project_, replica_.service, containers_);
    labels[kImageLabel] = replica_.image_digest;
    labels[kDependsLabel] =
        absl::StrJoin(DependenciesOf(service_), ",", [](std::string* out, const Dependency& one) {
          absl::StrAppend(out, one.service, ":", ConditionWord(one.condition), ":",
                          one.restart ? "true" : "false");
        });
    labels[kDirectoryLabel] = project_.directory;
    labels[kFilesLabel] = absl::StrJoin(project_.files, ",");
    if (!project_.env_files.empty()) labels[kEnvFileLabel] = absl::StrJoin(project_.env_files, ",");
    labels[kVersionLabel] = absl::StrCat(kVersionPrefix, ctl::kCtlVersion);
    return absl::OkStatus();
  }

  absl::Status Life() {
    std::string restart = service_.TextOf("restart");
    const Node* deploy = Below(service_, "deploy");
    if (const Node* policy = deploy == nullptr ? nullptr : Below(*deploy, "restart_policy")) {
      const std::string condition = policy->TextOf("condition");
      const std::string attempts = policy->TextOf("max_attempts");
      const bool said = condition == "on-failure" || condition == "unless-stopped";
      restart = condition == "none" || condition == "no" ? "no" : said ? condition : "always";
      if (restart == "on-failure" && !attempts.empty()) absl::StrAppend(&restart, ":", attempts);
    }
    if (!restart.empty() && replica_.one_off.empty()) {
      absl::StatusOr<v1::RestartPolicy> policy = engine::ParseRestartPolicy(restart);
      if (!policy.ok()) return Bad("restart", policy.status());
      *config_.mutable_restart_policy() = *std::move(policy);
    }
    if (const Node* logging = Below(service_, "logging")) {
      config_.mutable_log()->set_driver(logging->TextOf("driver"));
      if (const Node* options = Below(*logging, "options")) {
        for (const auto& [key, value] : options->entries)
          (*config_.mutable_log()->mutable_options())[key] = value.text;
      }
    }
    config_.set_runtime(service_.TextOf("runtime"));
    return Health();
  }

  absl::Status Health() {
    const Node* health = Below(service_, "healthcheck");
    if (health == nullptr) return absl::OkStatus();
    v1::HealthCheck* check = config_.mutable_health_check();
    if (health->TrueAt("disable")) {
      check->add_test("NONE");
      return absl::OkStatus();
    }
    if (const Node* test = Below(*health, "test")) {
      for (const Node& word : test->items) check->add_test(word.text);
    }
    const auto duration = [&](const char* key, google::protobuf::Duration* out) -> absl::Status {
      const absl::StatusOr<absl::Duration> value = engine::ParseDuration(health->TextOf(key));
      if (!value.ok()) return Bad("healthcheck", absl::StrCat(key, ": ", value.status().message()));
      const int64_t nanos = absl::ToInt64Nanoseconds(*value);
      out->set_seconds(nanos / 1'000'000'000);
      out->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
      return absl::OkStatus();
    };
    if (!health->TextOf("interval").empty())
      GANTRY_RETURN_IF_ERROR(duration("interval", check->mutable_interval()));
    if (!health->TextOf("timeout").empty())
      GANTRY_RETURN_IF_ERROR(duration("timeout", check->mutable_timeout()));
    if (!health->TextOf("start_period").empty())
      GANTRY_RETURN_IF_ERROR(duration("start_period", check->mutable_start_period()));
    if (!health->TextOf("start_interval").empty())
      GANTRY_RETURN_IF_ERROR(duration("start_interval", check->mutable_start_interval()));
    int32_t retries = 0;
    if (absl::SimpleAtoi(health->TextOf("retries"), &retries)) check->set_retries(retries);
    return absl::OkStatus();
  }

  absl::Status Mounts() {
    if (const Node* volumes = Below(service_, "volumes")) {
      for (const Node& volume : volumes->items) GANTRY_RETURN_IF_ERROR(Mount(volume));
    }
    absl::Status failed;
    Each("tmpfs", [&](const std::string& text) {
      absl::StatusOr<v1::Mount> mount = engine::ParseTmpfs(text);
      if (!mount.ok() && failed.ok()) failed = Bad("tmpfs", mount.status());
      if (mount.ok()) *config_.add_mounts() = *std::move(mount);
    });
    GANTRY_RETURN_IF_ERROR(failed);
    if (const Node* from = Below(service_, "volumes_from")) {
      for (const Node& item : from->items) {
        absl::string_view text = item.text;
        if (absl::ConsumePrefix(&text, "container:")) {
          config_.add_volumes_from(std::string(text));
          continue;
        }
        const size_t colon = text.find(':');
        GANTRY_ASSIGN_OR_RETURN(const std::string id,
                                ContainerOf(std::string(text.substr(0, colon)), "volumes_from"));
        config_.add_volumes_from(absl::StrCat(id, colon == text.npos ? "" : text.substr(colon)));
      }
    }
    config_.set_read_only_rootfs(service_.TrueAt("read_only"));
    GANTRY_RETURN_IF_ERROR(
        Bytes(service_, "shm_size", [&](int64_t bytes) { config_.set_shm_size_bytes(bytes); }));
    if (const Node* options = Below(service_, "storage_opt")) {
      for (const auto& [key, value] : options->entries)
        (*config_.mutable_storage_options())[key] = value.text;
    }
    return FileMounts();
  }

  absl::Status Mount(const Node& volume) {
    v1::Mount* mount = config_.add_mounts();
    mount->set_target(volume.TextOf("target"));
    mount->set_read_only(volume.TrueAt("read_only"));
    const std::string type = volume.TextOf("type");
    const std::string source = volume.TextOf("source");
    if (type == "bind") {
      mount->set_type(v1::Mount::BIND);
      mount->set_source(source);
      mount->set_create_source(true);
      if (const Node* bind = Below(volume, "bind")) {
        mount->set_create_source(bind->TextOf("create_host_path") != "false");
        mount->set_propagation(bind->TextOf("propagation"));
        const std::string recursive = bind->TextOf("recursive");
        mount->set_non_recursive(recursive == "disabled");
        mount->set_read_only_non_recursive(recursive == "writable");
        mount->set_read_only_force_recursive(recursive == "readonly");
      }
    } else if (type == "tmpfs") {
      mount->set_type(v1::Mount::TMPFS);
      if (const Node* tmpfs = Below(volume, "tmpfs")) {
        GANTRY_RETURN_IF_ERROR(
            Bytes(*tmpfs, "size", [&](int64_t bytes) { mount->set_tmpfs_size_bytes(bytes); }));
        uint32_t mode = 0;
        const std::string text = tmpfs->TextOf("mode");
        if (!text.empty() && !absl::SimpleAtoi(text, &mode))
          return Bad("volumes", absl::StrCat("tmpfs mode \"", text, "\": expected a number"));
        mount->set_tmpfs_mode(mode);
      }
    } else if (type == "image") {
      mount->set_type(v1::Mount::IMAGE);
      mount->set_source(source);
      if (const Node* image = Below(volume, "image")) mount->set_subpath(image->TextOf("subpath"));
    } else {
      mount->set_type(v1::Mount::VOLUME);
      const Node* volumes = project_.model.Find("volumes");
      const Node* declared = volumes == nullptr || source.empty() ? nullptr : volumes->Find(source);
      mount->set_source(declared == nullptr ? source : declared->TextOf("name"));
      if (const Node* options = Below(volume, "volume")) {
        mount->set_no_copy(options->TrueAt("nocopy"));
        mount->set_subpath(options->TextOf("subpath"));
        if (const Node* labels = Below(*options, "labels")) {
          for (const auto& [key, value] : labels->entries)
            (*mount->mutable_volume_labels())[key] = value.text;
        }
      }
    }
    return absl::OkStatus();
  }

  // Secrets and configs that are files of the host.
  absl::Status FileMounts() {
    for (const auto& [kind, directory] : std::vector<std::pair<const char*, const char*>>{
             {"secrets", "/run/secrets/"}, {"configs", "/"}}) {
      const Node* files = Below(service_, kind);
      const Node* declared = project_.model.Find(kind);
      if (files == nullptr || declared == nullptr) continue;
      for (const Node& file : files->items) {
        const std::string source = file.TextOf("source");
        const Node* resource = declared->Find(source);
        const std::string path = resource == nullptr ? "" : resource->TextOf("file");
        if (path.empty()) continue;
        std::string target = file.TextOf("target");
        if (target.empty()) target = source;
        v1::Mount* mount = config_.add_mounts();
        mount->set_type(v1::Mount::BIND);
        mount->set_source(path);
        mount->set_target(absl::StartsWith(target, "/") ? target : directory + target);
        mount->set_read_only(true);
      }
    }
    return absl::OkStatus();
  }

  absl::Status Security() {
    config_.set_privileged(service_.TrueAt("privileged"));
    Each("cap_add", [&](const std::string& text) { config_.add_cap_add(text); });
    Each("cap_drop", [&](const std::string& text) { config_.add_cap_drop(text); });
    Each("security_opt", [&](const std::string& text) {
      // docker's old spelling.
      const size_t colon = text.find(':');
      const bool old = text.find('=') == std::string::npos && colon != std::string::npos;
      config_.add_security_options(
          old ? absl::StrCat(text.substr(0, colon), "=", text.substr(colon + 1)) : text);
    });
    if (const Node* sysctls = Below(service_, "sysctls")) {
      for (const auto& [key, value] : sysctls->entries)
        (*config_.mutable_sysctls())[key] = value.text;
    }
    config_.set_cgroup_parent(service_.TextOf("cgroup_parent"));
    return Number("oom_score_adj",
                  [&](int64_t value) { config_.set_oom_score_adj(static_cast<int32_t>(value)); });
  }

  absl::StatusOr<std::string> ContainerOf(const std::string& service, absl::string_view key) const {
    const auto found = containers_.find(service);
    if (found == containers_.end()) {
      return Bad(key, absl::StrCat("service \"", service, "\" has no container to share"));
    }
    return found->second;
  }

  absl::StatusOr<std::string> Mode(const char* key) const {
    const std::string mode = service_.TextOf(key);
    absl::string_view other = mode;
    if (!absl::ConsumePrefix(&other, "service:")) return mode;
    GANTRY_ASSIGN_OR_RETURN(const std::string id, ContainerOf(std::string(other), key));
    return absl::StrCat("container:", id);
  }

  absl::Status Namespaces() {
    GANTRY_ASSIGN_OR_RETURN(*config_.mutable_pid_mode(), Mode("pid"));
    GANTRY_ASSIGN_OR_RETURN(*config_.mutable_ipc_mode(), Mode("ipc"));
    config_.set_uts_mode(service_.TextOf("uts"));
    config_.set_userns_mode(service_.TextOf("userns_mode"));
    config_.set_cgroupns_mode(service_.TextOf("cgroup"));
    return absl::OkStatus();
  }

  absl::Status Networks() {
    GANTRY_ASSIGN_OR_RETURN(const std::string mode, Mode("network_mode"));
    config_.set_network_mode(mode);
    const Node* networks = Below(service_, "networks");
    if (networks != nullptr && !networks->entries.empty()) Attach(*networks);
    GANTRY_RETURN_IF_ERROR(Ports());
    Each("dns", [&](const std::string& text) { config_.add_dns(text); });
    Each("dns_search", [&](const std::string& text) { config_.add_dns_search(text); });
    Each("dns_opt", [&](const std::string& text) { config_.add_dns_options(text); });
    Each("extra_hosts", [&](const std::string& text) {
      const size_t equals = text.find('=');
      config_.add_extra_hosts(absl::StrCat(text.substr(0, equals), ":", text.substr(equals + 1)));
    });
    config_.set_mac_address(service_.TextOf("mac_address"));
    return absl::OkStatus();
  }

  void Attach(const Node& networks) {
    std::vector<std::pair<std::string, const Node*>> order;
    for (const auto& [key, node] : networks.entries) order.emplace_back(key, &node);
    const auto priority = [](const Node* node) {
      int value = 0;
      return absl::SimpleAtoi(node->TextOf("priority"), &value) ? value : 0;
    };
    std::stable_sort(order.begin(), order.end(), [&](const auto& a, const auto& b) {
      return priority(a.second) > priority(b.second);
    });
    const Node* declared = project_.model.Find("networks");
    for (const auto& [key, node] : order) {
      const Node* network = declared == nullptr ? nullptr : declared->Find(key);
      v1::NetworkAttachment* attachment = config_.add_networks();
      attachment->set_network(network == nullptr ? key : network->TextOf("name"));
      attachment->add_aliases(ContainerNameOf(project_, replica_));
      if (replica_.one_off.empty()) attachment->add_aliases(replica_.service);
      if (const Node* aliases = Below(*node, "aliases")) {
        for (const Node& alias : aliases->items) {
          if (replica_.one_off.empty()) attachment->add_aliases(alias.text);
        }
      }
      attachment->set_ipv4_address(node->TextOf("ipv4_address"));
      attachment->set_ipv6_address(node->TextOf("ipv6_address"));
      attachment->set_mac_address(node->TextOf("mac_address"));
      if (const Node* local = Below(*node, "link_local_ips")) {
        for (const Node& address : local->items) attachment->add_link_local_addresses(address.text);
      }
      if (const Node* options = Below(*node, "driver_opts")) {
        for (const auto& [name, value] : options->entries)
          (*attachment->mutable_driver_options())[name] = value.text;
      }
      if (const std::string device = node->TextOf("interface_name"); !device.empty())
        (*attachment->mutable_driver_options())["com.docker.network.endpoint.ifname"] = device;
      int gateway = 0;
      if (absl::SimpleAtoi(node->TextOf("gw_priority"), &gateway))
        attachment->set_gateway_priority(gateway);
      if (const Node* links = Below(service_, "links")) {
        for (const Node& link : links->items) AddLink(link.text, attachment);
      }
      // CONTAINER[:ALIAS] of containers that are not the project's.
      Each("external_links", [&](const std::string& text) {
        attachment->add_links(absl::StrContains(text, ':') ? text : absl::StrCat(text, ":", text));
      });
    }
    config_.set_network_mode(config_.networks(0).network());
  }

  // SERVICE[:ALIAS]
  void AddLink(const std::string& text, v1::NetworkAttachment* attachment) const {
    const size_t colon = text.find(':');
    const std::string service = text.substr(0, colon);
    const auto id = containers_.find(service);
    if (id == containers_.end()) return;
    attachment->add_links(absl::StrCat(
        id->second, ":", colon == std::string::npos ? service : text.substr(colon + 1)));
  }

  absl::Status Ports() {
    if (const Node* ports = Below(service_, "ports");
        ports != nullptr && replica_.one_off.empty()) {
      for (const Node& port : ports->items) {
        v1::PortBinding* binding = config_.add_port_bindings();
        uint32_t target = 0;
        if (!absl::SimpleAtoi(port.TextOf("target"), &target) || target == 0 || target > 65535) {
          return Bad("ports", absl::StrCat("target \"", port.TextOf("target"),
                                           "\": expected a port from 1 to 65535"));
        }
        binding->set_container_port(target);
        binding->set_protocol(port.TextOf("protocol"));
        binding->set_host_ip(port.TextOf("host_ip"));
        binding->set_host_port(port.TextOf("published"));
        config_.add_exposed_ports(absl::StrCat(target, "/", port.TextOf("protocol")));
      }
    }
    Each("expose", [&](const std::string& text) {
      config_.add_exposed_ports(text.find('/') == std::string::npos ? text + "/tcp" : text);
    });
    return absl::OkStatus();
  }

  // Never ignored in silence.
  absl::Status Refused() {
    for (const char* key : {"credential_spec", "use_api_socket"}) {
      if (Below(service_, key) == nullptr || service_.TextOf(key) == "false") continue;
      return absl::FailedPreconditionError(absl::StrCat(service_.Find(key)->at.Text(),
                                                        ": services.", replica_.service, ".", key,
                                                        ": not supported by ctl compose"));
    }
    return absl::OkStatus();
  }

  const Project& project_;
  const Replica& replica_;
  const std::map<std::string, std::string>& containers_;
  v1::ContainerConfig config_;
};

}  // namespace

std::string ContainerNameOf(const Project& project, const Replica& replica) {
  if (!replica.one_off.empty()) {
    return absl::StrJoin(
        {project.name, replica.service, std::string("run"), replica.one_off.substr(0, 12)},
        project.separator);
  }
  const Node* service = project.FindService(replica.service);
  const std::string own = service == nullptr ? "" : service->TextOf("container_name");
  if (!own.empty()) return own;
  return absl::StrCat(project.name, project.separator, replica.service, project.separator,
                      replica.number);
}

absl::StatusOr<v1::ContainerConfig> ContainerConfigOf(
    const Project& project, const Replica& replica,
    const std::map<std::string, std::string>& containers) {
  return Translator(project, replica, containers).Translate();
}

std::vector<std::string> WithoutEffect(const Project& project, const std::string& service) {
  std::vector<std::string> out;
  const Node* node = project.FindService(service);
  if (node == nullptr) return out;
  for (const char* key : {"cpu_count", "cpu_percent"}) {
    if (const Node* value = Below(*node, key)) {
      out.push_back(absl::StrCat(value->at.Text(), ": services.", service, ".", key,
                                 " is for Windows and has no effect"));
    }
  }
  for (const char* kind : {"secrets", "configs"}) {
    const Node* files = Below(*node, kind);
    const Node* declared = project.model.Find(kind);
    if (files == nullptr || declared == nullptr) continue;
    for (const Node& file : files->items) {
      const Node* resource = declared->Find(file.TextOf("source"));
      if (resource == nullptr || resource->TextOf("file").empty()) continue;
      if (Below(file, "uid") == nullptr && Below(file, "gid") == nullptr &&
          Below(file, "mode") == nullptr)
        continue;
      out.push_back(absl::StrCat(file.at.Text(), ": services.", service, ".", kind, ": ",
                                 file.TextOf("source"),
                                 " is a file of the host and keeps its owner and mode; uid, gid "
                                 "and mode have no effect"));
    }
  }
  return out;
}

absl::Status CheckService(const Project& project, const std::string& service) {
  std::map<std::string, std::string> ids;
  for (const std::string& other : project.ServiceNames()) ids[other] = "not-made-yet";
  GANTRY_RETURN_IF_ERROR(ContainerConfigOf(project, {service, 1, "", ""}, ids).status());
  return InjectedFilesOf(project, service).status();
}

}  // namespace gantry::compose
