// Pullers, deleters, runners and lease expiry race with the collector, in one process and in one
// that is killed. Afterwards every live object must be whole and no dead byte left.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/temp_dir.h"
#include "supervisor/gc/world.h"

namespace gantry::gc {
namespace {

using metadata::Durability;
using metadata::Scope;

constexpr char kRefPrefix[] = "containerd.io/gc.ref.content.l.";
constexpr char kSnapshotRef[] = "containerd.io/gc.ref.snapshot.native";

// What a client does over and over, with few distinct names so that everybody is always in
// everybody's way.
class Client {
 public:
  Client(World& world, int seed) : world_(world), random_(static_cast<unsigned>(seed)) {}

  void Step(int step) {
    const std::string ns = Pick({"a", "b"});
    switch (random_() % 6) {
      case 0:
      case 1:
        Pull(ns, step);
        break;
      case 2:
        Expect(world_.images.Delete(Scope{.ns = ns}, ImageName(), std::nullopt,
                                    Durability::kBuffered));
        break;
      case 3:
        Run(ns, step);
        break;
      case 4:
        Remove(ns);
        break;
      case 5:
        GiveUp(ns, step);
        break;
    }
  }

 private:
  std::string Pick(const std::vector<std::string>& from) { return from[random_() % from.size()]; }
  std::string ImageName() { return absl::StrCat("image-", random_() % 4); }
  std::string Number(unsigned below) { return absl::StrCat(random_() % below); }

  // Being in each other's way is expected, everything else is not.
  static void Expect(const absl::Status& status) {
    EXPECT_TRUE(status.ok() || absl::IsNotFound(status) || absl::IsAlreadyExists(status) ||
                absl::IsUnavailable(status) || absl::IsFailedPrecondition(status))
        << status;
  }

  std::string TakeLease(const std::string& ns) {
    record::v1::Lease lease;
    if (random_() % 4 == 0) {
      (*lease.mutable_labels())["containerd.io/gc.expire"] =
          absl::FormatTime(absl::RFC3339_full, absl::Now() + absl::Hours(1), absl::UTCTimeZone());
    }
    auto made = world_.leases.Create(Scope{.ns = ns}, lease, Durability::kBuffered);
    EXPECT_TRUE(made.ok()) << made.status();
    return made->id();
  }

  // True: the blob is visible and leased.
  bool Fetch(const std::string& ns, const std::string& lease, const std::string& bytes,
             const Labels& labels) {
    metadata::ContentNamespace content = world_.Content(ns, lease);
    const content::Digest digest = content::Digest::Sha256Of(bytes);
    auto ingest = content.OpenIngest(
        {.ref = "ref-" + bytes.substr(0, 40), .total_bytes = 0, .expected = digest});
    if (absl::IsAlreadyExists(ingest.status())) return true;
    if (!ingest.ok()) {
      Expect(ingest.status());
      return false;
    }
    if ((*ingest)->offset() == 0) {
      if (absl::Status appended = (*ingest)->Append(bytes); !appended.ok()) {
        Expect(appended);
        return false;
      }
    }
    absl::Status committed =
        (*ingest)
            ->Commit({.expected = digest, .size_bytes = {}, .labels = labels, .sync = false})
            .status();
    Expect(committed);
    return committed.ok() || absl::IsAlreadyExists(committed);
  }

