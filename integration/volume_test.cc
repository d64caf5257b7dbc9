// Volumes, through ctl and with the real runtimes: what containers see of them, what outlives whom,
// and what a kill -9 of the daemon leaves.

#include <signal.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAre;

constexpr char kImage[] = "busybox:test";
constexpr char kVolumeImage[] = "with-volume:test";  // VOLUME /data, with content

class VolumeTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
  }
  // /data (4711:4712, 0750) with a file, a link and a directory in it.
  void ImportVolumeImage() {
    const std::string root = bed_->scratch() + "/root";
    ASSERT_TRUE(MakeBusyboxRoot(root).ok());
    ASSERT_TRUE(MakeDirectories(root + "/data/deep").ok());
    ASSERT_TRUE(WriteFile(root + "/data/deep/file", "from the image").ok());
    ASSERT_EQ(symlink("/etc/passwd", (root + "/data/link").c_str()), 0);
    ASSERT_EQ(chown((root + "/data").c_str(), 4711, 4712), 0);
    ASSERT_EQ(chmod((root + "/data").c_str(), 0750), 0);
    const std::string tar = bed_->scratch() + "/with-volume.tar";
    ASSERT_EQ(RunProgram({"tar", "-C", root, "-cf", tar, "."}).code, 0);
    ASSERT_TRUE(Ok(bed_->Ctl(
        {"import", "--change", "VOLUME /data", "--change", "CMD [\"true\"]", tar, kVolumeImage})));
  }
  std::string Sh(std::vector<std::string> flags, const std::string& script,
                 const std::string& image = kImage) {
    flags.insert(flags.begin(), {"run", "--rm"});
    flags.insert(flags.end(), {image, "sh", "-c", script});
    return bed_->CtlOut(std::move(flags));
  }
  std::string Mountpoint(const std::string& volume) {
    return bed_->CtlOut({"volume", "inspect", "-f", "{{.Mountpoint}}", volume});
  }
  std::string Volumes() { return bed_->CtlOut({"volume", "ls", "-q"}); }

  std::unique_ptr<Testbed> bed_;
};

