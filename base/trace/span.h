// Spans of distributed traces: which part of a request took how long, in which process.
//
// The context of the work that a thread does is kept with the thread, so that what it calls finds
// its parent; Bound() takes it along to another thread. While nothing is traced there is no context
// and all of this costs next to nothing.
// Spec: W3C Trace Context (traceparent); OpenTelemetry's trace API for the meaning of a span.
#ifndef GANTRY_BASE_TRACE_SPAN_H_
#define GANTRY_BASE_TRACE_SPAN_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace gantry::trace {

// Where in which trace. Value; empty ids: nowhere.
struct SpanContext {
  std::string trace_id;  // 32 hexadecimal digits
  std::string span_id;   // 16
  bool sampled = true;

  bool valid() const { return !trace_id.empty(); }
};

// "00-TRACE-SPAN-01"; an invalid context for every other text.
SpanContext ParseTraceparent(absl::string_view text);
std::string FormatTraceparent(const SpanContext& context);

// A new trace, or a new span in that of `parent`.
SpanContext NewContext(const SpanContext& parent = {});

enum class SpanKind { kInternal = 1, kServer = 2, kClient = 3 };  // OTLP's numbers

struct Span {
  SpanContext context;
  std::string parent_span_id;  // "": the first of its trace
  std::string name;
  SpanKind kind = SpanKind::kInternal;
  absl::Time start;
  absl::Time end;
  std::vector<std::pair<std::string, std::string>> attributes;
  bool failed = false;
  std::string error;
  std::string service;  // "": the exporter's own
};

// Where the spans of this process go. Thread-safe.
class SpanSink {
 public:
  virtual ~SpanSink() = default;
  // Never waits.
  virtual void Add(Span span) = 0;
};
// The process has one; null: nothing is traced. Set before work begins and after it has ended.
void SetSink(SpanSink* sink);
SpanSink* Sink();

// Of this thread; invalid: nothing is traced.
const SpanContext& Current();

// Sets it until the end of the scope.
class ScopedContext {
 public:
  explicit ScopedContext(SpanContext context);
  ~ScopedContext();
  ScopedContext(const ScopedContext&) = delete;
  ScopedContext& operator=(const ScopedContext&) = delete;

 private:
  SpanContext before_;
};
// The same without an end, for threads that turn to one call after the other.
void SetCurrent(SpanContext context);

// A span of the server's kind for the time of the scope, under the parent that `traceparent` names;
// its own is the thread's context meanwhile. Nothing happens while nothing is traced.
class ScopedSpan {
 public:
  ScopedSpan(absl::string_view name, absl::string_view traceparent);
  ~ScopedSpan();
  ScopedSpan(const ScopedSpan&) = delete;
  ScopedSpan& operator=(const ScopedSpan&) = delete;

 private:
  Span span_;
  SpanContext before_;
};

// `work` with this thread's context, wherever it runs.
absl::AnyInvocable<void()> Bound(absl::AnyInvocable<void()> work);

}  // namespace gantry::trace

#endif  // GANTRY_BASE_TRACE_SPAN_H_
