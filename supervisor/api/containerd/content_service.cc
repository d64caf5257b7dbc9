// containerd.services.content.v1.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

#include "base/status_macros.h"
#include "proto/containerd/services/content/v1/content.grpc.pb.h"
#include "supervisor/api/containerd/raw_message.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/list_stream.h"
#include "supervisor/api/grpc/outgoing.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/api/grpc_status.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/stores.h"
#include "supervisor/metadata/filter.h"
#include "supervisor/metadata/record_fields.h"
#include "supervisor/metadata/record_values.h"

namespace gantry::api::containerd_api {
namespace {

using namespace containerd::services::content::
    v1;  // NOLINT(google-build-using-namespace): the messages of this file
using content::Digest;
using metadata::ContentNamespace;
using metadata::Filter;

constexpr int64_t kReadChunkBytes = 1 << 20;
constexpr int kInfosPerMessage = 100;

void SetInfo(const content::Info& info, Info* out) {
  out->set_digest(info.digest.str());
  out->set_size(info.size_bytes);
  SetTime(info.created_at, out->mutable_created_at());
  SetTime(info.updated_at, out->mutable_updated_at());
  metadata::SetLabels(info.labels, out->mutable_labels());
}

void SetStatus(const content::IngestStatus& status, Status* out) {
  SetTime(status.started_at, out->mutable_started_at());
  SetTime(status.updated_at, out->mutable_updated_at());
  out->set_ref(status.ref);
  out->set_offset(status.offset_bytes);
  out->set_total(status.total_bytes);
  out->set_expected(status.expected.str());
}

// One Write stream: opens the ingest with its first message, then obeys message by message, each
// with one answer.
class WriteSession {
 public:
  WriteSession(ContentNamespace& store, core::EventBus& events) : store_(store), events_(events) {}

  absl::Status Open(const WriteContentRequest& first) {
    if (first.ref().empty())
      return absl::InvalidArgumentError("content write: the first message names no ref");
    ref_ = first.ref();
    if (first.total() < 0)
      return absl::InvalidArgumentError(absl::StrCat("content write ", ref_, ": negative total"));
    total_ = first.total();
    Expect(first.expected());
    content::IngestOptions options;
    options.ref = ref_;
    options.total_bytes = total_;
    options.expected = expected_;
    GANTRY_ASSIGN_OR_RETURN(ingest_, store_.OpenIngest(options));
    return absl::OkStatus();
  }

  // `data` is what the message has to append. `done`: that was the commit.
  absl::Status Obey(const WriteContentRequest& request, const MessageWithBytes& data,
                    WriteContentResponse* response, bool* done) {
    response->set_action(request.action());
    response->set_offset(ingest_->offset());
    GANTRY_RETURN_IF_ERROR(Learn(request));
    switch (request.action()) {
      case STAT: {
        const content::IngestStatus status = ingest_->status();
        response->set_digest(ingest_->current_digest().str());
        SetTime(status.started_at, response->mutable_started_at());
        SetTime(status.updated_at, response->mutable_updated_at());
        response->set_total(total_);
        return absl::OkStatus();
      }
      case WRITE: {
        GANTRY_RETURN_IF_ERROR(Append(request, data));
        response->set_offset(ingest_->offset());
        response->set_digest(ingest_->current_digest().str());
        return absl::OkStatus();
      }
      case COMMIT: {
        GANTRY_RETURN_IF_ERROR(Append(request, data));
        if (!impossible_.empty()) {
          return absl::FailedPreconditionError(absl::StrCat(
              "content write ", ref_, ": the blob is ", ingest_->current_digest().str(),
              ", expected was \"", impossible_.substr(0, 128), "\", which no blob can have"));
        }
        const int64_t size = ingest_->offset();
        content::CommitOptions options;
        options.expected = expected_;
        if (total_ > 0) options.size_bytes = total_;
        options.labels = metadata::LabelsOf(request.labels());
        GANTRY_ASSIGN_OR_RETURN(Digest digest, ingest_->Commit(options));
        response->set_offset(size);
        response->set_digest(digest.str());
        *done = true;
        events_.Publish(store_.scope().ns,
                        core::LowLevelEvent(core::EventKind::kContent, core::action::kCreate,
                                            digest.str(), core::ContentFacts{size}));
        return absl::OkStatus();
      }
      default:
        return absl::UnimplementedError(
            absl::StrCat("content write ", ref_, ": unknown action ", request.action()));
    }
  }

