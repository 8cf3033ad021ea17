// Every architecture against transformers (scripts/make_released_vectors.py), and decode against
// prefill.
#include "model/float32/reference.h"

#include <gtest/gtest.h>

#include <random>

#include "model/formats/checkpoint.h"
#include "model/formats/released_fixture.h"

namespace polyveil::model {
namespace {

// Largest absolute difference to rows of numbers.
double LargestError(const FloatMatrix& x, const nlohmann::json& rows) {
  double worst = x.rows == static_cast<int>(rows.size()) ? 0 : INFINITY;
  for (int r = 0; r < x.rows && worst < INFINITY; ++r)
    for (int c = 0; c < x.cols; ++c)
      worst = std::max(
          worst,
          std::abs(x.row(r)[static_cast<std::size_t>(c)] -
                   rows[static_cast<std::size_t>(r)][static_cast<std::size_t>(c)].get<double>()));
  return worst;
}

// float32 against float32: outputs of size 1 after about 100 rounded operations each.
constexpr double kTolerance = 1e-5;

std::vector<TokenId> TokensOf(const nlohmann::json& vectors, const char* key = "tokens") {
  return vectors[key].get<std::vector<TokenId>>();
}

FloatMatrix Outputs(const FloatReference& model, std::span<const Sequence> batch) {
  if (model.architecture().head == HeadKind::kClassifier) return model.Classify(batch).value();
  FloatMatrix hidden = model.Hidden(batch).value();
  return model.architecture().head == HeadKind::kCausalLm ? model.Logits(hidden) : hidden;
}

TEST(FloatReference, EveryArchitectureEqualsTransformers) {
  for (const auto& vectors : ReadVectors("logits.json")) {
    SCOPED_TRACE(vectors["name"].get<std::string>());
    const TemporaryFolder folder;
    WriteModel(vectors, folder.path());
    const auto checkpoint = LoadCheckpoint(folder.path()).value();
    ASSERT_TRUE(CheckAllFinite(*checkpoint).ok());
    const FloatReference model(checkpoint->architecture, checkpoint->weights);
    const auto tokens = TokensOf(vectors), types = TokensOf(vectors, "types");
    const Sequence sequence{tokens, types};
    EXPECT_LT(LargestError(Outputs(model, std::span(&sequence, 1)), vectors["outputs"]),
              kTolerance);
  }
}

TEST(FloatReference, GgufFilesGiveTheSameLogits) {
  const auto all = ReadVectors("logits.json");
  for (const auto& vectors : all) {
    const std::string name = vectors["name"];
    if (!std::filesystem::exists(VectorPath(name + ".gguf"))) continue;
    SCOPED_TRACE(name);
    const auto checkpoint = LoadCheckpoint(VectorPath(name + ".gguf")).value();
    const FloatReference model(checkpoint->architecture, checkpoint->weights);
    const auto tokens = TokensOf(vectors), types = TokensOf(vectors, "types");
    const Sequence sequence{tokens, types};
    EXPECT_LT(LargestError(Outputs(model, std::span(&sequence, 1)), vectors["outputs"]),
              kTolerance);
  }
}

TEST(FloatReference, ParametersAreCounted) {
  for (const auto& vectors : ReadVectors("logits.json")) {
    const auto a = ParseHuggingFaceConfig(vectors["config"].dump()).value();
    std::uint64_t count = 0;
    for (const auto& [name, shape] : vectors["tensors"].items()) {
      const bool pooler = name.find("pooler") != std::string::npos;
      if (pooler && a.head != HeadKind::kClassifier) continue;
      std::uint64_t elements = 1;
      for (const auto& extent : shape) elements *= extent.get<std::uint64_t>();
      count += elements;
    }
    EXPECT_EQ(CountParameters(a), count) << Describe(a);
  }
}

// A decoder of vectors, kept with its files.
struct Loaded {
  TemporaryFolder folder;
  nlohmann::json vectors;
  std::shared_ptr<const Checkpoint> checkpoint;

