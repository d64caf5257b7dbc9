#include "supervisor/build/remote_files.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/in_root.h"
#include "base/status_macros.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "content-store/digest.h"
#include "supervisor/distribution/http_client.h"

namespace gantry::build {
namespace {

constexpr int kMaxRedirects = 10;
constexpr absl::Duration kGitTimeout = absl::Minutes(30);

// The body of an answer, into a file.
class Saved : public distribution::HttpReceiver {
 public:
  Saved(int file, const RemoteFiles::ProgressFn& progress) : file_(file), progress_(progress) {}

  absl::Status OnHead(const distribution::HttpHead& head) override {
    head_ = head;
    int64_t length = 0;
    if (absl::SimpleAtoi(head.header("content-length"), &length)) total_ = length;
    return absl::OkStatus();
  }
  absl::Status OnBody(absl::string_view bytes) override {
    if (head_.status != 200) return absl::OkStatus();
    hasher_.Update(bytes);
    received_ += static_cast<int64_t>(bytes.size());
    if (progress_) progress_(received_, total_);
    return WriteAll(file_, bytes);
  }
  const distribution::HttpHead& head() const { return head_; }
  std::string digest() const { return hasher_.Current().str(); }

 private:
  const int file_;
  const RemoteFiles::ProgressFn& progress_;
  distribution::HttpHead head_;
  content::Hasher hasher_;
  int64_t received_ = 0;
  int64_t total_ = 0;
};

std::string Unescaped(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned int code = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        absl::SimpleHexAtoi(text.substr(i + 1, 2), &code)) {
      out.push_back(static_cast<char>(code));
      i += 2;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

// What git gets to know of us. Neither the machine's nor the user's configuration counts, nothing
// asks questions, and only these transports are used, also by submodules.
std::vector<std::string> GitEnvironment(const std::string& home) {
  std::vector<std::string> environment = {
      absl::StrCat("HOME=", home),
      absl::StrCat("XDG_CONFIG_HOME=", home),
      "GIT_CONFIG_NOSYSTEM=1",
      "GIT_CONFIG_GLOBAL=/dev/null",
      "GIT_ATTR_NOSYSTEM=1",
      "GIT_TERMINAL_PROMPT=0",
      "GIT_ASKPASS=/bin/false",
      "SSH_ASKPASS=/bin/false",
      "GIT_ALLOW_PROTOCOL=http:https:git:ssh",
      "GIT_PROTOCOL_FROM_USER=0",
      "GIT_LFS_SKIP_SMUDGE=1",
      "GIT_SSH_COMMAND=ssh -F /dev/null -o BatchMode=yes -o ProxyCommand=none "
      "-o PermitLocalCommand=no",
      "LC_ALL=C",
  };
  for (const char* name : {"PATH", "http_proxy", "https_proxy", "HTTPS_PROXY", "no_proxy",
                           "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"}) {
    if (const char* value = getenv(name); value != nullptr)
      environment.push_back(absl::StrCat(name, "=", value));
  }
  return environment;
}

// Settings of a repository that would make git run something, or read outside of it.
const std::vector<std::string>& GitSettings() {
  static const std::vector<std::string>& settings = *new std::vector<std::string>{
      "core.hooksPath=/dev/null",
      "core.fsmonitor=false",
      "core.attributesFile=/dev/null",
      "protocol.file.allow=never",
      "protocol.ext.allow=never",
      "credential.helper=",
      "gc.auto=0",
      "advice.detachedHead=false",
      "submodule.recurse=false",
      "core.symlinks=true",
  };
  return settings;
}

class Git {
 public:
  Git(std::string repository, const std::string& home, CancelToken* cancel)
      : repository_(std::move(repository)), environment_(GitEnvironment(home)), cancel_(cancel) {}

  // What it prints, without the last end of line.
  absl::StatusOr<std::string> Run(const std::vector<std::string>& args) const {
    Command command;
    command.argv = {"git"};
    for (const std::string& setting : GitSettings()) {
      command.argv.push_back("-c");
      command.argv.push_back(setting);
    }
    command.argv.push_back("-C");
    command.argv.push_back(repository_);
    command.argv.insert(command.argv.end(), args.begin(), args.end());
    command.env = environment_;
    command.new_session = true;
    command.timeout = kGitTimeout;
    absl::StatusOr<CommandResult> done = RunCommand(command, "", 64 << 10, cancel_);
    if (absl::IsNotFound(done.status()))
      return absl::FailedPreconditionError("there is no git program on this machine; install git");
    if (!done.ok()) return done.status();
    if (!done->status.ok()) {
      const absl::string_view text = absl::StripAsciiWhitespace(done->err);
      return absl::UnavailableError(absl::StrCat(
          "git ", args[0], ": ",
          text.empty() ? done->status.ToString() : std::string(text.substr(text.rfind('\n') + 1))));
    }
    return std::string(absl::StripTrailingAsciiWhitespace(done->out));
  }

 private:
  const std::string repository_;
  const std::vector<std::string> environment_;
  CancelToken* const cancel_;
};

bool IsCommit(absl::string_view ref) {
  return (ref.size() == 40 || ref.size() == 64) &&
         std::all_of(ref.begin(), ref.end(),
                     [](unsigned char c) { return absl::ascii_isxdigit(c); });
}

// Fetches `ref` and checks it out.
absl::Status FetchRef(const Git& git, const GitSource& source) {
  const std::string ref = source.ref.empty() ? "HEAD" : source.ref;
  const absl::Status shallow = git.Run({"fetch", "-q", "--no-tags", "--depth=1",
                                        "--no-recurse-submodules", "--", source.repository, ref})
                                   .status();
  if (shallow.ok()) return git.Run({"checkout", "-q", "--detach", "FETCH_HEAD", "--"}).status();
  if (absl::IsCancelled(shallow) || absl::IsFailedPrecondition(shallow)) return shallow;
  // A server that does not give away single commits, has no shallow ones, or a shortened commit.
  const absl::Status all =
      git.Run({"fetch", "-q", "--no-recurse-submodules", "--", source.repository,
               "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"})
          .status();
  if (!all.ok()) return shallow;
  for (const std::string& name : {ref, absl::StrCat("origin/", ref)}) {
    const absl::StatusOr<std::string> commit =
        git.Run({"rev-parse", "-q", "--verify", "--end-of-options", name + "^{commit}"});
    if (commit.ok()) return git.Run({"checkout", "-q", "--detach", *commit, "--"}).status();
  }
  return absl::NotFoundError(absl::StrCat("there is no branch, tag or commit ", ref));
}

// Of everything below `top`: takes ".git" out unless `keep`, and sets times.
absl::Status Tidy(const std::string& top, absl::Time time, bool keep) {
  std::vector<std::string> administration;
  char* const paths[] = {const_cast<char*>(top.c_str()), nullptr};
  const std::unique_ptr<FTS, int (*)(FTS*)> tree(
      fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, nullptr), &fts_close);
  if (tree == nullptr) return ErrnoToStatus(errno, top);
  while (FTSENT* entry = fts_read(tree.get())) {
    if (absl::string_view(entry->fts_name) != ".git" || entry->fts_info == FTS_DP) continue;
    if (!keep) administration.push_back(entry->fts_path);
    fts_set(tree.get(), entry, FTS_SKIP);
  }
  for (const std::string& path : administration) GANTRY_RETURN_IF_ERROR(RemoveTree(path));
  const timespec stamp = absl::ToTimespec(time);
  const timespec times[2] = {stamp, stamp};
  const std::unique_ptr<FTS, int (*)(FTS*)> again(
      fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, nullptr), &fts_close);
  if (again == nullptr) return ErrnoToStatus(errno, top);
  while (const FTSENT* entry = fts_read(again.get())) {
    if (entry->fts_info != FTS_D &&
        utimensat(AT_FDCWD, entry->fts_path, times, AT_SYMLINK_NOFOLLOW) != 0)
      return ErrnoToStatus(errno, entry->fts_path);
  }
  return absl::OkStatus();
}

}  // namespace

