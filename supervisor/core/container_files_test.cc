// Files of containers, seen through links and mounts, of those that run and of those that do not.
//
// Needs root: a container's tree is entered by mounting it.
#include "supervisor/core/container_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "base/file.h"
#include "base/tar/entry.h"
#include "base/tar/reader.h"
#include "base/tar/writer.h"
#include "base/utf8.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_files.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "supervisor/core/container_fixture.h"
#include "supervisor/core/resident_process.h"

namespace gantry::core {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Key;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

// What an archive holds, by path.
struct Member {
  TarEntry entry;
  std::string data;
};
using Members = std::map<std::string, Member>;

class ContainerFilesTest : public ContainerFixture {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    ContainerFiles::Parts parts = {};
    parts.records = records_.get();
    parts.stores = &stores_;
    parts.tasks = tasks_.get();
    parts.images = nullptr;  // for commits only
    parts.mount_points = &mount_points_;
    parts.state_directory = dir_.Join("state");
    files_ = std::make_unique<ContainerFiles>(parts);
    id_ = Make("web");
    root_ = RootOf(id_);
  }
  // Nothing is left mounted or lying about.
  void TearDown() override {
    const absl::StatusOr<std::vector<std::string>> left = ListDirectory(dir_.Join("state/mounts"));
    if (left.ok()) {
      EXPECT_THAT(*left, IsEmpty());
    }
  }

  std::string RootOf(const std::string& id) {
    return stores_.Snapshots("native", {kNs, ""})->Mounts(id)->at(0).source;
  }
  void Write(const std::string& path, const std::string& bytes, mode_t mode = 0644) {
    ASSERT_TRUE(WriteFile(path, bytes).ok()) << path;
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
  }
  void Directory(const std::string& path) { ASSERT_TRUE(MakeDirectories(path, 0755).ok()); }
  void Link(const std::string& target, const std::string& path) {
    ASSERT_EQ(symlink(target.c_str(), path.c_str()), 0) << path;
  }
  // Changes the container's spec, as it is stored, to one with these mounts.
  void SetMounts(const std::string& json) {
    record::v1::Container record = records_->Load(context_, id_)->record;
    record.mutable_spec()->set_value(
        absl::StrCat(R"({"ociVersion":"1.0.2","process":{"args":["true"],"cwd":"/"},)",
                     R"("root":{"path":"rootfs"},"mounts":[)", json, "]}"));
    const auto updated = stores_.containers.Update({kNs, ""}, record, {"spec"});
    ASSERT_TRUE(updated.ok()) << updated.status();
  }

