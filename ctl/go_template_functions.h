// The functions that a template may call, except "index", which follows a path in the document.
//
// Thread-safe: functions without state. kInvalidArgument: wrong number or kind of arguments.
#ifndef GANTRY_CTL_GO_TEMPLATE_FUNCTIONS_H_
#define GANTRY_CTL_GO_TEMPLATE_FUNCTIONS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/engine/value.h"

namespace gantry::ctl {

// Also true for "index".
bool IsTemplateFunction(absl::string_view name);

absl::StatusOr<engine::Value> CallTemplateFunction(const std::string& name,
                                                   const std::vector<engine::Value>& args);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_GO_TEMPLATE_FUNCTIONS_H_
