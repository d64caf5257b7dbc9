#include "supervisor/api/buildkit/session.h"

#include <fcntl.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/support/channel_arguments.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "proto/buildkit/auth.grpc.pb.h"
#include "proto/buildkit/filesync.grpc.pb.h"
#include "proto/buildkit/secrets.grpc.pb.h"
#include "proto/buildkit/upload.grpc.pb.h"
#include "supervisor/api/buildkit/context_receiver.h"
#include "supervisor/api/buildkit/file_receiver.h"
#include "supervisor/api/buildkit/file_sender.h"
#include "supervisor/api/buildkit/session_context.h"
#include "supervisor/api/grpc_status.h"

namespace gantry::api::buildkit {
namespace {

namespace filesync = moby::filesync::v1;

constexpr char kDiffCopy[] = "/moby.filesync.v1.FileSync/DiffCopy";
constexpr char kSendCopy[] = "/moby.filesync.v1.FileSend/DiffCopy";
constexpr char kGetSecret[] = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
constexpr char kCredentials[] = "/moby.filesync.v1.Auth/Credentials";
// Which of a build's outputs a call is about.
constexpr char kExporterId[] = "buildkit-attachable-exporter-id";
constexpr char kPull[] = "/moby.upload.v1.Upload/Pull";

constexpr size_t kPieceBytes = 256 << 10;

std::shared_ptr<grpc::Channel> ChannelOn(UniqueFd connection) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_CHANNELZ, 0);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, INT_MAX);
  arguments.SetInt(GRPC_ARG_CLIENT_IDLE_TIMEOUT_MS, INT_MAX);
  arguments.SetInt(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, 16 << 20);
  // Contexts come in: windows of megabytes.
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 4 << 20);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, 1 << 20);
  arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
  return grpc::CreateCustomInsecureChannelFromFd("localhost", connection.release(), arguments);
}

std::set<std::string> LowerCase(const std::vector<std::string>& methods) {
  std::set<std::string> out;
  for (const std::string& method : methods) out.insert(absl::AsciiStrToLower(method));
  return out;
}

class GrpcPackets : public PacketStream {
 public:
  using Stream = grpc::ClientReaderWriter<fsutil::types::Packet, fsutil::types::Packet>;
  explicit GrpcPackets(Stream& stream) : stream_(stream) {}
  absl::StatusOr<bool> Read(fsutil::types::Packet& packet) override {
    return stream_.Read(&packet);
  }
  absl::Status Write(const fsutil::types::Packet& packet) override {
    return stream_.Write(packet) ? absl::OkStatus()
                                 : absl::UnavailableError("the client's session has ended");
  }

 private:
  Stream& stream_;
};

class FileOutput : public Session::Output {
 public:
  FileOutput(const std::shared_ptr<grpc::Channel>& channel, int exporter, CancelToken* cancel)
      : cancel_(cancel), context_(cancel), stub_(channel) {
    context_.Add(kExporterId, {absl::StrCat(exporter)});
    stream_ = stub_.DiffCopy(context_.get());
  }
  ~FileOutput() override {
    if (closed_) return;
    context_.get()->TryCancel();
    (void)stream_->Finish();  // it was cancelled
  }

  absl::Status Write(absl::string_view bytes) override {
    while (!bytes.empty()) {
      const size_t taken = std::min(bytes.size(), kPieceBytes);
      message_.set_data(bytes.data(), taken);
      // Why is known at the end only.
      if (!stream_->Write(message_)) {
        closed_ = true;
        const absl::Status ended = Ended(stream_->Finish(), cancel_);
        return ended.ok() ? absl::UnavailableError("the client takes no more") : ended;
      }
      bytes.remove_prefix(taken);
    }
    return absl::OkStatus();
  }
  absl::Status Close() override {
    if (closed_) return absl::UnavailableError("the client takes no more");
    stream_->WritesDone();
    while (stream_->Read(&message_)) {
    }
    closed_ = true;
    return Ended(stream_->Finish(), cancel_);
  }

