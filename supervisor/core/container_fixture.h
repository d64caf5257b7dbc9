// Core's container classes on a temporary database and fake shims: a daemon without doors, for
// their tests.
//
// Begin() and End() are a daemon's life: what was recorded and the bundles outlive it. Not
// thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_FIXTURE_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_FIXTURE_H_

#include <sys/stat.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/temp_dir.h"
#include "content-store/local_store.h"
#include "snapshotter/native_snapshotter.h"
#include "snapshotter/snapshot_index.h"
#include "supervisor/core/container_intent.h"
#include "supervisor/core/container_lifecycle.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/container_recovery.h"
#include "supervisor/core/container_removal.h"
#include "supervisor/core/container_state.h"
#include "supervisor/core/container_steps.h"
#include "supervisor/core/container_streams.h"
#include "supervisor/core/container_view.h"
#include "supervisor/core/container_wait.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/event_subjects.h"
#include "supervisor/core/health_board.h"
#include "supervisor/core/mount_points.h"
#include "supervisor/core/prepare_run.h"
#include "supervisor/core/removal_waits.h"
#include "supervisor/core/start_waits.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"
#include "supervisor/core/task_supervision.h"
#include "supervisor/oci/host_facts.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/fake_launcher.h"
#include "supervisor/runtime/runtime_probe.h"
#include "supervisor/runtime/shim_recovery.h"

namespace gantry::core {

class ContainerFixture : public testing::Test {
 protected:
  static constexpr char kNs[] = "default";
  static constexpr absl::Duration kPatience = absl::Seconds(20);

  ContainerFixture() {
    context_.ns = kNs;
    const std::string runtime = dir_.Join("crun");
    EXPECT_TRUE(
        WriteFile(runtime, "#!/bin/sh\necho \"crun version 1.8.1\"\necho \"spec: 1.0.0\"\n").ok());
    EXPECT_EQ(chmod(runtime.c_str(), 0755), 0);
    runtime::RuntimeSettings settings;
    settings.path = runtime;
    settings.state_root = dir_.Join("runtime");
    runtimes_ = std::make_unique<runtime::RuntimeProbe>(
        std::map<std::string, runtime::RuntimeSettings>{{"fake", settings}}, dir_.path(), "fake");
    bundles_ = runtime::BundleStore::Open(dir_.Join("state"), /*private_mount=*/false).value();
    snapshotters_.Add("native", *native_);
    Begin();
  }
  ~ContainerFixture() override { End(); }

  void Begin() {
    workers_ = std::make_unique<Executor>("worker", 8);
    TaskService::Parts tasks;
    tasks.bundles = bundles_.get();
    tasks.runtimes = runtimes_.get();
    tasks.launcher = &launcher_;
    tasks.warmer = nullptr;
    tasks.events = &events_;
    tasks.workers = workers_.get();
    tasks.host = &host_;
    tasks.shim_patience = absl::Milliseconds(200);
    tasks_ = std::make_unique<TaskService>(tasks);

    ContainerRecords::Parts records;
    records.stores = &stores_;
    records.events = &events_;
    records.root_directory = dir_.Join("root");
    records.state_directory = dir_.Join("state");
    records_ = std::make_unique<ContainerRecords>(records);

    ContainerRemoval::Parts removal;
    removal.records = records_.get();
    removal.stores = &stores_;
    removal.events = &events_;
    removal.subjects = &subjects_;
    removal.tasks = tasks_.get();
    removal.workers = workers_.get();
    removal.waits = &waits_;
    removal.starts = &starts_;
    removal.first_pause = absl::Milliseconds(5);
    removal_ = std::make_unique<ContainerRemoval>(removal);

    RunPreparer::Parts runs;
    runs.records = records_.get();
    runs.stores = &stores_;
    runs.tasks = &tasks_->view();
    runs.mount_points = &mount_points_;
    runs_ = std::make_unique<RunPreparer>(runs);

    ContainerSteps::Parts steps;
    steps.records = records_.get();
    steps.stores = &stores_;
    steps.tasks = tasks_.get();
    steps.runs = runs_.get();
    steps.removal = removal_.get();
    steps.starts = &starts_;
    steps_ = std::make_unique<ContainerSteps>(steps);

    ContainerView::Parts view;
    view.records = records_.get();
    view.stores = &stores_;
    view.health = &health_;
    view.tasks = &tasks_->view();
    view.runtimes = runtimes_.get();
    view_ = std::make_unique<ContainerView>(view);

    ContainerLifecycle::Parts lifecycle;
    lifecycle.records = records_.get();
    lifecycle.steps = steps_.get();
    lifecycle.runs = runs_.get();
    lifecycle.removal = removal_.get();
    lifecycle.view = view_.get();
    lifecycle.stores = &stores_;
    lifecycle.events = &events_;
    lifecycle.tasks = tasks_.get();
    lifecycle.images = nullptr;  // containers are made by Make()
    lifecycle.unpack = nullptr;
    lifecycle.host = &host_;
    lifecycle.runtimes = runtimes_.get();
    lifecycle.state_directory = dir_.Join("state");
    lifecycle_ = std::make_unique<ContainerLifecycle>(lifecycle);

    streams_ = std::make_unique<ContainerStreams>(
        ContainerStreams::Parts{records_.get(), steps_.get(), tasks_.get(), &starts_});

    ContainerWait::Parts wait;
    wait.records = records_.get();
    wait.steps = steps_.get();
    wait.tasks = tasks_.get();
    wait.workers = workers_.get();
    wait.removals = &waits_;
    wait_ = std::make_unique<ContainerWait>(wait);

    ContainerRecovery::Parts recovery;
    recovery.records = records_.get();
    recovery.steps = steps_.get();
    recovery.removal = removal_.get();
    recovery.stores = &stores_;
    recovery.tasks = tasks_.get();
    recovery.workers = workers_.get();
    recovery.root_directory = dir_.Join("root");
    recovery.state_directory = dir_.Join("state");
    recovery.first_pause = absl::Milliseconds(5);
    recovery_ = std::make_unique<ContainerRecovery>(recovery);
    TaskSupervision(*tasks_).SetExitObserver(recovery_.get());
  }

