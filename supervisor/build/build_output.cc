#include "supervisor/build/build_output.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <map>
#include <thread>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include <nlohmann/json.hpp>

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "base/tar/tree_writer.h"
#include "base/tar/writer.h"
#include "base/unique_fd.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "supervisor/build/build_plan.h"
#include "supervisor/core/build_exchange.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/oci/json_document.h"

namespace gantry::build {
namespace {

constexpr size_t kPieceBytes = 256 << 10;
constexpr char kReferenceType[] = "vnd.docker.reference.type";
constexpr char kReferenceDigest[] = "vnd.docker.reference.digest";
constexpr char kPredicateType[] = "in-toto.io/predicate-type";

// Relabels manifest and layers as docker's or as OCI's; the bytes of layers are the same in both.
absl::Status SetFamily(bool oci, core::BuildRoot& root) {
  root.manifest.media_type = oci ? oci::kOciManifest : oci::kDockerManifest;
  for (content::Descriptor& layer : root.manifest.layers) {
    GANTRY_ASSIGN_OR_RETURN(const Compression compression, core::CompressionOf(layer.media_type));
    layer.media_type = core::LayerMediaType(compression, !oci);
  }
  return absl::OkStatus();
}

// The annotations of one kind: "index:KEY" and the like, "KEY" alone for a manifest's.
std::map<std::string, std::string> AnnotationsOf(const v1::BuildOutput& output,
                                                 absl::string_view kind) {
  std::map<std::string, std::string> out;
  for (const auto& [key, value] : output.annotations()) {
    absl::string_view name = key;
    std::string given = "manifest";
    for (const char* one : {"index", "manifest", "index-descriptor", "manifest-descriptor"}) {
      if (absl::ConsumePrefix(&name, absl::StrCat(one, ":"))) {
        given = one;
        break;
      }
    }
    if (given == kind) out[std::string(name)] = value;
  }
  return out;
}

// The configuration with records of the cache in it, which no field of the struct holds.
absl::Status AddInlineCache(const std::vector<core::CacheStep>& steps, oci::ImageConfig& config) {
  GANTRY_ASSIGN_OR_RETURN(nlohmann::json document, oci::ParseJson(oci::PrintImageConfig(config),
                                                                  "configuration of the image"));
  document[core::kInlineCache] = absl::Base64Escape(core::PrintInlineCache(steps));
  config.original = oci::PrintJson(document);
  return absl::OkStatus();
}

v1::Descriptor Shown(const content::Descriptor& descriptor) {
  v1::Descriptor out;
  out.set_media_type(descriptor.media_type);
  out.set_digest(descriptor.digest.str());
  out.set_size_bytes(descriptor.size_bytes);
  if (descriptor.platform.has_value()) out.set_platform(PlatformText(*descriptor.platform));
  for (const auto& [key, value] : descriptor.annotations) (*out.mutable_annotations())[key] = value;
  return out;
}

const char* StepName(const v1::BuildOutput& output) {
  switch (output.kind()) {
    case v1::BuildOutput::DOCKER:
      return "exporting to docker image format";
    case v1::BuildOutput::OCI:
      return "exporting to oci image format";
    case v1::BuildOutput::FILES:
      return "exporting to client";
    default:
      return "exporting to image";
  }
}

// A directory's name for a platform.
std::string DirectoryOf(const content::Platform& platform) {
  return absl::StrCat(platform.os, "_", platform.architecture, platform.variant.empty() ? "" : "_",
                      platform.variant);
}

}  // namespace

absl::Status LogSink::Write(absl::string_view bytes) {
  pending_.append(bytes.data(), bytes.size());
  return pending_.size() < kPieceBytes ? absl::OkStatus() : Flush();
}

absl::Status LogSink::Flush() {
  if (pending_.empty()) return absl::OkStatus();
  v1::BuildResponse response;
  if (place_ == 0) {
    response.set_data(std::exchange(pending_, std::string()));
  } else {
    response.mutable_more_data()->set_place(place_);
    response.mutable_more_data()->set_data(std::exchange(pending_, std::string()));
  }
  return log_.Send(std::move(response));
}

absl::Status WhileTelling(BuildLog& log, CancelToken& cancel,
                          const std::function<absl::Status()>& work) {
  absl::Status done;
  log.AddSender();
  absl::StatusOr<std::thread> thread = NewThread([&] {
    done = work();
    log.RemoveSender();
  });
  if (!thread.ok()) {
    log.RemoveSender();
    return thread.status();
  }
  log.Pump([&] { cancel.Cancel("the client has gone"); });
  thread->join();
  return done;
}

std::vector<std::string> BuildOutput::NamesOf(const v1::BuildOutput& output) const {
  if (output.names_size() > 0) return {output.names().begin(), output.names().end()};
  return {parts_.request->tags().begin(), parts_.request->tags().end()};
}

absl::StatusOr<content::Descriptor> BuildOutput::WritePlatform(const v1::BuildOutput& output,
                                                               const BuiltPlatform& built) {
  core::BuildRoot root = built.root;
  if (output.has_oci_media_types())
    GANTRY_RETURN_IF_ERROR(SetFamily(output.oci_media_types(), root));
  core::LayerForm form = FormOf(output);
  // A level alone is meant for what is compressed as it would be.
  if (form.level != 0 && !form.compression.has_value()) form.compression = Compression::kGzip;
  if (output.force_compression() && form.compression.has_value()) {
    GANTRY_ASSIGN_OR_RETURN(root, parts_.session->exchange().Convert(root, 0, form));
  }
  if (output.rewrite_timestamp() && parts_.epoch.has_value()) form.newest = *parts_.epoch;
  if (!(form == core::LayerForm())) {
    GANTRY_ASSIGN_OR_RETURN(root,
                            parts_.session->exchange().Convert(root, built.base_layers, form));
  }
  root.manifest.annotations = AnnotationsOf(output, "manifest");
  oci::ImageConfig config = built.config;
  config.diff_ids = root.diff_ids;
  if (!built.inline_cache.empty())
    GANTRY_RETURN_IF_ERROR(AddInlineCache(built.inline_cache, config));
  GANTRY_ASSIGN_OR_RETURN(content::Descriptor image,
                          parts_.session->Write(root, std::move(config)));
  image.platform = built.platform;
  image.annotations = AnnotationsOf(output, "manifest-descriptor");
  return image;
}

absl::StatusOr<content::Descriptor> BuildOutput::WriteAttestations(
    const std::vector<std::string>& names, const BuiltPlatform& built,
    const content::Descriptor& image) {
  const v1::BuildAttestations& asked = parts_.request->attestations();
  oci::Manifest manifest;
  manifest.media_type = oci::kOciManifest;
  std::vector<content::Digest> diff_ids;
  const auto add = [&](const std::string& type, engine::Value predicate) -> absl::Status {
    GANTRY_ASSIGN_OR_RETURN(
        content::Descriptor blob,
        parts_.session->WriteDocument(
            Statement(type, std::move(predicate), names, built.platform, image.digest), kInToto));
    diff_ids.push_back(blob.digest);
    blob.annotations[kPredicateType] = type;
    manifest.layers.push_back(std::move(blob));
    return absl::OkStatus();
  };
  if (built.packages.has_value()) {
    const std::string name = names.empty() ? "image" : names[0];
    GANTRY_RETURN_IF_ERROR(
        add(kSpdxPredicate, SpdxDocument(*built.packages, name, built.facts.finished)));
  }
  if (asked.provenance() != v1::BuildAttestations::NO_PROVENANCE)
    GANTRY_RETURN_IF_ERROR(add(ProvenanceType(asked), Provenance(built.facts)));
  oci::ImageConfig config;
  config.platform.os = "unknown";
  config.platform.architecture = "unknown";
  config.diff_ids = diff_ids;
  GANTRY_ASSIGN_OR_RETURN(manifest.config, parts_.session->WriteDocument(
                                               oci::PrintImageConfig(config), oci::kOciConfig));
  GANTRY_ASSIGN_OR_RETURN(content::Descriptor described, parts_.session->WriteManifest(manifest));
  described.platform = config.platform;
  described.annotations[kReferenceType] = "attestation-manifest";
  described.annotations[kReferenceDigest] = image.digest.str();
  return described;
}

absl::Status BuildOutput::SendTrees(const v1::BuildOutput& output, ByteSink& out) {
  // The trees are seen by a thread of its own, and what that finds is sent by this one.
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "pipe");
  UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  const bool split = output.platform_split() || built_.size() > 1;
  const v1::BuildAttestations& asked = parts_.request->attestations();
  const auto write = [&](TarWriter& tar) -> absl::Status {
    for (const BuiltPlatform& built : built_) {
      const std::string below = split ? DirectoryOf(built.platform) : "";
      const std::string prefix = split ? below + "/" : "";
      if (split) {
        TarEntry directory;
        directory.type = TarType::kDirectory;
        directory.path = prefix;
        directory.mode = 0755;
        GANTRY_RETURN_IF_ERROR(tar.WriteEntry(directory));
      }
      if (!built.root.diff_ids.empty()) {
        GANTRY_RETURN_IF_ERROR(
            parts_.session->Look({&built.root}, [&](const core::ImageBuild::Session::Trees& trees) {
              TreeWriter tree(tar, {.cancel = parts_.cancel});
              return tree.AddChildren(
                  UniqueFd(openat(trees.sources[0], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)),
                  below);
            }));
      }
      const auto add = [&](const char* name, const std::string& text) {
        TarEntry entry;
        entry.path = prefix + name;
        entry.mode = 0644;
        return tar.WriteFile(entry, text);
      };
      if (built.packages.has_value())
        GANTRY_RETURN_IF_ERROR(
            add("sbom.spdx.json",
                SpdxDocument(*built.packages, "files", built.facts.finished).ToJson()));
      if (asked.provenance() != v1::BuildAttestations::NO_PROVENANCE)
        GANTRY_RETURN_IF_ERROR(add("provenance.json", Provenance(built.facts).ToJson()));
    }
    return tar.Finish();
  };
  absl::Status written;
  absl::StatusOr<std::thread> writer = NewThread([&] {
    FdSink sink(to.get());
    TarWriter tar(sink);
    written = write(tar);
    to = UniqueFd();
  });
  if (!writer.ok()) return writer.status();
  FdSource source(from.get());
  const absl::Status sent = CopyStream(source, out).status();
  from = UniqueFd();  // ends the writer, where the client is gone
  writer->join();
  if (!sent.ok()) return sent;
  return written;
}