  absl::StatusOr<v1::PathStat> Stat(const std::string& path) {
    v1::StatPathRequest request;
    request.set_container("web");
    request.set_path(path);
    return files_->StatPath(context_, request);
  }
  static absl::StatusOr<Members> Read(const std::string& archive) {
    StringSource source(archive);
    TarReader reader(source);
    Members members;
    for (;;) {
      TarEntry entry;
      absl::StatusOr<bool> more = reader.Next(entry);
      if (!more.ok()) return more.status();
      if (!*more) return members;
      absl::StatusOr<std::string> data = reader.ReadAll(64 << 20);
      if (!data.ok()) return data.status();
      members[entry.path] = {entry, *std::move(data)};
    }
  }
  absl::StatusOr<Members> CopyFrom(const std::string& path, v1::PathStat* stat = nullptr) {
    v1::CopyFromRequest request;
    request.set_container("web");
    request.set_path(path);
    StringSink out;
    const absl::Status copied = files_->CopyFrom(
        context_, request,
        [&](const v1::PathStat& first) {
          EXPECT_EQ(out.str(), "");  // before any of the archive
          if (stat != nullptr) *stat = first;
          return absl::OkStatus();
        },
        out);
    if (!copied.ok()) return copied;
    return Read(out.str());
  }
  // What one file of a copy holds, or why there is none.
  std::string CopiedData(const std::string& path, const std::string& member) {
    const absl::StatusOr<Members> read = CopyFrom(path);
    if (!read.ok()) return read.status().ToString();
    const auto found = read->find(member);
    return found == read->end() ? absl::StrCat("no member ", member) : found->second.data;
  }
  v1::PathStat Look(const std::string& path) {
    const absl::StatusOr<v1::PathStat> stat = Stat(path);
    EXPECT_TRUE(stat.ok()) << stat.status();
    return stat.ok() ? *stat : v1::PathStat();
  }
  static std::string Tar(const std::vector<std::pair<TarEntry, std::string>>& members) {
    StringSink out;
    TarWriter tar(out);
    for (const auto& [entry, bytes] : members) {
      EXPECT_TRUE(
          (entry.type == TarType::kFile ? tar.WriteFile(entry, bytes) : tar.WriteEntry(entry))
              .ok());
    }
    EXPECT_TRUE(tar.Finish().ok());
    return out.str();
  }
  static TarEntry File(const std::string& path, uint32_t mode = 0644) {
    TarEntry entry;
    entry.path = path;
    entry.mode = mode;
    return entry;
  }
  absl::Status CopyTo(const std::string& path, const std::string& archive,
                      v1::CopyToRequest::Open open = {}) {
    open.set_container("web");
    open.set_path(path);
    StringSource source(archive);
    return files_->CopyTo(context_, open, source);
  }
  absl::Status CopyTo(const std::string& path, const std::string& name, const std::string& bytes) {
    return CopyTo(path, Tar({{File(name), bytes}}));
  }
  absl::StatusOr<Members> Export() {
    StringSink out;
    const absl::Status exported = files_->Export(context_, "web", out);
    if (!exported.ok()) return exported;
    return Read(out.str());
  }
  std::string Text(const std::string& path) {
    return ReadFile(path, 1 << 20).value_or("<not there>");
  }

  std::unique_ptr<ContainerFiles> files_;
  std::string id_;
  std::string root_;  // its root file system, on the host
};

// What must be the same whether or not the container runs.
class ContainerFilesEitherWayTest : public ContainerFilesTest,
                                    public ::testing::WithParamInterface<bool> {
 protected:
  // To be called when the tree is as it should be.
  void Begin() {
    if (!GetParam()) return;
    resident_.emplace(root_);
    launcher_.OnLaunch([pid = resident_->pid()](runtime::FakeShim& shim) { shim.SetNextPid(pid); });
    ASSERT_TRUE(Start(id_).ok());
  }

 private:
  std::optional<Resident> resident_;
};

