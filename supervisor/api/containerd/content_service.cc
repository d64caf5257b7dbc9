// containerd.services.content.v1.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "proto/containerd/events/content.pb.h"
#include "proto/containerd/services/content/v1/content.grpc.pb.h"
#include "supervisor/api/containerd/call.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/wire.h"
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

// One Write stream: opens the ingest with its first message, then obeys message by message, each with one answer.
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

  // `done`: that was the commit.
  absl::Status Obey(const WriteContentRequest& request, WriteContentResponse* response,
                    bool* done) {
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
        GANTRY_RETURN_IF_ERROR(Append(request));
        response->set_offset(ingest_->offset());
        response->set_digest(ingest_->current_digest().str());
        return absl::OkStatus();
      }
      case COMMIT: {
        GANTRY_RETURN_IF_ERROR(Append(request));
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
        containerd::events::ContentCreate event;
        event.set_digest(digest.str());
        event.set_size(size);
        events_.Publish(store_.scope().ns, "/content/create", event);
        return absl::OkStatus();
      }
      default:
        return absl::UnimplementedError(
            absl::StrCat("content write ", ref_, ": unknown action ", request.action()));
    }
  }

 private:
  // A text that is no digest of ours is, as with containerd, nothing to complain of before the commit.
  void Expect(const std::string& text) {
    if (text.empty()) return;
    absl::StatusOr<Digest> digest = Digest::Parse(text);
    expected_ = digest.ok() ? *std::move(digest) : Digest();
    impossible_ = digest.ok() ? "" : text;
  }

  // What a later message says about the blob. A digest that turns out to be here already ends the ingest.
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

  absl::Status Append(const WriteContentRequest& request) {
    const int64_t at = ingest_->offset();
    if (request.offset() > 0 && request.offset() != at) {
      return absl::OutOfRangeError(absl::StrCat("content write ", ref_, ": offset ",
                                                request.offset(), ", but the ingest is at ", at));
    }
    if (request.offset() == 0 && at > 0) {
      GANTRY_RETURN_IF_ERROR(ingest_->Truncate(0));
    }
    return request.data().empty() ? absl::OkStatus() : ingest_->Append(request.data());
  }

  ContentNamespace& store_;
  core::EventBus& events_;
  std::string ref_;
  int64_t total_ = 0;
  Digest expected_;
  std::string impossible_;
  std::unique_ptr<content::Ingest> ingest_;
};

class ContentService final : public Content::Service, public DoorService {
 public:
  explicit ContentService(const Room& room) : room_(room) {}
  grpc::Service* service() override { return this; }

