// Images on their way, by the programs themselves: docker-registry, ctl, umoci beside them.

#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "integration/images.h"
#include "integration/testbed.h"
#include "proto/containerd/services/transfer/v1/transfer.grpc.pb.h"
#include "proto/containerd/types/transfer/imagestore.pb.h"
#include "proto/containerd/types/transfer/registry.pb.h"
#include "supervisor/distribution/docker_registry.h"
#include "supervisor/distribution/fake_registry.h"

namespace gantry::integration {
namespace {

using distribution::DockerRegistry;
using ::testing::HasSubstr;

// What there is to say of a tree, a line per thing: kind, mode, owner, size, time, target,
// attributes, content, and which names are one file. Of the root only what is in it.
std::string Describe(const std::string& root) {
  // Directories have no size that means something; links have no mode.
  const Outcome outcome = RunProgram({"sh", "-c", R"(cd "$1" && {
find . -mindepth 1 -type d -printf '%P d %m %U:%G %T@\n'
find . -mindepth 1 -type l -printf '%P l %U:%G %T@ -> %l\n'
find . -mindepth 1 -type f -printf '%P f %m %U:%G %s %T@ links %n\n'
find . -mindepth 1 ! -type d ! -type l ! -type f -printf '%P %y %m %U:%G %T@\n'
find . -mindepth 1 -type b -o -type c | xargs -r stat -c '%n device %t:%T'
find . -type f -print0 | xargs -0 sha256sum
find . -type f -links +1 -printf '%i %P\n' | sort | awk '$1 != last { last = $1; first = $2; next } { print first, "=", $2 }'
getfattr -R -h -P -d -m - -e hex . 2>/dev/null | awk '/^# file: / { file = $3; next } /^(trusted\.overlay|$)/ { next } { print file, "attribute", $0 }'
} | LC_ALL=C sort)",
                                      "sh", root},
                                     "", absl::Minutes(5));
  EXPECT_TRUE(Ok(outcome));
  return outcome.out;
}

// The lines that only one side has, a few of them.
std::string Difference(const std::string& a, const std::string& b) {
  const std::vector<std::string> left = absl::StrSplit(a, '\n'), right = absl::StrSplit(b, '\n');
  const std::set<std::string> in_left(left.begin(), left.end()),
      in_right(right.begin(), right.end());
  std::ostringstream out;
  int shown = 0;
  for (const std::string& line : left) {
    if (in_right.count(line) == 0 && ++shown <= 20) out << "  only first:  " << line << "\n";
  }
  for (const std::string& line : right) {
    if (in_left.count(line) == 0 && ++shown <= 40) out << "  only second: " << line << "\n";
  }
  return out.str();
}

class ImageTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    absl::StatusOr<std::unique_ptr<DockerRegistry>> registry =
        DockerRegistry::Start(false, DockerRegistry::Auth::kNone);
    ASSERT_TRUE(registry.ok()) << registry.status();
    registry_ = *std::move(registry);
  }

  // A directory with a file of that many bytes that do not compress.
  std::string Noise(const std::string& under, const std::string& name, size_t bytes) {
    const std::string directory = absl::StrCat(under, "/", name);
    EXPECT_TRUE(MakeDirectories(directory).ok());
    EXPECT_TRUE(Ok(RunProgram({"sh", "-c", "head -c \"$1\" /dev/urandom > \"$2\"", "sh",
                               absl::StrCat(bytes), directory + "/" + name})));
    return directory;
  }

  // An image of `layers` layers that do not compress, in the registry under that name; it is in no
  // daemon's store.
  void Publish(Testbed& maker, const std::string& name, int layers, size_t layer_bytes) {
    ImageOptions options;
    options.names = {absl::StrCat(registry_->host(), "/", name)};
    options.layer_compression = "gzip";
    std::vector<std::string> directories;
    const std::string busybox = maker.scratch() + "/busybox-root";
    ASSERT_TRUE(MakeBusyboxRoot(busybox).ok());
    directories.push_back(busybox);
    for (int i = 0; i < layers; ++i)
      directories.push_back(Noise(maker.scratch(), absl::StrCat("noise", i), layer_bytes));
    const std::string archive = maker.scratch() + "/published.tar";
    ASSERT_TRUE(WriteOciArchive(archive, directories, options).ok());
    ASSERT_TRUE(Ok(maker.Ctl({"load", "-q", "-i", archive})));
    ASSERT_TRUE(Ok(maker.Ctl({"push", "-q", options.names[0]}, "", absl::Minutes(3))));
  }

  std::unique_ptr<DockerRegistry> registry_;
};

