#include "supervisor/core/system_service.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>
#include <thread>
#include <tuple>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "google/protobuf/util/time_util.h"

#include "base/file.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/system.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "proto/record/v1/record.pb.h"
#include "snapshotter/tree_usage.h"
#include "supervisor/core/proto_time.h"
#include "supervisor/core/task_view.h"
#include "supervisor/core/volume_service.h"
#include "supervisor/gc/collector.h"
#include "supervisor/gc/disk_usage.h"
#include "supervisor/gc/scheduler.h"
#include "supervisor/metadata/build_cache_store.h"
#include "supervisor/runtime/runtime_probe.h"

namespace gantry::core {
namespace {

std::string OsRelease(const char* key) {
  absl::StatusOr<std::string> text = ReadFile("/etc/os-release", 64 << 10);
  if (!text.ok()) return "";
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    if (absl::ConsumePrefix(&line, absl::StrCat(key, "="))) {
      absl::ConsumePrefix(&line, "\"");
      absl::ConsumeSuffix(&line, "\"");
      return std::string(line);
    }
  }
  return "";
}

absl::string_view TypeName(gc::Type type) {
  switch (type) {
    case gc::Type::kContent:
      return "content";
    case gc::Type::kSnapshot:
      return "snapshot";
    case gc::Type::kImage:
      return "image";
    case gc::Type::kContainer:
      return "container";
    case gc::Type::kSandbox:
      return "sandbox";
    case gc::Type::kLease:
      return "lease";
    case gc::Type::kIngest:
      return "ingest";
    case gc::Type::kMount:
      return "mount";
  }
  return "object";
}

std::string OwnerText(const gc::Node& node) {
  return absl::StrCat(TypeName(node.type), " ", node.ns, "/", node.name);
}

// Directories of the root that belong to the build cache: cache mounts and kept contexts.
constexpr const char* kCacheDirectories[] = {"build-caches", "build-contexts"};

// The layers that records of the build cache keep from collection.
struct CachedLayers {
  int64_t records = 0;
  std::set<std::string> blobs;
  std::set<std::tuple<std::string, std::string, std::string>> snapshots;  // snapshotter, ns, key
};

absl::StatusOr<CachedLayers> FindCachedLayers(metadata::Database& db,
                                              const std::vector<std::string>& namespaces) {
  metadata::BuildCacheStore store(db);
  CachedLayers layers;
  for (const std::string& ns : namespaces) {
    GANTRY_ASSIGN_OR_RETURN(const std::vector<metadata::StoredCacheRecord> found, store.List(ns));
    for (const metadata::StoredCacheRecord& stored : found) {
      ++layers.records;
      layers.blobs.insert(stored.record.digest());
      layers.snapshots.emplace(stored.record.snapshotter(), ns, stored.record.chain_id());
    }
  }
  return layers;
}

}  // namespace

v1::VersionResponse SystemService::Version() {
  v1::VersionResponse response;
  response.set_version(parts_.facts.version);
  response.set_os("linux");
  struct utsname host;
  if (uname(&host) == 0) {
    response.set_kernel_version(host.release);
    response.set_arch(absl::string_view(host.machine) == "x86_64" ? "amd64" : host.machine);
  }
  response.set_compiler(absl::StrCat("gcc ", __VERSION__));
  for (const std::string& name : parts_.runtimes->names()) {
    absl::StatusOr<runtime::RuntimeInfo> info = parts_.runtimes->Resolve(name);
    if (!info.ok()) continue;
    v1::VersionResponse::Component* component = response.add_components();
    component->set_name(name);
    component->set_version(info->version);
    (*component->mutable_details())["Path"] = info->path;
  }
  return response;
}

