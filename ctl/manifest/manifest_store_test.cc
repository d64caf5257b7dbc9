#include "ctl/manifest/manifest_store.h"

#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::ctl {
namespace {

using engine::Value;

Value Manifest(const std::string& ref, const std::string& arch) {
  Value platform = Value::EmptyObject();
  platform.Set("architecture", arch);
  platform.Set("os", arch.empty() ? "" : "linux");
  Value descriptor = Value::EmptyObject();
  descriptor.Set("mediaType", "application/vnd.oci.image.manifest.v1+json");
  descriptor.Set("digest", "sha256:" + std::string(64, 'a'));
  descriptor.Set("size", 7);
  descriptor.Set("platform", std::move(platform));
  Value out = Value::EmptyObject();
  out.Set("Ref", ref);
  out.Set("Descriptor", std::move(descriptor));
  return out;
}

TEST(FullReferenceTest, MissingPartsAreDockers) {
  EXPECT_EQ(FullReference("app").value(), "docker.io/library/app:latest");
  EXPECT_EQ(FullReference("me/app:1").value(), "docker.io/me/app:1");
  EXPECT_EQ(FullReference("localhost:5000/a/b").value(), "localhost:5000/a/b:latest");
  EXPECT_EQ(FullReference("docker.io/app:1").value(), "docker.io/library/app:1");
  const std::string digest = "sha256:" + std::string(64, '0');
  EXPECT_EQ(FullReference("app:1@" + digest).value(), "docker.io/library/app@" + digest);
}

TEST(FullReferenceTest, WhatIsNoReferenceIsRefused) {
  for (const char* text : {"", "App", "app:", "app:a/../b", "../x", "a//b", "app@sha256:1", "a b",
                           "registry:5000/", "app:1:2"}) {
    EXPECT_FALSE(FullReference(text).ok()) << text;
  }
}

TEST(ManifestStoreTest, KeepsListsWhereDockerDoes) {
  const TempDir home;
  const ManifestStore store({{"DOCKER_CONFIG", home.path()}});
  const std::string list = "docker.io/library/app:1";
  EXPECT_TRUE(absl::IsNotFound(store.List(list).status()));
  ASSERT_TRUE(store.Put(list, "localhost:5000/a:amd64", Manifest("a", "amd64")).ok());
  ASSERT_TRUE(store.Put(list, "localhost:5000/a:arm64", Manifest("b", "arm64")).ok());
  EXPECT_TRUE(
      ReadFile(home.path() + "/manifests/docker.io_library_app-1/localhost-5000_a-amd64", 1 << 16)
          .ok());
  EXPECT_EQ(store.List(list).value().size(), 2u);
  EXPECT_TRUE(store.Find(list, "localhost:5000/a:arm64").ok());
  EXPECT_TRUE(absl::IsNotFound(store.Find(list, "localhost:5000/a:none").status()));
  ASSERT_TRUE(store.Remove(list).ok());
  EXPECT_TRUE(absl::IsNotFound(store.Remove(list)));
}

TEST(ManifestStoreTest, AFileThatIsNoManifestIsNamed) {
  const TempDir home;
  const ManifestStore store({{"DOCKER_CONFIG", home.path()}});
  ASSERT_TRUE(store.Put("l", "m", Manifest("m", "amd64")).ok());
  ASSERT_TRUE(WriteFile(home.path() + "/manifests/l/m", "[]").ok());
  const absl::Status refused = store.List("l").status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(refused.message(), "/manifests/l/m")) << refused;
}

TEST(ManifestListTest, HasDockersFields) {
  const auto document = ManifestListDocument("l", {Manifest("a", "arm64")});
  ASSERT_TRUE(document.ok()) << document.status();
  EXPECT_TRUE(absl::StrContains(*document, "\n   \"schemaVersion\": 2,\n")) << *document;
  EXPECT_TRUE(absl::StrContains(*document, "\"architecture\": \"arm64\"")) << *document;
}

TEST(ManifestListTest, AManifestOfNoPlatformIsRefused) {
  const absl::Status refused = ManifestListDocument("l", {Manifest("a", "")}).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(refused.message(), "manifest annotate")) << refused;
}

}  // namespace
}  // namespace gantry::ctl
