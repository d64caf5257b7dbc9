#include "supervisor/metadata/validate.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"

namespace gantry::metadata {
namespace {

// What a person recognises of a text that may be huge.
std::string Excerpt(absl::string_view text) {
  constexpr size_t kShown = 64;
  if (text.size() <= kShown) return absl::CEscape(text);
  return absl::StrCat(absl::CEscape(text.substr(0, kShown)), "...");
}

}  // namespace

absl::Status ValidateIdentifier(absl::string_view noun, absl::string_view text) {
  if (text.empty()) return absl::InvalidArgumentError(absl::StrCat(noun, " must not be empty"));
  if (text.size() > kMaxIdentifierBytes) {
    return absl::InvalidArgumentError(absl::StrCat(noun, " \"", Excerpt(text), "\" is ",
                                                   text.size(), " bytes long, at most ",
                                                   kMaxIdentifierBytes, " are allowed"));
  }
  bool after_separator = true;
  for (char c : text) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c))) {
      after_separator = false;
    } else if (!after_separator && (c == '.' || c == '_' || c == '-')) {
      after_separator = true;
    } else {
      after_separator = true;
      break;
    }
  }
  if (after_separator) {
    return absl::InvalidArgumentError(
        absl::StrCat(noun, " \"", Excerpt(text),
                     "\" must be letters and digits, with single '.', '_' or '-' between them"));
  }
  return absl::OkStatus();
}

absl::Status ValidateName(absl::string_view noun, absl::string_view text) {
  if (text.empty()) return absl::InvalidArgumentError(absl::StrCat(noun, " must not be empty"));
  if (text.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat(noun, " \"", Excerpt(text), "\" is ",
                                                   text.size(), " bytes long, at most ",
                                                   kMaxNameBytes, " are allowed"));
  }
  if (absl::StrContains(text, '\0')) {
    return absl::InvalidArgumentError(
        absl::StrCat(noun, " \"", Excerpt(text), "\" holds a NUL character"));
  }
  return absl::OkStatus();
}

absl::Status ValidateLabel(absl::string_view key, absl::string_view value) {
  if (key.empty()) return absl::InvalidArgumentError("label key must not be empty");
  if (key.size() + value.size() > kMaxLabelBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("label \"", Excerpt(key), "\": key and value are ", key.size() + value.size(),
                     " bytes long, at most ", kMaxLabelBytes, " are allowed"));
  }
  return absl::OkStatus();
}

absl::Status ValidateLabels(const LabelMap& labels) {
  for (const auto& [key, value] : labels) GANTRY_RETURN_IF_ERROR(ValidateLabel(key, value));
  return absl::OkStatus();
}

LabelMap PresentLabels(const LabelMap& labels) {
  LabelMap present;
  for (const auto& [key, value] : labels) {
    if (!value.empty()) present.emplace(key, value);
  }
  return present;
}

absl::Status ApplyLabelUpdate(absl::string_view noun, const LabelMap& update,
                              const std::vector<std::string>& fields, LabelMap& labels) {
  LabelMap result = fields.empty() ? PresentLabels(update) : labels;
  for (absl::string_view field : fields) {
    if (field == "labels") {
      result = PresentLabels(update);
      continue;
    }
    if (!absl::ConsumePrefix(&field, "labels.") || field.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(noun, ": cannot update field \"", Excerpt(field), "\""));
    }
    const std::string key(field);
    auto it = update.find(key);
    if (it == update.end() || it->second.empty()) {
      result.erase(key);
    } else {
      result[key] = it->second;
    }
  }
  GANTRY_RETURN_IF_ERROR(ValidateLabels(result));
  labels = std::move(result);
  return absl::OkStatus();
}

}  // namespace gantry::metadata
