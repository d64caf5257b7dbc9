// Volumes as a whole: out of and into archives, copied, and named for what they were copied from.
#include "supervisor/core/volume_content.h"

#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "base/compression.h"
#include "base/tar/entry.h"
#include "base/tar/reader.h"
#include "base/tar/writer.h"
#include "supervisor/core/volume_fixture.h"

namespace gantry::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::MatchesRegex;
using testing::Pair;

class VolumeContentTest : public VolumeFixture {
 protected:
  void SetUp() override {
    VolumeFixture::SetUp();
    if (IsSkipped()) return;
    content_ = std::make_unique<VolumeContent>(
        VolumeContent::Parts{volumes_.get(), runs_of_volumes_.get(), local_.get()});
  }

  absl::StatusOr<std::string> Export(const std::string& volume) {
    StringSink out;
    const absl::Status exported = content_->Export(context_, volume, out);
    if (!exported.ok()) return exported;
    return std::move(out).str();
  }
  absl::Status Import(const std::string& volume, const std::string& archive) {
    StringSource source(archive);
    return content_->Import(context_, volume, source);
  }
  absl::StatusOr<v1::Volume> Clone(const std::string& source, const std::string& name,
                                   bool snapshot = false) {
    v1::CloneVolumeRequest request;
    request.set_source(source);
    request.set_name(name);
    request.set_snapshot(snapshot);
    (*request.mutable_labels())["tier"] = "db";
    const absl::StatusOr<v1::CloneVolumeResponse> made = content_->Clone(context_, request);
    if (!made.ok()) return made.status();
    return made->volume();
  }
  // Files of an archive, with what is in them.
  static std::map<std::string, std::string> FilesOf(const std::string& archive) {
    std::map<std::string, std::string> files;
    StringSource source(archive);
    TarReader reader(source);
    TarEntry entry;
    for (;;) {
      const absl::StatusOr<bool> more = reader.Next(entry);
      EXPECT_TRUE(more.ok()) << more.status();
      if (!more.ok() || !*more) return files;
      if (entry.type == TarType::kFile) files[entry.path] = reader.ReadAll(1 << 20).value();
    }
  }
  static std::string Archive(const std::vector<std::pair<std::string, std::string>>& files) {
    StringSink out;
    TarWriter tar(out);
    for (const auto& [path, bytes] : files) {
      TarEntry entry;
      entry.path = path;
      entry.mode = 0640;
      entry.uid = 1000;
      entry.gid = 100;
      EXPECT_TRUE(tar.WriteFile(entry, bytes).ok());
    }
    EXPECT_TRUE(tar.Finish().ok());
    return std::move(out).str();
  }

  std::unique_ptr<VolumeContent> content_;
};

TEST_F(VolumeContentTest, AnExportHasNamesRelativeToTheVolume) {
  CreateVolume("data");
  Write("data", "a", "1");
  Write("data", "sub/b", "2");
  EXPECT_THAT(FilesOf(*Export("data")), ElementsAre(Pair("a", "1"), Pair("sub/b", "2")));
}

TEST_F(VolumeContentTest, AnExportDoesNotLeaveTheVolume) {
  CreateVolume("data");
  Write("data", "a", "1");
  Write("data", "sub/hidden", "2");
  ASSERT_EQ(symlink("/etc/passwd", (Data("data") + "/link").c_str()), 0);
  // Something that an administrator mounted inside.
  ASSERT_EQ(mount("none", (Data("data") + "/sub").c_str(), "tmpfs", 0, "size=4k"), 0);
  ASSERT_TRUE(WriteFile(Data("data") + "/sub/foreign", "3").ok());
  EXPECT_THAT(FilesOf(*Export("data")), ElementsAre(Pair("a", "1")));
  ASSERT_EQ(umount2((Data("data") + "/sub").c_str(), MNT_DETACH), 0);
}

