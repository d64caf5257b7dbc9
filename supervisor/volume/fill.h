// Copy-up: an empty volume gets the content that the image has where it is mounted.
//
// The copy is made beside the volume's data (".filling"), synced, and renamed to ".filled": from
// then on it will be in the volume, whatever happens. Its entries are moved into the volume one at
// a time; what a container that uses the volume has made there meanwhile stays. A crash leaves a
// copy that is thrown away, or one that EndCutOffFill() goes on to move in: a volume that is not
// empty is never half of the image's content.
//
// Thread-safe; two calls about one volume are the caller's to keep apart.
#ifndef GANTRY_SUPERVISOR_VOLUME_FILL_H_
#define GANTRY_SUPERVISOR_VOLUME_FILL_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace gantry::volume {

// `directory` is a volume's, with "_data" in it; `source` the image's directory, open. Content,
// owners, modes, attributes, times and hard links are copied, and the attributes of the directory
// itself; where the image's is empty, only these. False: the volume is not empty, so it was left
// alone. `sync`: the copy survives a power cut once it is in.
absl::StatusOr<bool> FillVolume(const std::string& directory, int source, bool sync);

// The same with what `make` puts into the empty directory that it is given.
absl::StatusOr<bool> FillVolumeWith(const std::string& directory,
                                    const std::function<absl::Status(const std::string&)>& make,
                                    bool sync);

// The same for a volume whose data is a mount: the copy is made in the volume itself, as
// ".gantry-filling", and does not count as content.
absl::StatusOr<bool> FillMounted(const std::string& data_directory, int source);

// Ends what an earlier FillVolume() has left behind.
absl::Status EndCutOffFill(const std::string& directory);

}  // namespace gantry::volume

#endif  // GANTRY_SUPERVISOR_VOLUME_FILL_H_
