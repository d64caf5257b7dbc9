#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <map>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/field_error.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/core/log_options.h"

namespace gantry::core {
namespace {

constexpr size_t kShortId = 12;

std::string OptionOf(const v1::ContainerConfig& config, const char* name) {
  const auto found = config.log().options().find(name);
  return found == config.log().options().end() ? "" : found->second;
}

absl::Status BadOption(const char* name, absl::string_view value, absl::string_view why) {
  return FieldError(absl::StrCat("log.options.", name), absl::StrCat("\"", value, "\" ", why));
}

std::string ShortId(absl::string_view id) {
  return std::string(absl::StripPrefix(id, "sha256:").substr(0, kShortId));
}

}  // namespace

absl::StatusOr<std::string> LogTag(const v1::ContainerConfig& config, const LogOwner& owner) {
  const std::string text = OptionOf(config, "tag");
  const std::map<absl::string_view, std::string> values = {{".ID", ShortId(owner.id)},
                                                           {".FullID", owner.id},
                                                           {".Name", owner.name},
                                                           {".ImageID", ShortId(owner.image_id)},
                                                           {".ImageFullID", owner.image_id},
                                                           {".ImageName", config.image()},
                                                           {".DaemonName", "gantryd"}};
  std::string out;
  const std::string pattern = text.empty() ? "{{.ID}}" : text;
  absl::string_view rest = pattern;
  while (!rest.empty()) {
    const size_t open = rest.find("{{");
    out.append(rest.data(), std::min(open, rest.size()));
    if (open == absl::string_view::npos) break;
    const size_t close = rest.find("}}", open);
    if (close == absl::string_view::npos) return BadOption("tag", text, "has a {{ without its }}");
    const absl::string_view word =
        absl::StripAsciiWhitespace(rest.substr(open + 2, close - open - 2));
    const auto value = values.find(word);
    if (value == values.end()) {
      return BadOption("tag", text,
                       absl::StrCat("names ", word,
                                    ", which there is not; .ID, .FullID, .Name, .ImageID, "
                                    ".ImageFullID, .ImageName and .DaemonName are"));
    }
    out += value->second;
    rest.remove_prefix(close + 2);
  }
  return out;
}

namespace {

// HOST, HOST:PORT, [IPV6]:PORT to "HOST:PORT".
absl::StatusOr<std::string> WithPort(const char* option, absl::string_view text,
                                     absl::string_view default_port) {
  const size_t bracket = text.rfind(']');
  const size_t colon = text.find(':', bracket == absl::string_view::npos ? 0 : bracket);
  if (text.empty() || colon == 0) return BadOption(option, text, "names no host");
  if (colon == absl::string_view::npos) return absl::StrCat(text, ":", default_port);
  uint32_t port;
  if (!absl::SimpleAtoi(text.substr(colon + 1), &port) || port == 0 || port > 65535)
    return BadOption(option, text, "has no port from 1 to 65535");
  return std::string(text);
}

absl::Status SetAddress(const char* option, const std::string& text, absl::string_view default_port,
                        LogCollector& forward) {
  absl::string_view rest = text;
  for (const char* scheme : {"unixgram", "unix"}) {
    if (!absl::ConsumePrefix(&rest, absl::StrCat(scheme, "://"))) continue;
    constexpr size_t kMaxPath = 107;
    if (!absl::StartsWith(rest, "/") || rest.size() > kMaxPath)
      return BadOption(option, text, "is not the path of a socket");
    forward.address = absl::StrCat(scheme, ":", rest);
    return absl::OkStatus();
  }
  std::string scheme = "tcp";
  if (absl::ConsumePrefix(&rest, "udp://")) scheme = "udp";
  if (absl::StrContains(rest, "://") && !absl::ConsumePrefix(&rest, "tcp://")) {
    return BadOption(
        option, text,
        absl::StartsWith(text, "tcp+tls")
            ? "asks for TLS, which is not supported; send to a collector on this host, "
              "which encrypts"
            : "is of an unknown kind; udp://, tcp://, unix:// and unixgram:// are known");
  }
  GANTRY_ASSIGN_OR_RETURN(const std::string place, WithPort(option, rest, default_port));
  forward.address = absl::StrCat(scheme, ":", place);
  return absl::OkStatus();
}

absl::Status SetSyslog(const v1::ContainerConfig& config, LogCollector& forward) {
  static const auto* const kFacilities = new std::map<std::string, int>{
      {"kern", 0},      {"user", 1},    {"mail", 2},    {"daemon", 3},  {"auth", 4},
      {"syslog", 5},    {"lpr", 6},     {"news", 7},    {"uucp", 8},    {"cron", 9},
      {"authpriv", 10}, {"ftp", 11},    {"local0", 16}, {"local1", 17}, {"local2", 18},
      {"local3", 19},   {"local4", 20}, {"local5", 21}, {"local6", 22}, {"local7", 23}};
  const std::string address = OptionOf(config, "syslog-address");
  if (address.empty()) {
    forward.address = "unixgram:/dev/log";
  } else {
    GANTRY_RETURN_IF_ERROR(SetAddress("syslog-address", address, "514", forward));
  }
  const std::string facility = OptionOf(config, "syslog-facility");
  int number = 3;
  if (const auto known = kFacilities->find(facility); known != kFacilities->end()) {
    number = known->second;
  } else if (!facility.empty() &&
             (!absl::SimpleAtoi(facility, &number) || number < 0 || number > 23)) {
    return BadOption("syslog-facility", facility, "is not a facility of syslog");
  }
  forward.facility = number;
  const std::string format = OptionOf(config, "syslog-format");
  if (format.empty()) {
    forward.protocol = "syslog";
  } else if (format == "rfc3164") {
    forward.protocol = "rfc3164";
  } else if (format == "rfc5424") {
    forward.protocol = "rfc5424";
  } else if (format == "rfc5424micro") {
    forward.protocol = "rfc5424micro";
  } else {
    return BadOption("syslog-format", format, "is not rfc3164, rfc5424 or rfc5424micro");
  }
  return absl::OkStatus();
}

absl::Status SetFluentd(const v1::ContainerConfig& config, LogCollector& forward) {
  forward.protocol = "fluentd";
  const std::string address = OptionOf(config, "fluentd-address");
  GANTRY_RETURN_IF_ERROR(
      SetAddress("fluentd-address", address.empty() ? "127.0.0.1" : address, "24224", forward));
  if (absl::StartsWith(forward.address, "udp:") || absl::StartsWith(forward.address, "unixgram:"))
    return BadOption("fluentd-address", address, "is not a stream; tcp:// and unix:// are");
  const std::string precise = OptionOf(config, "fluentd-sub-second-precision");
  if (!precise.empty() && precise != "true" && precise != "false")
    return BadOption("fluentd-sub-second-precision", precise, "is neither true nor false");
  forward.sub_second = precise == "true";
  return absl::OkStatus();
}

// One line "key value"; what is not printable is escaped.
void AppendLine(absl::string_view key, absl::string_view value, std::string& out) {
  absl::StrAppend(&out, key, " ", absl::CEscape(value), "\n");
}

// Puts an address in place of a host's name.
absl::Status Resolve(LogCollector& forward) {
  absl::string_view text = forward.address;
  const bool udp = absl::ConsumePrefix(&text, "udp:");
  if (!udp && !absl::ConsumePrefix(&text, "tcp:")) return absl::OkStatus();
  const size_t colon = text.rfind(':');
  const std::string port(text.substr(colon + 1));
  const std::string host(absl::StripSuffix(absl::StripPrefix(text.substr(0, colon), "["), "]"));
  addrinfo wanted = {};
  wanted.ai_family = AF_UNSPEC;
  wanted.ai_socktype = udp ? SOCK_DGRAM : SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), port.c_str(), &wanted, &found);
  if (error != 0) {
    return absl::UnavailableError(absl::StrCat("log driver: host ", host, ": ", gai_strerror(error),
                                               "; give its IP address, or mend the host's DNS"));
  }
  char number[INET6_ADDRSTRLEN] = "";
  const bool six = found->ai_family == AF_INET6;
  const void* const address =
      six ? static_cast<const void*>(&reinterpret_cast<sockaddr_in6*>(found->ai_addr)->sin6_addr)
          : static_cast<const void*>(&reinterpret_cast<sockaddr_in*>(found->ai_addr)->sin_addr);
  inet_ntop(found->ai_family, address, number, sizeof number);
  freeaddrinfo(found);
  forward.address =
      absl::StrCat(udp ? "udp:" : "tcp:", six ? "[" : "", number, six ? "]" : "", ":", port);
  return absl::OkStatus();
}

}  // namespace

