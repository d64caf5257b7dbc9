#include "supervisor/api/buildkit/solver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <optional>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"

#include "base/byte_stream.h"
#include "base/clock.h"
#include "base/engine/value.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/in_root.h"
#include "base/status_macros.h"
#include "base/tar/tree_extractor.h"
#include "base/unique_fd.h"
#include "proto/containerd/google/rpc/status.pb.h"
#include "proto/gantry/v1/builds.pb.h"
#include "supervisor/api/buildkit/session_agent.h"
#include "supervisor/api/buildkit/session_store.h"
#include "supervisor/build/build_client.h"
#include "supervisor/build/build_executor.h"

namespace gantry::api::buildkit {
namespace {

using engine::Value;

constexpr int64_t kMaxFileBytes = 16 << 20;  // of a Dockerfile or an ignore file
// Under which docker's clients have the credentials of docker.io.
constexpr char kDockerHub[] = "registry-1.docker.io";

// A directory for some files of the client, for a moment.
class Scratch {
 public:
  static absl::StatusOr<std::unique_ptr<Scratch>> Make(const std::string& below) {
    GANTRY_RETURN_IF_ERROR(MakeDirectories(below, 0700));
    std::string path = below + "/dockerfile-XXXXXX";
    if (mkdtemp(path.data()) == nullptr) return ErrnoToStatus(errno, path);
    auto scratch = std::unique_ptr<Scratch>(new Scratch(std::move(path)));
    scratch->root_.reset(open(scratch->path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!scratch->root_.valid()) return ErrnoToStatus(errno, scratch->path_);
    return scratch;
  }
  ~Scratch() {
    if (const absl::Status removed = RemoveTree(path_); !removed.ok())
      LOG(WARNING) << "files of a build: " << removed;
  }

  int root() const { return root_.get(); }
  // nullopt: there is no such file.
  absl::StatusOr<std::optional<std::string>> Read(const std::string& path) const {
    const UniqueFd file = OpenInRoot(root(), path, O_RDONLY | O_NONBLOCK);
    struct stat info;
    if (!file.valid() && (errno == ENOENT || errno == ENOTDIR)) return std::nullopt;
    if (!file.valid() || fstat(file.get(), &info) != 0) return ErrnoToStatus(errno, path);
    if (!S_ISREG(info.st_mode))
      return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
    FdSource source(file.get());
    GANTRY_ASSIGN_OR_RETURN(std::string text, ReadAll(source, kMaxFileBytes));
    return std::optional<std::string>(std::move(text));
  }

 private:
  explicit Scratch(std::string path) : path_(std::move(path)) {}
  const std::string path_;
  UniqueFd root_;
};

// The files of a result, which come as a tar and go to the client one by one.
class TreeOutput {
 public:
  static absl::StatusOr<std::unique_ptr<TreeOutput>> Make(const std::string& below) {
    auto output = std::make_unique<TreeOutput>();
    GANTRY_ASSIGN_OR_RETURN(output->scratch_, Scratch::Make(below));
    output->tar_.reset(open(below.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (!output->tar_.valid()) return ErrnoToStatus(errno, below);
    return output;
  }
  absl::Status Write(absl::string_view bytes) { return FdSink(tar_.get()).Write(bytes); }
  absl::Status SendTo(Session& session, int exporter, CancelToken* cancel) {
    if (lseek(tar_.get(), 0, SEEK_SET) != 0) return ErrnoToStatus(errno, "files of a build");
    FdSource tar(tar_.get());
    ExtractOptions options;
    options.owner = ExtractOptions::Owner::kArchive;
    options.cancel = cancel;
    GANTRY_RETURN_IF_ERROR(ExtractTree(tar, scratch_->root(), options).status());
    return session.SendTree(exporter, scratch_->root(), cancel);
  }

 private:
  std::unique_ptr<Scratch> scratch_;
  UniqueFd tar_;
};

// The client of a build, behind its sessions.
class SessionClient : public build::BuildClient {
 public:
  SessionClient(std::shared_ptr<Session> own, std::shared_ptr<Session> dockerfile,
                std::shared_ptr<Session> context, const Solver::Job& job)
      : own_(std::move(own)),
        dockerfile_(std::move(dockerfile)),
        context_(std::move(context)),
        sources_(job.solve.sources),
        upload_(job.upload),
        contexts_(job.solve.request.contexts_size()),
        agents_(own_) {}

  // The Dockerfile, and with it what the context leaves out. nullopt: it is in the context.
  absl::StatusOr<std::optional<std::string>> Dockerfile(const std::string& scratch_directory,
                                                        CancelToken* cancel) {
    if (sources_.dockerfile.empty()) return std::nullopt;
    const std::string& name = sources_.filename;
    const size_t slash = name.rfind('/');
    const std::string base = slash == std::string::npos ? name : name.substr(slash + 1);
    const std::string other = absl::StrCat(name.substr(0, name.size() - base.size()), "dockerfile");
    Session::Files wanted;
    wanted.name = sources_.dockerfile;
    wanted.paths = {name, name + ".dockerignore"};
    if (base == "Dockerfile") wanted.paths.push_back(other);
    GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Scratch> files, Scratch::Make(scratch_directory));
    GANTRY_RETURN_IF_ERROR(dockerfile_->Receive(wanted, files->root(), cancel, nullptr));
    GANTRY_ASSIGN_OR_RETURN(std::optional<std::string> text, files->Read(name));
    if (!text.has_value() && base == "Dockerfile") {
      GANTRY_ASSIGN_OR_RETURN(text, files->Read(other));
    }
    if (!text.has_value())
      return absl::NotFoundError(
          absl::StrCat("failed to read dockerfile: open ", name, ": no such file or directory"));
    if (text->empty())
      return absl::InvalidArgumentError(
          absl::StrCat("the Dockerfile (", name, ") cannot be empty"));
    GANTRY_ASSIGN_OR_RETURN(std::optional<std::string> ignore, files->Read(name + ".dockerignore"));
    if (!ignore.has_value() && !sources_.context.empty()) {
      GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Scratch> more,
                              Scratch::Make(scratch_directory));
      wanted.name = sources_.context;
      wanted.paths = {".dockerignore"};
      GANTRY_RETURN_IF_ERROR(context_->Receive(wanted, more->root(), cancel, nullptr));
      GANTRY_ASSIGN_OR_RETURN(ignore, more->Read(".dockerignore"));
    }
    if (ignore.has_value()) excludes_ = IgnorePatterns(*ignore);
    return text;
  }

