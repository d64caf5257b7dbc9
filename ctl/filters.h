// -f/--filter of listings.
#ifndef GANTRY_CTL_FILTERS_H_
#define GANTRY_CTL_FILTERS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

#include "base/engine/value_syntax.h"
#include "ctl/flags.h"
#include "proto/gantry/v1/types.pb.h"

namespace gantry::ctl {

class FilterFlags {
 public:
  void AddFlags(FlagSet& flags) { AddFlag(flags, 'f'); }
  // For verbs whose -f is something else.
  void AddFlag(FlagSet& flags, char letter) {
    flags.Custom("filter", letter, "key=value", "Show only what matches; may be repeated",
                 [this](absl::string_view text) {
                   // An empty variable of a script is no filter, as in docker.
                   if (text.empty()) return absl::OkStatus();
                   texts.push_back(std::string(text));
                   return engine::ParseFilter(text).status();
                 });
  }
  // Into a request's `filters`.
  template <class Repeated>
  absl::Status Fill(Repeated* filters) const {
    for (const std::string& text : texts) {
      auto filter = engine::ParseFilter(text);
      if (!filter.ok()) return filter.status();
      *filters->Add() = *std::move(filter);
    }
    return absl::OkStatus();
  }

  std::vector<std::string> texts;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_FILTERS_H_
