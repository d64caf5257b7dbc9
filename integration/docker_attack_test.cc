// Attacks through the Docker door: links that are swapped under a copy, programs and libraries of
// an image that a daemon might run, descriptors and programs of the host, requests that two readers
// might read differently, streams that nobody reads, sockets and files that are open to others.
//
// Each runs a few rounds; GANTRY_ATTACK_ROUNDS says how many times as many.
#include <dirent.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
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

using api::docker::AskDocker;
using api::docker::DockerClient;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

int Rounds(int few) {
  int times = 1;
  const char* const asked = getenv("GANTRY_ATTACK_ROUNDS");
  if (asked != nullptr && !absl::SimpleAtoi(asked, &times)) times = 1;
  return few * times;
}

// A number out of /proc/PID/status, such as VmRSS in KiB; 0 when the process is gone.
int64_t StatusOf(pid_t pid, absl::string_view name) {
  const absl::StatusOr<std::string> text =
      ReadFile(absl::StrCat("/proc/", pid, "/status"), 64 << 10);
  if (!text.ok()) return 0;
  for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
    int64_t number = 0;
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" :\t"), absl::SkipEmpty());
    if (words.size() > 1 && words[0] == name && absl::SimpleAtoi(words[1], &number)) return number;
  }
  return 0;
}

size_t EntriesOf(const std::string& directory) {
  size_t count = 0;
  DIR* const open = opendir(directory.c_str());
  if (open == nullptr) return 0;
  while (readdir(open) != nullptr) ++count;
  closedir(open);
  return count;
}

class DockerAttackTest : public DockerDoorTest {
 protected:
  void Start(const std::string& name, const std::string& script,
             const std::string& more = "") const {
    Create(absl::StrCat(R"({"Image":"busybox:door","Cmd":["sh","-c",")", absl::CEscape(script),
                        R"("])", more, "}"),
           name);
    EXPECT_THAT(Ask("POST", absl::StrCat("/containers/", name, "/start")),
                StartsWith("HTTP/1.1 204"));
  }
  std::string Put(const std::string& name, const std::string& path, const std::string& tar) const {
    return AskDocker(Socket(), "PUT", absl::StrCat("/containers/", name, "/archive?path=", path),
                     tar, "application/x-tar");
  }
  std::string Run(const std::string& container, const std::string& body) const {
    return Ask("POST", absl::StrCat("/exec/", CreateExec(container, body), "/start"), "{}");
  }
  // What `find` says of a tree: names, kinds, modes, owners, sizes, contents.
  std::string TreeOf(const std::string& directory) const {
    return RunProgram({"sh", "-c",
                       absl::StrCat("cd ", directory,
                                    " && find . -printf '%p %y %m %U %s\\n' | sort; find . -type f "
                                    "-exec sha256sum {} + | sort")})
        .out;
  }
  std::string HashOf(const std::string& file) const {
    return RunProgram({"sha256sum", "-b", file}).out;
  }
  // An archive of a tree that a script makes in an empty directory.
  std::string Tar(const std::string& script) const {
    static int number = 0;
    const std::string tree = absl::StrCat(bed_->scratch(), "/tree", ++number);
    EXPECT_TRUE(Ok(RunProgram(
        {"sh", "-ec",
         absl::StrCat("mkdir ", tree, "; cd ", tree, "; ", script, "; tar -cf ../t.tar .")})));
    return ReadFile(bed_->scratch() + "/t.tar", 256 << 20).value();
  }
  static std::string Hostile() { return Program("hostile"); }
  static std::string Program(const std::string& name) {
    char path[4096];
    return realpath(absl::StrCat("integration/", name).c_str(), path) == nullptr ? name : path;
  }
  pid_t ShimOf(const std::string& name) const {
    const std::string details = Ask("GET", absl::StrCat("/containers/", name, "/json"));
    const size_t at = details.find("\"ShimPid\":");
    return at == std::string::npos ? 0 : atoi(details.c_str() + at + 10);
  }
};

// ---- links that are swapped under a copy ----

