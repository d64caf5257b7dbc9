// A thread that reads a descriptor and passes the bytes on, until the end of the file, an error, or
// the receiver wants no more.
#ifndef GANTRY_CTL_FEED_H_
#define GANTRY_CTL_FEED_H_

#include <functional>
#include <string>
#include <thread>

#include "absl/status/status.h"

#include "base/unique_fd.h"

namespace gantry::ctl {

class Feed {
 public:
  // `take` gets each piece (it may keep the string) and says whether it wants more; `end` is called
  // once after the last one with how the reading ended, unless Stop() came first. `fd` is borrowed.
  Feed(int fd, std::function<bool(std::string&&)> take,
       std::function<void(const absl::Status&)> end);
  ~Feed() { Stop(); }

  // Does not wait for more input; waits for a `take` that is running.
  void Stop();

 private:
  void Run();

  const int fd_;
  const std::function<bool(std::string&&)> take_;
  const std::function<void(const absl::Status&)> end_;
  UniqueFd wake_;
  std::thread thread_;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_FEED_H_
