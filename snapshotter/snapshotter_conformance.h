// What every Snapshotter must do, as a GoogleTest suite. An implementation instantiates it:
//
//   INSTANTIATE_TEST_SUITE_P(Overlay, SnapshotterConformance, testing::Values(SnapshotterCase{
//       .name = "overlay", .make = [](const std::string& directory) { ... }}));
//
// Mounts for real, so it needs root; without it each test skips and says so.
#ifndef GANTRY_SNAPSHOTTER_SNAPSHOTTER_CONFORMANCE_H_
#define GANTRY_SNAPSHOTTER_SNAPSHOTTER_CONFORMANCE_H_

#include <functional>
#include <memory>
#include <ostream>
#include <string>

#include "gtest/gtest.h"

#include "snapshotter/snapshotter.h"

namespace gantry::snapshot {

struct SnapshotterCase {
  std::string name;
  // An empty snapshotter that keeps its files below `directory`, which is empty and outlives it.
  // What it needs beside it (a database) lives in the deleter.
  std::function<std::shared_ptr<Snapshotter>(const std::string& directory)> make;
};

inline void PrintTo(const SnapshotterCase& snapshotter_case, std::ostream* os) {
  *os << snapshotter_case.name;
}

class SnapshotterConformance : public testing::TestWithParam<SnapshotterCase> {
 protected:
  SnapshotterConformance();
  ~SnapshotterConformance() override;
  void SetUp() override;

  Snapshotter& snapshotter() { return *snapshotter_; }
  // Runs `work` on the directory where `mounts` are mounted.
  void With(const std::vector<Mount>& mounts,
            const std::function<void(const std::string& root)>& work);
  // Prepares `key` on `parent`, runs `work` in it, commits it as `name`.
  void CommitLayer(const std::string& name, const std::string& parent,
                   const std::function<void(const std::string& root)>& work);

 private:
  std::string directory_;
  std::shared_ptr<Snapshotter> snapshotter_;
};

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_SNAPSHOTTER_CONFORMANCE_H_
