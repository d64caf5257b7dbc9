// Reports on ends, from what is on record, in the log and in the container's file system.
//
// Needs root where the file system is looked at.
#include "supervisor/core/end_report.h"

#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "proto/gantry/v1/life.pb.h"
#include "supervisor/core/container_files.h"
#include "supervisor/core/container_fixture.h"
#include "supervisor/core/run_end.h"

namespace gantry::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class EndReportTest : public ContainerFixture {
 protected:
  EndReportTest() {
    ends_ = std::make_unique<RunEnds>(RunEnds::Parts{records_.get(), &tasks_->view(), &events_});
    ContainerFiles::Parts files = {};
    files.records = records_.get();
    files.stores = &stores_;
    files.tasks = tasks_.get();
    files.mount_points = &mount_points_;
    files.state_directory = dir_.Join("state");
    files_ = std::make_unique<ContainerFiles>(files);
    reports_ = std::make_unique<EndReports>(EndReports::Parts{
        records_.get(), streams_.get(), files_.get(), &tasks_->view(), &health_, ends_.get()});
  }

  v1::EndReport Explain(const std::string& container) {
    absl::StatusOr<v1::EndReport> report = reports_->Explain(context_, container);
    EXPECT_TRUE(report.ok()) << report.status();
    return report.value_or(v1::EndReport());
  }
  // The causes that the report gives, the most telling first.
  static std::vector<std::string> Causes(const v1::EndReport& report) {
    std::vector<std::string> causes;
    for (const v1::EndFinding& one : report.findings()) causes.push_back(one.cause());
    return causes;
  }
  void SetSpec(const std::string& id, const std::string& process) {
    record::v1::Container record = records_->Load(context_, id)->record;
    record.mutable_spec()->set_value(absl::StrCat(R"({"ociVersion":"1.0.2","process":)", process,
                                                  R"(,"root":{"path":"rootfs"}})"));
    ASSERT_TRUE(stores_.containers.Update({kNs, ""}, record, {"spec"}).ok());
  }
  void WriteLog(const std::string& id, const std::vector<std::string>& lines) {
    std::string text;
    for (const std::string& line : lines) {
      absl::StrAppend(&text, R"({"log":")", line,
                      R"(\n","stream":"stderr","time":"2026-01-02T03:04:05.5Z"})", "\n");
    }
    ASSERT_TRUE(WriteFile(records_->Directory(kNs, id) + "/container.log", text, 0640).ok());
  }
  void FailStart(const std::string& id, const std::string& error) {
    launcher_.OnLaunch(
        [error](runtime::FakeShim& shim) { shim.FailCalls("Create", absl::InternalError(error)); });
    EXPECT_FALSE(Start(id).ok());
    launcher_.OnLaunch(nullptr);
  }
  void RunToEnd(const std::string& id, uint32_t code) {
    ASSERT_TRUE(Start(id).ok());
    Shim(id).Exit("", code);
    ASSERT_TRUE(
        Eventually([&] { return Stored(id).status() == record::v1::ContainerState::STOPPED; }));
  }
  std::string RootOf(const std::string& id) {
    return stores_.Snapshots("native", {kNs, ""})->Mounts(id)->at(0).source;
  }

  std::unique_ptr<RunEnds> ends_;
  std::unique_ptr<ContainerFiles> files_;
  std::unique_ptr<EndReports> reports_;
};

TEST_F(EndReportTest, WhatNeverRanHasNoEnd) {
  const std::string id = Make("web");
  const v1::EndReport report = Explain("web");
  EXPECT_EQ(report.container_id(), id);
  EXPECT_EQ(report.name(), "web");
  EXPECT_EQ(report.state(), v1::CONTAINER_STATE_CREATED);
  EXPECT_FALSE(report.ended());
  EXPECT_THAT(Causes(report), ElementsAre("never-started"));
  EXPECT_EQ(report.restart(), "");
  EXPECT_THAT(report.command(), ElementsAre("true"));
}

TEST_F(EndReportTest, AnEndIsExplainedByItsLastOutput) {
  const std::string id = Make("web");
  WriteLog(id, {"starting", "bind 0.0.0.0:80: Address already in use"});
  RunToEnd(id, 3);
  const v1::EndReport report = Explain(id);
  EXPECT_TRUE(report.ended());
  EXPECT_EQ(report.exit_code(), 3u);
  EXPECT_EQ(Causes(report).front(), "address-in-use");
  EXPECT_THAT(report.log_tail(),
              ElementsAre("starting", "bind 0.0.0.0:80: Address already in use"));
  EXPECT_EQ(report.restart(), "It stays as it is: it has no restart policy.");
  EXPECT_EQ(report.finished_at().seconds(), Stored(id).finished_at().seconds());
}

