#include "base/engine/value.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace gantry::engine {
namespace {

constexpr int kMaxDepth = 200;

std::string FormatDouble(double v) {
  if (v == std::floor(v) && std::fabs(v) < 1e15) return absl::StrFormat("%.0f", v);
  // The shortest text that reads back as the same number.
  for (int precision = 6; precision <= 17; ++precision) {
    std::string text = absl::StrFormat("%.*g", precision, v);
    if (std::strtod(text.c_str(), nullptr) == v) return text;
  }
  return absl::StrFormat("%.17g", v);
}

class JsonReader {
 public:
  explicit JsonReader(absl::string_view text) : text_(text) {}

  absl::StatusOr<Value> Document() {
    Value value;
    if (!Read(0, &value)) return Error();
    SkipSpace();
    if (pos_ != text_.size()) {
      problem_ = "text after the document";
      return Error();
    }
    return value;
  }

 private:
  absl::Status Error() const {
    return absl::InvalidArgumentError(absl::StrCat("JSON, byte ", pos_, ": ", problem_));
  }
  bool Fail(const char* problem) {
    problem_ = problem;
    return false;
  }
  void SkipSpace() {
    while (pos_ < text_.size() && (text_[pos_] == ' ' || text_[pos_] == '\t' ||
                                   text_[pos_] == '\n' || text_[pos_] == '\r')) {
      ++pos_;
    }
  }
  bool Take(char c) {
    SkipSpace();
    if (pos_ >= text_.size() || text_[pos_] != c) return false;
    ++pos_;
    return true;
  }
  bool Word(absl::string_view word) {
    if (text_.substr(pos_, word.size()) != word) return Fail("unknown word");
    pos_ += word.size();
    return true;
  }

  bool Read(int depth, Value* out) {
    if (depth > kMaxDepth) return Fail("nested too deep");
    SkipSpace();
    if (pos_ >= text_.size()) return Fail("ends too early");
    switch (text_[pos_]) {
      case '{':
        return ReadObject(depth, out);
      case '[':
        return ReadList(depth, out);
      case '"': {
        std::string text;
        if (!ReadString(&text)) return false;
        *out = Value(std::move(text));
        return true;
      }
      case 't':
        *out = Value(true);
        return Word("true");
      case 'f':
        *out = Value(false);
        return Word("false");
      case 'n':
        *out = Value();
        return Word("null");
      default:
        return ReadNumber(out);
    }
  }

  bool ReadObject(int depth, Value* out) {
    ++pos_;
    Value object = Value::EmptyObject();
    if (!Take('}')) {
      do {
        SkipSpace();
        std::string key;
        if (pos_ >= text_.size() || text_[pos_] != '"') return Fail("expected a field name");
        if (!ReadString(&key)) return false;
        if (!Take(':')) return Fail("expected ':'");
        Value value;
        if (!Read(depth + 1, &value)) return false;
        object.Set(key, std::move(value));
      } while (Take(','));
      if (!Take('}')) return Fail("expected ',' or '}'");
    }
    *out = std::move(object);
    return true;
  }

  bool ReadList(int depth, Value* out) {
    ++pos_;
    Value::List list;
    if (!Take(']')) {
      do {
        Value value;
        if (!Read(depth + 1, &value)) return false;
        list.push_back(std::move(value));
      } while (Take(','));
      if (!Take(']')) return Fail("expected ',' or ']'");
    }
    *out = Value(std::move(list));
    return true;
  }

  bool ReadHex4(uint32_t* out) {
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++pos_) {
      if (pos_ >= text_.size()) return Fail("ends inside an escape");
      const char c = text_[pos_];
      int digit;
      if (c >= '0' && c <= '9') {
        digit = c - '0';
      } else if (c >= 'a' && c <= 'f') {
        digit = c - 'a' + 10;
      } else if (c >= 'A' && c <= 'F') {
        digit = c - 'A' + 10;
      } else {
        return Fail("bad \\u escape");
      }
      code = code * 16 + static_cast<uint32_t>(digit);
    }
    *out = code;
    return true;
  }