absl::StatusOr<v1::InfoResponse> SystemService::Info(const CallContext& context) {
  Stores& stores = *parts_.stores;
  v1::InfoResponse info;
  const DaemonFacts& facts = parts_.facts;
  info.set_id(facts.uuid);
  char host[256] = {};
  if (gethostname(host, sizeof host - 1) == 0) info.set_name(host);
  int64_t containers = 0;
  GANTRY_RETURN_IF_ERROR(stores.containers.ListStates(
      {context.ns, ""}, [&containers](absl::string_view, const record::v1::ContainerState*) {
        ++containers;
        return absl::OkStatus();
      }));
  int64_t running = 0;
  int64_t paused = 0;
  for (const auto& [ns, process] : parts_.tasks->List(context.ns)) {
    if (process.status == ProcessStatus::kRunning) ++running;
    if (process.status == ProcessStatus::kPaused) ++paused;
  }
  info.set_containers(containers);
  info.set_containers_running(running);
  info.set_containers_paused(paused);
  info.set_containers_stopped(containers - running - paused);
  std::set<std::string> targets;
  GANTRY_RETURN_IF_ERROR(stores.images.List({context.ns, ""}, metadata::Filter(),
                                            [&targets](const record::v1::Image& image) {
                                              targets.insert(image.target().digest());
                                              return absl::OkStatus();
                                            }));
  info.set_images(static_cast<int64_t>(targets.size()));
  info.set_server_version(facts.version);
  info.set_snapshotter(stores.default_snapshotter);
  absl::StatusOr<runtime::CgroupHost> cgroups = parts_.runtimes->cgroup_host();
  if (cgroups.ok()) {
    info.set_cgroup_version(cgroups->layout == runtime::CgroupLayout::kUnified ? "2" : "1");
    (*info.mutable_snapshotter_status())["Cgroup layout"] =
        std::string(runtime::CgroupLayoutName(cgroups->layout));
  }
  struct utsname kernel;
  if (uname(&kernel) == 0) {
    info.set_kernel_version(kernel.release);
    info.set_architecture(kernel.machine);
  }
  info.set_operating_system(OsRelease("PRETTY_NAME"));
  info.set_os_version(OsRelease("VERSION_ID"));
  info.set_os_type("linux");
  info.set_cpus(static_cast<int32_t>(sysconf(_SC_NPROCESSORS_ONLN)));
  info.set_memory_bytes(static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE));
  info.set_root_dir(facts.root_directory);
  info.set_state_dir(facts.state_directory);
  info.set_config_file(facts.config_file);
  info.set_address(facts.address);
  info.set_docker_address(facts.docker_address);
  info.set_default_runtime(facts.default_runtime);
  for (const std::string& name : parts_.runtimes->names()) {
    v1::InfoResponse::Runtime* out = info.add_runtimes();
    out->set_name(name);
    absl::StatusOr<runtime::RuntimeInfo> found = parts_.runtimes->Resolve(name);
    if (found.ok()) {
      out->set_path(found->path);
      out->set_version(found->version);
    } else {
      out->set_problem(std::string(found.status().message()));
    }
  }
  absl::StatusOr<runtime::RuntimeInfo> chosen = parts_.runtimes->Resolve("");
  if (chosen.ok()) info.set_default_runtime(chosen->name);
  info.set_cgroup_driver(chosen.ok() && chosen->systemd_cgroup ? "systemd" : "cgroupfs");
  if (access("/proc/sys/kernel/seccomp", F_OK) == 0)
    info.add_security_options("name=seccomp,profile=builtin");
  if (access("/sys/module/apparmor", F_OK) == 0) info.add_security_options("name=apparmor");
  if (parts_.volumes != nullptr) {
    for (std::string& driver : parts_.volumes->Drivers())
      info.add_volume_drivers(std::move(driver));
  }
  info.set_userns_remap(facts.userns_remap);
  if (!facts.userns_remap.empty()) info.add_security_options("name=userns");
  info.set_log_driver("json-file");
  GANTRY_RETURN_IF_ERROR(stores.namespaces.List([&info](const record::v1::Namespace& ns) {
    info.add_namespaces(ns.name());
    return absl::OkStatus();
  }));
  SetTimestamp(absl::Now(), info.mutable_system_time());
  SetTimestamp(facts.started_at, info.mutable_started_at());
  info.set_pid(getpid());
  const bool unified = info.cgroup_version() == "2";
  auto has = [unified](const char* v1_file, const char* controller) {
    if (!unified) return access(absl::StrCat("/sys/fs/cgroup/", v1_file).c_str(), F_OK) == 0;
    absl::StatusOr<std::string> text = ReadFile("/sys/fs/cgroup/cgroup.controllers", 4096);
    return text.ok() && absl::StrContains(absl::StrCat(" ", absl::StripAsciiWhitespace(*text), " "),
                                          absl::StrCat(" ", controller, " "));
  };
  info.set_memory_limit(has("memory/memory.limit_in_bytes", "memory"));
  info.set_swap_limit(has("memory/memory.memsw.limit_in_bytes", "memory"));
  info.set_cpu_quota(has("cpu/cpu.cfs_quota_us", "cpu"));
  info.set_cpu_shares(has("cpu/cpu.shares", "cpu"));
  info.set_cpuset(has("cpuset/cpuset.cpus", "cpuset"));
  info.set_pids_limit(has("pids", "pids"));
  info.set_oom_kill_disable(!unified);
  const auto on = [](const char* setting) {
    const absl::StatusOr<std::string> text = ReadFile(absl::StrCat("/proc/sys/net/", setting), 16);
    return text.ok() && absl::StripAsciiWhitespace(*text) == "1";
  };
  info.set_ipv4_forwarding(on("ipv4/ip_forward"));
  info.set_bridge_nf_iptables(on("bridge/bridge-nf-call-iptables"));
  info.set_bridge_nf_ip6tables(on("bridge/bridge-nf-call-ip6tables"));
  if (parts_.devices != nullptr) {
    for (const std::string& directory : parts_.devices->directories())
      info.add_cdi_spec_dirs(directory);
    oci::cdi::DeviceFiles::Listing listing = parts_.devices->List();
    for (std::string& name : listing.devices) {
      v1::InfoResponse::DiscoveredDevice& device = *info.add_discovered_devices();
      device.set_source("cdi");
      device.set_id(std::move(name));
    }
    for (const std::string& problem : listing.problems)
      info.add_warnings(absl::StrCat("CDI: ", problem));
  }
  if (!info.memory_limit()) info.add_warnings("No memory limit support");
  if (!info.swap_limit()) info.add_warnings("No swap limit support");
  if (!info.pids_limit()) info.add_warnings("No pids limit support");
  for (const std::string& chain :
       parts_.forward_drops ? parts_.forward_drops() : std::vector<std::string>()) {
    info.add_warnings(absl::StrCat(
        chain,
        " drops what this host forwards: published ports and the way out of containers' networks "
        "are open only as far as its rules accept it; accept there what is established, related or "
        "translated (nft: ct status dnat; iptables: --ctstate DNAT), and what comes from the "
        "networks' bridges"));
  }
  return info;
}

