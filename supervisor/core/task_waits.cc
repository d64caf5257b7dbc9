#include "supervisor/core/task_waits.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "supervisor/core/task_core.h"

namespace gantry::core {

using runtime::TaskKey;

TaskWaits::TaskWaits(std::shared_ptr<TaskCore> core) : core_(std::move(core)) {}

uint64_t TaskWaits::WaitAsync(const std::string& ns, const std::string& id,
                              const std::string& exec_id,
                              std::function<void(absl::StatusOr<Exit>)> done) {
  const TaskKey key{ns, id};
  absl::StatusOr<Exit> answer = NoSuchProcess(key, exec_id);
  if (std::shared_ptr<Task> task = core_->Find(key)) {
    absl::MutexLock lock(&task->mu);
    auto it = task->processes.find(exec_id);
    if (!task->deleted && it != task->processes.end()) {
      const Process& process = it->second.process;
      if (process.status != ProcessStatus::kStopped) {
        absl::StatusOr<uint64_t> ticket = core_->waits.Add({task.get(), exec_id}, std::move(done));
        if (ticket.ok()) return *ticket;
        answer = ticket.status();
      } else {
        answer = Exit{process.pid, process.exit_status, process.exited_at, process.oom_killed};
      }
    }
  }
  done(std::move(answer));
  return 0;
}

uint64_t TaskWaits::WaitNextExitAsync(const std::string& ns, const std::string& id,
                                      std::function<void(absl::StatusOr<Exit>)> done) {
  const absl::StatusOr<uint64_t> ticket =
      core_->waits.Add(TaskCore::NextExitOf({ns, id}), std::move(done));
  if (ticket.ok()) return *ticket;
  done(ticket.status());  // NOLINT(bugprone-use-after-move): it was not taken
  return 0;
}

void TaskWaits::EndNextExitWaits(const std::string& ns, const std::string& id) {
  const TaskKey key{ns, id};
  core_->waits.AnswerAll(TaskCore::NextExitOf(key),
                         absl::NotFoundError(absl::StrCat("container \"", id, "\" in namespace \"",
                                                          ns, "\" was removed before it ended")));
}

void TaskWaits::AnswerNextExitWaits(const std::string& ns, const std::string& id,
                                    const Exit& last) {
  core_->waits.AnswerAll(TaskCore::NextExitOf({ns, id}), last);
}

void TaskWaits::CancelWait(uint64_t ticket) {
  core_->waits.AnswerOne(ticket, absl::CancelledError("the wait was cancelled"));
}

absl::StatusOr<Exit> TaskWaits::Wait(const CallContext& context, const std::string& id,
                                     const std::string& exec_id, absl::Duration limit) {
  struct Answer {
    absl::Notification ready;
    absl::StatusOr<Exit> exit = absl::UnknownError("no answer yet");
  };
  auto answer = std::make_shared<Answer>();
  const uint64_t ticket = WaitAsync(context.ns, id, exec_id, [answer](absl::StatusOr<Exit> exit) {
    answer->exit = std::move(exit);
    answer->ready.Notify();
  });
  CancelToken::Registration on_cancel;
  if (context.cancel != nullptr) {
    limit = std::min(limit, context.cancel->remaining());
    on_cancel = context.cancel->OnCancel([this, ticket] { CancelWait(ticket); });
  }
  if (!answer->ready.WaitForNotificationWithTimeout(limit)) {
    CancelWait(ticket);
    answer->ready.WaitForNotification();
    if (absl::IsCancelled(answer->exit.status())) {
      return absl::DeadlineExceededError(absl::StrCat(ProcessText({context.ns, id}, exec_id),
                                                      ": still running after ",
                                                      absl::FormatDuration(limit)));
    }
  }
  return answer->exit;
}

void TaskWaits::EndWaits() { core_->EndWaits(); }

}  // namespace gantry::core