std::string NameOfUrl(absl::string_view url) {
  absl::string_view path = url.substr(0, url.find_first_of("?#"));
  if (const size_t scheme = path.find("://"); scheme != absl::string_view::npos)
    path.remove_prefix(scheme + 3);
  const size_t slash = path.rfind('/');
  const std::string name =
      slash == absl::string_view::npos ? "" : Unescaped(path.substr(slash + 1));
  if (name.empty() || name == "." || name == ".." || name.size() > 255 ||
      name.find('/') != std::string::npos || name.find('\0') != std::string::npos)
    return "__unnamed__";
  return name;
}

std::string RemoteFiles::NewDirectory() { return absl::StrCat(directory_, "/", ++made_); }

absl::StatusOr<RemoteFiles::File> RemoteFiles::Get(const std::string& url, CancelToken* cancel,
                                                   const ProgressFn& progress) {
  Fetched<File>* fetched;
  std::string directory;
  {
    absl::MutexLock lock(&mu_);
    auto& slot = files_[url];
    if (slot == nullptr) slot = std::make_unique<Fetched<File>>();
    fetched = slot.get();
    directory = NewDirectory();
  }
  // Others that want the same file wait here.
  absl::MutexLock lock(&fetched->mu);
  if (!fetched->done) {
    fetched->result = Download(url, directory, cancel, progress);
    fetched->done = true;
  }
  return fetched->result;
}

