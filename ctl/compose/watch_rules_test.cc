#include "ctl/compose/watch_rules.h"

#include <sys/stat.h>
#include <unistd.h>

#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "ctl/compose/file_watcher.h"
#include "ctl/compose/loader.h"

namespace gantry::compose {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class WatchRulesTest : public testing::Test {
 protected:
  absl::StatusOr<std::vector<WatchRule>> Rules(const std::string& watch,
                                               std::vector<std::string> services = {}) {
    files_["/p/compose.yaml"] = "services:\n  web:\n    build: .\n    develop:\n      watch:\n" +
                                watch + "  db: {image: x}\n";
    LoadOptions options;
    options.current_directory = "/p";
    options.read = [this](const std::string& path) { return Read(path); };
    absl::StatusOr<Project> project = LoadProject(options);
    EXPECT_TRUE(project.ok()) << project.status();
    project_ = *std::move(project);
    return WatchRulesOf(project_, services, [this](const std::string& path) { return Read(path); });
  }
  absl::StatusOr<std::string> Read(const std::string& path) {
    const auto found = files_.find(path);
    if (found == files_.end()) return absl::NotFoundError("no such file");
    return found->second;
  }

  std::map<std::string, std::string> files_;
  Project project_;
};

TEST_F(WatchRulesTest, SyncTakesWhatIsNotIgnored) {
  files_["/p/.dockerignore"] = "*.log\n";
  const auto rules = Rules(
      "      - {path: ./src, action: sync, target: /app, ignore: [node_modules/, '*.tmp']}\n");
  ASSERT_TRUE(rules.ok()) << rules.status();
  const WatchWork work =
      WorkFor(*rules, {"/p/src/a/b.js", "/p/src/node_modules/x.js", "/p/src/c.tmp", "/p/other",
                       "/p/src/.b.js.swp", "/p/src", "/p/build.log"});
  ASSERT_EQ(work.syncs.count("web"), 1u);
  std::vector<std::string> to;
  for (const auto& sync : work.syncs.at("web")) to.push_back(sync.to);
  EXPECT_THAT(to, testing::UnorderedElementsAre("/app", "/app/a/b.js"));
  EXPECT_EQ(work.changes.at("web"), 2);
}

TEST_F(WatchRulesTest, IncludeNamesTheOnlyOnes) {
  const auto rules =
      Rules("      - {path: ./src, action: sync+restart, target: /etc, include: ['*.conf']}\n");
  ASSERT_TRUE(rules.ok()) << rules.status();
  EXPECT_TRUE(WorkFor(*rules, {"/p/src/a.js"}).empty());
  const WatchWork work = WorkFor(*rules, {"/p/src/deep/a.conf"});
  EXPECT_THAT(work.restarts, Contains("web"));
  EXPECT_EQ(work.syncs.at("web").begin()->to, "/etc/deep/a.conf");
}

TEST_F(WatchRulesTest, ARebuildMakesTheRestNeedless) {
  const auto rules = Rules(
      "      - {path: ./src, action: sync, target: /app}\n"
      "      - {path: ./src/package.json, action: rebuild}\n");
  ASSERT_TRUE(rules.ok()) << rules.status();
  const WatchWork work = WorkFor(*rules, {"/p/src/package.json", "/p/src/a.js"});
  EXPECT_THAT(work.rebuilds, Contains("web"));
  EXPECT_THAT(work.syncs, IsEmpty());
}

TEST_F(WatchRulesTest, ACommandRunsOnceForABatch) {
  const auto rules = Rules(
      "      - {path: ./src, action: sync+exec, target: /app, exec: {command: reload now}}\n");
  ASSERT_TRUE(rules.ok()) << rules.status();
  const WatchWork work = WorkFor(*rules, {"/p/src/a", "/p/src/b"});
  ASSERT_EQ(work.execs.size(), 1u);
  EXPECT_EQ(work.execs[0].second->Find("command")->items[1].text, "now");
}

TEST_F(WatchRulesTest, WhatIsMissingIsSaidWithItsPlace) {
  EXPECT_THAT(Rules("      - {path: ./src, action: sync}\n").status().message(),
              HasSubstr("compose.yaml:6:9: services.web.develop.watch[0]: a sync needs a target"));
  EXPECT_THAT(Rules("      - {path: ./src, action: sync+exec, target: /t}\n").status().message(),
              HasSubstr("sync+exec needs exec:"));
  EXPECT_THAT(Rules("      - {path: ./src, action: restart}\n", {"db"}).status().message(),
              HasSubstr("service db has nothing to watch"));
}

class FileWatcherTest : public testing::Test {
 protected:
  std::set<std::string> Next() {
    absl::StatusOr<std::set<std::string>> changed =
        watcher_.Next(absl::Seconds(10), absl::Milliseconds(20));
    EXPECT_TRUE(changed.ok()) << changed.status();
    return changed.ok() ? *std::move(changed) : std::set<std::string>();
  }
  std::string Path(const std::string& name) { return dir_.path() + "/" + name; }

