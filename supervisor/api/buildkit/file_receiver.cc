#include "supervisor/api/buildkit/file_receiver.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "base/utf8.h"
#include "proto/buildkit/fsutil.pb.h"

namespace gantry::api::buildkit {
namespace {

using fsutil::types::Packet;
using fsutil::types::Stat;

// Contents asked for and not yet there. The sender takes many more before it stops reading.
constexpr size_t kRequests = 64;
constexpr int64_t kProgressStep = 256 << 10;

// Bits of a mode as the sender's language has them.
constexpr uint32_t kDirectory = 1u << 31;
constexpr uint32_t kSymlink = 1u << 27;
constexpr uint32_t kDevice = 1u << 26;
constexpr uint32_t kFifo = 1u << 25;
constexpr uint32_t kSocket = 1u << 24;
constexpr uint32_t kSetuid = 1u << 23;
constexpr uint32_t kSetgid = 1u << 22;
constexpr uint32_t kCharacterDevice = 1u << 21;
constexpr uint32_t kSticky = 1u << 20;
constexpr uint32_t kIrregular = 1u << 19;
constexpr uint32_t kTypes =
    kDirectory | kSymlink | kDevice | kFifo | kSocket | kCharacterDevice | kIrregular;

mode_t PermissionsOf(uint32_t mode) {
  return (mode & 0777) | (mode & kSetuid ? S_ISUID : 0) | (mode & kSetgid ? S_ISGID : 0) |
         (mode & kSticky ? S_ISVTX : 0);
}

// Beneath `root`, without any link on the way.
UniqueFd OpenBeneath(int root, const std::string& path, int flags, mode_t mode) {
  open_how how = {};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC | O_NOFOLLOW);
  how.mode = mode;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  return UniqueFd(static_cast<int>(syscall(SYS_openat2, root, path.c_str(), &how, sizeof how)));
}

absl::Status CheckPath(const std::string& path, size_t depth) {
  const auto bad = [&](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("file name \"", ToValidUtf8(path.substr(0, 200)), "\" ", why));
  };
  if (path.empty() || path.size() >= 4096) return bad("is empty or too long");
  if (path.find('\0') != std::string::npos) return bad("holds a NUL");
  size_t parts = 0;
  for (size_t at = 0; at <= path.size();) {
    const size_t slash = std::min(path.find('/', at), path.size());
    const absl::string_view part = absl::string_view(path).substr(at, slash - at);
    if (part.empty() || part == "." || part == "..") return bad("is not a clean relative path");
    if (part.size() > 255) return bad("has a part that is too long");
    if (++parts > depth) return bad("is nested too deeply");
    at = slash + 1;
  }
  return absl::OkStatus();
}

class Receiver {
 public:
  Receiver(PacketStream& stream, int root, CancelToken* cancel,
           const std::function<void(int64_t)>& progress, const ReceiveLimits& limits)
      : stream_(stream), root_(root), cancel_(cancel), progress_(progress), limits_(limits) {}

  absl::Status Run() {
    levels_.push_back({"", UniqueFd(fcntl(root_, F_DUPFD_CLOEXEC, 3)), "", {}});
    if (!levels_.back().directory.valid()) return ErrnoToStatus(errno, "dup");
    Packet packet;
    while (true) {
      if (cancel_ != nullptr) GANTRY_RETURN_IF_ERROR(cancel_->Check());
      packet.Clear();
      GANTRY_ASSIGN_OR_RETURN(const bool more, stream_.Read(packet));
      if (!more) {
        if (finished_) break;
        return absl::UnavailableError("the client ended the transfer before its end");
      }
      Count(static_cast<int64_t>(packet.ByteSizeLong()));
      switch (packet.type()) {
        case Packet::PACKET_STAT:
          GANTRY_RETURN_IF_ERROR(packet.has_stat() ? OnStat(packet.stat()) : OnLastStat());
          break;
        case Packet::PACKET_DATA:
          GANTRY_RETURN_IF_ERROR(OnData(packet));
          break;
        case Packet::PACKET_FIN:
          if (!fin_sent_) return absl::InvalidArgumentError("the client finished too early");
          finished_ = true;
          break;
        case Packet::PACKET_ERR:
          return absl::FailedPreconditionError(
              absl::StrCat("the client cannot send its files: ", ToValidUtf8(packet.data())));
        default:
          return absl::InvalidArgumentError(
              absl::StrCat("a packet of type ", static_cast<int>(packet.type())));
      }
      GANTRY_RETURN_IF_ERROR(Ask());
    }
    if (progress_) progress_(received_);
    return absl::OkStatus();
  }

 private:
  struct Attributes {
    mode_t mode = 0;
    int64_t mtime_nanos = 0;
    std::map<std::string, std::string> xattrs;
  };
  struct Level {
    std::string path;  // "" for the top
    UniqueFd directory;
    std::string last;  // name of the last file in it
    Attributes attributes;
  };
  struct Wanted {
    uint32_t number;
    std::string path;
    Attributes attributes;
  };
  struct Incoming {
    UniqueFd file;
    std::string path;
    Attributes attributes;
  };

