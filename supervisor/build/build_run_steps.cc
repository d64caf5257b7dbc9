// One step of a stage: the key of its result, whether that is there already, and carrying it out.
#include <fcntl.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/build/build_run.h"
#include "supervisor/build/file_copy.h"
#include "supervisor/build/step_mounts.h"
#include "supervisor/build/tar_source.h"
#include "supervisor/core/build_exchange.h"
#include "supervisor/oci/user_lookup.h"

namespace gantry::build {
namespace {

std::string TimeText(absl::Time time) {
  return absl::FormatTime(absl::RFC3339_full, time, absl::UTCTimeZone());
}

// `owner` of --chown or USER, by the passwd and group files of the tree at `root`.
absl::StatusOr<std::pair<uint32_t, uint32_t>> OwnerOf(int root, const std::string& owner) {
  std::string spec = owner;
  uint32_t number = 0;
  // A bare number is the group, too; a bare name brings its own.
  if (!absl::StrContains(spec, ':') && absl::SimpleAtoi(spec, &number))
    spec = absl::StrCat(spec, ":", spec);
  const oci::UserDatabase database = oci::LoadUserDatabase(root);
  if (spec == "root") return std::make_pair(0u, 0u);
  GANTRY_ASSIGN_OR_RETURN(const oci::User user, oci::ResolveUser(database, spec));
  return std::make_pair(user.uid, user.gid);
}

// COPY --link, where it needs nothing of the files below: no names of owners. --chmod asks for an
// ordinary copy, as in BuildKit.
bool IsLinked(const LayerStep& layer) {
  return layer.link && layer.mode.empty() &&
         layer.owner.find_first_not_of("0123456789:") == std::string::npos;
}

// The repository of an ADD with what its flags say.
absl::StatusOr<GitSource> GitSourceOf(const LayerStep& layer, const CopySource& source) {
  GANTRY_ASSIGN_OR_RETURN(GitSource git, ParseGitSource(source.path));
  if (!layer.checksum.empty()) git.checksum = layer.checksum;
  git.keep_git_dir = git.keep_git_dir || layer.keep_git_dir;
  return git;
}

absl::Status CheckDigest(const std::string& expected, const RemoteFiles::File& file) {
  if (expected.empty() || expected == file.digest) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("digest mismatch ", file.digest, ": ", expected));
}

}  // namespace

bool BuildRun::MayReuse(const Stage& stage) const {
  if (parts_.request->no_cache()) return false;
  for (const std::string& name : parts_.request->no_cache_stages()) {
    if (absl::AsciiStrToLower(name) == stage.name || name == absl::StrCat(stage.index))
      return false;
  }
  return true;
}

absl::StatusOr<std::string> BuildRun::KeyOf(const core::BuildRoot& root, const LayerStep& layer) {
  KeyWriter key;
  key.Add("version", "2");
  key.Add("below", root.chain_id());
  key.Add("kind", absl::StrCat(static_cast<int>(layer.kind)));
  key.Add("user", layer.user);
  key.Add("directory", layer.working_dir);
  key.Add("platform", PlatformText(parts_.plan->stages[layer.stage].made_for));
  if (layer.kind == LayerStep::Kind::kRun) {
    for (const std::string& argument : layer.arguments) key.Add("argument", argument);
    for (const std::string& entry : layer.environment) key.Add("environment", entry);
    key.Add("script", layer.script);
    key.Add("network", layer.network);
    key.Add("network of the build", parts_.request->network_mode());
    key.Add("security", layer.security);
    GANTRY_RETURN_IF_ERROR(AddMounted(layer, key));
  } else if (layer.kind != LayerStep::Kind::kWorkdir) {
    GANTRY_RETURN_IF_ERROR(AddCopied(layer, key));
  }
  return key.digest().str();
}

absl::Status BuildRun::AddMounted(const LayerStep& layer, KeyWriter& key) {
  for (const RunMount& mount : layer.mounts) {
    key.Add("mount", absl::StrCat(static_cast<int>(mount.type)));
    key.Add("target", mount.target);
    key.Add("id", mount.id);
    key.Add("variable", mount.environment);
    key.Add("read-only", mount.read_only ? "1" : "0");
    // What a cache or a secret holds does not count.
    if (mount.type != RunMount::Type::kBind) continue;
    LayerStep copied;
    copied.stage = layer.stage;
    GANTRY_ASSIGN_OR_RETURN(copied.from, ResolveFrom(*parts_.plan, layer.stage, mount.from));
    copied.sources.push_back({CopySource::Kind::kPath, mount.source, ""});
    GANTRY_RETURN_IF_ERROR(AddCopied(copied, key));
  }
  return absl::OkStatus();
}

