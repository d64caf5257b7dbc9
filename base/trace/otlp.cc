#include "base/trace/otlp.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace gantry::trace {
namespace {

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
  // The variable for traces comes before the one for everything.
  const auto setting = [&variable](absl::string_view key, std::string* used) {
    *used = absl::StrCat("OTEL_EXPORTER_OTLP_TRACES_", key);
    std::string value = variable(*used);
    if (!value.empty()) return value;
    *used = absl::StrCat("OTEL_EXPORTER_OTLP_", key);
    return variable(*used);
  };
  OtlpTarget target;
  std::string used;
  const std::string protocol = setting("PROTOCOL", &used);
  if (protocol == "http/json") {
    target.encoding = OtlpTarget::Encoding::kJson;
  } else if (protocol == "grpc") {
    return absl::InvalidArgumentError(absl::StrCat(
        used,
        "=grpc: traces are sent as http/protobuf or http/json, usually to the collector's "
        "port 4318"));
  } else if (!protocol.empty() && protocol != "http/protobuf") {
    return absl::InvalidArgumentError(
        absl::StrCat(used, "=", protocol, ": must be http/protobuf or http/json"));
  }
  absl::string_view rest = url;
  if (absl::ConsumePrefix(&rest, "https://")) {
    target.tls = true;
    target.ca_file = setting("CERTIFICATE", &used);
    target.certificate_file = setting("CLIENT_CERTIFICATE", &used);
    target.key_file = setting("CLIENT_KEY", &used);
    if (target.certificate_file.empty() != target.key_file.empty()) {
      return absl::InvalidArgumentError(
          "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY belong "
          "together: set both or neither");
    }
  } else if (!absl::ConsumePrefix(&rest, "http://")) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, "=", url, ": must begin with http:// or https://"));
  }
  const size_t slash = rest.find('/');
  absl::string_view authority = rest.substr(0, slash);
  target.path = slash == absl::string_view::npos ? "/" : std::string(rest.substr(slash));
  target.port = target.tls ? "443" : "80";
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

}  // namespace gantry::trace
