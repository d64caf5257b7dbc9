#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/byte_stream.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/tar/tree_extractor.h"
#include "base/tar/tree_writer.h"
#include "base/tar/writer.h"
#include "base/unique_fd.h"
#include "ctl/commands/commands.h"
#include "ctl/output_file.h"
#include "proto/gantry/v1/container_files.pb.h"

namespace gantry::ctl {
namespace {

struct Place {
  std::string container;  // "": here
  std::string path;
};

// CONTAINER:PATH, PATH, or "-". A colon belongs to a path that begins with / or . before it.
Place ParsePlace(const std::string& text) {
  if (text == "-" || text.empty() || text[0] == '/' || text[0] == '.') return {"", text};
  const size_t colon = text.find(':');
  if (colon == std::string::npos || colon == 0) return {"", text};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

// The path without trailing slashes, and what they and a final "." said: "/." means the content,
// "/" a directory.
struct Target {
  std::string path;
  bool content = false;
  bool directory = false;

  explicit Target(std::string text) : path(std::move(text)) {
    if (path == "." || absl::EndsWith(path, "/.")) {
      content = directory = true;
      path.pop_back();
    }
    while (path.size() > 1 && path.back() == '/') {
      path.pop_back();
      directory = true;
    }
    if (path.empty()) path.push_back('.');
  }

  std::string Name() const {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? path : path.substr(slash + 1);
  }
  std::string Parent() const {
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
  }
};

// A client stream as a byte sink, and a server stream as a source.
class UploadSink final : public ByteSink {
 public:
  explicit UploadSink(WriteStream<v1::CopyToRequest>& stream) : stream_(stream) {}
  absl::Status Write(absl::string_view bytes) override {
    pending_.append(bytes.data(), bytes.size());
    return pending_.size() < kMessageBytes ? absl::OkStatus() : Flush();
  }
  absl::Status Flush() {
    if (pending_.empty()) return absl::OkStatus();
    v1::CopyToRequest part;
    part.set_data(std::exchange(pending_, std::string()));
    if (!stream_.Write(part)) return absl::AbortedError("the daemon ended the copy");
    return absl::OkStatus();
  }

 private:
  static constexpr size_t kMessageBytes = 256 << 10;
  WriteStream<v1::CopyToRequest>& stream_;
  std::string pending_;
};

class DownloadSource final : public ByteSource {
 public:
  explicit DownloadSource(ReadStream<v1::CopyFromResponse>& stream) : stream_(stream) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    while (offset_ == response_.data().size()) {
      offset_ = 0;
      if (!stream_.Read(&response_)) {
        response_.Clear();
        return 0;
      }
    }
    const size_t taken = response_.data().copy(buffer, n, offset_);
    offset_ += taken;
    return taken;
  }

 private:
  ReadStream<v1::CopyFromResponse>& stream_;
  v1::CopyFromResponse response_;
  size_t offset_ = 0;
};

class CpAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&archive_, "archive", 'a', "Keep owners (uid and gid)");
    flags.Bool(&follow_, "follow-link", 'L', "Copy what a symbolic link at SOURCE points at");
    flags.Bool(&quiet_, "quiet", 'q', "Say nothing");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    const Place from = ParsePlace(args[0]);
    const Place to = ParsePlace(args[1]);
    if (!from.container.empty() && !to.container.empty()) {
      return absl::InvalidArgumentError(
          "copying between containers is not supported; copy through a file");
    }
    if (from.container.empty() && to.container.empty()) {
      return absl::InvalidArgumentError(
          "must specify at least one container source or destination");
    }
    GANTRY_RETURN_IF_ERROR(from.container.empty() ? CopyTo(context, from.path, to)
                                                  : CopyFrom(context, from, to.path));
    return 0;
  }

 private:
  static absl::StatusOr<v1::PathStat> Stat(Client& client, const std::string& container,
                                           const std::string& path) {
    v1::StatPathRequest request;
    request.set_container(container);
    request.set_path(path);
    v1::StatPathResponse response;
    GANTRY_RETURN_IF_ERROR(client.Call(request, &response));
    return response.stat();
  }

  // Where a chain of links ends here: a link is never replaced by what is copied onto it. Its end
  // need not exist.
  static absl::StatusOr<Target> FollowLinks(Target target) {
    for (int links = 0; links < 40; ++links) {
      char text[4096];
      const ssize_t n = ::readlink(target.path.c_str(), text, sizeof text);
      if (n <= 0) return target;
      std::string next(text, static_cast<size_t>(n));
      if (next[0] != '/') next = absl::StrCat(target.Parent(), "/", next);
      Target end(std::move(next));
      end.content |= target.content;
      end.directory |= target.directory;
      target = std::move(end);
    }
    return ErrnoToStatus(ELOOP, target.path);
  }

  // Writes what `cp` sends: `path` as `name`, or what is in the directory `path`.
  static absl::Status SendTree(const std::string& path, const std::string& name, bool content_only,
                               bool follow, ByteSink& out) {
    TarWriter tar(out, TarWriter::Seconds::kExact);
    TreeWriter tree(tar);
    if (content_only) {
      UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (!directory.valid()) return ErrnoToStatus(errno, path);
      GANTRY_RETURN_IF_ERROR(tree.AddChildren(std::move(directory), ""));
    } else {
      GANTRY_RETURN_IF_ERROR(tree.Add(AT_FDCWD, path, name, follow));
    }
    return tar.Finish();
  }

  absl::Status CopyFrom(Context& context, const Place& from, const std::string& destination) {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    std::string source = from.path;
    Target source_target(source);
    if (follow_) {
      GANTRY_ASSIGN_OR_RETURN(v1::PathStat stat, Stat(*client, from.container, source));
      if (!stat.link_target().empty()) source = stat.link_target();
    }
    v1::CopyFromRequest request;
    request.set_container(from.container);
    request.set_path(source);
    auto stream = client->Open<v1::CopyFromRequest, v1::CopyFromResponse>(request);
    v1::CopyFromResponse first;
    if (!stream->Read(&first)) return stream->Finish();
    const bool source_is_directory = S_ISDIR(first.stat().mode());
    DownloadSource tar(*stream);

    if (destination == "-") {
      GANTRY_ASSIGN_OR_RETURN(OutputFile out, OutputFile::Open("", context.out_fd()));
      std::string buffer(256 << 10, '\0');
      while (true) {
        GANTRY_ASSIGN_OR_RETURN(size_t n, tar.Read(buffer.data(), buffer.size()));
        if (n == 0) break;
        GANTRY_RETURN_IF_ERROR(out.Write(absl::string_view(buffer.data(), n)));
      }
      return stream->Finish();
    }

    GANTRY_ASSIGN_OR_RETURN(const Target target, FollowLinks(Target(destination)));
    struct stat st;
    const bool exists = ::stat(target.path.c_str(), &st) == 0;
    ExtractOptions options;
    if (archive_) options.owner = ExtractOptions::Owner::kArchive;
    std::string directory;
    if (exists && S_ISDIR(st.st_mode)) {
      directory = target.path;
      // The copy gets the source's name; a followed link keeps the name of the link.
      if (follow_ && !source_target.content) options.rename_root = source_target.Name();
    } else if (exists) {
      if (source_is_directory) {
        return absl::FailedPreconditionError(
            absl::StrCat("cannot copy a directory over the file ", destination));
      }
      if (target.directory) {
        return absl::FailedPreconditionError(absl::StrCat(destination, " is not a directory"));
      }
      directory = target.Parent();
      options.rename_root = target.Name();
    } else {
      if (target.directory && !source_is_directory) {
        return absl::NotFoundError(absl::StrCat("no such directory: ", destination));
      }
      struct stat parent;
      if (::stat(target.Parent().c_str(), &parent) != 0 || !S_ISDIR(parent.st_mode)) {
        return absl::NotFoundError(absl::StrCat("no such directory: ", target.Parent()));
      }
      if (source_target.content) {
        // The content becomes the new directory's.
        if (::mkdir(target.path.c_str(), 0755) != 0) {
          return ErrnoToStatus(errno, absl::StrCat("mkdir ", target.path));
        }
        directory = target.path;
      } else {
        directory = target.Parent();
        options.rename_root = target.Name();
      }
    }
    const UniqueFd into(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!into.valid()) return ErrnoToStatus(errno, directory);
    absl::StatusOr<int64_t> entries = ExtractTree(tar, into.get(), options);
    if (!entries.ok()) {
      // When the archive is cut short, the stream's status says why.
      const absl::Status ended =
          absl::IsDataLoss(entries.status()) ? stream->Finish() : absl::OkStatus();
      return ended.ok() ? entries.status() : ended;
    }
    v1::CopyFromResponse rest;
    while (stream->Read(&rest)) {
    }
    GANTRY_RETURN_IF_ERROR(stream->Finish());
    Report(context, *entries, args_text(from), destination);
    return absl::OkStatus();
  }

  static std::string args_text(const Place& place) {
    return absl::StrCat(place.container, ":", place.path);
  }

  void Report(Context& context, int64_t entries, const std::string& from,
              const std::string& to) const {
    if (quiet_ || !context.OutIsTerminal()) return;
    context.Err(absl::StrCat("Successfully copied ", entries, entries == 1 ? " entry" : " entries",
                             " from ", from, " to ", to, "\n"));
  }

  absl::Status CopyTo(Context& context, const std::string& source, const Place& to) {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    const Target target(to.path);
    // Follow links in the container.
    std::string destination = target.path;
    auto found = Stat(*client, to.container, destination);
    if (found.ok() && !found->link_target().empty()) {
      destination = found->link_target();
      found = Stat(*client, to.container, destination);
    }
    if (!found.ok() && !absl::IsNotFound(found.status())) return found.status();
    const bool exists = found.ok();
    const bool into_directory = exists && S_ISDIR(found->mode());

    std::string directory = destination;
    std::string name;
    const Target source_target(source);
    bool content_only = false;
    if (source == "-") {
      if (!into_directory) {
        return absl::FailedPreconditionError(
            absl::StrCat("destination \"", args_text(to), "\" must be a directory"));
      }
    } else {
      struct stat st;
      if ((follow_ || source_target.directory ? ::stat : ::lstat)(source.c_str(), &st) != 0) {
        return ErrnoToStatus(errno, source);
      }
      const bool source_is_directory = S_ISDIR(st.st_mode);
      const Target resolved(destination);
      if (into_directory) {
        content_only = source_target.content;
        name = source_target.Name();
        if (name == "." || name == "..") content_only = true;
      } else {
        if (exists && source_is_directory) {
          return absl::FailedPreconditionError(
              absl::StrCat("cannot copy a directory over the file ", args_text(to)));
        }
        if (!source_is_directory && target.directory) {
          return absl::NotFoundError(absl::StrCat("no such directory: ", args_text(to)));
        }
        directory = resolved.Parent();
        name = resolved.Name();
      }
    }

    v1::CopyToResponse response;
    auto stream = client->OpenWriter<v1::CopyToRequest, v1::CopyToResponse>(&response);
    v1::CopyToRequest open;
    open.mutable_open()->set_container(to.container);
    open.mutable_open()->set_path(directory);
    open.mutable_open()->set_no_overwrite_dir_non_dir(true);
    open.mutable_open()->set_copy_uid_gid(archive_);
    stream->Write(open);
    UploadSink sink(*stream);
    absl::Status sent;
    if (source == "-") {
      FdSource in(context.in_fd());
      sent = CopyStream(in, sink).status();
    } else {
      sent = SendTree(source_target.directory ? source_target.path : source, name, content_only,
                      follow_ || source_target.directory, sink);
    }
    if (sent.ok()) sent = sink.Flush();
    // The daemon's status says more than the failed write.
    if (!sent.ok() && !absl::IsAborted(sent)) return sent;
    GANTRY_RETURN_IF_ERROR(stream->Finish());
    GANTRY_RETURN_IF_ERROR(sent);
    if (!quiet_ && context.OutIsTerminal()) {
      context.Err(absl::StrCat("Successfully copied ", source, " to ", args_text(to), "\n"));
    }
    return absl::OkStatus();
  }

  bool archive_ = false, follow_ = false, quiet_ = false;
};

}  // namespace

Verb CpVerb() {
  return {.name = "cp",
          .arguments =
              "[OPTIONS] CONTAINER:SOURCE DESTINATION|-\n"
              "        ctl cp [OPTIONS] SOURCE|- CONTAINER:DESTINATION",
          .summary = "Copy files between a container and here; - is a tar archive",
          .examples =
              "  ctl cp web:/etc/nginx/nginx.conf .\n"
              "  ctl cp ./site/. web:/var/www\n"
              "  ctl cp web:/var/log - | tar -t\n",
          .min_args = 2,
          .max_args = 2,
          .completes = "containers-or-files",
          .make = [] { return std::make_unique<CpAction>(); }};
}

}  // namespace gantry::ctl
