// Names for completion that only the verbs of one group know: the services of a compose project.
//
// A source serves the verbs and options whose `completes` is its kind. Sources are added while the
// tree of verbs is built, before any thread starts.
#ifndef GANTRY_CTL_COMPLETION_H_
#define GANTRY_CTL_COMPLETION_H_

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

#include "ctl/verb.h"

namespace gantry::ctl {

// Called with the values of the group's options in Context::group_values. Prints nothing.
using CompletionSource = std::function<std::vector<std::string>(Context&)>;

void AddCompletionSource(const std::string& kind, CompletionSource source);

// A daemon that does not answer must not hang the shell.
inline constexpr absl::Duration kCompletionPatience = absl::Seconds(2);

// Hands what the stream brings to `take`, as long as kCompletionPatience allows.
template <class Response>
void ReadForCompletion(ReadStream<Response>& stream,
                       const std::function<void(const Response&)>& take) {
  absl::Notification over;
  std::thread guard([&] {
    if (!over.WaitForNotificationWithTimeout(kCompletionPatience)) stream.Cancel();
  });
  Response response;
  while (stream.Read(&response)) take(response);
  over.Notify();
  guard.join();
}

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMPLETION_H_
