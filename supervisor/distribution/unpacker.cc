#include "supervisor/distribution/unpacker.h"

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "base/clock.h"
#include "base/crash_point.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "snapshotter/layer_apply.h"
#include "supervisor/distribution/layer_pipe.h"
#include "supervisor/distribution/unpack_slots.h"
#include "supervisor/oci/image_config.h"
#include "supervisor/oci/manifest.h"

namespace gantry::distribution {
namespace {

using content::Descriptor;
using content::Digest;

constexpr int kMaxFeeds =
    32;  // threads that wait for bytes; beyond it layers are unpacked from the store
constexpr int64_t kProgressStep = 1 << 20;

}  // namespace

struct Unpacker::Shared {
  explicit Shared(const UnpackerOptions& o) : options(o), slots(o.parallel_layers) {}

  const UnpackerOptions options;
  ProcessorSlots slots;
  ChainClaims claims;
  std::atomic<int64_t> feed_bytes{0};
  std::atomic<int> feeds{0};
};

namespace {

// Counts what passes and tells `report` now and then.
class CountingSource : public ByteSource {
 public:
  CountingSource(ByteSource& below, std::function<void(int64_t)> report)
      : below_(below), report_(std::move(report)) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    GANTRY_ASSIGN_OR_RETURN(const size_t got, below_.Read(buffer, n));
    offset_ += static_cast<int64_t>(got);
    if (offset_ - reported_ >= kProgressStep) {
      reported_ = offset_;
      report_(offset_);
    }
    return got;
  }

 private:
  ByteSource& below_;
  const std::function<void(int64_t)> report_;
  int64_t offset_ = 0;
  int64_t reported_ = 0;
};

std::string ExtractKey(absl::string_view what) {
  static std::atomic<uint32_t> counter{0};
  absl::BitGen random;
  return absl::StrCat("extract-", absl::GetCurrentTimeNanos(), "-",
                      absl::Hex(absl::Uniform<uint32_t>(random), absl::kZeroPad8), counter++, " ",
                      what);
}

// What the unpacking of a layer ended in, for people.
absl::Status LayerError(const Descriptor& layer, const absl::Status& status) {
  return absl::Status(
      status.code(),
      absl::StrCat("layer ", layer.digest.empty() ? "of unknown digest" : layer.digest.str(),
                   ": unpack: ", status.message()));
}

}  // namespace

class Unpacker::Session : public UnpackSession {
 public:
  Session(Shared& shared, const UnpackTarget& target, CancelToken& cancel,
          UnpackProgressFn progress)
      : shared_(shared),
        target_(target),
        rebase_(target.snapshotter->CanRebase()),
        cancel_(absl::InfiniteDuration(), &cancel),
        progress_(std::move(progress)) {}

  ~Session() override {
    cancel_.Cancel("the unpack session has ended");
    for (const auto& job : TakeJobs()) {
      Join(*job);
      Discard(*job);
    }
    for (const std::string& key : claimed_) shared_.claims.Release(key);
  }

  void Expect(const std::vector<Descriptor>& layers, const std::vector<Digest>& diff_ids) override;
  std::unique_ptr<LayerFeed> OpenFeed(const Descriptor& layer, const Digest& diff_id) override;
  absl::StatusOr<UnpackResult> Finish(const Digest& config, const std::vector<Descriptor>& layers,
                                      const std::vector<Digest>& diff_ids) override;

 private:
  // One layer on its way into one active snapshot.
  struct Job {
    Descriptor layer;
    Digest diff_id;                   // expected; may be empty
    std::unique_ptr<LayerPipe> pipe;  // null: read from the store
    std::thread thread;               // of a fed job

    // Written by the thread, read after it was joined.
    absl::Status status;
    std::string key;  // of the active snapshot; "" when there is none
    std::vector<snapshot::Mount> mounts;
    snapshot::ApplyResult result;
  };

  class Feed : public LayerFeed {
   public:
    explicit Feed(std::shared_ptr<Job> job) : job_(std::move(job)) {}
    ~Feed() override { job_->pipe->Close(); }
    void Write(absl::string_view bytes) override { job_->pipe->Write(bytes); }
    void Finish(const Digest& digest) override { job_->pipe->Finish(digest); }

   private:
    const std::shared_ptr<Job> job_;
  };

