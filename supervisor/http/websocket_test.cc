#include "supervisor/http/websocket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace gantry::http {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

RequestHead Handshake() {
  RequestHead head;
  head.method = "GET";
  head.fields = {{"connection", "keep-alive, Upgrade"},
                 {"upgrade", "websocket"},
                 {"sec-websocket-version", "13"},
                 {"sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="}};
  return head;
}

// A client's frame, masked with 1 2 3 4.
std::string Frame(int first_byte, const std::string& payload) {
  std::string out;
  out += static_cast<char>(first_byte);
  if (payload.size() < 126) {
    out += static_cast<char>(0x80 | payload.size());
  } else if (payload.size() < 65536) {
    out += static_cast<char>(0x80 | 126);
    out += static_cast<char>(payload.size() >> 8);
    out += static_cast<char>(payload.size() & 0xff);
  } else {
    out += static_cast<char>(0x80 | 127);
    for (int i = 7; i >= 0; --i) out += static_cast<char>(payload.size() >> (8 * i) & 0xff);
  }
  out += "\1\2\3\4";
  for (size_t i = 0; i < payload.size(); ++i)
    out += static_cast<char>(payload[i] ^ static_cast<char>(i % 4 + 1));
  return out;
}

std::vector<std::string> DataOf(const absl::StatusOr<std::vector<WebSocketMessage>>& messages) {
  std::vector<std::string> all;
  if (!messages.ok()) return {std::string(messages.status().message())};
  for (const WebSocketMessage& one : *messages) all.push_back((one.text ? "t:" : "b:") + one.data);
  return all;
}

TEST(WebSocketHandshakeTest, AnswersTheKeyOfTheSpecification) {
  std::string protocol = "x";
  const absl::StatusOr<Fields> fields = AcceptWebSocket(Handshake(), {""}, protocol);
  ASSERT_TRUE(fields.ok()) << fields.status();
  EXPECT_THAT(*fields, ElementsAre(Pair("Upgrade", "websocket"), Pair("Connection", "Upgrade"),
                                   Pair("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
  EXPECT_EQ(protocol, "");
}

TEST(WebSocketHandshakeTest, TakesTheClientsFirstChoice) {
  RequestHead head = Handshake();
  head.fields.emplace_back("sec-websocket-protocol", "v9, v5");
  head.fields.emplace_back("sec-websocket-protocol", "v4");
  std::string protocol;
  const absl::StatusOr<Fields> fields = AcceptWebSocket(head, {"v4", "v5"}, protocol);
  ASSERT_TRUE(fields.ok()) << fields.status();
  EXPECT_EQ(protocol, "v5");
  EXPECT_THAT(fields->back(), Pair("Sec-WebSocket-Protocol", "v5"));
  EXPECT_TRUE(absl::IsFailedPrecondition(AcceptWebSocket(head, {"v1"}, protocol).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(AcceptWebSocket(Handshake(), {"v1"}, protocol).status()));
}

TEST(WebSocketHandshakeTest, RefusesWhatIsNoHandshake) {
  std::string protocol;
  const auto code = [&protocol](const std::function<void(RequestHead&)>& change) {
    RequestHead head = Handshake();
    change(head);
    return AcceptWebSocket(head, {""}, protocol).status().code();
  };
  EXPECT_EQ(code([](RequestHead& h) { h.method = "POST"; }), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](RequestHead& h) { h.http_1_0 = true; }), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](RequestHead& h) { h.fields[0].second = "close"; }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](RequestHead& h) { h.fields[2].second = "8"; }),
            absl::StatusCode::kUnimplemented);
  EXPECT_EQ(code([](RequestHead& h) { h.fields[3].second = "c2hvcnQ="; }),
            absl::StatusCode::kInvalidArgument);
}

TEST(WebSocketTest, UnmasksMessagesHoweverTheyArrive) {
  const std::string bytes = Frame(0x82, "binary") + Frame(0x81, "text") +
                            Frame(0x82, std::string(300, 'x')) + Frame(0x82, "");
  WebSocket whole;
  EXPECT_THAT(DataOf(whole.Feed(bytes)),
              ElementsAre("b:binary", "t:text", "b:" + std::string(300, 'x'), "b:"));
  WebSocket pieces;
  std::vector<std::string> seen;
  for (const char c : bytes) {
    for (std::string& one : DataOf(pieces.Feed(absl::string_view(&c, 1))))
      seen.push_back(std::move(one));
  }
  EXPECT_THAT(seen, ElementsAre("b:binary", "t:text", "b:" + std::string(300, 'x'), "b:"));
}

