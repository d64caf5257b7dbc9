#include "supervisor/core/event_feed.h"

#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/temp_dir.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/system.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/container_intent.h"
#include "supervisor/core/event_journal.h"
#include "supervisor/metadata/container_store.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/name_index.h"

namespace gantry::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kNs[] = "default";

using Pairs = std::vector<std::pair<std::string, std::string>>;

v1::EventsRequest Request(const Pairs& filters) {
  v1::EventsRequest request;
  request.mutable_since()->set_seconds(0);
  for (const auto& [key, value] : filters) {
    v1::Filter* filter = request.add_filters();
    filter->set_key(key);
    filter->set_value(value);
  }
  return request;
}

class EventFeedTest : public testing::Test {
 protected:
  void MakeContainer(const std::string& id, const std::string& name) {
    record::v1::Container record;
    record.set_id(id);
    record.mutable_runtime()->set_name("io.containerd.runc.v2");
    record.mutable_spec()->set_type_url("spec");
    record.mutable_spec()->set_value("{}");
    (*record.mutable_labels())["tier"] = "front";
    v1::ContainerConfig config;
    config.set_image("bb:1");
    WriteIntent(config, record);
    ASSERT_TRUE(containers_.Create({kNs, ""}, {.record = record, .name = name, .state = {}}).ok());
  }

  void Happens(Event event) { bus_.Publish(kNs, std::move(event)); }

  // "type action id" of the events that pass.
  std::vector<std::string> Seen(const Pairs& filters = {}) {
    auto feed = EventFeed::Open(bus_, subjects_, kNs, Request(filters), nullptr);
    EXPECT_TRUE(feed.ok()) << feed.status();
    std::vector<std::string> seen;
    while (std::optional<v1::Event> event = (*feed)->Next())
      seen.push_back(absl::StrCat(event->type(), " ", event->action(), " ", event->id()));
    return seen;
  }

  // "type action id name" of all that waits.
  static std::vector<std::string> All(EventFeed& feed) {
    std::vector<std::string> all;
    while (const std::optional<v1::Event> event = feed.Next()) {
      const auto name = event->attributes().find("name");
      all.push_back(absl::StrCat(event->type(), " ", event->action(), " ", event->id(), " ",
                                 name == event->attributes().end() ? "" : name->second));
    }
    return all;
  }

  TempDir dir_;
  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  std::unique_ptr<metadata::Database> db_ = metadata::Database::Open(dir_.path()).value();
  metadata::ContainerStore containers_{*db_, clock_};
  metadata::NameIndex names_{*db_};
  EventBus bus_;
  EventSubjects subjects_{containers_, names_};
};

TEST_F(EventFeedTest, AContainersEventHasItsNameImageAndLabels) {
  MakeContainer("c1", "web");
  Event kill(EventKind::kContainer, "kill", "c1", {{"signal", "15"}});
  Happens(std::move(kill));
  auto feed = EventFeed::Open(bus_, subjects_, kNs, Request({}), nullptr);
  ASSERT_TRUE(feed.ok()) << feed.status();
  const std::optional<v1::Event> event = (*feed)->Next();
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->attributes().at("name"), "web");
  EXPECT_EQ(event->attributes().at("image"), "bb:1");
  EXPECT_EQ(event->attributes().at("tier"), "front");
  EXPECT_EQ(event->attributes().at("signal"), "15");
  EXPECT_EQ(event->attributes().size(), 4);
}

TEST_F(EventFeedTest, WhatHappenedAfterUntilIsLeftOut) {
  Happens(Event(EventKind::kContainer, action::kStart, "c1"));
  v1::EventsRequest request = Request({});
  request.mutable_until()->set_seconds(absl::ToUnixSeconds(absl::Now()) - 60);
  auto feed = EventFeed::Open(bus_, subjects_, kNs, request, nullptr);
  ASSERT_TRUE(feed.ok()) << feed.status();
  EXPECT_FALSE((*feed)->Next().has_value());
  request.mutable_until()->set_seconds(absl::ToUnixSeconds(absl::Now()) + 60);
  feed = EventFeed::Open(bus_, subjects_, kNs, request, nullptr);
  ASSERT_TRUE(feed.ok()) << feed.status();
  EXPECT_TRUE((*feed)->Next().has_value());
}

