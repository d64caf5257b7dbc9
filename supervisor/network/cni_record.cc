#include "supervisor/network/cni_record.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <nlohmann/json.hpp>

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "supervisor/oci/json_document.h"

namespace gantry::network {
namespace {

using nlohmann::json;
using State = CniAttachment::State;

constexpr int64_t kVersion = 1;
constexpr size_t kMaxRecordBytes = 8 << 20;

std::string PathOf(const std::string& directory, const CniRecord& record) {
  return absl::StrCat(directory, "/", record.container_id, "@", record.interface, ".json");
}

const char* WordOf(State state) {
  switch (state) {
    case State::kAdding:
      return "adding";
    case State::kAttached:
      return "attached";
    case State::kRemoving:
      return "removing";
  }
  return "";
}

absl::StatusOr<State> StateOf(const std::string& word) {
  for (const State state : {State::kAdding, State::kAttached, State::kRemoving}) {
    if (word == WordOf(state)) return state;
  }
  return absl::DataLossError(absl::StrCat("unknown state \"", word, "\""));
}

absl::StatusOr<CniRecord> Parse(const std::string& text) {
  GANTRY_ASSIGN_OR_RETURN(
      const json document,
      oci::ParseJson(text, "record", {.max_bytes = static_cast<int64_t>(kMaxRecordBytes)}));
  if (!document.is_object()) return absl::DataLossError("not a JSON object");
  const auto string_of = [&document](const char* key) {
    const auto found = document.find(key);
    return found != document.end() && found->is_string() ? found->get<std::string>() : "";
  };
  const auto version = document.find("version");
  if (version == document.end() || !version->is_number_integer() || *version != kVersion)
    return absl::DataLossError("not of the version that this daemon writes");
  CniRecord record;
  GANTRY_ASSIGN_OR_RETURN(record.state, StateOf(string_of("state")));
  record.container_id = string_of("containerId");
  record.interface = string_of("interface");
  record.netns = string_of("netns");
  record.netns_identity = string_of("netnsIdentity");
  record.args = string_of("args");
  record.error = string_of("error");
  if (record.container_id.empty() || record.interface.empty())
    return absl::DataLossError("it names no attachment");
  if (const auto args = document.find("capabilityArgs");
      args != document.end() && args->is_object()) {
    for (const auto& [capability, value] : args->items())
      record.capability_args[capability] = oci::PrintJson(value);
  }
  if (!document.contains("network")) return absl::DataLossError("it has no network");
  GANTRY_ASSIGN_OR_RETURN(record.network, ParseCniNetwork(oci::PrintJson(document["network"])));
  if (document.contains("result")) {
    GANTRY_ASSIGN_OR_RETURN(
        record.result, ParseCniResult(oci::PrintJson(document["result"]), record.network.version));
  }
  return record;
}

}  // namespace

std::string NetnsIdentity(const std::string& path) {
  struct stat st;
  struct statfs fs;
  if (stat(path.c_str(), &st) != 0 || statfs(path.c_str(), &fs) != 0) return "";
  if (fs.f_type != NSFS_MAGIC) return "";
  static const std::string boot = [] {
    const absl::StatusOr<std::string> id = ReadFile("/proc/sys/kernel/random/boot_id", 256);
    return id.ok() ? std::string(absl::StripAsciiWhitespace(*id)) : std::string();
  }();
  return absl::StrCat(boot, ":", st.st_dev, ":", st.st_ino);
}

absl::Status WriteCniRecord(const std::string& directory, const CniRecord& record) {
  json document = {{"version", kVersion},
                   {"state", WordOf(record.state)},
                   {"containerId", record.container_id},
                   {"interface", record.interface},
                   {"netns", record.netns},
                   {"netnsIdentity", record.netns_identity},
                   {"args", record.args}};
  if (!record.error.empty()) document["error"] = record.error;
  for (const auto& [capability, text] : record.capability_args) {
    document["capabilityArgs"][capability] = json::parse(text, nullptr, /*allow_exceptions=*/false);
  }
  document["network"] = json::parse(record.network.json, nullptr, /*allow_exceptions=*/false);
  if (!record.result.json.empty())
    document["result"] = json::parse(record.result.json, nullptr, /*allow_exceptions=*/false);
  return WithContext(
      WriteFileAtomic(PathOf(directory, record), oci::PrintJson(document), 0600),
      absl::StrCat("record of pod ", record.container_id, "'s interface ", record.interface));
}

absl::Status RemoveCniRecord(const std::string& directory, const CniRecord& record) {
  const std::string path = PathOf(directory, record);
  if (unlink(path.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  return ErrnoToStatus(errno, absl::StrCat("remove ", path));
}

absl::StatusOr<std::vector<CniRecord>> ReadCniRecords(const std::string& directory,
                                                      std::vector<std::string>& damaged) {
  GANTRY_RETURN_IF_ERROR(MakeDirectories(directory, 0700));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(directory));
  std::vector<CniRecord> records;
  for (const std::string& name : names) {
    const std::string path = absl::StrCat(directory, "/", name);
    if (absl::StartsWith(name, ".") && absl::StrContains(name, ".tmp-")) {
      GANTRY_RETURN_IF_ERROR(RemoveTree(path));
      continue;
    }
    absl::Status status = absl::DataLossError("not named as a record is");
    if (absl::EndsWith(name, ".json")) {
      const absl::StatusOr<std::string> text = ReadFile(path, kMaxRecordBytes);
      absl::StatusOr<CniRecord> record = text.ok() ? Parse(*text) : text.status();
      if (record.ok() && PathOf(directory, *record) == path) {
        records.push_back(*std::move(record));
        continue;
      }
      if (!record.ok()) status = record.status();
    }
    damaged.push_back(absl::StrCat(path, ": ", std::string(status.message())));
  }
  return records;
}

}  // namespace gantry::network
