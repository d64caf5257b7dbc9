#include "base/trace/otlp_body.h"

#include <cstdint>
#include <map>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

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

// Fields of a protobuf message, one after the other.
class Message {
 public:
  Message& Bytes(int field, absl::string_view value) {
    Varint(static_cast<uint64_t>(field) << 3 | 2);
    Varint(value.size());
    absl::StrAppend(&bytes_, value);
    return *this;
  }
  // Left out where it is empty, as every field of its kind in protobuf 3.
  Message& Text(int field, absl::string_view value) {
    return value.empty() ? *this : Bytes(field, ToValidUtf8(value));
  }
  Message& Hex(int field, absl::string_view digits) {
    return digits.empty() ? *this : Bytes(field, absl::HexStringToBytes(digits));
  }
  Message& Int(int field, uint64_t value) {
    Varint(static_cast<uint64_t>(field) << 3);
    Varint(value);
    return *this;
  }
  Message& Fixed64(int field, uint64_t value) {
    Varint(static_cast<uint64_t>(field) << 3 | 1);
    for (int i = 0; i < 8; ++i) bytes_.push_back(static_cast<char>(value >> (8 * i)));
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void Varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<char>(value | 0x80));
    bytes_.push_back(static_cast<char>(value));
  }
  std::string bytes_;
};

// KeyValue: key = 1, value = 2; AnyValue: string_value = 1.
void AddAttributes(Message& out, int field, const Pairs& pairs) {
  for (const auto& [key, value] : pairs) {
    Message any, pair;
    any.Bytes(1, ToValidUtf8(value));
    out.Bytes(field, pair.Text(1, key).Bytes(2, any.bytes()).bytes());
  }
}

std::string SpanMessage(const Span& span) {
  Message out;
  out.Hex(1, span.context.trace_id)
      .Hex(2, span.context.span_id)
      .Hex(4, span.parent_span_id)
      .Text(5, span.name)
      .Int(6, static_cast<uint64_t>(span.kind))
      .Fixed64(7, static_cast<uint64_t>(absl::ToUnixNanos(span.start)))
      .Fixed64(8, static_cast<uint64_t>(absl::ToUnixNanos(span.end)));
  AddAttributes(out, 9, span.attributes);
  if (span.failed) {
    Message status;
    out.Bytes(15, status.Text(2, span.error).Int(3, 2).bytes());
  }
  return out.bytes();
}

}  // namespace

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

std::string OtlpProtobuf(const OtlpTarget& target, const std::vector<Span>& spans) {
  std::map<std::string, Message> by_service;
  for (const Span& span : spans) {
    Message& scope = by_service[span.service.empty() ? target.service : span.service];
    if (scope.bytes().empty()) {
      Message name;
      scope.Bytes(1, name.Text(1, "gantry").bytes());
    }
    scope.Bytes(2, SpanMessage(span));
  }
  Message out;
  for (const auto& [service, scope] : by_service) {
    Pairs attributes = {{"service.name", service}};
    attributes.insert(attributes.end(), target.resource.begin(), target.resource.end());
    Message resource, spans_of;
    AddAttributes(resource, 1, attributes);
    out.Bytes(1, spans_of.Bytes(1, resource.bytes()).Bytes(2, scope.bytes()).bytes());
  }
  return out.bytes();
}

}  // namespace gantry::trace
