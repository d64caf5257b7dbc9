#include "supervisor/distribution/download_flights.h"

#include <thread>

#include "gtest/gtest.h"

namespace gantry::distribution {
namespace {

const content::Digest kBlob = content::Digest::Sha256Of("blob");

TEST(DownloadFlightsTest, SecondCallerGetsTheOutcomeOfTheFirst) {
  DownloadFlights flights;
  CancelToken cancel;
  ASSERT_EQ(flights.Join(kBlob, "a.example"), nullptr);
  const auto flight = flights.Join(kBlob, "b.example");
  ASSERT_NE(flight, nullptr);
  absl::Status outcome;
  std::thread waiter([&] { EXPECT_TRUE(DownloadFlights::Wait(*flight, cancel, outcome).ok()); });
  {
    DownloadFlights::Landing landing(flights, kBlob);
    landing.status = absl::DataLossError("damaged");
  }
  waiter.join();
  EXPECT_TRUE(absl::IsDataLoss(outcome));
  EXPECT_EQ(flights.Join(kBlob, "a.example"), nullptr);  // over: the next one downloads
  DownloadFlights::Landing end(flights, kBlob);
}

TEST(DownloadFlightsTest, FlightThatIsLeftCountsAsCancelled) {
  DownloadFlights flights;
  CancelToken cancel;
  ASSERT_EQ(flights.Join(kBlob, "a.example"), nullptr);
  const auto flight = flights.Join(kBlob, "a.example");
  { DownloadFlights::Landing landing(flights, kBlob); }
  absl::Status outcome;
  ASSERT_TRUE(DownloadFlights::Wait(*flight, cancel, outcome).ok());
  EXPECT_TRUE(absl::IsCancelled(outcome));
}

TEST(DownloadFlightsTest, WaitEndsWithTheOperation) {
  DownloadFlights flights;
  CancelToken cancel;
  ASSERT_EQ(flights.Join(kBlob, "a.example"), nullptr);
  const auto flight = flights.Join(kBlob, "a.example");
  absl::Status outcome;
  absl::Status waited;
  std::thread waiter([&] { waited = DownloadFlights::Wait(*flight, cancel, outcome); });
  cancel.Cancel();
  waiter.join();
  EXPECT_TRUE(absl::IsCancelled(waited));
  DownloadFlights::Landing landing(flights, kBlob);
}

TEST(DownloadFlightsTest, OnlyFaultsOfTheSameRegistryConcernOthers) {
  const DownloadFlights::Flight flight("a.example");
  EXPECT_TRUE(DownloadFlights::Concerns(flight, absl::UnavailableError(""), "a.example"));
  EXPECT_TRUE(DownloadFlights::Concerns(flight, absl::DataLossError(""), "a.example"));
  EXPECT_FALSE(DownloadFlights::Concerns(flight, absl::UnavailableError(""), "b.example"));
  EXPECT_FALSE(DownloadFlights::Concerns(flight, absl::CancelledError(""), "a.example"));
  EXPECT_FALSE(DownloadFlights::Concerns(flight, absl::UnauthenticatedError(""), "a.example"));
}

}  // namespace
}  // namespace gantry::distribution
