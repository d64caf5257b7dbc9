#include "supervisor/core/log_reader.h"

#include <stdio.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "base/rotated_log.h"
#include "base/temp_dir.h"

namespace gantry::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Line(int second, const std::string& text, const char* stream = "stdout") {
  return absl::StrFormat(
      "{\"log\":\"%s\\n\",\"stream\":\"%s\",\"time\":\"2026-01-02T03:04:%02d.5Z\"}\n", text, stream,
      second);
}

void Append(const std::string& path, const std::string& text) {
  FILE* file = fopen(path.c_str(), "a");
  ASSERT_NE(file, nullptr);
  fwrite(text.data(), 1, text.size(), file);
  fclose(file);
}

class LogReaderTest : public ::testing::Test {
 protected:
  std::vector<std::string> Read(const LogQuery& query) {
    std::vector<std::string> lines;
    absl::Status status = ReadLog(path_, query, [&lines](const LogEntry& entry) {
      lines.push_back(entry.text);
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
    return lines;
  }

  TempDir dir_;
  const std::string path_ = dir_.path() + "/c.log";
};

TEST_F(LogReaderTest, ReadsRotatedFilesInOrder) {
  Append(path_ + ".9", Line(1, "a"));
  Append(path_ + ".10", Line(2, "b"));
  Append(path_, Line(3, "c"));
  EXPECT_THAT(Read({}), ElementsAre("a\n", "b\n", "c\n"));
}

TEST_F(LogReaderTest, AttributesComeWithTheirLine) {
  Append(path_, R"({"log":"a\n","stream":"stdout","attrs":{"E":"1","odd":2},)"
                R"("time":"2026-01-02T03:04:05Z"})"
                "\n" +
                    Line(6, "b"));
  std::vector<std::map<std::string, std::string>> attributes;
  ASSERT_TRUE(ReadLog(path_, {}, [&attributes](const LogEntry& entry) {
                attributes.push_back(entry.attributes);
                return absl::OkStatus();
              }).ok());
  EXPECT_THAT(attributes, ElementsAre(ElementsAre(testing::Pair("E", "1")), testing::IsEmpty()));
}

TEST_F(LogReaderTest, TailCountsAcrossFilesAndOnlyWantedStreams) {
  Append(path_ + ".1", Line(1, "a") + Line(2, "e1", "stderr") + Line(3, "b"));
  Append(path_, Line(4, "e2", "stderr") + Line(5, "c"));
  LogQuery query;
  query.tail = 2;
  EXPECT_THAT(Read(query), ElementsAre("e2\n", "c\n"));
  query.want_stderr = false;
  EXPECT_THAT(Read(query), ElementsAre("b\n", "c\n"));
  query.tail = 0;
  EXPECT_THAT(Read(query), ElementsAre());
  query.tail = 100;
  EXPECT_THAT(Read(query), ElementsAre("a\n", "b\n", "c\n"));
}

TEST_F(LogReaderTest, TailOfManyLines) {
  std::string text;
  for (int i = 0; i < 20000; ++i) absl::StrAppend(&text, Line(i % 60, absl::StrCat("line ", i)));
  Append(path_, text);
  LogQuery query;
  query.tail = 15000;
  std::vector<std::string> lines = Read(query);
  ASSERT_EQ(lines.size(), 15000u);
  EXPECT_EQ(lines.front(), "line 5000\n");
  EXPECT_EQ(lines.back(), "line 19999\n");
}

TEST_F(LogReaderTest, SinceAndUntil) {
  Append(path_, Line(1, "a") + Line(2, "b") + Line(3, "c"));
  LogQuery query;
  std::string error;
  ASSERT_TRUE(absl::ParseTime(absl::RFC3339_full, "2026-01-02T03:04:02Z", &query.since, &error));
  ASSERT_TRUE(absl::ParseTime(absl::RFC3339_full, "2026-01-02T03:04:02.9Z", &query.until, &error));
  EXPECT_THAT(Read(query), ElementsAre("b\n"));
}

TEST_F(LogReaderTest, PassesOverDamage) {
  Append(path_, Line(1, "a") + "{\"log\":\"cut off\n" + "not json\n" + Line(2, "b"));
  EXPECT_THAT(Read({}), ElementsAre("a\n", "b\n"));
}

TEST_F(LogReaderTest, SaysWhenThereIsNone) {
  EXPECT_TRUE(
      absl::IsNotFound(ReadLog(path_, {}, [](const LogEntry&) { return absl::OkStatus(); })));
}

TEST_F(LogReaderTest, FollowsThroughRotationToTheEnd) {
  Append(path_, Line(1, "a"));
  std::atomic<bool> more{true};
  std::atomic<int> seen{0};
  CancelToken cancel{absl::Seconds(20)};
  std::thread writer([&] {
    auto wait_for = [&](int count) {
      while (seen < count && !cancel.cancelled()) std::this_thread::yield();
    };
    wait_for(1);
    Append(path_, Line(2, "b"));
    wait_for(2);
    Append(path_, Line(3, "late in the old file"));
    rename(path_.c_str(), (path_ + ".1").c_str());
    Append(path_, Line(4, "c"));
    wait_for(4);
    Append(path_, Line(5, "last"));
    more = false;
    Append(path_ + ".other", "x");  // wakes the reader
  });
  LogQuery query;
  query.follow = true;
  query.cancel = &cancel;
  query.more_may_come = [&more] { return more.load(); };
  std::vector<std::string> lines;
  absl::Status status = ReadLog(path_, query, [&](const LogEntry& entry) {
    lines.push_back(entry.text);
    ++seen;
    return absl::OkStatus();
  });
  writer.join();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(lines, ElementsAre("a\n", "b\n", "late in the old file\n", "c\n", "last\n"));
}

TEST_F(LogReaderTest, AFollowerKnowsWhenItHasEverything) {
  for (int i = 0; i < 50; ++i) Append(path_, Line(1, "a"));
  int seen = 0;
  LogQuery query;
  query.follow = true;
  std::vector<int> caught_up;
  query.caught_up = [&] {
    caught_up.push_back(seen);
    if (caught_up.size() == 2) return absl::AbortedError("enough");
    Append(path_, Line(2, "b") + Line(3, "c"));
    return absl::OkStatus();
  };
  const absl::Status status = ReadLog(path_, query, [&seen](const LogEntry&) {
    ++seen;
    return absl::OkStatus();
  });
  EXPECT_TRUE(absl::IsAborted(status)) << status;
  EXPECT_THAT(caught_up, ElementsAre(50, 52));
}

// Writes as a shim with room for two files does: a rotation after every third line, the older files
// removed unless they are held.
TEST_F(LogReaderTest, FollowMissesNothingHoweverFastFilesGo) {
  constexpr int kLines = 900;
  int number = 0;
  auto write = [&](int line) {
    Append(path_, Line(line % 60, absl::StrCat(line)));
    if (line % 3 != 2) return;
    rename(path_.c_str(), RotatedLogName(path_, ++number).c_str());
    for (int64_t old : RotatedLogNumbers(path_)) {
      if (old < number && !LogHold::IsHeld(path_, old)) unlink(RotatedLogName(path_, old).c_str());
    }
  };
  for (int line = 0; line < 100; ++line) write(line);
  const int first = 3 * static_cast<int>(RotatedLogNumbers(path_).front() - 1);

  std::atomic<bool> more{true};
  std::atomic<bool> reading{false};
  CancelToken cancel{absl::Seconds(120)};
  std::thread writer([&] {
    while (!reading && !cancel.cancelled()) std::this_thread::yield();
    for (int line = 100; line < kLines; ++line) write(line);
    more = false;
    Append(path_ + ".other", "x");  // wakes the reader
  });
  LogQuery query;
  query.follow = true;
  query.cancel = &cancel;
  query.more_may_come = [&more] { return more.load(); };
  std::vector<std::string> lines;
  absl::Status status = ReadLog(path_, query, [&](const LogEntry& entry) {
    lines.push_back(entry.text);
    reading = true;
    return absl::OkStatus();
  });
  writer.join();
  EXPECT_TRUE(status.ok()) << status;
  std::vector<std::string> expected;
  for (int line = first; line < kLines; ++line) expected.push_back(absl::StrCat(line, "\n"));
  EXPECT_EQ(lines, expected);
}

TEST_F(LogReaderTest, AFollowerThatLostFilesIsTold) {
  Append(path_ + ".1", Line(1, "a"));
  Append(path_, Line(2, "b"));
  LogQuery query;
  query.follow = true;
  bool more = true;
  query.more_may_come = [&more] { return more; };
  std::vector<std::string> lines;
  absl::Status status = ReadLog(path_, query, [&](const LogEntry& entry) {
    lines.push_back(entry.text);
    if (entry.text == "b\n") {
      rename(path_.c_str(), (path_ + ".2").c_str());
      Append(path_ + ".4", Line(4, "d"));
      Append(path_, Line(5, "e"));
      more = false;
    }
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(lines, ElementsAre("a\n", "b\n", HasSubstr("rotated away"), "d\n", "e\n"));
}

TEST_F(LogReaderTest, FollowEndsWhenCancelled) {
  Append(path_, Line(1, "a"));
  CancelToken cancel;
  LogQuery query;
  query.follow = true;
  query.cancel = &cancel;
  absl::Status status = ReadLog(path_, query, [&cancel](const LogEntry&) {
    std::thread([&cancel] { cancel.Cancel(); }).join();
    return absl::OkStatus();
  });
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
}

}  // namespace
}  // namespace gantry::core
