#include "supervisor/build/emulation.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/file.h"

namespace gantry::build {
namespace {

struct Machine {
  const char* architecture;
  unsigned char bits;   // 1: 32, 2: 64
  unsigned char order;  // 1: little-endian, 2: big-endian
  uint16_t number;      // e_machine
};
constexpr Machine kMachines[] = {
    {"386", 1, 1, 3},       {"amd64", 2, 1, 62}, {"arm", 1, 1, 40},   {"arm64", 2, 1, 183},
    {"ppc64le", 2, 1, 21},  {"ppc64", 2, 2, 21}, {"s390x", 2, 2, 22}, {"riscv64", 2, 1, 243},
    {"mips64le", 2, 1, 8},  {"mips64", 2, 2, 8}, {"mipsle", 1, 1, 8}, {"mips", 1, 2, 8},
    {"loong64", 2, 1, 258},
};

// The beginning of a program for that architecture; "" for one that is not known.
std::string HeaderOf(const std::string& architecture) {
  for (const Machine& machine : kMachines) {
    if (machine.architecture != architecture) continue;
    std::string header(
        "\x7f"
        "ELF",
        4);
    header.push_back(static_cast<char>(machine.bits));
    header.push_back(static_cast<char>(machine.order));
    header.push_back(1);  // version
    header.resize(16);
    for (const uint16_t field : {uint16_t{2} /* a program */, machine.number}) {
      const char low = static_cast<char>(field & 0xff);
      const char high = static_cast<char>(field >> 8);
      header.push_back(machine.order == 1 ? low : high);
      header.push_back(machine.order == 1 ? high : low);
    }
    header.resize(128);
    return header;
  }
  return "";
}

}  // namespace

Emulation::Emulation(content::Platform host, const std::string& table)
    : host_(std::move(host)), table_(table) {
  const absl::StatusOr<std::vector<std::string>> names = ListDirectory(table);
  if (!names.ok()) return;  // it is not mounted: nothing is emulated
  if (absl::StartsWith(ReadFile(table + "/status", 64).value_or("enabled"), "disabled")) return;
  for (const std::string& name : *names) {
    if (name == "register" || name == "status") continue;
    const std::string text = ReadFile(absl::StrCat(table, "/", name), 64 << 10).value_or("");
    Interpreter one;
    bool enabled = false;
    for (absl::string_view line : absl::StrSplit(text, '\n')) {
      if (line == "enabled") enabled = true;
      if (absl::ConsumePrefix(&line, "flags: ")) {
        one.held_open = absl::StrContains(line, 'F');
      } else if (absl::ConsumePrefix(&line, "offset ")) {
        if (!absl::SimpleAtoi(line, &one.offset)) enabled = false;
      } else if (absl::ConsumePrefix(&line, "magic ")) {
        one.magic = absl::HexStringToBytes(line);
      } else if (absl::ConsumePrefix(&line, "mask ")) {
        one.mask = absl::HexStringToBytes(line);
      }
    }
    if (enabled && !one.magic.empty()) interpreters_.push_back(std::move(one));
  }
}

bool Emulation::Runs(const content::Platform& platform) const {
  if (platform.os == host_.os) {
    if (platform.architecture == host_.architecture) return true;
    // The processor's own older mode.
    if (host_.architecture == "amd64" && platform.architecture == "386") return true;
  }
  if (platform.os != "linux") return false;
  const std::string header = HeaderOf(platform.architecture);
  if (header.empty()) return false;
  for (const Interpreter& one : interpreters_) {
    if (!one.held_open || one.offset + one.magic.size() > header.size()) continue;
    bool fits = true;
    for (size_t i = 0; fits && i < one.magic.size(); ++i) {
      const char mask = i < one.mask.size() ? one.mask[i] : '\xff';
      fits = (header[one.offset + i] & mask) == (one.magic[i] & mask);
    }
    if (fits) return true;
  }
  return false;
}

absl::Status Emulation::CheckRun(const BuildPlan& plan, const Stage& stage, int line) const {
  if (Runs(stage.made_for)) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      plan.file, ":", line, ": RUN in stage \"", stage.shown, "\": its files are for ",
      PlatformText(stage.made_for), ", which this machine (", PlatformText(host_),
      ") runs only with an emulator, and none is registered for it in ", table_,
      " with the flag F; register one (Debian: qemu-user-static and binfmt-support), or let the ",
      "stage begin with FROM --platform=$BUILDPLATFORM"));
}

absl::Status Emulation::Check(const BuildPlan& plan) const {
  for (const int index : plan.order) {
    const Stage& stage = plan.stages[index];
    for (const Instruction& instruction : stage.instructions) {
      if (instruction.keyword != Keyword::kRun) continue;
      if (absl::Status runs = CheckRun(plan, stage, instruction.line); !runs.ok()) return runs;
    }
  }
  return absl::OkStatus();
}

}  // namespace gantry::build
