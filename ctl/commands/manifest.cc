// `ctl manifest`: looks at manifests in registries, and puts images of several platforms together
// under one name. What is being put together is kept in docker's files (manifest_store.h).
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/engine/value.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/transfer.h"
#include "ctl/manifest/manifest_store.h"
#include "ctl/registry_config.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/manifests.pb.h"

namespace gantry::ctl {
namespace {

using engine::Value;

constexpr absl::string_view kDockerList =
    "application/vnd.docker.distribution.manifest.list.v2+json";
constexpr absl::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
constexpr absl::string_view kDockerManifest =
    "application/vnd.docker.distribution.manifest.v2+json";

// Indented by tabs, as docker prints manifests.
std::string Tabbed(const Value& document) {
  std::string out;
  for (absl::string_view line : absl::StrSplit(document.ToPrettyJson(1), '\n')) {
    const size_t depth = line.find_first_not_of(' ');
    if (depth == line.npos) continue;
    absl::StrAppend(&out, std::string(depth, '\t'), line.substr(depth), "\n");
  }
  return out;
}

absl::StatusOr<v1::ReadManifestResponse> ReadManifest(Context& context,
                                                      const std::string& reference, bool insecure) {
  v1::ReadManifestRequest request;
  request.set_reference(reference);
  request.set_insecure(insecure);
  GANTRY_ASSIGN_OR_RETURN(*request.mutable_auth(), AuthFor(context, reference));
  GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::ReadManifestResponse response;
  const absl::Status status = client->Call(request, &response);
  if (absl::IsNotFound(status)) {
    return absl::NotFoundError(absl::StrCat("no such manifest: ", reference));
  }
  GANTRY_RETURN_IF_ERROR(status);
  return response;
}

bool IsIndex(const v1::ReadManifestResponse& read) {
  return read.manifest().media_type() == kDockerList || read.manifest().media_type() == kOciIndex;
}

// As docker's store and `inspect --verbose` have it.
absl::StatusOr<Value> ManifestDocument(const std::string& reference,
                                       const v1::ReadManifestResponse& read,
                                       const Value* platform) {
  GANTRY_ASSIGN_OR_RETURN(Value content, Value::FromJson(read.document()));
  Value descriptor = Value::EmptyObject();
  descriptor.Set("mediaType", read.manifest().media_type());
  descriptor.Set("digest", read.manifest().digest());
  descriptor.Set("size", read.manifest().size_bytes());
  if (platform != nullptr) {
    descriptor.Set("platform", *platform);
  } else if (read.has_platform()) {
    Value own = Value::EmptyObject();
    own.Set("architecture", read.platform().architecture());
    own.Set("os", read.platform().os());
    if (!read.platform().os_version().empty()) own.Set("os.version", read.platform().os_version());
    if (!read.platform().os_features().empty())
      own.Set("os.features", Value::StringRange(read.platform().os_features()));
    if (!read.platform().variant().empty()) own.Set("variant", read.platform().variant());
    descriptor.Set("platform", std::move(own));
  }
  Value out = Value::EmptyObject();
  out.Set("Ref", reference);
  out.Set("Descriptor", std::move(descriptor));
  out.Set("Raw", absl::Base64Escape(read.document()));
  out.Set(read.manifest().media_type() == kDockerManifest ? "SchemaV2Manifest" : "OCIManifest",
          std::move(content));
  return out;
}

// The manifest of one image, from the list that is being put together or else from its registry.
absl::StatusOr<Value> FindManifest(Context& context, const ManifestStore& store,
                                   const std::string& list, const std::string& reference,
                                   bool insecure) {
  if (!list.empty()) {
    absl::StatusOr<Value> kept = store.Find(list, reference);
    if (!absl::IsNotFound(kept.status())) return kept;
  }
  GANTRY_ASSIGN_OR_RETURN(const v1::ReadManifestResponse read,
                          ReadManifest(context, reference, insecure));
  if (IsIndex(read)) {
    return absl::InvalidArgumentError(absl::StrCat(
        reference, " is a manifest list; name one of its manifests, as REPOSITORY@DIGEST"));
  }
  return ManifestDocument(reference, read, nullptr);
}

class CreateManifestAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&amend_, "amend", 'a', "Add to a manifest list that is there");
    flags.Bool(&insecure_, "insecure", 0,
               "Speak plain HTTP or unverified TLS with the registry if need be");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    const ManifestStore store(context.environment());
    GANTRY_ASSIGN_OR_RETURN(const std::string list, FullReference(args[0]));
    const absl::Status there = store.List(list).status();
    if (there.ok() && !amend_) {
      return absl::AlreadyExistsError(
          "refusing to amend an existing manifest list with no --amend flag");
    }
    if (!there.ok() && !absl::IsNotFound(there)) return there;
    // All of them before the first is written: a list is there as a whole or not at all.
    std::vector<std::pair<std::string, Value>> manifests;
    for (size_t i = 1; i < args.size(); ++i) {
      GANTRY_ASSIGN_OR_RETURN(const std::string reference, FullReference(args[i]));
      GANTRY_ASSIGN_OR_RETURN(Value document,
                              FindManifest(context, store, list, reference, insecure_));
      manifests.emplace_back(reference, std::move(document));
    }
    for (const auto& [reference, document] : manifests) {
      GANTRY_RETURN_IF_ERROR(store.Put(list, reference, document));
    }
    context.Out(absl::StrCat("Created manifest list ", list, "\n"));
    return 0;
  }

 private:
  bool amend_ = false, insecure_ = false;
};

