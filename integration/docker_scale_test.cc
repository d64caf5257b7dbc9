// The Docker door with as much at once as it is made for: 1,000 containers, 200 connections, 100
// followers of logs, 50 listeners to events, some of which never read; and bodies that are larger
// than what the daemon may keep in memory (GANTRY_LARGE_MIB, 256 by default).
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/docker_bed.h"
#include "integration/testbed.h"
#include "supervisor/api/docker/docker_client.h"

namespace gantry::integration {
namespace {

using api::docker::DockerClient;
using testing::HasSubstr;
using testing::StartsWith;

std::string Get(absl::string_view target) {
  return absl::StrCat("GET ", target, " HTTP/1.1\r\nHost: d\r\n\r\n");
}

size_t CountOf(const std::string& text, absl::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part.data(), 0, part.size()); at != std::string::npos;
       at = text.find(part.data(), at + part.size(), part.size()))
    ++count;
  return count;
}

class DockerScaleTest : public DockerDoorTest {
 protected:
  // Of the daemon, in MiB: "VmRSS" what it has in memory, "VmHWM" the most that it had.
  int64_t MemoryMib(absl::string_view name) const {
    const absl::StatusOr<std::string> text =
        ReadFile(absl::StrCat("/proc/", bed_->daemon_pid(), "/status"), 64 << 10);
    if (!text.ok()) return 0;
    for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
      const std::vector<absl::string_view> words =
          absl::StrSplit(line, absl::ByAnyChar(" :\t"), absl::SkipEmpty());
      int64_t kib = 0;
      if (words.size() > 1 && words[0] == name && absl::SimpleAtoi(words[1], &kib))
        return kib >> 10;
    }
    return 0;
  }
  // From here on VmHWM is of what comes.
  void ForgetPeak() const {
    EXPECT_TRUE(WriteFile(absl::StrCat("/proc/", bed_->daemon_pid(), "/clear_refs"), "5").ok());
  }
  // `call` with each number below `count`, by four threads.
  template <class Call>
  void Each(int count, Call call) const {
    std::atomic<int> next = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = next++; i < count; i = next++) call(i);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  static int64_t LargeMib() {
    int64_t mib = 256;
    const char* const asked = getenv("GANTRY_LARGE_MIB");
    if (asked != nullptr && !absl::SimpleAtoi(asked, &mib)) mib = 256;
    return mib;
  }
};

TEST_F(DockerScaleTest, AThousandContainersAndHundredsOfClientsFitInBoundedMemory) {
  constexpr int kContainers = 1000;
  const auto name = [](int i) { return absl::StrCat("one", i); };
  Each(kContainers, [&](int i) {
    Create(R"({"Image":"busybox:door","Cmd":["true"],"Env":["A=1"],"Labels":{"group":"many"}})",
           name(i));
  });
  Create(R"({"Image":"busybox:door","Cmd":["sh","-c","while :; do echo said; sleep 0.2; done"]})",
         "talker");
  EXPECT_THAT(Ask("POST", "/containers/talker/start"), StartsWith("HTTP/1.1 204"));
  Create(R"({"Image":"busybox:door","Cmd":["yes","flooooooooooooooooooooooooooooooooooooooooood"],)"
         R"("HostConfig":{"LogConfig":{"Type":"json-file","Config":{"max-size":"1m"}}}})",
         "flood");
  EXPECT_THAT(Ask("POST", "/containers/flood/start"), StartsWith("HTTP/1.1 204"));
  const int64_t before = MemoryMib("VmRSS");

  std::vector<std::unique_ptr<DockerClient>> idle, followers, listeners, deaf;
  const auto open = [this](std::vector<std::unique_ptr<DockerClient>>& clients, int count,
                           const std::string& request) {
    for (int i = 0; i < count; ++i) {
      clients.push_back(std::make_unique<DockerClient>(Socket()));
      if (!request.empty()) clients.back()->Send(request);
    }
  };
  open(idle, 200, Get("/_ping"));
  open(followers, 100, Get("/containers/talker/logs?stdout=1&follow=1"));
  open(listeners, 50, Get("/events"));
  open(deaf, 10, Get("/containers/flood/logs?stdout=1&follow=1"));
  open(deaf, 5, Get("/events"));
  open(deaf, 5, Get("/containers/json?all=1"));
  for (const auto& one : idle) EXPECT_THAT(one->ReadUntil("OK\r\n"), HasSubstr("200 OK"));
  for (const auto& one : followers) EXPECT_THAT(one->ReadUntil("said"), HasSubstr("said"));
  for (const auto& one : listeners) EXPECT_THAT(one->ReadUntil("\r\n\r\n"), HasSubstr("200 OK"));
  // All are served while lists are asked for, again and again.
  std::thread lists([&] {
    for (int i = 0; i < 20; ++i)
      EXPECT_EQ(CountOf(Ask("GET", "/containers/json?all=1"), "\"group\":\"many\""), kContainers);
  });
  for (const auto& one : followers) EXPECT_THAT(one->ReadUntil("said"), HasSubstr("said"));
  lists.join();
  EXPECT_THAT(Ask("POST", "/containers/one0/start"), StartsWith("HTTP/1.1 204"));
  EXPECT_THAT(BodyOf(Ask("POST", "/containers/one0/wait")), HasSubstr("\"StatusCode\":0"));
  for (const auto& one : listeners) EXPECT_THAT(one->ReadUntil("\"die\""), HasSubstr("\"die\""));
  for (const auto& one : idle) {
    one->Send(Get("/_ping"));
    EXPECT_THAT(one->ReadUntil("OK\r\n"), HasSubstr("200 OK"));
  }
  // Some 200 KiB for a connection with its thread, and room for lists that are being printed.
  EXPECT_LT(MemoryMib("VmRSS"), before + 128);
  EXPECT_LT(MemoryMib("VmRSS"), 256);
  // The flood is not held up by those that do not read.
  EXPECT_THAT(Ask("DELETE", "/containers/flood?force=1"), StartsWith("HTTP/1.1 204"));
  deaf.clear();
  followers.clear();
  listeners.clear();
  idle.clear();
  Each(kContainers, [&](int i) {
    EXPECT_THAT(Ask("DELETE", absl::StrCat("/containers/", name(i))), StartsWith("HTTP/1.1 204"));
  });
  EXPECT_LT(MemoryMib("VmRSS"), before + 64);
}

