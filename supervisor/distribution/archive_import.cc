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
constexpr size_t kMaxNames = 10000;
constexpr size_t kSniffBytes = 512;
constexpr int64_t kExpansion = 1100;  // what deflate can do at most; only a bomb needs more
constexpr int64_t kExpansionFree = int64_t{1} << 30;

class CountedSource : public ByteSource {
 public:
  explicit CountedSource(ByteSource& below) : below_(below) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    GANTRY_ASSIGN_OR_RETURN(const size_t got, below_.Read(buffer, n));
    count_ += static_cast<int64_t>(got);
    return got;
  }
  int64_t count() const { return count_; }

 private:
  ByteSource& below_;
  int64_t count_ = 0;
};

// Refuses more than the archive may have, in all and per byte that came in.
class BoundedSource : public ByteSource {
 public:
  BoundedSource(ByteSource& below, const CountedSource& compressed, int64_t limit)
      : below_(below), compressed_(compressed), limit_(limit) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    GANTRY_ASSIGN_OR_RETURN(const size_t got, below_.Read(buffer, n));
    count_ += static_cast<int64_t>(got);
    if (count_ > limit_) {
      return absl::ResourceExhaustedError(absl::StrCat("archive: more than ", limit_, " bytes"));
    }
    if (count_ > kExpansionFree && count_ / kExpansion > compressed_.count()) {
      return absl::ResourceExhaustedError(absl::StrCat("archive: ", compressed_.count(),
                                                       " bytes became ", count_,
                                                       ", which no real archive does"));
    }
    return got;
  }

 private:
  ByteSource& below_;
  const CountedSource& compressed_;
  const int64_t limit_;
  int64_t count_ = 0;
};

// "a/./b/" -> "a/b". Empty for what leads out of the archive or is its root.
std::string CleanName(absl::string_view name) {
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

absl::string_view BaseName(absl::string_view path) { return path.substr(path.rfind('/') + 1); }

// The digest in "blobs/<algorithm>/<hex>"; empty for other names.
absl::StatusOr<Digest> DigestInName(absl::string_view path) {
  const std::vector<absl::string_view> parts = absl::StrSplit(path, '/');
  if (parts.size() != 3 || parts[0] != "blobs") return Digest();
  absl::StatusOr<Digest> digest = Digest::Parse(absl::StrCat(parts[1], ":", parts[2]));
  if (!digest.ok())
    return absl::InvalidArgumentError(
        absl::StrCat("archive entry ", path, ": ", digest.status().message()));
  return digest;
}

// What the first bytes of a blob look like.
enum class Looks { kOther, kTar, kGzip, kZstd };

Looks Sniff(absl::string_view head) {
  switch (DetectCompression(head)) {
    case Compression::kGzip:
      return Looks::kGzip;
    case Compression::kZstd:
      return Looks::kZstd;
    default:
      return head.size() >= 262 && head.substr(257, 5) == "ustar" ? Looks::kTar : Looks::kOther;
  }
}

const char* OciLayerType(Looks looks) {
  return looks == Looks::kGzip   ? oci::kOciLayerGzip
         : looks == Looks::kZstd ? oci::kOciLayerZstd
                                 : oci::kOciLayer;
}

// In the manifest that is written for a docker archive. Whatever is compressed is called gzip, zstd
// too: so does containerd, and the manifest is to have the same digest. Unpacking looks at the
// bytes.
const char* DockerLayerType(Looks looks) {
  return looks == Looks::kGzip || looks == Looks::kZstd ? oci::kDockerLayerGzip : oci::kDockerLayer;
}

absl::StatusOr<std::string> CanonicalName(absl::string_view text) {
  absl::StatusOr<Reference> reference = Reference::Parse(text);
  if (!reference.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("archive: image name: ", reference.status().message()));
  }
  return reference->canonical();
}

