#include "supervisor/api/containerd/event_fields.h"

#include <optional>
#include <string>

#include "absl/types/span.h"
#include "google/protobuf/descriptor.h"

#include "supervisor/api/containerd/event_message.h"

namespace gantry::api::containerd_api {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using Path = absl::Span<const std::string>;

std::optional<std::string> MapValue(const Message& message, const FieldDescriptor* field,
                                    Path key_path) {
  const FieldDescriptor* value = field->message_type()->map_value();
  const FieldDescriptor* key = field->message_type()->map_key();
  if (key_path.empty() || value->cpp_type() != FieldDescriptor::CPPTYPE_STRING) return std::nullopt;
  const std::string wanted = metadata::MapKey(key_path);
  const Reflection* reflection = message.GetReflection();
  for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
    const Message& entry = reflection->GetRepeatedMessage(message, field, i);
    if (entry.GetReflection()->GetString(entry, key) == wanted)
      return entry.GetReflection()->GetString(entry, value);
  }
  return std::nullopt;
}

std::optional<std::string> Value(const Message& message, Path path) {
  if (path.empty()) return std::nullopt;
  const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(path[0]);
  if (field == nullptr) return std::nullopt;
  if (field->is_map()) return MapValue(message, field, path.subspan(1));
  if (field->is_repeated()) return std::nullopt;
  const Reflection* reflection = message.GetReflection();
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    if (!reflection->HasField(message, field)) return std::nullopt;
    return Value(reflection->GetMessage(message, field), path.subspan(1));
  }
  if (field->cpp_type() != FieldDescriptor::CPPTYPE_STRING || path.size() != 1) return std::nullopt;
  std::string text = reflection->GetString(message, field);
  return text.empty() ? std::nullopt : std::optional<std::string>(std::move(text));
}

}  // namespace

metadata::Filter::Fields FieldsOf(const core::Event& event) {
  return [&event, payload = std::shared_ptr<Message>(),
          decoded = false](Path path) mutable -> std::optional<std::string> {
    const auto present = [](const std::string& text) {
      return text.empty() ? std::nullopt : std::optional<std::string>(text);
    };
    if (path[0] == "namespace" && path.size() == 1) return present(event.ns);
    if (path[0] == "topic" && path.size() == 1) return present(std::string(TopicOf(event)));
    if (path[0] != "event") return std::nullopt;
    if (!decoded) {
      decoded = true;
      payload = PayloadOf(event);
    }
    return payload == nullptr ? std::nullopt : Value(*payload, path.subspan(1));
  };
}

}  // namespace gantry::api::containerd_api
