#include "supervisor/api/cri/spdy_session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"

namespace gantry::api::cri {
namespace {

constexpr uint16_t kVersion = 3;
constexpr uint16_t kSynStream = 1, kSynReply = 2, kRstStream = 3, kSettings = 4, kPing = 6,
                   kGoAway = 7, kHeaders = 8, kWindowUpdate = 9;
constexpr uint8_t kFin = 1, kUnidirectional = 2;
constexpr uint32_t kInitialWindow = 7;  // id of a setting
constexpr size_t kHeaderBytes = 8;
constexpr size_t kMaxDataFrame = 32 << 10;  // as Go's library writes them
constexpr int64_t kMaxWindow = 0x7fffffff;
constexpr uint32_t kStreamMask = 0x7fffffff;

uint32_t Uint32At(absl::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

void AppendUint(std::string& out, uint32_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
    out += static_cast<char>(value >> shift & 0xff);
}

std::string Uint32s(uint32_t a, uint32_t b) {
  std::string out;
  AppendUint(out, a, 4);
  AppendUint(out, b, 4);
  return out;
}

absl::Status Broken(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("SPDY: ", what));
}

}  // namespace

absl::StatusOr<std::vector<SpdyEvent>> SpdySession::Feed(absl::string_view bytes) {
  if (failed_) return absl::FailedPreconditionError("SPDY: the session has failed");
  input_.append(bytes.data(), bytes.size());
  std::vector<SpdyEvent> events;
  const absl::Status status = Read(events);
  input_.erase(0, at_);
  at_ = 0;
  if (status.ok()) return events;
  failed_ = true;
  Control(kGoAway, 0, Uint32s(last_stream_, 1));
  return status;
}

absl::Status SpdySession::Read(std::vector<SpdyEvent>& events) {
  while (true) {
    if (!in_frame_) {
      GANTRY_ASSIGN_OR_RETURN(in_frame_, ReadHeader());
      if (!in_frame_) return absl::OkStatus();
    }
    const absl::string_view rest = absl::string_view(input_).substr(at_);
    if (frame_.control) {
      if (rest.size() < frame_.left) return absl::OkStatus();
      const std::string payload(rest.substr(0, frame_.left));
      at_ += frame_.left;
      in_frame_ = false;
      GANTRY_RETURN_IF_ERROR(OnControl(payload, events));
      continue;
    }
    // Data is handed on in the pieces in which it arrives.
    const absl::string_view piece = rest.substr(0, frame_.left);
    if (piece.empty() && frame_.left > 0) return absl::OkStatus();
    at_ += piece.size();
    frame_.left -= static_cast<uint32_t>(piece.size());
    in_frame_ = frame_.left > 0;
    OnData(piece, !in_frame_, events);
  }
}

// False: more bytes are needed.
absl::StatusOr<bool> SpdySession::ReadHeader() {
  const absl::string_view rest = absl::string_view(input_).substr(at_);
  if (rest.size() < kHeaderBytes) return false;
  const uint32_t first = Uint32At(rest, 0), second = Uint32At(rest, 4);
  frame_ = {};
  frame_.control = first >> 31 != 0;
  frame_.flags = static_cast<uint8_t>(second >> 24);
  frame_.left = second & 0xffffff;
  if (frame_.control) {
    frame_.type = static_cast<uint16_t>(first & 0xffff);
    const uint32_t version = first >> 16 & 0x7fff;
    if (version != kVersion) return Broken(absl::StrCat("version ", version, " is not served"));
    if (frame_.left > kMaxControlBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("SPDY: a control frame is larger than ", kMaxControlBytes, " bytes"));
    }
  } else {
    frame_.stream = first;
    if (frame_.stream == 0 || frame_.stream > last_stream_)
      return Broken("data for a stream that was never opened");
  }
  at_ += kHeaderBytes;
  return true;
}

