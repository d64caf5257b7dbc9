// Waits for an end and for a removal: each is answered once, with what happened.
#include "supervisor/core/container_wait.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "proto/gantry/v1/container_requests.pb.h"
#include "supervisor/core/container_fixture.h"

namespace gantry::core {
namespace {

using ::testing::HasSubstr;

class ContainerWaitTest : public ContainerFixture {
 protected:
  // The answer to one wait.
  class Answer {
   public:
    void Set(absl::StatusOr<v1::WaitContainerResponse> response) {
      absl::MutexLock lock(&mu_);
      ++times_;
      response_ = std::move(response);
    }
    bool given() const {
      absl::MutexLock lock(&mu_);
      return times_ > 0;
    }
    int times() const {
      absl::MutexLock lock(&mu_);
      return times_;
    }
    // The exit code, or -1 for another answer.
    int64_t AwaitCode() const {
      const absl::StatusOr<v1::WaitContainerResponse> response = Await();
      EXPECT_TRUE(response.ok()) << response.status();
      return response.ok() ? response->exit_code() : -1;
    }
    absl::StatusOr<v1::WaitContainerResponse> Await() const {
      absl::MutexLock lock(&mu_);
      const auto given = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return times_ > 0; };
      if (!mu_.AwaitWithTimeout(absl::Condition(&given), kPatience))
        return absl::DeadlineExceededError("no answer came");
      return *response_;
    }

   private:
    mutable absl::Mutex mu_;
    int times_ ABSL_GUARDED_BY(mu_) = 0;
    std::optional<absl::StatusOr<v1::WaitContainerResponse>> response_ ABSL_GUARDED_BY(mu_);
  };

  std::function<void()> Wait(const std::string& container,
                             v1::WaitContainerRequest::Condition condition,
                             std::shared_ptr<Answer> answer) {
    v1::WaitContainerRequest request;
    request.set_container(container);
    request.set_condition(condition);
    return wait_->WaitAsync(context_, request, [answer](auto response) { answer->Set(response); });
  }
  std::shared_ptr<Answer> Wait(const std::string& container,
                               v1::WaitContainerRequest::Condition condition) {
    auto answer = std::make_shared<Answer>();
    Wait(container, condition, answer);
    return answer;
  }
};

TEST_F(ContainerWaitTest, WhatDoesNotRunIsAnsweredAtOnce) {
  const std::string id = Make("web");
  auto answer = Wait("web", v1::WaitContainerRequest::NOT_RUNNING);
  ASSERT_TRUE(answer->given());
  EXPECT_EQ(answer->AwaitCode(), 0);
  ASSERT_TRUE(Start(id).ok());
  Shim(id).Exit("", 7);
  ASSERT_TRUE(Eventually([&] { return Stored(id).exit_code() == 7; }));
  answer = Wait("web", v1::WaitContainerRequest::NOT_RUNNING);
  ASSERT_TRUE(answer->given());
  EXPECT_EQ(answer->AwaitCode(), 7);
}

TEST_F(ContainerWaitTest, AFailedStartIsTheAnswersError) {
  const std::string id = Make("web");
  launcher_.OnLaunch([](runtime::FakeShim& shim) {
    shim.FailCalls("Create", absl::InternalError("no such program"));
  });
  ASSERT_FALSE(Start(id).ok());
  const auto answer = Wait("web", v1::WaitContainerRequest::NOT_RUNNING);
  ASSERT_TRUE(answer->given());
  EXPECT_THAT(answer->Await()->error(), HasSubstr("no such program"));
}

TEST_F(ContainerWaitTest, AnEndIsOnRecordWhenItsWaitIsAnswered) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  const auto answer = Wait("web", v1::WaitContainerRequest::NOT_RUNNING);
  EXPECT_FALSE(answer->given());
  Shim(id).Exit("", 9, /*oom_killed=*/true);
  const absl::StatusOr<v1::WaitContainerResponse> response = answer->Await();
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->exit_code(), 9u);
  EXPECT_TRUE(response->oom_killed());
  EXPECT_TRUE(response->has_exited_at());
  EXPECT_EQ(Stored(id).status(), record::v1::ContainerState::STOPPED);
  EXPECT_EQ(Stored(id).exit_code(), 9u);
}

TEST_F(ContainerWaitTest, WhatRemovesItselfIsGoneWhenItsWaitIsAnswered) {
  v1::ContainerConfig config = Config();
  config.set_auto_remove(true);
  const std::string id = Make("web", config);
  ASSERT_TRUE(Start(id).ok());
  const auto answer = Wait("web", v1::WaitContainerRequest::NOT_RUNNING);
  Shim(id).Exit("", 2);
  EXPECT_EQ(answer->AwaitCode(), 2);
  EXPECT_FALSE(Exists(id));
}

