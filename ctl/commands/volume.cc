#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/engine/units.h"
#include "base/engine/value_syntax.h"
#include "base/engine/volume_json.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/prune.h"
#include "ctl/filters.h"
#include "ctl/listing.h"
#include "ctl/output_file.h"
#include "ctl/terminal.h"
#include "proto/gantry/v1/volumes.pb.h"

namespace gantry::ctl {
namespace {

class CreateVolumeAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&driver_, "driver", 'd', "name", "Driver of the volume (default local)");
    flags.Strings(&labels_, "label", 0, "key=value", "Set a label");
    flags.Strings(&options_, "opt", 'o', "key=value", "Option of the driver");
    flags.String(&name_, "name", 0, "name", "Name of the volume (or give it as the argument)");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    if (!args.empty() && !name_.empty()) {
      return absl::InvalidArgumentError(
          "conflicting options: cannot specify a volume-name through both --name and as a "
          "positional arg");
    }
    v1::CreateVolumeRequest request;
    request.set_name(args.empty() ? name_ : args[0]);
    request.set_driver(driver_);
    for (const std::string& text : options_) {
      auto [key, value] = engine::SplitAssignment(text);
      (*request.mutable_options())[key] = value;
    }
    for (const std::string& text : labels_) {
      auto [key, value] = engine::SplitAssignment(text);
      (*request.mutable_labels())[key] = value;
    }
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::CreateVolumeResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    context.Out(absl::StrCat(response.volume().name(), "\n"));
    return 0;
  }

 private:
  std::string driver_, name_;
  std::vector<std::string> labels_, options_;
};

class ListVolumesAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&quiet_, "quiet", 'q', "Print names only");
    flags.String(&format_, "format", 0, "template", "table, json, or a Go template");
    filters_.AddFlags(flags);
    flags.Bool(&size_, "size", 's', "Measure them, and count the containers that use them");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    v1::ListVolumesRequest request;
    request.set_size(size_);
    GANTRY_RETURN_IF_ERROR(filters_.Fill(request.mutable_filters()));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::ListVolumesResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    for (const std::string& warning : response.warnings())
      context.Err(absl::StrCat("WARNING: ", warning, "\n"));
    std::vector<Value> rows;
    for (const v1::Volume& volume : response.volumes()) rows.push_back(engine::VolumeRow(volume));
    Listing listing;
    listing.headings = {{"Name", "VOLUME NAME"}, {"Driver", "DRIVER"},
                        {"Scope", "SCOPE"},      {"Labels", "LABELS"},
                        {"Links", "LINKS"},      {"Mountpoint", "MOUNTPOINT"},
                        {"Size", "SIZE"},        {"Group", "GROUP"},
                        {"Status", "STATUS"},    {"Availability", "AVAILABILITY"}};
    listing.default_table =
        size_ ? "{{.Driver}}\t{{.Name}}\t{{.Links}}\t{{.Size}}" : "{{.Driver}}\t{{.Name}}";
    listing.quiet_field = "Name";
    listing.raw = "name: {{.Name}}\ndriver: {{.Driver}}\n";
    GANTRY_ASSIGN_OR_RETURN(const std::string text, Render(listing, rows, format_, quiet_));
    context.Out(text);
    return 0;
  }

 private:
  bool quiet_ = false;
  bool size_ = false;
  std::string format_;
  FilterFlags filters_;
};

class InspectVolumeAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&format_, "format", 'f', "template", "json, or a Go template");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    Value list = Value::EmptyList();
    int exit_status = 0;
    for (const std::string& name : args) {
      v1::InspectVolumeRequest request;
      request.set_name(name);
      v1::InspectVolumeResponse response;
      absl::Status status = CheckName("volume", name);
      if (status.ok()) status = client->Call(request, &response);
      if (status.ok()) {
        list.Append(engine::VolumeDocument(response.volume()));
      } else {
        exit_status = 1;
        context.Complain(status);
      }
    }
    if (format_.empty() || format_ == "json") {
      context.Out(absl::StrCat(format_.empty() ? list.ToPrettyJson(4) : list.ToJson(), "\n"));
      return exit_status;
    }
    for (const Value& one : list.list()) {
      GANTRY_ASSIGN_OR_RETURN(const std::string text, RenderOne(one, format_));
      context.Out(text);
    }
    return exit_status;
  }

 private:
  std::string format_;
};

class RemoveVolumeAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&force_, "force", 'f', "Do not complain of a volume that does not exist");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    return ForEach(context, args, [&](const std::string& name) -> absl::StatusOr<std::string> {
      GANTRY_RETURN_IF_ERROR(CheckName("volume", name));
      v1::RemoveVolumeRequest request;
      request.set_name(name);
      request.set_force(force_);
      v1::RemoveVolumeResponse response;
      GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
      return name;
    });
  }

 private:
  bool force_ = false;
};

class PruneVolumesAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&all_, "all", 'a', "Volumes with a name too, not only anonymous ones");
    flags.Bool(&force_, "force", 'f', "Do not ask");
    filters_.AddFlag(flags, 0);
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    if (!force_) {
      GANTRY_ASSIGN_OR_RETURN(
          const bool agreed,
          Agreed(context, absl::StrCat("This will remove ", all_ ? "all" : "anonymous",
                                       " local volumes not used by at least one container.")));
      if (!agreed) return 0;
    }
    GANTRY_ASSIGN_OR_RETURN(const int64_t bytes, PruneVolumes(context, filters_, all_));
    context.Out(absl::StrCat("Total reclaimed space: ", engine::HumanSize(bytes), "\n"));
    return 0;
  }

 private:
  bool all_ = false;
  bool force_ = false;
  FilterFlags filters_;
};

class RenameVolumeAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    v1::RenameVolumeRequest request;
    request.set_name(args[0]);
    request.set_new_name(args[1]);
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::RenameVolumeResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    return 0;
  }
};

// clone and snapshot.
class CloneVolumeAction final : public Action {
 public:
  explicit CloneVolumeAction(bool snapshot) : snapshot_(snapshot) {}
  void AddFlags(FlagSet& flags) override {
    flags.Strings(&labels_, "label", 0, "key=value", "Set a label");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    v1::CloneVolumeRequest request;
    request.set_source(args[0]);
    if (args.size() > 1) request.set_name(args[1]);
    request.set_snapshot(snapshot_);
    for (const std::string& text : labels_) {
      auto [key, value] = engine::SplitAssignment(text);
      (*request.mutable_labels())[key] = value;
    }
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::CloneVolumeResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    context.Out(absl::StrCat(response.volume().name(), "\n"));
    return 0;
  }

 private:
  const bool snapshot_;
  std::vector<std::string> labels_;
};

class ExportVolumeAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&output_, "output", 'o', "file", "Write to a file instead of stdout").completes =
        "files";
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Open(output_, context.out_fd()));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::ExportVolumeRequest request;
    request.set_name(args[0]);
    auto stream = client->Open<v1::ExportVolumeRequest, v1::ExportVolumeResponse>(request);
    v1::ExportVolumeResponse response;
    while (stream->Read(&response)) GANTRY_RETURN_IF_ERROR(file.Write(response.data()));
    GANTRY_RETURN_IF_ERROR(stream->Finish());
    GANTRY_RETURN_IF_ERROR(file.Keep());
    return 0;
  }

 private:
  std::string output_;
};

class ImportVolumeAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    UniqueFd file;
    int fd = context.in_fd();
    if (args.size() > 1 && args[1] != "-") {
      file = UniqueFd(open(args[1].c_str(), O_RDONLY | O_CLOEXEC));
      if (!file.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", args[1]));
      fd = file.get();
    } else if (IsTerminal(fd)) {
      return absl::InvalidArgumentError("stdin is a terminal; name an archive or redirect one");
    }
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::ImportVolumeResponse response;
    auto stream = client->OpenWriter<v1::ImportVolumeRequest>(&response);
    v1::ImportVolumeRequest part;
    part.mutable_open()->set_name(args[0]);
    std::string piece(1 << 18, '\0');
    for (bool open = stream->Write(part); open; open = stream->Write(part)) {
      const ssize_t got = read(fd, piece.data(), piece.size());
      if (got < 0 && errno == EINTR) {
        part.set_data("");
        continue;
      }
      // Without its end the daemon gives up the archive.
      if (got < 0) return ErrnoToStatus(errno, "read the archive");
      if (got == 0) break;
      part.set_data(piece.substr(0, static_cast<size_t>(got)));
    }
    GANTRY_RETURN_IF_ERROR(stream->Finish());
    return 0;
  }
};

}  // namespace

