// What comes from outside and is wrong: archives, names, runtimes, disks. Every refusal names the
// object and what is the matter, and afterwards store and daemon work as before.

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/unique_fd.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "busybox:test";

class BadInputTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
    images_ = bed_->CtlOut({"images", "-q", "--no-trunc"});
  }
  void TearDown() override {
    if (!bed_) return;
    EXPECT_EQ(bed_->CtlOut({"images", "-q", "--no-trunc"}), images_)
        << "a refused image is listed, or a good one is gone";
    EXPECT_TRUE(Ok(bed_->Ctl({"run", "--rm", kImage, "true"})));
  }
  // Packs files into a tar, named and in order.
  std::string Tar(const std::vector<std::pair<std::string, std::string>>& files) {
    const std::string directory = bed_->scratch() + "/pack";
    (void)RemoveTree(directory);
    std::vector<std::string> command = {"tar", "-cf", bed_->scratch() + "/bad.tar", "-C",
                                        directory};
    for (const auto& [name, content] : files) {
      const std::string path = directory + "/" + name;
      EXPECT_TRUE(MakeDirectories(path.substr(0, path.rfind('/')), 0755).ok());
      EXPECT_TRUE(WriteFile(path, content).ok());
      command.push_back(name);
    }
    EXPECT_TRUE(Ok(RunProgram(command)));
    return bed_->scratch() + "/bad.tar";
  }
  // Refused, and the message holds every one of these words.
  void ExpectRefused(const std::string& archive, const std::vector<std::string>& words) {
    const Outcome outcome = bed_->Ctl({"load", "-i", archive});
    EXPECT_NE(outcome.code, 0) << outcome.out;
    EXPECT_NE(outcome.code, -1) << "the client hangs";
    for (const std::string& word : words) {
      EXPECT_TRUE(absl::StrContains(outcome.err, word))
          << "\"" << word << "\" is not in: " << outcome.err;
    }
  }
  std::string HexOf(const std::string& bytes) { return Sha256(bytes).substr(7); }
  // An OCI layout around a manifest.
  std::string Layout(const std::string& manifest,
                     std::vector<std::pair<std::string, std::string>> blobs,
                     const std::string& media_type = "application/vnd.oci.image.manifest.v1+json") {
    std::vector<std::pair<std::string, std::string>> files = {
        {"oci-layout", R"({"imageLayoutVersion":"1.0.0"})"},
        {"index.json",
         absl::StrCat(R"({"schemaVersion":2,"manifests":[{"mediaType":")", media_type,
                      R"(","digest":")", Sha256(manifest), R"(","size":)", manifest.size(),
                      R"(,"annotations":{"io.containerd.image.name":"bad:test"}}]})")},
        {"blobs/sha256/" + HexOf(manifest), manifest}};
    for (auto& [name, content] : blobs) files.emplace_back("blobs/sha256/" + name, content);
    return Tar(files);
  }
  std::unique_ptr<Testbed> bed_;
  std::string images_;
};

TEST_F(BadInputTest, ArchiveThatIsNoTar) {
  const std::string path = bed_->scratch() + "/junk";
  ASSERT_TRUE(WriteFile(path, std::string(100000, 'x')).ok());
  ExpectRefused(path, {});
  ASSERT_TRUE(WriteFile(path, "").ok());
  ExpectRefused(path, {});
  ExpectRefused(bed_->scratch() + "/none", {"none"});
}

TEST_F(BadInputTest, TruncatedArchive) {
  const std::string whole = ReadFile(bed_->scratch() + "/busybox.tar", 64 << 20).value();
  const std::string path = bed_->scratch() + "/cut.tar";
  for (const size_t size : {whole.size() / 2, whole.size() / 3, size_t{1024}, size_t{700}}) {
    ASSERT_TRUE(WriteFile(path, absl::string_view(whole).substr(0, size)).ok());
    ExpectRefused(path, {});
  }
}

