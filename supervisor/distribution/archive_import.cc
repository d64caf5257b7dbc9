#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/random/random.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include <nlohmann/json.hpp>

#include "base/cancel_token.h"
#include "base/compression.h"
#include "base/status_macros.h"
#include "base/tar/entry.h"
#include "base/tar/reader.h"
#include "supervisor/distribution/archive.h"
#include "supervisor/distribution/archive_layout.h"
#include "supervisor/distribution/archive_names.h"
#include "supervisor/distribution/bounded_source.h"
#include "supervisor/distribution/image_tree.h"
#include "supervisor/distribution/layer_looks.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/runnable_image.h"
#include "supervisor/distribution/walk_budget.h"
#include "supervisor/oci/image_config.h"
#include "supervisor/oci/json_document.h"
#include "supervisor/oci/manifest.h"

namespace gantry::distribution {
namespace {

using content::Descriptor;
using content::Digest;
using nlohmann::json;

constexpr int64_t kMaxEntries = 200000;
constexpr int kMaxLinks = 16;
constexpr int kMaxPlans = 64;
constexpr size_t kSniffBytes = 512;

class Importer {
 public:
  Importer(content::Store& store, LayerSink* sink, const ImportOptions& options,
           CancelToken& cancel, const ArchiveProgressFn& progress)
      : store_(store), sink_(sink), options_(options), cancel_(cancel), progress_(progress) {
    absl::BitGen random;
    ref_prefix_ =
        absl::StrCat("import-", absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16), "/");
  }

  absl::Status ReadAll(ByteSource& archive);
  absl::StatusOr<std::vector<ImportedImage>> Images();

 private:
  struct Blob {
    Digest digest;
    int64_t size_bytes = 0;
    Looks looks = Looks::kOther;
  };

  absl::Status ReadEntry(TarReader& reader, const TarEntry& entry);
  absl::Status TakeBlob(TarReader& reader, const TarEntry& entry, const std::string& path);
  void Plan();
  std::unique_ptr<LayerFeed> OpenFeed(const Descriptor& layer);
  absl::StatusOr<Looks> LooksOfStored(const Digest& digest);
  absl::StatusOr<const Blob*> FindBlob(absl::string_view path, absl::string_view image);
  absl::StatusOr<std::vector<ImportedImage>> OciImages();
  absl::Status AddDockerNames(const ImageTree& tree, std::vector<ImportedImage>& images);
  absl::StatusOr<std::vector<ImportedImage>> DockerImages();
  absl::StatusOr<ImportedImage> DockerImage(const std::string& what, const std::string& config_path,
                                            const std::vector<std::string>& layer_paths);
  absl::StatusOr<Descriptor> Compress(const Blob& blob);
  absl::StatusOr<std::string> NameOf(const Descriptor& entry);
  void Report(absl::string_view entry, int64_t offset, int64_t total) {
    if (progress_ != nullptr) progress_(entry, offset, total);
  }

  content::Store& store_;
  LayerSink* const sink_;
  const ImportOptions& options_;
  CancelToken& cancel_;
  const ArchiveProgressFn& progress_;
  std::string ref_prefix_;
  int next_ref_ = 0;

  // Layers that will be unpacked and their diff ids; known early when the documents came before the
  // layers.
  std::optional<std::map<Digest, Digest>> plan_;
  int plans_tried_ = 0;

  std::map<std::string, std::string> documents_;  // index.json and its like, by path
  std::map<std::string, Blob> blobs_;             // by path
  std::map<std::string, std::string> links_;      // path -> path
};

absl::Status Importer::ReadAll(ByteSource& archive) {
  CountedSource counted(archive);
  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<Decompressor> plain, OpenDecompressor(counted));
  BoundedSource bounded(*plain, counted, options_.max_archive_bytes);
  TarReader reader(bounded);
  TarEntry entry;
  while (true) {
    GANTRY_RETURN_IF_ERROR(cancel_.Check());
    GANTRY_ASSIGN_OR_RETURN(const bool more, reader.Next(entry));
    if (!more) break;
    if (reader.entry_count() > kMaxEntries) {
      return absl::ResourceExhaustedError(
          absl::StrCat("archive: more than ", kMaxEntries, " entries"));
    }
    GANTRY_RETURN_IF_ERROR(ReadEntry(reader, entry));
  }
  // To the end, so that a compressed archive that was cut short is noticed.
  return reader.Drain();
}

