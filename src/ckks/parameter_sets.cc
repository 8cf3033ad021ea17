// The named parameter sets.
#include "ckks/parameters.h"

namespace polyveil::ckks {
namespace {

// 15 working levels for the demo's program, whose bootstraps are of sparse vectors: StC in one level
// (cheap at two limbs), CtS in two. Sizes are such that two digits suffice at the top: Q falls into
// halves below P. logQP 1710 of 1747 at N = 2^16.
ParametersSpec Decode16() {
  ParametersSpec spec;
  spec.name = "decode16";
  spec.chain = {{LevelRole::kBase, 1, 50},
                {LevelRole::kSlotsToCoeffs, 1, 37},
                {LevelRole::kWorking, 15, 37},
                {LevelRole::kEvalMod, 8, 50},
                {LevelRole::kCoeffsToSlots, 2, 46}};
  spec.special_primes = 12;
  spec.log_special_prime = 48;
  return spec;
}

// Full-slot bootstraps: StC and CtS in three levels. logQP 1690 of 1747.
ParametersSpec Full16() {
  ParametersSpec spec;
  spec.name = "full16";
  spec.chain = {{LevelRole::kBase, 1, 50},
                {LevelRole::kSlotsToCoeffs, 3, 40},
                {LevelRole::kWorking, 13, 40},
                {LevelRole::kEvalMod, 8, 50},
                {LevelRole::kCoeffsToSlots, 3, 50}};
  return spec;
}

// decode16's structure on a ring that no one may use for secrets.
ParametersSpec Test(int log_n) {
  ParametersSpec spec = Decode16();
  spec.name = fmt::format("test{}", log_n);
  spec.log_n = log_n;
  spec.insecure_for_tests = true;
  return spec;
}

std::vector<ParametersSpec> AllSets() {
  return {Decode16(), Full16(), Test(10), Test(11), Test(12), Test(13)};
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
