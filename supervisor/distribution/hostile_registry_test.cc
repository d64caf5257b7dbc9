// A registry that lies, floods, stalls or breaks: each pull ends with an error that says what
// happened, within bounds, and leaves nothing that anyone could mistake for an image.

#include <sys/resource.h>

#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "supervisor/distribution/registry_testbed.h"
#include "supervisor/oci/manifest.h"

namespace gantry::distribution {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

using Request = FakeRegistry::Request;
using Connection = FakeRegistry::Connection;

int64_t PeakMemoryBytes() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

class HostileRegistryTest : public ::testing::Test {
 protected:
  HostileRegistryTest() {
    registry.AddImage("app", "v1", {layer});
    digest = content::Digest::Sha256Of(layer);
  }

  // Lets `answer` answer requests for the layer.
  void OnLayer(std::function<void(const Request&, Connection&)> answer) {
    std::string path = digest.str();
    registry.SetHook([path, answer](const Request& request, Connection& connection) {
      if (request.method != "GET" || !absl::StrContains(request.path, path)) return false;
      answer(request, connection);
      return true;
    });
  }

  void OnManifest(std::function<void(const Request&, Connection&)> answer) {
    registry.SetHook([answer](const Request& request, Connection& connection) {
      if (!absl::StrContains(request.path, "/manifests/")) return false;
      answer(request, connection);
      return true;
    });
  }

  absl::Status Pull() { return bed.Pull(registry, "app:v1").status(); }

  // The layer must not be there; nor half of it under its name.
  void ExpectLayerInvisible() { EXPECT_FALSE(bed.Has(digest)); }

  // First, because the registry's threads read it until they end.
  const std::string layer = Noise(300 << 10, 42);
  content::Digest digest;
  RegistryTestbed bed;
  FakeRegistry registry;
};

TEST_F(HostileRegistryTest, WrongBytesOfTheRightLength) {
  OnLayer([&](const Request&, Connection& connection) {
    connection.Answer(200, {}, Noise(layer.size(), 43));
  });
  absl::Status status = Pull();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("sent bytes that hash to"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(registry.host() + " sent"));
  ExpectLayerInvisible();
  EXPECT_TRUE(bed.store.ListIngests()->empty());
}

TEST_F(HostileRegistryTest, ALengthThatContradictsTheManifest) {
  OnLayer(
      [&](const Request&, Connection& connection) { connection.Answer(200, {}, layer + "more"); });
  absl::Status status = Pull();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("the manifest says 307200"));
  ExpectLayerInvisible();
}

TEST_F(HostileRegistryTest, ABodyThatEndsTooEarlyEveryTime) {
  OnLayer([&](const Request& request, Connection& connection) {
    connection.Raw("HTTP/1.1 200 OK\r\nContent-Length: 307200\r\n\r\n");
    connection.Raw(layer.substr(0, 1000));
    connection.Close();
  });
  absl::Status status = Pull();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  ExpectLayerInvisible();
  EXPECT_LE(registry.CountRequests("GET", digest.str()), 6);
}

TEST_F(HostileRegistryTest, AnEndlessBody) {
  OnLayer([&](const Request&, Connection& connection) {
    connection.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    std::string chunk = absl::StrCat("10000\r\n", std::string(0x10000, 'x'), "\r\n");
    while (!connection.stopping() && connection.Raw(chunk)) {
    }
  });
  absl::Status status = Pull();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("more than the 307200 bytes"));
  ExpectLayerInvisible();
}

TEST_F(HostileRegistryTest, AnEndlessManifest) {
  int64_t before = PeakMemoryBytes();
  OnManifest([&](const Request& request, Connection& connection) {
    if (request.method == "HEAD") {
      connection.Answer(405, {}, "");
      return;
    }
    connection.Raw(
        "HTTP/1.1 200 OK\r\nContent-Type: "
        "application/vnd.oci.image.manifest.v1+json\r\nTransfer-Encoding: chunked\r\n\r\n");
    std::string chunk = absl::StrCat("10000\r\n", std::string(0x10000, ' '), "\r\n");
    while (!connection.stopping() && connection.Raw(chunk)) {
    }
  });
  absl::Status status = Pull();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("larger than 4393216"));
  EXPECT_EQ(bed.Blobs(), 0);
  EXPECT_LT(PeakMemoryBytes() - before, 40 << 20);
}

TEST_F(HostileRegistryTest, AManifestThatClaimsAHundredMegabytes) {
  OnManifest([&](const Request&, Connection& connection) {
    connection.Answer(200,
                      {{"Content-Type", "application/vnd.oci.image.manifest.v1+json"},
                       {"Docker-Content-Digest", digest.str()},
                       {"Content-Length", "104857600"}},
                      "");
  });
  absl::Status status = Pull();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(registry.CountRequests("GET", "/manifests/"), 0);
}

