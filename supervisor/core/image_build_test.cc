// The files of an image that is being built: layers on top of each other, from changes and from
// containers, and what is left of a build that ended.
//
// Needs root: layers are changed in their mounted root file systems.
#include "supervisor/core/image_build.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "base/compression.h"
#include "base/tar/entry.h"
#include "base/tar/reader.h"
#include "base/unique_fd.h"
#include "supervisor/core/build_exchange.h"
#include "supervisor/core/creation_fixture.h"
#include "supervisor/core/own_mounts.h"

namespace gantry::core {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::UnorderedElementsAre;

using Session = ImageBuild::Session;

class ImageBuildTest : public CreationFixture {
 protected:
  static void SetUpTestSuite() { EnterOwnMounts(); }

  void SetUp() override {
    CreationFixture::SetUp();
    if (IsSkipped()) return;
    ImageBuild::Parts parts = {};
    parts.stores = &stores_;
    parts.catalog = catalog_.get();
    parts.unpack = unpack_.get();
    parts.pull = &pull_;
    parts.assembly = &assembly_;
    parts.records = records_.get();
    parts.containers = maker_.get();
    parts.streams = streams_.get();
    parts.waits = wait_.get();
    parts.state_directory = dir_.Join("state");
    parts.sync_blobs = [this] {
      ++syncs_;
      return sync_;
    };
    build_ = std::make_unique<ImageBuild>(parts);
    WriteImageAs("docker.io/library/base:1");
    session_ = build_->Begin(context_).value();
  }
  // After each build nothing of it is mounted or lies about.
  void TearDown() override {
    session_.reset();
    const auto left = ListDirectory(dir_.Join("state/mounts"));
    if (left.ok()) {
      EXPECT_THAT(*left, IsEmpty());
    }
  }

