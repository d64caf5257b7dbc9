#include "base/errno_status.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace gantry {
namespace {

absl::StatusCode CodeOf(int err) {
  switch (err) {
    case ENOENT:
    case ESRCH:
    case ENXIO:
    case ENODEV:
      return absl::StatusCode::kNotFound;
    case EEXIST:
      return absl::StatusCode::kAlreadyExists;
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::StatusCode::kPermissionDenied;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EMLINK:
    case E2BIG:
    case EFBIG:
    case ENOBUFS:
      return absl::StatusCode::kResourceExhausted;
    case ENOTEMPTY:
    case EBUSY:
    case ENOTDIR:
    case EISDIR:
    case EXDEV:
    case ETXTBSY:
    case ELOOP:
    case EPIPE:
    case ENOTCONN:
    case EADDRINUSE:
      return absl::StatusCode::kFailedPrecondition;
    case EAGAIN:
    case EINTR:
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ENETDOWN:
    case ENETRESET:
      return absl::StatusCode::kUnavailable;
    case ETIMEDOUT:
    case ETIME:
      return absl::StatusCode::kDeadlineExceeded;
    case EINVAL:
    case ENAMETOOLONG:
    case EILSEQ:
    case EBADF:
    case EDOM:
      return absl::StatusCode::kInvalidArgument;
    case ENOSYS:
    case EOPNOTSUPP:
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT:
      return absl::StatusCode::kUnimplemented;
    case ERANGE:
    case EOVERFLOW:
      return absl::StatusCode::kOutOfRange;
    case EIO:
    case EBADMSG:
    case EUCLEAN:
      return absl::StatusCode::kDataLoss;
    case ECANCELED:
      return absl::StatusCode::kCancelled;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

absl::Status ErrnoToStatus(int err, absl::string_view what) {
  if (err == 0) return absl::InternalError(absl::StrCat(what, ": failed without an error number"));
  char buffer[128];
  return absl::Status(CodeOf(err),
                      absl::StrCat(what, ": ", ::strerror_r(err, buffer, sizeof(buffer))));
}

absl::Status WithContext(const absl::Status& status, absl::string_view what) {
  if (status.ok()) return status;
  absl::Status out(status.code(), absl::StrCat(what, ": ", status.message()));
  // Such as the field of a request that it is about.
  status.ForEachPayload(
      [&out](absl::string_view url, const absl::Cord& payload) { out.SetPayload(url, payload); });
  return out;
}

}  // namespace gantry
