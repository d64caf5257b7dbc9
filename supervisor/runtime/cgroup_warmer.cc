#include "supervisor/runtime/cgroup_warmer.h"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"

namespace gantry::runtime {
namespace {

// Measured: a write 10 ms after the last is still cheap, one 20 ms after it waits again. So the
// lock is kept cheap by writing every 6 ms: until a request of ordinary length is surely past its
// attach, and beyond that for the next of the same series, since containers seldom come alone. 80
// writes of some 15 us; a machine at rest has none.
constexpr absl::Duration kInterval = absl::Milliseconds(6);
constexpr absl::Duration kKeepWarm = absl::Milliseconds(500);

std::vector<std::string> OwnProcsFiles() {
  std::vector<std::string> files;
  std::ifstream in("/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    // "4:memory:/path", "1:name=systemd:/path", "0::/path"
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::string path = parts[2] == "/" ? "" : parts[2];
    if (parts[1].empty()) {
      files.push_back(absl::StrCat("/sys/fs/cgroup", path, "/cgroup.procs"));
      files.push_back(absl::StrCat("/sys/fs/cgroup/unified", path, "/cgroup.procs"));
    } else {
      files.push_back(absl::StrCat("/sys/fs/cgroup/", absl::StripPrefix(parts[1], "name="), path,
                                   "/cgroup.procs"));
    }
  }
  return files;
}

}  // namespace

struct CgroupWarmer::State {
  explicit State(UniqueFd file) : procs(std::move(file)) {}

  void Run() {
    mu.Lock();
    while (true) {
      mu.Await(absl::Condition(this, &State::HasWork));
      if (stopping) break;
      // Written without the lock: the first write is the wait that this class exists for.
      mu.Unlock();
      const bool written = pwrite(procs.get(), "0", 1, 0) == 1;
      mu.Lock();
      if (!written) {
        // The cgroup is gone or became read-only; nothing will change that.
        procs_usable = false;
        warm_until = absl::InfinitePast();
        continue;
      }
      ++writes;
      if (absl::Now() >= warm_until) {
        warm_until = absl::InfinitePast();
        continue;
      }
      mu.AwaitWithTimeout(absl::Condition(&stopping), kInterval);
    }
    mu.Unlock();
  }

  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    return stopping || warm_until != absl::InfinitePast();
  }

  const UniqueFd procs;

  absl::Mutex mu;
  bool stopping ABSL_GUARDED_BY(mu) = false;
  bool procs_usable ABSL_GUARDED_BY(mu) = true;
  // Wall clock: a jump costs one slow start, or some needless writes.
  absl::Time warm_until ABSL_GUARDED_BY(mu) = absl::InfinitePast();
  uint64_t writes ABSL_GUARDED_BY(mu) = 0;

  std::thread thread;
};

CgroupWarmer::CgroupWarmer(std::string procs_file) {
  UniqueFd file;
  const std::vector<std::string> candidates =
      procs_file.empty() ? OwnProcsFiles() : std::vector<std::string>{procs_file};
  for (const std::string& path : candidates) {
    file = UniqueFd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (file.valid()) break;
  }
  state_ = std::make_unique<State>(std::move(file));
  if (state_->procs.valid()) state_->thread = std::thread([state = state_.get()] { state->Run(); });
}

CgroupWarmer::~CgroupWarmer() {
  if (!state_->thread.joinable()) return;
  {
    absl::MutexLock lock(&state_->mu);
    state_->stopping = true;
  }
  state_->thread.join();
}

void CgroupWarmer::Poke() {
  if (!state_->procs.valid()) return;
  absl::MutexLock lock(&state_->mu);
  if (state_->procs_usable) state_->warm_until = absl::Now() + kKeepWarm;
}

uint64_t CgroupWarmer::writes() const {
  absl::MutexLock lock(&state_->mu);
  return state_->writes;
}

}  // namespace gantry::runtime
