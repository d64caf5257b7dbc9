#include "supervisor/api/cri/stream_link.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"
#include "supervisor/api/cri/spdy_session.h"
#include "supervisor/http/websocket.h"

namespace gantry::api::cri {
namespace {

// Channels of a process on a WebSocket.
constexpr uint32_t kStdin = 0, kStdout = 1, kStderr = 2, kError = 3, kResize = 4;
constexpr char kCloseSignal = static_cast<char>(255);  // version 5: the channel behind it is closed
constexpr char kTunnelProtocol[] = "SPDY/3.1+portforward.k8s.io";
constexpr size_t kMaxSocketMessage = 1 << 20;
constexpr size_t kMaxPiece = 32 << 10;  // of what is sent, so that channels take turns

// ---- SPDY ----

class SpdyLink : public StreamLink {
 public:
  explicit SpdyLink(int version) {
    version_ = version;
    half_close_ = true;
  }

  std::vector<LinkEvent> Begin() override { return {}; }

  absl::StatusOr<std::vector<LinkEvent>> Feed(absl::string_view bytes) override {
    GANTRY_ASSIGN_OR_RETURN(std::vector<SpdyEvent> from, session_.Feed(bytes));
    std::vector<LinkEvent> events;
    for (SpdyEvent& one : from) events.push_back(Translate(std::move(one)));
    return events;
  }

  void Accept(uint32_t channel) override { session_.Accept(channel); }
  void Refuse(uint32_t channel) override {
    session_.Reset(channel, SpdySession::ResetCode::kRefusedStream);
  }
  void Send(uint32_t channel, absl::string_view data) override { session_.Send(channel, data); }
  void Finish(uint32_t channel) override { session_.Finish(channel); }
  void Consumed(uint32_t channel, size_t bytes) override { session_.Consumed(channel, bytes); }
  void End() override { session_.GoAway(); }
  std::string TakeOutput() override { return session_.TakeOutput(); }
  bool has_output() const override { return session_.has_output(); }
  size_t output_bytes() const override { return session_.output_bytes(); }

 private:
  static LinkEvent Translate(SpdyEvent&& one) {
    LinkEvent event;
    event.channel = one.stream;
    event.data = std::move(one.data);
    switch (one.kind) {
      case SpdyEvent::Kind::kOpened:
        event.kind = LinkEvent::Kind::kOpened;
        for (auto& [name, value] : one.headers) {
          const std::string lower = absl::AsciiStrToLower(name);
          if (lower == "streamtype") event.role = absl::AsciiStrToLower(value);
          if (lower == "port") event.port = value;
          if (lower == "requestid") event.request_id = value;
        }
        break;
      case SpdyEvent::Kind::kData:
        event.kind = LinkEvent::Kind::kData;
        break;
      case SpdyEvent::Kind::kFinished:
        event.kind = LinkEvent::Kind::kFinished;
        break;
      case SpdyEvent::Kind::kReset:
        event.kind = LinkEvent::Kind::kReset;
        break;
    }
    return event;
  }

  SpdySession session_;
};

// ---- WebSocket ----

class SocketLink : public StreamLink {
 public:
  SocketLink(int version, bool base64, const LinkPurpose& purpose)
      : base64_(base64), socket_({.message_bytes = kMaxSocketMessage}), purpose_(purpose) {
    version_ = version;
  }

  std::vector<LinkEvent> Begin() override {
    std::vector<LinkEvent> events;
    const auto open = [&](uint32_t channel, const char* role, bool readable) {
      LinkEvent event;
      event.kind = LinkEvent::Kind::kOpened;
      event.channel = channel;
      event.role = role;
      open_[channel] = readable;
      events.push_back(std::move(event));
      return &events.back();
    };
    if (!purpose_.forward) {
      if (purpose_.in) open(kStdin, "stdin", true);
      if (purpose_.out) open(kStdout, "stdout", false);
      if (purpose_.err) open(kStderr, "stderr", false);
      open(kError, "error", false);
      if (purpose_.tty) open(kResize, "resize", true);
      // An empty message on the lowest channel that is written says that the server is ready.
      Message(purpose_.out ? kStdout : purpose_.err ? kStderr : kError, "");
      return events;
    }
    for (size_t i = 0; i < purpose_.ports.size(); ++i) {
      const int32_t port = purpose_.ports[i];
      const uint32_t data = static_cast<uint32_t>(2 * i), error = data + 1;
      for (const uint32_t channel : {error, data}) {
        LinkEvent* event = open(channel, channel == data ? "data" : "error", channel == data);
        event->port = absl::StrCat(port);
        event->request_id = absl::StrCat(i);
      }
      // Each channel begins with its port, the low byte first.
      const std::string number = {static_cast<char>(port & 0xff), static_cast<char>(port >> 8)};
      Message(data, number);
      Message(error, number);
    }
    return events;
  }

