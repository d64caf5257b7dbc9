#include "supervisor/api/buildkit/context_receiver.h"

#include <sys/stat.h>

#include <deque>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/cancel_token.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "proto/buildkit/fsutil.pb.h"
#include "proto/gantry/v1/builds.pb.h"

namespace gantry::api::buildkit {
namespace {

using fsutil::types::Packet;
using fsutil::types::Stat;

// Contents asked for and not yet there; the update holds no more files open.
constexpr size_t kRequests = 32;
constexpr int64_t kProgressStep = 256 << 10;
constexpr absl::Duration kSettled = absl::Milliseconds(50);

// Bits of a mode as the sender's language has them.
constexpr uint32_t kDirectory = 1u << 31;
constexpr uint32_t kSymlink = 1u << 27;
constexpr uint32_t kDevice = 1u << 26;
constexpr uint32_t kFifo = 1u << 25;
constexpr uint32_t kSocket = 1u << 24;
constexpr uint32_t kSetuid = 1u << 23;
constexpr uint32_t kSetgid = 1u << 22;
constexpr uint32_t kCharacterDevice = 1u << 21;
constexpr uint32_t kSticky = 1u << 20;
constexpr uint32_t kTypes = kDirectory | kSymlink | kDevice | kFifo | kSocket;

// As st_mode; 0: a kind that cannot be sent.
uint32_t ModeOf(uint32_t mode) {
  uint32_t out = mode & 0777;
  if (mode & kSetuid) out |= S_ISUID;
  if (mode & kSetgid) out |= S_ISGID;
  if (mode & kSticky) out |= S_ISVTX;
  switch (mode & kTypes) {
    case 0:
      return out | S_IFREG;
    case kDirectory:
      return out | S_IFDIR;
    case kSymlink:
      return out | S_IFLNK;
    case kFifo:
      return out | S_IFIFO;
    case kDevice:
      return out | (mode & kCharacterDevice ? S_IFCHR : S_IFBLK);
    default:
      return 0;
  }
}

absl::StatusOr<v1::ContextEntry> EntryOf(const Stat& stat, absl::Time now) {
  for (const auto& [name, value] : stat.xattrs()) {
    if (name == "security.capability" || absl::StartsWith(name, "user."))
      return absl::UnimplementedError(absl::StrCat("file \"", ToValidUtf8(stat.path()),
                                                   "\" has the attribute ", ToValidUtf8(name)));
  }
  v1::ContextEntry entry;
  entry.set_path(stat.path());
  entry.set_mode(ModeOf(stat.mode()));
  int64_t seconds = stat.modtime() / 1'000'000'000;
  int64_t nanos = stat.modtime() % 1'000'000'000;
  if (nanos < 0) {
    nanos += 1'000'000'000;
    --seconds;
  }
  entry.set_mtime_seconds(seconds);
  entry.set_mtime_nanos(static_cast<int32_t>(nanos));
  if (S_ISREG(entry.mode())) {
    entry.set_size_bytes(stat.size());
    entry.set_hard_link_to(stat.linkname());
    if (absl::FromUnixNanos(stat.modtime()) < now - kSettled) entry.set_version("fsutil");
  } else if (S_ISLNK(entry.mode())) {
    entry.set_link_target(stat.linkname());
  } else if (S_ISCHR(entry.mode()) || S_ISBLK(entry.mode())) {
    entry.set_device_major(static_cast<uint32_t>(stat.devmajor()));
    entry.set_device_minor(static_cast<uint32_t>(stat.devminor()));
  }
  return entry;
}

class Receiver {
 public:
  Receiver(PacketStream& stream, build::ContextUpdate& update, absl::Time now,
           const std::function<void(int64_t)>& progress)
      : stream_(stream), update_(update), now_(now), progress_(progress) {}

