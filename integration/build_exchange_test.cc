// What builds exchange with other places: caches, several platforms, forms of images, what is said
// about them, layouts and keys.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "integration/images.h"
#include "integration/testbed.h"
#include "supervisor/distribution/docker_registry.h"

namespace gantry::integration {
namespace {

using distribution::DockerRegistry;
using nlohmann::json;

constexpr char kBase[] = "busybox:test";
// Its result is another one each time.
constexpr char kRandom[] =
    "FROM busybox:test AS made\n"
    "RUN cat /proc/sys/kernel/random/uuid > /id\n"
    "FROM busybox:test\n"
    "COPY --from=made /id /id\n"
    "RUN cat /proc/sys/kernel/random/uuid > /own\n";

class BuildExchangeTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    bed_ = Bed();
    ASSERT_TRUE(bed_->LoadBusybox(kBase));
    context_ = bed_->scratch() + "/context";
    std::filesystem::create_directories(context_);
  }
  static std::unique_ptr<Testbed> Bed() {
    Testbed::Options options;
    options.config = "[network]\ndefault = \"none\"\n";
    return std::make_unique<Testbed>(options);
  }
  // Another machine, with the same base image.
  std::unique_ptr<Testbed> Other() {
    std::unique_ptr<Testbed> other = Bed();
    EXPECT_TRUE(Ok(other->Ctl({"load", "-i", bed_->scratch() + "/busybox.tar"})));
    return other;
  }
  void File(const std::string& path, const std::string& content) {
    const std::string whole = absl::StrCat(context_, "/", path);
    std::filesystem::create_directories(std::filesystem::path(whole).parent_path());
    ASSERT_TRUE(WriteFile(whole, content).ok());
  }
  Outcome BuildOn(Testbed& bed, const std::string& dockerfile, std::vector<std::string> args = {}) {
    File("Dockerfile", dockerfile);
    args.insert(args.begin(), {"build", "--progress", "plain", "-t", "made"});
    args.push_back(context_);
    return bed.Ctl(std::move(args));
  }
  Outcome Build(const std::string& dockerfile, std::vector<std::string> args = {}) {
    return BuildOn(*bed_, dockerfile, std::move(args));
  }
  static std::string In(Testbed& bed, std::vector<std::string> command) {
    command.insert(command.begin(), {"run", "--rm", "made"});
    return bed.CtlOut(std::move(command));
  }
  // The layout in a tar of type=oci: what is in it, and its documents.
  struct Layout {
    std::string directory;
    json index;
    json Blob(const json& descriptor) const {
      const std::string digest = descriptor["digest"];
      return json::parse(
          ReadFile(absl::StrCat(directory, "/blobs/sha256/", digest.substr(7)), 1 << 24).value());
    }
  };
  Layout OciBuild(const std::string& dockerfile, const std::string& output,
                  std::vector<std::string> args = {}) {
    static int number = 0;
    Layout layout;
    layout.directory = absl::StrCat(bed_->scratch(), "/layout-", ++number);
    args.insert(args.end(),
                {"-o", absl::StrCat("type=oci,tar=false,dest=", layout.directory, output)});
    const Outcome built = Build(dockerfile, std::move(args));
    EXPECT_TRUE(Ok(built));
    layout.index = json::parse(ReadFile(layout.directory + "/index.json", 1 << 20).value_or("{}"));
    return layout;
  }

  std::unique_ptr<Testbed> bed_;
  std::string context_;
};

TEST_F(BuildExchangeTest, AnotherMachineTakesStepsOutOfALocalCache) {
  const std::string cache = bed_->scratch() + "/cache";
  ASSERT_TRUE(Ok(Build(kRandom, {"--cache-to", "type=local,mode=max,dest=" + cache})));
  const std::string id = In(*bed_, {"cat", "/id", "/own"});
  const std::unique_ptr<Testbed> other = Other();
  const Outcome built = BuildOn(*other, kRandom, {"--cache-from", "type=local,src=" + cache});
  ASSERT_TRUE(Ok(built));
  EXPECT_EQ(In(*other, {"cat", "/id", "/own"}), id) << built.err;
  // What came from elsewhere is for builds that name it.
  ASSERT_TRUE(Ok(BuildOn(*other, kRandom)));
  EXPECT_NE(In(*other, {"cat", "/id", "/own"}), id);
  ASSERT_TRUE(Ok(BuildOn(*other, kRandom, {"--cache-from", "type=local,src=" + cache})));
}

