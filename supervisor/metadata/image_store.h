// Image records: a name per namespace that points at a descriptor.
//
// An image carrying containerd.io/gc.expire is attached to the scope's lease. Events are the
// caller's to publish. Thread-safe. Semantics: containerd "images" service.
#ifndef GANTRY_SUPERVISOR_METADATA_IMAGE_STORE_H_
#define GANTRY_SUPERVISOR_METADATA_IMAGE_STORE_H_

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/clock.h"
#include "content-store/digest.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/filter.h"
#include "supervisor/metadata/scope.h"

namespace gantry::metadata {

class ImageStore {
 public:
  using Image = record::v1::Image;

  // Images of a name in `pinned` get the label that says so, through every door.
  ImageStore(Database& db, const Clock& clock, std::set<std::string> pinned = {})
      : db_(db), clock_(clock), pinned_(std::move(pinned)) {}

  // kNotFound: no such image.
  absl::StatusOr<Image> Get(const Scope& scope, absl::string_view name);
  // The same as it is stored: the bytes of a record::v1::Image.
  absl::StatusOr<std::string> GetRaw(const Scope& scope, absl::string_view name);

  // In name order, from one consistent view; a status other than OK from `visit` ends the list and
  // is returned.
  absl::Status List(const Scope& scope, const Filter& filter,
                    const std::function<absl::Status(const Image&)>& visit);

  // The same for images whose record holds `text` somewhere, such as a digest; the others are not
  // parsed, so that looking for few among many costs little. `visit` looks where it is.
  absl::Status ListNaming(const Scope& scope, absl::string_view text,
                          const std::function<absl::Status(const Image&)>& visit);

  // Sets the times (`at`, or now). kAlreadyExists: the name is taken; kInvalidArgument: name,
  // target or labels.
  absl::StatusOr<Image> Create(const Scope& scope, Image image,
                               std::optional<absl::Time> at = std::nullopt,
                               Durability durability = Durability::kSynced);

  // Empty `fields` replaces all but created_at; else "labels", "labels.<k>", "target",
  // "annotations", "annotations.<k>".
  absl::StatusOr<Image> Update(const Scope& scope, const Image& image,
                               const std::vector<std::string>& fields,
                               std::optional<absl::Time> at = std::nullopt,
                               Durability durability = Durability::kSynced);

  // Creates, or points an existing name at image.target and merges image.labels. `created` says
  // which it was.
  absl::StatusOr<Image> Put(const Scope& scope, Image image, bool* created,
                            Durability durability = Durability::kSynced);

  // kNotFound: no such image, or (with `expected_target`) it points elsewhere. Its content goes
  // with the next collection.
  absl::Status Delete(const Scope& scope, absl::string_view name,
                      const std::optional<content::Digest>& expected_target = std::nullopt,
                      Durability durability = Durability::kSynced);

 private:
  void Pin(Image& image) const;

  Database& db_;
  const Clock& clock_;
  const std::set<std::string> pinned_;
};

// Kubernetes' label for images that are not to be collected or pruned, and its value.
inline constexpr char kPinnedLabel[] = "io.cri-containerd.pinned";
inline constexpr char kPinned[] = "pinned";

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_IMAGE_STORE_H_