 private:
  CancelToken* const cancel_;
  SessionContext context_;
  filesync::FileSend::Stub stub_;
  std::unique_ptr<grpc::ClientReaderWriter<filesync::BytesMessage, filesync::BytesMessage>> stream_;
  filesync::BytesMessage message_;
  bool closed_ = false;
};

}  // namespace

Session::Session(const SessionOffer& offer, UniqueFd connection)
    : shared_key_(offer.shared_key),
      methods_(LowerCase(offer.methods)),
      channel_(ChannelOn(std::move(connection))) {}

bool Session::Supports(absl::string_view method) const {
  return methods_.count(absl::AsciiStrToLower(method)) > 0;
}

absl::Status Session::Receive(const Files& files, int directory, CancelToken* cancel,
                              const std::function<void(int64_t)>& progress) {
  return Transfer(files, cancel, [&](PacketStream& packets) {
    return ReceiveFiles(packets, directory, cancel, progress);
  });
}

absl::Status Session::Transfer(const Files& files, CancelToken* cancel,
                               const std::function<absl::Status(PacketStream&)>& receive) {
  if (!Supports(kDiffCopy)) return absl::NotFoundError("the client offers no files");
  SessionContext context(cancel);
  context.Add("dir-name", {files.name});
  if (!files.paths.empty()) context.Add("followpaths", files.paths);
  if (!files.excludes.empty()) context.Add("exclude-patterns", files.excludes);
  filesync::FileSync::Stub stub(channel_);
  const auto stream = stub.DiffCopy(context.get());
  GrpcPackets packets(*stream);
  const absl::Status received = receive(packets);
  stream->WritesDone();
  if (!received.ok()) context.get()->TryCancel();
  const absl::Status ended = Ended(stream->Finish(), cancel);
  // A stream that broke off says more than the packet that was missed.
  if (absl::IsUnavailable(received) && !ended.ok()) return ended;
  return received.ok() ? ended : received;
}

absl::Status Session::Update(const Files& files, build::ContextUpdate& update, CancelToken* cancel,
                             const std::function<void(int64_t)>& progress) {
  return Transfer(files, cancel, [&](PacketStream& packets) {
    return ReceiveContext(packets, update, absl::Now(), cancel, progress);
  });
}

absl::Status Session::Pull(const std::string& path, CancelToken* cancel,
                           const std::function<absl::Status(ByteSource&)>& consume) {
  if (!Supports(kPull)) return absl::NotFoundError("the client offers no upload");
  SessionContext context(cancel);
  context.Add("urlpath", {path});
  moby::upload::v1::Upload::Stub stub(channel_);
  const auto stream = stub.Pull(context.get());
  class Source : public ByteSource {
   public:
    explicit Source(decltype(*stream)& stream) : stream_(stream) {}
    absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
      while (at_ == message_.data().size()) {
        if (over_ || !stream_.Read(&message_)) {
          over_ = true;
          return size_t{0};
        }
        at_ = 0;
      }
      const size_t taken = std::min(n, message_.data().size() - at_);
      std::memcpy(buffer, message_.data().data() + at_, taken);
      at_ += taken;
      return taken;
    }
    bool over() const { return over_; }

   private:
    decltype(*stream)& stream_;
    moby::upload::v1::BytesMessage message_;
    size_t at_ = 0;
    bool over_ = false;
  } source(*stream);
  const absl::Status consumed = consume(source);
  stream->WritesDone();
  if (!source.over()) context.get()->TryCancel();
  const absl::Status ended = Ended(stream->Finish(), cancel);
  if (source.over() && !ended.ok()) return ended;
  return consumed;
}

absl::StatusOr<std::string> Session::Secret(const std::string& id, CancelToken* cancel) {
  const absl::Status none = absl::NotFoundError(absl::StrCat("secret ", id, ": not found"));
  if (!Supports(kGetSecret)) return none;
  SessionContext context(cancel);
  moby::buildkit::secrets::v1::Secrets::Stub stub(channel_);
  moby::buildkit::secrets::v1::GetSecretRequest request;
  moby::buildkit::secrets::v1::GetSecretResponse response;
  request.set_id(id);
  const absl::Status got = Ended(stub.GetSecret(context.get(), request, &response), cancel);
  if (absl::IsNotFound(got)) return none;
  GANTRY_RETURN_IF_ERROR(WithContext(got, absl::StrCat("secret ", id)));
  return std::move(*response.mutable_data());
}

