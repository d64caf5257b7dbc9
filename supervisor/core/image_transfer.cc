#include "supervisor/core/image_transfer.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "supervisor/core/call_token.h"
#include "supervisor/core/image_unpack.h"
#include "supervisor/core/lease_scope.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/runnable_image.h"
#include "supervisor/distribution/unpacker.h"

namespace gantry::core {
namespace {

oci::PlatformMatcher MatcherOf(const content::Platform& platform) {
  return platform.os.empty() && platform.architecture.empty()
             ? oci::PlatformMatcher::Host()
             : oci::PlatformMatcher::Only(oci::NormalizePlatform(platform));
}

std::vector<std::string> TextsOf(const std::vector<content::Platform>& platforms) {
  std::vector<std::string> texts;
  for (const content::Platform& platform : platforms)
    texts.push_back(oci::FormatPlatform(platform));
  return texts;
}

// One snapshotter that the images of an archive are unpacked for.
struct Unpacking {
  std::unique_ptr<metadata::SnapshotNamespace> snapshots;
  oci::PlatformMatcher platform;

  distribution::UnpackTarget Target(metadata::ContentNamespace& content,
                                    const std::string& ns) const {
    distribution::UnpackTarget target;
    target.store = &content;
    target.snapshotter = snapshots.get();
    target.snapshotter_name = snapshots->name();
    target.scope = ns;
    return target;
  }
};

}  // namespace

absl::Status ImageTransfer::Pull(const CallContext& context, const TransferPull& order,
                                 const ProgressFn& progress, const NamedFn& named) {
  GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                          distribution::Reference::Parse(order.reference));
  PullOrder pull;
  pull.reference = order.reference;
  pull.platforms = TextsOf(order.platforms);
  pull.auth = order.auth;
  const auto name = [&](const CallContext& leased,
                        const content::Descriptor& target) -> absl::Status {
    // The pull unpacks for the default snapshotter; the others come after it.
    for (const UnpackWish& wish : order.unpacks) {
      if (wish.snapshotter.empty() || wish.snapshotter == parts_.stores->default_snapshotter)
        continue;
      GANTRY_ASSIGN_OR_RETURN(
          const ResolvedImage image,
          parts_.catalog->ResolveTarget(leased, target, MatcherOf(wish.platform)));
      GANTRY_RETURN_IF_ERROR(
          parts_.unpack->EnsureUnpacked(leased, image, wish.snapshotter).status());
    }
    std::vector<ImageNaming> names = order.names(target.digest);
    if (names.empty()) names.push_back({reference.canonical(), {}});
    for (const ImageNaming& naming : names) {
      GANTRY_RETURN_IF_ERROR(parts_.catalog->Put(leased, naming, target));
      named(naming.name);
    }
    return absl::OkStatus();
  };
  return parts_.pull->PullAs(context, pull, progress, order.access, name).status();
}

absl::Status ImageTransfer::Push(const CallContext& context, const TransferPush& order,
                                 const ProgressFn& progress) {
  GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                          distribution::Reference::Parse(order.reference));
  GANTRY_ASSIGN_OR_RETURN(record::v1::Image image,
                          parts_.stores->images.Get({context.ns, ""}, order.image));
  GANTRY_ASSIGN_OR_RETURN(const content::Descriptor target, TargetOf(image));
  PushOrder push;
  push.images = {{reference.canonical(), target}};
  if (order.platforms.size() == 1) push.platform = oci::FormatPlatform(order.platforms[0]);
  push.auth = order.auth;
  return parts_.push->PushAs(context, push, progress, order.access).status();
}

absl::Status ImageTransfer::Tag(const CallContext& context, const std::string& image,
                                const ImageNaming& naming) {
  GANTRY_ASSIGN_OR_RETURN(record::v1::Image record,
                          parts_.stores->images.Get({context.ns, ""}, image));
  GANTRY_ASSIGN_OR_RETURN(const content::Descriptor target, TargetOf(record));
  GANTRY_RETURN_IF_ERROR(parts_.catalog->Put(context, naming, target));
  parts_.catalog->Announce(context, "tag", target, target.digest.str(), naming.name);
  return absl::OkStatus();
}

