#include "supervisor/nri/plugin.h"

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/status_macros.h"

namespace gantry::nri {
namespace {

// As the messages are known here.
constexpr char kNriVersion[] = "v0.12.0";
constexpr uint32_t kAllEvents = (1u << (wire::LAST - 1)) - 1;
// Of one Synchronize message; the rest of the 4 MiB is for what else a request has.
constexpr size_t kMostSyncBytes = 3 << 20;
// Whoever waits longer for its turn goes on without the plugin: it answers, but far too slowly.
constexpr absl::Duration kTurnPatience = absl::Seconds(20);
constexpr size_t kMostPutOff = 4096;
constexpr size_t kMostNameBytes = 200;

uint32_t Bit(wire::Event event) { return 1u << (event - 1); }

// Requests that older plugins know as a change of state. The others change something, and have
// always been requests of their own.
bool WasStateChange(wire::Event event) {
  switch (event) {
    case wire::RUN_POD_SANDBOX:
    case wire::STOP_POD_SANDBOX:
    case wire::REMOVE_POD_SANDBOX:
    case wire::POST_CREATE_CONTAINER:
    case wire::START_CONTAINER:
    case wire::POST_START_CONTAINER:
    case wire::POST_UPDATE_CONTAINER:
    case wire::REMOVE_CONTAINER:
    case wire::POST_UPDATE_POD_SANDBOX:
      return true;
    default:
      return false;
  }
}

bool IsName(absl::string_view name) {
  if (name.empty() || name.size() > kMostNameBytes) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || absl::StrContains("-_.", c);
  });
}
bool IsIndex(absl::string_view index) {
  return index.size() == 2 && absl::ascii_isdigit(static_cast<unsigned char>(index[0])) &&
         absl::ascii_isdigit(static_cast<unsigned char>(index[1]));
}

}  // namespace

Plugin::Plugin(UniqueFd socket, std::string index, std::string name, Process process)
    : launched_(true),
      index_(std::move(index)),
      name_(std::move(name)),
      process_(std::move(process)),
      link_(std::move(socket)) {}

Plugin::~Plugin() { link_.Close(); }

std::string Plugin::full_name() const {
  absl::MutexLock lock(&mu_);
  return name_.empty() ? "" : absl::StrCat(index_, "-", name_);
}
std::string Plugin::index() const {
  absl::MutexLock lock(&mu_);
  return index_;
}
std::string Plugin::name() const {
  absl::MutexLock lock(&mu_);
  return name_;
}
bool Plugin::Wants(wire::Event event) const {
  absl::MutexLock lock(&mu_);
  return state_ != State::kGone && (events_ & Bit(event)) != 0;
}
bool Plugin::gone() const {
  absl::MutexLock lock(&mu_);
  return state_ == State::kGone;
}

void Plugin::Drop(absl::string_view why) {
  const std::string name = full_name();
  {
    absl::MutexLock lock(&mu_);
    if (state_ == State::kGone) return;
    state_ = State::kGone;
    put_off_.clear();
  }
  LOG(WARNING) << "NRI plugin " << (name.empty() ? "without a name" : name)
               << " is dropped: " << why;
  link_.Close();
}

absl::StatusOr<std::string> Plugin::Register(absl::string_view request) {
  wire::RegisterPluginRequest in;
  if (!in.ParseFromArray(request.data(), static_cast<int>(request.size())))
    return absl::InvalidArgumentError("the request does not parse");
  absl::MutexLock lock(&mu_);
  if (registered_) return absl::FailedPreconditionError("the plugin is registered already");
  // One that was started here is who its file says.
  if (!launched_) {
    if (!IsName(in.plugin_name())) {
      return absl::InvalidArgumentError(
          "plugin_name: letters, digits, \"-\", \"_\" and \".\" are wanted");
    }
    if (!IsIndex(in.plugin_idx()))
      return absl::InvalidArgumentError("plugin_idx: two digits are wanted");
    index_ = in.plugin_idx();
    name_ = in.plugin_name();
  }
  registered_ = true;
  return wire::Empty().SerializeAsString();
}

