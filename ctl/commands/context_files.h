// A build's context: the files of a directory less what its .dockerignore leaves out, as a listing,
// and the contents of those that the daemon lacks.
//
// List() -> SendEntries() -> the daemon wants some -> SendContents()
//
// Thread-compatible, but for ContextWanted.
#ifndef GANTRY_CTL_COMMANDS_CONTEXT_FILES_H_
#define GANTRY_CTL_COMMANDS_CONTEXT_FILES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"

#include "base/engine/ignore_file.h"
#include "base/unique_fd.h"
#include "proto/gantry/v1/builds.pb.h"

namespace gantry::ctl {

class FrameWriter;

// Of `<dockerfile>.dockerignore` if that is there, else of `.dockerignore` in the directory; no
// rules if there is neither. kInvalidArgument: it does not parse.
absl::StatusOr<engine::IgnoreRules> ContextRules(const std::string& directory,
                                                 const std::string& dockerfile);
// The text of that file; "" if there is none.
absl::StatusOr<std::string> IgnoreText(const std::string& directory, const std::string& dockerfile);

class ContextFiles {
 public:
  // False: the call is over.
  using Write = std::function<bool(const v1::BuildRequest&)>;

  // `dockerfile` is a path in the directory that is sent whatever the rules say; "" for none.
  // Sorted; a directory comes before what is in it. Sockets are left out.
  static absl::StatusOr<ContextFiles> List(const std::string& directory,
                                           const engine::IgnoreRules& rules,
                                           const std::string& dockerfile);

  const std::vector<v1::ContextEntry>& entries() const { return entries_; }

  // As context number `context` of the build. kCancelled: the call is over.
  absl::Status SendEntries(uint32_t context, const Write& write) const;
  // The contents of these entries. A file that was removed meanwhile is sent as missing.
  absl::Status SendContents(uint32_t context, const std::vector<uint32_t>& wanted,
                            const Write& write) const;
  // The same by a socket of the daemon. False: it cannot be reached, and nothing was sent.
  absl::StatusOr<bool> SendBySocket(const std::string& path, uint32_t context,
                                    const std::vector<uint32_t>& wanted, const Write& write) const;

 private:
  ContextFiles() = default;
  absl::Status SendFile(uint32_t index, FrameWriter& out) const;

  std::string directory_;
  UniqueFd root_;
  std::vector<v1::ContextEntry> entries_;
};

// What the daemon wants of the contexts, from the thread that reads its messages to the one that
// sends. Thread-safe.
class ContextWanted {
 public:
  void Add(const v1::ContextWants& wants) {
    absl::MutexLock lock(&mu_);
    indexes_.insert(indexes_.end(), wants.indexes().begin(), wants.indexes().end());
    complete_ = wants.last();
    socket_ = wants.socket();
  }
  // The daemon says nothing more.
  void End() {
    absl::MutexLock lock(&mu_);
    ended_ = true;
  }
  // Those of the context that was listed last; nullopt: the build has ended. `socket` is the
  // daemon's by which they may be sent, "" for none.
  absl::optional<std::vector<uint32_t>> Take(std::string& socket) {
    absl::MutexLock lock(&mu_);
    const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return complete_ || ended_; };
    mu_.Await(absl::Condition(&ready));
    if (!complete_) return absl::nullopt;
    complete_ = false;
    socket = std::exchange(socket_, "");
    return std::exchange(indexes_, {});
  }

 private:
  absl::Mutex mu_;
  std::vector<uint32_t> indexes_ ABSL_GUARDED_BY(mu_);
  std::string socket_ ABSL_GUARDED_BY(mu_);
  bool complete_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_CONTEXT_FILES_H_
