#include "supervisor/core/sandbox_service.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/file.h"
#include "base/status_macros.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/metadata/record_values.h"
#include "supervisor/metadata/sandbox_store.h"
#include "supervisor/metadata/validate.h"

namespace gantry::core {
namespace {

// Of the running kernel; "" when it does not say.
std::string BootId() {
  const absl::StatusOr<std::string> id = ReadFile("/proc/sys/kernel/random/boot_id", 64);
  return id.ok() ? std::string(absl::StripAsciiWhitespace(*id)) : "";
}

absl::Status NoSuchSandbox(const std::string& ns, const std::string& id) {
  return absl::NotFoundError(
      absl::StrCat("sandbox \"", id, "\" in namespace \"", ns, "\": not found"));
}

}  // namespace

SandboxService::SandboxService(metadata::SandboxStore& store, EventBus& events, const Clock& clock,
                               std::string boot_id)
    : store_(store),
      events_(events),
      clock_(clock),
      boot_id_(boot_id.empty() ? BootId() : std::move(boot_id)) {
  const absl::Status loaded = Load();
  LOG_IF(ERROR, !loaded.ok()) << "sandboxes: their stored states cannot be read: " << loaded;
}

absl::Status SandboxService::Load() {
  absl::MutexLock change(&change_mu_);
  std::map<Key, Sandbox> known;
  std::vector<Key> ended_by_boot;
  GANTRY_RETURN_IF_ERROR(store_.ListStates(
      [&](absl::string_view ns, absl::string_view id, const record::v1::SandboxState& state) {
        const Key key(ns, id);
        Sandbox& one = known[key];
        one.created_at = metadata::TimeOf(state.created_at());
        one.started = state.started();
        if (state.has_stopped_at()) {
          one.stopped_at = metadata::TimeOf(state.stopped_at());
        } else if (state.boot_id() != boot_id_) {
          one.stopped_at = clock_.Now();
          ended_by_boot.push_back(key);
        }
        return absl::OkStatus();
      }));
  // Stored, so that the next daemon gives the same time.
  for (const Key& key : ended_by_boot) GANTRY_RETURN_IF_ERROR(Save(key, known[key]));
  absl::MutexLock lock(&mu_);
  sandboxes_ = std::move(known);
  return absl::OkStatus();
}

absl::Status SandboxService::Save(const Key& key, const Sandbox& sandbox) {
  record::v1::SandboxState state;
  *state.mutable_created_at() = metadata::StampOf(sandbox.created_at);
  state.set_started(sandbox.started);
  if (sandbox.stopped_at.has_value())
    *state.mutable_stopped_at() = metadata::StampOf(*sandbox.stopped_at);
  state.set_boot_id(boot_id_);
  return store_.PutState({key.first, ""}, key.second, state);
}

absl::Status SandboxService::Create(const std::string& ns, const std::string& id) {
  GANTRY_RETURN_IF_ERROR(metadata::ValidateIdentifier("sandbox id", id));
  const Key key(ns, id);
  {
    absl::MutexLock change(&change_mu_);
    Sandbox fresh;
    fresh.created_at = clock_.Now();
    {
      absl::MutexLock lock(&mu_);
      if (sandboxes_.count(key) > 0) {
        return absl::AlreadyExistsError(
            absl::StrCat("sandbox \"", id, "\" in namespace \"", ns, "\": already exists"));
      }
    }
    GANTRY_RETURN_IF_ERROR(Save(key, fresh));
    absl::MutexLock lock(&mu_);
    sandboxes_.emplace(key, fresh);
  }
  events_.Publish(ns, LowLevelEvent(EventKind::kSandbox, action::kCreate, id));
  return absl::OkStatus();
}

absl::StatusOr<Sandbox> SandboxService::Start(const std::string& ns, const std::string& id) {
  const Key key(ns, id);
  Sandbox started;
  {
    absl::MutexLock change(&change_mu_);
    GANTRY_ASSIGN_OR_RETURN(started, Get(ns, id));
    if (started.stopped_at.has_value())
      return absl::FailedPreconditionError(absl::StrCat("sandbox \"", id, "\": was stopped"));
    started.started = true;
    GANTRY_RETURN_IF_ERROR(Save(key, started));
    absl::MutexLock lock(&mu_);
    sandboxes_[key] = started;
  }
  events_.Publish(ns, LowLevelEvent(EventKind::kSandbox, action::kStart, id));
  return started;
}

absl::Status SandboxService::Stop(const std::string& ns, const std::string& id) {
  return End({ns, id}, /*forget=*/false);
}

absl::Status SandboxService::Shutdown(const std::string& ns, const std::string& id) {
  return End({ns, id}, /*forget=*/true);
}

absl::Status SandboxService::End(const Key& key, bool forget) {
  bool first;
  absl::Time at;
  DueCalls due;
  {
    absl::MutexLock change(&change_mu_);
    GANTRY_ASSIGN_OR_RETURN(Sandbox ended, Get(key.first, key.second));
    first = !ended.stopped_at.has_value();
    if (first) ended.stopped_at = clock_.Now();
    at = *ended.stopped_at;
    GANTRY_RETURN_IF_ERROR(forget ? store_.DeleteState({key.first, ""}, key.second)
                                  : Save(key, ended));
    absl::MutexLock lock(&mu_);
    if (forget) {
      sandboxes_.erase(key);
    } else {
      sandboxes_[key] = ended;
    }
    waits_.Take(key, at, due);
  }
  for (const auto& call : due) call();
  if (!first) return absl::OkStatus();
  events_.Publish(key.first,
                  LowLevelEvent(EventKind::kSandbox, action::kExit, key.second, SandboxFacts{at}));
  return absl::OkStatus();
}

absl::StatusOr<Sandbox> SandboxService::Get(const std::string& ns, const std::string& id) const {
  absl::MutexLock lock(&mu_);
  const auto found = sandboxes_.find({ns, id});
  if (found == sandboxes_.end()) return NoSuchSandbox(ns, id);
  return found->second;
}

SandboxService::Ticket SandboxService::WaitAsync(const std::string& ns, const std::string& id,
                                                 Stopped done) {
  absl::StatusOr<absl::Time> answer = NoSuchSandbox(ns, id);
  {
    absl::MutexLock lock(&mu_);
    const auto found = sandboxes_.find({ns, id});
    if (found != sandboxes_.end() && found->second.stopped_at.has_value()) {
      answer = *found->second.stopped_at;
    } else if (found != sandboxes_.end()) {
      const absl::StatusOr<Ticket> ticket = waits_.Add({ns, id}, std::move(done));
      if (ticket.ok()) return *ticket;
      answer = ticket.status();
    }
  }
  done(std::move(answer));  // NOLINT(bugprone-use-after-move): it was not taken
  return 0;
}

bool SandboxService::CancelWait(Ticket ticket) {
  return waits_.AnswerOne(ticket, absl::CancelledError("the wait was cancelled"));
}

void SandboxService::EndWaits() { waits_.Close(absl::UnavailableError("the daemon is stopping")); }

}  // namespace gantry::core
