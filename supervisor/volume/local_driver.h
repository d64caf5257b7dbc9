// The directories of volumes.
//
//   <root>/volumes/NAME/_data           what containers see, of namespace "default"
//   <root>/volumes/.namespaces/NS/NAME/_data   of the others
//   .../NAME/.unrecorded                this directory is garbage unless a record names the volume
//   .../NAME/.filling, .filled          a copy of an image's directory on its way in (fill.h)
//   .../.new-*, .removed-*              on their way in and out
//
// NAME is root's, mode 0701: a process of the host reaches what it may inside _data, but cannot
// list what is beside it. A volume's directory is made, with the mark, before its record is
// written, and marked again before its record is deleted, so that what a crash leaves behind is
// found by Sweep(). A directory without the mark is never removed by it: where the database was
// lost, the data of the volumes is still there, and making a volume of that name takes it up again.
//
// Thread-safe; calls about one volume are the caller's to keep apart.
#ifndef GANTRY_SUPERVISOR_VOLUME_LOCAL_DRIVER_H_
#define GANTRY_SUPERVISOR_VOLUME_LOCAL_DRIVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::volume {

// kInvalidArgument, in docker's words: [a-zA-Z0-9][a-zA-Z0-9_.-]+, at most 255 bytes.
absl::Status CheckVolumeName(absl::string_view name);

// Whose volume it is, and its name, which CheckVolumeName() accepts.
struct VolumeKey {
  std::string ns;
  std::string name;
};

class LocalDriver {
 public:
  // Makes <root>/volumes.
  static absl::StatusOr<std::unique_ptr<LocalDriver>> Open(const std::string& root);

  // The volume's directory, and what containers see of it. They need not exist.
  std::string Directory(const VolumeKey& volume) const;
  std::string DataDirectory(const VolumeKey& volume) const;

  // Makes the directory, marked. One that is there and has no mark is taken up as it is. `sync`: it
  // survives a power cut once this returns. `max_bytes`: all of it grows no further; 0: no limit.
  // kFailedPrecondition: a limit, where the file system has no project quotas.
  absl::Status Make(const VolumeKey& volume, bool sync, int64_t max_bytes = 0) const;
  // Its record is written: takes the mark away.
  absl::Status NoteRecorded(const VolumeKey& volume) const;
  // Its record is about to be deleted: marks the directory. NoteRecorded() takes it back.
  absl::Status NoteGoing(const VolumeKey& volume) const;
  // Removes the directory. OK if there is none. What stays after a failure is out of the way of a
  // new volume of that name, and goes with the next Sweep().
  // kFailedPrecondition: something is mounted in it.
  absl::Status Remove(const VolumeKey& volume) const;

  // At start, before any other call: removes marked directories without a record and what is on its
  // way in or out, and ends copies that were cut off. Goes on past errors and returns the first.
  absl::Status Sweep(const std::function<bool(const VolumeKey&)>& is_recorded) const;

  // Whether something is mounted on the volume's data.
  bool IsMounted(const VolumeKey& volume) const;

  // Gives the directory another name, which it notes until NoteRenamed(): a record of the new name
  // is to be written. UndoRename() takes it back, and so does Sweep() where there is no such
  // record. kAlreadyExists: the new name has a directory.
  absl::Status Rename(const VolumeKey& volume, const std::string& new_name) const;
  absl::Status NoteRenamed(const VolumeKey& volume) const;
  absl::Status UndoRename(const VolumeKey& volume) const;

  // Bytes on disk, of what is not mounted from elsewhere.
  absl::StatusOr<int64_t> SizeBytes(const VolumeKey& volume) const;

 private:
  explicit LocalDriver(std::string directory) : directory_(std::move(directory)) {}
  // The directory that the volumes of a namespace are in.
  std::string Parent(absl::string_view ns) const;
  absl::Status SweepNamespace(const std::string& ns,
                              const std::function<bool(const VolumeKey&)>& is_recorded) const;

  const std::string directory_;
};

}  // namespace gantry::volume

#endif  // GANTRY_SUPERVISOR_VOLUME_LOCAL_DRIVER_H_
