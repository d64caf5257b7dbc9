#include "shim/shim_testbed.h"

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "shim/zygote_protocol.h"

namespace gantry::shim {
namespace {

using Json = nlohmann::json;

constexpr absl::Duration kCallTimeout = absl::Seconds(30);

std::string ProgramPath(const std::string& name) {
  for (const char* directory : {"/usr/bin/", "/usr/sbin/", "/usr/local/bin/", "/bin/", "/sbin/"}) {
    if (access((directory + name).c_str(), X_OK) == 0) return directory + name;
  }
  return "";
}

// crun refuses this host unless hugetlb is mounted as a v1 controller. The list of v2 controllers
// does not answer it: hugetlb is away from there for a while after each test that had it mounted,
// and back for the next.
bool HugetlbMustBeMounted() {
  if (access("/sys/fs/cgroup/unified", F_OK) != 0) return false;
  const auto known = ReadFile("/proc/cgroups", 1 << 16);
  const auto mounts = ReadFile("/proc/self/mountinfo", 1 << 24);
  if (!known.ok() || !absl::StrContains(*known, "\nhugetlb\t") || !mounts.ok()) return false;
  for (const absl::string_view line : absl::StrSplit(*mounts, '\n')) {
    if (absl::StrContains(line, " - cgroup ") && absl::EndsWith(line, "hugetlb")) return false;
  }
  return true;
}

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

void SetDeadline(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoSeconds(kCallTimeout));
}

std::string NewId() {
  static std::atomic<int> counter{0};
  return absl::StrCat("shimtest-", getpid(), "-", counter.fetch_add(1));
}

Json NamespacesOf(std::initializer_list<const char*> types) {
  Json list = Json::array();
  for (const char* type : types) list.push_back({{"type", type}});
  return list;
}

// Left-overs of a container in the hierarchies of this machine.
std::vector<std::string> CgroupDirectories(const std::string& cgroup) {
  std::vector<std::string> found;
  for (const char* hierarchy : {"", "/unified", "/memory", "/pids", "/cpu", "/cpuacct", "/cpuset",
                                "/devices", "/freezer", "/blkio"}) {
    const std::string directory = absl::StrCat("/sys/fs/cgroup", hierarchy, cgroup);
    if (access(directory.c_str(), F_OK) == 0) found.push_back(directory);
  }
  return found;
}

}  // namespace

std::string WhyRealRuntimesCannotRun(const std::string& runtime) {
  if (geteuid() != 0) return "needs root: mounts, namespaces and cgroups";
  if (ProgramPath(runtime).empty()) return runtime + " is not installed";
  if (ProgramPath("busybox").empty()) return "busybox is not installed";
  return "";
}

bool Eventually(const std::function<bool()>& condition, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

TestState& TestState::Get() {
  static TestState state;
  return state;
}

TestState::TestState() {
  // Short: sockets live below it.
  char name[] = "/tmp/gshimXXXXXX";
  path_ = mkdtemp(name);
  if (mount(path_.c_str(), path_.c_str(), nullptr, MS_BIND, nullptr) != 0 ||
      mount(nullptr, path_.c_str(), nullptr, MS_PRIVATE, nullptr) != 0) {
    std::perror("private mount for the tests");
    std::abort();
  }
  char* here = realpath("shim/gantry-shim", nullptr);
  shim_program_ = here == nullptr ? "" : here;
  std::free(here);
}

TestState::~TestState() {
  KillZygote();
  umount2(path_.c_str(), MNT_DETACH);
  [[maybe_unused]] const absl::Status ignored = RemoveTree(path_);
}

int TestState::zygote_socket() {
  if (zygote_pid_ != 0) return zygote_.get();
  auto sockets = MakeZygoteSockets();
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(sockets->zygote.get(), 3);
    execl(shim_program_.c_str(), "gantry-shim", "--zygote", "--fd", "3", nullptr);
    _exit(127);
  }
  zygote_pid_ = pid;
  zygote_ = std::move(sockets->supervisor);
  return zygote_.get();
}

void TestState::KillZygote() {
  if (zygote_pid_ == 0) return;
  kill(zygote_pid_, SIGKILL);
  waitpid(zygote_pid_, nullptr, 0);
  zygote_pid_ = 0;
  zygote_.reset();
}

