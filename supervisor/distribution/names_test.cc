// Names, hosts and credentials: what a pull knows before it opens a connection.

#include <sys/stat.h>

#include <cstdlib>
#include <random>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "supervisor/distribution/credentials.h"
#include "supervisor/distribution/hosts_config.h"
#include "supervisor/distribution/reference.h"

namespace gantry::distribution {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kDigest[] =
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

TEST(ReferenceTest, NamesBecomeCanonicalAsDockerMakesThem) {
  struct Case {
    const char* text;
    const char* canonical;
    const char* familiar;
  };
  for (const Case& test : std::vector<Case>{
           {"ubuntu", "docker.io/library/ubuntu:latest", "ubuntu:latest"},
           {"ubuntu:22.04", "docker.io/library/ubuntu:22.04", "ubuntu:22.04"},
           {"user/app", "docker.io/user/app:latest", "user/app:latest"},
           {"docker.io/ubuntu", "docker.io/library/ubuntu:latest", "ubuntu:latest"},
           {"index.docker.io/ubuntu", "docker.io/library/ubuntu:latest", "ubuntu:latest"},
           {"docker.io/library/ubuntu", "docker.io/library/ubuntu:latest", "ubuntu:latest"},
           {"library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"},
           {"localhost/x", "localhost/x:latest", "localhost/x:latest"},
           {"host.tld/x:1", "host.tld/x:1", "host.tld/x:1"},
           {"host:5000/x", "host:5000/x:latest", "host:5000/x:latest"},
           {"Upper/x", "Upper/x:latest", "Upper/x:latest"},
           {"[::1]:5000/a/b:t", "[::1]:5000/a/b:t", "[::1]:5000/a/b:t"},
           {"a__b/c.d/e---f", "docker.io/a__b/c.d/e---f:latest", "a__b/c.d/e---f:latest"},
           {"x:_T-1.0", "docker.io/library/x:_T-1.0", "x:_T-1.0"}}) {
    absl::StatusOr<Reference> ref = Reference::Parse(test.text);
    ASSERT_TRUE(ref.ok()) << test.text << ": " << ref.status();
    EXPECT_EQ(ref->canonical(), test.canonical);
    EXPECT_EQ(ref->familiar(), test.familiar);
    EXPECT_EQ(*Reference::Parse(ref->canonical()), *ref);
  }
}

TEST(ReferenceTest, WhatReadsAsAnIdIsNoName) {
  const std::string hex = std::string(kDigest).substr(7);
  for (const std::string& text :
       {hex, std::string(kDigest), std::string("sha256:e3b0c442"),
        std::string("docker.io/library/sha256:latest"), std::string("sha512")}) {
    EXPECT_EQ(Reference::Parse(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
  EXPECT_TRUE(Reference::Parse("host:5000/sha256:1").ok());
  EXPECT_TRUE(Reference::Parse("me/sha256").ok());
}

TEST(ReferenceTest, ADigestIsWhatGetsAskedFor) {
  Reference ref = *Reference::Parse(absl::StrCat("ubuntu:22.04@", kDigest));
  EXPECT_EQ(ref.object(), kDigest);
  EXPECT_EQ(ref.tag(), "22.04");
  EXPECT_EQ(ref.canonical(), absl::StrCat("docker.io/library/ubuntu:22.04@", kDigest));
  EXPECT_EQ(Reference::Parse(absl::StrCat("ubuntu@", kDigest))->tag(), "");
  EXPECT_EQ(ref.WithTag("x")->canonical(), "docker.io/library/ubuntu:x");
  EXPECT_EQ(ref.WithoutObject().canonical(), "docker.io/library/ubuntu");
}

TEST(ReferenceTest, WhatIsNoNameIsRefused) {
  std::vector<std::string> bad = {"",
                                  "UPPER",
                                  "user/App",
                                  ":tag",
                                  "a:",
                                  "a:-x",
                                  "a:.x",
                                  "a//b",
                                  "/a",
                                  "a/",
                                  "a b",
                                  "a@",
                                  "a@sha256:12",
                                  "a/../b",
                                  "..",
                                  "a.",
                                  "-a",
                                  "a_",
                                  "a___b",
                                  "host:port/x",
                                  "host:99999999/x",
                                  "http://host/x",
                                  "[::1/x",
                                  "[zz]/x",
                                  "a\nb",
                                  "-host.tld/x",
                                  std::string("a\0b", 3),
                                  std::string(64, 'a'),
                                  "host.tld/" + std::string(300, 'a'),
                                  "a:" + std::string(129, 't'),
                                  "a@sha256:" + std::string(64, 'Z'),
                                  "a@md5:d41d8cd98f00b204e9800998ecf8427e"};
  for (const std::string& text : bad) {
    EXPECT_EQ(Reference::Parse(text).status().code(), absl::StatusCode::kInvalidArgument)
        << absl::CEscape(text);
  }
  EXPECT_THAT(std::string(Reference::Parse("Ubuntu/App").status().message()),
              HasSubstr("lower case"));
}

// Pieces of names, put together by chance: whatever is accepted survives being printed and read
// again.
TEST(ReferenceTest, AcceptedNamesReadBackAsTheyWere) {
  const std::vector<std::string> pieces = {"a",
                                           "ubuntu",
                                           "library",
                                           "docker.io",
                                           "localhost",
                                           "host.tld",
                                           ":5000",
                                           "/",
                                           "/",
                                           ":",
                                           "@",
                                           kDigest,
                                           "latest",
                                           ".",
                                           "..",
                                           "_",
                                           "__",
                                           "-",
                                           "A",
                                           "[::1]",
                                           "\n",
                                           std::string(1, '\0'),
                                           "%2f",
                                           "sha256:",
                                           std::string(64, 'f'),
                                           std::string(200, 'x')};
  std::mt19937 random(7);
  int accepted = 0;
  for (int i = 0; i < 50000; ++i) {
    std::string text;
    for (int n = random() % 7; n >= 0; --n) text += pieces[random() % pieces.size()];
    absl::StatusOr<Reference> ref = Reference::Parse(text);
    if (!ref.ok()) {
      ASSERT_EQ(ref.status().code(), absl::StatusCode::kInvalidArgument);
      continue;
    }
    ++accepted;
    ASSERT_EQ(*Reference::Parse(ref->canonical()), *ref) << absl::CEscape(text);
    for (absl::string_view bad : {"..", "//", "\n", "%", " "}) {
      ASSERT_THAT(ref->path(), Not(HasSubstr(std::string(bad)))) << absl::CEscape(text);
    }
  }
  EXPECT_GT(accepted, 1000);
}

TEST(ReferenceTest, LoopbackIsAnAddressAndNotAPrefix) {
  for (const char* host :
       {"localhost", "localhost:5000", "127.0.0.1", "127.8.9.10:443", "[::1]:5000", "[::1]"}) {
    EXPECT_TRUE(IsLoopbackHost(host)) << host;
  }
  for (const char* host : {"127.evil.example", "127.0.0.1.evil.example", "localhost.evil",
                           "128.0.0.1", "[::2]", "127.0.0", "1270.0.0.1"}) {
    EXPECT_FALSE(IsLoopbackHost(host)) << host;
  }
}

class HostsConfigTest : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    std::string full = temp.Join(path);
    ASSERT_TRUE(MakeDirectories(full.substr(0, full.rfind('/'))).ok());
    ASSERT_TRUE(WriteFile(full, text).ok());
  }
  absl::StatusOr<HostsLookup> Lookup(const std::string& domain) {
    HostsConfigOptions options;
    options.directories = {temp.Join("first"), temp.Join("second")};
    options.insecure_registries = insecure;
    options.default_scheme = scheme;
    return HostsConfig(options).Lookup(domain);
  }

  TempDir temp;
  std::vector<std::string> insecure;
  std::string scheme;
};

TEST_F(HostsConfigTest, WithoutFilesTheRegistryIsAskedOverHttps) {
  absl::StatusOr<HostsLookup> lookup = Lookup("docker.io");
  ASSERT_TRUE(lookup.ok());
  ASSERT_EQ(lookup->hosts.size(), 1u);
  EXPECT_EQ(lookup->hosts[0].origin(), "https://registry-1.docker.io");
  EXPECT_EQ(lookup->hosts[0].path, "/v2");
  EXPECT_FALSE(lookup->hosts[0].mirror);
  EXPECT_EQ(lookup->used, "");
}

TEST_F(HostsConfigTest, HostsKeepTheOrderOfTheFile) {
  Write("second/docker.io/hosts.toml", R"(server = "https://docker.io"

[host."https://zebra.example"]
  capabilities = ["pull", "resolve"]
[host."http://apple.example:5000/prefix"]
  skip_verify = true
  dial_timeout = "5s"
  [host."http://apple.example:5000/prefix".header]
    x-one = "1"
    x-two = ["2", "3"]
[host."https://path.example/v2/proxy"]
  override_path = true
)");
  absl::StatusOr<HostsLookup> lookup = Lookup("docker.io");
  ASSERT_TRUE(lookup.ok()) << lookup.status();
  ASSERT_EQ(lookup->hosts.size(), 4u);
  const RegistryHost& zebra = lookup->hosts[0];
  EXPECT_EQ(zebra.origin() + zebra.path, "https://zebra.example/v2");
  EXPECT_TRUE(zebra.mirror);
  EXPECT_TRUE(zebra.can_pull && zebra.can_resolve);
  EXPECT_FALSE(zebra.can_push);
  const RegistryHost& apple = lookup->hosts[1];
  EXPECT_EQ(apple.origin() + apple.path, "http://apple.example:5000/prefix/v2");
  EXPECT_TRUE(apple.tls.skip_verify);
  EXPECT_EQ(apple.dial_timeout, absl::Seconds(5));
  EXPECT_EQ(apple.headers.size(), 3u);
  EXPECT_THAT(apple.rule, HasSubstr("hosts.toml:5 "));
  EXPECT_EQ(lookup->hosts[2].path, "/v2/proxy");
  EXPECT_EQ(lookup->hosts[3].origin(), "https://registry-1.docker.io");
  EXPECT_FALSE(lookup->hosts[3].mirror);
  EXPECT_EQ(lookup->used, temp.Join("second/docker.io/hosts.toml"));
}

TEST_F(HostsConfigTest, TheMostSpecificDirectoryWins) {
  Write("first/_default/hosts.toml", "[host.\"https://default.example\"]\n");
  Write("first/r.example/hosts.toml", "[host.\"https://byhost.example\"]\n");
  Write("first/r.example_5000_/hosts.toml", "[host.\"https://byport.example\"]\n");
  EXPECT_EQ(Lookup("r.example:5000")->hosts[0].host, "byport.example");
  EXPECT_EQ(Lookup("r.example:6000")->hosts[0].host, "byhost.example");
  EXPECT_EQ(Lookup("other.example")->hosts[0].host, "default.example");
  EXPECT_EQ(Lookup("other.example")->hosts[1].origin(), "https://other.example");
}

TEST_F(HostsConfigTest, ABrokenFileIsAnErrorWithItsLine) {
  struct Case {
    const char* text;
    const char* expected;
  };
  for (const Case& test :
       std::vector<Case>{{"server = \n", "hosts.toml:1"},
                         {"\n\ncapabilities = [\"fly\"]\n", "hosts.toml:3: capabilities: \"fly\""},
                         {"ca = \"missing.pem\"\n", "no such file"},
                         {"[host.\"ftp://x\"]\n", "http:// or https://"},
                         {"[host.\"https://u@x\"]\n", "no usable host"},
                         {"dial_timeout = \"soon\"\n", "a duration"},
                         {"skip_verify = \"yes\"\n", "true or false"},
                         {"[header]\nx = \"a\\nb\"\n", "line breaks"}}) {
    Write("first/r.example/hosts.toml", test.text);
    absl::Status status = Lookup("r.example").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << test.text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(test.expected));
  }
}

TEST_F(HostsConfigTest, UnknownKeysAreNamed) {
  Write("first/r.example/hosts.toml", "sever = \"https://typo.example\"\n");
  absl::StatusOr<HostsLookup> lookup = Lookup("r.example");
  ASSERT_TRUE(lookup.ok());
  EXPECT_THAT(lookup->looked_at,
              ::testing::Contains(HasSubstr("hosts.toml:1: key sever is not known")));
}

TEST_F(HostsConfigTest, DockersCertificatesAreUsed) {
  Write("first/r.example:5000/ca.crt", "x");
  Write("first/r.example:5000/me.cert", "x");
  absl::Status missing = Lookup("r.example:5000").status();
  EXPECT_THAT(std::string(missing.message()), HasSubstr("me.key is missing"));
  Write("first/r.example:5000/me.key", "x");
  absl::StatusOr<HostsLookup> lookup = Lookup("r.example:5000");
  ASSERT_TRUE(lookup.ok()) << lookup.status();
  EXPECT_THAT(lookup->hosts[0].tls.ca_files, ElementsAre(temp.Join("first/r.example:5000/ca.crt")));
  EXPECT_EQ(lookup->hosts[0].tls.client_pairs[0].second, temp.Join("first/r.example:5000/me.key"));
}

TEST_F(HostsConfigTest, RelativeFilesAndPairsOfClientCertificates) {
  Write("first/r.example/a.pem", "x");
  Write("first/r.example/b.pem", "x");
  Write("first/r.example/hosts.toml",
        "ca = [\"a.pem\", \"b.pem\"]\nclient = [[\"a.pem\", \"b.pem\"], [\"b.pem\", \"\"]]\n");
  absl::StatusOr<HostsLookup> lookup = Lookup("r.example");
  ASSERT_TRUE(lookup.ok()) << lookup.status();
  EXPECT_EQ(lookup->hosts[0].tls.ca_files.size(), 2u);
  ASSERT_EQ(lookup->hosts[0].tls.client_pairs.size(), 2u);
  EXPECT_EQ(lookup->hosts[0].tls.client_pairs[0].first, temp.Join("first/r.example/a.pem"));
  EXPECT_EQ(lookup->hosts[0].tls.client_pairs[1].second, "");
}

TEST_F(HostsConfigTest, PlainHttpNeedsLoopbackOrPermission) {
  EXPECT_TRUE(Lookup("localhost:5000")->hosts[0].http_fallback);
  EXPECT_EQ(Lookup("localhost:80")->hosts[0].scheme, "http");
  EXPECT_FALSE(Lookup("10.1.2.3:5000")->hosts[0].http_fallback);
  insecure = {"10.0.0.0/8", "named.example", "port.example:5000"};
  EXPECT_TRUE(Lookup("10.1.2.3:5000")->hosts[0].http_fallback);
  EXPECT_TRUE(Lookup("named.example:1")->hosts[0].http_fallback);
  EXPECT_TRUE(Lookup("port.example:5000")->hosts[0].http_fallback);
  EXPECT_FALSE(Lookup("port.example:5001")->hosts[0].http_fallback);
  EXPECT_FALSE(Lookup("11.1.2.3")->hosts[0].http_fallback);
}

TEST_F(HostsConfigTest, ACallersSchemeIsForRegistriesThatNoFileSpeaksOf) {
  Write("first/filed.example/hosts.toml", "server = \"https://filed.example\"\n");
  scheme = "http";
  EXPECT_EQ(Lookup("plain.example:5000")->hosts[0].origin(), "http://plain.example:5000");
  EXPECT_EQ(Lookup("filed.example")->hosts[0].origin(), "https://filed.example");
  scheme = "https";
  EXPECT_EQ(Lookup("localhost:5000")->hosts[0].scheme, "https");
  EXPECT_FALSE(Lookup("localhost:5000")->hosts[0].http_fallback);
  EXPECT_FALSE(Lookup("localhost:5000")->hosts[0].tls.skip_verify);
}

class CredentialsTest : public ::testing::Test {
 protected:
  CredentialsTest() {
    unsetenv("DOCKER_AUTH_CONFIG");
    options.config_file = temp.Join("docker/config.json");
    options.helper_path = temp.path();
  }
  void WriteConfig(const std::string& text) {
    ASSERT_TRUE(MakeDirectories(temp.Join("docker")).ok());
    ASSERT_TRUE(WriteFile(options.config_file, text).ok());
  }
  // A helper that keeps its secrets in files named after the server.
  void AddHelper(const std::string& name) {
    std::string script = "#!/bin/sh\ndir=" + temp.path() + R"sh(/vault
mkdir -p "$dir"
input=$(cat)
case "$1" in
get)
  f="$dir/$(echo "$input" | tr '/:' '__')"
  [ -f "$f" ] || { echo "credentials not found in native keychain"; exit 1; }
  cat "$f"
  ;;
store)
  server=$(echo "$input" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/')
  echo "$input" > "$dir/$(echo "$server" | tr '/:' '__')"
  ;;
erase) rm "$dir/$(echo "$input" | tr '/:' '__')" ;;
esac
)sh";
    ASSERT_TRUE(WriteFile(temp.Join("docker-credential-" + name), script, 0755).ok());
  }

  TempDir temp;
  DockerConfigCredentials::Options options;
};

