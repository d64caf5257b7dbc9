// Packets of a hostile sender: whatever they are, nothing appears outside of the directory.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "base/file.h"
#include "base/fuzz/fuzz.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "proto/buildkit/fsutil.pb.h"
#include "supervisor/api/buildkit/context_receiver.h"
#include "supervisor/api/buildkit/file_receiver.h"
#include "supervisor/build/context_store.h"
#include "supervisor/build/trash.h"

namespace gantry::api::buildkit {
namespace {

// Packets with a length of one byte before each.
class Bytes : public PacketStream {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  absl::StatusOr<bool> Read(fsutil::types::Packet& packet) override {
    if (size_ == 0) return false;
    const size_t length = std::min<size_t>(data_[0], size_ - 1);
    const bool parsed = packet.ParseFromArray(data_ + 1, static_cast<int>(length));
    data_ += length + 1;
    size_ -= length + 1;
    if (!parsed) return absl::InvalidArgumentError("not a packet");
    // No devices in a fuzzer's file system.
    if (packet.has_stat()) packet.mutable_stat()->set_mode(packet.stat().mode() & ~(1u << 26));
    return true;
  }
  absl::Status Write(const fsutil::types::Packet&) override { return absl::OkStatus(); }

 private:
  const uint8_t* data_;
  size_t size_;
};

}  // namespace
}  // namespace gantry::api::buildkit

namespace gantry {

std::vector<std::string> FuzzSeeds() {
  std::string good;
  const auto add = [&](const fsutil::types::Packet& packet) {
    const std::string bytes = packet.SerializeAsString();
    good.push_back(static_cast<char>(bytes.size()));
    good += bytes;
  };
  const auto stat = [&](const std::string& path, uint32_t mode, int64_t size,
                        const std::string& link) {
    fsutil::types::Packet packet;
    packet.mutable_stat()->set_path(path);
    packet.mutable_stat()->set_mode(mode);
    packet.mutable_stat()->set_size(size);
    packet.mutable_stat()->set_linkname(link);
    add(packet);
  };
  stat("a", 1u << 31 | 0755, 0, "");
  stat("a/b", 0644, 3, "");
  stat("a/c", 0644, 0, "a/b");
  stat("d", 1u << 27 | 0777, 0, "../..");
  stat("e", 1u << 25 | 0644, 0, "");
  add({});
  fsutil::types::Packet data;
  data.set_type(fsutil::types::Packet::PACKET_DATA);
  data.set_id(1);
  data.set_data("abc");
  add(data);
  data.clear_data();
  add(data);
  data.Clear();
  data.set_type(fsutil::types::Packet::PACKET_FIN);
  add(data);
  std::string climbs = good;
  climbs.replace(climbs.find("a/b"), 3, "../");
  return {good, climbs};
}

// The same packets for a context that is kept.
static void FuzzContext(absl::string_view bytes) {
  static const TempDir& dir = *new TempDir();  // NOLINT(cppcoreguidelines-owning-memory)
  static build::Trash& trash =
      *new build::Trash(dir.path() + "/trash");  // NOLINT(cppcoreguidelines-owning-memory)
  static build::ContextStore& store =
      *new build::ContextStore(dir.path() + "/contexts",  // NOLINT(cppcoreguidelines-owning-memory)
                               trash);
  const auto update = store.Begin("key");
  if (!update.ok()) std::abort();
  api::buildkit::Bytes stream(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  if (api::buildkit::ReceiveContext(stream, **update, absl::UnixEpoch(), nullptr, nullptr).ok()) {
    const auto tree = (*update)->Finish();
    if (!tree.ok()) return;
    struct stat info;
    if (stat((*tree)->path().c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) std::abort();
  }
  struct stat info;
  // "contexts", and what waits in "trash", which is made when it is needed.
  if (stat(dir.path().c_str(), &info) != 0 || info.st_nlink > 4) std::abort();
}

void FuzzOne(absl::string_view bytes) {
  // Most inputs are refused before anything is made, so the directory serves for many.
  static const TempDir& dir = *new TempDir();  // NOLINT(cppcoreguidelines-owning-memory)
  static const std::string in = dir.path() + "/in";
  if (!MakeDirectories(in, 0700).ok()) std::abort();
  const UniqueFd root(open(in.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  api::buildkit::Bytes stream(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  api::buildkit::ReceiveLimits limits;
  limits.files = 100;
  // What counts is what they leave behind.
  (void)api::buildkit::ReceiveFiles(stream, root.get(), nullptr, nullptr, limits);
  struct stat info;
  if (stat(dir.path().c_str(), &info) != 0 || info.st_nlink != 3) std::abort();
  if (rmdir(in.c_str()) != 0 && !RemoveTree(in).ok()) std::abort();
  FuzzContext(bytes);
}

}  // namespace gantry
