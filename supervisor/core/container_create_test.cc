// Creation from an image: what the container is made of, what is refused, and what is left then.
//
// Needs root: users are looked up in the mounted root file system.
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "supervisor/core/brief_containers.h"
#include "supervisor/core/creation_fixture.h"

namespace gantry::core {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Not;

using ContainerCreateTest = CreationFixture;

TEST_F(ContainerCreateTest, WhatIsUnsetComesFromTheImage) {
  image_.entrypoint = {"/bin/entry"};
  image_.env = {"PATH=/bin", "LANG=C"};
  image_.working_dir = "/srv";
  image_.user = "ann";
  image_.stop_signal = "SIGINT";
  image_.labels = {{"vendor", "them"}};
  WriteImageAs("docker.io/library/app:1");
  v1::ContainerConfig config = Of("app:1");
  config.add_env("LANG=de");
  (*config.mutable_labels())["team"] = "blue";
  const std::string id = MustCreate(config, "web");
  ASSERT_THAT(id, MatchesRegex("[0-9a-f]{64}"));

  const LoadedContainer web = records_->Load(context_, "web").value();
  EXPECT_EQ(web.id(), id);
  EXPECT_EQ(web.record.image(), "docker.io/library/app:1");
  EXPECT_EQ(web.config.image(), "app:1");
  EXPECT_EQ(web.image_id, target_.digest.str());
  EXPECT_EQ(web.config.stop_signal(), "SIGINT");
  EXPECT_EQ(web.record.labels().at("vendor"), "them");
  EXPECT_EQ(web.record.labels().at("team"), "blue");
  EXPECT_FALSE(web.state.starting());
  const nlohmann::json spec = Spec(id);
  const nlohmann::json& process = spec["process"];
  EXPECT_EQ(process["args"], nlohmann::json({"/bin/entry", "serve"}));
  EXPECT_EQ(process["cwd"], "/srv");
  EXPECT_EQ(process["user"]["uid"], 1000);
  EXPECT_EQ(process["user"]["gid"], 100);
  EXPECT_EQ(process["user"]["additionalGids"], nlohmann::json({50, 100}));
  const std::vector<std::string> env = process["env"];
  EXPECT_THAT(env, AllOf(Contains("PATH=/bin"), Contains("LANG=de"), Not(Contains("LANG=C")),
                         Contains("HOME=/home/ann"), Contains("HOSTNAME=" + id.substr(0, 12))));
  EXPECT_EQ(spec["hostname"], id.substr(0, 12));
  EXPECT_EQ(spec["linux"]["cgroupsPath"], "/gantry/" + id);
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_CREATED);
  // Its root stands on the image's layer.
  EXPECT_EQ(stores_.Snapshots("native", {kNs, ""})->Stat(id)->parent,
            oci::ChainIds(image_.diff_ids).back().str());
}

TEST_F(ContainerCreateTest, AnImageIsNamedAsItIsStored) {
  WriteImageAs("docker.io/library/app:1");
  ASSERT_TRUE(catalog_->Name(context_, "docker.io/library/app:latest", target_).ok());
  EXPECT_EQ(records_->Load(context_, MustCreate(Of("app:latest")))->record.image(),
            "docker.io/library/app:latest");
  const std::string by_id = MustCreate(Of(target_.digest.str()));
  EXPECT_EQ(records_->Load(context_, by_id)->record.image(), "docker.io/library/app:1");
  EXPECT_EQ(records_->Load(context_, by_id)->image_id, target_.digest.str());
}

TEST_F(ContainerCreateTest, ANamelessContainerGetsANameOfItsOwn) {
  WriteImageAs("docker.io/library/app:1");
  const absl::StatusOr<v1::CreateContainerResponse> one = Create(Of("app:1"));
  const absl::StatusOr<v1::CreateContainerResponse> two = Create(Of("app:1"));
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_THAT(one->name(), MatchesRegex("[a-z]+_[a-z]+[0-9]*"));
  EXPECT_NE(one->name(), two->name());
  EXPECT_NE(one->id(), two->id());
  EXPECT_EQ(records_->Load(context_, one->name())->id(), one->id());
}

TEST_F(ContainerCreateTest, ANameThatIsTakenIsRefusedAndLeavesNothing) {
  WriteImageAs("docker.io/library/app:1");
  const std::string id = MustCreate(Of("app:1"), "web");
  const std::vector<std::string> before = Traces();
  const absl::Status status = Create(Of("app:1"), "web").status();
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("\"web\""), HasSubstr(id)));
  EXPECT_EQ(Traces(), before);
}

