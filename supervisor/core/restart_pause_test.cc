// Waits for a container that waits for its restart, on fake shims.
#include <functional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"

#include "proto/gantry/v1/container_requests.pb.h"
#include "supervisor/core/container_fixture.h"
#include "supervisor/core/container_wait.h"

namespace gantry::core {
namespace {

using Request = v1::WaitContainerRequest;

class RestartPauseTest : public ContainerFixture {
 protected:
  ~RestartPauseTest() override { End(); }  // while what it answers is there

  void Wait(const std::string& container, Request::Condition condition = Request::NOT_RUNNING) {
    Request request;
    request.set_container(container);
    request.set_condition(condition);
    (void)wait_->WaitAsync(context_, request,
                           [this](absl::StatusOr<v1::WaitContainerResponse> answer) {
                             absl::MutexLock lock(&mu_);
                             answers_.push_back(std::move(answer));
                           });
  }
  size_t Answers() {
    absl::MutexLock lock(&mu_);
    return answers_.size();
  }
  absl::StatusOr<v1::WaitContainerResponse> Answer() {
    EXPECT_TRUE(Eventually([this] { return Answers() > 0; }));
    absl::MutexLock lock(&mu_);
    if (answers_.empty()) return absl::UnknownError("no answer");
    return answers_.front();
  }
  // A container that ended with `code` and waits for its restart for a long time.
  std::string Restarting(const std::string& name, uint32_t code) {
    const std::string id = Make(name, Config("always"));
    EXPECT_TRUE(Start(id).ok());
    LoadedContainer loaded = records_->Load(context_, id).value();
    EXPECT_TRUE(
        records_
            ->UpdateState(loaded, [](record::v1::ContainerState& s) { s.set_restart_count(50); })
            .ok());
    Shim(id).Exit("", code);
    EXPECT_TRUE(
        Eventually([&] { return Stored(id).has_restart_at() && !tasks_->view().Exists(kNs, id); }));
    return id;
  }

  absl::Mutex mu_;
  std::vector<absl::StatusOr<v1::WaitContainerResponse>> answers_ ABSL_GUARDED_BY(mu_);
};

TEST_F(RestartPauseTest, TheFirstEndAnswersThoseWhoWaitedThoughItRestarts) {
  const std::string id = Make("web", Config("always"));
  ASSERT_TRUE(Start(id).ok());
  Wait(id);
  Shim(id).Exit("", 3);
  EXPECT_EQ(Answer()->exit_code(), 3u);
}

TEST_F(RestartPauseTest, ARestartPauseIsNoEnd) {
  const std::string id = Restarting("web", 1);
  Wait(id);
  EXPECT_EQ(Answers(), 0u);
  ASSERT_TRUE(lifecycle_
                  ->Restart(context_,
                            [&] {
                              v1::RestartContainerRequest request;
                              request.set_container(id);
                              return request;
                            }())
                  .ok());
  EXPECT_EQ(Answers(), 0u);
  Shim(id).Exit("", 5);
  EXPECT_EQ(Answer()->exit_code(), 5u);
}

TEST_F(RestartPauseTest, AStopDuringTheRestartPauseAnswersWithTheLastCode) {
  const std::string id = Restarting("web", 6);
  Wait(id);
  EXPECT_EQ(Answers(), 0u);
  ASSERT_TRUE(Stop(id, 0).ok());
  EXPECT_EQ(Answer()->exit_code(), 6u);
}

TEST_F(RestartPauseTest, AKillDuringTheRestartPauseAnswersWithTheLastCode) {
  const std::string id = Restarting("web", 6);
  Wait(id, Request::NEXT_EXIT);
  EXPECT_EQ(Answers(), 0u);
  ASSERT_TRUE(lifecycle_->Kill(context_, id, "").ok());
  EXPECT_EQ(Answer()->exit_code(), 6u);
}

TEST_F(RestartPauseTest, ARemovalDuringTheRestartPauseAnswersNotFound) {
  const std::string id = Restarting("web", 6);
  Wait(id);
  ASSERT_TRUE(Remove(id, /*force=*/true).ok());
  EXPECT_TRUE(absl::IsNotFound(Answer().status())) << Answer().status();
}

}  // namespace
}  // namespace gantry::core
