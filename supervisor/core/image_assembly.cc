#include "supervisor/core/image_assembly.h"

#include <memory>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/random/random.h"
#include "absl/strings/str_cat.h"

#include "base/compression.h"
#include "base/status_macros.h"

namespace gantry::core {
namespace {

class IngestSink : public ByteSink {
 public:
  explicit IngestSink(content::Ingest& ingest) : ingest_(ingest) {}
  absl::Status Write(absl::string_view bytes) override { return ingest_.Append(bytes); }

 private:
  content::Ingest& ingest_;
};

// Hashes what passes through.
class HashingSink : public ByteSink {
 public:
  explicit HashingSink(ByteSink& below) : below_(below) {}
  absl::Status Write(absl::string_view bytes) override {
    hasher_.Update(bytes);
    return below_.Write(bytes);
  }
  content::Digest digest() { return hasher_.Current(); }

 private:
  ByteSink& below_;
  content::Hasher hasher_;
};

}  // namespace

absl::StatusOr<ImageLayer> ImageAssembly::LayerFrom(
    content::Store& content, absl::string_view what,
    const std::function<absl::Status(ByteSink& tar)>& write, Compression compression, int level) {
  absl::BitGen random;
  content::IngestOptions options;
  options.ref =
      absl::StrCat(what, "-", absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16));
  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<content::Ingest> ingest, content.OpenIngest(options));
  // What cannot be dropped is garbage, which collection takes; the error that led here is the one
  // to return.
  absl::Cleanup abort = [&] {
    ingest.reset();
    content.AbortIngest(options.ref).IgnoreError();
  };
  IngestSink compressed(*ingest);
  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<Compressor> compressor,
                          OpenCompressor(compressed, compression, level));
  HashingSink plain(*compressor);
  GANTRY_RETURN_IF_ERROR(write(plain));
  GANTRY_RETURN_IF_ERROR(compressor->Finish());
  ImageLayer layer;
  layer.diff_id = plain.digest();
  layer.blob.media_type = compression == Compression::kZstd   ? oci::kOciLayerZstd
                          : compression == Compression::kNone ? oci::kOciLayer
                                                              : oci::kOciLayerGzip;
  layer.blob.size_bytes = ingest->offset();
  layer.blob.digest = ingest->current_digest();
  content::CommitOptions commit;
  commit.labels["containerd.io/uncompressed"] = layer.diff_id.str();
  absl::StatusOr<content::Digest> committed = ingest->Commit(commit);
  if (!committed.ok() && !absl::IsAlreadyExists(committed.status())) return committed.status();
  if (committed.ok()) std::move(abort).Cancel();
  return layer;
}

void ImageAssembly::Stack(const ImageLayer& layer, oci::History history, absl::Time now,
                          oci::ImageConfig& config, oci::Manifest& manifest) {
  config.created = absl::FormatTime(absl::RFC3339_full, now, absl::UTCTimeZone());
  config.diff_ids.push_back(layer.diff_id);
  history.created = config.created;
  config.history.push_back(std::move(history));
  content::Descriptor blob = layer.blob;
  if (manifest.media_type == oci::kDockerManifest) blob.media_type = oci::kDockerLayerGzip;
  manifest.layers.push_back(std::move(blob));
}

absl::StatusOr<content::Descriptor> ImageAssembly::WriteImage(content::Store& content,
                                                              const oci::ImageConfig& config,
                                                              oci::Manifest manifest) {
  const std::string config_json = oci::PrintImageConfig(config);
  manifest.config.media_type =
      manifest.media_type == oci::kDockerManifest ? oci::kDockerConfig : oci::kOciConfig;
  manifest.config.digest = content::Digest::Sha256Of(config_json);
  manifest.config.size_bytes = static_cast<int64_t>(config_json.size());
  const std::string manifest_json = oci::PrintManifest(manifest);
  content::Descriptor target;
  target.media_type = manifest.media_type;
  target.digest = content::Digest::Sha256Of(manifest_json);
  target.size_bytes = static_cast<int64_t>(manifest_json.size());
  oci::Document document;
  document.manifest = std::move(manifest);
  GANTRY_RETURN_IF_ERROR(
      content::WriteBlob(content, absl::StrCat("config-", document.manifest->config.digest.str()),
                         config_json, document.manifest->config.digest)
          .status());
  GANTRY_RETURN_IF_ERROR(content::WriteBlob(content, absl::StrCat("manifest-", target.digest.str()),
                                            manifest_json, target.digest,
                                            oci::ChildLabels(document))
                             .status());
  return target;
}

}  // namespace gantry::core
