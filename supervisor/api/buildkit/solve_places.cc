// Where results and caches of a build go, and what is said about it, as BuildKit's clients write
// it.
#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "supervisor/api/buildkit/solve_request.h"

namespace gantry::api::buildkit {
namespace {

absl::StatusOr<bool> FlagOrTrue(absl::string_view what, absl::string_view text) {
  bool flag = true;
  if (!text.empty() && !absl::SimpleAtob(text, &flag))
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": \"", text, "\" is neither true nor false"));
  return flag;
}

// What outputs and caches have in common. False: it is another key.
template <class Message>
absl::StatusOr<bool> ReadForm(const std::string& key, const std::string& value, Message& out) {
  if (key == "compression") {
    if (value == "gzip") {
      out.set_compression(v1::BuildOutput::GZIP);
    } else if (value == "zstd") {
      out.set_compression(v1::BuildOutput::ZSTD);
    } else if (value == "uncompressed") {
      out.set_compression(v1::BuildOutput::UNCOMPRESSED);
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("compression=", value, ": there is gzip, zstd and uncompressed"));
    }
  } else if (key == "compression-level") {
    int level = 0;
    if (!absl::SimpleAtoi(value, &level) || level < 0 || level > 22)
      return absl::InvalidArgumentError(
          absl::StrCat("compression-level=", value, ": a number from 0 to 22"));
    out.set_compression_level(level);
  } else if (key == "force-compression") {
    GANTRY_ASSIGN_OR_RETURN(const bool force, FlagOrTrue(key, value));
    out.set_force_compression(force);
  } else if (key == "oci-mediatypes") {
    GANTRY_ASSIGN_OR_RETURN(const bool oci, FlagOrTrue(key, value));
    out.set_oci_media_types(oci);
  } else if (key == "registry.insecure") {
    GANTRY_ASSIGN_OR_RETURN(const bool insecure, FlagOrTrue(key, value));
    out.set_insecure(insecure);
  } else {
    return false;
  }
  return true;
}

// "annotation.K", "annotation-index.K" and the like, also with a platform in brackets; "" for
// another key.
std::string AnnotationOf(absl::string_view key) {
  if (!absl::ConsumePrefix(&key, "annotation")) return "";
  std::string kind = "manifest";
  if (absl::ConsumePrefix(&key, "-")) {
    const size_t end = std::min(key.find('.'), key.find('['));
    if (end == absl::string_view::npos) return "";
    kind = std::string(key.substr(0, end));
    key.remove_prefix(end);
  }
  if (absl::StartsWith(key, "[")) key.remove_prefix(std::min(key.size(), key.find(']') + 1));
  if (!absl::ConsumePrefix(&key, ".")) return "";
  return absl::StrCat(kind, ":", key);
}

absl::Status ReadExporterKey(const std::string& type, const std::string& key,
                             const std::string& value, v1::BuildOutput& output) {
  GANTRY_ASSIGN_OR_RETURN(const bool form, ReadForm(key, value, output));
  if (form) return absl::OkStatus();
  if (key == "name") {
    for (const absl::string_view name : absl::StrSplit(value, ',', absl::SkipEmpty()))
      output.add_names(std::string(absl::StripAsciiWhitespace(name)));
  } else if (key == "push") {
    GANTRY_ASSIGN_OR_RETURN(const bool push, FlagOrTrue(key, value));
    output.set_push(push);
  } else if (key == "push-by-digest") {
    GANTRY_ASSIGN_OR_RETURN(const bool asked, FlagOrTrue(key, value));
    output.set_push_by_digest(asked);
  } else if (key == "store") {
    GANTRY_ASSIGN_OR_RETURN(const bool store, FlagOrTrue(key, value));
    output.set_no_store(!store);
  } else if (key == "rewrite-timestamp") {
    GANTRY_ASSIGN_OR_RETURN(const bool rewrite, FlagOrTrue(key, value));
    output.set_rewrite_timestamp(rewrite);
  } else if (key == "platform-split") {
    GANTRY_ASSIGN_OR_RETURN(const bool split, FlagOrTrue(key, value));
    output.set_platform_split(split);
  } else if (key == "tar") {
    GANTRY_ASSIGN_OR_RETURN(const bool tar, FlagOrTrue(key, value));
    if (!tar)
      return absl::UnimplementedError(
          absl::StrCat("output type ", type, " without tar is not supported"));
  } else if (const std::string annotation = AnnotationOf(key); !annotation.empty()) {
    (*output.mutable_annotations())[annotation] = value;
  }
  // What else there is names places of the client, or what is done here anyway.
  return absl::OkStatus();
}

std::string Find(const Attributes& attributes, const char* key) {
  const auto found = attributes.find(key);
  return found == attributes.end() ? "" : found->second;
}

}  // namespace

