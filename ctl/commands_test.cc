// Verbs from end to end: a command line in, calls at a daemon, text and an exit status out.
#include "ctl/commands/commands.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"

#include "base/field_error.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "ctl/fake_daemon.h"

namespace gantry::ctl {
namespace {

struct Result {
  int status;
  std::string out;
  std::string err;
};

std::string ReadBack(int fd) {
  std::string text;
  char buffer[4096];
  ssize_t n;
  ::lseek(fd, 0, SEEK_SET);
  while ((n = ::read(fd, buffer, sizeof(buffer))) > 0) text.append(buffer, static_cast<size_t>(n));
  return text;
}

class CommandsTest : public ::testing::Test {
 protected:
  CommandsTest() : socket_(directory_.path() + "/s"), daemon_(socket_) {}

  Result Ctl(std::vector<std::string> args, const std::string& input = "") {
    UniqueFd in(::memfd_create("in", MFD_CLOEXEC));
    UniqueFd out(::memfd_create("out", MFD_CLOEXEC));
    UniqueFd err(::memfd_create("err", MFD_CLOEXEC));
    EXPECT_EQ(::write(in.get(), input.data(), input.size()), static_cast<ssize_t>(input.size()));
    ::lseek(in.get(), 0, SEEK_SET);
    Context context({in.get(), out.get(), err.get()},
                    {{"GANTRY_ADDRESS", socket_}, {"DOCKER_CONFIG", directory_.path()}});
    const Verb tree = CommandTree();
    Result result;
    result.status = RunCommandLine(tree, context, args);
    result.out = ReadBack(out.get());
    result.err = ReadBack(err.get());
    return result;
  }

