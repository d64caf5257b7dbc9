#include "supervisor/core/build_exchange.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/tar/writer.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/call_token.h"
#include "supervisor/core/image_push.h"
#include "supervisor/core/registry_call.h"
#include "supervisor/distribution/archive.h"
#include "supervisor/distribution/puller.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/resolver.h"
#include "supervisor/distribution/unpacker.h"
#include "supervisor/oci/platform.h"

namespace gantry::core {
namespace {

class RegistryOrigin : public BlobOrigin {
 public:
  RegistryOrigin(distribution::Reference reference, distribution::Puller& puller,
                 distribution::Resolver& resolver, const v1::RegistryAuth& auth,
                 distribution::CredentialSource* credentials, CancelToken* cancel)
      : reference_(std::move(reference)),
        name_(reference_.canonical()),
        puller_(puller),
        resolver_(resolver),
        token_(cancel),
        call_(auth, reference_.domain(), credentials, token_.get()) {}

  absl::Status Apply(bool insecure, const distribution::HostsConfig* hosts) {
    RegistryAccess access;
    if (insecure) access.default_scheme = "http";
    return call_.Apply(access, hosts);
  }

  const std::string& name() const override { return name_; }
  absl::StatusOr<content::Descriptor> Root(CancelToken*) override {
    GANTRY_ASSIGN_OR_RETURN(const distribution::Resolved resolved,
                            resolver_.Resolve(reference_, call_.context));
    return resolved.descriptor;
  }
  absl::Status Fetch(const content::Descriptor& blob, content::Store& store,
                     CancelToken*) override {
    return puller_.FetchOne(reference_, blob, store, {}, call_.context);
  }

 private:
  const distribution::Reference reference_;
  const std::string name_;
  distribution::Puller& puller_;
  distribution::Resolver& resolver_;
  CallToken token_;
  RegistryCall call_;
};

class LocalOrigin : public BlobOrigin {
 public:
  LocalOrigin(std::string name, content::Descriptor target)
      : name_(std::move(name)), target_(std::move(target)) {}
  const std::string& name() const override { return name_; }
  absl::StatusOr<content::Descriptor> Root(CancelToken*) override { return target_; }
  absl::Status Fetch(const content::Descriptor& blob, content::Store& store,
                     CancelToken*) override {
    return WithContext(store.Stat(blob.digest).status(), name_);
  }

 private:
  const std::string name_;
  const content::Descriptor target_;
};

class StoredBlob : public ByteSource {
 public:
  explicit StoredBlob(content::BlobReader& blob) : blob_(blob) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    GANTRY_ASSIGN_OR_RETURN(const size_t got, blob_.ReadAt(offset_, buffer, n));
    offset_ += static_cast<int64_t>(got);
    return got;
  }

 private:
  content::BlobReader& blob_;
  int64_t offset_ = 0;
};

// The files of an OCI layout, into a tar.
class LayoutTar : public BlobTaker {
 public:
  explicit LayoutTar(ByteSink& out) : tar_(out) {}
  absl::Status Take(const content::Descriptor& blob, ByteSource& bytes,
                    CancelToken* cancel) override {
    TarEntry entry;
    entry.path = absl::StrCat("blobs/", blob.digest.algorithm(), "/", blob.digest.hex());
    entry.mode = 0644;
    entry.size_bytes = blob.size_bytes;
    GANTRY_RETURN_IF_ERROR(tar_.WriteEntry(entry));
    std::string piece(256 << 10, '\0');
    while (true) {
      if (cancel != nullptr) GANTRY_RETURN_IF_ERROR(cancel->Check());
      GANTRY_ASSIGN_OR_RETURN(const size_t got, bytes.Read(piece.data(), piece.size()));
      if (got == 0) return absl::OkStatus();
      GANTRY_RETURN_IF_ERROR(tar_.WriteData(absl::string_view(piece).substr(0, got)));
    }
  }
  absl::Status Document(const std::string& path, absl::string_view text) {
    TarEntry entry;
    entry.path = path;
    entry.mode = 0644;
    return tar_.WriteFile(entry, text);
  }
  absl::Status Finish() { return tar_.Finish(); }

 private:
  TarWriter tar_;
};

}  // namespace

BuildExchange::BuildExchange(ImageBuild::Session& session)
    : session_(session),
      parts_(session.parts_),
      context_(session.context_),
      content_(session.content_) {}

absl::StatusOr<ImageLayer> BuildExchange::ConvertLayer(const ImageLayer& layer,
                                                       const LayerForm& form) {
  return core::ConvertLayer(content_, layer, form, context_.cancel);
}

