#include "supervisor/distribution/registry_client.h"

#include <random>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "base/subprocess.h"
#include "supervisor/distribution/registry_auth.h"
#include "supervisor/distribution/registry_testbed.h"

namespace gantry::distribution {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

FakeRegistry::Options WithUser(FakeRegistry::Auth auth) {
  FakeRegistry::Options options;
  options.auth = auth;
  options.users = {{"ann", "s3cret-pass"}};
  options.refresh_tokens = {{"refresh-me", "ann"}};
  return options;
}

Credential Ann() { return {"ann", "s3cret-pass", "", "", "test"}; }

TEST(RegistryAuthTest, ReadsChallengesAsTheyAreWritten) {
  std::vector<Challenge> found = ParseChallenges(
      R"(Bearer realm="https://auth.example/token?a=b",service="reg, one",scope="repository:a/b:pull,push", error="x", Basic realm=plain)");
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].scheme, "bearer");
  EXPECT_EQ(found[0].params["realm"], "https://auth.example/token?a=b");
  EXPECT_EQ(found[0].params["service"], "reg, one");
  EXPECT_EQ(found[0].params["scope"], "repository:a/b:pull,push");
  EXPECT_EQ(found[1].scheme, "basic");
  EXPECT_EQ(found[1].params["realm"], "plain");
  EXPECT_EQ(ParseChallenges(R"(Bearer realm="a\"b")")[0].params["realm"], "a\"b");
  EXPECT_TRUE(ParseChallenges("").empty());
  EXPECT_TRUE(ParseChallenges(R"(Bearer realm="never ends)")[0].params.empty());
}

TEST(RegistryAuthTest, BasicPasswordIsSentWhenAskedFor) {
  RegistryTestbed bed;
  FakeRegistry registry(WithUser(FakeRegistry::Auth::kBasic));
  registry.AddImage("app", "v1", {"x"});
  StaticCredentials credentials(registry.host(), Ann());
  bed.context.credentials = &credentials;
  EXPECT_TRUE(bed.Pull(registry, "app:v1").ok());
  EXPECT_EQ(registry.requests()[0].header("authorization"), "");
}

TEST(RegistryAuthTest, AWrongPasswordIsAClearErrorWithoutThePassword) {
  for (FakeRegistry::Auth auth : {FakeRegistry::Auth::kBasic, FakeRegistry::Auth::kToken}) {
    RegistryTestbed bed;
    FakeRegistry registry(WithUser(auth));
    registry.AddImage("app", "v1", {"x"});
    StaticCredentials credentials(registry.host(), {"ann", "wrong-password", "", "", "test"});
    bed.context.credentials = &credentials;
    absl::Status status = bed.Pull(registry, "app:v1").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated) << status;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("wrong-password")));
    EXPECT_THAT(std::string(status.message()), HasSubstr("credential"));
  }
}

TEST(RegistryAuthTest, WithoutLoginTheErrorSaysSo) {
  RegistryTestbed bed;
  FakeRegistry registry(WithUser(FakeRegistry::Auth::kBasic));
  absl::Status status = bed.Pull(registry, "app:v1").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(std::string(status.message()), HasSubstr("log in"));
}

TEST(RegistryAuthTest, OneTokenServesAWholePull) {
  RegistryTestbed bed;
  FakeRegistry registry(WithUser(FakeRegistry::Auth::kToken));
  registry.AddImage("team/app", "v1", {"x", "y", "z"});
  ASSERT_TRUE(bed.Pull(registry, "team/app:v1").ok());
  EXPECT_EQ(registry.CountRequests("GET", "/token"), 1);
  std::vector<FakeRegistry::Request> requests = registry.requests();
  for (const FakeRegistry::Request& request : requests) {
    if (request.path == "/token") {
      EXPECT_THAT(request.parameters("scope"), ElementsAre("repository:team/app:pull"));
    }
  }
}

TEST(RegistryAuthTest, AnExpiredTokenIsRenewedOnce) {
  RegistryTestbed bed;
  FakeRegistry registry(WithUser(FakeRegistry::Auth::kToken));
  registry.AddImage("app", "v1", {"x"});
  registry.AddImage("app", "v2", {"y"});
  ASSERT_TRUE(bed.Pull(registry, "app:v1").ok());
  registry.ExpireTokens();
  EXPECT_TRUE(bed.Pull(registry, "app:v2").ok());
  EXPECT_EQ(registry.CountRequests("GET", "/token"), 2);
}