absl::Status Importer::ReadEntry(TarReader& reader, const TarEntry& entry) {
  const std::string path = CleanEntryName(entry.path);
  if (path.empty()) return absl::OkStatus();
  const std::string directory(path.substr(0, path.size() - EntryBaseName(path).size()));
  switch (entry.type) {
    case TarType::kSymlink:
      links_[path] = absl::StartsWith(entry.link_target, "/")
                         ? ""
                         : CleanEntryName(directory + entry.link_target);
      return absl::OkStatus();
    case TarType::kHardLink:
      links_[path] = CleanEntryName(entry.link_target);
      return absl::OkStatus();
    case TarType::kDirectory:
    case TarType::kCharDevice:
    case TarType::kBlockDevice:
    case TarType::kFifo:
      return absl::OkStatus();
    case TarType::kFile:
      break;
  }
  links_.erase(path);
  if (path == "index.json" || path == "manifest.json" || path == "oci-layout" ||
      path == "repositories") {
    absl::StatusOr<std::string> text = reader.ReadAll(oci::kMaxManifestBytes);
    if (!text.ok())
      return absl::Status(text.status().code(),
                          absl::StrCat("archive entry ", path, ": ", text.status().message()));
    documents_[path] = *std::move(text);
    return absl::OkStatus();
  }
  // Of each layer in the oldest docker format; nothing needs them.
  if (!directory.empty() && (EntryBaseName(path) == "json" || EntryBaseName(path) == "VERSION"))
    return absl::OkStatus();
  return TakeBlob(reader, entry, path);
}

void Importer::Plan() {
  auto text = documents_.find("index.json");
  if (plan_.has_value() || text == documents_.end() || plans_tried_ >= kMaxPlans) return;
  ++plans_tried_;
  absl::StatusOr<oci::Index> index = oci::ParseIndex(text->second, "", "archive: index.json");
  if (!index.ok()) return;
  std::map<Digest, Digest> plan;
  WalkBudget budget(&cancel_);
  for (const Descriptor& entry : index->manifests) {
    absl::StatusOr<RunnableImage> image =
        FindRunnable(store_, entry, options_.unpack_platforms, budget);
    if (!image.ok()) {
      // Not for this machine, or not here yet?
      if (!FindRunnable(store_, entry, oci::PlatformMatcher::All(), budget).ok()) return;
      continue;
    }
    for (size_t i = 0; i < image->layers.size(); ++i) {
      plan.emplace(image->layers[i].digest, image->diff_ids[i]);
    }
  }
  plan_ = std::move(plan);
}

// A layer of a platform that was not asked for is stored and not unpacked.
std::unique_ptr<LayerFeed> Importer::OpenFeed(const Descriptor& layer) {
  if (layer.digest.empty()) return sink_->OpenFeed(layer, Digest());
  Plan();
  if (!plan_.has_value()) return sink_->OpenFeed(layer, Digest());
  auto planned = plan_->find(layer.digest);
  if (planned != plan_->end()) return sink_->OpenFeed(layer, planned->second);
  return nullptr;
}

