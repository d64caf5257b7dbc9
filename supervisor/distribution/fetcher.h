// From a descriptor to its bytes, in order, from any offset, over whatever hosts there are.
//
// A broken transfer continues where it stopped, on the same host or the next. When the network
// rather than the receiver is what limits a large blob, further byte ranges are fetched in
// parallel; ranges that arrive early are spooled to disk, so a restart loses none of them. The
// caller verifies the digest (content::Ingest::Commit does); length and ranges are checked here.
//
// Thread-safe. Spec: OCI distribution-spec v1.1 "Pulling blobs"; RFC 9110 section 14.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_FETCHER_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_FETCHER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/byte_stream.h"
#include "content-store/descriptor.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/registry_client.h"

namespace gantry::distribution {

struct FetcherOptions {
  std::string spool_directory;  // where early ranges wait; empty: in memory, lost with the process
  int64_t range_threshold_bytes = 24 << 20;  // smaller blobs are one stream
  int64_t range_bytes = 4 << 20;
  int max_ranges_per_blob = 4;    // connections for one blob; 1: never in parallel
  int max_range_connections = 8;  // for all blobs together
};

struct FetchOptions {
  int64_t offset_bytes = 0;
  // Hosts (origins) not to ask, because what they sent before was wrong.
  std::set<std::string> avoid_origins;
  std::function<void(absl::string_view why)> on_retry;
  // Set to the origins bytes came from.
  std::set<std::string>* origins = nullptr;
  // Counts bytes as they come over the network, those that are thrown away included.
  std::atomic<int64_t>* received_bytes = nullptr;
};

class Fetcher {
 public:
  Fetcher(RegistryClient* client, FetcherOptions options);

  // Writes exactly size_bytes - offset_bytes bytes to `sink`, or fails. A failure of the sink ends
  // the transfer with the sink's status. Otherwise: kDataLoss the registry's length or ranges
  // contradict the descriptor; kUnavailable broken too often; kNotFound no host has it.
  absl::Status FetchBlob(const Reference& ref, const content::Descriptor& descriptor,
                         const FetchOptions& options, const CallContext& context, ByteSink& sink);

  // A manifest or index, at most 4393216 bytes, verified against the descriptor.
  // kResourceExhausted: larger.
  absl::StatusOr<std::string> FetchManifest(const Reference& ref,
                                            const content::Descriptor& descriptor,
                                            const CallContext& context);

  // Removes spooled ranges of blobs not asked for since `older_than` ago; at start and after
  // a pull ends.
  absl::Status SweepSpool(absl::Duration older_than);
  void DropSpool(const content::Digest& digest);

 private:
  class BlobTransfer;
  class RangeTransfer;
  RegistryClient* const client_;
  const FetcherOptions options_;
  std::atomic<int> range_connections_{0};
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_FETCHER_H_
