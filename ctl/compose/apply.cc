#include "ctl/compose/apply.h"

#include <algorithm>
#include <map>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

#include "base/status_macros.h"
#include "ctl/compose/service_update.h"

namespace gantry::compose {
namespace {

using Mark = ProgressBoard::Mark;

class Applier {
 public:
  Applier(const Project& project, const Plan& plan, Engine& engine, ProgressBoard& board,
          const ApplyOptions& options)
      : project_(project),
        plan_(plan),
        engine_(engine),
        board_(board),
        options_(options),
        ids_(plan.steps.size()) {}

  absl::Status Do(size_t index) {
    const Step& step = plan_.steps[index];
    switch (step.kind) {
      case Step::Kind::kPull: {
        const absl::Status pulled = options_.pull(step);
        return pulled.ok() || !step.builds || absl::IsCancelled(pulled) ? pulled
                                                                        : options_.build(step);
      }
      case Step::Kind::kBuild:
        return options_.build(step);
      case Step::Kind::kCreateNetwork:
        return Shown(absl::StrCat("Network ", step.object), "Creating", "Created",
                     [&] { return engine_.CreateNetwork(project_, step.key); });
      case Step::Kind::kRecreateNetwork:
        return Shown(absl::StrCat("Network ", step.object), "Recreate", "Recreated",
                     [&] { return engine_.RecreateNetwork(project_, step.key); });
      case Step::Kind::kCreateVolume:
        return Shown(absl::StrCat("Volume ", step.object), "Creating", "Created",
                     [&] { return engine_.CreateVolume(project_, step.key); });
      case Step::Kind::kRemove:
        return Shown(Part(step), "Removing", "Removed", [&]() -> absl::Status {
          GANTRY_RETURN_IF_ERROR(
              engine_.StopWithHooks(project_, step.service, step.id, options_.timeout_seconds));
          return engine_.Remove(step.id, /*force=*/true, /*volumes=*/false);
        });
      case Step::Kind::kProvide:
        return absl::OkStatus();
      case Step::Kind::kKeep:
        SetId(index, step.id);
        engine_.Know(step.service, step.id);
        if (!step.reason.empty()) board_.Update(Part(step), "Running", Mark::kDone);
        return absl::OkStatus();
      case Step::Kind::kCreate:
        return Shown(Part(step), "Creating", "Created", [&]() -> absl::Status {
          GANTRY_ASSIGN_OR_RETURN(const std::string id,
                                  engine_.CreateContainer(project_, step.service, step.number));
          return Made(index, id);
        });
      case Step::Kind::kRecreate:
        return Shown(Part(step), "Recreate", "Recreated", [&]() -> absl::Status {
          GANTRY_ASSIGN_OR_RETURN(
              const std::string id,
              engine_.RecreateContainer(project_, step, options_.timeout_seconds,
                                        !options_.renew_anonymous_volumes));
          return Made(index, id);
        });
      case Step::Kind::kUpdate:
        return Update(index);
      case Step::Kind::kRename:
        return engine_.Rename(step.id, step.object);
      case Step::Kind::kRestart:
        return Shown(Part(step), "Restarting", "Restarted", [&]() -> absl::Status {
          GANTRY_RETURN_IF_ERROR(AwaitDependencies(step));
          return engine_.Restart(step.id, options_.timeout_seconds);
        });
      case Step::Kind::kStart:
        return Start(step);
    }
    return absl::OkStatus();
  }

  std::vector<std::string> Started() {
    absl::MutexLock lock(&mutex_);
    std::vector<std::string> out;
    for (const std::vector<std::string>& ids : ids_) out.insert(out.end(), ids.begin(), ids.end());
    return out;
  }

 private:
  static std::string Part(const Step& step) { return absl::StrCat("Container ", step.object); }

