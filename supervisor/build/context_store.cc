#include "supervisor/build/context_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <iterator>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "glog/logging.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/in_root.h"
#include "base/status_macros.h"
#include "supervisor/build/tree_digest.h"

namespace gantry::build {
namespace {

constexpr int kMaxCopies = 16;
constexpr size_t kMaxEntries = 4 << 20;
constexpr size_t kMaxOpen = 64;
constexpr size_t kMaxIndexBytes = size_t{1} << 30;
constexpr size_t kMaxAttributeBytes = 64 << 10;
constexpr size_t kSmallBytes = 64 << 10;
constexpr char kLockSuffix[] = ".lock";

using File = record::v1::ContextIndex::File;

const std::string& BootId() {
  static const std::string& id =
      *new std::string(ReadFile("/proc/sys/kernel/random/boot_id", 64).value_or(""));
  return id;
}

// "a/b": no empty parts, no "." and "..", not absolute.
bool IsClean(absl::string_view path) {
  if (path.empty() || path.find('\0') != absl::string_view::npos) return false;
  for (absl::string_view part : absl::StrSplit(path, '/')) {
    if (part.empty() || part == "." || part == "..") return false;
  }
  return true;
}

absl::string_view ParentPath(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? absl::string_view() : path.substr(0, slash);
}

File FileOf(const v1::ContextEntry& entry) {
  File file;
  file.set_path(entry.path());
  file.set_mode(entry.mode());
  file.set_size_bytes(entry.size_bytes());
  file.set_mtime_seconds(entry.mtime_seconds());
  file.set_mtime_nanos(entry.mtime_nanos());
  file.set_version(entry.version());
  file.set_link_target(entry.link_target());
  file.set_hard_link_to(entry.hard_link_to());
  file.set_device_major(entry.device_major());
  file.set_device_minor(entry.device_minor());
  *file.mutable_attributes() = entry.attributes();
  return file;
}

// Extended attributes that belong to a file and not to the file system it lies on.
bool IsKept(absl::string_view attribute) {
  return attribute == "security.capability" || absl::StartsWith(attribute, "user.");
}

bool SameAttributes(const v1::ContextEntry& entry, const File& file) {
  if (entry.attributes().size() != file.attributes().size()) return false;
  for (const auto& [name, value] : entry.attributes()) {
    const auto found = file.attributes().find(name);
    if (found == file.attributes().end() || found->second != value) return false;
  }
  return true;
}

absl::Status SetAttributes(int fd, const v1::ContextEntry& entry) {
  for (const auto& [name, value] : entry.attributes()) {
    if (fsetxattr(fd, name.c_str(), value.data(), value.size(), 0) != 0 && errno != ENOTSUP)
      return ErrnoToStatus(errno, absl::StrCat(entry.path(), ": attribute ", name));
  }
  return absl::OkStatus();
}

bool IsSame(const v1::ContextEntry& entry, const File& file) {
  if (!SameAttributes(entry, file)) return false;
  if (entry.mode() != file.mode() || entry.mtime_seconds() != file.mtime_seconds() ||
      entry.mtime_nanos() != file.mtime_nanos())
    return false;
  if (S_ISREG(entry.mode())) {
    return entry.size_bytes() == file.size_bytes() && !entry.version().empty() &&
           entry.version() == file.version() && entry.hard_link_to() == file.hard_link_to();
  }
  return entry.link_target() == file.link_target() && entry.device_major() == file.device_major() &&
         entry.device_minor() == file.device_minor();
}

timespec TimeOf(const v1::ContextEntry& entry) {
  return {static_cast<time_t>(entry.mtime_seconds()), entry.mtime_nanos()};
}

}  // namespace

ContextTree::~ContextTree() {
  parent_ = UniqueFd();
  if (absl::Status saved = Save(); !saved.ok())
    LOG(WARNING) << "context of a build, " << home_ << ": " << saved;
}

absl::Status ContextTree::Open(Trash& trash) {
  path_ = absl::StrCat(home_, "/tree");
  record::v1::ContextIndex index;
  const absl::StatusOr<std::string> text = ReadFile(home_ + "/index", kMaxIndexBytes);
  if (text.ok() && index.ParseFromString(*text) && index.boot_id() == BootId() &&
      !index.boot_id().empty()) {
    for (File& file : *index.mutable_files()) {
      std::string path = file.path();
      files_.emplace_hint(files_.end(), std::move(path), std::move(file));
    }
  } else {
    trash.Take(path_);
  }
  GANTRY_RETURN_IF_ERROR(MakeDirectories(path_, 0700));
  root_ = UniqueFd(open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root_.valid()) return ErrnoToStatus(errno, path_);
  return absl::OkStatus();
}

absl::Status ContextTree::BeginChange() {
  if (changed_) return absl::OkStatus();
  const std::string index = home_ + "/index";
  if (unlink(index.c_str()) != 0 && errno != ENOENT) return ErrnoToStatus(errno, index);
  changed_ = true;
  return absl::OkStatus();
}

absl::Status ContextTree::Save() {
  if (!root_.valid()) return absl::OkStatus();
  if (!changed_) {
    if (futimens(lock_.get(), nullptr) != 0) return ErrnoToStatus(errno, home_ + kLockSuffix);
    return absl::OkStatus();
  }
  record::v1::ContextIndex index;
  index.set_boot_id(BootId());
  index.set_key(key_);
  for (auto& [path, file] : files_) {
    index.set_size_bytes(index.size_bytes() + file.size_bytes());
    *index.add_files() = std::move(file);
  }
  const std::string to = home_ + "/index";
  const std::string temporary = to + ".new";
  GANTRY_RETURN_IF_ERROR(WriteFile(temporary, index.SerializeAsString(), 0600));
  if (rename(temporary.c_str(), to.c_str()) != 0) return ErrnoToStatus(errno, to);
  const std::string note = absl::StrCat(index.size_bytes(), " ", key_);
  if (ftruncate(lock_.get(), 0) != 0 || pwrite(lock_.get(), note.data(), note.size(), 0) < 0)
    return ErrnoToStatus(errno, home_ + kLockSuffix);
  return absl::OkStatus();
}

const std::string& ContextTree::DigestOf(absl::string_view path) const {
  static const std::string& none = *new std::string();
  auto found = files_.find(path);
  if (found == files_.end()) return none;
  if (!found->second.hard_link_to().empty()) {
    found = files_.find(found->second.hard_link_to());
    if (found == files_.end()) return none;
  }
  // What a file is besides its content is read from where it lies.
  if (!found->second.attributes().empty()) return none;
  return found->second.digest();
}

absl::StatusOr<int> ContextTree::ParentOf(absl::string_view path, std::string& name) {
  const absl::string_view parent = ParentPath(path);
  name = std::string(parent.empty() ? path : path.substr(parent.size() + 1));
  if (parent.empty()) return root_.get();
  if (parent_.valid() && parent == parent_path_) return parent_.get();
  parent_path_ = std::string(parent);
  parent_ = OpenInRoot(root_.get(), parent_path_, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  if (!parent_.valid()) return ErrnoToStatus(errno, parent_path_);
  return parent_.get();
}

absl::Status ContextTree::Remove(const std::string& path) {
  const auto found = files_.find(path);
  if (found == files_.end()) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(BeginChange());
  const bool directory = S_ISDIR(found->second.mode());
  std::string name;
  GANTRY_ASSIGN_OR_RETURN(const int parent, ParentOf(path, name));
  if (unlinkat(parent, name.c_str(), directory ? AT_REMOVEDIR : 0) != 0 && errno != ENOENT)
    return ErrnoToStatus(errno, path);
  if (directory) parent_ = UniqueFd();  // it may be the one that is gone
  files_.erase(found);
  return absl::OkStatus();
}

absl::Status ContextTree::Drop(const std::string& path) {
  const auto found = files_.find(path);
  if (found == files_.end() || S_ISDIR(found->second.mode())) return absl::OkStatus();
  return Remove(path);
}

ContextUpdate::~ContextUpdate() {
  if (tree_ == nullptr) return;
  Settle();
  // Ended early. Contents that were begun are of no use, and directories have not got their modes.
  for (const auto& [index, open] : open_) {
    std::string name;
    const absl::StatusOr<int> parent = tree_->ParentOf(listing_[index].path(), name);
    if (!parent.ok() || unlinkat(*parent, name.c_str(), 0) != 0)
      PLOG(WARNING) << "context of a build, " << tree_->path() << "/" << listing_[index].path();
  }
  for (auto& [path, file] : tree_->files_) {
    if (S_ISDIR(file.mode())) file.set_mtime_nanos(-1);
  }
}

absl::Status ContextUpdate::Add(const v1::ContextEntry& entry) {
  const std::string& path = entry.path();
  const auto wrong = [&](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("\"", path, "\" in the listing: ", why));
  };
  if (listing_.size() >= kMaxEntries)
    return absl::ResourceExhaustedError(
        absl::StrCat("more than ", kMaxEntries, " files; name some in .dockerignore"));
  if (!IsClean(path)) return wrong("not a clean relative path");
  const uint32_t kind = entry.mode() & S_IFMT;
  if (kind != S_IFREG && kind != S_IFDIR && kind != S_IFLNK && kind != S_IFIFO && kind != S_IFCHR &&
      kind != S_IFBLK)
    return wrong("a context has no files of this kind");
  if (entry.mtime_nanos() < 0 || entry.mtime_nanos() >= 1'000'000'000 || entry.size_bytes() < 0)
    return wrong("its time or size is out of range");
  const absl::string_view parent = ParentPath(path);
  if (!parent.empty()) {
    const auto above = by_path_.find(parent);
    if (above == by_path_.end() || !S_ISDIR(listing_[above->second].mode()))
      return wrong("its directory is not listed before it");
  }
  if (!entry.hard_link_to().empty()) {
    const auto first = by_path_.find(entry.hard_link_to());
    if (kind != S_IFREG || first == by_path_.end() || !S_ISREG(listing_[first->second].mode()) ||
        !listing_[first->second].hard_link_to().empty())
      return wrong("it is a link to a file that is not listed before it");
  }
  if (entry.attributes_size() > 0 && kind != S_IFREG && kind != S_IFDIR)
    return wrong("only files and directories have attributes");
  for (const auto& [name, value] : entry.attributes()) {
    if (!IsKept(name) || value.size() > kMaxAttributeBytes)
      return wrong("an attribute is too large, or none that a context has");
  }
  if (!by_path_.emplace(path, static_cast<uint32_t>(listing_.size())).second)
    return wrong("listed twice");
  listing_.push_back(entry);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint32_t>> ContextUpdate::Wanted() {
  // What is in a directory goes before it.
  std::vector<std::string> gone;
  for (auto file = tree_->files_.rbegin(); file != tree_->files_.rend(); ++file) {
    const auto listed = by_path_.find(file->first);
    if (listed == by_path_.end() ||
        ((listing_[listed->second].mode() ^ file->second.mode()) & S_IFMT) != 0)
      gone.push_back(file->first);
  }
  for (const std::string& path : gone) GANTRY_RETURN_IF_ERROR(tree_->Remove(path));

  std::vector<uint32_t> wanted;
  for (uint32_t i = 0; i < listing_.size(); ++i) {
    const v1::ContextEntry& entry = listing_[i];
    const auto before = tree_->files_.find(entry.path());
    bool same = before != tree_->files_.end() && IsSame(entry, before->second);
    if (same && !entry.hard_link_to().empty())
      same = !wanted_.contains(by_path_.at(entry.hard_link_to()));
    if (same) continue;
    GANTRY_RETURN_IF_ERROR(tree_->BeginChange());
    GANTRY_RETURN_IF_ERROR(Make(i));
    if (S_ISREG(entry.mode()) && entry.hard_link_to().empty()) {
      wanted_.emplace(i, false);
      wanted.push_back(i);
    }
  }
  return wanted;
}

int64_t ContextUpdate::wanted_bytes() const {
  int64_t bytes = 0;
  for (const auto& [index, opened] : wanted_) bytes += listing_[index].size_bytes();
  return bytes;
}

// Makes everything but contents and hard links.
absl::Status ContextUpdate::Make(uint32_t index) {
  const v1::ContextEntry& entry = listing_[index];
  if (S_ISDIR(entry.mode())) {
    if (tree_->files_.find(entry.path()) == tree_->files_.end()) {
      std::string name;
      GANTRY_ASSIGN_OR_RETURN(const int parent, tree_->ParentOf(entry.path(), name));
      if (mkdirat(parent, name.c_str(), 0700) != 0) return ErrnoToStatus(errno, entry.path());
    }
    File& file = tree_->files_[entry.path()];
    if (!SameAttributes(entry, file)) {
      const UniqueFd directory =
          OpenInRoot(tree_->root(), entry.path(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      if (!directory.valid()) return ErrnoToStatus(errno, entry.path());
      for (const auto& [name, value] : file.attributes())
        fremovexattr(directory.get(), name.c_str());
      GANTRY_RETURN_IF_ERROR(SetAttributes(directory.get(), entry));
    }
    file = FileOf(entry);  // Finish() sets mode and time
    return absl::OkStatus();
  }
  GANTRY_RETURN_IF_ERROR(tree_->Remove(entry.path()));
  if (S_ISREG(entry.mode())) return absl::OkStatus();
  std::string name;
  GANTRY_ASSIGN_OR_RETURN(const int parent, tree_->ParentOf(entry.path(), name));
  if (S_ISLNK(entry.mode())) {
    if (symlinkat(entry.link_target().c_str(), parent, name.c_str()) != 0)
      return ErrnoToStatus(errno, entry.path());
  } else if (mknodat(parent, name.c_str(), (entry.mode() & S_IFMT) | 0600,
                     makedev(entry.device_major(), entry.device_minor())) != 0) {
    return ErrnoToStatus(errno, entry.path());
  }
  tree_->files_[entry.path()] = FileOf(entry);
  return Dress(entry);
}

// Mode and time of what is not a regular file with content of its own.
absl::Status ContextUpdate::Dress(const v1::ContextEntry& entry) {
  std::string name;
  GANTRY_ASSIGN_OR_RETURN(const int parent, tree_->ParentOf(entry.path(), name));
  if (!S_ISLNK(entry.mode()) && fchmodat(parent, name.c_str(), entry.mode() & 07777, 0) != 0)
    return ErrnoToStatus(errno, entry.path());
  const timespec times[2] = {TimeOf(entry), TimeOf(entry)};
  if (utimensat(parent, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
    return ErrnoToStatus(errno, entry.path());
  return absl::OkStatus();
}

absl::StatusOr<ContextUpdate::Open*> ContextUpdate::OpenContent(uint32_t index) {
  const auto found = open_.find(index);
  if (found != open_.end()) return &found->second;
  const auto wanted = wanted_.find(index);
  if (wanted == wanted_.end() || wanted->second)
    return absl::InvalidArgumentError(
        absl::StrCat("content of file ", index, " of the listing: it is not wanted"));
  if (open_.size() >= kMaxOpen)
    return absl::ResourceExhaustedError("contents of too many files at once");
  const v1::ContextEntry& entry = listing_[index];
  std::string name;
  GANTRY_ASSIGN_OR_RETURN(const int parent, tree_->ParentOf(entry.path(), name));
  Open open;
  open.file = UniqueFd(
      openat(parent, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!open.file.valid()) return ErrnoToStatus(errno, entry.path());
  wanted->second = true;
  return &open_.emplace(index, std::move(open)).first->second;
}

absl::Status ContextUpdate::Write(uint32_t index, std::string bytes) {
  if (bytes.empty()) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(Open* const open, OpenContent(index));
  open->size_bytes += static_cast<int64_t>(bytes.size());
  received_bytes_ += static_cast<int64_t>(bytes.size());
  GANTRY_RETURN_IF_ERROR(WithContext(WriteAll(open->file.get(), bytes), listing_[index].path()));
  // A small file costs more to hand over than to digest.
  if (!open->late && bytes.size() < kSmallBytes) {
    open->hasher->Update(bytes);
    return absl::OkStatus();
  }
  open->late = true;
  lane_.Add(open->hasher, std::move(bytes));
  return absl::OkStatus();
}

void ContextUpdate::Settle() {
  lane_.Settle();
  for (const auto& [path, hasher] : late_) {
    const auto found = tree_->files_.find(path);
    if (found != tree_->files_.end()) found->second.set_digest(hasher->Current().str());
  }
  late_.clear();
}

absl::Status ContextUpdate::Close(uint32_t index, bool missing) {
  GANTRY_ASSIGN_OR_RETURN(Open* const open, OpenContent(index));
  const v1::ContextEntry& entry = listing_[index];
  File file = FileOf(entry);
  if (missing) {
    // Also a file whose first pieces came: its name is free again.
    tree_->files_[entry.path()] = std::move(file);
    open_.erase(index);
    return tree_->Remove(entry.path());
  }
  GANTRY_RETURN_IF_ERROR(SetAttributes(open->file.get(), entry));
  const timespec times[2] = {TimeOf(entry), TimeOf(entry)};
  if (fchmod(open->file.get(), entry.mode() & 07777) != 0 || futimens(open->file.get(), times) != 0)
    return ErrnoToStatus(errno, entry.path());
  if (open->late) {
    late_[entry.path()] = open->hasher;
  } else {
    file.set_digest(open->hasher->Current().str());
  }
  // One that changed between listing and content is sent again next time.
  if (open->size_bytes != entry.size_bytes()) file.clear_version();
  file.set_size_bytes(open->size_bytes);
  open_.erase(index);
  tree_->files_[entry.path()] = std::move(file);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ContextTree>> ContextUpdate::Finish() {
  for (const auto& [index, opened] : wanted_) {
    if (!opened || open_.count(index) > 0)
      return absl::DataLossError(absl::StrCat("the context ended before ", listing_[index].path()));
  }
  Settle();
  if (!tree_->changed_) return std::move(tree_);
  for (const v1::ContextEntry& entry : listing_) {
    if (entry.hard_link_to().empty() || tree_->files_.count(entry.path()) > 0) continue;
    if (tree_->files_.count(entry.hard_link_to()) == 0) continue;  // removed meanwhile
    std::string first;
    GANTRY_ASSIGN_OR_RETURN(const int holder, tree_->ParentOf(entry.hard_link_to(), first));
    const UniqueFd from(openat(holder, ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
    std::string name;
    GANTRY_ASSIGN_OR_RETURN(const int parent, tree_->ParentOf(entry.path(), name));
    if (linkat(from.get(), first.c_str(), parent, name.c_str(), 0) != 0)
      return ErrnoToStatus(errno, entry.path());
    tree_->files_[entry.path()] = FileOf(entry);
  }
  // Last: what was made in them has changed their times. The deepest first, since a mode may
  // forbid the way to what is below.
  for (auto entry = listing_.rbegin(); entry != listing_.rend(); ++entry) {
    if (S_ISDIR(entry->mode())) GANTRY_RETURN_IF_ERROR(Dress(*entry));
  }
  return std::move(tree_);
}

absl::StatusOr<std::unique_ptr<ContextUpdate>> ContextStore::Begin(const std::string& key) {
  GANTRY_RETURN_IF_ERROR(MakeDirectories(directory_, 0700));
  KeyWriter writer;
  writer.Add("context", key);
  const std::string digest = writer.digest().str();
  const std::string base = absl::StrCat(directory_, "/", digest.substr(digest.find(':') + 1));
  int copy = 0;
  while (copy < kMaxCopies) {
    std::unique_ptr<ContextTree> tree(new ContextTree());
    tree->key_ = key;
    tree->home_ = copy == 0 ? base : absl::StrCat(base, ".", copy);
    const std::string lock = tree->home_ + kLockSuffix;
    tree->lock_ = UniqueFd(open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!tree->lock_.valid()) return ErrnoToStatus(errno, lock);
    {
      absl::MutexLock held(&mu_);
      if (flock(tree->lock_.get(), LOCK_EX | LOCK_NB) != 0) {
        ++copy;
        continue;
      }
    }
    // Remove() may have unlinked the name between the two calls.
    struct stat held, named;
    if (fstat(tree->lock_.get(), &held) != 0 || stat(lock.c_str(), &named) != 0 ||
        held.st_ino != named.st_ino)
      continue;
    GANTRY_RETURN_IF_ERROR(WithContext(tree->Open(trash_), "build context"));
    return std::make_unique<ContextUpdate>(std::move(tree));
  }
  return absl::UnavailableError(
      absl::StrCat("build context: all of its ", kMaxCopies, " copies are in use by other builds"));
}

absl::StatusOr<std::vector<ContextStore::Directory>> ContextStore::Directories() {
  std::vector<Directory> entries;
  const absl::StatusOr<std::vector<std::string>> names = ListDirectory(directory_);
  if (absl::IsNotFound(names.status())) return entries;
  if (!names.ok()) return names.status();
  for (const std::string& file : *names) {
    absl::string_view name = file;
    if (!absl::ConsumeSuffix(&name, kLockSuffix)) continue;
    const std::string path = absl::StrCat(directory_, "/", file);
    const UniqueFd lock(open(path.c_str(), O_RDWR | O_CLOEXEC));
    struct stat info;
    if (!lock.valid() || fstat(lock.get(), &info) != 0) continue;
    Directory entry;
    entry.id = std::string(name);
    entry.type = "source.local";
    {
      // Begin() does not take this trial for another build.
      absl::MutexLock held(&mu_);
      entry.in_use = flock(lock.get(), LOCK_EX | LOCK_NB) != 0;
      if (!entry.in_use) flock(lock.get(), LOCK_UN);
    }
    entry.last_used_at = absl::TimeFromTimespec(info.st_mtim);
    const std::string note = ReadFile(path, 64 << 10).value_or("");
    const size_t blank = note.find(' ');
    if (blank != std::string::npos && absl::SimpleAtoi(note.substr(0, blank), &entry.size_bytes))
      entry.description = absl::StrCat("build context ", note.substr(blank + 1));
    entries.push_back(std::move(entry));
  }
  return entries;
}

absl::StatusOr<bool> ContextStore::RemoveDirectory(const std::string& id) {
  const std::string home = absl::StrCat(directory_, "/", id);
  const std::string path = home + kLockSuffix;
  const UniqueFd lock(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!lock.valid() || flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return false;
  trash_.Take(home);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return ErrnoToStatus(errno, path);
  return true;
}

}  // namespace gantry::build
