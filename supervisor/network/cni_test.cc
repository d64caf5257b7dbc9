// Chains of small scripts as plugins. They write what they were given into $STATE, a directory of
// the test, and behave as the files there say:
//   fail-<type>-<command>  print this as the result, end with 1
//   hang-<type>-<command>  sleep
//   out-<type>-<command>   print this as the result
#include "supervisor/network/cni.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include <nlohmann/json.hpp>

#include "base/cancel_token.h"
#include "base/file.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "supervisor/network/netns.h"

namespace gantry::network {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kScript[] = R"(#!/bin/sh
type=${0##*/}
what=$type-$CNI_COMMAND
cat > "STATE/in-$what"
env | grep '^CNI_' > "STATE/env-$what"
echo "$type $CNI_COMMAND $CNI_CONTAINERID" >> STATE/calls
if [ -e "STATE/hang-$what" ]; then touch "STATE/hangs-$what"; sleep 1000; fi
if [ -e "STATE/fail-$what" ]; then cat "STATE/fail-$what"; exit 1; fi
if [ -e "STATE/out-$what" ]; then cat "STATE/out-$what"; exit 0; fi
if [ "$CNI_COMMAND" = ADD ]; then
  printf '{"cniVersion":"1.0.0","interfaces":[{"name":"br0"},{"name":"eth0","sandbox":"%s"}],' "$CNI_NETNS"
  printf '"ips":[{"address":"fd00::2/64","interface":1},{"address":"10.9.0.2/24","gateway":"10.9.0.1","interface":1}],'
  printf '"by":"%s"}' "$type"
fi
)";

// Another one in each run of this test: what an earlier process left of a pod's plugins is ended.
const std::string kPod = absl::StrCat("pod-", getpid());

class CniTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "makes network namespaces, which needs root";
    ASSERT_TRUE(netns_.ok()) << netns_.status();
    for (const char* name : {"bin", "conf", "state"}) ASSERT_EQ(mkdir(In(name).c_str(), 0755), 0);
    Plugin("one");
    Plugin("two");
    Configure("10-pods.conflist", R"({"cniVersion":"1.0.0","name":"pods","plugins":[
      {"type":"one","ipam":{"type":"none"},"capabilities":{"portMappings":true,"bandwidth":false}},
      {"type":"two"}]})");
    Open();
  }

  std::string In(const std::string& name) const { return dir_.Join(name); }
  std::string State(const std::string& name) const { return dir_.Join("state/" + name); }
  void Plugin(const std::string& type) {
    std::string script = kScript;
    for (size_t at; (at = script.find("STATE")) != std::string::npos;)
      script.replace(at, 5, In("state"));
    ASSERT_TRUE(WriteFile(In("bin/" + type), script, 0755).ok());
  }
  void Configure(const std::string& file, const std::string& text) {
    ASSERT_TRUE(WriteFile(In("conf/" + file), text).ok());
  }
  void Open(absl::Duration plugin_timeout = absl::Seconds(20),
            absl::Duration first_pause = absl::Milliseconds(5)) {
    cni_ = nullptr;
    absl::StatusOr<std::unique_ptr<Cni>> cni = Cni::Open({.conf_dir = In("conf"),
                                                          .bin_dirs = {In("bin")},
                                                          .record_dir = In("records"),
                                                          .plugin_timeout = plugin_timeout,
                                                          .first_pause = first_pause,
                                                          .longest_pause = absl::Milliseconds(20)});
    ASSERT_TRUE(cni.ok()) << cni.status();
    cni_ = *std::move(cni);
  }
  void Behave(const std::string& name, const std::string& content = "") {
    ASSERT_TRUE(WriteFile(State(name), content).ok());
  }
  void Behave(const char* how, const char* plugin, const std::string& content) {
    Behave(absl::StrCat(how, "-", plugin), content);
  }
  void StopBehaving(const std::string& name) { ASSERT_EQ(unlink(State(name).c_str()), 0) << name; }
  std::vector<std::string> Calls() const {
    const absl::StatusOr<std::string> text = ReadFile(State("calls"), 1 << 20);
    if (!text.ok()) return {};
    return absl::StrSplit(absl::StrReplaceAll(*text, {{kPod, "pod1"}}), '\n', absl::SkipEmpty());
  }
  json InputOf(const std::string& what) const {
    const absl::StatusOr<std::string> text = ReadFile(State("in-" + what), 1 << 20);
    return text.ok() ? json::parse(*text, nullptr, false) : json();
  }
  std::string EnvOf(const std::string& what) const {
    return ReadFile(State("env-" + what), 1 << 20).value_or("");
  }
  bool Exists(const std::string& path) const { return access(path.c_str(), F_OK) == 0; }
  void WaitFor(const std::function<bool()>& done) {
    for (int i = 0; i < 6000 && !done(); ++i) absl::SleepFor(absl::Milliseconds(5));
    ASSERT_TRUE(done());
  }
  size_t Records() const { return ListDirectory(In("records")).value().size(); }

  CniRequest Request(const std::string& id = kPod) const {
    CniRequest request;
    request.container_id = id;
    request.netns = absl::StrCat("/proc/", getpid(), "/fd/", netns_->get());
    request.args = {{"IgnoreUnknown", "1"}, {"K8S_POD_NAME", "web"}};
    request.port_mappings = {{8080, 80, "tcp", ""}};
    request.bandwidth = CniBandwidth{.ingress_rate = 1000, .ingress_burst = 1000};
    return request;
  }

  const TempDir dir_;
  // Owned by a namespace of the test: "lo" can be brought up in it.
  const absl::StatusOr<UniqueFd> netns_ = NewNetns();
  std::unique_ptr<Cni> cni_;
};