  void Count(int64_t bytes) {
    received_ += bytes;
    if (!progress_ || received_ - told_ < kProgressStep) return;
    told_ = received_;
    progress_(received_);
  }

  static absl::Status Failed(const std::string& path) { return ErrnoToStatus(errno, path); }

  static Attributes AttributesOf(const Stat& stat) {
    Attributes out;
    out.mode = PermissionsOf(stat.mode());
    out.mtime_nanos = stat.modtime();
    for (const auto& [name, value] : stat.xattrs()) {
      // What else there may be belongs to the sender's system.
      if (name == "security.capability" || absl::StartsWith(name, "user."))
        out.xattrs.emplace(name, value);
    }
    return out;
  }

  static timespec TimeOf(int64_t nanos) {
    timespec time = {nanos / 1'000'000'000, nanos % 1'000'000'000};
    if (time.tv_nsec < 0) {
      time.tv_nsec += 1'000'000'000;
      --time.tv_sec;
    }
    return time;
  }

  static absl::Status Apply(int fd, const Attributes& attributes, const std::string& path) {
    for (const auto& [name, value] : attributes.xattrs) {
      // A file system without this kind of attributes takes the files all the same.
      if (fsetxattr(fd, name.c_str(), value.data(), value.size(), 0) != 0 && errno != EOPNOTSUPP)
        return Failed(path);
    }
    const timespec time = TimeOf(attributes.mtime_nanos);
    const timespec times[2] = {time, time};
    if (fchmod(fd, attributes.mode) != 0 || futimens(fd, times) != 0) return Failed(path);
    return absl::OkStatus();
  }

  // Leaves directories up to the parent of `path`, which must be one that was sent.
  absl::Status Enter(const std::string& path, std::string* name) {
    const size_t slash = path.rfind('/');
    const std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
    *name = slash == std::string::npos ? path : path.substr(slash + 1);
    while (levels_.back().path != parent) {
      if (levels_.size() == 1)
        return absl::InvalidArgumentError(absl::StrCat("file \"", ToValidUtf8(path),
                                                       "\" is out of order: no directory \"",
                                                       ToValidUtf8(parent), "\" was sent"));
      GANTRY_RETURN_IF_ERROR(Leave());
    }
    Level& level = levels_.back();
    if (!level.last.empty() && level.last >= *name)
      return absl::InvalidArgumentError(absl::StrCat("file \"", ToValidUtf8(path),
                                                     "\" is out of order: it comes behind \"",
                                                     ToValidUtf8(level.last), "\""));
    level.last = *name;
    return absl::OkStatus();
  }

  absl::Status Leave() {
    const Level level = std::move(levels_.back());
    levels_.pop_back();
    return Apply(level.directory.get(), level.attributes, level.path);
  }

