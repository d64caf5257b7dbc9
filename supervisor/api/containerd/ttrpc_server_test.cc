#include "supervisor/api/containerd/ttrpc_server.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gtest/gtest.h"

#include "base/unique_fd.h"
#include "proto/ttrpc/ttrpc.pb.h"

namespace gantry::api {
namespace {

std::string Head(size_t length, uint8_t stream, uint8_t type) {
  std::string head;
  for (int shift = 24; shift >= 0; shift -= 8) head.push_back(static_cast<char>(length >> shift));
  head += std::string("\0\0\0", 3);
  head.push_back(static_cast<char>(stream));
  head.push_back(static_cast<char>(type));
  head.push_back('\0');
  return head;
}

class TtrpcServerTest : public testing::Test {
 protected:
  TtrpcServerTest()
      : server_({{"test.Echo/Say",
                  [](absl::string_view request) { return absl::StrCat("<", request, ">"); }},
                 {"test.Echo/Refuse",
                  [](absl::string_view) { return absl::NotFoundError("nobody"); }}}) {
    int fds[2];
    PCHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    client_.reset(fds[0]);
    PCHECK(fcntl(fds[1], F_SETFL, O_NONBLOCK) == 0);
    server_.Adopt(UniqueFd(fds[1]));
  }

  void Write(const std::string& bytes) {
    ASSERT_EQ(write(client_.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  static std::string Request(uint8_t stream, const std::string& method,
                             const std::string& payload) {
    ttrpc::Request request;
    request.set_service("test.Echo");
    request.set_method(method);
    request.set_payload(payload);
    const std::string bytes = request.SerializeAsString();
    return Head(bytes.size(), stream, 1) + bytes;
  }
  std::string ReadBytes(size_t count) {
    std::string bytes(count, '\0');
    EXPECT_EQ(recv(client_.get(), bytes.data(), count, MSG_WAITALL), static_cast<ssize_t>(count));
    return bytes;
  }
  // The next answer, which has to be `stream`'s.
  ttrpc::Response Read(uint8_t stream) {
    const std::string head = ReadBytes(10);
    EXPECT_EQ(head[7], static_cast<char>(stream));
    EXPECT_EQ(head[8], 2);
    size_t length = 0;
    for (int i = 0; i < 4; ++i) length = length << 8 | static_cast<unsigned char>(head[i]);
    ttrpc::Response response;
    EXPECT_TRUE(response.ParseFromString(ReadBytes(length)));
    return response;
  }

  TtrpcServer server_;
  UniqueFd client_;
};

TEST_F(TtrpcServerTest, CallsAreAnsweredOnTheirStreams) {
  Write(Request(1, "Say", "a") + Request(3, "Say", "b"));
  EXPECT_EQ(Read(1).payload(), "<a>");
  EXPECT_EQ(Read(3).payload(), "<b>");
}

TEST_F(TtrpcServerTest, AFrameMayComeInPieces) {
  const std::string frame = Request(1, "Say", "hello");
  Write(frame.substr(0, 4));
  Write(frame.substr(4, 10));
  Write(frame.substr(14));
  EXPECT_EQ(Read(1).payload(), "<hello>");
}

TEST_F(TtrpcServerTest, FailuresCarryCodeAndClass) {
  Write(Request(1, "Refuse", "") + Request(3, "Unknown", "") + Request(4, "Say", ""));
  const ttrpc::Response refused = Read(1);
  EXPECT_EQ(refused.status().code(), 5);
  EXPECT_EQ(refused.status().message(), "nobody: not found");
  EXPECT_EQ(Read(3).status().code(), 12);
  EXPECT_EQ(Read(4).status().code(), 3);
}

TEST_F(TtrpcServerTest, AMessageThatIsTooLongIsPassedOver) {
  const std::string much(5 << 20, 'x');
  std::string bytes = Head(much.size(), 1, 1) + much + Request(3, "Say", "on");
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = write(client_.get(), bytes.data() + sent, bytes.size() - sent);
    ASSERT_GT(n, 0);
    sent += static_cast<size_t>(n);
  }
  EXPECT_EQ(Read(1).status().code(), 8);
  EXPECT_EQ(Read(3).payload(), "<on>");
}

TEST_F(TtrpcServerTest, WhatIsNoRequestIsRefusedAndTheConnectionGoesOn) {
  Write(Head(3, 1, 1) + "\xff\xff\xff" + Head(2, 1, 3) + "xx" + Request(3, "Say", "on"));
  EXPECT_EQ(Read(1).status().code(), 3);
  EXPECT_EQ(Read(3).payload(), "<on>");
}

}  // namespace
}  // namespace gantry::api
