#include "supervisor/api/gantry/build_stream.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "supervisor/build/context_store.h"

namespace gantry::api::gantry_v1 {
namespace {

constexpr size_t kIndexesInMessage = 64 << 10;
constexpr int64_t kProgressBytes = 1 << 20;
// From so much on a socket is worth its making.
constexpr int64_t kSocketBytes = 1 << 20;

absl::Status Unexpected(const v1::BuildRequest& message, absl::string_view wanted) {
  return absl::InvalidArgumentError(absl::StrCat("message ", static_cast<int>(message.part_case()),
                                                 " came where the ", wanted,
                                                 " of the context were expected"));
}

}  // namespace

std::string StreamedBuildClient::ContextKey(int index) const {
  if (index == 0) return request_.context_key();
  const int beside = index - 1;
  if (beside < request_.contexts_size()) return request_.contexts(beside).key();
  const int cache = beside - request_.contexts_size();
  return cache < request_.cache_from_size() ? request_.cache_from(cache).key() : "";
}

absl::Status StreamedBuildClient::Want(int index, build::ContextUpdate& update, size_t& wanted,
                                       std::unique_ptr<ContextSocket>& socket) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<uint32_t> indexes, update.Wanted());
  wanted = indexes.size();
  if (request_.connects() && !sockets_.empty() && update.wanted_bytes() >= kSocketBytes) {
    // Without one the contents come in messages, which takes longer.
    absl::StatusOr<std::unique_ptr<ContextSocket>> made = ContextSocket::Make(sockets_);
    if (made.ok()) socket = *std::move(made);
  }
  size_t at = 0;
  do {
    v1::BuildResponse response;
    v1::ContextWants& wants = *response.mutable_wants();
    wants.set_context(static_cast<uint32_t>(index));
    for (size_t end = std::min(indexes.size(), at + kIndexesInMessage); at < end; ++at)
      wants.add_indexes(indexes[at]);
    wants.set_last(at == indexes.size());
    if (wants.last() && socket != nullptr) wants.set_socket(socket->path());
    GANTRY_RETURN_IF_ERROR(stream_.send(std::move(response)));
  } while (at < indexes.size());
  return absl::OkStatus();
}

absl::Status StreamedBuildClient::Update(int index, build::ContextUpdate& update,
                                         CancelToken* cancel,
                                         const std::function<void(int64_t)>& progress) {
  v1::BuildRequest message;
  bool last = false;
  while (!last) {
    if (cancel != nullptr) GANTRY_RETURN_IF_ERROR(cancel->Check());
    GANTRY_ASSIGN_OR_RETURN(const bool some, stream_.next(message, false));
    if (!some) return absl::DataLossError("the client ended before its listing");
    if (!message.has_entries() || message.entries().context() != static_cast<uint32_t>(index))
      return Unexpected(message, "entries");
    for (const v1::ContextEntry& entry : message.entries().entries())
      GANTRY_RETURN_IF_ERROR(update.Add(entry));
    last = message.entries().last();
  }
  size_t left = 0;
  std::unique_ptr<ContextSocket> socket;
  GANTRY_RETURN_IF_ERROR(Want(index, update, left, socket));
  int64_t told = 0;
  while (left > 0) {
    if (cancel != nullptr) GANTRY_RETURN_IF_ERROR(cancel->Check());
    GANTRY_ASSIGN_OR_RETURN(const bool some, stream_.next(message, false));
    if (!some) return absl::DataLossError("the client ended before its files");
    if (socket != nullptr && message.part_case() == v1::BuildRequest::kConnected &&
        message.connected() == static_cast<uint32_t>(index))
      return socket->Receive(update, left, cancel, progress);
    socket = nullptr;  // it does not reach it
    if (!message.has_contents() || message.contents().context() != static_cast<uint32_t>(index))
      return Unexpected(message, "contents");
    for (v1::ContextContent& content : *message.mutable_contents()->mutable_contents()) {
      GANTRY_RETURN_IF_ERROR(update.Write(content.index(), std::move(*content.mutable_data())));
      if (!content.end()) continue;
      GANTRY_RETURN_IF_ERROR(update.Close(content.index(), content.missing()));
      --left;
    }
    if (progress && (update.received_bytes() - told >= kProgressBytes || left == 0)) {
      told = update.received_bytes();
      progress(told);
    }
  }
  return absl::OkStatus();
}

StreamedBuildClient::~StreamedBuildClient() {
  std::thread answers;
  std::map<uint32_t, Connection> connections;
  {
    absl::MutexLock lock(&mu_);
    answers = std::move(answers_);
  }
  stream_.interrupt();
  if (answers.joinable()) answers.join();
  {
    absl::MutexLock lock(&mu_);
    connections = std::move(connections_);
  }
  for (auto& [number, connection] : connections) {
    shutdown(connection.ours.get(), SHUT_RDWR);
    connection.sender.join();
  }
}

absl::StatusOr<UniqueFd> StreamedBuildClient::Agent(const std::string& id, CancelToken* cancel) {
  if (std::find(request_.agents().begin(), request_.agents().end(), id) == request_.agents().end())
    return RequestClient::Agent(id, cancel);
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return ErrnoToStatus(errno, absl::StrCat("SSH agent ", id));
  UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  absl::MutexLock lock(&mu_);
  if (!answers_.joinable()) {
    GANTRY_ASSIGN_OR_RETURN(answers_, NewThread([this] { TakeAnswers(); }));
  }
  const uint32_t number = static_cast<uint32_t>(connections_.size()) + 1;
  v1::BuildResponse response;
  response.mutable_agent()->set_connection(number);
  response.mutable_agent()->set_agent(id);
  GANTRY_RETURN_IF_ERROR(stream_.send(std::move(response)));
  Connection connection;
  GANTRY_ASSIGN_OR_RETURN(connection.sender,
                          NewThread([this, number, fd = ours.get()] { SendFrom(number, fd); }));
  connection.ours = std::move(ours);
  connections_.emplace(number, std::move(connection));
  return theirs;
}

void StreamedBuildClient::SendFrom(uint32_t number, int ours) {
  std::string piece;
  while (true) {
    piece.resize(16 << 10);
    const ssize_t n = read(ours, piece.data(), piece.size());
    if (n < 0 && errno == EINTR) continue;
    v1::BuildResponse response;
    v1::AgentBytes& bytes = *response.mutable_agent();
    bytes.set_connection(number);
    if (n <= 0) {
      bytes.set_closed(true);
    } else {
      piece.resize(static_cast<size_t>(n));
      bytes.set_data(piece);
    }
    if (!stream_.send(std::move(response)).ok() || n <= 0) return;
  }
}

void StreamedBuildClient::TakeAnswers() {
  v1::BuildRequest message;
  while (true) {
    const absl::StatusOr<bool> some = stream_.next(message, true);
    if (!some.ok() || !*some) return;
    if (!message.has_agent()) continue;
    int ours = -1;
    {
      absl::MutexLock lock(&mu_);
      const auto found = connections_.find(message.agent().connection());
      if (found == connections_.end()) continue;
      ours = found->second.ours.get();  // open until the destructor, which waits for this thread
    }
    // A step that does not read ends with its build.
    if (!message.agent().data().empty() && !WriteAll(ours, message.agent().data()).ok()) continue;
    if (message.agent().closed()) shutdown(ours, SHUT_WR);
  }
}

}  // namespace gantry::api::gantry_v1