TEST(RegistryAuthTest, AnIdentityTokenIsExchangedByPost) {
  RegistryTestbed bed;
  FakeRegistry::Options options = WithUser(FakeRegistry::Auth::kToken);
  options.anonymous_pull = false;
  FakeRegistry registry(options);
  registry.AddImage("app", "v1", {"x"});
  StaticCredentials credentials(registry.host(), {"", "", "refresh-me", "", "test"});
  bed.context.credentials = &credentials;
  EXPECT_TRUE(bed.Pull(registry, "app:v1").ok());
  EXPECT_EQ(registry.CountRequests("POST", "/token"), 1);
}

TEST(RegistryAuthTest, OneUsersTokenIsNeverUsedForAnother) {
  RegistryTestbed bed;
  FakeRegistry::Options options = WithUser(FakeRegistry::Auth::kToken);
  options.anonymous_pull = false;
  FakeRegistry registry(options);
  registry.AddImage("app", "v1", {"x"});
  StaticCredentials credentials(registry.host(), Ann());
  CallContext ann = bed.context;
  ann.credentials = &credentials;
  ASSERT_TRUE(bed.puller->Pull(bed.Ref(registry, "app:v1"), bed.store, bed.pull, ann).ok());
  content::FakeStore other;
  EXPECT_EQ(
      bed.puller->Pull(bed.Ref(registry, "app:v1"), other, bed.pull, bed.context).status().code(),
      absl::StatusCode::kUnauthenticated);
}

TEST(RegistryAuthTest, ARegistryCannotMakeUsAskForMoreThanWeNeed) {
  RegistryTestbed bed;
  FakeRegistry registry(WithUser(FakeRegistry::Auth::kToken));
  registry.AddImage("app", "v1", {"x"});
  registry.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    if (request.path == "/token" || !request.header("authorization").empty()) return false;
    connection.Answer(
        401,
        {{"WWW-Authenticate",
          absl::StrCat("Bearer realm=\"", registry.origin(),
                       "/token\",service=\"fake\",scope=\"repository:app:pull,push,delete\"")}},
        "");
    return true;
  });
  StaticCredentials credentials(registry.host(), Ann());
  bed.context.credentials = &credentials;
  EXPECT_TRUE(bed.Pull(registry, "app:v1").ok());
  for (const FakeRegistry::Request& request : registry.requests()) {
    if (request.path == "/token") {
      EXPECT_THAT(request.parameters("scope"), ElementsAre("repository:app:pull"));
    }
  }
}

TEST(RegistryAuthTest, A401TrapEndsAfterOneFreshToken) {
  RegistryTestbed bed;
  FakeRegistry registry(WithUser(FakeRegistry::Auth::kToken));
  registry.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    if (request.path == "/token") return false;
    connection.Answer(
        401, {{"WWW-Authenticate", absl::StrCat("Bearer realm=\"", registry.origin(), "/token\"")}},
        "");
    return true;
  });
  absl::Status status = bed.Pull(registry, "app:v1").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_LE(registry.requests().size(), 4u);
}

TEST(RegistryAuthTest, LoginIsCheckedAgainstTheRegistry) {
  for (FakeRegistry::Auth auth : {FakeRegistry::Auth::kBasic, FakeRegistry::Auth::kToken}) {
    RegistryTestbed bed;
    FakeRegistry registry(WithUser(auth));
    StaticCredentials right("", Ann()), wrong("", {"ann", "nope-nope", "", "", "test"});
    CallContext context;
    context.credentials = &right;
    EXPECT_TRUE(bed.resolver->CheckLogin(registry.host(), context).ok());
    context.credentials = &wrong;
    EXPECT_EQ(bed.resolver->CheckLogin(registry.host(), context).status().code(),
              absl::StatusCode::kUnauthenticated);
  }
}