bool IsCollector(absl::string_view driver) {
  return driver == "journald" || driver == "syslog" || driver == "fluentd";
}

bool IsCollectorOption(absl::string_view driver, absl::string_view option) {
  if (!IsCollector(driver)) return false;
  if (option == "cache-max-size" || option == "cache-max-file" || option == "cache-compress")
    return true;
  if (driver == "syslog")
    return option == "syslog-address" || option == "syslog-facility" || option == "syslog-format";
  if (driver != "fluentd") return false;
  for (const char* name :
       {"fluentd-address", "fluentd-async", "fluentd-async-connect",
        "fluentd-async-reconnect-interval", "fluentd-buffer-limit", "fluentd-max-retries",
        "fluentd-retry-wait", "fluentd-sub-second-precision", "fluentd-write-timeout"}) {
    if (option == name) return true;
  }
  return false;
}

absl::Status SetCollector(const v1::ContainerConfig& config, const LogOwner& owner,
                          LogCollector& forward) {
  const std::string& driver = config.log().driver();
  GANTRY_ASSIGN_OR_RETURN(const std::string tag, LogTag(config, owner));
  forward.tag = tag;
  forward.host_name = owner.host_name;
  auto& fields = forward.fields;
  if (driver == "journald") {
    forward.protocol = "journald";
    forward.address = "unixgram:/run/systemd/journal/socket";
    fields["CONTAINER_ID"] = ShortId(owner.id);
    fields["CONTAINER_ID_FULL"] = owner.id;
    fields["CONTAINER_NAME"] = owner.name;
    fields["CONTAINER_TAG"] = tag;
    fields["IMAGE_NAME"] = config.image();
    return absl::OkStatus();
  }
  if (driver == "syslog") return SetSyslog(config, forward);
  fields["container_id"] = owner.id;
  fields["container_name"] = absl::StrCat("/", owner.name);
  return SetFluentd(config, forward);
}

