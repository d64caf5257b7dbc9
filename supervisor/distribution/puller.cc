#include "supervisor/distribution/puller.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"

#include "base/cancel_token.h"
#include "base/clock.h"
#include "base/processor_time.h"
#include "base/status_macros.h"
#include "supervisor/distribution/credentials.h"
#include "supervisor/distribution/download_flights.h"
#include "supervisor/distribution/transfer_scope.h"
#include "supervisor/oci/image_config.h"
#include "supervisor/oci/manifest.h"
#include "supervisor/oci/platform.h"

namespace gantry::distribution {
namespace {

constexpr int kMaxIndexDepth = 4;
constexpr absl::Duration kProgressInterval = absl::Milliseconds(100);
// How long we wait for another writer of the same ingest.
constexpr absl::Duration kForeignWriterPatience = absl::Minutes(5);

// containerd's names, so that a download begun by one of its clients is continued here and the
// other way round.
std::string IngestRef(const content::Descriptor& descriptor) {
  switch (KindOf(descriptor.media_type)) {
    case Progress::Kind::kIndex:
      return absl::StrCat("index-", descriptor.digest.str());
    case Progress::Kind::kManifest:
      return absl::StrCat("manifest-", descriptor.digest.str());
    case Progress::Kind::kConfig:
      return absl::StrCat("config-", descriptor.digest.str());
    case Progress::Kind::kLayer:
      return absl::StrCat("layer-", descriptor.digest.str());
    default:
      return absl::StrCat("unknown-", descriptor.digest.str());
  }
}

// The registry's fault, whatever a parser of documents calls it.
absl::Status FromRegistry(const absl::Status& status) {
  if (!absl::IsInvalidArgument(status)) return status;
  return absl::DataLossError(status.message());
}

}  // namespace

// One pull: the tree of one reference into one store.
class Puller::Walk {
 public:
  Walk(Puller& puller, const Reference& ref, content::Store& store, const PullOptions& options,
       const CallContext& context)
      : puller_(puller),
        store_(store),
        options_(options),
        scope_(ref, *puller.client_, context, options.progress),
        ref_(scope_.ref()),
        stop_(scope_.stop()),
        context_(scope_.context()) {}

  absl::StatusOr<PulledImage> Run(const Resolved& resolved);
  absl::Status One(const content::Descriptor& descriptor);

 private:
  struct Job {
    content::Descriptor descriptor;
    content::Digest diff_id;      // empty: unknown
    std::optional<size_t> layer;  // of the image that is being unpacked
  };

  void Tell(const content::Descriptor& descriptor, Progress::State state, int64_t offset,
            absl::string_view detail = "") const {
    scope_.Tell(descriptor, state, offset, detail);
  }

  void Have(const content::Descriptor& descriptor, bool present) {
    absl::MutexLock lock(&mutex_);
    if (!seen_.insert(descriptor.digest).second) return;
    result_.blobs.push_back(descriptor.digest);
    if (present) result_.present_bytes += descriptor.size_bytes;
  }

  // What every blob of this pull is labelled with, besides references to its children.
  content::Labels BaseLabels() const {
    content::Labels labels = options_.labels;
    labels[absl::StrCat("containerd.io/distribution.source.", ref_.domain())] = ref_.path();
    return labels;
  }

  absl::Status CheckSize(const content::Info& info, const content::Descriptor& descriptor) const {
    if (info.size_bytes == descriptor.size_bytes) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat("image ", ref_.familiar(), ": it says blob ",
                                            descriptor.digest.str(), " has ", descriptor.size_bytes,
                                            " bytes, the blob has ", info.size_bytes));
  }

  // Adds labels to a blob that is there; a list of repositories grows by ours.
  void Relabel(const content::Info& info, content::Labels labels) {
    std::vector<std::string> fields;
    for (auto it = labels.begin(); it != labels.end();) {
      auto old = info.labels.find(it->first);
      if (old != info.labels.end() &&
          absl::StartsWith(it->first, "containerd.io/distribution.source.")) {
        std::vector<std::string> repositories = absl::StrSplit(old->second, ',');
        if (std::find(repositories.begin(), repositories.end(), it->second) != repositories.end()) {
          it = labels.erase(it);
          continue;
        }
        it->second = absl::StrCat(old->second, ",", it->second);
      } else if (old != info.labels.end() && old->second == it->second) {
        it = labels.erase(it);
        continue;
      }
      fields.push_back(absl::StrCat("labels.", it->first));
      ++it;
    }
    // A store without labels has nothing to add; a blob that just vanished is found missing by the
    // next step.
    if (!fields.empty()) store_.Update(info.digest, labels, fields).IgnoreError();
  }