TEST_F(BuildExchangeTest, TheSmallerCacheHasTheResultsLayersOnly) {
  const std::string cache = bed_->scratch() + "/cache";
  ASSERT_TRUE(Ok(Build(kRandom, {"--cache-to", "type=local,dest=" + cache})));
  const std::string ids = In(*bed_, {"cat", "/id", "/own"});
  const std::unique_ptr<Testbed> other = Other();
  // The first stage is done again, so the copy of its file is another one.
  ASSERT_TRUE(Ok(BuildOn(*other, kRandom, {"--cache-from", "type=local,src=" + cache})));
  EXPECT_NE(In(*other, {"cat", "/id", "/own"}), ids);
}

TEST_F(BuildExchangeTest, CachesInARegistryAndInImages) {
  auto started = DockerRegistry::Start(false, DockerRegistry::Auth::kNone);
  if (!started.ok()) GTEST_SKIP() << started.status();
  const std::string host = (*started)->host();
  constexpr char kText[] = "FROM busybox:test\nRUN cat /proc/sys/kernel/random/uuid > /id\n";
  ASSERT_TRUE(Ok(Build(
      kText,
      {"--cache-to", absl::StrCat("type=registry,mode=max,ref=", host, "/app:cache"), "--cache-to",
       "type=inline", "-o", absl::StrCat("type=registry,name=", host, "/app:v1")})));
  // Out of the cache, and into the store this time.
  ASSERT_TRUE(Ok(Build(kText)));
  const std::string id = In(*bed_, {"cat", "/id"});
  for (const char* from : {"/app:cache", "/app:v1"}) {
    const std::unique_ptr<Testbed> other = Other();
    const Outcome built = BuildOn(*other, kText, {"--cache-from", host + from});
    ASSERT_TRUE(Ok(built));
    EXPECT_EQ(In(*other, {"cat", "/id"}), id) << from << "\n" << built.err;
    // A cache that is not there costs a message.
    const Outcome missing = BuildOn(*other, kText, {"--cache-from", host + "/none:none"});
    ASSERT_TRUE(Ok(missing));
    EXPECT_TRUE(absl::StrContains(missing.err, "no cache from there")) << missing.err;
  }
  // One that cannot be written ends the build, unless it shall not matter.
  EXPECT_FALSE(Build(kText, {"--cache-to", "127.0.0.1:1/none"}).ok());
  EXPECT_TRUE(
      Ok(Build(kText, {"--cache-to", "type=registry,ignore-error=true,ref=127.0.0.1:1/none"})));
}

TEST_F(BuildExchangeTest, AnImageIsPushedByItsDigestAlone) {
  auto started = DockerRegistry::Start(false, DockerRegistry::Auth::kNone);
  if (!started.ok()) GTEST_SKIP() << started.status();
  const std::string host = (*started)->host();
  const std::string ids = bed_->scratch() + "/id";
  File("Dockerfile", kRandom);
  const auto push = [&](const std::string& name) {
    return bed_->Ctl({"build", "--progress", "plain", "--iidfile", ids, "-o",
                      absl::StrCat("type=image,push=true,push-by-digest=true,name=", name),
                      context_});
  };
  ASSERT_TRUE(Ok(push(host + "/app")));
  const std::string digest = ReadFile(ids, 100).value();
  EXPECT_TRUE(Ok(bed_->Ctl({"pull", absl::StrCat(host, "/app@", digest)})));
  EXPECT_FALSE(bed_->Ctl({"pull", host + "/app:latest"}).ok());
  EXPECT_THAT(push(host + "/app:tag").err, testing::HasSubstr("can't push tagged ref by digest"));
}

TEST_F(BuildExchangeTest, ACacheWithOtherBytesIsNotTaken) {
  const std::string cache = bed_->scratch() + "/cache";
  constexpr char kText[] = "FROM busybox:test\nRUN echo good > /word\n";
  ASSERT_TRUE(Ok(Build(kText, {"--cache-to", "type=local,dest=" + cache})));
  // Every blob but the documents becomes another one of the same length.
  for (const auto& blob : std::filesystem::directory_iterator(cache + "/blobs/sha256")) {
    std::string bytes = ReadFile(blob.path(), 1 << 24).value();
    if (bytes[0] == '{') continue;
    bytes.back() ^= 1;
    ASSERT_TRUE(WriteFile(blob.path(), bytes).ok());
  }
  const std::unique_ptr<Testbed> other = Other();
  const Outcome built = BuildOn(*other, kText, {"--cache-from", "type=local,src=" + cache});
  ASSERT_TRUE(Ok(built));
  EXPECT_FALSE(absl::StrContains(built.err, "CACHED")) << built.err;
  EXPECT_EQ(In(*other, {"cat", "/word"}), "good");
}

