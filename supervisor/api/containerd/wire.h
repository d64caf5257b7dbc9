// Between containerd's messages and the values that core and the stores speak. Pure functions.
#ifndef GANTRY_SUPERVISOR_API_CONTAINERD_WIRE_H_
#define GANTRY_SUPERVISOR_API_CONTAINERD_WIRE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/protobuf/any.pb.h"
#include "google/protobuf/message_lite.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "google/protobuf/timestamp.pb.h"

#include "content-store/descriptor.h"
#include "proto/containerd/types/descriptor.pb.h"
#include "proto/containerd/types/mount.pb.h"
#include "proto/containerd/types/platform.pb.h"
#include "snapshotter/mount.h"

namespace gantry::api::containerd_api {

using Texts = google::protobuf::RepeatedPtrField<std::string>;
using WireMounts = google::protobuf::RepeatedPtrField<containerd::types::Mount>;

inline std::vector<std::string> TextsOf(const Texts& texts) { return {texts.begin(), texts.end()}; }

// The same bytes as another message type: records carry the field numbers of their containerd
// namesakes. Neither side is ours to refuse: what does not parse comes back empty.
template <typename To>
void Recast(const google::protobuf::MessageLite& from, To* to) {
  to->ParseFromString(from.SerializeAsString());
}

// InfinitePast is Go's zero time: "never".
void SetTime(absl::Time time, google::protobuf::Timestamp* out);

snapshot::Mount MountFrom(const containerd::types::Mount& mount);
std::vector<snapshot::Mount> MountsFrom(const WireMounts& mounts);
void SetMounts(const std::vector<snapshot::Mount>& mounts, WireMounts* out);

// kInvalidArgument: malformed digest or negative size.
absl::StatusOr<content::Descriptor> DescriptorFrom(const containerd::types::Descriptor& descriptor);
void SetDescriptor(const content::Descriptor& descriptor, containerd::types::Descriptor* out);

content::Platform PlatformFrom(const containerd::types::Platform& platform);
void SetPlatform(const content::Platform& platform, containerd::types::Platform* out);

// A payload under its bare message name, as containerd writes it (no "type.googleapis.com/").
google::protobuf::Any AnyOf(const google::protobuf::MessageLite& message);

// The message name of a payload: what follows the last '/' of its type URL.
absl::string_view TypeName(const google::protobuf::Any& any);

// Reads a payload that must be a `Message`. kInvalidArgument: it is something else, or does not
// parse.
template <typename Message>
absl::Status ReadAny(const google::protobuf::Any& any, Message* message) {
  if (TypeName(any) != message->GetTypeName() || !message->ParseFromString(any.value())) {
    return absl::InvalidArgumentError("expected a " + message->GetTypeName() + ", got \"" +
                                      any.type_url() + "\"");
  }
  return absl::OkStatus();
}

}  // namespace gantry::api::containerd_api

#endif  // GANTRY_SUPERVISOR_API_CONTAINERD_WIRE_H_
