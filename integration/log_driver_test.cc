// Log drivers that send a container's output to a collector, with real containers: what arrives,
// what `logs` still reads, and that a collector that is slow or gone holds nothing up.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/unique_fd.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "busybox:test";

// A collector at a unix socket.
class Collector {
 public:
  Collector(const std::string& path, int type)
      : socket_(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)),
        stream_(type == SOCK_STREAM) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(stream_ ? listen(socket_.get(), 8) : 0, 0);
  }
  // All that has come so far.
  const std::string& Received() {
    if (stream_ && !peer_.valid())
      peer_.reset(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    char buffer[65536];
    const int fd = stream_ ? peer_.get() : socket_.get();
    for (ssize_t size; fd >= 0 && (size = recv(fd, buffer, sizeof buffer, 0)) > 0;)
      received_.append(buffer, static_cast<size_t>(size));
    return received_;
  }
  bool Gets(const std::string& text) {
    return Eventually([&] { return absl::StrContains(Received(), text); });
  }

 private:
  UniqueFd socket_;
  UniqueFd peer_;
  const bool stream_;
  std::string received_;
};

class LogDriverTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
  }
  std::string Socket(const std::string& name) { return bed_->scratch() + "/" + name; }
  int64_t Delivery(const std::string& container, const std::string& field) {
    int64_t number = -1;
    const std::string text =
        bed_->CtlOut({"why", "--format", "{{.LogDelivery." + field + "}}", container});
    EXPECT_TRUE(absl::SimpleAtoi(text, &number)) << text;
    return number;
  }
  std::unique_ptr<Testbed> bed_;
};

TEST_F(LogDriverTest, LinesReachSyslogAndLogsStillReadsThem) {
  Collector syslog(Socket("log"), SOCK_DGRAM);
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "-d", "--name", "ca", "--log-driver", "syslog", "--log-opt",
                            "syslog-address=unixgram://" + Socket("log"), "--log-opt",
                            "tag={{.Name}}", "--log-opt", "syslog-facility=local0", kImage, "sh",
                            "-c", "echo hello; echo oops >&2"})));
  EXPECT_TRUE(syslog.Gets(": hello\n")) << syslog.Received();
  EXPECT_TRUE(syslog.Gets(": oops\n")) << syslog.Received();
  EXPECT_TRUE(absl::StrContains(syslog.Received(), "<134>")) << syslog.Received();  // local0, info
  EXPECT_TRUE(absl::StrContains(syslog.Received(), "<131>")) << syslog.Received();  // local0, error
  EXPECT_TRUE(absl::StrContains(syslog.Received(), " ca[")) << syslog.Received();
  EXPECT_TRUE(bed_->StatusBecomes("ca", "exited"));
  EXPECT_EQ(bed_->CtlOut({"logs", "ca"}), "hello");
  EXPECT_EQ(bed_->Inspect("ca", "{{.HostConfig.LogConfig.Type}}"), "syslog");
  EXPECT_TRUE(Eventually([&] { return Delivery("ca", "DeliveredLines") == 2; }));
  EXPECT_EQ(Delivery("ca", "DroppedLines"), 0);
}

TEST_F(LogDriverTest, FluentdGetsRecordsOfTheContainer) {
  Collector fluentd(Socket("fluent"), SOCK_STREAM);
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "-d", "--name", "cf", "--label", "tier=front", "--log-driver",
                            "fluentd", "--log-opt", "fluentd-address=unix://" + Socket("fluent"),
                            "--log-opt", "labels=tier", kImage, "echo", "hello"})));
  EXPECT_TRUE(fluentd.Gets("hello"));
  for (const char* part : {"container_name", "/cf", "tier", "front", "source", "stdout"})
    EXPECT_TRUE(absl::StrContains(fluentd.Received(), part)) << part;
}

// In mounts of the test's own, where journald's socket is the test's.
class JournaldTest : public LogDriverTest {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    ASSERT_EQ(unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(mount("tmpfs", "/run", "tmpfs", 0, "mode=755"), 0);
    ASSERT_TRUE(MakeDirectories("/run/systemd/journal", 0755).ok());
    LogDriverTest::SetUp();
  }
};

TEST_F(JournaldTest, MessagesHaveTheFieldsOfTheContainer) {
  Collector journal("/run/systemd/journal/socket", SOCK_DGRAM);
  // A line of more than 16 KiB comes in pieces.
  const std::string script =
      "echo hello; echo oops >&2; head -c 20000 /dev/zero | tr '\\0' x; echo; echo last";
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "-d", "--name", "cj", "--label", "tier=front", "--log-driver",
                            "journald", "--log-opt", "tag={{.Name}}", "--log-opt", "labels=tier",
                            kImage, "sh", "-c", script})));
  const std::string id = bed_->Inspect("cj", "{{.Id}}");
  EXPECT_TRUE(journal.Gets("MESSAGE=last\n")) << journal.Received();
  for (const std::string& part :
       {std::string("MESSAGE=hello\nPRIORITY=6\nSYSLOG_IDENTIFIER=cj\n"),
        std::string("MESSAGE=oops\nPRIORITY=3\n"), absl::StrCat("CONTAINER_ID_FULL=", id, "\n"),
        absl::StrCat("CONTAINER_ID=", id.substr(0, 12), "\n"), std::string("CONTAINER_NAME=cj\n"),
        std::string("CONTAINER_TAG=cj\n"), std::string("IMAGE_NAME=busybox:test\n"),
        std::string("TIER=front\n"),
        // The two pieces of the long line: a reader puts them together by its id.
        std::string("CONTAINER_PARTIAL_ORDINAL=1\nCONTAINER_PARTIAL_LAST=false\n"
                    "CONTAINER_PARTIAL_MESSAGE=true\n"),
        std::string("CONTAINER_PARTIAL_ORDINAL=2\nCONTAINER_PARTIAL_LAST=true\n")}) {
    EXPECT_TRUE(journal.Gets(part)) << part << "\nnot in:\n" << journal.Received();
  }
  const std::string key = "CONTAINER_PARTIAL_ID=";
  const size_t first = journal.Received().find(key);
  ASSERT_NE(first, std::string::npos);
  const std::string line = journal.Received().substr(first, key.size() + 64);
  EXPECT_TRUE(absl::StrContains(journal.Received().substr(first + line.size()), line));
  EXPECT_TRUE(bed_->StatusBecomes("cj", "exited"));
  EXPECT_TRUE(absl::StrContains(bed_->CtlOut({"logs", "cj"}), "last"));
  EXPECT_TRUE(Eventually([&] { return Delivery("cj", "DroppedLines") == 0; }));
}

