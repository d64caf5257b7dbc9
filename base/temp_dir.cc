#include "base/temp_dir.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"

#include "base/file.h"

namespace gantry {

TempDir::TempDir() {
  // The directory a test runner offers lies deep in its own tree, and socket paths end at 107
  // bytes.
  constexpr size_t kRoomForSockets = 50;
  const char* base = std::getenv("TEST_TMPDIR");
  if (base == nullptr || std::strlen(base) > kRoomForSockets) base = "/tmp";
  path_ = absl::StrCat(base, "/t-XXXXXX");
  if (::mkdtemp(path_.data()) == nullptr) {
    std::perror(path_.c_str());
    std::abort();
  }
}

TempDir::~TempDir() {
  if (const absl::Status status = RemoveTree(path_); !status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    std::fflush(nullptr);
    std::abort();
  }
}

std::string TempDir::Join(absl::string_view name) const { return absl::StrCat(path_, "/", name); }

}  // namespace gantry
