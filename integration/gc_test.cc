// Importers, committers, runners, deleters and leases that run out race with the collector, and the
// daemon is killed among them again and again. Afterwards every live object must be whole and no
// dead byte left, as the API, the disk and `ctl system df` tell it.

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "base/clock.h"
#include "base/file.h"
#include "integration/api_client.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

using Labels = std::map<std::string, std::string>;

constexpr char kRef[] = "containerd.io/gc.ref.content.";
constexpr char kSnapshotRef[] = "containerd.io/gc.ref.snapshot.overlayfs";
constexpr char kExpire[] = "containerd.io/gc.expire";
constexpr int kKills = 5;
constexpr int kCallsBetweenKills = 300;
constexpr size_t kLayerBytes = 200 << 10;

std::string Rfc3339(absl::Time time) {
  return absl::FormatTime(absl::RFC3339_full, time, absl::UTCTimeZone());
}

// What one client does over and over, with few distinct names, so that everybody is always in
// everybody's way. A daemon that is killed in the middle is no failure; an answer that only a
// defect gives is.
class Client {
 public:
  Client(const Testbed& bed, int seed)
      : api_(bed.address(), bed.ns()), random_(static_cast<unsigned>(seed)), number_(seed) {}

  // Returns how many calls succeeded.
  int Step() {
    ++step_;
    const int before = succeeded_;
    switch (random_() % 6) {
      case 0:
      case 1:
        Import();
        break;
      case 2:
        DeleteImage();
        break;
      case 3:
        Run();
        break;
      case 4:
        DeleteContainer();
        break;
      case 5:
        Abandon();
        break;
    }
    return succeeded_ - before;
  }

 private:
  using Codes = std::set<absl::StatusCode>;

  // Being in each other's way, and the daemon's death, are expected.
  bool Expect(const absl::Status& status, const char* what) {
    static const Codes kExpected = {
        absl::StatusCode::kOk,          absl::StatusCode::kNotFound,
        absl::StatusCode::kUnavailable, absl::StatusCode::kAlreadyExists,
        absl::StatusCode::kCancelled,   absl::StatusCode::kFailedPrecondition,
        absl::StatusCode::kAborted,
    };
    EXPECT_EQ(kExpected.count(status.code()), 1u) << what << ": " << status;
    if (status.ok()) ++succeeded_;
    return status.ok();
  }

  std::string Pick(const std::string& prefix, unsigned below) {
    return absl::StrCat(prefix, random_() % below);
  }
  std::string Unique(const char* prefix) { return absl::StrCat(prefix, number_, "-", step_); }

  // "" when there is none to be had.
  std::string TakeLease(std::optional<absl::Time> expires) {
    leases_api::CreateRequest request;
    leases_api::CreateResponse response;
    request.set_id(Unique("lease-"));
    // However the client ends, nothing of it stays for ever.
    (*request.mutable_labels())[kExpire] = Rfc3339(expires.value_or(absl::Now() + absl::Hours(1)));
    const absl::Status made =
        FromGrpc(api_.leases().Create(api_.Context().get(), request, &response));
    return Expect(made, "lease") ? response.lease().id() : "";
  }
  void EndLease(const std::string& id) {
    leases_api::DeleteRequest request;
    google::protobuf::Empty nothing;
    request.set_id(id);
    request.set_sync(random_() % 8 == 0);
    Expect(FromGrpc(api_.leases().Delete(api_.Context().get(), request, &nothing)), "end lease");
  }

  // True: the blob is there and the lease has it.
  bool Put(const std::string& lease, const std::string& bytes, const Labels& labels,
           std::string* digest) {
    *digest = Sha256(bytes);
    const absl::Status wrote =
        api_.WriteBlob(absl::StrCat("ref-", *digest), bytes, labels, lease, *digest).status();
    Expect(wrote, "write");
    return wrote.ok() || absl::IsAlreadyExists(wrote);
  }

  static std::string Layer(const std::string& name) {
    std::string bytes;
    while (bytes.size() < kLayerBytes) absl::StrAppend(&bytes, name, " ", bytes.size(), "\n");
    return bytes;
  }

