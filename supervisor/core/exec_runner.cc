#include "supervisor/core/exec_runner.h"

#include <signal.h>

#include <algorithm>
#include <utility>

#include "base/executor.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/runtime/shim_client.h"

namespace gantry::core {
namespace {

// The shim ends what outlives its time by so much: where this daemon cannot any more.
constexpr absl::Duration kShimPatience = absl::Seconds(1);

}  // namespace

// One run. Its first outcome counts: the end in the stream, the end of the process and the drain
// after it, the timeout, Stop(). Lives until the stream is taken down and the result was handed
// over.
class ExecRunner::Run final : public runtime::AttachStream::Handler,
                              public std::enable_shared_from_this<Run> {
 public:
  Run(ExecRunner& runner, const Limits& limits, std::function<void(RunResult)> done)
      : runner_(runner), limits_(limits), done_(std::move(done)) {
    result_.start = runner.clock_.Now();
  }

  void Begin(const std::string& ns, const std::string& container, const v1::ExecConfig& config) {
    context_.ns = ns;
    v1::ExecInput::Open open;
    open.set_container(container);
    *open.mutable_config() = config;
    open.mutable_config()->set_attach_stdin(false);
    open.mutable_config()->set_attach_stdout(true);
    open.mutable_config()->set_attach_stderr(true);
    {
      absl::MutexLock lock(&mu_);
      self_ = shared_from_this();
      if (ended_) return Finish();
    }
    absl::StatusOr<ExecService::StartedExec> started =
        runner_.execs_.Exec(context_, open, this, limits_.timeout + kShimPatience);
    const std::shared_ptr<Run> self = shared_from_this();
    {
      absl::MutexLock lock(&mu_);
      begun_ = true;
      if (!started.ok()) {
        result_.error = started.status();
        return Finish();
      }
      stream_ = std::move(started->stream);
      container_id_ = started->container_id;
      exec_id_ = started->exec_id;
      if (ended_) return Finish();
      if (std::exchange(read_wanted_, false)) stream_->Read();
    }
    const std::weak_ptr<Run> weak = self;
    if (limits_.timeout < absl::InfiniteDuration()) {
      runner_.timers_.At(limits_.timeout, [weak] {
        if (const std::shared_ptr<Run> late = weak.lock()) late->TimeOut();
      });
    }
    runner_.tasks_.waits().WaitAsync(ns, container_id_, exec_id_,
                                     [weak](absl::StatusOr<Exit> exit) {
                                       if (const std::shared_ptr<Run> run = weak.lock())
                                         run->ProcessEnded(exit);
                                     });
  }

  // After Begin().
  void GiveUp() {
    {
      absl::MutexLock lock(&mu_);
      if (finished_) return;
      const bool over = result_.exit_code.has_value();
      if (!over) result_.error = absl::CancelledError("the run was given up");
      Finish();
      if (over) return;
    }
    Kill();
  }

  void Abandon() {
    absl::MutexLock lock(&mu_);
    if (!finished_) result_.error = absl::CancelledError("the run was given up");
    ended_ = true;
    if (begun_) Finish();
  }

  void OnOutput(shim::v1::AttachOutput output) override {
    absl::MutexLock lock(&mu_);
    if (finished_) return;
    Keep(output.stdout(), result_.out);
    Keep(output.stderr(), limits_.merge ? result_.out : result_.err);
    if (output.has_exited()) {
      result_.exit_code = output.exited().exit_status();
      ended_ = true;
      if (begun_) Finish();
    } else if (begun_) {
      stream_->Read();
    } else {
      read_wanted_ = true;
    }
  }
  void OnWritable() override {}
  void OnDone(const absl::Status& status) override {
    absl::MutexLock lock(&mu_);
    if (finished_) return;
    if (!ended_ && !result_.exit_code.has_value()) {
      result_.error =
          status.ok() ? absl::UnavailableError("its streams ended before it did") : status;
    }
    ended_ = true;
    if (begun_) Finish();
  }

 private:
  void Keep(const std::string& bytes, std::string& kept) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const size_t size = result_.out.size() + result_.err.size();
    kept.append(bytes, 0, limits_.output_bytes - std::min(limits_.output_bytes, size));
  }

