// Frames of clients: how the bytes arrive makes no difference, and memory is bounded.
#include <cstdlib>
#include <string>
#include <vector>

#include "base/fuzz/fuzz.h"
#include "supervisor/http/websocket.h"

namespace gantry {
namespace {

std::string ReadThrough(absl::string_view bytes, size_t piece) {
  http::WebSocket socket({.message_bytes = 4096});
  std::string seen;
  while (!bytes.empty()) {
    const absl::string_view part = bytes.substr(0, piece);
    bytes.remove_prefix(part.size());
    const auto messages = socket.Feed(part);
    // Of a Feed() that fails, the messages before are not returned.
    if (!messages.ok()) return "failed";
    for (const http::WebSocketMessage& one : *messages) {
      if (one.data.size() > 4096) abort();
      seen += one.text ? "\ntext " : "\nbinary ";
      seen += one.data;
    }
  }
  return seen + "\nsent " + socket.TakeOutput();
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  return {
      std::string("\x82\x83\1\2\3\4abc\x89\x80\1\2\3\4\x01\x81\1\2\3\4a\x80\x81\1\2\3\4b", 29),
      std::string("\x88\x82\1\2\3\4\x02\xea", 8),
      std::string("\x82\xfe\x00\x7e\1\2\3\4", 8) + std::string(126, 'x'),
      std::string("\x82\xff\x00\x00\x00\x00\x00\x01\x00\x00\1\2\3\4", 14),
  };
}

void FuzzOne(absl::string_view bytes) {
  if (bytes.size() > 64 << 10) return;
  const std::string whole = ReadThrough(bytes, bytes.size() + 1);
  if (ReadThrough(bytes, 1) != whole || ReadThrough(bytes, 5) != whole) abort();
}

}  // namespace gantry
