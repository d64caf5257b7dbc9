#include <signal.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "supervisor/core/end_cause_table.h"

namespace gantry::core {
namespace {

std::string Mebibytes(uint64_t bytes) {
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20));
}

// "the caller was /usr/bin/ctl, pid 71, of user 0, at the door gantry".
std::string CallerText(const record::v1::Caller& caller) {
  std::string who;
  if (!caller.address().empty()) {
    who = absl::StrCat("a client at ", caller.address());
  } else if (caller.has_process()) {
    who = absl::StrCat(caller.program().empty() ? "a process that has ended" : caller.program(),
                       ", pid ", caller.pid(), ", of user ", caller.uid());
  } else {
    who = "not known";
  }
  return absl::StrCat("the caller was ", who, ", at the door ", caller.door());
}

}  // namespace

bool HasAny(absl::string_view text, std::initializer_list<absl::string_view> parts) {
  const std::string lower = absl::AsciiStrToLower(text);
  return std::any_of(parts.begin(), parts.end(), [&lower](absl::string_view part) {
    return absl::StrContains(lower, absl::AsciiStrToLower(part));
  });
}

Seen InLog(const EndFacts& facts, std::initializer_list<absl::string_view> parts) {
  if (!facts.ended || facts.end.start_failed() || facts.end.exit_code() == 0) return std::nullopt;
  for (auto line = facts.log_tail.rbegin(); line != facts.log_tail.rend(); ++line) {
    if (HasAny(*line, parts) && !IsRefusal(*line))
      return absl::StrCat("it printed: ", absl::StripAsciiWhitespace(*line));
  }
  return std::nullopt;
}

Seen InError(const EndFacts& facts, std::initializer_list<absl::string_view> parts) {
  if (!facts.end.start_failed() || !HasAny(facts.end.error(), parts)) return std::nullopt;
  return facts.end.error();
}

bool ProgramFailed(const EndFacts& facts) {
  return facts.ended && (facts.end.start_failed() || !facts.refusal.empty() ||
                         facts.end.exit_code() == 126 || facts.end.exit_code() == 127);
}

bool NotRun(const EndFacts& facts) {
  return facts.ended && (facts.end.start_failed() || !facts.refusal.empty());
}

bool RefusedWith(const EndFacts& facts, std::initializer_list<absl::string_view> parts) {
  return HasAny(facts.end.error(), parts) || HasAny(facts.refusal, parts);
}

uint32_t SignalOf(const EndFacts& facts) {
  if (!facts.ended || facts.end.start_failed()) return 0;
  if (facts.end.exit_signal() != 0) return facts.end.exit_signal();
  const uint32_t code = facts.end.exit_code();
  return code > 128 && code <= 128 + 64 ? code - 128 : 0;
}

std::string Whose(const EndFacts& facts) {
  const std::string word = SignalWord(SignalOf(facts));
  if (facts.end.exit_signal() != 0) return absl::StrCat("its first process was ended by ", word);
  return absl::StrCat("exit status ", facts.end.exit_code(), ": a child of its first process was ",
                      "ended by ", word, ", or the program chose this status");
}

Seen BySignal(const EndFacts& facts, uint32_t signal) {
  if (SignalOf(facts) != signal || facts.end.oom_killed()) return std::nullopt;
  std::string seen = Whose(facts);
  for (const std::string& line : facts.end.kernel_lines())
    absl::StrAppend(&seen, "; kernel: ", line);
  return seen;
}

bool Requested(const EndFacts& facts) {
  constexpr int64_t kSoonSeconds = 10;
  if (!facts.end.has_request()) return false;
  const record::v1::EndRequest& request = facts.end.request();
  return request.call() != "kill" || request.signal() == SignalOf(facts) ||
         facts.end.finished_at().seconds() - request.at().seconds() <= kSoonSeconds;
}

std::string RequestText(const EndFacts& facts) {
  const record::v1::EndRequest& request = facts.end.request();
  std::string text = absl::StrCat("\"", request.call(), "\" was called");
  if (request.signal() != 0) absl::StrAppend(&text, ", which sent ", SignalWord(request.signal()));
  if (request.has_caller()) absl::StrAppend(&text, "; ", CallerText(request.caller()));
  return text;
}

std::string OomText(const EndFacts& facts) {
  const record::v1::OomKill& oom = facts.end.oom();
  std::string text;
  if (!oom.victim().empty()) text = absl::StrCat("the kernel killed ", oom.victim());
  if (!oom.group().empty())
    absl::StrAppend(&text, text.empty() ? "" : ", because ", "the group ", oom.group(),
                    " was at its limit");
  std::vector<std::string> largest;
  for (const auto& process : oom.largest())
    largest.push_back(absl::StrCat(process.name(), " ", Mebibytes(process.resident_bytes())));
  if (!largest.empty())
    absl::StrAppend(&text, "; its largest processes: ", absl::StrJoin(largest, ", "));
  const int64_t limit = facts.config.resources().memory_bytes();
  if (limit > 0)
    absl::StrAppend(&text, text.empty() ? "" : "; ", "the container's limit is ",
                    Mebibytes(static_cast<uint64_t>(limit)));
  return text.empty() ? "the kernel counted a kill in its cgroup" : text;
}

bool OwnLimit(const EndFacts& facts) {
  if (facts.end.has_oom()) return absl::StrContains(facts.end.oom().group(), facts.id);
  return facts.config.resources().memory_bytes() > 0;
}

bool IsShell(const EndFacts& facts) {
  if (facts.command.size() != 1) return false;
  const std::string& program = facts.command[0];
  const std::string name = program.substr(program.rfind('/') + 1);
  return name == "sh" || name == "bash" || name == "ash" || name == "dash" || name == "zsh" ||
         name == "busybox" || name == "python" || name == "python3" || name == "node";
}

}  // namespace gantry::core
