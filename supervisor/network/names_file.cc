#include "supervisor/network/names_file.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace gantry::network {
namespace {

constexpr absl::string_view kNamesHead = "gantry names 1\n";
constexpr absl::string_view kResolverHead = "gantry resolver 1\n";
constexpr absl::string_view kNetwork = "network ";
constexpr absl::string_view kName = "name ";
constexpr absl::string_view kAddress = "address ";
// What is printed with a backslash when a name is taken out of a message.
constexpr absl::string_view kEscaped = "\".;\\()@$";
constexpr size_t kMaxWord = 4096;
constexpr size_t kMaxServers = 16;
constexpr size_t kMaxNetworks = 256;
constexpr size_t kMaxLinks = 1024;

// Printable and without a space, so that it is one word of a line.
bool IsWord(absl::string_view text) {
  return !text.empty() && text.size() <= kMaxWord &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

bool IsLower(absl::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

// A server: an address, of IPv6 also with a zone.
bool IsServer(absl::string_view text) {
  if (!IsWord(text)) return false;
  const size_t zone = text.find('%');
  const absl::string_view address = text.substr(0, zone);
  if (zone != absl::string_view::npos && zone + 1 == text.size()) return false;
  const std::optional<NameAddress> parsed = NameAddress::Parse(address);
  return parsed.has_value() && (zone == absl::string_view::npos || parsed->size == 16);
}

absl::Status Damaged(absl::string_view what, size_t line) {
  return absl::DataLossError(absl::StrCat("line ", line, ": ", what));
}

// Takes the first line, without its end. False: no whole line is left.
bool TakeLine(absl::string_view& text, absl::string_view& line) {
  const size_t end = text.find('\n');
  if (end == absl::string_view::npos) return false;
  line = text.substr(0, end);
  text.remove_prefix(end + 1);
  return true;
}

// "WORD WORD", nothing else.
bool TwoWords(absl::string_view text, absl::string_view& first, absl::string_view& second) {
  const size_t space = text.find(' ');
  if (space == absl::string_view::npos) return false;
  first = text.substr(0, space);
  second = text.substr(space + 1);
  return IsWord(first) && IsWord(second);
}

// A key that ends in a space: the line's words before it.
absl::string_view LineAt(absl::string_view part, size_t at) {
  return part.substr(at, part.find('\n', at) - at);
}

}  // namespace

bool IsDnsName(absl::string_view name) {
  if (name.empty() || name.size() > 253) return false;
  size_t label = 0;
  for (const char c : name) {
    if (c == '.') {
      if (label == 0) return false;
      label = 0;
      continue;
    }
    if (c <= ' ' || c >= 0x7f || kEscaped.find(c) != absl::string_view::npos || ++label > 63)
      return false;
  }
  return label > 0;
}

std::optional<NameAddress> NameAddress::Parse(absl::string_view text) {
  char buffer[INET6_ADDRSTRLEN];
  if (text.size() >= sizeof buffer) return std::nullopt;
  text.copy(buffer, text.size());
  buffer[text.size()] = '\0';
  if (std::strlen(buffer) != text.size()) return std::nullopt;
  NameAddress address;
  if (inet_pton(AF_INET, buffer, address.bytes) == 1) {
    address.size = 4;
  } else if (inet_pton(AF_INET6, buffer, address.bytes) == 1) {
    address.size = 16;
  } else {
    return std::nullopt;
  }
  return address;
}

std::string NameAddress::ToString() const {
  char buffer[INET6_ADDRSTRLEN] = {};
  inet_ntop(size == 4 ? AF_INET : AF_INET6, bytes, buffer, sizeof buffer);
  return buffer;
}

bool operator==(const NameAddress& a, const NameAddress& b) {
  return a.size == b.size && std::memcmp(a.bytes, b.bytes, a.size) == 0;
}

absl::StatusOr<std::string> PrintNames(absl::string_view network,
                                       const std::vector<NamedMember>& members) {
  if (!IsWord(network)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", network, "\" cannot name a network in a names file"));
  }
  std::set<std::string> names;
  // One name for each address: the record of an address that two have is damaged, and the later
  // one is as good.
  std::set<std::string> seen;
  std::set<std::string> addresses;
  for (const NamedMember& member : members) {
    for (const std::string& text : member.addresses) {
      const std::optional<NameAddress> address = NameAddress::Parse(text);
      if (!address.has_value()) continue;
      const std::string canonical = address->ToString();
      for (const std::string& name : member.names) {
        if (IsDnsName(name))
          names.insert(absl::StrCat(kName, absl::AsciiStrToLower(name), " ", canonical, "\n"));
      }
      if (IsDnsName(member.name) && seen.insert(canonical).second)
        addresses.insert(absl::StrCat(kAddress, canonical, " ", member.name, "\n"));
    }
  }
  std::string text = absl::StrCat(kNamesHead, kNetwork, network, "\n");
  for (const std::string& line : names) text += line;
  for (const std::string& line : addresses) text += line;
  if (text.size() > kMaxNamesBytes)
    return absl::ResourceExhaustedError(absl::StrCat("network ", network, " has too many names"));
  return text;
}

