// .dockerignore: which files of a build's context are left out. And the patterns of COPY's sources,
// which have the same wildcards.
//
// Values, safe to use from any thread once made. Spec: Dockerfile reference, ".dockerignore files".
#ifndef GANTRY_BASE_ENGINE_IGNORE_FILE_H_
#define GANTRY_BASE_ENGINE_IGNORE_FILE_H_

#include <bitset>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::engine {

// One pattern against a relative path. `*` and `?` stop at "/", "[a-z]" is a set, "\" takes the
// next character as it is.
class PathPattern {
 public:
  enum class Wildcards {
    kPlain,          // "**" is "*"
    kAcrossFolders,  // "**" is any number of folders
  };
  // kInvalidArgument: a set that is not closed, or an escape character at the end.
  static absl::StatusOr<PathPattern> Parse(absl::string_view text, Wildcards wildcards);

  bool Matches(absl::string_view path) const;
  // True if `text` has any wildcard.
  static bool HasWildcards(absl::string_view text);

 private:
  struct Token {
    enum class Kind { kLiteral, kAny, kSet, kStar, kFolders, kEverything };
    Kind kind;
    char c = 0;
    std::bitset<256> set = {};
  };
  std::vector<Token> tokens_;
};

class IgnoreRules {
 public:
  IgnoreRules() = default;
  // kInvalidArgument with the number of the line.
  static absl::StatusOr<IgnoreRules> Parse(absl::string_view text);
  // One pattern each; for COPY --exclude.
  static absl::StatusOr<IgnoreRules> FromPatterns(const std::vector<std::string>& patterns);

  // `path` is relative and clean ("a/b"). The last rule that matches it or a folder above it
  // decides.
  bool Ignores(absl::string_view path) const;
  // False: nothing below this ignored folder can be taken in by a later rule, so it need not be
  // read.
  bool MayContainTaken(absl::string_view folder) const;

  bool empty() const { return rules_.empty(); }

 private:
  struct Rule {
    PathPattern pattern;
    bool taken = false;  // it began with "!"
    std::string fixed;   // what comes before its first wildcard
  };
  absl::Status Add(absl::string_view line);

  std::vector<Rule> rules_;
};

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_IGNORE_FILE_H_