INSTANTIATE_TEST_SUITE_P(Container, ContainerFilesEitherWayTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Running" : "Stopped"; });

TEST_P(ContainerFilesEitherWayTest, StatTellsTheKindsApart) {
  Write(root_ + "/tool", "12345", 04755);
  Directory(root_ + "/etc");
  Link("../etc/./passwd", root_ + "/etc/link");
  Begin();
  absl::StatusOr<v1::PathStat> stat = Stat("/tool");
  ASSERT_TRUE(stat.ok()) << stat.status();
  EXPECT_EQ(stat->name(), "tool");
  EXPECT_EQ(stat->size_bytes(), 5);
  EXPECT_EQ(stat->mode(), static_cast<uint32_t>(S_IFREG | 04755));
  EXPECT_GT(stat->modified_at().seconds(), 0);
  EXPECT_EQ(stat->link_target(), "");
  stat = Stat("etc/");  // a path needs no slash in front, and may have one behind
  ASSERT_TRUE(stat.ok()) << stat.status();
  EXPECT_EQ(stat->name(), "etc");
  EXPECT_TRUE(S_ISDIR(stat->mode()));
  stat = Stat("/etc/link");
  ASSERT_TRUE(stat.ok()) << stat.status();
  EXPECT_TRUE(S_ISLNK(stat->mode()));
  EXPECT_EQ(stat->link_target(), "/etc/passwd");  // also while nothing is there
  EXPECT_EQ(Look("/").name(), "/");
  EXPECT_EQ(Look("/etc/.").name(), ".");
}

TEST_P(ContainerFilesEitherWayTest, WhatIsNotThereOrNoPathIsSaid) {
  Write(root_ + "/file", "x");
  Begin();
  absl::Status status = Stat("/etc/none").status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_EQ(status.message(), "no such file or directory in container web: /etc/none");
  EXPECT_TRUE(absl::IsNotFound(CopyFrom("/none").status()));
  EXPECT_TRUE(absl::IsNotFound(CopyTo("/none", "f", "x")));
  status = CopyTo("/file", "f", "x");
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_EQ(status.message(), "/file is not a directory in container web");
  status = Stat("/file/below").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  for (const std::string& path :
       {std::string(), std::string("/a\0b", 4), "/" + std::string(5000, 'x')})
    EXPECT_TRUE(absl::IsInvalidArgument(Stat(path).status())) << Stat(path).status();
  v1::StatPathRequest request;
  request.set_container("nobody");
  request.set_path("/");
  EXPECT_TRUE(absl::IsNotFound(files_->StatPath(context_, request).status()));
}

TEST_P(ContainerFilesEitherWayTest, LinksLeadNowhereOutside) {
  Write(root_ + "/../secret", "of the host");
  Directory(root_ + "/real");
  Write(root_ + "/real/file", "inside");
  Link("/real", root_ + "/absolute");
  Link("../../../../../../real", root_ + "/climbing");
  Link("absolute/../climbing", root_ + "/chain");
  Link("../secret", root_ + "/out");
  Begin();
  for (const char* link : {"absolute", "climbing", "chain"}) {
    EXPECT_EQ(Look(absl::StrCat("/", link)).link_target(), "/real") << link;
    EXPECT_EQ(CopiedData(absl::StrCat("/", link, "/file"), "file"), "inside");
  }
  EXPECT_EQ(Look("/out").link_target(), "/secret");
  EXPECT_TRUE(absl::IsNotFound(Stat("/out/.").status()));
  EXPECT_TRUE(absl::IsNotFound(Stat("/../secret").status()));
  EXPECT_EQ(Look("/../../real/../real/file").size_bytes(), 6);
  // A final link is copied as it is.
  const absl::StatusOr<Members> link = CopyFrom("/out");
  ASSERT_TRUE(link.ok()) << link.status();
  EXPECT_EQ(link->at("out").entry.type, TarType::kSymlink);
  EXPECT_EQ(link->at("out").entry.link_target, "../secret");
  ASSERT_TRUE(CopyTo("/absolute", "new", "written").ok());
  EXPECT_EQ(Text(root_ + "/real/new"), "written");
}

TEST_P(ContainerFilesEitherWayTest, LinksInACircleEnd) {
  Link("/b", root_ + "/a");
  Link("/a", root_ + "/b");
  Begin();
  for (const absl::Status& status :
       {Stat("/a").status(), Stat("/a/x").status(), CopyTo("/a", "f", "x")}) {
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("/a"), HasSubstr("symbolic links")));
  }
}

TEST_P(ContainerFilesEitherWayTest, NamesThatAreNoTextAreCopiedAndShown) {
  const std::string name = "caf\xe9";
  Directory(root_ + "/d");
  Write(root_ + "/d/" + name, "bytes");
  Link(name, root_ + "/d/link");
  Begin();
  const absl::StatusOr<Members> read = CopyFrom("/d");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->at("d/" + name).data, "bytes");
  EXPECT_EQ(read->at("d/link").entry.link_target, name);
  const absl::StatusOr<v1::PathStat> stat = Stat("/d/link");
  ASSERT_TRUE(stat.ok()) << stat.status();
  EXPECT_EQ(stat->link_target(), "/d/" + name);
  ASSERT_TRUE(CopyTo("/", "in-" + name, "in").ok());
  EXPECT_EQ(Text(root_ + "/in-" + name), "in");
}

TEST_P(ContainerFilesEitherWayTest, ADirectoryIsCopiedWithOrWithoutItsName) {
  Directory(root_ + "/d/below");
  Write(root_ + "/d/file", "x");
  Begin();
  v1::PathStat stat;
  absl::StatusOr<Members> read = CopyFrom("/d", &stat);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(stat.name(), "d");
  EXPECT_THAT(*read, UnorderedElementsAre(Key("d/"), Key("d/below/"), Key("d/file")));
  for (const char* path : {"/d/.", "/d/below/.."}) {
    read = CopyFrom(path, &stat);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(stat.name(), ".") << path;
    EXPECT_THAT(*read, UnorderedElementsAre(Key("./"), Key("./below/"), Key("./file"))) << path;
  }
}

