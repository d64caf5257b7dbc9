#include "ctl/detach_keys.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace gantry::ctl {

absl::StatusOr<DetachKeys> DetachKeys::Parse(absl::string_view text) {
  DetachKeys keys;
  if (text.empty()) return keys;
  for (absl::string_view key : absl::StrSplit(text, ',')) {
    if (key.size() == 1) {
      keys.sequence_.push_back(key[0]);
      continue;
    }
    if (key.size() == 6 && absl::StartsWithIgnoreCase(key, "ctrl-")) {
      const char c = key[5];
      if (c >= 'a' && c <= 'z') {
        keys.sequence_.push_back(static_cast<char>(c - 'a' + 1));
        continue;
      }
      if (c >= '@' && c <= '_') {
        keys.sequence_.push_back(static_cast<char>(c - '@'));
        continue;
      }
    }
    return absl::InvalidArgumentError(
        absl::StrCat("detach key \"", key, "\": write one character, or ctrl- and a letter"));
  }
  return keys;
}

DetachKeys DetachKeys::Default() {
  DetachKeys keys;
  keys.sequence_ = {'\x10', '\x11'};
  return keys;
}

std::string DetachKeys::Filter(absl::string_view input, bool* detached) {
  *detached = false;
  if (sequence_.empty()) return std::string(input);
  std::string out;
  for (const char c : input) {
    // Falls back to the longest prefix of the sequence that is a suffix of the input.
    while (matched_ > 0 && sequence_[matched_] != c) {
      size_t shorter = matched_ - 1;
      while (shorter > 0 &&
             !std::equal(sequence_.begin(), sequence_.begin() + static_cast<int64_t>(shorter),
                         sequence_.begin() + static_cast<int64_t>(matched_ - shorter))) {
        --shorter;
      }
      out.append(sequence_, 0, matched_ - shorter);
      matched_ = shorter;
    }
    if (sequence_[matched_] != c) {
      out.push_back(c);
      continue;
    }
    if (++matched_ == sequence_.size()) {
      matched_ = 0;
      *detached = true;
      return out;
    }
  }
  return out;
}

}  // namespace gantry::ctl
