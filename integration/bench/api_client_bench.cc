// The clients' side of ./dev bench api: the same calls against gantryd and a peer, slice by slice
// in turn, so that what else the machine does hits both alike. Started by api.py, which makes the
// daemons, the image and the specification.
//
//   api_client_bench --spec FILE --image NAME --chain-id ID --scratch DIR --seconds N NAME=SOCKET=PID...
//
// Calls that cost little are made by a lean client (lean_client.h), the same for all servers,
// because gRPC's own costs more than the server does and would be most of what is measured; "gRPC
// client" shows the difference. Lifecycles are called with gRPC's.
//
// Prints one line per measure: rate, latencies, and CPU time per call, of the server and of this
// program. The ratios are the first server's rate over the second's, and the second's CPU time over
// the first's; the latter says what the server costs however busy the machine is. Content has a
// third contender in turn with the servers: a program that does by hand what disk and sha256 ask
// for.
#include <fcntl.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "integration/api_client.h"
#include "integration/bench/lean_client.h"

namespace gantry::integration {
namespace {

constexpr char kNamespace[] = "bench";
constexpr char kListNamespace[] = "bench-list";
constexpr char kByGrpc[] = "image get, gRPC client";
constexpr size_t kClients = 4;
constexpr int kListed = 1000;
constexpr size_t kMessageBytes = 1 << 20;
constexpr size_t kBlobBytes = 32 << 20;
constexpr int kRounds = 8;
// More than is written in a slice.
constexpr size_t kWarmBytes = size_t{2} << 30;

absl::Duration Now() { return Clock::Real().Monotonic(); }

[[noreturn]] void Die(const std::string& why) {
  fprintf(stderr, "api_client_bench: %s\n", why.c_str());
  exit(1);
}
void Check(const absl::Status& status, const std::string& what) {
  if (!status.ok()) Die(absl::StrCat(what, ": ", status.ToString()));
}

struct Settings {
  std::string spec;
  std::string image;
  std::string chain_id;
  std::string scratch;
  absl::Duration slice;
};

// Pseudorandom bytes that no other blob of the run has.
std::string FreshBytes(size_t n, uint64_t seed) {
  std::string bytes(n, '\0');
  uint64_t x = seed * 0x9E3779B97F4A7C15u + 1;
  for (size_t i = 0; i + 8 <= n; i += 8) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    memcpy(&bytes[i], &x, 8);
  }
  return bytes;
}

class Server {
 public:
  Server(std::string name, std::string socket, std::string pid, const Settings& settings)
      : name_(std::move(name)),
        socket_(std::move(socket)),
        pid_(std::move(pid)),
        settings_(settings) {
    for (size_t i = 0; i < kClients; ++i) {
      clients_.push_back(std::make_unique<ApiClient>(socket_, kNamespace));
      lean_.push_back(NewLeanClient(kNamespace));
      // A namespace of its own, so that the list of a thousand is a list of a thousand.
      listers_.push_back(NewLeanClient(kListNamespace));
    }
  }

  const std::string& name() const { return name_; }
  ApiClient& client(size_t i) { return *clients_[i]; }

  // Seconds of CPU time that the daemon itself has used, without its children.
  double CpuSeconds() const {
    absl::StatusOr<std::string> stat = ReadFile(absl::StrCat("/proc/", pid_, "/stat"), 4096);
    Check(stat.status(), name_ + ": CPU time");
    // Fields 14 and 15; the second field is a name in brackets that may hold anything.
    const std::vector<std::string> fields = absl::StrSplit(stat->substr(stat->rfind(')') + 2), ' ');
    double ticks = 0, part = 0;
    for (size_t i : {11, 12})
      if (fields.size() > i && absl::SimpleAtod(fields[i], &part)) ticks += part;
    return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
  }

  void Prepare() {
    ApiClient lister(socket_, kListNamespace);
    for (int i = 0; i < kListed; ++i) {
      const std::string id = absl::StrCat("listed-", i);
      Check(lister.CreateContainer(id, settings_.image, SpecOf(id)), "create " + id);
    }
    Check(client(0).CreateContainer("one", settings_.image, SpecOf("one")), "create one");
    absl::StatusOr<std::string> digest = client(0).WriteBlob(
        "read", FreshBytes(kBlobBytes, 7), {{"containerd.io/gc.root", "2026-01-01T00:00:00Z"}});
    Check(digest.status(), name_ + ": write blob");
    blob_ = *digest;
  }