absl::Status SpdySession::OnControl(absl::string_view payload, std::vector<SpdyEvent>& events) {
  const auto need = [payload](size_t bytes) {
    return payload.size() >= bytes ? absl::OkStatus() : Broken("a control frame is too short");
  };
  switch (frame_.type) {
    case kSynStream:
      GANTRY_RETURN_IF_ERROR(need(10));
      return OnOpen(payload, events);
    case kSynReply:
    case kHeaders: {
      // Of no use here, but the headers of later streams are compressed on top of them.
      GANTRY_RETURN_IF_ERROR(need(4));
      GANTRY_RETURN_IF_ERROR(reader_.Read(payload.substr(4)).status());
      if ((frame_.flags & kFin) != 0) OnFinished(Uint32At(payload, 0) & kStreamMask, events);
      return absl::OkStatus();
    }
    case kRstStream: {
      GANTRY_RETURN_IF_ERROR(need(8));
      const uint32_t id = Uint32At(payload, 0) & kStreamMask;
      const auto found = streams_.find(id);
      if (found == streams_.end()) return absl::OkStatus();
      waiting_bytes_ -= found->second.waiting.size();
      streams_.erase(found);
      events.push_back({.kind = SpdyEvent::Kind::kReset, .stream = id});
      return absl::OkStatus();
    }
    case kSettings:
      GANTRY_RETURN_IF_ERROR(need(4));
      return OnSettings(payload);
    case kPing:
      GANTRY_RETURN_IF_ERROR(need(4));
      // Even ids are answers to the server's own.
      if (Uint32At(payload, 0) % 2 == 1) Control(kPing, 0, payload.substr(0, 4));
      return absl::OkStatus();
    case kGoAway:
      GANTRY_RETURN_IF_ERROR(need(4));
      going_away_ = true;
      return absl::OkStatus();
    case kWindowUpdate:
      GANTRY_RETURN_IF_ERROR(need(8));
      return OnWindowUpdate(payload);
    default:
      return absl::OkStatus();  // unknown types are passed over, as the specification wants it
  }
}

absl::Status SpdySession::OnOpen(absl::string_view payload, std::vector<SpdyEvent>& events) {
  const uint32_t id = Uint32At(payload, 0) & kStreamMask;
  GANTRY_ASSIGN_OR_RETURN(SpdyHeaders headers, reader_.Read(payload.substr(10)));
  if (id % 2 == 0 || id <= last_stream_)
    return Broken(absl::StrCat("stream ", id, " after stream ", last_stream_));
  last_stream_ = id;
  if (refusing_ || streams_.size() >= kMaxStreams) {
    Control(kRstStream, 0, Uint32s(id, static_cast<uint32_t>(ResetCode::kRefusedStream)));
    return absl::OkStatus();
  }
  Stream& stream = streams_[id];
  stream.send_window = initial_window_;
  stream.local_finished = (frame_.flags & kUnidirectional) != 0;
  events.push_back({.kind = SpdyEvent::Kind::kOpened, .stream = id, .headers = std::move(headers)});
  if ((frame_.flags & kFin) != 0) OnFinished(id, events);
  return absl::OkStatus();
}

absl::Status SpdySession::OnSettings(absl::string_view payload) {
  const uint32_t count = Uint32At(payload, 0);
  if (payload.size() != 4 + size_t{8} * count) return Broken("SETTINGS of a wrong size");
  for (uint32_t i = 0; i < count; ++i) {
    if ((Uint32At(payload, 4 + 8 * i) & 0xffffff) != kInitialWindow) continue;
    const int64_t window = Uint32At(payload, 8 + 8 * i);
    if (window > kMaxWindow) return Broken("an initial window that is too large");
    flow_control_ = true;
    for (auto& [id, stream] : streams_) stream.send_window += window - initial_window_;
    initial_window_ = window;
  }
  SendAllWaiting();
  return absl::OkStatus();
}

absl::Status SpdySession::OnWindowUpdate(absl::string_view payload) {
  const uint32_t id = Uint32At(payload, 0) & kStreamMask;
  const int64_t delta = Uint32At(payload, 4) & kStreamMask;
  if (!flow_control_) {
    flow_control_ = true;
    Credit(0, session_uncredited_);
    for (auto& [one, stream] : streams_) Credit(one, stream.uncredited);
  }
  if (id == 0) {
    session_window_ += delta;
    if (session_window_ > kMaxWindow) return Broken("the session's window is too large");
  } else if (const auto found = streams_.find(id); found != streams_.end()) {
    found->second.send_window += delta;
    if (found->second.send_window > kMaxWindow) Reset(id, ResetCode::kFlowControlError);
  }
  SendAllWaiting();
  return absl::OkStatus();
}

void SpdySession::OnData(absl::string_view data, bool last, std::vector<SpdyEvent>& events) {
  const uint32_t id = frame_.stream;
  const auto found = streams_.find(id);
  // Data may be under way when the server ends a stream: it is dropped.
  if (found == streams_.end()) return;
  if (found->second.remote_finished) {
    Reset(id, ResetCode::kProtocolError);
    events.push_back({.kind = SpdyEvent::Kind::kReset, .stream = id});
    return;
  }
  if (!data.empty()) {
    events.push_back({.kind = SpdyEvent::Kind::kData, .stream = id, .data = std::string(data)});
  }
  if (last && (frame_.flags & kFin) != 0) OnFinished(id, events);
}

void SpdySession::OnFinished(uint32_t id, std::vector<SpdyEvent>& events) {
  const auto found = streams_.find(id);
  if (found == streams_.end() || std::exchange(found->second.remote_finished, true)) return;
  events.push_back({.kind = SpdyEvent::Kind::kFinished, .stream = id});
  DropIfEnded(id);
}

