#include "supervisor/runtime/bundle.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::runtime {
namespace {

constexpr char kSpec[] = R"({"ociVersion":"1.0.2"})";

class BundleTest : public testing::Test {
 protected:
  std::unique_ptr<BundleStore> Open(const std::string& boot_id = "boot-1") {
    absl::StatusOr<std::unique_ptr<BundleStore>> store =
        BundleStore::Open(dir_.path(), /*private_mount=*/false, boot_id);
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  static LaunchRecord Request() {
    LaunchRecord launch;
    launch.create.mutable_runtime()->set_name("crun");
    launch.create.mutable_runtime()->set_path("/usr/bin/crun");
    launch.create.mutable_stdio()->set_stdout("/run/fifo/out \"quoted\"");
    launch.create.set_start(true);
    launch.cgroup_path = "/default/web";
    launch.private_pid_namespace = true;
    launch.created_at = absl::FromUnixMicros(1700000000123456);
    return launch;
  }
  TempDir dir_;
};

TEST_F(BundleTest, LoadReturnsWhatCreateWasGiven) {
  const auto store = Open();
  const absl::StatusOr<Bundle> made = store->Create({"default", "web"}, kSpec, Request());
  ASSERT_TRUE(made.ok()) << made.status();
  const absl::StatusOr<Bundle> loaded = Open()->Load({"default", "web"});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->path(), dir_.path() + "/tasks/default/web");
  EXPECT_EQ(loaded->launch().create.SerializeAsString(), Request().create.SerializeAsString());
  EXPECT_EQ(loaded->launch().cgroup_path, "/default/web");
  EXPECT_TRUE(loaded->launch().private_pid_namespace);
  EXPECT_EQ(loaded->launch().boot_id, "boot-1");
  EXPECT_EQ(loaded->launch().created_at, absl::FromUnixMicros(1700000000123456));
  EXPECT_EQ(loaded->socket_path(), made->socket_path());
  EXPECT_EQ(loaded->ReadConfig().value(), kSpec);
}

TEST_F(BundleTest, WhatCouldNotBeRemovedIsRemovedWithTheNextCreation) {
  const auto store = Open();
  ASSERT_TRUE(store->Create({"ns", "one"}, "{}", {}).ok());
  rlimit old;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  const rlimit none = {3, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const absl::Status removed = store->Remove({"ns", "one"});
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
  EXPECT_FALSE(removed.ok());
  EXPECT_EQ(access(store->PathOf({"ns", "one"}).c_str(), F_OK), 0);
  ASSERT_TRUE(store->Create({"ns", "two"}, "{}", {}).ok());
  EXPECT_NE(access(store->PathOf({"ns", "one"}).c_str(), F_OK), 0);
  EXPECT_EQ(access(store->PathOf({"ns", "two"}).c_str(), F_OK), 0);
}

TEST_F(BundleTest, WhatAFailedCreationCouldNotRemoveIsSwept) {
  const auto store = Open();
  ASSERT_TRUE(store->Create({"ns", "one"}, "{}", {}).ok());
  rlimit old;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  const rlimit none = {3, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const absl::Status created = store->Create({"ns", "two"}, "{}", {}).status();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
  EXPECT_FALSE(created.ok());
  EXPECT_EQ(access(store->PathOf({"ns", "two"}).c_str(), F_OK), 0);
  EXPECT_TRUE(store->SweepLeftovers().ok());
  EXPECT_NE(access(store->PathOf({"ns", "two"}).c_str(), F_OK), 0);
  EXPECT_TRUE(store->Load({"ns", "one"}).ok());
}

TEST_F(BundleTest, DirectoryIsOpenToTheContainersRootOnly) {
  const auto store = Open();
  const auto mode = [](const std::string& path) {
    struct stat info = {};
    EXPECT_EQ(stat(path.c_str(), &info), 0) << path;
    return info.st_mode & 07777;
  };
  const absl::StatusOr<Bundle> bundle = store->Create({"default", "web"}, kSpec, {});
  ASSERT_TRUE(bundle.ok());
  EXPECT_EQ(mode(bundle->path()), 0700u);
  EXPECT_EQ(mode(bundle->config_path()), 0600u);
  EXPECT_EQ(mode(bundle->path() + "/launch.json"), 0600u);
  EXPECT_EQ(mode(dir_.path() + "/s"), 0700u);
  if (geteuid() != 0) GTEST_SKIP() << "chown of a user namespace's bundle needs root";
  LaunchRecord launch = Request();
  launch.root_gid = 231072;
  const absl::StatusOr<Bundle> mapped = store->Create({"default", "mapped"}, kSpec, launch);
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  EXPECT_EQ(mode(mapped->path()), 0710u);
  struct stat info = {};
  ASSERT_EQ(stat(mapped->path().c_str(), &info), 0);
  EXPECT_EQ(info.st_gid, 231072u);
}

TEST_F(BundleTest, SecondCreateIsRefusedAndChangesNothing) {
  const auto store = Open();
  ASSERT_TRUE(store->Create({"default", "web"}, kSpec, Request()).ok());
  EXPECT_EQ(store->Create({"default", "web"}, "{}", {}).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(store->Load({"default", "web"})->ReadConfig().value(), kSpec);
}

TEST_F(BundleTest, NamesThatAreNoDirectoryNamesAreRefused) {
  const auto store = Open();
  for (const std::string& id : {std::string(""), std::string(".."), std::string("a/b"),
                                std::string("../x"), std::string("a\0b", 3), std::string(".hidden"),
                                std::string(4096, 'a'), std::string("a b"), std::string("-rm")}) {
    EXPECT_EQ(store->Create({"default", id}, kSpec, {}).status().code(),
              absl::StatusCode::kInvalidArgument)
        << id;
    EXPECT_EQ(store->Create({id, "web"}, kSpec, {}).status().code(),
              absl::StatusCode::kInvalidArgument)
        << id;
    EXPECT_EQ(store->Remove({"default", id}).code(), absl::StatusCode::kInvalidArgument) << id;
  }
  EXPECT_TRUE(store->List()->empty());
}

TEST_F(BundleTest, LostOrDamagedLaunchRecordIsDataLoss) {
  const auto store = Open();
  ASSERT_TRUE(store->Create({"default", "lost"}, kSpec, {}).ok());
  ASSERT_TRUE(store->Create({"default", "cut"}, kSpec, {}).ok());
  ASSERT_TRUE(store->Create({"default", "other"}, kSpec, {}).ok());
  ASSERT_EQ(unlink((store->PathOf({"default", "lost"}) + "/launch.json").c_str()), 0);
  ASSERT_TRUE(WriteFile(store->PathOf({"default", "cut"}) + "/launch.json", "{\"version\":").ok());
  ASSERT_EQ(rename((store->PathOf({"default", "other"}) + "/launch.json").c_str(),
                   (store->PathOf({"default", "lost"}) + "/launch.json").c_str()),
            0);
  EXPECT_EQ(store->Load({"default", "lost"}).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(store->Load({"default", "cut"}).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(store->Load({"default", "other"}).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(store->Load({"default", "never"}).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(BundleTest, ListShowsEveryBundleAlsoTheDamaged) {
  const auto store = Open();
  ASSERT_TRUE(store->Create({"default", "b"}, kSpec, {}).ok());
  ASSERT_TRUE(store->Create({"default", "a"}, kSpec, {}).ok());
  ASSERT_TRUE(store->Create({"k8s.io", "c"}, kSpec, {}).ok());
  ASSERT_EQ(unlink((store->PathOf({"default", "b"}) + "/launch.json").c_str()), 0);
  const absl::StatusOr<std::vector<FoundBundle>> found = store->List();
  ASSERT_TRUE(found.ok());
  ASSERT_EQ(found->size(), 3u);
  EXPECT_EQ((*found)[0].key, (TaskKey{"default", "a"}));
  EXPECT_TRUE((*found)[0].bundle.ok());
  EXPECT_EQ((*found)[1].key, (TaskKey{"default", "b"}));
  EXPECT_FALSE((*found)[1].bundle.ok());
  EXPECT_EQ((*found)[2].key, (TaskKey{"k8s.io", "c"}));
}

TEST_F(BundleTest, RemoveTakesDirectoryAndSocketAndIsRepeatable) {
  const auto store = Open();
  const absl::StatusOr<Bundle> bundle = store->Create({"default", "web"}, kSpec, {});
  ASSERT_TRUE(bundle.ok());
  ASSERT_TRUE(WriteFile(bundle->socket_path(), "").ok());
  EXPECT_TRUE(store->Remove({"default", "web"}).ok());
  EXPECT_TRUE(store->Remove({"default", "web"}).ok());
  EXPECT_EQ(access(bundle->path().c_str(), F_OK), -1);
  EXPECT_EQ(access(bundle->socket_path().c_str(), F_OK), -1);
}

TEST_F(BundleTest, OpenRemovesSocketsWithoutABundle) {
  const auto store = Open();
  const absl::StatusOr<Bundle> bundle = store->Create({"default", "web"}, kSpec, {});
  ASSERT_TRUE(bundle.ok());
  ASSERT_TRUE(WriteFile(bundle->socket_path(), "").ok());
  ASSERT_TRUE(WriteFile(dir_.path() + "/s/0123456789abcdef", "").ok());
  (void)Open();
  EXPECT_EQ(access(bundle->socket_path().c_str(), F_OK), 0);
  EXPECT_EQ(access((dir_.path() + "/s/0123456789abcdef").c_str(), F_OK), -1);
}

TEST_F(BundleTest, SocketPathsDifferPerNamespaceAndFit) {
  const auto store = Open();
  const std::string id(255, 'x');
  const std::string one = store->SocketPathOf({"a", id});
  const std::string two = store->SocketPathOf({"b", id});
  EXPECT_NE(one, two);
  EXPECT_EQ(one.size(), dir_.path().size() + 3 + 16);
}

TEST(BundleStoreTest, StateDirectoryTooLongForSocketsIsRefused) {
  const absl::StatusOr<std::unique_ptr<BundleStore>> store =
      BundleStore::Open("/tmp/" + std::string(84, 'd'), false, "boot");
  EXPECT_EQ(store.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(store.status().message().find("at most 88"), std::string::npos) << store.status();
  EXPECT_EQ(BundleStore::Open("relative", false, "boot").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(BundleTest, ShimProcessComesBackAndDamageIsNoticed) {
  const auto store = Open();
  const absl::StatusOr<Bundle> bundle = store->Create({"default", "web"}, kSpec, {});
  ASSERT_TRUE(bundle.ok());
  EXPECT_EQ(bundle->ReadShimProcess().status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(bundle->WriteShimProcess({4711, 123456789012}).ok());
  EXPECT_EQ(bundle->ReadShimProcess().value(), (ShimProcess{4711, 123456789012}));
  ASSERT_TRUE(WriteFile(bundle->path() + "/shim.json", "{\"pid\":47").ok());
  EXPECT_EQ(bundle->ReadShimProcess().status().code(), absl::StatusCode::kDataLoss);
}

TEST(ReadStartTimeTest, LiveProcessHasOneAndItStays) {
  const absl::StatusOr<uint64_t> start = ReadStartTime(getpid());
  ASSERT_TRUE(start.ok()) << start.status();
  EXPECT_GT(*start, 0u);
  EXPECT_EQ(ReadStartTime(getpid()).value(), *start);
  EXPECT_EQ(ReadStartTime(-1).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace gantry::runtime
