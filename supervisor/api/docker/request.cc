#include "supervisor/api/docker/request.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/engine/api_version.h"
#include "base/status_macros.h"
#include "supervisor/api/http_status.h"
#include "supervisor/version.h"

namespace gantry::api::docker {
namespace {

using engine::Value;

constexpr char kJson[] = "application/json";

const std::string& Find(const http::Fields& fields, absl::string_view name) {
  static const std::string* const none = new std::string;
  for (const auto& [key, value] : fields) {
    if (key == name) return value;
  }
  return *none;
}

// Without the parameters behind it.
std::string MediaTypeOf(absl::string_view content_type) {
  return absl::AsciiStrToLower(
      absl::StripAsciiWhitespace(content_type.substr(0, content_type.find(';'))));
}

bool Truth(absl::string_view text) {
  const std::string lower = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text));
  return !(lower.empty() || lower == "0" || lower == "no" || lower == "false" || lower == "none");
}

}  // namespace

absl::optional<ApiVersion> ApiVersion::Parse(absl::string_view text) {
  const size_t point = text.find('.');
  ApiVersion version;
  const auto digits = [](absl::string_view part) {
    return !part.empty() && part.size() < 6 && std::all_of(part.begin(), part.end(), [](char c) {
      return absl::ascii_isdigit(static_cast<unsigned char>(c));
    });
  };
  if (point == absl::string_view::npos || !digits(text.substr(0, point)) ||
      !digits(text.substr(point + 1)) || !absl::SimpleAtoi(text.substr(0, point), &version.major) ||
      !absl::SimpleAtoi(text.substr(point + 1), &version.minor))
    return absl::nullopt;
  return version;
}

http::Fields CommonFields() {
  return {{"Api-Version", engine::kApiVersion},
          {"Docker-Experimental", "false"},
          {"Ostype", "linux"},
          {"Server", absl::StrCat("Docker/", kVersion, " (linux)")}};
}

Request::Request(http::Exchange& exchange, ApiVersion version, http::Fields parameters)
    : exchange_(exchange),
      version_(version),
      parameters_(std::move(parameters)),
      query_(http::ParseQuery(exchange.head().query)),
      caller_(core::CallerOfSocket(exchange.transport().descriptor(), "Docker")),
      body_(exchange),
      out_(exchange),
      watch_(exchange.OnGone([this] { cancel_.Cancel("the client has gone"); })) {}

const std::string& Request::Path(absl::string_view name) const { return Find(parameters_, name); }

const std::string& Request::Query(absl::string_view name) const { return Find(query_, name); }

bool Request::HasQuery(absl::string_view name) const {
  return std::any_of(query_.begin(), query_.end(),
                     [name](const auto& field) { return field.first == name; });
}

std::vector<std::string> Request::QueryAll(absl::string_view name) const {
  std::vector<std::string> out;
  for (const auto& [key, value] : query_) {
    if (key == name) out.push_back(value);
  }
  return out;
}

bool Request::Flag(absl::string_view name, bool missing) const {
  return HasQuery(name) ? Truth(Query(name)) : missing;
}

absl::StatusOr<std::optional<int64_t>> Request::Number(absl::string_view name) const {
  const std::string& text = Query(name);
  if (text.empty()) return std::nullopt;
  int64_t number;
  if (!absl::SimpleAtoi(text, &number)) {
    return absl::InvalidArgumentError(
        absl::StrCat("invalid value for parameter ", name, ": \"", text, "\" is not a number"));
  }
  return number;
}

absl::StatusOr<Request::FilterPairs> Request::Filters() const {
  FilterPairs out;
  const std::string& text = Query("filters");
  if (text.empty()) return out;
  const absl::Status malformed = absl::InvalidArgumentError(
      absl::StrCat("invalid filters: must be JSON as {\"key\":{\"value\":true}}, not ", text));
  const absl::StatusOr<Value> document = Value::FromJson(text, Value::SameKeys::kRefused);
  if (document.ok() && document->is_null()) return out;
  if (!document.ok() || !document->is_object()) return malformed;
  for (const auto& [key, values] : document->object().fields) {
    if (values.is_object()) {
      for (const auto& [value, wanted] : values.object().fields) {
        if (!wanted.is_bool()) return malformed;
        if (wanted.Truth()) out.emplace_back(key, value);
      }
    } else if (values.is_list()) {
      for (const Value& value : values.list()) {
        if (!value.is_string()) return malformed;
        out.emplace_back(key, value.string());
      }
    } else if (!values.is_null()) {
      return malformed;
    }
  }
  return out;
}

