#include "supervisor/nri/plugins.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/subprocess.h"
#include "supervisor/nri/plugin.h"

namespace gantry::nri {
namespace {

constexpr char kRuntimeName[] = "gantry";
constexpr size_t kMostPlugins = 64;
constexpr size_t kMostConfigBytes = 1 << 20;
constexpr absl::Duration kShutdownPatience = absl::Milliseconds(300);

// How a program that is started finds its connection.
constexpr int kPluginFd = 3;
constexpr char kFdVariable[] = "NRI_PLUGIN_SOCKET=3";
constexpr char kNameVariable[] = "NRI_PLUGIN_NAME=";
constexpr char kIndexVariable[] = "NRI_PLUGIN_IDX=";

}  // namespace

Plugins::Plugins(Options options)
    : options_(std::move(options)),
      joins_(std::make_unique<Executor>("nri-join", 8)),
      work_(std::make_unique<Executor>("nri", 4)) {}

Plugins::~Plugins() {
  std::vector<std::shared_ptr<Plugin>> all;
  {
    absl::MutexLock lock(&mu_);
    ending_ = true;
    all = plugins_;
    all.insert(all.end(), joining_.begin(), joining_.end());
  }
  for (const std::shared_ptr<Plugin>& plugin : all) plugin->Shutdown(kShutdownPatience);
  joins_.reset();
  {
    absl::MutexLock lock(&mu_);
    plugins_.clear();
    joining_.clear();
  }
  // Their threads end before what they hand work to.
  all.clear();
  work_.reset();
}

void Plugins::Start(Host host) {
  host_ = std::move(host);
  LaunchAll();
  std::vector<UniqueFd> early;
  {
    absl::MutexLock lock(&mu_);
    started_ = true;
    early.swap(early_);
  }
  for (UniqueFd& connection : early) Adopt(std::move(connection));
}

void Plugins::Adopt(UniqueFd connection) {
  {
    absl::MutexLock lock(&mu_);
    if (ending_ || joining_.size() + plugins_.size() + early_.size() >= kMostPlugins) return;
    if (!started_) {
      early_.push_back(std::move(connection));
      return;
    }
  }
  Join(std::make_shared<Plugin>(std::move(connection)), /*launched=*/false);
}

void Plugins::Later(absl::AnyInvocable<void()> work) { work_->Schedule(std::move(work)); }

std::vector<std::string> Plugins::names() const {
  absl::MutexLock lock(&mu_);
  std::vector<std::string> names;
  for (const std::shared_ptr<Plugin>& plugin : plugins_) names.push_back(plugin->full_name());
  return names;
}

std::string Plugins::ConfigOf(const std::string& index, const std::string& name) const {
  for (const std::string& file : {absl::StrCat(index, "-", name, ".conf"), name + ".conf"}) {
    const std::string path = absl::StrCat(options_.config_directory, "/", file);
    absl::StatusOr<std::string> text = ReadFile(path, kMostConfigBytes);
    if (text.ok()) return *std::move(text);
    LOG_IF(WARNING, !absl::IsNotFound(text.status())) << "NRI: " << text.status();
  }
  return "";
}

void Plugins::LaunchAll() {
  const absl::StatusOr<std::vector<std::string>> files = ListDirectory(options_.plugin_directory);
  if (!files.ok()) {
    LOG_IF(WARNING, !absl::IsNotFound(files.status()))
        << "NRI: plugins are not started: " << files.status();
    return;
  }
  for (const std::string& file : *files) {
    const std::string path = absl::StrCat(options_.plugin_directory, "/", file);
    struct stat info;
    if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode) || (info.st_mode & 0111) == 0)
      continue;
    const bool named = file.size() > 3 && absl::ascii_isdigit(file[0]) &&
                       absl::ascii_isdigit(file[1]) && file[2] == '-';
    if (!named) {
      LOG(WARNING) << "NRI: " << path << " is not started: its name is not like 10-name";
      continue;
    }
    Launch(path, file.substr(0, 2), file.substr(3));
  }
}

void Plugins::Launch(const std::string& file, const std::string& index, const std::string& name) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    LOG(ERROR) << "NRI plugin " << file << ": " << ErrnoToStatus(errno, "socketpair");
    return;
  }
  UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  Command command;
  command.argv = {file};
  command.env = std::vector<std::string>{kFdVariable, kNameVariable + name, kIndexVariable + index};
  if (const char* path = getenv("PATH"); path != nullptr)
    command.env->push_back(absl::StrCat("PATH=", path));
  command.extra_fds = {{theirs.get(), kPluginFd}};
  command.stderr_fd = STDERR_FILENO;
  absl::StatusOr<Process> process = Spawn(command);
  if (!process.ok()) {
    LOG(ERROR) << "NRI plugin " << file << " is not started: " << process.status();
    return;
  }
  Join(std::make_shared<Plugin>(std::move(ours), index, name, *std::move(process)),
       /*launched=*/true);
}

