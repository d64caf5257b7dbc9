// How fast layers are unpacked: bazel run -c opt //snapshotter:layer_benchmark -- [DIRECTORY]
// [LAYER.tar[.gz|.zst] ...]
//
// Without layers it makes its own: one of many small files, one of few large ones. DIRECTORY
// (default /dev/shm) decides which file system is measured. Prints the fastest and the median of
// several rounds.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/byte_stream.h"
#include "base/compression.h"
#include "base/file.h"
#include "base/tar/writer.h"
#include "snapshotter/layer_apply.h"

namespace gantry::snapshot {
namespace {

constexpr int kRounds = 5;

// Compresses like programs do: runs of repeated and of random bytes.
std::string Content(size_t size, uint64_t seed) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    bytes[i] = (i / 24) % 3 == 0 ? static_cast<char>(seed >> 56) : static_cast<char>('a' + i % 13);
  }
  return bytes;
}

std::string MakeLayer(int directories, int files_each, size_t file_bytes) {
  StringSink sink;
  TarWriter tar(sink);
  TarEntry entry;
  entry.mtime.seconds = 1700000000;
  uint64_t seed = 1;
  for (int d = 0; d < directories; ++d) {
    entry.path = absl::StrCat("usr/share/package-", d);
    entry.type = TarType::kDirectory;
    entry.mode = 0755;
    if (!tar.WriteEntry(entry).ok()) abort();
    entry.mode = 0644;
    for (int f = 0; f < files_each; ++f) {
      entry.path = absl::StrCat("usr/share/package-", d, "/file-", f);
      if (!tar.WriteFile(entry, Content(file_bytes, seed++)).ok()) abort();
    }
  }
  if (!tar.Finish().ok()) abort();
  return std::move(sink).str();
}

std::string Compressed(const std::string& plain, Compression compression) {
  StringSink sink;
  std::unique_ptr<Compressor> compressor = OpenCompressor(sink, compression).value();
  if (!compressor->Write(plain).ok() || !compressor->Finish().ok()) abort();
  return std::move(sink).str();
}

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void Measure(const std::string& name, const std::string& layer, const std::string& directory) {
  std::vector<double> times;
  double cpu = 0;
  ApplyResult result;
  for (int round = 0; round < kRounds; ++round) {
    std::string target = directory + "/layer-benchmark-XXXXXX";
    if (mkdtemp(target.data()) == nullptr) {
      perror(target.c_str());
      exit(1);
    }
    StringSource source(layer);
    const double cpu_before = CpuSeconds();
    const auto start = std::chrono::steady_clock::now();
    absl::StatusOr<ApplyResult> applied =
        ApplyLayerToDirectory(source, target, {.whiteouts = Whiteouts::kOverlay});
    times.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    cpu = CpuSeconds() - cpu_before;
    if (!applied.ok()) {
      fprintf(stderr, "%s: %s\n", name.c_str(), applied.status().ToString().c_str());
      exit(1);
    }
    result = *std::move(applied);
    RemoveTree(target).IgnoreError();
  }
  std::sort(times.begin(), times.end());
  const double megabytes = static_cast<double>(result.uncompressed_bytes) / 1e6;
  printf("%-28s %8.1f MB %8lld entries   best %7.3f s %7.0f MB/s   median %7.3f s   cpu %6.3f s\n",
         name.c_str(), megabytes, static_cast<long long>(result.entries), times.front(),
         megabytes / times.front(), times[times.size() / 2], cpu);
  fflush(stdout);
}

int Main(int argc, char** argv) {
  const std::string directory = argc > 1 ? argv[1] : "/dev/shm";
  if (argc > 2) {
    for (int i = 2; i < argc; ++i) {
      const absl::StatusOr<std::string> layer = ReadFile(argv[i], size_t{8} << 30);
      if (!layer.ok()) {
        fprintf(stderr, "%s\n", layer.status().ToString().c_str());
        return 1;
      }
      Measure(argv[i], *layer, directory);
    }
    return 0;
  }
  const std::string small = MakeLayer(400, 50, 4000);
  const std::string large = MakeLayer(2, 8, 24 << 20);
  const std::string empty = MakeLayer(1, 1, 1);
  Measure("one file", empty, directory);
  for (const Compression compression :
       {Compression::kNone, Compression::kGzip, Compression::kZstd}) {
    const std::string kind(CompressionName(compression));
    Measure("small files, " + kind,
            compression == Compression::kNone ? small : Compressed(small, compression), directory);
    Measure("large files, " + kind,
            compression == Compression::kNone ? large : Compressed(large, compression), directory);
  }
  return 0;
}

}  // namespace
}  // namespace gantry::snapshot

int main(int argc, char** argv) { return gantry::snapshot::Main(argc, argv); }
