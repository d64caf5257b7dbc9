#include "supervisor/runtime/runtime_probe.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::runtime {
namespace {

using Names = std::vector<std::string>;

constexpr char kProcCgroups[] =
    "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"
    "memory\t4\t30\t1\n"
    "pids\t8\t1\t1\n"
    "net_cls\t0\t1\t1\n"
    "perf_event\t0\t1\t1\n"
    "rdma\t0\t1\t0\n"
    "hugetlb\t0\t1\t1\n";
constexpr char kV1Mounts[] =
    "30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 30 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
constexpr char kV2BesideV1[] = "33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

class CgroupHostTest : public testing::Test {
 protected:
  CgroupHost Read(const std::string& mountinfo) {
    EXPECT_TRUE(MakeDirectories(dir_.Join("proc/self"), 0755).ok());
    EXPECT_TRUE(WriteFile(dir_.Join("proc/self/mountinfo"), mountinfo).ok());
    EXPECT_TRUE(WriteFile(dir_.Join("proc/cgroups"), kProcCgroups).ok());
    absl::StatusOr<CgroupHost> host = ReadCgroupHost(dir_.path());
    EXPECT_TRUE(host.ok()) << host.status();
    return *std::move(host);
  }
  TempDir dir_;
};

TEST_F(CgroupHostTest, OnlyV2AtTheTopIsUnified) {
  const CgroupHost host = Read("30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
  EXPECT_EQ(host.layout, CgroupLayout::kUnified);
  EXPECT_EQ(host.unmounted_v1_controllers, Names{});
  EXPECT_FALSE(host.systemd);
}

TEST_F(CgroupHostTest, V1WithoutAV2TreeIsV1) {
  const CgroupHost host = Read(kV1Mounts);
  EXPECT_EQ(host.layout, CgroupLayout::kV1);
  EXPECT_EQ(host.unmounted_v1_controllers, Names{});
}

TEST_F(CgroupHostTest, AnEnabledControllerMountedNowhereMakesItHybrid) {
  const CgroupHost host = Read(std::string(kV1Mounts) + kV2BesideV1);
  EXPECT_EQ(host.layout, CgroupLayout::kHybrid);
  EXPECT_EQ(host.unmounted_v1_controllers, Names{"hugetlb"});
}

TEST_F(CgroupHostTest, WithAllOfThemMountedTheV2TreeIsEmpty) {
  const CgroupHost host =
      Read(std::string(kV1Mounts) + kV2BesideV1 +
           "34 30 0:30 / /sys/fs/cgroup/hugetlb rw - cgroup cgroup rw,hugetlb\n");
  EXPECT_EQ(host.layout, CgroupLayout::kV1);
}

TEST_F(CgroupHostTest, SystemdIsSeenByItsDirectory) {
  ASSERT_TRUE(MakeDirectories(dir_.Join("run/systemd/system"), 0755).ok());
  EXPECT_TRUE(Read(kV1Mounts).systemd);
}

struct AutoCase {
  const char* name;
  AutoInputs inputs;
  const char* choice;  // "" is an error
};

CgroupHost Hybrid() {
  CgroupHost host;
  host.layout = CgroupLayout::kHybrid;
  host.unmounted_v1_controllers = {"hugetlb"};
  return host;
}
CgroupHost Unified() {
  CgroupHost host;
  host.layout = CgroupLayout::kUnified;
  return host;
}

TEST(ChooseAutoTest, Table) {
  const AutoCase cases[] = {
      {"both on v2", {true, true, Unified(), true}, "crun"},
      {"both on v1", {true, true, CgroupHost(), true}, "crun"},
      {"both on hybrid, controllers mountable", {true, true, Hybrid(), true}, "crun"},
      {"both on hybrid, controllers busy", {true, true, Hybrid(), false}, "runc"},
      {"only crun on hybrid, controllers busy", {true, false, Hybrid(), false}, ""},
      {"only runc", {false, true, Unified(), false}, "runc"},
      {"only runc on hybrid", {false, true, Hybrid(), false}, "runc"},
      {"only crun", {true, false, Unified(), true}, "crun"},
      {"none", {false, false, Unified(), true}, ""},
  };
  for (const AutoCase& c : cases) {
    std::string reason;
    const absl::StatusOr<std::string> choice = ChooseAuto(c.inputs, &reason);
    EXPECT_EQ(choice.ok() ? *choice : "", c.choice) << c.name;
    EXPECT_EQ(choice.ok(), !reason.empty()) << c.name;
  }
}

class ProbeTest : public testing::Test {
 protected:
  std::string Program(const std::string& name, const std::string& script) {
    const std::string path = dir_.Join(name);
    EXPECT_TRUE(
        WriteFile(path, "#!/bin/sh\necho run >>" + dir_.Join("runs") + "\n" + script, 0755).ok());
    return path;
  }
  RuntimeProbe Probe(const std::string& name, const std::string& path) {
    RuntimeSettings settings;
    settings.path = path;
    return RuntimeProbe({{name, settings}}, "/run/gantry", name);
  }
  size_t Runs() {
    const absl::StatusOr<std::string> runs = ReadFile(dir_.Join("runs"), 4096);
    return runs.ok() ? runs->size() / 4 : 0;
  }
  TempDir dir_;
};

TEST_F(ProbeTest, OldRuntimeWithoutFeaturesTellsItsSpecByVersion) {
  RuntimeProbe probe =
      Probe("old", Program("old",
                           "case $1 in --version) printf 'crunch version 0.9\\nspec: 1.0.0\\n';; "
                           "*) exit 1;; esac\n"));
  const absl::StatusOr<RuntimeInfo> info = probe.Resolve("old");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->version, "0.9");
  EXPECT_EQ(info->oci_version_max, "1.0.0");
  EXPECT_EQ(info->features_json, "");
  EXPECT_FALSE(info->is_crun);
  EXPECT_EQ(info->state_root, "/run/gantry/runtime/old");
  EXPECT_EQ(info->ForShim("k8s.io").state_root(), "/run/gantry/runtime/old/k8s.io");
}

TEST_F(ProbeTest, FeaturesOverruleTheVersionText) {
  RuntimeProbe probe =
      Probe("new", Program("new",
                           "case $1 in --version) echo 'runc version 1.3.0';; features) echo "
                           "'{\"ociVersionMax\":\"1.2.1\",\"linux\":{\"mountExtensions\":"
                           "{\"idmap\":{\"enabled\":true}}}}';; esac\n"));
  const absl::StatusOr<RuntimeInfo> info = probe.Resolve("");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->name, "new");
  EXPECT_EQ(info->oci_version_max, "1.2.1");
  EXPECT_TRUE(info->idmap_mounts);
  EXPECT_TRUE(info->checkpoint);
}

