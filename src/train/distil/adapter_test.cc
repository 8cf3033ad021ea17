// Adapters: folders against the trained model in float32 and float64; what is trained beside frozen
// weights.
#include "train/distil/adapter.h"

#include "base/mapped_file.h"
#include "base/output_file.h"
#include "model/decoder_reference.h"
#include "model/formats/adapter.h"
#include "model/import/constant_prefix.h"
#include "model/import/decoder_files.h"
#include "train/distil/forms_fixture.h"
#include "train/distil/toy.h"

namespace polyveil::train {
namespace {

using torch::Tensor;

// A student whose updates and norms have been trained, as far as its file can tell: updates
// rounded to F16 as they stand in it.
Transformer TrainedStudent(const model::Checkpoint& source, const std::vector<int>& prefix,
                           const AdapterOptions& options, bool polynomials) {
  torch::NoGradGuard no_grad;
  const Transformer teacher = LoadReleased(source, static_cast<int>(prefix.size())).value();
  Transformer student = AdaptedStudent(teacher, teacher.shape(), options, 5);
  torch::manual_seed(7);
  Weights::Visit(student.weights, [&](const std::string& name, Tensor& value) {
    const TensorRole role = RoleOf(name, true);
    if (role == TensorRole::kGain) value += 0.1 * torch::randn_like(value);
    if (name.ends_with("lora_b")) value += 0.1 * torch::randn_like(value);
    if (role == TensorRole::kWeight) value = value.to(torch::kHalf).to(torch::kFloat32);
  });
  SetForms(student, TokensBehind(prefix), polynomials);
  return student;
}

// alpha = 2 rank: a power of two, which F16 keeps.
AdapterOptions Options(int rank) {
  AdapterOptions options;
  options.rank = rank;
  options.alpha = 2 * rank;
  return options;
}

// A new run goes on from the folder with every trained tensor as it was.
void ExpectRestored(const Transformer& model, const model::Checkpoint& source,
                    const AdapterOptions& options, const std::string& folder) {
  const int prefix = model.shape().prefix;
  const Transformer teacher = LoadReleased(source, prefix).value();
  Transformer again = AdaptedStudent(teacher, model.shape(), options, 9);
  const Status read = ReadAdapterFolder(folder, source, again);
  ASSERT_TRUE(read.ok()) << read.error().message;
  std::map<std::string, Tensor> wanted;
  Transformer copy = model;
  Weights::Visit(copy.weights, [&](const std::string& name, Tensor& t) { wanted[name] = t; });
  Weights::Visit(again.weights, [&](const std::string& name, Tensor& t) {
    if (RoleOf(name, true) == TensorRole::kFrozen || name.find("centre") != std::string::npos)
      return;
    EXPECT_TRUE(torch::allclose(t, wanted.at(name), 1e-6, 1e-6)) << name;
  });
  // Of a higher rank it fills a share, of a lower one it is refused.
  torch::NoGradGuard no_grad;
  AdapterOptions other = options;
  other.rank += 2;
  const Transformer larger = AdaptedStudent(teacher, model.shape(), other, 9);
  ASSERT_TRUE(ReadAdapterFolder(folder, source, larger).ok());
  copy.polynomials.reset();
  const Tensor tokens = TokenTensor(Tokens());
  const Tensor hidden = copy.Forward(tokens, {}).hidden;
  EXPECT_LT((larger.Forward(tokens, {}).hidden - hidden).abs().max().item<double>(),
            1e-4 * hidden.abs().max().item<double>());
  if (options.rank == 1) return;
  other.rank = options.rank - 1;
  const Transformer smaller = AdaptedStudent(teacher, model.shape(), other, 9);
  EXPECT_EQ(ReadAdapterFolder(folder, source, smaller).error().code, ErrorCode::kMismatch);
}

void ExpectAdapterEqual(const model::Checkpoint& source, const std::vector<int>& prefix,
                        const AdapterOptions& options, bool polynomials) {
  const model::TemporaryFolder folder;
  const std::vector<model::TokenId> tokens = TokensBehind(prefix);
  const Transformer model = TrainedStudent(source, prefix, options, polynomials);
  const DistilCalibration calibration{Observed(model, TokenTensor(tokens)), 12, 1.5};
  ASSERT_TRUE(WriteAdapterFolder(model, source, prefix, calibration, folder.path()).ok());
  const auto adapted = model::LoadCheckpoint(folder.path());
  ASSERT_TRUE(adapted.ok()) << adapted.error().message;
  EXPECT_EQ(model::WeightsSha256(**adapted), model::WeightsSha256(source));
  ExpectEqual(model, **adapted, tokens);
  ExpectRestored(model, source, options, folder.path());
}

TEST(DistilAdapter, FoldersEqualTheTrainedModelInEveryForm) {
  for (const char* name : {"gpt2", "gpt_neox", "gpt_neox sequential", "llama", "llama 3", "bert"}) {
    const model::TemporaryFolder folder;
    const auto source = WriteToyModel(name, folder.path());
    const std::vector<int> prefix =
        source->architecture.causal ? std::vector<int>{1, 9} : std::vector<int>{};
    for (const bool polynomials : {false, true}) {
      SCOPED_TRACE(fmt::format("{} {}", name, polynomials));
      ExpectAdapterEqual(*source, prefix, Options(3), polynomials);
    }
    AdapterOptions some = Options(1);
    some.sites = {AdapterSite::kValue, AdapterSite::kUp};
    ExpectAdapterEqual(*source, prefix, some, true);
  }
}

TEST(DistilAdapter, GgufFilesStayAndTheirRowsKeepTheirOrder) {
  for (const char* name : {"gpt2", "gpt_neox", "llama"}) {
    SCOPED_TRACE(name);
    const auto source =
        model::LoadCheckpoint(model::VectorPath(std::string(name) + ".gguf")).value();
    ExpectAdapterEqual(*source, {3}, Options(2), true);
  }
}

// Residuals behind the last block, the trainer's in float64 beside the folded decoder's. Both read
// the same float32 weights; updates are summed in float32 in one and apart in the other, so weights
// of size 1/2 differ by 2^-25, through two blocks of 24 summands.
TEST(DistilAdapter, EqualsTheFoldedDecoderInFloat64) {
  const model::TemporaryFolder folder, out;
  const auto source = WriteToyModel("llama", folder.path());
  const std::vector<int> prefix = {1, 9};
  const std::vector<model::TokenId> tokens = TokensBehind(prefix);
  const Transformer trained = TrainedStudent(*source, prefix, Options(3), true);
  const DistilCalibration calibration{Observed(trained, TokenTensor(tokens)), 12, 1.5};
  ASSERT_TRUE(WriteAdapterFolder(trained, *source, prefix, calibration, out.path()).ok());

  Transformer wide = trained;
  Weights::Visit(wide.weights,
                 [](const std::string&, Tensor& value) { value = value.to(torch::kFloat64); });
  const Tensor frequencies =
      torch::tensor(model::RotaryTable(*source->architecture.rotary, source->weights.rotary_factors)
                        .frequencies());
  Transformer model(trained.shape(), AttentionForm::kPowerMean, wide.weights,
                    frequencies.to(torch::kFloat64));
  model.polynomials = trained.polynomials;
  model.adapter_scale = trained.adapter_scale;
  torch::NoGradGuard no_grad;
  Transformer::Pass pass(model);
  Tensor x = model.Embed(TokenTensor(tokens));
  for (int i = 0; i < model.shape().n_layers; ++i) x = model.Block(i, x, pass);

  const auto decoder = model::LoadDecoder(out.path()).value();
  const auto inputs =
      model::EmbedTokens(*model::LoadCheckpoint(out.path()).value(), tokens).value();
  model::DecoderReference reference(*decoder);
  for (std::size_t t = prefix.size(); t < tokens.size(); ++t) {
    const std::vector<double> y = reference.Step(inputs[t]).value();
    for (std::size_t i = 0; i < y.size(); ++i)
      EXPECT_NEAR(y[i],
                  x[0][static_cast<std::int64_t>(t)][static_cast<std::int64_t>(i)].item<double>(),
                  2e-5);
  }
}

TEST(DistilAdapter, StartsAsTheTeacherAndSharesItsWeights) {
  const model::TemporaryFolder folder;
  const auto source = WriteToyModel("llama", folder.path());
  const Transformer teacher = LoadReleased(*source).value();
  const Transformer student = AdaptedStudent(teacher, teacher.shape(), Options(4), 1);
  const Transformer again = AdaptedStudent(teacher, teacher.shape(), Options(4), 1);
  const Transformer other = AdaptedStudent(teacher, teacher.shape(), Options(4), 2);
  const auto& a = student.weights.layers[1];
  EXPECT_TRUE(a.wdown.is_same(teacher.weights.layers[1].wdown));
  EXPECT_TRUE(student.weights.embed.is_same(teacher.weights.embed));
  EXPECT_FALSE(a.norm1.is_same(teacher.weights.layers[1].norm1));
  const auto site = AdapterSite::kDown;
  EXPECT_TRUE(torch::equal(a.adapter(site).a, again.weights.layers[1].adapter(site).a));
  EXPECT_FALSE(torch::equal(a.adapter(site).a, other.weights.layers[1].adapter(site).a));
  torch::NoGradGuard no_grad;
  const Transformer plain = teacher.Clone(teacher.shape(), AttentionForm::kPowerMean);
  EXPECT_TRUE(torch::equal(student.Forward(TokenTensor(Tokens()), {}).hidden,
                           plain.Forward(TokenTensor(Tokens()), {}).hidden));
}

// Matrices rounded to bfloat16 once are what a step in bfloat16 rounds them to anyhow.
TEST(DistilAdapter, WeightsRoundedOnceGiveTheSameStep) {
  const model::TemporaryFolder folder;
  const auto source = WriteToyModel("llama", folder.path());
  const auto loss = [&](std::optional<torch::ScalarType> matrices) {
    Transformer teacher = LoadReleased(*source, 0, torch::kFloat32, matrices).value();
    Transformer student = AdaptedStudent(teacher, teacher.shape(), Options(4), 1);
    student.weights.layers[0].adapter(AdapterSite::kOut).a.set_requires_grad(true);
    student.weights.layers[0].adapter(AdapterSite::kOut).b.set_requires_grad(true);
    student.precision = Precision::kBf16;
    student.Forward(TokenTensor(Tokens()), {}).hidden.pow(2).sum().backward();
    EXPECT_FALSE(student.weights.layers[0].wo.grad().defined());
    return student.weights.layers[0].adapter(AdapterSite::kOut).b.grad();
  };
  const Tensor wide = loss({}), rounded = loss(torch::kBFloat16);
  EXPECT_GT(wide.abs().max().item<double>(), 0);
  EXPECT_TRUE(torch::equal(wide, rounded));
}

TEST(DistilAdapter, AnotherBaseIsRefusedAsAStart) {
  const model::TemporaryFolder first, second, out;
  const auto source = WriteToyModel("llama", first.path());
  const auto other = WriteToyModel("gpt2", second.path());
  const Transformer model = TrainedStudent(*source, {1, 9}, Options(2), false);
  ASSERT_TRUE(WriteAdapterFolder(model, *source, {1, 9}, {}, out.path()).ok());
  const Transformer teacher = LoadReleased(*other).value();
  const Status read = ReadAdapterFolder(out.path(), *other,
                                        AdaptedStudent(teacher, teacher.shape(), Options(2), 1));
  ASSERT_FALSE(read.ok());
  EXPECT_NE(read.error().message.find(model::WeightsSha256(*other)), std::string::npos);
}

// Half an update, or one with a value that is none: refused by the tensor's name.
TEST(DistilAdapter, DamagedStartsAreRefused) {
  const model::TemporaryFolder folder, out;
  const auto source = WriteToyModel("llama", folder.path());
  const Transformer model = TrainedStudent(*source, {1, 9}, Options(2), false);
  ASSERT_TRUE(WriteAdapterFolder(model, *source, {1, 9}, {}, out.path()).ok());
  const std::string path = out.path() + "/" + model::kAdapterName;
  const auto file = MappedFile::Open(path).value();
  const std::string whole(file->text());
  const auto refused = [&](const std::string& bytes, const char* what) {
    ASSERT_TRUE(WriteFile(path, bytes).ok());
    const Transformer teacher = LoadReleased(*source, 2).value();
    const Status read = ReadAdapterFolder(out.path(), *source,
                                          AdaptedStudent(teacher, model.shape(), Options(2), 1));
    ASSERT_FALSE(read.ok());
    EXPECT_NE(read.error().message.find(what), std::string::npos) << read.error().message;
  };
  std::string half = whole;
  half.replace(half.find("down_proj.weight.lora_b"), 23, "down_proj.weight.lora_c");
  refused(half, "down_proj.weight: .lora_a without .lora_b");
  std::string damaged = whole;
  damaged[damaged.size() - 1] = damaged[damaged.size() - 2] = '\xff';
  refused(damaged, "not finite");
}

TEST(DistilAdapter, RolesByName) {
  EXPECT_EQ(RoleOf("layers.3.wqkv", true), TensorRole::kFrozen);
  EXPECT_EQ(RoleOf("layers.3.wqkv", false), TensorRole::kWeight);
  EXPECT_EQ(RoleOf("layers.3.gate.lora_b", true), TensorRole::kWeight);
  EXPECT_EQ(RoleOf("layers.3.norm2", true), TensorRole::kGain);
  EXPECT_EQ(RoleOf("layers.3.norm1_bias", true), TensorRole::kGain);
  EXPECT_EQ(RoleOf("layers.3.bqkv", true), TensorRole::kFrozen);
  EXPECT_EQ(RoleOf("final_norm", true), TensorRole::kGain);
  EXPECT_EQ(RoleOf("final_norm", false), TensorRole::kWeight);
  EXPECT_EQ(RoleOf("layers.3.log_kappa", true), TensorRole::kForm);
  EXPECT_EQ(RoleOf("layers.3.centre2", false), TensorRole::kForm);
  EXPECT_EQ(RoleOf("embed", true), TensorRole::kFrozen);
  EXPECT_EQ(RoleOf("embedding_norm", true), TensorRole::kFrozen);
}

}  // namespace
}  // namespace polyveil::train
