#include "supervisor/build/tar_source.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>

#include "absl/strings/str_cat.h"

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "base/compression.h"
#include "base/errno_status.h"
#include "base/in_root.h"
#include "base/status_macros.h"
#include "base/tar/reader.h"
#include "base/tar/tree_extractor.h"
#include "base/tar/writer.h"

namespace gantry::build {
namespace {

// The archive with every entry given to one owner.
class Owned {
 public:
  static absl::Status Rewrite(ByteSource& archive, uint32_t uid, uint32_t gid, ByteSink& out) {
    TarReader reader(archive);
    TarWriter writer(out, TarWriter::Seconds::kExact);
    TarEntry entry;
    while (true) {
      GANTRY_ASSIGN_OR_RETURN(const bool more, reader.Next(entry));
      if (!more) return writer.Finish();
      entry.uid = uid;
      entry.gid = gid;
      GANTRY_RETURN_IF_ERROR(writer.WriteEntry(entry));
      if (entry.type != TarType::kFile) continue;
      int64_t at = 0;
      const std::string zeros(64 << 10, '\0');
      const auto fill = [&](int64_t to) -> absl::Status {
        while (at < to) {
          const size_t n =
              static_cast<size_t>(std::min<int64_t>(to - at, static_cast<int64_t>(zeros.size())));
          GANTRY_RETURN_IF_ERROR(writer.WriteData(absl::string_view(zeros.data(), n)));
          at += static_cast<int64_t>(n);
        }
        return absl::OkStatus();
      };
      TarData data;
      while (true) {
        GANTRY_ASSIGN_OR_RETURN(const bool some, reader.ReadData(data));
        if (!some) break;
        GANTRY_RETURN_IF_ERROR(fill(data.offset));
        GANTRY_RETURN_IF_ERROR(writer.WriteData(data.bytes));
        at += static_cast<int64_t>(data.bytes.size());
      }
      GANTRY_RETURN_IF_ERROR(fill(entry.size_bytes));
    }
  }
};

absl::StatusOr<UniqueFd> OpenFile(int root, const std::string& path) {
  UniqueFd file = OpenInRoot(root, path, O_RDONLY | O_NONBLOCK);
  if (!file.valid()) return ErrnoToStatus(errno, path);
  return file;
}

}  // namespace

absl::StatusOr<bool> IsArchive(int root, const std::string& path) {
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd file, OpenFile(root, path));
  struct stat info;
  if (fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_size == 0) return false;
  FdSource source(file.get());
  absl::StatusOr<std::unique_ptr<Decompressor>> plain = OpenDecompressor(source);
  if (!plain.ok()) return false;
  TarReader reader(**plain);
  TarEntry entry;
  absl::StatusOr<bool> first = reader.Next(entry);
  return first.ok() && *first;
}

absl::Status ExtractArchive(int root, const std::string& path, int directory,
                            const absl::optional<std::pair<uint32_t, uint32_t>>& owner,
                            CancelToken* cancel) {
  ExtractOptions options;
  options.owner = ExtractOptions::Owner::kArchive;
  options.follow_links = true;
  options.no_overwrite_dir_non_dir = false;
  options.cancel = cancel;
  GANTRY_ASSIGN_OR_RETURN(UniqueFd file, OpenFile(root, path));
  FdSource source(file.get());
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Decompressor> plain, OpenDecompressor(source));
  if (!owner.has_value())
    return WithContext(ExtractTree(*plain, directory, options).status(), path);
  // Through a nameless file, which costs a copy and no thread.
  const UniqueFd rewritten(openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!rewritten.valid()) return ErrnoToStatus(errno, path);
  FdSink sink(rewritten.get());
  GANTRY_RETURN_IF_ERROR(
      WithContext(Owned::Rewrite(*plain, owner->first, owner->second, sink), path));
  if (lseek(rewritten.get(), 0, SEEK_SET) != 0) return ErrnoToStatus(errno, path);
  FdSource again(rewritten.get());
  return WithContext(ExtractTree(again, directory, options).status(), path);
}

}  // namespace gantry::build
