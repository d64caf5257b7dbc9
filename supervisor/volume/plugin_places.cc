#include "supervisor/volume/plugin_places.h"

#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace gantry::volume {
namespace {

constexpr size_t kMostBytes = 1 << 20;

bool IsSocket(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode);
}

// A fifo or a device in the directory would be waited for.
bool IsFile(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

// It becomes part of paths.
bool IsName(absl::string_view name) {
  return !name.empty() && name.size() <= 200 && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' ||
                  c == '-';
         });
}

absl::StatusOr<PluginAddress> ReadJson(const std::string& path, const std::string& text) {
  const nlohmann::json file = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto word = [](const nlohmann::json& in, const char* key) {
    const auto found = in.is_object() ? in.find(key) : in.end();
    return found != in.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  const std::string address = word(file, "Addr");
  if (address.empty())
    return absl::InvalidArgumentError(absl::StrCat(path, ": no JSON object with a word Addr"));
  GANTRY_ASSIGN_OR_RETURN(PluginAddress found, ParsePluginAddress(address));
  const auto tls = file.find("TLSConfig");
  if (tls == file.end() || !tls->is_object()) return found;
  const auto insecure = tls->find("InsecureSkipVerify");
  found.verify_peer = insecure == tls->end() || !insecure->is_boolean() || !insecure->get<bool>();
  found.ca_file = word(*tls, "CAFile");
  found.certificate_file = word(*tls, "CertFile");
  found.key_file = word(*tls, "KeyFile");
  if (found.socket.empty() && absl::StartsWith(found.url, "http:"))
    found.url = absl::StrCat("https:", found.url.substr(5));
  return found;
}

}  // namespace

absl::StatusOr<PluginAddress> ParsePluginAddress(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  PluginAddress out;
  absl::string_view rest = text;
  const bool clean = std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c));
  });
  if (clean && absl::ConsumePrefix(&rest, "unix://") && absl::StartsWith(rest, "/")) {
    out.socket = std::string(rest);
    out.url = "http://localhost";
    return out;
  }
  const bool tcp = absl::ConsumePrefix(&rest, "tcp://");
  const bool tls = !tcp && absl::ConsumePrefix(&rest, "https://");
  const bool http = !tcp && !tls && absl::ConsumePrefix(&rest, "http://");
  absl::ConsumeSuffix(&rest, "/");
  if (!clean || !(tcp || tls || http) || rest.empty() ||
      rest.find_first_of("/@?#") != absl::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat("address \"",
                                                   absl::Utf8SafeCEscape(text.substr(0, 200)),
                                                   "\": use unix:///PATH or tcp://HOST:PORT"));
  }
  out.url = absl::StrCat(tls ? "https://" : "http://", rest);
  return out;
}

absl::StatusOr<PluginAddress> FindPlugin(const PluginPlaces& places, absl::string_view name) {
  const absl::Status none = absl::NotFoundError(
      absl::StrCat("plugin \"", absl::Utf8SafeCEscape(name.substr(0, 200)), "\" not found"));
  if (!IsName(name)) return none;
  const auto in = [&name](const std::string& directory, const char* end) {
    return std::vector<std::string>{absl::StrCat(directory, "/", name, end),
                                    absl::StrCat(directory, "/", name, "/", name, end)};
  };
  for (const std::string& path : in(places.sockets, ".sock")) {
    if (IsSocket(path)) return ParsePluginAddress(absl::StrCat("unix://", path));
  }
  for (const std::string& directory : places.specs) {
    for (const std::string& path : in(directory, ".spec")) {
      if (!IsFile(path)) continue;
      GANTRY_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMostBytes));
      absl::StatusOr<PluginAddress> found = ParsePluginAddress(text);
      if (!found.ok()) return WithContext(found.status(), path);
      return found;
    }
    for (const std::string& path : in(directory, ".json")) {
      if (!IsFile(path)) continue;
      GANTRY_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMostBytes));
      absl::StatusOr<PluginAddress> found = ReadJson(path, text);
      if (!found.ok()) return WithContext(found.status(), path);
      return found;
    }
  }
  return none;
}

std::vector<std::string> ListPlugins(const PluginPlaces& places) {
  std::set<std::string> names;
  std::vector<std::string> directories = places.specs;
  directories.push_back(places.sockets);
  for (const std::string& directory : directories) {
    const absl::StatusOr<std::vector<std::string>> entries = ListDirectory(directory);
    if (!entries.ok()) continue;
    for (const std::string& entry : *entries) {
      absl::string_view name = entry;
      for (const char* end : {".sock", ".spec", ".json"}) {
        if (absl::ConsumeSuffix(&name, end)) break;
      }
      if (FindPlugin(places, name).ok()) names.emplace(name);
    }
  }
  return {names.begin(), names.end()};
}

}  // namespace gantry::volume
