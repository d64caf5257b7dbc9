// Records of one type in one key space, by key. The typed face of Transaction, ReadView and
// Database.
//
// Stateless. kDataLoss: a stored value does not parse; the family and key are named.
#ifndef GANTRY_SUPERVISOR_METADATA_RECORD_STORE_H_
#define GANTRY_SUPERVISOR_METADATA_RECORD_STORE_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "base/status_macros.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/key_space.h"

namespace gantry::metadata {

template <typename Record>
class RecordStore {
 public:
  using Visitor = std::function<absl::Status(absl::string_view key, const Record& record)>;

  constexpr explicit RecordStore(KeySpace<Record> space) : family_(space.family) {}

  // No value: no such key.
  absl::StatusOr<std::optional<Record>> Get(Database& db, absl::string_view key) const {
    return Parse(key, db.Get(family_, key));
  }
  absl::StatusOr<std::optional<Record>> Get(const ReadView& view, absl::string_view key) const {
    return Parse(key, view.Get(family_, key));
  }
  absl::StatusOr<std::optional<Record>> Get(Transaction& tx, absl::string_view key) const {
    return Parse(key, tx.Get(family_, key));
  }
  absl::StatusOr<std::optional<Record>> GetForUpdate(Transaction& tx, absl::string_view key) const {
    return Parse(key, tx.GetForUpdate(family_, key));
  }
  absl::StatusOr<std::optional<Record>> GetShared(Transaction& tx, absl::string_view key) const {
    return Parse(key, tx.GetShared(family_, key));
  }
  absl::Status Put(Transaction& tx, absl::string_view key, const Record& record) const {
    return tx.Put(family_, key, record.SerializeAsString());
  }
  absl::Status Delete(Transaction& tx, absl::string_view key) const {
    return tx.Delete(family_, key);
  }

  // In key order; `Source` is a ReadView or a Transaction. The record is reused between visits.
  template <typename Source>
  absl::Status List(Source& source, absl::string_view prefix, const Visitor& visit) const {
    Record record;
    return source.Scan(family_, prefix,
                       [&](absl::string_view key, absl::string_view value) -> absl::Status {
                         if (!record.ParseFromArray(value.data(), static_cast<int>(value.size())))
                           return Damaged(key);
                         return visit(key, record);
                       });
  }

 private:
  absl::StatusOr<std::optional<Record>> Parse(
      absl::string_view key, absl::StatusOr<std::optional<std::string>> value) const {
    if (!value.ok()) return value.status();
    if (!value->has_value()) return std::optional<Record>();
    std::optional<Record> record(std::in_place);
    if (!record->ParseFromString(**value)) return Damaged(key);
    return record;
  }

  absl::Status Damaged(absl::string_view key) const {
    return absl::DataLossError(absl::StrCat("metadata ", kFamilyNames[static_cast<size_t>(family_)],
                                            " \"", absl::CEscape(key),
                                            "\": the stored record does not parse"));
  }

  const Family family_;
};

template <typename Record>
RecordStore(KeySpace<Record>) -> RecordStore<Record>;

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_RECORD_STORE_H_
