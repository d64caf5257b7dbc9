// Containers of pods: what they get of their pod, what is refused, and calls that are repeated.
//
// Needs root: pods have namespaces, and users are looked up in the mounted root file system.
#include "supervisor/core/pod_containers.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "base/field_error.h"
#include "proto/gantry/v1/pods.pb.h"
#include "supervisor/core/creation_fixture.h"
#include "supervisor/core/own_mounts.h"
#include "supervisor/core/pod_figures.h"
#include "supervisor/core/pod_member.h"
#include "supervisor/core/pod_service.h"
#include "supervisor/core/sandbox_service.h"

namespace gantry::core {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Key;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

class PodContainersTest : public CreationFixture {
 protected:
  static void SetUpTestSuite() { EnterOwnMounts(); }

  void SetUp() override {
    CreationFixture::SetUp();
    if (IsSkipped()) return;
    sandboxes_ = std::make_unique<SandboxService>(stores_.sandboxes, events_, Clock::Real());
    PodService::Parts parts = {};
    parts.stores = &stores_;
    parts.sandboxes = sandboxes_.get();
    parts.records = records_.get();
    parts.lifecycle = maker_.get();
    parts.tasks = tasks_.get();
    parts.images = catalog_.get();
    parts.unpack = unpack_.get();
    parts.runtimes = runtimes_.get();
    parts.host = &host_;
    parts.events = &events_;
    parts.workers = workers_.get();
    parts.state_directory = dir_.Join("state");
    pods_ = std::make_unique<PodService>(parts);
    figures_ = std::make_unique<PodFigures>(PodFigures::Parts{&stores_, tasks_.get()});
    WriteImageAs("docker.io/library/app:1");
    pod_ = pods_->Run(context_, PodOf("web"), "").value();
  }
  void TearDown() override {
    if (pods_ == nullptr) return;
    for (const Pod& one : pods_->List(context_)) {
      const absl::Status removed = pods_->Remove(context_, one.id);
      EXPECT_TRUE(removed.ok()) << removed;
    }
    pods_.reset();
    sandboxes_.reset();
  }

  v1::PodConfig PodOf(const std::string& name) const {
    v1::PodConfig config;
    config.set_name(name);
    config.set_uid("uid-" + name);
    config.set_group("blue");
    config.set_hostname(name + "-host");
    config.set_log_directory(dir_.Join("logs"));
    config.set_cgroup_parent("/kubepods/pod1");
    return config;
  }
  PodContainer Wanted(const std::string& name = "app") const {
    PodContainer container;
    container.pod = pod_;
    container.name = name;
    container.config.set_image("app:1");
    return container;
  }
  std::string MustCreate(const PodContainer& container) {
    const absl::StatusOr<std::string> id = pods_->containers().Create(context_, container);
    EXPECT_TRUE(id.ok()) << id.status();
    return id.value_or("");
  }
  absl::Status Refusal(const PodContainer& container) {
    const std::vector<std::string> before = Traces();
    const absl::Status refused = pods_->containers().Create(context_, container).status();
    EXPECT_FALSE(refused.ok());
    EXPECT_EQ(Traces(), before);  // nothing of it stays
    return refused;
  }
  LoadedContainer Loaded(const std::string& id) {
    return pods_->containers().Load(context_, id).value();
  }
  // The path of a kernel namespace in the spec; "own" for a new one, "host" where there is none.
  std::string Namespace(const std::string& id, const std::string& type) {
    const nlohmann::json spec = Spec(id);
    for (const nlohmann::json& one : spec["linux"]["namespaces"]) {
      if (one["type"] == type) return one.value("path", "own");
    }
    return "host";
  }
  nlohmann::json MountAt(const std::string& id, const std::string& target) {
    nlohmann::json found;
    const nlohmann::json spec = Spec(id);
    for (const nlohmann::json& one : spec["mounts"]) {
      if (one["destination"] == target) found = one;
    }
    return found;
  }
  static PodMount Mount(const std::string& source, const std::string& target) {
    PodMount mount;
    mount.source = source;
    mount.target = target;
    return mount;
  }
  PodContainer With(PodMount mount) const {
    PodContainer container = Wanted();
    container.mounts.push_back(std::move(mount));
    return container;
  }

