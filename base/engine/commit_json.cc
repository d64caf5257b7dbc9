#include "base/engine/commit_json.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/engine/field_reader.h"
#include "base/field_error.h"

namespace gantry::engine {
namespace {

// One word of an instruction, whatever is in it.
std::string Word(absl::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"' || c == '\'' || c == '$' || c == ' ' || c == '\t' || c == '\n' ||
        c == '\r')
      out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

// NAME=value with both of them words.
std::string Assignment(absl::string_view name, absl::string_view value) {
  return absl::StrCat(Word(name), "=", Word(value));
}

void ReadHealthCheck(FieldReader in, std::vector<std::string>& changes) {
  std::vector<std::string> test;
  in.Strings("Test", [&](std::string word) { test.push_back(std::move(word)); });
  if (test.empty() || test[0].empty()) return;
  if (test[0] == "NONE") {
    changes.push_back("HEALTHCHECK NONE");
    return;
  }
  std::string line = "HEALTHCHECK";
  const std::pair<const char*, const char*> durations[] = {{"Interval", "interval"},
                                                           {"Timeout", "timeout"},
                                                           {"StartPeriod", "start-period"},
                                                           {"StartInterval", "start-interval"}};
  for (const auto& [key, option] : durations) {
    const int64_t nanos = in.Integer(key, 0);
    if (nanos > 0) absl::StrAppend(&line, " --", option, "=", nanos, "ns");
  }
  const int64_t retries = in.Integer("Retries", 0, 1 << 30);
  if (retries > 0) absl::StrAppend(&line, " --retries=", retries);
  if (test[0] == "CMD-SHELL" && test.size() == 2) {
    changes.push_back(absl::StrCat(line, " CMD ", test[1]));
  } else if (test[0] == "CMD") {
    test.erase(test.begin());
    changes.push_back(absl::StrCat(line, " CMD ", Value::Strings(test).ToJson()));
  } else {
    in.Refuse("Test", "begins with neither NONE, CMD nor CMD-SHELL");
  }
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ChangesFromDocument(const Value& config) {
  std::vector<std::string> changes;
  if (config.is_null()) return changes;
  absl::Status status;
  FieldReader in(config, "", &status);
  const auto list = [&](const char* key, const char* verb) {
    std::vector<std::string> words;
    in.Strings(
        key, [&](std::string word) { words.push_back(std::move(word)); }, true);
    if (!words.empty()) changes.push_back(absl::StrCat(verb, " ", Value::Strings(words).ToJson()));
  };
  list("Entrypoint", "ENTRYPOINT");
  list("Cmd", "CMD");
  in.Strings("Env", [&](std::string entry) {
    const size_t at = entry.find('=');
    if (at == 0 || at == std::string::npos) return;  // one that is only passed on has no value
    changes.push_back(absl::StrCat("ENV ", Assignment(entry.substr(0, at), entry.substr(at + 1))));
  });
  std::map<std::string, std::string> labels;
  in.StringMap("Labels", &labels);
  for (const auto& [key, value] : labels)
    changes.push_back(absl::StrCat("LABEL ", Assignment(key, value)));
  in.EachField("ExposedPorts", [&](const std::string& port, const Value&, const std::string&) {
    changes.push_back(absl::StrCat("EXPOSE ", Word(port)));
  });
  in.EachField("Volumes", [&](const std::string& path, const Value&, const std::string&) {
    changes.push_back(absl::StrCat("VOLUME ", Value::Strings({path}).ToJson()));
  });
  const std::pair<const char*, const char*> words[] = {
      {"User", "USER"}, {"WorkingDir", "WORKDIR"}, {"StopSignal", "STOPSIGNAL"}};
  for (const auto& [key, verb] : words) {
    const std::string word = in.String(key);
    if (!word.empty()) changes.push_back(absl::StrCat(verb, " ", Word(word)));
  }
  in.Strings("OnBuild",
             [&](std::string line) { changes.push_back(absl::StrCat("ONBUILD ", line)); });
  ReadHealthCheck(in.Object("Healthcheck"), changes);
  if (!status.ok()) return status;
  return changes;
}

}  // namespace gantry::engine