TEST_F(HostileRegistryTest, RangesThatAreNotWhatWasAskedFor) {
  for (const char* range :
       {"bytes 0-307199/307200", "bytes 5-307199/307200", "bytes 100000-307199/999999999",
        "bytes 1-0/307200", "nonsense", "bytes 100000-307200/307200",
        "bytes 100000-18446744073709551615/307200"}) {
    RegistryTestbed fresh;
    {
      std::unique_ptr<content::Ingest> ingest =
          *fresh.store.OpenIngest({"layer-" + digest.str(), 307200, digest});
      ASSERT_TRUE(ingest->Append(layer.substr(0, 100000)).ok());
    }
    OnLayer([&](const Request& request, Connection& connection) {
      EXPECT_EQ(request.header("range"), "bytes=100000-");
      connection.Answer(206, {{"Content-Range", range}}, layer.substr(100000));
    });
    absl::Status status = fresh.Pull(registry, "app:v1").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << range << ": " << status;
    EXPECT_FALSE(fresh.Has(digest));
  }
}

TEST_F(HostileRegistryTest, CrumbsOfRanges) {
  {
    std::unique_ptr<content::Ingest> ingest =
        *bed.store.OpenIngest({"layer-" + digest.str(), 307200, digest});
    ASSERT_TRUE(ingest->Append(layer.substr(0, 100000)).ok());
  }
  OnLayer([&](const Request& request, Connection& connection) {
    size_t first = std::strtoul(request.header("range").c_str() + 6, nullptr, 10);
    connection.Answer(206,
                      {{"Content-Range", absl::StrCat("bytes ", first, "-", first, "/307200")}},
                      layer.substr(first, 1));
  });
  EXPECT_EQ(Pull().code(), absl::StatusCode::kUnavailable);
  EXPECT_LE(registry.CountRequests("GET", digest.str()), 8);
  ExpectLayerInvisible();
}

TEST_F(HostileRegistryTest, MoreThanTheRangeItPromised) {
  {
    std::unique_ptr<content::Ingest> ingest =
        *bed.store.OpenIngest({"layer-" + digest.str(), 307200, digest});
    ASSERT_TRUE(ingest->Append(layer.substr(0, 100000)).ok());
  }
  OnLayer([&](const Request&, Connection& connection) {
    connection.Answer(206, {{"Content-Range", "bytes 100000-307199/307200"}}, layer);
  });
  EXPECT_EQ(Pull().code(), absl::StatusCode::kDataLoss);
  ExpectLayerInvisible();
}

TEST_F(HostileRegistryTest, ManyConfusedMediaTypes) {
  struct Case {
    const char* type;
    const char* body;
  };
  // The same bytes must not mean two things.
  for (
      const Case& test : std::vector<Case>{
          {"application/vnd.oci.image.manifest.v1+json",
           R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]})"},
          {"application/vnd.oci.image.index.v1+json",
           R"({"schemaVersion":2,"manifests":[],"config":{},"layers":[]})"},
          {"application/vnd.oci.image.manifest.v1+json",
           R"({"schemaVersion":2,"config":{"mediaType":"a/b","digest":"sha256:../../../../etc/passwd","size":1},"layers":[]})"},
          {"application/vnd.oci.image.manifest.v1+json",
           R"({"schemaVersion":2,"config":{"mediaType":"a/b","digest":"md5:d41d8cd98f00b204e9800998ecf8427e","size":1},"layers":[]})"},
          {"application/vnd.oci.image.manifest.v1+json", "<html>login page</html>"},
          {"text/html", "<html>login page</html>"},
          {"application/vnd.oci.image.manifest.v1+json", ""}}) {
    FakeRegistry liar;
    liar.AddManifest("app", "v1", test.body, test.type);
    absl::Status status =
        bed.puller->Pull(bed.Ref(liar, "app:v1"), bed.store, bed.pull, {}).status();
    EXPECT_THAT(status.code(),
                AnyOf(absl::StatusCode::kDataLoss, absl::StatusCode::kInvalidArgument,
                      absl::StatusCode::kNotFound))
        << test.type << " " << test.body << ": " << status;
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(bed.Blobs(), 0) << test.body;
  }
}

TEST_F(HostileRegistryTest, AManifestThatIsNotItsDigest) {
  OnManifest([&](const Request& request, Connection& connection) {
    if (absl::StrContains(request.path, "sha256:")) {
      connection.Answer(200, {{"Content-Type", oci::kOciManifest}},
                        R"({"schemaVersion":2,"config":{},"layers":[]})");
    } else {
      std::string manifest = registry.Manifest("app", "v1");
      connection.Answer(200,
                        {{"Content-Type", oci::kOciManifest},
                         {"Docker-Content-Digest", content::Digest::Sha256Of(manifest).str()}},
                        manifest);
    }
  });
  absl::Status status = Pull();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_EQ(bed.Blobs(), 0);
}