TEST_P(ContainerFilesEitherWayTest, ModesOwnersAndTimesSurviveTheWayOutAndIn) {
  Write(root_ + "/tool", "#!", 0644);
  ASSERT_EQ(chown((root_ + "/tool").c_str(), 1234, 567), 0);
  ASSERT_EQ(chmod((root_ + "/tool").c_str(), 06751), 0);
  const timespec times[2] = {{1000000000, 5}, {1000000001, 123456789}};
  ASSERT_EQ(utimensat(AT_FDCWD, (root_ + "/tool").c_str(), times, 0), 0);
  Directory(root_ + "/in");
  Directory(root_ + "/plain");
  Begin();
  v1::CopyFromRequest request;
  request.set_container("web");
  request.set_path("/tool");
  StringSink out;
  ASSERT_TRUE(files_
                  ->CopyFrom(
                      context_, request, [](const auto&) { return absl::OkStatus(); }, out)
                  .ok());
  const absl::StatusOr<Members> read = Read(out.str());
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->count("tool"), 1u);
  const TarEntry& entry = read->at("tool").entry;
  EXPECT_EQ(entry.mode, 06751u);
  EXPECT_EQ(entry.uid, 1234u);
  EXPECT_EQ(entry.gid, 567u);
  EXPECT_EQ(entry.mtime, (TarTime{1000000001, 123456789}));

  v1::CopyToRequest::Open open;
  open.set_copy_uid_gid(true);
  ASSERT_TRUE(CopyTo("/in", out.str(), open).ok());
  ASSERT_TRUE(CopyTo("/plain", out.str()).ok());
  struct stat kept;
  struct stat plain;
  ASSERT_EQ(stat((root_ + "/in/tool").c_str(), &kept), 0);
  ASSERT_EQ(stat((root_ + "/plain/tool").c_str(), &plain), 0);
  EXPECT_EQ(kept.st_uid, 1234u);
  EXPECT_EQ(kept.st_gid, 567u);
  EXPECT_EQ(kept.st_mode, static_cast<mode_t>(S_IFREG | 06751));
  EXPECT_EQ(kept.st_mtim.tv_sec, 1000000001);
  EXPECT_EQ(kept.st_mtim.tv_nsec, 123456789);
  EXPECT_EQ(plain.st_uid, 0u);
  EXPECT_EQ(plain.st_gid, 0u);
}

TEST_P(ContainerFilesEitherWayTest, HolesStayHoles) {
  const std::string sparse = root_ + "/sparse";
  Write(sparse, "begin");
  ASSERT_EQ(truncate(sparse.c_str(), 16 << 20), 0);
  Directory(root_ + "/in");
  Begin();
  const absl::StatusOr<Members> read = CopyFrom("/sparse");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->at("sparse").data, "begin" + std::string((16 << 20) - 5, '\0'));
  ASSERT_TRUE(CopyTo("/in", "sparse", read->at("sparse").data).ok());
  struct stat info;
  ASSERT_EQ(stat((root_ + "/in/sparse").c_str(), &info), 0);
  EXPECT_EQ(info.st_size, 16 << 20);
  EXPECT_LT(info.st_blocks * 512, 1 << 20);
}

TEST_P(ContainerFilesEitherWayTest, AnArchiveThatClimbsWritesNothingOutside) {
  Directory(root_ + "/d");
  Link("/outside", root_ + "/d/link");
  Begin();
  const absl::Status climbs = CopyTo("/d", "../../../up", "x");
  EXPECT_TRUE(absl::IsInvalidArgument(climbs)) << climbs;
  EXPECT_NE(access((root_ + "/../up").c_str(), F_OK), 0);
  EXPECT_NE(access((root_ + "/up").c_str(), F_OK), 0);
  TarEntry link;
  link.type = TarType::kSymlink;
  link.path = "host";
  link.link_target = dir_.path();
  // The archive's own link is a link of the container: the host's directory is not there.
  CopyTo("/d", Tar({{link, ""}, {File("host/planted"), "x"}})).IgnoreError();
  EXPECT_NE(access(dir_.Join("planted").c_str(), F_OK), 0);
}