absl::Status Plugin::Handshake(const Setup& setup) {
  setup_ = setup;
  PluginLink::Hooks hooks;
  const std::string service = "nri.pkg.api.v1alpha1.Runtime/";
  hooks.methods[service + "RegisterPlugin"] = [this](absl::string_view request) {
    return Register(request);
  };
  hooks.methods[service + "UpdateContainers"] =
      [this](absl::string_view request) -> absl::StatusOr<std::string> {
    wire::UpdateContainersRequest in;
    if (!in.ParseFromArray(request.data(), static_cast<int>(request.size())))
      return absl::InvalidArgumentError("the request does not parse");
    {
      absl::MutexLock lock(&mu_);
      if (state_ != State::kReady)
        return absl::FailedPreconditionError("the plugin is not synchronized yet");
    }
    return setup_.update(full_name(), in).SerializeAsString();
  };
  hooks.closed = [this] {
    {
      absl::MutexLock lock(&mu_);
      state_ = State::kGone;
      put_off_.clear();
    }
    setup_.gone();
  };
  GANTRY_RETURN_IF_ERROR(link_.Start(std::move(hooks)));
  {
    absl::MutexLock lock(&mu_);
    const auto known = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return registered_ || state_ == State::kGone;
    };
    if (!mu_.AwaitWithTimeout(absl::Condition(&known), setup_.registration_timeout)) {
      return absl::DeadlineExceededError(absl::StrCat(
          "it did not register within ", absl::FormatDuration(setup_.registration_timeout)));
    }
    if (state_ == State::kGone) return absl::UnavailableError("it left before it registered");
  }
  wire::ConfigureRequest request;
  request.set_config(setup_.config(index(), name()));
  request.set_runtime_name(setup_.runtime_name);
  request.set_runtime_version(setup_.runtime_version);
  request.set_registration_timeout(absl::ToInt64Milliseconds(setup_.registration_timeout));
  request.set_request_timeout(absl::ToInt64Milliseconds(setup_.request_timeout));
  request.set_nri_version(kNriVersion);
  const PluginLink::Result result =
      link_.Call("Configure", request.SerializeAsString(), setup_.registration_timeout);
  GANTRY_RETURN_IF_ERROR(result.message.status());
  wire::ConfigureResponse answer;
  if (!answer.ParseFromString(*result.message))
    return absl::InvalidArgumentError("its answer to Configure does not parse");
  const auto events = static_cast<uint32_t>(answer.events());
  if ((events & ~kAllEvents) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("it subscribes to events that there are none of: mask ", answer.events()));
  }
  absl::MutexLock lock(&mu_);
  events_ = events == 0 ? kAllEvents : events;
  state_ = state_ == State::kGone ? State::kGone : State::kSynchronizing;
  busy_ = true;  // until Synchronize() is over
  return absl::OkStatus();
}

absl::StatusOr<std::vector<wire::ContainerUpdate>> Plugin::Synchronize(
    const std::vector<wire::PodSandbox>& pods, const std::vector<wire::Container>& containers) {
  const absl::Cleanup end_turn = [this] {
    absl::MutexLock lock(&mu_);
    busy_ = false;
  };
  std::vector<wire::SynchronizeRequest> parts(1);
  size_t bytes = 0;
  const auto room_for = [&](const google::protobuf::MessageLite& one) {
    bytes += one.ByteSizeLong() + 8;
    if (bytes <= kMostSyncBytes || bytes == one.ByteSizeLong() + 8) return;
    parts.back().set_more(true);
    parts.emplace_back();
    bytes = one.ByteSizeLong() + 8;
  };
  for (const wire::PodSandbox& pod : pods) {
    room_for(pod);
    *parts.back().add_pods() = pod;
  }
  for (const wire::Container& container : containers) {
    room_for(container);
    *parts.back().add_containers() = container;
  }
  wire::SynchronizeResponse answer;
  for (const wire::SynchronizeRequest& part : parts) {
    // Reconciling may take longer than an ordinary request.
    const PluginLink::Result result =
        link_.Call("Synchronize", part.SerializeAsString(), setup_.registration_timeout);
    GANTRY_RETURN_IF_ERROR(result.message.status());
    if (!answer.ParseFromString(*result.message))
      return absl::InvalidArgumentError("its answer to Synchronize does not parse");
    if (part.more() && !answer.more()) {
      return absl::FailedPreconditionError(
          "it does not take its state in parts, and there is too much for one message");
    }
  }
  GANTRY_RETURN_IF_ERROR(SendPutOff());
  return std::vector<wire::ContainerUpdate>(answer.update().begin(), answer.update().end());
}

