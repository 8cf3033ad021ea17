#include "ckks/client/key_generator.h"

#include <functional>

#include "base/thread_pool.h"
#include "ckks/client/secret_key_impl.h"
#include "ckks/seeded.h"
#include "ring/automorphism.h"
#include "ring/kernels.h"
#include "ring/samplers.h"

namespace polyveil::ckks {
namespace {

using ring::ActiveKernels;
using ring::Modulus;
using ring::NttTables;

// Position of a key's limb in the dense secret's residues (all of Q, then P).
size_t DenseLimb(const Parameters& params, int chain_index) {
  return chain_index < 128 ? chain_index : params.q_count() + (chain_index - 128);
}

// What a key encrypts and under which secret, limb by limb in NTT form.
struct KeyPlan {
  KeyKind kind;
  int level;
  std::function<void(int chain_index, const NttTables&, u64* out)> source;  // s'
  std::function<void(int chain_index, const NttTables&, u64* out)> target;  // s
};

// The factor of s' in row i, limb j: P g_i mod its prime, P being what the kind divides by.
u64 GadgetFactor(const Parameters& params, const KeyShape& shape, KeyKind kind, int level, int row,
                 size_t j) {
  if (shape.chain_indices[j] >= 128) return 0;
  if (kind == KeyKind::kGadget) {
    const int index = static_cast<int>(j), special = params.special_primes(level);
    if (index < params.digit_begin(special, row) || index >= params.digit_end(level, special, row))
      return 0;
  }
  const Modulus& q = shape.tables[j]->modulus();
  u64 product = 1;
  for (size_t k = 0; k < shape.limbs(); ++k)
    if (shape.chain_indices[k] >= 128)
      product = q.Mul(product, q.Reduce(shape.tables[k]->modulus().q));
  return product;
}

// b = e + factor s' - a s for one limb of one row.
void FillLimb(const KeyPlan& plan, const KeySwitchKey& key, const KeyShape& shape, size_t row,
              size_t j, u64 factor, std::span<const i64> noise, u64* b) {
  const NttTables& tables = *shape.tables[j];
  const Modulus& q = tables.modulus();
  const size_t n = tables.n();
  const int index = shape.chain_indices[j];
  const ring::Kernels& kernels = ActiveKernels();
  SecretBuffer secret(n), sum(n);
  Buffer a(n);
  TransformSigned(noise, tables, sum.data());
  if (factor != 0) {
    plan.source(index, tables, secret.data());
    kernels.mul_scalar_add(sum.data(), secret.data(), factor, sum.data(), n, q);
  }
  plan.target(index, tables, secret.data());
  ring::SampleUniform(key.seed, kKeyDomain, KeyStreamIndex(row, index), q, {a.data(), n});
  kernels.mul(secret.data(), secret.data(), a.data(), n, q);
  kernels.sub(b, sum.data(), secret.data(), n, q);
}

// Seed and noise are fresh in every call: two keys with one seed, or one noise, would leak.
KeySwitchKey MakeKey(const Parameters& params, const KeyPlan& plan) {
  const KeyShape shape = ShapeOf(params, plan.kind, plan.level);
  const size_t n = params.n(), limbs = shape.limbs();
  KeySwitchKey key;
  key.kind = plan.kind;
  key.level = plan.level;
  key.seed = RandomSeed();
  std::vector<SecureVector<i64>> noise(shape.rows, SecureVector<i64>(n));
  ParallelFor(shape.rows, [&](size_t row) {
    Prng prng = Prng::FromSystem("polyveil/ckks/key/noise");
    ring::SampleGaussian(prng, noise[row]);
  });
  for (int row = 0; row < shape.rows; ++row) key.b.emplace_back(limbs, n);
  ParallelFor(shape.rows * limbs, [&](size_t item) {
    const size_t row = item / limbs, j = item % limbs;
    FillLimb(plan, key, shape, row, j,
             GadgetFactor(params, shape, plan.kind, plan.level, static_cast<int>(row), j),
             noise[row], key.b[row].ptr(j));
  });
  return key;
}

auto DenseTarget(const SecretKey::Impl& key) {
  return [&key](int index, const NttTables& tables, u64* out) {
    std::copy_n(key.dense_ntt(DenseLimb(*key.params, index)), tables.n(), out);
  };
}

KeySwitchKey MakeAutomorphismKey(const SecretKey::Impl& key, u64 galois_element, int level) {
  const std::vector<u32> permutation =
      ring::NttAutomorphism(galois_element, static_cast<size_t>(key.params->n()));
  const auto source = [&](int index, const NttTables& tables, u64* out) {
    ActiveKernels().permute(out, key.dense_ntt(DenseLimb(*key.params, index)), permutation.data(),
                            tables.n());
  };
  return MakeKey(*key.params, {KeyKind::kGadget, level, source, DenseTarget(key)});
}

}  // namespace

KeySwitchKey KeyGenerator::Rotation(int rotation, int level) const {
  const SecretKey::Impl& key = key_->impl();
  return MakeAutomorphismKey(key, ring::GaloisElement(rotation, key.params->n()), level);
}

KeySwitchKey KeyGenerator::Conjugation(int level) const {
  const SecretKey::Impl& key = key_->impl();
  return MakeAutomorphismKey(key, ring::ConjugationElement(key.params->n()), level);
}

KeySwitchKey KeyGenerator::Relinearization(int level) const {
  const SecretKey::Impl& key = key_->impl();
  const auto source = [&](int index, const NttTables& tables, u64* out) {
    const u64* s = key.dense_ntt(DenseLimb(*key.params, index));
    ActiveKernels().mul(out, s, s, tables.n(), tables.modulus());
  };
  return MakeKey(*key.params, {KeyKind::kGadget, level, source, DenseTarget(key)});
}

KeySwitchKey KeyGenerator::ToSparse() const {
  const SecretKey::Impl& key = key_->impl();
  const auto transform = [](const SecureVector<i64>& coefficients) {
    return [&coefficients](int, const NttTables& tables, u64* out) {
      TransformSigned(coefficients, tables, out);
    };
  };
  return MakeKey(*key.params, {KeyKind::kToSparse, 0, transform(key.dense), transform(key.sparse)});
}

KeySwitchKey KeyGenerator::ToDense() const {
  const SecretKey::Impl& key = key_->impl();
  const auto source = [&](int, const NttTables& tables, u64* out) {
    TransformSigned(key.sparse, tables, out);
  };
  return MakeKey(*key.params,
                 {KeyKind::kToDense, key.params->max_level(), source, DenseTarget(key)});
}

namespace {

Status CheckLevels(const Parameters& params, const KeyRequest& request) {
  const auto check = [&](int level, const std::string& what) -> Status {
    if (level >= 0 && level <= params.max_level()) return {};
    return MakeError(ErrorCode::kOutOfRange, "{} key: level = {}, expected 0..{}", what, level,
                     params.max_level());
  };
  for (const int level : request.relinearization_levels)
    PV_RETURN_IF_ERROR(check(level, "relinearization"));
  for (const int level : request.conjugation_levels)
    PV_RETURN_IF_ERROR(check(level, "conjugation"));
  for (const auto& [rotation, level] : request.rotations)
    PV_RETURN_IF_ERROR(check(level, fmt::format("rotation {}", rotation)));
  return {};
}

}  // namespace

Result<EvaluationKeys> KeyGenerator::Generate(const KeyRequest& request, Progress* progress) const {
  const Parameters& params = *key_->params();
  PV_RETURN_IF_ERROR(CheckLevels(params, request));
  Progress silent;
  if (!progress) progress = &silent;
  progress->Start(request.count(), "keys");
  EvaluationKeys keys;
  const auto finish = [&](KeySwitchKey key, auto& destination, const std::string& label) -> Status {
    PV_RETURN_IF_ERROR(ExpandKey(params, key));
    destination = std::move(key);
    progress->Advance(1, label);
    return progress->Check();
  };
  for (const int level : request.relinearization_levels)
    PV_RETURN_IF_ERROR(
        finish(Relinearization(level), keys.relinearization[level], "relinearization"));
  for (const int level : request.conjugation_levels)
    PV_RETURN_IF_ERROR(finish(Conjugation(level), keys.conjugation[level], "conjugation"));
  if (request.encapsulation) {
    PV_RETURN_IF_ERROR(finish(ToSparse(), keys.to_sparse, "to sparse"));
    PV_RETURN_IF_ERROR(finish(ToDense(), keys.to_dense, "to dense"));
  }
  for (const auto& [rotation, level] : request.rotations)
    PV_RETURN_IF_ERROR(finish(Rotation(rotation, level), keys.rotations[rotation][level],
                              fmt::format("rotation {}", rotation)));
  return keys;
}

}  // namespace polyveil::ckks
