// THE schema page: every family of keys in the database, its key, its value, and what it is to the
// garbage collector.
//
// All in RocksDB's default column family, each family's keys behind its own first byte ('A' + its
// place in the enum), but for snapshots, which have a column family to themselves: a column family
// costs files, memory and start-up time, and these are small. `/` below stands for the byte 0x00,
// which no component may contain, so that the byte order of keys is the order of namespace, then
// name. Times are UTC. Values are messages of proto/record/v1.
//
//   family            key                            value            to the garbage collector
//   meta              "schema"                       decimal number   -
//                     "build_cache" / ns / key       BuildCacheRecord root; -> its blob and its snapshot
//   namespaces        ns                             Namespace        -
//   images            ns / name                      Image            root unless gc.expire has passed; -> target content, labels
//   containers        ns / id                        Container        root; -> (snapshotter, snapshot_key), labels
//                     without its spec, which most readers do not want and which is most of it
//   container_specs   ns / id                        Container        - (its spec alone; comes and goes with it)
//                     one behind the other the two values are the whole message
//   container_states  ns / id                        ContainerState   - (comes and goes with the container)
//   container_names   ns / name                      ContainerName    - (goes with the container)
//   names_of          ns / id                        ContainerName    - (the same, looked up from the other side)
//   sandboxes         ns / id                        Sandbox          never collected; its labels are followed
//   leases            ns / id                        Lease            root until gc.expire; then collected
//   lease_resources   ns / lease / type / id         LeaseResource    lease -> resource (with gc.flat: and no further)
//   content           ns / digest                    Content          collected; root with gc.root; -> labels
//   ingests           ns / ref                       Ingest           collected; root until expires_at; -> expected content
//   networks          ns / id                        Network          -
//                     ns / id / container            NetworkEndpoint  - (the container's place in it)
//   volumes           ns / name                      Volume           -
//   sandbox_states    ns / id                        SandboxState     -
//   network_namespaces ns / container                NetworkNamespace - (the container's, while it runs)
//   snapshots         owned by snapshotter/snapshot_index.h        collected; root with gc.root; -> parent, labels
//                     snapshot keys in there are "<ns>/<key>", with a real slash: no namespace holds one
//
// "labels": containerd.io/gc.ref.*, gc.bref.* (reversed), gc.cond.*; see supervisor/gc/edges.h. No
// reference crosses a namespace. The files of a blob or of a snapshot are not named here: a file
// without a record is garbage, a record without its file is a defect.
//
// To add to the schema: append a Family, add a row. To change what is stored: raise kSchemaVersion,
// add a step to RealMigrations() in migrations.cc.
#ifndef GANTRY_SUPERVISOR_METADATA_KEY_SPACE_H_
#define GANTRY_SUPERVISOR_METADATA_KEY_SPACE_H_

#include <array>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"

namespace gantry::record::v1 {
class Container;
class ContainerName;
class ContainerState;
class Content;
class Image;
class Ingest;
class Lease;
class LeaseResource;
class Namespace;
class Network;
class Sandbox;
class SandboxState;
class Volume;
}  // namespace gantry::record::v1

namespace gantry::metadata {

inline constexpr int kSchemaVersion = 3;

// Their places are part of the stored keys: append only.
enum class Family {
  kMeta,
  kNamespaces,
  kImages,
  kContainers,
  kContainerStates,
  kContainerNames,
  kNamesOf,
  kSandboxes,
  kLeases,
  kLeaseResources,
  kContent,
  kIngests,
  kNetworks,
  kVolumes,
  kSnapshots,
  kSandboxStates,
  kNetworkNamespaces,
  kContainerSpecs,
};

// In the order of Family.
inline constexpr std::array<absl::string_view, 18> kFamilyNames = {
    "meta",
    "namespaces",
    "images",
    "containers",
    "container_states",
    "container_names",
    "names_of",
    "sandboxes",
    "leases",
    "lease_resources",
    "content",
    "ingests",
    "networks",
    "volumes",
    "snapshots",
    "sandbox_states",
    "network_namespaces",
    "container_specs",
};

// A family and the type of its values. `Record` is only named here: include record.pb.h to use one.
template <typename Record>
struct KeySpace {
  Family family;
};

inline constexpr KeySpace<record::v1::Namespace> kNamespaces{Family::kNamespaces};
inline constexpr KeySpace<record::v1::Image> kImages{Family::kImages};
inline constexpr KeySpace<record::v1::Container> kContainers{Family::kContainers};
inline constexpr KeySpace<record::v1::ContainerState> kContainerStates{Family::kContainerStates};
inline constexpr KeySpace<record::v1::ContainerName> kContainerNames{Family::kContainerNames};
inline constexpr KeySpace<record::v1::ContainerName> kNamesOf{Family::kNamesOf};
inline constexpr KeySpace<record::v1::Sandbox> kSandboxes{Family::kSandboxes};
inline constexpr KeySpace<record::v1::SandboxState> kSandboxStates{Family::kSandboxStates};
inline constexpr KeySpace<record::v1::Lease> kLeases{Family::kLeases};
inline constexpr KeySpace<record::v1::LeaseResource> kLeaseResources{Family::kLeaseResources};
inline constexpr KeySpace<record::v1::Content> kContent{Family::kContent};
inline constexpr KeySpace<record::v1::Ingest> kIngests{Family::kIngests};
inline constexpr KeySpace<record::v1::Network> kNetworks{Family::kNetworks};
inline constexpr KeySpace<record::v1::Volume> kVolumes{Family::kVolumes};

inline constexpr char kSeparator = '\0';

// "a\0b\0c". The parts hold no 0x00: validate.h sees to it before a key is made.
template <typename... Parts>
std::string MakeKey(absl::string_view first, Parts&&... rest) {
  std::string key(first.data(), first.size());
  (
      [&key](absl::string_view part) {
        key.push_back(kSeparator);
        key.append(part.data(), part.size());
      }(std::forward<Parts>(rest)),
      ...);
  return key;
}

// All keys below these parts start with it: "a\0b\0".
template <typename... Parts>
std::string MakePrefix(absl::string_view first, Parts&&... rest) {
  std::string key = MakeKey(first, std::forward<Parts>(rest)...);
  key.push_back(kSeparator);
  return key;
}

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_KEY_SPACE_H_
