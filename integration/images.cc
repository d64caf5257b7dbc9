#include "integration/images.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "openssl/evp.h"
#include "openssl/sha.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/subprocess.h"

namespace gantry::integration {
namespace {

using nlohmann::json;

absl::Status Run(std::vector<std::string> argv, absl::Duration timeout = absl::Minutes(2)) {
  const std::string what = absl::StrJoin(argv, " ");
  Command command;
  command.argv = std::move(argv);
  command.timeout = timeout;
  GANTRY_ASSIGN_OR_RETURN(const CommandResult result, RunCommand(command));
  if (result.status.ok()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(what, ": ", result.status.ToString(), ": ", result.err));
}

absl::Status TarDirectory(const std::string& directory, const std::string& archive,
                          bool keep_times = false) {
  return Run({"tar", "--create", "--file", archive, "--directory", directory, "--numeric-owner",
              "--sort=name", keep_times ? "--format=posix" : "--mtime=@1700000000", "--xattrs",
              "--xattrs-include=*", "."},
             absl::Minutes(5));
}

// One layer as tar file: where it lies and what it is called.
struct Layer {
  std::string path;
  std::string diff_id;
  std::string digest;
  int64_t size_bytes = 0;
};

absl::StatusOr<int64_t> SizeOf(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return ErrnoToStatus(errno, path);
  return info.st_size;
}

absl::StatusOr<std::vector<Layer>> MakeLayers(const std::string& work,
                                              const std::vector<std::string>& directories,
                                              const std::string& compression, bool keep_times) {
  std::vector<Layer> layers;
  for (const std::string& directory : directories) {
    Layer layer;
    layer.path = absl::StrCat(work, "/layer", layers.size(), ".tar");
    GANTRY_RETURN_IF_ERROR(TarDirectory(directory, layer.path, keep_times));
    GANTRY_ASSIGN_OR_RETURN(layer.diff_id, Sha256OfFile(layer.path));
    layer.digest = layer.diff_id;
    if (compression == "gzip") {
      GANTRY_RETURN_IF_ERROR(Run({"gzip", "-n", "-1", layer.path}));
      layer.path += ".gz";
      GANTRY_ASSIGN_OR_RETURN(layer.digest, Sha256OfFile(layer.path));
    } else if (compression == "zstd") {
      GANTRY_RETURN_IF_ERROR(Run({"zstd", "-q", "-1", "--rm", layer.path}));
      layer.path += ".zst";
      GANTRY_ASSIGN_OR_RETURN(layer.digest, Sha256OfFile(layer.path));
    }
    GANTRY_ASSIGN_OR_RETURN(layer.size_bytes, SizeOf(layer.path));
    layers.push_back(std::move(layer));
  }
  return layers;
}

std::string ConfigJson(const std::vector<Layer>& layers, const ImageOptions& options) {
  json config;
  config["architecture"] = "amd64";
  config["os"] = "linux";
  config["created"] = "2023-11-14T22:13:20Z";
  for (const auto& [name, value] : options.env)
    config["config"]["Env"].push_back(absl::StrCat(name, "=", value));
  config["config"]["Cmd"] = options.command;
  config["rootfs"]["type"] = "layers";
  config["rootfs"]["diff_ids"] = json::array();
  for (const Layer& layer : layers) {
    config["rootfs"]["diff_ids"].push_back(options.correct_diff_id ? layer.diff_id
                                                                   : Sha256(layer.diff_id));
    config["history"].push_back(
        {{"created", "2023-11-14T22:13:20Z"}, {"created_by", "integration test"}});
  }
  return config.dump();
}

std::string HexOf(const std::string& digest) { return digest.substr(digest.find(':') + 1); }

absl::StatusOr<std::string> WorkDirectory(const std::string& archive) {
  std::string work = archive + ".work";
  GANTRY_RETURN_IF_ERROR(RemoveTree(work));
  GANTRY_RETURN_IF_ERROR(MakeDirectories(work + "/out", 0755));
  return work;
}

}  // namespace

std::string Sha256(absl::string_view bytes) {
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), hash);
  return absl::StrCat("sha256:", absl::BytesToHexString(absl::string_view(
                                     reinterpret_cast<const char*>(hash), sizeof(hash))));
}