TEST(RegistryClientTest, BlobsMayLiveElsewhereAndGetNoCredentialsThere) {
  RegistryTestbed bed;
  FakeRegistry registry(WithUser(FakeRegistry::Auth::kBasic));
  FakeRegistry storage;
  registry.AddImage("app", "v1", {"the layer"});
  content::Descriptor layer = storage.AddBlob("bucket", "the layer", "x");
  registry.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    if (!absl::StrContains(request.path, layer.digest.str()) ||
        request.header("authorization").empty())
      return false;
    connection.Answer(307,
                      {{"Location", absl::StrCat(storage.origin(), "/v2/bucket/blobs/",
                                                 layer.digest.str(), "?signature=abc")}},
                      "");
    return true;
  });
  StaticCredentials credentials(registry.host(), Ann());
  bed.context.credentials = &credentials;
  bed.context.headers = {{"X-Private", "for the registry only"}};
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
  ASSERT_TRUE(image.ok()) << image.status();
  ASSERT_FALSE(storage.requests().empty());
  for (const FakeRegistry::Request& request : storage.requests()) {
    EXPECT_EQ(request.header("authorization"), "");
    EXPECT_EQ(request.header("x-private"), "");
    EXPECT_EQ(request.query, "signature=abc");
  }
}

TEST(RegistryClientTest, A401BehindARedirectIsNotAnsweredWithCredentials) {
  RegistryTestbed bed;
  FakeRegistry registry;
  FakeRegistry thief(WithUser(FakeRegistry::Auth::kBasic));
  registry.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    connection.Answer(302, {{"Location", thief.origin() + request.path}}, "");
    return true;
  });
  StaticCredentials credentials("", Ann());
  bed.context.credentials = &credentials;
  absl::Status status = bed.Pull(registry, "app:v1").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("not sent there"));
  for (const FakeRegistry::Request& request : thief.requests())
    EXPECT_EQ(request.header("authorization"), "");
}

TEST(RegistryClientTest, RedirectLoopsEnd) {
  RegistryTestbed bed;
  FakeRegistry registry;
  registry.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    connection.Answer(302, {{"Location", request.path}}, "");
    return true;
  });
  absl::Status status = bed.Pull(registry, "app:v1").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("redirects more than 8 times"));
  EXPECT_EQ(registry.requests().size(), 9u);
}

TEST(RegistryClientTest, RedirectsToOtherSchemesAreRefused) {
  for (const char* target : {"file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1:70/x",
                             "//user:pw@127.0.0.1/x", "http://"}) {
    RegistryTestbed bed;
    FakeRegistry registry;
    registry.SetHook([&](const FakeRegistry::Request&, FakeRegistry::Connection& connection) {
      connection.Answer(302, {{"Location", target}}, "");
      return true;
    });
    absl::Status status = bed.Pull(registry, "app:v1").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << target << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("redirects to nowhere")) << target;
  }
}

TEST(RegistryClientTest, TransientErrorsAreRetriedAsTheRegistryAsks) {
  RegistryTestbed bed;
  FakeRegistry registry;
  registry.AddImage("app", "v1", {"x"});
  std::atomic<int> answered{0};
  registry.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    int n = ++answered;
    if (n == 1) return connection.Answer(429, {{"Retry-After", "1"}}, "");
    if (n == 2) return connection.Answer(503, {}, "");
    return false;
  });
  absl::Time started = absl::Now();
  EXPECT_TRUE(bed.Pull(registry, "app:v1").ok());
  EXPECT_GE(absl::Now() - started, absl::Seconds(1));
}

TEST(RegistryClientTest, WhoWaitsIsToldOfEveryFurtherTry) {
  RegistryTestbed bed;
  FakeRegistry registry;
  registry.AddImage("app", "v1", {"x"});
  std::atomic<int> answered{0};
  registry.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    int n = ++answered;
    if (n == 1) return connection.Answer(429, {{"Retry-After", "1"}}, "");
    if (n == 2) return connection.Answer(503, {}, "");
    return false;
  });
  absl::Mutex mutex;
  std::vector<std::string> told;
  bed.pull.progress = [&](const Progress& step) {
    if (step.kind != Progress::Kind::kReference || step.state != Progress::State::kRetrying) return;
    absl::MutexLock lock(&mutex);
    told.push_back(step.detail);
  };
  ASSERT_TRUE(bed.Pull(registry, "app:v1").ok());
  absl::MutexLock lock(&mutex);
  ASSERT_EQ(told.size(), 2u);
  EXPECT_THAT(told[0], HasSubstr("in 1s (2 of "));
  EXPECT_THAT(told[0], HasSubstr("429"));
  EXPECT_THAT(told[1], HasSubstr("(3 of "));
  EXPECT_THAT(told[1], HasSubstr("503"));
}

