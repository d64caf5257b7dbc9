#include "supervisor/core/volume_content.h"

#include <errno.h>
#include <fcntl.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "base/compression.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/tar/tree_extractor.h"
#include "base/tar/tree_writer.h"
#include "base/tar/writer.h"
#include "base/unique_fd.h"
#include "supervisor/core/run_volumes.h"
#include "supervisor/core/volume_holds.h"
#include "supervisor/core/volume_service.h"
#include "supervisor/volume/fill.h"
#include "supervisor/volume/local_driver.h"

namespace gantry::core {
namespace {

// Keeps a volume that has options mounted while it lives.
class MountedVolume {
 public:
  MountedVolume(RunVolumes& runs, const CallContext& context, const std::string& name)
      : runs_(runs),
        context_(context),
        name_(name),
        user_(absl::StrCat("content of ", next_.fetch_add(1))),
        at_(runs.Mount(context, name, user_)) {}
  ~MountedVolume() {
    if (at_.ok()) runs_.Unmount(context_, name_, user_);
  }
  MountedVolume(const MountedVolume&) = delete;
  MountedVolume& operator=(const MountedVolume&) = delete;

  const absl::Status& status() const { return at_.status(); }
  // Where its data is.
  const std::string& at() const { return *at_; }

 private:
  static inline std::atomic<uint64_t> next_ = 0;
  RunVolumes& runs_;
  const CallContext& context_;
  const std::string& name_;
  const std::string user_;
  const absl::StatusOr<std::string> at_;
};

absl::StatusOr<UniqueFd> OpenData(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", path));
  return fd;
}

}  // namespace

absl::Status VolumeContent::Export(const CallContext& context, const std::string& name,
                                   ByteSink& out) {
  GANTRY_ASSIGN_OR_RETURN(const VolumeHolds::Held held,
                          parts_.volumes->holds().HoldExisting(context, name));
  const MountedVolume mounted(*parts_.runs, context, name);
  GANTRY_RETURN_IF_ERROR(mounted.status());
  GANTRY_ASSIGN_OR_RETURN(UniqueFd data, OpenData(mounted.at()));
  TarWriter tar(out);
  TreeWriter tree(tar, {.cancel = context.cancel, .one_file_system = true});
  GANTRY_RETURN_IF_ERROR(tree.AddChildren(std::move(data), ""));
  return tar.Finish();
}

absl::Status VolumeContent::Import(const CallContext& context, const std::string& name,
                                   ByteSource& archive) {
  GANTRY_ASSIGN_OR_RETURN(const VolumeHolds::Held held,
                          parts_.volumes->holds().HoldExisting(context, name));
  const MountedVolume mounted(*parts_.runs, context, name);
  GANTRY_RETURN_IF_ERROR(mounted.status());
  GANTRY_ASSIGN_OR_RETURN(const OperationLock turn, parts_.runs->TakeTurn(context, name));
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Decompressor> tar, OpenDecompressor(archive));
  const auto unpack = [&](const std::string& into) -> absl::Status {
    GANTRY_ASSIGN_OR_RETURN(const UniqueFd directory, OpenData(into));
    ExtractOptions options;
    options.owner = ExtractOptions::Owner::kArchive;
    options.cancel = context.cancel;
    return ExtractTree(*tar, directory.get(), options).status();
  };
  // One file system, and nobody else's copy under way.
  const volume::VolumeKey key = {context.ns, name};
  if (!held.data_directory.empty() && !parts_.local->IsMounted(key)) {
    GANTRY_ASSIGN_OR_RETURN(
        const bool was_empty,
        volume::FillVolumeWith(parts_.local->Directory(key), unpack, /*sync=*/true));
    if (was_empty) return absl::OkStatus();
  }
  return unpack(mounted.at());
}

absl::StatusOr<v1::CloneVolumeResponse> VolumeContent::Clone(
    const CallContext& context, const v1::CloneVolumeRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(const VolumeHolds::Held held,
                          parts_.volumes->holds().HoldExisting(context, request.source()));
  const MountedVolume mounted(*parts_.runs, context, request.source());
  GANTRY_RETURN_IF_ERROR(mounted.status());
  v1::CreateVolumeRequest made;
  made.set_name(request.name());
  *made.mutable_labels() = request.labels();
  if (request.snapshot()) {
    (*made.mutable_labels())[kSnapshotOfLabel] = request.source();
    if (made.name().empty()) {
      made.set_name(
          absl::StrCat(request.source(), "-",
                       absl::FormatTime("%Y%m%dT%H%M%E3SZ", absl::Now(), absl::UTCTimeZone())));
    }
  }
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd source, OpenData(mounted.at()));
  GANTRY_ASSIGN_OR_RETURN(
      v1::CreateVolumeResponse created,
      parts_.volumes->CreateFilled(context, made, [&](const std::string& directory) {
        return volume::FillVolume(directory, source.get(), /*sync=*/true).status();
      }));
  v1::CloneVolumeResponse response;
  *response.mutable_volume() = std::move(*created.mutable_volume());
  return response;
}

}  // namespace gantry::core
