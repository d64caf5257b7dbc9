#include "supervisor/core/restart_monitor.h"

#include <algorithm>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

#include "base/executor.h"
#include "base/status_macros.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/record_facts.h"
#include "supervisor/metadata/filter.h"
#include "supervisor/metadata/record_values.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry::core {
namespace {

constexpr char kStatusLabel[] = "containerd.io/restart.status";
constexpr char kPolicyLabel[] = "containerd.io/restart.policy";
constexpr char kStoppedLabel[] = "containerd.io/restart.explicitly-stopped";
constexpr char kCountLabel[] = "containerd.io/restart.count";
constexpr char kLogLabel[] = "containerd.io/restart.loguri";

constexpr absl::Duration kFirstDelay = absl::Seconds(1);

std::string ValueOf(const Labels& labels, const char* key) {
  const auto it = labels.find(key);
  return it == labels.end() ? "" : it->second;
}

// As Go's strconv.ParseBool: what it does not know is false.
bool IsTrue(const std::string& text) {
  return text == "1" || text == "t" || text == "T" || text == "true" || text == "TRUE" ||
         text == "True";
}

bool PolicyAllows(const Labels& labels, const std::optional<Process>& task) {
  const std::string policy = ValueOf(labels, kPolicyLabel);
  if (policy.empty() || policy == "always" || policy == "unless-stopped") return true;
  const std::pair<std::string, std::string> parts = absl::StrSplit(policy, absl::MaxSplits(':', 1));
  if (parts.first != "on-failure") return false;
  int most = 0, count = 0;
  if (policy != parts.first && !absl::SimpleAtoi(parts.second, &most)) return false;
  const std::string counted = ValueOf(labels, kCountLabel);
  if (!counted.empty() && !absl::SimpleAtoi(counted, &count)) return false;
  return task.has_value() && task->exit_status != 0 && (most == 0 || count < most);
}

CallContext ContextOf(const std::string& ns, CancelToken& cancel) {
  CallContext context;
  context.ns = ns;
  context.cancel = &cancel;
  return context;
}

}  // namespace

RestartWish WishOf(const Labels& labels, const std::optional<Process>& task) {
  const std::string wanted = ValueOf(labels, kStatusLabel);
  const bool ended = !task.has_value() || task->status == ProcessStatus::kStopped;
  if (wanted == "stopped") return ended ? RestartWish::kNothing : RestartWish::kStop;
  if (wanted != "running" || !ended || IsTrue(ValueOf(labels, kStoppedLabel)))
    return RestartWish::kNothing;
  return PolicyAllows(labels, task) ? RestartWish::kRun : RestartWish::kNothing;
}

RestartMonitor::RestartMonitor(const Parts& parts)
    : parts_(parts), later_(parts.stores->clock, *parts.workers) {}

void RestartMonitor::Start() {
  std::shared_ptr<Subscription> subscription = parts_.events->Subscribe(
      [](const Event& event) {
        return event.kind == EventKind::kContainer &&
               (event.action == action::kDie || event.action == action::kCreate ||
                event.action == action::kUpdate || event.action == action::kDestroy);
      },
      [this] { parts_.workers->Schedule([this] { Drain(); }); });
  {
    absl::MutexLock lock(&mu_);
    subscription_ = std::move(subscription);
  }
  parts_.workers->Schedule([this] { FindAll(); });
}

void RestartMonitor::Stop() {
  std::shared_ptr<Subscription> subscription;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    subscription.swap(subscription_);
  }
  if (subscription) subscription->Close();
  later_.Stop();
  cancel_.Cancel("the daemon is stopping");
  absl::MutexLock lock(&mu_);
  const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return working_ == 0; };
  mu_.Await(absl::Condition(&idle));
}

// All that carry the label, in every namespace; they are looked at without delay.
void RestartMonitor::FindAll() {
  std::vector<Key> found;
  std::vector<Key>
      forget;  // stopped by a person, under a policy for which that ends with the daemon
  const absl::Status listed =
      parts_.stores->namespaces.List([&](const record::v1::Namespace& name_space) {
        return parts_.stores->containers.List({name_space.name(), ""}, metadata::Filter(),
                                              [&](const record::v1::Container& container) {
                                                const Labels labels =
                                                    metadata::LabelsOf(container.labels());
                                                if (!labels.contains(kStatusLabel))
                                                  return absl::OkStatus();
                                                const Key key(name_space.name(), container.id());
                                                found.push_back(key);
                                                if (ValueOf(labels, kPolicyLabel) == "always" &&
                                                    IsTrue(ValueOf(labels, kStoppedLabel))) {
                                                  forget.push_back(key);
                                                }
                                                return absl::OkStatus();
                                              });
      });
  LOG_IF(ERROR, !listed.ok()) << "restart monitor: " << listed;
  for (const Key& key : forget) {
    const absl::Status set = SetLabel(key, kStoppedLabel, "false");
    LOG_IF(ERROR, !set.ok()) << "ns=" << key.first << " id=" << key.second
                             << " restart monitor: " << set;
  }
  for (const Key& key : found) LookAfter(key, absl::ZeroDuration());
}

