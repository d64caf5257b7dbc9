#include "supervisor/api/docker/hijack.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/unique_fd.h"

namespace gantry::api::docker {
namespace {

using ::testing::HasSubstr;

TEST(FrameTest, HasAHeaderOfEightBytes) {
  EXPECT_EQ(Frame(FrameOf::kStderr, "oops"), std::string("\x02\0\0\0\0\0\0\x04oops", 12));
  EXPECT_EQ(Frame(FrameOf::kStdout, std::string(0x010203, 'x')).substr(0, 8),
            std::string("\x01\0\0\0\0\x01\x02\x03", 8));
}

TEST(StreamTypeTest, FramesHaveATypeOfTheirOwnSince142) {
  EXPECT_EQ(StreamType({1, 41}, false), "application/vnd.docker.raw-stream");
  EXPECT_EQ(StreamType({1, 42}, false), "application/vnd.docker.multiplexed-stream");
  EXPECT_EQ(StreamType({1, 42}, true), "application/vnd.docker.raw-stream");
}

TEST(DetachKeysTest, WordsAreDockers) {
  EXPECT_EQ(*ParseDetachKeys(""), "\x10\x11");
  EXPECT_EQ(*ParseDetachKeys("ctrl-A,x"), "\x01x");
  EXPECT_EQ(*ParseDetachKeys("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_"),
            std::string("\0\x1b\x1c\x1d\x1e\x1f", 6));
  for (const char* text : {"ctrl-", "ctrl-1", "shift-a", "ab", "a,", ","})
    EXPECT_TRUE(absl::IsInvalidArgument(ParseDetachKeys(text).status())) << text;
}

// What passes the filter, piece by piece; "!" where the keys were typed.
std::string Typed(DetachKeys& keys, std::vector<absl::string_view> pieces) {
  std::string out;
  for (const absl::string_view piece : pieces) {
    bool detached = false;
    out += keys.Filter(piece, &detached);
    if (detached) out += "!";
  }
  return out;
}

TEST(DetachKeysTest, AreFoundInPiecesAndGivenBackWhenTheyAreNot) {
  DetachKeys keys("ab");
  EXPECT_EQ(Typed(keys, {"x", "a", "b"}), "x!");
  EXPECT_EQ(Typed(keys, {"a", "xaab tail"}), "axa!");
  DetachKeys none("");
  EXPECT_EQ(Typed(none, {"ab"}), "ab");
}

// A shim's stream that keeps what is written to it.
class FakeStream final : public runtime::AttachStream {
 public:
  struct Seen {
    absl::Mutex mu;
    std::string input ABSL_GUARDED_BY(mu);
    bool closed ABSL_GUARDED_BY(mu) = false;
    int reads ABSL_GUARDED_BY(mu) = 0;
  };
  explicit FakeStream(Seen& seen) : seen_(seen) {}
  void Read() override {
    absl::MutexLock lock(&seen_.mu);
    ++seen_.reads;
  }
  bool Write(shim::v1::AttachInput input) override {
    absl::MutexLock lock(&seen_.mu);
    seen_.input += input.stdin();
    seen_.closed |= input.close_stdin();
    return true;
  }
  void WritesDone() override {}
  void Cancel() override {}

