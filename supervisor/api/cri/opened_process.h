// A process whose streams a client of the streaming server is joined to.
#ifndef GANTRY_SUPERVISOR_API_CRI_OPENED_PROCESS_H_
#define GANTRY_SUPERVISOR_API_CRI_OPENED_PROCESS_H_

#include <functional>
#include <memory>
#include <utility>

#include "supervisor/core/container_streams.h"

namespace gantry::api::cri {

struct OpenedProcess {
  // Implicit: most have nothing but their streams.
  OpenedProcess(
      std::unique_ptr<runtime::AttachStream> streams,  // NOLINT(google-explicit-constructor)
      std::function<void()> left = nullptr)
      : stream(std::move(streams)), client_left(std::move(left)) {}

  std::unique_ptr<runtime::AttachStream> stream;
  // What to do when the client goes before the process has ended. Called after `stream` is gone.
  std::function<void()> client_left;
};

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_OPENED_PROCESS_H_
