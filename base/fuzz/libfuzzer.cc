// Between libFuzzer and a fuzz target. The seeds are written into $GANTRY_FUZZ_SEEDS before it
// begins; libFuzzer reads that directory.
#include <stdint.h>
#include <stdlib.h>

#include <fstream>
#include <string>
#include <vector>

#include "base/fuzz/fuzz.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* directory = getenv("GANTRY_FUZZ_SEEDS");
  if (directory == nullptr) return 0;
  const std::vector<std::string> seeds = gantry::FuzzSeeds();
  for (size_t i = 0; i < seeds.size(); ++i) {
    std::ofstream(std::string(directory) + "/seed-" + std::to_string(i), std::ios::binary)
        << seeds[i];
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  gantry::FuzzOne(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
