// gantryd: reads its settings, starts the daemon, and waits for signals.
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "glog/logging.h"

#include "base/clock.h"
#include "base/standard_fds.h"
#include "supervisor/config.h"
#include "supervisor/daemon.h"
#include "supervisor/oci_hook.h"
#include "supervisor/service_cgroup.h"
#include "supervisor/service_manager.h"
#include "third_party/grpc_threads.h"

namespace {

// Gives the pages of the program's files, which are clean, back to the page cache. What is needed
// comes back by a minor fault each; the kernel maps sixteen pages around every one that was
// touched, so that three quarters of what is mapped was never used.
void DropCleanPages() {
  dl_iterate_phdr(
      [](struct dl_phdr_info* info, size_t, void*) {
        const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const ElfW(Phdr)& segment = info->dlpi_phdr[i];
          if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) continue;
          const uintptr_t begin = (info->dlpi_addr + segment.p_vaddr) & ~(page - 1);
          const uintptr_t end = (info->dlpi_addr + segment.p_vaddr + segment.p_memsz) & ~(page - 1);
          if (end > begin &&
              madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED) != 0) {
            PLOG(WARNING) << "giving back clean pages";
          }
        }
        return 0;
      },
      nullptr);
}

// Lets go of what a burst of work needed, once it is over: free heap, and pages of the program.
// Never amid the work, which would have to fetch them again.
class IdleTrim {
 public:
  static constexpr struct timespec kPeriod = {2, 0};

  // Every kPeriod. Does nothing while the daemon works, nor again when it has not worked since.
  void Tick() {
    const int64_t used = CpuMicros();
    const bool busy = used - last_micros_ > kBusyMicros;
    last_micros_ = used;
    if (busy) worked_ = true;
    if (busy || !worked_) return;
    worked_ = false;
    malloc_trim(0);
    DropCleanPages();
    last_micros_ = CpuMicros();
  }

 private:
  static constexpr int64_t kBusyMicros = 5000;

  static int64_t CpuMicros() {
    struct timespec now = {};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return int64_t{now.tv_sec} * 1000000 + now.tv_nsec / 1000;
  }

  int64_t last_micros_ = 0;
  bool worked_ = true;
};

}  // namespace

int main(int argc, char** argv) {
  if (!gantry::OpenStandardFds()) return 1;
  if (argc > 1 && strcmp(argv[1], "oci-hook") == 0) {
    const absl::Status failed = gantry::RunOciHook(argc - 2, argv + 2);
    fprintf(stderr, "gantryd oci-hook: %s\n", std::string(failed.message()).c_str());
    return 1;
  }
  // Abseil's own default in Debian's build is to look for lock cycles at every lock, with a stack
  // trace each.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  // Few arenas: many threads each touch little, and memory that was freed should be seen by all of
  // them.
  mallopt(M_ARENA_MAX, 2);
  FLAGS_logtostderr = true;
  google::InitGoogleLogging(argv[0]);

  std::string text;
  absl::StatusOr<gantry::Config> config = gantry::LoadConfig(argc, argv, &text);
  if (absl::IsCancelled(config.status())) {
    fputs(text.c_str(), stdout);
    return 0;
  }
  if (!config.ok()) {
    fprintf(stderr, "gantryd: %s\n", std::string(config.status().message()).c_str());
    return 1;
  }
  if (geteuid() != 0) {
    fprintf(stderr, "gantryd: must run as root: it mounts file systems and starts containers\n");
    return 1;
  }

  if (!config->cgroup_path.empty()) {
    const absl::Status joined =
        gantry::JoinCgroup(gantry::kCgroupTree, config->cgroup_path, getpid());
    if (!joined.ok()) {
      fprintf(stderr, "gantryd: setting cgroup.path: %s\n", std::string(joined.message()).c_str());
      return 1;
    }
  }

  // Blocked before any thread is made, so that all inherit it and sigtimedwait() below is the only
  // receiver.
  sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  gantry::ServiceManager manager = gantry::ServiceManager::FromEnvironment();
  gantry::ReserveGrpcThreads();

  absl::StatusOr<std::unique_ptr<gantry::Daemon>> daemon =
      gantry::Daemon::Start(*config, std::move(manager.sockets()));
  if (!daemon.ok()) {
    fprintf(stderr, "gantryd: %s\n", std::string(daemon.status().message()).c_str());
    return 1;
  }
  manager.Notify("READY=1");
  IdleTrim trim;
  gantry::SelfCheck check(config->address);
  gantry::Watchdog watchdog(
      manager.watchdog(), [&check] { return check.Answered(); },
      [&manager] { manager.Notify("WATCHDOG=1"); });
  while (true) {
    if (manager.watchdog() > absl::ZeroDuration()) watchdog.Tick(gantry::Clock::Real().Monotonic());
    const int signal = sigtimedwait(&signals, nullptr, &IdleTrim::kPeriod);
    if (signal < 0) {
      if (errno == EAGAIN) trim.Tick();
      continue;
    }
    if (signal != SIGHUP) break;
    absl::StatusOr<gantry::Config> again = gantry::LoadConfig(argc, argv, &text);
    if (again.ok()) {
      (*daemon)->Reload(*again);
    } else {
      LOG(ERROR) << "the new configuration is refused, the old one stays in force: "
                 << again.status().message();
    }
  }
  manager.Notify("STOPPING=1");
  LOG(INFO) << "stopping; containers run on";
  // A second signal ends us at once.
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  daemon->reset();
  return 0;
}