 private:
  // A text that is no digest of ours is, as with containerd, nothing to complain of before the
  // commit.
  void Expect(const std::string& text) {
    if (text.empty()) return;
    absl::StatusOr<Digest> digest = Digest::Parse(text);
    expected_ = digest.ok() ? *std::move(digest) : Digest();
    impossible_ = digest.ok() ? "" : text;
  }

  // What a later message says about the blob. A digest that turns out to be here already ends the
  // ingest.
  absl::Status Learn(const WriteContentRequest& request) {
    if (!request.ref().empty() && request.ref() != ref_) {
      return absl::InvalidArgumentError(absl::StrCat(
          "content write ", ref_, ": a message of the stream names ref ", request.ref()));
    }
    if (request.total() < 0 || request.offset() < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("content write ", ref_, ": negative total or offset"));
    }
    if (request.total() > 0) total_ = request.total();
    if (request.expected().empty() || request.expected() == expected_.str())
      return absl::OkStatus();
    Expect(request.expected());
    if (expected_.empty()) return absl::OkStatus();
    if (!store_.Stat(expected_).ok()) return absl::OkStatus();
    ingest_.reset();
    absl::Status aborted = store_.AbortIngest(ref_);
    if (!aborted.ok() && !absl::IsNotFound(aborted)) return aborted;
    return absl::AlreadyExistsError(absl::StrCat("blob ", expected_.str(), ": already exists"));
  }

  absl::Status Append(const WriteContentRequest& request, const MessageWithBytes& data) {
    const int64_t at = ingest_->offset();
    if (request.offset() > 0 && request.offset() != at) {
      return absl::OutOfRangeError(absl::StrCat("content write ", ref_, ": offset ",
                                                request.offset(), ", but the ingest is at ", at));
    }
    if (request.offset() == 0 && at > 0) {
      GANTRY_RETURN_IF_ERROR(ingest_->Truncate(0));
    }
    return data.bytes.empty() ? absl::OkStatus() : ingest_->AppendPieces(data.bytes);
  }

  ContentNamespace& store_;
  core::EventBus& events_;
  std::string ref_;
  int64_t total_ = 0;
  Digest expected_;
  std::string impossible_;
  std::unique_ptr<content::Ingest> ingest_;
};

// A Write call. Holds a thread only while a message is worked on; its bytes go to the file from
// where gRPC received them.
class WriteCall final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  WriteCall(const grpc::CallbackServerContext& context, const Room& room)
      : room_(room),
        connection_(context.peer()),
        call_(context),
        store_(room.stores->Content(call_.scope())) {}

  void Begin() {
    if (absl::Status valid = call_.Validate(); !valid.ok()) {
      Finish(ToGrpcWithClass(valid));
    } else {
      StartRead(&incoming_);
    }
  }

  void OnReadDone(bool ok) override {
    if (ok) {
      if (!room_.long_calls->Schedule(connection_, [this] { Work(); })) End(DaemonStopping());
    } else if (session_ == nullptr) {
      End(absl::InvalidArgumentError("content write: no message"));
    } else {
      End(absl::OkStatus());
    }
  }
  void OnWriteDone(bool ok) override {
    if (ok) {
      StartRead(&incoming_);
    } else {
      End(ClientGone());
    }
  }
  void OnDone() override { delete this; }  // NOLINT(cppcoreguidelines-owning-memory)

