// A thousand containers, ten thousand blobs, a hundred clients at once: lists are whole and come
// while others write, memory has a bound, and a client that reads events too slowly gets an error
// instead of holding up others.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/file.h"
#include "integration/api_client.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr int kContainers = 1000;
constexpr int kBlobs = 10000;
constexpr int kClients = 100;
constexpr int kWriters = 20;
// A hundred lists of a thousand containers are 300 MB on the wire. What the daemon may hold of them
// at any moment is less; that is far above what it needs and far below what it would need if lists
// piled up.
constexpr int64_t kPeakBound = int64_t{400} << 20;

// One of docker's size.
std::string Spec() {
  return absl::StrCat(R"({"ociVersion":"1.0.2","process":{"args":["true"],"env":[")",
                      std::string(2500, 'x'), R"("]},"root":{"path":"rootfs"}})");
}

void InParallel(int threads, const std::function<void(int)>& work) {
  std::vector<std::thread> running;
  for (int i = 0; i < threads; ++i) running.emplace_back(work, i);
  for (std::thread& thread : running) thread.join();
}

class LoadTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "the daemon needs root";
    bed_ = std::make_unique<Testbed>();
  }

  // A line of /proc/<daemon>/status, in bytes.
  int64_t Memory(absl::string_view field) const {
    absl::StatusOr<std::string> status =
        ReadFile(absl::StrCat("/proc/", bed_->daemon_pid(), "/status"), 1 << 16);
    EXPECT_TRUE(status.ok());
    for (const absl::string_view line : absl::StrSplit(*status, '\n')) {
      const std::vector<absl::string_view> words =
          absl::StrSplit(line, absl::ByAnyChar(" \t:"), absl::SkipEmpty());
      int64_t kib = 0;
      if (words.size() > 1 && words[0] == field && absl::SimpleAtoi(words[1], &kib))
        return kib << 10;
    }
    ADD_FAILURE() << "no " << field;
    return 0;
  }

  std::unique_ptr<Testbed> bed_;
};

int CountContent(ApiClient& api) {
  auto context = api.Context(absl::Minutes(5));
  auto stream = api.content().List(context.get(), {});
  content_api::ListContentResponse part;
  int found = 0;
  while (stream->Read(&part)) found += part.info_size();
  const grpc::Status ended = stream->Finish();
  EXPECT_TRUE(ended.ok()) << ended.error_message();
  return found;
}

int CountContainers(ApiClient& api) {
  containers_api::ListContainersResponse response;
  containers_api::ListContainersRequest request;
  request.add_filters("id~=^permanent-");
  const grpc::Status listed =
      api.containers().List(api.Context(absl::Minutes(5)).get(), request, &response);
  EXPECT_TRUE(listed.ok()) << listed.error_message();
  return response.containers_size();
}

int CountStreamedContainers(ApiClient& api) {
  auto context = api.Context(absl::Minutes(5));
  auto stream = api.containers().ListStream(context.get(), {});
  containers_api::ListContainerMessage message;
  int found = 0;
  while (stream->Read(&message)) {
    if (absl::StartsWith(message.container().id(), "permanent-")) ++found;
  }
  const grpc::Status ended = stream->Finish();
  EXPECT_TRUE(ended.ok()) << ended.error_message();
  return found;
}

