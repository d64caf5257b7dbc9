#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/byte_stream.h"
#include "base/tar/tree_extractor.h"
#include "base/tar/tree_writer.h"
#include "base/tar/writer.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"

namespace gantry {
namespace {

namespace fs = std::filesystem;

void WriteFileAt(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

std::string ReadFileAt(const std::string& path) {
  std::ifstream in(path);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

absl::Status WriteTree(const std::string& path, const std::string& name, bool content_only,
                       ByteSink& out) {
  TarWriter tar(out, TarWriter::Seconds::kExact);
  TreeWriter tree(tar);
  absl::Status status =
      content_only ? tree.AddChildren(UniqueFd(::open(path.c_str(), O_RDONLY | O_DIRECTORY)), "")
                   : tree.Add(AT_FDCWD, path, name);
  return status.ok() ? tar.Finish() : status;
}

class TreeTest : public ::testing::Test {
 protected:
  TreeTest() : source_(directory_.path() + "/source"), target_(directory_.path() + "/target") {
    fs::create_directory(source_);
    fs::create_directory(target_);
  }
  std::string Pack(const std::string& name, bool content_only = false) {
    StringSink sink;
    const absl::Status status = WriteTree(source_, name, content_only, sink);
    EXPECT_TRUE(status.ok()) << status;
    return sink.str();
  }
  absl::StatusOr<int64_t> Unpack(const std::string& tar, ExtractOptions options = {}) {
    StringSource source(tar);
    const UniqueFd target(::open(target_.c_str(), O_PATH | O_DIRECTORY));
    return ExtractTree(source, target.get(), options);
  }

  TempDir directory_;
  const std::string source_;
  const std::string target_;
};

TEST_F(TreeTest, TreeComesBackAsItWas) {
  const std::string long_name(180, 'n');
  fs::create_directory(source_ + "/dir");
  WriteFileAt(source_ + "/dir/" + long_name, std::string(1000, 'x'));
  WriteFileAt(source_ + "/exec", "#!/bin/sh\n");
  ::chmod((source_ + "/exec").c_str(), 04755);
  fs::create_symlink(std::string(150, 't'), source_ + "/link");
  fs::create_hard_link(source_ + "/exec", source_ + "/hard");
  const timespec times[2] = {{1000000000, 5}, {1000000000, 123456789}};
  ::utimensat(AT_FDCWD, (source_ + "/exec").c_str(), times, 0);

  ASSERT_TRUE(Unpack(Pack("copy")).ok());
  EXPECT_EQ(ReadFileAt(target_ + "/copy/dir/" + long_name), std::string(1000, 'x'));
  EXPECT_EQ(fs::read_symlink(target_ + "/copy/link"), std::string(150, 't'));
  struct stat exec, hard;
  ASSERT_EQ(::stat((target_ + "/copy/exec").c_str(), &exec), 0);
  ASSERT_EQ(::stat((target_ + "/copy/hard").c_str(), &hard), 0);
  EXPECT_EQ(exec.st_ino, hard.st_ino);
  EXPECT_EQ(exec.st_mode & 07777, 04755u);
  EXPECT_EQ(exec.st_mtim.tv_sec, 1000000000);
  EXPECT_EQ(exec.st_mtim.tv_nsec, 123456789);
}

TEST_F(TreeTest, ContentOnlyHasNoTopDirectory) {
  WriteFileAt(source_ + "/a", "1");
  ASSERT_TRUE(Unpack(Pack("", true)).ok());
  EXPECT_EQ(ReadFileAt(target_ + "/a"), "1");
}

TEST_F(TreeTest, RootIsRenamed) {
  WriteFileAt(source_ + "/a", "1");
  ASSERT_TRUE(Unpack(Pack("source"), {.rename_root = "other"}).ok());
  EXPECT_EQ(ReadFileAt(target_ + "/other/a"), "1");
}

TEST_F(TreeTest, OrdinaryTarReadsWhatWeWrite) {
  WriteFileAt(source_ + "/" + std::string(200, 'q'), "long");
  WriteFileAt(directory_.path() + "/a.tar", Pack("p"));
  const std::string command = "tar -C " + target_ + " -xf " + directory_.path() + "/a.tar";
  ASSERT_EQ(::system(command.c_str()), 0);
  EXPECT_EQ(ReadFileAt(target_ + "/p/" + std::string(200, 'q')), "long");
}

TEST_F(TreeTest, ReadsWhatOrdinaryTarWrites) {
  WriteFileAt(source_ + "/" + std::string(200, 'q'), "long");
  fs::create_symlink(std::string(150, 't'), source_ + "/link");
  for (const char* format : {"gnu", "pax", "ustar"}) {
    if (std::string(format) == "ustar") {
      fs::remove(source_ + "/" + std::string(200, 'q'));
      fs::remove(source_ + "/link");
      WriteFileAt(source_ + "/short", "s");
    }
    const std::string command = "tar -C " + directory_.path() + " --format=" + format + " -cf " +
                                directory_.path() + "/a.tar source";
    ASSERT_EQ(::system(command.c_str()), 0);
    const auto count = Unpack(ReadFileAt(directory_.path() + "/a.tar"));
    ASSERT_TRUE(count.ok()) << format << ": " << count.status();
    EXPECT_EQ(*count, std::string(format) == "ustar" ? 2 : 3) << format;
  }
  EXPECT_EQ(ReadFileAt(target_ + "/source/" + std::string(200, 'q')), "long");
}

TEST_F(TreeTest, NameThatClimbsIsRefused) {
  WriteFileAt(source_ + "/a", "evil");
  const auto count = Unpack(Pack("../escaped"));
  EXPECT_EQ(count.status().code(), absl::StatusCode::kInvalidArgument) << count.status();
  EXPECT_FALSE(fs::exists(directory_.path() + "/escaped"));
}

TEST_F(TreeTest, NothingIsWrittenThroughALinkOfTheArchive) {
  const std::string outside = directory_.path() + "/outside";
  fs::create_directory(outside);
  // First a link to outside, then a file "in" it, as a hostile container would send them.
  StringSink first;
  fs::create_symlink(outside, source_ + "/link");
  ASSERT_TRUE(WriteTree(source_ + "/link", "link", false, first).ok());
  std::string tar = first.str().substr(0, first.str().size() - 1024);
  StringSink second;
  WriteFileAt(directory_.path() + "/evil", "evil");
  ASSERT_TRUE(WriteTree(directory_.path() + "/evil", "link/evil", false, second).ok());
  tar += second.str();
  EXPECT_FALSE(Unpack(tar).ok());
  EXPECT_TRUE(fs::is_empty(outside));
}

TEST_F(TreeTest, LinkAtTheTargetIsReplacedNotFollowed) {
  const std::string victim = directory_.path() + "/victim";
  WriteFileAt(victim, "precious");
  fs::create_symlink(victim, target_ + "/a");
  WriteFileAt(source_ + "/a", "new");
  ASSERT_TRUE(Unpack(Pack("", true)).ok());
  EXPECT_EQ(ReadFileAt(victim), "precious");
  EXPECT_EQ(ReadFileAt(target_ + "/a"), "new");
}

TEST_F(TreeTest, HardLinkToOutsideIsRefused) {
  const std::string victim = directory_.path() + "/victim";
  WriteFileAt(victim, "precious");
  std::string tar = Pack("p");
  // A hard link entry made of the first header: type 1, link name ../victim.
  std::string header = tar.substr(0, 512);
  header[156] = '1';
  header.replace(157, 9, "../victim");
  unsigned sum = 0;
  for (size_t i = 0; i < 512; ++i) {
    sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(header[i]);
  }
  char digits[8];
  snprintf(digits, sizeof(digits), "%06o", sum);
  header.replace(148, 7, std::string(digits, 7));
  EXPECT_FALSE(Unpack(header + std::string(1024, '\0')).ok());
}

TEST_F(TreeTest, DirectoryNeverReplacesFileNorTheOtherWayRound) {
  WriteFileAt(target_ + "/p", "file");
  EXPECT_FALSE(Unpack(Pack("p")).ok());
  EXPECT_EQ(ReadFileAt(target_ + "/p"), "file");
  fs::create_directory(target_ + "/a");
  WriteFileAt(source_ + "/a", "x");
  EXPECT_FALSE(Unpack(Pack("", true)).ok());
}

TEST_F(TreeTest, HolesAndAttributesCome) {
  const std::string path = source_ + "/sparse";
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT, 0644));
  ASSERT_EQ(::ftruncate(file.get(), 8 << 20), 0);
  ASSERT_EQ(::pwrite(file.get(), "middle", 6, 4 << 20), 6);
  const bool attributes = ::fsetxattr(file.get(), "user.note", "hi", 2, 0) == 0;
  ASSERT_TRUE(Unpack(Pack("p")).ok());
  const std::string copy = target_ + "/p/sparse";
  struct stat info;
  ASSERT_EQ(::stat(copy.c_str(), &info), 0);
  EXPECT_EQ(info.st_size, 8 << 20);
  EXPECT_LT(info.st_blocks * 512, 1 << 20);
  EXPECT_EQ(ReadFileAt(copy).substr(4 << 20, 6), "middle");
  char value[8];
  EXPECT_EQ(::getxattr(copy.c_str(), "user.note", value, sizeof(value)), attributes ? 2 : -1);
}

TEST_F(TreeTest, SparseArchivesAndGlobalHeadersOfOrdinaryTarAreRead) {
  const std::string path = source_ + "/sparse";
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT, 0644));
  ASSERT_EQ(::ftruncate(file.get(), 8 << 20), 0);
  ASSERT_EQ(::pwrite(file.get(), "middle", 6, 4 << 20), 6);
  for (const std::string format : {"--format=gnu -S", "--format=pax -S",
                                   "--format=pax --pax-option=globexthdr.name=g,comment=x"}) {
    const std::string command = "tar -C " + directory_.path() + " " + format + " -cf " +
                                directory_.path() + "/a.tar source";
    ASSERT_EQ(::system(command.c_str()), 0);
    const auto count = Unpack(ReadFileAt(directory_.path() + "/a.tar"));
    ASSERT_TRUE(count.ok()) << format << ": " << count.status();
    const std::string copy = ReadFileAt(target_ + "/source/sparse");
    ASSERT_EQ(copy.size(), 8u << 20) << format;
    EXPECT_EQ(copy.substr(4 << 20, 6), "middle") << format;
  }
}

