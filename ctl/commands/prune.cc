#include "ctl/commands/prune.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "ctl/terminal.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {

absl::StatusOr<bool> Agreed(Context& context, absl::string_view warning) {
  context.Out(absl::StrCat("WARNING! ", warning, "\nAre you sure you want to continue? [y/N] "));
  std::string answer;
  char c = 0;
  ssize_t n;
  while ((n = ::read(context.in_fd(), &c, 1)) == 1 && c != '\n') answer.push_back(c);
  // As in docker no answer is a no, and no failure.
  if (n != 1 && answer.empty()) context.Out("\n");
  return answer == "y" || answer == "Y" || answer == "yes";
}

absl::StatusOr<int64_t> PruneContainers(Context& context, const FilterFlags& filters) {
  GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::PruneContainersRequest request;
  GANTRY_RETURN_IF_ERROR(filters.Fill(request.mutable_filters()));
  v1::PruneContainersResponse response;
  GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
  if (!response.deleted().empty()) {
    std::string out = "Deleted Containers:\n";
    for (const std::string& id : response.deleted()) absl::StrAppend(&out, id, "\n");
    context.Out(out + "\n");
  }
  return response.space_reclaimed_bytes();
}

absl::StatusOr<int64_t> PruneImages(Context& context, const FilterFlags& filters, bool all) {
  GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::PruneImagesRequest request;
  GANTRY_RETURN_IF_ERROR(filters.Fill(request.mutable_filters()));
  request.set_all(all);
  v1::PruneImagesResponse response;
  GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
  if (!response.removals().empty()) {
    std::string out = "Deleted Images:\n";
    for (const v1::ImageRemoval& removal : response.removals()) {
      if (!removal.untagged().empty())
        absl::StrAppend(&out, "untagged: ", removal.untagged(), "\n");
      if (!removal.deleted().empty()) absl::StrAppend(&out, "deleted: ", removal.deleted(), "\n");
    }
    context.Out(out + "\n");
  }
  return response.space_reclaimed_bytes();
}

}  // namespace gantry::ctl