  absl::Status Files(int directory, CancelToken* cancel,
                     const std::function<void(int64_t)>& progress) override {
    if (sources_.context.empty()) {
      const auto read = [&](ByteSource& tar) {
        const v1::BuildRequest::Open nothing;
        return build::RequestClient(nothing, tar).Files(directory, cancel, progress);
      };
      return upload_ ? upload_(read) : own_->Pull(sources_.upload, cancel, read);
    }
    Session::Files wanted;
    wanted.name = sources_.context;
    wanted.excludes = excludes_;
    return context_->Receive(wanted, directory, cancel, progress);
  }

  // The directory as its client knows it is the key, with what tells it from those of others.
  std::string ContextKey(int index) const override {
    const std::string name = NameOf(index);
    const std::string& shared = SessionOf(index).shared_key();
    if (name.empty() || shared.empty()) return "";
    return absl::StrCat("buildkit ", shared, " ", name);
  }
  absl::Status Update(int index, build::ContextUpdate& update, CancelToken* cancel,
                      const std::function<void(int64_t)>& progress) override {
    Session::Files wanted;
    wanted.name = NameOf(index);
    if (index == 0) wanted.excludes = excludes_;
    return SessionOf(index).Update(wanted, update, cancel, progress);
  }
  absl::Status NamedFiles(int index, int directory, CancelToken* cancel,
                          const std::function<void(int64_t)>& progress) override {
    if (index == 0) return Files(directory, cancel, progress);
    Session::Files wanted;
    wanted.name = NameOf(index);
    return own_->Receive(wanted, directory, cancel, progress);
  }

