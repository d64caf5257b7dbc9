// What a fuzz target is: two functions. A source of the target defines both; the BUILD macro
// fuzz_target (fuzz.bzl) makes of it
//   NAME_test   a unit test: the seeds, and a fixed number of mutations of them that are the same in every run
//   NAME        a libFuzzer program, for `./dev fuzz NAME`
#ifndef GANTRY_BASE_FUZZ_FUZZ_H_
#define GANTRY_BASE_FUZZ_FUZZ_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace gantry {

// Good inputs to start from, and bad ones that once did harm.
std::vector<std::string> FuzzSeeds();

// Must return whatever the bytes are. Properties are checked by CHECK or abort().
void FuzzOne(absl::string_view bytes);

}  // namespace gantry

#endif  // GANTRY_BASE_FUZZ_FUZZ_H_