TEST(RegistryClientTest, ALongRetryAfterIsReportedAndNotWaitedFor) {
  RegistryTestbed bed;
  FakeRegistry registry;
  registry.SetHook([&](const FakeRegistry::Request&, FakeRegistry::Connection& connection) {
    return connection.Answer(
        429, {{"Retry-After", "3600"}},
        R"({"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]})");
  });
  absl::Status status = bed.Pull(registry, "app:v1").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("1h"));
  EXPECT_EQ(registry.requests().size(), 1u);
}

TEST(RegistryClientTest, GivesUpAfterTheLastAttemptAndSaysSo) {
  RegistryTestbed bed;
  FakeRegistry registry;
  registry.SetHook([&](const FakeRegistry::Request&, FakeRegistry::Connection& connection) {
    return connection.Answer(500, {},
                             R"({"errors":[{"code":"UNKNOWN","message":"disk on fire"}]})");
  });
  absl::Status status = bed.resolver->ListTags(bed.Ref(registry, "app:v1"), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(registry.requests().size(), 4u);
}

TEST(RegistryClientTest, SecretsEchoedByARegistryAreBlackedOut) {
  RegistryTestbed bed;
  FakeRegistry registry(WithUser(FakeRegistry::Auth::kBasic));
  registry.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    if (request.header("authorization").empty()) return false;
    return connection.Answer(403, {},
                             absl::StrCat(R"({"errors":[{"code":"DENIED","message":"you sent )",
                                          request.header("authorization"), R"( s3cret-pass"}]})"));
  });
  StaticCredentials credentials("", Ann());
  bed.context.credentials = &credentials;
  std::vector<std::string> answers;
  bed.context.on_attempt = [&](const Attempt& attempt) { answers.push_back(attempt.answer); };
  absl::Status status = bed.resolver->ListTags(bed.Ref(registry, "app:v1"), bed.context).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  answers.push_back(std::string(status.message()));
  for (const std::string& answer : answers) {
    EXPECT_THAT(answer, Not(HasSubstr("s3cret-pass")));
    EXPECT_THAT(answer, Not(HasSubstr("YW5uOnMzY3JldC1wYXNz")));
  }
}

TEST(RegistryClientTest, WarningsReachTheUser) {
  RegistryTestbed bed;
  FakeRegistry registry;
  registry.AddImage("app", "v1", {"x"});
  registry.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    if (request.method != "HEAD") return false;
    std::string manifest = registry.Manifest("app", "v1");
    return connection.Answer(200,
                             {{"Content-Type", "application/vnd.oci.image.manifest.v1+json"},
                              {"Docker-Content-Digest", content::Digest::Sha256Of(manifest).str()},
                              {"Warning", "299 - \"this registry closes in May\""}},
                             manifest);
  });
  std::vector<std::string> warnings;
  bed.context.on_warning = [&](absl::string_view text) { warnings.push_back(std::string(text)); };
  EXPECT_TRUE(bed.resolver->Resolve(bed.Ref(registry, "app:v1"), bed.context).ok());
  EXPECT_THAT(warnings, ElementsAre("this registry closes in May"));
}

TEST(RegistryClientTest, ConnectionsAreReused) {
  RegistryTestbed bed;
  FakeRegistry registry;
  for (int i = 0; i < 10; ++i)
    registry.AddImage("app", absl::StrCat("v", i), {absl::StrCat("layer ", i)});
  bed.pull.max_parallel_blobs = 1;
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(bed.Pull(registry, absl::StrCat("app:v", i)).ok());
  // One that tried TLS first, one that stays.
  EXPECT_LE(registry.connections(), 3);
}

TEST(RegistryClientTest, PlainHttpIsForLoopbackOnly) {
  RegistryTestbed bed;
  absl::StatusOr<HostsLookup> lookup = bed.hosts->Lookup("registry.example");
  ASSERT_TRUE(lookup.ok());
  EXPECT_EQ(lookup->hosts[0].scheme, "https");
  EXPECT_FALSE(lookup->hosts[0].http_fallback);
  EXPECT_FALSE(lookup->hosts[0].tls.skip_verify);
}