absl::StatusOr<RemoteFiles::File> RemoteFiles::Download(const std::string& url,
                                                        const std::string& directory,
                                                        CancelToken* cancel,
                                                        const ProgressFn& progress) {
  if (http_ == nullptr) return absl::FailedPreconditionError("this daemon fetches nothing");
  const auto failed = [&](const absl::Status& why) {
    return WithContext(why, WithoutPassword(url));
  };
  absl::StatusOr<distribution::Url> at = distribution::Url::Parse(url.substr(0, url.find('#')));
  if (!at.ok()) return failed(at.status());
  File file;
  file.directory = directory;
  file.name = NameOfUrl(url);
  GANTRY_RETURN_IF_ERROR(MakeDirectories(directory, 0700));
  const std::string path = absl::StrCat(directory, "/", file.name);
  distribution::Reach nearest = distribution::Reach::kLoopback;
  for (int redirects = 0; redirects <= kMaxRedirects; ++redirects) {
    const UniqueFd out(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!out.valid()) return failed(ErrnoToStatus(errno, path));
    Saved saved(out.get(), progress);
    distribution::HttpRequest request;
    request.url = *at;
    request.nearest = nearest;
    request.cancel = cancel;
    const distribution::HttpResult result = http_->Do(request, saved);
    if (!result.status.ok()) return failed(result.status);
    const int status = saved.head().status;
    if (status >= 301 && status <= 308 && status != 304) {
      at = at->Resolve(saved.head().header("location"));
      if (!at.ok()) return failed(at.status());
      if (result.peer != distribution::Reach::kUnknown) nearest = std::min(nearest, result.peer);
      continue;
    }
    if (status == 404 || status == 410) return failed(absl::NotFoundError("not found"));
    if (status != 200)
      return failed(absl::UnavailableError(
          absl::StrCat("the server answers ", status, " ", saved.head().reason)));
    file.digest = saved.digest();
    absl::Time modified = absl::UnixEpoch();
    std::string error;
    absl::Time parsed;
    if (absl::ParseTime("%a, %d %b %Y %H:%M:%S GMT",
                        std::string(saved.head().header("last-modified")), &parsed, &error))
      modified = parsed;
    const timespec stamp = absl::ToTimespec(modified);
    const timespec times[2] = {stamp, stamp};
    if (futimens(out.get(), times) != 0 || fchmod(out.get(), 0600) != 0)
      return failed(ErrnoToStatus(errno, path));
    return file;
  }
  return failed(absl::UnavailableError("it is redirected more than ten times"));
}

