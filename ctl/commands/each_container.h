// Verbs that ask one thing of each container named: start, stop, restart, kill, pause, unpause.
#ifndef GANTRY_CTL_COMMANDS_EACH_CONTAINER_H_
#define GANTRY_CTL_COMMANDS_EACH_CONTAINER_H_

#include <optional>
#include <string>
#include <vector>

#include "base/status_macros.h"
#include "ctl/verb.h"

namespace gantry::ctl {

// Sends `request` once for each name and prints the names it went well for.
template <class Response, class Request>
absl::StatusOr<int> AskEach(Context& context, const std::vector<std::string>& names,
                            Request request) {
  GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
  return ForEach(context, names, [&](const std::string& name) -> absl::StatusOr<std::string> {
    request.set_container(name);
    Response response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    return name;
  });
}

// For requests that need nothing but the name.
template <class Request, class Response>
class AskEachAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    return AskEach<Response>(context, args, Request());
  }
};

// For stop and restart.
template <class Request, class Response>
class StopEachAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.OptionalInt(
        &timeout_, "timeout", 't',
        "Seconds to wait before killing; -1 for ever (default: the container's, or 10)");
    flags.Alias("time", "timeout");
    flags.String(&signal_, "signal", 's', "signal", "Instead of the container's stop signal");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    Request request;
    request.set_signal(signal_);
    if (timeout_) request.set_timeout_seconds(static_cast<int32_t>(*timeout_));
    return AskEach<Response>(context, args, std::move(request));
  }

 private:
  std::string signal_;
  std::optional<int64_t> timeout_;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_EACH_CONTAINER_H_
