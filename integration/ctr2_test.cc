// A current ctr (2.x), built from containerd's Go module by `./dev test`, which says where it is by
// $GANTRY_CTR: the paths that only it takes (transfer service, streams, sandboxes, runtime
// information), and the common ones once more.
//
// Run apart from the other tests, for it needs a Go toolchain and the module; without the program
// it fails, and does not skip: it is `./dev test` that leaves it out, by name, where ctr cannot be
// built.
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "integration/images.h"
#include "integration/testbed.h"
#include "supervisor/distribution/docker_registry.h"

namespace gantry::integration {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kImage[] = "docker.io/library/busybox:ctr2";

class Ctr2Test : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(geteuid(), 0u) << "containers need root";
    const char* program = getenv("GANTRY_CTR");
    ASSERT_NE(program, nullptr) << "GANTRY_CTR names no ctr; run ./dev test clients";
    program_ = program;
    bed_ = std::make_unique<Testbed>();
    archive_ = absl::StrCat(bed_->scratch(), "/busybox.tar");
    ASSERT_TRUE(WriteBusyboxArchive(archive_, kImage).ok());
    ASSERT_TRUE(Ok(Ctr({"images", "import", archive_})));
  }

  Outcome Ctr(std::vector<std::string> args, const std::string& input = "") const {
    std::vector<std::string> argv = {program_, "--address", bed_->address(), "--namespace",
                                     bed_->ns()};
    argv.insert(argv.end(), args.begin(), args.end());
    return RunProgram(std::move(argv), input, absl::Seconds(60), {{"HOME", bed_->scratch()}});
  }
  // Expects exit status 0; standard output without the last newline.
  std::string Out(std::vector<std::string> args) const {
    const Outcome outcome = Ctr(std::move(args));
    EXPECT_TRUE(Ok(outcome));
    return std::string(absl::StripSuffix(outcome.out, "\n"));
  }
  std::string Refused(std::vector<std::string> args) const {
    const Outcome outcome = Ctr(std::move(args));
    EXPECT_NE(outcome.code, 0) << outcome.command;
    return outcome.out + outcome.err;
  }

  std::string program_;
  std::unique_ptr<Testbed> bed_;
  std::string archive_;
};

TEST_F(Ctr2Test, TheServerIntroducesItself) {
  EXPECT_THAT(Out({"version"}), HasSubstr("+gantry"));
  EXPECT_THAT(Out({"info"}), HasSubstr("\"uuid\""));
  EXPECT_EQ(Out({"deprecations", "list"}), "");
  const std::string plugins = Out({"plugins", "ls"});
  for (const char* id : {"overlayfs", "restart", "transfer", "streaming", "sandbox-controllers"})
    EXPECT_THAT(plugins, HasSubstr(id));
  EXPECT_THAT(plugins, Not(HasSubstr("error")));
  const std::string runtime = Out({"plugins", "inspect-runtime"});
  EXPECT_THAT(runtime, HasSubstr("io.containerd.runc.v2"));
  EXPECT_THAT(runtime, HasSubstr("ociVersionMax"));
}

TEST_F(Ctr2Test, NamespacesAndLeases) {
  const std::string ns = bed_->ns() + "-x";
  ASSERT_TRUE(Ok(Ctr({"namespaces", "create", ns, "team=a"})));
  ASSERT_TRUE(Ok(Ctr({"namespaces", "label", ns, "team=b"})));
  EXPECT_THAT(Out({"namespaces", "ls"}), HasSubstr("team=b"));
  ASSERT_TRUE(Ok(Ctr({"namespaces", "rm", ns})));
  EXPECT_THAT(Refused({"namespaces", "rm", bed_->ns()}), HasSubstr("images"));
  ASSERT_TRUE(Ok(Ctr({"leases", "create", "--id", "mine", "k=v"})));
  EXPECT_THAT(Out({"leases", "ls"}), HasSubstr("k=v"));
  ASSERT_TRUE(Ok(Ctr({"leases", "rm", "--sync", "mine"})));
  EXPECT_THAT(Refused({"leases", "rm", "mine"}), HasSubstr("not found"));
}

