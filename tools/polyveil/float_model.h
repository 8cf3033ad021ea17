// A model's layers in the clear: what --check compares with and --plain runs.
#pragma once

#include <memory>
#include <string>

#include "compile/compiled_program.h"
#include "model/client/text_loop.h"
#include "model/decoder_reference.h"
#include "polyveil/model_files.h"
#include "polyveil/run_report.h"
#include "runtime/simulator.h"

namespace polyveil::tools {

// Logits of the float64 polynomial model, token by token.
class FloatText {
 public:
  FloatText(const model::Decoder& decoder, const model::ClientHalf& half)
      : half_(half), reference_(decoder) {}
  // Of a text's last token, whose embedding this is. Errors: kUntrustedResult for a residual that
  // is not finite (token and site).
  Result<std::vector<double>> Logits(std::span<const double> embedding);
  const model::DecoderReference& reference() const { return reference_; }

 private:
  const model::ClientHalf& half_;
  model::DecoderReference reference_;
};

// Compares each step with the float64 polynomial model, which needs nothing but the prompts'
// owner's data. What may differ is what the noise model predicts: a simulated run goes beside it.
class ReferenceCheck {
 public:
  // before: tokens that the text begins with and the server takes in the clear, the prefix first;
  // or none. Errors: those of the model's loaders and of the compiler.
  // texts: that the server's program decodes together; `count` of them are compared.
  static Result<std::unique_ptr<ReferenceCheck>> Create(const std::string& path, int context,
                                                        const model::ClientHalf& half,
                                                        const ckks::ParametersPtr& params,
                                                        std::span<const model::TokenId> before,
                                                        int texts = 1, int count = 1);
  // Feeds each text's last token, given by its embedding. Fills the reports' errors, allowed errors
  // and agreements; a text without a report (null) has ended and is compared no more.
  Status Compare(std::span<const std::vector<double>> embeddings,
                 std::span<const std::vector<double>> logits,
                 std::span<TokenReport* const> reports);
  // The same of one text.
  Status Compare(const std::vector<double>& embedding, const std::vector<double>& logits,
                 TokenReport& report);

 private:
  ReferenceCheck(const model::Decoder& decoder,
                 std::shared_ptr<const compile::CompiledProgram> program,
                 const model::ClientHalf& half, int count);
  Status Begin(const model::Decoder& decoder, std::span<const model::TokenId> before);

  const model::ClientHalf& half_;
  std::vector<model::DecoderReference> references_;  // by text
  runtime::Simulator simulator_;
  std::vector<double> allowed_;
};

}  // namespace polyveil::tools
