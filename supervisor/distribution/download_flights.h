// Downloads that run in this process, by digest: the second caller waits for the first.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_DOWNLOAD_FLIGHTS_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_DOWNLOAD_FLIGHTS_H_

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "base/cancel_token.h"
#include "content-store/digest.h"

namespace gantry::distribution {

class DownloadFlights {
 public:
  struct Flight {
    explicit Flight(std::string asked) : domain(std::move(asked)) {}

    const std::string domain;  // of the registry that is asked
    absl::Mutex mutex;
    bool landed ABSL_GUARDED_BY(mutex) = false;
    absl::Status status ABSL_GUARDED_BY(mutex);
    absl::CondVar changed;
  };

  // The flight to wait for; null: the caller is the one who downloads, and makes a Landing.
  std::shared_ptr<Flight> Join(const content::Digest& digest, const std::string& domain);

  // OK: it has landed, with `outcome`. Otherwise the token's error.
  static absl::Status Wait(Flight& flight, CancelToken& cancel, absl::Status& outcome);

  // Whether a caller that asks `domain` would fail as that flight did. A flight that was refused,
  // was cancelled or asked another registry says nothing about others.
  static bool Concerns(const Flight& flight, const absl::Status& outcome, absl::string_view domain);

  // Ends the flight when it goes out of scope, with the status that was last set.
  struct Landing {
    Landing(DownloadFlights& owner, const content::Digest& blob) : flights(owner), digest(blob) {}
    ~Landing() { flights.Land(digest, status); }
    Landing(const Landing&) = delete;
    Landing& operator=(const Landing&) = delete;

    DownloadFlights& flights;
    const content::Digest digest;
    absl::Status status = absl::CancelledError("given up");
  };

 private:
  void Land(const content::Digest& digest, const absl::Status& status);

  absl::Mutex mutex_;
  std::map<content::Digest, std::shared_ptr<Flight>> running_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_DOWNLOAD_FLIGHTS_H_
