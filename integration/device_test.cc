// Devices by CDI name and as GPUs, and images as mounts, with real containers.
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "busybox:test";

class DeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    Testbed::Options options;
    options.config =
        "root = \"@base@/root\"\nstate = \"@base@/state\"\n"
        "address = \"@base@/state/gantry.sock\"\n"
        "[cdi]\nspec_dirs = [\"@base@/scratch/cdi\"]\n";
    options.places_from_config = true;
    bed_ = std::make_unique<Testbed>(std::move(options));
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
    ASSERT_TRUE(MakeDirectories(bed_->scratch() + "/cdi").ok());
  }
  void Describe(const std::string& name, const std::string& text) {
    ASSERT_TRUE(WriteFile(absl::StrCat(bed_->scratch(), "/cdi/", name), text).ok());
  }
  std::unique_ptr<Testbed> bed_;
};

constexpr char kCards[] =
    "cdiVersion: 0.7.0\n"
    "kind: vendor.com/card\n"
    "containerEdits:\n"
    "  env: [CARDS=yes]\n"
    "devices:\n"
    "- name: \"0\"\n"
    "  containerEdits:\n"
    "    env: [CARD=0]\n"
    "    additionalGids: [4711]\n"
    "    deviceNodes:\n"
    "    - path: /dev/card0\n"
    "      hostPath: @dir@/node\n"
    "      permissions: r\n"
    "    mounts:\n"
    "    - hostPath: @dir@\n"
    "      containerPath: /opt/card\n"
    "      options: [ro, bind]\n"
    "    hooks:\n"
    "    - hookName: createRuntime\n"
    "      path: /bin/touch\n"
    "      args: [touch, @dir@/hooked]\n"
    "- name: \"1\"\n"
    "  containerEdits:\n"
    "    env: [CARD=1]\n";

TEST_F(DeviceTest, ACdiDeviceIsThereAsItsFileSays) {
  const std::string dir = bed_->scratch() + "/card";
  ASSERT_TRUE(MakeDirectories(dir).ok());
  ASSERT_TRUE(WriteFile(dir + "/driver", "v1\n").ok());
  // A number without a driver: what a container may do with it is decided before that is known.
  ASSERT_EQ(mknod((dir + "/node").c_str(), S_IFCHR | 0666, makedev(60, 4)), 0) << strerror(errno);
  std::string text = kCards;
  for (size_t at; (at = text.find("@dir@")) != std::string::npos;) text.replace(at, 5, dir);
  Describe("card.yaml", text);
  EXPECT_EQ(bed_->CtlOut({"info", "--format", "{{range .DiscoveredDevices}}{{.ID}} {{end}}"}),
            "vendor.com/card=0 vendor.com/card=1 ");
  EXPECT_EQ(bed_->CtlOut({"info", "--format", "{{index .CDISpecDirs 0}}"}),
            bed_->scratch() + "/cdi");
  const std::string look =
      "echo $CARDS $CARD; cat /opt/card/driver; touch /opt/card/x 2>/dev/null || echo ro;"
      "cat /dev/card0 2>&1 | grep -o 'No such.*';"
      "(echo x > /dev/card0) 2>&1 | grep -o 'Operation.*';"
      "grep ^Groups: /proc/self/status | grep -c 4711";
  const Outcome run =
      bed_->Ctl({"run", "--rm", "--device", "vendor.com/card=0", kImage, "sh", "-c", look});
  EXPECT_EQ(run.out, "yes 0\nv1\nro\nNo such device or address\nOperation not permitted\n1\n")
      << run.err;
  struct stat info;
  EXPECT_EQ(stat((dir + "/hooked").c_str(), &info), 0);

  // What a file says is read at each start; a container without the device starts no more.
  ASSERT_TRUE(Ok(bed_->Ctl({"create", "--name", "kept", "--device", "vendor.com/card=1", kImage,
                            "sh", "-c", "echo card $CARD"})));
  EXPECT_EQ(bed_->Ctl({"start", "-a", "kept"}).out, "card 1\n");
  Describe("card.yaml",
           "cdiVersion: 0.5.0\nkind: vendor.com/card\ndevices:\n- name: \"1\"\n"
           "  containerEdits: {env: [CARD=new]}\n");
  EXPECT_EQ(bed_->Ctl({"start", "-a", "kept"}).out, "card new\n");
  EXPECT_EQ(bed_->Inspect("kept", "{{json .HostConfig.DeviceRequests}}"),
            R"([{"Driver":"cdi","Count":0,"DeviceIDs":["vendor.com/card=1"],"Capabilities":null,)"
            R"("Options":null}])");
  const Outcome refused =
      bed_->Ctl({"run", "--rm", "--device", "vendor.com/card=0", kImage, "true"});
  EXPECT_EQ(refused.code, 125);
  EXPECT_TRUE(absl::StrContains(refused.err, "vendor.com/card=0")) << refused.err;
  EXPECT_TRUE(absl::StrContains(refused.err, bed_->scratch() + "/cdi")) << refused.err;
}

