#include "supervisor/metadata/content_namespace.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/metadata/lease_store.h"
#include "supervisor/metadata/record_store.h"
#include "supervisor/metadata/record_values.h"
#include "supervisor/metadata/validate.h"

namespace gantry::metadata {
namespace {

using content::Digest;
using content::Info;
using content::IngestStatus;

const RecordStore contents(kContent);
const RecordStore ingests(kIngests);

constexpr char kShareableLabel[] = "containerd.io/namespace.shareable";

absl::Status NotFound(const Digest& digest) {
  return absl::NotFoundError(absl::StrCat("content ", digest.str(), ": not found"));
}

absl::Status AlreadyExists(const Digest& digest) {
  return absl::AlreadyExistsError(absl::StrCat("content ", digest.str(), ": already exists"));
}

absl::Status IngestNotFound(absl::string_view ref) {
  return absl::NotFoundError(absl::StrCat("ingest ref ", ref, ": not found"));
}

absl::StatusOr<Info> InfoOf(const record::v1::Content& record) {
  GANTRY_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(record.digest()));
  return Info{.digest = std::move(digest),
              .size_bytes = record.size(),
              .created_at = TimeOf(record.created_at()),
              .updated_at = TimeOf(record.updated_at()),
              .labels = LabelsOf(record.labels())};
}

LeaseResource Resource(const Digest& digest) {
  return {.type = std::string(kContentResource), .id = digest.str()};
}
LeaseResource IngestResource(absl::string_view ref) {
  return {.type = std::string(kIngestResource), .id = std::string(ref)};
}

}  // namespace

// An ingest of one namespace. Either bytes are written below, or the blob is on disk for another
// namespace's sake and only the record is missing (`adopted_`).
class NamespacedIngest final : public content::Ingest {
 public:
  NamespacedIngest(ContentNamespace ns, content::IngestOptions options)
      : ns_(std::move(ns)), options_(std::move(options)) {}

  void WriteTo(std::unique_ptr<content::Ingest> below) { below_ = std::move(below); }
  void Adopt(Info info, BlobPool::Pin pin, absl::Time now) {
    adopted_ = std::move(info);
    pin_ = std::move(pin);
    adopted_->updated_at = now;
  }

  absl::Status AppendPieces(absl::Span<const absl::string_view> pieces) override {
    size_t bytes = 0;
    for (const absl::string_view piece : pieces) bytes += piece.size();
    if (bytes == 0) return absl::OkStatus();
    if (adopted_.has_value()) GANTRY_RETURN_IF_ERROR(Materialise(adopted_->size_bytes));
    return below_->AppendPieces(pieces);
  }

  absl::Status Truncate(int64_t offset_bytes) override {
    if (!adopted_.has_value()) return below_->Truncate(offset_bytes);
    if (offset_bytes == adopted_->size_bytes) return absl::OkStatus();
    if (offset_bytes < 0 || offset_bytes > adopted_->size_bytes) {
      return absl::OutOfRangeError(
          absl::StrCat("ingest ref ", options_.ref, ": cannot truncate to ", offset_bytes));
    }
    return Materialise(offset_bytes);
  }

  int64_t offset() const override {
    return adopted_.has_value() ? adopted_->size_bytes : below_->offset();
  }

  Digest current_digest() const override {
    return adopted_.has_value() ? adopted_->digest : below_->current_digest();
  }

  IngestStatus status() const override {
    IngestStatus status;
    if (adopted_.has_value()) {
      status.offset_bytes = adopted_->size_bytes;
      status.total_bytes = adopted_->size_bytes;
      status.started_at = adopted_->updated_at;
      status.updated_at = adopted_->updated_at;
    } else {
      status = below_->status();
    }
    status.ref = options_.ref;
    status.expected = options_.expected;
    return status;
  }

