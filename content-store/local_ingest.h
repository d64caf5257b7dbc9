// One blob on its way into a LocalStore. Used by LocalStore only.
//
// The ref of `status` is locked by the caller and unlocked by the ingest: when it is committed, or
// when it is destroyed. `store` outlives it. Thread-compatible, as Ingest says.
#ifndef GANTRY_CONTENT_STORE_LOCAL_INGEST_H_
#define GANTRY_CONTENT_STORE_LOCAL_INGEST_H_

#include <memory>
#include <string>

#include "base/unique_fd.h"
#include "content-store/digest.h"
#include "content-store/ingest.h"
#include "content-store/local_store.h"

namespace gantry::content {

// Goes on at status.offset_bytes of `data`, which lies in `directory`. `hasher`, of `algorithm`,
// has seen the bytes before.
std::unique_ptr<Ingest> NewLocalIngest(LocalStore& store, IngestStatus status, UniqueFd directory,
                                       UniqueFd data, Hasher hasher, std::string algorithm);

}  // namespace gantry::content

#endif  // GANTRY_CONTENT_STORE_LOCAL_INGEST_H_
