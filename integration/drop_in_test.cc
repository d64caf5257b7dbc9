// A containerd configuration, given to gantryd as it is: for each key that is said to take effect,
// that it does; and that the others are named.
#include <dirent.h>
#include <grpcpp/grpcpp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/api_client.h"
#include "integration/images.h"
#include "integration/testbed.h"
#include "supervisor/distribution/fake_registry.h"

namespace gantry::integration {
namespace {

using distribution::FakeRegistry;
using testing::HasSubstr;
using testing::Not;

constexpr gid_t kGroup = 4242;

constexpr char kVersion2[] = R"(version = 2
root = "@base@/root"
state = "@base@/state"
imports = ["@base@/scratch/more*.toml"]
oom_score = -999
[grpc]
  address = "@base@/state/gantry.sock"
  gid = 4242
  max_recv_message_size = 4194304
  max_send_message_size = 5242880
[metrics]
  address = "127.0.0.1:0"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "pause:test"
  max_concurrent_downloads = 1
  max_container_log_line_size = 16384
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/other/bin"
    conf_dir = "/etc/other/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "mine"
    discard_unpacked_layers = true
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.mine]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.mine.options]
        BinaryName = "@base@/scratch/mine"
        NoPivotRoot = true
        NoNewKeyring = true
        Root = "@base@/scratch/runtime-root"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.systemd]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.systemd.options]
        BinaryName = "@base@/scratch/mine"
        SystemdCgroup = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "@base@/scratch/certs.d"
)";

std::vector<std::string> NamesIn(const std::string& directory) {
  std::vector<std::string> names;
  std::unique_ptr<DIR, int (*)(DIR*)> open(opendir(directory.c_str()), &closedir);
  while (open != nullptr) {
    const dirent* entry = readdir(open.get());
    if (entry == nullptr) break;
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  return names;
}

class DropInTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
  }

  void MakeBed(const std::string& config) {
    Testbed::Options options;
    options.config = config;
    options.places_from_config = true;
    options.start = false;
    bed_ = std::make_unique<Testbed>(options);
  }

  // runc, with its arguments on record; what takes systemd ends before it can matter that there is
  // none.
  void WriteRuntime() {
    const std::string program = bed_->scratch() + "/mine";
    ASSERT_TRUE(WriteFile(program, absl::StrCat("#!/bin/sh\necho \"$*\" >> ", bed_->scratch(),
                                                "/arguments\ncase \"$*\" in *systemd-cgroup*) "
                                                "echo 'no systemd here' >&2; exit 1;; esac\n"
                                                "exec runc \"$@\"\n"))
                    .ok());
    ASSERT_EQ(chmod(program.c_str(), 0755), 0);
  }
  std::string Arguments() const {
    return ReadFile(bed_->scratch() + "/arguments", 1 << 20).value_or("");
  }

  // A daemon with these keys of the scheduler's section.
  void StartWithScheduler(const std::string& keys) {
    MakeBed(absl::StrCat(R"(version = 2
root = "@base@/root"
state = "@base@/state"
[grpc]
  address = "@base@/state/gantry.sock"
[metrics]
  address = "127.0.0.1:0"
[plugins."io.containerd.gc.v1.scheduler"]
)",
                         keys));
    ASSERT_TRUE(bed_->StartDaemon());
  }
  // Collections so far; -1 when the metrics do not say.
  int Runs() const {
    const std::string metrics = bed_->Metrics();
    const std::string name = "\ngantry_gc_runs_total ";
    const size_t at = metrics.find(name);
    return at == std::string::npos ? -1 : atoi(metrics.c_str() + at + name.size());
  }
  bool RunsBecome(int runs) const {
    return Eventually([&] { return Runs() >= runs; });
  }
  // Changes that leave nothing to be collected.
  void MakeChanges(int number) {
    ApiClient api(bed_->address(), bed_->ns());
    for (int i = 0; i < number; ++i) {
      ASSERT_TRUE(api.CreateContainer(absl::StrCat("c", changes_++), "none", "{}").ok());
    }
  }
  void RemoveChanges() {
    ApiClient api(bed_->address(), bed_->ns());
    while (changes_ > 0) {
      containers_api::DeleteContainerRequest request;
      google::protobuf::Empty nothing;
      request.set_id(absl::StrCat("c", --changes_));
      EXPECT_TRUE(api.containers().Delete(api.Context().get(), request, &nothing).ok());
    }
  }

  std::unique_ptr<Testbed> bed_;
  int changes_ = 0;
};

