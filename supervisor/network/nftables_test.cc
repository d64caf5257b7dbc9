#include "supervisor/network/nftables.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

#include "base/unique_fd.h"
#include "supervisor/network/netns.h"

namespace gantry::network {
namespace {

class NftablesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "network namespaces need root";
    const absl::Status made = InNetns(NewNetns().value().get(), [this] {
      absl::StatusOr<std::unique_ptr<Nftables>> opened = Nftables::Open();
      if (opened.ok()) nft_ = *std::move(opened);
      return opened.status();
    });
    ASSERT_TRUE(made.ok()) << made;
  }

  std::unique_ptr<Nftables> nft_;
};

TEST_F(NftablesTest, CommandsAreOneTransactionAndAnswersAreTheirs) {
  EXPECT_TRUE(nft_->Run("add table inet one\nadd chain inet one inner\n").ok);
  EXPECT_EQ(nft_->Run("list tables").output, "table inet one\n");
  const Nftables::Outcome refused = nft_->Run("add table inet two\nadd chain inet nowhere inner\n");
  EXPECT_FALSE(refused.ok);
  EXPECT_TRUE(absl::StrContains(refused.error, "No such file or directory")) << refused.error;
  EXPECT_EQ(nft_->Run("list tables").output, "table inet one\n");
}

// A process with so many descriptors died in the library's select().
TEST(ManyDescriptorsTest, NumbersAbove1023DoNoHarm) {
  if (geteuid() != 0) GTEST_SKIP() << "network namespaces need root";
  constexpr size_t kMany = 1500;
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  ASSERT_GE(limit.rlim_max, kMany + 100) << "this test needs descriptors: ulimit -Hn";
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  const UniqueFd netns = NewNetns().value();
  std::vector<UniqueFd> many;
  while (many.size() < kMany) {
    many.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(many.back().valid());
  }
  const absl::Status done = InNetns(netns.get(), [] {
    absl::StatusOr<std::unique_ptr<Nftables>> nft = Nftables::Open();
    if (!nft.ok()) return nft.status();
    EXPECT_TRUE((*nft)->Run("add table inet one").ok);
    EXPECT_EQ((*nft)->Run("list tables").output, "table inet one\n");
    return absl::OkStatus();
  });
  EXPECT_TRUE(done.ok()) << done;
  // The descriptors of the others are as they were.
  EXPECT_NE(fcntl(many.back().get(), F_GETFD), -1);
}

}  // namespace
}  // namespace gantry::network