// The header of a file in a tar archive; docs: POSIX ustar, with sizes beyond 8 GiB in base 256.
std::string TarHeader(const std::string& name, int64_t size, char type = '0') {
  std::string block(512, '\0');
  name.copy(block.data(), 100);
  const auto octal = [&block](size_t at, size_t width, int64_t value) {
    const std::string text = absl::StrFormat("%0*o", static_cast<int>(width - 1), value);
    text.copy(block.data() + at, width - 1);
  };
  octal(100, 8, 0644);
  octal(108, 8, 0);
  octal(116, 8, 0);
  octal(124, 12, size);
  octal(136, 12, 1);
  std::fill_n(block.begin() + 148, 8, ' ');
  block[156] = type;
  std::string("ustar\00000", 8).copy(block.data() + 257, 8);
  int64_t sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  octal(148, 7, sum);
  block[154] = '\0';
  return block;
}

TEST_F(DockerScaleTest, ALargeCopyNeedsNoMemoryInEitherDirection) {
  Create(R"({"Image":"busybox:door","Cmd":["sleep","1000"]})", "large");
  const int64_t bytes = LargeMib() << 20;
  const int64_t before = MemoryMib("VmRSS");
  ForgetPeak();
  DockerClient client(Socket());
  client.Send(
      absl::StrCat("PUT /containers/large/archive?path=/ HTTP/1.1\r\nHost: d\r\nConnection: close"
                   "\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n"));
  const auto chunk = [&client](const std::string& data) {
    client.Send(absl::StrCat(absl::Hex(data.size()), "\r\n"));
    client.Send(data);
    client.Send("\r\n");
  };
  chunk(TarHeader("big", bytes));
  const std::string piece(1 << 20, 'b');
  for (int64_t sent = 0; sent < bytes; sent += static_cast<int64_t>(piece.size())) chunk(piece);
  chunk(std::string(1024, '\0'));
  client.Send("0\r\n\r\n");
  EXPECT_THAT(client.ReadToEnd(), StartsWith("HTTP/1.1 200"));
  EXPECT_LT(MemoryMib("VmHWM"), before + 48);

  // Back, as an export and as a copy.
  for (const char* target : {"/containers/large/archive?path=/big", "/containers/large/export"}) {
    DockerClient reader(Socket());
    reader.Send(absl::StrCat("GET ", target, " HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"));
    int64_t got = 0;
    std::string buffer(1 << 20, '\0');
    for (ssize_t n; (n = recv(reader.fd(), buffer.data(), buffer.size(), 0)) > 0;) got += n;
    EXPECT_GT(got, bytes) << target;
    EXPECT_LT(MemoryMib("VmHWM"), before + 48) << target;
  }
}

TEST_F(DockerScaleTest, ALargeImageIsLoadedAndSavedWithoutMemory) {
  const int64_t mib = LargeMib();
  const std::string directory = bed_->scratch() + "/large";
  // A layer that does not compress, as an archive of docker save.
  ASSERT_TRUE(Ok(RunProgram(
      {"sh", "-ec",
       absl::StrCat(
           "mkdir -p ", directory, "/rootfs; cd ", directory,
           "; head -c 1048576 /dev/urandom > piece; i=0; while [ $i -lt ", mib,
           " ]; do cat piece; i=$((i + 1)); done > rootfs/big; tar -C rootfs -cf layer.tar big; "
           "rm -r rootfs; id=$(sha256sum layer.tar | cut -d' ' -f1); "
           R"(printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers",)"
           R"("diff_ids":["sha256:%s"]}}' $id > config.json; )"
           R"(printf '[{"Config":"config.json","RepoTags":["large:1"],"Layers":["layer.tar"]}]' )"
           "> manifest.json; tar -cf image.tar manifest.json config.json layer.tar; rm layer.tar")},
      "", absl::Minutes(10))));
  const int64_t before = MemoryMib("VmRSS");
  ForgetPeak();
  const Outcome loaded =
      RunProgram({"curl", "-sS", "--unix-socket", Socket(), "-H", "Content-Type: application/x-tar",
                  "-T", directory + "/image.tar", "-X", "POST", "http://d/images/load"},
                 "", absl::Minutes(10));
  EXPECT_THAT(loaded.out, HasSubstr("Loaded image: large:1")) << loaded.err;
  EXPECT_LT(MemoryMib("VmHWM"), before + 64);
  const Outcome saved = RunProgram(
      {"sh", "-c",
       absl::StrCat("curl -sS --unix-socket ", Socket(), " http://d/images/large:1/get | wc -c")},
      "", absl::Minutes(10));
  int64_t size = 0;
  ASSERT_TRUE(absl::SimpleAtoi(saved.out, &size)) << saved.out << saved.err;
  EXPECT_GT(size, mib << 20);
  EXPECT_LT(MemoryMib("VmHWM"), before + 64);
  EXPECT_THAT(Ask("DELETE", "/images/large:1"), StartsWith("HTTP/1.1 200"));
}

}  // namespace
}  // namespace gantry::integration
