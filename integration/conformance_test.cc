// What each call of containerd's API answers: the scripts in integration/conformance/, run against
// gantryd and then, with the same expectations, against Debian's containerd, so that an expectation
// is never only our opinion.
//
// $GANTRY_PEER_CONTAINERD names another containerd to compare with. A script is a list of steps:
//
//   # words until the end of the line are for the reader
//   > containers.v1.Containers/Get [ns=NAME] [lease=ID] [@gantry] [@2]
//   id: "x"                     the request in protobuf's text form; further messages of a stream after a line "--"
//   < NOT_FOUND [words]         the code, and words that the message holds (asked of gantryd only)
//   container { id: "x" }       what the answer holds at least; lists are compared whole; further messages after "--"
//
// "@gantry": for gantryd alone. "@2": for a peer of version 2 or later. "ns=" sends no namespace;
// without it the script's own is sent. ">& NAME METHOD" leaves the call open, and "<& NAME CODE"
// waits until it has answered what is expected, or, with a code other than OK, until it ends. In
// requests and answers: $digest(TEXT), $repeat(N,TEXT), $dir, $spec(ARGV), $process(ARGV), and
// $any(TYPE){TEXT}.
#include <fcntl.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/proto_buffer_writer.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "google/protobuf/compiler/importer.h"
#include "google/protobuf/dynamic_message.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

namespace pb = google::protobuf;

constexpr absl::Duration kCallLimit = absl::Seconds(30);
constexpr char kProbe[] = "/conformance/probe";  // topic of events that are not compared
constexpr char kProtos[] = "proto/containerd/";

// The API's messages, read from their .proto files.
class Api {
 public:
  Api() : importer_(&tree_, &errors_) {
    tree_.MapPath("", ".");
    tree_.MapPath("", "/usr/include");
    for (const char* name : {"services/containers/v1/containers",
                             "services/content/v1/content",
                             "services/diff/v1/diff",
                             "services/events/v1/events",
                             "services/images/v1/images",
                             "services/introspection/v1/introspection",
                             "services/leases/v1/leases",
                             "services/mounts/v1/mounts",
                             "services/namespaces/v1/namespace",
                             "services/sandbox/v1/sandbox",
                             "services/snapshots/v1/snapshots",
                             "services/streaming/v1/streaming",
                             "services/tasks/v1/tasks",
                             "services/transfer/v1/transfer",
                             "services/version/v1/version",
                             "grpc/health/v1/health",
                             "events/container",
                             "events/content",
                             "events/image",
                             "events/namespace",
                             "events/sandbox",
                             "events/snapshot",
                             "events/task",
                             "types/runc/options/oci",
                             "types/introspection",
                             "types/transfer/registry",
                             "types/transfer/imagestore",
                             "types/transfer/importexport"}) {
      EXPECT_NE(importer_.Import(absl::StrCat(kProtos, name, ".proto")), nullptr) << name;
    }
  }
  const pb::MethodDescriptor* Method(const std::string& name) const {
    const std::pair<std::string, std::string> parts = absl::StrSplit(name, '/');
    const pb::ServiceDescriptor* service = importer_.pool()->FindServiceByName(
        absl::StartsWith(name, "grpc.") ? parts.first
                                        : absl::StrCat("containerd.services.", parts.first));
    return service == nullptr ? nullptr : service->FindMethodByName(parts.second);
  }
  std::unique_ptr<pb::Message> New(const pb::Descriptor* type) {
    return std::unique_ptr<pb::Message>(factory_.GetPrototype(type)->New());
  }
  std::unique_ptr<pb::Message> New(const std::string& type) {
    const pb::Descriptor* found = importer_.pool()->FindMessageTypeByName(type);
    EXPECT_NE(found, nullptr) << type;
    return found == nullptr ? nullptr : New(found);
  }

 private:
  class Errors : public pb::compiler::MultiFileErrorCollector {
    void AddError(const std::string& file, int line, int, const std::string& message) override {
      ADD_FAILURE() << file << ":" << line + 1 << ": " << message;
    }
  };
  pb::compiler::DiskSourceTree tree_;
  Errors errors_;
  pb::compiler::Importer importer_;
  pb::DynamicMessageFactory factory_;
};

