#include "supervisor/runtime/shim_client.h"

#include <thread>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "base/temp_dir.h"
#include "supervisor/runtime/fake_shim.h"

namespace gantry::runtime {
namespace {

constexpr absl::Duration kLimit = absl::Seconds(10);

// What a stream delivered, and a way to wait for it.
class Collector {
 public:
  void Add(const shim::v1::Event& event) {
    absl::MutexLock lock(&mu_);
    numbers_.push_back(event.number());
  }
  void End(const absl::Status& status) {
    absl::MutexLock lock(&mu_);
    ended_ = true;
    end_ = status;
  }
  bool WaitFor(size_t count) {
    absl::MutexLock lock(&mu_);
    wanted_ = count;
    return mu_.AwaitWithTimeout(absl::Condition(this, &Collector::Enough), kLimit);
  }
  bool WaitEnd() {
    absl::MutexLock lock(&mu_);
    return mu_.AwaitWithTimeout(absl::Condition(&ended_), kLimit);
  }
  std::vector<uint64_t> numbers() {
    absl::MutexLock lock(&mu_);
    return numbers_;
  }
  absl::Status end() {
    absl::MutexLock lock(&mu_);
    return end_;
  }
  bool ended() {
    absl::MutexLock lock(&mu_);
    return ended_;
  }
  std::unique_ptr<EventStream> Listen(ShimClient& client, uint64_t after) {
    return client.Events(
        after, [this](const shim::v1::Event& event) { Add(event); },
        [this](const absl::Status& status) { End(status); });
  }

 private:
  bool Enough() const { return numbers_.size() >= wanted_; }
  absl::Mutex mu_;
  size_t wanted_ = 0;
  std::vector<uint64_t> numbers_;
  bool ended_ = false;
  absl::Status end_;
};

class ShimClientTest : public testing::Test {
 protected:
  TempDir dir_;
  const TaskKey key_{"default", "web"};
  const std::string socket_ = dir_.Join("s");
  std::unique_ptr<FakeShim> shim_ = std::make_unique<FakeShim>(key_, socket_);
  ShimClient client_{key_, socket_};

