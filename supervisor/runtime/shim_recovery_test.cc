#include "supervisor/runtime/shim_recovery.h"

#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "shim/exit_record.h"
#include "supervisor/runtime/fake_shim.h"

namespace gantry::runtime {
namespace {

using Process = Observation::Process;
using Answer = Observation::Answer;

Observation Seen(Process process, Answer answer) {
  Observation seen;
  seen.launch_record_ok = true;
  seen.same_boot = true;
  seen.process = process;
  seen.answer = answer;
  return seen;
}
Observation Answered(shim::v1::Status status) {
  Observation seen = Seen(Process::kAlive, Answer::kAnswered);
  seen.init_status = status;
  return seen;
}
Observation With(Observation seen, bool Observation::*flag, bool value = true) {
  seen.*flag = value;
  return seen;
}

struct DecideCase {
  const char* name;
  Observation seen;
  Verdict verdict;
};

TEST(DecideTest, Table) {
  const auto started = &Observation::init_was_started;
  const auto recorded = &Observation::exit_record;
  const auto removed = &Observation::removal_finished;
  const auto same_boot = &Observation::same_boot;
  const auto launch_ok = &Observation::launch_record_ok;
  const DecideCase cases[] = {
      {"running", Answered(shim::v1::STATUS_RUNNING), Verdict::kAdopt},
      {"created", Answered(shim::v1::STATUS_CREATED), Verdict::kAdopt},
      {"paused", Answered(shim::v1::STATUS_PAUSED), Verdict::kAdopt},
      {"stopped, exit to be learnt from events", Answered(shim::v1::STATUS_STOPPED),
       Verdict::kAdopt},
      {"stopped and recorded", With(Answered(shim::v1::STATUS_STOPPED), recorded), Verdict::kAdopt},
      {"shim says unknown", Answered(shim::v1::STATUS_UNKNOWN), Verdict::kAdopt},
      {"launched, never asked to create", Answered(shim::v1::STATUS_EMPTY), Verdict::kReap},
      {"answers, never written down", Seen(Process::kNeverReady, Answer::kAnswered),
       Verdict::kAdopt},
      {"alive and silent", Seen(Process::kAlive, Answer::kSilent), Verdict::kKeepUnknown},
      {"alive and silent, exit recorded", With(Seen(Process::kAlive, Answer::kSilent), recorded),
       Verdict::kKeepUnknown},
      {"alive, socket not served", Seen(Process::kAlive, Answer::kNobody), Verdict::kKeepUnknown},
      {"alive, stranger at the socket", Seen(Process::kAlive, Answer::kStranger),
       Verdict::kKeepUnknown},
      {"gone, never started", Seen(Process::kGone, Answer::kNobody), Verdict::kReap},
      {"gone, was started", With(Seen(Process::kGone, Answer::kNobody), started),
       Verdict::kMarkExited},
      {"gone, exit recorded", With(Seen(Process::kGone, Answer::kNobody), recorded),
       Verdict::kMarkExited},
      {"gone, stranger at the socket", With(Seen(Process::kGone, Answer::kStranger), started),
       Verdict::kMarkExited},
      {"never ready, nobody there", Seen(Process::kNeverReady, Answer::kNobody), Verdict::kReap},
      {"never ready, silent", Seen(Process::kNeverReady, Answer::kSilent), Verdict::kKeepUnknown},
      {"another boot, never started", With(Seen(Process::kGone, Answer::kNobody), same_boot, false),
       Verdict::kReap},
      {"another boot, was running",
       With(With(Seen(Process::kGone, Answer::kNobody), same_boot, false), started),
       Verdict::kMarkExited},
      {"another boot, pid taken by a stranger",
       With(With(Seen(Process::kAlive, Answer::kNobody), same_boot, false), started),
       Verdict::kMarkExited},
      {"no launch record, nobody",
       With(Seen(Process::kNeverReady, Answer::kNobody), launch_ok, false), Verdict::kReap},
      {"no launch record, shim lives",
       With(Seen(Process::kAlive, Answer::kNobody), launch_ok, false), Verdict::kKeepUnknown},
      {"removal done, shim lingers",
       With(With(Answered(shim::v1::STATUS_STOPPED), removed), recorded), Verdict::kMarkExited},
      {"removal done, shim gone",
       With(With(Seen(Process::kGone, Answer::kNobody), removed), recorded), Verdict::kMarkExited},
      {"removal of a never started one", With(Seen(Process::kGone, Answer::kNobody), removed),
       Verdict::kReap},
  };
  for (const DecideCase& c : cases) {
    EXPECT_EQ(VerdictName(Decide(c.seen)), VerdictName(c.verdict)) << c.name;
  }
}

class RecoverTest : public testing::Test {
 protected:
  Bundle Make(const std::string& id) {
    LaunchRecord launch;
    launch.create.mutable_runtime()->set_state_root(dir_.Join("runtime"));
    return store_->Create({"default", id}, "{}", launch).value();
  }
  // A fake shim in this very process, written down as the supervisor does after a launch.
  std::unique_ptr<FakeShim> Serve(const Bundle& bundle) {
    EXPECT_TRUE(bundle.WriteShimProcess({getpid(), ReadStartTime(getpid()).value()}).ok());
    return std::make_unique<FakeShim>(bundle.key(), bundle.socket_path());
  }
  void Run(const Bundle& bundle) {
    ShimClient client(bundle.key(), bundle.socket_path());
    shim::v1::CreateRequest create;
    create.set_start(true);
    ASSERT_TRUE(client.Create(create).ok());
  }
  std::vector<RecoveredTask> Recover(absl::Duration deadline = absl::Seconds(10)) {
    absl::StatusOr<std::vector<RecoveredTask>> tasks = RecoverShims(*store_, deadline);
    EXPECT_TRUE(tasks.ok()) << tasks.status();
    return *std::move(tasks);
  }
  TempDir dir_;
  std::unique_ptr<BundleStore> store_ = BundleStore::Open(dir_.path(), false, "boot").value();
};

TEST_F(RecoverTest, RunningTaskIsAdoptedWithAShimThatAnswers) {
  const Bundle bundle = Make("web");
  const auto shim = Serve(bundle);
  Run(bundle);
  std::vector<RecoveredTask> tasks = Recover();
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_EQ(tasks[0].verdict, Verdict::kAdopt) << tasks[0].reason;
  EXPECT_EQ(tasks[0].info->init().status(), shim::v1::STATUS_RUNNING);
  ASSERT_NE(tasks[0].shim, nullptr);
  EXPECT_TRUE(tasks[0].shim->client().Pause().ok());
}

// What a shim leaves in its bundle of a running container.
shim::v1::InfoResponse Recorded(const Bundle& bundle, int32_t shim_pid) {
  shim::v1::InfoResponse state;
  state.set_namespace_(bundle.key().ns);
  state.set_container_id(bundle.key().container_id);
  state.set_shim_pid(shim_pid);
  state.set_last_event(2);
  state.mutable_init()->set_status(shim::v1::STATUS_RUNNING);
  state.mutable_init()->set_pid(77);
  return state;
}

TEST_F(RecoverTest, ShimThatRecordedItsStateIsNotAsked) {
  const Bundle bundle = Make("web");
  const auto shim = Serve(bundle);
  Run(bundle);
  ASSERT_TRUE(
      WriteFile(bundle.path() + "/state", Recorded(bundle, getpid()).SerializeAsString()).ok());
  shim->Freeze();
  const std::vector<RecoveredTask> tasks = Recover(absl::Milliseconds(100));
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_EQ(tasks[0].verdict, Verdict::kAdopt) << tasks[0].reason;
  EXPECT_TRUE(tasks[0].info_is_recorded);
  EXPECT_EQ(tasks[0].info->init().pid(), 77);
  EXPECT_NE(tasks[0].shim, nullptr);
  const std::vector<std::string> calls = shim->calls();
  EXPECT_EQ(std::count(calls.begin(), calls.end(), "Info"), 0);
}

TEST_F(RecoverTest, RecordThatProvesNothingIsPassedOver) {
  const Bundle bundle = Make("web");
  const auto shim = Serve(bundle);
  Run(bundle);
  for (const std::string& bytes :
       {std::string("damaged"), Recorded(bundle, getpid() + 1).SerializeAsString()}) {
    ASSERT_TRUE(WriteFile(bundle.path() + "/state", bytes).ok());
    const std::vector<RecoveredTask> tasks = Recover();
    ASSERT_EQ(tasks.size(), 1u);
    EXPECT_EQ(tasks[0].verdict, Verdict::kAdopt) << tasks[0].reason;
    EXPECT_FALSE(tasks[0].info_is_recorded);
    EXPECT_NE(tasks[0].info->init().pid(), 77);
  }
}

TEST_F(RecoverTest, RecordOfAShimThatIsGoneIsNotItsLastWord) {
  const Bundle bundle = Make("web");
  ASSERT_TRUE(bundle.WriteShimProcess({getpid(), ReadStartTime(getpid()).value() + 1}).ok());
  ASSERT_TRUE(
      WriteFile(bundle.path() + "/state", Recorded(bundle, getpid()).SerializeAsString()).ok());
  const std::vector<RecoveredTask> tasks = Recover();
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_EQ(tasks[0].shim, nullptr);
  EXPECT_FALSE(tasks[0].info.has_value());
}

TEST_F(RecoverTest, ShimThatWasNotYetWrittenDownIsFoundByItsSocket) {
  const Bundle bundle = Make("web");
  FakeShim shim(bundle.key(), bundle.socket_path());
  Run(bundle);
  std::vector<RecoveredTask> tasks = Recover();
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_EQ(tasks[0].verdict, Verdict::kAdopt) << tasks[0].reason;
  ASSERT_NE(tasks[0].shim, nullptr);
  EXPECT_EQ(tasks[0].shim->process().pid, getpid());
  EXPECT_EQ(bundle.ReadShimProcess()->pid, getpid());
}

TEST_F(RecoverTest, LaunchThatGotNoFurtherIsReapedAndItsShimIsAtHand) {
  const Bundle bundle = Make("web");
  const auto shim = Serve(bundle);
  std::vector<RecoveredTask> tasks = Recover();
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_EQ(tasks[0].verdict, Verdict::kReap);
  EXPECT_NE(tasks[0].shim, nullptr);
}

TEST_F(RecoverTest, OneSilentShimDoesNotHoldUpTheOthersBeyondTheDeadline) {
  const Bundle stuck = Make("stuck");
  const Bundle well = Make("well");
  const auto stuck_shim = Serve(stuck);
  const auto well_shim = Serve(well);
  Run(well);
  stuck_shim->Freeze();
  std::vector<RecoveredTask> tasks = Recover(absl::Seconds(2));
  ASSERT_EQ(tasks.size(), 2u);
  EXPECT_EQ(tasks[0].verdict, Verdict::kKeepUnknown) << tasks[0].reason;
  EXPECT_EQ(tasks[0].reason, "its shim did not answer in time");
  EXPECT_EQ(tasks[1].verdict, Verdict::kAdopt) << tasks[1].reason;
}

TEST_F(RecoverTest, GoneShimLeavesItsRecordedExitOrOneOfKilled) {
  for (const char* id : {"recorded", "killed", "unborn"}) {
    ASSERT_TRUE(
        Make(id).WriteShimProcess({getpid(), 1}).ok());  // a pid that is another process's now
  }
  shim::ExitRecord record;
  record.name_space = "default";
  record.id = "recorded";
  record.pid = 5;
  record.exit_status = 3;
  record.exited_at = absl::FromUnixSeconds(77);
  ASSERT_TRUE(shim::WriteExitRecord(store_->PathOf({"default", "recorded"}), record).ok());
  ASSERT_TRUE(MakeDirectories(dir_.Join("runtime/killed"), 0700).ok());
  ASSERT_TRUE(WriteFile(dir_.Join("runtime/killed/status"), R"({"pid":99})").ok());

  std::vector<RecoveredTask> tasks = Recover();
  ASSERT_EQ(tasks.size(), 3u);
  EXPECT_EQ(tasks[0].key.container_id, "killed");
  EXPECT_EQ(tasks[0].verdict, Verdict::kMarkExited);
  EXPECT_EQ(tasks[0].exit->exit_status, 137u);
  EXPECT_EQ(tasks[0].exit->pid, 99);
  EXPECT_TRUE(tasks[0].exit->synthesised);
  EXPECT_EQ(tasks[1].key.container_id, "recorded");
  EXPECT_EQ(tasks[1].verdict, Verdict::kMarkExited);
  EXPECT_EQ(tasks[1].exit->exit_status, 3u);
  EXPECT_EQ(tasks[1].exit->exited_at, absl::FromUnixSeconds(77));
  EXPECT_FALSE(tasks[1].exit->synthesised);
  EXPECT_EQ(tasks[2].key.container_id, "unborn");
  EXPECT_EQ(tasks[2].verdict, Verdict::kReap);
}

TEST_F(RecoverTest, BundleOfAnotherBootIsNotDialled) {
  const Bundle bundle = Make("web");
  const auto shim = Serve(bundle);
  Run(bundle);
  store_ = BundleStore::Open(dir_.path(), false, "next boot").value();
  std::vector<RecoveredTask> tasks = Recover();
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_EQ(tasks[0].verdict, Verdict::kReap);
  EXPECT_EQ(shim->calls(), (std::vector<std::string>{"Create"}));
}

TEST_F(RecoverTest, AnotherTasksShimAtTheSocketIsNotTakenForOurs) {
  const Bundle bundle = Make("web");
  ASSERT_TRUE(bundle.WriteShimProcess({getpid(), ReadStartTime(getpid()).value()}).ok());
  FakeShim stranger({"default", "other"}, bundle.socket_path());
  std::vector<RecoveredTask> tasks = Recover();
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_EQ(tasks[0].verdict, Verdict::kKeepUnknown);
}

TEST_F(RecoverTest, FiftyAreAdopted) {
  std::vector<std::unique_ptr<FakeShim>> shims;
  for (int i = 0; i < 50; ++i) {
    const Bundle bundle = Make(absl::StrCat("c", i));
    shims.push_back(Serve(bundle));
    Run(bundle);
  }
  const absl::Time start = absl::Now();
  const std::vector<RecoveredTask> tasks = Recover();
  RecordProperty("millis", static_cast<int>((absl::Now() - start) / absl::Milliseconds(1)));
  ASSERT_EQ(tasks.size(), 50u);
  for (const RecoveredTask& task : tasks) {
    EXPECT_EQ(task.verdict, Verdict::kAdopt) << task.key.ToString() << ": " << task.reason;
  }
}

}  // namespace
}  // namespace gantry::runtime
