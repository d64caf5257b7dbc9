#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

#include "base/engine/proto_time.h"
#include "base/engine/units.h"
#include "base/engine/value.h"
#include "base/status_macros.h"
#include "ctl/commands/compose.h"
#include "ctl/commands/time_range.h"
#include "ctl/compose/container_config.h"
#include "ctl/terminal.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/networks.pb.h"
#include "proto/gantry/v1/system.pb.h"

namespace gantry::ctl {
namespace {

using compose::ObservedContainer;

constexpr const char* kColors[] = {"\033[36m", "\033[33m", "\033[32m",   "\033[35m",
                                   "\033[34m", "\033[96m", "\033[93;1m", "\033[92m"};
// A container that ends may be started again by its policy; this is how long that is waited for.
constexpr absl::Duration kLookAgain = absl::Milliseconds(100);
// Between two looks at one that is not started yet: what it prints meanwhile is not missed.
constexpr absl::Duration kNotStarted = absl::Milliseconds(200);

}  // namespace

class OutputPrinter::Printer {
 public:
  Printer(Context& context, compose::Engine& engine, const compose::Project& project,
          const FollowOptions& options, OnExit on_exit)
      : context_(context),
        engine_(engine),
        project_(project),
        options_(options),
        on_exit_(std::move(on_exit)),
        begin_(options.new_only ? absl::Now() : absl::InfinitePast()),
        color_(options.color) {}

  void Announce(const ObservedContainer& container) {
    absl::MutexLock lock(&print_);
    width_ = std::max(width_, ShortName(project_, container.name).size());
  }

  void Add(const ObservedContainer& container, bool shown) {
    Announce(container);
    absl::MutexLock lock(&mutex_);
    if (stopped_) return;
    auto known = followed_.find(container.id);
    if (known == followed_.end())
      known = followed_.emplace(container.id, Followed{followed_.size(), false, begin_}).first;
    Followed& followed = known->second;
    if (followed.busy) return;
    followed.busy = true;
    if (shown) ++shown_;
    threads_.emplace_back([this, container, shown, begin = followed.since, index = followed.index] {
      const absl::Time end = Follow(container, index, shown, begin);
      absl::MutexLock ended(&mutex_);
      Followed& self = followed_.at(container.id);
      self.busy = false;
      self.since = end;
      if (shown) --shown_;
    });
  }

  absl::Status Wait(const std::function<bool()>& enough) {
    while (true) {
      {
        absl::MutexLock lock(&mutex_);
        const auto ended = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return shown_ == 0; };
        if (mutex_.AwaitWithTimeout(absl::Condition(&ended), absl::Milliseconds(20))) return error_;
      }
      if (enough && enough()) break;
    }
    absl::MutexLock lock(&mutex_);
    return error_;
  }

  // Ends every stream; from any thread.
  void Stop() {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    for (auto* stream : streams_) stream->Cancel();
  }

