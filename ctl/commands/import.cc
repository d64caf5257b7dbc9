#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

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

class ImportAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Strings(&changes_, "change", 'c', "instruction", "Dockerfile instruction to apply");
    flags.String(&message_, "message", 'm', "text", "What it is");
    flags.String(&platform_, "platform", 0, "os/arch", "What it is for");
    flags.Bool(&quiet_, "quiet", 'q', "No progress");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    UniqueFd file;
    int fd = context.in_fd();
    if (args[0] != "-") {
      file = UniqueFd(::open(args[0].c_str(), O_RDONLY | O_CLOEXEC));
      if (!file.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", args[0]));
      fd = file.get();
    } else if (IsTerminal(fd)) {
      return absl::InvalidArgumentError("stdin is a terminal; name a file, or redirect one in");
    }
    GANTRY_ASSIGN_OR_RETURN(ProgressView::Style style, ProgressStyle(quiet_, "", context.err_fd()));
    if (style == ProgressView::Style::kLines) style = ProgressView::Style::kSilent;
    ProgressView view = MakeProgress(context, style, true);
    view.SetCompleteWord("Loaded");
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    auto stream = client->OpenDuplex<v1::ImportRequest, v1::ImportResponse>();
    v1::ImportRequest open;
    if (args.size() > 1) open.mutable_open()->set_reference(args[1]);
    open.mutable_open()->set_comment(message_);
    open.mutable_open()->set_platform(platform_);
    open.mutable_open()->mutable_changes()->Assign(changes_.begin(), changes_.end());
    struct stat st = {};
    if (::fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
      open.mutable_open()->set_total_bytes(st.st_size);
    stream->Write(open);

    absl::Status read_status;
    Feed feed(
        fd,
        [&](std::string&& piece) {
          v1::ImportRequest part;
          part.set_data(std::move(piece));
          return stream->Write(part);
        },
        [&](const absl::Status& end) {
          read_status = end;
          end.ok() ? stream->WritesDone() : stream->Cancel();
        });
    v1::ImportResponse response;
    std::string id;
    while (stream->Read(&response)) {
      switch (response.event_case()) {
        case v1::ImportResponse::kProgress:
          view.Update(response.progress());
          break;
        case v1::ImportResponse::kMessage:
          view.Message(response.message());
          break;
        case v1::ImportResponse::kImported:
          id = response.imported().image_id();
          break;
        case v1::ImportResponse::EVENT_NOT_SET:
          break;
      }
    }
    view.Finish();
    feed.Stop();
    const absl::Status finished = stream->Finish();
    GANTRY_RETURN_IF_ERROR(read_status);
    GANTRY_RETURN_IF_ERROR(finished);
    context.Out(absl::StrCat(id, "\n"));
    return 0;
  }

 private:
  std::vector<std::string> changes_;
  std::string message_, platform_;
  bool quiet_ = false;
};

}  // namespace

Verb ImportVerb() {
  return {.name = "import",
          .arguments = "[OPTIONS] FILE|- [REPOSITORY[:TAG]]",
          .summary = "Make an image from a tar of a root file system",
          .examples =
              "  ctl import rootfs.tar debian:mine\n"
              "  tar -C rootfs -c . | ctl import -c 'CMD [\"bash\"]' - debian:mine\n",
          .min_args = 1,
          .max_args = 2,
          .completes = "files",
          .make = [] { return std::make_unique<ImportAction>(); }};
}

}  // namespace gantry::ctl