absl::Status BuildRun::AddCopied(const LayerStep& layer, KeyWriter& key) {
  if (IsLinked(layer)) key.Add("link", "1");
  key.Add("destination", layer.destination);
  key.Add("owner", layer.owner);
  key.Add("mode", layer.mode);
  key.Add("parents", layer.parents ? "1" : "0");
  key.Add("unpack", layer.unpack.has_value() ? (*layer.unpack ? "1" : "0") : "");
  key.Add("checksum", layer.checksum);
  GANTRY_ASSIGN_OR_RETURN(const engine::IgnoreRules excludes,
                          engine::IgnoreRules::FromPatterns(layer.excludes));
  GANTRY_ASSIGN_OR_RETURN(const StepFiles from, FilesOf(layer.from, layer.stage));
  KnownDigestFn known;
  if (from.context != nullptr) {
    known = [&from](absl::string_view path) -> const std::string& {
      return from.context->DigestOf(path);
    };
  }
  const auto add = [&](int root) -> absl::Status {
    for (const CopySource& source : layer.sources) {
      if (source.kind == CopySource::Kind::kHeredoc) {
        key.Add("document", source.path);
        key.Add("content", source.content);
        continue;
      }
      if (source.kind != CopySource::Kind::kPath) {
        GANTRY_RETURN_IF_ERROR(AddRemote(layer, source, key));
        continue;
      }
      key.Add("source", "");
      GANTRY_ASSIGN_OR_RETURN(const std::vector<MatchedSource> matches,
                              MatchSources(root, source.path, layer.parents));
      GANTRY_RETURN_IF_ERROR(AddFiles(root, matches, excludes, parts_.cancel, key, known));
    }
    return absl::OkStatus();
  };
  if (from.root == nullptr) return add(from.context->root());
  if (from.root->diff_ids.empty()) return absl::NotFoundError("there are no files in that stage");
  return parts_.session->Look({from.root}, [&](const core::ImageBuild::Session::Trees& trees) {
    return add(trees.sources[0]);
  });
}

absl::Status BuildRun::AddRemote(const LayerStep& layer, const CopySource& source, KeyWriter& key) {
  if (source.kind == CopySource::Kind::kGit) {
    GANTRY_ASSIGN_OR_RETURN(const GitSource git, GitSourceOf(layer, source));
    GANTRY_ASSIGN_OR_RETURN(const RemoteFiles::Tree tree, parts_.remote->Clone(git, parts_.cancel));
    Used({WithoutPassword(source.path), tree.commit});
    key.Add("commit", tree.commit);
    key.Add("directory", git.directory);
    key.Add("administration", git.keep_git_dir ? "1" : "0");
    key.Add("submodules", git.submodules ? "1" : "0");
    return absl::OkStatus();
  }
  key.Add("name", NameOfUrl(source.path));
  // What the checksum names need not be fetched to be known.
  if (!layer.checksum.empty()) {
    GANTRY_RETURN_IF_ERROR(content::Digest::Parse(layer.checksum).status());
    Used({WithoutPassword(source.path), layer.checksum});
    key.Add("content", layer.checksum);
    return absl::OkStatus();
  }
  GANTRY_ASSIGN_OR_RETURN(const RemoteFiles::File file,
                          parts_.remote->Get(source.path, parts_.cancel, nullptr));
  Used({WithoutPassword(source.path), file.digest});
  key.Add("content", file.digest);
  return absl::OkStatus();
}

