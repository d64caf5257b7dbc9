#include "ctl/tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace gantry::ctl {
namespace {

constexpr size_t kBlock = 512;
constexpr size_t kMaxPaxBytes = 1 << 20;
constexpr size_t kBufferBytes = 256 << 10;

struct Header {
  char name[100];
  char mode[8];
  char uid[8];
  char gid[8];
  char size[12];
  char mtime[12];
  char checksum[8];
  char type;
  char link[100];
  char magic[6];
  char version[2];
  char user[32];
  char group[32];
  char major[8];
  char minor[8];
  char prefix[155];
  char padding[12];
};
static_assert(sizeof(Header) == kBlock);

// ---- writing ----

template <size_t N>
bool PutOctal(char (&field)[N], uint64_t value) {
  const std::string digits = absl::StrFormat("%0*o", static_cast<int>(N - 1), value);
  if (digits.size() > N - 1) return false;
  memcpy(field, digits.data(), digits.size());
  return true;
}

std::string PaxRecord(absl::string_view key, absl::string_view value) {
  // The length counts its own digits.
  size_t length = key.size() + value.size() + 3;
  size_t total = length + absl::StrCat(length).size();
  if (absl::StrCat(total).size() > absl::StrCat(length).size()) ++total;
  return absl::StrCat(total, " ", key, "=", value, "\n");
}

class TreeWriter {
 public:
  explicit TreeWriter(ByteSink& out) : out_(out), buffer_(kBufferBytes, '\0') {}

  absl::Status Add(int parent_fd, const std::string& file, const std::string& name, bool follow) {
    struct stat st;
    if (::fstatat(parent_fd, file.c_str(), &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) != 0) {
      return ErrnoToStatus(errno, absl::StrCat("stat ", name));
    }
    if (S_ISSOCK(st.st_mode)) return absl::OkStatus();  // an archive cannot hold one
    if (S_ISREG(st.st_mode)) return AddFile(parent_fd, file, name, st);
    if (S_ISDIR(st.st_mode)) {
      GANTRY_RETURN_IF_ERROR(WriteHeader(name + "/", st, '5', 0, ""));
      return AddContent(parent_fd, file, name);
    }
    if (S_ISLNK(st.st_mode)) {
      std::string target(static_cast<size_t>(std::max<off_t>(st.st_size, 256)) + 1, '\0');
      const ssize_t n = ::readlinkat(parent_fd, file.c_str(), target.data(), target.size());
      if (n < 0) return ErrnoToStatus(errno, absl::StrCat("readlink ", name));
      target.resize(static_cast<size_t>(n));
      return WriteHeader(name, st, '2', 0, target);
    }
    return WriteHeader(name, st,
                       S_ISCHR(st.st_mode)   ? '3'
                       : S_ISBLK(st.st_mode) ? '4'
                                             : '6',
                       0, "");
  }

