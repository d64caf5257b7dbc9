#include "shim/dns_message.h"

#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "shim/dns_testing.h"

namespace gantry::shim {
namespace {

using network::NameAddress;

NameAddress Address(const char* text) { return *NameAddress::Parse(text); }

TEST(DnsQueryTest, TakesAQuestionApart) {
  const std::string message = QueryMessage(0x1234, "Api.WEB", 28);
  DnsQuery query;
  ASSERT_EQ(ParseQuery(message, &query), ParsedQuery::kGood);
  EXPECT_EQ(query.id, 0x1234);
  EXPECT_TRUE(query.recursion_desired);
  EXPECT_EQ(query.question.name, "api.web");
  EXPECT_EQ(query.question.type, DnsType::kAaaa);
  EXPECT_EQ(query.question.network_class, 1);
  EXPECT_EQ(query.question_bytes, message.substr(12));
  EXPECT_FALSE(query.edns);
  EXPECT_EQ(query.udp_bytes, 512u);
}

TEST(DnsQueryTest, EdnsSaysHowMuchTheClientTakes) {
  for (const auto& [said, taken] : std::vector<std::pair<int, size_t>>{
           {0, 512}, {100, 512}, {1232, 1232}, {4096, 4096}, {65535, 4096}}) {
    const std::string message = QueryMessage(1, "api", 1, said);
    DnsQuery query;
    ASSERT_EQ(ParseQuery(message, &query), ParsedQuery::kGood);
    EXPECT_TRUE(query.edns);
    EXPECT_EQ(query.udp_bytes, taken);
    EXPECT_EQ(query.question_bytes.size(), 9u);
  }
}

TEST(DnsQueryTest, BytesThatNoNameHasAreEscaped) {
  DnsQuery query;
  // One label "a.b" is not the two labels "a" and "b".
  std::string message = Head(1, 0x0100, 1) + std::string("\3a.b\0\0\1\0\1", 9);
  ASSERT_EQ(ParseQuery(message, &query), ParsedQuery::kGood);
  EXPECT_EQ(query.question.name, "a\\.b");
  message = Head(1, 0x0100, 1) + std::string("\4db\0x\0\0\1\0\1", 10);
  ASSERT_EQ(ParseQuery(message, &query), ParsedQuery::kGood);
  EXPECT_EQ(query.question.name, "db\\000x");
  message = Head(1, 0x0100, 1) + std::string("\0\0\1\0\1", 5);
  ASSERT_EQ(ParseQuery(message, &query), ParsedQuery::kGood);
  EXPECT_EQ(query.question.name, "");
}

TEST(DnsQueryTest, RefusesWhatIsNoQuery) {
  DnsQuery query;
  const std::string good = QueryMessage(1, "api", 1);
  for (size_t size = 0; size < 12; ++size)
    EXPECT_EQ(ParseQuery(good.substr(0, size), &query), ParsedQuery::kIgnore) << size;
  for (size_t size = 12; size < good.size(); ++size)
    EXPECT_EQ(ParseQuery(good.substr(0, size), &query), ParsedQuery::kMalformed) << size;
  EXPECT_EQ(ParseQuery(good + "x", &query), ParsedQuery::kMalformed);
  // An answer, which must not be answered.
  EXPECT_EQ(ParseQuery(Head(1, 0x8100, 1) + good.substr(12), &query), ParsedQuery::kIgnore);
  EXPECT_EQ(ParseQuery(Head(1, 0x2800, 1) + good.substr(12), &query),
            ParsedQuery::kUnknownOperation);
  EXPECT_EQ(ParseQuery(Head(1, 0x0100, 0), &query), ParsedQuery::kMalformed);
  EXPECT_EQ(ParseQuery(Head(1, 0x0100, 2) + good.substr(12) + good.substr(12), &query),
            ParsedQuery::kMalformed);
  // A name that points into the header, or at itself.
  EXPECT_EQ(ParseQuery(Head(1, 0x0100, 1) + std::string("\xc0\x0c\0\1\0\1", 6), &query),
            ParsedQuery::kMalformed);
  EXPECT_EQ(ParseQuery(Head(1, 0x0100, 1) + std::string("\xc0\0\0\1\0\1", 6), &query),
            ParsedQuery::kMalformed);
  // 256 bytes of name.
  std::string long_name;
  for (int i = 0; i < 5; ++i) long_name += "\x32" + std::string(50, 'a');
  EXPECT_EQ(ParseQuery(Head(1, 0x0100, 1) + long_name + std::string("\0\0\1\0\1", 5), &query),
            ParsedQuery::kMalformed);
  EXPECT_EQ(ParseQuery(good + std::string(5000, '\0'), &query), ParsedQuery::kMalformed);
}

TEST(DnsAnswerTest, HasTheAddresses) {
  const std::string message = QueryMessage(7, "API", 1);
  DnsQuery query;
  ASSERT_EQ(ParseQuery(message, &query), ParsedQuery::kGood);
  const std::string answer =
      BuildAnswer(query, DnsCode::kNoError, {Address("10.1.0.2"), Address("10.1.0.3")}, 512);
  EXPECT_EQ(answer, std::string("\0\7\x81\x80\0\1\0\2\0\0\0\0", 12) +
                        std::string("\3API\0\0\1\0\1", 9) +
                        std::string("\xc0\x0c\0\1\0\1\0\0\2\x58\0\4\x0a\1\0\2", 16) +
                        std::string("\xc0\x0c\0\1\0\1\0\0\2\x58\0\4\x0a\1\0\3", 16));
  EXPECT_EQ(CheckAnswer(7, query.question_bytes, answer), AnswerCheck::kGood);
}

TEST(DnsAnswerTest, IsCutToWhatTheClientTakes) {
  const std::vector<NameAddress> many(100, Address("10.1.0.2"));
  for (const int edns : {-1, 1232}) {
    const std::string message = QueryMessage(7, "api", 1, edns);
    DnsQuery query;
    ASSERT_EQ(ParseQuery(message, &query), ParsedQuery::kGood);
    const std::string answer = BuildAnswer(query, DnsCode::kNoError, many, query.udp_bytes);
    EXPECT_LE(answer.size(), query.udp_bytes);
    EXPECT_GT(answer.size(), query.udp_bytes - 30);
    EXPECT_TRUE(Truncated(answer));
    EXPECT_EQ(CheckAnswer(7, query.question_bytes, answer), AnswerCheck::kGood);
    const std::string whole = BuildAnswer(query, DnsCode::kNoError, many, kMaxDnsMessageBytes);
    EXPECT_FALSE(Truncated(whole));
    EXPECT_EQ(AddressesIn(whole).size(), 100u);
    EXPECT_TRUE(Truncated(BuildTruncated(query)));
    EXPECT_EQ(CheckAnswer(7, query.question_bytes, BuildTruncated(query)), AnswerCheck::kGood);
  }
}

TEST(DnsAnswerTest, PointerHasTheName) {
  const std::string message = QueryMessage(7, "2.0.1.10.in-addr.arpa", 12);
  DnsQuery query;
  ASSERT_EQ(ParseQuery(message, &query), ParsedQuery::kGood);
  const std::string answer = BuildPointerAnswer(query, "Api.web", 512);
  EXPECT_EQ(CheckAnswer(7, query.question_bytes, answer), AnswerCheck::kGood);
  EXPECT_TRUE(answer.size() > 9 &&
              answer.substr(answer.size() - 9) == std::string("\3Api\3web\0", 9));
}

TEST(DnsAnswerTest, RefusalHasTheIdAndTheCode) {
  EXPECT_EQ(
      BuildRefusal(std::string("\x12\x34\x29\0\0\2\0\0\0\0\0\0", 12), DnsCode::kNotImplemented),
      std::string("\x12\x34\xa9\4\0\0\0\0\0\0\0\0", 12));
}

TEST(ReverseNameTest, OfBothFamilies) {
  EXPECT_EQ(AddressOfReverseName("2.0.1.10.in-addr.arpa"), Address("10.1.0.2"));
  EXPECT_EQ(AddressOfReverseName("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f."
                                 "ip6.arpa"),
            Address("fd00::2"));
  for (const char* bad :
       {"", "in-addr.arpa", ".in-addr.arpa", "0.1.10.in-addr.arpa", "1.2.0.1.10.in-addr.arpa",
        "256.0.1.10.in-addr.arpa", "x.0.1.10.in-addr.arpa", "10.1.0.2", "2.0.ip6.arpa",
        "20.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa"})
    EXPECT_FALSE(AddressOfReverseName(bad).has_value()) << bad;
}

class ForeignAnswerTest : public testing::Test {
 protected:
  ForeignAnswerTest() {
    EXPECT_EQ(ParseQuery(message_, &query_), ParsedQuery::kGood);
    good_ = BuildAnswer(query_, DnsCode::kNoError, {Address("192.0.2.1")}, 512);
  }
  AnswerCheck Check(const std::string& answer) {
    return CheckAnswer(7, query_.question_bytes, answer);
  }

