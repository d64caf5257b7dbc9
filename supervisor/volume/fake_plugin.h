// A volume driver for tests: docker's protocol over a socket, with directories below one of its
// own.
#ifndef GANTRY_SUPERVISOR_VOLUME_FAKE_PLUGIN_H_
#define GANTRY_SUPERVISOR_VOLUME_FAKE_PLUGIN_H_

#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"

namespace gantry::volume {

class FakePlugin {
 public:
  // Serves at once. `directory` is where its volumes are.
  FakePlugin(std::string socket, std::string directory);
  ~FakePlugin();

  // Of the next call of that name ("VolumeDriver.Mount"): the whole body of the answer, and how it
  // is answered.
  struct Next {
    std::string body = {};
    int status = 200;
    bool hang = false;   // until the fake ends, or the caller leaves
    bool close = false;  // without a byte
  };
  void AnswerNext(const std::string& method, Next next);

  // "VolumeDriver.Mount name id", in order.
  std::vector<std::string> calls() const;
  // Who has a volume mounted.
  std::set<std::string> mounts(const std::string& name) const;

 private:
  void Serve();
  void Handle(int connection);
  std::string Answer(const std::string& method, const std::string& body);

  const std::string socket_;
  const std::string directory_;
  UniqueFd listener_;
  UniqueFd stop_read_;
  UniqueFd stop_write_;
  mutable absl::Mutex mu_;
  std::vector<std::string> calls_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::vector<Next>> next_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::map<std::string, std::string>> volumes_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::set<std::string>> mounts_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread> handlers_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;
};

}  // namespace gantry::volume

#endif  // GANTRY_SUPERVISOR_VOLUME_FAKE_PLUGIN_H_
