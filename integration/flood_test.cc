// Clients that flood their connection with streams: the daemon's memory has a bound, and other
// clients are answered meanwhile.
//
// The flood speaks HTTP/2 by hand: it acknowledges no settings and keeps to no limit, as no client
// library would.
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/unique_fd.h"
#include "integration/api_client.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr int kConnections = 4;
constexpr absl::Duration kFlood = absl::Seconds(6);
// Without bounds it was 2 to 4 GB.
constexpr int64_t kPeakBytes = int64_t{768} << 20;
// A bound for "is answered" and no measure: a machine may be busy.
constexpr absl::Duration kAnswered = absl::Seconds(8);

enum class Flood {
  kOpen,        // streams that say nothing more
  kReset,       // whole requests, each taken back at once
  kZeroWindow,  // whole requests whose answers are not taken
};

std::string Frame(uint8_t type, uint8_t flags, uint32_t stream, const std::string& payload) {
  std::string frame;
  for (int shift = 16; shift >= 0; shift -= 8)
    frame.push_back(static_cast<char>(payload.size() >> shift));
  frame.push_back(static_cast<char>(type));
  frame.push_back(static_cast<char>(flags));
  for (int shift = 24; shift >= 0; shift -= 8) frame.push_back(static_cast<char>(stream >> shift));
  return frame + payload;
}

// A header field that the receiver remembers; `index` of its name in the static table, or 0.
std::string Remembered(uint8_t index, const std::string& name, const std::string& value) {
  std::string field(1, static_cast<char>(0x40 | index));
  if (index == 0) absl::StrAppend(&field, std::string(1, static_cast<char>(name.size())), name);
  return absl::StrCat(field, std::string(1, static_cast<char>(value.size())), value);
}

class Flooder {
 public:
  Flooder(const std::string& socket_path, const std::string& ns, Flood flood) : flood_(flood) {
    fd_.reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    socket_path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const timeval patience = {1, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    EXPECT_EQ(connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    std::string settings;
    if (flood == Flood::kZeroWindow) settings = std::string("\0\4\0\0\0\0", 6);
    Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(4, 0, 0, settings));
    first_ = absl::StrCat(
        "\x83\x86", Remembered(4, "", "/containerd.services.containers.v1.Containers/List"),
        Remembered(1, "", "localhost"), Remembered(31, "", "application/grpc"),
        Remembered(0, "te", "trailers"), Remembered(0, "containerd-namespace", ns));
  }

  // Until the daemon closes the connection or `end` has passed. Takes and drops what comes, unless
  // answers are not to be taken.
  void Run(absl::Time end) {
    std::thread reader;
    if (flood_ != Flood::kZeroWindow) reader = std::thread([this] { Drop(); });
    while (absl::Now() < end && Send(Batch())) {
    }
    // What was sent stays a burden for as long as the connection lasts.
    if (open_) absl::SleepFor(end - absl::Now());
    shutdown(fd_.get(), SHUT_RDWR);
    if (reader.joinable()) reader.join();
  }
  uint32_t streams() const { return next_ / 2; }

 private:
  static constexpr int kBatch = 500;

  std::string Batch() {
    static const std::string no_message("\0\0\0\0\0", 5);
    std::string batch;
    for (int i = 0; i < kBatch; ++i, next_ += 2) {
      batch += Frame(1, 4, next_, next_ == 1 ? first_ : "\x83\x86\xc2\xc1\xc0\xbf\xbe");
      if (flood_ != Flood::kOpen) batch += Frame(0, 1, next_, no_message);
      if (flood_ == Flood::kReset) batch += Frame(3, 0, next_, std::string("\0\0\0\x08", 4));
    }
    return batch;
  }

  bool Send(const std::string& bytes) {
    for (size_t sent = 0; sent < bytes.size();) {
      const ssize_t n = send(fd_.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN) open_ = false;
      if (n < 0) return false;
      sent += static_cast<size_t>(n);
    }
    return true;
  }
  void Drop() {
    char buffer[64 << 10];
    while (recv(fd_.get(), buffer, sizeof(buffer), 0) > 0) {
    }
  }

  const Flood flood_;
  UniqueFd fd_;
  std::string first_;
  uint32_t next_ = 1;
  bool open_ = true;
};

class FloodTest : public testing::TestWithParam<Flood> {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "the daemon needs root";
    bed_ = std::make_unique<Testbed>();
  }

  int64_t Memory() const {
    absl::StatusOr<std::string> status =
        ReadFile(absl::StrCat("/proc/", bed_->daemon_pid(), "/status"), 1 << 16);
    if (!status.ok()) return -1;
    for (const absl::string_view line : absl::StrSplit(*status, '\n')) {
      const std::vector<absl::string_view> words =
          absl::StrSplit(line, absl::ByAnyChar(" \t:"), absl::SkipEmpty());
      int64_t kib = 0;
      if (words.size() == 3 && words[0] == "VmHWM" && absl::SimpleAtoi(words[1], &kib))
        return kib << 10;
    }
    return -1;
  }

  std::unique_ptr<Testbed> bed_;
};

TEST_P(FloodTest, OthersAreAnsweredAndMemoryHasABound) {
  ApiClient client(bed_->address(), bed_->ns());
  const auto call = [&] {
    containers_api::ListContainersResponse response;
    return client.containers().List(client.Context(absl::Seconds(60)).get(), {}, &response);
  };
  ASSERT_TRUE(call().ok());
  const absl::Time end = absl::Now() + kFlood;
  std::vector<std::unique_ptr<Flooder>> flooders;
  std::vector<std::thread> threads;
  for (int i = 0; i < kConnections; ++i) {
    flooders.push_back(std::make_unique<Flooder>(bed_->address(), bed_->ns(), GetParam()));
    threads.emplace_back([flooder = flooders.back().get(), end] { flooder->Run(end); });
  }
  std::vector<absl::Duration> took;
  while (absl::Now() < end) {
    const absl::Time begin = absl::Now();
    const grpc::Status status = call();
    took.push_back(absl::Now() - begin);
    EXPECT_TRUE(status.ok()) << status.error_message();
    absl::SleepFor(absl::Milliseconds(10));
  }
  for (std::thread& thread : threads) thread.join();
  std::sort(took.begin(), took.end());
  uint32_t streams = 0;
  for (const auto& flooder : flooders) streams += flooder->streams();
  printf("%u streams; %zu calls of another client, median %s, longest %s; daemon's peak %lld MiB\n",
         streams, took.size(), absl::FormatDuration(took[took.size() / 2]).c_str(),
         absl::FormatDuration(took.back()).c_str(), static_cast<long long>(Memory() >> 20));
  EXPECT_LT(took.back(), kAnswered);
  EXPECT_LT(Memory(), kPeakBytes);
  // It is over with the flood: nothing of it is still being worked on.
  const absl::Time after = absl::Now();
  EXPECT_TRUE(call().ok());
  EXPECT_LT(absl::Now() - after, kAnswered);
}

INSTANTIATE_TEST_SUITE_P(Floods, FloodTest,
                         testing::Values(Flood::kOpen, Flood::kReset, Flood::kZeroWindow),
                         [](const testing::TestParamInfo<Flood>& flood) {
                           switch (flood.param) {
                             case Flood::kOpen:
                               return "Open";
                             case Flood::kReset:
                               return "Reset";
                             case Flood::kZeroWindow:
                               return "ZeroWindow";
                           }
                           return "";
                         });

}  // namespace
}  // namespace gantry::integration