TEST_F(DockerAttackTest, CopiesStayInsideWhileEveryPartOfThePathIsSwappedForALink) {
  const std::string canary = bed_->scratch() + "/canary";
  ASSERT_TRUE(Ok(RunProgram({"sh", "-ec",
                             absl::StrCat("mkdir -p ", canary, "/b/c; cd ", canary,
                                          "; for d in . b b/c; do echo of the host > $d/note; "
                                          "done; chmod 751 b; chmod 640 b/note")})));
  const std::string before = TreeOf(canary);
  // The parts a, a/b and a/b/c are a directory and a link to the host's tree in turn, in the root
  // file system and in a volume that another container has, too.
  const std::string swap = absl::StrCat(
      "cd $ROOT; while :; do for p in a a/b a/b/c; do rm -rf a; mkdir -p a/b/c; "
      "echo inside > a/b/c/note; echo inside > a/note; rm -rf $p; ln -s ",
      canary, " $p; done; done");
  EXPECT_THAT(Ask("POST", "/volumes/create", R"({"Name":"swapped"})"), StartsWith("HTTP/1.1 201"));
  Start("swapper", absl::StrCat("ROOT=/; ", swap));
  Start("inside", absl::StrCat("ROOT=/vol; ", swap), R"(,"HostConfig":{"Binds":["swapped:/vol"]})");
  Start("beside", "sleep 1000", R"(,"HostConfig":{"Binds":["swapped:/vol"]})");
  const std::string tar = Tar("echo of the attacker > note; mkdir -p b/c; cp note b/c");
  int copied = 0;
  for (int i = 0; i < Rounds(40); ++i) {
    for (const char* where :
         {"swapper /a", "swapper /a/b/c", "inside /vol/a", "beside /vol/a/b/c", "beside /vol/a"}) {
      const std::vector<std::string> words = absl::StrSplit(where, ' ');
      copied += absl::StartsWith(Put(words[0], words[1], tar), "HTTP/1.1 200") ? 1 : 0;
      const std::string target =
          absl::StrCat("/containers/", words[0], "/archive?path=", words[1], "/note");
      EXPECT_THAT(Ask("GET", target), Not(HasSubstr("of the host"))) << where;
      Ask("HEAD", target);
    }
  }
  EXPECT_GT(copied, 0);
  EXPECT_EQ(TreeOf(canary), before);
  // The volume's own data is swapped under an export and under a mount.
  for (int i = 0; i < Rounds(5); ++i) {
    EXPECT_THAT(Ask("GET", "/containers/swapper/export"), Not(HasSubstr("of the host")));
    Create(R"({"Image":"busybox:door","Cmd":["cat","/m/note"],"HostConfig":{"Mounts":[{"Type":)"
           R"("volume","Source":"swapped","Target":"/m","VolumeOptions":{"Subpath":"a"}}]}})",
           "mounted");
    // It cannot start where the directory was a link, or was removed, just then.
    if (absl::StartsWith(Ask("POST", "/containers/mounted/start"), "HTTP/1.1 204"))
      Ask("POST", "/containers/mounted/wait");
    EXPECT_THAT(Ask("GET", "/containers/mounted/logs?stdout=1&stderr=1"),
                Not(HasSubstr("of the host")));
    EXPECT_THAT(Ask("DELETE", "/containers/mounted?force=1"), StartsWith("HTTP/1.1 204"));
  }
  EXPECT_EQ(TreeOf(canary), before);
}

// ---- programs and libraries of an image ----

