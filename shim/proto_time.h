// absl::Time as the protocol writes it.
#ifndef GANTRY_SHIM_PROTO_TIME_H_
#define GANTRY_SHIM_PROTO_TIME_H_

#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"

namespace gantry::shim {

// InfinitePast, "never", leaves the message empty.
inline void SetTimestamp(absl::Time time, google::protobuf::Timestamp* timestamp) {
  if (time == absl::InfinitePast()) return;
  const int64_t nanos = absl::ToUnixNanos(time);
  timestamp->set_seconds(nanos / 1'000'000'000);
  timestamp->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
}

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_PROTO_TIME_H_
