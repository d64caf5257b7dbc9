// The server's side of a SPDY/3.1 connection: frames in, events out, and the other way round.
//
// A session has no I/O of its own: it is fed what arrived and says what to send. Only the client
// opens streams; the server's pushed streams are not used. Memory: control frames are at most
// kMaxControlBytes, data is handed on as it arrives, and what the caller sends is in output_bytes(),
// which the caller watches. Go's library, which kubelet's clients use, neither sends nor obeys
// windows, so they count only once the client has shown that it knows them, by SETTINGS with an
// initial window or by WINDOW_UPDATE.
//
// Thread-compatible. Spec: SPDY Protocol draft 3 and 3.1.
#ifndef GANTRY_SUPERVISOR_API_CRI_SPDY_SESSION_H_
#define GANTRY_SUPERVISOR_API_CRI_SPDY_SESSION_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "supervisor/api/cri/spdy_headers.h"

namespace gantry::api::cri {

struct SpdyEvent {
  enum class Kind {
    kOpened,    // headers; answer with Accept() or Reset()
    kData,      // data, not empty
    kFinished,  // the client sends no more on this stream
    kReset,     // the stream has ended; nothing can be sent on it
  };
  Kind kind = Kind::kOpened;
  uint32_t stream = 0;
  SpdyHeaders headers = {};
  std::string data = {};
};

class SpdySession {
 public:
  static constexpr size_t kMaxControlBytes = 64 << 10;
  static constexpr size_t kMaxStreams = 512;  // open at once; further ones are refused

  enum class ResetCode : uint32_t {
    kProtocolError = 1,
    kInvalidStream = 2,
    kRefusedStream = 3,
    kCancel = 5,
    kInternalError = 6,
    kFlowControlError = 7,
    kStreamInUse = 8,
  };

  // Takes bytes of the client. After an error nothing more is accepted: send the output, which ends
  // with GOAWAY, and close the connection.
  //   kInvalidArgument    the client broke the protocol
  //   kResourceExhausted  a frame or a header block is larger than the limits
  absl::StatusOr<std::vector<SpdyEvent>> Feed(absl::string_view bytes);

  // All of these do nothing for a stream that has ended.
  void Accept(uint32_t stream);
  void Reset(uint32_t stream, ResetCode code);
  void Send(uint32_t stream, absl::string_view data);
  // The server sends no more on this stream.
  void Finish(uint32_t stream);
  // The caller has dealt with so many bytes of a stream's data: the client's window opens again.
  void Consumed(uint32_t stream, size_t bytes);
  // No further streams are accepted.
  void GoAway();

  // Can be sent now, in order; the caller's from now on.
  std::string TakeOutput();
  bool has_output() const { return !output_.empty(); }
  // What can be sent now and what waits for the client's windows.
  size_t output_bytes() const { return output_.size() + waiting_bytes_; }
  bool going_away() const { return going_away_; }
  size_t streams() const { return streams_.size(); }

 private:
  struct Stream {
    bool remote_finished = false;
    bool local_finished = false;
    int64_t send_window = 0;
    std::string waiting = {};  // for the window
    bool finish_waiting = false;
    uint32_t uncredited = 0;  // bytes dealt with that the client's window is to be opened by
  };
  // A frame of which the payload is still to come, whole (control) or in pieces (data).
  struct Frame {
    bool control = false;
    uint16_t type = 0;
    uint8_t flags = 0;
    uint32_t stream = 0;  // of data
    uint32_t left = 0;    // bytes of the payload
  };

  absl::Status Read(std::vector<SpdyEvent>& events);
  absl::StatusOr<bool> ReadHeader();
  absl::Status OnControl(absl::string_view payload, std::vector<SpdyEvent>& events);
  absl::Status OnOpen(absl::string_view payload, std::vector<SpdyEvent>& events);
  absl::Status OnSettings(absl::string_view payload);
  absl::Status OnWindowUpdate(absl::string_view payload);
  void OnData(absl::string_view data, bool last, std::vector<SpdyEvent>& events);
  void OnFinished(uint32_t id, std::vector<SpdyEvent>& events);

  void Control(uint16_t type, uint8_t flags, absl::string_view payload);
  void Data(uint32_t stream, uint8_t flags, absl::string_view data);
  void SendWaiting(uint32_t id, Stream& stream);
  void SendAllWaiting();
  void Credit(uint32_t id, uint32_t& uncredited);
  void DropIfEnded(uint32_t id);

  SpdyHeaderReader reader_;
  SpdyHeaderWriter writer_;
  std::string input_;  // what is not read yet; less than a control frame
  size_t at_ = 0;      // up to here it is read, within one Feed()
  bool in_frame_ = false;
  Frame frame_;
  std::map<uint32_t, Stream> streams_;
  uint32_t last_stream_ = 0;
  std::string output_;
  size_t waiting_bytes_ = 0;
  bool failed_ = false;
  bool going_away_ = false;    // by the client
  bool refusing_ = false;      // GoAway() was called
  bool flow_control_ = false;  // the client has shown that it knows windows
  int64_t initial_window_ = 64 << 10;
  int64_t session_window_ = 64 << 10;
  uint32_t session_uncredited_ = 0;
};

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_SPDY_SESSION_H_
