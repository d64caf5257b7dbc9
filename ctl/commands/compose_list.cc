#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

#include "base/engine/list_rows.h"
#include "base/engine/proto_time.h"
#include "base/engine/state_words.h"
#include "base/engine/units.h"
#include "base/engine/value_syntax.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/compose.h"
#include "ctl/compose/container_config.h"
#include "ctl/listing.h"
#include "ctl/version.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/networks.pb.h"

namespace gantry::ctl {
namespace {

using compose::ObservedContainer;

std::string LabelOf(const v1::ContainerSummary& container, const char* label) {
  const auto found = container.labels().find(label);
  return found == container.labels().end() ? "" : found->second;
}

class PsAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&all_, "all", 'a', "Show stopped containers too");
    flags.Bool(&quiet_, "quiet", 'q', "Print ids only");
    flags.Bool(&services_, "services", 0, "Print names of services");
    flags.Bool(&no_trunc_, "no-trunc", 0, "Do not shorten");
    flags.String(&format_, "format", 0, "template", "table, json, or a Go template");
    flags.Strings(&status_, "status", 0, "state", "Only those in this state");
    flags.Strings(&filters_, "filter", 0, "filter", "status=STATE");
    orphans_ = true;
    flags.Bool(&orphans_, "orphans", 0, "Those of services that are gone too (default true)");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    std::vector<std::string> states = status_;
    for (const std::string& filter : filters_) {
      const auto [key, value] = engine::SplitAssignment(filter);
      if (key != "status")
        return absl::InvalidArgumentError(
            absl::StrCat("--filter: \"", filter, "\": use status=STATE"));
      states.push_back(value);
    }
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, flags_.LoadOrName(context, args));
    if (!project.model.entries.empty()) {
      for (const std::string& service : args) {
        if (project.FindService(service) == nullptr)
          return absl::NotFoundError(absl::StrCat("no such service: ", service));
      }
    }
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    static const std::atomic<bool> kNever{false};
    compose::Engine engine(*client, kNever);
    GANTRY_ASSIGN_OR_RETURN(std::vector<v1::ContainerSummary> containers,
                            engine.Containers(project.name, args, all_ || !states.empty()));
    std::sort(containers.begin(), containers.end(),
              [](const auto& a, const auto& b) { return a.name() < b.name(); });
    std::vector<Value> rows;
    std::vector<std::string> services, ids;
    const absl::Time now = absl::Now();
    for (const v1::ContainerSummary& container : containers) {
      const std::string service = LabelOf(container, compose::kServiceLabel);
      if (LabelOf(container, compose::kOneOffLabel) == "True" && !all_) continue;
      if (!orphans_ && project.FindService(service) == nullptr) continue;
      Value row = engine::ContainerRow(container, !no_trunc_, now);
      if (!states.empty() &&
          std::find(states.begin(), states.end(), row.Find("State")->Text()) == states.end())
        continue;
      if (std::find(services.begin(), services.end(), service) == services.end())
        services.push_back(service);
      ids.push_back(container.id());
      row.Set("Name", container.name());
      row.Set("Project", project.name);
      row.Set("Service", service);
      row.Set("ExitCode", static_cast<int64_t>(container.exit_code()));
      row.Set("Health", container.health());
      row.Set("Publishers", Publishers(container));
      if (no_trunc_) row.Set("ID", container.id());
      rows.push_back(std::move(row));
    }
    if (services_) {
      context.Out(services.empty() ? "" : absl::StrCat(absl::StrJoin(services, "\n"), "\n"));
      return 0;
    }
    if (quiet_) {
      for (const std::string& id : ids) context.Out(absl::StrCat(id, "\n"));
      return 0;
    }
    Listing listing;
    listing.headings = {{"ID", "CONTAINER ID"}, {"Name", "NAME"},       {"Image", "IMAGE"},
                        {"Command", "COMMAND"}, {"Service", "SERVICE"}, {"RunningFor", "CREATED"},
                        {"Status", "STATUS"},   {"Ports", "PORTS"},     {"State", "STATE"},
                        {"Health", "HEALTH"},   {"Project", "PROJECT"}, {"ExitCode", "EXIT CODE"}};
    listing.default_table =
        "{{.Name}}\t{{.Image}}\t{{.Command}}\t{{.Service}}\t{{.RunningFor}}\t{{.Status}}\t"
        "{{.Ports}}";
    listing.quiet_field = "ID";
    GANTRY_ASSIGN_OR_RETURN(const std::string text, Render(listing, rows, format_, false));
    context.Out(text);
    return 0;
  }

 private:
  static Value Publishers(const v1::ContainerSummary& container) {
    Value list = Value::EmptyList();
    for (const v1::PublishedPort& port : container.ports()) {
      Value one = Value::EmptyObject();
      one.Set("URL", port.ip());
      one.Set("TargetPort", port.private_port());
      one.Set("PublishedPort", port.public_port());
      one.Set("Protocol", port.protocol());
      list.Append(std::move(one));
    }
    return list;
  }

  ProjectFlags flags_;
  bool all_ = false, quiet_ = false, services_ = false, no_trunc_ = false, orphans_ = true;
  std::string format_;
  std::vector<std::string> status_, filters_;
};

class LsAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&all_, "all", 'a', "Show stopped projects too");
    flags.Bool(&quiet_, "quiet", 'q', "Print names only");
    flags.String(&format_, "format", 0, "template", "table or json");
    flags.Strings(&filters_, "filter", 0, "filter", "name=TEXT");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    std::vector<std::string> names;
    for (const std::string& filter : filters_) {
      const auto [key, value] = engine::SplitAssignment(filter);
      if (key != "name")
        return absl::InvalidArgumentError(
            absl::StrCat("--filter: \"", filter, "\": use name=TEXT"));
      names.push_back(value);
    }
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::ListContainersRequest request;
    request.set_all(all_);
    v1::Filter* filter = request.add_filters();
    filter->set_key("label");
    filter->set_value(compose::kProjectLabel);
    v1::ListContainersResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    struct Found {
      std::map<std::string, int> states;
      std::string files;
    };
    std::map<std::string, Found> projects;
    for (const v1::ContainerSummary& container : response.containers()) {
      const std::string name = LabelOf(container, compose::kProjectLabel);
      const bool wanted = std::all_of(names.begin(), names.end(), [&](const std::string& text) {
        return absl::StrContains(name, text);
      });
      if (!wanted) continue;
      Found& found = projects[name];
      ++found.states[engine::StateWord(container.state())];
      found.files = LabelOf(container, compose::kFilesLabel);
    }
    std::vector<Value> rows;
    for (const auto& [name, found] : projects) {
      std::vector<std::string> states;
      for (const auto& [state, count] : found.states)
        states.push_back(absl::StrCat(state, "(", count, ")"));
      Value row = Value::EmptyObject();
      row.Set("Name", name);
      row.Set("Status", absl::StrJoin(states, ", "));
      row.Set("ConfigFiles", found.files);
      rows.push_back(std::move(row));
    }
    if (format_ == "json") {
      Value list = Value::EmptyList();
      for (Value& row : rows) list.Append(std::move(row));
      context.Out(absl::StrCat(list.ToJson(), "\n"));
      return 0;
    }
    Listing listing;
    listing.headings = {{"Name", "NAME"}, {"Status", "STATUS"}, {"ConfigFiles", "CONFIG FILES"}};
    listing.default_table = "{{.Name}}\t{{.Status}}\t{{.ConfigFiles}}";
    listing.quiet_field = "Name";
    GANTRY_ASSIGN_OR_RETURN(const std::string text, Render(listing, rows, format_, quiet_));
    context.Out(text);
    return 0;
  }

 private:
  bool all_ = false, quiet_ = false;
  std::string format_;
  std::vector<std::string> filters_;
};

class ImagesAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&quiet_, "quiet", 'q', "Print ids only");
    flags.String(&format_, "format", 0, "template", "table or json");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, flags_.LoadOrName(context, args));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    static const std::atomic<bool> kNever{false};
    compose::Engine engine(*client, kNever);
    GANTRY_ASSIGN_OR_RETURN(std::vector<v1::ContainerSummary> containers,
                            engine.Containers(project.name, args, /*all=*/true));
    std::sort(containers.begin(), containers.end(),
              [](const auto& a, const auto& b) { return a.name() < b.name(); });
    std::vector<Value> rows;
    std::vector<std::string> ids;
    const absl::Time now = absl::Now();
    for (const v1::ContainerSummary& container : containers) {
      v1::InspectImageRequest request;
      request.set_image(container.image_id());
      v1::InspectImageResponse response;
      const absl::Status status = client->Call(request, &response);
      if (absl::IsNotFound(status)) {  // removed by force: what the container knows of it is shown
        response.mutable_image()->mutable_summary()->set_id(container.image_id());
        response.mutable_image()->set_platform(container.platform());
      } else if (!status.ok()) {
        return status;
      }
      const v1::ImageDetails& image = response.image();
      const absl::Time named = engine::FromProto(
          image.has_last_tagged_at() ? image.last_tagged_at() : image.summary().created_at());
      const std::string id(absl::StripPrefix(image.summary().id(), "sha256:"));
      if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
      const std::string& name = container.image();
      const size_t colon = name.rfind(':');
      const bool tagged = colon != std::string::npos && name.find('/', colon) == std::string::npos;
      Value row = Value::EmptyObject();
      row.Set("ContainerName", container.name());
      row.Set("Repository", tagged ? name.substr(0, colon) : name);
      row.Set("Tag", tagged ? name.substr(colon + 1) : "latest");
      row.Set("Platform", image.platform());
      if (format_ == "json") {
        row.Set("ID", image.summary().id());
        row.Set("Size", image.summary().size_bytes());
        row.Set("LastTagTime", engine::JsonTime(named));
      } else {
        row.Set("ID", engine::ShortId(image.summary().id()));
        row.Set("Size", engine::HumanSize(image.summary().size_bytes()));
        row.Set("Created", absl::StrCat(engine::HumanDuration(now - named), " ago"));
      }
      rows.push_back(std::move(row));
    }
    if (quiet_) {
      for (const std::string& id : ids) context.Out(absl::StrCat(id, "\n"));
      return 0;
    }
    if (format_ == "json") {
      Value list = Value::EmptyList();
      for (Value& row : rows) list.Append(std::move(row));
      context.Out(absl::StrCat(list.ToJson(), "\n"));
      return 0;
    }
    Listing listing;
    listing.headings = {
        {"ContainerName", "CONTAINER"}, {"Repository", "REPOSITORY"}, {"Tag", "TAG"},
        {"Platform", "PLATFORM"},       {"ID", "IMAGE ID"},           {"Size", "SIZE"},
        {"Created", "CREATED"}};
    listing.default_table =
        "{{.ContainerName}}\t{{.Repository}}\t{{.Tag}}\t{{.Platform}}\t{{.ID}}\t{{.Size}}\t"
        "{{.Created}}";
    listing.quiet_field = "ID";
    GANTRY_ASSIGN_OR_RETURN(const std::string text, Render(listing, rows, format_, false));
    context.Out(text);
    return 0;
  }

 private:
  ProjectFlags flags_;
  bool quiet_ = false;
  std::string format_;
};

class PortAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&protocol_, "protocol", 0, "name", "tcp, udp or sctp (default tcp)");
    flags.Int(&index_, "index", 0, "Number of the container");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, flags_.LoadOrName(context, {args[0]}));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    static const std::atomic<bool> kNever{false};
    compose::Engine engine(*client, kNever);
    GANTRY_ASSIGN_OR_RETURN(const ObservedContainer container,
                            ContainerNumbered(engine, project, args[0], index_, /*running=*/false));
    GANTRY_ASSIGN_OR_RETURN(const std::vector<v1::ContainerSummary> all,
                            engine.Containers(project.name, {args[0]}, /*all=*/true));
    const std::string protocol = protocol_.empty() ? "tcp" : protocol_;
    std::vector<std::string> others;
    for (const v1::ContainerSummary& summary : all) {
      if (summary.id() != container.id) continue;
      for (const v1::PublishedPort& port : summary.ports()) {
        if (port.public_port() == 0) continue;
        if (absl::StrCat(port.private_port()) == args[1] && port.protocol() == protocol) {
          context.Out(absl::StrCat(port.ip(), ":", port.public_port(), "\n"));
          return 0;
        }
        others.push_back(absl::StrCat(port.ip(), ":", port.public_port(), "->", port.private_port(),
                                      "/", port.protocol()));
      }
    }
    return absl::NotFoundError(absl::StrCat("no port ", args[1], "/", protocol, " for container ",
                                            container.name, ": ", absl::StrJoin(others, ", ")));
  }

 private:
  ProjectFlags flags_;
  std::string protocol_;
  int64_t index_ = 0;
};

class VersionAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&short_, "short", 0, "Print the number only");
    flags.String(&format_, "format", 'f', "style", "pretty or json");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    if (format_ == "json") {
      Value out = Value::EmptyObject();
      out.Set("version", kCtlVersion);
      context.Out(absl::StrCat(out.ToJson(), "\n"));
    } else {
      context.Out(absl::StrCat(short_ ? "" : "ctl compose version ", kCtlVersion, "\n"));
    }
    return 0;
  }

 private:
  bool short_ = false;
  std::string format_;
};

}  // namespace

std::vector<Verb> ComposeListVerbs() {
  return {{.name = "ps",
           .arguments = "[OPTIONS] [SERVICE...]",
           .summary = "List the containers of a project",
           .examples = "  ctl compose ps -a\n"
                       "  ctl compose ps --format json\n",
           .completes = "services",
           .make = [] { return std::make_unique<PsAction>(); }},
          {.name = "ls",
           .arguments = "[OPTIONS]",
           .summary = "List projects",
           .examples = "  ctl compose ls -a\n",
           .max_args = 0,
           .make = [] { return std::make_unique<LsAction>(); }},
          {.name = "images",
           .arguments = "[OPTIONS] [SERVICE...]",
           .summary = "List the images of a project's containers",
           .examples = "  ctl compose images\n",
           .completes = "services",
           .make = [] { return std::make_unique<ImagesAction>(); }},
          {.name = "port",
           .arguments = "[OPTIONS] SERVICE PORT",
           .summary = "Print where a port of a service is published",
           .examples = "  ctl compose port web 80\n",
           .min_args = 2,
           .max_args = 2,
           .completes = "services",
           .make = [] { return std::make_unique<PortAction>(); }},
          {.name = "version",
           .summary = "Show the version of ctl compose",
           .examples = "  ctl compose version --short\n",
           .max_args = 0,
           .make = [] { return std::make_unique<VersionAction>(); }}};
}

}  // namespace gantry::ctl
