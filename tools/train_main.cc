// polyveil-train: prepare data, train, evaluate, export. Thin: everything is in src/train.
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "train/cli.h"
#ifdef POLYVEIL_HUB
#include "train/hub/hub_cli.h"
#endif

namespace {

polyveil::Status Run(const std::vector<std::string>& arguments) {
#ifdef POLYVEIL_HUB
  if (!arguments.empty() && arguments[0] == "convert-hub")
    return polyveil::train::RunConvertHubCommand(arguments, stdout);
#endif
  return polyveil::train::RunTrainCommand(arguments, stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const auto status = Run({argv + 1, argv + argc});
  if (status.ok()) return 0;
  std::fprintf(stderr, "polyveil-train: %s: %s\n", polyveil::ErrorCodeName(status.error().code),
               status.error().message.c_str());
  return 1;
}