  void GetImage(size_t i) {
    images_api::GetImageRequest request;
    request.set_name(settings_.image);
    Unary(i, "/containerd.services.images.v1.Images/Get", request);
  }
  void GetImageByGrpc(size_t i) {
    images_api::GetImageRequest request;
    images_api::GetImageResponse response;
    request.set_name(settings_.image);
    Check(FromGrpc(client(i).images().Get(client(i).Context().get(), request, &response)), "image");
  }
  void GetContainer(size_t i) {
    containers_api::GetContainerRequest request;
    request.set_id("one");
    Unary(i, "/containerd.services.containers.v1.Containers/Get", request);
  }
  void ListContainers(size_t i) {
    absl::StatusOr<std::string> list =
        listers_[i]->Call("/containerd.services.containers.v1.Containers/List", {});
    Check(list.status(), "list");
    if (list->size() < kListed * settings_.spec.size()) Die(name_ + " lists too little");
  }
  void WriteContent(size_t i) {
    const std::string id = absl::StrCat("write-", ++serial_);
    const std::string& bytes = *Payload(i);
    LeanClient& c = *lean_[i];
    Check(c.Open("/containerd.services.content.v1.Content/Write"), "write");
    content_api::WriteContentRequest part;
    std::string answer;
    const auto exchange = [&](absl::string_view head, absl::string_view data, bool last) {
      Check(c.Send(head, data, last), "write");
      absl::StatusOr<bool> more = c.Receive(&answer);
      Check(more.status(), "write");
      if (!*more) Die(absl::StrCat("write: ", c.Finish().ToString()));
    };
    part.set_ref(id);
    part.set_total(static_cast<int64_t>(bytes.size()));
    part.set_action(content_api::WRITE);
    for (size_t at = 0; at < bytes.size(); at += kMessageBytes) {
      part.set_offset(static_cast<int64_t>(at));
      const auto data = absl::string_view(bytes).substr(at, kMessageBytes);
      std::string head = part.SerializeAsString();
      {
        google::protobuf::io::StringOutputStream stream(&head);
        google::protobuf::io::CodedOutputStream out(&stream);
        out.WriteTag(content_api::WriteContentRequest::kDataFieldNumber << 3 | 2);
        out.WriteVarint32(static_cast<uint32_t>(data.size()));
      }
      exchange(head, data, /*last=*/false);
    }
    part.set_action(content_api::COMMIT);
    part.set_offset(static_cast<int64_t>(bytes.size()));
    exchange(part.SerializeAsString(), {}, /*last=*/true);
    content_api::WriteContentResponse committed;
    committed.ParseFromString(answer);
    Check(c.Finish(), "write");
    std::lock_guard<std::mutex> lock(mu_);
    written_.push_back(committed.digest());
  }
  void ReadContent(size_t i) {
    content_api::ReadContentRequest request;
    request.set_digest(blob_);
    LeanClient& c = *lean_[i];
    Check(c.Open("/containerd.services.content.v1.Content/Read"), "read");
    Check(c.Send(request.SerializeAsString(), {}, /*last=*/true), "read");
    absl::StatusOr<int64_t> got = c.Drain();
    Check(got.status(), "read");
    Check(c.Finish(), "read");
    if (*got < static_cast<int64_t>(kBlobBytes)) Die("read: not the whole blob");
  }
  void PrepareAndRemove(size_t i) {
    const std::string key = absl::StrCat("snapshot-", ++serial_);
    Unary(i, "/containerd.services.snapshots.v1.Snapshots/Prepare", PrepareRequest(key));
    Unary(i, "/containerd.services.snapshots.v1.Snapshots/Remove", RemoveRequest(key));
  }

  // What a lifecycle costs before there is a task.
  void PrepareAndCreate(size_t i) {
    ApiClient& c = client(i);
    const std::string id = absl::StrCat("made-", ++serial_);
    PrepareSnapshot(i, id);
    Check(c.CreateContainer(id, settings_.image, SpecOf(id), id), "create container");
    containers_api::DeleteContainerRequest forget;
    google::protobuf::Empty nothing;
    forget.set_id(id);
    Check(FromGrpc(c.containers().Delete(c.Context().get(), forget, &nothing)), "delete container");
    RemoveSnapshot(i, id);
  }

