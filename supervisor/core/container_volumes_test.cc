// What a container that is being created gets of volumes, and what is left when it does not come.
#include "supervisor/core/container_volumes.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "supervisor/core/volume_fixture.h"

namespace gantry::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;

class ContainerVolumesTest : public VolumeFixture {
 protected:
  void SetUp() override {
    VolumeFixture::SetUp();
    if (IsSkipped()) return;
    given_ = std::make_unique<ContainerVolumes>(ContainerVolumes::Parts{
        volumes_.get(), records_.get(), runs_of_volumes_.get(), dir_.Join("state")});
    image_ = dir_.Join("image");
    WriteImage("srv/www/index.html", "of the image");
  }
  void TearDown() override { EXPECT_THAT(Places(), IsEmpty()); }

  void WriteImage(const std::string& path, const std::string& bytes) {
    const std::string whole = absl::StrCat(image_, "/", path);
    ASSERT_TRUE(MakeDirectories(whole.substr(0, whole.rfind('/')), 0755).ok());
    ASSERT_TRUE(WriteFile(whole, bytes).ok());
  }
  static v1::ContainerConfig With(const std::vector<v1::Mount>& mounts) {
    v1::ContainerConfig config = Config();
    for (const v1::Mount& one : mounts) {
      *config.add_mounts() = one;
      // As a request has it: the name is what Give() fills in.
      config.mutable_mounts(config.mounts_size() - 1)->clear_volume_name();
    }
    return config;
  }
  absl::StatusOr<ContainerVolumes::Given> Give(v1::ContainerConfig& config) {
    const snapshot::Mount root{.type = "bind", .source = image_, .options = {"rbind", "ro"}};
    return given_->Give(context_, "0123", {&root, 1}, config);
  }
  std::vector<std::string> AllVolumes() {
    std::vector<std::string> names;
    const auto listed = volumes_->List(context_, {});
    EXPECT_TRUE(listed.ok()) << listed.status();
    for (const v1::Volume& one : listed->volumes()) names.push_back(one.name());
    return names;
  }

  std::unique_ptr<ContainerVolumes> given_;
  std::string image_;
};

TEST_F(ContainerVolumesTest, NamedVolumesAreMadeAndHeldUntilTheRecordNamesThem) {
  v1::ContainerConfig config = With({VolumeMount("data", "/data")});
  absl::StatusOr<ContainerVolumes::Given> given = Give(config);
  ASSERT_TRUE(given.ok()) << given.status();
  EXPECT_THAT(given->sources(), ElementsAre(Pair("/data", Data("data"))));
  EXPECT_EQ(config.mounts(0).volume_name(), "data");
  EXPECT_TRUE(absl::IsFailedPrecondition(RemoveVolume("data")));
  given->Keep();
  EXPECT_TRUE(RemoveVolume("data").ok());
}

TEST_F(ContainerVolumesTest, OfAContainerThatDoesNotComeAnonymousVolumesGo) {
  v1::ContainerConfig config = With({VolumeMount("data", "/data"), VolumeMount("", "/scratch")});
  {
    const absl::StatusOr<ContainerVolumes::Given> given = Give(config);
    ASSERT_TRUE(given.ok()) << given.status();
    EXPECT_THAT(AllVolumes(), SizeIs(2));
    EXPECT_EQ(config.mounts(1).volume_name().size(), 64u);
    EXPECT_EQ(given->sources().at("/scratch"), Data(config.mounts(1).volume_name()));
  }
  EXPECT_THAT(AllVolumes(), ElementsAre("data"));
  EXPECT_TRUE(RemoveVolume("data").ok());  // not held any more
}

TEST_F(ContainerVolumesTest, WhatIsKeptStays) {
  v1::ContainerConfig config = With({VolumeMount("", "/scratch")});
  {
    absl::StatusOr<ContainerVolumes::Given> given = Give(config);
    ASSERT_TRUE(given.ok());
    // Moved to whoever writes the record; what is left behind gives nothing up.
    ContainerVolumes::Given moved = *std::move(given);
    moved.Keep();
  }
  EXPECT_THAT(AllVolumes(), ElementsAre(config.mounts(0).volume_name()));
  // The next daemon does not take it for one of a container that never came. Its container's record
  // would name it, so that prune would not either.
  ASSERT_TRUE(volumes_->Reconcile().ok());
  EXPECT_THAT(AllVolumes(), SizeIs(1));
}