TEST_F(EndReportTest, OfALongLogTheLastTwentyLinesCutShort) {
  const std::string id = Make("web");
  std::vector<std::string> lines;
  for (int i = 0; i < 30; ++i) lines.push_back(absl::StrCat("line ", i));
  lines.push_back(std::string(3000, 'x'));
  WriteLog(id, lines);
  RunToEnd(id, 1);
  const v1::EndReport report = Explain(id);
  ASSERT_EQ(report.log_tail_size(), 20);
  EXPECT_EQ(report.log_tail(0), "line 11");
  EXPECT_EQ(report.log_tail(19), std::string(500, 'x'));
}

TEST_F(EndReportTest, ALongLineIsNotCutInsideACharacter) {
  const std::string id = Make("web");
  std::string accents = "x";
  while (accents.size() < 3000) accents += "\u00e9";
  WriteLog(id, {accents});
  RunToEnd(id, 1);
  const v1::EndReport report = Explain(id);
  ASSERT_EQ(report.log_tail_size(), 1);
  EXPECT_EQ(report.log_tail(0), accents.substr(0, 499));
  v1::EndReport received;
  EXPECT_TRUE(received.ParseFromString(report.SerializeAsString()));
}

TEST_F(EndReportTest, AContainerWithoutALogIsExplainedAllTheSame) {
  v1::ContainerConfig config = Config();
  config.mutable_log()->set_driver("none");
  const std::string id = Make("quiet", config);
  RunToEnd(id, 3);
  const v1::EndReport report = Explain(id);
  EXPECT_THAT(Causes(report), ElementsAre("failed"));
  EXPECT_THAT(report.log_tail(), IsEmpty());
  EXPECT_FALSE(report.has_log_delivery());
}

TEST_F(EndReportTest, WhatWasNotedOfTheEndIsInTheReport) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  const std::string bundle = tasks_->view().BundleDirectory(kNs, id).value();
  ASSERT_TRUE(WriteFile(bundle + "/exit.signal", "15").ok());
  Process process = tasks_->view().Get(kNs, id, "").value();
  events_.Publish(kNs, Event(EventKind::kContainer, "kill", id, {{"signal", "15"}}));
  process.exit_status = 143;
  process.exited_at = absl::Now();
  ends_->NoteEnded(kNs, process);
  LoadedContainer loaded = records_->Load(context_, id).value();
  ASSERT_TRUE(records_
                  ->UpdateState(loaded,
                                [&](record::v1::ContainerState& state) {
                                  state.set_exit_code(143);
                                  state.mutable_finished_at()->set_seconds(
                                      absl::ToUnixSeconds(process.exited_at));
                                })
                  .ok());
  const v1::EndReport report = Explain(id);
  EXPECT_EQ(report.exit_signal(), 15u);
  EXPECT_EQ(report.request(), "kill");
  EXPECT_THAT(Causes(report), testing::Contains("killed"));
}

TEST_F(EndReportTest, OfARunThatGoesOnTheOneBeforeIsTold) {
  const std::string id = Make("web");
  RunToEnd(id, 3);
  ASSERT_TRUE(Start(id).ok());
  const v1::EndReport report = Explain(id);
  EXPECT_EQ(report.state(), v1::CONTAINER_STATE_RUNNING);
  EXPECT_EQ(Causes(report).front(), "running");
}

TEST_F(EndReportTest, HealthIsInTheReport) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  v1::HealthState health;
  health.set_status("unhealthy");
  health.set_failing_streak(4);
  health_.Set(kNs, id, health);
  const v1::EndReport report = Explain(id);
  EXPECT_EQ(report.health().failing_streak(), 4);
  EXPECT_THAT(Causes(report), ElementsAre("running", "unhealthy"));
}