TEST_F(BadInputTest, ArchiveWithoutAManifest) { ExpectRefused(Tar({{"hello", "world"}}), {}); }

TEST_F(BadInputTest, BlobThatIsNotWhatItsNameSays) {
  ImageOptions options;
  options.names = {"bad:test"};
  const std::string root = bed_->scratch() + "/root-of-bad";
  ASSERT_TRUE(MakeDirectories(root, 0755).ok());
  ASSERT_TRUE(WriteFile(root + "/file", "content").ok());
  options.correct_layer_digest = false;
  ASSERT_TRUE(WriteOciArchive(bed_->scratch() + "/wrong.tar", {root}, options).ok());
  ExpectRefused(bed_->scratch() + "/wrong.tar", {"sha256:"});
}

TEST_F(BadInputTest, LayerThatIsNotTheOneTheConfigurationNames) {
  ImageOptions options;
  options.names = {"bad:test"};
  options.correct_diff_id = false;
  const std::string root = bed_->scratch() + "/root-of-bad";
  ASSERT_TRUE(MakeDirectories(root, 0755).ok());
  ASSERT_TRUE(WriteFile(root + "/file", "content").ok());
  for (const char* compression : {"", "gzip"}) {
    options.layer_compression = compression;
    ASSERT_TRUE(WriteOciArchive(bed_->scratch() + "/wrong.tar", {root}, options).ok());
    ExpectRefused(bed_->scratch() + "/wrong.tar", {"sha256:"});
  }
}

TEST_F(BadInputTest, ManifestThatPointsAtWhatIsNotThere) {
  const std::string config =
      R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}})";
  const std::string absent = Sha256("absent");
  const std::string manifest = absl::StrCat(
      R"({"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":")",
      Sha256(config), R"(","size":)", config.size(),
      R"(},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":")", absent,
      R"(","size":10}]})");
  ExpectRefused(Layout(manifest, {{HexOf(config), config}}), {absent});
}

TEST_F(BadInputTest, MediaTypesNobodyKnows) {
  const std::string manifest = R"({"schemaVersion":2,"mediaType":"application/x-nonsense"})";
  ExpectRefused(Layout(manifest, {}, "application/x-nonsense"), {"application/x-nonsense"});
}

TEST_F(BadInputTest, JsonThatNestsWithoutEnd) {
  const std::string deep = std::string(500000, '[') + std::string(500000, ']');
  ExpectRefused(Layout(deep, {}), {});
  ExpectRefused(Tar({{"manifest.json", deep}}), {});
  ExpectRefused(Tar({{"oci-layout", R"({"imageLayoutVersion":"1.0.0"})"}, {"index.json", deep}}),
                {});
}

TEST_F(BadInputTest, DigestsThatAreNone) {
  for (const char* digest : {"sha256:zz", "md5:d41d8cd98f00b204e9800998ecf8427e",
                             "sha256:../../../etc/passwd", "", "sha256"}) {
    const std::string index = absl::StrCat(
        R"({"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":")",
        digest, R"(","size":2}]})");
    ExpectRefused(Tar({{"oci-layout", R"({"imageLayoutVersion":"1.0.0"})"}, {"index.json", index}}),
                  {});
  }
}

