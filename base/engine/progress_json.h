// Progress of work on images as the messages of docker's Engine API: one JSON object per line.
//
// A transfer says what it does blob by blob and may do several things to a blob at once; docker's
// clients show one line per layer, whose words come in a fixed order. A LayerProgress keeps that
// order: what would go back is left out, and so is everything but layers. Of an image that is all
// here nothing is said.
#ifndef GANTRY_BASE_ENGINE_PROGRESS_JSON_H_
#define GANTRY_BASE_ENGINE_PROGRESS_JSON_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "base/engine/value.h"

namespace gantry::v1 {
class Progress;
}

namespace gantry::engine {

// A message as it goes out: JSON and CRLF.
std::string ProgressLine(const Value& message);

// {"status":...,"id":...}; no id where it is "".
std::string StatusLine(absl::string_view status, absl::string_view id = "");
// {"status":...,"progressDetail":{...},"progress":"[=>  ] ...","id":...}. The detail is empty
// without a number of bytes.
std::string StepLine(absl::string_view status, absl::string_view id, int64_t current = 0,
                     int64_t total = 0);
// {"stream":...}
std::string StreamLine(absl::string_view text);
// {"errorDetail":{"message":...},"error":...}: the last message of work that failed.
std::string ErrorLine(absl::string_view message);
// {"progressDetail":{},"aux":...}
std::string AuxLine(Value aux);

// "[=====>    ]  1.2MB/3.4MB"
std::string ProgressBar(int64_t current, int64_t total);

// Thread-compatible.
class LayerProgress {
 public:
  enum class Work { kPull, kPush, kLoad };

  explicit LayerProgress(Work work) : work_(work) {}

  // The lines to send for this step; mostly one or none.
  std::vector<std::string> Lines(const v1::Progress& step);

 private:
  // In the order in which they come.
  enum class Stage { kUnknown, kKnown, kMoving, kVerifying, kMoved, kUnpacking, kDone };

  std::vector<std::string> LoadLines(const v1::Progress& step);
  std::vector<std::string> PullLines(const v1::Progress& step, const std::string& id);
  std::vector<std::string> PushLines(const v1::Progress& step, const std::string& id);
  // Whether the layer is not there yet; if so it is from now on.
  bool Reach(const std::string& id, Stage stage);

  const Work work_;
  std::map<std::string, Stage> stages_;  // by short id
  // Of layers that are here, until one is not.
  std::vector<std::string> held_back_;
  bool something_came_ = false;
};

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_PROGRESS_JSON_H_
