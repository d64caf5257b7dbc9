#include "supervisor/network/cni_chain.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include <nlohmann/json.hpp>

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "supervisor/oci/json_document.h"

namespace gantry::network {
namespace {

using nlohmann::json;

CniParameters ParametersOf(const char* command, const CniRecord& record) {
  return {.command = command,
          .container_id = record.container_id,
          .netns = record.netns,
          .interface = record.interface,
          .args = record.args};
}

CniParameters ParametersOf(const char* command) {
  CniParameters parameters;
  parameters.command = command;
  return parameters;
}

// "; it knows versions 0.4.0, 1.0.0", or nothing when the plugin does not say.
std::string KnownVersions(const CniRunner& runner, const CniPlugin& plugin, CancelToken* cancel) {
  const absl::StatusOr<std::string> said =
      RunCniPlugin(runner, plugin.type, ParametersOf("VERSION"),
                   oci::PrintJson(json{{"cniVersion", "1.0.0"}}), cancel);
  if (!said.ok()) return "";
  const absl::StatusOr<json> document = oci::ParseJson(*said, "");
  if (!document.ok() || !document->is_object()) return "";
  const auto versions = document->find("supportedVersions");
  if (versions == document->end() || !versions->is_array()) return "";
  std::vector<std::string> names;
  for (const json& one : *versions) {
    if (one.is_string()) names.push_back(one.get<std::string>());
  }
  return absl::StrCat("; it knows versions ", absl::StrJoin(names, ", "));
}

}  // namespace

absl::StatusOr<CniResult> AddCniChain(const CniRunner& runner, const CniRecord& record,
                                      CancelToken* cancel) {
  CniResult result;
  for (const CniPlugin& plugin : record.network.plugins) {
    const std::string input =
        PrintCniInput(record.network, plugin,
                      {.capability_args = record.capability_args, .previous_result = result.json});
    const absl::StatusOr<std::string> printed =
        RunCniPlugin(runner, plugin.type, ParametersOf("ADD", record), input, cancel);
    if (!printed.ok()) {
      if (!absl::IsInvalidArgument(printed.status()) ||
          !absl::StrContains(printed.status().message(), "ersion")) {
        return printed.status();
      }
      return absl::InvalidArgumentError(absl::StrCat(std::string(printed.status().message()),
                                                     KnownVersions(runner, plugin, cancel)));
    }
    absl::StatusOr<CniResult> parsed = ParseCniResult(*printed, record.network.version);
    if (!parsed.ok()) {
      return absl::UnavailableError(absl::StrCat(
          "CNI plugin ", plugin.type, ", ADD: ", std::string(parsed.status().message())));
    }
    result = *std::move(parsed);
  }
  return result;
}

absl::Status DelCniChain(const CniRunner& runner, const CniRecord& record, CancelToken* cancel) {
  CniParameters parameters = ParametersOf("DEL", record);
  // A path that leads to another namespace by now must not be given: a plugin would remove that
  // one's interface.
  if (NetnsIdentity(record.netns) != record.netns_identity) parameters.netns = "";
  const bool with_result = CniVersionAtLeast(record.network.version, "0.4.0");
  for (size_t i = record.network.plugins.size(); i > 0; --i) {
    const CniPlugin& plugin = record.network.plugins[i - 1];
    const std::string input =
        PrintCniInput(record.network, plugin,
                      {.capability_args = record.capability_args,
                       .previous_result = with_result ? record.result.json : ""});
    GANTRY_RETURN_IF_ERROR(RunCniPlugin(runner, plugin.type, parameters, input, cancel).status());
  }
  return absl::OkStatus();
}

absl::Status CheckCniChain(const CniRunner& runner, const CniRecord& record, CancelToken* cancel) {
  const CniNetwork& network = record.network;
  if (network.disable_check || !CniVersionAtLeast(network.version, "0.4.0"))
    return absl::OkStatus();
  for (const CniPlugin& plugin : network.plugins) {
    const std::string input = PrintCniInput(
        network, plugin,
        {.capability_args = record.capability_args, .previous_result = record.result.json});
    const absl::Status status =
        RunCniPlugin(runner, plugin.type, ParametersOf("CHECK", record), input, cancel).status();
    // Whatever its code: the attachment is not what it should be.
    if (absl::IsInvalidArgument(status) || absl::IsNotFound(status))
      return absl::UnavailableError(status.message());
    GANTRY_RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

absl::Status AskCniStatus(const CniRunner& runner, const CniNetwork& network, CancelToken* cancel) {
  if (!CniVersionAtLeast(network.version, "1.1.0")) return absl::OkStatus();
  for (const CniPlugin& plugin : network.plugins) {
    const absl::Status status = RunCniPlugin(runner, plugin.type, ParametersOf("STATUS"),
                                             PrintCniInput(network, plugin, {}), cancel)
                                    .status();
    if (absl::IsInvalidArgument(status) || absl::IsNotFound(status))
      return absl::UnavailableError(status.message());
    GANTRY_RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

bool HasCniGarbageCollection(const CniNetwork& network) {
  return !network.disable_gc && CniVersionAtLeast(network.version, "1.1.0");
}

absl::Status RunCniGarbageCollection(const CniRunner& runner, const CniNetwork& network,
                                     const std::vector<std::pair<std::string, std::string>>& valid,
                                     CancelToken* cancel) {
  absl::Status first;
  CniInput with_valid;
  with_valid.valid_attachments = &valid;
  for (const CniPlugin& plugin : network.plugins) {
    const std::string input = PrintCniInput(network, plugin, with_valid);
    const absl::Status status =
        RunCniPlugin(runner, plugin.type, ParametersOf("GC"), input, cancel).status();
    if (first.ok()) first = status;
  }
  return first;
}

}  // namespace gantry::network
