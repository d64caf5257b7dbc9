// Damaged documents of every kind this room reads: each parse ends with a value or a status,
// whatever the bytes. What the sanitizer builds find, they find here.
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "supervisor/oci/default_profile.h"
#include "supervisor/oci/host_facts.h"
#include "supervisor/oci/image_config.h"
#include "supervisor/oci/manifest.h"
#include "supervisor/oci/platform.h"
#include "supervisor/oci/runtime_spec.h"
#include "supervisor/oci/spec_builder.h"
#include "supervisor/oci/user_lookup.h"

namespace gantry::oci {
namespace {

constexpr char kDigest[] =
    "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

std::string Seed(const std::string& text) {
  std::string out = text;
  for (size_t at; (at = out.find("DIGEST")) != std::string::npos;) out.replace(at, 6, kDigest);
  return out;
}

// `parse` says whether it accepted the bytes. Returns how many of the damaged documents it did.
int AcceptedAfterDamage(const std::string& seed,
                        const std::function<bool(const std::string&)>& parse) {
  static constexpr const char* kPieces[] = {
      "{",  "}",  "[",    "]",    "\"",      "null",     ":",
      ",",  "-1", "1e99", "true", "\\u0000", "\xff\xfe", "18446744073709551616",
      "{}", "[]", "\\",   "0",    "\"\":{}", "[[[[",     "999999999999"};
  std::mt19937 random(7);
  int accepted = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string text = seed;
    for (int changes = 1 + static_cast<int>(random() % 3); changes > 0; --changes) {
      const size_t at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, 1 + random() % 8);
          break;
        case 2:
          text.insert(at, kPieces[random() % std::size(kPieces)]);
          break;
        case 3:
          text.insert(at, text.substr(random() % text.size(), random() % 40));
          break;
      }
      if (text.empty()) text = " ";
    }
    accepted += parse(text) ? 1 : 0;
  }
  return accepted;
}

// Some damage is harmless (an unknown member), most is not.
void ExpectSome(int accepted) {
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, 4000);
}

TEST(HostileInputTest, Manifests) {
  const std::string seed = Seed(
      R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"a/b","digest":"DIGEST",)"
      R"("size":3},"layers":[{"mediaType":"c/d","digest":"DIGEST","size":4,"urls":["u"],"annotations":{"k":"v"}}]})");
  ExpectSome(AcceptedAfterDamage(seed, [](const std::string& text) {
    auto document = ParseDocument(text, "", "m");
    if (!document.ok()) return false;
    EXPECT_NE(document->manifest.has_value(), document->index.has_value());
    if (document->manifest.has_value()) {
      EXPECT_TRUE(ParseManifest(PrintManifest(*document->manifest), "", "m").ok());
    }
    return true;
  }));
}

TEST(HostileInputTest, Indexes) {
  const std::string seed = Seed(
      R"({"schemaVersion":2,"manifests":[{"mediaType":"a/b","digest":"DIGEST","size":3,"platform":{"os":"linux",)"
      R"("architecture":"arm","variant":"v7","os.features":["x"]}}],"subject":{"mediaType":"a/b","digest":"DIGEST","size":1}})");
  ExpectSome(AcceptedAfterDamage(seed, [](const std::string& text) {
    auto index = ParseIndex(text, "", "i");
    if (!index.ok()) return false;
    SelectManifests(index->manifests, PlatformMatcher::Host());
    EXPECT_TRUE(ParseIndex(PrintIndex(*index), "", "i").ok());
    return true;
  }));
}

TEST(HostileInputTest, ImageConfigs) {
  const std::string seed = Seed(
      R"({"os":"linux","config":{"Env":["A=b"],"Cmd":["x"],"Volumes":{"/v":{}},"Labels":{"a":"b"},"Healthcheck":{"Test":["NONE"],)"
      R"("Interval":5}},"rootfs":{"type":"layers","diff_ids":["DIGEST"]},"history":[{"created_by":"x","empty_layer":true}]})");
  ExpectSome(AcceptedAfterDamage(seed, [](const std::string& text) {
    auto config = ParseImageConfig(text, "c");
    if (!config.ok()) return false;
    EXPECT_TRUE(ParseImageConfig(PrintImageConfig(*config), "c").ok());
    return true;
  }));
}

TEST(HostileInputTest, RuntimeSpecs) {
  const std::string seed =
      R"({"ociVersion":"1.3.0","process":{"terminal":true,"user":{"uid":5},"args":["sh"],"env":["A=1"],"cwd":"/",)"
      R"("rlimits":[{"type":"RLIMIT_NOFILE","soft":1,"hard":2}],"oomScoreAdj":-5},"root":{"path":"r"},"annotations":{"k":"v"},)"
      R"("linux":{"namespaces":[{"type":"pid","path":"/x"}],"resources":{"memory":{"limit":100}}}})";
  HostFacts host;
  host.may_raise_rlimits = false;
  host.may_lower_oom_score = false;
  host.hard_rlimits["RLIMIT_NOFILE"] = 1;
  ExpectSome(AcceptedAfterDamage(seed, [&](const std::string& text) {
    auto spec = RuntimeSpec::Parse(text);
    if (!spec.ok()) return false;
    spec->LowerVersion("1.0.2");
    spec->ClampToHost(host);
    spec->SetRootPath("/r");
    spec->SetEnv("A", "2");
    spec->SetNamespace("pid", "");
    spec->SetCgroupsPath("/c");
    (void)BuildExecProcess(*spec, {.args = {"x"}}, std::nullopt, host);
    EXPECT_TRUE(RuntimeSpec::Parse(spec->Print()).ok()) << text;
    return true;
  }));
}

TEST(HostileInputTest, SeccompProfiles) {
  const std::string seed =
      R"({"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],)"
      R"("syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}],)"
      R"("includes":{"caps":["CAP_X"],"minKernel":"4.8"},"excludes":{"arches":["arm"]}}]})";
  ExpectSome(AcceptedAfterDamage(seed, [](const std::string& text) {
    auto resolved = ResolveSeccomp(text, HostFacts(), {});
    return resolved.ok() && ResolveSeccomp(*resolved, HostFacts(), {}).ok();
  }));
}

TEST(HostileInputTest, UserFilesNeverMakeARoot) {
  const std::string seed =
      "web:x:33:33::/w:/bin/sh\nroot:x:0:0::/root:/bin/sh\nu:x:4294967296:4294967296::/:\n";
  ExpectSome(AcceptedAfterDamage(seed, [](const std::string& text) {
    UserDatabase database;
    database.passwd = text;
    database.group = text;
    for (const char* number : {"33", "77", "4294967296", "033"}) {
      auto user = ResolveUser(database, number);
      if (user.ok()) {
        EXPECT_NE(user->uid, 0u) << text;
      }
    }
    return ResolveUser(database, "web").ok();
  }));
}

}  // namespace
}  // namespace gantry::oci
