// absl::Time as messages carry it.
#ifndef GANTRY_SUPERVISOR_CORE_PROTO_TIME_H_
#define GANTRY_SUPERVISOR_CORE_PROTO_TIME_H_

#include <cstdint>

#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"

namespace gantry::core {

// InfinitePast, "never", leaves the message empty. Seconds are counted apart, because nanoseconds
// since 1970 in 64 bits reach only from 1677 to 2262. `nanos` is never negative.
inline void SetTimestamp(absl::Time at, google::protobuf::Timestamp* out) {
  if (at == absl::InfinitePast()) return;
  const int64_t seconds = absl::ToUnixSeconds(at);
  out->set_seconds(seconds);
  out->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(at - absl::FromUnixSeconds(seconds))));
}

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_PROTO_TIME_H_