  std::unique_ptr<SandboxService> sandboxes_;
  std::unique_ptr<PodService> pods_;
  std::unique_ptr<PodFigures> figures_;
  std::string pod_;
};

TEST_F(PodContainersTest, AContainerJoinsTheNamespacesOfItsPod) {
  const std::string id = MustCreate(Wanted());
  const std::string pod = dir_.Join(absl::StrCat("state/pods/default/", pod_));
  EXPECT_EQ(Namespace(id, "network"), pod + "/net");
  EXPECT_EQ(Namespace(id, "ipc"), pod + "/ipc");
  EXPECT_EQ(Namespace(id, "uts"), pod + "/uts");
  EXPECT_EQ(Namespace(id, "pid"), "own");
  EXPECT_EQ(Namespace(id, "mount"), "own");
  EXPECT_EQ(MountAt(id, "/dev/shm")["source"], pod + "/shm");
  EXPECT_EQ(MountAt(id, "/etc/hosts")["source"], pod + "/hosts");
  EXPECT_EQ(MountAt(id, "/etc/resolv.conf")["source"], pod + "/resolv.conf");
  EXPECT_EQ(Spec(id)["linux"]["cgroupsPath"], absl::StrCat("/kubepods/pod1/", id));
  EXPECT_THAT(Spec(id)["process"]["env"].get<std::vector<std::string>>(),
              Contains("HOSTNAME=web-host"));
  EXPECT_EQ(Loaded(id).record.sandbox(), pod_);
  EXPECT_EQ(Loaded(id).name, "app_web_blue_uid-web_0");
}

TEST_F(PodContainersTest, OfAPodWithTheHostsNamespacesTheyAreTheHosts) {
  v1::PodConfig config = PodOf("host");
  config.set_host_network(true);
  config.set_host_ipc(true);
  config.set_host_pid(true);
  pod_ = pods_->Run(context_, config, "").value();
  const std::string id = MustCreate(Wanted());
  for (const char* type : {"network", "ipc", "uts", "pid"})
    EXPECT_EQ(Namespace(id, type), "host") << type;
  char name[256] = {};
  ASSERT_EQ(gethostname(name, sizeof name - 1), 0);
  EXPECT_THAT(Spec(id)["process"]["env"].get<std::vector<std::string>>(),
              Contains(absl::StrCat("HOSTNAME=", name)));
}

TEST_F(PodContainersTest, ARepeatedCallFindsTheContainer) {
  PodContainer wanted = Wanted();
  wanted.extensions["cri"] = "as asked";
  const std::string id = MustCreate(wanted);
  EXPECT_EQ(MustCreate(wanted), id);
  wanted.extensions["cri"] = "otherwise";
  EXPECT_TRUE(absl::IsAlreadyExists(Refusal(wanted)));
  // The next attempt is another container.
  wanted.attempt = 1;
  EXPECT_NE(MustCreate(wanted), id);
  EXPECT_THAT(*pods_->containers().List(context_, pod_), SizeIs(2));
}

TEST_F(PodContainersTest, CallsForTheSameContainerAtTheSameTimeMakeOne) {
  std::vector<std::string> ids(4);
  std::vector<std::thread> callers;
  for (std::string& id : ids) {
    callers.emplace_back(
        [&] { id = pods_->containers().Create(context_, Wanted()).value_or("failed"); });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_THAT(ids, testing::Each(ids.front()));
  EXPECT_NE(ids.front(), "failed");
  EXPECT_THAT(*pods_->containers().List(context_, pod_), SizeIs(1));
}

TEST_F(PodContainersTest, NamesThatDoNotFitAreCutAndStayApart) {
  PodContainer wanted = Wanted(std::string(200, 'n'));
  const std::string first = MustCreate(wanted);
  wanted.attempt = 1;
  const std::string second = MustCreate(wanted);
  EXPECT_LE(Loaded(first).name.size(), 250u);
  EXPECT_NE(Loaded(first).name, Loaded(second).name);
  EXPECT_EQ(FieldOf(Refusal(Wanted(""))), "metadata");
}

TEST_F(PodContainersTest, APodThatIsNotReadyTakesNoContainer) {
  const std::string created = MustCreate(Wanted());
  ASSERT_TRUE(pods_->Stop(context_, pod_).ok());
  const absl::Status refused = Refusal(Wanted("late"));
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("is not ready"));
  EXPECT_TRUE(absl::IsFailedPrecondition(pods_->containers().Start(context_, created)));
  PodContainer elsewhere = Wanted();
  elsewhere.pod = "0123";
  EXPECT_TRUE(absl::IsNotFound(Refusal(elsewhere)));
}

TEST_F(PodContainersTest, LogsAreInTheDirectoryOfThePod) {
  PodContainer wanted = Wanted();
  wanted.log_path = "app/0.log";
  const std::string id = MustCreate(wanted);
  EXPECT_EQ(Loaded(id).record.extensions().at(kPodLogExtension).value(),
            dir_.Join("logs/app/0.log"));
  const std::string quiet = MustCreate(Wanted("quiet"));
  EXPECT_EQ(Loaded(quiet).config.log().driver(), "none");
  v1::PodConfig config = PodOf("other");
  config.clear_log_directory();
  pod_ = pods_->Run(context_, config, "").value();
  wanted.pod = pod_;
  EXPECT_EQ(FieldOf(Refusal(wanted)), "log_path");
}

TEST_F(PodContainersTest, PrivilegesAreNoMoreThanThePods) {
  PodContainer wanted = Wanted();
  wanted.config.set_privileged(true);
  EXPECT_EQ(FieldOf(Refusal(wanted)), "privileged");
  v1::PodConfig config = PodOf("strong");
  config.set_privileged(true);
  wanted.pod = pod_ = pods_->Run(context_, config, "").value();
  EXPECT_EQ(Namespace(MustCreate(wanted), "cgroup"), "host");
}

TEST_F(PodContainersTest, ProcessNamespaces) {
  PodContainer host = Wanted("host");
  host.pid = PodContainer::Pid::kHost;
  EXPECT_EQ(Namespace(MustCreate(host), "pid"), "host");
  const std::string target = MustCreate(Wanted("target"));
  ASSERT_TRUE(pods_->containers().Start(context_, target).ok());
  PodContainer debug = Wanted("debug");
  debug.pid = PodContainer::Pid::kOfContainer;
  debug.pid_container = target;
  EXPECT_EQ(Namespace(MustCreate(debug), "pid"),
            absl::StrCat("/proc/", tasks_->view().Get(kNs, target, "")->pid, "/ns/pid"));
  // Of another pod it cannot be.
  debug.pod = pod_ = pods_->Run(context_, PodOf("other"), "").value();
  EXPECT_EQ(FieldOf(Refusal(debug)), "target_id");
  debug.pid_container = "";
  EXPECT_TRUE(absl::IsInvalidArgument(Refusal(debug)));
}

TEST_F(PodContainersTest, GroupsOfTheImageAndOfThePod) {
  const auto groups = [&](const std::string& name, bool only_these) {
    PodContainer wanted = Wanted(name);
    wanted.config.set_user("ann");
    wanted.groups = {3000, 50};
    wanted.only_these_groups = only_these;
    const nlohmann::json user = Spec(MustCreate(wanted))["process"]["user"];
    EXPECT_EQ(user["uid"], 1000);
    return user["additionalGids"].get<std::vector<int>>();
  };
  EXPECT_THAT(groups("merged", false), ElementsAre(50, 100, 3000));
  EXPECT_THAT(groups("strict", true), ElementsAre(50, 100, 3000));
  PodContainer plain = Wanted("plain");
  plain.config.set_user("ann");
  EXPECT_THAT(Spec(MustCreate(plain))["process"]["user"]["additionalGids"].get<std::vector<int>>(),
              ElementsAre(50, 100));  // staff's of the image
  plain.name = "plain-strict";
  plain.only_these_groups = true;
  EXPECT_THAT(Spec(MustCreate(plain))["process"]["user"]["additionalGids"].get<std::vector<int>>(),
              ElementsAre(100));
}

TEST_F(PodContainersTest, HostPathsAreMountedAsTheyReallyAre) {
  ASSERT_TRUE(MakeDirectories(dir_.Join("real"), 0755).ok());
  ASSERT_EQ(symlink(dir_.Join("real").c_str(), dir_.Join("link").c_str()), 0);
  PodContainer wanted = With(Mount(dir_.Join("link"), "/data"));
  wanted.mounts.push_back(Mount(dir_.Join("made/by/it"), "/cache"));
  wanted.mounts.back().read_only = true;
  wanted.mounts.push_back(Mount(dir_.Join("real"), "/etc/hosts"));
  const std::string id = MustCreate(wanted);
  EXPECT_EQ(MountAt(id, "/data")["source"], dir_.Join("real"));
  EXPECT_EQ(MountAt(id, "/cache")["source"], dir_.Join("made/by/it"));
  EXPECT_THAT(MountAt(id, "/cache")["options"].get<std::vector<std::string>>(), Contains("ro"));
  // The pod's own file gives way.
  EXPECT_EQ(MountAt(id, "/etc/hosts")["source"], dir_.Join("real"));
}

TEST_F(PodContainersTest, MountsThatCannotBeAreNamed) {
  for (const char* source : {"", "relative/path"}) {
    const absl::Status refused = Refusal(With(Mount(source, "/data")));
    EXPECT_EQ(FieldOf(refused), "mounts");
    EXPECT_THAT(std::string(refused.message()), HasSubstr("is not an absolute path"));
  }
  PodMount mount = Mount(dir_.Join("real"), "/data");
  mount.recursive_read_only = true;
  EXPECT_THAT(std::string(Refusal(With(mount)).message()), HasSubstr("RROUnsupported: /data"));
  mount.read_only = true;
  mount.propagation = PodMount::Propagation::kFromHost;
  EXPECT_THAT(std::string(Refusal(With(mount)).message()), HasSubstr("RROUnsupported"));
}

TEST_F(PodContainersTest, PropagationNeedsAMountThatIsShared) {
  const std::string path = dir_.Join("shared");
  ASSERT_TRUE(MakeDirectories(path + "/below", 0755).ok());
  PodMount mount = Mount(path + "/below", "/data");
  mount.propagation = PodMount::Propagation::kBoth;
  EXPECT_THAT(std::string(Refusal(With(mount)).message()), HasSubstr("it is not a shared mount"));
  mount.propagation = PodMount::Propagation::kFromHost;
  EXPECT_THAT(std::string(Refusal(With(mount)).message()),
              HasSubstr("it is not a shared or slave mount"));
  ASSERT_EQ(::mount(path.c_str(), path.c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(::mount(nullptr, path.c_str(), nullptr, MS_SHARED, nullptr), 0);
  const auto options = [&](const PodMount& one, const std::string& name) {
    PodContainer wanted = With(one);
    wanted.name = name;
    return MountAt(MustCreate(wanted), "/data")["options"].get<std::vector<std::string>>();
  };
  EXPECT_THAT(options(mount, "from"), Contains("rslave"));
  mount.propagation = PodMount::Propagation::kBoth;
  EXPECT_THAT(options(mount, "both"), Contains("rshared"));
  ASSERT_EQ(umount2(path.c_str(), MNT_DETACH), 0);
}

TEST_F(PodContainersTest, FilesOfThePodAreReadOnlyWhereTheRootIs) {
  PodContainer wanted = Wanted();
  const auto hosts = [&](const std::string& id) {
    return MountAt(id, "/etc/hosts")["options"].get<std::vector<std::string>>();
  };
  EXPECT_THAT(hosts(MustCreate(wanted)), Not(Contains("ro")));
  wanted.name = "locked";
  wanted.config.set_read_only_rootfs(true);
  EXPECT_THAT(hosts(MustCreate(wanted)), Contains("ro"));
}

TEST_F(PodContainersTest, AnImageIsAReadOnlyMountThatTheContainerKeeps) {
  PodMount mount;
  mount.target = "/models";
  mount.image = "app:1";
  mount.image_path = "./etc";
  mount.read_only = true;
  const std::string id = MustCreate(With(mount));
  const nlohmann::json made = MountAt(id, "/models");
  EXPECT_THAT(made["source"].get<std::string>(), EndsWith("/etc"));
  EXPECT_EQ(
      ReadFile(made["source"].get<std::string>() + "/passwd", 1000).value_or("?").substr(0, 4),
      "root");
  EXPECT_THAT(made["options"].get<std::vector<std::string>>(), Contains("ro"));
  EXPECT_THAT(Loaded(id).record.labels(),
              Contains(Key(StartsWith("containerd.io/gc.ref.snapshot.native/image-volume-"))));
}

TEST_F(PodContainersTest, AnImageThatCannotBeShownSaysSoToTheKubelet) {
  PodMount good;
  good.target = "/models";
  good.image = "app:1";
  good.read_only = true;
  const auto refusal = [&](const PodMount& mount) {
    const absl::Status refused = pods_->containers().Create(context_, With(mount)).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()), StartsWith("ImageVolumeMountFailed: /models: "));
    return std::string(refused.message());
  };
  PodMount bad = good;
  bad.read_only = false;
  EXPECT_THAT(refusal(bad), HasSubstr("only be mounted read-only"));
  bad = good;
  bad.source = "/srv";
  EXPECT_THAT(refusal(bad), HasSubstr("it has a host path as well"));
  bad = good;
  bad.image_path = "etc/../../x";
  EXPECT_THAT(refusal(bad), HasSubstr("leads out of the image"));
  bad.image_path = "etc/passwd";
  EXPECT_THAT(refusal(bad), HasSubstr("it has no directory \"etc/passwd\""));
  bad = good;
  bad.image = "nowhere:1";
  refusal(bad);
  EXPECT_THAT(*pods_->containers().List(context_), testing::IsEmpty());
}

TEST_F(PodContainersTest, AProfileThatTheHostDoesNotHaveIsRefused) {
  PodContainer wanted = Wanted();
  wanted.config.add_security_options("apparmor=my-profile");
  const absl::Status refused = Refusal(wanted);
  EXPECT_EQ(FieldOf(refused), "apparmor");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("profile my-profile: "));
  wanted.config.set_security_options(0, "apparmor=unconfined");
  EXPECT_NE(MustCreate(wanted), "");
}