TEST_F(DockerAttackTest, NothingOfAnImageIsRunOrLoadedByTheDaemon) {
  const std::string trojans = Tar(absl::StrCat(
      "mkdir -p bin usr/bin usr/local/bin usr/sbin sbin etc lib/x86_64-linux-gnu usr/lib lib64; "
      "for p in xz gzip gunzip zstd unzstd unpigz pigz bzip2 tar ps igzip iptables mount nsenter "
      "modprobe; do for d in usr/bin usr/local/bin usr/sbin sbin; do cp ",
      Program("hostile"),
      " $d/$p; done; done; for l in libnss_trojan.so.2 libnss_files.so.2 libnss_compat.so.2 "
      "libzstd.so.1 liblzma.so.5 preload.so; do for d in lib/x86_64-linux-gnu usr/lib lib64; do "
      "cp ",
      Program("libhostile.so"),
      " $d/$l; done; done; echo /usr/lib/preload.so > etc/ld.so.preload; "
      "printf 'passwd: trojan compat files\\ngroup: trojan compat files\\n' > etc/nsswitch.conf; "
      "printf 'root:x:0:0:root:/:/bin/sh\\nuser:x:7:7:::\\n' > etc/passwd; printf "
      "'root:x:0:\\nuser:x:7:\\n' > etc/group"));
  Start("trojan", "sleep 1000");
  EXPECT_THAT(Put("trojan", "/", trojans), StartsWith("HTTP/1.1 200"));
  const std::string plain = Tar("echo text > file");
  const auto clean = [this](const std::string& name, const std::string& after) {
    EXPECT_THAT(Ask("HEAD", absl::StrCat("/containers/", name, "/archive?path=/pwned")),
                StartsWith("HTTP/1.1 404"))
        << after;
    EXPECT_NE(access("/pwned", F_OK), 0) << after;
    unlink("/pwned");
  };
  for (const char* how : {"cat", "gzip -c", "bzip2 -c", "xz -c", "zstd -qc"}) {
    const Outcome packed = RunProgram({"sh", "-c", how}, plain);
    if (packed.code != 0) continue;  // not installed
    EXPECT_THAT(Put("trojan", "/tmp", packed.out), StartsWith("HTTP/1.1 ")) << how;
    clean("trojan", how);
  }
  for (const char* target :
       {"/containers/trojan/archive?path=/etc", "/containers/trojan/export",
        "/containers/trojan/top", "/containers/trojan/stats?stream=0&one-shot=1",
        "/containers/trojan/changes", "/containers/trojan/json?size=1"}) {
    EXPECT_THAT(Ask("GET", target), StartsWith("HTTP/1.1 200")) << target;
    clean("trojan", target);
  }
  EXPECT_THAT(Run("trojan", R"({"Cmd":["true"],"User":"user","AttachStdout":true})"),
              StartsWith("HTTP/1.1 200"));
  clean("trojan", "exec");
  EXPECT_THAT(Ask("POST", "/commit?container=trojan&repo=trojan&tag=1", "{}"),
              StartsWith("HTTP/1.1 201"));
  // From the image: users are looked up, volumes filled, layers made, archives unpacked by ADD.
  Create(R"({"Image":"trojan:1","User":"user:user","Cmd":["sleep","1000"],"Volumes":{"/usr":{}}})",
         "second");
  EXPECT_THAT(Ask("POST", "/containers/second/start"), StartsWith("HTTP/1.1 "));
  clean("second", "start");
  const std::string context =
      Tar("echo text > file; tar czf a.tgz file; tar cJf a.txz file || true; rm file; "
          "printf 'FROM trojan:1\\nADD a.t* /added/\\nCOPY --chown=user:user a.tgz /owned\\n' > "
          "Dockerfile");
  EXPECT_THAT(
      AskDocker(Socket(), "POST", "/build?t=trojan:2&version=1", context, "application/x-tar"),
      AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("Successfully built")));
  Create(R"({"Image":"trojan:2","Cmd":["true"]})", "third");
  clean("third", "build");
}

// ---- descriptors and programs of the host ----

