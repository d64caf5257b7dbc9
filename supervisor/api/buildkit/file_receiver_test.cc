#include "supervisor/api/buildkit/file_receiver.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "base/file.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "proto/buildkit/fsutil.pb.h"

namespace gantry::api::buildkit {
namespace {

using fsutil::types::Packet;

constexpr uint32_t kDirectory = 1u << 31;
constexpr uint32_t kSymlink = 1u << 27;

// A sender with a list of files: answers requests, ends when the receiver does.
class Sender : public PacketStream {
 public:
  void Stat(const std::string& path, uint32_t mode, const std::string& content = "",
            const std::string& link = "") {
    Packet packet;
    packet.mutable_stat()->set_path(path);
    packet.mutable_stat()->set_mode(mode);
    packet.mutable_stat()->set_size(static_cast<int64_t>(content.size()));
    packet.mutable_stat()->set_modtime(1'600'000'000'000'000'000);
    packet.mutable_stat()->set_linkname(link);
    contents_.push_back(content);
    queue_.push_back(packet);
  }
  void Raw(Packet packet) { queue_.push_back(std::move(packet)); }
  void End() { queue_.emplace_back(); }

  absl::StatusOr<bool> Read(Packet& packet) override {
    if (queue_.empty()) return false;
    packet = queue_.front();
    queue_.pop_front();
    return true;
  }
  absl::Status Write(const Packet& packet) override {
    written.push_back(packet);
    Packet answer;
    if (packet.type() == Packet::PACKET_REQ) {
      const std::string& content = contents_.at(packet.id());
      answer.set_type(Packet::PACKET_DATA);
      answer.set_id(packet.id());
      // In two pieces.
      answer.set_data(content.substr(0, content.size() / 2));
      if (!answer.data().empty()) queue_.push_back(answer);
      answer.set_data(content.substr(content.size() / 2));
      queue_.push_back(answer);
      answer.clear_data();
      queue_.push_back(answer);
    } else if (packet.type() == Packet::PACKET_FIN) {
      answer.set_type(Packet::PACKET_FIN);
      queue_.push_back(answer);
    }
    return absl::OkStatus();
  }

  std::vector<Packet> written;

 private:
  std::deque<Packet> queue_;
  std::vector<std::string> contents_;
};

class FileReceiverTest : public testing::Test {
 protected:
  absl::Status Receive(const ReceiveLimits& limits = {}) {
    return ReceiveFiles(sender_, root_.get(), nullptr, nullptr, limits);
  }
  std::string Content(const std::string& path) {
    return ReadFile(dir_.path() + "/in/" + path, 1 << 20).value_or("(missing)");
  }
  struct stat Info(const std::string& path) {
    struct stat info = {};
    EXPECT_EQ(lstat((dir_.path() + "/in/" + path).c_str(), &info), 0) << path;
    return info;
  }
  static UniqueFd Open(const std::string& path) {
    EXPECT_TRUE(MakeDirectories(path, 0755).ok());
    return UniqueFd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }

