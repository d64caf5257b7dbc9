#include "supervisor/api/docker/progress_stream.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/time/clock.h"

#include "base/new_thread.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/types.pb.h"
#include "supervisor/api/docker/request.h"

namespace gantry::api::docker {
namespace {

constexpr size_t kSentWhileReading = 48 << 10;
constexpr absl::Duration kBetweenLines = absl::Milliseconds(100);

bool IsRunning(v1::Progress::State state) {
  return state == v1::Progress::DOWNLOADING || state == v1::Progress::UNPACKING ||
         state == v1::Progress::UPLOADING || state == v1::Progress::READING ||
         state == v1::Progress::WRITING || state == v1::Progress::VERIFYING;
}

}  // namespace

void ProgressQueue::Add(const v1::Progress& step) {
  absl::MutexLock lock(&mu_);
  std::vector<std::string> lines = layers_.Lines(step);
  for (size_t i = 0; i < lines.size(); ++i) {
    // Only the last line of a report is about how far it is.
    const bool running = i + 1 == lines.size() && IsRunning(step.state());
    if (running) {
      auto waiting = std::find_if(lines_.rbegin(), lines_.rend(),
                                  [&](const Line& one) { return one.layer == step.id(); });
      if (waiting != lines_.rend() && waiting->running) {
        waiting->text = std::move(lines[i]);
        continue;
      }
    }
    lines_.push_back({step.id(), running, std::move(lines[i])});
  }
}

std::vector<std::string> ProgressQueue::Take() {
  absl::MutexLock lock(&mu_);
  std::vector<std::string> out;
  for (Line& line : lines_) out.push_back(std::move(line.text));
  lines_.clear();
  return out;
}

std::vector<std::string> ProgressQueue::Wait() {
  {
    absl::MutexLock lock(&mu_);
    const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return closed_ || !lines_.empty();
    };
    mu_.Await(absl::Condition(&ready));
  }
  return Take();
}

void ProgressQueue::Close() {
  absl::MutexLock lock(&mu_);
  closed_ = true;
}

absl::Status MessageStream::Send(absl::string_view line) {
  std::string bytes;
  if (!begun_) {
    GANTRY_RETURN_IF_ERROR(request_.Begin(200, "application/json"));
    begun_ = true;
    bytes = std::move(preamble_);
  }
  bytes.append(line.data(), line.size());
  return request_.WriteBytes(bytes);
}

absl::Status MessageStream::Send(const std::vector<std::string>& lines) {
  if (lines.empty()) return absl::OkStatus();
  std::string bytes;
  for (const std::string& line : lines) bytes += line;
  return Send(bytes);
}

absl::Status MessageStream::Finish(const absl::Status& result) {
  if (!result.ok()) {
    if (!begun_) return result;
    GANTRY_RETURN_IF_ERROR(Send(engine::ErrorLine(result.message())));
  } else if (!begun_) {
    GANTRY_RETURN_IF_ERROR(Send(""));
  }
  return request_.End();
}

absl::Status RunWatched(Request& request, ProgressQueue& queue, MessageStream& out,
                        const std::function<absl::Status()>& work) {
  absl::Status result;
  GANTRY_ASSIGN_OR_RETURN(std::thread worker, NewThread([&] {
                            result = work();
                            queue.Close();
                          }));
  while (true) {
    const std::vector<std::string> lines = queue.Wait();
    if (lines.empty()) break;
    const absl::Status sent = out.Send(lines);
    if (!sent.ok()) request.cancel().Cancel("the client has gone");
  }
  worker.join();
  return result;
}

absl::StatusOr<size_t> WatchedBody::Read(char* buffer, size_t n) {
  const absl::Time now = absl::Now();
  if (now - last_ >= kBetweenLines) {
    last_ = now;
    const std::vector<std::string> lines = queue_.Take();
    size_t bytes = 0;
    for (const std::string& line : lines) bytes += line.size();
    if (sent_bytes_ + bytes <= kSentWhileReading) {
      sent_bytes_ += bytes;
      GANTRY_RETURN_IF_ERROR(out_.Send(lines));
    }
  }
  return request_.body().Read(buffer, n);
}

}  // namespace gantry::api::docker
