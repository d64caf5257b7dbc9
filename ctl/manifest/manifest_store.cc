#include "ctl/manifest/manifest_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

#include "base/file.h"
#include "base/status_macros.h"
#include "ctl/registry_config.h"

namespace gantry::ctl {
namespace {

using engine::Value;

constexpr size_t kMaxBytes = 16 << 20;

std::string FileName(const std::string& reference) {
  return absl::StrReplaceAll(reference, {{":", "-"}, {"/", "_"}});
}

std::string TextAt(const Value* object, const char* key) {
  const Value* value = object == nullptr ? nullptr : object->Find(key);
  return value != nullptr && value->is_string() ? value->string() : "";
}

absl::StatusOr<Value> Read(const std::string& path) {
  GANTRY_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxBytes));
  absl::StatusOr<Value> document = Value::FromJson(text);
  if (!document.ok() || !document->is_object() || document->Find("Descriptor") == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not a manifest that docker or ctl has written; remove the file"));
  }
  return document;
}

}  // namespace

ManifestStore::ManifestStore(const std::map<std::string, std::string>& environment) {
  const auto variable = [&environment](const char* name) {
    const auto it = environment.find(name);
    return it == environment.end() ? std::string() : it->second;
  };
  directory_ = variable("DOCKER_CONFIG");
  if (directory_.empty()) directory_ = variable("HOME") + "/.docker";
  directory_ += "/manifests";
}

std::string ManifestStore::Path(const std::string& list) const {
  return absl::StrCat(directory_, "/", FileName(list));
}

absl::StatusOr<std::vector<Value>> ManifestStore::List(const std::string& list) const {
  absl::StatusOr<std::vector<std::string>> names = ListDirectory(Path(list));
  if (absl::IsNotFound(names.status()))
    return absl::NotFoundError(absl::StrCat("No such manifest: ", list));
  GANTRY_RETURN_IF_ERROR(names.status());
  std::sort(names->begin(), names->end());
  std::vector<Value> manifests;
  for (const std::string& name : *names) {
    GANTRY_ASSIGN_OR_RETURN(manifests.emplace_back(), Read(absl::StrCat(Path(list), "/", name)));
  }
  return manifests;
}

absl::StatusOr<Value> ManifestStore::Find(const std::string& list,
                                          const std::string& manifest) const {
  absl::StatusOr<Value> found = Read(absl::StrCat(Path(list), "/", FileName(manifest)));
  if (absl::IsNotFound(found.status()))
    return absl::NotFoundError(absl::StrCat("No such manifest: ", manifest));
  return found;
}

absl::Status ManifestStore::Put(const std::string& list, const std::string& manifest,
                                const Value& document) const {
  GANTRY_RETURN_IF_ERROR(MakeDirectories(Path(list)));
  return WriteFileAtomic(absl::StrCat(Path(list), "/", FileName(manifest)), document.ToJson());
}

absl::Status ManifestStore::Remove(const std::string& list) const {
  GANTRY_RETURN_IF_ERROR(List(list).status());
  return RemoveTree(Path(list));
}

absl::StatusOr<std::string> FullReference(const std::string& reference) {
  const absl::Status invalid = absl::InvalidArgumentError(
      absl::StrCat("\"", reference,
                   "\": invalid reference format; write for example app:1 or "
                   "registry:5000/team/app:1"));
  const size_t at = reference.find('@');
  std::string name = reference.substr(0, at);
  const size_t slash = name.rfind('/');
  const size_t colon = name.find(':', slash == name.npos ? 0 : slash);
  std::string tag = colon == name.npos ? "" : name.substr(colon + 1);
  if (colon != name.npos && tag.empty()) return invalid;
  name = name.substr(0, colon);
  const std::string registry = RegistryOfReference(name);
  std::string path = name;
  const std::string first = name.substr(0, name.find('/'));
  if (name.find('/') != name.npos && (first == registry || first == "index.docker.io"))
    path = name.substr(first.size() + 1);
  if (registry == "docker.io" && path.find('/') == path.npos) path = "library/" + path;
  if (path.empty() || path.back() == '/' || path.front() == '/' ||
      path.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-/") != path.npos ||
      path.find("//") != path.npos || !absl::ascii_isalnum(static_cast<unsigned char>(path[0])))
    return invalid;
  // Names of directories are made of it.
  if (!absl::ascii_isalnum(static_cast<unsigned char>(registry[0])) && registry[0] != '[')
    return invalid;
  const std::string full = absl::StrCat(registry, "/", path);
  for (const char c : tag) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '_' && c != '-')
      return invalid;
  }
  if (at != reference.npos) {
    const std::string digest = reference.substr(at + 1);
    constexpr absl::string_view kHex = "sha256:";
    if (digest.size() != kHex.size() + 64 || !absl::StartsWith(digest, kHex) ||
        digest.find_first_not_of("0123456789abcdef", kHex.size()) != digest.npos)
      return invalid;
    return absl::StrCat(full, "@", digest);
  }
  return absl::StrCat(full, ":", tag.empty() ? "latest" : tag);
}

absl::StatusOr<std::string> ManifestListDocument(const std::string& list,
                                                 const std::vector<Value>& manifests) {
  Value entries = Value::EmptyList();
  for (const Value& manifest : manifests) {
    const Value* descriptor = manifest.Find("Descriptor");
    const Value* platform = descriptor->Find("platform");
    if (TextAt(platform, "os").empty() || TextAt(platform, "architecture").empty()) {
      const std::string name = TextAt(&manifest, "Ref");
      return absl::FailedPreconditionError(
          absl::StrCat("manifest ", name,
                       " must have an OS and Architecture to be pushed to a registry; "
                       "ctl manifest annotate --os OS --arch ARCH ",
                       list, " ", name, " gives it both"));
    }
    Value entry = Value::EmptyObject();
    for (const char* key : {"mediaType", "size", "digest"}) {
      if (const Value* value = descriptor->Find(key)) entry.Set(key, *value);
    }
    entry.Set("platform", *platform);
    entries.Append(std::move(entry));
  }
  Value document = Value::EmptyObject();
  document.Set("schemaVersion", 2);
  document.Set("mediaType", "application/vnd.docker.distribution.manifest.list.v2+json");
  document.Set("manifests", std::move(entries));
  return document.ToPrettyJson(3);
}

}  // namespace gantry::ctl
