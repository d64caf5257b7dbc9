#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/temp_dir.h"
#include "content-store/digest.h"
#include "snapshotter/native_snapshotter.h"
#include "snapshotter/snapshot_index.h"
#include "supervisor/metadata/container_store.h"
#include "supervisor/metadata/image_store.h"
#include "supervisor/metadata/lease_store.h"
#include "supervisor/metadata/name_index.h"
#include "supervisor/metadata/namespace_store.h"
#include "supervisor/metadata/record_values.h"
#include "supervisor/metadata/sandbox_store.h"
#include "supervisor/metadata/snapshot_namespace.h"

namespace gantry::metadata {
namespace {

class RecordStoresTest : public testing::Test {
 protected:
  RecordStoresTest() { snapshotters_.Add("native", *below_); }

  static record::v1::Image Image(const std::string& name, const std::string& content = "manifest") {
    record::v1::Image image;
    image.set_name(name);
    image.mutable_target()->set_digest(content::Digest::Sha256Of(content).str());
    image.mutable_target()->set_media_type("application/vnd.oci.image.manifest.v1+json");
    image.mutable_target()->set_size(8);
    return image;
  }

  static record::v1::Container Container(const std::string& id) {
    record::v1::Container container;
    container.set_id(id);
    container.mutable_runtime()->set_name("io.containerd.runc.v2");
    container.mutable_spec()->set_type_url("spec");
    container.mutable_spec()->set_value("{}");
    return container;
  }

  absl::Status Create(const std::string& id, const std::string& name) {
    return containers_.Create(scope_, {.record = Container(id), .name = name, .state = {}})
        .status();
  }

  template <typename Store, typename Record>
  std::string Names(Store& store, const Scope& scope, const std::vector<std::string>& filters,
                    std::string (*name)(const Record&)) {
    std::string found;
    EXPECT_TRUE(store
                    .List(scope, Filter::Parse(filters).value(),
                          [&](const Record& record) {
                            found += name(record) + " ";
                            return absl::OkStatus();
                          })
                    .ok());
    return found;
  }

  const Scope scope_{.ns = "default"};
  TempDir dir_;
  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000) + absl::Nanoseconds(5)};
  std::unique_ptr<Database> db_ = Database::Open(dir_.path()).value();
  std::unique_ptr<snapshot::NativeSnapshotter> below_ =
      snapshot::NativeSnapshotter::Open(
          dir_.path() + "/native",
          snapshot::SnapshotIndex::Open(db_->rocks(), db_->snapshot_family(), "native").value())
          .value();
  Snapshotters snapshotters_;
  ImageStore images_{*db_, clock_};
  ContainerStore containers_{*db_, clock_};
  NameIndex names_{*db_};
  LeaseStore leases_{*db_, clock_};
  SandboxStore sandboxes_{*db_, clock_};
  NamespaceStore namespaces_{*db_, snapshotters_, clock_};
};

using ImageStoreTest = RecordStoresTest;

TEST_F(ImageStoreTest, CreateSetsTheTimesItself) {
  record::v1::Image image = Image("docker.io/library/x:1");
  image.mutable_created_at()->set_seconds(1);
  auto created = images_.Create(scope_, image);
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_EQ(TimeOf(created->created_at()), clock_.Now());
  EXPECT_EQ(TimeOf(images_.Get(scope_, "docker.io/library/x:1")->updated_at()), clock_.Now());
  auto at = images_.Create(scope_, Image("y"), absl::FromUnixSeconds(42));
  EXPECT_EQ(TimeOf(at->created_at()), absl::FromUnixSeconds(42));
}

TEST_F(ImageStoreTest, NamesAreUniquePerNamespace) {
  ASSERT_TRUE(images_.Create(scope_, Image("x")).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(images_.Create(scope_, Image("x")).status()));
  EXPECT_TRUE(images_.Create(Scope{.ns = "other"}, Image("x")).ok());
  EXPECT_TRUE(absl::IsNotFound(images_.Get(Scope{.ns = "third"}, "x").status()));
}

