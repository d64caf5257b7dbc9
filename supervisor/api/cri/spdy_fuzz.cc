// Frames of clients: how the bytes arrive makes no difference to what a stream carries.
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/fuzz/fuzz.h"
#include "supervisor/api/cri/spdy_session.h"

namespace gantry {
namespace {

using api::cri::SpdyEvent;
using api::cri::SpdyHeaders;
using api::cri::SpdyHeaderWriter;
using api::cri::SpdySession;

std::string ReadThrough(absl::string_view bytes, size_t piece) {
  SpdySession session;
  std::string seen;
  std::map<uint32_t, std::string> data;
  while (!bytes.empty()) {
    const absl::string_view part = bytes.substr(0, piece);
    bytes.remove_prefix(part.size());
    const auto events = session.Feed(part);
    if (!events.ok()) return "failed";
    for (const SpdyEvent& one : *events) {
      if (one.kind == SpdyEvent::Kind::kData) {
        data[one.stream] += one.data;
        continue;
      }
      absl::StrAppend(&seen, static_cast<int>(one.kind), " ", one.stream, "\n");
      for (const auto& [name, value] : one.headers) absl::StrAppend(&seen, name, ": ", value, "\n");
      if (one.kind != SpdyEvent::Kind::kOpened) continue;
      session.Accept(one.stream);
      session.Send(one.stream, "hello");
    }
    if (session.streams() > SpdySession::kMaxStreams) abort();
  }
  for (const auto& [stream, text] : data) absl::StrAppend(&seen, stream, " ", text, "\n");
  return seen;
}

std::string Number(uint64_t value, int bytes) {
  std::string out;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
    out += static_cast<char>(value >> shift & 0xff);
  return out;
}

std::string Control(unsigned type, const std::string& payload) {
  return Number(0x8003, 2) + Number(type, 2) + Number(0, 1) + Number(payload.size(), 3) + payload;
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  SpdyHeaderWriter writer;
  const auto open = [&writer](uint32_t stream, const SpdyHeaders& headers) {
    return Control(1, Number(stream, 4) + Number(0, 6) + writer.Write(headers));
  };
  std::string stream = open(1, {{"streamtype", "error"}});
  stream += open(3, {{"streamtype", "stdin"}, {"port", "80"}});
  return {
      stream + Number(3, 4) + Number(0x01000003, 4) + "abc",
      stream + Control(3, Number(1, 4) + Number(5, 4)) + Control(6, Number(1, 4)),
      Control(4, Number(1, 4) + Number(7, 4) + Number(100, 4)) + Control(7, Number(0, 8)),
      Control(9, Number(0, 4) + Number(1000, 4)) + stream,
  };
}

void FuzzOne(absl::string_view bytes) {
  if (bytes.size() > 32 << 10) return;
  const std::string whole = ReadThrough(bytes, bytes.size() + 1);
  if (ReadThrough(bytes, 1) != whole || ReadThrough(bytes, 7) != whole) abort();
}

}  // namespace gantry
