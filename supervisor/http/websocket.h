// The server's side of WebSocket: the handshake, and frames without their connection.
//
// A WebSocket has no I/O of its own: it is fed what arrived and says what to send, so that it works
// in a loop that waits for several things. What a hostile client sends ends it with a close frame
// and an error; memory is bounded by WebSocketLimits. Extensions are not offered.
//
// Thread-compatible. Spec: RFC 6455.
#ifndef GANTRY_SUPERVISOR_HTTP_WEBSOCKET_H_
#define GANTRY_SUPERVISOR_HTTP_WEBSOCKET_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "supervisor/http/request_reader.h"

namespace gantry::http {

// Whether a request asks for a WebSocket.
bool IsWebSocketUpgrade(const RequestHead& head);

// Fields of the response 101 to such a request, which Exchange::Respond(101, fields, "") sends
// before Hijack(). `supported`: subprotocols that the server speaks, the empty one for none. The
// client's first choice among them is chosen, and returned in `protocol`.
//   kInvalidArgument     not a valid handshake: answer 400
//   kUnimplemented       another version than 13: answer 426 with "Sec-WebSocket-Version: 13"
//   kFailedPrecondition  no subprotocol in common: answer 403
absl::StatusOr<Fields> AcceptWebSocket(const RequestHead& head,
                                       const std::vector<std::string>& supported,
                                       std::string& protocol);

struct WebSocketLimits {
  size_t message_bytes = 1 << 20;  // of one message, all its fragments together
};

// Codes of close frames.
enum class CloseCode : uint16_t {
  kNormal = 1000,
  kGoingAway = 1001,
  kProtocolError = 1002,
  kNotAcceptable = 1003,
  kInvalidText = 1007,
  kTooBig = 1009,
  kInternalError = 1011,
};

struct WebSocketMessage {
  bool text = false;  // then it is UTF-8
  std::string data;
};

class WebSocket {
 public:
  explicit WebSocket(const WebSocketLimits& limits = {}) : limits_(limits) {}

  // Takes bytes of the client and returns the messages that they complete. Pings are answered and a
  // close frame is, both in TakeOutput(). After an error nothing more is accepted: send the output,
  // which ends with a close frame, and close the connection.
  //   kInvalidArgument    the client broke the protocol
  //   kResourceExhausted  a message is larger than the limit
  absl::StatusOr<std::vector<WebSocketMessage>> Feed(absl::string_view bytes);

  // Each appends a frame to the output; nothing after Close().
  void SendText(absl::string_view data) { Send(1, data); }
  void SendBinary(absl::string_view data) { Send(2, data); }
  void Ping(absl::string_view data = "") { Send(9, data); }
  // `reason` is cut to what a close frame has room for.
  void Close(CloseCode code, absl::string_view reason = "");

  // What is to be sent, in order; the caller's from now on.
  std::string TakeOutput();
  bool has_output() const { return !output_.empty(); }
  size_t output_bytes() const { return output_.size(); }

  // The client sent a close frame: nothing more will come.
  bool close_received() const { return close_received_; }
  // Its code; nullopt: none was given, or none has come.
  std::optional<uint16_t> peer_code() const { return peer_code_; }
  bool close_sent() const { return close_sent_; }

 private:
  struct Header {
    bool final = false;
    uint8_t opcode = 0;
    uint64_t length = 0;
    uint8_t mask[4] = {};
    size_t size = 0;  // of the header itself
  };
  // nullopt: more bytes are needed.
  absl::StatusOr<std::optional<Header>> ReadHeader(absl::string_view bytes) const;
  absl::Status OnFrame(const Header& header, std::string payload,
                       std::vector<WebSocketMessage>& messages);
  absl::Status OnControl(uint8_t opcode, const std::string& payload);
  absl::Status OnClose(const std::string& payload);
  void Send(uint8_t opcode, absl::string_view payload);
  // Ends the WebSocket with a close frame that says why.
  absl::Status Fail(absl::Status status);

  const WebSocketLimits limits_;
  std::string input_;                        // bytes of an incomplete frame
  std::optional<WebSocketMessage> partial_;  // a message whose fragments are not complete
  std::string output_;
  bool failed_ = false;
  bool close_received_ = false;
  bool close_sent_ = false;
  std::optional<uint16_t> peer_code_;
};

}  // namespace gantry::http

#endif  // GANTRY_SUPERVISOR_HTTP_WEBSOCKET_H_