void Plugins::Join(const std::shared_ptr<Plugin>& plugin, bool launched) {
  {
    absl::MutexLock lock(&mu_);
    if (ending_) return;
    joining_.push_back(plugin);
    if (launched) ++launching_;
  }
  joins_->Schedule([this, plugin, launched] {
    std::vector<wire::ContainerUpdate> updates;
    const absl::Status joined = Bring(plugin, updates);
    if (launched) {
      absl::MutexLock lock(&mu_);
      --launching_;
    }
    if (!joined.ok()) {
      // Of one that left by itself Drop() has nothing to say.
      LOG_IF(WARNING, plugin->gone())
          << "NRI plugin " << plugin->full_name() << " is dropped: " << joined.message();
      plugin->Drop(joined.message());
      Forget(plugin);
      return;
    }
    LOG(INFO) << "NRI plugin " << plugin->full_name() << " is registered";
    for (const wire::ContainerUpdate& update : updates) {
      const absl::Status done = host_.update(update);
      LOG_IF(WARNING, !done.ok()) << "NRI plugin " << plugin->full_name()
                                  << ": an update after its synchronization: " << done;
    }
  });
}

absl::Status Plugins::Bring(const std::shared_ptr<Plugin>& plugin,
                            std::vector<wire::ContainerUpdate>& updates) {
  Plugin::Setup setup;
  setup.runtime_name = kRuntimeName;
  setup.runtime_version = options_.runtime_version;
  setup.registration_timeout = options_.registration_timeout;
  setup.request_timeout = options_.request_timeout;
  setup.config = [this](const std::string& index, const std::string& name) {
    return ConfigOf(index, name);
  };
  setup.update = [this](const std::string& name, const wire::UpdateContainersRequest& request) {
    return Update(name, request);
  };
  setup.gone = [this, work = work_.get(), weak = std::weak_ptr<Plugin>(plugin)] {
    work->Schedule([this, weak] {
      if (const std::shared_ptr<Plugin> gone = weak.lock()) Forget(gone);
    });
  };
  GANTRY_RETURN_IF_ERROR(plugin->Handshake(setup));
  WaitForRounds(Insert(plugin));
  std::vector<wire::PodSandbox> pods;
  std::vector<wire::Container> containers;
  host_.list(pods, containers);
  GANTRY_ASSIGN_OR_RETURN(updates, plugin->Synchronize(pods, containers));
  return absl::OkStatus();
}

uint64_t Plugins::Insert(const std::shared_ptr<Plugin>& plugin) {
  const std::string index = plugin->index();
  absl::MutexLock lock(&mu_);
  std::erase(joining_, plugin);
  const auto place = std::find_if(plugins_.begin(), plugins_.end(),
                                  [&](const auto& other) { return other->index() > index; });
  plugins_.insert(place, plugin);
  return next_round_ - 1;
}

void Plugins::WaitForRounds(uint64_t last) {
  absl::MutexLock lock(&mu_);
  const auto over = [this, last]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return ending_ || rounds_.empty() || *rounds_.begin() > last;
  };
  if (!mu_.AwaitWithTimeout(absl::Condition(&over), options_.registration_timeout)) {
    LOG(WARNING) << "NRI: a plugin joins although pods are still being made that it may not see";
  }
}

void Plugins::Forget(const std::shared_ptr<Plugin>& plugin) {
  absl::MutexLock lock(&mu_);
  std::erase(joining_, plugin);
  std::erase(plugins_, plugin);
  // The last of those who have it destroys it, which waits for its thread: not under the mutex, and
  // not on that thread.
  if (!ending_) work_->Schedule([last = plugin] {});
}

wire::UpdateContainersResponse Plugins::Update(const std::string& plugin,
                                               const wire::UpdateContainersRequest& request) {
  wire::UpdateContainersResponse response;
  for (const wire::ContainerUpdate& update : request.update()) {
    const absl::Status done = host_.update(update);
    if (done.ok()) continue;
    LOG(WARNING) << "NRI plugin " << plugin << ": update of container " << update.container_id()
                 << ": " << done;
    if (!update.ignore_failure()) *response.add_failed() = update;
  }
  for (const wire::ContainerEviction& eviction : request.evict()) {
    const absl::Status done = host_.evict(eviction);
    LOG(INFO) << "NRI plugin " << plugin << " ends container " << eviction.container_id() << " ("
              << eviction.reason() << "): " << done;
  }
  return response;
}

Plugins::Round::Round(Plugins& plugins, Of what) : plugins_(plugins) {
  absl::MutexLock lock(&plugins_.mu_);
  if (what == Of::kMaking) {
    const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(plugins_.mu_) {
      return plugins_.ending_ || plugins_.launching_ == 0;
    };
    // One that hangs is dropped within this time.
    plugins_.mu_.AwaitWithTimeout(absl::Condition(&ready),
                                  4 * plugins_.options_.registration_timeout);
  }
  number_ = plugins_.next_round_++;
  plugins_.rounds_.insert(number_);
  asked_ = plugins_.plugins_;
}

Plugins::Round::~Round() {
  asked_.clear();
  absl::MutexLock lock(&plugins_.mu_);
  plugins_.rounds_.erase(number_);
}

}  // namespace gantry::nri
