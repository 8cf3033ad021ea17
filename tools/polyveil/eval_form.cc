#include "polyveil/eval_form.h"

#include <cstdio>
#include <utility>

#include "base/thread_pool.h"
#include "ckks/client/decryptor.h"
#include "ckks/client/encryptor.h"
#include "ckks/client/key_generator.h"
#include "ckks/encoder.h"
#include "ckks/seeded.h"
#include "polyveil/progress_bar.h"
#include "polyveil/terminal.h"
#include "runtime/compile_model.h"
#include "runtime/decoder_session.h"
#include "runtime/simulator.h"

namespace polyveil::tools {
namespace {

using model::BodyRunner;
using Bundle = std::shared_ptr<const model::LanguageModelBundle>;
using Program = std::shared_ptr<const compile::CompiledDecoder>;

class SimulatedRunner : public BodyRunner {
 public:
  SimulatedRunner(Program program, const runtime::NoiseModel& noise, std::uint64_t seed)
      : simulator_(std::move(program), noise, seed) {}
  Result<std::vector<double>> Step(std::span<const double> embedding) override {
    return simulator_.Step(embedding);
  }
  std::unique_ptr<BodyRunner> Clone() const override {
    return std::make_unique<SimulatedRunner>(*this);
  }

 private:
  runtime::Simulator simulator_;
};

// Both sides of an encrypted run in one process.
struct EncryptedBody {
  Program program;
  ckks::SecretKey secret;
  ckks::Encoder encoder;
  std::shared_ptr<const runtime::Engine> engine;
  double seconds_per_token = 0;

  Result<ckks::Ciphertext> Encrypt(std::span<const double> embedding) const {
    std::vector<double> values(embedding.begin(), embedding.end());
    for (double& value : values) value /= program->units().input;
    const ckks::Parameters& params = *program->params();
    const int level = program->input_level();
    PV_ASSIGN_OR_RETURN(const auto plain, encoder.Encode(std::span<const double>(values), level,
                                                         params.scale(level)));
    return ckks::Expand(params, ckks::Encryptor(secret).Encrypt(plain));
  }

  std::vector<double> Decrypt(const ckks::Ciphertext& result) const {
    std::vector<double> residual;
    const auto plain = ckks::Decryptor(secret).Decrypt(result);
    for (const ckks::Complex& slot : encoder.Decode(plain, program->width()))
      residual.push_back(slot.real() * program->units().result());
    return residual;
  }
};

class EncryptedRunner : public BodyRunner {
 public:
  explicit EncryptedRunner(std::shared_ptr<const EncryptedBody> body)
      : body_(std::move(body)), session_(body_->engine) {}

  Result<std::vector<double>> Step(std::span<const double> embedding) override {
    PV_ASSIGN_OR_RETURN(const ckks::Ciphertext token, body_->Encrypt(embedding));
    ProgressBar bar(fmt::format("position {:>3}", session_.position()), body_->seconds_per_token);
    runtime::StepOptions options;
    options.on_progress = [&](const runtime::StepProgress& progress) {
      bar.Update(progress.done, *progress.operation);
    };
    PV_ASSIGN_OR_RETURN(const ckks::Ciphertext result, session_.Step(token, options));
    return body_->Decrypt(result);
  }
  std::unique_ptr<BodyRunner> Clone() const override {
    return std::make_unique<EncryptedRunner>(*this);
  }

 private:
  std::shared_ptr<const EncryptedBody> body_;
  runtime::DecoderSession session_;
};

Result<Program> Compile(const Bundle& bundle, const ckks::ParametersPtr& params,
                        const compile::MachineSpeed& speed = {}) {
  return runtime::CompileModel(
      std::make_shared<const model::Decoder>(model::DecoderOfBundle(bundle->body)), params, speed);
}

Result<ckks::EvaluationKeys> MakeKeys(const EncryptedBody& body, double expected_seconds) {
  ProgressBar bar("keys", expected_seconds);
  Progress progress([&](const ProgressReport& report) {
    bar.Update(static_cast<double>(report.done) / static_cast<double>(report.total), report.label);
  });
  return ckks::KeyGenerator(body.secret).Generate(body.program->keys(), &progress);
}

Result<std::shared_ptr<EncryptedBody>> MakeEncryptedBody(const Bundle& bundle,
                                                         const ckks::ParametersPtr& params) {
  PV_ASSIGN_OR_RETURN(Program program, Compile(bundle, params));
  const auto speed =
      compile::MeasureMachineSpeed(params->log_n(), static_cast<int>(polyveil::Threads()));
  PV_ASSIGN_OR_RETURN(const Program timed, Compile(bundle, params, speed));
  auto body = std::make_shared<EncryptedBody>(
      EncryptedBody{std::move(program), ckks::SecretKey::Generate(params), ckks::Encoder(params),
                    nullptr, timed->estimate().seconds_per_token});
  std::fprintf(stderr, "on ciphertexts: %s\nkeys: %s of memory, never stored\n",
               params->Describe().c_str(), Bytes(timed->estimate().key_bytes_memory).c_str());
  PV_ASSIGN_OR_RETURN(auto keys, MakeKeys(*body, timed->estimate().key_generation_seconds));
  PV_ASSIGN_OR_RETURN(body->engine, runtime::Engine::Create(
                                        std::make_shared<runtime::WeightStore>(body->program),
                                        std::make_shared<ckks::EvaluationKeys>(std::move(keys))));
  return body;
}

}  // namespace

Result<Form> MakeForm(Bundle bundle, const FormOptions& options) {
  const bool encrypted = options.evaluation == "encrypted";
  if (!encrypted && options.evaluation != "simulated") {
    const auto evaluation =
        options.evaluation == "exact" ? model::Evaluation::kExact : model::Evaluation::kPolynomial;
    return Form{model::MakeScorer(std::move(bundle), evaluation)};
  }
  PV_ASSIGN_OR_RETURN(const ckks::ParametersSpec spec, ckks::FindParameters(options.parameters));
  PV_ASSIGN_OR_RETURN(const ckks::ParametersPtr params, ckks::Parameters::Create(spec));
  if (!encrypted) {
    PV_ASSIGN_OR_RETURN(const Program program, Compile(bundle, params));
    const auto noise = runtime::NoiseModel::ForParameters(*params);
    const auto start = [program, noise, seed = options.seed](std::size_t group) {
      return std::make_unique<SimulatedRunner>(program, noise, seed + group);
    };
    return Form{model::MakeScorer(std::move(bundle), {start, true})};
  }
  if (params->insecure() && !options.insecure)
    return MakeError(ErrorCode::kSecurity,
                     "parameters '{}' are insecure and for tests only (--insecure-test allows "
                     "them)",
                     options.parameters);
  PV_ASSIGN_OR_RETURN(const auto body, MakeEncryptedBody(bundle, params));
  const auto start = [body](std::size_t) { return std::make_unique<EncryptedRunner>(body); };
  return Form{model::MakeScorer(std::move(bundle), {start, false}), body->seconds_per_token};
}

}  // namespace polyveil::tools
