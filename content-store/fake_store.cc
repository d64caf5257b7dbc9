#include "content-store/fake_store.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

namespace gantry::content {
namespace {

class FakeReader final : public BlobReader {
 public:
  explicit FakeReader(std::shared_ptr<const std::string> bytes) : bytes_(std::move(bytes)) {}

  int64_t size_bytes() const override { return static_cast<int64_t>(bytes_->size()); }

  absl::StatusOr<size_t> ReadAt(int64_t offset, char* buffer, size_t n) override {
    if (offset < 0) return absl::OutOfRangeError(absl::StrCat("blob: negative offset ", offset));
    if (offset >= size_bytes()) return size_t{0};
    n = std::min(n, bytes_->size() - static_cast<size_t>(offset));
    memcpy(buffer, bytes_->data() + offset, n);
    return n;
  }

 private:
  const std::shared_ptr<const std::string> bytes_;
};

absl::Status NotHere(const Digest& digest) {
  return absl::NotFoundError(absl::StrCat("blob ", digest.str(), ": not found"));
}

absl::Status NoIngest(absl::string_view ref) {
  return absl::NotFoundError(absl::StrCat("ingest ", ref, ": not found"));
}

}  // namespace

class FakeIngest final : public Ingest {
 public:
  FakeIngest(FakeStore& store, std::string ref, std::string algorithm)
      : store_(store), ref_(std::move(ref)), algorithm_(std::move(algorithm)) {}

  ~FakeIngest() override {
    absl::MutexLock lock(&store_.mu_);
    if (ended_) return;
    store_.ingests_.find(ref_)->second.locked = false;
  }

  absl::Status AppendPieces(absl::Span<const absl::string_view> pieces) override {
    const std::string bytes = absl::StrJoin(pieces, "");
    absl::MutexLock lock(&store_.mu_);
    if (ended_) return Ended();
    FakeStore::Partial& partial = store_.ingests_.find(ref_)->second;
    size_t room = bytes.size();
    if (store_.ingest_limit_ >= 0) {
      room = static_cast<size_t>(
          std::clamp<int64_t>(store_.ingest_limit_ - static_cast<int64_t>(partial.bytes.size()), 0,
                              static_cast<int64_t>(room)));
    }
    partial.bytes.append(bytes.data(), room);
    partial.status.offset_bytes = static_cast<int64_t>(partial.bytes.size());
    partial.status.updated_at = absl::Now();
    if (room < bytes.size()) {
      return absl::ResourceExhaustedError(
          absl::StrCat("ingest ", ref_, ": write: No space left on device"));
    }
    return absl::OkStatus();
  }

  absl::Status Truncate(int64_t offset_bytes) override {
    absl::MutexLock lock(&store_.mu_);
    if (ended_) return Ended();
    FakeStore::Partial& partial = store_.ingests_.find(ref_)->second;
    if (offset_bytes < 0 || offset_bytes > static_cast<int64_t>(partial.bytes.size())) {
      return absl::OutOfRangeError(
          absl::StrCat("ingest ", ref_, ": cannot go back to ", offset_bytes));
    }
    partial.bytes.resize(static_cast<size_t>(offset_bytes));
    partial.status.offset_bytes = offset_bytes;
    return absl::OkStatus();
  }

  int64_t offset() const override { return status().offset_bytes; }

  IngestStatus status() const override {
    absl::MutexLock lock(&store_.mu_);
    const auto it = store_.ingests_.find(ref_);
    return ended_ || it == store_.ingests_.end() ? final_status_ : it->second.status;
  }

  Digest current_digest() const override {
    absl::MutexLock lock(&store_.mu_);
    const auto it = store_.ingests_.find(ref_);
    return ended_ || it == store_.ingests_.end() ? final_digest_
                                                 : DigestOf(it->second.bytes, algorithm_);
  }

  absl::StatusOr<Digest> Commit(const CommitOptions& options) override {
    absl::MutexLock lock(&store_.mu_);
    if (ended_) return Ended();
    const auto it = store_.ingests_.find(ref_);
    FakeStore::Partial& partial = it->second;
    const int64_t size = static_cast<int64_t>(partial.bytes.size());
    if (options.size_bytes.has_value() && *options.size_bytes != size) {
      return absl::FailedPreconditionError(
          absl::StrCat("ingest ", ref_, ": has ", size, " bytes, expected ", *options.size_bytes));
    }
    const Digest digest =
        DigestOf(partial.bytes,
                 options.expected.empty() ? algorithm_ : std::string(options.expected.algorithm()));
    if (!options.expected.empty() && options.expected != digest) {
      return absl::FailedPreconditionError(absl::StrCat("ingest ", ref_, ": bytes hash to ",
                                                        digest.str(), ", expected ",
                                                        options.expected.str()));
    }
    FakeStore::Blob blob;
    const absl::Time now = absl::Now();
    blob.info = {.digest = digest,
                 .size_bytes = size,
                 .created_at = now,
                 .updated_at = now,
                 .labels = options.labels};
    blob.bytes = std::make_shared<const std::string>(std::move(partial.bytes));
    final_status_ = partial.status;
    final_digest_ = digest;
    ended_ = true;
    store_.ingests_.erase(it);
    if (!store_.blobs_.emplace(digest, std::move(blob)).second) {
      return absl::AlreadyExistsError(absl::StrCat("blob ", digest.str(), ": already exists"));
    }
    return digest;
  }

 private:
  static Digest DigestOf(absl::string_view bytes, const std::string& algorithm) {
    Hasher hasher(algorithm);
    hasher.Update(bytes);
    return hasher.Current();
  }