TEST_F(CniTest, AddRunsTheChainWithEachResultForTheNextPlugin) {
  const absl::StatusOr<CniResult> result = cni_->Add(Request());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->PodAddresses(), ElementsAre("10.9.0.2", "fd00::2"));
  EXPECT_THAT(Calls(), ElementsAre("one ADD pod1", "two ADD pod1"));

  const json first = InputOf("one-ADD"), second = InputOf("two-ADD");
  EXPECT_EQ(first["name"], "pods");
  EXPECT_EQ(first["cniVersion"], "1.0.0");
  EXPECT_EQ(first["ipam"]["type"], "none");
  EXPECT_FALSE(first.contains("capabilities"));
  EXPECT_FALSE(first.contains("prevResult"));
  EXPECT_EQ(first["runtimeConfig"]["portMappings"][0]["hostPort"], 8080);
  EXPECT_FALSE(first["runtimeConfig"].contains("bandwidth"));
  EXPECT_FALSE(second.contains("runtimeConfig"));
  EXPECT_EQ(second["prevResult"]["by"], "one");

  const std::string env = EnvOf("two-ADD");
  EXPECT_THAT(env, HasSubstr(absl::StrCat("CNI_CONTAINERID=", kPod, "\n")));
  EXPECT_THAT(env, HasSubstr("CNI_IFNAME=eth0\n"));
  EXPECT_THAT(env, HasSubstr("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=web\n"));
  EXPECT_THAT(env, HasSubstr(absl::StrCat("CNI_PATH=", In("bin"), "\n")));
  EXPECT_THAT(env, HasSubstr(absl::StrCat("CNI_NETNS=", Request().netns, "\n")));
}

TEST_F(CniTest, RepeatedAddReturnsWhatThereIs) {
  ASSERT_TRUE(cni_->Add(Request()).ok());
  const absl::StatusOr<CniResult> again = cni_->Add(Request());
  ASSERT_TRUE(again.ok());
  EXPECT_THAT(again->PodAddresses(), SizeIs(2));
  EXPECT_THAT(Calls(), SizeIs(2));
}

