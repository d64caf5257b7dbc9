#include "base/crash_point.h"

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
    const size_t colon = name.find(':');
    if (colon != std::string::npos) {
      passes_left = atoi(name.c_str() + colon + 1);
      name.resize(colon);
    }
    set = true;
  }
  bool set = false;
  std::string name;
  std::atomic<int> passes_left = 1;
};

}  // namespace

void CrashPoint(const char* name) {
  static Wanted* const wanted =
      new Wanted;  // NOLINT(cppcoreguidelines-owning-memory): until the process ends
  if (!wanted->set || wanted->name != name) return;
  if (wanted->passes_left.fetch_sub(1) == 1) kill(getpid(), SIGKILL);
}

}  // namespace gantry
