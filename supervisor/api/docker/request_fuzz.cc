// What requests carry beside their paths: queries with filters, JSON in bodies, credentials in
// headers. The bytes up to the first line end are the query, what follows is the body.
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "base/engine/commit_json.h"
#include "base/engine/config_json.h"
#include "base/engine/container_json.h"
#include "base/engine/network_request_json.h"
#include "base/engine/registry_auth_json.h"
#include "base/engine/value.h"
#include "base/engine/volume_request_json.h"
#include "base/fuzz/fuzz.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "proto/gantry/v1/networks.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "proto/gantry/v1/volumes.pb.h"
#include "supervisor/api/docker/fuzz_exchange.h"
#include "supervisor/api/docker/image_names.h"
#include "supervisor/api/docker/request.h"

namespace gantry {
namespace {

namespace docker = api::docker;

}  // namespace

std::vector<std::string> FuzzSeeds() {
  return {
      "all=1&limit=5&filters={\"label\":{\"a=b\":true},\"status\":[\"running\"]}\n{}",
      "filters=%7B%22name%22%3A%5B%22x%22%5D%7D&t=-1&h=24&w=80\n{\"Cmd\":[\"sh\"],\"Tty\":true}",
      "platform={\"os\":\"linux\",\"architecture\":\"arm64\"}&tag=sha256:ab\n{\"Memory\":1048576,"
      "\"RestartPolicy\":{\"Name\":\"always\"}}",
      "\n{\"Name\":\"n\",\"Driver\":\"bridge\",\"IPAM\":{\"Config\":[{\"Subnet\":\"10.0.0.0/8\"}]},"
      "\"Options\":{\"a\":\"b\"}}",
      "\n{\"Container\":\"c\",\"EndpointConfig\":{\"IPAMConfig\":{\"IPv4Address\":\"10.0.0.1\"},"
      "\"Aliases\":[\"a\"]},\"Force\":true}",
      "\n{\"Name\":\"v\",\"DriverOpts\":{\"type\":\"tmpfs\"},\"Labels\":null}",
      "\n{\"username\":\"u\",\"password\":\"p\",\"serveraddress\":\"s\"}",
      "eyJ1c2VybmFtZSI6InUifQ==\n{\"Env\":[\"A=1\"],\"ExposedPorts\":{\"80/tcp\":{}}}",
      "\n[[[[1e308,-0.5,\"\\ud83d\\ude00\"]]]]"};
}

void FuzzOne(absl::string_view bytes) {
  const size_t end = bytes.find('\n');
  const absl::string_view query = bytes.substr(0, end);
  const absl::string_view body = end == absl::string_view::npos ? "" : bytes.substr(end + 1);
  docker::FuzzExchange exchange(query, body);
  docker::Request request(exchange, docker::kNewest, {});
  (void)request.Flag("all");
  (void)request.Number("t").ok();
  (void)docker::PlatformOf(request.Query("platform")).ok();
  (void)request.Filters().ok();
  (void)engine::RegistryAuthFromHeader(query);
  (void)engine::RegistryConfigFromHeader(query);

  const absl::StatusOr<engine::Value> document = request.Json();
  if (!document.ok()) return;
  // What was read can be written, and reads as the same.
  const std::string printed = document->ToJson();
  const absl::StatusOr<engine::Value> again =
      engine::Value::FromJson(printed, engine::Value::SameKeys::kRefused);
  if (!again.ok() || again->ToJson() != printed) abort();

  v1::ExecConfig exec;
  if (engine::ExecFromDocument(*document, exec).ok() && exec.command().empty()) abort();
  v1::Resources resources;
  v1::RestartPolicy policy;
  (void)engine::UpdateFromDocument(*document, resources, policy).ok();
  (void)engine::CreateNetworkFromDocument(*document).ok();
  (void)engine::ConnectNetworkFromDocument(*document, "n").ok();
  (void)engine::DisconnectNetworkFromDocument(*document, "n").ok();
  (void)engine::CreateVolumeFromDocument(*document).ok();
  (void)engine::RegistryAuthFromDocument(*document).ok();
  (void)engine::ChangesFromDocument(*document).ok();
}

}  // namespace gantry
