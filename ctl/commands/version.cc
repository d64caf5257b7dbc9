#include "ctl/version.h"

#include "absl/strings/str_cat.h"

#include "base/engine/api_version.h"
#include "base/engine/system_json.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/listing.h"
#include "proto/gantry/v1/system.pb.h"

namespace gantry::ctl {
namespace {

class VersionAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&format_, "format", 'f', "template", "json, or a Go template");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    Value document = Value::EmptyObject();
    Value mine = Value::EmptyObject();
    mine.Set("Version", kCtlVersion);
    mine.Set("ApiVersion", engine::kApiVersion);
    mine.Set("DefaultAPIVersion", engine::kApiVersion);
    mine.Set("GitCommit", "");
    mine.Set("GoVersion", "");
    mine.Set("Os", "linux");
    mine.Set("Arch", "amd64");
    mine.Set("BuildTime", "");
    mine.Set("Context", context.context_name);
    document.Set("Client", std::move(mine));

    absl::Status status;
    v1::VersionResponse version;
    auto client = context.client();
    status = client.ok() ? (*client)->Call(v1::VersionRequest(), &version) : client.status();
    if (status.ok()) {
      document.Set("Server", engine::VersionDocument(version));
    } else {
      document.Set("Server", Value());
    }
    if (!format_.empty()) {
      // Templates name fields as docker's program does, documents as its API.
      const auto other_name = [](const auto& path) -> absl::optional<absl::string_view> {
        if (path.size() == 2 && path[1] == "APIVersion") return "=ApiVersion";
        return absl::nullopt;
      };
      GANTRY_ASSIGN_OR_RETURN(std::string text, RenderOne(document, format_, other_name));
      context.Out(text);
    } else {
      std::string out =
          absl::StrCat("Client: ctl\n Version:   ", kCtlVersion,
                       "\n OS/Arch:   linux/amd64\n Address:   ", context.address, "\n");
      if (status.ok()) {
        absl::StrAppend(&out, "\nServer: gantryd\n Version:   ", version.version(), "\n");
        if (!version.git_commit().empty()) {
          absl::StrAppend(&out, " Commit:    ", version.git_commit(), "\n");
        }
        absl::StrAppend(&out, " OS/Arch:   ", version.os(), "/", version.arch(),
                        "\n Kernel:    ", version.kernel_version(), "\n");
        for (const auto& component : version.components()) {
          absl::StrAppend(&out, " ", component.name(), ":\n  Version:  ", component.version(),
                          "\n");
          const Value details = Value::StringMap(component.details());
          for (const auto& [key, value] : details.object().fields) {
            absl::StrAppend(&out, "  ", key, ":  ", value.Text(), "\n");
          }
        }
      }
      context.Out(out);
    }
    if (!status.ok()) {
      context.Complain(status);
      return 1;
    }
    return 0;
  }

 private:
  std::string format_;
};

}  // namespace

Verb VersionVerb() {
  return {.name = "version",
          .arguments = "[OPTIONS]",
          .summary = "Show the versions of ctl, gantryd and the runtimes",
          .examples = "  ctl version -f '{{.Server.Version}}'\n",
          .max_args = 0,
          .make = [] { return std::make_unique<VersionAction>(); }};
}

}  // namespace gantry::ctl
