// A parsed TOML file as the two dialects of config.h read it.
//
// Thread-compatible; lives as long as the reading of one file.
#ifndef GANTRY_SUPERVISOR_CONFIG_READER_H_
#define GANTRY_SUPERVISOR_CONFIG_READER_H_

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#define TOML_EXCEPTIONS 0  // as everywhere: third_party/BUILD.bazel
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "toml++/toml.h"

namespace gantry {

// Walks a parsed file and remembers which keys were asked for, so that the rest can be reported
// by name.
class ConfigReader {
 public:
  ConfigReader(const toml::table& table, std::string file) : root_(table), file_(std::move(file)) {}

  // Sets `out` when the dotted `path` is there; records a wrong type as an error.
  void Take(const std::vector<std::string>& path, std::string& out) {
    if (const toml::node* node = Find(path)) {
      if (auto value = node->value<std::string>())
        out = *value;
      else
        Wrong(path, *node, "a string");
    }
  }
  void Take(const std::vector<std::string>& path, bool& out) {
    if (const toml::node* node = Find(path)) {
      if (node->is_boolean())
        out = *node->value<bool>();
      else
        Wrong(path, *node, "true or false");
    }
  }
  void Take(const std::vector<std::string>& path, double& out) {
    if (const toml::node* node = Find(path)) {
      if (node->is_number())
        out = *node->value<double>();
      else
        Wrong(path, *node, "a number");
    }
  }
  template <typename Integer>
  void TakeInt(const std::vector<std::string>& path, Integer& out) {
    if (const toml::node* node = Find(path)) {
      if (node->is_integer())
        out = static_cast<Integer>(*node->value<int64_t>());
      else
        Wrong(path, *node, "a whole number");
    }
  }
  void Take(const std::vector<std::string>& path, std::vector<std::string>& out) {
    const toml::node* node = Find(path);
    if (node == nullptr) return;
    const toml::array* array = node->as_array();
    std::vector<std::string> texts;
    for (size_t i = 0; array != nullptr && i < array->size(); ++i) {
      if (auto text = array->get(i)->value<std::string>()) texts.push_back(*std::move(text));
    }
    if (array == nullptr || texts.size() != array->size()) {
      Wrong(path, *node, "a list of strings");
    } else {
      out = std::move(texts);
    }
  }
  // A string, or a list of them.
  void TakeOneOrMany(const std::vector<std::string>& path, std::vector<std::string>& out) {
    if (const toml::node* node = Lookup(path); node != nullptr && node->is_string()) {
      out = {""};
      Take(path, out.front());
    } else {
      Take(path, out);
    }
  }
  // As Go reads one: a text such as "100ms", or a number of nanoseconds.
  void Take(const std::vector<std::string>& path, absl::Duration& out) {
    if (const toml::node* node = Lookup(path); node != nullptr && node->is_integer()) {
      (void)Find(path);
      out = absl::Nanoseconds(*node->value<int64_t>());
      return;
    }
    std::string text;
    Take(path, text);
    if (!text.empty() && !absl::ParseDuration(text, &out)) {
      error_ =
          absl::InvalidArgumentError(absl::StrCat(file_, ": ", absl::StrJoin(path, "."), " = \"",
                                                  text, "\": not a duration such as \"100ms\""));
    }
  }

  // Read, so that it can be written out again, but nothing is done with it: reported like an
  // unknown key.
  void HasNoEffect(const std::vector<std::string>& path) {
    taken_.erase(absl::StrJoin(path, "\x1f"));
  }

  const toml::table* Table(const std::vector<std::string>& path) {
    const toml::node* node = Lookup(path);
    return node == nullptr ? nullptr : node->as_table();
  }

  // A text as it stands, "" when there is none. Does not count as taken.
  std::string Peek(const std::vector<std::string>& path) const {
    const toml::node* node = Lookup(path);
    return node == nullptr ? "" : node->value_or<std::string>("");
  }

  // Dotted names of all leaves that were not taken.
  std::vector<std::string> Untaken() const {
    std::vector<std::string> names;
    Collect(root_, {}, names);
    return names;
  }

  const absl::Status& error() const { return error_; }

 private:
  const toml::node* Lookup(const std::vector<std::string>& path) const {
    const toml::node* node = &root_;
    for (const std::string& part : path) {
      const toml::table* table = node->as_table();
      if (table == nullptr) return nullptr;
      node = table->get(part);
      if (node == nullptr) return nullptr;
    }
    return node;
  }

  const toml::node* Find(const std::vector<std::string>& path) {
    const toml::node* node = Lookup(path);
    if (node != nullptr) taken_.insert(absl::StrJoin(path, "\x1f"));
    return node;
  }

  void Wrong(const std::vector<std::string>& path, const toml::node& node,
             absl::string_view wanted) {
    if (!error_.ok()) return;
    error_ = absl::InvalidArgumentError(absl::StrCat(
        file_, ":", node.source().begin.line, ": ", absl::StrJoin(path, "."), " must be ", wanted));
  }

  void Collect(const toml::table& table, std::vector<std::string> path,
               std::vector<std::string>& names) const {
    for (const auto& [key, node] : table) {
      std::vector<std::string> here = path;
      here.emplace_back(key.str());
      if (const toml::table* inner = node.as_table(); inner != nullptr && !inner->empty()) {
        Collect(*inner, here, names);
      } else if (inner != nullptr) {
        continue;  // says nothing
      } else if (taken_.count(absl::StrJoin(here, "\x1f")) == 0) {
        std::vector<std::string> shown;
        for (const std::string& part : here) {
          shown.push_back(absl::StrContains(part, '.') ? absl::StrCat("\"", part, "\"") : part);
        }
        names.push_back(absl::StrJoin(shown, "."));
      }
    }
  }

  const toml::table& root_;
  const std::string file_;
  std::set<std::string> taken_;
  absl::Status error_;
};

}  // namespace gantry

#endif  // GANTRY_SUPERVISOR_CONFIG_READER_H_