absl::Status Importer::TakeBlob(TarReader& reader, const TarEntry& entry, const std::string& path) {
  GANTRY_ASSIGN_OR_RETURN(const Digest expected, DigestInEntryName(path));
  Blob blob{expected, entry.size_bytes, Looks::kOther};
  content::IngestOptions open;
  open.ref = absl::StrCat(ref_prefix_, next_ref_++);
  open.total_bytes = entry.size_bytes;
  open.expected = expected;
  absl::StatusOr<std::unique_ptr<content::Ingest>> ingest = store_.OpenIngest(open);
  if (absl::IsAlreadyExists(ingest.status())) {
    GANTRY_ASSIGN_OR_RETURN(blob.looks, LooksOfStored(expected));
    blobs_[path] = blob;
    Report(path, entry.size_bytes, entry.size_bytes);
    return absl::OkStatus();
  }
  if (!ingest.ok()) return ingest.status();
  std::unique_ptr<content::Ingest> writer = *std::move(ingest);
  // One that cannot be dropped is garbage, which collection takes; the error that led here is the
  // one to tell.
  absl::Cleanup abort = [&] {
    writer.reset();
    store_.AbortIngest(open.ref).IgnoreError();
  };
  // A namespace that takes over a blob another one has gets an ingest that is complete already.
  const bool adopted = writer->offset() > 0;

  std::unique_ptr<LayerFeed> feed;
  std::string head;  // until it is long enough to judge
  bool judged = false;
  const auto judge = [&] {
    judged = true;
    blob.looks = SniffLayer(head);
    // A layer of another namespace is unpacked there, as a rule: its files can be shared once the
    // image is known. If not, it is unpacked from the store.
    if (sink_ == nullptr || blob.looks == Looks::kOther || adopted) return;
    Descriptor layer;
    layer.media_type = OciLayerType(blob.looks);
    layer.digest = expected;
    layer.size_bytes = entry.size_bytes;
    feed = OpenFeed(layer);
  };
  int64_t offset = 0;
  int64_t reported = 0;
  const auto take = [&](absl::string_view bytes) -> absl::Status {
    if (!adopted) GANTRY_RETURN_IF_ERROR(writer->Append(bytes));
    offset += static_cast<int64_t>(bytes.size());
    if (!judged) {
      head.append(bytes.data(), bytes.size());
      if (head.size() < kSniffBytes) return absl::OkStatus();
      judge();
      if (feed != nullptr) feed->Write(head);
      std::string().swap(head);
    } else if (feed != nullptr) {
      feed->Write(bytes);
    }
    if (offset - reported >= kArchiveProgressStep) {
      reported = offset;
      Report(path, offset, entry.size_bytes);
    }
    return absl::OkStatus();
  };
  TarData data;
  while (true) {
    GANTRY_RETURN_IF_ERROR(cancel_.Check());
    GANTRY_ASSIGN_OR_RETURN(const bool more, reader.ReadData(data));
    if (!more) break;
    static constexpr char kZeros[4096] = {};
    while (offset < data.offset) {
      const int64_t hole = std::min<int64_t>(data.offset - offset, sizeof(kZeros));
      GANTRY_RETURN_IF_ERROR(take(absl::string_view(kZeros, static_cast<size_t>(hole))));
    }
    GANTRY_RETURN_IF_ERROR(take(data.bytes));
  }
  static constexpr char kZeros[4096] = {};
  while (offset < entry.size_bytes) {
    const int64_t hole = std::min<int64_t>(entry.size_bytes - offset, sizeof(kZeros));
    GANTRY_RETURN_IF_ERROR(take(absl::string_view(kZeros, static_cast<size_t>(hole))));
  }
  if (!judged) {
    judge();
    if (feed != nullptr) feed->Write(head);
  }

  content::CommitOptions commit;
  commit.expected = expected;
  commit.size_bytes = entry.size_bytes;
  commit.sync = options_.sync_blobs;
  if (expected.empty()) blob.digest = writer->current_digest();
  absl::StatusOr<Digest> committed = writer->Commit(commit);
  if (absl::IsFailedPrecondition(committed.status())) {
    return absl::DataLossError(
        absl::StrCat("archive entry ", path, ": damaged: ", committed.status().message()));
  }
  if (!committed.ok() && !absl::IsAlreadyExists(committed.status())) return committed.status();
  if (committed.ok()) std::move(abort).Cancel();
  if (feed != nullptr) feed->Finish(blob.digest);
  blobs_[path] = blob;
  Report(path, offset, entry.size_bytes);
  return absl::OkStatus();
}

absl::StatusOr<Looks> Importer::LooksOfStored(const Digest& digest) {
  GANTRY_ASSIGN_OR_RETURN(auto reader, store_.Open(digest));
  char head[kSniffBytes];
  GANTRY_ASSIGN_OR_RETURN(const size_t got, reader->ReadAt(0, head, sizeof(head)));
  return SniffLayer(absl::string_view(head, got));
}

