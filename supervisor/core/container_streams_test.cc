// Attach, before the start too, and logs, on fake shims.
#include "supervisor/core/container_streams.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "proto/gantry/v1/container_streams.pb.h"
#include "supervisor/core/attach_client.h"
#include "supervisor/core/container_fixture.h"

namespace gantry::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ContainerStreamsTest : public ContainerFixture {
 protected:
  // One who waits for a start, and how it was answered.
  struct Waiting {
    AttachClient client;
    std::vector<absl::Status> answers;
    std::function<void()> give_up;
  };

  static v1::AttachInput::Open OpenOf(const std::string& container) {
    v1::AttachInput::Open open;
    open.set_container(container);
    open.set_stdin(true);
    open.set_stdout(true);
    open.set_stderr(true);
    return open;
  }
  void AwaitStart(const std::string& container, Waiting& waiting) {
    waiting.give_up = streams_->AttachAtStart(
        context_, OpenOf(container), &waiting.client,
        [&waiting](absl::StatusOr<std::unique_ptr<runtime::AttachStream>> stream) {
          waiting.answers.push_back(stream.status());
          if (stream.ok()) waiting.client.Use(*std::move(stream));
        });
  }
  absl::Status Attach(const std::string& container) {
    AttachClient client;
    auto stream = streams_->Attach(context_, OpenOf(container), &client);
    if (stream.ok()) client.Use(*std::move(stream));
    return stream.status();
  }
  absl::StatusOr<std::vector<std::string>> Logs(const std::string& container,
                                                const LogQuery& query = {}) {
    std::vector<std::string> lines;
    const absl::Status read =
        streams_->Logs(context_, container, query, [&](const LogEntry& entry) {
          lines.push_back(entry.text);
          return absl::OkStatus();
        });
    if (!read.ok()) return read;
    return lines;
  }
  void WriteLog(const std::string& id, const std::string& text) {
    ASSERT_TRUE(WriteFile(records_->Directory(kNs, id) + "/container.log", text, 0640).ok());
  }
  static std::string Line(const std::string& text, const std::string& stream = "stdout") {
    return R"({"log":")" + text + R"(\n","stream":")" + stream +
           R"(","time":"2026-01-02T03:04:05.5Z"})" + "\n";
  }
  // How often a call came before the container's creation.
  static int64_t BeforeCreate(const runtime::FakeShim& shim, const std::string& method) {
    const std::vector<std::string> calls = shim.calls();
    return std::count(calls.begin(), std::find(calls.begin(), calls.end(), "Create"), method);
  }
};

TEST_F(ContainerStreamsTest, AnAttachBeforeTheStartIsConnectedBeforeTheProcessIsMade) {
  const std::string id = Make("web");
  Waiting waiting;
  AwaitStart("web", waiting);
  EXPECT_THAT(waiting.answers, IsEmpty());
  ASSERT_TRUE(Start(id).ok());
  ASSERT_THAT(waiting.answers, ElementsAre(absl::OkStatus()));
  EXPECT_TRUE(waiting.client.attached());
  EXPECT_EQ(BeforeCreate(Shim(id), "Attach"), 1);
  Shim(id).Output("first byte");
  EXPECT_TRUE(Eventually([&] { return waiting.client.text() == "first byte"; }));
  waiting.client.Write("typed");
  EXPECT_TRUE(Eventually([&] { return Shim(id).stdin_received() == "typed"; }));
  Shim(id).Exit("", 4);
  EXPECT_TRUE(Eventually([&] { return waiting.client.exit_code() == 4u; }));
}

TEST_F(ContainerStreamsTest, AllWhoWaitAndTheOneWhoStartsAreConnectedFirst) {
  const std::string id = Make("web");
  Waiting one;
  Waiting two;
  AwaitStart(id, one);
  AwaitStart(id, two);
  AttachClient starter;
  bool called = false;
  absl::StatusOr<ContainerStreams::ConnectedStart> started =
      streams_->StartConnected(context_, OpenOf(id), &starter, [&] { called = true; });
  ASSERT_TRUE(started.ok()) << started.status();
  starter.Use(std::move(started->stream));
  EXPECT_TRUE(called);
  EXPECT_GT(started->pid, 0);
  EXPECT_THAT(one.answers, ElementsAre(absl::OkStatus()));
  EXPECT_THAT(two.answers, ElementsAre(absl::OkStatus()));
  EXPECT_GE(BeforeCreate(Shim(id), "Attach"), 2);
  Shim(id).Output("hello");
  EXPECT_TRUE(Eventually([&] {
    return one.client.text() == "hello" && two.client.text() == "hello" &&
           starter.text() == "hello";
  }));
}

