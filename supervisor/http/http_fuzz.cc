// Requests from anywhere: heads, bodies by length and in chunks, one behind the other.
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/fuzz/fuzz.h"
#include "supervisor/http/request_reader.h"

namespace gantry {
namespace {

// What was read, request by request, when the bytes arrive in pieces of this size.
std::vector<std::string> ReadThrough(absl::string_view bytes, size_t piece) {
  http::RequestReader reader(
      [bytes, piece, at = size_t{0}](char* buffer, size_t size) mutable -> absl::StatusOr<size_t> {
        const size_t n = std::min({size, piece, bytes.size() - at});
        memcpy(buffer, bytes.data() + at, n);
        at += n;
        return n;
      },
      {.head_bytes = 4096, .body_bytes = 8192});
  std::vector<std::string> seen;
  char buffer[64];
  while (true) {
    const absl::StatusOr<http::RequestHead> head = reader.ReadHead();
    if (!head.ok()) return seen;
    http::ParseQuery(head->query);
    std::string one = head->method + " " + head->target;
    for (const auto& [name, value] : head->fields) one += "\n" + name + ": " + value;
    one += "\n\n";
    while (true) {
      const absl::StatusOr<size_t> got = reader.ReadBody(buffer, sizeof buffer);
      if (!got.ok()) return seen;
      if (*got == 0) break;
      one.append(buffer, *got);
    }
    if (!reader.body_complete()) abort();
    seen.push_back(std::move(one));
  }
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  return {
      "GET /v2/?a=b%20c HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\nHEAD / "
      "HTTP/1.0\r\n\r\n",
      "POST /a HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhelloGET / "
      "HTTP/1.1\r\n\r\n",
      "PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=\"y\"\r\nhello\r\n0\r\nA: "
      "b\r\n\r\n",
      "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
  };
}

// How the bytes arrive makes no difference to the requests that are read from them.
void FuzzOne(absl::string_view bytes) {
  if (bytes.size() > 64 << 10) return;
  const std::vector<std::string> whole = ReadThrough(bytes, bytes.size() + 1);
  if (ReadThrough(bytes, 1) != whole || ReadThrough(bytes, 7) != whole) abort();
}

}  // namespace gantry
