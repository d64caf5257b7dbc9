#include "supervisor/api/grpc/answer_places.h"

#include <optional>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "base/clock.h"

namespace gantry::api {
namespace {

TEST(AnswerPlacesTest, WhoFindsNoPlaceWaitsUntilOneIsGivenBack) {
  FakeClock clock;
  AnswerPlaces places(2, absl::Hours(1), clock);
  CancelToken cancel;
  std::optional<AnswerPlaces::Place> first = *places.Take(cancel);
  AnswerPlaces::Place second = *places.Take(cancel);
  absl::Notification taken;
  std::thread third([&] {
    CancelToken mine;
    const absl::StatusOr<AnswerPlaces::Place> place = places.Take(mine);
    EXPECT_TRUE(place.ok()) << place.status();
    taken.Notify();
  });
  EXPECT_FALSE(taken.WaitForNotificationWithTimeout(absl::Milliseconds(50)));
  first.reset();
  taken.WaitForNotification();
  third.join();
  // Its place is free again, a moved one is given back once.
  AnswerPlaces::Place moved = std::move(second);
  EXPECT_TRUE(places.Take(cancel).ok());
}

TEST(AnswerPlacesTest, AnAnswerThatNobodyTakesDoesNotCountForLong) {
  FakeClock clock;
  AnswerPlaces places(1, absl::Seconds(1), clock);
  CancelToken cancel;
  std::optional<AnswerPlaces::Place> held = *places.Take(cancel);
  clock.Advance(absl::Seconds(2));
  const absl::StatusOr<AnswerPlaces::Place> next = places.Take(cancel);
  EXPECT_TRUE(next.ok()) << next.status();
  // The late return of the first gives nobody the place of the second.
  held.reset();
  CancelToken brief(absl::Milliseconds(20));
  EXPECT_TRUE(absl::IsDeadlineExceeded(places.Take(brief).status()));
}

TEST(AnswerPlacesTest, AWaitEndsWithItsCall) {
  FakeClock clock;
  AnswerPlaces places(1, absl::Hours(1), clock);
  CancelToken cancel;
  const AnswerPlaces::Place held = *places.Take(cancel);
  CancelToken gone;
  std::thread client([&] { gone.Cancel("the client has gone"); });
  EXPECT_TRUE(absl::IsCancelled(places.Take(gone).status()));
  client.join();
}

}  // namespace
}  // namespace gantry::api
