// Real images for tests, made from what the machine has: no registry, no network.
//
// Thread-safe. Needs tar and, for compressed layers, gzip or zstd.
#ifndef GANTRY_INTEGRATION_IMAGES_H_
#define GANTRY_INTEGRATION_IMAGES_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::integration {

// A root file system around the statically linked busybox, with its applets as links, /etc/passwd
// and /tmp.
absl::Status MakeBusyboxRoot(const std::string& directory);

// Debian's minimal root by debootstrap, kept for later calls under /var/cache or
// $GANTRY_TEST_CACHE. kUnavailable: no debootstrap, or no mirror to be reached; says so for a test
// to skip with.
absl::StatusOr<std::string> DebianRoot();

// What `docker save` writes: one layer of the directory's content, tagged with every name.
struct ImageOptions {
  std::vector<std::string> names = {"busybox:test"};
  std::vector<std::string> command = {"sh"};
  std::map<std::string, std::string> env = {
      {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}};
  std::string layer_compression;     // "", "gzip" or "zstd"
  bool keep_times = false;           // of the files, to the nanosecond; else all have one time
  bool correct_diff_id = true;       // false: the configuration names another layer's
  bool correct_layer_digest = true;  // OCI only
};
absl::Status WriteDockerArchive(const std::string& archive,
                                const std::vector<std::string>& layer_directories,
                                const ImageOptions& options);
// An OCI image layout in a tar.
absl::Status WriteOciArchive(const std::string& archive,
                             const std::vector<std::string>& layer_directories,
                             const ImageOptions& options);

// MakeBusyboxRoot and WriteDockerArchive in one.
absl::Status WriteBusyboxArchive(const std::string& archive, const std::string& name);

// "sha256:<hex>".
std::string Sha256(absl::string_view bytes);
absl::StatusOr<std::string> Sha256OfFile(const std::string& path);

}  // namespace gantry::integration

#endif  // GANTRY_INTEGRATION_IMAGES_H_
