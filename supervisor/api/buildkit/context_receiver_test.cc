#include "supervisor/api/buildkit/context_receiver.h"

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "base/file.h"
#include "base/temp_dir.h"
#include "proto/buildkit/fsutil.pb.h"

namespace gantry::api::buildkit {
namespace {

using fsutil::types::Packet;

constexpr uint32_t kDirectory = 1u << 31;
const absl::Time kNow = absl::FromUnixSeconds(2'000'000'000);

// Name to content, "/" for a directory.
using Files = std::map<std::string, std::string>;

// A client's directory, and the time of all of it.
class Sender : public PacketStream {
 public:
  explicit Sender(const Files& files, absl::Time time = kNow - absl::Hours(1)) {
    for (const auto& [path, content] : files) {
      Packet packet;
      packet.mutable_stat()->set_path(path);
      packet.mutable_stat()->set_mode(content == "/" ? kDirectory | 0755 : 0644);
      packet.mutable_stat()->set_size(content == "/" ? 0 : static_cast<int64_t>(content.size()));
      packet.mutable_stat()->set_modtime(absl::ToUnixNanos(time));
      contents_.push_back(content);
      queue_.push_back(packet);
    }
    queue_.emplace_back();
  }
  absl::StatusOr<bool> Read(Packet& packet) override {
    if (queue_.empty()) return false;
    packet = queue_.front();
    queue_.pop_front();
    return true;
  }
  absl::Status Write(const Packet& packet) override {
    Packet answer;
    if (packet.type() == Packet::PACKET_REQ) {
      asked.push_back(packet.id());
      answer.set_type(Packet::PACKET_DATA);
      answer.set_id(packet.id());
      answer.set_data(contents_.at(packet.id()));
      if (!answer.data().empty()) queue_.push_back(answer);
      answer.clear_data();
      queue_.push_back(answer);
    } else if (packet.type() == Packet::PACKET_FIN) {
      answer.set_type(Packet::PACKET_FIN);
      queue_.push_back(answer);
    }
    return absl::OkStatus();
  }
  std::deque<Packet>& queue() { return queue_; }

  std::vector<uint32_t> asked;

 private:
  std::deque<Packet> queue_;
  std::vector<std::string> contents_;
};

class ContextReceiverTest : public testing::Test {
 protected:
  absl::Status Receive(Sender& sender) {
    auto update = store_.Begin("key");
    EXPECT_TRUE(update.ok()) << update.status();
    const absl::Status received = ReceiveContext(sender, **update, kNow, nullptr, nullptr);
    if (!received.ok()) return received;
    auto tree = (*update)->Finish();
    EXPECT_TRUE(tree.ok()) << tree.status();
    path_ = (*tree)->path();
    return absl::OkStatus();
  }
  std::string Content(const std::string& path) {
    return ReadFile(path_ + "/" + path, 1 << 20).value_or("(missing)");
  }

  TempDir dir_;
  build::Trash trash_{dir_.path() + "/trash"};
  build::ContextStore store_{dir_.path() + "/contexts", trash_};
  std::string path_;
};

TEST_F(ContextReceiverTest, OnlyWhatHasChangedIsAskedFor) {
  Sender first(Files{{"a", "/"}, {"a/b", "one"}, {"c", ""}, {"d", "four"}});
  ASSERT_TRUE(Receive(first).ok());
  EXPECT_EQ(first.asked, (std::vector<uint32_t>{1, 2, 3}));
  EXPECT_EQ(Content("a/b") + Content("c") + Content("d"), "onefour");
  Sender same(Files{{"a", "/"}, {"a/b", "one"}, {"c", ""}, {"d", "four"}});
  ASSERT_TRUE(Receive(same).ok());
  EXPECT_TRUE(same.asked.empty());
  Sender changed(Files{{"a", "/"}, {"a/b", "longer"}, {"d", "four"}});
  ASSERT_TRUE(Receive(changed).ok());
  EXPECT_EQ(changed.asked, (std::vector<uint32_t>{1}));
  EXPECT_EQ(Content("a/b") + Content("c") + Content("d"), "longer(missing)four");
}

TEST_F(ContextReceiverTest, AFileThatWasModifiedAMomentAgoIsAskedForAgain) {
  for (int round = 0; round < 2; ++round) {
    Sender sender(Files{{"a", "x"}}, kNow - absl::Milliseconds(1));
    ASSERT_TRUE(Receive(sender).ok());
    EXPECT_EQ(sender.asked.size(), 1u);
  }
}

TEST_F(ContextReceiverTest, OneWithAttributesIsLeftToTheOtherWay) {
  Sender sender(Files{{"a", "x"}});
  (*sender.queue().front().mutable_stat()->mutable_xattrs())["user.note"] = "y";
  EXPECT_EQ(Receive(sender).code(), absl::StatusCode::kUnimplemented);
  Sender foreign(Files{{"a", "x"}});
  (*foreign.queue().front().mutable_stat()->mutable_xattrs())["security.selinux"] = "y";
  EXPECT_TRUE(Receive(foreign).ok());
}

TEST_F(ContextReceiverTest, HostileSendersAreRefused) {
  for (const char* path : {"../x", "/x", "a/../../x", "no/directory", ""}) {
    Sender sender(Files{{path, "x"}});
    EXPECT_EQ(Receive(sender).code(), absl::StatusCode::kInvalidArgument) << path;
  }
  Sender unasked(Files{{"a", "x"}});
  Packet data;
  data.set_type(Packet::PACKET_DATA);
  data.set_id(7);
  unasked.queue().push_front(data);
  EXPECT_EQ(Receive(unasked).code(), absl::StatusCode::kInvalidArgument);
  Sender early(Files{{"a", "x"}});
  Packet fin;
  fin.set_type(Packet::PACKET_FIN);
  early.queue().push_front(fin);
  EXPECT_EQ(Receive(early).code(), absl::StatusCode::kInvalidArgument);
  Sender cut(Files{{"a", "x"}});
  cut.queue().pop_back();
  EXPECT_EQ(Receive(cut).code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace gantry::api::buildkit
