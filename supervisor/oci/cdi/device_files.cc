#include "supervisor/oci/cdi/device_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <deque>
#include <map>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "supervisor/oci/cdi/yaml_json.h"
#include "supervisor/oci/json_document.h"

namespace gantry::oci::cdi {
namespace {

bool IsJson(absl::string_view name) { return absl::EndsWith(name, ".json"); }
bool IsYaml(absl::string_view name) {
  return absl::EndsWith(name, ".yaml") || absl::EndsWith(name, ".yml");
}

// The text of a regular file. Opening waits for nobody: what lies there may be a FIFO.
absl::StatusOr<std::string> ReadRegular(const std::string& path) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!file.valid()) return ErrnoToStatus(errno, path);
  struct stat info;
  if (fstat(file.get(), &info) != 0) return ErrnoToStatus(errno, path);
  if (!S_ISREG(info.st_mode))
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  std::string text;
  char buffer[16 << 10];
  for (;;) {
    const ssize_t got = read(file.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoToStatus(errno, path);
    if (got == 0) return text;
    text.append(buffer, static_cast<size_t>(got));
    if (text.size() > kMaxFileBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat(path, ": more than the ", kMaxFileBytes, " bytes accepted"));
    }
  }
}

absl::StatusOr<CdiFile> ReadCdiFile(const std::string& path) {
  GANTRY_ASSIGN_OR_RETURN(const std::string text, ReadRegular(path));
  if (IsYaml(path)) {
    GANTRY_ASSIGN_OR_RETURN(const nlohmann::json document, ParseYaml(text, path));
    return ParseCdiFile(document, path);
  }
  JsonLimits limits;
  limits.max_depth = 16;
  limits.max_values = 50000;
  GANTRY_ASSIGN_OR_RETURN(const nlohmann::json document, ParseJson(text, path, limits));
  return ParseCdiFile(document, path);
}

}  // namespace

struct DeviceFiles::Found {
  struct File {
    std::string path;
    CdiFile content;
  };
  struct Place {
    const File* file = nullptr;
    const Device* device = nullptr;
    size_t directory = 0;
    const File* rival = nullptr;  // of the same directory, with the same device
  };
  std::deque<File> files;
  std::map<std::string, Place> devices;  // by whole name
  std::vector<std::string> problems;
};

DeviceFiles::Found DeviceFiles::Read() const {
  Found found;
  for (size_t i = 0; i < directories_.size(); ++i) {
    const std::string& directory = directories_[i];
    absl::StatusOr<std::vector<std::string>> names = ListDirectory(directory);
    if (!names.ok()) {
      if (!absl::IsNotFound(names.status()))
        found.problems.push_back(std::string(names.status().message()));
      continue;
    }
    std::erase_if(*names, [](const std::string& name) { return !IsJson(name) && !IsYaml(name); });
    if (names->size() > kMaxFiles) {
      found.problems.push_back(absl::StrCat(directory, ": ", names->size(), " files, of which ",
                                            kMaxFiles, " are read"));
      names->resize(kMaxFiles);
    }
    for (const std::string& name : *names) {
      const std::string path = absl::StrCat(directory, "/", name);
      absl::StatusOr<CdiFile> content = ReadCdiFile(path);
      if (!content.ok()) {
        found.problems.push_back(std::string(content.status().message()));
        continue;
      }
      const Found::File& file = found.files.emplace_back(Found::File{path, *std::move(content)});
      for (const Device& device : file.content.devices) {
        Found::Place& place = found.devices[absl::StrCat(file.content.kind, "=", device.name)];
        if (place.file == nullptr || place.directory < i) {
          place = {&file, &device, i};
        } else {
          place.rival = &file;
        }
      }
    }
  }
  return found;
}

DeviceFiles::Listing DeviceFiles::List() const {
  Found found = Read();
  Listing listing;
  for (const auto& [name, place] : found.devices) {
    if (place.rival == nullptr) {
      listing.devices.push_back(name);
    } else {
      found.problems.push_back(absl::StrCat("device ", name, ": both ", place.file->path, " and ",
                                            place.rival->path, " describe it"));
    }
  }
  listing.problems = std::move(found.problems);
  return listing;
}

absl::StatusOr<ContainerEdits> DeviceFiles::Resolve(const std::vector<std::string>& names) const {
  for (const std::string& name : names) {
    if (IsDeviceName(name)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "device \"", absl::Utf8SafeCEscape(name.substr(0, 128)), "\" is not VENDOR/CLASS=NAME"));
  }
  const Found found = Read();
  ContainerEdits edits;
  std::set<std::string> done;
  std::set<const Found::File*> begun;
  for (const std::string& name : names) {
    if (!done.insert(name).second) continue;
    const auto place = found.devices.find(name);
    if (place == found.devices.end()) {
      return absl::NotFoundError(
          absl::StrCat("device ", name, ": no CDI file in ",
                       directories_.empty() ? "any directory" : absl::StrJoin(directories_, ", "),
                       " describes it",
                       found.problems.empty()
                           ? ""
                           : absl::StrCat("; not read: ", absl::StrJoin(found.problems, "; "))));
    }
    const auto& [file, device, directory, rival] = place->second;
    if (rival != nullptr) {
      return absl::FailedPreconditionError(absl::StrCat("device ", name, ": both ", file->path,
                                                        " and ", rival->path,
                                                        " describe it; remove one of them"));
    }
    if (begun.insert(file).second) edits.Append(file->content.edits);
    edits.Append(device->edits);
  }
  return edits;
}

}  // namespace gantry::oci::cdi
