#include "ctl/compose/loader.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"
#include "ctl/compose/canonical.h"
#include "ctl/compose/complete.h"
#include "ctl/compose/consistency.h"
#include "ctl/compose/env_file.h"
#include "ctl/compose/interpolation.h"
#include "ctl/compose/merge.h"
#include "ctl/compose/schema.h"
#include "ctl/compose/yaml_reader.h"

namespace gantry::compose {
namespace {

constexpr const char* kFileNames[] = {"compose.yaml", "compose.yml", "docker-compose.yml",
                                      "docker-compose.yaml"};
constexpr const char* kOverrideNames[] = {"compose.override.yml", "compose.override.yaml",
                                          "docker-compose.override.yml",
                                          "docker-compose.override.yaml"};
constexpr size_t kMaxFiles = 200;  // with includes and extended ones
constexpr size_t kMaxExtends = 64;

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool ValidName(absl::string_view name) {
  if (name.empty() || !(absl::ascii_islower(name[0]) || absl::ascii_isdigit(name[0]))) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_' || c == '-';
  });
}

absl::Status CheckName(const std::string& name) {
  if (ValidName(name)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("invalid project name \"", name,
                                                 "\": must consist only of lowercase alphanumeric "
                                                 "characters, hyphens, and underscores as well "
                                                 "as start with a letter or number"));
}

std::string Normalized(absl::string_view text) {
  std::string out;
  for (char c : text) {
    const char lower = absl::ascii_tolower(c);
    if (absl::ascii_islower(lower) || absl::ascii_isdigit(lower) || lower == '_' || lower == '-')
      out += lower;
  }
  return out.substr(std::min(out.find_first_not_of("_-"), out.size()));
}

class Loader {
 public:
  explicit Loader(const LoadOptions& options) : options_(options) {
    const auto home = options_.environment.find("HOME");
    home_ = home == options_.environment.end() ? "/root" : home->second;
  }

  absl::StatusOr<Project> Load() {
    GANTRY_RETURN_IF_ERROR(ReadFirstEnvironment());
    GANTRY_RETURN_IF_ERROR(FindFiles());
    GANTRY_RETURN_IF_ERROR(ReadDotEnv(project_.directory));
    GANTRY_RETURN_IF_ERROR(ReadNames());
    Node merged = Node::Map();
    for (const std::string& file : project_.files) {
      GANTRY_ASSIGN_OR_RETURN(Node one, LoadFile(file, project_.directory, project_.environment));
      GANTRY_RETURN_IF_ERROR(Merge(merged, one, ""));
    }
    DropReset(merged);
    GANTRY_RETURN_IF_ERROR(ChooseName(merged));
    project_.environment["COMPOSE_PROJECT_NAME"] = project_.name;
    const std::string compatibility = Setting("COMPOSE_COMPATIBILITY");
    if (options_.compatibility || compatibility == "1" || compatibility == "true")
      project_.separator = '_';
    GANTRY_RETURN_IF_ERROR(ChooseProfiles(merged));
    CompleteOptions complete;
    complete.environment = &project_.environment;
    complete.directory = project_.directory;
    complete.normalize = options_.normalize;
    complete.resolve_environment = options_.resolve_environment;
    complete.read = options_.read;
    GANTRY_ASSIGN_OR_RETURN(project_.model, Complete(project_.name, std::move(merged), complete));
    if (options_.check_consistency)
      GANTRY_RETURN_IF_ERROR(CheckConsistency(project_.model, project_.inactive));
    return std::move(project_);
  }

  const std::vector<std::string>& warnings() const { return project_.warnings; }

  // "" where neither an option nor a setting says it.
  absl::StatusOr<std::string> NameWithoutFile() {
    std::string name = options_.project_name;
    if (name.empty()) {
      GANTRY_RETURN_IF_ERROR(ReadFirstEnvironment());
      name = Setting("COMPOSE_PROJECT_NAME");
    }
    if (!name.empty()) GANTRY_RETURN_IF_ERROR(CheckName(name));
    return name;
  }

 private:
  bool Exists(const std::string& path) const { return options_.read(path).ok(); }

