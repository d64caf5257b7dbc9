// `ctl context`: named daemons, in docker's files.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/byte_stream.h"
#include "base/engine/value_syntax.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/tar/reader.h"
#include "base/tar/writer.h"
#include "ctl/commands/commands.h"
#include "ctl/contexts.h"
#include "ctl/listing.h"
#include "ctl/output_file.h"
#include "ctl/terminal.h"

namespace gantry::ctl {
namespace {

constexpr int64_t kMaxArchiveBytes = 10 << 20;
constexpr char kDefaultDescription[] = "The daemon that is used without contexts";

// The one that "default" is, whatever context this command line chose.
ContextRecord DefaultContext(const Context& context) {
  ContextRecord record;
  record.name = kDefaultContext;
  std::string address = context.Environment("GANTRY_ADDRESS");
  if (address.empty()) address = "/run/gantry/gantry.sock";
  if (address[0] == '/') address = "unix://" + address;
  record.document.Set("Name", record.name);
  record.SetDescription("");
  record.SetHost("docker", address);
  return record;
}

absl::StatusOr<ContextRecord> FindContext(const Context& context, const std::string& name) {
  if (name == kDefaultContext) return DefaultContext(context);
  return ContextStore(context.environment()).Find(name);
}

// What --docker and --gantry say: "host=unix:///PATH", or "from=CONTEXT".
class EndpointFlags {
 public:
  void AddFlags(FlagSet& flags) {
    flags.String(&description_, "description", 0, "text", "What the context is for");
    flags.String(&docker_, "docker", 0, "host=ADDRESS",
                 "The daemon: host=unix:///PATH or host=ssh://[USER@]HOST");
    flags.String(&gantry_, "gantry", 0, "host=ADDRESS",
                 "The daemon for ctl, where docker's command line is to use another socket");
    flags
        .String(&orchestrator_, "default-stack-orchestrator", 0, "name",
                "Accepted for docker's sake")
        .hidden = true;
  }

  absl::Status Fill(const Context& context, ContextRecord* record) const {
    if (!description_.empty()) record->SetDescription(description_);
    GANTRY_RETURN_IF_ERROR(FillOne(context, "docker", docker_, record));
    return FillOne(context, "gantry", gantry_, record);
  }

  bool HasEndpoint() const { return !docker_.empty() || !gantry_.empty(); }

 private:
  static absl::Status FillOne(const Context& context, const std::string& endpoint,
                              const std::string& text, ContextRecord* record) {
    if (text.empty()) return absl::OkStatus();
    std::string host;
    for (absl::string_view part : absl::StrSplit(text, ',')) {
      const auto [key, value] = engine::SplitAssignment(part);
      if (key == "host") {
        host = value;
      } else if (key == "from") {
        GANTRY_ASSIGN_OR_RETURN(const ContextRecord other, FindContext(context, value));
        host = other.docker_host();
      } else if (key != "skip-tls-verify") {
        const bool tls = key == "ca" || key == "cert" || key == "key";
        return absl::InvalidArgumentError(absl::StrCat(
            "--", endpoint, ": ", tls ? "" : "unrecognized config key: ", key,
            tls ? " is for TLS, which ctl does not speak; use ssh://" : "; write host=ADDRESS"));
      }
    }
    const absl::Status status = CheckContextHost(host);
    if (!status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--", endpoint, ": ", status.message()));
    }
    record->SetHost(endpoint, host);
    return absl::OkStatus();
  }

  std::string description_, docker_, gantry_, orchestrator_;
};

class CreateContextAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    endpoints_.AddFlags(flags);
    flags.String(&from_, "from", 0, "context", "Copy what another context says").completes =
        "contexts";
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    const ContextStore store(context.environment());
    GANTRY_RETURN_IF_ERROR(CheckContextName(args[0]));
    if (store.Find(args[0]).ok()) {
      return absl::AlreadyExistsError(absl::StrCat("context \"", args[0], "\" already exists"));
    }
    ContextRecord record;
    if (!from_.empty() || !endpoints_.HasEndpoint()) {
      GANTRY_ASSIGN_OR_RETURN(record,
                              FindContext(context, from_.empty() ? kDefaultContext : from_));
    }
    record.name = args[0];
    GANTRY_RETURN_IF_ERROR(endpoints_.Fill(context, &record));
    GANTRY_RETURN_IF_ERROR(store.Put(record));
    context.Out(absl::StrCat(args[0], "\n"));
    context.Err(absl::StrCat("Successfully created context \"", args[0], "\"\n"));
    return 0;
  }

