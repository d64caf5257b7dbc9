// What is on disk of an attachment: everything that DEL needs, whatever becomes of the
// configuration directory or of this process.
//
// One JSON file per attachment, "<container id>@<interface>.json", replaced whole and synced.
// Values are thread-compatible, the functions thread-safe; two writers of one attachment are the
// caller's business.
#ifndef GANTRY_SUPERVISOR_NETWORK_CNI_RECORD_H_
#define GANTRY_SUPERVISOR_NETWORK_CNI_RECORD_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "supervisor/network/cni.h"
#include "supervisor/network/cni_config.h"

namespace gantry::network {

struct CniRecord {
  CniAttachment::State state = CniAttachment::State::kAdding;
  std::string container_id;
  std::string interface;
  std::string netns;
  std::string netns_identity;  // see NetnsIdentity()
  std::string args;            // CNI_ARGS
  std::map<std::string, std::string> capability_args;
  CniNetwork network;
  CniResult result;   // once attached
  std::string error;  // of the last DEL
};

// Tells namespaces apart that had the same path one after the other, also across a boot. "": there
// is no namespace at this path.
std::string NetnsIdentity(const std::string& path);

absl::Status WriteCniRecord(const std::string& directory, const CniRecord& record);
// OK when there is none. Not synced: a record that comes back after a power cut is removed again.
absl::Status RemoveCniRecord(const std::string& directory, const CniRecord& record);

// All records; makes the directory if it is not there, and removes what an interrupted write left.
// Files that are not records are left alone and added to `damaged` (path and reason).
absl::StatusOr<std::vector<CniRecord>> ReadCniRecords(const std::string& directory,
                                                      std::vector<std::string>& damaged);

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_CNI_RECORD_H_