  struct Expected {
    Digest layer;
    Digest diff_id;
    Digest chain_id;
  };

  std::string ClaimKey(const Digest& chain_id) const {
    return absl::StrCat(target_.scope, "\n", target_.snapshotter_name, "\n", chain_id.str());
  }
  bool Present(const Digest& chain_id) {
    absl::StatusOr<snapshot::Info> info = target_.snapshotter->Stat(chain_id.str());
    return info.ok() && info->kind == snapshot::Kind::kCommitted;
  }
  bool Claimed(const std::string& key) const { return claimed_.count(key) > 0; }

  void Report(const Job& job, UnpackProgress::State state, int64_t offset) {
    if (progress_ == nullptr) return;
    UnpackProgress p;
    p.layer = job.layer.digest;
    p.diff_id = job.diff_id;
    p.state = state;
    p.offset_bytes = offset;
    p.total_bytes = job.layer.size_bytes;
    absl::MutexLock lock(&progress_mu_);
    progress_(p);
  }

  absl::Status Apply(Job& job, ByteSource& source, const std::string& parent);
  void RunFromStore(Job& job, const std::string& parent);
  void RunFed(Job& job);
  static void Join(Job& job) {
    if (job.thread.joinable()) job.thread.join();
  }
  void Discard(Job& job) {
    if (job.key.empty()) return;
    // A record that stays behind is garbage that GC collects: nothing refers to it.
    target_.snapshotter->Remove(job.key).IgnoreError();
    job.key.clear();
  }
  std::vector<std::shared_ptr<Job>> TakeJobs() {
    absl::MutexLock lock(&mu_);
    return std::exchange(fed_, {});
  }
  std::shared_ptr<Job> TakeFed(const Digest& layer);

  absl::StatusOr<size_t> ClaimMissing(const std::vector<Digest>& chain_ids,
                                      std::vector<std::string>& claims);
  // True: `chain_id` is committed now, with files that another snapshot has. `layer`: what was
  // unpacked and found to be it; empty if nothing was.
  bool TryShare(const Digest& chain_id, const Digest& parent, const Digest& layer);
  absl::Status UnpackBeside(const std::vector<Descriptor>& layers,
                            const std::vector<Digest>& diff_ids,
                            const std::vector<Digest>& chain_ids, size_t first,
                            UnpackResult& result);
  absl::Status UnpackStacked(const std::vector<Descriptor>& layers,
                             const std::vector<Digest>& diff_ids,
                             const std::vector<Digest>& chain_ids, size_t first,
                             UnpackResult& result);
  absl::Status CheckJob(Job& job);
  absl::Status CommitLayer(Job& job, const Digest& chain_id, const Digest& parent, bool synced);
  absl::Status Complete(Job& job, const Digest& parent);
  void LabelBlobs(const Digest& config, const std::vector<Descriptor>& layers,
                  const std::vector<Digest>& diff_ids, const Digest& chain_id);

  Shared& shared_;
  const UnpackTarget target_;
  const bool rebase_;
  CancelToken cancel_;
  const UnpackProgressFn progress_;
  absl::Mutex progress_mu_;

  absl::Mutex finish_mu_;          // one Finish at a time; also for claimed_
  std::set<std::string> claimed_;  // keys in shared_.claims that are ours

  absl::Mutex mu_;
  std::vector<Expected> expected_ ABSL_GUARDED_BY(mu_);
  std::vector<std::shared_ptr<Job>> fed_ ABSL_GUARDED_BY(mu_);
};

absl::Status Unpacker::Session::Apply(Job& job, ByteSource& source, const std::string& parent) {
  GANTRY_RETURN_IF_ERROR(cancel_.Check());
  const std::string key = ExtractKey(job.layer.digest.empty() ? "layer" : job.layer.digest.str());
  GANTRY_ASSIGN_OR_RETURN(job.mounts, target_.snapshotter->Prepare(key, parent, {}));
  job.key = key;
  CountingSource counting(
      source, [&](int64_t offset) { Report(job, UnpackProgress::State::kUnpacking, offset); });
  snapshot::ApplyOptions options;
  options.limits.uncompressed_bytes = shared_.options.max_layer_bytes;
  options.limits.entries = shared_.options.max_layer_entries;
  options.cancel = &cancel_;
  GANTRY_ASSIGN_OR_RETURN(job.result, snapshot::ApplyLayer(counting, job.mounts, options));
  return absl::OkStatus();
}