// Layers that try to write where they should not. Made with tar's own means to store such names.
TEST_F(BadInputTest, LayersThatReachOutsideChangeNothingThere) {
  const std::string victim = bed_->scratch() + "/victim";
  ASSERT_TRUE(WriteFile(victim, "untouched").ok());
  const std::string up = "../../../../../../../../../../../.." + victim;
  const std::string work = bed_->scratch() + "/hostile";
  ASSERT_TRUE(MakeDirectories(work, 0755).ok());
  ASSERT_TRUE(WriteFile(work + "/plain", "hostile").ok());
  ASSERT_EQ(symlink("/", (work + "/slash").c_str()), 0);
  ASSERT_EQ(symlink(victim.substr(0, victim.rfind('/')).c_str(), (work + "/dir").c_str()), 0);
  // Each is a layer, made with an option of GNU tar that renames members.
  const std::vector<std::vector<std::string>> layers = {
      {"--transform", "s,^plain$," + up + ",", "plain"},
      {"--transform", "s,^plain$," + victim + ",", "plain"},
      {"slash", "--transform", "s,^plain$,slash" + victim + ",", "plain"},
      {"dir", "--transform", "s,^plain$,dir/victim,", "plain"},
  };
  for (const std::vector<std::string>& members : layers) {
    const std::string layer = work + "/layer.tar";
    std::vector<std::string> command = {"tar", "-P", "-cf", layer, "-C", work};
    command.insert(command.end(), members.begin(), members.end());
    ASSERT_TRUE(Ok(RunProgram(command)));
    const std::string diff_id = Sha256OfFile(layer).value();
    const std::string config = absl::StrCat(
        R"({"architecture":"amd64","os":"linux","config":{"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":[")",
        diff_id, R"("]}})");
    const std::string bytes = ReadFile(layer, 64 << 20).value();
    const std::string manifest = absl::StrCat(
        R"([{"Config":"config.json","RepoTags":["hostile:test"],"Layers":["layer.tar"]}])");
    const std::string archive =
        Tar({{"config.json", config}, {"layer.tar", bytes}, {"manifest.json", manifest}});
    // Refused or confined: both are right, writing through is not.
    const Outcome outcome = bed_->Ctl({"load", "-i", archive});
    EXPECT_NE(outcome.code, -1);
    EXPECT_EQ(ReadFile(victim, 100).value(), "untouched") << absl::StrJoin(members, " ");
    if (outcome.ok()) {
      EXPECT_TRUE(Ok(bed_->Ctl({"rmi", "hostile:test"})));
    }
  }
}

TEST_F(BadInputTest, NamesAndIdsThatAreNone) {
  for (const std::string& name :
       {std::string("../x"), std::string("a/b"), std::string(".."), std::string("a b"),
        std::string("-x-"), std::string(4096, 'n'), std::string("a\nb")}) {
    const Outcome outcome = bed_->Ctl({"create", "--name=" + name, kImage, "true"});
    EXPECT_EQ(outcome.code, 1) << name.substr(0, 20) << ": " << outcome.out << outcome.err;
    EXPECT_TRUE(absl::StrContains(outcome.err, "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"))
        << outcome.err;
    EXPECT_NE(bed_->Ctl({"inspect", name}).code, 0);
  }
  const Outcome ns = RunProgram(
      {bed_->CtlCommand({})[0], "--address", bed_->address(), "--namespace", "../../x", "ps"});
  EXPECT_NE(ns.code, 0) << ns.out;
  EXPECT_EQ(bed_->CtlOut({"ps", "-aq"}), "");
  // By containerd's door as well.
  for (const char* id : {"../x", "a/b", ".."}) {
    const Outcome outcome =
        bed_->Ctr({"containers", "create", "docker.io/library/busybox:test", id});
    EXPECT_NE(outcome.code, 0) << id;
  }
}

