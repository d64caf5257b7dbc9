// containerd.services.transfer.v1: pull, push, tag, import and export on the server's side, with progress and credentials over streams.
#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "glog/logging.h"

#include "base/status_macros.h"
#include "proto/containerd/events/image.pb.h"
#include "proto/containerd/services/transfer/v1/transfer.grpc.pb.h"
#include "proto/containerd/types/transfer/imagestore.pb.h"
#include "proto/containerd/types/transfer/importexport.pb.h"
#include "proto/containerd/types/transfer/progress.pb.h"
#include "proto/containerd/types/transfer/registry.pb.h"
#include "supervisor/api/containerd/import_names.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/stream_registry.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/image_services.h"
#include "supervisor/core/lease_scope.h"
#include "supervisor/core/stores.h"
#include "supervisor/distribution/archive.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/runnable_image.h"
#include "supervisor/distribution/unpacker.h"
#include "supervisor/metadata/filter.h"
#include "supervisor/metadata/record_values.h"
#include "supervisor/oci/platform.h"

namespace gantry::api::containerd_api {
namespace {

using containerd::services::transfer::v1::Transfer;
using containerd::services::transfer::v1::TransferRequest;
using containerd::types::transfer::AuthRequest;
using containerd::types::transfer::AuthResponse;
using containerd::types::transfer::ImageExportStream;
using containerd::types::transfer::ImageImportStream;
using containerd::types::transfer::ImageStore;
using containerd::types::transfer::OCIRegistry;
using google::protobuf::Any;
using google::protobuf::Empty;
using WirePlatforms = google::protobuf::RepeatedPtrField<containerd::types::Platform>;
using WireProgress = containerd::types::transfer::Progress;

// Tells a client how it goes; says nothing when it did not ask. Thread-safe.
class Reporter {
 public:
  explicit Reporter(std::shared_ptr<Stream> stream) : stream_(std::move(stream)) {}
  ~Reporter() {
    if (stream_) stream_->Close(absl::OkStatus());
  }
  Reporter(const Reporter&) = delete;
  Reporter& operator=(const Reporter&) = delete;

  void Say(const std::string& event, const std::string& name = "") const {
    WireProgress progress;
    progress.set_event(event);
    progress.set_name(name);
    Send(progress);
  }

  void Step(const v1::Progress& step) const {
    using State = v1::Progress;
    if (step.id().empty()) return;
    WireProgress out;
    switch (step.state()) {
      case State::WAITING:
        out.set_event("waiting");
        break;
      case State::DOWNLOADING:
      case State::VERIFYING:
      case State::RETRYING:
        out.set_event("downloading");
        break;
      case State::UPLOADING:
        out.set_event("uploading");
        break;
      case State::UNPACKING:
        out.set_event("extracting");
        break;
      case State::EXISTS:
        out.set_event("already exists");
        break;
      case State::DOWNLOADED:
      case State::UPLOADED:
      case State::MOUNTED:
        out.set_event("complete");
        break;
      case State::COMPLETE:
        out.set_event(step.media_type() == "layer" ? "extracted" : "complete");
        break;
      case State::READING:
        out.set_event("loading");
        break;
      case State::WRITING:
        out.set_event("writing");
        break;
      default:
        return;
    }
    out.set_name(step.media_type().empty() ? step.id()
                                           : absl::StrCat(step.media_type(), "-", step.id()));
    out.set_progress(step.current_bytes());
    out.set_total(step.total_bytes());
    if (absl::StartsWith(step.id(), "sha256:")) {
      out.mutable_desc()->set_digest(step.id());
      out.mutable_desc()->set_size(step.total_bytes());
    }
    Send(out);
  }

 private:
  void Send(const WireProgress& progress) const {
    if (stream_) stream_->Offer(AnyOf(progress));
  }

  const std::shared_ptr<Stream> stream_;
};

// Ends a byte stream however the work on it ends.
class Closer {
 public:
  explicit Closer(Stream& stream) : stream_(stream) {}
  ~Closer() { stream_.Close(absl::OkStatus()); }

 private:
  Stream& stream_;
};

oci::PlatformMatcher MatcherOf(const WirePlatforms& platforms,
                               const oci::PlatformMatcher& otherwise) {
  if (platforms.empty()) return otherwise;
  std::vector<content::Platform> wanted;
  for (const auto& platform : platforms)
    wanted.push_back(oci::NormalizePlatform(PlatformFrom(platform)));
  return oci::PlatformMatcher::AnyOf(wanted);
}

class TransferService final : public Transfer::CallbackService, public DoorService {
 public:
  explicit TransferService(const Room& room) : room_(room) {}
  grpc::Service* service() override { return this; }

