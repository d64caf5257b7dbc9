#include "shim/log_sink.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/rotated_log.h"
#include "base/temp_dir.h"

namespace gantry::shim {
namespace {

using Format = LogOptions::Format;

// 2023-11-14T22:13:20.5Z, and moved by hand.
class LogSinkTest : public ::testing::Test {
 protected:
  LogOptions Options(Format format = Format::kJsonFile) {
    LogOptions options;
    options.path = directory_.Join("logs/container.log");
    options.format = format;
    return options;
  }
  LogSink Sink(const LogOptions& options) {
    return LogSink(options, [this] { return now_; });
  }
  std::string Text(const std::string& suffix = "") {
    const auto text = ReadFile(directory_.Join("logs/container.log" + suffix), 1 << 24);
    return text.ok() ? *text : "(none)";
  }

  TempDir directory_;
  absl::Time now_ = absl::FromUnixMillis(1'700'000'000'500);
};

TEST_F(LogSinkTest, JsonFileHasOneObjectPerLine) {
  LogSink sink = Sink(Options());
  ASSERT_TRUE(sink.Open().ok());
  sink.Write(LogStream::kStdout, "one\ntwo");
  sink.Write(LogStream::kStderr, "bad\n");
  sink.Write(LogStream::kStdout, " more\n");
  EXPECT_EQ(
      Text(),
      "{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"2023-11-14T22:13:20.5Z\"}\n"
      "{\"log\":\"bad\\n\",\"stream\":\"stderr\",\"time\":\"2023-11-14T22:13:20.5Z\"}\n"
      "{\"log\":\"two more\\n\",\"stream\":\"stdout\",\"time\":\"2023-11-14T22:13:20.5Z\"}\n");
}

TEST_F(LogSinkTest, AttributesAreInEveryLine) {
  LogOptions options = Options();
  options.attributes = {{"tier", "fr\"ont"}, {"E", "1"}};
  LogSink sink = Sink(options);
  sink.Write(LogStream::kStdout, "a\n");
  EXPECT_EQ(
      Text(),
      "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"attrs\":{\"E\":\"1\",\"tier\":\"fr\\\"ont\"},"
      "\"time\":\"2023-11-14T22:13:20.5Z\"}\n");
}

TEST_F(LogSinkTest, CriMarksFullAndPartialLines) {
  LogSink sink = Sink(Options(Format::kCri));
  sink.Write(LogStream::kStdout, "hello\n" + std::string(16 * 1024 + 3, 'x') + "\n");
  EXPECT_EQ(Text(), "2023-11-14T22:13:20.5Z stdout F hello\n2023-11-14T22:13:20.5Z stdout P " +
                        std::string(16 * 1024, 'x') + "\n2023-11-14T22:13:20.5Z stdout F xxx\n");
}

TEST_F(LogSinkTest, ALongJsonLineIsCutWithoutNewline) {
  LogSink sink = Sink(Options());
  sink.Write(LogStream::kStdout, std::string(16 * 1024 + 1, 'x') + "\n");
  EXPECT_TRUE(absl::StartsWith(Text(), "{\"log\":\"" + std::string(16 * 1024, 'x') + "\","))
      << Text().size();
  EXPECT_TRUE(absl::StrContains(Text(), "\n{\"log\":\"x\\n\","));
}

TEST_F(LogSinkTest, TextIsEscaped) {
  LogSink sink = Sink(Options());
  sink.Write(LogStream::kStdout, std::string("q\" b\\ t\t r\r <&> \x01 \xc3\xa4 \xff \0.\n", 26));
  EXPECT_TRUE(
      absl::StartsWith(Text(),
                       "{\"log\":\"q\\\" b\\\\ t\\t r\\r \\u003c\\u0026\\u003e \\u0001 \xc3\xa4 "
                       "\\ufffd \\u0000.\\n\","))
      << Text();
}

TEST_F(LogSinkTest, AnUnfinishedLineIsWrittenAtTheEnd) {
  LogSink sink = Sink(Options());
  sink.Write(LogStream::kStdout, "no newline");
  EXPECT_EQ(Text(), "(none)");
  sink.Flush(LogStream::kStdout);
  EXPECT_TRUE(absl::StartsWith(Text(), "{\"log\":\"no newline\",\"stream\""));
  sink.Flush(LogStream::kStdout);
  EXPECT_EQ(Text().find('\n'), Text().size() - 1);
}

TEST_F(LogSinkTest, RotationKeepsSoManyFilesInOrder) {
  LogOptions options = Options(Format::kCri);
  options.max_size_bytes = 100;  // two lines of 38 bytes
  options.max_files = 3;
  LogSink sink = Sink(options);
  std::string chunk;
  for (int i = 10; i < 20; ++i) absl::StrAppend(&chunk, "line ", i, "\n");
  sink.Write(LogStream::kStdout, chunk);
  const auto line = [](int i) {
    return absl::StrCat("2023-11-14T22:13:20.5Z stdout F line ", i, "\n");
  };
  EXPECT_EQ(Text(), line(18) + line(19));
  EXPECT_EQ(Text(".4"), line(16) + line(17));
  EXPECT_EQ(Text(".3"), line(14) + line(15));
  EXPECT_EQ(Text(".2"), "(none)");
  EXPECT_EQ(Text(".1"), "(none)");
}

TEST_F(LogSinkTest, ASecondSinkGoesOnWithTheNumbers) {
  LogOptions options = Options(Format::kCri);
  options.max_size_bytes = 40;  // one line
  options.max_files = 3;
  Sink(options).Write(LogStream::kStdout, "a\nb\nc\nd\n");
  LogSink sink = Sink(options);
  sink.Write(LogStream::kStdout, "e\n");
  EXPECT_EQ(Text(), "2023-11-14T22:13:20.5Z stdout F e\n");
  EXPECT_EQ(Text(".4"), "2023-11-14T22:13:20.5Z stdout F d\n");
  EXPECT_EQ(Text(".3"), "2023-11-14T22:13:20.5Z stdout F c\n");
  EXPECT_EQ(Text(".2"), "(none)");
}

TEST_F(LogSinkTest, WhatAFollowerHasNotOpenedIsKept) {
  LogOptions options = Options(Format::kCri);
  options.max_size_bytes = 40;  // one line
  options.max_files = 2;
  LogSink sink = Sink(options);
  ASSERT_TRUE(sink.Open().ok());
  LogHold follower(options.path);
  sink.Write(LogStream::kStdout, "a\nb\nc\nd\n");
  EXPECT_EQ(RotatedLogNumbers(options.path), (std::vector<int64_t>{1, 2, 3}));
  follower.ReleaseThrough(2);
  sink.Write(LogStream::kStdout, "e\n");
  EXPECT_EQ(RotatedLogNumbers(options.path), (std::vector<int64_t>{3, 4}));
  follower.ReleaseThrough(4);
  sink.Write(LogStream::kStdout, "f\n");
  EXPECT_EQ(RotatedLogNumbers(options.path), (std::vector<int64_t>{5}));
}

TEST_F(LogSinkTest, AFollowerThatNeverReadsFillsNoDisk) {
  LogOptions options = Options(Format::kCri);
  options.max_size_bytes = 1 << 20;
  options.max_files = 2;
  LogSink sink = Sink(options);
  ASSERT_TRUE(sink.Open().ok());
  LogHold follower(options.path);
  const std::string line(16000, 'x');
  std::string lines;
  for (int i = 0; i < 100; ++i) absl::StrAppend(&lines, line, "\n");
  for (int i = 0; i < 40; ++i) sink.Write(LogStream::kStdout, lines);
  int64_t bytes = 0;
  for (int64_t number : RotatedLogNumbers(options.path))
    bytes += static_cast<int64_t>(Text(absl::StrCat(".", number)).size());
  EXPECT_GT(bytes, 16 << 20);
  EXPECT_LT(bytes, 20 << 20);
}

TEST_F(LogSinkTest, OneFileIsBegunAnew) {
  LogOptions options = Options(Format::kCri);
  options.max_size_bytes = 50;
  LogSink sink = Sink(options);
  sink.Write(LogStream::kStdout, "a\nb\nc\n");
  EXPECT_EQ(Text(), "2023-11-14T22:13:20.5Z stdout F c\n");
  EXPECT_EQ(Text(".1"), "(none)");
}

TEST_F(LogSinkTest, ALineLargerThanTheLimitGetsAFileOfItsOwn) {
  LogOptions options = Options(Format::kCri);
  options.max_size_bytes = 60;
  options.max_files = 3;
  LogSink sink = Sink(options);
  sink.Write(LogStream::kStdout, "a\n" + std::string(100, 'x') + "\nb\n");
  EXPECT_TRUE(absl::EndsWith(Text(), " F b\n"));
  EXPECT_TRUE(absl::StrContains(Text(".2"), std::string(100, 'x')));
  EXPECT_TRUE(absl::EndsWith(Text(".1"), " F a\n"));
}

TEST_F(LogSinkTest, AFileRemovedOrRenamedOutsideIsMadeAnew) {
  LogSink sink = Sink(Options(Format::kCri));
  sink.Write(LogStream::kStdout, "a\n");
  ASSERT_EQ(rename(directory_.Join("logs/container.log").c_str(), directory_.Join("old").c_str()),
            0);
  now_ += absl::Seconds(2);
  sink.Write(LogStream::kStdout, "b\n");
  EXPECT_EQ(Text(), "2023-11-14T22:13:22.5Z stdout F b\n");
}

TEST_F(LogSinkTest, ReopenGoesOnInANewFileAtOnce) {
  LogSink sink = Sink(Options(Format::kCri));
  sink.Write(LogStream::kStdout, "a\n");
  ASSERT_EQ(rename(directory_.Join("logs/container.log").c_str(), directory_.Join("old").c_str()),
            0);
  ASSERT_TRUE(sink.Reopen().ok());
  sink.Write(LogStream::kStdout, "b\n");
  EXPECT_EQ(Text(), "2023-11-14T22:13:20.5Z stdout F b\n");
}

TEST_F(LogSinkTest, TruncationOutsideIsSurvived) {
  LogOptions options = Options(Format::kCri);
  options.max_size_bytes = 100;
  options.max_files = 2;
  LogSink sink = Sink(options);
  sink.Write(LogStream::kStdout, "a\nb\n");
  ASSERT_EQ(truncate(options.path.c_str(), 0), 0);
  sink.Write(LogStream::kStdout, "c\nd\n");
  // Without a hole where the old lines were, and without rotating a file that is not full.
  EXPECT_EQ(Text(), "2023-11-14T22:13:20.5Z stdout F c\n2023-11-14T22:13:20.5Z stdout F d\n");
  EXPECT_EQ(Text(".1"), "(none)");
}

TEST_F(LogSinkTest, WhatCannotBeWrittenIsDroppedCountedAndTold) {
  const std::string logs = directory_.Join("logs");
  // Something that is no directory lies where the directory should be.
  ASSERT_TRUE(WriteFile(logs, "").ok());
  LogSink sink = Sink(Options(Format::kCri));
  EXPECT_FALSE(sink.Open().ok());
  sink.Write(LogStream::kStdout, "a\nb\n");
  sink.Write(LogStream::kStderr, "c\n");
  EXPECT_EQ(sink.dropped_lines(), 3u);
  EXPECT_FALSE(sink.blocked());
  ASSERT_EQ(unlink(logs.c_str()), 0);
  sink.Write(LogStream::kStdout, "d\n");
  EXPECT_EQ(sink.dropped_lines(), 0u);
  EXPECT_EQ(sink.total_dropped_lines(), 3u);
  EXPECT_TRUE(absl::StartsWith(
      Text(),
      "2023-11-14T22:13:20.5Z stderr F [gantry] 3 lines of this log could not be written: "))
      << Text();
  EXPECT_TRUE(absl::EndsWith(Text(), "2023-11-14T22:13:20.5Z stdout F d\n"));
}

TEST_F(LogSinkTest, WhatWasDroppedIsToldAlsoWhenNoLineFollows) {
  const std::string logs = directory_.Join("logs");
  ASSERT_TRUE(WriteFile(logs, "").ok());
  LogSink sink = Sink(Options(Format::kCri));
  EXPECT_TRUE(sink.MentionDropped()) << "nothing to tell";
  sink.Write(LogStream::kStdout, "a\n");
  EXPECT_FALSE(sink.MentionDropped());
  ASSERT_EQ(unlink(logs.c_str()), 0);
  EXPECT_TRUE(sink.MentionDropped());
  EXPECT_TRUE(absl::StrContains(Text(), "[gantry] 1 line of this log could not be written: "))
      << Text();
  const std::string before = Text();
  EXPECT_TRUE(sink.MentionDropped());
  EXPECT_EQ(Text(), before) << "told twice";
}

TEST_F(LogSinkTest, BlockingKeepsEverythingUntilThereIsRoom) {
  const std::string logs = directory_.Join("logs");
  ASSERT_TRUE(WriteFile(logs, "").ok());
  LogOptions options = Options(Format::kCri);
  options.block_when_full = true;
  LogSink sink = Sink(options);
  sink.Write(LogStream::kStdout, "a\n");
  EXPECT_TRUE(sink.blocked());
  sink.Retry();
  EXPECT_TRUE(sink.blocked());
  ASSERT_EQ(unlink(logs.c_str()), 0);
  sink.Retry();
  EXPECT_FALSE(sink.blocked());
  EXPECT_EQ(Text(), "2023-11-14T22:13:20.5Z stdout F a\n");
  EXPECT_EQ(sink.total_dropped_lines(), 0u);
}

TEST_F(LogSinkTest, AFullDiskLeavesNoTornLine) {
  LogOptions options = Options(Format::kCri);
  LogSink sink = Sink(options);
  sink.Write(LogStream::kStdout, "a\n");
  // A limit on the size of files is a disk that ends in the middle of the next line.
  const rlimit old = [] {
    rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    return limit;
  }();
  signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {50, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  sink.Write(LogStream::kStdout, "b\n");
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  EXPECT_EQ(sink.dropped_lines(), 1u);
  EXPECT_EQ(Text(), "2023-11-14T22:13:20.5Z stdout F a\n");
}

TEST_F(LogSinkTest, ALinkInPlaceOfTheFileIsNotFollowed) {
  ASSERT_TRUE(MakeDirectories(directory_.Join("logs")).ok());
  ASSERT_TRUE(WriteFile(directory_.Join("canary"), "untouched").ok());
  ASSERT_EQ(
      symlink(directory_.Join("canary").c_str(), directory_.Join("logs/container.log").c_str()), 0);
  LogSink sink = Sink(Options());
  EXPECT_FALSE(sink.Open().ok());
  sink.Write(LogStream::kStdout, "a\n");
  EXPECT_EQ(*ReadFile(directory_.Join("canary"), 100), "untouched");
}

TEST_F(LogSinkTest, AFifoInPlaceOfTheFileBlocksNobody) {
  ASSERT_TRUE(MakeDirectories(directory_.Join("logs")).ok());
  ASSERT_EQ(mkfifo(directory_.Join("logs/container.log").c_str(), 0600), 0);
  LogSink sink = Sink(Options());
  EXPECT_FALSE(sink.Open().ok());
}

TEST(FormatLogTimeTest, HasNoTrailingZeros) {
  EXPECT_EQ(FormatLogTime(absl::FromUnixNanos(1'700'000'000'000'000'000)), "2023-11-14T22:13:20Z");
  EXPECT_EQ(FormatLogTime(absl::FromUnixNanos(1'700'000'000'000'000'010)),
            "2023-11-14T22:13:20.00000001Z");
}

}  // namespace
}  // namespace gantry::shim