absl::StatusOr<NamesTable> NamesTable::Parse(absl::string_view text) {
  if (text.size() > kMaxNamesBytes) return Damaged("too long", 1);
  if (!absl::ConsumePrefix(&text, kNamesHead)) return Damaged("not a names file", 1);
  NamesTable table;
  absl::string_view line;
  if (!TakeLine(text, line) || !absl::ConsumePrefix(&line, kNetwork) || !IsWord(line))
    return Damaged("no network", 2);
  table.network_ = line;
  const absl::string_view body = text;
  size_t names_end = 0;
  absl::string_view before;
  bool in_names = true;
  for (size_t number = 3; !text.empty(); ++number) {
    if (!TakeLine(text, line)) return Damaged("cut off", number);
    absl::string_view words = line;
    absl::string_view first;
    absl::string_view second;
    if (absl::ConsumePrefix(&words, kName)) {
      if (!in_names || !TwoWords(words, first, second) || !IsDnsName(first) || !IsLower(first) ||
          !NameAddress::Parse(second).has_value())
        return Damaged("not a name and an address", number);
      names_end = body.size() - text.size();
    } else if (absl::ConsumePrefix(&words, kAddress)) {
      if (in_names) before = absl::string_view();
      in_names = false;
      if (!TwoWords(words, first, second) || !IsDnsName(second) ||
          !NameAddress::Parse(first).has_value())
        return Damaged("not an address and a name", number);
    } else {
      return Damaged("unknown", number);
    }
    if (!before.empty() && !(before < line)) return Damaged("not in order", number);
    before = line;
  }
  table.names_ = body.substr(0, names_end);
  table.addresses_ = body.substr(names_end);
  return table;
}