TEST(RegistryClientTest, ProxiesComeFromTheEnvironmentAndNeverForLoopback) {
  FakeRegistry proxy, direct;
  direct.AddImage("app", "v1", {"x"});
  proxy.SetHook([](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    return connection.Answer(404, {}, "");
  });
  setenv("HTTP_PROXY", proxy.origin().c_str(), 1);
  setenv("NO_PROXY", "direct.example", 1);
  RegistryTestbed bed;
  unsetenv("HTTP_PROXY");
  unsetenv("NO_PROXY");
  bed.Configure("registry.example", "server = \"http://registry.example\"\n");
  EXPECT_EQ(bed.resolver->Resolve(*Reference::Parse("registry.example/app:v1"), {}).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_THAT(proxy.lines(), ElementsAre("HEAD http://registry.example/v2/app/manifests/v1"));
  proxy.ClearLog();
  EXPECT_TRUE(bed.Pull(direct, "app:v1").ok());
  bed.options.max_attempts = 1;
  bed.Rebuild();
  bed.Configure("direct.example", "server = \"http://direct.example\"\n");
  EXPECT_EQ(bed.resolver->Resolve(*Reference::Parse("direct.example/app:v1"), {}).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_TRUE(proxy.lines().empty());
}

// A private CA, a server certificate for 127.0.0.1 and a client certificate, made by openssl.
struct Certificates {
  explicit Certificates(const TempDir& temp) : directory(temp.path()) {
    Run({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=test ca", "-keyout", directory + "/ca.key", "-out",
         directory + "/ca.crt"});
    for (const char* name : {"server", "client"}) {
      std::string stem = absl::StrCat(directory, "/", name);
      Run({"openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
           "-subj", absl::StrCat("/CN=", name), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout",
           stem + ".key", "-out", stem + ".csr"});
      Run({"openssl", "x509", "-req", "-in", stem + ".csr", "-CA", directory + "/ca.crt", "-CAkey",
           directory + "/ca.key", "-CAcreateserial", "-days", "2", "-copy_extensions", "copy",
           "-out", stem + ".crt"});
    }
  }

  static void Run(std::vector<std::string> argv) {
    Command command;
    command.argv = std::move(argv);
    absl::StatusOr<CommandResult> result = RunCommand(command);
    ASSERT_TRUE(result.ok() && result->status.ok())
        << result.status() << (result.ok() ? result->err : "");
  }

  const std::string directory;
};

TEST(RegistryTlsTest, APrivateAuthorityIsTrustedWhenConfigured) {
  TempDir temp;
  Certificates certificates(temp);
  FakeRegistry::Options options;
  options.certificate_file = certificates.directory + "/server.crt";
  options.key_file = certificates.directory + "/server.key";
  FakeRegistry registry(options);
  registry.AddImage("app", "v1", {Noise(1 << 20, 1)});
  {
    RegistryTestbed bed;
    bed.Configure(registry.host(), "server = \"" + registry.origin() + "\"\n");
    absl::Status status = bed.Pull(registry, "app:v1").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("not trusted"));
  }
  {
    RegistryTestbed bed;
    bed.Configure(registry.host(), "ca = \"" + certificates.directory + "/ca.crt\"\n");
    absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
    EXPECT_TRUE(image.ok()) << image.status();
  }
}

TEST(RegistryTlsTest, MutualTlsShowsOurCertificateToTheRegistryOnly) {
  TempDir temp;
  Certificates certificates(temp);
  FakeRegistry::Options options;
  options.certificate_file = certificates.directory + "/server.crt";
  options.key_file = certificates.directory + "/server.key";
  FakeRegistry storage(options);
  options.client_ca_file = certificates.directory + "/ca.crt";
  FakeRegistry registry(options);
  registry.AddImage("app", "v1", {"layer"});
  std::string ca = "ca = \"" + certificates.directory + "/ca.crt\"\n";
  {
    RegistryTestbed bed;
    bed.Configure(registry.host(), ca);
    EXPECT_FALSE(bed.Pull(registry, "app:v1").ok());
  }
  RegistryTestbed bed;
  bed.Configure(registry.host(), ca + "client = [[\"" + certificates.directory +
                                     "/client.crt\", \"" + certificates.directory +
                                     "/client.key\"]]\n");
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
  EXPECT_TRUE(image.ok()) << image.status();
}

TEST(RegistryTlsTest, ARedirectFromHttpsToHttpIsRefused) {
  TempDir temp;
  Certificates certificates(temp);
  FakeRegistry::Options options;
  options.certificate_file = certificates.directory + "/server.crt";
  options.key_file = certificates.directory + "/server.key";
  FakeRegistry registry(options);
  FakeRegistry plain;
  registry.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    return connection.Answer(302, {{"Location", plain.origin() + request.path}}, "");
  });
  RegistryTestbed bed;
  bed.Configure(registry.host(), "ca = \"" + certificates.directory + "/ca.crt\"\n");
  absl::Status status = bed.Pull(registry, "app:v1").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("plain http"));
  EXPECT_TRUE(plain.requests().empty());
}