  template <typename Work>
  absl::Status Shown(const std::string& part, absl::string_view doing, absl::string_view done,
                     Work work) {
    board_.Update(part, doing, Mark::kWorking);
    const absl::Status status = work();
    board_.Update(part, status.ok() ? done : "Error", status.ok() ? Mark::kDone : Mark::kFailed);
    return status;
  }

  void SetId(size_t index, const std::string& id) {
    absl::MutexLock lock(&mutex_);
    ids_[index] = {id};
  }

  absl::Status Made(size_t index, const std::string& id) {
    SetId(index, id);
    engine_.Know(plan_.steps[index].service, id);
    return engine_.Inject(project_, plan_.steps[index].service, id);
  }

  absl::Status Start(const Step& step) {
    std::string id;
    {
      absl::MutexLock lock(&mutex_);
      id = ids_[step.after.front()].front();  // the step that made it
    }
    GANTRY_RETURN_IF_ERROR(AwaitDependencies(step));
    return Shown(Part(step), "Starting", "Started", [&]() -> absl::Status {
      GANTRY_RETURN_IF_ERROR(engine_.Start(id));
      return engine_.RunHooks(project_, step.service, id, "post_start");
    });
  }

  absl::Status AwaitDependencies(const Step& step) {
    const absl::Status awaited = engine_.AwaitDependencies(
        project_, step.service, [&](const std::string& container, absl::string_view word) {
          board_.Update(absl::StrCat("Container ", container), word,
                        word == "Waiting" ? Mark::kWorking : Mark::kDone);
        });
    if (!awaited.ok()) board_.Update(Part(step), "Error", Mark::kFailed);
    return awaited;
  }

  absl::Status Update(size_t index) {
    const Step& step = plan_.steps[index];
    GANTRY_RETURN_IF_ERROR(AwaitDependencies(step));
    Exchange exchange(*this, step);
    std::vector<std::string> ids;
    const absl::Status status =
        UpdateService(step.service, step.members, step.policy, exchange, &ids);
    for (const std::string& id : ids) engine_.Know(step.service, id);
    absl::MutexLock lock(&mutex_);
    ids_[index] = std::move(ids);
    return status;
  }

  // The calls of one service's update.
  class Exchange final : public ContainerExchange {
   public:
    Exchange(Applier& applier, const Step& step) : applier_(applier), step_(step) {}

    absl::StatusOr<std::string> Create(const OldContainer& old) override {
      Engine& engine = applier_.engine_;
      GANTRY_ASSIGN_OR_RETURN(
          const std::string id,
          engine.CreateContainer(
              applier_.project_, step_.service, old.number, Engine::TemporaryName(old.id, old.name),
              applier_.options_.renew_anonymous_volumes ? "" : old.id, old.name));
      GANTRY_RETURN_IF_ERROR(engine.Inject(applier_.project_, step_.service, id));
      return id;
    }
    absl::Status Start(const std::string& id) override {
      GANTRY_RETURN_IF_ERROR(applier_.engine_.Start(id));
      return applier_.engine_.RunHooks(applier_.project_, step_.service, id, "post_start");
    }
    absl::Status Stop(const std::string& id) override {
      return applier_.engine_.StopWithHooks(applier_.project_, step_.service, id,
                                            applier_.options_.timeout_seconds);
    }
    absl::Status Remove(const std::string& id) override {
      return applier_.engine_.Remove(id, /*force=*/true, /*volumes=*/false);
    }
    absl::Status Rename(const std::string& id, const std::string& name) override {
      return applier_.engine_.Rename(id, name);
    }
    absl::Status AwaitReady(const std::string& id, const OldContainer& old,
                            absl::Duration monitor) override {
      return applier_.engine_.AwaitSteady(id, old.name, monitor);
    }
    absl::Status Pause(absl::Duration delay) override { return applier_.engine_.Rest(delay); }
    void Show(const OldContainer& old, absl::string_view word, bool failed) override {
      const bool done = word == "Recreated" || word == "Rolled back";
      applier_.board_.Update(absl::StrCat("Container ", old.name), word,
                             failed                  ? Mark::kFailed
                             : word == "Rolled back" ? Mark::kWarning
                             : done                  ? Mark::kDone
                                                     : Mark::kWorking);
    }

