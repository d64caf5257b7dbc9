#include "shim/output_backlog.h"

#include <dirent.h>

#include <random>
#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

#include "base/temp_dir.h"

namespace gantry::shim {
namespace {

// Everything that is in there, by stream.
void TakeAll(OutputBacklog& backlog, std::string* out, std::string* err) {
  while (true) {
    absl::StatusOr<std::optional<OutputBacklog::Piece>> piece = backlog.Next();
    ASSERT_TRUE(piece.ok()) << piece.status();
    if (!piece->has_value()) return;
    EXPECT_LE((*piece)->bytes.size(), OutputBacklog::kMaxPieceBytes);
    *((*piece)->stream == LogStream::kStdout ? out : err) += (*piece)->bytes;
  }
}

TEST(OutputBacklogTest, WithoutADirectoryMemoryHoldsAllAndSaysWhenItIsMuch) {
  OutputBacklog backlog;
  const std::string block(OutputBacklog::kMaxPieceBytes, 'x');
  while (!backlog.over_mark()) {
    ASSERT_TRUE(backlog.Append(LogStream::kStdout, block).ok());
    ASSERT_LE(backlog.memory_bytes(), 2 * OutputBacklog::kMemoryBytes);
  }
  EXPECT_GT(backlog.memory_bytes(), OutputBacklog::kMemoryBytes);
  EXPECT_EQ(backlog.file_bytes(), 0);
  const size_t kept = backlog.memory_bytes();
  std::string out;
  std::string err;
  TakeAll(backlog, &out, &err);
  EXPECT_EQ(out.size(), kept);
  EXPECT_TRUE(backlog.empty());
  EXPECT_FALSE(backlog.over_mark());
}

TEST(OutputBacklogTest, WithADirectoryTheRestGoesToAFileAndComesBackInOrder) {
  const TempDir directory;
  OutputBacklog backlog;
  backlog.set_directory(directory.path());
  std::mt19937 random(7);
  std::string all_out;
  std::string all_err;
  std::string out;
  std::string err;
  for (int round = 0; round < 400; ++round) {
    std::string bytes(random() % 70000, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    const bool to_out = random() % 3 != 0;
    ASSERT_TRUE(backlog.Append(to_out ? LogStream::kStdout : LogStream::kStderr, bytes).ok());
    (to_out ? all_out : all_err) += bytes;
    EXPECT_LE(backlog.memory_bytes(), OutputBacklog::kMemoryBytes);
    EXPECT_FALSE(backlog.over_mark());
    // A client that reads now and then, and once everything.
    if (random() % 4 == 0) {
      absl::StatusOr<std::optional<OutputBacklog::Piece>> piece = backlog.Next();
      ASSERT_TRUE(piece.ok());
      if (piece->has_value()) {
        ((*piece)->stream == LogStream::kStdout ? out : err) += (*piece)->bytes;
      }
    }
    if (round == 200) {
      EXPECT_GT(backlog.file_bytes(), 1 << 20);
      TakeAll(backlog, &out, &err);
      EXPECT_EQ(backlog.file_bytes(), 0);
    }
  }
  TakeAll(backlog, &out, &err);
  EXPECT_TRUE(out == all_out);
  EXPECT_TRUE(err == all_err);
  EXPECT_TRUE(backlog.empty());
}

TEST(OutputBacklogTest, WhatCannotBeKeptIsAnErrorAndWhatWasKeptIsGivenOut) {
  OutputBacklog backlog;
  backlog.set_directory("/nonexistent");
  const std::string first(OutputBacklog::kMemoryBytes, 'a');
  ASSERT_TRUE(backlog.Append(LogStream::kStdout, first).ok());
  const absl::Status refused = backlog.Append(LogStream::kStdout, "b");
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(absl::StrContains(refused.message(), "/nonexistent")) << refused;
  std::string out;
  std::string err;
  TakeAll(backlog, &out, &err);
  EXPECT_TRUE(out == first);
}

TEST(OutputBacklogTest, TheFileHasNoName) {
  const TempDir directory;
  OutputBacklog backlog;
  backlog.set_directory(directory.path());
  ASSERT_TRUE(backlog.Append(LogStream::kStdout, std::string(1 << 20, 'x')).ok());
  EXPECT_GT(backlog.file_bytes(), 0);
  DIR* entries = opendir(directory.path().c_str());
  ASSERT_NE(entries, nullptr);
  int names = 0;
  while (readdir(entries) != nullptr) ++names;
  closedir(entries);
  EXPECT_EQ(names, 2);  // . and ..
}

}  // namespace
}  // namespace gantry::shim
