#include "ckks/client/encryptor.h"

#include "base/thread_pool.h"
#include "ckks/client/secret_key_impl.h"
#include "ring/kernels.h"
#include "ring/samplers.h"

namespace polyveil::ckks {

SeededCiphertext Encryptor::Encrypt(const Plaintext& plaintext) const {
  const SecretKey::Impl& key = key_->impl();
  const Parameters& params = *key.params;
  PV_CHECK(!plaintext.with_p, "a plaintext over QP is not for encryption");
  const size_t n = params.n(), limbs = params.limbs(plaintext.level);
  SeededCiphertext result;
  result.level = plaintext.level;
  result.scale = plaintext.scale;
  result.seed = RandomSeed();
  result.c0 = ring::RnsPoly(limbs, n);
  SecureVector<i64> noise(n);
  Prng prng = Prng::FromSystem("polyveil/ckks/encrypt/noise");
  ring::SampleGaussian(prng, noise);
  ParallelFor(limbs, [&](size_t j) {
    const ring::NttTables& tables = params.q_table(static_cast<int>(j));
    const ring::Modulus& q = tables.modulus();
    const ring::Kernels& kernels = ring::ActiveKernels();
    SecretBuffer masked(n), error(n);  // c1 s, e + m
    ring::SampleUniform(result.seed, kCiphertextDomain, j, q, {masked.data(), n});
    kernels.mul(masked.data(), masked.data(), key.dense_ntt(j), n, q);
    TransformSigned(noise, tables, error.data());
    kernels.add(error.data(), error.data(), plaintext.poly.ptr(j), n, q);
    kernels.sub(result.c0.ptr(j), error.data(), masked.data(), n, q);
  });
  return result;
}

}  // namespace polyveil::ckks