  absl::Status Run(CancelToken* cancel) {
    Packet packet;
    while (true) {
      if (cancel != nullptr) GANTRY_RETURN_IF_ERROR(cancel->Check());
      packet.Clear();
      GANTRY_ASSIGN_OR_RETURN(const bool more, stream_.Read(packet));
      if (!more) {
        if (finished_) break;
        return absl::UnavailableError("the client ended the transfer before its end");
      }
      received_ += static_cast<int64_t>(packet.ByteSizeLong());
      Tell(false);
      switch (packet.type()) {
        case Packet::PACKET_STAT:
          GANTRY_RETURN_IF_ERROR(packet.has_stat() ? OnStat(packet.stat()) : OnLastStat());
          break;
        case Packet::PACKET_DATA:
          GANTRY_RETURN_IF_ERROR(OnData(packet));
          break;
        case Packet::PACKET_FIN:
          if (!fin_sent_) return absl::InvalidArgumentError("the client finished too early");
          finished_ = true;
          break;
        case Packet::PACKET_ERR:
          return absl::FailedPreconditionError(
              absl::StrCat("the client cannot send its files: ", ToValidUtf8(packet.data())));
        default:
          return absl::InvalidArgumentError(
              absl::StrCat("a packet of type ", static_cast<int>(packet.type())));
      }
      GANTRY_RETURN_IF_ERROR(Ask());
    }
    Tell(true);
    return absl::OkStatus();
  }

 private:
  void Tell(bool last) {
    if (!progress_ || (!last && received_ - told_ < kProgressStep)) return;
    told_ = received_;
    progress_(received_);
  }

  absl::Status OnStat(const Stat& stat) {
    if (listed_) return absl::InvalidArgumentError("a file behind the end of the list");
    GANTRY_ASSIGN_OR_RETURN(const v1::ContextEntry entry, EntryOf(stat, now_));
    return update_.Add(entry);
  }

  absl::Status OnLastStat() {
    if (listed_) return absl::InvalidArgumentError("the list of files ended twice");
    listed_ = true;
    GANTRY_ASSIGN_OR_RETURN(const std::vector<uint32_t> wanted, update_.Wanted());
    wanted_.assign(wanted.begin(), wanted.end());
    return absl::OkStatus();
  }

  absl::Status OnData(const Packet& packet) {
    if (incoming_.count(packet.id()) == 0)
      return absl::InvalidArgumentError(
          absl::StrCat("content of file ", packet.id(), ", which was not asked for"));
    if (!packet.data().empty()) return update_.Write(packet.id(), packet.data());
    incoming_.erase(packet.id());
    return update_.Close(packet.id(), false);
  }

  // Asks for more contents, and says so when there is nothing more to ask for.
  absl::Status Ask() {
    while (!wanted_.empty() && incoming_.size() < kRequests) {
      Packet request;
      request.set_type(Packet::PACKET_REQ);
      request.set_id(wanted_.front());
      incoming_.insert(wanted_.front());
      wanted_.pop_front();
      GANTRY_RETURN_IF_ERROR(stream_.Write(request));
    }
    if (!listed_ || !wanted_.empty() || !incoming_.empty() || fin_sent_) return absl::OkStatus();
    fin_sent_ = true;
    Packet fin;
    fin.set_type(Packet::PACKET_FIN);
    return stream_.Write(fin);
  }

  PacketStream& stream_;
  build::ContextUpdate& update_;
  const absl::Time now_;
  const std::function<void(int64_t)>& progress_;
  std::deque<uint32_t> wanted_;
  std::set<uint32_t> incoming_;
  int64_t received_ = 0;
  int64_t told_ = 0;
  bool listed_ = false;
  bool fin_sent_ = false;
  bool finished_ = false;
};

}  // namespace

absl::Status ReceiveContext(PacketStream& stream, build::ContextUpdate& update, absl::Time now,
                            CancelToken* cancel, const std::function<void(int64_t)>& progress) {
  const absl::Status received = Receiver(stream, update, now, progress).Run(cancel);
  if (!received.ok()) {
    Packet error;
    error.set_type(Packet::PACKET_ERR);
    error.set_data(std::string(received.message()));
    // The sender may be gone, or be the one who failed.
    (void)stream.Write(error);
  }
  return received;
}

}  // namespace gantry::api::buildkit
