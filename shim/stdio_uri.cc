#include "shim/stdio_uri.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace gantry::shim {
namespace {

// "%41" and, in queries, "+". False: a broken escape, or NUL.
bool PercentDecode(absl::string_view text, bool query, std::string& out) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      if (i + 2 >= text.size() || !absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 1])) ||
          !absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 2]))) {
        return false;
      }
      out += absl::HexStringToBytes(text.substr(i + 1, 2));
      i += 2;
    } else if (text[i] == '+' && query) {
      out += ' ';
    } else {
      out += text[i];
    }
  }
  return !absl::StrContains(out, '\0');
}

}  // namespace

absl::StatusOr<StdioUri> ParseStdioUri(absl::string_view text) {
  StdioUri uri;
  if (text.empty()) return uri;
  const auto invalid = [&](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("stdio \"", text, "\": ", why));
  };
  if (absl::StrContains(text, '\0')) return invalid("contains NUL");
  absl::string_view rest = text;
  const size_t scheme_end = text.find("://");
  if (scheme_end == absl::string_view::npos) {
    uri.kind = StdioUri::Kind::kPath;
    uri.path = std::string(text);
    if (text[0] != '/') return invalid("not an absolute path");
    return uri;
  }
  const absl::string_view scheme = text.substr(0, scheme_end);
  rest.remove_prefix(scheme_end + 3);
  if (scheme == "fifo") {
    uri.kind = StdioUri::Kind::kPath;
  } else if (scheme == "file") {
    uri.kind = StdioUri::Kind::kFile;
  } else if (scheme == "binary") {
    uri.kind = StdioUri::Kind::kBinary;
  } else if (scheme == "binary-v2") {
    uri.kind = StdioUri::Kind::kBinaryV2;
  } else {
    return invalid("unknown scheme; fifo, file, binary and binary-v2 are known");
  }
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(rest, absl::MaxSplits('?', 1));
  if (!PercentDecode(parts.first, /*query=*/false, uri.path)) return invalid("broken escape");
  if (uri.path.empty() || uri.path[0] != '/') return invalid("not an absolute path");
  if (uri.kind != StdioUri::Kind::kBinary && uri.kind != StdioUri::Kind::kBinaryV2) return uri;
  for (absl::string_view pair : absl::StrSplit(parts.second, '&', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> argument =
        absl::StrSplit(pair, absl::MaxSplits('=', 1));
    for (absl::string_view word : {argument.first, argument.second}) {
      // "k" without "=" is one argument, as url.Values has it with an empty value.
      std::string decoded;
      if (!PercentDecode(word, /*query=*/true, decoded)) return invalid("broken escape");
      if (word.data() == argument.second.data() && decoded.empty()) continue;
      uri.args.push_back(std::move(decoded));
    }
  }
  return uri;
}

}  // namespace gantry::shim
