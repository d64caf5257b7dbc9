// Images from Dockerfiles, through ctl and with the real runtimes.

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/unique_fd.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kBase[] = "busybox:test";

class BuildTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    Testbed::Options options;
    options.config = "[network]\ndefault = \"none\"\n";
    bed_ = std::make_unique<Testbed>(options);
    ASSERT_TRUE(bed_->LoadBusybox(kBase));
    context_ = bed_->scratch() + "/context";
    std::filesystem::create_directories(context_);
  }
  void File(const std::string& path, const std::string& content, mode_t mode = 0644) {
    const std::string whole = absl::StrCat(context_, "/", path);
    std::filesystem::create_directories(std::filesystem::path(whole).parent_path());
    ASSERT_TRUE(WriteFile(whole, content, mode).ok());
    ASSERT_EQ(chmod(whole.c_str(), mode), 0);
  }
  Outcome Build(const std::string& dockerfile, std::vector<std::string> args = {}) {
    File("Dockerfile", dockerfile);
    args.insert(args.begin(), {"build", "--progress", "plain", "-t", "made"});
    args.push_back(context_);
    return bed_->Ctl(std::move(args));
  }
  // What a command in a container of the built image prints.
  std::string In(std::vector<std::string> command) {
    command.insert(command.begin(), {"run", "--rm", "made"});
    return bed_->CtlOut(std::move(command));
  }
  std::string Config(const std::string& format) {
    return bed_->CtlOut({"image", "inspect", "--format", format, "made"});
  }

  std::unique_ptr<Testbed> bed_;
  std::string context_;
};

TEST_F(BuildTest, AnImageOfAllInstructionsRuns) {
  File("data/a.txt", "a\n");
  File("data/deep/b.txt", "b\n");
  File("run.sh", "#!/bin/sh\necho run\n", 0755);
  const Outcome built = Build(
      "ARG BASE=busybox:test\n"
      "FROM $BASE\n"
      "LABEL who=me\n"
      "ENV A=1 B=\"two words\"\n"
      "WORKDIR /srv/app\n"
      "COPY data ./data/\n"
      "COPY run.sh /usr/bin/\n"
      "RUN echo \"$A $B\" > made.txt && mkdir -p /empty && echo hello\n"
      "COPY <<E note\n"
      "note of $A\n"
      "E\n"
      "EXPOSE 80\n"
      "VOLUME /data\n"
      "USER 7\n"
      "STOPSIGNAL SIGINT\n"
      "HEALTHCHECK NONE\n"
      "ENTRYPOINT [\"cat\"]\n"
      "CMD [\"made.txt\"]\n");
  ASSERT_TRUE(Ok(built));
  EXPECT_TRUE(absl::StrContains(built.err, "hello")) << built.err;
  // The steps are numbered without gaps, and the end says what was made.
  for (const char* line :
       {"#1 [internal] load build definition from Dockerfile\n",
        "#2 [internal] load build context\n", "#3 [1/6] FROM busybox:test\n",
        "#4 [2/6] WORKDIR /srv/app\n",
        "#9 exporting to image\n#9 writing image sha256:", "#9 naming to made done\n#9 DONE"})
    EXPECT_THAT(built.err, testing::HasSubstr(line));
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", "made"}), "1 two words");
  EXPECT_EQ(In({"data/deep/b.txt"}), "b");
  EXPECT_EQ(In({"note"}), "note of 1");
  EXPECT_EQ(Config("{{json .Config.Cmd}} {{.Config.User}} {{.Config.WorkingDir}} "
                   "{{.Config.StopSignal}} {{index .Config.Labels \"who\"}}"),
            "[\"made.txt\"] 7 /srv/app SIGINT me");
  const std::string history =
      bed_->CtlOut({"history", "--no-trunc", "--format", "{{.CreatedBy}}", "made"});
  EXPECT_TRUE(absl::StrContains(history, "COPY data ./data/ # buildkit")) << history;
  EXPECT_TRUE(absl::StrContains(history, "WORKDIR /srv/app")) << history;
  EXPECT_TRUE(absl::StrContains(
      history,
      "RUN /bin/sh -c echo \"$A $B\" > made.txt && mkdir -p /empty && echo hello # buildkit"))
      << history;
}

