// The filters of a list of containers: docker's `ps` keys.
//
// Immutable after Parse().
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_FILTER_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_FILTER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "proto/gantry/v1/container_views.pb.h"
#include "re2/re2.h"
#include "supervisor/core/filters.h"

namespace gantry::core {

class ContainerFilter {
 public:
  // When the container that a person names was created.
  using FindCreated = CreatedBounds::FindCreated;

  // The id of the image that a person names; "" when there is none. So "ancestor" finds containers
  // that were made by another name of the image.
  using FindImageId = std::function<std::string(const std::string& image)>;

  // kInvalidArgument: unknown key, or a value that its key does not take; what `find` says of a
  // container in "before" or "since".
  static absl::StatusOr<ContainerFilter> Parse(
      const google::protobuf::RepeatedPtrField<v1::Filter>& filters, const FindCreated& find,
      const FindImageId& find_image);

  bool Matches(const v1::ContainerSummary& container) const;

  // Whether states are asked for, so that a list does not leave out what is not active.
  bool names_states() const { return filters_.Has("status") || filters_.Has("exited"); }
  // Whether nothing matches but what runs, or will again by itself.
  bool wants_active_only() const;
  // False: Matches() looks at no more than id, name, state, exit code and time of creation.
  bool needs_record() const { return needs_record_; }
  bool matches_all() const { return matches_all_; }

 private:
  Filters filters_;
  bool needs_record_ = false;
  bool matches_all_ = true;
  std::vector<std::unique_ptr<RE2>> names_;
  std::vector<v1::ContainerState> states_;
  std::vector<uint32_t> exit_codes_;
  CreatedBounds created_;
  std::vector<std::string> ancestors_;  // ids of the images in "ancestor" that exist
  // Of "publish" and of "expose".
  struct Ports {
    uint32_t first;
    uint32_t last;
    std::string protocol;
  };
  static absl::StatusOr<std::vector<Ports>> ParsePorts(absl::string_view key,
                                                       const std::vector<std::string>& values);
  std::vector<Ports> publish_;
  std::vector<Ports> expose_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_FILTER_H_
