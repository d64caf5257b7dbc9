// The results of a build, where its client wants them: images of one or several platforms with what
// is said about them, archives, files.
//
// Used by BuildExecutor only, on its thread.
#ifndef GANTRY_SUPERVISOR_BUILD_BUILD_OUTPUT_H_
#define GANTRY_SUPERVISOR_BUILD_BUILD_OUTPUT_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "base/byte_stream.h"
#include "proto/gantry/v1/builds.pb.h"
#include "supervisor/build/attestation.h"
#include "supervisor/build/build_client.h"
#include "supervisor/build/build_log.h"
#include "supervisor/build/sbom.h"
#include "supervisor/core/build_cache_document.h"
#include "supervisor/core/image_build.h"
#include "supervisor/core/layer_form.h"

namespace gantry::build {

// What was built for one platform.
struct BuiltPlatform {
  content::Platform platform;
  core::BuildRoot root;
  size_t base_layers = 0;
  oci::ImageConfig config;                    // labels and times are as they shall be
  std::vector<core::CacheStep> inline_cache;  // to be written into the configuration
  BuildFacts facts;
  std::optional<PackageList> packages;  // where they are to be listed
};

// A failure of what several places are written to names the place.
class BuildOutput {
 public:
  // Nothing is owned.
  struct Parts {
    const v1::BuildRequest::Open* request;
    core::ImageBuild::Session* session;
    BuildClient* client;
    BuildLog* log;
    CancelToken* cancel;
    std::optional<absl::Time> epoch;
  };
  BuildOutput(const Parts& parts, std::vector<BuiltPlatform> built)
      : parts_(parts), built_(std::move(built)) {}

  // All outputs, in order. The image is that of the first.
  absl::StatusOr<v1::BuiltImage> Write();

 private:
  absl::StatusOr<v1::BuiltImage> WriteOne(const v1::BuildOutput& output, uint32_t place);
  absl::StatusOr<content::Descriptor> WritePlatform(const v1::BuildOutput& output,
                                                    const BuiltPlatform& built);
  absl::StatusOr<content::Descriptor> WriteAttestations(const std::vector<std::string>& names,
                                                        const BuiltPlatform& built,
                                                        const content::Descriptor& image);
  absl::Status SendTrees(const v1::BuildOutput& output, ByteSink& out);
  absl::Status Push(const v1::BuildOutput& output, const std::vector<std::string>& names,
                    const content::Descriptor& target);
  std::vector<std::string> NamesOf(const v1::BuildOutput& output) const;

  const Parts parts_;
  const std::vector<BuiltPlatform> built_;
};

// Pieces of a result that the client takes, as messages. Place 0 is the first output.
class LogSink : public ByteSink {
 public:
  LogSink(BuildLog& log, uint32_t place) : log_(log), place_(place) {}
  absl::Status Write(absl::string_view bytes) override;
  absl::Status Flush();

 private:
  BuildLog& log_;
  const uint32_t place_;
  std::string pending_;
};

// Calls `work` on a thread of its own while this one gives on what it says to the log.
absl::Status WhileTelling(BuildLog& log, CancelToken& cancel,
                          const std::function<absl::Status()>& work);

// The form that a message asks layers to be in.
template <class Message>
core::LayerForm FormOf(const Message& asked) {
  core::LayerForm form;
  switch (asked.compression()) {
    case v1::BuildOutput::GZIP:
      form.compression = Compression::kGzip;
      break;
    case v1::BuildOutput::ZSTD:
      form.compression = Compression::kZstd;
      break;
    case v1::BuildOutput::UNCOMPRESSED:
      form.compression = Compression::kNone;
      break;
    default:
      break;
  }
  form.level = asked.compression_level();
  return form;
}

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_BUILD_OUTPUT_H_