// What an idle machine does by itself comes ten seconds after a deletion and never without one, so
// that it is not what is seen here.
TEST_F(DropInTest, ThresholdsOfTheSchedulerBringCollections) {
  StartWithScheduler("  mutation_threshold = 20\n  deletion_threshold = 1\n");
  ASSERT_TRUE(RunsBecome(1));
  MakeChanges(20);
  EXPECT_TRUE(RunsBecome(2)) << "20 changes";
  // One after the other, each waited for, in the time that three would take without the threshold.
  const int before = Runs();
  EXPECT_TRUE(Eventually([&] {
    ApiClient api(bed_->address(), bed_->ns());
    leases_api::CreateRequest create;
    leases_api::CreateResponse created;
    leases_api::DeleteRequest remove;
    google::protobuf::Empty nothing;
    create.set_id("l");
    remove.set_id("l");
    const int now = Runs();
    return api.leases().Create(api.Context().get(), create, &created).ok() &&
           api.leases().Delete(api.Context().get(), remove, &nothing).ok() && RunsBecome(now + 1) &&
           Runs() >= before + 6;
  })) << Runs()
      << " after " << before;
  RemoveChanges();
}

TEST_F(DropInTest, TheSchedulerWaitsAsLongAsItIsTold) {
  StartWithScheduler("  startup_delay = '100h'\n");
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(Ok(bed_->Ctl({"version"})));
  EXPECT_EQ(Runs(), 0) << "startup_delay";
  ASSERT_TRUE(Ok(bed_->Ctl({"gc"})));
  EXPECT_EQ(Runs(), 1) << "one that is asked for does not wait";

  StartWithScheduler("  schedule_delay = '100h'\n  mutation_threshold = 5\n");
  ASSERT_TRUE(RunsBecome(1));
  MakeChanges(150);
  EXPECT_EQ(Runs(), 1) << "schedule_delay";
  ASSERT_TRUE(Ok(bed_->Ctl({"gc"})));
  EXPECT_EQ(Runs(), 2);
  RemoveChanges();

  // After a run of a millisecond, none for eleven days.
  StartWithScheduler("  pause_threshold = 0.000000001\n  mutation_threshold = 5\n");
  ASSERT_TRUE(RunsBecome(1));
  MakeChanges(150);
  EXPECT_EQ(Runs(), 1) << "pause_threshold";
  ASSERT_TRUE(Ok(bed_->Ctl({"gc"})));
  EXPECT_EQ(Runs(), 2);
  RemoveChanges();
}

// The interval is the most that a restart is put off. With the usual one, eight ends would take
// most of a minute.
TEST_F(DropInTest, TheRestartMonitorKeepsToItsInterval) {
  MakeBed(R"(version = 2
root = "@base@/root"
state = "@base@/state"
[grpc]
  address = "@base@/state/gantry.sock"
[plugins."io.containerd.internal.v1.restart"]
  interval = "100ms"
)");
  ASSERT_TRUE(bed_->StartDaemon());
  ASSERT_TRUE(bed_->LoadBusybox("app:test"));
  // Only its label asks for it to run.
  ASSERT_TRUE(
      Ok(bed_->Ctr({"containers", "create", "--label", "containerd.io/restart.status=running",
                    "docker.io/library/app:test", "kept", "sleep", "0.2"})));
  EXPECT_TRUE(Eventually([&] {
    const std::string info = bed_->Ctr({"containers", "info", "kept"}).out;
    const std::string label = "\"containerd.io/restart.count\": \"";
    const size_t at = info.find(label);
    return at != std::string::npos && atoi(info.c_str() + at + label.size()) >= 8;
  })) << bed_->Ctr({"containers", "info", "kept"}).out;
  ASSERT_TRUE(
      Ok(bed_->Ctr({"containers", "label", "kept", "containerd.io/restart.status=stopped"})));
  EXPECT_TRUE(Eventually([&] {
    (void)bed_->Ctr({"tasks", "rm", "--force", "kept"});
    return bed_->Ctr({"containers", "delete", "kept"}).ok();
  }));
  // A start that was under way is undone.
  EXPECT_TRUE(Eventually([&] { return bed_->Bundles().empty(); }));
}

