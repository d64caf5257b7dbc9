#include "base/crash_point.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

namespace gantry {
namespace {

struct Wanted {
  Wanted() {
    const char* value = getenv("GANTRY_CRASH_POINT");
    if (value == nullptr || *value == '\0') return;
    name = value;
    const size_t at = name.find('@');
    if (at != std::string::npos) {
      file = name.substr(at + 1);
      name.resize(at);
    }
    const size_t colon = name.find(':');
    if (colon != std::string::npos) {
      passes_left = atoi(name.c_str() + colon + 1);
      name.resize(colon);
    }
    set = true;
  }
  bool set = false;
  std::string name;
  std::string file;  // "": die
  std::atomic<int> passes_left = 1;
};

}  // namespace

void CrashPoint(const char* name) {
  static Wanted* const wanted =
      new Wanted;  // NOLINT(cppcoreguidelines-owning-memory): until the process ends
  if (!wanted->set || wanted->name != name) return;
  if (wanted->passes_left.fetch_sub(1) != 1) return;
  if (wanted->file.empty()) kill(getpid(), SIGKILL);
  const int reached = creat((wanted->file + ".reached").c_str(), 0600);
  if (reached >= 0) close(reached);
  for (int round = 0; round < 3000 && access(wanted->file.c_str(), F_OK) != 0; ++round) {
    poll(nullptr, 0, 10);
  }
}

}  // namespace gantry