 private:
  EndpointFlags endpoints_;
  std::string from_;
};

class UpdateContextAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override { endpoints_.AddFlags(flags); }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    const ContextStore store(context.environment());
    GANTRY_RETURN_IF_ERROR(CheckContextName(args[0]));
    GANTRY_ASSIGN_OR_RETURN(ContextRecord record, store.Find(args[0]));
    GANTRY_RETURN_IF_ERROR(endpoints_.Fill(context, &record));
    GANTRY_RETURN_IF_ERROR(store.Put(record));
    context.Out(absl::StrCat(args[0], "\n"));
    context.Err(absl::StrCat("Successfully updated context \"", args[0], "\"\n"));
    return 0;
  }

 private:
  EndpointFlags endpoints_;
};

class ListContextsAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&quiet_, "quiet", 'q', "Print names only");
    flags.String(&format_, "format", 0, "template", "table, json, or a Go template");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(std::vector<ContextRecord> records,
                            ContextStore(context.environment()).List());
    records.push_back(DefaultContext(context));
    std::sort(records.begin(), records.end(),
              [](const ContextRecord& a, const ContextRecord& b) { return a.name < b.name; });
    std::vector<Value> rows;
    bool current_is_there = false;
    for (const ContextRecord& record : records) {
      const bool current = record.name == context.context_name;
      current_is_there |= current;
      rows.push_back(
          Row(record.name, current,
              record.name == kDefaultContext ? kDefaultDescription : record.description(),
              record.host(), ""));
    }
    if (!current_is_there) {
      rows.push_back(Row(context.context_name, true, "", "",
                         absl::StrCat("context \"", context.context_name, "\": not found")));
    }
    Listing listing;
    listing.headings = {
        {"Name", "NAME"},   {"Description", "DESCRIPTION"}, {"DockerEndpoint", "DOCKER ENDPOINT"},
        {"Error", "ERROR"}, {"Current", "CURRENT"},         {"FullID", "NAME"}};
    listing.default_table = "{{.FullID}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}";
    listing.quiet_field = "Name";
    GANTRY_ASSIGN_OR_RETURN(const std::string text, Render(listing, rows, format_, quiet_));
    context.Out(text);
    return 0;
  }

 private:
  static Value Row(const std::string& name, bool current, const std::string& description,
                   const std::string& host, const std::string& error) {
    Value row = Value::EmptyObject();
    row.Set("Current", current);
    row.Set("Description", description);
    row.Set("DockerEndpoint", host);
    row.Set("Error", error);
    row.Set("Name", name);
    row.Set("FullID", absl::StrCat(name, current ? " *" : ""));  // not shown in JSON
    return row;
  }

  bool quiet_ = false;
  std::string format_;
};

class InspectContextAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&format_, "format", 'f', "template", "json, or a Go template");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    std::vector<std::string> names = args;
    if (names.empty()) names = {context.context_name};
    const ContextStore store(context.environment());
    Value list = Value::EmptyList();
    absl::Status failure;
    for (const std::string& name : names) {
      auto record = FindContext(context, name);
      if (!record.ok()) {
        if (failure.ok()) failure = record.status();
        continue;
      }
      Value one = record->document;
      one.Set("TLSMaterial", Value::EmptyObject());
      Value storage = Value::EmptyObject();
      const bool in_memory = name == kDefaultContext;
      storage.Set("MetadataPath", in_memory ? "<IN MEMORY>" : store.MetadataPath(name));
      storage.Set("TLSPath", in_memory ? "<IN MEMORY>" : store.TlsPath(name));
      one.Set("Storage", std::move(storage));
      list.Append(std::move(one));
    }
    if (format_.empty() || format_ == "json") {
      context.Out(absl::StrCat(format_.empty() ? list.ToPrettyJson(4) : list.ToJson(), "\n"));
    } else {
      for (const Value& one : list.list()) {
        GANTRY_ASSIGN_OR_RETURN(const std::string text, RenderOne(one, format_));
        context.Out(text);
      }
    }
    GANTRY_RETURN_IF_ERROR(failure);
    return 0;
  }

 private:
  std::string format_;
};

class UseContextAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_RETURN_IF_ERROR(FindContext(context, args[0]).status());
    GANTRY_RETURN_IF_ERROR(ContextStore(context.environment()).SetCurrent(args[0]));
    context.Out(absl::StrCat(args[0], "\n"));
    context.Err(absl::StrCat("Current context is now \"", args[0], "\"\n"));
    for (const char* variable : {"GANTRY_ADDRESS", "DOCKER_CONTEXT"}) {
      if (context.Environment(variable).empty()) continue;
      context.Err(absl::StrCat("Warning: ", variable,
                               " is set and comes before the current context; unset it to use "
                               "the context\n"));
      break;
    }
    return 0;
  }
};

class RemoveContextAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&force_, "force", 'f', "Also the current one, and one that does not exist");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    const ContextStore store(context.environment());
    GANTRY_ASSIGN_OR_RETURN(const std::string current, store.Current());
    return ForEach(context, args, [&](const std::string& name) -> absl::StatusOr<std::string> {
      if (name == kDefaultContext) {
        return absl::InvalidArgumentError("context \"default\" cannot be removed");
      }
      if (name == context.context_name && !force_) {
        return absl::FailedPreconditionError(absl::StrCat(
            "context \"", name, "\" is in use; --force removes it and goes back to \"default\""));
      }
      const absl::Status status = store.Remove(name);
      if (!status.ok() && !(force_ && absl::IsNotFound(status))) return status;
      if (name == current) GANTRY_RETURN_IF_ERROR(store.SetCurrent(""));
      return name;
    });
  }

 private:
  bool force_ = false;
};

class ShowContextAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    context.Out(absl::StrCat(context.context_name, "\n"));
    return 0;
  }
};

class ExportContextAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    const std::string path = args.size() > 1 ? args[1] : args[0] + ".dockercontext";
    GANTRY_ASSIGN_OR_RETURN(ContextRecord record, FindContext(context, args[0]));
    if (path != "-" && ::access(path.c_str(), F_OK) == 0) {
      return absl::AlreadyExistsError(absl::StrCat(path, " exists; name another file"));
    }
    GANTRY_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Open(path, context.out_fd()));
    StringSink archive;
    TarWriter writer(archive);
    TarEntry entry;
    entry.path = "meta.json";
    entry.mode = 0644;
    GANTRY_RETURN_IF_ERROR(writer.WriteFile(entry, record.document.ToJson()));
    TarEntry tls;
    tls.type = TarType::kDirectory;
    tls.path = "tls";
    tls.mode = 0700;
    GANTRY_RETURN_IF_ERROR(writer.WriteEntry(tls));
    GANTRY_RETURN_IF_ERROR(writer.Finish());
    GANTRY_RETURN_IF_ERROR(file.Write(archive.str()));
    GANTRY_RETURN_IF_ERROR(file.Keep());
    if (path != "-") context.Err(absl::StrCat("Written file \"", path, "\"\n"));
    return 0;
  }
};

class ImportContextAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    const ContextStore store(context.environment());
    GANTRY_RETURN_IF_ERROR(CheckContextName(args[0]));
    if (store.Find(args[0]).ok()) {
      return absl::AlreadyExistsError(absl::StrCat("context \"", args[0], "\" already exists"));
    }
    std::string archive;
    if (args[1] == "-") {
      FdSource source(context.in_fd());
      GANTRY_ASSIGN_OR_RETURN(archive, ReadAll(source, kMaxArchiveBytes));
    } else {
      GANTRY_ASSIGN_OR_RETURN(archive, ReadFile(args[1], kMaxArchiveBytes));
    }
    StringSource source(archive);
    TarReader reader(source);
    TarEntry entry;
    ContextRecord record;
    bool found = false;
    while (true) {
      GANTRY_ASSIGN_OR_RETURN(const bool more, reader.Next(entry));
      if (!more) break;
      if (entry.path == "meta.json") {
        GANTRY_ASSIGN_OR_RETURN(const std::string text, reader.ReadAll(kMaxArchiveBytes));
        auto document = Value::FromJson(text);
        if (!document.ok() || !document->is_object()) {
          return absl::InvalidArgumentError(absl::StrCat(args[1], ": meta.json is not an object"));
        }
        record.document = *std::move(document);
        found = true;
      } else if (entry.type == TarType::kFile) {
        return absl::InvalidArgumentError(
            absl::StrCat(args[1], ": ", entry.path,
                         " is for TLS, which ctl does not speak; import it with docker"));
      }
    }
    if (!found) {
      return absl::InvalidArgumentError(
          absl::StrCat(args[1], ": invalid context archive: it has no meta.json"));
    }
    record.name = args[0];
    GANTRY_RETURN_IF_ERROR(store.Put(record));
    context.Out(absl::StrCat(args[0], "\n"));
    context.Err(absl::StrCat("Successfully imported context \"", args[0], "\"\n"));
    return 0;
  }
};

}  // namespace

std::vector<Verb> ContextVerbs() {
  return {{.name = "create",
           .arguments = "[OPTIONS] CONTEXT",
           .summary = "Give a daemon a name",
           .examples = "  ctl context create lab --docker host=ssh://me@lab\n"
                       "  ctl context create test --docker host=unix:///tmp/g/gantry.sock\n",
           .min_args = 1,
           .max_args = 1,
           .make = [] { return std::make_unique<CreateContextAction>(); }},
          {.name = "export",
           .arguments = "CONTEXT [FILE|-]",
           .summary = "Write a context to a file",
           .examples = "  ctl context export lab lab.dockercontext\n",
           .min_args = 1,
           .max_args = 2,
           .completes = "contexts",
           .make = [] { return std::make_unique<ExportContextAction>(); }},
          {.name = "import",
           .arguments = "CONTEXT FILE|-",
           .summary = "Make a context of an exported one",
           .examples = "  ctl context import lab lab.dockercontext\n",
           .min_args = 2,
           .max_args = 2,
           .completes = "files",
           .make = [] { return std::make_unique<ImportContextAction>(); }},
          {.name = "inspect",
           .arguments = "[OPTIONS] [CONTEXT...]",
           .summary = "Show everything about contexts",
           .examples = "  ctl context inspect -f '{{.Endpoints.docker.Host}}' lab\n",
           .completes = "contexts",
           .make = [] { return std::make_unique<InspectContextAction>(); }},
          {.name = "ls",
           .aliases = {"list"},
           .arguments = "[OPTIONS]",
           .summary = "List contexts",
           .examples = "  ctl context ls\n",
           .max_args = 0,
           .make = [] { return std::make_unique<ListContextsAction>(); }},
          {.name = "rm",
           .aliases = {"remove"},
           .arguments = "CONTEXT [CONTEXT...]",
           .summary = "Remove contexts; their daemons are left alone",
           .examples = "  ctl context rm lab\n",
           .min_args = 1,
           .completes = "contexts",
           .make = [] { return std::make_unique<RemoveContextAction>(); }},
          {.name = "show",
           .summary = "Print the name of the current context",
           .examples = "  ctl context show\n",
           .max_args = 0,
           .make = [] { return std::make_unique<ShowContextAction>(); }},
          {.name = "update",
           .arguments = "[OPTIONS] CONTEXT",
           .summary = "Change what a context says",
           .examples = "  ctl context update lab --description 'the machine in the corner'\n",
           .min_args = 1,
           .max_args = 1,
           .completes = "contexts",
           .make = [] { return std::make_unique<UpdateContextAction>(); }},
          {.name = "use",
           .arguments = "CONTEXT",
           .summary = "Choose the current context",
           .examples = "  ctl context use lab\n  ctl context use default\n",
           .min_args = 1,
           .max_args = 1,
           .completes = "contexts",
           .make = [] { return std::make_unique<UseContextAction>(); }}};
}

}  // namespace gantry::ctl
