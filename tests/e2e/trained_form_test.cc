// What the trainer ends with is what the encrypted program evaluates: every form of attention,
// trained, fitted and trained through its polynomials, then run by the reference and, as a program,
// by the simulator without noise. All in float64.
#include "compile/form_report.h"
#include "model/client/language_model.h"
#include "runtime/compile_model.h"
#include "runtime/simulator.h"
#include "support/toy_training.h"
#include "train/convert.h"
#include "train/study_probes.h"

namespace polyveil {
namespace {

using train::AttentionForm;

struct FormCase {
  const char* name;
  std::function<void(train::TrainConfig&)> choose;
};

const FormCase kCases[] = {
    {"Power2", [](auto& c) { c.shape.power = 2; }},
    {"Power4", [](auto&) {}},
    {"Power6", [](auto& c) { c.shape.power = 6; }},
    {"Power8LargeEps",
     [](auto& c) {
       c.shape.power = 8;
       c.shape.attention_eps = 0.05;
     }},
    {"Power12", [](auto& c) { c.shape.power = 12; }},
    // Without a shift nothing bounds the divisor below but eps.
    {"Unshifted",
     [](auto& c) {
       c.shape.shifted = false;
       c.shape.attention_eps = 0.2;
     }},
    {"SumInTheDivisor", [](auto& c) { c.shape.length_agnostic = false; }},
    {"TrainedMaxScaled", [](auto& c) { c.attention = AttentionForm::kPowerStable; }},
    {"PowersByLayerAndHead",
     [](auto& c) {
       c.shape.layer_powers = {{2, 6}, {4}};
     }},
    {"Pointwise", [](auto& c) { c.attention = AttentionForm::kPointwise; }},
    {"PointwiseInOneLayer",
     [](auto& c) {
       c.shape.layer_attention = {AttentionForm::kPointwise, AttentionForm::kPowerMean};
     }},
    // The simulator's inputs are the client's, so the text's tokens must reach its tables.
    {"Ngrams",
     [](auto& c) {
       c.shape.ngram_rows = {50, 30};
     }},
    {"QkNorm", [](auto& c) { c.shape.qk_norm = true; }},
    {"QkNormUnshifted",
     [](auto& c) {
       c.shape.qk_norm = true;
       c.shape.shifted = false;
       c.shape.attention_eps = 0.2;
     }},
};

class TrainedForm : public train::ToyTraining, public testing::WithParamInterface<FormCase> {
 protected:
  void ExpectSameFunction(const train::LoadedModel& trained) const;

  train::TrainConfig Parent() const {
    train::TrainConfig config = Tiny("parent");
    config.float64 = true;
    config.steps = 6;
    config.shape.d_ff = 32;
    config.shape.context = 8;
    GetParam().choose(config);
    return config;
  }

  // Parent, fit, two steps through the polynomials.
  train::LoadedModel TrainPolynomial() const {
    train::TrainConfig config = Parent();
    Run(config);
    config.name = "poly";
    config.init_from = "parent/last.pt";
    config.steps = 2;
    config.polynomial = train::PolynomialOptions{7, 15, 7, 15, 2, 20};
    // The stages differ in form for the max-scaled one alone: same function, no maximum.
    if (config.attention == AttentionForm::kPowerStable)
      config.attention = AttentionForm::kPowerMean;
    Run(config);
    return train::LoadModel(folder_ + "/poly/last.pt", torch::kFloat64).value();
  }
};

// Every family of approximations, as `convert` chooses them.
class ConvertedForm : public TrainedForm {};

double WorstDifference(const std::vector<double>& x, const torch::Tensor& y) {
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    worst = std::max(worst, std::abs(x[i] - y[static_cast<std::int64_t>(i)].item<double>()));
  return worst;
}

// Logits of trainer, reference and program over a batch of text.
void TrainedForm::ExpectSameFunction(const train::LoadedModel& trained) const {
  const auto data = train::LoadDataset(folder_ + "/data").value();
  const int rows = 2, context = trained.model->shape().context;
  const train::Batch batch = train::DrawBatch(data, {}, rows, context, 99, 1);
  const Bundle files =
      ExportInMemory(*trained.model, train::ObserveRanges(*trained.model, {batch}));
  const auto decoder = std::make_shared<const model::Decoder>(
      model::DecoderOfBundle(model::ParseBodyBundle(files.json, files.tensors).value()));
  const auto client = model::ParseClientBundle(files.json, files.tensors).value();
  const auto params = ckks::Parameters::Create(ckks::FindParameters("test10").value()).value();
  const auto compiled = runtime::CompileModel(decoder, params, compile::MachineSpeed{});
  ASSERT_TRUE(compiled.ok()) << compiled.error().message;
  const auto report =
      compile::ReportForm(*decoder, params, compile::MachineSpeed{}, {context}).value();
  EXPECT_EQ(report.block_depth,
            train::BlockLevels(trained.model->shape(), trained.model->attention(0), 0,
                               (*trained.model->polynomials)[0]));
  torch::NoGradGuard no_grad;
  const torch::Tensor logits = trained.model->Logits(batch.inputs);
  const double largest = logits.abs().max().item<double>();
  for (int row = 0; row < rows; ++row) {
    model::ReferenceLanguageModel reference(*decoder, client);
    runtime::Simulator simulator(*compiled, runtime::NoiseModel::Zero(), 1);
    std::vector<model::TokenId> text;
    for (int t = 0; t < context; ++t) {
      const int token = batch.inputs[row][t].item<int>();
      const auto expected = reference.Step(token, t);
      text.push_back(token);
      const auto residual = simulator.Step(model::Embed(client, text).value());
      ASSERT_TRUE(expected.ok() && residual.ok());
      const auto actual = model::Head(client, *residual).value();
      EXPECT_LT(WorstDifference(*expected, logits[row][t]), 1e-6 * largest) << "position " << t;
      EXPECT_LT(WorstDifference(actual, logits[row][t]), 1e-6 * largest) << "position " << t;
    }
  }
}

TEST_P(TrainedForm, EqualsReferenceAndProgram) { ExpectSameFunction(TrainPolynomial()); }

INSTANTIATE_TEST_SUITE_P(Forms, TrainedForm, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

TEST_P(ConvertedForm, EqualsReferenceAndProgram) {
  Run(Parent());
  for (const char* family : {"remez", "chebyshev", "composite", "goldschmidt", "newton"}) {
    train::ConvertRequest request{
        folder_ + "/parent/last.pt",     folder_ + "/data", folder_, family, 3,
        {1.3, 0.1, 0.1, 0.1, 12, family}};
    ASSERT_TRUE(train::ConvertCheckpoint(request).ok());
    SCOPED_TRACE(family);
    ExpectSameFunction(
        train::LoadModel(folder_ + "/" + family + "/last.pt", torch::kFloat64).value());
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ConvertedForm, testing::Values(FormCase{"Power4", [](auto&) {}}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace polyveil
