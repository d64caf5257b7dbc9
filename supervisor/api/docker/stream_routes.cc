#include "supervisor/api/docker/stream_routes.h"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "base/engine/units.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "supervisor/api/docker/hijack.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/api/docker/router.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/container_streams.h"
#include "supervisor/core/container_view.h"
#include "supervisor/core/container_wait.h"
#include "supervisor/core/log_reader.h"

namespace gantry::api::docker {
namespace {

constexpr absl::Duration kAttachPatience = absl::Seconds(20);
// Log output is gathered up to this before it is sent.
constexpr size_t kBatchBytes = 32 << 10;

// ---- attach ----

struct AttachQuery {
  bool logs;
  bool stream;
  bool input;
  bool out;
  bool err;
  std::string detach_keys;
};

absl::StatusOr<AttachQuery> AttachQueryOf(const Request& request, bool terminal, bool websocket) {
  // A WebSocket had all streams before there was a choice.
  const bool all = websocket && request.version() < ApiVersion{1, 42};
  AttachQuery query;
  query.logs = request.Flag("logs");
  query.stream = request.Flag("stream");
  query.input = all || request.Flag("stdin");
  query.out = all || request.Flag("stdout");
  query.err = all || request.Flag("stderr");
  GANTRY_ASSIGN_OR_RETURN(std::string keys, ParseDetachKeys(request.Query("detachKeys")));
  // Without a terminal every byte may be data.
  if (terminal) query.detach_keys = std::move(keys);
  return query;
}

// What the container wrote before, to a client that attaches.
absl::Status SendLogs(const Parts& parts, const core::CallContext& context, const std::string& id,
                      const AttachQuery& query, ProcessStream& process, http::Hijacked& client) {
  core::LogQuery logs;
  logs.want_stdout = query.out;
  logs.want_stderr = query.err;
  logs.until = absl::Now();
  return parts.streams->Logs(context, id, logs, [&](const core::LogEntry& entry) {
    return process.Send(client, entry.is_stderr ? FrameOf::kStderr : FrameOf::kStdout, entry.text);
  });
}

bool IsStarted(v1::ContainerState state) {
  return state == v1::CONTAINER_STATE_RUNNING || state == v1::CONTAINER_STATE_PAUSED ||
         state == v1::CONTAINER_STATE_RESTARTING || state == v1::CONTAINER_STATE_REMOVING;
}

void PublishDetach(const Parts& parts, const core::CallContext& context, const std::string& id) {
  const absl::StatusOr<core::LoadedContainer> loaded = parts.records->Load(context, id);
  if (loaded.ok()) parts.records->Publish(*loaded, "detach");
}

absl::Status AttachBy(const Parts& parts, Request& request, bool websocket) {
  const core::CallContext context = request.lasting();
  GANTRY_ASSIGN_OR_RETURN(const v1::ContainerDetails details,
                          parts.view->Inspect(context, request.Path("id"), /*size=*/false));
  const std::string id = details.summary().id();
  const v1::ContainerConfig& config = details.config();
  GANTRY_ASSIGN_OR_RETURN(const AttachQuery query, AttachQueryOf(request, config.tty(), websocket));
  if (!websocket) GANTRY_RETURN_IF_ERROR(CheckUpgrade(request));

  ProcessStream::Options options;
  options.terminal = config.tty();
  options.input = query.input && config.open_stdin();
  options.input_ends_too = config.stdin_once();
  options.detach_keys = query.detach_keys;
  options.websocket = websocket;
  options.websocket_text = request.version() < ApiVersion{1, 28};
  const auto process = std::make_shared<ProcessStream>(std::move(options));
  std::function<void()> give_up;
  if (query.stream) {
    v1::AttachInput::Open open;
    open.set_container(id);
    open.set_stdin(query.input && config.open_stdin());
    open.set_stdout(query.out);
    open.set_stderr(query.err);
    if (IsStarted(details.summary().state())) {
      GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<runtime::AttachStream> stream,
                              parts.streams->Attach(context, open, process.get()));
      process->Use(std::move(stream));
      GANTRY_RETURN_IF_ERROR(process->AwaitAttached(kAttachPatience));
    } else {
      give_up = parts.streams->AttachAtStart(
          context, open, process.get(),
          [process](absl::StatusOr<std::unique_ptr<runtime::AttachStream>> stream) {
            process->Use(std::move(stream));
          });
    }
  }
  // From here on the client may start the container.
  absl::StatusOr<http::Hijacked> taken =
      websocket ? TakeWebSocket(request)
                : TakeConnection(request, StreamType(request.version(), config.tty()));
  if (!taken.ok()) {
    if (give_up) give_up();
    return taken.status();
  }
  http::Hijacked client = *std::move(taken);
  if (query.logs && (query.out || query.err)) {
    // A container that keeps no log has none to show; its stream goes on.
    (void)SendLogs(parts, context, id, query, *process, client);
  }
  if (query.stream) {
    const ProcessStream::Result result = process->Run(client);
    if (give_up) give_up();
    // A client that sees the end of the stream finds the end in the records.
    if (result.end == ProcessStream::End::kExited) (void)parts.wait->SettleExit(context, id);
    if (result.end == ProcessStream::End::kDetached) PublishDetach(parts, context, id);
    if (result.end == ProcessStream::End::kLost && !absl::IsNotFound(result.why) && !config.tty()) {
      // One that has gone needs no reason.
      (void)process->Send(client, FrameOf::kError, result.why.message());
    }
  }
  process->Finish(std::move(client));
  return absl::OkStatus();
}

absl::Status Attach(const Parts& parts, Request& request) {
  return AttachBy(parts, request, /*websocket=*/false);
}

absl::Status AttachWebSocket(const Parts& parts, Request& request) {
  return AttachBy(parts, request, /*websocket=*/true);
}

// ---- logs ----

// As in the query of a URL.
std::string QueryEscape(absl::string_view text) {
  std::string out;
  for (const char c : text) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
        absl::StrContains("-_.~", absl::string_view(&c, 1))) {
      out.push_back(c);
    } else if (c == ' ') {
      out.push_back('+');
    } else {
      absl::StrAppend(&out, "%", absl::AsciiStrToUpper(absl::BytesToHexString({&c, 1})));
    }
  }
  return out;
}