TEST_F(BuildTest, StagesAreBuiltAsTheTargetNeedsThem) {
  constexpr char kText[] =
      "FROM busybox:test AS tools\n"
      "RUN mkdir /out && echo tool > /out/tool\n"
      "FROM busybox:test AS unused\n"
      "RUN exit 9\n"
      "FROM scratch AS files\n"
      "COPY --from=tools /out /out\n"
      "FROM busybox:test\n"
      "COPY --from=files /out/tool /tool\n"
      "CMD [\"cat\", \"/tool\"]\n";
  ASSERT_TRUE(Ok(Build(kText)));
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", "made"}), "tool");
  const Outcome failed = Build(kText, {"--target", "unused"});
  EXPECT_EQ(failed.code, 1);
  EXPECT_TRUE(absl::StrContains(failed.err,
                                "Dockerfile:4: RUN exit 9: process \"/bin/sh -c exit "
                                "9\" did not complete successfully: exit code: 9"))
      << failed.err;
  EXPECT_TRUE(absl::StrContains(failed.err,
                                "Dockerfile:4\n--------------------\n"
                                "   2 |     RUN mkdir /out && echo tool > /out/tool\n"
                                "   3 |     FROM busybox:test AS unused\n"
                                "   4 | >>> RUN exit 9\n"))
      << failed.err;
  EXPECT_EQ(bed_->CtlOut({"ps", "-aq"}), "") << "a failed build left its container";
}

TEST_F(BuildTest, WhatAFailureEndsIsCancelledAndWhatWaitsHasNotBegun) {
  const Outcome failed = Build(
      "FROM busybox:test AS slow\nRUN sleep 100\nFROM busybox:test AS wrong\nRUN sleep 1; exit 3\n"
      "FROM busybox:test\nCOPY --from=slow /etc /a\nCOPY --from=wrong /etc /b\n");
  EXPECT_EQ(failed.code, 1);
  EXPECT_THAT(failed.err, testing::ContainsRegex("#[0-9]+ CANCELED"));
  // Its line is in the excerpt of the Dockerfile; as a step it has "] " before it.
  EXPECT_THAT(failed.err, testing::Not(testing::HasSubstr("] COPY --from=slow")));
  EXPECT_THAT(failed.err, testing::HasSubstr("exit code: 3"));
}

TEST_F(BuildTest, ASecondBuildTakesEverythingFromTheCache) {
  File("a", "1\n");
  constexpr char kText[] =
      "FROM busybox:test\nWORKDIR /w\nCOPY a .\nRUN cat a > b && cat /proc/sys/kernel/random/uuid "
      "> id\n";
  ASSERT_TRUE(Ok(Build(kText)));
  const std::string first = In({"cat", "/w/id"});
  const std::string id = Config("{{.Id}}");
  const Outcome again = Build(kText);
  ASSERT_TRUE(Ok(again));
  EXPECT_EQ(In({"cat", "/w/id"}), first);
  EXPECT_EQ(Config("{{.Id}}"), id) << "the same build gave another image";
  EXPECT_TRUE(absl::StrContains(again.err, "CACHED")) << again.err;
  // Another content of what is copied, and of nothing else.
  File("unread", "x");
  File("a", "2\n");
  ASSERT_TRUE(Ok(Build(kText)));
  EXPECT_EQ(In({"cat", "/w/b"}), "2");
  const std::string second = In({"cat", "/w/id"});
  EXPECT_NE(second, first);
  ASSERT_TRUE(Ok(Build(kText, {"--no-cache"})));
  EXPECT_NE(In({"cat", "/w/id"}), second);

  EXPECT_TRUE(absl::StrContains(bed_->CtlOut({"builder", "du"}), "RUN cat a"));
  // What the image has in common with the cache stays, unless it is asked for.
  ASSERT_TRUE(Ok(bed_->Ctl({"builder", "prune", "-f"})));
  EXPECT_TRUE(
      absl::StrContains(bed_->CtlOut({"builder", "du", "--filter", "shared=true"}), "RUN cat a"));
  EXPECT_EQ(bed_->CtlOut({"builder", "du", "-q", "--filter", "private=true"}), "");
  ASSERT_TRUE(Ok(bed_->Ctl({"builder", "prune", "-af"})));
  EXPECT_EQ(bed_->CtlOut({"builder", "du", "-q"}), "");
  EXPECT_EQ(In({"cat", "/w/b"}), "2") << "pruning the cache took an image's layers";
}

