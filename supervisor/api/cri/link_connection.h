// A client's connection with its link: waits for the client and for other descriptors at once.
//
// For one thread, which owns it. The socket is non-blocking.
#ifndef GANTRY_SUPERVISOR_API_CRI_LINK_CONNECTION_H_
#define GANTRY_SUPERVISOR_API_CRI_LINK_CONNECTION_H_

#include <poll.h>

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "supervisor/api/cri/stream_link.h"

namespace gantry::api::cri {

class LinkConnection {
 public:
  // While so much waits for the client, nothing more is read from it or should be given to it.
  static constexpr size_t kFullBytes = 512 << 10;

  // `stop` is readable when the server ends; `read_already` came behind the request.
  LinkConnection(UniqueFd socket, std::string read_already, std::unique_ptr<StreamLink> link,
                 int stop, absl::Duration idle_time)
      : socket_(std::move(socket)),
        link_(std::move(link)),
        stop_(stop),
        idle_time_(idle_time),
        read_already_(std::move(read_already)) {}

  StreamLink& link() { return *link_; }
  bool full() const { return unsent_.size() + link_->output_bytes() >= kFullBytes; }

  // Sends what there is and waits until the client sent something, one of `more` is ready or
  // `deadline` (monotonic) has passed. What the client sent is added to `events`. With `read` false
  // the client's bytes are left where they are.
  //   kCancelled         the client has gone
  //   kInvalidArgument, kResourceExhausted  it broke the protocol; it has been told so
  //   kDeadlineExceeded  nothing was sent or received for the idle time
  //   kUnavailable       the server ends
  absl::Status Wait(bool read, absl::Duration deadline, std::vector<pollfd>& more,
                    std::vector<LinkEvent>& events);

  // Ends the link, sends what there is left, and closes once the client has it.
  void Close();

 private:
  absl::Status Send();
  absl::Status Receive(std::vector<LinkEvent>& events);
  absl::Status Feed(absl::string_view bytes, std::vector<LinkEvent>& events);

  const UniqueFd socket_;
  const std::unique_ptr<StreamLink> link_;
  const int stop_;
  const absl::Duration idle_time_;
  std::string read_already_;
  std::string unsent_;
  size_t sent_ = 0;  // of it
  bool begun_ = false;
  absl::Duration active_ = absl::ZeroDuration();  // when something was sent or received last
};

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_LINK_CONNECTION_H_