TEST_P(ContainerFilesEitherWayTest, AFileDoesNotReplaceADirectoryUnlessItMay) {
  Directory(root_ + "/d/name");
  Begin();
  v1::CopyToRequest::Open open;
  open.set_no_overwrite_dir_non_dir(true);
  const absl::Status refused = CopyTo("/d", Tar({{File("name"), "x"}}), open);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  struct stat info;
  ASSERT_EQ(stat((root_ + "/d/name").c_str(), &info), 0);
  EXPECT_TRUE(S_ISDIR(info.st_mode));
  ASSERT_TRUE(CopyTo("/d", "name", "x").ok());
  EXPECT_EQ(Text(root_ + "/d/name"), "x");
}

TEST_P(ContainerFilesEitherWayTest, ADamagedArchiveIsSaid) {
  Begin();
  std::string cut = Tar({{File("f"), std::string(2000, 'x')}});
  cut.resize(1024);
  absl::Status status = CopyTo("/", cut);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  status = CopyTo("/", std::string(2048, 'z'));
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
}

TEST_P(ContainerFilesEitherWayTest, AnExportIsTheWholeTree) {
  Directory(root_ + "/etc");
  Write(root_ + "/etc/passwd", "root", 0600);
  Link("/etc/passwd", root_ + "/link");
  ASSERT_EQ(link((root_ + "/etc/passwd").c_str(), (root_ + "/hard").c_str()), 0);
  ASSERT_EQ(mkfifo((root_ + "/pipe").c_str(), 0644), 0);
  Begin();
  const absl::StatusOr<Members> all = Export();
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_THAT(*all, UnorderedElementsAre(Key("etc/"), Key("etc/passwd"), Key("link"), Key("hard"),
                                         Key("pipe")));
  EXPECT_EQ(all->at("etc/passwd").data, "root");
  EXPECT_EQ(all->at("etc/passwd").entry.mode, 0600u);
  EXPECT_EQ(all->at("hard").entry.type, TarType::kHardLink);
  EXPECT_EQ(all->at("pipe").entry.type, TarType::kFifo);
}

TEST_P(ContainerFilesEitherWayTest, ACancelledCopyEnds) {
  Write(root_ + "/file", std::string(1 << 20, 'x'));
  Begin();
  CancelToken cancel;
  cancel.Cancel();
  context_.cancel = &cancel;
  EXPECT_TRUE(absl::IsCancelled(CopyFrom("/file").status())) << CopyFrom("/file").status();
  EXPECT_TRUE(absl::IsCancelled(Export().status())) << Export().status();
}

TEST_P(ContainerFilesEitherWayTest, ASinkThatFailsEndsTheCopyWithItsError) {
  Write(root_ + "/file", std::string(1 << 20, 'x'));
  Begin();
  class Full : public ByteSink {
    absl::Status Write(absl::string_view) override {
      return absl::ResourceExhaustedError("the client is full");
    }
  } full;
  const absl::Status status = files_->Export(context_, "web", full);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  v1::CopyFromRequest request;
  request.set_container("web");
  request.set_path("/file");
  StringSink out;
  EXPECT_TRUE(absl::IsAborted(files_->CopyFrom(
      context_, request, [](const auto&) { return absl::AbortedError("gone"); }, out)));
  EXPECT_EQ(out.str(), "");
}

