// BuildKit's protocol on the Docker door of a real gantryd: by a small client of our own, which
// serves a session as docker's do, and by docker's command line where one is installed.
#include <fcntl.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_posix.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "integration/images.h"
#include "integration/testbed.h"
#include "proto/buildkit/control.grpc.pb.h"
#include "proto/buildkit/filesync.grpc.pb.h"
#include "proto/buildkit/gateway.grpc.pb.h"
#include "proto/buildkit/secrets.grpc.pb.h"
#include "proto/buildkit/sshforward.grpc.pb.h"
#include "supervisor/api/docker/docker_client.h"

namespace gantry::integration {
namespace {

namespace control = moby::buildkit::v1;
using fsutil::types::Packet;
using testing::Contains;
using testing::HasSubstr;

constexpr char kImage[] = "busybox:door";
constexpr char kBuildId[] = "buildkit-controlapi-buildid";

// A connection to the door that has become HTTP/2.
UniqueFd Upgrade(const std::string& socket, const std::string& path, const std::string& fields) {
  api::docker::DockerClient client(socket);
  client.Send(absl::StrCat("POST ", path, " HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\n",
                           "Upgrade: h2c\r\n", fields, "\r\n"));
  // Not a byte more: what follows is HTTP/2 already.
  std::string head;
  char c = 0;
  while (!absl::EndsWith(head, "\r\n\r\n") && recv(client.fd(), &c, 1, 0) == 1) head.push_back(c);
  EXPECT_THAT(head, testing::StartsWith("HTTP/1.1 101 ")) << head;
  UniqueFd fd(fcntl(client.fd(), F_DUPFD_CLOEXEC, 3));
  EXPECT_EQ(fcntl(fd.get(), F_SETFL, O_RDWR | O_NONBLOCK), 0);
  return fd;
}

// The files of a client: name to content, of each directory that it offers.
using Directories = std::map<std::string, std::map<std::string, std::string>>;

class FileService final : public moby::filesync::v1::FileSync::Service {
 public:
  explicit FileService(Directories directories) : directories_(std::move(directories)) {}

  grpc::Status DiffCopy(grpc::ServerContext* context,
                        grpc::ServerReaderWriter<Packet, Packet>* stream) override {
    const auto& metadata = context->client_metadata();
    std::string name;
    std::set<std::string> only;
    for (const auto& [key, value] : metadata) {
      if (key == "dir-name") name.assign(value.data(), value.size());
      if (key == "followpaths") only.emplace(value.data(), value.size());
    }
    std::vector<std::string> contents;
    for (const auto& [path, content] : directories_[name]) {
      if (!only.empty() && only.count(path) == 0) continue;
      Packet packet;
      packet.mutable_stat()->set_path(path);
      packet.mutable_stat()->set_mode(0644);
      packet.mutable_stat()->set_size(static_cast<int64_t>(content.size()));
      stream->Write(packet);
      contents.push_back(content);
    }
    stream->Write(Packet());
    Packet packet;
    while (stream->Read(&packet)) {
      Packet answer;
      if (packet.type() == Packet::PACKET_REQ) {
        ++contents_asked_;
        answer.set_type(Packet::PACKET_DATA);
        answer.set_id(packet.id());
        answer.set_data(contents.at(packet.id()));
        stream->Write(answer);
        answer.clear_data();
        stream->Write(answer);
      } else if (packet.type() == Packet::PACKET_FIN) {
        answer.set_type(Packet::PACKET_FIN);
        stream->Write(answer);
        return grpc::Status::OK;
      } else {
        return grpc::Status(grpc::StatusCode::ABORTED, packet.data());
      }
    }
    return grpc::Status::OK;
  }

  // Contents that were asked for so far.
  int contents_asked() const { return contents_asked_; }

