#include "base/engine/system_json.h"

#include <string>

#include "gtest/gtest.h"

#include "base/engine/value.h"
#include "proto/gantry/v1/system.pb.h"

namespace gantry::engine {
namespace {

std::string Text(const Value& value, const char* key) {
  const Value* found = value.Find(key);
  return found == nullptr ? "(none)" : found->ToJson();
}

TEST(SystemJsonTest, InfoSaysWhatTheHostCan) {
  v1::InfoResponse info;
  info.set_containers(3);
  info.set_containers_running(1);
  info.set_cpu_quota(true);
  info.set_memory_limit(true);
  info.set_ipv4_forwarding(true);
  info.set_bridge_nf_ip6tables(true);
  const Value document = InfoDocument(info);
  EXPECT_EQ(Text(document, "Containers"), "3");
  EXPECT_EQ(Text(document, "ContainersRunning"), "1");
  EXPECT_EQ(Text(document, "CpuCfsPeriod"), "true");
  EXPECT_EQ(Text(document, "CpuCfsQuota"), "true");
  EXPECT_EQ(Text(document, "MemoryLimit"), "true");
  EXPECT_EQ(Text(document, "SwapLimit"), "false");
  EXPECT_EQ(Text(document, "IPv4Forwarding"), "true");
  EXPECT_EQ(Text(*document.Find("Plugins"), "Network"),
            R"(["bridge","host","ipvlan","macvlan","null"])");
  EXPECT_EQ(Text(document, "BridgeNfIptables"), "false");
  EXPECT_EQ(Text(document, "BridgeNfIp6tables"), "true");
}

TEST(SystemJsonTest, InfoListsRuntimesByNameAndDriverFactsInOrder) {
  v1::InfoResponse info;
  (*info.mutable_snapshotter_status())["b"] = "2";
  (*info.mutable_snapshotter_status())["a"] = "1";
  info.set_default_runtime("crun");
  v1::InfoResponse::Runtime* runtime = info.add_runtimes();
  runtime->set_name("crun");
  runtime->set_path("/usr/bin/crun");
  const Value document = InfoDocument(info);
  EXPECT_EQ(Text(document, "DriverStatus"),
            R"([["driver-type","io.containerd.snapshotter.v1"],["a","1"],["b","2"]])");
  EXPECT_EQ(Text(document, "DefaultRuntime"), "\"crun\"");
  EXPECT_EQ(Text(document, "Runtimes"),
            R"({"crun":{"path":"/usr/bin/crun","version":"","problem":""}})");
}

TEST(SystemJsonTest, WhatDockerHasNoKeyForIsApartInTheEnginesDocument) {
  v1::InfoResponse info;
  info.set_state_dir("/run/gantry");
  v1::InfoResponse::Runtime* runtime = info.add_runtimes();
  runtime->set_name("crun");
  runtime->set_path("/usr/bin/crun");
  runtime->set_problem("too old");
  const Value engine = EngineInfoDocument(info);
  EXPECT_EQ(Text(engine, "StateDir"), "(none)");
  EXPECT_EQ(Text(engine, "Runtimes"), R"({"crun":{"path":"/usr/bin/crun"}})");
  ASSERT_NE(engine.Find("Gantry"), nullptr);
  EXPECT_EQ(Text(*engine.Find("Gantry"), "StateDir"), "\"/run/gantry\"");
  EXPECT_EQ(Text(*engine.Find("Gantry"), "Runtimes"),
            R"({"crun":{"version":"","problem":"too old"}})");
  const Value ours = InfoDocument(info);
  EXPECT_EQ(Text(*engine.Find("RegistryConfig"), "AllowNondistributableArtifactsCIDRs"), "[]");
  EXPECT_EQ(Text(*ours.Find("RegistryConfig"), "AllowNondistributableArtifactsCIDRs"), "(none)");
  EXPECT_EQ(Text(ours, "StateDir"), "\"/run/gantry\"");
  EXPECT_EQ(Text(ours, "Gantry"), "(none)");
}

TEST(SystemJsonTest, NoWarningsAreNull) {
  v1::InfoResponse info;
  EXPECT_EQ(Text(InfoDocument(info), "Warnings"), "null");
  info.add_warnings("No swap limit support");
  EXPECT_EQ(Text(InfoDocument(info), "Warnings"), R"(["No swap limit support"])");
}

TEST(SystemJsonTest, VersionSaysWhichApiIsSpoken) {
  v1::VersionResponse version;
  version.set_version("1.2.3");
  version.set_os("linux");
  auto* component = version.add_components();
  component->set_name("crun");
  component->set_version("1.8");
  (*component->mutable_details())["Path"] = "/usr/bin/crun";
  const Value document = VersionDocument(version);
  EXPECT_EQ(Text(document, "Version"), "\"1.2.3\"");
  EXPECT_EQ(Text(document, "Os"), "\"linux\"");
  EXPECT_EQ(Text(document, "Platform"), R"({"Name":"Gantry"})");
  const Value::List& components = document.Find("Components")->list();
  ASSERT_EQ(components.size(), 2u);
  EXPECT_EQ(Text(components[0], "Name"), "\"Engine\"");
  EXPECT_EQ(Text(components[0], "Version"), "\"1.2.3\"");
  EXPECT_EQ(Text(*components[0].Find("Details"), "Os"), "\"linux\"");
  EXPECT_EQ(components[1].ToJson(),
            R"({"Name":"crun","Version":"1.8","Details":{"Path":"/usr/bin/crun"}})");
  EXPECT_NE(Text(document, "ApiVersion"), "(none)");
  EXPECT_NE(Text(document, "MinAPIVersion"), "(none)");
}

}  // namespace
}  // namespace gantry::engine
