// errno as absl::Status.

#ifndef GANTRY_BASE_ERRNO_STATUS_H_
#define GANTRY_BASE_ERRNO_STATUS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace gantry {

// "<what>: <text of err>", with the code that says what the caller can do about it:
//   kNotFound            ENOENT, ESRCH, ENXIO, ENODEV
//   kAlreadyExists       EEXIST
//   kPermissionDenied    EACCES, EPERM, EROFS
//   kResourceExhausted   ENOSPC, EDQUOT, EMFILE, ENFILE, ENOMEM, EMLINK, E2BIG, EFBIG
//   kFailedPrecondition  ENOTEMPTY, EBUSY, ENOTDIR, EISDIR, EXDEV, ETXTBSY, ELOOP, EPIPE, ENOTCONN
//   kUnavailable         EAGAIN, EINTR, ECONNREFUSED, ECONNRESET, ECONNABORTED, unreachable hosts
//   kDeadlineExceeded    ETIMEDOUT, ETIME
//   kInvalidArgument     EINVAL, ENAMETOOLONG, EILSEQ, EBADF, EDOM
//   kUnimplemented       ENOSYS, EOPNOTSUPP, EAFNOSUPPORT, EPROTONOSUPPORT
//   kOutOfRange          ERANGE, EOVERFLOW
//   kDataLoss            EIO, EBADMSG, EUCLEAN
//   kCancelled           ECANCELED
//   kInternal            anything else; 0 is a bug of the caller and lands here too
absl::Status ErrnoToStatus(int err, absl::string_view what);

// The same status with "<what>: " put before its message; OK stays OK.
absl::Status WithContext(const absl::Status& status, absl::string_view what);

}  // namespace gantry

#endif  // GANTRY_BASE_ERRNO_STATUS_H_