TEST_F(BuildExchangeTest, SeveralPlatformsMakeAnIndex) {
  File("file", "content\n");
  const Layout layout = OciBuild(
      "FROM --platform=$BUILDPLATFORM busybox:test AS tools\nARG TARGETARCH\n"
      "RUN echo $TARGETARCH > /arch\n"
      "FROM scratch\nCOPY --from=tools /arch /arch\nCOPY file /file\n",
      "", {"--platform", "linux/amd64,linux/arm64"});
  const json index = layout.Blob(layout.index["manifests"][0]);
  ASSERT_EQ(index["manifests"].size(), 2u) << index;
  EXPECT_EQ(index["manifests"][0]["platform"]["architecture"], "amd64");
  EXPECT_EQ(index["manifests"][1]["platform"]["architecture"], "arm64");
  const json config = layout.Blob(layout.Blob(index["manifests"][1])["config"]);
  EXPECT_EQ(config["architecture"], "arm64");
  // As directories.
  const std::string files = bed_->scratch() + "/files";
  ASSERT_TRUE(Ok(Build("FROM scratch\nCOPY file /file\n",
                       {"--platform", "linux/amd64,linux/arm64", "-o", files})));
  EXPECT_TRUE(std::filesystem::is_regular_file(files + "/linux_amd64/file"));
  EXPECT_TRUE(std::filesystem::is_regular_file(files + "/linux_arm64/file"));
}

