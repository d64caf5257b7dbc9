#include "base/tar/writer.h"

#include <string.h>

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"

namespace gantry {
namespace {

constexpr size_t kBlock = 512;
constexpr int64_t kMaxOctal7 = 07777777;
constexpr int64_t kMaxOctal11 = 077777777777;

bool IsAscii(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_isascii(static_cast<unsigned char>(c)); });
}

void PutOctal(char* field, size_t size, int64_t number) {
  field[size - 1] = '\0';
  for (size_t i = size - 1; i-- > 0; number >>= 3) field[i] = static_cast<char>('0' + (number & 7));
}

void PutText(char* field, size_t size, absl::string_view text) {
  memcpy(field, text.data(), std::min(size, text.size()));
}

// Where a path can be cut into prefix and name; npos: nowhere.
size_t SplitPoint(absl::string_view path) {
  if (path.size() > 256) return absl::string_view::npos;
  size_t from = std::min<size_t>(155, path.size() - 1);
  while (true) {
    const size_t slash = path.rfind('/', from);
    if (slash == absl::string_view::npos || slash == 0) return absl::string_view::npos;
    const size_t name = path.size() - slash - 1;
    if (name > 100) return absl::string_view::npos;
    if (name > 0) return slash;
    from = slash - 1;
  }
}

// "<length> <key>=<value>\n", where the length counts itself.
void AppendRecord(std::string& out, absl::string_view key, absl::string_view value) {
  const size_t rest = key.size() + value.size() + 3;
  size_t length = rest + 1;
  while (absl::StrCat(length).size() + rest != length) length = absl::StrCat(length).size() + rest;
  absl::StrAppend(&out, length, " ", key, "=", value, "\n");
}

struct Header {
  char bytes[kBlock] = {};

  void Seal() {
    memset(bytes + 148, ' ', 8);
    unsigned int sum = 0;
    for (const char c : bytes) sum += static_cast<unsigned char>(c);
    PutOctal(bytes + 148, 7, sum);
  }
  absl::string_view view() const { return absl::string_view(bytes, kBlock); }
};

void PutCommon(Header& header, char type, int64_t mode, int64_t uid, int64_t gid, int64_t size,
               int64_t mtime) {
  PutOctal(header.bytes + 100, 8, mode);
  PutOctal(header.bytes + 108, 8, uid);
  PutOctal(header.bytes + 116, 8, gid);
  PutOctal(header.bytes + 124, 12, size);
  PutOctal(header.bytes + 136, 12, mtime);
  header.bytes[156] = type;
  PutText(header.bytes + 257, 8, absl::string_view("ustar\00000", 8));
}

char TypeFlag(TarType type) {
  switch (type) {
    case TarType::kFile:
      return '0';
    case TarType::kHardLink:
      return '1';
    case TarType::kSymlink:
      return '2';
    case TarType::kCharDevice:
      return '3';
    case TarType::kBlockDevice:
      return '4';
    case TarType::kDirectory:
      return '5';
    case TarType::kFifo:
      return '6';
  }
  return '0';
}

std::string Zeros(int64_t n) { return std::string(static_cast<size_t>(n), '\0'); }

int64_t PaddingOf(int64_t bytes) { return -bytes & static_cast<int64_t>(kBlock - 1); }

}  // namespace

TarWriter::TarWriter(ByteSink& sink, Seconds seconds) : sink_(sink), seconds_(seconds) {}

absl::Status TarWriter::Pad() {
  const int64_t padding = padding_;
  padding_ = 0;
  return padding == 0 ? absl::OkStatus() : sink_.Write(Zeros(padding));
}

