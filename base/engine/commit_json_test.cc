#include "base/engine/commit_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/field_error.h"

namespace gantry::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> Changes(const char* json) {
  const absl::StatusOr<Value> config = Value::FromJson(json);
  EXPECT_TRUE(config.ok()) << config.status();
  absl::StatusOr<std::vector<std::string>> changes = ChangesFromDocument(*config);
  EXPECT_TRUE(changes.ok()) << changes.status();
  return changes.value_or(std::vector<std::string>());
}

TEST(CommitJsonTest, EachFieldIsAnInstruction) {
  EXPECT_THAT(
      Changes(R"({"Cmd":["sh","-c","a b"],"Entrypoint":"/e","Env":["A=b c","PASSED"],)"
              R"("Labels":{"k":"v $x"},"ExposedPorts":{"80/tcp":{}},"Volumes":{"/d d":{}},)"
              R"("User":"me","WorkingDir":"/w","StopSignal":"SIGINT","OnBuild":["RUN x"]})"),
      ElementsAre(R"(ENTRYPOINT ["/e"])", R"(CMD ["sh","-c","a b"])", R"(ENV A=b\ c)",
                  R"(LABEL k=v\ \$x)", "EXPOSE 80/tcp", R"(VOLUME ["/d d"])", "USER me",
                  "WORKDIR /w", "STOPSIGNAL SIGINT", "ONBUILD RUN x"));
}

TEST(CommitJsonTest, HealthChecks) {
  EXPECT_THAT(Changes(R"({"Healthcheck":{"Test":["CMD","a","b"],"Interval":5000000000,)"
                      R"("Retries":2}})"),
              ElementsAre(R"(HEALTHCHECK --interval=5000000000ns --retries=2 CMD ["a","b"])"));
  EXPECT_THAT(Changes(R"({"Healthcheck":{"Test":["CMD-SHELL","a | b"]}})"),
              ElementsAre("HEALTHCHECK CMD a | b"));
  EXPECT_THAT(Changes(R"({"Healthcheck":{"Test":["NONE"]}})"), ElementsAre("HEALTHCHECK NONE"));
}

TEST(CommitJsonTest, WhatIsEmptyChangesNothing) {
  EXPECT_THAT(Changes("null"), IsEmpty());
  EXPECT_THAT(Changes(R"({"Cmd":null,"Env":[],"User":"","Labels":{},"Hostname":"x"})"), IsEmpty());
}

TEST(CommitJsonTest, NamesTheFieldThatIsWrong) {
  EXPECT_EQ(FieldOf(ChangesFromDocument(*Value::FromJson(R"({"Env":[1]})")).status()), "Env[0]");
  EXPECT_EQ(FieldOf(ChangesFromDocument(*Value::FromJson("[]")).status()), "body");
}

}  // namespace
}  // namespace gantry::engine
