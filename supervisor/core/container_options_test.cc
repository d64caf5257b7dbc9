// From what was asked for to the runtime's configuration: each option has its place there.
#include <sys/stat.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "base/field_error.h"
#include "base/temp_dir.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/core/container_spec.h"
#include "supervisor/oci/host_facts.h"
#include "supervisor/oci/runtime_spec.h"
#include "supervisor/oci/spec_builder.h"
#include "supervisor/oci/user_lookup.h"

namespace gantry::core {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

using Json = nlohmann::json;

class ContainerOptionsTest : public ::testing::Test {
 protected:
  ContainerOptionsTest() {
    config_.set_image("x");
    config_.add_command("sh");
    place_.id = "0123456789abcdef";
    place_.directory = "/generated";
    place_.cgroups_path = "/gantry/0123456789abcdef";
  }

  absl::StatusOr<Json> Build() {
    absl::Status checked = CheckContainerConfig(config_);
    if (!checked.ok()) return checked;
    absl::StatusOr<oci::ContainerConfig> config = ToSpecConfig(config_, place_);
    if (!config.ok()) return config.status();
    absl::StatusOr<oci::RuntimeSpec> spec = oci::BuildSpec(*config, oci::User(), oci::HostFacts());
    if (!spec.ok()) return spec.status();
    return spec->document();
  }
  Json Spec() {
    absl::StatusOr<Json> spec = Build();
    EXPECT_TRUE(spec.ok()) << spec.status();
    return spec.ok() ? *std::move(spec) : Json::object();
  }
  // What is at a path such as "/process/cwd"; null if nothing is.
  static Json At(const Json& spec, const std::string& path) {
    const Json::json_pointer pointer(path);
    return spec.contains(pointer) ? spec[pointer] : Json();
  }
  static Json MountAt(const Json& spec, const std::string& destination) {
    for (const Json& mount : spec.value("mounts", Json::array())) {
      if (mount["destination"] == destination) return mount;
    }
    return Json();
  }
  static std::vector<std::string> OptionsAt(const Json& spec, const std::string& destination) {
    return MountAt(spec, destination).value("options", std::vector<std::string>());
  }
  static Json Namespace(const Json& spec, const std::string& type) {
    for (const Json& one : At(spec, "/linux/namespaces")) {
      if (one["type"] == type) return one;
    }
    return Json();
  }

