#include "shim/spec_facts.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "nlohmann/json.hpp"

namespace gantry::shim {
namespace {

using Json = nlohmann::json;

// A deeper document is not a spec.
constexpr size_t kMaxDepth = 64;

// Follows the parser with a stack of the keys on the way; an array's elements are all "[]".
class FactsReader final : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return true; }
  bool boolean(bool value) override {
    if (At({"process", "terminal"})) facts_.terminal = value;
    return true;
  }
  bool number_integer(number_integer_t value) override {
    if (At({"process", "oomScoreAdj"}) && value >= -1000 && value <= 1000) {
      facts_.oom_score_adj = static_cast<int>(value);
    }
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    return value > 1000 || number_integer(static_cast<number_integer_t>(value));
  }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t& value) override {
    if (At({"linux", "cgroupsPath"})) facts_.cgroups_path = value;
    if (At({"linux", "namespaces", "[]", "type"})) type_ = value;
    if (At({"linux", "namespaces", "[]", "path"})) path_ = value;
    if (At({"linux", "maskedPaths", "[]"})) facts_.masked_paths.push_back(value);
    if (At({"mounts", "[]", "destination"})) destination_ = value;
    if (At({"mounts", "[]", "type"})) type_ = value;
    if (At({"mounts", "[]", "options", "[]"}) && (value == "bind" || value == "rbind"))
      bind_ = true;
    if (At({"root", "path"})) facts_.root_path = value;
    if (At({"process", "cwd"})) facts_.working_directory = value;
    return true;
  }
  bool binary(binary_t&) override { return false; }
  bool key(string_t& value) override {
    keys_.back() = value;
    return true;
  }
  bool start_object(std::size_t) override {
    if (At({"linux", "namespaces", "[]"}) || At({"mounts", "[]"})) {
      type_.clear();
      path_.clear();
      destination_.clear();
      bind_ = false;
    }
    if (At({"linux", "intelRdt"})) facts_.has_intel_rdt = true;
    if (At({"hooks", "poststart", "[]"})) facts_.has_poststart_hooks = true;
    if (At({"hooks", "poststop", "[]"})) facts_.has_poststop_hooks = true;
    seen_object_ = true;
    return Push("");
  }
  bool end_object() override {
    keys_.pop_back();
    if (At({"linux", "namespaces", "[]"}) && type_ == "network") facts_.network_namespace = path_;
    if (At({"linux", "namespaces", "[]"}) && type_ == "pid" && path_.empty()) {
      facts_.private_pid_namespace = true;
    }
    if (At({"mounts", "[]"})) NoteMount();
    return true;
  }
  bool start_array(std::size_t) override { return !keys_.empty() && Push("[]"); }
  bool end_array() override {
    keys_.pop_back();
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

  bool seen_object() const { return seen_object_; }
  SpecFacts facts() && { return std::move(facts_); }

 private:
  bool Push(const char* key) {
    keys_.emplace_back(key);
    return keys_.size() <= kMaxDepth;
  }
  bool At(std::initializer_list<const char*> path) const {
    if (keys_.size() != path.size()) return false;
    size_t i = 0;
    for (const char* key : path) {
      if (keys_[i++] != key) return false;
    }
    return true;
  }

  // Mounts are made in their order: the last one at a place counts.
  void NoteMount() {
    facts_.mounts.push_back({destination_, bind_ || type_ == "bind"});
    while (destination_.size() > 1 && destination_.back() == '/') destination_.pop_back();
    if (destination_ == "/dev") {
      facts_.fresh_dev = type_ == "tmpfs";
    } else if (destination_ == "/dev/null" || destination_ == "/" ||
               destination_.find("//") != std::string::npos ||
               destination_.find("/.") != std::string::npos || destination_.substr(0, 1) != "/") {
      facts_.fresh_dev = false;
    }
  }

  std::vector<std::string> keys_;
  std::string destination_;
  bool bind_ = false;
  std::string type_;
  std::string path_;
  bool seen_object_ = false;
  SpecFacts facts_;
};

}  // namespace

absl::StatusOr<SpecFacts> ParseSpecFacts(absl::string_view config_json) {
  FactsReader reader;
  if (!Json::sax_parse(config_json.begin(), config_json.end(), &reader) || !reader.seen_object()) {
    return absl::InvalidArgumentError("config.json: not a JSON object");
  }
  return std::move(reader).facts();
}

}  // namespace gantry::shim
