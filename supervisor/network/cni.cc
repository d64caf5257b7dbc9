#include "supervisor/network/cni.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <map>
#include <optional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

#include "base/cancel_token.h"
#include "base/clock.h"
#include "base/errno_status.h"
#include "base/executor.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "supervisor/network/cni_chain.h"
#include "supervisor/network/cni_config.h"
#include "supervisor/network/cni_record.h"
#include "supervisor/network/links.h"

namespace gantry::network {
namespace {

using State = CniAttachment::State;
using Key = std::pair<std::string, std::string>;  // container id and interface

constexpr size_t kBackgroundThreads = 16;
// ADD and DEL wait while the plugins' garbage collection runs, so it gets less time than they.
constexpr absl::Duration kMostCollectTime = absl::Seconds(10);
constexpr absl::Duration kMostWaitForIdle = absl::Seconds(60);

absl::Duration Now() { return Clock::Real().Monotonic(); }

std::string NameOf(const Key& key) {
  return absl::StrCat("pod ", key.first, "'s interface ", key.second);
}

absl::Status BringLoopbackUp(const std::string& netns) {
  UniqueFd fd(open(netns.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("network namespace ", netns));
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Links> links, Links::OpenIn(fd.get()));
  return WithContext(links->SetUp("lo"), absl::StrCat("network namespace ", netns));
}

}  // namespace

class Cni::Work {
 public:
  explicit Work(Options options)
      : options_(std::move(options)),
        runner_{.bin_dirs = options_.bin_dirs, .timeout = options_.plugin_timeout},
        directory_(options_.conf_dir) {}
  ~Work();

  absl::Status ReadRecords();

  absl::StatusOr<std::shared_ptr<const CniNetwork>> Network() { return directory_.Get(); }
  absl::Status Ready(CancelToken* cancel);
  absl::StatusOr<CniResult> Add(const CniRequest& request, CancelToken* cancel);
  absl::Status Remove(const std::string& container_id, CancelToken* cancel);
  absl::Status Check(const std::string& container_id, CancelToken* cancel);
  absl::StatusOr<CniResult> Result(const Key& key) const;
  std::vector<CniAttachment> Attachments() const;
  void CollectGarbage(const std::set<std::string>& pods);

 private:
  struct Entry {
    CniRecord record;
    int failures = 0;                               // of DEL, in a row
    absl::Duration due = absl::InfiniteDuration();  // when DEL is repeated
  };

  // A call's turn on one attachment: there is one at a time, and none while garbage is collected.
  class Turn {
   public:
    Turn(Work& work, Key key, CancelToken* outer) : work_(work), key_(std::move(key)) {
      {
        absl::MutexLock lock(&work_.mu_);
        ++work_.calls_;
      }
      // A token of its own, shared with who ends it, because the caller's may be gone by then.
      token_ = std::make_shared<CancelToken>(outer == nullptr ? absl::InfiniteDuration()
                                                              : outer->remaining());
      if (outer != nullptr) {
        outer_ =
            outer->OnCancel([token = token_, outer] { token->Cancel(outer->Check().message()); });
      }
      wake_ = token_->OnCancel([&work] { absl::MutexLock lock(&work.mu_); });
    }
    ~Turn() {
      // After these nothing calls back, and the last line may let ~Work() go on.
      outer_ = {};
      wake_ = {};
      absl::MutexLock lock(&work_.mu_);
      if (taken_) work_.running_.erase(key_);
      --work_.calls_;
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    // Waits for it. A waiting turn is not ended by Remove(), one that was taken is.
    absl::Status Take() ABSL_LOCKS_EXCLUDED(work_.mu_) {
      absl::MutexLock lock(&work_.mu_);
      const auto free = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(work_.mu_) {
        return work_.stopping_ || token_->cancelled() ||
               (!work_.running_.contains(key_) && !work_.collecting_);
      };
      work_.mu_.AwaitWithTimeout(absl::Condition(&free), token_->remaining());
      if (work_.stopping_) return absl::CancelledError("the daemon stops");
      GANTRY_RETURN_IF_ERROR(token_->Check());
      work_.running_[key_] = token_;
      taken_ = true;
      return absl::OkStatus();
    }
    CancelToken* token() const { return token_.get(); }

   private:
    Work& work_;
    const Key key_;
    std::shared_ptr<CancelToken> token_;
    CancelToken::Registration outer_;
    CancelToken::Registration wake_;
    bool taken_ = false;
  };