 private:
  void Work() {
    bool done = false;
    WriteContentResponse response;
    if (absl::Status worked = Obey(&response, &done); !worked.ok()) {
      End(worked);
      return;
    }
    outgoing_ = Serialize(response);
    if (done) {
      session_.reset();
      StartWriteAndFinish(&outgoing_, grpc::WriteOptions(), grpc::Status::OK);
    } else {
      StartWrite(&outgoing_);
    }
  }

  absl::Status Obey(WriteContentResponse* response, bool* done) {
    WriteContentRequest request;
    MessageWithBytes data;
    GANTRY_RETURN_IF_ERROR(
        ParseAround(incoming_, WriteContentRequest::kDataFieldNumber, &request, &data));
    incoming_.Clear();
    if (session_ == nullptr) {
      session_ = std::make_unique<WriteSession>(store_, *room_.events);
      GANTRY_RETURN_IF_ERROR(session_->Open(request));
    }
    return session_->Obey(request, data, response, done);
  }

  // The ref is free before the client can know that this is over.
  void End(const absl::Status& status) {
    session_.reset();
    Finish(ToGrpcWithClass(status));
  }

  const Room& room_;
  const std::string connection_;
  Call call_;
  ContentNamespace store_;
  std::unique_ptr<WriteSession> session_;
  grpc::ByteBuffer incoming_;
  grpc::ByteBuffer outgoing_;
};