TEST_F(ContainerFilesTest, BindMountsOfAStoppedContainerAreThere) {
  const std::string data = dir_.Join("data");
  const std::string conf = dir_.Join("conf");
  for (const std::string& directory : {data, conf}) Directory(directory);
  Write(data + "/file", "of the volume");
  Write(conf + "/file", "settings");
  Write(dir_.Join("hosts"), "127.0.0.1");
  Directory(root_ + "/real");
  Link("/real", root_ + "/linked");
  SetMounts(absl::StrCat(
      R"({"destination":"/data","type":"bind","source":")", data, R"(","options":["rbind"]},)",
      R"({"destination":"/linked/conf","source":")", conf, R"(","options":["bind","ro"]},)",
      R"({"destination":"/etc/hosts","type":"bind","source":")", dir_.Join("hosts"),
      R"(","options":["bind"]},)", R"({"destination":"/proc","type":"proc","source":"proc"})"));
  EXPECT_EQ(CopiedData("/data/file", "file"), "of the volume");
  EXPECT_EQ(CopiedData("/real/conf/file", "file"), "settings");
  EXPECT_EQ(CopiedData("/etc/hosts", "hosts"), "127.0.0.1");

  ASSERT_TRUE(CopyTo("/data", "new", "written").ok());
  EXPECT_EQ(Text(data + "/new"), "written");
  const absl::Status refused = CopyTo("/linked/conf", "new", "x");
  EXPECT_TRUE(absl::IsPermissionDenied(refused)) << refused;
  EXPECT_NE(access((conf + "/new").c_str(), F_OK), 0);
  // An export is of the root file system alone.
  const absl::StatusOr<Members> all = Export();
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_THAT(*all, AllOf(Contains(Key("data/")), Not(Contains(Key("data/file")))));
}

TEST_F(ContainerFilesTest, AMountThatCannotBeMadeIsNamed) {
  SetMounts(R"({"destination":"/data","type":"bind","source":"/no/such/dir","options":["bind"]})");
  const absl::Status status = Stat("/").status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("mount /no/such/dir at /data"));
}

TEST_F(ContainerFilesTest, ATargetBehindALinkThatClimbsIsMadeInside) {
  const std::string data = dir_.Join("data");
  Directory(data);
  Write(data + "/file", "x");
  Link("../../../../climbed", root_ + "/target");
  SetMounts(absl::StrCat(R"({"destination":"/target/here","type":"bind","source":")", data,
                         R"(","options":["bind"]})"));
  EXPECT_EQ(CopiedData("/climbed/here/file", "file"), "x");
  EXPECT_EQ(access((root_ + "/climbed/here").c_str(), F_OK), 0);
}

TEST_F(ContainerFilesTest, AReadOnlyRootStaysAsItIs) {
  v1::ContainerConfig config = Config();
  config.set_read_only_rootfs(true);
  ASSERT_TRUE(Remove(id_).ok());
  // Its files go in the background, and the next one has the same id here.
  workers_->WaitIdle();
  id_ = Make("web", config);
  root_ = RootOf(id_);
  Directory(root_ + "/d");
  Write(root_ + "/d/file", "x");
  EXPECT_EQ(CopiedData("/d/file", "file"), "x");
  const absl::Status refused = CopyTo("/d", "new", "y");
  EXPECT_TRUE(absl::IsPermissionDenied(refused)) << refused;
  EXPECT_NE(access((root_ + "/d/new").c_str(), F_OK), 0);
}

TEST_F(ContainerFilesTest, MountsOfARunningContainerAreItsOwn) {
  const std::string volume = dir_.Join("volume");
  Directory(volume);
  Write(volume + "/file", "of the volume");
  Directory(root_ + "/data");
  const Resident resident(root_, {{volume, "/data"}});
  launcher_.OnLaunch([&](runtime::FakeShim& shim) { shim.SetNextPid(resident.pid()); });
  ASSERT_TRUE(Start(id_).ok());
  EXPECT_EQ(CopiedData("/data/file", "file"), "of the volume");
  ASSERT_TRUE(CopyTo("/data", "new", "written").ok());
  EXPECT_EQ(Text(volume + "/new"), "written");
  EXPECT_NE(access((root_ + "/data/new").c_str(), F_OK), 0);
  EXPECT_EQ(Look("/data/new").size_bytes(), 7);
}

