#include "supervisor/core/image_archive.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/clock.h"
#include "base/compression.h"
#include "base/processor_time.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/call_token.h"
#include "supervisor/core/image_assembly.h"
#include "supervisor/core/lease_scope.h"
#include "supervisor/core/refetch.h"
#include "supervisor/core/registry_call.h"
#include "supervisor/distribution/archive.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/runnable_image.h"
#include "supervisor/distribution/unpacker.h"
#include "supervisor/oci/config_change.h"

namespace gantry::core {
namespace {

constexpr size_t kPiece = 1 << 20;

absl::StatusOr<oci::PlatformMatcher> Matcher(
    const google::protobuf::RepeatedPtrField<std::string>& platforms,
    const oci::PlatformMatcher& otherwise) {
  if (platforms.empty()) return otherwise;
  std::vector<content::Platform> parsed;
  for (const std::string& text : platforms) {
    GANTRY_ASSIGN_OR_RETURN(content::Platform platform, oci::ParsePlatform(text));
    parsed.push_back(platform);
  }
  return oci::PlatformMatcher::AnyOf(parsed);
}

// The name to store for one that an archive gives, which may be a bare tag ("v1") or empty.
// `otherwise` is what the request has for images without a name: a reference, or a repository that
// a bare tag belongs to. "": the image gets no name.
absl::StatusOr<std::string> NameInFull(const std::string& given, const std::string& otherwise) {
  const bool bare_tag = !given.empty() && !absl::StrContains(given, '/') &&
                        !absl::StrContains(given, ':') && !absl::StrContains(given, '@');
  if ((given.empty() || bare_tag) && !otherwise.empty()) {
    GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                            distribution::Reference::ParseName(otherwise));
    if (bare_tag && reference.tag().empty()) {
      GANTRY_ASSIGN_OR_RETURN(reference, reference.WithTag(given));
      return reference.canonical();
    }
    GANTRY_ASSIGN_OR_RETURN(reference, distribution::Reference::Parse(otherwise));
    return reference.canonical();
  }
  // A tag with nothing before it is stored as people will write it. One that cannot be written
  // ("V1") is left out; there is the id.
  absl::StatusOr<distribution::Reference> reference = distribution::Reference::Parse(given);
  return reference.ok() ? reference->canonical() : std::string();
}

}  // namespace

