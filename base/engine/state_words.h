// The words in which docker tells the state of a container.
#ifndef GANTRY_BASE_ENGINE_STATE_WORDS_H_
#define GANTRY_BASE_ENGINE_STATE_WORDS_H_

#include <string>

#include "absl/time/time.h"

namespace gantry::v1 {
class ContainerSummary;
}  // namespace gantry::v1

namespace gantry::engine {

// "running", "exited", ...; `state` is a gantry.v1.ContainerState.
std::string StateWord(int state);
// "Up 3 minutes (healthy)", "Exited (1) 2 hours ago".
std::string StatusText(const v1::ContainerSummary& container, absl::Time now);
// Path and arguments in one line; an argument with a space in it stands in single quotes.
std::string CommandText(const v1::ContainerSummary& container);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_STATE_WORDS_H_