  void Pull(const std::string& ns, int step) {
    const std::string lease = TakeLease(ns);
    const std::string layer = absl::StrCat("layer ", Number(5)),
                      other = absl::StrCat("layer ", Number(5));
    const std::string chain = absl::StrCat("chain ", layer);
    const std::string config = absl::StrCat("config of ", chain);
    const std::string manifest = absl::StrCat("manifest ", layer, other);
    bool complete = Fetch(ns, lease, layer, {}) && Fetch(ns, lease, other, {});
    if (complete) {
      metadata::SnapshotNamespace snapshots = world_.Snapshots(ns, lease);
      const std::string key = absl::StrCat("extract-", step, "-", random_());
      absl::Status prepared =
          snapshots.Prepare(key, "", {{"containerd.io/snapshot.ref", chain}}).status();
      if (prepared.ok())
        prepared = snapshots.Commit(chain, key, {.labels = {}, .parent = "", .sync = false});
      Expect(prepared);
      complete = prepared.ok() || absl::IsAlreadyExists(prepared);
    }
    complete =
        complete && Fetch(ns, lease, config, {{kSnapshotRef, chain}}) &&
        Fetch(ns, lease, manifest,
              {{absl::StrCat(kRefPrefix, 0), content::Digest::Sha256Of(layer).str()},
               {absl::StrCat(kRefPrefix, 1), content::Digest::Sha256Of(other).str()},
               {absl::StrCat(kRefPrefix, "config"), content::Digest::Sha256Of(config).str()}});
    if (complete) {
      record::v1::Image image;
      image.set_name(ImageName());
      image.mutable_target()->set_digest(content::Digest::Sha256Of(manifest).str());
      image.mutable_target()->set_size(static_cast<int64_t>(manifest.size()));
      image.mutable_target()->set_media_type("application/vnd.oci.image.manifest.v1+json");
      bool created = false;
      Expect(world_.images.Put(Scope{.ns = ns}, image, &created, Durability::kBuffered).status());
    }
    Expect(world_.leases.Delete(Scope{.ns = ns}, lease, Durability::kBuffered));
  }

  // A container on some chain, as core makes it: snapshot under a lease, then the record.
  void Run(const std::string& ns, int step) {
    const std::string lease = TakeLease(ns);
    const std::string id = absl::StrCat("c", step, "-", random_() % 1000);
    metadata::SnapshotNamespace snapshots = world_.Snapshots(ns, lease);
    absl::Status prepared =
        snapshots.Prepare(id, absl::StrCat("chain layer ", Number(5)), {}).status();
    Expect(prepared);
    if (prepared.ok()) {
      record::v1::Container container;
      container.set_id(id);
      container.mutable_runtime()->set_name("runc");
      container.mutable_spec()->set_value("{}");
      container.set_snapshotter("native");
      container.set_snapshot_key(id);
      Expect(world_.containers
                 .Create(Scope{.ns = ns},
                         {.record = container, .name = absl::StrCat("n", Number(3)), .state = {}},
                         Durability::kBuffered)
                 .status());
    }
    Expect(world_.leases.Delete(Scope{.ns = ns}, lease, Durability::kBuffered));
  }

  void Remove(const std::string& ns) {
    std::vector<std::string> ids;
    Expect(world_.containers.ListRaw(Scope{.ns = ns}, [&](absl::string_view id, absl::string_view) {
      ids.emplace_back(id);
      return absl::OkStatus();
    }));
    if (ids.empty()) return;
    const std::string id = Pick(ids);
    Expect(world_.containers.Delete(Scope{.ns = ns}, id, Durability::kBuffered));
    if (random_() % 2 == 0) Expect(world_.Snapshots(ns).Remove(id));
  }

  // A client that dies in the middle of a pull: its lease expires at once.
  void GiveUp(const std::string& ns, int step) {
    record::v1::Lease lease;
    lease.set_id(absl::StrCat("dead-", step, "-", random_()));
    (*lease.mutable_labels())["containerd.io/gc.expire"] = absl::FormatTime(
        absl::RFC3339_full, absl::Now() + absl::Milliseconds(random_() % 20), absl::UTCTimeZone());
    if (!world_.leases.Create(Scope{.ns = ns}, lease, Durability::kBuffered).ok()) return;
    Fetch(ns, lease.id(), absl::StrCat("layer ", Number(5)), {});
    auto half =
        world_.Content(ns, lease.id())
            .OpenIngest(
                {.ref = absl::StrCat("half ", Number(3)), .total_bytes = 0, .expected = {}});
    if (half.ok()) Expect((*half)->Append("half"));
    Expect(world_.Snapshots(ns, lease.id())
               .Prepare(absl::StrCat("half-", step, "-", random_()), "", {})
               .status());
  }

