#include "supervisor/api/buildkit/build_history.h"

#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "base/cancel_token.h"

namespace gantry::api::buildkit {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(100);

BuildHistory::Record Named(const std::string& ref) {
  BuildHistory::Record record;
  record.set_ref(ref);
  return record;
}

std::vector<BuildHistory::Event> List(BuildHistory& history, BuildHistory::Request request = {}) {
  request.set_earlyexit(true);
  std::vector<BuildHistory::Event> events;
  EXPECT_TRUE(history
                  .Listen(request, nullptr,
                          [&](const BuildHistory::Event& event) {
                            events.push_back(event);
                            return absl::OkStatus();
                          })
                  .ok());
  return events;
}

TEST(BuildHistoryTest, ABuildIsListedWithItsStepsAndItsEnd) {
  BuildHistory history;
  history.Begin(Named("a"), kNow);
  EXPECT_EQ(List(history)[0].type(), moby::buildkit::v1::STARTED);
  moby::buildkit::v1::StatusResponse status;
  status.add_vertexes()->set_digest("1");
  history.Count("a", status);
  status.mutable_vertexes(0)->set_cached(true);
  status.mutable_vertexes(0)->mutable_completed();
  status.add_warnings();
  history.Count("a", status);
  history.End("a", absl::UnknownError("no"), {{"k", "v"}}, kNow + absl::Seconds(5));
  const BuildHistory::Event event = List(history)[0];
  EXPECT_EQ(event.type(), moby::buildkit::v1::COMPLETE);
  EXPECT_EQ(event.record().numtotalsteps(), 1);
  EXPECT_EQ(event.record().numcachedsteps(), 1);
  EXPECT_EQ(event.record().numcompletedsteps(), 1);
  EXPECT_EQ(event.record().numwarnings(), 1);
  EXPECT_EQ(event.record().error().message(), "no");
  EXPECT_EQ(event.record().completedat().seconds(), 105);
  EXPECT_EQ(event.record().exporterresponse().at("k"), "v");
}

TEST(BuildHistoryTest, TheNewestAreKeptAndThoseThatArePinned) {
  BuildHistory history;
  for (int i = 0; i < 60; ++i) {
    const std::string ref = std::to_string(i);
    history.Begin(Named(ref), kNow);
    history.End(ref, absl::OkStatus(), {}, kNow);
    if (i == 0) {
      EXPECT_TRUE(history.Pin(ref, true).ok());
    }
  }
  const std::vector<BuildHistory::Event> kept = List(history);
  ASSERT_EQ(kept.size(), 50u);
  EXPECT_EQ(kept.front().record().ref(), "59");
  EXPECT_EQ(kept.back().record().ref(), "0");
  BuildHistory::Request one;
  one.set_ref("42");
  EXPECT_EQ(List(history, one).size(), 1u);
  one.set_activeonly(true);
  EXPECT_TRUE(List(history, one).empty());
}

TEST(BuildHistoryTest, RecordsAreRemovedButForThoseInUse) {
  BuildHistory history;
  EXPECT_TRUE(absl::IsNotFound(history.Remove("a")));
  history.Begin(Named("a"), kNow);
  EXPECT_TRUE(absl::IsFailedPrecondition(history.Remove("a")));
  history.End("a", absl::OkStatus(), {}, kNow);
  EXPECT_TRUE(history.Pin("a", true).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(history.Remove("a")));
  EXPECT_TRUE(history.Pin("a", false).ok());
  EXPECT_TRUE(history.Remove("a").ok());
  EXPECT_TRUE(List(history).empty());
}

TEST(BuildHistoryTest, OneThatListensIsToldWhatHappens) {
  BuildHistory history;
  CancelToken cancel;
  std::vector<int> types;
  std::thread listener([&] {
    EXPECT_TRUE(
        absl::IsCancelled(history.Listen({}, &cancel, [&](const BuildHistory::Event& event) {
          types.push_back(event.type());
          if (types.size() == 2) cancel.Cancel("enough");
          return absl::OkStatus();
        })));
  });
  history.Begin(Named("a"), kNow);
  history.End("a", absl::OkStatus(), {}, kNow);
  // Told as events, or as a record of a build that was over by then: one more is an event at least.
  history.Begin(Named("b"), kNow);
  history.End("b", absl::OkStatus(), {}, kNow);
  listener.join();
  EXPECT_GE(types.size(), 2u);
}

}  // namespace
}  // namespace gantry::api::buildkit
