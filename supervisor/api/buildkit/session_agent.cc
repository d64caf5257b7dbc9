#include "supervisor/api/buildkit/session_agent.h"

#include <errno.h>
#include <grpcpp/channel.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "proto/buildkit/sshforward.grpc.pb.h"
#include "supervisor/api/buildkit/session_context.h"

namespace gantry::api::buildkit {
namespace {

namespace ssh = moby::sshforward::v1;

constexpr char kCheck[] = "/moby.sshforward.v1.SSH/CheckAgent";
constexpr char kForward[] = "/moby.sshforward.v1.SSH/ForwardAgent";
constexpr char kAgentId[] = "buildkit.ssh.id";
// What an agent is asked and answers is small.
constexpr size_t kAgentPieceBytes = 16 << 10;

}  // namespace

class SessionAgents::Connection {
 public:
  Connection(Session& session, const std::string& id, UniqueFd ours)
      : ours_(std::move(ours)), context_(nullptr), stub_(session.channel()) {
    context_.Add(kAgentId, {id});
    stream_ = stub_.ForwardAgent(context_.get());
  }
  ~Connection() {
    shutdown(ours_.get(), SHUT_RDWR);
    context_.get()->TryCancel();
    if (from_step_.joinable()) from_step_.join();
    if (from_agent_.joinable()) from_agent_.join();
    (void)stream_->Finish();  // it was cancelled, or has ended
  }

  absl::Status Start() {
    GANTRY_ASSIGN_OR_RETURN(from_agent_, NewThread([this] {
                              ssh::BytesMessage message;
                              while (stream_->Read(&message)) {
                                if (!WriteAll(ours_.get(), message.data()).ok()) break;
                              }
                              shutdown(ours_.get(), SHUT_WR);
                            }));
    GANTRY_ASSIGN_OR_RETURN(from_step_, NewThread([this] {
                              std::string piece(kAgentPieceBytes, '\0');
                              ssh::BytesMessage message;
                              while (true) {
                                const ssize_t n = read(ours_.get(), piece.data(), piece.size());
                                if (n < 0 && errno == EINTR) continue;
                                if (n <= 0) break;
                                message.set_data(piece.data(), static_cast<size_t>(n));
                                if (!stream_->Write(message)) break;
                              }
                              stream_->WritesDone();
                            }));
    return absl::OkStatus();
  }

 private:
  const UniqueFd ours_;
  SessionContext context_;
  ssh::SSH::Stub stub_;
  std::unique_ptr<grpc::ClientReaderWriter<ssh::BytesMessage, ssh::BytesMessage>> stream_;
  std::thread from_agent_;
  std::thread from_step_;
};

SessionAgents::SessionAgents(std::shared_ptr<Session> session) : session_(std::move(session)) {}

SessionAgents::~SessionAgents() {
  absl::MutexLock lock(&mu_);
  connections_.clear();
}

absl::StatusOr<UniqueFd> SessionAgents::Connect(const std::string& id, CancelToken* cancel) {
  const absl::Status none =
      absl::NotFoundError(absl::StrCat("no SSH key \"", id, "\" forwarded from the client"));
  if (!session_->Supports(kCheck) || !session_->Supports(kForward)) return none;
  SessionContext context(cancel);
  ssh::SSH::Stub stub(session_->channel());
  ssh::CheckAgentRequest request;
  ssh::CheckAgentResponse response;
  request.set_id(id);
  const absl::Status checked = Ended(stub.CheckAgent(context.get(), request, &response), cancel);
  if (absl::IsNotFound(checked) || absl::IsUnknown(checked)) return none;
  GANTRY_RETURN_IF_ERROR(WithContext(checked, absl::StrCat("SSH agent ", id)));
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return ErrnoToStatus(errno, absl::StrCat("SSH agent ", id));
  UniqueFd theirs(ends[1]);
  auto connection = std::make_unique<Connection>(*session_, id, UniqueFd(ends[0]));
  GANTRY_RETURN_IF_ERROR(connection->Start());
  absl::MutexLock lock(&mu_);
  connections_.push_back(std::move(connection));
  return theirs;
}

}  // namespace gantry::api::buildkit