  absl::StatusOr<oci::Document> Document(const content::Descriptor& descriptor,
                                         const std::string& known_bytes);
  absl::Status Write(const content::Descriptor& descriptor, const std::string& bytes,
                     const content::Labels& labels);
  absl::Status Choose(const content::Descriptor& descriptor, const oci::Document& document,
                      const oci::PlatformMatcher& matcher, int depth,
                      std::vector<std::pair<content::Descriptor, oci::Manifest>>& chosen);
  absl::Status Collect(const content::Descriptor& descriptor, const oci::Document& document,
                       int depth,
                       std::vector<std::pair<content::Descriptor, oci::Manifest>>& chosen);
  absl::Status Attestations(const oci::Index& index,
                            std::vector<std::pair<content::Descriptor, oci::Manifest>>& chosen);
  absl::Status CheckPlatform(const oci::ImageConfig& config,
                             const oci::PlatformMatcher& matcher) const;
  absl::Status Blob(const Job& job);
  absl::Status Download(const Job& job);
  absl::Status RunJobs(std::vector<Job> jobs);

  Puller& puller_;
  content::Store& store_;
  const PullOptions& options_;
  TransferScope scope_;
  const Reference& ref_;
  CancelToken& stop_;
  const CallContext& context_;
  ImagePlan plan_;
  std::atomic<int64_t> received_{0};

  absl::Mutex mutex_;
  PulledImage result_ ABSL_GUARDED_BY(mutex_);
  std::set<content::Digest> seen_ ABSL_GUARDED_BY(mutex_);
};

absl::Status Puller::Walk::Write(const content::Descriptor& descriptor, const std::string& bytes,
                                 const content::Labels& labels) {
  content::IngestOptions open;
  open.ref = IngestRef(descriptor);
  open.total_bytes = descriptor.size_bytes;
  open.expected = descriptor.digest;
  absl::StatusOr<std::unique_ptr<content::Ingest>> ingest = store_.OpenIngest(open);
  if (absl::IsAlreadyExists(ingest.status())) {
    absl::StatusOr<content::Info> info = store_.Stat(descriptor.digest);
    if (info.ok()) Relabel(*info, labels);
    return absl::OkStatus();
  }
  GANTRY_RETURN_IF_ERROR(ingest.status());
  if ((*ingest)->offset() > 0) GANTRY_RETURN_IF_ERROR((*ingest)->Truncate(0));
  GANTRY_RETURN_IF_ERROR((*ingest)->Append(bytes));
  content::CommitOptions commit;
  commit.expected = descriptor.digest;
  commit.size_bytes = descriptor.size_bytes;
  commit.labels = labels;
  commit.sync = options_.sync_blobs;
  absl::Status status = (*ingest)->Commit(commit).status();
  return absl::IsAlreadyExists(status) ? absl::OkStatus() : status;
}