absl::StatusOr<BuildRun::Fetched> BuildRun::Fetch(const LayerStep& layer,
                                                  const CopySource& source) {
  Fetched fetched;
  std::string directory;
  if (source.kind == CopySource::Kind::kGit) {
    GANTRY_ASSIGN_OR_RETURN(const GitSource git, GitSourceOf(layer, source));
    GANTRY_ASSIGN_OR_RETURN(const RemoteFiles::Tree tree, parts_.remote->Clone(git, parts_.cancel));
    directory = tree.directory;
    fetched.match.path = "/";
    fetched.match.directory = true;
  } else {
    GANTRY_ASSIGN_OR_RETURN(const RemoteFiles::File file,
                            parts_.remote->Get(source.path, parts_.cancel, nullptr));
    GANTRY_RETURN_IF_ERROR(CheckDigest(layer.checksum, file));
    directory = file.directory;
    fetched.match.path = absl::StrCat("/", file.name);
    fetched.match.name = file.name;
  }
  fetched.root = UniqueFd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fetched.root.valid()) return ErrnoToStatus(errno, directory);
  return fetched;
}

absl::StatusOr<absl::optional<core::BuildCache::Hit>> BuildRun::FindDone(
    const core::BuildRoot& root, const LayerStep& layer, const std::string& key) {
  GANTRY_ASSIGN_OR_RETURN(absl::optional<core::BuildCache::Hit> hit,
                          parts_.cache->Find(*parts_.session, root, key));
  for (core::BuildCacheImport* imported : parts_.imports) {
    if (hit.has_value()) break;
    absl::StatusOr<absl::optional<core::BuildCache::Hit>> found =
        imported->Find(*parts_.session, *parts_.cache, root, key, layer.shown);
    if (!found.ok()) {
      GANTRY_RETURN_IF_ERROR(parts_.cancel->Check());
      // The step can be done here as well.
      parts_.log->Warn("CacheImport",
                       absl::StrCat(imported->name(), ": ", found.status().message()),
                       parts_.plan->file, layer.line);
      continue;
    }
    hit = *std::move(found);
  }
  return hit;
}

absl::Status BuildRun::DoStep(const Stage& stage, const LayerStep& layer, v1::BuildStep& step,
                              BuiltStage& built) {
  GANTRY_ASSIGN_OR_RETURN(const std::string key, KeyOf(built.root, layer));
  if (MayReuse(stage)) {
    GANTRY_ASSIGN_OR_RETURN(absl::optional<core::BuildCache::Hit> hit,
                            FindDone(built.root, layer, key));
    if (hit.has_value()) {
      built.evaluator->Done(layer, true);
      built.evaluator->config().history.back().created = TimeText(hit->made_at);
      step.set_image_id(hit->root.chain_id());
      built.root = std::move(hit->root);
      built.steps.push_back({key, built.root, hit->made_at});
      return parts_.log->End(step, /*cached=*/true);
    }
  }
  core::BuildRoot next;
  absl::optional<absl::Time> made_before;
  if (layer.kind == LayerStep::Kind::kRun) {
    GANTRY_ASSIGN_OR_RETURN(next, DoRun(built.root, layer, step));
  } else if (IsLinked(layer)) {
    GANTRY_ASSIGN_OR_RETURN(next, DoLinked(stage, built.root, layer, made_before));
  } else if (layer.kind == LayerStep::Kind::kWorkdir) {
    GANTRY_ASSIGN_OR_RETURN(next, DoWorkdir(built.root, layer));
  } else {
    GANTRY_ASSIGN_OR_RETURN(next, DoCopy(built.root, layer));
  }
  built.evaluator->Done(layer, true);
  const absl::Time now = made_before.value_or(Clock::Real().Now());
  built.evaluator->config().history.back().created = TimeText(now);
  GANTRY_RETURN_IF_ERROR(parts_.cache->Put(*parts_.session, key, layer.shown, next, now));
  step.set_image_id(next.chain_id());
  built.root = std::move(next);
  built.steps.push_back({key, built.root, now});
  return parts_.log->End(step, /*cached=*/made_before.has_value());
}

absl::Status BuildRun::Allowed(const std::string& entitlement) const {
  for (const std::string& one : parts_.request->allow()) {
    if (one == entitlement) return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat(entitlement, " is not allowed; ask for it with --allow ", entitlement));
}