  absl::Status OnStat(const Stat& stat) {
    if (stats_over_) return absl::InvalidArgumentError("a file behind the end of the list");
    const std::string& path = stat.path();
    GANTRY_RETURN_IF_ERROR(CheckPath(path, limits_.depth));
    names_ += static_cast<int64_t>(stat.ByteSizeLong());
    if (files_ >= limits_.files || names_ > limits_.name_bytes)
      return absl::ResourceExhaustedError(
          absl::StrCat("more than ", files_,
                       " files; leave out what the build does not need in "
                       ".dockerignore"));
    const uint32_t number = static_cast<uint32_t>(files_++);
    std::string name;
    GANTRY_RETURN_IF_ERROR(Enter(path, &name));
    const int parent = levels_.back().directory.get();
    Attributes attributes = AttributesOf(stat);
    switch (stat.mode() & kTypes) {
      case kDirectory: {
        if (mkdirat(parent, name.c_str(), 0700) != 0) return Failed(path);
        UniqueFd directory(
            openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!directory.valid()) return Failed(path);
        levels_.push_back({path, std::move(directory), "", std::move(attributes)});
        return absl::OkStatus();
      }
      case kSymlink: {
        const std::string& to = stat.linkname();
        if (to.empty() || to.size() >= 4096 || to.find('\0') != std::string::npos)
          return absl::InvalidArgumentError(
              absl::StrCat("link \"", ToValidUtf8(path), "\" has a malformed target"));
        if (symlinkat(to.c_str(), parent, name.c_str()) != 0) return Failed(path);
        break;
      }
      case kFifo:
        if (mknodat(parent, name.c_str(), S_IFIFO | attributes.mode, 0) != 0) return Failed(path);
        break;
      case kDevice:
      case kDevice | kCharacterDevice: {
        const mode_t kind = stat.mode() & kCharacterDevice ? S_IFCHR : S_IFBLK;
        const dev_t device =
            makedev(static_cast<unsigned>(stat.devmajor()), static_cast<unsigned>(stat.devminor()));
        if (mknodat(parent, name.c_str(), kind | attributes.mode, device) != 0) return Failed(path);
        break;
      }
      case 0:
        return OnFile(stat, number, name, std::move(attributes));
      default:
        return absl::InvalidArgumentError(
            absl::StrCat("file \"", ToValidUtf8(path), "\" is of a kind that cannot be sent"));
    }
    const timespec time = TimeOf(attributes.mtime_nanos);
    const timespec times[2] = {time, time};
    if (utimensat(parent, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) return Failed(path);
    return absl::OkStatus();
  }

  absl::Status OnFile(const Stat& stat, uint32_t number, const std::string& name,
                      Attributes attributes) {
    const int parent = levels_.back().directory.get();
    if (!stat.linkname().empty()) {
      GANTRY_RETURN_IF_ERROR(CheckPath(stat.linkname(), limits_.depth));
      const UniqueFd other = OpenBeneath(root_, stat.linkname(), O_PATH, 0);
      struct stat info;
      if (!other.valid() || fstat(other.get(), &info) != 0 || !S_ISREG(info.st_mode))
        return absl::InvalidArgumentError(
            absl::StrCat("file \"", ToValidUtf8(stat.path()), "\" is linked to \"",
                         ToValidUtf8(stat.linkname()), "\", which was not sent"));
      const std::string self = absl::StrCat("/proc/self/fd/", other.get());
      if (linkat(AT_FDCWD, self.c_str(), parent, name.c_str(), AT_SYMLINK_FOLLOW) != 0)
        return Failed(stat.path());
      return absl::OkStatus();
    }
    UniqueFd file(
        openat(parent, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file.valid()) return Failed(stat.path());
    if (stat.size() <= 0) return Apply(file.get(), attributes, stat.path());
    wanted_.push_back({number, stat.path(), std::move(attributes)});
    return absl::OkStatus();
  }

  absl::Status OnLastStat() {
    if (stats_over_) return absl::InvalidArgumentError("the list of files ended twice");
    stats_over_ = true;
    while (levels_.size() > 1) GANTRY_RETURN_IF_ERROR(Leave());
    return absl::OkStatus();
  }

  absl::Status OnData(const Packet& packet) {
    const auto found = incoming_.find(packet.id());
    if (found == incoming_.end())
      return absl::InvalidArgumentError(
          absl::StrCat("content of file ", packet.id(), ", which was not asked for"));
    Incoming& incoming = found->second;
    absl::string_view left = packet.data();
    if (left.empty()) {
      GANTRY_RETURN_IF_ERROR(Apply(incoming.file.get(), incoming.attributes, incoming.path));
      incoming_.erase(found);
      return absl::OkStatus();
    }
    while (!left.empty()) {
      const ssize_t written = write(incoming.file.get(), left.data(), left.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return Failed(incoming.path);
      left.remove_prefix(static_cast<size_t>(written));
    }
    return absl::OkStatus();
  }

  // Asks for more contents, and says so when there is nothing more to ask for.
  absl::Status Ask() {
    while (!wanted_.empty() && incoming_.size() < kRequests) {
      Wanted next = std::move(wanted_.front());
      wanted_.pop_front();
      UniqueFd file = OpenBeneath(root_, next.path, O_WRONLY, 0);
      if (!file.valid()) return Failed(next.path);
      incoming_[next.number] = {std::move(file), next.path, std::move(next.attributes)};
      Packet request;
      request.set_type(Packet::PACKET_REQ);
      request.set_id(next.number);
      GANTRY_RETURN_IF_ERROR(stream_.Write(request));
    }
    if (!stats_over_ || !wanted_.empty() || !incoming_.empty() || fin_sent_)
      return absl::OkStatus();
    fin_sent_ = true;
    Packet fin;
    fin.set_type(Packet::PACKET_FIN);
    return stream_.Write(fin);
  }

  PacketStream& stream_;
  const int root_;
  CancelToken* const cancel_;
  const std::function<void(int64_t)>& progress_;
  const ReceiveLimits limits_;

  std::vector<Level> levels_;
  std::deque<Wanted> wanted_;
  std::map<uint32_t, Incoming> incoming_;
  int64_t files_ = 0;
  int64_t names_ = 0;
  int64_t received_ = 0;
  int64_t told_ = 0;
  bool stats_over_ = false;
  bool fin_sent_ = false;
  bool finished_ = false;
};

}  // namespace

absl::Status ReceiveFiles(PacketStream& stream, int directory, CancelToken* cancel,
                          const std::function<void(int64_t)>& progress,
                          const ReceiveLimits& limits) {
  absl::Status received = Receiver(stream, directory, cancel, progress, limits).Run();
  if (!received.ok()) {
    Packet error;
    error.set_type(Packet::PACKET_ERR);
    error.set_data(std::string(received.message()));
    // The sender may be gone, or be the one who failed.
    (void)stream.Write(error);
  }
  return received;
}

}  // namespace gantry::api::buildkit
