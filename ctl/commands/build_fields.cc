#include "ctl/commands/build_fields.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"

namespace gantry::ctl {
namespace {

using Fields = std::map<std::string, std::string>;

std::string Take(Fields& fields, const std::string& key) {
  const auto found = fields.find(key);
  if (found == fields.end()) return "";
  std::string value = std::move(found->second);
  fields.erase(found);
  return value;
}

absl::Status ParseProvenance(const std::string& flag, const std::string& text,
                             v1::BuildAttestations& out) {
  if (text == "false" || text == "0") return absl::OkStatus();
  out.set_provenance(v1::BuildAttestations::MIN);
  if (text.empty() || text == "true" || text == "1") return absl::OkStatus();
  // The mode alone, as in --provenance=max.
  Fields fields = text == "min" || text == "max" ? Fields{{"mode", text}} : FieldsOf(text);
  fields.erase("type");
  const std::string mode = Take(fields, "mode");
  if (mode == "max") {
    out.set_provenance(v1::BuildAttestations::MAX);
  } else if (!mode.empty() && mode != "min") {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, ": mode=", mode, ": there is min and max"));
  }
  out.set_slsa_version(Take(fields, "version"));
  if (!out.slsa_version().empty() && out.slsa_version() != "v1" && out.slsa_version() != "v0.2")
    return absl::InvalidArgumentError(
        absl::StrCat(flag, ": version=", out.slsa_version(), ": there is v1 and v0.2"));
  out.set_builder_id(Take(fields, "builder-id"));
  GANTRY_ASSIGN_OR_RETURN(const bool reproducible, TakeSwitch(flag, fields, "reproducible", false));
  out.set_reproducible(reproducible);
  GANTRY_ASSIGN_OR_RETURN(const bool disabled, TakeSwitch(flag, fields, "disabled", false));
  if (disabled) out.clear_provenance();
  return NoMore(flag, fields, "mode, version, builder-id, reproducible and disabled");
}

absl::Status ParseSbom(const std::string& flag, const std::string& text,
                       v1::BuildAttestations& out) {
  if (text == "false" || text == "0") return absl::OkStatus();
  out.set_sbom(true);
  if (text.empty() || text == "true" || text == "1") return absl::OkStatus();
  Fields fields = FieldsOf(text);
  fields.erase("type");
  if (fields.count("generator") > 0)
    return absl::InvalidArgumentError(
        absl::StrCat(flag,
                     ": generator=: other generators are not run; the built-in one reads the "
                     "databases of dpkg and apk"));
  GANTRY_ASSIGN_OR_RETURN(const bool disabled, TakeSwitch(flag, fields, "disabled", false));
  out.set_sbom(!disabled);
  return NoMore(flag, fields, "disabled");
}

}  // namespace

std::map<std::string, std::string> FieldsOf(const std::string& text) {
  std::vector<std::string> parts(1);
  bool quoted = false;
  for (const char c : text) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      parts.emplace_back();
    } else {
      parts.back().push_back(c);
    }
  }
  std::map<std::string, std::string> fields;
  for (const std::string& part : parts) {
    const std::pair<std::string, std::string> field = absl::StrSplit(part, absl::MaxSplits('=', 1));
    fields[field.first] = field.second;
  }
  return fields;
}

absl::StatusOr<bool> TakeSwitch(const std::string& flag, Fields& fields, const std::string& key,
                                bool missing) {
  if (fields.count(key) == 0) return missing;
  const std::string text = Take(fields, key);
  bool value = true;
  if (!text.empty() && !absl::SimpleAtob(text, &value))
    return absl::InvalidArgumentError(
        absl::StrCat(flag, ": ", key, "=", text, ": write true or false"));
  return value;
}

absl::Status NoMore(const std::string& flag, const Fields& fields, const std::string& known) {
  for (const auto& [key, value] : fields) {
    if (key.empty()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(flag, ": \"", key, "\" is not known; there is ", known));
  }
  return absl::OkStatus();
}

template <class Message>
absl::Status TakeForm(const std::string& flag, Fields& fields, Message& message) {
  const std::string compression = Take(fields, "compression");
  if (compression == "gzip") {
    message.set_compression(v1::BuildOutput::GZIP);
  } else if (compression == "zstd") {
    message.set_compression(v1::BuildOutput::ZSTD);
  } else if (compression == "uncompressed") {
    message.set_compression(v1::BuildOutput::UNCOMPRESSED);
  } else if (!compression.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(flag, ": compression=", compression,
                                                   ": there is gzip, zstd and uncompressed"));
  }
  const std::string level = Take(fields, "compression-level");
  int number = 0;
  if (!level.empty()) {
    const int highest = message.compression() == v1::BuildOutput::ZSTD ? 22 : 9;
    if (!absl::SimpleAtoi(level, &number) || number < 0 || number > highest)
      return absl::InvalidArgumentError(
          absl::StrCat(flag, ": compression-level=", level, ": a number from 0 to ", highest));
    message.set_compression_level(number);
  }
  GANTRY_ASSIGN_OR_RETURN(const bool force, TakeSwitch(flag, fields, "force-compression", false));
  message.set_force_compression(force);
  if (fields.count("oci-mediatypes") > 0) {
    GANTRY_ASSIGN_OR_RETURN(const bool oci, TakeSwitch(flag, fields, "oci-mediatypes", true));
    message.set_oci_media_types(oci);
  }
  GANTRY_ASSIGN_OR_RETURN(const bool insecure,
                          TakeSwitch(flag, fields, "registry.insecure", false));
  message.set_insecure(insecure);
  return absl::OkStatus();
}

