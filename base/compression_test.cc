#include "base/compression.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/subprocess.h"

namespace gantry {
namespace {

// Hands out at most `step` bytes at a time: the worst that a socket does.
class DripSource : public ByteSource {
 public:
  DripSource(std::string bytes, size_t step) : inner_(std::move(bytes)), step_(step) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    return inner_.Read(buffer, std::min(n, step_));
  }

 private:
  StringSource inner_;
  const size_t step_;
};

class BrokenSource : public ByteSource {
 public:
  explicit BrokenSource(std::string bytes) : inner_(std::move(bytes)) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    auto got = inner_.Read(buffer, n);
    if (got.ok() && *got == 0) return absl::UnavailableError("connection reset");
    return got;
  }

 private:
  StringSource inner_;
};

std::string Text() {
  std::string text;
  for (int i = 0; i < 60000; ++i) absl::StrAppend(&text, "line ", i * 7919 % 10007, "\n");
  return text;
}

absl::StatusOr<std::string> Decompress(const std::string& bytes, size_t step = 1 << 20) {
  DripSource source(bytes, step);
  auto stream = OpenDecompressor(source);
  if (!stream.ok()) return stream.status();
  return ReadAll(**stream, 64 << 20);
}

std::string Compress(const std::string& text, Compression compression, int level = 0) {
  StringSink sink;
  auto compressor = OpenCompressor(sink, compression, level);
  EXPECT_TRUE(compressor.ok()) << compressor.status();
  EXPECT_TRUE((*compressor)->Write(text.substr(0, text.size() / 3)).ok());
  EXPECT_TRUE((*compressor)->Write(text.substr(text.size() / 3)).ok());
  EXPECT_TRUE((*compressor)->Finish().ok());
  return sink.str();
}

// By the usual tool, so that we do not only agree with ourselves. Empty if it is not installed.
std::string Tool(std::vector<std::string> argv, const std::string& text) {
  Command command;
  command.argv = std::move(argv);
  auto result = RunCommand(command, text, 64 << 20);
  return result.ok() && result->status.ok() ? result->out : "";
}

TEST(DetectCompressionTest, KnowsTheMagics) {
  EXPECT_EQ(DetectCompression("\x1f\x8b\x08"), Compression::kGzip);
  EXPECT_EQ(DetectCompression("\x28\xb5\x2f\xfd"), Compression::kZstd);
  EXPECT_EQ(DetectCompression("\x5a\x2a\x4d\x18"), Compression::kZstd);
  EXPECT_EQ(DetectCompression(absl::string_view("\xfd"
                                                "7zXZ\0",
                                                6)),
            Compression::kXz);
  EXPECT_EQ(DetectCompression("BZh91A"), Compression::kBzip2);
  EXPECT_EQ(DetectCompression("BZhx"), Compression::kNone);
  EXPECT_EQ(DetectCompression("\x1f\x8b"), Compression::kNone);
  EXPECT_EQ(DetectCompression(""), Compression::kNone);
}

class RoundTripTest : public testing::TestWithParam<Compression> {};

TEST_P(RoundTripTest, TextComesBack) {
  const std::string text = Text();
  EXPECT_EQ(*Decompress(Compress(text, GetParam())), text);
}

TEST_P(RoundTripTest, EmptyComesBack) { EXPECT_EQ(*Decompress(Compress("", GetParam())), ""); }

TEST_P(RoundTripTest, SameInputSameOutput) {
  EXPECT_EQ(Compress(Text(), GetParam()), Compress(Text(), GetParam()));
}

TEST_P(RoundTripTest, OneByteAtATimeIsEnough) {
  const std::string text = Text().substr(0, 20000);
  EXPECT_EQ(*Decompress(Compress(text, GetParam()), 1), text);
}

TEST_P(RoundTripTest, SourceErrorsComeThrough) {
  const std::string bytes = Compress(Text(), GetParam());
  BrokenSource source(bytes.substr(0, bytes.size() / 2));
  auto stream = OpenDecompressor(source);
  ASSERT_TRUE(stream.ok());
  EXPECT_EQ(ReadAll(**stream, 64 << 20).status(), absl::UnavailableError("connection reset"));
}

INSTANTIATE_TEST_SUITE_P(All, RoundTripTest,
                         testing::Values(Compression::kNone, Compression::kGzip,
                                         Compression::kZstd),
                         [](const auto& info) { return std::string(CompressionName(info.param)); });

class StrictTest : public testing::TestWithParam<Compression> {};

TEST_P(StrictTest, ConcatenatedStreamsAreOne) {
  const std::string bytes =
      Compress("first,", GetParam()) + Compress("", GetParam()) + Compress("second", GetParam());
  EXPECT_EQ(*Decompress(bytes), "first,second");
  EXPECT_EQ(*Decompress(bytes, 1), "first,second");
}