// A real Debian and a layer on top that removes, replaces and links, unpacked by us and by umoci.
TEST_F(ImageTest, UnpacksAsUmociDoes) {
  absl::StatusOr<std::string> debian = DebianRoot();
  if (absl::IsUnavailable(debian.status())) GTEST_SKIP() << debian.status();
  ASSERT_TRUE(debian.ok()) << debian.status();
  Testbed bed;
  const std::string top = bed.scratch() + "/top";
  ASSERT_TRUE(Ok(RunProgram({"sh", "-ec", R"(
mkdir -p "$1/etc/apt" "$1/usr/share/doc" "$1/srv/new" "$1/usr/local/bin"
: > "$1/etc/.wh.motd"
: > "$1/usr/share/doc/.wh..wh..opq"
echo kept > "$1/usr/share/doc/kept"
echo one > "$1/srv/new/one"; ln "$1/srv/new/one" "$1/srv/new/other"; ln -s ../../etc/passwd "$1/srv/new/link"
chown 1234:4321 "$1/srv/new" "$1/srv/new/one"; chmod 2755 "$1/srv/new"
cp /bin/true "$1/usr/local/bin/privileged"; chmod 4711 "$1/usr/local/bin/privileged"
setfattr -n user.note -v value "$1/srv/new/one"
setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 "$1/usr/local/bin/privileged"
mkfifo -m 640 "$1/srv/new/pipe"
mknod "$1/srv/new/null" c 1 3
truncate -s 1M "$1/srv/new/sparse"; printf x >> "$1/srv/new/sparse"
touch -d '2001-02-03 04:05:06.789012345' "$1/srv/new/one" "$1/srv/new"
touch -h -d '1999-12-31 23:59:59' "$1/srv/new/link"
)",
                             "sh", top})));
  ImageOptions options;
  options.names = {"compare:test"};
  options.layer_compression = "gzip";
  options.keep_times = true;
  const std::string archive = bed.scratch() + "/compare.tar";
  absl::Status written = WriteOciArchive(archive, {*debian, top}, options);
  ASSERT_TRUE(written.ok()) << written;

  ASSERT_TRUE(Ok(bed.Ctl({"load", "-q", "-i", archive}, "", absl::Minutes(5))));
  const std::string id = bed.CtlOut({"create", "compare:test", "true"});
  // What a container would see, without the files that a container is given.
  const std::string ours = bed.scratch() + "/ours";
  ASSERT_TRUE(MakeDirectories(ours).ok());
  const Outcome tree = bed.Ctr({"snapshots", "tree"});
  ASSERT_TRUE(Ok(tree));
  const Outcome list = bed.Ctr({"snapshots", "ls"});
  ASSERT_TRUE(Ok(list));
  // The topmost committed snapshot: the parent of the container's own.
  std::string chain;
  for (absl::string_view line : absl::StrSplit(list.out, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ' ', absl::SkipWhitespace());
    if (fields.size() == 3 && fields[2] == "Active") chain = std::string(fields[1]);
  }
  ASSERT_TRUE(absl::StartsWith(chain, "sha256:")) << list.out;
  ASSERT_TRUE(Ok(bed.Ctr({"snapshots", "view", "compare-view", chain})));
  const Outcome mounts = bed.Ctr({"snapshots", "mounts", ours, "compare-view"});
  ASSERT_TRUE(Ok(mounts));
  ASSERT_TRUE(Ok(RunProgram({"sh", "-c", mounts.out}))) << mounts.out;
  const std::string mine = Describe(ours);
  EXPECT_EQ(umount(ours.c_str()), 0);
  EXPECT_TRUE(Ok(bed.Ctr({"snapshots", "rm", "compare-view"})));

  const std::string layout = bed.scratch() + "/layout", bundle = bed.scratch() + "/bundle";
  ASSERT_TRUE(MakeDirectories(layout).ok());
  ASSERT_TRUE(Ok(RunProgram({"tar", "-C", layout, "-xf", archive})));
  ASSERT_TRUE(Ok(
      RunProgram({"umoci", "unpack", "--image", layout + ":test", bundle}, "", absl::Minutes(5))));
  const std::string theirs = Describe(bundle + "/rootfs");
  EXPECT_TRUE(absl::StrContains(mine, "srv/new/one f 644 1234:4321 4 981173106.7890123450"))
      << "the test compares less than it says";
  EXPECT_TRUE(absl::StrContains(mine, "attribute security.capability"));
  EXPECT_GT(std::count(mine.begin(), mine.end(), '\n'), 5000);
  EXPECT_TRUE(mine == theirs) << Difference(mine, theirs);
  EXPECT_TRUE(Ok(RunProgram({"rm", "-rf", bundle, layout})));
}