 private:
  Directories directories_;
  std::atomic<int> contents_asked_ = 0;
};

// An agent that answers each message with itself.
class AgentService final : public moby::sshforward::v1::SSH::Service {
 public:
  grpc::Status CheckAgent(grpc::ServerContext*,
                          const moby::sshforward::v1::CheckAgentRequest* request,
                          moby::sshforward::v1::CheckAgentResponse*) override {
    if (request->id() != "default")
      return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such agent");
    return grpc::Status::OK;
  }
  grpc::Status ForwardAgent(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<moby::sshforward::v1::BytesMessage,
                               moby::sshforward::v1::BytesMessage>* stream) override {
    moby::sshforward::v1::BytesMessage message;
    while (stream->Read(&message)) stream->Write(message);
    return grpc::Status::OK;
  }
};

class SecretService final : public moby::buildkit::secrets::v1::Secrets::Service {
 public:
  grpc::Status GetSecret(grpc::ServerContext*,
                         const moby::buildkit::secrets::v1::GetSecretRequest* request,
                         moby::buildkit::secrets::v1::GetSecretResponse* response) override {
    if (request->id() != "token")
      return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such secret");
    response->set_data("s3cret");
    return grpc::Status::OK;
  }
};

// A client with one session and one connection for its calls.
class Client {
 public:
  // `key` names the directories to the daemon; "" for none.
  Client(const std::string& socket, const std::string& id, Directories directories,
         const std::string& key = "")
      : files_(std::move(directories)) {
    grpc::ServerBuilder builder;
    builder.RegisterService(&files_);
    builder.RegisterService(&secrets_);
    builder.RegisterService(&agents_);
    server_ = builder.BuildAndStart();
    const UniqueFd session = Upgrade(
        socket, "/session",
        absl::StrCat(
            "X-Docker-Expose-Session-Uuid: ", id, "\r\n", "X-Docker-Expose-Session-Name: test\r\n",
            key.empty() ? "" : absl::StrCat("X-Docker-Expose-Session-Sharedkey: ", key, "\r\n"),
            "X-Docker-Expose-Session-Grpc-Method: "
            "/moby.filesync.v1.FileSync/DiffCopy\r\n"
            "X-Docker-Expose-Session-Grpc-Method: "
            "/moby.buildkit.secrets.v1.Secrets/GetSecret\r\n"
            "X-Docker-Expose-Session-Grpc-Method: "
            "/moby.sshforward.v1.SSH/CheckAgent\r\n"
            "X-Docker-Expose-Session-Grpc-Method: "
            "/moby.sshforward.v1.SSH/ForwardAgent\r\n"));
    grpc::AddInsecureChannelFromFd(server_.get(), fcntl(session.get(), F_DUPFD_CLOEXEC, 3));
    UniqueFd calls = Upgrade(socket, "/grpc", "");
    channel_ = grpc::CreateInsecureChannelFromFd("docker", calls.release());
    stub_ = control::Control::NewStub(channel_);
    gateway_ = moby::buildkit::v1::frontend::LLBBridge::NewStub(channel_);
  }
  ~Client() { Leave(); }

  const FileService& files() const { return files_; }
  control::Control::Stub& stub() { return *stub_; }
  moby::buildkit::v1::frontend::LLBBridge::Stub& gateway() { return *gateway_; }

  // Both connections end, as when the program is killed.
  void Leave() {
    if (server_ == nullptr) return;
    gateway_.reset();
    stub_.reset();
    channel_.reset();
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    server_.reset();
  }

 private:
  FileService files_;
  SecretService secrets_;
  AgentService agents_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<control::Control::Stub> stub_;
  std::unique_ptr<moby::buildkit::v1::frontend::LLBBridge::Stub> gateway_;
};

class BuildkitDoorTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    Testbed::Options options;
    options.config = "[network]\ndefault = \"none\"\n";
    bed_ = std::make_unique<Testbed>(options);
    const std::string archive = bed_->scratch() + "/image.tar";
    ASSERT_TRUE(WriteBusyboxArchive(archive, kImage).ok());
    ASSERT_TRUE(Ok(Ctl({"load", "-i", archive})));
  }

  std::string Socket() const { return bed_->state() + "/docker.sock"; }
  // In the namespace of docker's clients.
  Outcome Ctl(std::vector<std::string> args) const {
    std::vector<std::string> argv = bed_->CtlCommand({});
    for (std::string& word : argv) {
      if (word == bed_->ns()) word = "default";
    }
    argv.insert(argv.end(), args.begin(), args.end());
    return RunProgram(std::move(argv));
  }
  std::string In(std::vector<std::string> command) const {
    command.insert(command.begin(), {"run", "--rm", "made"});
    const Outcome ran = Ctl(std::move(command));
    EXPECT_TRUE(Ok(ran));
    return ran.out;
  }

  static control::SolveRequest Request(const std::string& ref) {
    control::SolveRequest request;
    request.set_ref(ref);
    request.set_session("session");
    request.set_frontend("dockerfile.v0");
    control::Exporter& exporter = *request.add_exporters();
    exporter.set_type("moby");
    (*exporter.mutable_attrs())["name"] = "made";
    return request;
  }
  static Directories Dockerfile(const std::string& text) {
    return {{"dockerfile", {{"Dockerfile", text}}}, {"context", {{"file", "content\n"}}}};
  }

