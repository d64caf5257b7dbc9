#include "base/trace/span.h"

#include <sys/random.h>

#include <algorithm>
#include <atomic>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace gantry::trace {
namespace {

std::atomic<SpanSink*>& GlobalSink() {
  static std::atomic<SpanSink*> sink = nullptr;
  return sink;
}

SpanContext& ThreadContext() {
  thread_local SpanContext context;
  return context;
}

// `digits` lower-case hexadecimal ones, not all zero.
bool IsId(absl::string_view text, size_t digits) {
  return text.size() == digits &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }) &&
         !std::all_of(text.begin(), text.end(), [](char c) { return c == '0'; });
}

std::string NewId(size_t bytes) {
  std::string id(bytes, '\1');
  // For so few bytes it neither waits nor stops half-way once the kernel is up; whatever happens
  // the id is not zero.
  if (getrandom(id.data(), id.size(), GRND_NONBLOCK) < 0) id[0] = '\2';
  id = absl::BytesToHexString(id);
  return IsId(id, 2 * bytes) ? id : NewId(bytes);
}

}  // namespace

SpanContext ParseTraceparent(absl::string_view text) {
  // Later versions may append fields; version ff is none.
  if (text.size() < 55 || (text.size() > 55 && (text[55] != '-' || text.substr(0, 2) == "00")) ||
      text[2] != '-' || text[35] != '-' || text[52] != '-' || text.substr(0, 2) == "ff" ||
      !IsId(text.substr(3, 32), 32) || !IsId(text.substr(36, 16), 16)) {
    return {};
  }
  const char flags = text[54];
  const int low = flags >= 'a' && flags <= 'f' ? flags - 'a' + 10 : flags - '0';
  return {std::string(text.substr(3, 32)), std::string(text.substr(36, 16)), (low & 1) != 0};
}

std::string FormatTraceparent(const SpanContext& context) {
  return absl::StrCat("00-", context.trace_id, "-", context.span_id,
                      context.sampled ? "-01" : "-00");
}

SpanContext NewContext(const SpanContext& parent) {
  return {parent.valid() ? parent.trace_id : NewId(16), NewId(8), parent.sampled};
}

void SetSink(SpanSink* sink) { GlobalSink() = sink; }
SpanSink* Sink() { return GlobalSink(); }

const SpanContext& Current() { return ThreadContext(); }

void SetCurrent(SpanContext context) { ThreadContext() = std::move(context); }

ScopedContext::ScopedContext(SpanContext context)
    : before_(std::exchange(ThreadContext(), std::move(context))) {}
ScopedContext::~ScopedContext() { ThreadContext() = std::move(before_); }

ScopedSpan::ScopedSpan(absl::string_view name, absl::string_view traceparent) {
  if (Sink() == nullptr) return;
  const SpanContext parent = ParseTraceparent(traceparent);
  span_.context = NewContext(parent);
  span_.parent_span_id = parent.span_id;
  span_.name = std::string(name);
  span_.kind = SpanKind::kServer;
  span_.start = absl::Now();
  before_ = std::exchange(ThreadContext(), span_.context);
}

ScopedSpan::~ScopedSpan() {
  if (!span_.context.valid()) return;
  ThreadContext() = std::move(before_);
  SpanSink* const sink = Sink();
  if (sink == nullptr || !span_.context.sampled) return;
  span_.end = absl::Now();
  sink->Add(std::move(span_));
}

absl::AnyInvocable<void()> Bound(absl::AnyInvocable<void()> work) {
  if (!Current().valid()) return work;
  return [context = Current(), work = std::move(work)]() mutable {
    const ScopedContext scope(std::move(context));
    work();
  };
}

}  // namespace gantry::trace
