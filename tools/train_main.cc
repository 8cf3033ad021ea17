// polyveil-train: prepare data, train, evaluate, export. Thin: everything is in src/train.
#include <cstdio>
#include <filesystem>
#include <string>

#include "train/cli.h"

int main(int argc, char** argv) {
  const auto status = polyveil::train::RunTrainCommand({argv + 1, argv + argc}, stdout);
  if (status.ok()) return 0;
  std::fprintf(stderr, "polyveil-train: %s: %s\n", polyveil::ErrorCodeName(status.error().code),
               status.error().message.c_str());
  return 1;
}
