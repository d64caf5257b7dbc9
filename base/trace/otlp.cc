#include "base/trace/otlp.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

#include "base/errno_status.h"
#include "base/unique_fd.h"
#include "base/utf8.h"

namespace gantry::trace {
namespace {

std::string Quoted(absl::string_view text) {
  std::string out = "\"";
  for (const char c : ToValidUtf8(text)) {
    if (c == '"' || c == '\\') {
      absl::StrAppend(&out, "\\", std::string(1, c));
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppendFormat(&out, "\\u%04x", static_cast<int>(c));
    } else {
      out.push_back(c);
    }
  }
  return out + "\"";
}

std::string Attributes(const Pairs& pairs) {
  std::string out = "[";
  for (const auto& [key, value] : pairs) {
    absl::StrAppend(&out, out.size() > 1 ? "," : "", "{\"key\":", Quoted(key),
                    ",\"value\":{\"stringValue\":", Quoted(value), "}}");
  }
  return out + "]";
}

std::string SpanJson(const Span& span) {
  std::string out = absl::StrCat("{\"traceId\":", Quoted(span.context.trace_id),
                                 ",\"spanId\":", Quoted(span.context.span_id));
  if (!span.parent_span_id.empty())
    absl::StrAppend(&out, ",\"parentSpanId\":", Quoted(span.parent_span_id));
  absl::StrAppend(&out, ",\"name\":", Quoted(span.name), ",\"kind\":", static_cast<int>(span.kind),
                  ",\"startTimeUnixNano\":\"", absl::ToUnixNanos(span.start),
                  "\",\"endTimeUnixNano\":\"", absl::ToUnixNanos(span.end),
                  "\",\"attributes\":", Attributes(span.attributes));
  if (span.failed)
    absl::StrAppend(&out, ",\"status\":{\"code\":2,\"message\":", Quoted(span.error), "}");
  return out + "}";
}

// "a=b,c=d" with percent-encoding in the values, as W3C baggage.
Pairs ParsePairs(absl::string_view text) {
  Pairs pairs;
  for (absl::string_view part : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    const std::pair<absl::string_view, absl::string_view> halves =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    std::string value;
    const absl::string_view raw = absl::StripAsciiWhitespace(halves.second);
    for (size_t i = 0; i < raw.size(); ++i) {
      int code = 0;
      if (raw[i] == '%' && i + 2 < raw.size() && absl::ascii_isxdigit(raw[i + 1]) &&
          absl::ascii_isxdigit(raw[i + 2]) && absl::SimpleHexAtoi(raw.substr(i + 1, 2), &code)) {
        value.push_back(static_cast<char>(code));
        i += 2;
      } else {
        value.push_back(raw[i]);
      }
    }
    pairs.emplace_back(absl::StripAsciiWhitespace(halves.first), std::move(value));
  }
  return pairs;
}

// What could end a header's line.
bool HasLineEnd(absl::string_view text) {
  return absl::StrContains(text, '\r') || absl::StrContains(text, '\n') ||
         absl::StrContains(text, std::string(1, '\0'));
}

// False: not before `deadline`, or `stop` became readable.
bool Ready(int fd, short events, absl::Time deadline, int stop) {
  while (true) {
    const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now());
    if (left <= 0) return false;
    pollfd both[2] = {{fd, events, 0}, {stop, POLLIN, 0}};
    const int n = poll(both, 2, static_cast<int>(std::min<int64_t>(left, 60000)));
    if (n > 0) return both[1].revents == 0;
    if (n < 0 && errno != EINTR) return false;
  }
}

absl::StatusOr<UniqueFd> Dial(const OtlpTarget& target, absl::Time deadline, int stop) {
  const std::string what = absl::StrCat("collector ", target.host, ":", target.port);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(target.host.c_str(), target.port.c_str(), &hints, &found);
      error != 0) {
    return absl::UnavailableError(absl::StrCat(what, ": ", gai_strerror(error)));
  }
  const absl::Cleanup freed = [found] { freeaddrinfo(found); };
  absl::Status last = absl::UnavailableError(absl::StrCat(what, ": no address"));
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    UniqueFd fd(socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.valid()) return ErrnoToStatus(errno, what);
    if (connect(fd.get(), one->ai_addr, one->ai_addrlen) == 0) return fd;
    if (errno == EINPROGRESS) {
      if (!Ready(fd.get(), POLLOUT, deadline, stop))
        return absl::DeadlineExceededError(absl::StrCat(what, ": no answer"));
      int error = 0;
      socklen_t size = sizeof error;
      getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
      if (error == 0) return fd;
      errno = error;
    }
    last = ErrnoToStatus(errno, what);
  }
  return last;
}

}  // namespace