absl::StatusOr<v1::DiskUsageResponse> SystemService::DiskUsage(
    const CallContext& context, const v1::DiskUsageRequest& request) {
  (void)context;  // all namespaces share the disk
  Stores& stores = *parts_.stores;
  auto measure = [](const std::string& path) -> int64_t {
    absl::StatusOr<snapshot::Usage> measured = snapshot::UsageOfTree(path);
    return measured.ok() ? measured->size_bytes : 0;
  };
  // What lies below the root directory, walked once and beside the rest.
  const std::string& root = parts_.facts.root_directory;
  std::map<std::string, int64_t> below_root;
  GANTRY_ASSIGN_OR_RETURN(std::thread walker, NewThread([&] {
                            absl::StatusOr<std::vector<std::string>> names = ListDirectory(root);
                            if (!names.ok()) return;
                            for (const std::string& name : *names) {
                              const std::string path = absl::StrCat(root, "/", name);
                              struct stat entry;
                              if (lstat(path.c_str(), &entry) != 0) continue;
                              below_root[name] = S_ISDIR(entry.st_mode)
                                                     ? measure(path)
                                                     : static_cast<int64_t>(entry.st_blocks) * 512;
                            }
                          }));
  const absl::Cleanup join = [&walker] {
    if (walker.joinable()) walker.join();
  };
  GANTRY_ASSIGN_OR_RETURN(
      gc::DiskUsage usage,
      gc::MeasureDiskUsage(stores.db, stores.blobs, stores.snapshotters, stores.clock));
  v1::DiskUsageResponse response;
  v1::DiskUsageResponse::Kind* images = response.add_kinds();
  images->set_name("Images");
  v1::DiskUsageResponse::Kind* containers = response.add_kinds();
  containers->set_name("Containers");
  v1::DiskUsageResponse::Kind* volumes = response.add_kinds();
  volumes->set_name("Local Volumes");
  v1::DiskUsageResponse::Kind* cache = response.add_kinds();
  cache->set_name("Build Cache");
  v1::DiskUsageResponse::Kind* ingests = response.add_kinds();
  ingests->set_name("Ingests");
  v1::DiskUsageResponse::Kind* metadata_kind = response.add_kinds();
  metadata_kind->set_name("Metadata");

  std::vector<std::string> namespaces;
  GANTRY_RETURN_IF_ERROR(stores.namespaces.List([&namespaces](const record::v1::Namespace& ns) {
    namespaces.push_back(ns.name());
    return absl::OkStatus();
  }));
  GANTRY_ASSIGN_OR_RETURN(const CachedLayers cached, FindCachedLayers(stores.db, namespaces));
  cache->set_total(cached.records);

  auto is_container = [](const gc::Node& node) { return node.type == gc::Type::kContainer; };
  std::set<std::string> used_images;
  std::set<std::string> all_images;
  auto add = [&](v1::DiskUsageResponse::Kind* kind, const char* type, const std::string& id,
                 int64_t size, const std::vector<gc::Node>& owners, bool collectable) {
    kind->set_size_bytes(kind->size_bytes() + size);
    if (collectable || kind == cache) kind->set_reclaimable_bytes(kind->reclaimable_bytes() + size);
    if (!request.verbose()) return;
    v1::DiskUsageResponse::Item* item = kind->add_items();
    item->set_type(type);
    item->set_id(id);
    item->set_size_bytes(size);
    item->set_references(static_cast<int64_t>(owners.size()));
    if (owners.size() > 1)
      item->set_shared_bytes(size);
    else
      item->set_unique_bytes(size);
    for (const gc::Node& owner : owners) item->add_owners(OwnerText(owner));
    if (kind == cache) {
      item->set_references(1);
      item->add_owners("build cache");
    }
    if (collectable) item->set_state("collectable");
  };
  for (const gc::BlobUsage& blob : usage.blobs) {
    const bool in_use = std::any_of(blob.owners.begin(), blob.owners.end(), is_container);
    for (const gc::Node& owner : blob.owners) {
      if (owner.type != gc::Type::kImage) continue;
      all_images.insert(OwnerText(owner));
      if (in_use) used_images.insert(OwnerText(owner));
    }
    // A layer that an image has too is the image's: without the cache it stays.
    const bool of_cache =
        blob.owners.empty() && !blob.collectable && cached.blobs.count(blob.digest.str()) > 0;
    add(of_cache ? cache : images, "blob", blob.digest.str(), blob.size_bytes, blob.owners,
        blob.collectable);
  }
  for (const gc::SnapshotUsage& snapshot : usage.snapshots) {
    const bool in_use = std::any_of(snapshot.owners.begin(), snapshot.owners.end(), is_container);
    if (!snapshot.active && in_use) {
      for (const gc::Node& owner : snapshot.owners) {
        if (owner.type == gc::Type::kImage) used_images.insert(OwnerText(owner));
      }
    }
    v1::DiskUsageResponse::Kind* kind = snapshot.active ? containers : images;
    if (snapshot.owners.empty() && !snapshot.collectable &&
        cached.snapshots.count(
            {snapshot.snapshot.snapshotter, snapshot.snapshot.ns, snapshot.snapshot.name}) > 0)
      kind = cache;
    add(kind, "snapshot", absl::StrCat(snapshot.snapshot.ns, "/", snapshot.snapshot.name),
        snapshot.size_bytes, snapshot.owners, snapshot.collectable);
  }
  // An image that no container uses goes with `image prune -a`, and with it what only such images
  // own.
  const auto of_unused_images = [&used_images](const std::vector<gc::Node>& owners) {
    return !owners.empty() && std::all_of(owners.begin(), owners.end(), [&](const gc::Node& owner) {
      return owner.type == gc::Type::kImage && used_images.count(OwnerText(owner)) == 0;
    });
  };
  for (const gc::BlobUsage& blob : usage.blobs) {
    if (!blob.collectable && of_unused_images(blob.owners))
      images->set_reclaimable_bytes(images->reclaimable_bytes() + blob.size_bytes);
  }
  for (const gc::SnapshotUsage& snapshot : usage.snapshots) {
    if (!snapshot.active && !snapshot.collectable && of_unused_images(snapshot.owners))
      images->set_reclaimable_bytes(images->reclaimable_bytes() + snapshot.size_bytes);
  }
  for (const gc::IngestUsage& ingest : usage.ingests) {
    ingests->set_total(ingests->total() + 1);
    add(ingests, "ingest", absl::StrCat(ingest.ingest.ns, "/", ingest.ingest.name),
        ingest.size_bytes, ingest.owners, ingest.collectable);
  }
  images->set_total(static_cast<int64_t>(all_images.size()));
  images->set_active(static_cast<int64_t>(used_images.size()));
  int64_t total = 0;
  const std::string files = root + "/containers";
  int64_t named = 0;
  for (const std::string& ns : namespaces) {
    GANTRY_RETURN_IF_ERROR(stores.containers.ListStates(
        {ns, ""}, [&](absl::string_view id, const record::v1::ContainerState*) {
          containers->set_total(containers->total() + 1);
          if (parts_.tasks->Exists(ns, std::string(id)))
            containers->set_active(containers->active() + 1);
          if (!request.verbose()) return absl::OkStatus();
          const std::string name = absl::StrCat(ns, "/", id);
          const int64_t size = measure(absl::StrCat(files, "/", name));
          if (size == 0) return absl::OkStatus();
          v1::DiskUsageResponse::Item* item = containers->add_items();
          item->set_type("files");
          item->set_id(name);
          item->set_size_bytes(size);
          item->set_unique_bytes(size);
          item->set_references(1);
          item->add_owners(absl::StrCat("container ", name));
          named += size;
          return absl::OkStatus();
        }));
  }
  for (const std::string& ns : namespaces) {
    if (parts_.volumes == nullptr) break;
    CallContext of_namespace;
    of_namespace.ns = ns;
    v1::ListVolumesRequest list;
    list.set_size(true);
    GANTRY_ASSIGN_OR_RETURN(const v1::ListVolumesResponse listed,
                            parts_.volumes->List(of_namespace, list));
    for (const v1::Volume& volume : listed.volumes()) {
      const int64_t size = std::max<int64_t>(volume.size_bytes(), 0);
      const bool used = volume.container_ids_size() > 0;
      volumes->set_total(volumes->total() + 1);
      if (used) volumes->set_active(volumes->active() + 1);
      volumes->set_size_bytes(volumes->size_bytes() + size);
      if (!used) volumes->set_reclaimable_bytes(volumes->reclaimable_bytes() + size);
      if (!request.verbose()) continue;
      v1::DiskUsageResponse::Item* item = volumes->add_items();
      item->set_type("volume");
      item->set_id(absl::StrCat(ns, "/", volume.name()));
      item->set_name(volume.name());
      item->set_size_bytes(size);
      item->set_unique_bytes(size);
      item->set_references(volume.container_ids_size());
      for (const std::string& id : volume.container_ids())
        item->add_owners(absl::StrCat("container ", ns, "/", id));
    }
  }
  // What is left are our own files: logs and generated files of containers, and the database.
  walker.join();
  const int64_t logs = below_root["containers"];
  containers->set_size_bytes(containers->size_bytes() + logs);
  if (request.verbose() && logs > named) {
    v1::DiskUsageResponse::Item* item = containers->add_items();
    item->set_type("files");
    item->set_id("containers");
    item->set_size_bytes(logs - named);
    item->set_unique_bytes(logs - named);
    item->set_references(1);
    item->add_owners("gantryd: the directories of all containers");
  }
  for (const char* name : kCacheDirectories) {
    const std::string path = absl::StrCat(root, "/", name);
    int64_t directories = 0;  // locks lie beside them
    for (const std::string& entry : ListDirectory(path).value_or(std::vector<std::string>())) {
      struct stat info;
      if (lstat(absl::StrCat(path, "/", entry).c_str(), &info) == 0 && S_ISDIR(info.st_mode))
        ++directories;
    }
    cache->set_total(cache->total() + directories);
    if (directories > 0) add(cache, "files", name, below_root[name], {}, /*collectable=*/false);
  }
  const int64_t database = below_root["metadata"];
  metadata_kind->set_size_bytes(database);
  metadata_kind->set_total(1);
  metadata_kind->set_active(1);
  struct stat info;
  if (stat(root.c_str(), &info) == 0) total = static_cast<int64_t>(info.st_blocks) * 512;
  for (const auto& [name, size] : below_root) total += size;
  response.set_total_bytes(total);
  // So that the kinds add up to the disk, and bytes without an owner are seen: directories, the
  // last part of a block, work directories of snapshots, what transfers spool.
  int64_t rest = total;
  for (const v1::DiskUsageResponse::Kind& kind : response.kinds()) rest -= kind.size_bytes();
  v1::DiskUsageResponse::Kind* other = response.add_kinds();
  other->set_name("Other");
  other->set_total(1);
  other->set_active(1);
  other->set_size_bytes(std::max<int64_t>(rest, 0));
  return response;
}

