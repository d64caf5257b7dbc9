#include "supervisor/build/build_context.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/compression.h"
#include "base/engine/ignore_file.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/in_root.h"
#include "base/status_macros.h"
#include "base/tar/tree_extractor.h"

namespace gantry::build {
namespace {

constexpr int64_t kMaxFileBytes = 16 << 20;  // of a Dockerfile
// A tar may become this much before it is asked how much it was.
constexpr int64_t kFreeBytes = int64_t{1} << 30;
constexpr int64_t kMaxExpansion = 1100;

// Counts what passes.
class Counted : public ByteSource {
 public:
  explicit Counted(ByteSource& below) : below_(below) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    absl::StatusOr<size_t> got = below_.Read(buffer, n);
    if (got.ok()) total_ += static_cast<int64_t>(*got);
    return got;
  }
  int64_t total() const { return total_; }

 private:
  ByteSource& below_;
  int64_t total_ = 0;
};

// Ends what unpacks to too much of what it was.
class Bounded : public ByteSource {
 public:
  Bounded(ByteSource& plain, const Counted& packed, const std::function<void(int64_t)>& progress)
      : plain_(plain), packed_(packed), progress_(progress) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    GANTRY_ASSIGN_OR_RETURN(const size_t got, plain_.Read(buffer, n));
    total_ += static_cast<int64_t>(got);
    if (total_ > kFreeBytes && total_ / kMaxExpansion > packed_.total())
      return absl::ResourceExhaustedError("the context unpacks to far more than it holds");
    if (progress_ && (total_ - told_ >= (1 << 20) || got == 0)) {
      told_ = total_;
      progress_(total_);
    }
    return got;
  }

 private:
  ByteSource& plain_;
  const Counted& packed_;
  const std::function<void(int64_t)>& progress_;
  int64_t total_ = 0;
  int64_t told_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BuildContext>> BuildContext::Empty(const std::string& directory) {
  GANTRY_RETURN_IF_ERROR(MakeDirectories(directory, 0700));
  UniqueFd root(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return ErrnoToStatus(errno, directory);
  return std::unique_ptr<BuildContext>(new BuildContext(directory, std::move(root)));
}

absl::StatusOr<std::unique_ptr<BuildContext>> BuildContext::Receive(
    ByteSource& tar, const std::string& directory, CancelToken* cancel,
    const std::function<void(int64_t)>& progress) {
  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<BuildContext> context, Empty(directory));
  Counted packed(tar);
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Decompressor> plain, OpenDecompressor(packed));
  Bounded bounded(*plain, packed, progress);
  ExtractOptions options;
  options.owner = ExtractOptions::Owner::kRoot;
  options.cancel = cancel;
  if (absl::Status unpacked = ExtractTree(bounded, context->root(), options).status();
      !unpacked.ok())
    return WithContext(unpacked, "build context");
  return context;
}

BuildContext::~BuildContext() {
  if (absl::Status removed = RemoveTree(directory_); !removed.ok())
    LOG(WARNING) << "the context of a build: " << removed;
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
    if (unlinkat(root(), name.c_str(), 0) != 0 && errno != ENOENT)
      return ErrnoToStatus(errno, name);
  }
  return absl::OkStatus();
}

}  // namespace gantry::build
