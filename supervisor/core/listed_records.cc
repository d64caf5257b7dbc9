#include "supervisor/core/listed_records.h"

#include <utility>

#include "absl/hash/hash.h"

namespace gantry::core {

ListedRecords::Pass::Pass(ListedRecords& records, std::string ns)
    : records_(records), ns_(std::move(ns)), known_(records.Get(ns_)) {
  seen_.reserve(known_->size());
}

std::shared_ptr<const ListedRecord> ListedRecords::Pass::Of(
    absl::string_view id, absl::string_view bytes, absl::FunctionRef<ListedRecord()> read) {
  while (at_ < known_->size() && (*known_)[at_].record->summary.id() < id) ++at_;
  const size_t hash = absl::HashOf(bytes);
  std::shared_ptr<const ListedRecord> record;
  if (at_ < known_->size() && (*known_)[at_].hash == hash &&
      (*known_)[at_].record->summary.id() == id) {
    record = (*known_)[at_].record;
  } else {
    record = std::make_shared<const ListedRecord>(read());
  }
  if (seen_.size() < kMostKept) seen_.push_back({hash, record});
  return record;
}

void ListedRecords::Pass::Keep() {
  auto seen = std::make_shared<const Entries>(std::move(seen_));
  absl::MutexLock lock(&records_.mu_);
  if (seen->empty()) {
    records_.kept_.erase(ns_);
  } else {
    records_.kept_[ns_] = std::move(seen);
  }
}

std::shared_ptr<const ListedRecords::Entries> ListedRecords::Get(const std::string& ns) {
  static const auto* const none =
      new std::shared_ptr<const Entries>(std::make_shared<const Entries>());
  absl::MutexLock lock(&mu_);
  const auto it = kept_.find(ns);
  return it == kept_.end() ? *none : it->second;
}

}  // namespace gantry::core
