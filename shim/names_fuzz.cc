// What a shim's resolver reads: queries of the container, answers of servers, and the files of names.
#include <stdlib.h>

#include <string>
#include <vector>

#include "base/fuzz/fuzz.h"
#include "shim/dns_message.h"
#include "shim/dns_testing.h"
#include "supervisor/network/names_file.h"

namespace gantry {
namespace {

const network::NameAddress kAddress = *network::NameAddress::Parse("10.1.0.2");

// Whatever was asked, the answer is one whole message to it.
void CheckOwnAnswers(absl::string_view message) {
  shim::DnsQuery query;
  if (shim::ParseQuery(message, &query) != shim::ParsedQuery::kGood) {
    if (message.size() >= 12 &&
        shim::BuildRefusal(message, shim::DnsCode::kFormatError).size() != 12)
      abort();
    return;
  }
  const std::vector<network::NameAddress> many(60, kAddress);
  for (const std::string& answer :
       {shim::BuildAnswer(query, shim::DnsCode::kNoError, many, query.udp_bytes),
        shim::BuildPointerAnswer(query, "Api.web", query.udp_bytes), shim::BuildTruncated(query)}) {
    if (answer.size() > query.udp_bytes ||
        shim::CheckAnswer(query.id, query.question_bytes, answer) != shim::AnswerCheck::kGood)
      abort();
  }
  (void)shim::AddressOfReverseName(query.question.name);
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  const std::string query = shim::QueryMessage(7, "api.web", 1, 1232);
  const std::string plain = shim::QueryMessage(7, "api.web", 1);
  return {
      "0" + query,
      "0" + plain,
      "0" + shim::QueryMessage(7, "2.0.1.10.in-addr.arpa", 12),
      "1" + shim::AnswerMessage(plain, "192.0.2.1"),
      "2gantry names 1\nnetwork web\nname api 10.1.0.2\nname db fd00::2\naddress 10.1.0.2 Api\n",
      "3gantry resolver 1\nnetwork /a\nlink db api\nserver fe80::1%eth0\nhost-servers /b\n"
      "single-labels-stay\n",
      "4nameserver 192.0.2.1\nsearch a\n",
  };
}

void FuzzOne(absl::string_view bytes) {
  if (bytes.empty()) return;
  const char which = bytes[0];
  bytes.remove_prefix(1);
  switch (which) {
    case '0':
      CheckOwnAnswers(bytes);
      break;
    case '1': {
      const std::string question = shim::QueryMessage(7, "api.web", 1).substr(12);
      (void)shim::CheckAnswer(7, question, bytes);
      break;
    }
    case '2': {
      const auto table = network::NamesTable::Parse(bytes);
      if (!table.ok()) break;
      (void)table->Find("api");
      (void)table->Find("");
      (void)table->NameOf(kAddress);
      break;
    }
    case '3': {
      const auto config = network::ParseResolver(bytes);
      // What was read is written, and reads as the same.
      if (!config.ok()) break;
      const auto text = network::PrintResolver(*config);
      if (!text.ok() || *network::ParseResolver(*text) != *config) abort();
      break;
    }
    default:
      (void)network::ServersOf(bytes);
      break;
  }
}

}  // namespace gantry
