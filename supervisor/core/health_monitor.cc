#include "supervisor/core/health_monitor.h"

#include <stdio.h>

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/executor.h"
#include "base/file.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_health.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/container_intent.h"

namespace gantry::core {
namespace {

constexpr size_t kMaxSavedBytes = 1 << 20;

std::string FileIn(const std::string& task_directory) { return task_directory + "/health"; }

}  // namespace

HealthMonitor::HealthMonitor(const Parts& parts)
    : parts_(parts), later_(*parts.clock, *parts.workers) {}

void HealthMonitor::Start() {
  std::shared_ptr<Subscription> subscription = parts_.events->Subscribe(
      [](const Event& event) {
        return event.kind == EventKind::kContainer &&
               (event.action == action::kStart || event.action == action::kDie ||
                event.action == action::kPause || event.action == action::kUnpause ||
                event.action == action::kDestroy);
      },
      [this] {
        if (Enter()) parts_.workers->Schedule([this] { Drain(); });
      });
  absl::MutexLock lock(&mu_);
  subscription_ = std::move(subscription);
}

void HealthMonitor::Stop() {
  std::shared_ptr<Subscription> subscription;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    watched_.clear();
    subscription.swap(subscription_);
  }
  if (subscription) subscription->Close();
  later_.Stop();
  parts_.prober->Stop();
  absl::MutexLock lock(&mu_);
  const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return working_ == 0; };
  mu_.Await(absl::Condition(&idle));
}

bool HealthMonitor::Enter() {
  absl::MutexLock lock(&mu_);
  if (stopping_) return false;
  ++working_;
  return true;
}

void HealthMonitor::Leave() {
  absl::MutexLock lock(&mu_);
  --working_;
}

void HealthMonitor::Drain() {
  std::shared_ptr<Subscription> subscription;
  while (true) {
    {
      absl::MutexLock lock(&mu_);
      if (draining_ && subscription == nullptr) {
        more_events_ = true;
        --working_;
        return;
      }
      if (subscription_ == nullptr || (draining_ && !more_events_)) {
        draining_ = false;
        --working_;
        return;
      }
      draining_ = true;
      more_events_ = false;
      subscription = subscription_;
    }
    while (const EventPtr event = subscription->Pop()) Handle(*event);
    LOG_IF(ERROR, absl::IsResourceExhausted(subscription->status()))
        << "health checks: " << subscription->status()
        << "; containers started meanwhile are not checked until gantryd is restarted";
  }
}

void HealthMonitor::Handle(const Event& event) {
  const Key key(event.ns, event.id);
  if (event.action == action::kStart) {
    Watch(key, parts_.clock->Monotonic(), /*paused=*/false, {});
  } else if (event.action == action::kDie) {
    End(key);
  } else if (event.action == action::kDestroy) {
    End(key);
    parts_.board->Forget(event.ns, event.id);
  } else {
    absl::MutexLock lock(&mu_);
    auto it = watched_.find(key);
    if (it != watched_.end()) it->second.paused = event.action == action::kPause;
  }
}

void HealthMonitor::Adopt(const std::string& ns, const std::string& container,
                          absl::Time started_at, bool paused) {
  v1::HealthState saved;
  const absl::StatusOr<std::string> directory = parts_.task_directory(ns, container);
  if (directory.ok()) {
    const absl::StatusOr<std::string> text = ReadFile(FileIn(*directory), kMaxSavedBytes);
    if (!text.ok() || !saved.ParseFromString(*text)) saved.Clear();
  }
  // How long it has run by the wall clock; one that jumped makes a start period longer or shorter,
  // no more.
  const absl::Duration age = std::max(parts_.clock->Now() - started_at, absl::ZeroDuration());
  Watch({ns, container}, parts_.clock->Monotonic() - age, paused, std::move(saved));
}

