// Pull, push, tag, import and export for clients that choose names, labels, platforms and
// snapshotters themselves, as those of containerd's transfer service do. Puts the steps in order:
// everything is fetched and unpacked under one lease, names are written last.
//
// Thread-safe. References outlive the object. Watches context.cancel and reports from several
// threads; a failure leaves nothing visible.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_TRANSFER_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_TRANSFER_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/byte_stream.h"
#include "content-store/descriptor.h"
#include "proto/gantry/v1/types.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/image_progress.h"
#include "supervisor/core/image_pull.h"
#include "supervisor/core/image_push.h"
#include "supervisor/core/registry_call.h"
#include "supervisor/core/stores.h"
#include "supervisor/distribution/archive.h"
#include "supervisor/oci/platform.h"

namespace gantry::distribution {
class Unpacker;
}

namespace gantry::core {

class ImageUnpack;

// What an image is unpacked for.
struct UnpackWish {
  std::string snapshotter;     // "": the default one
  content::Platform platform;  // empty: the host's
};

// Called once per name that was written.
using NamedFn = std::function<void(const std::string& name)>;

struct TransferPull {
  std::string reference;
  v1::RegistryAuth auth;
  RegistryAccess access;
  std::vector<content::Platform> platforms;  // none: the host's
  std::vector<UnpackWish> unpacks;           // besides the default snapshotter
  // The names to write for what was found, by its digest; none: the reference in full.
  std::function<std::vector<ImageNaming>(const content::Digest& digest)> names;
};

struct TransferPush {
  std::string image;      // by its exact name
  std::string reference;  // where to
  v1::RegistryAuth auth;
  RegistryAccess access;
  std::vector<content::Platform> platforms;  // one: only that of an index
};

struct TransferImport {
  distribution::ImportOptions options;
  std::vector<UnpackWish> unpacks;
  // The names of one image of the archive; none: it is not wanted.
  std::function<std::vector<ImageNaming>(const distribution::ImportedImage& image)> names;
};

struct TransferExport {
  std::vector<std::string> names;     // exact
  std::vector<std::string> prefixes;  // every image whose name begins so
  distribution::ExportOptions options;
};

class ImageTransfer {
 public:
  struct Parts {
    Stores* stores;
    ImageCatalog* catalog;
    ImagePull* pull;
    ImagePush* push;
    ImageUnpack* unpack;
    distribution::Unpacker* unpacker;
  };
  explicit ImageTransfer(const Parts& parts) : parts_(parts) {}

  absl::Status Pull(const CallContext& context, const TransferPull& order,
                    const ProgressFn& progress, const NamedFn& named);
  // kNotFound: no image of that exact name.
  absl::Status Push(const CallContext& context, const TransferPush& order,
                    const ProgressFn& progress);
  absl::Status Tag(const CallContext& context, const std::string& image, const ImageNaming& naming);
  // kNotFound: no image of the archive is wanted.
  absl::Status Import(const CallContext& context, const TransferImport& order, ByteSource& archive,
                      const ProgressFn& progress, const NamedFn& named);
  // kInvalidArgument: nothing is asked for.
  absl::Status Export(const CallContext& context, const TransferExport& order, ByteSink& out,
                      const ProgressFn& progress);

 private:
  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_TRANSFER_H_