void Unpacker::Session::RunFromStore(Job& job, const std::string& parent) {
  Report(job, UnpackProgress::State::kUnpacking, 0);
  absl::StatusOr<std::unique_ptr<content::BlobReader>> reader =
      target_.store->Open(job.layer.digest);
  if (!reader.ok()) {
    job.status = reader.status();
    return;
  }
  BlobSource source(*std::move(reader), 0);
  SlotHold slot(shared_.slots, cancel_);
  job.status = slot.Acquire();
  if (job.status.ok()) job.status = Apply(job, source, parent);
  if (job.status.ok()) Report(job, UnpackProgress::State::kDone, job.layer.size_bytes);
}

void Unpacker::Session::RunFed(Job& job) {
  {
    SlotHold slot(shared_.slots, cancel_);
    LayerPipeSource source(*job.pipe, *target_.store, slot);
    job.status = slot.Acquire();
    if (job.status.ok()) job.status = Apply(job, source, "");
  }
  // The files stay for Finish(); what failed is of no use to anybody.
  if (!job.status.ok()) Discard(job);
  --shared_.feeds;
}

void Unpacker::Session::Expect(const std::vector<Descriptor>& layers,
                               const std::vector<Digest>& diff_ids) {
  if (layers.size() != diff_ids.size()) return;
  const std::vector<Digest> chain_ids = oci::ChainIds(diff_ids);
  {
    absl::MutexLock lock(&mu_);
    expected_.clear();
    for (size_t i = 0; i < layers.size(); ++i)
      expected_.push_back({layers[i].digest, diff_ids[i], chain_ids[i]});
  }
  // Base first and without gaps, so that a thread that holds a chain ID holds or has seen all those
  // below it: threads cannot wait for each other in a circle.
  absl::MutexLock lock(&finish_mu_);
  for (const Digest& chain_id : chain_ids) {
    if (Present(chain_id)) continue;
    const std::string key = ClaimKey(chain_id);
    if (Claimed(key)) continue;
    if (!shared_.claims.Try(key)) break;
    claimed_.insert(key);
  }
}

std::unique_ptr<LayerFeed> Unpacker::Session::OpenFeed(const Descriptor& layer,
                                                       const Digest& diff_id) {
  if (!rebase_ || !cancel_.Check().ok()) return nullptr;
  if (!layer.media_type.empty() && !oci::IsLayerType(layer.media_type)) return nullptr;

  std::vector<Digest> chains;  // that the layer would serve
  {
    absl::MutexLock lock(&mu_);
    for (const auto& job : fed_) {
      if (!layer.digest.empty() && job->layer.digest == layer.digest && !job->pipe->closed()) {
        return nullptr;
      }
    }
    for (const Expected& e : expected_) {
      if (!layer.digest.empty() && e.layer == layer.digest &&
          (diff_id.empty() || e.diff_id == diff_id))
        chains.push_back(e.chain_id);
    }
  }
  if (!chains.empty()) {
    absl::MutexLock lock(&finish_mu_);
    const bool wanted = std::any_of(chains.begin(), chains.end(), [&](const Digest& chain_id) {
      const std::string key = ClaimKey(chain_id);
      return !Present(chain_id) && (Claimed(key) || !shared_.claims.Held(key));
    });
    if (!wanted) return nullptr;
  }
  if (++shared_.feeds > kMaxFeeds) {
    --shared_.feeds;
    return nullptr;
  }
  auto job = std::make_shared<Job>();
  job->layer = layer;
  job->diff_id = diff_id;
  job->pipe = std::make_unique<LayerPipe>(shared_.options.feed_buffer_bytes,
                                          shared_.options.total_feed_buffer_bytes,
                                          shared_.feed_bytes, cancel_);
  absl::StatusOr<std::thread> thread = NewThread([this, job = job.get()] { RunFed(*job); });
  if (!thread.ok()) {
    --shared_.feeds;
    return nullptr;  // it is unpacked from the store, later
  }
  job->thread = *std::move(thread);
  {
    absl::MutexLock lock(&mu_);
    fed_.push_back(job);
  }
  return std::make_unique<Feed>(std::move(job));
}

