#include "supervisor/api/containerd/stream_registry.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "base/status_macros.h"
#include "proto/containerd/types/transfer/streaming.pb.h"
#include "supervisor/api/containerd/wire.h"

namespace gantry::api::containerd_api {
namespace {

constexpr size_t kMaxQueuedIn = 16 << 20;
constexpr size_t kMaxQueuedOut = 256;
constexpr int64_t kWindowBytes = 8 << 20;
// What receivers are promised to be sent at most at once.
constexpr size_t kMaxDataBytes = 32 << 10;

absl::Status Gone() { return absl::UnavailableError("stream: the client has gone"); }

}  // namespace

absl::Status Stream::WaitChange(CancelToken& cancel, absl::Time since, absl::string_view what) {
  // A token cannot be waited for together with a condition, so the wait ends every 100 ms for a
  // look at it.
  GANTRY_RETURN_IF_ERROR(cancel.Check());
  const absl::Duration left = patience_ - (absl::Now() - since);
  if (left <= absl::ZeroDuration()) {
    gone_ = true;
    if (transport_ != nullptr) transport_->Abandon();
    changed_.SignalAll();
    return absl::UnavailableError(
        absl::StrCat("stream: the client ", what, " for ", absl::FormatDuration(patience_)));
  }
  changed_.WaitWithTimeout(&mu_, std::min({cancel.remaining(), left, absl::Milliseconds(100)}));
  return absl::OkStatus();
}

absl::StatusOr<std::optional<google::protobuf::Any>> Stream::Receive(CancelToken& cancel) {
  const absl::Time began = absl::Now();
  absl::MutexLock lock(&mu_);
  while (true) {
    if (!in_.empty()) {
      google::protobuf::Any message = std::move(in_.front());
      in_.pop_front();
      in_bytes_ -= message.value().size();
      if (!reading_ && !client_finished_ && transport_ != nullptr && !ended_) {
        reading_ = true;
        transport_->StartReading();
      }
      return std::optional<google::protobuf::Any>(std::move(message));
    }
    if (client_finished_) return std::optional<google::protobuf::Any>();
    if (gone_ || ended_) return Gone();
    GANTRY_RETURN_IF_ERROR(WaitChange(cancel, began, "sent nothing"));
  }
}

absl::Status Stream::Send(google::protobuf::Any message, CancelToken& cancel) {
  const absl::Time began = absl::Now();
  absl::MutexLock lock(&mu_);
  while (!gone_ && !ended_ && !closing_.has_value() && out_.size() >= kMaxQueuedOut) {
    GANTRY_RETURN_IF_ERROR(WaitChange(cancel, std::max(began, last_written_), "read nothing"));
  }
  if (gone_ || ended_ || closing_.has_value()) return Gone();
  Enqueue(std::move(message));
  return absl::OkStatus();
}

void Stream::Offer(google::protobuf::Any message) {
  absl::MutexLock lock(&mu_);
  if (!gone_ && !ended_ && !closing_.has_value() && out_.size() < kMaxQueuedOut)
    Enqueue(std::move(message));
}

void Stream::Close(const absl::Status& status) {
  absl::MutexLock lock(&mu_);
  if (!closing_.has_value()) closing_ = status;
  WriteNext();
  changed_.SignalAll();
}

void Stream::Attach(Transport* transport) {
  absl::MutexLock lock(&mu_);
  transport_ = transport;
  reading_ = true;
  transport_->StartReading();
  WriteNext();
}

void Stream::Deliver(google::protobuf::Any message) {
  absl::MutexLock lock(&mu_);
  in_bytes_ += message.value().size();
  in_.push_back(std::move(message));
  reading_ = false;
  if (in_bytes_ < kMaxQueuedIn && transport_ != nullptr && !ended_) {
    reading_ = true;
    transport_->StartReading();
  }
  changed_.SignalAll();
}

void Stream::ClientFinished() {
  absl::MutexLock lock(&mu_);
  reading_ = false;
  client_finished_ = true;
  changed_.SignalAll();
}

void Stream::Written(bool ok) {
  absl::MutexLock lock(&mu_);
  writing_ = false;
  if (!ok) {
    gone_ = true;
    out_.clear();
  } else {
    out_.pop_front();
    last_written_ = absl::Now();
  }
  WriteNext();
  changed_.SignalAll();
}

void Stream::Detach() {
  absl::MutexLock lock(&mu_);
  transport_ = nullptr;
  gone_ = true;
  changed_.SignalAll();
}

void Stream::Enqueue(google::protobuf::Any message) {
  out_.push_back(std::move(message));
  WriteNext();
}

void Stream::WriteNext() {
  if (transport_ == nullptr || writing_ || ended_) return;
  if (!out_.empty() && !gone_) {
    writing_ = true;
    transport_->StartWriting(out_.front());
  } else if (closing_.has_value()) {
    ended_ = true;
    transport_->End(*closing_);
  }
}

absl::Status StreamRegistry::Add(const std::string& ns, const std::string& id,
                                 std::shared_ptr<Stream> stream) {
  if (id.empty()) return absl::InvalidArgumentError("stream: no id");
  absl::MutexLock lock(&mu_);
  if (stopping_) return absl::UnavailableError("the daemon is stopping");
  if (!streams_.emplace(std::make_pair(ns, id), std::move(stream)).second) {
    return absl::AlreadyExistsError(
        absl::StrCat("stream \"", id, "\" in namespace \"", ns, "\": already exists"));
  }
  return absl::OkStatus();
}

void StreamRegistry::Remove(const std::string& ns, const std::string& id) {
  absl::MutexLock lock(&mu_);
  streams_.erase({ns, id});
}

absl::StatusOr<std::shared_ptr<Stream>> StreamRegistry::Find(const std::string& ns,
                                                             const std::string& id) {
  absl::MutexLock lock(&mu_);
  auto it = streams_.find({ns, id});
  if (it == streams_.end())
    return absl::NotFoundError(
        absl::StrCat("stream \"", id, "\" in namespace \"", ns, "\": not found"));
  return it->second;
}

void StreamRegistry::Stop() {
  std::map<std::pair<std::string, std::string>, std::shared_ptr<Stream>> all;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    all = streams_;
  }
  for (const auto& [key, stream] : all)
    stream->Close(absl::UnavailableError("the daemon is stopping"));
}

