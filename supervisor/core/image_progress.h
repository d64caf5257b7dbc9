// Progress of transfers in gantry.v1's words, and what a transfer says in the log of where its time
// went.
//
// Free functions, safe to call from any thread. A null `progress` gives a null function.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_PROGRESS_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_PROGRESS_H_

#include <functional>
#include <string>

#include "absl/time/time.h"

#include "snapshotter/layer_apply.h"
#include "supervisor/distribution/archive.h"
#include "supervisor/distribution/progress.h"
#include "supervisor/distribution/unpacker.h"

namespace gantry::v1 {
class Progress;
enum Progress_State : int;
}  // namespace gantry::v1

namespace gantry::core {

using ProgressFn =
    std::function<void(const v1::Progress&)>;  // from several threads, must not block

distribution::ProgressFn TransferProgress(const ProgressFn& progress, bool uploading);
distribution::UnpackProgressFn UnpackProgressTo(const ProgressFn& progress);
distribution::ArchiveProgressFn ArchiveProgress(const ProgressFn& progress,
                                                v1::Progress_State state);

// "1.250s"
std::string Seconds(absl::Duration duration);

// Where the processor time of a transfer went.
std::string CostOf(absl::Duration receiving, const snapshot::ApplyCost& cost);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_PROGRESS_H_