TEST_F(ImageTest, WhatIsPulledPushedAndPulledBackIsTheSameToTheByte) {
  Testbed first;
  Publish(first, "a/app:v1", 2, 1 << 20);
  const std::string name = registry_->host() + "/a/app:v1";
  const std::string elsewhere = registry_->host() + "/b/copy:v2";
  Testbed second;
  ASSERT_TRUE(Ok(second.Ctl({"pull", "-q", name})));
  ASSERT_TRUE(Ok(second.Ctl({"tag", name, elsewhere})));
  const Outcome pushed = second.Ctl({"push", elsewhere});
  ASSERT_TRUE(Ok(pushed));
  EXPECT_TRUE(absl::StrContains(pushed.out + pushed.err, "ounted")) << pushed.out << pushed.err;
  Testbed third;
  ASSERT_TRUE(Ok(third.Ctl({"pull", "-q", elsewhere})));
  const auto blobs = [](const Testbed& bed) {
    return RunProgram({"sh", "-c", "cd \"$1\" && find . -type f | sort | xargs sha256sum", "sh",
                       bed.root() + "/content/blobs"})
        .out;
  };
  EXPECT_EQ(blobs(second), blobs(third));
  EXPECT_EQ(blobs(first), blobs(third));
  EXPECT_THAT(blobs(third), HasSubstr("sha256/"));
  EXPECT_TRUE(Ok(third.Ctl({"run", "--rm", elsewhere, "sh", "-c", "test -s /noise1"})));
}

