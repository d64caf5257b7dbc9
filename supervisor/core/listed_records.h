// What lists show of the records of containers, kept by a hash of the bytes that a record is stored
// as: a list of a thousand would parse the same thousand records again each time.
//
// Nothing has to be told when a record changes: its hash, of 64 bits, is then another one. A few
// kilobytes per container that was in a list, for 4096 containers of a namespace at most.
//
// Thread-safe; a Pass is used by one thread.
#ifndef GANTRY_SUPERVISOR_CORE_LISTED_RECORDS_H_
#define GANTRY_SUPERVISOR_CORE_LISTED_RECORDS_H_

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry::core {

struct ListedRecord {
  // But for the name, which is stored apart, and what its state and its networks say.
  v1::ContainerSummary summary;
  v1::RestartPolicy restart_policy;
  std::string snapshotter;
  std::string snapshot_key;
  bool damaged = false;
};

class ListedRecords {
 private:
  struct Entry {
    size_t hash;  // of the bytes
    std::shared_ptr<const ListedRecord> record;
  };
  using Entries = std::vector<Entry>;  // in order of id

 public:
  static constexpr size_t kMostKept = 4096;

  // One walk over all records of a namespace.
  class Pass {
   public:
    Pass(ListedRecords& records, std::string ns);
    // What `bytes` say, by `read` if that is not known yet. Ids in ascending order.
    std::shared_ptr<const ListedRecord> Of(absl::string_view id, absl::string_view bytes,
                                           absl::FunctionRef<ListedRecord()> read);
    // At the end: what was walked over is kept for the next one, everything else is forgotten.
    void Keep();

   private:
    ListedRecords& records_;
    const std::string ns_;
    const std::shared_ptr<const Entries> known_;
    size_t at_ = 0;
    Entries seen_;
  };

 private:
  std::shared_ptr<const Entries> Get(const std::string& ns);

  absl::Mutex mu_;
  std::map<std::string, std::shared_ptr<const Entries>> kept_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_LISTED_RECORDS_H_