TEST_F(BuildTest, NamespacesShareTheCache) {
  File("a", "1\n");
  constexpr char kText[] =
      "FROM busybox:test\nCOPY a /a\nRUN cat /proc/sys/kernel/random/uuid > /id\n";
  ASSERT_TRUE(Ok(Build(kText)));
  const std::string id = In({"cat", "/id"});
  const auto other = [this](std::vector<std::string> args) {
    std::vector<std::string> argv = bed_->CtlCommand({});
    for (std::string& word : argv) {
      if (word == bed_->ns()) word = "other";
    }
    argv.insert(argv.end(), args.begin(), args.end());
    return RunProgram(std::move(argv));
  };
  const std::string archive = bed_->scratch() + "/base.tar";
  ASSERT_TRUE(Ok(bed_->Ctl({"save", "-o", archive, kBase})));
  ASSERT_TRUE(Ok(other({"load", "-i", archive})));
  const Outcome built = other({"build", "--progress", "plain", "-t", "made", context_});
  ASSERT_TRUE(Ok(built));
  EXPECT_TRUE(absl::StrContains(built.err, "CACHED")) << built.err;
  // It is this namespace's own from now on.
  ASSERT_TRUE(Ok(bed_->Ctl({"rmi", "-f", "made"})));
  ASSERT_TRUE(Ok(bed_->Ctl({"builder", "prune", "-af"})));
  const Outcome ran = other({"run", "--rm", "made", "cat", "/id"});
  EXPECT_EQ(absl::StripAsciiWhitespace(ran.out), id) << ran.err;
}

TEST_F(BuildTest, WhatChangedInTheContextIsWhatTheImageHas) {
  File("d/kept", "kept\n");
  File("d/changed", "1\n");
  File("d/gone", "gone\n");
  constexpr char kText[] = "FROM busybox:test\nCOPY d /d\nRUN cat /d/* > /all\n";
  ASSERT_TRUE(Ok(Build(kText)));
  EXPECT_TRUE(absl::StrContains(bed_->CtlOut({"builder", "du"}), context_));
  // The same size and time of modification: the time of the change tells.
  struct stat info;
  ASSERT_EQ(stat((context_ + "/d/changed").c_str(), &info), 0);
  File("d/changed", "2\n");
  const timespec times[2] = {info.st_mtim, info.st_mtim};
  ASSERT_EQ(utimensat(AT_FDCWD, (context_ + "/d/changed").c_str(), times, 0), 0);
  std::filesystem::remove(context_ + "/d/gone");
  File("d/new", "new\n", 0600);
  ASSERT_TRUE(Ok(Build(kText)));
  EXPECT_EQ(In({"cat", "/all"}), "2\nkept\nnew");
  EXPECT_EQ(In({"stat", "-c", "%a", "/d/new"}), "600");
  // A daemon that died in the middle of a build leaves nothing half known.
  bed_->KillDaemon();
  ASSERT_TRUE(bed_->StartDaemon());
  File("d/kept", "3\n");
  ASSERT_TRUE(Ok(Build(kText)));
  EXPECT_EQ(In({"cat", "/all"}), "2\n3\nnew");
}

TEST_F(BuildTest, NamedContextsAndAgents) {
  File("a", "main\n");
  const std::string other = bed_->scratch() + "/other";
  std::filesystem::create_directories(other);
  ASSERT_TRUE(WriteFile(other + "/a", "other\n").ok());
  ASSERT_TRUE(
      Ok(Build("FROM base\nCOPY a /main\nCOPY --from=more a /other\n"
               "RUN --mount=from=more,target=/m cp /m/a /mounted\n",
               {"--build-context", "more=" + other, "--build-context",
                "base=docker-image://busybox:test"})));
  EXPECT_EQ(In({"cat", "/main", "/other", "/mounted"}), "main\nother\nother");

  const Outcome none = Build("FROM busybox:test\nRUN --mount=type=ssh,required true\n");
  EXPECT_FALSE(none.ok());
  EXPECT_TRUE(absl::StrContains(none.err, "no SSH key \"default\" forwarded")) << none.err;
  const std::string agent = bed_->scratch() + "/agent";
  const UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  ASSERT_LT(agent.size(), sizeof address.sun_path);
  std::strcpy(address.sun_path, agent.c_str());
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(listener.get(), 4), 0);
  ASSERT_TRUE(
      Ok(Build("FROM busybox:test\n"
               "RUN --mount=type=ssh,uid=7 stat -c %F%u%a $SSH_AUTH_SOCK > /seen\n",
               {"--ssh", "default=" + agent})));
  EXPECT_EQ(In({"cat", "/seen"}), "socket7600");
}

