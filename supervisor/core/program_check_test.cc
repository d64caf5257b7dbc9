#include "supervisor/core/program_check.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"

namespace gantry::core {
namespace {

using Kind = ProgramFacts::Kind;

// A 64-bit ELF file with one segment that names a loader.
std::string Elf(uint16_t machine, const std::string& loader) {
  Elf64_Ehdr header = {};
  memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_machine = machine;
  header.e_phoff = sizeof header;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = loader.empty() ? 0 : 1;
  Elf64_Phdr segment = {};
  segment.p_type = PT_INTERP;
  segment.p_offset = sizeof header + sizeof segment;
  segment.p_filesz = loader.size() + 1;
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) +
         std::string(reinterpret_cast<const char*>(&segment), sizeof segment) + loader + '\0';
}

class ProgramCheckTest : public testing::Test {
 protected:
  ProgramCheckTest() : root_(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {}
  void Put(const std::string& path, const std::string& content, mode_t mode = 0755) {
    const std::string at = absl::StrCat(dir_.path(), path);
    ASSERT_TRUE(MakeDirectories(at.substr(0, at.rfind('/')), 0755).ok());
    ASSERT_TRUE(WriteFile(at, content, mode).ok());
    ASSERT_EQ(chmod(at.c_str(), mode), 0);
  }
  ProgramFacts Check(const std::string& program, const std::string& cwd = "/") {
    return CheckProgram(root_.get(), program, "/usr/bin:/bin", cwd);
  }
  TempDir dir_;
  UniqueFd root_;
};

TEST_F(ProgramCheckTest, ABareNameIsLookedUpInPath) {
  EXPECT_EQ(Check("tool").kind, Kind::kMissing);
  EXPECT_EQ(Check("tool").searched, (std::vector<std::string>{"/usr/bin", "/bin"}));
  Put("/bin/tool", "");
  EXPECT_EQ(Check("tool").kind, Kind::kEmpty);
  EXPECT_EQ(Check("tool").path, "/bin/tool");
}

TEST_F(ProgramCheckTest, ScriptsAreReadForTheirInterpreter) {
  Put("/bin/sh", Elf(EM_X86_64, ""));
  Put("/good", "#! /bin/sh -e\necho");
  ProgramFacts facts = Check("/good");
  EXPECT_EQ(facts.kind, Kind::kScript);
  EXPECT_EQ(facts.interpreter, "/bin/sh");
  EXPECT_FALSE(facts.interpreter_missing);
  EXPECT_FALSE(facts.carriage_return);
  Put("/dos", "#!/bin/sh\r\necho\r\n", 0644);
  facts = Check("/dos");
  EXPECT_TRUE(facts.carriage_return);
  EXPECT_EQ(facts.mode, 0644u);
  Put("/snake", "#!/usr/bin/python3\n");
  EXPECT_TRUE(Check("/snake").interpreter_missing);
  Put("/bare", "#!");
  EXPECT_EQ(Check("/bare").kind, Kind::kScript);
}

TEST_F(ProgramCheckTest, ElfFilesAreReadForMachineAndLoader) {
  Put("/arm", Elf(EM_AARCH64, "/lib/ld-linux-aarch64.so.1"));
  Put("/musl", Elf(EM_X86_64, "/lib/ld-musl-x86_64.so.1"));
#if defined(__x86_64__)
  EXPECT_TRUE(Check("/arm").other_machine);
  EXPECT_EQ(Check("/arm").machine, "aarch64");
#endif
  EXPECT_TRUE(Check("/musl").loader_missing);
  EXPECT_EQ(Check("/musl").loader, "/lib/ld-musl-x86_64.so.1");
  Put("/lib/ld-musl-x86_64.so.1", "x");
  EXPECT_FALSE(Check("/musl").loader_missing);
  Put("/cut", "\177ELF");
  EXPECT_EQ(Check("/cut").kind, Kind::kUnknown);
}

TEST_F(ProgramCheckTest, TheWorkingDirectoryIsLookedAt) {
  Put("/file", "x");
  EXPECT_EQ(Check("/file").working_directory, ProgramFacts::Place::kFine);
  EXPECT_EQ(Check("/file", "/none").working_directory, ProgramFacts::Place::kMissing);
  EXPECT_EQ(Check("/file", "/file").working_directory, ProgramFacts::Place::kNotDirectory);
  EXPECT_EQ(Check("./file").kind, Kind::kUnknown);
  EXPECT_EQ(Check("/").kind, Kind::kDirectory);
}

}  // namespace
}  // namespace gantry::core
