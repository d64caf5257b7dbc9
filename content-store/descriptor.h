// How one object names another: media type, digest and size of the bytes, and for which platform
// they are.
//
// A value. Spec: OCI image-spec v1.1 "Content Descriptors".
#ifndef GANTRY_CONTENT_STORE_DESCRIPTOR_H_
#define GANTRY_CONTENT_STORE_DESCRIPTOR_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "content-store/digest.h"

namespace gantry::content {

struct Platform {
  std::string os;            // "linux"
  std::string architecture;  // "amd64"
  std::string variant;       // "v8"; may be empty
  std::string os_version;
  std::vector<std::string> os_features;

  friend bool operator==(const Platform&, const Platform&) = default;
};

struct Descriptor {
  std::string media_type;
  Digest digest;
  int64_t size_bytes = 0;
  std::map<std::string, std::string> annotations;
  std::optional<Platform> platform;
  std::vector<std::string> urls;  // where foreign layers live
  std::string artifact_type;
};

}  // namespace gantry::content

#endif  // GANTRY_CONTENT_STORE_DESCRIPTOR_H_