absl::StatusOr<RemoteFiles::Tree> RemoteFiles::Clone(const GitSource& source, CancelToken* cancel) {
  const std::string key =
      absl::StrCat(source.repository, "\n", source.ref, "\n", source.directory, "\n",
                   source.checksum, "\n", source.keep_git_dir, "\n", source.submodules);
  Fetched<Tree>* fetched;
  std::string directory;
  {
    absl::MutexLock lock(&mu_);
    auto& slot = trees_[key];
    if (slot == nullptr) slot = std::make_unique<Fetched<Tree>>();
    fetched = slot.get();
    directory = NewDirectory();
  }
  absl::MutexLock lock(&fetched->mu);
  if (!fetched->done) {
    fetched->result = Checkout(source, directory, cancel);
    if (!fetched->result.ok())
      fetched->result = WithContext(fetched->result.status(), WithoutPassword(source.repository));
    fetched->done = true;
  }
  return fetched->result;
}

absl::StatusOr<RemoteFiles::Tree> RemoteFiles::Checkout(const GitSource& source,
                                                        const std::string& directory,
                                                        CancelToken* cancel) {
  const std::string top = directory + "/tree";
  const std::string home = directory + "/home";
  GANTRY_RETURN_IF_ERROR(MakeDirectories(top, 0755));
  GANTRY_RETURN_IF_ERROR(MakeDirectories(home, 0700));
  const Git git(top, home, cancel);
  // Without the template's hooks.
  GANTRY_RETURN_IF_ERROR(git.Run({"init", "-q", "--template="}).status());
  GANTRY_RETURN_IF_ERROR(FetchRef(git, source));
  Tree tree;
  GANTRY_ASSIGN_OR_RETURN(tree.commit, git.Run({"rev-parse", "HEAD"}));
  const std::string wanted = absl::AsciiStrToLower(source.checksum);
  if (!absl::StartsWith(tree.commit, wanted))
    return absl::FailedPreconditionError(
        absl::StrCat("the commit is ", tree.commit, ", and the checksum names ", wanted));
  if (IsCommit(source.ref) && absl::AsciiStrToLower(source.ref) != tree.commit)
    return absl::FailedPreconditionError(
        absl::StrCat("the server sent commit ", tree.commit, " for ", source.ref));
  GANTRY_ASSIGN_OR_RETURN(const std::string seconds, git.Run({"log", "-1", "--format=%ct"}));
  int64_t committed = 0;
  if (!absl::SimpleAtoi(seconds, &committed))
    return absl::DataLossError(absl::StrCat("git says that the commit is of ", seconds));
  struct stat info;
  if (source.submodules && lstat((top + "/.gitmodules").c_str(), &info) == 0 &&
      S_ISREG(info.st_mode)) {
    GANTRY_RETURN_IF_ERROR(
        git.Run({"submodule", "update", "-q", "--init", "--recursive", "--depth=1"}).status());
  }
  GANTRY_RETURN_IF_ERROR(Tidy(top, absl::FromUnixSeconds(committed), source.keep_git_dir));
  tree.directory = top;
  if (source.directory.empty()) return tree;
  // Links of the repository do not lead out of it.
  const UniqueFd root(open(top.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return ErrnoToStatus(errno, top);
  GANTRY_ASSIGN_OR_RETURN(const std::string below, FollowLinksInRoot(root.get(), source.directory));
  const UniqueFd there = OpenInRoot(root.get(), below, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  if (!there.valid())
    return absl::NotFoundError(
        absl::StrCat("there is no directory ", source.directory, " in the repository"));
  if (below != "/") absl::StrAppend(&tree.directory, below);
  return tree;
}

}  // namespace gantry::build