absl::StatusOr<core::BuildRoot> BuildRun::DoRun(const core::BuildRoot& root, const LayerStep& layer,
                                                v1::BuildStep& step) {
  if (root.diff_ids.empty()) {
    return absl::FailedPreconditionError(
        "there is nothing to run in an image without files; begin with another base than scratch");
  }
  const v1::BuildRequest::Open& request = *parts_.request;
  v1::ContainerConfig config;
  config.mutable_entrypoint();  // present and empty: the command is the whole
  for (const std::string& argument : layer.arguments) config.add_command(argument);
  for (const std::string& entry : layer.environment) config.add_env(entry);
  for (const auto& [name, value] : layer.proxies) config.add_env(absl::StrCat(name, "=", value));
  config.set_working_dir(layer.working_dir);
  config.set_user(layer.user);
  config.set_hostname(request.hostname().empty() ? "buildkitsandbox" : request.hostname());
  config.set_network_mode(layer.network != "default" ? layer.network : request.network_mode());
  if (config.network_mode() == "host" && layer.network == "host")
    GANTRY_RETURN_IF_ERROR(Allowed("network.host"));
  if (layer.security == "insecure") {
    GANTRY_RETURN_IF_ERROR(Allowed("security.insecure"));
    config.set_privileged(true);
  }
  if (!layer.devices.empty()) return absl::UnimplementedError("RUN --device is not supported");
  *config.mutable_extra_hosts() = request.extra_hosts();
  config.set_shm_size_bytes(request.shm_size_bytes());
  *config.mutable_resources() = request.resources();
  config.set_cgroup_parent(request.cgroup_parent());
  StepMounts::Parts mount_parts;
  mount_parts.session = parts_.session;
  mount_parts.request = &request;
  mount_parts.client = parts_.client;
  mount_parts.caches = parts_.caches;
  mount_parts.cancel = parts_.cancel;
  mount_parts.init_path = parts_.init_path;
  mount_parts.scratch_directory = absl::StrCat(parts_.directory, "/step-", step.number());
  mount_parts.state_directory = absl::StrCat(parts_.state_directory, "/step-", step.number());
  mount_parts.files_of = [&](const std::string& from) -> absl::StatusOr<StepFiles> {
    GANTRY_ASSIGN_OR_RETURN(const Source source, ResolveFrom(*parts_.plan, layer.stage, from));
    return FilesOf(source, layer.stage);
  };
  StepMounts mounts(std::move(mount_parts));
  GANTRY_RETURN_IF_ERROR(mounts.AddTo(layer, config));
  GANTRY_ASSIGN_OR_RETURN(core::ImageBuild::Session::Ran ran,
                          parts_.session->Run(
                              root, config,
                              [&](const std::string& id) {
                                step.set_container(id);
                                return parts_.log->Change(step);
                              },
                              [&](int stream, absl::string_view bytes) {
                                return parts_.log->Output(step, stream, bytes);
                              }));
  if (ran.exit_code != 0) {
    step.set_exit_code(ran.exit_code);
    return absl::AbortedError(
        absl::StrCat("process \"", absl::StrJoin(layer.arguments, " "),
                     "\" did not complete successfully: exit code: ", ran.exit_code));
  }
  return *std::move(ran.root);
}

absl::StatusOr<core::BuildRoot> BuildRun::DoLinked(const Stage& stage, const core::BuildRoot& root,
                                                   const LayerStep& layer,
                                                   absl::optional<absl::Time>& made_at) {
  core::BuildRoot nothing;
  nothing.manifest.media_type = root.manifest.media_type;
  GANTRY_ASSIGN_OR_RETURN(const std::string key, KeyOf(nothing, layer));
  core::BuildRoot alone;
  absl::optional<core::BuildCache::Hit> hit;
  if (MayReuse(stage)) {
    GANTRY_ASSIGN_OR_RETURN(hit, parts_.cache->Find(*parts_.session, nothing, key));
  }
  if (hit.has_value()) {
    made_at = hit->made_at;
    alone = std::move(hit->root);
  } else {
    GANTRY_ASSIGN_OR_RETURN(alone, DoCopy(nothing, layer));
    GANTRY_RETURN_IF_ERROR(
        parts_.cache->Put(*parts_.session, key, layer.shown, alone, Clock::Real().Now()));
  }
  if (root.diff_ids.empty()) return alone;
  return parts_.session->exchange().Adopt(root, alone.manifest.layers.back(),
                                          alone.diff_ids.back());
}

