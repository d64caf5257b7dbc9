#include "supervisor/distribution/bounded_source.h"

#include <algorithm>
#include <cstring>

#include "gtest/gtest.h"

namespace gantry::distribution {
namespace {

// So many bytes, given in pieces as large as they are asked for.
class Bytes : public ByteSource {
 public:
  explicit Bytes(int64_t count) : left_(count) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    const size_t got = static_cast<size_t>(std::min<int64_t>(left_, static_cast<int64_t>(n)));
    std::memset(buffer, 'x', std::min<size_t>(got, 1));
    left_ -= static_cast<int64_t>(got);
    return got;
  }

 private:
  int64_t left_;
};

absl::Status Drain(ByteSource& source, size_t piece) {
  std::string buffer(piece, '\0');
  while (true) {
    const absl::StatusOr<size_t> got = source.Read(buffer.data(), buffer.size());
    if (!got.ok()) return got.status();
    if (*got == 0) return absl::OkStatus();
  }
}

TEST(BoundedSourceTest, LimitItselfIsAllowed) {
  Bytes input(1), output(100);
  CountedSource counted(input);
  BoundedSource bounded(output, counted, 100);
  EXPECT_TRUE(Drain(bounded, 7).ok());
}

TEST(BoundedSourceTest, ByteBeyondTheLimitIsRefused) {
  Bytes input(1), output(101);
  CountedSource counted(input);
  BoundedSource bounded(output, counted, 100);
  EXPECT_TRUE(absl::IsResourceExhausted(Drain(bounded, 7)));
}

// 2 GiB out of 1 MB: a gzip stream can honestly become 1,032 times as large.
TEST(BoundedSourceTest, BombIsRefusedFarBelowTheLimit) {
  Bytes input(1 << 20), output(int64_t{2} << 30);
  CountedSource counted(input);
  ASSERT_TRUE(Drain(counted, 1 << 20).ok());
  EXPECT_EQ(counted.count(), 1 << 20);
  BoundedSource bounded(output, counted, int64_t{1} << 40);
  EXPECT_TRUE(absl::IsResourceExhausted(Drain(bounded, 64 << 20)));
}

}  // namespace
}  // namespace gantry::distribution
