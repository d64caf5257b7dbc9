#include "supervisor/core/program_check.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

#include "base/in_root.h"
#include "base/unique_fd.h"

namespace gantry::core {
namespace {

constexpr size_t kMaxHeaderBytes = 4096;  // of a script's first line
constexpr size_t kMaxProgramHeaders = 128;
constexpr size_t kMaxDynamicBytes = 64 << 10;
constexpr size_t kMaxStringBytes = 1 << 20;
constexpr size_t kMaxLibraries = 200;

bool Exists(int root, const std::string& path) { return OpenInRoot(root, path, O_PATH).valid(); }

// Up to `size` bytes at `offset`; fewer at the end of the file.
std::string ReadAt(int fd, uint64_t offset, size_t size) {
  std::string bytes(size, '\0');
  size_t have = 0;
  while (have < size) {
    const ssize_t part =
        pread(fd, bytes.data() + have, size - have, static_cast<off_t>(offset + have));
    if (part <= 0) break;
    have += static_cast<size_t>(part);
  }
  bytes.resize(have);
  return bytes;
}

template <class T>
std::optional<T> As(absl::string_view bytes) {
  if (bytes.size() < sizeof(T)) return std::nullopt;
  T value;
  memcpy(&value, bytes.data(), sizeof value);
  return value;
}

std::string MachineName(uint16_t machine) {
  switch (machine) {
    case EM_X86_64:
      return "x86_64";
    case EM_386:
      return "i386";
    case EM_AARCH64:
      return "aarch64";
    case EM_ARM:
      return "arm";
    case EM_RISCV:
      return "riscv64";
    case EM_PPC64:
      return "ppc64le";
    case EM_S390:
      return "s390x";
    case EM_MIPS:
      return "mips";
    case EM_LOONGARCH:
      return "loongarch64";
    default:
      return absl::StrCat("machine ", machine);
  }
}

bool RunsHere(const std::string& machine) {
  struct utsname host;
  if (uname(&host) != 0) return true;
  const std::string own = host.machine;
  if (machine == own) return true;
  return (own == "x86_64" && machine == "i386") || (own == "aarch64" && machine == "arm");
}

struct Needs {
  std::vector<std::string> libraries;
  std::vector<std::string> places;  // DT_RPATH and DT_RUNPATH
};

// Of the dynamic section of a little-endian 64-bit file.
Needs ReadNeeds(int fd, const std::vector<Elf64_Phdr>& headers) {
  Needs needs;
  const auto dynamic = std::find_if(headers.begin(), headers.end(),
                                    [](const Elf64_Phdr& h) { return h.p_type == PT_DYNAMIC; });
  if (dynamic == headers.end()) return needs;
  const std::string bytes =
      ReadAt(fd, dynamic->p_offset, std::min<uint64_t>(dynamic->p_filesz, kMaxDynamicBytes));
  uint64_t strings_at = 0;
  uint64_t strings_size = 0;
  std::vector<std::pair<int64_t, uint64_t>> names;
  for (size_t at = 0; at + sizeof(Elf64_Dyn) <= bytes.size(); at += sizeof(Elf64_Dyn)) {
    const Elf64_Dyn entry = *As<Elf64_Dyn>(absl::string_view(bytes).substr(at));
    if (entry.d_tag == DT_NULL) break;
    if (entry.d_tag == DT_STRTAB) strings_at = entry.d_un.d_ptr;
    if (entry.d_tag == DT_STRSZ) strings_size = entry.d_un.d_val;
    if (entry.d_tag == DT_NEEDED || entry.d_tag == DT_RPATH || entry.d_tag == DT_RUNPATH)
      names.emplace_back(entry.d_tag, entry.d_un.d_val);
  }
  // The table's address is one in memory: the segment that holds it says where it is in the file.
  for (const Elf64_Phdr& header : headers) {
    if (header.p_type != PT_LOAD || strings_at < header.p_vaddr ||
        strings_at - header.p_vaddr >= header.p_filesz)
      continue;
    const std::string strings = ReadAt(fd, header.p_offset + (strings_at - header.p_vaddr),
                                       std::min<uint64_t>(strings_size, kMaxStringBytes));
    for (const auto& [tag, offset] : names) {
      if (offset >= strings.size()) continue;
      const std::string name = strings.c_str() + offset;
      if (tag == DT_NEEDED) {
        if (needs.libraries.size() < kMaxLibraries) needs.libraries.push_back(name);
      } else {
        for (absl::string_view place : absl::StrSplit(name, ':')) needs.places.emplace_back(place);
      }
    }
    break;
  }
  return needs;
}

// The directories that the loader searches, as far as they can be known without running it.
std::vector<std::string> LibraryDirectories(int root) {
  std::vector<std::string> places = {"/lib",
                                     "/usr/lib",
                                     "/lib64",
                                     "/usr/lib64",
                                     "/usr/local/lib",
                                     "/lib/x86_64-linux-gnu",
                                     "/usr/lib/x86_64-linux-gnu",
                                     "/lib/aarch64-linux-gnu",
                                     "/usr/lib/aarch64-linux-gnu"};
  // The cache names every library that ldconfig found, in directories of any name. Its strings are
  // enough: what it names is taken for present.
  const UniqueFd conf = OpenInRoot(root, "/etc/ld.so.conf", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (!conf.valid()) return places;
  const std::string text = ReadAt(conf.get(), 0, kMaxHeaderBytes);
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, "/")) places.emplace_back(line);
  }
  return places;
}

