#include "supervisor/metadata/record_fields.h"

#include <string>

namespace gantry::metadata {
namespace {

using Path = absl::Span<const std::string>;

// An empty text is an absent field.
std::optional<std::string> Text(const std::string& text) {
  if (text.empty()) return std::nullopt;
  return text;
}

bool IsMap(Path path, absl::string_view name) { return path.size() > 1 && path[0] == name; }
bool Is(Path path, absl::string_view name) { return path.size() == 1 && path[0] == name; }
bool Is(Path path, absl::string_view first, absl::string_view second) {
  return path.size() == 2 && path[0] == first && path[1] == second;
}

const char* KindName(snapshot::Kind kind) {
  switch (kind) {
    case snapshot::Kind::kActive:
      return "active";
    case snapshot::Kind::kView:
      return "view";
    case snapshot::Kind::kCommitted:
      return "committed";
    case snapshot::Kind::kUnknown:
      break;
  }
  return "";
}

}  // namespace

Filter::Fields FieldsOf(const record::v1::Container& container) {
  return [&container](Path path) -> std::optional<std::string> {
    if (Is(path, "id")) return Text(container.id());
    if (Is(path, "runtime", "name")) return Text(container.runtime().name());
    if (Is(path, "image")) return Text(container.image());
    if (IsMap(path, "labels")) return MapField(container.labels(), path.subspan(1));
    return std::nullopt;
  };
}

Filter::Fields FieldsOf(const record::v1::Image& image) {
  return [&image](Path path) -> std::optional<std::string> {
    if (Is(path, "name")) return Text(image.name());
    if (Is(path, "target", "digest")) return Text(image.target().digest());
    if (Is(path, "target", "mediatype")) return Text(image.target().media_type());
    if (IsMap(path, "labels")) return MapField(image.labels(), path.subspan(1));
    if (IsMap(path, "annotations")) return MapField(image.target().annotations(), path.subspan(1));
    return std::nullopt;
  };
}

Filter::Fields FieldsOf(const record::v1::Lease& lease) {
  return [&lease](Path path) -> std::optional<std::string> {
    if (Is(path, "id")) return Text(lease.id());
    if (IsMap(path, "labels")) return MapField(lease.labels(), path.subspan(1));
    return std::nullopt;
  };
}

Filter::Fields FieldsOf(const record::v1::Sandbox& sandbox) {
  return [&sandbox](Path path) -> std::optional<std::string> {
    if (Is(path, "id")) return Text(sandbox.sandbox_id());
    if (IsMap(path, "labels")) return MapField(sandbox.labels(), path.subspan(1));
    return std::nullopt;
  };
}

Filter::Fields FieldsOf(const record::v1::Namespace& ns) {
  return [&ns](Path path) -> std::optional<std::string> {
    if (Is(path, "name")) return Text(ns.name());
    if (IsMap(path, "labels")) return MapField(ns.labels(), path.subspan(1));
    return std::nullopt;
  };
}

Filter::Fields FieldsOf(const content::Info& info) {
  return [&info](Path path) -> std::optional<std::string> {
    if (Is(path, "digest")) return Text(info.digest.str());
    if (IsMap(path, "labels")) return MapField(info.labels, path.subspan(1));
    return std::nullopt;
  };
}

Filter::Fields FieldsOf(const content::IngestStatus& status) {
  return [&status](Path path) -> std::optional<std::string> {
    if (Is(path, "ref")) return Text(status.ref);
    return std::nullopt;
  };
}

Filter::Fields FieldsOf(const snapshot::Info& info) {
  return [&info](Path path) -> std::optional<std::string> {
    if (Is(path, "kind")) return Text(KindName(info.kind));
    if (Is(path, "name")) return Text(info.name);
    if (Is(path, "parent")) return Text(info.parent);
    if (IsMap(path, "labels")) return MapField(info.labels, path.subspan(1));
    return std::nullopt;
  };
}

}  // namespace gantry::metadata