absl::Status BuildOutput::Push(const v1::BuildOutput& output, const std::vector<std::string>& names,
                               const content::Descriptor& target) {
  if (names.empty())
    return absl::InvalidArgumentError("push: the image has no name; give it one (--tag)");
  for (const std::string& name : names) {
    v1::BuildStep step = parts_.log->Begin(absl::StrCat("pushing ", name));
    GANTRY_ASSIGN_OR_RETURN(const distribution::Reference reference,
                            distribution::Reference::Parse(name));
    std::string place = name;
    if (output.push_by_digest()) {
      if (name.find(':', name.rfind('/') + 1) != std::string::npos)
        return absl::InvalidArgumentError(
            absl::StrCat("push ", name, ": can't push tagged ref by digest; name the repository"));
      place = reference.WithDigest(target.digest).canonical();
    }
    GANTRY_ASSIGN_OR_RETURN(const v1::RegistryAuth auth,
                            parts_.client->Credentials(reference.domain(), parts_.cancel));
    const absl::Status pushed = WhileTelling(*parts_.log, *parts_.cancel, [&] {
      return parts_.session->exchange().Push(
          {place}, target, auth, output.insecure(), [&](const v1::Progress& progress) {
            if (progress.id().empty()) return;  // of the push as a whole
            parts_.log->Progress(step, progress.id(), progress.current_bytes(),
                                 progress.total_bytes());
          });
    });
    if (!pushed.ok()) {
      parts_.log->Fail(step, pushed);
      return WithContext(pushed, absl::StrCat("push ", name));
    }
    GANTRY_RETURN_IF_ERROR(parts_.log->End(step));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::BuiltImage> BuildOutput::WriteOne(const v1::BuildOutput& output,
                                                     uint32_t place) {
  const v1::BuildAttestations& asked = parts_.request->attestations();
  const std::vector<std::string> names = NamesOf(output);
  v1::BuiltImage result;
  LogSink out(*parts_.log, place);
  if (output.kind() == v1::BuildOutput::FILES && place > 0) {
    GANTRY_RETURN_IF_ERROR(SendTrees(output, out));
    GANTRY_RETURN_IF_ERROR(out.Flush());
    return result;
  }
  // docker's archives hold no index.
  const bool attested =
      (asked.sbom() || asked.provenance() != v1::BuildAttestations::NO_PROVENANCE) &&
      (output.kind() == v1::BuildOutput::IMAGE || output.kind() == v1::BuildOutput::OCI);
  if (output.kind() == v1::BuildOutput::DOCKER && built_.size() > 1)
    return absl::InvalidArgumentError(
        "output type=docker: a docker archive holds an image of one platform; use type=oci");
  oci::Index index;
  index.media_type = output.has_oci_media_types() && !output.oci_media_types() && !attested
                         ? oci::kDockerIndex
                         : oci::kOciIndex;
  for (const BuiltPlatform& built : built_) {
    GANTRY_ASSIGN_OR_RETURN(content::Descriptor image, WritePlatform(output, built));
    *result.add_manifests() = Shown(image);
    index.manifests.push_back(std::move(image));
  }
  if (attested) {
    for (size_t i = 0; i < built_.size(); ++i) {
      GANTRY_ASSIGN_OR_RETURN(content::Descriptor described,
                              WriteAttestations(names, built_[i], index.manifests[i]));
      index.manifests.push_back(std::move(described));
    }
  }
  content::Descriptor target = index.manifests[0];
  if (index.manifests.size() > 1) {
    index.annotations = AnnotationsOf(output, "index");
    GANTRY_ASSIGN_OR_RETURN(target, parts_.session->WriteIndex(index));
  } else {
    target.platform.reset();
  }
  result.set_image_id(target.digest.str());
  *result.mutable_descriptor() = Shown(target);
  for (const std::string& name : names) result.add_tags(name);
  if (asked.provenance() != v1::BuildAttestations::NO_PROVENANCE)
    result.set_provenance(Provenance(built_[0].facts).ToJson());
  switch (output.kind()) {
    case v1::BuildOutput::IMAGE:
      // A repository is no name for an image of this machine.
      if (!output.no_store())
        GANTRY_RETURN_IF_ERROR(parts_.session->Name(
            output.push_by_digest() ? std::vector<std::string>() : names, target));
      if (output.push()) GANTRY_RETURN_IF_ERROR(Push(output, names, target));
      return result;
    case v1::BuildOutput::DOCKER:
    case v1::BuildOutput::OCI:
      GANTRY_RETURN_IF_ERROR(parts_.session->exchange().Export(
          target, names, output.kind() == v1::BuildOutput::DOCKER, out));
      GANTRY_RETURN_IF_ERROR(out.Flush());
      return result;
    case v1::BuildOutput::FILES:
      GANTRY_RETURN_IF_ERROR(SendTrees(output, out));
      GANTRY_RETURN_IF_ERROR(out.Flush());
      return result;
    case v1::BuildOutput::NONE:
      return result;
    default:
      return absl::InvalidArgumentError("output: this kind is not known");
  }
}

absl::StatusOr<v1::BuiltImage> BuildOutput::Write() {
  std::vector<const v1::BuildOutput*> outputs = {&parts_.request->output()};
  for (const v1::BuildOutput& more : parts_.request->more_outputs()) outputs.push_back(&more);
  v1::BuiltImage first;
  for (size_t i = 0; i < outputs.size(); ++i) {
    v1::BuildStep step = parts_.log->Begin(StepName(*outputs[i]));
    absl::StatusOr<v1::BuiltImage> written = WriteOne(*outputs[i], static_cast<uint32_t>(i));
    if (!written.ok()) {
      parts_.log->Fail(step, written.status());
      return written.status();
    }
    step.set_image_id(written->image_id());
    GANTRY_RETURN_IF_ERROR(parts_.log->End(step));
    if (first.image_id().empty()) first = *std::move(written);
  }
  return first;
}

}  // namespace gantry::build