TEST_F(Ctr2Test, ImagesComeAndGoThroughTheTransferServiceAndWithoutIt) {
  EXPECT_EQ(Out({"images", "ls", "-q"}), kImage);
  EXPECT_THAT(Out({"images", "check"}), HasSubstr("complete"));
  EXPECT_THAT(Out({"images", "usage", kImage}), HasSubstr("sha256:"));
  EXPECT_THAT(Out({"images", "inspect", kImage}), HasSubstr("container.image"));
  ASSERT_TRUE(Ok(Ctr({"images", "tag", kImage, "docker.io/library/other:1"})));
  ASSERT_TRUE(Ok(Ctr({"images", "label", kImage, "a.b/c=d"})));
  EXPECT_THAT(Out({"images", "ls"}), HasSubstr("a.b/c=d"));
  ASSERT_TRUE(Ok(Ctr({"images", "convert", "--uncompress", kImage, "docker.io/library/flat:1"})));
  const std::string exported = absl::StrCat(bed_->scratch(), "/exported.tar");
  ASSERT_TRUE(Ok(Ctr({"images", "export", exported, kImage})));
  ASSERT_TRUE(Ok(Ctr({"images", "export", "--local", exported + ".local", kImage})));
  for (const char* way : {"", ".local"}) {
    // The last one waits for the collection.
    ASSERT_TRUE(Ok(Ctr({"images", "rm", "--sync", "docker.io/library/other:1",
                        "docker.io/library/flat:1", kImage})));
    EXPECT_EQ(Out({"content", "ls", "-q"}), "");
    ASSERT_TRUE(Ok(Ctr({"images", "import", exported + way})));
    EXPECT_EQ(Out({"run", "--rm", kImage, "c", "echo", "back"}), "back");
  }
  ASSERT_TRUE(Ok(Ctr({"images", "rm", "--sync", kImage})));
  ASSERT_TRUE(Ok(Ctr({"images", "import", "--local", archive_})));
  EXPECT_EQ(Out({"run", "--rm", kImage, "c", "echo", "again"}), "again");
  const std::string target = absl::StrCat(bed_->scratch(), "/mnt");
  ASSERT_TRUE(MakeDirectories(target, 0755).ok());
  ASSERT_TRUE(Ok(Ctr({"images", "mount", kImage, target})));
  EXPECT_EQ(access((target + "/bin/busybox").c_str(), X_OK), 0);
  ASSERT_TRUE(Ok(Ctr({"images", "unmount", "--rm", target})));
  // ctr has removed the lease that held its activation, and leaves that to the next collection.
  ASSERT_TRUE(Ok(bed_->Ctl({"gc"})));
  EXPECT_THAT(ReadFile("/proc/self/mountinfo", 1 << 22).value_or(""),
              Not(HasSubstr(bed_->state() + "/activations/")));
}

TEST_F(Ctr2Test, ImagesArePushedAndPulled) {
  const auto registry = distribution::DockerRegistry::Start(
      /*tls=*/false, distribution::DockerRegistry::Auth::kNone);
  ASSERT_TRUE(registry.ok()) << registry.status();
  const std::string name = (*registry)->host() + "/busybox:1";
  ASSERT_TRUE(Ok(Ctr({"images", "tag", kImage, name})));
  for (const char* way : {"--plain-http", "--local"}) {
    ASSERT_TRUE(Ok(Ctr({"images", "push", "--plain-http", way, name})));
    ASSERT_TRUE(Ok(Ctr({"images", "rm", "--sync", name, kImage})));
    EXPECT_EQ(Out({"content", "ls", "-q"}), "");
    ASSERT_TRUE(Ok(Ctr({"images", "pull", "--plain-http", way, name})));
    EXPECT_EQ(Out({"run", "--rm", name, "c", "echo", "pulled"}), "pulled");
    ASSERT_TRUE(Ok(Ctr({"images", "tag", "--force", name, kImage})));
  }
  EXPECT_THAT(Refused({"images", "pull", "--plain-http", (*registry)->host() + "/none:1"}),
              testing::ContainsRegex("[Nn]ot [Ff]ound"));
}

