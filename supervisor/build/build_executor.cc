#include "supervisor/build/build_executor.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

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
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "glog/logging.h"

#include "base/cancel_token.h"
#include "base/clock.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "base/tar/tree_writer.h"
#include "base/tar/writer.h"
#include "base/unique_fd.h"
#include "supervisor/build/build_context.h"
#include "supervisor/build/build_plan.h"
#include "supervisor/build/build_run.h"
#include "supervisor/build/dockerfile_parser.h"
#include "supervisor/build/git_source.h"
#include "supervisor/build/remote_files.h"
#include "supervisor/build/tar_source.h"
#include "supervisor/oci/platform.h"

namespace gantry::build {
namespace {

constexpr size_t kMaxDockerfileBytes = 16 << 20;

std::string RandomName() {
  std::string random(8, '\0');
  while (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
  }
  return absl::BytesToHexString(random);
}

absl::StatusOr<std::unique_ptr<BuildContext>> TakeContext(const v1::BuildRequest::Open& request,
                                                          BuildClient& client,
                                                          const BuildContext::Places& places,
                                                          CancelToken* cancel, BuildLog& log) {
  if (!request.has_context()) return BuildContext::Empty(places);
  v1::BuildStep step = log.Begin("[internal] load build context");
  absl::StatusOr<std::unique_ptr<BuildContext>> context = BuildContext::Receive(
      client, 0, places, cancel,
      [&](int64_t received) { log.Progress(step, "transferring context", received, 0); });
  if (!context.ok()) {
    log.Fail(step, context.status());
    return context.status();
  }
  GANTRY_RETURN_IF_ERROR(log.End(step));
  return context;
}

// A context that is neither files of the client nor nothing: a repository, or a URL that leads to an
// archive of files or to a Dockerfile.
struct RemoteContext {
  std::unique_ptr<BuildContext> files;
  std::string dockerfile_text;  // "": it is among the files
};

absl::StatusOr<RemoteContext> FetchContext(const std::string& address,
                                           const BuildContext::Places& places, RemoteFiles& remote,
                                           CancelToken* cancel,
                                           const RemoteFiles::ProgressFn& progress) {
  RemoteContext context;
  if (IsGitUrl(address)) {
    GANTRY_ASSIGN_OR_RETURN(const GitSource source, ParseGitSource(address));
    GANTRY_ASSIGN_OR_RETURN(const RemoteFiles::Tree tree, remote.Clone(source, cancel));
    GANTRY_ASSIGN_OR_RETURN(context.files, BuildContext::Of(tree.directory));
    return context;
  }
  if (!IsUrl(address))
    return absl::InvalidArgumentError(absl::StrCat(
        "context ", address, ": neither a directory, a git repository nor an http or https URL"));
  GANTRY_ASSIGN_OR_RETURN(const RemoteFiles::File file, remote.Get(address, cancel, progress));
  GANTRY_ASSIGN_OR_RETURN(context.files, BuildContext::Empty(places));
  const UniqueFd directory(open(file.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return ErrnoToStatus(errno, file.directory);
  GANTRY_ASSIGN_OR_RETURN(const bool archive, IsArchive(directory.get(), file.name));
  if (archive) {
    GANTRY_RETURN_IF_ERROR(ExtractArchive(directory.get(), file.name, context.files->root(),
                                          std::make_pair(0u, 0u), cancel));
    return context;
  }
  GANTRY_ASSIGN_OR_RETURN(
      context.dockerfile_text,
      ReadFile(absl::StrCat(file.directory, "/", file.name), kMaxDockerfileBytes));
  return context;
}

absl::StatusOr<RemoteContext> TakeRemoteContext(const std::string& name, const std::string& address,
                                                const BuildContext::Places& places,
                                                RemoteFiles& remote, CancelToken* cancel,
                                                BuildLog& log) {
  v1::BuildStep step = log.Begin(absl::StrCat(
      name.empty() ? "[internal]" : absl::StrCat("[context ", name, "]"), " load ",
      IsGitUrl(address) ? "git source " : "remote build context ", WithoutPassword(address)));
  absl::StatusOr<RemoteContext> context = FetchContext(
      address, places, remote, cancel,
      [&](int64_t received, int64_t total) { log.Progress(step, "downloading", received, total); });
  if (!context.ok()) {
    log.Fail(step, context.status());
    return context.status();
  }
  GANTRY_RETURN_IF_ERROR(log.End(step));
  return context;
}

// The contexts beside the main one, by name in lower case. Those of the client come in their order.
absl::StatusOr<std::map<std::string, std::unique_ptr<BuildContext>>> TakeNamedContexts(
    const v1::BuildRequest::Open& request, BuildClient& client, const std::string& directory,
    BuildContext::Places places, RemoteFiles& remote, CancelToken* cancel, BuildLog& log) {
  std::map<std::string, std::unique_ptr<BuildContext>> contexts;
  for (int i = 0; i < request.contexts_size(); ++i) {
    const v1::NamedContext& one = request.contexts(i);
    const std::string name = absl::AsciiStrToLower(one.name());
    if (absl::StartsWith(one.source(), "docker-image://")) continue;
    places.directory = absl::StrCat(directory, "/context-", i + 1);
    if (!one.source().empty()) {
      GANTRY_ASSIGN_OR_RETURN(
          RemoteContext context,
          TakeRemoteContext(one.name(), one.source(), places, remote, cancel, log));
      if (!context.dockerfile_text.empty())
        return absl::InvalidArgumentError(
            absl::StrCat("context ", one.name(), ": ", one.source(), " is no archive"));
      contexts[name] = std::move(context.files);
      continue;
    }
    v1::BuildStep step = log.Begin(absl::StrCat("[context ", one.name(), "] load from client"));
    absl::StatusOr<std::unique_ptr<BuildContext>> context = BuildContext::Receive(
        client, i + 1, places, cancel,
        [&](int64_t received) { log.Progress(step, "transferring", received, 0); });
    if (!context.ok()) {
      log.Fail(step, context.status());
      return WithContext(context.status(), absl::StrCat("context ", one.name()));
    }
    GANTRY_RETURN_IF_ERROR(log.End(step));
    contexts[name] = *std::move(context);
  }
  return contexts;
}

// `context` is null before it was received: the text is in the request.
absl::StatusOr<Dockerfile> LoadDockerfile(const v1::BuildRequest::Open& request,
                                          const std::string& given, const BuildContext* context,
                                          BuildLog& log) {
  std::string name = request.dockerfile().empty() ? "Dockerfile" : request.dockerfile();
  v1::BuildStep step = log.Begin(absl::StrCat("[internal] load build definition from ", name));
  absl::StatusOr<std::string> text = given;
  if (context != nullptr) {
    text = context->ReadFile(name);
    if (absl::IsNotFound(text.status()) && request.dockerfile().empty()) {
      absl::StatusOr<std::string> other = context->ReadFile("dockerfile");
      if (other.ok()) text = std::move(other);
    }
  }
  absl::StatusOr<Dockerfile> parsed =
      text.ok() ? ParseDockerfile(*text, name) : absl::StatusOr<Dockerfile>(text.status());
  if (!parsed.ok()) {
    log.Fail(step, parsed.status());
    return parsed.status();
  }
  GANTRY_RETURN_IF_ERROR(log.End(step));
  return parsed;
}

absl::StatusOr<PlanOptions> OptionsOf(const v1::BuildRequest::Open& request) {
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
  if (!request.platform().empty()) {
    GANTRY_ASSIGN_OR_RETURN(options.target_platform, oci::ParsePlatform(request.platform()));
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

// SOURCE_DATE_EPOCH: of the request, or of the argument of that name.
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

// Pieces of an output, as messages.
class LogSink : public ByteSink {
 public:
  explicit LogSink(BuildLog& log) : log_(log) {}
  absl::Status Write(absl::string_view bytes) override {
    pending_.append(bytes.data(), bytes.size());
    return pending_.size() < kPieceBytes ? absl::OkStatus() : Flush();
  }
  absl::Status Flush() {
    if (pending_.empty()) return absl::OkStatus();
    v1::BuildResponse response;
    response.set_data(std::exchange(pending_, std::string()));
    return log_.Send(std::move(response));
  }

 private:
  static constexpr size_t kPieceBytes = 256 << 10;
  BuildLog& log_;
  std::string pending_;
};

// The target's files as a tar. They are seen by a thread of its own, and what that finds is sent by
// this one, through a pipe.
absl::Status SendFiles(core::ImageBuild::Session& session, const core::BuildRoot& root,
                       LogSink& out) {
  if (root.diff_ids.empty()) {
    TarWriter empty(out);
    GANTRY_RETURN_IF_ERROR(empty.Finish());
    return out.Flush();
  }
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "pipe");
  UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  absl::Status written;
  absl::StatusOr<std::thread> writer = NewThread([&] {
    FdSink sink(to.get());
    written = session.Look({&root}, [&](const core::ImageBuild::Session::Trees& trees) {
      TarWriter tar(sink);
      TreeWriter tree(tar, {.cancel = session.context().cancel});
      const absl::Status added = tree.AddChildren(
          UniqueFd(openat(trees.sources[0], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)), "");
      return added.ok() ? tar.Finish() : added;
    });
    to = UniqueFd();
  });
  if (!writer.ok()) return writer.status();
  FdSource source(from.get());
  const absl::Status sent = CopyStream(source, out).status();
  from = UniqueFd();  // ends the writer, where the client is gone
  writer->join();
  if (!sent.ok()) return sent;
  GANTRY_RETURN_IF_ERROR(written);
  return out.Flush();
}

absl::Status Export(const v1::BuildRequest::Open& request, core::ImageBuild::Session& session,
                    const BuiltStage& target, const content::Descriptor& image, BuildLog& log) {
  const std::vector<std::string> tags = {request.tags().begin(), request.tags().end()};
  LogSink out(log);
  switch (request.output().kind()) {
    case v1::BuildOutput::IMAGE:
      return session.Name(tags, image);
    case v1::BuildOutput::DOCKER:
      GANTRY_RETURN_IF_ERROR(session.Export(image, tags, true, out));
      return out.Flush();
    case v1::BuildOutput::OCI:
      GANTRY_RETURN_IF_ERROR(session.Export(image, tags, false, out));
      return out.Flush();
    case v1::BuildOutput::FILES:
      return SendFiles(session, target.root, out);
    case v1::BuildOutput::NONE:
      return absl::OkStatus();
    default:
      return absl::InvalidArgumentError("output: this kind is not known");
  }
}

}  // namespace

absl::Status BuildExecutor::Recover() {
  trash_.Recover();
  return RemoveTree(parts_.state_directory);
}

absl::Status BuildExecutor::Build(const core::CallContext& call,
                                  const v1::BuildRequest::Open& request, ByteSource& context,
                                  const BuildEventFn& events) {
  RequestClient client(request, context);
  return Build(call, request, client, events);
}

absl::Status BuildExecutor::Build(const core::CallContext& call,
                                  const v1::BuildRequest::Open& request, BuildClient& client,
                                  const BuildEventFn& events) {
  // Ends all stages, when the caller does or the first of them fails.
  CancelToken cancel(absl::InfiniteDuration(), call.cancel);
  core::CallContext context = call;
  context.cancel = &cancel;
  BuildLog log(events);
  GANTRY_ASSIGN_OR_RETURN(const PlanOptions options, OptionsOf(request));
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
  if (!request.dockerfile_text().empty()) {
    GANTRY_ASSIGN_OR_RETURN(dockerfile,
                            LoadDockerfile(request, request.dockerfile_text(), nullptr, log));
  }
  const BuildContext::Places places = {directory + "/context", &contexts_, &trash_};
  RemoteFiles remote(parts_.http, directory + "/remote");
  std::unique_ptr<BuildContext> tree;
  std::string remote_dockerfile;
  if (!request.remote_context().empty()) {
    GANTRY_ASSIGN_OR_RETURN(RemoteContext fetched, TakeRemoteContext("", request.remote_context(),
                                                                     places, remote, &cancel, log));
    tree = std::move(fetched.files);
    remote_dockerfile = std::move(fetched.dockerfile_text);
  } else {
    GANTRY_ASSIGN_OR_RETURN(tree, TakeContext(request, client, places, &cancel, log));
  }
  GANTRY_ASSIGN_OR_RETURN(const auto contexts, TakeNamedContexts(request, client, directory, places,
                                                                 remote, &cancel, log));
  if (!dockerfile.has_value()) {
    GANTRY_ASSIGN_OR_RETURN(dockerfile,
                            LoadDockerfile(request, remote_dockerfile,
                                           remote_dockerfile.empty() ? tree.get() : nullptr, log));
  }
  GANTRY_RETURN_IF_ERROR(
      tree->DropIgnored(request.dockerfile().empty() ? "Dockerfile" : request.dockerfile()));
  GANTRY_ASSIGN_OR_RETURN(const BuildPlan plan, PlanBuild(*std::move(dockerfile), options));
  for (const Lint& lint : plan.lints) log.Warn(lint.rule, lint.text, plan.file, lint.line);

  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<core::ImageBuild::Session> session,
                          parts_.images->Begin(context));
  BuildRun::Parts parts;
  parts.session = session.get();
  parts.cache = parts_.cache;
  parts.request = &request;
  parts.client = &client;
  parts.plan = &plan;
  parts.context = tree.get();
  parts.contexts = &contexts;
  parts.remote = &remote;
  parts.log = &log;
  parts.cancel = &cancel;
  parts.caches = &caches_;
  parts.directory = directory;
  parts.state_directory = state;
  parts.platform = request.platform();
  BuildRun run(parts);
  absl::StatusOr<const BuiltStage*> stages = run.RunStages();
  // What a build that failed has made stays for the next one, up to the ceiling.
  if (absl::Status kept = parts_.cache->KeepCeiling(); !kept.ok())
    LOG(WARNING) << "ns=" << call.ns << " build cache: " << kept;
  GANTRY_ASSIGN_OR_RETURN(const BuiltStage* target, std::move(stages));

  v1::BuildStep step = log.Begin("exporting to image");
  oci::ImageConfig config = target->evaluator->config();
  for (const auto& [key, value] : request.labels()) config.labels[key] = value;
  SetTimes(config.created, config);
  if (const std::optional<absl::Time> epoch = EpochOf(request)) ClampTimes(*epoch, config);
  absl::StatusOr<content::Descriptor> image = session->Write(target->root, config);
  absl::Status named = image.status();
  if (named.ok()) named = Export(request, *session, *target, *image, log);
  if (!named.ok()) {
    log.Fail(step, named);
    return named;
  }
  step.set_image_id(image->digest.str());
  GANTRY_RETURN_IF_ERROR(log.End(step));
  v1::BuildResponse response;
  v1::BuiltImage& built = *response.mutable_built();
  built.set_image_id(image->digest.str());
  built.mutable_descriptor()->set_media_type(image->media_type);
  built.mutable_descriptor()->set_digest(image->digest.str());
  built.mutable_descriptor()->set_size_bytes(image->size_bytes);
  *built.mutable_tags() = request.tags();
  return log.Send(std::move(response));
}

}  // namespace gantry::build