absl::Status ImageTransfer::Import(const CallContext& context, const TransferImport& order,
                                   ByteSource& archive, const ProgressFn& progress,
                                   const NamedFn& named) {
  Stores& stores = *parts_.stores;
  CallToken token(context.cancel);
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope lease, LeaseScope::Create(stores.leases, stores.clock, context.ns, context.lease));
  metadata::ContentNamespace content = stores.Content(lease.scope());
  CallContext leased = context;
  leased.lease = lease.scope().lease;

  // The layers are unpacked for the first snapshotter that is asked for while they arrive.
  std::vector<Unpacking> unpackings;
  for (const UnpackWish& wish : order.unpacks) {
    GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                            stores.Snapshots(wish.snapshotter, lease.scope()));
    unpackings.push_back({std::make_unique<metadata::SnapshotNamespace>(std::move(snapshots)),
                          MatcherOf(wish.platform)});
  }
  std::unique_ptr<distribution::UnpackSession> session;
  if (!unpackings.empty()) {
    session = parts_.unpacker->Start(unpackings[0].Target(content, context.ns), *token,
                                     UnpackProgressTo(progress));
  }
  GANTRY_ASSIGN_OR_RETURN(
      std::vector<distribution::ImportedImage> imported,
      distribution::ImportArchive(archive, content, session.get(), order.options, *token,
                                  ArchiveProgress(progress, v1::Progress::READING)));
  std::set<content::Digest> unpacked;
  for (const distribution::ImportedImage& image : imported) {
    if (!unpacked.insert(image.target.digest).second) continue;
    for (size_t i = 0; i < unpackings.size(); ++i) {
      absl::StatusOr<distribution::RunnableImage> runnable =
          distribution::FindRunnable(content, image.target, unpackings[i].platform, token.get());
      if (absl::IsNotFound(runnable.status())) continue;  // for other machines only
      GANTRY_RETURN_IF_ERROR(runnable.status());
      if (i == 0) {
        GANTRY_RETURN_IF_ERROR(
            session->Finish(runnable->config.digest, runnable->layers, runnable->diff_ids)
                .status());
      } else {
        GANTRY_RETURN_IF_ERROR(parts_.unpacker
                                   ->UnpackImage(unpackings[i].Target(content, context.ns),
                                                 runnable->manifest, *token,
                                                 UnpackProgressTo(progress))
                                   .status());
      }
    }
  }
  int saved = 0;
  for (const distribution::ImportedImage& image : imported) {
    for (const ImageNaming& naming : order.names(image)) {
      GANTRY_RETURN_IF_ERROR(parts_.catalog->Put(leased, naming, image.target));
      parts_.catalog->Announce(context, "load", image.target, image.target.digest.str(),
                               naming.name);
      named(naming.name);
      ++saved;
    }
  }
  if (saved == 0)
    return absl::NotFoundError(
        "import: the archive holds no image of the names asked for: not found");
  return absl::OkStatus();
}

absl::Status ImageTransfer::Export(const CallContext& context, const TransferExport& order,
                                   ByteSink& out, const ProgressFn& progress) {
  if (order.names.empty() && order.prefixes.empty())
    return absl::InvalidArgumentError("export: no image is named");
  Stores& stores = *parts_.stores;
  CallToken token(context.cancel);
  const metadata::Scope scope{context.ns, ""};
  std::vector<distribution::ExportImage> images;
  const auto add = [&](const record::v1::Image& record) -> absl::Status {
    GANTRY_ASSIGN_OR_RETURN(content::Descriptor target, TargetOf(record));
    auto known =
        std::find_if(images.begin(), images.end(), [&](const distribution::ExportImage& image) {
          return image.target.digest == target.digest;
        });
    if (known == images.end()) known = images.insert(known, {std::move(target), {}});
    std::vector<std::string>& names = known->names;
    if (std::find(names.begin(), names.end(), record.name()) == names.end())
      names.push_back(record.name());
    return absl::OkStatus();
  };
  for (const std::string& prefix : order.prefixes) {
    GANTRY_RETURN_IF_ERROR(
        stores.images.List(scope, metadata::Filter(), [&](const record::v1::Image& record) {
          return absl::StartsWith(record.name(), prefix) ? add(record) : absl::OkStatus();
        }));
  }
  for (const std::string& name : order.names) {
    GANTRY_ASSIGN_OR_RETURN(record::v1::Image record, stores.images.Get(scope, name));
    GANTRY_RETURN_IF_ERROR(add(record));
  }
  // What is being written stays until it is.
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope lease, LeaseScope::Create(stores.leases, stores.clock, context.ns, context.lease));
  for (const distribution::ExportImage& image : images) {
    GANTRY_RETURN_IF_ERROR(stores.leases.AddResource(
        scope, lease.scope().lease,
        {.type = std::string(metadata::kContentResource), .id = image.target.digest.str()},
        metadata::Durability::kBuffered));
  }
  metadata::ContentNamespace content = stores.Content({context.ns, context.lease});
  return distribution::ExportArchive(content, images, order.options, out, *token,
                                     ArchiveProgress(progress, v1::Progress::WRITING));
}

}  // namespace gantry::core