  void Lifecycle(size_t i) {
    ApiClient& c = client(i);
    const std::string id = absl::StrCat("life-", ++serial_);
    tasks_api::CreateTaskRequest create;
    *create.mutable_rootfs() = PrepareSnapshot(i, id).mounts();
    Check(c.CreateContainer(id, settings_.image, SpecOf(id), id), "create container");
    tasks_api::CreateTaskResponse created;
    create.set_container_id(id);
    Check(FromGrpc(c.tasks().Create(c.Context().get(), create, &created)), "create task");
    // Asked before the start, as clients do that must not miss a quick end.
    std::thread waiter([&] {
      tasks_api::WaitRequest wait;
      tasks_api::WaitResponse ended;
      wait.set_container_id(id);
      Check(FromGrpc(c.tasks().Wait(c.Context().get(), wait, &ended)), "wait");
      if (ended.exit_status() != 0) Die(absl::StrCat("exit status ", ended.exit_status()));
    });
    tasks_api::StartRequest start;
    tasks_api::StartResponse started;
    start.set_container_id(id);
    Check(FromGrpc(c.tasks().Start(c.Context().get(), start, &started)), "start");
    waiter.join();
    tasks_api::DeleteTaskRequest end;
    tasks_api::DeleteResponse deleted;
    end.set_container_id(id);
    Check(FromGrpc(c.tasks().Delete(c.Context().get(), end, &deleted)), "delete task");
    containers_api::DeleteContainerRequest forget;
    google::protobuf::Empty nothing;
    forget.set_id(id);
    Check(FromGrpc(c.containers().Delete(c.Context().get(), forget, &nothing)), "delete container");
    RemoveSnapshot(i, id);
  }

  // New bytes for the next round of writes. What the last one wrote goes, files and all, before
  // this returns: a collection beside the next measure would be counted with it.
  void Refresh() {
    static std::atomic<uint64_t> seed = 1000;
    for (size_t i = 0; i < clients_.size(); ++i) payload_[i] = FreshBytes(kBlobBytes, ++seed);
    ApiClient& c = client(0);
    google::protobuf::Empty nothing;
    for (const std::string& digest : written_) {
      content_api::DeleteContentRequest request;
      request.set_digest(digest);
      // A collection may have been here before: nothing holds these blobs.
      absl::Status gone = FromGrpc(c.content().Delete(c.Context().get(), request, &nothing));
      if (!absl::IsNotFound(gone)) Check(gone, "delete blob");
    }
    written_.clear();
    leases_api::CreateRequest create;
    leases_api::CreateResponse created;
    create.set_id("collect");
    Check(FromGrpc(c.leases().Create(c.Context().get(), create, &created)), "create lease");
    leases_api::DeleteRequest collect;
    collect.set_id("collect");
    collect.set_sync(true);
    Check(FromGrpc(c.leases().Delete(c.Context().get(), collect, &nothing)), "collect");
  }

 private:
  std::string SpecOf(const std::string& id) const {
    return absl::StrReplaceAll(settings_.spec, {{"@ID@", id}});
  }
  // A blob that was not there yet: the same bytes with another beginning.
  std::string* Payload(size_t i) {
    std::string& bytes = payload_[i];
    const uint64_t mark = ++serial_;
    memcpy(&bytes[0], &mark, sizeof mark);
    return &bytes;
  }
  std::unique_ptr<LeanClient> NewLeanClient(const std::string& ns) const {
    absl::StatusOr<std::unique_ptr<LeanClient>> client = LeanClient::Connect(socket_, ns);
    Check(client.status(), name_);
    return *std::move(client);
  }
  // The answer is not looked at: what a client makes of it is the same work for both servers.
  void Unary(size_t i, const std::string& path, const google::protobuf::MessageLite& request) {
    Check(lean_[i]->Call(path, request.SerializeAsString()).status(), path);
  }
  snapshots_api::PrepareSnapshotRequest PrepareRequest(const std::string& key) const {
    snapshots_api::PrepareSnapshotRequest request;
    request.set_snapshotter("overlayfs");
    request.set_key(key);
    request.set_parent(settings_.chain_id);
    // A root, as clients make it without a lease, or a collection might take it.
    (*request.mutable_labels())["containerd.io/gc.root"] = "2026-01-01T00:00:00Z";
    return request;
  }
  static snapshots_api::RemoveSnapshotRequest RemoveRequest(const std::string& key) {
    snapshots_api::RemoveSnapshotRequest request;
    request.set_snapshotter("overlayfs");
    request.set_key(key);
    return request;
  }
  snapshots_api::PrepareSnapshotResponse PrepareSnapshot(size_t i, const std::string& key) {
    snapshots_api::PrepareSnapshotResponse response;
    Check(FromGrpc(client(i).snapshots().Prepare(client(i).Context().get(), PrepareRequest(key),
                                                 &response)),
          "prepare");
    return response;
  }
  void RemoveSnapshot(size_t i, const std::string& key) {
    google::protobuf::Empty nothing;
    Check(FromGrpc(client(i).snapshots().Remove(client(i).Context().get(), RemoveRequest(key),
                                                &nothing)),
          "remove");
  }

