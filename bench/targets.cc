#include "bench/targets.h"

namespace polyveil::bench {
namespace {

// Measured on the reference machine (2 cores of Zen 4 with AVX-512 IFMA, quiet), N = 2^16.
constexpr std::string_view kHexl = "OpenFHE 1.5.1 with HEXL, malloc tuned";
constexpr std::string_view kHexl25 = "OpenFHE 1.5.1 with HEXL, malloc tuned; 25 limbs";
constexpr std::string_view kFull =
    "OpenFHE 1.5.1 with HEXL, malloc tuned; 9 usable levels, 14.4 bits in the worst slot";
constexpr std::string_view kBootstrapKeys =
    "OpenFHE 1.5.1 with HEXL; keys of one full bootstrap, not of a program";
constexpr double kGigabyte = 1e9;

constexpr Target kTargets[] = {
    {"ntt_forward_hot", 1, 105e-6, 128e-6, kHexl},
    {"ntt_inverse_hot", 1, 105e-6, 125e-6, kHexl},
    {"rotate_27", 1, 45e-3, 175e-3, kHexl25},
    {"rotate_12", 1, 14e-3, 71e-3, kHexl},
    {"rotate_hoisted_27", 1, 12e-3, 32.6e-3, kHexl25},
    {"rotate_hoisted_12", 1, 6e-3, 17e-3, kHexl},
    {"mul_relin_rescale_27", 1, 55e-3, 193e-3, kHexl25},
    {"mul_relin_rescale_12", 1, 16e-3, 75e-3, kHexl},
    {"mul_plain_rescale_12", 1, 5e-3, 8.6e-3, kHexl},
    {"add_25", 1, 2.5e-3, 2.6e-3, kHexl},
    {"bootstrap_full", 1, 2.5, 7.8, kFull},
    {"bootstrap_full", 2, 1.4, 6.1, kFull},
    {"bootstrap_sparse_7", 1, 0.9, 0, "none measured"},
    {"bootstrap_sparse_10", 1, 0.9, 0, "none measured"},
    {"demo_keys_memory", 2, 3 * kGigabyte, 10.5 * kGigabyte, kBootstrapKeys},
    {"demo_keys_wire", 2, 1.5 * kGigabyte, 0, "none measured"},
    {"demo_keygen", 2, 15, 40, kBootstrapKeys},
};

bool IsSize(const Row& row) { return row.measured.repetitions == 0; }

}  // namespace

std::span<const Target> Targets() { return kTargets; }

std::optional<Target> FindTarget(const Row& row) {
  for (const Target& target : kTargets)
    if (target.id == row.id && (target.threads == row.threads || IsSize(row))) return target;
  return std::nullopt;
}

double ValueOf(const Row& row) { return IsSize(row) ? row.bytes : row.measured.seconds; }

}  // namespace polyveil::bench
