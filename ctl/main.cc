// ctl: the command line of Gantry.
#include <malloc.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "base/standard_fds.h"
#include "ctl/commands/commands.h"
#include "ctl/life/verbs.h"
#include "ctl/manual/manual.h"
#include "ctl/verb.h"
#include "third_party/grpc_event_engine.h"

extern char** environ;

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
  gantry::ctl::Context context({}, std::move(environment));
  gantry::ctl::Verb root = gantry::ctl::CommandTree();
  gantry::ctl::AddLifeVerbs(root);
  gantry::ctl::AddManualVerb(root);
  const int status =
      gantry::ctl::RunCommandLine(root, context, std::vector<std::string>(argv + 1, argv + argc));
  // Everything is written, nothing is buffered. Taking gRPC down in order could wait up to ten
  // seconds for a poller of its own.
  ::_exit(status);
}