  std::unique_ptr<Testbed> bed_;
};

TEST_F(BuildkitDoorTest, AClientBuildsFromItsSessionAndFollowsIt) {
  Client client(Socket(), "session",
                Dockerfile("FROM busybox:door\n"
                           "ARG V\n"
                           "COPY . /c\n"
                           "RUN --mount=type=secret,id=token wc -c < /run/secrets/token > /s\n"
                           "RUN echo built $V | tee /v\n"));
  control::ListWorkersResponse workers;
  grpc::ClientContext asks;
  ASSERT_TRUE(client.stub().ListWorkers(&asks, {}, &workers).ok());
  ASSERT_EQ(workers.record_size(), 1);
  EXPECT_EQ(workers.record(0).platforms(0).os(), "linux");

  std::vector<std::string> names;
  std::string output;
  std::thread follower([&] {
    grpc::ClientContext context;
    control::StatusRequest request;
    request.set_ref("build");
    const auto stream = client.stub().Status(&context, request);
    control::StatusResponse status;
    while (stream->Read(&status)) {
      for (const control::Vertex& vertex : status.vertexes()) {
        EXPECT_EQ(vertex.error(), "");
        if (vertex.has_completed()) names.push_back(vertex.name());
      }
      for (const control::VertexLog& log : status.logs()) output += log.msg();
    }
    EXPECT_TRUE(stream->Finish().ok());
  });
  control::SolveRequest request = Request("build");
  (*request.mutable_frontendattrs())["build-arg:V"] = "7";
  control::SolveResponse response;
  grpc::ClientContext context;
  const grpc::Status solved = client.stub().Solve(&context, request, &response);
  follower.join();
  ASSERT_TRUE(solved.ok()) << solved.error_message();
  EXPECT_EQ(response.exporterresponse().at("image.name"), "made");
  EXPECT_TRUE(absl::StartsWith(response.exporterresponse().at("containerimage.digest"), "sha256:"));
  EXPECT_THAT(names, Contains("[internal] load build definition from Dockerfile"));
  EXPECT_THAT(names, Contains("[2/4] COPY . /c"));
  EXPECT_THAT(names, Contains("exporting to image"));
  EXPECT_EQ(output, "built 7\n");
  EXPECT_EQ(In({"cat", "/c/file", "/v", "/s"}), "content\nbuilt 7\n6\n");
}

TEST_F(BuildkitDoorTest, ABuildFunctionOfTheClientIsServed) {
  namespace frontend = moby::buildkit::v1::frontend;
  Client client(Socket(), "session", Dockerfile("FROM busybox:door\nCOPY file /f\n"));
  grpc::Status solved;
  control::SolveResponse response;
  std::thread solver([&] {
    control::SolveRequest request = Request("build");
    request.clear_frontend();
    grpc::ClientContext context;
    solved = client.stub().Solve(&context, request, &response);
  });
  const auto call = [](grpc::ClientContext& context) { context.AddMetadata(kBuildId, "build"); };
  frontend::PongResponse pong;
  grpc::ClientContext pings;
  call(pings);
  EXPECT_TRUE(client.gateway().Ping(&pings, {}, &pong).ok());
  EXPECT_GT(pong.frontendapicaps_size(), 5);
  frontend::SolveRequest plan;
  plan.set_frontend("gateway.v0");
  (*plan.mutable_frontendopt())["source"] = "docker/dockerfile:1";
  frontend::SolveResponse planned;
  grpc::ClientContext plans;
  call(plans);
  const grpc::Status told = client.gateway().Solve(&plans, plan, &planned);
  ASSERT_TRUE(told.ok()) << told.error_message();
  frontend::ReturnRequest end;
  *end.mutable_result() = planned.result();
  frontend::ReturnResponse ended;
  grpc::ClientContext returns;
  call(returns);
  EXPECT_TRUE(client.gateway().Return(&returns, end, &ended).ok());
  solver.join();
  ASSERT_TRUE(solved.ok()) << solved.error_message();
  EXPECT_EQ(In({"cat", "/f"}), "content\n");
}