TEST_F(CredentialsTest, NothingConfiguredIsAnonymous) {
  DockerConfigCredentials credentials(options);
  absl::StatusOr<std::optional<Credential>> found = credentials.Find("r.example");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_FALSE(found->has_value());
}

TEST_F(CredentialsTest, AuthsAreFoundUnderEveryKeyDockerWrites) {
  for (const char* key : {"r.example:5000", "https://r.example:5000", "http://r.example:5000",
                          "r.example:5000/v1/", "https://r.example:5000/v2/"}) {
    WriteConfig(absl::StrCat(R"({"auths":{")", key, R"(":{"auth":")",
                             absl::Base64Escape("ann:pa:ss"), R"("}}})"));
    absl::StatusOr<std::optional<Credential>> found =
        DockerConfigCredentials(options).Find("r.example:5000");
    ASSERT_TRUE(found.ok() && found->has_value()) << key;
    EXPECT_EQ((*found)->username, "ann");
    EXPECT_EQ((*found)->password, "pa:ss");
    EXPECT_FALSE(DockerConfigCredentials(options).Find("r.example")->has_value());
  }
}

TEST_F(CredentialsTest, TheHubHasItsOldKey) {
  WriteConfig(absl::StrCat(R"({"auths":{"https://index.docker.io/v1/":{"auth":")",
                           absl::Base64Escape("ann:pw"), R"("}}})"));
  EXPECT_EQ((*DockerConfigCredentials(options).Find("registry-1.docker.io"))->password, "pw");
  EXPECT_EQ((*DockerConfigCredentials(options).Find("docker.io"))->password, "pw");
}

