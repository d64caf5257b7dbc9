// Messages as bytes: answers made of records as they are stored (records carry the field numbers of
// their containerd namesakes), and messages that are mostly one field of bytes, which is neither
// copied out nor in. Pure functions.
#ifndef GANTRY_SUPERVISOR_API_CONTAINERD_RAW_MESSAGE_H_
#define GANTRY_SUPERVISOR_API_CONTAINERD_RAW_MESSAGE_H_

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/message_lite.h>
#include <google/protobuf/wire_format_lite.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

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

// Appends what stands before the `size_bytes` bytes of field `number` (which is below 16).
inline void AppendBytesHead(int number, size_t size_bytes, std::string& out) {
  uint8_t head[1 + 10];
  head[0] = static_cast<uint8_t>((number << 3) | 2);
  const uint8_t* end =
      google::protobuf::io::CodedOutputStream::WriteVarint64ToArray(size_bytes, head + 1);
  out.append(reinterpret_cast<const char*>(head), static_cast<size_t>(end - head));
}

// Appends the message `bytes` as field 1, which is where answers have what was asked for: the one,
// or one of many.
inline void AppendField1(absl::string_view bytes, std::string& out) {
  AppendBytesHead(1, bytes.size(), out);
  out.append(bytes.data(), bytes.size());
}

// A message that has, beside others, the field `number` of bytes, which stays where it is.
struct MessageWithBytes {
  // Views into `slices`, in order: what the field holds.
  std::vector<absl::string_view> bytes;
  size_t size_bytes = 0;
  std::vector<grpc::Slice> slices;
};

// Parses all fields but `number` into `message`. kInternal, as gRPC answers itself: the bytes are
// no `message`.
inline absl::Status ParseAround(const grpc::ByteBuffer& buffer, int number,
                                google::protobuf::MessageLite* message, MessageWithBytes* out) {
  using google::protobuf::internal::WireFormatLite;
  const absl::Status bad = absl::InternalError("the request does not parse");
  std::string rest;
  size_t from = 0, size = 0;
  {
    grpc::ByteBuffer shared(buffer);  // the reader wants one it may change
    grpc::ProtoBufferReader reader(&shared);
    google::protobuf::io::CodedInputStream in(&reader);
    google::protobuf::io::StringOutputStream rest_stream(&rest);
    google::protobuf::io::CodedOutputStream copy(&rest_stream);
    const uint32_t wanted =
        WireFormatLite::MakeTag(number, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
    while (const uint32_t tag = in.ReadTagNoLastTag()) {
      if (tag != wanted) {
        if (!WireFormatLite::SkipField(&in, tag, &copy)) return bad;
        continue;
      }
      uint32_t length = 0;
      if (!in.ReadVarint32(&length)) return bad;
      from = static_cast<size_t>(in.CurrentPosition());
      size = length;
      if (length > buffer.Length() - from || !in.Skip(static_cast<int>(length))) return bad;
    }
    if (static_cast<size_t>(in.CurrentPosition()) != buffer.Length()) return bad;
  }
  if (!message->ParseFromString(rest)) return bad;
  out->bytes.clear();
  out->size_bytes = size;
  out->slices.clear();
  if (size == 0) return absl::OkStatus();
  if (!buffer.Dump(&out->slices).ok()) return bad;
  for (const grpc::Slice& slice : out->slices) {
    if (size == 0) break;
    if (from >= slice.size()) {
      from -= slice.size();
      continue;
    }
    const size_t taken = std::min(size, slice.size() - from);
    out->bytes.emplace_back(reinterpret_cast<const char*>(slice.begin()) + from, taken);
    size -= taken;
    from = 0;
  }
  return absl::OkStatus();
}

// A slice that is `bytes`, without another copy.
inline grpc::Slice OwningSlice(std::string bytes) {
  auto* kept = new std::string(
      std::move(bytes));  // NOLINT(cppcoreguidelines-owning-memory): the slice's; deleted with it
  return grpc::Slice(
      kept->data(), kept->size(), [](void* owner) { delete static_cast<std::string*>(owner); },
      kept);  // NOLINT(cppcoreguidelines-owning-memory)
}

// A message whose bytes are `bytes`, without another copy.
inline grpc::ByteBuffer RawMessage(std::string bytes) {
  grpc::Slice slice = OwningSlice(std::move(bytes));
  return grpc::ByteBuffer(&slice, 1);
}

// A message of many fields 1, in pieces of a size that the allocator has at hand: one piece of
// megabytes would be copied as it grows, into memory that is new each time.
class RawList {
 public:
  void Append(absl::string_view bytes) {
    if (piece_.size() + bytes.size() > kPieceBytes) Cut();
    AppendField1(bytes, piece_);
  }
  grpc::ByteBuffer Finish() && {
    Cut();
    return grpc::ByteBuffer(slices_.data(), slices_.size());
  }

 private:
  static constexpr size_t kPieceBytes = 64 << 10;
  void Cut() {
    if (piece_.empty()) return;
    slices_.push_back(OwningSlice(std::exchange(piece_, std::string())));
    piece_.reserve(kPieceBytes);
  }

  std::string piece_;
  std::vector<grpc::Slice> slices_;
};

// The bytes of `message`, for a call that speaks in bytes.
inline grpc::ByteBuffer Serialize(const google::protobuf::MessageLite& message) {
  return RawMessage(message.SerializeAsString());
}

}  // namespace gantry::api::containerd_api

#endif  // GANTRY_SUPERVISOR_API_CONTAINERD_RAW_MESSAGE_H_
