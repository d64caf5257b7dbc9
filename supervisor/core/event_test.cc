#include "supervisor/core/event.h"

#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "proto/record/v1/record.pb.h"
#include "supervisor/core/record_facts.h"

namespace gantry::core {
namespace {

using testing::ElementsAre;
using testing::Pair;

TEST(EventTest, AnActionWithADetailIsOneText) {
  Event event(EventKind::kContainer, "exec_create", "c1");
  EXPECT_EQ(event.ActionText(), "exec_create");
  event.detail = "sh -c true";
  EXPECT_EQ(event.ActionText(), "exec_create: sh -c true");
}

TEST(EventTest, EveryKindHasAWordOfItsOwn) {
  std::set<std::string> words;
  for (const EventKind kind :
       {EventKind::kContainer, EventKind::kImage, EventKind::kNetwork, EventKind::kVolume,
        EventKind::kDaemon, EventKind::kContent, EventKind::kSnapshot, EventKind::kNamespace,
        EventKind::kSandbox, EventKind::kForeign})
    words.insert(std::string(EventKindName(kind)));
  EXPECT_EQ(words.size(), 10u);
  EXPECT_EQ(words.count(""), 0u);
  EXPECT_EQ(EventKindName(EventKind::kContainer), "container");
}

// Queues are bounded by it, so what a client can make large has to count.
TEST(EventTest, TheSizeCountsWhatClientsCanMakeLarge) {
  const std::string large(10000, 'x');
  const size_t empty = Event(EventKind::kContainer, "start", "c").bytes();
  EXPECT_LT(empty, 2000u);
  Event event(EventKind::kContainer, "start", "c", {{"label", large}});
  EXPECT_GE(event.bytes(), empty + 10000);
  const auto size_with = [](auto facts) {
    return LowLevelEvent(EventKind::kContainer, "x", "c", std::move(facts)).bytes();
  };
  const size_t bare = size_with(ContainerFacts());
  ContainerFacts container;
  container.labels["a"] = large;
  EXPECT_GE(size_with(container), bare + 10000);
  container = {};
  container.runtime_options = large;
  EXPECT_GE(size_with(container), bare + 10000);
  ForeignFacts foreign;
  foreign.payload = large;
  EXPECT_GE(size_with(foreign), bare + 10000);
  RecordFacts record;
  record.labels[large] = "";
  EXPECT_GE(size_with(record), bare + 10000);
  SnapshotFacts snapshot;
  snapshot.name = large;
  EXPECT_GE(size_with(snapshot), bare + 10000);
  auto setup = std::make_shared<TaskSetup>();
  setup->rootfs.push_back({.type = "overlay", .source = "o", .options = {large}});
  ProcessFacts process;
  process.setup = setup;
  EXPECT_GE(size_with(process), bare + 10000);
}

TEST(EventTest, LowLevelEventsAreMarked) {
  const Event event = LowLevelEvent(EventKind::kContent, action::kDelete, "sha256:1",
                                    ContentFacts{.size_bytes = 7});
  EXPECT_TRUE(event.low_level);
  EXPECT_EQ(std::get<ContentFacts>(event.facts).size_bytes, 7);
  EXPECT_FALSE(Event(EventKind::kContainer, action::kStart, "c").low_level);
}

TEST(RecordFactsTest, AContainersEventHasWhatItsRecordHas) {
  record::v1::Container record;
  record.set_image("docker.io/library/app:1");
  record.set_snapshot_key("key");
  record.mutable_runtime()->set_name("io.containerd.runc.v2");
  record.mutable_runtime()->mutable_options()->set_type_url("options");
  record.mutable_runtime()->mutable_options()->set_value("bytes");
  (*record.mutable_labels())["team"] = "blue";
  const ContainerFacts facts = FactsOfRecord(record);
  EXPECT_EQ(facts.image, "docker.io/library/app:1");
  EXPECT_EQ(facts.snapshot_key, "key");
  EXPECT_EQ(facts.runtime, "io.containerd.runc.v2");
  EXPECT_EQ(facts.runtime_options_type_url, "options");
  EXPECT_EQ(facts.runtime_options, "bytes");
  EXPECT_THAT(facts.labels, ElementsAre(Pair("team", "blue")));
}

TEST(RecordFactsTest, RecordsOfImagesComeAndGoWithLowLevelEvents) {
  record::v1::Image image;
  image.set_name("app:1");
  (*image.mutable_labels())["team"] = "blue";
  const Event written = ImageRecordWritten(action::kUpdate, image);
  EXPECT_TRUE(written.low_level);
  EXPECT_EQ(written.kind, EventKind::kImage);
  EXPECT_EQ(written.action, "update");
  EXPECT_EQ(written.id, "app:1");
  EXPECT_THAT(std::get<RecordFacts>(written.facts).labels, ElementsAre(Pair("team", "blue")));
  const Event gone = ImageRecordGone("app:1");
  EXPECT_TRUE(gone.low_level);
  EXPECT_EQ(gone.action, "remove");
  EXPECT_EQ(gone.id, "app:1");
}

}  // namespace
}  // namespace gantry::core