// A manifest or index, from the store or the registry; afterwards it is in the store with labels
// for its children.
absl::StatusOr<oci::Document> Puller::Walk::Document(const content::Descriptor& descriptor,
                                                     const std::string& known_bytes) {
  std::string what =
      absl::StrCat("image ", ref_.familiar(), ": manifest ", descriptor.digest.str());
  if (oci::IsSchema1Type(descriptor.media_type)) {
    return oci::ParseDocument("{}", descriptor.media_type, what).status();
  }
  while (true) {
    GANTRY_RETURN_IF_ERROR(stop_.Check());
    absl::StatusOr<content::Info> info = store_.Stat(descriptor.digest);
    if (info.ok()) {
      GANTRY_RETURN_IF_ERROR(CheckSize(*info, descriptor));
      absl::StatusOr<std::string> bytes =
          content::ReadBlob(store_, descriptor.digest, oci::kMaxManifestBytes);
      if (bytes.ok()) {
        absl::StatusOr<oci::Document> document =
            oci::ParseDocument(*bytes, descriptor.media_type, what);
        if (!document.ok()) return FromRegistry(document.status());
        content::Labels labels = BaseLabels();
        std::map<std::string, std::string> children = oci::ChildLabels(*document);
        labels.insert(children.begin(), children.end());
        Relabel(*info, std::move(labels));
        Have(descriptor, true);
        Tell(descriptor, Progress::State::kExists, descriptor.size_bytes);
        return document;
      }
      if (!absl::IsNotFound(bytes.status())) return bytes.status();
    }
    std::shared_ptr<DownloadFlights::Flight> other =
        puller_.flights_->Join(descriptor.digest, ref_.domain());
    if (other != nullptr) {
      absl::Status outcome;
      GANTRY_RETURN_IF_ERROR(DownloadFlights::Wait(*other, stop_, outcome));
      if (DownloadFlights::Concerns(*other, outcome, ref_.domain())) return outcome;
      continue;
    }
    DownloadFlights::Landing landing(*puller_.flights_, descriptor.digest);
    Tell(descriptor, Progress::State::kMoving, 0);
    std::string bytes = known_bytes;
    if (bytes.empty()) {
      absl::StatusOr<std::string> fetched =
          puller_.fetcher_.FetchManifest(ref_, descriptor, context_);
      if (!fetched.ok()) {
        landing.status = fetched.status();
        return landing.status;
      }
      bytes = *std::move(fetched);
    }
    received_ += bytes.size();
    absl::StatusOr<oci::Document> document = oci::ParseDocument(bytes, descriptor.media_type, what);
    if (!document.ok()) {
      landing.status = FromRegistry(document.status());
      return landing.status;
    }
    content::Labels labels = BaseLabels();
    std::map<std::string, std::string> children = oci::ChildLabels(*document);
    labels.insert(children.begin(), children.end());
    landing.status = Write(descriptor, bytes, labels);
    GANTRY_RETURN_IF_ERROR(landing.status);
    Have(descriptor, false);
    Tell(descriptor, Progress::State::kDone, descriptor.size_bytes);
    return document;
  }
}

// The best image for each wanted platform, through nested indexes.
absl::Status Puller::Walk::Choose(
    const content::Descriptor& descriptor, const oci::Document& document,
    const oci::PlatformMatcher& matcher, int depth,
    std::vector<std::pair<content::Descriptor, oci::Manifest>>& chosen) {
  if (document.manifest) {
    for (const auto& [known, manifest] : chosen) {
      if (known.digest == descriptor.digest) return absl::OkStatus();
    }
    chosen.emplace_back(descriptor, *document.manifest);
    return absl::OkStatus();
  }
  if (depth >= kMaxIndexDepth) {
    return absl::ResourceExhaustedError(
        absl::StrCat("image ", ref_.familiar(), ": indexes nested deeper than ", kMaxIndexDepth));
  }
  const oci::Index& index = *document.index;
  std::vector<content::Descriptor> fitting = oci::SelectManifests(index.manifests, matcher);
  if (fitting.empty()) {
    std::set<std::string> offered;
    for (const content::Descriptor& entry : index.manifests) {
      if (entry.platform && !oci::IsAttestation(entry))
        offered.insert(oci::FormatPlatform(*entry.platform));
    }
    return absl::NotFoundError(
        absl::StrCat("image ", ref_.familiar(), ": nothing for ", matcher.Describe(), "; there is ",
                     offered.empty() ? "no image in it" : absl::StrJoin(offered, ", ")));
  }
  GANTRY_ASSIGN_OR_RETURN(oci::Document child, Document(fitting.front(), ""));
  return Choose(fitting.front(), child, matcher, depth + 1, chosen);
}

// Every image of an index.
absl::Status Puller::Walk::Collect(
    const content::Descriptor& descriptor, const oci::Document& document, int depth,
    std::vector<std::pair<content::Descriptor, oci::Manifest>>& chosen) {
  if (document.manifest)
    return Choose(descriptor, document, oci::PlatformMatcher::All(), depth, chosen);
  if (depth >= kMaxIndexDepth) {
    return absl::ResourceExhaustedError(
        absl::StrCat("image ", ref_.familiar(), ": indexes nested deeper than ", kMaxIndexDepth));
  }
  for (const content::Descriptor& entry : document.index->manifests) {
    if (oci::IsAttestation(entry)) continue;
    {
      // An index that names the same child many times is read once.
      absl::MutexLock lock(&mutex_);
      if (seen_.count(entry.digest) > 0) continue;
      if (seen_.size() > oci::kMaxIndexEntries) {
        return absl::ResourceExhaustedError(absl::StrCat("image ", ref_.familiar(), ": more than ",
                                                         oci::kMaxIndexEntries, " manifests"));
      }
    }
    GANTRY_ASSIGN_OR_RETURN(oci::Document child, Document(entry, ""));
    GANTRY_RETURN_IF_ERROR(Collect(entry, child, depth + 1, chosen));
  }
  return absl::OkStatus();
}

