#include "shim/dns_message.h"

#include <arpa/nameser.h>
#include <resolv.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace gantry::shim {
namespace {

constexpr size_t kHeader = 12;
constexpr size_t kTypeAndClass = 4;  // of a question
constexpr uint16_t kResponse = 0x8000;
constexpr uint16_t kOperationMask = 0x7800;
constexpr uint16_t kTruncated = 0x0200;
constexpr uint16_t kRecursionDesired = 0x0100;
constexpr uint16_t kRecursionAvailable = 0x0080;
constexpr uint16_t kCodeMask = 0x000f;
constexpr unsigned kInternet = 1;
// What we take over UDP, said by EDNS: kept out of fragments.
constexpr uint16_t kOurUdpBytes = 1232;
constexpr size_t kMaxUdpBytes = 4096;
constexpr size_t kOptBytes = 11;
// A pointer to the question's name, which stands behind the header.
constexpr uint16_t kPointerToQuestion = 0xc000 | kHeader;

const unsigned char* Bytes(absl::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

uint16_t Get16(absl::string_view message, size_t at) {
  return static_cast<uint16_t>(Bytes(message)[at] << 8 | Bytes(message)[at + 1]);
}

void Put16(std::string& out, unsigned value) {
  out.push_back(static_cast<char>(value >> 8 & 0xff));
  out.push_back(static_cast<char>(value & 0xff));
}

void Put32(std::string& out, uint32_t value) {
  Put16(out, value >> 16);
  Put16(out, value & 0xffff);
}

void Set16(std::string& out, size_t at, unsigned value) {
  out[at] = static_cast<char>(value >> 8 & 0xff);
  out[at + 1] = static_cast<char>(value & 0xff);
}

// Walks over the parts of a message. Each step is false at the end of the message or at a name
// that is none.
class Walk {
 public:
  Walk(absl::string_view message, size_t at) : message_(message), at_(at) {}

  size_t at() const { return at_; }
  bool AtEnd() const { return at_ == message_.size(); }
  bool Skip(size_t bytes) {
    if (message_.size() - at_ < bytes) return false;
    at_ += bytes;
    return true;
  }
  bool Number16(uint16_t* value) {
    if (message_.size() - at_ < 2) return false;
    *value = Get16(message_, at_);
    at_ += 2;
    return true;
  }
  // A whole name, followed through its pointers. `wire`, if not null, gets it without them.
  bool Name(unsigned char* wire = nullptr) {
    unsigned char ignored[NS_MAXCDNAME];
    if (AtEnd()) return false;
    const unsigned char* const begin = Bytes(message_);
    const int used = ns_name_unpack(begin, begin + message_.size(), begin + at_,
                                    wire == nullptr ? ignored : wire, NS_MAXCDNAME);
    if (used < 0) return false;
    at_ += static_cast<size_t>(used);
    return at_ <= message_.size();
  }

 private:
  const absl::string_view message_;
  size_t at_;
};

// The content of one record, from `at` on: what a client would trip over.
bool HasShapeOfType(absl::string_view message, size_t at, size_t size, uint16_t type) {
  const absl::string_view until_end = message.substr(0, at + size);
  Walk walk(until_end, at);
  switch (type) {
    case ns_t_a:
      return size == 4;
    case ns_t_aaaa:
      return size == 16;
    case ns_t_ns:
    case ns_t_cname:
    case ns_t_ptr:
    case ns_t_dname:
      return walk.Name() && walk.AtEnd();
    case ns_t_mx:
      return walk.Skip(2) && walk.Name() && walk.AtEnd();
    case ns_t_srv:
      return walk.Skip(6) && walk.Name() && walk.AtEnd();
    case ns_t_soa:
      return walk.Name() && walk.Name() && walk.Skip(20) && walk.AtEnd();
    default:
      return true;
  }
}

struct Record {
  uint16_t type;
  uint16_t network_class;
};
bool NextRecord(absl::string_view message, Walk& walk, Record* record) {
  uint16_t size;
  if (!walk.Name() || !walk.Number16(&record->type) || !walk.Number16(&record->network_class) ||
      !walk.Skip(4) || !walk.Number16(&size))
    return false;
  const size_t content = walk.at();
  return walk.Skip(size) && HasShapeOfType(message, content, size, record->type);
}

// Name, type, class; the name without pointers, because there is nothing in front of it. Returns
// the length, 0 if it is no question.
size_t TakeQuestion(absl::string_view message, DnsQuestion* question) {
  size_t at = kHeader;
  while (at < message.size() && message[at] != '\0') {
    if (Bytes(message)[at] > NS_MAXLABEL) return 0;
    at += Bytes(message)[at] + 1;
  }
  Walk walk(message, kHeader);
  unsigned char wire[NS_MAXCDNAME];
  uint16_t type;
  if (!walk.Name(wire) || !walk.Number16(&type) || !walk.Number16(&question->network_class))
    return 0;
  char text[NS_MAXDNAME];
  if (ns_name_ntop(wire, text, sizeof text) < 0) return 0;
  question->name = absl::AsciiStrToLower(text);
  if (question->name == ".") question->name.clear();
  question->type = static_cast<DnsType>(type);
  return walk.at() - kHeader;
}

std::string Header(const DnsQuery& query, DnsCode code, unsigned more_flags) {
  std::string out;
  out.reserve(kPlainUdpBytes);
  Put16(out, query.id);
  Put16(out, kResponse | kRecursionAvailable | more_flags | static_cast<unsigned>(code) |
                 (query.recursion_desired ? kRecursionDesired : 0u));
  Put16(out, 1);
  Put16(out, 0);
  Put16(out, 0);
  Put16(out, query.edns ? 1 : 0);
  out.append(query.question_bytes.data(), query.question_bytes.size());
  return out;
}

void PutOpt(const DnsQuery& query, std::string& out) {
  if (!query.edns) return;
  out.push_back('\0');
  Put16(out, ns_t_opt);
  Put16(out, kOurUdpBytes);
  Put32(out, 0);
  Put16(out, 0);
}

void PutRecordHead(std::string& out, DnsType type, size_t content_bytes) {
  Put16(out, kPointerToQuestion);
  Put16(out, static_cast<unsigned>(type));
  Put16(out, kInternet);
  Put32(out, kLocalTtlSeconds);
  Put16(out, static_cast<unsigned>(content_bytes));
}

// The parts of a reverse name, last first, without its ending.
std::vector<absl::string_view> ReversedLabels(absl::string_view name) {
  std::vector<absl::string_view> labels = absl::StrSplit(name, '.');
  std::reverse(labels.begin(), labels.end());
  return labels;
}

}  // namespace

ParsedQuery ParseQuery(absl::string_view message, DnsQuery* query) {
  if (message.size() < kHeader) return ParsedQuery::kIgnore;
  const uint16_t flags = Get16(message, 2);
  if ((flags & kResponse) != 0) return ParsedQuery::kIgnore;
  if ((flags & kOperationMask) != 0) return ParsedQuery::kUnknownOperation;
  if (message.size() > kMaxQueryBytes || Get16(message, 4) != 1) return ParsedQuery::kMalformed;
  const size_t question = TakeQuestion(message, &query->question);
  if (question == 0) return ParsedQuery::kMalformed;
  query->id = Get16(message, 0);
  query->recursion_desired = (flags & kRecursionDesired) != 0;
  query->question_bytes = message.substr(kHeader, question);
  query->edns = false;
  query->udp_bytes = kPlainUdpBytes;
  Walk walk(message, kHeader + question);
  const int records = Get16(message, 6) + Get16(message, 8) + Get16(message, 10);
  for (int i = 0; i < records; ++i) {
    Record record;
    if (!NextRecord(message, walk, &record)) return ParsedQuery::kMalformed;
    if (record.type != ns_t_opt) continue;
    if (query->edns) return ParsedQuery::kMalformed;
    query->edns = true;
    query->udp_bytes = std::clamp<size_t>(record.network_class, kPlainUdpBytes, kMaxUdpBytes);
  }
  return walk.AtEnd() ? ParsedQuery::kGood : ParsedQuery::kMalformed;
}

std::string BuildRefusal(absl::string_view message, DnsCode code) {
  std::string out(message.substr(0, 2));
  const unsigned kept = Get16(message, 2) & (kOperationMask | kRecursionDesired);
  Put16(out, kResponse | kept | static_cast<unsigned>(code));
  out.append(kHeader - out.size(), '\0');
  return out;
}

std::string BuildAnswer(const DnsQuery& query, DnsCode code,
                        const std::vector<network::NameAddress>& addresses, size_t limit) {
  std::string out = Header(query, code, 0);
  const size_t room = limit - (query.edns ? kOptBytes : 0);
  unsigned count = 0;
  for (const network::NameAddress& address : addresses) {
    if (out.size() + kHeader + address.size > room) {
      Set16(out, 2, Get16(out, 2) | kTruncated);
      break;
    }
    PutRecordHead(out, address.size == 4 ? DnsType::kA : DnsType::kAaaa, address.size);
    out.append(reinterpret_cast<const char*>(address.bytes), address.size);
    ++count;
  }
  Set16(out, 6, count);
  PutOpt(query, out);
  return out;
}

std::string BuildPointerAnswer(const DnsQuery& query, absl::string_view name, size_t limit) {
  unsigned char wire[NS_MAXCDNAME];
  if (ns_name_pton(std::string(name).c_str(), wire, sizeof wire) < 0)
    return BuildAnswer(query, DnsCode::kServerFailure, {}, limit);
  size_t size = 0;
  while (wire[size] != 0) size += wire[size] + 1u;
  ++size;
  std::string out = Header(query, DnsCode::kNoError, 0);
  if (out.size() + kHeader + size + kOptBytes > limit) return BuildTruncated(query);
  PutRecordHead(out, DnsType::kPtr, size);
  out.append(reinterpret_cast<const char*>(wire), size);
  Set16(out, 6, 1);
  PutOpt(query, out);
  return out;
}

std::string BuildTruncated(const DnsQuery& query) {
  std::string out = Header(query, DnsCode::kNoError, kTruncated);
  PutOpt(query, out);
  return out;
}

std::optional<network::NameAddress> AddressOfReverseName(absl::string_view name) {
  if (absl::ConsumeSuffix(&name, ".in-addr.arpa")) {
    const std::vector<absl::string_view> labels = ReversedLabels(name);
    if (labels.size() != 4) return std::nullopt;
    return network::NameAddress::Parse(absl::StrJoin(labels, "."));
  }
  if (!absl::ConsumeSuffix(&name, ".ip6.arpa") || name.size() != 63) return std::nullopt;
  network::NameAddress address;
  address.size = 16;
  const std::vector<absl::string_view> labels = ReversedLabels(name);
  if (labels.size() != 32) return std::nullopt;
  for (size_t i = 0; i < labels.size(); ++i) {
    uint32_t nibble;
    if (labels[i].size() != 1 || !absl::SimpleHexAtoi(labels[i], &nibble)) return std::nullopt;
    address.bytes[i / 2] = static_cast<uint8_t>(address.bytes[i / 2] << 4 | nibble);
  }
  return address;
}

AnswerCheck CheckAnswer(uint16_t id, absl::string_view question_bytes, absl::string_view message) {
  if (message.size() < kHeader || Get16(message, 0) != id) return AnswerCheck::kForeign;
  const uint16_t flags = Get16(message, 2);
  if ((flags & kResponse) == 0 || (flags & kOperationMask) != 0) return AnswerCheck::kForeign;
  const auto code = static_cast<DnsCode>(flags & kCodeMask);
  const AnswerCheck good = code == DnsCode::kServerFailure || code == DnsCode::kRefused
                               ? AnswerCheck::kServerFailed
                               : AnswerCheck::kGood;
  // Servers that do not understand a query may leave the question out.
  if (code != DnsCode::kNoError && Get16(message, 4) == 0 && message.size() == kHeader) return good;
  // Servers repeat the question as it was asked, but for the case of letters.
  const size_t name_bytes = question_bytes.size() - kTypeAndClass;
  if (Get16(message, 4) != 1 || message.size() < kHeader + question_bytes.size() ||
      !absl::EqualsIgnoreCase(message.substr(kHeader, name_bytes),
                              question_bytes.substr(0, name_bytes)) ||
      message.substr(kHeader + name_bytes, kTypeAndClass) != question_bytes.substr(name_bytes))
    return AnswerCheck::kForeign;
  Walk walk(message, kHeader + question_bytes.size());
  const int records = Get16(message, 6) + Get16(message, 8) + Get16(message, 10);
  for (int i = 0; i < records; ++i) {
    Record record;
    if (!NextRecord(message, walk, &record)) return AnswerCheck::kForeign;
  }
  if (!walk.AtEnd()) return AnswerCheck::kForeign;
  return good;
}

void SetId(uint16_t id, char* message) {
  message[0] = static_cast<char>(id >> 8);
  message[1] = static_cast<char>(id & 0xff);
}

}  // namespace gantry::shim
