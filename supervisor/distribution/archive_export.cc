#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include <nlohmann/json.hpp>

#include "base/cancel_token.h"
#include "base/status_macros.h"
#include "base/tar/entry.h"
#include "base/tar/writer.h"
#include "supervisor/distribution/archive.h"
#include "supervisor/distribution/archive_layout.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/runnable_image.h"
#include "supervisor/distribution/walk_budget.h"
#include "supervisor/oci/json_document.h"
#include "supervisor/oci/manifest.h"

namespace gantry::distribution {
namespace {

using content::Descriptor;
using content::Digest;
using nlohmann::json;

// What an export consists of, found out before the first byte is written.
class Exporter {
 public:
  Exporter(content::Store& store, const ExportOptions& options, const CancelToken& cancel)
      : store_(store), options_(options), cancel_(cancel) {}

  absl::Status Add(const ExportImage& image);
  absl::Status Write(ByteSink& out, CancelToken& cancel, const ArchiveProgressFn& progress);

 private:
  absl::StatusOr<Descriptor> Reduce(const Descriptor& target, std::set<Digest>& selected);
  absl::Status Collect(const Descriptor& target, const std::set<Digest>& selected,
                       WalkBudget& budget, int depth);
  void AddBlob(std::vector<Descriptor>& list, const Descriptor& blob) {
    if (seen_.insert(blob.digest).second) list.push_back(blob);
  }
  absl::Status WriteBlobs(TarWriter& tar, const std::vector<Descriptor>& blobs, CancelToken& cancel,
                          const ArchiveProgressFn& progress);

