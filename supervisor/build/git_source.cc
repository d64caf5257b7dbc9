#include "supervisor/build/git_source.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"

namespace gantry::build {
namespace {

absl::Status Wrong(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("git repository ", WithoutPassword(text), ": ", why));
}

// What git allows in a ref, less what its commands give a meaning of their own.
bool IsRef(absl::string_view ref) {
  if (ref.empty() || ref.size() > 255 || ref[0] == '-' || ref[0] == '/' || ref.back() == '/' ||
      ref.back() == '.' || absl::StrContains(ref, "..") || absl::StrContains(ref, "@{") ||
      absl::StrContains(ref, "//"))
    return false;
  for (const char c : ref) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_' && c != '.' &&
        c != '/' && c != '+' && c != '@' && c != '#')
      return false;
  }
  return true;
}

bool HasControl(absl::string_view text) {
  for (const char c : text) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c)) || c == ' ') return true;
  }
  return false;
}

// The host of an address without scheme, "user@host:22/path" or "user@host:path".
absl::string_view HostOf(absl::string_view rest) {
  absl::string_view authority = rest.substr(0, rest.find('/'));
  const size_t at = authority.rfind('@');
  if (at != absl::string_view::npos) authority.remove_prefix(at + 1);
  return authority;
}

}  // namespace

bool IsUrl(absl::string_view text) {
  return absl::StartsWithIgnoreCase(text, "http://") ||
         absl::StartsWithIgnoreCase(text, "https://");
}

bool IsGitUrl(absl::string_view text) {
  return absl::StartsWithIgnoreCase(text, "git://") || absl::StartsWithIgnoreCase(text, "ssh://") ||
         absl::StartsWith(text, "git@") ||
         (IsUrl(text) && absl::EndsWith(text.substr(0, text.find_first_of("#?")), ".git"));
}

std::string WithoutPassword(absl::string_view text) {
  const size_t scheme = text.find("://");
  if (scheme == absl::string_view::npos) return std::string(text);
  const absl::string_view rest = text.substr(scheme + 3);
  const absl::string_view authority = rest.substr(0, rest.find('/'));
  const size_t at = authority.rfind('@');
  if (at == absl::string_view::npos) return std::string(text);
  return absl::StrCat(text.substr(0, scheme + 3), "xxxxx", rest.substr(at));
}

absl::StatusOr<GitSource> ParseGitSource(absl::string_view text) {
  if (!IsGitUrl(text)) return Wrong(text, "not an address that git is asked for");
  if (HasControl(text)) return Wrong(text, "blanks and control characters are not allowed in it");
  GitSource source;
  absl::string_view rest = text;
  absl::string_view fragment, query;
  if (const size_t hash = rest.find('#'); hash != absl::string_view::npos) {
    fragment = rest.substr(hash + 1);
    rest = rest.substr(0, hash);
  }
  if (const size_t mark = rest.find('?'); mark != absl::string_view::npos) {
    query = rest.substr(mark + 1);
    rest = rest.substr(0, mark);
  }
  source.repository = std::string(rest);
  const size_t scheme = rest.find("://");
  const absl::string_view address =
      scheme == absl::string_view::npos ? rest : rest.substr(scheme + 3);
  const absl::string_view user = address.substr(0, address.find('@'));
  const absl::string_view host = HostOf(address);
  // ssh takes a host or user that begins with "-" for an option.
  if (host.empty() || host[0] == '-' || user.empty() || user[0] == '-')
    return Wrong(text, "its host or user is empty or begins with \"-\"");
  if (scheme == absl::string_view::npos) {
    const size_t colon = address.find(':');
    if (colon == absl::string_view::npos || colon + 1 == address.size() ||
        address[colon + 1] == '-')
      return Wrong(text, "write git@HOST:PATH");
  }

  const std::pair<std::string, std::string> parts =
      absl::StrSplit(fragment, absl::MaxSplits(':', 1));
  source.ref = parts.first;
  source.directory = parts.second;
  for (absl::string_view one : absl::StrSplit(query, '&', absl::SkipEmpty())) {
    const std::pair<std::string, std::string> field = absl::StrSplit(one, absl::MaxSplits('=', 1));
    if (!fragment.empty())
      return Wrong(text, "either a fragment or a query names ref and directory");
    if (field.first == "ref" || field.first == "branch" || field.first == "tag") {
      if (!source.ref.empty()) return Wrong(text, "more than one ref");
      source.ref = field.first == "branch" ? absl::StrCat("refs/heads/", field.second)
                   : field.first == "tag"  ? absl::StrCat("refs/tags/", field.second)
                                           : field.second;
    } else if (field.first == "subdir") {
      source.directory = field.second;
    } else if (field.first == "checksum" || field.first == "commit") {
      source.checksum = field.second;
    } else if (field.first == "keep-git-dir") {
      source.keep_git_dir = field.second != "0" && field.second != "false";
    } else if (field.first == "submodules") {
      source.submodules = field.second != "0" && field.second != "false";
    } else {
      return Wrong(text, absl::StrCat("unexpected query key \"", field.first,
                                      "\"; there is ref, branch, tag, subdir, checksum, ",
                                      "keep-git-dir and submodules"));
    }
  }
  if (!source.ref.empty() && !IsRef(source.ref))
    return Wrong(text,
                 absl::StrCat("\"", source.ref, "\" is not the name of a branch, tag or commit"));
  for (const char c : source.checksum) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c)))
      return Wrong(text, "its checksum is not a commit");
  }
  return source;
}

}  // namespace gantry::build
