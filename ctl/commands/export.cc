#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/output_file.h"
#include "proto/gantry/v1/container_files.pb.h"

namespace gantry::ctl {
namespace {

class ExportAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&output_, "output", 'o', "file", "Write to a file instead of stdout").completes =
        "files";
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Open(output_, context.out_fd()));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::ExportRequest request;
    request.set_container(args[0]);
    auto stream = client->Open<v1::ExportRequest, v1::ExportResponse>(request);
    v1::ExportResponse response;
    while (stream->Read(&response)) GANTRY_RETURN_IF_ERROR(file.Write(response.data()));
    GANTRY_RETURN_IF_ERROR(stream->Finish());
    GANTRY_RETURN_IF_ERROR(file.Keep());
    return 0;
  }

 private:
  std::string output_;
};

}  // namespace

Verb ExportVerb() {
  return {.name = "export",
          .arguments = "[OPTIONS] CONTAINER",
          .summary = "Write a container's file system as a tar archive",
          .examples = "  ctl export -o web.tar web\n",
          .min_args = 1,
          .max_args = 1,
          .completes = "containers",
          .make = [] { return std::make_unique<ExportAction>(); }};
}

}  // namespace gantry::ctl
