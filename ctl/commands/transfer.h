// What pull, push, load, save, run and create share: credentials for a reference, and progress in
// the style that fits.
#ifndef GANTRY_CTL_COMMANDS_TRANSFER_H_
#define GANTRY_CTL_COMMANDS_TRANSFER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "ctl/progress.h"
#include "ctl/verb.h"

namespace gantry::v1 {
class PulledImage;
class RegistryAuth;
}  // namespace gantry::v1

namespace gantry::ctl {

// --quiet and --format as a style; `out_fd` is where the progress goes.
absl::StatusOr<ProgressView::Style> ProgressStyle(bool quiet, absl::string_view format, int out_fd);

// A view that writes to the output stream (`to_stderr`: the error stream).
ProgressView MakeProgress(Context& context, ProgressView::Style style, bool to_stderr);

// From docker's configuration; empty if it has none for the registry.
absl::StatusOr<v1::RegistryAuth> AuthFor(Context& context, absl::string_view reference);

// Pulls one reference. `on_pulled` is called for each image (several with `all_tags`).
absl::Status PullImage(Context& context, const std::string& reference, const std::string& platform,
                       bool all_tags, ProgressView& view,
                       const std::function<void(const v1::PulledImage&)>& on_pulled);

// True for a reference without a tag and without a digest; a port of the registry is not a tag.
bool NamesNoTag(absl::string_view reference);
// False for what the daemon will refuse to pull or push, so that only the refusal is shown.
bool MayBeReference(absl::string_view reference);
// The repository in full: "docker.io/library/busybox" of "busybox:1.36".
std::string RepositoryOf(absl::string_view reference);

// For run and create: true if the image is here.
absl::StatusOr<bool> ImageExists(Context& context, const std::string& reference);

// "Status: ..." of a pulled image, as docker says it.
std::string PullStatus(const v1::PulledImage& image);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_TRANSFER_H_
