// All classes of images, made in one go in the order in which they need each other. Who calls them
// is handed single members.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_SERVICES_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_SERVICES_H_

#include <functional>

#include "absl/status/status.h"

#include "supervisor/core/image_archive.h"
#include "supervisor/core/image_assembly.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/image_pull.h"
#include "supervisor/core/image_push.h"
#include "supervisor/core/image_transfer.h"
#include "supervisor/core/image_unpack.h"
#include "supervisor/core/image_verify.h"
#include "supervisor/core/manifest_service.h"
#include "supervisor/core/registry_service.h"
#include "supervisor/distribution/puller.h"

namespace gantry::core {

struct ImageServices {
  struct Parts {
    Stores* stores;
    EventBus* events;
    distribution::Unpacker* unpacker;
    distribution::Puller* puller;
    distribution::Pusher* pusher;
    distribution::Resolver* resolver;
    distribution::CredentialSource* credentials;  // the daemon's own
    const distribution::HostsConfig* hosts = nullptr;
    gc::Scheduler* gc;
    int max_parallel_blobs = 4;
    bool discard_blobs = false;
    // Makes every blob committed so far durable. With it, the blobs of one image are synced once,
    // before its name is written; without, each by itself.
    std::function<absl::Status()> sync_blobs = nullptr;
  };
  explicit ImageServices(const Parts& p)
      : catalog({p.stores, p.events, p.gc, p.sync_blobs}),
        unpack({p.stores, p.unpacker, p.puller, p.credentials, p.discard_blobs}),
        pull({p.stores, &catalog, p.unpacker, p.puller, p.resolver, p.credentials, p.hosts,
              p.max_parallel_blobs, p.discard_blobs, p.sync_blobs}),
        push({p.stores, &catalog, p.puller, p.pusher, p.credentials, p.hosts, p.max_parallel_blobs,
              p.discard_blobs}),
        archive({p.stores, &catalog, &assembly, p.unpacker, p.puller, p.credentials,
                 p.discard_blobs, p.sync_blobs}),
        verify({p.stores, &catalog, p.puller, p.credentials, p.discard_blobs}),
        registry(*p.resolver, p.puller->fetcher(), p.credentials),
        manifests({p.stores, p.resolver, p.puller, p.pusher, p.credentials, p.hosts,
                   p.max_parallel_blobs}),
        transfer({p.stores, &catalog, &pull, &push, &unpack, p.unpacker}) {}

  ImageCatalog catalog;
  ImageAssembly assembly;
  ImageUnpack unpack;
  ImagePull pull;
  ImagePush push;
  ImageArchive archive;
  ImageVerify verify;
  RegistryService registry;
  ManifestService manifests;
  ImageTransfer transfer;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_SERVICES_H_
