#include "supervisor/api/docker/lifecycle_routes.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

#include "base/status_macros.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/api/docker/router.h"
#include "supervisor/core/container_lifecycle.h"
#include "supervisor/core/container_wait.h"

namespace gantry::api::docker {
namespace {

using engine::Value;

absl::Status Start(const Parts& parts, Request& request) {
  // Configuration in the body of a start is an error since API 1.24.
  const absl::StatusOr<std::string> body = request.exchange().ReadAll(kMaxJsonBytes);
  if (!body.ok() && !absl::IsResourceExhausted(body.status())) return body.status();
  if (!body.ok() || body->size() > 7) {
    return absl::InvalidArgumentError(
        "starting container with non-empty request body was deprecated since API v1.22 and removed "
        "in v1.24");
  }
  v1::StartContainerRequest start;
  start.set_container(request.Path("id"));
  start.set_checkpoint(request.Query("checkpoint"));
  start.set_checkpoint_dir(request.Query("checkpoint-dir"));
  GANTRY_ASSIGN_OR_RETURN(const v1::StartContainerResponse started,
                          parts.lifecycle->Start(request.lasting(), start));
  return request.ReplyEmpty(started.already_running() ? 304 : 204);
}

// Signal and patience, as stop and restart have them. Before API 1.42 there was no signal.
template <class Message>
absl::Status ReadStop(const Request& request, Message& message) {
  message.set_container(request.Path("id"));
  if (request.version() >= ApiVersion{1, 42}) message.set_signal(request.Query("signal"));
  GANTRY_ASSIGN_OR_RETURN(const std::optional<int64_t> seconds, request.Number("t"));
  if (!seconds.has_value()) return absl::OkStatus();
  if (*seconds < INT32_MIN || *seconds > INT32_MAX)
    return absl::InvalidArgumentError(absl::StrCat("invalid value for parameter t: ", *seconds));
  message.set_timeout_seconds(static_cast<int32_t>(*seconds));
  return absl::OkStatus();
}

absl::Status Stop(const Parts& parts, Request& request) {
  v1::StopContainerRequest stop;
  GANTRY_RETURN_IF_ERROR(ReadStop(request, stop));
  GANTRY_ASSIGN_OR_RETURN(const v1::StopContainerResponse stopped,
                          parts.lifecycle->Stop(request.lasting(), stop));
  return request.ReplyEmpty(stopped.not_running() ? 304 : 204);
}

absl::Status Restart(const Parts& parts, Request& request) {
  v1::RestartContainerRequest restart;
  GANTRY_RETURN_IF_ERROR(ReadStop(request, restart));
  GANTRY_RETURN_IF_ERROR(parts.lifecycle->Restart(request.lasting(), restart));
  return request.ReplyEmpty(204);
}

absl::Status Kill(const Parts& parts, Request& request) {
  GANTRY_RETURN_IF_ERROR(
      parts.lifecycle->Kill(request.lasting(), request.Path("id"), request.Query("signal")));
  return request.ReplyEmpty(204);
}

absl::Status Pause(const Parts& parts, Request& request) {
  GANTRY_RETURN_IF_ERROR(parts.lifecycle->Pause(request.lasting(), request.Path("id")));
  return request.ReplyEmpty(204);
}

absl::Status Unpause(const Parts& parts, Request& request) {
  GANTRY_RETURN_IF_ERROR(parts.lifecycle->Unpause(request.lasting(), request.Path("id")));
  return request.ReplyEmpty(204);
}

absl::StatusOr<v1::WaitContainerRequest::Condition> ConditionOf(const std::string& text) {
  if (text.empty() || text == "not-running") return v1::WaitContainerRequest::NOT_RUNNING;
  if (text == "next-exit") return v1::WaitContainerRequest::NEXT_EXIT;
  if (text == "removed") return v1::WaitContainerRequest::REMOVED;
  return absl::InvalidArgumentError(
      absl::StrCat("invalid condition: \"", text, "\": use not-running, next-exit or removed"));
}

// One answer that a thread waits for. Shared with the call that gives it, which may be late.
class Answer {
 public:
  void Set(absl::StatusOr<v1::WaitContainerResponse> answer) {
    absl::MutexLock lock(&mu_);
    if (!answer_.has_value()) answer_ = std::move(answer);
  }
  bool has_come() const {
    absl::MutexLock lock(&mu_);
    return answer_.has_value();
  }
  absl::StatusOr<v1::WaitContainerResponse> Await() const {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(
        +[](const std::optional<absl::StatusOr<v1::WaitContainerResponse>>* answer) {
          return answer->has_value();
        },
        &answer_));
    return *answer_;
  }

