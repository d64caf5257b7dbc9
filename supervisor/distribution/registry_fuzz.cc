// What registries and people who name images send: references and authentication challenges, and
// whole archives.
#include <stdlib.h>

#include <string>
#include <vector>

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "base/fuzz/fuzz.h"
#include "content-store/fake_store.h"
#include "supervisor/distribution/archive.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/registry_auth.h"

namespace gantry {
namespace {

std::string TarMember(const std::string& name, const std::string& data) {
  std::string block(512, '\0');
  block.replace(0, name.size(), name);
  block.replace(100, 7, "0000644");
  block.replace(108, 7, "0000000");
  block.replace(116, 7, "0000000");
  char size[13];
  snprintf(size, sizeof size, "%011zo", data.size());
  block.replace(124, 11, size);
  block.replace(136, 11, "00000000000");
  block.replace(148, 8, "        ");
  block[156] = '0';
  block.replace(257, 8, std::string("ustar\00000", 8));
  unsigned sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  char checksum[8];
  snprintf(checksum, sizeof checksum, "%06o", sum);
  block.replace(148, 7, std::string(checksum, 7));
  return block + data + std::string((512 - data.size() % 512) % 512, '\0');
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  const std::string end(1024, '\0');
  return {
      "0docker.io/library/debian:12",
      "0localhost:5000/a/b-c/d__e@sha256:"
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
      "1Bearer "
      "realm=\"https://auth.example/token\",service=\"r\",scope=\"repository:a/b:pull,push\"",
      "1Basic realm=x, Bearer realm=\"a\\\"b\"",
      "2" + TarMember("oci-layout", R"({"imageLayoutVersion":"1.0.0"})") +
          TarMember("index.json", R"({"schemaVersion":2,"manifests":[]})") + end,
      "2" +
          TarMember("manifest.json",
                    R"([{"Config":"c.json","RepoTags":["a:1"],"Layers":["l/layer.tar"]}])") +
          TarMember("c.json",
                    R"({"os":"linux","architecture":"amd64","rootfs":{"diff_ids":["sha256:)"
                    R"(5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"]}})") +
          TarMember("l/layer.tar", end) + end,
  };
}

void FuzzOne(absl::string_view bytes) {
  if (bytes.empty()) return;
  const char which = bytes[0];
  bytes.remove_prefix(1);
  if (which == '0') {
    absl::StatusOr<distribution::Reference> reference = distribution::Reference::Parse(bytes);
    if (!reference.ok()) return;
    // What it prints means the same again, or two doors would see two images.
    absl::StatusOr<distribution::Reference> again =
        distribution::Reference::Parse(reference->canonical());
    if (!again.ok() || again->canonical() != reference->canonical()) abort();
  } else if (which == '1') {
    (void)distribution::ParseChallenges(bytes);
  } else {
    StringSource source{std::string(bytes)};
    content::FakeStore store;
    CancelToken cancel;
    distribution::ImportOptions options;
    options.max_archive_bytes = 4 << 20;
    (void)distribution::ImportArchive(source, store, nullptr, options, cancel, nullptr);
  }
}

}  // namespace gantry
