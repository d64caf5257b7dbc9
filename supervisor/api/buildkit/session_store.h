// A store of blobs that a client serves over its session: an OCI layout of its own, or a local
// cache that it wants written.
//
// Thread-safe. Spec: containerd's content service, which the session carries.
#ifndef GANTRY_SUPERVISOR_API_BUILDKIT_SESSION_STORE_H_
#define GANTRY_SUPERVISOR_API_BUILDKIT_SESSION_STORE_H_

#include <functional>
#include <memory>
#include <string>

#include "content-store/descriptor.h"
#include "supervisor/api/buildkit/session.h"
#include "supervisor/core/blob_origin.h"

namespace gantry::api::buildkit {

// `store` is the client's name for it, `digest` the manifest or index that is meant.
std::unique_ptr<core::BlobOrigin> NewSessionOrigin(std::shared_ptr<Session> session,
                                                   std::string store, std::string digest);

// Writes blobs into a store of the client. Each is told to `taken`; the last one names the others.
std::unique_ptr<core::BlobTaker> NewSessionTaker(
    std::shared_ptr<Session> session, std::string store,
    std::function<void(const content::Descriptor&)> taken);

}  // namespace gantry::api::buildkit

#endif  // GANTRY_SUPERVISOR_API_BUILDKIT_SESSION_STORE_H_