TEST_F(ImageStoreTest, IncompleteImagesAreInvalid) {
  record::v1::Image no_name = Image("");
  record::v1::Image bad_digest = Image("x");
  bad_digest.mutable_target()->set_digest("md5:00");
  record::v1::Image no_size = Image("x");
  no_size.mutable_target()->set_size(0);
  record::v1::Image no_type = Image("x");
  no_type.mutable_target()->clear_media_type();
  record::v1::Image nul = Image(std::string("x\0y", 3));
  record::v1::Image label = Image("x");
  (*label.mutable_labels())["k"] = std::string(5000, 'v');
  for (const record::v1::Image& image : {no_name, bad_digest, no_size, no_type, nul, label}) {
    EXPECT_TRUE(absl::IsInvalidArgument(images_.Create(scope_, image).status()))
        << absl::CHexEscape(image.SerializeAsString());
  }
  EXPECT_TRUE(absl::IsFailedPrecondition(images_.Create(Scope{}, Image("x")).status()));
}

TEST_F(ImageStoreTest, UpdateWithoutFieldsReplacesAllButCreation) {
  record::v1::Image image = Image("x");
  (*image.mutable_labels())["old"] = "1";
  ASSERT_TRUE(images_.Create(scope_, image).ok());
  const absl::Time created = clock_.Now();
  clock_.Advance(absl::Minutes(1));
  record::v1::Image update = Image("x", "other");
  (*update.mutable_labels())["new"] = "2";
  auto updated = images_.Update(scope_, update, {});
  ASSERT_TRUE(updated.ok());
  EXPECT_EQ(updated->labels().size(), 1u);
  EXPECT_EQ(updated->target().digest(), content::Digest::Sha256Of("other").str());
  EXPECT_EQ(TimeOf(updated->created_at()), created);
  EXPECT_EQ(TimeOf(updated->updated_at()), clock_.Now());
}

