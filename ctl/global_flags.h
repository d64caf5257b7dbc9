// The options that stand before ctl's command: which daemon, and what docker has besides.
#ifndef GANTRY_CTL_GLOBAL_FLAGS_H_
#define GANTRY_CTL_GLOBAL_FLAGS_H_

#include <string>

#include "absl/status/status.h"

#include "ctl/flags.h"
#include "ctl/verb.h"

namespace gantry::ctl {

struct GlobalOptions {
  bool help = false;
  bool version = false;
  bool debug = false;
  std::string log_level = "info";
  bool tls = false;
  bool tls_verify = false;
  std::string tls_ca, tls_cert, tls_key;
};

// `context` and `options` outlive the set. Which daemon goes to the context's address, context_name
// and name_space.
void AddGlobalFlags(FlagSet& flags, Context& context, GlobalOptions* options);

// kInvalidArgument: a value that docker would refuse, or TLS.
absl::Status CheckGlobalOptions(const GlobalOptions& options);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_GLOBAL_FLAGS_H_
