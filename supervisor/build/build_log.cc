#include "supervisor/build/build_log.h"

#include <utility>

#include "base/clock.h"
#include "base/utf8.h"

namespace gantry::build {
namespace {

// Messages that wait for the receiver.
constexpr size_t kMaxQueue = 256;

void SetNow(google::protobuf::Timestamp* out) {
  const absl::Time now = Clock::Real().Now();
  const int64_t seconds = absl::ToUnixSeconds(now);
  out->set_seconds(seconds);
  out->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(now - absl::FromUnixSeconds(seconds))));
}

}  // namespace

absl::Status BuildLog::Send(v1::BuildResponse response) {
  if (std::this_thread::get_id() == owner_) return send_(std::move(response));
  absl::MutexLock lock(&mu_);
  const auto room = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return queue_.size() < kMaxQueue || !failure_.ok();
  };
  mu_.Await(absl::Condition(&room));
  if (!failure_.ok()) return failure_;
  queue_.push_back(std::move(response));
  return absl::OkStatus();
}

void BuildLog::AddSender() {
  absl::MutexLock lock(&mu_);
  ++senders_;
}

void BuildLog::RemoveSender() {
  absl::MutexLock lock(&mu_);
  --senders_;
}

void BuildLog::Pump(const std::function<void()>& failed) {
  absl::MutexLock lock(&mu_);
  while (true) {
    const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return !queue_.empty() || senders_ == 0;
    };
    mu_.Await(absl::Condition(&something));
    if (queue_.empty()) return;
    v1::BuildResponse first = std::move(queue_.front());
    queue_.pop_front();
    if (!failure_.ok()) continue;
    mu_.Unlock();
    const absl::Status sent = send_(std::move(first));
    if (!sent.ok()) failed();
    mu_.Lock();
    if (!sent.ok()) failure_ = sent;
  }
}

v1::BuildStep BuildLog::Begin(const std::string& name, const std::string& instruction, int position,
                              int positions, bool metadata) {
  v1::BuildStep step;
  {
    absl::MutexLock lock(&mu_);
    step.set_number(++steps_);
  }
  step.set_name(ToValidUtf8(name));
  step.set_instruction(ToValidUtf8(instruction));
  step.set_position(position);
  step.set_positions(positions);
  step.set_metadata(metadata);
  SetNow(step.mutable_started_at());
  // A client that has gone is found out by what follows.
  (void)Change(step);
  return step;
}

absl::Status BuildLog::Change(const v1::BuildStep& step) {
  v1::BuildResponse response;
  *response.mutable_step() = step;
  return Send(std::move(response));
}

absl::Status BuildLog::End(v1::BuildStep& step, bool cached) {
  step.set_cached(cached);
  SetNow(step.mutable_completed_at());
  return Change(step);
}

void BuildLog::Fail(v1::BuildStep& step, const absl::Status& why, int exit_code) {
  step.set_error(ToValidUtf8(why.message()));
  step.set_exit_code(exit_code);
  SetNow(step.mutable_completed_at());
  (void)Change(step);
}

absl::Status BuildLog::Output(const v1::BuildStep& step, int stream, absl::string_view bytes) {
  v1::BuildResponse response;
  response.mutable_log()->set_step(step.number());
  response.mutable_log()->set_stream(stream);
  response.mutable_log()->set_data(bytes.data(), bytes.size());
  return Send(std::move(response));
}

void BuildLog::Progress(const v1::BuildStep& step, const std::string& id, int64_t current,
                        int64_t total) {
  v1::BuildResponse response;
  response.mutable_progress()->set_step(step.number());
  response.mutable_progress()->set_id(id);
  response.mutable_progress()->set_current_bytes(current);
  response.mutable_progress()->set_total_bytes(total);
  if (std::this_thread::get_id() == owner_) {
    // Progress only: a client that has gone is noticed at the step's end.
    (void)send_(std::move(response));
    return;
  }
  // Its next message is better anyway, so nothing waits for room.
  absl::MutexLock lock(&mu_);
  if (queue_.size() < kMaxQueue / 2 && failure_.ok()) queue_.push_back(std::move(response));
}

void BuildLog::Warn(const std::string& rule, const std::string& text, const std::string& file,
                    int line) {
  v1::BuildResponse response;
  response.mutable_warning()->set_rule(rule);
  response.mutable_warning()->set_text(ToValidUtf8(text));
  response.mutable_warning()->set_file(ToValidUtf8(file));
  response.mutable_warning()->set_line(line);
  (void)Send(std::move(response));
}

}  // namespace gantry::build
