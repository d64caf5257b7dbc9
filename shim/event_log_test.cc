#include "shim/event_log.h"

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace gantry::shim {
namespace {

v1::Event Exited(const std::string& exec_id) {
  v1::Event event;
  event.mutable_exited()->set_exec_id(exec_id);
  return event;
}
v1::Event Deleted(const std::string& exec_id) {
  v1::Event event;
  event.mutable_deleted()->set_exec_id(exec_id);
  return event;
}
v1::Event Oom() {
  v1::Event event;
  event.mutable_oom();
  return event;
}

size_t CountKept(const EventLog& log) {
  size_t kept = 0;
  uint64_t number = 0;
  while (const std::optional<v1::Event> event = log.NextAfter(number)) {
    ++kept;
    number = event->number();
  }
  return kept;
}

TEST(EventLogTest, NumbersFromOneWithoutGaps) {
  EventLog log;
  EXPECT_EQ(log.last_number(), 0u);
  EXPECT_FALSE(log.NextAfter(0).has_value());
  EXPECT_EQ(log.Append(Oom()), 1u);
  EXPECT_EQ(log.Append(Exited("a")), 2u);
  EXPECT_EQ(log.NextAfter(0)->number(), 1u);
  EXPECT_EQ(log.NextAfter(1)->exited().exec_id(), "a");
  EXPECT_FALSE(log.NextAfter(2).has_value());
  EXPECT_TRUE(log.NextAfter(0)->has_at());
}

TEST(EventLogTest, ConfirmedEventsAreForgotten) {
  EventLog log;
  for (int i = 0; i < 3; ++i) log.Append(Exited(absl::StrCat(i)));
  log.Confirm(2);
  EXPECT_EQ(log.NextAfter(0)->number(), 3u);
  EXPECT_EQ(log.last_number(), 3u);
}

TEST(EventLogTest, UnknownExitsOutliveTheFlood) {
  EventLog log;
  log.Append(Exited("precious"));
  for (size_t i = 0; i < 3 * EventLog::kMaxEvents; ++i) log.Append(Oom());
  EXPECT_EQ(log.NextAfter(0)->exited().exec_id(), "precious");
  EXPECT_EQ(CountKept(log), EventLog::kMaxEvents);
}

TEST(EventLogTest, ExitsWhoseProcessWasDeletedMakeRoom) {
  EventLog log;
  for (size_t i = 0; i < EventLog::kMaxEvents; ++i) {
    log.Append(Exited(absl::StrCat("e", i)));
    log.Append(Deleted(absl::StrCat("e", i)));
  }
  EXPECT_EQ(CountKept(log), EventLog::kMaxEvents);
}

TEST(EventLogTest, EvenExitsAreBounded) {
  EventLog log;
  for (size_t i = 0; i < EventLog::kMaxExits + 100; ++i) log.Append(Exited("x"));
  EXPECT_EQ(log.NextAfter(0)->number(), 101u);
}

TEST(EventLogTest, ListenersAreCalledUntilTheyStop) {
  EventLog log;
  int calls = 0;
  const uint64_t id = log.Listen([&] { ++calls; });
  log.Append(Oom());
  log.Append(Oom());
  log.Unlisten(id);
  log.Append(Oom());
  EXPECT_EQ(calls, 2);
}

}  // namespace
}  // namespace gantry::shim