TEST_F(CniTest, AddForAnotherNamespaceRemovesTheFormerAttachment) {
  ASSERT_TRUE(cni_->Add(Request()).ok());
  const absl::StatusOr<UniqueFd> other = NewNetns();
  ASSERT_TRUE(other.ok());
  CniRequest request = Request();
  request.netns = absl::StrCat("/proc/", getpid(), "/fd/", other->get());
  ASSERT_TRUE(cni_->Add(request).ok());
  EXPECT_THAT(Calls(), ElementsAre("one ADD pod1", "two ADD pod1", "two DEL pod1", "one DEL pod1",
                                   "one ADD pod1", "two ADD pod1"));
}

TEST_F(CniTest, RemoveRunsInReverseWithTheFinalResult) {
  ASSERT_TRUE(cni_->Add(Request()).ok());
  ASSERT_TRUE(cni_->Remove(kPod).ok());
  EXPECT_THAT(Calls(), ElementsAre("one ADD pod1", "two ADD pod1", "two DEL pod1", "one DEL pod1"));
  EXPECT_EQ(InputOf("one-DEL")["prevResult"]["by"], "two");
  EXPECT_EQ(InputOf("one-DEL")["runtimeConfig"]["portMappings"][0]["containerPort"], 80);
  EXPECT_EQ(Records(), 0u);
  EXPECT_TRUE(cni_->Remove(kPod).ok());
  EXPECT_THAT(Calls(), SizeIs(4));
}

TEST_F(CniTest, RemoveAfterARestartUsesWhatAddWasGiven) {
  ASSERT_TRUE(cni_->Add(Request()).ok());
  Open();
  EXPECT_THAT(Calls(), SizeIs(2));  // what is attached stays so
  EXPECT_TRUE(cni_->Result(kPod).ok());
  // The network has changed since.
  Configure("10-pods.conflist", R"({"cniVersion":"1.0.0","name":"new","plugins":[{"type":"x"}]})");
  ASSERT_TRUE(cni_->Remove(kPod).ok());
  EXPECT_EQ(InputOf("one-DEL")["name"], "pods");
  EXPECT_EQ(InputOf("one-DEL")["prevResult"]["by"], "two");
  EXPECT_THAT(EnvOf("one-DEL"), HasSubstr("K8S_POD_NAME=web"));
}

TEST_F(CniTest, RecordIsOnDiskBeforeAPluginRuns) {
  Behave("hang-one-ADD");
  std::thread add([this] { EXPECT_TRUE(absl::IsCancelled(cni_->Add(Request()).status())); });
  WaitFor([this] { return Exists(State("hangs-one-ADD")); });
  EXPECT_EQ(Records(), 1u);
  EXPECT_THAT(ReadFile(In(absl::StrCat("records/", kPod, "@eth0.json")), 1 << 20).value(),
              HasSubstr("\"adding\""));
  EXPECT_TRUE(cni_->Remove(kPod).ok());
  add.join();
}

TEST_F(CniTest, RecordHasTheResultBeforeAddReturns) {
  ASSERT_TRUE(cni_->Add(Request()).ok());
  const json record =
      json::parse(ReadFile(In(absl::StrCat("records/", kPod, "@eth0.json")), 1 << 20).value());
  EXPECT_EQ(record["state"], "attached");
  EXPECT_EQ(record["result"]["by"], "two");
}

TEST_F(CniTest, FailedAddIsUndone) {
  Behave("fail-two-ADD", R"({"cniVersion":"1.0.0","code":100,"msg":"no room","details":"at all"})");
  const absl::Status status = cni_->Add(Request()).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("two"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("no room; at all"));
  EXPECT_THAT(Calls(), ElementsAre("one ADD pod1", "two ADD pod1", "two DEL pod1", "one DEL pod1"));
  EXPECT_EQ(Records(), 0u);
  EXPECT_TRUE(absl::IsNotFound(cni_->Result(kPod).status()));
}

