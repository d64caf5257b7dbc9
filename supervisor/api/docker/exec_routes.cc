#include "supervisor/api/docker/exec_routes.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "base/engine/config_json.h"
#include "base/engine/container_json.h"
#include "base/engine/field_reader.h"
#include "base/engine/proto_time.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "supervisor/api/docker/hijack.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/api/docker/router.h"
#include "supervisor/api/docker/stream_routes.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/exec_service.h"
#include "supervisor/core/start_failure.h"

namespace gantry::api::docker {
namespace {

using engine::Value;

absl::Status InDockersWords(const absl::Status& error, const Request& request) {
  if (!absl::IsNotFound(error)) return error;
  return absl::NotFoundError(absl::StrCat("No such exec instance: ", request.Path("id")));
}

absl::StatusOr<core::ExecState> FindExec(const Parts& parts, Request& request) {
  absl::StatusOr<core::ExecState> state =
      parts.execs->Inspect(request.lasting(), request.Path("id"));
  if (!state.ok()) return InDockersWords(state.status(), request);
  return state;
}

absl::Status Create(const Parts& parts, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(const Value body, request.Json());
  v1::ExecConfig config;
  GANTRY_RETURN_IF_ERROR(engine::ExecFromDocument(body, config));
  GANTRY_RETURN_IF_ERROR(ParseDetachKeys(config.detach_keys()).status());
  GANTRY_ASSIGN_OR_RETURN(const std::string id,
                          parts.execs->Create(request.lasting(), request.Path("id"), config));
  Value out = Value::EmptyObject();
  out.Set("Id", id);
  return request.Reply(201, out);
}

// Of an exec that could not be started a client learns afterwards, by its exit code.
void NoteFailure(const Parts& parts, const std::string& id, const absl::Status& why) {
  const uint32_t code = core::StartFailureCode(why);
  parts.execs->NoteExit(kNamespace, id, code == 128 ? 126 : code, absl::Now());
}

absl::Status Start(const Parts& parts, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(const Value body, request.Json());
  absl::Status malformed;
  engine::FieldReader in(body, "", &malformed);
  const bool detach = in.Bool("Detach");
  const bool tty_given = in.Find("Tty") != nullptr;
  const bool tty = in.Bool("Tty");
  v1::TerminalSize size;
  const bool sized = engine::ReadConsoleSize(in, size);
  GANTRY_RETURN_IF_ERROR(malformed);
  const core::CallContext context = request.lasting();
  const absl::StatusOr<core::ExecState> startable =
      parts.execs->Startable(context, request.Path("id"));
  if (!startable.ok()) return InDockersWords(startable.status(), request);
  const core::ExecState& exec = *startable;
  if (detach) {
    const absl::Status started = parts.execs->Start(context, exec.exec_id, nullptr).status();
    if (!started.ok()) {
      NoteFailure(parts, exec.exec_id, started);
      return started;
    }
    return request.ReplyEmpty(200);
  }
  GANTRY_RETURN_IF_ERROR(CheckUpgrade(request));
  // Old clients decide by what they asked for now how they read the stream.
  const bool terminal = tty_given ? tty : exec.config->tty();
  ProcessStream::Options options;
  options.terminal = terminal;
  options.input = exec.config->attach_stdin();
  options.input_ends_too = true;
  if (exec.config->tty()) {
    GANTRY_ASSIGN_OR_RETURN(options.detach_keys, ParseDetachKeys(exec.config->detach_keys()));
  }
  GANTRY_ASSIGN_OR_RETURN(http::Hijacked client,
                          TakeConnection(request, StreamType(request.version(), terminal)));
  const auto process = std::make_shared<ProcessStream>(std::move(options));
  absl::StatusOr<core::ExecService::StartedExec> started =
      parts.execs->Start(context, exec.exec_id, process.get());
  if (!started.ok()) {
    NoteFailure(parts, exec.exec_id, started.status());
    const std::string text = absl::StrCat(started.status().message(), "\r\n");
    (void)process->Send(client, FrameOf::kStdout, text);
    process->Finish(std::move(client));
    return absl::OkStatus();
  }
  process->Use(std::move(started->stream));
  if (sized && exec.config->tty()) (void)parts.execs->Resize(context, exec.exec_id, size);
  const ProcessStream::Result result = process->Run(client);
  // A client that sees the end of the stream finds the exit code.
  if (result.end == ProcessStream::End::kExited) {
    parts.execs->NoteExit(kNamespace, exec.exec_id, result.exited.exit_status(),
                          engine::FromProto(result.exited.exited_at()));
  }
  if (result.end == ProcessStream::End::kDetached) {
    const absl::StatusOr<core::LoadedContainer> loaded =
        parts.records->Load(context, exec.container_id);
    if (loaded.ok()) parts.records->Publish(*loaded, "exec_detach", {{"execID", exec.exec_id}});
  }
  if (result.end == ProcessStream::End::kClientLeft)
    parts.execs->ClientLeft(kNamespace, exec.container_id, exec.exec_id);
  process->Finish(std::move(client));
  return absl::OkStatus();
}

absl::Status Inspect(const Parts& parts, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(const core::ExecState state, FindExec(parts, request));
  v1::ExecDetails exec;
  exec.set_exec_id(state.exec_id);
  exec.set_container_id(state.container_id);
  *exec.mutable_config() = *state.config;
  exec.set_running(state.running());
  exec.set_pid(state.pid);
  if (state.exit_code.has_value()) exec.set_exit_code(*state.exit_code);
  return request.Reply(200, engine::ExecDocument(exec));
}

absl::Status Resize(const Parts& parts, Request& request) {
  GANTRY_RETURN_IF_ERROR(FindExec(parts, request).status());
  v1::TerminalSize size;
  GANTRY_RETURN_IF_ERROR(ReadTerminalSize(request, size));
  GANTRY_RETURN_IF_ERROR(parts.execs->Resize(request.lasting(), request.Path("id"), size));
  return request.ReplyEmpty(200);
}

}  // namespace

void AddExecRoutes(Router& router, const Parts& parts) {
  router.Add("POST", "/containers/{id}/exec", parts, Create);
  router.Add("POST", "/exec/{id}/start", parts, Start);
  router.Add("POST", "/exec/{id}/resize", parts, Resize);
  router.Add("GET", "/exec/{id}/json", parts, Inspect);
}

}  // namespace gantry::api::docker