TEST_F(PodContainersTest, OneThatHasRunIsNotStartedAgain) {
  const std::string id = MustCreate(Wanted());
  ASSERT_TRUE(pods_->containers().Start(context_, id).ok());
  Shim(id).Exit("", 3);
  ASSERT_TRUE(
      Eventually([&] { return Stored(id).status() == record::v1::ContainerState::STOPPED; }));
  const absl::Status refused = pods_->containers().Start(context_, id);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("it has run; make another one"));
}

TEST_F(PodContainersTest, AStopWithoutPatienceIsAKill) {
  const std::string id = MustCreate(Wanted());
  ASSERT_TRUE(pods_->containers().Start(context_, id).ok());
  ASSERT_TRUE(pods_->containers().Stop(context_, id, absl::ZeroDuration()).ok());
  EXPECT_TRUE(Eventually([&] { return Stored(id).exit_code() == 137; }));
  EXPECT_TRUE(pods_->containers().Stop(context_, id, absl::ZeroDuration()).ok());
  EXPECT_TRUE(pods_->containers().Stop(context_, id, absl::Seconds(5)).ok());
  EXPECT_TRUE(pods_->containers().Remove(context_, id).ok());
  EXPECT_TRUE(pods_->containers().Remove(context_, id).ok());
}

TEST_F(PodContainersTest, ARunningContainerIsRemoved) {
  const std::string id = MustCreate(Wanted());
  ASSERT_TRUE(pods_->containers().Start(context_, id).ok());
  EXPECT_TRUE(pods_->containers().Remove(context_, id).ok());
  EXPECT_TRUE(absl::IsNotFound(pods_->containers().Load(context_, id).status()));
}

