// Images and volumes of pods that try to reach the host while their container is set up: T4, T5
// and T6 of the list of attacks that the project tests itself by, through CRI. What is started has
// its masks and reaches nothing of the host's; what cannot be started safely is refused.
// hostile_image_test.cc and race_test.cc are the same through ctl.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "integration/cri_bed.h"

namespace gantry::integration {
namespace {

using testing::HasSubstr;

constexpr char kCorePattern[] = "/proc/sys/kernel/core_pattern";
// As the kubelet asks for them.
constexpr const char* kMasked[] = {"/proc/asound",      "/proc/acpi",          "/proc/kcore",
                                   "/proc/keys",        "/proc/latency_stats", "/proc/timer_list",
                                   "/proc/timer_stats", "/proc/sched_debug",   "/proc/scsi",
                                   "/sys/firmware"};
constexpr const char* kReadOnly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                     "/proc/sysrq-trigger"};
constexpr const char* kRuntimes[] = {"crun", "runc"};

// Prints what is wrong, and "checked" last. What is written may be a file of the container's own;
// the host's is looked at from outside.
constexpr char kLook[] =
    "for f in kcore keys timer_list latency_stats sched_debug sysrq-trigger"
    "  sys/kernel/core_pattern; do [ ! -e /proc/$f ] || (echo pwned >/proc/$f) 2>/dev/null; done;"
    "(echo x >/proc/sysrq-trigger) 2>/dev/null && echo sysrq is writable;"
    "for f in kcore keys timer_list latency_stats sched_debug; do"
    "  [ ! -e /proc/$f ] || [ -z \"$(head -c 10 /proc/$f 2>/dev/null)\" ] || echo $f has content;"
    "done;"
    "[ -z \"$(ls /proc/scsi /sys/firmware 2>/dev/null | grep -v :)\" ] ||"
    "  echo a masked directory has entries;"
    "[ \"$(stat -c %t:%T /dev/null)\" = 1:3 ] || echo /dev/null is not null;"
    "echo checked";

class CriTrapTest : public CriTest {
 protected:
  void SetUp() override {
    CriTest::SetUp();
    if (bed_ == nullptr) return;
    pattern_ = ReadFile(kCorePattern, 4096).value();
    for (const char* runtime : kRuntimes) pods_.push_back(PodOf(runtime));
  }
  std::string PodOf(const std::string& runtime) {
    wire::RunPodSandboxRequest request;
    *request.mutable_config() = PodConfig("trap-" + runtime);
    request.set_runtime_handler(runtime);
    wire::RunPodSandboxResponse response;
    const grpc::Status status =
        Call(&wire::RuntimeService::Stub::RunPodSandbox, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.pod_sandbox_id();
  }

  // The busybox image as `change` makes it, by this name.
  void MakeImage(const std::string& name, const std::function<void(const std::string&)>& change) {
    const std::string root = absl::StrCat(bed_->scratch(), "/root-", ++images_made_);
    ASSERT_TRUE(MakeBusyboxRoot(root).ok());
    change(root);
    ImageOptions options;
    options.names = {name};
    const std::string archive = root + ".tar";
    ASSERT_TRUE(WriteDockerArchive(archive, {root}, options).ok());
    std::vector<std::string> load = bed_->CtlCommand({"load", "-i", archive});
    for (std::string& word : load) {
      if (word == bed_->ns()) word = "k8s.io";
    }
    ASSERT_TRUE(Ok(RunProgram(load)));
  }
  static void Plant(const std::string& root, const std::string& path, const char* target) {
    const std::string full = root + path;
    ASSERT_TRUE(RemoveTree(full).ok());
    ASSERT_TRUE(MakeDirectories(full.substr(0, full.rfind('/')), 0755).ok());
    if (target == nullptr) {
      ASSERT_EQ(mkfifo(full.c_str(), 0666), 0);
    } else if (*target == '\0') {
      ASSERT_TRUE(WriteFile(full, "planted").ok());
    } else {
      ASSERT_EQ(symlink(target, full.c_str()), 0);
    }
  }

  // A running container as the kubelet describes one, after `change`; "" where it was refused with
  // a reason.
  std::string StartIn(const std::string& pod, const std::string& image,
                      const std::function<void(wire::ContainerConfig&)>& change = nullptr) {
    wire::CreateContainerRequest request;
    request.set_pod_sandbox_id(pod);
    wire::ContainerConfig& config = *request.mutable_config();
    config.mutable_metadata()->set_name(absl::StrCat("c", ++containers_made_));
    config.mutable_image()->set_image(image);
    for (const char* word : {"sleep", "100000"}) config.add_command(word);
    wire::LinuxContainerSecurityContext& security =
        *config.mutable_linux()->mutable_security_context();
    security.mutable_namespace_options()->set_pid(wire::CONTAINER);
    for (const char* path : kMasked) security.add_masked_paths(path);
    for (const char* path : kReadOnly) security.add_readonly_paths(path);
    if (change != nullptr) change(config);
    wire::CreateContainerResponse created;
    grpc::Status status = Call(&wire::RuntimeService::Stub::CreateContainer, request, &created);
    if (status.ok()) status = Start(created.container_id());
    if (status.ok()) return created.container_id();
    EXPECT_NE(status.error_message(), "");
    refusals_.push_back(status.error_message());
    return "";
  }
  void RemoveContainerOf(const std::string& id) {
    wire::RemoveContainerRequest request;
    request.set_container_id(id);
    wire::RemoveContainerResponse response;
    EXPECT_TRUE(Call(&wire::RuntimeService::Stub::RemoveContainer, request, &response).ok());
  }
  std::string Output(const std::string& id, const std::string& script) {
    wire::ExecSyncResponse answer;
    const grpc::Status status = Exec(id, {"sh", "-c", script}, 20, &answer);
    // A command that cannot be run there is refused, as a start is.
    return status.ok() ? answer.stdout() : "refused: " + status.error_message();
  }
  // The host's setting is as it was; and is so again for what comes next.
  void ExpectHostUntouched(const std::string& what) {
    EXPECT_EQ(ReadFile(kCorePattern, 4096).value(), pattern_) << what;
    EXPECT_TRUE(WriteFile(kCorePattern, pattern_).ok());
  }
  int PidOf(const std::string& id) {
    wire::ContainerStatusRequest request;
    request.set_container_id(id);
    request.set_verbose(true);
    wire::ContainerStatusResponse response;
    EXPECT_TRUE(Call(&wire::RuntimeService::Stub::ContainerStatus, request, &response).ok());
    return nlohmann::json::parse(response.info().at("info"))["pid"];
  }

  // Of the process whose last word is this one; as the host sees it.
  int PidOfCommand(const std::string& word) {
    int found = 0;
    EXPECT_TRUE(Eventually([&] {
      const std::vector<std::string> names = ListDirectory("/proc").value();
      for (const std::string& name : names) {
        int pid = 0;
        if (!absl::SimpleAtoi(name, &pid)) continue;
        const absl::StatusOr<std::string> line =
            ReadFile(absl::StrCat("/proc/", name, "/cmdline"), 4096);
        if (line.ok() && absl::EndsWith(*line, absl::StrCat(word, std::string(1, '\0'))))
          found = pid;
      }
      return found != 0;
    })) << word;
    return found;
  }
  static int ScoreOf(int pid) {
    const std::string text =
        ReadFile(absl::StrCat("/proc/", pid, "/oom_score_adj"), 64).value_or("none");
    int score = -2000;
    EXPECT_TRUE(absl::SimpleAtoi(absl::StripSuffix(text, "\n"), &score)) << pid << ": " << text;
    return score;
  }

  std::string pattern_;
  std::vector<std::string> pods_;      // one of each of kRuntimes
  std::vector<std::string> refusals_;  // what those containers were refused with
  int images_made_ = 0;
  int containers_made_ = 0;
};

// T4
TEST_F(CriTrapTest, MasksHoldWhateverAnImageHasInTheirPlace) {
  struct Trap {
    const char* path;
    const char* target;  // of a link; null: a FIFO; "": a file
  };
  constexpr Trap kTraps[] = {{"/dev/null", kCorePattern},
                             {"/dev/null", nullptr},
                             {"/dev/null", ""},
                             {"/dev/zero", kCorePattern},
                             {"/dev/ptmx", kCorePattern},
                             {"/dev/shm", "/proc/sys/kernel"},
                             {"/dev/core", "/proc/sysrq-trigger"},
                             {"/dev", "/proc/sys/kernel"},
                             {"/dev", "../../../../../../../../dev"},
                             {"/etc/hosts", kCorePattern},
                             {"/etc/hostname", kCorePattern},
                             {"/etc/resolv.conf", "../../../../../etc/shadow"}};
  int started = 0;
  for (const Trap& trap : kTraps) {
    const std::string what =
        absl::StrCat(trap.path, " -> ", trap.target == nullptr ? "a FIFO" : trap.target);
    const std::string image = absl::StrCat("trap:", images_made_ + 1);
    MakeImage(image, [&trap](const std::string& root) { Plant(root, trap.path, trap.target); });
    for (const std::string& pod : pods_) {
      const std::string id = StartIn(pod, image);
      if (!id.empty()) {
        ++started;
        EXPECT_EQ(Output(id, kLook), "checked\n") << what;
        RemoveContainerOf(id);
      }
      ExpectHostUntouched(what);
    }
  }
  EXPECT_GT(started, 0) << refusals_.back();
}

// T4: what hides a file is the container's /dev/null, and a sibling that shares /dev changes it.
TEST_F(CriTrapTest, MasksHoldWhileASiblingChangesTheSharedDev) {
  const std::string dev = bed_->scratch() + "/dev";
  ASSERT_TRUE(MakeDirectories(dev, 0755).ok());
  ASSERT_EQ(mknod((dev + "/null").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
  ASSERT_EQ(symlink(kCorePattern, (dev + "/link").c_str()), 0);
  std::atomic<bool> stop = false;
  std::thread sibling([&] {
    while (!stop) {
      (void)renameat2(AT_FDCWD, (dev + "/null").c_str(), AT_FDCWD, (dev + "/link").c_str(),
                      RENAME_EXCHANGE);
    }
  });
  const absl::Cleanup end = [&] {
    stop = true;
    sibling.join();
  };
  int started = 0;
  for (int round = 0; round < 20; ++round) {
    for (const std::string& pod : pods_) {
      const std::string id = StartIn(pod, kCriImage, [&dev](wire::ContainerConfig& config) {
        wire::Mount& mount = *config.add_mounts();
        mount.set_host_path(dev);
        mount.set_container_path("/dev");
      });
      if (!id.empty()) {
        ++started;
        // A command's own /dev/null may be the link just then.
        const std::string out =
            Output(id,
                   "for f in kcore keys timer_list latency_stats sched_debug; do"
                   "  [ -e /proc/$f ] || continue;"
                   "  (echo pwned >/proc/$f) 2>&3;"
                   "  [ -z \"$(head -c 10 /proc/$f 2>&3)\" ] || echo $f has content;"
                   "done 3>/tmp/errors; echo checked");
        EXPECT_TRUE(out == "checked\n" || absl::StartsWith(out, "refused: ")) << out;
        RemoveContainerOf(id);
      }
      ExpectHostUntouched(absl::StrCat("round ", round));
    }
  }
  EXPECT_GT(started, 0) << refusals_.back();
}

// T5
TEST_F(CriTrapTest, TheTerminalIsATerminalWhateverTheImageHasInItsPlace) {
  struct Trap {
    const char* path;
    const char* target;
  };
  constexpr Trap kTraps[] = {
      {"/dev/console", kCorePattern}, {"/dev/console", "/proc/sysrq-trigger"},
      {"/dev/console", ""},           {"/dev/pts", "/proc/sys/kernel"},
      {"/dev/pts/0", kCorePattern},   {"/dev/ptmx", kCorePattern},
      {"/dev/tty", kCorePattern}};
  int started = 0;
  for (const Trap& trap : kTraps) {
    const std::string what = absl::StrCat(trap.path, " -> ", trap.target);
    const std::string image = absl::StrCat("terminal:", images_made_ + 1);
    MakeImage(image, [&trap](const std::string& root) { Plant(root, trap.path, trap.target); });
    for (const std::string& pod : pods_) {
      const std::string id =
          StartIn(pod, image, [](wire::ContainerConfig& config) { config.set_tty(true); });
      if (!id.empty()) {
        ++started;
        EXPECT_EQ(Output(id, kLook), "checked\n") << what;
        // The streams and the console are one pseudo-terminal, whose major number is 136.
        EXPECT_EQ(Output(id, "stat -L -c %t /proc/1/fd/0 /proc/1/fd/1 /proc/1/fd/2 /dev/console"),
                  "88\n88\n88\n88\n")
            << what;
        // Nothing of the console lies anywhere else.
        EXPECT_EQ(Output(id, "awk '$0 ~ / - devpts / { print $5 }' /proc/self/mountinfo | sort"),
                  "/dev/console\n/dev/pts\n")
            << what;
        RemoveContainerOf(id);
      }
      ExpectHostUntouched(what);
    }
  }
  EXPECT_GT(started, 0) << refusals_.back();
}

// T6: the runtime writes a process's OOM score, labels and more through /proc. One that is not the
// kernel's takes what is written, and the process runs without it.
TEST_F(CriTrapTest, WhatTheRuntimeWritesToProcReachesTheKernelOrNothingStarts) {
  const std::string fake = bed_->scratch() + "/fake";
  const auto files_of = [&fake] {
    std::string all;
    for (const char* name : {"oom_score_adj", "attr/exec", "attr/apparmor/exec", "attr/current",
                             "uid_map", "setgroups"}) {
      absl::StrAppend(&all, ReadFile(absl::StrCat(fake, "/self/", name), 4096).value_or("none"),
                      ReadFile(absl::StrCat(fake, "/thread-self/", name), 4096).value_or("none"));
    }
    return all;
  };
  for (const char* self : {"self", "thread-self"}) {
    for (const char* name : {"oom_score_adj", "attr/exec", "attr/apparmor/exec", "attr/current",
                             "uid_map", "setgroups"}) {
      const std::string path = absl::StrCat(fake, "/", self, "/", name);
      ASSERT_TRUE(MakeDirectories(path.substr(0, path.rfind('/')), 0755).ok());
      ASSERT_TRUE(WriteFile(path, "fake\n", 0666).ok());
    }
    ASSERT_TRUE(MakeDirectories(absl::StrCat(fake, "/", self, "/fd"), 0755).ok());
  }
  ASSERT_TRUE(MakeDirectories(fake + "/sys/kernel", 0755).ok());
  const std::string before = files_of();

  const auto expect_kernels = [&](const std::string& id, const std::string& what) {
    if (!id.empty()) {
      EXPECT_EQ(ScoreOf(PidOf(id)), 500) << what;
      // Also of a command that joins later, if it is let in.
      const std::string mark = absl::StrCat(987000 + containers_made_);
      const std::string out = Output(id, absl::StrCat("sleep ", mark, " >/tmp/out 2>&1 & echo in"));
      if (out == "in\n") {
        EXPECT_EQ(ScoreOf(PidOfCommand(mark)), 500) << what;
      } else {
        EXPECT_TRUE(absl::StartsWith(out, "refused: ")) << what << ": " << out;
      }
      RemoveContainerOf(id);
    }
    EXPECT_EQ(files_of(), before) << what;
    ExpectHostUntouched(what);
  };
  const auto with_score = [](wire::ContainerConfig& config) {
    config.mutable_linux()->mutable_resources()->set_oom_score_adj(500);
  };
  for (const std::string& pod : pods_) {
    // Volumes in the place of the kernel's files.
    for (const char* place : {"/proc", "/proc/self", "/proc/self/attr", "/proc/sys", "/proc/1"}) {
      const std::string id = StartIn(pod, kCriImage, [&](wire::ContainerConfig& config) {
        with_score(config);
        wire::Mount& mount = *config.add_mounts();
        mount.set_host_path(std::string(place) == "/proc" ? fake : fake + "/self");
        mount.set_container_path(place);
      });
      expect_kernels(id, absl::StrCat("a volume at ", place));
    }
  }
  // Links of an image.
  struct Trap {
    const char* path;
    const char* target;
  };
  for (const Trap& trap : {Trap{"/proc", "/tmp"}, Trap{"/proc", "../../../../proc"},
                           Trap{"/sys", "/tmp"}, Trap{"/sys", "/proc/sys"}}) {
    const std::string what = absl::StrCat(trap.path, " -> ", trap.target);
    const std::string image = absl::StrCat("kernel:", images_made_ + 1);
    MakeImage(image, [&trap](const std::string& root) { Plant(root, trap.path, trap.target); });
    for (const std::string& pod : pods_) expect_kernels(StartIn(pod, image, with_score), what);
  }
  // One that hides nothing has the score that it asks for.
  for (const std::string& pod : pods_) {
    const std::string id = StartIn(pod, kCriImage, with_score);
    ASSERT_NE(id, "") << refusals_.back();
    expect_kernels(id, "none");
  }
}

}  // namespace
}  // namespace gantry::integration
