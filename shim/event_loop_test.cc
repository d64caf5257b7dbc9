#include "shim/event_loop.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace gantry::shim {
namespace {

struct Pipe {
  Pipe() {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) abort();
    read.reset(fds[0]);
    write.reset(fds[1]);
  }
  UniqueFd read;
  UniqueFd write;
};

TEST(EventLoopTest, RunsWhatWasPostedInOrder) {
  auto loop = *EventLoop::Create();
  std::vector<int> order;
  std::thread poster([&] {
    for (int i = 0; i < 100; ++i) loop->Post([&order, i] { order.push_back(i); });
    loop->Post([&] { loop->Stop(); });
  });
  loop->Run();
  poster.join();
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[i], i);
}

TEST(EventLoopTest, TimersFireInTheirOrderUnlessCancelled) {
  auto loop = *EventLoop::Create();
  std::string fired;
  loop->After(absl::Milliseconds(3), [&] { fired += "b"; });
  loop->After(absl::Milliseconds(1), [&] { fired += "a"; });
  const auto cancelled = loop->After(absl::Milliseconds(2), [&] { fired += "x"; });
  loop->CancelTimer(cancelled);
  loop->After(absl::Milliseconds(4), [&] { loop->Stop(); });
  loop->Run();
  EXPECT_EQ(fired, "ab");
}

TEST(EventLoopTest, ReportsReadinessUntilUnwatched) {
  auto loop = *EventLoop::Create();
  Pipe pipe;
  int calls = 0;
  ASSERT_TRUE(loop->Watch(pipe.read.get(), EPOLLIN,
                          [&](uint32_t) {
                            // Level-triggered: nothing was read, so it is called again.
                            if (++calls == 3) {
                              loop->Unwatch(pipe.read.get());
                              loop->After(absl::Milliseconds(5), [&] { loop->Stop(); });
                            }
                          })
                  .ok());
  ASSERT_EQ(write(pipe.write.get(), "x", 1), 1);
  loop->Run();
  EXPECT_EQ(calls, 3);
}

TEST(EventLoopTest, WithoutEventsEvenAHangUpIsSilent) {
  auto loop = *EventLoop::Create();
  Pipe pipe;
  int calls = 0;
  ASSERT_TRUE(loop->Watch(pipe.read.get(), 0,
                          [&](uint32_t) {
                            ++calls;
                            loop->Stop();
                          })
                  .ok());
  pipe.write.reset();
  loop->After(absl::Milliseconds(5), [&] {
    EXPECT_EQ(calls, 0);
    loop->SetEvents(pipe.read.get(), EPOLLIN);
  });
  loop->Run();
  EXPECT_EQ(calls, 1);
}

TEST(EventLoopTest, AReusedDescriptorDoesNotGetTheOldOnesEvents) {
  auto loop = *EventLoop::Create();
  Pipe first;
  Pipe second;
  ASSERT_EQ(write(first.write.get(), "x", 1), 1);
  ASSERT_EQ(write(second.write.get(), "x", 1), 1);
  int stale = 0;
  int calls = 0;
  // Whichever is called first replaces the other's watch, with an event already fetched for it.
  const auto replace = [&](int mine, int other) {
    ++calls;
    loop->Unwatch(mine);
    EXPECT_TRUE(loop->Watch(other, 0, [&](uint32_t) { ++stale; }).ok());
    loop->After(absl::Milliseconds(2), [&] { loop->Stop(); });
  };
  const int a = first.read.get();
  const int b = second.read.get();
  ASSERT_TRUE(loop->Watch(a, EPOLLIN, [&](uint32_t) { replace(a, b); }).ok());
  ASSERT_TRUE(loop->Watch(b, EPOLLIN, [&](uint32_t) { replace(b, a); }).ok());
  loop->Run();
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(stale, 0);
}

}  // namespace
}  // namespace gantry::shim
