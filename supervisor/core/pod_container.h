// What a container of a pod is asked to be: its configuration, and what that has no words for.
//
// Values.
#ifndef GANTRY_SUPERVISOR_CORE_POD_CONTAINER_H_
#define GANTRY_SUPERVISOR_CORE_POD_CONTAINER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/oci/runtime_spec.h"
#include "supervisor/oci/spec_builder.h"

namespace gantry::core {

// A host directory or an image that a container is shown.
struct PodMount {
  std::string target;
  std::string source;      // host path; made a directory if it is missing
  std::string image;       // instead of `source`; read-only
  std::string image_path;  // below the image's root
  bool read_only = false;
  bool recursive_read_only = false;
  enum class Propagation { kPrivate, kFromHost, kBoth } propagation = Propagation::kPrivate;
  std::vector<oci::IdRange> uids;
  std::vector<oci::IdRange> gids;
  std::vector<std::string> options;
};

struct PodContainer {
  std::string pod;
  std::string name;  // within the pod
  uint32_t attempt = 0;
  // Networks, namespaces, cgroup parent, mounts and limits are taken from the fields below, or from
  // the pod, and not from here.
  v1::ContainerConfig config;
  std::string log_path;  // below the pod's log directory; "" for no log

  enum class Pid { kPod, kOwn, kHost, kOfContainer } pid = Pid::kPod;
  std::string pid_container;  // of kOfContainer: one of the same pod

  std::vector<PodMount> mounts;
  oci::Resources resources;
  std::vector<uint32_t> groups;
  bool only_these_groups = false;  // and not those that the image has for the user
  std::vector<std::string> ambient_capabilities;
  std::vector<std::string> cdi_devices;
  // Has to be as the pod's.
  std::vector<oci::IdRange> uids;
  std::vector<oci::IdRange> gids;
  std::string mount_label;

  std::map<std::string, std::string> extensions;  // the door's, stored with the record
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_POD_CONTAINER_H_
