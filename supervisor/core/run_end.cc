#include "supervisor/core/run_end.h"

#include <signal.h>
#include <stdio.h>

#include <cerrno>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "supervisor/core/event.h"
#include "supervisor/core/kernel_messages.h"
#include "supervisor/core/proto_time.h"

namespace gantry::core {
namespace {

constexpr char kFile[] = "/last-end";
constexpr size_t kMaxBytes = 256 << 10;
// Between the kernel's clock of its log and ours of when a process started and ended.
constexpr absl::Duration kClockSlack = absl::Seconds(2);
constexpr char kKill[] = "kill";
constexpr char kStop[] = "stop";
constexpr char kRestart[] = "restart";

// What the kernel's log says about an end that needs an explanation. The log is read only for
// those.
KernelMessages KernelMessagesOf(const Process& process, const record::v1::RunEnd& end) {
  const bool child_was_ended = end.exit_signal() == 0 && end.exit_code() > 128;
  const bool asked_for = end.has_request() && !end.oom_killed() &&
                         (end.request().signal() == end.exit_signal() || end.request().forced());
  if (asked_for || (end.exit_signal() == 0 && !end.oom_killed() && !child_was_ended)) return {};
  const absl::Duration now = Clock::Real().Monotonic();
  KernelSubject subject;
  subject.container_id = process.container_id;
  subject.pid = process.pid;
  subject.child_was_ended = child_was_ended;
  subject.until = now - (absl::Now() - process.exited_at) + kClockSlack;
  if (process.started_at != absl::InfinitePast())
    subject.from = now - (absl::Now() - process.started_at) - kClockSlack;
  return ReadKernelMessages(subject);
}

// Who asked, as far as that is known.
void SetCaller(const Event& event, record::v1::EndRequest& request) {
  request.clear_caller();
  if (event.caller == nullptr) return;
  const Caller& from = *event.caller;
  record::v1::Caller& caller = *request.mutable_caller();
  caller.set_door(from.door);
  caller.set_has_process(from.pid != 0);
  caller.set_uid(from.uid);
  caller.set_pid(from.pid);
  caller.set_program(from.program);
  caller.set_address(from.address);
}

// <bundle>/exit.signal, which the shim writes before it tells of an end by a signal.
uint32_t ExitSignal(const std::string& bundle) {
  constexpr size_t kMaxDigits = 8;
  const absl::StatusOr<std::string> text = ReadFile(bundle + "/exit.signal", kMaxDigits);
  uint32_t signal = 0;
  return text.ok() && absl::SimpleAtoi(*text, &signal) ? signal : 0;
}

absl::StatusOr<record::v1::RunEnd> ReadEnd(const std::string& path) {
  GANTRY_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxBytes));
  record::v1::RunEnd end;
  if (!end.ParseFromString(bytes)) return absl::DataLossError(absl::StrCat(path, ": damaged"));
  return end;
}

void WriteEnd(const std::string& path, const record::v1::RunEnd& end) {
  const std::string aside = path + ".new";
  absl::Status written = WriteFile(aside, end.SerializeAsString(), 0600);
  if (written.ok() && rename(aside.c_str(), path.c_str()) != 0)
    written = ErrnoToStatus(errno, absl::StrCat("rename to ", path));
  LOG_IF(INFO, !written.ok()) << "how a run ended cannot be kept: " << written;
}

}  // namespace

RunEnds::RunEnds(const Parts& parts) : parts_(parts) {
  absl::MutexLock lock(&mu_);
  Subscribe();
}

RunEnds::~RunEnds() {
  absl::MutexLock lock(&mu_);
  subscription_->Close();
}

void RunEnds::Subscribe() {
  subscription_ = parts_.events->Subscribe(
      [](const Event& event) {
        return event.kind == EventKind::kContainer &&
               (event.action == kKill || event.action == kStop || event.action == kRestart ||
                event.action == action::kStart || event.action == action::kDestroy);
      },
      [] {});
}

void RunEnds::TakeEvents() {
  while (const EventPtr event = subscription_->Pop()) TakeEvent(*event);
  // Too many came with no end among them: what asked for the ends of those runs is lost.
  if (!subscription_->status().ok()) Subscribe();
}

