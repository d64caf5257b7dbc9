#include "supervisor/metadata/image_store.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "supervisor/metadata/lease_store.h"
#include "supervisor/metadata/record_fields.h"
#include "supervisor/metadata/record_store.h"
#include "supervisor/metadata/record_values.h"
#include "supervisor/metadata/validate.h"

namespace gantry::metadata {
namespace {

const RecordStore images(kImages);

constexpr char kExpireLabel[] = "containerd.io/gc.expire";

absl::Status NotFound(absl::string_view name) {
  return absl::NotFoundError(absl::StrCat("image \"", name, "\": not found"));
}

absl::Status Validate(const record::v1::Image& image) {
  GANTRY_RETURN_IF_ERROR(ValidateName("image name", image.name()));
  GANTRY_RETURN_IF_ERROR(ValidateLabels(LabelsOf(image.labels())));
  const record::v1::Descriptor& target = image.target();
  const std::string what = absl::StrCat("image \"", image.name(), "\": target ");
  if (auto digest = content::Digest::Parse(target.digest()); !digest.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(what, digest.status().message()));
  }
  if (target.size() <= 0)
    return absl::InvalidArgumentError(absl::StrCat(what, "size must be greater than zero"));
  if (target.media_type().empty())
    return absl::InvalidArgumentError(absl::StrCat(what, "media type must not be empty"));
  return absl::OkStatus();
}

void DropEmptyLabels(record::v1::Image& image) {
  SetLabels(PresentLabels(LabelsOf(image.labels())), image.mutable_labels());
}

absl::Status Store(Transaction& tx, const Scope& scope, const record::v1::Image& image) {
  GANTRY_RETURN_IF_ERROR(Validate(image));
  // Without an expiry an image is a root of its own and needs no lease.
  if (image.labels().contains(kExpireLabel)) {
    GANTRY_RETURN_IF_ERROR(
        LeaseStore::Attach(tx, scope, {.type = std::string(kImageResource), .id = image.name()}));
  }
  return images.Put(tx, MakeKey(scope.ns, image.name()), image);
}

absl::Status Apply(const record::v1::Image& update, absl::string_view field,
                   record::v1::Image& image) {
  ProtoLabels& annotations = *image.mutable_target()->mutable_annotations();
  const std::string what = absl::StrCat("image \"", image.name(), "\"");
  if (field == "target") {
    *image.mutable_target() = update.target();
  } else if (field == "annotations") {
    annotations = update.target().annotations();
  } else if (absl::string_view key = field;
             absl::ConsumePrefix(&key, "annotations.") && !key.empty()) {
    auto it = update.target().annotations().find(std::string(key));
    if (it == update.target().annotations().end() || it->second.empty()) {
      annotations.erase(std::string(key));
    } else {
      annotations[std::string(key)] = it->second;
    }
  } else {
    LabelMap labels = LabelsOf(image.labels());
    GANTRY_RETURN_IF_ERROR(
        ApplyLabelUpdate(what, LabelsOf(update.labels()), {std::string(field)}, labels));
    SetLabels(labels, image.mutable_labels());
  }
  return absl::OkStatus();
}

}  // namespace

void ImageStore::Pin(Image& image) const {
  if (pinned_.contains(image.name())) (*image.mutable_labels())[kPinnedLabel] = kPinned;
}

absl::StatusOr<record::v1::Image> ImageStore::Get(const Scope& scope, absl::string_view name) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateName("image name", name));
  GANTRY_ASSIGN_OR_RETURN(auto image, images.Get(db_, MakeKey(scope.ns, name)));
  if (!image.has_value()) return NotFound(name);
  return *std::move(image);
}

absl::StatusOr<std::string> ImageStore::GetRaw(const Scope& scope, absl::string_view name) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateName("image name", name));
  GANTRY_ASSIGN_OR_RETURN(auto bytes, db_.Get(Family::kImages, MakeKey(scope.ns, name)));
  if (!bytes.has_value()) return NotFound(name);
  return *std::move(bytes);
}

absl::Status ImageStore::List(const Scope& scope, const Filter& filter,
                              const std::function<absl::Status(const Image&)>& visit) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  ReadView view(db_);
  return images.List(view, MakePrefix(scope.ns), [&](absl::string_view, const Image& image) {
    return filter.Matches(FieldsOf(image)) ? visit(image) : absl::OkStatus();
  });
}

