// A client's side of the engine in one process, for tests: keys, encryption of a step's input,
// decryption.
#pragma once

#include <memory>
#include <vector>

#include "base/worst.h"
#include "ckks/client/decryptor.h"
#include "ckks/client/encryptor.h"
#include "ckks/client/key_generator.h"
#include "ckks/client/secret_key.h"
#include "ckks/encoder.h"
#include "ckks/seeded.h"
#include "runtime/compile_model.h"
#include "runtime/decoder_session.h"

namespace polyveil::testing {

inline ckks::ParametersPtr TestParams(const char* name = "test10") {
  return ckks::Parameters::Create(ckks::FindParameters(name).value()).value();
}

class EncryptedRun {
 public:
  // Panics on errors: a test's set-up does not fail.
  EncryptedRun(std::shared_ptr<const model::Decoder> decoder, const ckks::ParametersPtr& params)
      : EncryptedRun(
            runtime::CompileModel(std::move(decoder), params, compile::MachineSpeed{}).value()) {}
  explicit EncryptedRun(std::shared_ptr<const compile::CompiledProgram> program)
      : model_(std::move(program)),
        secret_(ckks::SecretKey::Generate(model_->params())),
        keys_(std::make_shared<ckks::EvaluationKeys>(
            ckks::KeyGenerator(secret_).Generate(model_->keys()).value())),
        weights_(std::make_shared<runtime::WeightStore>(model_)),
        engine_(runtime::Engine::Create(weights_, keys_).value()),
        session_(engine_),
        encoder_(model_->params()) {}

  const std::shared_ptr<const compile::CompiledProgram>& model() const { return model_; }
  const std::shared_ptr<const runtime::Engine>& engine() const { return engine_; }
  const ckks::EvaluationKeys& keys() const { return *keys_; }
  // Of the model and of its programs for prompts.
  const runtime::WeightStore& weights() const { return *weights_; }
  runtime::DecoderSession& session() { return session_; }

  ckks::Ciphertext Encrypt(std::vector<double> embedding) const {
    return EncryptTexts({&embedding, 1});
  }
  // A token of each of several texts.
  ckks::Ciphertext EncryptTexts(std::span<const std::vector<double>> embeddings) const {
    const auto packed = compile::PackTexts(embeddings, model_->texts(), model_->units().input);
    const std::vector<ckks::Complex> slots(packed.begin(), packed.end());
    return EncryptSlots(slots, model_->input_level());
  }

  // By one of the model's programs for prompts at once. Panics on errors.
  std::vector<std::vector<double>> Read(
      const std::shared_ptr<const compile::CompiledDecoder>& prompt,
      std::span<const std::vector<double>> tokens, std::span<const int> texts = {}) {
    const auto engine = runtime::Engine::Create(weights_, keys_, prompt).value();
    const auto packed = compile::PackTokens(tokens, prompt->token_layout(), prompt->units().input);
    const int count = static_cast<int>(tokens.size());
    std::vector<ckks::Ciphertext> inputs;
    for (const auto& slots : packed) inputs.push_back(EncryptSlots(slots, prompt->input_level()));
    compile::TokenSlots result;
    for (const auto& each : session_.Read(*engine, inputs, count, {}, texts).value())
      result.push_back(Slots(each));
    std::vector<std::vector<double>> read;
    for (int t = 0; t < count; ++t)
      read.push_back(compile::UnpackToken(result, prompt->token_layout(), prompt->result_width(), t,
                                          prompt->units().result()));
    return read;
  }

  // At the nominal scale.
  ckks::Ciphertext EncryptSlots(std::span<const ckks::Complex> slots, int level) const {
    const ckks::Parameters& params = *model_->params();
    const auto plain = encoder_.Encode(slots, level, params.scale(level)).value();
    return ckks::Expand(params, ckks::Encryptor(secret_).Encrypt(plain)).value();
  }

  std::vector<ckks::Complex> Slots(const ckks::Ciphertext& ciphertext) const {
    return encoder_.Decode(ckks::Decryptor(secret_).Decrypt(ciphertext), model_->params()->slots());
  }

  std::vector<double> Decrypt(const ckks::Ciphertext& ciphertext, int text = 0) const {
    return compile::UnpackText(Slots(ciphertext), model_->texts(), model_->width(), text,
                               model_->units().result());
  }

 private:
  std::shared_ptr<const compile::CompiledProgram> model_;
  ckks::SecretKey secret_;
  std::shared_ptr<const ckks::EvaluationKeys> keys_;
  std::shared_ptr<runtime::WeightStore> weights_;
  std::shared_ptr<const runtime::Engine> engine_;
  runtime::DecoderSession session_;
  ckks::Encoder encoder_;
};

}  // namespace polyveil::testing