absl::StatusOr<BuildRoot> BuildExchange::Convert(const BuildRoot& root, size_t first,
                                                 const LayerForm& form) {
  const bool docker = root.manifest.media_type == oci::kDockerManifest;
  BuildRoot made = root;
  for (size_t i = first; i < root.diff_ids.size(); ++i) {
    ImageLayer layer;
    layer.blob = root.manifest.layers[i];
    layer.diff_id = root.diff_ids[i];
    GANTRY_ASSIGN_OR_RETURN(ImageLayer converted, ConvertLayer(layer, form));
    GANTRY_ASSIGN_OR_RETURN(const Compression compression,
                            CompressionOf(converted.blob.media_type));
    converted.blob.media_type = LayerMediaType(compression, docker);
    GANTRY_RETURN_IF_ERROR(session_.Hold("content", converted.blob.digest.str()));
    made.diff_ids[i] = converted.diff_id;
    made.manifest.layers[i] = std::move(converted.blob);
  }
  return made;
}

absl::Status BuildExchange::Unpack(const BuildRoot& root) {
  if (root.diff_ids.empty()) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots("", session_.lease_.scope()));
  CallToken token(context_.cancel);
  distribution::UnpackTarget target;
  target.store = &content_;
  target.snapshotter = &snapshots;
  target.snapshotter_name = snapshots.name();
  target.scope = context_.ns;
  const std::unique_ptr<distribution::UnpackSession> unpack =
      parts_.unpacker->Start(target, *token, nullptr);
  GANTRY_RETURN_IF_ERROR(unpack->Finish({}, root.manifest.layers, root.diff_ids).status());
  return session_.Hold(absl::StrCat("snapshots/", snapshots.name()), root.chain_id());
}

absl::StatusOr<BuildRoot> BuildExchange::Adopt(const BuildRoot& root,
                                               const content::Descriptor& layer,
                                               const content::Digest& diff_id) {
  GANTRY_ASSIGN_OR_RETURN(const Compression compression, CompressionOf(layer.media_type));
  BuildRoot made = root;
  made.diff_ids.push_back(diff_id);
  content::Descriptor blob = layer;
  blob.media_type = LayerMediaType(compression, made.manifest.media_type == oci::kDockerManifest);
  made.manifest.layers.push_back(std::move(blob));
  GANTRY_RETURN_IF_ERROR(session_.Hold("content", layer.digest.str()));
  GANTRY_RETURN_IF_ERROR(Unpack(made));
  return made;
}

absl::StatusOr<std::unique_ptr<BlobOrigin>> BuildExchange::Registry(const std::string& reference,
                                                                    const v1::RegistryAuth& auth,
                                                                    bool insecure) {
  GANTRY_ASSIGN_OR_RETURN(distribution::Reference parsed,
                          distribution::Reference::Parse(reference));
  auto origin =
      std::make_unique<RegistryOrigin>(std::move(parsed), *parts_.puller, *parts_.resolver, auth,
                                       parts_.credentials, context_.cancel);
  GANTRY_RETURN_IF_ERROR(origin->Apply(insecure, parts_.hosts));
  return std::unique_ptr<BlobOrigin>(std::move(origin));
}

absl::StatusOr<std::unique_ptr<BlobOrigin>> BuildExchange::Local(const std::string& reference) {
  GANTRY_ASSIGN_OR_RETURN(const distribution::Reference parsed,
                          distribution::Reference::Parse(reference));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<record::v1::Image> records,
                          parts_.catalog->Find(session_.leased_, parsed.canonical()));
  GANTRY_ASSIGN_OR_RETURN(content::Descriptor target, TargetOf(records.front()));
  return std::unique_ptr<BlobOrigin>(
      std::make_unique<LocalOrigin>(parsed.canonical(), std::move(target)));
}