  absl::StatusOr<Digest> Commit(const content::CommitOptions& options) override {
    const content::Labels labels = PresentLabels(options.labels);
    GANTRY_RETURN_IF_ERROR(ValidateLabels(labels));
    // Held until the record is in: the sweeper must not take the file in between. The one who comes
    // second with the same bytes waits here for the first one's fsync; other calls do not.
    // With `expected` of another algorithm than was hashed so far, that is the blob's name; with a
    // wrong one, nothing comes of it.
    const Digest digest = options.expected.empty() ? current_digest() : options.expected;
    const int64_t size_bytes = offset();
    KeyLocks::Held lock = ns_.pool_.LockBlob(digest);
    GANTRY_RETURN_IF_ERROR(Publish(digest, size_bytes, options));

    const absl::Time now = ns_.clock_.Now();
    bool already = false;
    GANTRY_RETURN_IF_ERROR(ns_.db_.Run(
        [&](Transaction& tx) -> absl::Status {
          GANTRY_RETURN_IF_ERROR(EnterScope(tx, ns_.scope_));
          const std::string key = MakeKey(ns_.scope_.ns, digest.str());
          GANTRY_ASSIGN_OR_RETURN(auto present, contents.GetForUpdate(tx, key));
          already = present.has_value();
          if (!already) {
            record::v1::Content record;
            record.set_digest(digest.str());
            record.set_size(size_bytes);
            *record.mutable_created_at() = StampOf(now);
            *record.mutable_updated_at() = StampOf(now);
            SetLabels(labels, record.mutable_labels());
            GANTRY_RETURN_IF_ERROR(contents.Put(tx, key, record));
          }
          GANTRY_RETURN_IF_ERROR(LeaseStore::Attach(tx, ns_.scope_, Resource(digest)));
          GANTRY_RETURN_IF_ERROR(LeaseStore::Detach(tx, ns_.scope_, IngestResource(options_.ref)));
          return ingests.Delete(tx, MakeKey(ns_.scope_.ns, options_.ref));
        },
        options.sync ? Durability::kSynced : Durability::kBuffered));
    if (already) return AlreadyExists(digest);
    return digest;
  }

 private:
  // Sees to it that the file is there and is what the caller wanted.
  absl::Status Publish(const Digest& digest, int64_t size_bytes,
                       const content::CommitOptions& options) {
    if (!adopted_.has_value()) {
      absl::Status committed = below_->Commit(options).status();
      // On disk for another namespace's sake: ours all the same, the bytes were sent and hashed.
      return absl::IsAlreadyExists(committed) ? absl::OkStatus() : committed;
    }
    if (adopted_->digest != digest) {
      return absl::FailedPreconditionError(absl::StrCat("ingest ref ", options_.ref, ": digest is ",
                                                        adopted_->digest.str(), ", expected ",
                                                        digest.str()));
    }
    if (options.size_bytes.has_value() && *options.size_bytes != size_bytes) {
      return absl::FailedPreconditionError(absl::StrCat("ingest ref ", options_.ref, ": size is ",
                                                        size_bytes, ", expected ",
                                                        *options.size_bytes));
    }
    absl::Status present = ns_.pool_.files().Stat(digest).status();
    if (absl::IsNotFound(present)) {
      return absl::UnavailableError(
          absl::StrCat("content ", digest.str(), " went away meanwhile: send it again"));
    }
    return present;
  }

  // The writer has bytes of its own after all: goes on as an ordinary ingest that starts with the
  // first `bytes` of the blob.
  absl::Status Materialise(int64_t bytes) {
    KeyLocks::Held lock = ns_.pool_.LockIngest(ns_.PoolRef(options_.ref));
    GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<content::Ingest> below,
                            ns_.pool_.files().OpenIngest({.ref = ns_.PoolRef(options_.ref),
                                                          .total_bytes = options_.total_bytes,
                                                          .expected = {}}));
    GANTRY_RETURN_IF_ERROR(ns_.RecordIngest(options_));
    GANTRY_RETURN_IF_ERROR(below->Truncate(0));
    if (bytes > 0) {
      GANTRY_ASSIGN_OR_RETURN(auto reader, ns_.pool_.files().Open(adopted_->digest));
      std::string buffer(256 << 10, '\0');
      for (int64_t at = 0; at < bytes;) {
        const size_t want =
            static_cast<size_t>(std::min<int64_t>(bytes - at, static_cast<int64_t>(buffer.size())));
        GANTRY_ASSIGN_OR_RETURN(size_t got, reader->ReadAt(at, buffer.data(), want));
        if (got == 0)
          return absl::DataLossError(
              absl::StrCat("content ", adopted_->digest.str(), ": file is short"));
        GANTRY_RETURN_IF_ERROR(below->Append(absl::string_view(buffer.data(), got)));
        at += static_cast<int64_t>(got);
      }
    }
    below_ = std::move(below);
    adopted_.reset();
    pin_.Release();
    return absl::OkStatus();
  }

  ContentNamespace ns_;  // a copy: this ingest may outlive the one that opened it
  const content::IngestOptions options_;
  std::unique_ptr<content::Ingest> below_;
  std::optional<Info> adopted_;
  BlobPool::Pin pin_;
};

