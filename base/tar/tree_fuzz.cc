// Any bytes as an archive that is unpacked: nothing is made or changed outside the target.
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/byte_stream.h"
#include "base/file.h"
#include "base/fuzz/fuzz.h"
#include "base/tar/tree_extractor.h"
#include "base/tar/writer.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"

namespace gantry {

std::vector<std::string> FuzzSeeds() {
  StringSink sink;
  TarWriter tar(sink);
  const auto add = [&](TarType type, const std::string& path, const std::string& target = "") {
    TarEntry entry;
    entry.type = type;
    entry.path = path;
    entry.link_target = target;
    entry.mode = 0755;
    if (!tar.WriteEntry(entry).ok()) abort();
  };
  add(TarType::kDirectory, "d");
  add(TarType::kSymlink, "out", "../outside");
  add(TarType::kSymlink, "way", "d");
  add(TarType::kFile, "out/file");
  add(TarType::kHardLink, "hard", "../outside/kept");
  add(TarType::kFile, "way/../../outside/kept");
  add(TarType::kFifo, "d/fifo");
  if (!tar.Finish().ok()) abort();
  return {sink.str()};
}

void FuzzOne(absl::string_view bytes) {
  const TempDir directory;
  for (const char* name : {"target", "outside"}) {
    if (!MakeDirectories(directory.Join(name)).ok()) abort();
  }
  if (!WriteFile(directory.Join("outside/kept"), "kept").ok()) abort();
  for (const bool follow : {false, true}) {
    const UniqueFd target(
        open(directory.Join("target").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    StringSource source{std::string(bytes)};
    (void)ExtractTree(source, target.get(), {.follow_links = follow});
  }
  const auto outside = ListDirectory(directory.Join("outside"));
  const auto kept = ReadFile(directory.Join("outside/kept"), 100);
  if (!outside.ok() || outside->size() != 1 || !kept.ok() || *kept != "kept") abort();
}

}  // namespace gantry