LogOwner LogOwnerOf(const std::string& id, const std::string& name, const std::string& image_id) {
  char host_name[256] = "";
  if (gethostname(host_name, sizeof host_name - 1) != 0) host_name[0] = '\0';
  return {id, name, image_id, host_name};
}

LogDelivered ReadLogDelivered(const std::string& log_path) {
  LogDelivered delivered;
  std::ifstream file(log_path + ".delivery");
  for (std::string line; std::getline(file, line);) {
    const std::pair<std::string, std::string> words = absl::StrSplit(line, absl::MaxSplits(' ', 1));
    if (words.first == "delivered")
      (void)absl::SimpleAtoi(words.second, &delivered.delivered_lines);
    if (words.first == "dropped") (void)absl::SimpleAtoi(words.second, &delivered.dropped_lines);
    if (words.first == "waiting") (void)absl::SimpleAtoi(words.second, &delivered.waiting_bytes);
    if (words.first == "problem") delivered.problem = words.second;  // escaped: ASCII
  }
  return delivered;
}

absl::Status PlaceCollector(const std::string& log_path, bool wanted,
                            const LogCollector& collector) {
  const std::string path = log_path + ".forward";
  if (!wanted) {
    if (unlink(path.c_str()) == 0) {
      (void)unlink((log_path + ".delivery").c_str());  // best effort: it says nothing by itself
    } else if (errno != ENOENT) {
      return absl::ErrnoToStatus(errno, absl::StrCat("remove ", path));
    }
    return absl::OkStatus();
  }
  LogCollector resolved = collector;
  GANTRY_RETURN_IF_ERROR(Resolve(resolved));
  std::string text;
  AppendLine("protocol", resolved.protocol, text);
  AppendLine("address", resolved.address, text);
  AppendLine("tag", resolved.tag, text);
  AppendLine("host", resolved.host_name, text);
  AppendLine("buffer", absl::StrCat(resolved.max_buffer_bytes), text);
  AppendLine("facility", absl::StrCat(resolved.facility), text);
  AppendLine("sub_second", resolved.sub_second ? "1" : "0", text);
  for (const auto& [name, value] : resolved.fields) {
    AppendLine("field", name, text);
    AppendLine("value", value, text);
  }
  const std::string aside = path + ".new";
  {
    std::ofstream file(aside, std::ios::binary | std::ios::trunc);
    file << text;
    if (!file.flush()) return absl::ErrnoToStatus(errno, absl::StrCat("write ", aside));
  }
  // The variables of a container may hold secrets.
  if (chmod(aside.c_str(), 0600) != 0 || rename(aside.c_str(), path.c_str()) != 0)
    return absl::ErrnoToStatus(errno, absl::StrCat("rename to ", path));
  return absl::OkStatus();
}

}  // namespace gantry::core
