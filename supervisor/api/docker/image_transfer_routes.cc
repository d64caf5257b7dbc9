#include "supervisor/api/docker/image_transfer_routes.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/engine/progress_json.h"
#include "base/engine/registry_auth_json.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "supervisor/api/docker/image_names.h"
#include "supervisor/api/docker/progress_stream.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/api/docker/router.h"
#include "supervisor/core/image_services.h"
#include "supervisor/distribution/reference.h"

namespace gantry::api::docker {
namespace {

using engine::LayerProgress;
using engine::StatusLine;

v1::RegistryAuth AuthOf(const Request& request) {
  return engine::RegistryAuthFromHeader(request.head().field("x-registry-auth"));
}

int64_t LengthOf(const Request& request) {
  int64_t length = 0;
  return absl::SimpleAtoi(request.head().field("content-length"), &length) ? length : 0;
}

// What a client sends behind the end of an archive is read, so that the connection can go on.
absl::Status Drain(ByteSource& body) {
  std::vector<char> piece(64 << 10);
  while (true) {
    GANTRY_ASSIGN_OR_RETURN(const size_t n, body.Read(piece.data(), piece.size()));
    if (n == 0) return absl::OkStatus();
  }
}

absl::Status Pull(core::ImageServices& images, Request& request) {
  const std::string name = NameWithTag(request.Query("fromImage"), request.Query("tag"));
  v1::PullRequest asked;
  asked.set_reference(name);
  GANTRY_ASSIGN_OR_RETURN(*asked.mutable_platform(), PlatformOf(request.Query("platform")));
  *asked.mutable_auth() = AuthOf(request);
  GANTRY_ASSIGN_OR_RETURN(const distribution::Reference bare,
                          distribution::Reference::ParseName(name));
  // A name alone means the whole repository; docker's command line always sends a tag.
  asked.set_all_tags(bare.tag().empty() && bare.digest().empty());

  MessageStream out(request);
  if (!asked.all_tags())
    out.SetPreamble(StatusLine(absl::StrCat("Pulling from ", bare.path()), bare.object()));
  ProgressQueue queue(LayerProgress::Work::kPull);
  v1::PulledImage pulled;
  const absl::Status result = RunWatched(request, queue, out, [&]() -> absl::Status {
    GANTRY_ASSIGN_OR_RETURN(
        pulled, images.pull.Pull(request.context(), asked,
                                 [&queue](const v1::Progress& step) { queue.Add(step); }));
    return absl::OkStatus();
  });
  if (!result.ok()) return out.Finish(PullError(result, bare.familiar()));
  if (!asked.all_tags())
    GANTRY_RETURN_IF_ERROR(out.Send(StatusLine(absl::StrCat("Digest: ", pulled.digest()))));
  GANTRY_RETURN_IF_ERROR(
      out.Send(StatusLine(absl::StrCat(pulled.up_to_date() ? "Status: Image is up to date for "
                                                           : "Status: Downloaded newer image for ",
                                       bare.familiar()))));
  return out.Finish(absl::OkStatus());
}

// docker takes what has no scheme for http.
std::string SourceUrl(const std::string& text) {
  return absl::StrContains(text, "://") ? text : absl::StrCat("http://", text);
}

absl::Status Import(core::ImageServices& images, Request& request) {
  v1::ImportRequest::Open open;
  open.set_reference(NameWithTag(request.Query("repo"), request.Query("tag")));
  open.set_comment(request.Query("message"));
  GANTRY_ASSIGN_OR_RETURN(*open.mutable_platform(), PlatformOf(request.Query("platform")));
  for (const std::string& change : request.QueryAll("changes")) {
    for (absl::string_view line : absl::StrSplit(change, '\n')) {
      line = absl::StripAsciiWhitespace(line);
      if (!line.empty()) open.add_changes(std::string(line));
    }
  }
  MessageStream out(request);
  const core::CallContext context = request.context();
  v1::LoadedImage imported;
  if (request.Query("fromSrc") == "-") {
    open.set_total_bytes(LengthOf(request));
    GANTRY_ASSIGN_OR_RETURN(imported,
                            images.archive.Import(context, open, request.body(), nullptr));
    GANTRY_RETURN_IF_ERROR(Drain(request.body()));
  } else {
    const std::string url = SourceUrl(request.Query("fromSrc"));
    out.SetPreamble(StatusLine(absl::StrCat("Downloading from ", url)));
    GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<ByteSource> source,
                            images.registry.OpenUrl(context, url));
    GANTRY_ASSIGN_OR_RETURN(imported, images.archive.Import(context, open, *source, nullptr));
  }
  GANTRY_RETURN_IF_ERROR(out.Send(StatusLine(imported.image_id())));
  return out.Finish(absl::OkStatus());
}

absl::Status Create(core::ImageServices& images, Request& request) {
  if (!request.Query("fromImage").empty()) return Pull(images, request);
  if (!request.Query("fromSrc").empty()) return Import(images, request);
  return absl::InvalidArgumentError(
      "fromImage or fromSrc is missing: the image to pull, or the source to import");
}

absl::Status Push(core::ImageServices& images, Request& request) {
  const std::string& name = request.Path("name");
  v1::PushRequest asked;
  asked.set_reference(NameWithTag(name, request.Query("tag")));
  GANTRY_ASSIGN_OR_RETURN(*asked.mutable_platform(), PlatformOf(request.Query("platform")));
  *asked.mutable_auth() = AuthOf(request);
  GANTRY_ASSIGN_OR_RETURN(const distribution::Reference reference,
                          distribution::Reference::ParseName(asked.reference()));
  asked.set_all_tags(reference.tag().empty() && reference.digest().empty());

  MessageStream out(request);
  out.SetPreamble(
      StatusLine(absl::StrCat("The push refers to repository [", reference.repository(), "]")));
  ProgressQueue queue(LayerProgress::Work::kPush);
  std::vector<v1::PushedImage> pushed;
  const absl::Status result = RunWatched(request, queue, out, [&]() -> absl::Status {
    GANTRY_ASSIGN_OR_RETURN(
        pushed, images.push.Push(request.context(), asked,
                                 [&queue](const v1::Progress& step) { queue.Add(step); }));
    return absl::OkStatus();
  });
  if (absl::IsNotFound(result) && absl::StartsWith(result.message(), "no ")) {
    return out.Finish(absl::NotFoundError(
        absl::StrCat(asked.all_tags() ? "An image does not exist locally with the repository: "
                                      : "An image does not exist locally with the tag: ",
                     reference.familiar_repository())));
  }
  if (!result.ok()) return out.Finish(result);
  for (const v1::PushedImage& image : pushed) {
    GANTRY_RETURN_IF_ERROR(out.Send(StatusLine(
        absl::StrCat(image.tag(), ": digest: ", image.digest(), " size: ", image.size_bytes()))));
    engine::Value aux = engine::Value::EmptyObject();
    aux.Set("Tag", image.tag());
    aux.Set("Digest", image.digest());
    aux.Set("Size", image.size_bytes());
    GANTRY_RETURN_IF_ERROR(out.Send(engine::AuxLine(std::move(aux))));
  }
  return out.Finish(absl::OkStatus());
}

absl::Status Load(core::ImageServices& images, Request& request) {
  v1::LoadRequest::Open open;
  for (const std::string& text : request.QueryAll("platform")) {
    GANTRY_ASSIGN_OR_RETURN(const std::string platform, PlatformOf(text));
    if (!platform.empty()) open.add_platforms(platform);
  }
  open.set_total_bytes(LengthOf(request));
  MessageStream out(request);
  ProgressQueue queue(LayerProgress::Work::kLoad);
  WatchedBody body(request, queue, out);
  core::ProgressFn progress;
  if (!request.Flag("quiet")) progress = [&queue](const v1::Progress& step) { queue.Add(step); };
  const absl::StatusOr<std::vector<v1::LoadedImage>> loaded =
      images.archive.Load(request.context(), open, body, progress);
  if (!loaded.ok()) {
    // Whatever fails, clients look for it among the messages.
    GANTRY_RETURN_IF_ERROR(out.Send(""));
    return out.Finish(loaded.status());
  }
  GANTRY_RETURN_IF_ERROR(Drain(request.body()));
  GANTRY_RETURN_IF_ERROR(out.Send(queue.Take()));
  for (const v1::LoadedImage& image : *loaded) {
    GANTRY_RETURN_IF_ERROR(out.Send(engine::StreamLine(
        image.reference().empty() ? absl::StrCat("Loaded image ID: ", image.image_id(), "\n")
                                  : absl::StrCat("Loaded image: ", image.reference(), "\n"))));
  }
  return out.Finish(absl::OkStatus());
}

// The header goes out with the first byte: an image that is not there is an error of its own.
class TarBody : public ByteSink {
 public:
  explicit TarBody(Request& request) : request_(request) {}
  absl::Status Write(absl::string_view bytes) override {
    if (!request_.exchange().begun())
      GANTRY_RETURN_IF_ERROR(request_.Begin(200, "application/x-tar"));
    return request_.WriteBytes(bytes);
  }