TEST_F(HostileRegistryTest, ADigestThatWasAskedForAndNotGiven) {
  OnManifest([&](const Request&, Connection& connection) {
    connection.Answer(200,
                      {{"Content-Type", oci::kOciManifest},
                       {"Docker-Content-Digest", content::Digest::Sha256Of("evil").str()}},
                      "evil");
  });
  Reference ref = bed.Ref(registry, "app:v1").WithDigest(digest);
  absl::Status status = bed.puller->Pull(ref, bed.store, bed.pull, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
}

TEST_F(HostileRegistryTest, TenThousandLayers) {
  oci::Manifest manifest;
  manifest.media_type = oci::kOciManifest;
  manifest.config = registry.AddBlob("app", "{}", oci::kOciConfig);
  content::Descriptor one;
  one.media_type = oci::kOciLayer;
  one.digest = digest;
  one.size_bytes = 1;
  manifest.layers.assign(10000, one);
  registry.AddManifest("app", "wide", oci::PrintManifest(manifest), oci::kOciManifest);
  absl::Status status = bed.Pull(registry, "app:wide").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(bed.Blobs(), 0);
}

TEST_F(HostileRegistryTest, AnIndexThatNamesItselfOrGoesDown) {
  // A digest cannot contain itself, but a registry may serve a chain of indexes as long as it
  // likes.
  content::Descriptor inner = registry.AddImage("app", "", {"x"});
  for (int i = 0; i < 8; ++i) {
    inner = registry.AddIndex("app", "deep", {inner});
    inner.platform = content::Platform{"linux", "amd64", "", "", {}};
  }
  EXPECT_EQ(bed.Pull(registry, "app:deep").status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(HostileRegistryTest, ASizeThatIsALie) {
  oci::Manifest manifest;
  manifest.media_type = oci::kOciManifest;
  manifest.config = registry.AddBlob(
      "app",
      absl::StrCat(
          R"({"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[")",
          digest.str(), R"("]}})"),
      oci::kOciConfig);
  content::Descriptor huge;
  huge.media_type = oci::kOciLayer;
  huge.digest = digest;
  huge.size_bytes = int64_t{1} << 50;
  manifest.layers = {huge};
  registry.AddManifest("app", "huge", oci::PrintManifest(manifest), oci::kOciManifest);
  absl::Status status = bed.Pull(registry, "app:huge").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  ExpectLayerInvisible();
}

TEST_F(HostileRegistryTest, ADripEndsInTime) {
  bed.options.min_bytes_per_stall = 4096;
  bed.options.stall_timeout = absl::Milliseconds(500);
  bed.options.max_attempts = 2;
  bed.Rebuild();
  OnLayer([&](const Request&, Connection& connection) {
    connection.Raw("HTTP/1.1 200 OK\r\nContent-Length: 307200\r\n\r\n");
    while (!connection.stopping() && connection.Raw("x"))
      absl::SleepFor(absl::Milliseconds(20));  // the drip itself
  });
  absl::Time started = absl::Now();
  absl::Status status = Pull();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("stalled"));
  EXPECT_LT(absl::Now() - started, absl::Seconds(20));
  ExpectLayerInvisible();
}

TEST_F(HostileRegistryTest, ARegistryThatNeverAnswers) {
  bed.options.stall_timeout = absl::Milliseconds(500);
  bed.options.max_attempts = 2;
  bed.Rebuild();
  registry.SetHook([](const Request&, Connection& connection) {
    while (!connection.stopping() && connection.Raw(""))
      absl::SleepFor(absl::Milliseconds(10));  // silence
    return true;
  });
  absl::Time started = absl::Now();
  EXPECT_EQ(Pull().code(), absl::StatusCode::kUnavailable);
  EXPECT_LT(absl::Now() - started, absl::Seconds(20));
}

TEST_F(HostileRegistryTest, EndlessHeaders) {
  registry.SetHook([](const Request&, Connection& connection) {
    connection.Raw("HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 1000000 && !connection.stopping(); ++i) {
      if (!connection.Raw(absl::StrCat("X-", i, ": ", std::string(1000, 'y'), "\r\n"))) break;
    }
    return true;
  });
  absl::Status status = Pull();
  EXPECT_THAT(status.code(), AnyOf(absl::StatusCode::kDataLoss, absl::StatusCode::kUnavailable))
      << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("headers"));
}

TEST_F(HostileRegistryTest, SomethingThatIsNotHttp) {
  registry.SetHook([](const Request&, Connection& connection) {
    connection.Raw("220 smtp.example ESMTP\r\n");
    connection.Close();
    return true;
  });
  absl::Status status = Pull();
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(bed.Blobs(), 0);
}