absl::StatusOr<std::optional<OtlpTarget>> TargetFromEnvironment(
    const std::function<std::string(const std::string&)>& variable, absl::string_view service) {
  std::string name = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
  std::string url = variable(name);
  if (url.empty()) {
    name = "OTEL_EXPORTER_OTLP_ENDPOINT";
    url = variable(name);
    if (!url.empty()) url = absl::StrCat(absl::StripSuffix(url, "/"), "/v1/traces");
  }
  if (url.empty() || absl::EqualsIgnoreCase(variable("OTEL_SDK_DISABLED"), "true") ||
      variable("OTEL_TRACES_EXPORTER") == "none") {
    return std::nullopt;
  }
  for (const char* protocol :
       {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"}) {
    const std::string value = variable(protocol);
    if (value == "grpc") {
      return absl::InvalidArgumentError(absl::StrCat(
          protocol, "=grpc: traces are sent over HTTP only, usually at the collector's port 4318"));
    }
    if (!value.empty()) break;
  }
  OtlpTarget target;
  absl::string_view rest = url;
  if (!absl::ConsumePrefix(&rest, "http://")) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, "=", url, ": must begin with http://; a collector on this host can go on by TLS"));
  }
  const size_t slash = rest.find('/');
  absl::string_view authority = rest.substr(0, slash);
  target.path = slash == absl::string_view::npos ? "/" : std::string(rest.substr(slash));
  target.port = "80";
  if (const size_t colon = authority.rfind(':');
      colon != absl::string_view::npos && !absl::EndsWith(authority, "]")) {
    target.port = std::string(authority.substr(colon + 1));
    authority = authority.substr(0, colon);
  }
  absl::ConsumePrefix(&authority, "[");
  absl::ConsumeSuffix(&authority, "]");
  target.host = std::string(authority);
  int port = 0;
  if (target.host.empty() || HasLineEnd(url) || absl::StrContains(url, ' ') ||
      !absl::SimpleAtoi(target.port, &port) || port < 1 || port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat(name, "=", url, ": is not a URL"));
  }
  std::string headers = variable("OTEL_EXPORTER_OTLP_TRACES_HEADERS");
  if (headers.empty()) headers = variable("OTEL_EXPORTER_OTLP_HEADERS");
  target.headers = ParsePairs(headers);
  for (const auto& [key, value] : target.headers) {
    if (key.empty() || HasLineEnd(key) || HasLineEnd(value))
      return absl::InvalidArgumentError("OTEL_EXPORTER_OTLP_HEADERS: must be name=value,...");
  }
  target.service = std::string(service);
  for (auto& [key, value] : ParsePairs(variable("OTEL_RESOURCE_ATTRIBUTES"))) {
    if (key == "service.name") {
      target.service = value;
    } else {
      target.resource.emplace_back(key, value);
    }
  }
  if (const std::string given = variable("OTEL_SERVICE_NAME"); !given.empty())
    target.service = given;
  return target;
}

std::string OtlpJson(const OtlpTarget& target, const std::vector<Span>& spans) {
  std::map<std::string, std::string> by_service;
  for (const Span& span : spans) {
    std::string& text = by_service[span.service.empty() ? target.service : span.service];
    absl::StrAppend(&text, text.empty() ? "" : ",", SpanJson(span));
  }
  std::string out = "{\"resourceSpans\":[";
  bool first = true;
  for (const auto& [service, text] : by_service) {
    Pairs resource = {{"service.name", service}};
    resource.insert(resource.end(), target.resource.begin(), target.resource.end());
    absl::StrAppend(&out, first ? "" : ",", "{\"resource\":{\"attributes\":", Attributes(resource),
                    "},\"scopeSpans\":[{\"scope\":{\"name\":\"gantry\"},\"spans\":[", text, "]}]}");
    first = false;
  }
  return out + "]}";
}

absl::Status SendSpans(const OtlpTarget& target, const std::vector<Span>& spans,
                       absl::Duration limit, int stop) {
  const std::string what = absl::StrCat("collector ", target.host, ":", target.port);
  const absl::Time deadline = absl::Now() + limit;
  const std::string body = OtlpJson(target, spans);
  std::string request = absl::StrCat("POST ", target.path, " HTTP/1.1\r\nHost: ", target.host, ":",
                                     target.port, "\r\nContent-Type: application/json\r\n",
                                     "Content-Length: ", body.size(), "\r\nConnection: close\r\n");
  for (const auto& [key, value] : target.headers)
    absl::StrAppend(&request, key, ": ", value, "\r\n");
  absl::StrAppend(&request, "\r\n", body);
  absl::StatusOr<UniqueFd> fd = Dial(target, deadline, stop);
  if (!fd.ok()) return fd.status();
  absl::string_view left = request;
  while (!left.empty()) {
    const ssize_t n = send(fd->get(), left.data(), left.size(), MSG_NOSIGNAL);
    if (n > 0) {
      left.remove_prefix(static_cast<size_t>(n));
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
      return ErrnoToStatus(errno, what);
    } else if (!Ready(fd->get(), POLLOUT, deadline, stop)) {
      return absl::DeadlineExceededError(absl::StrCat(what, ": takes nothing"));
    }
  }
  // "HTTP/1.1 200": the rest says nothing that matters here.
  std::string answer;
  while (answer.size() < 12) {
    if (!Ready(fd->get(), POLLIN, deadline, stop))
      return absl::DeadlineExceededError(absl::StrCat(what, ": no answer"));
    char buffer[512];
    const ssize_t n = recv(fd->get(), buffer, sizeof buffer, 0);
    if (n == 0) return absl::UnavailableError(absl::StrCat(what, ": ended the connection"));
    if (n > 0) answer.append(buffer, static_cast<size_t>(n));
    if (n < 0 && errno != EAGAIN && errno != EINTR) return ErrnoToStatus(errno, what);
  }
  if (!absl::StartsWith(answer, "HTTP/1.") || answer[9] != '2') {
    return absl::UnavailableError(
        absl::StrCat(what, " answers ", answer.substr(0, answer.find('\r'))));
  }
  return absl::OkStatus();
}

}  // namespace gantry::trace
