#include "ctl/commands/each_namespace.h"

#include <memory>
#include <set>
#include <string>

#include "base/status_macros.h"
#include "proto/gantry/v1/system.pb.h"

namespace gantry::ctl {

absl::Status EachNamespace(Client& client, bool all,
                           const std::function<absl::Status(Client&)>& visit) {
  if (!all) return visit(client);
  v1::InfoResponse info;
  GANTRY_RETURN_IF_ERROR(client.Call(v1::InfoRequest(), &info));
  const std::set<std::string> names(info.namespaces().begin(), info.namespaces().end());
  for (const std::string& name : names) {
    GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Client> one,
                            Client::Connect(client.address(), name));
    GANTRY_RETURN_IF_ERROR(visit(*one));
  }
  return absl::OkStatus();
}

}  // namespace gantry::ctl
