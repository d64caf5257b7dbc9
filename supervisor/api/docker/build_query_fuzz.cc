// The query of POST /build and the credentials in its header. The bytes up to the first line end
// are the query, what follows is the header's value.
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "base/fuzz/fuzz.h"
#include "supervisor/api/docker/build_query.h"
#include "supervisor/api/docker/fuzz_exchange.h"
#include "supervisor/api/docker/request.h"

namespace gantry {

std::vector<std::string> FuzzSeeds() {
  return {
      "t=a:1&t=b/c&dockerfile=D&nocache=1&pull=true&rm=0&target=base&networkmode=host\n",
      "buildargs={\"A\":\"1\",\"B\":null}&labels={\"a\":\"b\"}&memory=1048576&memswap=-1&shmsize="
      "1\n",
      "ulimits=[{\"Name\":\"nofile\",\"Soft\":1,\"Hard\":2}]&cpuperiod=1&cpuquota=-1&cpushares=9\n",
      "extrahosts=a:1.2.3.4&platform=linux/amd64&remote=https://x/y.git%23b&version=1\n",
      "cpusetcpus=0-1&cpusetmems=0&cgroupparent=p&squash=0&q=1\n"
      "eyJodHRwczovL2luZGV4LmRvY2tlci5pby92MS8iOnsidXNlcm5hbWUiOiJ1IiwicGFzc3dvcmQiOiJwIn19",
      "version=2&remote=client-session&session=x\n"};
}

// What is taken is within its limits; the same query asks for the same.
void FuzzOne(absl::string_view bytes) {
  const size_t end = bytes.find('\n');
  const absl::string_view query = bytes.substr(0, end);
  const std::string header(end == absl::string_view::npos ? "" : bytes.substr(end + 1));
  std::string before;
  for (int i = 0; i < 2; ++i) {
    api::docker::FuzzExchange exchange(query, "", {"x-registry-config", header});
    api::docker::Request request(exchange, api::docker::kNewest, {});
    const auto open = api::docker::BuildQuery(request);
    if (!open.ok()) {
      if (open.status().message().empty()) abort();
      return;
    }
    for (const std::string& tag : open->tags()) {
      if (absl::string_view(tag).find('@') != absl::string_view::npos) abort();
    }
    for (const auto& registry : open->registries()) {
      if (absl::string_view(registry.registry()).find('/') != absl::string_view::npos) abort();
    }
    // Maps have no order, so lengths are compared.
    const std::string now = absl::StrCat(open->ByteSizeLong());
    if (i == 1 && now != before) abort();
    before = now;
  }
}

}  // namespace gantry