TEST_F(EventFeedTest, WhatARestartTookFromTheBusComesFromTheJournal) {
  MakeContainer("c1", "web");
  {
    auto journal = EventJournal::Open(dir_.path() + "/events", bus_, subjects_);
    ASSERT_TRUE(journal.ok()) << journal.status();
    Happens(Event(EventKind::kContainer, action::kStart, "c1"));
    bus_.Publish("other", Event(EventKind::kContainer, action::kStart, "c9"));
    Happens(LowLevelEvent(EventKind::kContent, action::kCreate, "sha256:1"));
    Happens(Event(EventKind::kImage, "tag", "bb:1"));
  }
  EventBus after;
  auto journal = EventJournal::Open(dir_.path() + "/events", after, subjects_);
  ASSERT_TRUE(journal.ok()) << journal.status();
  after.Publish(kNs, Event(EventKind::kContainer, action::kDie, "c1"));
  auto feed = EventFeed::Open(after, subjects_, kNs, Request({}), nullptr, journal->get());
  ASSERT_TRUE(feed.ok()) << feed.status();
  EXPECT_THAT(All(**feed),
              ElementsAre("container start c1 web", "image tag bb:1 ", "container die c1 web"));
  // Filters, and the end of the time asked for, apply to both.
  v1::EventsRequest request = Request({{"type", "image"}});
  feed = EventFeed::Open(after, subjects_, kNs, request, nullptr, journal->get());
  ASSERT_TRUE(feed.ok()) << feed.status();
  EXPECT_THAT(All(**feed), ElementsAre("image tag bb:1 "));
  request = Request({});
  request.mutable_until()->set_seconds(1);
  feed = EventFeed::Open(after, subjects_, kNs, request, nullptr, journal->get());
  ASSERT_TRUE(feed.ok()) << feed.status();
  EXPECT_THAT(All(**feed), ElementsAre());
}

TEST_F(EventFeedTest, WhatTheBusDroppedComesFromTheJournalOnce) {
  EventBus small({2, 1 << 20});
  auto journal = EventJournal::Open(dir_.path() + "/events", small, subjects_);
  ASSERT_TRUE(journal.ok()) << journal.status();
  for (const char* id : {"c1", "c2", "c3", "c4", "c5"})
    small.Publish(kNs, Event(EventKind::kContainer, action::kStart, id));
  auto feed = EventFeed::Open(small, subjects_, kNs, Request({}), nullptr, journal->get());
  ASSERT_TRUE(feed.ok()) << feed.status();
  small.Publish(kNs, Event(EventKind::kContainer, action::kStart, "c6"));
  EXPECT_THAT(All(**feed),
              ElementsAre("container start c1 ", "container start c2 ", "container start c3 ",
                          "container start c4 ", "container start c5 ", "container start c6 "));
}

TEST_F(EventFeedTest, AJournalStaysSmallAndOutlivesATornEnd) {
  const std::string directory = dir_.path() + "/events";
  std::vector<std::string> before;
  {
    auto journal = EventJournal::Open(directory, bus_, subjects_, 4000);
    ASSERT_TRUE(journal.ok()) << journal.status();
    for (int i = 0; i < 100; ++i) {
      Happens(Event(EventKind::kContainer, action::kStart, absl::StrCat("c", i)));
      if (i % 10 == 9) (*journal)->Read(kNs, absl::InfinitePast(), absl::InfiniteFuture());
    }
    for (const v1::Event& event :
         (*journal)->Read(kNs, absl::InfinitePast(), absl::InfiniteFuture()))
      before.push_back(event.id());
  }
  ASSERT_FALSE(before.empty());
  EXPECT_EQ(before.back(), "c99");
  EXPECT_LT(before.size(), 100u);
  const absl::StatusOr<std::string> current = ReadFile(directory + "/journal", 1 << 20);
  const absl::StatusOr<std::string> older = ReadFile(directory + "/journal.1", 1 << 20);
  ASSERT_TRUE(current.ok() && older.ok());
  EXPECT_LE(current->size(), 2000u);
  EXPECT_LE(older->size(), 2000u);
  // A power cut amid the last record.
  ASSERT_EQ(truncate((directory + "/journal").c_str(), static_cast<off_t>(current->size()) - 3), 0);
  EventBus after;
  auto journal = EventJournal::Open(directory, after, subjects_, 4000);
  ASSERT_TRUE(journal.ok()) << journal.status();
  after.Publish(kNs, Event(EventKind::kContainer, action::kDie, "c99"));
  const std::vector<v1::Event> events =
      (*journal)->Read(kNs, absl::InfinitePast(), absl::InfiniteFuture());
  ASSERT_EQ(events.size(), before.size());
  EXPECT_EQ(events[events.size() - 2].id(), "c98");
  EXPECT_EQ(events.back().action(), "die");
}