absl::StatusOr<Destination> ReadExporter(const std::string& type, const Attributes& attributes) {
  Destination out;
  if (type == "moby" || type == "image") {
    out.kind = Destination::Kind::kImage;
  } else if (type == "docker") {
    out.kind = Destination::Kind::kDocker;
    out.output.set_kind(v1::BuildOutput::DOCKER);
  } else if (type == "oci") {
    out.kind = Destination::Kind::kOci;
    out.output.set_kind(v1::BuildOutput::OCI);
  } else if (type == "tar") {
    out.kind = Destination::Kind::kTar;
    out.output.set_kind(v1::BuildOutput::FILES);
  } else if (type == "local") {
    out.kind = Destination::Kind::kLocal;
    out.output.set_kind(v1::BuildOutput::FILES);
  } else {
    return absl::UnimplementedError(absl::StrCat("output type ", type, " is not supported"));
  }
  for (const auto& [key, value] : attributes)
    GANTRY_RETURN_IF_ERROR(ReadExporterKey(type, key, value, out.output));
  return out;
}

absl::Status AddCacheImport(const std::string& type, const Attributes& attributes, Solve& solve) {
  v1::BuildCachePlace place;
  SolveStore store;
  if (type == "registry") {
    place.set_reference(Find(attributes, "ref"));
  } else if (type == "local") {
    place.set_kind(v1::BuildCachePlace::LOCAL);
    place.set_reference(Find(attributes, "src"));
    store.id = absl::StrCat("local:", place.reference());
    store.digest = Find(attributes, "digest");
    if (store.digest.empty())
      return absl::InvalidArgumentError(
          absl::StrCat("cache-from type=local,src=", place.reference(), ": no digest is named"));
  } else {
    solve.notes.push_back(
        absl::StrCat("cache-from type=", type, " is not read: there is registry and local"));
    return absl::OkStatus();
  }
  for (const auto& [key, value] : attributes)
    GANTRY_RETURN_IF_ERROR(ReadForm(key, value, place).status());
  *solve.request.add_cache_from() = std::move(place);
  solve.sources.caches.push_back(std::move(store));
  return absl::OkStatus();
}

absl::Status AddCacheExport(const std::string& type, const Attributes& attributes, Solve& solve) {
  v1::BuildCachePlace place;
  std::string store;
  if (type == "registry") {
    place.set_reference(Find(attributes, "ref"));
  } else if (type == "local") {
    place.set_kind(v1::BuildCachePlace::LOCAL);
    place.set_reference(Find(attributes, "dest"));
    store = absl::StrCat("local:", place.reference());
  } else if (type == "inline") {
    place.set_kind(v1::BuildCachePlace::INLINE);
  } else {
    return absl::UnimplementedError(
        absl::StrCat("cache-to type=", type, ": there is registry, local and inline"));
  }
  for (const auto& [key, value] : attributes) {
    GANTRY_ASSIGN_OR_RETURN(const bool form, ReadForm(key, value, place));
    if (form) continue;
    if (key == "mode") {
      if (value != "min" && value != "max")
        return absl::InvalidArgumentError(
            absl::StrCat("cache-to mode=", value, ": there is min and max"));
      place.set_all_steps(value == "max");
    } else if (key == "ignore-error") {
      GANTRY_ASSIGN_OR_RETURN(const bool ignore, FlagOrTrue(key, value));
      place.set_ignore_error(ignore);
    } else if (key == "image-manifest") {
      GANTRY_ASSIGN_OR_RETURN(const bool manifest, FlagOrTrue(key, value));
      place.set_index(!manifest);
    } else if (key == "tag") {
      place.set_tag(value);
    }
  }
  for (const v1::BuildCachePlace& other : solve.request.cache_to()) {
    if (other.kind() == place.kind() && other.reference() == place.reference())
      return absl::InvalidArgumentError(absl::StrCat("duplicate cache exports [", type, "]"));
  }
  *solve.request.add_cache_to() = std::move(place);
  solve.sources.cache_stores.push_back(std::move(store));
  return absl::OkStatus();
}

absl::Status AddAttestation(const std::string& kind, const std::string& value,
                            v1::BuildRequest::Open& open) {
  Attributes fields;
  for (const absl::string_view part : absl::StrSplit(value, ',', absl::SkipEmpty())) {
    const std::pair<std::string, std::string> field = absl::StrSplit(part, absl::MaxSplits('=', 1));
    fields[field.first] = field.second;
  }
  // A client asks for the smallest provenance by itself. It would give every build another image,
  // since it holds the time, so it is made only for people who ask.
  if (Find(fields, "inline-only") == "true" || Find(fields, "disabled") == "true" ||
      value == "false")
    return absl::OkStatus();
  v1::BuildAttestations& asked = *open.mutable_attestations();
  if (kind == "sbom") {
    if (!Find(fields, "generator").empty())
      return absl::UnimplementedError(absl::StrCat(
          "sbom generator=", fields["generator"],
          ": other generators are not run; the built-in one reads the databases of dpkg and apk"));
    asked.set_sbom(true);
    return absl::OkStatus();
  }
  if (kind != "provenance")
    return absl::UnimplementedError(
        absl::StrCat("attest type=", kind, ": there is provenance and sbom"));
  asked.set_provenance(Find(fields, "mode") == "max" ? v1::BuildAttestations::MAX
                                                     : v1::BuildAttestations::MIN);
  asked.set_slsa_version(Find(fields, "version"));
  asked.set_builder_id(Find(fields, "builder-id"));
  asked.set_reproducible(Find(fields, "reproducible") == "true");
  return absl::OkStatus();
}

}  // namespace gantry::api::buildkit
