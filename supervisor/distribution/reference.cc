#include "supervisor/distribution/reference.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace gantry::distribution {
namespace {

constexpr size_t kMaxRepositoryBytes = 255;
constexpr size_t kMaxTagBytes = 128;
constexpr char kHub[] = "docker.io";

bool IsLowerAlnum(char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c); }

// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*
bool IsPathComponent(absl::string_view text) {
  size_t i = 0;
  while (true) {
    size_t start = i;
    while (i < text.size() && IsLowerAlnum(text[i])) ++i;
    if (i == start) return false;
    if (i == text.size()) return true;
    if (text[i] == '.') {
      ++i;
    } else if (text[i] == '_') {
      ++i;
      if (i < text.size() && text[i] == '_') ++i;
    } else if (text[i] == '-') {
      while (i < text.size() && text[i] == '-') ++i;
    } else {
      return false;
    }
  }
}

bool IsPort(absl::string_view text) {
  if (text.empty() || text.size() > 5) return false;
  int value = 0;
  for (char c : text) {
    if (!absl::ascii_isdigit(c)) return false;
    value = value * 10 + (c - '0');
  }
  return value > 0 && value <= 65535;
}

bool IsDomain(absl::string_view text) {
  absl::string_view host = text;
  if (absl::StartsWith(text, "[")) {
    size_t close = text.find(']');
    if (close == absl::string_view::npos) return false;
    absl::string_view address = text.substr(1, close - 1);
    if (address.size() < 2 || address.find(':') == absl::string_view::npos) return false;
    for (char c : address) {
      if (!absl::ascii_isxdigit(c) && c != ':' && c != '.') return false;
    }
    absl::string_view rest = text.substr(close + 1);
    return rest.empty() || (rest[0] == ':' && IsPort(rest.substr(1)));
  }
  size_t colon = text.find(':');
  if (colon != absl::string_view::npos) {
    if (!IsPort(text.substr(colon + 1))) return false;
    host = text.substr(0, colon);
  }
  for (absl::string_view label : absl::StrSplit(host, '.')) {
    if (label.empty() || label.front() == '-' || label.back() == '-') return false;
    for (char c : label) {
      if (!absl::ascii_isalnum(c) && c != '-') return false;
    }
  }
  return true;
}

bool IsTag(absl::string_view text) {
  if (text.empty() || text.size() > kMaxTagBytes) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    bool word = absl::ascii_isalnum(c) || c == '_';
    if (!word && (i == 0 || (c != '.' && c != '-'))) return false;
  }
  return true;
}

bool LooksLikeId(absl::string_view text) {
  if (text.size() != 64) return false;
  for (char c : text) {
    if (!absl::ascii_isdigit(c) && !(c >= 'a' && c <= 'f')) return false;
  }
  return true;
}

// "sha256:<tag>" is how images are named by their id.
bool IsDigestAlgorithm(absl::string_view text) {
  return text == "sha256" || text == "sha384" || text == "sha512" || text == "blake3";
}

// For messages: what was given, shortened and without bytes that would upset a terminal.
std::string Quoted(absl::string_view text) {
  std::string out = "\"";
  for (char c : text.substr(0, 300)) out += absl::ascii_isprint(c) ? c : '?';
  absl::StrAppend(&out, text.size() > 300 ? "...\"" : "\"");
  return out;
}

absl::Status Invalid(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("image reference ", Quoted(text), ": ", why));
}

}  // namespace

