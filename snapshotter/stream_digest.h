// sha256 of a stream, as the "sha256:<hex>" that DiffIDs are written in.
//
// Thread-compatible.
#ifndef GANTRY_SNAPSHOTTER_STREAM_DIGEST_H_
#define GANTRY_SNAPSHOTTER_STREAM_DIGEST_H_

#include <string>

#include "absl/strings/string_view.h"

struct evp_md_ctx_st;

namespace gantry::snapshot {

class StreamDigest {
 public:
  StreamDigest();
  ~StreamDigest();
  StreamDigest(const StreamDigest&) = delete;
  StreamDigest& operator=(const StreamDigest&) = delete;

  void Update(absl::string_view bytes);

  // Once, at the end.
  std::string Finish();

 private:
  evp_md_ctx_st* const context_;
};

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_STREAM_DIGEST_H_