// A Read call: while one piece is on its way to the client the next is read. Holds no thread while
// the client takes nothing.
class ReadCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  ReadCall(const grpc::CallbackServerContext& context, const Room& room)
      : room_(room), connection_(context.peer()), call_(context) {}

  void Begin(const grpc::ByteBuffer& request) {
    absl::Status status = ParseRaw(request, &request_);
    if (status.ok()) status = call_.Validate();
    Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { status_ = status; });
  }
  void OnWriteDone(bool ok) override {
    Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      writing_ = false;
      if (!ok && status_.ok()) status_ = ClientGone();
    });
  }
  void OnDone() override { delete this; }  // NOLINT(cppcoreguidelines-owning-memory)

 private:
  using Buffer = std::unique_ptr<char[]>;

  // Notes what happened, then starts whatever can be started. Nothing is started under the lock,
  // and a write or the end last of all: with either this object may be gone.
  void Advance(absl::FunctionRef<void()> note) {
    bool read = false, write = false, finish = false;
    absl::Status status;
    {
      absl::MutexLock lock(&mu_);
      note();
      if (finished_) return;
      status = status_;
      if (status.ok() && !writing_ && next_.has_value()) {
        outgoing_ = *std::move(next_);
        next_.reset();
        writing_ = write = true;
        finished_ = finish = at_end_;
      }
      read = status.ok() && !reading_ && !at_end_ && !next_.has_value();
      if (read) reading_ = true;
      if (!writing_ && !reading_) finished_ = finish = true;
    }
    if (read && !room_.long_calls->Schedule(connection_, [this] { Work(); })) {
      Advance([this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        reading_ = false;
        status_ = DaemonStopping();
      });
    }
    if (write && finish) {
      StartWriteAndFinish(&outgoing_, grpc::WriteOptions(), grpc::Status::OK);
    } else if (write) {
      StartWrite(&outgoing_);
    } else if (finish) {
      Finish(ToGrpcWithClass(status));
    }
  }

  void Work() {
    grpc::ByteBuffer piece;
    absl::Status status = blob_ == nullptr ? Open() : absl::OkStatus();
    const bool any = status.ok() && sent_ < total_;
    if (any) status = ReadPiece(&piece);
    Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      reading_ = false;
      at_end_ = sent_ == total_;
      if (any && status.ok()) next_ = std::move(piece);
      if (status_.ok()) status_ = status;
    });
  }

  absl::Status Open() {
    GANTRY_ASSIGN_OR_RETURN(digest_, Digest::Parse(request_.digest()));
    GANTRY_ASSIGN_OR_RETURN(blob_, room_.stores->Content(call_.scope()).Open(digest_));
    const int64_t size = blob_->size_bytes();
    start_ = std::max<int64_t>(request_.offset(), 0);
    if (start_ > size) {
      return absl::OutOfRangeError(absl::StrCat("blob ", digest_.str(), ": offset ", start_,
                                                " lies behind its ", size, " bytes"));
    }
    total_ = size - start_;
    if (request_.size() > 0) total_ = std::min(total_, request_.size());
    return absl::OkStatus();
  }

  absl::Status ReadPiece(grpc::ByteBuffer* piece) {
    const std::shared_ptr<Buffer> buffer = FreeBuffer();
    GANTRY_ASSIGN_OR_RETURN(
        const size_t got,
        blob_->ReadAt(start_ + sent_, buffer->get(),
                      static_cast<size_t>(std::min(total_ - sent_, kReadChunkBytes))));
    if (got == 0)
      return absl::DataLossError(
          absl::StrCat("blob ", digest_.str(), ": shorter on disk than recorded"));
    // Offsets in the answer count from where this read began.
    ReadContentResponse head;
    head.set_offset(sent_);
    std::string front = head.SerializeAsString();
    AppendBytesHead(ReadContentResponse::kDataFieldNumber, got, front);
    grpc::Slice slices[] = {
        grpc::Slice(front),
        // The slice holds the buffer until the bytes are in the socket.
        grpc::Slice(
            buffer->get(), got,
            [](void* held) { delete static_cast<std::shared_ptr<Buffer>*>(held); },
            new std::shared_ptr<Buffer>(buffer))};  // NOLINT(cppcoreguidelines-owning-memory)
    *piece = grpc::ByteBuffer(slices, 2);
    sent_ += static_cast<int64_t>(got);
    return absl::OkStatus();
  }

  // One that gRPC is through with, or a new one: memory that was used before is in place already.
  std::shared_ptr<Buffer> FreeBuffer() {
    for (const std::shared_ptr<Buffer>& buffer : buffers_) {
      if (buffer.use_count() != 1) continue;
      std::atomic_thread_fence(std::memory_order_acquire);
      return buffer;
    }
    buffers_.push_back(std::make_shared<Buffer>(new char[kReadChunkBytes]));
    return buffers_.back();
  }

  const Room& room_;
  const std::string connection_;
  const Call call_;
  ReadContentRequest request_;
  // One Work() at a time uses these.
  Digest digest_;
  std::unique_ptr<content::BlobReader> blob_;
  int64_t start_ = 0;
  int64_t total_ = 0;
  int64_t sent_ = 0;
  std::vector<std::shared_ptr<Buffer>> buffers_;

  absl::Mutex mu_;
  grpc::ByteBuffer outgoing_;  // gRPC's while writing_
  std::optional<grpc::ByteBuffer> next_ ABSL_GUARDED_BY(mu_);
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool at_end_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

// Blobs go in and out as bytes; a Content::CallbackService has Write as messages already.
using ContentUnary = Content::WithCallbackMethod_Info<Content::WithCallbackMethod_Update<
    Content::WithCallbackMethod_List<Content::WithCallbackMethod_Delete<
        Content::WithCallbackMethod_Status<Content::WithCallbackMethod_ListStatuses<
            Content::WithCallbackMethod_Abort<Content::Service>>>>>>>;
using ContentBase =
    Content::WithRawCallbackMethod_Read<Content::WithRawCallbackMethod_Write<ContentUnary>>;

class ContentService final : public ContentBase, public DoorService {
 public:
  explicit ContentService(const Room& room) : room_(room) {}
  grpc::Service* service() override { return this; }