  const std::string name_;
  const std::string socket_;
  const std::string pid_;
  const Settings& settings_;
  std::vector<std::unique_ptr<ApiClient>> clients_;
  std::vector<std::unique_ptr<LeanClient>> lean_;
  std::vector<std::unique_ptr<LeanClient>> listers_;
  std::string blob_;
  std::string payload_[kClients];
  std::atomic<uint64_t> serial_ = 0;
  std::mutex mu_;
  std::vector<std::string> written_;
};

// What is asked of a content store, done by hand: bytes to a new file and into a hash, on two
// threads; then it is synced and named. And read again, each piece hashed.
class ByHand {
 public:
  explicit ByHand(std::string directory) : directory_(std::move(directory)) {}

  void Write(size_t i) {
    const std::string& bytes = payload_[i];
    const std::string path = absl::StrCat(directory_, "/by-hand-", ++serial_);
    UniqueFd fd(open((path + ".new").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    std::thread hash([&] {
      unsigned char digest[EVP_MAX_MD_SIZE];
      EVP_Digest(bytes.data(), bytes.size(), digest, nullptr, EVP_sha256(), nullptr);
    });
    for (size_t at = 0; at < bytes.size();) {
      const ssize_t wrote =
          write(fd.get(), bytes.data() + at, std::min(kMessageBytes, bytes.size() - at));
      if (wrote < 0) Die("write " + path);
      at += static_cast<size_t>(wrote);
    }
    hash.join();
    UniqueFd directory(open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fsync(fd.get()) != 0 || rename((path + ".new").c_str(), path.c_str()) != 0 ||
        fsync(directory.get()) != 0) {
      Die("sync " + path);
    }
    std::lock_guard<std::mutex> lock(mu_);
    written_.push_back(path);
  }

  void Read(size_t) {
    UniqueFd fd(open((directory_ + "/by-hand-read").c_str(), O_RDONLY | O_CLOEXEC));
    const std::unique_ptr<char[]> buffer(new char[kMessageBytes]);
    const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                     EVP_MD_CTX_free);
    EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
    ssize_t got;
    while ((got = read(fd.get(), buffer.get(), kMessageBytes)) > 0)
      EVP_DigestUpdate(context.get(), buffer.get(), static_cast<size_t>(got));
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (got < 0 || EVP_DigestFinal_ex(context.get(), digest, nullptr) != 1) Die("read by hand");
  }

  // New bytes; what was written goes.
  void Refresh() {
    static uint64_t seed = 5000;
    for (std::string& bytes : payload_) bytes = FreshBytes(kBlobBytes, ++seed);
    for (const std::string& path : written_) unlink(path.c_str());
    written_.clear();
    Check(WriteFileAtomic(directory_ + "/by-hand-read", payload_[0], 0600), "write by hand");
  }

 private:
  const std::string directory_;
  std::string payload_[kClients];
  std::atomic<uint64_t> serial_ = 0;
  std::mutex mu_;
  std::vector<std::string> written_;
};

// Memory that was just in use, for the page cache to grow into. On a virtual machine the first
// touch of a page that has been free for a while waits for the host, which takes several times as
// long as writing the page does, and falls on the next contender.
class WarmMemory {
 public:
  ~WarmMemory() { Release(kWarmBytes); }
  void Fill() {
    Release(kWarmBytes);
    begin_ = mmap(nullptr, kWarmBytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (begin_ == MAP_FAILED) Die("no memory to warm up");
    left_ = kWarmBytes;
  }
  // Frees this much of what is left. Thread-safe.
  void Release(size_t bytes) {
    std::lock_guard<std::mutex> lock(mu_);
    bytes = std::min(bytes, left_);
    left_ -= bytes;
    if (bytes > 0) munmap(static_cast<char*>(begin_) + left_, bytes);
  }

 private:
  std::mutex mu_;
  void* begin_ = nullptr;
  size_t left_ = 0;
};

// What one server did in all its slices.
struct Sample {
  std::vector<double> millis;
  double seconds = 0;
  double cpu_seconds = 0;
  double client_seconds = 0;
  double CpuMillis() const { return Each(cpu_seconds); }
  double ClientMillis() const { return Each(client_seconds); }
  double Each(double total) const {
    return millis.empty() ? 0 : total * 1000 / static_cast<double>(millis.size());
  }
  double rate() const { return seconds > 0 ? static_cast<double>(millis.size()) / seconds : 0; }
  double Percentile(double p) {
    if (millis.empty()) return 0;
    std::sort(millis.begin(), millis.end());
    return millis[static_cast<size_t>(p * static_cast<double>(millis.size() - 1))];
  }
};

// `before` each call is not part of its latency.
void Slice(const std::function<void()>& before, const std::function<void(size_t)>& call,
           size_t clients, absl::Duration length, Sample& sample) {
  const absl::Duration begin = Now();
  std::vector<std::vector<double>> took(clients);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < clients; ++i) {
    threads.emplace_back([&, i] {
      do {
        before();
        const absl::Duration at = Now();
        call(i);
        took[i].push_back(absl::ToDoubleMilliseconds(Now() - at));
      } while (Now() - begin < length);
    });
  }
  for (std::thread& thread : threads) thread.join();
  sample.seconds += absl::ToDoubleSeconds(Now() - begin);
  for (std::vector<double>& one : took)
    sample.millis.insert(sample.millis.end(), one.begin(), one.end());
}

// CPU time that this program has used.
double OwnCpuSeconds() {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const struct timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

struct Measure {
  std::string name;
  void (Server::*call)(size_t);
  double bytes = 0;                           // per call; 0 for those that are counted
  void (ByHand::*by_hand)(size_t) = nullptr;  // what the servers are held against as well
  bool writes = false;
};

class Report {
 public:
  void Run(const Measure& measure, size_t clients, std::vector<std::unique_ptr<Server>>& servers,
           ByHand& by_hand, absl::Duration slice) {
    std::vector<Sample> samples(servers.size());
    Sample hand;
    WarmMemory warm;
    const auto before = [&] {
      if (measure.writes) warm.Release(kBlobBytes);
    };
    for (int round = 0; round < kRounds; ++round) {
      if (measure.bytes > 0) {
        for (const auto& server : servers) server->Refresh();
        by_hand.Refresh();
      }
      // The first contender finds the machine in another state than the last.
      const size_t contenders = servers.size() + (measure.by_hand != nullptr ? 1 : 0);
      for (size_t turn = 0; turn < contenders; ++turn) {
        const size_t s = (turn + static_cast<size_t>(round)) % contenders;
        if (measure.writes) warm.Fill();
        if (s == servers.size()) {
          Slice(
              before, [&](size_t i) { (by_hand.*measure.by_hand)(i); }, clients, slice, hand);
          continue;
        }
        Server& server = *servers[s];
        if (round == 0) (server.*measure.call)(0);
        const double cpu = server.CpuSeconds(), own = OwnCpuSeconds();
        Slice(
            before, [&](size_t i) { (server.*measure.call)(i); }, clients, slice, samples[s]);
        samples[s].cpu_seconds += server.CpuSeconds() - cpu;
        samples[s].client_seconds += OwnCpuSeconds() - own;
      }
    }
    const double unit = measure.bytes > 0 ? measure.bytes / 1e6 : 1;
    std::string line = absl::StrFormat("  %-28s %d", measure.name, clients);
    for (Sample& sample : samples) {
      absl::StrAppendFormat(&line, "  | %9.1f %8.3f %8.3f %7.3f %7.3f", sample.rate() * unit,
                            sample.Percentile(0.5), sample.Percentile(0.99), sample.CpuMillis(),
                            sample.ClientMillis());
    }
    medians_[{measure.name, clients}] = samples[0].Percentile(0.5);
    if (samples.size() > 1) {
      ratios_[{measure.name, clients}] = samples[0].rate() / samples[1].rate();
      absl::StrAppendFormat(&line, "  | %6.2f %6.2f", samples[0].rate() / samples[1].rate(),
                            samples[1].CpuMillis() / samples[0].CpuMillis());
    }
    if (measure.by_hand != nullptr) {
      by_hand_[{measure.name, clients}] = samples[0].rate() / hand.rate();
      absl::StrAppendFormat(&line, "  | by hand %.1f", hand.rate() * unit);
    }
    puts(line.c_str());
    fflush(stdout);
  }

  void Budgets() {
    puts("\nbudgets");
    const auto line = [](const std::string& what, double value, const char* sense, double limit) {
      const bool met = sense[0] == '<' ? value <= limit : value >= limit;
      printf("  %-58s %8.2f  (%s %.2f)  %s\n", what.c_str(), value, sense, limit,
             met ? "met" : "MISSED");
    };
    for (const auto& [key, ratio] : ratios_) {
      // There the client is most of what is measured.
      if (key.first == kByGrpc) continue;
      const double least = key.first == "lifecycle" ? 4 : 2;
      line(absl::StrCat(key.first, ", ", key.second, " clients: rate / peer's"), ratio,
           ">=", least);
    }
    line("list of 1,000, median milliseconds", medians_[{"container list of 1,000", 1}], "<=", 3);
    for (const auto& [key, ratio] : by_hand_)
      line(absl::StrCat(key.first, ", ", key.second, " clients: rate / by hand"), ratio, ">=", 0.8);
  }

 private:
  std::map<std::pair<std::string, size_t>, double> ratios_, by_hand_, medians_;
};

int Main(int argc, char** argv) {
  Settings settings;
  std::string only;
  std::vector<std::vector<std::string>> peers;
  double seconds = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag.rfind("--", 0) == 0 && i + 1 < argc) {
      const std::string value = argv[++i];
      if (flag == "--spec") {
        absl::StatusOr<std::string> read = ReadFile(value, 1 << 20);
        Check(read.status(), "specification");
        settings.spec = *read;
      } else if (flag == "--image") {
        settings.image = value;
      } else if (flag == "--chain-id") {
        settings.chain_id = value;
      } else if (flag == "--scratch") {
        settings.scratch = value;
      } else if (flag == "--only") {
        only = value;
      } else if (flag != "--seconds" || !absl::SimpleAtod(value, &seconds)) {
        Die("what is " + flag + " " + value + "?");
      }
    } else {
      peers.push_back(absl::StrSplit(flag, '='));
      if (peers.back().size() != 3) Die("what is " + flag + "? NAME=SOCKET=PID is wanted");
    }
  }
  if (peers.empty() || settings.spec.empty()) Die("see the head of this file for its arguments");
  settings.slice = absl::Seconds(seconds) / kRounds;

