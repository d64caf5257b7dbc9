#include "supervisor/build/build_inputs.h"

#include <errno.h>
#include <fcntl.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "supervisor/build/build_plan.h"
#include "supervisor/build/git_source.h"
#include "supervisor/build/tar_source.h"
#include "supervisor/core/layout_origin.h"

namespace gantry::build {
namespace {

constexpr size_t kMaxDockerfileBytes = 16 << 20;

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

// --build-arg BUILDKIT_CONTEXT_KEEP_GIT_DIR=1
bool KeepsGitDir(const v1::BuildRequest::Open& request) {
  bool keeps = false;
  for (const v1::BuildArgument& argument : request.arguments()) {
    if (argument.name() == "BUILDKIT_CONTEXT_KEEP_GIT_DIR" &&
        !absl::SimpleAtob(argument.value(), &keeps))
      keeps = false;
  }
  return keeps;
}

// A context that is neither files of the client nor nothing: a repository, or a URL that leads to
// an archive of files or to a Dockerfile.
struct RemoteContext {
  std::unique_ptr<BuildContext> files;
  std::string dockerfile_text;  // "": it is among the files
};

absl::StatusOr<RemoteContext> FetchContext(const std::string& address, bool keep_git_dir,
                                           const BuildContext::Places& places, RemoteFiles& remote,
                                           CancelToken* cancel,
                                           const RemoteFiles::ProgressFn& progress) {
  RemoteContext context;
  if (IsGitUrl(address)) {
    GANTRY_ASSIGN_OR_RETURN(GitSource source, ParseGitSource(address));
    source.keep_git_dir = source.keep_git_dir || keep_git_dir;
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
                                                bool keep_git_dir,
                                                const BuildContext::Places& places,
                                                RemoteFiles& remote, CancelToken* cancel,
                                                BuildLog& log) {
  v1::BuildStep step = log.Begin(absl::StrCat(
      name.empty() ? "[internal]" : absl::StrCat("[context ", name, "]"), " load ",
      IsGitUrl(address) ? "git source " : "remote build context ", WithoutPassword(address)));
  absl::StatusOr<RemoteContext> context = FetchContext(
      address, keep_git_dir, places, remote, cancel,
      [&](int64_t received, int64_t total) { log.Progress(step, "downloading", received, total); });
  if (!context.ok()) {
    log.Fail(step, context.status());
    return context.status();
  }
  GANTRY_RETURN_IF_ERROR(log.End(step));
  return context;
}

// "oci-layout://PATH:TAG" or "...@DIGEST", as the parts that name what is meant.
void SplitLayout(absl::string_view source, std::string& tag, std::string& digest) {
  const size_t at = source.rfind('@');
  if (at != absl::string_view::npos) {
    digest = std::string(source.substr(at + 1));
    source = source.substr(0, at);
  }
  const size_t colon = source.rfind(':');
  const size_t slash = source.rfind('/');
  if (colon != absl::string_view::npos && (slash == absl::string_view::npos || colon > slash))
    tag = std::string(source.substr(colon + 1));
}

absl::Status TakeNamedContext(const InputParts& parts, int index, BuildInputs& inputs) {
  const v1::NamedContext& one = parts.request->contexts(index);
  const std::string name = absl::AsciiStrToLower(one.name());
  absl::string_view source = one.source();
  if (absl::StartsWith(source, "docker-image://")) return absl::OkStatus();
  if (absl::ConsumePrefix(&source, kOciLayout)) {
    std::string tag, digest;
    SplitLayout(source, tag, digest);
    GANTRY_ASSIGN_OR_RETURN(inputs.layouts[name],
                            TakeLayout(parts, index + 1, one.name(), tag, digest));
    return absl::OkStatus();
  }
  BuildContext::Places places = parts.places;
  places.directory = absl::StrCat(parts.directory, "/context-", index + 1);
  if (!source.empty()) {
    GANTRY_ASSIGN_OR_RETURN(RemoteContext context,
                            TakeRemoteContext(one.name(), one.source(), KeepsGitDir(*parts.request),
                                              places, *parts.remote, parts.cancel, *parts.log));
    if (!context.dockerfile_text.empty())
      return absl::InvalidArgumentError(
          absl::StrCat("context ", one.name(), ": ", one.source(), " is not an archive"));
    inputs.contexts[name] = std::move(context.files);
    return absl::OkStatus();
  }
  v1::BuildStep step =
      parts.log->Begin(absl::StrCat("[context ", one.name(), "] load from client"));
  absl::StatusOr<std::unique_ptr<BuildContext>> context = BuildContext::Receive(
      *parts.client, index + 1, places, parts.cancel,
      [&](int64_t received) { parts.log->Progress(step, "transferring", received, 0); });
  if (!context.ok()) {
    parts.log->Fail(step, context.status());
    return WithContext(context.status(), absl::StrCat("context ", one.name()));
  }
  inputs.contexts[name] = *std::move(context);
  return parts.log->End(step);
}

}  // namespace

absl::StatusOr<ClientLayout> TakeLayout(const InputParts& parts, int index, const std::string& name,
                                        const std::string& tag, const std::string& digest) {
  ClientLayout layout;
  if (parts.client->ContextKey(index).empty()) {
    GANTRY_ASSIGN_OR_RETURN(layout.origin, parts.client->Origin(index, parts.cancel));
    return layout;
  }
  BuildContext::Places places = parts.places;
  places.directory = absl::StrCat(parts.directory, "/context-", index);
  v1::BuildStep step = parts.log->Begin(absl::StrCat("[context ", name, "] load OCI layout"));
  absl::StatusOr<std::unique_ptr<BuildContext>> files = BuildContext::Receive(
      *parts.client, index, places, parts.cancel,
      [&](int64_t received) { parts.log->Progress(step, "transferring", received, 0); });
  if (!files.ok()) {
    parts.log->Fail(step, files.status());
    return WithContext(files.status(), absl::StrCat("context ", name));
  }
  layout.files = *std::move(files);
  layout.origin = std::make_unique<core::LayoutOrigin>(layout.files->root(), name, tag, digest);
  GANTRY_RETURN_IF_ERROR(parts.log->End(step));
  return layout;
}

absl::StatusOr<BuildInputs> TakeInputs(const InputParts& parts) {
  BuildInputs inputs;
  if (!parts.request->remote_context().empty()) {
    GANTRY_ASSIGN_OR_RETURN(
        RemoteContext fetched,
        TakeRemoteContext("", parts.request->remote_context(), KeepsGitDir(*parts.request),
                          parts.places, *parts.remote, parts.cancel, *parts.log));
    inputs.context = std::move(fetched.files);
    inputs.dockerfile_text = std::move(fetched.dockerfile_text);
  } else {
    GANTRY_ASSIGN_OR_RETURN(inputs.context, TakeContext(*parts.request, *parts.client, parts.places,
                                                        parts.cancel, *parts.log));
  }
  // A report is about the Dockerfile alone.
  if (!parts.request->call().empty()) return inputs;
  for (int i = 0; i < parts.request->contexts_size(); ++i)
    GANTRY_RETURN_IF_ERROR(TakeNamedContext(parts, i, inputs));
  return inputs;
}

absl::StatusOr<Dockerfile> LoadDockerfile(const v1::BuildRequest::Open& request,
                                          const BuildInputs* inputs, BuildLog& log,
                                          std::string& text) {
  std::string name = request.dockerfile().empty() ? "Dockerfile" : request.dockerfile();
  v1::BuildStep step = log.Begin(absl::StrCat("[internal] load build definition from ", name));
  absl::StatusOr<std::string> found = request.dockerfile_text();
  if (inputs != nullptr && !inputs->dockerfile_text.empty()) {
    found = inputs->dockerfile_text;
  } else if (inputs != nullptr) {
    found = inputs->context->ReadFile(name);
    if (absl::IsNotFound(found.status()) && request.dockerfile().empty()) {
      absl::StatusOr<std::string> other = inputs->context->ReadFile("dockerfile");
      if (other.ok()) found = std::move(other);
    }
  }
  absl::StatusOr<Dockerfile> parsed =
      found.ok() ? ParseDockerfile(*found, name) : absl::StatusOr<Dockerfile>(found.status());
  if (!parsed.ok()) {
    log.Fail(step, parsed.status());
    return parsed.status();
  }
  text = *std::move(found);
  GANTRY_RETURN_IF_ERROR(log.End(step));
  return parsed;
}

}  // namespace gantry::build