  absl::Status Ended() const {
    return absl::FailedPreconditionError(absl::StrCat("ingest ", ref_, ": already committed"));
  }

  FakeStore& store_;
  const std::string ref_;
  const std::string algorithm_;
  bool ended_ = false;
  IngestStatus final_status_;
  Digest final_digest_;
};

FakeStore::FakeStore() = default;
FakeStore::~FakeStore() = default;

absl::StatusOr<Info> FakeStore::Stat(const Digest& digest) {
  absl::MutexLock lock(&mu_);
  const auto it = blobs_.find(digest);
  if (it == blobs_.end()) return NotHere(digest);
  return it->second.info;
}

absl::StatusOr<Info> FakeStore::Update(const Digest& digest, const Labels& labels,
                                       const std::vector<std::string>& fields) {
  absl::MutexLock lock(&mu_);
  const auto it = blobs_.find(digest);
  if (it == blobs_.end()) return NotHere(digest);
  Labels updated = it->second.info.labels;
  if (fields.empty()) updated = labels;
  for (const absl::string_view field : fields) {
    if (field == "labels") {
      updated = labels;
    } else if (field.substr(0, 7) == "labels." && field.size() > 7) {
      const std::string key(field.substr(7));
      const auto found = labels.find(key);
      if (found == labels.end()) {
        updated.erase(key);
      } else {
        updated[key] = found->second;
      }
    } else {
      return absl::InvalidArgumentError(absl::StrCat(
          "blob ", digest.str(), ": cannot update field \"", field, "\", only labels"));
    }
  }
  for (auto label = updated.begin(); label != updated.end();) {
    label = label->second.empty() ? updated.erase(label) : std::next(label);
  }
  it->second.info.labels = std::move(updated);
  it->second.info.updated_at = absl::Now();
  return it->second.info;
}

absl::Status FakeStore::Walk(const std::function<absl::Status(const Info&)>& visit) {
  std::vector<Info> infos;
  {
    absl::MutexLock lock(&mu_);
    for (const auto& [digest, blob] : blobs_) infos.push_back(blob.info);
  }
  for (const Info& info : infos) {
    if (absl::Status status = visit(info); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<BlobReader>> FakeStore::Open(const Digest& digest) {
  absl::MutexLock lock(&mu_);
  const auto it = blobs_.find(digest);
  if (it == blobs_.end()) return NotHere(digest);
  return std::unique_ptr<BlobReader>(std::make_unique<FakeReader>(it->second.bytes));
}

absl::Status FakeStore::Delete(const Digest& digest) {
  absl::MutexLock lock(&mu_);
  if (blobs_.erase(digest) == 0) return NotHere(digest);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Ingest>> FakeStore::OpenIngest(const IngestOptions& options) {
  if (options.ref.empty() || options.ref.size() > 4096 ||
      options.ref.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("ingest: a ref has 1 to 4096 characters and no NUL");
  }
  absl::MutexLock lock(&mu_);
  if (!options.expected.empty() && blobs_.count(options.expected) > 0) {
    return absl::AlreadyExistsError(
        absl::StrCat("blob ", options.expected.str(), ": already exists"));
  }
  const absl::Time now = absl::Now();
  auto [it, fresh] = ingests_.try_emplace(options.ref);
  Partial& partial = it->second;
  if (partial.locked) {
    return absl::UnavailableError(absl::StrCat(
        "ref ", options.ref, " locked for ", absl::FormatDuration(now - partial.status.updated_at),
        " (since ", absl::FormatTime(partial.status.updated_at), ")"));
  }
  if (fresh) {
    partial.status.ref = options.ref;
    partial.status.started_at = now;
  } else if (options.total_bytes > 0 && partial.status.total_bytes > 0 &&
             options.total_bytes != partial.status.total_bytes) {
    return absl::FailedPreconditionError(
        absl::StrCat("ingest ", options.ref, ": was begun with a total of ",
                     partial.status.total_bytes, " bytes, not ", options.total_bytes));
  }
  if (options.total_bytes > 0) partial.status.total_bytes = options.total_bytes;
  if (!options.expected.empty()) partial.status.expected = options.expected;
  partial.status.updated_at = now;
  partial.locked = true;
  return std::unique_ptr<Ingest>(std::make_unique<FakeIngest>(
      *this, options.ref,
      options.expected.empty() ? "sha256" : std::string(options.expected.algorithm())));
}

absl::StatusOr<IngestStatus> FakeStore::StatIngest(absl::string_view ref) {
  absl::MutexLock lock(&mu_);
  const auto it = ingests_.find(std::string(ref));
  if (it == ingests_.end()) return NoIngest(ref);
  return it->second.status;
}

absl::StatusOr<std::vector<IngestStatus>> FakeStore::ListIngests() {
  absl::MutexLock lock(&mu_);
  std::vector<IngestStatus> all;
  for (const auto& [ref, partial] : ingests_) all.push_back(partial.status);
  return all;
}

absl::Status FakeStore::AbortIngest(absl::string_view ref) {
  absl::MutexLock lock(&mu_);
  const auto it = ingests_.find(std::string(ref));
  if (it == ingests_.end()) return NoIngest(ref);
  if (it->second.locked)
    return absl::UnavailableError(absl::StrCat("ref ", ref, " locked by a writer"));
  ingests_.erase(it);
  return absl::OkStatus();
}

void FakeStore::SetIngestLimit(int64_t bytes) {
  absl::MutexLock lock(&mu_);
  ingest_limit_ = bytes;
}

}  // namespace gantry::content