 private:
  mutable absl::Mutex mu_;
  std::optional<absl::StatusOr<v1::WaitContainerResponse>> answer_ ABSL_GUARDED_BY(mu_);
};

absl::Status Wait(const Parts& parts, Request& request) {
  v1::WaitContainerRequest wait;
  wait.set_container(request.Path("id"));
  GANTRY_ASSIGN_OR_RETURN(const v1::WaitContainerRequest::Condition condition,
                          ConditionOf(request.Query("condition")));
  wait.set_condition(condition);
  const auto answer = std::make_shared<Answer>();
  std::function<void()> give_up = parts.wait->WaitAsync(
      request.lasting(), wait, [answer](absl::StatusOr<v1::WaitContainerResponse> response) {
        answer->Set(std::move(response));
      });
  // What cannot be waited for is known at once.
  if (answer->has_come()) GANTRY_RETURN_IF_ERROR(answer->Await().status());
  // A client that starts the container next does so when it has this header.
  GANTRY_RETURN_IF_ERROR(request.Begin(200, "application/json"));
  absl::StatusOr<v1::WaitContainerResponse> ended = absl::UnknownError("");
  {
    const CancelToken::Registration gone =
        request.cancel().OnCancel([answer] { answer->Set(absl::CancelledError("it has left")); });
    ended = answer->Await();
  }
  if (request.cancel().cancelled()) {
    give_up();
    return request.cancel().Check();
  }
  Value out = Value::EmptyObject();
  if (ended.ok()) {
    out.Set("StatusCode", ended->exit_code());
  } else {
    out.Set("StatusCode", -1);
  }
  const std::string why = ended.ok() ? ended->error() : std::string(ended.status().message());
  if (!why.empty()) {
    Value error = Value::EmptyObject();
    error.Set("Message", why);
    out.Set("Error", std::move(error));
  } else if (request.version() < ApiVersion{1, 42}) {
    out.Set("Error", Value());
  }
  GANTRY_RETURN_IF_ERROR(request.Write(out));
  return request.End();
}

absl::Status NoCheckpoints(const Parts&, Request&) {
  return absl::UnimplementedError(
      "checkpoints are not supported: containers cannot be frozen to disk and restored");
}

}  // namespace

void AddLifecycleRoutes(Router& router, const Parts& parts) {
  router.Add("POST", "/containers/{id}/start", parts, Start);
  router.Add("POST", "/containers/{id}/stop", parts, Stop);
  router.Add("POST", "/containers/{id}/restart", parts, Restart);
  router.Add("POST", "/containers/{id}/kill", parts, Kill);
  router.Add("POST", "/containers/{id}/pause", parts, Pause);
  router.Add("POST", "/containers/{id}/unpause", parts, Unpause);
  router.Add("POST", "/containers/{id}/wait", parts, Wait);
  router.Add("GET", "/containers/{id}/checkpoints", parts, NoCheckpoints);
  router.Add("POST", "/containers/{id}/checkpoints", parts, NoCheckpoints);
  router.Add("DELETE", "/containers/{id}/checkpoints/{checkpoint}", parts, NoCheckpoints);
}

}  // namespace gantry::api::docker