TEST_F(LoadTest, AHundredClientsListAndWriteAtOnce) {
  InParallel(8, [&](int lane) {
    ApiClient api(bed_->address(), bed_->ns());
    for (int i = lane; i < kContainers; i += 8)
      ASSERT_TRUE(api.CreateContainer(absl::StrCat("permanent-", i), "none", Spec()).ok());
    for (int i = lane; i < kBlobs; i += 8) {
      const auto wrote = api.WriteBlob(absl::StrCat("ref-", i), absl::StrCat("blob ", i),
                                       {{"containerd.io/gc.root", "now"}});
      ASSERT_TRUE(wrote.ok()) << wrote.status();
    }
  });
  const int64_t loaded = Memory("VmRSS");

  // Writers go on until the last reader has what it came for: no list waited for them to pause.
  std::atomic<int> readers = kClients - kWriters;
  std::atomic<int> written = 0;
  InParallel(kClients, [&](int who) {
    ApiClient api(bed_->address(), bed_->ns());
    if (who >= kWriters) {
      EXPECT_EQ(CountContainers(api), kContainers);
      EXPECT_EQ(CountStreamedContainers(api), kContainers);
      EXPECT_GE(CountContent(api), kBlobs);
      containers_api::ListContainersResponse all;
      EXPECT_TRUE(api.containers().List(api.Context(absl::Minutes(5)).get(), {}, &all).ok());
      EXPECT_GE(all.containers_size(), kContainers);
      --readers;
      return;
    }
    for (int i = 0; readers > 0; ++i) {
      const std::string id = absl::StrCat("passing-", who, "-", i);
      EXPECT_TRUE(api.CreateContainer(id, "none", Spec()).ok());
      containers_api::DeleteContainerRequest request;
      google::protobuf::Empty nothing;
      request.set_id(id);
      EXPECT_TRUE(api.containers().Delete(api.Context().get(), request, &nothing).ok());
      EXPECT_TRUE(api.WriteBlob(id, id).ok());
      ++written;
    }
  });
  EXPECT_GT(written, kWriters) << "the lists starved the writers";
  EXPECT_LT(Memory("VmHWM"), kPeakBound);
  RecordProperty("loaded_kib", static_cast<int>(loaded >> 10));
  RecordProperty("peak_kib", static_cast<int>(Memory("VmHWM") >> 10));
  // Work that is over is not paid for any longer.
  EXPECT_TRUE(Eventually([&] { return Memory("VmRSS") < loaded + (32 << 20); }))
      << Memory("VmRSS") << " bytes, " << loaded << " before the clients came";

  InParallel(8, [&](int lane) {
    ApiClient api(bed_->address(), bed_->ns());
    for (int i = lane; i < kContainers; i += 8) {
      containers_api::DeleteContainerRequest request;
      google::protobuf::Empty nothing;
      request.set_id(absl::StrCat("permanent-", i));
      EXPECT_TRUE(api.containers().Delete(api.Context().get(), request, &nothing).ok());
    }
  });
}

// What short-lived containers leave: thousands of directories whose records are gone.
TEST_F(LoadTest, DirectoriesOfWhatIsRemovedGoWithinSeconds) {
  constexpr int kClients = 4;
  constexpr int kEach = 1000;
  // Waits between collections used to grow with what there was to unlink, to minutes.
  constexpr absl::Duration kSoon = absl::Seconds(30);
  const std::string directory = bed_->root() + "/snapshots/overlayfs/snapshots";
  std::atomic<int> removed{0};
  InParallel(kClients, [&](int client) {
    ApiClient api(bed_->address(), bed_->ns());
    for (int i = 0; i < kEach; ++i) {
      const std::string key = absl::StrCat("short-lived-", client, "-", i);
      snapshots_api::PrepareSnapshotRequest prepare;
      prepare.set_snapshotter("overlayfs");
      prepare.set_key(key);
      snapshots_api::PrepareSnapshotResponse prepared;
      snapshots_api::RemoveSnapshotRequest remove;
      remove.set_snapshotter("overlayfs");
      remove.set_key(key);
      google::protobuf::Empty nothing;
      if (api.snapshots().Prepare(api.Context().get(), prepare, &prepared).ok() &&
          api.snapshots().Remove(api.Context().get(), remove, &nothing).ok()) {
        ++removed;
      }
    }
  });
  // Nothing holds them, so that a collection may be faster with one than its client.
  EXPECT_GT(removed, kClients * kEach / 2);
  EXPECT_TRUE(Eventually([&] { return ListDirectory(directory)->empty(); }, kSoon))
      << ListDirectory(directory)->size() << " directories are left";
}