absl::StatusOr<std::string> Sha256OfFile(const std::string& path) {
  std::unique_ptr<FILE, int (*)(FILE*)> file(fopen(path.c_str(), "re"), fclose);
  if (!file) return ErrnoToStatus(errno, path);
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  std::string buffer(1 << 20, '\0');
  for (size_t n; (n = fread(buffer.data(), 1, buffer.size(), file.get())) > 0;) {
    EVP_DigestUpdate(context.get(), buffer.data(), n);
  }
  unsigned char hash[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_DigestFinal_ex(context.get(), hash, &size);
  return absl::StrCat("sha256:", absl::BytesToHexString(
                                     absl::string_view(reinterpret_cast<const char*>(hash), size)));
}

absl::Status MakeBusyboxRoot(const std::string& directory) {
  for (const char* name :
       {"/bin", "/etc", "/tmp", "/root", "/proc", "/sys", "/dev", "/var/lib", "/usr/bin"}) {
    GANTRY_RETURN_IF_ERROR(MakeDirectories(directory + name, 0755));
  }
  if (chmod((directory + "/tmp").c_str(), 01777) != 0) return ErrnoToStatus(errno, "chmod /tmp");
  GANTRY_RETURN_IF_ERROR(Run({"cp", "/bin/busybox", directory + "/bin/busybox"}));
  GANTRY_RETURN_IF_ERROR(
      WriteFile(directory + "/etc/passwd",
                "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"));
  GANTRY_RETURN_IF_ERROR(WriteFile(directory + "/etc/group", "root:x:0:\nnogroup:x:65534:\n"));
  Command command;
  command.argv = {"/bin/busybox", "--list"};
  GANTRY_ASSIGN_OR_RETURN(const CommandResult applets, RunCommand(command));
  for (const absl::string_view applet : absl::StrSplit(applets.out, '\n', absl::SkipEmpty())) {
    if (applet == "busybox") continue;
    const std::string link = absl::StrCat(directory, "/bin/", applet);
    if (symlink("busybox", link.c_str()) != 0 && errno != EEXIST) return ErrnoToStatus(errno, link);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> DebianRoot() {
  const char* cache = getenv("GANTRY_TEST_CACHE");
  const std::string base = cache != nullptr ? cache : "/var/cache/gantry-test";
  const std::string root = base + "/debian";
  if (access((root + "/etc/debian_version").c_str(), F_OK) == 0) return root;
  if (access("/usr/sbin/debootstrap", X_OK) != 0)
    return absl::UnavailableError("debootstrap is not installed");
  GANTRY_RETURN_IF_ERROR(MakeDirectories(base, 0755));
  // Made aside: half a root must not be taken for one.
  const std::string making = absl::StrCat(base, "/debian.", getpid());
  const absl::Status made =
      Run({"debootstrap", "--variant=minbase", "bookworm", making}, absl::Minutes(10));
  if (!made.ok()) {
    (void)RemoveTree(making);
    return absl::UnavailableError(made.message());
  }
  if (rename(making.c_str(), root.c_str()) != 0) {
    (void)RemoveTree(making);
    if (access((root + "/etc/debian_version").c_str(), F_OK) != 0)
      return ErrnoToStatus(errno, root);
  }
  return root;
}

absl::Status WriteDockerArchive(const std::string& archive,
                                const std::vector<std::string>& layer_directories,
                                const ImageOptions& options) {
  GANTRY_ASSIGN_OR_RETURN(const std::string work, WorkDirectory(archive));
  const absl::Cleanup clean = [&] { (void)RemoveTree(work); };
  GANTRY_ASSIGN_OR_RETURN(
      const std::vector<Layer> layers,
      MakeLayers(work, layer_directories, options.layer_compression, options.keep_times));
  const std::string config = ConfigJson(layers, options);
  const std::string config_name = HexOf(Sha256(config)) + ".json";
  GANTRY_RETURN_IF_ERROR(WriteFile(absl::StrCat(work, "/out/", config_name), config));
  json entry;
  entry["Config"] = config_name;
  entry["RepoTags"] = options.names;
  for (const Layer& layer : layers) {
    const std::string name = HexOf(layer.diff_id);
    GANTRY_RETURN_IF_ERROR(MakeDirectories(absl::StrCat(work, "/out/", name), 0755));
    const std::string path = absl::StrCat(work, "/out/", name, "/layer.tar");
    if (rename(layer.path.c_str(), path.c_str()) != 0) return ErrnoToStatus(errno, path);
    entry["Layers"].push_back(name + "/layer.tar");
  }
  GANTRY_RETURN_IF_ERROR(WriteFile(work + "/out/manifest.json", json::array({entry}).dump()));
  return TarDirectory(work + "/out", archive);
}

absl::Status WriteOciArchive(const std::string& archive,
                             const std::vector<std::string>& layer_directories,
                             const ImageOptions& options) {
  GANTRY_ASSIGN_OR_RETURN(const std::string work, WorkDirectory(archive));
  const absl::Cleanup clean = [&] { (void)RemoveTree(work); };
  GANTRY_ASSIGN_OR_RETURN(
      const std::vector<Layer> layers,
      MakeLayers(work, layer_directories, options.layer_compression, options.keep_times));
  const std::string blobs = work + "/out/blobs/sha256/";
  GANTRY_RETURN_IF_ERROR(MakeDirectories(blobs, 0755));
  const auto put = [&](const std::string& bytes,
                       const std::string& media_type) -> absl::StatusOr<json> {
    const std::string digest = Sha256(bytes);
    GANTRY_RETURN_IF_ERROR(WriteFile(blobs + HexOf(digest), bytes));
    return json{{"mediaType", media_type}, {"digest", digest}, {"size", bytes.size()}};
  };
  json manifest;
  manifest["schemaVersion"] = 2;
  manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json";
  GANTRY_ASSIGN_OR_RETURN(manifest["config"], put(ConfigJson(layers, options),
                                                  "application/vnd.oci.image.config.v1+json"));
  for (const Layer& layer : layers) {
    const std::string digest = options.correct_layer_digest ? layer.digest : Sha256(layer.digest);
    const std::string path = blobs + HexOf(digest);
    if (rename(layer.path.c_str(), path.c_str()) != 0) return ErrnoToStatus(errno, path);
    const std::string suffix =
        options.layer_compression.empty() ? "" : "+" + options.layer_compression;
    manifest["layers"].push_back({{"mediaType", "application/vnd.oci.image.layer.v1.tar" + suffix},
                                  {"digest", digest},
                                  {"size", layer.size_bytes}});
  }
  json index;
  index["schemaVersion"] = 2;
  GANTRY_ASSIGN_OR_RETURN(const json descriptor,
                          put(manifest.dump(), "application/vnd.oci.image.manifest.v1+json"));
  for (const std::string& name : options.names) {
    json named = descriptor;
    named["annotations"]["io.containerd.image.name"] = name;
    named["annotations"]["org.opencontainers.image.ref.name"] = name.substr(name.rfind(':') + 1);
    index["manifests"].push_back(named);
  }
  GANTRY_RETURN_IF_ERROR(WriteFile(work + "/out/index.json", index.dump()));
  GANTRY_RETURN_IF_ERROR(WriteFile(work + "/out/oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
  return TarDirectory(work + "/out", archive);
}

absl::Status WriteBusyboxArchive(const std::string& archive, const std::string& name) {
  const std::string root = archive + ".root";
  GANTRY_RETURN_IF_ERROR(MakeBusyboxRoot(root));
  const absl::Cleanup clean = [&] { (void)RemoveTree(root); };
  ImageOptions options;
  options.names = {name};
  return WriteDockerArchive(archive, {root}, options);
}

}  // namespace gantry::integration
