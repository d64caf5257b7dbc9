// What load and import read and send: a file or standard input, from a thread of its own while
// progress comes back.
#ifndef GANTRY_CTL_COMMANDS_ARCHIVE_INPUT_H_
#define GANTRY_CTL_COMMANDS_ARCHIVE_INPUT_H_

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "ctl/feed.h"
#include "ctl/progress.h"
#include "ctl/terminal.h"
#include "ctl/verb.h"

namespace gantry::ctl {

class ArchiveInput {
 public:
  // `path` is "" or "-" for standard input. kInvalidArgument: that is a terminal; `hint` says what
  // to do instead.
  static absl::StatusOr<ArchiveInput> Open(Context& context, const std::string& path,
                                           absl::string_view hint) {
    ArchiveInput input;
    input.fd_ = context.in_fd();
    if (!path.empty() && path != "-") {
      input.file_ = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      if (!input.file_.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", path));
      input.fd_ = input.file_.get();
      struct stat st = {};
      if (::fstat(input.fd_, &st) == 0 && S_ISDIR(st.st_mode)) {
        return absl::InvalidArgumentError(absl::StrCat(path, " is a directory; ", hint));
      }
    } else if (IsTerminal(input.fd_)) {
      return absl::InvalidArgumentError(absl::StrCat("stdin is a terminal; ", hint));
    }
    return input;
  }

  // Sends `open` with the size of the file, then its bytes. `on_event` gets each answer that is
  // neither progress nor a message.
  template <class Request, class Response, class OnEvent>
  absl::Status Send(Client& client, Request open, ProgressView& view, const OnEvent& on_event) {
    struct stat st = {};
    if (::fstat(fd_, &st) == 0 && S_ISREG(st.st_mode)) {
      open.mutable_open()->set_total_bytes(st.st_size);
    }
    auto stream = client.OpenDuplex<Request, Response>();
    stream->Write(open);
    absl::Status read_status;
    Feed feed(
        fd_,
        [&](std::string&& piece) {
          Request part;
          part.set_data(std::move(piece));
          return stream->Write(part);
        },
        [&](const absl::Status& end) {
          read_status = end;
          end.ok() ? stream->WritesDone() : stream->Cancel();
        });
    Response response;
    while (stream->Read(&response)) {
      if (response.has_progress()) {
        view.Update(response.progress());
      } else if (response.event_case() == Response::kMessage) {
        view.Message(response.message());
      } else {
        on_event(response);
      }
    }
    view.Finish();
    // The daemon has ended the call; what stdin still holds is not needed.
    feed.Stop();
    const absl::Status finished = stream->Finish();
    GANTRY_RETURN_IF_ERROR(read_status);
    return finished;
  }

 private:
  UniqueFd file_;
  int fd_ = -1;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_ARCHIVE_INPUT_H_
