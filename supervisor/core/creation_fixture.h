// Containers from images, on top of ContainerFixture: what a test needs that creates containers as
// clients do, pods and builds included.
//
// Needs root, because users are looked up in the mounted root file system: without it tests skip.
// Not thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_CREATION_FIXTURE_H_
#define GANTRY_SUPERVISOR_CORE_CREATION_FIXTURE_H_

#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "base/file.h"
#include "base/tar/entry.h"
#include "base/tar/writer.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "supervisor/core/brief_containers.h"
#include "supervisor/core/container_fixture.h"
#include "supervisor/core/container_volumes.h"
#include "supervisor/core/image_assembly.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/image_unpack.h"
#include "supervisor/core/run_volumes.h"
#include "supervisor/core/volume_service.h"
#include "supervisor/distribution/puller.h"
#include "supervisor/distribution/unpacker.h"
#include "supervisor/gc/collector.h"
#include "supervisor/gc/scheduler.h"

namespace gantry::core {

class CreationFixture : public ContainerFixture {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    scheduler_ = std::make_unique<gc::Scheduler>(collector_, gc::SchedulerOptions(),
                                                 [](const absl::StatusOr<gc::Collection>&) {});
    catalog_ =
        std::make_unique<ImageCatalog>(ImageCatalog::Parts{&stores_, &events_, scheduler_.get()});
    unpack_ = std::make_unique<ImageUnpack>(
        ImageUnpack::Parts{&stores_, &unpacker_, &puller_, /*credentials=*/nullptr});
    ContainerLifecycle::Parts parts = {};
    parts.records = records_.get();
    parts.steps = steps_.get();
    parts.runs = runs_.get();
    parts.removal = removal_.get();
    parts.view = view_.get();
    parts.stores = &stores_;
    parts.events = &events_;
    parts.tasks = tasks_.get();
    parts.images = catalog_.get();
    parts.unpack = unpack_.get();
    parts.host = &host_;
    parts.runtimes = runtimes_.get();
    parts.state_directory = dir_.Join("state");
    VolumeService::Parts volumes;
    volumes.store = &volume_store_;
    volumes.local = local_volumes_.get();
    volumes.stores = &stores_;
    volumes.clock = &clock_;
    volumes.events = &events_;
    volumes_ = std::make_unique<VolumeService>(volumes);
    run_volumes_ = std::make_unique<RunVolumes>(RunVolumes::Parts{
        &volume_store_, local_volumes_.get(), volumes_.get(), dir_.Join("state")});
    given_ = std::make_unique<ContainerVolumes>(ContainerVolumes::Parts{
        volumes_.get(), records_.get(), run_volumes_.get(), dir_.Join("state")});
    parts.volumes = given_.get();
    maker_ = std::make_unique<ContainerLifecycle>(parts);
    image_.cmd = {"serve"};
    image_.platform.os = "linux";
    image_.platform.architecture = "amd64";
  }

  // Writes `image_`, with one layer that holds the user files, under this name.
  void WriteImageAs(const std::string& name) {
    metadata::ContentNamespace content = stores_.Content({kNs, ""});
    ImageAssembly assembly;
    const absl::StatusOr<ImageLayer> layer =
        assembly.LayerFrom(content, "test", [](ByteSink& out) -> absl::Status {
          TarWriter tar(out);
          for (const auto& [path, bytes] :
               {std::pair("etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:1000:100::/home/ann:\n"),
                std::pair("etc/group", "root:x:0:\nusers:x:100:\nstaff:x:50:ann\n")}) {
            TarEntry entry;
            entry.path = path;
            entry.mode = 0644;
            if (absl::Status status = tar.WriteFile(entry, bytes); !status.ok()) return status;
          }
          return tar.Finish();
        });
    ASSERT_TRUE(layer.ok()) << layer.status();
    oci::Manifest manifest;
    manifest.media_type = oci::kOciManifest;
    ImageAssembly::Stack(*layer, {}, absl::FromUnixSeconds(1000), image_, manifest);
    const absl::StatusOr<content::Descriptor> target =
        assembly.WriteImage(content, image_, manifest);
    ASSERT_TRUE(target.ok()) << target.status();
    ASSERT_TRUE(catalog_->Name(context_, name, *target).ok());
    target_ = *target;
  }