void RunEnds::TakeEvent(const Event& event) {
  const Key key(event.ns, event.id);
  if (event.action == action::kStart || event.action == action::kDestroy) {
    requests_.erase(key);
    return;
  }
  if (event.action == kKill) {
    const auto text = event.attributes.find("signal");
    uint32_t signal = 0;
    if (text == event.attributes.end() || !absl::SimpleAtoi(text->second, &signal)) return;
    record::v1::EndRequest& request = requests_[key];
    // A stop sends its signal and then, when the process does not end in time, SIGKILL. A signal
    // that the process took for something else, such as a reload, is replaced by the next.
    request.set_forced(signal == SIGKILL && request.signal() != 0 && request.signal() != SIGKILL);
    if (!request.forced()) request.set_signal(signal);
    request.set_call(kKill);
    // Of several calls the last one's signal counts, unless it only enforces the first.
    if (!request.forced() || !request.has_caller()) SetCaller(event, request);
    SetTimestamp(event.at, request.mutable_at());
    return;
  }
  // Published when the stop is over: the end may be written down by now.
  if (const auto request = requests_.find(key); request != requests_.end()) {
    request->second.set_call(event.action);
    return;
  }
  absl::StatusOr<record::v1::RunEnd> end = ReadEnd(PathOf(key));
  if (!end.ok() || !end->has_request()) return;
  end->mutable_request()->set_call(event.action);
  WriteEnd(PathOf(key), *end);
}

record::v1::RunEnd RunEnds::Known(const LoadedContainer& loaded, const Process& process) const {
  record::v1::RunEnd end;
  if (const absl::StatusOr<std::string> bundle =
          parts_.tasks->BundleDirectory(loaded.scope.ns, loaded.id());
      bundle.ok())
    end.set_exit_signal(ExitSignal(*bundle));
  end.set_exit_code(process.exit_status);
  end.set_oom_killed(process.oom_killed);
  end.set_error(process.reason);
  if (process.started_at != absl::InfinitePast()) {
    SetTimestamp(process.started_at, end.mutable_started_at());
  } else if (loaded.state.has_started_at()) {
    *end.mutable_started_at() = loaded.state.started_at();
  }
  SetTimestamp(process.exited_at, end.mutable_finished_at());
  return end;
}

void RunEnds::NoteEnded(const std::string& ns, const Process& process) {
  if (!process.exec_id.empty()) return;
  CallContext context;
  context.ns = ns;
  const absl::StatusOr<LoadedContainer> loaded =
      parts_.records->Load(context, process.container_id);
  // The report of a container that removes itself, or is being removed, would go with it: see
  // Describe().
  if (!loaded.ok() || !loaded->ours || loaded->config.auto_remove() || loaded->state.removing())
    return;
  // Before anything slow: the bundle goes when the end has been settled.
  record::v1::RunEnd end = Explained(*loaded, process);
  absl::MutexLock lock(&mu_);
  TakeEvents();
  const Key key(ns, process.container_id);
  // A stop that was over meanwhile has said more about the request.
  auto request = requests_.extract(key);
  if (!request.empty()) *end.mutable_request() = std::move(request.mapped());
  WriteEnd(PathOf(key), end);
}

record::v1::RunEnd RunEnds::Describe(const LoadedContainer& loaded, const Process& process) {
  return Explained(loaded, process);
}

record::v1::RunEnd RunEnds::Explained(const LoadedContainer& loaded, const Process& process) {
  record::v1::RunEnd end = Known(loaded, process);
  {
    absl::MutexLock lock(&mu_);
    TakeEvents();
    const auto request = requests_.find({loaded.scope.ns, loaded.id()});
    if (request != requests_.end()) *end.mutable_request() = request->second;
  }
  KernelMessages kernel = KernelMessagesOf(process, end);
  for (std::string& line : kernel.lines) end.add_kernel_lines(std::move(line));
  if (kernel.oom.has_value()) *end.mutable_oom() = *std::move(kernel.oom);
  return end;
}

absl::StatusOr<record::v1::RunEnd> RunEnds::Read(const LoadedContainer& loaded) {
  absl::MutexLock lock(&mu_);
  TakeEvents();
  return ReadEnd(PathOf({loaded.scope.ns, loaded.id()}));
}

std::string RunEnds::PathOf(const Key& key) const {
  return parts_.records->Directory(key.first, key.second) + kFile;
}

}  // namespace gantry::core