std::shared_ptr<Unpacker::Session::Job> Unpacker::Session::TakeFed(const Digest& layer) {
  absl::MutexLock lock(&mu_);
  for (auto it = fed_.begin(); it != fed_.end(); ++it) {
    if ((*it)->pipe->digest() != layer) continue;
    std::shared_ptr<Job> job = *it;
    fed_.erase(it);
    return job;
  }
  return nullptr;
}

bool Unpacker::Session::TryShare(const Digest& chain_id, const Digest& parent,
                                 const Digest& layer) {
  // Whatever the reason when it cannot be shared: the layer is unpacked then.
  const absl::Status shared = target_.snapshotter->Share(
      chain_id.str(), {.source = {}, .parent = parent.str(), .labels = {}, .layer = layer.str()});
  if (shared.ok()) CrashPoint("layer.shared");
  return shared.ok();
}

// The index of the first layer to unpack; everything from there on is claimed.
absl::StatusOr<size_t> Unpacker::Session::ClaimMissing(const std::vector<Digest>& chain_ids,
                                                       std::vector<std::string>& claims) {
  size_t first = 0;
  for (size_t i = 0; i < chain_ids.size(); ++i) {
    const std::string key = ClaimKey(chain_ids[i]);
    while (true) {
      const Digest parent = i == 0 ? Digest() : chain_ids[i - 1];
      if (Present(chain_ids[i]) || (first == i && TryShare(chain_ids[i], parent, Digest()))) {
        first = i + 1;
        break;
      }
      if (Claimed(key)) break;
      if (shared_.claims.Try(key)) {
        claimed_.insert(key);
        break;
      }
      GANTRY_RETURN_IF_ERROR(shared_.claims.Wait(key, cancel_));
    }
    if (Claimed(key)) claims.push_back(key);
  }
  return first;
}

absl::Status Unpacker::Session::CheckJob(Job& job) {
  if (!job.status.ok()) return LayerError(job.layer, job.status);
  if (job.result.diff_id != job.diff_id.str()) {
    return absl::DataLossError(absl::StrCat("layer ", job.layer.digest.str(), ": its content is ",
                                            job.result.diff_id, ", but the image says ",
                                            job.diff_id.str()));
  }
  return absl::OkStatus();
}

absl::Status Unpacker::Session::Complete(Job& job, const Digest& parent) {
  if (job.result.deferred.empty()) return absl::OkStatus();
  if (parent.empty()) {
    // A base layer has nothing below it that it could have meant: what it links to must be in it.
    absl::Status status = snapshot::CompleteLayer(job.result.deferred, job.mounts, {});
    return status.ok() ? status : LayerError(job.layer, status);
  }
  const std::string view = ExtractKey(absl::StrCat("view ", parent.str()));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<snapshot::Mount> parent_mounts,
                          target_.snapshotter->View(view, parent.str(), {}));
  absl::Status status = snapshot::CompleteLayer(job.result.deferred, job.mounts, parent_mounts);
  if (status.ok()) status = snapshot::SyncLayer(job.mounts);
  target_.snapshotter->Remove(view).IgnoreError();  // nothing refers to it: else garbage for GC
  return status.ok() ? status : LayerError(job.layer, status);
}

absl::Status Unpacker::Session::CommitLayer(Job& job, const Digest& chain_id, const Digest& parent,
                                            bool synced) {
  snapshot::CommitOptions options;
  if (rebase_) options.parent = parent.str();
  options.sync = !synced;
  // What a layer takes from the layers below it (a whole tree, or a file that it links to) is as
  // good as they are: one that a client of the containerd API committed was not compared with its
  // name.
  const bool alone = rebase_ && job.result.deferred.empty();
  const absl::StatusOr<snapshot::Info> below =
      alone || parent.empty() ? snapshot::Info() : target_.snapshotter->Stat(parent.str());
  if (alone || parent.empty() || (below.ok() && !below->layer.empty()))
    options.layer = job.layer.digest.str();
  const absl::Status committed = target_.snapshotter->Commit(chain_id.str(), job.key, options);
  if (absl::IsAlreadyExists(committed)) {
    // A client of the containerd API that unpacks by itself was faster.
    Discard(job);
    return absl::OkStatus();
  }
  if (!committed.ok()) return LayerError(job.layer, committed);
  CrashPoint("layer.committed");
  job.key.clear();
  return absl::OkStatus();
}

