// A layer from anywhere: the tar reader, every byte of it, over every compression.
#include <string>
#include <vector>

#include "base/byte_stream.h"
#include "base/compression.h"
#include "base/fuzz/fuzz.h"
#include "base/tar/reader.h"
#include "base/tar/writer.h"

namespace gantry {
namespace {

constexpr int64_t kMaxPlain = 4 << 20;  // what little bytes may become before the target looks away

std::string Archive() {
  StringSink sink;
  TarWriter tar(sink);
  TarEntry entry;
  entry.type = TarType::kDirectory;
  entry.path = "etc";
  entry.mode = 0755;
  (void)tar.WriteEntry(entry);
  entry.type = TarType::kFile;
  entry.path = std::string("etc/") + std::string(180, 'n');
  entry.size_bytes = 5;
  entry.xattrs["user.a"] = std::string("\0\xff", 2);
  (void)tar.WriteEntry(entry);
  (void)tar.WriteData("hello");
  entry = {};
  entry.type = TarType::kSymlink;
  entry.path = "link";
  entry.link_target = "../../etc/passwd";
  (void)tar.WriteEntry(entry);
  (void)tar.Finish();
  return sink.str();
}

std::string Compressed(const std::string& plain, Compression compression) {
  StringSink sink;
  absl::StatusOr<std::unique_ptr<Compressor>> compressor = OpenCompressor(sink, compression);
  if (!compressor.ok() || !(*compressor)->Write(plain).ok() || !(*compressor)->Finish().ok()) {
    return "";
  }
  return sink.str();
}

// Stops a bomb where the caller's limit would.
class Limited : public ByteSource {
 public:
  explicit Limited(ByteSource& source) : source_(source) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    if (total_ > kMaxPlain) return absl::ResourceExhaustedError("enough");
    absl::StatusOr<size_t> got = source_.Read(buffer, n);
    if (got.ok()) total_ += static_cast<int64_t>(*got);
    return got;
  }

 private:
  ByteSource& source_;
  int64_t total_ = 0;
};

}  // namespace

std::vector<std::string> FuzzSeeds() {
  const std::string plain = Archive();
  return {plain, Compressed(plain, Compression::kGzip), Compressed(plain, Compression::kZstd)};
}

void FuzzOne(absl::string_view bytes) {
  StringSource source{std::string(bytes)};
  absl::StatusOr<std::unique_ptr<Decompressor>> plain = OpenDecompressor(source);
  if (!plain.ok()) return;
  Limited limited(**plain);
  TarReader reader(limited);
  while (true) {
    TarEntry entry;
    absl::StatusOr<bool> more = reader.Next(entry);
    if (!more.ok() || !*more) break;
    TarData data;
    while (true) {
      absl::StatusOr<bool> some = reader.ReadData(data);
      if (!some.ok()) return;
      if (!*some) break;
    }
  }
  (void)reader.Drain();
}

}  // namespace gantry
