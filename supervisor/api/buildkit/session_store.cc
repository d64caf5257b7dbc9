#include "supervisor/api/buildkit/session_store.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "proto/containerd/services/content/v1/content.grpc.pb.h"
#include "supervisor/api/buildkit/session_context.h"
#include "supervisor/oci/manifest.h"

namespace gantry::api::buildkit {
namespace {

namespace wire = containerd::services::content::v1;

constexpr char kRead[] = "/containerd.services.content.v1.Content/Read";
constexpr char kWrite[] = "/containerd.services.content.v1.Content/Write";
constexpr char kStoreId[] = "buildkit-attachable-store-id";
constexpr size_t kBlobPieceBytes = 1 << 20;

class ReadStream : public ByteSource {
 public:
  ReadStream(Session& session, const std::string& store, const std::string& digest,
             CancelToken* cancel)
      : cancel_(cancel), context_(cancel), stub_(session.channel()) {
    context_.Add(kStoreId, {store});
    wire::ReadContentRequest request;
    request.set_digest(digest);
    stream_ = stub_.Read(context_.get(), request);
  }
  ~ReadStream() override {
    if (over_) return;
    context_.get()->TryCancel();
    (void)stream_->Finish();  // it was cancelled
  }
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    while (at_ == message_.data().size()) {
      if (over_) return size_t{0};
      if (!stream_->Read(&message_)) {
        over_ = true;
        GANTRY_RETURN_IF_ERROR(Ended(stream_->Finish(), cancel_));
        return size_t{0};
      }
      at_ = 0;
    }
    const size_t taken = std::min(n, message_.data().size() - at_);
    std::memcpy(buffer, message_.data().data() + at_, taken);
    at_ += taken;
    return taken;
  }

 private:
  CancelToken* const cancel_;
  SessionContext context_;
  wire::Content::Stub stub_;
  std::unique_ptr<grpc::ClientReader<wire::ReadContentResponse>> stream_;
  wire::ReadContentResponse message_;
  size_t at_ = 0;
  bool over_ = false;
};

class SessionOrigin : public core::StreamOrigin {
 public:
  SessionOrigin(std::shared_ptr<Session> session, std::string store, std::string digest)
      : session_(std::move(session)), store_(std::move(store)), digest_(std::move(digest)) {}

  const std::string& name() const override { return store_; }

  absl::StatusOr<content::Descriptor> Root(CancelToken* cancel) override {
    GANTRY_RETURN_IF_ERROR(Check());
    GANTRY_ASSIGN_OR_RETURN(const content::Digest digest, content::Digest::Parse(digest_));
    ReadStream stream(*session_, store_, digest_, cancel);
    absl::StatusOr<std::string> text = ReadAll(stream, oci::kMaxManifestBytes);
    if (!text.ok()) return WithContext(text.status(), store_);
    if (content::Digest::Sha256Of(*text) != digest)
      return absl::DataLossError(
          absl::StrCat(store_, ": the client sent something else than ", digest_));
    GANTRY_ASSIGN_OR_RETURN(const oci::Document document, oci::ParseDocument(*text, "", digest_));
    content::Descriptor root;
    root.media_type =
        document.index.has_value() ? document.index->media_type : document.manifest->media_type;
    root.digest = digest;
    root.size_bytes = static_cast<int64_t>(text->size());
    return root;
  }

 protected:
  absl::StatusOr<std::unique_ptr<ByteSource>> Open(const content::Descriptor& blob,
                                                   CancelToken* cancel) override {
    GANTRY_RETURN_IF_ERROR(Check());
    return std::unique_ptr<ByteSource>(
        std::make_unique<ReadStream>(*session_, store_, blob.digest.str(), cancel));
  }

 private:
  absl::Status Check() const {
    return session_->Supports(kRead)
               ? absl::OkStatus()
               : absl::NotFoundError(absl::StrCat(store_, ": the client serves no store"));
  }

  const std::shared_ptr<Session> session_;
  const std::string store_;
  const std::string digest_;
};

class SessionTaker : public core::BlobTaker {
 public:
  SessionTaker(std::shared_ptr<Session> session, std::string store,
               std::function<void(const content::Descriptor&)> taken)
      : session_(std::move(session)), store_(std::move(store)), taken_(std::move(taken)) {}

  absl::Status Take(const content::Descriptor& blob, ByteSource& bytes,
                    CancelToken* cancel) override {
    if (!session_->Supports(kWrite))
      return absl::NotFoundError(absl::StrCat(store_, ": the client takes no blobs"));
    GANTRY_RETURN_IF_ERROR(WithContext(Write(blob, bytes, cancel), store_));
    taken_(blob);
    return absl::OkStatus();
  }

 private:
  absl::Status Write(const content::Descriptor& blob, ByteSource& bytes, CancelToken* cancel) {
    SessionContext context(cancel);
    context.Add(kStoreId, {store_});
    wire::Content::Stub stub(session_->channel());
    const auto stream = stub.Write(context.get());
    wire::WriteContentRequest request;
    request.set_ref(absl::StrCat("gantry-", blob.digest.str()));
    request.set_total(blob.size_bytes);
    request.set_expected(blob.digest.str());
    wire::WriteContentResponse response;
    std::string piece(kBlobPieceBytes, '\0');
    int64_t offset = 0;
    bool open = true;
    do {
      GANTRY_ASSIGN_OR_RETURN(const size_t got, bytes.Read(piece.data(), piece.size()));
      if (got == 0 && offset < blob.size_bytes)
        return absl::DataLossError(
            absl::StrCat("blob ", blob.digest.str(), ": shorter than its size"));
      request.set_offset(offset);
      request.set_data(piece.data(), got);
      offset += static_cast<int64_t>(got);
      request.set_action(offset >= blob.size_bytes ? wire::COMMIT : wire::WRITE);
      open = stream->Write(request) && stream->Read(&response);
    } while (open && offset < blob.size_bytes);
    stream->WritesDone();
    const absl::Status ended = Ended(stream->Finish(), cancel);
    return absl::IsAlreadyExists(ended) ? absl::OkStatus() : ended;
  }

  const std::shared_ptr<Session> session_;
  const std::string store_;
  const std::function<void(const content::Descriptor&)> taken_;
};

}  // namespace

std::unique_ptr<core::BlobOrigin> NewSessionOrigin(std::shared_ptr<Session> session,
                                                   std::string store, std::string digest) {
  return std::make_unique<SessionOrigin>(std::move(session), std::move(store), std::move(digest));
}

std::unique_ptr<core::BlobTaker> NewSessionTaker(
    std::shared_ptr<Session> session, std::string store,
    std::function<void(const content::Descriptor&)> taken) {
  return std::make_unique<SessionTaker>(std::move(session), std::move(store), std::move(taken));
}

}  // namespace gantry::api::buildkit