  void End() {
    if (tasks_ == nullptr) return;
    records_->locks().Stop("gantryd is stopping");
    recovery_->Stop();
    removal_->Stop();
    TaskSupervision(*tasks_).Stop();
    workers_.reset();
    recovery_.reset();
    wait_.reset();
    streams_.reset();
    lifecycle_.reset();
    view_.reset();
    steps_.reset();
    runs_.reset();
    removal_.reset();
    records_.reset();
    tasks_.reset();
  }

  // A new daemon, which knows of the shims what RecoverShims() finds. `settled`: what its recovery
  // hands to other threads has been done.
  void BeginAgain(bool settled = true) {
    End();
    Begin();
    TaskSupervision(*tasks_).Recover(
        runtime::RecoverShims(*bundles_, absl::Milliseconds(500)).value());
    if (settled) workers_->WaitIdle();
    EXPECT_TRUE(recovery_->Reconcile().ok());
  }

  static v1::ContainerConfig Config(const std::string& restart_policy = "") {
    v1::ContainerConfig config;
    config.set_image("image");
    config.add_command("true");
    config.mutable_restart_policy()->set_name(restart_policy);
    return config;
  }

  // A container as ContainerLifecycle::Create() leaves it. Returns its id.
  std::string Make(const std::string& name, const v1::ContainerConfig& config = Config(),
                   bool starting = false) {
    metadata::NewContainer fresh;
    fresh.name = name;
    fresh.state.emplace();
    fresh.state->set_starting(starting);
    record::v1::Container& record = fresh.record;
    record.set_id(name + "0123456789abcdef");
    record.set_image("image");
    *record.mutable_labels() = config.labels();
    record.mutable_runtime()->set_name("io.containerd.runc.v2");
    record.mutable_spec()->set_type_url("spec");
    record.mutable_spec()->set_value(
        R"({"ociVersion":"1.0.2","process":{"args":["true"],"cwd":"/"},"root":{"path":"rootfs"},)"
        R"("linux":{"cgroupsPath":"/gantry-test-nowhere/c"}})");
    record.set_snapshotter("native");
    record.set_snapshot_key(record.id());
    WriteIntent(config, record);
    metadata::SnapshotNamespace snapshots = stores_.Snapshots("native", {kNs, ""}).value();
    EXPECT_TRUE(snapshots.Prepare(record.id(), "", {}).ok());
    EXPECT_TRUE(MakeDirectories(records_->Directory(kNs, record.id()), 0710).ok());
    EXPECT_TRUE(MakeDirectories(records_->GeneratedDirectory(kNs, record.id(), config), 0710).ok());
    const auto created = stores_.containers.Create({kNs, ""}, fresh);
    EXPECT_TRUE(created.ok()) << created.status();
    return record.id();
  }