  static void AppendUtf8(uint32_t c, std::string* out) {
    if (c < 0x80) {
      out->push_back(static_cast<char>(c));
    } else if (c < 0x800) {
      out->push_back(static_cast<char>(0xC0 | (c >> 6)));
      out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
    } else if (c < 0x10000) {
      out->push_back(static_cast<char>(0xE0 | (c >> 12)));
      out->push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3F)));
      out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
    } else {
      out->push_back(static_cast<char>(0xF0 | (c >> 18)));
      out->push_back(static_cast<char>(0x80 | ((c >> 12) & 0x3F)));
      out->push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3F)));
      out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
    }
  }

  bool ReadString(std::string* out) {
    ++pos_;
    while (pos_ < text_.size()) {
      const char c = text_[pos_++];
      if (c == '"') return true;
      if (c != '\\') {
        out->push_back(c);
        continue;
      }
      if (pos_ >= text_.size()) break;
      const char e = text_[pos_++];
      switch (e) {
        case 'n':
          out->push_back('\n');
          break;
        case 't':
          out->push_back('\t');
          break;
        case 'r':
          out->push_back('\r');
          break;
        case 'b':
          out->push_back('\b');
          break;
        case 'f':
          out->push_back('\f');
          break;
        case 'u': {
          uint32_t code;
          if (!ReadHex4(&code)) return false;
          if (code >= 0xD800 && code < 0xDC00 && text_.substr(pos_, 2) == "\\u") {
            pos_ += 2;
            uint32_t low;
            if (!ReadHex4(&low)) return false;
            code = 0x10000 + ((code - 0xD800) << 10) + ((low - 0xDC00) & 0x3FF);
          }
          AppendUtf8(code, out);
          break;
        }
        case '"':
        case '\\':
        case '/':
          out->push_back(e);
          break;
        default:
          return Fail("unknown escape");
      }
    }
    return Fail("string without an end");
  }

  bool ReadNumber(Value* out) {
    const size_t start = pos_;
    bool integer = true;
    while (pos_ < text_.size()) {
      const char c = text_[pos_];
      if (c == '.' || c == 'e' || c == 'E') integer = false;
      if ((c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E') {
        ++pos_;
      } else {
        break;
      }
    }
    const std::string text(text_.substr(start, pos_ - start));
    if (text.empty()) return Fail("unexpected character");
    char* end = nullptr;
    if (integer) {
      errno = 0;
      if (text[0] == '-') {
        const long long v = std::strtoll(text.c_str(), &end, 10);
        if (*end == '\0' && errno == 0) {
          *out = Value(static_cast<int64_t>(v));
          return true;
        }
      } else {
        const unsigned long long v = std::strtoull(text.c_str(), &end, 10);
        if (*end == '\0' && errno == 0) {
          *out = v <= INT64_MAX ? Value(static_cast<int64_t>(v)) : Value(static_cast<uint64_t>(v));
          return true;
        }
      }
    }
    const double v = std::strtod(text.c_str(), &end);
    if (*end != '\0') return Fail("bad number");
    *out = Value(v);
    return true;
  }

  absl::string_view text_;
  size_t pos_ = 0;
  const char* problem_ = "";
};

}  // namespace

Value Value::EmptyObject() {
  Value v;
  v.data_ = Object();
  return v;
}

Value Value::Strings(const std::vector<std::string>& values) { return StringRange(values); }

Value Value::FromMap(const std::map<std::string, std::string>& values) {
  Value v = EmptyObject();
  for (const auto& [key, value] : values) v.Set(key, value);
  return v;
}

int64_t Value::integer() const {
  if (const auto* u = std::get_if<uint64_t>(&data_)) return static_cast<int64_t>(*u);
  if (const auto* d = std::get_if<double>(&data_)) return static_cast<int64_t>(*d);
  return std::get<int64_t>(data_);
}