  TempDir dir_;
  v1::ContainerConfig config_;
  SpecPlace place_;
};

TEST_F(ContainerOptionsTest, EachHasItsPlace) {
  struct Case {
    const char* what;
    std::function<void(v1::ContainerConfig&)> set;
    const char* path;
    Json value;
  };
  const Case kCases[] = {
      {"command", [](auto& c) { c.add_command("-c"); }, "/process/args", {"sh", "-c"}},
      {"working_dir", [](auto& c) { c.set_working_dir("/srv"); }, "/process/cwd", "/srv"},
      {"tty", [](auto& c) { c.set_tty(true); }, "/process/terminal", true},
      {"hostname", [](auto& c) { c.set_hostname("box"); }, "/hostname", "box"},
      {"read_only_rootfs", [](auto& c) { c.set_read_only_rootfs(true); }, "/root/readonly", true},
      {"oom_score_adj", [](auto& c) { c.set_oom_score_adj(77); }, "/process/oomScoreAdj", 77},
      {"annotations", [](auto& c) { (*c.mutable_annotations())["a"] = "b"; }, "/annotations/a",
       "b"},
      {"sysctls", [](auto& c) { (*c.mutable_sysctls())["net.core.somaxconn"] = "9"; },
       "/linux/sysctl/net.core.somaxconn", "9"},
      {"memory_bytes", [](auto& c) { c.mutable_resources()->set_memory_bytes(8 << 20); },
       "/linux/resources/memory/limit", 8 << 20},
      {"memory_reservation_bytes",
       [](auto& c) { c.mutable_resources()->set_memory_reservation_bytes(7 << 20); },
       "/linux/resources/memory/reservation", 7 << 20},
      {"memory_swap_bytes",
       [](auto& c) {
         c.mutable_resources()->set_memory_bytes(8 << 20);
         c.mutable_resources()->set_memory_swap_bytes(9 << 20);
       },
       "/linux/resources/memory/swap", 9 << 20},
      {"memory_swappiness", [](auto& c) { c.mutable_resources()->set_memory_swappiness(0); },
       "/linux/resources/memory/swappiness", 0},
      {"oom_kill_disable", [](auto& c) { c.mutable_resources()->set_oom_kill_disable(true); },
       "/linux/resources/memory/disableOOMKiller", true},
      {"cpu_shares", [](auto& c) { c.mutable_resources()->set_cpu_shares(512); },
       "/linux/resources/cpu/shares", 512},
      {"cpu_quota_micros", [](auto& c) { c.mutable_resources()->set_cpu_quota_micros(5000); },
       "/linux/resources/cpu/quota", 5000},
      {"cpu_period_micros", [](auto& c) { c.mutable_resources()->set_cpu_period_micros(20000); },
       "/linux/resources/cpu/period", 20000},
      {"pids_limit", [](auto& c) { c.mutable_resources()->set_pids_limit(99); },
       "/linux/resources/pids/limit", 99},
      {"cgroup_path", [](auto&) {}, "/linux/cgroupsPath", "/gantry/0123456789abcdef"},
      {"masked_paths", [](auto& c) { c.mutable_masked_paths()->add_values("/secret"); },
       "/linux/maskedPaths", Json::array({"/secret"})},
      {"readonly_paths", [](auto& c) { c.mutable_readonly_paths()->add_values("/fixed"); },
       "/linux/readonlyPaths", Json::array({"/fixed"})},
  };
  for (const Case& one : kCases) {
    const v1::ContainerConfig before = config_;
    one.set(config_);
    const Json spec = Spec();
    // A name with dots is one key.
    const Json value = std::string(one.what) == "sysctls"
                           ? At(spec, "/linux/sysctl").value("net.core.somaxconn", Json())
                           : At(spec, one.path);
    EXPECT_EQ(value, one.value) << one.what;
    config_ = before;
  }
}

TEST_F(ContainerOptionsTest, NoLimitOfProcessesIsNoWordOfIt) {
  for (const int64_t none : {0, -1}) {
    config_.mutable_resources()->set_pids_limit(none);
    EXPECT_EQ(At(Spec(), "/linux/resources/pids"), Json()) << none;
  }
}

TEST_F(ContainerOptionsTest, UlimitsAreNamedAsTheKernelNamesThem) {
  v1::Ulimit* limit = config_.mutable_resources()->add_ulimits();
  limit->set_name("nofile");
  limit->set_soft(100);
  limit->set_hard(200);
  const Json limits = At(Spec(), "/process/rlimits");
  EXPECT_THAT(limits.get<std::vector<Json>>(),
              Contains(Json({{"type", "RLIMIT_NOFILE"}, {"soft", 100}, {"hard", 200}})));
}

TEST_F(ContainerOptionsTest, CapabilitiesAreAddedAndDropped) {
  const std::string path = "/process/capabilities/bounding";
  const std::vector<std::string> usual = At(Spec(), path).get<std::vector<std::string>>();
  EXPECT_THAT(usual, Contains("CAP_CHOWN"));
  EXPECT_THAT(usual, Not(Contains("CAP_SYS_TIME")));
  config_.add_cap_add("sys_time");
  config_.add_cap_drop("CAP_CHOWN");
  const std::vector<std::string> changed = At(Spec(), path).get<std::vector<std::string>>();
  EXPECT_THAT(changed, Contains("CAP_SYS_TIME"));
  EXPECT_THAT(changed, Not(Contains("CAP_CHOWN")));
  config_.clear_cap_add();
  config_.clear_cap_drop();
  config_.add_cap_drop("ALL");
  // Nothing rather than no word of them, which would leave all that the runtime has.
  EXPECT_EQ(At(Spec(), "/process/capabilities"), Json::object());
}

TEST_F(ContainerOptionsTest, SecurityOptionsAreCarriedOutOrRefused) {
  config_.add_security_options("no-new-privileges");
  EXPECT_EQ(At(Spec(), "/process/noNewPrivileges"), true);
  EXPECT_NE(At(Spec(), "/linux/seccomp"), Json());
  config_.add_security_options("seccomp=unconfined");
  EXPECT_EQ(At(Spec(), "/linux/seccomp"), Json());
  config_.add_security_options("nonsense=1");
  const absl::Status refused = Build().status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("nonsense"));
}

TEST_F(ContainerOptionsTest, PrivilegedLiftsTheLimits) {
  config_.set_privileged(true);
  const Json spec = Spec();
  EXPECT_EQ(At(spec, "/linux/seccomp"), Json());
  EXPECT_EQ(At(spec, "/linux/maskedPaths"), Json());
  EXPECT_THAT(At(spec, "/process/capabilities/bounding").get<std::vector<std::string>>(),
              Contains("CAP_SYS_ADMIN"));
}

