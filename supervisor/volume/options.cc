#include "supervisor/volume/options.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/field_error.h"
#include "base/project_quota.h"
#include "base/status_macros.h"

namespace gantry::volume {
namespace {

std::string Get(const Options& options, const std::string& key) {
  const auto found = options.find(key);
  return found == options.end() ? "" : found->second;
}

absl::StatusOr<std::string> AddressOf(const std::string& host) {
  unsigned char bytes[sizeof(in6_addr)];
  if (inet_pton(AF_INET, host.c_str(), bytes) == 1 || inet_pton(AF_INET6, host.c_str(), bytes) == 1)
    return host;
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (failed != 0) {
    return absl::UnavailableError(
        absl::StrCat("look up ", absl::Utf8SafeCEscape(host), ": ", gai_strerror(failed)));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
  char text[INET6_ADDRSTRLEN] = {};
  const void* address =
      found->ai_family == AF_INET6
          ? static_cast<const void*>(&reinterpret_cast<sockaddr_in6*>(found->ai_addr)->sin6_addr)
          : static_cast<const void*>(&reinterpret_cast<sockaddr_in*>(found->ai_addr)->sin_addr);
  if (inet_ntop(found->ai_family, address, text, sizeof text) == nullptr)
    return absl::UnavailableError(absl::StrCat("look up ", host, ": no address"));
  return std::string(text);
}

}  // namespace

absl::Status CheckOptions(const Options& options) {
  for (const auto& [key, value] : options) {
    if (key != "type" && key != "device" && key != "o" && key != "size") {
      return FieldError("options",
                        absl::StrCat("invalid option: \"", absl::Utf8SafeCEscape(key), "\""));
    }
    if (value.find('\0') != std::string::npos)
      return FieldError("options", absl::StrCat("option \"", key, "\" holds a NUL byte"));
  }
  const auto needs = [&options](const char* key, const char* other) {
    if (options.count(key) == 0 || options.count(other) > 0) return absl::OkStatus();
    return FieldError("options", absl::StrCat("missing required option: \"", other, "\""));
  };
  GANTRY_RETURN_IF_ERROR(needs("device", "type"));
  GANTRY_RETURN_IF_ERROR(needs("type", "device"));
  GANTRY_RETURN_IF_ERROR(needs("o", "device"));
  GANTRY_RETURN_IF_ERROR(needs("o", "type"));
  if (options.count("size") == 0) return absl::OkStatus();
  if (options.count("type") > 0) {
    return FieldError("options",
                      "quota size cannot be used with a device; for a volume in memory use "
                      "type=tmpfs,device=tmpfs,o=size=...");
  }
  if (const absl::Status size = ParseTreeSize(Get(options, "size")).status(); !size.ok())
    return FieldError("options", size.message());
  return absl::OkStatus();
}

int64_t SizeOf(const Options& options) {
  return options.count("size") == 0 ? 0 : ParseTreeSize(Get(options, "size")).value_or(0);
}

bool IsMounted(const Options& options) { return options.count("type") > 0; }

bool MapsIds(const Options& options) {
  if (!IsMounted(options)) return true;
  return Get(options, "type") == "tmpfs" || absl::StartsWith(Get(options, "device"), "/dev/");
}

absl::StatusOr<snapshot::Mount> MountOf(const Options& options) {
  snapshot::Mount mount;
  mount.type = Get(options, "type");
  mount.source = Get(options, "device");
  const bool network = absl::StartsWith(mount.type, "nfs") || mount.type == "cifs";
  bool addressed = false;
  for (const absl::string_view option : absl::StrSplit(Get(options, "o"), ',', absl::SkipEmpty())) {
    absl::string_view host = option;
    if (network && absl::ConsumePrefix(&host, "addr=")) {
      GANTRY_ASSIGN_OR_RETURN(const std::string address, AddressOf(std::string(host)));
      mount.options.push_back(absl::StrCat("addr=", address));
      addressed = true;
      continue;
    }
    // The kernel has no type "none"; a bind needs none.
    if (option == "bind" || option == "rbind") mount.type = "bind";
    mount.options.emplace_back(option);
  }
  if (mount.type == "cifs" && !addressed) {
    // "//HOST/SHARE"
    const std::vector<absl::string_view> parts =
        absl::StrSplit(mount.source, '/', absl::SkipEmpty());
    if (parts.empty())
      return absl::InvalidArgumentError("cifs needs a device of the form //HOST/SHARE");
    GANTRY_ASSIGN_OR_RETURN(const std::string address, AddressOf(std::string(parts[0])));
    mount.options.push_back(absl::StrCat("addr=", address));
  }
  return mount;
}

}  // namespace gantry::volume
