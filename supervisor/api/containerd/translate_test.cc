// What is pure in the door: metrics, event fields, names, media types, the plugin table, and the
// flow of streams.
#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "google/protobuf/any.pb.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "proto/containerd/cgroup1/metrics.pb.h"
#include "proto/containerd/cgroup2/metrics.pb.h"
#include "proto/containerd/events/task.pb.h"
#include "proto/containerd/services/events/v1/events.pb.h"
#include "proto/containerd/types/transfer/streaming.pb.h"
#include "supervisor/api/containerd/event_fields.h"
#include "supervisor/api/containerd/event_message.h"
#include "supervisor/api/containerd/import_names.h"
#include "supervisor/api/containerd/media_type.h"
#include "supervisor/api/containerd/plugin_table.h"
#include "supervisor/api/containerd/stream_registry.h"
#include "supervisor/api/containerd/task_metrics.h"
#include "supervisor/api/containerd/wire.h"

namespace gantry::api::containerd_api {
namespace {

using google::protobuf::Any;
using Names = std::vector<std::string>;

shim::v1::StatsResponse SomeStats(bool v2) {
  shim::v1::StatsResponse stats;
  stats.set_cgroup_v2(v2);
  stats.set_cpu_usage_nanos(5'000'000);
  stats.set_cpu_throttled_nanos(7'000);
  stats.add_cpu_per_cpu_nanos(11);
  stats.set_memory_usage_bytes(4096);
  stats.set_memory_limit_bytes(~uint64_t{0});
  (*stats.mutable_memory_stat())["inactive_file"] = 77;
  (*stats.mutable_memory_stat())["total_inactive_file"] = 78;
  (*stats.mutable_memory_stat())["pgfault"] = 9;
  (*stats.mutable_memory_stat())["no_such_counter"] = 1;
  (*stats.mutable_memory_events())["oom_kill"] = 2;
  stats.set_pids_current(3);
  auto* io = stats.add_block_io();
  io->set_major(8);
  io->set_read_bytes(100);
  io->set_write_ops(4);
  return stats;
}

TEST(TaskMetricsTest, UnifiedCgroupsCountMicroseconds) {
  const Any any = MetricsOf(SomeStats(true));
  ASSERT_EQ(any.type_url(), "io.containerd.cgroups.v2.Metrics");
  io::containerd::cgroups::v2::Metrics metrics;
  ASSERT_TRUE(metrics.ParseFromString(any.value()));
  EXPECT_EQ(metrics.cpu().usage_usec(), 5000u);
  EXPECT_EQ(metrics.cpu().throttled_usec(), 7u);
  EXPECT_EQ(metrics.memory().usage(), 4096u);
  EXPECT_EQ(metrics.memory().usage_limit(), ~uint64_t{0});
  EXPECT_EQ(metrics.memory().inactive_file(), 77u);
  EXPECT_EQ(metrics.memory().pgfault(), 9u);
  EXPECT_EQ(metrics.memory_events().oom_kill(), 2u);
  EXPECT_EQ(metrics.pids().current(), 3u);
  ASSERT_EQ(metrics.io().usage_size(), 1);
  EXPECT_EQ(metrics.io().usage(0).rbytes(), 100u);
  EXPECT_EQ(metrics.io().usage(0).wios(), 4u);
}

TEST(TaskMetricsTest, SeparateHierarchiesCountNanoseconds) {
  const Any any = MetricsOf(SomeStats(false));
  ASSERT_EQ(any.type_url(), "io.containerd.cgroups.v1.Metrics");
  io::containerd::cgroups::v1::Metrics metrics;
  ASSERT_TRUE(metrics.ParseFromString(any.value()));
  EXPECT_EQ(metrics.cpu().usage().total(), 5'000'000u);
  EXPECT_EQ(metrics.cpu().usage().per_cpu(0), 11u);
  EXPECT_EQ(metrics.cpu().throttling().throttled_time(), 7'000u);
  EXPECT_EQ(metrics.memory().usage().usage(), 4096u);
  EXPECT_EQ(metrics.memory().usage().limit(), ~uint64_t{0});
  EXPECT_EQ(metrics.memory().total_inactive_file(), 78u);
  EXPECT_EQ(metrics.memory().pg_fault(), 9u);
  EXPECT_EQ(metrics.blkio().io_service_bytes_recursive(0).op(), "Read");
  EXPECT_EQ(metrics.blkio().io_service_bytes_recursive(0).value(), 100u);
  EXPECT_EQ(metrics.blkio().io_serviced_recursive(1).value(), 4u);
}

// A Go client that follows a pointer without a look dies of one that is not there.
TEST(TaskMetricsTest, NothingIsLeftOutBecauseItIsEmpty) {
  shim::v1::StatsResponse stats;
  io::containerd::cgroups::v1::Metrics hierarchies;
  ASSERT_TRUE(hierarchies.ParseFromString(MetricsOf(stats).value()));
  EXPECT_TRUE(hierarchies.has_pids() && hierarchies.has_blkio() && hierarchies.has_rdma() &&
              hierarchies.has_memory_oom_control());
  EXPECT_TRUE(hierarchies.cpu().has_usage() && hierarchies.cpu().has_throttling());
  EXPECT_TRUE(hierarchies.memory().has_usage() && hierarchies.memory().has_swap() &&
              hierarchies.memory().has_kernel() && hierarchies.memory().has_kernel_tcp());
  stats.set_cgroup_v2(true);
  io::containerd::cgroups::v2::Metrics unified;
  ASSERT_TRUE(unified.ParseFromString(MetricsOf(stats).value()));
  EXPECT_TRUE(unified.has_pids() && unified.has_cpu() && unified.has_memory() && unified.has_io() &&
              unified.has_rdma() && unified.has_memory_events());
}

bool Matches(const core::Event& event, const std::string& filter) {
  const std::vector<std::string> texts = {filter};
  absl::StatusOr<metadata::Filter> parsed = metadata::Filter::Parse(texts);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() && parsed->Matches(FieldsOf(event));
}

core::Event ProcessEvent(const char* action, core::ProcessFacts facts) {
  core::Event event(core::EventKind::kContainer, action, "c1");
  event.ns = "moby";
  event.facts = std::move(facts);
  return event;
}

TEST(EventFieldsTest, EnvelopeAndPayloadAreSeen) {
  core::ProcessFacts facts;
  facts.pid = 7;
  const core::Event event = ProcessEvent(core::action::kDie, facts);
  EXPECT_TRUE(Matches(event, "namespace==moby,topic~=|^/tasks/|"));
  EXPECT_TRUE(Matches(event, "event.container_id==c1"));
  EXPECT_FALSE(Matches(event, "event.container_id==c2"));
  EXPECT_FALSE(Matches(event, "event.pid==7"));
  EXPECT_FALSE(Matches(event, "event.exited_at"));
  EXPECT_FALSE(Matches(event, "namespace==default"));
}

TEST(EventFieldsTest, NestedFieldsAndLabelsAreSeen) {
  core::ContainerFacts facts;
  facts.runtime = "io.containerd.runc.v2";
  facts.labels = {{"com.example/a.b", "1"}};
  core::Event create(core::EventKind::kContainer, core::action::kCreate, "c1");
  create.facts = facts;
  EXPECT_TRUE(Matches(create, "event.runtime.name==io.containerd.runc.v2"));
  core::Event update(core::EventKind::kContainer, core::action::kUpdate, "c1");
  update.facts = facts;
  EXPECT_TRUE(Matches(update, "event.labels.\"com.example/a.b\"==1"));
  EXPECT_FALSE(Matches(update, "event.labels.other"));
}

TEST(EventFieldsTest, APayloadOfUnknownTypeHasNoFields) {
  core::Event event(core::EventKind::kForeign, "", "");
  event.ns = "default";
  event.facts = core::ForeignFacts{"/x", "example.com/Unknown", "\x01\x02"};
  EXPECT_FALSE(Matches(event, "event.id"));
  EXPECT_TRUE(Matches(event, "event.id!=x"));
  EXPECT_TRUE(Matches(event, "topic==/x"));
}

template <typename Message>
Message PayloadAs(const core::Event& event) {
  ::containerd::types::Envelope envelope;
  EXPECT_TRUE(FillEnvelope(event, envelope));
  Message message;
  EXPECT_TRUE(ReadAny(envelope.event(), &message).ok()) << envelope.event().type_url();
  return message;
}

TEST(EventMessageTest, TheEndOfAProcessIsATaskExit) {
  core::ProcessFacts facts;
  facts.pid = 7;
  facts.exit_status = 3;
  facts.exited_at = absl::FromUnixSeconds(100);
  auto exit = PayloadAs<::containerd::events::TaskExit>(ProcessEvent(core::action::kDie, facts));
  EXPECT_EQ(exit.container_id(), "c1");
  EXPECT_EQ(exit.id(), "c1");
  EXPECT_EQ(exit.pid(), 7);
  EXPECT_EQ(exit.exit_status(), 3);
  EXPECT_EQ(exit.exited_at().seconds(), 100);
  facts.exec_id = "e1";
  exit = PayloadAs<::containerd::events::TaskExit>(ProcessEvent(core::action::kExecDie, facts));
  EXPECT_EQ(exit.container_id(), "c1");
  EXPECT_EQ(exit.id(), "e1");
}

TEST(EventMessageTest, TheCreationOfATaskHasItsSetup) {
  core::TaskSetup setup;
  setup.bundle = "/run/b";
  setup.rootfs = {{"overlay", "overlay", "", {"lowerdir=/l"}}};
  setup.stdout_uri = "/fifo";
  setup.terminal = true;
  setup.checkpoint = "/cp";
  core::ProcessFacts facts;
  facts.pid = 9;
  facts.setup = std::make_shared<const core::TaskSetup>(setup);
  const core::Event event = ProcessEvent(core::action::kTaskCreate, facts);
  EXPECT_EQ(TopicOf(event), "/tasks/create");
  const auto create = PayloadAs<::containerd::events::TaskCreate>(event);
  EXPECT_EQ(create.container_id(), "c1");
  EXPECT_EQ(create.bundle(), "/run/b");
  ASSERT_EQ(create.rootfs_size(), 1);
  EXPECT_EQ(create.rootfs(0).options(0), "lowerdir=/l");
  EXPECT_EQ(create.io().stdout(), "/fifo");
  EXPECT_TRUE(create.io().terminal());
  EXPECT_EQ(create.checkpoint(), "/cp");
  EXPECT_EQ(create.pid(), 9);
}

TEST(EventMessageTest, WhatContainerdDoesNotKnowIsNoEventThere) {
  for (const char* action : {"kill", "stop", "restart", "rename", "attach", "top", "resize",
                             "health_status", "prune", "commit", "export"}) {
    const core::Event event(core::EventKind::kContainer, action, "c1");
    EXPECT_EQ(TopicOf(event), "") << action;
    ::containerd::types::Envelope envelope;
    EXPECT_FALSE(FillEnvelope(event, envelope)) << action;
  }
  for (const char* action : {"pull", "push", "tag", "untag", "load", "import", "delete", "save"})
    EXPECT_EQ(TopicOf(core::Event(core::EventKind::kImage, action, "x")), "") << action;
}

TEST(EventMessageTest, WhatAClientHandedInComesOutUnchanged) {
  core::Event event(core::EventKind::kForeign, "", "");
  event.ns = "moby";
  event.at = absl::FromUnixSeconds(5);
  event.facts = core::ForeignFacts{"/my/own", "example.com/Unknown", "\x01\x02"};
  ::containerd::types::Envelope envelope;
  ASSERT_TRUE(FillEnvelope(event, envelope));
  EXPECT_EQ(envelope.topic(), "/my/own");
  EXPECT_EQ(envelope.namespace_(), "moby");
  EXPECT_EQ(envelope.timestamp().seconds(), 5);
  EXPECT_EQ(envelope.event().type_url(), "example.com/Unknown");
  EXPECT_EQ(envelope.event().value(), "\x01\x02");
}

const content::Digest kDigest = content::Digest::Sha256Of("x");

::containerd::types::transfer::ImageStore StoreWith(const std::string& prefix, bool overwrite,
                                                    bool digest, bool skip_named) {
  ::containerd::types::transfer::ImageStore store;
  auto* reference = store.add_extra_references();
  reference->set_name(prefix);
  reference->set_is_prefix(true);
  reference->set_allow_overwrite(overwrite);
  reference->set_add_digest(digest);
  reference->set_skip_named_digest(skip_named);
  return store;
}

TEST(ImportNamesTest, WithoutReferencesEveryNameIsTaken) {
  const ImportNames names{::containerd::types::transfer::ImageStore()};
  EXPECT_EQ(names.NamesFor("docker.io/library/a:1", kDigest), Names{"docker.io/library/a:1"});
  EXPECT_EQ(names.NamesFor("", kDigest), Names{});
}

TEST(ImportNamesTest, APrefixTakesOnlyNamesBelowItUnlessTheyMayReplaceIt) {
  const ImportNames strict(StoreWith("docker.io/library/a", false, false, false));
  EXPECT_EQ(strict.NamesFor("docker.io/library/a:1", kDigest), Names{"docker.io/library/a:1"});
  EXPECT_EQ(strict.NamesFor("docker.io/library/ab:1", kDigest), Names{});
  EXPECT_EQ(strict.prefix(), "docker.io/library/a");
  const ImportNames lenient(StoreWith("import-2026-11-21", true, false, false));
  EXPECT_EQ(lenient.NamesFor("docker.io/library/b:1", kDigest), Names{"docker.io/library/b:1"});
}

TEST(ImportNamesTest, DigestsNameWhatHasNoName) {
  const ImportNames names(StoreWith("import", true, true, true));
  EXPECT_EQ(names.NamesFor("", kDigest), Names{"import@" + kDigest.str()});
  EXPECT_EQ(names.NamesFor("a:1", kDigest), Names{"a:1"});
  const ImportNames both(StoreWith("import", true, true, false));
  EXPECT_EQ(both.NamesFor("a:1", kDigest), (Names{"a:1", "import@" + kDigest.str()}));
}

TEST(ImportNamesTest, TheIndexHasItsOwnName) {
  auto store = StoreWith("other", false, false, false);
  store.set_name("whole:1");
  EXPECT_EQ(ImportNames(store).IndexNames(kDigest), Names{"whole:1"});
  EXPECT_EQ(ImportNames(store).NamesFor("whole:1", kDigest), Names{});
  EXPECT_FALSE(ImportNames(StoreWith("other", false, false, false)).names_index());
  // A digest names it too; that named ones are left out is for what the prefix has found.
  store.mutable_extra_references(0)->set_add_digest(true);
  store.mutable_extra_references(0)->set_skip_named_digest(true);
  store.add_extra_references()->set_name("further:1");
  EXPECT_EQ(ImportNames(store).IndexNames(kDigest),
            (Names{"whole:1", "other@" + kDigest.str(), "further:1"}));
}

TEST(MediaTypeTest, LayersOfBothKindsAreKnown) {
  for (const char* type :
       {"application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}) {
    EXPECT_TRUE(IsLayer(type)) << type;
  }
  for (const char* type : {"", "application/vnd.oci.image.config.v1+json",
                           "application/vnd.oci.image.layer.v1.tar+encrypted"}) {
    EXPECT_FALSE(IsLayer(type)) << type;
  }
}

TEST(MediaTypeTest, WhatWeDoNotMakeIsUnimplemented) {
  EXPECT_EQ(*CompressionToMake("application/vnd.oci.image.layer.v1.tar"), Compression::kNone);
  EXPECT_EQ(*CompressionToMake("application/vnd.oci.image.layer.v1.tar+gzip"), Compression::kGzip);
  EXPECT_EQ(*CompressionToMake("application/vnd.oci.image.layer.v1.tar+zstd"), Compression::kZstd);
  EXPECT_TRUE(absl::IsUnimplemented(
      CompressionToMake("application/vnd.oci.image.layer.v1.tar+xz").status()));
}

TEST(PluginTableTest, ClientsFindWhatTheyLookFor) {
  const std::vector<Plugin> table = PluginTable({{"overlayfs", "/r/overlayfs"}}, "/r/content");
  const auto found = [&table](const std::string& filter) {
    const std::vector<std::string> texts = {filter};
    const metadata::Filter parsed = *metadata::Filter::Parse(texts);
    return std::count_if(table.begin(), table.end(),
                         [&](const Plugin& plugin) { return parsed.Matches(FieldsOf(plugin)); });
  };
  EXPECT_EQ(found("type==io.containerd.snapshotter.v1, id==overlayfs"), 1);
  EXPECT_EQ(found("type==io.containerd.snapshotter.v1, id==btrfs"), 0);
  EXPECT_EQ(found("type==io.containerd.runtime.v2"), 1);
  EXPECT_EQ(found("type==io.containerd.transfer.v1"), 1);
  EXPECT_EQ(found("type==io.containerd.grpc.v1"), 17);
}

TEST(PluginTableTest, ThePlatformHasNoMicroArchitecture) {
  content::Platform host;
  host.os = "linux";
  host.architecture = "amd64";
  host.variant = "v3";
  EXPECT_EQ(ServedPlatform(host).variant, "");
  host.architecture = "arm64";
  host.variant = "v8";
  EXPECT_EQ(ServedPlatform(host).variant, "v8");
}

TEST(WireTest, NeverIsGosZeroTime) {
  google::protobuf::Timestamp stamp;
  SetTime(absl::InfinitePast(), &stamp);
  EXPECT_EQ(stamp.seconds(), -62135596800);
  SetTime(absl::FromUnixNanos(1'500'000'000), &stamp);
  EXPECT_EQ(stamp.seconds(), 1);
  EXPECT_EQ(stamp.nanos(), 500'000'000);
}

TEST(WireTest, PayloadsAreReadWithAndWithoutPrefix) {
  ::containerd::events::TaskExit exit;
  exit.set_id("x");
  Any any = AnyOf(exit);
  EXPECT_EQ(any.type_url(), "containerd.events.TaskExit");
  any.set_type_url("type.googleapis.com/containerd.events.TaskExit");
  ::containerd::events::TaskExit read;
  EXPECT_TRUE(ReadAny(any, &read).ok());
  EXPECT_EQ(read.id(), "x");
  any.set_type_url("containerd.events.TaskStart");
  EXPECT_TRUE(absl::IsInvalidArgument(ReadAny(any, &read)));
}

// A transport that keeps what it is given.
class FakeTransport : public Stream::Transport {
 public:
  void StartReading() override { ++reads; }
  void StartWriting(const Any& message) override { written.push_back(message); }
  void End(const absl::Status& status) override { ended.push_back(status); }
  void Abandon() override { abandoned = true; }

  int reads = 0;
  bool abandoned = false;
  std::vector<Any> written;
  std::vector<absl::Status> ended;
};

Any DataOf(const std::string& bytes) {
  ::containerd::types::transfer::Data data;
  data.set_data(bytes);
  return AnyOf(data);
}

Any WindowOf(int bytes) {
  ::containerd::types::transfer::WindowUpdate update;
  update.set_update(bytes);
  return AnyOf(update);
}

TEST(StreamTest, SourceGrantsMegabytesAndReadsToTheEnd) {
  Stream stream;
  FakeTransport transport;
  CancelToken cancel;
  stream.Attach(&transport);
  stream.Deliver(DataOf("hello "));
  stream.Deliver(DataOf("world"));
  stream.ClientFinished();
  StreamSource source(stream, cancel);
  absl::StatusOr<std::string> all = ReadAll(source, 100);
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(*all, "hello world");
  ASSERT_EQ(transport.written.size(), 1u);
  ::containerd::types::transfer::WindowUpdate update;
  ASSERT_TRUE(ReadAny(transport.written[0], &update).ok());
  EXPECT_EQ(update.update(), 8 << 20);
}

TEST(StreamTest, SinkSendsNoMoreThanWasGranted) {
  Stream stream;
  FakeTransport transport;
  CancelToken cancel;
  stream.Attach(&transport);
  stream.Deliver(WindowOf(5));
  std::thread writer([&] {
    StreamSink sink(stream, cancel);
    EXPECT_TRUE(sink.Write("0123456789").ok());
  });
  stream.Deliver(WindowOf(100));
  writer.join();
  stream.Written(true);
  ASSERT_EQ(transport.written.size(), 2u);
  ::containerd::types::transfer::Data first;
  ::containerd::types::transfer::Data second;
  ASSERT_TRUE(ReadAny(transport.written[0], &first).ok());
  ASSERT_TRUE(ReadAny(transport.written[1], &second).ok());
  EXPECT_EQ(first.data(), "01234");
  EXPECT_EQ(second.data(), "56789");
}

TEST(StreamTest, ClosingSendsWhatIsQueuedFirst) {
  Stream stream;
  FakeTransport transport;
  CancelToken cancel;
  stream.Attach(&transport);
  ASSERT_TRUE(stream.Send(DataOf("a"), cancel).ok());
  ASSERT_TRUE(stream.Send(DataOf("b"), cancel).ok());
  stream.Close(absl::OkStatus());
  EXPECT_TRUE(transport.ended.empty());
  EXPECT_TRUE(absl::IsUnavailable(stream.Send(DataOf("c"), cancel)));
  stream.Written(true);
  stream.Written(true);
  EXPECT_EQ(transport.written.size(), 2u);
  ASSERT_EQ(transport.ended.size(), 1u);
  EXPECT_TRUE(transport.ended[0].ok());
}

TEST(StreamTest, ReceiveEndsWithItsCaller) {
  Stream stream;
  FakeTransport transport;
  CancelToken cancel;
  stream.Attach(&transport);
  cancel.Cancel("enough");
  EXPECT_TRUE(absl::IsCancelled(stream.Receive(cancel).status()));
}

TEST(StreamTest, AClientThatSendsNothingIsNotWaitedForForever) {
  Stream stream(absl::Milliseconds(20));
  FakeTransport transport;
  CancelToken cancel;
  stream.Attach(&transport);
  StreamSink sink(stream, cancel);
  const absl::Status status = sink.Write("no window was granted for this");
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("sent nothing for 20ms"));
  EXPECT_TRUE(transport.abandoned);
}

TEST(StreamTest, AClientThatReadsNothingIsNotWaitedForForever) {
  Stream stream(absl::Milliseconds(20));
  FakeTransport transport;
  CancelToken cancel;
  stream.Attach(&transport);
  absl::Status status;
  for (int i = 0; i < 1000 && status.ok(); ++i) status = stream.Send(DataOf("x"), cancel);
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("read nothing for 20ms"));
  EXPECT_TRUE(transport.abandoned);
  EXPECT_TRUE(absl::IsUnavailable(stream.Send(DataOf("y"), cancel)));
}

TEST(StreamTest, AClientThatLeavesEndsTheWait) {
  Stream stream;
  FakeTransport transport;
  CancelToken cancel;
  stream.Attach(&transport);
  std::thread leaver([&] { stream.Detach(); });
  EXPECT_TRUE(absl::IsUnavailable(stream.Receive(cancel).status()));
  leaver.join();
}

TEST(StreamRegistryTest, IdsAreOfOneNamespace) {
  StreamRegistry registry;
  auto stream = std::make_shared<Stream>();
  EXPECT_TRUE(registry.Add("a", "1", stream).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(registry.Add("a", "1", stream)));
  EXPECT_TRUE(registry.Add("b", "1", stream).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(registry.Add("a", "", stream)));
  EXPECT_TRUE(registry.Find("a", "1").ok());
  registry.Remove("a", "1");
  EXPECT_TRUE(absl::IsNotFound(registry.Find("a", "1").status()));
  registry.Stop();
  EXPECT_TRUE(absl::IsUnavailable(registry.Add("a", "2", stream)));
}

}  // namespace
}  // namespace gantry::api::containerd_api
