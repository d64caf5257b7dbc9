#include "ctl/compose/value_forms.h"

#include <charconv>
#include <cmath>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "base/engine/units.h"

namespace gantry::compose {
namespace {

absl::Status Expected(const Node& node, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("\"", node.text, "\": expected ", what));
}

// An integer in YAML's and Go's spellings: 0x1f, 0o17, 017, 1_000.
std::optional<int64_t> Integer(absl::string_view text) {
  std::string digits;
  for (char c : text) {
    if (c != '_') digits += c;
  }
  bool negative = false;
  size_t at = 0;
  if (!digits.empty() && (digits[0] == '-' || digits[0] == '+')) {
    negative = digits[0] == '-';
    at = 1;
  }
  int base = 10;
  const absl::string_view rest = absl::string_view(digits).substr(at);
  if (absl::StartsWithIgnoreCase(rest, "0x")) {
    base = 16;
    at += 2;
  } else if (absl::StartsWithIgnoreCase(rest, "0o")) {
    base = 8;
    at += 2;
  } else if (rest.size() > 1 && rest[0] == '0') {
    base = 8;
    at += 1;
  }
  int64_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data() + at, end, value, base);
  if (error != std::errc() || stop != end || digits.size() == at) return std::nullopt;
  return negative ? -value : value;
}

std::string Decimal(double value) {
  char buffer[64];
  const double size = std::fabs(value);
  const bool scientific = size != 0 && (size >= 1e21 || size < 1e-6);
  const auto [end, error] =
      std::to_chars(buffer, buffer + sizeof buffer, value,
                    scientific ? std::chars_format::scientific : std::chars_format::fixed);
  return error == std::errc() ? std::string(buffer, end) : absl::StrCat(value);
}

std::optional<bool> Boolean(absl::string_view text) {
  const std::string word = absl::AsciiStrToLower(text);
  if (word == "true" || word == "y" || word == "yes" || word == "on") return true;
  if (word == "false" || word == "n" || word == "no" || word == "off") return false;
  return std::nullopt;
}

void Become(Node& node, Node::Kind kind, std::string text) {
  node.kind = kind;
  node.text = std::move(text);
  node.interpolated = false;
}

absl::Status Mode(Node& node, bool as_number) {
  // A number is what YAML says that it is; a string holds octal digits.
  std::optional<int64_t> mode;
  if (node.kind == Node::Kind::kNumber) {
    mode = Integer(node.text);
  } else {
    mode = Integer(absl::StartsWith(node.text, "0") ? node.text : absl::StrCat("0", node.text));
  }
  if (!mode.has_value() || *mode < 0 || *mode > 07777) return Expected(node, "a mode like 0440");
  if (as_number) {
    Become(node, Node::Kind::kNumber, absl::StrCat(*mode));
  } else {
    Become(node, Node::Kind::kString, absl::StrFormat("%04o", *mode));
  }
  return absl::OkStatus();
}

}  // namespace

std::string PlainNumber(absl::string_view text) {
  if (const std::optional<int64_t> integer = Integer(text)) return absl::StrCat(*integer);
  double value = 0;
  if (text.empty() || !absl::SimpleAtod(text, &value) || !std::isfinite(value))
    return std::string(text);
  return Decimal(value);
}

std::string GoDuration(absl::Duration duration) {
  if (duration == absl::ZeroDuration()) return "0s";
  std::string out = duration < absl::ZeroDuration() ? "-" : "";
  uint64_t nanos = static_cast<uint64_t>(absl::ToInt64Nanoseconds(absl::AbsDuration(duration)));
  const auto with_fraction = [](uint64_t value, uint64_t unit) {
    std::string digits = absl::StrCat(value / unit);
    if (value % unit != 0) {
      std::string fraction = absl::StrCat(unit + value % unit).substr(1);
      fraction.erase(fraction.find_last_not_of('0') + 1);
      absl::StrAppend(&digits, ".", fraction);
    }
    return digits;
  };
  if (nanos < 1000) return absl::StrCat(out, nanos, "ns");
  if (nanos < 1000'000) return absl::StrCat(out, with_fraction(nanos, 1000), "\u00b5s");
  if (nanos < 1000'000'000) return absl::StrCat(out, with_fraction(nanos, 1000'000), "ms");
  const uint64_t minutes = nanos / 60'000'000'000u;
  if (minutes >= 60) absl::StrAppend(&out, minutes / 60, "h");
  if (minutes > 0) absl::StrAppend(&out, minutes % 60, "m");
  return absl::StrCat(out, with_fraction(nanos % 60'000'000'000u, 1000'000'000), "s");
}

absl::Status PutInForm(Node& node, Form form) {
  if (!node.is_scalar()) return absl::OkStatus();
  switch (form) {
    case Form::kAsWritten:
      break;
    case Form::kText:
      if (node.kind == Node::Kind::kNumber) node.text = PlainNumber(node.text);
      node.kind = Node::Kind::kString;
      break;
    case Form::kBytes: {
      if (node.text == "-1") {
        node.kind = Node::Kind::kString;
        break;
      }
      const absl::StatusOr<int64_t> bytes = engine::ParseBytes(node.text);
      if (!bytes.ok()) return Expected(node, "a size like 512m or 2g");
      Become(node, Node::Kind::kString, absl::StrCat(*bytes));
      break;
    }
    case Form::kDuration: {
      const absl::StatusOr<absl::Duration> duration = engine::ParseDuration(node.text);
      if (!duration.ok()) return Expected(node, "a duration like 90s or 1m30s");
      Become(node, Node::Kind::kString, GoDuration(*duration));
      break;
    }
    case Form::kCount:
      if (node.text == "all") {
        Become(node, Node::Kind::kNumber, "-1");
        break;
      }
      [[fallthrough]];
    case Form::kInteger: {
      const std::optional<int64_t> value = Integer(node.text);
      if (!value.has_value()) return Expected(node, "a whole number");
      Become(node, Node::Kind::kNumber, absl::StrCat(*value));
      break;
    }
    case Form::kDecimal: {
      double value = 0;
      if (!absl::SimpleAtod(node.text, &value) || !std::isfinite(value))
        return Expected(node, "a number");
      Become(node, Node::Kind::kNumber, Decimal(value));
      break;
    }
    case Form::kBoolean: {
      const std::optional<bool> value = Boolean(node.text);
      if (!value.has_value()) return Expected(node, "true or false");
      Become(node, Node::Kind::kBool, *value ? "true" : "false");
      break;
    }
    case Form::kFileMode:
      return Mode(node, /*as_number=*/false);
    case Form::kTmpfsMode:
      return Mode(node, /*as_number=*/true);
  }
  return absl::OkStatus();
}

}  // namespace gantry::compose
