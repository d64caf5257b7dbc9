// A pull that is killed again and again, as a whole process, fetches next to nothing twice.
//
// The test runs itself as the program to kill: `resume_test pull HOST ROOT`.

#include <cstdio>
#include <cstring>
#include <random>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/subprocess.h"
#include "base/temp_dir.h"
#include "content-store/local_store.h"
#include "supervisor/distribution/registry_testbed.h"

namespace gantry::distribution {
namespace {

constexpr int64_t kLayerBytes = 256 << 20;

int PullOnce(const std::string& host, const std::string& root) {
  RegistryTestbed bed;
  bed.options.stall_timeout = absl::Seconds(30);
  bed.fetcher_options = FetcherOptions();
  bed.fetcher_options.spool_directory = root + "/spool";
  bed.fetcher_options.range_bytes = 2 << 20;
  bed.Rebuild();
  std::unique_ptr<content::LocalStore> store = *content::LocalStore::Open(root + "/store");
  absl::StatusOr<PulledImage> image =
      bed.puller->Pull(*Reference::Parse(host + "/app:v1"), *store, bed.pull, {});
  if (!image.ok()) std::fprintf(stderr, "%s\n", image.status().ToString().c_str());
  return image.ok() ? 0 : 1;
}

TEST(ResumeTest, TwentyKillsCostLessThanTwoPercent) {
  FakeRegistry registry;
  std::string layer = Noise(kLayerBytes, 1);
  registry.AddImage("app", "v1", {layer});
  registry.SetRate(
      1
      << 20);  // per connection, so that there is time to kill it and little on the way when that happens
  TempDir root;
  Command command;
  command.argv = {"/proc/self/exe", "pull", registry.host(), root.path()};
  // What a killed one leaves in passing goes with ours.
  command.env = {absl::StrCat("TEST_TMPDIR=", root.path())};
  int kills = 0;
  std::mt19937 random(20240917);
  int64_t before = -1;
  while (kills < 20) {
    absl::StatusOr<Process> child = Spawn(command);
    ASSERT_TRUE(child.ok()) << child.status();
    // Let it get somewhere, then kill it at a random moment. A child that is done early ends the
    // test with fewer kills.
    int64_t goal = registry.blob_bytes_sent() +
                   std::uniform_int_distribution<int64_t>(1 << 20, 3 << 20)(random);
    bool ended = false;
    while (registry.blob_bytes_sent() < goal && !ended)
      ended = child->Wait(absl::Milliseconds(2)).ok();
    if (ended) break;
    ASSERT_TRUE(child->Kill(9).ok());
    ASSERT_TRUE(child->Wait(absl::Seconds(10)).ok());
    ++kills;
    ASSERT_GT(registry.blob_bytes_sent(), before);
    before = registry.blob_bytes_sent();
  }
  EXPECT_GE(kills, 15);
  registry.SetRate(0);
  absl::StatusOr<CommandResult> last = RunCommand(command);
  ASSERT_TRUE(last.ok()) << last.status();
  ASSERT_TRUE(last->status.ok()) << last->err;
  std::unique_ptr<content::LocalStore> store = *content::LocalStore::Open(root.Join("store"));
  EXPECT_TRUE(store->Verify(content::Digest::Sha256Of(layer)).ok());
  EXPECT_TRUE(store->ListIngests()->empty());
  EXPECT_LE(registry.blob_bytes_sent(), kLayerBytes + kLayerBytes / 50)
      << "refetched " << (registry.blob_bytes_sent() - kLayerBytes) / 1024 << " KiB in " << kills
      << " kills";
  RecordProperty("refetched_kib",
                 static_cast<int>((registry.blob_bytes_sent() - kLayerBytes) / 1024));
}

}  // namespace
}  // namespace gantry::distribution

int main(int argc, char** argv) {
  if (argc == 4 && std::strcmp(argv[1], "pull") == 0)
    return gantry::distribution::PullOnce(argv[2], argv[3]);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