// Who asked for a list and does not read it holds up neither writers nor the collector.
TEST_F(LoadTest, AListThatNobodyReadsIsInNobodysWay) {
  ApiClient writer(bed_->address(), bed_->ns());
  // More than a connection's windows and buffers hold.
  for (int i = 0; i < kContainers; ++i)
    ASSERT_TRUE(writer.CreateContainer(absl::StrCat("c-", i), "none", Spec() + Spec()).ok());
  ApiClient idle(bed_->address(), bed_->ns(), ApiClient::Windows::kSmall);
  auto context = idle.Context(absl::Minutes(5));
  auto stream = idle.containers().ListStream(context.get(), {});
  containers_api::ListContainerMessage message;
  ASSERT_TRUE(stream->Read(&message));

  EXPECT_TRUE(writer.CreateContainer("another", "none", Spec()).ok());
  EXPECT_TRUE(writer.WriteBlob("ref", "bytes").ok());
  EXPECT_TRUE(Ok(bed_->Ctl({"gc", "-q"})));
  EXPECT_EQ(CountStreamedContainers(writer), 0);
  for (const char* id : {"another", "c-0", "c-1"}) {
    containers_api::DeleteContainerRequest request;
    google::protobuf::Empty nothing;
    request.set_id(id);
    EXPECT_TRUE(writer.containers().Delete(writer.Context().get(), request, &nothing).ok()) << id;
  }
  // And it still gets what there was when it asked.
  int got = 1;
  while (stream->Read(&message)) ++got;
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(got, kContainers);
}