TEST_F(ContainerStreamsTest, ARestartByPolicyTakesOverThoseWhoWait) {
  const std::string id = Make("web", Config("always"));
  ASSERT_TRUE(Start(id).ok());
  runtime::FakeShim* const first = &Shim(id);
  first->Exit("", 1);
  ASSERT_TRUE(Eventually([&] { return !tasks_->view().Exists(kNs, id); }));
  Waiting waiting;
  AwaitStart(id, waiting);
  EXPECT_TRUE(Eventually([&] { return waiting.client.attached(); }));
  EXPECT_TRUE(Eventually([&] { return StateIs(id) == v1::CONTAINER_STATE_RUNNING; }));
}

TEST_F(ContainerStreamsTest, WhatRunsIsAttachedToAtOnce) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  Waiting waiting;
  AwaitStart(id, waiting);
  EXPECT_THAT(waiting.answers, ElementsAre(absl::OkStatus()));
}

TEST_F(ContainerStreamsTest, AWaitForAStartEndsWithTheContainerTheClientAndTheDaemon) {
  const std::string id = Make("web");
  Waiting gives_up;
  AwaitStart(id, gives_up);
  gives_up.give_up();
  ASSERT_EQ(gives_up.answers.size(), 1u);
  EXPECT_TRUE(absl::IsCancelled(gives_up.answers[0]));
  Waiting waits;
  AwaitStart(id, waits);
  ASSERT_TRUE(Remove(id).ok());
  ASSERT_EQ(waits.answers.size(), 1u);
  EXPECT_TRUE(absl::IsNotFound(waits.answers[0])) << waits.answers[0];
  waits.give_up();
  EXPECT_EQ(waits.answers.size(), 1u);
  const std::string other = Make("other");
  Waiting last;
  AwaitStart(other, last);
  starts_.Close(absl::UnavailableError("gantryd stops"));
  ASSERT_EQ(last.answers.size(), 1u);
  EXPECT_TRUE(absl::IsUnavailable(last.answers[0]));
}

TEST_F(ContainerStreamsTest, AWaitForTheStartOfNothingIsAnsweredAtOnce) {
  Waiting waiting;
  AwaitStart("nothing", waiting);
  ASSERT_EQ(waiting.answers.size(), 1u);
  EXPECT_TRUE(absl::IsNotFound(waiting.answers[0]));
}

TEST_F(ContainerStreamsTest, AStartThatFailsEndsTheStreamsThatItConnected) {
  const std::string id = Make("web");
  Waiting waiting;
  AwaitStart(id, waiting);
  launcher_.OnLaunch([](runtime::FakeShim& shim) {
    shim.FailCalls("Create", absl::InternalError("no such program"));
  });
  EXPECT_FALSE(Start(id).ok());
  EXPECT_EQ(waiting.answers.size(), 1u);
  EXPECT_FALSE(waiting.client.exit_code().has_value());
}

TEST_F(ContainerStreamsTest, AttachSaysWhyItCannotBe) {
  const std::string created = Make("created");
  EXPECT_THAT(std::string(Attach("created").message()), HasSubstr("created is not running"));
  const std::string paused = Make("paused");
  ASSERT_TRUE(Start(paused).ok());
  ASSERT_TRUE(lifecycle_->Pause(context_, paused).ok());
  EXPECT_THAT(std::string(Attach("paused").message()),
              HasSubstr("paused is paused, unpause the container before attach"));
  const std::string restarting = Make("restarting", Config("always"));
  ASSERT_TRUE(Start(restarting).ok());
  LoadedContainer loaded = records_->Load(context_, restarting).value();
  ASSERT_TRUE(
      records_->UpdateState(loaded, [](record::v1::ContainerState& s) { s.set_restart_count(50); })
          .ok());
  Shim(restarting).Exit("", 1);
  ASSERT_TRUE(Eventually([&] { return Stored(restarting).has_restart_at(); }));
  const absl::Status refused = Attach("restarting");
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("is restarting, wait until the container is running"));
  EXPECT_TRUE(absl::IsNotFound(Attach("nothing")));
}

