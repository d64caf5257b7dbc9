#include "ctl/commands/build_input.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/byte_stream.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "ctl/commands/build_fields.h"
#include "ctl/terminal.h"

namespace gantry::ctl {
namespace {

constexpr size_t kMaxDockerfileBytes = 16 << 20;
constexpr size_t kPieceBytes = 256 << 10;
constexpr absl::string_view kOciLayout = "oci-layout://";

// Pieces of the context, as messages.
class StreamSink : public ByteSink {
 public:
  explicit StreamSink(const ContextFiles::Write& write) : write_(write) {}
  absl::Status Write(absl::string_view bytes) override {
    while (!bytes.empty()) {
      const size_t n = std::min(bytes.size(), kPieceBytes - pending_.size());
      pending_.append(bytes.data(), n);
      bytes.remove_prefix(n);
      if (pending_.size() == kPieceBytes) GANTRY_RETURN_IF_ERROR(Flush());
    }
    return absl::OkStatus();
  }
  absl::Status Flush() {
    if (pending_.empty()) return absl::OkStatus();
    v1::BuildRequest part;
    part.set_data(std::exchange(pending_, std::string()));
    // The reason is what Finish() returns.
    return write_(part) ? absl::OkStatus() : absl::CancelledError("the build has ended");
  }

 private:
  const ContextFiles::Write& write_;
  std::string pending_;
};

std::string RealPath(const std::string& path) {
  char* resolved = realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return "";
  std::string out = resolved;
  free(resolved);
  return out;
}

// An address that the daemon fetches itself.
bool IsRemote(const std::string& path) {
  return absl::StrContains(path, "://") || absl::StartsWith(path, "git@");
}

absl::Status BesideTar(const std::string& flag) {
  return absl::InvalidArgumentError(
      absl::StrCat(flag, ": a directory cannot be sent beside a tar from stdin; unpack the tar"));
}
std::string LayoutKey(const std::string& directory) {
  return absl::StrCat(geteuid(), " layout ", directory);
}
// The directory of "DIR[:TAG][@DIGEST]".
absl::StatusOr<std::string> LayoutDirectory(const std::string& flag, std::string place) {
  place = place.substr(0, place.rfind('@'));
  std::string directory = RealPath(place);
  const size_t colon = place.rfind(':');
  if (directory.empty() && colon != std::string::npos) directory = RealPath(place.substr(0, colon));
  if (directory.empty() || access((directory + "/index.json").c_str(), F_OK) != 0)
    return absl::NotFoundError(
        absl::StrCat(flag, ": there is no OCI layout in ", place, ": it has no index.json"));
  return directory;
}

absl::StatusOr<std::string> DockerfileText(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path, kMaxDockerfileBytes);
  if (absl::IsNotFound(text.status()))
    return absl::NotFoundError(
        absl::StrCat("failed to read dockerfile: open ", path, ": no such file or directory"));
  return text;
}

absl::Status SendDirectory(uint32_t context, const std::string& directory,
                           const std::string& dockerfile_path, const std::string& dockerfile,
                           ContextWanted& wants, const ContextFiles::Write& write) {
  GANTRY_ASSIGN_OR_RETURN(const engine::IgnoreRules rules,
                          ContextRules(directory, dockerfile_path));
  GANTRY_ASSIGN_OR_RETURN(const ContextFiles files,
                          ContextFiles::List(directory, rules, dockerfile));
  GANTRY_RETURN_IF_ERROR(files.SendEntries(context, write));
  std::string socket;
  const absl::optional<std::vector<uint32_t>> wanted = wants.Take(socket);
  if (!wanted.has_value()) return absl::CancelledError("the build has ended");
  if (!socket.empty()) {
    GANTRY_ASSIGN_OR_RETURN(const bool sent, files.SendBySocket(socket, context, *wanted, write));
    if (sent) return absl::OkStatus();
  }
  return files.SendContents(context, *wanted, write);
}

}  // namespace