  void Join() {
    std::vector<std::thread> threads;
    {
      absl::MutexLock lock(&mutex_);
      threads.swap(threads_);
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  using Stream = ReadStream<v1::LogsResponse>;

  struct Followed {
    size_t index = 0;  // of its colour
    bool busy = false;
    absl::Time since;  // of the last line that was printed
  };

  // All output of one container, until it has ended for good. Returns the time of the last line.
  absl::Time Follow(const ObservedContainer& container, size_t index, bool shown,
                    absl::Time since) {
    bool first = since == absl::InfinitePast();
    if (!options_.follow) {
      Note(Once(container, index, since, first));
      return since;
    }
    bool at_first = true;
    absl::Time old_start = absl::InfiniteFuture();  // of a run that was over at the first look
    absl::Time start = absl::InfinitePast();        // of the run that was seen last,
    absl::Time read = absl::InfinitePast();         // of the one whose output was read,
    absl::Time said = absl::InfinitePast();         // and of the one whose end was said
    bool runs = false, down = false;
    while (!stopped_) {
      absl::Status status;
      if (runs && shown) {
        status = Once(container, index, since, first);
        first = false;
        read = start;
      }
      v1::InspectContainerRequest request;
      request.set_container(container.id);
      v1::InspectContainerResponse response;
      const absl::Status looked = engine_.client().Call(request, &response);
      if (absl::IsNotFound(looked)) return since;  // removed: by --rm, or by somebody
      if (!looked.ok()) {
        Note(status.ok() ? looked : status);
        return since;
      }
      const v1::ContainerSummary& summary = response.container().summary();
      const ObservedContainer now = compose::Engine::Describe(summary);
      const absl::Time before = start;
      start = engine::FromProto(summary.started_at());
      const bool over = now.state == compose::State::kExited || now.state == compose::State::kDead;
      if (at_first) {
        if (over) old_start = start;
        // What was printed before is read in any case.
        if (over && !options_.new_only && shown) Note(Once(container, index, since, first));
      }
      // Its policy starts it again, or has: of each run the end is said once.
      const absl::Time ended = now.state == compose::State::kRestarting ? start
                               : !at_first && start != before && summary.restart_count() > 0
                                   ? before
                                   : absl::InfinitePast();
      if (ended > said) {
        said = ended;
        if (shown && options_.say_exits)
          Say(container, absl::StrCat("exited with code ", now.exit_code, " (restarting)"));
      }
      const bool old = over && start == old_start;
      if (old && !options_.new_only) return since;
      runs = !old && !over && now.state != compose::State::kCreated;
      if (old || now.state == compose::State::kCreated) {
        at_first = false;
        absl::SleepFor(kNotStarted);
        continue;
      }
      if (over && shown && read != start) {  // it has begun and ended between two looks
        Note(Once(container, index, since, first));
        first = false;
        read = start;
      }
      if (over && !down) {
        if (shown && options_.say_exits)
          Say(container, absl::StrCat("exited with code ", now.exit_code));
        if (on_exit_) on_exit_(container, static_cast<int>(now.exit_code));
        if (!options_.outlive_exits) return since;
      }
      down = over;
      if (!at_first || !runs || !shown) absl::SleepFor(kLookAgain);
      at_first = false;
    }
    return since;
  }

  absl::Status Once(const ObservedContainer& container, size_t index, absl::Time& since,
                    bool first) {
    v1::LogsRequest request;
    request.set_container(container.id);
    request.set_stdout(true);
    request.set_stderr(true);
    request.set_follow(options_.follow);
    if (first) {
      GANTRY_RETURN_IF_ERROR(SetTimeRange(options_.since, options_.until, request));
      int64_t tail = 0;
      if (absl::SimpleAtoi(options_.tail, &tail) && tail >= 0) request.set_tail(tail);
    } else if (since > absl::InfinitePast()) {
      // Behind what was printed.
      engine::ToProto(since + absl::Nanoseconds(1), request.mutable_since());
    }
    auto stream = engine_.client().Open<v1::LogsRequest, v1::LogsResponse>(request);
    {
      absl::MutexLock lock(&mutex_);
      streams_.push_back(stream.get());
    }
    if (stopped_) stream->Cancel();
    v1::LogsResponse response;
    std::string partial[2];
    while (stream->Read(&response)) {
      for (const auto& entry : response.entries()) {
        since = std::max(since, engine::FromProto(entry.at()));
        std::string& line = partial[entry.stderr() ? 1 : 0];
        if (line.empty() && options_.timestamps) {
          absl::StrAppend(&line,
                          absl::FormatTime("%Y-%m-%dT%H:%M:%E9SZ", engine::FromProto(entry.at()),
                                           absl::UTCTimeZone()),
                          " ");
        }
        line.append(entry.text());
        if (line.empty() || line.back() != '\n') continue;
        Print(container, index, line, entry.stderr());
        line.clear();
      }
    }
    for (const bool stderr_stream : {false, true}) {
      const std::string& line = partial[stderr_stream ? 1 : 0];
      if (!line.empty()) Print(container, index, line + "\n", stderr_stream);
    }
    {
      absl::MutexLock lock(&mutex_);
      streams_.erase(std::remove(streams_.begin(), streams_.end(), stream.get()), streams_.end());
    }
    const absl::Status status = stream->Finish();
    return absl::IsCancelled(status) ? absl::OkStatus() : status;
  }

  // A line of a container.
  void Print(const ObservedContainer& container, size_t index, const std::string& line,
             bool to_stderr) {
    const std::string name = options_.prefix ? ShortName(project_, container.name) : "";
    absl::MutexLock lock(&print_);
    std::string out = line;
    if (options_.prefix) {
      const std::string padded = absl::StrCat(name, std::string(width_ - name.size(), ' '), "  | ");
      out = color_ ? absl::StrCat(kColors[index % std::size(kColors)], padded, "\033[0m", line)
                   : absl::StrCat(padded, line);
    }
    if (to_stderr && options_.errors_apart) {
      context_.ErrRaw(out);
    } else {
      context_.OutRaw(out);
    }
  }

  // A line about a container.
  void Say(const ObservedContainer& container, const std::string& text) {
    absl::MutexLock lock(&print_);
    context_.OutRaw(absl::StrCat(ShortName(project_, container.name), " ", text, "\n"));
  }

  void Note(const absl::Status& status) {
    if (status.ok()) return;
    absl::MutexLock lock(&mutex_);
    if (error_.ok()) error_ = status;
  }

  Context& context_;
  compose::Engine& engine_;
  const compose::Project& project_;
  const FollowOptions options_;
  const OnExit on_exit_;
  const absl::Time begin_;  // nothing older is printed
  const bool color_;
  std::atomic<bool> stopped_{false};
  absl::Mutex print_;  // a line at a time
  size_t width_ ABSL_GUARDED_BY(print_) = 0;
  absl::Mutex mutex_;
  absl::Status error_ ABSL_GUARDED_BY(mutex_);
  std::vector<Stream*> streams_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Followed> followed_ ABSL_GUARDED_BY(mutex_);  // by id
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
  size_t shown_ ABSL_GUARDED_BY(mutex_) = 0;  // of those that are followed
};

OutputPrinter::OutputPrinter(Context& context, compose::Engine& engine,
                             const compose::Project& project, const FollowOptions& options,
                             OnExit on_exit)
    : printer_(std::make_unique<Printer>(context, engine, project, options, std::move(on_exit))) {}

OutputPrinter::~OutputPrinter() {
  printer_->Stop();
  printer_->Join();
}

void OutputPrinter::Announce(const ObservedContainer& container) { printer_->Announce(container); }
void OutputPrinter::Add(const ObservedContainer& container, bool shown) {
  printer_->Add(container, shown);
}
absl::Status OutputPrinter::Wait(const std::function<bool()>& enough) {
  return printer_->Wait(enough);
}
void OutputPrinter::Stop() { printer_->Stop(); }

namespace {

// What happens to the project's containers.
v1::EventsRequest ContainerEventsOf(const compose::Project& project) {
  v1::EventsRequest request;
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
           {"label", absl::StrCat(compose::kProjectLabel, "=", project.name)},
           {"type", "container"}}) {
    v1::Filter* filter = request.add_filters();
    filter->set_key(key);
    filter->set_value(value);
  }
  return request;
}

class LogsAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&options_.follow, "follow", 'f', "Follow the output");
    flags.String(&options_.tail, "tail", 'n', "lines",
                 "Only the last so many of each (default all)");
    flags.String(&options_.since, "since", 0, "time", "Only from then on");
    flags.String(&options_.until, "until", 0, "time", "Only up to then");
    flags.Bool(&options_.timestamps, "timestamps", 't', "With the time of each line");
    flags.Bool(&no_color_, "no-color", 0, "Without colours");
    flags.Bool(&no_prefix_, "no-log-prefix", 0, "Without the names before lines");
    flags.Int(&index_, "index", 0, "Only the container of that number");
    options_.follow = false;
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    options_.prefix = !no_prefix_;
    options_.color = !no_color_ && flags_.Colors(context);
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, flags_.LoadOrName(context, args));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    Interrupts interrupts;
    compose::Engine engine(*client, Interrupts::once());
    options_.say_exits = options_.follow;
    // Before the list, so that no start is missed between the two.
    std::unique_ptr<ReadStream<v1::Event>> events;
    if (options_.follow)
      events = client->Open<v1::EventsRequest, v1::Event>(ContainerEventsOf(project));
    GANTRY_ASSIGN_OR_RETURN(const std::vector<ObservedContainer> containers,
                            Chosen(engine, project, args));
    OutputPrinter printer(context, engine, project, options_, {});
    for (const ObservedContainer& container : containers) printer.Announce(container);
    if (!options_.follow) {
      for (const ObservedContainer& container : containers) {
        printer.Add(container);
        GANTRY_RETURN_IF_ERROR(printer.Wait([] { return Interrupts::once().load(); }));
        if (Interrupts::once()) return 130;
      }
      return 0;
    }
    for (const ObservedContainer& container : containers) printer.Add(container);
    // Containers that are started later are followed too.
    std::thread newcomers([&] {
      v1::Event event;
      while (events->Read(&event)) {
        if (event.action() != "start") continue;
        const absl::StatusOr<std::vector<ObservedContainer>> now = Chosen(engine, project, args);
        if (!now.ok()) continue;  // the daemon is gone, which the streams say
        for (const ObservedContainer& container : *now) {
          if (container.id == event.id()) printer.Add(container);
        }
      }
    });
    const absl::Status status = printer.Wait([] { return Interrupts::once().load(); });
    events->Cancel();
    newcomers.join();
    if (Interrupts::once()) return 130;
    GANTRY_RETURN_IF_ERROR(status);
    return 0;
  }

 private:
  absl::StatusOr<std::vector<ObservedContainer>> Chosen(
      compose::Engine& engine, const compose::Project& project,
      const std::vector<std::string>& services) const {
    GANTRY_ASSIGN_OR_RETURN(std::vector<ObservedContainer> containers,
                            ContainersOf(engine, project, services, /*all=*/true,
                                         /*one_offs=*/false, /*reversed=*/false));
    containers.erase(std::remove_if(containers.begin(), containers.end(),
                                    [&](const ObservedContainer& one) {
                                      return (index_ != 0 && one.number != index_) ||
                                             (!project.model.entries.empty() &&
                                              project.FindService(one.service) == nullptr);
                                    }),
                     containers.end());
    return containers;
  }

  ProjectFlags flags_;
  FollowOptions options_;
  bool no_color_ = false, no_prefix_ = false;
  int64_t index_ = 0;
};

class EventsAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&json_, "json", 0, "A JSON object a line");
    flags.String(&since_, "since", 0, "time", "From then on");
    flags.String(&until_, "until", 0, "time", "Up to then");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, flags_.LoadOrName(context, args));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::EventsRequest request = ContainerEventsOf(project);
    GANTRY_RETURN_IF_ERROR(SetTimeRange(since_, until_, request));
    auto stream = client->Open<v1::EventsRequest, v1::Event>(request);
    v1::Event event;
    while (stream->Read(&event)) {
      const auto service = event.attributes().find(compose::kServiceLabel);
      const std::string name = service == event.attributes().end() ? "" : service->second;
      if (!args.empty() && std::find(args.begin(), args.end(), name) == args.end()) continue;
      Print(context, event, name);
    }
    GANTRY_RETURN_IF_ERROR(stream->Finish());
    return 0;
  }

 private:
  void Print(Context& context, const v1::Event& event, const std::string& service) const {
    std::map<std::string, std::string> attributes;
    for (const auto& [key, value] : event.attributes()) {
      if (!absl::StartsWith(key, "com.docker.compose.")) attributes[key] = value;
    }
    if (json_) {
      engine::Value out = engine::Value::EmptyObject();
      out.Set("time", engine::JsonTime(engine::FromProto(event.at())));
      out.Set("type", event.type());
      out.Set("service", service);
      out.Set("id", event.id());
      out.Set("action", event.action());
      out.Set("attributes", engine::Value::FromMap(attributes));
      context.Out(absl::StrCat(out.ToJson(), "\n"));
      return;
    }
    std::string line =
        absl::StrCat(absl::FormatTime("%Y-%m-%d %H:%M:%E6S", engine::FromProto(event.at()),
                                      absl::LocalTimeZone()),
                     " ", event.type(), " ", event.action(), " ", event.id(), " (");
    bool first = true;
    for (const auto& [key, value] : attributes) {
      absl::StrAppend(&line, first ? "" : ", ", key, "=", value);
      first = false;
    }
    context.Out(absl::StrCat(line, ")\n"));
  }

  ProjectFlags flags_;
  bool json_ = false;
  std::string since_, until_;
};

class WaitAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&down_, "down-project", 0, "Take the project down when the first has ended");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, flags_.LoadOrName(context, args));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    static const std::atomic<bool> kNever{false};
    compose::Engine engine(*client, kNever);
    GANTRY_ASSIGN_OR_RETURN(
        const std::vector<ObservedContainer> containers,
        ContainersOf(engine, project, args, /*all=*/true, /*one_offs=*/false, /*reversed=*/false));
    if (containers.empty())
      return absl::NotFoundError(absl::StrCat("no containers for project \"", project.name, "\""));
    // Each is said when it ends.
    absl::Mutex mutex;
    size_t left = containers.size();
    int code = 0;
    absl::Status failure;
    std::vector<std::thread> threads;
    for (const ObservedContainer& container : containers) {
      threads.emplace_back([&] {
        const absl::StatusOr<int> status = engine.AwaitExit(container.id);
        absl::MutexLock lock(&mutex);
        if (!status.ok() && failure.ok()) failure = status.status();
        // The end of one that goes with its project is not asked for.
        if (status.ok() && (!down_ || left == containers.size())) {
          code = *status;
          context.Out(absl::StrCat("container \"", container.id, "\" exited with status code ",
                                   code, "\n"));
        }
        --left;
      });
    }
    {
      const auto enough = [&] { return left == 0 || (down_ && left < containers.size()); };
      absl::MutexLock lock(&mutex);
      mutex.Await(absl::Condition(&enough));
    }
    absl::Status down;
    if (down_) {
      for (const Verb& verb : ComposeDownVerbs()) {
        if (verb.name != "down") continue;
        down = RunVerbWith(context, verb, {"--remove-orphans"}).status();
      }
    }
    for (std::thread& thread : threads) thread.join();
    GANTRY_RETURN_IF_ERROR(down);
    if (!down_) GANTRY_RETURN_IF_ERROR(failure);
    return code;
  }

 private:
  ProjectFlags flags_;
  bool down_ = false;
};

}  // namespace

std::vector<Verb> ComposeOutputVerbs() {
  return {{.name = "logs",
           .arguments = "[OPTIONS] [SERVICE...]",
           .summary = "Show what the containers of a project have printed",
           .examples = "  ctl compose logs --tail 20 -f\n"
                       "  ctl compose logs --no-log-prefix web\n",
           .completes = "services",
           .make = [] { return std::make_unique<LogsAction>(); }},
          {.name = "events",
           .arguments = "[OPTIONS] [SERVICE...]",
           .summary = "Watch what happens to the containers of a project",
           .examples = "  ctl compose events --json\n",
           .completes = "services",
           .make = [] { return std::make_unique<EventsAction>(); }},
          {.name = "wait",
           .arguments = "SERVICE [SERVICE...]",
           .summary = "Wait until the containers of services have ended",
           .examples = "  ctl compose wait job\n",
           .min_args = 1,
           .completes = "services",
           .make = [] { return std::make_unique<WaitAction>(); }}};
}

}  // namespace gantry::ctl