TEST_F(Ctr2Test, ContentAndSnapshots) {
  const std::string text(3 << 20, 'x');
  ASSERT_TRUE(Ok(Ctr({"content", "ingest", "--expected-digest", Sha256(text), "--expected-size",
                      absl::StrCat(text.size()), "my-ref"},
                     text)));
  EXPECT_EQ(Ctr({"content", "get", Sha256(text)}).out, text);
  ASSERT_TRUE(Ok(Ctr({"content", "label", Sha256(text), "x=y"})));
  EXPECT_THAT(Out({"content", "ls"}), HasSubstr("x=y"));
  ASSERT_TRUE(Ok(Ctr({"content", "rm", Sha256(text)})));
  EXPECT_TRUE(Ok(Ctr({"content", "active"})));

  const std::string listed = Out({"snapshots", "ls"});
  const size_t at = listed.find("sha256:");
  ASSERT_NE(at, std::string::npos) << listed;
  const std::string base = listed.substr(at, 71);
  ASSERT_TRUE(Ok(Ctr({"snapshots", "prepare", "mine", base})));
  EXPECT_THAT(Out({"snapshots", "mounts", "/target", "mine"}), HasSubstr("overlay"));
  EXPECT_THAT(Out({"snapshots", "tree"}), HasSubstr("mine"));
  EXPECT_THAT(Out({"snapshots", "usage", "mine"}), HasSubstr("mine"));
  ASSERT_TRUE(Ok(Ctr({"snapshots", "commit", "done", "mine"})));
  ASSERT_TRUE(Ok(Ctr({"snapshots", "view", "look", "done"})));
  EXPECT_THAT(Out({"snapshots", "info", "look"}), HasSubstr("View"));
  ASSERT_TRUE(Ok(Ctr({"snapshots", "diff", base, "done"})));
  ASSERT_TRUE(Ok(Ctr({"snapshots", "rm", "look"})));
  ASSERT_TRUE(Ok(Ctr({"snapshots", "rm", "done"})));
}

TEST_F(Ctr2Test, RunTakesItsFlags) {
  const Outcome outcome =
      Ctr({"run", "--rm", kImage, "c", "sh", "-c", "echo out; echo err >&2; exit 7"});
  EXPECT_EQ(outcome.code, 7) << outcome.err;
  EXPECT_EQ(outcome.out, "out\n");
  EXPECT_EQ(Out({"run",
                 "--rm",
                 "--env",
                 "A=b",
                 "--cwd",
                 "/tmp",
                 "--hostname",
                 "hh",
                 "--label",
                 "a=b",
                 "--annotation",
                 "q=r",
                 "--memory-limit",
                 "33554432",
                 "--cpus",
                 "0.5",
                 "--read-only",
                 "--net-host",
                 "--privileged",
                 kImage,
                 "c",
                 "sh",
                 "-c",
                 "echo $A $(pwd) $(hostname)"}),
            "b /tmp hh");
  EXPECT_EQ(Out({"run", "--rm", "--user", "7:8", "--cap-drop", "CAP_CHOWN", "--seccomp", kImage,
                 "c", "sh", "-c", "echo $(id -u) $(id -g)"}),
            "7 8");
  EXPECT_EQ(Out({"run", "--rm", "--runc-binary", "runc", kImage, "c", "echo", "runc"}), "runc");
  EXPECT_EQ(Out({"run", "--rm", "--snapshotter", "native", kImage, "c", "echo", "native"}),
            "native");
  EXPECT_THAT(Refused({"run", "--rm", kImage, "c", "/no/such/program"}),
              HasSubstr("no such file or directory"));
  const Outcome terminal =
      RunProgram({"script", "-qec",
                  absl::StrCat(program_, " --address ", bed_->address(), " --namespace ",
                               bed_->ns(), " run --rm -t ", kImage, " tty tty"),
                  "/dev/null"});
  EXPECT_THAT(terminal.out, HasSubstr("/dev/pts/0")) << terminal.err;
}