  World& world_;
  std::mt19937 random_;
};

// Every image has all its content, with the right bytes, and its snapshots; every container its
// snapshot.
void ExpectLiveObjectsWhole(World& world) {
  for (const std::string ns : {"a", "b"}) {
    metadata::ContentNamespace content = world.Content(ns);
    metadata::SnapshotNamespace snapshots = world.Snapshots(ns);
    auto check_blob = [&](const std::string& name) {
      const content::Digest digest = content::Digest::Parse(name).value();
      auto bytes = content::ReadBlob(content, digest, 1 << 20);
      ASSERT_TRUE(bytes.ok()) << ns << ": " << bytes.status();
      EXPECT_EQ(content::Digest::Sha256Of(*bytes), digest);
    };
    ASSERT_TRUE(world.images
                    .List(Scope{.ns = ns}, {},
                          [&](const record::v1::Image& image) {
                            check_blob(image.target().digest());
                            auto manifest = content.Stat(
                                content::Digest::Parse(image.target().digest()).value());
                            EXPECT_TRUE(manifest.ok());
                            if (!manifest.ok()) return absl::OkStatus();
                            EXPECT_GE(manifest->labels.size(), 3u);
                            for (const auto& [label, digest] : manifest->labels) {
                              check_blob(digest);
                              auto info = content.Stat(content::Digest::Parse(digest).value());
                              if (!info.ok()) continue;
                              auto chain = info->labels.find(kSnapshotRef);
                              if (chain == info->labels.end()) continue;
                              EXPECT_TRUE(snapshots.Stat(chain->second).ok())
                                  << ns << "/" << image.name() << " lost " << chain->second;
                            }
                            return absl::OkStatus();
                          })
                    .ok());
    ASSERT_TRUE(world.containers
                    .List(Scope{.ns = ns}, {},
                          [&](const record::v1::Container& container) {
                            EXPECT_TRUE(snapshots.Mounts(container.snapshot_key()).ok())
                                << container.id();
                            auto info = snapshots.Stat(container.snapshot_key());
                            EXPECT_TRUE(info.ok() && snapshots.Stat(info->parent).ok())
                                << container.id();
                            return absl::OkStatus();
                          })
                    .ok());
  }
}

// Once all images, containers and leases are gone, so is every byte.
void ExpectNothingLeftOnceAllIsDeleted(World& world, const std::string& directory) {
  for (const std::string ns : {"a", "b"}) {
    std::vector<std::string> images, containers, leases;
    auto add = [](std::vector<std::string>& to, const std::string& name) {
      to.push_back(name);
      return absl::OkStatus();
    };
    ASSERT_TRUE(
        world.images
            .List(Scope{.ns = ns}, {}, [&](const auto& image) { return add(images, image.name()); })
            .ok());
    ASSERT_TRUE(
        world.containers
            .List(Scope{.ns = ns}, {}, [&](const auto& each) { return add(containers, each.id()); })
            .ok());
    ASSERT_TRUE(
        world.leases
            .List(Scope{.ns = ns}, {}, [&](const auto& lease) { return add(leases, lease.id()); })
            .ok());
    for (const std::string& name : images)
      ASSERT_TRUE(world.images.Delete(Scope{.ns = ns}, name).ok());
    for (const std::string& id : containers)
      ASSERT_TRUE(world.containers.Delete(Scope{.ns = ns}, id).ok());
    for (const std::string& id : leases) ASSERT_TRUE(world.leases.Delete(Scope{.ns = ns}, id).ok());
    const auto ingests = world.Content(ns).ListIngests();
    ASSERT_TRUE(ingests.ok()) << ingests.status();
    for (const content::IngestStatus& ingest : *ingests) {
      ASSERT_TRUE(world.Content(ns).AbortIngest(ingest.ref).ok()) << ingest.ref;
    }
  }
  world.Collect(/*full_sweep=*/false);
  for (const std::string ns : {"a", "b"}) {
    ASSERT_TRUE(world.Content(ns)
                    .Walk([](const content::Info& info) {
                      ADD_FAILURE() << info.digest;
                      return absl::OkStatus();
                    })
                    .ok());
  }
  ASSERT_TRUE(world.files
                  ->Walk([](const content::Info& info) {
                    ADD_FAILURE() << "file of " << info.digest;
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_TRUE(world.files->ListIngests()->empty());
  ASSERT_TRUE(world.native
                  ->Walk([](const snapshot::Info& info) {
                    ADD_FAILURE() << "snapshot " << info.name;
                    return absl::OkStatus();
                  })
                  .ok());
  const std::string list = "ls -A " + directory + "/native/snapshots | wc -l";
  FILE* pipe = popen(list.c_str(), "r");
  int left = -1;
  ASSERT_EQ(fscanf(pipe, "%d", &left), 1);
  pclose(pipe);
  EXPECT_EQ(left, 0) << "snapshot directories";
}

TEST(RaceTest, NoLiveObjectIsLostAndNoDeadByteStays) {
  TempDir dir;
  World world(dir.path(), Clock::Real());
  constexpr int kClients = 4;
  constexpr int kSteps = 150;
  std::atomic<int> running = kClients;
  std::vector<std::thread> clients;
  for (int t = 0; t < kClients; ++t) {
    clients.emplace_back([&world, &running, t] {
      Client client(world, t);
      for (int i = 0; i < kSteps; ++i) client.Step(t * kSteps + i);
      --running;
    });
  }
  int collections = 0, removed = 0;
  while (running > 0) {
    auto collection = world.collector.Collect(
        {.full_sweep = collections % 3 == 0, .gate_timeout = absl::Seconds(60)});
    ASSERT_TRUE(collection.ok()) << collection.status();
    for (const absl::Status& leftover : collection->leftovers) ADD_FAILURE() << leftover;
    removed += static_cast<int>(collection->removed.size());
    ++collections;
  }
  for (std::thread& client : clients) client.join();
  EXPECT_GT(collections, 3);
  EXPECT_GT(removed, 0);
  ExpectLiveObjectsWhole(world);
  world.Collect();
  ExpectLiveObjectsWhole(world);
  ExpectNothingLeftOnceAllIsDeleted(world, dir.path());
}

TEST(RaceTest, KillingTheProcessLosesNothingAndLeavesNothing) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer cannot start threads after a fork";
#endif
  TempDir dir;
  std::mt19937 random(7);
  for (int kill_after = 0; kill_after < 5; ++kill_after) {
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) {
      World world(dir.path(), Clock::Real());
      std::vector<std::thread> clients;
      for (int t = 0; t < 2; ++t) {
        clients.emplace_back([&world, &ready, t, kill_after] {
          Client client(world, 100 * kill_after + t);
          for (int i = 0;; ++i) {
            client.Step(100000 * (kill_after + 1) + 10000 * t + i);
            if (write(ready[1], "x", 1) != 1) _exit(1);
          }
        });
      }
      while (
          world.collector.Collect({.full_sweep = true, .gate_timeout = absl::Seconds(60)}).ok()) {
      }
      _exit(1);
    }
    close(ready[1]);
    const size_t steps = 20 + random() % 60;
    char byte;
    for (size_t i = 0; i < steps; ++i) ASSERT_EQ(read(ready[0], &byte, 1), 1);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    close(ready[0]);

    World world(dir.path(), Clock::Real());
    EXPECT_TRUE(world.pool.DropRecordsWithoutFile()->empty());
    ExpectLiveObjectsWhole(world);
    world.Collect(/*full_sweep=*/true);
    ExpectLiveObjectsWhole(world);
    if (kill_after == 4) ExpectNothingLeftOnceAllIsDeleted(world, dir.path());
  }
}

}  // namespace
}  // namespace gantry::gc