  content::Store& store_;
  const ExportOptions& options_;
  const CancelToken& cancel_;
  oci::Index index_;
  json docker_manifest_ = json::array();
  json repositories_ = json::object();
  std::map<Digest, size_t> docker_entries_;  // by manifest -> position in docker_manifest_
  std::vector<Descriptor> documents_;
  std::vector<Descriptor> layers_;
  std::set<Digest> seen_;
  std::map<Digest, absl::Status> collected_;  // documents, with what became of them
};

// With platforms asked for, an index becomes the one manifest that fits, so that the archive is
// complete by itself; or, when several platforms fit, stays and is exported with those.
absl::StatusOr<Descriptor> Exporter::Reduce(const Descriptor& target, std::set<Digest>& selected) {
  if (options_.platforms.all() || !oci::IsIndexType(target.media_type)) return target;
  GANTRY_ASSIGN_OR_RETURN(const std::string text,
                          content::ReadBlob(store_, target.digest, oci::kMaxManifestBytes));
  GANTRY_ASSIGN_OR_RETURN(const oci::Index index,
                          oci::ParseIndex(text, target.media_type, target.digest.str()));
  const std::vector<Descriptor> fitting = oci::SelectManifests(index.manifests, options_.platforms);
  if (fitting.empty()) {
    return absl::NotFoundError(absl::StrCat("image ", target.digest.str(), ": no platform matches ",
                                            options_.platforms.Describe()));
  }
  std::set<std::pair<std::string, std::string>> kinds;
  for (const Descriptor& d : fitting) {
    const bool first_of_kind =
        !d.platform.has_value() || kinds.emplace(d.platform->os, d.platform->architecture).second;
    if (first_of_kind) selected.insert(d.digest);
  }
  if (selected.size() > 1) return target;
  selected.clear();
  return fitting.front();
}

absl::Status Exporter::Collect(const Descriptor& target, const std::set<Digest>& selected,
                               WalkBudget& budget, int depth) {
  GANTRY_ASSIGN_OR_RETURN(const oci::Document document,
                          budget.Read(store_, target, target.digest.str(), depth));
  if (document.index.has_value()) {
    AddBlob(documents_, target);
    bool usable = document.index->manifests.empty();
    absl::Status missing;
    for (const Descriptor& child : document.index->manifests) {
      if (!selected.empty() && selected.count(child.digest) == 0) continue;
      if (!oci::IsIndexType(child.media_type) && !oci::IsManifestType(child.media_type)) continue;
      // What was never fetched cannot be exported and need not be, as long as something is there.
      if (absl::Status present = store_.Stat(child.digest).status(); !present.ok()) {
        if (!absl::IsNotFound(present)) return present;
        if (missing.ok()) missing = present;
        continue;
      }
      auto [known, fresh] = collected_.try_emplace(child.digest);
      if (fresh) {
        const absl::Status collected = Collect(child, {}, budget, depth + 1);
        collected_[child.digest] = collected;
        GANTRY_RETURN_IF_ERROR(collected);
      } else {
        GANTRY_RETURN_IF_ERROR(known->second);
      }
      usable = true;
    }
    return usable ? absl::OkStatus() : missing;
  }
  GANTRY_RETURN_IF_ERROR(store_.Stat(document.manifest->config.digest).status());
  std::vector<Descriptor> layers;
  for (const Descriptor& layer : document.manifest->layers) {
    absl::Status present = store_.Stat(layer.digest).status();
    if (present.ok()) {
      layers.push_back(layer);
    } else if (!absl::IsNotFound(present) || !oci::IsForeignLayerType(layer.media_type)) {
      return absl::Status(present.code(),
                          absl::StrCat("image ", target.digest.str(), ": layer ",
                                       layer.digest.str(), ": ", present.message()));
    }
  }
  AddBlob(documents_, target);
  AddBlob(documents_, document.manifest->config);
  for (const Descriptor& layer : layers) AddBlob(layers_, layer);
  return absl::OkStatus();
}

absl::Status Exporter::Add(const ExportImage& image) {
  std::set<Digest> selected;
  GANTRY_ASSIGN_OR_RETURN(Descriptor target, Reduce(image.target, selected));
  WalkBudget budget(&cancel_);
  GANTRY_RETURN_IF_ERROR(Collect(target, selected, budget, 0));
  // docker load takes one image per entry: the one for this host, or else the first that is
  // complete.
  absl::StatusOr<RunnableImage> runnable =
      FindRunnable(store_, target, options_.platforms, &cancel_);
  if (options_.platforms.all()) {
    absl::StatusOr<RunnableImage> host =
        FindRunnable(store_, target, oci::PlatformMatcher::Host(), &cancel_);
    if (host.ok()) runnable = std::move(host);
  }
  json* docker = nullptr;
  if (runnable.ok()) {
    auto [it, fresh] = docker_entries_.emplace(runnable->manifest.digest, docker_manifest_.size());
    if (fresh) {
      json layers = json::array();
      for (const Descriptor& layer : runnable->layers)
        layers.push_back(BlobPathInArchive(layer.digest));
      docker_manifest_.push_back({{"Config", BlobPathInArchive(runnable->config.digest)},
                                  {"RepoTags", json::array()},
                                  {"Layers", std::move(layers)}});
    }
    docker = &docker_manifest_[it->second];
  }
  bool named = false;
  for (const std::string& full_name : image.names) {
    std::string name = full_name;
    absl::StatusOr<Reference> reference = Reference::Parse(name);
    if (reference.ok() && !reference->digest().empty() && reference->digest() != target.digest) {
      // The name promises the whole index; here only one image of it is written.
      if (reference->tag().empty()) continue;
      reference = reference->WithTag(reference->tag());
      if (!reference.ok()) return reference.status();
      name = reference->canonical();
    }
    named = true;
    Descriptor entry = target;
    entry.annotations[kImageNameAnnotation] = name;
    if (reference.ok() && !reference->tag().empty()) {
      entry.annotations[kRefNameAnnotation] = reference->tag();
      if (docker != nullptr) {
        (*docker)["RepoTags"].push_back(reference->familiar());
        if (!runnable->layers.empty()) {
          repositories_[reference->familiar_repository()][reference->tag()] =
              std::string(runnable->layers.back().digest.hex());
        }
      }
    }
    index_.manifests.push_back(std::move(entry));
  }
  if (!named) index_.manifests.push_back(target);
  return absl::OkStatus();
}

absl::Status Exporter::WriteBlobs(TarWriter& tar, const std::vector<Descriptor>& blobs,
                                  CancelToken& cancel, const ArchiveProgressFn& progress) {
  std::string buffer(256 << 10, '\0');
  for (const Descriptor& blob : blobs) {
    GANTRY_ASSIGN_OR_RETURN(auto reader, store_.Open(blob.digest));
    TarEntry entry;
    entry.path = BlobPathInArchive(blob.digest);
    entry.mode = 0444;
    entry.size_bytes = reader->size_bytes();
    GANTRY_RETURN_IF_ERROR(tar.WriteEntry(entry));
    int64_t offset = 0;
    int64_t reported = 0;
    while (offset < entry.size_bytes) {
      GANTRY_RETURN_IF_ERROR(cancel.Check());
      GANTRY_ASSIGN_OR_RETURN(const size_t got,
                              reader->ReadAt(offset, buffer.data(), buffer.size()));
      if (got == 0)
        return absl::DataLossError(
            absl::StrCat("blob ", blob.digest.str(), ": shorter than its size"));
      offset += static_cast<int64_t>(got);
      GANTRY_RETURN_IF_ERROR(tar.WriteData(absl::string_view(buffer).substr(0, got)));
      if (progress != nullptr &&
          (offset - reported >= kArchiveProgressStep || offset == entry.size_bytes)) {
        reported = offset;
        progress(entry.path, offset, entry.size_bytes);
      }
    }
  }
  return absl::OkStatus();
}

absl::Status Exporter::Write(ByteSink& out, CancelToken& cancel,
                             const ArchiveProgressFn& progress) {
  TarWriter tar(out);
  const auto directory = [&](absl::string_view path) {
    TarEntry entry;
    entry.type = TarType::kDirectory;
    entry.path = std::string(path);
    entry.mode = 0755;
    return tar.WriteEntry(entry);
  };
  const auto file = [&](absl::string_view path, absl::string_view text) {
    TarEntry entry;
    entry.path = std::string(path);
    entry.mode = 0644;
    return tar.WriteFile(entry, text);
  };
  index_.media_type = oci::kOciIndex;
  // Documents first: a reader then knows which layers it wants before they come.
  GANTRY_RETURN_IF_ERROR(file("oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
  GANTRY_RETURN_IF_ERROR(file("index.json", oci::PrintIndex(index_)));
  if (options_.docker_compatible) {
    GANTRY_RETURN_IF_ERROR(file("manifest.json", oci::PrintJson(docker_manifest_)));
    if (!repositories_.empty())
      GANTRY_RETURN_IF_ERROR(file("repositories", oci::PrintJson(repositories_)));
  }
  GANTRY_RETURN_IF_ERROR(directory("blobs/"));
  std::set<std::string> algorithms;
  for (const Digest& digest : seen_) algorithms.insert(std::string(digest.algorithm()));
  for (const std::string& algorithm : algorithms)
    GANTRY_RETURN_IF_ERROR(directory(absl::StrCat("blobs/", algorithm, "/")));
  GANTRY_RETURN_IF_ERROR(WriteBlobs(tar, documents_, cancel, progress));
  GANTRY_RETURN_IF_ERROR(WriteBlobs(tar, layers_, cancel, progress));
  return tar.Finish();
}

}  // namespace

absl::Status ExportArchive(content::Store& store, const std::vector<ExportImage>& images,
                           const ExportOptions& options, ByteSink& out, CancelToken& cancel,
                           const ArchiveProgressFn& progress) {
  if (images.empty()) return absl::InvalidArgumentError("export: no image named");
  Exporter exporter(store, options, cancel);
  for (const ExportImage& image : images) GANTRY_RETURN_IF_ERROR(exporter.Add(image));
  return exporter.Write(out, cancel, progress);
}

}  // namespace gantry::distribution