TEST_F(HostileRegistryTest, ErrorsWithFloodingOrUglyBodies) {
  OnManifest([&](const Request& request, Connection& connection) {
    connection.Raw("HTTP/1.1 404 Not\x1b[31mFound\r\nTransfer-Encoding: chunked\r\n\r\n");
    if (request.method == "HEAD") return;
    std::string chunk = absl::StrCat("10000\r\n", std::string(0x10000, '\x1b'), "\r\n");
    while (!connection.stopping() && connection.Raw(chunk)) {
    }
  });
  absl::Status status = bed.resolver->ListTags(bed.Ref(registry, "none:v1"), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  status = Pull();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("\x1b")));
  EXPECT_LT(status.message().size(), 2000u);
}

TEST_F(HostileRegistryTest, TagListsWithoutEnd) {
  std::atomic<int> page{0};
  registry.SetHook([&](const Request& request, Connection& connection) {
    connection.Answer(
        200, {{"Link", absl::StrCat("</v2/app/tags/list?last=", page++ % 3, ">; rel=\"next\"")}},
        R"({"name":"app","tags":["a"]})");
    return true;
  });
  EXPECT_EQ(bed.resolver->ListTags(bed.Ref(registry, "app:v1"), {}).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_LT(page, 10);
}

TEST_F(HostileRegistryTest, ATokenServerThatFloodsLoopsOrLies) {
  for (int kind = 0; kind < 4; ++kind) {
    FakeRegistry tokens;
    tokens.SetHook([&](const Request& request, Connection& connection) {
      if (kind == 0) {
        connection.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        std::string chunk = absl::StrCat("10000\r\n", std::string(0x10000, ' '), "\r\n");
        while (!connection.stopping() && connection.Raw(chunk)) {
        }
      } else if (kind == 1) {
        connection.Answer(302, {{"Location", "/token"}}, "");
      } else if (kind == 2) {
        connection.Answer(200, {}, "{\"token\":\"a\\r\\nX-Injected: yes\"}");
      } else {
        connection.Answer(302, {{"Location", registry.origin() + "/collect"}}, "");
      }
      return true;
    });
    FakeRegistry::Options options;
    options.auth = FakeRegistry::Auth::kToken;
    options.token_realm = tokens.origin() + "/token";
    FakeRegistry guarded(options);
    bed.Configure(guarded.host(), absl::StrCat("token_realms = [\"", tokens.origin(), "\"]\n"));
    StaticCredentials credentials("", {"ann", "pw-of-ann", "", "", "test"});
    bed.context.credentials = &credentials;
    absl::Status status = bed.Pull(guarded, "app:v1").status();
    EXPECT_FALSE(status.ok());
    EXPECT_FALSE(tokens.requests().empty());
    EXPECT_EQ(registry.CountRequests("GET", "/collect"), 0);
    for (const Request& request : guarded.requests()) EXPECT_EQ(request.header("x-injected"), "");
    EXPECT_LT(tokens.requests().size(), 10u);
  }
}

TEST_F(HostileRegistryTest, AForeignLayerUrlIsNotAWayIntoTheMachine) {
  for (const char* url :
       {"file:///etc/passwd", "http://198.51.100.1/x", "https://user:pw@198.51.100.1/x"}) {
    content::Descriptor foreign;
    foreign.media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar";
    foreign.digest = content::Digest::Sha256Of("x");
    foreign.size_bytes = 1;
    foreign.urls = {url};
    oci::Manifest manifest;
    manifest.media_type = oci::kDockerManifest;
    manifest.config = registry.AddBlob(
        "app",
        absl::StrCat(
            R"({"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[")",
            digest.str(), R"("]}})"),
        oci::kDockerConfig);
    manifest.layers = {foreign};
    registry.AddManifest("app", "foreign", oci::PrintManifest(manifest), oci::kDockerManifest);
    absl::Status status = bed.Pull(registry, "app:foreign").status();
    EXPECT_THAT(status.code(),
                AnyOf(absl::StatusCode::kFailedPrecondition, absl::StatusCode::kInvalidArgument,
                      absl::StatusCode::kNotFound))
        << url << ": " << status;
  }
}

TEST_F(HostileRegistryTest, AResetAtEveryKindOfByteEndsInAWholeImageOrAnError) {
  for (int64_t at : {0, 1, 16383, 16384, 65536, 262144, 307199}) {
    RegistryTestbed fresh;
    registry.SetHook(nullptr);
    registry.BreakBlobs(at, 2);
    absl::StatusOr<PulledImage> image = fresh.Pull(registry, "app:v1");
    ASSERT_TRUE(image.ok()) << at << ": " << image.status();
    EXPECT_EQ(*content::ReadBlob(fresh.store, digest, 1 << 20), layer) << at;
  }
}

}  // namespace
}  // namespace gantry::distribution