  grpc::ServerUnaryReactor* Transfer(grpc::CallbackServerContext* context,
                                     const TransferRequest* request, Empty*) override {
    return HandleOn(*room_.long_calls, *context,
                    [this, request](Call& call) { return Run(call, *request); });
  }

 private:
  absl::Status Run(Call& call, const TransferRequest& request) {
    std::shared_ptr<Stream> progress;
    if (!request.options().progress_stream().empty()) {
      GANTRY_ASSIGN_OR_RETURN(progress,
                              room_.streams->Find(call.ns(), request.options().progress_stream()));
    }
    const Reporter reporter(std::move(progress));
    const Any& from = request.source();
    const Any& to = request.destination();
    const auto pair = [&](const char* source, const char* destination) {
      constexpr absl::string_view kPackage = "containerd.types.transfer.";
      return TypeName(from) == absl::StrCat(kPackage, source) &&
             TypeName(to) == absl::StrCat(kPackage, destination);
    };
    ImageStore store;
    if (pair("OCIRegistry", "ImageStore")) {
      OCIRegistry registry;
      GANTRY_RETURN_IF_ERROR(ReadAny(from, &registry));
      GANTRY_RETURN_IF_ERROR(ReadAny(to, &store));
      return Pull(call, registry, store, reporter);
    }
    if (pair("ImageStore", "OCIRegistry")) {
      OCIRegistry registry;
      GANTRY_RETURN_IF_ERROR(ReadAny(from, &store));
      GANTRY_RETURN_IF_ERROR(ReadAny(to, &registry));
      return Push(call, store, registry, reporter);
    }
    if (pair("ImageStore", "ImageStore")) {
      ImageStore source;
      GANTRY_RETURN_IF_ERROR(ReadAny(from, &source));
      GANTRY_RETURN_IF_ERROR(ReadAny(to, &store));
      return Tag(call, source, store);
    }
    if (pair("ImageImportStream", "ImageStore")) {
      ImageImportStream archive;
      GANTRY_RETURN_IF_ERROR(ReadAny(from, &archive));
      GANTRY_RETURN_IF_ERROR(ReadAny(to, &store));
      return Import(call, archive, store, reporter);
    }
    if (pair("ImageStore", "ImageExportStream")) {
      ImageExportStream archive;
      GANTRY_RETURN_IF_ERROR(ReadAny(from, &store));
      GANTRY_RETURN_IF_ERROR(ReadAny(to, &archive));
      return Export(call, store, archive, reporter);
    }
    if (pair("ImageImportStream", "ImageExportStream")) {
      ImageImportStream source;
      ImageExportStream destination;
      GANTRY_RETURN_IF_ERROR(ReadAny(from, &source));
      GANTRY_RETURN_IF_ERROR(ReadAny(to, &destination));
      return Echo(call, source, destination);
    }
    // As with containerd: a type that is none of the API's is of no class, a pair that nobody moves is not implemented.
    for (const Any* one : {&from, &to}) {
      if (!absl::StartsWith(TypeName(*one), "containerd.")) {
        return absl::UnknownError(absl::StrCat("transfer: unknown type \"", one->type_url(), "\""));
      }
    }
    return absl::UnimplementedError(absl::StrCat("transfer from \"", from.type_url(), "\" to \"",
                                                 to.type_url(),
                                                 "\" is not supported: not implemented"));
  }

  // The credential that the client has for the registry, asked for once. It answers NONE where it has none.
  absl::Status AskCredential(Call& call, const OCIRegistry& registry, v1::RegistryAuth* auth) {
    const std::string& id = registry.resolver().auth_stream();
    if (id.empty()) return absl::OkStatus();
    GANTRY_ASSIGN_OR_RETURN(std::shared_ptr<Stream> stream, room_.streams->Find(call.ns(), id));
    const Closer closer(*stream);
    GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                            distribution::Reference::Parse(registry.reference()));
    AuthRequest question;
    question.set_host(reference.domain() == "docker.io" ? "registry-1.docker.io"
                                                        : reference.domain());
    question.set_reference(registry.reference());
    GANTRY_RETURN_IF_ERROR(stream->Send(AnyOf(question), call.cancel()));
    GANTRY_ASSIGN_OR_RETURN(std::optional<Any> message, stream->Receive(call.cancel()));
    if (!message.has_value()) return absl::OkStatus();
    AuthResponse answer;
    GANTRY_RETURN_IF_ERROR(ReadAny(*message, &answer));
    switch (answer.authtype()) {
      case containerd::types::transfer::CREDENTIALS:
        auth->set_username(answer.username());
        auth->set_password(answer.secret());
        break;
      case containerd::types::transfer::REFRESH:
        auth->set_identity_token(answer.secret());
        break;
      case containerd::types::transfer::HEADER: {
        absl::string_view header = answer.secret();
        if (absl::StartsWithIgnoreCase(header, "bearer ")) header.remove_prefix(7);
        auth->set_registry_token(std::string(absl::StripAsciiWhitespace(header)));
        break;
      }
      default:
        break;
    }
    return absl::OkStatus();
  }

