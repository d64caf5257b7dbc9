#include "supervisor/metadata/crash_env.h"

#include <unistd.h>

#include <utility>

namespace gantry::metadata {

class CrashFile final : public rocksdb::WritableFileWrapper {
 public:
  CrashFile(CrashEnv& env, std::string name, std::unique_ptr<rocksdb::WritableFile> below)
      : WritableFileWrapper(below.get()),
        env_(env),
        name_(std::move(name)),
        below_(std::move(below)) {}

  rocksdb::Status Sync() override { return Note(WritableFileWrapper::Sync()); }
  rocksdb::Status Fsync() override { return Note(WritableFileWrapper::Fsync()); }

 private:
  rocksdb::Status Note(rocksdb::Status status) {
    if (status.ok()) env_.NoteSynced(name_, GetFileSize());
    return status;
  }

  CrashEnv& env_;
  const std::string name_;
  const std::unique_ptr<rocksdb::WritableFile> below_;
};

CrashEnv::CrashEnv() : EnvWrapper(rocksdb::Env::Default()) {}

void CrashEnv::PowerOff() {
  absl::MutexLock lock(&mu_);
  off_ = true;
}

void CrashEnv::DropUnsynced() {
  absl::MutexLock lock(&mu_);
  for (const auto& [name, bytes] : synced_) {
    // Files that are gone since need no cutting.
    if (::truncate(name.c_str(), static_cast<off_t>(bytes)) != 0) continue;
  }
  synced_.clear();
  off_ = false;
}

rocksdb::Status CrashEnv::NewWritableFile(const std::string& name,
                                          std::unique_ptr<rocksdb::WritableFile>* result,
                                          const rocksdb::EnvOptions& options) {
  std::unique_ptr<rocksdb::WritableFile> below;
  rocksdb::Status status = EnvWrapper::NewWritableFile(name, &below, options);
  if (!status.ok()) return status;
  {
    absl::MutexLock lock(&mu_);
    synced_[name] = 0;
  }
  *result = std::make_unique<CrashFile>(*this, name, std::move(below));
  return status;
}

rocksdb::Status CrashEnv::RenameFile(const std::string& from, const std::string& to) {
  rocksdb::Status status = EnvWrapper::RenameFile(from, to);
  if (!status.ok()) return status;
  absl::MutexLock lock(&mu_);
  if (auto it = synced_.find(from); it != synced_.end()) {
    synced_[to] = it->second;
    synced_.erase(it);
  }
  return status;
}

rocksdb::Status CrashEnv::DeleteFile(const std::string& name) {
  absl::MutexLock lock(&mu_);
  synced_.erase(name);
  return EnvWrapper::DeleteFile(name);
}

void CrashEnv::NoteSynced(const std::string& name, uint64_t bytes) {
  absl::MutexLock lock(&mu_);
  if (!off_) synced_[name] = bytes;
}

}  // namespace gantry::metadata
