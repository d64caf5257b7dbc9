#include "supervisor/nri/fake_plugin.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/ttrpc_frame.h"
#include "proto/ttrpc/ttrpc.pb.h"

namespace gantry::nri {
namespace {

constexpr uint32_t kPlugin = 1;
constexpr uint32_t kRuntime = 2;
constexpr size_t kPieceHeadBytes = 8;

}  // namespace

absl::StatusOr<UniqueFd> FakePlugin::Connect(const std::string& path) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  if (connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return absl::UnavailableError(absl::StrCat(path, ": ", strerror(errno)));
  return socket;
}

FakePlugin::FakePlugin(UniqueFd socket, Options options)
    : socket_(std::move(socket)), options_(std::move(options)), reader_([this] { Run(); }) {
  if (!options_.registers) return;
  registering_ = std::thread([this] {
    wire::RegisterPluginRequest request;
    request.set_plugin_name(options_.name);
    request.set_plugin_idx(options_.index);
    const absl::Status status = CallRuntime("RegisterPlugin", request.SerializeAsString()).status();
    absl::MutexLock lock(&mu_);
    registered_ = status;
  });
}

FakePlugin::~FakePlugin() {
  Close();
  if (registering_.joinable()) registering_.join();
  reader_.join();
  std::vector<std::thread> threads;
  {
    absl::MutexLock lock(&mu_);
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
}

void FakePlugin::Close() { shutdown(socket_.get(), SHUT_RDWR); }

absl::Status FakePlugin::registered() {
  if (registering_.joinable()) registering_.join();
  absl::MutexLock lock(&mu_);
  return registered_;
}

void FakePlugin::Send(uint32_t connection, uint32_t stream, uint8_t type,
                      const std::string& payload) {
  std::string frame;
  AppendTtrpcFrame(stream, static_cast<TtrpcType>(type), payload, frame);
  std::string bytes;
  AppendBigEndian32(connection, bytes);
  AppendBigEndian32(static_cast<uint32_t>(frame.size()), bytes);
  bytes += frame;
  absl::MutexLock lock(&send_mu_);
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t sent =
        send(socket_.get(), bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    if (sent <= 0) return;
    done += static_cast<size_t>(sent);
  }
}

absl::StatusOr<std::string> FakePlugin::CallRuntime(const std::string& method,
                                                    const std::string& message) {
  ttrpc::Request request;
  request.set_service("nri.pkg.api.v1alpha1.Runtime");
  request.set_method(method);
  request.set_payload(message);
  uint32_t stream = 0;
  {
    absl::MutexLock lock(&mu_);
    stream = next_stream_;
    next_stream_ += 2;
  }
  Send(kRuntime, stream, 1, request.SerializeAsString());
  absl::MutexLock lock(&mu_);
  const auto over = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return closed_ || answers_.count(stream) > 0;
  };
  if (!mu_.AwaitWithTimeout(absl::Condition(&over), absl::Seconds(30)))
    return absl::DeadlineExceededError(method);
  if (answers_.count(stream) == 0) return absl::UnavailableError("closed");
  return answers_.at(stream);
}

std::vector<std::pair<std::string, std::string>> FakePlugin::calls() const {
  absl::MutexLock lock(&mu_);
  return calls_;
}

int FakePlugin::count(const std::string& method) const {
  int n = 0;
  for (const auto& [name, request] : calls()) n += name == method;
  return n;
}

bool FakePlugin::WaitFor(const std::string& method, int count, absl::Duration limit) const {
  absl::MutexLock lock(&mu_);
  const auto reached = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    int n = 0;
    for (const auto& [name, request] : calls_) n += name == method;
    return n >= count;
  };
  return mu_.AwaitWithTimeout(absl::Condition(&reached), limit);
}

bool FakePlugin::WaitClosed(absl::Duration limit) const {
  absl::MutexLock lock(&mu_);
  return mu_.AwaitWithTimeout(absl::Condition(&closed_), limit);
}

void FakePlugin::Run() {
  std::string in;
  std::map<uint32_t, std::string> pieces;
  char buffer[64 << 10];
  while (true) {
    const ssize_t got = recv(socket_.get(), buffer, sizeof buffer, 0);
    if (got <= 0) break;
    in.append(buffer, static_cast<size_t>(got));
    while (in.size() >= kPieceHeadBytes) {
      const uint32_t connection = ReadBigEndian32(in);
      const size_t length = ReadBigEndian32(absl::string_view(in).substr(4));
      if (in.size() < kPieceHeadBytes + length) break;
      pieces[connection] += in.substr(kPieceHeadBytes, length);
      in.erase(0, kPieceHeadBytes + length);
      TakeFrames(connection, pieces[connection]);
    }
  }
  absl::MutexLock lock(&mu_);
  closed_ = true;
}

bool FakePlugin::TakeFrames(uint32_t connection, std::string& bytes) {
  while (const std::optional<TtrpcHead> head = ReadTtrpcHead(bytes)) {
    if (bytes.size() < kTtrpcHeadBytes + head->length) return true;
    const std::string payload = bytes.substr(kTtrpcHeadBytes, head->length);
    bytes.erase(0, kTtrpcHeadBytes + head->length);
    absl::MutexLock lock(&mu_);
    if (connection == kRuntime) {
      ttrpc::Response response;
      response.ParseFromString(payload);
      const auto code = static_cast<absl::StatusCode>(response.status().code());
      if (code == absl::StatusCode::kOk) {
        answers_[head->stream] = response.payload();
      } else {
        answers_[head->stream] = absl::Status(code, response.status().message());
      }
      continue;
    }
    ttrpc::Request request;
    request.ParseFromString(payload);
    calls_.emplace_back(request.method(), request.payload());
    threads_.emplace_back([this, stream = head->stream, request] {
      absl::StatusOr<std::string> answer = std::string();
      const auto handler = options_.handlers.find(request.method());
      if (handler != options_.handlers.end()) {
        answer = handler->second(request.payload());
      } else if (request.method() == "Configure") {
        wire::ConfigureResponse events;
        events.set_events(options_.events);
        answer = events.SerializeAsString();
      }
      ttrpc::Response response;
      if (answer.ok()) {
        response.set_payload(*answer);
      } else {
        response.mutable_status()->set_code(static_cast<int>(answer.status().code()));
        response.mutable_status()->set_message(std::string(answer.status().message()));
      }
      Send(kPlugin, stream, 2, response.SerializeAsString());
    });
  }
  return true;
}

}  // namespace gantry::nri
