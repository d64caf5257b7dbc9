// Reader and writer against each other, against GNU tar in each of its dialects, and against what
// no writer makes.
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/byte_stream.h"
#include "base/file.h"
#include "base/subprocess.h"
#include "base/tar/reader.h"
#include "base/tar/writer.h"
#include "base/temp_dir.h"

namespace gantry {
namespace {

struct Member {
  TarEntry entry;
  std::string data;
};

absl::Status ReadMembers(const std::string& archive, std::vector<Member>& members,
                         const TarLimits& limits = {}) {
  StringSource source(archive);
  TarReader reader(source, limits);
  while (true) {
    Member member;
    absl::StatusOr<bool> more = reader.Next(member.entry);
    if (!more.ok()) return more.status();
    if (!*more) return reader.Drain();
    absl::StatusOr<std::string> data = reader.ReadAll(64 << 20);
    if (!data.ok()) return data.status();
    member.data = *std::move(data);
    members.push_back(std::move(member));
  }
}

std::vector<Member> Members(const std::string& archive) {
  std::vector<Member> members;
  const absl::Status status = ReadMembers(archive, members);
  EXPECT_TRUE(status.ok()) << status;
  return members;
}

absl::Status ReadStatus(const std::string& archive, const TarLimits& limits = {}) {
  std::vector<Member> members;
  return ReadMembers(archive, members, limits);
}

std::string Archive(const std::function<void(TarWriter&)>& fill) {
  StringSink sink;
  TarWriter writer(sink);
  fill(writer);
  EXPECT_TRUE(writer.Finish().ok());
  return std::move(sink).str();
}

TarEntry File(const std::string& path) {
  TarEntry entry;
  entry.path = path;
  entry.mode = 0644;
  return entry;
}

// A header block with `change` applied before it is sealed.
std::string Block(const std::function<void(char*)>& change) {
  std::string block(512, '\0');
  memcpy(&block[0], "name", 4);
  memcpy(&block[100], "0000644\0", 8);
  memcpy(&block[108], "0000000\0", 8);
  memcpy(&block[116], "0000000\0", 8);
  memcpy(&block[124], "00000000000\0", 12);
  memcpy(&block[136], "00000000000\0", 12);
  block[156] = '0';
  memcpy(&block[257], "ustar\00000", 8);
  change(&block[0]);
  memset(&block[148], ' ', 8);
  unsigned int sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  snprintf(&block[148], 8, "%06o", sum);
  return block;
}

std::string Padded(std::string bytes) {
  bytes.resize((bytes.size() + 511) / 512 * 512);
  return bytes;
}

std::string Record(const std::string& key, const std::string& value) {
  const std::string rest = absl::StrCat(" ", key, "=", value, "\n");
  size_t length = rest.size() + 1;
  while (absl::StrCat(length).size() + rest.size() != length)
    length = absl::StrCat(length).size() + rest.size();
  return absl::StrCat(length, rest);
}

std::string Extended(char type, const std::string& payload) {
  return Block([&](char* block) {
           block[156] = type;
           snprintf(block + 124, 12, "%011o", static_cast<unsigned int>(payload.size()));
         }) +
         Padded(payload);
}

const std::string kEnd(1024, '\0');

TEST(TarTest, EveryFieldComesBack) {
  TarEntry file = File("dir/file");
  file.mode = 04755;
  file.uid = 1000;
  file.gid = 3000000000;
  file.mtime.seconds = 1700000001;
  file.xattrs = {{"security.capability", std::string("\1\0\0\2\0\x20\n", 7)}, {"user.empty", ""}};
  file.user_name = "gänsefüßchen";
  file.group_name = "wheel";
  TarEntry link = File("link");
  link.type = TarType::kSymlink;
  link.link_target = std::string(200, 'l');
  TarEntry hard = File("hard");
  hard.type = TarType::kHardLink;
  hard.link_target = "dir/file";
  TarEntry device = File("dev");
  device.type = TarType::kCharDevice;
  device.device_major = 4095;
  device.device_minor = 1048575;
  TarEntry block = device;
  block.path = "block";
  block.type = TarType::kBlockDevice;
  TarEntry fifo = File("fifo");
  fifo.type = TarType::kFifo;
  TarEntry directory = File(std::string(150, 'd') + "/" + std::string(200, 'e'));
  directory.type = TarType::kDirectory;
  directory.mtime.seconds = -5;
  const std::string archive = Archive([&](TarWriter& writer) {
    ASSERT_TRUE(writer.WriteFile(file, "content").ok());
    for (const TarEntry& entry : {link, hard, device, block, fifo, directory})
      ASSERT_TRUE(writer.WriteEntry(entry).ok());
  });
  EXPECT_EQ(archive.size() % 512, 0u);

  const std::vector<Member> members = Members(archive);
  ASSERT_EQ(members.size(), 7u);
  EXPECT_EQ(members[0].entry.path, "dir/file");
  EXPECT_EQ(members[0].entry.type, TarType::kFile);
  EXPECT_EQ(members[0].data, "content");
  EXPECT_EQ(members[0].entry.size_bytes, 7);
  EXPECT_EQ(members[0].entry.mode, 04755u);
  EXPECT_EQ(members[0].entry.uid, 1000u);
  EXPECT_EQ(members[0].entry.gid, 3000000000u);
  EXPECT_EQ(members[0].entry.mtime.seconds, 1700000001);
  EXPECT_EQ(members[0].entry.xattrs, file.xattrs);
  EXPECT_EQ(members[0].entry.user_name, "gänsefüßchen");
  EXPECT_EQ(members[0].entry.group_name, "wheel");
  EXPECT_EQ(members[1].entry.type, TarType::kSymlink);
  EXPECT_EQ(members[1].entry.link_target, link.link_target);
  EXPECT_EQ(members[2].entry.type, TarType::kHardLink);
  EXPECT_EQ(members[2].entry.link_target, "dir/file");
  EXPECT_EQ(members[3].entry.device_major, 4095u);
  EXPECT_EQ(members[3].entry.device_minor, 1048575u);
  EXPECT_EQ(members[4].entry.type, TarType::kBlockDevice);
  EXPECT_EQ(members[5].entry.type, TarType::kFifo);
  EXPECT_EQ(members[6].entry.path, directory.path + "/");
  EXPECT_EQ(members[6].entry.mtime.seconds, -5);
}

TEST(TarTest, PathsOfEveryLengthComeBack) {
  std::vector<std::string> paths;
  for (size_t length : {1u, 99u, 100u, 101u, 154u, 155u, 156u, 255u, 256u, 257u, 1000u, 4095u}) {
    std::string path(length, 'x');
    paths.push_back(path);
    for (size_t i = 50; i + 1 < length; i += 51) path[i] = '/';
    paths.push_back(path);
    if (length > 2) {
      path[1] = '\xc3';
      path[2] = '\xa9';
      paths.push_back(path);
    }
  }
  const std::string archive = Archive([&](TarWriter& writer) {
    for (const std::string& path : paths) ASSERT_TRUE(writer.WriteFile(File(path), path).ok());
  });
  const std::vector<Member> members = Members(archive);
  ASSERT_EQ(members.size(), paths.size());
  for (size_t i = 0; i < paths.size(); ++i) {
    EXPECT_EQ(members[i].entry.path, paths[i]);
    EXPECT_EQ(members[i].data, paths[i]);
  }
}

TEST(TarTest, PlainEntriesNeedNoExtendedHeader) {
  const std::string archive =
      Archive([](TarWriter& writer) { ASSERT_TRUE(writer.WriteFile(File("a"), "b").ok()); });
  EXPECT_EQ(archive.size(), 512u + 512 + 1024);
}

TEST(TarTest, WriterHoldsWhatAnEntryAnnounced) {
  StringSink sink;
  TarWriter writer(sink);
  TarEntry entry = File("f");
  entry.size_bytes = 3;
  ASSERT_TRUE(writer.WriteEntry(entry).ok());
  EXPECT_EQ(writer.WriteData("1234").code(), absl::StatusCode::kOutOfRange);
  ASSERT_TRUE(writer.WriteData("12").ok());
  EXPECT_EQ(writer.WriteEntry(File("g")).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(writer.Finish().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(writer.WriteData("3").ok());
  EXPECT_EQ(writer.WriteEntry(File("")).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(writer.WriteEntry(File(std::string("a\0b", 3))).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(writer.Finish().ok());
}

// What a real tar writes.
class GnuTarTest : public testing::TestWithParam<std::vector<std::string>> {
 protected:
  void SetUp() override {
    const std::string tree = directory_.Join("tree");
    ASSERT_TRUE(MakeDirectories(tree + "/sub").ok());
    ASSERT_TRUE(WriteFile(tree + "/sub/file", std::string(70000, 'f')).ok());
    ASSERT_TRUE(WriteFile(tree + "/empty", "").ok());
    ASSERT_EQ(link((tree + "/sub/file").c_str(), (tree + "/sub/linked").c_str()), 0);
    ASSERT_EQ(symlink("sub/file", (tree + "/symlink").c_str()), 0);
    const int fd = open((tree + "/sparse").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    ASSERT_GE(fd, 0);
    for (int i = 1; i <= 40; ++i)
      ASSERT_EQ(pwrite(fd, absl::StrCat("piece", i % 10).c_str(), 6, i * 100003), 6);
    ASSERT_EQ(ftruncate(fd, 5000000), 0);
    close(fd);
  }
  std::string Pack(const std::vector<std::string>& options) {
    Command command;
    command.argv = {"tar", "-C", directory_.Join("tree"), "--sort=name"};
    command.argv.insert(command.argv.end(), options.begin(), options.end());
    command.argv.insert(command.argv.end(), {"-cf", directory_.Join("out.tar"), "."});
    const absl::StatusOr<CommandResult> result = RunCommand(command);
    EXPECT_TRUE(result.ok() && result->status.ok())
        << result.status() << (result.ok() ? result->err : "");
    return ReadFile(directory_.Join("out.tar"), 256 << 20).value();
  }
  TempDir directory_;
};

TEST_P(GnuTarTest, IsReadWhole) {
  std::map<std::string, Member> by_path;
  for (Member& member : Members(Pack(GetParam()))) by_path[member.entry.path] = std::move(member);
  ASSERT_EQ(by_path.size(), 7u);
  EXPECT_EQ(by_path.at("./sub/").entry.type, TarType::kDirectory);
  EXPECT_EQ(by_path.at("./sub/file").data, std::string(70000, 'f'));
  EXPECT_EQ(by_path.at("./sub/linked").entry.type, TarType::kHardLink);
  EXPECT_EQ(by_path.at("./sub/linked").entry.link_target, "./sub/file");
  EXPECT_EQ(by_path.at("./symlink").entry.link_target, "sub/file");
  EXPECT_EQ(by_path.at("./empty").entry.size_bytes, 0);
  struct stat stat;
  ASSERT_EQ(lstat(directory_.Join("tree/sub/file").c_str(), &stat), 0);
  EXPECT_EQ(by_path.at("./sub/file").entry.mtime.seconds, stat.st_mtim.tv_sec);
  EXPECT_EQ(by_path.at("./sub/file").entry.mode, stat.st_mode & 07777);

  const Member& sparse = by_path.at("./sparse");
  EXPECT_EQ(sparse.entry.type, TarType::kFile);
  EXPECT_EQ(sparse.entry.mode, 0640u);
  EXPECT_EQ(sparse.entry.size_bytes, 5000000);
  std::string expected = ReadFile(directory_.Join("tree/sparse"), 64 << 20).value();
  std::string found = sparse.data;
  found.resize(5000000);
  EXPECT_TRUE(found == expected);
}

INSTANTIATE_TEST_SUITE_P(
    Dialects, GnuTarTest,
    testing::Values(
        std::vector<std::string>{"--format=v7"}, std::vector<std::string>{"--format=ustar"},
        std::vector<std::string>{"--format=oldgnu"}, std::vector<std::string>{"--format=gnu"},
        std::vector<std::string>{"--format=posix"},
        std::vector<std::string>{"--format=oldgnu", "--sparse"},
        std::vector<std::string>{"--format=gnu", "--sparse"},
        std::vector<std::string>{"--format=posix", "--sparse", "--sparse-version=0.0"},
        std::vector<std::string>{"--format=posix", "--sparse", "--sparse-version=0.1"},
        std::vector<std::string>{"--format=posix", "--sparse", "--sparse-version=1.0"}));

TEST(TarTest, GnuTarReadsWhatIsWritten) {
  TempDir directory;
  const std::string long_name = std::string(120, 'a') + "/" + std::string(120, 'b');
  const std::string archive = Archive([&](TarWriter& writer) {
    ASSERT_TRUE(writer.WriteFile(File("short"), "one").ok());
    ASSERT_TRUE(writer.WriteFile(File(long_name), "two").ok());
    ASSERT_TRUE(writer.WriteFile(File("gr\xc3\xbc\xc3\x9f"), "three").ok());
  });
  const absl::StatusOr<CommandResult> result =
      RunCommand({.argv = {"tar", "-C", directory.path(), "-xf", "-"},
                  .env = std::nullopt,
                  .cwd = {},
                  .extra_fds = {}},
                 archive);
  ASSERT_TRUE(result.ok() && result->status.ok()) << result.status();
  EXPECT_EQ(ReadFile(directory.Join("short"), 100).value(), "one");
  EXPECT_EQ(ReadFile(directory.Join(long_name), 100).value(), "two");
  EXPECT_EQ(ReadFile(directory.Join("gr\xc3\xbc\xc3\x9f"), 100).value(), "three");
}

TEST(TarReaderTest, Base256NumbersAreRead) {
  const std::string archive = Block([](char* block) {
                                memset(block + 108, 0, 8);
                                block[108] = '\x80';
                                block[115] = 77;                // uid
                                memset(block + 136, 0xff, 12);  // mtime -1
                              }) +
                              kEnd;
  const std::vector<Member> members = Members(archive);
  ASSERT_EQ(members.size(), 1u);
  EXPECT_EQ(members[0].entry.uid, 77u);
  EXPECT_EQ(members[0].entry.mtime.seconds, -1);
}

TEST(TarReaderTest, NumbersThatCannotBeAreRefused) {
  const std::vector<std::function<void(char*)>> changes = {
      [](char* block) { memset(block + 124, 0xff, 12); },                       // size -1
      [](char* block) { memset(block + 124, 0x7f, 12), block[124] = '\x80'; },  // size beyond int64
      [](char* block) { memcpy(block + 124, "77777777777x", 12); },             // not octal
      [](char* block) { memset(block + 108, 0xff, 8); },                        // uid -1
      [](char* block) { memcpy(block + 108, "\x80\0\0\0\xff\xff\xff\xff", 8); },   // uid 2^32-1
      [](char* block) { memcpy(block + 100, "8888888\0", 8); },                    // mode
      [](char* block) { block[156] = '3', memcpy(block + 329, "7777777\0", 8); },  // device number
      [](char* block) { block[156] = 'Z'; },                                       // type
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    EXPECT_EQ(ReadStatus(Block(changes[i]) + kEnd).code(), absl::StatusCode::kInvalidArgument) << i;
  }
}

TEST(TarReaderTest, WrongChecksumIsRefused) {
  std::string archive = Block([](char*) {}) + kEnd;
  archive[0] = 'N';
  const absl::Status status = ReadStatus(archive);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "tar entry 1")) << status;
}

TEST(TarReaderTest, PaxTimesHaveFractions) {
  const std::map<std::string, TarTime> cases = {
      {"1.5", {1, 500000000}},
      {"-1.25", {-2, 750000000}},
      {"12345678901.123456789", {9223372036, 0}},
      {"0.0000000019", {0, 1}},
      {"-0.5", {-1, 500000000}},
      {"7", {7, 0}},
      {"999999999999999999999", {9223372036, 0}},
      {"-999999999999999999999", {-9223372036, 0}},
  };
  for (const auto& [text, time] : cases) {
    const std::vector<Member> members =
        Members(Extended('x', Record("mtime", text)) + Block([](char*) {}) + kEnd);
    ASSERT_EQ(members.size(), 1u) << text;
    EXPECT_EQ(members[0].entry.mtime, time) << text;
  }
  for (const char* text : {"x", "1.x", "-", "1e5", " 1", "+1"}) {
    EXPECT_EQ(ReadStatus(Extended('x', Record("mtime", text)) + Block([](char*) {}) + kEnd).code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
}

TEST(TarReaderTest, GlobalHeadersAreIgnored) {
  const std::vector<Member> members =
      Members(Extended('g', Record("path", "evil") + Record("comment", "git")) +
              Block([](char*) {}) + kEnd);
  ASSERT_EQ(members.size(), 1u);
  EXPECT_EQ(members[0].entry.path, "name");
}

TEST(TarReaderTest, LibarchiveAttributesAreRead) {
  const std::vector<Member> members =
      Members(Extended('x', Record("LIBARCHIVE.xattr.user.a%20b", "aGVsbG8") +
                                Record("SCHILY.xattr.user.n", std::string("a\0\nb", 4))) +
              Block([](char*) {}) + kEnd);
  ASSERT_EQ(members.size(), 1u);
  EXPECT_EQ(members[0].entry.xattrs,
            (std::map<std::string, std::string>{{"user.a b", "hello"},
                                                {"user.n", std::string("a\0\nb", 4)}}));
}

TEST(TarReaderTest, EmptyPaxValueGivesThePlainFieldBack) {
  const std::vector<Member> members = Members(
      Extended('x', Record("path", "other") + Record("path", "")) + Block([](char*) {}) + kEnd);
  ASSERT_EQ(members.size(), 1u);
  EXPECT_EQ(members[0].entry.path, "name");
}

TEST(TarReaderTest, MalformedExtendedHeadersAreRefused) {
  for (const std::string& payload :
       {std::string("garbage"),
        std::string("5 a=b\n"),
        std::string("99 path=x\n"),
        std::string("7 path=\n"),
        std::string("6 a=b"),
        std::string("0 a=b\n"),
        std::string("-6 a=b\n"),
        std::string("99999999999999999999 a=b\n"),
        std::string("6 =ab\n"),
        std::string("5 ab\n"),
        Record("path", std::string("a\0b", 3)),
        Record("size", "x"),
        Record("size", "-1"),
        Record("uid", "99999999999"),
        Record("size", "99999999999999999999"),
        Record("GNU.sparse.offset", "x"),
        Record("GNU.sparse.numbytes", "1"),
        Record("GNU.sparse.map", "1,2,3"),
        Record("GNU.sparse.major", "7"),
        Record("GNU.sparse.major", "1") + Record("GNU.sparse.minor", "0"),
        Record("SCHILY.xattr.", "x"),
        Record("LIBARCHIVE.xattr.user.x", "!!!")}) {
    EXPECT_FALSE(ReadStatus(Extended('x', payload) + Block([](char*) {}) + kEnd).ok()) << payload;
  }
}

TEST(TarReaderTest, SparseMapsThatLieAreRefused) {
  const auto sparse = [](const std::string& map, const std::string& size, int stored) {
    return Extended('x', Record("GNU.sparse.size", size) + Record("GNU.sparse.map", map)) +
           Block([&](char* block) {
             snprintf(block + 124, 12, "%011o", static_cast<unsigned int>(stored));
           }) +
           Padded(std::string(static_cast<size_t>(stored), 'd')) + kEnd;
  };
  EXPECT_TRUE(ReadStatus(sparse("0,10,100,10", "200", 20)).ok());
  EXPECT_FALSE(ReadStatus(sparse("0,10,100,11", "200", 20)).ok()) << "more than stored";
  EXPECT_FALSE(ReadStatus(sparse("0,10,100,9", "200", 20)).ok()) << "less than stored";
  EXPECT_FALSE(ReadStatus(sparse("0,10,5,10", "200", 20)).ok()) << "overlapping";
  EXPECT_FALSE(ReadStatus(sparse("100,10,0,10", "200", 20)).ok()) << "backwards";
  EXPECT_FALSE(ReadStatus(sparse("0,10,195,10", "200", 20)).ok()) << "past the end";
  EXPECT_FALSE(ReadStatus(sparse("0,10,9223372036854775807,10", "200", 20)).ok()) << "overflow";
}

TEST(TarReaderTest, LimitsHold) {
  TarLimits limits;
  limits.path_bytes = 50;
  EXPECT_EQ(ReadStatus(Archive([](TarWriter& writer) {
                         ASSERT_TRUE(writer.WriteFile(File(std::string(51, 'p')), "").ok());
                       }),
                       limits)
                .code(),
            absl::StatusCode::kInvalidArgument);
  limits = {};
  limits.header_bytes = 1000;
  EXPECT_EQ(ReadStatus(Extended('x', Record("comment", std::string(1001, 'c'))) +
                           Block([](char*) {}) + kEnd,
                       limits)
                .code(),
            absl::StatusCode::kInvalidArgument);
  std::string chain;
  for (int i = 0; i < 10; ++i) chain += Extended('x', "");
  EXPECT_EQ(ReadStatus(chain + Block([](char*) {}) + kEnd, limits).code(),
            absl::StatusCode::kInvalidArgument);
  limits = {};
  limits.xattr_bytes = 100;
  EXPECT_EQ(ReadStatus(Extended('x', Record("SCHILY.xattr.user.x", std::string(100, 'x'))) +
                           Block([](char*) {}) + kEnd,
                       limits)
                .code(),
            absl::StatusCode::kInvalidArgument);
  // A header that announces a gigabyte is refused before it is read.
  EXPECT_EQ(ReadStatus(Block([](char* block) {
              block[156] = 'L';
              memcpy(block + 124, "10000000000\0", 12);
            })).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(TarReaderTest, EndsAtTheMarkerAndDrainsTheRest) {
  const std::string archive = Block([](char*) {}) + kEnd + std::string(100000, 'j');
  EXPECT_EQ(Members(archive).size(), 1u);
}

TEST(TarReaderTest, ArchiveWithoutMarkerEndsWithItsBytes) {
  EXPECT_EQ(Members(Block([](char*) {})).size(), 1u);
  EXPECT_EQ(Members("").size(), 0u);
  EXPECT_EQ(Members(Block([](char*) {}) + std::string(512, '\0')).size(), 1u);
}

TEST(TarReaderTest, ZeroBlockBetweenEntriesIsRefused) {
  EXPECT_EQ(
      ReadStatus(Block([](char*) {}) + std::string(512, '\0') + Block([](char*) {}) + kEnd).code(),
      absl::StatusCode::kInvalidArgument);
}

TEST(TarReaderTest, TruncationIsNoticedExceptBetweenEntries) {
  const std::string archive = Archive([](TarWriter& writer) {
    TarEntry entry = File(std::string(300, 'n'));
    ASSERT_TRUE(writer.WriteFile(entry, std::string(2000, 'a')).ok());
    ASSERT_TRUE(writer.WriteFile(File("second"), std::string(1000, 'b')).ok());
  });
  // extended header and its records, header, 4 blocks of data; header, 2 blocks; the marker
  const std::set<size_t> clean = {0, 7 * 512, 10 * 512, 11 * 512};
  for (size_t size = 0; size < archive.size(); size += 100) {
    EXPECT_EQ(ReadStatus(archive.substr(0, size)).ok(), clean.count(size) > 0) << size;
  }
  for (size_t size = 0; size < archive.size(); size += 512) {
    const absl::Status status = ReadStatus(archive.substr(0, size));
    EXPECT_EQ(status.ok(), clean.count(size) > 0) << size << " " << status;
    if (!status.ok()) {
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << size;
    }
  }
}

TEST(TarReaderTest, AnyFlippedBitInAHeaderIsNoticedOrHarmless) {
  const std::string archive =
      Archive([](TarWriter& writer) { ASSERT_TRUE(writer.WriteFile(File("name"), "data").ok()); });
  for (size_t bit = 0; bit < 512 * 8; ++bit) {
    std::string damaged = archive;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    std::vector<Member> members;
    if (ReadMembers(damaged, members).ok()) {
      ASSERT_EQ(members.size(), 1u) << bit;
      EXPECT_EQ(members[0].entry.path, "name") << bit;
      EXPECT_EQ(members[0].data, "data") << bit;
    }
  }
}

// Seeds for the test below: each dialect's special headers once.
std::vector<std::string> MutationSeeds() {
  std::vector<std::string> seeds;
  seeds.push_back(Archive([](TarWriter& writer) {
    TarEntry entry = File(std::string(180, 'n'));
    entry.uid = 3000000000;
    entry.xattrs = {{"user.a", "value"}};
    ASSERT_TRUE(writer.WriteFile(entry, std::string(700, 'd')).ok());
    entry = File("link");
    entry.type = TarType::kSymlink;
    entry.link_target = std::string(150, 't');
    ASSERT_TRUE(writer.WriteEntry(entry).ok());
  }));
  seeds.push_back(Extended('L', std::string(300, 'L')) + Extended('K', std::string(200, 'K')) +
                  Block([](char* block) { block[156] = '2'; }) + kEnd);
  seeds.push_back(
      Extended('g', Record("comment", "c")) +
      Extended('x', Record("GNU.sparse.size", "2000") + Record("GNU.sparse.map", "0,10,1000,10")) +
      Block([](char* block) { memcpy(block + 124, "00000000024\0", 12); }) +
      Padded(std::string(20, 's')) + kEnd);
  seeds.push_back(Extended('x', Record("GNU.sparse.major", "1") + Record("GNU.sparse.minor", "0") +
                                    Record("GNU.sparse.realsize", "2000") +
                                    Record("GNU.sparse.name", "real")) +
                  Block([](char* block) { memcpy(block + 124, "00000001024\0", 12); }) +
                  Padded("2\n0\n10\n1000\n10\n") + Padded(std::string(20, 's')) + kEnd);
  seeds.push_back(Block([](char* block) {
                    block[156] = 'S';
                    memcpy(block + 257, "ustar  \0", 8);
                    memcpy(block + 124, "00000000024\0", 12);
                    memcpy(block + 386,
                           "00000000000\0"
                           "00000000012\0",
                           24);
                    block[482] = 1;
                    memcpy(block + 483, "00000003720\0", 12);
                  }) +
                  Padded(std::string("00000001750\0"
                                     "00000000012\0",
                                     24)) +
                  Padded(std::string(20, 's')) + kEnd);
  return seeds;
}

TEST(TarReaderTest, NoMutationBreaksTheReader) {
  uint64_t random = 20260101;
  const auto next = [&random](uint64_t bound) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return random % bound;
  };
  constexpr char kInteresting[] = {0, 1, 9, '0', '7', '9', ' ', '\n', '=', '/', '.', 127, -128, -1};
  TarLimits limits;
  limits.header_bytes = 4096;
  limits.sparse_extents = 64;
  int accepted = 0;
  int refused = 0;
  for (const std::string& seed : MutationSeeds()) {
    ASSERT_TRUE(ReadStatus(seed).ok());
    for (int round = 0; round < 4000; ++round) {
      std::string archive = seed;
      for (uint64_t change = 0; change <= next(4); ++change) {
        archive[next(archive.size())] = kInteresting[next(sizeof(kInteresting))];
      }
      if (next(8) == 0) archive.resize(next(archive.size()));
      // Mostly with checksums that fit, or nothing would get past them.
      for (size_t at = 0; next(10) != 0 && at + 512 <= archive.size(); at += 512) {
        if (memcmp(&archive[at + 257], "ustar", 5) != 0) continue;
        memset(&archive[at + 148], ' ', 8);
        unsigned int sum = 0;
        for (size_t i = 0; i < 512; ++i) sum += static_cast<unsigned char>(archive[at + i]);
        snprintf(&archive[at + 148], 8, "%06o", sum & 0777777);
        archive[at + 155] = ' ';
      }
      StringSource source(archive);
      TarReader reader(source, limits);
      TarEntry entry;
      TarData data;
      absl::StatusOr<bool> more = true;
      while ((more = reader.Next(entry)).ok() && *more) {
        EXPECT_LE(entry.path.size(), 4096u);
        int64_t end = 0;
        absl::StatusOr<bool> some = true;
        while ((some = reader.ReadData(data)).ok() && *some) {
          EXPECT_GE(data.offset, end);
          end = data.offset + static_cast<int64_t>(data.bytes.size());
          EXPECT_LE(end, entry.size_bytes);
        }
        if (!some.ok()) break;
      }
      if (more.ok() && !*more) {
        ++accepted;
      } else {
        ++refused;
      }
    }
  }
  EXPECT_GT(accepted, 100);
  EXPECT_GT(refused, 1000);
}

// One byte at a time: nothing may depend on how the source cuts the stream.
class OneByteChunks final : public ChunkSource {
 public:
  explicit OneByteChunks(const std::string& bytes) : bytes_(bytes) {}
  absl::StatusOr<absl::string_view> NextChunk() override {
    if (at_ == bytes_.size()) return absl::string_view();
    return absl::string_view(bytes_).substr(at_++, 1);
  }

 private:
  const std::string& bytes_;
  size_t at_ = 0;
};

TEST(TarReaderTest, ChunkBordersDoNotMatter) {
  const std::string archive = Archive([](TarWriter& writer) {
    ASSERT_TRUE(writer.WriteFile(File(std::string(300, 'n')), std::string(700, 'a')).ok());
    ASSERT_TRUE(writer.WriteFile(File("b"), "bb").ok());
  });
  OneByteChunks chunks(archive);
  TarReader reader(chunks);
  TarEntry entry;
  ASSERT_TRUE(reader.Next(entry).value());
  EXPECT_EQ(entry.path, std::string(300, 'n'));
  EXPECT_EQ(reader.ReadAll(1000).value(), std::string(700, 'a'));
  ASSERT_TRUE(reader.Next(entry).value());
  EXPECT_EQ(reader.ReadAll(1000).value(), "bb");
  EXPECT_FALSE(reader.Next(entry).value());
}

TEST(TarReaderTest, ReadAllRefusesWhatIsTooLarge) {
  const std::string archive =
      Archive([](TarWriter& writer) { ASSERT_TRUE(writer.WriteFile(File("f"), "12345").ok()); });
  StringSource source(archive);
  TarReader reader(source);
  TarEntry entry;
  ASSERT_TRUE(reader.Next(entry).value());
  EXPECT_EQ(reader.ReadAll(4).status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace gantry
