#include "supervisor/network/owned_netns.h"

#include <sched.h>

#include "base/status_macros.h"
#include "base/user_namespace.h"
#include "supervisor/network/netns.h"

namespace gantry::network {

absl::StatusOr<OwnedNetns> NewOwnedNetns(const IdMaps& maps,
                                         const std::function<absl::Status()>& work) {
  GANTRY_ASSIGN_OR_RETURN(const NewNamespaces made, NewNamespaces::Make(maps, CLONE_NEWNET));
  OwnedNetns owned;
  GANTRY_ASSIGN_OR_RETURN(owned.netns, made.Open("net"));
  GANTRY_ASSIGN_OR_RETURN(owned.user_namespace, made.Open("user"));
  if (work != nullptr) GANTRY_RETURN_IF_ERROR(InNetns(owned.netns.get(), work));
  return owned;
}

absl::StatusOr<UniqueFd> NewNetnsIn(int user_namespace, const std::function<absl::Status()>& work) {
  GANTRY_ASSIGN_OR_RETURN(const NewNamespaces made,
                          NewNamespaces::MakeIn(user_namespace, CLONE_NEWNET));
  GANTRY_ASSIGN_OR_RETURN(UniqueFd netns, made.Open("net"));
  if (work != nullptr) GANTRY_RETURN_IF_ERROR(InNetns(netns.get(), work));
  return netns;
}

}  // namespace gantry::network