TEST_F(BadInputTest, RuntimeThatIsMissingHangsOrLies) {
  const Outcome missing =
      bed_->Ctl({"run", "--rm", "--runtime", "no-such-runtime", kImage, "true"});
  EXPECT_EQ(missing.code, 125) << missing.err;
  EXPECT_TRUE(absl::StrContains(missing.err, "no-such-runtime")) << missing.err;
  EXPECT_TRUE(absl::StrContains(missing.err, "known: auto, crun, runc")) << missing.err;

  const auto script = [&](const std::string& name, const std::string& text) {
    const std::string path = bed_->scratch() + "/" + name;
    EXPECT_TRUE(WriteFile(path, "#!/bin/sh\n" + text, 0755).ok());
    return path;
  };
  const std::string speaks =
      "case \"$*\" in --version) echo 'fake version 1'; exit 0;; features) exit 1;; esac\n";
  // Fails with words of its own: they are passed on.
  const std::string failing =
      script("failing", speaks +
                            "while [ $# -gt 0 ]; do [ \"$1\" = --log ] && echo "
                            "'{\"level\":\"error\",\"msg\":\"the stars are not right\"}' >\"$2\"; "
                            "shift; done; exit 1\n");
  const Outcome fails = bed_->Ctl({"run", "--rm", "--runtime", failing, kImage, "true"});
  EXPECT_EQ(fails.code, 125);
  EXPECT_TRUE(absl::StrContains(fails.err, "the stars are not right")) << fails.err;
  // Says that all is well and has started nothing.
  const Outcome silent = bed_->Ctl(
      {"run", "--rm", "--runtime", script("silent", speaks + "exit 0\n"), kImage, "true"});
  EXPECT_EQ(silent.code, 125) << silent.out << silent.err;
  // Names a process that is not the container's.
  const std::string liar = script("liar", speaks +
                                              "while [ $# -gt 0 ]; do [ \"$1\" = --pid-file ] && "
                                              "printf 1 >\"$2\"; shift; done; exit 0\n");
  const Outcome lies = bed_->Ctl({"run", "--rm", "--runtime", liar, kImage, "true"});
  EXPECT_EQ(lies.code, 125) << lies.out << lies.err;
  // Does not answer even to --version.
  const Outcome hangs = bed_->Ctl(
      {"run", "--rm", "--runtime", script("hanging", "exec sleep 1000\n"), kImage, "true"}, "",
      absl::Minutes(2));
  EXPECT_EQ(hangs.code, 125) << hangs.out << hangs.err;
  EXPECT_TRUE(absl::StrContains(hangs.err, "no answer within")) << hangs.err;
  EXPECT_EQ(bed_->CtlOut({"ps", "-aq"}), "");
}

