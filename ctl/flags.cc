#include "ctl/flags.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"

namespace gantry::ctl {
namespace {

absl::Status ParseBool(absl::string_view text, bool* value) {
  bool parsed;
  if (!absl::SimpleAtob(text, &parsed)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is neither true nor false"));
  }
  *value = parsed;
  return absl::OkStatus();
}

absl::Status ParseInt(absl::string_view text, int64_t* value) {
  if (!absl::SimpleAtoi(text, value)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a whole number"));
  }
  return absl::OkStatus();
}

// Letters to insert, remove or replace, and neighbours to exchange.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<std::vector<size_t>> rows(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) rows[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) rows[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      rows[i][j] = std::min({rows[i - 1][j] + 1, rows[i][j - 1] + 1,
                             rows[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        rows[i][j] = std::min(rows[i][j], rows[i - 2][j - 2] + 1);
    }
  }
  return rows[a.size()][b.size()];
}

}  // namespace

std::string Nearest(absl::string_view word, const std::vector<std::string>& candidates) {
  // With more than two edits, or one in a short word, it is probably another word.
  constexpr size_t kShort = 5;
  constexpr size_t kLongest = 64;
  std::string best;
  if (word.size() > kLongest) return best;
  size_t best_distance = word.size() <= kShort ? 2 : 3;
  for (const std::string& candidate : candidates) {
    size_t distance = EditDistance(word, candidate);
    // The word is often the beginning of the name.
    if (word.size() >= 2 && absl::StartsWith(candidate, word)) distance = 1;
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

FlagSet::Flag& FlagSet::Add(Flag flag) {
  flags_.push_back(std::move(flag));
  return flags_.back();
}

FlagSet::Flag& FlagSet::Bool(bool* value, absl::string_view name, char letter,
                             absl::string_view help) {
  return Add({.name = std::string(name),
              .letter = letter,
              .help = std::string(help),
              .set = [value](absl::string_view text) { return ParseBool(text, value); }});
}

FlagSet::Flag& FlagSet::OptionalBool(std::optional<bool>* value, absl::string_view name,
                                     char letter, absl::string_view help) {
  return Add({.name = std::string(name),
              .letter = letter,
              .help = std::string(help),
              .set = [value](absl::string_view text) {
                bool parsed = false;
                GANTRY_RETURN_IF_ERROR(ParseBool(text, &parsed));
                *value = parsed;
                return absl::OkStatus();
              }});
}

FlagSet::Flag& FlagSet::String(std::string* value, absl::string_view name, char letter,
                               absl::string_view value_name, absl::string_view help) {
  return Custom(name, letter, value_name, help, [value](absl::string_view text) {
    *value = std::string(text);
    return absl::OkStatus();
  });
}

FlagSet::Flag& FlagSet::Strings(std::vector<std::string>* value, absl::string_view name,
                                char letter, absl::string_view value_name, absl::string_view help) {
  return Custom(name, letter, value_name, help, [value](absl::string_view text) {
    value->push_back(std::string(text));
    return absl::OkStatus();
  });
}

FlagSet::Flag& FlagSet::Int(int64_t* value, absl::string_view name, char letter,
                            absl::string_view help) {
  return Custom(name, letter, "int", help,
                [value](absl::string_view text) { return ParseInt(text, value); });
}

FlagSet::Flag& FlagSet::OptionalInt(std::optional<int64_t>* value, absl::string_view name,
                                    char letter, absl::string_view help) {
  return Custom(name, letter, "int", help, [value](absl::string_view text) {
    int64_t parsed = 0;
    GANTRY_RETURN_IF_ERROR(ParseInt(text, &parsed));
    *value = parsed;
    return absl::OkStatus();
  });
}

FlagSet::Flag& FlagSet::Custom(absl::string_view name, char letter, absl::string_view value_name,
                               absl::string_view help,
                               std::function<absl::Status(absl::string_view)> set) {
  return Add({.name = std::string(name),
              .letter = letter,
              .value_name = std::string(value_name),
              .help = std::string(help),
              .set = std::move(set)});
}

void FlagSet::Alias(absl::string_view alias, absl::string_view name) {
  aliases_[std::string(alias)] = std::string(name);
}

const FlagSet::Flag* FlagSet::Find(absl::string_view name) const {
  const auto alias = aliases_.find(std::string(name));
  if (alias != aliases_.end()) name = alias->second;
  for (const Flag& flag : flags_) {
    if (flag.name == name) return &flag;
  }
  return nullptr;
}

FlagSet::Flag* FlagSet::Lookup(absl::string_view name) {
  return const_cast<Flag*>(std::as_const(*this).Find(name));
}

const FlagSet::Flag* FlagSet::FindLetter(char letter) const {
  for (const Flag& flag : flags_) {
    if (flag.letter == letter && letter != 0) return &flag;
  }
  return nullptr;
}

bool FlagSet::Seen(absl::string_view name) const {
  const Flag* flag = Find(name);
  return flag != nullptr && flag->seen;
}

bool FlagSet::AnySeen() const {
  return std::any_of(flags_.begin(), flags_.end(), [](const Flag& flag) { return flag.seen; });
}

absl::Status FlagSet::Apply(Flag* flag, absl::string_view shown, absl::string_view value) {
  flag->seen = true;
  const absl::Status status = flag->set(value);
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(shown, ": ", status.message()));
}

void FlagSet::Inherit(const FlagSet& other) {
  for (const Flag& flag : other.flags_) {
    if (Find(flag.name) != nullptr) continue;
    Flag copy = flag;
    if (copy.letter != 0 && FindLetter(copy.letter) != nullptr) copy.letter = 0;
    flags_.push_back(std::move(copy));
  }
}

absl::Status FlagSet::Parse(const std::vector<std::string>& args, bool stop_at_first_argument,
                            std::vector<std::string>* positional) {
  for (size_t i = 0; i < args.size(); ++i) {
    const absl::string_view arg = args[i];
    if (arg == "--") {
      positional->insert(positional->end(), args.begin() + static_cast<int64_t>(i) + 1, args.end());
      return absl::OkStatus();
    }
    if (arg.size() < 2 || arg[0] != '-') {
      if (stop_at_first_argument) {
        positional->insert(positional->end(), args.begin() + static_cast<int64_t>(i), args.end());
        return absl::OkStatus();
      }
      positional->push_back(args[i]);
      continue;
    }

    if (arg[1] == '-') {
      const size_t equals = arg.find('=');
      const absl::string_view name = arg.substr(2, equals == arg.npos ? arg.npos : equals - 2);
      Flag* flag = Lookup(name);
      if (flag == nullptr) {
        std::vector<std::string> names;
        for (const Flag& f : flags_) names.push_back(f.name);
        const std::string near = Nearest(name, names);
        return absl::InvalidArgumentError(
            absl::StrCat("unknown flag: --", name,
                         near.empty() ? "" : absl::StrCat("; did you mean --", near, "?")));
      }
      const std::string shown = absl::StrCat("--", name);
      if (equals != arg.npos) {
        GANTRY_RETURN_IF_ERROR(Apply(flag, shown, arg.substr(equals + 1)));
      } else if (flag->value_name.empty()) {
        GANTRY_RETURN_IF_ERROR(Apply(flag, shown, "true"));
      } else if (i + 1 < args.size()) {
        GANTRY_RETURN_IF_ERROR(Apply(flag, shown, args[++i]));
      } else {
        return absl::InvalidArgumentError(absl::StrCat("flag needs an argument: ", shown));
      }
      continue;
    }

    // Letters: all but the last take no value; the last one's may follow at once.
    for (size_t j = 1; j < arg.size(); ++j) {
      Flag* flag = const_cast<Flag*>(FindLetter(arg[j]));
      const std::string shown = absl::StrCat("-", arg.substr(j, 1));
      if (flag == nullptr) {
        return absl::InvalidArgumentError(
            absl::StrCat("unknown shorthand flag: '", arg.substr(j, 1), "' in ", arg));
      }
      if (flag->value_name.empty()) {
        if (j + 1 < arg.size() && arg[j + 1] == '=') {
          GANTRY_RETURN_IF_ERROR(Apply(flag, shown, arg.substr(j + 2)));
          break;
        }
        GANTRY_RETURN_IF_ERROR(Apply(flag, shown, "true"));
        continue;
      }
      absl::string_view value = arg.substr(j + 1);
      if (absl::ConsumePrefix(&value, "=") || !value.empty()) {
        GANTRY_RETURN_IF_ERROR(Apply(flag, shown, value));
      } else if (i + 1 < args.size()) {
        GANTRY_RETURN_IF_ERROR(Apply(flag, shown, args[++i]));
      } else {
        return absl::InvalidArgumentError(absl::StrCat("flag needs an argument: ", shown));
      }
      break;
    }
  }
  return absl::OkStatus();
}

std::string FlagSet::Help() const {
  std::vector<const Flag*> shown;
  for (const Flag& flag : flags_) {
    if (!flag.hidden) shown.push_back(&flag);
  }
  std::sort(shown.begin(), shown.end(),
            [](const Flag* a, const Flag* b) { return a->name < b->name; });
  std::vector<std::string> left;
  size_t width = 0;
  for (const Flag* flag : shown) {
    left.push_back(absl::StrCat(
        flag->letter != 0 ? absl::StrCat("  -", std::string(1, flag->letter), ", ") : "      ",
        "--", flag->name, flag->value_name.empty() ? "" : " ", flag->value_name));
    width = std::max(width, left.back().size());
  }
  std::string out;
  for (size_t i = 0; i < shown.size(); ++i) {
    absl::StrAppend(&out, left[i], std::string(width - left[i].size() + 3, ' '));
    bool first = true;
    for (absl::string_view line : absl::StrSplit(shown[i]->help, '\n')) {
      if (!first) out.append(width + 3, ' ');
      first = false;
      absl::StrAppend(&out, line, "\n");
    }
  }
  return out;
}

}  // namespace gantry::ctl