TEST_F(ContainerOptionsTest, BindMountsAreAsTheyWereAskedFor) {
  v1::Mount* mount = config_.add_mounts();
  mount->set_type(v1::Mount::BIND);
  mount->set_source(dir_.path());
  mount->set_target("/data");
  Json spec = Spec();
  EXPECT_EQ(MountAt(spec, "/data")["source"], dir_.path());
  EXPECT_THAT(OptionsAt(spec, "/data"), Contains("rbind"));
  EXPECT_THAT(OptionsAt(spec, "/data"), Not(Contains("ro")));
  mount->set_read_only(true);
  mount->set_non_recursive(true);
  mount->set_propagation("rslave");
  spec = Spec();
  EXPECT_THAT(OptionsAt(spec, "/data"), Contains("ro"));
  EXPECT_THAT(OptionsAt(spec, "/data"), Contains("bind"));
  EXPECT_THAT(OptionsAt(spec, "/data"), Not(Contains("rbind")));
  EXPECT_THAT(OptionsAt(spec, "/data"), Contains("rslave"));
}

TEST_F(ContainerOptionsTest, ASourceThatMayBeMadeIsMade) {
  v1::Mount* mount = config_.add_mounts();
  mount->set_type(v1::Mount::BIND);
  mount->set_source(dir_.Join("new/deep"));
  mount->set_target("/data");
  EXPECT_EQ(FieldOf(Build().status()), "mount");
  EXPECT_NE(access(dir_.Join("new").c_str(), F_OK), 0);
  mount->set_create_source(true);
  EXPECT_EQ(MountAt(Spec(), "/data")["source"], dir_.Join("new/deep"));
  struct stat info;
  ASSERT_EQ(stat(dir_.Join("new/deep").c_str(), &info), 0);
  EXPECT_TRUE(S_ISDIR(info.st_mode));
}

TEST_F(ContainerOptionsTest, ATmpfsHasItsSizeAndMode) {
  v1::Mount* mount = config_.add_mounts();
  mount->set_type(v1::Mount::TMPFS);
  mount->set_target("/scratch");
  mount->set_tmpfs_size_bytes(4096);
  mount->set_tmpfs_mode(01777);
  mount->add_options("noexec");
  const Json spec = Spec();
  EXPECT_EQ(MountAt(spec, "/scratch")["type"], "tmpfs");
  for (const char* option : {"size=4096", "mode=1777", "noexec"})
    EXPECT_THAT(OptionsAt(spec, "/scratch"), Contains(option));
}

TEST_F(ContainerOptionsTest, APersonsMountTakesThePlaceOfAGeneratedFile) {
  EXPECT_EQ(MountAt(Spec(), "/etc/hosts")["source"], "/generated/hosts");
  v1::Mount* mount = config_.add_mounts();
  mount->set_type(v1::Mount::BIND);
  mount->set_source(dir_.path());
  mount->set_target("/etc/hosts");
  const Json spec = Spec();
  EXPECT_EQ(MountAt(spec, "/etc/hosts")["source"], dir_.path());
  EXPECT_EQ(MountAt(spec, "/etc/hostname")["source"], "/generated/hostname");
}

TEST_F(ContainerOptionsTest, TheShmSizeIsThatOfItsMount) {
  config_.set_shm_size_bytes(1 << 20);
  EXPECT_THAT(OptionsAt(Spec(), "/dev/shm"), Contains("size=1048576"));
}

TEST_F(ContainerOptionsTest, NamespacesAreOwnTheHostsOrAnothers) {
  for (const char* type : {"network", "pid", "ipc", "uts", "mount"})
    EXPECT_EQ(Namespace(Spec(), type), Json({{"type", type}})) << type;
  config_.set_network_mode("host");
  config_.set_pid_mode("host");
  config_.set_ipc_mode("host");
  config_.set_uts_mode("host");
  for (const char* type : {"network", "pid", "ipc", "uts"})
    EXPECT_EQ(Namespace(Spec(), type), Json()) << type;

  place_.pid_of = [](absl::string_view other) -> absl::StatusOr<int32_t> {
    if (other == "db") return 4711;
    return absl::FailedPreconditionError("it does not run");
  };
  config_.set_network_mode("container:db");
  config_.set_pid_mode("container:db");
  EXPECT_EQ(Namespace(Spec(), "network")["path"], "/proc/4711/ns/net");
  EXPECT_EQ(Namespace(Spec(), "pid")["path"], "/proc/4711/ns/pid");
  config_.set_ipc_mode("container:web");
  EXPECT_TRUE(absl::IsFailedPrecondition(Build().status())) << Build().status();
  config_.set_ipc_mode("nonsense");
  EXPECT_EQ(FieldOf(Build().status()), "ipc_mode") << Build().status();
}

