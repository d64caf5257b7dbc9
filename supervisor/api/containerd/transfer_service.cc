// containerd.services.transfer.v1: pull, push, tag, import and export on the server's side, with
// progress and credentials over streams.
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "base/status_macros.h"
#include "proto/containerd/services/transfer/v1/transfer.grpc.pb.h"
#include "proto/containerd/types/transfer/imagestore.pb.h"
#include "proto/containerd/types/transfer/importexport.pb.h"
#include "proto/containerd/types/transfer/progress.pb.h"
#include "proto/containerd/types/transfer/registry.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "supervisor/api/containerd/import_names.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/stream_registry.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/core/image_services.h"
#include "supervisor/distribution/archive.h"
#include "supervisor/distribution/reference.h"
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
    // As with containerd: a type outside the API has no class, a pair that is not supported
    // is not implemented.
    for (const Any* one : {&from, &to}) {
      if (!absl::StartsWith(TypeName(*one), "containerd.")) {
        return absl::UnknownError(absl::StrCat("transfer: unknown type \"", one->type_url(), "\""));
      }
    }
    return absl::UnimplementedError(absl::StrCat("transfer from \"", from.type_url(), "\" to \"",
                                                 to.type_url(),
                                                 "\" is not supported: not implemented"));
  }

  // The credential that the client has for the registry, asked for once. It answers NONE where it
  // has none.
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

  // Where the client's own hosts configuration and headers go along: containerd reads them on the
  // server's side too.
  static core::RegistryAccess AccessOf(const OCIRegistry& registry) {
    core::RegistryAccess access;
    for (const auto& [name, value] : registry.resolver().headers())
      access.headers.emplace_back(name, value);
    access.hosts_directory = registry.resolver().host_dir();
    access.default_scheme = registry.resolver().default_scheme();
    return access;
  }

  core::CallContext ContextOf(Call& call) const {
    core::CallContext context = call.context();
    context.lease = call.scope().lease;
    return context;
  }

  static std::vector<content::Platform> PlatformsOf(const WirePlatforms& platforms) {
    std::vector<content::Platform> out;
    for (const auto& platform : platforms) out.push_back(PlatformFrom(platform));
    return out;
  }

  static std::vector<core::UnpackWish> WishesOf(const ImageStore& store) {
    std::vector<core::UnpackWish> out;
    for (const auto& unpack : store.unpacks())
      out.push_back({unpack.snapshotter(), PlatformFrom(unpack.platform())});
    return out;
  }

  // A name with the labels that the destination gives it. Any further name goes with the first.
  static core::ImageNaming NamingOf(const std::string& name, const ImageStore& store) {
    core::ImageNaming naming;
    naming.name = name;
    naming.labels.insert(store.labels().begin(), store.labels().end());
    if (!store.name().empty() && name != store.name()) {
      naming.labels["containerd.io/gc.bref.image"] = store.name();
      naming.labels["containerd.io/gc.expire"] =
          absl::FormatTime(absl::RFC3339_sec, absl::Now(), absl::UTCTimeZone());
    }
    return naming;
  }

  absl::Status Pull(Call& call, const OCIRegistry& registry, const ImageStore& store,
                    const Reporter& reporter) {
    reporter.Say(absl::StrCat("Resolving from ", registry.reference()));
    core::TransferPull order;
    order.reference = registry.reference();
    GANTRY_RETURN_IF_ERROR(AskCredential(call, registry, &order.auth));
    order.access = AccessOf(registry);
    order.platforms = PlatformsOf(store.platforms());
    order.unpacks = WishesOf(store);
    order.names = [&store](const content::Digest& digest) {
      std::set<std::string> names;
      if (!store.name().empty()) names.insert(store.name());
      for (const auto& extra : store.extra_references()) {
        if (extra.is_prefix() && !extra.add_digest()) continue;
        names.insert(extra.add_digest() ? absl::StrCat(extra.name(), "@", digest.str())
                                        : extra.name());
      }
      std::vector<core::ImageNaming> out;
      for (const std::string& name : names) out.push_back(NamingOf(name, store));
      return out;
    };
    reporter.Say(absl::StrCat("Pulling from ", registry.reference()));
    reporter.Say("fetching image content", registry.reference());
    const absl::Status fetched = room_.images->transfer.Pull(
        ContextOf(call), order, [&reporter](const v1::Progress& step) { reporter.Step(step); },
        [&reporter](const std::string& name) { reporter.Say("saved", name); });
    // Clients look for the name that they gave.
    if (absl::IsNotFound(fetched) && !absl::StrContains(fetched.message(), registry.reference()))
      return absl::NotFoundError(absl::StrCat(registry.reference(), ": ", fetched.message()));
    GANTRY_RETURN_IF_ERROR(fetched);
    reporter.Say(absl::StrCat("Completed pull from ", registry.reference()));
    return absl::OkStatus();
  }

  absl::Status Push(Call& call, const ImageStore& store, const OCIRegistry& registry,
                    const Reporter& reporter) {
    core::TransferPush order;
    order.image = store.name();
    order.reference = registry.reference();
    GANTRY_RETURN_IF_ERROR(AskCredential(call, registry, &order.auth));
    order.access = AccessOf(registry);
    order.platforms = PlatformsOf(store.platforms());
    reporter.Say(absl::StrCat("Pushing to ", registry.reference()));
    reporter.Say("pushing content", registry.reference());
    GANTRY_RETURN_IF_ERROR(room_.images->transfer.Push(
        ContextOf(call), order, [&reporter](const v1::Progress& step) { reporter.Step(step); }));
    reporter.Say("pushed content", registry.reference());
    reporter.Say(absl::StrCat("Completed push to ", registry.reference()));
    return absl::OkStatus();
  }

  absl::Status Tag(Call& call, const ImageStore& from, const ImageStore& to) {
    return room_.images->transfer.Tag(ContextOf(call), from.name(), NamingOf(to.name(), to));
  }

  absl::Status Import(Call& call, const ImageImportStream& archive, const ImageStore& store,
                      const Reporter& reporter) {
    GANTRY_ASSIGN_OR_RETURN(std::shared_ptr<Stream> stream,
                            room_.streams->Find(call.ns(), archive.stream()));
    const Closer closer(*stream);
    reporter.Say("Importing");
    const ImportNames names(store);
    core::TransferImport order;
    order.options.platforms = MatcherOf(store.platforms(), oci::PlatformMatcher::Host());
    order.options.base_name = names.prefix();
    order.options.with_index = names.names_index();
    order.options.compress = archive.force_compress();
    order.unpacks = WishesOf(store);
    order.names = [&](const distribution::ImportedImage& image) {
      std::vector<core::ImageNaming> out;
      for (const std::string& name : image.is_index
                                         ? names.IndexNames(image.target.digest)
                                         : names.NamesFor(image.name, image.target.digest))
        out.push_back(NamingOf(name, store));
      return out;
    };
    StreamSource source(*stream, call.cancel());
    GANTRY_RETURN_IF_ERROR(room_.images->transfer.Import(
        ContextOf(call), order, source,
        [&reporter](const v1::Progress& step) { reporter.Step(step); },
        [&reporter](const std::string& name) { reporter.Say("saved", name); }));
    reporter.Say("Completed import");
    return absl::OkStatus();
  }

  absl::Status Export(Call& call, const ImageStore& store, const ImageExportStream& archive,
                      const Reporter& reporter) {
    GANTRY_ASSIGN_OR_RETURN(std::shared_ptr<Stream> stream,
                            room_.streams->Find(call.ns(), archive.stream()));
    const Closer closer(*stream);
    reporter.Say("Exporting");
    core::TransferExport order;
    if (!store.name().empty()) order.names.push_back(store.name());
    for (const auto& extra : store.extra_references())
      (extra.is_prefix() ? order.prefixes : order.names).push_back(extra.name());
    order.options.platforms = archive.all_platforms()
                                  ? oci::PlatformMatcher::All()
                                  : MatcherOf(archive.platforms(), oci::PlatformMatcher::Host());
    order.options.docker_compatible = !archive.skip_compatibility_manifest();
    StreamSink sink(*stream, call.cancel());
    GANTRY_RETURN_IF_ERROR(room_.images->transfer.Export(
        ContextOf(call), order, sink,
        [&reporter](const v1::Progress& step) { reporter.Step(step); }));
    sink.AwaitTaken();
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

  const Room& room_;
};

}  // namespace

std::unique_ptr<DoorService> NewTransferService(const Room& room) {
  return std::make_unique<TransferService>(room);
}

}  // namespace gantry::api::containerd_api