TEST_F(PodContainersTest, OnlyContainersOfPodsAreFound) {
  const std::string alone = Make("alone");
  const std::string id = MustCreate(Wanted());
  EXPECT_EQ(pods_->containers().Load(context_, id.substr(0, 12))->id(), id);
  EXPECT_TRUE(absl::IsNotFound(pods_->containers().Load(context_, alone).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(pods_->containers().Load(context_, "").status()));
  EXPECT_THAT(*pods_->containers().List(context_), SizeIs(1));
  EXPECT_THAT(*pods_->containers().List(context_, "another pod"), SizeIs(0));
  // What is not of a pod is not the kubelet's to remove.
  EXPECT_TRUE(pods_->containers().Remove(context_, alone).ok());
  EXPECT_TRUE(Exists(alone));
}

TEST_F(PodContainersTest, ALimitThatTheKernelRefusesIsNotOnRecord) {
  const std::string id = MustCreate(Wanted());
  ASSERT_TRUE(pods_->containers().Start(context_, id).ok());
  Shim(id).FailCalls("Update", absl::InternalError("memory.max: Device or resource busy"));
  const nlohmann::json before = Spec(id);
  oci::Resources change;
  change.memory_limit_bytes = 64 << 20;
  EXPECT_FALSE(pods_->containers().Update(context_, id, change, "cri", "new").ok());
  EXPECT_EQ(Spec(id), before);
  EXPECT_EQ(Loaded(id).record.extensions().count("cri"), 0u);
  Shim(id).FailCalls("Update", absl::OkStatus());
  ASSERT_TRUE(pods_->containers().Update(context_, id, change, "cri", "new").ok());
  EXPECT_EQ(Spec(id)["linux"]["resources"]["memory"]["limit"], 64 << 20);
  // Other limits stay; nonsense is refused before anything is changed.
  change = {};
  change.cpu_shares = 512;
  ASSERT_TRUE(pods_->containers().Update(context_, id, change, "cri", "newer").ok());
  EXPECT_EQ(Spec(id)["linux"]["resources"]["memory"]["limit"], 64 << 20);
  change.cpu_period_micros = 1;
  EXPECT_TRUE(
      absl::IsInvalidArgument(pods_->containers().Update(context_, id, change, "cri", "bad")));
  EXPECT_EQ(Loaded(id).record.extensions().at("cri").value(), "newer");
}

TEST_F(PodContainersTest, WhatItWroteIsLookedAtNowAndThen) {
  const std::string id = MustCreate(Wanted());
  const std::string root = stores_.Snapshots("native", {kNs, ""})->Mounts(id)->at(0).source;
  const absl::StatusOr<DiskUse> first = figures_->DiskUseOf(context_, Loaded(id));
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(WriteFile(root + "/grown", std::string(1 << 20, 'x')).ok());
  // A walk of its files is not repeated within moments: the same answer, with its time.
  const absl::StatusOr<DiskUse> second = figures_->DiskUseOf(context_, Loaded(id));
  EXPECT_EQ(second->bytes, first->bytes);
  EXPECT_EQ(second->at, first->at);
}

TEST_F(PodContainersTest, LayersOfImagesAreCountedAndWhatContainersWriteIsNot) {
  metadata::SnapshotNamespace snapshots = *stores_.Snapshots("native", {kNs, ""});
  const auto layer = snapshots.Prepare("growing", "", {});
  ASSERT_TRUE(layer.ok()) << layer.status();
  ASSERT_TRUE(WriteFile(layer->at(0).source + "/layer", std::string(1 << 20, 'x')).ok());
  ASSERT_TRUE(snapshots.Commit("grown", "growing", {}).ok());
  const auto active = snapshots.Prepare("active", "", {});
  ASSERT_TRUE(active.ok()) << active.status();
  ASSERT_TRUE(WriteFile(active->at(0).source + "/file", std::string(2 << 20, 'x')).ok());
  const absl::StatusOr<DiskUse> use = figures_->ImageUse(context_);
  ASSERT_TRUE(use.ok()) << use.status();
  EXPECT_GE(use->bytes, 1 << 20);
  EXPECT_LT(use->bytes, 2 << 20);
  EXPECT_GT(use->inodes, 0);
}

TEST_F(PodContainersTest, FilesAndThreadsOfItsProcessesAreCounted) {
  const std::string id = MustCreate(Wanted());
  launcher_.OnLaunch([](runtime::FakeShim& shim) { shim.SetNextPid(getpid()); });
  ASSERT_TRUE(pods_->containers().Start(context_, id).ok());
  const absl::StatusOr<ProcessUse> use = figures_->ProcessUseOf(context_, id);
  ASSERT_TRUE(use.ok()) << use.status();
  EXPECT_EQ(use->processes, 1u);
  EXPECT_GT(use->threads, 1u);  // this test's
  EXPECT_GE(use->sockets, 1u);  // to its shim
  EXPECT_GT(use->files, use->sockets);
  EXPECT_GT(use->open_files_limit, 0u);
  EXPECT_TRUE(absl::IsNotFound(figures_->ProcessUseOf(context_, "nothing").status()));
}

TEST_F(PodContainersTest, NameServersOfThePod) {
  v1::PodConfig config = PodOf("dns");
  config.mutable_dns()->add_servers("192.0.2.1");
  config.mutable_dns()->add_servers("192.0.2.2");
  config.mutable_dns()->add_searches("blue.example");
  config.mutable_dns()->add_searches("example");
  config.mutable_dns()->add_options("ndots:5");
  const std::string pod = pods_->Run(context_, config, "").value();
  EXPECT_EQ(
      ReadFile(dir_.Join(absl::StrCat("state/pods/default/", pod, "/resolv.conf")), 1000).value(),
      "search blue.example example\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n"
      "options ndots:5\n");
}

TEST_F(PodContainersTest, APodIsWholeOrNotThere) {
  v1::PodConfig config = PodOf("bad");
  (*config.mutable_sysctls())["net.ipv4.no_such_control"] = "1";
  const absl::Status refused = pods_->Run(context_, config, "").status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), StartsWith("pod bad: "));
  EXPECT_THAT(pods_->List(context_), SizeIs(1));
  EXPECT_THAT(*ListDirectory(dir_.Join("state/pods/default")), ElementsAre(pod_));
  // The name is free again.
  config.clear_sysctls();
  EXPECT_TRUE(pods_->Run(context_, config, "").ok());
}

TEST_F(PodContainersTest, ASharedProcessNamespaceNeedsAnInit) {
  v1::PodConfig config = PodOf("shared");
  config.set_shared_pid(true);
  const absl::Status refused = pods_->Run(context_, config, "").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("gantry-init"));
  EXPECT_THAT(pods_->List(context_), SizeIs(1));
}

TEST_F(PodContainersTest, TheDefaultRuntimeIsFirstUnderNoNameAndItsOwn) {
  const absl::StatusOr<std::vector<PodRuntime>> runtimes = pods_->Runtimes();
  ASSERT_TRUE(runtimes.ok()) << runtimes.status();
  ASSERT_GE(runtimes->size(), 2u);
  EXPECT_EQ((*runtimes)[0].name, "");
  EXPECT_TRUE((*runtimes)[0].recursive_read_only);  // it says that it is crun
  EXPECT_TRUE(std::any_of(runtimes->begin(), runtimes->end(),
                          [](const PodRuntime& one) { return one.name == "fake"; }));
}

}  // namespace
}  // namespace gantry::core
