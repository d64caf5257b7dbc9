// What a test of this room needs around a FakeRegistry: client, store, puller, pusher, short waits.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_REGISTRY_TESTBED_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_REGISTRY_TESTBED_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "content-store/fake_store.h"
#include "supervisor/distribution/credentials.h"
#include "supervisor/distribution/fake_registry.h"
#include "supervisor/distribution/http_client.h"
#include "supervisor/distribution/puller.h"
#include "supervisor/distribution/pusher.h"
#include "supervisor/distribution/registry_client.h"

namespace gantry::distribution {

struct RegistryTestbed {
  RegistryTestbed() {
    HostsConfigOptions hosts_options;
    hosts_options.directories = {temp.Join("certs.d")};
    hosts = std::make_unique<HostsConfig>(hosts_options);
    http = NewCurlHttpClient({});
    options.http = http.get();
    options.hosts = hosts.get();
    options.max_attempts = 4;
    options.first_backoff = absl::Milliseconds(1);
    options.max_backoff = absl::Milliseconds(20);
    options.stall_timeout =
        absl::Seconds(10);  // long enough for a busy machine; tests of stalls set their own
    options.max_retry_after = absl::Seconds(2);
    fetcher_options.spool_directory = temp.Join("spool");
    Rebuild();
  }

  // After a change of options.
  void Rebuild() {
    client = std::make_unique<RegistryClient>(options);
    resolver = std::make_unique<Resolver>(client.get());
    puller = std::make_unique<Puller>(client.get(), fetcher_options);
    pusher = std::make_unique<Pusher>(client.get(), fetcher_options.spool_directory);
  }

  Reference Ref(const FakeRegistry& registry, const std::string& name) {
    return *Reference::Parse(absl::StrCat(registry.host(), "/", name));
  }

  // Writes certs.d/<host>/hosts.toml.
  void Configure(const std::string& host, const std::string& toml) {
    std::string directory = temp.Join(absl::StrCat("certs.d/", host));
    if (!MakeDirectories(directory).ok() ||
        !WriteFile(absl::StrCat(directory, "/hosts.toml"), toml).ok())
      std::abort();
  }

  absl::StatusOr<PulledImage> Pull(const FakeRegistry& registry, const std::string& name) {
    return puller->Pull(Ref(registry, name), store, pull, context);
  }

  bool Has(const content::Digest& digest) { return store.Stat(digest).ok(); }

  int Blobs() {
    int count = 0;
    store
        .Walk([&](const content::Info&) {
          ++count;
          return absl::OkStatus();
        })
        .IgnoreError();
    return count;
  }

  TempDir temp;
  std::unique_ptr<HostsConfig> hosts;
  std::unique_ptr<HttpClient> http;
  RegistryClientOptions options;
  FetcherOptions fetcher_options;
  std::unique_ptr<RegistryClient> client;
  std::unique_ptr<Resolver> resolver;
  std::unique_ptr<Puller> puller;
  std::unique_ptr<Pusher> pusher;
  content::FakeStore store;
  PullOptions pull = [] {
    PullOptions options;
    options.platforms = {content::Platform{"linux", "amd64", "", "", {}}};
    return options;
  }();
  CallContext context;
};

// Bytes that do not compress and differ by `seed`.
inline std::string Noise(size_t size, uint32_t seed) {
  std::string out(size, '\0');
  uint64_t state = seed * 0x9E3779B97F4A7C15ull + 1;
  for (size_t i = 0; i < size; ++i) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    out[i] = static_cast<char>(state >> 56);
  }
  return out;
}

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_REGISTRY_TESTBED_H_