std::string Print(const pb::Message& message) {
  pb::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  std::string text;
  printer.PrintToString(message, &text);
  return text;
}

grpc::ByteBuffer BytesOf(const pb::Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

struct Step {
  int line = 0;
  std::string method;
  std::string background;  // its name; "" waits for the answer
  bool collect = false;    // the answer of a call left open
  std::map<std::string, std::string> headers;
  bool gantry_only = false;
  bool since_2 = false;
  std::vector<std::string> requests = {""};
  grpc::StatusCode code = grpc::StatusCode::OK;
  std::string words;
  std::vector<std::string> answers;  // empty: anything
};

grpc::StatusCode CodeOf(const std::string& name) {
  static const std::map<std::string, grpc::StatusCode> codes = {
      {"OK", grpc::StatusCode::OK},
      {"CANCELLED", grpc::StatusCode::CANCELLED},
      {"UNKNOWN", grpc::StatusCode::UNKNOWN},
      {"INVALID_ARGUMENT", grpc::StatusCode::INVALID_ARGUMENT},
      {"NOT_FOUND", grpc::StatusCode::NOT_FOUND},
      {"ALREADY_EXISTS", grpc::StatusCode::ALREADY_EXISTS},
      {"FAILED_PRECONDITION", grpc::StatusCode::FAILED_PRECONDITION},
      {"OUT_OF_RANGE", grpc::StatusCode::OUT_OF_RANGE},
      {"UNIMPLEMENTED", grpc::StatusCode::UNIMPLEMENTED},
      {"INTERNAL", grpc::StatusCode::INTERNAL},
      {"UNAVAILABLE", grpc::StatusCode::UNAVAILABLE}};
  const auto it = codes.find(name);
  EXPECT_NE(it, codes.end()) << "no code " << name;
  return it == codes.end() ? grpc::StatusCode::UNKNOWN : it->second;
}

std::vector<Step> ParseScript(const std::string& text) {
  std::vector<Step> steps;
  std::vector<std::string>* body = nullptr;
  int number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (absl::StartsWith(line, "#")) continue;
    if (absl::StartsWith(line, ">")) {
      Step& step = steps.emplace_back();
      step.line = number;
      std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      size_t at = 1;
      if (words[0] == ">&") step.background = words[at++];
      step.method = words[at++];
      for (; at < words.size(); ++at) {
        if (words[at] == "@gantry") {
          step.gantry_only = true;
        } else if (words[at] == "@2") {
          step.since_2 = true;
        } else {
          const std::pair<std::string, std::string> header =
              absl::StrSplit(words[at], absl::MaxSplits('=', 1));
          step.headers[header.first] = header.second;
        }
      }
      body = &step.requests;
    } else if (absl::StartsWith(line, "<")) {
      std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      size_t at = 1;
      if (words[0] == "<&") {
        Step& step = steps.emplace_back();
        step.line = number;
        step.collect = true;
        step.background = words[at++];
      }
      Step& step = steps.back();
      step.code = CodeOf(words[at++]);
      step.words = absl::StrJoin(words.begin() + static_cast<int>(at), words.end(), " ");
      body = &step.answers;
    } else if (body != nullptr && line == "--") {
      if (body->empty()) body->emplace_back();
      body->emplace_back();
    } else if (body != nullptr && !absl::StripAsciiWhitespace(line).empty()) {
      if (body->empty()) body->emplace_back();
      absl::StrAppend(&body->back(), line, "\n");
    }
  }
  return steps;
}

