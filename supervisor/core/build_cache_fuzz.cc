// Documents of caches and layouts from anywhere: what is taken keeps the promises that its readers
// build on.
#include <cstdlib>
#include <string>
#include <vector>

#include "base/fuzz/fuzz.h"
#include "supervisor/core/build_cache_document.h"
#include "supervisor/core/layout_origin.h"

namespace gantry {
namespace {

constexpr char kDigest[] =
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

void Check(const absl::StatusOr<core::CacheDocument>& document) {
  if (!document.ok()) return;
  for (const core::CacheStep& step : document->steps) {
    if (step.layer < 0 || step.layer >= static_cast<int>(document->layers.size())) std::abort();
    if (document->layers[step.layer].diff_id.empty()) std::abort();
    // The way down ends.
    int number = step.layer;
    while (number >= 0) {
      const int parent = document->layers[number].parent;
      if (parent >= number) std::abort();
      number = parent;
    }
  }
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  const std::string digest = kDigest;
  return {
      R"({"layers":[{"blob":")" + digest + R"(","parent":-1,"annotations":{"diffID":")" + digest +
          R"(","createdAt":"2020-01-01T00:00:00Z"}},{"blob":")" + digest +
          R"(","parent":0,"annotations":{"diffID":")" + digest + R"("}}],"records":[{"digest":")" +
          digest + R"(","layers":[{"layer":1}]}]})",
      R"([{"digest":")" + digest + R"(","layers":[{"layer":0,"createdAt":""}]}])",
      R"({"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",)"
      R"("digest":")" +
          digest + R"(","size":1,"annotations":{"org.opencontainers.image.ref.name":"latest"}}]})"};
}

void FuzzOne(absl::string_view bytes) {
  content::Descriptor blob;
  blob.media_type = oci::kOciLayerGzip;
  blob.digest = content::Digest::Parse(kDigest).value();
  Check(core::ParseCacheConfig(bytes, {blob}));
  oci::Manifest manifest;
  manifest.layers = {blob};
  Check(core::ParseInlineCache(bytes, manifest, {blob.digest}));
  for (const char* tag : {"", "latest"}) {
    const auto found = core::FindInLayoutIndex(bytes, tag, "layout");
    if (found.ok() && found->digest.empty()) std::abort();
  }
}

}  // namespace gantry
