// A file system that forgets what was not synced, as a machine without power does. For tests.
#ifndef GANTRY_SUPERVISOR_METADATA_CRASH_ENV_H_
#define GANTRY_SUPERVISOR_METADATA_CRASH_ENV_H_

#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "rocksdb/env.h"

namespace gantry::metadata {

// Notes how much of each file written through it was synced. Thread-safe.
class CrashEnv : public rocksdb::EnvWrapper {
 public:
  CrashEnv();

  const char* Name() const override { return "CrashEnv"; }

  // From now on what reaches the disk no longer counts as synced: the moment the power goes.
  void PowerOff() ABSL_LOCKS_EXCLUDED(mu_);

  // Cuts every file back to what was synced of it before PowerOff(). The database must be closed.
  void DropUnsynced() ABSL_LOCKS_EXCLUDED(mu_);

  rocksdb::Status NewWritableFile(const std::string& name,
                                  std::unique_ptr<rocksdb::WritableFile>* result,
                                  const rocksdb::EnvOptions& options) override;
  rocksdb::Status RenameFile(const std::string& from, const std::string& to) override;
  rocksdb::Status DeleteFile(const std::string& name) override;

 private:
  friend class CrashFile;
  void NoteSynced(const std::string& name, uint64_t bytes);

  absl::Mutex mu_;
  bool off_ ABSL_GUARDED_BY(mu_) = false;
  std::map<std::string, uint64_t> synced_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_CRASH_ENV_H_