  bool Unpack(const std::string& lease, const std::string& chain) {
    snapshots_api::PrepareSnapshotRequest prepare;
    snapshots_api::PrepareSnapshotResponse prepared;
    const std::string key = Unique("extract-");
    prepare.set_snapshotter("overlayfs");
    prepare.set_key(key);
    if (!Expect(FromGrpc(api_.snapshots().Prepare(api_.Context(absl::Seconds(60), lease).get(),
                                                  prepare, &prepared)),
                "prepare")) {
      return false;
    }
    snapshots_api::CommitSnapshotRequest commit;
    google::protobuf::Empty nothing;
    commit.set_snapshotter("overlayfs");
    commit.set_name(chain);
    commit.set_key(key);
    const absl::Status committed = FromGrpc(
        api_.snapshots().Commit(api_.Context(absl::Seconds(60), lease).get(), commit, &nothing));
    Expect(committed, "commit");
    // Another client's snapshot: it may be collected before our image exists, unless our lease
    // holds it too.
    if (absl::IsAlreadyExists(committed)) {
      leases_api::AddResourceRequest add;
      add.set_id(lease);
      add.mutable_resource()->set_id(chain);
      add.mutable_resource()->set_type("snapshots/overlayfs");
      return Expect(FromGrpc(api_.leases().AddResource(api_.Context().get(), add, &nothing)),
                    "lease snapshot");
    }
    return committed.ok();
  }

  void Import() {
    const std::string lease = TakeLease(std::nullopt);
    if (lease.empty()) return;
    const std::string a = Pick("layer ", 5), b = Pick("layer ", 5), chain = "chain-" + a.substr(6);
    std::string first, second, config, manifest;
    const bool whole =
        Put(lease, Layer(a), {}, &first) && Put(lease, Layer(b), {}, &second) &&
        Unpack(lease, chain) &&
        Put(lease, absl::StrCat("{\"config of\":\"", a, "\"}"), {{kSnapshotRef, chain}}, &config) &&
        Put(lease,
            nlohmann::json({{"config", config}, {"layers", {first, second}}, {"chain", chain}})
                .dump(),
            {{absl::StrCat(kRef, "config"), config},
             {absl::StrCat(kRef, "l.0"), first},
             {absl::StrCat(kRef, "l.1"), second}},
            &manifest);
    if (whole) {
      images_api::CreateImageRequest request;
      images_api::CreateImageResponse response;
      request.mutable_image()->set_name(Pick("image-", 4));
      auto* target = request.mutable_image()->mutable_target();
      target->set_media_type("application/vnd.oci.image.manifest.v1+json");
      target->set_digest(manifest);
      target->set_size(100);
      Expect(FromGrpc(api_.images().Create(api_.Context(absl::Seconds(60), lease).get(), request,
                                           &response)),
             "image");
    }
    EndLease(lease);
  }

  void DeleteImage() {
    images_api::DeleteImageRequest request;
    google::protobuf::Empty nothing;
    request.set_name(Pick("image-", 4));
    request.set_sync(random_() % 4 == 0);
    Expect(FromGrpc(api_.images().Delete(api_.Context().get(), request, &nothing)), "delete image");
  }

  // A container on one of the snapshots, which may go at any moment until the lease has what is
  // made of it.
  void Run() {
    const std::string lease = TakeLease(std::nullopt);
    if (lease.empty()) return;
    snapshots_api::PrepareSnapshotRequest prepare;
    snapshots_api::PrepareSnapshotResponse prepared;
    const std::string key = Unique("rootfs-");
    prepare.set_snapshotter("overlayfs");
    prepare.set_key(key);
    prepare.set_parent(Pick("chain-", 5));
    if (Expect(FromGrpc(api_.snapshots().Prepare(api_.Context(absl::Seconds(60), lease).get(),
                                                 prepare, &prepared)),
               "prepare rootfs")) {
      Expect(api_.CreateContainer(Pick("container-", 6), "none", R"({"ociVersion":"1.0.2"})", key),
             "container");
    }
    EndLease(lease);
  }