absl::StatusOr<Reference> Reference::ParseName(absl::string_view text) {
  if (text.empty()) return absl::InvalidArgumentError("image reference: it is empty");
  if (LooksLikeId(text)) return Invalid(text, "64 hexadecimal digits are an image ID, not a name");

  Reference ref;
  absl::string_view rest = text;
  size_t at = rest.find('@');
  if (at != absl::string_view::npos) {
    absl::StatusOr<content::Digest> digest = content::Digest::Parse(rest.substr(at + 1));
    if (!digest.ok()) return Invalid(text, digest.status().message());
    ref.digest_ = *digest;
    rest = rest.substr(0, at);
  }

  size_t slash = rest.find('/');
  absl::string_view first = rest.substr(0, slash);
  bool has_upper = false;
  for (char c : first) has_upper |= absl::ascii_isupper(c);
  bool first_is_domain = slash != absl::string_view::npos &&
                         (first == "localhost" || first.find('.') != absl::string_view::npos ||
                          first.find(':') != absl::string_view::npos || has_upper);
  if (first_is_domain) {
    if (!IsDomain(first))
      return Invalid(text, absl::StrCat(Quoted(first), " is not a registry host"));
    ref.domain_ = first == "index.docker.io" ? kHub : std::string(first);
    rest = rest.substr(slash + 1);
  } else {
    ref.domain_ = kHub;
  }

  size_t last_slash = rest.rfind('/');
  size_t colon = rest.find(':', last_slash == absl::string_view::npos ? 0 : last_slash);
  if (colon != absl::string_view::npos) {
    ref.tag_ = std::string(rest.substr(colon + 1));
    if (!IsTag(ref.tag_)) {
      return Invalid(text,
                     "a tag is up to 128 letters, digits, '_', '.' and '-', and does not start "
                     "with '.' or '-'");
    }
    rest = rest.substr(0, colon);
  }

  if (rest.empty()) return Invalid(text, "the repository name is missing");
  for (absl::string_view component : absl::StrSplit(rest, '/')) {
    if (IsPathComponent(component)) continue;
    for (char c : component) {
      if (absl::ascii_isupper(c)) return Invalid(text, "a repository name must be lower case");
    }
    return Invalid(
        text,
        absl::StrCat(
            Quoted(component),
            " is not a repository name: lower-case letters and digits, separated by one '.', one "
            "or two '_', or '-'"));
  }
  if (ref.domain_ == kHub && IsDigestAlgorithm(absl::StripPrefix(rest, "library/")))
    return Invalid(text, absl::StrCat(Quoted(rest), " is a digest algorithm: that reads as an ID"));
  ref.path_ = std::string(rest);
  if (ref.domain_ == kHub && !absl::StrContains(ref.path_, "/"))
    ref.path_ = absl::StrCat("library/", ref.path_);
  if (ref.domain_.size() + 1 + ref.path_.size() > kMaxRepositoryBytes) {
    return Invalid(text, "a repository name has at most 255 characters");
  }
  return ref;
}

absl::StatusOr<Reference> Reference::Parse(absl::string_view text) {
  absl::StatusOr<Reference> ref = ParseName(text);
  if (ref.ok() && ref->tag_.empty() && ref->digest_.empty()) ref->tag_ = "latest";
  return ref;
}

std::string Reference::repository() const { return absl::StrCat(domain_, "/", path_); }

std::string Reference::canonical() const {
  return absl::StrCat(repository(), tag_.empty() ? "" : ":", tag_, digest_.empty() ? "" : "@",
                      digest_.str());
}

std::string Reference::familiar_repository() const {
  if (domain_ != kHub) return repository();
  absl::string_view path = path_;
  absl::string_view official = path;
  if (absl::ConsumePrefix(&official, "library/") && official.find('/') == absl::string_view::npos)
    path = official;
  return std::string(path);
}

std::string Reference::familiar() const {
  return absl::StrCat(familiar_repository(), tag_.empty() ? "" : ":", tag_,
                      digest_.empty() ? "" : "@", digest_.str());
}

absl::StatusOr<Reference> Reference::WithTag(absl::string_view tag) const {
  if (!IsTag(tag)) {
    return absl::InvalidArgumentError(
        absl::StrCat("tag ", Quoted(tag), ": not a tag (letters, digits, '_', '.', '-')"));
  }
  Reference out = *this;
  out.tag_ = std::string(tag);
  out.digest_ = {};
  return out;
}

Reference Reference::WithDigest(const content::Digest& digest) const {
  Reference out = *this;
  out.tag_.clear();
  out.digest_ = digest;
  return out;
}

Reference Reference::WithoutObject() const {
  Reference out = *this;
  out.tag_.clear();
  out.digest_ = {};
  return out;
}

std::string ApiHost(absl::string_view domain) {
  return domain == kHub ? "registry-1.docker.io" : std::string(domain);
}

bool IsLoopbackHost(absl::string_view host_port) {
  absl::string_view host = host_port;
  if (absl::StartsWith(host, "[")) {
    return absl::StartsWith(host, "[::1]");
  }
  host = host.substr(0, host.find(':'));
  if (host == "localhost") return true;
  // 127.0.0.0/8 as an address, not a name that merely starts so (127.evil.example).
  int parts = 0;
  for (absl::string_view part : absl::StrSplit(host, '.')) {
    if (part.empty() || part.size() > 3) return false;
    for (char c : part) {
      if (!absl::ascii_isdigit(c)) return false;
    }
    if (parts == 0 && part != "127") return false;
    ++parts;
  }
  return parts == 4;
}

}  // namespace gantry::distribution
