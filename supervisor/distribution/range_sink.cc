#include "supervisor/distribution/range_sink.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace gantry::distribution {

std::optional<ContentRange> ParseContentRange(absl::string_view text) {
  if (!absl::ConsumePrefix(&text, "bytes ")) return std::nullopt;
  size_t dash = text.find('-'), slash = text.find('/');
  if (dash == absl::string_view::npos || slash == absl::string_view::npos || slash < dash)
    return std::nullopt;
  ContentRange range;
  if (!absl::SimpleAtoi(text.substr(0, dash), &range.first) ||
      !absl::SimpleAtoi(text.substr(dash + 1, slash - dash - 1), &range.last)) {
    return std::nullopt;
  }
  absl::string_view total = text.substr(slash + 1);
  if (total != "*" && !absl::SimpleAtoi(total, &range.total)) return std::nullopt;
  if (range.first < 0 || range.last < range.first ||
      (range.total >= 0 && range.last >= range.total))
    return std::nullopt;
  return range;
}

absl::Status RangeSink::Begin(const RegistryResponse& head) {
  std::optional<int64_t> length;
  int64_t value = 0;
  if (absl::SimpleAtoi(head.header("content-length"), &value)) length = value;
  if (head.status == 206) {
    std::optional<ContentRange> range = ParseContentRange(head.header("content-range"));
    if (!range) return Wrong("a partial answer without a usable Content-Range");
    if (range->total >= 0 && range->total != size_) {
      return Wrong(
          absl::StrCat("it says the blob has ", range->total, " bytes, the manifest says ", size_));
    }
    if (range->first != offset_ || range->last >= end_) {
      return Wrong(absl::StrCat("asked for bytes ", offset_, "-", end_ - 1, ", it sends ",
                                range->first, "-", range->last));
    }
    if (length && *length != range->last - range->first + 1)
      return Wrong("Content-Length and Content-Range do not agree");
    end_ = range->last + 1;
    partial_ = true;
  } else if (head.status == 200) {
    if (length && *length != size_) {
      return Wrong(
          absl::StrCat("it says the blob has ", *length, " bytes, the manifest says ", size_));
    }
    skip_ = offset_;
    end_ = size_;
  } else {
    return Wrong(absl::StrCat("answers ", head.status, " where a blob is expected"));
  }
  return OnBegin();
}

absl::Status RangeSink::Write(absl::string_view bytes) {
  if (received_ != nullptr) received_->fetch_add(bytes.size(), std::memory_order_relaxed);
  if (skip_ > 0) {
    size_t n = std::min<int64_t>(skip_, bytes.size());
    bytes.remove_prefix(n);
    skip_ -= n;
    if (bytes.empty()) return absl::OkStatus();
  }
  if (static_cast<int64_t>(bytes.size()) > end_ - offset_) {
    return Wrong(absl::StrCat("it sends more than the ", size_, " bytes the manifest says"));
  }
  absl::Status status = Take(offset_, bytes);
  if (!status.ok()) {
    taker_failed_ = true;
    return status;
  }
  offset_ += bytes.size();
  return absl::OkStatus();
}

absl::Status RangeSink::Wrong(absl::string_view why) {
  contradiction_ = absl::DataLossError(why);
  return contradiction_;
}

}  // namespace gantry::distribution