TEST(RegistryTlsTest, ATokenServerOverPlainHttpIsRefusedForAnHttpsRegistry) {
  TempDir temp;
  Certificates certificates(temp);
  FakeRegistry tokens;
  FakeRegistry::Options options = WithUser(FakeRegistry::Auth::kToken);
  options.certificate_file = certificates.directory + "/server.crt";
  options.key_file = certificates.directory + "/server.key";
  options.token_realm = tokens.origin() + "/token";
  FakeRegistry registry(options);
  RegistryTestbed bed;
  bed.Configure(registry.host(), "ca = \"" + certificates.directory + "/ca.crt\"\n");
  StaticCredentials credentials("", Ann());
  bed.context.credentials = &credentials;
  absl::Status status = bed.Pull(registry, "app:v1").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_TRUE(tokens.requests().empty());
}

TEST(RegistryAuthTest, ATokenServerElsewhereGetsCredentialsOnlyWhenItIsAllowed) {
  FakeRegistry tokens;
  FakeRegistry::Options options = WithUser(FakeRegistry::Auth::kToken);
  options.token_realm = tokens.origin() + "/token";
  FakeRegistry registry(options);
  registry.AddImage("app", "v1", {"x"});
  RegistryTestbed bed;
  StaticCredentials credentials(registry.host(), Ann());
  bed.context.credentials = &credentials;
  absl::Status status = bed.Pull(registry, "app:v1").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(absl::StrCat("token_realms = [\"", tokens.origin(), "\"]")));
  EXPECT_TRUE(tokens.requests().empty());

  // Without a credential there is nothing to lose.
  CallContext anonymous;
  bed.puller->Pull(bed.Ref(registry, "app:v1"), bed.store, bed.pull, anonymous)
      .status()
      .IgnoreError();
  ASSERT_FALSE(tokens.requests().empty());
  EXPECT_EQ(tokens.requests().back().header("authorization"), "");

  bed.Configure(registry.host(), absl::StrCat("token_realms = [\"", tokens.origin(), "\"]\n"));
  bed.Pull(registry, "app:v1").status().IgnoreError();
  EXPECT_NE(tokens.requests().back().header("authorization"), "");
}

// A registry wherever the test wants it to be.
class PretendHttp : public HttpClient {
 public:
  struct Step {
    Reach peer = Reach::kPublic;
    int status = 200;
    std::string location = "";
    absl::Status failure = absl::OkStatus();
    bool no_such_host = false;
    bool refused = false;
  };
  HttpResult Do(const HttpRequest& request, HttpReceiver& receiver) override {
    asked.push_back(request.url.str());
    nearest.push_back(request.nearest);
    const Step step = steps.at(std::min(asked.size(), steps.size()) - 1);
    HttpResult result;
    result.status = step.failure;
    result.no_such_host = step.no_such_host;
    result.refused = step.refused;
    if (!step.failure.ok()) return result;
    HttpHead head;
    head.status = step.status;
    if (!step.location.empty()) head.headers = {{"location", step.location}};
    result.status = receiver.OnHead(head);
    result.got_head = true;
    result.peer = step.peer;
    return result;
  }
  void DropIdle() override {}

  std::vector<Step> steps;
  std::vector<std::string> asked;
  std::vector<Reach> nearest;
};