// As buildx asks for --check and --call.
TEST_F(BuildkitDoorTest, ADockerfileIsDescribedToTheClientsFunction) {
  namespace frontend = moby::buildkit::v1::frontend;
  Client client(Socket(), "session", Dockerfile("FROM nowhere AS app\nARG V=1\nCMD x\n"));
  grpc::Status solved;
  std::thread solver([&] {
    control::SolveRequest request = Request("build");
    request.clear_frontend();
    request.clear_exporters();
    control::SolveResponse response;
    grpc::ClientContext context;
    solved = client.stub().Solve(&context, request, &response);
  });
  const auto ask = [&](const std::string& id) {
    frontend::SolveRequest request;
    request.set_frontend("dockerfile.v0");
    (*request.mutable_frontendopt())["requestid"] = id;
    (*request.mutable_frontendopt())["frontend.caps"] =
        "moby.buildkit.frontend.subrequests+forward";
    frontend::SolveResponse response;
    grpc::ClientContext context;
    context.AddMetadata(kBuildId, "build");
    const grpc::Status told = client.gateway().Solve(&context, request, &response);
    EXPECT_TRUE(told.ok()) << told.error_message();
    return response.result();
  };
  const frontend::Result checked = ask("frontend.lint");
  EXPECT_EQ(checked.metadata().at("result.statuscode"), "1");
  EXPECT_THAT(checked.metadata().at("result.json"), HasSubstr("JSONArgsRecommended"));
  EXPECT_THAT(ask("frontend.outline").metadata().at("result.txt"), HasSubstr("V           1"));
  EXPECT_THAT(ask("frontend.targets").metadata().at("result.txt"), HasSubstr("app (default)"));
  frontend::ReturnRequest end;
  *end.mutable_result() = checked;
  frontend::ReturnResponse ended;
  grpc::ClientContext returns;
  returns.AddMetadata(kBuildId, "build");
  EXPECT_TRUE(client.gateway().Return(&returns, end, &ended).ok());
  solver.join();
  EXPECT_TRUE(solved.ok()) << solved.error_message();
}

TEST_F(BuildkitDoorTest, OnlyFilesThatHaveChangedAreSentAgain) {
  Directories directories = Dockerfile("FROM busybox:door\nCOPY . /c\n");
  const auto build = [&](const std::string& session) {
    Client client(Socket(), session, directories, "me:directory");
    control::SolveRequest request = Request("build-" + session);
    request.set_session(session);
    control::SolveResponse response;
    grpc::ClientContext context;
    const grpc::Status solved = client.stub().Solve(&context, request, &response);
    EXPECT_TRUE(solved.ok()) << solved.error_message();
    return client.files().contents_asked();
  };
  directories["context"]["other"] = "other\n";
  EXPECT_EQ(build("one"), 3);  // the Dockerfile and two files
  EXPECT_EQ(build("two"), 1);
  directories["context"]["file"] = "changed content\n";
  EXPECT_EQ(build("three"), 2);
  EXPECT_EQ(In({"cat", "/c/file", "/c/other"}), "changed content\nother\n");
}

TEST_F(BuildkitDoorTest, DirectoriesAndAgentsOfTheClientAreReached) {
  Directories directories = Dockerfile(
      "FROM busybox:door\nCOPY --from=more note /n\n"
      "RUN --mount=type=ssh,required stat -c %F $SSH_AUTH_SOCK > /agent\n");
  directories["dir"]["note"] = "beside\n";
  Client client(Socket(), "session", directories);
  control::SolveRequest request = Request("build");
  (*request.mutable_frontendattrs())["context:more"] = "local:dir";
  control::SolveResponse response;
  grpc::ClientContext context;
  const grpc::Status solved = client.stub().Solve(&context, request, &response);
  ASSERT_TRUE(solved.ok()) << solved.error_message();
  EXPECT_EQ(In({"cat", "/n", "/agent"}), "beside\nsocket\n");
}

TEST_F(BuildkitDoorTest, SeveralPlatformsAndOutputsOfOneBuild) {
  Client client(Socket(), "session", Dockerfile("FROM scratch\nCOPY file /f\n"));
  control::SolveRequest request = Request("build");
  (*request.mutable_frontendattrs())["platform"] = "linux/amd64,linux/arm64";
  (*request.mutable_frontendattrs())["attest:provenance"] = "mode=max";
  control::Exporter& second = *request.add_exporters();
  second.set_type("image");
  (*second.mutable_attrs())["name"] = "second";
  (*second.mutable_attrs())["compression"] = "zstd";
  control::SolveResponse response;
  grpc::ClientContext context;
  const grpc::Status solved = client.stub().Solve(&context, request, &response);
  ASSERT_TRUE(solved.ok()) << solved.error_message();
  EXPECT_EQ(response.exporterresponse().at("image.name"), "made");
  const Outcome listed = Ctl({"image", "ls", "--format", "{{.Repository}}"});
  EXPECT_THAT(listed.out, HasSubstr("made"));
  EXPECT_THAT(listed.out, HasSubstr("second"));
}