TEST_F(ContainerCreateTest, WhatCannotBeMadeLeavesNothing) {
  image_.cmd.clear();
  WriteImageAs("docker.io/library/silent:1");
  image_ = oci::ImageConfig();
  image_.cmd = {"serve"};
  image_.platform.os = "linux";
  image_.platform.architecture = "amd64";
  WriteImageAs("docker.io/library/app:1");
  using Change = void (*)(v1::ContainerConfig&);
  struct Case {
    const char* image;
    Change change;
    absl::StatusCode code;
    const char* says;
  };
  const Case kCases[] = {
      {"none:1", [](auto&) {}, absl::StatusCode::kNotFound, "none:1"},
      {"app:1", [](auto& c) { c.set_platform("linux/s390x"); },
       absl::StatusCode::kFailedPrecondition, "is for linux/amd64, not for linux/s390x"},
      {"silent:1", [](auto&) {}, absl::StatusCode::kInvalidArgument, "no command"},
      {"app:1", [](auto& c) { c.set_user("bob"); }, absl::StatusCode::kNotFound, "bob"},
      {"app:1", [](auto& c) { c.set_user("ann:nobodys"); }, absl::StatusCode::kNotFound, "nobodys"},
      {"app:1", [](auto& c) { c.add_group_add("lost"); }, absl::StatusCode::kNotFound, "lost"},
      {"app:1", [](auto& c) { c.set_runtime("gvisor"); }, absl::StatusCode::kNotFound, "gvisor"},
      {"app:1", [](auto& c) { c.set_network_mode("container:gone"); }, absl::StatusCode::kNotFound,
       "No such container: gone"},
      {"app:1", [](auto& c) { c.add_volumes_from("gone:ro"); }, absl::StatusCode::kNotFound,
       "No such container: gone"},
      {"app:1", [](auto& c) { c.set_init(true); }, absl::StatusCode::kFailedPrecondition,
       "gantry-init"},
      {"app:1",
       [](auto& c) {
         v1::Mount* mount = c.add_mounts();
         mount->set_type(v1::Mount::BIND);
         mount->set_source("/no/such/place");
         mount->set_target("/data");
       },
       absl::StatusCode::kInvalidArgument, "/no/such/place"},
      {"app:1", [](auto& c) { c.add_cap_add("CAP_NONSENSE"); }, absl::StatusCode::kInvalidArgument,
       "NONSENSE"},
      {"app:1", [](auto& c) { c.add_security_options("seccomp={"); },
       absl::StatusCode::kInvalidArgument, "seccomp"},
  };
  const std::vector<std::string> before = Traces();
  EXPECT_THAT(before, IsEmpty());
  for (const Case& one : kCases) {
    v1::ContainerConfig config = Of(one.image);
    one.change(config);
    const absl::Status status = Create(config, "web").status();
    EXPECT_EQ(status.code(), one.code) << status << " for " << one.says;
    EXPECT_THAT(std::string(status.message()), HasSubstr(one.says));
    EXPECT_EQ(Traces(), before) << one.says;
  }
  // The name is free.
  EXPECT_TRUE(Create(Of("app:1"), "web").ok());
}

TEST_F(ContainerCreateTest, NamesThatNobodyCanTypeAreRefused) {
  WriteImageAs("docker.io/library/app:1");
  for (const std::string& name :
       {std::string("a"), std::string("-web"), std::string("we b"), std::string("w/eb"),
        std::string("w\xc3\xa9"), std::string(256, 'x'), std::string("we\0b", 4)}) {
    const absl::Status status = Create(Of("app:1"), name).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("Invalid container name"));
  }
  EXPECT_TRUE(Create(Of("app:1"), std::string(255, 'x')).ok());
  EXPECT_THAT(AllBriefly(stores_, kNs)->size(), 1u);
}

