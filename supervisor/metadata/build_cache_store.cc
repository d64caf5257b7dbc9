#include "supervisor/metadata/build_cache_store.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "supervisor/metadata/key_space.h"

namespace gantry::metadata {
namespace {

absl::StatusOr<record::v1::BuildCacheRecord> Parse(absl::string_view key, absl::string_view value) {
  record::v1::BuildCacheRecord record;
  if (!record.ParseFromArray(value.data(), static_cast<int>(value.size())))
    return absl::DataLossError(absl::StrCat("build cache record ", key, " does not parse"));
  return record;
}

}  // namespace

absl::StatusOr<record::v1::BuildCacheRecord> BuildCacheStore::Find(const Scope& scope,
                                                                   absl::string_view key) {
  const ReadView view(db_);
  GANTRY_ASSIGN_OR_RETURN(const auto value,
                          view.Get(Family::kMeta, MakeKey(kBuildCachePrefix, scope.ns, key)));
  if (!value.has_value())
    return absl::NotFoundError(absl::StrCat("build cache record ", key, " not found"));
  return Parse(key, *value);
}

absl::Status BuildCacheStore::Put(const Scope& scope, absl::string_view key,
                                  const record::v1::BuildCacheRecord& record) {
  return db_.Run([&](Transaction& tx) -> absl::Status {
    GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope));
    return tx.Put(Family::kMeta, MakeKey(kBuildCachePrefix, scope.ns, key),
                  record.SerializeAsString());
  });
}

absl::Status BuildCacheStore::Touch(const Scope& scope, absl::string_view key, absl::Time now) {
  return db_.Run(
      [&](Transaction& tx) -> absl::Status {
        const std::string full = MakeKey(kBuildCachePrefix, scope.ns, key);
        GANTRY_ASSIGN_OR_RETURN(const auto value, tx.GetForUpdate(Family::kMeta, full));
        if (!value.has_value())
          return absl::NotFoundError(absl::StrCat("build cache record ", key, " not found"));
        GANTRY_ASSIGN_OR_RETURN(record::v1::BuildCacheRecord record, Parse(key, *value));
        record.mutable_last_used_at()->set_seconds(absl::ToUnixSeconds(now));
        record.set_uses(record.uses() + 1);
        return tx.Put(Family::kMeta, full, record.SerializeAsString());
      },
      Durability::kBuffered);
}

absl::Status BuildCacheStore::Remove(const Scope& scope, absl::string_view key) {
  return db_.Run([&](Transaction& tx) {
    return tx.Delete(Family::kMeta, MakeKey(kBuildCachePrefix, scope.ns, key));
  });
}

absl::StatusOr<std::vector<StoredCacheRecord>> BuildCacheStore::List(absl::string_view ns) {
  const ReadView view(db_);
  std::vector<StoredCacheRecord> all;
  const std::string prefix = MakePrefix(kBuildCachePrefix, ns);
  GANTRY_RETURN_IF_ERROR(view.Scan(
      Family::kMeta, prefix, [&](absl::string_view key, absl::string_view value) -> absl::Status {
        StoredCacheRecord one;
        one.key = std::string(key.substr(prefix.size()));
        GANTRY_ASSIGN_OR_RETURN(one.record, Parse(one.key, value));
        all.push_back(std::move(one));
        return absl::OkStatus();
      }));
  return all;
}

}  // namespace gantry::metadata