// A name with a digest promises what it stands for. An archive that breaks the promise would have
// its image run in place of another.
absl::Status CheckPromise(const std::string& name, const Digest& target) {
  absl::StatusOr<Reference> reference = Reference::Parse(name);
  if (!reference.ok() || reference->digest().empty() || reference->digest() == target)
    return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("archive: image name ", name,
                                                 ": the image of that name in the archive is ",
                                                 target.str(), ", which is another one"));
}

// Reads, checks and completes the tree below one descriptor.
class Tree {
 public:
  Tree(content::Store& store, const oci::PlatformMatcher& platforms, bool label,
       const CancelToken& cancel)
      : store_(store), platforms_(platforms), label_(label), cancel_(cancel) {}

  // OK: everything that must be there is. `what` names the image in messages.
  absl::Status Check(const Descriptor& target, absl::string_view what) {
    WalkBudget budget(&cancel_);
    return Check(target, what, budget, 0);
  }

  // By config digest, the manifests that were complete.
  const std::map<Digest, Descriptor>& by_config() const { return by_config_; }

 private:
  absl::Status Present(const Descriptor& blob, absl::string_view what, absl::string_view role) {
    absl::StatusOr<content::Info> info = store_.Stat(blob.digest);
    if (absl::IsNotFound(info.status())) {
      if (oci::IsForeignLayerType(blob.media_type)) {
        return absl::FailedPreconditionError(
            absl::StrCat(what, ": foreign layer ", blob.digest.str(), " is kept elsewhere (",
                         blob.urls.empty() ? "no URL given" : absl::StrJoin(blob.urls, ", "),
                         ") and not in the archive"));
      }
      return absl::FailedPreconditionError(absl::StrCat(
          what, ": ", role, " ", blob.digest.str(), " is neither in the archive nor in the store"));
    }
    GANTRY_RETURN_IF_ERROR(info.status());
    if (info->size_bytes != blob.size_bytes) {
      return absl::FailedPreconditionError(
          absl::StrCat(what, ": ", role, " ", blob.digest.str(), " has ", info->size_bytes,
                       " bytes, but the image says ", blob.size_bytes));
    }
    return absl::OkStatus();
  }

  absl::Status Check(const Descriptor& target, absl::string_view what, WalkBudget& budget,
                     int depth) {
    if (auto it = checked_.find(target.digest); it != checked_.end()) return it->second;
    absl::Status status = CheckNew(target, what, budget, depth);
    checked_[target.digest] = status;
    return status;
  }

  absl::Status CheckNew(const Descriptor& target, absl::string_view what, WalkBudget& budget,
                        int depth) {
    if (absl::Status charged = budget.Charge(target.size_bytes, depth); !charged.ok())
      return absl::Status(charged.code(), absl::StrCat(what, ": ", charged.message()));
    const bool is_index = oci::IsIndexType(target.media_type);
    GANTRY_RETURN_IF_ERROR(Present(target, what, is_index ? "index" : "manifest"));
    GANTRY_ASSIGN_OR_RETURN(const std::string bytes,
                            content::ReadBlob(store_, target.digest, oci::kMaxManifestBytes));
    GANTRY_ASSIGN_OR_RETURN(const oci::Document document,
                            oci::ParseDocument(bytes, target.media_type,
                                               absl::StrCat(what, ": ", target.digest.str())));
    if (document.manifest.has_value()) {
      GANTRY_RETURN_IF_ERROR(Present(document.manifest->config, what, "config"));
      for (const Descriptor& layer : document.manifest->layers)
        GANTRY_RETURN_IF_ERROR(Present(layer, what, "layer"));
      by_config_.emplace(document.manifest->config.digest, target);
    } else {
      GANTRY_RETURN_IF_ERROR(CheckIndex(*document.index, what, budget, depth));
    }
    if (!label_) return absl::OkStatus();
    const content::Labels labels = oci::ChildLabels(document);
    std::vector<std::string> fields;
    for (const auto& [key, value] : labels) fields.push_back(absl::StrCat("labels.", key));
    if (fields.empty()) return absl::OkStatus();
    absl::Status labelled = store_.Update(target.digest, labels, fields).status();
    return absl::IsUnimplemented(labelled) ? absl::OkStatus() : labelled;  // a store without labels
  }