  // Where the client's own hosts configuration and headers go along: containerd reads them on the server's side too.
  static core::RegistryAccess AccessOf(const OCIRegistry& registry) {
    core::RegistryAccess access;
    for (const auto& [name, value] : registry.resolver().headers())
      access.headers.emplace_back(name, value);
    access.hosts_directory = registry.resolver().host_dir();
    access.default_scheme = registry.resolver().default_scheme();
    return access;
  }

  absl::Status Pull(Call& call, const OCIRegistry& registry, const ImageStore& store,
                    const Reporter& reporter) {
    reporter.Say(absl::StrCat("Resolving from ", registry.reference()));
    GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                            distribution::Reference::Parse(registry.reference()));
    // Named as core names a pull, so that either door goes on with what the other's had got when the daemon died.
    GANTRY_ASSIGN_OR_RETURN(core::LeaseScope lease,
                            Lease(call, absl::StrCat("pull ", reference.canonical())));
    core::CallContext context = call.context();
    context.lease = lease.scope().lease;
    v1::PullRequest request;
    request.set_reference(registry.reference());
    GANTRY_RETURN_IF_ERROR(AskCredential(call, registry, request.mutable_auth()));
    std::vector<std::string> platforms;
    for (const auto& platform : store.platforms())
      platforms.push_back(oci::FormatPlatform(PlatformFrom(platform)));
    if (platforms.empty()) platforms.emplace_back();

    const std::string pulled_name = reference.canonical();
    const bool had_name = room_.stores->images.Get({call.ns(), ""}, pulled_name).ok();
    reporter.Say(absl::StrCat("Pulling from ", registry.reference()));
    reporter.Say("fetching image content", registry.reference());
    for (const std::string& platform : platforms) {
      request.set_platform(platform);
      const absl::Status fetched =
          room_.images->pull
              .Pull(
                  context, request,
                  [&reporter](const v1::Progress& step) { reporter.Step(step); },
                  AccessOf(registry))
              .status();
      // Clients look for the name that they gave.
      if (absl::IsNotFound(fetched) && !absl::StrContains(fetched.message(), registry.reference()))
        return absl::NotFoundError(absl::StrCat(registry.reference(), ": ", fetched.message()));
      GANTRY_RETURN_IF_ERROR(fetched);
    }
    GANTRY_ASSIGN_OR_RETURN(record::v1::Image pulled,
                            room_.stores->images.Get({call.ns(), ""}, pulled_name));

    // The pull unpacks for the default snapshotter; what else the client wants comes after it.
    for (const auto& unpack : store.unpacks()) {
      if (unpack.snapshotter().empty() || unpack.snapshotter() == room_.stores->default_snapshotter)
        continue;
      GANTRY_ASSIGN_OR_RETURN(
          core::ResolvedImage image,
          room_.images->catalog.Resolve(context, pulled_name,
                                        oci::FormatPlatform(PlatformFrom(unpack.platform()))));
      GANTRY_RETURN_IF_ERROR(
          room_.images->unpack.EnsureUnpacked(context, image, unpack.snapshotter()).status());
    }

    std::set<std::string> names;
    if (!store.name().empty()) names.insert(store.name());
    for (const auto& extra : store.extra_references()) {
      if (extra.is_prefix() && !extra.add_digest()) continue;
      names.insert(extra.add_digest() ? absl::StrCat(extra.name(), "@", pulled.target().digest())
                                      : extra.name());
    }
    if (names.empty()) names.insert(pulled_name);
    for (const std::string& name : names) {
      GANTRY_RETURN_IF_ERROR(PutImage(call, name, pulled.target(), store));
      reporter.Say("saved", name);
    }
    // The client asked for other names only.
    if (names.count(pulled_name) == 0 && !had_name) {
      absl::Status dropped = room_.stores->images.Delete({call.ns(), ""}, pulled_name);
      if (!dropped.ok() && !absl::IsNotFound(dropped)) return dropped;
    }
    reporter.Say(absl::StrCat("Completed pull from ", registry.reference()));
    return absl::OkStatus();
  }