double Value::number() const {
  if (const auto* u = std::get_if<uint64_t>(&data_)) return static_cast<double>(*u);
  if (const auto* i = std::get_if<int64_t>(&data_)) return static_cast<double>(*i);
  return std::get<double>(data_);
}

Value& Value::Set(absl::string_view key, Value value) {
  if (is_null()) data_ = Object();
  auto& fields = std::get<Object>(data_).fields;
  for (auto& [name, old] : fields) {
    if (name == key) {
      old = std::move(value);
      return *this;
    }
  }
  fields.emplace_back(std::string(key), std::move(value));
  return *this;
}

Value& Value::Append(Value value) {
  if (is_null()) data_ = List();
  std::get<List>(data_).push_back(std::move(value));
  return *this;
}

const Value* Value::Find(absl::string_view key) const {
  const auto* object = std::get_if<Object>(&data_);
  if (object == nullptr) return nullptr;
  for (const auto& [name, value] : object->fields) {
    if (name == key) return &value;
  }
  return nullptr;
}

bool Value::Truth() const {
  if (is_null()) return false;
  if (is_bool()) return std::get<bool>(data_);
  if (is_number()) return number() != 0;
  if (is_string()) return !string().empty();
  if (is_list()) return !list().empty();
  return !object().fields.empty();
}

std::string Value::Text() const {
  if (is_null()) return "<no value>";
  if (is_bool()) return std::get<bool>(data_) ? "true" : "false";
  if (const auto* i = std::get_if<int64_t>(&data_)) return absl::StrCat(*i);
  if (const auto* u = std::get_if<uint64_t>(&data_)) return absl::StrCat(*u);
  if (const auto* d = std::get_if<double>(&data_)) return FormatDouble(*d);
  if (is_string()) return string();
  std::string out;
  if (is_list()) {
    for (const Value& v : list()) absl::StrAppend(&out, out.empty() ? "" : " ", v.Text());
    return absl::StrCat("[", out, "]");
  }
  for (const auto& [key, v] : object().fields) {
    absl::StrAppend(&out, out.empty() ? "" : " ", key, ":", v.Text());
  }
  return absl::StrCat("map[", out, "]");
}

void Value::AppendJson(int indent, int depth, std::string* out) const {
  const auto newline = [&](int level) {
    if (indent > 0) {
      out->push_back('\n');
      out->append(static_cast<size_t>(indent * level), ' ');
    }
  };
  if (is_null()) {
    out->append("null");
  } else if (is_string()) {
    out->append(JsonQuote(string()));
  } else if (is_list()) {
    out->push_back('[');
    bool first = true;
    for (const Value& v : list()) {
      if (!first) out->push_back(',');
      first = false;
      newline(depth + 1);
      v.AppendJson(indent, depth + 1, out);
    }
    if (!first) newline(depth);
    out->push_back(']');
  } else if (is_object()) {
    out->push_back('{');
    bool first = true;
    for (const auto& [key, v] : object().fields) {
      if (!first) out->push_back(',');
      first = false;
      newline(depth + 1);
      out->append(JsonQuote(key));
      out->append(indent > 0 ? ": " : ":");
      v.AppendJson(indent, depth + 1, out);
    }
    if (!first) newline(depth);
    out->push_back('}');
  } else {
    out->append(Text());
  }
}

std::string Value::ToJson() const {
  std::string out;
  AppendJson(0, 0, &out);
  return out;
}

std::string Value::ToPrettyJson(int indent) const {
  std::string out;
  AppendJson(indent, 0, &out);
  return out;
}

absl::StatusOr<Value> Value::FromJson(absl::string_view text) {
  return JsonReader(text).Document();
}

std::string JsonQuote(absl::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += absl::StrFormat("\\u%04x", static_cast<unsigned>(c));
        } else {
          out.push_back(c);
        }
    }
  }
  out.push_back('"');
  return out;
}

}  // namespace gantry::engine
