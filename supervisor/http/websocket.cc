#include "supervisor/http/websocket.h"

#include <openssl/evp.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"
#include "base/utf8.h"

namespace gantry::http {
namespace {

constexpr uint8_t kContinuation = 0, kText = 1, kBinary = 2, kClose = 8, kPing = 9, kPong = 10;
constexpr size_t kMaxControlBytes = 125;
// Joined to the client's key, it proves that the server knows the protocol (RFC 6455 section 1.3).
constexpr char kKeySuffix[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

// The comma-separated values of all fields of this name.
std::vector<std::string> ListOf(const RequestHead& head, absl::string_view name) {
  std::vector<std::string> all;
  for (const auto& [field, value] : head.fields) {
    if (field != name) continue;
    for (const absl::string_view one : absl::StrSplit(value, ',')) {
      const absl::string_view stripped = absl::StripAsciiWhitespace(one);
      if (!stripped.empty()) all.emplace_back(stripped);
    }
  }
  return all;
}

bool HasWord(const std::vector<std::string>& words, absl::string_view word) {
  return std::any_of(words.begin(), words.end(),
                     [word](const std::string& one) { return absl::EqualsIgnoreCase(one, word); });
}

std::string AnswerTo(const std::string& key) {
  const std::string text = absl::StrCat(key, kKeySuffix);
  unsigned char hash[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_Digest(text.data(), text.size(), hash, &size, EVP_sha1(), nullptr);
  return absl::Base64Escape(absl::string_view(reinterpret_cast<const char*>(hash), size));
}

bool IsCloseCode(uint16_t code) {
  if (code >= 3000) return code < 5000;
  return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
}

}  // namespace

bool IsWebSocketUpgrade(const RequestHead& head) {
  return HasWord(ListOf(head, "upgrade"), "websocket") &&
         HasWord(ListOf(head, "connection"), "upgrade");
}

absl::StatusOr<Fields> AcceptWebSocket(const RequestHead& head,
                                       const std::vector<std::string>& supported,
                                       std::string& protocol) {
  if (!IsWebSocketUpgrade(head))
    return absl::InvalidArgumentError("the request does not ask for a WebSocket");
  if (head.method != "GET" || head.http_1_0)
    return absl::InvalidArgumentError("a WebSocket begins with GET of HTTP/1.1");
  if (head.field("sec-websocket-version") != "13")
    return absl::UnimplementedError("only version 13 of WebSocket is served");
  const std::string& key = head.field("sec-websocket-key");
  std::string nonce;
  if (!absl::Base64Unescape(key, &nonce) || nonce.size() != 16)
    return absl::InvalidArgumentError("Sec-WebSocket-Key is not 16 bytes in base64");

  const std::vector<std::string> offered = ListOf(head, "sec-websocket-protocol");
  const auto is_supported = [&supported](const std::string& one) {
    return std::find(supported.begin(), supported.end(), one) != supported.end();
  };
  const auto chosen = std::find_if(offered.begin(), offered.end(), is_supported);
  if (offered.empty() ? !is_supported("") : chosen == offered.end()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "no WebSocket subprotocol in common; served are: ", absl::StrJoin(supported, ", ")));
  }
  protocol = offered.empty() ? "" : *chosen;
  Fields fields = {
      {"Upgrade", "websocket"}, {"Connection", "Upgrade"}, {"Sec-WebSocket-Accept", AnswerTo(key)}};
  if (!protocol.empty()) fields.emplace_back("Sec-WebSocket-Protocol", protocol);
  return fields;
}

absl::StatusOr<std::vector<WebSocketMessage>> WebSocket::Feed(absl::string_view bytes) {
  if (failed_) return absl::FailedPreconditionError("the WebSocket has failed");
  std::vector<WebSocketMessage> messages;
  input_.append(bytes.data(), bytes.size());
  size_t at = 0;
  while (!close_received_) {
    const absl::string_view rest = absl::string_view(input_).substr(at);
    const absl::StatusOr<std::optional<Header>> header = ReadHeader(rest);
    if (!header.ok()) return Fail(header.status());
    if (!header->has_value() || rest.size() - (*header)->size < (*header)->length) break;
    const Header& frame = **header;
    std::string payload(rest.substr(frame.size, frame.length));
    for (size_t i = 0; i < payload.size(); ++i)
      payload[i] = static_cast<char>(payload[i] ^ frame.mask[i % 4]);
    at += frame.size + frame.length;
    const absl::Status taken = OnFrame(frame, std::move(payload), messages);
    if (!taken.ok()) return Fail(taken);
  }
  // What comes behind a close frame is not read.
  input_.erase(0, close_received_ ? input_.size() : at);
  return messages;
}

absl::StatusOr<std::optional<WebSocket::Header>> WebSocket::ReadHeader(
    absl::string_view bytes) const {
  const auto byte = [bytes](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  if (bytes.size() < 2) return std::nullopt;
  Header header;
  header.final = (byte(0) & 0x80) != 0;
  header.opcode = byte(0) & 0x0f;
  if ((byte(0) & 0x70) != 0)
    return absl::InvalidArgumentError("a frame uses an extension that was not agreed on");
  if ((byte(1) & 0x80) == 0) return absl::InvalidArgumentError("a frame is not masked");
  const uint8_t short_length = byte(1) & 0x7f;
  const size_t more = short_length == 126 ? 2 : short_length == 127 ? 8 : 0;
  header.size = 2 + more + 4;
  // Refused from its first bytes on: what would follow need not be waited for.
  const bool control = (header.opcode & 8) != 0;
  if (control && (short_length > kMaxControlBytes || !header.final))
    return absl::InvalidArgumentError("a control frame is longer than 125 bytes or in fragments");
  if (bytes.size() < header.size) return std::nullopt;
  header.length = short_length;
  if (more > 0) {
    header.length = 0;
    for (size_t i = 0; i < more; ++i) header.length = header.length << 8 | byte(2 + i);
    if (header.length >> 63 != 0 || header.length < (more == 2 ? 126u : 65536u))
      return absl::InvalidArgumentError("a frame's length is not written in its shortest form");
  }
  const size_t had = partial_.has_value() ? partial_->data.size() : 0;
  if (header.length > limits_.message_bytes ||
      (!control && header.length + had > limits_.message_bytes)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a message is larger than ", limits_.message_bytes, " bytes"));
  }
  for (size_t i = 0; i < 4; ++i) header.mask[i] = byte(2 + more + i);
  return header;
}

absl::Status WebSocket::OnFrame(const Header& header, std::string payload,
                                std::vector<WebSocketMessage>& messages) {
  if ((header.opcode & 8) != 0) return OnControl(header.opcode, payload);
  switch (header.opcode) {
    case kContinuation:
      if (!partial_.has_value())
        return absl::InvalidArgumentError("a fragment continues no message");
      partial_->data += payload;
      break;
    case kText:
    case kBinary:
      if (partial_.has_value())
        return absl::InvalidArgumentError("a message begins within the fragments of another");
      partial_ = WebSocketMessage{.text = header.opcode == kText, .data = std::move(payload)};
      break;
    default:
      return absl::InvalidArgumentError("a frame has a reserved opcode");
  }
  if (!header.final) return absl::OkStatus();
  if (partial_->text && !IsValidUtf8(partial_->data))
    return absl::DataLossError("a text message is not UTF-8");
  messages.push_back(*std::move(partial_));
  partial_.reset();
  return absl::OkStatus();
}

absl::Status WebSocket::OnControl(uint8_t opcode, const std::string& payload) {
  switch (opcode) {
    case kClose:
      return OnClose(payload);
    case kPing:
      Send(kPong, payload);
      return absl::OkStatus();
    case kPong:
      return absl::OkStatus();
    default:
      return absl::InvalidArgumentError("a frame has a reserved opcode");
  }
}

absl::Status WebSocket::OnClose(const std::string& payload) {
  if (payload.size() == 1) return absl::InvalidArgumentError("a close frame has half a code");
  if (payload.size() >= 2) {
    const uint16_t code = static_cast<uint16_t>(static_cast<uint8_t>(payload[0]) << 8 |
                                                static_cast<uint8_t>(payload[1]));
    if (!IsCloseCode(code)) return absl::InvalidArgumentError("a close frame has a reserved code");
    if (!IsValidUtf8(absl::string_view(payload).substr(2)))
      return absl::DataLossError("the reason of a close frame is not UTF-8");
    peer_code_ = code;
  }
  close_received_ = true;
  partial_.reset();
  // The answer has the client's code.
  Send(kClose, absl::string_view(payload).substr(0, 2));
  close_sent_ = true;
  return absl::OkStatus();
}

void WebSocket::Close(CloseCode code, absl::string_view reason) {
  const uint16_t number = static_cast<uint16_t>(code);
  std::string payload = {static_cast<char>(number >> 8), static_cast<char>(number & 0xff)};
  const std::string valid = ToValidUtf8(reason);
  const absl::string_view cut = Utf8Prefix(valid, kMaxControlBytes - payload.size());
  payload.append(cut.data(), cut.size());
  Send(kClose, payload);
  close_sent_ = true;
}

std::string WebSocket::TakeOutput() { return std::exchange(output_, {}); }

void WebSocket::Send(uint8_t opcode, absl::string_view payload) {
  if (close_sent_) return;
  output_ += static_cast<char>(0x80 | opcode);
  if (payload.size() < 126) {
    output_ += static_cast<char>(payload.size());
  } else {
    const int bytes = payload.size() < 65536 ? 2 : 8;
    output_ += static_cast<char>(bytes == 2 ? 126 : 127);
    for (int i = bytes - 1; i >= 0; --i)
      output_ += static_cast<char>(static_cast<uint64_t>(payload.size()) >> (8 * i) & 0xff);
  }
  output_.append(payload.data(), payload.size());
}

absl::Status WebSocket::Fail(absl::Status status) {
  failed_ = true;
  input_.clear();
  partial_.reset();
  // DataLoss is this class's own mark of text that is not UTF-8.
  if (absl::IsDataLoss(status)) {
    Close(CloseCode::kInvalidText, status.message());
    return absl::InvalidArgumentError(status.message());
  }
  Close(absl::IsResourceExhausted(status) ? CloseCode::kTooBig : CloseCode::kProtocolError,
        status.message());
  return status;
}

}  // namespace gantry::http