absl::Status TarWriter::WriteEntry(const TarEntry& entry) {
  const auto invalid = [&](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("tar entry \"", absl::CHexEscape(absl::string_view(entry.path).substr(0, 300)),
                     "\": ", why));
  };
  if (data_left_ != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("tar: ", data_left_, " bytes of the entry before \"",
                     absl::CHexEscape(entry.path), "\" were not written"));
  }
  if (entry.path.empty()) return invalid("has no path");
  if (entry.path.find('\0') != std::string::npos ||
      entry.link_target.find('\0') != std::string::npos) {
    return invalid("NUL in a name");
  }
  const int64_t size = entry.type == TarType::kFile ? entry.size_bytes : 0;
  if (size < 0) return invalid(absl::StrCat("impossible size ", size));
  GANTRY_RETURN_IF_ERROR(Pad());

  std::string path = entry.path;
  if (entry.type == TarType::kDirectory && !absl::EndsWith(path, "/")) path.push_back('/');
  const bool has_link = entry.type == TarType::kHardLink || entry.type == TarType::kSymlink;

  // Sorted by key, so that equal entries are equal bytes.
  std::string records;
  for (const auto& [name, value] : entry.xattrs) {
    if (name.empty() || name.find('=') != std::string::npos ||
        name.find('\0') != std::string::npos) {
      return invalid("an extended attribute's name cannot be written");
    }
    AppendRecord(records, absl::StrCat("SCHILY.xattr.", name), value);
  }
  if (entry.gid > kMaxOctal7) AppendRecord(records, "gid", absl::StrCat(entry.gid));
  if (entry.group_name.size() > 32 || !IsAscii(entry.group_name))
    AppendRecord(records, "gname", entry.group_name);
  const bool link_fits =
      !has_link || (entry.link_target.size() <= 100 && IsAscii(entry.link_target));
  if (!link_fits) AppendRecord(records, "linkpath", entry.link_target);
  const bool mtime_fits = entry.mtime.seconds >= 0 && entry.mtime.seconds <= kMaxOctal11;
  const bool exact = seconds_ == Seconds::kExact && entry.mtime.nanos != 0;
  if (exact) {
    // A negative time counts down: -1.5 is half a second before -1.
    const bool down = entry.mtime.seconds < 0;
    const int64_t seconds = entry.mtime.seconds + (down ? 1 : 0);
    AppendRecord(records, "mtime",
                 absl::StrFormat("%s%d.%09d", down && seconds == 0 ? "-" : "", seconds,
                                 down ? 1'000'000'000 - entry.mtime.nanos : entry.mtime.nanos));
  } else if (!mtime_fits) {
    AppendRecord(records, "mtime", absl::StrCat(entry.mtime.seconds));
  }
  const size_t split = path.size() <= 100 ? 0 : SplitPoint(path);
  const bool path_fits = IsAscii(path) && split != absl::string_view::npos;
  if (!path_fits) AppendRecord(records, "path", path);
  if (size > kMaxOctal11) AppendRecord(records, "size", absl::StrCat(size));
  if (entry.uid > kMaxOctal7) AppendRecord(records, "uid", absl::StrCat(entry.uid));
  if (entry.user_name.size() > 32 || !IsAscii(entry.user_name))
    AppendRecord(records, "uname", entry.user_name);

  if (!records.empty()) {
    Header extended;
    // Readers that know PAX ignore the name; for the others it is a file of this name.
    absl::string_view base = absl::StripSuffix(path, "/");
    base = base.substr(base.rfind('/') == absl::string_view::npos ? 0 : base.rfind('/') + 1);
    const std::string name =
        absl::StrCat("PaxHeaders.0/", IsAscii(base) ? base.substr(0, 80) : "entry");
    PutText(extended.bytes, 100, name);
    PutCommon(extended, 'x', 0644, 0, 0, static_cast<int64_t>(records.size()), 0);
    extended.Seal();
    GANTRY_RETURN_IF_ERROR(sink_.Write(extended.view()));
    records.append(static_cast<size_t>(PaddingOf(static_cast<int64_t>(records.size()))), '\0');
    GANTRY_RETURN_IF_ERROR(sink_.Write(records));
  }

  Header header;
  if (path_fits && split > 0) {
    PutText(header.bytes + 345, 155, absl::string_view(path).substr(0, split));
    PutText(header.bytes, 100, absl::string_view(path).substr(split + 1));
  } else {
    PutText(header.bytes, 100, path);
  }
  PutCommon(header, TypeFlag(entry.type), entry.mode & 07777,
            entry.uid > kMaxOctal7 ? 0 : entry.uid, entry.gid > kMaxOctal7 ? 0 : entry.gid,
            size > kMaxOctal11 ? 0 : size, mtime_fits ? entry.mtime.seconds : 0);
  if (has_link) PutText(header.bytes + 157, 100, entry.link_target);
  PutText(header.bytes + 265, 32, IsAscii(entry.user_name) ? entry.user_name : "");
  PutText(header.bytes + 297, 32, IsAscii(entry.group_name) ? entry.group_name : "");
  const bool device = entry.type == TarType::kCharDevice || entry.type == TarType::kBlockDevice;
  PutOctal(header.bytes + 329, 8, device ? entry.device_major : 0);
  PutOctal(header.bytes + 337, 8, device ? entry.device_minor : 0);
  header.Seal();
  GANTRY_RETURN_IF_ERROR(sink_.Write(header.view()));
  data_left_ = size;
  padding_ = PaddingOf(size);
  return absl::OkStatus();
}

absl::Status TarWriter::WriteData(absl::string_view bytes) {
  if (static_cast<int64_t>(bytes.size()) > data_left_) {
    return absl::OutOfRangeError(
        absl::StrCat("tar: ", bytes.size(), " bytes of data where ", data_left_, " are left"));
  }
  data_left_ -= static_cast<int64_t>(bytes.size());
  return sink_.Write(bytes);
}

absl::Status TarWriter::WriteFile(TarEntry entry, absl::string_view bytes) {
  entry.type = TarType::kFile;
  entry.size_bytes = static_cast<int64_t>(bytes.size());
  GANTRY_RETURN_IF_ERROR(WriteEntry(entry));
  return WriteData(bytes);
}

absl::Status TarWriter::Finish() {
  if (data_left_ != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("tar: ", data_left_, " bytes of the last entry were not written"));
  }
  GANTRY_RETURN_IF_ERROR(Pad());
  return sink_.Write(Zeros(2 * kBlock));
}

}  // namespace gantry