// Pairs that images are made for.
bool IsKnownPlatform(absl::string_view os, absl::string_view architecture) {
  static constexpr std::pair<absl::string_view, absl::string_view> kKnown[] = {
      {"linux",
       "386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 "
       "s390x"},
      {"windows", "386 amd64 arm arm64"},
      {"darwin", "386 amd64 arm arm64"},
      {"dragonfly", "amd64"},
      {"freebsd", "386 amd64 arm arm64"},
      {"netbsd", "386 amd64 arm"},
      {"openbsd", "386 amd64 arm"},
      {"plan9", "386 amd64"},
      {"solaris", "amd64"},
      {"aix", "ppc64"},
      {"android", "386 amd64 arm arm64"},
      {"js", "wasm"},
      {"wasip1", "wasm"}};
  for (const auto& [known, architectures] : kKnown) {
    if (known != os) continue;
    for (absl::string_view one : absl::StrSplit(architectures, ' ')) {
      if (one == architecture) return true;
    }
  }
  return false;
}

class AnnotateAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&architecture_, "arch", 0, "string", "Architecture that the image is for");
    flags.String(&os_, "os", 0, "string", "Operating system");
    flags.Custom("os-features", 0, "strings", "Features of the operating system, comma-separated",
                 [this](absl::string_view text) {
                   for (absl::string_view one : absl::StrSplit(text, ',', absl::SkipEmpty()))
                     features_.push_back(std::string(one));
                   return absl::OkStatus();
                 });
    flags.String(&version_, "os-version", 0, "string", "Version of the operating system");
    flags.String(&variant_, "variant", 0, "string", "Variant of the architecture");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    const ManifestStore store(context.environment());
    GANTRY_ASSIGN_OR_RETURN(const std::string list, FullReference(args[0]));
    GANTRY_ASSIGN_OR_RETURN(const std::string reference, FullReference(args[1]));
    absl::StatusOr<Value> found = store.Find(list, reference);
    if (absl::IsNotFound(found.status())) {
      return absl::NotFoundError(
          absl::StrCat("manifest for image ", reference, " does not exist in ", list));
    }
    GANTRY_RETURN_IF_ERROR(found.status());
    Value descriptor = *found->Find("Descriptor");
    const Value* old = descriptor.Find("platform");
    Value platform = old != nullptr && old->is_object() ? *old : Value::EmptyObject();
    if (!architecture_.empty()) platform.Set("architecture", architecture_);
    if (!os_.empty()) platform.Set("os", os_);
    if (!version_.empty()) platform.Set("os.version", version_);
    if (!features_.empty()) platform.Set("os.features", Value::Strings(features_));
    if (!variant_.empty()) platform.Set("variant", variant_);
    const auto text = [&platform](const char* key) {
      const Value* value = platform.Find(key);
      return value != nullptr && value->is_string() ? value->string() : std::string();
    };
    if (!IsKnownPlatform(text("os"), text("architecture"))) {
      return absl::InvalidArgumentError(
          absl::StrCat("manifest entry for image has unsupported os/arch combination: ", text("os"),
                       "/", text("architecture")));
    }
    descriptor.Set("platform", std::move(platform));
    found->Set("Descriptor", std::move(descriptor));
    GANTRY_RETURN_IF_ERROR(store.Put(list, reference, *found));
    return 0;
  }

 private:
  std::string architecture_, os_, version_, variant_;
  std::vector<std::string> features_;
};

class InspectAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&insecure_, "insecure", 0,
               "Speak plain HTTP or unverified TLS with the registry if need be");
    flags.Bool(&verbose_, "verbose", 'v', "Show digests, platforms and layers of all manifests");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    const ManifestStore store(context.environment());
    GANTRY_ASSIGN_OR_RETURN(const std::string reference, FullReference(args.back()));
    if (args.size() == 2) {
      GANTRY_ASSIGN_OR_RETURN(const std::string list, FullReference(args[0]));
      GANTRY_ASSIGN_OR_RETURN(const Value manifest,
                              FindManifest(context, store, list, reference, insecure_));
      return Show(context, manifest);
    }
    const absl::StatusOr<std::vector<Value>> kept = store.List(reference);
    if (kept.ok()) {
      if (verbose_) {
        context.Out(Tabbed(Value(*kept)));
        return 0;
      }
      GANTRY_ASSIGN_OR_RETURN(const std::string document, ManifestListDocument(reference, *kept));
      context.Out(document + "\n");
      return 0;
    }
    if (!absl::IsNotFound(kept.status())) return kept.status();
    GANTRY_ASSIGN_OR_RETURN(const v1::ReadManifestResponse read,
                            ReadManifest(context, reference, insecure_));
    if (!IsIndex(read)) {
      GANTRY_ASSIGN_OR_RETURN(const Value manifest, ManifestDocument(reference, read, nullptr));
      return Show(context, manifest);
    }
    GANTRY_ASSIGN_OR_RETURN(const Value index, Value::FromJson(read.document()));
    if (!verbose_) {
      context.Out(absl::StrCat(index.ToPrettyJson(3), "\n"));
      return 0;
    }
    Value all = Value::EmptyList();
    const Value* entries = index.Find("manifests");
    if (entries != nullptr && entries->is_list()) {
      for (const Value& entry : entries->list()) {
        const Value* digest = entry.Find("digest");
        if (digest == nullptr || !digest->is_string()) continue;
        const std::string one = absl::StrCat(RepositoryOf(reference), "@", digest->string());
        GANTRY_ASSIGN_OR_RETURN(const v1::ReadManifestResponse child,
                                ReadManifest(context, one, insecure_));
        GANTRY_ASSIGN_OR_RETURN(Value shown, ManifestDocument(one, child, entry.Find("platform")));
        all.Append(std::move(shown));
      }
    }
    context.Out(Tabbed(all));
    return 0;
  }

 private:
  absl::StatusOr<int> Show(Context& context, const Value& manifest) const {
    if (verbose_) {
      context.Out(Tabbed(manifest));
      return 0;
    }
    for (const char* key : {"SchemaV2Manifest", "OCIManifest"}) {
      if (const Value* content = manifest.Find(key)) context.Out(Tabbed(*content));
    }
    return 0;
  }

  bool insecure_ = false, verbose_ = false;
};

class PushAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&insecure_, "insecure", 0,
               "Speak plain HTTP or unverified TLS with the registry if need be");
    flags.Bool(&purge_, "purge", 'p', "Forget the list here once it is pushed");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    const ManifestStore store(context.environment());
    GANTRY_ASSIGN_OR_RETURN(const std::string list, FullReference(args[0]));
    absl::StatusOr<std::vector<Value>> manifests = store.List(list);
    if (absl::IsNotFound(manifests.status()) || (manifests.ok() && manifests->empty()))
      return absl::NotFoundError(absl::StrCat(list, " not found"));
    GANTRY_RETURN_IF_ERROR(manifests.status());
    v1::PushIndexRequest request;
    request.set_reference(list);
    request.set_media_type(std::string(kDockerList));
    request.set_insecure(insecure_);
    GANTRY_ASSIGN_OR_RETURN(*request.mutable_document(), ManifestListDocument(list, *manifests));
    const std::string registry = RegistryOfReference(list);
    // As docker, only manifests that come into the repository have a line.
    std::set<std::string> coming;
    for (const Value& manifest : *manifests) {
      const Value* reference = manifest.Find("Ref");
      const Value* digest = manifest.Find("Descriptor")->Find("digest");
      if (reference == nullptr || !reference->is_string() || digest == nullptr ||
          !digest->is_string()) {
        return absl::InvalidArgumentError(absl::StrCat("manifest list ", list,
                                                       ": a manifest has no Ref or no digest; ctl "
                                                       "manifest rm ",
                                                       list, " and create it again"));
      }
      const std::string source = RegistryOfReference(reference->string());
      if (source != registry) {
        return absl::InvalidArgumentError(
            absl::StrCat("cannot use source images from a different registry than the target "
                         "image: ",
                         source, " != ", registry));
      }
      if (RepositoryOf(reference->string()) != RepositoryOf(list)) coming.insert(digest->string());
      request.add_sources(absl::StrCat(RepositoryOf(reference->string()), "@", digest->string()));
    }
    GANTRY_ASSIGN_OR_RETURN(*request.mutable_auth(), AuthFor(context, list));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    auto stream = client->Open<v1::PushIndexRequest, v1::PushIndexResponse>(request);
    v1::PushIndexResponse response;
    while (stream->Read(&response)) {
      if (response.has_manifest()) {
        if (coming.count(response.manifest().digest()) == 0) continue;
        context.Out(absl::StrCat("Pushed ref ", response.manifest().reference(),
                                 " with digest: ", response.manifest().digest(), "\n"));
      } else if (response.has_index()) {
        context.Out(absl::StrCat(response.index().digest(), "\n"));
      }
    }
    GANTRY_RETURN_IF_ERROR(stream->Finish());
    if (purge_) GANTRY_RETURN_IF_ERROR(store.Remove(list));
    return 0;
  }

 private:
  bool insecure_ = false, purge_ = false;
};

class RemoveManifestAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    const ManifestStore store(context.environment());
    int status = 0;
    for (const std::string& name : args) {
      const absl::StatusOr<std::string> list = FullReference(name);
      const absl::Status removed = list.ok() ? store.Remove(*list) : list.status();
      if (removed.ok()) continue;
      context.Complain(removed);
      status = 1;
    }
    return status;
  }
};

}  // namespace

std::vector<Verb> ManifestVerbs() {
  return {{.name = "create",
           .arguments = "[OPTIONS] MANIFEST_LIST MANIFEST [MANIFEST...]",
           .summary = "Begin a manifest list of images that registries have",
           .examples = "  ctl manifest create localhost:5000/app:1 localhost:5000/app:1-amd64 "
                       "localhost:5000/app:1-arm64\n",
           .min_args = 2,
           .make = [] { return std::make_unique<CreateManifestAction>(); }},
          {.name = "annotate",
           .arguments = "[OPTIONS] MANIFEST_LIST MANIFEST",
           .summary = "Say for which platform a manifest of a list is",
           .examples = "  ctl manifest annotate --arch arm64 --variant v8 localhost:5000/app:1 "
                       "localhost:5000/app:1-arm64\n",
           .min_args = 2,
           .max_args = 2,
           .make = [] { return std::make_unique<AnnotateAction>(); }},
          {.name = "inspect",
           .arguments = "[OPTIONS] [MANIFEST_LIST] MANIFEST",
           .summary = "Show a manifest or a manifest list",
           .examples = "  ctl manifest inspect --verbose debian:12\n",
           .min_args = 1,
           .max_args = 2,
           .make = [] { return std::make_unique<InspectAction>(); }},
          {.name = "push",
           .arguments = "[OPTIONS] MANIFEST_LIST",
           .summary = "Send a manifest list to its registry",
           .examples = "  ctl manifest push --purge localhost:5000/app:1\n",
           .min_args = 1,
           .max_args = 1,
           .make = [] { return std::make_unique<PushAction>(); }},
          {.name = "rm",
           .arguments = "MANIFEST_LIST [MANIFEST_LIST...]",
           .summary = "Forget manifest lists that were begun here",
           .examples = "  ctl manifest rm localhost:5000/app:1\n",
           .min_args = 1,
           .make = [] { return std::make_unique<RemoveManifestAction>(); }}};
}

}  // namespace gantry::ctl
