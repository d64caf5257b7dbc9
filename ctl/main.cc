// ctl: the command line of Gantry.
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "base/standard_fds.h"
#include "ctl/commands/commands.h"
#include "ctl/life/verbs.h"
#include "ctl/manual/manual.h"
#include "ctl/trace/command_trace.h"
#include "ctl/verb.h"
#include "third_party/grpc_event_engine.h"

extern char** environ;

namespace {

// "ctl image ls": the verb that the words name.
std::string NameOf(const gantry::ctl::Verb& root, const std::vector<std::string>& args) {
  std::string name(root.name);
  const gantry::ctl::Verb* group = &root;
  for (const std::string& word : args) {
    const auto verb =
        std::find_if(group->verbs.begin(), group->verbs.end(),
                     [&word](const gantry::ctl::Verb& one) { return one.name == word; });
    if (verb == group->verbs.end()) continue;
    name += " " + word;
    group = &*verb;
  }
  return name;
}

}  // namespace

int main(int argc, char** argv) {
  if (!gantry::OpenStandardFds()) return 125;
  // gRPC starts threads that do next to nothing; a heap for each costs more than the command
  // itself.
  mallopt(M_ARENA_MAX, 1);
  gantry::UseLazyEventEngine();
  std::map<std::string, std::string> environment;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string text = *variable;
    const size_t equals = text.find('=');
    if (equals != std::string::npos) environment[text.substr(0, equals)] = text.substr(equals + 1);
  }
  const std::vector<std::string> args(argv + 1, argv + argc);
  gantry::ctl::Verb root = gantry::ctl::CommandTree();
  gantry::ctl::AddLifeVerbs(root);
  gantry::ctl::AddManualVerb(root);
  gantry::ctl::CommandTrace trace(environment, NameOf(root, args));
  gantry::ctl::Context context({}, std::move(environment));
  if (!trace.error().ok()) context.Complain(trace.error());
  const int status = gantry::ctl::RunCommandLine(root, context, args);
  trace.End(status);
  // Everything is written, nothing is buffered. Taking gRPC down in order could wait up to ten
  // seconds for a poller of its own.
  ::_exit(status);
}
