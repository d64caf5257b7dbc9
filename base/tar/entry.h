// One member of a tar archive, whatever dialect it was written in.
//
// A value.
#ifndef GANTRY_BASE_TAR_ENTRY_H_
#define GANTRY_BASE_TAR_ENTRY_H_

#include <cstdint>
#include <map>
#include <string>

namespace gantry {

enum class TarType { kFile, kHardLink, kSymlink, kCharDevice, kBlockDevice, kDirectory, kFifo };

struct TarTime {
  int64_t seconds = 0;  // since 1970; may be negative
  int32_t nanos = 0;    // 0..999999999

  friend bool operator==(const TarTime&, const TarTime&) = default;
};

struct TarEntry {
  TarType type = TarType::kFile;
  std::string path;         // as written, bytes; neither cleaned nor safe
  std::string link_target;  // of kHardLink and kSymlink
  uint32_t mode = 0;        // permission, setuid, setgid and sticky bits
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t size_bytes = 0;  // of kFile: the file's length, holes included; else 0
  TarTime mtime;
  uint32_t device_major = 0;
  uint32_t device_minor = 0;
  std::map<std::string, std::string> xattrs;  // "security.capability" -> raw bytes
  std::string user_name;
  std::string group_name;
};

}  // namespace gantry

#endif  // GANTRY_BASE_TAR_ENTRY_H_
