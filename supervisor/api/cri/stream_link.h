// One client of the streaming server as numbered channels, whether it speaks SPDY or WebSocket.
//
// A link has no I/O of its own: it is fed what arrived and says what to send. Both protocols look
// the same from here: the client opens channels, each with a role ("stdin", "error", "data", ...),
// and both sides send on them. WebSocket has its channels from the start; the link says that they
// are opened.
//
// Thread-compatible. Protocols: remotecommand and portforward of Kubernetes, versions 1 to 5.
#ifndef GANTRY_SUPERVISOR_API_CRI_STREAM_LINK_H_
#define GANTRY_SUPERVISOR_API_CRI_STREAM_LINK_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "supervisor/http/request_reader.h"

namespace gantry::api::cri {

struct LinkEvent {
  enum class Kind {
    kOpened,
    kData,
    kFinished,  // the client sends no more on this channel
    kReset,     // the channel has ended
    kClosed,    // the client has closed the connection properly
  };
  Kind kind = Kind::kOpened;
  uint32_t channel = 0;
  std::string data = {};
  // Of kOpened.
  std::string role = {};        // "streamtype" of the protocol
  std::string port = {};        // of a forwarded connection
  std::string request_id = {};  // what its two channels have in common; "" the client gives none
};

class StreamLink {
 public:
  virtual ~StreamLink() = default;

  // What there is before the client has sent anything.
  virtual std::vector<LinkEvent> Begin() = 0;
  // After an error: send the output, then close.
  virtual absl::StatusOr<std::vector<LinkEvent>> Feed(absl::string_view bytes) = 0;
  // Whether a channel that the client opened is wanted; to be said once for each.
  virtual void Accept(uint32_t channel) = 0;
  virtual void Refuse(uint32_t channel) = 0;
  // Nothing happens for a channel that has ended.
  virtual void Send(uint32_t channel, absl::string_view data) = 0;
  virtual void Finish(uint32_t channel) = 0;
  // The caller has dealt with so many bytes.
  virtual void Consumed(uint32_t channel, size_t bytes) = 0;
  // Nothing more is sent; ends the connection in the way of the protocol.
  virtual void End() = 0;

  virtual std::string TakeOutput() = 0;
  virtual bool has_output() const = 0;
  // That and what waits for the client's permission.
  virtual size_t output_bytes() const = 0;

  // 1 to 5, of remotecommand; 0 for port-forward.
  int version() const { return version_; }
  // Whether the client can send its terminal's size.
  bool has_resize() const { return version_ >= 3; }
  // Whether a process's end is told as JSON.
  bool has_status() const { return version_ >= 4; }
  // Whether the client can end one direction of a channel (port-forward).
  bool has_half_close() const { return half_close_; }

 protected:
  int version_ = 0;
  bool half_close_ = false;
};

// What a connection is for.
struct LinkPurpose {
  bool forward = false;  // port-forward; else a process with these streams
  bool tty = false;
  bool in = false;
  bool out = false;
  bool err = false;
  std::vector<int32_t> ports = {};  // of a WebSocket's port-forward
};

// The answer to a request that asks for one of the protocols.
struct LinkAnswer {
  int status = 400;
  http::Fields fields;
  std::string body;
  std::unique_ptr<StreamLink> link;  // with status 101
};
LinkAnswer NegotiateLink(const http::RequestHead& head, const LinkPurpose& purpose);

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_STREAM_LINK_H_
