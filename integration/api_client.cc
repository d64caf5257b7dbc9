#include "integration/api_client.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"

namespace gantry::integration {
namespace {

constexpr size_t kMessageBytes = 1 << 20;
constexpr int kMaxMessageBytes = 16 << 20;

}  // namespace

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

ApiClient::ApiClient(const std::string& socket, std::string ns, Windows windows)
    : ns_(std::move(ns)) {
  grpc::ChannelArguments arguments;
  if (windows == Windows::kSmall) arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  // Clients of one process share connections unless told not to.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  channel_ = grpc::CreateCustomChannel(absl::StrCat("unix:", socket),
                                       grpc::InsecureChannelCredentials(), arguments);
  containers_ = containers_api::Containers::NewStub(channel_);
  content_ = content_api::Content::NewStub(channel_);
  events_ = events_api::Events::NewStub(channel_);
  images_ = images_api::Images::NewStub(channel_);
  leases_ = leases_api::Leases::NewStub(channel_);
  snapshots_ = snapshots_api::Snapshots::NewStub(channel_);
  tasks_ = tasks_api::Tasks::NewStub(channel_);
}

std::unique_ptr<grpc::ClientContext> ApiClient::Context(absl::Duration timeout,
                                                        const std::string& lease) const {
  auto context = std::make_unique<grpc::ClientContext>();
  context->AddMetadata("containerd-namespace", ns_);
  if (!lease.empty()) context->AddMetadata("containerd-lease", lease);
  context->set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
  return context;
}

absl::StatusOr<std::string> ApiClient::WriteBlob(const std::string& ref, absl::string_view bytes,
                                                 const std::map<std::string, std::string>& labels,
                                                 const std::string& lease,
                                                 const std::string& expected) {
  auto context = Context(absl::Seconds(60), lease);
  auto stream = content_->Write(context.get());
  content_api::WriteContentResponse answer;
  size_t at = 0;
  bool open = true;
  do {
    const size_t n = std::min(kMessageBytes, bytes.size() - at);
    content_api::WriteContentRequest part;
    part.set_action(content_api::WRITE);
    if (at == 0) {
      part.set_ref(ref);
      part.set_total(static_cast<int64_t>(bytes.size()));
      part.set_expected(expected);
    }
    part.set_offset(static_cast<int64_t>(at));
    part.mutable_data()->assign(bytes.data() + at, n);
    at += n;
    open = stream->Write(part) && stream->Read(&answer);
  } while (open && at < bytes.size());
  if (open) {
    content_api::WriteContentRequest commit;
    commit.set_action(content_api::COMMIT);
    commit.set_offset(static_cast<int64_t>(bytes.size()));
    commit.set_total(static_cast<int64_t>(bytes.size()));
    for (const auto& [key, value] : labels) (*commit.mutable_labels())[key] = value;
    if (stream->Write(commit)) stream->Read(&answer);
  }
  stream->WritesDone();
  content_api::WriteContentResponse more;
  while (stream->Read(&more)) continue;
  GANTRY_RETURN_IF_ERROR(FromGrpc(stream->Finish()));
  return answer.digest();
}

absl::StatusOr<int64_t> ApiClient::ReadBlob(const std::string& digest, std::string* out) {
  auto context = Context();
  content_api::ReadContentRequest request;
  request.set_digest(digest);
  auto stream = content_->Read(context.get(), request);
  content_api::ReadContentResponse part;
  int64_t bytes = 0;
  while (stream->Read(&part)) {
    bytes += static_cast<int64_t>(part.data().size());
    if (out != nullptr) out->append(part.data());
  }
  GANTRY_RETURN_IF_ERROR(FromGrpc(stream->Finish()));
  return bytes;
}

absl::Status ApiClient::CreateContainer(const std::string& id, const std::string& image,
                                        const std::string& spec, const std::string& snapshot_key) {
  containers_api::CreateContainerRequest request;
  containers_api::Container& container = *request.mutable_container();
  container.set_id(id);
  container.set_image(image);
  container.mutable_runtime()->set_name("io.containerd.runc.v2");
  container.mutable_spec()->set_type_url("types.containerd.io/opencontainers/runtime-spec/1/Spec");
  container.mutable_spec()->set_value(spec);
  (*container.mutable_labels())["io.containerd.image.config.stop-signal"] = "SIGTERM";
  if (!snapshot_key.empty()) {
    container.set_snapshotter("overlayfs");
    container.set_snapshot_key(snapshot_key);
  }
  containers_api::CreateContainerResponse response;
  auto context = Context();
  return FromGrpc(containers_->Create(context.get(), request, &response));
}

}  // namespace gantry::integration