TEST_F(LogDriverTest, ACollectorThatIsGoneStopsNoContainerAndIsCounted) {
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "-d", "--name", "gone", "--log-driver", "fluentd", "--log-opt",
                            "fluentd-address=unix://" + Socket("nobody"), "--log-opt",
                            "max-buffer-size=64k", kImage, "sh", "-c", "seq 1 50000; echo end"})));
  EXPECT_TRUE(bed_->StatusBecomes("gone", "exited"));
  // The copy has every line, and says in its last one how many went nowhere else.
  // That line comes when the shim is done with the log, a moment after the end of the process.
  Outcome log;
  EXPECT_TRUE(Eventually([&] {
    log = bed_->Ctl({"logs", "--tail", "2", "gone"});
    return absl::StrContains(log.err, "50001 lines were not delivered");
  })) << log.err;
  EXPECT_EQ(log.out, "end\n");
  EXPECT_TRUE(Eventually([&] { return Delivery("gone", "DroppedLines") == 50001; }))
      << Delivery("gone", "DroppedLines");
  EXPECT_TRUE(absl::StrContains(
      bed_->CtlOut({"why", "--format", "{{.LogDelivery.Problem}}", "gone"}), "No such file"));
}

TEST_F(LogDriverTest, SetMovesTheCollectorOfARunningContainer) {
  Collector first(Socket("first"), SOCK_DGRAM);
  Collector second(Socket("second"), SOCK_DGRAM);
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "-d", "--name", "cm", "--log-driver", "syslog", "--log-opt",
                            "syslog-address=unixgram://" + Socket("first"), kImage, "sh", "-c",
                            "i=0; while true; do echo line$i; i=$((i+1)); sleep 0.1; done"})));
  EXPECT_TRUE(first.Gets("line0"));
  const Outcome set =
      bed_->Ctl({"set", "--log-opt", "syslog-address=unixgram://" + Socket("second"), "cm"});
  EXPECT_TRUE(Ok(set));
  EXPECT_EQ(set.out, "log options: done\n");
  EXPECT_TRUE(second.Gets("line"));
}

TEST_F(LogDriverTest, SetSaysWhatIsDoneAndWhatWaits) {
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "-d", "--name", "cs", "-e", "A=1", kImage, "sleep", "1000"})));
  const Outcome set = bed_->Ctl({"set", "--label", "tier=front", "-e", "A=2", "-e", "B=3",
                                 "--restart", "always", "-m", "64m", "cs"});
  EXPECT_TRUE(Ok(set));
  EXPECT_TRUE(absl::StrContains(set.out, "label tier: done\n")) << set.out;
  EXPECT_TRUE(absl::StrContains(set.out, "variable A: at the next start")) << set.out;
  EXPECT_TRUE(absl::StrContains(set.out, "limits: done\n")) << set.out;
  EXPECT_EQ(bed_->Inspect("cs", "{{.Config.Labels.tier}}"), "front");
  EXPECT_EQ(bed_->Inspect("cs", "{{.HostConfig.RestartPolicy.Name}}"), "always");
  EXPECT_EQ(bed_->Inspect("cs", "{{.HostConfig.Memory}}"), "67108864");
  // Its process keeps what it has; what is executed in it has the new ones already.
  const std::string first = "tr '\\0' '\\n' < /proc/1/environ | grep '^[AB]='; echo $A$B";
  EXPECT_EQ(bed_->CtlOut({"exec", "cs", "sh", "-c", first}), "A=1\n23");
  EXPECT_TRUE(Ok(bed_->Ctl({"restart", "-t", "0", "cs"})));
  EXPECT_EQ(bed_->CtlOut({"exec", "cs", "sh", "-c", first}), "A=2\nB=3\n23");
  // Another command, of a container that does not run: in force at once.
  EXPECT_TRUE(Ok(bed_->Ctl({"stop", "-t", "0", "cs"})));
  EXPECT_EQ(bed_->Ctl({"set", "cs", "sh", "-c", "echo changed"}).out, "command: done\n");
  EXPECT_TRUE(Ok(bed_->Ctl({"set", "--restart", "no", "cs"})));
  EXPECT_EQ(bed_->Ctl({"start", "-a", "cs"}).out, "changed\n");
  EXPECT_EQ(bed_->Ctl({"set", "cs"}).code, 1);
}

}  // namespace
}  // namespace gantry::integration