TEST_F(ContainerCreateTest, GeneratedFilesSayWhatWasAskedFor) {
  WriteImageAs("docker.io/library/app:1");
  v1::ContainerConfig config = Of("app:1");
  config.set_hostname("box");
  config.add_extra_hosts("db:10.0.0.7");
  config.add_extra_hosts("six:fd00::1");
  config.add_dns("9.9.9.9");
  config.add_dns("1.1.1.1");
  config.add_dns_search("corp.example");
  config.add_dns_options("ndots:2");
  const std::string id = MustCreate(config);
  EXPECT_EQ(Generated(id, "hostname"), "box\n");
  EXPECT_THAT(Generated(id, "hosts"),
              AllOf(HasSubstr("127.0.0.1\tlocalhost\n"), HasSubstr("\tbox\n"),
                    HasSubstr("10.0.0.7\tdb\n"), HasSubstr("fd00::1\tsix\n")));
  EXPECT_EQ(Generated(id, "resolv.conf"),
            "nameserver 9.9.9.9\nnameserver 1.1.1.1\nsearch corp.example\noptions ndots:2\n");
  struct stat info;
  ASSERT_EQ(stat(dir_.Join("root/containers/default/" + id + "/hosts").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0644u);
  bool mounted = false;
  const nlohmann::json spec = Spec(id);
  for (const nlohmann::json& mount : spec["mounts"]) {
    if (mount["destination"] != "/etc/hosts") continue;
    mounted = true;
    EXPECT_EQ(mount["source"], dir_.Join("root/containers/default/" + id + "/hosts"));
  }
  EXPECT_TRUE(mounted);
}

TEST_F(ContainerCreateTest, FilesOfOneThatRemovesItselfDoNotOutliveAReboot) {
  WriteImageAs("docker.io/library/app:1");
  v1::ContainerConfig config = Of("app:1");
  config.set_auto_remove(true);
  const std::string id = MustCreate(config, "web");
  EXPECT_EQ(access(dir_.Join("state/containers/default/" + id + "/hosts").c_str(), F_OK), 0);
  EXPECT_NE(access(dir_.Join("root/containers/default/" + id + "/hosts").c_str(), F_OK), 0);
  ASSERT_TRUE(Remove("web").ok());
  workers_->WaitIdle();
  EXPECT_THAT(Traces(), IsEmpty());
}

TEST_F(ContainerCreateTest, WhoseNamespacesAreSharedIsDecidedAtCreation) {
  WriteImageAs("docker.io/library/app:1");
  const std::string db = MustCreate(Of("app:1"), "db");
  v1::ContainerConfig config = Of("app:1");
  config.set_network_mode("container:db");
  config.set_pid_mode("container:" + db.substr(0, 12));
  // The one whose namespaces they are must run.
  const absl::Status status = Create(config, "web").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  ASSERT_TRUE(Start(db).ok());
  const std::string web = MustCreate(config, "web");
  ASSERT_TRUE(names_.Rename({kNs, ""}, db, "old-db").ok());
  const v1::ContainerConfig stored = records_->Load(context_, web)->config;
  EXPECT_EQ(stored.network_mode(), "container:" + db);
  EXPECT_EQ(stored.pid_mode(), "container:" + db);
}

TEST_F(ContainerCreateTest, NetworkThatIsNotChosenIsTheDaemonsAtCreation) {
  WriteImageAs("docker.io/library/app:1");
  const auto mode = [this](const v1::ContainerConfig& config) {
    return records_->Load(context_, MustCreate(config, ""))->config.network_mode();
  };
  EXPECT_EQ(mode(Of("app:1")), "none");
  v1::ContainerConfig config = Of("app:1");
  config.set_network_mode("default");
  config.add_port_bindings()->set_container_port(80);
  EXPECT_EQ(mode(config), "bridge");
  config.set_network_mode("web");
  EXPECT_EQ(mode(config), "web");
}

TEST_F(ContainerCreateTest, PortsOnTheHostsNetworkAreDiscardedWithAWarning) {
  WriteImageAs("docker.io/library/app:1");
  v1::ContainerConfig config = Of("app:1");
  config.set_network_mode("host");
  EXPECT_EQ(Create(config).value().warnings_size(), 0);
  config.add_port_bindings()->set_container_port(80);
  const absl::StatusOr<v1::CreateContainerResponse> created = Create(config);
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_THAT(created->warnings(),
              ElementsAre("Published ports are discarded when using host network mode"));
}

TEST_F(ContainerCreateTest, OneThatIsToRunAtOnceSaysSo) {
  WriteImageAs("docker.io/library/app:1");
  const absl::StatusOr<v1::CreateContainerResponse> created =
      Create(Of("app:1"), "web", CreateFor::kRun);
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_TRUE(Stored(created->id()).starting());
}

TEST_F(ContainerCreateTest, UsersOfAnImageAreReadAgainWhenItIsAnother) {
  WriteImageAs("docker.io/library/app:1");
  v1::ContainerConfig config = Of("app:1");
  for (const auto& [user, uid, gid] :
       {std::tuple("ann", 1000, 100), std::tuple("ann:staff", 1000, 50), std::tuple("7:8", 7, 8),
        std::tuple("root", 0, 0), std::tuple("ann", 1000, 100)}) {
    config.set_user(user);
    const nlohmann::json spec = Spec(MustCreate(config));
    EXPECT_EQ(spec["process"]["user"]["uid"], uid) << user;
    EXPECT_EQ(spec["process"]["user"]["gid"], gid) << user;
  }
}

TEST_F(ContainerCreateTest, AnImageInUseIsNotCollected) {
  WriteImageAs("docker.io/library/app:1");
  const std::string id = MustCreate(Of("app:1"), "web");
  ASSERT_TRUE(images_.Delete({kNs, ""}, "docker.io/library/app:1").ok());
  const auto collection =
      collector_.Collect({.full_sweep = true, .gate_timeout = absl::Seconds(60)});
  ASSERT_TRUE(collection.ok()) << collection.status();
  EXPECT_TRUE(stores_.Snapshots("native", {kNs, ""})->Mounts(id).ok());
  EXPECT_TRUE(Start("web").ok());
}

}  // namespace
}  // namespace gantry::core
