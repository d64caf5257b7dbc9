// absl::Time as messages carry it.
#ifndef GANTRY_SUPERVISOR_CORE_PROTO_TIME_H_
#define GANTRY_SUPERVISOR_CORE_PROTO_TIME_H_

#include <cstdint>

#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"

namespace gantry::core {

inline void SetTimestamp(absl::Time at, google::protobuf::Timestamp* out) {
  const int64_t nanos = absl::ToUnixNanos(at);
  out->set_seconds(nanos / 1000000000);
  out->set_nanos(static_cast<int32_t>(nanos % 1000000000));
}

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_PROTO_TIME_H_
