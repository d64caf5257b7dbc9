#include "base/tar/header_fields.h"

#include <string.h>

#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"

namespace gantry::tar_header {

absl::string_view Raw(const char* block, Field field) {
  return absl::string_view(block + field.offset, field.size);
}

absl::string_view Text(const char* block, Field field) {
  const absl::string_view raw = Raw(block, field);
  return raw.substr(0, raw.find('\0'));
}

std::optional<int64_t> Number(absl::string_view raw) {
  if (!raw.empty() && (static_cast<uint8_t>(raw[0]) & 0x80) != 0) {
    const bool negative = (static_cast<uint8_t>(raw[0]) & 0x40) != 0;
    uint64_t number = negative ? ~uint64_t{0} : 0;
    for (size_t i = 0; i < raw.size(); ++i) {
      uint8_t byte = static_cast<uint8_t>(raw[i]);
      if (i == 0) byte = static_cast<uint8_t>(negative ? byte | 0x80 : byte & 0x7f);
      // What is shifted out must be nothing but sign.
      if ((number >> 56) != (negative ? 0xffu : 0u)) return std::nullopt;
      number = number << 8 | byte;
    }
    if ((static_cast<int64_t>(number) < 0) != negative) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  while (!raw.empty() && (raw.front() == ' ' || raw.front() == '\0')) raw.remove_prefix(1);
  while (!raw.empty() && (raw.back() == ' ' || raw.back() == '\0')) raw.remove_suffix(1);
  int64_t number = 0;
  for (const char c : raw) {
    if (c < '0' || c > '7' || number > (std::numeric_limits<int64_t>::max() >> 3))
      return std::nullopt;
    number = number << 3 | (c - '0');
  }
  return number;
}

std::optional<int64_t> Decimal(absl::string_view text) {
  int64_t number = 0;
  if (text.empty() || text[0] == '+' || absl::ascii_isspace(static_cast<unsigned char>(text[0])) ||
      absl::ascii_isspace(static_cast<unsigned char>(text.back())) ||
      !absl::SimpleAtoi(text, &number)) {
    return std::nullopt;
  }
  return number;
}

std::optional<uint32_t> Id(int64_t number) {
  // The highest one means "unchanged" to chown.
  if (number < 0 || number >= std::numeric_limits<uint32_t>::max()) return std::nullopt;
  return static_cast<uint32_t>(number);
}

TarTime Clamp(TarTime time) {
  constexpr int64_t kLimit = 9223372036;
  if (time.seconds >= kLimit) return {kLimit, 0};
  if (time.seconds < -kLimit) return {-kLimit, 0};
  return time;
}

std::optional<TarTime> PaxTime(absl::string_view text) {
  const size_t dot = text.find('.');
  const absl::string_view whole = text.substr(0, dot);
  const bool negative = absl::StartsWith(whole, "-");
  TarTime time;
  if (whole != "-" && !whole.empty()) {
    // A time beyond int64 is still a time.
    const absl::string_view digits = negative ? whole.substr(1) : whole;
    if (digits.empty() ||
        !std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      return std::nullopt;
    }
    if (digits.size() > 18)
      return Clamp(
          {negative ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int64_t>::max(),
           0});
    time.seconds = *Decimal(digits) * (negative ? -1 : 1);
  } else if (dot == absl::string_view::npos) {
    return std::nullopt;
  }
  if (dot != absl::string_view::npos) {
    const absl::string_view fraction = text.substr(dot + 1);
    int32_t nanos = 0;
    int32_t unit = 100000000;
    for (const char c : fraction) {
      if (c < '0' || c > '9') return std::nullopt;
      nanos += (c - '0') * unit;
      unit /= 10;
    }
    if (negative && nanos > 0) {
      time.seconds -= 1;
      nanos = 1000000000 - nanos;
    }
    time.nanos = nanos;
  }
  return Clamp(time);
}

bool ChecksumMatches(const char* block) {
  const std::optional<int64_t> expected = Number(Raw(block, kChecksum));
  if (!expected.has_value()) return false;
  int64_t as_unsigned = 0;
  int64_t as_signed = 0;  // some old writers summed signed chars
  for (size_t i = 0; i < kBlock; ++i) {
    const bool own = i >= kChecksum.offset && i < kChecksum.offset + kChecksum.size;
    const char c = own ? ' ' : block[i];
    as_unsigned += static_cast<uint8_t>(c);
    as_signed += static_cast<int8_t>(c);
  }
  return *expected == as_unsigned || *expected == as_signed;
}

bool IsZero(const char* block) {
  return block[0] == 0 && memcmp(block, block + 1, kBlock - 1) == 0;
}

int64_t PaddingOf(int64_t bytes) { return -bytes & static_cast<int64_t>(kBlock - 1); }

std::string UnescapeUrl(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    std::string byte;
    if (text[i] == '%' && i + 2 < text.size() &&
        absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 1])) &&
        absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 2]))) {
      out += absl::HexStringToBytes(text.substr(i + 1, 2));
      i += 2;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

}  // namespace gantry::tar_header