  void DeleteContainer() {
    containers_api::DeleteContainerRequest request;
    google::protobuf::Empty nothing;
    request.set_id(Pick("container-", 6));
    Expect(FromGrpc(api_.containers().Delete(api_.Context().get(), request, &nothing)),
           "delete container");
  }

  // Goes away amid its work: the lease runs out, with a blob, a snapshot and half an ingest.
  void Abandon() {
    const std::string lease = TakeLease(absl::Now() + absl::Milliseconds(300));
    if (lease.empty()) return;
    std::string digest;
    Put(lease, Layer(Unique("abandoned ")), {}, &digest);
    snapshots_api::PrepareSnapshotRequest prepare;
    snapshots_api::PrepareSnapshotResponse prepared;
    prepare.set_snapshotter("overlayfs");
    prepare.set_key(Unique("abandoned-"));
    Expect(FromGrpc(api_.snapshots().Prepare(api_.Context(absl::Seconds(60), lease).get(), prepare,
                                             &prepared)),
           "prepare abandoned");
    auto context = api_.Context(absl::Seconds(60), lease);
    auto stream = api_.content().Write(context.get());
    content_api::WriteContentRequest part;
    content_api::WriteContentResponse answer;
    part.set_action(content_api::WRITE);
    part.set_ref(Unique("half-"));
    part.set_total(1 << 20);
    part.set_data(std::string(64 << 10, 'x'));
    if (stream->Write(part)) stream->Read(&answer);
    context->TryCancel();
    stream->Finish();
  }

  ApiClient api_;
  std::mt19937 random_;
  const int number_;
  int step_ = 0;
  int succeeded_ = 0;
};

// Objects that stay from before the first collection to the last, each hanging by one kind of
// reference alone, so that a collector that overlooks one kind is seen however the races go.
class Keepsakes {
 public:
  explicit Keepsakes(ApiClient& api) : api_(api) {}

  void Make() {
    const std::string lease = NewLease("keepsakes", {});
    // image -> index -> manifest -> configuration -> snapshot -> its parent; manifest -> layers.
    const std::string first = Blob(lease, "first layer", {});
    const std::string second = Blob(lease, "second layer", {});
    Snapshot(lease, "kept-base", "");
    Snapshot(lease, "kept-top", "kept-base");
    const std::string config = Blob(lease, "configuration", {{kSnapshotRef, "kept-top"}});
    const std::string manifest = Blob(lease, "manifest",
                                      {{absl::StrCat(kRef, "config"), config},
                                       {absl::StrCat(kRef, "l.0"), first},
                                       {absl::StrCat(kRef, "l.1"), second}});
    const std::string index = Blob(lease, "index", {{absl::StrCat(kRef, "m.0"), manifest}});
    Image("kept", index, {});
    // What refers to the image instead of being referred to.
    Blob(lease, "referrer", {{"containerd.io/gc.bref.content", index}});
    // By a label of their own, for ever and for a time.
    Blob(lease, "rooted", {{"containerd.io/gc.root", "now"}});
    Image("kept-for-now", Blob(lease, "for now", {}),
          {{kExpire, Rfc3339(absl::Now() + absl::Hours(1))}});
    // By a lease, deep and flat.
    const std::string leased = NewLease("kept-lease", {});
    Blob(leased, "leased", {{absl::StrCat(kRef, "0"), Blob(lease, "below the leased", {})}});
    const std::string flat = NewLease("kept-flat", {{"containerd.io/gc.flat", "true"}});
    Blob(flat, "leased flat", {});
    // By a container: its snapshot and that one's parent, and what its labels name.
    Snapshot(lease, "kept-parent", "");
    Active(lease, "kept-rootfs", "kept-parent");
    EXPECT_TRUE(
        api_.CreateContainer("kept", "none", R"({"ociVersion":"1.0.2"})", "kept-rootfs").ok());
    EndLease(lease);
  }

  // Returns the blobs that nothing keeps from now on.
  std::vector<std::string> EndLeases() {
    for (const char* lease : {"kept-lease", "kept-flat"}) EndLease(lease);
    return {Sha256("leased"), Sha256("below the leased"), Sha256("leased flat")};
  }
  static bool IsLease(const std::string& id) { return absl::StartsWith(id, "kept-"); }

