#include "supervisor/http/request_reader.h"

// Beast 1.81 asserts that the last chunk has at least five bytes when it comes in pieces; "0\r\n\r"
// has four. What it does then is right.
#define BOOST_DISABLE_ASSERTS

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>

#include "base/status_macros.h"

namespace gantry::http {
namespace {

namespace beast = boost::beast::http;

constexpr size_t kReadBytes = 16 << 10;

absl::Status ToStatus(const boost::system::error_code& error) {
  if (error == beast::error::header_limit)
    return absl::ResourceExhaustedError("the request's header is too large");
  if (error == beast::error::body_limit)
    return absl::ResourceExhaustedError("the request's body is too large");
  return absl::InvalidArgumentError(absl::StrCat("not an HTTP/1.1 request: ", error.message()));
}

bool IsHexPair(absl::string_view text) {
  return text.size() == 2 && absl::ascii_isxdigit(static_cast<unsigned char>(text[0])) &&
         absl::ascii_isxdigit(static_cast<unsigned char>(text[1]));
}

}  // namespace

const std::string& RequestHead::field(absl::string_view name) const {
  static const std::string* const none = new std::string;
  for (const auto& [key, value] : fields) {
    if (key == name) return value;
  }
  return *none;
}

std::string PercentDecode(absl::string_view text, bool in_query) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && IsHexPair(text.substr(i + 1, 2))) {
      out += absl::HexStringToBytes(text.substr(i + 1, 2));
      i += 2;
    } else {
      out += in_query && text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

Fields ParseQuery(absl::string_view query) {
  Fields out;
  for (absl::string_view part : absl::StrSplit(query, '&', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    out.emplace_back(PercentDecode(pair.first, true), PercentDecode(pair.second, true));
  }
  return out;
}

struct RequestReader::Parser {
  beast::request_parser<beast::buffer_body> beast;
};

RequestReader::RequestReader(Source source, Limits limits)
    : source_(std::move(source)), limits_(limits) {}

RequestReader::~RequestReader() = default;

absl::Status RequestReader::ReadMore() {
  const size_t before = buffered_.size();
  buffered_.resize(before + kReadBytes);
  const absl::StatusOr<size_t> got = source_(buffered_.data() + before, kReadBytes);
  buffered_.resize(before + (got.ok() ? *got : 0));
  GANTRY_RETURN_IF_ERROR(got.status());
  if (*got == 0) return absl::NotFoundError("the connection ended");
  return absl::OkStatus();
}

absl::StatusOr<RequestHead> RequestReader::ReadHead() {
  parser_ = std::make_unique<Parser>();
  auto& parser = parser_->beast;
  parser.header_limit(static_cast<uint32_t>(limits_.head_bytes));
  parser.body_limit(limits_.body_bytes);
  bool begun = !buffered_.empty();  // some bytes of this request have come
  bool starved = !begun;
  while (!parser.is_header_done()) {
    if (starved) {
      const absl::Status more = ReadMore();
      if (absl::IsNotFound(more) && begun)
        return absl::InvalidArgumentError("the connection ended in the middle of a request");
      GANTRY_RETURN_IF_ERROR(more);
    }
    begun = starved = true;
    boost::system::error_code error;
    const size_t used = parser.put(boost::asio::buffer(buffered_.data(), buffered_.size()), error);
    buffered_.erase(0, used);
    if (error && error != beast::error::need_more) return ToStatus(error);
    // What is not parsed yet is part of the header.
    if (!parser.is_header_done() && buffered_.size() > limits_.head_bytes)
      return ToStatus(beast::make_error_code(beast::error::header_limit));
  }

  const auto& message = parser.get();
  RequestHead head;
  head.method = std::string(message.method_string());
  head.target = std::string(message.target());
  const size_t mark = head.target.find('?');
  head.path = head.target.substr(0, mark);
  if (mark != std::string::npos) head.query = head.target.substr(mark + 1);
  head.http_1_0 = message.version() < 11;
  head.keep_alive = message.keep_alive();
  for (const auto& field : message) {
    head.fields.emplace_back(absl::AsciiStrToLower(std::string(field.name_string())),
                             std::string(field.value()));
  }
  if (!head.field("transfer-encoding").empty() && !parser.chunked())
    return absl::InvalidArgumentError("a transfer coding other than chunked is not supported");
  head.expects_continue = absl::EqualsIgnoreCase(head.field("expect"), "100-continue");
  head.has_body = !parser.is_done();
  return head;
}

absl::StatusOr<size_t> RequestReader::ReadBody(char* buffer, size_t size) {
  if (parser_ == nullptr || size == 0) return 0;
  auto& parser = parser_->beast;
  auto& body = parser.get().body();
  body.data = buffer;
  body.size = size;
  body.more = true;
  bool starved = buffered_.empty();
  while (!parser.is_done() && body.size == size) {
    if (starved) {
      const absl::Status more = ReadMore();
      if (absl::IsNotFound(more))
        return absl::InvalidArgumentError("the connection ended inside the body");
      GANTRY_RETURN_IF_ERROR(more);
    }
    boost::system::error_code error;
    const size_t used = parser.put(boost::asio::buffer(buffered_.data(), buffered_.size()), error);
    buffered_.erase(0, used);
    starved = buffered_.empty() || (error == beast::error::need_more && used == 0);
    if (error && error != beast::error::need_more && error != beast::error::need_buffer)
      return ToStatus(error);
    // The line of a chunk's size and its extensions, or trailers.
    if (starved && buffered_.size() > limits_.head_bytes)
      return ToStatus(beast::make_error_code(beast::error::header_limit));
  }
  return size - body.size;
}

bool RequestReader::body_complete() const { return parser_ == nullptr || parser_->beast.is_done(); }

std::string RequestReader::TakeBuffered() { return std::exchange(buffered_, std::string()); }

}  // namespace gantry::http
