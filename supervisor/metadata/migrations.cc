#include "supervisor/metadata/migrations.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "base/status_macros.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/metadata/container_rows.h"

namespace gantry::metadata {
namespace {

// So many states at most are written by one transaction.
constexpr size_t kBatch = 500;

// 1 to 2: each container has a state, which says when the container was created.
absl::Status StateOfEachContainer(Database& db) {
  using Created = std::pair<std::string, google::protobuf::Timestamp>;
  std::vector<Created> batch;
  const auto write = [&] {
    absl::Status written = db.Run(
        [&batch](Transaction& tx) -> absl::Status {
          tx.NoteEssential();  // without it the daemon does not start
          for (const auto& [key, created_at] : batch) {
            GANTRY_ASSIGN_OR_RETURN(auto bytes, tx.GetForUpdate(Family::kContainerStates, key));
            record::v1::ContainerState state;
            // A damaged state stays: lists show it as such.
            if (bytes.has_value() && (!state.ParseFromString(*bytes) || state.has_created_at()))
              continue;
            *state.mutable_created_at() = created_at;
            GANTRY_RETURN_IF_ERROR(
                tx.Put(Family::kContainerStates, key, state.SerializeAsString()));
          }
          return absl::OkStatus();
        },
        Durability::kBuffered);
    batch.clear();
    return written;
  };
  const ReadView view(db);
  record::v1::Container container;
  GANTRY_RETURN_IF_ERROR(view.Scan(
      Family::kContainers, "", [&](absl::string_view key, absl::string_view bytes) -> absl::Status {
        // Of a damaged record the beginning may be readable. What is not is taken to be old.
        (void)container.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
        batch.emplace_back(key, container.created_at());
        return batch.size() < kBatch ? absl::OkStatus() : write();
      }));
  return write();  // the version, which is written next, is synced and takes this along
}

// 2 to 3: the spec of a container has a row of its own.
absl::Status SpecsBesideContainers(Database& db) {
  std::vector<std::string> batch;
  const auto write = [&] {
    absl::Status written = db.Run(
        [&batch](Transaction& tx) -> absl::Status {
          tx.NoteEssential();  // without it the daemon does not start
          for (const std::string& key : batch) {
            GANTRY_ASSIGN_OR_RETURN(auto bytes, tx.GetForUpdate(Family::kContainers, key));
            record::v1::Container container;
            // A damaged record stays: lists show it as such.
            if (!bytes.has_value() || !container.ParseFromString(*bytes) || !container.has_spec())
              continue;
            GANTRY_RETURN_IF_ERROR(PutContainer(tx, key, std::move(container)));
          }
          return absl::OkStatus();
        },
        Durability::kBuffered);
    batch.clear();
    return written;
  };
  const ReadView view(db);
  GANTRY_RETURN_IF_ERROR(view.Scan(Family::kContainers, "",
                                   [&](absl::string_view key, absl::string_view) -> absl::Status {
                                     batch.emplace_back(key);
                                     return batch.size() < kBatch ? absl::OkStatus() : write();
                                   }));
  return write();  // synced as above
}

}  // namespace

std::vector<Migration> RealMigrations() {
  return {{1, "a state with the time of creation for each container", StateOfEachContainer},
          {2, "a row of its own for each container's spec", SpecsBesideContainers}};
}

}  // namespace gantry::metadata
