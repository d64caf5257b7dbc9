#include "snapshotter/layer_test_tree.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "absl/hash/hash.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/file.h"

namespace gantry::snapshot {
namespace {

std::string Content(const std::string& path, mode_t mode) {
  if (S_ISLNK(mode)) {
    char target[4096];
    const ssize_t n = readlink(path.c_str(), target, sizeof(target));
    return absl::StrCat("-> ", absl::string_view(target, n < 0 ? 0 : static_cast<size_t>(n)));
  }
  if (!S_ISREG(mode)) return "";
  const absl::StatusOr<std::string> bytes = ReadFile(path, 256 << 20);
  if (!bytes.ok()) return "unreadable";
  return bytes->size() < 100
             ? absl::CHexEscape(*bytes)
             : absl::StrCat(bytes->size(), " bytes ", std::hash<std::string>()(*bytes));
}

std::string Attributes(const std::string& path) {
  char names[4096];
  const ssize_t size = llistxattr(path.c_str(), names, sizeof(names));
  std::map<std::string, std::string> all;
  if (size > 0) {
    for (const absl::string_view name : absl::StrSplit(
             absl::string_view(names, static_cast<size_t>(size)), '\0', absl::SkipEmpty())) {
      char value[65536];
      const ssize_t n = lgetxattr(path.c_str(), std::string(name).c_str(), value, sizeof(value));
      all[std::string(name)] =
          absl::BytesToHexString(absl::string_view(value, n < 0 ? 0 : static_cast<size_t>(n)));
    }
  }
  std::string text;
  for (const auto& [name, value] : all) absl::StrAppend(&text, " ", name, "=", value);
  return text;
}

void Describe(const std::string& root, const std::string& path, bool times,
              std::map<ino_t, std::string>& first, std::vector<std::string>& lines) {
  DIR* stream = opendir((root + "/" + path).c_str());
  if (stream == nullptr) {
    lines.push_back(path + " unreadable");
    return;
  }
  std::vector<std::string> names;
  while (const dirent* item = readdir(stream)) {
    const std::string name = item->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  closedir(stream);
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    const std::string child = path.empty() ? name : path + "/" + name;
    const std::string full = root + "/" + child;
    struct stat stat;
    if (lstat(full.c_str(), &stat) != 0) continue;
    std::string line =
        absl::StrCat(child, " ", absl::Hex(stat.st_mode), " ", stat.st_uid, ":", stat.st_gid);
    if (S_ISCHR(stat.st_mode) || S_ISBLK(stat.st_mode))
      absl::StrAppend(&line, " dev ", major(stat.st_rdev), ":", minor(stat.st_rdev));
    if (times) absl::StrAppend(&line, " ", stat.st_mtim.tv_sec, ".", stat.st_mtim.tv_nsec);
    if (!S_ISDIR(stat.st_mode) && stat.st_nlink > 1)
      absl::StrAppend(&line, " same as ", first.try_emplace(stat.st_ino, child).first->second);
    absl::StrAppend(&line, " ", Content(full, stat.st_mode), Attributes(full));
    lines.push_back(line);
    if (S_ISDIR(stat.st_mode)) Describe(root, child, times, first, lines);
  }
}

}  // namespace

LayerBuilder& LayerBuilder::Entry(const TarEntry& entry) {
  if (!writer_.WriteEntry(entry).ok()) abort();
  return *this;
}

LayerBuilder& LayerBuilder::File(const std::string& path, const std::string& content,
                                 uint32_t mode) {
  TarEntry entry;
  entry.path = path;
  entry.mode = mode;
  entry.mtime.seconds = 1600000000;
  if (!writer_.WriteFile(entry, content).ok()) abort();
  return *this;
}

LayerBuilder& LayerBuilder::Directory(const std::string& path, uint32_t mode) {
  TarEntry entry;
  entry.type = TarType::kDirectory;
  entry.path = path;
  entry.mode = mode;
  entry.mtime.seconds = 1500000000;
  return Entry(entry);
}

LayerBuilder& LayerBuilder::Symlink(const std::string& path, const std::string& target) {
  TarEntry entry;
  entry.type = TarType::kSymlink;
  entry.path = path;
  entry.link_target = target;
  entry.mode = 0777;
  return Entry(entry);
}

LayerBuilder& LayerBuilder::HardLink(const std::string& path, const std::string& target) {
  TarEntry entry;
  entry.type = TarType::kHardLink;
  entry.path = path;
  entry.link_target = target;
  return Entry(entry);
}

std::string LayerBuilder::Finish() {
  if (!writer_.Finish().ok()) abort();
  return sink_.str();
}

std::vector<std::string> DescribeTree(const std::string& root, bool times) {
  std::vector<std::string> lines;
  std::map<ino_t, std::string> first;
  Describe(root, "", times, first, lines);
  return lines;
}

}  // namespace gantry::snapshot
