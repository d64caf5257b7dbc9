#include <functional>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/protobuf/empty.pb.h"

#include "base/engine/proto_time.h"
#include "base/engine/units.h"
#include "base/engine/value.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/completion.h"
#include "ctl/table.h"
#include "proto/containerd/services/snapshots/v1/snapshots.pb.h"

namespace gantry::ctl {

using engine::Value;
namespace {

namespace snapshots = containerd::services::snapshots::v1;

class SnapshotAction : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&snapshotter_, "snapshotter", 0, "name", "Which one (default overlayfs)");
  }

 protected:
  absl::StatusOr<std::vector<snapshots::Info>> List(Context& context,
                                                    const std::vector<std::string>& filters) {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    snapshots::ListSnapshotsRequest request;
    request.set_snapshotter(snapshotter_);
    for (const std::string& filter : filters) request.add_filters(filter);
    auto stream =
        client->Open<snapshots::ListSnapshotsRequest, snapshots::ListSnapshotsResponse>(request);
    std::vector<snapshots::Info> all;
    snapshots::ListSnapshotsResponse response;
    while (stream->Read(&response))
      all.insert(all.end(), response.info().begin(), response.info().end());
    GANTRY_RETURN_IF_ERROR(stream->Finish());
    return all;
  }

  static std::string KindWord(snapshots::Kind kind) {
    switch (kind) {
      case snapshots::VIEW:
        return "View";
      case snapshots::ACTIVE:
        return "Active";
      case snapshots::COMMITTED:
        return "Committed";
      default:
        return "Unknown";
    }
  }

  std::string snapshotter_ = "overlayfs";
};

class ListSnapshotsAction final : public SnapshotAction {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(std::vector<snapshots::Info> all, List(context, args));
    std::string out = "KEY\tPARENT\tKIND\n";
    for (const snapshots::Info& info : all) {
      absl::StrAppend(&out, info.name(), "\t", info.parent().empty() ? "-" : info.parent(), "\t",
                      KindWord(info.kind()), "\n");
    }
    context.Out(AlignColumns(out));
    return 0;
  }
};

class TreeAction final : public SnapshotAction {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(std::vector<snapshots::Info> all, List(context, args));
    std::map<std::string, std::vector<std::string>> children;
    std::map<std::string, bool> known;
    for (const snapshots::Info& info : all) known[info.name()] = true;
    for (const snapshots::Info& info : all) {
      children[known.count(info.parent()) > 0 ? info.parent() : ""].push_back(info.name());
    }
    std::string out;
    const std::function<void(const std::string&, int)> show = [&](const std::string& key,
                                                                  int depth) {
      for (const std::string& name : children[key]) {
        absl::StrAppend(&out, std::string(static_cast<size_t>(depth) * 2, ' '),
                        depth > 0 ? "└─ " : "", name, "\n");
        show(name, depth + 1);
      }
    };
    show("", 0);
    context.Out(out);
    return 0;
  }
};

class InfoAction final : public SnapshotAction {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    snapshots::StatSnapshotRequest request;
    request.set_snapshotter(snapshotter_);
    request.set_key(args[0]);
    snapshots::StatSnapshotResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    const snapshots::Info& info = response.info();
    Value out = Value::EmptyObject();
    out.Set("Kind", KindWord(info.kind()));
    out.Set("Name", info.name());
    out.Set("Parent", info.parent());
    out.Set("Labels", Value::StringMap(info.labels()));
    out.Set("Created", engine::JsonTime(engine::FromProto(info.created_at())));
    out.Set("Updated", engine::JsonTime(engine::FromProto(info.updated_at())));
    context.Out(absl::StrCat(out.ToPrettyJson(4), "\n"));
    return 0;
  }
};

class UsageAction final : public SnapshotAction {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    std::vector<std::string> keys = args;
    if (keys.empty()) {
      GANTRY_ASSIGN_OR_RETURN(std::vector<snapshots::Info> all, List(context, {}));
      for (const snapshots::Info& info : all) keys.push_back(info.name());
    }
    std::string out = "KEY\tSIZE\tINODES\n";
    for (const std::string& key : keys) {
      snapshots::UsageRequest request;
      request.set_snapshotter(snapshotter_);
      request.set_key(key);
      snapshots::UsageResponse response;
      GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
      absl::StrAppend(&out, key, "\t", engine::HumanSize(response.size()), "\t", response.inodes(),
                      "\n");
    }
    context.Out(AlignColumns(out));
    return 0;
  }
};

class RemoveSnapshotAction final : public SnapshotAction {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    return ForEach(context, args, [&](const std::string& key) -> absl::StatusOr<std::string> {
      snapshots::RemoveSnapshotRequest request;
      request.set_snapshotter(snapshotter_);
      request.set_key(key);
      google::protobuf::Empty response;
      GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
      return key;
    });
  }
};

std::vector<std::string> KeysForCompletion(Context& context) {
  std::vector<std::string> keys;
  auto client = context.client();
  if (!client.ok()) return keys;
  snapshots::ListSnapshotsRequest request;
  request.set_snapshotter("overlayfs");
  auto stream =
      (*client)->Open<snapshots::ListSnapshotsRequest, snapshots::ListSnapshotsResponse>(request);
  ReadForCompletion<snapshots::ListSnapshotsResponse>(*stream, [&](const auto& response) {
    for (const snapshots::Info& info : response.info()) keys.push_back(info.name());
  });
  return keys;
}

}  // namespace

std::vector<Verb> SnapshotVerbs() {
  AddCompletionSource("snapshots", KeysForCompletion);
  return {{.name = "ls",
           .aliases = {"list"},
           .arguments = "[OPTIONS] [FILTER...]",
           .summary = "List snapshots",
           .examples = "  ctl snapshots ls\n",
           .make = [] { return std::make_unique<ListSnapshotsAction>(); }},
          {.name = "tree",
           .arguments = "[OPTIONS]",
           .summary = "List snapshots under their parents",
           .examples = "  ctl snapshots tree\n",
           .max_args = 0,
           .make = [] { return std::make_unique<TreeAction>(); }},
          {.name = "info",
           .arguments = "[OPTIONS] KEY",
           .summary = "Show a snapshot",
           .examples = "  ctl snapshots info sha256:...\n",
           .min_args = 1,
           .max_args = 1,
           .completes = "snapshots",
           .make = [] { return std::make_unique<InfoAction>(); }},
          {.name = "usage",
           .arguments = "[OPTIONS] [KEY...]",
           .summary = "Show the disk usage of snapshots",
           .examples = "  ctl snapshots usage\n",
           .completes = "snapshots",
           .make = [] { return std::make_unique<UsageAction>(); }},
          {.name = "rm",
           .aliases = {"remove", "delete"},
           .arguments = "[OPTIONS] KEY [KEY...]",
           .summary = "Remove snapshots",
           .examples = "  ctl snapshots rm old\n",
           .min_args = 1,
           .completes = "snapshots",
           .make = [] { return std::make_unique<RemoveSnapshotAction>(); }}};
}

}  // namespace gantry::ctl