TEST_F(CniTest, ErrorCodesSayWhatTheCallerCanDo) {
  const std::vector<std::pair<int, absl::StatusCode>> codes = {
      {1, absl::StatusCode::kInvalidArgument}, {7, absl::StatusCode::kInvalidArgument},
      {3, absl::StatusCode::kNotFound},        {11, absl::StatusCode::kUnavailable},
      {5, absl::StatusCode::kUnavailable},     {999, absl::StatusCode::kUnavailable}};
  for (const auto& [code, expected] : codes) {
    Behave("fail-one-ADD", absl::StrCat(R"({"code":)", code, R"(,"msg":"m"})"));
    EXPECT_EQ(cni_->Add(Request()).status().code(), expected) << code;
  }
}

TEST_F(CniTest, VersionErrorNamesTheVersionsThatThePluginKnows) {
  Behave("fail-one-ADD", R"({"code":1,"msg":"incompatible CNI versions"})");
  Behave("out-one-VERSION", R"({"cniVersion":"1.0.0","supportedVersions":["0.3.1","0.4.0"]})");
  EXPECT_THAT(std::string(cni_->Add(Request()).status().message()),
              HasSubstr("it knows versions 0.3.1, 0.4.0"));
}

TEST_F(CniTest, GarbageIsAnErrorAndUndone) {
  for (const std::string& out :
       {std::string("no json"), std::string(), std::string("[1,2]"), std::string("{\"ips\":7}"),
        std::string("{\"cniVersion\":\"9.0\"}"), std::string(300, '[')}) {
    Behave("out-two-ADD", out);
    const absl::Status status = cni_->Add(Request()).status();
    EXPECT_TRUE(absl::IsUnavailable(status)) << out << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("CNI plugin two, ADD")) << out;
    EXPECT_EQ(Records(), 0u);
  }
}

TEST_F(CniTest, TenMegabytesAreReadAndRefused) {
  Behave("out-one-ADD", std::string(10 << 20, ' '));
  const absl::Status status = cni_->Add(Request()).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("more than 1048576 bytes"));
  StopBehaving("out-one-ADD");
  Behave("fail-one-ADD", std::string(10 << 20, 'x'));
  const std::string words(cni_->Add(Request()).status().message());
  EXPECT_THAT(words, HasSubstr("exit status 1"));
  EXPECT_LT(words.size(), 4096u);
}

TEST_F(CniTest, HangingPluginIsKilledAtItsTimeout) {
  Open(absl::Milliseconds(200));
  Behave("hang-two-ADD");
  const absl::Status status = cni_->Add(Request()).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("CNI plugin two, ADD"));
  EXPECT_EQ(Records(), 0u);
}

TEST_F(CniTest, CancelledAddIsUndoneInTheBackground) {
  Behave("hang-two-ADD");
  CancelToken cancel;
  std::thread canceller([this, &cancel] {
    WaitFor([this] { return Exists(State("hangs-two-ADD")); });
    cancel.Cancel("the client has gone");
  });
  const absl::Status status = cni_->Add(Request(), &cancel).status();
  canceller.join();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  WaitFor([this] { return Records() == 0; });
  EXPECT_THAT(Calls(), ElementsAre("one ADD pod1", "two ADD pod1", "two DEL pod1", "one DEL pod1"));
}

TEST_F(CniTest, FailedDelIsRepeatedUntilItSucceeds) {
  ASSERT_TRUE(cni_->Add(Request()).ok());
  Behave("fail-two-DEL", R"({"code":100,"msg":"busy"})");
  const absl::Status status = cni_->Remove(kPod);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  // The plugin before it in the chain, which has the address, has not been asked.
  for (const std::string& call : Calls()) EXPECT_NE(call, "one DEL pod1");
  ASSERT_THAT(cni_->Attachments(), SizeIs(1));
  EXPECT_EQ(cni_->Attachments()[0].state, CniAttachment::State::kRemoving);
  EXPECT_THAT(cni_->Attachments()[0].error, HasSubstr("busy"));
  WaitFor([this] { return Calls().size() > 5; });
  StopBehaving("fail-two-DEL");
  // The record goes first.
  WaitFor([this] { return cni_->Attachments().empty(); });
  EXPECT_EQ(Records(), 0);
}