absl::StatusOr<const Importer::Blob*> Importer::FindBlob(absl::string_view path,
                                                         absl::string_view image) {
  std::string at = CleanEntryName(path);
  for (int hop = 0; hop < kMaxLinks && !at.empty(); ++hop) {
    if (auto blob = blobs_.find(at); blob != blobs_.end()) return &blob->second;
    auto link = links_.find(at);
    if (link == links_.end()) break;
    at = link->second;
  }
  // An archive may leave out what the receiver is known to have.
  if (absl::StatusOr<Digest> digest = DigestInEntryName(CleanEntryName(path));
      digest.ok() && !digest->empty()) {
    if (absl::StatusOr<content::Info> info = store_.Stat(*digest); info.ok()) {
      Blob blob{*digest, info->size_bytes, Looks::kOther};
      GANTRY_ASSIGN_OR_RETURN(blob.looks, LooksOfStored(*digest));
      return &(blobs_[CleanEntryName(path)] = blob);
    }
  }
  return absl::FailedPreconditionError(
      absl::StrCat(image, ": ", path, " is neither in the archive nor in the store"));
}

absl::StatusOr<std::string> Importer::NameOf(const Descriptor& entry) {
  const auto annotation = [&](const char* key) {
    auto it = entry.annotations.find(key);
    return it == entry.annotations.end() ? std::string() : it->second;
  };
  if (std::string full = annotation(kImageNameAnnotation); !full.empty())
    return CanonicalImageName(full);
  const std::string tag = annotation(kRefNameAnnotation);
  if (!tag.empty()) {
    const bool full = absl::StrContains(tag, "/") || absl::StrContains(tag, ":");
    if (full) return CanonicalImageName(tag);
    if (!options_.base_name.empty())
      return CanonicalImageName(absl::StrCat(options_.base_name, ":", tag));
    return tag;
  }
  if (!options_.digest_base_name.empty())
    return absl::StrCat(options_.digest_base_name, "@", entry.digest.str());
  return std::string();
}

absl::StatusOr<std::vector<ImportedImage>> Importer::OciImages() {
  if (auto layout = documents_.find("oci-layout"); layout != documents_.end()) {
    GANTRY_ASSIGN_OR_RETURN(const json version,
                            oci::ParseJson(layout->second, "archive: oci-layout"));
    if (!version.is_object() || !version.contains("imageLayoutVersion") ||
        version["imageLayoutVersion"] != "1.0.0") {
      return absl::InvalidArgumentError("archive: oci-layout: expected imageLayoutVersion 1.0.0");
    }
  }
  const std::string& text = documents_["index.json"];
  GANTRY_ASSIGN_OR_RETURN(const oci::Index index, oci::ParseIndex(text, "", "archive: index.json"));
  ImageTree tree(store_, options_.platforms, /*label=*/true, cancel_);
  std::vector<ImportedImage> images;
  for (const Descriptor& entry : index.manifests) {
    if (!oci::IsIndexType(entry.media_type) && !oci::IsManifestType(entry.media_type)) {
      if (oci::IsSchema1Type(entry.media_type))
        return oci::ParseDocument("", entry.media_type, "archive: index.json").status();
      return absl::InvalidArgumentError(
          absl::StrCat("archive: index.json: ", entry.digest.str(), " has media type ",
                       entry.media_type, ", which is neither an image manifest nor an index"));
    }
    GANTRY_ASSIGN_OR_RETURN(std::string name, NameOf(entry));
    GANTRY_RETURN_IF_ERROR(
        tree.Check(entry, absl::StrCat("image ", name.empty() ? entry.digest.str() : name)));
    GANTRY_RETURN_IF_ERROR(CheckNamePromise(name, entry.digest));
    Descriptor target = entry;
    target.annotations.erase(kImageNameAnnotation);
    target.annotations.erase(kRefNameAnnotation);
    images.push_back({.name = std::move(name), .target = std::move(target)});
  }
  if (documents_.count("manifest.json") > 0) GANTRY_RETURN_IF_ERROR(AddDockerNames(tree, images));
  if (options_.with_index) {
    oci::Document document;
    document.index = index;
    Descriptor target;
    target.media_type = index.media_type;
    target.size_bytes = static_cast<int64_t>(text.size());
    GANTRY_ASSIGN_OR_RETURN(target.digest,
                            content::WriteBlob(store_, absl::StrCat(ref_prefix_, "index"), text, {},
                                               oci::ChildLabels(document)));
    images.push_back({.name = "", .target = std::move(target), .is_index = true});
  }
  return images;
}

