// libFuzzer's entries. With POLYVEIL_FUZZ_SEEDS the targets' valid inputs are written to that
// folder first, for it to begin with.
#include <cstdlib>
#include <fstream>

#include "fuzz/targets.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* folder = std::getenv("POLYVEIL_FUZZ_SEEDS");
  if (!folder) return 0;
  const auto& targets = polyveil::testing::FuzzTargets();
  for (size_t i = 0; i < targets.size(); ++i) {
    std::ofstream out(std::string(folder) + "/" + std::to_string(i), std::ios::binary);
    out.put(static_cast<char>(i | (targets[i].container ? 0x80 : 0)));
    out.write(reinterpret_cast<const char*>(targets[i].seed.data()),
              static_cast<std::streamsize>(targets[i].seed.size()));
    if (!out) std::abort();
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
  polyveil::testing::ParseFuzzInput({data, size});
  return 0;
}