  absl::Status Push(Call& call, const ImageStore& store, const OCIRegistry& registry,
                    const Reporter& reporter) {
    GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                            distribution::Reference::Parse(registry.reference()));
    const metadata::Scope scope{call.ns(), ""};
    GANTRY_ASSIGN_OR_RETURN(record::v1::Image image, room_.stores->images.Get(scope, store.name()));

    // Core pushes what goes by the name in the registry; an image that is called otherwise here goes by it for that long.
    const std::string pushed_name = reference.canonical();
    absl::StatusOr<record::v1::Image> before = room_.stores->images.Get(scope, pushed_name);
    if (!before.ok() && !absl::IsNotFound(before.status())) return before.status();
    if (before.ok() && before->target().digest() != image.target().digest()) {
      return absl::FailedPreconditionError(
          absl::StrCat("push of ", store.name(), " as ", pushed_name,
                       ": an image of that name is here and is another; remove or retag it"));
    }
    absl::Cleanup unname = [&] {
      absl::Status dropped = room_.stores->images.Delete(scope, pushed_name);
      LOG_IF(WARNING, !dropped.ok())
          << "ns=" << call.ns() << " name of the push left behind: " << dropped;
    };
    if (before.ok()) {
      std::move(unname).Cancel();
    } else {
      record::v1::Image alias = image;
      alias.set_name(pushed_name);
      absl::Status named = room_.stores->images.Create(scope, alias).status();
      if (!named.ok()) {
        std::move(unname).Cancel();
        return named;
      }
    }

