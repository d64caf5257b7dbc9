// Between protobuf's types in the records and the types the rest of the daemon speaks.
#ifndef GANTRY_SUPERVISOR_METADATA_RECORD_VALUES_H_
#define GANTRY_SUPERVISOR_METADATA_RECORD_VALUES_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/time/time.h"
#include "google/protobuf/map.h"
#include "google/protobuf/timestamp.pb.h"

namespace gantry::metadata {

using ProtoLabels = google::protobuf::Map<std::string, std::string>;

// Go's zero time, which containerd's clients send for "never".
inline constexpr int64_t kGoZeroSeconds = -62135596800;

// "never" in whatever form is InfinitePast.
inline absl::Time TimeOf(const google::protobuf::Timestamp& stamp) {
  if (stamp.seconds() == kGoZeroSeconds || (stamp.seconds() == 0 && stamp.nanos() == 0))
    return absl::InfinitePast();
  return absl::FromUnixSeconds(stamp.seconds()) + absl::Nanoseconds(stamp.nanos());
}

inline google::protobuf::Timestamp StampOf(absl::Time time) {
  google::protobuf::Timestamp stamp;
  const absl::Duration since_epoch = time - absl::UnixEpoch();
  const int64_t seconds = absl::ToUnixSeconds(time);
  stamp.set_seconds(seconds);
  stamp.set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(since_epoch - absl::Seconds(seconds))));
  return stamp;
}

inline std::map<std::string, std::string> LabelsOf(const ProtoLabels& labels) {
  return std::map<std::string, std::string>(labels.begin(), labels.end());
}

inline void SetLabels(const std::map<std::string, std::string>& from, ProtoLabels* to) {
  to->clear();
  for (const auto& [key, value] : from) (*to)[key] = value;
}

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_RECORD_VALUES_H_
