#include "model/encoder_head.h"

#include <algorithm>
#include <cmath>

#include "base/worst.h"

namespace polyveil::model {
namespace {

std::vector<double> Dense(const Matrix& w, const std::vector<double>& bias,
                          std::span<const double> x) {
  std::vector<double> y = bias;
  for (int r = 0; r < w.rows; ++r)
    for (int c = 0; c < w.cols; ++c)
      y[static_cast<std::size_t>(r)] += w.at(r, c) * x[static_cast<std::size_t>(c)];
  return y;
}

}  // namespace

std::vector<double> EncoderHead::Logits(std::span<const double> normalised) const {
  std::vector<double> pooled = Dense(pooler, pooler_bias, normalised);
  for (double& value : pooled) value = forms.pooler(value);
  return Dense(classifier, classifier_bias, pooled);
}

std::vector<double> Normalised(const Approximant& norm, std::span<const double> residual) {
  double squares = 0;
  for (const double value : residual) squares += value * value;
  const double root = norm(squares / static_cast<double>(residual.size()));
  std::vector<double> x(residual.begin(), residual.end());
  for (double& value : x) value *= root;
  return x;
}

Result<HeadForms> FitHead(const EncoderHead& head, std::span<const std::vector<double>> tokens,
                          double margin, int degree) {
  if (tokens.empty())
    return MakeError(ErrorCode::kInvalidArgument, "a classification head: 0 texts to fit it to");
  std::vector<std::vector<double>> all(tokens.begin(), tokens.end());
  all.emplace_back(tokens.front().size());
  EncoderHead fitted = head;
  double largest = 0;
  for (const auto& token : all)
    for (const double value : Dense(head.pooler, head.pooler_bias, token))
      largest = Worse(largest, std::abs(value));
  if (!std::isfinite(largest) || largest == 0)
    return MakeError(ErrorCode::kOutOfRange, "a classification head reads values up to {}",
                     largest);
  const double end = margin * largest;
  fitted.forms.pooler =
      approx::Interpolate([](double x) { return std::tanh(x); }, -end, end, degree);
  double bound = 0;
  for (const auto& token : all)
    for (const double logit : fitted.Logits(token)) bound = Worse(bound, std::abs(logit));
  fitted.forms.bound = margin * bound;
  PV_RETURN_IF_ERROR(ValidateHead(fitted.forms, "a classification head"));
  return fitted.forms;
}

Status ValidateHead(const HeadForms& forms, const std::string& where) {
  PV_RETURN_IF_ERROR(approx::Validate(forms.pooler, where + ".pooler"));
  if (!(forms.pooler.a < 0 && forms.pooler.b > 0))
    return MakeError(ErrorCode::kOutOfRange, "{}.pooler: [{}, {}] is no interval around 0", where,
                     forms.pooler.a, forms.pooler.b);
  if (forms.bound > 0 && std::isfinite(forms.bound)) return {};
  return MakeError(ErrorCode::kOutOfRange, "{}.bound = {}, not positive", where, forms.bound);
}

}  // namespace polyveil::model
