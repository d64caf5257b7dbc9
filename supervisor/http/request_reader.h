// Reads HTTP/1.1 requests, one after the other, from a stream of bytes. Boost.Beast's parser
// decides what is well formed.
//
// A request is ReadHead(), then ReadBody() until it returns 0, then the next ReadHead(). After an
// error the stream has no further requests. Thread-compatible.
//
// Spec: RFC 9112. Beast refuses requests that two servers could frame differently: a Content-Length
// beside a Transfer-Encoding, two lengths, a bare CR. A transfer coding other than chunked is
// refused here.
#ifndef GANTRY_SUPERVISOR_HTTP_REQUEST_READER_H_
#define GANTRY_SUPERVISOR_HTTP_REQUEST_READER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::http {

using Fields = std::vector<std::pair<std::string, std::string>>;

struct RequestHead {
  std::string method;
  std::string target;  // as sent
  std::string path;    // of the target, not decoded
  std::string query;   // behind the "?", not decoded
  bool http_1_0 = false;
  bool keep_alive = false;
  bool expects_continue = false;  // the client sends the body after "100 Continue" only
  bool has_body = false;
  Fields fields;  // names in lower case, in the order of arrival

  // Value of the first field of this name, given in lower case; "" when there is none.
  const std::string& field(absl::string_view name) const;
};

// "a%20b" -> "a b". In a query "+" is a space; a "%" that no two digits follow stays as it is.
std::string PercentDecode(absl::string_view text, bool in_query);
// The parameters of a query or a form, decoded, in their order.
Fields ParseQuery(absl::string_view query);

class RequestReader {
 public:
  // Reads at most `size` bytes into `buffer`; 0 is the end of the stream.
  using Source = std::function<absl::StatusOr<size_t>(char* buffer, size_t size)>;

  struct Limits {
    size_t head_bytes = 64 << 10;
    uint64_t body_bytes = uint64_t{1} << 62;
  };

  RequestReader(Source source, Limits limits);
  ~RequestReader();
  RequestReader(const RequestReader&) = delete;
  RequestReader& operator=(const RequestReader&) = delete;

  // What is left of the body of the request before is not skipped: it must have been read.
  //   kNotFound           the stream ended before the first byte of a request
  //   kInvalidArgument    not a request
  //   kResourceExhausted  the head is larger than Limits::head_bytes
  //   others              as the source says
  absl::StatusOr<RequestHead> ReadHead();

  // At least one byte, or 0 at the end of the body.
  //   kInvalidArgument    an invalid chunk, or the stream ended inside the body
  //   kResourceExhausted  the body is larger than Limits::body_bytes
  absl::StatusOr<size_t> ReadBody(char* buffer, size_t size);
  bool body_complete() const;

  // Bytes that were read behind the current request; they are the caller's from now on.
  std::string TakeBuffered();
  bool has_buffered() const { return !buffered_.empty(); }

 private:
  struct Parser;
  absl::Status ReadMore();

  const Source source_;
  const Limits limits_;
  std::unique_ptr<Parser> parser_;
  std::string buffered_;
};

}  // namespace gantry::http

#endif  // GANTRY_SUPERVISOR_HTTP_REQUEST_READER_H_
