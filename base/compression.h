// Compressed streams, told apart by their first bytes.
//
// gzip is inflated and deflated by ISA-L (several times zlib's speed), zstd by libzstd, xz and
// bzip2 by libarchive. There is no limit to the size of the output: callers that read untrusted
// bytes count them.
//
// Streams are thread-compatible.

#ifndef GANTRY_BASE_COMPRESSION_H_
#define GANTRY_BASE_COMPRESSION_H_

#include <cstddef>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/byte_stream.h"

namespace gantry {

enum class Compression { kNone, kGzip, kZstd, kXz, kBzip2 };

// "gzip", "zstd", ...; "uncompressed" for kNone.
absl::string_view CompressionName(Compression compression);

// How many bytes DetectCompression() wants to see; a shorter stream is judged by what there is.
inline constexpr size_t kCompressionMagicSize = 6;
Compression DetectCompression(absl::string_view magic);

// The decompressed bytes of a stream.
//
// Reads ahead, so the position in the source after the end says nothing; but reaching the end here
// means that the source was read to its end. Read() returns kDataLoss for a damaged or truncated
// stream, and the source's own errors unchanged. Several gzip members or zstd frames in a row are
// one stream; zero bytes after the last gzip member are padding, anything else there is damage.
class Decompressor : public ByteSource {
 public:
  virtual Compression compression() const = 0;
};

// Looks at the first bytes of `source`, which outlives the result. An unknown start means
// uncompressed: the bytes pass as they are. zstd windows of more than 128 MiB are refused
// (kResourceExhausted, from Read).
absl::StatusOr<std::unique_ptr<Decompressor>> OpenDecompressor(ByteSource& source);

// The same when the caller knows: kDataLoss, from Read, if the stream is not of that kind.
absl::StatusOr<std::unique_ptr<Decompressor>> OpenDecompressor(ByteSource& source,
                                                               Compression compression);

// Compresses what is written into another sink.
class Compressor : public ByteSink {
 public:
  // Ends the stream: nothing can be written after. Without it the output is truncated.
  virtual absl::Status Finish() = 0;
};

// kNone, kGzip and kZstd; kInvalidArgument for the others. Equal input gives equal output: no
// times, no names. Level 0 is the format's usual one. `sink` outlives the result.
absl::StatusOr<std::unique_ptr<Compressor>> OpenCompressor(ByteSink& sink, Compression compression,
                                                           int level = 0);

}  // namespace gantry

#endif  // GANTRY_BASE_COMPRESSION_H_