TEST_F(ContainerFilesTest, AnExportOfARunningContainerIsWithoutItsMounts) {
  Directory(dir_.Join("volume"));
  Write(dir_.Join("volume/file"), "of the volume");
  Write(dir_.Join("key"), "secret");
  Directory(root_ + "/data");
  Write(root_ + "/data/below", "of the image");
  Write(root_ + "/key", "");
  const Resident resident(root_, {{dir_.Join("volume"), "/data"}, {dir_.Join("key"), "/key"}});
  launcher_.OnLaunch([&](runtime::FakeShim& shim) { shim.SetNextPid(resident.pid()); });
  ASSERT_TRUE(Start(id_).ok());
  EXPECT_EQ(CopiedData("/key", "key"), "secret");
  const absl::StatusOr<Members> all = Export();
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_THAT(*all, UnorderedElementsAre(Key("data/"), Key("data/below"), Key("key")));
  EXPECT_EQ(all->at("key").data, "");
}

TEST_F(ContainerFilesTest, AProcessThatIsGoneIsSaid) {
  pid_t ended = 0;
  {
    const Resident resident(root_);
    ended = resident.pid();
    launcher_.OnLaunch([&](runtime::FakeShim& shim) { shim.SetNextPid(resident.pid()); });
    ASSERT_TRUE(Start(id_).ok());
  }
  const absl::Status status = Stat("/").status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status << " of process " << ended;
  EXPECT_THAT(std::string(status.message()), HasSubstr("its mount namespace"));
}

TEST_F(ContainerFilesTest, ChangesAreThoseOfTheContainer) {
  metadata::SnapshotNamespace snapshots = stores_.Snapshots("native", {kNs, ""}).value();
  const std::string base = snapshots.Prepare("base-active", "", {})->at(0).source;
  for (const char* directory : {"/etc", "/var/data"}) Directory(base + directory);
  Write(base + "/etc/kept", "same");
  Write(base + "/etc/changed", "old");
  Write(base + "/etc/removed", "x");
  ASSERT_TRUE(snapshots.Commit("base", "base-active", {}).ok());
  v1::ContainerConfig config = Config();
  v1::Mount* mount = config.add_mounts();
  mount->set_type(v1::Mount::BIND);
  mount->set_source("/srv");
  mount->set_target("/var/mounted");
  ASSERT_TRUE(Remove(id_).ok());
  // Its files go in the background, and the next one has the same id here.
  workers_->WaitIdle();
  id_ = Make("web", config);
  ASSERT_TRUE(snapshots.Remove(id_).ok());
  root_ = snapshots.Prepare(id_, "base", {})->at(0).source;
  Write(root_ + "/etc/changed", "newer");
  ASSERT_EQ(unlink((root_ + "/etc/removed").c_str()), 0);
  Write(root_ + "/etc/added-\xff", "x");
  // What the runtime makes for its mounts is not a change.
  for (const char* made : {"/proc", "/dev", "/var/mounted"}) Directory(root_ + made);
  Write(root_ + "/etc/hosts", "");

  const absl::StatusOr<v1::DiffResponse> diff = view_->Diff(context_, "web");
  ASSERT_TRUE(diff.ok()) << diff.status();
  std::vector<std::pair<std::string, v1::DiffResponse::Kind>> changes;
  for (const auto& change : diff->changes()) changes.emplace_back(change.path(), change.kind());
  EXPECT_THAT(changes,
              ElementsAre(std::pair("/etc", v1::DiffResponse::MODIFIED),
                          std::pair(ToValidUtf8("/etc/added-\xff"), v1::DiffResponse::ADDED),
                          std::pair("/etc/changed", v1::DiffResponse::MODIFIED),
                          std::pair("/etc/removed", v1::DiffResponse::DELETED)));
  // The view of what it was made from is gone.
  std::vector<std::string> keys;
  ASSERT_TRUE(snapshots
                  .Walk([&](const snapshot::Info& info) {
                    keys.push_back(info.name);
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_THAT(keys, UnorderedElementsAre("base", id_));
}

TEST_F(ContainerFilesTest, AContainerWithoutARootOfOursHasNoChanges) {
  metadata::NewContainer fresh;
  fresh.record.set_id("theirs");
  fresh.record.mutable_runtime()->set_name("runc");
  fresh.record.mutable_spec()->set_value("{}");
  ASSERT_TRUE(stores_.containers.Create({kNs, ""}, fresh).ok());
  const absl::Status status = view_->Diff(context_, "theirs").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
}

}  // namespace
}  // namespace gantry::core
