#include "supervisor/volume/plugin_driver.h"

#include <curl/curl.h>

#include <algorithm>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"

#include "base/status_macros.h"

namespace gantry::volume {
namespace {

using nlohmann::json;

constexpr size_t kMostBytes = 4 << 20;
constexpr size_t kMostVolumes = 100000;
constexpr absl::Duration kLook = absl::Milliseconds(100);
constexpr char kAccept[] = "Accept: application/vnd.docker.plugins.v1.2+json";

struct Answer {
  std::string text;
  bool too_long = false;
};

size_t Take(char* data, size_t size, size_t count, void* to) {
  Answer& answer = *static_cast<Answer*>(to);
  if (answer.text.size() + size * count > kMostBytes) {
    answer.too_long = true;
    return 0;
  }
  answer.text.append(data, size * count);
  return size * count;
}

int Look(void* cancel, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<CancelToken*>(cancel)->cancelled() ? 1 : 0;
}

// Nothing of the answer came: the driver is not there, or not yet.
bool Unreached(CURLcode code) {
  return code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
         code == CURLE_GOT_NOTHING || code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR;
}

std::string Shown(absl::string_view text) { return absl::Utf8SafeCEscape(text.substr(0, 1000)); }

// Null for what is no JSON. What is nested deeper than any driver has reason to is left out:
// printing it would need as much stack.
json ReadJson(const std::string& text) {
  constexpr int kDeepest = 32;
  json parsed = json::parse(
      text, [](int depth, json::parse_event_t, json&) { return depth <= kDeepest; },
      /*allow_exceptions=*/false);
  return parsed.is_discarded() ? json() : parsed;
}

std::string Word(const json& in, const char* key) {
  const auto found = in.is_object() ? in.find(key) : in.end();
  return in.is_object() && found != in.end() && found->is_string() ? found->get<std::string>()
                                                                   : std::string();
}

// Replaced where it is no UTF-8, which JSON cannot hold.
std::string Print(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

PluginVolume ReadVolume(const json& in) {
  PluginVolume out;
  out.name = Word(in, "Name");
  out.mountpoint = Word(in, "Mountpoint");
  out.created_at = Word(in, "CreatedAt");
  const auto status = in.is_object() ? in.find("Status") : in.end();
  if (!in.is_object() || status == in.end() || !status->is_object()) return out;
  for (const auto& [key, value] : status->items())
    out.status[key] = value.is_string() ? value.get<std::string>() : Print(value);
  return out;
}

absl::Status BadAnswer(absl::string_view driver, absl::string_view method, absl::string_view why) {
  return absl::InternalError(absl::StrCat("volume plugin ", driver, ": ", method, ": ", why));
}

// Of the host, and not taken for something else on the way to mount(2).
absl::Status CheckMountpoint(absl::string_view driver, absl::string_view method,
                             const std::string& path) {
  if (path.empty() || path.front() != '/' || path.find('\0') != std::string::npos ||
      path.size() > 4095) {
    return BadAnswer(driver, method,
                     absl::StrCat("mountpoint \"", Shown(path), "\" is not an absolute path"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> PluginDrivers::Post(CancelToken* cancel, const PluginAddress& address,
                                                absl::string_view method, const std::string& body,
                                                absl::Duration limit) const {
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> easy(curl_easy_init(),
                                                                 &curl_easy_cleanup);
  if (easy == nullptr) return absl::ResourceExhaustedError("no memory for a request");
  curl_slist* list = curl_slist_append(nullptr, kAccept);
  // Not asked for: some drivers do not know the word.
  list = curl_slist_append(list, "Expect:");
  list = curl_slist_append(list, "Content-Type: application/json");
  const absl::Cleanup free_list = [list] { curl_slist_free_all(list); };
  Answer answer;
  char error[CURL_ERROR_SIZE] = {};
  CURL* const h = easy.get();
  const std::string url = absl::StrCat(address.url, "/", method);
  curl_easy_setopt(h, CURLOPT_URL, url.c_str());
  curl_easy_setopt(h, CURLOPT_ERRORBUFFER, error);
  if (!address.socket.empty())
    curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, address.socket.c_str());
  curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(h, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(h, CURLOPT_HTTP09_ALLOWED, 0L);
  curl_easy_setopt(h, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  curl_easy_setopt(h, CURLOPT_PROXY, "");
  curl_easy_setopt(h, CURLOPT_POST, 1L);
  curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(h, CURLOPT_POSTFIELDS, body.c_str());
  curl_easy_setopt(h, CURLOPT_HTTPHEADER, list);
  curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, &Take);
  curl_easy_setopt(h, CURLOPT_WRITEDATA, &answer);
  curl_easy_setopt(h, CURLOPT_TIMEOUT_MS,
                   std::max<long>(1, static_cast<long>(absl::ToInt64Milliseconds(limit))));
  if (cancel != nullptr) {
    curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, &Look);
    curl_easy_setopt(h, CURLOPT_XFERINFODATA, cancel);
  }
  if (!address.verify_peer) {
    curl_easy_setopt(h, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(h, CURLOPT_SSL_VERIFYHOST, 0L);
  }
  if (!address.ca_file.empty()) curl_easy_setopt(h, CURLOPT_CAINFO, address.ca_file.c_str());
  if (!address.certificate_file.empty()) {
    curl_easy_setopt(h, CURLOPT_SSLCERT, address.certificate_file.c_str());
    curl_easy_setopt(h, CURLOPT_SSLKEY, address.key_file.c_str());
  }
  const CURLcode code = curl_easy_perform(h);
  if (answer.too_long)
    return absl::InternalError(absl::StrCat("answers with more than ", kMostBytes, " bytes"));
  if (code == CURLE_ABORTED_BY_CALLBACK && cancel != nullptr) {
    GANTRY_RETURN_IF_ERROR(cancel->Check());
  }
  const std::string why = *error != 0 ? error : curl_easy_strerror(code);
  if (code == CURLE_OPERATION_TIMEDOUT) {
    return absl::DeadlineExceededError(
        absl::StrCat("did not answer within ", absl::FormatDuration(limit)));
  }
  if (Unreached(code)) {
    return absl::UnavailableError(absl::StrCat(
        "at ", address.socket.empty() ? address.url : address.socket, " is not reached: ", why));
  }
  if (code != CURLE_OK) return absl::InternalError(why);
  long status = 0;
  curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &status);
  if (status == 200) return std::move(answer.text);
  const std::string told = Word(ReadJson(answer.text), "Err");
  return absl::FailedPreconditionError(
      absl::StrCat("answers ", status, ": ", Shown(told.empty() ? answer.text : told)));
}

absl::StatusOr<std::string> PluginDrivers::PostAgain(CancelToken* cancel,
                                                     const PluginAddress& address,
                                                     absl::string_view method,
                                                     const std::string& body, absl::Duration limit,
                                                     bool again) const {
  // A deadline of the caller's own counts as well.
  CancelToken own(limit, cancel);
  absl::Duration waited;
  absl::Duration pause = limits_.first_pause;
  while (true) {
    const absl::Duration left = std::min(limit, own.remaining());
    absl::StatusOr<std::string> answer = Post(&own, address, method, body, left);
    if (!again || !absl::IsUnavailable(answer.status()) || waited + pause > limits_.unreachable) {
      return answer;
    }
    for (absl::Duration slept; slept < pause; slept += kLook) {
      GANTRY_RETURN_IF_ERROR(own.Check());
      absl::SleepFor(std::min(kLook, pause - slept));
    }
    waited += pause;
    pause *= 2;
  }
}

absl::StatusOr<std::string> PluginDrivers::Ask(CancelToken* cancel, const std::string& driver,
                                               absl::string_view method, const std::string& body,
                                               absl::Duration limit, bool again) {
  const auto told = [&](const absl::Status& status) {
    return absl::Status(status.code(), absl::StrCat("volume plugin ", driver, ": ", method, ": ",
                                                    status.message()));
  };
  const absl::StatusOr<PluginAddress> address = FindPlugin(places_, driver);
  if (!address.ok()) {
    return absl::Status(address.status().code(),
                        absl::StrCat("error looking up volume plugin ", Shown(driver), ": ",
                                     address.status().message()));
  }
  bool known = false;
  {
    absl::MutexLock lock(&mu_);
    const auto found = activated_.find(driver);
    known = found != activated_.end() && found->second == *address;
  }
  if (!known) {
    absl::StatusOr<std::string> answer =
        PostAgain(cancel, *address, "Plugin.Activate", "", limit, again);
    if (!answer.ok()) return told(answer.status());
    const json parsed = ReadJson(*answer);
    const auto kinds = parsed.is_object() ? parsed.find("Implements") : parsed.end();
    bool volumes = false;
    if (parsed.is_object() && kinds != parsed.end() && kinds->is_array()) {
      for (const json& kind : *kinds) volumes |= kind.is_string() && kind == "VolumeDriver";
    }
    if (!volumes) {
      return absl::FailedPreconditionError(
          absl::StrCat("plugin ", driver,
                       " does not implement volumes (its answer to Plugin.Activate has no "
                       "VolumeDriver)"));
    }
    absl::MutexLock lock(&mu_);
    activated_[driver] = *address;
  }
  absl::StatusOr<std::string> answer = PostAgain(cancel, *address, method, body, limit, again);
  if (!answer.ok()) return told(answer.status());
  const json parsed = ReadJson(*answer);
  if (!parsed.is_object())
    return BadAnswer(driver, method, absl::StrCat("no JSON object: ", Shown(*answer)));
  if (const std::string error = Word(parsed, "Err"); !error.empty())
    return told(absl::FailedPreconditionError(Shown(error)));
  return answer;
}

absl::Status PluginDrivers::Check(CancelToken* cancel, const std::string& driver) {
  return Scope(cancel, driver).status();
}

absl::Status PluginDrivers::Create(CancelToken* cancel, const std::string& driver,
                                   const std::string& name, const Options& options) {
  const json body = {{"Name", name}, {"Opts", options}};
  return Ask(cancel, driver, "VolumeDriver.Create", Print(body), limits_.make).status();
}

absl::Status PluginDrivers::Remove(CancelToken* cancel, const std::string& driver,
                                   const std::string& name) {
  return Ask(cancel, driver, "VolumeDriver.Remove", Print(json{{"Name", name}}), limits_.other)
      .status();
}

absl::StatusOr<std::string> PluginDrivers::Mount(CancelToken* cancel, const std::string& driver,
                                                 const std::string& name, const std::string& id) {
  static constexpr char kMethod[] = "VolumeDriver.Mount";
  GANTRY_ASSIGN_OR_RETURN(
      const std::string answer,
      Ask(cancel, driver, kMethod, Print(json{{"Name", name}, {"ID", id}}), limits_.make));
  std::string path = Word(ReadJson(answer), "Mountpoint");
  GANTRY_RETURN_IF_ERROR(CheckMountpoint(driver, kMethod, path));
  return path;
}

absl::Status PluginDrivers::Unmount(CancelToken* cancel, const std::string& driver,
                                    const std::string& name, const std::string& id) {
  return Ask(cancel, driver, "VolumeDriver.Unmount", Print(json{{"Name", name}, {"ID", id}}),
             limits_.other)
      .status();
}

absl::StatusOr<PluginVolume> PluginDrivers::Get(CancelToken* cancel, const std::string& driver,
                                                const std::string& name) {
  static constexpr char kMethod[] = "VolumeDriver.Get";
  GANTRY_ASSIGN_OR_RETURN(const std::string answer,
                          Ask(cancel, driver, kMethod, Print(json{{"Name", name}}), limits_.other));
  const json parsed = ReadJson(answer);
  const auto found = parsed.find("Volume");
  if (found == parsed.end() || !found->is_object())
    return BadAnswer(driver, kMethod, absl::StrCat("no Volume in ", Shown(answer)));
  PluginVolume volume = ReadVolume(*found);
  if (volume.name != name) {
    return BadAnswer(driver, kMethod,
                     absl::StrCat("asked for ", name, ", got \"", Shown(volume.name), "\""));
  }
  return volume;
}

absl::StatusOr<std::string> PluginDrivers::Path(CancelToken* cancel, const std::string& driver,
                                                const std::string& name) {
  static constexpr char kMethod[] = "VolumeDriver.Path";
  GANTRY_ASSIGN_OR_RETURN(const std::string answer,
                          Ask(cancel, driver, kMethod, Print(json{{"Name", name}}), limits_.other));
  std::string path = Word(ReadJson(answer), "Mountpoint");
  GANTRY_RETURN_IF_ERROR(CheckMountpoint(driver, kMethod, path));
  return path;
}

absl::StatusOr<std::vector<PluginVolume>> PluginDrivers::List(CancelToken* cancel,
                                                              const std::string& driver) {
  static constexpr char kMethod[] = "VolumeDriver.List";
  GANTRY_ASSIGN_OR_RETURN(const std::string answer,
                          Ask(cancel, driver, kMethod, "{}", limits_.list, /*again=*/false));
  const json parsed = ReadJson(answer);
  std::vector<PluginVolume> volumes;
  const auto found = parsed.find("Volumes");
  if (found == parsed.end() || found->is_null()) return volumes;
  if (!found->is_array() || found->size() > kMostVolumes)
    return BadAnswer(driver, kMethod, "Volumes is not a list, or one of more than 100000");
  for (const json& one : *found) volumes.push_back(ReadVolume(one));
  return volumes;
}

absl::StatusOr<std::string> PluginDrivers::Scope(CancelToken* cancel, const std::string& driver) {
  absl::StatusOr<std::string> answer =
      Ask(cancel, driver, "VolumeDriver.Capabilities", "{}", limits_.other);
  // Drivers older than this call answer with an error.
  if (absl::IsFailedPrecondition(answer.status()) && Known().count(driver) > 0) return "local";
  GANTRY_RETURN_IF_ERROR(answer.status());
  const json parsed = ReadJson(*answer);
  const auto found = parsed.find("Capabilities");
  if (found == parsed.end()) return "local";
  return Word(*found, "Scope") == "global" ? "global" : "local";
}

std::set<std::string> PluginDrivers::Known() const {
  absl::MutexLock lock(&mu_);
  std::set<std::string> names;
  for (const auto& [name, address] : activated_) names.insert(name);
  return names;
}

}  // namespace gantry::volume
