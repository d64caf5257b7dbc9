// Build contexts that stay on disk between builds, so that a client sends only what has changed.
//
//   <directory>/<digest of the key>[.N]/tree/   the files
//   <directory>/<digest of the key>[.N]/index   what the client said of each, and its digest
//   <directory>/<digest of the key>[.N].lock    held by the build that uses it; size and key, for
//                                               lists; its time is that of the last use
//
// A build has its tree for itself until it ends; another build with the same key gets the next
// copy, .1, .2, ... The lock ends with the process. Files are not synced: an index holds only in
// the boot that wrote it, and a tree without one is thrown away.
//
//   ContextStore::Begin() -> Add() each entry -> Wanted() -> Write() and Close() -> Finish()
//
// ContextStore is thread-safe, the others are thread-compatible; a ContextTree that no update
// changes may be read by several threads. The client is hostile: an entry lies in a directory that
// an earlier entry names, and what is not in the listing is not in the tree.
#ifndef GANTRY_SUPERVISOR_BUILD_CONTEXT_STORE_H_
#define GANTRY_SUPERVISOR_BUILD_CONTEXT_STORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "content-store/digest.h"
#include "proto/gantry/v1/builds.pb.h"
#include "proto/record/v1/build_context.pb.h"
#include "supervisor/build/digest_lane.h"
#include "supervisor/build/trash.h"
#include "supervisor/core/build_cache_directories.h"

namespace gantry::build {

// The files of one context, locked. Writes its index and unlocks at the end.
class ContextTree {
 public:
  ~ContextTree();
  ContextTree(const ContextTree&) = delete;
  ContextTree& operator=(const ContextTree&) = delete;

  int root() const { return root_.get(); }
  const std::string& path() const { return path_; }
  // Of a regular file's content; "" if `path` (relative) is none.
  const std::string& DigestOf(absl::string_view path) const;
  // Takes one file away again, also for the next build. OK if there is none.
  absl::Status Drop(const std::string& path);

 private:
  friend class ContextStore;
  friend class ContextUpdate;
  using File = record::v1::ContextIndex::File;

  ContextTree() = default;
  absl::Status Open(Trash& trash);
  // The directory that holds `path`, open; the name in it goes to `name`.
  absl::StatusOr<int> ParentOf(absl::string_view path, std::string& name);
  // Removes `path`, with what is below it.
  absl::Status Remove(const std::string& path);
  // Before the first change: the index on disk does not describe the tree any more.
  absl::Status BeginChange();
  absl::Status Save();

  std::string key_;
  std::string home_;
  std::string path_;
  UniqueFd lock_;
  UniqueFd root_;
  // What is on disk. By path: a directory before what is in it.
  std::map<std::string, File, std::less<>> files_;
  bool changed_ = false;
  std::string parent_path_;  // of parent_
  UniqueFd parent_;
};

// Brings a tree in step with a client's listing. What was complete when this ends early stays.
class ContextUpdate {
 public:
  explicit ContextUpdate(std::unique_ptr<ContextTree> tree) : tree_(std::move(tree)) {}
  ~ContextUpdate();

  // kInvalidArgument: a malformed or repeated path, one whose directory was not listed before, or a
  // kind of file that no context has; kResourceExhausted: too many.
  absl::Status Add(const v1::ContextEntry& entry);
  // Once, after the last entry: removes what the listing lacks, makes everything but the contents,
  // and returns the entries whose contents are wanted.
  absl::StatusOr<std::vector<uint32_t>> Wanted();

  // Pieces of wanted contents, each in order; contents may interleave.
  // kInvalidArgument: it was not wanted, or is closed.
  absl::Status Write(uint32_t index, std::string bytes);
  // An old one of these, for the next: to be overwritten.
  std::string Buffer() { return lane_.Buffer(); }
  // The content is complete. `missing`: the client has no such file any more.
  absl::Status Close(uint32_t index, bool missing);

  // kDataLoss: contents are still wanted.
  absl::StatusOr<std::unique_ptr<ContextTree>> Finish();

  // Bytes of the wanted contents, as they were listed; after Wanted().
  int64_t wanted_bytes() const;
  // Bytes of contents so far.
  int64_t received_bytes() const { return received_bytes_; }

 private:
  struct Open {
    UniqueFd file;
    std::shared_ptr<content::Hasher> hasher = std::make_shared<content::Hasher>();
    bool late = false;  // the digest is worked out by `lane_`
    int64_t size_bytes = 0;
  };
  absl::Status Make(uint32_t index);
  absl::StatusOr<Open*> OpenContent(uint32_t index);
  absl::Status Dress(const v1::ContextEntry& entry);
  // Notes the digests that come late.
  void Settle();

  std::unique_ptr<ContextTree> tree_;
  std::vector<v1::ContextEntry> listing_;
  absl::flat_hash_map<std::string, uint32_t> by_path_;
  absl::flat_hash_map<uint32_t, bool> wanted_;  // to whether it was opened
  std::map<uint32_t, Open> open_;
  DigestLane lane_;
  std::map<std::string, std::shared_ptr<content::Hasher>> late_;  // of closed files, by path
  int64_t received_bytes_ = 0;
};

class ContextStore : public core::BuildCacheDirectories {
 public:
  // `trash` outlives this.
  ContextStore(std::string directory, Trash& trash)
      : directory_(std::move(directory)), trash_(trash) {}

  absl::StatusOr<std::unique_ptr<ContextUpdate>> Begin(const std::string& key);

  absl::StatusOr<std::vector<Directory>> Directories() override;
  absl::StatusOr<bool> RemoveDirectory(const std::string& id) override;

 private:
  const std::string directory_;
  Trash& trash_;
  absl::Mutex mu_;  // held for each attempt to take a lock
};

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_CONTEXT_STORE_H_