// From here on syncfs(2) of this thread fails.
bool RefuseSyncfs() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_syncfs, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {static_cast<unsigned short>(std::size(code)), code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

// The named volumes of a container with --rm remain after its removal: their content is synced.
TEST_F(ContainerVolumesTest, OfOneThatRemovesItselfNamedVolumesAreSynced) {
  v1::ContainerConfig named = With({VolumeMount("data", "/srv/www")});
  v1::ContainerConfig anonymous = With({VolumeMount("", "/srv/www")});
  named.set_auto_remove(true);
  anonymous.set_auto_remove(true);
  bool refused = false;
  absl::Status with_name;
  absl::Status without;
  std::thread([&] {
    refused = RefuseSyncfs();
    with_name = Give(named).status();
    without = Give(anonymous).status();
  }).join();
  ASSERT_TRUE(refused);
  EXPECT_THAT(std::string(with_name.message()), HasSubstr("sync "));
  EXPECT_TRUE(without.ok()) << without;  // nobody needs it after a power cut
}

TEST_F(ContainerVolumesTest, AnonymousVolumesOfOneThatRemovesItselfGoAtTheNextStart) {
  v1::ContainerConfig config = With({VolumeMount("", "/scratch")});
  config.set_auto_remove(true);
  absl::StatusOr<ContainerVolumes::Given> given = Give(config);
  ASSERT_TRUE(given.ok());
  given->Keep();
  EXPECT_THAT(AllVolumes(), SizeIs(1));
  MakeServices();
  ASSERT_TRUE(volumes_->Reconcile().ok());
  EXPECT_THAT(AllVolumes(), IsEmpty());
}

TEST_F(ContainerVolumesTest, AFailureHalfWayLeavesNoAnonymousVolume) {
  v1::Mount impossible = VolumeMount("data", "/b");
  impossible.set_volume_driver("nfs-of-a-plugin");
  v1::ContainerConfig config = With({VolumeMount("", "/a"), impossible});
  EXPECT_TRUE(absl::IsNotFound(Give(config).status()));
  EXPECT_THAT(AllVolumes(), IsEmpty());
}

TEST_F(ContainerVolumesTest, AnEmptyVolumeGetsWhatTheImageHasThere) {
  ASSERT_EQ(chmod((image_ + "/srv/www").c_str(), 0750), 0);
  ASSERT_EQ(chown((image_ + "/srv/www").c_str(), 33, 34), 0);
  v1::ContainerConfig config = With({VolumeMount("data", "/srv/www")});
  ASSERT_TRUE(Give(config).ok());
  EXPECT_EQ(ReadIn("data", "index.html"), "of the image");
  struct stat info = {};
  ASSERT_EQ(stat(Data("data").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0750u);
  EXPECT_EQ(info.st_uid, 33u);
  EXPECT_EQ(info.st_gid, 34u);
}

TEST_F(ContainerVolumesTest, AVolumeWithContentIsLeftAsItIs) {
  CreateVolume("data");
  Write("data", "mine", "0");
  v1::ContainerConfig config = With({VolumeMount("data", "/srv/www")});
  ASSERT_TRUE(Give(config).ok());
  EXPECT_THAT(*ListDirectory(Data("data")), ElementsAre("mine"));
}

TEST_F(ContainerVolumesTest, NoCopyWhereNoneIsWanted) {
  v1::Mount mount = VolumeMount("data", "/srv/www");
  mount.set_no_copy(true);
  v1::ContainerConfig config = With({mount});
  ASSERT_TRUE(Give(config).ok());
  EXPECT_THAT(*ListDirectory(Data("data")), IsEmpty());
}

TEST_F(ContainerVolumesTest, LinksOfTheImageStayInTheImage) {
  WriteImage("real/file", "inside");
  ASSERT_EQ(symlink("/real", (image_ + "/link").c_str()), 0);
  ASSERT_EQ(symlink("../../../../../../etc", (image_ + "/climbs").c_str()), 0);
  v1::ContainerConfig config = With(
      {VolumeMount("one", "/link"), VolumeMount("two", "/climbs"), VolumeMount("three", "/x")});
  const absl::Status given = Give(config).status();
  ASSERT_TRUE(given.ok()) << given;
  EXPECT_THAT(*ListDirectory(Data("one")), ElementsAre("file"));
  EXPECT_THAT(*ListDirectory(Data("two")), IsEmpty());  // the image has no /etc
  EXPECT_THAT(*ListDirectory(Data("three")), IsEmpty());
}

TEST_F(ContainerVolumesTest, AnAnonymousVolumeOverAFileIsRefused) {
  WriteImage("etc/app.conf", "x");
  v1::ContainerConfig config = With({VolumeMount("", "/etc/app.conf")});
  const absl::Status refused = Give(config).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("cannot mount volume over existing file, file exists /etc/app.conf"));
  EXPECT_THAT(AllVolumes(), IsEmpty());
}

TEST_F(ContainerVolumesTest, AVolumeWithOptionsIsFilledWhileItIsMounted) {
  CreateTmpfs("scratch");
  ASSERT_TRUE(runs_of_volumes_->Mount(context_, "scratch", "test").ok());
  v1::ContainerConfig config = With({VolumeMount("scratch", "/srv/www")});
  ASSERT_TRUE(Give(config).ok());
  EXPECT_EQ(ReadIn("scratch", "index.html"), "of the image");
  runs_of_volumes_->Unmount(context_, "scratch", "test");
  EXPECT_FALSE(Mounted(Data("scratch")));
  EXPECT_EQ(ReadIn("scratch", "index.html"), "(none)");  // beneath the tmpfs is nothing
}

TEST_F(ContainerVolumesTest, APartOfAVolumeIsReadFromItsPlace) {
  CreateVolume("data");
  Write("data", "site/index.html", "x");
  v1::ContainerConfig config = With({VolumeMount("data", "/www", "site")});
  const absl::StatusOr<ContainerVolumes::Given> given = Give(config);
  ASSERT_TRUE(given.ok());
  EXPECT_THAT(given->sources(), ElementsAre(Pair("/www", runs_of_volumes_->Place("0123", 0))));
}

TEST_F(ContainerVolumesTest, MountsOfAnotherContainerAndOfTheImageAreAdded) {
  v1::Mount read_write = VolumeMount("data", "/data");
  MakeWith("db", {read_write, VolumeMount("logs", "/logs")});
  v1::ContainerConfig config = With({VolumeMount("mine", "/logs")});
  config.add_volumes_from("db:ro");
  ASSERT_TRUE(given_->AddMounts(context_, {"/cache", "/data"}, config).ok());
  std::vector<std::string> mounts;
  for (const v1::Mount& one : config.mounts()) {
    const std::string name = one.volume_name().empty() ? one.source() : one.volume_name();
    mounts.push_back(one.target() + "=" + name + (one.read_only() ? " ro" : ""));
  }
  EXPECT_THAT(mounts, testing::UnorderedElementsAre("/logs=mine", "/data=data ro", "/cache="));
}

TEST_F(ContainerVolumesTest, WhatCannotBeAddedIsNamed) {
  v1::ContainerConfig config = Config();
  config.add_volumes_from("nobody");
  EXPECT_TRUE(absl::IsNotFound(given_->AddMounts(context_, {}, config)));
  config.set_volumes_from(0, "db:rx");
  EXPECT_TRUE(absl::IsInvalidArgument(given_->AddMounts(context_, {}, config)));
  v1::ContainerConfig plain = Config();
  EXPECT_TRUE(absl::IsInvalidArgument(given_->AddMounts(context_, {"cache"}, plain)));
  EXPECT_TRUE(absl::IsInvalidArgument(given_->AddMounts(context_, {"/"}, plain)));
}

}  // namespace
}  // namespace gantry::core