TEST_F(DockerAttackTest, NeitherFirstProcessNorExecHasADescriptorOfTheHost) {
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  Start("runs", "ls /proc/self/fd; ls -l /proc/1/fd; sleep 1000");
  ASSERT_TRUE(Eventually(
      [&] { return absl::StrContains(Ask("GET", "/containers/runs/logs?stdout=1"), "2 ->"); }));
  const std::string first = Ask("GET", "/containers/runs/logs?stdout=1");
  for (int fd = 4; fd < 64; ++fd)
    EXPECT_THAT(first, Not(HasSubstr(absl::StrCat(" ", fd, " -> ")))) << fd;
  // 3 is the directory that ls reads.
  EXPECT_THAT(first, Not(HasSubstr(" 3 -> ")));
  EXPECT_THAT(Run("runs", R"({"Cmd":["ls","/proc/self/fd"],"AttachStdout":true})"),
              AllOf(HasSubstr("0\n1\n2\n3\n"), Not(HasSubstr("4\n"))));
  EXPECT_THAT(Run("runs", R"({"Cmd":["sh","-c","ls /proc/1/fd | wc -l"],"AttachStdout":true})"),
              HasSubstr("3\n"));
  for (int fd = 0; fd <= 64; ++fd) {
    const std::string cwd = absl::StrCat("/proc/self/fd/", fd);
    const char* const look = "cat etc/hostname ../../etc/hostname ../../../../../etc/hostname";
    EXPECT_THAT(Run("runs", absl::StrCat(R"({"Cmd":["sh","-c",")", look,
                                         R"("],"AttachStdout":true,"WorkingDir":")", cwd, R"("})")),
                Not(HasSubstr(absl::StrCat(host, "\n"))))
        << fd;
    // A container each is slow: those that a runtime had open once.
    if (fd < 3 || fd > 16) continue;
    // Refused as such, and looked at in a container that gets there by a link of its image.
    EXPECT_THAT(Ask("POST", "/containers/create",
                    absl::StrCat(R"({"Image":"busybox:door","WorkingDir":")", cwd, R"("})")),
                AllOf(StartsWith("HTTP/1.1 400"), HasSubstr("a handle of a process")));
    const std::string name = absl::StrCat("cwd", fd);
    Create(absl::StrCat(R"({"Image":"busybox:door","Cmd":["sh","-c",")", look,
                        R"("],"WorkingDir":"/link"})"),
           name);
    EXPECT_THAT(Put(name, "/", Tar(absl::StrCat("ln -s ", cwd, " link"))),
                StartsWith("HTTP/1.1 200"));
    Ask("POST", absl::StrCat("/containers/", name, "/start"));
    Ask("POST", absl::StrCat("/containers/", name, "/wait"));
    EXPECT_THAT(Ask("GET", absl::StrCat("/containers/", name, "/logs?stdout=1")),
                Not(HasSubstr(absl::StrCat(host, "\n"))))
        << fd;
  }
}

TEST_F(DockerAttackTest, ProgramsOfTheHostAreNeitherWrittenNorTraced) {
  std::vector<std::string> programs = {"/usr/bin/crun", "/usr/bin/runc", "/usr/sbin/runc"};
  for (const char* name : {"gantryd", "gantry-shim", "gantry-init"}) {
    const std::string found =
        RunProgram({"sh", "-c",
                    absl::StrCat("readlink -f \"$GANTRY_BIN\"/*/", name, " supervisor/", name,
                                 " shim/", name, " 2>/dev/null | head -n 1")})
            .out;
    for (const absl::string_view line : absl::StrSplit(found, '\n', absl::SkipEmpty()))
      programs.emplace_back(line);
  }
  std::vector<std::string> hashes;
  for (const std::string& program : programs) hashes.push_back(HashOf(program));

  const std::string tar =
      Tar(absl::StrCat("cp ", Program("hostile"),
                       " hostile; printf '#!/proc/self/exe\\n' > script; chmod 755 script"));
  for (const char* what : {"overwrite", "trace"}) {
    for (const bool init : {false, true}) {
      const std::string name = absl::StrCat(what, init);
      Create(absl::StrCat(R"({"Image":"busybox:door","Cmd":["/hostile",")", what,
                          R"("],"HostConfig":{"Init":)", init ? "true" : "false", "}}"),
             name);
      EXPECT_THAT(Put(name, "/", tar), StartsWith("HTTP/1.1 200"));
      EXPECT_THAT(Ask("POST", absl::StrCat("/containers/", name, "/start")),
                  StartsWith("HTTP/1.1 204"));
      const std::string logs = absl::StrCat("/containers/", name, "/logs?stdout=1");
      ASSERT_TRUE(Eventually([&] { return absl::StrContains(Ask("GET", logs), "ready"); }));
      for (int i = 0; i < Rounds(10); ++i) {
        for (const char* command : {"/proc/self/exe", "/script", "true", "/proc/1/exe"})
          Run(name, absl::StrCat(R"({"Cmd":[")", command, R"("],"AttachStdout":true})"));
      }
      EXPECT_THAT(Ask("GET", logs), AllOf(Not(HasSubstr("WROTE")), Not(HasSubstr("SEIZED"))))
          << name;
      // Once more without a process that holds it: what /proc/self/exe was is left by its run.
      EXPECT_THAT(Ask("DELETE", absl::StrCat("/containers/", name, "?force=1")),
                  StartsWith("HTTP/1.1 204"));
    }
  }
  for (const char* command : {"/proc/self/exe", "/script"}) {
    const std::string name = absl::StrCat("entry", strlen(command));
    Create(absl::StrCat(R"({"Image":"busybox:door","Entrypoint":[")", command, R"("]})"), name);
    EXPECT_THAT(Put(name, "/", tar), StartsWith("HTTP/1.1 200"));
    Ask("POST", absl::StrCat("/containers/", name, "/start"));
  }
  for (size_t i = 0; i < programs.size(); ++i) EXPECT_EQ(HashOf(programs[i]), hashes[i]);
}