TEST_F(Ctr2Test, ARunningTaskIsLookedAtExecdPausedAndKilled) {
  const std::string log = absl::StrCat(bed_->scratch(), "/log");
  ASSERT_TRUE(Ok(Ctr({"run", "-d", "--log-uri", "file://" + log, kImage, "web", "sh", "-c",
                      "echo logged; exec sleep 1000"})));
  EXPECT_TRUE(Eventually([&] {
    const absl::StatusOr<std::string> text = ReadFile(log, 4096);
    return text.ok() && *text == "logged\n";
  }));
  EXPECT_THAT(Out({"tasks", "ls"}), HasSubstr("RUNNING"));
  EXPECT_THAT(Out({"containers", "info", "web"}), HasSubstr("io.containerd.runc.v2"));
  EXPECT_THAT(Out({"tasks", "ps", "web"}), HasSubstr("PID"));
  EXPECT_EQ(Out({"tasks", "exec", "--exec-id", "e1", "web", "echo", "inside"}), "inside");
  EXPECT_EQ(Ctr({"tasks", "exec", "--exec-id", "e2", "web", "sh", "-c", "exit 3"}).code, 3);
  EXPECT_THAT(Out({"tasks", "metrics", "web"}), HasSubstr("memory.usage"));
  ASSERT_TRUE(Ok(Ctr({"tasks", "pause", "web"})));
  EXPECT_THAT(Out({"tasks", "ls"}), HasSubstr("PAUSED"));
  ASSERT_TRUE(Ok(Ctr({"tasks", "resume", "web"})));
  EXPECT_THAT(Refused({"containers", "delete", "web"}), HasSubstr("web"));
  ASSERT_TRUE(Ok(Ctr({"containers", "label", "web", "z=y"})));
  ASSERT_TRUE(Ok(Ctr({"tasks", "kill", "-s", "9", "web"})));
  // Its exit status, 137, is ctr's own as well.
  EXPECT_TRUE(Eventually([&] {
    return !absl::StrContains(Ctr({"tasks", "delete", "web"}).err, "RUNNING");
  }));
  EXPECT_TRUE(Eventually([&] { return Ctr({"tasks", "ls", "-q"}).out.empty(); }));
  ASSERT_TRUE(Ok(Ctr({"containers", "delete", "web"})));
  ASSERT_TRUE(Ok(Ctr({"containers", "create", kImage, "c", "echo", "started"})));
  EXPECT_EQ(Out({"tasks", "start", "c"}), "started");
  EXPECT_TRUE(Ok(Ctr({"containers", "delete", "c"})));
}

TEST_F(Ctr2Test, SandboxesOutliveARestart) {
  const std::string pod = absl::StrCat(bed_->scratch(), "/pod.json");
  ASSERT_TRUE(WriteFile(pod, R"({"metadata":{"name":"p","namespace":"d","uid":"u"}})").ok());
  ASSERT_TRUE(Ok(Ctr({"sandboxes", "run", pod, "box"})));
  bed_->KillDaemon();
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_THAT(Out({"sandboxes", "ls"}), HasSubstr("box"));
  ASSERT_TRUE(Ok(Ctr({"sandboxes", "rm", "box"})));
  EXPECT_THAT(Out({"sandboxes", "ls"}), Not(HasSubstr("box")));
}

TEST_F(Ctr2Test, EventsTellWhatHappened) {
  const std::string log = absl::StrCat(bed_->scratch(), "/events");
  Command events;
  events.argv = {"sh", "-c",
                 absl::StrCat("exec timeout 60 ", program_, " --address ", bed_->address(),
                              " --namespace ", bed_->ns(), " events > ", log)};
  absl::StatusOr<Process> listener = Spawn(events);
  ASSERT_TRUE(listener.ok()) << listener.status();
  const auto seen = [&](const std::string& text) {
    absl::StatusOr<std::string> so_far = ReadFile(log, 1 << 20);
    return so_far.ok() && absl::StrContains(*so_far, text);
  };
  ASSERT_TRUE(Eventually([&] {
    EXPECT_TRUE(Ok(Ctr({"images", "label", kImage, "n=1"})));
    return seen("/images/update");
  }));
  EXPECT_EQ(Out({"run", "--rm", kImage, "c", "true"}), "");
  for (const char* topic :
       {"/snapshot/prepare", "/containers/create", "/tasks/create", "/tasks/start", "/tasks/exit",
        "/tasks/delete", "/snapshot/remove", "/containers/delete"}) {
    EXPECT_TRUE(Eventually([&] { return seen(topic); }, absl::Seconds(10))) << topic;
  }
  EXPECT_TRUE(listener->Kill(9).ok());
}

}  // namespace
}  // namespace gantry::integration
