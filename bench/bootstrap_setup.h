// Everything that bootstraps of one kind need, both sides in one process (benchmarks only).
#pragma once

#include <memory>

#include "base/system.h"
#include "circuits/bootstrap_report.h"
#include "circuits/bootstrapper.h"
#include "ckks/client/decryptor.h"
#include "ckks/client/encryptor.h"
#include "ckks/client/key_generator.h"
#include "ckks/client/secret_key.h"
#include "ckks/encoder.h"
#include "ckks/evaluator.h"
#include "ckks/seeded.h"

namespace polyveil::bench {

struct BootstrapSetup {
  // Makes the keys, then the diagonals. Errors: those of Bootstrapper and KeyGenerator.
  static Result<std::unique_ptr<BootstrapSetup>> Create(const ckks::ParametersPtr& params,
                                                        const circuits::BootstrapSpec& spec,
                                                        Progress* progress = nullptr) {
    auto setup = std::unique_ptr<BootstrapSetup>(new BootstrapSetup(params));
    PV_ASSIGN_OR_RETURN(const auto request, circuits::Bootstrapper::Keys(*params, spec));
    Timer timer;
    PV_ASSIGN_OR_RETURN(setup->keys, ckks::KeyGenerator(setup->secret).Generate(request, progress));
    setup->keygen_seconds = timer.Seconds();
    timer.Reset();
    PV_ASSIGN_OR_RETURN(auto made, circuits::Bootstrapper::Create(params, setup->encoder, spec));
    setup->bootstrapper = std::make_unique<circuits::Bootstrapper>(std::move(made));
    setup->create_seconds = timer.Seconds();
    return setup;
  }

  Result<ckks::Ciphertext> Encrypt(std::span<const ckks::Complex> values, int level) const {
    PV_ASSIGN_OR_RETURN(const auto plain, encoder.Encode(values, level, params->scale(level)));
    return ckks::Expand(*params, ckks::Encryptor(secret).Encrypt(plain));
  }
  circuits::BootstrapClient Client() const {
    return {
        [this](std::span<const ckks::Complex> values, int level) { return Encrypt(values, level); },
        [this](const ckks::Ciphertext& x) -> Result<std::vector<ckks::Complex>> {
          return encoder.Decode(ckks::Decryptor(secret).Decrypt(x), params->slots());
        }};
  }
  // Precision and times over the kinds of input in turn.
  Result<circuits::BootstrapReport> Measure(const circuits::BootstrapRuns& runs,
                                            Progress* progress = nullptr) const {
    PV_ASSIGN_OR_RETURN(auto report, circuits::MeasureBootstraps(evaluator, *bootstrapper, Client(),
                                                                 runs, progress));
    report.keygen_seconds = keygen_seconds;
    report.create_seconds = create_seconds;
    return report;
  }

  ckks::ParametersPtr params;
  ckks::SecretKey secret;
  ckks::Encoder encoder;
  ckks::EvaluationKeys keys;
  ckks::Evaluator evaluator;
  std::unique_ptr<circuits::Bootstrapper> bootstrapper;
  double keygen_seconds = 0, create_seconds = 0;

 private:
  explicit BootstrapSetup(const ckks::ParametersPtr& p)
      : params(p), secret(ckks::SecretKey::Generate(p)), encoder(p), evaluator(p, &keys) {}
};

}  // namespace polyveil::bench