TEST_F(ProbeTest, IsAskedOnceUntilTheProgramChanges) {
  RuntimeProbe probe = Probe("r", Program("r", "echo 'r version 1'\n"));
  ASSERT_TRUE(probe.Resolve("r").ok());
  const size_t first = Runs();
  EXPECT_GT(first, 0u);
  ASSERT_TRUE(probe.Resolve("r").ok());
  EXPECT_EQ(Runs(), first);
  ASSERT_EQ(unlink(dir_.Join("r").c_str()), 0);
  Program("r", "echo 'r version 22'\n");
  const absl::StatusOr<RuntimeInfo> info = probe.Resolve("r");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->version, "22");
  EXPECT_GT(Runs(), first);
}

TEST_F(ProbeTest, ARuntimeWhoseVersionFailsIsTakenForAnOldOneAndAskedAgain) {
  const std::string path = Program("failing", "echo 'no such library' >&2; exit 5\n");
  RuntimeProbe probe = Probe("failing", path);
  const absl::StatusOr<RuntimeInfo> info = probe.Resolve("failing");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->path, path);
  EXPECT_EQ(info->version, "");
  EXPECT_EQ(info->oci_version_max, "1.0.0");
  EXPECT_FALSE(info->is_crun);
  const size_t first = Runs();
  ASSERT_TRUE(probe.Resolve("failing").ok());
  EXPECT_GT(Runs(), first);

  RuntimeProbe silent = Probe("silent", Program("silent", "echo\n"));
  EXPECT_TRUE(silent.Resolve("silent").ok());
}

