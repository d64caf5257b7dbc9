#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "google/protobuf/empty.pb.h"

#include "base/engine/list_rows.h"
#include "base/engine/proto_time.h"
#include "base/engine/units.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/completion.h"
#include "ctl/table.h"
#include "proto/containerd/services/content/v1/content.pb.h"

namespace gantry::ctl {
namespace {

namespace content = containerd::services::content::v1;

class ListContentAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override { flags.Bool(&quiet_, "quiet", 'q', "Digests only"); }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    content::ListContentRequest request;
    for (const std::string& filter : args) request.add_filters(filter);
    auto stream = client->Open<content::ListContentRequest, content::ListContentResponse>(request);
    content::ListContentResponse response;
    std::string out = quiet_ ? "" : "DIGEST\tSIZE\tAGE\tLABELS\n";
    const absl::Time now = absl::Now();
    while (stream->Read(&response)) {
      for (const content::Info& info : response.info()) {
        absl::StrAppend(&out, info.digest());
        if (!quiet_) {
          const std::string labels = engine::LabelsText(info.labels());
          absl::StrAppend(&out, "\t", engine::HumanSize(info.size()), "\t",
                          engine::HumanDuration(now - engine::FromProto(info.created_at())), "\t",
                          labels.empty() ? "-" : labels);
        }
        out += "\n";
      }
    }
    GANTRY_RETURN_IF_ERROR(stream->Finish());
    context.Out(quiet_ ? out : AlignColumns(out));
    return 0;
  }

 private:
  bool quiet_ = false;
};

class GetAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    content::ReadContentRequest request;
    request.set_digest(args[0]);
    auto stream = client->Open<content::ReadContentRequest, content::ReadContentResponse>(request);
    content::ReadContentResponse response;
    while (stream->Read(&response)) context.Out(response.data());
    GANTRY_RETURN_IF_ERROR(stream->Finish());
    return 0;
  }
};

class RemoveContentAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    return ForEach(context, args, [&](const std::string& digest) -> absl::StatusOr<std::string> {
      content::DeleteContentRequest request;
      request.set_digest(digest);
      google::protobuf::Empty response;
      GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
      return digest;
    });
  }
};

class ActiveAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    content::ListStatusesResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(content::ListStatusesRequest(), &response));
    std::string out = "REF\tSIZE\tTOTAL\tAGE\n";
    const absl::Time now = absl::Now();
    for (const content::Status& status : response.statuses()) {
      absl::StrAppend(&out, status.ref(), "\t", engine::HumanSize(status.offset()), "\t",
                      status.total() > 0 ? engine::HumanSize(status.total()) : "-", "\t",
                      engine::HumanDuration(now - engine::FromProto(status.started_at())), "\n");
    }
    context.Out(AlignColumns(out));
    return 0;
  }
};

class AbortAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    return ForEach(context, args, [&](const std::string& ref) -> absl::StatusOr<std::string> {
      content::AbortRequest request;
      request.set_ref(ref);
      google::protobuf::Empty response;
      GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
      return ref;
    });
  }
};

std::vector<std::string> DigestsForCompletion(Context& context) {
  std::vector<std::string> digests;
  auto client = context.client();
  if (!client.ok()) return digests;
  auto stream = (*client)->Open<content::ListContentRequest, content::ListContentResponse>(
      content::ListContentRequest());
  ReadForCompletion<content::ListContentResponse>(*stream, [&](const auto& response) {
    for (const content::Info& info : response.info()) digests.push_back(info.digest());
  });
  return digests;
}

std::vector<std::string> IngestsForCompletion(Context& context) {
  std::vector<std::string> references;
  auto client = context.client();
  content::ListStatusesResponse response;
  if (!client.ok() ||
      !(*client)->Call(content::ListStatusesRequest(), &response, kCompletionPatience).ok())
    return references;
  for (const auto& status : response.statuses()) references.push_back(status.ref());
  return references;
}

}  // namespace

std::vector<Verb> ContentVerbs() {
  AddCompletionSource("blobs", DigestsForCompletion);
  AddCompletionSource("ingests", IngestsForCompletion);
  return {{.name = "ls",
           .aliases = {"list"},
           .arguments = "[OPTIONS] [FILTER...]",
           .summary = "List blobs",
           .examples = "  ctl content ls\n",
           .make = [] { return std::make_unique<ListContentAction>(); }},
          {.name = "get",
           .arguments = "DIGEST",
           .summary = "Print a blob",
           .examples = "  ctl content get sha256:... | jq .\n",
           .min_args = 1,
           .max_args = 1,
           .completes = "blobs",
           .make = [] { return std::make_unique<GetAction>(); }},
          {.name = "rm",
           .aliases = {"remove", "delete", "del"},
           .arguments = "DIGEST [DIGEST...]",
           .summary = "Remove blobs from this namespace",
           .examples = "  ctl content rm sha256:...\n",
           .min_args = 1,
           .completes = "blobs",
           .make = [] { return std::make_unique<RemoveContentAction>(); }},
          {.name = "active",
           .arguments = "",
           .summary = "List blobs that are on their way in",
           .examples = "  ctl content active\n",
           .max_args = 0,
           .make = [] { return std::make_unique<ActiveAction>(); }},
          {.name = "abort",
           .arguments = "REF [REF...]",
           .summary = "Drop blobs that are on their way in",
           .examples = "  ctl content abort upload-1\n",
           .min_args = 1,
           .completes = "ingests",
           .make = [] { return std::make_unique<AbortAction>(); }}};
}

}  // namespace gantry::ctl