absl::StatusOr<BuildBase> BuildExchange::BaseFrom(BlobOrigin& origin, const std::string& platform) {
  GANTRY_ASSIGN_OR_RETURN(content::Descriptor target, origin.Root(context_.cancel));
  GANTRY_RETURN_IF_ERROR(origin.Fetch(target, content_, context_.cancel));
  oci::PlatformMatcher matcher = oci::PlatformMatcher::Host();
  if (!platform.empty()) {
    GANTRY_ASSIGN_OR_RETURN(const content::Platform wanted, oci::ParsePlatform(platform));
    matcher = oci::PlatformMatcher::Only(wanted);
  }
  BuildBase base;
  base.id = target.digest;
  constexpr int kMaxDepth = 8;
  for (int depth = 0; oci::IsIndexType(target.media_type); ++depth) {
    GANTRY_ASSIGN_OR_RETURN(const std::string text,
                            content::ReadBlob(content_, target.digest, oci::kMaxManifestBytes));
    GANTRY_ASSIGN_OR_RETURN(const oci::Index index,
                            oci::ParseIndex(text, target.media_type, origin.name()));
    const std::vector<content::Descriptor> fitting = oci::SelectManifests(index.manifests, matcher);
    if (fitting.empty() || depth == kMaxDepth)
      return absl::NotFoundError(
          absl::StrCat(origin.name(), ": there is no image for ", matcher.Describe(), " in it"));
    target = fitting.front();
    GANTRY_RETURN_IF_ERROR(origin.Fetch(target, content_, context_.cancel));
  }
  GANTRY_ASSIGN_OR_RETURN(const std::string text,
                          content::ReadBlob(content_, target.digest, oci::kMaxManifestBytes));
  GANTRY_ASSIGN_OR_RETURN(base.root.manifest,
                          oci::ParseManifest(text, target.media_type, origin.name()));
  base.root.manifest.annotations.clear();
  base.root.manifest.subject.reset();
  base.root.manifest.artifact_type.clear();
  GANTRY_RETURN_IF_ERROR(origin.Fetch(base.root.manifest.config, content_, context_.cancel));
  GANTRY_ASSIGN_OR_RETURN(
      const std::string config,
      content::ReadBlob(content_, base.root.manifest.config.digest, oci::kMaxManifestBytes));
  GANTRY_ASSIGN_OR_RETURN(base.config, oci::ParseImageConfig(config, origin.name()));
  base.root.diff_ids = base.config.diff_ids;
  for (const content::Descriptor& layer : base.root.manifest.layers) {
    GANTRY_RETURN_IF_ERROR(origin.Fetch(layer, content_, context_.cancel));
    GANTRY_RETURN_IF_ERROR(session_.Hold("content", layer.digest.str()));
  }
  GANTRY_RETURN_IF_ERROR(WithContext(Unpack(base.root), origin.name()));
  return base;
}

absl::Status BuildExchange::Give(const content::Descriptor& target, BlobTaker& taker) {
  GANTRY_ASSIGN_OR_RETURN(const std::string text,
                          content::ReadBlob(content_, target.digest, oci::kMaxManifestBytes));
  GANTRY_ASSIGN_OR_RETURN(const oci::Document document,
                          oci::ParseDocument(text, target.media_type, target.digest.str()));
  std::vector<content::Descriptor> blobs = oci::Children(document);
  blobs.push_back(target);
  for (content::Descriptor& blob : blobs) {
    GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<content::BlobReader> reader,
                            content_.Open(blob.digest));
    blob.size_bytes = reader->size_bytes();
    StoredBlob bytes(*reader);
    GANTRY_RETURN_IF_ERROR(taker.Take(blob, bytes, context_.cancel));
  }
  return absl::OkStatus();
}

absl::Status BuildExchange::ExportLayout(const content::Descriptor& target, const std::string& tag,
                                         ByteSink& out) {
  oci::Index index;
  index.media_type = oci::kOciIndex;
  index.manifests.push_back(target);
  index.manifests[0].annotations["org.opencontainers.image.ref.name"] = tag;
  LayoutTar layout(out);
  GANTRY_RETURN_IF_ERROR(layout.Document("oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
  GANTRY_RETURN_IF_ERROR(Give(target, layout));
  // Last, so that a layout which is cut off names nothing.
  GANTRY_RETURN_IF_ERROR(layout.Document("index.json", oci::PrintIndex(index)));
  return layout.Finish();
}

absl::Status BuildExchange::Push(const std::vector<std::string>& names,
                                 const content::Descriptor& target, const v1::RegistryAuth& auth,
                                 bool insecure, const ProgressFn& progress) {
  RegistryAccess access;
  if (insecure) access.default_scheme = "http";
  PushOrder order;
  order.auth = auth;
  for (const std::string& name : names) order.images.emplace_back(name, target);
  return parts_.push->PushAs(session_.leased_, order, progress, access).status();
}

absl::Status BuildExchange::Export(const content::Descriptor& target,
                                   const std::vector<std::string>& names, bool docker_compatible,
                                   ByteSink& out) {
  distribution::ExportImage image;
  image.target = target;
  for (const std::string& name : names) {
    GANTRY_ASSIGN_OR_RETURN(const distribution::Reference reference,
                            distribution::Reference::Parse(name));
    image.names.push_back(reference.canonical());
  }
  distribution::ExportOptions options;
  options.docker_compatible = docker_compatible;
  CallToken token(context_.cancel);
  return distribution::ExportArchive(content_, {image}, options, out, *token, nullptr);
}

}  // namespace gantry::core
