// The named parameter sets.
#include "ckks/parameters.h"

namespace polyveil::ckks {
namespace {

// 15 working levels for the demo's program, whose bootstraps are of sparse vectors: StC in one
// level (cheap at two limbs), CtS in two. Working primes as large as three digits allow: the noise
// of the program's own operations then stays below that of its bootstraps. logQP 1694 of 1747 at N
// = 2^16.
ParametersSpec Decode16() {
  ParametersSpec spec;
  spec.name = "decode16";
  spec.chain = {{LevelRole::kBase, 1, 50},
                {LevelRole::kSlotsToCoeffs, 1, 44},
                {LevelRole::kWorking, 15, 44},
                {LevelRole::kEvalMod, 8, 50},
                {LevelRole::kCoeffsToSlots, 2, 45}};
  spec.special_primes = 9;
  spec.log_special_prime = 50;
  return spec;
}

// The same levels with two digits at the top: faster, smaller keys, an eighth of the precision.
// Sizes are such that Q falls into halves below P: EvalMod's double angles, whose roundings weigh
// less than those of its first powers, and CtS give bits to the working levels. logQP 1728 of 1747.
ParametersSpec Fast16() {
  ParametersSpec spec;
  spec.name = "fast16";
  spec.chain = {{LevelRole::kBase, 1, 50},     {LevelRole::kSlotsToCoeffs, 1, 38},
                {LevelRole::kWorking, 15, 38}, {LevelRole::kEvalMod, 3, 48},
                {LevelRole::kEvalMod, 5, 50},  {LevelRole::kCoeffsToSlots, 2, 44}};
  spec.special_primes = 12;
  spec.log_special_prime = 49;
  return spec;
}

// decode16 for prompts at once as well, whose bootstraps are of all slots: StC in two levels and
// CtS in three for one working level and a bit of each. logQP 1723 of 1747.
ParametersSpec Prompt16() {
  ParametersSpec spec = Decode16();
  spec.name = "prompt16";
  spec.chain = {{LevelRole::kBase, 1, 50},
                {LevelRole::kSlotsToCoeffs, 2, 43},
                {LevelRole::kWorking, 14, 43},
                {LevelRole::kEvalMod, 8, 50},
                {LevelRole::kCoeffsToSlots, 3, 45}};
  return spec;
}

// 12 working levels and sparse bootstraps of up to about 2^10 values: StC and CtS in two levels.
// Two digits: Q falls into halves below P. logQP 1692 of 1747.
ParametersSpec Sparse16() {
  ParametersSpec spec;
  spec.name = "sparse16";
  spec.chain = {{LevelRole::kBase, 1, 50},
                {LevelRole::kSlotsToCoeffs, 2, 41},
                {LevelRole::kWorking, 12, 41},
                {LevelRole::kEvalMod, 8, 50},
                {LevelRole::kCoeffsToSlots, 2, 46}};
  spec.special_primes = 12;
  spec.log_special_prime = 48;
  return spec;
}

// 12 working levels and full-slot bootstraps: StC and CtS in three levels, two digits. logQP 1719
// of 1747.
ParametersSpec Full16() {
  ParametersSpec spec;
  spec.name = "full16";
  spec.chain = {{LevelRole::kBase, 1, 50},
                {LevelRole::kSlotsToCoeffs, 3, 37},
                {LevelRole::kWorking, 12, 37},
                {LevelRole::kEvalMod, 8, 50},
                {LevelRole::kCoeffsToSlots, 3, 46}};
  spec.special_primes = 12;
  spec.log_special_prime = 48;
  return spec;
}

// fast16's structure on a ring that no one may use for secrets.
ParametersSpec Test(int log_n) {
  ParametersSpec spec = Fast16();
  spec.name = fmt::format("test{}", log_n);
  spec.log_n = log_n;
  spec.insecure_for_tests = true;
  return spec;
}

std::vector<ParametersSpec> AllSets() {
  return {Decode16(), Prompt16(), Fast16(), Sparse16(), Full16(),
          Test(10),   Test(11),   Test(12), Test(13)};
}

}  // namespace

std::vector<std::string> ParameterNames() {
  std::vector<std::string> names;
  for (const ParametersSpec& spec : AllSets()) names.push_back(spec.name);
  return names;
}

Result<ParametersSpec> FindParameters(const std::string& name) {
  for (ParametersSpec& spec : AllSets())
    if (spec.name == name) return std::move(spec);
  std::string known;
  for (const std::string& other : ParameterNames()) known += (known.empty() ? "" : ", ") + other;
  return MakeError(ErrorCode::kNotFound, "parameter set \"{}\" is unknown; known: {}", name, known);
}

}  // namespace polyveil::ckks