  // What was left out may be missing as a whole, as long as there is something to use. A manifest
  // that is there and asked for has to be complete.
  absl::Status CheckIndex(const oci::Index& index, absl::string_view what, WalkBudget& budget,
                          int depth) {
    absl::Status missing;
    bool usable = index.manifests.empty();
    for (const Descriptor& child : index.manifests) {
      if (!oci::IsIndexType(child.media_type) && !oci::IsManifestType(child.media_type)) continue;
      const std::string name =
          child.platform.has_value()
              ? absl::StrCat(what, " (", oci::FormatPlatform(*child.platform), ")")
              : std::string(what);
      absl::Status status = Check(child, name, budget, depth + 1);
      if (status.ok()) {
        usable |= !oci::IsAttestation(child);
        continue;
      }
      if (!absl::IsFailedPrecondition(status)) return status;
      const bool wanted = !child.platform.has_value() || platforms_.Matches(*child.platform);
      if (wanted && store_.Stat(child.digest).ok()) return status;
      if (missing.ok() || wanted) missing = status;
    }
    return usable ? absl::OkStatus() : missing;
  }

  content::Store& store_;
  const oci::PlatformMatcher& platforms_;
  const bool label_;
  const CancelToken& cancel_;
  std::map<Digest, absl::Status> checked_;
  std::map<Digest, Descriptor> by_config_;
};

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
  absl::Status AddDockerNames(const Tree& tree, std::vector<ImportedImage>& images);
  absl::StatusOr<std::vector<ImportedImage>> DockerImages();
  absl::StatusOr<ImportedImage> DockerImage(const std::string& what, const std::string& config_path,
                                            const std::vector<std::string>& layer_paths);
  absl::StatusOr<Descriptor> Compress(const Blob& blob);
  absl::StatusOr<std::string> NameOf(const Descriptor& entry);
  void Report(absl::string_view entry, int64_t offset, int64_t total) {
    if (progress_ != nullptr) progress_(entry, offset, total);
  }

  struct DockerEntry {
    std::string config;
    std::vector<std::string> repo_tags;
    std::vector<std::string> layers;
  };
  absl::StatusOr<std::vector<DockerEntry>> DockerManifest();

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
  const std::string path = CleanName(entry.path);
  if (path.empty()) return absl::OkStatus();
  const std::string directory(path.substr(0, path.size() - BaseName(path).size()));
  switch (entry.type) {
    case TarType::kSymlink:
      links_[path] =
          absl::StartsWith(entry.link_target, "/") ? "" : CleanName(directory + entry.link_target);
      return absl::OkStatus();
    case TarType::kHardLink:
      links_[path] = CleanName(entry.link_target);
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
  if (!directory.empty() && (BaseName(path) == "json" || BaseName(path) == "VERSION"))
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
  GANTRY_ASSIGN_OR_RETURN(const Digest expected, DigestInName(path));
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
    blob.looks = Sniff(head);
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
  return Sniff(absl::string_view(head, got));
}

absl::StatusOr<const Importer::Blob*> Importer::FindBlob(absl::string_view path,
                                                         absl::string_view image) {
  std::string at = CleanName(path);
  for (int hop = 0; hop < kMaxLinks && !at.empty(); ++hop) {
    if (auto blob = blobs_.find(at); blob != blobs_.end()) return &blob->second;
    auto link = links_.find(at);
    if (link == links_.end()) break;
    at = link->second;
  }
  // An archive may leave out what the receiver is known to have.
  if (absl::StatusOr<Digest> digest = DigestInName(CleanName(path));
      digest.ok() && !digest->empty()) {
    if (absl::StatusOr<content::Info> info = store_.Stat(*digest); info.ok()) {
      Blob blob{*digest, info->size_bytes, Looks::kOther};
      GANTRY_ASSIGN_OR_RETURN(blob.looks, LooksOfStored(*digest));
      return &(blobs_[CleanName(path)] = blob);
    }
  }
  return absl::FailedPreconditionError(
      absl::StrCat(image, ": ", path, " is neither in the archive nor in the store"));
}