  TempDir dir_;
  Sender sender_;
  UniqueFd root_ = Open(dir_.path() + "/in");
};

TEST_F(FileReceiverTest, ATreeArrivesWithModesTimesAndLinks) {
  sender_.Stat("a", kDirectory | 0750);
  sender_.Stat("a/deep", kDirectory | 0755);
  sender_.Stat("a/deep/file", 0640, "content");
  sender_.Stat("a/other", 0644, "", "a/deep/file");
  sender_.Stat("b", kSymlink | 0777, "", "/etc/passwd");
  sender_.Stat("c", 0755, std::string(100'000, 'x'));
  sender_.Stat("empty", 0600);
  sender_.End();
  const absl::Status received = Receive();
  ASSERT_TRUE(received.ok()) << received;
  EXPECT_EQ(Content("a/deep/file"), "content");
  EXPECT_EQ(Info("a/deep/file").st_mode, static_cast<mode_t>(S_IFREG | 0640));
  EXPECT_EQ(Info("a/deep/file").st_ino, Info("a/other").st_ino);
  EXPECT_EQ(Info("a").st_mode, static_cast<mode_t>(S_IFDIR | 0750));
  EXPECT_EQ(Info("a").st_mtime, 1'600'000'000);
  EXPECT_EQ(Info("c").st_size, 100'000);
  EXPECT_EQ(Info("c").st_mtime, 1'600'000'000);
  EXPECT_TRUE(S_ISLNK(Info("b").st_mode));
  EXPECT_EQ(Info("empty").st_size, 0);
  // Only what has content is asked for, then the end is said.
  ASSERT_EQ(sender_.written.size(), 3u);
  EXPECT_EQ(sender_.written[0].id(), 2u);
  EXPECT_EQ(sender_.written[1].id(), 5u);
  EXPECT_EQ(sender_.written[2].type(), Packet::PACKET_FIN);
}

TEST_F(FileReceiverTest, ManyFilesAreAskedForAFewAtATime) {
  for (int i = 0; i < 1000; ++i) sender_.Stat("f" + std::to_string(10000 + i), 0644, "x");
  sender_.End();
  EXPECT_TRUE(Receive().ok());
  EXPECT_EQ(sender_.written.size(), 1001u);
  EXPECT_EQ(Content("f10999"), "x");
}

TEST_F(FileReceiverTest, NamesThatClimbOutAreRefused) {
  for (const std::string name : {"../x", "/x", "a/../x", "a//x", ".", "..", "", "a/", "./a",
                                 std::string("a\0b", 3).c_str()}) {
    SCOPED_TRACE(name);
    Sender sender;
    sender.Stat("a", kDirectory | 0755);
    sender.Stat(name, 0644, "bad");
    sender.End();
    TempDir dir;
    const UniqueFd root = Open(dir.path() + "/in");
    EXPECT_TRUE(absl::IsInvalidArgument(ReceiveFiles(sender, root.get(), nullptr, nullptr)));
    ASSERT_FALSE(sender.written.empty());
    EXPECT_EQ(sender.written.back().type(), Packet::PACKET_ERR);
    struct stat info;
    EXPECT_NE(lstat((dir.path() + "/x").c_str(), &info), 0);
  }
}

TEST_F(FileReceiverTest, NothingIsWrittenThroughALink) {
  ASSERT_TRUE(MakeDirectories(dir_.path() + "/outside", 0755).ok());
  sender_.Stat("a", kSymlink | 0777, "", dir_.path() + "/outside");
  sender_.Stat("a/x", 0644, "bad");
  sender_.End();
  EXPECT_TRUE(absl::IsInvalidArgument(Receive()));
  struct stat info;
  EXPECT_NE(lstat((dir_.path() + "/outside/x").c_str(), &info), 0);
}

TEST_F(FileReceiverTest, AHardLinkLeadsToAFileThatWasSentOnly) {
  sender_.Stat("a", kSymlink | 0777, "", "/etc");
  sender_.Stat("b", 0644, "", "a/passwd");
  sender_.End();
  EXPECT_TRUE(absl::IsInvalidArgument(Receive()));
}

TEST_F(FileReceiverTest, OrderIsKeptAndNothingComesTwice) {
  sender_.Stat("b", 0644);
  sender_.Stat("b", kSymlink | 0777, "", "/etc");
  EXPECT_TRUE(absl::IsInvalidArgument(Receive()));
  Sender other;
  other.Stat("no/such", 0644);
  EXPECT_TRUE(absl::IsInvalidArgument(ReceiveFiles(other, root_.get(), nullptr, nullptr)));
}

TEST_F(FileReceiverTest, ContentThatWasNotAskedForIsRefused) {
  sender_.Stat("a", 0644);
  Packet data;
  data.set_type(Packet::PACKET_DATA);
  data.set_data("x");
  sender_.Raw(data);
  EXPECT_TRUE(absl::IsInvalidArgument(Receive()));
}

TEST_F(FileReceiverTest, AStreamThatEndsTooEarlyIsAnError) {
  sender_.Stat("a", 0644);
  EXPECT_TRUE(absl::IsUnavailable(Receive()));
}

TEST_F(FileReceiverTest, TheSendersErrorIsToldOn) {
  Packet error;
  error.set_type(Packet::PACKET_ERR);
  error.set_data("permission denied");
  sender_.Raw(error);
  const absl::Status received = Receive();
  EXPECT_TRUE(absl::IsFailedPrecondition(received));
  EXPECT_NE(received.message().find("permission denied"), absl::string_view::npos);
}

TEST_F(FileReceiverTest, CountsAreBounded) {
  for (int i = 0; i < 11; ++i) sender_.Stat("f" + std::to_string(10 + i), 0644);
  sender_.End();
  ReceiveLimits limits;
  limits.files = 10;
  EXPECT_TRUE(absl::IsResourceExhausted(Receive(limits)));
}

TEST_F(FileReceiverTest, ACancelledTransferEnds) {
  CancelToken cancel;
  cancel.Cancel("the client has gone");
  sender_.Stat("a", 0644);
  EXPECT_TRUE(absl::IsCancelled(ReceiveFiles(sender_, root_.get(), &cancel, nullptr)));
}

}  // namespace
}  // namespace gantry::api::buildkit
