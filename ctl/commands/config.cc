#include "supervisor/config.h"

#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"

namespace gantry::ctl {
namespace {

constexpr char kOwnFile[] = "/etc/gantry/config.toml";
constexpr char kContainerdFile[] = "/etc/containerd/config.toml";
constexpr size_t kMaxBytes = 1 << 20;

absl::StatusOr<std::string> ReadInput(int fd) {
  std::string text;
  char buffer[4096];
  while (text.size() <= kMaxBytes) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoToStatus(errno, "standard input");
    if (n == 0) return text;
    text.append(buffer, static_cast<size_t>(n));
  }
  return absl::ResourceExhaustedError("standard input: more than a configuration holds");
}

// "-" is standard input, whose relative imports lie in the working directory.
absl::Status Read(Context& context, const std::string& file, Config& config) {
  if (file != "-") return ApplyConfigFile(file, config);
  GANTRY_ASSIGN_OR_RETURN(const std::string text, ReadInput(context.in_fd()));
  return ApplyConfigText(text, "standard input", config);
}

void TellIgnored(Context& context, const Config& config) {
  for (const std::string& keys : IgnoredByTable(config))
    context.Err(absl::StrCat("no effect in Gantry: ", keys, "\n"));
}

class DefaultAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    context.Out(PrintConfig(Config()));
    return 0;
  }
};

class DumpAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    Config config;
    const absl::Status read = Read(context, args.empty() ? kOwnFile : args[0], config);
    // The daemon, too, starts without the default file.
    if (!read.ok() && !(args.empty() && absl::IsNotFound(read))) return read;
    GANTRY_RETURN_IF_ERROR(CheckConfig(config));
    TellIgnored(context, config);
    context.Out(PrintConfig(config));
    return 0;
  }
};

class MigrateAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&output_, "output", 'o', "FILE", "Write there instead of to standard output")
        .completes = "files";
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    const std::string file = args.empty() ? kContainerdFile : args[0];
    Config config;
    GANTRY_RETURN_IF_ERROR(Read(context, file, config));
    if (!config.containerd_dialect) {
      return absl::InvalidArgumentError(absl::StrCat(
          file,
          ": has no key \"version\", so it is not a configuration of containerd 1.5 or later; "
          "Gantry's own needs no migration"));
    }
    GANTRY_RETURN_IF_ERROR(CheckConfig(config));
    TellIgnored(context, config);
    const std::string text = PrintConfig(config);
    if (output_.empty()) {
      context.Out(text);
      return 0;
    }
    GANTRY_RETURN_IF_ERROR(WriteFileAtomic(output_, text, 0644));
    return 0;
  }

 private:
  std::string output_;
};

}  // namespace

std::vector<Verb> ConfigVerbs() {
  return {
      {.name = "default",
       .summary = "Print the settings that hold when there is no file",
       .examples = "  ctl config default > /etc/gantry/config.toml\n",
       .max_args = 0,
       .make = [] { return std::make_unique<DefaultAction>(); }},
      {.name = "dump",
       .arguments = "[FILE]",
       .summary = "Print the settings gantryd takes from a file (/etc/gantry/config.toml; - for "
                  "standard input), Gantry's own or containerd's",
       .examples = "  ctl config dump\n  ctl config dump /etc/containerd/config.toml\n",
       .max_args = 1,
       .completes = "files",
       .make = [] { return std::make_unique<DumpAction>(); }},
      {.name = "migrate",
       .arguments = "[OPTIONS] [FILE]",
       .summary =
           "Turn containerd's config.toml, version 2 to 4, into Gantry's\n\n"
           "FILE is /etc/containerd/config.toml unless given; - is standard input. Keys that "
           "have no\neffect in Gantry are named on standard error.",
       .examples = "  ctl config migrate -o /etc/gantry/config.toml\n"
                   "  containerd config dump | ctl config migrate -\n",
       .max_args = 1,
       .completes = "files",
       .make = [] { return std::make_unique<MigrateAction>(); }}};
}

}  // namespace gantry::ctl
