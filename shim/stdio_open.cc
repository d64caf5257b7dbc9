// Opening the outputs of a process: on the caller's thread, before the event loop has them.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "shim/logger_process.h"
#include "shim/output_sink.h"
#include "shim/shim_log.h"
#include "shim/stdio.h"
#include "shim/stdio_parts.h"
#include "shim/stdio_uri.h"

namespace gantry::shim {
namespace {

LogOptions LogOptionsOf(const v1::Log& log) {
  LogOptions options;
  options.path = log.path();
  options.format =
      log.format() == v1::Log::CRI ? LogOptions::Format::kCri : LogOptions::Format::kJsonFile;
  options.max_size_bytes = log.max_size_bytes();
  options.max_files = std::max(1, log.max_files());
  options.attributes.insert(log.attributes().begin(), log.attributes().end());
  options.block_when_full = log.block_when_full();
  return options;
}

}  // namespace

absl::Status ProcessIo::Open(const v1::Stdio& stdio) {
  stdio_ = stdio;
  attachable_ = stdio_.attachable() || stdio_.attach_stdin() || stdio_.has_log();
  if (stdio_.has_log() && !stdio_.log().path().empty()) {
    log_ = std::make_unique<LogSink>(LogOptionsOf(stdio_.log()), absl::Now);
    if (const absl::Status status = log_->Open(); !status.ok()) {
      ShimLog(LogLevel::kWarning, absl::StrCat(status.message(), "; tried again with each write"));
    }
  }
  GANTRY_RETURN_IF_ERROR(OpenOutputs());
  return WithContext(OpenStdin(), "stdin");
}

absl::Status ProcessIo::OpenOutputs() {
  if (stdio_.terminal()) {
    GANTRY_ASSIGN_OR_RETURN(ConsoleSocket socket, ConsoleSocket::Listen(context_.console_socket));
    console_socket_.emplace(std::move(socket));
    child_stdio_.console_socket = console_socket_->path();
    return WithContext(OpenTerminalOutput(), "stdout");
  }
  GANTRY_ASSIGN_OR_RETURN(const StdioUri uri, ParseStdioUri(stdio_.stdout()));
  if (uri.kind == StdioUri::Kind::kBinary || uri.kind == StdioUri::Kind::kBinaryV2) {
    return ConnectLogger(stdio_.stdout());
  }
  GANTRY_RETURN_IF_ERROR(WithContext(OpenPipeOutput(0, stdio_.stdout()), "stdout"));
  // file:// of stdout is for both.
  return WithContext(
      OpenPipeOutput(1, uri.kind == StdioUri::Kind::kFile ? stdio_.stdout() : stdio_.stderr()),
      "stderr");
}

absl::Status ProcessIo::OpenTerminalOutput() {
  outputs_[0] = std::make_unique<Output>();
  GANTRY_ASSIGN_OR_RETURN(const StdioUri uri, ParseStdioUri(stdio_.stdout()));
  switch (uri.kind) {
    case StdioUri::Kind::kNone:
      return absl::OkStatus();
    case StdioUri::Kind::kPath: {
      GANTRY_ASSIGN_OR_RETURN(outputs_[0]->sink, OutputSink::OpenPath(context_.loop, uri.path));
      return absl::OkStatus();
    }
    case StdioUri::Kind::kFile: {
      GANTRY_RETURN_IF_ERROR(OpenForAppending(uri.path).status());
      GANTRY_ASSIGN_OR_RETURN(outputs_[0]->sink, OutputSink::OpenPath(context_.loop, uri.path));
      return absl::OkStatus();
    }
    case StdioUri::Kind::kBinary:
    case StdioUri::Kind::kBinaryV2:
      return ConnectLogger(stdio_.stdout());
  }
  return absl::OkStatus();
}

absl::Status ProcessIo::OpenPipeOutput(int index, const std::string& uri_text) {
  GANTRY_ASSIGN_OR_RETURN(const StdioUri uri, ParseStdioUri(uri_text));
  int& child_fd = index == 0 ? child_stdio_.out : child_stdio_.err;
  std::unique_ptr<OutputSink> sink;
  switch (uri.kind) {
    case StdioUri::Kind::kNone:
      if (!attachable_) return absl::OkStatus();  // /dev/null
      break;
    case StdioUri::Kind::kPath: {
      GANTRY_ASSIGN_OR_RETURN(sink, OutputSink::OpenPath(context_.loop, uri.path));
      break;
    }
    case StdioUri::Kind::kFile: {
      GANTRY_ASSIGN_OR_RETURN(UniqueFd file, OpenForAppending(uri.path));
      if (!attachable_) {
        // No client can attach, so the process writes there directly.
        child_fd = file.get();
        child_ends_.push_back(std::move(file));
        return absl::OkStatus();
      }
      GANTRY_ASSIGN_OR_RETURN(sink, OutputSink::OpenPath(context_.loop, uri.path));
      break;
    }
    case StdioUri::Kind::kBinary:
    case StdioUri::Kind::kBinaryV2:
      return absl::InvalidArgumentError("a logger program is given by stdout, for both streams");
  }
  outputs_[index] = std::make_unique<Output>();
  outputs_[index]->sink = std::move(sink);
  UniqueFd write_end;
  GANTRY_RETURN_IF_ERROR(MakePipe(outputs_[index]->source, write_end));
  SetNonBlocking(outputs_[index]->source.get());
  if (fchown(write_end.get(), stdio_.owner_uid(), stdio_.owner_gid()) != 0) {
    return ErrnoToStatus(errno, "change owner of pipe");
  }
  child_fd = write_end.get();
  child_ends_.push_back(std::move(write_end));
  if (index == 1) child_stdio_.last_words = [this] { return LastWords(); };
  return absl::OkStatus();
}

absl::Status ProcessIo::ConnectLogger(const std::string& uri_text) {
  GANTRY_ASSIGN_OR_RETURN(const StdioUri uri, ParseStdioUri(uri_text));
  std::weak_ptr<ProcessIo> weak = weak_from_this();
  GANTRY_ASSIGN_OR_RETURN(
      LoggerPipes pipes,
      StartLogger(uri, context_.name_space, context_.container_id, context_.reaper, [weak] {
        if (std::shared_ptr<ProcessIo> io = weak.lock()) {
          io->LoggerExited();
        }
      }));
  if (stdio_.terminal()) {
    outputs_[0]->sink = OutputSink::ForPipe(context_.loop, std::move(pipes.stdout_write),
                                            std::move(pipes.stdout_read));
    return absl::OkStatus();
  }
  UniqueFd* const writes[2] = {&pipes.stdout_write, &pipes.stderr_write};
  UniqueFd* const reads[2] = {&pipes.stdout_read, &pipes.stderr_read};
  for (int index = 0; index < 2; ++index) {
    int& child_fd = index == 0 ? child_stdio_.out : child_stdio_.err;
    if (!attachable_) {
      // Straight from the process to the logger.
      if (fchown(writes[index]->get(), stdio_.owner_uid(), stdio_.owner_gid()) != 0) {
        return ErrnoToStatus(errno, "change owner of pipe");
      }
      child_fd = writes[index]->get();
      child_ends_.push_back(std::move(*writes[index]));
      logger_keepers_.push_back(std::move(*reads[index]));
      continue;
    }
    GANTRY_RETURN_IF_ERROR(OpenPipeOutput(index, ""));
    outputs_[index]->sink =
        OutputSink::ForPipe(context_.loop, std::move(*writes[index]), std::move(*reads[index]));
  }
  return absl::OkStatus();
}

}  // namespace gantry::shim