  // What a directory holds, under `name` ("" for names relative to it).
  absl::Status AddContent(int parent_fd, const std::string& directory, const std::string& name) {
    UniqueFd fd(::openat(parent_fd, directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", name));
    const int raw = fd.release();
    DIR* stream = ::fdopendir(raw);
    if (stream == nullptr) {
      const int error = errno;
      ::close(raw);
      return ErrnoToStatus(error, absl::StrCat("read ", name));
    }
    const std::unique_ptr<DIR, int (*)(DIR*)> closer(stream, ::closedir);
    std::vector<std::string> entries;
    while (const dirent* entry = ::readdir(stream)) {
      const std::string child = entry->d_name;
      if (child != "." && child != "..") entries.push_back(child);
    }
    std::sort(entries.begin(), entries.end());
    for (const std::string& child : entries) {
      GANTRY_RETURN_IF_ERROR(
          Add(raw, child, name.empty() ? child : absl::StrCat(name, "/", child), false));
    }
    return absl::OkStatus();
  }

  absl::Status Finish() { return out_.Write(std::string(2 * kBlock, '\0')); }

 private:
  absl::Status AddFile(int parent_fd, const std::string& file, const std::string& name,
                       const struct stat& st) {
    if (st.st_nlink > 1) {
      const auto [it, is_new] = links_.emplace(std::make_pair(st.st_dev, st.st_ino), name);
      if (!is_new) return WriteHeader(name, st, '1', 0, it->second);
    }
    UniqueFd fd(::openat(parent_fd, file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", name));
    GANTRY_RETURN_IF_ERROR(WriteHeader(name, st, '0', static_cast<uint64_t>(st.st_size), ""));
    // The header's promise is kept even if the file shrinks or grows meanwhile.
    int64_t left = st.st_size;
    while (left > 0) {
      const size_t want =
          static_cast<size_t>(std::min<int64_t>(left, static_cast<int64_t>(buffer_.size())));
      const ssize_t n = ::read(fd.get(), buffer_.data(), want);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoToStatus(errno, absl::StrCat("read ", name));
      if (n == 0) {
        return absl::AbortedError(
            absl::StrCat(name, " became shorter while it was read; try again"));
      }
      GANTRY_RETURN_IF_ERROR(out_.Write(absl::string_view(buffer_.data(), static_cast<size_t>(n))));
      left -= n;
    }
    return Pad(static_cast<uint64_t>(st.st_size));
  }

  absl::Status Pad(uint64_t size) {
    const size_t rest = size % kBlock;
    return rest == 0 ? absl::OkStatus() : out_.Write(std::string(kBlock - rest, '\0'));
  }

  absl::Status WriteHeader(const std::string& name, const struct stat& st, char type, uint64_t size,
                           const std::string& link) {
    std::string pax;
    Header header = {};
    if (name.size() > sizeof(header.name)) absl::StrAppend(&pax, PaxRecord("path", name));
    if (link.size() > sizeof(header.link)) absl::StrAppend(&pax, PaxRecord("linkpath", link));
    name.copy(header.name, sizeof(header.name));
    link.copy(header.link, sizeof(header.link));
    PutOctal(header.mode, st.st_mode & 07777);
    if (!PutOctal(header.uid, st.st_uid)) {
      absl::StrAppend(&pax, PaxRecord("uid", absl::StrCat(st.st_uid)));
    }
    if (!PutOctal(header.gid, st.st_gid)) {
      absl::StrAppend(&pax, PaxRecord("gid", absl::StrCat(st.st_gid)));
    }
    if (!PutOctal(header.size, size)) absl::StrAppend(&pax, PaxRecord("size", absl::StrCat(size)));
    if (st.st_mtim.tv_nsec != 0 || st.st_mtim.tv_sec < 0) {
      absl::StrAppend(&pax, PaxRecord("mtime", absl::StrFormat("%d.%09d", st.st_mtim.tv_sec,
                                                               st.st_mtim.tv_nsec)));
    }
    PutOctal(header.mtime, static_cast<uint64_t>(std::max<time_t>(st.st_mtim.tv_sec, 0)));
    header.type = type;
    memcpy(header.magic, "ustar", 6);
    memcpy(header.version, "00", 2);
    if (type == '3' || type == '4') {
      PutOctal(header.major, major(st.st_rdev));
      PutOctal(header.minor, minor(st.st_rdev));
    }
    if (!pax.empty()) {
      Header extended = {};
      memcpy(extended.name, "pax", 3);
      PutOctal(extended.mode, 0644);
      PutOctal(extended.uid, 0);
      PutOctal(extended.gid, 0);
      PutOctal(extended.size, pax.size());
      PutOctal(extended.mtime, 0);
      extended.type = 'x';
      memcpy(extended.magic, "ustar", 6);
      memcpy(extended.version, "00", 2);
      GANTRY_RETURN_IF_ERROR(WriteBlock(&extended));
      GANTRY_RETURN_IF_ERROR(out_.Write(pax));
      GANTRY_RETURN_IF_ERROR(Pad(pax.size()));
    }
    return WriteBlock(&header);
  }

  absl::Status WriteBlock(Header* header) {
    memset(header->checksum, ' ', sizeof(header->checksum));
    unsigned sum = 0;
    const char* bytes = reinterpret_cast<const char*>(header);
    for (size_t i = 0; i < kBlock; ++i) sum += static_cast<unsigned char>(bytes[i]);
    const std::string digits = absl::StrFormat("%06o", sum);
    memcpy(header->checksum, digits.data(), 6);
    header->checksum[6] = '\0';
    return out_.Write(absl::string_view(bytes, kBlock));
  }

  ByteSink& out_;
  std::string buffer_;
  std::map<std::pair<dev_t, ino_t>, std::string> links_;
};

// ---- reading ----

struct Entry {
  std::string name;
  std::string link;
  char type = '0';
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t size = 0;
  timespec mtime = {};
  uint32_t major = 0;
  uint32_t minor = 0;
};

template <size_t N>
std::string Text(const char (&field)[N]) {
  return std::string(field, ::strnlen(field, N));
}

template <size_t N>
absl::StatusOr<int64_t> Number(const char (&field)[N]) {
  // GNU's binary form for what octal cannot hold.
  if ((static_cast<unsigned char>(field[0]) & 0x80) != 0) {
    uint64_t value = static_cast<unsigned char>(field[0]) & 0x3F;
    for (size_t i = 1; i < N; ++i) value = value << 8 | static_cast<unsigned char>(field[i]);
    return static_cast<int64_t>(value & INT64_MAX);
  }
  int64_t value = 0;
  for (size_t i = 0; i < N && field[i] != '\0'; ++i) {
    if (field[i] == ' ') continue;
    if (field[i] < '0' || field[i] > '7')
      return absl::DataLossError("archive: bad number in a header");
    value = value * 8 + (field[i] - '0');
  }
  return value;
}

class EntryReader {
 public:
  explicit EntryReader(ByteSource& tar) : tar_(tar) {}

  // False at the end. What is left of the entry before is passed over.
  absl::StatusOr<bool> Next(Entry* entry) {
    GANTRY_RETURN_IF_ERROR(Skip(left_ + padding_));
    left_ = padding_ = 0;
    std::map<std::string, std::string> pax;
    std::string long_name;
    std::string long_link;
    while (true) {
      Header header;
      GANTRY_ASSIGN_OR_RETURN(bool there, ReadBlock(&header));
      if (!there) return false;
      GANTRY_ASSIGN_OR_RETURN(int64_t size, Number(header.size));
      if (header.type == 'x' || header.type == 'g' || header.type == 'L' || header.type == 'K') {
        if (size < 0 || size > static_cast<int64_t>(kMaxPaxBytes)) {
          return absl::DataLossError("archive: an extended header is too large");
        }
        std::string data(static_cast<size_t>(size), '\0');
        GANTRY_RETURN_IF_ERROR(ReadExactly(tar_, data.data(), data.size()));
        GANTRY_RETURN_IF_ERROR(Skip(Padding(size)));
        if (header.type == 'x') GANTRY_RETURN_IF_ERROR(ParsePax(data, &pax));
        if (header.type == 'L') long_name = data.c_str();
        if (header.type == 'K') long_link = data.c_str();
        continue;
      }
      Entry out;
      out.name = Text(header.name);
      if (memcmp(header.magic, "ustar", 5) == 0 && header.magic[5] == '\0' &&
          header.prefix[0] != '\0') {
        out.name = absl::StrCat(Text(header.prefix), "/", out.name);
      }
      if (!long_name.empty()) out.name = long_name;
      out.link = long_link.empty() ? Text(header.link) : long_link;
      out.type = header.type == '\0' || header.type == '7' ? '0' : header.type;
      GANTRY_ASSIGN_OR_RETURN(int64_t mode, Number(header.mode));
      GANTRY_ASSIGN_OR_RETURN(int64_t uid, Number(header.uid));
      GANTRY_ASSIGN_OR_RETURN(int64_t gid, Number(header.gid));
      GANTRY_ASSIGN_OR_RETURN(int64_t mtime, Number(header.mtime));
      GANTRY_ASSIGN_OR_RETURN(int64_t major, Number(header.major));
      GANTRY_ASSIGN_OR_RETURN(int64_t minor, Number(header.minor));
      out.mode = static_cast<uint32_t>(mode) & 07777;
      out.uid = static_cast<uint32_t>(uid);
      out.gid = static_cast<uint32_t>(gid);
      out.mtime.tv_sec = mtime;
      out.major = static_cast<uint32_t>(major);
      out.minor = static_cast<uint32_t>(minor);
      out.size = size;
      for (const auto& [key, value] : pax) ApplyPax(key, value, &out);
      if (out.size < 0) return absl::DataLossError("archive: negative size");
      if (out.type != '0') out.size = 0;
      left_ = out.size;
      padding_ = Padding(out.size);
      *entry = std::move(out);
      return true;
    }
  }

  // Of the current entry's data; 0 at its end.
  absl::StatusOr<size_t> Read(char* buffer, size_t n) {
    if (left_ == 0) return 0;
    const size_t want = static_cast<size_t>(std::min<int64_t>(left_, static_cast<int64_t>(n)));
    GANTRY_ASSIGN_OR_RETURN(size_t got, tar_.Read(buffer, want));
    if (got == 0) return absl::DataLossError("archive: ends inside a file");
    left_ -= static_cast<int64_t>(got);
    return got;
  }

 private:
  static int64_t Padding(int64_t size) {
    return (static_cast<int64_t>(kBlock) - size % static_cast<int64_t>(kBlock)) %
           static_cast<int64_t>(kBlock);
  }

  absl::Status Skip(int64_t n) {
    std::array<char, 16384> dropped;
    while (n > 0) {
      const size_t part = static_cast<size_t>(std::min<int64_t>(n, dropped.size()));
      GANTRY_RETURN_IF_ERROR(ReadExactly(tar_, dropped.data(), part));
      n -= static_cast<int64_t>(part);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<bool> ReadBlock(Header* header) {
    char* bytes = reinterpret_cast<char*>(header);
    size_t got = 0;
    while (got < kBlock) {
      GANTRY_ASSIGN_OR_RETURN(size_t n, tar_.Read(bytes + got, kBlock - got));
      if (n == 0) break;
      got += n;
    }
    if (got == 0) return false;
    if (got < kBlock) return absl::DataLossError("archive: ends inside a header");
    unsigned sum = 0;
    bool zero = true;
    for (size_t i = 0; i < kBlock; ++i) {
      const bool in_checksum = i >= offsetof(Header, checksum) && i < offsetof(Header, type);
      sum += in_checksum ? ' ' : static_cast<unsigned char>(bytes[i]);
      zero = zero && bytes[i] == '\0';
    }
    if (zero) return false;
    GANTRY_ASSIGN_OR_RETURN(int64_t expected, Number(header->checksum));
    if (expected != static_cast<int64_t>(sum))
      return absl::DataLossError("archive: header checksum differs");
    return true;
  }

  static absl::Status ParsePax(absl::string_view data,
                               std::map<std::string, std::string>* records) {
    while (!data.empty()) {
      const size_t space = data.find(' ');
      size_t length;
      if (space == data.npos || !absl::SimpleAtoi(data.substr(0, space), &length) ||
          length <= space + 1 || length > data.size()) {
        return absl::DataLossError("archive: bad pax header");
      }
      absl::string_view record = data.substr(space + 1, length - space - 2);
      const size_t equals = record.find('=');
      if (equals == record.npos) return absl::DataLossError("archive: bad pax header");
      (*records)[std::string(record.substr(0, equals))] = std::string(record.substr(equals + 1));
      data.remove_prefix(length);
    }
    return absl::OkStatus();
  }

  static void ApplyPax(const std::string& key, const std::string& value, Entry* entry) {
    if (key == "path") entry->name = value;
    if (key == "linkpath") entry->link = value;
    if (key == "size" && !absl::SimpleAtoi(value, &entry->size)) entry->size = -1;
    uint32_t id;
    if (key == "uid" && absl::SimpleAtoi(value, &id)) entry->uid = id;
    if (key == "gid" && absl::SimpleAtoi(value, &id)) entry->gid = id;
    if (key == "mtime") {
      const std::pair<std::string, std::string> parts =
          absl::StrSplit(value, absl::MaxSplits('.', 1));
      int64_t seconds;
      if (!absl::SimpleAtoi(parts.first, &seconds)) return;
      std::string fraction = parts.second;
      fraction.resize(9, '0');
      int64_t nanos = 0;
      (void)absl::SimpleAtoi(fraction, &nanos);
      entry->mtime.tv_sec = seconds;
      entry->mtime.tv_nsec = nanos;
    }
  }

  ByteSource& tar_;
  int64_t left_ = 0;
  int64_t padding_ = 0;
};

class TreeExtractor {
 public:
  TreeExtractor(ByteSource& tar, int root_fd, const ExtractOptions& options)
      : reader_(tar), root_(root_fd), options_(options) {}

  absl::StatusOr<int64_t> Run() {
    int64_t count = 0;
    Entry entry;
    while (true) {
      GANTRY_ASSIGN_OR_RETURN(bool there, reader_.Next(&entry));
      if (!there) break;
      GANTRY_ASSIGN_OR_RETURN(std::vector<std::string> parts, Parts(entry.name));
      if (parts.empty()) continue;  // the target itself
      if (const absl::Status status = Make(entry, parts); !status.ok()) {
        return absl::Status(status.code(), absl::StrCat(entry.name, ": ", status.message()));
      }
      ++count;
    }
    // Last: making what is inside a directory changes its time, and its mode may forbid it.
    for (auto it = directories_.rbegin(); it != directories_.rend(); ++it) {
      GANTRY_ASSIGN_OR_RETURN(UniqueFd fd, OpenBeneath(it->first, O_RDONLY | O_DIRECTORY));
      ::fchmod(fd.get(), it->second.mode);
      const timespec times[2] = {it->second.mtime, it->second.mtime};
      ::futimens(fd.get(), times);
    }
    return count;
  }

 private:
  // Components of a name with the first renamed. kFailedPrecondition: it climbs.
  absl::StatusOr<std::vector<std::string>> Parts(const std::string& name) const {
    std::vector<std::string> parts;
    for (absl::string_view part : absl::StrSplit(name, '/', absl::SkipEmpty())) {
      if (part == ".") continue;
      if (part == ".." || part.find('\0') != part.npos) {
        return absl::FailedPreconditionError(absl::StrCat(
            "archive: the name \"", name, "\" leads out of the target; nothing more is written"));
      }
      parts.push_back(std::string(part));
    }
    if (!parts.empty() && !options_.rename_root.empty()) parts[0] = options_.rename_root;
    return parts;
  }

  // Beneath the target, through no symbolic link.
  absl::StatusOr<UniqueFd> OpenBeneath(const std::string& path, int flags) const {
    open_how how = {};
    how.flags = static_cast<uint64_t>(flags) | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    UniqueFd fd(static_cast<int>(::syscall(SYS_openat2, root_, path.c_str(), &how, sizeof(how))));
    if (!fd.valid()) {
      const int error = errno;
      if (error == ELOOP || error == EXDEV) {
        return absl::FailedPreconditionError(
            "the way to it leads through a symbolic link; refused");
      }
      return ErrnoToStatus(error, path);
    }
    return fd;
  }

  absl::StatusOr<UniqueFd> Parent(const std::vector<std::string>& parts) const {
    std::string path = ".";
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      GANTRY_ASSIGN_OR_RETURN(UniqueFd above, OpenBeneath(path, O_PATH | O_DIRECTORY));
      if (::mkdirat(above.get(), parts[i].c_str(), 0755) != 0 && errno != EEXIST) {
        return ErrnoToStatus(errno, "mkdir");
      }
      absl::StrAppend(&path, "/", parts[i]);
    }
    return OpenBeneath(path, O_PATH | O_DIRECTORY);
  }

  absl::Status Make(const Entry& entry, const std::vector<std::string>& parts) {
    GANTRY_ASSIGN_OR_RETURN(UniqueFd parent, Parent(parts));
    const std::string& name = parts.back();
    struct stat st;
    const bool exists = ::fstatat(parent.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (entry.type == '5') {
      if (exists && !S_ISDIR(st.st_mode)) {
        return absl::FailedPreconditionError("cannot overwrite a non-directory with a directory");
      }
      if (!exists && ::mkdirat(parent.get(), name.c_str(), 0700) != 0)
        return ErrnoToStatus(errno, "mkdir");
      GANTRY_RETURN_IF_ERROR(SetOwner(parent.get(), name, entry));
      directories_.emplace_back(absl::StrJoin(parts, "/"), entry);
      return absl::OkStatus();
    }
    if (exists && S_ISDIR(st.st_mode)) {
      return absl::FailedPreconditionError("cannot overwrite a directory with a non-directory");
    }
    if (exists && ::unlinkat(parent.get(), name.c_str(), 0) != 0)
      return ErrnoToStatus(errno, "replace");
    switch (entry.type) {
      case '0':
        return MakeFile(parent.get(), name, entry);
      case '1':
        return MakeLink(parent.get(), name, entry);
      case '2':
        if (::symlinkat(entry.link.c_str(), parent.get(), name.c_str()) != 0) {
          return ErrnoToStatus(errno, "symlink");
        }
        break;
      case '3':
      case '4':
      case '6': {
        const mode_t kind = entry.type == '3' ? S_IFCHR : entry.type == '4' ? S_IFBLK : S_IFIFO;
        if (::mknodat(parent.get(), name.c_str(), kind | entry.mode,
                      makedev(entry.major, entry.minor)) != 0) {
          return ErrnoToStatus(errno, "mknod");
        }
        break;
      }
      default:
        return absl::OkStatus();  // kinds of other systems
    }
    GANTRY_RETURN_IF_ERROR(SetOwner(parent.get(), name, entry));
    const timespec times[2] = {entry.mtime, entry.mtime};
    ::utimensat(parent.get(), name.c_str(), times, AT_SYMLINK_NOFOLLOW);
    return absl::OkStatus();
  }

  absl::Status MakeFile(int parent, const std::string& name, const Entry& entry) {
    UniqueFd fd(
        ::openat(parent, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd.valid()) return ErrnoToStatus(errno, "create");
    std::string buffer(kBufferBytes, '\0');
    while (true) {
      GANTRY_ASSIGN_OR_RETURN(size_t n, reader_.Read(buffer.data(), buffer.size()));
      if (n == 0) break;
      GANTRY_RETURN_IF_ERROR(WriteAll(fd.get(), absl::string_view(buffer.data(), n)));
    }
    GANTRY_RETURN_IF_ERROR(SetOwner(parent, name, entry));
    // After the owner: changing that takes setuid bits away.
    if (::fchmod(fd.get(), entry.mode) != 0) return ErrnoToStatus(errno, "chmod");
    const timespec times[2] = {entry.mtime, entry.mtime};
    ::futimens(fd.get(), times);
    return absl::OkStatus();
  }

  absl::Status MakeLink(int parent, const std::string& name, const Entry& entry) {
    GANTRY_ASSIGN_OR_RETURN(std::vector<std::string> target, Parts(entry.link));
    if (target.empty()) return absl::DataLossError("archive: hard link to nothing");
    const std::string target_name = target.back();
    GANTRY_ASSIGN_OR_RETURN(UniqueFd target_parent, Parent(target));
    if (::linkat(target_parent.get(), target_name.c_str(), parent, name.c_str(), 0) != 0) {
      return ErrnoToStatus(errno, absl::StrCat("link to ", entry.link));
    }
    return absl::OkStatus();
  }

  absl::Status SetOwner(int parent, const std::string& name, const Entry& entry) const {
    if (!options_.keep_owner) return absl::OkStatus();
    if (::fchownat(parent, name.c_str(), entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) != 0) {
      return ErrnoToStatus(errno, "chown");
    }
    return absl::OkStatus();
  }

  EntryReader reader_;
  const int root_;
  const ExtractOptions& options_;
  std::vector<std::pair<std::string, Entry>> directories_;
};

}  // namespace

absl::Status WriteTree(const std::string& path, const std::string& name, bool content_only,
                       bool follow, ByteSink& out) {
  TreeWriter writer(out);
  GANTRY_RETURN_IF_ERROR(content_only ? writer.AddContent(AT_FDCWD, path, "")
                                      : writer.Add(AT_FDCWD, path, name, follow));
  return writer.Finish();
}

absl::StatusOr<int64_t> ExtractTree(ByteSource& tar, const std::string& directory,
                                    const ExtractOptions& options) {
  UniqueFd root(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return ErrnoToStatus(errno, directory);
  return TreeExtractor(tar, root.get(), options).Run();
}

}  // namespace gantry::ctl
