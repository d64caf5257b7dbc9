// Header blocks of SPDY/3.1: names and values, compressed with one zlib stream per direction for
// the life of a connection.
//
// Each block is flushed, so it can be read as soon as it is there; blocks must be read and written
// in the order in which they are on the wire, those that nobody needs too. Thread-compatible.
// Spec: SPDY Protocol draft 3, sections 2.6.10 and 2.6.10.1.
#ifndef GANTRY_SUPERVISOR_API_CRI_SPDY_HEADERS_H_
#define GANTRY_SUPERVISOR_API_CRI_SPDY_HEADERS_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::api::cri {

// In the order of the wire. Several values of one name are joined by NUL.
using SpdyHeaders = std::vector<std::pair<std::string, std::string>>;

class SpdyHeaderReader {
 public:
  static constexpr size_t kMaxBytes = 64 << 10;  // of a block, inflated
  static constexpr size_t kMaxHeaders = 256;

  SpdyHeaderReader();
  ~SpdyHeaderReader();
  SpdyHeaderReader(const SpdyHeaderReader&) = delete;
  SpdyHeaderReader& operator=(const SpdyHeaderReader&) = delete;

  // After an error no later block can be read.
  //   kInvalidArgument    not a header block
  //   kResourceExhausted  larger than the limits
  absl::StatusOr<SpdyHeaders> Read(absl::string_view block);

 private:
  struct Stream;
  const std::unique_ptr<Stream> stream_;
};

class SpdyHeaderWriter {
 public:
  SpdyHeaderWriter();
  ~SpdyHeaderWriter();
  SpdyHeaderWriter(const SpdyHeaderWriter&) = delete;
  SpdyHeaderWriter& operator=(const SpdyHeaderWriter&) = delete;

  std::string Write(const SpdyHeaders& headers);

 private:
  struct Stream;
  const std::unique_ptr<Stream> stream_;
};

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_SPDY_HEADERS_H_