void RestartMonitor::Drain() {
  std::shared_ptr<Subscription> subscription;
  {
    absl::MutexLock lock(&mu_);
    subscription = subscription_;
  }
  if (!subscription) return;
  while (const EventPtr event = subscription->Pop()) {
    const Key key(event->ns, event->id);
    if (event->action == action::kDie) {
      {
        absl::MutexLock lock(&mu_);
        const auto it = watched_.find(key);
        if (it == watched_.end()) continue;
        it->second.ours = false;
      }
      LookAfter(key, absl::ZeroDuration());
    } else if (event->action == action::kDestroy) {
      bool ours = false;
      {
        absl::MutexLock lock(&mu_);
        if (const auto it = watched_.find(key); it != watched_.end()) {
          ours = it->second.ours;
          watched_.erase(it);
        }
      }
      if (ours) RemoveTaskOfGone(key);
    } else if (event->action == action::kUpdate) {
      const auto* written = std::get_if<ContainerFacts>(&event->facts);
      if (written == nullptr) continue;
      if (written->labels.contains(kStatusLabel)) {
        LookAfter(key, absl::ZeroDuration());
      } else {
        absl::MutexLock lock(&mu_);
        watched_.erase(key);
      }
    } else {
      // The client that made it is about to start it.
      const auto* written = std::get_if<ContainerFacts>(&event->facts);
      if (written != nullptr && written->labels.contains(kStatusLabel))
        LookAfter(key, parts_.interval);
    }
  }
  if (subscription->status().ok()) return;
  // It fell behind and knows no more what happened: everything anew.
  LOG(WARNING) << "restart monitor: " << subscription->status();
  {
    absl::MutexLock lock(&mu_);
    if (stopping_) return;
    subscription_ = nullptr;
  }
  Start();
}

void RestartMonitor::LookAfter(const Key& key, absl::Duration delay) {
  {
    absl::MutexLock lock(&mu_);
    if (stopping_) return;
    watched_.try_emplace(key);
  }
  later_.At(delay, [this, key] { Look(key); });
}

void RestartMonitor::Look(const Key& key) {
  {
    absl::MutexLock lock(&mu_);
    const auto it = watched_.find(key);
    if (stopping_ || it == watched_.end()) return;
    if (it->second.busy) {
      it->second.pending = true;
      return;
    }
    it->second.busy = true;
    ++working_;
  }
  const absl::Status acted = Act(key);
  absl::Duration again = absl::InfiniteDuration();
  {
    absl::MutexLock lock(&mu_);
    --working_;
    const auto it = watched_.find(key);
    if (it == watched_.end()) return;
    Watched& one = it->second;
    one.busy = false;
    if (absl::IsNotFound(acted)) {
      watched_.erase(it);
      return;
    }
    if (!acted.ok()) {
      one.delay = std::min(parts_.interval, std::max(kFirstDelay, one.delay * 2));
      again = one.delay;
    } else if (one.pending) {
      again = absl::ZeroDuration();
    }
    one.pending = false;
  }
  LOG_IF(WARNING, !acted.ok() && !absl::IsCancelled(acted))
      << "ns=" << key.first << " id=" << key.second << " restart monitor: " << acted;
  if (again != absl::InfiniteDuration()) LookAfter(key, again);
}

absl::Duration RestartMonitor::LeftOfDelay(const Key& key, const Process& task) {
  absl::MutexLock lock(&mu_);
  const auto it = watched_.find(key);
  if (it == watched_.end()) return absl::ZeroDuration();
  Watched& one = it->second;
  if (one.exited_at != task.exited_at) {
    one.exited_at = task.exited_at;
    if (task.exited_at - task.started_at > parts_.interval) one.delay = absl::ZeroDuration();
    one.delay = std::min(parts_.interval, std::max(kFirstDelay, one.delay * 2));
  }
  // No longer than that, whatever became of the clock.
  return std::min(one.delay, one.exited_at + one.delay - absl::Now());
}

