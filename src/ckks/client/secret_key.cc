#include "ckks/client/secret_key.h"

#include "base/thread_pool.h"
#include "ckks/client/secret_key_impl.h"
#include "ring/kernels.h"
#include "ring/samplers.h"

namespace polyveil::ckks {

void TransformSigned(std::span<const i64> in, const ring::NttTables& tables, u64* out) {
  ring::SignedToResidues(in, tables.modulus(), {out, in.size()});
  ring::ActiveKernels().forward_ntt(out, out, tables);
}

SecretKey::Impl::Impl(ParametersPtr params_in, const Seed& seed_in)
    : params(std::move(params_in)),
      seed(seed_in),
      dense(params->n()),
      sparse(params->n()),
      dense_residues(params->q_count() + params->p_count(), params->n()) {
  for (const auto& [data, bytes] : Secrets()) LockMemory(data, bytes);
  Prng dense_stream(seed, "polyveil/ckks/secret/dense");
  ring::SampleTernary(dense_stream, dense);
  Prng sparse_stream(seed, "polyveil/ckks/secret/sparse");
  ring::SampleSparseTernary(sparse_stream, params->spec().sparse_hamming_weight, sparse);
  ParallelFor(dense_residues.limbs(), [&](size_t j) {
    TransformSigned(dense, params->extended_table(params->max_level(), static_cast<int>(j)),
                    dense_residues.ptr(j));
  });
}

SecretKey::Impl::~Impl() {
  SecureWipe(seed.data(), seed.size());
  dense_residues.Wipe();
  for (const auto& [data, bytes] : Secrets()) UnlockMemory(data, bytes);
}

// What matters most comes first: the limit of locked memory may end before the residues do.
std::array<std::pair<const void*, size_t>, 4> SecretKey::Impl::Secrets() const {
  const size_t residues = dense_residues.limbs() * dense_residues.n() * sizeof(u64);
  return {{{seed.data(), seed.size()},
           {dense.data(), dense.size() * sizeof(i64)},
           {sparse.data(), sparse.size() * sizeof(i64)},
           {dense_residues.data(), residues}}};
}

SecretKey::SecretKey() = default;
SecretKey::~SecretKey() = default;
SecretKey::SecretKey(SecretKey&&) noexcept = default;
SecretKey& SecretKey::operator=(SecretKey&&) noexcept = default;

SecretKey SecretKey::FromSeed(ParametersPtr params, const Seed& seed) {
  SecretKey key;
  key.impl_ = std::make_unique<Impl>(std::move(params), seed);
  return key;
}

SecretKey SecretKey::Generate(ParametersPtr params) {
  Seed seed = RandomSeed();
  SecretKey key = FromSeed(std::move(params), seed);
  SecureWipe(seed.data(), seed.size());
  return key;
}

const ParametersPtr& SecretKey::params() const { return impl_->params; }
const Seed& SecretKey::seed() const { return impl_->seed; }

}  // namespace polyveil::ckks