absl::StatusOr<Value> Request::Json() {
  const std::string& content_type = head().field("content-type");
  if (!head().has_body) return Value();
  const absl::StatusOr<std::string> text = exchange_.ReadAll(kMaxJsonBytes);
  // The client's mistake, unlike a disk without space, which has the same code.
  if (absl::IsResourceExhausted(text.status()))
    return absl::InvalidArgumentError(text.status().message());
  GANTRY_RETURN_IF_ERROR(text.status());
  // Some clients announce a body of unknown length and send none.
  if (text->empty()) return Value();
  if (content_type.empty()) {
    return absl::InvalidArgumentError(
        "malformed Content-Type header (): mime: no media type; send application/json");
  }
  if (MediaTypeOf(content_type) != kJson) {
    return absl::InvalidArgumentError(absl::StrCat("unsupported Content-Type header (",
                                                   content_type, "): must be 'application/json'"));
  }
  // Two readers of one request must agree on what its body is.
  for (const auto& [name, value] : head().fields) {
    if (name == "content-type" && value != content_type) {
      return absl::InvalidArgumentError(
          absl::StrCat("two Content-Type headers (", content_type, ", ", value, "): send one"));
    }
  }
  absl::StatusOr<Value> document = Value::FromJson(*text, Value::SameKeys::kRefused);
  if (!document.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("invalid JSON: ", absl::StripPrefix(document.status().message(), "JSON: ")));
  }
  return document;
}

http::Fields Request::FieldsOf(absl::string_view content_type) const {
  http::Fields fields = CommonFields();
  if (!content_type.empty()) fields.emplace_back("Content-Type", std::string(content_type));
  fields.insert(fields.end(), fields_.begin(), fields_.end());
  return fields;
}

void Request::AddField(std::string name, std::string value) {
  fields_.emplace_back(std::move(name), std::move(value));
}

absl::Status Request::Reply(int status, const Value& document) {
  std::string text = document.ToJson();
  text += '\n';
  return ReplyJson(status, text);
}

absl::Status Request::ReplyJson(int status, absl::string_view text) {
  return exchange_.Respond(status, FieldsOf(kJson), text);
}

absl::Status Request::ReplyEmpty(int status) { return exchange_.Respond(status, FieldsOf(""), ""); }

absl::Status Request::ReplyText(int status, absl::string_view text) {
  return exchange_.Respond(status, FieldsOf("text/plain; charset=utf-8"), text);
}

absl::Status Request::ReplyError(const absl::Status& error) {
  return ReplyError(HttpStatus(error), error.message());
}

absl::Status Request::ReplyError(int status, absl::string_view message) {
  Value document;
  document.Set("message", message);
  return Reply(status, document);
}

absl::StatusOr<http::Hijacked> Request::Hijack() {
  watch_ = {};
  return exchange_.Hijack();
}

absl::Status Request::Begin(int status, absl::string_view content_type) {
  return exchange_.Begin(status, FieldsOf(content_type));
}

absl::Status LateBody::BeginOnce() {
  return std::exchange(begun_, true) ? absl::OkStatus() : request_.Begin(200, content_type_);
}

absl::Status LateBody::Write(absl::string_view bytes) {
  GANTRY_RETURN_IF_ERROR(BeginOnce());
  return request_.WriteBytes(bytes);
}

absl::Status LateBody::End() {
  GANTRY_RETURN_IF_ERROR(BeginOnce());
  return request_.End();
}

absl::Status Request::Write(const Value& document) {
  return exchange_.Write(absl::StrCat(document.ToJson(), "\n"));
}

}  // namespace gantry::api::docker