TEST_F(ContainerStreamsTest, AConnectedStartOfWhatRunsIsRefused) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  AttachClient client;
  EXPECT_TRUE(absl::IsFailedPrecondition(
      streams_->StartConnected(context_, OpenOf(id), &client, [] {}).status()));
}

TEST_F(ContainerStreamsTest, SizesThatNoTerminalHasAreRefused) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  v1::ResizeRequest request;
  request.set_container(id);
  EXPECT_TRUE(absl::IsInvalidArgument(streams_->Resize(context_, request)));
  request.mutable_size()->set_width(80);
  request.mutable_size()->set_height(65536);
  EXPECT_TRUE(absl::IsInvalidArgument(streams_->Resize(context_, request)));
  request.mutable_size()->set_height(24);
  EXPECT_TRUE(streams_->Resize(context_, request).ok());
}

TEST_F(ContainerStreamsTest, LogsOfWhatNeverRanAreEmpty) {
  Make("web");
  EXPECT_THAT(*Logs("web"), IsEmpty());
}

TEST_F(ContainerStreamsTest, LogsAreSelectedByStreamAndTail) {
  const std::string id = Make("web");
  WriteLog(id, Line("one") + Line("two", "stderr") + Line("three"));
  EXPECT_THAT(*Logs("web"), ElementsAre("one\n", "two\n", "three\n"));
  LogQuery query;
  query.tail = 2;
  EXPECT_THAT(*Logs("web", query), ElementsAre("two\n", "three\n"));
  query = {};
  query.want_stdout = false;
  EXPECT_THAT(*Logs("web", query), ElementsAre("two\n"));
  query.want_stderr = false;
  EXPECT_TRUE(absl::IsInvalidArgument(Logs("web", query).status()));
}

TEST_F(ContainerStreamsTest, WithoutALogTheErrorSaysSo) {
  v1::ContainerConfig config = Config();
  config.mutable_log()->set_driver("none");
  const std::string id = Make("quiet", config);
  const absl::Status refused = Logs("quiet").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("keeps no log"));
  ASSERT_TRUE(Start(id).ok());
  EXPECT_FALSE(Shim(id).create_request().stdio().has_log());
}

TEST_F(ContainerStreamsTest, TheShimIsGivenTheTargetThatLogsReads) {
  v1::ContainerConfig config = Config();
  (*config.mutable_log()->mutable_options())["max-size"] = "1m";
  const std::string id = Make("web", config);
  ASSERT_TRUE(Start(id).ok());
  const shim::v1::Log log = Shim(id).create_request().stdio().log();
  EXPECT_EQ(log.path(), records_->Directory(kNs, id) + "/container.log");
  EXPECT_EQ(log.format(), shim::v1::Log::JSON_FILE);
  EXPECT_EQ(log.max_size_bytes(), 1 << 20);
  EXPECT_EQ(Inspect(id).log_path(), log.path());
}

TEST_F(ContainerStreamsTest, FollowingEndsWithTheContainer) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  WriteLog(id, Line("one"));
  LogQuery query;
  query.follow = true;
  std::vector<std::string> lines;
  const absl::Status read = streams_->Logs(context_, id, query, [&](const LogEntry& entry) {
    lines.push_back(entry.text);
    Shim(id).Exit("", 0);
    return absl::OkStatus();
  });
  EXPECT_TRUE(read.ok()) << read;
  EXPECT_THAT(lines, ElementsAre("one\n"));
}

TEST_F(ContainerStreamsTest, FollowingSaysWhenTheShimDied) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  WriteLog(id, Line("one"));
  LogQuery query;
  query.follow = true;
  const absl::Status read = streams_->Logs(context_, id, query, [&](const LogEntry&) {
    launcher_.Kill({kNs, id});
    return absl::OkStatus();
  });
  EXPECT_TRUE(absl::IsAborted(read)) << read;
  EXPECT_THAT(std::string(read.message()), HasSubstr("last output may be missing"));
}

TEST_F(ContainerStreamsTest, FollowingEndsWhenTheClientGoes) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  WriteLog(id, Line("one"));
  CancelToken gone;
  CallContext context = context_;
  context.cancel = &gone;
  LogQuery query;
  query.follow = true;
  const absl::Status read = streams_->Logs(context, id, query, [&](const LogEntry&) {
    gone.Cancel("the client has gone");
    return absl::OkStatus();
  });
  EXPECT_TRUE(absl::IsCancelled(read)) << read;
}

}  // namespace
}  // namespace gantry::core