  std::string Setting(const char* name) const {
    const auto found = project_.environment.find(name);
    if (found != project_.environment.end()) return found->second;
    const auto given = options_.environment.find(name);
    return given == options_.environment.end() ? "" : given->second;
  }

  std::string Absolute(const std::string& path, const std::string& directory) const {
    return ResolvePath(path, {directory, home_});
  }

  absl::Status FindFiles() {
    std::vector<std::string> names = options_.files;
    if (names.empty()) {
      const std::string given = Setting("COMPOSE_PATH_SEPARATOR");
      const std::string separator = given.empty() ? std::string(1, ':') : given;
      if (const std::string listed = Setting("COMPOSE_FILE"); !listed.empty())
        names = absl::StrSplit(listed, separator, absl::SkipEmpty());
    }
    for (const std::string& name : names) {
      project_.files.push_back(name == "-" ? name : Absolute(name, options_.current_directory));
    }
    if (project_.files.empty()) GANTRY_RETURN_IF_ERROR(SearchFiles());
    project_.directory = options_.project_directory.empty()
                             ? (project_.files[0] == "-" ? options_.current_directory
                                                         : DirectoryOf(project_.files[0]))
                             : Absolute(options_.project_directory, options_.current_directory);
    return absl::OkStatus();
  }

  absl::Status SearchFiles() {
    for (std::string directory = options_.current_directory;; directory = DirectoryOf(directory)) {
      std::vector<std::string> found;
      for (const char* name : kFileNames) {
        const std::string path = absl::StrCat(directory == "/" ? "" : directory, "/", name);
        if (Exists(path)) found.push_back(path);
      }
      if (!found.empty()) {
        if (found.size() > 1) {
          project_.warnings.push_back(absl::StrCat(
              "Found multiple config files with supported names: ", absl::StrJoin(found, ", ")));
          project_.warnings.push_back(absl::StrCat("Using ", found[0]));
        }
        project_.files.push_back(found[0]);
        for (const char* name : kOverrideNames) {
          const std::string path = absl::StrCat(directory == "/" ? "" : directory, "/", name);
          if (!Exists(path)) continue;
          project_.files.push_back(path);
          break;
        }
        return absl::OkStatus();
      }
      if (directory == "/" || directory == ".")
        return absl::NotFoundError("no configuration file provided: not found");
    }
  }

  // The files that --env-file or COMPOSE_ENV_FILES name; else the .env of the directory that is
  // known before the files are: they may be named in it (COMPOSE_FILE).
  absl::Status ReadFirstEnvironment() {
    std::vector<std::string> files = options_.env_files;
    if (const std::string listed = Setting("COMPOSE_ENV_FILES"); files.empty() && !listed.empty())
      files = absl::StrSplit(listed, ',', absl::SkipEmpty());
    for (std::string& file : files) {
      file = Absolute(file, options_.current_directory);
      const absl::StatusOr<std::string> text = options_.read(file);
      if (!text.ok()) return absl::NotFoundError(absl::StrCat("couldn't find env file: ", file));
      GANTRY_RETURN_IF_ERROR(
          TakeEnvironment(file, *text, options_.environment, project_.environment));
      project_.env_files.push_back(file);
    }
    const std::string off = Setting("COMPOSE_DISABLE_ENV_FILE");
    reads_dot_env_ = files.empty() && off != "1" && off != "true";
    std::string directory = options_.current_directory;
    if (!options_.project_directory.empty()) {
      directory = Absolute(options_.project_directory, options_.current_directory);
    } else if (!options_.files.empty() && options_.files[0] != "-") {
      directory = DirectoryOf(Absolute(options_.files[0], options_.current_directory));
    }
    // The environment wins.
    for (const auto& [name, value] : options_.environment) project_.environment[name] = value;
    return ReadDotEnv(directory);
  }