class FarRegistryTest : public ::testing::Test {
 protected:
  FarRegistryTest() {
    bed_.options.http = &http_;
    bed_.Rebuild();
    host_.host = "registry.example";
    request_.path = "/app/blobs/x";
  }
  absl::Status Send() { return bed_.client->Send(host_, request_, {}).status(); }

  RegistryTestbed bed_;
  PretendHttp http_;
  RegistryHost host_;
  RegistryRequest request_;
};

TEST_F(FarRegistryTest, ARegistryOnTheInternetDoesNotLeadIntoTheMachine) {
  for (const char* target : {"https://127.0.0.1/x", "https://localhost:2375/x",
                             "https://169.254.169.254/latest/meta-data", "https://10.0.0.1/x",
                             "https://[::1]:80/x", "https://[fd00::1]/x"}) {
    http_ = PretendHttp();
    http_.steps = {{.status = 307, .location = target}, {}};
    const absl::Status status = Send();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << target << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("private_redirects")) << target;
    EXPECT_EQ(http_.asked.size(), 1u) << target;
  }
}

TEST_F(FarRegistryTest, ANameIsJudgedByTheAddressItTurnsOutToHave) {
  http_.steps = {{.status = 307, .location = "https://storage.example/x"}, {}};
  EXPECT_TRUE(Send().ok());
  ASSERT_EQ(http_.nearest.size(), 2u);
  EXPECT_EQ(http_.nearest[0], Reach::kLoopback);
  EXPECT_EQ(http_.nearest[1], Reach::kPublic);
}

