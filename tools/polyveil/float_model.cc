#include "polyveil/float_model.h"

#include <algorithm>
#include <cmath>

#include "base/worst.h"
#include "model/import/decoder_files.h"
#include "runtime/compile_model.h"
#include "runtime/noise_model.h"
#include "runtime/result_noise.h"

namespace polyveil::tools {
namespace {

size_t ArgMax(const std::vector<double>& values) {
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

}  // namespace

Result<std::vector<double>> FloatText::Logits(std::span<const double> embedding) {
  const int token = reference_.position() + 1;
  PV_ASSIGN_OR_RETURN(const auto residual, reference_.Step(embedding));
  PV_ASSIGN_OR_RETURN(auto logits, half_.Head(residual));
  if (AllFinite(logits)) return logits;
  const std::string& site = reference_.first_not_finite();
  return MakeError(ErrorCode::kUntrustedResult,
                   "a value left its interval at token {}: its logits are not finite (first: {})",
                   token, site.empty() ? "the last residual" : site);
}

ReferenceCheck::ReferenceCheck(const model::Decoder& decoder,
                               std::shared_ptr<const compile::CompiledProgram> program,
                               const model::ClientHalf& half, int count)
    : half_(half),
      simulator_(program, runtime::NoiseModel::ForParameters(*program->params()), 1),
      allowed_(static_cast<size_t>(count)) {
  for (int i = 0; i < count; ++i) references_.emplace_back(decoder);
}

Result<std::unique_ptr<ReferenceCheck>> ReferenceCheck::Create(
    const std::string& path, int context, const model::ClientHalf& half,
    const ckks::ParametersPtr& params, std::span<const model::TokenId> before, int texts,
    int count) {
  PV_ASSIGN_OR_RETURN(const auto decoder, model::LoadDecoder(path, {.context = context}));
  // The same program as the server's.
  PV_ASSIGN_OR_RETURN(auto program, runtime::CompileModel(decoder, params, {}, {.texts = texts}));
  std::unique_ptr<ReferenceCheck> check(
      new ReferenceCheck(*decoder, std::move(program), half, count));
  if (!before.empty()) PV_RETURN_IF_ERROR(check->Begin(*decoder, before));
  return check;
}

Status ReferenceCheck::Begin(const model::Decoder& decoder,
                             std::span<const model::TokenId> before) {
  std::vector<std::vector<double>> embeddings;
  for (size_t i = static_cast<size_t>(half_.prefix()); i < before.size(); ++i) {
    PV_ASSIGN_OR_RETURN(auto embedding, half_.Embed(before.first(i + 1)));
    for (auto& reference : references_) PV_RETURN_IF_ERROR(reference.Step(embedding));
    embeddings.push_back(std::move(embedding));
  }
  PV_ASSIGN_OR_RETURN(const auto known,
                      model::ComputePublicContext(decoder, std::move(embeddings)));
  return simulator_.Reset(known);
}

Status ReferenceCheck::Compare(std::span<const std::vector<double>> embeddings,
                               std::span<const std::vector<double>> logits,
                               std::span<TokenReport* const> reports) {
  PV_ASSIGN_OR_RETURN(const auto noisy, simulator_.StepTexts(embeddings));
  for (size_t i = 0; i < reports.size(); ++i) {
    if (reports[i] == nullptr) continue;
    TokenReport& report = *reports[i];
    PV_ASSIGN_OR_RETURN(const auto residual, references_[i].Step(embeddings[i]));
    PV_ASSIGN_OR_RETURN(const auto expected, half_.Head(residual));
    PV_ASSIGN_OR_RETURN(const auto simulated, half_.Head(noisy[i]));
    const double predicted = LargestDifference(simulated, expected);
    // A prediction that is no number allows nothing.
    if (std::isfinite(predicted))
      allowed_[i] = std::max(allowed_[i], runtime::kNoiseAccuracy * predicted);
    report.logits_error = LargestDifference(logits[i], expected);
    report.logits_allowed = allowed_[i];
    report.argmax_agrees = ArgMax(logits[i]) == ArgMax(expected);
    report.not_finite = references_[i].first_not_finite();
  }
  return {};
}

Status ReferenceCheck::Compare(const std::vector<double>& embedding,
                               const std::vector<double>& logits, TokenReport& report) {
  TokenReport* const only = &report;
  return Compare({&embedding, 1}, {&logits, 1}, {&only, 1});
}

}  // namespace polyveil::tools