// A call, all of whose messages are sent; of a client's stream each message is answered before the
// next is sent.
class RunningCall {
 public:
  RunningCall(grpc::GenericStub& stub, const pb::MethodDescriptor* method, const std::string& ns,
              const std::string& lease, const std::vector<grpc::ByteBuffer>& requests) {
    if (!ns.empty()) context_.AddMetadata("containerd-namespace", ns);
    if (!lease.empty()) context_.AddMetadata("containerd-lease", lease);
    context_.set_deadline(std::chrono::system_clock::now() +
                          std::chrono::seconds(absl::ToInt64Seconds(kCallLimit)));
    context_.set_wait_for_ready(true);
    call_ = stub.PrepareCall(
        &context_, absl::StrCat("/", method->service()->full_name(), "/", method->name()), &queue_);
    thread_ = std::thread([this, requests, streams = method->client_streaming()] {
      call_->StartCall(this);
      bool ok = Next();
      for (const grpc::ByteBuffer& request : requests) {
        if (!ok) break;
        call_->Write(request, this);
        ok = Next();
        if (ok && streams) ok = ReadOne();
      }
      if (ok) {
        call_->WritesDone(this);
        (void)Next();
        while (ReadOne()) {
        }
      }
      grpc::Status status;
      call_->Finish(&status, this);
      (void)Next();
      absl::MutexLock lock(&mu_);
      status_ = status;
      ended_ = true;
    });
  }
  ~RunningCall() {
    context_.TryCancel();
    thread_.join();
    queue_.Shutdown();
  }

