// libnftables, on a thread that has descriptors of its own. The library waits with select(), which
// ends the process at the first descriptor above 1023; a daemon with a thousand containers has that
// many open, and its socket for nftables may be any of them.
//
// The library is loaded with the first network: a daemon without networks neither needs it nor
// carries its memory.
#ifndef GANTRY_SUPERVISOR_NETWORK_NFTABLES_H_
#define GANTRY_SUPERVISOR_NETWORK_NFTABLES_H_

#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace gantry::network {

// Thread-safe; one call at a time is carried out.
class Nftables {
 public:
  // For the network namespace of the calling thread.
  //   kUnimplemented      the library, or nftables in the kernel, is missing
  //   kResourceExhausted  no more threads
  static absl::StatusOr<std::unique_ptr<Nftables>> Open();
  ~Nftables();
  Nftables(const Nftables&) = delete;
  Nftables& operator=(const Nftables&) = delete;

  struct Outcome {
    bool ok = false;
    std::string output;
    std::string error;  // several lines, of which the first says what is wrong and where
  };
  // Commands as the program nft reads them from a file: one transaction.
  Outcome Run(const std::string& commands) ABSL_LOCKS_EXCLUDED(calls_, mu_);

 private:
  struct Library;
  enum class Stage { kStarting, kIdle, kAsked, kAnswered, kEnding, kFailed };

  explicit Nftables(const Library& library) : library_(library) {}
  static const absl::StatusOr<Library>& Load();
  void Serve() ABSL_LOCKS_EXCLUDED(mu_);
  bool IsStarted() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stage_ != Stage::kStarting; }
  bool IsWanted() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return stage_ == Stage::kAsked || stage_ == Stage::kEnding;
  }
  bool IsAnswered() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stage_ == Stage::kAnswered; }

  const Library& library_;
  absl::Mutex calls_;  // held by the caller whose commands are carried out; before mu_
  absl::Mutex mu_;
  Stage stage_ ABSL_GUARDED_BY(mu_) = Stage::kStarting;
  const std::string* commands_ ABSL_GUARDED_BY(mu_) = nullptr;
  Outcome outcome_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;
};

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_NFTABLES_H_
