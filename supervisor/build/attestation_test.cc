#include "supervisor/build/attestation.h"

#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "supervisor/build/sbom.h"

namespace gantry::build {
namespace {

using engine::Value;

const Value& At(const Value& value, std::initializer_list<const char*> path) {
  const Value* at = &value;
  for (const char* key : path) {
    at = at->Find(key);
    if (at == nullptr) {
      ADD_FAILURE() << "no " << key << " in " << value.ToJson();
      static const Value& none = *new Value();
      return none;
    }
  }
  return *at;
}

class ProvenanceTest : public testing::Test {
 protected:
  ProvenanceTest() {
    v1::BuildArgument& argument = *request_.add_arguments();
    argument.set_name("TOKEN");
    argument.set_value("hush");
    v1::BuildSecret& secret = *request_.add_secrets();
    secret.set_id("key");
    secret.set_value("deadly");
    request_.set_has_context(true);
    request_.mutable_attestations()->set_provenance(v1::BuildAttestations::MIN);
    facts_.request = &request_;
    facts_.id = "build-1";
    facts_.dockerfile = "Dockerfile";
    facts_.dockerfile_text = "FROM base\n";
    facts_.builder = {"linux", "amd64", "", "", {}};
    facts_.materials = {{"pkg:docker/base@latest?platform=linux%2Famd64", "sha256:abc"},
                        {"https://example.com/app.git", "0123456789"}};
    facts_.steps = {"FROM base", "RUN make"};
    facts_.started = absl::FromUnixSeconds(1);
    facts_.finished = absl::FromUnixSeconds(2);
  }
  v1::BuildRequest::Open request_;
  BuildFacts facts_;
};

TEST_F(ProvenanceTest, TheNewerFormSaysWhatWasBuiltFrom) {
  EXPECT_EQ(ProvenanceType(request_.attestations()), "https://slsa.dev/provenance/v1");
  const Value predicate = Provenance(facts_);
  const Value& dependencies = At(predicate, {"buildDefinition", "resolvedDependencies"});
  ASSERT_EQ(dependencies.list().size(), 2u);
  EXPECT_EQ(At(dependencies.list()[0], {"digest", "sha256"}).string(), "abc");
  EXPECT_EQ(At(dependencies.list()[1], {"digest", "sha1"}).string(), "0123456789");
  EXPECT_EQ(
      At(predicate, {"buildDefinition", "externalParameters", "configSource", "path"}).string(),
      "Dockerfile");
  EXPECT_EQ(At(predicate, {"runDetails", "metadata", "startedOn"}).string(),
            "1970-01-01T00:00:01+00:00");
  EXPECT_EQ(At(predicate, {"runDetails", "metadata", "invocationId"}).string(), "build-1");
}

TEST_F(ProvenanceTest, TheSmallerKindHasNoArgumentsAndNoneHasSecrets) {
  for (const char* version : {"v1", "v0.2"}) {
    request_.mutable_attestations()->set_slsa_version(version);
    request_.mutable_attestations()->set_provenance(v1::BuildAttestations::MIN);
    std::string text = Provenance(facts_).ToJson();
    EXPECT_FALSE(absl::StrContains(text, "hush")) << text;
    EXPECT_FALSE(absl::StrContains(text, "RUN make")) << text;
    EXPECT_TRUE(absl::StrContains(text, "\"key\"")) << text;
    request_.mutable_attestations()->set_provenance(v1::BuildAttestations::MAX);
    text = Provenance(facts_).ToJson();
    EXPECT_TRUE(absl::StrContains(text, "build-arg:TOKEN")) << text;
    EXPECT_TRUE(absl::StrContains(text, "RUN make")) << text;
    EXPECT_TRUE(absl::StrContains(text, "RlJPTSBiYXNlCg==")) << text;
    EXPECT_FALSE(absl::StrContains(text, "deadly")) << text;
  }
}

TEST_F(ProvenanceTest, TheOlderFormHasItsOwnWords) {
  request_.mutable_attestations()->set_slsa_version("v0.2");
  EXPECT_EQ(ProvenanceType(request_.attestations()), "https://slsa.dev/provenance/v0.2");
  const Value predicate = Provenance(facts_);
  EXPECT_EQ(At(predicate, {"buildType"}).string(), "https://mobyproject.org/buildkit@v1");
  EXPECT_EQ(At(predicate, {"materials"}).list().size(), 2u);
  EXPECT_EQ(At(predicate, {"invocation", "environment", "platform"}).string(), "linux/amd64");
  EXPECT_EQ(At(predicate, {"metadata", "buildFinishedOn"}).string(), "1970-01-01T00:00:02+00:00");
}

TEST_F(ProvenanceTest, AStatementNamesTheImage) {
  const content::Digest subject = content::Digest::Sha256Of("image");
  const auto statement =
      Value::FromJson(Statement(kSpdxPredicate, Value::EmptyObject(),
                                {"registry.example.com:5000/a/b:v1"}, facts_.builder, subject));
  ASSERT_TRUE(statement.ok()) << statement.status();
  EXPECT_EQ(At(*statement, {"_type"}).string(), "https://in-toto.io/Statement/v0.1");
  EXPECT_EQ(At(*statement, {"predicateType"}).string(), kSpdxPredicate);
  const Value& first = At(*statement, {"subject"}).list()[0];
  EXPECT_EQ(At(first, {"name"}).string(),
            "pkg:docker/registry.example.com%3A5000/a/b@v1?platform=linux%2Famd64");
  EXPECT_EQ(At(first, {"digest", "sha256"}).string(), subject.hex());
}

class SbomTest : public testing::Test {
 protected:
  void File(const std::string& path, const std::string& text) {
    const std::string whole = root_.path() + path;
    ASSERT_TRUE(MakeDirectories(whole.substr(0, whole.rfind('/')), 0755).ok());
    ASSERT_TRUE(WriteFile(whole, text).ok());
  }
  absl::StatusOr<PackageList> List() {
    const UniqueFd root(open(root_.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return ListPackages(root.get());
  }
  TempDir root_;
};

TEST_F(SbomTest, DebianPackagesThatAreInstalled) {
  File("/etc/os-release", "NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n");
  File("/var/lib/dpkg/status",
       "Package: zlib1g\nStatus: install ok installed\nSource: zlib\nVersion: 1:1.2.13+1\n"
       "Architecture: amd64\nMaintainer: A <a@b>\nDescription: text\n more text\n Version: no\n\n"
       "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"
       "Package: adduser\nStatus: install ok installed\nVersion: 3.134\nArchitecture: all\n");
  File("/var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12\nArchitecture: amd64\n");
  const auto list = List();
  ASSERT_TRUE(list.ok()) << list.status();
  ASSERT_EQ(list->packages.size(), 3u);
  EXPECT_EQ(list->packages[0].name, "adduser");
  EXPECT_EQ(list->packages[2].version, "1:1.2.13+1");
  const std::string text = SpdxDocument(*list, "app", absl::FromUnixSeconds(0)).ToJson();
  EXPECT_TRUE(absl::StrContains(
      text, "pkg:deb/debian/zlib1g@1%3A1.2.13%2B1?arch=amd64&distro=debian-12&upstream=zlib"))
      << text;
  EXPECT_TRUE(absl::StrContains(text, "\"spdxVersion\":\"SPDX-2.3\"")) << text;
  EXPECT_EQ(text, SpdxDocument(*list, "app", absl::FromUnixSeconds(0)).ToJson());
}

TEST_F(SbomTest, AlpinePackages) {
  File("/etc/os-release", "ID=alpine\nVERSION_ID=3.20.1\n");
  File("/lib/apk/db/installed",
       "C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\nF:lib\nR:ld.so\n\nP:busybox\nV:1\n");
  const auto list = List();
  ASSERT_TRUE(list.ok()) << list.status();
  ASSERT_EQ(list->packages.size(), 2u);
  EXPECT_EQ(list->packages[1].license, "MIT");
  EXPECT_TRUE(absl::StrContains(SpdxDocument(*list, "app", absl::UnixEpoch()).ToJson(),
                                "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1"));
}

TEST_F(SbomTest, ADatabaseThatIsALinkToTheHostIsNotRead) {
  TempDir outside;
  ASSERT_TRUE(WriteFile(outside.path() + "/status", "Package: host\nVersion: 1\n").ok());
  ASSERT_TRUE(MakeDirectories(root_.path() + "/var/lib/dpkg", 0755).ok());
  ASSERT_EQ(symlink((outside.path() + "/status").c_str(),
                    (root_.path() + "/var/lib/dpkg/status").c_str()),
            0);
  const auto list = List();
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_TRUE(list->packages.empty());
  EXPECT_TRUE(
      absl::StrContains(SpdxDocument(*list, "app", absl::UnixEpoch()).ToJson(), "\"packages\":[]"));
}

}  // namespace
}  // namespace gantry::build
