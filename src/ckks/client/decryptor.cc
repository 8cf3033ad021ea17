#include "ckks/client/decryptor.h"

#include "base/thread_pool.h"
#include "ckks/client/secret_key_impl.h"
#include "ring/kernels.h"

namespace polyveil::ckks {

Plaintext Decryptor::Decrypt(const Ciphertext& ciphertext) const {
  const SecretKey::Impl& key = key_->impl();
  const Parameters& params = *key.params;
  const size_t n = params.n(), limbs = params.limbs(ciphertext.level);
  PV_CHECK(!ciphertext.parts.empty(), "a ciphertext without parts");
  Plaintext result;
  result.level = ciphertext.level;
  result.scale = ciphertext.scale;
  result.poly = ring::RnsPoly(limbs, n);
  ParallelFor(limbs, [&](size_t j) {  // Horner in s, from the highest part
    const ring::Modulus& q = params.q(static_cast<int>(j));
    u64* out = result.poly.ptr(j);
    std::copy_n(ciphertext.parts.back().ptr(j), n, out);
    for (size_t k = ciphertext.parts.size() - 1; k-- > 0;)
      ring::ActiveKernels().mul_add(out, out, key.dense_ntt(j), ciphertext.parts[k].ptr(j), n, q);
  });
  return result;
}

}  // namespace polyveil::ckks