// As bake does, whose targets share a session.
TEST_F(BuildkitDoorTest, ASessionMayBeInsideOfACall) {
  FileService files(Dockerfile("FROM busybox:door\nCOPY file /f\n"));
  grpc::ServerBuilder builder;
  builder.RegisterService(&files);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd tunnel(ends[0]);
  ASSERT_EQ(fcntl(ends[1], F_SETFL, O_RDWR | O_NONBLOCK), 0);
  grpc::AddInsecureChannelFromFd(server.get(), ends[1]);

  UniqueFd calls = Upgrade(Socket(), "/grpc", "");
  const auto channel = grpc::CreateInsecureChannelFromFd("docker", calls.release());
  const auto stub = control::Control::NewStub(channel);
  grpc::ClientContext session;
  session.AddMetadata("x-docker-expose-session-uuid", "session");
  session.AddMetadata("x-docker-expose-session-grpc-method", "/moby.filesync.v1.FileSync/DiffCopy");
  const auto stream = stub->Session(&session);
  std::thread in([&] {
    control::BytesMessage message;
    while (stream->Read(&message)) {
      absl::string_view left = message.data();
      while (!left.empty()) {
        const ssize_t sent = send(tunnel.get(), left.data(), left.size(), MSG_NOSIGNAL);
        if (sent <= 0) return;
        left.remove_prefix(static_cast<size_t>(sent));
      }
    }
  });
  std::thread out([&] {
    char buffer[4096];
    ssize_t got;
    while ((got = recv(tunnel.get(), buffer, sizeof buffer, 0)) > 0) {
      control::BytesMessage message;
      message.set_data(buffer, static_cast<size_t>(got));
      if (!stream->Write(message)) return;
    }
  });
  control::SolveResponse response;
  grpc::ClientContext context;
  const grpc::Status solved = stub->Solve(&context, Request("build"), &response);
  EXPECT_TRUE(solved.ok()) << solved.error_message();
  // The client leaves: the call ends, and with it the session.
  session.TryCancel();
  in.join();
  shutdown(tunnel.get(), SHUT_RDWR);
  out.join();
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  server->Shutdown(std::chrono::system_clock::now());
  EXPECT_EQ(In({"cat", "/f"}), "content\n");
}

TEST_F(BuildkitDoorTest, AMistakeIsShownWithItsPlaceInTheDockerfile) {
  Client client(Socket(), "session", Dockerfile("FROM busybox:door\nRUN exit 3\n"));
  control::SolveResponse response;
  grpc::ClientContext context;
  const grpc::Status solved = client.stub().Solve(&context, Request("build"), &response);
  EXPECT_EQ(solved.error_code(), grpc::StatusCode::UNKNOWN);
  EXPECT_THAT(
      solved.error_message(),
      HasSubstr("process \"/bin/sh -c exit 3\" did not complete successfully: exit code: 3"));
  EXPECT_THAT(solved.error_details(), HasSubstr("github.com/moby/buildkit/errdefs.Source+json"));
  EXPECT_THAT(solved.error_details(), HasSubstr("\"line\":2"));
}

TEST_F(BuildkitDoorTest, WhatIsNotServedIsRefusedInWords) {
  Client client(Socket(), "session", Dockerfile("FROM busybox:door\n"));
  control::SolveRequest request = Request("build");
  request.mutable_definition()->add_def("x");
  control::SolveResponse response;
  grpc::ClientContext context;
  EXPECT_THAT(client.stub().Solve(&context, request, &response).error_message(),
              HasSubstr("definitions (LLB) are not supported"));
  EXPECT_THAT(api::docker::AskDocker(Socket(), "POST", "/session"), HasSubstr("HTTP/1.1 400"));
  EXPECT_THAT(api::docker::AskDocker(Socket(), "POST", "/build/cancel"), HasSubstr("HTTP/1.1 400"));
  EXPECT_THAT(api::docker::AskDocker(Socket(), "POST", "/build/cancel?id=gone"),
              HasSubstr("HTTP/1.1 200"));
}

