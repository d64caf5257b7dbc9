// Of container_config.h: hashes, networks and volumes, and files that go into created containers.
#include <nettle/sha2.h>

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "ctl/compose/container_config.h"
#include "ctl/compose/docker_json.h"
#include "ctl/compose/service_reader.h"
#include "ctl/version.h"
#include "proto/gantry/v1/networks.pb.h"

namespace gantry::compose {
namespace {

std::string Sha256(const std::string& text) {
  sha256_ctx context;
  sha256_init(&context);
  sha256_update(&context, text.size(), reinterpret_cast<const uint8_t*>(text.data()));
  uint8_t digest[SHA256_DIGEST_SIZE];
  sha256_digest(&context, sizeof digest, digest);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest), sizeof digest));
}

}  // namespace

std::string ServiceHash(const Project& project, const std::string& service,
                        const std::map<std::string, std::string>& containers) {
  const Node* found = project.FindService(service);
  return found == nullptr ? "" : Sha256(DockerJsonOfService(*found, containers));
}

std::string ResourceHash(const Project& project, const std::string& kind, const std::string& key) {
  const Node* section = project.model.Find(kind);
  const Node* resource = section == nullptr ? nullptr : section->Find(key);
  if (resource == nullptr) return "";
  return Sha256(kind == "networks" ? DockerJsonOfNetwork(*resource)
                                   : DockerJsonOfVolume(*resource));
}

std::map<std::string, std::string> ResourceLabels(const Project& project, const std::string& kind,
                                                  const std::string& key) {
  std::map<std::string, std::string> labels;
  const Node* section = project.model.Find(kind);
  const Node* resource = section == nullptr ? nullptr : section->Find(key);
  if (resource != nullptr) {
    if (const Node* own = Below(*resource, "labels")) {
      for (const auto& [name, value] : own->entries) labels[name] = value.text;
    }
  }
  labels[kProjectLabel] = project.name;
  labels[kind == "networks" ? kNetworkLabel : kVolumeLabel] = key;
  labels[kHashLabel] = ResourceHash(project, kind, key);
  labels[kVersionLabel] = absl::StrCat(kVersionPrefix, ctl::kCtlVersion);
  return labels;
}

absl::StatusOr<v1::CreateNetworkRequest> NetworkRequestOf(const Project& project,
                                                          const std::string& key) {
  const Node* section = project.model.Find("networks");
  const Node* network = section == nullptr ? nullptr : section->Find(key);
  if (network == nullptr) return absl::NotFoundError(absl::StrCat("no such network: ", key));
  v1::CreateNetworkRequest request;
  request.set_name(network->TextOf("name"));
  request.set_driver(network->TextOf("driver"));
  request.set_internal(network->TrueAt("internal"));
  request.set_attachable(network->TrueAt("attachable"));
  request.set_ipv6(network->TrueAt("enable_ipv6"));
  request.set_no_ipv4(network->TextOf("enable_ipv4") == "false");
  if (const Node* options = Below(*network, "driver_opts")) {
    for (const auto& [name, value] : options->entries)
      (*request.mutable_options())[name] = value.text;
  }
  if (const Node* ipam = Below(*network, "ipam")) {
    const std::string driver = ipam->TextOf("driver");
    if (!driver.empty() && driver != "default") {
      return absl::FailedPreconditionError(absl::StrCat(ipam->at.Text(), ": networks.", key,
                                                        ".ipam.driver: \"", driver,
                                                        "\" is not there; use default"));
    }
    if (const Node* pools = Below(*ipam, "config")) {
      for (const Node& pool : pools->items) {
        v1::IpamPool* out = request.add_pools();
        out->set_subnet(pool.TextOf("subnet"));
        out->set_ip_range(pool.TextOf("ip_range"));
        out->set_gateway(pool.TextOf("gateway"));
        if (const Node* auxiliary = Below(pool, "aux_addresses")) {
          for (const auto& [name, value] : auxiliary->entries)
            (*out->mutable_auxiliary_addresses())[name] = value.text;
        }
      }
    }
  }
  for (const auto& [name, value] : ResourceLabels(project, "networks", key))
    (*request.mutable_labels())[name] = value;
  return request;
}

absl::StatusOr<std::vector<InjectedFile>> InjectedFilesOf(const Project& project,
                                                          const std::string& service) {
  std::vector<InjectedFile> out;
  const Node* node = project.FindService(service);
  if (node == nullptr) return out;
  for (const auto& [kind, directory] : std::vector<std::pair<const char*, const char*>>{
           {"secrets", "/run/secrets/"}, {"configs", "/"}}) {
    const Node* files = Below(*node, kind);
    const Node* declared = project.model.Find(kind);
    if (files == nullptr || declared == nullptr) continue;
    const std::string one = std::string(kind).substr(0, std::string(kind).size() - 1);
    for (const Node& file : files->items) {
      const std::string source = file.TextOf("source");
      const Node* resource = declared->Find(source);
      if (resource == nullptr || !resource->TextOf("file").empty()) continue;
      if (resource->TrueAt("external")) {
        return absl::FailedPreconditionError(
            absl::StrCat("unsupported external ", one, " ", source));
      }
      if (node->TrueAt("read_only")) {
        return absl::FailedPreconditionError(absl::StrCat("cannot create ", one, " \"", source,
                                                          "\" in read-only service ", service,
                                                          ": `file` is the sole supported option"));
      }
      InjectedFile injected;
      const std::string variable = resource->TextOf("environment");
      if (variable.empty()) {
        injected.content = resource->TextOf("content");
      } else {
        const auto value = project.environment.find(variable);
        if (value == project.environment.end()) {
          return absl::FailedPreconditionError(absl::StrCat("environment variable \"", variable,
                                                            "\" required by ", one, " \"", source,
                                                            "\" is not set"));
        }
        injected.content = value->second;
      }
      std::string target = file.TextOf("target");
      if (target.empty()) target = source;
      injected.target = absl::StartsWith(target, "/") ? target : directory + target;
      const std::string mode = file.TextOf("mode");
      if (!mode.empty()) {
        injected.mode = 0;
        for (char c : absl::StripPrefix(mode, "0o")) {
          if (c < '0' || c > '7') {
            return absl::InvalidArgumentError(absl::StrCat(file.at.Text(), ": services.", service,
                                                           ".", kind, ": mode \"", mode,
                                                           "\": expected octal digits"));
          }
          injected.mode = injected.mode * 8 + static_cast<uint32_t>(c - '0');
        }
      }
      if (!absl::SimpleAtoi(file.TextOf("uid"), &injected.uid)) injected.uid = 0;
      if (!absl::SimpleAtoi(file.TextOf("gid"), &injected.gid)) injected.gid = 0;
      out.push_back(std::move(injected));
    }
  }
  return out;
}

}  // namespace gantry::compose
