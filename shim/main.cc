// gantry-shim: one process per container, or the zygote that forks them.
//
//   gantry-shim --zygote --fd N [--open-files N]
//   gantry-shim --namespace NS --id ID --bundle DIR --socket PATH [--ready-fd N] [--log-level LEVEL] [--idle-exit SECONDS] [--open-files N]
//   gantry-shim --version

#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/synchronization/mutex.h"

#include "base/standard_fds.h"
#include "base/unique_fd.h"
#include "shim/service_group.h"
#include "shim/shim_process.h"
#include "shim/version.h"
#include "shim/zygote.h"
#include "shim/zygote_protocol.h"
#include "third_party/grpc_event_engine.h"

namespace {

using gantry::UniqueFd;

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "gantry-shim: %s\n", message.c_str());
  std::exit(125);
}

UniqueFd OpenDescriptor(const char* text) {
  int fd;
  if (!absl::SimpleAtoi(text, &fd) || fd < 3 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
    Fail(std::string("not an open descriptor: ") + text);
  }
  return UniqueFd(fd);
}

// The soft limit, for the shims and containers that come of this process.
void LimitOpenFiles(const char* text) {
  uint64_t most;
  rlimit limit;
  if (!absl::SimpleAtoi(text, &most) || most == 0) Fail("--open-files: not a number");
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(most, limit.rlim_max);
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) std::perror("gantry-shim: --open-files");
}

}  // namespace

int main(int argc, char** argv) {
  if (!gantry::OpenStandardFds()) return 125;
  // Debian builds Abseil with its checks on; the lock graph costs 80 kB.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  // Small over fast: one arena for all threads, freed memory goes back soon.
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_TRIM_THRESHOLD, 64 * 1024);
  mallopt(M_MMAP_THRESHOLD, 64 * 1024);

  enum Option {
    kZygote = 1,
    kFd,
    kNamespace,
    kId,
    kBundle,
    kSocket,
    kReadyFd,
    kLogLevel,
    kIdleExit,
    kOpenFiles,
    kVersionFlag
  };
  const option options[] = {
      {"zygote", no_argument, nullptr, kZygote},
      {"fd", required_argument, nullptr, kFd},
      {"namespace", required_argument, nullptr, kNamespace},
      {"id", required_argument, nullptr, kId},
      {"bundle", required_argument, nullptr, kBundle},
      {"socket", required_argument, nullptr, kSocket},
      {"ready-fd", required_argument, nullptr, kReadyFd},
      {"log-level", required_argument, nullptr, kLogLevel},
      {"idle-exit", required_argument, nullptr, kIdleExit},
      {"open-files", required_argument, nullptr, kOpenFiles},
      {"version", no_argument, nullptr, kVersionFlag},
      {nullptr, 0, nullptr, 0},
  };
  bool zygote = false;
  UniqueFd zygote_socket;
  UniqueFd ready;
  gantry::shim::LaunchRequest request;
  for (int choice; (choice = getopt_long(argc, argv, "", options, nullptr)) != -1;) {
    switch (choice) {
      case kZygote:
        zygote = true;
        break;
      case kFd:
        zygote_socket = OpenDescriptor(optarg);
        break;
      case kNamespace:
        request.name_space = optarg;
        break;
      case kId:
        request.id = optarg;
        break;
      case kBundle:
        request.bundle = optarg;
        break;
      case kSocket:
        request.socket_path = optarg;
        break;
      case kReadyFd:
        ready = OpenDescriptor(optarg);
        break;
      case kLogLevel: {
        const auto level = gantry::shim::ParseLogLevel(optarg);
        if (!level.ok()) Fail(std::string(level.status().message()));
        request.log_level = *level;
        break;
      }
      case kIdleExit:
        if (!absl::SimpleAtoi(optarg, &request.idle_exit_seconds))
          Fail("--idle-exit: not a number");
        break;
      case kOpenFiles:
        LimitOpenFiles(optarg);
        break;
      case kVersionFlag:
        std::printf("gantry-shim %s\n", gantry::shim::kVersion);
        return 0;
      default:
        return 125;
    }
  }
  if (optind < argc) Fail(std::string("unexpected argument: ") + argv[optind]);
  if (const absl::Status left = gantry::shim::LeaveServiceGroup(); !left.ok()) {
    std::fprintf(stderr, "gantry-shim: shims stay in the service's group: %s\n",
                 std::string(left.message()).c_str());
  }
  gantry::UseLazyEventEngine();
  if (zygote) {
    if (!zygote_socket.valid()) Fail("--zygote needs --fd");
    gantry::shim::RunZygote(std::move(zygote_socket), argc, argv);
    return 0;
  }
  const absl::Status status = gantry::shim::CheckLaunchRequest(request);
  if (!status.ok()) Fail(std::string(status.message()));
  gantry::shim::RunShim(request, std::move(ready), UniqueFd());
}