absl::Status Puller::Walk::Attestations(
    const oci::Index& index, std::vector<std::pair<content::Descriptor, oci::Manifest>>& chosen) {
  std::set<std::string> images;
  for (const auto& [descriptor, manifest] : chosen) images.insert(descriptor.digest.str());
  for (const content::Descriptor& entry : index.manifests) {
    if (!oci::IsAttestation(entry)) continue;
    auto subject = entry.annotations.find("vnd.docker.reference.digest");
    bool wanted = options_.include_attestations &&
                  (options_.all_platforms ||
                   (subject != entry.annotations.end() && images.count(subject->second) > 0));
    if (!wanted) {
      Tell(entry, Progress::State::kSkipped, 0, "attestation");
      continue;
    }
    GANTRY_ASSIGN_OR_RETURN(oci::Document document, Document(entry, ""));
    if (document.manifest) chosen.emplace_back(entry, *document.manifest);
  }
  return absl::OkStatus();
}

// An image without index says its platform in its configuration only.
absl::Status Puller::Walk::CheckPlatform(const oci::ImageConfig& config,
                                         const oci::PlatformMatcher& matcher) const {
  if (config.platform.architecture.empty() ||
      matcher.Matches(oci::NormalizePlatform(config.platform)))
    return absl::OkStatus();
  std::string text =
      absl::StrCat("image ", ref_.familiar(), ": it is for ", oci::FormatPlatform(config.platform),
                   ", not for ", matcher.Describe());
  if (!options_.platforms.empty()) return absl::NotFoundError(text);
  if (context_.on_warning) context_.on_warning(text);
  return absl::OkStatus();
}

absl::StatusOr<PulledImage> Puller::Walk::Run(const Resolved& resolved) {
  const absl::Duration begun = Clock::Real().Monotonic();
  const content::Descriptor& target = resolved.descriptor;
  GANTRY_ASSIGN_OR_RETURN(oci::Document root, Document(target, resolved.manifest));

  std::vector<std::pair<content::Descriptor, oci::Manifest>> chosen;
  oci::PlatformMatcher first_matcher = oci::PlatformMatcher::Host();
  if (options_.all_platforms) {
    GANTRY_RETURN_IF_ERROR(Collect(target, root, 0, chosen));
    first_matcher = oci::PlatformMatcher::All();
  } else if (options_.platforms.empty()) {
    GANTRY_RETURN_IF_ERROR(Choose(target, root, first_matcher, 0, chosen));
  } else {
    first_matcher = oci::PlatformMatcher::Only(options_.platforms.front());
    for (const content::Platform& platform : options_.platforms) {
      GANTRY_RETURN_IF_ERROR(Choose(target, root, oci::PlatformMatcher::Only(platform), 0, chosen));
    }
  }
  if (chosen.empty())
    return absl::NotFoundError(absl::StrCat("image ", ref_.familiar(), ": the index is empty"));
  size_t images = chosen.size();
  // With all platforms, what is unpacked is still this machine's.
  size_t to_unpack = 0;
  if (options_.all_platforms && root.index) {
    std::vector<content::Descriptor> fitting = oci::SelectManifests(
        root.index->manifests, options_.platforms.empty()
                                   ? oci::PlatformMatcher::Host()
                                   : oci::PlatformMatcher::AnyOf(options_.platforms));
    for (size_t i = 0; i < images && !fitting.empty(); ++i) {
      if (chosen[i].first.digest == fitting.front().digest) to_unpack = i;
    }
  }
  if (to_unpack != 0)
    std::rotate(chosen.begin(), chosen.begin() + to_unpack, chosen.begin() + to_unpack + 1);
  if (root.index) GANTRY_RETURN_IF_ERROR(Attestations(*root.index, chosen));

  // The first image's configuration decides how its layers are unpacked, so it comes before all of
  // them.
  std::vector<Job> jobs;
  for (size_t i = 0; i < chosen.size(); ++i) {
    const auto& [descriptor, manifest] = chosen[i];
    if (i == 0 && !manifest.config.digest.empty()) {
      GANTRY_RETURN_IF_ERROR(Blob({manifest.config, {}, std::nullopt}));
      plan_.manifest = descriptor;
      plan_.config = manifest.config;
      plan_.layers = manifest.layers;
      if (oci::IsConfigType(manifest.config.media_type)) {
        GANTRY_ASSIGN_OR_RETURN(std::string bytes, content::ReadBlob(store_, manifest.config.digest,
                                                                     oci::kMaxManifestBytes));
        absl::StatusOr<oci::ImageConfig> config = oci::ParseImageConfig(
            bytes,
            absl::StrCat("image ", ref_.familiar(), ": config ", manifest.config.digest.str()));
        if (!config.ok()) return FromRegistry(config.status());
        if (root.manifest) GANTRY_RETURN_IF_ERROR(CheckPlatform(*config, first_matcher));
        plan_.diff_ids = config->diff_ids;
        if (options_.on_image) GANTRY_RETURN_IF_ERROR(options_.on_image(plan_));
      }
    }
    for (size_t n = 0; n < manifest.layers.size(); ++n) {
      Job job{manifest.layers[n], {}, std::nullopt};
      if (i == 0) {
        job.layer = n;
        if (plan_.diff_ids.size() == manifest.layers.size()) job.diff_id = plan_.diff_ids[n];
      }
      jobs.push_back(std::move(job));
    }
    if (i > 0 && !manifest.config.digest.empty())
      jobs.push_back({manifest.config, {}, std::nullopt});
  }
  const absl::Duration planned = Clock::Real().Monotonic();
  GANTRY_RETURN_IF_ERROR(RunJobs(std::move(jobs)));

  absl::MutexLock lock(&mutex_);
  result_.resolving = planned - begun;
  result_.fetching = Clock::Real().Monotonic() - planned;
  result_.reference = ref_;
  result_.target = target;
  for (size_t i = 0; i < images; ++i) result_.manifests.push_back(chosen[i].first);
  result_.config = chosen[0].second.config;
  result_.fetched_bytes = received_;
  return result_;
}

