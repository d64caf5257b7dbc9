// Answers made of records as they are stored, without making messages of them: records carry the field numbers of their containerd
// namesakes. Pure functions.
#ifndef GANTRY_SUPERVISOR_API_CONTAINERD_RAW_MESSAGE_H_
#define GANTRY_SUPERVISOR_API_CONTAINERD_RAW_MESSAGE_H_

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/message_lite.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace gantry::api::containerd_api {

// kInternal, as gRPC answers itself: the bytes are no `message`.
inline absl::Status ParseRaw(const grpc::ByteBuffer& bytes,
                             google::protobuf::MessageLite* message) {
  grpc::ByteBuffer shared(bytes);  // the reader wants one it may change
  grpc::ProtoBufferReader reader(&shared);
  return message->ParseFromZeroCopyStream(&reader)
             ? absl::OkStatus()
             : absl::InternalError("the request does not parse");
}

// Appends the message `bytes` as field 1, which is where answers have what was asked for: the one, or one of many.
inline void AppendField1(absl::string_view bytes, std::string& out) {
  uint8_t head[1 + 10];
  head[0] = (1 << 3) | 2;
  const uint8_t* end =
      google::protobuf::io::CodedOutputStream::WriteVarint64ToArray(bytes.size(), head + 1);
  out.append(reinterpret_cast<const char*>(head), static_cast<size_t>(end - head));
  out.append(bytes.data(), bytes.size());
}

// A message whose bytes are `bytes`, without another copy.
inline grpc::ByteBuffer RawMessage(std::string bytes) {
  auto* kept = new std::string(
      std::move(bytes));  // NOLINT(cppcoreguidelines-owning-memory): the slice's; deleted with it
  grpc::Slice slice(
      kept->data(), kept->size(), [](void* owner) { delete static_cast<std::string*>(owner); },
      kept);  // NOLINT(cppcoreguidelines-owning-memory)
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace gantry::api::containerd_api

#endif  // GANTRY_SUPERVISOR_API_CONTAINERD_RAW_MESSAGE_H_