  BuildBase Base() {
    absl::StatusOr<BuildBase> base =
        session_->Base("base:1", "", Session::Pull::kMissing, {}, nullptr);
    EXPECT_TRUE(base.ok()) << base.status();
    return base.value_or(BuildBase());
  }
  // Writes a file into the root that a change has.
  static absl::Status Put(const std::string& path, const std::string& bytes) {
    return WriteFile(path, bytes);
  }
  absl::StatusOr<BuildRoot> With(const BuildRoot& root, const std::string& path,
                                 const std::string& bytes) {
    return session_->Change(root, "copy", {},
                            [&](const Session::Trees&) { return Put(path, bytes); });
  }
  static std::string ReadAt(int directory, const std::string& path) {
    const UniqueFd fd(openat(directory, path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return "(none)";
    FdSource source(fd.get());
    return ReadAll(source, 1 << 20).value();
  }
  // What a root shows.
  std::string Seen(const BuildRoot& root, const std::string& path) {
    std::string bytes;
    const absl::Status looked = session_->Look({&root}, [&](const Session::Trees& trees) {
      bytes = ReadAt(trees.sources[0], path);
      return absl::OkStatus();
    });
    EXPECT_TRUE(looked.ok()) << looked;
    return bytes;
  }
  // Paths in the archive of a root's uppermost layer.
  std::vector<std::string> PathsOf(const BuildRoot& root) {
    const std::string blob =
        content::ReadBlob(content_, root.manifest.layers.back().digest, 1 << 20).value();
    StringSource source(blob);
    const auto plain = OpenDecompressor(source).value();
    TarReader reader(*plain);
    std::vector<std::string> paths;
    TarEntry entry;
    while (reader.Next(entry).value()) paths.push_back(entry.path);
    return paths;
  }
  // Runs a container of the root on a fake shim; `during` is called once it runs.
  absl::StatusOr<Session::Ran> Run(const BuildRoot& root, const v1::ContainerConfig& config,
                                   const std::function<void(const std::string& id)>& during,
                                   const Session::OutputFn& output = nullptr) {
    std::thread step;
    const auto created = [&](const std::string& id) {
      step_ = id;
      step = std::thread([this, id, &during] {
        ASSERT_TRUE(Eventually([&] {
          const absl::StatusOr<Process> task = tasks_->view().Get(kNs, id, "");
          return task.ok() && task->status == ProcessStatus::kRunning;
        }));
        during(id);
      });
      return absl::OkStatus();
    };
    absl::StatusOr<Session::Ran> ran = session_->Run(
        root, config, created,
        output ? output : [](int, absl::string_view) { return absl::OkStatus(); });
    if (step.joinable()) step.join();
    return ran;
  }
  std::string RootOf(const std::string& id) {
    return stores_.Snapshots("native", {kNs, ""})->Mounts(id)->at(0).source;
  }
  static v1::ContainerConfig Command(const std::string& command) {
    v1::ContainerConfig config;
    config.add_command(command);
    return config;
  }
  int Leases() {
    int count = 0;
    for (const std::string& trace : Traces()) count += absl::StartsWith(trace, "lease ") ? 1 : 0;
    return count;
  }

  // Without a registry: every image is here.
  ImagePull pull_{ImagePull::Parts{&stores_, nullptr, &unpacker_, &puller_, nullptr, nullptr}};
  ImageAssembly assembly_;
  int syncs_ = 0;
  absl::Status sync_;
  std::unique_ptr<ImageBuild> build_;
  std::unique_ptr<Session> session_;
  metadata::ContentNamespace content_ = stores_.Content({kNs, ""});
  std::string step_;
};

TEST_F(ImageBuildTest, ABaseHasTheImagesFilesAndSettings) {
  const BuildBase base = Base();
  EXPECT_EQ(base.id, target_.digest);
  EXPECT_THAT(base.config.cmd, ElementsAre("serve"));
  EXPECT_THAT(base.root.manifest.layers, SizeIs(1));
  EXPECT_THAT(Seen(base.root, "etc/passwd"), HasSubstr("ann:x:1000"));
}

TEST_F(ImageBuildTest, AChangeIsALayerOfWhatItChanged) {
  const BuildRoot base = Base().root;
  const absl::StatusOr<BuildRoot> made =
      session_->Change(base, "copy", {}, [](const Session::Trees& trees) -> absl::Status {
        EXPECT_GE(trees.target, 0);
        if (unlink("/etc/group") != 0) return absl::InternalError("unlink");
        return Put("/app", "program");
      });
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->diff_ids.size(), 2u);
  EXPECT_EQ(made->manifest.layers.size(), 2u);
  EXPECT_NE(made->chain_id(), base.chain_id());
  EXPECT_THAT(PathsOf(*made), Contains("app"));
  EXPECT_THAT(PathsOf(*made), Contains("etc/.wh.group"));
  EXPECT_THAT(PathsOf(*made), Not(Contains("etc/passwd")));
  EXPECT_EQ(Seen(*made, "app"), "program");
  EXPECT_EQ(Seen(*made, "etc/group"), "(none)");
  EXPECT_EQ(Seen(base, "etc/group").substr(0, 4), "root");  // as it was
}

TEST_F(ImageBuildTest, ABuildFromNothingHasNoChain) {
  const BuildRoot nothing;
  EXPECT_EQ(nothing.chain_id(), "");
  const absl::StatusOr<BuildRoot> made = With(nothing, "/hello", "x");
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->chain_id(), made->diff_ids[0].str());
  EXPECT_EQ(Seen(*made, "hello"), "x");
}

TEST_F(ImageBuildTest, AChangeThatFailsMakesNothing) {
  const BuildRoot base = Base().root;
  const std::vector<std::string> before = Traces();
  const absl::StatusOr<BuildRoot> refused =
      session_->Change(base, "copy", {}, [](const Session::Trees&) -> absl::Status {
        (void)Put("/half", "x");
        return absl::NotFoundError("COPY: no such file");
      });
  EXPECT_EQ(refused.status().message(), "COPY: no such file");
  EXPECT_EQ(Traces(), before);
}

TEST_F(ImageBuildTest, AChangeReachesNothingOutsideOfItsRoot) {
  ASSERT_TRUE(WriteFile(dir_.Join("secret"), "of the host").ok());
  const std::string secret = dir_.Join("secret");
  const absl::StatusOr<BuildRoot> made =
      session_->Change(Base().root, "copy", {}, [&](const Session::Trees&) -> absl::Status {
        EXPECT_EQ(access(secret.c_str(), F_OK), -1);
        EXPECT_EQ(access(("../../../.." + secret).c_str(), F_OK), -1);
        return Put("/../../app", "x");
      });
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(Seen(*made, "app"), "x");
}

TEST_F(ImageBuildTest, SourcesAreSeenBesideTheTargetAndCannotBeWritten) {
  const BuildRoot base = Base().root;
  const BuildRoot other = With(BuildRoot(), "/from", "stage one").value();
  const absl::StatusOr<BuildRoot> made =
      session_->Change(base, "copy", {&other}, [](const Session::Trees& trees) -> absl::Status {
        const std::string bytes = ReadAt(trees.sources.at(0), "from");
        const UniqueFd planted(
            openat(trees.sources[0], "planted", O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
        EXPECT_FALSE(planted.valid());
        return Put("/to", bytes);
      });
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(Seen(*made, "to"), "stage one");
}

TEST_F(ImageBuildTest, TheSameChangeMadeTwiceIsOneLayer) {
  const BuildRoot base = Base().root;
  const BuildRoot first = With(base, "/app", "x").value();
  // Another build at the same time, whose layer has the same content. Times of files are the
  // layer's, so they are set.
  const auto fixed = [](const Session::Trees&) -> absl::Status {
    if (absl::Status put = Put("/fixed", "y"); !put.ok()) return put;
    const timespec times[2] = {{1000, 0}, {1000, 0}};
    if (utimensat(AT_FDCWD, "/fixed", times, 0) != 0 || utimensat(AT_FDCWD, "/", times, 0) != 0)
      return absl::InternalError("utimensat");
    return absl::OkStatus();
  };
  const absl::StatusOr<BuildRoot> one = session_->Change(first, "copy", {}, fixed);
  const absl::StatusOr<BuildRoot> two = session_->Change(first, "copy", {}, fixed);
  ASSERT_TRUE(one.ok()) << one.status();
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ(one->chain_id(), two->chain_id());
}

TEST_F(ImageBuildTest, AStepsOutputIsHandedOnAndItsFilesAreALayer) {
  const BuildRoot base = Base().root;
  std::string text;
  const absl::StatusOr<Session::Ran> ran = Run(
      base, Command("make"),
      [&](const std::string& id) {
        Shim(id).Output("compiling");
        ASSERT_TRUE(WriteFile(RootOf(id) + "/built", "result").ok());
        Shim(id).Exit("", 0);
      },
      [&](int stream, absl::string_view bytes) {
        EXPECT_EQ(stream, 1);
        text += std::string(bytes);
        return absl::OkStatus();
      });
  ASSERT_TRUE(ran.ok()) << ran.status();
  EXPECT_EQ(ran->exit_code, 0);
  EXPECT_EQ(text, "compiling");
  ASSERT_TRUE(ran->root.has_value());
  EXPECT_EQ(Seen(*ran->root, "built"), "result");
  EXPECT_FALSE(Exists(step_));
}

TEST_F(ImageBuildTest, AStepThatFailsHasACodeAndNoRoot) {
  const absl::StatusOr<Session::Ran> ran =
      Run(Base().root, Command("false"), [&](const std::string& id) { Shim(id).Exit("", 2); });
  ASSERT_TRUE(ran.ok()) << ran.status();
  EXPECT_EQ(ran->exit_code, 2);
  EXPECT_FALSE(ran->root.has_value());
  EXPECT_FALSE(Exists(step_));
}

TEST_F(ImageBuildTest, AStepIsMarkedKeepsNoLogAndIsNotProbed) {
  (void)Run(Base().root, Command("make"), [&](const std::string& id) {
    const absl::StatusOr<LoadedContainer> loaded = records_->Load(context_, id);
    ASSERT_TRUE(loaded.ok());
    EXPECT_EQ(loaded->record.labels().count(kBuildStepLabel), 1u);
    EXPECT_EQ(loaded->config.log().driver(), "none");
    EXPECT_THAT(loaded->config.health_check().test(), ElementsAre("NONE"));
    Shim(id).Exit("", 0);
  });
}

TEST_F(ImageBuildTest, WhatWasOnlyMadeToMountOnIsNoPartOfTheLayer) {
  v1::ContainerConfig config = Command("make");
  v1::Mount* mount = config.add_mounts();
  mount->set_type(v1::Mount::TMPFS);
  mount->set_target("/cache/deep");
  mount = config.add_mounts();
  mount->set_type(v1::Mount::TMPFS);
  mount->set_target("/kept");
  const absl::StatusOr<Session::Ran> ran = Run(Base().root, config, [&](const std::string& id) {
    // As the runtime does for its mounts; the command wrote into one of them itself.
    ASSERT_TRUE(MakeDirectories(RootOf(id) + "/cache/deep", 0755).ok());
    ASSERT_TRUE(MakeDirectories(RootOf(id) + "/kept", 0755).ok());
    ASSERT_TRUE(WriteFile(RootOf(id) + "/kept/own", "x").ok());
    Shim(id).Exit("", 0);
  });
  ASSERT_TRUE(ran.ok()) << ran.status();
  ASSERT_TRUE(ran->root.has_value());
  EXPECT_THAT(PathsOf(*ran->root), Not(Contains(testing::StartsWith("cache"))));
  EXPECT_EQ(Seen(*ran->root, "kept/own"), "x");
}

TEST_F(ImageBuildTest, AFailureOfTheOutputEndsTheStep) {
  const absl::StatusOr<Session::Ran> ran = Run(
      Base().root, Command("make"), [&](const std::string& id) { Shim(id).Output("line"); },
      [](int, absl::string_view) { return absl::ResourceExhaustedError("too much output"); });
  EXPECT_TRUE(absl::IsResourceExhausted(ran.status())) << ran.status();
  EXPECT_FALSE(Exists(step_));
}

TEST_F(ImageBuildTest, ACancelledBuildEndsItsStepAndRemovesIt) {
  CancelToken gone;
  context_.cancel = &gone;
  session_ = build_->Begin(context_).value();
  const BuildRoot base = Base().root;
  const absl::StatusOr<Session::Ran> ran =
      Run(base, Command("sleep"), [&](const std::string&) { gone.Cancel("the client has gone"); });
  EXPECT_TRUE(absl::IsCancelled(ran.status())) << ran.status();
  session_.reset();
  context_.cancel = nullptr;
  EXPECT_FALSE(Exists(step_));
}

TEST_F(ImageBuildTest, AStepWhoseStartFailsIsRemoved) {
  launcher_.OnLaunch([](runtime::FakeShim& shim) {
    shim.FailCalls("Create", absl::InternalError("no such program"));
  });
  std::string id;
  const absl::StatusOr<Session::Ran> ran = session_->Run(
      Base().root, Command("nothing"),
      [&](const std::string& made) {
        id = made;
        return absl::OkStatus();
      },
      [](int, absl::string_view) { return absl::OkStatus(); });
  EXPECT_THAT(std::string(ran.status().message()), HasSubstr("no such program"));
  EXPECT_NE(id, "");
  EXPECT_FALSE(Exists(id));
}

TEST_F(ImageBuildTest, FilesAreMountedForAsLongAsTheyAreLookedAt) {
  const BuildRoot made = With(BuildRoot(), "/hello", "x").value();
  std::string path;
  {
    const absl::StatusOr<std::unique_ptr<Session::View>> view = session_->Mount(made);
    ASSERT_TRUE(view.ok()) << view.status();
    path = (*view)->path();
    EXPECT_EQ(ReadFile(path + "/hello", 10).value_or("?"), "x");
    EXPECT_FALSE(WriteFile(path + "/planted", "x").ok());
  }
  EXPECT_EQ(access(path.c_str(), F_OK), -1);
}

TEST_F(ImageBuildTest, AnImageIsWrittenAndNamedAfterItsBlobsAreDurable) {
  const BuildBase base = Base();
  const BuildRoot made = With(base.root, "/app", "x").value();
  oci::ImageConfig config = base.config;
  config.cmd = {"/app"};
  const absl::StatusOr<content::Descriptor> target = session_->Write(made, config);
  ASSERT_TRUE(target.ok()) << target.status();
  sync_ = absl::UnavailableError("the disk does not answer");
  EXPECT_TRUE(absl::IsUnavailable(session_->Name({"app:2"}, *target)));
  EXPECT_TRUE(absl::IsNotFound(catalog_->Resolve(context_, "app:2", "").status()));
  sync_ = absl::OkStatus();
  ASSERT_TRUE(session_->Name({"app:2", "r.example/app"}, *target).ok());
  EXPECT_EQ(syncs_, 2);
  session_.reset();
  const absl::StatusOr<ResolvedImage> image = catalog_->Resolve(context_, "app:2", "");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->target.digest, target->digest);
  EXPECT_THAT(image->config.cmd, ElementsAre("/app"));
  EXPECT_EQ(image->config.diff_ids, made.diff_ids);
  EXPECT_TRUE(catalog_->Resolve(context_, "r.example/app:latest", "").ok());
  // What the name holds survives the end of the session and a collection.
  ASSERT_TRUE(collector_.Collect({.full_sweep = true, .gate_timeout = absl::Seconds(60)}).ok());
  EXPECT_TRUE(content_.Stat(made.manifest.layers.back().digest).ok());
  EXPECT_TRUE(stores_.Snapshots("native", {kNs, ""})->Stat(made.chain_id()).ok());
}

TEST_F(ImageBuildTest, WithoutANameItIsKeptByItsId) {
  const BuildBase base = Base();
  const absl::StatusOr<content::Descriptor> target = session_->Write(base.root, base.config);
  ASSERT_TRUE(target.ok());
  ASSERT_TRUE(session_->Name({}, *target).ok());
  EXPECT_TRUE(catalog_->Resolve(context_, target->digest.str(), "").ok());
}

TEST_F(ImageBuildTest, AMalformedNameNamesNothing) {
  const BuildBase base = Base();
  const absl::StatusOr<content::Descriptor> target = session_->Write(base.root, base.config);
  ASSERT_TRUE(target.ok());
  EXPECT_TRUE(absl::IsInvalidArgument(session_->Name({"app:2", "App:2"}, *target)));
  EXPECT_TRUE(absl::IsNotFound(catalog_->Resolve(context_, "app:2", "").status()));
  StringSink out;
  EXPECT_TRUE(absl::IsInvalidArgument(session_->exchange().Export(*target, {"App:2"}, true, out)));
}

TEST_F(ImageBuildTest, AnExportIsAnArchiveThatDockerCanLoad) {
  const BuildBase base = Base();
  const absl::StatusOr<content::Descriptor> target = session_->Write(base.root, base.config);
  ASSERT_TRUE(target.ok());
  const auto members = [&](bool docker) {
    StringSink out;
    const absl::Status exported = session_->exchange().Export(*target, {"app:2"}, docker, out);
    EXPECT_TRUE(exported.ok()) << exported;
    StringSource source(out.str());
    TarReader reader(source);
    std::vector<std::string> paths;
    TarEntry entry;
    while (reader.Next(entry).value()) paths.push_back(entry.path);
    return paths;
  };
  EXPECT_THAT(members(true), Contains("manifest.json"));
  EXPECT_THAT(members(false), Not(Contains("manifest.json")));
  EXPECT_THAT(members(false), Contains("index.json"));
}

TEST_F(ImageBuildTest, AnEarlierBuildsLayerIsTakenWhenItIsStillThere) {
  const BuildRoot base = Base().root;
  const BuildRoot made = With(base, "/app", "x").value();
  const absl::StatusOr<BuildRoot> again =
      session_->Reuse(base, made.manifest.layers.back(), made.diff_ids.back());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->chain_id(), made.chain_id());
  EXPECT_EQ(Seen(*again, "app"), "x");
  content::Descriptor gone = made.manifest.layers.back();
  gone.digest = content::Digest::Sha256Of("collected");
  EXPECT_TRUE(absl::IsNotFound(session_->Reuse(base, gone, made.diff_ids.back()).status()));
  EXPECT_TRUE(absl::IsNotFound(
      session_->Reuse(base, made.manifest.layers.back(), content::Digest::Sha256Of("other"))
          .status()));
}

TEST_F(ImageBuildTest, WhatNoImageRefersToGoesAfterTheBuild) {
  const BuildRoot made = With(BuildRoot(), "/app", "x").value();
  ASSERT_TRUE(collector_.Collect({.full_sweep = true, .gate_timeout = absl::Seconds(60)}).ok());
  EXPECT_TRUE(content_.Stat(made.manifest.layers.back().digest).ok());
  EXPECT_EQ(Leases(), 1);
  session_.reset();
  EXPECT_EQ(Leases(), 0);
  ASSERT_TRUE(collector_.Collect({.full_sweep = true, .gate_timeout = absl::Seconds(60)}).ok());
  EXPECT_TRUE(absl::IsNotFound(content_.Stat(made.manifest.layers.back().digest).status()));
  EXPECT_TRUE(
      absl::IsNotFound(stores_.Snapshots("native", {kNs, ""})->Stat(made.chain_id()).status()));
}

TEST_F(ImageBuildTest, TheNextDaemonRemovesStepsThatWereCutOff) {
  v1::ContainerConfig config = Config();
  (*config.mutable_labels())[kBuildStepLabel] = "1";
  const std::string cut_off = Make("step", config);
  const std::string other = Make("other");
  ASSERT_TRUE(build_->Recover().ok());
  EXPECT_FALSE(Exists(cut_off));
  EXPECT_TRUE(Exists(other));
}

TEST_F(ImageBuildTest, ABaseThatIsNowhereIsNamed) {
  const absl::Status refused =
      session_->Base("Nowhere", "", Session::Pull::kMissing, {}, nullptr).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
}

}  // namespace
}  // namespace gantry::core