TEST_F(BuildTest, TheCacheSurvivesAKilledDaemonAndNothingIsLeftOfTheBuild) {
  constexpr char kText[] =
      "FROM busybox:test\nRUN cat /proc/sys/kernel/random/uuid > /id\nRUN sleep 100\n";
  File("Dockerfile", kText);
  absl::StatusOr<Process> client = bed_->SpawnCtl({"build", "-t", "made", context_});
  ASSERT_TRUE(client.ok());
  ASSERT_TRUE(Eventually([&] {
    return bed_->CtlOut({"ps", "--format", "{{.Command}}"}) != "" &&
           absl::StrContains(bed_->CtlOut({"ps", "--no-trunc"}), "sleep 100");
  }));
  bed_->KillDaemon();
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_TRUE(Eventually([&] { return bed_->CtlOut({"ps", "-aq"}) == ""; }));
  EXPECT_FALSE(std::filesystem::exists(bed_->root() + "/builds") &&
               !std::filesystem::is_empty(bed_->root() + "/builds"));
  const Outcome again = Build("FROM busybox:test\nRUN cat /proc/sys/kernel/random/uuid > /id\n");
  ASSERT_TRUE(Ok(again));
  EXPECT_TRUE(absl::StrContains(again.err, "CACHED")) << again.err;
}

TEST_F(BuildTest, CopiesFollowDockersRules) {
  File("d/f", "f\n");
  File("d/sub/g", "g\n", 0600);
  File("one.txt", "1\n");
  File("two.txt", "2\n");
  std::filesystem::create_symlink("one.txt", context_ + "/link");
  std::filesystem::create_directory_symlink("/etc", context_ + "/outside");
  ASSERT_TRUE(
      Ok(Build("FROM busybox:test\n"
               "COPY d /x\n"
               "COPY *.txt /texts/\n"
               "COPY link /l/\n"
               "COPY *.none /none/\n"
               "COPY --chown=7:8 --chmod=0640 one.txt /owned\n"
               "COPY --exclude=sub d /without\n"
               "COPY --parents d/sub/g /kept/\n"
               "ADD d /added\n"
               "USER 7\n"
               "WORKDIR /owned-directory/below\n"
               "USER 0\n")));
  EXPECT_EQ(In({"stat", "-c", "%u:%g", "/owned-directory", "."}), "7:7\n7:7");
  EXPECT_EQ(In({"cat", "/x/f", "/x/sub/g", "/l/link"}), "f\ng\n1");
  EXPECT_EQ(In({"ls", "/texts"}), "one.txt\ntwo.txt");
  EXPECT_EQ(In({"sh", "-c",
                "stat -c '%a %u:%g' /owned /x/sub/g; ls /none 2>/dev/null; ls /without; cat "
                "/kept/d/sub/g"}),
            "640 7:8\n600 0:0\nf\ng");
  const Outcome missing = Build("FROM busybox:test\nCOPY nothing /x\n");
  EXPECT_EQ(missing.code, 1);
  EXPECT_TRUE(absl::StrContains(missing.err, "\"/nothing\": not found")) << missing.err;
}

