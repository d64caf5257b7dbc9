#include "supervisor/build/build_client.h"

#include <memory>

#include "absl/strings/str_cat.h"

#include "base/compression.h"
#include "base/status_macros.h"
#include "base/tar/tree_extractor.h"

namespace gantry::build {
namespace {

// A tar may become this much before it is asked how much it was.
constexpr int64_t kFreeBytes = int64_t{1} << 30;
constexpr int64_t kMaxExpansion = 1100;

// Counts what passes.
class Counted : public ByteSource {
 public:
  explicit Counted(ByteSource& below) : below_(below) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    absl::StatusOr<size_t> got = below_.Read(buffer, n);
    if (got.ok()) total_ += static_cast<int64_t>(*got);
    return got;
  }
  int64_t total() const { return total_; }

 private:
  ByteSource& below_;
  int64_t total_ = 0;
};

// Ends what unpacks to too much of what it was.
class Bounded : public ByteSource {
 public:
  Bounded(ByteSource& plain, const Counted& packed, const std::function<void(int64_t)>& progress)
      : plain_(plain), packed_(packed), progress_(progress) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    GANTRY_ASSIGN_OR_RETURN(const size_t got, plain_.Read(buffer, n));
    total_ += static_cast<int64_t>(got);
    if (total_ > kFreeBytes && total_ / kMaxExpansion > packed_.total())
      return absl::ResourceExhaustedError("the context unpacks to far more than it holds");
    if (progress_ && (total_ - told_ >= (1 << 20) || got == 0)) {
      told_ = total_;
      progress_(total_);
    }
    return got;
  }

 private:
  ByteSource& plain_;
  const Counted& packed_;
  const std::function<void(int64_t)>& progress_;
  int64_t total_ = 0;
  int64_t told_ = 0;
};

}  // namespace

absl::StatusOr<UniqueFd> BuildClient::Agent(const std::string& id, CancelToken*) {
  return absl::NotFoundError(absl::StrCat("no SSH key \"", id, "\" forwarded from the client"));
}

absl::StatusOr<std::unique_ptr<core::BlobOrigin>> BuildClient::Origin(int, CancelToken*) {
  return absl::InvalidArgumentError(
      "this client gives no OCI layouts: neither as named contexts nor as local caches");
}

absl::Status RequestClient::Files(int directory, CancelToken* cancel,
                                  const std::function<void(int64_t)>& progress) {
  Counted packed(tar_);
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Decompressor> plain, OpenDecompressor(packed));
  Bounded bounded(*plain, packed, progress);
  ExtractOptions options;
  options.owner = ExtractOptions::Owner::kRoot;
  options.cancel = cancel;
  return ExtractTree(bounded, directory, options).status();
}

absl::StatusOr<std::string> RequestClient::Secret(const std::string& id, CancelToken*) {
  for (const v1::BuildSecret& one : request_.secrets()) {
    if (one.id() == id) return one.value();
  }
  return absl::NotFoundError(absl::StrCat("secret ", id, ": not found"));
}

absl::StatusOr<v1::RegistryAuth> RequestClient::Credentials(const std::string& registry,
                                                            CancelToken*) {
  for (const v1::BuildRegistryAuth& one : request_.registries()) {
    if (one.registry() == registry) return one.auth();
  }
  return v1::RegistryAuth();
}

}  // namespace gantry::build