absl::Status Puller::Walk::RunJobs(std::vector<Job> jobs) {
  // The same layer may appear twice in one image, and in several images.
  std::vector<Job> unique;
  std::set<content::Digest> named;
  for (Job& job : jobs) {
    if (!named.insert(job.descriptor.digest).second) continue;
    Tell(job.descriptor, Progress::State::kWaiting, 0);
    unique.push_back(std::move(job));
  }
  // What the others have when one fails is kept for the next try.
  return scope_.ForEach(unique.size(), options_.max_parallel_blobs, [&](size_t i) {
    absl::Duration spent;
    absl::Status status;
    {
      const ProcessorTimer timer(spent);
      status = Blob(unique[i]);
    }
    absl::MutexLock lock(&mutex_);
    result_.fetch_cost += spent;
    return status;
  });
}

// Sees to it that one blob is in the store.
absl::Status Puller::Walk::Blob(const Job& job) {
  const content::Descriptor& descriptor = job.descriptor;
  if (KindOf(descriptor.media_type) == Progress::Kind::kConfig &&
      descriptor.size_bytes > oci::kMaxManifestBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("image ", ref_.familiar(), ": its configuration has ", descriptor.size_bytes,
                     " bytes, at most ", oci::kMaxManifestBytes, " are accepted"));
  }
  while (true) {
    GANTRY_RETURN_IF_ERROR(stop_.Check());
    absl::StatusOr<content::Info> info = store_.Stat(descriptor.digest);
    if (info.ok()) {
      GANTRY_RETURN_IF_ERROR(CheckSize(*info, descriptor));
      Relabel(*info, BaseLabels());
      Have(descriptor, true);
      Tell(descriptor, Progress::State::kExists, descriptor.size_bytes);
      return absl::OkStatus();
    }
    if (!absl::IsNotFound(info.status())) return info.status();
    if (oci::IsForeignLayerType(descriptor.media_type) && !options_.fetch_foreign_layers) {
      Tell(descriptor, Progress::State::kSkipped, 0, "foreign layer");
      return absl::OkStatus();
    }
    if (!options_.fetch_unpacked_layers && job.layer && options_.is_unpacked &&
        options_.is_unpacked(plan_, *job.layer)) {
      Tell(descriptor, Progress::State::kSkipped, 0, "already unpacked");
      return absl::OkStatus();
    }
    std::shared_ptr<DownloadFlights::Flight> other =
        puller_.flights_->Join(descriptor.digest, ref_.domain());
    if (other != nullptr) {
      Tell(descriptor, Progress::State::kWaiting, 0, "another pull is fetching it");
      absl::Status outcome;
      GANTRY_RETURN_IF_ERROR(DownloadFlights::Wait(*other, stop_, outcome));
      if (DownloadFlights::Concerns(*other, outcome, ref_.domain())) return outcome;
      continue;  // found in the store, or ours to do now
    }
    DownloadFlights::Landing landing(*puller_.flights_, descriptor.digest);
    landing.status = Download(job);
    if (absl::IsAlreadyExists(landing.status)) {
      landing.status = absl::OkStatus();
      continue;
    }
    if (landing.status.ok()) Have(descriptor, false);
    return landing.status;
  }
}