absl::Status Unpacker::Session::UnpackBeside(const std::vector<Descriptor>& layers,
                                             const std::vector<Digest>& diff_ids,
                                             const std::vector<Digest>& chain_ids, size_t first,
                                             UnpackResult& result) {
  std::vector<std::shared_ptr<Job>> jobs;
  absl::Cleanup drop = [&] {
    for (const auto& job : jobs) {
      Join(*job);
      Discard(*job);
    }
  };
  std::vector<Job*> from_store;
  for (size_t i = first; i < layers.size(); ++i) {
    std::shared_ptr<Job> job = TakeFed(layers[i].digest);
    if (job == nullptr) {
      job = std::make_shared<Job>();
      job->layer = layers[i];
      job->diff_id = diff_ids[i];
      from_store.push_back(job.get());
    }
    jobs.push_back(std::move(job));
  }
  std::atomic<size_t> next{0};
  std::vector<std::thread> workers;
  const size_t parallel = std::min(
      from_store.size(), static_cast<size_t>(std::max(1, shared_.options.parallel_layers)));
  const auto work = [&] {
    for (size_t i = next++; i < from_store.size(); i = next++) RunFromStore(*from_store[i], "");
  };
  for (size_t i = 0; i < parallel; ++i) {
    absl::StatusOr<std::thread> worker = NewThread(work);
    if (!worker.ok()) break;
    workers.push_back(*std::move(worker));
  }
  if (workers.empty()) work();
  for (size_t i = 0; i < jobs.size(); ++i) {
    Job& job = *jobs[i];
    if (job.pipe == nullptr) continue;
    Join(job);
    job.layer = layers[first + i];
    job.diff_id = diff_ids[first + i];
    if (job.status.ok()) Report(job, UnpackProgress::State::kDone, job.layer.size_bytes);
  }
  for (std::thread& worker : workers) worker.join();

  // One sync for all files, then the records.
  if (!jobs.empty() && jobs[0]->status.ok()) {
    const absl::Duration begun = Clock::Real().Monotonic();
    const absl::Status synced = snapshot::SyncLayer(jobs[0]->mounts);
    result.syncing = Clock::Real().Monotonic() - begun;
    if (!synced.ok())
      return absl::Status(synced.code(),
                          absl::StrCat("sync of unpacked layers: ", synced.message()));
  }
  for (size_t i = 0; i < jobs.size(); ++i) {
    const size_t at = first + i;
    const Digest parent = at == 0 ? Digest() : chain_ids[at - 1];
    GANTRY_RETURN_IF_ERROR(CheckJob(*jobs[i]));
    result.cost += jobs[i]->result.cost;
    if (TryShare(chain_ids[at], parent, jobs[i]->layer.digest)) {
      Discard(*jobs[i]);
      continue;
    }
    GANTRY_RETURN_IF_ERROR(Complete(*jobs[i], parent));
    GANTRY_RETURN_IF_ERROR(CommitLayer(*jobs[i], chain_ids[at], parent, /*synced=*/true));
  }
  return absl::OkStatus();
}

absl::Status Unpacker::Session::UnpackStacked(const std::vector<Descriptor>& layers,
                                              const std::vector<Digest>& diff_ids,
                                              const std::vector<Digest>& chain_ids, size_t first,
                                              UnpackResult& result) {
  for (size_t i = first; i < layers.size(); ++i) {
    Job job;
    job.layer = layers[i];
    job.diff_id = diff_ids[i];
    const Digest parent = i == 0 ? Digest() : chain_ids[i - 1];
    RunFromStore(job, parent.str());
    absl::Status status = CheckJob(job);
    if (status.ok() && TryShare(chain_ids[i], parent, job.layer.digest)) {
      Discard(job);
      result.cost += job.result.cost;
      continue;
    }
    if (status.ok()) status = CommitLayer(job, chain_ids[i], parent, /*synced=*/false);
    if (!status.ok()) {
      Discard(job);
      return status;
    }
    result.cost += job.result.cost;
  }
  return absl::OkStatus();
}

