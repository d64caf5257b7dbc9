// A piece of a file's content on a socket between ctl and the daemon: a header of fixed size, then
// the bytes.
//
// Values and free functions, safe to call from any thread.
#ifndef GANTRY_BASE_CONTENT_FRAME_H_
#define GANTRY_BASE_CONTENT_FRAME_H_

#include <cstddef>
#include <cstdint>

namespace gantry {

struct ContentFrame {
  static constexpr size_t kHeaderBytes = 12;
  static constexpr uint32_t kMaxBytes = 1 << 20;  // of one piece

  uint32_t index = 0;  // of the file in its listing
  uint32_t bytes = 0;  // that follow the header
  bool end = false;    // the content is complete
  bool missing = false;

  void Write(unsigned char* header) const {
    const uint32_t words[] = {index, bytes, (end ? 1u : 0u) | (missing ? 2u : 0u)};
    for (size_t i = 0; i < kHeaderBytes; ++i)
      header[i] = static_cast<unsigned char>(words[i / 4] >> (8 * (i % 4)));
  }
  static ContentFrame Read(const unsigned char* header) {
    uint32_t words[3] = {};
    for (size_t i = 0; i < kHeaderBytes; ++i)
      words[i / 4] |= static_cast<uint32_t>(header[i]) << (8 * (i % 4));
    return {words[0], words[1], (words[2] & 1) != 0, (words[2] & 2) != 0};
  }
};

}  // namespace gantry

#endif  // GANTRY_BASE_CONTENT_FRAME_H_
