#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/transfer.h"
#include "ctl/feed.h"
#include "ctl/terminal.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {
namespace {

class LoadAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&input_, "input", 'i', "file", "Archive to read (default: stdin)").completes =
        "files";
    flags.Bool(&quiet_, "quiet", 'q', "Only the names loaded");
    flags.Strings(&platforms_, "platform", 0, "os/arch", "Only this platform");
    flags.String(&name_, "name", 0, "reference", "Name for an archive that names nothing");
    flags.String(&format_, "format", 0, "json", "Progress as JSON lines");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    UniqueFd file;
    int fd = context.in_fd();
    if (!input_.empty() && input_ != "-") {
      file = UniqueFd(::open(input_.c_str(), O_RDONLY | O_CLOEXEC));
      if (!file.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", input_));
      fd = file.get();
    } else if (IsTerminal(fd)) {
      return absl::InvalidArgumentError(
          "stdin is a terminal; name an archive with -i, or redirect one in");
    }
    GANTRY_ASSIGN_OR_RETURN(ProgressView::Style style,
                            ProgressStyle(quiet_, format_, context.out_fd()));
    ProgressView view = MakeProgress(context, style, false);
    view.SetCompleteWord("Loaded");

    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    auto stream = client->OpenDuplex<v1::LoadRequest, v1::LoadResponse>();
    v1::LoadRequest open;
    for (const std::string& platform : platforms_) open.mutable_open()->add_platforms(platform);
    open.mutable_open()->set_name(name_);
    struct stat st = {};
    if (::fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
      open.mutable_open()->set_total_bytes(st.st_size);
    }
    stream->Write(open);

    // Sent from a thread of its own: progress comes back meanwhile.
    absl::Status read_status;
    Feed feed(
        fd,
        [&](std::string&& piece) {
          v1::LoadRequest part;
          part.set_data(std::move(piece));
          return stream->Write(part);
        },
        [&](const absl::Status& end) {
          read_status = end;
          end.ok() ? stream->WritesDone() : stream->Cancel();
        });
    v1::LoadResponse response;
    while (stream->Read(&response)) {
      switch (response.event_case()) {
        case v1::LoadResponse::kProgress:
          view.Update(response.progress());
          break;
        case v1::LoadResponse::kMessage:
          view.Message(response.message());
          break;
        case v1::LoadResponse::kLoaded: {
          view.Finish();
          const auto& loaded = response.loaded();
          context.Out(loaded.reference().empty()
                          ? absl::StrCat("Loaded image ID: ", loaded.image_id(), "\n")
                          : absl::StrCat("Loaded image: ", loaded.reference(), "\n"));
          break;
        }
        case v1::LoadResponse::EVENT_NOT_SET:
          break;
      }
    }
    view.Finish();
    // The daemon is done with us, whatever stdin still holds.
    feed.Stop();
    const absl::Status finished = stream->Finish();
    GANTRY_RETURN_IF_ERROR(read_status);
    GANTRY_RETURN_IF_ERROR(finished);
    return 0;
  }

 private:
  std::string input_, name_, format_;
  bool quiet_ = false;
  std::vector<std::string> platforms_;
};

}  // namespace

Verb LoadVerb() {
  return {.name = "load",
          .arguments = "[OPTIONS]",
          .summary = "Take images in from an archive: an OCI layout or what `save` writes",
          .examples =
              "  ctl load -i debian.tar\n"
              "  zstdcat image.tar.zst | ctl load\n",
          .max_args = 0,
          .completes = "files",
          .make = [] { return std::make_unique<LoadAction>(); }};
}

}  // namespace gantry::ctl
