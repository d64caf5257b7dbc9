// User namespaces, and namespaces of other kinds that belong to them, made without a process that
// stays in them: a child holds them for as long as they are opened or mounted.
//
// Thread-safe. Root only. The child is invisible to code that reaps on SIGCHLD.

#ifndef GANTRY_BASE_USER_NAMESPACE_H_
#define GANTRY_BASE_USER_NAMESPACE_H_

#include <sys/types.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/id_map.h"
#include "base/unique_fd.h"

namespace gantry {

// New namespaces, alive at least as long as this object. Move-only.
class NewNamespaces {
 public:
  NewNamespaces() = default;
  ~NewNamespaces();
  NewNamespaces(NewNamespaces&& other) noexcept;
  NewNamespaces& operator=(NewNamespaces&& other) noexcept;

  // A user namespace with these maps; `flags`, of CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, are
  // further ones that it owns.
  //   kResourceExhausted   no more processes or namespaces (user.max_user_namespaces)
  //   kPermissionDenied    the kernel or a security module forbids user namespaces
  static absl::StatusOr<NewNamespaces> Make(const IdMaps& maps, int flags = 0);

  // Those of `flags` alone, owned by a user namespace that there is.
  static absl::StatusOr<NewNamespaces> MakeIn(int user_namespace, int flags);

  // "user", "net", "ipc", "uts".
  absl::StatusOr<UniqueFd> Open(const char* kind) const;

 private:
  UniqueFd hold_;  // the child ends when it is closed
  pid_t pid_ = -1;
};

// The user namespace alone: the carrier of a map for mount_setattr(2).
absl::StatusOr<UniqueFd> NewUserNamespace(const IdMaps& maps);

// From now on files that the calling thread makes belong to the root of a container with these
// maps, on whatever file system; its rights stay those of the host's root. For threads that end
// with their work: there is no way back. Nothing with no maps.
absl::Status ActAsRootOf(const IdMaps& maps);
// Whether the calling thread does. False with no maps.
bool ActsAsRootOf(const IdMaps& maps);

}  // namespace gantry

#endif  // GANTRY_BASE_USER_NAMESPACE_H_
