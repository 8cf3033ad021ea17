// Small insecure parameters, a key and messages for the tests of the formats.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "ckks/client/encryptor.h"
#include "ckks/client/secret_key.h"
#include "ckks/encoder.h"
#include "ckks/seeded.h"
#include "wire/ciphertext_format.h"
#include "wire/client/key_writer.h"
#include "wire/client/secret_key_file.h"
#include "wire/key_stream.h"

namespace polyveil::wire {

struct Fixture {
  ckks::ParametersPtr params;
  ckks::SecretKey key;
  MessageBounds bounds;
  ckks::SeededCiphertext seeded;
  ckks::KeyRequest request;

  static Fixture Make() {
    auto params = ckks::Parameters::Create(ckks::FindParameters("test10").value()).value();
    Fixture fixture{params, ckks::SecretKey::Generate(params), {}, {}, {}};
    fixture.bounds.binding = {params->digest(), HashBytes("test", {}), KeyIdOf(fixture.key)};
    fixture.bounds.position = 7;
    fixture.bounds.level = 3;
    fixture.bounds.scale = params->scale(3);
    const std::vector<double> values(8, 0.5);
    const ckks::Encoder encoder(params);
    const auto plain = encoder.Encode(values, 3, params->scale(3)).value();
    fixture.seeded = ckks::Encryptor(fixture.key).Encrypt(plain);
    fixture.request.AddRelinearization(4);
    fixture.request.AddRotation(1, params->slots(), 2);
    fixture.request.AddRotation(5, params->slots(), 3);
    fixture.request.encapsulation = true;
    return fixture;
  }

  Bytes Token() const { return FormatToken(*params, bounds.binding, bounds.position, seeded); }
  Bytes ResultMessage() const {
    const auto ciphertext = ckks::Expand(*params, seeded).value();
    return FormatResult(*params, bounds.binding, bounds.position, ciphertext);
  }
  Bytes KeyStream() const {
    Bytes out;
    const ByteSink sink = [&](ByteView bytes) -> Status {
      out.insert(out.end(), bytes.begin(), bytes.end());
      return {};
    };
    EXPECT_TRUE(WriteKeyStream(key, request, sink).ok());
    return out;
  }
};

inline bool SameWords(const ring::RnsPoly& a, const ring::RnsPoly& b) {
  return a.limbs() == b.limbs() && a.n() == b.n() &&
         std::equal(a.data(), a.data() + a.limbs() * a.n(), b.data());
}

// Recomputes the checksum of an altered container: what an attacker who knows the format sends.
inline void Reseal(Bytes& bytes) {
  const ByteView view(bytes);
  const Digest checksum = Hasher("polyveil/container/1")
                              .Update(view.first(kHeaderBytes - 32))
                              .Update(view.subspan(kHeaderBytes))
                              .Final();
  std::copy(checksum.begin(), checksum.end(), bytes.begin() + kHeaderBytes - 32);
}

}  // namespace polyveil::wire
