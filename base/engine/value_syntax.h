// Values of options that have a language of their own: mounts, ports, devices, limits, environment
// and label files.
//
// All parse docker's spelling. kInvalidArgument messages show the text and what is wrong with it.
#ifndef GANTRY_BASE_ENGINE_VALUE_SYNTAX_H_
#define GANTRY_BASE_ENGINE_VALUE_SYNTAX_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::v1 {
class ContainerConfig;
class Device;
class DeviceRate;
class Filter;
class HealthCheck;
class Mount;
class NetworkAttachment;
class PortBinding;
class RestartPolicy;
class Ulimit;
}  // namespace gantry::v1

namespace gantry::engine {

// -v [SOURCE:]TARGET[:OPTIONS]. A relative source beginning with . is taken from `cwd`, ~ is not
// expanded.
absl::StatusOr<v1::Mount> ParseVolume(absl::string_view text, const std::string& cwd);
// --mount type=bind,src=...,dst=...
absl::StatusOr<v1::Mount> ParseMount(absl::string_view text, const std::string& cwd);
// --tmpfs TARGET[:OPTIONS]
absl::StatusOr<v1::Mount> ParseTmpfs(absl::string_view text);
// -p [[IP:]HOST:]CONTAINER[/PROTOCOL], with ranges.
absl::StatusOr<std::vector<v1::PortBinding>> ParsePublish(absl::string_view text);
// --network NAME or name=...,alias=...,ip=...
absl::StatusOr<v1::NetworkAttachment> ParseNetwork(absl::string_view text);
// --device HOST[:CONTAINER][:rwm]
absl::StatusOr<v1::Device> ParseDevice(absl::string_view text);
// --device-read-bps PATH:RATE; `bytes` allows units.
absl::StatusOr<v1::DeviceRate> ParseDeviceRate(absl::string_view text, bool bytes);
// --ulimit NAME=SOFT[:HARD]
absl::StatusOr<v1::Ulimit> ParseUlimit(absl::string_view text);
// --restart POLICY[:COUNT]
absl::StatusOr<v1::RestartPolicy> ParseRestartPolicy(absl::string_view text);
// -f KEY=VALUE
absl::StatusOr<v1::Filter> ParseFilter(absl::string_view text);

// NAME=value as it is; a bare NAME gets its value from `environment`, and stays bare (taking the
// image's away) if it has none there.
absl::StatusOr<std::string> ParseEnvironment(absl::string_view text,
                                             const std::map<std::string, std::string>& environment);
// "key=value" or "key".
std::pair<std::string, std::string> SplitAssignment(absl::string_view text);

// Checks syntax and lowers the case where that is customary: HOST:IP or HOST=IP.
absl::StatusOr<std::string> ParseExtraHost(absl::string_view text);

// A command line as a shell would split it: quotes and backslashes, nothing else. For
// Dockerfile-like values.
absl::StatusOr<std::vector<std::string>> SplitWords(absl::string_view text);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_VALUE_SYNTAX_H_