TEST_P(StrictTest, EveryTruncationIsNoticed) {
  const std::string bytes = Compress("some text that is long enough to be worth it", GetParam());
  for (size_t n = kCompressionMagicSize; n < bytes.size(); ++n) {
    EXPECT_EQ(Decompress(bytes.substr(0, n)).status().code(), absl::StatusCode::kDataLoss) << n;
  }
}

TEST_P(StrictTest, FlippedBitsInTheDataAreNoticed) {
  const std::string bytes = Compress(Text(), GetParam());
  for (size_t at = bytes.size() / 4; at < bytes.size(); at += bytes.size() / 7) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    EXPECT_EQ(Decompress(damaged).status().code(), absl::StatusCode::kDataLoss) << at;
  }
}

TEST_P(StrictTest, GarbageAfterTheEndIsNoticed) {
  EXPECT_EQ(Decompress(Compress("x", GetParam()) + "garbage").status().code(),
            absl::StatusCode::kDataLoss);
}

TEST_P(StrictTest, EmptyStreamIsNotOfThisKind) {
  StringSource source("");
  auto stream = OpenDecompressor(source, GetParam());
  ASSERT_TRUE(stream.ok());
  EXPECT_EQ(ReadAll(**stream, 100).status().code(), absl::StatusCode::kDataLoss);
}

INSTANTIATE_TEST_SUITE_P(All, StrictTest, testing::Values(Compression::kGzip, Compression::kZstd),
                         [](const auto& info) { return std::string(CompressionName(info.param)); });

TEST(DecompressorTest, UnknownBytesPassAsTheyAre) {
  EXPECT_EQ(*Decompress("just text"), "just text");
  EXPECT_EQ(*Decompress("xy"), "xy");
  EXPECT_EQ(*Decompress(""), "");
}

TEST(DecompressorTest, GzipPaddedWithZerosEndsWhereTheDataEnds) {
  const std::string bytes = Compress("abc", Compression::kGzip);
  EXPECT_EQ(*Decompress(bytes + std::string(5000, '\0'), 7), "abc");
  EXPECT_EQ(Decompress(bytes + std::string(5000, '\0') + "x").status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(DecompressorTest, ZstdSkippableFramesAreSkipped) {
  const std::string skippable("\x50\x2a\x4d\x18\x04\0\0\0meta", 12);
  const std::string bytes = Compress("abc", Compression::kZstd);
  EXPECT_EQ(*Decompress(skippable + bytes + skippable), "abc");
  EXPECT_EQ(*Decompress(skippable + bytes + skippable, 1), "abc");
}

TEST(DecompressorTest, ZstdWithAHugeWindowIsRefused) {
  // A frame header that asks for a window of 2 GiB, and the start of a block.
  const std::string bytes("\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00", 9);
  EXPECT_EQ(Decompress(bytes).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(DecompressorTest, ReadsWhatTheToolsWrite) {
  const std::string text = Text();
  int tried = 0;
  for (const char* tool : {"gzip", "zstd", "xz", "bzip2"}) {
    const std::string bytes = Tool({tool, "-c"}, text);
    if (bytes.empty()) continue;
    ++tried;
    EXPECT_EQ(*Decompress(bytes), text) << tool;
    EXPECT_EQ(*Decompress(bytes, 1), text) << tool;
    EXPECT_EQ(Decompress(bytes.substr(0, bytes.size() / 2)).status().code(),
              absl::StatusCode::kDataLoss)
        << tool;
  }
  EXPECT_GT(tried, 0);
}

TEST(DecompressorTest, OtherKindThanPromisedIsNoticed) {
  for (const Compression kind :
       {Compression::kGzip, Compression::kZstd, Compression::kXz, Compression::kBzip2}) {
    StringSource source("this is plain text and nothing else");
    auto stream = OpenDecompressor(source, kind);
    ASSERT_TRUE(stream.ok());
    EXPECT_EQ(ReadAll(**stream, 100).status().code(), absl::StatusCode::kDataLoss)
        << CompressionName(kind);
  }
}

TEST(CompressorTest, GzipIsReadByTheTool) {
  const std::string text = Text();
  for (int level = 0; level <= 4; ++level) {
    EXPECT_EQ(Tool({"gzip", "-dc"}, Compress(text, Compression::kGzip, level)), text) << level;
  }
}

TEST(CompressorTest, WithoutFinishTheOutputIsTruncated) {
  for (const Compression kind : {Compression::kGzip, Compression::kZstd}) {
    StringSink sink;
    auto compressor = OpenCompressor(sink, kind);
    ASSERT_TRUE((*compressor)->Write(Text()).ok());
    EXPECT_EQ(Decompress(sink.str()).status().code(), absl::StatusCode::kDataLoss);
  }
}

TEST(CompressorTest, FormatsThatAreOnlyRead) {
  StringSink sink;
  EXPECT_EQ(OpenCompressor(sink, Compression::kXz).status(),
            absl::InvalidArgumentError("cannot write xz"));
}

}  // namespace
}  // namespace gantry
