// CDI files: text, document, and what is applied of it.
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

#include "base/fuzz/fuzz.h"
#include "supervisor/oci/cdi/apply_edits.h"
#include "supervisor/oci/cdi/cdi_file.h"
#include "supervisor/oci/cdi/yaml_json.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry {

std::vector<std::string> FuzzSeeds() {
  return {
      R"({"cdiVersion":"0.7.0","kind":"v.com/c","containerEdits":{"env":["A=b"]},"devices":[)"
      R"({"name":"a","containerEdits":{"deviceNodes":[{"path":"/dev/null","type":"c","major":1,)"
      R"("minor":3,"fileMode":438}],"mounts":[{"hostPath":"/x","containerPath":"/y"}],"hooks":[)"
      R"({"hookName":"poststop","path":"/h"}],"additionalGids":[4],"intelRdt":{"closID":"x"}}}]})",
      "cdiVersion: 1.1.0\nkind: v.com/c\nannotations: {a: b}\ndevices:\n- name: \"0\"\n"
      "  containerEdits:\n    env:\n    - A=b\n    netDevices:\n    - hostInterfaceName: eth0\n",
      "a: 1\n, \n",
      "a: &x [1, 0x1f, 0666, ~, .5e3]\nb: *x\n",
  };
}

void FuzzOne(absl::string_view bytes) {
  const absl::StatusOr<nlohmann::json> document = oci::cdi::ParseYaml(std::string(bytes), "fuzz");
  if (!document.ok()) return;
  const absl::StatusOr<oci::cdi::CdiFile> file = oci::cdi::ParseCdiFile(*document, "fuzz");
  if (!file.ok()) return;
  for (const oci::cdi::Device& device : file->devices) {
    oci::RuntimeSpec spec;
    (void)oci::cdi::ApplyEdits(device.edits, spec);
    (void)spec.Print();
  }
}

}  // namespace gantry