void Unpacker::Session::LabelBlobs(const Digest& config, const std::vector<Descriptor>& layers,
                                   const std::vector<Digest>& diff_ids, const Digest& chain_id) {
  // Stores without labels, and blobs that were discarded after an earlier unpack, have nothing to
  // label. A label that is missing costs another unpack one day, no more: the image's record holds
  // its blobs and snapshots by itself.
  for (size_t i = 0; i < layers.size(); ++i) {
    target_.store
        ->Update(layers[i].digest, {{"containerd.io/uncompressed", diff_ids[i].str()}},
                 {"labels.containerd.io/uncompressed"})
        .status()
        .IgnoreError();
  }
  if (config.empty() || chain_id.empty()) return;
  const std::string label =
      absl::StrCat("containerd.io/gc.ref.snapshot.", target_.snapshotter_name);
  target_.store->Update(config, {{label, chain_id.str()}}, {absl::StrCat("labels.", label)})
      .status()
      .IgnoreError();
}

absl::StatusOr<UnpackResult> Unpacker::Session::Finish(const Digest& config,
                                                       const std::vector<Descriptor>& layers,
                                                       const std::vector<Digest>& diff_ids) {
  if (layers.size() != diff_ids.size()) {
    return absl::InvalidArgumentError(absl::StrCat("image: its manifest has ", layers.size(),
                                                   " layers, its config ", diff_ids.size(),
                                                   " diff ids"));
  }
  UnpackResult result;
  if (layers.empty()) return result;
  const std::vector<Digest> chain_ids = oci::ChainIds(diff_ids);
  result.chain_id = chain_ids.back();

  absl::MutexLock lock(&finish_mu_);
  GANTRY_RETURN_IF_ERROR(cancel_.Check());
  std::vector<std::string> claims;
  absl::Cleanup release = [&] {
    for (const std::string& key : claims) {
      claimed_.erase(key);
      shared_.claims.Release(key);
    }
  };
  GANTRY_ASSIGN_OR_RETURN(const size_t first, ClaimMissing(chain_ids, claims));
  for (size_t i = 0; i < first; ++i) {
    Job present;
    present.layer = layers[i];
    present.diff_id = diff_ids[i];
    Report(present, UnpackProgress::State::kExists, layers[i].size_bytes);
  }
  GANTRY_RETURN_IF_ERROR(rebase_ ? UnpackBeside(layers, diff_ids, chain_ids, first, result)
                                 : UnpackStacked(layers, diff_ids, chain_ids, first, result));
  result.layers_present = static_cast<int>(first);
  result.layers_unpacked = static_cast<int>(layers.size() - first);
  LabelBlobs(config, layers, diff_ids, result.chain_id);
  return result;
}

Unpacker::Unpacker(const UnpackerOptions& options) : shared_(std::make_unique<Shared>(options)) {}
Unpacker::~Unpacker() = default;

std::unique_ptr<UnpackSession> Unpacker::Start(const UnpackTarget& target, CancelToken& cancel,
                                               UnpackProgressFn progress) {
  return std::make_unique<Session>(*shared_, target, cancel, std::move(progress));
}

absl::StatusOr<UnpackResult> Unpacker::UnpackImage(const UnpackTarget& target,
                                                   const Descriptor& manifest, CancelToken& cancel,
                                                   UnpackProgressFn progress) {
  const std::string what = absl::StrCat("manifest ", manifest.digest.str());
  GANTRY_ASSIGN_OR_RETURN(
      const std::string manifest_text,
      content::ReadBlob(*target.store, manifest.digest, oci::kMaxManifestBytes));
  GANTRY_ASSIGN_OR_RETURN(const oci::Manifest document,
                          oci::ParseManifest(manifest_text, manifest.media_type, what));
  GANTRY_ASSIGN_OR_RETURN(
      const std::string config_text,
      content::ReadBlob(*target.store, document.config.digest, oci::kMaxManifestBytes));
  GANTRY_ASSIGN_OR_RETURN(
      const oci::ImageConfig config,
      oci::ParseImageConfig(config_text, absl::StrCat("config ", document.config.digest.str())));
  return Start(target, cancel, std::move(progress))
      ->Finish(document.config.digest, document.layers, config.diff_ids);
}

}  // namespace gantry::distribution
