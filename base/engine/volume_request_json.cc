#include "base/engine/volume_request_json.h"

#include "base/engine/field_reader.h"
#include "proto/gantry/v1/volumes.pb.h"

namespace gantry::engine {

absl::StatusOr<v1::CreateVolumeRequest> CreateVolumeFromDocument(const Value& body) {
  absl::Status status;
  FieldReader in(body, "", &status);
  v1::CreateVolumeRequest request;
  request.set_name(in.String("Name"));
  request.set_driver(in.String("Driver"));
  in.StringMap("DriverOpts", request.mutable_options());
  in.StringMap("Labels", request.mutable_labels());
  if (in.Find("ClusterVolumeSpec") != nullptr)
    in.Refuse("ClusterVolumeSpec", "needs a swarm, and this node is in none");
  if (!status.ok()) return status;
  return request;
}

}  // namespace gantry::engine
