// Volume drivers of others: docker's protocol "VolumeDriver" over HTTP.
//
// A driver is a process of somebody else. What it answers is checked, never trusted to be small or
// to come: each call has a deadline, and answers a bound. A driver that cannot be reached is tried
// again for some time, as docker does, because it may just be starting.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_VOLUME_PLUGIN_DRIVER_H_
#define GANTRY_SUPERVISOR_VOLUME_PLUGIN_DRIVER_H_

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "supervisor/volume/options.h"
#include "supervisor/volume/plugin_places.h"

namespace gantry::volume {

// A volume as its driver tells of it.
struct PluginVolume {
  std::string name;
  std::string mountpoint;                     // "" while it is not mounted
  std::string created_at;                     // as the driver writes it
  std::map<std::string, std::string> status;  // values that are no text are JSON
};

// How long calls may take.
struct PluginLimits {
  absl::Duration make = absl::Minutes(2);   // Create, Mount
  absl::Duration other = absl::Minutes(1);  // the rest
  absl::Duration list = absl::Seconds(5);   // List, which others wait for
  // How long a driver that cannot be reached is tried again: after 1, 2, 4, ... seconds.
  absl::Duration unreachable = absl::Seconds(30);
  absl::Duration first_pause = absl::Seconds(1);
};

class PluginDrivers {
 public:
  explicit PluginDrivers(PluginPlaces places, PluginLimits limits = {})
      : places_(std::move(places)), limits_(limits) {}

  // Common status codes of the calls, whose messages begin with the driver's name:
  //   kNotFound            "error looking up volume plugin X: plugin "X" not found"
  //   kFailedPrecondition  it is no volume driver, or it answered with an error: its words
  //   kUnavailable         it was not reached
  //   kDeadlineExceeded    it did not answer in time
  //   kInternal            its answer is none
  // `cancel` may be null.

  // The driver is there and is a driver of volumes.
  absl::Status Check(CancelToken* cancel, const std::string& driver);
  absl::Status Create(CancelToken* cancel, const std::string& driver, const std::string& name,
                      const Options& options);
  absl::Status Remove(CancelToken* cancel, const std::string& driver, const std::string& name);
  // Returns the directory of the host where it is now. `id` names the one who asked.
  absl::StatusOr<std::string> Mount(CancelToken* cancel, const std::string& driver,
                                    const std::string& name, const std::string& id);
  absl::Status Unmount(CancelToken* cancel, const std::string& driver, const std::string& name,
                       const std::string& id);
  absl::StatusOr<PluginVolume> Get(CancelToken* cancel, const std::string& driver,
                                   const std::string& name);
  absl::StatusOr<std::string> Path(CancelToken* cancel, const std::string& driver,
                                   const std::string& name);
  // Not tried again.
  absl::StatusOr<std::vector<PluginVolume>> List(CancelToken* cancel, const std::string& driver);
  // "local" or "global"; what a driver does not say is "local".
  absl::StatusOr<std::string> Scope(CancelToken* cancel, const std::string& driver);

  // All that can be found now, and those that have answered before.
  std::vector<std::string> Names() const { return ListPlugins(places_); }
  std::set<std::string> Known() const;

 private:
  // The answer's text, which is a JSON object without an error in it.
  absl::StatusOr<std::string> Ask(CancelToken* cancel, const std::string& driver,
                                  absl::string_view method, const std::string& body,
                                  absl::Duration limit, bool again = true);
  // One attempt. kUnavailable: nothing was answered.
  absl::StatusOr<std::string> Post(CancelToken* cancel, const PluginAddress& address,
                                   absl::string_view method, const std::string& body,
                                   absl::Duration limit) const;
  absl::StatusOr<std::string> PostAgain(CancelToken* cancel, const PluginAddress& address,
                                        absl::string_view method, const std::string& body,
                                        absl::Duration limit, bool again) const;

  const PluginPlaces places_;
  const PluginLimits limits_;
  mutable absl::Mutex mu_;
  // By name: where it was when it said that it is a driver of volumes.
  std::map<std::string, PluginAddress> activated_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::volume

#endif  // GANTRY_SUPERVISOR_VOLUME_PLUGIN_DRIVER_H_