TEST_F(VolumeTest, ANamedVolumeIsMadeOnFirstUseSharedAndOutlivesItsContainers) {
  EXPECT_EQ(Sh({"-v", "data:/x"}, "echo kept > /x/file; stat -c %a /x"), "755");
  EXPECT_EQ(Volumes(), "data");
  EXPECT_EQ(Sh({"-v", "data:/y:ro"}, "cat /y/file; touch /y/z 2>/dev/null || echo read-only"),
            "kept\nread-only");
  EXPECT_EQ(Sh({"--mount", "type=volume,src=data,dst=/z,readonly"}, "cat /z/file"), "kept");
  EXPECT_TRUE(
      absl::EndsWith(Mountpoint("data"), "/volumes/.namespaces/" + bed_->ns() + "/data/_data") ||
      absl::EndsWith(Mountpoint("data"), "/volumes/data/_data"))
      << Mountpoint("data");
  EXPECT_EQ(ReadFile(Mountpoint("data") + "/file", 100).value_or(""), "kept\n");
  const std::string mounts = Sh({"-v", "data:/x"}, "grep ' /x ' /proc/self/mountinfo");
  EXPECT_THAT(mounts, Not(HasSubstr("shared:")));

  const std::string id = bed_->CtlOut({"create", "--name", "web", "-v", "data:/x", kImage});
  const Outcome refused = bed_->Ctl({"volume", "rm", "data"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("remove data: volume is in use - [web]"));
  EXPECT_EQ(bed_->Inspect("web",
                          "{{range .Mounts}}{{.Type}} {{.Name}} {{.Source}} "
                          "{{.Destination}} {{.Driver}} {{.Mode}} {{.RW}}{{end}}"),
            "volume data " + Mountpoint("data") + " /x local z true");
  EXPECT_EQ(bed_->CtlOut({"ps", "-aq", "--no-trunc", "--filter", "volume=data"}), id);
  bed_->CtlOut({"rm", "-v", "web"});
  EXPECT_EQ(bed_->CtlOut({"volume", "rm", "data"}), "data");
  EXPECT_EQ(Volumes(), "");
  const Outcome gone = bed_->Ctl({"volume", "inspect", "data"});
  EXPECT_EQ(gone.code, 1);
  EXPECT_THAT(gone.err, HasSubstr("get data: no such volume"));
}

TEST_F(VolumeTest, AnEmptyVolumeGetsTheImagesContentOwnerAndMode) {
  ImportVolumeImage();
  const std::string kLook = "stat -c '%u:%g %a' /data; cat /data/deep/file; readlink /data/link";
  const std::string kWhole = "4711:4712 750\nfrom the image/etc/passwd";
  EXPECT_EQ(Sh({"-v", "filled:/data"}, kLook, kVolumeImage), kWhole);
  // Another image changes nothing, and neither does another start.
  EXPECT_EQ(Sh({"-v", "filled:/data"}, kLook), kWhole);
  EXPECT_EQ(Sh({"-v", "bare:/data:nocopy"}, "ls -A /data; stat -c '%u %a' /data", kVolumeImage),
            "0 755");
  // It is empty still, so the next container fills it.
  EXPECT_EQ(Sh({"-v", "bare:/data"}, kLook, kVolumeImage), kWhole);
  // What is there is left alone, the mode too.
  Sh({"-v", "mine:/x"}, "touch /x/mine");
  EXPECT_EQ(Sh({"-v", "mine:/data"}, "ls -A /data; stat -c %a /data", kVolumeImage), "mine\n755");
  // A place that the image does not have.
  EXPECT_EQ(Sh({"-v", "fresh:/no/such/place"}, "ls -A /no/such/place"), "");
}

TEST_F(VolumeTest, AnImagesVolumeIsAnonymousAndGoesWhenAsked) {
  ImportVolumeImage();
  bed_->CtlOut({"create", "--name", "web", kVolumeImage});
  const std::string name = Volumes();
  EXPECT_EQ(name.size(), 64u) << name;
  EXPECT_EQ(bed_->Inspect("web", "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}}{{end}}"),
            "volume " + name + " /data");
  EXPECT_EQ(bed_->Inspect("web", "{{json .Config.Volumes}} {{json .HostConfig.Binds}}"),
            "{\"/data\":{}} null");
  EXPECT_EQ(bed_->CtlOut({"volume", "inspect", "-f", "{{json .Labels}}", name}),
            "{\"com.docker.volume.anonymous\":\"\"}");
  bed_->CtlOut({"rm", "web"});
  EXPECT_EQ(Volumes(), name) << "without -v it stays";
  EXPECT_THAT(bed_->CtlOut({"volume", "prune", "-f"}), HasSubstr(name));
  EXPECT_EQ(Volumes(), "");

  bed_->CtlOut({"create", "--name", "web", "-v", "named:/y", "-v", "/z", kVolumeImage});
  bed_->CtlOut({"rm", "-v", "web"});
  EXPECT_EQ(Volumes(), "named");
  EXPECT_EQ(Sh({"-v", "/q"}, "cat /data/deep/file; touch /q/x", kVolumeImage), "from the image");
  EXPECT_EQ(Volumes(), "named") << "--rm takes the anonymous ones along";
  // A mount of one's own in its place.
  EXPECT_EQ(Sh({"--tmpfs", "/data"}, "ls -A /data", kVolumeImage), "");
  EXPECT_EQ(Volumes(), "named");
}

TEST_F(VolumeTest, VolumesFromTakesEveryMountOfAnotherContainer) {
  ImportVolumeImage();
  ASSERT_TRUE(WriteFile(bed_->scratch() + "/host", "of the host").ok());
  bed_->CtlOut({"create", "--name", "store", "-v", "named:/n", "-v",
                bed_->scratch() + "/host:/h:ro", kVolumeImage});
  Sh({"-v", "named:/x"}, "echo shared > /x/file");
  EXPECT_EQ(
      Sh({"--volumes-from", "store"}, "cat /n/file /h; cat /data/deep/file; echo more > /n/more"),
      "shared\nof the hostfrom the image");
  EXPECT_EQ(Sh({"--volumes-from", "store:ro"}, "touch /n/z 2>/dev/null || echo ro; cat /n/more"),
            "ro\nmore");
  EXPECT_EQ(Sh({"--volumes-from", "store", "--tmpfs", "/n"}, "ls -A /n"), "");
  // By reference: the first container may go.
  bed_->CtlOut({"create", "--name", "second", "--volumes-from", "store", kImage});
  EXPECT_EQ(bed_->Inspect("second", "{{json .HostConfig.VolumesFrom}} {{json .HostConfig.Binds}}"),
            "[\"store\"] null");
  bed_->CtlOut({"rm", "-v", "store"});
  EXPECT_EQ(std::vector<std::string>(absl::StrSplit(Volumes(), '\n')).size(), 2u)
      << "both are still used";
  bed_->CtlOut({"rm", "-v", "second"});
  EXPECT_EQ(Volumes(), "named");
  EXPECT_THAT(bed_->Ctl({"create", "--volumes-from", "nobody", kImage}).err, HasSubstr("nobody"));
  EXPECT_THAT(bed_->Ctl({"create", "--volumes-from", "second:shared", kImage}).err,
              HasSubstr("invalid mode: shared"));
}

TEST_F(VolumeTest, ListsAndFormatsAreDockers) {
  bed_->CtlOut({"volume", "create", "--label", "tier=db", "alpha"});
  bed_->CtlOut({"volume", "create", "beta"});
  EXPECT_EQ(bed_->CtlOut({"volume", "create", "alpha"}), "alpha");
  EXPECT_EQ(bed_->CtlOut({"volume", "ls"}),
            "DRIVER    VOLUME NAME\nlocal     alpha\nlocal     beta");
  EXPECT_EQ(bed_->CtlOut(
                {"volume", "ls", "--format", "{{.Name}} {{.Labels}}", "--filter", "label=tier=db"}),
            "alpha tier=db");
  EXPECT_EQ(bed_->CtlOut({"inspect", "--type", "volume", "-f", "{{.Name}}", "beta"}), "beta");
  EXPECT_EQ(bed_->CtlOut({"inspect", "-f", "{{.Driver}} {{.Scope}}", "beta"}), "local local");
  const Outcome none = bed_->Ctl({"volume", "rm", "alpha", "gone"});
  EXPECT_EQ(none.code, 1);
  EXPECT_EQ(none.out, "alpha\n");
  EXPECT_THAT(none.err, HasSubstr("get gone: no such volume"));
  EXPECT_EQ(bed_->CtlOut({"volume", "rm", "-f", "gone"}), "gone");
  EXPECT_EQ(bed_->Ctl({"volume", "create", "bad/name"}).code, 1);
  EXPECT_THAT(bed_->CtlOut({"volume", "prune", "-af"}),
              HasSubstr("Deleted Volumes:\nbeta\n\nTotal reclaimed space: "));
}

TEST_F(VolumeTest, AMissingSourceOfTheHostIsMadeForTheShortFormOnly) {
  const std::string missing = bed_->scratch() + "/missing";
  const Outcome refused =
      bed_->Ctl({"create", "--mount", "type=bind,src=" + missing + ",dst=/x", kImage});
  EXPECT_NE(refused.code, 0);
  EXPECT_THAT(refused.err, HasSubstr("bind source path does not exist: " + missing));
  EXPECT_EQ(bed_->CtlOut({"ps", "-aq"}), "");
  EXPECT_TRUE(absl::IsNotFound(ListDirectory(missing).status()));
  EXPECT_EQ(Sh({"-v", missing + ":/x"}, "touch /x/file; stat -c '%u %a' /x"), "0 755");
  EXPECT_THAT(ListDirectory(missing).value_or(std::vector<std::string>()), ElementsAre("file"));
}

TEST_F(VolumeTest, ASecondCreateChangesNothingAndPruneLeavesVolumesWithOptions) {
  const std::vector<std::string> options = {"-o", "type=tmpfs", "-o", "device=tmpfs"};
  const auto create = [&](const std::string& name) {
    std::vector<std::string> words = {"volume", "create"};
    words.insert(words.end(), options.begin(), options.end());
    words.push_back(name);
    return bed_->CtlOut(words);
  };
  bed_->CtlOut({"volume", "create", "plain"});
  EXPECT_EQ(create("plain"), "plain");
  EXPECT_EQ(bed_->CtlOut({"volume", "inspect", "-f", "{{json .Options}}", "plain"}), "null");
  EXPECT_EQ(create("with-options"), "with-options");
  const std::string loose = bed_->CtlOut({"volume", "create"});
  bed_->CtlOut({"create", "--name", "stopped", "-v", "/x", kImage});
  const std::string used = bed_->Inspect("stopped", "{{range .Mounts}}{{.Name}}{{end}}");
  EXPECT_THAT(bed_->CtlOut({"volume", "prune", "-f"}),
              HasSubstr("Deleted Volumes:\n" + loose + "\n\n"));
  EXPECT_THAT(bed_->CtlOut({"volume", "prune", "-af"}), HasSubstr("Deleted Volumes:\nplain\n\n"));
  const std::vector<std::string> left = absl::StrSplit(Volumes(), '\n');
  EXPECT_THAT(left, UnorderedElementsAre("with-options", used));
  bed_->CtlOut({"rm", "-v", "stopped"});
}

TEST_F(VolumeTest, HostileNamesReachNothing) {
  for (const char* name :
       {"../x", "..", ".hidden", "a/../../b", "-flag", "x", "a\nb", ".namespaces", ".removed-1"}) {
    EXPECT_NE(bed_->Ctl({"volume", "create", "--", name}).code, 0) << name;
    EXPECT_NE(
        bed_->Ctl({"create", "--mount", absl::StrCat("type=volume,dst=/x,src=", name), kImage})
            .code,
        0)
        << name;
    // Neither is what is not there removed, nor anything else.
    EXPECT_NE(bed_->Ctl({"volume", "rm", "--", name}).code, 0) << name;
  }
  EXPECT_EQ(Volumes(), "");
  EXPECT_EQ(bed_->CtlOut({"ps", "-aq"}), "");
}

TEST_F(VolumeTest, AHostileTreeIsCopiedWithoutLeavingIt) {
  // Links out of the tree, one that is the mount point itself, a device, a set-id program.
  const std::string root = bed_->scratch() + "/hostile";
  ASSERT_TRUE(MakeBusyboxRoot(root).ok());
  ASSERT_TRUE(MakeDirectories(root + "/data").ok());
  ASSERT_TRUE(MakeDirectories(root + "/real").ok());
  ASSERT_TRUE(WriteFile(root + "/real/inside", "inside").ok());
  ASSERT_EQ(symlink("../../../../../../../../etc", (root + "/data/etc").c_str()), 0);
  ASSERT_EQ(symlink("/", (root + "/data/root").c_str()), 0);
  ASSERT_EQ(symlink("/real", (root + "/link").c_str()), 0);
  const std::string host = bed_->scratch() + "/of-the-host";
  ASSERT_TRUE(MakeDirectories(host).ok());
  ASSERT_TRUE(WriteFile(host + "/secret", "HOST FILE").ok());
  ASSERT_EQ(symlink(("/../../../../../.." + host).c_str(), (root + "/up").c_str()), 0);
  ASSERT_EQ(mknod((root + "/data/null").c_str(), S_IFCHR | 0666, 0x103), 0);
  const std::string tar = bed_->scratch() + "/hostile.tar";
  ASSERT_EQ(RunProgram({"tar", "-C", root, "-cf", tar, "."}).code, 0);
  ASSERT_TRUE(Ok(bed_->Ctl({"import", tar, "hostile:test"})));
  bed_->CtlOut(
      {"create", "-v", "one:/data", "-v", "two:/link", "-v", "three:/up", "hostile:test", "true"});
  struct stat info;
  ASSERT_EQ(lstat((Mountpoint("one") + "/etc").c_str(), &info), 0);
  EXPECT_TRUE(S_ISLNK(info.st_mode));
  ASSERT_EQ(lstat((Mountpoint("one") + "/null").c_str(), &info), 0);
  EXPECT_TRUE(S_ISCHR(info.st_mode));
  EXPECT_EQ(ReadFile(Mountpoint("two") + "/inside", 100).value_or(""), "inside");
  // The link leads to a place in the container's root, where there is nothing, not to the host's.
  EXPECT_THAT(ListDirectory(Mountpoint("three")).value(), IsEmpty());
}

// What an image calls its volumes is a path in the image, however it is written.
TEST_F(VolumeTest, VolumesOfAnImageNameNoPlaceOfTheHost) {
  const std::string host = bed_->scratch() + "/of-the-host";
  ASSERT_TRUE(MakeDirectories(host).ok());
  ASSERT_TRUE(WriteFile(host + "/secret", "HOST FILE").ok());
  const std::string root = bed_->scratch() + "/plain";
  ASSERT_TRUE(MakeBusyboxRoot(root).ok());
  ASSERT_EQ(symlink(host.c_str(), (root + "/link").c_str()), 0);
  ASSERT_EQ(symlink("/proc/self/cwd", (root + "/magic").c_str()), 0);
  const std::string tar = bed_->scratch() + "/plain.tar";
  ASSERT_EQ(RunProgram({"tar", "-C", root, "-cf", tar, "."}).code, 0);
  for (const std::string& path :
       {absl::StrCat("/../../../../../../..", host), absl::StrCat("/bin/../../../../../..", host),
        absl::StrCat("/./..//../", host), absl::StrCat("/link/.."), std::string("/link"),
        absl::StrCat("/magic", host), std::string("/proc/self/root/etc"), std::string("/.."),
        std::string("/"), std::string(".."), std::string("relative"), std::string("")}) {
    const std::string changed = absl::StrCat("VOLUME [\"", path, "\"]");
    if (!bed_->Ctl({"import", "--change", changed, tar, "odd:test"}).ok()) continue;
    // Refused as a whole, or a volume that shows nothing of the host.
    const Outcome run = bed_->Ctl(
        {"run", "--name", "odd", "odd:test", "sh", "-c", "cat /secret /*/secret; find / -xdev"});
    EXPECT_THAT(run.out, Not(HasSubstr("HOST FILE"))) << path;
    for (const absl::string_view name : absl::StrSplit(Volumes(), '\n', absl::SkipEmpty())) {
      EXPECT_EQ(RunProgram({"grep", "-rl", "HOST FILE", Mountpoint(std::string(name))}).out, "")
          << path;
    }
    bed_->Ctl({"rm", "-f", "-v", "odd"});
  }
  EXPECT_EQ(Volumes(), "");
  EXPECT_THAT(ListDirectory(host).value(), ElementsAre("secret"));
}

TEST_F(VolumeTest, AnArchiveThatIsPutIntoAVolumeStaysInIt) {
  const std::string host = bed_->scratch() + "/of-the-host";
  const std::string tree = bed_->scratch() + "/tree";
  ASSERT_TRUE(MakeDirectories(host).ok());
  ASSERT_TRUE(MakeDirectories(tree + "/one").ok());
  ASSERT_TRUE(MakeDirectories(tree + "/two/out").ok());
  ASSERT_EQ(symlink(host.c_str(), (tree + "/one/out").c_str()), 0);
  ASSERT_TRUE(WriteFile(tree + "/two/out/planted", "x").ok());
  ASSERT_TRUE(WriteFile(tree + "/two/planted", "x").ok());
  bed_->CtlOut({"volume", "create", "data"});
  const std::string up = absl::StrCat("../../../../../../../../..", host);
  const std::string tar = bed_->scratch() + "/hostile.tar";
  for (const std::vector<std::string>& more :
       // First a link, then a file that goes through it; a name that climbs; an absolute one.
       std::vector<std::vector<std::string>>{
           {"-C", tree + "/two", "out/planted"},
           {"-C", tree + "/two", "--transform", absl::StrCat("s,^,", up, "/,"), "planted"},
           {"-C", tree + "/two", "--transform", absl::StrCat("s,^,", host, "/,"), "planted"}}) {
    ASSERT_EQ(RunProgram({"tar", "-C", tree + "/one", "-cf", tar, "out"}).code, 0);
    std::vector<std::string> append = {"tar", "-P", "-rf", tar};
    append.insert(append.end(), more.begin(), more.end());
    ASSERT_TRUE(Ok(RunProgram(append)));
    bed_->Ctl({"volume", "import", "data", tar});
    EXPECT_THAT(ListDirectory(host).value(), IsEmpty()) << append.back();
  }
  EXPECT_EQ(access((bed_->scratch() + "/planted").c_str(), F_OK), -1);
}

TEST_F(VolumeTest, EventsAreDockers) {
  bed_->CtlOut({"volume", "create", "data"});
  bed_->CtlOut({"volume", "rm", "data"});
  const std::string events =
      bed_->CtlOut({"events", "--since", "1h", "--until", "0s", "--filter", "type=volume",
                    "--format", "{{.Action}} {{.Actor.ID}} {{.Actor.Attributes.driver}}"});
  EXPECT_EQ(events, "create data local\ndestroy data local");
}

TEST_F(VolumeTest, APartOfAVolumeIsShownAndNothingBesideIt) {
  Sh({"-v", "data:/x"}, "mkdir -p /x/a/b; echo in > /x/a/b/file; echo out > /x/top; ln -s a /x/l");
  const std::string kMount = "type=volume,src=data,dst=/x,volume-subpath=";
  EXPECT_EQ(Sh({"--mount", kMount + "a"}, "cat /x/b/file; ls /x; touch /x/new"), "in\nb");
  EXPECT_EQ(Sh({"--mount", kMount + "a/b/file"}, "cat /x"), "in");
  EXPECT_EQ(Sh({"--mount", kMount + "a,readonly"}, "touch /x/z 2>/dev/null || ls /x"), "b\nnew");
  for (const char* bad : {"l", "l/b", "gone", "top/x"}) {
    const Outcome refused = bed_->Ctl({"run", "--rm", "--mount", kMount + bad, kImage, "true"});
    EXPECT_NE(refused.code, 0) << bad;
    EXPECT_THAT(refused.err, HasSubstr("cannot access path")) << bad;
  }
  for (const char* bad : {"../x", "/etc", "a/../../.."}) {
    EXPECT_THAT(bed_->Ctl({"create", "--mount", kMount + bad, kImage}).err,
                HasSubstr("subpath must be a relative path within the volume"))
        << bad;
  }
  // Nothing of it stays mounted on the host.
  EXPECT_THAT(ListDirectory(bed_->state() + "/mounts").value_or(std::vector<std::string>()),
              IsEmpty());
}

TEST_F(VolumeTest, ALinkThatIsSwappedInLeadsNowhere) {
  const std::string secret = bed_->scratch() + "/secret";
  ASSERT_TRUE(MakeDirectories(secret).ok());
  ASSERT_TRUE(WriteFile(secret + "/of-the-host", "x").ok());
  Sh({"-v", "data:/x"}, "mkdir /x/part /x/part.aside; touch /x/part/inside /x/part.aside/inside");
  // One container swaps the directory for a link, and back, as fast as it can.
  bed_->CtlOut({"run", "-d", "--name", "attacker", "-v", "data:/x", kImage, "sh", "-c",
                absl::StrCat("while true; do mv /x/part /x/real; ln -s ", secret,
                             " /x/part; rm /x/part; mv /x/real /x/part; done")});
  int ran = 0;
  for (int i = 0; i < 30; ++i) {
    const Outcome victim =
        bed_->Ctl({"run", "--rm", "--mount", "type=volume,src=data,dst=/x,volume-subpath=part",
                   kImage, "ls", "/x"});
    EXPECT_THAT(victim.out, Not(HasSubstr("of-the-host")));
    if (victim.ok()) {
      ++ran;
      EXPECT_EQ(victim.out, "inside\n");
    } else {
      EXPECT_THAT(victim.err, HasSubstr("cannot access path"));
    }
  }
  bed_->CtlOut({"rm", "-f", "attacker"});
  RecordProperty("ran", ran);
}

TEST_F(VolumeTest, OptionsOfTheLocalDriverAreMounts) {
  bed_->CtlOut({"volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o",
                "o=size=4m,mode=1770", "mem"});
  EXPECT_EQ(bed_->CtlOut({"volume", "inspect", "-f", "{{.Options.o}}", "mem"}),
            "size=4m,mode=1770");
  bed_->CtlOut({"run", "-d", "--name", "one", "-v", "mem:/m", kImage, "sh", "-c",
                "echo shared > /m/file; sleep 1000"});
  ASSERT_TRUE(Eventually([&] { return Sh({"-v", "mem:/n"}, "cat /n/file || true") == "shared"; }));
  const std::string seen = Sh({"-v", "mem:/n"}, "cat /n/file; grep ' /n ' /proc/mounts");
  EXPECT_THAT(seen, HasSubstr("shared\ntmpfs /n tmpfs"));
  EXPECT_THAT(seen, HasSubstr("size=4096k"));
  // The daemon's end changes nothing for it.
  bed_->KillDaemon();
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_THAT(Sh({"-v", "mem:/n"}, "cat /n/file"), HasSubstr("shared"));
  bed_->CtlOut({"rm", "-f", "one"});
  // With its last container the memory goes.
  EXPECT_EQ(Sh({"-v", "mem:/n"}, "ls -A /n"), "");
  bed_->CtlOut({"volume", "rm", "mem"});

  const std::string host = bed_->scratch() + "/host";
  ASSERT_TRUE(MakeDirectories(host).ok());
  bed_->CtlOut(
      {"volume", "create", "-o", "type=none", "-o", "device=" + host, "-o", "o=bind", "bound"});
  Sh({"-v", "bound:/b"}, "echo kept > /b/file");
  EXPECT_EQ(ReadFile(host + "/file", 100).value_or(""), "kept\n");
  bed_->CtlOut({"volume", "rm", "bound"});
  EXPECT_EQ(ReadFile(host + "/file", 100).value_or(""), "kept\n")
      << "removing the volume removes nothing of the host's";

  bed_->CtlOut({"volume", "create", "-o", "type=none", "-o", "device=/no/such/place", "-o",
                "o=bind", "nowhere"});
  const Outcome failed = bed_->Ctl({"run", "--rm", "-v", "nowhere:/x:nocopy", kImage, "true"});
  EXPECT_EQ(failed.code, 125) << failed.err;
  EXPECT_THAT(failed.err, HasSubstr("failed to mount local volume"));
  EXPECT_THAT(bed_->Ctl({"volume", "create", "-o", "type=tmpfs", "x1"}).err,
              HasSubstr("missing required option: \"device\""));
}

TEST_F(VolumeTest, ContentGoesOutAndInAndIsCopiedAndRenamed) {
  ImportVolumeImage();
  Sh({"-v", "data:/data"}, "true", kVolumeImage);
  const std::string kLook = "stat -c '%u:%g %a' /x; cat /x/deep/file; readlink /x/link";
  const std::string kWhole = "4711:4712 750\nfrom the image/etc/passwd";
  const std::string tar = bed_->scratch() + "/data.tar";
  bed_->CtlOut({"volume", "export", "-o", tar, "data"});
  EXPECT_THAT(RunProgram({"tar", "-tf", tar}).out, HasSubstr("deep/file"));
  bed_->CtlOut({"volume", "create", "again"});
  bed_->CtlOut({"volume", "import", "again", tar});
  EXPECT_EQ(Sh({"-v", "again:/x"}, "cat /x/deep/file; readlink /x/link"),
            "from the image/etc/passwd");
  // An archive that climbs out, or is cut short, leaves an empty volume empty.
  bed_->CtlOut({"volume", "create", "empty"});
  const std::string half = ReadFile(tar, 1 << 20).value().substr(0, 1300);
  EXPECT_NE(bed_->Ctl({"volume", "import", "empty"}, half).code, 0);
  EXPECT_EQ(Sh({"-v", "empty:/x"}, "ls -A /x"), "");
  EXPECT_NE(bed_->Ctl({"volume", "import", "gone", tar}).code, 0);

  EXPECT_EQ(bed_->CtlOut({"volume", "clone", "data", "copy"}), "copy");
  EXPECT_EQ(Sh({"-v", "copy:/x"}, kLook), kWhole);
  EXPECT_NE(bed_->Ctl({"volume", "clone", "data", "copy"}).code, 0);
  const std::string snapshot = bed_->CtlOut({"volume", "snapshot", "data"});
  EXPECT_THAT(snapshot, testing::StartsWith("data-"));
  EXPECT_EQ(bed_->CtlOut({"volume", "ls", "-q", "--filter", "label=gantry.snapshot.of=data"}),
            snapshot);
  EXPECT_EQ(Sh({"-v", snapshot + ":/x"}, kLook), kWhole);

  bed_->CtlOut({"volume", "rename", "data", "renamed"});
  EXPECT_EQ(Sh({"-v", "renamed:/x"}, kLook), kWhole);
  EXPECT_NE(bed_->Ctl({"volume", "inspect", "data"}).code, 0);
  bed_->CtlOut({"create", "--name", "web", "-v", "renamed:/x", kImage});
  EXPECT_THAT(bed_->Ctl({"volume", "rename", "renamed", "data"}).err,
              HasSubstr("rename renamed: volume is in use"));
  EXPECT_NE(bed_->Ctl({"volume", "rename", "copy", "renamed"}).code, 0);
}

struct CrashCase {
  const char* point;
  enum class During { kCreate, kCopy, kAnonymous, kRemove, kRename } during;
};

std::string NameOfCase(const testing::TestParamInfo<CrashCase>& info) {
  static constexpr const char* kNames[] = {"Create", "Copy", "Anonymous", "Remove", "Rename"};
  return absl::StrCat(kNames[static_cast<int>(info.param.during)], "_",
                      absl::StrReplaceAll(info.param.point, {{".", "_"}}));
}

std::vector<std::string> Lines(const std::string& text) {
  return absl::StrSplit(text, '\n', absl::SkipEmpty());
}

class VolumeCrashTest : public VolumeTest, public testing::WithParamInterface<CrashCase> {};

TEST_P(VolumeCrashTest, AVolumeIsWholeOrNotThere) {
  if (IsSkipped()) return;
  const CrashCase& crash = GetParam();
  ImportVolumeImage();
  if (crash.during == CrashCase::During::kRemove || crash.during == CrashCase::During::kRename) {
    Sh({"-v", "data:/data"}, "true", kVolumeImage);
  }
  bed_->StopDaemon();
  ASSERT_TRUE(bed_->StartDaemon({{"GANTRY_CRASH_POINT", crash.point}}));
  Outcome outcome;
  switch (crash.during) {
    case CrashCase::During::kCreate:
      outcome = bed_->Ctl({"volume", "create", "data"});
      break;
    case CrashCase::During::kCopy:
      outcome = bed_->Ctl({"create", "-v", "data:/data", kVolumeImage});
      break;
    case CrashCase::During::kAnonymous:
      outcome = bed_->Ctl({"create", kVolumeImage});
      break;
    case CrashCase::During::kRemove:
      outcome = bed_->Ctl({"volume", "rm", "data"});
      break;
    case CrashCase::During::kRename:
      outcome = bed_->Ctl({"volume", "rename", "data", "renamed"});
      break;
  }
  ASSERT_EQ(bed_->WaitDaemonGone(), 137) << crash.point << " was not passed; " << outcome.err;
  ASSERT_TRUE(bed_->StartDaemon());
  // Nothing of an anonymous volume stays without its container.
  if (crash.during == CrashCase::During::kAnonymous && bed_->CtlOut({"ps", "-aq"}).empty()) {
    EXPECT_EQ(Volumes(), "");
  }
  // What is listed has its directory, and what has one is listed.
  const std::string parent = bed_->root() + "/volumes";
  for (const std::string& name : Lines(Volumes()))
    EXPECT_EQ(access(Mountpoint(name).c_str(), F_OK), 0) << name;
  std::vector<std::string> directories;
  for (const std::string& below : {parent, parent + "/.namespaces/" + bed_->ns()}) {
    for (const std::string& name : ListDirectory(below).value_or(std::vector<std::string>())) {
      if (name == ".namespaces") continue;
      directories.push_back(name);
      EXPECT_EQ(ListDirectory(below + "/" + name).value().size(), 1u)
          << name << " has more than its data";
    }
  }
  const std::vector<std::string> listed = Lines(Volumes());
  EXPECT_THAT(directories, testing::UnorderedElementsAreArray(listed));
  if (crash.during == CrashCase::During::kRename && Volumes() == "renamed")
    bed_->CtlOut({"volume", "rename", "renamed", "data"});
  // Never half of the image's content: all of it, or it comes with the next container.
  EXPECT_EQ(Sh({"-v", "data:/data"}, "stat -c '%u %a' /data; ls -A /data; cat /data/deep/file",
               kVolumeImage),
            "4711 750\ndeep\nlink\nfrom the image");
  for (const std::string& id : Lines(bed_->CtlOut({"ps", "-aq"})))
    bed_->CtlOut({"rm", "-f", "-v", id});
  bed_->CtlOut({"volume", "rm", "data"});
  EXPECT_EQ(Volumes(), "");
}

INSTANTIATE_TEST_SUITE_P(
    Points, VolumeCrashTest,
    testing::Values(CrashCase{"volume.prepared", CrashCase::During::kCreate},
                    CrashCase{"volume.made", CrashCase::During::kCreate},
                    CrashCase{"volume.recorded", CrashCase::During::kCreate},
                    CrashCase{"volume.copied", CrashCase::During::kCopy},
                    CrashCase{"volume.copy_committed", CrashCase::During::kCopy},
                    CrashCase{"volume.entry_moved", CrashCase::During::kCopy},
                    CrashCase{"volume.recorded", CrashCase::During::kAnonymous},
                    CrashCase{"volume.copied", CrashCase::During::kAnonymous},
                    CrashCase{"container.recorded", CrashCase::During::kAnonymous},
                    CrashCase{"volume.going", CrashCase::During::kRemove},
                    CrashCase{"volume.forgotten", CrashCase::During::kRemove},
                    CrashCase{"volume.moved_away", CrashCase::During::kRemove},
                    CrashCase{"volume.directory_renamed", CrashCase::During::kRename},
                    CrashCase{"volume.renamed", CrashCase::During::kRename}),
    NameOfCase);

TEST_F(VolumeTest, CyclesUnderKillOfTheDaemonLeaveNothing) {
  ImportVolumeImage();
  bed_->CtlOut({"volume", "create", "shared"});
  int written = 0;
  for (int i = 0; i < 100; ++i) {
    const Outcome ran = bed_->Ctl({"run", "--rm", "-v", "shared:/s", "--tmpfs", "/t", kVolumeImage,
                                   "sh", "-c", "echo x >> /s/log; cat /data/deep/file > /t/y"});
    if (ran.ok()) ++written;
    if (i % 10 != 5) continue;
    // In the middle of one.
    absl::StatusOr<Process> running = bed_->SpawnCtl(
        {"run", "--rm", "-v", "shared:/s", kVolumeImage, "sh", "-c", "echo y >> /s/other"});
    ASSERT_TRUE(running.ok()) << running.status();
    bed_->KillDaemon();
    // Its daemon was killed: its end says nothing.
    running->Wait().status().IgnoreError();
    ASSERT_TRUE(bed_->StartDaemon());
  }
  EXPECT_EQ(written, 100);
  ASSERT_TRUE(Eventually([&] { return bed_->CtlOut({"ps", "-aq"}).empty(); }));
  EXPECT_TRUE(Eventually([&] { return Volumes() == "shared"; })) << Volumes();
  const std::string log = ReadFile(Mountpoint("shared") + "/log", 1 << 20).value_or("");
  EXPECT_EQ(log.size(), 200u);
  bed_->CtlOut({"volume", "rm", "shared"});
}

}  // namespace
}  // namespace gantry::integration