TEST_F(VolumeContentTest, WhatWasExportedIsImportedAsItWas) {
  CreateVolume("data");
  Write("data", "sub/b", "2");
  ASSERT_EQ(chmod((Data("data") + "/sub/b").c_str(), 0604), 0);
  ASSERT_EQ(chown((Data("data") + "/sub/b").c_str(), 1000, 100), 0);
  CreateVolume("copy");
  ASSERT_TRUE(Import("copy", *Export("data")).ok());
  EXPECT_EQ(ReadIn("copy", "sub/b"), "2");
  struct stat info = {};
  ASSERT_EQ(stat((Data("copy") + "/sub/b").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0604u);
  EXPECT_EQ(info.st_uid, 1000u);
  EXPECT_EQ(info.st_gid, 100u);
}

TEST_F(VolumeContentTest, ACompressedArchiveIsImportedToo) {
  const std::string tar = Archive({{"a", "1"}});
  for (const Compression kind : {Compression::kGzip, Compression::kZstd}) {
    StringSink out;
    const auto compressor = OpenCompressor(out, kind);
    ASSERT_TRUE(compressor.ok()) << compressor.status();
    ASSERT_TRUE((*compressor)->Write(tar).ok());
    ASSERT_TRUE((*compressor)->Finish().ok());
    const std::string volume = kind == Compression::kGzip ? "gz" : "zst";
    CreateVolume(volume);
    const absl::Status imported = Import(volume, std::move(out).str());
    EXPECT_TRUE(imported.ok()) << imported;
    EXPECT_EQ(ReadIn(volume, "a"), "1");
  }
}

TEST_F(VolumeContentTest, AnEmptyVolumeGetsAllOfAnArchiveOrNothing) {
  CreateVolume("data");
  std::string archive = Archive({{"a", std::string(2000, 'x')}, {"b", std::string(2000, 'y')}});
  archive.resize(archive.size() - 3000);  // in the middle of b
  const absl::Status refused = Import("data", archive);
  EXPECT_FALSE(refused.ok());
  EXPECT_THAT(*ListDirectory(Data("data")), IsEmpty());
  // Nothing of it stands in the way of the next.
  ASSERT_TRUE(Import("data", Archive({{"a", "1"}})).ok());
  EXPECT_EQ(ReadIn("data", "a"), "1");
}

TEST_F(VolumeContentTest, AVolumeWithContentKeepsWhatCameBeforeAFailure) {
  CreateVolume("data");
  Write("data", "mine", "0");
  std::string archive = Archive({{"a", "1"}, {"b", std::string(2000, 'y')}});
  archive.resize(archive.size() - 3000);
  EXPECT_FALSE(Import("data", archive).ok());
  EXPECT_EQ(ReadIn("data", "a"), "1");
  EXPECT_EQ(ReadIn("data", "mine"), "0");
}

TEST_F(VolumeContentTest, WhatIsNoArchiveIsRefused) {
  CreateVolume("data");
  const absl::Status refused = Import("data", std::string(1024, 'x'));
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(*ListDirectory(Data("data")), IsEmpty());
}

TEST_F(VolumeContentTest, AnArchiveThatClimbsWritesNothingOutside) {
  CreateVolume("data");
  CreateVolume("other");
  EXPECT_FALSE(Import("data", Archive({{"../../other/_data/planted", "1"}})).ok() &&
               ReadIn("other", "planted") == "1");
  EXPECT_EQ(ReadIn("other", "planted"), "(none)");
}

TEST_F(VolumeContentTest, AVolumeWithOptionsIsMountedForTheLengthOfTheCall) {
  CreateTmpfs("scratch");
  // Another use keeps the tmpfs, and with it what is in it.
  ASSERT_TRUE(runs_of_volumes_->Mount(context_, "scratch", "test").ok());
  ASSERT_TRUE(Import("scratch", Archive({{"a", "1"}})).ok());
  EXPECT_TRUE(Mounted(Data("scratch")));
  EXPECT_THAT(FilesOf(*Export("scratch")), ElementsAre(Pair("a", "1")));
  runs_of_volumes_->Unmount(context_, "scratch", "test");
  EXPECT_FALSE(Mounted(Data("scratch")));
  EXPECT_THAT(FilesOf(*Export("scratch")), IsEmpty());
  EXPECT_FALSE(Mounted(Data("scratch")));
}

TEST_F(VolumeContentTest, ACloneHasTheContentAndOnlyTheLabelsAskedFor) {
  CreateVolume("data");
  Write("data", "sub/b", "2");
  const absl::StatusOr<v1::Volume> clone = Clone("data", "copy");
  ASSERT_TRUE(clone.ok()) << clone.status();
  EXPECT_EQ(clone->name(), "copy");
  EXPECT_EQ(clone->labels().at("tier"), "db");
  EXPECT_EQ(clone->labels().count(kSnapshotOfLabel), 0u);
  Write("data", "sub/b", "changed");
  EXPECT_EQ(ReadIn("copy", "sub/b"), "2");
}

TEST_F(VolumeContentTest, ASnapshotIsNamedForItsSourceAndTime) {
  CreateVolume("data");
  Write("data", "a", "1");
  const absl::StatusOr<v1::Volume> snapshot = Clone("data", "", /*snapshot=*/true);
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  EXPECT_THAT(snapshot->name(), MatchesRegex("data-[0-9]{8}T[0-9]{6}\\.[0-9]{3}Z"));
  EXPECT_EQ(snapshot->labels().at(kSnapshotOfLabel), "data");
  EXPECT_EQ(ReadIn(snapshot->name(), "a"), "1");
  const absl::StatusOr<v1::Volume> named = Clone("data", "before-upgrade", /*snapshot=*/true);
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_EQ(named->labels().at(kSnapshotOfLabel), "data");
}

TEST_F(VolumeContentTest, ACloneDoesNotReplaceAVolume) {
  CreateVolume("data");
  Write("data", "a", "1");
  CreateVolume("taken");
  Write("taken", "a", "theirs");
  EXPECT_TRUE(absl::IsAlreadyExists(Clone("data", "taken").status()));
  EXPECT_EQ(ReadIn("taken", "a"), "theirs");
  EXPECT_TRUE(absl::IsInvalidArgument(Clone("data", "../x").status()));
}

TEST_F(VolumeContentTest, AVolumeThatIsNotThereIsNamed) {
  for (const absl::Status& refused :
       {Export("lost").status(), Import("lost", Archive({})), Clone("lost", "copy").status()}) {
    EXPECT_TRUE(absl::IsNotFound(refused)) << refused;
    EXPECT_EQ(refused.message(), "get lost: no such volume");
  }
  EXPECT_FALSE(HasVolume("copy"));
}

TEST_F(VolumeContentTest, AVolumeIsKeptFromRemovalWhileItIsRead) {
  CreateVolume("data");
  Write("data", "a", "1");
  class Sink final : public ByteSink {
   public:
    explicit Sink(std::function<absl::Status()> on_write) : on_write_(std::move(on_write)) {}
    absl::Status Write(absl::string_view) override { return on_write_(); }

   private:
    const std::function<absl::Status()> on_write_;
  };
  absl::Status removed;
  Sink meanwhile([&] {
    removed = RemoveVolume("data");
    return absl::OkStatus();
  });
  ASSERT_TRUE(content_->Export(context_, "data", meanwhile).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(removed)) << removed;
  EXPECT_TRUE(RemoveVolume("data").ok());
  // A client that stops reading ends the export with its own error.
  CreateVolume("data");
  Write("data", "a", "1");
  Sink full([] { return absl::ResourceExhaustedError("the client's disk is full"); });
  EXPECT_TRUE(absl::IsResourceExhausted(content_->Export(context_, "data", full)));
  EXPECT_TRUE(RemoveVolume("data").ok());
}

TEST_F(VolumeContentTest, ACancelledImportEnds) {
  CreateVolume("data");
  CancelToken gone;
  gone.Cancel("the client has gone");
  context_.cancel = &gone;
  EXPECT_TRUE(absl::IsCancelled(Import("data", Archive({{"a", "1"}}))));
  context_.cancel = nullptr;
  EXPECT_THAT(*ListDirectory(Data("data")), IsEmpty());
  EXPECT_TRUE(RemoveVolume("data").ok());
}

}  // namespace
}  // namespace gantry::core
