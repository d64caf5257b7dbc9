#include "base/ttrpc_frame.h"

namespace gantry {

uint32_t ReadBigEndian32(absl::string_view four_bytes) {
  uint32_t number = 0;
  for (size_t i = 0; i < 4; ++i) number = number << 8 | static_cast<unsigned char>(four_bytes[i]);
  return number;
}

void AppendBigEndian32(uint32_t number, std::string& out) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(number >> shift));
}

std::optional<TtrpcHead> ReadTtrpcHead(absl::string_view bytes) {
  if (bytes.size() < kTtrpcHeadBytes) return std::nullopt;
  TtrpcHead head;
  head.length = ReadBigEndian32(bytes);
  head.stream = ReadBigEndian32(bytes.substr(4));
  head.type = static_cast<uint8_t>(bytes[8]);
  return head;
}

void AppendTtrpcFrame(uint32_t stream, TtrpcType type, absl::string_view payload,
                      std::string& out) {
  AppendBigEndian32(static_cast<uint32_t>(payload.size()), out);
  AppendBigEndian32(stream, out);
  out.push_back(static_cast<char>(type));
  out.push_back(0);
  out.append(payload.data(), payload.size());
}

}  // namespace gantry
