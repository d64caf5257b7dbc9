#include "supervisor/core/build_cache_document.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "supervisor/oci/json_document.h"

namespace gantry::core {
namespace {

using nlohmann::json;

constexpr size_t kMaxSteps = 100'000;
constexpr oci::JsonLimits kLimits = {.max_bytes = 64 << 20};

std::string TimeText(absl::Time time) {
  return absl::FormatTime(absl::RFC3339_full, time, absl::UTCTimeZone());
}

// A missing or malformed time is 1970: it is shown and decides nothing.
absl::Time TimeOf(const json& object, const char* key) {
  absl::Time time = absl::UnixEpoch();
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, found->get<std::string>(), &time, &error))
    return absl::UnixEpoch();
  return time;
}

absl::Status Malformed(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("configuration of a build cache: ", what));
}

json RecordsOf(const std::vector<CacheStep>& steps) {
  json records = json::array();
  for (const CacheStep& step : steps) {
    json result = {{"layer", step.layer}, {"createdAt", TimeText(step.created)}};
    records.push_back({{"digest", step.key}, {"layers", json::array({std::move(result)})}});
  }
  return records;
}

// Results that name no layer of `layers` are left out.
absl::Status ReadRecords(const json& records, size_t layers, std::vector<CacheStep>& steps) {
  if (!records.is_array()) return Malformed("its records are not a list");
  if (records.size() > kMaxSteps)
    return absl::ResourceExhaustedError(
        absl::StrCat("a build cache with more than ", kMaxSteps, " steps"));
  for (const json& record : records) {
    if (!record.is_object()) return Malformed("a record is not an object");
    const auto digest = record.find("digest");
    const auto results = record.find("layers");
    if (digest == record.end() || !digest->is_string()) return Malformed("a record has no digest");
    if (!content::Digest::Parse(digest->get<std::string>()).ok())
      return Malformed("the digest of a record is malformed");
    // Of another kind, which this reader does not know.
    if (results == record.end() || !results->is_array()) continue;
    for (const json& result : *results) {
      if (!result.is_object()) return Malformed("a result is not an object");
      const auto layer = result.find("layer");
      if (layer == result.end() || !layer->is_number_integer()) continue;
      const int64_t number = layer->get<int64_t>();
      if (number < 0 || number >= static_cast<int64_t>(layers)) continue;
      steps.push_back(
          {digest->get<std::string>(), static_cast<int>(number), TimeOf(result, "createdAt")});
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> TextOf(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string())
    return Malformed(absl::StrCat("a layer has no ", key));
  return found->get<std::string>();
}

}  // namespace

std::string PrintCacheConfig(const CacheDocument& document) {
  json layers = json::array();
  for (const CacheLayer& layer : document.layers) {
    layers.push_back({{"blob", layer.blob.digest.str()},
                      {"parent", layer.parent},
                      {"annotations",
                       {{"mediaType", layer.blob.media_type},
                        {"diffID", layer.diff_id.str()},
                        {"size", layer.blob.size_bytes},
                        {"createdAt", TimeText(layer.created)}}}});
  }
  return oci::PrintJson({{"layers", std::move(layers)}, {"records", RecordsOf(document.steps)}});
}

absl::StatusOr<CacheDocument> ParseCacheConfig(absl::string_view text,
                                               const std::vector<content::Descriptor>& blobs) {
  GANTRY_ASSIGN_OR_RETURN(const json config,
                          oci::ParseJson(text, "configuration of a build cache", kLimits));
  if (!config.is_object()) return Malformed("not an object");
  std::map<content::Digest, content::Descriptor> named;
  for (const content::Descriptor& blob : blobs) named.emplace(blob.digest, blob);
  CacheDocument document;
  // By the number that the document gives it; a layer whose blob is not there has no diff id.
  const auto layers = config.find("layers");
  if (layers != config.end()) {
    if (!layers->is_array()) return Malformed("its layers are not a list");
    if (layers->size() > kMaxSteps)
      return absl::ResourceExhaustedError(
          absl::StrCat("a build cache with more than ", kMaxSteps, " layers"));
    for (const json& one : *layers) {
      if (!one.is_object()) return Malformed("a layer is not an object");
      CacheLayer& layer = document.layers.emplace_back();
      GANTRY_ASSIGN_OR_RETURN(const std::string blob, TextOf(one, "blob"));
      GANTRY_ASSIGN_OR_RETURN(const content::Digest digest, content::Digest::Parse(blob));
      const auto parent = one.find("parent");
      if (parent != one.end() && parent->is_number_integer()) {
        const int64_t number = parent->get<int64_t>();
        // Layers come after those that they lie on, so that there is no circle.
        if (number >= static_cast<int64_t>(document.layers.size()) - 1)
          return Malformed("a layer lies on one that comes after it");
        layer.parent = number < 0 ? -1 : static_cast<int>(number);
      }
      const auto annotations = one.find("annotations");
      if (annotations == one.end() || !annotations->is_object())
        return Malformed("a layer has no annotations");
      GANTRY_ASSIGN_OR_RETURN(const std::string diff_id, TextOf(*annotations, "diffID"));
      GANTRY_ASSIGN_OR_RETURN(const content::Digest parsed, content::Digest::Parse(diff_id));
      layer.created = TimeOf(*annotations, "createdAt");
      const auto there = named.find(digest);
      if (there == named.end()) continue;
      layer.blob = there->second;
      layer.diff_id = parsed;
    }
  }
  const auto records = config.find("records");
  if (records != config.end())
    GANTRY_RETURN_IF_ERROR(ReadRecords(*records, document.layers.size(), document.steps));
  std::vector<CacheStep> whole;
  for (CacheStep& step : document.steps) {
    if (!document.layers[step.layer].diff_id.empty()) whole.push_back(std::move(step));
  }
  document.steps = std::move(whole);
  return document;
}

std::string PrintInlineCache(const std::vector<CacheStep>& steps) {
  return oci::PrintJson(RecordsOf(steps));
}

absl::StatusOr<CacheDocument> ParseInlineCache(absl::string_view text,
                                               const oci::Manifest& manifest,
                                               const std::vector<content::Digest>& diff_ids) {
  CacheDocument document;
  if (manifest.layers.size() != diff_ids.size())
    return absl::InvalidArgumentError("an image whose layers and diff ids differ in number");
  for (size_t i = 0; i < diff_ids.size(); ++i) {
    CacheLayer& layer = document.layers.emplace_back();
    layer.blob = manifest.layers[i];
    layer.diff_id = diff_ids[i];
    layer.parent = static_cast<int>(i) - 1;
  }
  GANTRY_ASSIGN_OR_RETURN(const json records,
                          oci::ParseJson(text, "cache in an image's configuration", kLimits));
  GANTRY_RETURN_IF_ERROR(ReadRecords(records, document.layers.size(), document.steps));
  return document;
}

}  // namespace gantry::core