  absl::StatusOr<std::vector<LinkEvent>> Feed(absl::string_view bytes) override {
    GANTRY_ASSIGN_OR_RETURN(const std::vector<http::WebSocketMessage> messages,
                            socket_.Feed(bytes));
    std::vector<LinkEvent> events;
    for (const http::WebSocketMessage& one : messages) {
      const absl::Status taken = Take(one.data, events);
      if (taken.ok()) continue;
      socket_.Close(http::CloseCode::kNotAcceptable, taken.message());
      return taken;
    }
    if (socket_.close_received()) {
      LinkEvent event;
      event.kind = LinkEvent::Kind::kClosed;
      events.push_back(std::move(event));
    }
    return events;
  }

  void Accept(uint32_t) override {}
  void Refuse(uint32_t channel) override { open_.erase(channel); }
  void Send(uint32_t channel, absl::string_view data) override {
    if (!open_.contains(channel)) return;
    while (!data.empty()) {
      Message(channel, data.substr(0, kMaxPiece));
      data.remove_prefix(std::min(data.size(), kMaxPiece));
    }
  }
  void Finish(uint32_t channel) override {
    // The close signal of version 5 is the client's alone: it would take the server's for a channel.
    open_.erase(channel);
  }
  void Consumed(uint32_t, size_t) override {}
  void End() override { socket_.Close(http::CloseCode::kNormal); }
  std::string TakeOutput() override { return socket_.TakeOutput(); }
  bool has_output() const override { return socket_.has_output(); }
  size_t output_bytes() const override { return socket_.output_bytes(); }

 private:
  void Message(uint32_t channel, absl::string_view data) {
    if (base64_) {
      socket_.SendText(
          absl::StrCat(std::string(1, static_cast<char>('0' + channel)), absl::Base64Escape(data)));
    } else {
      socket_.SendBinary(absl::StrCat(std::string(1, static_cast<char>(channel)), data));
    }
  }

  // One message of the client: the channel's number, and data for it.
  absl::Status Take(absl::string_view message, std::vector<LinkEvent>& events) {
    if (message.empty()) return absl::OkStatus();
    const uint8_t first = static_cast<uint8_t>(message[0]);
    LinkEvent event;
    if (version_ >= 5 && message[0] == kCloseSignal) {
      if (message.size() != 2) return absl::InvalidArgumentError("a close signal has two bytes");
      event.kind = LinkEvent::Kind::kFinished;
      event.channel = static_cast<uint8_t>(message[1]);
    } else {
      event.kind = LinkEvent::Kind::kData;
      event.channel = base64_ ? first - uint32_t{'0'} : first;
      message.remove_prefix(1);
      if (!base64_) {
        event.data = std::string(message);
      } else if (!absl::Base64Unescape(message, &event.data)) {
        return absl::InvalidArgumentError("a message is not base64");
      }
      if (event.data.empty()) return absl::OkStatus();
    }
    // What comes for a channel that the client does not write to, or that has ended, is dropped.
    const auto found = open_.find(event.channel);
    if (found == open_.end() || !found->second) return absl::OkStatus();
    events.push_back(std::move(event));
    return absl::OkStatus();
  }

  const bool base64_;
  http::WebSocket socket_;
  const LinkPurpose purpose_;
  std::map<uint32_t, bool> open_;  // channels, and whether the client writes to them
};

// SPDY in the messages of a WebSocket, as clients of port-forward speak it that reach an API server
// through proxies without SPDY.
class TunnelLink : public StreamLink {
 public:
  TunnelLink() : socket_({.message_bytes = kMaxSocketMessage}), spdy_(/*version=*/0) {
    half_close_ = true;
  }

  std::vector<LinkEvent> Begin() override { return {}; }

  absl::StatusOr<std::vector<LinkEvent>> Feed(absl::string_view bytes) override {
    GANTRY_ASSIGN_OR_RETURN(const std::vector<http::WebSocketMessage> messages,
                            socket_.Feed(bytes));
    std::vector<LinkEvent> events;
    for (const http::WebSocketMessage& one : messages) {
      GANTRY_ASSIGN_OR_RETURN(std::vector<LinkEvent> fed, spdy_.Feed(one.data));
      std::move(fed.begin(), fed.end(), std::back_inserter(events));
    }
    if (socket_.close_received()) {
      LinkEvent event;
      event.kind = LinkEvent::Kind::kClosed;
      events.push_back(std::move(event));
    }
    return events;
  }

  void Accept(uint32_t channel) override { spdy_.Accept(channel); }
  void Refuse(uint32_t channel) override { spdy_.Refuse(channel); }
  void Send(uint32_t channel, absl::string_view data) override { spdy_.Send(channel, data); }
  void Finish(uint32_t channel) override { spdy_.Finish(channel); }
  void Consumed(uint32_t channel, size_t bytes) override { spdy_.Consumed(channel, bytes); }
  void End() override {
    spdy_.End();
    Wrap();
    socket_.Close(http::CloseCode::kNormal);
  }
  std::string TakeOutput() override {
    Wrap();
    return socket_.TakeOutput();
  }
  bool has_output() const override { return socket_.has_output() || spdy_.has_output(); }
  size_t output_bytes() const override { return socket_.output_bytes() + spdy_.output_bytes(); }

