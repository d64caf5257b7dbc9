#include "base/engine/id_names.h"

#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace gantry::engine {
namespace {

constexpr size_t kIdDigits = 64;

bool IsDigit(char c) { return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f'); }

// Whether the text ends in a word that may stand before "/ID": a namespace, not a path.
bool IsNamespace(absl::string_view text) {
  const size_t begin = text.find_last_of(" \"'(");
  const absl::string_view word = begin == text.npos ? text : text.substr(begin + 1);
  return !word.empty() && !absl::StrContains(word, '/');
}

// Where the next id begins, from `at` on; npos: none.
size_t FindId(absl::string_view text, size_t at) {
  while (at < text.size()) {
    if (!IsDigit(text[at])) {
      ++at;
      continue;
    }
    size_t end = at;
    while (end < text.size() && IsDigit(text[end])) ++end;
    const char before = at == 0 ? ' ' : text[at - 1];
    const char after = end == text.size() ? ' ' : text[end];
    // Within another word they are something else: a digest, a part of a path or name.
    const auto is_word = [](char c) {
      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '/';
    };
    const bool begins =
        before == '/' ? IsNamespace(text.substr(0, at - 1)) : before != ':' && !is_word(before);
    if (end - at == kIdDigits && begins && !is_word(after)) return at;
    at = end;
  }
  return absl::string_view::npos;
}

}  // namespace

bool HoldsId(absl::string_view message) { return FindId(message, 0) != absl::string_view::npos; }

std::string WithNames(absl::string_view message,
                      const std::function<std::string(const std::string& id)>& name_of) {
  std::string out;
  std::map<std::string, std::string> known;
  if (absl::StartsWithIgnoreCase(message, "no such ")) return std::string(message);
  size_t at = 0;
  for (size_t id = FindId(message, 0); id != absl::string_view::npos;
       id = FindId(message, id + kIdDigits)) {
    const std::string text(message.substr(id, kIdDigits));
    auto found = known.find(text);
    if (found == known.end()) {
      found = known.emplace(text, name_of(text)).first;
      if (absl::StrContains(message, absl::StrCat("\"", found->second, "\"")))
        found->second.clear();
    }
    out.append(message.data() + at, id - at);
    out += found->second.empty() ? text : found->second;
    at = id + kIdDigits;
  }
  out.append(message.data() + at, message.size() - at);
  return out;
}

}  // namespace gantry::engine