// ^C, and a registry that is gone for a while: the next pull takes up what is there.
TEST_F(ImageTest, AnInterruptedPullGoesOn) {
  Testbed maker;
  Publish(maker, "app:v1", 4, 48 << 20);
  const std::string name = registry_->host() + "/app:v1";
  Testbed bed;
  const auto arrived = [&]() -> int64_t {
    const Outcome sizes = RunProgram(
        {"sh", "-c",
         "find \"$1/content\" -type f -size +1M -printf '%s\\n' | awk '{s+=$1} END {print s+0}'",
         "sh", bed.root()});
    return std::stoll(sizes.out.empty() ? "0" : sizes.out);
  };
  absl::StatusOr<Process> pull = bed.SpawnCtl({"pull", "-q", name});
  ASSERT_TRUE(pull.ok()) << pull.status();
  ASSERT_TRUE(
      Eventually([&] { return arrived() > (8 << 20) || pull->Wait(absl::Milliseconds(1)).ok(); }));
  (void)pull->Kill(SIGINT);
  ASSERT_TRUE(pull->Wait(absl::Seconds(30)).ok()) << "^C does not end the pull";
  EXPECT_EQ(bed.CtlOut({"images", "-q"}), "") << "half an image is listed";
  // A collection in between does not take what the next pull will need.
  ASSERT_TRUE(Eventually([&] {
    return absl::StrContains(bed.Ctr({"leases", "ls"}).out, "gantry.io/interrupted");
  })) << bed.Ctr({"leases", "ls"}).out;
  const int64_t before = arrived();
  ASSERT_TRUE(Ok(bed.Ctl({"system", "gc"})));
  EXPECT_GE(arrived(), before);

  // Nothing is listening for a while; the pull waits for it and goes on by itself.
  pull = bed.SpawnCtl({"pull", "-q", name});
  ASSERT_TRUE(pull.ok()) << pull.status();
  ASSERT_TRUE(registry_->Restart().ok());
  absl::StatusOr<ExitStatus> ended = pull->Wait(absl::Minutes(3));
  ASSERT_TRUE(ended.ok()) << "the pull hangs";
  if (!ended->ok()) {
    ASSERT_TRUE(Ok(bed.Ctl({"pull", "-q", name}, "", absl::Minutes(3))));
  }
  EXPECT_TRUE(Ok(bed.Ctl({"image", "verify", name})));
  EXPECT_TRUE(Ok(bed.Ctl({"run", "--rm", name, "true"})));
  EXPECT_FALSE(absl::StrContains(bed.Ctr({"leases", "ls"}).out, "gantry.io/interrupted"))
      << "the lease outlives what it was for";
}

// kill -9 of the daemon in the middle: what had arrived stays, nothing half-made is listed.
TEST_F(ImageTest, APullOfAKilledDaemonGoesOn) {
  Testbed maker;
  Publish(maker, "app:v1", 4, 48 << 20);
  const std::string name = registry_->host() + "/app:v1";
  Testbed bed;
  absl::StatusOr<Process> pull = bed.SpawnCtl({"pull", "-q", name});
  ASSERT_TRUE(pull.ok()) << pull.status();
  ASSERT_TRUE(Eventually([&] {
    const Outcome sizes = RunProgram(
        {"sh", "-c", "find \"$1/content\" -type f -size +1M | head -1", "sh", bed.root()});
    return !sizes.out.empty() || pull->Wait(absl::Milliseconds(1)).ok();
  }));
  bed.KillDaemon();
  ASSERT_TRUE(pull->Wait(absl::Seconds(60)).ok()) << "ctl hangs when the daemon is gone";
  ASSERT_TRUE(bed.StartDaemon());
  ASSERT_TRUE(Ok(bed.Ctl({"pull", "-q", name}, "", absl::Minutes(3))));
  EXPECT_TRUE(Ok(bed.Ctl({"image", "verify", name})));
  EXPECT_TRUE(Ok(bed.Ctl({"run", "--rm", name, "true"})));
}

// A root that is too small: a clear error, nothing visible; with room it goes on.
TEST_F(ImageTest, AFullDiskIsNamedAndThePullGoesOnWithRoom) {
  Testbed maker;
  Publish(maker, "app:v1", 3, 24 << 20);
  const std::string name = registry_->host() + "/app:v1";
  Testbed::Options options;
  options.start = false;
  Testbed bed(options);
  ASSERT_TRUE(MakeDirectories(bed.root()).ok());
  ASSERT_EQ(mount("small", bed.root().c_str(), "tmpfs", 0, "size=60m"), 0) << strerror(errno);
  ASSERT_TRUE(bed.StartDaemon());
  const Outcome full = bed.Ctl({"pull", "-q", name}, "", absl::Minutes(2));
  EXPECT_NE(full.code, 0);
  // Whether the layers or the records meet the full disk first is chance; each says so.
  EXPECT_THAT(full.err, testing::AnyOf(HasSubstr("No space left on device"),
                                       HasSubstr("metadata is full (")));
  EXPECT_EQ(bed.CtlOut({"images", "-q"}), "");
  ASSERT_EQ(mount("small", bed.root().c_str(), nullptr, MS_REMOUNT, "size=600m"), 0)
      << strerror(errno);
  ASSERT_TRUE(Ok(bed.Ctl({"pull", "-q", name}, "", absl::Minutes(2))));
  EXPECT_TRUE(Ok(bed.Ctl({"image", "verify", name})));
  EXPECT_TRUE(Ok(bed.Ctl({"run", "--rm", name, "true"})));
  bed.DaemonMayBeDead();
  bed.StopDaemon();
  EXPECT_EQ(umount(bed.root().c_str()), 0) << strerror(errno);
}

