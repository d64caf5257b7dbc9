// Places that blobs come from, a registry's repository, an OCI layout, a client's store; and places
// that they are given to.
//
// Implementations: BuildExchange::Registry(), LayoutOrigin, the BuildKit door's session.
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_BLOB_ORIGIN_H_
#define GANTRY_SUPERVISOR_CORE_BLOB_ORIGIN_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/byte_stream.h"
#include "content-store/descriptor.h"
#include "content-store/store.h"

namespace gantry {
class CancelToken;
}  // namespace gantry

namespace gantry::core {

class BlobOrigin {
 public:
  virtual ~BlobOrigin() = default;

  // "registry.example.com/app:cache", for messages; equal for equal places.
  virtual const std::string& name() const = 0;
  // The manifest or index that the origin stands for. kNotFound: there is none.
  virtual absl::StatusOr<content::Descriptor> Root(CancelToken* cancel) = 0;
  // Into the store, verified; present is success. kNotFound: the origin has no such blob;
  // kDataLoss: it has other bytes under that digest.
  virtual absl::Status Fetch(const content::Descriptor& blob, content::Store& store,
                             CancelToken* cancel) = 0;
};

// One whose blobs are streams of bytes, which are verified here.
class StreamOrigin : public BlobOrigin {
 public:
  absl::Status Fetch(const content::Descriptor& blob, content::Store& store,
                     CancelToken* cancel) override;

 protected:
  // The bytes of a blob, from outside. kNotFound: there is none.
  virtual absl::StatusOr<std::unique_ptr<ByteSource>> Open(const content::Descriptor& blob,
                                                           CancelToken* cancel) = 0;
};

class BlobTaker {
 public:
  virtual ~BlobTaker() = default;
  // Children come before what names them. Reads all of `bytes`, of the descriptor's size.
  virtual absl::Status Take(const content::Descriptor& blob, ByteSource& bytes,
                            CancelToken* cancel) = 0;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_BLOB_ORIGIN_H_