absl::Status Plugin::SendPutOff() {
  while (true) {
    std::vector<PutOff> now;
    {
      absl::MutexLock lock(&mu_);
      if (state_ == State::kGone) return absl::UnavailableError("it left");
      if (put_off_.empty()) {
        state_ = State::kReady;
        return absl::OkStatus();
      }
      now.swap(put_off_);
    }
    for (const PutOff& one : now) {
      std::string reply;
      bool answered = false;
      const absl::Status told =
          CallInTurn(one.event, one.method, one.message, one.old, &reply, &answered);
      LOG_IF(WARNING, !told.ok()) << "NRI plugin " << full_name() << ": " << one.method << ": "
                                  << told;
      if (!answered) return absl::UnavailableError("it left");
    }
  }
}

absl::Status Plugin::CallInTurn(wire::Event event, absl::string_view method,
                                const std::string& message, const std::string& old,
                                std::string* reply, bool* answered) {
  *answered = false;
  bool as_state_change = false;
  {
    absl::MutexLock lock(&mu_);
    as_state_change = old_ && WasStateChange(event);
  }
  PluginLink::Result result = as_state_change
                                  ? link_.Call("StateChange", old, setup_.request_timeout)
                                  : link_.Call(method, message, setup_.request_timeout);
  if (result.answered && absl::IsUnimplemented(result.message.status()) && !as_state_change &&
      WasStateChange(event)) {
    {
      absl::MutexLock lock(&mu_);
      old_ = true;
    }
    result = link_.Call("StateChange", old, setup_.request_timeout);
  }
  if (!result.answered) {
    Drop(absl::StrCat(method, ": ", result.message.status().message()));
    return absl::OkStatus();
  }
  *answered = true;
  if (!result.message.ok()) {
    return absl::Status(result.message.status().code(),
                        absl::StrCat("NRI plugin ", full_name(), ": ", method, ": ",
                                     result.message.status().message()));
  }
  *reply = *std::move(result.message);
  return absl::OkStatus();
}

absl::Status Plugin::Ask(wire::Event event, absl::string_view method,
                         const google::protobuf::MessageLite& request,
                         const wire::StateChangeEvent& old, IfBusy if_busy,
                         google::protobuf::MessageLite* reply, bool* answered) {
  *answered = false;
  if (!Wants(event)) return absl::OkStatus();
  const std::string message = request.SerializeAsString();
  const std::string old_message = WasStateChange(event) ? old.SerializeAsString() : "";
  bool slow = false;
  {
    absl::MutexLock lock(&mu_);
    if (state_ == State::kSynchronizing && if_busy == IfBusy::kPutOff) {
      if (put_off_.size() < kMostPutOff)
        put_off_.push_back({event, std::string(method), message, old_message});
      return absl::OkStatus();
    }
    const auto free = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return state_ == State::kGone || (state_ == State::kReady && !busy_);
    };
    slow = !mu_.AwaitWithTimeout(absl::Condition(&free), kTurnPatience);
    if (state_ == State::kGone) return absl::OkStatus();
    if (!slow) busy_ = true;
  }
  if (slow) {
    Drop(absl::StrCat(method, ": others had its turn for ", absl::FormatDuration(kTurnPatience)));
    return absl::OkStatus();
  }
  const absl::Cleanup end_turn = [this] {
    absl::MutexLock lock(&mu_);
    busy_ = false;
  };
  std::string bytes;
  GANTRY_RETURN_IF_ERROR(CallInTurn(event, method, message, old_message, &bytes, answered));
  if (*answered && reply != nullptr && !reply->ParseFromString(bytes)) {
    *answered = false;
    Drop(absl::StrCat(method, ": its answer does not parse"));
  }
  return absl::OkStatus();
}

void Plugin::Shutdown(absl::Duration patience) {
  if (!gone()) link_.Call("Shutdown", wire::Empty().SerializeAsString(), patience);
  {
    absl::MutexLock lock(&mu_);
    state_ = State::kGone;
  }
  link_.Close();
}

}  // namespace gantry::nri
