#include "ctl/contexts.h"

#include <nettle/sha2.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/file.h"
#include "base/status_macros.h"

namespace gantry::ctl {
namespace {

using engine::Value;

constexpr size_t kMaxBytes = 4 << 20;

std::string IdOf(absl::string_view name) {
  sha256_ctx context;
  sha256_init(&context);
  sha256_update(&context, name.size(), reinterpret_cast<const uint8_t*>(name.data()));
  uint8_t digest[SHA256_DIGEST_SIZE];
  sha256_digest(&context, sizeof digest, digest);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest), sizeof digest));
}

std::string TextAt(const Value& document, std::initializer_list<absl::string_view> path) {
  const Value* value = &document;
  for (absl::string_view key : path) {
    value = value->Find(key);
    if (value == nullptr) return "";
  }
  return value->is_string() ? value->string() : "";
}

absl::StatusOr<Value> ReadObject(const std::string& path) {
  GANTRY_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxBytes));
  if (absl::StripAsciiWhitespace(text).empty()) return Value::EmptyObject();
  auto document = Value::FromJson(text);
  if (!document.ok() || !document->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": ", document.ok() ? "not a JSON object" : document.status().message()));
  }
  return document;
}

absl::Status NoSuchContext(absl::string_view name) {
  return absl::NotFoundError(absl::StrCat("context \"", name, "\": context not found"));
}

}  // namespace

std::string ContextRecord::description() const {
  return TextAt(document, {"Metadata", "Description"});
}

std::string ContextRecord::docker_host() const {
  return TextAt(document, {"Endpoints", "docker", "Host"});
}

std::string ContextRecord::host() const {
  const std::string own = TextAt(document, {"Endpoints", "gantry", "Host"});
  return own.empty() ? docker_host() : own;
}

void ContextRecord::SetDescription(absl::string_view text) {
  const Value* old = document.Find("Metadata");
  Value metadata = old != nullptr && old->is_object() ? *old : Value::EmptyObject();
  if (!text.empty() || metadata.Find("Description") != nullptr) metadata.Set("Description", text);
  document.Set("Metadata", std::move(metadata));
}

void ContextRecord::SetHost(absl::string_view endpoint, absl::string_view host) {
  const Value* old = document.Find("Endpoints");
  Value endpoints = old != nullptr && old->is_object() ? *old : Value::EmptyObject();
  Value one = Value::EmptyObject();
  one.Set("Host", host);
  one.Set("SkipTLSVerify", false);
  endpoints.Set(endpoint, std::move(one));
  document.Set("Endpoints", std::move(endpoints));
}

ContextStore::ContextStore(const std::map<std::string, std::string>& environment) {
  const auto directory = environment.find("DOCKER_CONFIG");
  const auto home = environment.find("HOME");
  directory_ = directory != environment.end() && !directory->second.empty()
                   ? directory->second
                   : absl::StrCat(home == environment.end() ? "/root" : home->second, "/.docker");
}

std::string ContextStore::MetadataPath(absl::string_view name) const {
  return absl::StrCat(directory_, "/contexts/meta/", IdOf(name));
}

std::string ContextStore::TlsPath(absl::string_view name) const {
  return absl::StrCat(directory_, "/contexts/tls/", IdOf(name));
}

absl::StatusOr<std::vector<ContextRecord>> ContextStore::List() const {
  const std::string top = absl::StrCat(directory_, "/contexts/meta");
  std::vector<ContextRecord> records;
  auto names = ListDirectory(top);
  if (absl::IsNotFound(names.status())) return records;
  GANTRY_RETURN_IF_ERROR(names.status());
  for (const std::string& id : *names) {
    auto document = ReadObject(absl::StrCat(top, "/", id, "/meta.json"));
    if (absl::IsNotFound(document.status())) continue;  // what a removal or another program left
    GANTRY_RETURN_IF_ERROR(document.status());
    ContextRecord record;
    record.name = TextAt(*document, {"Name"});
    record.document = *std::move(document);
    records.push_back(std::move(record));
  }
  std::sort(records.begin(), records.end(),
            [](const ContextRecord& a, const ContextRecord& b) { return a.name < b.name; });
  return records;
}

absl::StatusOr<ContextRecord> ContextStore::Find(absl::string_view name) const {
  auto document = ReadObject(absl::StrCat(MetadataPath(name), "/meta.json"));
  if (absl::IsNotFound(document.status())) return NoSuchContext(name);
  GANTRY_RETURN_IF_ERROR(document.status());
  return ContextRecord{std::string(name), *std::move(document)};
}

absl::Status ContextStore::Put(const ContextRecord& record) const {
  GANTRY_RETURN_IF_ERROR(CheckContextName(record.name));
  // docker's command line does not read a context that lacks one of these.
  Value document = record.document;
  document.Set("Name", record.name);
  for (const char* key : {"Metadata", "Endpoints"}) {
    if (document.Find(key) == nullptr) document.Set(key, Value::EmptyObject());
  }
  const std::string directory = MetadataPath(record.name);
  GANTRY_RETURN_IF_ERROR(MakeDirectories(directory, 0755));
  return WriteFileAtomic(directory + "/meta.json", document.ToJson(), 0644);
}

absl::Status ContextStore::Remove(absl::string_view name) const {
  GANTRY_RETURN_IF_ERROR(Find(name).status());
  GANTRY_RETURN_IF_ERROR(RemoveTree(TlsPath(name)));
  return RemoveTree(MetadataPath(name));
}

absl::StatusOr<std::string> ContextStore::Current() const {
  auto config = ReadObject(directory_ + "/config.json");
  if (absl::IsNotFound(config.status())) return std::string();
  GANTRY_RETURN_IF_ERROR(config.status());
  return TextAt(*config, {"currentContext"});
}

absl::Status ContextStore::SetCurrent(absl::string_view name) const {
  const std::string path = directory_ + "/config.json";
  auto config = ReadObject(path);
  if (absl::IsNotFound(config.status())) config = Value::EmptyObject();
  GANTRY_RETURN_IF_ERROR(config.status());
  Value out = Value::EmptyObject();
  for (const auto& [key, value] : config->object().fields) {
    if (key != "currentContext") out.Set(key, value);
  }
  if (!name.empty() && name != kDefaultContext) out.Set("currentContext", name);
  GANTRY_RETURN_IF_ERROR(MakeDirectories(directory_, 0700));
  return WriteFileAtomic(path, absl::StrCat(out.ToPrettyJson(8), "\n"), 0600);
}

absl::Status CheckContextName(absl::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("context name cannot be empty");
  if (name == kDefaultContext) {
    return absl::InvalidArgumentError("\"default\" is a reserved context name");
  }
  const bool fits = name.size() >= 2 && absl::ascii_isalnum(static_cast<unsigned char>(name[0])) &&
                    std::all_of(name.begin(), name.end(), [](char c) {
                      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' ||
                             c == '.' || c == '+' || c == '-';
                    });
  if (fits) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("context name \"", name,
                   "\" is invalid: two or more of letters, digits, _ . + -, first a letter or "
                   "digit"));
}

absl::Status CheckContextHost(absl::string_view host) {
  for (absl::string_view kind : {"unix:///", "ssh://", "tcp://", "fd://", "npipe://", "http://"}) {
    if (absl::StartsWith(host, kind) && host.size() > kind.size()) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("unable to parse docker host \"", host,
                                                 "\": write unix:///PATH or ssh://[USER@]HOST"));
}

}  // namespace gantry::ctl