 private:
  Seen& seen_;
};

shim::v1::AttachOutput Out(absl::string_view text, bool is_stderr = false) {
  shim::v1::AttachOutput output;
  is_stderr ? output.set_stderr(std::string(text)) : output.set_stdout(std::string(text));
  return output;
}

class ProcessStreamTest : public ::testing::Test {
 protected:
  ProcessStreamTest() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    EXPECT_EQ(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    client_.fd.reset(ends[0]);
    peer_.reset(ends[1]);
    timeval limit = {20, 0};
    setsockopt(peer_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }

  void Run(ProcessStream::Options options) {
    process_ = std::make_shared<ProcessStream>(std::move(options));
    thread_ = std::thread([this] { result_ = process_->Run(client_); });
  }
  ProcessStream::Result Join() {
    thread_.join();
    return result_;
  }
  std::string Receive(size_t size) {
    std::string bytes(size, '\0');
    const ssize_t got = recv(peer_.get(), bytes.data(), size, MSG_WAITALL);
    bytes.resize(got < 0 ? 0 : static_cast<size_t>(got));
    return bytes;
  }
  void AwaitInput(absl::string_view text) {
    absl::MutexLock lock(&seen_.mu);
    const auto there = [&]()
                           ABSL_EXCLUSIVE_LOCKS_REQUIRED(seen_.mu) { return seen_.input == text; };
    EXPECT_TRUE(seen_.mu.AwaitWithTimeout(absl::Condition(&there), absl::Seconds(20)));
  }

  http::Hijacked client_;
  UniqueFd peer_;
  FakeStream::Seen seen_;
  std::shared_ptr<ProcessStream> process_;
  std::thread thread_;
  ProcessStream::Result result_;
};

TEST_F(ProcessStreamTest, OutputIsFramedAndTheExitEndsIt) {
  Run({});
  process_->Use(std::make_unique<FakeStream>(seen_));
  process_->OnOutput(Out("one"));
  EXPECT_EQ(Receive(11), Frame(FrameOf::kStdout, "one"));
  process_->OnOutput(Out("two", true));
  EXPECT_EQ(Receive(11), Frame(FrameOf::kStderr, "two"));
  shim::v1::AttachOutput exit;
  exit.mutable_exited()->set_exit_status(7);
  process_->OnOutput(exit);
  const ProcessStream::Result result = Join();
  EXPECT_EQ(result.end, ProcessStream::End::kExited);
  EXPECT_EQ(result.exited.exit_status(), 7u);
}

TEST_F(ProcessStreamTest, OutputDoesNotComeBeforeTheHeaderIsRead) {
  ASSERT_EQ(send(client_.fd.get(), "head", 4, 0), 4);
  ProcessStream::Options options;
  options.head_patience = absl::Seconds(20);
  Run(options);
  process_->Use(std::make_unique<FakeStream>(seen_));
  process_->OnOutput(Out("one"));
  for (int i = 0; i < 50; ++i) {
    int there = 0;
    ASSERT_EQ(ioctl(peer_.get(), FIONREAD, &there), 0);
    ASSERT_EQ(there, 4);
    poll(nullptr, 0, 1);
  }
  EXPECT_EQ(Receive(4), "head");
  EXPECT_EQ(Receive(11), Frame(FrameOf::kStdout, "one"));
  peer_.reset();
  EXPECT_EQ(Join().end, ProcessStream::End::kClientLeft);
}

TEST_F(ProcessStreamTest, InputThatCameEarlyWaitsForTheProcess) {
  client_.read_already = "early ";
  ProcessStream::Options options;
  options.input = true;
  options.input_ends_too = true;
  Run(options);
  ASSERT_EQ(send(peer_.get(), "late", 4, 0), 4);
  process_->Use(std::make_unique<FakeStream>(seen_));
  AwaitInput("early late");
  // The end of its input does not end its output.
  shutdown(peer_.get(), SHUT_WR);
  {
    absl::MutexLock lock(&seen_.mu);
    const auto closed = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(seen_.mu) { return seen_.closed; };
    EXPECT_TRUE(seen_.mu.AwaitWithTimeout(absl::Condition(&closed), absl::Seconds(20)));
  }
  process_->OnOutput(Out("still"));
  EXPECT_EQ(Receive(13), Frame(FrameOf::kStdout, "still"));
  peer_.reset();
  EXPECT_EQ(Join().end, ProcessStream::End::kClientLeft);
}

TEST_F(ProcessStreamTest, TheKeysDetachATerminal) {
  ProcessStream::Options options;
  options.terminal = true;
  options.input = true;
  options.detach_keys = "\x10\x11";
  Run(options);
  process_->Use(std::make_unique<FakeStream>(seen_));
  process_->OnOutput(Out("prompt"));
  EXPECT_EQ(Receive(6), "prompt");
  ASSERT_EQ(send(peer_.get(), "ls\n\x10\x11", 5, 0), 5);
  EXPECT_EQ(Join().end, ProcessStream::End::kDetached);
  AwaitInput("ls\n");
}

TEST_F(ProcessStreamTest, AWebSocketGetsMessagesAndItsPingsAreAnswered) {
  ProcessStream::Options options;
  options.input = true;
  options.websocket = true;
  Run(options);
  process_->Use(std::make_unique<FakeStream>(seen_));
  process_->OnOutput(Out("out"));
  EXPECT_EQ(Receive(5), "\x82\x03out");
  // Masked with zeros: a ping, then "in", then the close.
  const std::string ping("\x89\x80\0\0\0\0", 6), in("\x82\x82\0\0\0\0in", 8),
      close("\x88\x80\0\0\0\0", 6);
  ASSERT_EQ(send(peer_.get(), ping.data(), ping.size(), 0), 6);
  EXPECT_EQ(Receive(2), std::string("\x8a\0", 2));
  ASSERT_EQ(send(peer_.get(), in.data(), in.size(), 0), 8);
  AwaitInput("in");
  ASSERT_EQ(send(peer_.get(), close.data(), close.size(), 0), 6);
  EXPECT_EQ(Join().end, ProcessStream::End::kClientLeft);
}

TEST_F(ProcessStreamTest, AClientThatLeavesBeforeTheStartEndsIt) {
  Run({});
  peer_.reset();
  EXPECT_EQ(Join().end, ProcessStream::End::kClientLeft);
}

TEST_F(ProcessStreamTest, AStreamThatNeverComesSaysWhy) {
  Run({});
  process_->Use(absl::UnavailableError("gantryd stops"));
  const ProcessStream::Result result = Join();
  EXPECT_EQ(result.end, ProcessStream::End::kLost);
  EXPECT_THAT(std::string(result.why.message()), HasSubstr("gantryd stops"));
}

TEST_F(ProcessStreamTest, AClientThatDoesNotReadIsAskedForNoMore) {
  Run({});
  process_->Use(std::make_unique<FakeStream>(seen_));
  process_->OnOutput(Out(std::string(8 << 20, 'x')));
  EXPECT_EQ(Receive(8 + 1000).size(), 1008u);
  {
    absl::MutexLock lock(&seen_.mu);
    EXPECT_EQ(seen_.reads, 0);
  }
  peer_.reset();
  EXPECT_EQ(Join().end, ProcessStream::End::kClientLeft);
}

}  // namespace
}  // namespace gantry::api::docker
