// DNS messages as the shim's resolver needs them: questions taken apart, answers put together, and
// answers of other servers checked. Pure functions over bytes that a container or a server made.
//
// Names are taken apart and put together by the C library (<arpa/nameser.h>), which every shim has
// loaded anyway; docs/adr/0011-dns-messages-by-the-c-library.md says what ldns would cost.
// Spec: RFC 1035 section 4, RFC 6891 (EDNS).
#ifndef GANTRY_SHIM_DNS_MESSAGE_H_
#define GANTRY_SHIM_DNS_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "supervisor/network/names_file.h"

namespace gantry::shim {

// Of those that matter here.
enum class DnsType : uint16_t { kA = 1, kPtr = 12, kMx = 15, kAaaa = 28, kOpt = 41 };

enum class DnsCode : uint8_t {
  kNoError = 0,
  kFormatError = 1,
  kServerFailure = 2,
  kNoSuchName = 3,
  kNotImplemented = 4,
  kRefused = 5
};

// The largest message over UDP without EDNS.
inline constexpr size_t kPlainUdpBytes = 512;
// The largest query that is taken, over UDP and TCP.
inline constexpr size_t kMaxQueryBytes = 4096;
inline constexpr size_t kMaxDnsMessageBytes = 65535;
inline constexpr uint32_t kLocalTtlSeconds = 600;

struct DnsQuestion {
  // In lower case, without the final dot; "" for the root. Bytes of a label that no name of ours
  // contains (dots, NUL, ...) are escaped with a backslash, so that they equal none.
  std::string name;
  DnsType type = DnsType::kA;
  uint16_t network_class = 1;  // 1: Internet
};

struct DnsQuery {
  uint16_t id = 0;
  bool recursion_desired = false;
  DnsQuestion question;
  // The question as it stands in the message.
  absl::string_view question_bytes;
  bool edns = false;
  // What the client takes over UDP: 512, or what it says by EDNS.
  size_t udp_bytes = kPlainUdpBytes;
};

enum class ParsedQuery {
  kGood,
  // To be answered with BuildRefusal(): format error, or not implemented.
  kMalformed,
  kUnknownOperation,
  // Not a query, or too short for an answer.
  kIgnore,
};
// `query` views `message`. Filled for kGood only.
ParsedQuery ParseQuery(absl::string_view message, DnsQuery* query);

// An answer without a question, to a message that is no good query but has a header.
std::string BuildRefusal(absl::string_view message, DnsCode code);

// An answer of our own, of at most `limit` bytes (not less than 512): cut short, and marked so,
// when there are more records than fit.
std::string BuildAnswer(const DnsQuery& query, DnsCode code,
                        const std::vector<network::NameAddress>& addresses, size_t limit);
// The name that has the address asked for. `name` is a DNS name.
std::string BuildPointerAnswer(const DnsQuery& query, absl::string_view name, size_t limit);
// Nothing but "too long, ask by TCP".
std::string BuildTruncated(const DnsQuery& query);

// The address that a reverse query asks for: "2.0.1.10.in-addr.arpa", or 32 nibbles and
// "ip6.arpa", in lower case. Empty optional: no such name.
std::optional<network::NameAddress> AddressOfReverseName(absl::string_view name);

enum class AnswerCheck {
  kGood,
  // An answer to this very question, saying that the server cannot: SERVFAIL or REFUSED.
  kServerFailed,
  // Damaged, or not an answer to this question: as if it had not come.
  kForeign,
};
// Checks what a server sent: id, question, and that it is one whole message, in which every record
// that is commonly used has the shape of its type.
AnswerCheck CheckAnswer(uint16_t id, absl::string_view question_bytes, absl::string_view message);

// Writes another id into a message.
void SetId(uint16_t id, char* message);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_DNS_MESSAGE_H_
