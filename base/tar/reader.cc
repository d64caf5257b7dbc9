#include "base/tar/reader.h"

#include <string.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "base/tar/header_fields.h"

namespace gantry {

using namespace tar_header;  // NOLINT(google-build-using-namespace)

namespace {

constexpr size_t kReadBuffer = 256 << 10;

class BufferedChunks final : public ChunkSource {
 public:
  explicit BufferedChunks(ByteSource& source)
      : source_(source), buffer_(std::make_unique<char[]>(kReadBuffer)) {}

  absl::StatusOr<absl::string_view> NextChunk() override {
    GANTRY_ASSIGN_OR_RETURN(const size_t n, source_.Read(buffer_.get(), kReadBuffer));
    return absl::string_view(buffer_.get(), n);
  }

 private:
  ByteSource& source_;
  const std::unique_ptr<char[]> buffer_;
};

}  // namespace

struct TarReader::Pending {
  int64_t header_bytes = 0;
  int64_t xattr_bytes = 0;
  std::optional<std::string> path;
  std::optional<std::string> link_target;
  std::optional<std::string> user_name;
  std::optional<std::string> group_name;
  std::optional<int64_t> size;
  std::optional<int64_t> uid;
  std::optional<int64_t> gid;
  std::optional<TarTime> mtime;
  std::map<std::string, std::string> xattrs;
  // GNU sparse, in its three PAX dialects.
  std::optional<int64_t> sparse_major;
  std::optional<int64_t> sparse_minor;
  std::optional<int64_t> sparse_size;
  std::optional<std::string> sparse_name;
  std::optional<std::string> sparse_map;
  std::vector<int64_t> sparse_numbers;  // 0.0: offset and length in turn
};

TarReader::TarReader(ChunkSource& source, const TarLimits& limits)
    : source_(source), limits_(limits) {}

TarReader::TarReader(ByteSource& source, const TarLimits& limits)
    : owned_source_(std::make_unique<BufferedChunks>(source)),
      source_(*owned_source_),
      limits_(limits) {}

TarReader::~TarReader() = default;

absl::Status TarReader::Bad(absl::string_view what) const {
  std::string where = absl::StrCat("tar entry ", entry_count_ + 1);
  if (!current_path_.empty())
    absl::StrAppend(&where, " \"",
                    absl::CHexEscape(absl::string_view(current_path_).substr(0, 300)), "\"");
  return absl::InvalidArgumentError(absl::StrCat(where, ": ", what));
}

absl::Status TarReader::CutShort() const {
  return absl::DataLossError(Bad("the archive ends in the middle of it").message());
}

absl::Status TarReader::Fill() {
  while (chunk_.empty() && !source_ended_) {
    GANTRY_ASSIGN_OR_RETURN(chunk_, source_.NextChunk());
    if (chunk_.empty()) source_ended_ = true;
  }
  return absl::OkStatus();
}

// False at the end of the source.
absl::StatusOr<bool> TarReader::ReadBlock(char* block) {
  size_t done = 0;
  while (done < kBlock) {
    GANTRY_RETURN_IF_ERROR(Fill());
    if (chunk_.empty()) {
      if (done == 0) return false;
      return CutShort();
    }
    const size_t n = std::min(kBlock - done, chunk_.size());
    memcpy(block + done, chunk_.data(), n);
    chunk_.remove_prefix(n);
    done += n;
  }
  return true;
}

absl::Status TarReader::ReadExact(int64_t n, std::string& out) {
  out.clear();
  while (n > 0) {
    GANTRY_RETURN_IF_ERROR(Fill());
    if (chunk_.empty()) return CutShort();
    const size_t piece =
        static_cast<size_t>(std::min<int64_t>(n, static_cast<int64_t>(chunk_.size())));
    out.append(chunk_.data(), piece);
    chunk_.remove_prefix(piece);
    n -= static_cast<int64_t>(piece);
  }
  return absl::OkStatus();
}

absl::Status TarReader::Skip(int64_t n) {
  while (n > 0) {
    GANTRY_RETURN_IF_ERROR(Fill());
    if (chunk_.empty()) return CutShort();
    const size_t piece =
        static_cast<size_t>(std::min<int64_t>(n, static_cast<int64_t>(chunk_.size())));
    chunk_.remove_prefix(piece);
    n -= static_cast<int64_t>(piece);
  }
  return absl::OkStatus();
}

absl::Status TarReader::SkipRest() {
  const int64_t left = stored_left_ + padding_;
  stored_left_ = padding_ = 0;
  return Skip(left);
}

absl::Status TarReader::Drain() {
  while (true) {
    chunk_ = {};
    if (source_ended_) return absl::OkStatus();
    GANTRY_RETURN_IF_ERROR(Fill());
  }
}

// `records` is a sequence of "<length> <key>=<value>\n".
absl::Status TarReader::ParsePax(absl::string_view records, bool global, Pending& pending) {
  while (!records.empty()) {
    const size_t space = records.find(' ');
    const std::optional<int64_t> length = space == absl::string_view::npos || space > 20
                                              ? std::nullopt
                                              : Decimal(records.substr(0, space));
    if (!length.has_value() || *length <= static_cast<int64_t>(space) + 1 ||
        *length > static_cast<int64_t>(records.size()) ||
        records[static_cast<size_t>(*length) - 1] != '\n') {
      return Bad("malformed extended header");
    }
    absl::string_view record = records.substr(space + 1, static_cast<size_t>(*length) - space - 2);
    records.remove_prefix(static_cast<size_t>(*length));
    const size_t equals = record.find('=');
    if (equals == absl::string_view::npos || equals == 0) return Bad("malformed extended header");
    absl::string_view key = record.substr(0, equals);
    const absl::string_view value = record.substr(equals + 1);
    if (key.find('\0') != absl::string_view::npos) return Bad("extended header key with NUL");
    if (global) continue;  // checked, but layers must not depend on it

    const auto text = [&](std::optional<std::string>& field) -> absl::Status {
      if (value.find('\0') != absl::string_view::npos)
        return Bad(absl::StrCat("NUL in extended header ", key));
      if (value.empty()) {
        field.reset();  // back to what the plain header says
      } else {
        field = std::string(value);
      }
      return absl::OkStatus();
    };
    const auto number = [&](std::optional<int64_t>& field) -> absl::Status {
      field.reset();
      if (value.empty()) return absl::OkStatus();
      field = Decimal(value);
      if (!field.has_value() || *field < 0)
        return Bad(absl::StrCat("extended header ", key, " is not a number"));
      return absl::OkStatus();
    };
    const auto xattr = [&](std::string name, std::string bytes) -> absl::Status {
      pending.xattr_bytes += static_cast<int64_t>(name.size() + bytes.size());
      if (pending.xattr_bytes > limits_.xattr_bytes) {
        return Bad(
            absl::StrCat("extended attributes take more than ", limits_.xattr_bytes, " bytes"));
      }
      if (name.empty()) return Bad("extended attribute without a name");
      pending.xattrs[std::move(name)] = std::move(bytes);
      return absl::OkStatus();
    };

    if (key == "path") {
      GANTRY_RETURN_IF_ERROR(text(pending.path));
    } else if (key == "linkpath") {
      GANTRY_RETURN_IF_ERROR(text(pending.link_target));
    } else if (key == "size") {
      GANTRY_RETURN_IF_ERROR(number(pending.size));
    } else if (key == "uid") {
      GANTRY_RETURN_IF_ERROR(number(pending.uid));
    } else if (key == "gid") {
      GANTRY_RETURN_IF_ERROR(number(pending.gid));
    } else if (key == "uname") {
      GANTRY_RETURN_IF_ERROR(text(pending.user_name));
    } else if (key == "gname") {
      GANTRY_RETURN_IF_ERROR(text(pending.group_name));
    } else if (key == "mtime") {
      pending.mtime.reset();
      if (!value.empty()) {
        pending.mtime = PaxTime(value);
        if (!pending.mtime.has_value()) return Bad("extended header mtime is not a time");
      }
    } else if (absl::ConsumePrefix(&key, "SCHILY.xattr.")) {
      GANTRY_RETURN_IF_ERROR(xattr(std::string(key), std::string(value)));
    } else if (absl::ConsumePrefix(&key, "LIBARCHIVE.xattr.")) {
      std::string bytes;
      if (!absl::Base64Unescape(value, &bytes)) return Bad("extended attribute is not base64");
      std::string name = UnescapeUrl(key);
      if (pending.xattrs.count(name) == 0)
        GANTRY_RETURN_IF_ERROR(xattr(std::move(name), std::move(bytes)));
    } else if (key == "GNU.sparse.major") {
      GANTRY_RETURN_IF_ERROR(number(pending.sparse_major));
    } else if (key == "GNU.sparse.minor") {
      GANTRY_RETURN_IF_ERROR(number(pending.sparse_minor));
    } else if (key == "GNU.sparse.size" || key == "GNU.sparse.realsize") {
      GANTRY_RETURN_IF_ERROR(number(pending.sparse_size));
    } else if (key == "GNU.sparse.name") {
      GANTRY_RETURN_IF_ERROR(text(pending.sparse_name));
    } else if (key == "GNU.sparse.map") {
      GANTRY_RETURN_IF_ERROR(text(pending.sparse_map));
    } else if (key == "GNU.sparse.offset" || key == "GNU.sparse.numbytes") {
      const std::optional<int64_t> n = Decimal(value);
      const bool is_offset = key == "GNU.sparse.offset";
      if (!n.has_value() || *n < 0 || is_offset != (pending.sparse_numbers.size() % 2 == 0)) {
        return Bad("malformed map of a sparse file");
      }
      pending.sparse_numbers.push_back(*n);
      if (static_cast<int64_t>(pending.sparse_numbers.size()) > 2 * limits_.sparse_extents) {
        return Bad(absl::StrCat("sparse file with more than ", limits_.sparse_extents, " pieces"));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status TarReader::CheckExtents(int64_t stored_bytes) {
  if (static_cast<int64_t>(extents_.size()) > limits_.sparse_extents) {
    return Bad(absl::StrCat("sparse file with more than ", limits_.sparse_extents, " pieces"));
  }
  int64_t end = 0;
  int64_t sum = 0;
  for (const Extent& extent : extents_) {
    if (extent.offset < end || extent.length < 0 ||
        extent.length > std::numeric_limits<int64_t>::max() - extent.offset) {
      return Bad("malformed map of a sparse file");
    }
    end = extent.offset + extent.length;
    sum += extent.length;
  }
  if (sum != stored_bytes) return Bad("the map of a sparse file does not match its data");
  return absl::OkStatus();
}

// The map that an old GNU sparse header begins and blocks after it continue.
absl::Status TarReader::ReadOldGnuSparse(const char* block) {
  const auto take = [this](const char* entries, int count) -> absl::Status {
    for (int i = 0; i < count; ++i) {
      const absl::string_view entry(entries + kSparseEntry * static_cast<size_t>(i), kSparseEntry);
      if (entry[0] == '\0' && entry[12] == '\0') break;
      const std::optional<int64_t> offset = Number(entry.substr(0, 12));
      const std::optional<int64_t> length = Number(entry.substr(12));
      if (!offset.has_value() || !length.has_value() || *offset < 0)
        return Bad("malformed map of a sparse file");
      extents_.push_back({*offset, *length});
    }
    if (static_cast<int64_t>(extents_.size()) > limits_.sparse_extents) {
      return Bad(absl::StrCat("sparse file with more than ", limits_.sparse_extents, " pieces"));
    }
    return absl::OkStatus();
  };
  GANTRY_RETURN_IF_ERROR(take(block + kGnuSparse, 4));
  bool more = block[kGnuSparseMore] != 0;
  int64_t blocks = 0;
  while (more) {
    char next[kBlock];
    GANTRY_ASSIGN_OR_RETURN(const bool got, ReadBlock(next));
    if (!got) return CutShort();
    // A block may add no piece, so that counting pieces alone would not end a malicious chain.
    if (++blocks > limits_.sparse_extents) return Bad("malformed map of a sparse file");
    GANTRY_RETURN_IF_ERROR(take(next, 21));
    more = next[504] != 0;
  }
  return absl::OkStatus();
}

// The map that precedes the data in PAX sparse format 1.0: decimal lines, padded to whole blocks.
absl::Status TarReader::ReadPax10Map() {
  std::string digits;
  char block[kBlock];
  size_t at = kBlock;
  const auto next_number = [&]() -> absl::StatusOr<int64_t> {
    digits.clear();
    while (true) {
      if (at == kBlock) {
        if (stored_left_ < static_cast<int64_t>(kBlock))
          return Bad("the map of a sparse file is cut short");
        GANTRY_ASSIGN_OR_RETURN(const bool got, ReadBlock(block));
        if (!got) return CutShort();
        stored_left_ -= static_cast<int64_t>(kBlock);
        at = 0;
      }
      const char c = block[at++];
      if (c == '\n') break;
      digits.push_back(c);
      if (digits.size() > 20) return Bad("malformed map of a sparse file");
    }
    const std::optional<int64_t> number = Decimal(digits);
    if (!number.has_value() || *number < 0) return Bad("malformed map of a sparse file");
    return *number;
  };
  GANTRY_ASSIGN_OR_RETURN(const int64_t count, next_number());
  if (count > limits_.sparse_extents) {
    return Bad(absl::StrCat("sparse file with more than ", limits_.sparse_extents, " pieces"));
  }
  for (int64_t i = 0; i < count; ++i) {
    Extent extent;
    GANTRY_ASSIGN_OR_RETURN(extent.offset, next_number());
    GANTRY_ASSIGN_OR_RETURN(extent.length, next_number());
    extents_.push_back(extent);
  }
  return absl::OkStatus();
}

absl::Status TarReader::ParseHeader(const char* block, Pending& pending, TarEntry& entry) {
  const bool posix = Raw(block, kMagic) == absl::string_view("ustar\0", 6);
  const bool gnu = Raw(block, kMagic) == "ustar ";
  const bool star = posix && memcmp(block + 508, "tar\0", 4) == 0;

  entry.path = std::string(Text(block, kName));
  if (posix) {
    const absl::string_view prefix = Text(block, star ? kStarPrefix : kPrefix);
    if (!prefix.empty()) entry.path = absl::StrCat(prefix, "/", entry.path);
  }
  entry.link_target = std::string(Text(block, kLinkName));
  if (pending.path.has_value()) entry.path = *std::move(pending.path);
  if (pending.sparse_name.has_value()) entry.path = *std::move(pending.sparse_name);
  if (pending.link_target.has_value()) entry.link_target = *std::move(pending.link_target);
  current_path_ = entry.path;

  const auto number = [&](Field field, const char* what, int64_t& out) -> absl::Status {
    const std::optional<int64_t> parsed = Number(Raw(block, field));
    if (!parsed.has_value()) return Bad(absl::StrCat("malformed ", what));
    out = *parsed;
    return absl::OkStatus();
  };
  int64_t mode = 0, uid = 0, gid = 0, size = 0, mtime = 0;
  GANTRY_RETURN_IF_ERROR(number(kMode, "mode", mode));
  GANTRY_RETURN_IF_ERROR(number(kUid, "uid", uid));
  GANTRY_RETURN_IF_ERROR(number(kGid, "gid", gid));
  GANTRY_RETURN_IF_ERROR(number(kSize, "size", size));
  GANTRY_RETURN_IF_ERROR(number(kMtime, "mtime", mtime));
  uid = pending.uid.value_or(uid);
  gid = pending.gid.value_or(gid);
  size = pending.size.value_or(size);
  if (size < 0 || size > std::numeric_limits<int64_t>::max() - static_cast<int64_t>(kBlock))
    return Bad(absl::StrCat("impossible size ", size));
  const std::optional<uint32_t> checked_uid = Id(uid);
  const std::optional<uint32_t> checked_gid = Id(gid);
  if (!checked_uid.has_value() || !checked_gid.has_value()) {
    return Bad(absl::StrCat("impossible owner ", uid, ":", gid));
  }
  entry.mode = static_cast<uint32_t>(mode) & 07777;
  entry.uid = *checked_uid;
  entry.gid = *checked_gid;
  entry.mtime = pending.mtime.value_or(Clamp({mtime, 0}));
  entry.xattrs = std::move(pending.xattrs);
  entry.user_name = pending.user_name.has_value() ? *std::move(pending.user_name)
                    : posix || gnu                ? std::string(Text(block, kUserName))
                                                  : std::string();
  entry.group_name = pending.group_name.has_value() ? *std::move(pending.group_name)
                     : posix || gnu                 ? std::string(Text(block, kGroupName))
                                                    : std::string();
  entry.device_major = entry.device_minor = 0;
  entry.size_bytes = 0;

  bool old_gnu_sparse = false;
  switch (block[kTypeFlag]) {
    case '0':
    case '\0':
      // Before there was a type for directories a slash told.
      entry.type = absl::EndsWith(entry.path, "/") ? TarType::kDirectory : TarType::kFile;
      break;
    case '7':
      entry.type = TarType::kFile;
      break;
    case '1':
      entry.type = TarType::kHardLink;
      break;
    case '2':
      entry.type = TarType::kSymlink;
      break;
    case '3':
      entry.type = TarType::kCharDevice;
      break;
    case '4':
      entry.type = TarType::kBlockDevice;
      break;
    case '5':
      entry.type = TarType::kDirectory;
      break;
    case '6':
      entry.type = TarType::kFifo;
      break;
    case 'S':
      entry.type = TarType::kFile;
      old_gnu_sparse = true;
      break;
    default:
      return Bad(absl::StrCat("unknown entry type '",
                              absl::CHexEscape(absl::string_view(block + kTypeFlag, 1)), "'"));
  }
  if (entry.type == TarType::kCharDevice || entry.type == TarType::kBlockDevice) {
    int64_t device_major = 0, device_minor = 0;
    GANTRY_RETURN_IF_ERROR(number(kDeviceMajor, "device number", device_major));
    GANTRY_RETURN_IF_ERROR(number(kDeviceMinor, "device number", device_minor));
    if (device_major < 0 || device_minor < 0 || device_major > 0xfff || device_minor > 0xfffff) {
      return Bad(absl::StrCat("impossible device number ", device_major, ":", device_minor));
    }
    entry.device_major = static_cast<uint32_t>(device_major);
    entry.device_minor = static_cast<uint32_t>(device_minor);
  }
  if (static_cast<int64_t>(entry.path.size()) > limits_.path_bytes) {
    return Bad(
        absl::StrCat("path of ", entry.path.size(), " bytes, more than ", limits_.path_bytes));
  }
  if (static_cast<int64_t>(entry.link_target.size()) > limits_.path_bytes) {
    return Bad(absl::StrCat("link target of ", entry.link_target.size(), " bytes, more than ",
                            limits_.path_bytes));
  }

  sparse_ = false;
  extents_.clear();
  extent_ = 0;
  extent_done_ = 0;
  // Only files have data; a size elsewhere is what the linked file has.
  stored_left_ = entry.type == TarType::kFile ? size : 0;
  padding_ = PaddingOf(stored_left_);
  if (entry.type != TarType::kFile) return absl::OkStatus();

  entry.size_bytes = size;
  if (old_gnu_sparse) {
    sparse_ = true;
    GANTRY_RETURN_IF_ERROR(number(kGnuRealSize, "size", entry.size_bytes));
    GANTRY_RETURN_IF_ERROR(ReadOldGnuSparse(block));
  } else if (pending.sparse_major.value_or(0) == 1 && pending.sparse_minor.value_or(0) == 0) {
    sparse_ = true;
    entry.size_bytes = pending.sparse_size.value_or(-1);
    GANTRY_RETURN_IF_ERROR(ReadPax10Map());
  } else if (pending.sparse_map.has_value() || !pending.sparse_numbers.empty()) {
    sparse_ = true;
    entry.size_bytes = pending.sparse_size.value_or(-1);
    std::vector<int64_t> numbers = std::move(pending.sparse_numbers);
    if (pending.sparse_map.has_value()) {
      numbers.clear();
      for (const absl::string_view word : absl::StrSplit(*pending.sparse_map, ',')) {
        const std::optional<int64_t> n = Decimal(word);
        if (!n.has_value() || *n < 0) return Bad("malformed map of a sparse file");
        numbers.push_back(*n);
      }
    }
    if (numbers.size() % 2 != 0) return Bad("malformed map of a sparse file");
    for (size_t i = 0; i < numbers.size(); i += 2) extents_.push_back({numbers[i], numbers[i + 1]});
  } else if (pending.sparse_major.has_value()) {
    return Bad("unknown format of a sparse file");
  }
  if (sparse_) {
    if (entry.size_bytes < 0) return Bad("sparse file without its size");
    GANTRY_RETURN_IF_ERROR(CheckExtents(stored_left_));
    if (!extents_.empty() && extents_.back().offset + extents_.back().length > entry.size_bytes) {
      return Bad("the map of a sparse file goes past its end");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> TarReader::Next(TarEntry& entry) {
  if (ended_) return false;
  GANTRY_RETURN_IF_ERROR(SkipRest());
  current_path_.clear();
  Pending pending;
  bool extended = false;
  std::string payload;
  while (true) {
    char block[kBlock];
    GANTRY_ASSIGN_OR_RETURN(const bool got, ReadBlock(block));
    if (!got) {
      if (extended) return CutShort();
      ended_ = true;
      return false;
    }
    if (IsZero(block)) {
      if (extended) return Bad("the archive ends between an extended header and its entry");
      GANTRY_ASSIGN_OR_RETURN(const bool second, ReadBlock(block));
      if (second && !IsZero(block)) return Bad("a single zero block inside the archive");
      ended_ = true;
      return false;
    }
    if (!ChecksumMatches(block)) return Bad("wrong header checksum: damaged, or not a tar archive");

    const char type = block[kTypeFlag];
    if (type != 'x' && type != 'X' && type != 'g' && type != 'L' && type != 'K') {
      GANTRY_RETURN_IF_ERROR(ParseHeader(block, pending, entry));
      ++entry_count_;
      return true;
    }
    const std::optional<int64_t> size = Number(Raw(block, kSize));
    if (!size.has_value() || *size < 0) return Bad("malformed size of an extended header");
    pending.header_bytes += *size;
    if (*size > limits_.header_bytes || pending.header_bytes > limits_.header_bytes) {
      return Bad(absl::StrCat("extended headers of more than ", limits_.header_bytes, " bytes"));
    }
    // Even an empty one costs a block; a chain of them must end.
    pending.header_bytes += static_cast<int64_t>(kBlock);
    GANTRY_RETURN_IF_ERROR(ReadExact(*size, payload));
    GANTRY_RETURN_IF_ERROR(Skip(PaddingOf(*size)));
    switch (type) {
      case 'L':
        pending.path = payload.substr(0, payload.find('\0'));
        break;
      case 'K':
        pending.link_target = payload.substr(0, payload.find('\0'));
        break;
      default:
        GANTRY_RETURN_IF_ERROR(ParsePax(payload, type == 'g', pending));
        break;
    }
    // A global header needs no entry after it.
    if (type != 'g') extended = true;
  }
}

absl::StatusOr<bool> TarReader::ReadData(TarData& data) {
  if (sparse_) {
    while (extent_ < extents_.size() && extent_done_ == extents_[extent_].length) {
      ++extent_;
      extent_done_ = 0;
    }
  }
  if (stored_left_ == 0) return false;
  GANTRY_RETURN_IF_ERROR(Fill());
  if (chunk_.empty()) return CutShort();
  int64_t n = std::min<int64_t>(stored_left_, static_cast<int64_t>(chunk_.size()));
  if (sparse_) {
    n = std::min(n, extents_[extent_].length - extent_done_);
    data.offset = extents_[extent_].offset + extent_done_;
  } else {
    data.offset = extent_done_;
  }
  extent_done_ += n;
  stored_left_ -= n;
  data.bytes = chunk_.substr(0, static_cast<size_t>(n));
  chunk_.remove_prefix(static_cast<size_t>(n));
  return true;
}

absl::StatusOr<std::string> TarReader::ReadAll(int64_t max_bytes) {
  std::string all;
  TarData data;
  while (true) {
    GANTRY_ASSIGN_OR_RETURN(const bool some, ReadData(data));
    if (!some) break;
    if (data.offset + static_cast<int64_t>(data.bytes.size()) > max_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat("tar entry ", entry_count_, " \"",
                                                       absl::CHexEscape(current_path_),
                                                       "\": larger than ", max_bytes, " bytes"));
    }
    all.resize(static_cast<size_t>(data.offset));
    all.append(data.bytes.data(), data.bytes.size());
  }
  // A hole at the end is not among the pieces; who needs it has entry.size_bytes.
  return all;
}

}  // namespace gantry
