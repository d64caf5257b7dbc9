#include "shim/exit_record.h"

#include <unistd.h>

#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::shim {
namespace {

ExitRecord SomeRecord() {
  ExitRecord record;
  record.name_space = "default";
  record.id = "web \"1\"\n";
  record.pid = 42;
  record.exit_status = 137;
  record.started_at = absl::FromUnixNanos(1'700'000'000'000'000'001);
  record.exited_at = absl::FromUnixNanos(1'700'000'001'500'000'000);
  record.oom_killed = true;
  record.reason = "killed";
  return record;
}

TEST(ExitRecordTest, IsReadAsItWasWritten) {
  TempDir directory;
  ASSERT_TRUE(WriteExitRecord(directory.path(), SomeRecord()).ok());
  const auto read = ReadExitRecord(directory.path());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, SomeRecord());
}

TEST(ExitRecordTest, NeverStartedIsKept) {
  ExitRecord record = SomeRecord();
  record.started_at = absl::InfinitePast();
  EXPECT_EQ(DecodeExitRecord(EncodeExitRecord(record))->started_at, absl::InfinitePast());
}

TEST(ExitRecordTest, AbsenceAndDamageAreTwoThings) {
  TempDir directory;
  EXPECT_EQ(ReadExitRecord(directory.path()).status().code(), absl::StatusCode::kNotFound);
  const std::string text = EncodeExitRecord(SomeRecord());
  ASSERT_TRUE(WriteFile(directory.Join("exit.json"), text.substr(0, text.size() / 2)).ok());
  EXPECT_EQ(ReadExitRecord(directory.path()).status().code(), absl::StatusCode::kDataLoss);
  ASSERT_TRUE(WriteFile(directory.Join("exit.json"), "{\"version\":1,\"pid\":\"no\"}").ok());
  EXPECT_EQ(ReadExitRecord(directory.path()).status().code(), absl::StatusCode::kDataLoss);
}

TEST(ExitRecordTest, AFailedWriteKeepsTheOldRecord) {
  TempDir directory;
  ASSERT_TRUE(WriteExitRecord(directory.path(), SomeRecord()).ok());
  // The name of the new file is taken by a directory.
  ASSERT_TRUE(MakeDirectories(directory.Join("exit.json.new")).ok());
  EXPECT_FALSE(WriteExitRecord(directory.path(), ExitRecord()).ok());
  EXPECT_EQ(*ReadExitRecord(directory.path()), SomeRecord());
}

TEST(ExitRecordTest, DeletionIsMarked) {
  TempDir directory;
  EXPECT_FALSE(IsDeleted(directory.path()));
  ASSERT_TRUE(MarkDeleted(directory.path()).ok());
  EXPECT_TRUE(IsDeleted(directory.path()));
}

}  // namespace
}  // namespace gantry::shim
