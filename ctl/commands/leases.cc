#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "google/protobuf/empty.pb.h"

#include "base/engine/list_rows.h"
#include "base/engine/proto_time.h"
#include "base/engine/units.h"
#include "base/engine/value_syntax.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/completion.h"
#include "ctl/table.h"
#include "proto/containerd/services/leases/v1/leases.pb.h"

namespace gantry::ctl {
namespace {

namespace leases = containerd::services::leases::v1;

class ListLeasesAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override { flags.Bool(&quiet_, "quiet", 'q', "Print ids only"); }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    leases::ListRequest request;
    for (const std::string& filter : args) request.add_filters(filter);
    leases::ListResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    std::string out = quiet_ ? "" : "LEASE ID\tCREATED AT\tLABELS\n";
    for (const leases::Lease& lease : response.leases()) {
      const std::string labels = engine::LabelsText(lease.labels());
      absl::StrAppend(&out, lease.id());
      if (!quiet_) {
        absl::StrAppend(&out, "\t", engine::JsonTime(engine::FromProto(lease.created_at())), "\t",
                        labels.empty() ? "-" : labels);
      }
      out += "\n";
    }
    context.Out(quiet_ ? out : AlignColumns(out));
    return 0;
  }

 private:
  bool quiet_ = false;
};

class CreateLeaseAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&id_, "id", 0, "name", "Id (default: one is made up)");
    flags.String(&expires_, "expires", 'x', "duration", "Ends by itself after that (default 24h)");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(absl::Duration expires, engine::ParseDuration(expires_));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    leases::CreateRequest request;
    const absl::Time now = absl::Now();
    request.set_id(id_.empty() ? absl::StrCat("ctl-", absl::ToUnixNanos(now)) : id_);
    for (const std::string& label : args) {
      auto [key, value] = engine::SplitAssignment(label);
      (*request.mutable_labels())[key] = value;
    }
    if (expires > absl::ZeroDuration()) {
      (*request.mutable_labels())["containerd.io/gc.expire"] = engine::JsonTime(now + expires);
    }
    leases::CreateResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    context.Out(absl::StrCat(response.lease().id(), "\n"));
    return 0;
  }

 private:
  std::string id_;
  std::string expires_ = "24h";
};

class ResourcesAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    leases::ListResourcesRequest request;
    request.set_id(args[0]);
    leases::ListResourcesResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    std::string out = "TYPE\tID\n";
    for (const leases::Resource& resource : response.resources()) {
      absl::StrAppend(&out, resource.type(), "\t", resource.id(), "\n");
    }
    context.Out(AlignColumns(out));
    return 0;
  }
};

class RemoveLeaseAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&sync_, "sync", 0, "Wait until what it kept has been collected");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    return ForEach(context, args, [&](const std::string& id) -> absl::StatusOr<std::string> {
      leases::DeleteRequest request;
      request.set_id(id);
      // The last removal waits until the collection is over.
      request.set_sync(sync_ && id == args.back());
      google::protobuf::Empty response;
      GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
      return id;
    });
  }

 private:
  bool sync_ = false;
};

std::vector<std::string> IdsForCompletion(Context& context) {
  std::vector<std::string> ids;
  auto client = context.client();
  leases::ListResponse response;
  if (!client.ok() || !(*client)->Call(leases::ListRequest(), &response, kCompletionPatience).ok())
    return ids;
  for (const leases::Lease& lease : response.leases()) ids.push_back(lease.id());
  return ids;
}

}  // namespace

std::vector<Verb> LeaseVerbs() {
  AddCompletionSource("leases", IdsForCompletion);
  return {{.name = "ls",
           .aliases = {"list"},
           .arguments = "[OPTIONS] [FILTER...]",
           .summary = "List leases",
           .examples = "  ctl leases ls\n",
           .make = [] { return std::make_unique<ListLeasesAction>(); }},
          {.name = "create",
           .arguments = "[OPTIONS] [KEY=VALUE...]",
           .summary = "Make a lease",
           .examples = "  ctl leases create --id build -x 1h\n",
           .make = [] { return std::make_unique<CreateLeaseAction>(); }},
          {.name = "resources",
           .arguments = "LEASE",
           .summary = "List what a lease keeps",
           .examples = "  ctl leases resources build\n",
           .min_args = 1,
           .max_args = 1,
           .completes = "leases",
           .make = [] { return std::make_unique<ResourcesAction>(); }},
          {.name = "rm",
           .aliases = {"remove", "delete"},
           .arguments = "[OPTIONS] LEASE [LEASE...]",
           .summary = "End leases",
           .examples = "  ctl leases rm --sync build\n",
           .min_args = 1,
           .completes = "leases",
           .make = [] { return std::make_unique<RemoveLeaseAction>(); }}};
}

}  // namespace gantry::ctl