TEST_F(DeviceTest, GpusAreThoseOfCdiFiles) {
  const Outcome none = bed_->Ctl({"run", "--rm", "--gpus", "all", kImage, "true"});
  EXPECT_EQ(none.code, 125);
  EXPECT_TRUE(
      absl::StrContains(none.err, "could not select device driver \"\" with capabilities: [[gpu]]"))
      << none.err;
  EXPECT_TRUE(absl::StrContains(none.err, "nvidia-ctk")) << none.err;
  Describe("nvidia.json", R"({"cdiVersion":"0.5.0","kind":"nvidia.com/gpu","devices":[)"
                          R"({"name":"0","containerEdits":{"env":["G0=yes"]}},)"
                          R"({"name":"1","containerEdits":{"env":["G1=yes"]}},)"
                          R"({"name":"all","containerEdits":{"env":["GALL=yes"]}}]})");
  const auto gpus = [&](const std::string& value) {
    return bed_->Ctl({"run", "--rm", "--gpus", value, kImage, "sh", "-c", "echo $G0 $G1 $GALL"});
  };
  EXPECT_EQ(gpus("all").out, "yes\n");
  EXPECT_EQ(gpus("2").out, "yes yes\n");
  EXPECT_EQ(gpus("device=1").out, "yes\n");
  EXPECT_EQ(gpus("3").code, 125);
}

TEST_F(DeviceTest, AnImageIsShownAndKept) {
  const std::string lower = bed_->scratch() + "/lower";
  const std::string upper = bed_->scratch() + "/upper";
  ASSERT_TRUE(MakeDirectories(lower + "/data/deep").ok());
  ASSERT_TRUE(MakeDirectories(upper + "/data").ok());
  ASSERT_TRUE(WriteFile(lower + "/data/a", "below\n").ok());
  ASSERT_TRUE(WriteFile(lower + "/data/deep/f", "deep\n").ok());
  ASSERT_TRUE(WriteFile(upper + "/data/b", "above\n").ok());
  ImageOptions options;
  options.names = {"data:test"};
  const std::string archive = bed_->scratch() + "/data.tar";
  ASSERT_TRUE(WriteDockerArchive(archive, {lower, upper}, options).ok());
  ASSERT_TRUE(Ok(bed_->Ctl({"load", "-i", archive})));

  ASSERT_TRUE(Ok(bed_->Ctl(
      {"run", "-d", "--name", "shown", "--mount", "type=image,src=data:test,dst=/data", "--mount",
       "type=image,src=data:test,dst=/deep,image-subpath=data/deep,ro", kImage, "sleep", "1000"})));
  const auto look = [&] {
    return bed_->CtlOut({"exec", "shown", "sh", "-c",
                         "cat /data/data/a /data/data/b /deep/f;"
                         "touch /data/x 2>/dev/null || echo ro"});
  };
  EXPECT_EQ(look(), "below\nabove\ndeep\nro");
  EXPECT_EQ(bed_->Inspect("shown", "{{(index .Mounts 0).Type}} {{(index .Mounts 0).RW}}"),
            "image false");
  EXPECT_EQ(bed_->Inspect("shown", "{{json .Config.Labels}}"), "{}");
  // In use it is not removed, and by force it stays for those who see it.
  EXPECT_NE(bed_->Ctl({"rmi", "data:test"}).code, 0);
  ASSERT_TRUE(Ok(bed_->Ctl({"image", "prune", "-af"})));
  EXPECT_EQ(bed_->CtlOut({"images", "-q", "data:test"}).empty(), false);
  ASSERT_TRUE(Ok(bed_->Ctl({"rmi", "-f", "data:test"})));
  ASSERT_TRUE(Ok(bed_->Ctl({"gc"})));
  ASSERT_TRUE(Ok(bed_->Ctl({"restart", "-t", "0", "shown"})));
  EXPECT_EQ(look(), "below\nabove\ndeep\nro");

  const auto refused = [&](const std::string& mount) {
    const Outcome run = bed_->Ctl({"run", "--rm", "--mount", mount, kImage, "true"});
    EXPECT_EQ(run.code, 125) << mount;
    return run.err;
  };
  EXPECT_TRUE(absl::StrContains(refused("type=image,src=none:test,dst=/x"), "none:test"));
  EXPECT_TRUE(absl::StrContains(
      refused(absl::StrCat("type=image,src=", kImage, ",dst=/x,image-subpath=no/such")),
      "no/such"));
  EXPECT_TRUE(absl::StrContains(
      refused(absl::StrCat("type=image,src=", kImage, ",dst=/x,image-subpath=../..")), "subpath"));
}

}  // namespace
}  // namespace gantry::integration