TEST_F(EndReportTest, WhatWillBeStartedAgainIsSaid) {
  const std::string id = Make("web", Config("always"));
  ASSERT_TRUE(Start(id).ok());
  LoadedContainer loaded = records_->Load(context_, id).value();
  // So many times that the next pause is a long one.
  ASSERT_TRUE(
      records_->UpdateState(loaded, [](record::v1::ContainerState& s) { s.set_restart_count(50); })
          .ok());
  Shim(id).Exit("", 1);
  ASSERT_TRUE(Eventually([&] { return Stored(id).has_restart_at(); }));
  const v1::EndReport report = Explain(id);
  EXPECT_EQ(report.state(), v1::CONTAINER_STATE_RESTARTING);
  EXPECT_EQ(report.restart(), "It is started again (policy always, restart 51).");
}

TEST_F(EndReportTest, AProgramThatIsNotThereIsLookedForInTheContainersPath) {
  if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
  const std::string id = Make("web");
  SetSpec(id, R"({"args":["serve","-p","80"],"cwd":"/","env":["A=b","PATH=/opt/bin:/bin"],)"
              R"("user":{"uid":33,"gid":34}})");
  FailStart(id, "exec: \"serve\": executable file not found in $PATH: no such file or directory");
  const v1::EndReport report = Explain(id);
  EXPECT_TRUE(report.start_failed());
  EXPECT_EQ(report.exit_code(), 127u);
  ASSERT_EQ(Causes(report).front(), "program-missing");
  EXPECT_THAT(report.findings(0).detail(), HasSubstr("serve is in none of /opt/bin, /bin"));
  EXPECT_THAT(report.command(), ElementsAre("serve", "-p", "80"));
}

TEST_F(EndReportTest, OfAnInitTheProgramIsTheOneThatItIsGiven) {
  if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
  v1::ContainerConfig config = Config();
  config.set_init(true);
  const std::string id = Make("web", config);
  ASSERT_TRUE(MakeDirectories(RootOf(id) + "/srv", 0755).ok());
  ASSERT_TRUE(WriteFile(RootOf(id) + "/srv/app", "#!/bin/lua\n").ok());
  ASSERT_EQ(chmod((RootOf(id) + "/srv/app").c_str(), 0755), 0);
  SetSpec(id, R"({"args":["/sbin/docker-init","--","/srv/app"],"cwd":"/"})");
  FailStart(id, "exec: no such file or directory");
  const v1::EndReport report = Explain(id);
  ASSERT_EQ(Causes(report).front(), "script-interpreter-missing");
  EXPECT_THAT(report.findings(0).detail(), HasSubstr("/srv/app asks for /bin/lua"));
  EXPECT_THAT(*ListDirectory(dir_.Join("state/mounts")), IsEmpty());
}

TEST_F(EndReportTest, ARefusalThatCameAsOutputIsExplainedByTheProgram) {
  if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
  const std::string id = Make("web");
  ASSERT_TRUE(WriteFile(RootOf(id) + "/app", "neither script nor program").ok());
  ASSERT_EQ(chmod((RootOf(id) + "/app").c_str(), 0755), 0);
  SetSpec(id, R"({"args":["/app"],"cwd":"/"})");
  WriteLog(id, {"exec container process `/app`: Exec format error"});
  RunToEnd(id, 1);
  EXPECT_EQ(Causes(Explain(id)).front(), "unknown-format");
}

TEST_F(EndReportTest, ADamagedSpecHidesNothingElse) {
  const std::string id = Make("web");
  record::v1::Container record = records_->Load(context_, id)->record;
  RunToEnd(id, 3);
  record.mutable_spec()->set_value("{");
  ASSERT_TRUE(stores_.containers.Update({kNs, ""}, record, {"spec"}).ok());
  const v1::EndReport report = Explain(id);
  EXPECT_EQ(report.exit_code(), 3u);
  EXPECT_THAT(Causes(report), ElementsAre("failed"));
  EXPECT_THAT(report.command(), IsEmpty());
}

TEST_F(EndReportTest, DeliveryOfALogThatIsSentSomewhere) {
  v1::ContainerConfig config = Config();
  config.mutable_log()->set_driver("syslog");
  (*config.mutable_log()->mutable_options())["syslog-address"] = "udp://192.0.2.1:514";
  const std::string id = Make("web", config);
  const v1::EndReport report = Explain(id);
  ASSERT_TRUE(report.has_log_delivery());
  EXPECT_EQ(report.log_delivery().delivered_lines(), 0);
  EXPECT_EQ(report.log_delivery().problem(), "");
}

TEST_F(EndReportTest, AContainerThatIsNotThereIsNamed) {
  EXPECT_TRUE(absl::IsNotFound(reports_->Explain(context_, "nothing").status()));
}

}  // namespace
}  // namespace gantry::core
