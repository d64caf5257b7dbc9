// The classes of volumes on top of ContainerFixture, in a mount namespace of the test's own.
//
// What mounts needs root: without it tests skip. Not thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_VOLUME_FIXTURE_H_
#define GANTRY_SUPERVISOR_CORE_VOLUME_FIXTURE_H_

#include <sys/mount.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "proto/gantry/v1/volumes.pb.h"
#include "supervisor/core/container_fixture.h"
#include "supervisor/core/own_mounts.h"
#include "supervisor/core/run_volumes.h"
#include "supervisor/core/volume_service.h"
#include "supervisor/volume/local_driver.h"

namespace gantry::core {

class VolumeFixture : public ContainerFixture {
 protected:
  static void SetUpTestSuite() { EnterOwnMounts(); }

  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    MakeServices();
  }

  // As a daemon makes them at its start.
  void MakeServices() {
    VolumeService::Parts volumes;
    volumes.store = &store_;
    volumes.local = local_.get();
    volumes.stores = &stores_;
    volumes.clock = &clock_;
    volumes.events = &events_;
    volumes_ = std::make_unique<VolumeService>(volumes);
    runs_of_volumes_ = std::make_unique<RunVolumes>(
        RunVolumes::Parts{&store_, local_.get(), volumes_.get(), dir_.Join("state")});
  }

  void CreateVolume(const std::string& name,
                    const std::map<std::string, std::string>& options = {}) {
    v1::CreateVolumeRequest request;
    request.set_name(name);
    for (const auto& [key, value] : options) (*request.mutable_options())[key] = value;
    const absl::Status created = volumes_->Create(context_, request).status();
    ASSERT_TRUE(created.ok()) << created;
  }
  // A volume whose data is a tmpfs while it is in use.
  void CreateTmpfs(const std::string& name) {
    CreateVolume(name, {{"type", "tmpfs"}, {"device", "tmpfs"}, {"o", "size=1m"}});
  }
  absl::Status RemoveVolume(const std::string& name) {
    v1::RemoveVolumeRequest request;
    request.set_name(name);
    return volumes_->Remove(context_, request).status();
  }
  bool HasVolume(const std::string& name) {
    v1::InspectVolumeRequest request;
    request.set_name(name);
    return volumes_->Inspect(context_, request).ok();
  }
  std::string Data(const std::string& volume) const { return local_->DataDirectory({kNs, volume}); }
  void Write(const std::string& volume, const std::string& path, const std::string& bytes) {
    const std::string whole = absl::StrCat(Data(volume), "/", path);
    ASSERT_TRUE(MakeDirectories(whole.substr(0, whole.rfind('/')), 0755).ok());
    ASSERT_TRUE(WriteFile(whole, bytes).ok()) << whole;
  }
  // What is in the file; "(none)" where there is none.
  std::string ReadIn(const std::string& volume, const std::string& path) const {
    return ReadFile(absl::StrCat(Data(volume), "/", path), 1 << 20).value_or("(none)");
  }
  bool Mounted(const std::string& path) const {
    return absl::StrContains(ReadFile("/proc/self/mountinfo", 4 << 20).value(),
                             absl::StrCat(" ", path, " "));
  }
  // What lies in the directory of mounts for the length of a call.
  std::vector<std::string> Places() const {
    return ListDirectory(dir_.Join("state/mounts")).value_or(std::vector<std::string>());
  }

  static v1::Mount VolumeMount(const std::string& volume, const std::string& target,
                               const std::string& subpath = "") {
    v1::Mount mount;
    mount.set_type(v1::Mount::VOLUME);
    mount.set_source(volume);
    mount.set_volume_name(volume);
    mount.set_target(target);
    mount.set_subpath(subpath);
    return mount;
  }
  LoadedContainer MakeWith(const std::string& name, const std::vector<v1::Mount>& mounts) {
    v1::ContainerConfig config = Config();
    for (const v1::Mount& mount : mounts) *config.add_mounts() = mount;
    return records_->Load(context_, Make(name, config)).value();
  }

  metadata::VolumeStore store_{*db_};
  std::unique_ptr<volume::LocalDriver> local_ =
      volume::LocalDriver::Open(dir_.Join("root")).value();
  std::unique_ptr<VolumeService> volumes_;
  std::unique_ptr<RunVolumes> runs_of_volumes_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_VOLUME_FIXTURE_H_
