// What a transfer tells the people who wait for it.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_PROGRESS_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_PROGRESS_H_

#include <cstdint>
#include <functional>
#include <string>

namespace gantry::distribution {

struct Progress {
  enum class Kind { kReference, kIndex, kManifest, kConfig, kLayer, kOther };
  enum class State {
    kResolving,
    kWaiting,    // known, not started
    kMoving,     // bytes are arriving or leaving
    kRetrying,   // `detail` says why and when
    kVerifying,  // all bytes here, being checked and published
    kDone,
    kExists,   // was there already
    kMounted,  // push: taken over from another repository
    kSkipped,  // not needed (attestation, foreign layer, other platform, already unpacked)
  };

  Kind kind = Kind::kOther;
  State state = State::kWaiting;
  std::string ref;     // the reference's canonical text for kReference, else the digest
  std::string detail;  // for people; may be empty
  int64_t offset_bytes = 0;
  int64_t total_bytes = 0;  // 0: unknown
};

// Called from several threads at once, at most about ten times a second per blob plus once per
// change of state. Must not block.
using ProgressFn = std::function<void(const Progress&)>;

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_PROGRESS_H_
