#include "supervisor/api/cri/spdy_headers.h"

#include <glog/logging.h>
#include <zlib.h>

#include <cstdint>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"

namespace gantry::api::cri {
namespace {

// What the dictionary begins with: each word behind its length.
constexpr const char* kWords[] = {"options",
                                  "head",
                                  "post",
                                  "put",
                                  "delete",
                                  "trace",
                                  "accept",
                                  "accept-charset",
                                  "accept-encoding",
                                  "accept-language",
                                  "accept-ranges",
                                  "age",
                                  "allow",
                                  "authorization",
                                  "cache-control",
                                  "connection",
                                  "content-base",
                                  "content-encoding",
                                  "content-language",
                                  "content-length",
                                  "content-location",
                                  "content-md5",
                                  "content-range",
                                  "content-type",
                                  "date",
                                  "etag",
                                  "expect",
                                  "expires",
                                  "from",
                                  "host",
                                  "if-match",
                                  "if-modified-since",
                                  "if-none-match",
                                  "if-range",
                                  "if-unmodified-since",
                                  "last-modified",
                                  "location",
                                  "max-forwards",
                                  "pragma",
                                  "proxy-authenticate",
                                  "proxy-authorization",
                                  "range",
                                  "referer",
                                  "retry-after",
                                  "server",
                                  "te",
                                  "trailer",
                                  "transfer-encoding",
                                  "upgrade",
                                  "user-agent",
                                  "vary",
                                  "via",
                                  "warning",
                                  "www-authenticate",
                                  "method",
                                  "get",
                                  "status",
                                  "200 OK",
                                  "version",
                                  "HTTP/1.1",
                                  "url",
                                  "public",
                                  "set-cookie",
                                  "keep-alive",
                                  "origin"};
// And its end.
constexpr char kTail[] =
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    "503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 "
    "Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    "application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age="
    "gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
constexpr uLong kDictionaryAdler = 0xe3c6a7c2;

void AppendUint32(std::string& out, size_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xff);
}

const std::string& Dictionary() {
  static const std::string* const text = [] {
    auto* built = new std::string;  // NOLINT(cppcoreguidelines-owning-memory): lives for ever
    for (const absl::string_view word : kWords) {
      AppendUint32(*built, word.size());
      built->append(word.data(), word.size());
    }
    *built += kTail;
    CHECK_EQ(adler32(adler32(0, nullptr, 0), reinterpret_cast<const Bytef*>(built->data()),
                     static_cast<uInt>(built->size())),
             kDictionaryAdler);
    return built;
  }();
  return *text;
}

const Bytef* DictionaryBytes() { return reinterpret_cast<const Bytef*>(Dictionary().data()); }
uInt DictionarySize() { return static_cast<uInt>(Dictionary().size()); }

absl::Status Malformed() { return absl::InvalidArgumentError("not a SPDY header block"); }

// One number or one text of an inflated block.
bool TakeUint32(absl::string_view& rest, uint32_t& value) {
  if (rest.size() < 4) return false;
  value = 0;
  for (int i = 0; i < 4; ++i)
    value = value << 8 | static_cast<uint8_t>(rest[static_cast<size_t>(i)]);
  rest.remove_prefix(4);
  return true;
}

bool TakeText(absl::string_view& rest, std::string& text) {
  uint32_t size = 0;
  if (!TakeUint32(rest, size) || size > rest.size()) return false;
  text.assign(rest.data(), size);
  rest.remove_prefix(size);
  return true;
}

absl::StatusOr<SpdyHeaders> Parse(absl::string_view text) {
  uint32_t count = 0;
  if (!TakeUint32(text, count)) return Malformed();
  if (count > SpdyHeaderReader::kMaxHeaders)
    return absl::ResourceExhaustedError("a SPDY header block has too many headers");
  SpdyHeaders headers;
  for (uint32_t i = 0; i < count; ++i) {
    std::string name, value;
    if (!TakeText(text, name) || !TakeText(text, value) || name.empty()) return Malformed();
    headers.emplace_back(std::move(name), std::move(value));
  }
  if (!text.empty()) return Malformed();
  return headers;
}

}  // namespace

struct SpdyHeaderReader::Stream {
  z_stream z = {};
};

SpdyHeaderReader::SpdyHeaderReader() : stream_(std::make_unique<Stream>()) {
  CHECK_EQ(inflateInit(&stream_->z), Z_OK);
}
SpdyHeaderReader::~SpdyHeaderReader() { inflateEnd(&stream_->z); }

absl::StatusOr<SpdyHeaders> SpdyHeaderReader::Read(absl::string_view block) {
  z_stream& z = stream_->z;
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(block.data()));
  z.avail_in = static_cast<uInt>(block.size());
  std::string text;
  char buffer[4096];
  while (true) {
    z.next_out = reinterpret_cast<Bytef*>(buffer);
    z.avail_out = sizeof buffer;
    int result = inflate(&z, Z_SYNC_FLUSH);
    if (result == Z_NEED_DICT)
      result = inflateSetDictionary(&z, DictionaryBytes(), DictionarySize());
    // Z_BUF_ERROR: all input is used up and nothing is left to be put out.
    if (result != Z_OK && result != Z_BUF_ERROR) return Malformed();
    const size_t got = sizeof buffer - z.avail_out;
    if (text.size() + got > kMaxBytes)
      return absl::ResourceExhaustedError("a SPDY header block is too large");
    text.append(buffer, got);
    if (z.avail_in == 0 && z.avail_out > 0) break;
    if (result == Z_BUF_ERROR) return Malformed();
  }
  return Parse(text);
}

struct SpdyHeaderWriter::Stream {
  z_stream z = {};
};

SpdyHeaderWriter::SpdyHeaderWriter() : stream_(std::make_unique<Stream>()) {
  // The smallest state: what is written here is a few empty blocks.
  CHECK_EQ(deflateInit2(&stream_->z, Z_BEST_SPEED, Z_DEFLATED, 11, 1, Z_DEFAULT_STRATEGY), Z_OK);
  CHECK_EQ(deflateSetDictionary(&stream_->z, DictionaryBytes(), DictionarySize()), Z_OK);
}
SpdyHeaderWriter::~SpdyHeaderWriter() { deflateEnd(&stream_->z); }

std::string SpdyHeaderWriter::Write(const SpdyHeaders& headers) {
  std::string text;
  AppendUint32(text, headers.size());
  for (const auto& [name, value] : headers) {
    AppendUint32(text, name.size());
    text += name;
    AppendUint32(text, value.size());
    text += value;
  }
  z_stream& z = stream_->z;
  z.next_in = reinterpret_cast<Bytef*>(text.data());
  z.avail_in = static_cast<uInt>(text.size());
  std::string out;
  char buffer[1024];
  do {
    z.next_out = reinterpret_cast<Bytef*>(buffer);
    z.avail_out = sizeof buffer;
    deflate(&z, Z_SYNC_FLUSH);
    out.append(buffer, sizeof buffer - z.avail_out);
  } while (z.avail_out == 0);
  return out;
}

}  // namespace gantry::api::cri