TEST_F(CredentialsTest, IdentityTokens) {
  WriteConfig(absl::StrCat(R"({"auths":{"a.example":{"auth":")", absl::Base64Escape("ann:"),
                           R"(","identitytoken":"refresh"},"b.example":{"auth":")",
                           absl::Base64Escape("<token>:refresh2"), R"("}}})"));
  EXPECT_EQ((*DockerConfigCredentials(options).Find("a.example"))->identity_token, "refresh");
  EXPECT_EQ((*DockerConfigCredentials(options).Find("b.example"))->identity_token, "refresh2");
}

TEST_F(CredentialsTest, HelpersComeBeforeAuthsAndTheHostsOwnBeforeTheStore) {
  AddHelper("one");
  AddHelper("two");
  ASSERT_TRUE(MakeDirectories(temp.Join("vault")).ok());
  ASSERT_TRUE(WriteFile(temp.Join("vault/a.example"),
                        R"({"ServerURL":"a.example","Username":"ann","Secret":"from helper"})")
                  .ok());
  WriteConfig(absl::StrCat(
      R"({"credsStore":"two","credHelpers":{"a.example":"one"},"auths":{"a.example":{"auth":")",
      absl::Base64Escape("x:from file"), R"("}}})"));
  absl::StatusOr<std::optional<Credential>> found =
      DockerConfigCredentials(options).Find("a.example");
  ASSERT_TRUE(found.ok() && found->has_value()) << found.status();
  EXPECT_EQ((*found)->password, "from helper");
  EXPECT_EQ((*found)->source, "docker-credential-one");
  EXPECT_FALSE(DockerConfigCredentials(options).Find("unknown.example")->has_value());
}

