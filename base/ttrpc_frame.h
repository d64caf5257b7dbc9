// Frames of ttrpc, containerd's RPC without HTTP: length u32, stream id u32 (big endian), type u8,
// flags u8, and a payload of `length` bytes. A client's streams have odd ids.
//
// Pure.
#ifndef GANTRY_BASE_TTRPC_FRAME_H_
#define GANTRY_BASE_TTRPC_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace gantry {

inline constexpr size_t kTtrpcHeadBytes = 10;
inline constexpr size_t kTtrpcMostPayloadBytes = 4 << 20;

enum class TtrpcType : uint8_t { kRequest = 1, kResponse = 2, kData = 3 };

struct TtrpcHead {
  size_t length = 0;  // of the payload, as the peer wrote it: not bounded
  uint32_t stream = 0;
  uint8_t type = 0;  // a TtrpcType, if the peer keeps to it

  bool Is(TtrpcType wanted) const { return type == static_cast<uint8_t>(wanted); }
};

// Nothing while fewer than kTtrpcHeadBytes are there.
std::optional<TtrpcHead> ReadTtrpcHead(absl::string_view bytes);

void AppendTtrpcFrame(uint32_t stream, TtrpcType type, absl::string_view payload, std::string& out);

// Numbers as the head has them.
uint32_t ReadBigEndian32(absl::string_view four_bytes);
void AppendBigEndian32(uint32_t number, std::string& out);

}  // namespace gantry

#endif  // GANTRY_BASE_TTRPC_FRAME_H_