  std::vector<std::unique_ptr<Server>> servers;
  std::string head = absl::StrFormat("  %-28s %s", "", "n");
  for (const std::vector<std::string>& peer : peers) {
    const std::string& name = peer[0];
    servers.push_back(std::make_unique<Server>(name, peer[1], peer[2], settings));
    servers.back()->Prepare();
    absl::StrAppendFormat(&head, "  | %9s %8s %8s %7s %7s", name.substr(0, 9), "p50 ms", "p99 ms",
                          "CPU ms", "client");
  }
  puts(absl::StrCat(head, servers.size() > 1 ? "  |   rate    CPU" : "").c_str());
  const std::vector<Measure> measures = {
      {"image get, calls/s", &Server::GetImage},
      {kByGrpc, &Server::GetImageByGrpc},
      {"container get, calls/s", &Server::GetContainer},
      {"container list of 1,000", &Server::ListContainers},
      {"content write, MB/s", &Server::WriteContent, static_cast<double>(kBlobBytes),
       &ByHand::Write, true},
      {"content read, MB/s", &Server::ReadContent, static_cast<double>(kBlobBytes), &ByHand::Read},
      {"snapshot prepare+remove", &Server::PrepareAndRemove},
      {"snapshot, container and back", &Server::PrepareAndCreate},
      {"lifecycle", &Server::Lifecycle},
  };
  ByHand by_hand(settings.scratch);
  Report report;
  for (const Measure& measure : measures) {
    if (!only.empty() && measure.name.find(only) == std::string::npos) continue;
    for (size_t clients : {size_t{1}, kClients})
      report.Run(measure, clients, servers, by_hand, settings.slice);
  }
  for (auto& server : servers) server->Refresh();
  if (only.empty()) report.Budgets();
  return 0;
}

}  // namespace
}  // namespace gantry::integration

int main(int argc, char** argv) { return gantry::integration::Main(argc, argv); }