absl::StatusOr<core::BuildRoot> BuildRun::DoWorkdir(const core::BuildRoot& root,
                                                    const LayerStep& layer) {
  return parts_.session->Change(
      root, "workdir", {}, [&](const core::ImageBuild::Session::Trees& trees) -> absl::Status {
        FileCopyOptions options;
        if (!layer.user.empty()) {
          GANTRY_ASSIGN_OR_RETURN(options.owner, OwnerOf(trees.target, layer.user));
        }
        FileCopy copy(trees.target, trees.target, std::move(options));
        return copy.MakeDirectory(layer.working_dir).status();
      });
}

absl::StatusOr<core::BuildRoot> BuildRun::DoCopy(const core::BuildRoot& root,
                                                 const LayerStep& layer) {
  GANTRY_ASSIGN_OR_RETURN(const FileMode mode, FileMode::Parse(layer.mode));
  GANTRY_ASSIGN_OR_RETURN(const engine::IgnoreRules excludes,
                          engine::IgnoreRules::FromPatterns(layer.excludes));
  GANTRY_ASSIGN_OR_RETURN(const StepFiles from, FilesOf(layer.from, layer.stage));
  std::map<const CopySource*, Fetched> fetched;
  for (const CopySource& source : layer.sources) {
    if (source.kind != CopySource::Kind::kUrl && source.kind != CopySource::Kind::kGit) continue;
    GANTRY_ASSIGN_OR_RETURN(fetched[&source], Fetch(layer, source));
  }
  std::vector<const core::BuildRoot*> sources;
  if (from.root != nullptr && !from.root->diff_ids.empty()) sources.push_back(from.root);
  return parts_.session->Change(
      root, "copy", sources, [&](const core::ImageBuild::Session::Trees& trees) -> absl::Status {
        const int source_root = from.root == nullptr    ? from.context->root()
                                : trees.sources.empty() ? -1
                                                        : trees.sources[0];
        FileCopyOptions options;
        options.mode = mode;
        options.excludes = excludes;
        options.cancel = parts_.cancel;
        if (!layer.owner.empty()) {
          GANTRY_ASSIGN_OR_RETURN(options.owner, OwnerOf(trees.target, layer.owner));
        }
        const auto owner = options.owner;
        FileCopy copy(source_root, trees.target, options);
        for (const CopySource& source : layer.sources) {
          if (source.kind == CopySource::Kind::kHeredoc) {
            GANTRY_RETURN_IF_ERROR(copy.Write(source.content, source.path, layer.destination));
            continue;
          }
          if (const auto remote = fetched.find(&source); remote != fetched.end()) {
            const auto& [root_of_it, match] = remote->second;
            if (source.kind == CopySource::Kind::kUrl && layer.unpack.value_or(false)) {
              GANTRY_ASSIGN_OR_RETURN(const UniqueFd directory,
                                      copy.MakeDirectory(layer.destination));
              GANTRY_RETURN_IF_ERROR(ExtractArchive(root_of_it.get(), match.path, directory.get(),
                                                    owner, parts_.cancel));
              continue;
            }
            FileCopy from_remote(root_of_it.get(), trees.target, options);
            GANTRY_RETURN_IF_ERROR(from_remote.Copy(match, layer.destination, false));
            continue;
          }
          GANTRY_ASSIGN_OR_RETURN(const std::vector<MatchedSource> matches,
                                  MatchSources(source_root, source.path, layer.parents));
          for (const MatchedSource& match : matches) {
            if (layer.kind == LayerStep::Kind::kAdd && !match.directory &&
                layer.unpack.value_or(true)) {
              GANTRY_ASSIGN_OR_RETURN(const bool archive, IsArchive(source_root, match.path));
              if (archive) {
                GANTRY_ASSIGN_OR_RETURN(const UniqueFd directory,
                                        copy.MakeDirectory(layer.destination));
                GANTRY_RETURN_IF_ERROR(
                    ExtractArchive(source_root, match.path, directory.get(), owner, parts_.cancel));
                continue;
              }
            }
            GANTRY_RETURN_IF_ERROR(copy.Copy(match, layer.destination, layer.parents));
          }
        }
        return absl::OkStatus();
      });
}

}  // namespace gantry::build