  std::optional<CniRecord> Find(const Key& key) const;
  std::vector<Key> KeysOf(const std::string& container_id) const;
  void Keep(const CniRecord& record);
  // DEL of a record whose turn the caller has. The record goes when it succeeds; else it is kept
  // and DEL is repeated later.
  absl::Status Delete(CniRecord record, CancelToken* cancel);
  // Of an ADD that failed: DEL now, or in the background when the call has no time left.
  void Undo(CniRecord record, const absl::Status& why, CancelToken* cancel);

  void WakeBackground() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Background();
  void Repeat(const Key& key);
  void RunGarbageCollection();

  const Options options_;
  const CniRunner runner_;

  CniConfigDirectory directory_;

  mutable absl::Mutex mu_;
  std::map<Key, Entry> entries_ ABSL_GUARDED_BY(mu_);
  // The turns that were taken, and how to end each.
  std::map<Key, std::shared_ptr<CancelToken>> running_ ABSL_GUARDED_BY(mu_);
  bool collecting_ ABSL_GUARDED_BY(mu_) = false;  // the plugins' garbage collection runs
  std::shared_ptr<CancelToken> collection_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  int calls_ ABSL_GUARDED_BY(mu_) = 0;  // turns, taken or waiting

  // Made when there is something to repeat. The thread waits for the time, the executor runs DEL,
  // so that a plugin that hangs delays no other attachment.
  bool changed_ ABSL_GUARDED_BY(mu_) = false;
  std::thread background_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Executor> workers_ ABSL_GUARDED_BY(mu_);
};

Cni::Work::~Work() {
  std::vector<std::shared_ptr<CancelToken>> tokens;
  std::thread background;
  std::unique_ptr<Executor> workers;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    changed_ = true;
    for (const auto& [key, token] : running_) tokens.push_back(token);
    if (collection_ != nullptr) tokens.push_back(collection_);
    background = std::move(background_);
    workers = std::move(workers_);
  }
  for (const std::shared_ptr<CancelToken>& token : tokens) token->Cancel("the daemon stops");
  if (background.joinable()) background.join();
  workers.reset();
  const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return calls_ == 0; };
  absl::MutexLock lock(&mu_);
  mu_.Await(absl::Condition(&idle));
}

absl::Status Cni::Work::ReadRecords() {
  std::vector<std::string> damaged;
  GANTRY_ASSIGN_OR_RETURN(const std::vector<CniRecord> records,
                          ReadCniRecords(options_.record_dir, damaged));
  for (const std::string& one : damaged)
    LOG(ERROR) << "CNI: " << one << "; what was attached by it is not removed";
  std::map<std::string, bool> unfinished;
  for (const CniRecord& record : records)
    unfinished[record.container_id] |= record.state != State::kAttached;
  EndFormerPlugins(unfinished);
  absl::MutexLock lock(&mu_);
  for (const CniRecord& record : records) {
    Entry& entry = entries_[{record.container_id, record.interface}];
    entry.record = record;
    if (record.state == State::kAttached) continue;
    entry.due = Now();
    WakeBackground();
  }
  return absl::OkStatus();
}

absl::Status Cni::Work::Ready(CancelToken* cancel) {
  GANTRY_ASSIGN_OR_RETURN(const std::shared_ptr<const CniNetwork> network, Network());
  for (const CniPlugin& plugin : network->plugins)
    GANTRY_RETURN_IF_ERROR(FindCniPlugin(runner_, plugin.type).status());
  return AskCniStatus(runner_, *network, cancel);
}