  // The process is over; a child of it may keep the streams open.
  void ProcessEnded(const absl::StatusOr<Exit>& exit) {
    std::optional<uint32_t> code;
    if (exit.ok()) {
      code = exit->status;
    } else {
      // It was over, and removed, before the wait began.
      const absl::StatusOr<ExecState> state = runner_.execs_.Inspect(context_, exec_id_);
      if (state.ok()) code = state->exit_code;
    }
    if (!code.has_value()) return;  // the stream ends as well, and says why
    {
      absl::MutexLock lock(&mu_);
      if (finished_) return;
      result_.exit_code = code;
    }
    runner_.timers_.At(limits_.drain, [weak = weak_from_this()] {
      const std::shared_ptr<Run> run = weak.lock();
      if (run == nullptr) return;
      absl::MutexLock lock(&run->mu_);
      run->Finish();
    });
  }

  void TimeOut() {
    {
      absl::MutexLock lock(&mu_);
      if (finished_) return;
      result_.timed_out = !result_.exit_code.has_value();
      const bool over = !result_.timed_out;
      Finish();
      if (over) return;
    }
    Kill();
  }

  // Its end removes it. What it has started would go on without anybody who waits for it.
  void Kill() {
    const absl::Status killed =
        runner_.tasks_.Kill(context_, container_id_, exec_id_, SIGKILL, /*all=*/true);
    (void)killed;  // it ended by itself at the last moment, or goes with its container
  }

  // The stream waits for its handler when it is destroyed, so that happens elsewhere.
  void Finish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (std::exchange(finished_, true)) return;
    result_.end = runner_.clock_.Now();
    runner_.workers_.Schedule([run = std::move(self_), stream = std::move(stream_).release(),
                               done = std::move(done_), result = std::move(result_)] {
      std::unique_ptr<runtime::AttachStream>(stream).reset();
      run->runner_.execs_.Forget(run->context_.ns, run->exec_id_);
      done(result);
    });
  }

  ExecRunner& runner_;
  const Limits limits_;
  // Set by Begin(), before anything reads them.
  CallContext context_;
  std::string container_id_;
  std::string exec_id_;

  absl::Mutex mu_;
  std::function<void(RunResult)> done_ ABSL_GUARDED_BY(mu_);
  RunResult result_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<runtime::AttachStream> stream_ ABSL_GUARDED_BY(mu_);
  // Until finished, because the stream knows it by its address.
  std::shared_ptr<Run> self_ ABSL_GUARDED_BY(mu_);
  bool begun_ ABSL_GUARDED_BY(mu_) = false;  // the exec was started, or was refused
  bool read_wanted_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

std::function<void()> ExecRunner::RunToEnd(const std::string& ns, const std::string& container,
                                           const v1::ExecConfig& config, const Limits& limits,
                                           std::function<void(RunResult)> done) {
  auto run = std::make_shared<Run>(*this, limits, std::move(done));
  {
    absl::MutexLock lock(&mu_);
    std::erase_if(runs_, [](const std::weak_ptr<Run>& one) { return one.expired(); });
    runs_.push_back(run);
    if (stopping_) run->Abandon();
  }
  run->Begin(ns, container, config);
  return [weak = std::weak_ptr<Run>(run)] {
    if (const std::shared_ptr<Run> one = weak.lock()) one->GiveUp();
  };
}

void ExecRunner::Stop() {
  std::vector<std::weak_ptr<Run>> runs;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    runs.swap(runs_);
  }
  for (const std::weak_ptr<Run>& one : runs) {
    if (const std::shared_ptr<Run> run = one.lock()) run->Abandon();
  }
  timers_.Stop();
}

}  // namespace gantry::core
