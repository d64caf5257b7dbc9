// Stands in for nginx in Kubernetes' CRI suite: answers every request with 200, and writes its pid
// where nginx does. web_server PORT [WORDS-FOR-ITS-COMMAND-LINE...]. Linked statically, for an image that has
// nothing but busybox.
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  signal(SIGPIPE, SIG_IGN);
  signal(SIGTERM, [](int) { _exit(0); });
  if (FILE* file = fopen("/var/run/nginx.pid", "w")) {
    fprintf(file, "%d\n", getpid());
    fclose(file);
  }
  // One socket for both families.
  const int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1, off = 0;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  sockaddr_in6 address = {};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(static_cast<uint16_t>(atoi(argv[1])));
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener, 16) != 0) {
    perror("web_server");
    return 1;
  }
  const char answer[] =
      "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
      "ok\n";
  while (true) {
    const int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) continue;
    char request[4096];
    if (read(client, request, sizeof request) > 0 &&
        write(client, answer, strlen(answer)) > 0) {
      shutdown(client, SHUT_WR);
    }
    close(client);
  }
}