absl::StatusOr<BuildInput> BuildInput::Find(Context& context, const std::string& path,
                                            const std::string& file, v1::BuildRequest::Open& open) {
  BuildInput input;
  if (file == "-") {
    if (path == "-")
      return absl::InvalidArgumentError(
          "the Dockerfile and the context cannot both come from stdin");
    FdSource source(context.in_fd());
    GANTRY_ASSIGN_OR_RETURN(input.dockerfile_text_, ReadAll(source, kMaxDockerfileBytes));
    open.set_dockerfile_text(input.dockerfile_text_);
  }
  if (path == "-") {
    GANTRY_RETURN_IF_ERROR(input.FindOnStdin(context, file, open));
  } else if (IsRemote(path)) {
    open.set_remote_context(path);
    if (file != "-") open.set_dockerfile(file);
  } else {
    GANTRY_RETURN_IF_ERROR(input.FindDirectory(path, file, open));
  }
  return input;
}

absl::Status BuildInput::FindDirectory(const std::string& path, const std::string& file,
                                       v1::BuildRequest::Open& open) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0)
    return absl::NotFoundError(
        absl::StrCat("unable to prepare context: path \"", path, "\" not found"));
  if (!S_ISDIR(info.st_mode))
    return absl::InvalidArgumentError(
        absl::StrCat("unable to prepare context: ", path, " is not a directory"));
  directory_ = path;
  open.set_has_context(true);
  open.set_connects(true);
  if (file == "-") {
    GANTRY_ASSIGN_OR_RETURN(*open.mutable_ignore_text(), IgnoreText(directory_, ""));
    open.set_context_key(ContextKey());
    return absl::OkStatus();
  }
  dockerfile_path_ = file.empty() ? path + "/Dockerfile" : file;
  if (file.empty() && access(dockerfile_path_.c_str(), F_OK) != 0 &&
      access((path + "/dockerfile").c_str(), F_OK) == 0)
    dockerfile_path_ = path + "/dockerfile";
  GANTRY_ASSIGN_OR_RETURN(dockerfile_text_, DockerfileText(dockerfile_path_));
  GANTRY_ASSIGN_OR_RETURN(*open.mutable_ignore_text(), IgnoreText(directory_, dockerfile_path_));
  // One in the context is sent with it, so that messages name it as people do.
  const std::string top = RealPath(path) + "/";
  const std::string real = RealPath(dockerfile_path_);
  if (absl::StartsWith(real, top)) dockerfile_ = real.substr(top.size());
  open.set_dockerfile(dockerfile_.empty() ? dockerfile_path_ : dockerfile_);
  // A mistake in it is found before files are sent.
  open.set_dockerfile_text(dockerfile_text_);
  open.set_context_key(ContextKey());
  return absl::OkStatus();
}