std::string ContentNamespace::PoolRef(absl::string_view ref) const {
  return BlobPool::IngestRef(scope_.ns, ref);
}

absl::StatusOr<Info> ContentNamespace::Stat(const Digest& digest) {
  GANTRY_RETURN_IF_ERROR(scope_.Validate());
  GANTRY_ASSIGN_OR_RETURN(auto record, contents.Get(db_, MakeKey(scope_.ns, digest.str())));
  if (!record.has_value()) return NotFound(digest);
  return InfoOf(*record);
}

absl::StatusOr<Info> ContentNamespace::Update(const Digest& digest, const content::Labels& labels,
                                              const std::vector<std::string>& fields) {
  const std::string key = MakeKey(scope_.ns, digest.str());
  record::v1::Content result;
  GANTRY_RETURN_IF_ERROR(db_.Run([&](Transaction& tx) -> absl::Status {
    GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope_));
    GANTRY_ASSIGN_OR_RETURN(auto record, contents.GetForUpdate(tx, key));
    if (!record.has_value()) return NotFound(digest);
    result = *std::move(record);
    LabelMap merged = LabelsOf(result.labels());
    GANTRY_RETURN_IF_ERROR(
        ApplyLabelUpdate(absl::StrCat("content ", digest.str()), labels, fields, merged));
    SetLabels(merged, result.mutable_labels());
    *result.mutable_updated_at() = StampOf(clock_.Now());
    return contents.Put(tx, key, result);
  }));
  return InfoOf(result);
}

absl::Status ContentNamespace::Walk(const std::function<absl::Status(const Info&)>& visit) {
  GANTRY_RETURN_IF_ERROR(scope_.Validate());
  ReadView view(db_);
  return contents.List(view, MakePrefix(scope_.ns),
                       [&](absl::string_view, const record::v1::Content& record) -> absl::Status {
                         GANTRY_ASSIGN_OR_RETURN(Info info, InfoOf(record));
                         return visit(info);
                       });
}

absl::StatusOr<std::unique_ptr<content::BlobReader>> ContentNamespace::Open(const Digest& digest) {
  GANTRY_RETURN_IF_ERROR(Stat(digest).status());
  return pool_.files().Open(digest);
}

absl::Status ContentNamespace::Delete(const Digest& digest) {
  GANTRY_RETURN_IF_ERROR(db_.Run([&](Transaction& tx) -> absl::Status {
    GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope_));
    const std::string key = MakeKey(scope_.ns, digest.str());
    GANTRY_ASSIGN_OR_RETURN(auto record, tx.GetForUpdate(Family::kContent, key));
    if (!record.has_value()) return NotFound(digest);
    GANTRY_RETURN_IF_ERROR(LeaseStore::Detach(tx, scope_, Resource(digest)));
    tx.NoteDeletion();
    return contents.Delete(tx, key);
  }));
  pool_.NoteRemoved(digest);
  return absl::OkStatus();
}

absl::StatusOr<bool> ContentNamespace::MayAdopt(const Digest& digest) {
  if (sharing_ == BlobSharing::kShared) return true;
  ReadView view(db_);
  bool may = false;
  GANTRY_RETURN_IF_ERROR(
      RecordStore(kNamespaces)
          .List(view, "",
                [&](absl::string_view name, const record::v1::Namespace& ns) -> absl::Status {
                  auto label = ns.labels().find(kShareableLabel);
                  if (may || label == ns.labels().end() || label->second != "true")
                    return absl::OkStatus();
                  GANTRY_ASSIGN_OR_RETURN(auto record,
                                          view.Get(Family::kContent, MakeKey(name, digest.str())));
                  may = record.has_value();
                  return absl::OkStatus();
                }));
  return may;
}

absl::Status ContentNamespace::RecordIngest(const content::IngestOptions& options) {
  record::v1::Ingest record;
  record.set_ref(options.ref);
  record.set_expected(options.expected.str());
  if (scope_.lease.empty()) *record.mutable_expires_at() = StampOf(clock_.Now() + kIngestExpiry);
  return db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope_));
        GANTRY_RETURN_IF_ERROR(LeaseStore::Attach(tx, scope_, IngestResource(options.ref)));
        return ingests.Put(tx, MakeKey(scope_.ns, options.ref), record);
      },
      Durability::kBuffered);
}