TEST_F(ProbeTest, ErrorsNameTheRuntimeAndWhatIsWrongWithIt) {
  const std::string garbage = dir_.Join("garbage");
  ASSERT_TRUE(WriteFile(garbage, std::string("\x7f\x01\x02", 3), 0755).ok());
  RuntimeProbe broken = Probe("broken", garbage);
  const absl::StatusOr<RuntimeInfo> unusable = broken.Resolve("broken");
  EXPECT_EQ(unusable.status().code(), absl::StatusCode::kFailedPrecondition) << unusable.status();

  RuntimeProbe missing = Probe("gone", dir_.Join("gone"));
  EXPECT_EQ(missing.Resolve("gone").status().code(), absl::StatusCode::kFailedPrecondition);
  const absl::StatusOr<RuntimeInfo> unknown = missing.Resolve("kata");
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(unknown.status().message().find("known: auto, crun, runc, gone"), std::string::npos)
      << unknown.status();
}

TEST_F(ProbeTest, AbsolutePathAndContainerdsNamesWork) {
  const std::string path = Program("mine", "echo 'mine version 3'\n");
  RuntimeProbe probe = Probe("mine", path);
  EXPECT_EQ(probe.Resolve(path)->name, "mine");
  EXPECT_EQ(probe.Resolve("io.containerd.runc.v2")->path, path);
  EXPECT_EQ(probe.Resolve("io.containerd.mine.v2")->path, path);
  EXPECT_EQ(probe.Resolve("/usr/bin/containerd-shim-runc-v2")->path, path);
}

TEST_F(ProbeTest, ARuntimeThatIsNotThereIsNotReplaced) {
  RuntimeProbe probe = Probe("mine", Program("mine", "echo 'mine version 3'\n"));
  for (const char* name : {"io.containerd.kata.v2", "io.containerd.runsc.v1",
                           "com.example.other.v1", "/nonexistent/containerd-shim-kata-v2"}) {
    const absl::StatusOr<RuntimeInfo> info = probe.Resolve(name);
    EXPECT_EQ(info.status().code(), absl::StatusCode::kFailedPrecondition) << name;
    EXPECT_NE(info.status().message().find("binary not installed"), std::string::npos)
        << info.status();
    // Nor by what options say that are meant for another.
    EXPECT_FALSE(probe.ResolveForContainerd(name, "mine").ok()) << name;
  }
  EXPECT_EQ(probe.Resolve("io.containerd.kata.v2").status().message(),
            "runtime \"io.containerd.kata.v2\" binary not installed \"containerd-shim-kata-v2\": "
            "file does not exist");
  EXPECT_EQ(probe.Resolve("runsc").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ProbeTest, ABinaryNameIsAConfiguredRuntimeAPathOrAProgramInPath) {
  const std::string path = Program("mine", "echo 'mine version 3'\n");
  RuntimeProbe probe = Probe("mine", path);
  EXPECT_EQ(probe.ResolveForContainerd("io.containerd.runc.v2", "")->path, path);
  EXPECT_EQ(probe.ResolveForContainerd("io.containerd.runc.v2", "mine")->path, path);
  const std::string other = Program("in-path", "echo 'other version 4'\n");
  EXPECT_EQ(probe.ResolveForContainerd("io.containerd.runc.v2", other)->path, other);
  RuntimeProbe configured = Probe("other", "in-path");
  EXPECT_EQ(configured.Resolve("other").status().code(), absl::StatusCode::kFailedPrecondition);
  const std::string search = getenv("PATH");
  setenv("PATH", absl::StrCat(search, ":", dir_.path()).c_str(), 1);
  EXPECT_EQ(probe.ResolveForContainerd("io.containerd.runc.v2", "in-path")->path, other);
  EXPECT_EQ(configured.Resolve("other")->path, other);
  setenv("PATH", search.c_str(), 1);
  const absl::Status missing =
      probe.ResolveForContainerd("io.containerd.runc.v2", "not-there").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(missing.message().find("executable file not found in $PATH"), std::string::npos)
      << missing;
}

}  // namespace
}  // namespace gantry::runtime