TestContainer::TestContainer(const std::string& runtime, std::vector<std::string> args)
    : id_(NewId()) {
  TestState& state = TestState::Get();
  bundle_ = absl::StrCat(state.path(), "/", id_);
  socket_ = absl::StrCat(state.path(), "/s-", id_);
  cgroup_ = absl::StrCat("/gantry-shim-test/", id_);
  EXPECT_TRUE(MakeDirectories(rootfs() + "/bin").ok());
  for (const char* directory : {"/proc", "/dev", "/sys", "/tmp", "/etc"}) {
    EXPECT_TRUE(MakeDirectories(rootfs() + directory).ok());
  }
  const std::string busybox = ProgramPath("busybox");
  EXPECT_EQ(std::system(absl::StrCat("cp ", busybox, " ", rootfs(),
                                     "/bin/busybox && for tool in sh "
                                     "sleep cat echo ls stty tty head tail yes true false seq dd "
                                     "touch wc grep kill; do ln -s busybox ",
                                     rootfs(), "/bin/$tool; done")
                            .c_str()),
            0);

  spec = {
      {"ociVersion", "1.0.0"},
      {"process",
       {{"terminal", false},
        {"user", {{"uid", 0}, {"gid", 0}}},
        {"args", args},
        {"env", {"PATH=/bin"}},
        {"cwd", "/"},
        {"capabilities",
         {{"bounding", {"CAP_KILL"}}, {"effective", {"CAP_KILL"}}, {"permitted", {"CAP_KILL"}}}}}},
      {"root", {{"path", "rootfs"}, {"readonly", false}}},
      {"hostname", "shimtest"},
      {"mounts",
       {{{"destination", "/proc"}, {"type", "proc"}, {"source", "proc"}},
        {{"destination", "/dev"},
         {"type", "tmpfs"},
         {"source", "tmpfs"},
         {"options", {"nosuid", "mode=755"}}},
        {{"destination", "/dev/pts"},
         {"type", "devpts"},
         {"source", "devpts"},
         {"options", {"newinstance", "ptmxmode=0666", "mode=0620"}}}}},
      {"linux",
       {{"cgroupsPath", cgroup_},
        {"namespaces", NamespacesOf({"pid", "ipc", "uts", "mount", "network"})}}},
  };

  v1::Runtime& config = *create.mutable_runtime();
  config.set_name(runtime);
  config.set_path(ProgramPath(runtime));
  config.set_state_root(state.path() + "/run-" + runtime);
  if (runtime == "crun" && HugetlbMustBeMounted()) config.add_mount_v1_controllers("hugetlb");
  v1::Mount& root = *create.add_rootfs();
  root.set_type("bind");
  root.set_source(rootfs());
  root.add_options("rbind");
  create.set_start(true);
  create.mutable_stdio()->mutable_log()->set_path(log_path());
  create.mutable_stdio()->mutable_log()->set_format(v1::Log::JSON_FILE);
}

TestContainer::~TestContainer() {
  if (stub_ != nullptr && ShimIsAlive()) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::ShutdownRequest request;
    request.set_force(true);
    v1::ShutdownResponse response;
    const grpc::Status status = stub_->Shutdown(&context, request, &response);
    // Unavailable: it was on its way out.
    if (!status.ok() && status.error_code() != grpc::StatusCode::UNAVAILABLE) {
      ADD_FAILURE() << "shutdown of the shim: " << status.error_message();
      kill(shim_pid_, SIGKILL);
    }
  }
  if (shim_pid_ != 0) {
    EXPECT_TRUE(WaitForShimExit()) << "the shim of " << id_ << " lives on";
  }
  EXPECT_TRUE(CgroupDirectories(cgroup_).empty())
      << "left behind: "
      << (CgroupDirectories(cgroup_).empty() ? "" : CgroupDirectories(cgroup_)[0]);
  const std::string state = absl::StrCat(create.runtime().state_root(), "/", id_);
  EXPECT_NE(access(state.c_str(), F_OK), 0) << "left behind: " << state;
  unlink(socket_.c_str());  // the supervisor's to remove, with the bundle
  EXPECT_TRUE(RemoveTree(bundle_).ok()) << bundle_;
  unlink(log_path().c_str());
  for (const char* hierarchy : {"memory", "pids", "cpu", "cpuacct", "cpuset", "devices", "freezer",
                                "blkio", "unified", "hugetlb", "."}) {
    rmdir(absl::StrCat("/sys/fs/cgroup/", hierarchy, "/gantry-shim-test").c_str());
  }
}

