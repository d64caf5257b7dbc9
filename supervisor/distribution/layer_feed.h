// Where the bytes of a layer go besides the content store, while they arrive: to the thread that
// unpacks them.
//
// A LayerSink is thread-safe; a LayerFeed has one writer.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_LAYER_FEED_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_LAYER_FEED_H_

#include <memory>

#include "absl/strings/string_view.h"

#include "content-store/descriptor.h"

namespace gantry::distribution {

class LayerFeed {
 public:
  // Not finished: the bytes were damaged or will not come; whatever was made of them is dropped.
  virtual ~LayerFeed() = default;

  // The next bytes, compressed as they came. Never waits for the reader and never fails: a reader
  // that falls behind takes the rest from the content store after Finish().
  virtual void Write(absl::string_view bytes) = 0;

  // All bytes were written, are verified and committed to the content store as `digest`.
  virtual void Finish(const content::Digest& digest) = 0;
};

class LayerSink {
 public:
  virtual ~LayerSink() = default;

  // `layer` names what is coming: for a pull its digest, for an import at least its media type (the
  // digest may be empty). `diff_id` is set when the image's configuration is known already.
  // Null: the bytes are not wanted (present already, being unpacked by another, or no layer).
  virtual std::unique_ptr<LayerFeed> OpenFeed(const content::Descriptor& layer,
                                              const content::Digest& diff_id) = 0;
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_LAYER_FEED_H_