TEST_F(CniTest, FailedDelIsRepeatedByTheNextDaemon) {
  ASSERT_TRUE(cni_->Add(Request()).ok());
  Behave("fail-one-DEL", "nonsense");
  EXPECT_FALSE(cni_->Remove(kPod).ok());
  cni_ = nullptr;
  StopBehaving("fail-one-DEL");
  EXPECT_EQ(Records(), 1u);
  Open();
  WaitFor([this] { return Records() == 0; });
}

TEST_F(CniTest, HalfMadeAttachmentOfAFormerDaemonIsRemoved) {
  Behave("hang-two-ADD");
  std::thread add([this] { EXPECT_FALSE(cni_->Add(Request()).ok()); });
  WaitFor([this] { return Exists(State("hangs-two-ADD")); });
  // What a daemon that is killed now leaves.
  const std::string record =
      ReadFile(In(absl::StrCat("records/", kPod, "@eth0.json")), 1 << 20).value();
  EXPECT_TRUE(cni_->Remove(kPod).ok());
  add.join();
  ASSERT_EQ(Records(), 0u);
  ASSERT_TRUE(WriteFile(In(absl::StrCat("records/", kPod, "@eth0.json")), record).ok());
  ASSERT_EQ(unlink(State("calls").c_str()), 0);
  Open();
  WaitFor([this] { return Records() == 0; });
  EXPECT_THAT(Calls(), ElementsAre("two DEL pod1", "one DEL pod1"));
}

TEST_F(CniTest, HangingAddDoesNotHoldUpOtherPods) {
  Behave("hang-two-ADD");
  std::thread add([this] { EXPECT_FALSE(cni_->Add(Request()).ok()); });
  WaitFor([this] { return Exists(State("hangs-two-ADD")); });
  StopBehaving("hang-two-ADD");
  EXPECT_TRUE(cni_->Add(Request("pod2")).ok());
  EXPECT_TRUE(cni_->Ready().ok());
  EXPECT_THAT(cni_->Attachments(), SizeIs(2));
  EXPECT_TRUE(cni_->Remove("pod2").ok());
  EXPECT_TRUE(cni_->Remove(kPod).ok());
  add.join();
}

TEST_F(CniTest, EndOfTheDaemonEndsACallAndKeepsItsRecord) {
  Behave("hang-two-ADD");
  std::thread add([this] { EXPECT_TRUE(absl::IsCancelled(cni_->Add(Request()).status())); });
  WaitFor([this] { return Exists(State("hangs-two-ADD")); });
  cni_.reset();
  add.join();
  EXPECT_EQ(Records(), 1u);
}

TEST_F(CniTest, DelOfANamespaceThatHasGoneNamesNone) {
  absl::StatusOr<UniqueFd> other = NewNetns();
  ASSERT_TRUE(other.ok());
  CniRequest request = Request();
  request.netns = absl::StrCat("/proc/", getpid(), "/fd/", other->get());
  ASSERT_TRUE(cni_->Add(request).ok());
  // The path leads to another namespace by now, as it may after a boot.
  ASSERT_EQ(dup3(netns_->get(), other->get(), O_CLOEXEC), other->get());
  ASSERT_TRUE(cni_->Remove(kPod).ok());
  EXPECT_THAT(EnvOf("one-DEL"), HasSubstr("CNI_NETNS=\n"));
}

TEST_F(CniTest, CheckRunsTheChainWithTheResult) {
  EXPECT_TRUE(absl::IsNotFound(cni_->Check(kPod)));
  ASSERT_TRUE(cni_->Add(Request()).ok());
  EXPECT_TRUE(cni_->Check(kPod).ok());
  EXPECT_EQ(InputOf("two-CHECK")["prevResult"]["by"], "two");
  Behave("fail-two-CHECK", R"({"code":3,"msg":"eth0 has gone"})");
  const absl::Status status = cni_->Check(kPod);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("eth0 has gone"));
}