  const std::set<std::string>& blobs() const { return blobs_; }
  const std::set<std::string>& snapshots() const { return snapshots_; }

 private:
  std::string NewLease(const std::string& id, const Labels& labels) {
    leases_api::CreateRequest request;
    leases_api::CreateResponse response;
    request.set_id(id);
    request.mutable_labels()->insert(labels.begin(), labels.end());
    EXPECT_TRUE(api_.leases().Create(api_.Context().get(), request, &response).ok()) << id;
    return id;
  }
  void EndLease(const std::string& id) {
    leases_api::DeleteRequest request;
    google::protobuf::Empty nothing;
    request.set_id(id);
    EXPECT_TRUE(api_.leases().Delete(api_.Context().get(), request, &nothing).ok()) << id;
  }
  std::string Blob(const std::string& lease, const std::string& bytes, const Labels& labels) {
    const auto wrote = api_.WriteBlob("kept " + bytes, bytes, labels, lease);
    EXPECT_TRUE(wrote.ok()) << wrote.status();
    blobs_.insert(Sha256(bytes));
    return Sha256(bytes);
  }
  void Active(const std::string& lease, const std::string& key, const std::string& parent) {
    snapshots_api::PrepareSnapshotRequest request;
    snapshots_api::PrepareSnapshotResponse response;
    request.set_snapshotter("overlayfs");
    request.set_key(key);
    request.set_parent(parent);
    EXPECT_TRUE(api_.snapshots()
                    .Prepare(api_.Context(absl::Seconds(60), lease).get(), request, &response)
                    .ok())
        << key;
    snapshots_.insert(key);
  }
  void Snapshot(const std::string& lease, const std::string& name, const std::string& parent) {
    Active(lease, name + "-active", parent);
    snapshots_api::CommitSnapshotRequest request;
    google::protobuf::Empty nothing;
    request.set_snapshotter("overlayfs");
    request.set_name(name);
    request.set_key(name + "-active");
    EXPECT_TRUE(api_.snapshots()
                    .Commit(api_.Context(absl::Seconds(60), lease).get(), request, &nothing)
                    .ok())
        << name;
    snapshots_.erase(name + "-active");
    snapshots_.insert(name);
  }
  void Image(const std::string& name, const std::string& target, const Labels& labels) {
    images_api::CreateImageRequest request;
    images_api::CreateImageResponse response;
    request.mutable_image()->set_name(name);
    request.mutable_image()->mutable_labels()->insert(labels.begin(), labels.end());
    request.mutable_image()->mutable_target()->set_media_type(
        "application/vnd.oci.image.index.v1+json");
    request.mutable_image()->mutable_target()->set_digest(target);
    request.mutable_image()->mutable_target()->set_size(100);
    EXPECT_TRUE(api_.images().Create(api_.Context().get(), request, &response).ok()) << name;
  }

  ApiClient& api_;
  std::set<std::string> blobs_;
  std::set<std::string> snapshots_;
};

std::set<std::string> NamesIn(const std::string& directory) {
  std::set<std::string> names;
  DIR* open = opendir(directory.c_str());
  if (open == nullptr) return names;
  while (const dirent* entry = readdir(open)) {
    const absl::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace(name);
  }
  closedir(open);
  return names;
}

int64_t SizeOf(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 ? info.st_size : -1;
}

// Each path below `directory`, relative to it, directories before what is in them.
using Visit = std::function<void(const std::string& path, const struct stat& info)>;
void Walk(const std::string& directory, const Visit& visit, const std::string& below = "") {
  for (const std::string& name : NamesIn(absl::StrCat(directory, "/", below))) {
    const std::string path = below.empty() ? name : absl::StrCat(below, "/", name);
    struct stat info;
    if (lstat(absl::StrCat(directory, "/", path).c_str(), &info) != 0) continue;
    visit(path, info);
    if (S_ISDIR(info.st_mode)) Walk(directory, visit, path);
  }
}