absl::StatusOr<std::vector<v1::LoadedImage>> ImageArchive::Load(
    const CallContext& context, const v1::LoadRequest::Open& request, ByteSource& archive,
    const ProgressFn& progress) {
  Stores& stores = *parts_.stores;
  CallToken token(context.cancel);
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope lease, LeaseScope::Create(stores.leases, stores.clock, context.ns, context.lease));
  metadata::ContentNamespace content = stores.Content(lease.scope());
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          stores.Snapshots("", lease.scope()));
  distribution::UnpackTarget target;
  target.store = &content;
  target.snapshotter = &snapshots;
  target.snapshotter_name = snapshots.name();
  target.scope = context.ns;
  std::unique_ptr<distribution::UnpackSession> session;
  if (!request.no_unpack())
    session = parts_.unpacker->Start(target, *token, UnpackProgressTo(progress));

  distribution::ImportOptions options;
  GANTRY_ASSIGN_OR_RETURN(options.platforms,
                          Matcher(request.platforms(), oci::PlatformMatcher::All()));
  options.sync_blobs = parts_.sync_blobs == nullptr;
  const absl::Duration begun = Clock::Real().Monotonic();
  const absl::Duration busy_before = ThreadProcessorTime();
  GANTRY_ASSIGN_OR_RETURN(
      std::vector<distribution::ImportedImage> imported,
      distribution::ImportArchive(archive, content, session.get(), options, *token,
                                  ArchiveProgress(progress, v1::Progress::READING)));
  const absl::Duration receiving = ThreadProcessorTime() - busy_before;
  if (parts_.sync_blobs) GANTRY_RETURN_IF_ERROR(parts_.sync_blobs());
  const absl::Duration read_at = Clock::Real().Monotonic();
  distribution::UnpackResult all;
  std::vector<v1::LoadedImage> answers;
  std::set<content::Digest> unpacked;
  CallContext leased = context;
  leased.lease = lease.scope().lease;
  for (const distribution::ImportedImage& image : imported) {
    GANTRY_RETURN_IF_ERROR((*token).Check());
    if (session != nullptr && unpacked.insert(image.target.digest).second) {
      absl::StatusOr<distribution::RunnableImage> runnable = distribution::FindRunnable(
          content, image.target, oci::PlatformMatcher::Host(), token.get());
      // An image for other machines only is taken in all the same; it cannot be run here.
      if (runnable.ok()) {
        GANTRY_ASSIGN_OR_RETURN(
            distribution::UnpackResult one,
            session->Finish(runnable->config.digest, runnable->layers, runnable->diff_ids));
        all.layers_unpacked += one.layers_unpacked;
        all.cost += one.cost;
        all.syncing += one.syncing;
      } else if (!absl::IsNotFound(runnable.status())) {
        return runnable.status();
      }
    }
    GANTRY_ASSIGN_OR_RETURN(const std::string name, NameInFull(image.name, request.name()));
    GANTRY_RETURN_IF_ERROR(parts_.catalog->Name(
        leased, name.empty() ? ImageCatalog::DanglingName(image.target.digest) : name,
        image.target));
    v1::LoadedImage& answer = answers.emplace_back();
    if (!name.empty()) {
      absl::StatusOr<distribution::Reference> reference = distribution::Reference::Parse(name);
      answer.set_reference(reference.ok() ? reference->familiar() : name);
    }
    answer.set_image_id(image.target.digest.str());
    parts_.catalog->Announce(context, "load", image.target, answer.image_id(),
                             answer.reference().empty() ? answer.image_id() : answer.reference());
  }
  if (all.layers_unpacked > 0) {
    LOG(INFO) << "ns=" << context.ns << " loaded " << answers.size() << " images, "
              << all.layers_unpacked << " layers; stages: read=" << Seconds(read_at - begun)
              << " unpack_rest=" << Seconds(Clock::Real().Monotonic() - read_at - all.syncing)
              << " sync=" << Seconds(all.syncing) << "; " << CostOf(receiving, all.cost);
  }
  return answers;
}

