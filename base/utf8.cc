#include "base/utf8.h"

namespace gantry {
namespace {

// U+FFFD
constexpr absl::string_view kReplacement = "\xef\xbf\xbd";
constexpr size_t kMaxCharacterBytes = 4;

bool IsContinuation(unsigned char byte) { return (byte & 0xc0) == 0x80; }

struct Character {
  size_t bytes;  // at least 1: of the character, or of what is its beginning and no more
  bool valid;
};

// The first character of `bytes`, which are not empty.
Character First(absl::string_view bytes) {
  const auto at = [bytes](size_t index) { return static_cast<unsigned char>(bytes[index]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return {1, true};
  // What the second byte may be keeps overlong forms, surrogates and values above U+10FFFF out.
  size_t length = 0;
  unsigned char low = 0x80;
  unsigned char high = 0xbf;
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
  } else {
    return {1, false};
  }
  for (size_t index = 1; index < length; ++index) {
    if (index == bytes.size()) return {index, false};
    const bool fits =
        index == 1 ? at(index) >= low && at(index) <= high : IsContinuation(at(index));
    if (!fits) return {index, false};
  }
  return {length, true};
}

// Bytes at the beginning of `bytes` that are valid.
size_t ValidPrefix(absl::string_view bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    if (static_cast<unsigned char>(bytes[done]) < 0x80) {
      ++done;
      continue;
    }
    const Character next = First(bytes.substr(done));
    if (!next.valid) break;
    done += next.bytes;
  }
  return done;
}

// Whether a cut at `position`, inside `text`, divides a character.
bool DividesCharacter(absl::string_view text, size_t position, size_t* begin) {
  for (size_t back = 1; back < kMaxCharacterBytes && back <= position; ++back) {
    const Character around = First(text.substr(position - back));
    if (around.valid && around.bytes > back) {
      *begin = position - back;
      return true;
    }
    if (!IsContinuation(static_cast<unsigned char>(text[position - back]))) return false;
  }
  return false;
}

}  // namespace

bool IsValidUtf8(absl::string_view bytes) { return ValidPrefix(bytes) == bytes.size(); }

size_t Utf8CharacterBytes(absl::string_view bytes) {
  if (bytes.empty()) return 0;
  const Character first = First(bytes);
  return first.valid ? first.bytes : 0;
}

std::string ToValidUtf8(absl::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (true) {
    const size_t valid = ValidPrefix(bytes);
    text.append(bytes.data(), valid);
    bytes.remove_prefix(valid);
    if (bytes.empty()) return text;
    bytes.remove_prefix(First(bytes).bytes);
    text.append(kReplacement.data(), kReplacement.size());
  }
}

absl::string_view Utf8Prefix(absl::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  size_t begin = 0;
  return text.substr(0, DividesCharacter(text, max_bytes, &begin) ? begin : max_bytes);
}

absl::string_view Utf8Suffix(absl::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  const size_t position = text.size() - max_bytes;
  size_t begin = 0;
  if (!DividesCharacter(text, position, &begin)) return text.substr(position);
  return text.substr(begin + First(text.substr(begin)).bytes);
}

}  // namespace gantry