TEST_F(TreeTest, NamesAreBytes) {
  WriteFileAt(source_ + "/caf\xe9", "x");
  ASSERT_TRUE(Unpack(Pack("p")).ok());
  EXPECT_EQ(ReadFileAt(target_ + "/p/caf\xe9"), "x");
}

TEST_F(TreeTest, TimesBefore1970KeepTheirFraction) {
  WriteFileAt(source_ + "/old", "x");
  for (const time_t seconds : {time_t{-1}, time_t{-5}, time_t{0}}) {
    const timespec times[2] = {{0, 0}, {seconds, 250000000}};
    ASSERT_EQ(::utimensat(AT_FDCWD, (source_ + "/old").c_str(), times, 0), 0);
    ASSERT_TRUE(Unpack(Pack("p")).ok());
    struct stat info;
    ASSERT_EQ(::stat((target_ + "/p/old").c_str(), &info), 0);
    EXPECT_EQ(info.st_mtim.tv_sec, seconds);
    EXPECT_EQ(info.st_mtim.tv_nsec, 250000000) << seconds;
  }
}

TEST_F(TreeTest, DeepTreesAreRefused) {
  std::string path = source_;
  for (int i = 0; i < 260; ++i) {
    path += "/d";
    ASSERT_EQ(::mkdir(path.c_str(), 0755), 0);
  }
  StringSink sink;
  EXPECT_EQ(WriteTree(source_, "p", false, sink).code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(TreeTest, TruncatedAndDamagedArchivesAreErrors) {
  WriteFileAt(source_ + "/a", std::string(5000, 'x'));
  const std::string tar = Pack("p");
  for (const size_t cut : {100u, 700u, 1200u, 3000u}) {
    EXPECT_FALSE(Unpack(tar.substr(0, cut)).ok()) << cut;
  }
  std::string damaged = tar;
  damaged[5] ^= 1;
  EXPECT_EQ(Unpack(damaged).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace gantry