absl::Status StreamSource::Grant(int64_t bytes) {
  containerd::types::transfer::WindowUpdate update;
  update.set_update(static_cast<int32_t>(bytes));
  return stream_.Send(AnyOf(update), cancel_);
}

absl::StatusOr<size_t> StreamSource::Read(char* buffer, size_t n) {
  if (!opened_) {
    opened_ = true;
    GANTRY_RETURN_IF_ERROR(Grant(kWindowBytes));
  }
  while (offset_ == chunk_.size()) {
    GANTRY_ASSIGN_OR_RETURN(std::optional<google::protobuf::Any> message, stream_.Receive(cancel_));
    if (!message.has_value()) return size_t{0};
    containerd::types::transfer::Data data;
    GANTRY_RETURN_IF_ERROR(ReadAny(*message, &data));
    chunk_ = std::move(*data.mutable_data());
    offset_ = 0;
    consumed_ += static_cast<int64_t>(chunk_.size());
    if (consumed_ >= kWindowBytes / 2) {
      // A client that has sent everything may be gone before it reads this.
      absl::Status granted = Grant(consumed_);
      if (!granted.ok() && !absl::IsUnavailable(granted)) return granted;
      consumed_ = 0;
    }
  }
  const size_t taken = std::min(n, chunk_.size() - offset_);
  std::memcpy(buffer, chunk_.data() + offset_, taken);
  offset_ += taken;
  return taken;
}

absl::Status StreamSink::TakeGrant(CancelToken& cancel) {
  GANTRY_ASSIGN_OR_RETURN(std::optional<google::protobuf::Any> message, stream_.Receive(cancel));
  if (!message.has_value()) return Gone();
  containerd::types::transfer::WindowUpdate update;
  GANTRY_RETURN_IF_ERROR(ReadAny(*message, &update));
  window_ += update.update();
  if (first_grant_ == 0) first_grant_ = window_;
  return absl::OkStatus();
}

void StreamSink::AwaitTaken() {
  CancelToken patience(absl::Seconds(1), &cancel_);
  // A client that has gone, or grants in another way, is not waited for longer.
  while (window_ < first_grant_ && TakeGrant(patience).ok()) {
  }
}

absl::Status StreamSink::Write(absl::string_view bytes) {
  while (!bytes.empty()) {
    while (window_ <= 0) GANTRY_RETURN_IF_ERROR(TakeGrant(cancel_));
    const size_t piece = std::min({bytes.size(), kMaxDataBytes, static_cast<size_t>(window_)});
    containerd::types::transfer::Data data;
    data.set_data(bytes.data(), piece);
    GANTRY_RETURN_IF_ERROR(stream_.Send(AnyOf(data), cancel_));
    window_ -= static_cast<int64_t>(piece);
    bytes.remove_prefix(piece);
  }
  return absl::OkStatus();
}

}  // namespace gantry::api::containerd_api
