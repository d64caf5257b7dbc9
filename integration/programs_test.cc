// How the programs are built: what makes an attack on them harder is in all of them.
#include <elf.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"

namespace gantry::integration {
namespace {

// As much of an ELF file as the tests ask for.
class Program {
 public:
  explicit Program(const std::string& path) {
    absl::StatusOr<std::string> bytes = ReadFile(path, size_t{1} << 30);
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    if (bytes.ok()) bytes_ = *std::move(bytes);
    EXPECT_GT(bytes_.size(), sizeof(Elf64_Ehdr));
    EXPECT_EQ(bytes_.compare(0, SELFMAG, ELFMAG), 0) << path;
  }

  Elf64_Ehdr header() const { return At<Elf64_Ehdr>(0); }
  std::vector<Elf64_Phdr> segments(uint32_t type) const {
    std::vector<Elf64_Phdr> found;
    for (int i = 0; i < header().e_phnum; ++i) {
      const auto segment =
          At<Elf64_Phdr>(header().e_phoff + static_cast<size_t>(i) * sizeof(Elf64_Phdr));
      if (segment.p_type == type) found.push_back(segment);
    }
    return found;
  }
  // The value of a dynamic entry, 0 when it has none.
  uint64_t dynamic(int64_t tag) const {
    for (const Elf64_Phdr& segment : segments(PT_DYNAMIC)) {
      for (size_t at = 0; at + sizeof(Elf64_Dyn) <= segment.p_filesz; at += sizeof(Elf64_Dyn)) {
        const auto entry = At<Elf64_Dyn>(segment.p_offset + at);
        if (entry.d_tag == tag) return entry.d_un.d_val;
      }
    }
    return 0;
  }
  // The first bytes of main().
  std::string MainCode() const {
    for (int i = 0; i < header().e_shnum; ++i) {
      const auto table = Section(i);
      if (table.sh_type != SHT_SYMTAB) continue;
      const auto names = Section(static_cast<int>(table.sh_link));
      for (size_t at = 0; at < table.sh_size; at += sizeof(Elf64_Sym)) {
        const auto symbol = At<Elf64_Sym>(table.sh_offset + at);
        if (std::strcmp(bytes_.data() + names.sh_offset + symbol.st_name, "main") != 0) continue;
        const auto code = Section(symbol.st_shndx);
        return bytes_.substr(symbol.st_value - code.sh_addr + code.sh_offset, 4);
      }
    }
    return "";
  }

 private:
  template <typename T>
  T At(size_t offset) const {
    T value = {};
    if (offset + sizeof value <= bytes_.size())
      std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }
  Elf64_Shdr Section(int index) const {
    return At<Elf64_Shdr>(header().e_shoff + static_cast<size_t>(index) * sizeof(Elf64_Shdr));
  }

  std::string bytes_;
};

class ProgramTest : public testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(All, ProgramTest,
                         testing::Values("supervisor/gantryd", "shim/gantry-shim",
                                         "shim/gantry-init", "ctl/ctl"),
                         [](const auto& info) {
                           std::string name = info.param.substr(info.param.rfind('/') + 1);
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST_P(ProgramTest, IsLoadedAnywhereAndHardened) {
  const Program program(GetParam());
  EXPECT_EQ(program.header().e_type, ET_DYN) << "not position independent";
  ASSERT_EQ(program.segments(PT_GNU_STACK).size(), 1u);
  EXPECT_EQ(program.segments(PT_GNU_STACK)[0].p_flags & PF_X, 0u) << "executable stack";
  EXPECT_EQ(program.segments(PT_GNU_RELRO).size(), 1u);
  EXPECT_NE(program.dynamic(DT_FLAGS) & DF_BIND_NOW, 0u);
#if defined(__x86_64__)
  // endbr64: an indirect call may end here, and at the beginning of functions only.
  EXPECT_EQ(program.MainCode(), "\xf3\x0f\x1e\xfa") << "-fcf-protection is missing";
#endif
}

TEST(InitTest, NeedsNothingOfTheImageItRunsIn) {
  EXPECT_TRUE(Program("shim/gantry-init").segments(PT_INTERP).empty());
}

}  // namespace
}  // namespace gantry::integration
