#include "supervisor/api/docker/classic_build.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace gantry::api::docker {
namespace {

using Lines = std::vector<std::string>;

v1::BuildResponse Step(int number, const std::string& instruction, bool over = false) {
  v1::BuildResponse event;
  v1::BuildStep& step = *event.mutable_step();
  step.set_number(number);
  step.set_instruction(instruction);
  step.set_position(number);
  step.set_positions(3);
  if (over) {
    step.mutable_completed_at()->set_seconds(1);
    step.set_image_id("sha256:0123456789abcdef");
  }
  return event;
}

TEST(ClassicBuildTest, AStepIsToldWithItsContainerAndItsOutput) {
  ClassicBuild classic(false, false);
  EXPECT_EQ(classic.Add(Step(1, "RUN x")),
            (Lines{"{\"stream\":\"Step 1/3 : RUN x\"}\r\n", "{\"stream\":\"\\n\"}\r\n"}));
  v1::BuildResponse running = Step(1, "RUN x");
  running.mutable_step()->set_container("fedcba9876543210");
  EXPECT_EQ(classic.Add(running), (Lines{"{\"stream\":\" ---> Running in fedcba987654\\n\"}\r\n"}));
  v1::BuildResponse log;
  log.mutable_log()->set_step(1);
  log.mutable_log()->set_stream(1);
  log.mutable_log()->set_data("out\n");
  EXPECT_EQ(classic.Add(log), (Lines{"{\"stream\":\"out\\n\"}\r\n"}));
  running = Step(1, "RUN x", true);
  running.mutable_step()->set_container("fedcba9876543210");
  EXPECT_EQ(classic.Add(running),
            (Lines{"{\"stream\":\" ---> Removed intermediate container fedcba987654\\n\"}\r\n",
                   "{\"stream\":\" ---> 0123456789ab\\n\"}\r\n"}));
}

TEST(ClassicBuildTest, StepsThatRunSideBySideAreToldOneAfterTheOther) {
  ClassicBuild classic(false, false);
  EXPECT_EQ(classic.Add(Step(1, "FROM a")).size(), 2u);
  EXPECT_TRUE(classic.Add(Step(2, "FROM b")).empty());
  EXPECT_TRUE(classic.Add(Step(2, "FROM b", true)).empty());
  const Lines lines = classic.Add(Step(1, "FROM a", true));
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0], "{\"stream\":\" ---> 0123456789ab\\n\"}\r\n");
  EXPECT_EQ(lines[1], "{\"stream\":\"Step 2/3 : FROM b\"}\r\n");
}

TEST(ClassicBuildTest, TheEndOfABuild) {
  v1::BuildResponse built;
  built.mutable_built()->set_image_id("sha256:0123456789abcdef");
  built.mutable_built()->add_tags("a:b");
  built.mutable_built()->add_tags("host:5000/c");
  EXPECT_EQ(ClassicBuild(false, false).Add(built),
            (Lines{"{\"aux\":{\"ID\":\"sha256:0123456789abcdef\"}}\r\n",
                   "{\"stream\":\"Successfully built 0123456789ab\\n\"}\r\n",
                   "{\"stream\":\"Successfully tagged a:b\\n\"}\r\n",
                   "{\"stream\":\"Successfully tagged host:5000/c:latest\\n\"}\r\n"}));
  EXPECT_EQ(ClassicBuild(true, false).Add(built),
            (Lines{"{\"stream\":\"sha256:0123456789abcdef\\n\"}\r\n"}));
}

TEST(ClassicBuildTest, ACommandThatFailedGivesItsCode) {
  ClassicBuild classic(false, false);
  v1::BuildResponse failed = Step(1, "RUN x", true);
  failed.mutable_step()->set_error("no");
  failed.mutable_step()->set_exit_code(3);
  failed.mutable_step()->set_command("/bin/sh -c x");
  classic.Add(failed);
  EXPECT_EQ(classic.Failed(absl::AbortedError("no")),
            "{\"errorDetail\":{\"code\":3,\"message\":\"The command '/bin/sh -c x' returned a "
            "non-zero code: 3\"},\"error\":\"The command '/bin/sh -c x' returned a non-zero code: "
            "3\"}\r\n");
  EXPECT_EQ(ClassicBuild(false, false).Failed(absl::NotFoundError("gone")),
            "{\"errorDetail\":{\"message\":\"gone\"},\"error\":\"gone\"}\r\n");
}

}  // namespace
}  // namespace gantry::api::docker
