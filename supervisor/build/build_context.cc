#include "supervisor/build/build_context.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/engine/ignore_file.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/in_root.h"
#include "base/status_macros.h"
#include "supervisor/build/build_client.h"

namespace gantry::build {
namespace {

constexpr int64_t kMaxFileBytes = 16 << 20;  // of a Dockerfile
}  // namespace

absl::StatusOr<std::unique_ptr<BuildContext>> BuildContext::Empty(const Places& places) {
  GANTRY_RETURN_IF_ERROR(MakeDirectories(places.directory, 0700));
  std::unique_ptr<BuildContext> context(new BuildContext());
  context->directory_ = places.directory;
  context->trash_ = places.trash;
  context->root_ = UniqueFd(open(places.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!context->root_.valid()) return ErrnoToStatus(errno, places.directory);
  return context;
}

absl::StatusOr<std::unique_ptr<BuildContext>> BuildContext::Of(const std::string& directory) {
  std::unique_ptr<BuildContext> context(new BuildContext());
  context->directory_ = directory;
  context->root_ = UniqueFd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!context->root_.valid()) return ErrnoToStatus(errno, directory);
  return context;
}

absl::StatusOr<std::unique_ptr<BuildContext>> BuildContext::Receive(
    BuildClient& client, int index, const Places& places, CancelToken* cancel,
    const std::function<void(int64_t)>& progress) {
  const std::string key = client.ContextKey(index);
  if (!key.empty()) {
    GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<ContextUpdate> update, places.kept->Begin(key));
    const absl::Status updated = client.Update(index, *update, cancel, progress);
    if (!updated.ok() && !absl::IsUnimplemented(updated))
      return WithContext(updated, "build context");
    if (updated.ok()) {
      absl::StatusOr<std::unique_ptr<ContextTree>> tree = update->Finish();
      if (!tree.ok()) return WithContext(tree.status(), "build context");
      std::unique_ptr<BuildContext> context(new BuildContext());
      context->kept_ = *std::move(tree);
      return context;
    }
  }
  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<BuildContext> context, Empty(places));
  if (absl::Status filled = client.NamedFiles(index, context->root(), cancel, progress);
      !filled.ok())
    return WithContext(filled, "build context");
  return context;
}

BuildContext::~BuildContext() {
  if (trash_ != nullptr) trash_->Take(directory_);
}

const std::string& BuildContext::DigestOf(absl::string_view path) const {
  static const std::string& none = *new std::string();
  return kept_ == nullptr ? none : kept_->DigestOf(absl::StripPrefix(path, "/"));
}

absl::StatusOr<std::string> BuildContext::ReadFile(const std::string& path) const {
  const UniqueFd file = OpenInRoot(root(), path, O_RDONLY | O_NONBLOCK);
  struct stat info;
  if (!file.valid() || fstat(file.get(), &info) != 0) {
    if (errno == ENOENT || errno == ENOTDIR)
      return absl::NotFoundError(
          absl::StrCat("failed to read dockerfile: open ", path, ": no such file or directory"));
    return ErrnoToStatus(errno, path);
  }
  if (!S_ISREG(info.st_mode))
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  FdSource source(file.get());
  return ReadAll(source, kMaxFileBytes);
}

absl::Status BuildContext::DropIgnored(const std::string& dockerfile) {
  absl::StatusOr<std::string> text = ReadFile(".dockerignore");
  if (!text.ok()) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(const engine::IgnoreRules rules, engine::IgnoreRules::Parse(*text));
  for (const std::string& name : {std::string(".dockerignore"), dockerfile}) {
    // One at the top: others are named in the ignore file as the client saw it.
    if (name.empty() || name.find('/') != std::string::npos || !rules.Ignores(name)) continue;
    if (kept_ != nullptr) {
      GANTRY_RETURN_IF_ERROR(kept_->Drop(name));
      continue;
    }
    if (unlinkat(root(), name.c_str(), 0) != 0 && errno != ENOENT)
      return ErrnoToStatus(errno, name);
  }
  return absl::OkStatus();
}

}  // namespace gantry::build
