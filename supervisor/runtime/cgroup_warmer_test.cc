#include "supervisor/runtime/cgroup_warmer.h"

#include <sys/stat.h>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::runtime {
namespace {

// Polls, because what is waited for has no descriptor to wait on.
template <typename Predicate>
bool Eventually(Predicate predicate) {
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  while (!predicate()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

TEST(CgroupWarmerTest, WritesWhenPokedAndThenStops) {
  TempDir dir;
  const std::string file = dir.Join("cgroup.procs");
  ASSERT_TRUE(WriteFile(file, "x").ok());
  CgroupWarmer warmer(file);
  EXPECT_EQ(warmer.writes(), 0u);
  // One poke is two writes and more, unless the thread gets to run only when the poke is stale.
  EXPECT_TRUE(Eventually([&] {
    const uint64_t before = warmer.writes();
    warmer.Poke();
    absl::SleepFor(absl::Milliseconds(60));
    return warmer.writes() >= before + 2;
  }));
  EXPECT_EQ(ReadFile(file, 16).value(), "0");
  // It keeps warm for half a second, one write in 6 ms, and then rests until the next request.
  uint64_t last = 0;
  EXPECT_TRUE(Eventually([&] {
    const uint64_t before = warmer.writes();
    absl::SleepFor(absl::Milliseconds(60));
    last = warmer.writes();
    return last == before;
  }));
  warmer.Poke();
  EXPECT_TRUE(Eventually([&] { return warmer.writes() > last; }));
}

TEST(CgroupWarmerTest, NothingToWriteIsNoError) {
  CgroupWarmer warmer("/nonexistent/cgroup.procs");
  warmer.Poke();
  EXPECT_EQ(warmer.writes(), 0u);
}

TEST(CgroupWarmerTest, EndsWhileWarm) {
  TempDir dir;
  const std::string file = dir.Join("cgroup.procs");
  ASSERT_TRUE(WriteFile(file, "").ok());
  auto warmer = std::make_unique<CgroupWarmer>(file);
  warmer->Poke();
  const absl::Time start = absl::Now();
  warmer.reset();
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
}

}  // namespace
}  // namespace gantry::runtime
