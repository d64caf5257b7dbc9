#include "supervisor/build/build_executor.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "glog/logging.h"

#include "base/cancel_token.h"
#include "base/clock.h"
#include "base/engine/ignore_file.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "base/tar/tree_writer.h"
#include "base/tar/writer.h"
#include "base/unique_fd.h"
#include "base/utf8.h"
#include "supervisor/build/attestation.h"
#include "supervisor/build/build_caches.h"
#include "supervisor/build/build_context.h"
#include "supervisor/build/build_inputs.h"
#include "supervisor/build/build_output.h"
#include "supervisor/build/build_plan.h"
#include "supervisor/build/build_run.h"
#include "supervisor/build/dockerfile_lint.h"
#include "supervisor/build/dockerfile_parser.h"
#include "supervisor/build/dockerfile_report.h"
#include "supervisor/build/emulation.h"
#include "supervisor/build/remote_files.h"
#include "supervisor/build/sbom.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/oci/platform.h"

namespace gantry::build {
namespace {

std::string RandomName() {
  std::string random(8, '\0');
  while (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
  }
  return absl::BytesToHexString(random);
}

// The platforms to build for, as they were asked for; "" for this machine's.
std::vector<std::string> PlatformsOf(const v1::BuildRequest::Open& request) {
  std::vector<std::string> platforms(request.platforms().begin(), request.platforms().end());
  if (platforms.empty()) platforms.push_back(request.platform());
  return platforms;
}

absl::StatusOr<PlanOptions> OptionsOf(const v1::BuildRequest::Open& request,
                                      const std::string& platform) {
  PlanOptions options;
  for (const v1::BuildArgument& argument : request.arguments()) {
    options.args[argument.name()] =
        argument.has_value() ? absl::optional<std::string>(argument.value()) : absl::nullopt;
  }
  options.target = request.target();
  for (const v1::NamedContext& context : request.contexts())
    options.contexts[absl::AsciiStrToLower(context.name())] = context.source();
  options.build_platform = oci::HostPlatform();
  options.build_platform.variant.clear();
  options.target_platform = options.build_platform;
  if (!platform.empty()) {
    GANTRY_ASSIGN_OR_RETURN(options.target_platform, oci::ParsePlatform(platform));
  }
  return options;
}

// Times of history entries that made no layer: that of the next layer for what comes before the
// first one, else that of the entry before.
void SetTimes(const std::string& base_created, oci::ImageConfig& config) {
  std::string time;
  for (const oci::History& entry : config.history) {
    if (!entry.created.empty()) {
      time = entry.created;
      break;
    }
  }
  if (time.empty()) time = base_created;
  if (time.empty())
    time = absl::FormatTime(absl::RFC3339_full, Clock::Real().Now(), absl::UTCTimeZone());
  for (oci::History& entry : config.history) {
    if (entry.created.empty()) {
      entry.created = time;
    } else {
      time = entry.created;
    }
  }
  config.created = time;
}

// Of the images that the build is to make: before its first step, not after its last.
absl::Status CheckNames(const v1::BuildRequest::Open& request) {
  std::vector<const v1::BuildOutput*> outputs = {&request.output()};
  for (const v1::BuildOutput& output : request.more_outputs()) outputs.push_back(&output);
  for (const std::string& tag : request.tags())
    GANTRY_RETURN_IF_ERROR(distribution::Reference::Parse(tag).status());
  for (const v1::BuildOutput* output : outputs) {
    for (const std::string& name : output->names())
      GANTRY_RETURN_IF_ERROR(distribution::Reference::Parse(name).status());
    if (output->push() && output->names().empty() && request.tags().empty())
      return absl::InvalidArgumentError("push: the image has no name; give it one (--tag)");
  }
  return absl::OkStatus();
}

bool IsTrue(const std::string& text) {
  bool value = false;
  return absl::SimpleAtob(text, &value) && value;
}

// The request with what its build arguments ask of the builder itself, whoever the client is.
absl::StatusOr<v1::BuildRequest::Open> WithArguments(v1::BuildRequest::Open request) {
  for (const v1::BuildArgument& argument : request.arguments()) {
    if (!argument.has_value() || argument.value().empty()) continue;
    const std::string& value = argument.value();
    if (argument.name() == "SOURCE_DATE_EPOCH") {
      int64_t seconds = 0;
      if (!absl::SimpleAtoi(value, &seconds))
        return absl::InvalidArgumentError(
            absl::StrCat("SOURCE_DATE_EPOCH: \"", value, "\" is not a number of seconds"));
      request.set_source_date_epoch(seconds);
    } else if (argument.name() == "BUILDKIT_CACHE_MOUNT_NS") {
      request.set_namespace_of_caches(value);
    } else if (argument.name() == "BUILDKIT_SANDBOX_HOSTNAME") {
      request.set_hostname(value);
    } else if (argument.name() == "BUILDKIT_INLINE_CACHE" && IsTrue(value) &&
               !WantsInlineCache(request)) {
      request.add_cache_to()->set_kind(v1::BuildCachePlace::INLINE);
    }
  }
  return request;
}

std::optional<absl::Time> EpochOf(const v1::BuildRequest::Open& request) {
  if (request.has_source_date_epoch()) return absl::FromUnixSeconds(request.source_date_epoch());
  return std::nullopt;
}

void ClampTimes(absl::Time epoch, oci::ImageConfig& config) {
  const std::string limit = absl::FormatTime(absl::RFC3339_full, epoch, absl::UTCTimeZone());
  const auto clamp = [&](std::string& text) {
    absl::Time time;
    std::string error;
    if (absl::ParseTime(absl::RFC3339_full, text, &time, &error) && time > epoch) text = limit;
  };
  for (oci::History& entry : config.history) clamp(entry.created);
  clamp(config.created);
}

// By which the client has left files out of its context, where it has sent them, too.
engine::IgnoreRules IgnoredOf(const v1::BuildRequest::Open& request, const BuildContext& context) {
  if (!request.remote_context().empty()) return {};
  if (!request.ignore_text().empty())
    return engine::IgnoreRules::Parse(request.ignore_text()).value_or(engine::IgnoreRules());
  const std::string file = request.dockerfile().empty() ? "Dockerfile" : request.dockerfile();
  for (const std::string& name : {file + ".dockerignore", std::string(".dockerignore")}) {
    const absl::StatusOr<std::string> text = context.ReadFile(name);
    if (!text.ok()) continue;
    return engine::IgnoreRules::Parse(*text).value_or(engine::IgnoreRules());
  }
  return {};
}

absl::StatusOr<v1::BuildReport> ReportOf(const std::string& call, const std::string& text,
                                         const Dockerfile& dockerfile, const BuildPlan& plan,
                                         const std::vector<Lint>& lints, const LintRules& rules) {
  std::vector<Lint> all = LintStages(plan);
  all.insert(all.end(), lints.begin(), lints.end());
  std::vector<Lint> reported;
  for (Lint& lint : all) {
    if (rules.Reports(lint)) reported.push_back(std::move(lint));
  }
  std::stable_sort(reported.begin(), reported.end(),
                   [](const Lint& a, const Lint& b) { return a.line < b.line; });
  GANTRY_ASSIGN_OR_RETURN(DockerfileReport found,
                          DescribeDockerfile(call, text, dockerfile, plan, reported));
  v1::BuildReport report;
  report.set_json(ToValidUtf8(found.json));
  report.set_text(ToValidUtf8(found.text));
  report.set_failed(found.failed);
  return report;
}

absl::StatusOr<PackageList> PackagesOf(core::ImageBuild::Session& session,
                                       const core::BuildRoot& root, BuildLog& log) {
  PackageList list;
  if (root.diff_ids.empty()) return list;
  v1::BuildStep step = log.Begin("listing packages of the image");
  const absl::Status listed =
      session.Look({&root}, [&](const core::ImageBuild::Session::Trees& trees) -> absl::Status {
        GANTRY_ASSIGN_OR_RETURN(list, ListPackages(trees.sources[0]));
        return absl::OkStatus();
      });
  if (!listed.ok()) {
    log.Fail(step, listed);
    return listed;
  }
  GANTRY_RETURN_IF_ERROR(log.End(step));
  return list;
}

}  // namespace

absl::Status BuildExecutor::Recover() {
  trash_.Recover();
  GANTRY_RETURN_IF_ERROR(RemoveTree(socket_directory()));
  return RemoveTree(parts_.state_directory);
}

absl::Status BuildExecutor::Build(const core::CallContext& call,
                                  const v1::BuildRequest::Open& request, ByteSource& context,
                                  const BuildEventFn& events) {
  RequestClient client(request, context);
  return Build(call, request, client, events);
}

absl::Status BuildExecutor::Build(const core::CallContext& call,
                                  const v1::BuildRequest::Open& asked, BuildClient& client,
                                  const BuildEventFn& events) {
  GANTRY_ASSIGN_OR_RETURN(const v1::BuildRequest::Open request, WithArguments(asked));
  // Ends all stages, when the caller does or the first of them fails.
  CancelToken cancel(absl::InfiniteDuration(), call.cancel);
  core::CallContext context = call;
  context.cancel = &cancel;
  BuildLog log(events);
  const absl::Time started = Clock::Real().Now();
  const std::vector<std::string> platforms = PlatformsOf(request);
  std::vector<PlanOptions> options;
  for (const std::string& platform : platforms) {
    GANTRY_ASSIGN_OR_RETURN(PlanOptions one, OptionsOf(request, platform));
    for (const PlanOptions& other : options) {
      if (other.target_platform == one.target_platform)
        return absl::InvalidArgumentError(
            absl::StrCat("platform ", platform, ": it is named twice"));
    }
    options.push_back(std::move(one));
  }
  GANTRY_RETURN_IF_ERROR(CheckCachePlaces(request));
  GANTRY_RETURN_IF_ERROR(CheckNames(request));
  const std::string name = RandomName();
  const std::string directory = absl::StrCat(parts_.root_directory, "/", name);
  const std::string state = absl::StrCat(parts_.state_directory, "/", name);
  absl::Cleanup remove = [&] {
    trash_.Take(directory);
    if (absl::Status removed = RemoveTree(state); !removed.ok())
      LOG(WARNING) << "files of a build: " << removed;
  };
  GANTRY_RETURN_IF_ERROR(MakeDirectories(directory, 0700));
  GANTRY_RETURN_IF_ERROR(MakeDirectories(state, 0700));
  // A mistake in a Dockerfile that is there already is found before files are sent for it.
  std::optional<Dockerfile> dockerfile;
  std::string text;
  if (!request.dockerfile_text().empty()) {
    GANTRY_ASSIGN_OR_RETURN(dockerfile, LoadDockerfile(request, nullptr, log, text));
  }
  RemoteFiles remote(parts_.http, directory + "/remote");
  const InputParts input_parts = {&request,  &client, {directory + "/context", &contexts_, &trash_},
                                  directory, &remote, &cancel,
                                  &log};
  GANTRY_ASSIGN_OR_RETURN(const BuildInputs inputs, TakeInputs(input_parts));
  if (!dockerfile.has_value()) {
    GANTRY_ASSIGN_OR_RETURN(dockerfile, LoadDockerfile(request, &inputs, log, text));
  }
  const std::string file = dockerfile->file;
  GANTRY_ASSIGN_OR_RETURN(const LintRules lint_rules, LintRules::Of(*dockerfile, options[0].args));
  std::vector<Lint> lints = LintDockerfile(*dockerfile, IgnoredOf(request, *inputs.context));
  GANTRY_RETURN_IF_ERROR(inputs.context->DropIgnored(
      request.dockerfile().empty() ? "Dockerfile" : request.dockerfile()));
  // Nothing is done before it is known that all of it can be.
  const Emulation emulation(options[0].build_platform);
  std::vector<BuildPlan> plans;
  for (const PlanOptions& one : options) {
    GANTRY_ASSIGN_OR_RETURN(BuildPlan plan, PlanBuild(*dockerfile, one));
    if (request.call().empty()) GANTRY_RETURN_IF_ERROR(emulation.Check(plan));
    plans.push_back(std::move(plan));
  }
  lints.insert(lints.end(), plans[0].lints.begin(), plans[0].lints.end());
  if (!request.call().empty()) {
    v1::BuildResponse response;
    GANTRY_ASSIGN_OR_RETURN(*response.mutable_report(), ReportOf(request.call(), text, *dockerfile,
                                                                 plans[0], lints, lint_rules));
    return log.Send(std::move(response));
  }
  std::stable_sort(lints.begin(), lints.end(),
                   [](const Lint& a, const Lint& b) { return a.line < b.line; });
  GANTRY_RETURN_IF_ERROR(ReportLints(lints, lint_rules, file, log));

  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<core::ImageBuild::Session> session,
                          parts_.images->Begin(context));
  std::vector<ClientLayout> cache_layouts;
  GANTRY_ASSIGN_OR_RETURN(const auto imports, ImportCaches(input_parts, *session, cache_layouts));
  const std::optional<absl::Time> epoch = EpochOf(request);
  std::vector<BuiltPlatform> built;
  std::vector<DoneStep> result_steps;
  std::vector<DoneStep> all_steps;
  for (size_t i = 0; i < plans.size(); ++i) {
    BuildRun::Parts parts;
    parts.session = session.get();
    parts.cache = parts_.cache;
    parts.request = &request;
    parts.client = &client;
    parts.plan = &plans[i];
    parts.context = inputs.context.get();
    parts.contexts = &inputs.contexts;
    parts.layouts = &inputs.layouts;
    for (const auto& imported : imports) parts.imports.push_back(imported.get());
    parts.emulation = &emulation;
    if (i == 0) parts.lint_rules = &lint_rules;
    parts.remote = &remote;
    parts.log = &log;
    parts.cancel = &cancel;
    parts.caches = &caches_;
    parts.init_path = parts_.init_path;
    parts.directory = directory;
    parts.state_directory = state;
    parts.platform = platforms[i];
    if (plans.size() > 1) parts.shown = PlatformText(plans[i].target_platform) + " ";
    BuildRun run(parts);
    absl::StatusOr<const BuiltStage*> stages = run.RunStages();
    // What a build that failed has made stays for the next one, up to the ceiling.
    if (absl::Status kept = parts_.cache->KeepCeiling(); !kept.ok())
      LOG(WARNING) << "ns=" << call.ns << " build cache: " << kept;
    GANTRY_ASSIGN_OR_RETURN(const BuiltStage* target, std::move(stages));
    BuiltPlatform one;
    one.platform = plans[i].target_platform;
    one.root = target->root;
    one.base_layers = target->base_layers;
    one.config = target->evaluator->config();
    for (const auto& [key, value] : request.labels()) one.config.labels[key] = value;
    SetTimes(one.config.created, one.config);
    if (epoch.has_value()) ClampTimes(*epoch, one.config);
    if (WantsInlineCache(request)) one.inline_cache = InlineSteps(target->root, target->steps);
    one.facts.request = &request;
    one.facts.id = name;
    one.facts.dockerfile = file;
    one.facts.dockerfile_text = text;
    one.facts.builder = options[0].build_platform;
    one.facts.materials = run.Materials();
    for (const int index : plans[i].order) {
      const Stage& stage = plans[i].stages[index];
      one.facts.steps.push_back(stage.from);
      for (const Instruction& instruction : stage.instructions)
        one.facts.steps.push_back(instruction.original);
    }
    one.facts.started = started;
    one.facts.finished = Clock::Real().Now();
    if (request.attestations().sbom()) {
      GANTRY_ASSIGN_OR_RETURN(one.packages, PackagesOf(*session, target->root, log));
    }
    result_steps.insert(result_steps.end(), target->steps.begin(), target->steps.end());
    const std::vector<DoneStep> steps = run.Steps();
    all_steps.insert(all_steps.end(), steps.begin(), steps.end());
    built.push_back(std::move(one));
  }
  BuildOutput output({&request, session.get(), &client, &log, &cancel, epoch}, std::move(built));
  GANTRY_ASSIGN_OR_RETURN(v1::BuiltImage image, output.Write());
  GANTRY_RETURN_IF_ERROR(ExportCaches(input_parts, *session, result_steps, all_steps));
  v1::BuildResponse response;
  *response.mutable_built() = std::move(image);
  return log.Send(std::move(response));
}

}  // namespace gantry::build