absl::StatusOr<v1::LoadedImage> ImageArchive::Import(const CallContext& context,
                                                     const v1::ImportRequest::Open& request,
                                                     ByteSource& tar, const ProgressFn& progress) {
  Stores& stores = *parts_.stores;
  CallToken token(context.cancel);
  std::string name;
  if (!request.reference().empty()) {
    GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                            distribution::Reference::Parse(request.reference()));
    name = reference.canonical();
  }
  oci::ImageConfig config;
  config.platform = oci::HostPlatform();
  config.platform.variant.clear();
  if (!request.platform().empty()) {
    GANTRY_ASSIGN_OR_RETURN(config.platform, oci::ParsePlatform(request.platform()));
  }
  for (const std::string& change : request.changes()) {
    GANTRY_RETURN_IF_ERROR(oci::ApplyChange(change, config));
  }
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope lease, LeaseScope::Create(stores.leases, stores.clock, context.ns, context.lease));
  metadata::ContentNamespace content = stores.Content(lease.scope());

  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<Decompressor> plain, OpenDecompressor(tar));
  std::vector<char> piece(kPiece);
  int64_t total = 0;
  GANTRY_ASSIGN_OR_RETURN(
      const ImageLayer layer,
      parts_.assembly->LayerFrom(content, "import", [&](ByteSink& out) -> absl::Status {
        while (true) {
          GANTRY_RETURN_IF_ERROR((*token).Check());
          GANTRY_ASSIGN_OR_RETURN(size_t n, plain->Read(piece.data(), piece.size()));
          if (n == 0) return absl::OkStatus();
          GANTRY_RETURN_IF_ERROR(out.Write(absl::string_view(piece.data(), n)));
          total += static_cast<int64_t>(n);
          if (progress) {
            v1::Progress step;
            step.set_id("import");
            step.set_state(v1::Progress::READING);
            step.set_current_bytes(total);
            step.set_total_bytes(request.total_bytes());
            progress(step);
          }
        }
      }));
  oci::Manifest manifest;
  manifest.media_type = oci::kOciManifest;
  oci::History history;
  history.comment = request.comment().empty() ? "Imported from a tar" : request.comment();
  ImageAssembly::Stack(layer, std::move(history), stores.clock.Now(), config, manifest);
  GANTRY_ASSIGN_OR_RETURN(const content::Descriptor target,
                          parts_.assembly->WriteImage(content, config, std::move(manifest)));
  CallContext leased = context;
  leased.lease = lease.scope().lease;
  // Unpacked before it is named: an invalid or hostile tar never becomes an image.
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          stores.Snapshots("", lease.scope()));
  distribution::UnpackTarget unpack;
  unpack.store = &content;
  unpack.snapshotter = &snapshots;
  unpack.snapshotter_name = snapshots.name();
  unpack.scope = context.ns;
  GANTRY_RETURN_IF_ERROR(
      parts_.unpacker->UnpackImage(unpack, target, *token, UnpackProgressTo(progress)).status());
  GANTRY_RETURN_IF_ERROR(parts_.catalog->Name(
      leased, name.empty() ? ImageCatalog::DanglingName(target.digest) : name, target));
  v1::LoadedImage answer;
  answer.set_reference(request.reference());
  answer.set_image_id(target.digest.str());
  parts_.catalog->Announce(context, "import", target, answer.image_id(),
                           name.empty() ? answer.image_id() : request.reference());
  return answer;
}

absl::Status ImageArchive::Save(const CallContext& context, const v1::SaveRequest& request,
                                ByteSink& out, const ProgressFn& progress) {
  if (request.images().empty()) return absl::InvalidArgumentError("save: no image given");
  CallToken token(context.cancel);
  std::map<content::Digest, size_t> where;
  std::vector<distribution::ExportImage> images;
  for (const std::string& text : request.images()) {
    GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records,
                            parts_.catalog->Find(context, text));
    for (const record::v1::Image& record : records) {
      content::Descriptor target;
      target.media_type = record.target().media_type();
      target.size_bytes = record.target().size();
      GANTRY_ASSIGN_OR_RETURN(target.digest, content::Digest::Parse(record.target().digest()));
      auto [it, fresh] = where.emplace(target.digest, images.size());
      if (fresh) images.push_back({target, {}});
      std::vector<std::string>& names = images[it->second].names;
      const bool nameless = absl::StartsWith(record.name(), "<none>");
      if (!nameless && std::find(names.begin(), names.end(), record.name()) == names.end())
        names.push_back(record.name());
    }
  }
  distribution::ExportOptions options;
  GANTRY_ASSIGN_OR_RETURN(options.platforms,
                          Matcher(request.platforms(), oci::PlatformMatcher::All()));
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope lease,
      LeaseScope::Create(parts_.stores->leases, parts_.stores->clock, context.ns, context.lease));
  metadata::ContentNamespace content = parts_.stores->Content(lease.scope());
  Refetch refetched(*parts_.puller, content, parts_.discard_blobs);
  for (const distribution::ExportImage& image : images) {
    GANTRY_RETURN_IF_ERROR(refetched.FetchBelow(
        image.target, [&](const std::string&) { return DaemonsCall(parts_.credentials, *token); },
        token.get()));
  }
  GANTRY_RETURN_IF_ERROR(distribution::ExportArchive(
      content, images, options, out, *token, ArchiveProgress(progress, v1::Progress::WRITING)));
  for (const distribution::ExportImage& image : images) {
    const std::string id = image.target.digest.str();
    parts_.catalog->Announce(context, "save", image.target, id, id);
  }
  return absl::OkStatus();
}

}  // namespace gantry::core