TEST_F(CniTest, GarbageOfUnknownPodsIsRemovedAndPluginsCollectTheRest) {
  Configure("10-pods.conflist", R"({"cniVersion":"1.1.0","name":"pods","plugins":[
    {"type":"one"},{"type":"two"}]})");
  ASSERT_TRUE(cni_->Add(Request("keep")).ok());
  ASSERT_TRUE(cni_->Add(Request("lost")).ok());
  Open();
  cni_->CollectGarbage({"keep"});
  WaitFor([this] { return Records() == 1 && Exists(State("in-two-GC")); });
  EXPECT_TRUE(cni_->Result("keep").ok());
  WaitFor([this] { return InputOf("two-GC").contains("cni.dev/valid-attachments"); });
  const json valid = InputOf("two-GC")["cni.dev/valid-attachments"];
  ASSERT_EQ(valid.size(), 1u);
  EXPECT_EQ(valid[0]["containerID"], "keep");
  EXPECT_EQ(valid[0]["ifname"], "eth0");
}

TEST_F(CniTest, ReadyAsksPluginsOfVersion11) {
  EXPECT_TRUE(cni_->Ready().ok());
  EXPECT_THAT(Calls(), IsEmpty());
  Configure("10-pods.conflist", R"({"cniVersion":"0.4.0","cniVersions":["1.1.0","2.0.0"],
    "name":"pods","plugins":[{"type":"one"}]})");
  Behave("fail-one-STATUS", R"({"code":50,"msg":"the agent is not up"})");
  const absl::Status status = cni_->Ready();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("the agent is not up"));
  EXPECT_EQ(InputOf("one-STATUS")["cniVersion"], "1.1.0");
}

TEST_F(CniTest, ReadyNamesWhatIsMissing) {
  Configure("10-pods.conflist", R"({"name":"pods","plugins":[{"type":"three"}]})");
  const absl::Status status = cni_->Ready();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("CNI plugin three: no such program"));
  Plugin("three");
  EXPECT_TRUE(cni_->Ready().ok());
}

TEST_F(CniTest, ChangesOfTheDirectoryTakeEffect) {
  EXPECT_THAT(cni_->ConfigJson(), HasSubstr("\"pods\""));
  Configure("05-first.conf", R"({"cniVersion":"0.3.1","name":"first","type":"one"})");
  EXPECT_THAT(cni_->ConfigJson(), HasSubstr("\"first\""));
  // Same size, same moment.
  Configure("05-first.conf", R"({"cniVersion":"0.3.1","name":"other","type":"one"})");
  EXPECT_THAT(cni_->ConfigJson(), HasSubstr("\"other\""));
  Configure("05-first.conf", R"({"cniVersion":"0.3.1","name":)");
  EXPECT_EQ(cni_->ConfigJson(), "{}");
  EXPECT_THAT(cni_->LoadStatus(), HasSubstr("05-first.conf"));
  EXPECT_TRUE(absl::IsFailedPrecondition(cni_->Ready()));
  ASSERT_TRUE(RemoveTree(In("conf")).ok());
  EXPECT_THAT(std::string(cni_->Ready().message()), HasSubstr("no network is configured"));
}

TEST_F(CniTest, PluginsInFilesOfTheirOwnAreAppended) {
  ASSERT_EQ(mkdir(In("conf/pods").c_str(), 0755), 0);
  Configure("pods/50-more.conf", R"({"type":"three"})");
  Plugin("three");
  ASSERT_TRUE(cni_->Add(Request()).ok());
  EXPECT_THAT(Calls(), ElementsAre("one ADD pod1", "two ADD pod1", "three ADD pod1"));
  Configure("10-pods.conflist", R"({"cniVersion":"1.0.0","name":"pods",
    "loadOnlyInlinedPlugins":true,"plugins":[{"type":"one"}]})");
  ASSERT_TRUE(cni_->Add(Request("pod2")).ok());
  EXPECT_EQ(Calls().back(), "one ADD pod2");
}