absl::Status ImageStore::ListNaming(const Scope& scope, absl::string_view text,
                                    const std::function<absl::Status(const Image&)>& visit) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  ReadView view(db_);
  return view.Scan(
      Family::kImages, MakePrefix(scope.ns),
      [&](absl::string_view key, absl::string_view value) -> absl::Status {
        if (!absl::StrContains(value, text)) return absl::OkStatus();
        Image image;
        if (!image.ParseFromArray(value.data(), static_cast<int>(value.size())))
          return absl::DataLossError(absl::StrCat("image record ", key, ": does not parse"));
        return visit(image);
      });
}

absl::StatusOr<record::v1::Image> ImageStore::Create(const Scope& scope, Image image,
                                                     std::optional<absl::Time> at,
                                                     Durability durability) {
  DropEmptyLabels(image);
  Pin(image);
  GANTRY_RETURN_IF_ERROR(Validate(image));
  *image.mutable_created_at() = StampOf(at.value_or(clock_.Now()));
  *image.mutable_updated_at() = image.created_at();
  GANTRY_RETURN_IF_ERROR(db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope));
        GANTRY_ASSIGN_OR_RETURN(auto present,
                                images.GetForUpdate(tx, MakeKey(scope.ns, image.name())));
        if (present.has_value()) {
          return absl::AlreadyExistsError(
              absl::StrCat("image \"", image.name(), "\": already exists"));
        }
        return Store(tx, scope, image);
      },
      durability));
  return image;
}

absl::StatusOr<record::v1::Image> ImageStore::Update(const Scope& scope, const Image& image,
                                                     const std::vector<std::string>& fields,
                                                     std::optional<absl::Time> at,
                                                     Durability durability) {
  GANTRY_RETURN_IF_ERROR(ValidateName("image name", image.name()));
  Image result;
  GANTRY_RETURN_IF_ERROR(db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope));
        GANTRY_ASSIGN_OR_RETURN(auto present,
                                images.GetForUpdate(tx, MakeKey(scope.ns, image.name())));
        if (!present.has_value()) return NotFound(image.name());
        result = fields.empty() ? image : *present;
        for (const std::string& field : fields) GANTRY_RETURN_IF_ERROR(Apply(image, field, result));
        DropEmptyLabels(result);
        *result.mutable_created_at() = present->created_at();
        *result.mutable_updated_at() = StampOf(at.value_or(clock_.Now()));
        if (present->target().digest() != result.target().digest()) tx.NoteDeletion();
        return Store(tx, scope, result);
      },
      durability));
  return result;
}

absl::StatusOr<record::v1::Image> ImageStore::Put(const Scope& scope, Image image, bool* created,
                                                  Durability durability) {
  Pin(image);
  GANTRY_RETURN_IF_ERROR(Validate(image));
  Image result;
  GANTRY_RETURN_IF_ERROR(db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope));
        GANTRY_ASSIGN_OR_RETURN(auto present,
                                images.GetForUpdate(tx, MakeKey(scope.ns, image.name())));
        *created = !present.has_value();
        result = image;
        *result.mutable_updated_at() = StampOf(clock_.Now());
        if (present.has_value()) {
          *result.mutable_created_at() = present->created_at();
          *result.mutable_labels() = present->labels();
          for (const auto& [key, value] : image.labels()) (*result.mutable_labels())[key] = value;
          if (present->target().digest() != result.target().digest()) tx.NoteDeletion();
        } else {
          *result.mutable_created_at() = result.updated_at();
        }
        DropEmptyLabels(result);
        return Store(tx, scope, result);
      },
      durability));
  return result;
}

absl::Status ImageStore::Delete(const Scope& scope, absl::string_view name,
                                const std::optional<content::Digest>& expected_target,
                                Durability durability) {
  GANTRY_RETURN_IF_ERROR(ValidateName("image name", name));
  return db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope));
        const std::string key = MakeKey(scope.ns, name);
        GANTRY_ASSIGN_OR_RETURN(auto image, images.GetForUpdate(tx, key));
        if (!image.has_value()) return NotFound(name);
        if (expected_target.has_value() && image->target().digest() != expected_target->str()) {
          return absl::NotFoundError(absl::StrCat("image \"", name, "\" points at ",
                                                  image->target().digest(), ", not at ",
                                                  expected_target->str(), ": not found"));
        }
        GANTRY_RETURN_IF_ERROR(LeaseStore::Detach(
            tx, scope, {.type = std::string(kImageResource), .id = std::string(name)}));
        tx.NoteDeletion();
        return images.Delete(tx, key);
      },
      durability);
}

}  // namespace gantry::metadata