  void Run() {
    shim::v1::CreateRequest create;
    create.set_start(true);
    const auto created = client_.Create(create);
    ASSERT_TRUE(created.ok()) << created.status();
  }
};

TEST_F(ShimClientTest, CallsReachTheShimAndAnswersComeBack) {
  Run();
  const auto info = client_.Info();
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->container_id(), "web");
  EXPECT_EQ(info->init().status(), shim::v1::STATUS_RUNNING);
  EXPECT_TRUE(client_.Pause().ok());
  EXPECT_EQ(client_.State({})->status(), shim::v1::STATUS_PAUSED);
  EXPECT_TRUE(client_.Resume().ok());
  shim::v1::KillRequest kill;
  kill.set_signal(9);
  EXPECT_TRUE(client_.Kill(kill).ok());
  EXPECT_EQ(client_.Wait({})->exit_status(), 137u);
  EXPECT_EQ(client_.Delete({})->exit_status(), 137u);
}

TEST_F(ShimClientTest, TheShimsErrorsNameTaskAndCall) {
  shim_->FailCalls("Stats", absl::InternalError("crun: cgroup is gone"));
  const absl::Status status = client_.Stats().status();
  EXPECT_EQ(status, absl::InternalError("shim of default/web: Stats: crun: cgroup is gone"));
}

TEST_F(ShimClientTest, NobodyAtTheSocketIsUnavailable) {
  ShimClient nobody(key_, dir_.Join("none"));
  const absl::Status status = nobody.Info().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
}

TEST_F(ShimClientTest, ShimThatHangsIsCutOffByTheTimeout) {
  shim_->Freeze();
  const absl::Status status = client_.Info({.timeout = absl::Milliseconds(50)}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(status.message(), "shim of default/web: Info: no answer within 50ms");
}

TEST_F(ShimClientTest, CancelledTokenEndsTheCall) {
  Run();
  CancelToken token;
  std::thread waiter([&] {
    const auto result = client_.Wait({}, {.timeout = kLimit, .cancel = &token});
    EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  });
  // Once the shim has the call there is something to cancel.
  const absl::Time limit = absl::Now() + kLimit;
  while (shim_->calls().back() != "Wait" && absl::Now() < limit)
    absl::SleepFor(absl::Milliseconds(1));
  token.Cancel();
  waiter.join();
  EXPECT_EQ(client_.Info({.cancel = &token}).status().code(), absl::StatusCode::kCancelled);
}

TEST_F(ShimClientTest, InfoAsyncAnswersWithoutBlocking) {
  absl::Mutex mu;
  bool done = false;
  absl::StatusOr<shim::v1::InfoResponse> got = absl::UnknownError("");
  client_.InfoAsync(kLimit, [&](absl::StatusOr<shim::v1::InfoResponse> info) {
    absl::MutexLock lock(&mu);
    got = std::move(info);
    done = true;
  });
  absl::MutexLock lock(&mu);
  ASSERT_TRUE(mu.AwaitWithTimeout(absl::Condition(&done), kLimit));
  EXPECT_EQ(got->container_id(), "web");
}

// No server in this process, whose presence would keep gRPC's threads.
TEST(ShimClientAloneTest, AnswerMayBeTheLastToHoldTheConnection) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "gRPC is a shared library in this build, and polls by its own threads, not by "
                  "third_party/grpc_poller, whose doing this is";
#endif
  TempDir dir;
  for (int i = 0; i < 50; ++i) {
    absl::Notification done;
    auto client = std::make_unique<ShimClient>(TaskKey{"default", "web"}, dir.Join("none"));
    client->InfoAsync(kLimit,
                      [&](const absl::StatusOr<shim::v1::InfoResponse>&) { done.Notify(); });
    client.reset();
    ASSERT_TRUE(done.WaitForNotificationWithTimeout(kLimit));
  }
}

TEST_F(ShimClientTest, EventsComeFromTheBeginningInOrder) {
  Run();
  Collector collector;
  const auto stream = collector.Listen(client_, 0);
  ASSERT_TRUE(collector.WaitFor(2));
  shim_->Exit("", 0);
  ASSERT_TRUE(collector.WaitFor(3));
  EXPECT_EQ(collector.numbers(), (std::vector<uint64_t>{1, 2, 3}));
  EXPECT_EQ(stream->last_number(), 3u);
}

TEST_F(ShimClientTest, EventsStartAfterTheLastOneSeen) {
  Run();
  shim_->Exit("", 0);
  Collector collector;
  const auto stream = collector.Listen(client_, 2);
  ASSERT_TRUE(collector.WaitFor(1));
  EXPECT_EQ(collector.numbers(), (std::vector<uint64_t>{3}));
}

TEST_F(ShimClientTest, BrokenStreamIsResumedWithoutLossOrRepetition) {
  Run();
  Collector collector;
  const auto stream = collector.Listen(client_, 0);
  ASSERT_TRUE(collector.WaitFor(2));
  for (uint64_t round = 0; round < 5; ++round) {
    shim_->BreakEventStreams();
    shim::v1::Event oom;
    oom.mutable_oom();
    shim_->Emit(oom);
    ASSERT_TRUE(collector.WaitFor(3 + round));
  }
  EXPECT_EQ(collector.numbers(), (std::vector<uint64_t>{1, 2, 3, 4, 5, 6, 7}));
  EXPECT_FALSE(collector.ended());
}

TEST_F(ShimClientTest, StreamOfADeadShimEndsUnavailable) {
  Run();
  Collector collector;
  const auto stream = collector.Listen(client_, 0);
  ASSERT_TRUE(collector.WaitFor(2));
  shim_.reset();
  ASSERT_TRUE(collector.WaitEnd());
  // A shim that goes away in an orderly manner ends the stream itself.
  EXPECT_TRUE(collector.end().ok() || absl::IsUnavailable(collector.end())) << collector.end();
}

TEST_F(ShimClientTest, StreamAtASocketOfNobodyEndsUnavailable) {
  ShimClient nobody(key_, dir_.Join("none"));
  Collector collector;
  const auto stream = collector.Listen(nobody, 0);
  ASSERT_TRUE(collector.WaitEnd());
  EXPECT_EQ(collector.end().code(), absl::StatusCode::kUnavailable) << collector.end();
}

TEST_F(ShimClientTest, EventsThatTheShimNoLongerHasAreDataLoss) {
  Run();
  shim_->Exit("", 0);
  shim_->ForgetEvents(2);
  Collector collector;
  const auto stream = collector.Listen(client_, 0);
  ASSERT_TRUE(collector.WaitEnd());
  EXPECT_EQ(collector.end().code(), absl::StatusCode::kDataLoss) << collector.end();
  EXPECT_TRUE(collector.numbers().empty());
}

TEST_F(ShimClientTest, DroppingTheStreamSilencesIt) {
  Run();
  Collector collector;
  auto stream = collector.Listen(client_, 0);
  ASSERT_TRUE(collector.WaitFor(2));
  stream.reset();
  shim_->Exit("", 0);
  // Later events have no reader; the shim notices that it has gone.
  const absl::Time limit = absl::Now() + kLimit;
  while (shim_->event_streams() != 0 && absl::Now() < limit) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(shim_->event_streams(), 0);
  EXPECT_EQ(collector.numbers().size(), 2u);
  EXPECT_FALSE(collector.ended());
}

class Terminal : public AttachStream::Handler {
 public:
  void OnOutput(shim::v1::AttachOutput output) override {
    {
      absl::MutexLock lock(&mu_);
      if (output.has_attached()) attached_ = true;
      text_ += output.stdout();
      if (output.has_exited()) exit_status_ = static_cast<int>(output.exited().exit_status());
      ++outputs_;
      if (held_) return;
    }
    stream->Read();
  }
  void OnWritable() override {
    absl::MutexLock lock(&mu_);
    writable_ = true;
  }
  void OnDone(const absl::Status& status) override {
    absl::MutexLock lock(&mu_);
    done_ = true;
    ++dones_;
    status_ = status;
  }
  bool Await(bool Terminal::*flag) {
    absl::MutexLock lock(&mu_);
    return mu_.AwaitWithTimeout(absl::Condition(&(this->*flag)), kLimit);
  }
  bool AwaitText(const std::string& text) {
    absl::MutexLock lock(&mu_);
    const auto equal = [&] { return text_ == text; };
    return mu_.AwaitWithTimeout(absl::Condition(&equal), kLimit);
  }
  int outputs() {
    absl::MutexLock lock(&mu_);
    return outputs_;
  }
  void Hold() {
    absl::MutexLock lock(&mu_);
    held_ = true;
  }