// kNotFound: there is no such container, or nothing is wanted of it any more.
absl::Status RestartMonitor::Act(const Key& key) {
  GANTRY_ASSIGN_OR_RETURN(const record::v1::Container container,
                          parts_.stores->containers.Get({key.first, ""}, key.second));
  std::optional<Process> task;
  if (absl::StatusOr<Process> found = parts_.tasks->view().Get(key.first, key.second, "");
      found.ok()) {
    task = *std::move(found);
  } else if (!absl::IsNotFound(found.status())) {
    return found.status();
  }
  const CallContext context = ContextOf(key.first, cancel_);
  switch (WishOf(metadata::LabelsOf(container.labels()), task)) {
    case RestartWish::kNothing:
      return absl::OkStatus();
    case RestartWish::kStop: {
      const absl::Status gone =
          parts_.tasks->Delete(context, key.second, "", /*force=*/true).status();
      return absl::IsNotFound(gone) ? absl::OkStatus() : gone;
    }
    case RestartWish::kRun:
      break;
  }
  if (task.has_value()) {
    // Whatever made us look: an exit, a changed label (the count is one, and we write it), or that
    // the container is new.
    if (const absl::Duration left = LeftOfDelay(key, *task); left > absl::ZeroDuration()) {
      LookAfter(key, left);
      return absl::OkStatus();
    }
    const absl::Status gone =
        parts_.tasks->Delete(context, key.second, "", /*force=*/true).status();
    if (!gone.ok() && !absl::IsNotFound(gone)) return gone;
  }
  const absl::Status started = Restart(key, container, task.has_value());
  // A client was quicker.
  return absl::IsAlreadyExists(started) ? absl::OkStatus() : started;
}

absl::Status RestartMonitor::Restart(const Key& key, const record::v1::Container& container,
                                     bool had_task) {
  if (had_task) {
    int count = 0;
    const auto it = container.labels().find(kCountLabel);
    if (it != container.labels().end()) (void)absl::SimpleAtoi(it->second, &count);
    GANTRY_RETURN_IF_ERROR(SetLabel(key, kCountLabel, absl::StrCat(count + 1)));
  }
  CreateTask create;
  create.container_id = key.second;
  create.spec_json = container.spec().value();
  create.runtime = container.runtime().name();
  create.runtime_options_type_url = container.runtime().options().type_url();
  create.runtime_options = container.runtime().options().value();
  if (!container.snapshot_key().empty()) {
    GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                            parts_.stores->Snapshots(container.snapshotter(), {key.first, ""}));
    GANTRY_ASSIGN_OR_RETURN(create.rootfs, snapshots.Mounts(container.snapshot_key()));
  }
  GANTRY_ASSIGN_OR_RETURN(const oci::RuntimeSpec spec, oci::RuntimeSpec::Parse(create.spec_json));
  create.stdio.set_terminal(spec.terminal());
  create.stdio.set_stdout(LogUri(container));
  if (!spec.terminal()) create.stdio.set_stderr(create.stdio.stdout());

  const CallContext context = ContextOf(key.first, cancel_);
  GANTRY_RETURN_IF_ERROR(parts_.tasks->Create(context, create).status());
  const absl::Status started = parts_.tasks->Start(context, key.second, "").status();
  if (!started.ok()) {
    const absl::Status undone =
        parts_.tasks->Delete(context, key.second, "", /*force=*/true).status();
    LOG_IF(WARNING, !undone.ok() && !absl::IsNotFound(undone))
        << "ns=" << key.first << " id=" << key.second << " " << undone;
    return started;
  }
  LOG(INFO) << "ns=" << key.first << " id=" << key.second << " started again, as its labels want";
  bool watched = false;
  {
    absl::MutexLock lock(&mu_);
    if (const auto it = watched_.find(key); it != watched_.end()) it->second.ours = watched = true;
  }
  if (!watched) RemoveTaskOfGone(key);
  return absl::OkStatus();
}

void RestartMonitor::RemoveTaskOfGone(const Key& key) {
  if (!absl::IsNotFound(parts_.stores->containers.Get({key.first, ""}, key.second).status())) {
    return;
  }
  const absl::Status removed =
      parts_.tasks->Delete(ContextOf(key.first, cancel_), key.second, "", /*force=*/true).status();
  LOG_IF(WARNING, !removed.ok() && !absl::IsNotFound(removed))
      << "ns=" << key.first << " id=" << key.second << " restart monitor: " << removed;
}

absl::Status RestartMonitor::SetLabel(const Key& key, const std::string& label,
                                      const std::string& value) {
  record::v1::Container wanted;
  wanted.set_id(key.second);
  (*wanted.mutable_labels())[label] = value;
  GANTRY_ASSIGN_OR_RETURN(
      const record::v1::Container record,
      parts_.stores->containers.Update({key.first, ""}, wanted, {absl::StrCat("labels.", label)}));
  Event event(EventKind::kContainer, action::kUpdate, record.id());
  event.low_level = true;  // no person updated it
  event.facts = FactsOfRecord(record);
  parts_.events->Publish(key.first, std::move(event));
  return absl::OkStatus();
}

std::string RestartMonitor::LogUri(const record::v1::Container& container) {
  const auto it = container.labels().find(kLogLabel);
  if (it == container.labels().end() || it->second.empty()) return "";
  if (it->second == container.client_log_uri()) return it->second;
  LOG(WARNING) << "id=" << container.id()
               << " its label for a log URI names what no client has used for it, and is ignored";
  return "";
}

}  // namespace gantry::core