// ---- requests that two readers might read differently ----

TEST_F(DockerAttackTest, WhatIsCarriedOutIsWhatTheBodySaysInWhateverWayItComes) {
  const std::string body = R"({"Image":"busybox:door","Cmd":["true"],"Env":["PAD=)" +
                           std::string(100000, 'p') +
                           R"("],"HostConfig":{"Privileged":false,"CapAdd":["NET_ADMIN"]}})";
  const std::string head = "POST /containers/create?name=";
  const std::string fields = " HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n";
  const auto answer = [this](const std::string& bytes, bool whole = true) {
    DockerClient client(Socket());
    client.Send(bytes);
    // A client that closes its side is taken for one that has gone, so the answer comes first;
    // then the end, since what is behind may look like the beginning of another request.
    const std::string response = whole ? client.ReadUntil("\r\n\r\n") : "";
    client.CloseWriting();
    return response + client.ReadToEnd();
  };
  const auto chunked = [&](size_t piece) {
    std::string out;
    for (size_t at = 0; at < body.size(); at += piece) {
      const std::string part = body.substr(at, piece);
      absl::StrAppend(&out, absl::Hex(part.size()), "\r\n", part, "\r\n");
    }
    return out + "0\r\n\r\n";
  };
  // The same container, whatever brought the document.
  EXPECT_THAT(answer(absl::StrCat(head, "length", fields, "Content-Length: ", body.size(),
                                  "\r\n\r\n", body)),
              StartsWith("HTTP/1.1 201"));
  for (const size_t piece : {size_t{4096}, size_t{65536}, body.size()}) {
    EXPECT_THAT(answer(absl::StrCat(head, "chunked", piece, fields,
                                    "Transfer-Encoding: chunked\r\n\r\n", chunked(piece))),
                StartsWith("HTTP/1.1 201"));
    EXPECT_THAT(Ask("GET", absl::StrCat("/containers/chunked", piece, "/json")),
                AllOf(HasSubstr(R"("CapAdd":["CAP_NET_ADMIN"])"),
                      HasSubstr(R"("Privileged":false)"), HasSubstr(std::string(100000, 'p'))));
  }
  // No body, a length of nothing with a body behind it, a length that is too short: nothing is
  // made, and what is behind is not taken for more of the request.
  const std::string privileged = R"({"Image":"busybox:door","HostConfig":{"Privileged":true}})";
  const std::string missing = absl::StrCat("Content-Length: ", privileged.size() + 10);
  for (const std::string& bytes : {
           absl::StrCat(head, "bad", fields, "\r\n", privileged),
           absl::StrCat(head, "bad", fields, "Content-Length: 0\r\n\r\n", privileged),
           absl::StrCat(head, "bad", fields, "Content-Length: 10\r\n\r\n", privileged),
           absl::StrCat(head, "bad", fields, missing, "\r\n\r\n", privileged),
           absl::StrCat(head, "bad", fields, "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                        privileged),
           absl::StrCat(head, "bad", fields, "Content-Length: ", privileged.size(),
                        "\r\nContent-Length: ", privileged.size(), "0\r\n\r\n", privileged),
           absl::StrCat(head, "bad", fields, "Content-Length: ", privileged.size(),
                        "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", privileged),
           absl::StrCat(head, "bad", fields, "Content-Type: text/plain\r\nContent-Length: ",
                        privileged.size(), "\r\n\r\n", privileged),
           absl::StrCat(head, "bad", fields,
                        "Connection: Upgrade\r\nUpgrade: h2c\r\n"
                        "HTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 0\r\n\r\n",
                        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", privileged),
           absl::StrCat("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", head, "bad", fields,
                        "Content-Length: ", privileged.size(), "\r\n\r\n", privileged),
       }) {
    const bool whole = !absl::StrContains(bytes, missing);
    EXPECT_THAT(answer(bytes, whole), Not(HasSubstr("HTTP/1.1 201")))
        << absl::CHexEscape(bytes.substr(0, 300));
    EXPECT_THAT(Ask("GET", "/containers/bad/json"), StartsWith("HTTP/1.1 404"))
        << absl::CHexEscape(bytes.substr(0, 300));
  }
  // Keys twice, at any depth and in any spelling, and more than the limit, where the beginning
  // alone would be a document.
  for (
      const std::string& twice :
      {std::string(
           R"({"Image":"busybox:door","HostConfig":{"Privileged":true,"Privileged":false}})"),
       std::string(
           R"({"Image":"busybox:door","HostConfig":{"Privileged":false},"HostConfig":{"Privileged":true}})"),
       std::string(
           R"({"Image":"busybox:door","HostConfig":{"Privileged":false,"Priv\u0069leged":true}})"),
       privileged + std::string(5 << 20, ' '), privileged + "{}"}) {
    EXPECT_THAT(Ask("POST", "/containers/create?name=bad", twice), StartsWith("HTTP/1.1 400"))
        << twice.substr(0, 120);
    EXPECT_THAT(Ask("GET", "/containers/bad/json"), StartsWith("HTTP/1.1 404"));
  }
  // 100 MB, of which no more than the limit is kept.
  const int64_t before = StatusOf(bed_->daemon_pid(), "VmRSS");
  DockerClient client(Socket());
  client.Send(absl::StrCat(head, "bad", fields, "Content-Length: 104857600\r\n\r\n", privileged));
  const std::string spaces(1 << 20, ' ');
  for (int i = 0; i < 100; ++i) client.Send(spaces);
  EXPECT_THAT(client.ReadToEnd(), Not(HasSubstr("HTTP/1.1 201")));
  EXPECT_LT(StatusOf(bed_->daemon_pid(), "VmRSS"), before + (32 << 10));
  EXPECT_THAT(Ask("GET", "/containers/bad/json"), StartsWith("HTTP/1.1 404"));
}

// ---- streams that nobody reads ----

TEST_F(DockerAttackTest, OutputChildrenAndClientsThatLeaveKeepNothing) {
  const std::string tar = Tar(absl::StrCat("cp ", Program("hostile"), " hostile"));
  Start("runs", "sleep 100000");
  EXPECT_THAT(Put("runs", "/", tar), StartsWith("HTTP/1.1 200"));
  const pid_t shim = ShimOf("runs");
  ASSERT_GT(shim, 0);
  const std::string proc = absl::StrCat("/proc/", bed_->daemon_pid());
  const std::string shim_proc = absl::StrCat("/proc/", shim);
  const auto flood = [this] {
    // Output without an end and without a reader.
    const std::string id = CreateExec("runs", R"({"Cmd":["yes"],"AttachStdout":true})");
    auto client = std::make_unique<DockerClient>(Socket());
    client->Send(absl::StrCat("POST /exec/", id,
                              "/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
                              "Content-Length: 2\r\n\r\n{}"));
    return client;
  };
  const auto leave = [this](int times) {
    for (int i = 0; i < times; ++i) {
      // The exec ends, its child keeps the output open.
      DockerClient client(Socket());
      client.Send(absl::StrCat(
          "POST /exec/", CreateExec("runs", R"({"Cmd":["/hostile","hold"],"AttachStdout":true})"),
          "/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
          "Content-Length: 2\r\n\r\n{}"));
      client.ReadUntil("\r\n\r\n");
      for (int j = 0; j < 5; ++j) {
        DockerClient attached(Socket());
        attached.Send(
            "POST /containers/runs/attach?stream=1&stdout=1&stdin=1 HTTP/1.1\r\nHost: d\r\n"
            "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
        if (j % 2 == 0) attached.ReadUntil("\r\n\r\n");
        Ask("POST", "/containers/runs/resize?h=10&w=10");
      }
    }
  };
  leave(3);
  std::vector<std::unique_ptr<DockerClient>> deaf;
  for (int i = 0; i < 4; ++i) deaf.push_back(flood());
  absl::SleepFor(absl::Seconds(1));
  const auto settled = [&](const std::string& place, const char* what, size_t limit) {
    return Eventually([&] { return EntriesOf(place + what) <= limit; });
  };
  const size_t fds = EntriesOf(proc + "/fd"), threads = EntriesOf(proc + "/task");
  const size_t shim_fds = EntriesOf(shim_proc + "/fd");
  const int64_t memory = StatusOf(bed_->daemon_pid(), "VmRSS"),
                shim_memory = StatusOf(shim, "VmRSS");
  leave(Rounds(20));
  absl::SleepFor(absl::Seconds(1));
  EXPECT_TRUE(settled(proc, "/fd", fds + 20)) << EntriesOf(proc + "/fd") << " of " << fds;
  EXPECT_TRUE(settled(proc, "/task", threads + 20))
      << EntriesOf(proc + "/task") << " of " << threads;
  EXPECT_TRUE(settled(shim_proc, "/fd", shim_fds + 20))
      << EntriesOf(shim_proc + "/fd") << " of " << shim_fds;
  // KiB.
  EXPECT_LT(StatusOf(bed_->daemon_pid(), "VmRSS"), memory + (24 << 10));
  EXPECT_LT(StatusOf(shim, "VmRSS"), shim_memory + (8 << 10));
  EXPECT_THAT(Run("runs", R"({"Cmd":["echo","well"],"AttachStdout":true})"), HasSubstr("well"));
  deaf.clear();
  EXPECT_THAT(Ask("DELETE", "/containers/runs?force=1"), StartsWith("HTTP/1.1 204"));
}

// ---- what is open to others on this host ----

// In a network of the test's own, which is the host's for the daemon: what is found there is ours.
class HostNetworkTest : public DockerAttackTest {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    ASSERT_TRUE(Ok(RunProgram({"ip", "link", "set", "lo", "up"})));
    DockerAttackTest::SetUp();
  }
};

TEST_F(HostNetworkTest, NothingOfOursServesAContainerInTheHostsNetwork) {
  // Each has a shim with a socket of its own.
  Start("beside", "sleep 1000");
  Start("local", "sleep 1000", R"(,"HostConfig":{"NetworkMode":"none"})");
  Create(R"({"Image":"busybox:door","Cmd":["/hostile","scan"],"HostConfig":)"
         R"({"NetworkMode":"host","CapAdd":["NET_ADMIN","NET_RAW"]}})",
         "scanner");
  EXPECT_THAT(Put("scanner", "/", Tar(absl::StrCat("cp ", Program("hostile"), " hostile"))),
              StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Ask("POST", "/containers/scanner/start"), StartsWith("HTTP/1.1 204"));
  Ask("POST", "/containers/scanner/wait");
  const std::string said = Ask("GET", "/containers/scanner/logs?stdout=1&stderr=1");
  // The daemon's own socket is among those that it sees, but has no path in the container.
  EXPECT_THAT(said, HasSubstr("sockets were seen"));
  EXPECT_THAT(said, HasSubstr("scanned"));
  for (const absl::string_view line : absl::StrSplit(said, '\n')) {
    const size_t at = line.find("ANSWERED ");
    if (at == absl::string_view::npos) continue;
    // The port that kubelet is sent to for its streams: without a token of ours it has nothing.
    EXPECT_THAT(std::string(line.substr(at)),
                testing::MatchesRegex("ANSWERED 127.0.0.1:[0-9]+ HTTP/1.1 404 .*"));
  }
}

// Though the way to the socket were open: who calls is looked at.
TEST_F(DockerAttackTest, AShimServesNoOtherUser) {
  Start("runs", "sleep 1000");
  const std::string sockets = bed_->state() + "/s";
  ASSERT_EQ(chmod(sockets.c_str(), 0755), 0);
  const Outcome opened = RunProgram(
      {"find", sockets, "-type", "s", "-exec", "chmod", "666", "{}", ";", "-print", "-quit"});
  ASSERT_TRUE(absl::EndsWith(opened.out, "\n")) << opened.err;
  const std::string socket = opened.out.substr(0, opened.out.size() - 1);
  // The beginning of HTTP/2 and its first frame, without settings, which a server answers.
  const std::string call = absl::StrCat(
      "import socket\ns = socket.socket(socket.AF_UNIX)\ns.settimeout(20)\ns.connect('", socket,
      "')\ntry:\n  s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + "
      "b'\\0\\0\\0\\4' + b'\\0' * 5)\n  print(len(s.recv(100)))\n"
      "except OSError:\n  print(0)\n");
  const Outcome root = RunProgram({"/usr/bin/python3", "-c", call});
  EXPECT_NE(root.out, "0\n") << root.err;
  const Outcome nobody = RunProgram({"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                                     "/usr/bin/python3", "-c", call});
  EXPECT_EQ(nobody.out, "0\n") << nobody.err;
  ASSERT_EQ(chmod(sockets.c_str(), 0700), 0);
}

TEST_F(DockerAttackTest, NothingOfOursIsOpenToAUserOfTheHost) {
  // A program that is its owner's wherever it is started: in the image, in a layer that a container
  // writes, and in a volume.
  const std::string plant =
      "cp /bin/busybox /planted; chmod 4755 /planted; chmod 777 /; "
      "mkdir -p /vol; cp /planted /vol/planted; chmod 4755 /vol/planted; chmod 777 /vol; echo "
      "done; "
      "sleep 1000";
  Start("plants", plant, R"(,"HostConfig":{"Binds":["planted:/vol"]})");
  ASSERT_TRUE(Eventually(
      [&] { return absl::StrContains(Ask("GET", "/containers/plants/logs?stdout=1"), "done"); }));
  EXPECT_THAT(Ask("POST", "/commit?container=plants&repo=planted&tag=1", "{}"),
              StartsWith("HTTP/1.1 201"));
  // Root lists everything; nobody is then asked for each name, because a directory that does not
  // list its names may still let one through who knows them.
  const auto as_nobody = [&](const std::string& which, const std::string& test) {
    return RunProgram({"sh", "-c",
                       absl::StrCat("find ", bed_->root(), " ", bed_->state(), " -xdev ", which,
                                    " -print0 | setpriv --reuid=65534 --regid=65534 --clear-groups "
                                    "xargs -0 -n 1 sh -c '[ ",
                                    test, " \"$0\" ] && echo \"$0\"; true'")})
        .out;
  };
  // The testbed's own directory above these must be open, or nothing would be shown.
  ASSERT_EQ(RunProgram({"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "test", "-x",
                        bed_->root()})
                .code,
            0);
  EXPECT_EQ(RunProgram({"find", bed_->root(), "-name", "planted", "-perm", "-4000"}).out.empty(),
            false);
  EXPECT_EQ(as_nobody("-type f -perm /6000", "-e"), "") << "set-id programs";
  EXPECT_EQ(as_nobody("-type s", "-w"), "") << "sockets";
  EXPECT_EQ(as_nobody("\\( -type f -o -type d -o -type p \\)", "-w"), "") << "writable";
  // The mount points below all containers are empty.
  EXPECT_EQ(as_nobody("-type f -size +0", "-r"), "") << "readable";
}

}  // namespace
}  // namespace gantry::integration
