// The files of an image that is being built: a stack of layers, and what puts another one on top.
//
// ImageBuild makes a Session for each build. A session holds a lease: what it makes is kept until
// the build ends, and after that only what an image or the build cache refers to. A daemon that
// dies leaves nothing but what the next collection takes; containers of steps are removed by
// Recover().
//
//   Base() -> Change() and Run(), each on the root that the last one gave -> Write() -> Name()
//
// What a session takes from other places and gives to them is BuildExchange's (build_exchange.h).
//
// Both classes are thread-safe: stages are built side by side. A session outlives its calls and
// ends before the ImageBuild.
// kCancelled: by the context of the session.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_BUILD_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_BUILD_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"

#include "content-store/descriptor.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/image_assembly.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/image_progress.h"
#include "supervisor/core/image_pull.h"
#include "supervisor/core/image_unpack.h"
#include "supervisor/core/lease_scope.h"
#include "supervisor/core/stores.h"

namespace gantry::v1 {
class ContainerConfig;
class RegistryAuth;
}  // namespace gantry::v1
namespace gantry::distribution {
class Puller;
class Unpacker;
}  // namespace gantry::distribution

namespace gantry::core {

class BuildExchange;
class ContainerLifecycle;
class ContainerRecords;
class ContainerStreams;
class ContainerWait;
class ImagePush;

// The label of containers that run a step of a build.
inline constexpr char kBuildStepLabel[] = "gantry.io/build.step";

// The files so far. A value; the session keeps what it names.
struct BuildRoot {
  oci::Manifest manifest;  // of its layers; `config` is not filled in
  std::vector<content::Digest> diff_ids;

  // "" for one without layers.
  std::string chain_id() const;
};

struct BuildBase {
  BuildRoot root;
  oci::ImageConfig config;
  content::Digest id;  // of the image
};

class ImageBuild {
 public:
  // Nothing is owned.
  struct Parts {
    Stores* stores;
    ImageCatalog* catalog;
    ImageUnpack* unpack;
    ImagePull* pull;
    ImageAssembly* assembly;
    ContainerRecords* records;
    ContainerLifecycle* containers;
    ContainerStreams* streams;
    ContainerWait* waits;
    std::string state_directory;  // <state>/mounts/ holds mounts for the length of a call
    ImagePush* push;
    distribution::Puller* puller;
    distribution::Resolver* resolver;
    distribution::Unpacker* unpacker;
    distribution::CredentialSource* credentials;  // the daemon's own
    const distribution::HostsConfig* hosts = nullptr;
    // Makes every blob committed so far durable; null: they are synced one by one.
    std::function<absl::Status()> sync_blobs = nullptr;
  };
  explicit ImageBuild(const Parts& parts) : parts_(parts) {}

  class Session;
  // `context` outlives the session.
  absl::StatusOr<std::unique_ptr<Session>> Begin(const CallContext& context);

  // At start, before the doors open: removes the containers of builds that a daemon which died had
  // under way.
  absl::Status Recover();

 private:
  const Parts parts_;
};

class ImageBuild::Session {
 public:
  Session(const Parts& parts, const CallContext& context, LeaseScope lease);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  enum class Pull { kMissing, kAlways };
  // An image to stand on, unpacked. kNotFound: it is neither here nor in its registry.
  absl::StatusOr<BuildBase> Base(const std::string& reference, const std::string& platform,
                                 Pull pull, const v1::RegistryAuth& auth,
                                 const ProgressFn& progress);

  // Descriptors of root directories, read-only but for `target`.
  struct Trees {
    int target = -1;
    std::vector<int> sources;
  };
  // Runs `change` on the files of `root`, on a thread that has them as its own root, and makes a
  // layer of what it changed. Beside them `sources` are seen, read-only. Nothing is made when
  // `change` fails. `what` begins the names of what is temporary.
  absl::StatusOr<BuildRoot> Change(const BuildRoot& root, const std::string& what,
                                   absl::Span<const BuildRoot* const> sources,
                                   const std::function<absl::Status(const Trees&)>& change);
  // Runs `look` beside the files of `sources`; no layer is made.
  absl::Status Look(absl::Span<const BuildRoot* const> sources,
                    const std::function<absl::Status(const Trees&)>& look);

  // Runs a container on the files of `root`, to its end, and makes a layer of what it changed. The
  // configuration is completed with what a build's container always has. `output` is called on this
  // thread; its failure ends the run.
  struct Ran {
    int exit_code = 0;
    absl::optional<BuildRoot> root;  // with exit code 0
  };
  using OutputFn = std::function<absl::Status(int stream, absl::string_view bytes)>;
  // Files and directories that only were made for `config`'s mounts to lie on are no part of the
  // layer.
  absl::StatusOr<Ran> Run(const BuildRoot& root, const v1::ContainerConfig& config,
                          const std::function<absl::Status(const std::string& id)>& created,
                          const OutputFn& output);

  // The files of `root`, read-only, at a path of the host for as long as the result lives: what a
  // container mounts.
  class View;
  absl::StatusOr<std::unique_ptr<View>> Mount(const BuildRoot& root);

  // The same layers from an earlier build: their blobs and snapshots are taken into this session.
  // kNotFound: they are gone.
  absl::StatusOr<BuildRoot> Reuse(const BuildRoot& root, const content::Descriptor& layer,
                                  const content::Digest& diff_id);

  // Writes configuration and manifest. Layers and rootfs of `config` are set here.
  absl::StatusOr<content::Descriptor> Write(const BuildRoot& root, oci::ImageConfig config);
  // Writes what lists these, in order: images of several platforms, and what describes them.
  absl::StatusOr<content::Descriptor> WriteIndex(const oci::Index& index);
  // Writes a manifest that is no image's: of a cache, or of attestations. Its blobs are there.
  absl::StatusOr<content::Descriptor> WriteManifest(const oci::Manifest& manifest);
  absl::StatusOr<content::Descriptor> WriteDocument(absl::string_view bytes,
                                                    const std::string& media_type);

  // Names the image, after its blobs are durable. No name: it is kept as an image without one.
  // kInvalidArgument: a malformed name.
  absl::Status Name(const std::vector<std::string>& names, const content::Descriptor& target);
  // The context of the build, with its lease.
  const CallContext& context() const { return leased_; }
  content::Store& store() { return content_; }
  // To and from other places; lives and ends with this.
  BuildExchange& exchange() { return *exchange_; }

 private:
  friend class BuildExchange;
  // Of the targets of mounts what is not there, the deepest first.
  absl::StatusOr<std::vector<std::string>> MissingTargets(const BuildRoot& root,
                                                          const v1::ContainerConfig& config);
  // Removes these again from a step's files, where they are still empty.
  absl::Status RemoveStubs(const std::string& key, const std::vector<std::string>& stubs);
  // Into the lease of this build.
  absl::Status Hold(const std::string& type, const std::string& id);
  absl::StatusOr<BuildRoot> Commit(const BuildRoot& root, const std::string& key,
                                   const std::string& what);

  const Parts& parts_;
  const CallContext& context_;
  LeaseScope lease_;
  CallContext leased_;
  metadata::ContentNamespace content_;
  const std::unique_ptr<BuildExchange> exchange_;
};

class ImageBuild::Session::View {
 public:
  virtual ~View() = default;
  virtual const std::string& path() const = 0;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_BUILD_H_
