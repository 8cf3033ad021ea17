#include "circuits/client/bootstrap_bench.h"

#include "base/system.h"
#include "ckks/client/decryptor.h"
#include "ckks/client/encryptor.h"
#include "ckks/client/key_generator.h"

namespace polyveil::circuits {
namespace {

BootstrapClient MakeClient(const ckks::ParametersPtr& params, const ckks::Encoder& encoder,
                           const ckks::SecretKey& secret) {
  BootstrapClient client;
  client.encrypt = [&](std::span<const Complex> values, int level) -> Result<ckks::Ciphertext> {
    PV_ASSIGN_OR_RETURN(const auto plain, encoder.Encode(values, level, params->scale(level)));
    return ckks::Expand(*params, ckks::Encryptor(secret).Encrypt(plain));
  };
  client.decrypt = [&](const ckks::Ciphertext& ct) -> Result<std::vector<Complex>> {
    return encoder.Decode(ckks::Decryptor(secret).Decrypt(ct), params->slots());
  };
  return client;
}

}  // namespace

Result<BootstrapReport> RunBootstrapBench(const BootstrapBenchOptions& options,
                                          Progress* progress) {
  const ckks::ParametersPtr& params = options.params;
  const ckks::Encoder encoder(params);
  Timer timer;
  PV_ASSIGN_OR_RETURN(const auto bootstrapper, Bootstrapper::Create(params, encoder, options.spec));
  const double create_seconds = timer.Seconds();
  PV_ASSIGN_OR_RETURN(const auto request, Bootstrapper::Keys(*params, options.spec));
  const auto secret = ckks::SecretKey::Generate(params);
  timer.Reset();
  PV_ASSIGN_OR_RETURN(const auto keys, ckks::KeyGenerator(secret).Generate(request, progress));
  const double keygen_seconds = timer.Seconds();
  const ckks::Evaluator evaluator(params, &keys);
  const auto client = MakeClient(params, encoder, secret);
  PV_ASSIGN_OR_RETURN(BootstrapReport report,
                      MeasureBootstraps(evaluator, bootstrapper, client, options.runs, progress));
  report.create_seconds = create_seconds;
  report.keygen_seconds = keygen_seconds;
  return report;
}

}  // namespace polyveil::circuits
