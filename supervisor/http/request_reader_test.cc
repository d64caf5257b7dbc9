#include "supervisor/http/request_reader.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace gantry::http {
namespace {

// Gives `bytes` in pieces of `piece`.
RequestReader::Source Source(std::string bytes, size_t piece) {
  return [bytes = std::move(bytes), piece, at = size_t{0}](
             char* buffer, size_t size) mutable -> absl::StatusOr<size_t> {
    const size_t n = std::min({size, piece, bytes.size() - at});
    memcpy(buffer, bytes.data() + at, n);
    at += n;
    return n;
  };
}

absl::StatusOr<std::string> ReadAll(RequestReader& reader) {
  std::string body;
  char buffer[7];
  while (true) {
    const absl::StatusOr<size_t> got = reader.ReadBody(buffer, sizeof buffer);
    if (!got.ok()) return got.status();
    if (*got == 0) return body;
    body.append(buffer, *got);
  }
}

absl::StatusCode HeadCode(const std::string& bytes, RequestReader::Limits limits = {}) {
  RequestReader reader(Source(bytes, bytes.size() + 1), limits);
  return reader.ReadHead().status().code();
}

// Whatever the size of the pieces in which it arrives.
class PiecesTest : public testing::TestWithParam<size_t> {};
INSTANTIATE_TEST_SUITE_P(Sizes, PiecesTest, testing::Values(1, 2, 3, 17, 100000));

TEST_P(PiecesTest, ReadsRequestsOneAfterTheOther) {
  RequestReader reader(
      Source(
          "POST /a%20b?x=1&y=%2B HTTP/1.1\r\nHost: h\r\nX-Two:  b \r\nContent-Length: 11\r\n\r\n"
          "hello worldGET / HTTP/1.1\r\n\r\nPUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
          "5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: t\r\n\r\nrest",
          GetParam()),
      {});
  absl::StatusOr<RequestHead> head = reader.ReadHead();
  ASSERT_TRUE(head.ok()) << head.status();
  EXPECT_EQ(head->method, "POST");
  EXPECT_EQ(head->target, "/a%20b?x=1&y=%2B");
  EXPECT_EQ(head->path, "/a%20b");
  EXPECT_EQ(head->query, "x=1&y=%2B");
  EXPECT_EQ(head->field("x-two"), "b");
  EXPECT_EQ(head->field("x-three"), "");
  EXPECT_TRUE(head->has_body);
  EXPECT_TRUE(head->keep_alive);
  EXPECT_EQ(*ReadAll(reader), "hello world");

  head = reader.ReadHead();
  ASSERT_TRUE(head.ok()) << head.status();
  EXPECT_EQ(head->method, "GET");
  EXPECT_FALSE(head->has_body);
  EXPECT_EQ(*ReadAll(reader), "");

  head = reader.ReadHead();
  ASSERT_TRUE(head.ok()) << head.status();
  EXPECT_EQ(head->path, "/c");
  EXPECT_EQ(*ReadAll(reader), "hello world");
  EXPECT_TRUE(reader.body_complete());
  const std::string rest = reader.TakeBuffered();
  EXPECT_EQ(rest, std::string("rest").substr(0, rest.size()));
}

TEST(RequestReaderTest, AStreamThatEndsBetweenRequestsIsNotAnError) {
  EXPECT_EQ(HeadCode(""), absl::StatusCode::kNotFound);
  EXPECT_EQ(HeadCode("GET / HTTP/1.1\r\n"), absl::StatusCode::kInvalidArgument);
}

TEST(RequestReaderTest, RefusesWhatIsNoRequest) {
  for (const char* bytes :
       {"nonsense\r\n\r\n", "GET /\r\n\r\n", "GET / SPDY/3\r\n\r\n", "GET / HTTP/2.0\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n", " GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nNo colon\r\n\r\n",
        "GET / HTTP/1.1\r\nBad name: x\r\n\r\n", "GET / HTTP/1.1\r\n: x\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\rc: d\r\n\r\n", "GET /\x01 HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\x02\r\n\r\n"}) {
    EXPECT_EQ(HeadCode(bytes), absl::StatusCode::kInvalidArgument) << bytes;
  }
}

// Two servers in a row would see different requests in these.
TEST(RequestReaderTest, RefusesAmbiguousFraming) {
  for (const char* fields :
       {"Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "Content-Length: -1\r\n",
        "Content-Length: +5\r\n", "Content-Length: 0x5\r\n",
        "Content-Length: 99999999999999999999\r\n", "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, gzip\r\n"}) {
    EXPECT_EQ(HeadCode(absl::StrCat("POST / HTTP/1.1\r\n", fields, "\r\nhello")),
              absl::StatusCode::kInvalidArgument)
        << fields;
  }
}

TEST(RequestReaderTest, RefusesBadChunks) {
  for (const char* body : {"x\r\nhello\r\n0\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "-5\r\nhello\r\n",
                           "fffffffffffffffff\r\nhello\r\n", "5\r\nhel"}) {
    RequestReader reader(
        Source(absl::StrCat("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", body), 1000),
        {});
    ASSERT_TRUE(reader.ReadHead().ok());
    EXPECT_EQ(ReadAll(reader).status().code(), absl::StatusCode::kInvalidArgument) << body;
  }
}

TEST(RequestReaderTest, HoldsItsLimits) {
  RequestReader::Limits limits;
  limits.head_bytes = 1000;
  limits.body_bytes = 10;
  EXPECT_EQ(HeadCode(std::string(5000, 'x'), limits), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(HeadCode("GET / HTTP/1.1\r\nX: " + std::string(5000, 'x') + "\r\n\r\n", limits),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(HeadCode("GET / HTTP/1.1\r\nX: " + std::string(900, 'x') + "\r\n\r\n", limits),
            absl::StatusCode::kOk);
  for (const std::string& framing :
       {std::string("Transfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n"),
        std::string("Content-Length: 11\r\n\r\nhello world")}) {
    RequestReader reader(Source("POST / HTTP/1.1\r\n" + framing, 1000), limits);
    const absl::StatusOr<RequestHead> head = reader.ReadHead();
    EXPECT_EQ((head.ok() ? ReadAll(reader).status() : head.status()).code(),
              absl::StatusCode::kResourceExhausted)
        << framing;
  }
  // A chunk's extensions that never end.
  RequestReader reader(
      Source("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;" + std::string(100000, 'x'),
             1000),
      limits);
  ASSERT_TRUE(reader.ReadHead().ok());
  EXPECT_FALSE(ReadAll(reader).ok());
}

TEST(RequestReaderTest, DecodesQueriesAndForms) {
  EXPECT_EQ(PercentDecode("a%20b+c%2", false), "a b+c%2");
  EXPECT_EQ(PercentDecode("a%20b+c%zz", true), "a b c%zz");
  EXPECT_EQ(ParseQuery("a=1&&b=x%26y&c&a=2"),
            (Fields{{"a", "1"}, {"b", "x&y"}, {"c", ""}, {"a", "2"}}));
}

}  // namespace
}  // namespace gantry::http