  absl::StatusOr<std::unique_ptr<core::BlobOrigin>> Origin(int index, CancelToken*) override {
    const auto layout = sources_.layouts.find(index);
    if (layout != sources_.layouts.end())
      return NewSessionOrigin(own_, layout->second.id, layout->second.digest);
    const size_t cache = static_cast<size_t>(index - 1 - contexts_);
    if (index <= contexts_ || cache >= sources_.caches.size())
      return absl::InternalError(absl::StrCat("context ", index, " is no layout"));
    return NewSessionOrigin(own_, sources_.caches[cache].id, sources_.caches[cache].digest);
  }
  std::unique_ptr<core::BlobTaker> CacheTaker(int index) override {
    return NewSessionTaker(own_, sources_.cache_stores.at(index),
                           [this](const content::Descriptor& blob) {
                             Value descriptor = Value::EmptyObject();
                             descriptor.Set("mediaType", blob.media_type);
                             descriptor.Set("digest", blob.digest.str());
                             descriptor.Set("size", blob.size_bytes);
                             cache_manifest_ = descriptor.ToJson();
                           });
  }
  // The patterns as an ignore file, after Dockerfile().
  std::string ignore_text() const { return absl::StrJoin(excludes_, "\n"); }
  // Of the local cache that was written, "" if none was.
  const std::string& cache_manifest() const { return cache_manifest_; }

  absl::StatusOr<std::string> Secret(const std::string& id, CancelToken* cancel) override {
    return own_->Secret(id, cancel);
  }
  absl::StatusOr<UniqueFd> Agent(const std::string& id, CancelToken* cancel) override {
    return agents_.Connect(id, cancel);
  }

  absl::StatusOr<v1::RegistryAuth> Credentials(const std::string& registry,
                                               CancelToken* cancel) override {
    GANTRY_ASSIGN_OR_RETURN(
        const Session::Credentials given,
        own_->CredentialsFor(registry == "docker.io" ? kDockerHub : registry, cancel));
    v1::RegistryAuth auth;
    if (given.secret.empty()) return auth;
    auth.set_server_address(registry);
    if (given.username.empty()) {
      auth.set_identity_token(given.secret);
    } else {
      auth.set_username(given.username);
      auth.set_password(given.secret);
    }
    return auth;
  }

 private:
  // "": it is no directory.
  std::string NameOf(int index) const {
    if (index == 0) return sources_.context;
    const auto found = sources_.directories.find(index);
    return found == sources_.directories.end() ? "" : found->second;
  }
  Session& SessionOf(int index) const { return index == 0 ? *context_ : *own_; }

  const std::shared_ptr<Session> own_;
  const std::shared_ptr<Session> dockerfile_;
  const std::shared_ptr<Session> context_;
  const SolveSources& sources_;
  const std::function<absl::Status(const std::function<absl::Status(ByteSource&)>&)>& upload_;
  const int contexts_;  // of the request
  SessionAgents agents_;
  std::vector<std::string> excludes_;
  std::string cache_manifest_;
};

// The results that the client takes itself, by their places.
class ClientOutputs {
 public:
  static absl::StatusOr<std::unique_ptr<ClientOutputs>> Make(
      const std::vector<Destination>& destinations, std::shared_ptr<Session> session,
      const std::string& directory) {
    auto outputs = std::make_unique<ClientOutputs>();
    outputs->session_ = std::move(session);
    outputs->places_.resize(destinations.size());
    for (size_t i = 0; i < destinations.size(); ++i) {
      if (destinations[i].kind != Destination::Kind::kLocal) continue;
      GANTRY_ASSIGN_OR_RETURN(outputs->places_[i].tree, TreeOutput::Make(directory));
    }
    return outputs;
  }
  absl::Status Write(uint32_t number, absl::string_view bytes, CancelToken* cancel) {
    if (number >= places_.size())
      return absl::InternalError(absl::StrCat("there is no output ", number));
    Place& place = places_[number];
    if (place.tree != nullptr) return place.tree->Write(bytes);
    if (place.file == nullptr) {
      GANTRY_ASSIGN_OR_RETURN(place.file, session_->OpenOutput(static_cast<int>(number), cancel));
    }
    return place.file->Write(bytes);
  }
  absl::Status Close(CancelToken* cancel) {
    for (size_t i = 0; i < places_.size(); ++i) {
      if (places_[i].file != nullptr) GANTRY_RETURN_IF_ERROR(places_[i].file->Close());
      if (places_[i].tree != nullptr)
        GANTRY_RETURN_IF_ERROR(places_[i].tree->SendTo(*session_, static_cast<int>(i), cancel));
    }
    return absl::OkStatus();
  }

