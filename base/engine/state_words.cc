#include "base/engine/state_words.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/engine/proto_time.h"
#include "base/engine/units.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry::engine {

std::string StateWord(int state) {
  switch (static_cast<v1::ContainerState>(state)) {
    case v1::CONTAINER_STATE_CREATED:
      return "created";
    case v1::CONTAINER_STATE_RUNNING:
      return "running";
    case v1::CONTAINER_STATE_PAUSED:
      return "paused";
    case v1::CONTAINER_STATE_RESTARTING:
      return "restarting";
    case v1::CONTAINER_STATE_REMOVING:
      return "removing";
    case v1::CONTAINER_STATE_EXITED:
      return "exited";
    case v1::CONTAINER_STATE_DEAD:
      return "dead";
    case v1::CONTAINER_STATE_UNSPECIFIED:
    default:
      return "unknown";
  }
}

std::string StatusText(const v1::ContainerSummary& c, absl::Time now) {
  const auto since = [&](const google::protobuf::Timestamp& t) {
    return HumanDuration(now - FromProto(t));
  };
  switch (c.state()) {
    case v1::CONTAINER_STATE_CREATED:
      return "Created";
    case v1::CONTAINER_STATE_RUNNING: {
      std::string text = absl::StrCat("Up ", since(c.started_at()));
      if (c.health() == "starting") {
        text += " (health: starting)";
      } else if (!c.health().empty() && c.health() != "none") {
        absl::StrAppend(&text, " (", c.health(), ")");
      }
      return text;
    }
    case v1::CONTAINER_STATE_PAUSED:
      return absl::StrCat("Up ", since(c.started_at()), " (Paused)");
    case v1::CONTAINER_STATE_RESTARTING:
      return absl::StrCat("Restarting (", c.exit_code(), ") ", since(c.finished_at()), " ago");
    case v1::CONTAINER_STATE_REMOVING:
      return "Removal In Progress";
    case v1::CONTAINER_STATE_EXITED:
      return absl::StrCat("Exited (", c.exit_code(), ") ", since(c.finished_at()), " ago");
    case v1::CONTAINER_STATE_DEAD:
      return "Dead";
    case v1::CONTAINER_STATE_UNSPECIFIED:
    default:
      return "Unknown: its shim does not answer";
  }
}

std::string CommandText(const v1::ContainerSummary& container) {
  std::string out;
  for (const std::string& arg : container.command()) {
    const char* quote = !out.empty() && absl::StrContains(arg, " ") ? "'" : "";
    absl::StrAppend(&out, out.empty() ? "" : " ", quote, arg, quote);
  }
  return out;
}

}  // namespace gantry::engine
