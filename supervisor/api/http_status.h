// The one table between our statuses and HTTP's.
#ifndef GANTRY_SUPERVISOR_API_HTTP_STATUS_H_
#define GANTRY_SUPERVISOR_API_HTTP_STATUS_H_

#include "absl/status/status.h"

namespace gantry::api {

// 200 for OK.
int HttpStatus(const absl::Status& status);

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_HTTP_STATUS_H_