TEST_F(CniTest, RequestsThatPluginsWouldMisreadAreRefused) {
  const auto refused = [this](const std::function<void(CniRequest&)>& change) {
    CniRequest request = Request();
    change(request);
    return absl::IsInvalidArgument(cni_->Add(request).status());
  };
  EXPECT_TRUE(refused([](CniRequest& r) { r.container_id = "../x"; }));
  EXPECT_TRUE(refused([](CniRequest& r) { r.interface = "a/b"; }));
  EXPECT_TRUE(refused([](CniRequest& r) { r.interface = "sixteen-letters-"; }));
  EXPECT_TRUE(refused([](CniRequest& r) { r.netns = ""; }));
  EXPECT_TRUE(refused([](CniRequest& r) { r.args = {{"A", "1;B=2"}}; }));
  EXPECT_TRUE(refused([](CniRequest& r) { r.port_mappings[0].host_port = 70000; }));
  EXPECT_TRUE(refused([](CniRequest& r) { r.more["x"] = "{"; }));
  EXPECT_THAT(Calls(), IsEmpty());
  CniRequest request = Request();
  request.netns = "/etc/passwd";
  EXPECT_TRUE(absl::IsFailedPrecondition(cni_->Add(request).status()));
}

TEST_F(CniTest, DamagedRecordIsLeftAlone) {
  ASSERT_TRUE(cni_->Add(Request()).ok());
  cni_ = nullptr;
  ASSERT_TRUE(WriteFile(In("records/bad@eth0.json"), "{\"version\":1}").ok());
  ASSERT_TRUE(WriteFile(In("records/.x.tmp-1"), "half").ok());
  Open();
  EXPECT_THAT(cni_->Attachments(), SizeIs(1));
  EXPECT_EQ(Records(), 2u);
}

// ---- results ----

TEST(CniResultTest, OldFormsAreReadAndPrintedForTheNetworksVersion) {
  const absl::StatusOr<CniResult> old = ParseCniResult(
      R"({"cniVersion":"0.2.0","ip4":{"ip":"10.1.2.3/24","gateway":"10.1.2.1",
          "routes":[{"dst":"0.0.0.0/0"}]},"ip6":{"ip":"fd00::3/64"},"dns":{"nameservers":["9.9.9.9"]}})",
      "1.0.0");
  ASSERT_TRUE(old.ok()) << old.status();
  EXPECT_THAT(old->PodAddresses(), ElementsAre("10.1.2.3", "fd00::3"));
  EXPECT_THAT(old->nameservers, ElementsAre("9.9.9.9"));
  const json printed = json::parse(old->json);
  EXPECT_EQ(printed["cniVersion"], "1.0.0");
  EXPECT_EQ(printed["ips"][0]["address"], "10.1.2.3/24");
  EXPECT_FALSE(printed["ips"][0].contains("version"));
  EXPECT_EQ(printed["routes"][0]["dst"], "0.0.0.0/0");

  const absl::StatusOr<CniResult> middle = ParseCniResult(old->json, "0.3.1");
  ASSERT_TRUE(middle.ok());
  EXPECT_EQ(json::parse(middle->json)["ips"][1]["version"], "6");
}

TEST(CniResultTest, AddressesOfTheHostsSideAreNotThePods) {
  const absl::StatusOr<CniResult> result = ParseCniResult(
      R"({"cniVersion":"1.0.0","interfaces":[{"name":"host0"},{"name":"eth0","sandbox":"/n"}],
          "ips":[{"address":"10.0.0.1/24","interface":0},{"address":"10.0.0.2/24","interface":1},
                 {"address":"10.0.0.3/24","interface":7}]})",
      "1.0.0");
  ASSERT_TRUE(result.ok());
  EXPECT_THAT(result->PodAddresses(), ElementsAre("10.0.0.2"));
}

TEST(CniResultTest, SameFormKeepsFieldsThatAreNotKnownHere) {
  const absl::StatusOr<CniResult> result =
      ParseCniResult(R"({"cniVersion":"0.4.0","ips":[],"vendor":{"x":1}})", "0.3.1");
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(json::parse(result->json)["vendor"]["x"], 1);
  EXPECT_EQ(json::parse(result->json)["cniVersion"], "0.3.1");
}

}  // namespace
}  // namespace gantry::network