// A tar is the context, anything else a Dockerfile that needs none.
absl::Status BuildInput::FindOnStdin(Context& context, const std::string& file,
                                     v1::BuildRequest::Open& open) {
  if (IsTerminal(context.in_fd()))
    return absl::InvalidArgumentError(
        "stdin is a terminal; redirect a Dockerfile or a tar into it");
  char start[1024];
  size_t have = 0;
  while (have < sizeof start) {
    const ssize_t n = read(context.in_fd(), start + have, sizeof start - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoToStatus(errno, "stdin");
    if (n == 0) break;
    have += static_cast<size_t>(n);
  }
  const absl::string_view head(start, have);
  const bool archive = (have > 262 && head.substr(257, 5) == "ustar") ||
                       absl::StartsWith(head, "\x1f\x8b") || absl::StartsWith(head, "BZh") ||
                       absl::StartsWith(head,
                                        "\xfd"
                                        "7zXZ") ||
                       absl::StartsWith(head, "\x28\xb5\x2f\xfd");
  if (archive) {
    open.set_has_context(true);
    open.set_dockerfile(file);
    tar_ = context.in_fd();
    tar_start_ = std::string(head);
    return absl::OkStatus();
  }
  FdSource source(context.in_fd());
  GANTRY_ASSIGN_OR_RETURN(const std::string rest, ReadAll(source, kMaxDockerfileBytes));
  dockerfile_text_ = absl::StrCat(head, rest);
  open.set_dockerfile_text(dockerfile_text_);
  return absl::OkStatus();
}

absl::Status BuildInput::AddContexts(const std::vector<std::string>& contexts,
                                     v1::BuildRequest::Open& open) {
  for (const std::string& text : contexts) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
      return absl::InvalidArgumentError(
          absl::StrCat("--build-context ", text, ": write NAME=PATH or NAME=URL"));
    v1::NamedContext& one = *open.add_contexts();
    one.set_name(text.substr(0, equals));
    const std::string value = text.substr(equals + 1);
    std::string directory;
    if (absl::StartsWith(value, kOciLayout)) {
      one.set_source(value);
      GANTRY_ASSIGN_OR_RETURN(directory, LayoutDirectory(absl::StrCat("--build-context ", text),
                                                         value.substr(kOciLayout.size())));
      if (tar_ >= 0) return BesideTar(absl::StrCat("--build-context ", text));
      one.set_key(LayoutKey(directory));
    } else if (IsRemote(value)) {
      one.set_source(value);
    } else {
      directory = RealPath(value);
      struct stat info;
      if (directory.empty() || stat(directory.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
        return absl::NotFoundError(
            absl::StrCat("--build-context ", text, ": there is no directory ", value));
      if (tar_ >= 0) return BesideTar(absl::StrCat("--build-context ", text));
      one.set_key(absl::StrCat(geteuid(), " ", directory));
    }
    named_.push_back(std::move(directory));
  }
  return absl::OkStatus();
}

absl::Status BuildInput::AddCaches(const std::vector<std::string>& caches,
                                   v1::BuildRequest::Open& open) {
  for (const std::string& text : caches) {
    std::string directory;
    GANTRY_ASSIGN_OR_RETURN(v1::BuildCachePlace place, ParseCachePlace(text, true, directory));
    if (place.kind() == v1::BuildCachePlace::LOCAL) {
      if (tar_ >= 0) return BesideTar(absl::StrCat("--cache-from ", text));
      directory = RealPath(directory);
      if (directory.empty() || access((directory + "/index.json").c_str(), F_OK) != 0) continue;
      place.set_key(LayoutKey(directory));
    }
    *open.add_cache_from() = std::move(place);
    named_.push_back(std::move(directory));
  }
  return absl::OkStatus();
}

absl::Status BuildInput::TakeDockerfileOnly(v1::BuildRequest::Open& open) {
  named_.clear();
  if (directory_.empty()) return absl::OkStatus();
  open.set_dockerfile_text(dockerfile_text_);
  open.set_has_context(false);
  open.clear_context_key();
  directory_.clear();
  return absl::OkStatus();
}

absl::Status BuildInput::Send(ContextWanted& wants, const ContextFiles::Write& write) const {
  if (tar_ >= 0) {
    StreamSink sink(write);
    GANTRY_RETURN_IF_ERROR(sink.Write(tar_start_));
    FdSource source(tar_);
    GANTRY_RETURN_IF_ERROR(CopyStream(source, sink).status());
    return sink.Flush();
  }
  if (!directory_.empty()) {
    GANTRY_RETURN_IF_ERROR(
        SendDirectory(0, directory_, dockerfile_path_, dockerfile_, wants, write));
  }
  for (size_t i = 0; i < named_.size(); ++i) {
    if (named_[i].empty()) continue;
    GANTRY_RETURN_IF_ERROR(
        SendDirectory(static_cast<uint32_t>(i + 1), named_[i], "", "", wants, write));
  }
  return absl::OkStatus();
}

std::string BuildInput::ContextKey() const {
  std::string key = absl::StrCat(geteuid(), " ", RealPath(directory_));
  const std::string own_rules = dockerfile_path_ + ".dockerignore";
  if (access(own_rules.c_str(), F_OK) == 0) absl::StrAppend(&key, " ", RealPath(own_rules));
  return key;
}

}  // namespace gantry::ctl
