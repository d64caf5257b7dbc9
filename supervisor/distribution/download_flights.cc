#include "supervisor/distribution/download_flights.h"

#include "base/status_macros.h"

namespace gantry::distribution {

std::shared_ptr<DownloadFlights::Flight> DownloadFlights::Join(const content::Digest& digest,
                                                               const std::string& domain) {
  absl::MutexLock lock(&mutex_);
  auto [it, mine] = running_.try_emplace(digest);
  if (!mine) return it->second;
  it->second = std::make_shared<Flight>(domain);
  return nullptr;
}

absl::Status DownloadFlights::Wait(Flight& flight, CancelToken& cancel, absl::Status& outcome) {
  CancelToken::Registration wake = cancel.OnCancel([&flight] {
    absl::MutexLock lock(&flight.mutex);
    flight.changed.SignalAll();
  });
  absl::MutexLock lock(&flight.mutex);
  while (!flight.landed) {
    GANTRY_RETURN_IF_ERROR(cancel.Check());
    flight.changed.WaitWithTimeout(&flight.mutex, cancel.remaining());
  }
  outcome = flight.status;
  return absl::OkStatus();
}

bool DownloadFlights::Concerns(const Flight& flight, const absl::Status& outcome,
                               absl::string_view domain) {
  return flight.domain == domain && (absl::IsUnavailable(outcome) || absl::IsDataLoss(outcome) ||
                                     absl::IsResourceExhausted(outcome));
}

void DownloadFlights::Land(const content::Digest& digest, const absl::Status& status) {
  std::shared_ptr<Flight> flight;
  {
    absl::MutexLock lock(&mutex_);
    auto it = running_.find(digest);
    flight = std::move(it->second);
    running_.erase(it);
  }
  absl::MutexLock lock(&flight->mutex);
  flight->landed = true;
  flight->status = status;
  flight->changed.SignalAll();
}

}  // namespace gantry::distribution