  absl::StatusOr<v1::CreateContainerResponse> Create(const v1::ContainerConfig& config,
                                                     const std::string& name = "",
                                                     CreateFor purpose = CreateFor::kLater) {
    v1::CreateContainerRequest request;
    request.set_name(name);
    *request.mutable_config() = config;
    return maker_->Create(context_, request, purpose);
  }
  // The id of a container that must be made.
  std::string MustCreate(const v1::ContainerConfig& config, const std::string& name = "") {
    const absl::StatusOr<v1::CreateContainerResponse> created = Create(config, name);
    EXPECT_TRUE(created.ok()) << created.status();
    return created.ok() ? created->id() : "";
  }
  static v1::ContainerConfig Of(const std::string& image) {
    v1::ContainerConfig config;
    config.set_image(image);
    return config;
  }
  nlohmann::json Spec(const std::string& container) {
    return nlohmann::json::parse(records_->Load(context_, container)->record.spec().value(),
                                 nullptr, /*allow_exceptions=*/false);
  }
  std::string Generated(const std::string& id, const std::string& file) {
    return ReadFile(dir_.Join(absl::StrCat("root/containers/default/", id, "/", file)), 1 << 16)
        .value_or("<not there>");
  }

  // What there is of containers, leases and active snapshots, on disk and in the records.
  std::vector<std::string> Traces() {
    std::vector<std::string> traces;
    const absl::StatusOr<std::vector<LoadedContainer>> all = AllBriefly(stores_, kNs);
    EXPECT_TRUE(all.ok()) << all.status();
    if (!all.ok()) return traces;
    for (const LoadedContainer& one : *all) traces.push_back("container " + one.id());
    EXPECT_TRUE(stores_.leases
                    .List({kNs, ""}, metadata::Filter(),
                          [&](const record::v1::Lease& lease) {
                            traces.push_back("lease " + lease.id());
                            return absl::OkStatus();
                          })
                    .ok());
    EXPECT_TRUE(stores_.Snapshots("native", {kNs, ""})
                    ->Walk([&](const snapshot::Info& info) {
                      if (info.kind != snapshot::Kind::kCommitted)
                        traces.push_back("snapshot " + info.name);
                      return absl::OkStatus();
                    })
                    .ok());
    for (const char* directory :
         {"root/containers/default", "state/containers/default", "state/mounts"}) {
      const absl::StatusOr<std::vector<std::string>> names = ListDirectory(dir_.Join(directory));
      if (!names.ok()) continue;
      for (const std::string& name : *names) traces.push_back(absl::StrCat(directory, "/", name));
    }
    return traces;
  }

  gc::Collector collector_{*db_, pool_, snapshotters_, clock_};
  std::unique_ptr<gc::Scheduler> scheduler_;
  std::unique_ptr<ImageCatalog> catalog_;
  distribution::Unpacker unpacker_{distribution::UnpackerOptions()};
  // Without a registry: every layer is in the store.
  distribution::Puller puller_{nullptr, distribution::FetcherOptions()};
  std::unique_ptr<ImageUnpack> unpack_;
  metadata::VolumeStore volume_store_{*db_};
  std::unique_ptr<volume::LocalDriver> local_volumes_ =
      volume::LocalDriver::Open(dir_.Join("root")).value();
  std::unique_ptr<VolumeService> volumes_;
  std::unique_ptr<RunVolumes> run_volumes_;
  std::unique_ptr<ContainerVolumes> given_;
  std::unique_ptr<ContainerLifecycle> maker_;
  oci::ImageConfig image_;
  content::Descriptor target_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CREATION_FIXTURE_H_
