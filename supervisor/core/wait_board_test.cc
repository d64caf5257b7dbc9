#include "supervisor/core/wait_board.h"

#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace gantry::core {
namespace {

using Board = WaitBoard<std::string, int>;

// The answers that one waiter got, in order.
struct Told {
  std::vector<absl::StatusOr<int>> answers;
  Board::Callback callback() {
    return [this](absl::StatusOr<int> answer) { answers.push_back(std::move(answer)); };
  }
};

TEST(WaitBoardTest, AnswersEveryWaiterOfTheSubjectAndNoOther) {
  Board board;
  Told first, second, other;
  (void)board.Add("a", first.callback());
  (void)board.Add("a", second.callback());
  (void)board.Add("b", other.callback());
  board.AnswerAll("a", 7);
  ASSERT_EQ(first.answers.size(), 1u);
  EXPECT_EQ(*first.answers[0], 7);
  ASSERT_EQ(second.answers.size(), 1u);
  EXPECT_EQ(*second.answers[0], 7);
  EXPECT_TRUE(other.answers.empty());
  EXPECT_EQ(board.size(), 1u);
}

TEST(WaitBoardTest, AnAnswerIsNotKeptForThoseWhoComeLater) {
  Board board;
  Told late;
  board.AnswerAll("a", 7);
  (void)board.Add("a", late.callback());
  EXPECT_TRUE(late.answers.empty());
  board.AnswerAll("a", 8);
  ASSERT_EQ(late.answers.size(), 1u);
  EXPECT_EQ(*late.answers[0], 8);
}

TEST(WaitBoardTest, OneWaiterIsAnsweredOnce) {
  Board board;
  Told told;
  const Board::Ticket ticket = *board.Add("a", told.callback());
  EXPECT_NE(ticket, 0u);
  EXPECT_TRUE(board.AnswerOne(ticket, absl::CancelledError("gone")));
  EXPECT_FALSE(board.AnswerOne(ticket, 1));
  board.AnswerAll("a", 2);
  ASSERT_EQ(told.answers.size(), 1u);
  EXPECT_TRUE(absl::IsCancelled(told.answers[0].status()));
  EXPECT_FALSE(board.AnswerOne(0, 1));
}

TEST(WaitBoardTest, TakeLeavesTheCallsToItsCaller) {
  Board board;
  Told told;
  (void)board.Add("a", told.callback());
  DueCalls due;
  board.Take("a", 3, due);
  EXPECT_TRUE(told.answers.empty());
  EXPECT_EQ(board.size(), 0u);
  ASSERT_EQ(due.size(), 1u);
  due[0]();
  ASSERT_EQ(told.answers.size(), 1u);
  EXPECT_EQ(*told.answers[0], 3);
}

TEST(WaitBoardTest, ACallbackMayWaitAgain) {
  Board board;
  Told again;
  (void)board.Add("a", [&](absl::StatusOr<int>) { (void)board.Add("a", again.callback()); });
  board.AnswerAll("a", 1);
  EXPECT_TRUE(again.answers.empty());
  board.AnswerAll("a", 2);
  ASSERT_EQ(again.answers.size(), 1u);
  EXPECT_EQ(*again.answers[0], 2);
}

TEST(WaitBoardTest, CloseAnswersThoseWhoWaitAndTakesNoMore) {
  Board board;
  Told waiting, late;
  (void)board.Add("a", waiting.callback());
  board.Close(absl::UnavailableError("the daemon stops"));
  EXPECT_TRUE(absl::IsUnavailable(board.Add("a", late.callback()).status()));
  ASSERT_EQ(waiting.answers.size(), 1u);
  EXPECT_TRUE(absl::IsUnavailable(waiting.answers[0].status()));
  EXPECT_TRUE(late.answers.empty());
}

// Waiters, answers, cancellations and the end in any order, on four threads: each waiter is
// answered once.
TEST(WaitBoardTest, EveryWaiterIsAnsweredOnceWhateverTheOrder) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  constexpr int kThreads = 4;
  constexpr int kSteps = 2000;
  Board board;
  std::vector<std::vector<std::unique_ptr<std::atomic<int>>>> counts(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&board, &mine = counts[t], seed, t] {
      std::mt19937 random(seed + static_cast<uint32_t>(t));
      std::vector<Board::Ticket> tickets;
      for (int step = 0; step < kSteps; ++step) {
        const std::string key(1, static_cast<char>('a' + random() % 3));
        switch (random() % 4) {
          case 0:
          case 1: {
            auto* count = mine.emplace_back(std::make_unique<std::atomic<int>>(0)).get();
            tickets.push_back(*board.Add(key, [count](absl::StatusOr<int>) { ++*count; }));
            break;
          }
          case 2:
            if (!tickets.empty())
              board.AnswerOne(tickets[random() % tickets.size()], absl::CancelledError(""));
            break;
          case 3:
            board.AnswerAll(key, step);
            break;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  board.Close(absl::UnavailableError("over"));
  EXPECT_EQ(board.size(), 0u);
  for (const auto& mine : counts) {
    for (const auto& count : mine) EXPECT_EQ(count->load(), 1);
  }
}

}  // namespace
}  // namespace gantry::core