absl::StatusOr<v1::GcResponse> SystemService::Gc(const CallContext& context,
                                                 const v1::GcRequest& request) {
  (void)context;
  Stores& stores = *parts_.stores;
  v1::GcResponse response;
  const absl::Duration begin = stores.clock.Monotonic();
  GANTRY_ASSIGN_OR_RETURN(
      gc::DiskUsage before,
      gc::MeasureDiskUsage(stores.db, stores.blobs, stores.snapshotters, stores.clock));
  auto report = [&response](const char* kind, const std::string& key, int64_t size) {
    v1::GcResponse::Removed* removed = response.add_removed();
    removed->set_kind(kind);
    removed->set_key(key);
    removed->set_size_bytes(size);
    response.set_space_reclaimed_bytes(response.space_reclaimed_bytes() + size);
  };
  for (const gc::BlobUsage& blob : before.blobs) {
    if (blob.collectable) report("content", blob.digest.str(), blob.size_bytes);
  }
  for (const gc::SnapshotUsage& snapshot : before.snapshots) {
    if (snapshot.collectable)
      report("snapshot", absl::StrCat(snapshot.snapshot.ns, "/", snapshot.snapshot.name),
             snapshot.size_bytes);
  }
  for (const gc::IngestUsage& ingest : before.ingests) {
    if (ingest.collectable)
      report("ingest", absl::StrCat(ingest.ingest.ns, "/", ingest.ingest.name), ingest.size_bytes);
  }
  if (!request.dry_run()) {
    GANTRY_RETURN_IF_ERROR(
        parts_.gc->CollectAndWait(/*full_sweep=*/true, absl::Now() + absl::Minutes(10)));
  }
  const absl::Duration took = stores.clock.Monotonic() - begin;
  response.mutable_duration()->set_seconds(absl::ToInt64Seconds(took));
  response.mutable_duration()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(took) % 1000000000));
  return response;
}

absl::StatusOr<std::unique_ptr<EventFeed>> SystemService::Listen(const CallContext& context,
                                                                 const v1::EventsRequest& request,
                                                                 std::function<void()> ready) {
  return EventFeed::Open(*parts_.events, *parts_.subjects, context.ns, request, std::move(ready),
                         parts_.journal);
}

}  // namespace gantry::core