// kAlreadyExists: it got into the store some other way.
absl::Status Puller::Walk::Download(const Job& job) {
  const content::Descriptor& descriptor = job.descriptor;
  content::IngestOptions open;
  open.ref = IngestRef(descriptor);
  open.total_bytes = descriptor.size_bytes;
  open.expected = descriptor.digest;
  std::set<std::string> avoid;
  absl::Status mismatch;
  absl::Duration locked_since = absl::ZeroDuration();
  int locked_tries = 0;
  while (true) {
    absl::StatusOr<std::unique_ptr<content::Ingest>> opened = store_.OpenIngest(open);
    if (absl::IsUnavailable(opened.status())) {
      // A client of the content API writes the same blob. It may finish, or leave the rest to us.
      absl::Duration now = Clock::Real().Monotonic();
      if (locked_tries++ == 0) locked_since = now;
      if (now - locked_since > kForeignWriterPatience) return opened.status();
      Tell(descriptor, Progress::State::kWaiting, 0, opened.status().message());
      GANTRY_RETURN_IF_ERROR(
          stop_.Sleep(std::min(absl::Milliseconds(50) * locked_tries, absl::Seconds(2))));
      continue;
    }
    GANTRY_RETURN_IF_ERROR(opened.status());
    std::unique_ptr<content::Ingest> ingest = *std::move(opened);
    if (ingest->offset() > descriptor.size_bytes) GANTRY_RETURN_IF_ERROR(ingest->Truncate(0));
    int64_t start = ingest->offset();

    std::unique_ptr<LayerFeed> feed;
    if (options_.sink != nullptr && job.layer && start == 0)
      feed = options_.sink->OpenFeed(descriptor, job.diff_id);

    class Sink : public ByteSink {
     public:
      Sink(const Walk& walk, const content::Descriptor& descriptor, content::Ingest& ingest,
           LayerFeed* feed)
          : walk_(walk), descriptor_(descriptor), ingest_(ingest), feed_(feed) {}
      absl::Status Write(absl::string_view bytes) override {
        GANTRY_RETURN_IF_ERROR(ingest_.Append(bytes));
        if (feed_ != nullptr) feed_->Write(bytes);
        absl::Duration now = Clock::Real().Monotonic();
        if (now - told_ >= kProgressInterval) {
          told_ = now;
          walk_.Tell(descriptor_, Progress::State::kMoving, ingest_.offset());
        }
        return absl::OkStatus();
      }

     private:
      const Walk& walk_;
      const content::Descriptor& descriptor_;
      content::Ingest& ingest_;
      LayerFeed* const feed_;
      absl::Duration told_ = absl::ZeroDuration();
    };
    Sink sink(*this, descriptor, *ingest, feed.get());
    Tell(descriptor, Progress::State::kMoving, start, start > 0 ? "resumed" : "");
    std::set<std::string> origins;
    FetchOptions fetch;
    fetch.offset_bytes = start;
    fetch.avoid_origins = avoid;
    fetch.origins = &origins;
    fetch.received_bytes = &received_;
    fetch.on_retry = [&](absl::string_view why) {
      Tell(descriptor, Progress::State::kRetrying, ingest->offset(), why);
    };
    absl::Status status = puller_.fetcher_.FetchBlob(ref_, descriptor, fetch, context_, sink);
    if (!status.ok()) {
      if (ingest->offset() == 0) {
        // Nothing to resume from, so nothing to leave behind. Should it stay, it is an empty ingest
        // that ends with its lease.
        ingest.reset();
        store_.AbortIngest(open.ref).IgnoreError();
      }
      // Why no host is left says more than that none is left.
      if (!mismatch.ok() && absl::IsNotFound(status)) return mismatch;
      return absl::Status(status.code(),
                          absl::StrCat("image ", ref_.familiar(), ": ", status.message()));
    }
    Tell(descriptor, Progress::State::kVerifying, descriptor.size_bytes);
    content::CommitOptions commit;
    commit.expected = descriptor.digest;
    commit.size_bytes = descriptor.size_bytes;
    commit.labels = BaseLabels();
    commit.sync = options_.sync_blobs;
    absl::Status committed = ingest->Commit(commit).status();
    if (committed.ok() || absl::IsAlreadyExists(committed)) {
      if (feed != nullptr) feed->Finish(descriptor.digest);
      Tell(descriptor, Progress::State::kDone, descriptor.size_bytes);
      return absl::OkStatus();
    }
    if (!absl::IsFailedPrecondition(committed)) return committed;

    // Wrong bytes. Nothing of them is kept; where they cannot be dropped now, collection takes
    // them, for no blob names them.
    std::string actual = ingest->current_digest().str();
    feed.reset();
    ingest.reset();
    store_.AbortIngest(open.ref).IgnoreError();
    puller_.fetcher_.DropSpool(descriptor.digest);
    mismatch = absl::DataLossError(
        absl::StrCat("image ", ref_.familiar(), ": ", absl::StrJoin(origins, ", "),
                     " sent bytes that hash to ", actual, " for blob ", descriptor.digest.str()));
    Tell(descriptor, Progress::State::kRetrying, 0, mismatch.message());
    // A continued download may have been damaged before today; who sent the rest gets another
    // chance. From the start, hosts that took part are not asked again.
    if (start == 0) avoid.insert(origins.begin(), origins.end());
  }
}