TEST_F(BuildTest, AttributesOfTheContextsFilesAreInTheImage) {
  File("d/tool", "x", 0755);
  // cap_net_bind_service, permitted and effective, as setcap writes it.
  const unsigned char capability[] = {1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  const std::string tool = context_ + "/d/tool";
  ASSERT_EQ(setxattr(tool.c_str(), "security.capability", capability, sizeof capability, 0), 0);
  const std::string out = bed_->scratch() + "/out";
  ASSERT_TRUE(Ok(Build("FROM busybox:test\nCOPY d /d\n", {"-o", out})));
  char value[100];
  EXPECT_EQ(getxattr((out + "/d/tool").c_str(), "security.capability", value, sizeof value),
            static_cast<ssize_t>(sizeof capability));
  // Without them it is another file.
  ASSERT_EQ(removexattr(tool.c_str(), "security.capability"), 0);
  ASSERT_TRUE(Ok(Build("FROM busybox:test\nCOPY d /d\n", {"-o", out + "2"})));
  EXPECT_LT(getxattr((out + "2/d/tool").c_str(), "security.capability", value, sizeof value), 0);
}

TEST_F(BuildTest, ALinkedCopyDependsOnNothingBelowIt) {
  File("f", "f\n");
  const auto text = [](const std::string& below) {
    return absl::StrCat("FROM busybox:test\nRUN mkdir /real && ln -s real /dir && echo ", below,
                        " > /below\nCOPY --link --chown=7:8 f /dir/f\nCOPY --link f /g\n");
  };
  ASSERT_TRUE(Ok(Build(text("1"))));
  // Links below are not followed: what is copied lies on them.
  EXPECT_EQ(In({"sh", "-c", "ls /real; test ! -L /dir && stat -c %u:%g /dir/f; cat /g /below"}),
            "7:8\nf\n1");
  const Outcome again = Build(text("2"));
  ASSERT_TRUE(Ok(again));
  EXPECT_THAT(again.err,
              testing::ContainsRegex("COPY --link --chown=7:8 f /dir/f\n#[0-9]+ CACHED"));
  EXPECT_EQ(In({"cat", "/dir/f", "/below"}), "f\n2");
  File("f", "changed\n");
  ASSERT_TRUE(Ok(Build(text("2"))));
  EXPECT_EQ(In({"cat", "/g"}), "changed");
}

TEST_F(BuildTest, LinksInTheContextDoNotLeadOutOfIt) {
  ASSERT_TRUE(WriteFile(bed_->scratch() + "/secret", "outside\n").ok());
  std::filesystem::create_symlink(bed_->scratch() + "/secret", context_ + "/file");
  std::filesystem::create_directory_symlink("/", context_ + "/root");
  for (const char* source : {"file", "root/etc/shadow", "../secret", "root/../secret"}) {
    const Outcome built = Build(absl::StrCat("FROM busybox:test\nCOPY ", source, " /x\n"));
    EXPECT_EQ(built.code, 1) << source;
    EXPECT_TRUE(absl::StrContains(built.err, "not found")) << built.err;
  }
  const Outcome mounted =
      Build("FROM busybox:test\nRUN --mount=type=bind,source=root,target=/m ls /m/etc/hostname\n");
  EXPECT_EQ(mounted.code, 1);
}

TEST_F(BuildTest, MountsOfRun) {
  File("input", "input\n");
  File("token", "s3cret\n");
  ASSERT_TRUE(WriteFile(bed_->scratch() + "/hidden", "un-written-word").ok());
  ASSERT_TRUE(Ok(Build(
      "FROM busybox:test AS other\n"
      "RUN echo other > /file\n"
      "FROM busybox:test\n"
      "RUN --mount=type=bind,target=/src cat /src/input > /a && ! touch /src/x\n"
      "RUN --mount=type=bind,target=/src,rw touch /src/x && test -e /src/x\n"
      "RUN --mount=type=bind,from=other,source=/file,target=/of cat /of > /b\n"
      "RUN --mount=type=cache,target=/cache echo x >> /cache/count && wc -l < /cache/count > /c\n"
      "RUN --mount=type=tmpfs,target=/t touch /t/x\n"
      "RUN --mount=type=secret,id=token cat /run/secrets/token | wc -c > /d\n"
      "RUN test ! -e /cache && test ! -e /src && test ! -e /of && test ! -e /run/secrets\n",
      {"--secret", "id=token,src=" + context_ + "/token"})));
  EXPECT_EQ(In({"cat", "/a", "/b", "/c", "/d"}), "input\nother\n1\n7");
  // In a variable it reaches the command, and no disk.
  ASSERT_TRUE(
      Ok(Build("FROM busybox:test\nUSER 7\n"
               "RUN --mount=type=secret,id=hidden,env=TOKEN test ${#TOKEN} = 15\n"
               "RUN test -z \"$TOKEN\" && test ! -e /dev/gantry-step\n",
               {"--secret", "id=hidden,src=" + bed_->scratch() + "/hidden"})));
  EXPECT_EQ(RunProgram({"grep", "-rqa", "un-written-word", bed_->root()}).code, 1);
  const Outcome needs = Build("FROM busybox:test\nRUN --mount=type=secret,id=no,required true\n");
  EXPECT_TRUE(absl::StrContains(needs.err, "secret no: not found")) << needs.err;
}

TEST_F(BuildTest, StepsReachNothingOfTheHost) {
  const std::string victim = bed_->scratch() + "/victim";
  std::filesystem::create_directories(victim + "/b");
  ASSERT_TRUE(WriteFile(victim + "/secret", "hidden-word\n").ok());
  const auto untouched = [&] {
    EXPECT_EQ(ReadFile(victim + "/secret", 100).value_or(""), "hidden-word\n");
    std::vector<std::string> names;
    for (const auto& one : std::filesystem::directory_iterator(victim))
      names.push_back(one.path().filename().string());
    EXPECT_THAT(names, testing::UnorderedElementsAre("b", "secret"));
  };
  // The mount point that is cleaned up afterwards leads elsewhere by then.
  ASSERT_TRUE(
      Ok(Build(absl::StrCat("FROM busybox:test\nRUN --mount=type=tmpfs,target=/a/b mv /a /z ",
                            "&& ln -s ", victim, " /a || true\n"))));
  untouched();
  // Names of caches, and paths in the files of a stage, are not paths of the host.
  ASSERT_TRUE(Ok(Build(
      absl::StrCat("FROM busybox:test AS evil\nRUN ln -s ", victim, " /link && ln -s ", victim,
                   "/secret /file\nFROM busybox:test\nRUN --mount=type=cache,id=../../../../..",
                   victim, ",target=/c echo hi > /c/new\nRUN --mount=type=cache,id=", victim,
                   ",target=/c echo hi > /c/new\n"))));
  untouched();
  for (const std::string& step :
       {std::string("RUN --mount=from=evil,source=link,target=/m cat /m/secret"),
        std::string("RUN --mount=from=evil,source=/file,target=/m cat /m"),
        std::string(
            "RUN --mount=type=cache,id=fresh,from=evil,source=/link,target=/m cat /m/secret"),
        std::string("COPY --from=evil /link/secret /stolen"),
        std::string("COPY --from=evil /file /stolen"),
        absl::StrCat("COPY ../../../../../../../../..", victim, "/secret /stolen")}) {
    const Outcome failed =
        Build(absl::StrCat("FROM busybox:test AS evil\nRUN ln -s ", victim, " /link && ln -s ",
                           victim, "/secret /file\nFROM busybox:test\n", step, "\n"));
    EXPECT_FALSE(failed.ok()) << step;
    EXPECT_FALSE(absl::StrContains(failed.err, "hidden-word")) << failed.err;
  }
  untouched();
  // A frontend that a Dockerfile names is not fetched and not run.
  ASSERT_TRUE(Ok(Build("# syntax=127.0.0.1:1/evil/frontend:1\nFROM busybox:test\nRUN true\n")));
  // Nor does a repository's address become a command.
  for (const char* source :
       {"git@-oProxyCommand=touch${IFS}x:app.git", "ssh://-oProxyCommand=x/a.git",
        "git@127.0.0.1:app.git#--upload-pack=x"}) {
    const Outcome refused = Build(absl::StrCat("FROM busybox:test\nADD ", source, " /x\n"));
    EXPECT_FALSE(refused.ok()) << source;
  }
}

TEST_F(BuildTest, IgnoredFilesAreNotSent) {
  File(".dockerignore", "*\n!kept\n");
  File("kept", "k\n");
  File("dropped", "d\n");
  ASSERT_TRUE(Ok(Build("FROM busybox:test\nCOPY . /c\n")));
  EXPECT_EQ(In({"ls", "-A", "/c"}), "kept");
}

TEST_F(BuildTest, WhatIsMostLikelyNotMeantIsSaidAndEndsTheBuildOnRequest) {
  File(".dockerignore", "tmp\n");
  File("tmp/x", "x");
  constexpr char kText[] = "FROM busybox:test AS Made\nCOPY $nothing tmp/x* /\nCMD true\n";
  const Outcome built = Build(kText);
  ASSERT_TRUE(Ok(built));
  for (const char* warning :
       {"StageNameCasing: Stage name 'Made' should be lowercase (line 1)",
        "UndefinedVar: Usage of undefined variable '$nothing' (line 2)",
        "CopyIgnoredFile: Attempting to Copy file \"tmp/x*\" that is excluded by .dockerignore "
        "(line 2)",
        "JSONArgsRecommended: JSON arguments recommended for CMD"})
    EXPECT_THAT(built.err, testing::HasSubstr(warning));
  // By the file that counts: that of a Dockerfile elsewhere.
  ASSERT_TRUE(WriteFile(bed_->scratch() + "/Elsewhere", "FROM busybox:test\nCOPY tmp/x /\n").ok());
  ASSERT_TRUE(WriteFile(bed_->scratch() + "/Elsewhere.dockerignore", "nothing\n").ok());
  const Outcome elsewhere =
      bed_->Ctl({"build", "--progress", "plain", "-f", bed_->scratch() + "/Elsewhere", context_});
  ASSERT_TRUE(Ok(elsewhere));
  EXPECT_THAT(elsewhere.err, testing::Not(testing::HasSubstr("CopyIgnoredFile")));
  const Outcome failed = Build(absl::StrCat("# check=skip=CopyIgnoredFile;error=true\n", kText));
  EXPECT_EQ(failed.code, 1);
  EXPECT_THAT(
      failed.err,
      testing::HasSubstr("lint violation found for rules: JSONArgsRecommended, StageNameCasing"));
  EXPECT_TRUE(Ok(Build(kText, {"--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all;error=true"})));
}

TEST_F(BuildTest, ADockerfileIsDescribedWithoutABuild) {
  File(".dockerignore", "tmp\n");
  constexpr char kText[] =
      "FROM nowhere.example.org/base AS app\nARG VERSION=1\nCOPY tmp/x /\nRUN exit 1\nCMD x\n";
  const Outcome checked = Build(kText, {"--check"});
  EXPECT_EQ(checked.code, 1);
  EXPECT_THAT(checked.out, testing::HasSubstr("Check complete, 2 warnings have been found!"));
  EXPECT_THAT(checked.out, testing::HasSubstr("WARNING: CopyIgnoredFile"));
  EXPECT_THAT(checked.out, testing::HasSubstr("   5 | >>> CMD x\n"));
  const Outcome outline = Build(kText, {"--call", "outline", "--build-arg", "VERSION=2"});
  ASSERT_TRUE(Ok(outline));
  EXPECT_THAT(outline.out, testing::HasSubstr("VERSION     2"));
  const Outcome targets = Build(kText, {"--call=targets,format=json"});
  ASSERT_TRUE(Ok(targets));
  EXPECT_THAT(targets.out, testing::HasSubstr("\"base\": \"nowhere.example.org/base\""));
  const Outcome unknown = Build(kText, {"--call", "outlin"});
  EXPECT_THAT(unknown.err, testing::HasSubstr("(did you mean outline?)"));
  EXPECT_EQ(bed_->CtlOut({"images", "-q", "made"}), "");
}

TEST_F(BuildTest, ArgumentsForTheBuilderItself) {
  constexpr char kText[] = "FROM busybox:test\nRUN hostname > /name\n";
  ASSERT_TRUE(Ok(
      Build(kText, {"--build-arg", "SOURCE_DATE_EPOCH=1000000000", "--build-arg",
                    "BUILDKIT_SANDBOX_HOSTNAME=here", "--build-arg", "BUILDKIT_INLINE_CACHE=1"})));
  EXPECT_EQ(In({"cat", "/name"}), "here");
  EXPECT_THAT(Config("{{.Created}}"), testing::StartsWith("2001-09-09T01:46:40"));
  const std::string archive = bed_->scratch() + "/made.tar";
  ASSERT_TRUE(Ok(bed_->Ctl({"save", "-o", archive, "made"})));
  EXPECT_TRUE(Ok(RunProgram({"grep", "-qa", "moby.buildkit.cache.v0", archive})));
  EXPECT_THAT(Build(kText, {"--build-arg", "SOURCE_DATE_EPOCH=today"}).err,
              testing::HasSubstr("SOURCE_DATE_EPOCH: \"today\" is not a number"));
}

TEST_F(BuildTest, AWrongNameIsFoundBeforeTheFirstStep) {
  File("Dockerfile", "FROM busybox:test\nRUN echo done\n");
  for (const char* args : {"type=image,name=UPPER", "type=registry"}) {
    const Outcome built = bed_->Ctl({"build", "--progress", "plain", "-o", args, context_});
    EXPECT_EQ(built.code, 1) << args;
    EXPECT_THAT(built.err, testing::Not(testing::HasSubstr("RUN echo done"))) << args;
  }
  EXPECT_THAT(
      bed_->Ctl({"build", "-t", "UPPER", context_}).err,
      testing::HasSubstr("image reference \"UPPER\": a repository name must be lower case"));
}

TEST_F(BuildTest, RawProgressIsDockers) {
  File("Dockerfile", "FROM busybox:test\nRUN echo out\nCMD x\n");
  const Outcome built = bed_->Ctl({"build", "--progress", "rawjson", "-t", "made", context_});
  ASSERT_TRUE(Ok(built));
  constexpr char kDigest[] = "\"sha256:[0-9a-f]{64}\"";
  EXPECT_THAT(built.err,
              testing::ContainsRegex(absl::StrCat("\\{\"vertexes\":\\[\\{\"digest\":", kDigest,
                                                  ",\"name\":\"\\[2/2\\] RUN echo out\"")));
  EXPECT_THAT(built.err,
              testing::ContainsRegex(absl::StrCat("\"logs\":\\[\\{\"vertex\":", kDigest,
                                                  ",\"stream\":1,\"data\":\"b3V0Cg==\"")));
  EXPECT_THAT(built.err, testing::HasSubstr("{\"warnings\":[{\"vertex\":"));
}

TEST_F(BuildTest, OutputsAndInputs) {
  const Outcome from_stdin =
      bed_->Ctl({"build", "-q", "-t", "made", "-"}, "FROM busybox:test\nRUN echo x > /x\n");
  ASSERT_TRUE(Ok(from_stdin));
  EXPECT_TRUE(absl::StartsWith(from_stdin.out, "sha256:")) << from_stdin.out;
  const std::string archive = bed_->scratch() + "/made.tar";
  ASSERT_TRUE(
      Ok(Build("FROM scratch\nCOPY Dockerfile /only\n", {"-o", "type=tar,dest=" + archive})));
  EXPECT_EQ(RunProgram({"tar", "-tf", archive}).out, "only\n");
  const std::string directory = bed_->scratch() + "/files";
  ASSERT_TRUE(Ok(Build("FROM scratch\nCOPY Dockerfile /a/b\n", {"-o", directory})));
  EXPECT_TRUE(std::filesystem::is_regular_file(directory + "/a/b"));
  ASSERT_TRUE(
      Ok(Build("FROM busybox:test\nRUN echo 2 > /x\n", {"-o", "type=docker,dest=" + archive})));
  ASSERT_TRUE(Ok(bed_->Ctl({"load", "-i", archive})));
  EXPECT_EQ(In({"cat", "/x"}), "2");
}

TEST_F(BuildTest, ABuildThatIsCutOffEndsItsContainers) {
  File("Dockerfile", "FROM busybox:test\nRUN sleep 100\n");
  absl::StatusOr<Process> client = bed_->SpawnCtl({"build", "-t", "made", context_});
  ASSERT_TRUE(client.ok());
  ASSERT_TRUE(Eventually([&] {
    return absl::StrContains(bed_->CtlOut({"ps", "--no-trunc"}), "sleep 100");
  }));
  ASSERT_TRUE(client->Kill(SIGKILL).ok());
  EXPECT_TRUE(Eventually([&] { return bed_->CtlOut({"ps", "-aq"}) == ""; }));
}

}  // namespace
}  // namespace gantry::integration