absl::StatusOr<std::vector<Importer::DockerEntry>> Importer::DockerManifest() {
  GANTRY_ASSIGN_OR_RETURN(const json list,
                          oci::ParseJson(documents_["manifest.json"], "archive: manifest.json"));
  const absl::Status bad = absl::InvalidArgumentError(
      "archive: manifest.json: expected a list of Config, RepoTags and Layers");
  if (!list.is_array()) return bad;
  std::vector<DockerEntry> out;
  size_t names = 0;
  for (const json& item : list) {
    if (!item.is_object() || !item.contains("Config") || !item["Config"].is_string()) return bad;
    DockerEntry entry;
    entry.config = item["Config"].get<std::string>();
    for (const auto& [key, texts] :
         {std::pair("RepoTags", &entry.repo_tags), std::pair("Layers", &entry.layers)}) {
      if (!item.contains(key) || item[key].is_null()) continue;
      if (!item[key].is_array()) return bad;
      for (const json& text : item[key]) {
        if (!text.is_string()) return bad;
        texts->push_back(text.get<std::string>());
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

absl::StatusOr<std::string> Importer::NameOf(const Descriptor& entry) {
  const auto annotation = [&](const char* key) {
    auto it = entry.annotations.find(key);
    return it == entry.annotations.end() ? std::string() : it->second;
  };
  if (std::string full = annotation(kImageNameAnnotation); !full.empty())
    return CanonicalName(full);
  const std::string tag = annotation(kRefNameAnnotation);
  if (!tag.empty()) {
    const bool full = absl::StrContains(tag, "/") || absl::StrContains(tag, ":");
    if (full) return CanonicalName(tag);
    if (!options_.base_name.empty())
      return CanonicalName(absl::StrCat(options_.base_name, ":", tag));
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
  Tree tree(store_, options_.platforms, /*label=*/true, cancel_);
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
    GANTRY_RETURN_IF_ERROR(CheckPromise(name, entry.digest));
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
absl::Status Importer::AddDockerNames(const Tree& tree, std::vector<ImportedImage>& images) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<DockerEntry> entries, DockerManifest());
  std::set<std::string> known;
  std::multimap<Digest, size_t> nameless;  // -> place in `images`
  for (size_t i = 0; i < images.size(); ++i) {
    known.insert(images[i].name);
    if (images[i].name.empty()) nameless.emplace(images[i].target.digest, i);
  }
  for (const DockerEntry& entry : entries) {
    absl::StatusOr<const Blob*> config = FindBlob(entry.config, "image");
    if (!config.ok()) continue;
    auto manifest = tree.by_config().find((*config)->digest);
    if (manifest == tree.by_config().end()) continue;
    for (const std::string& tag : entry.repo_tags) {
      GANTRY_ASSIGN_OR_RETURN(std::string name, CanonicalName(tag));
      GANTRY_RETURN_IF_ERROR(CheckPromise(name, manifest->second.digest));
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
  if (absl::string_view hex = absl::StripSuffix(BaseName(config_path), ".json"); hex.size() == 64) {
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
  GANTRY_ASSIGN_OR_RETURN(const std::vector<DockerEntry> entries, DockerManifest());
  std::vector<ImportedImage> images;
  for (const DockerEntry& entry : entries) {
    std::vector<std::string> names;
    for (const std::string& tag : entry.repo_tags) {
      GANTRY_ASSIGN_OR_RETURN(std::string name, CanonicalName(tag));
      names.push_back(std::move(name));
    }
    const std::string what = absl::StrCat("image ", names.empty() ? entry.config : names[0]);
    GANTRY_ASSIGN_OR_RETURN(ImportedImage image, DockerImage(what, entry.config, entry.layers));
    for (const std::string& name : names)
      GANTRY_RETURN_IF_ERROR(CheckPromise(name, image.target.digest));
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
