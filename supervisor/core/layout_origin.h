// An OCI layout in a directory, as a place that blobs come from.
//
// The directory is hostile: paths are resolved with it as the root, only regular files are read,
// and every blob is verified. It may be incomplete. Thread-safe; reads files when they are asked
// for. Spec: OCI image-spec v1.1 "Image Layout".
#ifndef GANTRY_SUPERVISOR_CORE_LAYOUT_ORIGIN_H_
#define GANTRY_SUPERVISOR_CORE_LAYOUT_ORIGIN_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/byte_stream.h"
#include "supervisor/core/blob_origin.h"

namespace gantry::core {

// What `tag` stands for in a layout's index; "" is the only entry, else the one tagged latest.
// kNotFound: there is none; the tags that there are get named.
absl::StatusOr<content::Descriptor> FindInLayoutIndex(absl::string_view index,
                                                      const std::string& tag,
                                                      const std::string& name);

class LayoutOrigin : public StreamOrigin {
 public:
  // `directory` is an open directory that outlives this. The root is what has `digest`, else `tag`.
  LayoutOrigin(int directory, std::string name, std::string tag, std::string digest)
      : directory_(directory),
        name_(std::move(name)),
        tag_(std::move(tag)),
        digest_(std::move(digest)) {}

  const std::string& name() const override { return name_; }
  absl::StatusOr<content::Descriptor> Root(CancelToken* cancel) override;

 protected:
  absl::StatusOr<std::unique_ptr<ByteSource>> Open(const content::Descriptor& blob,
                                                   CancelToken* cancel) override;

 private:
  const int directory_;
  const std::string name_;
  const std::string tag_;
  const std::string digest_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_LAYOUT_ORIGIN_H_