TEST_F(BuildkitDoorTest, AClientThatIsKilledLeavesNothing) {
  auto client = std::make_unique<Client>(Socket(), "session",
                                         Dockerfile("FROM busybox:door\nRUN sleep 100\n"));
  grpc::ClientContext cut;
  std::thread solver([&] {
    control::SolveResponse response;
    EXPECT_FALSE(client->stub().Solve(&cut, Request("build"), &response).ok());
  });
  EXPECT_TRUE(Eventually([&] {
    return absl::StrContains(Ctl({"ps", "--no-trunc"}).out, "sleep 100");
  }));
  cut.TryCancel();
  solver.join();
  client->Leave();
  EXPECT_TRUE(Eventually([&] { return Ctl({"ps", "-aq"}).out.empty(); }));
  for (const std::string& directory : {bed_->state() + "/builds", bed_->root() + "/builds"}) {
    EXPECT_TRUE(Eventually([&] {
      return !std::filesystem::exists(directory) || std::filesystem::is_empty(directory);
    })) << directory;
  }
}

// docker's command line speaks it by itself up to version 20.10; later ones need buildx.
TEST_F(BuildkitDoorTest, DockersCommandLineBuilds) {
  const char* docker = "/usr/bin/docker";
  if (access(docker, X_OK) != 0) GTEST_SKIP() << "docker's command line is not installed";
  const std::string context = bed_->scratch() + "/context";
  std::filesystem::create_directories(context);
  ASSERT_TRUE(WriteFile(context + "/Dockerfile",
                        "FROM busybox:door\nARG V\nCOPY . /c\nRUN echo built $V | tee /v\n")
                  .ok());
  ASSERT_TRUE(WriteFile(context + "/file", "content\n").ok());
  ASSERT_TRUE(WriteFile(context + "/dropped", "x\n").ok());
  ASSERT_TRUE(WriteFile(context + "/.dockerignore", "dropped\nDockerfile\n").ok());
  const auto build = [&](std::vector<std::string> args) {
    std::vector<std::string> argv = {docker, "--host", "unix://" + Socket(), "build"};
    argv.insert(argv.end(), args.begin(), args.end());
    argv.push_back(context);
    return RunProgram(argv, "", absl::Seconds(120),
                      {{"DOCKER_CONFIG", bed_->scratch() + "/client"}, {"DOCKER_BUILDKIT", "1"}});
  };
  const Outcome built =
      build({"--progress", "plain", "-t", "made", "--build-arg", "V=7", "--label", "a=b"});
  if (absl::StrContains(built.err, "buildx component is missing"))
    GTEST_SKIP() << "this docker needs buildx";
  ASSERT_TRUE(Ok(built));
  EXPECT_THAT(built.err, HasSubstr("built 7"));
  EXPECT_EQ(In({"ls", "-A", "/c"}), ".dockerignore\nfile\n");
  EXPECT_EQ(In({"cat", "/v"}), "built 7\n");
  const Outcome quiet = build({"-q", "--build-arg", "V=7"});
  ASSERT_TRUE(Ok(quiet));
  EXPECT_TRUE(absl::StartsWith(quiet.out, "sha256:")) << quiet.out;
  ASSERT_TRUE(WriteFile(context + "/Dockerfile", "FROM busybox:door\nRNU x\n").ok());
  const Outcome failed = build({});
  EXPECT_EQ(failed.code, 1);
  EXPECT_THAT(failed.err, HasSubstr("unknown instruction: RNU"));
  // A tar on standard input comes in a request of its own.
  ASSERT_TRUE(WriteFile(context + "/Dockerfile", "FROM busybox:door\nCOPY file /from-tar\n").ok());
  const Outcome tar = RunProgram({"tar", "-C", context, "-c", "."});
  ASSERT_TRUE(Ok(tar));
  const Outcome from_tar =
      RunProgram({docker, "--host", "unix://" + Socket(), "build", "-t", "made", "-"}, tar.out,
                 absl::Seconds(120),
                 {{"DOCKER_CONFIG", bed_->scratch() + "/client"}, {"DOCKER_BUILDKIT", "1"}});
  ASSERT_TRUE(Ok(from_tar));
  EXPECT_EQ(In({"cat", "/from-tar"}), "content\n");
}

}  // namespace
}  // namespace gantry::integration