void TestContainer::Launch(bool zygote) {
  TestState& state = TestState::Get();
  ASSERT_FALSE(state.shim_program().empty());
  ASSERT_TRUE(MakeDirectories(bundle_ + "/rootfs").ok());
  ASSERT_TRUE(WriteFile(bundle_ + "/config.json", spec.dump()).ok());
  auto pipe = MakeReadyPipe();
  ASSERT_TRUE(pipe.ok());
  if (zygote) {
    LaunchRequest request;
    request.name_space = "test";
    request.id = id_;
    request.bundle = bundle_;
    request.socket_path = socket_;
    request.runtime_path = create.runtime().path();
    request.log_level = LogLevel::kDebug;
    const int socket = state.zygote_socket();
    ASSERT_TRUE(SendLaunchRequest(socket, request, pipe->write.get()).ok());
    auto reply = ReceiveLaunchReply(socket, absl::Seconds(10));
    ASSERT_TRUE(reply.ok()) << reply.status();
    ASSERT_EQ(reply->error, "");
    shim_pid_ = reply->pid;
    shim_pidfd_ = std::move(reply->pidfd);
  } else {
    const int ready = pipe->write.get();
    const pid_t pid = fork();
    if (pid == 0) {
      fcntl(ready, F_SETFD, 0);
      const std::string ready_text = std::to_string(ready);
      execl(state.shim_program().c_str(), "gantry-shim", "--namespace", "test", "--id", id_.c_str(),
            "--bundle", bundle_.c_str(), "--socket", socket_.c_str(), "--ready-fd",
            ready_text.c_str(), nullptr);
      _exit(127);
    }
    shim_pid_ = pid;
    shim_pidfd_.reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  }
  pipe->write.reset();
  const absl::Status ready = ReadReadyReport(pipe->read.get(), absl::Seconds(10));
  ASSERT_TRUE(ready.ok()) << ready;
  stub_ = Connect();
}

std::unique_ptr<v1::Shim::Stub> TestContainer::Connect() const {
  grpc::ChannelArguments arguments;
  // A connection of its own, not one shared with other stubs of this program.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return v1::Shim::NewStub(
      grpc::CreateCustomChannel("unix:" + socket_, grpc::InsecureChannelCredentials(), arguments));
}

absl::Status TestContainer::Create() {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::CreateResponse response;
  return FromGrpc(stub_->Create(&context, create, &response));
}

absl::Status TestContainer::Start(const std::string& exec_id) {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::StartRequest request;
  request.set_exec_id(exec_id);
  v1::StartResponse response;
  return FromGrpc(stub_->Start(&context, request, &response));
}

absl::Status TestContainer::Exec(const std::string& exec_id, std::vector<std::string> args,
                                 const std::function<void(v1::ExecRequest&)>& edit) {
  v1::ExecRequest request;
  request.set_exec_id(exec_id);
  Json process = spec["process"];
  process["args"] = args;
  process["terminal"] = false;
  request.mutable_stdio()->set_attachable(true);
  request.set_start(true);
  request.set_process_json(process.dump());
  if (edit) edit(request);
  if (request.stdio().terminal()) {
    process["terminal"] = true;
    request.set_process_json(process.dump());
  }
  grpc::ClientContext context;
  SetDeadline(context);
  v1::ExecResponse response;
  return FromGrpc(stub_->Exec(&context, request, &response));
}

absl::Status TestContainer::Kill(int signal, const std::string& exec_id, bool all) {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::KillRequest request;
  request.set_exec_id(exec_id);
  request.set_signal(static_cast<uint32_t>(signal));
  request.set_all(all);
  v1::KillResponse response;
  return FromGrpc(stub_->Kill(&context, request, &response));
}

v1::WaitResponse TestContainer::WaitResult(const std::string& exec_id) {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::WaitRequest request;
  request.set_exec_id(exec_id);
  v1::WaitResponse response;
  const grpc::Status status = stub_->Wait(&context, request, &response);
  if (!status.ok()) response.set_exit_status(static_cast<uint32_t>(-1));
  return response;
}

int TestContainer::Wait(const std::string& exec_id) {
  return static_cast<int>(WaitResult(exec_id).exit_status());
}

absl::Status TestContainer::Delete(const std::string& exec_id, bool force) {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::DeleteRequest request;
  request.set_exec_id(exec_id);
  request.set_force(force);
  v1::DeleteResponse response;
  return FromGrpc(stub_->Delete(&context, request, &response));
}

v1::ProcessState TestContainer::State(const std::string& exec_id) {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::StateRequest request;
  request.set_exec_id(exec_id);
  v1::ProcessState state;
  const grpc::Status status = stub_->State(&context, request, &state);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return state;
}

