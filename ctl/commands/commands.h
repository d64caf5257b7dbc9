// Every verb there is, one file each, and the tree they hang in (tree.cc).
#ifndef GANTRY_CTL_COMMANDS_COMMANDS_H_
#define GANTRY_CTL_COMMANDS_COMMANDS_H_

#include "ctl/verb.h"

namespace gantry::ctl {

// The whole tree, rooted at "ctl".
Verb CommandTree();

// Containers.
Verb AttachVerb();
Verb CommitVerb();
Verb ContainerPruneVerb();
Verb CpVerb();
Verb CreateVerb();
Verb DiffVerb();
Verb ExecVerb();
Verb ExportVerb();
Verb KillVerb();
Verb LogsVerb();
Verb PauseVerb();
Verb PortVerb();
Verb PortsVerb();
Verb PsVerb();
Verb RenameVerb();
Verb RestartVerb();
Verb RmVerb();
Verb RunVerb();
Verb StartVerb();
Verb StatsVerb();
Verb StopVerb();
Verb TopVerb();
Verb UnpauseVerb();
Verb UpdateVerb();
Verb WaitVerb();

// Projects of several containers.
Verb ComposeVerb();

// Images.
Verb HistoryVerb();
Verb ImagePruneVerb();
Verb ImageVerifyVerb();
Verb ImagesVerb();
Verb ImportVerb();
Verb LoadVerb();
Verb PullVerb();
Verb PushVerb();
Verb RmiVerb();
Verb SaveVerb();
Verb TagVerb();

// Registries.
Verb LoginVerb();
Verb LogoutVerb();
Verb RegistryExplainVerb();
std::vector<Verb> ManifestVerbs();
Verb SearchVerb();

// Any object, and the daemon.
std::vector<Verb> ContextVerbs();
Verb DfVerb();
Verb DialStdioVerb();
Verb EventsVerb();
Verb GcVerb();
Verb InfoVerb();
Verb InspectContainerVerb();
Verb InspectImageVerb();
Verb InspectVerb();
std::vector<Verb> PluginVerbs();
Verb SystemPruneVerb();
Verb VersionVerb();

// Low-level stores, through the containerd door.
std::vector<Verb> ContentVerbs();
std::vector<Verb> LeaseVerbs();
std::vector<Verb> NamespaceVerbs();
std::vector<Verb> NetworkVerbs();
std::vector<Verb> SnapshotVerbs();
std::vector<Verb> TaskVerbs();
std::vector<Verb> VolumeVerbs();

// ctl itself, and the daemon's settings.
std::vector<Verb> ConfigVerbs();
Verb CompleteVerb();
Verb CompletionVerb();

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_COMMANDS_H_