absl::StatusOr<int64_t> PruneVolumes(Context& context, const FilterFlags& filters, bool all) {
  v1::PruneVolumesRequest request;
  request.set_all(all);
  GANTRY_RETURN_IF_ERROR(filters.Fill(request.mutable_filters()));
  GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::PruneVolumesResponse response;
  GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
  if (!response.names().empty()) {
    std::string out = "Deleted Volumes:\n";
    for (const std::string& name : response.names()) absl::StrAppend(&out, name, "\n");
    context.Out(absl::StrCat(out, "\n"));
  }
  return response.space_reclaimed_bytes();
}

std::vector<Verb> VolumeVerbs() {
  return {{.name = "create",
           .arguments = "[OPTIONS] [VOLUME]",
           .summary = "Make a volume",
           .examples = "  ctl volume create pgdata\n"
                       "  ctl volume create --label tier=db pgdata\n",
           .max_args = 1,
           .make = [] { return std::make_unique<CreateVolumeAction>(); }},
          {.name = "ls",
           .aliases = {"list"},
           .arguments = "[OPTIONS]",
           .summary = "List volumes",
           .examples = "  ctl volume ls --filter dangling=true\n"
                       "  ctl volume ls --size\n",
           .max_args = 0,
           .make = [] { return std::make_unique<ListVolumesAction>(); }},
          {.name = "inspect",
           .arguments = "[OPTIONS] VOLUME [VOLUME...]",
           .summary = "Show everything about volumes",
           .examples = "  ctl volume inspect -f '{{.Mountpoint}}' pgdata\n",
           .min_args = 1,
           .completes = "volumes",
           .make = [] { return std::make_unique<InspectVolumeAction>(); }},
          {.name = "rm",
           .aliases = {"remove"},
           .arguments = "[OPTIONS] VOLUME [VOLUME...]",
           .summary = "Remove volumes that no container uses",
           .examples = "  ctl volume rm pgdata\n",
           .min_args = 1,
           .completes = "volumes",
           .make = [] { return std::make_unique<RemoveVolumeAction>(); }},
          {.name = "prune",
           .arguments = "[OPTIONS]",
           .summary = "Remove every anonymous volume that no container uses",
           .examples = "  ctl volume prune -f\n"
                       "  ctl volume prune --all --filter label!=keep\n",
           .max_args = 0,
           .make = [] { return std::make_unique<PruneVolumesAction>(); }},
          {.name = "rename",
           .arguments = "VOLUME NEW_NAME",
           .summary = "Give a volume that no container uses another name",
           .examples = "  ctl volume rename pgdata pgdata-old\n",
           .min_args = 2,
           .max_args = 2,
           .completes = "volumes",
           .make = [] { return std::make_unique<RenameVolumeAction>(); }},
          {.name = "clone",
           .arguments = "[OPTIONS] VOLUME NEW_VOLUME",
           .summary = "Make a volume with the content of another one",
           .examples = "  ctl volume clone pgdata pgdata-test\n",
           .min_args = 2,
           .max_args = 2,
           .completes = "volumes",
           .make = [] { return std::make_unique<CloneVolumeAction>(/*snapshot=*/false); }},
          {.name = "snapshot",
           .arguments = "[OPTIONS] VOLUME [NEW_VOLUME]",
           .summary = "Copy a volume into one named after it and the time",
           .examples = "  ctl volume snapshot pgdata\n"
                       "  ctl volume ls --filter label=gantry.snapshot.of=pgdata\n",
           .min_args = 1,
           .max_args = 2,
           .completes = "volumes",
           .make = [] { return std::make_unique<CloneVolumeAction>(/*snapshot=*/true); }},
          {.name = "export",
           .arguments = "[OPTIONS] VOLUME",
           .summary = "Write a volume's content as a tar archive",
           .examples = "  ctl volume export -o pgdata.tar pgdata\n",
           .min_args = 1,
           .max_args = 1,
           .completes = "volumes",
           .make = [] { return std::make_unique<ExportVolumeAction>(); }},
          {.name = "import",
           .arguments = "VOLUME [FILE|-]",
           .summary = "Unpack a tar archive into a volume",
           .examples = "  ctl volume create pgdata && ctl volume import pgdata pgdata.tar\n"
                       "  ctl volume export a | ctl volume import b\n",
           .min_args = 1,
           .max_args = 2,
           .completes = "volume-and-files",
           .make = [] { return std::make_unique<ImportVolumeAction>(); }}};
}

}  // namespace gantry::ctl
