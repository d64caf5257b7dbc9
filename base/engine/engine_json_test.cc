#include "base/engine/engine_json.h"

#include <gtest/gtest.h>

#include "base/engine/absent_fields.h"
#include "base/engine/state_words.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/system.pb.h"

namespace gantry::engine {
namespace {

v1::ContainerDetails Web() {
  v1::ContainerDetails out;
  v1::ContainerSummary& summary = *out.mutable_summary();
  summary.set_id("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
  summary.set_name("web");
  summary.set_state(v1::CONTAINER_STATE_EXITED);
  summary.set_exit_code(3);
  summary.mutable_created_at()->set_seconds(0);
  summary.mutable_created_at()->set_nanos(0);
  out.mutable_config()->set_image("busybox");
  return out;
}

std::string Part(const Value& document, std::initializer_list<const char*> path) {
  const Value* value = &document;
  for (const char* name : path) {
    value = value->Find(name);
    if (value == nullptr) return "absent";
  }
  return value->ToJson();
}

TEST(ContainerDocumentTest, KeysAndTypesAreDockers) {
  const Value document = ContainerDocument(Web());
  EXPECT_EQ(Part(document, {"State"}),
            R"({"Status":"exited","Running":false,"Paused":false,"Restarting":false,)"
            R"("OOMKilled":false,"Dead":false,"Pid":0,"ExitCode":3,"Error":"",)"
            R"("StartedAt":"0001-01-01T00:00:00Z","FinishedAt":"0001-01-01T00:00:00Z"})");
  EXPECT_EQ(Part(document, {"Config"}),
            R"({"Hostname":"0123456789ab","Domainname":"","User":"","AttachStdin":false,)"
            R"("AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,)"
            R"("StdinOnce":false,"Env":[],"Cmd":null,"Image":"busybox","Volumes":null,)"
            R"("WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{}})");
  EXPECT_EQ(Part(document, {"NetworkSettings"}),
            R"({"Bridge":"","SandboxID":"","SandboxKey":"","Ports":{},"HairpinMode":false,)"
            R"("LinkLocalIPv6Address":"","LinkLocalIPv6PrefixLen":0,"SecondaryIPAddresses":null,)"
            R"("SecondaryIPv6Addresses":null,"EndpointID":"","Gateway":"","GlobalIPv6Address":"",)"
            R"("GlobalIPv6PrefixLen":0,"IPAddress":"","IPPrefixLen":0,"IPv6Gateway":"",)"
            R"("MacAddress":"","Networks":{}})");
  EXPECT_EQ(Part(document, {"HostConfig", "BlkioDeviceReadBps"}), "[]");
  EXPECT_EQ(Part(document, {"HostConfig", "CpuCount"}), "0");
  EXPECT_EQ(Part(document, {"HostConfig", "ReadonlyPaths"}),
            R"(["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"])");
}

TEST(ContainerDocumentTest, PathsAreShownAsSecurityOptionsChangeThem) {
  v1::ContainerDetails web = Web();
  web.mutable_config()->add_security_options("unmask=/proc/*:/sys/firmware");
  web.mutable_config()->add_security_options("mask=/etc/secret");
  Value document = ContainerDocument(web);
  EXPECT_EQ(Part(document, {"HostConfig", "MaskedPaths"}),
            R"(["/sys/devices/virtual/powercap","/etc/secret"])");
  EXPECT_EQ(Part(document, {"HostConfig", "ReadonlyPaths"}), "[]");
  *web.mutable_config()->mutable_security_options(0) = "systempaths=unconfined";
  web.mutable_config()->mutable_security_options()->RemoveLast();
  document = ContainerDocument(web);
  EXPECT_EQ(Part(document, {"HostConfig", "MaskedPaths"}), "[]");
  EXPECT_EQ(Part(document, {"HostConfig", "ReadonlyPaths"}), "[]");
  web = Web();
  web.mutable_config()->set_privileged(true);
  document = ContainerDocument(web);
  EXPECT_EQ(Part(document, {"HostConfig", "MaskedPaths"}), "null");
}

TEST(ContainerDocumentTest, TheBeginningOf1970IsATime) {
  EXPECT_EQ(Part(ContainerDocument(Web()), {"Created"}), "\"1970-01-01T00:00:00Z\"");
}

TEST(ContainerDocumentTest, ATmpfsWithoutOptionsIsListedAsTmpfs) {
  v1::ContainerDetails container = Web();
  v1::Mount& mount = *container.mutable_config()->add_mounts();
  mount.set_type(v1::Mount::TMPFS);
  mount.set_target("/u");
  const Value document = ContainerDocument(container);
  EXPECT_EQ(Part(document, {"HostConfig", "Tmpfs"}), R"({"/u":""})");
  EXPECT_EQ(Part(document, {"HostConfig", "Mounts"}), "absent");
}

TEST(ContainerDocumentTest, TheHostsNameIsNotAnId) {
  v1::ContainerDetails container = Web();
  container.mutable_config()->set_uts_mode("host");
  EXPECT_EQ(Part(ContainerDocument(container), {"Config", "Hostname"}), "\"\"");
  container.mutable_config()->set_hostname("given");
  EXPECT_EQ(Part(ContainerDocument(container), {"Config", "Hostname"}), "\"given\"");
}

TEST(ImageDocumentTest, ComesFromTheConfiguration) {
  v1::ImageDetails image;
  image.mutable_summary()->set_id("sha256:abc");
  image.mutable_summary()->add_repo_tags("x:1");
  image.set_config_json(
      R"({"created":"1970-01-01T00:00:00Z","architecture":"amd64","os":"linux",)"
      R"("config":{"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:d"]}})");
  const Value document = ImageDocument(image);
  EXPECT_EQ(Part(document, {"RepoTags"}), R"(["x:1"])");
  EXPECT_EQ(Part(document, {"Created"}), R"("1970-01-01T00:00:00Z")");
  EXPECT_EQ(Part(document, {"Config"}), R"({"Cmd":["sh"]})");
  EXPECT_EQ(Part(document, {"RootFS"}), R"({"Type":"layers","Layers":["sha256:d"]})");
}

TEST(EventDocumentTest, HasDockersKeys) {
  v1::Event event;
  event.set_type("container");
  event.set_action("start");
  event.set_id("abc");
  (*event.mutable_attributes())["image"] = "busybox";
  event.mutable_at()->set_seconds(5);
  EXPECT_EQ(EventDocument(event).ToJson(),
            R"({"status":"start","id":"abc","from":"busybox","Type":"container",)"
            R"("Action":"start","Actor":{"ID":"abc","Attributes":{"image":"busybox"}},)"
            R"("scope":"local","time":5,"timeNano":5000000000})");
}

TEST(CommandTextTest, ArgumentsWithSpacesAreQuoted) {
  v1::ContainerSummary container;
  for (const char* word : {"sh", "-c", "echo out1; echo out2"}) container.add_command(word);
  EXPECT_EQ(CommandText(container), "sh -c 'echo out1; echo out2'");
}

TEST(AbsentFieldTest, FindsFieldsByPath) {
  const auto container = [](std::vector<std::string> path) {
    return std::string(AbsentField(Document::kContainer, path).value_or("unknown"));
  };
  EXPECT_EQ(container({"State", "Health"}), "nil");
  EXPECT_EQ(container({"Config", "Labels", "a.b.c"}), "<no value>");
  EXPECT_EQ(container({"Mounts", "#", "Name"}), "\"\"");
  EXPECT_EQ(container({"NetworkSettings", "Networks", "none", "Aliases"}), "[]");
  EXPECT_EQ(container({"State", "Helth"}), "unknown");
  EXPECT_EQ(AbsentField(Document::kEvent, {"Time"}).value_or(""), "=time");
  EXPECT_EQ(AbsentField(Document::kImage, {"Config", "Entrypoint"}).value_or(""), "[]");
}

}  // namespace
}  // namespace gantry::engine
