#include "supervisor/volume/fake_plugin.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace gantry::volume {

using nlohmann::json;

FakePlugin::FakePlugin(std::string socket, std::string directory)
    : socket_(std::move(socket)), directory_(std::move(directory)) {
  mkdir(directory_.c_str(), 0755);
  unlink(socket_.c_str());
  listener_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, socket_.c_str(), sizeof address.sun_path - 1);
  (void)bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  (void)listen(listener_.get(), 16);
  int ends[2] = {-1, -1};
  (void)!pipe2(ends, O_CLOEXEC);
  stop_read_ = UniqueFd(ends[0]);
  stop_write_ = UniqueFd(ends[1]);
  thread_ = std::thread([this] { Serve(); });
}

FakePlugin::~FakePlugin() {
  stop_write_.reset();
  thread_.join();
  std::vector<std::thread> handlers;
  {
    absl::MutexLock lock(&mu_);
    handlers.swap(handlers_);
  }
  for (std::thread& one : handlers) one.join();
  unlink(socket_.c_str());
}

void FakePlugin::AnswerNext(const std::string& method, Next next) {
  absl::MutexLock lock(&mu_);
  next_[method].push_back(std::move(next));
}

std::vector<std::string> FakePlugin::calls() const {
  absl::MutexLock lock(&mu_);
  return calls_;
}

std::set<std::string> FakePlugin::mounts(const std::string& name) const {
  absl::MutexLock lock(&mu_);
  const auto found = mounts_.find(name);
  return found == mounts_.end() ? std::set<std::string>() : found->second;
}

void FakePlugin::Serve() {
  while (true) {
    pollfd polled[2] = {{listener_.get(), POLLIN, 0}, {stop_read_.get(), POLLIN, 0}};
    if (poll(polled, 2, -1) < 0) continue;
    if (polled[1].revents != 0) return;
    const int connection = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) continue;
    absl::MutexLock lock(&mu_);
    handlers_.emplace_back([this, connection] { Handle(connection); });
  }
}

void FakePlugin::Handle(int connection) {
  const UniqueFd owner(connection);
  std::string request;
  size_t head = std::string::npos;
  size_t length = 0;
  while (head == std::string::npos || request.size() < head + 4 + length) {
    pollfd polled[2] = {{connection, POLLIN, 0}, {stop_read_.get(), POLLIN, 0}};
    if (poll(polled, 2, -1) < 0) continue;
    if (polled[1].revents != 0) return;
    char buffer[65536];
    const ssize_t n = read(connection, buffer, sizeof buffer);
    if (n <= 0) return;
    request.append(buffer, static_cast<size_t>(n));
    head = request.find("\r\n\r\n");
    const size_t at = request.find("Content-Length: ");
    if (head != std::string::npos && at != std::string::npos && at < head)
      length = static_cast<size_t>(atoi(request.c_str() + at + 16));
  }
  const std::string body = request.substr(head + 4);
  const size_t space = request.find(' ');
  const std::string method = request.substr(space + 2, request.find(' ', space + 1) - space - 2);
  Next next;
  bool told = false;
  {
    const json parsed = json::parse(body, nullptr, false);
    absl::MutexLock lock(&mu_);
    std::string line = method;
    for (const char* key : {"Name", "ID"}) {
      if (parsed.is_object() && parsed.contains(key))
        absl::StrAppend(&line, " ", parsed[key].get<std::string>());
    }
    calls_.push_back(line);
    auto waiting = next_.find(method);
    if (waiting != next_.end() && !waiting->second.empty()) {
      next = waiting->second.front();
      waiting->second.erase(waiting->second.begin());
      told = true;
    }
  }
  if (next.close) return;
  if (next.hang) {
    pollfd polled[2] = {{connection, POLLIN, 0}, {stop_read_.get(), POLLIN, 0}};
    while (poll(polled, 2, -1) < 0) {
    }
    return;
  }
  const std::string answer = told ? next.body : Answer(method, body);
  const std::string whole =
      absl::StrCat("HTTP/1.1 ", next.status, " X\r\nContent-Type: application/json\r\n",
                   "Content-Length: ", answer.size(), "\r\nConnection: close\r\n\r\n", answer);
  size_t sent = 0;
  while (sent < whole.size()) {
    const ssize_t n = send(connection, whole.data() + sent, whole.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return;
    sent += static_cast<size_t>(n);
  }
}

std::string FakePlugin::Answer(const std::string& method, const std::string& body) {
  const json in = json::parse(body, nullptr, false);
  const std::string name = in.is_object() ? in.value("Name", "") : "";
  const std::string path = absl::StrCat(directory_, "/", name);
  absl::MutexLock lock(&mu_);
  const auto volume = [&](const std::string& one) {
    json out = {{"Name", one}, {"Status", {{"made", "by a fake"}, {"size", 7}}}};
    if (!mounts_[one].empty()) out["Mountpoint"] = absl::StrCat(directory_, "/", one);
    return out;
  };
  if (method == "Plugin.Activate") return R"({"Implements":["NetworkDriver","VolumeDriver"]})";
  if (method == "VolumeDriver.Capabilities") return R"({"Capabilities":{"Scope":"global"}})";
  if (method == "VolumeDriver.List") {
    json all = json::array();
    for (const auto& [one, options] : volumes_) all.push_back(volume(one));
    return json{{"Volumes", all}, {"Err", ""}}.dump();
  }
  if (method == "VolumeDriver.Create") {
    const json options = in.value("Opts", json::object());
    for (const auto& [key, value] : options.items()) {
      if (key == "fail") return json{{"Err", value}}.dump();
      volumes_[name][key] = value.get<std::string>();
    }
    volumes_.try_emplace(name);
    mkdir(path.c_str(), 0755);
    return R"({"Err":""})";
  }
  if (volumes_.count(name) == 0) return json{{"Err", "no such volume " + name}}.dump();
  if (method == "VolumeDriver.Remove") {
    volumes_.erase(name);
    return R"({"Err":""})";
  }
  if (method == "VolumeDriver.Get") return json{{"Volume", volume(name)}, {"Err", ""}}.dump();
  if (method == "VolumeDriver.Path" || method == "VolumeDriver.Mount") {
    if (method == "VolumeDriver.Mount") mounts_[name].insert(in.value("ID", ""));
    return json{{"Mountpoint", path}, {"Err", ""}}.dump();
  }
  if (method == "VolumeDriver.Unmount") {
    mounts_[name].erase(in.value("ID", ""));
    return R"({"Err":""})";
  }
  return R"({"Err":"what?"})";
}

}  // namespace gantry::volume
