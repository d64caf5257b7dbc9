#include "supervisor/core/event_bus.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace gantry::core {
namespace {

Event Start(const std::string& id) { return Event(EventKind::kContainer, action::kStart, id); }

absl::Status PublishBytes(EventBus& bus, const std::string& payload) {
  return bus.PublishForeign("n", {"/big", "t", payload}, absl::UnixEpoch());
}

TEST(EventBusTest, DeliversInOrderToEverySubscriber) {
  EventBus bus;
  int woken = 0;
  auto first = bus.Subscribe(nullptr, [&woken] { ++woken; });
  auto second = bus.Subscribe([](const Event& event) { return event.ns == "b"; }, nullptr);
  bus.Publish("a", Start("one"));
  bus.Publish("b", Start("two"));
  EventPtr event = first->Pop();
  ASSERT_NE(event, nullptr);
  EXPECT_EQ(event->ns, "a");
  EXPECT_EQ(event->kind, EventKind::kContainer);
  EXPECT_EQ(event->action, "start");
  EXPECT_EQ(event->id, "one");
  event = first->Pop();
  ASSERT_NE(event, nullptr);
  EXPECT_EQ(event->ns, "b");
  EXPECT_EQ(first->Pop(), nullptr);
  EXPECT_EQ(woken, 1);
  ASSERT_NE(second->Pop(), nullptr);
  EXPECT_EQ(second->Pop(), nullptr);
}

TEST(EventBusTest, DropsWhoFallsBehindAndKeepsServingOthers) {
  EventBus bus(/*history=*/{10, 1 << 20}, /*queue=*/{3, 1 << 20});
  auto slow = bus.Subscribe(nullptr, nullptr);
  auto quick = bus.Subscribe(nullptr, nullptr);
  for (int i = 0; i < 5; ++i) {
    bus.Publish("n", Start("x"));
    ASSERT_NE(quick->Pop(), nullptr);
  }
  EXPECT_TRUE(absl::IsResourceExhausted(slow->status()));
  EXPECT_TRUE(quick->status().ok());
  int left = 0;
  while (slow->Pop() != nullptr) ++left;
  EXPECT_EQ(left, 3);
}

TEST(EventBusTest, DropsWhoHasTooManyBytesWaiting) {
  EventBus bus(/*history=*/{10, 1 << 20}, /*queue=*/{100, 1 << 20});
  auto slow = bus.Subscribe(nullptr, nullptr);
  auto quick = bus.Subscribe(nullptr, nullptr);
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(PublishBytes(bus, std::string(300 << 10, 'x')).ok());
    ASSERT_NE(quick->Pop(), nullptr);
  }
  EXPECT_TRUE(quick->status().ok());
  EXPECT_TRUE(absl::IsResourceExhausted(slow->status()));
  EXPECT_NE(slow->status().message().find("100 events or 1 MiB"), std::string::npos);
  EXPECT_NE(slow->status().message().find("subscribe again"), std::string::npos);
  int left = 0;
  while (slow->Pop() != nullptr) ++left;
  EXPECT_EQ(left, 3);
}

TEST(EventBusTest, OneEventAlwaysHasRoom) {
  EventBus bus(/*history=*/{10, 100}, /*queue=*/{10, 100});
  auto subscription = bus.Subscribe(nullptr, nullptr);
  ASSERT_TRUE(PublishBytes(bus, std::string(1000, 'x')).ok());
  EXPECT_TRUE(subscription->status().ok());
  EXPECT_NE(subscription->Pop(), nullptr);
  ASSERT_TRUE(PublishBytes(bus, std::string(1000, 'y')).ok());
  EXPECT_NE(subscription->Pop(), nullptr);
}

TEST(EventBusTest, HistoryIsBoundedByBytes) {
  EventBus bus(/*history=*/{100, 10000}, /*queue=*/{100, 1 << 20});
  for (char c = 'a'; c < 'f'; ++c) ASSERT_TRUE(PublishBytes(bus, std::string(4000, c)).ok());
  auto late = bus.Subscribe(nullptr, nullptr, absl::InfinitePast());
  EventPtr event = late->Pop();
  ASSERT_NE(event, nullptr);
  EXPECT_EQ(std::get<ForeignFacts>(event->facts).payload[0], 'd');
  event = late->Pop();
  ASSERT_NE(event, nullptr);
  EXPECT_EQ(std::get<ForeignFacts>(event->facts).payload[0], 'e');
  EXPECT_EQ(late->Pop(), nullptr);
}

TEST(EventBusTest, LooksBack) {
  EventBus bus;
  bus.Publish("n", Start("old"));
  auto late = bus.Subscribe(nullptr, nullptr, absl::InfinitePast());
  ASSERT_NE(late->Pop(), nullptr);
  auto present = bus.Subscribe(nullptr, nullptr);
  EXPECT_EQ(present->Pop(), nullptr);
}

TEST(EventBusTest, TellsOfRecoveryToWhoReconnects) {
  EventBus bus;
  bus.Publish("n", Start("before"));
  bus.BeginRecovery();
  bus.Publish("n", Start("meanwhile"));
  // One of the supervisor's own, made while it starts, takes nothing away from clients.
  auto own = bus.Subscribe(nullptr, nullptr);
  bus.EndRecovery(absl::Hours(1));
  bus.Publish("n", Start("after"));
  auto client = bus.Subscribe(nullptr, nullptr);
  EventPtr event = client->Pop();
  ASSERT_NE(event, nullptr);
  EXPECT_EQ(event->id, "meanwhile");
  EXPECT_EQ(client->Pop(), nullptr);
}

TEST(EventBusTest, RefusesMalformedTopics) {
  EventBus bus;
  for (const char* topic : {"", "tasks", "/", "//x", "/a/", "/a b", "/-x"}) {
    EXPECT_TRUE(
        absl::IsInvalidArgument(bus.PublishForeign("n", {topic, "t", ""}, absl::UnixEpoch())))
        << topic;
  }
  EXPECT_TRUE(bus.PublishForeign("n", {"/my/own.topic", "t", ""}, absl::UnixEpoch()).ok());
}

TEST(EventBusTest, ClosedSubscriptionHearsNothing) {
  EventBus bus;
  int woken = 0;
  auto subscription = bus.Subscribe(nullptr, [&woken] { ++woken; });
  subscription->Close();
  bus.Publish("n", Start("x"));
  EXPECT_EQ(subscription->Pop(), nullptr);
  EXPECT_EQ(woken, 0);
}

}  // namespace
}  // namespace gantry::core
