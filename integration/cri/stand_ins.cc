// Programs that Kubernetes' CRI suite wants in its images and Debian's busybox-static does not
// have, by the name that it is started under. Linked statically, for images that have nothing else.
//   nginx PORT, httpd PORT   answer every request with 200, say their name, and leave their pid
//                            where nginx does
//   pgrep NAME               pids of processes of that name
//   ipcs -m                  shared memory segments
//   nnp                      its effective user
//   sh                       busybox's shell, but for "sh -c WORD": that program is run from its
//                            file, as the shell of the suite's own image does. Debian's shell runs
//                            an applet of that name instead, whatever is mounted over the file
#include <dirent.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <string>

namespace {

int Serve(const std::string& name, const char* port) {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGTERM, [](int) { _exit(0); });
  std::ofstream("/var/run/nginx.pid") << getpid() << std::endl;
  // One socket for both families.
  const int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1, off = 0;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  sockaddr_in6 address = {};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(static_cast<uint16_t>(atoi(port)));
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener, 16) != 0) {
    perror(name.c_str());
    return 1;
  }
  std::cout << name << " serves" << std::endl;
  const char answer[] =
      "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: "
      "close\r\n\r\n"
      "ok\n";
  while (true) {
    const int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) continue;
    char request[4096];
    if (read(client, request, sizeof request) > 0 && write(client, answer, strlen(answer)) > 0)
      shutdown(client, SHUT_WR);
    close(client);
  }
}

// Searches $PATH, which the kernel's answer for a file that may not be executed ends.
int RunShell(char** argv) {
  const std::string script =
      argv[1] != nullptr && argv[2] != nullptr && argv[3] == nullptr && std::string(argv[1]) == "-c"
          ? argv[2]
          : "";
  const std::string program =
      std::all_of(script.begin(), script.end(), [](unsigned char c) { return isalnum(c); }) ? script
                                                                                            : "";
  std::string path = getenv("PATH") == nullptr ? "" : getenv("PATH");
  while (!program.empty() && !path.empty()) {
    const size_t colon = path.find(':');
    const std::string file = path.substr(0, colon) + "/" + program;
    path = colon == std::string::npos ? "" : path.substr(colon + 1);
    execl(file.c_str(), program.c_str(), nullptr);
    if (errno != EACCES) continue;
    std::cerr << argv[0] << ": " << program << ": " << strerror(errno) << std::endl;
    return 126;
  }
  execv("/bin/busybox", argv);
  perror("/bin/busybox");
  return 127;
}

int FindProcesses(const std::string& name) {
  int found = 1;
  DIR* proc = opendir("/proc");
  while (const dirent* one = proc == nullptr ? nullptr : readdir(proc)) {
    std::string comm;
    if (!std::getline(std::ifstream(std::string("/proc/") + one->d_name + "/comm"), comm)) continue;
    if (comm != name || atoi(one->d_name) == 0) continue;
    std::cout << one->d_name << "\n";
    found = 0;
  }
  return found;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string path = argv[0], name = path.substr(path.rfind('/') + 1);
  if ((name == "nginx" || name == "httpd") && argc > 1) return Serve(name, argv[1]);
  if (name == "sh") return RunShell(argv);
  if (name == "pgrep" && argc > 1) return FindProcesses(argv[1]);
  if (name == "ipcs") {
    std::cout << std::ifstream("/proc/sysvipc/shm").rdbuf();
    return 0;
  }
  if (name == "nnp") {
    std::cout << "Effective uid: " << geteuid() << "\n";
    return 0;
  }
  return 2;
}
