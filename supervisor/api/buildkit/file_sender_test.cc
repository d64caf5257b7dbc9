#include "supervisor/api/buildkit/file_sender.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "proto/buildkit/fsutil.pb.h"

namespace gantry::api::buildkit {
namespace {

using fsutil::types::Packet;

// One direction of a stream between two threads.
struct Pipe {
  std::mutex mu;
  std::condition_variable changed;
  std::deque<Packet> packets;
  bool closed = false;
};

class End : public PacketStream {
 public:
  End(Pipe& in, Pipe& out) : in_(in), out_(out) {}
  absl::StatusOr<bool> Read(Packet& packet) override {
    std::unique_lock lock(in_.mu);
    in_.changed.wait(lock, [&] { return !in_.packets.empty() || in_.closed; });
    if (in_.packets.empty()) return false;
    packet = in_.packets.front();
    in_.packets.pop_front();
    return true;
  }
  absl::Status Write(const Packet& packet) override {
    const std::lock_guard lock(out_.mu);
    out_.packets.push_back(packet);
    out_.changed.notify_all();
    return absl::OkStatus();
  }
  void Close() {
    const std::lock_guard lock(out_.mu);
    out_.closed = true;
    out_.changed.notify_all();
  }

 private:
  Pipe& in_;
  Pipe& out_;
};

UniqueFd Open(const std::string& path) {
  EXPECT_TRUE(MakeDirectories(path, 0755).ok());
  return UniqueFd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

TEST(FileSenderTest, ATreeThatIsSentArrivesAsItWas) {
  TempDir dir;
  const UniqueFd from = Open(dir.path() + "/from");
  const UniqueFd to = Open(dir.path() + "/to");
  ASSERT_TRUE(MakeDirectories(dir.path() + "/from/a/b", 0755).ok());
  ASSERT_TRUE(WriteFile(dir.path() + "/from/a/b/file", std::string(100'000, 'x'), 0640).ok());
  ASSERT_TRUE(WriteFile(dir.path() + "/from/a.txt", "text", 0755).ok());
  ASSERT_TRUE(WriteFile(dir.path() + "/from/empty", "", 0600).ok());
  ASSERT_EQ(symlink("../nowhere", (dir.path() + "/from/link").c_str()), 0);
  Pipe there;
  Pipe back;
  End sender(back, there);
  End receiver(there, back);
  std::thread sends([&] {
    EXPECT_TRUE(SendFiles(sender, from.get(), nullptr).ok());
    sender.Close();
  });
  const absl::Status received = ReceiveFiles(receiver, to.get(), nullptr, nullptr);
  receiver.Close();
  sends.join();
  ASSERT_TRUE(received.ok()) << received;
  EXPECT_EQ(ReadFile(dir.path() + "/to/a/b/file", 1 << 20).value_or(""), std::string(100'000, 'x'));
  EXPECT_EQ(ReadFile(dir.path() + "/to/a.txt", 100).value_or(""), "text");
  struct stat info;
  ASSERT_EQ(stat((dir.path() + "/to/a.txt").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0755u);
  char target[64] = {};
  EXPECT_EQ(readlink((dir.path() + "/to/link").c_str(), target, sizeof target), 10);
  EXPECT_EQ(std::string(target), "../nowhere");
}

TEST(FileSenderTest, OnlyContentsOfFilesAreGiven) {
  TempDir dir;
  const UniqueFd from = Open(dir.path() + "/from");
  ASSERT_TRUE(MakeDirectories(dir.path() + "/from/a", 0755).ok());
  Pipe there;
  Pipe back;
  End sender(back, there);
  Packet request;
  request.set_type(Packet::PACKET_REQ);
  back.packets.push_back(request);
  EXPECT_TRUE(absl::IsInvalidArgument(SendFiles(sender, from.get(), nullptr)));
  back.closed = true;
  EXPECT_TRUE(absl::IsUnavailable(SendFiles(sender, from.get(), nullptr)));
}

}  // namespace
}  // namespace gantry::api::buildkit