 private:
  void Wrap() {
    const std::string frames = spdy_.TakeOutput();
    for (absl::string_view rest = frames; !rest.empty();
         rest.remove_prefix(std::min(rest.size(), kMaxPiece))) {
      socket_.SendBinary(rest.substr(0, kMaxPiece));
    }
  }

  http::WebSocket socket_;
  SpdyLink spdy_;
};

// ---- negotiation ----

int VersionOf(absl::string_view protocol) {
  for (int version = 2; version <= 5; ++version) {
    if (protocol == absl::StrCat("v", version, ".channel.k8s.io") ||
        protocol == absl::StrCat("v", version, ".base64.channel.k8s.io")) {
      return version;
    }
  }
  return 1;  // channel.k8s.io, base64.channel.k8s.io and none
}

LinkAnswer Refusal(int status, absl::string_view why) {
  LinkAnswer answer;
  answer.status = status;
  answer.fields = {{"Content-Type", "text/plain"}};
  answer.body = absl::StrCat(why, "\n");
  return answer;
}

LinkAnswer NegotiateSocket(const http::RequestHead& head, const LinkPurpose& purpose) {
  std::vector<std::string> supported;
  if (purpose.forward) supported.emplace_back(kTunnelProtocol);
  // Without a tunnel, the channels are one byte, of base64 one digit.
  if (!purpose.forward || (!purpose.ports.empty() && purpose.ports.size() <= 127)) {
    for (const char* one : {"", "channel.k8s.io", "v4.channel.k8s.io"}) supported.emplace_back(one);
  }
  if (!purpose.forward) supported.push_back("v5.channel.k8s.io");
  if (!purpose.forward || (!purpose.ports.empty() && purpose.ports.size() <= 5)) {
    supported.push_back("base64.channel.k8s.io");
    supported.push_back("v4.base64.channel.k8s.io");
  }
  std::string protocol;
  absl::StatusOr<http::Fields> fields = http::AcceptWebSocket(head, supported, protocol);
  if (!fields.ok()) {
    LinkAnswer answer = Refusal(absl::IsUnimplemented(fields.status())        ? 426
                                : absl::IsFailedPrecondition(fields.status()) ? 403
                                                                              : 400,
                                std::string(fields.status().message()));
    if (answer.status == 426) answer.fields.emplace_back("Sec-WebSocket-Version", "13");
    return answer;
  }
  LinkAnswer answer;
  answer.status = 101;
  answer.fields = *std::move(fields);
  if (protocol == kTunnelProtocol) {
    answer.link = std::make_unique<TunnelLink>();
    return answer;
  }
  answer.link = std::make_unique<SocketLink>(purpose.forward ? 0 : VersionOf(protocol),
                                             absl::StrContains(protocol, "base64"), purpose);
  return answer;
}

LinkAnswer NegotiateSpdy(const http::RequestHead& head, const LinkPurpose& purpose) {
  std::vector<std::string> offered;
  for (const auto& [name, value] : head.fields) {
    if (name != "x-stream-protocol-version") continue;
    for (const absl::string_view one : absl::StrSplit(value, ','))
      offered.emplace_back(absl::StripAsciiWhitespace(one));
  }
  if (offered.empty()) return Refusal(400, "the request has no X-Stream-Protocol-Version");
  const std::vector<std::string> supported =
      purpose.forward ? std::vector<std::string>{"portforward.k8s.io"}
                      : std::vector<std::string>{"v4.channel.k8s.io", "v3.channel.k8s.io",
                                                 "v2.channel.k8s.io", "channel.k8s.io"};
  const auto chosen = std::find_if(offered.begin(), offered.end(), [&](const std::string& one) {
    return std::find(supported.begin(), supported.end(), one) != supported.end();
  });
  if (chosen == offered.end()) {
    LinkAnswer answer = Refusal(403, "no version of the protocol in common");
    for (const std::string& one : supported)
      answer.fields.emplace_back("X-Accepted-Stream-Protocol-Versions", one);
    return answer;
  }
  LinkAnswer answer;
  answer.status = 101;
  answer.fields = {
      {"Connection", "Upgrade"}, {"Upgrade", "SPDY/3.1"}, {"X-Stream-Protocol-Version", *chosen}};
  answer.link = std::make_unique<SpdyLink>(purpose.forward ? 0 : VersionOf(*chosen));
  return answer;
}

}  // namespace

LinkAnswer NegotiateLink(const http::RequestHead& head, const LinkPurpose& purpose) {
  if (head.method != "GET" && head.method != "POST") {
    LinkAnswer answer = Refusal(405, "only GET and POST are served");
    answer.fields.emplace_back("Allow", "GET, POST");
    return answer;
  }
  if (http::IsWebSocketUpgrade(head)) return NegotiateSocket(head, purpose);
  if (absl::EqualsIgnoreCase(head.field("upgrade"), "SPDY/3.1") &&
      absl::StrContains(absl::AsciiStrToLower(head.field("connection")), "upgrade")) {
    return NegotiateSpdy(head, purpose);
  }
  return Refusal(400, "the request upgrades to neither SPDY/3.1 nor WebSocket");
}

}  // namespace gantry::api::cri