  AttachStream* stream = nullptr;
  absl::Mutex mu_;
  bool held_ = false;
  bool attached_ = false;
  bool writable_ = false;
  bool done_ = false;
  int dones_ = 0;
  int outputs_ = 0;
  int exit_status_ = -1;
  std::string text_;
  absl::Status status_;
};

TEST_F(ShimClientTest, AttachCarriesInputOutputAndTheExit) {
  Run();
  Terminal terminal;
  terminal.Hold();
  const auto stream = client_.Attach({}, &terminal);
  ASSERT_TRUE(terminal.Await(&Terminal::attached_));
  {
    absl::MutexLock lock(&terminal.mu_);
    terminal.held_ = false;
    terminal.stream = stream.get();
  }
  stream->Read();
  shim_->Output("hello ");
  ASSERT_TRUE(terminal.AwaitText("hello "));
  shim::v1::AttachInput input;
  input.set_stdin("typed");
  EXPECT_TRUE(stream->Write(input));
  shim_->Output("world");
  ASSERT_TRUE(terminal.AwaitText("hello world"));
  const absl::Time limit = absl::Now() + kLimit;
  while (shim_->stdin_received() != "typed" && absl::Now() < limit)
    absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(shim_->stdin_received(), "typed");
  shim_->Exit("", 7);
  ASSERT_TRUE(terminal.Await(&Terminal::done_));
  EXPECT_TRUE(terminal.status_.ok()) << terminal.status_;
  EXPECT_EQ(terminal.exit_status_, 7);
}

TEST_F(ShimClientTest, AttachToNoProcessEndsWithNotFound) {
  Terminal terminal;
  shim::v1::AttachInput::Open open;
  open.set_exec_id("nosuch");
  const auto stream = client_.Attach(open, &terminal);
  ASSERT_TRUE(terminal.Await(&Terminal::done_));
  EXPECT_EQ(terminal.status_.code(), absl::StatusCode::kNotFound) << terminal.status_;
}

TEST_F(ShimClientTest, NothingMoreIsReadUntilAskedFor) {
  Run();
  Terminal terminal;
  terminal.Hold();
  const auto stream = client_.Attach({}, &terminal);
  ASSERT_TRUE(terminal.Await(&Terminal::attached_));
  shim_->Output("one");
  shim::v1::AttachInput input;
  input.set_stdin("x");
  stream->Write(input);
  // The shim has taken the input, so the connection works both ways; output still waits.
  const absl::Time limit = absl::Now() + kLimit;
  while (shim_->stdin_received() != "x" && absl::Now() < limit)
    absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(terminal.outputs(), 1);
  stream->Read();
  EXPECT_TRUE(terminal.AwaitText("one"));
}

TEST_F(ShimClientTest, CancelledAttachIsDoneAlsoWhileNothingIsBeingRead) {
  Run();
  Terminal terminal;
  terminal.Hold();
  const auto stream = client_.Attach({}, &terminal);
  ASSERT_TRUE(terminal.Await(&Terminal::attached_));
  stream->Cancel();
  ASSERT_TRUE(terminal.Await(&Terminal::done_));
  EXPECT_EQ(terminal.status_.code(), absl::StatusCode::kCancelled) << terminal.status_;
}

// gRPC is done with the call by then: an operation begun would end it a second time.
TEST_F(ShimClientTest, InputAfterTheEndGoesNowhere) {
  Run();
  for (int round = 0; round < 20; ++round) {
    Terminal terminal;
    terminal.Hold();
    const auto stream = client_.Attach({}, &terminal);
    ASSERT_TRUE(terminal.Await(&Terminal::attached_));
    stream->Cancel();
    ASSERT_TRUE(terminal.Await(&Terminal::done_));
    if (round % 2 == 0) {
      stream->WritesDone();
    } else {
      shim::v1::AttachInput input;
      input.set_stdin("late");
      EXPECT_TRUE(stream->Write(input));
    }
    // A call of its own there and back: what an operation would have set off has happened by then.
    ASSERT_TRUE(client_.Info({kLimit, nullptr}).ok());
    absl::MutexLock lock(&terminal.mu_);
    EXPECT_EQ(terminal.dones_, 1);
  }
}

TEST_F(ShimClientTest, AttachDroppedInTheMiddleCallsNobodyBack) {
  Run();
  Terminal terminal;
  terminal.Hold();
  {
    const auto stream = client_.Attach({}, &terminal);
    ASSERT_TRUE(terminal.Await(&Terminal::attached_));
  }
  EXPECT_FALSE(terminal.done_);
}

}  // namespace
}  // namespace gantry::runtime
