#include "supervisor/core/layer_form.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "base/status_macros.h"
#include "base/tar/reader.h"
#include "base/tar/writer.h"
#include "supervisor/oci/manifest.h"

namespace gantry::core {
namespace {

constexpr char kDiffIdLabel[] = "containerd.io/uncompressed";
// What a label says that begins so is kept with the blob.
constexpr char kKeepPrefix[] = "containerd.io/gc.ref.content.form.";

class BlobSource : public ByteSource {
 public:
  BlobSource(content::BlobReader& blob, CancelToken* cancel) : blob_(blob), cancel_(cancel) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    if (cancel_ != nullptr) GANTRY_RETURN_IF_ERROR(cancel_->Check());
    GANTRY_ASSIGN_OR_RETURN(const size_t got, blob_.ReadAt(offset_, buffer, n));
    offset_ += static_cast<int64_t>(got);
    return got;
  }

 private:
  content::BlobReader& blob_;
  CancelToken* const cancel_;
  int64_t offset_ = 0;
};

absl::Status WriteZeros(int64_t count, TarWriter& out) {
  static const std::string& zeros = *new std::string(64 << 10, '\0');
  while (count > 0) {
    const int64_t n = std::min<int64_t>(count, static_cast<int64_t>(zeros.size()));
    GANTRY_RETURN_IF_ERROR(out.WriteData(absl::string_view(zeros).substr(0, n)));
    count -= n;
  }
  return absl::OkStatus();
}

// The same archive with no time after `newest`.
absl::Status LimitTimes(ByteSource& in, absl::Time newest, ByteSink& out) {
  const int64_t limit = absl::ToUnixSeconds(newest);
  TarReader reader(in);
  TarWriter writer(out);
  TarEntry entry;
  while (true) {
    GANTRY_ASSIGN_OR_RETURN(const bool more, reader.Next(entry));
    if (!more) break;
    if (entry.mtime.seconds >= limit) entry.mtime = {limit, 0};
    GANTRY_RETURN_IF_ERROR(writer.WriteEntry(entry));
    int64_t written = 0;
    TarData data;
    while (true) {
      GANTRY_ASSIGN_OR_RETURN(const bool some, reader.ReadData(data));
      if (!some) break;
      GANTRY_RETURN_IF_ERROR(WriteZeros(data.offset - written, writer));
      GANTRY_RETURN_IF_ERROR(writer.WriteData(data.bytes));
      written = data.offset + static_cast<int64_t>(data.bytes.size());
    }
    if (entry.type == TarType::kFile)
      GANTRY_RETURN_IF_ERROR(WriteZeros(entry.size_bytes - written, writer));
  }
  return writer.Finish();
}

// What tells a form from others, as the end of a label's name.
std::string NameOf(const LayerForm& form, Compression compression) {
  std::string name(CompressionName(compression));
  if (form.level != 0) absl::StrAppend(&name, ".", form.level);
  if (form.newest.has_value()) absl::StrAppend(&name, ".until.", absl::ToUnixSeconds(*form.newest));
  return name;
}

// The layer that was made before; nullopt: none, or it is gone.
absl::StatusOr<absl::optional<ImageLayer>> Made(content::Store& store, const std::string& digest,
                                                Compression compression) {
  ImageLayer layer;
  GANTRY_ASSIGN_OR_RETURN(layer.blob.digest, content::Digest::Parse(digest));
  const absl::StatusOr<content::Info> info = store.Stat(layer.blob.digest);
  if (absl::IsNotFound(info.status())) return absl::optional<ImageLayer>();
  if (!info.ok()) return info.status();
  const auto diff_id = info->labels.find(kDiffIdLabel);
  if (diff_id == info->labels.end()) return absl::optional<ImageLayer>();
  GANTRY_ASSIGN_OR_RETURN(layer.diff_id, content::Digest::Parse(diff_id->second));
  layer.blob.size_bytes = info->size_bytes;
  layer.blob.media_type = LayerMediaType(compression, false);
  return absl::optional<ImageLayer>(std::move(layer));
}

}  // namespace

absl::StatusOr<Compression> CompressionOf(const std::string& media_type) {
  if (!oci::IsLayerType(media_type))
    return absl::InvalidArgumentError(absl::StrCat("\"", media_type, "\" is not a layer"));
  if (absl::EndsWith(media_type, "gzip")) return Compression::kGzip;
  if (absl::EndsWith(media_type, "zstd")) return Compression::kZstd;
  return Compression::kNone;
}

std::string LayerMediaType(Compression compression, bool docker) {
  switch (compression) {
    case Compression::kZstd:
      return docker ? oci::kDockerLayerZstd : oci::kOciLayerZstd;
    case Compression::kNone:
      return docker ? oci::kDockerLayer : oci::kOciLayer;
    case Compression::kGzip:
    case Compression::kXz:
    case Compression::kBzip2:
      break;  // layers are not made in the last two
  }
  return docker ? oci::kDockerLayerGzip : oci::kOciLayerGzip;
}

absl::StatusOr<ImageLayer> ConvertLayer(content::Store& store, const ImageLayer& layer,
                                        const LayerForm& form, CancelToken* cancel) {
  GANTRY_ASSIGN_OR_RETURN(const Compression has, CompressionOf(layer.blob.media_type));
  const Compression wanted = form.compression.value_or(has);
  if (wanted == has && form.level == 0 && !form.newest.has_value()) return layer;
  GANTRY_ASSIGN_OR_RETURN(const content::Info info, store.Stat(layer.blob.digest));
  const std::string label = absl::StrCat(kKeepPrefix, NameOf(form, wanted));
  if (const auto made = info.labels.find(label); made != info.labels.end()) {
    GANTRY_ASSIGN_OR_RETURN(absl::optional<ImageLayer> before, Made(store, made->second, wanted));
    if (before.has_value()) return *std::move(before);
  }
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<content::BlobReader> blob,
                          store.Open(layer.blob.digest));
  BlobSource source(*blob, cancel);
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Decompressor> plain, OpenDecompressor(source, has));
  ImageAssembly assembly;
  GANTRY_ASSIGN_OR_RETURN(ImageLayer converted, assembly.LayerFrom(
                                                    store, "form",
                                                    [&](ByteSink& tar) -> absl::Status {
                                                      return form.newest.has_value()
                                                                 ? LimitTimes(*plain, *form.newest,
                                                                              tar)
                                                                 : CopyStream(*plain, tar).status();
                                                    },
                                                    wanted, form.level));
  if (!form.newest.has_value() && converted.diff_id != layer.diff_id)
    return absl::DataLossError(absl::StrCat("layer ", layer.blob.digest.str(), " has the diff id ",
                                            converted.diff_id.str(), ", not ",
                                            layer.diff_id.str()));
  // Without the label it is made again next time. A level that changes nothing gives the same blob.
  if (converted.blob.digest != layer.blob.digest)
    store
        .Update(layer.blob.digest, {{label, converted.blob.digest.str()}},
                {absl::StrCat("labels.", label)})
        .IgnoreError();
  return converted;
}

}  // namespace gantry::core