  // What is known already wins.
  absl::Status ReadDotEnv(const std::string& directory) {
    const std::string path = absl::StrCat(directory == "/" ? "" : directory, "/.env");
    if (!reads_dot_env_ || path == dot_env_) return absl::OkStatus();
    dot_env_ = path;
    const absl::StatusOr<std::string> text = options_.read(path);
    if (!text.ok()) return absl::OkStatus();
    std::map<std::string, std::string> read;
    GANTRY_RETURN_IF_ERROR(TakeEnvironment(path, *text, project_.environment, read));
    project_.environment.insert(read.begin(), read.end());
    return absl::OkStatus();
  }

  // Values may refer to `known`, and to earlier ones.
  absl::Status TakeEnvironment(const std::string& file, const std::string& text,
                               const std::map<std::string, std::string>& known,
                               std::map<std::string, std::string>& into) {
    const auto lookup = [&](const std::string& name) -> std::optional<std::string> {
      const auto own = known.find(name);
      if (own != known.end()) return own->second;
      const auto earlier = into.find(name);
      return earlier == into.end() ? std::nullopt : std::optional(earlier->second);
    };
    absl::StatusOr<std::vector<EnvEntry>> entries = ParseEnvFile(text, lookup, UnsetWarning());
    if (!entries.ok()) {
      return absl::Status(entries.status().code(),
                          absl::StrCat("failed to read ", file, ": ", entries.status().message()));
    }
    for (const EnvEntry& entry : *entries) {
      if (entry.value.has_value()) into[entry.key] = *entry.value;
    }
    return absl::OkStatus();
  }

  OnUnset UnsetWarning() {
    return [this](const std::string& name) {
      if (!unset_.insert(name).second) return;
      project_.warnings.push_back(absl::StrCat("The \"", name,
                                               "\" variable is not set. Defaulting to a blank "
                                               "string."));
    };
  }

  // One file with what it includes and extends, canonical.
  absl::StatusOr<Node> LoadFile(const std::string& file, const std::string& directory,
                                const std::map<std::string, std::string>& environment) {
    if (++files_read_ > kMaxFiles) {
      return absl::ResourceExhaustedError(
          absl::StrCat(file, ": more than ", kMaxFiles, " files are included and extended"));
    }
    absl::StatusOr<std::string> text = options_.read(file);
    if (!text.ok()) {
      return absl::Status(text.status().code(),
                          absl::StrCat("cannot read ", file, ": ", text.status().message()));
    }
    GANTRY_ASSIGN_OR_RETURN(std::vector<Node> documents, ReadYaml(*text, file));
    if (documents.empty())
      return absl::InvalidArgumentError(absl::StrCat(file, ": empty compose file"));
    Node merged = Node::Map();
    for (Node& document : documents) {
      GANTRY_RETURN_IF_ERROR(Prepare(document, file, directory, environment));
      GANTRY_RETURN_IF_ERROR(Merge(merged, document, ""));
    }
    return merged;
  }

  absl::Status Prepare(Node& document, const std::string& file, const std::string& directory,
                       const std::map<std::string, std::string>& environment) {
    const auto lookup = [&environment,
                         this](const std::string& name) -> std::optional<std::string> {
      const auto found = environment.find(name);
      if (found != environment.end()) return found->second;
      if (name == "COMPOSE_PROJECT_NAME") {
        const std::string chosen = NameSoFar();
        if (!chosen.empty()) return chosen;
      }
      return std::nullopt;
    };
    if (options_.interpolate)
      GANTRY_RETURN_IF_ERROR(InterpolateNode(document, "", lookup, UnsetWarning()));
    GANTRY_RETURN_IF_ERROR(InFile(file, CheckSchema(document, !options_.interpolate)));
    if (document.Find("version") != nullptr) {
      document.Remove("version");
      if (obsolete_.insert(file).second) {
        project_.warnings.push_back(absl::StrCat(
            file,
            ": the attribute `version` is obsolete, it will be ignored, please remove it to avoid "
            "potential confusion"));
      }
    }
    GANTRY_RETURN_IF_ERROR(
        MakeCanonical(document, {directory, home_, options_.resolve_paths, !options_.interpolate}));
    CollapseLists(document);
    GANTRY_RETURN_IF_ERROR(Include(document, file, directory, environment));
    return ExtendAll(document, file, directory, environment);
  }