// "a=1,b=2", by key, as the attributes of a line are written.
std::string DetailsText(const std::map<std::string, std::string>& attributes) {
  std::string out;
  for (const auto& [key, value] : attributes)
    absl::StrAppend(&out, out.empty() ? "" : ",", QueryEscape(key), "=", QueryEscape(value));
  return out;
}

std::string LineTime(absl::Time at) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E9SZ", at, absl::UTCTimeZone());
}

// nullopt: the bound was not given, or is 0.
absl::StatusOr<std::optional<absl::Time>> MomentOf(const Request& request, absl::string_view name) {
  const std::string& text = request.Query(name);
  if (text.empty() || text == "0") return std::nullopt;
  const absl::StatusOr<absl::Time> at = engine::ParseTimestamp(text, absl::Now());
  if (!at.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("invalid value for \"", name, "\": ", at.status().message()));
  }
  return *at;
}

absl::StatusOr<core::LogQuery> LogQueryOf(const Request& request) {
  core::LogQuery query;
  query.want_stdout = request.Flag("stdout");
  query.want_stderr = request.Flag("stderr");
  if (!query.want_stdout && !query.want_stderr) {
    return absl::InvalidArgumentError(
        "Bad parameters: you must choose at least one stream: stdout=1 or stderr=1");
  }
  query.follow = request.Flag("follow");
  GANTRY_ASSIGN_OR_RETURN(const auto since, MomentOf(request, "since"));
  GANTRY_ASSIGN_OR_RETURN(const auto until, MomentOf(request, "until"));
  if (since.has_value()) query.since = *since;
  if (until.has_value()) query.until = *until;
  // "all", nothing and what is no number: all of them.
  int64_t lines = 0;
  if (absl::SimpleAtoi(request.Query("tail"), &lines) && lines >= 0) query.tail = lines;
  return query;
}

absl::Status Logs(const Parts& parts, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(const core::LoadedContainer loaded,
                          parts.records->Load(request.context(), request.Path("id")));
  GANTRY_ASSIGN_OR_RETURN(core::LogQuery query, LogQueryOf(request));
  if (!loaded.ours || loaded.config.log().driver() == "none")
    return absl::UnimplementedError("configured logging driver does not support reading");
  const bool terminal = loaded.config.tty();
  const bool times = request.Flag("timestamps");
  const bool details = request.Flag("details");
  GANTRY_RETURN_IF_ERROR(request.Begin(200, StreamType(request.version(), terminal)));
  std::string batch;
  const auto flush = [&]() -> absl::Status {
    if (batch.empty()) return absl::OkStatus();
    GANTRY_RETURN_IF_ERROR(request.WriteBytes(batch));
    batch.clear();
    return absl::OkStatus();
  };
  query.caught_up = flush;
  const absl::Status read = parts.streams->Logs(
      request.context(), loaded.id(), query, [&](const core::LogEntry& entry) -> absl::Status {
        std::string line;
        if (times) absl::StrAppend(&line, LineTime(entry.at), " ");
        if (details) absl::StrAppend(&line, DetailsText(entry.attributes), " ");
        line += entry.text;
        batch += terminal ? std::move(line)
                          : Frame(entry.is_stderr ? FrameOf::kStderr : FrameOf::kStdout, line);
        return batch.size() >= kBatchBytes ? flush() : absl::OkStatus();
      });
  GANTRY_RETURN_IF_ERROR(flush());
  if (!read.ok() && !request.cancel().cancelled() && !terminal)
    GANTRY_RETURN_IF_ERROR(request.WriteBytes(Frame(FrameOf::kError, read.message())));
  // One that left, or a container removed meanwhile, has had everything there was.
  return request.End();
}

// ---- size of the terminal ----

absl::Status Resize(const Parts& parts, Request& request) {
  v1::ResizeRequest resize;
  resize.set_container(request.Path("id"));
  GANTRY_RETURN_IF_ERROR(ReadTerminalSize(request, *resize.mutable_size()));
  GANTRY_RETURN_IF_ERROR(parts.streams->Resize(request.lasting(), resize));
  return request.ReplyEmpty(200);
}

}  // namespace

absl::Status ReadTerminalSize(const Request& request, v1::TerminalSize& size) {
  for (const char* name : {"h", "w"}) {
    GANTRY_ASSIGN_OR_RETURN(const std::optional<int64_t> length, request.Number(name));
    if (!length.has_value() || *length < 0 || *length > UINT32_MAX) {
      return absl::InvalidArgumentError(absl::StrCat("invalid resize height and width: ", name,
                                                     "=\"", request.Query(name), "\""));
    }
    *name == 'h' ? size.set_height(static_cast<uint32_t>(*length))
                 : size.set_width(static_cast<uint32_t>(*length));
  }
  return absl::OkStatus();
}

void AddStreamRoutes(Router& router, const Parts& parts) {
  router.Add("POST", "/containers/{id}/attach", parts, Attach);
  router.Add("GET", "/containers/{id}/attach/ws", parts, AttachWebSocket);
  router.Add("GET", "/containers/{id}/logs", parts, Logs);
  router.Add("POST", "/containers/{id}/resize", parts, Resize);
}

}  // namespace gantry::api::docker