TEST_F(ContainerWaitTest, NextExitWaitsForOneThatIsToCome) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  Shim(id).Exit("", 1);
  ASSERT_TRUE(Eventually([&] { return Stored(id).exit_code() == 1; }));
  const auto answer = Wait("web", v1::WaitContainerRequest::NEXT_EXIT);
  EXPECT_FALSE(answer->given());
  ASSERT_TRUE(Start(id).ok());
  Shim(id).Exit("", 2);
  EXPECT_EQ(answer->AwaitCode(), 2);
}

TEST_F(ContainerWaitTest, NextExitEndsWithTheContainer) {
  const std::string id = Make("web");
  const auto answer = Wait("web", v1::WaitContainerRequest::NEXT_EXIT);
  ASSERT_TRUE(Remove(id).ok());
  const absl::Status status = answer->Await().status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
}

TEST_F(ContainerWaitTest, RemovalIsAnsweredWithTheExitCode) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  const auto answer = Wait("web", v1::WaitContainerRequest::REMOVED);
  Shim(id).Exit("", 5);
  ASSERT_TRUE(Eventually([&] { return Stored(id).exit_code() == 5; }));
  EXPECT_FALSE(answer->given());
  ASSERT_TRUE(Remove(id).ok());
  EXPECT_EQ(answer->AwaitCode(), 5);
}

TEST_F(ContainerWaitTest, AWaitThatIsGivenUpIsAnsweredOnce) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  for (const auto condition :
       {v1::WaitContainerRequest::NOT_RUNNING, v1::WaitContainerRequest::NEXT_EXIT,
        v1::WaitContainerRequest::REMOVED}) {
    auto answer = std::make_shared<Answer>();
    const std::function<void()> give_up = Wait("web", condition, answer);
    EXPECT_FALSE(answer->given());
    give_up();
    EXPECT_TRUE(absl::IsCancelled(answer->Await().status())) << answer->Await().status();
    Shim(id).Exit("", 0);
    ASSERT_TRUE(Eventually([&] { return StateIs(id) == v1::CONTAINER_STATE_EXITED; }));
    ASSERT_TRUE(Start(id).ok());
    EXPECT_EQ(answer->times(), 1) << condition;
  }
}

TEST_F(ContainerWaitTest, GivingUpAfterTheAnswerChangesNothing) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  auto answer = std::make_shared<Answer>();
  const std::function<void()> give_up = Wait("web", v1::WaitContainerRequest::NOT_RUNNING, answer);
  Shim(id).Exit("", 3);
  ASSERT_TRUE(answer->Await().ok());
  give_up();
  EXPECT_EQ(answer->times(), 1);
  EXPECT_EQ(answer->AwaitCode(), 3);
}

TEST_F(ContainerWaitTest, WhatIsNotThereIsSaidAtOnce) {
  for (const auto condition :
       {v1::WaitContainerRequest::NOT_RUNNING, v1::WaitContainerRequest::NEXT_EXIT,
        v1::WaitContainerRequest::REMOVED}) {
    const auto answer = Wait("nobody", condition);
    ASSERT_TRUE(answer->given());
    EXPECT_TRUE(absl::IsNotFound(answer->Await().status()));
  }
}

TEST_F(ContainerWaitTest, TheEndOfTheDaemonAnswersAll) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  const auto end = Wait("web", v1::WaitContainerRequest::NOT_RUNNING);
  const auto next = Wait("web", v1::WaitContainerRequest::NEXT_EXIT);
  End();
  EXPECT_FALSE(end->Await().ok());
  EXPECT_FALSE(absl::IsDeadlineExceeded(end->Await().status())) << end->Await().status();
  EXPECT_FALSE(next->Await().ok());
  EXPECT_FALSE(absl::IsDeadlineExceeded(next->Await().status())) << next->Await().status();
}

TEST_F(ContainerWaitTest, SettlingSaysWhetherTheContainerIsGone) {
  const std::string stays = Make("stays");
  ASSERT_TRUE(Start(stays).ok());
  Shim(stays).Exit("", 1);
  EXPECT_EQ(wait_->SettleExit(context_, "stays").value(), false);
  EXPECT_EQ(Stored(stays).exit_code(), 1u);
  EXPECT_FALSE(tasks_->view().Exists(kNs, stays));

  v1::ContainerConfig config = Config();
  config.set_auto_remove(true);
  const std::string goes = Make("goes", config);
  ASSERT_TRUE(Start(goes).ok());
  Shim(goes).Exit("", 1);
  EXPECT_EQ(wait_->SettleExit(context_, goes).value(), true);
  EXPECT_FALSE(Exists(goes));
  EXPECT_EQ(wait_->SettleExit(context_, goes).value(), true);  // again: it is gone
}

}  // namespace
}  // namespace gantry::core
