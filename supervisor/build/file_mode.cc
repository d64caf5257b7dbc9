#include "supervisor/build/file_mode.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace gantry::build {
namespace {

constexpr uint32_t kAll = 0777;

absl::Status Invalid(absl::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat(
      "invalid chmod parameter: '", text, "'. it should be octal string and between 0 and 07777"));
}

}  // namespace

absl::StatusOr<FileMode> FileMode::Parse(absl::string_view text) {
  FileMode mode;
  if (text.empty()) return mode;
  if (text.find_first_not_of("01234567") == absl::string_view::npos) {
    uint32_t value = 0;
    for (const char c : text) {
      value = value * 8 + static_cast<uint32_t>(c - '0');
      if (value > 07777) return Invalid(text);
    }
    mode.octal_ = value;
    return mode;
  }
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    uint32_t who = 0;
    while (!part.empty() && absl::string_view("ugoa").find(part[0]) != absl::string_view::npos) {
      who |= part[0] == 'u' ? 0700u : part[0] == 'g' ? 070u : part[0] == 'o' ? 07u : kAll;
      part.remove_prefix(1);
    }
    if (who == 0) who = kAll;
    if (part.empty()) return Invalid(text);
    while (!part.empty()) {
      Clause clause;
      clause.who = who;
      clause.operation = part[0];
      if (clause.operation != '=' && clause.operation != '+' && clause.operation != '-')
        return Invalid(text);
      part.remove_prefix(1);
      while (!part.empty() &&
             absl::string_view("rwxXst").find(part[0]) != absl::string_view::npos) {
        clause.bits.push_back(part[0]);
        part.remove_prefix(1);
      }
      mode.clauses_.push_back(std::move(clause));
    }
  }
  return mode;
}

uint32_t FileMode::Apply(uint32_t mode, bool directory) const {
  if (octal_.has_value()) return *octal_;
  mode &= 07777;
  for (const Clause& clause : clauses_) {
    uint32_t bits = 0;
    for (const char c : clause.bits) {
      if (c == 'r') bits |= 0444 & clause.who;
      if (c == 'w') bits |= 0222 & clause.who;
      if (c == 'x' || (c == 'X' && (directory || (mode & 0111) != 0))) bits |= 0111 & clause.who;
      if (c == 's') bits |= ((clause.who & 0700) ? 04000u : 0) | ((clause.who & 070) ? 02000u : 0);
      if (c == 't') bits |= 01000;
    }
    if (clause.operation == '+') mode |= bits;
    if (clause.operation == '-') mode &= ~bits;
    if (clause.operation == '=') {
      uint32_t clear = clause.who;
      if (clause.who & 0700) clear |= 04000;
      if (clause.who & 070) clear |= 02000;
      mode = (mode & ~clear) | bits;
    }
  }
  return mode;
}

}  // namespace gantry::build
