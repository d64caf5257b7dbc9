// Process 1 of a container that was started with --init: starts the command, hands signals on,
// reaps what is orphaned to it, and ends as the command does. Statically linked, for it runs inside
// whatever the image holds.
//
//   gantry-init [--] COMMAND [ARGUMENT...]
//   gantry-init --pod     no command: holds the process namespace of a pod until SIGTERM
//   gantry-init --environment FILE COMMAND [ARGUMENT...]
//                         becomes the command, with the variables of the file: NAME=VALUE, each
//                         with a NUL behind it. What they hold is in no record of the container.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <initializer_list>

#include "base/standard_fds.h"

namespace {

constexpr int kNotExecutable = 126;
constexpr int kNotFound = 127;

int Fail(const char* what, const char* which) {
  const int error = errno;
  fprintf(stderr, "gantry-init: %s %s: %s\n", what, which, strerror(error));
  return error == ENOENT ? kNotFound : kNotExecutable;
}

constexpr size_t kMaxEnvironmentBytes = 1 << 20;

// The variables of a file, which stay where they are read to.
bool ReadEnvironment(const char* path) {
  static char text[kMaxEnvironmentBytes + 1];
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  size_t have = 0;
  ssize_t n = 0;
  while (have < kMaxEnvironmentBytes &&
         (n = read(file, text + have, kMaxEnvironmentBytes - have)) > 0)
    have += static_cast<size_t>(n);
  close(file);
  if (n < 0) return false;
  for (size_t at = 0; at < have; at += strlen(text + at) + 1) putenv(text + at);
  return true;
}

// Until a signal that asks for its end.
int HoldPod() {
  sigset_t signals;
  sigemptyset(&signals);
  for (int one : {SIGCHLD, SIGTERM, SIGINT}) sigaddset(&signals, one);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  while (true) {
    const int signal = sigwaitinfo(&signals, nullptr);
    if (signal == SIGTERM || signal == SIGINT) return 0;
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (!gantry::OpenStandardFds()) return kNotExecutable;
  int first = 1;
  if (first < argc && strcmp(argv[first], "--") == 0) ++first;
  if (argc == 2 && strcmp(argv[1], "--pod") == 0) return HoldPod();
  if (argc > 3 && strcmp(argv[1], "--environment") == 0) {
    if (!ReadEnvironment(argv[2])) return Fail("cannot read", argv[2]);
    execvp(argv[3], argv + 3);
    return Fail("cannot execute", argv[3]);
  }
  if (first >= argc) {
    fprintf(stderr, "gantry-init: no command given\n");
    return kNotFound;
  }

  // All are collected by sigwaitinfo() below. Those that tell of a mistake of our own, and those of
  // the terminal, stay as they are.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  for (int own : {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGTRAP, SIGSYS, SIGTTIN, SIGTTOU})
    sigdelset(&all, own);
  sigprocmask(SIG_BLOCK, &all, &before);

  const pid_t child = fork();
  if (child < 0) return Fail("cannot start", argv[first]);
  if (child == 0) {
    // A group of its own, in the foreground of the terminal if there is one, so that job control
    // works inside.
    setpgid(0, 0);
    signal(SIGTTOU, SIG_IGN);
    if (isatty(STDIN_FILENO) && tcsetpgrp(STDIN_FILENO, getpgrp()) != 0)
      perror("gantry-init: terminal");
    signal(SIGTTOU, SIG_DFL);
    sigprocmask(SIG_SETMASK, &before, nullptr);
    execvp(argv[first], argv + first);
    _exit(Fail("cannot execute", argv[first]));
  }

  while (true) {
    siginfo_t info;
    const int signal = sigwaitinfo(&all, &info);
    if (signal < 0) continue;
    if (signal != SIGCHLD) {
      kill(child, signal);
      continue;
    }
    int status = 0;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
      if (pid != child) continue;
      if (WIFEXITED(status)) return WEXITSTATUS(status);
      if (WIFSIGNALED(status)) return 128 + WTERMSIG(status);
    }
  }
}
