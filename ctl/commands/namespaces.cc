#include "absl/strings/str_cat.h"
#include "google/protobuf/empty.pb.h"

#include "base/engine/list_rows.h"
#include "base/engine/value_syntax.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/completion.h"
#include "ctl/table.h"
#include "proto/containerd/services/namespaces/v1/namespace.pb.h"

namespace gantry::ctl {
namespace {

namespace namespaces = containerd::services::namespaces::v1;

class ListNamespacesAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override { flags.Bool(&quiet_, "quiet", 'q', "Names only"); }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    namespaces::ListNamespacesResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(namespaces::ListNamespacesRequest(), &response));
    std::string out = quiet_ ? "" : "NAME\tLABELS\n";
    for (const auto& name_space : response.namespaces()) {
      absl::StrAppend(&out, name_space.name());
      if (!quiet_) absl::StrAppend(&out, "\t", engine::LabelsText(name_space.labels()));
      out += "\n";
    }
    context.Out(quiet_ ? out : AlignColumns(out));
    return 0;
  }

 private:
  bool quiet_ = false;
};

class CreateNamespaceAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    namespaces::CreateNamespaceRequest request;
    request.mutable_namespace_()->set_name(args[0]);
    for (size_t i = 1; i < args.size(); ++i) {
      auto [key, value] = engine::SplitAssignment(args[i]);
      (*request.mutable_namespace_()->mutable_labels())[key] = value;
    }
    namespaces::CreateNamespaceResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    return 0;
  }
};

class LabelAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    namespaces::UpdateNamespaceRequest request;
    request.mutable_namespace_()->set_name(args[0]);
    for (size_t i = 1; i < args.size(); ++i) {
      auto [key, value] = engine::SplitAssignment(args[i]);
      (*request.mutable_namespace_()->mutable_labels())[key] = value;
      request.mutable_update_mask()->add_paths(absl::StrCat("labels.", key));
    }
    namespaces::UpdateNamespaceResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    return 0;
  }
};

class RemoveNamespaceAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    return ForEach(context, args, [&](const std::string& name) -> absl::StatusOr<std::string> {
      namespaces::DeleteNamespaceRequest request;
      request.set_name(name);
      google::protobuf::Empty response;
      GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
      return name;
    });
  }
};

std::vector<std::string> NamesForCompletion(Context& context) {
  std::vector<std::string> names;
  auto client = context.client();
  namespaces::ListNamespacesResponse response;
  if (!client.ok() ||
      !(*client)->Call(namespaces::ListNamespacesRequest(), &response, kCompletionPatience).ok())
    return names;
  for (const auto& name_space : response.namespaces()) names.push_back(name_space.name());
  return names;
}

}  // namespace

std::vector<Verb> NamespaceVerbs() {
  AddCompletionSource("namespaces", NamesForCompletion);
  return {{.name = "ls",
           .aliases = {"list"},
           .arguments = "[OPTIONS]",
           .summary = "List namespaces",
           .examples = "  ctl namespaces ls\n",
           .max_args = 0,
           .make = [] { return std::make_unique<ListNamespacesAction>(); }},
          {.name = "create",
           .aliases = {"c"},
           .arguments = "NAME [KEY=VALUE...]",
           .summary = "Make a namespace",
           .examples = "  ctl namespaces create team-a\n",
           .min_args = 1,
           .make = [] { return std::make_unique<CreateNamespaceAction>(); }},
          {.name = "label",
           .arguments = "NAME KEY=VALUE [KEY=VALUE...]",
           .summary = "Set labels of a namespace; an empty value removes one",
           .examples = "  ctl namespaces label team-a owner=ann\n",
           .min_args = 2,
           .completes = "namespaces",
           .make = [] { return std::make_unique<LabelAction>(); }},
          {.name = "rm",
           .aliases = {"remove", "delete"},
           .arguments = "NAME [NAME...]",
           .summary = "Remove empty namespaces",
           .examples = "  ctl namespaces rm team-a\n",
           .min_args = 1,
           .completes = "namespaces",
           .make = [] { return std::make_unique<RemoveNamespaceAction>(); }}};
}

}  // namespace gantry::ctl