// What the file system gives to a tree, as `du` counts it.
int64_t DiskBytes(const std::string& directory) {
  struct stat top;
  if (lstat(directory.c_str(), &top) != 0) return 0;
  int64_t bytes = int64_t{top.st_blocks} * 512;
  std::set<ino_t> seen;
  Walk(directory, [&](const std::string&, const struct stat& info) {
    if (info.st_dev != top.st_dev || !seen.insert(info.st_ino).second) return;
    bytes += int64_t{info.st_blocks} * 512;
  });
  return bytes;
}

class GcTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "the daemon needs root";
    Testbed::Options options;
    // As often as it may.
    options.config =
        "[gc]\npause_threshold = 0.5\ndeletion_threshold = 1\nmutation_threshold = 5\n"
        "schedule_delay = \"0s\"\nstartup_delay = \"1ms\"\n";
    bed_ = std::make_unique<Testbed>(options);
  }

  std::string Blob(const std::string& digest) const {
    return absl::StrCat(bed_->root(), "/content/blobs/sha256/",
                        absl::StripPrefix(digest, "sha256:"));
  }

  // The blob is visible, on disk, and holds what its name says.
  void ExpectWhole(ApiClient& api, const std::string& digest, std::string* bytes = nullptr) {
    std::string got;
    const absl::Status read = api.ReadBlob(digest, &got).status();
    EXPECT_TRUE(read.ok()) << digest << ": " << read;
    EXPECT_EQ(Sha256(got), digest);
    EXPECT_EQ(SizeOf(Blob(digest)), static_cast<int64_t>(got.size()));
    alive_blobs_.insert(digest);
    if (bytes != nullptr) *bytes = got;
  }

  // `ctl system df`: bytes by kind.
  std::map<std::string, int64_t> Df() const {
    std::map<std::string, int64_t> kinds;
    const std::string told = bed_->CtlOut({"system", "df", "--format", "json"});
    for (const absl::string_view line : absl::StrSplit(told, '\n', absl::SkipEmpty())) {
      const nlohmann::json kind = nlohmann::json::parse(line, nullptr, false);
      EXPECT_FALSE(kind.is_discarded()) << line;
      if (!kind.is_discarded()) kinds[kind["Type"]] = kind["SizeBytes"].get<int64_t>();
    }
    return kinds;
  }

  // The same from the disk alone, kind by kind.
  std::map<std::string, int64_t> DfFromDisk() const {
    const std::string& root = bed_->root();
    int64_t blobs = 0, snapshots = 0;
    for (const std::string& name : NamesIn(root + "/content/blobs/sha256"))
      blobs += SizeOf(Blob(name));
    const std::string overlay = root + "/snapshots/overlayfs/snapshots";
    for (const std::string& id : NamesIn(overlay))
      snapshots += DiskBytes(absl::StrCat(overlay, "/", id, "/fs"));
    std::map<std::string, int64_t> kinds = {
        {"Images and Containers", blobs + snapshots + DiskBytes(root + "/containers")},
        {"Ingests", 0},
        {"Metadata", DiskBytes(root + "/metadata")},
    };
    int64_t named = 0;
    for (const auto& [kind, bytes] : kinds) named += bytes;
    kinds["Other"] = DiskBytes(root) - named;
    return kinds;
  }

  // Files in the root that belong to nothing that is alive.
  std::set<std::string> DeadFiles() const {
    std::set<std::string> dead;
    Walk(bed_->root(), [&](const std::string& path, const struct stat& info) {
      if (S_ISDIR(info.st_mode) || absl::StartsWith(path, "metadata/")) return;
      if (path == "lock" || path == "uuid" || path == "content/state") return;
      if (absl::StartsWith(path, "mount-points/") || path == "events/journal") return;
      const std::vector<std::string> parts = absl::StrSplit(path, '/');
      if (absl::StartsWith(path, "content/blobs/sha256/") &&
          alive_blobs_.count("sha256:" + parts.back()) > 0) {
        return;
      }
      // That there is a directory for each living snapshot and no other is looked at by their
      // number.
      if (absl::StartsWith(path, "snapshots/overlayfs/snapshots/") && parts.size() > 5 &&
          parts[4] == "fs") {
        return;
      }
      dead.insert(path);
    });
    return dead;
  }

  std::unique_ptr<Testbed> bed_;
  std::set<std::string> alive_blobs_;
  std::set<std::string> alive_snapshots_;
};

