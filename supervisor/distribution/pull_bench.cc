// How fast bytes come from a registry on loopback into the content store: pull without unpacking.
//
//   pull_bench [layers [MiB per layer [rounds]]]
//
// Starts Debian's docker-registry, pushes an image of random bytes and pulls it into fresh stores
// below $TEST_TMPDIR or /tmp. Prints wall time, this process's CPU time and rate of each round;
// beside it the floor: sha256 and writing alone.

#include <sys/resource.h>

#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "base/clock.h"
#include "base/temp_dir.h"
#include "content-store/local_store.h"
#include "supervisor/distribution/docker_registry.h"
#include "supervisor/distribution/registry_testbed.h"

namespace gantry::distribution {
namespace {

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
         1e-6 * (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

int64_t PeakMiB() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss >> 10;
}

struct Stopwatch {
  absl::Duration started = Clock::Real().Monotonic();
  double cpu = CpuSeconds();
  void Print(const char* what, int64_t bytes) const {
    double seconds = absl::ToDoubleSeconds(Clock::Real().Monotonic() - started);
    std::printf("%-28s %6.3f s wall  %6.3f s cpu  %7.0f MB/s  peak %lld MiB\n", what, seconds,
                CpuSeconds() - cpu, bytes / seconds / 1e6, static_cast<long long>(PeakMiB()));
  }
};

int Main(int argc, char** argv) {
  int layers = 6, mebibytes = 50, rounds = 3;
  if (argc > 1 && !absl::SimpleAtoi(argv[1], &layers)) return 2;
  if (argc > 2 && !absl::SimpleAtoi(argv[2], &mebibytes)) return 2;
  if (argc > 3 && !absl::SimpleAtoi(argv[3], &rounds)) return 2;

  absl::StatusOr<std::unique_ptr<DockerRegistry>> registry =
      DockerRegistry::Start(false, DockerRegistry::Auth::kNone);
  if (!registry.ok()) {
    std::fprintf(stderr, "%s\n", registry.status().ToString().c_str());
    return 1;
  }
  RegistryTestbed bed;
  bed.options.stall_timeout = absl::Seconds(30);
  bed.Rebuild();
  Reference ref = *Reference::Parse((*registry)->host() + "/bench:v1");
  int64_t total = 0;
  {
    FakeRegistry source;
    std::vector<std::string> bytes;
    for (int i = 0; i < layers; ++i)
      bytes.push_back(Noise(static_cast<size_t>(mebibytes) << 20, i + 1));
    for (const std::string& layer : bytes) total += layer.size();
    source.AddImage("bench", "v1", bytes);
    TempDir directory;
    std::unique_ptr<content::LocalStore> store =
        *content::LocalStore::Open(directory.Join("store"));
    absl::StatusOr<PulledImage> image =
        bed.puller->Pull(bed.Ref(source, "bench:v1"), *store, bed.pull, {});
    if (!image.ok()) {
      std::fprintf(stderr, "%s\n", image.status().ToString().c_str());
      return 1;
    }
    Stopwatch push;
    absl::StatusOr<PushedImage> pushed = bed.pusher->Push(ref, image->target, *store, {}, {});
    if (!pushed.ok()) {
      std::fprintf(stderr, "%s\n", pushed.status().ToString().c_str());
      return 1;
    }
    push.Print("push", total);
    TempDir floor_directory;
    Stopwatch floor;
    for (size_t i = 0; i < bytes.size(); ++i) {
      content::Hasher hasher;
      hasher.Update(bytes[i]);
      if (hasher.Current().empty() ||
          !WriteFile(floor_directory.Join(absl::StrCat(i)), bytes[i]).ok())
        return 1;
    }
    floor.Print("floor: sha256 + write", total);
  }
  for (int parallel : {1, 4}) {
    for (int round = 0; round < rounds; ++round) {
      TempDir directory;
      std::unique_ptr<content::LocalStore> store =
          *content::LocalStore::Open(directory.Join("store"));
      PullOptions options = bed.pull;
      options.max_parallel_blobs = parallel;
      options.sync_blobs = false;
      Stopwatch pull;
      absl::StatusOr<PulledImage> image = bed.puller->Pull(ref, *store, options, {});
      if (!image.ok()) {
        std::fprintf(stderr, "%s\n", image.status().ToString().c_str());
        return 1;
      }
      pull.Print(absl::StrCat("pull, ", parallel, " at once").c_str(), total);
    }
  }
  return 0;
}

}  // namespace
}  // namespace gantry::distribution

int main(int argc, char** argv) { return gantry::distribution::Main(argc, argv); }