TEST_F(BuildExchangeTest, ACommandOfAnotherPlatformIsRefusedBeforeAnythingRuns) {
  const Outcome refused = Build("FROM scratch AS first\nCOPY Dockerfile /x\nFROM first\nRUN true\n",
                                {"--platform", "linux/amd64,linux/s390x"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_TRUE(absl::StrContains(refused.err, "Dockerfile:4: RUN")) << refused.err;
  EXPECT_TRUE(absl::StrContains(refused.err, "linux/s390x")) << refused.err;
  EXPECT_FALSE(absl::StrContains(refused.err, "] COPY Dockerfile")) << "a step was begun";
}

TEST_F(BuildExchangeTest, TheFormOfAnImage) {
  constexpr char kText[] = "FROM busybox:test\nRUN echo 1 > /a\nRUN echo 2 > /b\n";
  Layout layout = OciBuild(kText, ",compression=zstd,annotation.a=1");
  json manifest = layout.Blob(layout.index["manifests"][0]);
  EXPECT_EQ(manifest["annotations"]["a"], "1");
  const size_t layers = manifest["layers"].size();
  EXPECT_THAT(std::string(manifest["layers"][layers - 1]["mediaType"]), testing::EndsWith("zstd"));
  EXPECT_THAT(std::string(manifest["layers"][0]["mediaType"]),
              testing::Not(testing::EndsWith("zstd")));
  layout = OciBuild(kText, ",compression=uncompressed,force-compression=true,oci-mediatypes=false");
  manifest = layout.Blob(layout.index["manifests"][0]);
  EXPECT_EQ(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
  for (const json& layer : manifest["layers"])
    EXPECT_EQ(layer["mediaType"], "application/vnd.docker.image.rootfs.diff.tar");
  // The store takes the same forms, and runs them.
  ASSERT_TRUE(Ok(Build(kText, {"-o", "type=image,compression=zstd,compression-level=3"})));
  EXPECT_EQ(In(*bed_, {"cat", "/a", "/b"}), "1\n2");
  for (const char* wrong : {"type=oci,compression=rar", "type=oci,compresion=gzip", "type=nothing",
                            "type=oci,compression-level=99"})
    EXPECT_EQ(Build(kText, {"-o", wrong}).code, 1) << wrong;
}

TEST_F(BuildExchangeTest, LimitedTimesGiveTheSameImageEachTime) {
  constexpr char kText[] = "FROM busybox:test\nARG SOURCE_DATE_EPOCH\nRUN echo 1 > /a\n";
  std::vector<std::string> digests;
  ASSERT_EQ(setenv("SOURCE_DATE_EPOCH", "1700000000", 1), 0);
  for (int round = 0; round < 2; ++round) {
    const Layout layout = OciBuild(kText, ",rewrite-timestamp=true", {"--no-cache"});
    digests.push_back(layout.index["manifests"][0]["digest"]);
    sleep(1);  // so that the files of the second round have other times
  }
  unsetenv("SOURCE_DATE_EPOCH");
  EXPECT_EQ(digests[0], digests[1]);
}

TEST_F(BuildExchangeTest, WhatIsSaidAboutAnImage) {
  File("status", "Package: zlib1g\nStatus: install ok installed\nVersion: 1.2\n\n");
  const Layout layout =
      OciBuild("FROM busybox:test\nARG WORD\nCOPY status /var/lib/dpkg/status\n", "",
               {"--provenance", "max", "--sbom", "true", "--build-arg", "WORD=spoken"});
  const json index = layout.Blob(layout.index["manifests"][0]);
  ASSERT_EQ(index["manifests"].size(), 2u) << index;
  const json& described = index["manifests"][1];
  EXPECT_EQ(described["platform"]["os"], "unknown");
  EXPECT_EQ(described["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
  EXPECT_EQ(described["annotations"]["vnd.docker.reference.digest"],
            index["manifests"][0]["digest"]);
  const json manifest = layout.Blob(described);
  ASSERT_EQ(manifest["layers"].size(), 2u);
  const json sbom = layout.Blob(manifest["layers"][0]);
  EXPECT_EQ(sbom["predicateType"], "https://spdx.dev/Document");
  EXPECT_EQ(sbom["predicate"]["packages"][0]["name"], "zlib1g");
  EXPECT_EQ(absl::StrCat("sha256:", std::string(sbom["subject"][0]["digest"]["sha256"])),
            index["manifests"][0]["digest"]);
  const json provenance = layout.Blob(manifest["layers"][1]);
  EXPECT_EQ(provenance["predicateType"], "https://slsa.dev/provenance/v1");
  EXPECT_TRUE(absl::StrContains(provenance.dump(), "spoken"));
  EXPECT_TRUE(absl::StrContains(provenance.dump(), "pkg:docker/busybox@test"));
  // An image with attestations runs like any other.
  ASSERT_TRUE(Ok(Build("FROM busybox:test\nRUN echo x > /x\n", {"--provenance", "min"})));
  EXPECT_EQ(In(*bed_, {"cat", "/x"}), "x");
}

TEST_F(BuildExchangeTest, AnOciLayoutIsABase) {
  const Layout layout = OciBuild("FROM busybox:test\nRUN echo inside > /word\n", "");
  ASSERT_TRUE(Ok(Build("FROM base\nCOPY --from=base /word /copy\n",
                       {"--build-context", "base=oci-layout://" + layout.directory})));
  EXPECT_EQ(In(*bed_, {"cat", "/word", "/copy"}), "inside\ninside");
  const Outcome missing =
      Build("FROM base\n", {"--build-context", "base=oci-layout://" + context_});
  EXPECT_TRUE(absl::StrContains(missing.err, "no OCI layout")) << missing.err;
}

TEST_F(BuildExchangeTest, AStepSignsWithTheClientsKey) {
  if (!RunProgram({"ssh-keygen", "-?"}).err.size()) GTEST_SKIP() << "there is no ssh-keygen";
  const std::string key = bed_->scratch() + "/key";
  ASSERT_TRUE(Ok(RunProgram({"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key})));
  // The program with what it is linked to.
  const Outcome linked = RunProgram({"ldd", "/usr/bin/ssh-keygen"});
  ASSERT_TRUE(Ok(linked));
  std::string rest = linked.out;
  for (const absl::string_view line : absl::StrSplit(linked.out, '\n')) {
    for (const absl::string_view word : absl::StrSplit(line, absl::ByAnyChar(" \t"))) {
      if (!absl::StartsWith(word, "/")) continue;
      const std::string to = absl::StrCat(context_, "/root", word);
      std::filesystem::create_directories(std::filesystem::path(to).parent_path());
      std::filesystem::copy_file(std::string(word), to,
                                 std::filesystem::copy_options::overwrite_existing);
    }
  }
  std::filesystem::create_directories(context_ + "/root/usr/bin");
  std::filesystem::copy_file("/usr/bin/ssh-keygen", context_ + "/root/usr/bin/ssh-keygen");
  std::filesystem::copy_file(key + ".pub", context_ + "/key.pub");
  File("passwd", "root:x:0:0:root:/root:/bin/sh\n");
  const Outcome built = Build(
      "FROM busybox:test\nCOPY root /\nCOPY passwd /etc/passwd\nCOPY key.pub /key.pub\n"
      "RUN echo words > /words\n"
      "RUN --mount=type=ssh,required /usr/bin/ssh-keygen -q -Y sign -f /key.pub -n file /words\n",
      {"--ssh", "default=" + key});
  ASSERT_TRUE(Ok(built));
  const std::string signature = bed_->scratch() + "/words.sig";
  ASSERT_TRUE(WriteFile(signature, In(*bed_, {"cat", "/words.sig"}) + "\n").ok());
  ASSERT_TRUE(WriteFile(bed_->scratch() + "/allowed",
                        absl::StrCat("me ", ReadFile(key + ".pub", 4096).value()))
                  .ok());
  const Outcome verified =
      RunProgram({"sh", "-c",
                  absl::StrCat("echo words | ssh-keygen -Y verify -f ", bed_->scratch(),
                               "/allowed -I me -n file -s ", signature)});
  EXPECT_TRUE(Ok(verified));
  // The key is neither in the image nor left in an agent.
  EXPECT_FALSE(Build("FROM busybox:test\nRUN --mount=type=ssh,required true\n").ok());
}

}  // namespace
}  // namespace gantry::integration
