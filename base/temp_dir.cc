#include "base/temp_dir.h"

#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"

#include "base/file.h"

namespace gantry {

TempDir::TempDir() {
  const char* base = std::getenv("TEST_TMPDIR");
  path_ = absl::StrCat(base != nullptr ? base : "/tmp", "/t-XXXXXX");
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