 private:
  Request& request_;
};

absl::Status Save(core::ImageServices& images, Request& request) {
  v1::SaveRequest asked;
  if (request.Path("name").empty()) {
    for (std::string& name : request.QueryAll("names")) asked.add_images(std::move(name));
  } else {
    asked.add_images(request.Path("name"));
  }
  for (const std::string& text : request.QueryAll("platform")) {
    GANTRY_ASSIGN_OR_RETURN(const std::string platform, PlatformOf(text));
    if (!platform.empty()) asked.add_platforms(platform);
  }
  if (asked.images().empty())
    return absl::InvalidArgumentError("names is missing: the images to save");
  TarBody out(request);
  const absl::Status saved = images.archive.Save(request.context(), asked, out, nullptr);
  if (!saved.ok()) return ImageError(saved, absl::StrJoin(asked.images(), ", "));
  return request.End();
}

}  // namespace

void AddImageTransferRoutes(Router& router, const Parts& parts) {
  core::ImageServices* const images = parts.images;
  const auto add = [&](absl::string_view method, absl::string_view pattern,
                       absl::Status (*handler)(core::ImageServices&, Request&)) {
    router.Add(method, pattern,
               [images, handler](Request& request) { return handler(*images, request); });
  };
  add("POST", "/images/create", Create);
  add("POST", "/images/load", Load);
  add("GET", "/images/get", Save);
  add("GET", "/images/{name...}/get", Save);
  add("POST", "/images/{name...}/push", Push);
}

}  // namespace gantry::api::docker
