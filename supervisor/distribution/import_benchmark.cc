// How fast an archive becomes snapshots: bazel run -c opt
// //supervisor/distribution:import_benchmark -- DIRECTORY ARCHIVE [ROUNDS]
//
// Each round starts with empty stores below DIRECTORY, which decides the file system that is
// measured.
#include <fcntl.h>
#include <rocksdb/db.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "base/file.h"
#include "content-store/local_store.h"
#include "snapshotter/overlay_snapshotter.h"
#include "snapshotter/snapshot_index.h"
#include "supervisor/distribution/archive.h"
#include "supervisor/distribution/runnable_image.h"
#include "supervisor/distribution/unpacker.h"

namespace gantry::distribution {
namespace {

template <typename T>
T Must(absl::StatusOr<T> value, const char* what) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "%s: %s\n", what, value.status().ToString().c_str());
  std::exit(1);
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

void Round(const std::string& directory, const char* archive) {
  if (!MakeDirectories(directory).ok()) std::exit(1);
  rocksdb::Options options;
  options.create_if_missing = true;
  rocksdb::DB* raw = nullptr;
  if (!rocksdb::DB::Open(options, directory + "/db", &raw).ok()) std::exit(1);
  const std::unique_ptr<rocksdb::DB> db(raw);
  auto snapshotter =
      Must(snapshot::OverlaySnapshotter::Open(
               {.root = directory + "/overlay", .mount_options = {}},
               Must(snapshot::SnapshotIndex::Open(raw, raw->DefaultColumnFamily(), "o"), "index")),
           "snapshotter");
  auto store = Must(content::LocalStore::Open(directory + "/content"), "store");

  const absl::Time start = absl::Now();
  const double cpu = CpuSeconds();
  Unpacker unpacker{UnpackerOptions()};
  CancelToken cancel;
  auto session =
      unpacker.Start({store.get(), snapshotter.get(), "overlayfs", "bench"}, cancel, nullptr);
  UniqueFd fd(open(archive, O_RDONLY | O_CLOEXEC));
  FdSource source(std::move(fd));
  auto images = Must(ImportArchive(source, *store, session.get(), {}, cancel, nullptr), "import");
  const absl::Time imported = absl::Now();
  auto runnable =
      Must(FindRunnable(*store, images[0].target, oci::PlatformMatcher::All()), "image");
  Must(session->Finish(runnable.config.digest, runnable.layers, runnable.diff_ids), "unpack");
  const absl::Time end = absl::Now();
  std::printf("import %.2f s, unpacked after %.2f s, CPU %.2f s\n",
              absl::ToDoubleSeconds(imported - start), absl::ToDoubleSeconds(end - start),
              CpuSeconds() - cpu);
}

}  // namespace
}  // namespace gantry::distribution

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: import_benchmark DIRECTORY ARCHIVE [ROUNDS]\n");
    return 2;
  }
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 3;
  for (int i = 0; i < rounds; ++i) {
    const std::string directory = absl::StrCat(argv[1], "/round-", getpid(), "-", i);
    gantry::distribution::Round(directory, argv[2]);
    if (!gantry::RemoveTree(directory).ok()) return 1;
  }
  return 0;
}