absl::StatusOr<CniResult> Cni::Work::Add(const CniRequest& request, CancelToken* cancel) {
  GANTRY_RETURN_IF_ERROR(CheckCniRequest(request));
  const Key key = {request.container_id, request.interface};
  CniRecord record;
  record.container_id = request.container_id;
  record.interface = request.interface;
  record.netns = request.netns;
  record.netns_identity = NetnsIdentity(request.netns);
  record.args = ArgsText(request.args);
  record.capability_args = CapabilityArguments(request);
  if (record.netns_identity.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(NameOf(key), ": ", request.netns, " is not a network namespace"));
  }
  Turn turn(*this, key, cancel);
  GANTRY_RETURN_IF_ERROR(WithContext(turn.Take(), NameOf(key)));
  if (const std::optional<CniRecord> former = Find(key); former.has_value()) {
    if (former->state == State::kAttached && former->netns_identity == record.netns_identity)
      return former->result;
    GANTRY_RETURN_IF_ERROR(Delete(*former, turn.token()));
  }
  GANTRY_ASSIGN_OR_RETURN(const std::shared_ptr<const CniNetwork> network, Network());
  record.network = *network;
  GANTRY_RETURN_IF_ERROR(BringLoopbackUp(request.netns));
  GANTRY_RETURN_IF_ERROR(WriteCniRecord(options_.record_dir, record));
  Keep(record);

  absl::StatusOr<CniResult> result = AddCniChain(runner_, record, turn.token());
  absl::Status status = result.status();
  // Remove() may have asked for the end just when the last plugin was done.
  if (status.ok()) status = turn.token()->Check();
  if (status.ok()) {
    record.state = State::kAttached;
    record.result = *result;
    status = WriteCniRecord(options_.record_dir, record);
  }
  if (!status.ok()) {
    status = WithContext(status, NameOf(key));
    Undo(record, status, turn.token());
    return status;
  }
  Keep(record);
  return result;
}

absl::Status Cni::Work::Remove(const std::string& container_id, CancelToken* cancel) {
  std::vector<std::shared_ptr<CancelToken>> adds;
  const std::vector<Key> keys = KeysOf(container_id);
  {
    absl::MutexLock lock(&mu_);
    for (const Key& key : keys) {
      const auto running = running_.find(key);
      const auto entry = entries_.find(key);
      const bool adding = entry == entries_.end() || entry->second.record.state == State::kAdding;
      if (running != running_.end() && adding) adds.push_back(running->second);
    }
  }
  for (const std::shared_ptr<CancelToken>& token : adds) token->Cancel("the pod is being removed");
  absl::Status first;
  for (const Key& key : keys) {
    Turn turn(*this, key, cancel);
    absl::Status status = turn.Take();
    if (status.ok()) {
      const std::optional<CniRecord> record = Find(key);
      if (record.has_value()) status = Delete(*record, turn.token());
    } else {
      // The one who has the turn knows nothing of this removal.
      absl::MutexLock lock(&mu_);
      if (const auto found = entries_.find(key); found != entries_.end()) {
        found->second.record.state = State::kRemoving;
        found->second.due = std::min(found->second.due, Now());
        WakeBackground();
      }
    }
    if (first.ok() && !status.ok()) first = WithContext(status, NameOf(key));
  }
  return first;
}

absl::Status Cni::Work::Check(const std::string& container_id, CancelToken* cancel) {
  const std::vector<Key> keys = KeysOf(container_id);
  bool any = false;
  for (const Key& key : keys) {
    Turn turn(*this, key, cancel);
    GANTRY_RETURN_IF_ERROR(WithContext(turn.Take(), NameOf(key)));
    const std::optional<CniRecord> record = Find(key);
    if (!record.has_value() || record->state != State::kAttached) continue;
    any = true;
    GANTRY_RETURN_IF_ERROR(WithContext(CheckCniChain(runner_, *record, turn.token()), NameOf(key)));
  }
  if (any) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("pod ", container_id, " is on no network"));
}

absl::StatusOr<CniResult> Cni::Work::Result(const Key& key) const {
  const std::optional<CniRecord> record = Find(key);
  if (record.has_value() && record->state == State::kAttached) return record->result;
  return absl::NotFoundError(absl::StrCat(NameOf(key), " is not attached"));
}