std::vector<std::string> TestContainer::Events(const std::string& last, uint64_t after) {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::EventsRequest request;
  request.set_after(after);
  auto reader = stub_->Events(&context, request);
  std::vector<std::string> words;
  v1::Event event;
  uint64_t number = after;
  while (reader->Read(&event)) {
    EXPECT_EQ(event.number(), ++number);
    std::string word;
    switch (event.what_case()) {
      case v1::Event::kCreated:
        word = "created";
        break;
      case v1::Event::kStarted:
        word = absl::StrCat("started ", event.started().exec_id());
        break;
      case v1::Event::kExited:
        word = absl::StrCat("exited ", event.exited().exec_id(), " ", event.exited().exit_status());
        break;
      case v1::Event::kExecAdded:
        word = absl::StrCat("added ", event.exec_added().exec_id());
        break;
      case v1::Event::kOom:
        word = "oom";
        break;
      case v1::Event::kPaused:
        word = "paused";
        break;
      case v1::Event::kResumed:
        word = "resumed";
        break;
      case v1::Event::kCheckpointed:
        word = "checkpointed";
        break;
      case v1::Event::kDeleted:
        word = absl::StrCat("deleted ", event.deleted().exec_id());
        break;
      case v1::Event::WHAT_NOT_SET:
        word = "?";
        break;
    }
    words.push_back(word);
    if (word == last) break;
  }
  context.TryCancel();
  return words;
}

bool TestContainer::ShimIsAlive() const {
  pollfd poll_fd = {shim_pidfd_.get(), POLLIN, 0};
  return poll(&poll_fd, 1, 0) == 0;
}

bool TestContainer::WaitForShimExit(absl::Duration timeout) const {
  pollfd poll_fd = {shim_pidfd_.get(), POLLIN, 0};
  const bool ended = poll(&poll_fd, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout))) > 0;
  if (ended) waitpid(shim_pid_, nullptr, WNOHANG);
  return ended;
}

std::string TestContainer::LogText() const {
  std::string text;
  const auto log = ReadFile(log_path(), 64 << 20);
  if (!log.ok()) return "";
  for (absl::string_view line : absl::StrSplit(*log, '\n', absl::SkipEmpty())) {
    const Json json = Json::parse(line.begin(), line.end(), nullptr, false);
    if (!json.is_object()) {
      ADD_FAILURE() << "torn line in the log: " << line;
      continue;
    }
    text += json["log"].get<std::string>();
  }
  return text;
}

AttachedStreams::AttachedStreams(v1::Shim::Stub& stub, const std::string& exec_id,
                                 bool with_stdin) {
  SetDeadline(context_);
  stream_ = stub.Attach(&context_);
  v1::AttachInput input;
  input.mutable_open()->set_exec_id(exec_id);
  input.mutable_open()->set_stdin(with_stdin);
  input.mutable_open()->set_stdout(true);
  input.mutable_open()->set_stderr(true);
  stream_->Write(input);
  v1::AttachOutput output;
  EXPECT_TRUE(stream_->Read(&output) && output.has_attached());
}

AttachedStreams::~AttachedStreams() { context_.TryCancel(); }

void AttachedStreams::Send(const std::string& bytes) {
  v1::AttachInput input;
  input.set_stdin(bytes);
  stream_->Write(input);
}

void AttachedStreams::CloseStdin() {
  v1::AttachInput input;
  input.set_close_stdin(true);
  stream_->Write(input);
}

void AttachedStreams::Resize(int width, int height) {
  v1::AttachInput input;
  input.mutable_resize()->set_width(static_cast<uint32_t>(width));
  input.mutable_resize()->set_height(static_cast<uint32_t>(height));
  stream_->Write(input);
}

bool AttachedStreams::ReadOne() {
  v1::AttachOutput output;
  if (!stream_->Read(&output)) return false;
  if (output.output_case() == v1::AttachOutput::kStdout) out_ += output.stdout();
  if (output.output_case() == v1::AttachOutput::kStderr) err_ += output.stderr();
  if (output.has_exited()) exited_ = output.exited();
  return true;
}

grpc::Status AttachedStreams::ReadToEnd() {
  while (ReadOne()) {
  }
  return stream_->Finish();
}

bool AttachedStreams::ReadUntil(const std::string& text) {
  while (!absl::StrContains(out_, text)) {
    if (!ReadOne()) return false;
  }
  return true;
}

}  // namespace gantry::shim
