#include <string>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"

#include "supervisor/api/buildkit/solve_progress.h"
#include "supervisor/api/buildkit/solve_request.h"

namespace gantry::api::buildkit {
namespace {

using Strings = std::vector<std::string>;

TEST(ReadFrontendTest, OptionsOfABuildBecomeTheRequest) {
  const absl::StatusOr<Solve> solve = ReadFrontend("dockerfile.v0",
                                                   {{"filename", "my.Dockerfile"},
                                                    {"build-arg:V", "1"},
                                                    {"build-arg:SOURCE_DATE_EPOCH", "1700000000"},
                                                    {"label:a", "b"},
                                                    {"target", "t"},
                                                    {"no-cache", "x,y"},
                                                    {"platform", "linux/amd64"},
                                                    {"force-network-mode", "none"},
                                                    {"add-hosts", "h=1.2.3.4,\"i=fe80::1\""},
                                                    {"ulimit", "nofile=10:20"},
                                                    {"shm-size", "4096"},
                                                    {"image-resolve-mode", "pull"}},
                                                   {"network.host"});
  ASSERT_TRUE(solve.ok()) << solve.status();
  const v1::BuildRequest::Open& open = solve->request;
  EXPECT_EQ(solve->sources.filename, "my.Dockerfile");
  EXPECT_EQ(open.dockerfile(), "my.Dockerfile");
  ASSERT_EQ(open.arguments_size(), 2);
  EXPECT_EQ(open.arguments(1).name(), "V");
  EXPECT_EQ(open.source_date_epoch(), 1700000000);
  EXPECT_EQ(open.labels().at("a"), "b");
  EXPECT_EQ(open.target(), "t");
  EXPECT_FALSE(open.no_cache());
  EXPECT_EQ(Strings(open.no_cache_stages().begin(), open.no_cache_stages().end()),
            (Strings{"x", "y"}));
  EXPECT_EQ(open.platform(), "linux/amd64");
  EXPECT_EQ(open.network_mode(), "none");
  EXPECT_EQ(Strings(open.extra_hosts().begin(), open.extra_hosts().end()),
            (Strings{"h:1.2.3.4", "i:fe80::1"}));
  EXPECT_EQ(open.resources().ulimits(0).hard(), 20);
  EXPECT_EQ(open.shm_size_bytes(), 4096);
  EXPECT_TRUE(open.pull());
  EXPECT_EQ(open.allow(0), "network.host");
  EXPECT_TRUE(solve->notes.empty());
}

TEST(ReadFrontendTest, DockersFrontendImageIsAnsweredByTheBuilderWithANote) {
  for (const char* source : {"docker/dockerfile:1", "docker.io/docker/dockerfile:1.7-labs",
                             "docker/dockerfile@sha256:00"}) {
    const absl::StatusOr<Solve> solve = ReadFrontend("gateway.v0", {{"source", source}}, {});
    ASSERT_TRUE(solve.ok()) << solve.status();
    ASSERT_EQ(solve->notes.size(), 1u);
    EXPECT_NE(solve->notes[0].find(source), std::string::npos);
  }
  EXPECT_TRUE(absl::IsUnimplemented(
      ReadFrontend("gateway.v0", {{"source", "evil/docker/dockerfile"}}, {}).status()));
  EXPECT_TRUE(absl::IsUnimplemented(
      ReadFrontend("gateway.v0", {{"source", "docker/dockerfile-evil"}}, {}).status()));
  EXPECT_TRUE(absl::IsUnimplemented(ReadFrontend("", {}, {}).status()));
}

TEST(ReadFrontendTest, WhatIsNotServedIsRefusedAndMistakesAreSaid) {
  using Options = Attributes;
  for (const Options& options :
       {Options{{"context:x", "input:x"}}, Options{{"contextsubdir", "x"}},
        Options{{"attest:sbom", "generator=image"}}, Options{{"requestid", "frontend.other"}},
        Options{{"attest:other", ""}}}) {
    EXPECT_TRUE(absl::IsUnimplemented(ReadFrontend("dockerfile.v0", options, {}).status()))
        << options.begin()->first;
  }
  for (const Options& options :
       {Options{{"shm-size", "x"}}, Options{{"ulimit", "nofile"}}, Options{{"add-hosts", "x"}},
        Options{{"multi-platform", "perhaps"}}, Options{{"build-arg:SOURCE_DATE_EPOCH", "x"}}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ReadFrontend("dockerfile.v0", options, {}).status()))
        << options.begin()->first;
  }
  EXPECT_EQ(ReadFrontend("dockerfile.v0", {{"requestid", "frontend.lint"}}, {})->request.call(),
            "check");
  // What a client adds by itself is no wish of its user.
  EXPECT_TRUE(
      ReadFrontend("dockerfile.v0", {{"attest:provenance", "mode=min,inline-only=true"}}, {}).ok());
}

TEST(ReadFrontendTest, ContextsMayLieElsewhere) {
  const absl::StatusOr<Solve> solve = ReadFrontend(
      "dockerfile.v0",
      {{"context", "https://example.com/x.git#main"}, {"context:base", "docker-image://busybox:1"}},
      {});
  ASSERT_TRUE(solve.ok()) << solve.status();
  EXPECT_EQ(solve->request.remote_context(), "https://example.com/x.git#main");
  EXPECT_EQ(solve->sources.dockerfile, "");
  ASSERT_EQ(solve->request.contexts_size(), 1);
  EXPECT_EQ(solve->request.contexts(0).name(), "base");
  EXPECT_EQ(solve->request.contexts(0).source(), "docker-image://busybox:1");
}

TEST(ReadFrontendTest, AnUploadedContextHasItsDockerfileInIt) {
  absl::StatusOr<Solve> solve =
      ReadFrontend("dockerfile.v0", {{"context", "http://buildkit-session/abc"}}, {});
  ASSERT_TRUE(solve.ok());
  EXPECT_EQ(solve->sources.upload, "/abc");
  EXPECT_EQ(solve->sources.context, "");
  EXPECT_EQ(solve->sources.dockerfile, "");
  solve = ReadFrontend(
      "dockerfile.v0",
      {{"context", "http://buildkit-session/abc"}, {"dockerfilekey", "dockerfile"}}, {});
  ASSERT_TRUE(solve.ok());
  EXPECT_EQ(solve->sources.dockerfile, "dockerfile");
}

TEST(ReadFrontendTest, DirectoriesMayBeInAnotherSession) {
  const absl::StatusOr<Solve> solve = ReadFrontend(
      "dockerfile.v0",
      {{"local-sessionid:context", "x:abc"}, {"local-sessionid:dockerfile", "def"}}, {});
  ASSERT_TRUE(solve.ok());
  EXPECT_EQ(solve->sources.context_session, "abc");
  EXPECT_EQ(solve->sources.dockerfile_session, "def");
}

TEST(ReadExporterTest, TypesAndNames) {
  const absl::StatusOr<Destination> moby = ReadExporter("moby", {{"name", "a:1, b"}});
  ASSERT_TRUE(moby.ok());
  EXPECT_EQ(moby->kind, Destination::Kind::kImage);
  EXPECT_EQ(Strings(moby->output.names().begin(), moby->output.names().end()),
            (Strings{"a:1", "b"}));
  EXPECT_EQ(ReadExporter("tar", {})->kind, Destination::Kind::kTar);
  EXPECT_EQ(ReadExporter("local", {})->kind, Destination::Kind::kLocal);
  EXPECT_TRUE(absl::IsUnimplemented(ReadExporter("nope", {}).status()));
  EXPECT_TRUE(absl::IsUnimplemented(ReadExporter("oci", {{"tar", "false"}}).status()));
}

TEST(ReadExporterTest, TheFormOfAnImage) {
  const absl::StatusOr<Destination> oci =
      ReadExporter("oci", {{"compression", "zstd"},
                           {"compression-level", "7"},
                           {"force-compression", "true"},
                           {"oci-mediatypes", "false"},
                           {"rewrite-timestamp", "true"},
                           {"annotation.a", "1"},
                           {"annotation-index.b", "2"},
                           {"annotation-manifest-descriptor[linux/amd64].c", "3"}});
  ASSERT_TRUE(oci.ok()) << oci.status();
  EXPECT_EQ(oci->output.kind(), v1::BuildOutput::OCI);
  EXPECT_EQ(oci->output.compression(), v1::BuildOutput::ZSTD);
  EXPECT_EQ(oci->output.compression_level(), 7);
  EXPECT_TRUE(oci->output.force_compression());
  EXPECT_TRUE(oci->output.has_oci_media_types());
  EXPECT_FALSE(oci->output.oci_media_types());
  EXPECT_TRUE(oci->output.rewrite_timestamp());
  EXPECT_EQ(oci->output.annotations().at("manifest:a"), "1");
  EXPECT_EQ(oci->output.annotations().at("index:b"), "2");
  EXPECT_EQ(oci->output.annotations().at("manifest-descriptor:c"), "3");
  EXPECT_TRUE(ReadExporter("image", {{"push", "true"}})->output.push());
  EXPECT_TRUE(absl::IsInvalidArgument(ReadExporter("oci", {{"compression", "rar"}}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ReadExporter("oci", {{"push", "perhaps"}}).status()));
}

TEST(ReadFrontendTest, SeveralPlatformsCachesAndContextsOfTheClient) {
  const absl::StatusOr<Solve> solve = ReadFrontend(
      "dockerfile.v0",
      {{"platform", "linux/amd64,linux/arm64"},
       {"multi-platform", "true"},
       {"context:layout", "oci-layout://store:latest@sha256:abc"},
       {"context:more", "local:dir"},
       {"attest:provenance", "mode=max,version=v0.2"},
       {"attest:sbom", ""},
       {"vcs:revision", "123"},
       {"cache-imports",
        R"([{"Type":"registry","Attrs":{"ref":"r/a:c"}},)"
        R"({"Type":"local","Attrs":{"src":"d","digest":"sha256:00"}},{"Type":"gha","Attrs":{}}])"}},
      {});
  ASSERT_TRUE(solve.ok()) << solve.status();
  const v1::BuildRequest::Open& open = solve->request;
  EXPECT_EQ(Strings(open.platforms().begin(), open.platforms().end()),
            (Strings{"linux/amd64", "linux/arm64"}));
  EXPECT_EQ(open.platform(), "");
  ASSERT_EQ(open.contexts_size(), 2);
  EXPECT_EQ(solve->sources.layouts.at(1), (SolveStore{"oci:store", "sha256:abc"}));
  EXPECT_EQ(solve->sources.directories.at(2), "dir");
  EXPECT_EQ(open.contexts(1).source(), "");
  EXPECT_EQ(open.attestations().provenance(), v1::BuildAttestations::MAX);
  EXPECT_EQ(open.attestations().slsa_version(), "v0.2");
  EXPECT_EQ(open.attestations().vcs().at("revision"), "123");
  EXPECT_TRUE(open.attestations().sbom());
  ASSERT_EQ(open.cache_from_size(), 2);
  EXPECT_EQ(open.cache_from(0).reference(), "r/a:c");
  EXPECT_EQ(solve->sources.caches[1], (SolveStore{"local:d", "sha256:00"}));
  EXPECT_EQ(solve->notes.size(), 1u);
}

TEST(AddCacheExportTest, PlacesOfACache) {
  Solve solve;
  ASSERT_TRUE(AddCacheExport("local", {{"dest", "d"}, {"mode", "max"}, {"tag", "t"}}, solve).ok());
  ASSERT_TRUE(
      AddCacheExport("registry", {{"ref", "r/c"}, {"image-manifest", "false"}}, solve).ok());
  ASSERT_TRUE(AddCacheExport("inline", {}, solve).ok());
  EXPECT_EQ(solve.sources.cache_stores, (Strings{"local:d", "", ""}));
  EXPECT_TRUE(solve.request.cache_to(0).all_steps());
  EXPECT_EQ(solve.request.cache_to(0).tag(), "t");
  EXPECT_TRUE(solve.request.cache_to(1).index());
  EXPECT_EQ(solve.request.cache_to(2).kind(), v1::BuildCachePlace::INLINE);
  EXPECT_TRUE(absl::IsInvalidArgument(AddCacheExport("registry", {{"ref", "r/c"}}, solve)));
  EXPECT_TRUE(absl::IsInvalidArgument(AddCacheExport("local", {{"mode", "mid"}}, solve)));
  EXPECT_TRUE(absl::IsUnimplemented(AddCacheExport("s3", {}, solve)));
}

TEST(IgnorePatternsTest, LinesAreCleaned) {
  EXPECT_EQ(IgnorePatterns("\xEF\xBB\xBF# no\n*.log\n\n /a/b/ \n! /a/./b/c\nx/../y\n/\n"),
            (Strings{"*.log", "a/b", "!a/b/c", "y", "/"}));
}

TEST(PlaceOfTest, TheLineIsTakenOutOfTheMessage) {
  Place place = PlaceOf("a/Dockerfile", "a/Dockerfile:12: RUN x: exit code: 3");
  EXPECT_EQ(place.line, 12);
  EXPECT_EQ(place.message, "RUN x: exit code: 3");
  place = PlaceOf("Dockerfile", "Dockerfile: dockerfile parse error on line 3: unknown");
  EXPECT_EQ(place.line, 3);
  EXPECT_EQ(place.message, "dockerfile parse error on line 3: unknown");
  place = PlaceOf("Dockerfile", "no space left");
  EXPECT_EQ(place.line, 0);
  EXPECT_EQ(place.message, "no space left");
}

const absl::Time kNow = absl::FromUnixSeconds(100) + absl::Milliseconds(500);

v1::BuildResponse StepEvent(int number, const std::string& name, int64_t completed = 0) {
  v1::BuildResponse event;
  event.mutable_step()->set_number(number);
  event.mutable_step()->set_name(name);
  event.mutable_step()->mutable_started_at()->set_seconds(100);
  if (completed != 0) event.mutable_step()->mutable_completed_at()->set_seconds(completed);
  return event;
}

TEST(SolveProgressTest, AStepIsAVertexWithItsOutput) {
  SolveProgress progress("ref", "Dockerfile");
  const SolveProgress::Status begun = progress.Add(StepEvent(1, "[1/2] FROM x"), kNow);
  ASSERT_EQ(begun.vertexes_size(), 1);
  EXPECT_EQ(begun.vertexes(0).name(), "[1/2] FROM x");
  EXPECT_EQ(begun.vertexes(0).digest().substr(0, 7), "sha256:");
  EXPECT_FALSE(begun.vertexes(0).has_completed());

  v1::BuildResponse log;
  log.mutable_log()->set_step(1);
  log.mutable_log()->set_stream(2);
  log.mutable_log()->set_data("out\n");
  const SolveProgress::Status said = progress.Add(log, kNow);
  ASSERT_EQ(said.logs_size(), 1);
  EXPECT_EQ(said.logs(0).vertex(), begun.vertexes(0).digest());
  EXPECT_EQ(said.logs(0).msg(), "out\n");
  EXPECT_EQ(said.logs(0).stream(), 2);
  EXPECT_EQ(said.logs(0).timestamp().seconds(), 100);
  EXPECT_EQ(said.logs(0).timestamp().nanos(), 500'000'000);

  v1::BuildResponse ended = StepEvent(1, "[1/2] FROM x", 101);
  ended.mutable_step()->set_error("Dockerfile:2: RUN x: failed");
  const SolveProgress::Status failed = progress.Add(ended, kNow);
  ASSERT_EQ(failed.vertexes_size(), 1);
  EXPECT_EQ(failed.vertexes(0).error(), "RUN x: failed");
  EXPECT_EQ(failed.vertexes(0).completed().seconds(), 101);
}

TEST(SolveProgressTest, StatusesEndWithTheirStep) {
  SolveProgress progress("ref", "Dockerfile");
  progress.Add(StepEvent(1, "[internal] load build context"), kNow);
  v1::BuildResponse event;
  event.mutable_progress()->set_step(1);
  event.mutable_progress()->set_id("transferring context");
  event.mutable_progress()->set_current_bytes(10);
  const SolveProgress::Status going = progress.Add(event, kNow);
  ASSERT_EQ(going.statuses_size(), 1);
  EXPECT_EQ(going.statuses(0).id(), "transferring context:");
  EXPECT_EQ(going.statuses(0).current(), 10);
  EXPECT_FALSE(going.statuses(0).has_completed());
  const SolveProgress::Status over = progress.Add(StepEvent(1, "[internal] load", 102), kNow);
  ASSERT_EQ(over.statuses_size(), 1);
  EXPECT_EQ(over.statuses(0).completed().seconds(), 102);
}

TEST(SolveProgressTest, StepsOfTheConfigurationAreNotShown) {
  SolveProgress progress("ref", "Dockerfile");
  v1::BuildResponse event = StepEvent(1, "ENV A=b");
  event.mutable_step()->set_metadata(true);
  EXPECT_EQ(progress.Add(event, kNow).vertexes_size(), 0);
}

TEST(SolveProgressTest, TheExportSaysWhatWasMadeAndNamed) {
  SolveProgress progress("ref", "Dockerfile");
  EXPECT_EQ(progress.Add(StepEvent(5, "exporting to image"), kNow).vertexes_size(), 1);
  EXPECT_EQ(progress.Add(StepEvent(5, "exporting to image", 103), kNow).vertexes_size(), 0);
  v1::BuildResponse event;
  event.mutable_built()->set_image_id("sha256:ab");
  event.mutable_built()->add_tags("x:1");
  const SolveProgress::Status over = progress.Add(event, kNow);
  ASSERT_EQ(over.statuses_size(), 3);
  EXPECT_EQ(over.statuses(1).id(), "writing image sha256:ab");
  EXPECT_EQ(over.statuses(2).id(), "naming to x:1");
  ASSERT_EQ(over.vertexes_size(), 1);
  EXPECT_EQ(over.vertexes(0).completed().seconds(), 103);
}

TEST(SolveProgressTest, AWarningNamesItsLine) {
  SolveProgress progress("ref", "Dockerfile");
  progress.SetDockerfile("FROM x\n");
  progress.Add(StepEvent(1, "[internal] load build definition from Dockerfile"), kNow);
  v1::BuildResponse event;
  event.mutable_warning()->set_rule("R");
  event.mutable_warning()->set_text("t");
  event.mutable_warning()->set_file("Dockerfile");
  event.mutable_warning()->set_line(1);
  const SolveProgress::Status said = progress.Add(event, kNow);
  ASSERT_EQ(said.warnings_size(), 1);
  EXPECT_EQ(said.warnings(0).short_(), "R: t (line 1)");
  EXPECT_EQ(said.warnings(0).info().data(), "FROM x\n");
  EXPECT_EQ(said.warnings(0).ranges(0).start().line(), 1);
}

}  // namespace
}  // namespace gantry::api::buildkit
