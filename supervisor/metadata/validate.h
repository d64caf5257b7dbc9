// What may be stored: identifiers, labels, names. Every door gets the same answers from here.
//
// All kInvalidArgument, naming the object and the rule. Pure functions.
// Semantics: containerd's (identifiers, label limit, update masks).
#ifndef GANTRY_SUPERVISOR_METADATA_VALIDATE_H_
#define GANTRY_SUPERVISOR_METADATA_VALIDATE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace gantry::metadata {

using LabelMap = std::map<std::string, std::string>;

inline constexpr size_t kMaxIdentifierBytes = 76;
inline constexpr size_t kMaxLabelBytes = 4096;  // key and value together
inline constexpr size_t kMaxNameBytes = 4096;   // image names, snapshot keys, refs

// [A-Za-z0-9]+([._-][A-Za-z0-9]+)*, at most 76 bytes. `noun` leads the message: "container id",
// "namespace".
absl::Status ValidateIdentifier(absl::string_view noun, absl::string_view text);

// Anything but nothing, NUL or more than 4096 bytes.
absl::Status ValidateName(absl::string_view noun, absl::string_view text);

absl::Status ValidateLabel(absl::string_view key, absl::string_view value);
absl::Status ValidateLabels(const LabelMap& labels);

// Applies an update of labels: empty `fields` replaces all, otherwise each entry is "labels"
// (replaces all) or "labels.<key>" (that one, removed when absent or empty in `update`). Labels
// with an empty value are not stored. Validates what it stores.
// kInvalidArgument: another field; `noun` names the object in the message.
absl::Status ApplyLabelUpdate(absl::string_view noun, const LabelMap& update,
                              const std::vector<std::string>& fields, LabelMap& labels);

// The labels without those whose value is empty: these count as absent.
LabelMap PresentLabels(const LabelMap& labels);

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_VALIDATE_H_
