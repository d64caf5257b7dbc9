#include "supervisor/metadata/database.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

#include "base/temp_dir.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/metadata/crash_env.h"
#include "supervisor/metadata/key_space.h"

namespace gantry::metadata {
namespace {

std::unique_ptr<Database> OpenOrDie(const std::string& root, DatabaseOptions options = {}) {
  absl::StatusOr<std::unique_ptr<Database>> db = Database::Open(root, std::move(options));
  EXPECT_TRUE(db.ok()) << db.status();
  return db.ok() ? *std::move(db) : nullptr;
}

absl::Status Put(Database& db, absl::string_view key, absl::string_view value,
                 Durability durability = Durability::kSynced) {
  return db.Run([&](Transaction& tx) { return tx.Put(Family::kImages, key, value); }, durability);
}

std::string Value(Database& db, absl::string_view key) {
  auto value = db.Get(Family::kImages, key);
  EXPECT_TRUE(value.ok()) << value.status();
  return value.ok() ? value->value_or("(none)") : "(error)";
}

TEST(DatabaseTest, TransactionIsVisibleAsAWholeAndSurvivesReopening) {
  TempDir dir;
  {
    auto db = OpenOrDie(dir.path());
    Transaction tx = db->Begin();
    ASSERT_TRUE(tx.Put(Family::kImages, "a", "1").ok());
    ASSERT_TRUE(tx.Put(Family::kImages, "b", "2").ok());
    EXPECT_EQ(*tx.Get(Family::kImages, "a"), "1");
    EXPECT_EQ(Value(*db, "a"), "(none)");
    ASSERT_TRUE(tx.Commit().ok());
    EXPECT_EQ(Value(*db, "a"), "1");
  }
  auto db = OpenOrDie(dir.path());
  EXPECT_EQ(Value(*db, "a"), "1");
  EXPECT_EQ(Value(*db, "b"), "2");
}

TEST(DatabaseTest, DroppedTransactionChangesNothingAndLetsItsLocksGo) {
  TempDir dir;
  auto db = OpenOrDie(dir.path());
  {
    Transaction tx = db->Begin();
    ASSERT_TRUE(tx.Put(Family::kImages, "a", "1").ok());
  }
  EXPECT_EQ(Value(*db, "a"), "(none)");
  EXPECT_TRUE(Put(*db, "a", "2").ok());
}

TEST(DatabaseTest, ScanSeesOwnWritesInOrderAndKeepsToThePrefix) {
  TempDir dir;
  auto db = OpenOrDie(dir.path());
  for (const char* name : {"c", "a"}) ASSERT_TRUE(Put(*db, MakeKey("ns", name), "old").ok());
  ASSERT_TRUE(Put(*db, MakeKey("ns.x", "z"), "other").ok());
  ASSERT_TRUE(Put(*db, MakeKey("n", "z"), "other").ok());
  auto names = [](auto& source) {
    std::string found;
    EXPECT_TRUE(source
                    .Scan(Family::kImages, MakePrefix("ns"),
                          [&found](absl::string_view key, absl::string_view) {
                            found += std::string(key.substr(3));
                            return absl::OkStatus();
                          })
                    .ok());
    return found;
  };
  Transaction tx = db->Begin();
  ASSERT_TRUE(tx.Put(Family::kImages, MakeKey("ns", "b"), "new").ok());
  ASSERT_TRUE(tx.Delete(Family::kImages, MakeKey("ns", "c")).ok());
  EXPECT_EQ(names(tx), "ab");
  ReadView before(*db);
  ASSERT_TRUE(tx.Commit().ok());
  EXPECT_EQ(names(before), "ac");
  ReadView after(*db);
  EXPECT_EQ(names(after), "ab");
}

TEST(DatabaseTest, ReadModifyWriteLosesNoUpdate) {
  TempDir dir;
  auto db = OpenOrDie(dir.path());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) {
        absl::Status status = db->Run(
            [](Transaction& tx) -> absl::Status {
              auto value = tx.GetForUpdate(Family::kImages, "n");
              if (!value.ok()) return value.status();
              return tx.Put(Family::kImages, "n", std::string(value->value_or("").size() + 1, 'x'));
            },
            Durability::kBuffered);
        ASSERT_TRUE(status.ok()) << status;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Value(*db, "n").size(), 400u);
}

TEST(DatabaseTest, TheGateKeepsTransactionsOut) {
  TempDir dir;
  auto db = OpenOrDie(dir.path());
  std::optional<GcGate::Exclusive> gate = db->gate().EnterExclusive(absl::Seconds(1));
  ASSERT_TRUE(gate.has_value());
  absl::Notification written;
  std::thread writer([&] {
    EXPECT_TRUE(Put(*db, "a", "1").ok());
    written.Notify();
  });
  EXPECT_FALSE(written.WaitForNotificationWithTimeout(absl::Milliseconds(30)));
  Transaction inside = db->Begin(*gate);
  ASSERT_TRUE(inside.Put(Family::kImages, "b", "2").ok());
  ASSERT_TRUE(inside.Commit().ok());
  gate->Release();
  writer.join();
  EXPECT_EQ(Value(*db, "a"), "1");
  EXPECT_EQ(Value(*db, "b"), "2");
}

TEST(DatabaseTest, ObserverHearsOfCommitsAndDeletions) {
  TempDir dir;
  auto db = OpenOrDie(dir.path());
  std::string heard;
  db->SetCommitObserver([&heard](bool deletion) { heard += deletion ? 'd' : 'c'; });
  ASSERT_TRUE(Put(*db, "a", "1").ok());
  ASSERT_TRUE(db->Run([](Transaction& tx) {
                  tx.NoteDeletion();
                  return tx.Delete(Family::kImages, "a");
                }).ok());
  ASSERT_TRUE(db->Run([](Transaction&) { return absl::OkStatus(); }).ok());
  EXPECT_EQ(heard, "cd");
}

TEST(DatabaseTest, SecondDaemonOnTheSameRootIsRefusedWithThePid) {
  TempDir dir;
  auto db = OpenOrDie(dir.path());
  const absl::Status second = Database::Open(dir.path()).status();
  EXPECT_TRUE(absl::IsUnavailable(second)) << second;
  EXPECT_NE(second.message().find(absl::StrCat("pid ", getpid())), absl::string_view::npos)
      << second;
  EXPECT_NE(second.message().find(dir.path()), absl::string_view::npos) << second;
  db.reset();
  EXPECT_NE(OpenOrDie(dir.path()), nullptr);
}

TEST(FullDiskTest, NothingIsCreatedAndEverythingCanBeRemoved) {
  TempDir dir;
  int64_t free_bytes = int64_t{1} << 40;
  DatabaseOptions options;
  options.free_bytes = [&free_bytes] { return free_bytes; };
  auto db = OpenOrDie(dir.path(), options);
  ASSERT_TRUE(Put(*db, "a", "1").ok());
  const std::string ballast = dir.path() + "/metadata/ballast";
  EXPECT_EQ(access(ballast.c_str(), F_OK), 0);

  free_bytes = 10 << 20;
  const absl::Status refused = Put(*db, "b", "2");
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_NE(refused.message().find(dir.path()), absl::string_view::npos) << refused;
  EXPECT_TRUE(db->Run([](Transaction& tx) {
                  tx.NoteEssential();
                  return tx.Put(Family::kImages, "state", "3");
                }).ok());
  EXPECT_EQ(access(ballast.c_str(), F_OK), 0);

  free_bytes = 0;
  EXPECT_TRUE(db->Run([](Transaction& tx) { return tx.Delete(Family::kImages, "a"); }).ok());
  EXPECT_NE(access(ballast.c_str(), F_OK), 0);
  EXPECT_EQ(Value(*db, "a"), "(none)");
  EXPECT_EQ(Value(*db, "b"), "(none)");
  EXPECT_EQ(Value(*db, "state"), "3");

  free_bytes = int64_t{1} << 40;
  EXPECT_TRUE(Put(*db, "b", "2").ok());
  EXPECT_EQ(access(ballast.c_str(), F_OK), 0);

  // Opening writes, too.
  free_bytes = 0;
  db.reset();
  db = OpenOrDie(dir.path(), options);
  EXPECT_NE(access(ballast.c_str(), F_OK), 0);
  EXPECT_EQ(Value(*db, "b"), "2");
}

TEST(MigrationTest, RunsEachMissingStepOnceInOrder) {
  TempDir dir;
  OpenOrDie(dir.path(), {.env = nullptr, .schema_version = 1, .migrations = {}});
  std::string steps;
  auto step = [&steps](int from) {
    return Migration{from, "test", [&steps, from](Database&) {
                       steps += absl::StrCat(from);
                       return absl::OkStatus();
                     }};
  };
  for (int i = 0; i < 2; ++i) {
    auto db = OpenOrDie(dir.path(),
                        {.env = nullptr, .schema_version = 3, .migrations = {step(2), step(1)}});
    EXPECT_EQ(db->schema_version(), 3);
  }
  EXPECT_EQ(steps, "12");
}

TEST(MigrationTest, AFailedStepIsTriedAgainNextTime) {
  TempDir dir;
  OpenOrDie(dir.path(), {.env = nullptr, .schema_version = 1, .migrations = {}});
  int runs = 0;
  DatabaseOptions options{.env = nullptr,
                          .schema_version = 2,
                          .migrations = {{1, "adds a thing", [&](Database&) {
                                            ++runs;
                                            return runs == 1 ? absl::UnavailableError("no")
                                                             : absl::OkStatus();
                                          }}}};
  const absl::Status failed = Database::Open(dir.path(), options).status();
  EXPECT_TRUE(absl::IsUnavailable(failed));
  EXPECT_NE(failed.message().find("adds a thing"), absl::string_view::npos);
  EXPECT_NE(OpenOrDie(dir.path(), options), nullptr);
  EXPECT_EQ(runs, 2);
}

record::v1::ContainerState StateIn(Database& db, absl::string_view key) {
  const auto bytes = db.Get(Family::kContainerStates, key);
  record::v1::ContainerState state;
  EXPECT_TRUE(bytes.ok() && bytes->has_value() && state.ParseFromString(**bytes)) << key;
  return state;
}

// A database as version 1 wrote it, with more containers than one transaction takes.
void MakeSchema1(const std::string& root, int containers) {
  auto db = OpenOrDie(root, {.env = nullptr, .schema_version = 1, .migrations = {}});
  const absl::Status written = db->Run([&](Transaction& tx) -> absl::Status {
    for (int i = 0; i < containers; ++i) {
      record::v1::Container container;
      container.set_id(absl::StrCat("c", i));
      container.mutable_created_at()->set_seconds(1000 + i);
      if (absl::Status put = tx.Put(Family::kContainers, MakeKey("ns", container.id()),
                                    container.SerializeAsString());
          !put.ok())
        return put;
    }
    record::v1::ContainerState state;
    state.set_exit_code(3);
    return tx.Put(Family::kContainerStates, MakeKey("ns", "c0"), state.SerializeAsString());
  });
  ASSERT_TRUE(written.ok()) << written;
}

TEST(MigrationTest, Schema2HasAStateWithTheTimeOfCreationForEachContainer) {
  TempDir dir;
  MakeSchema1(dir.path(), 1200);
  for (int i = 0; i < 2; ++i) {  // the second opening finds it done
    auto db = OpenOrDie(dir.path());
    EXPECT_EQ(db->schema_version(), kSchemaVersion);
    EXPECT_EQ(StateIn(*db, MakeKey("ns", "c0")).created_at().seconds(), 1000);
    EXPECT_EQ(StateIn(*db, MakeKey("ns", "c0")).exit_code(), 3u);
    EXPECT_EQ(StateIn(*db, MakeKey("ns", "c1199")).created_at().seconds(), 2199);
  }
}

TEST(MigrationTest, Schema3HasTheSpecOfEachContainerInARowOfItsOwn) {
  TempDir dir;
  {
    auto db = OpenOrDie(dir.path(), {.env = nullptr, .schema_version = 2, .migrations = {}});
    ASSERT_TRUE(db->Run([&](Transaction& tx) -> absl::Status {
                    for (int i = 0; i < 1200; ++i) {
                      record::v1::Container container;
                      container.set_id(absl::StrCat("c", i));
                      container.set_image("image");
                      container.mutable_spec()->set_value(absl::StrCat("spec ", i));
                      if (absl::Status put =
                              tx.Put(Family::kContainers, MakeKey("ns", container.id()),
                                     container.SerializeAsString());
                          !put.ok())
                        return put;
                    }
                    return tx.Put(Family::kContainers, MakeKey("ns", "torn"), "\xff\xff\xff");
                  }).ok());
  }
  for (int i = 0; i < 2; ++i) {  // the second opening finds it done
    auto db = OpenOrDie(dir.path());
    EXPECT_EQ(db->schema_version(), 3);
    const auto record = db->Get(Family::kContainers, MakeKey("ns", "c1199"));
    const auto spec = db->Get(Family::kContainerSpecs, MakeKey("ns", "c1199"));
    ASSERT_TRUE(record.ok() && record->has_value() && spec.ok() && spec->has_value());
    record::v1::Container alone, whole;
    ASSERT_TRUE(alone.ParseFromString(**record));
    EXPECT_FALSE(alone.has_spec());
    ASSERT_TRUE(whole.ParseFromString(**record + **spec));
    EXPECT_EQ(whole.id(), "c1199");
    EXPECT_EQ(whole.image(), "image");
    EXPECT_EQ(whole.spec().value(), "spec 1199");
    EXPECT_EQ(**db->Get(Family::kContainers, MakeKey("ns", "torn")), "\xff\xff\xff");
  }
}

TEST(ReadViewTest, ScanBothPutsTheRowsOfOneKeyTogether) {
  TempDir dir;
  auto db = OpenOrDie(dir.path());
  ASSERT_TRUE(db->Run([](Transaction& tx) -> absl::Status {
                  for (const char* key : {"p/a", "p/c", "p/d", "q/a"}) {
                    if (absl::Status put = tx.Put(Family::kContainers, key, key); !put.ok())
                      return put;
                  }
                  for (const char* key : {"p/0", "p/a", "p/b", "p/d", "q/a"}) {
                    if (absl::Status put = tx.Put(Family::kContainerSpecs, key, "of "); !put.ok())
                      return put;
                  }
                  return absl::OkStatus();
                }).ok());
  std::string seen;
  const ReadView view(*db);
  ASSERT_TRUE(view.ScanBoth(Family::kContainers, Family::kContainerSpecs, "p/",
                            [&seen](absl::string_view key, absl::string_view value,
                                    absl::string_view other) {
                              absl::StrAppend(&seen, "[", key, " ", other, value, "]");
                              return absl::OkStatus();
                            })
                  .ok());
  EXPECT_EQ(seen, "[p/a of p/a][p/c p/c][p/d of p/d]");
}

TEST(MigrationTest, Schema2IsReachedFromAStepThatWasCutOff) {
  TempDir dir;
  MakeSchema1(dir.path(), 3);
  {
    // As if the machine had stopped before the version was written, and a state had changed since.
    auto db = OpenOrDie(dir.path());
    record::v1::ContainerState state = StateIn(*db, MakeKey("ns", "c1"));
    state.set_pid(7);
    ASSERT_TRUE(db->Run([&](Transaction& tx) -> absl::Status {
                    if (absl::Status put = tx.Put(Family::kContainerStates, MakeKey("ns", "c1"),
                                                  state.SerializeAsString());
                        !put.ok())
                      return put;
                    if (absl::Status gone =
                            tx.Delete(Family::kContainerStates, MakeKey("ns", "c2"));
                        !gone.ok())
                      return gone;
                    return tx.Put(Family::kMeta, "schema", "1");
                  }).ok());
  }
  auto db = OpenOrDie(dir.path());
  EXPECT_EQ(db->schema_version(), kSchemaVersion);
  EXPECT_EQ(StateIn(*db, MakeKey("ns", "c1")).pid(), 7u);
  EXPECT_EQ(StateIn(*db, MakeKey("ns", "c2")).created_at().seconds(), 1002);
}

TEST(MigrationTest, ANewerSchemaIsRefusedAndLeftAlone) {
  TempDir dir;
  {
    auto db = OpenOrDie(dir.path(),
                        {.env = nullptr, .schema_version = kSchemaVersion + 1, .migrations = {}});
    ASSERT_TRUE(Put(*db, "a", "1").ok());
  }
  const absl::Status refused = Database::Open(dir.path()).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_NE(refused.message().find("newer"), absl::string_view::npos);
  auto db = OpenOrDie(dir.path(),
                      {.env = nullptr, .schema_version = kSchemaVersion + 1, .migrations = {}});
  EXPECT_EQ(Value(*db, "a"), "1");
}

TEST(PowerCutTest, SyncedCommitsAndAllBeforeThemSurvive) {
  TempDir dir;
  CrashEnv env;
  {
    auto db = OpenOrDie(dir.path(), {.env = &env, .schema_version = {}, .migrations = {}});
    ASSERT_TRUE(Put(*db, "synced", "1").ok());
    ASSERT_TRUE(Put(*db, "buffered before", "2", Durability::kBuffered).ok());
    ASSERT_TRUE(Put(*db, "synced after", "3").ok());
    ASSERT_TRUE(Put(*db, "buffered, then Sync()", "4", Durability::kBuffered).ok());
    ASSERT_TRUE(db->Sync().ok());
    ASSERT_TRUE(Put(*db, "lost", "5", Durability::kBuffered).ok());
    env.PowerOff();
  }
  env.DropUnsynced();
  auto db = OpenOrDie(dir.path(), {.env = &env, .schema_version = {}, .migrations = {}});
  ASSERT_NE(db, nullptr);
  EXPECT_EQ(Value(*db, "synced"), "1");
  EXPECT_EQ(Value(*db, "buffered before"), "2");
  EXPECT_EQ(Value(*db, "synced after"), "3");
  EXPECT_EQ(Value(*db, "buffered, then Sync()"), "4");
  EXPECT_EQ(Value(*db, "lost"), "(none)");
}

TEST(PowerCutTest, NoCutShowsHalfATransaction) {
  // Cuts at many moments of a growing log, each followed by a reopening that must find pairs whole.
  TempDir dir;
  CrashEnv env;
  int64_t acknowledged = 0;
  for (int cut = 0; cut < 12; ++cut) {
    {
      auto db = OpenOrDie(dir.path(), {.env = &env, .schema_version = {}, .migrations = {}});
      ASSERT_NE(db, nullptr);
      for (int i = 0; i < 5 + cut; ++i) {
        const std::string value =
            absl::StrCat(acknowledged + 1, std::string(200 * static_cast<size_t>(i), '.'));
        const bool synced = i % 3 == 0;
        ASSERT_TRUE(db->Run(
                          [&](Transaction& tx) -> absl::Status {
                            absl::Status status = tx.Put(Family::kImages, "left", value);
                            if (status.ok()) status = tx.Put(Family::kContent, "right", value);
                            return status;
                          },
                          synced ? Durability::kSynced : Durability::kBuffered)
                        .ok());
        if (synced) ++acknowledged;
      }
      env.PowerOff();
    }
    env.DropUnsynced();
    auto db = OpenOrDie(dir.path(), {.env = &env, .schema_version = {}, .migrations = {}});
    ASSERT_NE(db, nullptr);
    const std::string left = Value(*db, "left");
    EXPECT_EQ(left, **db->Get(Family::kContent, "right"));
    EXPECT_GE(std::stoll(left), acknowledged);
  }
}

TEST(KillTest, BufferedCommitsSurviveTheDeathOfTheProcess) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer cannot start threads after a fork";
#endif
  TempDir dir;
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto db = Database::Open(dir.path());
    for (int i = 0; db.ok() && i < 100000; ++i) {
      if (!Put(**db, "n", absl::StrCat(i), Durability::kBuffered).ok()) break;
      if (write(pipe_fds[1], &i, sizeof(i)) != sizeof(i)) break;
    }
    _exit(1);
  }
  close(pipe_fds[1]);
  int acknowledged = -1;
  while (acknowledged < 50 &&
         read(pipe_fds[0], &acknowledged, sizeof(acknowledged)) == sizeof(acknowledged)) {
  }
  ASSERT_EQ(kill(child, SIGKILL), 0);
  for (int next; read(pipe_fds[0], &next, sizeof(next)) == sizeof(next);) acknowledged = next;
  close(pipe_fds[0]);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  auto db = OpenOrDie(dir.path());
  ASSERT_NE(db, nullptr);
  EXPECT_GE(std::stoi(Value(*db, "n")), acknowledged);
}

}  // namespace
}  // namespace gantry::metadata
