#include "supervisor/build/step_mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/in_root.h"
#include "base/status_macros.h"
#include "supervisor/build/file_copy.h"

namespace gantry::build {
namespace {

// In the step's container.
constexpr char kStarter[] = "/dev/gantry-step";
constexpr char kVariables[] = "/dev/gantry-step-variables";

v1::Mount& Bind(const std::string& source, const std::string& target, bool read_only,
                v1::ContainerConfig& config) {
  v1::Mount& mount = *config.add_mounts();
  mount.set_type(v1::Mount::BIND);
  mount.set_source(source);
  mount.set_target(target);
  mount.set_read_only(read_only);
  return mount;
}

}  // namespace

StepMounts::~StepMounts() {
  views_.clear();
  agents_.clear();
  for (const std::string& directory : {parts_.scratch_directory, parts_.state_directory}) {
    if (absl::Status removed = RemoveTree(directory); !removed.ok())
      LOG(WARNING) << "files of a build's step: " << removed;
  }
}

absl::Status StepMounts::AddTo(const LayerStep& step, v1::ContainerConfig& config) {
  for (const RunMount& mount : step.mounts) {
    switch (mount.type) {
      case RunMount::Type::kBind:
        GANTRY_RETURN_IF_ERROR(AddBind(mount, config));
        break;
      case RunMount::Type::kCache:
        GANTRY_RETURN_IF_ERROR(AddCache(mount, config));
        break;
      case RunMount::Type::kTmpfs: {
        v1::Mount& out = *config.add_mounts();
        out.set_type(v1::Mount::TMPFS);
        out.set_target(mount.target);
        out.set_tmpfs_size_bytes(mount.size_bytes);
        break;
      }
      case RunMount::Type::kSecret:
        GANTRY_RETURN_IF_ERROR(AddSecret(mount, config));
        break;
      case RunMount::Type::kSsh:
        GANTRY_RETURN_IF_ERROR(AddAgent(mount, step, config));
        break;
    }
  }
  if (!step.script_name.empty()) GANTRY_RETURN_IF_ERROR(AddScript(step, config));
  return variables_.empty() ? absl::OkStatus() : AddVariables(config);
}

absl::StatusOr<std::string> StepMounts::PathOf(const std::string& from, const std::string& source) {
  GANTRY_ASSIGN_OR_RETURN(const StepFiles files, parts_.files_of(from));
  std::string top;
  if (files.root == nullptr) {
    top = files.context->directory();
  } else {
    if (files.root->diff_ids.empty())
      return absl::NotFoundError(absl::StrCat("there are no files in ", from));
    GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<core::ImageBuild::Session::View> view,
                            parts_.session->Mount(*files.root));
    top = view->path();
    views_.push_back(std::move(view));
  }
  const UniqueFd directory(open(top.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return ErrnoToStatus(errno, top);
  // Without links from here on, and nobody can change the tree: the path names what was looked at.
  GANTRY_ASSIGN_OR_RETURN(const std::string resolved, FollowLinksInRoot(directory.get(), source));
  const UniqueFd there = OpenInRoot(directory.get(), resolved, O_PATH | O_NOFOLLOW);
  struct stat info;
  if (!there.valid() || fstat(there.get(), &info) != 0)
    return absl::NotFoundError(absl::StrCat("\"", source, "\": not found"));
  if (!S_ISDIR(info.st_mode) && !S_ISREG(info.st_mode))
    return absl::InvalidArgumentError(
        absl::StrCat("\"", source, "\" is neither a file nor a directory"));
  return absl::StrCat(top, resolved == "/" ? "" : resolved);
}

absl::StatusOr<std::string> StepMounts::CopyOf(const std::string& path, const std::string& to) {
  const size_t slash = path.rfind('/');
  const UniqueFd from(open(path.substr(0, slash + 1).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  GANTRY_RETURN_IF_ERROR(MakeDirectories(to, 0755));
  const UniqueFd target(open(to.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!from.valid() || !target.valid()) return ErrnoToStatus(errno, path);
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return ErrnoToStatus(errno, path);
  MatchedSource source;
  source.path = absl::StrCat("/", path.substr(slash + 1));
  source.name = "file";
  source.directory = S_ISDIR(info.st_mode);
  FileCopyOptions options;
  options.cancel = parts_.cancel;
  FileCopy copy(from.get(), target.get(), std::move(options));
  GANTRY_RETURN_IF_ERROR(copy.Copy(source, source.directory ? "/tree" : "/", false));
  return absl::StrCat(to, source.directory ? "/tree" : "/file");
}

absl::Status StepMounts::AddBind(const RunMount& mount, v1::ContainerConfig& config) {
  GANTRY_ASSIGN_OR_RETURN(std::string path, PathOf(mount.from, mount.source));
  if (!mount.read_only) {
    GANTRY_ASSIGN_OR_RETURN(
        path, CopyOf(path, absl::StrCat(parts_.scratch_directory, "/copy-", ++copies_)));
  }
  Bind(path, mount.target, mount.read_only, config);
  return absl::OkStatus();
}

absl::Status StepMounts::AddCache(const RunMount& mount, v1::ContainerConfig& config) {
  GANTRY_ASSIGN_OR_RETURN(
      CacheMounts::Lease lease,
      parts_.caches->Acquire(mount, parts_.request->namespace_of_caches(), parts_.cancel));
  if (lease.fresh && !mount.from.empty()) {
    GANTRY_ASSIGN_OR_RETURN(const std::string path, PathOf(mount.from, mount.source));
    const UniqueFd from(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const UniqueFd target(open(lease.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!from.valid() || !target.valid()) return ErrnoToStatus(errno, path);
    MatchedSource source;
    source.path = "/";
    source.directory = true;
    FileCopy copy(from.get(), target.get(), {});
    GANTRY_RETURN_IF_ERROR(copy.Copy(source, "/", false));
  }
  Bind(lease.path, mount.target, mount.read_only, config);
  caches_.push_back(std::move(lease));
  return absl::OkStatus();
}

absl::Status StepMounts::AddSecret(const RunMount& mount, v1::ContainerConfig& config) {
  const absl::StatusOr<std::string> secret = parts_.client->Secret(mount.id, parts_.cancel);
  if (absl::IsNotFound(secret.status()) && !mount.required) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(secret.status());
  if (!mount.environment.empty()) {
    if (absl::StrContains(*secret, '\0'))
      return absl::InvalidArgumentError(
          absl::StrCat("secret ", mount.id, ": a variable cannot hold a NUL byte"));
    absl::StrAppend(&variables_, mount.environment, "=", *secret, absl::string_view("\0", 1));
  }
  if (mount.target.empty()) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(MakeDirectories(parts_.state_directory, 0700));
  const std::string file = absl::StrCat(parts_.state_directory, "/secret-", ++copies_);
  GANTRY_RETURN_IF_ERROR(WriteFile(file, *secret, 0400));
  if (chown(file.c_str(), mount.uid, mount.gid) != 0 ||
      chmod(file.c_str(), mount.mode.value_or(0400)) != 0)
    return ErrnoToStatus(errno, absl::StrCat("secret ", mount.id));
  Bind(file, mount.target, true, config);
  return absl::OkStatus();
}

absl::Status StepMounts::AddAgent(const RunMount& mount, const LayerStep& step,
                                  v1::ContainerConfig& config) {
  // Whether the client has that agent is known once it was asked for a connection.
  const absl::Status there = parts_.client->Agent(mount.id, parts_.cancel).status();
  if (absl::IsNotFound(there) && !mount.required) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(there);
  GANTRY_RETURN_IF_ERROR(MakeDirectories(parts_.state_directory, 0700));
  const std::string name = absl::StrCat("agent-", ++copies_);
  GANTRY_ASSIGN_OR_RETURN(
      std::unique_ptr<AgentRelay> relay,
      AgentRelay::Listen(parts_.state_directory, name,
                         {mount.mode.value_or(0600), mount.uid, mount.gid},
                         [client = parts_.client, cancel = parts_.cancel, id = mount.id] {
                           return client->Agent(id, cancel);
                         }));
  agents_.push_back(std::move(relay));
  const std::string target = mount.target.empty()
                                 ? absl::StrCat("/run/buildkit/ssh_agent.", agents_.size() - 1)
                                 : mount.target;
  Bind(absl::StrCat(parts_.state_directory, "/", name), target, true, config);
  for (const std::string& entry : step.environment) {
    if (absl::StartsWith(entry, "SSH_AUTH_SOCK=")) return absl::OkStatus();
  }
  if (agents_.size() == 1) config.add_env(absl::StrCat("SSH_AUTH_SOCK=", target));
  return absl::OkStatus();
}

absl::Status StepMounts::AddVariables(v1::ContainerConfig& config) {
  if (parts_.init_path.empty())
    return absl::FailedPreconditionError(
        "a secret in a variable needs the program gantry-init, which is not installed beside "
        "gantryd");
  GANTRY_RETURN_IF_ERROR(MakeDirectories(parts_.state_directory, 0700));
  const std::string file = absl::StrCat(parts_.state_directory, "/variables");
  // The step's user reads it, whoever that is, as it reads what it gets of it.
  GANTRY_RETURN_IF_ERROR(WriteFile(file, variables_, 0444));
  if (chmod(file.c_str(), 0444) != 0) return ErrnoToStatus(errno, file);
  // Below /dev, where what is mounted on leaves nothing in the layer.
  Bind(parts_.init_path, kStarter, true, config);
  Bind(file, kVariables, true, config);
  const std::vector<std::string> command(config.command().begin(), config.command().end());
  config.clear_command();
  for (const char* word : {kStarter, "--environment", kVariables}) config.add_command(word);
  for (const std::string& word : command) config.add_command(word);
  return absl::OkStatus();
}

absl::Status StepMounts::AddScript(const LayerStep& step, v1::ContainerConfig& config) {
  GANTRY_RETURN_IF_ERROR(MakeDirectories(parts_.state_directory, 0700));
  const std::string file = absl::StrCat(parts_.state_directory, "/script-", ++copies_);
  GANTRY_RETURN_IF_ERROR(WriteFile(file, step.script, 0755));
  if (chmod(file.c_str(), 0755) != 0) return ErrnoToStatus(errno, file);
  Bind(file, absl::StrCat("/dev/pipes/", step.script_name), true, config);
  return absl::OkStatus();
}

}  // namespace gantry::build