std::vector<CniAttachment> Cni::Work::Attachments() const {
  std::vector<CniAttachment> all;
  absl::MutexLock lock(&mu_);
  for (const auto& [key, entry] : entries_) {
    const CniRecord& record = entry.record;
    all.push_back({.container_id = record.container_id,
                   .interface = record.interface,
                   .network = record.network.name,
                   .netns = record.netns,
                   .state = record.state,
                   .error = record.error});
  }
  return all;
}

std::optional<CniRecord> Cni::Work::Find(const Key& key) const {
  absl::MutexLock lock(&mu_);
  const auto found = entries_.find(key);
  if (found == entries_.end()) return std::nullopt;
  return found->second.record;
}

std::vector<Key> Cni::Work::KeysOf(const std::string& container_id) const {
  std::set<Key> keys;
  absl::MutexLock lock(&mu_);
  for (auto one = entries_.lower_bound({container_id, ""});
       one != entries_.end() && one->first.first == container_id; ++one) {
    keys.insert(one->first);
  }
  for (auto one = running_.lower_bound({container_id, ""});
       one != running_.end() && one->first.first == container_id; ++one) {
    keys.insert(one->first);
  }
  return {keys.begin(), keys.end()};
}

void Cni::Work::Keep(const CniRecord& record) {
  absl::MutexLock lock(&mu_);
  entries_[{record.container_id, record.interface}] = Entry{.record = record};
}

absl::Status Cni::Work::Delete(CniRecord record, CancelToken* cancel) {
  const Key key = {record.container_id, record.interface};
  absl::Status status = DelCniChain(runner_, record, cancel);
  if (status.ok()) status = RemoveCniRecord(options_.record_dir, record);
  if (status.ok()) {
    absl::MutexLock lock(&mu_);
    entries_.erase(key);
    return absl::OkStatus();
  }
  record.state = State::kRemoving;
  const std::string error(status.message());
  const bool another = record.error != error;
  record.error = error;
  // When the disk refuses this, the state in memory is right, and the next daemon finds the former
  // one, of which its pods' removal, or the collection of garbage, makes the same.
  const absl::Status written = WriteCniRecord(options_.record_dir, record);
  if (another) {
    LOG(WARNING) << "CNI: " << NameOf(key)
                 << " is not removed yet and will be tried again: " << error;
  }
  if (!written.ok()) LOG(ERROR) << "CNI: " << written.message();
  absl::MutexLock lock(&mu_);
  Entry& entry = entries_[key];
  entry.record = std::move(record);
  absl::Duration pause = options_.first_pause;
  for (int i = 0; i < entry.failures && pause < options_.longest_pause; ++i) pause *= 2;
  ++entry.failures;
  entry.due = Now() + std::min(pause, options_.longest_pause);
  WakeBackground();
  return status;
}

void Cni::Work::Undo(CniRecord record, const absl::Status& why, CancelToken* cancel) {
  record.state = State::kAdding;
  if (!cancel->cancelled()) {
    // Delete() keeps what it could not remove, and says so in the log.
    Delete(std::move(record), cancel).IgnoreError();
    return;
  }
  record.state = State::kRemoving;
  record.error = std::string(why.message());
  Keep(record);
  absl::MutexLock lock(&mu_);
  // The file says "adding", which the next daemon treats in the same way.
  entries_[{record.container_id, record.interface}].due = Now();
  WakeBackground();
}

// ---- what goes on beside the calls ----

void Cni::Work::WakeBackground() {
  changed_ = true;
  if (stopping_ || background_.joinable()) return;
  absl::StatusOr<std::thread> thread = NewThread([this] { Background(); });
  // Without a thread the next call that comes here tries again.
  if (thread.ok()) background_ = *std::move(thread);
}

void Cni::Work::Background() {
  pthread_setname_np(pthread_self(), "cni");
  absl::MutexLock lock(&mu_);
  while (!stopping_) {
    changed_ = false;
    absl::Duration next = absl::InfiniteDuration();
    for (auto& [key, entry] : entries_) {
      if (entry.due > Now()) {
        next = std::min(next, entry.due);
        continue;
      }
      entry.due = absl::InfiniteDuration();  // until this try has ended
      if (workers_ == nullptr) workers_ = std::make_unique<Executor>("cni-del", kBackgroundThreads);
      workers_->Schedule([this, key = key] { Repeat(key); });
    }
    const auto woken = [this]()
                           ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return changed_ || stopping_; };
    mu_.AwaitWithTimeout(absl::Condition(&woken),
                         next == absl::InfiniteDuration() ? next : next - Now());
  }
}