size_t NamesTable::LowerBound(absl::string_view part, absl::string_view key) {
  // Both are starts of lines, or the end.
  size_t low = 0;
  size_t high = part.size();
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    while (middle > low && part[middle - 1] != '\n') --middle;
    const absl::string_view line = LineAt(part, middle);
    if (line < key) {
      low = middle + line.size() + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

std::vector<NameAddress> NamesTable::Find(absl::string_view name, size_t limit) const {
  std::vector<NameAddress> found;
  const std::string key = absl::StrCat(kName, name, " ");
  for (size_t at = LowerBound(names_, key); at < names_.size() && found.size() < limit;) {
    absl::string_view line = LineAt(names_, at);
    at += line.size() + 1;
    if (!absl::ConsumePrefix(&line, key)) break;
    if (const std::optional<NameAddress> address = NameAddress::Parse(line); address.has_value())
      found.push_back(*address);
  }
  return found;
}

absl::string_view NamesTable::NameOf(const NameAddress& address) const {
  const std::string key = absl::StrCat(kAddress, address.ToString(), " ");
  const size_t at = LowerBound(addresses_, key);
  if (at >= addresses_.size()) return "";
  absl::string_view line = LineAt(addresses_, at);
  return absl::ConsumePrefix(&line, key) ? line : absl::string_view();
}

bool FileVersion::Changed(const std::string& path) {
  struct stat now = {};
  const bool there = stat(path.c_str(), &now) == 0;
  if (known_ && there == there_ &&
      (!there ||
       (now.st_dev == device_ && now.st_ino == inode_ && now.st_size == size_ &&
        now.st_ctim.tv_sec == changed_.tv_sec && now.st_ctim.tv_nsec == changed_.tv_nsec)))
    return false;
  known_ = true;
  there_ = there;
  device_ = now.st_dev;
  inode_ = now.st_ino;
  size_ = now.st_size;
  changed_ = now.st_ctim;
  return true;
}

absl::Status NamesFile::Refresh() {
  if (!version_.Changed(path_)) return absl::OkStatus();
  const UniqueFd file(open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) {
    if (errno != ENOENT) return ErrnoToStatus(errno, path_);
    Unmap();
    return absl::OkStatus();
  }
  struct stat status;
  if (fstat(file.get(), &status) != 0) return ErrnoToStatus(errno, path_);
  const auto size = static_cast<size_t>(status.st_size);
  if (size == 0 || size > kMaxNamesBytes) return Damaged(absl::StrCat(path_, " has a bad size"), 1);
  // The pages are the file's: shared by all shims on the network. Its text does not change, because
  // the file is only ever replaced.
  void* const mapped = mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
  if (mapped == MAP_FAILED) return ErrnoToStatus(errno, path_);
  absl::StatusOr<NamesTable> table =
      NamesTable::Parse(absl::string_view(static_cast<const char*>(mapped), size));
  if (!table.ok()) {
    munmap(mapped, size);
    return WithContext(table.status(), path_);
  }
  Unmap();
  mapped_ = mapped;
  mapped_bytes_ = size;
  table_ = *table;
  return absl::OkStatus();
}

void NamesFile::Unmap() {
  table_ = NamesTable();
  if (mapped_ != nullptr) munmap(mapped_, mapped_bytes_);
  mapped_ = nullptr;
  mapped_bytes_ = 0;
}

absl::StatusOr<std::string> PrintResolver(const ResolverConfig& given) {
  ResolverConfig config = given;
  for (auto& [alias, target] : config.links) {
    absl::AsciiStrToLower(&alias);
    absl::AsciiStrToLower(&target);
  }
  std::string text(kResolverHead);
  for (const std::string& path : config.networks) absl::StrAppend(&text, kNetwork, path, "\n");
  for (const auto& [alias, target] : config.links)
    absl::StrAppend(&text, "link ", alias, " ", target, "\n");
  for (const std::string& server : config.servers) absl::StrAppend(&text, "server ", server, "\n");
  if (!config.host_servers.empty())
    absl::StrAppend(&text, "host-servers ", config.host_servers, "\n");
  if (config.single_labels_stay) text += "single-labels-stay\n";
  // A word with a line's end in it would read as something else.
  const absl::StatusOr<ResolverConfig> back = ParseResolver(text);
  if (!back.ok()) return absl::InvalidArgumentError(back.status().message());
  if (*back != config) return absl::InvalidArgumentError("a word contains the end of a line");
  return text;
}

absl::StatusOr<ResolverConfig> ParseResolver(absl::string_view text) {
  if (text.size() > kMaxResolverBytes) return Damaged("too long", 1);
  if (!absl::ConsumePrefix(&text, kResolverHead)) return Damaged("not a resolver file", 1);
  ResolverConfig config;
  for (size_t number = 2; !text.empty(); ++number) {
    absl::string_view line;
    if (!TakeLine(text, line)) return Damaged("cut off", number);
    absl::string_view first;
    absl::string_view second;
    if (absl::ConsumePrefix(&line, kNetwork)) {
      if (!IsWord(line) || line[0] != '/' || config.networks.size() >= kMaxNetworks)
        return Damaged("not a network", number);
      config.networks.emplace_back(line);
    } else if (absl::ConsumePrefix(&line, "link ")) {
      if (!TwoWords(line, first, second) || !IsDnsName(first) || !IsDnsName(second) ||
          !IsLower(line) || config.links.size() >= kMaxLinks)
        return Damaged("not a link", number);
      config.links.emplace_back(first, second);
    } else if (absl::ConsumePrefix(&line, "server ")) {
      if (!IsServer(line) || config.servers.size() >= kMaxServers)
        return Damaged("not a server's address", number);
      config.servers.emplace_back(line);
    } else if (absl::ConsumePrefix(&line, "host-servers ")) {
      if (!IsWord(line) || line[0] != '/' || !config.host_servers.empty())
        return Damaged("not a path", number);
      config.host_servers = std::string(line);
    } else if (line == "single-labels-stay") {
      config.single_labels_stay = true;
    } else {
      return Damaged("unknown", number);
    }
  }
  return config;
}

std::vector<std::string> ServersOf(absl::string_view resolv_conf, size_t limit) {
  std::vector<std::string> servers;
  for (const absl::string_view line : absl::StrSplit(resolv_conf, '\n')) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (servers.size() >= limit) break;
    if (words.size() >= 2 && words[0] == "nameserver" && IsServer(words[1]))
      servers.emplace_back(words[1]);
  }
  return servers;
}

absl::Status ReplaceFile(const std::string& path, absl::string_view text) {
  // One writer at a time for each path, as the callers have it: the name need not be unique.
  const std::string temporary = path + ".new";
  GANTRY_RETURN_IF_ERROR(WriteFile(temporary, text, 0600));
  if (rename(temporary.c_str(), path.c_str()) == 0) return absl::OkStatus();
  const absl::Status failed = ErrnoToStatus(errno, absl::StrCat("replacing ", path));
  unlink(temporary.c_str());
  return failed;
}

}  // namespace gantry::network