TEST_F(LoadTest, WhoReadsEventsTooSlowlyIsToldSo) {
  // More than a subscriber's queue and the windows of its connection hold.
  constexpr int kEvents = 25000;
  ApiClient slow(bed_->address(), bed_->ns(), ApiClient::Windows::kSmall);
  auto slow_context = slow.Context(absl::Minutes(5));
  auto slow_stream = slow.events().Subscribe(slow_context.get(), {});
  slow_stream->WaitForInitialMetadata();

  ApiClient quick(bed_->address(), bed_->ns());
  auto quick_context = quick.Context(absl::Minutes(5));
  auto quick_stream = quick.events().Subscribe(quick_context.get(), {});
  quick_stream->WaitForInitialMetadata();
  std::atomic<int> heard = 0;
  std::thread listener([&] {
    ::containerd::types::Envelope envelope;
    while (quick_stream->Read(&envelope)) {
      // In order, none missing.
      EXPECT_EQ(envelope.event().value(), absl::StrCat("event ", heard.load()));
      if (++heard == kEvents) break;
    }
  });

  ApiClient publisher(bed_->address(), bed_->ns());
  for (int i = 0; i < kEvents; ++i) {
    // The quick one is as quick as the machine lets it be: it may not be outrun by a publisher who
    // never looks back.
    ASSERT_TRUE(Eventually([&] { return heard > i - 1000; }));
    events_api::PublishRequest request;
    google::protobuf::Empty nothing;
    request.set_topic("/test/load");
    request.mutable_event()->set_type_url("test.Event");
    request.mutable_event()->set_value(absl::StrCat("event ", i));
    const grpc::Status published =
        publisher.events().Publish(publisher.Context().get(), request, &nothing);
    ASSERT_TRUE(published.ok()) << published.error_message();
  }
  listener.join();
  EXPECT_EQ(heard, kEvents);
  quick_context->TryCancel();
  quick_stream->Finish();

  ::containerd::types::Envelope envelope;
  int got = 0;
  while (slow_stream->Read(&envelope)) ++got;
  const grpc::Status ended = slow_stream->Finish();
  EXPECT_EQ(ended.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << ended.error_message();
  EXPECT_TRUE(absl::StrContains(ended.error_message(), "subscriber")) << ended.error_message();
  EXPECT_GT(got, 0);
  EXPECT_LT(got, kEvents);
}

TEST_F(LoadTest, WhoLeavesBigEventsUnreadCostsLittleMemory) {
  // Few in number, half a gigabyte together.
  constexpr int kEvents = 512;
  ApiClient slow(bed_->address(), bed_->ns(), ApiClient::Windows::kSmall);
  auto slow_context = slow.Context(absl::Minutes(5));
  auto slow_stream = slow.events().Subscribe(slow_context.get(), {});
  slow_stream->WaitForInitialMetadata();
  ApiClient publisher(bed_->address(), bed_->ns());
  for (int i = 0; i < kEvents; ++i) {
    events_api::PublishRequest request;
    google::protobuf::Empty nothing;
    request.set_topic("/test/load");
    request.mutable_event()->set_type_url("test.Event");
    request.mutable_event()->set_value(std::string(1 << 20, 'x'));
    const grpc::Status published =
        publisher.events().Publish(publisher.Context().get(), request, &nothing);
    ASSERT_TRUE(published.ok()) << published.error_message();
  }
  EXPECT_LT(Memory("VmHWM"), int64_t{150} << 20);
  ::containerd::types::Envelope envelope;
  int got = 0;
  while (slow_stream->Read(&envelope)) ++got;
  const grpc::Status ended = slow_stream->Finish();
  EXPECT_EQ(ended.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << ended.error_message();
  EXPECT_TRUE(absl::StrContains(ended.error_message(), "subscribe again")) << ended.error_message();
  EXPECT_LT(got, kEvents);
}

TEST(MetricsTest, ContainersCallsAndCollectionsAreCounted) {
  if (geteuid() != 0) GTEST_SKIP() << "containers need root";
  Testbed::Options options;
  options.daemon_flags = {"--metrics-address", "127.0.0.1:0"};
  Testbed bed(options);
  ASSERT_TRUE(bed.LoadBusybox());
  ASSERT_TRUE(Ok(bed.Ctl({"run", "-d", "--name", "one", "busybox:test", "sleep", "1000"})));
  const std::string id = bed.Inspect("one", "{{.Id}}");
  EXPECT_FALSE(bed.Ctl({"inspect", "nobody"}).ok());
  ASSERT_TRUE(Ok(bed.Ctl({"gc", "-q"})));
  const std::string text = bed.Metrics();
  for (const std::string& line : {
           absl::StrCat("gantry_containers{namespace=\"", bed.ns(), "\"} 1\n"),
           absl::StrCat("gantry_images{namespace=\"", bed.ns(), "\"} 1\n"),
           absl::StrCat("gantry_tasks{namespace=\"", bed.ns(), "\",state=\"running\"} 1\n"),
           absl::StrCat("container_pids_current{container_id=\"", id, "\",namespace=\"", bed.ns(),
                        "\"} 1\n"),
           std::string("gantry_events_total{topic=\"/tasks/start\"} 1\n"),
           std::string("gantry_image_pulls_total{status=\"success\"} 0\n"),
           std::string("gantry_gc_failures_total 0\n"),
           std::string("gantry_grpc_calls_total{method=\"/gantry.v1.System/Gc\",code=\"OK\"} 1\n"),
           std::string("gantry_grpc_call_seconds_count{method=\"/gantry.v1.System/Gc\"} 1\n"),
           std::string("process_resident_memory_bytes "),
       }) {
    EXPECT_TRUE(absl::StrContains(text, line)) << line << " is not in\n" << text;
  }
  EXPECT_TRUE(absl::StrContains(text, "code=\"NOT_FOUND\"")) << text;
  // Where containerd has them.
  EXPECT_TRUE(absl::StrContains(bed.Metrics("/v1/metrics"), "container_pids_current"));
  ASSERT_TRUE(Ok(bed.Ctl({"rm", "-f", "one"})));
}

}  // namespace
}  // namespace gantry::integration