// Some writers put tags into manifest.json only.
absl::Status Importer::AddDockerNames(const ImageTree& tree, std::vector<ImportedImage>& images) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<DockerArchiveEntry> entries,
                          ParseDockerManifest(documents_["manifest.json"]));
  std::set<std::string> known;
  std::multimap<Digest, size_t> nameless;  // -> place in `images`
  for (size_t i = 0; i < images.size(); ++i) {
    known.insert(images[i].name);
    if (images[i].name.empty()) nameless.emplace(images[i].target.digest, i);
  }
  for (const DockerArchiveEntry& entry : entries) {
    absl::StatusOr<const Blob*> config = FindBlob(entry.config, "image");
    if (!config.ok()) continue;
    auto manifest = tree.by_config().find((*config)->digest);
    if (manifest == tree.by_config().end()) continue;
    for (const std::string& tag : entry.repo_tags) {
      GANTRY_ASSIGN_OR_RETURN(std::string name, CanonicalImageName(tag));
      GANTRY_RETURN_IF_ERROR(CheckNamePromise(name, manifest->second.digest));
      if (!known.insert(name).second) continue;
      auto place = nameless.find(manifest->second.digest);
      if (place != nameless.end()) {
        images[place->second].name = std::move(name);
        nameless.erase(place);
      } else {
        images.push_back({.name = std::move(name), .target = manifest->second});
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Descriptor> Importer::Compress(const Blob& blob) {
  // Feeds the compressor's output to an ingest.
  class IngestSink : public ByteSink {
   public:
    explicit IngestSink(content::Ingest& ingest) : ingest_(ingest) {}
    absl::Status Write(absl::string_view bytes) override { return ingest_.Append(bytes); }

   private:
    content::Ingest& ingest_;
  };
  content::IngestOptions open;
  open.ref = absl::StrCat(ref_prefix_, next_ref_++);
  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<content::Ingest> ingest, store_.OpenIngest(open));
  // As above: what stays is garbage, and there is a better error to tell.
  absl::Cleanup abort = [&] {
    ingest.reset();
    store_.AbortIngest(open.ref).IgnoreError();
  };
  GANTRY_ASSIGN_OR_RETURN(auto reader, store_.Open(blob.digest));
  IngestSink sink(*ingest);
  GANTRY_ASSIGN_OR_RETURN(auto compressor, OpenCompressor(sink, Compression::kGzip));
  std::string buffer(256 << 10, '\0');
  for (int64_t offset = 0;;) {
    GANTRY_RETURN_IF_ERROR(cancel_.Check());
    GANTRY_ASSIGN_OR_RETURN(const size_t got, reader->ReadAt(offset, buffer.data(), buffer.size()));
    if (got == 0) break;
    offset += static_cast<int64_t>(got);
    GANTRY_RETURN_IF_ERROR(compressor->Write(absl::string_view(buffer).substr(0, got)));
  }
  GANTRY_RETURN_IF_ERROR(compressor->Finish());
  Descriptor out;
  out.media_type = oci::kDockerLayerGzip;
  out.size_bytes = ingest->offset();
  out.digest = ingest->current_digest();
  content::CommitOptions commit;
  commit.labels["containerd.io/uncompressed"] = blob.digest.str();
  commit.sync = options_.sync_blobs;
  absl::StatusOr<Digest> committed = ingest->Commit(commit);
  if (!committed.ok() && !absl::IsAlreadyExists(committed.status())) return committed.status();
  if (committed.ok()) std::move(abort).Cancel();
  return out;
}

absl::StatusOr<ImportedImage> Importer::DockerImage(const std::string& what,
                                                    const std::string& config_path,
                                                    const std::vector<std::string>& layer_paths) {
  GANTRY_ASSIGN_OR_RETURN(const Blob* config_blob, FindBlob(config_path, what));
  // "<hex>.json": the name is a promise too.
  if (absl::string_view hex = absl::StripSuffix(EntryBaseName(config_path), ".json");
      hex.size() == 64) {
    absl::StatusOr<Digest> named = Digest::Parse(absl::StrCat("sha256:", hex));
    if (named.ok() && *named != config_blob->digest) {
      return absl::DataLossError(absl::StrCat(
          what, ": ", config_path, " is damaged: its digest is ", config_blob->digest.str()));
    }
  }
  GANTRY_ASSIGN_OR_RETURN(const std::string config_text,
                          content::ReadBlob(store_, config_blob->digest, oci::kMaxManifestBytes));
  GANTRY_ASSIGN_OR_RETURN(
      const oci::ImageConfig config,
      oci::ParseImageConfig(config_text, absl::StrCat(what, ": ", config_path)));
  if (config.diff_ids.size() != layer_paths.size()) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": manifest.json has ", layer_paths.size(),
                                                   " layers, the config ", config.diff_ids.size(),
                                                   " diff ids"));
  }
  // Docker's types, so that the image has the digest that containerd and docker give it: the same
  // archive is the same image everywhere.
  oci::Document document;
  oci::Manifest& manifest = document.manifest.emplace();
  manifest.media_type = oci::kDockerManifest;
  manifest.config.media_type = oci::kDockerConfig;
  manifest.config.digest = config_blob->digest;
  manifest.config.size_bytes = config_blob->size_bytes;
  for (size_t i = 0; i < layer_paths.size(); ++i) {
    GANTRY_ASSIGN_OR_RETURN(const Blob* blob, FindBlob(layer_paths[i], what));
    const bool plain = blob->looks != Looks::kGzip && blob->looks != Looks::kZstd;
    if (plain && blob->digest != config.diff_ids[i]) {
      return absl::DataLossError(absl::StrCat(what, ": layer ", layer_paths[i],
                                              " is damaged: its digest is ", blob->digest.str(),
                                              ", but the config says ", config.diff_ids[i].str()));
    }
    Descriptor layer;
    layer.media_type = DockerLayerType(blob->looks);
    layer.digest = blob->digest;
    layer.size_bytes = blob->size_bytes;
    if (plain && options_.compress) {
      GANTRY_ASSIGN_OR_RETURN(layer, Compress(*blob));
    }
    manifest.layers.push_back(std::move(layer));
  }
  const std::string text = oci::PrintManifest(manifest);
  ImportedImage image;
  image.target.media_type = manifest.media_type;
  image.target.size_bytes = static_cast<int64_t>(text.size());
  if (!config.platform.os.empty()) image.target.platform = config.platform;
  GANTRY_ASSIGN_OR_RETURN(image.target.digest,
                          content::WriteBlob(store_, absl::StrCat(ref_prefix_, next_ref_++), text,
                                             {}, oci::ChildLabels(document)));
  return image;
}

