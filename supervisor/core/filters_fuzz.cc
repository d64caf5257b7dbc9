// Filters of lists, prunes and events, as any client may ask for them: lines of "key=value".
#include <google/protobuf/repeated_field.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/fuzz/fuzz.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/system.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "supervisor/core/container_filter.h"
#include "supervisor/core/event_feed.h"
#include "supervisor/core/image_filters.h"

namespace gantry {
namespace {

const v1::ContainerSummary& Container() {
  static const auto* const container = [] {
    auto* const one = new v1::ContainerSummary;
    one->set_id("0123456789abcdef");
    one->set_name("web");
    one->set_image("busybox:latest");
    one->set_image_id("sha256:01");
    one->set_state(v1::CONTAINER_STATE_RUNNING);
    one->set_health("healthy");
    (*one->mutable_labels())["a"] = "b";
    one->add_networks("bridge");
    v1::PublishedPort* const port = one->add_ports();
    port->set_private_port(80);
    port->set_public_port(8080);
    port->set_protocol("tcp");
    v1::MountPoint* const mount = one->add_mounts();
    mount->set_type("volume");
    mount->set_name("data");
    mount->set_destination("/data");
    return one;
  }();
  return *container;
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  return {"status=running\nname=^/we.$\nlabel=a=b\nlabel=a",
          "ancestor=busybox\nbefore=x\nsince=y\nexited=0\nhealth=healthy",
          "publish=8080-8090/tcp\nexpose=80\nvolume=/data\nnetwork=bridge\nis-task=false",
          "name=(a*)*$\nname=[\nid=0123",
          "dangling=true\nreference=*/*:*\nuntil=24h\nlabel!=x\nbefore=a",
          "type=container\nevent=die\nevent=exec_start: sh\ncontainer=web\nimage=busybox:latest",
          "until=2020-01-01T00:00:00Z\nuntil=1.5\nuntil=99999999999999999999h"};
}

// Nothing that is asked for stops the program or takes long, and the same is answered twice.
void FuzzOne(absl::string_view bytes) {
  if (bytes.size() > 4096) return;
  google::protobuf::RepeatedPtrField<v1::Filter> filters;
  for (const absl::string_view line : absl::StrSplit(bytes, '\n')) {
    const size_t equals = line.find('=');
    v1::Filter* const filter = filters.Add();
    filter->set_key(std::string(line.substr(0, equals)));
    if (equals != absl::string_view::npos) filter->set_value(std::string(line.substr(equals + 1)));
  }
  const auto created = [](const std::string& name) -> absl::StatusOr<absl::Time> {
    if (name.empty()) return absl::NotFoundError("nothing");
    return absl::FromUnixSeconds(1000000000);
  };
  const auto containers = core::ContainerFilter::Parse(
      filters, created, [](const std::string&) { return std::string("sha256:01"); });
  if (containers.ok()) {
    const bool matches = containers->Matches(Container());
    if (matches != containers->Matches(Container())) abort();
    if (containers->matches_all() && !matches) abort();
  }
  const auto images =
      core::ImageFilters::Parse(filters, absl::FromUnixSeconds(2000000000), created);
  if (images.ok()) {
    v1::ImageSummary image;
    image.set_id("sha256:01");
    image.add_repo_tags("busybox:latest");
    image.add_repo_digests("busybox@sha256:01");
    const bool taken = images->Take(image);
    if (taken && image.repo_tags_size() > 1) abort();
  }
  const auto events = core::EventFilter::Parse(filters);
  if (events.ok()) {
    v1::Event event;
    event.set_type("container");
    event.set_action("die");
    event.set_id("0123");
    (*event.mutable_attributes())["name"] = "web";
    if (events->Matches(event) != events->Matches(event)) abort();
  }
}

}  // namespace gantry