TEST_F(DropInTest, TheKeysOfAVersion2FileTakeEffect) {
  MakeBed(kVersion2);
  WriteRuntime();
  const std::string scratch = bed_->scratch();
  ASSERT_TRUE(WriteFile(scratch + "/more-1.toml",
                        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n"
                        "snapshotter = \"native\"\n")
                  .ok());
  // A registry that tells how many layers are asked for at once; each waits a moment for company.
  FakeRegistry registry;
  std::map<std::string, std::string> layers;
  std::vector<std::string> tars;
  for (const char* name : {"a", "b", "c"}) {
    const std::string directory = absl::StrCat(scratch, "/layer-", name);
    ASSERT_TRUE(MakeDirectories(directory, 0755).ok());
    ASSERT_TRUE(WriteFile(absl::StrCat(directory, "/", name), name).ok());
    const Outcome tar = RunProgram({"tar", "-C", directory, "-cf", "-", "."});
    ASSERT_TRUE(Ok(tar));
    tars.push_back(tar.out);
    layers[Sha256(tar.out)] = tar.out;
  }
  registry.AddImage("app", "v1", tars);
  absl::Mutex mu;
  int now = 0, most = 0;
  registry.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    const auto layer = layers.find(request.path.substr(request.path.rfind('/') + 1));
    if (request.method != "GET" || layer == layers.end()) return false;
    {
      absl::MutexLock lock(&mu);
      most = std::max(most, ++now);
      const auto company = [&now] { return now > 1; };
      mu.AwaitWithTimeout(absl::Condition(&company), absl::Milliseconds(200));
    }
    connection.Answer(200, {{"Content-Type", "application/octet-stream"}}, layer->second);
    absl::MutexLock lock(&mu);
    --now;
    return true;
  });
  ASSERT_TRUE(MakeDirectories(scratch + "/certs.d/registry.test", 0755).ok());
  ASSERT_TRUE(WriteFile(scratch + "/certs.d/registry.test/hosts.toml",
                        absl::StrCat("server = \"", registry.origin(), "\"\n"))
                  .ok());
  ASSERT_TRUE(bed_->StartDaemon());
  ApiClient api(bed_->address(), bed_->ns());

  // root, state, grpc.address and gid: the socket answers where it was said to be, and belongs to
  // whom it was said to.
  struct stat info = {};
  ASSERT_EQ(stat(bed_->address().c_str(), &info), 0);
  EXPECT_EQ(info.st_gid, kGroup);
  EXPECT_EQ(access((bed_->root() + "/metadata").c_str(), F_OK), 0);
  EXPECT_EQ(access((bed_->state() + "/tasks").c_str(), F_OK), 0);

  // What has none of it is named, once.
  const std::string log = bed_->daemon_log();
  for (const char* line :
       {"no effect here: oom_score",
        "no effect here: plugins.\"io.containerd.grpc.v1.cri\": max_container_log_line_size"}) {
    EXPECT_THAT(log, HasSubstr(line));
  }
  EXPECT_THAT(log.substr(log.find("max_container_log_line_size") + 1),
              Not(HasSubstr("max_container_log_line_size")));
  // The directories of plugins have an effect: pods use them.
  EXPECT_THAT(log, Not(HasSubstr("conf_dir")));

  // sandbox_image: pinned when it comes, and no other is.
  ASSERT_TRUE(bed_->LoadBusybox("pause:test"));
  ASSERT_TRUE(Ok(bed_->Ctl({"tag", "pause:test", "app:test"})));
  const Outcome images = bed_->Ctr({"images", "ls"});
  for (const absl::string_view line : absl::StrSplit(images.out, '\n')) {
    if (absl::StrContains(line, "pause:test")) {
      EXPECT_THAT(std::string(line), HasSubstr("io.cri-containerd.pinned=pinned"));
    }
    if (absl::StrContains(line, "app:test")) {
      EXPECT_THAT(std::string(line), Not(HasSubstr("pinned")));
    }
  }

  // The snapshotter that the imported file names, and the default runtime with each of its options.
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", "app:test", "echo", "ran"}), "ran");
  EXPECT_FALSE(NamesIn(bed_->root() + "/snapshots/native/snapshots").empty());
  EXPECT_TRUE(NamesIn(bed_->root() + "/snapshots/overlayfs/snapshots").empty());
  const std::string arguments = Arguments();
  EXPECT_THAT(arguments, HasSubstr("--no-pivot"));
  EXPECT_THAT(arguments, HasSubstr("--no-new-keyring"));
  EXPECT_THAT(arguments, HasSubstr(absl::StrCat("--root ", scratch, "/runtime-root")));
  EXPECT_THAT(arguments, Not(HasSubstr("--systemd-cgroup")));
  const Outcome with_systemd =
      bed_->Ctl({"run", "--rm", "--runtime", "systemd", "app:test", "true"});
  EXPECT_EQ(with_systemd.code, 125);
  EXPECT_THAT(with_systemd.err, HasSubstr("no systemd here"));
  EXPECT_THAT(Arguments(), HasSubstr("--systemd-cgroup"));

  // restrict_oom_score_adj: no container is killed later than the daemon.
  const std::string own = std::string(absl::StripAsciiWhitespace(
      ReadFile(absl::StrCat("/proc/", bed_->daemon_pid(), "/oom_score_adj"), 64).value_or("")));
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", "--oom-score-adj", "-900", "app:test", "cat",
                          "/proc/self/oom_score_adj"}),
            own);

  // Limits of messages.
  EXPECT_TRUE(api.CreateContainer("one", "none", std::string(3 << 20, 'x')).ok());
  EXPECT_TRUE(api.CreateContainer("two", "none", std::string(3 << 20, 'x')).ok());
  EXPECT_TRUE(
      absl::IsResourceExhausted(api.CreateContainer("three", "none", std::string(5 << 20, 'x'))));
  containers_api::ListContainersResponse list;
  EXPECT_EQ(api.containers().List(api.Context().get(), {}, &list).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  for (const char* id : {"one", "two"}) {
    containers_api::DeleteContainerRequest request;
    google::protobuf::Empty nothing;
    request.set_id(id);
    EXPECT_TRUE(api.containers().Delete(api.Context().get(), request, &nothing).ok());
  }

  // config_path, max_concurrent_downloads, discard_unpacked_layers; and what the metrics say of the
  // pull.
  ASSERT_TRUE(Ok(bed_->Ctl({"pull", "-q", "registry.test/app:v1"})));
  {
    absl::MutexLock lock(&mu);
    EXPECT_EQ(most, 1);
  }
  for (const auto& [digest, bytes] : layers) {
    const std::string file =
        absl::StrCat(bed_->root(), "/content/blobs/sha256/", absl::StripPrefix(digest, "sha256:"));
    EXPECT_TRUE(Eventually([&] { return access(file.c_str(), F_OK) != 0; })) << digest;
  }
  const std::string metrics = bed_->Metrics();
  EXPECT_THAT(metrics, HasSubstr("gantry_image_pulls_total{status=\"success\"} 1\n"));
  EXPECT_THAT(metrics, HasSubstr("gantry_image_pulls_running 0\n"));
  EXPECT_THAT(metrics, Not(HasSubstr("gantry_image_pull_bytes_total 0\n")));
}

TEST_F(DropInTest, TheKeysOfAVersion3FileTakeEffect) {
  MakeBed(R"(version = 3
root = '@base@/root'
state = '@base@/state'
[debug]
  level = 'error'
[grpc]
  address = '@base@/state/gantry.sock'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'native'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = 'pause:test'
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = 'mine'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.mine]
  runtime_type = 'io.containerd.runc.v2'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.mine.options]
    BinaryName = '@base@/scratch/mine'
)");
  WriteRuntime();
  ASSERT_TRUE(bed_->StartDaemon());
  ASSERT_TRUE(bed_->LoadBusybox("pause:test"));
  EXPECT_THAT(bed_->Ctr({"images", "ls"}).out, HasSubstr("io.cri-containerd.pinned=pinned"));
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", "pause:test", "echo", "ran"}), "ran");
  EXPECT_FALSE(NamesIn(bed_->root() + "/snapshots/native/snapshots").empty());
  EXPECT_THAT(Arguments(), HasSubstr("--bundle"));
  // Of a start and a run nothing is worth telling to who wants to hear of errors only.
  EXPECT_EQ(bed_->daemon_log(), "");
}

}  // namespace
}  // namespace gantry::integration