absl::StatusOr<std::vector<ImportedImage>> Importer::DockerImages() {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<DockerArchiveEntry> entries,
                          ParseDockerManifest(documents_["manifest.json"]));
  std::vector<ImportedImage> images;
  for (const DockerArchiveEntry& entry : entries) {
    std::vector<std::string> names;
    for (const std::string& tag : entry.repo_tags) {
      GANTRY_ASSIGN_OR_RETURN(std::string name, CanonicalImageName(tag));
      names.push_back(std::move(name));
    }
    const std::string what = absl::StrCat("image ", names.empty() ? entry.config : names[0]);
    GANTRY_ASSIGN_OR_RETURN(ImportedImage image, DockerImage(what, entry.config, entry.layers));
    for (const std::string& name : names)
      GANTRY_RETURN_IF_ERROR(CheckNamePromise(name, image.target.digest));
    if (names.empty()) {
      names.push_back(
          options_.digest_base_name.empty()
              ? ""
              : absl::StrCat(options_.digest_base_name, "@", image.target.digest.str()));
    }
    for (std::string& name : names)
      images.push_back({.name = std::move(name), .target = image.target});
  }
  return images;
}

absl::StatusOr<std::vector<ImportedImage>> Importer::Images() {
  absl::StatusOr<std::vector<ImportedImage>> images = absl::InvalidArgumentError(
      "archive: neither an OCI layout (index.json) nor a docker archive (manifest.json)");
  if (documents_.count("index.json") > 0) {
    images = OciImages();
  } else if (documents_.count("manifest.json") > 0) {
    images = DockerImages();
  }
  if (images.ok() && images->empty()) return absl::InvalidArgumentError("archive: holds no image");
  return images;
}

}  // namespace

absl::StatusOr<std::vector<ImportedImage>> ImportArchive(ByteSource& archive, content::Store& store,
                                                         LayerSink* sink,
                                                         const ImportOptions& options,
                                                         CancelToken& cancel,
                                                         const ArchiveProgressFn& progress) {
  Importer importer(store, sink, options, cancel, progress);
  GANTRY_RETURN_IF_ERROR(importer.ReadAll(archive));
  return importer.Images();
}

}  // namespace gantry::distribution