 private:
  struct Place {
    std::unique_ptr<TreeOutput> tree;
    std::unique_ptr<Session::Output> file;
  };
  std::shared_ptr<Session> session_;
  std::vector<Place> places_;
};

Attributes ResultsOf(const v1::BuiltImage& built) {
  Attributes results;
  results["containerimage.digest"] = built.image_id();
  if (built.tags_size() > 0) results["image.name"] = absl::StrJoin(built.tags(), ",");
  Value descriptor = Value::EmptyObject();
  descriptor.Set("mediaType", built.descriptor().media_type());
  descriptor.Set("digest", built.descriptor().digest());
  descriptor.Set("size", built.descriptor().size_bytes());
  results["containerimage.descriptor"] = absl::Base64Escape(descriptor.ToJson());
  return results;
}

}  // namespace

absl::Status FailureOf(const absl::Status& failure, const std::string& file,
                       const std::string& dockerfile) {
  if (absl::IsCancelled(failure)) return failure;
  const Place place = PlaceOf(file, failure.message());
  absl::Status told = absl::UnknownError(place.message);
  if (place.line == 0 || dockerfile.empty()) return told;
  Value line = Value::EmptyObject();
  line.Set("line", place.line);
  Value range = Value::EmptyObject();
  range.Set("start", line);
  range.Set("end", std::move(line));
  Value info = Value::EmptyObject();
  info.Set("filename", file);
  info.Set("data", absl::Base64Escape(dockerfile));
  info.Set("language", "Dockerfile");
  Value source = Value::EmptyObject();
  source.Set("info", std::move(info));
  source.Set("ranges", Value::EmptyList().Append(std::move(range)));
  google::rpc::Status details;
  details.set_code(static_cast<int>(absl::StatusCode::kUnknown));
  details.set_message(place.message);
  google::protobuf::Any& any = *details.add_details();
  any.set_type_url("github.com/moby/buildkit/errdefs.Source+json");
  any.set_value(source.ToJson());
  told.SetPayload("grpc-status-details-bin", absl::Cord(details.SerializeAsString()));
  return told;
}

absl::StatusOr<v1::BuildReport> Solver::Describe(const core::CallContext& call, Job job) {
  const SolveSources& sources = job.solve.sources;
  v1::BuildRequest::Open& request = job.solve.request;
  GANTRY_ASSIGN_OR_RETURN(const std::shared_ptr<Session> own,
                          sessions_.Find(job.session, call.cancel));
  SessionClient client(own, own, own, job);
  GANTRY_ASSIGN_OR_RETURN(const std::optional<std::string> text,
                          client.Dockerfile(directory_, call.cancel));
  if (text.has_value()) {
    request.set_dockerfile_text(*text);
    request.set_ignore_text(client.ignore_text());
    request.set_has_context(false);
  }
  v1::BuildReport report;
  const absl::Status done =
      builder_.Build(call, request, client, [&](v1::BuildResponse event) -> absl::Status {
        if (event.has_report()) report = std::move(*event.mutable_report());
        return absl::OkStatus();
      });
  if (!done.ok()) return FailureOf(done, sources.filename, text.value_or(""));
  return report;
}

absl::StatusOr<Attributes> Solver::Run(const core::CallContext& call, Job job,
                                       const std::function<void(SolveProgress::Status)>& tell) {
  std::string dockerfile;
  BuildHistory::Record record;
  record.set_ref(job.ref);
  record.set_frontend(job.solve.frontend);
  for (const auto& [key, value] : job.solve.attributes)
    (*record.mutable_frontendattrs())[key] = value;
  history_.Begin(std::move(record), Clock::Real().Now());
  absl::StatusOr<Attributes> results =
      RunNow(call, job, dockerfile, [&](SolveProgress::Status status) {
        history_.Count(job.ref, status);
        tell(std::move(status));
      });
  history_.End(job.ref, results.status(), results.ok() ? *results : Attributes(),
               Clock::Real().Now());
  if (results.ok() || job.plain_failures) return results;
  return FailureOf(results.status(), job.solve.sources.filename, dockerfile);
}

absl::StatusOr<Attributes> Solver::RunNow(const core::CallContext& call, Job& job,
                                          std::string& dockerfile,
                                          const std::function<void(SolveProgress::Status)>& tell) {
  const SolveSources& sources = job.solve.sources;
  v1::BuildRequest::Open& request = job.solve.request;
  if (job.destinations.empty()) request.mutable_output()->set_kind(v1::BuildOutput::NONE);
  for (size_t i = 0; i < job.destinations.size(); ++i)
    (i == 0 ? *request.mutable_output() : *request.add_more_outputs()) = job.destinations[i].output;
  GANTRY_ASSIGN_OR_RETURN(const std::shared_ptr<Session> own,
                          sessions_.Find(job.session, call.cancel));
  std::shared_ptr<Session> for_dockerfile = own;
  std::shared_ptr<Session> for_context = own;
  if (!sources.dockerfile_session.empty()) {
    GANTRY_ASSIGN_OR_RETURN(for_dockerfile,
                            sessions_.Find(sources.dockerfile_session, call.cancel));
  }
  if (!sources.context_session.empty()) {
    GANTRY_ASSIGN_OR_RETURN(for_context, sessions_.Find(sources.context_session, call.cancel));
  }
  SessionClient client(own, for_dockerfile, for_context, job);
  GANTRY_ASSIGN_OR_RETURN(const std::optional<std::string> text,
                          client.Dockerfile(directory_, call.cancel));
  if (text.has_value()) {
    dockerfile = *text;
    request.set_dockerfile_text(*text);
    request.set_ignore_text(client.ignore_text());
  }

  SolveProgress progress(job.ref, sources.filename);
  progress.SetDockerfile(dockerfile);
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<ClientOutputs> outputs,
                          ClientOutputs::Make(job.destinations, own, directory_));
  v1::BuiltImage built;
  bool begun = false;
  const absl::Status done =
      builder_.Build(call, request, client, [&](v1::BuildResponse event) -> absl::Status {
        if (event.event_case() == v1::BuildResponse::kData)
          return outputs->Write(0, event.data(), call.cancel);
        if (event.has_more_data())
          return outputs->Write(event.more_data().place(), event.more_data().data(), call.cancel);
        if (event.has_built()) built = event.built();
        tell(progress.Add(event, Clock::Real().Now()));
        // After the first step, to which they belong.
        if (!std::exchange(begun, true)) {
          for (const std::string& note : job.solve.notes) tell(progress.Note(note));
        }
        return absl::OkStatus();
      });
  GANTRY_RETURN_IF_ERROR(done);
  GANTRY_RETURN_IF_ERROR(outputs->Close(call.cancel));
  Attributes results = ResultsOf(built);
  if (!client.cache_manifest().empty()) results["cache.manifest"] = client.cache_manifest();
  return results;
}

}  // namespace gantry::api::buildkit