// A damaged blob is found and only it is fetched again.
TEST_F(ImageTest, VerifyRepairsWhatIsDamagedAndNothingElse) {
  Testbed maker;
  Publish(maker, "app:v1", 2, 2 << 20);
  const std::string name = registry_->host() + "/app:v1";
  Testbed bed;
  ASSERT_TRUE(Ok(bed.Ctl({"pull", "-q", name})));
  EXPECT_TRUE(Ok(bed.Ctl({"image", "verify", name})));
  const std::string victim = RunProgram({"sh", "-c",
                                         "find \"$1/content/blobs\" -type f -size +1M | sort | "
                                         "head -1 | tr -d '\\n'",
                                         "sh", bed.root()})
                                 .out;
  ASSERT_FALSE(victim.empty());
  ASSERT_TRUE(
      Ok(RunProgram({"sh", "-c", "printf X | dd of=\"$1\" bs=1 seek=1000 conv=notrunc status=none",
                     "sh", victim})));
  const Outcome found = bed.Ctl({"image", "verify", name});
  EXPECT_EQ(found.code, 1);
  EXPECT_THAT(found.out + found.err, HasSubstr(victim.substr(victim.rfind('/') + 1, 12)));
  const size_t log_before = registry_->log().size();
  EXPECT_TRUE(Ok(bed.Ctl({"image", "verify", "--repair", name})));
  const std::string asked = registry_->log().substr(log_before);
  for (absl::string_view line : absl::StrSplit(asked, '\n')) {
    if (!absl::StrContains(line, "GET") || !absl::StrContains(line, "/blobs/")) continue;
    EXPECT_TRUE(absl::StrContains(line, victim.substr(victim.rfind('/') + 1))) << line;
  }
  EXPECT_TRUE(Ok(bed.Ctl({"image", "verify", name})));
}