  static absl::Status InFile(const std::string& file, const absl::Status& status) {
    if (status.ok()) return status;
    return absl::Status(status.code(), absl::StrCat("validating ", file, ": ", status.message()));
  }

  absl::Status Include(Node& document, const std::string& file, const std::string& directory,
                       const std::map<std::string, std::string>& environment) {
    const Node* include = document.Find("include");
    if (include == nullptr) return absl::OkStatus();
    if (std::find(including_.begin(), including_.end(), file) != including_.end()) {
      std::string chain = "include cycle detected:";
      for (const std::string& one : including_) absl::StrAppend(&chain, "\n", one, "\n include ");
      return absl::InvalidArgumentError(absl::StrCat(chain, file));
    }
    including_.push_back(file);
    const Node listed = *include;
    document.Remove("include");
    Node included = Node::Map();
    for (const Node& item : listed.items) {
      GANTRY_ASSIGN_OR_RETURN(Node one, IncludeOne(item, directory, environment));
      GANTRY_RETURN_IF_ERROR(Merge(included, one, ""));
    }
    including_.pop_back();
    // What this file says comes over what it includes.
    GANTRY_RETURN_IF_ERROR(Merge(included, document, ""));
    document = std::move(included);
    return absl::OkStatus();
  }

  static std::vector<std::string> TextsOf(const Node* node) {
    std::vector<std::string> out;
    if (node == nullptr) return out;
    if (node->is_scalar()) out.push_back(node->text);
    for (const Node& item : node->items) out.push_back(item.text);
    return out;
  }

  absl::StatusOr<Node> IncludeOne(const Node& item, const std::string& directory,
                                  const std::map<std::string, std::string>& environment) {
    std::vector<std::string> paths =
        item.is_map() ? TextsOf(item.Find("path")) : std::vector<std::string>{item.text};
    if (paths.empty() || paths[0].empty()) {
      return absl::InvalidArgumentError(absl::StrCat(item.at.Text(), ": include: path is missing"));
    }
    for (std::string& path : paths) path = Absolute(path, directory);
    const std::string own = item.TextOf("project_directory");
    const std::string base = own.empty() ? DirectoryOf(paths[0]) : Absolute(own, directory);
    // Its own .env, below what is set here.
    std::map<std::string, std::string> below;
    std::vector<std::string> env_files = TextsOf(item.Find("env_file"));
    const bool listed = !env_files.empty();
    if (!listed) env_files.push_back(absl::StrCat(base, "/.env"));
    for (const std::string& name : env_files) {
      const std::string path = Absolute(name, directory);
      if (path == "/dev/null") continue;
      absl::StatusOr<std::string> text = options_.read(path);
      if (!text.ok()) {
        if (!listed) continue;
        return absl::NotFoundError(absl::StrCat("couldn't find env file: ", path));
      }
      GANTRY_RETURN_IF_ERROR(TakeEnvironment(path, *text, options_.environment, below));
    }
    for (const auto& [name, value] : environment) below[name] = value;
    Node merged = Node::Map();
    for (const std::string& path : paths) {
      GANTRY_ASSIGN_OR_RETURN(Node one, LoadFile(path, base, below));
      GANTRY_RETURN_IF_ERROR(Merge(merged, one, ""));
    }
    merged.Remove("name");
    // A build without a context is at home where it was included from.
    if (Node* services = merged.Find("services")) {
      for (auto& [name, service] : services->entries) {
        Node* build = service.Find("build");
        if (build != nullptr && build->is_map() && build->TextOf("context").empty())
          build->Set("context", Node::String(base));
      }
    }
    return merged;
  }

  absl::Status ExtendAll(Node& document, const std::string& file, const std::string& directory,
                         const std::map<std::string, std::string>& environment) {
    Node* services = document.Find("services");
    if (services == nullptr) return absl::OkStatus();
    for (auto& [name, service] : services->entries) {
      if (service.Find("extends") == nullptr) continue;
      std::vector<std::string> chain;
      GANTRY_ASSIGN_OR_RETURN(
          service, Extended(name, service, *services, file, directory, environment, chain));
    }
    return absl::OkStatus();
  }

