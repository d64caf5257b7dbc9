// The raw streams of attach and exec, both ways: frames of output, as a client takes them apart,
// and what a client types, in which the detach keys are looked for. The first byte says how long
// the pieces are in which the rest comes; of the rest the first line is detach keys.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

#include "base/fuzz/fuzz.h"
#include "supervisor/api/docker/hijack.h"

namespace gantry {
namespace {

using api::docker::DetachKeys;
using api::docker::FrameOf;

// Takes a stream apart as docker's clients do: eight bytes, of which the first is the stream and
// the last four are a length, then as many bytes. False: that is no such stream.
bool Split(absl::string_view stream, std::vector<std::pair<int, std::string>>& frames) {
  while (!stream.empty()) {
    if (stream.size() < 8) return false;
    const auto byte = [&stream](size_t i) { return static_cast<unsigned char>(stream[i]); };
    if (byte(1) != 0 || byte(2) != 0 || byte(3) != 0) return false;
    const size_t size =
        size_t{byte(4)} << 24 | size_t{byte(5)} << 16 | size_t{byte(6)} << 8 | byte(7);
    if (stream.size() - 8 < size) return false;
    frames.emplace_back(byte(0), std::string(stream.substr(8, size)));
    stream.remove_prefix(8 + size);
  }
  return true;
}

std::string Typed(const std::string& keys, absl::string_view text, size_t piece, bool* detached) {
  DetachKeys filter(keys);
  std::string out;
  *detached = false;
  while (!text.empty() && !*detached) {
    out += filter.Filter(text.substr(0, piece), detached);
    text.remove_prefix(std::min(piece, text.size()));
  }
  return out;
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  return {std::string("\x01"
                      "ctrl-p,ctrl-q\nabc\x10\x11"
                      "def"),
          std::string("\x05"
                      "a,a,b\naaaabab"),
          std::string("\x02\n\0\1\2\xff", 6),
          std::string("\x07"
                      "ctrl-@\nx\0y",
                      11)};
}

void FuzzOne(absl::string_view bytes) {
  if (bytes.empty() || bytes.size() > 64 << 10) return;
  const size_t piece = static_cast<unsigned char>(bytes[0]) % 16 + 1;
  bytes.remove_prefix(1);

  std::string stream;
  std::vector<std::pair<int, std::string>> sent, got;
  for (absl::string_view rest = bytes; !rest.empty();) {
    const absl::string_view part = rest.substr(0, piece);
    const FrameOf of = part.size() % 2 == 0 ? FrameOf::kStdout : FrameOf::kStderr;
    stream += api::docker::Frame(of, part);
    sent.emplace_back(static_cast<int>(of), std::string(part));
    rest.remove_prefix(part.size());
  }
  if (!Split(stream, got) || got != sent) abort();

  const size_t line = bytes.find('\n');
  const auto keys = api::docker::ParseDetachKeys(bytes.substr(0, line));
  if (!keys.ok() || line == absl::string_view::npos) return;
  const absl::string_view text = bytes.substr(line + 1);
  // How the bytes arrive makes no difference, up to the keys. What is held back of keys that were
  // begun at the end is let through by none.
  bool whole_detached = false, detached = false;
  const std::string whole = Typed(*keys, text, text.size() + 1, &whole_detached);
  if (Typed(*keys, text, piece, &detached) != whole || detached != whole_detached) abort();
  if (Typed(*keys, text, 1, &detached) != whole || detached != whole_detached) abort();
  if (whole.size() > text.size()) abort();
}

}  // namespace gantry