  absl::Status Start(const std::string& container) {
    v1::StartContainerRequest request;
    request.set_container(container);
    return lifecycle_->Start(context_, request).status();
  }
  absl::Status Stop(const std::string& container, int seconds) {
    v1::StopContainerRequest request;
    request.set_container(container);
    request.set_timeout_seconds(seconds);
    return lifecycle_->Stop(context_, request).status();
  }
  absl::Status Remove(const std::string& container, bool force = false) {
    v1::RemoveContainerRequest request;
    request.set_container(container);
    request.set_force(force);
    return lifecycle_->Remove(context_, request).status();
  }
  v1::ContainerDetails Inspect(const std::string& container) {
    absl::StatusOr<v1::ContainerDetails> details = view_->Inspect(context_, container, false);
    EXPECT_TRUE(details.ok()) << details.status();
    return details.ok() ? *std::move(details) : v1::ContainerDetails();
  }
  v1::ContainerState StateIs(const std::string& container) {
    return Inspect(container).summary().state();
  }
  record::v1::ContainerState Stored(const std::string& id) {
    return stores_.containers.GetState({kNs, ""}, id)->value_or(record::v1::ContainerState());
  }
  bool Exists(const std::string& container) {
    return !absl::IsNotFound(records_->Load(context_, container).status());
  }
  runtime::FakeShim& Shim(const std::string& id) { return launcher_.Find({kNs, id}); }

  // Looks until it holds; false after kPatience.
  template <class Condition>
  static bool Eventually(Condition condition) {
    const absl::Time limit = absl::Now() + kPatience;
    while (!condition()) {
      if (absl::Now() > limit) return false;
      absl::SleepFor(absl::Milliseconds(2));
    }
    return true;
  }

  TempDir dir_;
  CallContext context_;
  oci::HostFacts host_;
  EventBus events_;
  std::unique_ptr<runtime::RuntimeProbe> runtimes_;
  std::unique_ptr<runtime::BundleStore> bundles_;
  runtime::FakeLauncher launcher_;

  const Clock& clock_ = Clock::Real();
  std::unique_ptr<metadata::Database> db_ = metadata::Database::Open(dir_.Join("root")).value();
  std::unique_ptr<content::LocalStore> blobs_ =
      content::LocalStore::Open(dir_.Join("content")).value();
  metadata::BlobPool pool_{*blobs_, *db_};
  std::unique_ptr<snapshot::Snapshotter> native_ =
      snapshot::NativeSnapshotter::Open(
          dir_.Join("native"),
          snapshot::SnapshotIndex::Open(db_->rocks(), db_->snapshot_family(), "native").value())
          .value();
  metadata::Snapshotters snapshotters_;
  metadata::ImageStore images_{*db_, clock_};
  metadata::ContainerStore containers_{*db_, clock_};
  metadata::LeaseStore leases_{*db_, clock_};
  metadata::NamespaceStore namespaces_{*db_, snapshotters_, clock_};
  metadata::SandboxStore sandboxes_{*db_, clock_};
  metadata::NameIndex names_{*db_};
  Stores stores_{*db_,    pool_,       snapshotters_, clock_, images_, containers_,
                 leases_, namespaces_, sandboxes_,    names_, "native"};
  EventSubjects subjects_{containers_, names_};
  HealthBoard health_;
  RemovalWaits waits_;
  StartWaits starts_;
  MountPoints mount_points_ = MountPoints::Open(dir_.Join("root")).value();

  std::unique_ptr<Executor> workers_;
  std::unique_ptr<TaskService> tasks_;
  std::unique_ptr<ContainerRecords> records_;
  std::unique_ptr<ContainerRemoval> removal_;
  std::unique_ptr<RunPreparer> runs_;
  std::unique_ptr<ContainerSteps> steps_;
  std::unique_ptr<ContainerView> view_;
  std::unique_ptr<ContainerLifecycle> lifecycle_;
  std::unique_ptr<ContainerStreams> streams_;
  std::unique_ptr<ContainerWait> wait_;
  std::unique_ptr<ContainerRecovery> recovery_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_FIXTURE_H_