  // Until `count` messages are here, or the call has ended.
  void Await(size_t count) {
    absl::MutexLock lock(&mu_);
    const auto there = [this, count]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return ended_ || answers_.size() >= count;
    };
    mu_.AwaitWithTimeout(absl::Condition(&there), kCallLimit);
  }
  grpc::Status Finish() {
    absl::MutexLock lock(&mu_);
    mu_.AwaitWithTimeout(absl::Condition(&ended_), kCallLimit + absl::Seconds(5));
    return status_;
  }
  void Cancel() { context_.TryCancel(); }
  // Whether a probe event has come through; probes are no answers.
  bool AwaitProbe(absl::Duration limit) {
    absl::MutexLock lock(&mu_);
    const auto there = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return probed_ || ended_; };
    mu_.AwaitWithTimeout(absl::Condition(&there), limit);
    return there();
  }
  std::vector<grpc::ByteBuffer> answers() const {
    absl::MutexLock lock(&mu_);
    return answers_;
  }

 private:
  bool Next() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }
  bool ReadOne() {
    grpc::ByteBuffer answer;
    call_->Read(&answer, this);
    if (!Next()) return false;
    std::vector<grpc::Slice> slices;
    std::string bytes;
    if (answer.Dump(&slices).ok()) {
      for (const grpc::Slice& slice : slices)
        bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
    absl::MutexLock lock(&mu_);
    if (absl::StrContains(bytes, kProbe)) {
      probed_ = true;
    } else {
      answers_.push_back(answer);
    }
    return true;
  }

  grpc::CompletionQueue queue_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  std::thread thread_;
  mutable absl::Mutex mu_;
  std::vector<grpc::ByteBuffer> answers_ ABSL_GUARDED_BY(mu_);
  grpc::Status status_ ABSL_GUARDED_BY(mu_);
  bool probed_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

// One of the daemons, and what a script has open with it.
class Side {
 public:
  Side(Api& api, std::string name, const std::string& address, int major, std::string directory)
      : api_(api), name_(std::move(name)), major_(major), directory_(std::move(directory)) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetMaxSendMessageSize(-1);
    channel_ =
        grpc::CreateCustomChannel("unix:" + address, grpc::InsecureChannelCredentials(), arguments);
    stub_ = std::make_unique<grpc::GenericStub>(channel_);
  }

  void Run(const std::string& script, const std::vector<Step>& steps) {
    for (const Step& step : steps) {
      if (is_gantry() ? false : step.gantry_only || (step.since_2 && major_ < 2)) continue;
      SCOPED_TRACE(absl::StrCat(name_, ": ", script, ":", step.line, ": ", step.method));
      if (step.collect) {
        Collect(step);
        continue;
      }
      const pb::MethodDescriptor* method = api_.Method(step.method);
      ASSERT_NE(method, nullptr) << "no such method";
      std::vector<grpc::ByteBuffer> requests;
      for (const std::string& text : step.requests) {
        std::unique_ptr<pb::Message> request = Parse(api_.New(method->input_type()), text);
        ASSERT_NE(request, nullptr);
        requests.push_back(BytesOf(*request));
      }
      const auto ns = step.headers.find("ns");
      const auto lease = step.headers.find("lease");
      auto call = std::make_unique<RunningCall>(
          *stub_, method, ns == step.headers.end() ? "conformance" : ns->second,
          lease == step.headers.end() ? "" : lease->second, requests);
      if (!step.background.empty()) {
        // A stream that answers its first message is in place once it has; others are when the
        // daemon has read them.
        if (method->client_streaming()) call->Await(1);
        if (method->name() == "Subscribe") Probe(*call);
        open_[step.background] = {method, std::move(call)};
        continue;
      }
      const grpc::Status status = call->Finish();
      Judge(step, method, *call, status);
      if (status.error_code() == grpc::StatusCode::UNAVAILABLE && step.code != status.error_code())
        break;  // the daemon is gone
    }
    open_.clear();
  }

  bool is_gantry() const { return name_ == "gantryd"; }

 private:
  struct Open {
    const pb::MethodDescriptor* method;
    std::unique_ptr<RunningCall> call;
  };

  // Events until one arrives: then the subscription is there.
  void Probe(RunningCall& subscription) {
    const pb::MethodDescriptor* publish = api_.Method("events.v1.Events/Publish");
    const std::unique_ptr<pb::Message> request =
        Parse(api_.New(publish->input_type()),
              absl::StrCat("topic: \"", kProbe,
                           "\" event { $any(containerd.events.ContainerDelete){ } }"));
    EXPECT_TRUE(Eventually([&] {
      RunningCall call(*stub_, publish, "conformance", "", {BytesOf(*request)});
      EXPECT_TRUE(call.Finish().ok());
      return subscription.AwaitProbe(absl::Milliseconds(100));
    }));
  }

  void Collect(const Step& step) {
    const auto it = open_.find(step.background);
    if (it == open_.end() && !is_gantry()) return;  // it was for gantryd alone
    ASSERT_NE(it, open_.end()) << "no call is open by the name " << step.background;
    Open open = std::move(it->second);
    open_.erase(it);
    if (step.code == grpc::StatusCode::OK) {
      open.call->Await(step.answers.size());
      const bool unary = !open.method->server_streaming();
      if (!unary) open.call->Cancel();
      const grpc::Status status = open.call->Finish();
      Judge(step, open.method, *open.call, unary ? status : grpc::Status::OK);
    } else {
      Judge(step, open.method, *open.call, open.call->Finish());
    }
  }

  void Judge(const Step& step, const pb::MethodDescriptor* method, RunningCall& call,
             const grpc::Status& status) {
    EXPECT_EQ(status.error_code(), step.code) << status.error_message();
    if (is_gantry() && !step.words.empty()) {
      EXPECT_TRUE(absl::StrContains(status.error_message(), step.words)) << status.error_message();
    }
    if (step.answers.empty() || status.error_code() != step.code) return;
    const std::vector<grpc::ByteBuffer> answers = call.answers();
    std::string all;
    std::vector<std::unique_ptr<pb::Message>> got;
    for (grpc::ByteBuffer answer : answers) {
      got.push_back(api_.New(method->output_type()));
      grpc::ProtoBufferReader reader(&answer);
      ASSERT_TRUE(got.back()->ParseFromZeroCopyStream(&reader));
      absl::StrAppend(&all, "\n  ", Print(*got.back()));
    }
    // At the end of a write, containerd says its last word twice.
    if (!is_gantry() && method->client_streaming() && got.size() == step.answers.size() + 1)
      got.pop_back();
    ASSERT_EQ(got.size(), step.answers.size()) << "answered:" << all;
    for (size_t i = 0; i < got.size(); ++i) {
      const std::unique_ptr<pb::Message> want =
          Parse(api_.New(method->output_type()), step.answers[i]);
      ASSERT_NE(want, nullptr);
      pb::util::MessageDifferencer differencer;
      differencer.set_scope(pb::util::MessageDifferencer::PARTIAL);
      std::string difference;
      differencer.ReportDifferencesToString(&difference);
      EXPECT_TRUE(differencer.Compare(*want, *got[i])) << difference << "answered:" << all;
    }
  }

  std::unique_ptr<pb::Message> Parse(std::unique_ptr<pb::Message> message, std::string text) {
    text = Replace(std::move(text));
    if (!pb::TextFormat::ParseFromString(text, message.get())) {
      ADD_FAILURE() << "does not parse: " << text;
      return nullptr;
    }
    return message;
  }

  static std::string AnyText(const std::string& type, const std::string& value) {
    return absl::StrCat("type_url: \"", type, "\" value: \"", absl::CEscape(value), "\"");
  }
  static std::string JsonList(const std::string& words) {
    return absl::StrCat("[\"", absl::StrJoin(absl::StrSplit(words, ' '), "\",\""), "\"]");
  }

  std::string Replace(std::string text) {
    static const std::string spec_type = "types.containerd.io/opencontainers/runtime-spec/1/";
    const auto each = [&text](const std::string& name,
                              const std::function<std::string(const std::string&)>& with) {
      for (size_t at; (at = text.find("$" + name + "(")) != std::string::npos;) {
        const size_t begin = at + name.size() + 2;
        const size_t end = text.find(')', begin);
        text.replace(at, end + 1 - at, with(text.substr(begin, end - begin)));
      }
    };
    each("digest", [](const std::string& of) { return Sha256(of); });
    each("repeat", [](const std::string& of) {
      const std::pair<std::string, std::string> parts = absl::StrSplit(of, absl::MaxSplits(',', 1));
      std::string out;
      for (int i = atoi(parts.first.c_str()); i > 0; --i) out += parts.second;
      return out;
    });
    each("spec", [this](const std::string& argv) {
      return AnyText(
          spec_type + "Spec",
          absl::StrCat(
              R"({"ociVersion":"1.0.2","process":{"cwd":"/","env":["PATH=/bin"],"args":)",
              JsonList(argv), R"(},"root":{"path":")", directory_,
              R"(/rootfs","readonly":true},"mounts":[{"destination":"/proc","type":"proc","source":)"
              R"("proc"}],"linux":{"cgroupsPath":"/gantry/conformance-)",
              getpid(), "-", name_, "-", ++specs_,
              R"(","namespaces":[{"type":"pid"},{"type":"mount"},{"type":"ipc"}]}})"));
    });
    each("process", [](const std::string& argv) {
      return AnyText(
          spec_type + "Process",
          absl::StrCat(R"({"cwd":"/","env":["PATH=/bin"],"args":)", JsonList(argv), "}"));
    });
    for (size_t at; (at = text.find("$dir")) != std::string::npos;) text.replace(at, 4, directory_);
    // Last: what is within has been replaced then.
    for (size_t at; (at = text.find("$any(")) != std::string::npos;) {
      const size_t close = text.find(')', at);
      const std::string type = text.substr(at + 5, close - at - 5);
      size_t end = text.find('{', close);
      const size_t begin = end + 1;
      for (int depth = 0; end < text.size(); ++end) {
        if (text[end] == '{') ++depth;
        if (text[end] == '}' && --depth == 0) break;
      }
      const std::unique_ptr<pb::Message> value =
          Parse(api_.New(type), text.substr(begin, end - begin));
      text.replace(at, end + 1 - at,
                   AnyText(type, value == nullptr ? "" : value->SerializeAsString()));
    }
    return text;
  }

  Api& api_;
  const std::string name_;
  const int major_;
  const std::string directory_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<grpc::GenericStub> stub_;
  std::map<std::string, Open> open_;
  int specs_ = 0;
};

