#include "supervisor/core/registry_call.h"

#include <optional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "proto/gantry/v1/types.pb.h"

namespace gantry::core {
namespace {

using distribution::Credential;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

// The daemon's own credentials: the same for every host.
class Daemons final : public distribution::CredentialSource {
 public:
  absl::StatusOr<std::optional<Credential>> Find(absl::string_view) override {
    Credential one;
    one.username = "daemon";
    return one;
  }
};

class RegistryCallTest : public testing::Test {
 protected:
  // Who a call is at a host; "" for nobody.
  static std::string Who(const RegistryCall& call, const std::string& host) {
    if (call.context.credentials == nullptr) return "";
    const auto found = call.context.credentials->Find(host);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() && found->has_value() ? (*found)->username : "";
  }
  static v1::RegistryAuth Ann() {
    v1::RegistryAuth auth;
    auth.set_username("ann");
    auth.set_password("secret");
    return auth;
  }
  absl::Status Applied(const RegistryAccess& access) {
    RegistryCall call({}, "r.example", &daemons_, &cancel_);
    return call.Apply(access, &hosts_);
  }

  Daemons daemons_;
  CancelToken cancel_;
  distribution::HostsConfig hosts_{[] {
    distribution::HostsConfigOptions options;
    options.directories = {"/daemons"};
    options.insecure_registries = {"r.example:5000"};
    return options;
  }()};
};

TEST_F(RegistryCallTest, WithoutACredentialOfItsOwnItIsTheDaemons) {
  const RegistryCall call({}, "r.example", &daemons_, &cancel_);
  EXPECT_EQ(Who(call, "r.example"), "daemon");
  EXPECT_EQ(call.context.cancel, &cancel_);
  EXPECT_EQ(call.context.hosts, nullptr);
  const RegistryCall nobody({}, "r.example", nullptr, nullptr);
  EXPECT_EQ(Who(nobody, "r.example"), "");
}

TEST_F(RegistryCallTest, TheRequestsCredentialIsForItsRegistryOnly) {
  const RegistryCall call(Ann(), "r.example", &daemons_, &cancel_);
  EXPECT_EQ(Who(call, "r.example"), "ann");
  // Neither it nor the daemon's goes to another registry.
  EXPECT_EQ(Who(call, "mirror.example"), "");
  const Credential found = **call.context.credentials->Find("r.example");
  EXPECT_EQ(found.password, "secret");
  EXPECT_EQ(found.source, "the request");
}

TEST_F(RegistryCallTest, ATokenAloneIsACredential) {
  v1::RegistryAuth identity;
  identity.set_identity_token("refresh");
  const RegistryCall refreshed(identity, "r.example", &daemons_, nullptr);
  EXPECT_EQ((**refreshed.context.credentials->Find("r.example")).identity_token, "refresh");
  v1::RegistryAuth bearer;
  bearer.set_registry_token("bearer");
  const RegistryCall carried(bearer, "r.example", &daemons_, nullptr);
  EXPECT_EQ((**carried.context.credentials->Find("r.example")).registry_token, "bearer");
  // An address without a secret is none.
  v1::RegistryAuth address;
  address.set_server_address("r.example");
  EXPECT_EQ(Who(RegistryCall(address, "r.example", &daemons_, nullptr), "r.example"), "daemon");
}

TEST_F(RegistryCallTest, WithNoWishTheDaemonsHostsAreAsked) {
  RegistryCall call({}, "r.example", &daemons_, nullptr);
  RegistryAccess access;
  access.headers = {{"X-Trace", "7"}};
  ASSERT_TRUE(call.Apply(access, &hosts_).ok());
  EXPECT_EQ(call.context.hosts, nullptr);
  EXPECT_THAT(call.context.headers, ElementsAre(Pair("X-Trace", "7")));
}

TEST_F(RegistryCallTest, DirectoriesOfHostsReplaceTheDaemons) {
  RegistryCall call({}, "r.example", &daemons_, nullptr);
  RegistryAccess access;
  access.hosts_directory = "/one:/two";
  ASSERT_TRUE(call.Apply(access, &hosts_).ok());
  ASSERT_NE(call.context.hosts, nullptr);
  EXPECT_THAT(call.context.hosts->options().directories, ElementsAre("/one", "/two"));
  // What else the daemon is configured to stays.
  EXPECT_THAT(call.context.hosts->options().insecure_registries, ElementsAre("r.example:5000"));
}

TEST_F(RegistryCallTest, ASchemeIsForRegistriesThatNoFileSpeaksOf) {
  for (const char* scheme : {"http", "HTTPS"}) {
    RegistryCall call({}, "r.example", &daemons_, nullptr);
    RegistryAccess access;
    access.default_scheme = scheme;
    ASSERT_TRUE(call.Apply(access, &hosts_).ok()) << scheme;
    EXPECT_EQ(call.context.hosts->options().default_scheme,
              std::string(scheme) == "http" ? "http" : "https");
    EXPECT_THAT(call.context.hosts->options().directories, ElementsAre("/daemons"));
  }
  // Without a configuration of the daemon's there are defaults.
  RegistryCall call({}, "r.example", &daemons_, nullptr);
  RegistryAccess access;
  access.default_scheme = "http";
  EXPECT_TRUE(call.Apply(access, nullptr).ok());
}

TEST_F(RegistryCallTest, WishesThatMeanNothingAreRefused) {
  RegistryAccess relative;
  relative.hosts_directory = "/one:two";
  const absl::Status directory = Applied(relative);
  EXPECT_TRUE(absl::IsInvalidArgument(directory));
  EXPECT_THAT(std::string(directory.message()), HasSubstr("\"two\": must be an absolute path"));
  RegistryAccess empty;
  empty.hosts_directory = "/one:";
  EXPECT_TRUE(absl::IsInvalidArgument(Applied(empty)));
  RegistryAccess ftp;
  ftp.default_scheme = "ftp";
  const absl::Status scheme = Applied(ftp);
  EXPECT_TRUE(absl::IsInvalidArgument(scheme));
  EXPECT_THAT(std::string(scheme.message()), HasSubstr("\"ftp\""));
}

TEST_F(RegistryCallTest, WorkOfTheDaemonsOwnHasItsCredentials) {
  const distribution::CallContext context = DaemonsCall(&daemons_, cancel_);
  EXPECT_EQ(context.credentials, &daemons_);
  EXPECT_EQ(context.cancel, &cancel_);
}

}  // namespace
}  // namespace gantry::core
