// Trees and layers for the tests of layer_apply and layer_diff.
#ifndef GANTRY_SNAPSHOTTER_LAYER_TEST_TREE_H_
#define GANTRY_SNAPSHOTTER_LAYER_TEST_TREE_H_

#include <string>
#include <vector>

#include "base/byte_stream.h"
#include "base/tar/entry.h"
#include "base/tar/writer.h"

namespace gantry::snapshot {

// Builds an archive entry by entry.
class LayerBuilder {
 public:
  LayerBuilder() : writer_(sink_) {}

  LayerBuilder& File(const std::string& path, const std::string& content = "x",
                     uint32_t mode = 0644);
  LayerBuilder& Directory(const std::string& path, uint32_t mode = 0755);
  LayerBuilder& Symlink(const std::string& path, const std::string& target);
  LayerBuilder& HardLink(const std::string& path, const std::string& target);
  LayerBuilder& Entry(const TarEntry& entry);
  std::string Finish();

 private:
  StringSink sink_;
  TarWriter writer_;
};

// One line for each entry of a tree: path, type, mode, owner, links, time, attributes and a digest
// of the content. With `times` false mtimes are left out. Overlay's own attributes are shown,
// directories' sizes and inodes not.
std::vector<std::string> DescribeTree(const std::string& root, bool times = true);

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_LAYER_TEST_TREE_H_