void SpdySession::Accept(uint32_t stream) {
  const auto found = streams_.find(stream);
  // A one-way stream is not answered.
  if (found == streams_.end() || found->second.local_finished) return;
  std::string payload;
  AppendUint(payload, stream, 4);
  payload += writer_.Write({});
  Control(kSynReply, 0, payload);
}

void SpdySession::Reset(uint32_t stream, ResetCode code) {
  const auto found = streams_.find(stream);
  if (found == streams_.end()) return;
  waiting_bytes_ -= found->second.waiting.size();
  streams_.erase(found);
  Control(kRstStream, 0, Uint32s(stream, static_cast<uint32_t>(code)));
}

void SpdySession::Send(uint32_t stream, absl::string_view data) {
  const auto found = streams_.find(stream);
  if (found == streams_.end() || found->second.local_finished || found->second.finish_waiting)
    return;
  found->second.waiting.append(data.data(), data.size());
  waiting_bytes_ += data.size();
  SendWaiting(stream, found->second);
}

void SpdySession::Finish(uint32_t stream) {
  const auto found = streams_.find(stream);
  if (found == streams_.end() || found->second.local_finished) return;
  found->second.finish_waiting = true;
  SendWaiting(stream, found->second);
  DropIfEnded(stream);
}

void SpdySession::SendWaiting(uint32_t id, Stream& stream) {
  size_t sent = 0;
  while (sent < stream.waiting.size()) {
    size_t piece = std::min(stream.waiting.size() - sent, kMaxDataFrame);
    if (flow_control_) {
      const int64_t window = std::min(stream.send_window, session_window_);
      if (window <= 0) break;
      piece = std::min(piece, static_cast<size_t>(window));
    }
    Data(id, 0, absl::string_view(stream.waiting).substr(sent, piece));
    sent += piece;
    stream.send_window -= static_cast<int64_t>(piece);
    session_window_ -= static_cast<int64_t>(piece);
  }
  stream.waiting.erase(0, sent);
  waiting_bytes_ -= sent;
  if (stream.finish_waiting && stream.waiting.empty() &&
      !std::exchange(stream.local_finished, true)) {
    Data(id, kFin, "");
  }
}

void SpdySession::SendAllWaiting() {
  std::vector<uint32_t> ids;
  for (auto& [id, stream] : streams_) {
    SendWaiting(id, stream);
    ids.push_back(id);
  }
  for (const uint32_t id : ids) DropIfEnded(id);
}

void SpdySession::DropIfEnded(uint32_t id) {
  const auto found = streams_.find(id);
  if (found != streams_.end() && found->second.remote_finished && found->second.local_finished)
    streams_.erase(found);
}

void SpdySession::Consumed(uint32_t stream, size_t bytes) {
  session_uncredited_ += static_cast<uint32_t>(bytes);
  const auto found = streams_.find(stream);
  if (found != streams_.end()) found->second.uncredited += static_cast<uint32_t>(bytes);
  if (!flow_control_) {
    // Nobody counts: only what the client may have counted before it shows itself matters.
    session_uncredited_ = std::min<uint32_t>(session_uncredited_, kMaxWindow / 2);
    if (found != streams_.end())
      found->second.uncredited = std::min<uint32_t>(found->second.uncredited, kMaxWindow / 2);
    return;
  }
  Credit(0, session_uncredited_);
  if (found != streams_.end()) Credit(stream, found->second.uncredited);
}

void SpdySession::Credit(uint32_t id, uint32_t& uncredited) {
  if (uncredited == 0) return;
  Control(kWindowUpdate, 0, Uint32s(id, std::exchange(uncredited, 0)));
}

void SpdySession::GoAway() {
  if (std::exchange(refusing_, true)) return;
  Control(kGoAway, 0, Uint32s(last_stream_, 0));
}

std::string SpdySession::TakeOutput() { return std::exchange(output_, {}); }

void SpdySession::Control(uint16_t type, uint8_t flags, absl::string_view payload) {
  AppendUint(output_, uint32_t{0x80000000} | uint32_t{kVersion} << 16 | type, 4);
  AppendUint(output_, flags, 1);
  AppendUint(output_, static_cast<uint32_t>(payload.size()), 3);
  output_.append(payload.data(), payload.size());
}

void SpdySession::Data(uint32_t stream, uint8_t flags, absl::string_view data) {
  AppendUint(output_, stream, 4);
  AppendUint(output_, flags, 1);
  AppendUint(output_, static_cast<uint32_t>(data.size()), 3);
  output_.append(data.data(), data.size());
}

}  // namespace gantry::api::cri