  TempDir dir_;
  FileWatcher watcher_{[this](const std::string& folder) { return folder == Path("skipped"); }};
};

TEST_F(FileWatcherTest, ReportsWrittenMovedAndRemovedFiles) {
  ASSERT_TRUE(WriteFile(Path("a"), "1").ok());
  ASSERT_TRUE(watcher_.Add(dir_.path()).ok());
  ASSERT_TRUE(WriteFile(Path("b"), "2").ok());
  EXPECT_THAT(Next(), Contains(Path("b")));
  ASSERT_EQ(rename(Path("b").c_str(), Path("c").c_str()), 0);
  const std::set<std::string> moved = Next();
  EXPECT_THAT(moved, Contains(Path("b")));
  EXPECT_THAT(moved, Contains(Path("c")));
  ASSERT_EQ(unlink(Path("a").c_str()), 0);
  EXPECT_THAT(Next(), Contains(Path("a")));
}

TEST_F(FileWatcherTest, LooksIntoFoldersThatCameLater) {
  ASSERT_TRUE(watcher_.Add(dir_.path()).ok());
  ASSERT_EQ(mkdir(Path("new").c_str(), 0755), 0);
  ASSERT_EQ(mkdir(Path("new/deep").c_str(), 0755), 0);
  ASSERT_TRUE(WriteFile(Path("new/deep/f"), "x").ok());
  std::set<std::string> seen;
  while (seen.count(Path("new/deep/f")) == 0) {
    const std::set<std::string> more = Next();
    ASSERT_THAT(more, Not(IsEmpty()));
    seen.insert(more.begin(), more.end());
  }
}

TEST_F(FileWatcherTest, SkipsFolders) {
  ASSERT_EQ(mkdir(Path("skipped").c_str(), 0755), 0);
  ASSERT_TRUE(watcher_.Add(dir_.path()).ok());
  ASSERT_TRUE(WriteFile(Path("skipped/f"), "x").ok());
  ASSERT_TRUE(WriteFile(Path("seen"), "x").ok());
  const std::set<std::string> changed = Next();
  EXPECT_THAT(changed, Contains(Path("seen")));
  EXPECT_THAT(changed, Not(Contains(Path("skipped/f"))));
}

TEST_F(FileWatcherTest, AFileIsStillWatchedWhenAnEditorReplacesIt) {
  ASSERT_TRUE(WriteFile(Path("f"), "1").ok());
  ASSERT_TRUE(watcher_.Add(Path("f")).ok());
  for (const char* text : {"2", "3"}) {
    ASSERT_TRUE(WriteFile(Path("f.new"), text).ok());
    ASSERT_EQ(rename(Path("f.new").c_str(), Path("f").c_str()), 0);
    const std::set<std::string> changed = Next();
    EXPECT_THAT(changed, testing::ElementsAre(Path("f")));
  }
}

TEST_F(FileWatcherTest, WhatIsNotThereCannotBeWatched) {
  EXPECT_TRUE(absl::IsNotFound(watcher_.Add(Path("absent"))));
}

}  // namespace
}  // namespace gantry::compose