TEST(WebSocketTest, JoinsFragmentsAndAnswersPingsBetweenThem) {
  WebSocket socket;
  EXPECT_THAT(DataOf(socket.Feed(Frame(0x01, "a") + Frame(0x89, "ping") + Frame(0x00, "b"))),
              IsEmpty());
  EXPECT_EQ(socket.TakeOutput(), std::string("\x8a\x04ping"));
  EXPECT_THAT(DataOf(socket.Feed(Frame(0x80, "c"))), ElementsAre("t:abc"));
}

TEST(WebSocketTest, SendsFramesOfEachLength) {
  WebSocket socket;
  socket.SendBinary("x");
  EXPECT_EQ(socket.TakeOutput(), std::string("\x82\x01x", 3));
  socket.SendText(std::string(126, 'y'));
  EXPECT_EQ(socket.TakeOutput().substr(0, 4), std::string("\x81\x7e\x00\x7e", 4));
  socket.SendBinary(std::string(65536, 'z'));
  EXPECT_EQ(socket.TakeOutput().substr(0, 10),
            std::string("\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 10));
}

TEST(WebSocketTest, CloseIsAnsweredWithItsCode) {
  WebSocket socket;
  EXPECT_THAT(DataOf(socket.Feed(Frame(0x88, "\x03\xe8gone") + Frame(0x82, "late"))), IsEmpty());
  EXPECT_TRUE(socket.close_received());
  EXPECT_EQ(socket.peer_code(), 1000);
  EXPECT_EQ(socket.TakeOutput(), std::string("\x88\x02\x03\xe8", 4));
  socket.SendBinary("nothing follows a close frame");
  EXPECT_FALSE(socket.has_output());
}

TEST(WebSocketTest, LongReasonIsCutAtACharacter) {
  WebSocket socket;
  std::string reason(122, 'x');
  reason += "\u00e4";
  socket.Close(CloseCode::kInternalError, reason);
  EXPECT_EQ(socket.TakeOutput(), "\x88\x7c\x03\xf3" + std::string(122, 'x'));
}

TEST(WebSocketTest, BrokenProtocolEndsWithACloseFrame) {
  const std::vector<std::pair<std::string, int>> broken = {
      {std::string("\x82\x01x"), 1002},                     // not masked
      {Frame(0xc2, "x"), 1002},                             // an extension's bit
      {Frame(0x83, "x"), 1002},                             // a reserved opcode
      {Frame(0x8b, "x"), 1002},                             // a reserved control opcode
      {Frame(0x80, "x"), 1002},                             // continues nothing
      {Frame(0x02, "x") + Frame(0x82, "y"), 1002},          // begins within another
      {Frame(0x09, "x"), 1002},                             // a control frame in fragments
      {Frame(0x89, std::string(126, 'x')), 1002},           // a long control frame
      {Frame(0x88, "\x03"), 1002},                          // half a code
      {Frame(0x88, "\x03\xed"), 1002},                      // a reserved code
      {Frame(0x81, "\xff"), 1007},                          // not UTF-8
      {Frame(0x88, "\x03\xe8\xff"), 1007},                  // neither is its reason
      {std::string("\x82\xfe\x00\x01\1\2\3\4x", 9), 1002},  // a length in a longer form
      {std::string("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\1\2\3\4", 14), 1002},
      {std::string("\x82\xff\x00\xff\xff\xff\xff\xff\xff\xff\1\2\3\4", 14), 1009},
  };
  for (const auto& [bytes, code] : broken) {
    WebSocket socket;
    EXPECT_FALSE(socket.Feed(bytes).ok());
    const std::string output = socket.TakeOutput();
    ASSERT_GE(output.size(), 4u);
    EXPECT_EQ(output[0], '\x88');
    EXPECT_EQ(static_cast<uint8_t>(output[2]) << 8 | static_cast<uint8_t>(output[3]), code)
        << output;
    EXPECT_TRUE(absl::IsFailedPrecondition(socket.Feed("").status()));
  }
}

TEST(WebSocketTest, FragmentsCountTogetherTowardsTheLimit) {
  WebSocket socket({.message_bytes = 10});
  EXPECT_THAT(DataOf(socket.Feed(Frame(0x82, "0123456789"))), SizeIs(1));
  EXPECT_THAT(DataOf(socket.Feed(Frame(0x02, "01234"))), IsEmpty());
  const auto refused = socket.Feed(Frame(0x80, "012345"));
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status()));
  EXPECT_THAT(socket.TakeOutput(), HasSubstr("\x03\xf1"));
}

}  // namespace
}  // namespace gantry::http
