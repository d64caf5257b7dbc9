#include "supervisor/core/event_journal.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/system.pb.h"
#include "supervisor/core/event_feed.h"

namespace gantry::core {
namespace {

// A record: length and checksum of what follows, four bytes each, then a v1::Event. An event may
// hold the labels of a container; none comes near this.
constexpr size_t kHeaderBytes = 8;
constexpr size_t kMaxRecordBytes = 1 << 20;

// FNV-1a: finds records that were half written, nothing else.
uint32_t Checksum(absl::string_view bytes) {
  uint32_t sum = 2166136261u;
  for (const char c : bytes) sum = (sum ^ static_cast<unsigned char>(c)) * 16777619u;
  return sum;
}

void PutFixed32(uint32_t value, std::string* out) {
  for (int shift = 0; shift < 32; shift += 8) out->push_back(static_cast<char>(value >> shift));
}

uint32_t Fixed32(absl::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value |= uint32_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  return value;
}

absl::Time TimeOf(const v1::Event& event) {
  return absl::FromUnixSeconds(event.at().seconds()) + absl::Nanoseconds(event.at().nanos());
}

// The first record's content, which is taken off `bytes`; empty: no whole record is left.
absl::string_view TakeRecord(absl::string_view& bytes) {
  if (bytes.size() < kHeaderBytes) return {};
  const size_t size = Fixed32(bytes);
  if (size == 0 || size > kMaxRecordBytes || size > bytes.size() - kHeaderBytes) return {};
  const absl::string_view record = bytes.substr(kHeaderBytes, size);
  if (Checksum(record) != Fixed32(bytes.substr(4))) return {};
  bytes.remove_prefix(kHeaderBytes + size);
  return record;
}

}  // namespace

absl::StatusOr<std::unique_ptr<EventJournal>> EventJournal::Open(const std::string& directory,
                                                                 EventBus& bus,
                                                                 const EventSubjects& subjects,
                                                                 int64_t max_bytes) {
  GANTRY_RETURN_IF_ERROR(MakeDirectories(directory, 0700));
  auto journal = absl::WrapUnique(new EventJournal(directory, bus, subjects, max_bytes));
  {
    absl::MutexLock lock(&journal->mu_);
    GANTRY_RETURN_IF_ERROR(journal->OpenCurrent());
    journal->Subscribe(absl::InfinitePast());
  }
  GANTRY_ASSIGN_OR_RETURN(journal->thread_, NewThread([self = journal.get()] { self->Run(); }));
  return journal;
}

EventJournal::~EventJournal() {
  {
    absl::MutexLock lock(&wake_mu_);
    ending_ = true;
  }
  if (thread_.joinable()) thread_.join();
  absl::MutexLock lock(&mu_);
  if (subscription_ == nullptr) return;
  WriteQueued();
  subscription_->Close();
}

void EventJournal::Subscribe(absl::Time since) {
  subscription_ = bus_.Subscribe([](const Event& event) { return !event.low_level; },
                                 [this] {
                                   absl::MutexLock lock(&wake_mu_);
                                   waiting_ = true;
                                 },
                                 since);
}

absl::Status EventJournal::OpenCurrent() {
  UniqueFd file(open(current_path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!file.valid()) return ErrnoToStatus(errno, absl::StrCat("events ", current_path_));
  GANTRY_ASSIGN_OR_RETURN(
      const std::string bytes,
      ReadFile(current_path_, static_cast<size_t>(4 * file_bytes_) + kMaxRecordBytes));
  absl::string_view rest = bytes;
  while (!TakeRecord(rest).empty()) {
  }
  written_ = static_cast<int64_t>(bytes.size() - rest.size());
  if (!rest.empty() && ftruncate(file.get(), written_) != 0)
    return ErrnoToStatus(errno, absl::StrCat("events ", current_path_, ": truncate"));
  file_ = std::move(file);
  return absl::OkStatus();
}

void EventJournal::Run() {
  while (true) {
    bool ending;
    {
      absl::MutexLock lock(&wake_mu_);
      const auto woken = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(wake_mu_) {
        return waiting_ || ending_;
      };
      wake_mu_.Await(absl::Condition(&woken));
      // Most containers make several events within moments, and short-lived ones all of theirs.
      wake_mu_.AwaitWithTimeout(absl::Condition(&ending_), kCollect);
      waiting_ = false;
      ending = ending_;
    }
    if (ending) return;
    absl::MutexLock lock(&mu_);
    WriteQueued();
  }
}

void EventJournal::WriteQueued() {
  std::string batch;
  while (const EventPtr event = subscription_->Pop()) {
    std::string record;
    if (!ToMessage(*event, subjects_).SerializeToString(&record) || record.empty() ||
        record.size() > kMaxRecordBytes) {
      continue;
    }
    PutFixed32(static_cast<uint32_t>(record.size()), &batch);
    PutFixed32(Checksum(record), &batch);
    batch += record;
  }
  // More events than a queue holds: what came after them is lost, what comes now is not.
  if (!subscription_->status().ok()) Subscribe(absl::Now());
  if (batch.empty()) return;
  absl::Status status;
  if (written_ > 0 && written_ + static_cast<int64_t>(batch.size()) > file_bytes_) {
    file_.reset();
    if (rename(current_path_.c_str(), older_path_.c_str()) != 0)
      status = ErrnoToStatus(errno, absl::StrCat("events ", older_path_));
  }
  if (status.ok() && !file_.valid()) status = OpenCurrent();
  if (status.ok()) status = WriteAll(file_.get(), batch);
  if (status.ok()) {
    written_ += static_cast<int64_t>(batch.size());
  } else {
    // The next batch begins at a whole record.
    file_.reset();
  }
  LOG_IF(WARNING, !status.ok() && !failing_)
      << "events are not kept for after a restart: " << status;
  failing_ = !status.ok();
}

std::vector<v1::Event> EventJournal::Read(absl::string_view ns, absl::Time since,
                                          absl::Time before) {
  absl::MutexLock lock(&mu_);
  WriteQueued();
  std::vector<v1::Event> events;
  for (const std::string& path : {older_path_, current_path_}) {
    const absl::StatusOr<std::string> bytes =
        ReadFile(path, static_cast<size_t>(4 * file_bytes_) + kMaxRecordBytes);
    if (!bytes.ok()) continue;  // no such file yet
    absl::string_view rest = *bytes;
    for (absl::string_view record = TakeRecord(rest); !record.empty(); record = TakeRecord(rest)) {
      v1::Event event;
      if (!event.ParseFromArray(record.data(), static_cast<int>(record.size()))) continue;
      const absl::Time at = TimeOf(event);
      if (absl::string_view(event.namespace_()) == ns && at >= since && at < before)
        events.push_back(std::move(event));
    }
  }
  return events;
}

}  // namespace gantry::core
