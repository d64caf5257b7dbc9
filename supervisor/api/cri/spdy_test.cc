#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "supervisor/api/cri/spdy_headers.h"
#include "supervisor/api/cri/spdy_session.h"

namespace gantry::api::cri {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;
using Kind = SpdyEvent::Kind;

std::string Number(uint64_t value, int bytes) {
  std::string out;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
    out += static_cast<char>(value >> shift & 0xff);
  return out;
}

std::string Control(int type, int flags, const std::string& payload, int version = 3) {
  return Number(0x8000u | static_cast<unsigned>(version), 2) +
         Number(static_cast<unsigned>(type), 2) + Number(static_cast<unsigned>(flags), 1) +
         Number(payload.size(), 3) + payload;
}
std::string Data(uint32_t stream, int flags, const std::string& data) {
  return Number(stream, 4) + Number(static_cast<unsigned>(flags), 1) + Number(data.size(), 3) +
         data;
}

struct Client {
  SpdyHeaderWriter writer;
  std::string Open(uint32_t stream, int flags = 0, const SpdyHeaders& headers = {}) {
    return Control(1, flags,
                   Number(stream, 4) + Number(0, 4) + Number(0, 2) + writer.Write(headers));
  }
};

std::vector<std::string> Words(const absl::StatusOr<std::vector<SpdyEvent>>& events) {
  std::vector<std::string> all;
  if (!events.ok()) return {std::string(events.status().message())};
  for (const SpdyEvent& one : *events) {
    const char* kind = one.kind == Kind::kOpened     ? "open"
                       : one.kind == Kind::kData     ? "data"
                       : one.kind == Kind::kFinished ? "finish"
                                                     : "reset";
    all.push_back(absl::StrCat(kind, " ", one.stream, one.data.empty() ? "" : " ", one.data));
  }
  return all;
}

TEST(SpdyHeadersTest, BlocksFollowEachOther) {
  SpdyHeaderWriter writer;
  SpdyHeaderReader reader;
  const auto first = reader.Read(writer.Write({{"streamtype", "stdin"}, {"port", "80"}}));
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_THAT(*first, ElementsAre(Pair("streamtype", "stdin"), Pair("port", "80")));
  const auto second = reader.Read(writer.Write({{"streamtype", "stdout"}}));
  ASSERT_TRUE(second.ok());
  EXPECT_THAT(*second, ElementsAre(Pair("streamtype", "stdout")));
  const auto third = reader.Read(writer.Write({}));
  ASSERT_TRUE(third.ok());
  EXPECT_THAT(*third, IsEmpty());
}

// Written by another implementation (Python's zlib with the dictionary of the specification).
TEST(SpdyHeadersTest, ReadsABlockOfAnotherImplementation) {
  SpdyHeaderReader reader;
  const auto headers = reader.Read(absl::HexStringToBytes(
      "78bbe3c6a7c202e50e703a2b294a4dcc851625aca9a0800632388b20d196094ace8ce600000000ffff"));
  ASSERT_TRUE(headers.ok()) << headers.status();
  EXPECT_THAT(*headers, ElementsAre(Pair("streamtype", "error"), Pair("requestid", "7")));
}

TEST(SpdyHeadersTest, RefusesWhatIsNoBlock) {
  EXPECT_FALSE(SpdyHeaderReader().Read("plain text").ok());
  SpdyHeaderWriter writer;
  const std::string block = writer.Write({{"a", std::string(70000, 'x')}});
  EXPECT_TRUE(absl::IsResourceExhausted(SpdyHeaderReader().Read(block).status()));
  EXPECT_FALSE(SpdyHeaderReader().Read(block.substr(0, 30)).ok());
}

TEST(SpdySessionTest, StreamsOpenCarryDataAndFinish) {
  Client client;
  SpdySession session;
  // In statements of their own: each header block continues the one before it.
  std::string bytes = client.Open(1, 0, {{"streamtype", "stdin"}});
  bytes += Data(1, 0, "hello") + Data(1, 1, "!");
  bytes += client.Open(3, 1);
  EXPECT_THAT(Words(session.Feed(bytes)),
              ElementsAre("open 1", "data 1 hello", "data 1 !", "finish 1", "open 3", "finish 3"));
  session.Accept(1);
  session.Send(1, "out");
  session.Finish(1);
  session.Send(1, "nothing after the end");
  const std::string out = session.TakeOutput();
  EXPECT_EQ(out.substr(0, 4), Number(0x80030002, 4));
  const std::string tail = Data(1, 0, "out") + Data(1, 1, "");
  EXPECT_EQ(out.substr(out.size() - tail.size()), tail);
  EXPECT_EQ(session.streams(), 1u);
}

TEST(SpdySessionTest, BytesMayArriveOneByOne) {
  Client client;
  SpdySession session;
  const std::string bytes = client.Open(1) + Data(1, 1, "ab") + Control(6, 0, Number(9, 4));
  std::vector<std::string> seen;
  for (const char c : bytes) {
    for (std::string& word : Words(session.Feed(absl::string_view(&c, 1))))
      seen.push_back(std::move(word));
  }
  EXPECT_THAT(seen, ElementsAre("open 1", "data 1 a", "data 1 b", "finish 1"));
  EXPECT_EQ(session.TakeOutput(), Control(6, 0, Number(9, 4)));
}

TEST(SpdySessionTest, HeadersAreReadInOrderAlsoOfFramesThatNobodyNeeds) {
  Client client;
  SpdySession session;
  const std::string reply = Control(2, 0, Number(1, 4) + client.writer.Write({{"x", "y"}}));
  const auto events = session.Feed(reply + client.Open(1, 0, {{"streamtype", "error"}}));
  ASSERT_TRUE(events.ok()) << events.status();
  ASSERT_THAT(*events, SizeIs(1));
  EXPECT_THAT(events->at(0).headers, ElementsAre(Pair("streamtype", "error")));
}

TEST(SpdySessionTest, StreamsBeyondTheLimitAreRefused) {
  Client client;
  SpdySession session;
  std::string bytes;
  for (uint32_t i = 0; i <= SpdySession::kMaxStreams; ++i) bytes += client.Open(2 * i + 1);
  EXPECT_THAT(Words(session.Feed(bytes)), SizeIs(SpdySession::kMaxStreams));
  EXPECT_EQ(session.TakeOutput(),
            Control(3, 0, Number(2 * SpdySession::kMaxStreams + 1, 4) + Number(3, 4)));
}

TEST(SpdySessionTest, ResetEndsAStream) {
  Client client;
  SpdySession session;
  EXPECT_THAT(Words(session.Feed(client.Open(1) + Control(3, 0, Number(1, 4) + Number(5, 4)))),
              ElementsAre("open 1", "reset 1"));
  session.Send(1, "x");
  EXPECT_FALSE(session.has_output());
  // Data that was under way is dropped.
  EXPECT_THAT(Words(session.Feed(Data(1, 0, "late"))), IsEmpty());
}

TEST(SpdySessionTest, WindowsCountOnceTheClientKnowsThem) {
  Client client;
  SpdySession session;
  ASSERT_TRUE(session.Feed(client.Open(1)).ok());
  session.Send(1, std::string(100 << 10, 'x'));
  EXPECT_EQ(session.TakeOutput().size(), (100u << 10) + 4 * 8);  // a client without windows
  ASSERT_TRUE(session.Feed(Data(1, 0, "12345")).ok());
  session.Consumed(1, 5);
  EXPECT_FALSE(session.has_output());

  // From here on: the session's window of 64 KiB is overdrawn by 36, the stream's is made 40 KiB.
  ASSERT_TRUE(session.Feed(Control(9, 0, Number(0, 4) + Number(37 << 10, 4))).ok());
  EXPECT_EQ(session.TakeOutput(), Control(9, 0, Number(0, 4) + Number(5, 4)) +
                                      Control(9, 0, Number(1, 4) + Number(5, 4)));
  session.Send(1, std::string(2000, 'y'));
  EXPECT_FALSE(session.has_output());  // the stream's is overdrawn still
  EXPECT_EQ(session.output_bytes(), 2000u);
  session.Finish(1);
  ASSERT_TRUE(session.Feed(Control(9, 0, Number(1, 4) + Number(37 << 10, 4))).ok());
  EXPECT_EQ(session.TakeOutput(), Data(1, 0, std::string(1024, 'y')));
  ASSERT_TRUE(session
                  .Feed(Control(9, 0, Number(0, 4) + Number(1 << 10, 4)) +
                        Control(9, 0, Number(1, 4) + Number(1 << 10, 4)))
                  .ok());
  EXPECT_EQ(session.TakeOutput(), Data(1, 0, std::string(976, 'y')) + Data(1, 1, ""));
}

TEST(SpdySessionTest, BrokenProtocolEndsWithGoAway) {
  const std::vector<std::string> broken = {
      Control(1, 0, "short"),
      Control(1, 0, Number(1, 4) + Number(0, 6) + "no header block"),
      Control(6, 0, Number(1, 4), /*version=*/2),
      Control(4, 0, Number(3, 4)),
      Data(1, 0, "never opened"),
      Data(0, 0, "no stream"),
      Number(0x80030001, 4) + Number(0x00ffffff, 4),
      Client().Open(2),
  };
  for (const std::string& bytes : broken) {
    SpdySession session;
    EXPECT_FALSE(session.Feed(bytes).ok());
    const std::string out = session.TakeOutput();
    ASSERT_GE(out.size(), 16u);
    EXPECT_EQ(out.substr(out.size() - 16, 4), Number(0x80030007, 4));
    EXPECT_TRUE(absl::IsFailedPrecondition(session.Feed("").status()));
  }
}

TEST(SpdySessionTest, UnknownFramesArePassedOver) {
  Client client;
  SpdySession session;
  EXPECT_THAT(Words(session.Feed(Control(10, 0, "whatever") + client.Open(1))),
              ElementsAre("open 1"));
}

}  // namespace
}  // namespace gantry::api::cri
