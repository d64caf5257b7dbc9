// Options on a command line, in docker's way: --name value, --name=value, -n value, -nvalue, -it;
// options and arguments may be mixed unless the verb hands its arguments on (`run IMAGE COMMAND
// -x`); `--` ends the options.
//
// The variables are the caller's and outlive the set. Thread-compatible.
#ifndef GANTRY_CTL_FLAGS_H_
#define GANTRY_CTL_FLAGS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace gantry::ctl {

class FlagSet {
 public:
  struct Flag {
    std::string name;
    char letter = 0;              // 0: none
    std::string value_name = {};  // "": takes no value
    std::string help = {};
    bool hidden = false;
    // Receives the text after = or the next argument; for one without a value "true" or what
    // follows =.
    std::function<absl::Status(absl::string_view)> set = {};
    std::string completes =
        {};  // containers, running, stopped, images, objects, files or "": for completion
    bool seen = false;
  };

  Flag& Bool(bool* value, absl::string_view name, char letter, absl::string_view help);
  Flag& OptionalBool(std::optional<bool>* value, absl::string_view name, char letter,
                     absl::string_view help);
  Flag& String(std::string* value, absl::string_view name, char letter,
               absl::string_view value_name, absl::string_view help);
  // May be repeated.
  Flag& Strings(std::vector<std::string>* value, absl::string_view name, char letter,
                absl::string_view value_name, absl::string_view help);
  Flag& Int(int64_t* value, absl::string_view name, char letter, absl::string_view help);
  Flag& OptionalInt(std::optional<int64_t>* value, absl::string_view name, char letter,
                    absl::string_view help);
  Flag& Custom(absl::string_view name, char letter, absl::string_view value_name,
               absl::string_view help, std::function<absl::Status(absl::string_view)> set);
  // Another spelling, not shown.
  void Alias(absl::string_view alias, absl::string_view name);

  // Adds those options of `other` that this has no name for; a letter that is taken is left out.
  void Inherit(const FlagSet& other);

  // Splits `args` into options, which are set, and `positional`. With `stop_at_first_argument`
  // everything from there on is positional.
  // kInvalidArgument: unknown option (the nearest known one is named), missing or bad value.
  absl::Status Parse(const std::vector<std::string>& args, bool stop_at_first_argument,
                     std::vector<std::string>* positional);

  bool Seen(absl::string_view name) const;
  bool AnySeen() const;
  const std::vector<Flag>& flags() const { return flags_; }
  const Flag* Find(absl::string_view name) const;
  const Flag* FindLetter(char letter) const;

  // The options as `--help` shows them.
  std::string Help() const;

 private:
  Flag* Lookup(absl::string_view name);
  Flag& Add(Flag flag);
  absl::Status Apply(Flag* flag, absl::string_view shown, absl::string_view value);

  std::vector<Flag> flags_;
  std::map<std::string, std::string> aliases_;
};

// The candidate that `word` is the beginning of, or is one or two edits away from; "" if there is
// none.
std::string Nearest(absl::string_view word, const std::vector<std::string>& candidates);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_FLAGS_H_
