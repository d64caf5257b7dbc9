#include "supervisor/core/container_probe.h"

#include <signal.h>

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

#include "base/executor.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/runtime/shim_client.h"

namespace gantry::core {

// One probe. Lives until its stream is done and the answer was given, held by whoever may still
// call it.
class ContainerProber::Run final : public runtime::AttachStream::Handler,
                                   public std::enable_shared_from_this<Run> {
 public:
  Run(ContainerProber& prober, absl::Duration timeout, std::function<void(ProbeResult)> done)
      : prober_(prober), timeout_(timeout), done_(std::move(done)) {
    result_.start = prober.clock_.Now();
    result_.exit_code = -1;
  }

  void Begin(const std::string& ns, const std::string& container, const HealthOptions& options) {
    CallContext context;
    context.ns = ns;
    v1::ExecInput::Open open;
    open.set_container(container);
    for (const std::string& word : options.command) open.mutable_config()->add_command(word);
    open.mutable_config()->set_attach_stdout(true);
    open.mutable_config()->set_attach_stderr(true);
    self_ = shared_from_this();
    {
      absl::MutexLock lock(&mu_);
      if (ended_) return Finish();
    }
    absl::StatusOr<ExecService::StartedExec> started = prober_.execs_.Exec(context, open, this);
    if (!started.ok()) return Fail(std::string(started.status().message()));
    {
      absl::MutexLock lock(&mu_);
      stream_ = std::move(started->stream);
    }
    prober_.timeouts_.At(timeout_, [run = std::weak_ptr<Run>(self_), context, container,
                                    exec_id = started->exec_id] {
      if (std::shared_ptr<Run> late = run.lock()) late->TimeOut(context, container, exec_id);
    });
    absl::MutexLock lock(&mu_);
    begun_ = true;
    if (ended_) {
      Finish();
    } else if (std::exchange(read_wanted_, false)) {
      stream_->Read();
    }
  }

  void Abandon() {
    absl::MutexLock lock(&mu_);
    ended_ = true;
    if (begun_) Finish();
  }

  void OnOutput(shim::v1::AttachOutput output) override {
    absl::MutexLock lock(&mu_);
    for (const std::string* text : {&output.stdout(), &output.stderr()}) {
      // A few bytes more than are kept, so that the cut can respect characters.
      constexpr size_t kMost = kMaxProbeOutput + 4;
      result_.output.append(*text, 0, kMost - std::min(kMost, result_.output.size()));
    }
    if (output.has_exited()) {
      if (!timed_out_) result_.exit_code = static_cast<int>(output.exited().exit_status());
      ended_ = true;
      if (begun_) Finish();
      return;
    }
    if (begun_ && !finished_) {
      stream_->Read();
    } else {
      read_wanted_ = true;
    }
  }
  void OnWritable() override {}
  void OnDone(const absl::Status& status) override {
    absl::MutexLock lock(&mu_);
    if (!ended_ && !status.ok() && result_.output.empty())
      result_.output = std::string(status.message());
    ended_ = true;
    if (begun_) Finish();
  }

 private:
  void TimeOut(const CallContext& context, const std::string& container,
               const std::string& exec_id) {
    {
      absl::MutexLock lock(&mu_);
      if (finished_) return;
      timed_out_ = true;
      result_.output =
          absl::StrCat("Health check exceeded timeout (", absl::FormatDuration(timeout_), ")");
      ended_ = true;
      Finish();
    }
    // Its end removes it.
    const absl::Status killed =
        prober_.tasks_.Kill(context, container, exec_id, SIGKILL, /*all=*/false);
    (void)killed;  // it ended by itself at the last moment, or goes with its container
  }

  void Fail(std::string why) {
    absl::MutexLock lock(&mu_);
    result_.output = std::move(why);
    Finish();
  }

  // The stream waits for its handler when it is destroyed, so that happens elsewhere.
  void Finish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (std::exchange(finished_, true)) return;
    result_.end = prober_.clock_.Now();
    prober_.workers_.Schedule([run = std::move(self_), stream = std::move(stream_).release(),
                               done = std::move(done_), result = std::move(result_)] {
      std::unique_ptr<runtime::AttachStream>(stream).reset();
      done(result);
    });
  }

  ContainerProber& prober_;
  const absl::Duration timeout_;

  absl::Mutex mu_;
  std::function<void(ProbeResult)> done_ ABSL_GUARDED_BY(mu_);
  ProbeResult result_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<runtime::AttachStream> stream_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<Run> self_;                // until finished: the stream knows it by its address
  bool begun_ ABSL_GUARDED_BY(mu_) = false;  // Begin() is through
  bool read_wanted_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  bool timed_out_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

void ContainerProber::Probe(const std::string& ns, const std::string& container,
                            const HealthOptions& options, std::function<void(ProbeResult)> done) {
  auto run = std::make_shared<Run>(*this, options.timeout, std::move(done));
  {
    absl::MutexLock lock(&mu_);
    std::erase_if(runs_, [](const std::weak_ptr<Run>& one) { return one.expired(); });
    runs_.push_back(run);
    if (stopping_) run->Abandon();
  }
  run->Begin(ns, container, options);
}

void ContainerProber::Stop() {
  timeouts_.Stop();
  std::vector<std::weak_ptr<Run>> runs;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    runs = runs_;
  }
  for (const std::weak_ptr<Run>& weak : runs) {
    if (std::shared_ptr<Run> run = weak.lock()) run->Abandon();
  }
}

}  // namespace gantry::core