TEST_F(FarRegistryTest, AnUploadThatContinuesElsewhereIsJudgedToo) {
  http_.steps = {{}};
  ASSERT_TRUE(Send().ok());
  request_.path = "https://10.0.0.1/upload";
  EXPECT_EQ(Send().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(FarRegistryTest, OneThatIsNearItselfMayLeadToItsNeighbours) {
  http_.steps = {{.peer = Reach::kPrivate, .status = 307, .location = "https://10.0.0.9/x"}, {}};
  EXPECT_TRUE(Send().ok());
  http_ = PretendHttp();
  http_.steps = {{.peer = Reach::kPrivate, .status = 307, .location = "https://169.254.169.254/x"},
                 {}};
  EXPECT_EQ(Send().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(FarRegistryTest, TheConfigurationMayAllowIt) {
  host_.private_redirects = true;
  http_.steps = {{.status = 307, .location = "https://10.0.0.1/x"}, {}};
  EXPECT_TRUE(Send().ok());
  EXPECT_EQ(http_.nearest.back(), Reach::kLoopback);
}

TEST_F(FarRegistryTest, AHostThatIsNotThereIsAskedOnce) {
  for (const bool resolves : {false, true}) {
    http_ = PretendHttp();
    http_.steps = {{.failure = absl::UnavailableError("gone"),
                    .no_such_host = !resolves,
                    .refused = resolves}};
    EXPECT_EQ(Send().code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(http_.asked.size(), 1u);
  }
}

TEST_F(FarRegistryTest, AHostThatHasJustAnsweredIsWorthAnotherTry) {
  http_.steps = {{}};
  ASSERT_TRUE(Send().ok());
  http_ = PretendHttp();
  http_.steps = {{.failure = absl::UnavailableError("restarting"), .refused = true}, {}};
  EXPECT_TRUE(Send().ok());
  EXPECT_EQ(http_.asked.size(), 2u);
}

TEST(HttpClientTest, AnAddressThatIsTooNearIsNotAsked) {
  FakeRegistry registry;
  std::unique_ptr<HttpClient> http = NewCurlHttpClient({});
  class Ignore : public HttpReceiver {
    absl::Status OnHead(const HttpHead&) override { return absl::OkStatus(); }
    absl::Status OnBody(absl::string_view) override { return absl::OkStatus(); }
  };
  HttpRequest request;
  request.url = *Url::Parse(registry.origin() + "/v2/");
  request.nearest = Reach::kPublic;
  Ignore receiver;
  HttpResult result = http->Do(request, receiver);
  EXPECT_TRUE(result.too_near);
  EXPECT_EQ(result.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(registry.requests().empty());
  // Over a connection that was kept, too.
  request.nearest = Reach::kLoopback;
  result = http->Do(request, receiver);
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.peer, Reach::kLoopback);
  request.nearest = Reach::kPrivate;
  EXPECT_TRUE(http->Do(request, receiver).too_near);
  EXPECT_EQ(registry.requests().size(), 1u);
}

TEST(HttpClientTest, APortWithoutAListenerRefuses) {
  std::string origin;
  {
    FakeRegistry gone;
    origin = gone.origin();
  }
  std::unique_ptr<HttpClient> http = NewCurlHttpClient({});
  class Ignore : public HttpReceiver {
    absl::Status OnHead(const HttpHead&) override { return absl::OkStatus(); }
    absl::Status OnBody(absl::string_view) override { return absl::OkStatus(); }
  };
  HttpRequest request;
  request.url = *Url::Parse(origin + "/v2/");
  Ignore receiver;
  const HttpResult result = http->Do(request, receiver);
  EXPECT_TRUE(result.refused) << result.status;
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("nothing listens on"));
}

TEST(ResolverTest, WhatTheRegistryDoesNotHaveIsSaidInOneLine) {
  RegistryTestbed bed;
  FakeRegistry registry;
  registry.AddImage("app", "v1", {"x"});
  const absl::Status status = bed.Pull(registry, "app:nope").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(std::string(status.message()),
            absl::StrCat(registry.host(), "/app:nope: the registry has no such tag or repository"));
}

TEST(UrlTest, ReadsAndResolves) {
  Url url = *Url::Parse("HTTPS://Host.example:443/v2/a?x=1#frag");
  EXPECT_EQ(url.str(), "https://host.example/v2/a?x=1");
  EXPECT_EQ(url.Resolve("/b")->str(), "https://host.example/b");
  EXPECT_EQ(url.Resolve("b/../c?d")->str(), "https://host.example/v2/c?d");
  EXPECT_EQ(url.Resolve("?n=2")->str(), "https://host.example/v2/a?n=2");
  EXPECT_EQ(url.Resolve("//other:5000/z")->str(), "https://other:5000/z");
  EXPECT_EQ(url.Resolve("http://[::1]:80/z")->str(), "http://[::1]/z");
  for (const char* bad : {"", "a/b", "ftp://x/y", "http://", "http://a@b/", "http://a b/",
                          "http://a:0/", "http://a:99999/", "http://a\r\nX: y/"}) {
    EXPECT_FALSE(Url::Parse(bad).ok()) << bad;
  }
}

// Headers and URLs as a registry might send them when it means no good: read or refused, never a
// crash, never a line break kept.
TEST(UrlTest, MutatedInputIsReadOrRefused) {
  const std::vector<std::string> seeds = {
      "https://host.example:5000/v2/a/b?x=1&y=%2f#z", "http://[::1]:80/../..//a/./b/..",
      R"(Bearer realm="https://a/b?c",service="x y",scope="repository:a:pull", Basic realm=z)"};
  std::mt19937 random(11);
  for (int i = 0; i < 30000; ++i) {
    std::string text = seeds[random() % seeds.size()];
    for (int n = random() % 6; n >= 0; --n) {
      size_t at = random() % (text.size() + 1);
      switch (random() % 3) {
        case 0:
          text.insert(at, 1, static_cast<char>(random()));
          break;
        case 1:
          if (at < text.size()) text.erase(at, 1 + random() % 4);
          break;
        default:
          text.insert(at, std::string(1, "\"\\,= \r\n/@:?#[]%"[random() % 16]));
      }
    }
    ASSERT_LE(ParseChallenges(text).size(), 16u);
    absl::StatusOr<Url> url = Url::Parse(text);
    absl::StatusOr<Url> relative = Url{"https", "base.example", "/v2/x"}.Resolve(text);
    for (const absl::StatusOr<Url>& found : {url, relative}) {
      if (!found.ok()) continue;
      ASSERT_EQ(found->str().find_first_of(" \r\n\""), std::string::npos) << text;
      absl::StatusOr<Url> again = Url::Parse(found->str());
      ASSERT_TRUE(again.ok()) << found->str();
      ASSERT_EQ(again->str(), found->str());
    }
  }
}

}  // namespace
}  // namespace gantry::distribution