  grpc::ServerUnaryReactor* Info(grpc::CallbackServerContext* context, const InfoRequest* request,
                                 InfoResponse* response) override {
    return HandleQuick(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(request->digest()));
      GANTRY_ASSIGN_OR_RETURN(content::Info info, Open(call).Stat(digest));
      SetInfo(info, response->mutable_info());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Update(grpc::CallbackServerContext* context,
                                   const UpdateRequest* request,
                                   UpdateResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(request->info().digest()));
      GANTRY_ASSIGN_OR_RETURN(
          content::Info info,
          Open(call).Update(digest, metadata::LabelsOf(request->info().labels()),
                            TextsOf(request->update_mask().paths())));
      SetInfo(info, response->mutable_info());
      return absl::OkStatus();
    });
  }

  grpc::ServerWriteReactor<ListContentResponse>* List(grpc::CallbackServerContext* context,
                                                      const ListContentRequest* request) override {
    return HandleList<ListContentResponse>(
        *room_.long_calls, *context,
        [this, request](Call& call, Sender<ListContentResponse>& out) -> absl::Status {
          GANTRY_ASSIGN_OR_RETURN(Filter filter, Filter::Parse(TextsOf(request->filters())));
          ListContentResponse batch;
          const auto send = [&]() -> absl::Status { return out.Send(std::exchange(batch, {})); };
          GANTRY_RETURN_IF_ERROR(Open(call).Walk([&](const content::Info& info) -> absl::Status {
            if (!filter.matches_everything() && !filter.Matches(metadata::FieldsOf(info)))
              return absl::OkStatus();
            SetInfo(info, batch.add_info());
            return batch.info_size() < kInfosPerMessage ? absl::OkStatus() : send();
          }));
          return batch.info_size() == 0 ? absl::OkStatus() : send();
        });
  }

  grpc::ServerUnaryReactor* Delete(grpc::CallbackServerContext* context,
                                   const DeleteContentRequest* request,
                                   google::protobuf::Empty*) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(request->digest()));
      GANTRY_RETURN_IF_ERROR(Open(call).Delete(digest));
      room_.events->Publish(call.ns(), core::LowLevelEvent(core::EventKind::kContent,
                                                           core::action::kDelete, digest.str()));
      return absl::OkStatus();
    });
  }

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Read(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* request) override {
    // NOLINTNEXTLINE(cppcoreguidelines-owning-memory): deletes itself in OnDone
    auto* call = new ReadCall(*context, room_);
    call->Begin(*request);
    return call;
  }

  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* context,
                                   const StatusRequest* request,
                                   StatusResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(content::IngestStatus status, Open(call).StatIngest(request->ref()));
      SetStatus(status, response->mutable_status());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* ListStatuses(grpc::CallbackServerContext* context,
                                         const ListStatusesRequest* request,
                                         ListStatusesResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(Filter filter, Filter::Parse(TextsOf(request->filters())));
      GANTRY_ASSIGN_OR_RETURN(std::vector<content::IngestStatus> statuses,
                              Open(call).ListIngests());
      for (const content::IngestStatus& status : statuses) {
        if (filter.Matches(metadata::FieldsOf(status))) SetStatus(status, response->add_statuses());
      }
      return absl::OkStatus();
    });
  }

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Write(
      grpc::CallbackServerContext* context) override {
    // NOLINTNEXTLINE(cppcoreguidelines-owning-memory): deletes itself in OnDone
    auto* call = new WriteCall(*context, room_);
    call->Begin();
    return call;
  }

  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context, const AbortRequest* request,
                                  google::protobuf::Empty*) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      return Open(call).AbortIngest(request->ref());
    });
  }

 private:
  ContentNamespace Open(const Call& call) const { return room_.stores->Content(call.scope()); }

  const Room& room_;
};

}  // namespace

std::unique_ptr<DoorService> NewContentService(const Room& room) {
  return std::make_unique<ContentService>(room);
}

}  // namespace gantry::api::containerd_api