TEST_F(ContainerOptionsTest, TheInitProgramRunsTheCommand) {
  config_.set_init(true);
  const absl::Status missing = Build().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(missing)) << missing;
  place_.init_path = "/usr/libexec/gantry-init";
  const Json spec = Spec();
  const std::vector<std::string> args = At(spec, "/process/args").get<std::vector<std::string>>();
  ASSERT_GE(args.size(), 2u);
  EXPECT_EQ(args.back(), "sh");
  EXPECT_EQ(MountAt(spec, args.front())["source"], "/usr/libexec/gantry-init");
}

TEST_F(ContainerOptionsTest, DevicesAreMadeAndAllowed) {
  v1::Device* device = config_.mutable_resources()->add_devices();
  device->set_host_path("/dev/null");
  device->set_container_path("/dev/nothing");
  config_.mutable_resources()->add_device_cgroup_rules("c 42:* rw");
  const Json spec = Spec();
  const std::vector<Json> devices = At(spec, "/linux/devices").get<std::vector<Json>>();
  ASSERT_EQ(devices.size(), 1u);
  EXPECT_EQ(devices[0]["path"], "/dev/nothing");
  EXPECT_EQ(devices[0]["major"], 1);
  EXPECT_EQ(devices[0]["minor"], 3);
  bool allowed = false;
  bool ruled = false;
  for (const Json& rule : At(spec, "/linux/resources/devices")) {
    if (rule.value("major", 0) == 1 && rule.value("minor", 0) == 3 && rule["access"] == "rwm")
      allowed = true;
    if (rule.value("major", 0) == 42 && rule["access"] == "rw") ruled = true;
  }
  EXPECT_TRUE(allowed);
  EXPECT_TRUE(ruled);
  device->set_host_path("/dev/no-such-device");
  EXPECT_FALSE(Build().ok());
}

TEST(CheckContainerConfigTest, OptionsOutOfRangeNameTheirField) {
  using Change = void (*)(v1::ContainerConfig&);
  const std::pair<const char*, Change> kCases[] = {
      {"image", [](auto& c) { c.clear_image(); }},
      {"env", [](auto& c) { c.add_env(std::string("A=\0", 3)); }},
      {"command", [](auto& c) { c.add_command(std::string("a\0b", 3)); }},
      {"hostname", [](auto& c) { c.set_hostname(std::string(64, 'h')); }},
      {"mount", [](auto& c) { c.add_mounts()->set_target("data"); }},
      {"mount",
       [](auto& c) {
         v1::Mount* mount = c.add_mounts();
         mount->set_type(v1::Mount::VOLUME);
         mount->set_source("not/a/name");
         mount->set_target("/data");
       }},
      {"log.driver", [](auto& c) { c.mutable_log()->set_driver("gelf"); }},
      {"log.options.max-size",
       [](auto& c) { (*c.mutable_log()->mutable_options())["max-size"] = "big"; }},
      {"restart_policy", [](auto& c) { c.mutable_restart_policy()->set_name("sometimes"); }},
      {"nano_cpus", [](auto& c) { c.mutable_resources()->set_nano_cpus(-1); }},
      {"ulimits", [](auto& c) { c.mutable_resources()->add_ulimits()->set_name("nofiles"); }},
      {"ulimits",
       [](auto& c) {
         v1::Ulimit* limit = c.mutable_resources()->add_ulimits();
         limit->set_name("nofile");
         limit->set_soft(-1);
         limit->set_hard(1024);
       }},
      {"ulimits",
       [](auto& c) {
         c.mutable_resources()->add_ulimits()->set_name("core");
         c.mutable_resources()->add_ulimits()->set_name("core");
       }},
      {"nano_cpus", [](auto& c) { c.mutable_resources()->set_nano_cpus(1000); }},
  };
  for (const auto& [field, change] : kCases) {
    v1::ContainerConfig config;
    config.set_image("x");
    change(config);
    const absl::Status status = CheckContainerConfig(config);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << field << ": " << status;
    EXPECT_EQ(FieldOf(status), field) << status;
  }
}

}  // namespace
}  // namespace gantry::core
