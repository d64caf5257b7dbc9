#include "shim/zygote_protocol.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace gantry::shim {
namespace {

LaunchRequest SomeRequest() {
  LaunchRequest request;
  request.name_space = "default";
  request.id = "web-1";
  request.bundle = "/run/gantry/tasks/default/web-1";
  request.socket_path = "/run/gantry/s/0123456789abcdef";
  request.runtime_path = "/usr/bin/crun";
  request.v1_controllers = {"hugetlb", "misc"};
  request.log_level = LogLevel::kWarning;
  request.idle_exit_seconds = 7;
  return request;
}

TEST(ZygoteProtocolTest, ARequestSurvivesTheWire) {
  const LaunchRequest request = SomeRequest();
  const auto bytes = EncodeLaunchRequest(request);
  ASSERT_TRUE(bytes.ok());
  const auto decoded = DecodeLaunchRequest(*bytes);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, request);
}

TEST(ZygoteProtocolTest, ARequestCutShortAnywhereIsRefused) {
  const std::string bytes = *EncodeLaunchRequest(SomeRequest());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(DecodeLaunchRequest(absl::string_view(bytes).substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(DecodeLaunchRequest(bytes + "x").ok());
}

TEST(ZygoteProtocolTest, ALengthBeyondTheMessageIsRefused) {
  std::string bytes = *EncodeLaunchRequest(SomeRequest());
  bytes[4] = '\xff';
  bytes[7] = '\xff';
  EXPECT_FALSE(DecodeLaunchRequest(bytes).ok());
}

TEST(ZygoteProtocolTest, AMessageOfAnotherVersionIsRefused) {
  std::string bytes = *EncodeLaunchRequest(SomeRequest());
  bytes[3] = '1';
  EXPECT_FALSE(DecodeLaunchRequest(bytes).ok());
}

TEST(ZygoteProtocolTest, FieldsAreChecked) {
  LaunchRequest request = SomeRequest();
  request.id = "";
  EXPECT_EQ(EncodeLaunchRequest(request).status().code(), absl::StatusCode::kInvalidArgument);
  request = SomeRequest();
  request.id = std::string("a\0b", 3);
  EXPECT_EQ(EncodeLaunchRequest(request).status().code(), absl::StatusCode::kInvalidArgument);
  request = SomeRequest();
  request.bundle = "relative";
  EXPECT_EQ(EncodeLaunchRequest(request).status().code(), absl::StatusCode::kInvalidArgument);
  request = SomeRequest();
  request.socket_path = "/" + std::string(107, 's');
  const absl::Status too_long = EncodeLaunchRequest(request).status();
  EXPECT_TRUE(absl::StrContains(too_long.message(), "socket path")) << too_long;
  request.socket_path.pop_back();
  EXPECT_TRUE(EncodeLaunchRequest(request).ok());
  request.runtime_path = "crun";
  EXPECT_EQ(EncodeLaunchRequest(request).status().code(), absl::StatusCode::kInvalidArgument);
  request.runtime_path = "";
  EXPECT_TRUE(EncodeLaunchRequest(request).ok());
}

TEST(ZygoteProtocolTest, RepliesSurviveTheWire) {
  LaunchReply reply;
  reply.pid = 4711;
  EXPECT_EQ(DecodeLaunchReply(EncodeLaunchReply(reply))->pid, 4711);
  reply.pid = 0;
  reply.error = "fork: no memory";
  EXPECT_EQ(DecodeLaunchReply(EncodeLaunchReply(reply))->error, "fork: no memory");
  reply.error = "";
  EXPECT_FALSE(DecodeLaunchReply(EncodeLaunchReply(reply)).ok());
}

TEST(ZygoteProtocolTest, DescriptorsTravelWithTheMessages) {
  auto sockets = MakeZygoteSockets();
  auto pipe = MakeReadyPipe();
  ASSERT_TRUE(sockets.ok() && pipe.ok());
  ASSERT_TRUE(SendLaunchRequest(sockets->supervisor.get(), SomeRequest(), pipe->write.get()).ok());
  pipe->write.reset();
  auto received = ReceiveLaunchRequest(sockets->zygote.get());
  ASSERT_TRUE(received.ok() && received->request.ok());
  EXPECT_EQ(*received->request, SomeRequest());
  EXPECT_FALSE(received->sealed_runtime.valid());

  // On to the shim, with the copy of the runtime.
  const UniqueFd program(open("/bin/true", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(SendLaunchRequest(sockets->zygote.get(), SomeRequest(), received->ready_write.get(),
                                program.get())
                  .ok());
  auto assigned = ReceiveLaunchRequest(sockets->supervisor.get());
  ASSERT_TRUE(assigned.ok() && assigned->request.ok());
  EXPECT_TRUE(assigned->ready_write.valid());
  EXPECT_TRUE(assigned->sealed_runtime.valid());

  LaunchReply reply;
  reply.pid = getpid();
  reply.pidfd = UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  ASSERT_TRUE(SendLaunchReply(sockets->zygote.get(), reply).ok());
  const auto answer = ReceiveLaunchReply(sockets->supervisor.get(), absl::Seconds(10));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->pid, getpid());
  EXPECT_TRUE(answer->pidfd.valid());

  WriteReadyReport(received->ready_write.get(), absl::OkStatus());
  EXPECT_TRUE(ReadReadyReport(pipe->read.get(), absl::Seconds(10)).ok());
}

TEST(ZygoteProtocolTest, ARequestWithoutAPipeIsAnsweredWithAnError) {
  auto sockets = MakeZygoteSockets();
  ASSERT_TRUE(SendLaunchRequest(sockets->supervisor.get(), SomeRequest(), -1).ok());
  auto received = ReceiveLaunchRequest(sockets->zygote.get());
  ASSERT_TRUE(received.ok());
  EXPECT_EQ(received->request.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ZygoteProtocolTest, TheOtherEndsLeavingIsTold) {
  auto sockets = MakeZygoteSockets();
  sockets->zygote.reset();
  EXPECT_EQ(SendLaunchRequest(sockets->supervisor.get(), SomeRequest(), -1).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReceiveLaunchReply(sockets->supervisor.get(), absl::Seconds(10)).status().code(),
            absl::StatusCode::kUnavailable);
  sockets = MakeZygoteSockets();
  sockets->supervisor.reset();
  EXPECT_EQ(ReceiveLaunchRequest(sockets->zygote.get()).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST(ZygoteProtocolTest, SilenceEndsAtTheDeadline) {
  auto sockets = MakeZygoteSockets();
  EXPECT_EQ(ReceiveLaunchReply(sockets->supervisor.get(), absl::Milliseconds(5)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  auto pipe = MakeReadyPipe();
  EXPECT_EQ(ReadReadyReport(pipe->read.get(), absl::Milliseconds(5)).code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST(ZygoteProtocolTest, AReadyReportTellsTheReasonOfAFailure) {
  auto pipe = MakeReadyPipe();
  WriteReadyReport(pipe->write.get(), absl::NotFoundError("bundle /x:\nno such directory"));
  const absl::Status status = ReadReadyReport(pipe->read.get(), absl::Seconds(10));
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(absl::StrContains(status.message(), "bundle /x: no such directory")) << status;
  pipe->write.reset();
  EXPECT_EQ(ReadReadyReport(pipe->read.get(), absl::Seconds(10)).code(),
            absl::StatusCode::kUnavailable);
}

TEST(ZygoteProtocolTest, AnErrorThatSaysReadyIsNoReadiness) {
  auto pipe = MakeReadyPipe();
  WriteReadyReport(pipe->write.get(), absl::InternalError("ready\n"));
  EXPECT_FALSE(ReadReadyReport(pipe->read.get(), absl::Seconds(10)).ok());
}

TEST(ZygoteProtocolTest, LogLevelsHaveNames) {
  EXPECT_EQ(*ParseLogLevel("WARN"), LogLevel::kWarning);
  EXPECT_EQ(*ParseLogLevel("debug"), LogLevel::kDebug);
  EXPECT_FALSE(ParseLogLevel("loud").ok());
}

}  // namespace
}  // namespace gantry::shim