absl::Status Puller::Walk::One(const content::Descriptor& descriptor) {
  if (oci::IsIndexType(descriptor.media_type) || oci::IsManifestType(descriptor.media_type)) {
    return Document(descriptor, "").status();
  }
  return Blob({descriptor, {}, std::nullopt});
}

Puller::Puller(RegistryClient* client, FetcherOptions fetcher_options)
    : client_(client),
      resolver_(client),
      fetcher_(client, std::move(fetcher_options)),
      flights_(std::make_unique<DownloadFlights>()) {}

Puller::~Puller() = default;

Fetcher& Puller::fetcher() { return fetcher_; }

absl::StatusOr<PulledImage> Puller::Pull(const Reference& ref, content::Store& store,
                                         const PullOptions& options, const CallContext& context) {
  auto tell = [&](Progress::State state) {
    if (!options.progress) return;
    Progress progress;
    progress.kind = Progress::Kind::kReference;
    progress.state = state;
    progress.ref = ref.canonical();
    options.progress(progress);
  };
  tell(Progress::State::kResolving);
  const absl::Duration begun = Clock::Real().Monotonic();
  // One look-up of the credential for both steps.
  MemoCredentials memo(context.credentials != nullptr ? context.credentials
                                                      : client_->options().credentials);
  CallContext memo_context = context;
  memo_context.credentials = &memo;
  if (options.progress && !memo_context.on_retry)
    memo_context.on_retry = RetryTeller(ref, options.progress);
  GANTRY_ASSIGN_OR_RETURN(Resolved resolved, resolver_.Resolve(ref, memo_context));
  const absl::Duration resolving = Clock::Real().Monotonic() - begun;
  absl::StatusOr<PulledImage> image = PullResolved(ref, resolved, store, options, memo_context);
  if (!image.ok()) return image;
  image->resolving += resolving;
  tell(Progress::State::kDone);
  return image;
}

absl::StatusOr<PulledImage> Puller::PullResolved(const Reference& ref, const Resolved& resolved,
                                                 content::Store& store, const PullOptions& options,
                                                 const CallContext& context) {
  return Walk(*this, ref, store, options, context).Run(resolved);
}

absl::Status Puller::FetchOne(const Reference& ref, const content::Descriptor& descriptor,
                              content::Store& store, const PullOptions& options,
                              const CallContext& context) {
  return Walk(*this, ref, store, options, context).One(descriptor);
}

}  // namespace gantry::distribution
