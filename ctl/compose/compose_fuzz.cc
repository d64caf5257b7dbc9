// Compose files and what they bring with them: loading must end, and a project that loads must
// print as text that loads to the same project.
#include <cstdlib>
#include <string>
#include <vector>

#include "base/fuzz/fuzz.h"
#include "ctl/compose/env_file.h"
#include "ctl/compose/interpolation.h"
#include "ctl/compose/loader.h"
#include "ctl/compose/print_yaml.h"

namespace gantry {

std::vector<std::string> FuzzSeeds() {
  return {
      "services:\n  web:\n    image: x:${TAG:-1}\n    ports: ['8080:80', 90]\n    depends_on: "
      "[db]\n"
      "    environment: [A=b, C]\n    volumes: ['./a:/b:ro', 'v:/c']\n  db: {image: y}\n"
      "volumes: {v: }\n",
      "x-c: &c {restart: always}\nservices: {a: {<<: *c, image: i, command: sh -c \"a b\"}}\n",
      "include: [compose.yaml]\nservices: {a: {image: b, extends: a}}\n",
      "name: ${A?m}${B:+${C-d}}$$\nservices: {a: {build: ., networks: {n: {aliases: [x]}}}}\n"
      "networks: {n: {ipam: {config: [{subnet: 10.0.0.0/8}]}}}\n",
      "services: {a: !reset null, b: !override {image: c, ulimits: {nofile: {soft: 1, hard: "
      "2}}}}\n",
      "x-c: &c {restart: \xff\xff"
      "always}\nservices: {a: {<<: *c, image: i}}\n",
      "A=\"x\\n\\101 ${B}\"\nexport C='d'\nE: f # g\nH\n"};
}

void FuzzOne(absl::string_view bytes) {
  const std::string text(bytes);
  const compose::Lookup lookup = [](const std::string& name) -> std::optional<std::string> {
    return name == "TAG" ? std::optional<std::string>("2") : std::nullopt;
  };
  const compose::OnUnset on_unset = [](const std::string&) {};
  (void)compose::Interpolate(text, lookup, on_unset);
  (void)compose::ParseEnvFile(text, lookup, on_unset);
  (void)compose::ParseRawEnvFile(text, lookup);

  std::string file = text;
  compose::LoadOptions options;
  options.files = {"compose.yaml"};
  options.current_directory = "/p";
  options.read = [&](const std::string& path) -> absl::StatusOr<std::string> {
    if (path == "/p/compose.yaml") return file;
    return absl::NotFoundError("no such file");
  };
  const absl::StatusOr<compose::Project> first = compose::LoadProject(options);
  if (!first.ok()) return;
  file = compose::PrintYaml(first->model);
  const absl::StatusOr<compose::Project> second = compose::LoadProject(options);
  if (!second.ok() || second->model != first->model) abort();
}

}  // namespace gantry
