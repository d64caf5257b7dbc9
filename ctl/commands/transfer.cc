#include "ctl/commands/transfer.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "base/status_macros.h"
#include "ctl/registry_config.h"
#include "ctl/terminal.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {

absl::StatusOr<ProgressView::Style> ProgressStyle(bool quiet, absl::string_view format,
                                                  int out_fd) {
  if (format == "json") return ProgressView::Style::kJson;
  if (!format.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--format: \"", format, "\"; progress can be shown as json"));
  }
  if (quiet) return ProgressView::Style::kSilent;
  return IsTerminal(out_fd) ? ProgressView::Style::kBars : ProgressView::Style::kLines;
}

ProgressView MakeProgress(Context& context, ProgressView::Style style, bool to_stderr) {
  const int fd = to_stderr ? context.err_fd() : context.out_fd();
  const WindowSize window = TerminalWindow(fd).value_or(WindowSize{80, 24});
  return ProgressView(
      style,
      [&context, to_stderr](absl::string_view text) {
        to_stderr ? context.ErrRaw(text) : context.OutRaw(text);
      },
      [] { return absl::Now(); }, window.width, window.height);
}

absl::StatusOr<v1::RegistryAuth> AuthFor(Context& context, absl::string_view reference) {
  const std::string registry = RegistryOfReference(reference);
  GANTRY_ASSIGN_OR_RETURN(RegistryConfig config, RegistryConfig::Load(context.environment()));
  GANTRY_ASSIGN_OR_RETURN(Credential credential, config.Find(registry));
  v1::RegistryAuth auth;
  if (credential.empty()) return auth;
  auth.set_server_address(registry);
  auth.set_username(credential.username);
  auth.set_password(credential.password);
  auth.set_identity_token(credential.identity_token);
  auth.set_registry_token(credential.registry_token);
  return auth;
}

absl::Status PullImage(Context& context, const std::string& reference, const std::string& platform,
                       bool all_tags, ProgressView& view,
                       const std::function<void(const v1::PulledImage&)>& on_pulled) {
  GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::PullRequest request;
  request.set_reference(reference);
  request.set_platform(platform);
  request.set_all_tags(all_tags);
  GANTRY_ASSIGN_OR_RETURN(*request.mutable_auth(), AuthFor(context, reference));
  if (!all_tags && MayBeReference(reference)) {
    const std::string repository = RepositoryOf(reference);
    const size_t slash = reference.rfind('/');
    const size_t mark = reference.find_first_of("@:", slash == reference.npos ? 0 : slash);
    view.SetTitle(absl::StrCat(mark == reference.npos ? "latest" : reference.substr(mark + 1),
                               ": Pulling from ", repository.substr(repository.find('/') + 1)));
  }
  auto stream = client->Open<v1::PullRequest, v1::PullResponse>(request);
  v1::PullResponse response;
  while (stream->Read(&response)) {
    switch (response.event_case()) {
      case v1::PullResponse::kProgress:
        view.Update(response.progress());
        break;
      case v1::PullResponse::kMessage:
        view.Message(response.message());
        break;
      case v1::PullResponse::kPulled:
        view.Finish();
        on_pulled(response.pulled());
        break;
      case v1::PullResponse::EVENT_NOT_SET:
        break;
    }
  }
  view.Finish();
  return stream->Finish();
}

bool MayBeReference(absl::string_view image) {
  image = image.substr(0, image.find('@'));
  const size_t slash = image.find('/');
  const absl::string_view first = image.substr(0, slash);
  if (slash != image.npos && (first.find_first_of(".:") != first.npos || first == "localhost")) {
    image.remove_prefix(slash + 1);
  }
  const absl::string_view repository = image.substr(0, image.rfind(':'));
  return !repository.empty() && repository.find_first_not_of(
                                    "abcdefghijklmnopqrstuvwxyz0123456789._-/") == repository.npos;
}

std::string RepositoryOf(absl::string_view reference) {
  reference = reference.substr(0, reference.find('@'));
  const size_t slash = reference.rfind('/');
  const size_t colon = reference.find(':', slash == reference.npos ? 0 : slash);
  absl::string_view name = reference.substr(0, colon);
  const std::string registry = RegistryOfReference(reference);
  const absl::string_view first = name.substr(0, name.find('/'));
  if (first == registry || first == "index.docker.io") name.remove_prefix(first.size() + 1);
  const bool official = registry == "docker.io" && name.find('/') == name.npos;
  return absl::StrCat(registry, official ? "/library/" : "/", name);
}

bool NamesNoTag(absl::string_view reference) {
  if (reference.find('@') != reference.npos) return false;
  const size_t slash = reference.rfind('/');
  return reference.find(':', slash == reference.npos ? 0 : slash) == reference.npos;
}

absl::StatusOr<bool> ImageExists(Context& context, const std::string& reference) {
  GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::InspectImageRequest request;
  request.set_image(reference);
  v1::InspectImageResponse response;
  const absl::Status status = client->Call(request, &response);
  if (status.ok()) return true;
  if (absl::IsNotFound(status)) return false;
  return status;
}

std::string PullStatus(const v1::PulledImage& image) {
  return absl::StrCat(
      "Status: ", image.up_to_date() ? "Image is up to date for " : "Downloaded newer image for ",
      image.reference());
}

}  // namespace gantry::ctl