  // `service` over the one that it extends, and so on. `siblings` are the services of its file.
  absl::StatusOr<Node> Extended(const std::string& name, Node service, const Node& siblings,
                                const std::string& file, const std::string& directory,
                                const std::map<std::string, std::string>& environment,
                                std::vector<std::string>& chain) {
    const Node* extends = service.Find("extends");
    if (extends == nullptr) return service;
    const std::string link = absl::StrCat(name, " in ", file);
    if (std::find(chain.begin(), chain.end(), link) != chain.end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "Circular reference:\n  ", absl::StrJoin(chain, "\n  extends "), "\n  extends ", link));
    }
    chain.push_back(link);
    if (chain.size() > kMaxExtends) {
      return absl::ResourceExhaustedError(
          absl::StrCat(file, ": services extend each other more than ", kMaxExtends, " times"));
    }
    const std::string base_name = extends->TextOf("service");
    const std::string other = extends->TextOf("file");
    const Position at = extends->at;
    Node base;
    if (other.empty()) {
      const Node* found = siblings.Find(base_name);
      if (found == nullptr) {
        return absl::InvalidArgumentError(absl::StrCat(at.Text(), ": cannot extend service \"",
                                                       name, "\" in ", file, ": service \"",
                                                       base_name, "\" not found"));
      }
      GANTRY_ASSIGN_OR_RETURN(
          base, Extended(base_name, *found, siblings, file, directory, environment, chain));
    } else {
      const std::string path = Absolute(other, directory);
      GANTRY_ASSIGN_OR_RETURN(const Node services, ServicesOf(path, environment));
      const Node* found = services.Find(base_name);
      if (found == nullptr) {
        return absl::InvalidArgumentError(absl::StrCat(at.Text(), ": cannot extend service \"",
                                                       name, "\" in ", file, ": service \"",
                                                       base_name, "\" not found in ", path));
      }
      GANTRY_ASSIGN_OR_RETURN(
          base, Extended(base_name, *found, services, path, DirectoryOf(path), environment, chain));
    }
    service.Remove("extends");
    GANTRY_RETURN_IF_ERROR(Merge(base, service, absl::StrCat("services.", name)));
    base.at = service.at;
    return base;
  }

  // The services of a file that is only extended: canonical, its own `extends` not followed yet.
  absl::StatusOr<Node> ServicesOf(const std::string& path,
                                  const std::map<std::string, std::string>& environment) {
    if (++files_read_ > kMaxFiles) {
      return absl::ResourceExhaustedError(
          absl::StrCat(path, ": more than ", kMaxFiles, " files are included and extended"));
    }
    absl::StatusOr<std::string> text = options_.read(path);
    if (!text.ok()) {
      return absl::Status(text.status().code(),
                          absl::StrCat("cannot read ", path, ": ", text.status().message()));
    }
    GANTRY_ASSIGN_OR_RETURN(std::vector<Node> documents, ReadYaml(*text, path));
    const auto lookup = [&environment](const std::string& name) -> std::optional<std::string> {
      const auto found = environment.find(name);
      return found == environment.end() ? std::nullopt : std::optional(found->second);
    };
    Node merged = Node::Map();
    for (Node& document : documents) {
      if (options_.interpolate)
        GANTRY_RETURN_IF_ERROR(InterpolateNode(document, "", lookup, UnsetWarning()));
      GANTRY_RETURN_IF_ERROR(InFile(path, CheckSchema(document, !options_.interpolate)));
      GANTRY_RETURN_IF_ERROR(MakeCanonical(
          document, {DirectoryOf(path), home_, options_.resolve_paths, !options_.interpolate}));
      GANTRY_RETURN_IF_ERROR(Merge(merged, document, ""));
    }
    const Node* services = merged.Find("services");
    return services == nullptr ? Node::Map() : *services;
  }

  // `name:` of the files, before these are read as a whole: they may use ${COMPOSE_PROJECT_NAME}.
  absl::Status ReadNames() {
    if (!options_.project_name.empty()) return absl::OkStatus();
    const auto lookup = [this](const std::string& name) -> std::optional<std::string> {
      const auto found = project_.environment.find(name);
      return found == project_.environment.end() ? std::nullopt : std::optional(found->second);
    };
    for (const std::string& file : project_.files) {
      if (file == "-") continue;
      const absl::StatusOr<std::string> text = options_.read(file);
      // Most files have none, and what is wrong with a file is said when it is loaded.
      if (!text.ok() || text->find("name:") == std::string::npos) continue;
      const absl::StatusOr<std::vector<Node>> documents = ReadYaml(*text, file);
      if (!documents.ok()) continue;
      for (const Node& document : *documents) {
        const std::string said = document.TextOf("name");
        const absl::StatusOr<std::string> name =
            options_.interpolate ? Interpolate(said, lookup, UnsetWarning()) : said;
        if (name.ok() && !name->empty()) said_name_ = *name;
      }
    }
    return absl::OkStatus();
  }

  std::string NameSoFar() const {
    if (!options_.project_name.empty()) return options_.project_name;
    return Normalized(said_name_.empty() ? BaseName(project_.directory) : said_name_);
  }

  absl::Status ChooseName(const Node& merged) {
    project_.name = options_.project_name;
    if (project_.name.empty()) project_.name = Setting("COMPOSE_PROJECT_NAME");
    if (!project_.name.empty()) GANTRY_RETURN_IF_ERROR(CheckName(project_.name));
    if (project_.name.empty()) {
      const std::string said = merged.TextOf("name");
      project_.name = Normalized(said.empty() ? BaseName(project_.directory) : said);
    }
    if (project_.name.empty()) {
      return absl::InvalidArgumentError(
          "project name must not be empty; say one with -p or with name: in the file");
    }
    return absl::OkStatus();
  }

  absl::Status ChooseProfiles(Node& merged) {
    std::set<std::string> active(options_.profiles.begin(), options_.profiles.end());
    if (options_.profiles.empty()) {
      for (absl::string_view profile :
           absl::StrSplit(Setting("COMPOSE_PROFILES"), ',', absl::SkipEmpty()))
        active.insert(std::string(absl::StripAsciiWhitespace(profile)));
    }
    Node* services = merged.Find("services");
    if (services == nullptr) return absl::OkStatus();
    // A service that is named is on, and so are its profiles.
    for (const std::string& name : options_.services) {
      const Node* service = services->Find(name);
      if (service == nullptr) continue;
      for (const std::string& profile : TextsOf(service->Find("profiles"))) active.insert(profile);
    }
    const bool all = active.count("*") > 0;
    std::vector<std::string> off;
    for (const auto& [name, service] : services->entries) {
      const std::vector<std::string> profiles = TextsOf(service.Find("profiles"));
      const bool named = std::find(options_.services.begin(), options_.services.end(), name) !=
                         options_.services.end();
      const bool on =
          profiles.empty() || all || named ||
          std::any_of(profiles.begin(), profiles.end(),
                      [&](const std::string& profile) { return active.count(profile) > 0; });
      if (!on) off.push_back(name);
    }
    for (const std::string& name : off) services->Remove(name);
    project_.inactive = std::move(off);
    return absl::OkStatus();
  }

  const LoadOptions& options_;
  std::string home_;
  Project project_;
  std::string said_name_;
  std::set<std::string> unset_;
  std::set<std::string> obsolete_;
  std::vector<std::string> including_;
  bool reads_dot_env_ = false;
  std::string dot_env_;  // the last that was read
  size_t files_read_ = 0;
};

}  // namespace

absl::StatusOr<Project> LoadProject(const LoadOptions& options) {
  Loader loader(options);
  absl::StatusOr<Project> project = loader.Load();
  if (!project.ok() && options.warn) {
    for (const std::string& warning : loader.warnings()) options.warn(warning);
  }
  return project;
}

absl::StatusOr<std::string> ProjectNameWithoutFile(const LoadOptions& options) {
  return Loader(options).NameWithoutFile();
}

}  // namespace gantry::compose
