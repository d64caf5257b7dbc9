#include "supervisor/distribution/url.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace gantry::distribution {
namespace {

bool IsUrlCharacter(char c) {
  // RFC 3986 reserved, unreserved and '%'; a few servers also leave these unescaped in signed URLs.
  return absl::ascii_isalnum(c) || std::strchr("-._~:/?#[]@!$&'()*+,;=%|", c) != nullptr;
}

bool IsHostName(absl::string_view name) {
  bool address = absl::ConsumePrefix(&name, "[");
  if (address && !absl::ConsumeSuffix(&name, "]")) return false;
  if (name.empty()) return false;
  for (char c : name) {
    bool good = address ? absl::ascii_isxdigit(c) || c == ':' || c == '.'
                        : absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_';
    if (!good) return false;
  }
  return true;
}

// Removes "." and ".." segments of a path.
std::string NormalizePath(absl::string_view path) {
  std::vector<absl::string_view> out;
  std::vector<absl::string_view> parts = absl::StrSplit(path, '/');
  for (size_t i = 0; i < parts.size(); ++i) {
    bool last = i + 1 == parts.size();
    if (parts[i] == "." || parts[i] == "..") {
      if (parts[i] == ".." && out.size() > 1) out.pop_back();
      if (last) out.push_back("");
    } else {
      out.push_back(parts[i]);
    }
  }
  std::string joined;
  for (size_t i = 0; i < out.size(); ++i) absl::StrAppend(&joined, i == 0 ? "" : "/", out[i]);
  return joined.empty() ? "/" : joined;
}

}  // namespace

std::string Url::without_query() const {
  return absl::StrCat(origin(), target.substr(0, target.find('?')));
}

absl::StatusOr<Url> Url::Parse(absl::string_view text) {
  auto invalid = [&](absl::string_view why) {
    // The query may carry a signature; messages do without it.
    std::string shown;
    for (char c : text.substr(0, std::min(text.find('?'), size_t{200})))
      shown += absl::ascii_isprint(c) ? c : '?';
    return absl::InvalidArgumentError(absl::StrCat("URL \"", shown, "\": ", why));
  };
  if (text.size() > 16 << 10) return invalid("longer than 16 KiB");
  Url url;
  absl::string_view rest = text;
  size_t colon = rest.find("://");
  if (colon == absl::string_view::npos) return invalid("not absolute");
  url.scheme = absl::AsciiStrToLower(rest.substr(0, colon));
  if (url.scheme != "http" && url.scheme != "https") return invalid("neither http nor https");
  rest.remove_prefix(colon + 3);
  for (char c : rest) {
    if (!IsUrlCharacter(c)) return invalid("a character that no URL has");
  }
  rest = rest.substr(0, rest.find('#'));
  size_t end = rest.find_first_of("/?");
  absl::string_view authority = rest.substr(0, end);
  if (authority.find('@') != absl::string_view::npos)
    return invalid("user information in a URL is refused");
  url.host = absl::AsciiStrToLower(authority);
  absl::string_view name = url.host, port;
  size_t port_at = name.rfind(':');
  if (port_at != absl::string_view::npos && name.find(']', port_at) == absl::string_view::npos) {
    port = name.substr(port_at + 1);
    name = name.substr(0, port_at);
    int number = 0;
    if (!port.empty() && (!absl::SimpleAtoi(port, &number) || number <= 0 || number > 65535))
      return invalid("the port is not a number");
    if (port.empty() || (url.scheme == "http" && number == 80) ||
        (url.scheme == "https" && number == 443)) {
      url.host = std::string(name);
      name = url.host;
    }
  }
  if (!IsHostName(name)) return invalid("no usable host");
  url.target = end == absl::string_view::npos ? "/" : std::string(rest.substr(end));
  if (url.target[0] != '/') url.target = absl::StrCat("/", url.target);
  return url;
}

absl::StatusOr<Url> Url::Resolve(absl::string_view location) const {
  if (absl::StartsWith(location, "//")) return Parse(absl::StrCat(scheme, ":", location));
  size_t colon = location.find(':');
  if (colon != absl::string_view::npos && colon < location.find_first_of("/?#"))
    return Parse(location);
  std::string path = target.substr(0, target.find('?'));
  if (absl::StartsWith(location, "/")) {
    path = std::string(location);
  } else if (absl::StartsWith(location, "?")) {
    absl::StrAppend(&path, location);
  } else {
    path = absl::StrCat(path.substr(0, path.rfind('/') + 1), location);
  }
  size_t query = path.find('?');
  std::string normal = NormalizePath(absl::string_view(path).substr(0, query));
  if (query != std::string::npos) normal += path.substr(query);
  return Parse(absl::StrCat(origin(), normal));
}

std::string UrlEncode(absl::string_view text, bool keep_slash) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size() + 16);
  for (char c : text) {
    if (absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_' || c == '~' ||
        (keep_slash && c == '/')) {
      out += c;
    } else {
      out += '%';
      out += kHex[static_cast<unsigned char>(c) >> 4];
      out += kHex[static_cast<unsigned char>(c) & 15];
    }
  }
  return out;
}

}  // namespace gantry::distribution
