#include "supervisor/api/buildkit/file_sender.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "base/utf8.h"
#include "proto/buildkit/fsutil.pb.h"

namespace gantry::api::buildkit {
namespace {

using fsutil::types::Packet;

constexpr size_t kPieceBytes = 32 << 10;
constexpr size_t kMaxLink = 4096;

// Bits of a mode as the receiver's language has them.
uint32_t ModeOf(mode_t mode) {
  uint32_t out = mode & 0777;
  if (mode & S_ISUID) out |= 1u << 23;
  if (mode & S_ISGID) out |= 1u << 22;
  if (mode & S_ISVTX) out |= 1u << 20;
  if (S_ISDIR(mode)) out |= 1u << 31;
  if (S_ISLNK(mode)) out |= 1u << 27;
  if (S_ISBLK(mode)) out |= 1u << 26;
  if (S_ISCHR(mode)) out |= 1u << 26 | 1u << 21;
  if (S_ISFIFO(mode)) out |= 1u << 25;
  return out;
}

absl::StatusOr<std::vector<std::string>> NamesIn(int directory, const std::string& path) {
  // A descriptor of its own: reading moves its position.
  UniqueFd own(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* listing = own.valid() ? fdopendir(own.get()) : nullptr;
  if (listing == nullptr) return ErrnoToStatus(errno, path);
  (void)own.release();  // the listing's
  const absl::Cleanup close = [&] { closedir(listing); };
  std::vector<std::string> names;
  while (true) {
    errno = 0;
    const dirent* entry = readdir(listing);
    if (entry == nullptr && errno != 0) return ErrnoToStatus(errno, path);
    if (entry == nullptr) break;
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

class Sender {
 public:
  Sender(PacketStream& stream, int root, CancelToken* cancel)
      : stream_(stream), root_(root), cancel_(cancel) {}

  absl::Status Run() {
    GANTRY_RETURN_IF_ERROR(Walk(root_, ""));
    GANTRY_RETURN_IF_ERROR(stream_.Write(Packet()));
    Packet packet;
    while (true) {
      GANTRY_ASSIGN_OR_RETURN(const bool more, stream_.Read(packet));
      if (!more) return absl::UnavailableError("the client ended the transfer before its end");
      switch (packet.type()) {
        case Packet::PACKET_REQ:
          GANTRY_RETURN_IF_ERROR(SendContent(packet.id()));
          break;
        case Packet::PACKET_FIN:
          return stream_.Write(packet);
        case Packet::PACKET_ERR:
          return absl::FailedPreconditionError(
              absl::StrCat("the client cannot take the files: ", ToValidUtf8(packet.data())));
        default:
          return absl::InvalidArgumentError(
              absl::StrCat("a packet of type ", static_cast<int>(packet.type())));
      }
    }
  }

 private:
  absl::Status Walk(int directory, const std::string& path) {
    if (cancel_ != nullptr) GANTRY_RETURN_IF_ERROR(cancel_->Check());
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names, NamesIn(directory, path));
    for (const std::string& name : names) {
      const std::string whole = path.empty() ? name : absl::StrCat(path, "/", name);
      struct stat info;
      if (fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
        return ErrnoToStatus(errno, whole);
      if (S_ISSOCK(info.st_mode)) continue;  // nothing that a file could be made of
      Packet packet;
      fsutil::types::Stat& stat = *packet.mutable_stat();
      stat.set_path(whole);
      stat.set_mode(ModeOf(info.st_mode));
      stat.set_uid(info.st_uid);
      stat.set_gid(info.st_gid);
      stat.set_modtime(int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec);
      if (S_ISREG(info.st_mode)) {
        stat.set_size(info.st_size);
        files_[number_] = whole;
      } else if (S_ISLNK(info.st_mode)) {
        char target[kMaxLink];
        const ssize_t length = readlinkat(directory, name.c_str(), target, sizeof target);
        if (length < 0) return ErrnoToStatus(errno, whole);
        stat.set_linkname(target, static_cast<size_t>(length));
      } else if (S_ISBLK(info.st_mode) || S_ISCHR(info.st_mode)) {
        stat.set_devmajor(major(info.st_rdev));
        stat.set_devminor(minor(info.st_rdev));
      }
      ++number_;
      GANTRY_RETURN_IF_ERROR(stream_.Write(packet));
      if (!S_ISDIR(info.st_mode)) continue;
      const UniqueFd below(
          openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (!below.valid()) return ErrnoToStatus(errno, whole);
      GANTRY_RETURN_IF_ERROR(Walk(below.get(), whole));
    }
    return absl::OkStatus();
  }

  absl::Status SendContent(uint32_t number) {
    const auto found = files_.find(number);
    if (found == files_.end())
      return absl::InvalidArgumentError(absl::StrCat("file ", number, " has no content"));
    const UniqueFd file(
        openat(root_, found->second.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!file.valid()) return ErrnoToStatus(errno, found->second);
    Packet packet;
    packet.set_type(Packet::PACKET_DATA);
    packet.set_id(number);
    std::string buffer(kPieceBytes, '\0');
    while (true) {
      if (cancel_ != nullptr) GANTRY_RETURN_IF_ERROR(cancel_->Check());
      const ssize_t got = read(file.get(), buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoToStatus(errno, found->second);
      packet.set_data(buffer.data(), static_cast<size_t>(got));
      GANTRY_RETURN_IF_ERROR(stream_.Write(packet));  // an empty one is the end
      if (got == 0) return absl::OkStatus();
    }
  }

  PacketStream& stream_;
  const int root_;
  CancelToken* const cancel_;
  uint32_t number_ = 0;
  std::map<uint32_t, std::string> files_;
};

}  // namespace

absl::Status SendFiles(PacketStream& stream, int directory, CancelToken* cancel) {
  return Sender(stream, directory, cancel).Run();
}

}  // namespace gantry::api::buildkit
