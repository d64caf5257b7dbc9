#include <algorithm>
#include <map>
#include <memory>
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

class Printer {
 public:
  Printer(Context& context, compose::Engine& engine, const compose::Project& project,
          const FollowOptions& options, size_t width)
      : context_(context),
        engine_(engine),
        project_(project),
        options_(options),
        width_(width),
        color_(options.color && context.OutIsTerminal() &&
               context.Environment("NO_COLOR").empty()) {}

  // All output of one container, until it has ended for good.
  void Follow(const ObservedContainer& container, size_t index,
              const std::function<void(const ObservedContainer&, int)>& on_exit) {
    absl::Time since = absl::InfinitePast();
    bool first = true;
    bool down = false;  // its end was said, and it may be started again
    while (!Interrupts::once()) {
      absl::Status status;
      if (!down) status = Once(container, index, since, first);
      first = false;
      if (!options_.follow) {
        Note(status);
        return;
      }
      v1::InspectContainerRequest request;
      request.set_container(container.id);
      v1::InspectContainerResponse response;
      const absl::Status looked = engine_.client().Call(request, &response);
      if (absl::IsNotFound(looked)) return;  // removed: by --rm, or by somebody
      if (!looked.ok()) {
        Note(status.ok() ? looked : status);
        return;
      }
      const ObservedContainer now = compose::Engine::Describe(response.container().summary());
      const bool ended = now.state == compose::State::kExited || now.state == compose::State::kDead;
      if (ended && down) {
        absl::SleepFor(kLookAgain);
        continue;
      }
      if (ended) {
        if (options_.say_exits) {
          Whole(container, index, absl::StrCat("exited with code ", now.exit_code, "\n"), true);
        }
        if (on_exit) on_exit(container, static_cast<int>(now.exit_code));
        if (!options_.outlive_exits) return;
      }
      down = ended;
      absl::SleepFor(kLookAgain);
    }
  }

  absl::Status error() {
    absl::MutexLock lock(&mutex_);
    return error_;
  }

  // Ends every stream; from any thread.
  void Cancel() {
    absl::MutexLock lock(&mutex_);
    for (auto* stream : streams_) stream->Cancel();
  }

 private:
  using Stream = ReadStream<v1::LogsResponse>;

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
    if (Interrupts::once()) stream->Cancel();
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
        Whole(container, index, line, false, entry.stderr());
        line.clear();
      }
    }
    for (const bool stderr_stream : {false, true}) {
      const std::string& line = partial[stderr_stream ? 1 : 0];
      if (!line.empty()) Whole(container, index, line + "\n", false, stderr_stream);
    }
    {
      absl::MutexLock lock(&mutex_);
      streams_.erase(std::remove(streams_.begin(), streams_.end(), stream.get()), streams_.end());
    }
    const absl::Status status = stream->Finish();
    return absl::IsCancelled(status) ? absl::OkStatus() : status;
  }

  // A line of a container. `say`: what we say about it, without the bar.
  void Whole(const ObservedContainer& container, size_t index, const std::string& line, bool say,
             bool to_stderr = false) {
    std::string out;
    const std::string name = ShortName(project_, container.name);
    if (say) {
      out = absl::StrCat(name, " ", line);
    } else if (options_.prefix) {
      const std::string padded = absl::StrCat(name, std::string(width_ - name.size(), ' '), "  | ");
      out = color_ ? absl::StrCat(kColors[index % std::size(kColors)], padded, "\033[0m", line)
                   : absl::StrCat(padded, line);
    } else {
      out = line;
    }
    absl::MutexLock lock(&print_);
    if (to_stderr && options_.say_exits) {
      context_.ErrRaw(out);
    } else {
      context_.OutRaw(out);
    }
  }

  void Note(const absl::Status& status) {
    if (status.ok()) return;
    absl::MutexLock lock(&mutex_);
    if (error_.ok()) error_ = status;
  }

  Context& context_;
  compose::Engine& engine_;
  const compose::Project& project_;
  const FollowOptions& options_;
  const size_t width_;
  const bool color_;
  absl::Mutex print_;  // a line at a time
  absl::Mutex mutex_;
  absl::Status error_ ABSL_GUARDED_BY(mutex_);
  std::vector<Stream*> streams_ ABSL_GUARDED_BY(mutex_);
};

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
    options_.color = !no_color_;
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, flags_.LoadOrName(context, args));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    Interrupts interrupts;
    compose::Engine engine(*client, Interrupts::once());
    GANTRY_ASSIGN_OR_RETURN(
        std::vector<ObservedContainer> containers,
        ContainersOf(engine, project, args, /*all=*/true, /*one_offs=*/true, /*reversed=*/false));
    if (index_ != 0) {
      containers.erase(
          std::remove_if(containers.begin(), containers.end(),
                         [&](const ObservedContainer& one) { return one.number != index_; }),
          containers.end());
    }
    GANTRY_RETURN_IF_ERROR(PrintOutput(context, engine, project, containers, options_, nullptr));
    return Interrupts::once() ? 130 : 0;
  }

 private:
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
    v1::EventsRequest request;
    for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
             {"label", absl::StrCat(compose::kProjectLabel, "=", project.name)},
             {"type", "container"}}) {
      v1::Filter* filter = request.add_filters();
      filter->set_key(key);
      filter->set_value(value);
    }
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
    int status = 0;
    for (const ObservedContainer& container : containers) {
      GANTRY_ASSIGN_OR_RETURN(status, engine.AwaitExit(container.id));
      context.Out(absl::StrCat("container \"", engine::ShortId(container.id),
                               "\" exited with status code ", status, "\n"));
      if (down_) break;
    }
    if (down_) {
      for (const ObservedContainer& container : containers)
        GANTRY_RETURN_IF_ERROR(engine.Remove(container.id, /*force=*/true, /*volumes=*/false));
    }
    return status;
  }

 private:
  ProjectFlags flags_;
  bool down_ = false;
};

}  // namespace

absl::Status PrintOutput(Context& context, compose::Engine& engine, const compose::Project& project,
                         const std::vector<ObservedContainer>& containers,
                         const FollowOptions& options,
                         const std::function<void(const ObservedContainer&, int)>& on_exit) {
  size_t width = 0;
  for (const ObservedContainer& container : containers)
    width = std::max(width, ShortName(project, container.name).size());
  Printer printer(context, engine, project, options, width);
  if (!options.follow) {
    for (size_t i = 0; i < containers.size(); ++i) printer.Follow(containers[i], i, on_exit);
    return printer.error();
  }
  std::atomic<size_t> left{containers.size()};
  std::vector<std::thread> threads;
  for (size_t i = 0; i < containers.size(); ++i) {
    threads.emplace_back([&, i] {
      printer.Follow(containers[i], i, on_exit);
      --left;
    });
  }
  while (left > 0 && !Interrupts::once()) absl::SleepFor(absl::Milliseconds(20));
  if (Interrupts::once()) printer.Cancel();
  for (std::thread& thread : threads) thread.join();
  return printer.error();
}

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
