#include "base/trace/span_exporter.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "glog/logging.h"

#include "base/new_thread.h"

namespace gantry::trace {
namespace {

constexpr size_t kMostPerRequest = 512;
constexpr absl::Duration kSendLimit = absl::Seconds(10);
constexpr absl::Duration kLastLimit = absl::Seconds(1);

}  // namespace

SpanExporter::SpanExporter(OtlpTarget target, absl::Duration period)
    : target_(std::move(target)), period_(period), stop_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  absl::StatusOr<std::thread> thread = NewThread([this] { Run(); });
  if (thread.ok()) thread_ = *std::move(thread);
}

SpanExporter::~SpanExporter() {
  {
    absl::MutexLock lock(&mu_);
    ending_ = true;
  }
  const uint64_t one = 1;
  (void)!write(stop_.get(), &one, sizeof one);
  if (thread_.joinable()) thread_.join();
}

void SpanExporter::Add(Span span) {
  absl::MutexLock lock(&mu_);
  if (queue_.size() >= kMostQueued || ending_) {
    ++dropped_;
    return;
  }
  queue_.push_back(std::move(span));
}

void SpanExporter::Run() {
  while (true) {
    std::vector<Span> spans;
    bool ending;
    {
      absl::MutexLock lock(&mu_);
      const auto due = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return ending_ || queue_.size() >= kMostPerRequest;
      };
      mu_.AwaitWithTimeout(absl::Condition(&due), period_);
      ending = ending_;
      spans.swap(queue_);
    }
    if (!spans.empty()) Send(spans, ending ? kLastLimit : kSendLimit, ending ? -1 : stop_.get());
    if (ending) return;
  }
}

void SpanExporter::Send(const std::vector<Span>& spans, absl::Duration limit, int stop) {
  const absl::Status status = SendSpans(target_, spans, limit, stop);
  if (!status.ok()) dropped_ += static_cast<int64_t>(spans.size());
  LOG_IF(WARNING, !status.ok() && !failing_) << "traces are not taken: " << status;
  LOG_IF(INFO, status.ok() && failing_) << "traces are taken again";
  failing_ = !status.ok();
}

}  // namespace gantry::trace