absl::StatusOr<std::unique_ptr<content::Ingest>> ContentNamespace::OpenIngest(
    const content::IngestOptions& options) {
  GANTRY_RETURN_IF_ERROR(scope_.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateName("ingest ref", options.ref));
  auto ingest = std::make_unique<NamespacedIngest>(*this, options);
  bool on_disk = false;
  if (!options.expected.empty()) {
    bool visible = false;
    GANTRY_RETURN_IF_ERROR(db_.Run(
        [&](Transaction& tx) -> absl::Status {
          GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope_));
          // Shared: it is still there when the lease has it.
          GANTRY_ASSIGN_OR_RETURN(
              auto record,
              tx.GetShared(Family::kContent, MakeKey(scope_.ns, options.expected.str())));
          visible = record.has_value();
          return visible ? LeaseStore::Attach(tx, scope_, Resource(options.expected))
                         : absl::OkStatus();
        },
        Durability::kBuffered));
    if (visible) return AlreadyExists(options.expected);

    KeyLocks::Held lock = pool_.LockBlob(options.expected);
    auto present = pool_.files().Stat(options.expected);
    if (!present.ok() && !absl::IsNotFound(present.status())) return present.status();
    on_disk = present.ok();
    if (on_disk) {
      GANTRY_ASSIGN_OR_RETURN(bool may_adopt, MayAdopt(options.expected));
      if (may_adopt) {
        ingest->Adopt(*std::move(present), pool_.PinBlob(options.expected), clock_.Now());
        return ingest;
      }
    }
  }
  // Bytes and record together: the sweeper drops bytes without record.
  KeyLocks::Held ingest_lock = pool_.LockIngest(PoolRef(options.ref));
  // The store below would answer "present" for a blob that this namespace may not see.
  GANTRY_ASSIGN_OR_RETURN(
      std::unique_ptr<content::Ingest> below,
      pool_.files().OpenIngest({.ref = PoolRef(options.ref),
                                .total_bytes = options.total_bytes,
                                .expected = on_disk ? Digest() : options.expected}));
  GANTRY_RETURN_IF_ERROR(RecordIngest(options));
  ingest->WriteTo(std::move(below));
  return ingest;
}

absl::StatusOr<IngestStatus> ContentNamespace::StatIngest(absl::string_view ref) {
  GANTRY_RETURN_IF_ERROR(scope_.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateName("ingest ref", ref));
  GANTRY_ASSIGN_OR_RETURN(auto record, ingests.Get(db_, MakeKey(scope_.ns, ref)));
  if (!record.has_value()) return IngestNotFound(ref);
  auto status = pool_.files().StatIngest(PoolRef(ref));
  if (absl::IsNotFound(status.status())) return IngestNotFound(ref);
  GANTRY_RETURN_IF_ERROR(status.status());
  status->ref = std::string(ref);
  if (auto expected = Digest::Parse(record->expected()); expected.ok())
    status->expected = *std::move(expected);
  return status;
}

absl::StatusOr<std::vector<IngestStatus>> ContentNamespace::ListIngests() {
  GANTRY_RETURN_IF_ERROR(scope_.Validate());
  std::vector<std::string> refs;
  {
    ReadView view(db_);
    GANTRY_RETURN_IF_ERROR(ingests.List(view, MakePrefix(scope_.ns),
                                        [&](absl::string_view, const record::v1::Ingest& record) {
                                          refs.push_back(record.ref());
                                          return absl::OkStatus();
                                        }));
  }
  std::vector<IngestStatus> found;
  for (const std::string& ref : refs) {
    auto status = StatIngest(ref);
    if (absl::IsNotFound(status.status())) continue;
    GANTRY_RETURN_IF_ERROR(status.status());
    found.push_back(*std::move(status));
  }
  return found;
}

absl::Status ContentNamespace::AbortIngest(absl::string_view ref) {
  GANTRY_RETURN_IF_ERROR(scope_.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateName("ingest ref", ref));
  const std::string key = MakeKey(scope_.ns, ref);
  KeyLocks::Held lock = pool_.LockIngest(PoolRef(ref));
  GANTRY_ASSIGN_OR_RETURN(auto record, db_.Get(Family::kIngests, key));
  if (!record.has_value()) return IngestNotFound(ref);
  absl::Status aborted = pool_.files().AbortIngest(PoolRef(ref));
  if (!aborted.ok() && !absl::IsNotFound(aborted)) return aborted;
  return db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope_));
        GANTRY_RETURN_IF_ERROR(LeaseStore::Detach(tx, scope_, IngestResource(ref)));
        return ingests.Delete(tx, key);
      },
      Durability::kBuffered);
}

}  // namespace gantry::metadata
