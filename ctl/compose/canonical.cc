#include "ctl/compose/canonical.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/engine/value_syntax.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"

namespace gantry::compose {
namespace {

absl::Status Bad(const Node& node, const std::string& path, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(node.at.Text(), ": ", path, ": ", why));
}

// A node at the place of another, with its tag.
Node At(const Node& place, Node node) {
  node.at = place.at;
  node.tag = place.tag;
  return node;
}

// "KEY=value" items as a map; a bare KEY has no value. A value of a map becomes text.
void MapFromTexts(Node& node) {
  if (node.is_list()) {
    Node map = At(node, Node::Map());
    for (const Node& item : node.items) {
      const size_t equals = item.text.find('=');
      Node value =
          equals == std::string::npos ? Node::Null() : Node::String(item.text.substr(equals + 1));
      value.at = item.at;
      map.Set(item.text.substr(0, equals), std::move(value));
    }
    node = std::move(map);
    return;
  }
}

// Labels are text, also where nothing is said.
void LabelMap(Node& node) {
  MapFromTexts(node);
  for (auto& [key, value] : node.entries) {
    if (value.is_null()) value = At(value, Node::String(""));
  }
}

void ListFromText(Node& node) {
  if (!node.is_scalar()) return;
  Node list = At(node, Node::List());
  Node item = Node::String(node.text);
  item.at = node.at;
  list.items.push_back(std::move(item));
  node = std::move(list);
}

// "host:ip" and {host: ip} as "host=ip".
void HostList(Node& node) {
  Node list = At(node, Node::List());
  for (const Node& item : node.items) {
    std::string text = item.text;
    if (text.find('=') == std::string::npos) {
      const size_t colon = text.find(':');
      if (colon != std::string::npos) text[colon] = '=';
    }
    list.items.push_back(At(item, Node::String(text)));
  }
  for (const auto& [host, address] : node.entries) {
    if (address.is_list()) {
      for (const Node& one : address.items)
        list.items.push_back(At(one, Node::String(absl::StrCat(host, "=", one.text))));
    } else {
      list.items.push_back(At(address, Node::String(absl::StrCat(host, "=", address.text))));
    }
  }
  node = std::move(list);
}

absl::Status CommandList(Node& node, const std::string& path) {
  if (!node.is_scalar()) return absl::OkStatus();
  absl::StatusOr<std::vector<std::string>> words = SplitCommand(node.text);
  if (!words.ok()) return Bad(node, path, words.status().message());
  Node list = At(node, Node::List());
  for (const std::string& word : *words) list.items.push_back(Node::String(word));
  node = std::move(list);
  return absl::OkStatus();
}

absl::Status Ports(Node& node, const std::string& path, const CanonicalOptions& options) {
  Node out = At(node, Node::List());
  for (size_t i = 0; i < node.items.size(); ++i) {
    Node& item = node.items[i];
    const std::string here = absl::StrCat(path, "[", i, "]");
    if (item.is_map()) {
      if (item.TextOf("target").empty()) return Bad(item, here, "target is missing");
      Node port = At(item, Node::Map());
      const auto or_else = [&](const char* key, const char* otherwise) {
        const std::string text = item.TextOf(key);
        return text.empty() ? std::string(otherwise) : text;
      };
      if (const std::string name = item.TextOf("name"); !name.empty())
        port.Set("name", Node::String(name));
      port.Set("mode", Node::String(or_else("mode", "ingress")));
      if (const std::string host = item.TextOf("host_ip"); !host.empty())
        port.Set("host_ip", Node::String(host));
      Node target = Node::String(item.TextOf("target"));
      target.kind = Node::Kind::kNumber;
      port.Set("target", std::move(target));
      if (const std::string published = item.TextOf("published"); !published.empty())
        port.Set("published", Node::String(published));
      port.Set("protocol", Node::String(or_else("protocol", "tcp")));
      if (const std::string app = item.TextOf("app_protocol"); !app.empty())
        port.Set("app_protocol", Node::String(app));
      out.items.push_back(std::move(port));
      continue;
    }
    if (options.variables && item.text.find('$') != std::string::npos) {
      out.items.push_back(item);
      continue;
    }
    absl::StatusOr<std::vector<v1::PortBinding>> bindings = engine::ParsePublish(item.text);
    if (!bindings.ok()) return Bad(item, here, bindings.status().message());
    for (const v1::PortBinding& binding : *bindings) {
      Node port = At(item, Node::Map());
      port.Set("mode", Node::String("ingress"));
      if (!binding.host_ip().empty()) port.Set("host_ip", Node::String(binding.host_ip()));
      port.Set("target", Node::Number(binding.container_port()));
      if (!binding.host_port().empty()) port.Set("published", Node::String(binding.host_port()));
      port.Set("protocol", Node::String(binding.protocol().empty() ? "tcp" : binding.protocol()));
      out.items.push_back(std::move(port));
    }
  }
  node = std::move(out);
  return absl::OkStatus();
}

bool IsPath(absl::string_view source) {
  return !source.empty() && (source[0] == '.' || source[0] == '/' || source[0] == '~');
}

// SOURCE:TARGET[:OPTIONS] or TARGET.
absl::StatusOr<Node> ShortVolume(const Node& item, const std::string& path,
                                 const CanonicalOptions& options) {
  const std::vector<std::string> parts = absl::StrSplit(item.text, ':');
  if (parts.size() > 3 || item.text.empty()) {
    return Bad(item, path, absl::StrCat("\"", item.text, "\": expected [SOURCE:]TARGET[:OPTIONS]"));
  }
  Node mount = At(item, Node::Map());
  const std::string source = parts.size() == 1 ? "" : parts[0];
  const std::string& target = parts.size() == 1 ? parts[0] : parts[1];
  if (target.empty()) return Bad(item, path, absl::StrCat("\"", item.text, "\": target is empty"));
  const bool bind = IsPath(source);
  mount.Set("type", Node::String(bind ? "bind" : "volume"));
  if (!source.empty())
    mount.Set("source",
              Node::String(bind && options.resolve_paths ? ResolvePath(source, options) : source));
  mount.Set("target", Node::String(target));
  Node details = Node::Map();
  if (parts.size() == 3) {
    for (absl::string_view option : absl::StrSplit(parts[2], ',')) {
      if (option == "ro") mount.Set("read_only", Node::Bool(true));
      if (option == "nocopy") details.Set("nocopy", Node::Bool(true));
      if (option == "z" || option == "Z") details.Set("selinux", Node::String(option));
      if (absl::EndsWith(option, "shared") || absl::EndsWith(option, "slave") ||
          absl::EndsWith(option, "private"))
        details.Set("propagation", Node::String(option));
    }
  }
  if (bind) details.Set("create_host_path", Node::Bool(true));
  mount.Set(bind ? "bind" : "volume", std::move(details));
  return mount;
}

absl::Status Volumes(Node& node, const std::string& path, const CanonicalOptions& options) {
  for (size_t i = 0; i < node.items.size(); ++i) {
    Node& item = node.items[i];
    const std::string here = absl::StrCat(path, "[", i, "]");
    if (!item.is_map()) {
      if (options.variables && item.text.find('$') != std::string::npos) continue;
      GANTRY_ASSIGN_OR_RETURN(item, ShortVolume(item, here, options));
      continue;
    }
    const std::string type = item.TextOf("type");
    if (type.empty()) return Bad(item, here, "type is missing: bind, volume, tmpfs or image");
    if (type != "bind" && type != "volume" && type != "tmpfs" && type != "image") {
      return Bad(
          item, here,
          absl::StrCat("type \"", type, "\" is not there; use bind, volume, tmpfs or image"));
    }
    if (item.TextOf("target").empty()) return Bad(item, here, "target is missing");
    if (type == "bind") {
      if (item.TextOf("source").empty()) return Bad(item, here, "source is missing");
      if (options.resolve_paths)
        item.Set("source", Node::String(ResolvePath(item.TextOf("source"), options)));
    } else if (type == "volume") {
      Node* details = item.Find("volume");
      Node* labels = details == nullptr ? nullptr : details->Find("labels");
      if (labels != nullptr) LabelMap(*labels);
    }
  }
  return absl::OkStatus();
}

void Files(Node& node) {  // secrets and configs
  for (Node& item : node.items) {
    if (item.is_map()) continue;
    Node file = At(item, Node::Map());
    file.Set("source", Node::String(item.text));
    item = std::move(file);
  }
}

void EnvFiles(Node& node, const CanonicalOptions& options) {
  ListFromText(node);
  for (Node& item : node.items) {
    Node file = At(item, Node::Map());
    const std::string path = item.is_map() ? item.TextOf("path") : item.text;
    file.Set("path", Node::String(options.resolve_paths ? ResolvePath(path, options) : path));
    const Node* required = item.Find("required");
    file.Set("required", required == nullptr ? Node::Bool(true) : *required);
    if (const Node* format = item.Find("format")) file.Set("format", *format);
    item = std::move(file);
  }
}

absl::Status Devices(Node& node, const std::string& path) {
  for (size_t i = 0; i < node.items.size(); ++i) {
    Node& item = node.items[i];
    if (item.is_map()) continue;
    Node device = At(item, Node::Map());
    const std::vector<std::string> parts = absl::StrSplit(item.text, ':');
    if (parts.size() > 3 || parts[0].empty())
      return Bad(item, absl::StrCat(path, "[", i, "]"), "expected SOURCE[:TARGET[:PERMISSIONS]]");
    device.Set("source", Node::String(parts[0]));
    device.Set("target", Node::String(parts.size() > 1 && !parts[1].empty() ? parts[1] : parts[0]));
    device.Set("permissions", Node::String(parts.size() > 2 ? parts[2] : "rwm"));
    item = std::move(device);
  }
  return absl::OkStatus();
}

void Dependencies(Node& node) {
  Node map = At(node, Node::Map());
  for (const Node& item : node.items) map.Set(item.text, At(item, Node::Map()));
  for (auto& [name, value] : node.entries) {
    if (value.is_null()) value = At(value, Node::Map());
    map.Set(name, std::move(value));
  }
  for (auto& [name, value] : map.entries) {
    if (value.Find("condition") == nullptr) value.Set("condition", Node::String("service_started"));
    if (value.Find("required") == nullptr) value.Set("required", Node::Bool(true));
  }
  node = std::move(map);
}

void NamesToMap(Node& node) {
  if (!node.is_list()) return;
  Node map = At(node, Node::Map());
  for (const Node& item : node.items) map.Set(item.text, At(item, Node::Null()));
  node = std::move(map);
}

// Of a build: a directory, unless it is the address of something else.
void ContextPath(Node& context, const CanonicalOptions& options) {
  const std::string& text = context.text;
  if (!options.resolve_paths || text.empty() || text[0] == '$' ||
      text.find("://") != std::string::npos || absl::StartsWith(text, "git@") ||
      absl::StartsWith(text, "github.com/") || absl::StartsWith(text, "service:"))
    return;
  context.text = ResolvePath(text, options);
}

// "default", or "id=/path" of a key or an agent's socket.
void SshKeys(Node& node, const CanonicalOptions& options) {
  ListFromText(node);
  Node list = At(node, Node::List());
  for (const Node& item : node.items) list.items.push_back(item);
  for (const auto& [id, path] : node.entries) {
    const std::string text = path.text.empty() ? id : absl::StrCat(id, "=", path.text);
    list.items.push_back(At(path, Node::String(text)));
  }
  for (Node& item : list.items) {
    const size_t equals = item.text.find('=');
    if (equals == std::string::npos || !options.resolve_paths) continue;
    item.text = absl::StrCat(item.text.substr(0, equals + 1),
                             ResolvePath(item.text.substr(equals + 1), options));
  }
  node = std::move(list);
}

void Build(Node& node, const CanonicalOptions& options) {
  if (node.is_scalar()) {
    Node build = At(node, Node::Map());
    build.Set("context", Node::String(node.text));
    node = std::move(build);
  }
  if (Node* context = node.Find("context")) ContextPath(*context, options);
  if (Node* arguments = node.Find("args")) MapFromTexts(*arguments);
  if (Node* labels = node.Find("labels")) LabelMap(*labels);
  if (Node* contexts = node.Find("additional_contexts")) {
    MapFromTexts(*contexts);
    for (auto& [name, context] : contexts->entries) ContextPath(context, options);
  }
  if (Node* hosts = node.Find("extra_hosts")) HostList(*hosts);
  if (Node* secrets = node.Find("secrets")) Files(*secrets);
  if (Node* ssh = node.Find("ssh")) SshKeys(*ssh, options);
}

absl::Status HealthCheck(Node& node, const std::string& path) {
  Node* test = node.Find("test");
  if (test == nullptr || test->is_null()) return absl::OkStatus();
  if (test->is_scalar()) {
    Node list = At(*test, Node::List());
    list.items.push_back(Node::String("CMD-SHELL"));
    list.items.push_back(Node::String(test->text));
    *test = std::move(list);
  }
  const std::string first = test->items.empty() ? "" : test->items[0].text;
  if (first != "CMD" && first != "CMD-SHELL" && first != "NONE") {
    return Bad(*test, path + ".test",
               "healthcheck.test must start either by \"CMD\", \"CMD-SHELL\" or \"NONE\"");
  }
  return absl::OkStatus();
}

void Gpus(Node& node) {
  for (Node& request : node.items) {
    if (Node* options = request.Find("options")) MapFromTexts(*options);
  }
  if (!node.is_scalar()) return;
  Node list = At(node, Node::List());
  Node request = Node::Map();
  Node count = Node::String(node.text);
  if (node.text == "all") count = Node::Number(-1);
  request.Set("count", std::move(count));
  list.items.push_back(std::move(request));
  node = std::move(list);
}

// A command that runs in a container: post_start, pre_stop, a watch's exec.
absl::Status Hook(Node& hook, const std::string& path) {
  if (Node* command = hook.Find("command")) GANTRY_RETURN_IF_ERROR(CommandList(*command, path));
  if (Node* environment = hook.Find("environment")) MapFromTexts(*environment);
  return absl::OkStatus();
}

absl::Status Watches(Node& develop, const std::string& path, const CanonicalOptions& options) {
  Node* watch = develop.Find("watch");
  if (watch == nullptr) return absl::OkStatus();
  for (size_t i = 0; i < watch->items.size(); ++i) {
    Node& item = watch->items[i];
    const std::string here = absl::StrCat(path, ".watch.", i);
    for (const char* key : {"path", "action"}) {
      if (item.TextOf(key).empty())
        return Bad(item, here, absl::StrCat("missing property '", key, "'"));
    }
    const std::string action = item.TextOf("action");
    if (action != "sync" && action != "rebuild" && action != "restart" &&
        action != "sync+restart" && action != "sync+exec") {
      return Bad(item, here,
                 absl::StrCat("action \"", action,
                              "\": expected sync, rebuild, restart, sync+restart or sync+exec"));
    }
    if (options.resolve_paths) item.Find("path")->text = ResolvePath(item.TextOf("path"), options);
    for (const char* key : {"ignore", "include"}) {
      if (Node* patterns = item.Find(key)) ListFromText(*patterns);
    }
    if (Node* exec = item.Find("exec")) GANTRY_RETURN_IF_ERROR(Hook(*exec, here));
  }
  return absl::OkStatus();
}

// What networks, volumes, secrets and configs have in common.
absl::Status Resource(Node& node, const std::string& path) {
  if (Node* labels = node.Find("labels")) LabelMap(*labels);
  if (Node* options = node.Find("driver_opts")) MapFromTexts(*options);
  if (Node* external = node.Find("external"); external != nullptr && external->is_map()) {
    const std::string name = external->TextOf("name");
    if (!name.empty() && node.Find("name") == nullptr) node.Set("name", Node::String(name));
    *node.Find("external") = At(node, Node::Bool(true));
  }
  if (node.TrueAt("external")) {
    for (const auto& [key, value] : node.entries) {
      if (key != "external" && key != "name" && !absl::StartsWith(key, "x-") && !value.is_null()) {
        return Bad(value, path,
                   absl::StrCat("conflicting parameters \"external\" and \"", key, "\" specified"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string ResolvePath(const std::string& path, const CanonicalOptions& options) {
  std::string whole = path;
  if (path == "~" || absl::StartsWith(path, "~/")) {
    whole = options.home + path.substr(1);
  } else if (!absl::StartsWith(path, "/")) {
    whole = absl::StrCat(options.directory, "/", path);
  }
  std::vector<absl::string_view> parts;
  for (absl::string_view part : absl::StrSplit(whole, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
      continue;
    }
    parts.push_back(part);
  }
  return absl::StrCat("/", absl::StrJoin(parts, "/"));
}

absl::StatusOr<std::vector<std::string>> SplitCommand(absl::string_view text) {
  return engine::SplitWords(text);
}

absl::Status MakeServiceCanonical(Node& service, const std::string& path,
                                  const CanonicalOptions& options) {
  for (auto& [key, value] : service.entries) {
    if (value.is_null()) continue;
    const std::string here = absl::StrCat(path, ".", key);
    if (key == "build") {
      Build(value, options);
    } else if (key == "command" || key == "entrypoint") {
      GANTRY_RETURN_IF_ERROR(CommandList(value, here));
    } else if (key == "environment" || key == "sysctls") {
      MapFromTexts(value);
    } else if (key == "labels" || key == "annotations") {
      LabelMap(value);
    } else if (key == "ports") {
      GANTRY_RETURN_IF_ERROR(Ports(value, here, options));
    } else if (key == "volumes") {
      GANTRY_RETURN_IF_ERROR(Volumes(value, here, options));
    } else if (key == "secrets" || key == "configs") {
      Files(value);
    } else if (key == "env_file") {
      EnvFiles(value, options);
    } else if (key == "devices") {
      GANTRY_RETURN_IF_ERROR(Devices(value, here));
    } else if (key == "depends_on") {
      Dependencies(value);
    } else if (key == "networks" || key == "models") {
      NamesToMap(value);
    } else if (key == "extra_hosts") {
      HostList(value);
    } else if (key == "healthcheck") {
      GANTRY_RETURN_IF_ERROR(HealthCheck(value, here));
    } else if (key == "tmpfs" || key == "dns" || key == "dns_search") {
      ListFromText(value);
    } else if (key == "label_file") {
      ListFromText(value);
      for (Node& item : value.items) {
        if (options.resolve_paths) item.text = ResolvePath(item.text, options);
      }
    } else if (key == "gpus") {
      Gpus(value);
    } else if (key == "extends") {
      if (value.is_scalar()) {
        Node extends = At(value, Node::Map());
        extends.Set("service", Node::String(value.text));
        value = std::move(extends);
      }
    } else if (key == "deploy") {
      if (Node* labels = value.Find("labels")) LabelMap(*labels);
      Node* resources = value.Find("resources");
      Node* reservations = resources == nullptr ? nullptr : resources->Find("reservations");
      if (reservations != nullptr) {
        if (Node* devices = reservations->Find("devices")) Gpus(*devices);
      }
    } else if (key == "develop") {
      GANTRY_RETURN_IF_ERROR(Watches(value, here, options));
    } else if (key == "provider") {
      if (Node* arguments = value.Find("options")) {
        for (auto& [name, texts] : arguments->entries) ListFromText(texts);
      }
    } else if (key == "pull_policy") {
      if (value.text == "if_not_present") value.text = "missing";
    } else if (key == "post_start" || key == "pre_stop") {
      for (Node& hook : value.items) GANTRY_RETURN_IF_ERROR(Hook(hook, here));
    }
  }
  return absl::OkStatus();
}

absl::Status MakeCanonical(Node& document, const CanonicalOptions& options) {
  if (Node* services = document.Find("services")) {
    for (auto& [name, service] : services->entries)
      GANTRY_RETURN_IF_ERROR(
          MakeServiceCanonical(service, absl::StrCat("services.", name), options));
  }
  for (const char* kind : {"networks", "volumes", "secrets", "configs"}) {
    Node* resources = document.Find(kind);
    if (resources == nullptr) continue;
    for (auto& [name, resource] : resources->entries) {
      GANTRY_RETURN_IF_ERROR(Resource(resource, absl::StrCat(kind, ".", name)));
      if (Node* file = resource.Find("file"); file != nullptr && options.resolve_paths)
        file->text = ResolvePath(file->text, options);
    }
  }
  return absl::OkStatus();
}

}  // namespace gantry::compose