  const std::string message_ = QueryMessage(7, "example.com", 1);
  DnsQuery query_;
  std::string good_;
};

TEST_F(ForeignAnswerTest, OnlyTheAnswerToThisQuestionCounts) {
  EXPECT_EQ(Check(good_), AnswerCheck::kGood);
  EXPECT_EQ(CheckAnswer(8, query_.question_bytes, good_), AnswerCheck::kForeign);
  EXPECT_EQ(Check(message_), AnswerCheck::kForeign);  // the question itself
  for (const auto& [name, type] : std::vector<std::pair<std::string, uint16_t>>{
           {"example.org", 1}, {"example.com", 28}, {"xexample.com", 1}, {"example.co", 1}}) {
    const std::string other = QueryMessage(7, name, type);
    DnsQuery query;
    ASSERT_EQ(ParseQuery(other, &query), ParsedQuery::kGood);
    EXPECT_EQ(Check(BuildAnswer(query, DnsCode::kNoError, {Address("192.0.2.1")}, 512)),
              AnswerCheck::kForeign)
        << name << " " << type;
  }
  const std::string upper = QueryMessage(7, "EXAMPLE.com", 1);
  DnsQuery query;
  ASSERT_EQ(ParseQuery(upper, &query), ParsedQuery::kGood);
  EXPECT_EQ(Check(BuildAnswer(query, DnsCode::kNoError, {}, 512)), AnswerCheck::kGood);
}

TEST_F(ForeignAnswerTest, TypesAreNotCaseInsensitive) {
  // 65 and 97 are the letters A and a.
  const std::string asked = QueryMessage(7, "x", 65);
  const std::string other = QueryMessage(7, "x", 97);
  DnsQuery query;
  ASSERT_EQ(ParseQuery(other, &query), ParsedQuery::kGood);
  EXPECT_EQ(CheckAnswer(7, asked.substr(12), BuildAnswer(query, DnsCode::kNoError, {}, 512)),
            AnswerCheck::kForeign);
}

TEST_F(ForeignAnswerTest, DamagedAnswersDoNotCount) {
  for (size_t size = 0; size < good_.size(); ++size)
    EXPECT_EQ(Check(good_.substr(0, size)), AnswerCheck::kForeign) << size;
  EXPECT_EQ(Check(good_ + "x"), AnswerCheck::kForeign);
  // An address of five bytes; a name that points at itself, or past the end.
  std::string bad = good_;
  bad[bad.size() - 5] = 5;
  EXPECT_EQ(Check(bad + "x"), AnswerCheck::kForeign);
  const size_t record = 12 + query_.question_bytes.size();
  for (const char* name : {"\xc0\x1d", "\xff\xff"}) {
    bad = good_;
    bad.replace(record, 2, name);
    EXPECT_EQ(Check(bad), AnswerCheck::kForeign);
  }
  // More records promised than there are.
  bad = good_;
  bad[7] = 2;
  EXPECT_EQ(Check(bad), AnswerCheck::kForeign);
  // An alias whose name leaves its record.
  bad = good_.substr(0, record) + std::string("\xc0\x0c\0\5\0\1\0\0\0\1\0\2\3ab", 15);
  EXPECT_EQ(Check(bad), AnswerCheck::kForeign);
}

TEST_F(ForeignAnswerTest, FailuresOfTheServerAreToldFromItsAnswers) {
  EXPECT_EQ(Check(BuildAnswer(query_, DnsCode::kServerFailure, {}, 512)),
            AnswerCheck::kServerFailed);
  EXPECT_EQ(Check(BuildAnswer(query_, DnsCode::kRefused, {}, 512)), AnswerCheck::kServerFailed);
  EXPECT_EQ(Check(BuildAnswer(query_, DnsCode::kNoSuchName, {}, 512)), AnswerCheck::kGood);
  EXPECT_EQ(Check(BuildRefusal(message_, DnsCode::kServerFailure)), AnswerCheck::kServerFailed);
  EXPECT_EQ(Check(BuildRefusal(message_, DnsCode::kFormatError)), AnswerCheck::kGood);
  EXPECT_EQ(Check(BuildRefusal(message_, DnsCode::kNoError)), AnswerCheck::kForeign);
}

}  // namespace
}  // namespace gantry::shim