TEST_F(EventFeedTest, LowLevelStepsAndOtherNamespacesAreLeftOut) {
  Happens(LowLevelEvent(EventKind::kContent, action::kCreate, "sha256:1"));
  ASSERT_TRUE(
      bus_.PublishForeign(kNs, {"/tasks/exit", "containerd.events.TaskExit", ""}, absl::Now())
          .ok());
  bus_.Publish("other", Event(EventKind::kContainer, action::kStart, "c2"));
  Happens(Event(EventKind::kContainer, action::kStart, "c1"));
  EXPECT_THAT(Seen(), ElementsAre("container start c1"));
}

TEST_F(EventFeedTest, FiltersKnowContainersByIdAndName) {
  MakeContainer("c1aa", "web");
  MakeContainer("d2bb", "db");
  Happens(Event(EventKind::kContainer, action::kStart, "c1aa"));
  Happens(Event(EventKind::kContainer, action::kStart, "d2bb"));
  Happens(Event(EventKind::kImage, "tag", "web"));
  EXPECT_THAT(Seen({{"container", "c1"}}), ElementsAre("container start c1aa"));
  EXPECT_THAT(Seen({{"container", "db"}}), ElementsAre("container start d2bb"));
  EXPECT_THAT(Seen({{"container", "web"}, {"container", "d2bb"}}),
              ElementsAre("container start c1aa", "container start d2bb"));
  EXPECT_THAT(Seen({{"network", "web"}}), ElementsAre());
  EXPECT_THAT(Seen({{"type", "image"}}), ElementsAre("image tag web"));
  EXPECT_THAT(Seen({{"label!", "tier"}}), ElementsAre("image tag web"));
  EXPECT_THAT(Seen({{"label", "tier=front"}, {"label", "none"}}), ElementsAre());
  EXPECT_THAT(Seen({{"scope", "local"}, {"container", "db"}}), ElementsAre("container start d2bb"));
  EXPECT_THAT(Seen({{"scope", "swarm"}}), ElementsAre());
}

TEST_F(EventFeedTest, AnActionIsMeantWithOrWithoutItsCommand) {
  Event exec(EventKind::kContainer, action::kExecCreate, "c1", {{"execID", "e"}});
  exec.detail = "sh -c true";
  Happens(std::move(exec));
  Happens(Event(EventKind::kContainer, "create", "c1"));
  const char* text = "container exec_create: sh -c true c1";
  EXPECT_THAT(Seen({{"event", "exec_create"}}), ElementsAre(text));
  EXPECT_THAT(Seen({{"event", "exec_create: sh -c true"}}), ElementsAre(text));
  EXPECT_THAT(Seen({{"event", "exec"}}), ElementsAre());
  EXPECT_THAT(Seen({{"event", "create"}}), ElementsAre("container create c1"));
}

TEST_F(EventFeedTest, ImagesAreKnownByNameWithAndWithoutTagAndById) {
  MakeContainer("c1", "web");
  Happens(Event(EventKind::kContainer, action::kStart, "c1"));
  Happens(Event(EventKind::kImage, "tag", "sha256:1", {{"name", "host:5000/bb:2"}}));
  EXPECT_THAT(Seen({{"image", "bb"}}), ElementsAre("container start c1"));
  EXPECT_THAT(Seen({{"image", "bb:1"}}), ElementsAre("container start c1"));
  EXPECT_THAT(Seen({{"image", "host:5000/bb"}}), ElementsAre("image tag sha256:1"));
  EXPECT_THAT(Seen({{"image", "sha256:1"}}), ElementsAre("image tag sha256:1"));
  EXPECT_THAT(Seen({{"image", "b"}}), ElementsAre());
}

TEST_F(EventFeedTest, AnUnknownFilterIsRefusedAtOnce) {
  const absl::Status status =
      EventFeed::Open(bus_, subjects_, kNs, Request({{"bogus", "x"}}), nullptr).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("bogus"));
}

TEST_F(EventFeedTest, BytesThatAreNoTextDoNotReachTheMessage) {
  Event exec(EventKind::kContainer, action::kExecCreate, "c1");
  exec.detail = "caf\xe9";
  exec.attributes["name"] = "\xff";
  Happens(std::move(exec));
  auto feed = EventFeed::Open(bus_, subjects_, kNs, Request({}), nullptr);
  const std::optional<v1::Event> event = (*feed)->Next();
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->action(), "exec_create: caf\xef\xbf\xbd");
  v1::Event back;
  EXPECT_TRUE(back.ParseFromString(event->SerializeAsString()));
}

}  // namespace
}  // namespace gantry::core
