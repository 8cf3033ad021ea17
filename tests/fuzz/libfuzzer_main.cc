// libFuzzer's entry: the first byte chooses the target.
#include "fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto& targets = polyveil::testing::FuzzTargets();
  const auto& target = targets[data[0] % targets.size()];
  polyveil::wire::Bytes bytes(data + 1, data + size);
  if (target.container && (data[0] & 0x80)) polyveil::testing::Reseal(bytes);
  target.parse(bytes);
  return 0;
}
