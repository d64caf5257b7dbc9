// What a shim reads from others: launch requests, exit records that a power cut tore, stdio URIs,
// specs, the words of runtimes, /proc.
#include <stdlib.h>

#include <string>
#include <vector>

#include "base/fuzz/fuzz.h"
#include "shim/cgroup.h"
#include "shim/exit_record.h"
#include "shim/oci_runtime.h"
#include "shim/spec_facts.h"
#include "shim/stdio_uri.h"
#include "shim/zygote_protocol.h"

namespace gantry {

std::vector<std::string> FuzzSeeds() {
  shim::LaunchRequest request;
  request.name_space = "default";
  request.id = "abc";
  request.bundle = "/run/gantry/tasks/default/abc";
  request.socket_path = "/run/gantry/tasks/default/abc/shim.sock";
  shim::LaunchReply reply;
  reply.error = "no";
  shim::ExitRecord record;
  record.id = "abc";
  record.pid = 7;
  record.exited_at = absl::UnixEpoch();
  return {
      "0" + shim::EncodeLaunchRequest(request).value_or(""),
      "1" + shim::EncodeLaunchReply(reply),
      "2" + shim::EncodeExitRecord(record),
      "3binary:///usr/bin/log?a=b&c=d",
      "3file:///var/log/x",
      "4{\"process\":{\"terminal\":true},\"linux\":{\"cgroupsPath\":\"/a\",\"namespaces\":"
      "[{\"type\":\"pid\"}]},\"hooks\":{\"poststop\":[{\"path\":\"/x\"}]}}",
      "5{\"level\":\"error\",\"msg\":\"executable file `x` not found in $PATH: No such file or "
      "directory\"}\n",
      "612:memory:/a\n0::/b\n",
  };
}

void FuzzOne(absl::string_view bytes) {
  if (bytes.empty()) return;
  const char which = bytes[0];
  bytes.remove_prefix(1);
  switch (which) {
    case '0':
      if (absl::StatusOr<shim::LaunchRequest> request = shim::DecodeLaunchRequest(bytes);
          request.ok() && !shim::CheckLaunchRequest(*request).ok()) {
        abort();
      }
      break;
    case '1':
      (void)shim::DecodeLaunchReply(bytes);
      break;
    case '2':
      (void)shim::DecodeExitRecord(bytes);
      break;
    case '3':
      (void)shim::ParseStdioUri(bytes);
      break;
    case '4':
      (void)shim::ParseSpecFacts(bytes);
      break;
    case '5':
      (void)shim::NormaliseRuntimeError(shim::LastRuntimeError(bytes));
      break;
    default:
      (void)shim::Cgroup::Parse(bytes,
                                "30 20 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup "
                                "rw,memory\n");
      (void)shim::Cgroup::Parse("1:memory:/a\n", bytes);
      break;
  }
}

}  // namespace gantry
