// Documents of images and runtimes, and the words people write in them. The first byte chooses the
// parser.
#include <stdlib.h>

#include <string>
#include <vector>

#include "base/fuzz/fuzz.h"
#include "supervisor/oci/config_change.h"
#include "supervisor/oci/image_config.h"
#include "supervisor/oci/manifest.h"
#include "supervisor/oci/platform.h"
#include "supervisor/oci/runtime_spec.h"
#include "supervisor/oci/spec_builder.h"
#include "supervisor/oci/user_lookup.h"

namespace gantry {
namespace {

constexpr char kDigest[] =
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

void Require(bool holds) {
  if (!holds) abort();
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  const std::string descriptor =
      std::string(R"({"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":")") +
      kDigest + R"(","size":32,"annotations":{"a":"b"}})";
  return {
      std::string("0") +
          R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":)" +
          descriptor + R"(,"layers":[)" + descriptor + "]}",
      std::string("0") +
          R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[)" +
          descriptor + "]}",
      std::string("1") +
          R"({"os":"linux","architecture":"arm","variant":"v7","config":{"Env":["A=b"],"Cmd":["x"],)"
          R"("ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["CMD","x"],"Interval":5}},)"
          R"("rootfs":{"type":"layers","diff_ids":[")" +
          kDigest + R"("]},"history":[{"created_by":"x","empty_layer":true}]})",
      std::string("2") +
          R"({"ociVersion":"1.0.2","process":{"args":["sh"],"cwd":"/","user":{"uid":1,"gid":2},)"
          R"("rlimits":[{"type":"RLIMIT_NOFILE","hard":9,"soft":9}]},"linux":{"namespaces":)"
          R"([{"type":"pid"}],"resources":{"memory":{"limit":9},"blockIO":{"throttleReadBpsDevice":)"
          R"([{"major":8,"minor":0,"rate":1}]}}}})",
      "3root:x:0:0:root:/root:/bin/sh\njoe:x:1000:1000::/home/joe:/bin/sh\nusers:x:100:joe,root\n",
      "4ENV PATH=/opt:$PATH A=\"b c\" D='e'",
      "4HEALTHCHECK --interval=5s --retries=3 CMD [\"a\", \"b\"]",
      "5linux/arm64/v8",
      "6nofile=1024:2048",
      "7seccomp={\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"],"
      "\"action\":\"SCMP_ACT_ALLOW\"}]}",
  };
}

void FuzzOne(absl::string_view bytes) {
  if (bytes.empty()) return;
  const char which = bytes[0];
  bytes.remove_prefix(1);
  switch (which) {
    case '0': {
      absl::StatusOr<oci::Document> document = oci::ParseDocument(bytes, "", "input");
      if (!document.ok()) break;
      Require(document->manifest.has_value() != document->index.has_value());
      (void)oci::ChildLabels(*document);
      if (document->manifest.has_value()) {
        const std::string printed = oci::PrintManifest(*document->manifest);
        Require(oci::ParseManifest(printed, "", "printed").ok());
      }
      break;
    }
    case '1':
      if (absl::StatusOr<oci::ImageConfig> config = oci::ParseImageConfig(bytes, "input");
          config.ok()) {
        (void)oci::PrintImageConfig(*config);
      }
      break;
    case '2':
      if (absl::StatusOr<oci::RuntimeSpec> spec = oci::RuntimeSpec::Parse(bytes); spec.ok()) {
        oci::HostFacts host;
        host.may_raise_rlimits = false;
        host.may_lower_oom_score = false;
        host.block_io_weight = false;
        (void)spec->LowerVersion("1.0.0");
        (void)spec->ClampToHost(host);
        Require(oci::RuntimeSpec::Parse(spec->Print()).ok());
      }
      (void)oci::ParseProcess(bytes);
      (void)oci::ParseResources(bytes);
      break;
    case '3': {
      oci::UserDatabase database;
      database.passwd = std::string(bytes);
      database.group = database.passwd;
      for (const char* user : {"root", "joe:users", "1000", "0:100", ""}) {
        absl::StatusOr<oci::User> found = oci::ResolveUser(database, user);
        Require(!found.ok() || (found->uid <= oci::kMaxId && found->gid <= oci::kMaxId));
      }
      database.passwd = "joe:x:1000:1000::/:";
      (void)oci::ResolveUser(database, bytes);
      break;
    }
    case '4': {
      oci::ImageConfig config;
      config.env = {"PATH=/bin"};
      (void)oci::ApplyChange(bytes, config);
      break;
    }
    case '5':
      (void)oci::ParsePlatform(bytes);
      break;
    case '6':
      (void)oci::ParseUlimit(bytes);
      break;
    default: {
      oci::ContainerConfig config;
      config.args = {"x"};
      if (oci::ApplySecurityOption(bytes, config).ok()) {
        (void)oci::BuildSpec(config, oci::User(), oci::HostFacts());
      }
      break;
    }
  }
}

}  // namespace gantry
