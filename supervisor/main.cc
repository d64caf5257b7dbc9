// gantryd: reads its settings, starts the daemon, and waits for signals.
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "glog/logging.h"

#include "supervisor/config.h"
#include "supervisor/daemon.h"

namespace {

// Tells the service manager, when there is one, how we are.
void Notify(const std::string& state) {
  const char* path = getenv("NOTIFY_SOCKET");
  if (path == nullptr || (path[0] != '/' && path[0] != '@')) return;
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const size_t length = strlen(path);
  if (length >= sizeof address.sun_path) return;
  memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = '\0';
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  const socklen_t size = static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + length);
  if (sendto(fd, state.data(), state.size(), MSG_NOSIGNAL,
             reinterpret_cast<struct sockaddr*>(&address), size) < 0) {
    PLOG(WARNING) << "telling the service manager " << state;
  }
  close(fd);
}

// Most of what start-up ran is never run again. Gives its pages (clean, backed by the program's file) back to the page cache; what is
// needed comes back by a minor fault each.
void DropStartupPages() {
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
            PLOG(WARNING) << "giving back start-up pages";
          }
        }
        return 0;
      },
      nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  // Few arenas: many threads each touch little, and memory that was freed should be seen by all of them.
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

  // Blocked before any thread is made, so that all inherit it and sigwait() below is the only receiver.
  sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  absl::StatusOr<std::unique_ptr<gantry::Daemon>> daemon = gantry::Daemon::Start(*config);
  if (!daemon.ok()) {
    fprintf(stderr, "gantryd: %s\n", std::string(daemon.status().message()).c_str());
    return 1;
  }
  Notify("READY=1");
  DropStartupPages();
  while (true) {
    int signal = 0;
    if (sigwait(&signals, &signal) != 0) continue;
    if (signal != SIGHUP) break;
    absl::StatusOr<gantry::Config> again = gantry::LoadConfig(argc, argv, &text);
    if (again.ok()) {
      (*daemon)->Reload(*again);
    } else {
      LOG(ERROR) << "the new configuration is refused, the old one stays in force: "
                 << again.status().message();
    }
  }
  Notify("STOPPING=1");
  LOG(INFO) << "stopping; containers run on";
  // A second signal ends us at once.
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  daemon->reset();
  return 0;
}