void Cni::Work::Repeat(const Key& key) {
  Turn turn(*this, key, nullptr);
  if (!turn.Take().ok()) return;  // the daemon stops
  const std::optional<CniRecord> record = Find(key);
  // Somebody else had the turn in between, and removed it or attached it anew.
  if (!record.has_value() || record->state == State::kAttached) return;
  if (Delete(*record, turn.token()).ok())
    LOG(INFO) << "CNI: " << NameOf(key) << " is removed after all";
}

void Cni::Work::CollectGarbage(const std::set<std::string>& pods) {
  absl::MutexLock lock(&mu_);
  for (auto& [key, entry] : entries_) {
    if (pods.contains(key.first) || running_.contains(key)) continue;
    if (entry.record.state == State::kRemoving) continue;
    entry.record.state = State::kRemoving;
    entry.due = Now();
  }
  WakeBackground();
  if (stopping_) return;
  if (workers_ == nullptr) workers_ = std::make_unique<Executor>("cni-del", kBackgroundThreads);
  workers_->Schedule([this] { RunGarbageCollection(); });
}

void Cni::Work::RunGarbageCollection() {
  const absl::StatusOr<std::shared_ptr<const CniNetwork>> network = Network();
  if (!network.ok() || !HasCniGarbageCollection(**network)) return;
  std::vector<std::pair<std::string, std::string>> valid;
  CniRunner runner = runner_;
  runner.timeout = std::min(runner.timeout, kMostCollectTime);
  const auto token = std::make_shared<CancelToken>();
  {
    const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return stopping_ || (running_.empty() && !collecting_);
    };
    absl::MutexLock lock(&mu_);
    if (!mu_.AwaitWithTimeout(absl::Condition(&idle), kMostWaitForIdle) || stopping_) return;
    for (const auto& [key, entry] : entries_) {
      if (entry.record.state == State::kAttached) valid.push_back(key);
    }
    collecting_ = true;
    collection_ = token;
  }
  const absl::Status status = RunCniGarbageCollection(runner, **network, valid, token.get());
  if (!status.ok()) LOG(WARNING) << "CNI: garbage collection: " << status.message();
  absl::MutexLock lock(&mu_);
  collecting_ = false;
  collection_ = nullptr;
}

// ---- the class ----

absl::StatusOr<std::unique_ptr<Cni>> Cni::Open(Options options) {
  auto work = std::make_unique<Work>(std::move(options));
  GANTRY_RETURN_IF_ERROR(WithContext(work->ReadRecords(), "CNI"));
  return std::unique_ptr<Cni>(new Cni(std::move(work)));
}

Cni::Cni(std::unique_ptr<Work> work) : work_(std::move(work)) {}
Cni::~Cni() = default;

absl::Status Cni::Ready(CancelToken* cancel) { return work_->Ready(cancel); }
absl::StatusOr<CniResult> Cni::Add(const CniRequest& request, CancelToken* cancel) {
  return work_->Add(request, cancel);
}
absl::Status Cni::Remove(const std::string& container_id, CancelToken* cancel) {
  return work_->Remove(container_id, cancel);
}
absl::Status Cni::Check(const std::string& container_id, CancelToken* cancel) {
  return work_->Check(container_id, cancel);
}
absl::StatusOr<CniResult> Cni::Result(const std::string& container_id,
                                      const std::string& interface) const {
  return work_->Result({container_id, interface});
}
std::vector<CniAttachment> Cni::Attachments() const { return work_->Attachments(); }
void Cni::CollectGarbage(const std::set<std::string>& pods) { work_->CollectGarbage(pods); }

std::string Cni::ConfigJson() {
  const auto network = work_->Network();
  return network.ok() ? (*network)->json : "{}";
}
std::string Cni::LoadStatus() {
  const auto network = work_->Network();
  return network.ok() ? "OK" : std::string(network.status().message());
}

}  // namespace gantry::network