absl::StatusOr<Session::Credentials> Session::CredentialsFor(const std::string& host,
                                                             CancelToken* cancel) {
  if (!Supports(kCredentials)) return Credentials();
  SessionContext context(cancel);
  filesync::Auth::Stub stub(channel_);
  filesync::CredentialsRequest request;
  filesync::CredentialsResponse response;
  request.set_host(host);
  GANTRY_RETURN_IF_ERROR(
      WithContext(Ended(stub.Credentials(context.get(), request, &response), cancel),
                  absl::StrCat("credentials for ", host)));
  return Credentials{response.username(), response.secret()};
}

absl::Status Session::SendTree(int exporter, int directory, CancelToken* cancel) {
  if (!Supports(kSendCopy)) return absl::NotFoundError("the client takes no files");
  SessionContext context(cancel);
  context.Add(kExporterId, {absl::StrCat(exporter)});
  // The service says that its messages are bytes of a file; of a tree they are packets.
  const grpc::internal::RpcMethod method(kSendCopy, grpc::internal::RpcMethod::BIDI_STREAMING,
                                         channel_);
  const std::unique_ptr<GrpcPackets::Stream> stream(
      grpc::internal::ClientReaderWriterFactory<fsutil::types::Packet,
                                                fsutil::types::Packet>::Create(channel_.get(),
                                                                               method,
                                                                               context.get()));
  GrpcPackets packets(*stream);
  const absl::Status sent = SendFiles(packets, directory, cancel);
  if (!sent.ok()) context.get()->TryCancel();
  stream->WritesDone();
  fsutil::types::Packet ignored;
  while (stream->Read(&ignored)) {
  }
  const absl::Status ended = Ended(stream->Finish(), cancel);
  // A stream that broke off says more than the packet that was missed.
  if (absl::IsUnavailable(sent) && !ended.ok()) return ended;
  return sent.ok() ? ended : sent;
}

absl::StatusOr<std::unique_ptr<Session::Output>> Session::OpenOutput(int exporter,
                                                                     CancelToken* cancel) {
  if (!Supports(kSendCopy)) return absl::NotFoundError("the client takes no files");
  return std::unique_ptr<Output>(std::make_unique<FileOutput>(channel_, exporter, cancel));
}

absl::Status Sessions::Serve(const SessionOffer& offer, UniqueFd connection) {
  // A second descriptor tells when the client leaves: gRPC does not say it of such a channel.
  const UniqueFd watched(fcntl(connection.get(), F_DUPFD_CLOEXEC, 3));
  if (!watched.valid()) return ErrnoToStatus(errno, "session: dup");
  {
    absl::MutexLock lock(&mu_);
    if (!sessions_.emplace(offer.id, nullptr).second)
      return absl::AlreadyExistsError(absl::StrCat("session ", offer.id, " already exists"));
  }
  auto session = std::make_shared<Session>(offer, std::move(connection));
  {
    absl::MutexLock lock(&mu_);
    sessions_[offer.id] = std::move(session);
  }
  pollfd one = {watched.get(), POLLRDHUP, 0};
  while (poll(&one, 1, -1) < 0 && errno == EINTR) {
  }
  absl::MutexLock lock(&mu_);
  sessions_.erase(offer.id);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Session>> Sessions::Find(const std::string& id, CancelToken* cancel,
                                                        absl::Duration patience) {
  bool gone = false;
  CancelToken::Registration registration;
  if (cancel != nullptr) {
    registration = cancel->OnCancel([&] {
      absl::MutexLock lock(&mu_);
      gone = true;
    });
  }
  absl::MutexLock lock(&mu_);
  const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const auto found = sessions_.find(id);
    return gone || (found != sessions_.end() && found->second != nullptr);
  };
  if (!mu_.AwaitWithTimeout(absl::Condition(&there), patience))
    return absl::NotFoundError(absl::StrCat("no active session for ", id));
  if (gone) return cancel->Check();
  return sessions_.at(id);
}

}  // namespace gantry::api::buildkit