    reporter.Say(absl::StrCat("Pushing to ", registry.reference()));
    reporter.Say("pushing content", registry.reference());
    v1::PushRequest request;
    request.set_reference(pushed_name);
    if (store.platforms_size() == 1)
      request.set_platform(oci::FormatPlatform(PlatformFrom(store.platforms(0))));
    GANTRY_RETURN_IF_ERROR(AskCredential(call, registry, request.mutable_auth()));
    GANTRY_RETURN_IF_ERROR(room_.images->push
                               .Push(
                                   call.context(), request,
                                   [&reporter](const v1::Progress& step) { reporter.Step(step); },
                                   AccessOf(registry))
                               .status());
    reporter.Say("pushed content", registry.reference());
    reporter.Say(absl::StrCat("Completed push to ", registry.reference()));
    return absl::OkStatus();
  }

  absl::Status Tag(Call& call, const ImageStore& from, const ImageStore& to) {
    GANTRY_ASSIGN_OR_RETURN(record::v1::Image image,
                            room_.stores->images.Get({call.ns(), ""}, from.name()));
    return PutImage(call, to.name(), image.target(), to);
  }

  absl::Status Import(Call& call, const ImageImportStream& archive, const ImageStore& store,
                      const Reporter& reporter) {
    GANTRY_ASSIGN_OR_RETURN(std::shared_ptr<Stream> stream,
                            room_.streams->Find(call.ns(), archive.stream()));
    const Closer closer(*stream);
    reporter.Say("Importing");
    GANTRY_ASSIGN_OR_RETURN(core::LeaseScope lease, Lease(call));
    metadata::ContentNamespace content = room_.stores->Content(lease.scope());
    const auto step = [&reporter](const distribution::UnpackProgress& progress) {
      v1::Progress out;
      out.set_id(!progress.layer.empty() ? progress.layer.str() : progress.diff_id.str());
      out.set_media_type("layer");
      out.set_state(progress.state == distribution::UnpackProgress::State::kUnpacking
                        ? v1::Progress::UNPACKING
                    : progress.state == distribution::UnpackProgress::State::kDone
                        ? v1::Progress::COMPLETE
                        : v1::Progress::EXISTS);
      out.set_current_bytes(progress.offset_bytes);
      out.set_total_bytes(progress.total_bytes);
      reporter.Step(out);
    };

    // The layers are unpacked for the first snapshotter that is asked for while they arrive.
    std::vector<Unpacking> unpackings;
    for (const auto& unpack : store.unpacks()) {
      GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                              room_.stores->Snapshots(unpack.snapshotter(), lease.scope()));
      const content::Platform platform = PlatformFrom(unpack.platform());
      unpackings.push_back({std::make_unique<metadata::SnapshotNamespace>(std::move(snapshots)),
                            platform.os.empty() && platform.architecture.empty()
                                ? oci::PlatformMatcher::Host()
                                : oci::PlatformMatcher::Only(oci::NormalizePlatform(platform))});
    }
    std::unique_ptr<distribution::UnpackSession> session;
    if (!unpackings.empty())
      session = room_.unpacker->Start(TargetOf(content, *unpackings[0].snapshots, call.ns()),
                                      call.cancel(), step);

    const ImportNames names(store);
    distribution::ImportOptions options;
    options.platforms = MatcherOf(store.platforms(), oci::PlatformMatcher::Host());
    options.base_name = names.prefix();
    options.with_index = names.names_index();
    options.compress = archive.force_compress();
    StreamSource source(*stream, call.cancel());
    GANTRY_ASSIGN_OR_RETURN(
        std::vector<distribution::ImportedImage> imported,
        distribution::ImportArchive(
            source, content, session.get(), options, call.cancel(),
            [&reporter](absl::string_view entry, int64_t offset, int64_t total) {
              v1::Progress out;
              out.set_id(std::string(entry));
              out.set_state(v1::Progress::READING);
              out.set_current_bytes(offset);
              out.set_total_bytes(total);
              reporter.Step(out);
            }));
    std::set<content::Digest> unpacked;
    for (const distribution::ImportedImage& image : imported) {
      if (!unpacked.insert(image.target.digest).second) continue;
      for (size_t i = 0; i < unpackings.size(); ++i) {
        absl::StatusOr<distribution::RunnableImage> runnable =
            distribution::FindRunnable(content, image.target, unpackings[i].platform);
        if (absl::IsNotFound(runnable.status())) continue;  // for other machines only
        GANTRY_RETURN_IF_ERROR(runnable.status());
        if (i == 0) {
          GANTRY_RETURN_IF_ERROR(
              session->Finish(runnable->config.digest, runnable->layers, runnable->diff_ids)
                  .status());
        } else {
          GANTRY_RETURN_IF_ERROR(
              room_.unpacker
                  ->UnpackImage(TargetOf(content, *unpackings[i].snapshots, call.ns()),
                                runnable->manifest, call.cancel(), step)
                  .status());
        }
      }
    }

    int saved = 0;
    for (const distribution::ImportedImage& image : imported) {
      containerd::types::Descriptor target;
      SetDescriptor(image.target, &target);
      record::v1::Descriptor record;
      Recast(target, &record);
      for (const std::string& name : image.is_index
                                         ? names.IndexNames(image.target.digest)
                                         : names.NamesFor(image.name, image.target.digest)) {
        GANTRY_RETURN_IF_ERROR(PutImage(call, name, record, store));
        reporter.Say("saved", name);
        ++saved;
      }
    }
    if (saved == 0)
      return absl::NotFoundError(
          "import: the archive holds no image of the names asked for: not found");
    reporter.Say("Completed import");
    return absl::OkStatus();
  }

  absl::Status Export(Call& call, const ImageStore& store, const ImageExportStream& archive,
                      const Reporter& reporter) {
    GANTRY_ASSIGN_OR_RETURN(std::shared_ptr<Stream> stream,
                            room_.streams->Find(call.ns(), archive.stream()));
    const Closer closer(*stream);
    reporter.Say("Exporting");
    std::vector<distribution::ExportImage> images;
    GANTRY_RETURN_IF_ERROR(
        EachExported(call, store, [&](const record::v1::Image& record) -> absl::Status {
          containerd::types::Descriptor wire;
          Recast(record.target(), &wire);
          GANTRY_ASSIGN_OR_RETURN(content::Descriptor target, DescriptorFrom(wire));
          for (distribution::ExportImage& known : images) {
            if (known.target.digest != target.digest) continue;
            if (std::find(known.names.begin(), known.names.end(), record.name()) ==
                known.names.end())
              known.names.push_back(record.name());
            return absl::OkStatus();
          }
          images.push_back({target, {record.name()}});
          return absl::OkStatus();
        }));
    distribution::ExportOptions options;
    options.platforms = archive.all_platforms()
                            ? oci::PlatformMatcher::All()
                            : MatcherOf(archive.platforms(), oci::PlatformMatcher::Host());
    options.docker_compatible = !archive.skip_compatibility_manifest();
    metadata::ContentNamespace content = room_.stores->Content(call.scope());
    StreamSink sink(*stream, call.cancel());
    GANTRY_RETURN_IF_ERROR(distribution::ExportArchive(
        content, images, options, sink, call.cancel(),
        [&reporter](absl::string_view entry, int64_t offset, int64_t total) {
          v1::Progress out;
          out.set_id(std::string(entry));
          out.set_state(v1::Progress::WRITING);
          out.set_current_bytes(offset);
          out.set_total_bytes(total);
          reporter.Step(out);
        }));
    reporter.Say("Completed export");
    return absl::OkStatus();
  }

  absl::Status Echo(Call& call, const ImageImportStream& from, const ImageExportStream& to) {
    GANTRY_ASSIGN_OR_RETURN(std::shared_ptr<Stream> in,
                            room_.streams->Find(call.ns(), from.stream()));
    GANTRY_ASSIGN_OR_RETURN(std::shared_ptr<Stream> out,
                            room_.streams->Find(call.ns(), to.stream()));
    const Closer close_in(*in);
    const Closer close_out(*out);
    StreamSource source(*in, call.cancel());
    StreamSink sink(*out, call.cancel());
    return CopyStream(source, sink).status();
  }

  struct Unpacking {
    std::unique_ptr<metadata::SnapshotNamespace> snapshots;
    oci::PlatformMatcher platform;
  };

  static distribution::UnpackTarget TargetOf(metadata::ContentNamespace& content,
                                             metadata::SnapshotNamespace& snapshots,
                                             const std::string& ns) {
    distribution::UnpackTarget target;
    target.store = &content;
    target.snapshotter = &snapshots;
    target.snapshotter_name = snapshots.name();
    target.scope = ns;
    return target;
  }

  absl::StatusOr<core::LeaseScope> Lease(const Call& call, absl::string_view work = "") const {
    return core::LeaseScope::Create(room_.stores->leases, room_.stores->clock, call.ns(),
                                    call.scope().lease, work);
  }

  // The images that a source names: one by its name, others by extra references or their prefixes.
  absl::Status EachExported(Call& call, const ImageStore& store,
                            const std::function<absl::Status(const record::v1::Image&)>& visit) {
    const metadata::Scope scope{call.ns(), ""};
    std::vector<std::string> names;
    if (!store.name().empty()) names.push_back(store.name());
    for (const auto& extra : store.extra_references()) {
      if (!extra.is_prefix()) {
        names.push_back(extra.name());
        continue;
      }
      GANTRY_RETURN_IF_ERROR(room_.stores->images.List(
          scope, metadata::Filter(), [&](const record::v1::Image& record) {
            return absl::StartsWith(record.name(), extra.name()) ? visit(record) : absl::OkStatus();
          }));
    }
    if (names.empty() && store.extra_references().empty())
      return absl::InvalidArgumentError("export: no image is named");
    for (const std::string& name : names) {
      GANTRY_ASSIGN_OR_RETURN(record::v1::Image record, room_.stores->images.Get(scope, name));
      GANTRY_RETURN_IF_ERROR(visit(record));
    }
    return absl::OkStatus();
  }

  absl::Status PutImage(Call& call, const std::string& name, const record::v1::Descriptor& target,
                        const ImageStore& store) {
    record::v1::Image image;
    image.set_name(name);
    *image.mutable_labels() = store.labels();
    // Any further name goes with the first.
    if (!store.name().empty() && name != store.name()) {
      (*image.mutable_labels())["containerd.io/gc.bref.image"] = store.name();
      (*image.mutable_labels())["containerd.io/gc.expire"] =
          absl::FormatTime(absl::RFC3339_sec, absl::Now(), absl::UTCTimeZone());
    }
    *image.mutable_target() = target;
    bool created = false;
    GANTRY_ASSIGN_OR_RETURN(record::v1::Image stored,
                            room_.stores->images.Put({call.ns(), ""}, std::move(image), &created));
    if (created) {
      containerd::services::images::v1::ImageCreate event;
      event.set_name(name);
      *event.mutable_labels() = stored.labels();
      room_.events->Publish(call.ns(), "/images/create", event);
    } else {
      containerd::services::images::v1::ImageUpdate event;
      event.set_name(name);
      *event.mutable_labels() = stored.labels();
      room_.events->Publish(call.ns(), "/images/update", event);
    }
    return absl::OkStatus();
  }

  const Room& room_;
};

}  // namespace

std::unique_ptr<DoorService> NewTransferService(const Room& room) {
  return std::make_unique<TransferService>(room);
}

}  // namespace gantry::api::containerd_api
