// A project from its files: found, read, interpolated, checked, merged, completed.
//
//   LoadOptions options;
//   options.environment = ...;
//   options.current_directory = ...;
//   absl::StatusOr<Project> project = LoadProject(options);
//
// The steps, file by file: YAML (yaml_reader.h), interpolation, the schema, the canonical form,
// `include` and `extends`, merging; then of the whole: defaults, environment, profiles,
// consistency. Only reads. Errors name file, line and column where there is one.
// Spec: compose-spec.
#ifndef GANTRY_CTL_COMPOSE_LOADER_H_
#define GANTRY_CTL_COMPOSE_LOADER_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "ctl/compose/project.h"

namespace gantry::compose {

struct LoadOptions {
  std::vector<std::string> files;  // -f; none: COMPOSE_FILE, or searched for
  std::string project_directory;
  std::string project_name;            // -p
  std::vector<std::string> profiles;   // --profile
  std::vector<std::string> env_files;  // --env-file
  std::vector<std::string> services;   // named on the command line: on, with their profiles
  std::map<std::string, std::string> environment;
  std::string current_directory;
  bool compatibility = false;  // --compatibility: "_" in names
  bool interpolate = true;
  bool resolve_paths = true;
  bool resolve_environment = true;  // env_file and bare names of `environment`
  bool normalize = true;            // fill in names, networks and other defaults
  bool check_consistency = true;
  // Contents of a file; kNotFound: there is none. "-" is the standard input.
  std::function<absl::StatusOr<std::string>(const std::string& path)> read;
  // Gets the warnings of a project that cannot be loaded; those of others are in Project.
  std::function<void(const std::string& warning)> warn = {};
};

//   kNotFound            "no configuration file provided: not found", "couldn't find env file: x"
//   kInvalidArgument     a file is wrong; says where and what
//   kFailedPrecondition  a required variable is missing
//   kResourceExhausted   a file is too large or unfolds without end
absl::StatusOr<Project> LoadProject(const LoadOptions& options);

// The name alone, for commands that need no file (`ps -p NAME`): -p or COMPOSE_PROJECT_NAME, which
// may be in the .env of the current directory; "" if neither says it. kInvalidArgument: no valid
// name.
absl::StatusOr<std::string> ProjectNameWithoutFile(const LoadOptions& options);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_LOADER_H_