   private:
    Applier& applier_;
    const Step& step_;
  };

  const Project& project_;
  const Plan& plan_;
  Engine& engine_;
  ProgressBoard& board_;
  const ApplyOptions& options_;
  absl::Mutex mutex_;
  // Of containers, by step.
  std::vector<std::vector<std::string>> ids_ ABSL_GUARDED_BY(mutex_);
};

bool IsStart(Step::Kind kind) {
  return kind == Step::Kind::kStart || kind == Step::Kind::kRestart || kind == Step::Kind::kUpdate;
}

}  // namespace

absl::Status InOrder(size_t count, int parallel, const std::atomic<bool>& cancelled,
                     const std::function<const std::vector<size_t>&(size_t)>& after,
                     const std::function<absl::Status(size_t)>& work) {
  enum class Progress { kWaiting, kBegun, kDone };
  absl::Mutex mutex;
  std::vector<Progress> progress(count, Progress::kWaiting);
  absl::Status failed;
  size_t left = count;
  // The first step that may begin; `count`: none now.
  const auto next = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    for (size_t i = 0; i < count; ++i) {
      if (progress[i] != Progress::kWaiting) continue;
      const std::vector<size_t>& needed = after(i);
      if (std::all_of(needed.begin(), needed.end(),
                      [&](size_t other) { return progress[other] == Progress::kDone; }))
        return i;
    }
    return count;
  };
  const auto worker = [&] {
    absl::MutexLock lock(&mutex);
    while (true) {
      size_t step = count;
      const auto ready = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
        step = next();
        return left == 0 || !failed.ok() || step < count;
      };
      mutex.Await(absl::Condition(&ready));
      if (left == 0 || !failed.ok()) return;
      if (cancelled) {
        failed = absl::CancelledError("interrupted");
        return;
      }
      progress[step] = Progress::kBegun;
      mutex.Unlock();
      const absl::Status status = work(step);
      mutex.Lock();
      progress[step] = Progress::kDone;
      --left;
      if (!status.ok() && failed.ok()) failed = status;
    }
  };
  std::vector<std::thread> threads;
  const size_t workers = std::min<size_t>(count, static_cast<size_t>(std::max(1, parallel)));
  for (size_t i = 0; i < workers; ++i) threads.emplace_back(worker);
  for (std::thread& thread : threads) thread.join();
  return failed;
}

absl::Status Apply(const Project& project, const Plan& plan, Engine& engine, ProgressBoard& board,
                   const ApplyOptions& options, const std::atomic<bool>& cancelled,
                   std::vector<std::string>* started) {
  Applier applier(project, plan, engine, board, options);
  const std::vector<Step>& steps = plan.steps;
  // The steps from `begin` to `end`; those before are done.
  const auto part = [&](size_t begin, size_t end) {
    std::vector<std::vector<size_t>> after(end - begin);
    for (size_t i = begin; i < end; ++i) {
      for (const size_t other : steps[i].after) {
        if (other >= begin) after[i - begin].push_back(other - begin);
      }
    }
    return InOrder(
        end - begin, options.parallel, cancelled,
        [&](size_t i) -> const std::vector<size_t>& { return after[i]; },
        [&](size_t i) { return applier.Do(begin + i); });
  };
  // Starts come last in a plan.
  size_t made = steps.size();
  while (options.before_starts && made > 0 && IsStart(steps[made - 1].kind)) --made;
  absl::Status status = part(0, made);
  if (options.before_starts) {
    if (status.ok()) status = options.before_starts(applier.Started());
    if (status.ok()) status = part(made, steps.size());
  }
  if (started != nullptr) *started = applier.Started();
  return status;
}

}  // namespace gantry::compose
