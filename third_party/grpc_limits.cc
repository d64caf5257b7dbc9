// What one HTTP/2 connection may ask of the server.
//
// gRPC 1.51 holds a client to SETTINGS_MAX_CONCURRENT_STREAMS only once the client has acknowledged
// it, and counts a stream out as soon as the client resets it, while the call it began lives on. So
// a client that acknowledges nothing opens streams without end, and one that resets each stream at
// once has calls without end. Here both are bounded:
//
//   streams   a stream beyond kMostStreams is not accepted: what comes for it is ignored, as for a stream that is over
//   resets    a connection that resets more than kMostResets streams, and more than kResetsPerSecond for long, is closed
//
// The linker sends gRPC's calls of the three functions through these wrappers, in programs that
// link this library. The functions are internal to gRPC; //integration:flood_test fails when a
// release calls them no longer.
#include <grpc/slice.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

struct grpc_chttp2_transport;
struct grpc_chttp2_stream;
struct grpc_chttp2_stream_map;

namespace {

// A client has a stream per container that it waits for.
constexpr size_t kMostStreams = 8192;
constexpr double kMostResets = 2000;
constexpr double kResetsPerSecond = 500;

// Where in a transport its map of streams is; negative until the first stream was accepted.
std::atomic<ptrdiff_t> map_offset = -1;
thread_local grpc_chttp2_transport* accepting = nullptr;

// Resets that a connection has left. Those of a transport that is gone are dropped once they are
// full again.
class ResetBudget {
 public:
  bool Take(const grpc_chttp2_transport* transport) {
    const auto now = std::chrono::steady_clock::now();
    absl::MutexLock lock(&mu_);
    if (left_.size() > kMostKept) Sweep(now);
    Left& left = left_.try_emplace(transport, Left{kMostResets, now}).first->second;
    Refill(left, now);
    if (left.resets < 1) return false;
    left.resets -= 1;
    return true;
  }

 private:
  using Instant = std::chrono::steady_clock::time_point;
  struct Left {
    double resets;
    Instant at;
  };
  static constexpr size_t kMostKept = 1024;

  static void Refill(Left& left, Instant now) {
    const double seconds = std::chrono::duration<double>(now - left.at).count();
    left.resets = std::min(kMostResets, left.resets + seconds * kResetsPerSecond);
    left.at = now;
  }
  void Sweep(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    for (auto it = left_.begin(); it != left_.end();) {
      Refill(it->second, now);
      it = it->second.resets >= kMostResets ? left_.erase(it) : std::next(it);
    }
  }

  absl::Mutex mu_;
  std::map<const grpc_chttp2_transport*, Left> left_ ABSL_GUARDED_BY(mu_);
};

ResetBudget& Resets() {
  static auto* const budget =
      new ResetBudget;  // NOLINT(cppcoreguidelines-owning-memory): never freed
  return *budget;
}

}  // namespace

// gRPC's functions, by the names that the linker knows them by.
namespace gantry_grpc_limits {

size_t MapSize(grpc_chttp2_stream_map* map) __asm__(
    "_Z27grpc_chttp2_stream_map_sizeP22grpc_chttp2_stream_map");

void RealAdd(grpc_chttp2_stream_map* map, uint32_t id, void* stream) __asm__(
    "__real__Z26grpc_chttp2_stream_map_addP22grpc_chttp2_stream_mapjPv");
void Add(grpc_chttp2_stream_map* map, uint32_t id,
         void* stream) __asm__("__wrap__Z26grpc_chttp2_stream_map_addP22grpc_chttp2_stream_mapjPv");

grpc_chttp2_stream* RealAccept(grpc_chttp2_transport* transport, uint32_t id) __asm__(
    "__real__Z33grpc_chttp2_parsing_accept_streamP21grpc_chttp2_transportj");
grpc_chttp2_stream* Accept(grpc_chttp2_transport* transport, uint32_t id) __asm__(
    "__wrap__Z33grpc_chttp2_parsing_accept_streamP21grpc_chttp2_transportj");

absl::Status
RealParseReset(void* parser, grpc_chttp2_transport* transport, grpc_chttp2_stream* stream, const grpc_slice& slice, int is_last) __asm__(
    "__real__Z35grpc_chttp2_rst_stream_parser_parse"
    "PvP21grpc_chttp2_transportP18grpc_chttp2_stream"
    "RK10grpc_slicei");
absl::Status
ParseReset(void* parser, grpc_chttp2_transport* transport, grpc_chttp2_stream* stream, const grpc_slice& slice, int is_last) __asm__(
    "__wrap__Z35grpc_chttp2_rst_stream_parser_parse"
    "PvP21grpc_chttp2_transportP18grpc_chttp2_stream"
    "RK10grpc_slicei");

void Add(grpc_chttp2_stream_map* map, uint32_t id, void* stream) {
  if (accepting != nullptr) {
    map_offset.store(reinterpret_cast<char*>(map) - reinterpret_cast<char*>(accepting),
                     std::memory_order_relaxed);
  }
  RealAdd(map, id, stream);
}

grpc_chttp2_stream* Accept(grpc_chttp2_transport* transport, uint32_t id) {
  const ptrdiff_t offset = map_offset.load(std::memory_order_relaxed);
  if (offset < 0) {
    accepting = transport;
    grpc_chttp2_stream* const stream = RealAccept(transport, id);
    accepting = nullptr;
    return stream;
  }
  auto* const map =
      reinterpret_cast<grpc_chttp2_stream_map*>(reinterpret_cast<char*>(transport) + offset);
  return MapSize(map) < kMostStreams ? RealAccept(transport, id) : nullptr;
}

absl::Status ParseReset(void* parser, grpc_chttp2_transport* transport, grpc_chttp2_stream* stream,
                        const grpc_slice& slice, int is_last) {
  if (is_last != 0 && !Resets().Take(transport))
    return absl::ResourceExhaustedError("the client resets too many streams");
  return RealParseReset(parser, transport, stream, slice, is_last);
}

}  // namespace gantry_grpc_limits
