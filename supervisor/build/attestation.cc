#include "supervisor/build/attestation.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "supervisor/build/build_plan.h"
#include "supervisor/distribution/url.h"

namespace gantry::build {
namespace {

using engine::Value;

constexpr char kStatement[] = "https://in-toto.io/Statement/v0.1";
constexpr char kBuildTypeV02[] = "https://mobyproject.org/buildkit@v1";
constexpr char kBuildTypeV1[] =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";

bool IsV02(const v1::BuildAttestations& asked) {
  return asked.slsa_version() == "v0.2" || asked.slsa_version() == "0.2";
}

std::string TimeText(absl::Time time) {
  return absl::FormatTime(absl::RFC3339_full, time, absl::UTCTimeZone());
}

// {"sha256": "..."}; a digest without an algorithm is a commit.
Value DigestMap(absl::string_view digest) {
  Value map = Value::EmptyObject();
  const size_t colon = digest.find(':');
  if (colon == absl::string_view::npos) {
    if (!digest.empty()) map.Set(digest.size() == 64 ? "sha256" : "sha1", digest);
  } else {
    map.Set(digest.substr(0, colon), digest.substr(colon + 1));
  }
  return map;
}

// What the client asked for, in the words of BuildKit's frontend.
Value ParametersOf(const BuildFacts& facts) {
  const v1::BuildRequest::Open& request = *facts.request;
  Value args = Value::EmptyObject();
  if (request.attestations().provenance() == v1::BuildAttestations::MAX) {
    for (const v1::BuildArgument& argument : request.arguments())
      args.Set(absl::StrCat("build-arg:", argument.name()), argument.value());
    std::map<std::string, std::string> labels(request.labels().begin(), request.labels().end());
    for (const auto& [key, value] : labels) args.Set(absl::StrCat("label:", key), value);
  }
  if (!request.target().empty()) args.Set("target", request.target());
  if (request.no_cache()) args.Set("no-cache", "");
  if (!request.network_mode().empty()) args.Set("force-network-mode", request.network_mode());
  for (const v1::NamedContext& context : request.contexts())
    args.Set(absl::StrCat("context:", context.name()),
             context.source().empty() ? absl::StrCat("local:", context.name()) : context.source());
  Value parameters = Value::EmptyObject();
  parameters.Set("frontend", "dockerfile.v0");
  parameters.Set("args", std::move(args));
  if (request.secrets_size() > 0) {
    Value secrets = Value::EmptyList();
    for (const v1::BuildSecret& secret : request.secrets())
      secrets.Append(Value::EmptyObject().Set("id", secret.id()).Set("optional", true));
    parameters.Set("secrets", std::move(secrets));
  }
  if (request.agents_size() > 0) {
    Value agents = Value::EmptyList();
    for (const std::string& id : request.agents())
      agents.Append(Value::EmptyObject().Set("id", id).Set("optional", true));
    parameters.Set("ssh", std::move(agents));
  }
  if (request.has_context() && request.remote_context().empty()) {
    Value locals = Value::EmptyList();
    for (const char* name : {"context", "dockerfile"})
      locals.Append(Value::EmptyObject().Set("name", name));
    parameters.Set("locals", std::move(locals));
  }
  return parameters;
}

Value MaterialsOf(const BuildFacts& facts) {
  Value list = Value::EmptyList();
  for (const Material& material : facts.materials) {
    Value one = Value::EmptyObject();
    one.Set("uri", material.uri);
    one.Set("digest", DigestMap(material.digest));
    list.Append(std::move(one));
  }
  return list;
}

Value StepsOf(const BuildFacts& facts) {
  Value steps = Value::EmptyList();
  for (size_t i = 0; i < facts.steps.size(); ++i)
    steps.Append(
        Value::EmptyObject().Set("id", absl::StrCat("step", i)).Set("name", facts.steps[i]));
  return steps;
}

// The Dockerfile, and where the client's files are kept.
Value MetadataOf(const BuildFacts& facts, bool full) {
  Value metadata = Value::EmptyObject();
  const auto& vcs = facts.request->attestations().vcs();
  if (!vcs.empty()) metadata.Set("vcs", Value::StringMap(vcs));
  if (full) {
    Value info = Value::EmptyObject();
    info.Set("filename", facts.dockerfile);
    info.Set("language", "Dockerfile");
    info.Set("data", absl::Base64Escape(facts.dockerfile_text));
    metadata.Set("source",
                 Value::EmptyObject().Set("infos", Value::EmptyList().Append(std::move(info))));
  }
  return metadata;
}

Value ProvenanceV02(const BuildFacts& facts, bool full) {
  const v1::BuildAttestations& asked = facts.request->attestations();
  Value source = Value::EmptyObject();
  if (!facts.request->remote_context().empty()) source.Set("uri", facts.request->remote_context());
  source.Set("entryPoint", facts.dockerfile);
  Value invocation = Value::EmptyObject();
  invocation.Set("configSource", std::move(source));
  invocation.Set("parameters", ParametersOf(facts));
  invocation.Set("environment", Value::EmptyObject().Set("platform", PlatformText(facts.builder)));
  Value completeness = Value::EmptyObject();
  completeness.Set("parameters", full);
  completeness.Set("environment", true);
  completeness.Set("materials", false);
  Value metadata = Value::EmptyObject();
  metadata.Set("buildInvocationID", facts.id);
  metadata.Set("buildStartedOn", TimeText(facts.started));
  metadata.Set("buildFinishedOn", TimeText(facts.finished));
  metadata.Set("completeness", std::move(completeness));
  metadata.Set("reproducible", asked.reproducible());
  metadata.Set("https://mobyproject.org/buildkit@v1#metadata", MetadataOf(facts, full));
  Value predicate = Value::EmptyObject();
  predicate.Set("builder", Value::EmptyObject().Set("id", asked.builder_id()));
  predicate.Set("buildType", kBuildTypeV02);
  predicate.Set("materials", MaterialsOf(facts));
  predicate.Set("invocation", std::move(invocation));
  if (full) predicate.Set("buildConfig", Value::EmptyObject().Set("steps", StepsOf(facts)));
  predicate.Set("metadata", std::move(metadata));
  return predicate;
}

Value ProvenanceV1(const BuildFacts& facts, bool full) {
  const v1::BuildAttestations& asked = facts.request->attestations();
  Value source = Value::EmptyObject();
  if (!facts.request->remote_context().empty()) source.Set("uri", facts.request->remote_context());
  source.Set("path", facts.dockerfile);
  Value external = Value::EmptyObject();
  external.Set("configSource", std::move(source));
  external.Set("request", ParametersOf(facts));
  Value internal = Value::EmptyObject();
  if (full) internal.Set("buildConfig", Value::EmptyObject().Set("steps", StepsOf(facts)));
  internal.Set("builderPlatform", PlatformText(facts.builder));
  Value definition = Value::EmptyObject();
  definition.Set("buildType", kBuildTypeV1);
  definition.Set("externalParameters", std::move(external));
  definition.Set("internalParameters", std::move(internal));
  definition.Set("resolvedDependencies", MaterialsOf(facts));
  Value metadata = Value::EmptyObject();
  metadata.Set("invocationId", facts.id);
  metadata.Set("startedOn", TimeText(facts.started));
  metadata.Set("finishedOn", TimeText(facts.finished));
  metadata.Set("buildkit_metadata", MetadataOf(facts, full));
  metadata.Set("buildkit_completeness",
               Value::EmptyObject().Set("request", full).Set("resolvedDependencies", false));
  metadata.Set("buildkit_reproducible", asked.reproducible());
  Value details = Value::EmptyObject();
  details.Set("builder", Value::EmptyObject().Set("id", asked.builder_id()));
  details.Set("metadata", std::move(metadata));
  Value predicate = Value::EmptyObject();
  predicate.Set("buildDefinition", std::move(definition));
  predicate.Set("runDetails", std::move(details));
  return predicate;
}

}  // namespace

std::string PurlOfImage(absl::string_view reference, const content::Platform& platform,
                        absl::string_view digest) {
  std::string name(reference.substr(0, reference.find('@')));
  std::string version = "latest";
  const size_t slash = name.rfind('/');
  const size_t colon = name.rfind(':');
  if (colon != std::string::npos && (slash == std::string::npos || colon > slash)) {
    version = name.substr(colon + 1);
    name.resize(colon);
  }
  std::vector<std::string> parts;
  for (const absl::string_view part : absl::StrSplit(name, '/'))
    parts.push_back(distribution::UrlEncode(part));
  std::vector<std::string> qualifiers;
  if (!digest.empty()) qualifiers.push_back(absl::StrCat("digest=", digest));
  if (!platform.os.empty())
    qualifiers.push_back(
        absl::StrCat("platform=", distribution::UrlEncode(PlatformText(platform))));
  return absl::StrCat("pkg:docker/", absl::StrJoin(parts, "/"), "@",
                      distribution::UrlEncode(version), qualifiers.empty() ? "" : "?",
                      absl::StrJoin(qualifiers, "&"));
}

std::string ProvenanceType(const v1::BuildAttestations& asked) {
  return IsV02(asked) ? "https://slsa.dev/provenance/v0.2" : "https://slsa.dev/provenance/v1";
}

Value Provenance(const BuildFacts& facts) {
  const v1::BuildAttestations& asked = facts.request->attestations();
  const bool full = asked.provenance() == v1::BuildAttestations::MAX;
  return IsV02(asked) ? ProvenanceV02(facts, full) : ProvenanceV1(facts, full);
}

std::string Statement(const std::string& predicate_type, Value predicate,
                      const std::vector<std::string>& names, const content::Platform& platform,
                      const content::Digest& subject) {
  Value subjects = Value::EmptyList();
  const auto add = [&](const std::string& name) {
    Value one = Value::EmptyObject();
    one.Set("name", name);
    one.Set("digest", DigestMap(subject.str()));
    subjects.Append(std::move(one));
  };
  for (const std::string& name : names) add(PurlOfImage(name, platform, ""));
  if (names.empty()) add("_");
  Value statement = Value::EmptyObject();
  statement.Set("_type", kStatement);
  statement.Set("predicateType", predicate_type);
  statement.Set("subject", std::move(subjects));
  statement.Set("predicate", std::move(predicate));
  return statement.ToJson();
}

}  // namespace gantry::build