// With the policy `discard` compressed layers go once they are unpacked, and come back where they
// are needed.
TEST_F(ImageTest, DiscardedLayersComeBackWhenTheyAreNeeded) {
  Testbed maker;
  Publish(maker, "app:v1", 1, 2 << 20);
  const std::string name = registry_->host() + "/app:v1";
  Testbed::Options options;
  options.config = "[registry]\ncompressed_blobs = \"discard\"\n";
  Testbed bed(options);
  const auto large_blobs = [&] {
    return RunProgram({"sh", "-c", "find \"$1/content/blobs\" -type f -size +1M", "sh", bed.root()})
        .out;
  };
  ASSERT_TRUE(Ok(bed.Ctl({"pull", "-q", name})));
  EXPECT_TRUE(Eventually([&] { return large_blobs().empty(); })) << large_blobs();
  EXPECT_TRUE(Ok(bed.Ctl({"run", "--rm", name, "sh", "-c", "test -s /noise0"})));
  EXPECT_TRUE(Ok(bed.Ctl({"image", "verify", name})));
  EXPECT_TRUE(Ok(bed.Ctl({"pull", "-q", name}))) << "a second pull of the same";
  EXPECT_TRUE(large_blobs().empty()) << "what is unpacked was fetched again";

  const std::string archive = bed.scratch() + "/saved.tar";
  ASSERT_TRUE(Ok(bed.Ctl({"save", "-o", archive, name})));
  EXPECT_TRUE(Eventually([&] { return large_blobs().empty(); }));
  absl::StatusOr<std::unique_ptr<DockerRegistry>> other =
      DockerRegistry::Start(false, DockerRegistry::Auth::kNone);
  ASSERT_TRUE(other.ok()) << other.status();
  const std::string copy = (*other)->host() + "/copy:v1";
  ASSERT_TRUE(Ok(bed.Ctl({"tag", name, copy})));
  ASSERT_TRUE(Ok(bed.Ctl({"push", "-q", copy})));
  EXPECT_TRUE(Eventually([&] { return large_blobs().empty(); }));
  Testbed checker;
  ASSERT_TRUE(Ok(checker.Ctl({"load", "-q", "-i", archive})));
  ASSERT_TRUE(Ok(checker.Ctl({"pull", "-q", copy})));
  EXPECT_EQ(checker.CtlOut({"images", "-q", "--no-trunc", copy}),
            checker.CtlOut({"images", "-q", "--no-trunc", name}));

  // With the source gone the error says what is the matter.
  registry_.reset();
  const Outcome lost = bed.Ctl({"save", "-o", archive, name}, "", absl::Minutes(3));
  EXPECT_NE(lost.code, 0);
  EXPECT_THAT(lost.err, HasSubstr("was discarded after unpacking"));
}

// containerd's Transfer service reads the client's hosts directory and sends its headers.
TEST_F(ImageTest, TransferGoesWhereTheClientsHostsDirectorySays) {
  namespace transfer = ::containerd::types::transfer;
  distribution::FakeRegistry registry;
  registry.AddImage("team/app", "v1", {std::string(1024, '\0')});
  Testbed bed;
  const std::string hosts = bed.scratch() + "/hosts";
  ASSERT_TRUE(MakeDirectories(hosts + "/registry.test").ok());
  ASSERT_TRUE(WriteFile(hosts + "/registry.test/hosts.toml",
                        absl::StrCat("server = \"", registry.origin(), "\"\n"))
                  .ok());
  const auto pull = [&](const std::string& directory) {
    transfer::OCIRegistry from;
    from.set_reference("registry.test/team/app:v1");
    from.mutable_resolver()->set_host_dir(directory);
    (*from.mutable_resolver()->mutable_headers())["X-Tenant"] = "blue";
    transfer::ImageStore to;
    to.set_name("registry.test/team/app:v1");
    ::containerd::services::transfer::v1::TransferRequest request;
    request.mutable_source()->set_type_url("containerd.types.transfer.OCIRegistry");
    request.mutable_source()->set_value(from.SerializeAsString());
    request.mutable_destination()->set_type_url("containerd.types.transfer.ImageStore");
    request.mutable_destination()->set_value(to.SerializeAsString());
    grpc::ClientContext context;
    context.AddMetadata("containerd-namespace", bed.ns());
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    google::protobuf::Empty empty;
    return ::containerd::services::transfer::v1::Transfer::NewStub(
               grpc::CreateChannel("unix:" + bed.address(), grpc::InsecureChannelCredentials()))
        ->Transfer(&context, request, &empty);
  };
  const grpc::Status refused = pull("hosts");
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << refused.error_message();
  const grpc::Status pulled = pull(hosts);
  ASSERT_TRUE(pulled.ok()) << pulled.error_message();
  EXPECT_THAT(bed.CtlOut({"images", "--format", "{{.Repository}}"}),
              HasSubstr("registry.test/team/app"));
  ASSERT_FALSE(registry.requests().empty());
  for (const distribution::FakeRegistry::Request& request : registry.requests())
    EXPECT_EQ(request.header("x-tenant"), "blue") << request.path;
}

}  // namespace
}  // namespace gantry::integration
