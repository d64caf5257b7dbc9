// A mount namespace of a test's own, for tests.
#ifndef GANTRY_SUPERVISOR_CORE_OWN_MOUNTS_H_
#define GANTRY_SUPERVISOR_CORE_OWN_MOUNTS_H_

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace gantry::core {

// What this thread, and every thread that it starts from now on, mounts is seen by no other process
// and ends with this one. Before a test's threads are started, as in SetUpTestSuite(). Does nothing
// without root.
inline void EnterOwnMounts() {
  if (geteuid() != 0) return;
  ASSERT_EQ(unshare(CLONE_NEWNS), 0);
  ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
}

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_OWN_MOUNTS_H_
