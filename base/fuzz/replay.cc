// The unit test of a fuzz target: its seeds, and mutations of them by a generator with a fixed
// start. An input that crashes is left in the test's output directory, to be put among the seeds.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <string>
#include <vector>

#include "base/fuzz/fuzz.h"

namespace gantry {
namespace {

constexpr size_t kMutations = 4000;
constexpr size_t kMaxBytes = 64 << 10;
constexpr size_t kTotalBytes = size_t{48} << 20;

char g_crash_path[4096];
std::atomic<const std::string*> g_current{nullptr};

void KeepAndDie(int signal_number) {
  if (const std::string* input = g_current.load(); input != nullptr) {
    const int fd = open(g_crash_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd >= 0) {
      (void)!write(fd, input->data(), input->size());
      close(fd);
    }
    (void)!write(2, "the input is in ", 16);
    (void)!write(2, g_crash_path, std::char_traits<char>::length(g_crash_path));
    (void)!write(2, "\n", 1);
  }
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

class Mutator {
 public:
  explicit Mutator(const std::vector<std::string>& seeds) : seeds_(seeds) {}

  std::string Next() {
    std::string bytes = Pick();
    const size_t changes = 1 + Number(8);
    for (size_t i = 0; i < changes; ++i) Change(bytes);
    if (bytes.size() > kMaxBytes) bytes.resize(kMaxBytes);
    return bytes;
  }

 private:
  size_t Number(size_t below) { return below == 0 ? 0 : random_() % below; }
  const std::string& Pick() { return seeds_[Number(seeds_.size())]; }

  void Change(std::string& bytes) {
    static constexpr char kInteresting[] = {'\0', '\xff', '\x7f', '\x80', '"', '{',
                                            '[',  '/',    '.',    ':',    '=', '\n',
                                            '\\', '-',    '0',    '9',    ' ', '\x01'};
    const size_t at = Number(bytes.size() + 1);
    const size_t length = std::min(1 + Number(64), bytes.size() - at);
    switch (Number(8)) {
      case 0:
        if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << Number(8)));
        break;
      case 1:
        if (at < bytes.size()) bytes[at] = static_cast<char>(Number(256));
        break;
      case 2:
        if (at < bytes.size()) bytes[at] = kInteresting[Number(sizeof kInteresting)];
        break;
      case 3:
        bytes.erase(at, length);
        break;
      case 4:
        bytes.insert(at, bytes.substr(at, length));
        break;
      case 5:
        bytes.insert(at, 1 + Number(32), kInteresting[Number(sizeof kInteresting)]);
        break;
      case 6:
        bytes.resize(at);
        break;
      default: {
        const std::string& other = Pick();
        const size_t from = Number(other.size() + 1);
        bytes.insert(at, other.substr(from, 1 + Number(256)));
        break;
      }
    }
  }

  const std::vector<std::string>& seeds_;
  std::mt19937_64 random_{20240601};
};

void Run(const std::string& input) {
  g_current = &input;
  FuzzOne(input);
  g_current = nullptr;
}

int Main() {
  const char* directory = getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  snprintf(g_crash_path, sizeof g_crash_path, "%s/fuzz-crash",
           directory == nullptr ? "/tmp" : directory);
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) signal(number, KeepAndDie);

  std::vector<std::string> seeds = FuzzSeeds();
  for (const std::string& seed : seeds) Run(seed);
  if (seeds.empty()) seeds.emplace_back();
  Mutator mutator(seeds);
  size_t inputs = seeds.size();
  for (size_t total = 0; inputs < kMutations && total < kTotalBytes; ++inputs) {
    const std::string input = mutator.Next();
    total += input.size();
    Run(input);
  }
  printf("%zu seeds, %zu inputs\n", seeds.size(), inputs);
  return 0;
}

}  // namespace
}  // namespace gantry

int main() { return gantry::Main(); }