TEST_F(GcTest, RacesAndKillsLoseNothingAndLeaveNothing) {
  const std::string archive = bed_->scratch() + "/image.tar";
  ASSERT_TRUE(WriteBusyboxArchive(archive, "loaded:test").ok());
  ApiClient api(bed_->address(), bed_->ns());
  Keepsakes keepsakes(api);
  keepsakes.Make();

  std::atomic<bool> stop = false;
  std::atomic<int> calls = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      Client client(*bed_, i + 1);
      while (!stop) calls += client.Step();
    });
  }
  // Real images, unpacked; loaded and removed by a client program that may lose its daemon.
  threads.emplace_back([&] {
    while (!stop) {
      bed_->Ctl({"load", "-q", "-i", archive});
      bed_->Ctl({"rmi", "-f", "loaded:test"});
    }
  });
  const auto work_on = [&] {
    const int before = calls;
    return Eventually([&] { return calls >= before + kCallsBetweenKills; }, absl::Minutes(2));
  };
  for (int kill = 0; kill < kKills; ++kill) {
    EXPECT_TRUE(work_on());
    bed_->KillDaemon();
    EXPECT_TRUE(bed_->StartDaemon());
  }
  EXPECT_TRUE(work_on());
  stop = true;
  for (std::thread& thread : threads) thread.join();

  // The leases of the clients that were killed are not ended by them any more.
  leases_api::ListResponse leases;
  ASSERT_TRUE(api.leases().List(api.Context().get(), {}, &leases).ok());
  for (const leases_api::Lease& lease : leases.leases()) {
    if (Keepsakes::IsLease(lease.id())) continue;
    leases_api::DeleteRequest request;
    google::protobuf::Empty nothing;
    request.set_id(lease.id());
    // Some run out right now.
    const absl::Status ended =
        FromGrpc(api.leases().Delete(api.Context().get(), request, &nothing));
    EXPECT_TRUE(ended.ok() || absl::IsNotFound(ended)) << lease.id() << ": " << ended;
  }
  content_api::ListStatusesResponse ingests;
  ASSERT_TRUE(api.content().ListStatuses(api.Context().get(), {}, &ingests).ok());
  for (const content_api::Status& status : ingests.statuses()) {
    content_api::AbortRequest request;
    google::protobuf::Empty nothing;
    request.set_ref(status.ref());
    const absl::Status aborted =
        FromGrpc(api.content().Abort(api.Context().get(), request, &nothing));
    EXPECT_TRUE(aborted.ok() || absl::IsNotFound(aborted)) << status.ref() << ": " << aborted;
  }
  ASSERT_TRUE(Ok(bed_->Ctl({"load", "-q", "-i", archive})));
  ASSERT_TRUE(Ok(bed_->Ctl({"gc", "-q"})));

  // Every live object is whole.
  images_api::ListImagesResponse images;
  ASSERT_TRUE(api.images().List(api.Context().get(), {}, &images).ok());
  for (const images_api::Image& image : images.images()) {
    SCOPED_TRACE(image.name());
    if (!absl::StartsWith(image.name(), "image-")) continue;  // looked at below
    std::string bytes;
    ExpectWhole(api, image.target().digest(), &bytes);
    const nlohmann::json manifest = nlohmann::json::parse(bytes, nullptr, false);
    ASSERT_FALSE(manifest.is_discarded()) << bytes;
    ExpectWhole(api, manifest["config"]);
    for (const std::string layer : manifest["layers"]) ExpectWhole(api, layer);
    alive_snapshots_.insert(std::string(manifest["chain"]));
  }
  for (const std::string& digest : keepsakes.blobs()) ExpectWhole(api, digest);
  alive_snapshots_.insert(keepsakes.snapshots().begin(), keepsakes.snapshots().end());
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", "loaded:test", "echo", "whole"}), "whole");
  containers_api::ListContainersResponse containers;
  ASSERT_TRUE(api.containers().List(api.Context().get(), {}, &containers).ok());
  for (const containers_api::Container& container : containers.containers())
    alive_snapshots_.insert(container.snapshot_key());
  // A container keeps its snapshot, that one its parent.
  for (const std::string& key : std::set<std::string>(alive_snapshots_)) {
    snapshots_api::StatSnapshotRequest request;
    snapshots_api::StatSnapshotResponse response;
    request.set_snapshotter("overlayfs");
    request.set_key(key);
    const grpc::Status found = api.snapshots().Stat(api.Context().get(), request, &response);
    EXPECT_TRUE(found.ok()) << "snapshot " << key << ": " << found.error_message();
    if (!response.info().parent().empty()) alive_snapshots_.insert(response.info().parent());
  }

  // Without the loaded image and what was leased, all that is left is what was just counted. The
  // collection is the ordinary one that a client waits for, not `ctl gc`, which looks through the
  // whole disk.
  ASSERT_TRUE(Ok(bed_->Ctl({"rmi", "-f", "loaded:test"})));
  for (const std::string& digest : keepsakes.EndLeases()) alive_blobs_.erase(digest);
  leases_api::CreateRequest last;
  leases_api::CreateResponse made;
  leases_api::DeleteRequest end;
  google::protobuf::Empty nothing;
  ASSERT_TRUE(api.leases().Create(api.Context().get(), last, &made).ok());
  end.set_id(made.lease().id());
  end.set_sync(true);
  ASSERT_TRUE(api.leases().Delete(api.Context().get(), end, &nothing).ok());
  std::set<std::string> files;
  for (const std::string& name : NamesIn(bed_->root() + "/content/blobs/sha256"))
    files.insert("sha256:" + name);
  EXPECT_EQ(files, alive_blobs_);
  EXPECT_EQ(NamesIn(bed_->root() + "/content/ingest"), std::set<std::string>());

  // And `ctl system df` says the same, blob by blob and snapshot by snapshot.
  const Outcome df = bed_->Ctl({"system", "df", "--owners", "--format", "json"});
  ASSERT_TRUE(Ok(df));
  std::set<std::string> told_blobs, told_snapshots;
  for (const absl::string_view line : absl::StrSplit(df.out, '\n', absl::SkipEmpty())) {
    const nlohmann::json kind = nlohmann::json::parse(line, nullptr, false);
    ASSERT_FALSE(kind.is_discarded()) << line;
    if (!kind.contains("Items") || kind["Items"].is_null()) continue;
    for (const nlohmann::json& item : kind["Items"]) {
      const std::string id = item["ID"], type = item["Type"];
      EXPECT_NE(item["State"], "collectable") << id;
      if (type == "blob") {
        told_blobs.insert(id);
        EXPECT_EQ(item["Size"].get<int64_t>(), SizeOf(Blob(id))) << id;
      }
      if (type == "snapshot") told_snapshots.insert(id.substr(id.find('/') + 1));
      EXPECT_NE(type, "ingest") << id;
    }
  }
  EXPECT_EQ(told_blobs, alive_blobs_);
  EXPECT_EQ(told_snapshots, alive_snapshots_);
  EXPECT_EQ(NamesIn(bed_->root() + "/snapshots/overlayfs/snapshots").size(),
            alive_snapshots_.size());

  // No dead byte is left: every file belongs to something, and df's kinds are what the disk holds,
  // to the byte.
  EXPECT_EQ(DeadFiles(), std::set<std::string>());
  std::map<std::string, int64_t> told, found;
  // The database may be writing a file of its own between the two looks.
  const bool equal = Eventually(
      [&] {
        told = Df();
        told["Images and Containers"] = told["Images"] + told["Containers"];
        for (const char* kind : {"Images", "Containers", "Local Volumes", "Build Cache"})
          told.erase(kind);
        found = DfFromDisk();
        return told == found;
      },
      absl::Seconds(10));
  EXPECT_TRUE(equal) << "df: " << nlohmann::json(told) << "\ndisk: " << nlohmann::json(found);

  for (const containers_api::Container& container : containers.containers()) {
    containers_api::DeleteContainerRequest request;
    google::protobuf::Empty nothing;
    request.set_id(container.id());
    EXPECT_TRUE(api.containers().Delete(api.Context().get(), request, &nothing).ok());
  }
}

}  // namespace
}  // namespace gantry::integration
