#include "supervisor/distribution/archive_names.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"

#include "base/status_macros.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/oci/json_document.h"
#include "supervisor/oci/manifest.h"

namespace gantry::distribution {
namespace {

using content::Digest;
using nlohmann::json;

constexpr size_t kMaxNames = 10000;

}  // namespace

std::string CleanEntryName(absl::string_view name) {
  std::vector<absl::string_view> parts;
  for (absl::string_view part : absl::StrSplit(name, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part == "..") {
      if (parts.empty()) return "";
      parts.pop_back();
      continue;
    }
    parts.push_back(part);
  }
  return absl::StrJoin(parts, "/");
}

absl::StatusOr<Digest> DigestInEntryName(absl::string_view path) {
  const std::vector<absl::string_view> parts = absl::StrSplit(path, '/');
  if (parts.size() != 3 || parts[0] != "blobs") return Digest();
  absl::StatusOr<Digest> digest = Digest::Parse(absl::StrCat(parts[1], ":", parts[2]));
  if (!digest.ok())
    return absl::InvalidArgumentError(
        absl::StrCat("archive entry ", path, ": ", digest.status().message()));
  return digest;
}

absl::StatusOr<std::string> CanonicalImageName(absl::string_view text) {
  absl::StatusOr<Reference> reference = Reference::Parse(text);
  if (!reference.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("archive: image name: ", reference.status().message()));
  }
  return reference->canonical();
}

absl::Status CheckNamePromise(const std::string& name, const Digest& target) {
  absl::StatusOr<Reference> reference = Reference::Parse(name);
  if (!reference.ok() || reference->digest().empty() || reference->digest() == target)
    return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("archive: image name ", name,
                                                 ": the image of that name in the archive is ",
                                                 target.str(), ", which is another one"));
}

absl::StatusOr<std::vector<DockerArchiveEntry>> ParseDockerManifest(const std::string& text) {
  GANTRY_ASSIGN_OR_RETURN(const json list, oci::ParseJson(text, "archive: manifest.json"));
  const absl::Status bad = absl::InvalidArgumentError(
      "archive: manifest.json: expected a list of Config, RepoTags and Layers");
  if (!list.is_array()) return bad;
  std::vector<DockerArchiveEntry> out;
  size_t names = 0;
  for (const json& item : list) {
    if (!item.is_object() || !item.contains("Config") || !item["Config"].is_string()) return bad;
    DockerArchiveEntry entry;
    entry.config = item["Config"].get<std::string>();
    for (const auto& [key, texts] :
         {std::pair("RepoTags", &entry.repo_tags), std::pair("Layers", &entry.layers)}) {
      if (!item.contains(key) || item[key].is_null()) continue;
      if (!item[key].is_array()) return bad;
      for (const json& one : item[key]) {
        if (!one.is_string()) return bad;
        texts->push_back(one.get<std::string>());
      }
    }
    if (entry.layers.size() > oci::kMaxLayers) {
      return absl::ResourceExhaustedError(
          absl::StrCat("archive: manifest.json: ", entry.layers.size(), " layers, more than the ",
                       oci::kMaxLayers, " accepted"));
    }
    names += entry.repo_tags.size();
    // Each becomes a record that is synced to disk.
    if (names > kMaxNames) {
      return absl::ResourceExhaustedError(
          absl::StrCat("archive: manifest.json: more than ", kMaxNames, " names of images"));
    }
    out.push_back(std::move(entry));
  }
  return out;
}

}  // namespace gantry::distribution
