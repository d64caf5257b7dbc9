// absl::Time as the protocol writes it.
#ifndef GANTRY_SHIM_PROTO_TIME_H_
#define GANTRY_SHIM_PROTO_TIME_H_

#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"

namespace gantry::shim {

// InfinitePast, "never", leaves the message empty. Seconds are counted apart, because nanoseconds
// since 1970 in 64 bits reach only from 1677 to 2262. `nanos` is never negative.
inline void SetTimestamp(absl::Time time, google::protobuf::Timestamp* timestamp) {
  if (time == absl::InfinitePast()) return;
  const int64_t seconds = absl::ToUnixSeconds(time);
  timestamp->set_seconds(seconds);
  timestamp->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
}

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_PROTO_TIME_H_