  grpc::Status Info(grpc::ServerContext* context, const InfoRequest* request,
                    InfoResponse* response) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(request->digest()));
      GANTRY_ASSIGN_OR_RETURN(content::Info info, Open(call).Stat(digest));
      SetInfo(info, response->mutable_info());
      return absl::OkStatus();
    });
  }

  grpc::Status Update(grpc::ServerContext* context, const UpdateRequest* request,
                      UpdateResponse* response) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(request->info().digest()));
      GANTRY_ASSIGN_OR_RETURN(
          content::Info info,
          Open(call).Update(digest, metadata::LabelsOf(request->info().labels()),
                            TextsOf(request->update_mask().paths())));
      SetInfo(info, response->mutable_info());
      return absl::OkStatus();
    });
  }

  grpc::Status List(grpc::ServerContext* context, const ListContentRequest* request,
                    grpc::ServerWriter<ListContentResponse>* writer) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(Filter filter, Filter::Parse(TextsOf(request->filters())));
      ListContentResponse batch;
      const auto send = [&]() -> absl::Status {
        const bool sent = writer->Write(batch);
        batch.clear_info();
        return sent ? absl::OkStatus() : absl::CancelledError("the client has gone");
      };
      GANTRY_RETURN_IF_ERROR(Open(call).Walk([&](const content::Info& info) -> absl::Status {
        if (!filter.matches_everything() && !filter.Matches(metadata::FieldsOf(info)))
          return absl::OkStatus();
        SetInfo(info, batch.add_info());
        return batch.info_size() < kInfosPerMessage ? absl::OkStatus() : send();
      }));
      return batch.info_size() == 0 ? absl::OkStatus() : send();
    });
  }

  grpc::Status Delete(grpc::ServerContext* context, const DeleteContentRequest* request,
                      google::protobuf::Empty*) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(request->digest()));
      GANTRY_RETURN_IF_ERROR(Open(call).Delete(digest));
      containerd::events::ContentDelete event;
      event.set_digest(digest.str());
      room_.events->Publish(call.ns(), "/content/delete", event);
      return absl::OkStatus();
    });
  }

  grpc::Status Read(grpc::ServerContext* context, const ReadContentRequest* request,
                    grpc::ServerWriter<ReadContentResponse>* writer) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(request->digest()));
      GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<content::BlobReader> blob, Open(call).Open(digest));
      const int64_t size = blob->size_bytes();
      const int64_t start = std::max<int64_t>(request->offset(), 0);
      if (start > size) {
        return absl::OutOfRangeError(absl::StrCat("blob ", digest.str(), ": offset ", start,
                                                  " lies behind its ", size, " bytes"));
      }
      int64_t left = size - start;
      if (request->size() > 0) left = std::min(left, request->size());
      // Offsets in the answer count from where this read began.
      ReadContentResponse chunk;
      for (int64_t sent = 0; sent < left;) {
        std::string* data = chunk.mutable_data();
        data->resize(static_cast<size_t>(std::min(left - sent, kReadChunkBytes)));
        GANTRY_ASSIGN_OR_RETURN(size_t got, blob->ReadAt(start + sent, data->data(), data->size()));
        if (got == 0)
          return absl::DataLossError(
              absl::StrCat("blob ", digest.str(), ": shorter on disk than recorded"));
        data->resize(got);
        chunk.set_offset(sent);
        sent += static_cast<int64_t>(got);
        grpc::WriteOptions options;
        if (sent >= left) options.set_last_message();
        if (!writer->Write(chunk, options)) return absl::CancelledError("the client has gone");
      }
      return absl::OkStatus();
    });
  }

  grpc::Status Status(grpc::ServerContext* context, const StatusRequest* request,
                      StatusResponse* response) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(content::IngestStatus status, Open(call).StatIngest(request->ref()));
      SetStatus(status, response->mutable_status());
      return absl::OkStatus();
    });
  }

  grpc::Status ListStatuses(grpc::ServerContext* context, const ListStatusesRequest* request,
                            ListStatusesResponse* response) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(Filter filter, Filter::Parse(TextsOf(request->filters())));
      GANTRY_ASSIGN_OR_RETURN(std::vector<content::IngestStatus> statuses,
                              Open(call).ListIngests());
      for (const content::IngestStatus& status : statuses) {
        if (filter.Matches(metadata::FieldsOf(status))) SetStatus(status, response->add_statuses());
      }
      return absl::OkStatus();
    });
  }

  grpc::Status Write(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<WriteContentResponse, WriteContentRequest>* stream) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      ContentNamespace store = Open(call);
      WriteSession session(store, *room_.events);
      WriteContentRequest request;
      if (!stream->Read(&request)) return absl::InvalidArgumentError("content write: no message");
      GANTRY_RETURN_IF_ERROR(session.Open(request));
      bool done = false;
      do {
        WriteContentResponse response;
        GANTRY_RETURN_IF_ERROR(session.Obey(request, &response, &done));
        if (!stream->Write(response)) return absl::CancelledError("the client has gone");
      } while (!done && stream->Read(&request));
      return absl::OkStatus();
    });
  }

  grpc::Status Abort(grpc::ServerContext* context, const AbortRequest* request,
                     google::protobuf::Empty*) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
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
