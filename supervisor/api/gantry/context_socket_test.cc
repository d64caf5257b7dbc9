#include "supervisor/api/gantry/context_socket.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "base/content_frame.h"
#include "base/file.h"
#include "base/temp_dir.h"
#include "supervisor/build/context_store.h"

namespace gantry::api::gantry_v1 {
namespace {

std::string Frame(uint32_t index, const std::string& bytes, bool end, bool missing = false) {
  std::string header(ContentFrame::kHeaderBytes, '\0');
  ContentFrame{index, static_cast<uint32_t>(bytes.size()), end, missing}.Write(
      reinterpret_cast<unsigned char*>(header.data()));
  return header + bytes;
}

class ContextSocketTest : public testing::Test {
 protected:
  void SetUp() override {
    auto update = store_.Begin("key");
    ASSERT_TRUE(update.ok());
    update_ = *std::move(update);
    for (const char* path : {"a", "b", "c"}) {
      v1::ContextEntry entry;
      entry.set_path(path);
      entry.set_mode(S_IFREG | 0644);
      ASSERT_TRUE(update_->Add(entry).ok());
    }
    ASSERT_TRUE(update_->Wanted().ok());
    auto socket = ContextSocket::Make(directory_.Join("in"));
    ASSERT_TRUE(socket.ok()) << socket.status();
    socket_ = *std::move(socket);
  }
  // What the daemon makes of these bytes.
  absl::Status Send(const std::string& bytes, CancelToken* cancel = nullptr) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, socket_->path().c_str());
    UniqueFd client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    std::thread sender([&] {
      (void)WriteAll(client.get(), bytes);
      if (cancel == nullptr) client = UniqueFd();
    });
    const absl::Status received = socket_->Receive(*update_, 3, cancel, nullptr);
    sender.join();
    return received;
  }

  TempDir directory_;
  build::Trash trash_{directory_.Join("trash")};
  build::ContextStore store_{directory_.Join("contexts"), trash_};
  std::unique_ptr<build::ContextUpdate> update_;
  std::unique_ptr<ContextSocket> socket_;
};

TEST_F(ContextSocketTest, FramesBecomeFiles) {
  const std::string large(ContentFrame::kMaxBytes, 'x');
  ASSERT_TRUE(Send(Frame(1, "one ", false) + Frame(0, large, false) + Frame(1, "two", true) +
                   Frame(0, large + "", false) + Frame(0, "", true) + Frame(2, "", true, true))
                  .ok());
  const auto tree = update_->Finish();
  ASSERT_TRUE(tree.ok()) << tree.status();
  EXPECT_EQ(ReadFile((*tree)->path() + "/a", 8 << 20).value_or(""), large + large);
  EXPECT_EQ(ReadFile((*tree)->path() + "/b", 100).value_or(""), "one two");
  EXPECT_EQ((*tree)->DigestOf("a"), content::Digest::Sha256Of(large + large).str());
  EXPECT_NE(access(((*tree)->path() + "/c").c_str(), F_OK), 0);
}

TEST_F(ContextSocketTest, WhatIsNotAsAgreedEndsIt) {
  EXPECT_TRUE(absl::IsDataLoss(Send(Frame(0, "x", true))));
  std::string header(ContentFrame::kHeaderBytes, '\0');
  ContentFrame{0, ContentFrame::kMaxBytes + 1, false, false}.Write(
      reinterpret_cast<unsigned char*>(header.data()));
  EXPECT_TRUE(absl::IsInvalidArgument(Send(header)));
  EXPECT_TRUE(absl::IsInvalidArgument(Send(Frame(7, "not wanted", true))));
}

TEST_F(ContextSocketTest, ItEndsWithTheCall) {
  CancelToken cancel(absl::Milliseconds(100));
  EXPECT_TRUE(absl::IsDeadlineExceeded(Send(Frame(0, "x", false), &cancel)));
}

TEST_F(ContextSocketTest, OthersDoNotFindIt) {
  struct stat info;
  ASSERT_EQ(stat(directory_.Join("in").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0711u);
  const std::string path = socket_->path();
  EXPECT_GE(path.size(), directory_.Join("in").size() + 33);
  socket_.reset();
  EXPECT_NE(access(path.c_str(), F_OK), 0);
  EXPECT_TRUE(absl::IsInvalidArgument(
      ContextSocket::Make(directory_.Join(std::string(100, 'x'))).status()));
}

}  // namespace
}  // namespace gantry::api::gantry_v1