  TempDir directory_;
  const std::string socket_;
  FakeDaemon daemon_;
};

TEST_F(CommandsTest, RunPassesOutputAndExitCode) {
  daemon_.play.out = "hello\n";
  daemon_.play.err = "oops\n";
  daemon_.play.exit_code = 7;
  const Result result = Ctl({"run", "--rm", "busybox", "sh", "-c", "x"});
  EXPECT_EQ(result.status, 7);
  EXPECT_EQ(result.out, "hello\n");
  EXPECT_EQ(result.err, "oops\n");
  EXPECT_TRUE(daemon_.last_config().auto_remove());
  EXPECT_EQ(daemon_.last_config().command(1), "-c");
}

TEST_F(CommandsTest, RunForwardsStdinToItsEnd) {
  daemon_.play.echo = true;
  const Result result = Ctl({"run", "-i", "busybox", "cat"}, std::string(300000, 'z'));
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.out, std::string(300000, 'z'));
}

TEST_F(CommandsTest, RunDetachedPrintsTheIdAndWritesTheCidFile) {
  const std::string file = directory_.path() + "/cid";
  const Result result = Ctl({"run", "-d", "--cidfile", file, "busybox"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.out, "0123456789abcdef\n");
  std::stringstream written;
  written << std::ifstream(file).rdbuf();
  EXPECT_EQ(written.str(), "0123456789abcdef");
  EXPECT_EQ(Ctl({"run", "-d", "--cidfile", file, "busybox"}).status, 125);
}

TEST_F(CommandsTest, RunPullsAnImageThatIsMissing) {
  daemon_.play.create = absl::NotFoundError("no such image: busybox");
  const Result result = Ctl({"run", "busybox"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(daemon_.calls(),
            (std::vector<std::string>{"run busybox", "pull busybox", "run busybox"}));
  EXPECT_NE(result.err.find("Unable to find image 'busybox' locally"), std::string::npos);
}

TEST_F(CommandsTest, PullNeverDoesNotPull) {
  daemon_.play.create = absl::NotFoundError("no such image: busybox");
  const Result result = Ctl({"run", "--pull", "never", "busybox"});
  EXPECT_EQ(result.status, 125);
  EXPECT_EQ(result.err, "Error response from daemon: no such image: busybox\n");
  EXPECT_EQ(daemon_.calls(), std::vector<std::string>{"run busybox"});
}

TEST_F(CommandsTest, StartFailuresHaveDockersExitCodes) {
  daemon_.play.start = absl::InternalError("exec: \"x\": executable file not found in $PATH");
  EXPECT_EQ(Ctl({"run", "busybox", "x"}).status, 127);
  daemon_.play.start = absl::InternalError("exec: \"/etc\": Permission denied");
  EXPECT_EQ(Ctl({"run", "busybox", "/etc"}).status, 126);
  EXPECT_EQ(Ctl({"exec", "web", "/etc"}).status, 126);
  daemon_.play.start = absl::InternalError("cgroup: broken");
  EXPECT_EQ(Ctl({"run", "busybox"}).status, 125);
  daemon_.play.start = absl::FailedPreconditionError("container web is not running");
  EXPECT_EQ(Ctl({"exec", "web", "true"}).status, 1);
}

TEST_F(CommandsTest, ExecPassesExitCode) {
  daemon_.play.exit_code = 42;
  daemon_.play.out = "x";
  const Result result = Ctl({"exec", "web", "true"});
  EXPECT_EQ(result.status, 42);
  EXPECT_EQ(result.out, "x");
}

TEST_F(CommandsTest, TerminalIsRefusedWithoutOne) {
  const Result result = Ctl({"run", "-it", "busybox"});
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("not a TTY"), std::string::npos);
  EXPECT_TRUE(daemon_.calls().empty());
}

TEST_F(CommandsTest, SeveralNamesGoOnAfterAFailure) {
  daemon_.details["a"];
  daemon_.details["c"];
  const Result result = Ctl({"stop", "-t", "3", "a", "b", "c"});
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.out, "a\nc\n");
  EXPECT_EQ(result.err, "Error response from daemon: no such container: b\n");
  EXPECT_EQ(daemon_.calls()[0], "stop a 3");
}

TEST_F(CommandsTest, PsShowsDockersColumns) {
  v1::ContainerSummary* container = daemon_.containers.add_containers();
  container->set_id("0123456789abcdef0123");
  container->set_name("web");
  container->set_image("nginx");
  container->add_command("nginx");
  container->add_command("-g");
  container->add_command("daemon off;");
  container->set_state(v1::CONTAINER_STATE_EXITED);
  container->set_exit_code(1);
  v1::PublishedPort* port = container->add_ports();
  port->set_ip("0.0.0.0");
  port->set_private_port(80);
  port->set_public_port(8080);
  port->set_protocol("tcp");
  const Result result = Ctl(
      {"ps", "-a", "--format", "{{.ID}}|{{.Image}}|{{.Command}}|{{.Ports}}|{{.Names}}|{{.State}}"});
  EXPECT_EQ(result.out,
            "0123456789ab|nginx|\"nginx -g 'daemon of…\"|0.0.0.0:8080->80/tcp|web|exited\n");
  EXPECT_EQ(Ctl({"ps", "-q", "--no-trunc"}).out, "0123456789abcdef0123\n");
  EXPECT_EQ(Ctl({"container", "ls"}).out.substr(0, 15), "CONTAINER ID   ");
  EXPECT_EQ(daemon_.calls(), (std::vector<std::string>{"list all", "list", "list"}));
}

TEST_F(CommandsTest, ImagesShowsALineAName) {
  v1::ImageSummary* image = daemon_.images.add_images();
  image->set_id("sha256:0123456789abcdef");
  image->add_repo_tags("localhost:5000/a:1");
  image->add_repo_tags("b:2");
  image->set_size_bytes(4261550);
  daemon_.images.add_images()->set_id("sha256:ffffffffffffffff");
  const Result result = Ctl({"images", "--format", "{{.Repository}} {{.Tag}} {{.ID}} {{.Size}}"});
  EXPECT_EQ(result.out,
            "localhost:5000/a 1 0123456789ab 4.26MB\nb 2 0123456789ab 4.26MB\n"
            "<none> <none> ffffffffffff 0B\n");
  EXPECT_EQ(Ctl({"images", "-q"}).out, "0123456789ab\nffffffffffff\n");
}

TEST_F(CommandsTest, InspectPrintsAnArrayAndNamesWhatIsMissing) {
  daemon_.details["web"].mutable_summary()->set_name("web");
  daemon_.details["web"].mutable_summary()->set_exit_code(3);
  const Result result = Ctl({"inspect", "-f", "{{.Name}} {{.State.ExitCode}}", "web"});
  EXPECT_EQ(result.out, "/web 3\n");
  const Result missing = Ctl({"inspect", "nope"});
  EXPECT_EQ(missing.status, 1);
  EXPECT_EQ(missing.out, "[]\n");
  EXPECT_EQ(missing.err, "Error: No such object: nope\n");
}

TEST_F(CommandsTest, LogsSeparateStreamsAndStampWholeLinesOnce) {
  EXPECT_EQ(Ctl({"logs", "web"}).out, "one\nlong line\n");
  EXPECT_EQ(Ctl({"logs", "web"}).err, "two\n");
  EXPECT_EQ(Ctl({"logs", "-t", "web"}).out,
            "2001-09-09T01:46:40.000000005Z one\n2001-09-09T01:46:40.000000005Z long line\n");
}

TEST_F(CommandsTest, LoadSendsTheWholeArchive) {
  const Result result = Ctl({"load", "-q"}, std::string(3000000, 'x'));
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, "Loaded image: a:b\n");
  EXPECT_EQ(daemon_.calls(), std::vector<std::string>{"load 3000000"});
}

TEST_F(CommandsTest, PullSaysWhatDockerSays) {
  const Result result = Ctl({"pull", "busybox"});
  EXPECT_EQ(
      result.out,
      "Using default tag: latest\nlatest: Pulling from library/busybox\nlayer: Pull complete\n"
      "Digest: sha256:d\n"
      "Status: Downloaded newer image for busybox\nbusybox\n");
  EXPECT_EQ(Ctl({"pull", "-q", "busybox"}).out, "busybox\n");
}

TEST_F(CommandsTest, NamespaceTravelsWithEveryCall) {
  Ctl({"ps"});
  EXPECT_EQ(daemon_.last_namespace(), "default");
  Ctl({"-n", "k8s.io", "ps"});
  EXPECT_EQ(daemon_.last_namespace(), "k8s.io");
}

TEST_F(CommandsTest, ListsOfAllNamespacesSayWhichOne) {
  daemon_.namespaces = {"k8s.io", "default"};
  v1::ContainerSummary* container = daemon_.containers.add_containers();
  container->set_id("0123456789abcdef0123");
  container->set_name("web");
  EXPECT_EQ(Ctl({"ps", "-a", "--all-namespaces", "--format", "{{.Namespace}} {{.Names}}"}).out,
            "default web\nk8s.io web\n");
  EXPECT_EQ(Ctl({"ps", "--all-namespaces"}).out.substr(0, 12), "NAMESPACE   ");
  EXPECT_EQ(Ctl({"ps", "-q", "--all-namespaces"}).out, "0123456789ab\n0123456789ab\n");
  daemon_.images.add_images()->set_id("sha256:0123456789abcdef");
  EXPECT_EQ(Ctl({"images", "--all-namespaces", "--format", "{{.Namespace}} {{.ID}}"}).out,
            "default 0123456789ab\nk8s.io 0123456789ab\n");
  EXPECT_EQ(Ctl({"images", "--all-namespaces"}).out.substr(0, 12), "NAMESPACE   ");
  EXPECT_NE(Ctl({"images", "--all-namespaces", "--tree"}).status, 0);
}

TEST_F(CommandsTest, NoArgumentsAtAllShowTheHelp) {
  const Result result = Ctl({});
  EXPECT_EQ(result.status, 0);
  EXPECT_NE(result.err.find("Usage:  ctl COMMAND"), std::string::npos);
}

TEST_F(CommandsTest, AFilterWithoutAValueIsABadFlag) {
  const Result result = Ctl({"ps", "--filter", "bogus"});
  EXPECT_EQ(result.status, 125);
  EXPECT_TRUE(daemon_.calls().empty());
}

TEST_F(CommandsTest, AnotherProgramsSocketIsToldFromADaemonThatIsGone) {
  const std::string path = directory_.path() + "/http";
  const UniqueFd listening(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  ASSERT_LT(path.size(), sizeof(address.sun_path));
  path.copy(address.sun_path, path.size());
  ASSERT_EQ(::bind(listening.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(::listen(listening.get(), 1), 0);
  std::thread http([&] {
    while (true) {
      const UniqueFd client(::accept(listening.get(), nullptr, nullptr));
      if (!client.valid()) return;
      char buffer[4096];
      if (::read(client.get(), buffer, sizeof(buffer)) <= 0) continue;
      constexpr absl::string_view kAnswer = "HTTP/1.1 400 Bad Request\r\n\r\n";
      // Who asked may have left by now.
      (void)::send(client.get(), kAnswer.data(), kAnswer.size(), MSG_NOSIGNAL);
      // Closed with bytes that nobody has read, a socket takes its answer back.
      const timeval patience = {30, 0};
      ::setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
      while (::read(client.get(), buffer, sizeof(buffer)) > 0) {
      }
    }
  });
  const Result result = Ctl({"-H", path, "ps"});
  ::shutdown(listening.get(), SHUT_RDWR);  // accept() returns
  http.join();
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("does not speak Gantry's API"), std::string::npos) << result.err;
}

TEST_F(CommandsTest, ACallThatAStoppingDaemonDoesNotTakeGoesToTheNext) {
  daemon_.play.broken_off = 1;
  EXPECT_EQ(Ctl({"ps"}).status, 0);
  EXPECT_EQ(daemon_.calls(), (std::vector<std::string>{"list", "list"}));
  daemon_.play.broken_off = 100;
  const Result result = Ctl({"ps"});
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("broke the call off"), std::string::npos) << result.err;
}

TEST_F(CommandsTest, ACallThatAStoppingDaemonBreaksOffSaysSo) {
  daemon_.play.create = absl::CancelledError("CANCELLED");
  const Result result = Ctl({"run", "busybox"});
  EXPECT_EQ(result.status, 125);
  EXPECT_NE(result.err.find("broke the call off"), std::string::npos) << result.err;
  daemon_.play.create = absl::CancelledError("the build was ended");
  EXPECT_NE(Ctl({"run", "busybox"}).err.find("the build was ended"), std::string::npos);
}

TEST_F(CommandsTest, AnEmptyNameIsRefusedAndNotAskedFor) {
  for (const std::vector<std::string>& line : std::vector<std::vector<std::string>>{
           {"exec", "", "true"}, {"network", "rm", ""}, {"volume", "rm", "-f", ""}}) {
    const Result result = Ctl(line);
    EXPECT_EQ(result.status, 1) << line[0];
    EXPECT_NE(result.err.find("value is empty"), std::string::npos) << result.err;
  }
  EXPECT_EQ(Ctl({"volume", "inspect", ""}).out, "[]\n");
  EXPECT_EQ(Ctl({"network", "inspect", ""}).out, "[]\n");
  EXPECT_TRUE(daemon_.calls().empty());
}

TEST_F(CommandsTest, AnEmptyFilterIsNone) {
  EXPECT_EQ(Ctl({"ps", "--filter", ""}).status, 0);
  EXPECT_EQ(Ctl({"images", ""}).status, 0);
}

TEST_F(CommandsTest, DockersGlobalFlagsAreTaken) {
  EXPECT_EQ(Ctl({"-D", "--log-level", "debug", "-c", "default", "ps"}).status, 0);
  const Result elsewhere = Ctl({"--context", "elsewhere", "ps"});
  EXPECT_EQ(elsewhere.status, 1);
  EXPECT_EQ(elsewhere.err, "ctl: context \"elsewhere\": context not found\n");
  EXPECT_EQ(Ctl({"--tlsverify", "ps"}).status, 1);
  EXPECT_EQ(Ctl({"--log-level", "bogus", "ps"}).status, 1);
}

TEST_F(CommandsTest, GroupsExplainThemselvesAndKnowNoFlags) {
  const Result bare = Ctl({"volume"});
  EXPECT_EQ(bare.status, 0);
  EXPECT_EQ(bare.out, "");
  EXPECT_NE(bare.err.find("Usage:  ctl volume COMMAND"), std::string::npos) << bare.err;
  const Result flag = Ctl({"volume", "--bogus"});
  EXPECT_EQ(flag.status, 125);
  EXPECT_NE(flag.err.find("unknown flag: --bogus"), std::string::npos) << flag.err;
  EXPECT_EQ(Ctl({"plugin", "inspect", "x"}).out, "[]\n");
  const Result install = Ctl({"plugin", "install", "--grant-all-permissions", "vieux/sshfs"});
  EXPECT_EQ(install.status, 1);
  EXPECT_NE(install.err.find("/run/docker/plugins"), std::string::npos) << install.err;
}

TEST_F(CommandsTest, HelpIsNotWiderThanATerminal) {
  for (const char* verb : {"run", "build", "events", "ps"}) {
    const Result help = Ctl({verb, "--help"});
    std::stringstream lines(help.out.substr(0, help.out.find("\nExamples:")));
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80u) << line;
  }
}

TEST_F(CommandsTest, ContextsNameDaemonsAndAreDockersFiles) {
  EXPECT_EQ(Ctl({"context", "create", "lab", "--docker", "host=unix:///nowhere/lab.sock"}).out,
            "lab\n");
  EXPECT_EQ(Ctl({"context", "create", "lab", "--docker", "host=unix:///x"}).status, 1);
  EXPECT_EQ(Ctl({"context", "ls", "-q"}).out, "default\nlab\n");
  EXPECT_EQ(Ctl({"context", "inspect", "-f", "{{.Endpoints.docker.Host}}", "lab"}).out,
            "unix:///nowhere/lab.sock\n");
  const Result ps = Ctl({"--context", "lab", "ps"});
  EXPECT_EQ(ps.status, 1);
  EXPECT_NE(ps.err.find("context lab: cannot connect to gantryd at /nowhere/lab.sock"),
            std::string::npos)
      << ps.err;
  EXPECT_EQ(Ctl({"--context", "lab", "-H", "/x", "ps"}).status, 1);
  // GANTRY_ADDRESS comes before the current context.
  EXPECT_EQ(Ctl({"context", "use", "lab"}).out, "lab\n");
  EXPECT_EQ(Ctl({"ps"}).status, 0);
  EXPECT_EQ(Ctl({"--context", "lab", "context", "rm", "lab"}).status, 1);
  EXPECT_EQ(Ctl({"context", "rm", "-f", "lab"}).out, "lab\n");
  EXPECT_EQ(Ctl({"context", "rm", "default"}).status, 1);
}

TEST_F(CommandsTest, AContextGoesThroughAFile) {
  ASSERT_EQ(Ctl({"context", "create", "lab", "--docker", "host=ssh://me@lab"}).status, 0);
  const Result exported = Ctl({"context", "export", "lab", "-"});
  ASSERT_EQ(exported.status, 0) << exported.err;
  EXPECT_EQ(Ctl({"context", "import", "copy", "-"}, exported.out).out, "copy\n");
  EXPECT_EQ(Ctl({"context", "inspect", "-f", "{{.Endpoints.docker.Host}}", "copy"}).out,
            "ssh://me@lab\n");
  EXPECT_EQ(Ctl({"context", "import", "third", "-"}, "no archive").status, 1);
}

TEST_F(CommandsTest, ATemplateThatDoesNotParseHasDockersStatus) {
  EXPECT_EQ(Ctl({"inspect", "-f", "{{.Name", "x"}).status, 64);
  EXPECT_EQ(Ctl({"events", "--format", "{{end}}"}).status, 64);
  EXPECT_TRUE(daemon_.calls().empty());
}

TEST_F(CommandsTest, ACidFileIsMadeBeforeTheContainer) {
  EXPECT_EQ(Ctl({"run", "-d", "--cidfile", directory_.path() + "/none/cid", "busybox"}).status,
            125);
  EXPECT_TRUE(daemon_.calls().empty());
  const std::string file = directory_.path() + "/left";
  daemon_.play.create = absl::InvalidArgumentError("no");
  EXPECT_EQ(Ctl({"run", "-d", "--cidfile", file, "busybox"}).status, 125);
  EXPECT_NE(::access(file.c_str(), F_OK), 0);
}

TEST_F(CommandsTest, AnErrorAboutAFieldNamesTheFlag) {
  daemon_.play.create = FieldError("extra_hosts", "\"x\" is not NAME:ADDRESS");
  const Result result = Ctl({"run", "--add-host", "x:y", "busybox"});
  EXPECT_EQ(result.status, 125);
  EXPECT_EQ(result.err, "Error response from daemon: --add-host: \"x\" is not NAME:ADDRESS\n");
}

TEST_F(CommandsTest, HostsNetworkIsNotCombinedWithAnother) {
  const Result result = Ctl({"run", "--network", "none", "--network", "host", "busybox"});
  EXPECT_EQ(result.status, 125);
  EXPECT_TRUE(daemon_.calls().empty());
}

TEST_F(CommandsTest, RunQuietSaysNothingOfAMissingImage) {
  daemon_.play.create = absl::NotFoundError("no such image: busybox");
  EXPECT_EQ(Ctl({"run", "-q", "busybox"}).err, "");
}

TEST_F(CommandsTest, WhatCanBeNoImageIsNotLookedForAloud) {
  daemon_.play.create = absl::NotFoundError("no such image: UPPER:1");
  EXPECT_EQ(Ctl({"run", "UPPER:1"}).err.find("Unable to find"), std::string::npos);
}

TEST_F(CommandsTest, UpdateNeedsAnOptionAndRenameAnotherName) {
  EXPECT_EQ(Ctl({"update", "web"}).status, 1);
  EXPECT_EQ(Ctl({"rename", "web", "web"}).status, 1);
  EXPECT_TRUE(daemon_.calls().empty());
}

TEST_F(CommandsTest, BytesThatAreNotUtf8BecomeText) {
  EXPECT_EQ(Ctl({"run", "-e", "A=\xe9", "-l", "k=\xe9", "busybox", "echo", "\xe9"}).status, 0);
  EXPECT_EQ(daemon_.last_config().command(1), "\xef\xbf\xbd");
  EXPECT_EQ(daemon_.last_config().env(0), "A=\xef\xbf\xbd");
  EXPECT_EQ(daemon_.last_config().labels().at("k"), "\xef\xbf\xbd");
  EXPECT_NE(Ctl({"run", "-v", "/caf\xe9:/x", "busybox"}).err.find("not UTF-8"), std::string::npos);
}

TEST_F(CommandsTest, NamesCannotSteerATerminal) {
  daemon_.containers.add_containers()->set_name("a\x1b[31mb");
  EXPECT_NE(Ctl({"ps", "--format", "{{.Names}}"}).out.find("a\x1b[31mb"), std::string::npos);

  int master;
  int slave;
  ASSERT_EQ(::openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
  const UniqueFd terminal(master);
  const UniqueFd out(slave);
  Context context({out.get(), out.get(), out.get()}, {{"GANTRY_ADDRESS", socket_}});
  const Verb tree = CommandTree();
  EXPECT_EQ(RunCommandLine(tree, context, {"ps", "--format", "{{.Names}}"}), 0);
  EXPECT_EQ(RunCommandLine(tree, context, {"inspect", "no\x1b[2Jsuch"}), 1);
  char buffer[4096];
  const ssize_t n = ::read(terminal.get(), buffer, sizeof(buffer));
  ASSERT_GT(n, 0);
  const std::string shown(buffer, static_cast<size_t>(n));
  EXPECT_EQ(shown.find('\x1b'), std::string::npos) << shown;
  EXPECT_NE(shown.find("a\\x1b[31mb"), std::string::npos) << shown;
}

TEST_F(CommandsTest, InspectAsJsonIsAList) {
  daemon_.details["web"].mutable_summary()->set_id("abc");
  const Result result = Ctl({"inspect", "-f", "json", "web"});
  EXPECT_EQ(result.out.substr(0, 12), "[{\"Id\":\"abc\"");
}

TEST_F(CommandsTest, InspectGivesOptionalFieldsDockersZeroValues) {
  daemon_.details["web"].mutable_summary()->set_id("0123456789abcdef0123");
  const auto expand = [&](const std::string& format) {
    const Result result = Ctl({"inspect", "-f", format, "web"});
    return absl::StrCat(result.status, " ", result.out, result.err);
  };
  EXPECT_EQ(expand("{{if .State.Health}}yes{{else}}no{{end}}"), "0 no\n");
  EXPECT_EQ(expand("{{.Config.Healthcheck}} {{.Config.StopTimeout}}"), "0 <nil> <nil>\n");
  EXPECT_EQ(expand("[{{.Config.StopSignal}}]"), "0 []\n");
  EXPECT_EQ(expand("{{.Config.Labels.nope}}"), "0 <no value>\n");
  EXPECT_EQ(expand("{{.SizeRw}} {{.HostConfig.CapAdd}} {{.Config.ExposedPorts}}"),
            "0 <nil> [] map[]\n");
  EXPECT_EQ(expand("[{{.NetworkSettings.IPAddress}}]"), "0 []\n");
  EXPECT_EQ(expand("{{.Config.Hostname}} {{json .Config.Entrypoint}}"), "0 0123456789ab null\n");
  EXPECT_EQ(expand("{{json .State.Health}} {{len .HostConfig.Binds}}"), "0 null 0\n");
  EXPECT_EQ(expand("{{.State.Helth}}").substr(0, 2), "1 ");
  EXPECT_NE(expand("{{.State.Helth}}").find("no field \"Helth\""), std::string::npos);
}

TEST_F(CommandsTest, UsageErrorsHaveDockersStatusAndNameTheNearest) {
  const Result flag = Ctl({"run", "--detahc", "x"});
  EXPECT_EQ(flag.status, 125);
  EXPECT_NE(flag.err.find("--detach?"), std::string::npos) << flag.err;
  const Result verb = Ctl({"stpo"});
  EXPECT_EQ(verb.status, 1);
  EXPECT_NE(verb.err.find("did you mean stop?"), std::string::npos) << verb.err;
  const Result dockers = Ctl({"swarm", "init"});
  EXPECT_EQ(dockers.status, 1);
  EXPECT_EQ(dockers.err,
            "ctl: docker's command 'swarm' does not exist in ctl\nSee 'ctl --help'.\n");
  const Result few = Ctl({"stop"});
  EXPECT_EQ(few.status, 1);
  EXPECT_NE(few.err.find("requires at least 1 argument."), std::string::npos) << few.err;
}

TEST_F(CommandsTest, MissingDaemonSaysHowToStartOne) {
  const Result result = Ctl({"--address", directory_.path() + "/none", "ps"});
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("no such socket"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("Start it with"), std::string::npos) << result.err;
}

TEST_F(CommandsTest, CompletionOffersVerbsFlagsAndNames) {
  daemon_.containers.add_containers()->set_name("web-1");
  daemon_.containers.add_containers()->set_name("db-1");
  EXPECT_EQ(Ctl({"__complete", "--", "pau"}).out, "pause\n");
  EXPECT_EQ(Ctl({"__complete", "--", "stop", "--sig"}).out, "--signal\n");
  EXPECT_EQ(Ctl({"__complete", "--", "stop", "w"}).out, "web-1\n");
  EXPECT_EQ(Ctl({"__complete", "--", "container", "ins"}).out, "inspect\n");
  EXPECT_EQ(Ctl({"__complete", "--", "hel"}).out, "help\n");
  EXPECT_EQ(Ctl({"__complete", "--", "help", "container", "ins"}).out, "inspect\n");
  EXPECT_EQ(Ctl({"__complete", "--", "completion", ""}).out, "bash\nfish\nzsh\n");
}

TEST_F(CommandsTest, CompletionOfCpOffersContainersAndFiles) {
  daemon_.containers.add_containers()->set_name("web-1");
  EXPECT_EQ(Ctl({"__complete", "--", "cp", "w"}).out, "web-1:\n");
  EXPECT_EQ(Ctl({"__complete", "--", "cp", "/sr"}).out, ":files\n");
  EXPECT_EQ(Ctl({"__complete", "--", "cp", "./"}).out, ":files\n");
  EXPECT_EQ(Ctl({"__complete", "--", "cp", "notes"}).out, ":files\n");
  EXPECT_EQ(Ctl({"__complete", "--", "cp", "web-1:/et"}).out, "");
}

TEST_F(CommandsTest, CompletionKnowsNetworks) {
  daemon_.containers.add_containers()->set_name("web-1");
  daemon_.networks.add_networks()->set_name("bridge");
  daemon_.networks.add_networks()->set_name("backend");
  EXPECT_EQ(Ctl({"__complete", "--", "network", "rm", "b"}).out, "backend\nbridge\n");
  EXPECT_EQ(Ctl({"__complete", "--", "network", "connect", "ba"}).out, "backend\n");
  EXPECT_EQ(Ctl({"__complete", "--", "network", "connect", "backend", ""}).out, "web-1\n");
  EXPECT_EQ(Ctl({"__complete", "--", "run", "--network", "br"}).out, "bridge\n");
  EXPECT_EQ(Ctl({"__complete", "--", "run", "--network=br"}).out, "--network=bridge\n");
}

TEST_F(CommandsTest, InspectFindsNetworksToo) {
  v1::Network& network = *daemon_.networks.add_networks();
  network.set_name("backend");
  network.set_driver("bridge");
  const Result found = Ctl({"inspect", "-f", "{{.Driver}} {{.Name}}", "backend"});
  EXPECT_EQ(found.out, "bridge backend\n") << found.err;
  EXPECT_EQ(Ctl({"inspect", "--type", "network", "-f", "{{.Name}}", "backend"}).out, "backend\n");
  EXPECT_EQ(Ctl({"inspect", "--type", "image", "backend"}).status, 1);
  EXPECT_EQ(Ctl({"inspect", "--type", "volume", "backend"}).status, 1);
  EXPECT_EQ(Ctl({"inspect", "nosuch"}).err, "Error: No such object: nosuch\n");
  const Result bad = Ctl({"inspect", "-f", "{{.NoSuch}}", "backend"});
  EXPECT_NE(bad.status, 0);
}

TEST_F(CommandsTest, NetworkSettingsGoToTheSubnetThatHoldsThem) {
  const Result made = Ctl({"network",
                           "create",
                           "-d",
                           "macvlan",
                           "-o",
                           "parent=eth0",
                           "--subnet",
                           "10.1.0.0/24",
                           "--subnet",
                           "10.2.0.0/24",
                           "--subnet",
                           "fd00::/64",
                           "--gateway",
                           "10.2.0.1",
                           "--gateway",
                           "fd00::1",
                           "--ip-range",
                           "10.1.0.128/25",
                           "--aux-address",
                           "printer=10.2.0.9",
                           "--label",
                           "a=b",
                           "--ipv4=true",
                           "lan"});
  EXPECT_EQ(made.status, 0) << made.err;
  EXPECT_EQ(made.out, "0123456789abcdef\n");
  const v1::CreateNetworkRequest request = daemon_.last_network();
  ASSERT_EQ(request.pools_size(), 3);
  EXPECT_EQ(request.pools(0).ip_range(), "10.1.0.128/25");
  EXPECT_EQ(request.pools(0).gateway(), "");
  EXPECT_EQ(request.pools(1).gateway(), "10.2.0.1");
  EXPECT_EQ(request.pools(1).auxiliary_addresses().at("printer"), "10.2.0.9");
  EXPECT_EQ(request.pools(2).gateway(), "fd00::1");
  EXPECT_EQ(request.options().at("parent"), "eth0");
  EXPECT_FALSE(request.no_ipv4());
  EXPECT_EQ(Ctl({"network", "create", "--gateway", "10.1.0.1", "web"}).status, 1);
  EXPECT_EQ(Ctl({"network", "create", "--scope", "swarm", "web"}).status, 1);
  EXPECT_EQ(Ctl({"network", "create", "--ipv4=false", "--ipv6", "six"}).status, 0);
  EXPECT_TRUE(daemon_.last_network().no_ipv4());
}

TEST_F(CommandsTest, NetworkConnectSaysAllThatIsWanted) {
  EXPECT_EQ(
      Ctl({"network",       "connect",  "--alias",      "cache",   "--alias",         "db",
           "--ip",          "10.1.0.9", "--ip6",        "fd00::9", "--link-local-ip", "169.254.1.1",
           "--gw-priority", "-5",       "--driver-opt", "a=b",     "--link",          "store:db",
           "web",           "web-1"})
          .status,
      0);
  const v1::NetworkAttachment attachment = daemon_.last_connection().attachment();
  ASSERT_EQ(attachment.links_size(), 1);
  EXPECT_EQ(attachment.links(0), "store:db");
  EXPECT_EQ(attachment.aliases_size(), 2);
  EXPECT_EQ(attachment.ipv4_address(), "10.1.0.9");
  EXPECT_EQ(attachment.ipv6_address(), "fd00::9");
  EXPECT_EQ(attachment.link_local_addresses(0), "169.254.1.1");
  EXPECT_EQ(attachment.gateway_priority(), -5);
  EXPECT_EQ(attachment.driver_options().at("a"), "b");
  EXPECT_EQ(Ctl({"network", "connect", "--gw-priority", "much", "web", "web-1"}).status, 1);
  EXPECT_EQ(Ctl({"network", "connect", "web"}).status, 1);
  EXPECT_EQ(Ctl({"network", "disconnect", "-f", "web", "web-1"}).status, 0);
  const std::vector<std::string> calls = {"network connect web web-1",
                                          "network disconnect web web-1 by force"};
  EXPECT_EQ(daemon_.calls(), calls);
}

TEST_F(CommandsTest, CompletionOffersTheValuesOfFlags) {
  EXPECT_EQ(Ctl({"__complete", "--", "ps", "--filter", "status=ex"}).out, "status=exited\n");
  EXPECT_EQ(Ctl({"__complete", "--", "run", "--restart", "on"}).out, "on-failure\n");
  EXPECT_EQ(Ctl({"__complete", "--", "run", "--pull=a"}).out, "--pull=always\n");
  EXPECT_EQ(Ctl({"__complete", "--", "kill", "-s", "SIGTE"}).out, "SIGTERM\n");
  EXPECT_EQ(Ctl({"__complete", "--", "inspect", "--type", ""}).out,
            "container\nimage\nnetwork\nvolume\n");
  EXPECT_EQ(Ctl({"__complete", "--", "-H", "/tm"}).out, ":files\n");
  EXPECT_EQ(Ctl({"__complete", "--", "run", "--env-file=/tm"}).out, ":files\n");
  EXPECT_EQ(Ctl({"__complete", "--", "build", "--call", "o"}).out, "outline\n");
  EXPECT_EQ(Ctl({"__complete", "--", "build", "--output", "type=l"}).out,
            ":files\ntype=local,dest=\n");
  EXPECT_EQ(Ctl({"__complete", "--", "wait", "--condition=n"}).out,
            "--condition=next-exit\n--condition=not-running\n");
  EXPECT_EQ(Ctl({"__complete", "--", "compose", "config", "--format", ""}).out, "json\nyaml\n");
  EXPECT_EQ(Ctl({"__complete", "--", "events", "--format", ""}).out, "json\n");
  EXPECT_EQ(Ctl({"__complete", "--", "volume", "prune", "--filter", "a"}).out,
            "all=false\nall=true\n");
  EXPECT_EQ(Ctl({"__complete", "--", "run", "-e", "DOCKER_C"}).out, "DOCKER_CONFIG\n");
}

TEST_F(CommandsTest, CompletionNamesTheObjectsInValues) {
  daemon_.containers.add_containers()->set_name("web-1");
  daemon_.networks.add_networks()->set_name("backend");
  daemon_.volumes.add_volumes()->set_name("data");
  daemon_.images.add_images()->add_repo_tags("localhost:5000/app:1");
  EXPECT_EQ(Ctl({"__complete", "--", "ps", "--filter", "network=b"}).out, "network=backend\n");
  EXPECT_EQ(Ctl({"__complete", "--", "ps", "--filter=ancestor="}).out,
            "--filter=ancestor=localhost:5000/app:1\n");
  EXPECT_EQ(Ctl({"__complete", "--", "events", "--filter", "event=exec_s"}).out,
            "event=exec_start\n");
  EXPECT_EQ(Ctl({"__complete", "--", "volume", "ls", "--filter", "name="}).out, "name=data\n");
  EXPECT_EQ(Ctl({"__complete", "--", "run", "-v", "da"}).out, ":files\ndata:\n");
  EXPECT_EQ(Ctl({"__complete", "--", "run", "-v", "data:/"}).out, "");
  EXPECT_EQ(Ctl({"__complete", "--", "run", "--network", "c"}).out, "container:\n");
  EXPECT_EQ(Ctl({"__complete", "--", "run", "--network", "container:w"}).out, "container:web-1\n");
  EXPECT_EQ(Ctl({"__complete", "--", "run", "--pid=container:"}).out, "--pid=container:web-1\n");
  EXPECT_EQ(Ctl({"__complete", "--", "pull", "local"}).out, "localhost:5000/app:1\n");
  EXPECT_EQ(Ctl({"__complete", "--", "volume", "import", "da"}).out, "data\n");
  EXPECT_EQ(Ctl({"__complete", "--", "volume", "import", "data", ""}).out, ":files\n");
}

TEST_F(CommandsTest, BuildxIsBuilderInOtherWords) {
  EXPECT_EQ(Ctl({"buildx", "b", "--help"}).out.substr(0, 25), "Usage:  ctl buildx build ");
  EXPECT_EQ(Ctl({"buildx", "prune", "--help"}).status, 0);
  EXPECT_EQ(Ctl({"buildx", "bake"}).status, 1);
}

TEST_F(CommandsTest, CreateTellsABadCommandLineFromAFailure) {
  EXPECT_EQ(Ctl({"create", "--memory", "x", "busybox"}).status, 125);
  EXPECT_EQ(Ctl({"create", "--pull", "bogus", "busybox"}).status, 125);
  EXPECT_TRUE(daemon_.calls().empty());
  EXPECT_EQ(Ctl({"create", "busybox"}).status, 1) << "the fake has no such call";
}

// Every verb explains itself with an example, and its options do not clash.
void CheckVerb(const Verb& verb, const std::string& path) {
  SCOPED_TRACE(path);
  EXPECT_FALSE(verb.summary.empty());
  for (const Verb& child : verb.verbs) CheckVerb(child, absl::StrCat(path, " ", child.name));
  if (!verb.make) return;
  if (!verb.hidden) {
    EXPECT_NE(verb.examples.find("ctl "), std::string::npos);
  }
  FlagSet flags;
  const std::unique_ptr<Action> action = verb.make();
  action->AddFlags(flags);
  std::set<std::string> names;
  std::set<char> letters;
  for (const FlagSet::Flag& flag : flags.flags()) {
    EXPECT_TRUE(names.insert(flag.name).second) << flag.name;
    EXPECT_FALSE(flag.help.empty()) << flag.name;
    if (flag.letter != 0) {
      EXPECT_TRUE(letters.insert(flag.letter).second) << flag.letter;
    }
  }
}

TEST(CommandTreeTest, EveryVerbIsComplete) { CheckVerb(CommandTree(), "ctl"); }

TEST_F(CommandsTest, ConfigMigrateTurnsContainerdsFileIntoOurs) {
  const Result result = Ctl({"config", "migrate", "-"},
                            "version = 3\noom_score = -1\n[plugins.'io.containerd.cri.v1.images']\n"
                            "snapshotter = 'native'\nuse_local_image_pull = true\n");
  EXPECT_EQ(result.status, 0);
  EXPECT_NE(result.out.find("snapshotter = \"native\"\n"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("address = \"/run/containerd/containerd.sock\"\n"), std::string::npos);
  EXPECT_EQ(result.err,
            "no effect in Gantry: oom_score\n"
            "no effect in Gantry: plugins.\"io.containerd.cri.v1.images\": use_local_image_pull\n");
  // What was printed is Gantry's, and stays what it is.
  const Result again = Ctl({"config", "dump", "-"}, result.out);
  EXPECT_EQ(again.out, result.out);
  EXPECT_EQ(again.err, "");

  EXPECT_NE(Ctl({"config", "migrate", "-"}, "root = '/a'\n").err.find("needs no migration"),
            std::string::npos);
  EXPECT_EQ(Ctl({"config", "migrate", "-"}, "version = 3\nroot = 'relative'\n").status, 1);
  EXPECT_EQ(Ctl({"config", "dump", "-"}, "").out, Ctl({"config", "default"}).out);
}

}  // namespace
}  // namespace gantry::ctl