bool InLoaderCache(int root, const std::string& library) {
  const UniqueFd cache = OpenInRoot(root, "/etc/ld.so.cache", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (!cache.valid()) return false;
  const std::string bytes = ReadAt(cache.get(), 0, kMaxStringBytes);
  return absl::StrContains(bytes, absl::string_view(library.c_str(), library.size() + 1));
}

void CheckElf(int root, int fd, ProgramFacts& facts) {
  facts.kind = ProgramFacts::Kind::kElf;
  const std::optional<Elf64_Ehdr> header = As<Elf64_Ehdr>(ReadAt(fd, 0, sizeof(Elf64_Ehdr)));
  if (!header.has_value()) {
    facts.kind = ProgramFacts::Kind::kUnknown;
    return;
  }
  facts.machine = MachineName(header->e_machine);
  facts.other_machine = !RunsHere(facts.machine);
  if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
      header->e_phentsize != sizeof(Elf64_Phdr))
    return;
  std::vector<Elf64_Phdr> headers;
  const size_t count = std::min<size_t>(header->e_phnum, kMaxProgramHeaders);
  const std::string bytes = ReadAt(fd, header->e_phoff, count * sizeof(Elf64_Phdr));
  for (size_t at = 0; at + sizeof(Elf64_Phdr) <= bytes.size(); at += sizeof(Elf64_Phdr))
    headers.push_back(*As<Elf64_Phdr>(absl::string_view(bytes).substr(at)));
  for (const Elf64_Phdr& segment : headers) {
    if (segment.p_type != PT_INTERP) continue;
    facts.loader = ReadAt(fd, segment.p_offset, std::min<uint64_t>(segment.p_filesz, 4096)).c_str();
    facts.loader_missing = !Exists(root, facts.loader);
  }
  if (facts.loader.empty() || facts.loader_missing || facts.other_machine) return;
  const Needs needs = ReadNeeds(fd, headers);
  std::vector<std::string> places = LibraryDirectories(root);
  const std::string origin = facts.path.substr(0, facts.path.rfind('/'));
  for (const std::string& place : needs.places)
    places.push_back(absl::StrReplaceAll(place, {{"$ORIGIN", origin}, {"${ORIGIN}", origin}}));
  for (const std::string& library : needs.libraries) {
    const bool found =
        absl::StrContains(library, "/")
            ? Exists(root, library)
            : std::any_of(places.begin(), places.end(), [&](const std::string& place) {
                return Exists(root, absl::StrCat(place, "/", library));
              });
    if (!found && !InLoaderCache(root, library)) facts.missing_libraries.push_back(library);
  }
}

void CheckScript(int root, absl::string_view head, ProgramFacts& facts) {
  facts.kind = ProgramFacts::Kind::kScript;
  absl::string_view line = head.substr(2, head.find('\n') - 2);
  if (absl::EndsWith(line, "\r")) {
    facts.carriage_return = true;
    line.remove_suffix(1);
  }
  const std::vector<absl::string_view> words =
      absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipWhitespace());
  if (words.empty()) return;
  facts.interpreter = std::string(words[0]);
  facts.interpreter_missing = !Exists(root, facts.interpreter);
}

}  // namespace

ProgramFacts CheckProgram(int root_fd, const std::string& program, const std::string& path,
                          const std::string& working_directory) {
  ProgramFacts facts;
  facts.path = program;
  facts.kind = ProgramFacts::Kind::kMissing;
  const std::string place = working_directory.empty() ? "/" : working_directory;
  struct stat info;
  const UniqueFd directory = OpenInRoot(root_fd, place, O_PATH);
  if (!directory.valid()) {
    facts.working_directory = ProgramFacts::Place::kMissing;
  } else if (fstat(directory.get(), &info) == 0 && !S_ISDIR(info.st_mode)) {
    facts.working_directory = ProgramFacts::Place::kNotDirectory;
  }
  if (program.empty()) return facts;
  std::vector<std::string> candidates;
  if (absl::StartsWith(program, "/")) {
    candidates.push_back(program);
  } else if (absl::StrContains(program, "/")) {
    candidates.push_back(absl::StrCat(place, "/", program));
  } else {
    for (absl::string_view one : absl::StrSplit(path, ':', absl::SkipEmpty())) {
      facts.searched.emplace_back(one);
      candidates.push_back(absl::StrCat(one, "/", program));
    }
  }
  for (const std::string& candidate : candidates) {
    const UniqueFd fd = OpenInRoot(root_fd, candidate, O_PATH);
    if (!fd.valid() || fstat(fd.get(), &info) != 0) continue;
    facts.path = candidate;
    facts.mode = info.st_mode & 07777;
    facts.uid = info.st_uid;
    facts.gid = info.st_gid;
    if (S_ISDIR(info.st_mode)) {
      facts.kind = ProgramFacts::Kind::kDirectory;
      continue;  // PATH may have a program of that name further on
    }
    facts.kind = ProgramFacts::Kind::kUnknown;
    if (!S_ISREG(info.st_mode)) return facts;
    // Not blocking, and only what was seen to be a file: the tree may change.
    const UniqueFd file = OpenInRoot(root_fd, candidate, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (!file.valid()) return facts;
    const std::string head = ReadAt(file.get(), 0, kMaxHeaderBytes);
    if (head.empty()) {
      facts.kind = ProgramFacts::Kind::kEmpty;
    } else if (absl::StartsWith(head, ELFMAG)) {
      CheckElf(root_fd, file.get(), facts);
    } else if (absl::StartsWith(head, "#!")) {
      CheckScript(root_fd, head, facts);
    }
    return facts;
  }
  return facts;
}

}  // namespace gantry::core
