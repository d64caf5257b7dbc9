// Image manifests and indexes, of OCI and docker alike: bytes <-> structs.
//
// Values and free functions, safe to call from any thread. Stored bytes are never re-printed: a
// parsed document is for reading, Print is for documents we make ourselves.
// Spec: OCI image-spec v1.1 "Image Manifest", "Image Index"; docker image manifest version 2,
// schema 2.
#ifndef GANTRY_SUPERVISOR_OCI_MANIFEST_H_
#define GANTRY_SUPERVISOR_OCI_MANIFEST_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include <nlohmann/json_fwd.hpp>

#include "content-store/descriptor.h"

namespace gantry::oci {

inline constexpr int64_t kMaxManifestBytes = 4393216;
inline constexpr size_t kMaxLayers = 500;  // what overlayfs can stack
inline constexpr size_t kMaxIndexEntries = 4096;

inline constexpr char kOciIndex[] = "application/vnd.oci.image.index.v1+json";
inline constexpr char kOciManifest[] = "application/vnd.oci.image.manifest.v1+json";
inline constexpr char kOciConfig[] = "application/vnd.oci.image.config.v1+json";
inline constexpr char kOciLayer[] = "application/vnd.oci.image.layer.v1.tar";
inline constexpr char kOciLayerGzip[] = "application/vnd.oci.image.layer.v1.tar+gzip";
inline constexpr char kOciLayerZstd[] = "application/vnd.oci.image.layer.v1.tar+zstd";
inline constexpr char kDockerIndex[] = "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr char kDockerManifest[] = "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr char kDockerConfig[] = "application/vnd.docker.container.image.v1+json";
inline constexpr char kDockerLayer[] = "application/vnd.docker.image.rootfs.diff.tar";
inline constexpr char kDockerLayerGzip[] = "application/vnd.docker.image.rootfs.diff.tar.gzip";
inline constexpr char kDockerLayerZstd[] = "application/vnd.docker.image.rootfs.diff.tar.zstd";

bool IsIndexType(absl::string_view media_type);
bool IsManifestType(absl::string_view media_type);
bool IsConfigType(absl::string_view media_type);
bool IsLayerType(absl::string_view media_type);  // foreign layers included
bool IsForeignLayerType(absl::string_view media_type);
bool IsSchema1Type(absl::string_view media_type);

struct Manifest {
  std::string media_type;  // never empty: an absent field is read as the OCI type
  std::string artifact_type;
  content::Descriptor config;
  std::vector<content::Descriptor> layers;  // base first
  std::optional<content::Descriptor> subject;
  std::map<std::string, std::string> annotations;
};

struct Index {
  std::string media_type;
  std::string artifact_type;
  std::vector<content::Descriptor> manifests;
  std::optional<content::Descriptor> subject;
  std::map<std::string, std::string> annotations;
};

// Exactly one of the two is set.
struct Document {
  std::optional<Manifest> manifest;
  std::optional<Index> index;
};

// Reads a manifest or index. `media_type` is what the descriptor or registry called it; "" when
// neither said. The document must be what it is called and only that, so that the same bytes never
// mean two things.
//   kInvalidArgument     not JSON, too deep, a required field missing or malformed, both `manifests` and `layers`, or a
//                        `mediaType` that contradicts `media_type`
//   kResourceExhausted   more bytes, layers or entries than we accept
//   kFailedPrecondition  docker schema 1, which is no longer supported: the image must be pushed again
// `what` names the document in messages.
absl::StatusOr<Document> ParseDocument(absl::string_view bytes, absl::string_view media_type,
                                       absl::string_view what);
absl::StatusOr<Manifest> ParseManifest(absl::string_view bytes, absl::string_view media_type,
                                       absl::string_view what);
absl::StatusOr<Index> ParseIndex(absl::string_view bytes, absl::string_view media_type,
                                 absl::string_view what);

std::string PrintManifest(const Manifest& manifest);
std::string PrintIndex(const Index& index);

absl::StatusOr<content::Descriptor> DescriptorFromJson(const nlohmann::json& value,
                                                       absl::string_view what);

// What the document points at: config then layers, or the manifests of an index. `subject` is not a
// child.
std::vector<content::Descriptor> Children(const Document& document);

// The labels that keep the children alive while the document lives:
// `containerd.io/gc.ref.content.config`, `.l.<n>`, `.m.<n>`.
std::map<std::string, std::string> ChildLabels(const Document& document);

// A manifest that describes another one of the same index (provenance, SBOM); nothing to run in it.
bool IsAttestation(const content::Descriptor& descriptor);

// The digests of the stacks up to each layer: C0 = D0, Cn = sha256(C(n-1) + " " + Dn).
std::vector<content::Digest> ChainIds(const std::vector<content::Digest>& diff_ids);

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_MANIFEST_H_