TEST_F(BadInputTest, FullDiskIsACleanErrorAndPasses) {
  // A small file system of its own for everything the daemon stores.
  Testbed::Options options;
  options.start = false;
  Testbed small(options);
  ASSERT_TRUE(MakeDirectories(small.root(), 0700).ok());
  ASSERT_EQ(mount("tmpfs", small.root().c_str(), "tmpfs", 0, "size=64m"), 0);
  ASSERT_TRUE(small.StartDaemon());
  ASSERT_TRUE(small.LoadBusybox(kImage));
  const std::string filler = small.root() + "/filler";
  {
    const UniqueFd fd(open(filler.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    const std::string block(1 << 16, 'f');
    while (write(fd.get(), block.data(), block.size()) > 0) {
    }
  }
  const std::string root = small.scratch() + "/big";
  ASSERT_TRUE(MakeDirectories(root, 0755).ok());
  ASSERT_TRUE(WriteFile(root + "/noise", std::string(8 << 20, 'n')).ok());
  ImageOptions image;
  image.names = {"big:test"};
  ASSERT_TRUE(WriteDockerArchive(small.scratch() + "/big.tar", {root}, image).ok());
  const Outcome full = small.Ctl({"load", "-i", small.scratch() + "/big.tar"});
  EXPECT_NE(full.code, 0);
  EXPECT_TRUE(absl::StrContains(full.err, "No space left on device") ||
              absl::StrContains(full.err, "is full"))
      << full.err;
  EXPECT_EQ(small.Ctl({"images", "-q", "big:test"}).out, "");
  ASSERT_EQ(unlink(filler.c_str()), 0);
  EXPECT_TRUE(Ok(small.Ctl({"run", "--rm", kImage, "true"})));
  EXPECT_TRUE(Ok(small.Ctl({"load", "-i", small.scratch() + "/big.tar"})));
  small.StopDaemon();
  EXPECT_EQ(umount2(small.root().c_str(), 0), 0);
}

TEST_F(BadInputTest, ADaemonKilledOnAFullDiskStartsAgainListsStopsAndRemoves) {
  Testbed::Options options;
  options.start = false;
  Testbed small(options);
  ASSERT_TRUE(MakeDirectories(small.root(), 0700).ok());
  ASSERT_EQ(mount("tmpfs", small.root().c_str(), "tmpfs", 0, "size=128m"), 0);
  ASSERT_TRUE(small.StartDaemon());
  ASSERT_TRUE(small.LoadBusybox(kImage));
  small.CtlOut({"run", "-d", "--name", "web", kImage, "sleep", "1000"});
  small.CtlOut({"run", "-d", "--name", "ended", kImage, "sleep", "1000"});
  small.CtlOut({"run", "--name", "old", kImage, "true"});
  const std::string filler = small.root() + "/filler";
  const UniqueFd fd(open(filler.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_APPEND, 0600));
  auto fill = [&fd] {
    for (const size_t size : {size_t{1} << 16, size_t{4096}, size_t{1}}) {
      const std::string block(size, 'f');
      while (write(fd.get(), block.data(), block.size()) > 0) {
      }
    }
  };
  fill();
  small.KillDaemon();
  fill();  // what the daemon's death has freed
  ASSERT_TRUE(small.StartDaemon()) << small.daemon_log();
  EXPECT_EQ(small.CtlOut({"ps", "-a", "--format", "{{.Names}} {{.State}}"}),
            "old exited\nended running\nweb running");
  const Outcome refused = small.Ctl({"run", "-d", "--name", "more", kImage, "sleep", "1000"});
  EXPECT_EQ(refused.code, 125);
  EXPECT_TRUE(absl::StrContains(refused.err, "is full")) << refused.err;
  EXPECT_TRUE(absl::StrContains(refused.err, small.root())) << refused.err;
  EXPECT_EQ(small.CtlOut({"exec", "web", "echo", "in"}), "in");
  EXPECT_TRUE(Ok(small.Ctl({"stop", "-t", "0", "ended"})));
  EXPECT_EQ(small.Inspect("ended", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
  EXPECT_TRUE(Ok(small.Ctl({"rm", "ended"})));
  EXPECT_TRUE(Ok(small.Ctl({"rm", "old"})));
  EXPECT_TRUE(Ok(small.Ctl({"rm", "-f", "web"})));
  EXPECT_EQ(small.CtlOut({"ps", "-aq"}), "");
  ASSERT_EQ(unlink(filler.c_str()), 0);
  ASSERT_EQ(ftruncate(fd.get(), 0), 0);
  EXPECT_EQ(small.CtlOut({"run", "--rm", kImage, "echo", "room again"}), "room again");
  small.StopDaemon();
  EXPECT_EQ(umount2(small.root().c_str(), MNT_DETACH), 0);
}

TEST_F(BadInputTest, StateDirectoryTooLongForSocketsIsRefusedAtStart) {
  const std::string state = bed_->scratch() + "/" + std::string(100, 's');
  std::vector<std::string> command = absl::StrSplit(
      ReadFile(absl::StrCat("/proc/", bed_->daemon_pid(), "/cmdline"), 65536).value(), '\0',
      absl::SkipEmpty());
  for (size_t i = 0; i + 1 < command.size(); ++i) {
    if (command[i] == "--state") command[i + 1] = state;
    if (command[i] == "--root") command[i + 1] = bed_->scratch() + "/other-root";
    if (command[i] == "--address") command[i + 1] = bed_->scratch() + "/other.sock";
  }
  const Outcome outcome = RunProgram(command, "", absl::Seconds(20));
  EXPECT_NE(outcome.code, 0);
  EXPECT_NE(outcome.code, -1) << "it started";
  EXPECT_TRUE(absl::StrContains(outcome.err, "at most 88")) << outcome.err;
}

}  // namespace
}  // namespace gantry::integration
