// Looks at the program that a container was to run, in the container's own file system: whether it
// is there, of a kind the kernel runs, and has what it needs.
//
// Free functions, safe to call from any thread. The tree is hostile: everything is opened beneath
// its root, and reading is bounded.
#ifndef GANTRY_SUPERVISOR_CORE_PROGRAM_CHECK_H_
#define GANTRY_SUPERVISOR_CORE_PROGRAM_CHECK_H_

#include <cstdint>
#include <string>
#include <vector>

namespace gantry::core {

struct ProgramFacts {
  enum class Kind {
    kNotLooked,  // the file system could not be looked at
    kMissing,
    kDirectory,
    kElf,
    kScript,  // begins with "#!"
    kEmpty,
    kUnknown,  // no format that the kernel runs
  };
  Kind kind = Kind::kNotLooked;
  std::string path;                   // of the program, as it was found, or as it was asked for
  std::vector<std::string> searched;  // directories of PATH, for a bare name
  uint32_t mode = 0, uid = 0, gid = 0;

  // Of an ELF file.
  std::string machine;         // "aarch64"
  bool other_machine = false;  // not this host's
  std::string loader;          // "/lib64/ld-linux-x86-64.so.2"; "" for a static program
  bool loader_missing = false;
  std::vector<std::string> missing_libraries;

  // Of a script.
  std::string interpreter;
  bool interpreter_missing = false;
  bool carriage_return = false;  // the first line ends with CR LF

  enum class Place { kFine, kMissing, kNotDirectory };
  Place working_directory = Place::kFine;
};

// `program` is argument 0, `path` the value of PATH in the process's environment.
ProgramFacts CheckProgram(int root_fd, const std::string& program, const std::string& path,
                          const std::string& working_directory);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_PROGRAM_CHECK_H_