TEST_F(CredentialsTest, AMissingOrFailingHelperIsAnError) {
  WriteConfig(R"({"credsStore":"none"})");
  EXPECT_EQ(DockerConfigCredentials(options).Find("a.example").status().code(),
            absl::StatusCode::kUnavailable);
  WriteConfig(R"({"credsStore":"../../bin/sh"})");
  EXPECT_EQ(DockerConfigCredentials(options).Find("a.example").status().code(),
            absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(WriteFile(temp.Join("docker-credential-bad"),
                        "#!/bin/sh\necho 'vault is sealed'; exit 3\n", 0755)
                  .ok());
  WriteConfig(R"({"credsStore":"bad"})");
  absl::Status status = DockerConfigCredentials(options).Find("a.example").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("vault is sealed"));
}

TEST_F(CredentialsTest, AHelperThatHangsIsEnded) {
  ASSERT_TRUE(
      WriteFile(temp.Join("docker-credential-slow"), "#!/bin/sh\nexec tail -f /dev/null\n", 0755)
          .ok());
  WriteConfig(R"({"credsStore":"slow"})");
  options.helper_timeout = absl::Milliseconds(100);
  absl::Status status = DockerConfigCredentials(options).Find("a.example").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no answer in time"));
}

TEST_F(CredentialsTest, LoginWritesAPrivateFileAndKeepsTheRest) {
  WriteConfig(R"({"psFormat":"table {{.ID}}","auths":{"b.example":{"auth":"Yjpj"}}})");
  DockerConfigCredentials credentials(options);
  absl::StatusOr<DockerConfigCredentials::StoreOutcome> outcome =
      credentials.Store("a.example", {"ann", "pw", "", "", ""});
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_TRUE(outcome->plain_text);
  struct stat st;
  ASSERT_EQ(stat(options.config_file.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  EXPECT_EQ((*credentials.Find("a.example"))->password, "pw");
  EXPECT_EQ((*credentials.Find("b.example"))->password, "c");
  EXPECT_THAT(*ReadFile(options.config_file, 1 << 20), HasSubstr("psFormat"));
  EXPECT_TRUE(credentials.Erase("a.example").ok());
  EXPECT_FALSE(credentials.Find("a.example")->has_value());
  EXPECT_TRUE(credentials.Find("b.example")->has_value());
  EXPECT_EQ(credentials.Erase("a.example").code(), absl::StatusCode::kNotFound);
}

TEST_F(CredentialsTest, LoginWithAHelperKeepsTheSecretOutOfTheFile) {
  AddHelper("vaulted");
  WriteConfig(R"({"credsStore":"vaulted"})");
  DockerConfigCredentials credentials(options);
  absl::StatusOr<DockerConfigCredentials::StoreOutcome> outcome =
      credentials.Store("a.example", {"ann", "top-secret", "", "", ""});
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_FALSE(outcome->plain_text);
  EXPECT_THAT(*ReadFile(options.config_file, 1 << 20), Not(HasSubstr("top-secret")));
  EXPECT_EQ((*credentials.Find("a.example"))->password, "top-secret");
  EXPECT_TRUE(credentials.Erase("a.example").ok());
  EXPECT_FALSE(credentials.Find("a.example")->has_value());
}

TEST_F(CredentialsTest, ADamagedFileIsReportedAndLeftAlone) {
  WriteConfig("{ not json");
  DockerConfigCredentials credentials(options);
  EXPECT_EQ(credentials.Find("a.example").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(credentials.Store("a.example", {"ann", "pw", "", "", ""}).ok());
  EXPECT_EQ(*ReadFile(options.config_file, 100), "{ not json");
}

TEST_F(CredentialsTest, InlineAuthsComeFirst) {
  WriteConfig(absl::StrCat(R"({"auths":{"a.example":{"auth":")", absl::Base64Escape("ann:file"),
                           R"("}}})"));
  options.inline_auths = absl::StrCat(R"({"auths":{"a.example":{"auth":")",
                                      absl::Base64Escape("ann:inline"), R"("}}})");
  EXPECT_EQ((*DockerConfigCredentials(options).Find("a.example"))->password, "inline");
}

TEST(EncodedCredentialTest, ReadsTheHeaderDockerSends) {
  absl::StatusOr<Credential> credential = ParseEncodedCredential(absl::WebSafeBase64Escape(
      R"({"username":"ann","password":"p>?w","serveraddress":"r.example"})"));
  ASSERT_TRUE(credential.ok()) << credential.status();
  EXPECT_EQ(credential->password, "p>?w");
  EXPECT_EQ(ParseEncodedCredential(absl::Base64Escape("ann:pw"))->username, "ann");
  EXPECT_EQ(ParseEncodedCredential("%%%").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseEncodedCredential(absl::Base64Escape("neither")).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(StaticCredentialsTest, BelongToOneHost) {
  StaticCredentials credentials("r.example", {"ann", "pw", "", "", "test"});
  EXPECT_TRUE(credentials.Find("r.example")->has_value());
  EXPECT_FALSE(credentials.Find("mirror.example")->has_value());
}

}  // namespace
}  // namespace gantry::distribution
