// google.protobuf.Timestamp <-> absl::Time, without the header that knows it.
#ifndef GANTRY_BASE_ENGINE_PROTO_TIME_H_
#define GANTRY_BASE_ENGINE_PROTO_TIME_H_

#include <cstdint>

#include "absl/time/time.h"

namespace gantry::engine {

// InfinitePast for a field that was never set, and for Go's zero time (the first second of the year
// 1). The beginning of 1970 is a time like any other. `t` is the field itself, not a copy: an
// absent field is known by the address of its default.
template <class Timestamp>
absl::Time FromProto(const Timestamp& t) {
  constexpr int64_t kYearOne = -62135596800;
  if (&t == &Timestamp::default_instance() || t.seconds() <= kYearOne) return absl::InfinitePast();
  return absl::FromUnixSeconds(t.seconds()) + absl::Nanoseconds(t.nanos());
}

// The same where the message says whether it was set: a moment of 1970 is one. The year 1 is Go's
// way to say "not set".
template <class Timestamp>
absl::Time FromProto(bool present, const Timestamp& t) {
  constexpr int64_t kGoZeroSeconds = -62135596800;
  if (!present || (t.seconds() == kGoZeroSeconds && t.nanos() == 0)) return absl::InfinitePast();
  return absl::FromUnixSeconds(t.seconds()) + absl::Nanoseconds(t.nanos());
}

template <class Timestamp>
void ToProto(absl::Time time, Timestamp* t) {
  const int64_t seconds = absl::ToUnixSeconds(time);
  t->set_seconds(seconds);
  t->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
}

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_PROTO_TIME_H_