TEST_F(ImageStoreTest, UpdateOfNamedFieldsTouchesNothingElse) {
  record::v1::Image image = Image("x");
  (*image.mutable_labels())["a.b/c"] = "1";
  (*image.mutable_labels())["keep"] = "1";
  (*image.mutable_target()->mutable_annotations())["k"] = "v";
  ASSERT_TRUE(images_.Create(scope_, image).ok());
  record::v1::Image update;
  update.set_name("x");
  (*update.mutable_labels())["a.b/c"] = "2";
  (*update.mutable_target()->mutable_annotations())["n"] = "w";
  auto updated = images_.Update(scope_, update, {"labels.a.b/c", "annotations.n"});
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_EQ(LabelsOf(updated->labels()),
            (std::map<std::string, std::string>{{"a.b/c", "2"}, {"keep", "1"}}));
  EXPECT_EQ(updated->target().annotations().size(), 2u);
  EXPECT_EQ(updated->target().digest(), image.target().digest());
  EXPECT_TRUE(absl::IsInvalidArgument(images_.Update(scope_, update, {"name"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(images_.Update(scope_, update, {"target"}).status()));
  update.set_name("unknown");
  EXPECT_TRUE(absl::IsNotFound(images_.Update(scope_, update, {"labels"}).status()));
}

TEST_F(ImageStoreTest, PutCreatesOrMoves) {
  bool created = false;
  record::v1::Image first = Image("x");
  (*first.mutable_labels())["a"] = "1";
  ASSERT_TRUE(images_.Put(scope_, first, &created).ok());
  EXPECT_TRUE(created);
  record::v1::Image second = Image("x", "other");
  (*second.mutable_labels())["b"] = "2";
  auto moved = images_.Put(scope_, second, &created);
  ASSERT_TRUE(moved.ok());
  EXPECT_FALSE(created);
  EXPECT_EQ(moved->labels().size(), 2u);
  EXPECT_EQ(moved->target().digest(), second.target().digest());
}

TEST_F(ImageStoreTest, DeleteComparesTheTargetWhenAsked) {
  ASSERT_TRUE(images_.Create(scope_, Image("x")).ok());
  EXPECT_TRUE(absl::IsNotFound(images_.Delete(scope_, "x", content::Digest::Sha256Of("other"))));
  EXPECT_TRUE(images_.Get(scope_, "x").ok());
  EXPECT_TRUE(images_.Delete(scope_, "x", content::Digest::Sha256Of("manifest")).ok());
  EXPECT_TRUE(absl::IsNotFound(images_.Delete(scope_, "x")));
}

TEST_F(ImageStoreTest, OnlyExpiringImagesAreLeased) {
  record::v1::Lease lease;
  lease.set_id("l");
  ASSERT_TRUE(leases_.Create(scope_, lease).ok());
  const Scope leased{.ns = "default", .lease = "l"};
  ASSERT_TRUE(images_.Create(leased, Image("stays")).ok());
  record::v1::Image expires = Image("expires");
  (*expires.mutable_labels())["containerd.io/gc.expire"] = "2030-01-01T00:00:00Z";
  ASSERT_TRUE(images_.Create(leased, expires).ok());
  EXPECT_EQ(*leases_.ListResources(scope_, "l"),
            (std::vector<LeaseResource>{{.type = "images", .id = "expires"}}));
  ASSERT_TRUE(images_.Delete(leased, "expires").ok());
  EXPECT_TRUE(leases_.ListResources(scope_, "l")->empty());
}

TEST_F(ImageStoreTest, ListIsFilteredAndInNameOrder) {
  for (const char* name : {"c", "a", "b"}) ASSERT_TRUE(images_.Create(scope_, Image(name)).ok());
  ASSERT_TRUE(images_.Create(Scope{.ns = "default2"}, Image("other")).ok());
  auto name = +[](const record::v1::Image& image) { return image.name(); };
  EXPECT_EQ(Names(images_, scope_, {}, name), "a b c ");
  EXPECT_EQ(Names(images_, scope_, {"name==c", "name==a"}, name), "a c ");
}

using ContainerStoreTest = RecordStoresTest;

TEST_F(ContainerStoreTest, CreateAndGetReturnEverythingAsItWas) {
  record::v1::Container container = Container("web-1");
  container.set_image("docker.io/library/x:1");
  container.set_snapshotter("overlayfs");
  container.set_snapshot_key("web-1");
  container.set_sandbox("pod");
  container.mutable_spec()->set_type_url("types.containerd.io/opencontainers/runtime-spec/1/Spec");
  container.mutable_spec()->set_value(std::string("\x00\xff{", 3));
  (*container.mutable_extensions())["x"].set_value("raw");
  container.mutable_runtime()->mutable_options()->set_type_url("containerd.runc.v1.Options");
  ASSERT_TRUE(containers_.Create(scope_, {.record = container, .name = "", .state = {}}).ok());
  auto got = containers_.Get(scope_, "web-1");
  ASSERT_TRUE(got.ok());
  *container.mutable_created_at() = StampOf(clock_.Now());
  *container.mutable_updated_at() = StampOf(clock_.Now());
  EXPECT_EQ(got->SerializeAsString().size(), container.SerializeAsString().size());
  EXPECT_EQ(got->spec().value(), container.spec().value());
  EXPECT_EQ(got->extensions().at("x").value(), "raw");
  EXPECT_EQ(TimeOf(got->created_at()), clock_.Now());
}

TEST_F(ContainerStoreTest, IncompleteContainersAreInvalid) {
  record::v1::Container bad_id = Container("a/b");
  record::v1::Container no_runtime = Container("c");
  no_runtime.clear_runtime();
  record::v1::Container no_spec = Container("c");
  no_spec.clear_spec();
  record::v1::Container no_snapshotter = Container("c");
  no_snapshotter.set_snapshot_key("k");
  record::v1::Container no_key = Container("c");
  (*no_key.mutable_extensions())[""].set_value("x");
  for (const record::v1::Container& container :
       {bad_id, no_runtime, no_spec, no_snapshotter, no_key}) {
    EXPECT_TRUE(absl::IsInvalidArgument(
        containers_.Create(scope_, {.record = container, .name = "", .state = {}}).status()))
        << absl::CHexEscape(container.SerializeAsString());
  }
  ASSERT_TRUE(Create("c", "").ok());
  EXPECT_TRUE(absl::IsAlreadyExists(Create("c", "")));
}

TEST_F(ContainerStoreTest, UpdateKeepsToItsFields) {
  record::v1::Container container = Container("c");
  container.set_image("old");
  (*container.mutable_labels())["l"] = "1";
  (*container.mutable_extensions())["docker"].set_value("d");
  ASSERT_TRUE(containers_.Create(scope_, {.record = container, .name = "", .state = {}}).ok());
  record::v1::Container update;
  update.set_id("c");
  update.set_image("new");
  (*update.mutable_extensions())["cri"].set_value("k");
  auto updated = containers_.Update(scope_, update, {"image", "extensions.cri", "labels.gone"});
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_EQ(updated->image(), "new");
  EXPECT_EQ(updated->extensions().size(), 2u);
  EXPECT_EQ(updated->labels().at("l"), "1");
  EXPECT_TRUE(updated->has_spec());
  EXPECT_TRUE(absl::IsInvalidArgument(containers_.Update(scope_, update, {"runtime"}).status()));
}

TEST_F(ContainerStoreTest, RuntimeAndSnapshotterNeverChange) {
  record::v1::Container container = Container("c");
  container.set_snapshotter("overlayfs");
  ASSERT_TRUE(containers_.Create(scope_, {.record = container, .name = "", .state = {}}).ok());
  record::v1::Container other_snapshotter = container;
  other_snapshotter.set_snapshotter("native");
  EXPECT_TRUE(absl::IsInvalidArgument(containers_.Update(scope_, other_snapshotter, {}).status()));
  record::v1::Container other_runtime = container;
  other_runtime.mutable_runtime()->set_name("other");
  EXPECT_TRUE(absl::IsInvalidArgument(containers_.Update(scope_, other_runtime, {}).status()));
  (*container.mutable_labels())["l"] = "1";
  EXPECT_TRUE(containers_.Update(scope_, container, {}).ok());
}

TEST_F(ContainerStoreTest, StateGoesWithTheContainer) {
  record::v1::ContainerState state;
  state.set_status(record::v1::ContainerState::RUNNING);
  state.set_pid(7);
  ASSERT_TRUE(
      containers_.Create(scope_, {.record = Container("c"), .name = "n", .state = state}).ok());
  EXPECT_EQ((*containers_.GetState(scope_, "c"))->pid(), 7u);
  const auto exit_with_3 = [](record::v1::ContainerState& change) {
    change.set_exit_code(3);
    return absl::OkStatus();
  };
  ASSERT_TRUE(containers_.UpdateState(scope_, "c", exit_with_3).ok());
  std::string listed;
  ASSERT_TRUE(containers_
                  .ListStates(scope_,
                              [&](absl::string_view id, const record::v1::ContainerState* each) {
                                absl::StrAppend(&listed, id, "=", each->exit_code());
                                return absl::OkStatus();
                              })
                  .ok());
  EXPECT_EQ(listed, "c=3");
  ASSERT_TRUE(containers_.Delete(scope_, "c").ok());
  EXPECT_FALSE((*containers_.GetState(scope_, "c")).has_value());
  EXPECT_TRUE(absl::IsNotFound(containers_.UpdateState(scope_, "c", exit_with_3).status()));
  EXPECT_FALSE((*containers_.GetState(scope_, "c")).has_value());
  EXPECT_TRUE(Create("d", "n").ok());
}

TEST_F(ContainerStoreTest, ChangesOfStateFromManyThreadsAreAllKept) {
  ASSERT_TRUE(Create("c", "").ok());
  constexpr int kThreads = 4;
  constexpr int kEach = 50;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([this] {
      for (int n = 0; n < kEach; ++n) {
        EXPECT_TRUE(containers_
                        .UpdateState(
                            scope_, "c",
                            [](record::v1::ContainerState& state) {
                              state.set_restart_count(state.restart_count() + 1);
                              return absl::OkStatus();
                            },
                            Durability::kBuffered)
                        .ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ((*containers_.GetState(scope_, "c"))->restart_count(), 200u);
}

TEST_F(ContainerStoreTest, ChangeOfStateThatFailsStoresNothing) {
  ASSERT_TRUE(Create("c", "").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(containers_
                                             .UpdateState(scope_, "c",
                                                          [](record::v1::ContainerState& state) {
                                                            state.set_pid(7);
                                                            return absl::FailedPreconditionError(
                                                                "no");
                                                          })
                                             .status()));
  EXPECT_EQ((*containers_.GetState(scope_, "c"))->pid(), 0u);
}

TEST_F(ContainerStoreTest, StateHoldsTheTimeOfCreationWhateverItBecomes) {
  ASSERT_TRUE(Create("c", "").ok());
  const auto created_at = containers_.Get(scope_, "c")->created_at();
  const auto of_state = [&] { return (*containers_.GetState(scope_, "c"))->created_at(); };
  ASSERT_GT(created_at.seconds(), 0);
  EXPECT_EQ(of_state().seconds(), created_at.seconds());
  EXPECT_EQ(of_state().nanos(), created_at.nanos());
  const auto written_anew = [](record::v1::ContainerState& state) {
    state.Clear();
    state.set_pid(7);
    return absl::OkStatus();
  };
  ASSERT_TRUE(containers_.UpdateState(scope_, "c", written_anew).ok());
  EXPECT_EQ(of_state().seconds(), created_at.seconds());
  EXPECT_EQ(of_state().nanos(), created_at.nanos());
}

TEST_F(ContainerStoreTest, RawListHoldsTheStoredMessages) {
  ASSERT_TRUE(Create("b", "").ok());
  ASSERT_TRUE(Create("a", "").ok());
  std::string ids;
  ASSERT_TRUE(containers_
                  .ListRaw(scope_,
                           [&](absl::string_view id, absl::string_view bytes) {
                             record::v1::Container container;
                             EXPECT_TRUE(container.ParseFromString(std::string(bytes)));
                             EXPECT_EQ(container.id(), std::string(id));
                             EXPECT_TRUE(container.has_spec());
                             ids += std::string(id);
                             return absl::OkStatus();
                           })
                  .ok());
  EXPECT_EQ(ids, "ab");
}

TEST_F(ContainerStoreTest, TheSpecIsStoredApartAndComesAndGoesWithTheContainer) {
  ASSERT_TRUE(Create("a", "").ok());
  const auto parsed = [](const absl::StatusOr<std::string>& bytes) {
    record::v1::Container container;
    EXPECT_TRUE(bytes.ok() && container.ParseFromString(*bytes)) << bytes.status();
    return container;
  };
  EXPECT_FALSE(parsed(containers_.GetWithoutSpec(scope_, "a")).has_spec());
  EXPECT_TRUE(parsed(containers_.GetRaw(scope_, "a")).has_spec());
  int briefly = 0;
  ASSERT_TRUE(containers_
                  .ListWithoutSpecs(scope_,
                                    [&](absl::string_view, absl::string_view bytes) {
                                      briefly += !parsed(std::string(bytes)).has_spec();
                                      return absl::OkStatus();
                                    })
                  .ok());
  EXPECT_EQ(briefly, 1);

  // A change of something else keeps it, and a change of the spec replaces it.
  record::v1::Container change;
  change.set_id("a");
  change.set_image("other");
  ASSERT_TRUE(containers_.Update(scope_, change, {"image"}).ok());
  EXPECT_EQ(containers_.Get(scope_, "a")->spec().value(), Container("a").spec().value());
  change.mutable_spec()->set_type_url("t");
  change.mutable_spec()->set_value("new");
  ASSERT_TRUE(containers_.Update(scope_, change, {"spec"}).ok());
  EXPECT_EQ(containers_.Get(scope_, "a")->spec().value(), "new");
  EXPECT_EQ(containers_.Get(scope_, "a")->image(), "other");

  ASSERT_TRUE(containers_.Delete(scope_, "a").ok());
  EXPECT_FALSE(db_->Get(Family::kContainerSpecs, MakeKey(scope_.ns, "a"))->has_value());
}

using NameIndexTest = RecordStoresTest;

TEST_F(NameIndexTest, ANameBelongsToOneContainer) {
  ASSERT_TRUE(Create("c1", "web").ok());
  const absl::Status taken = Create("c2", "web");
  EXPECT_TRUE(absl::IsAlreadyExists(taken));
  EXPECT_NE(taken.message().find("c1"), absl::string_view::npos);
  EXPECT_TRUE(absl::IsNotFound(containers_.Get(scope_, "c2").status()));
  EXPECT_TRUE(
      containers_
          .Create(Scope{.ns = "other"}, {.record = Container("c2"), .name = "web", .state = {}})
          .ok());
}

TEST_F(NameIndexTest, ResolvesIdThenNameThenUniquePrefix) {
  ASSERT_TRUE(Create("abc1", "web").ok());
  ASSERT_TRUE(Create("abd2", "abc").ok());
  ASSERT_TRUE(Create("abe3", "abc1x").ok());
  EXPECT_EQ(names_.Resolve(scope_, "abc1")->name, "web");
  EXPECT_EQ(names_.Resolve(scope_, "abc")->id, "abd2");
  EXPECT_EQ(names_.Resolve(scope_, "abe")->name, "abc1x");
  EXPECT_TRUE(absl::IsInvalidArgument(names_.Resolve(scope_, "ab").status()));
  EXPECT_TRUE(absl::IsNotFound(names_.Resolve(scope_, "zz").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(names_.Resolve(scope_, "").status()));
}

TEST_F(NameIndexTest, RenameGivesTheOldNameUp) {
  ASSERT_TRUE(Create("c1", "old").ok());
  ASSERT_TRUE(Create("c2", "taken").ok());
  ASSERT_TRUE(names_.Rename(scope_, "c1", "new").ok());
  EXPECT_EQ(*names_.NameOf(scope_, "c1"), "new");
  EXPECT_TRUE(absl::IsNotFound(names_.Resolve(scope_, "old").status()));
  EXPECT_TRUE(absl::IsAlreadyExists(names_.Rename(scope_, "c1", "taken")));
  EXPECT_EQ(*names_.NameOf(scope_, "c1"), "new");
  EXPECT_TRUE(names_.Rename(scope_, "c1", "new").ok());
  EXPECT_TRUE(absl::IsNotFound(names_.Rename(scope_, "c9", "x")));
  EXPECT_TRUE(Create("c3", "old").ok());
}

TEST_F(NameIndexTest, OneOfManyRacersGetsTheName) {
  std::vector<std::thread> threads;
  std::atomic<int> winners = 0;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] { winners += Create(absl::StrCat("c", t), "web").ok() ? 1 : 0; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(winners, 1);
}

using LeaseStoreTest = RecordStoresTest;

TEST_F(LeaseStoreTest, AnIdIsMadeUpWhenNoneIsGiven) {
  auto a = leases_.Create(scope_, {});
  auto b = leases_.Create(scope_, {});
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_NE(a->id(), b->id());
  record::v1::Lease named;
  named.set_id(a->id());
  EXPECT_TRUE(absl::IsAlreadyExists(leases_.Create(scope_, named).status()));
}

TEST_F(LeaseStoreTest, ResourcesAreListedByTypeThenId) {
  auto lease = leases_.Create(scope_, {});
  const std::string digest = content::Digest::Sha256Of("x").str();
  for (const LeaseResource& resource : std::vector<LeaseResource>{{"snapshots/overlayfs", "k2"},
                                                                  {"ingests", "r"},
                                                                  {"snapshots/overlayfs", "k1"},
                                                                  {"images", "i"},
                                                                  {"content", digest}}) {
    ASSERT_TRUE(leases_.AddResource(scope_, lease->id(), resource).ok()) << resource.type;
    ASSERT_TRUE(leases_.AddResource(scope_, lease->id(), resource).ok()) << resource.type;
  }
  EXPECT_EQ(*leases_.ListResources(scope_, lease->id()),
            (std::vector<LeaseResource>{{"content", digest},
                                        {"images", "i"},
                                        {"ingests", "r"},
                                        {"snapshots/overlayfs", "k1"},
                                        {"snapshots/overlayfs", "k2"}}));
  ASSERT_TRUE(leases_.RemoveResource(scope_, lease->id(), {"images", "i"}).ok());
  EXPECT_EQ(leases_.ListResources(scope_, lease->id())->size(), 4u);
}

TEST_F(LeaseStoreTest, MalformedResourcesAreRefused) {
  auto lease = leases_.Create(scope_, {});
  auto code = [&](const LeaseResource& resource) {
    return leases_.AddResource(scope_, lease->id(), resource).code();
  };
  EXPECT_EQ(code({"content", "sha256:short"}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({"snapshots", "k"}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({"snapshots/", "k"}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({"snapshots/a/b", "k"}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({"", "k"}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({"images", ""}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({"volumes", "v"}), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(leases_.AddResource(scope_, "unknown", {"ingests", "r"}).code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(leases_.ListResources(scope_, "unknown").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(LeaseStoreTest, DeleteTakesTheListAlong) {
  record::v1::Lease lease;
  lease.set_id("l");
  ASSERT_TRUE(leases_.Create(scope_, lease).ok());
  ASSERT_TRUE(leases_.AddResource(scope_, "l", {"ingests", "r"}).ok());
  ASSERT_TRUE(leases_.Delete(scope_, "l").ok());
  EXPECT_TRUE(absl::IsNotFound(leases_.Delete(scope_, "l")));
  ASSERT_TRUE(leases_.Create(scope_, lease).ok());
  EXPECT_TRUE(leases_.ListResources(scope_, "l")->empty());
}

using NamespaceStoreTest = RecordStoresTest;

TEST_F(NamespaceStoreTest, TheFirstObjectMakesTheNamespace) {
  EXPECT_TRUE(namespaces_.Get("default")->labels().empty());
  EXPECT_EQ(namespaces_.Get("default")->name(), "default");
  ASSERT_TRUE(Create("c", "").ok());
  std::string all;
  ASSERT_TRUE(namespaces_
                  .List([&](const record::v1::Namespace& ns) {
                    all += ns.name() + " ";
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_EQ(all, "default ");
}

TEST_F(NamespaceStoreTest, AFailedFirstObjectMakesNone) {
  EXPECT_TRUE(absl::IsNotFound(containers_.Delete(scope_, "c")));
  record::v1::Namespace ns;
  ns.set_name("default");
  EXPECT_TRUE(namespaces_.Create(ns).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(namespaces_.Create(ns).status()));
}

TEST_F(NamespaceStoreTest, LabelsAreSetOneByOneOrAllTogether) {
  record::v1::Namespace ns;
  ns.set_name("n");
  (*ns.mutable_labels())["a"] = "1";
  (*ns.mutable_labels())["b"] = "2";
  ASSERT_TRUE(namespaces_.Create(ns).ok());
  record::v1::Namespace update;
  update.set_name("n");
  (*update.mutable_labels())["b"] = "3";
  EXPECT_TRUE(absl::IsInvalidArgument(namespaces_.Update(update, {"labels"}).status()));
  EXPECT_EQ(LabelsOf(namespaces_.Update(update, {"labels.b"})->labels()),
            (std::map<std::string, std::string>{{"a", "1"}, {"b", "3"}}));
  EXPECT_EQ(LabelsOf(namespaces_.Update(update, {})->labels()),
            (std::map<std::string, std::string>{{"b", "3"}}));
  // The first label makes it.
  update.set_name("unknown");
  EXPECT_EQ(LabelsOf(namespaces_.Update(update, {"labels.b"})->labels()),
            (std::map<std::string, std::string>{{"b", "3"}}));
  EXPECT_TRUE(absl::IsAlreadyExists(namespaces_.Create(update).status()));
}

TEST_F(NamespaceStoreTest, DeleteSaysWhatIsStillInIt) {
  EXPECT_TRUE(absl::IsNotFound(namespaces_.Delete("default")));
  ASSERT_TRUE(Create("c", "").ok());
  ASSERT_TRUE(images_.Create(scope_, Image("x")).ok());
  SnapshotNamespace snapshots =
      SnapshotNamespace::Create(snapshotters_, "native", *db_, scope_).value();
  ASSERT_TRUE(snapshots.Prepare("k", "", {}).ok());
  ASSERT_TRUE(leases_.Create(scope_, {}).ok());
  const absl::Status refused = namespaces_.Delete("default");
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  for (const char* kind : {"images", "containers", "snapshots on \"native\""}) {
    EXPECT_NE(refused.message().find(kind), absl::string_view::npos) << refused;
  }
  EXPECT_EQ(refused.message().find("blobs"), absl::string_view::npos) << refused;
  ASSERT_TRUE(containers_.Delete(scope_, "c").ok());
  ASSERT_TRUE(images_.Delete(scope_, "x").ok());
  ASSERT_TRUE(snapshots.Remove("k").ok());
  ASSERT_TRUE(namespaces_.Delete("default").ok());
  std::string leases;
  ASSERT_TRUE(leases_
                  .List(scope_, {},
                        [&](const record::v1::Lease& lease) {
                          leases += lease.id();
                          return absl::OkStatus();
                        })
                  .ok());
  EXPECT_EQ(leases, "");
}

TEST_F(NamespaceStoreTest, DeletionNeverLeavesAnObjectWithoutNamespace) {
  // A container is created and removed again and again while the namespace is deleted as often:
  // whenever the container is there, so is the namespace.
  std::atomic<bool> stop = false;
  std::thread deleter([&] {
    while (!stop) namespaces_.Delete("default").IgnoreError();
  });
  for (int i = 0; i < 100; ++i) {
    const absl::Status created =
        containers_
            .Create(scope_, {.record = Container("c"), .name = "n", .state = {}},
                    Durability::kBuffered)
            .status();
    ASSERT_TRUE(created.ok()) << created;
    EXPECT_TRUE(db_->Get(Family::kNamespaces, "default")->has_value());
    ASSERT_TRUE(containers_.Delete(scope_, "c", Durability::kBuffered).ok());
  }
  stop = true;
  deleter.join();
}

using SandboxStoreTest = RecordStoresTest;

TEST_F(SandboxStoreTest, CreateUpdateDelete) {
  record::v1::Sandbox sandbox;
  sandbox.set_sandbox_id("pod");
  sandbox.mutable_runtime()->set_name("runc");
  sandbox.set_sandboxer("podsandbox");
  ASSERT_TRUE(sandboxes_.Create(scope_, sandbox).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(sandboxes_.Create(scope_, sandbox).status()));
  record::v1::Sandbox update;
  update.set_sandbox_id("pod");
  (*update.mutable_extensions())["e"].set_value("v");
  auto updated = sandboxes_.Update(scope_, update, {"extensions.e"});
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_EQ(updated->extensions().size(), 1u);
  EXPECT_EQ(updated->sandboxer(), "podsandbox");
  update.mutable_runtime()->set_name("other");
  EXPECT_TRUE(absl::IsInvalidArgument(sandboxes_.Update(scope_, update, {"runtime"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(sandboxes_.Update(scope_, update, {"sandboxer"}).status()));
  ASSERT_TRUE(sandboxes_.Delete(scope_, "pod").ok());
  EXPECT_TRUE(absl::IsNotFound(sandboxes_.Get(scope_, "pod").status()));
}

TEST(RecordValuesTest, TimesKeepTheirNanoseconds) {
  const absl::Time before_epoch = absl::UnixEpoch() - absl::Nanoseconds(1);
  for (absl::Time time : {absl::FromUnixNanos(1'700'000'000'123'456'789), before_epoch})
    EXPECT_EQ(TimeOf(StampOf(time)), time);
  google::protobuf::Timestamp go_zero;
  go_zero.set_seconds(-62135596800);
  EXPECT_EQ(TimeOf(go_zero), absl::InfinitePast());
  EXPECT_EQ(TimeOf({}), absl::InfinitePast());
}

}  // namespace
}  // namespace gantry::metadata
