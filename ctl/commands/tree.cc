#include "ctl/commands/builder.h"
#include "ctl/commands/commands.h"

namespace gantry::ctl {

namespace {

// The same verb under another word.
Verb Named(Verb verb, const char* name, std::vector<absl::string_view> aliases = {}) {
  verb.name = name;
  verb.aliases = std::move(aliases);
  return verb;
}

Verb Group(const char* name, std::vector<absl::string_view> aliases, const char* summary,
           std::vector<Verb> verbs) {
  Verb group;
  group.name = name;
  group.aliases = std::move(aliases);
  group.summary = summary;
  group.verbs = std::move(verbs);
  return group;
}

}  // namespace

Verb CommandTree() {
  Verb root;
  root.name = "ctl";
  root.summary = "Runs containers through gantryd.";
  root.verbs = {RunVerb(),        CreateVerb(),   StartVerb(),   StopVerb(),    RestartVerb(),
                KillVerb(),       PauseVerb(),    UnpauseVerb(), WaitVerb(),    RmVerb(),
                RenameVerb(),     UpdateVerb(),   PsVerb(),      InspectVerb(), LogsVerb(),
                AttachVerb(),     ExecVerb(),     TopVerb(),     StatsVerb(),   PortVerb(),
                CpVerb(),         DiffVerb(),     ExportVerb(),  CommitVerb(),  BuildVerb(),
                ImagesVerb(),     PullVerb(),     PushVerb(),    LoadVerb(),    SaveVerb(),
                ImportVerb(),     TagVerb(),      RmiVerb(),     HistoryVerb(), LoginVerb(),
                LogoutVerb(),     EventsVerb(),   InfoVerb(),    VersionVerb(), GcVerb(),
                CompletionVerb(), CompleteVerb(), PortsVerb(),   SearchVerb()};
  root.verbs.push_back(Group("container", {}, "Manage containers",
                             {RunVerb(),
                              CreateVerb(),
                              StartVerb(),
                              StopVerb(),
                              RestartVerb(),
                              KillVerb(),
                              PauseVerb(),
                              UnpauseVerb(),
                              WaitVerb(),
                              RmVerb(),
                              RenameVerb(),
                              UpdateVerb(),
                              Named(PsVerb(), "ls", {"ps", "list"}),
                              InspectContainerVerb(),
                              LogsVerb(),
                              AttachVerb(),
                              ExecVerb(),
                              TopVerb(),
                              StatsVerb(),
                              PortVerb(),
                              CpVerb(),
                              DiffVerb(),
                              ExportVerb(),
                              CommitVerb(),
                              ContainerPruneVerb()}));
  root.verbs.push_back(
      Group("image", {}, "Manage images",
            {BuildVerb(), Named(ImagesVerb(), "ls", {"list"}), PullVerb(), PushVerb(), LoadVerb(),
             SaveVerb(), ImportVerb(), TagVerb(), Named(RmiVerb(), "rm", {"rmi", "remove"}),
             HistoryVerb(), InspectImageVerb(), ImagePruneVerb(), ImageVerifyVerb()}));
  root.verbs.push_back(ComposeVerb());
  root.verbs.push_back(Group("builder", {}, "Manage builds and their cache", BuilderVerbs()));
  root.verbs.push_back(
      Group("buildx", {}, "Manage builds, in the words of docker buildx", BuildxVerbs()));
  root.verbs.push_back(Group("network", {}, "Manage networks", NetworkVerbs()));
  root.verbs.push_back(Group("volume", {}, "Manage volumes", VolumeVerbs()));
  root.verbs.push_back(Group("context", {}, "Manage names of daemons", ContextVerbs()));
  root.verbs.push_back(Group("manifest", {}, "Manage manifest lists", ManifestVerbs()));
  root.verbs.push_back(Group("plugin", {}, "Look for plugins", PluginVerbs()));
  root.verbs.push_back(Group("registry", {}, "Look at registries",
                             {RegistryExplainVerb(), LoginVerb(), LogoutVerb()}));
  root.verbs.push_back(
      Group("system", {}, "Manage the daemon",
            {DfVerb(), EventsVerb(), InfoVerb(), SystemPruneVerb(), GcVerb(), DialStdioVerb()}));
  root.verbs.push_back(
      Group("config", {}, "Look at and convert gantryd's settings", ConfigVerbs()));
  root.verbs.push_back(Group("content", {}, "Look at blobs", ContentVerbs()));
  root.verbs.push_back(
      Group("snapshots", {"snapshot"}, "Look at snapshots of file systems", SnapshotVerbs()));
  root.verbs.push_back(Group("leases", {"lease"}, "Manage leases", LeaseVerbs()));
  root.verbs.push_back(
      Group("namespaces", {"namespace", "ns"}, "Manage namespaces", NamespaceVerbs()));
  root.verbs.push_back(Group("tasks", {"task"}, "Look at tasks", TaskVerbs()));
  return root;
}

}  // namespace gantry::ctl
