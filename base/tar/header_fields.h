// What stands where in a tar header block, and how text in headers and extended headers becomes a
// value. Shared by all dialects; which field counts when is the reader's to say.
//
// Pure functions without state, safe to call from any thread. Fields are views into the caller's
// block and live as long as it. Everything read is outside input: what is no value gives nullopt.
// Spec: POSIX.1-2017 pax, GNU tar manual "Basic Tar Format".
#ifndef GANTRY_BASE_TAR_HEADER_FIELDS_H_
#define GANTRY_BASE_TAR_HEADER_FIELDS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

#include "base/tar/entry.h"

namespace gantry::tar_header {

inline constexpr size_t kBlock = 512;

// Offsets within a header block.
struct Field {
  size_t offset;
  size_t size;
};
inline constexpr Field kName{0, 100};
inline constexpr Field kMode{100, 8};
inline constexpr Field kUid{108, 8};
inline constexpr Field kGid{116, 8};
inline constexpr Field kSize{124, 12};
inline constexpr Field kMtime{136, 12};
inline constexpr Field kChecksum{148, 8};
inline constexpr size_t kTypeFlag = 156;
inline constexpr Field kLinkName{157, 100};
inline constexpr Field kMagic{257, 6};
inline constexpr Field kUserName{265, 32};
inline constexpr Field kGroupName{297, 32};
inline constexpr Field kDeviceMajor{329, 8};
inline constexpr Field kDeviceMinor{337, 8};
inline constexpr Field kPrefix{345, 155};
inline constexpr Field kStarPrefix{345, 131};
inline constexpr size_t kGnuSparse = 386;
inline constexpr size_t kGnuSparseMore = 482;
inline constexpr Field kGnuRealSize{483, 12};
inline constexpr size_t kSparseEntry = 24;

absl::string_view Raw(const char* block, Field field);

// Up to the first NUL.
absl::string_view Text(const char* block, Field field);

// Octal digits between spaces and NULs, or a big-endian two's complement number marked by the top
// bit.
std::optional<int64_t> Number(absl::string_view raw);

// Of an extended header: digits, perhaps after a minus sign.
std::optional<int64_t> Decimal(absl::string_view text);

// A user's or group's id.
std::optional<uint32_t> Id(int64_t number);

// What an int64 of nanoseconds can say; file systems can do less.
TarTime Clamp(TarTime time);

// "-1.25" and the like.
std::optional<TarTime> PaxTime(absl::string_view text);

// Of a block of kBlock bytes.
bool ChecksumMatches(const char* block);
bool IsZero(const char* block);

// From the end of `bytes` of data to the end of their last block.
int64_t PaddingOf(int64_t bytes);

// Names as libarchive writes them: %XX for what is not plain.
std::string UnescapeUrl(absl::string_view text);

}  // namespace gantry::tar_header

#endif  // GANTRY_BASE_TAR_HEADER_FIELDS_H_