void HealthMonitor::Watch(const Key& key, absl::Duration started, bool paused,
                          v1::HealthState health) {
  const absl::StatusOr<record::v1::Container> record =
      parts_.containers->Get({key.first, ""}, key.second);
  if (!record.ok()) return;
  const std::optional<v1::ContainerConfig> config = ReadIntent(*record);
  if (!config.has_value()) return;
  std::optional<HealthOptions> options = HealthOptionsOf(*config);
  if (!options.has_value()) return;
  if (health.status().empty()) health = InitialHealth();
  parts_.board->Set(key.first, key.second, health);
  absl::MutexLock lock(&mu_);
  if (stopping_) return;
  Watched& watched = watched_[key];
  watched = {*std::move(options), started, ++generations_, paused, std::move(health)};
  ProbeLater(key, watched);
}

void HealthMonitor::End(const Key& key) {
  v1::HealthState health;
  {
    absl::MutexLock lock(&mu_);
    auto it = watched_.find(key);
    if (it == watched_.end()) return;
    health = std::move(it->second.health);
    watched_.erase(it);
  }
  // docker calls what has ended unhealthy, without an event.
  health.set_status("unhealthy");
  parts_.board->Set(key.first, key.second, std::move(health));
}

void HealthMonitor::ProbeLater(const Key& key, const Watched& watched) {
  const absl::Duration since_start = parts_.clock->Monotonic() - watched.started;
  later_.At(ProbeDelay(watched.options, since_start, watched.health),
            [this, key, generation = watched.generation] {
              if (!Enter()) return;
              ProbeNow(key, generation);
              Leave();
            });
}

void HealthMonitor::ProbeNow(const Key& key, uint64_t generation) {
  HealthOptions options;
  absl::Duration since_start;
  {
    absl::MutexLock lock(&mu_);
    auto it = watched_.find(key);
    if (it == watched_.end() || it->second.generation != generation) return;
    if (it->second.paused) {
      // Frozen processes answer nothing: that is no failure.
      ProbeLater(key, it->second);
      return;
    }
    options = it->second.options;
    since_start = parts_.clock->Monotonic() - it->second.started;
    ++working_;  // until `done`
  }
  parts_.prober->Probe(key.first, key.second, options,
                       [this, key, generation, since_start](const ProbeResult& result) {
                         Note(key, generation, since_start, result);
                         Leave();
                       });
}

void HealthMonitor::Note(const Key& key, uint64_t generation, absl::Duration since_start,
                         const ProbeResult& result) {
  v1::HealthState health;
  bool changed = false;
  {
    absl::MutexLock lock(&mu_);
    auto it = watched_.find(key);
    if (it == watched_.end() || it->second.generation != generation) return;
    if (!it->second.paused) {
      changed = NoteProbe(it->second.options, since_start, result, it->second.health);
    }
    health = it->second.health;
    ProbeLater(key, it->second);
  }
  parts_.board->Set(key.first, key.second, health);
  Save(key, health);
  if (changed) Publish(key, health.status());
}

void HealthMonitor::Publish(const Key& key, const std::string& status) {
  Event event(EventKind::kContainer, action::kHealthStatus, key.second);
  event.detail = status;
  parts_.events->Publish(key.first, std::move(event));
}

// Not synced: it describes a task, which a power cut ends as well.
void HealthMonitor::Save(const Key& key, const v1::HealthState& health) {
  const absl::StatusOr<std::string> directory = parts_.task_directory(key.first, key.second);
  if (!directory.ok()) return;  // the task is going
  const std::string path = FileIn(*directory);
  absl::Status saved = WriteFile(path + ".new", health.SerializeAsString(), 0600);
  if (saved.ok() && rename((path + ".new").c_str(), path.c_str()) != 0)
    saved = absl::UnavailableError("rename");
  VLOG_IF(1, !saved.ok()) << "ns=" << key.first << " id=" << key.second << " health: " << saved;
}

}  // namespace gantry::core