template absl::Status TakeForm(const std::string&, Fields&, v1::BuildOutput&);
template absl::Status TakeForm(const std::string&, Fields&, v1::BuildCachePlace&);

absl::StatusOr<v1::BuildCachePlace> ParseCachePlace(const std::string& text, bool from,
                                                    std::string& directory) {
  const std::string flag = absl::StrCat(from ? "--cache-from " : "--cache-to ", text);
  v1::BuildCachePlace place;
  if (!absl::StrContains(text, '=')) {
    if (!from && text == "inline") {
      place.set_kind(v1::BuildCachePlace::INLINE);
    } else {
      place.set_reference(text);
    }
    return place;
  }
  Fields fields = FieldsOf(text);
  const std::string type = Take(fields, "type");
  std::string known = "type";
  if (type == "registry" || (type.empty() && fields.count("ref") > 0)) {
    place.set_reference(Take(fields, "ref"));
    known += ", ref";
    if (place.reference().empty())
      return absl::InvalidArgumentError(
          absl::StrCat(flag, ": name the cache, ref=REGISTRY/NAME:TAG"));
  } else if (type == "local") {
    place.set_kind(v1::BuildCachePlace::LOCAL);
    directory = Take(fields, from ? "src" : "dest");
    if (directory.empty())
      return absl::InvalidArgumentError(
          absl::StrCat(flag, ": name the directory, ", from ? "src=" : "dest="));
    place.set_reference(directory);
    place.set_tag(Take(fields, "tag"));
    known += from ? ", src, tag, digest" : ", dest, tag";
    if (from) place.set_digest(Take(fields, "digest"));
  } else if (type == "inline" && !from) {
    place.set_kind(v1::BuildCachePlace::INLINE);
  } else {
    return absl::InvalidArgumentError(absl::StrCat(flag, ": type=", type, ": there is registry",
                                                   from ? " and local" : ", local and inline"));
  }
  GANTRY_RETURN_IF_ERROR(TakeForm(flag, fields, place));
  if (!from) {
    const std::string mode = Take(fields, "mode");
    if (!mode.empty() && mode != "min" && mode != "max")
      return absl::InvalidArgumentError(
          absl::StrCat(flag, ": mode=", mode, ": there is min and max"));
    place.set_all_steps(mode == "max");
    GANTRY_ASSIGN_OR_RETURN(const bool ignore, TakeSwitch(flag, fields, "ignore-error", false));
    place.set_ignore_error(ignore);
    GANTRY_ASSIGN_OR_RETURN(const bool manifest, TakeSwitch(flag, fields, "image-manifest", true));
    place.set_index(!manifest);
    known += ", mode, ignore-error, image-manifest";
  }
  GANTRY_RETURN_IF_ERROR(
      NoMore(flag, fields,
             absl::StrCat(known,
                          ", compression, compression-level, force-compression, oci-mediatypes and "
                          "registry.insecure")));
  return place;
}

absl::Status ParseAttestations(const std::string& provenance, const std::string& sbom,
                               const std::vector<std::string>& attest,
                               v1::BuildRequest::Open& open) {
  v1::BuildAttestations asked;
  if (!provenance.empty())
    GANTRY_RETURN_IF_ERROR(
        ParseProvenance(absl::StrCat("--provenance ", provenance), provenance, asked));
  if (!sbom.empty()) GANTRY_RETURN_IF_ERROR(ParseSbom(absl::StrCat("--sbom ", sbom), sbom, asked));
  for (const std::string& text : attest) {
    const std::string flag = absl::StrCat("--attest ", text);
    const Fields fields = FieldsOf(text);
    const auto type = fields.find("type");
    const std::string kind = type == fields.end() ? text : type->second;
    if (kind == "provenance") {
      GANTRY_RETURN_IF_ERROR(ParseProvenance(flag, type == fields.end() ? "" : text, asked));
    } else if (kind == "sbom") {
      GANTRY_RETURN_IF_ERROR(ParseSbom(flag, type == fields.end() ? "" : text, asked));
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat(flag, ": there is type=provenance and type=sbom"));
    }
  }
  if (asked.sbom() || asked.provenance() != v1::BuildAttestations::NO_PROVENANCE)
    *open.mutable_attestations() = std::move(asked);
  return absl::OkStatus();
}

}  // namespace gantry::ctl