// Gantry and a containerd beside it.
class PeerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(MakeBusyboxRoot(bed_->scratch() + "/rootfs").ok());
    ASSERT_TRUE(MakeDirectories(bed_->scratch() + "/apply", 0755).ok());
  }

  void StartPeer() {
    const char* other = getenv("GANTRY_PEER_CONTAINERD");
    const std::string program = other != nullptr ? other : "/usr/bin/containerd";
    const std::string base = bed_->scratch() + "/peer";
    ASSERT_TRUE(MakeDirectories(base, 0755).ok());
    ASSERT_TRUE(WriteFile(base + "/config.toml",
                          "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", "
                          "\"io.containerd.cri.v1.images\", \"io.containerd.cri.v1.runtime\"]\n")
                    .ok());
    peer_address_ = base + "/s";
    const UniqueFd log(open((base + "/log").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    Command command;
    command.argv = {program,   "--config",      base + "/config.toml", "--root",     base + "/root",
                    "--state", base + "/state", "--address",           peer_address_};
    command.stdout_fd = log.get();
    command.stderr_fd = log.get();
    command.new_session = true;
    absl::StatusOr<Process> started = Spawn(command);
    ASSERT_TRUE(started.ok()) << started.status();
    peer_ = *std::move(started);
    const auto version = [&] {
      const Outcome outcome = RunProgram({"ctr", "--address", peer_address_, "version"});
      if (!outcome.ok()) return false;
      const size_t server = outcome.out.find("Server:");
      const size_t at = outcome.out.find("Version:", server);
      peer_major_ = atoi(std::string(absl::StripLeadingAsciiWhitespace(
                                         absl::StripPrefix(outcome.out.substr(at + 8), "v")))
                             .c_str());
      return true;
    };
    ASSERT_TRUE(Eventually(version)) << "the peer does not answer: " << program;
  }

  void TearDown() override {
    if (peer_.pid() > 0) {
      // A script that failed half-way may have left tasks.
      const auto ctr = [&](std::vector<std::string> args) {
        std::vector<std::string> argv = {"ctr", "--address", peer_address_, "--namespace",
                                         "conformance"};
        argv.insert(argv.end(), args.begin(), args.end());
        return RunProgram(std::move(argv));
      };
      for (const absl::string_view id :
           absl::StrSplit(ctr({"tasks", "ls", "-q"}).out, '\n', absl::SkipEmpty()))
        (void)ctr({"tasks", "rm", "--force", std::string(id)});
      EXPECT_TRUE(peer_.Kill(SIGTERM).ok());
      EXPECT_TRUE(peer_.Wait(absl::Seconds(30)).ok());
      peer_ = Process();
    }
    if (bed_ != nullptr) {
      const std::string ns = "conformance";
      const Outcome left =
          RunProgram({"ctr", "--address", bed_->address(), "--namespace", ns, "tasks", "ls", "-q"});
      for (const absl::string_view id : absl::StrSplit(left.out, '\n', absl::SkipEmpty())) {
        (void)RunProgram({"ctr", "--address", bed_->address(), "--namespace", ns, "tasks", "rm",
                          "--force", std::string(id)});
      }
    }
    bed_.reset();
  }

  std::unique_ptr<Testbed> bed_;
  Process peer_;
  std::string peer_address_;
  int peer_major_ = 0;
};

class ConformanceTest : public PeerTest, public testing::WithParamInterface<const char*> {};

TEST_P(ConformanceTest, BothAnswerAsTheScriptSays) {
  const std::string script = absl::StrCat("integration/conformance/", GetParam(), ".txt");
  const absl::StatusOr<std::string> text = ReadFile(script, 1 << 20);
  ASSERT_TRUE(text.ok()) << text.status();
  const std::vector<Step> steps = ParseScript(*text);
  ASSERT_FALSE(steps.empty());
  Api api;
  Side gantry(api, "gantryd", bed_->address(), 2, bed_->scratch());
  gantry.Run(script, steps);

  ASSERT_NO_FATAL_FAILURE(StartPeer());
  Side containerd(api, "containerd", peer_address_, peer_major_, bed_->scratch());
  containerd.Run(script, steps);
}

constexpr const char* kScripts[] = {
    "containers", "content",    "diff",      "every_call", "events", "images",   "introspection",
    "leases",     "namespaces", "sandboxes", "snapshots",  "tasks",  "transfer",
};

INSTANTIATE_TEST_SUITE_P(Scripts, ConformanceTest, testing::ValuesIn(kScripts),
                         [](const auto& info) { return std::string(info.param); });

// A docker archive has no manifest; the one that is made of it is the same here and there, however
// its layers are compressed.
TEST_F(PeerTest, AnArchiveOfDockerIsTheSameImageForBoth) {
  ASSERT_NO_FATAL_FAILURE(StartPeer());
  const std::string top = bed_->scratch() + "/top";
  ASSERT_TRUE(MakeDirectories(top, 0755).ok());
  ASSERT_TRUE(WriteFile(top + "/said", "unpacked\n").ok());
  for (const char* compression : {"", "gzip", "zstd"}) {
    const std::string name = absl::StrCat("app:c", compression);
    ImageOptions image;
    image.names = {name};
    image.layer_compression = compression;
    const std::string archive = absl::StrCat(bed_->scratch(), "/app", compression, ".tar");
    ASSERT_TRUE(WriteDockerArchive(archive, {bed_->scratch() + "/rootfs", top}, image).ok());
    ASSERT_TRUE(Ok(RunProgram(
        {"ctr", "--address", peer_address_, "images", "import", "--no-unpack", archive})));
    const Outcome there = RunProgram({"ctr", "--address", peer_address_, "images", "ls",
                                      absl::StrCat("name==docker.io/library/", name)});
    ASSERT_TRUE(Ok(there));

    ASSERT_TRUE(Ok(bed_->Ctl({"load", "-i", archive})));
    const std::string here =
        bed_->CtlOut({"images", "--digests", "--no-trunc", "--format", "{{.Digest}}", name});
    EXPECT_EQ(here.size(), 71u) << here;
    EXPECT_TRUE(absl::StrContains(there.out, here))
        << name << " is " << here << " here, and there\n"
        << there.out << bed_->Ctr({"content", "get", here}).out;
    EXPECT_EQ(bed_->CtlOut({"run", "--rm", name, "cat", "/said"}), "unpacked");
  }
}

// Row by row of the fact table: each call of the API succeeds in some script, so that none can be
// forgotten or answer that it is not implemented.
TEST(ConformanceScriptsTest, EveryCallOfTheApiSucceedsSomewhere) {
  // What takes CRIU.
  const std::set<std::string> refused = {"tasks.v1.Tasks/Checkpoint"};
  std::set<std::string> asked, succeeded;
  for (const char* name : kScripts) {
    const absl::StatusOr<std::string> text =
        ReadFile(absl::StrCat("integration/conformance/", name, ".txt"), 1 << 20);
    ASSERT_TRUE(text.ok()) << text.status();
    std::map<std::string, std::string> open;
    for (const Step& step : ParseScript(*text)) {
      if (!step.background.empty() && !step.collect) open[step.background] = step.method;
      if (!step.background.empty() && !step.collect) continue;
      const std::string method = step.collect ? open[step.background] : step.method;
      asked.insert(method);
      if (step.code == grpc::StatusCode::OK) succeeded.insert(method);
    }
  }
  const absl::StatusOr<std::string> facts = ReadFile("proto/testdata/containerd.tsv", 4 << 20);
  ASSERT_TRUE(facts.ok()) << facts.status();
  int calls = 0;
  for (const absl::string_view line : absl::StrSplit(*facts, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, '\t');
    if (fields.size() < 4 || fields[0] != "rpc") continue;
    ++calls;
    const std::string method =
        absl::StrCat(absl::StripPrefix(fields[2], "containerd.services."), "/", fields[3]);
    EXPECT_EQ((refused.count(method) > 0 ? asked : succeeded).count(method), 1u) << method;
  }
  EXPECT_GT(calls, 80);
}

}  // namespace
}  // namespace gantry::integration