  explicit Loaded(const std::string& name, ElementType type = ElementType::kF32) {
    for (const auto& each : ReadVectors("logits.json"))
      if (each["name"] == name) vectors = each;
    WriteModel(vectors, folder.path(), type);
    checkpoint = LoadCheckpoint(folder.path()).value();
  }
  FloatReference model() const {
    return FloatReference(checkpoint->architecture, checkpoint->weights);
  }
};

TEST(FloatReference, CachedStepsOfAnySizeEqualOnePass) {
  std::mt19937_64 random(1);
  for (const char* name : {"gpt2", "gpt_neox", "llama", "llama 3", "qwen2", "mistral", "opt"}) {
    const Loaded loaded(name);
    const FloatReference model = loaded.model();
    const auto tokens = TokensOf(loaded.vectors);
    for (int round = 0; round < 6; ++round) {
      KvCache cache(loaded.checkpoint->architecture);
      FloatMatrix logits(0, loaded.checkpoint->architecture.vocab_size);
      for (std::size_t at = 0; at < tokens.size();) {
        const std::size_t step =
            round == 0 ? 1 : std::min<std::size_t>(1 + random() % 5, tokens.size() - at);
        const Sequence part{std::span(tokens).subspan(at, step), {}, &cache};
        const FloatMatrix out = Outputs(model, std::span(&part, 1));
        logits.values.insert(logits.values.end(), out.values.begin(), out.values.end());
        logits.rows += out.rows;
        at += step;
      }
      EXPECT_EQ(cache.length(), static_cast<int>(tokens.size()));
      EXPECT_LT(LargestError(logits, loaded.vectors["outputs"]), kTolerance) << name;
    }
  }
}

TEST(FloatReference, BatchesOfAnyLengthsEqualSingleSequences) {
  for (const char* name : {"llama", "bert", "roberta with padding"}) {
    const Loaded loaded(name);
    const FloatReference model = loaded.model();
    const auto tokens = TokensOf(loaded.vectors);
    std::vector<Sequence> batch;
    for (const std::size_t length : {5u, 1u, 12u, 7u})
      batch.push_back({std::span(tokens).first(length)});
    const FloatMatrix all = model.Hidden(batch).value();
    int row = 0;
    for (const Sequence& sequence : batch) {
      const FloatMatrix one = model.Hidden(std::span(&sequence, 1)).value();
      for (int r = 0; r < one.rows; ++r, ++row)
        for (int c = 0; c < one.cols; ++c)
          ASSERT_NEAR(all.row(row)[static_cast<std::size_t>(c)],
                      one.row(r)[static_cast<std::size_t>(c)], kTolerance);
    }
  }
}

TEST(FloatReference, TruncatedCachesAreContinued) {
  const Loaded loaded("llama");
  const FloatReference model = loaded.model();
  const auto tokens = TokensOf(loaded.vectors);
  KvCache cache(loaded.checkpoint->architecture);
  const Sequence all{tokens, {}, &cache};
  ASSERT_TRUE(model.Hidden(std::span(&all, 1)).ok());
  cache.Truncate(4, loaded.checkpoint->architecture);
  const Sequence rest{std::span(tokens).subspan(4), {}, &cache};
  const FloatMatrix logits = model.Logits(model.Hidden(std::span(&rest, 1)).value());
  auto expected = loaded.vectors["outputs"];
  expected.erase(expected.begin(), expected.begin() + 4);
  EXPECT_LT(LargestError(logits, expected), kTolerance);
}

TEST(FloatReference, RefusesWhatTheModelCannotRead) {
  const Loaded loaded("llama"), encoder("bert");
  const FloatReference model = loaded.model();
  const auto fails = [](const FloatReference& reference, const Sequence& sequence,
                        const char* part) {
    const auto result = reference.Hidden(std::span(&sequence, 1));
    ASSERT_FALSE(result.ok());
    EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
  };
  const std::vector<TokenId> unknown = {1, 29}, negative = {-1}, many(21, 1), fine = {1, 2};
  fails(model, {unknown}, "29");
  fails(model, {negative}, "-1");
  fails(model, {many}, "21 tokens > context 20");
  fails(model, {{}}, "0 tokens");
  const Loaded windowed("mistral");  // its thirteenth token would not see the first
  const std::vector<TokenId> thirteen(13, 1);
  fails(windowed.model(), {thirteen}, "13 tokens > context 12");
  KvCache cache(encoder.checkpoint->architecture);
  fails(encoder.model(), {fine, {}, &cache}, "encoder");
  const std::vector<TokenId> types = {0, 2};
  fails(encoder.model(), {fine, types}, "segment 2");
  EXPECT_FALSE(model.Classify({}).ok());
}

TEST(FloatReference, HalfPrecisionWeightsAreReadInTheirFile) {
  const Loaded loaded("gpt2", ElementType::kF16);
  const auto tokens = TokensOf(loaded.vectors);
  const Sequence sequence{tokens};
  const FloatReference model = loaded.model();
  // Weights below 1 rounded to 11 bits: 2^-12 relative in each of 3 x 2 layers' products.
  EXPECT_LT(LargestError(Outputs(model, std::span(&sequence, 1)), loaded.vectors["outputs"]), 2e-2);
}

}  // namespace
}  // namespace polyveil::model
