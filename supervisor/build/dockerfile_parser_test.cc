#include "supervisor/build/dockerfile_parser.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace gantry::build {
namespace {

using Words = std::vector<std::string>;

Dockerfile Parsed(absl::string_view text) {
  absl::StatusOr<Dockerfile> file = ParseDockerfile(text, "Dockerfile");
  EXPECT_TRUE(file.ok()) << file.status();
  return file.ok() ? *std::move(file) : Dockerfile();
}

std::string ErrorOf(absl::string_view text) {
  return std::string(ParseDockerfile(text, "Dockerfile").status().message());
}

TEST(DockerfileParserTest, ADirectiveAfterAByteOrderMarkCounts) {
  const Dockerfile file = Parsed("\xef\xbb\xbf# escape=`\nWORKDIR c\\d\n");
  EXPECT_EQ(file.escape, '`');
  EXPECT_EQ(file.instructions[0].text, "c\\d");
}

TEST(DockerfileParserTest, DirectivesEndAtABlankLineOrAnUnknownName) {
  EXPECT_EQ(Parsed("\n# escape=`\nUSER x").escape, '\\');
  EXPECT_EQ(Parsed("# foo=1\n# escape=`\nUSER x").escape, '\\');
  const Dockerfile file = Parsed("# syntax=docker/dockerfile:1 x\n# check=skip=all\nUSER x");
  EXPECT_EQ(file.syntax, "docker/dockerfile:1");
  EXPECT_EQ(file.check, "skip=all");
}

TEST(DockerfileParserTest, DirectivesAreChecked) {
  EXPECT_EQ(ErrorOf("# escape=`\n# escape=`\nUSER x"),
            "Dockerfile: dockerfile parse error on line 2: only one escape parser directive can be "
            "used");
  EXPECT_EQ(ErrorOf("# escape=x\nUSER x"),
            "Dockerfile: dockerfile parse error on line 1: invalid escape token 'x' does not match "
            "` or \\");
}

TEST(DockerfileParserTest, CommentsBetweenContinuedLinesAreDropped) {
  const Dockerfile file = Parsed("RUN a \\\n# c \\\n  && b");
  ASSERT_EQ(file.instructions.size(), 1u);
  EXPECT_EQ(file.instructions[0].text, "a   && b");
}

TEST(DockerfileParserTest, EmptyLinesBetweenContinuedLinesAreSkippedWithAWarning) {
  const Dockerfile file = Parsed("RUN a \\\n\n && b\nUSER x");
  ASSERT_EQ(file.instructions.size(), 2u);
  EXPECT_EQ(file.instructions[1].line, 4);
  ASSERT_EQ(file.lints.size(), 1u);
  EXPECT_EQ(file.lints[0].rule, "NoEmptyContinuation");
}

TEST(DockerfileParserTest, AnEscapedEscapeCharacterContinuesNothing) {
  EXPECT_EQ(Parsed("RUN echo a \\\\\nUSER x").instructions.size(), 2u);
}

TEST(DockerfileParserTest, BlanksMayFollowTheContinuation) {
  EXPECT_EQ(Parsed("RUN a \\  \nb").instructions[0].text, "a b");
}

TEST(DockerfileParserTest, WhatIsNoJsonIsTheShellForm) {
  const Dockerfile file =
      Parsed("RUN [\"a\", 'b']\nENTRYPOINT [\"top\"] -b\nCMD [ \"a\" , \"b\" ]");
  EXPECT_FALSE(file.instructions[0].json);
  EXPECT_FALSE(file.instructions[1].json);
  EXPECT_TRUE(file.instructions[2].json);
  EXPECT_EQ(file.instructions[2].words, (Words{"a", "b"}));
  EXPECT_EQ(ErrorOf("CMD [\"a\", 1]"),
            "Dockerfile: dockerfile parse error on line 1: when using JSON array syntax, arrays "
            "must be comprised of strings only");
}

TEST(DockerfileParserTest, FlagsAreChecked) {
  EXPECT_EQ(ErrorOf("RUN --foo ls"),
            "Dockerfile: dockerfile parse error on line 1: RUN: unknown flag: --foo");
  EXPECT_EQ(ErrorOf("RUN --mont=x ls"),
            "Dockerfile: dockerfile parse error on line 1: RUN: unknown flag: --mont (did you mean "
            "mount?)");
  EXPECT_EQ(ErrorOf("COPY --from=a --from=b x y"),
            "Dockerfile: dockerfile parse error on line 1: COPY: duplicate flag specified: --from");
  EXPECT_EQ(ErrorOf("COPY --chown x y"),
            "Dockerfile: dockerfile parse error on line 1: COPY: missing a value on flag: --chown");
  EXPECT_EQ(ErrorOf("COPY --link=maybe x y"),
            "Dockerfile: dockerfile parse error on line 1: COPY: expecting boolean value for flag "
            "--link, not: maybe");
  const Dockerfile file = Parsed("RUN -- --foo\nCOPY --link --from='a b' x y\nARG --x=1 y");
  EXPECT_EQ(file.instructions[0].text, "--foo");
  EXPECT_TRUE(file.instructions[1].HasSwitch("link"));
  EXPECT_EQ(*file.instructions[1].FlagValue("from"), "a b");
}

TEST(DockerfileParserTest, HeredocsOfCopy) {
  const Dockerfile file = Parsed(
      "COPY <<E /f\n$N\nE\nCOPY <<'E' /f\n$N \\n\nE\nCOPY <<-E /f\n\t\tx\n\tE\n"
      "COPY <<X <<Y /d/\nY\nX\nX\nY\n");
  ASSERT_EQ(file.instructions.size(), 4u);
  EXPECT_EQ(file.instructions[0].heredocs[0], (Heredoc{"E", "$N\n", true}));
  EXPECT_EQ(file.instructions[1].heredocs[0], (Heredoc{"E", "$N \\n\n", false}));
  EXPECT_EQ(file.instructions[2].heredocs[0].body, "x\n");
  ASSERT_EQ(file.instructions[3].heredocs.size(), 2u);
  EXPECT_EQ(file.instructions[3].heredocs[0].body, "Y\n");
  EXPECT_EQ(file.instructions[3].heredocs[1].body, "X\n");
}

TEST(DockerfileParserTest, WhatLooksLikeAHeredocAndIsNone) {
  const Dockerfile file = Parsed("RUN echo \"<<E\"\nRUN cat <<< x\nRUN a<<X\nRUN [\"<<E\"]");
  ASSERT_EQ(file.instructions.size(), 4u);
  for (const Instruction& one : file.instructions) EXPECT_TRUE(one.heredocs.empty()) << one.text;
  EXPECT_EQ(ErrorOf("RUN <<E\nls\n"),
            "Dockerfile: dockerfile parse error on line 1: unterminated heredoc E");
  EXPECT_EQ(ErrorOf("COPY a <<E\nE\n"),
            "Dockerfile: dockerfile parse error on line 1: COPY cannot accept a heredoc as a "
            "destination");
}

TEST(DockerfileParserTest, EnvironmentPairs) {
  using Pairs = std::vector<std::pair<std::string, std::string>>;
  const Dockerfile file = Parsed("ENV X a  \"b c\"\nENV A=\"x y\" B=x\\ y C='$A'");
  EXPECT_EQ(file.instructions[0].pairs, (Pairs{{"X", "a  \"b c\""}}));
  EXPECT_EQ(file.instructions[1].pairs, (Pairs{{"A", "\"x y\""}, {"B", "x\\ y"}, {"C", "'$A'"}}));
  EXPECT_EQ(ErrorOf("ENV A=b c"),
            "Dockerfile: dockerfile parse error on line 1: Syntax error - can't find = in \"c\". "
            "Must be of the form: name=value");
  EXPECT_EQ(ErrorOf("ENV A"),
            "Dockerfile: dockerfile parse error on line 1: ENV must have two arguments");
  EXPECT_EQ(ErrorOf("ENV"),
            "Dockerfile: dockerfile parse error on line 1: ENV requires at least one argument");
  EXPECT_EQ(ErrorOf("ENV =a"),
            "Dockerfile: dockerfile parse error on line 1: ENV names can not be blank");
}

TEST(DockerfileParserTest, MistakesNameLineCauseAndTheNearestSpelling) {
  EXPECT_EQ(ErrorOf("FROM a\n\nRNU ls"),
            "Dockerfile: dockerfile parse error on line 3: unknown instruction: RNU (did you mean "
            "RUN?)");
  EXPECT_EQ(ErrorOf("FROM a b"),
            "Dockerfile: dockerfile parse error on line 1: FROM requires either one or three "
            "arguments");
  EXPECT_EQ(ErrorOf("USER"),
            "Dockerfile: dockerfile parse error on line 1: USER requires exactly one argument");
  EXPECT_EQ(ErrorOf("COPY x"),
            "Dockerfile: dockerfile parse error on line 1: COPY requires at least two arguments, "
            "but only one was provided. Destination could not be determined");
  EXPECT_EQ(ErrorOf("SHELL bash"),
            "Dockerfile: dockerfile parse error on line 1: SHELL requires the arguments to be in "
            "JSON form");
  EXPECT_EQ(ErrorOf("HEALTHCHECK TEST x"),
            "Dockerfile: dockerfile parse error on line 1: Unknown type \"TEST\" in HEALTHCHECK "
            "(try CMD)");
  EXPECT_EQ(ErrorOf("HEALTHCHECK CMD"),
            "Dockerfile: dockerfile parse error on line 1: Missing command after HEALTHCHECK CMD");
  EXPECT_EQ(ErrorOf("ONBUILD ONBUILD RUN x"),
            "Dockerfile: dockerfile parse error on line 1: Chaining ONBUILD via `ONBUILD ONBUILD` "
            "isn't allowed");
  EXPECT_EQ(ErrorOf("ONBUILD FROM x"),
            "Dockerfile: dockerfile parse error on line 1: FROM isn't allowed as an ONBUILD "
            "trigger");
}

TEST(DockerfileParserTest, EmptyFiles) {
  EXPECT_EQ(ErrorOf(""), "the Dockerfile (Dockerfile) cannot be empty");
  EXPECT_EQ(ErrorOf(" \n\n"), "the Dockerfile (Dockerfile) cannot be empty");
  EXPECT_EQ(ErrorOf("# a\n"), "Dockerfile: file with no instructions");
  EXPECT_EQ(ErrorOf("RUN " + std::string(70'000, 'a')),
            "Dockerfile: dockerfile parse error on line 1: dockerfile line greater than max "
            "allowed size of 65535");
}

TEST(DockerfileParserTest, ATriggerKeepsItsHeredoc) {
  const Dockerfile file = Parsed("ONBUILD RUN <<E\nls\nE\nUSER x");
  ASSERT_EQ(file.instructions.size(), 2u);
  EXPECT_EQ(file.instructions[0].heredocs[0].body, "ls\n");
  absl::StatusOr<Instruction> trigger = ParseInstruction("RUN <<E\nls\nE", "trigger");
  ASSERT_TRUE(trigger.ok()) << trigger.status();
  EXPECT_EQ(trigger->heredocs[0].body, "ls\n");
}

TEST(DockerfileParserTest, CarriageReturnsEndLinesToo) {
  const Dockerfile file = Parsed("FROM a\r\nRUN x \\\r\n y\r\n");
  EXPECT_EQ(file.instructions[0].words, Words{"a"});
  EXPECT_EQ(file.instructions[1].text, "x  y");
}

}  // namespace
}  // namespace gantry::build
