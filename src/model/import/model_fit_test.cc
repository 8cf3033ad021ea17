// Fitted forms, and decoders of their files in float64 against the float32 reference of the whole.
#include "model/import/model_fit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "model/decoder_reference.h"
#include "model/float32/reference.h"
#include "model/import/block_source.h"
#include "model/import/constant_prefix.h"
#include "model/import/decoder_files.h"
#include "model/import/fitted_fixture.h"

namespace polyveil::model {
namespace {

// The decoder's residuals of a text behind its prefix against the float32 reference's.
// The last norm, which stands outside of an encoder's blocks, as its layer's polynomial has it.
void NormaliseLast(const Decoder& encoder, std::vector<double>& x) {
  double squares = 0;
  for (const double value : x) squares += value * value / static_cast<double>(x.size());
  const double root = encoder.blocks.back().forms.norm2(squares);
  for (double& value : x) value *= root;
}

void ExpectEqualsReference(const std::string& path) {
  const auto checkpoint = LoadCheckpoint(path).value();
  ASSERT_TRUE(checkpoint->forms.has_value());
  const std::vector<int>& prefix = checkpoint->forms->prefix;
  std::vector<std::int32_t> tokens(prefix.begin(), prefix.end());
  TokenLists text = RandomTokens(checkpoint->architecture.vocab_size, 1, 6, 3);
  // Padding has a position of its own, and those behind it do not count it.
  if (const auto padding = checkpoint->architecture.padding_token) text[0][2] = *padding;
  tokens.insert(tokens.end(), text[0].begin(), text[0].end());
  const auto inputs = EmbedTokens(*checkpoint, tokens).value();
  const auto expected =
      InputsOfLayer(*checkpoint, checkpoint->architecture.n_layers, tokens).value();
  const auto decoder = LoadDecoder(path).value();
  EXPECT_EQ(decoder->prefix(), static_cast<int>(prefix.size()));
  DecoderReference reference(*decoder);
  const auto read = reference.Read(std::span(inputs).subspan(prefix.size())).value();
  for (std::size_t i = prefix.size(); i < tokens.size(); ++i) {
    std::vector<double> actual = read[i - prefix.size()];
    if (!decoder->causal()) NormaliseLast(*decoder, actual);
    // Sums of float32 products of some hundred terms of order 1, and polynomials of them.
    for (std::size_t j = 0; j < actual.size(); ++j)
      ASSERT_NEAR(actual[j], expected[i][j], 1e-3 * (1 + std::abs(expected[i][j])))
          << "token " << i << ", value " << j;
  }
}

TEST(ModelFit, DecodersOfEveryFamilyEqualTheFloat32Reference) {
  int served = 0;
  for (const auto& vectors : ReadVectors("logits.json")) {
    SCOPED_TRACE(vectors["name"].get<std::string>());
    const TemporaryFolder folder;
    WriteModel(vectors, folder.path());
    if (!ShapeOfBlocks(LoadCheckpoint(folder.path()).value()->architecture).ok()) continue;
    WriteForms(folder.path(), FittedForms(folder.path()));
    ExpectEqualsReference(folder.path());
    ++served;
  }
  EXPECT_GE(served, 8);
}

TEST(ModelFit, GgufFilesWithFormsBesideThem) {
  for (const char* name : {"llama.gguf", "gpt_neox.gguf", "gpt2.gguf", "qwen2.gguf"}) {
    SCOPED_TRACE(name);
    const TemporaryFolder folder;
    std::filesystem::copy(VectorPath(name), folder / name);
    WriteForms(folder.path(), FittedForms(folder / name));
    ExpectEqualsReference(folder / name);
    EXPECT_EQ(LoadDecoder(folder.path()).value()->digest,
              LoadDecoder(folder / name).value()->digest);
  }
}

// Texts that calibrated are inside of every interval; what was held out is counted by position.
TEST(ModelFit, SaysOnWhatItWasTried) {
  const TemporaryFolder folder;
  WriteModel(ReadCase("llama"), folder.path());
  const auto checkpoint = LoadCheckpoint(folder.path()).value();
  const TokenLists texts = RandomTokens(29, 4, 8, 5);
  int layers = 0;
  const ConvertedForms forms =
      FitForms(checkpoint, {texts, texts}, kSmallFit, [&](int, int) { ++layers; }).value();
  EXPECT_EQ(layers, 2);
  EXPECT_EQ(forms.prefix, std::vector<int>{1});
  EXPECT_EQ(forms.calibration.tokens, 32u);
  EXPECT_EQ(forms.context, 8);
  ASSERT_TRUE(forms.certificate.has_value());
  EXPECT_EQ(forms.certificate->heldout_positions, 32u);
  EXPECT_EQ(forms.certificate->heldout_out_of_range, 0u);
  // Intervals are the calibration's exact ranges times the margin; polynomials move them a little.
  EXPECT_NEAR(forms.certificate->least_margin, kSmallFit.margin, 0.2);
  EXPECT_FALSE(forms.certificate->predicted_logit_error.has_value());
  EXPECT_TRUE(CheckForms(forms, checkpoint->architecture).ok());
  EXPECT_EQ(FormatForms(ParseForms(FormatForms(forms)).value()), FormatForms(forms));

  BlockFit tight = kSmallFit;
  tight.margin = 1;
  const ConvertedForms narrow =
      FitForms(checkpoint, {{texts[0]}, RandomTokens(29, 2, 8, 6)}, tight).value();
  EXPECT_GT(narrow.certificate->heldout_out_of_range, 0u);
  EXPECT_LE(narrow.certificate->heldout_out_of_range, 16u);
  EXPECT_LT(narrow.certificate->least_margin, 1);
}

TEST(ModelFit, RefusesWhatHasFormsAndTokensOutside) {
  const TemporaryFolder folder;
  WriteFittedModel(ReadCase("llama"), folder.path());
  const auto converted = LoadCheckpoint(folder.path()).value();
  EXPECT_EQ(FitForms(converted, {{{1, 2}}, {}}, kSmallFit).error().code,
            ErrorCode::kInvalidArgument);
  std::filesystem::remove(folder / "forms.json");
  const auto released = LoadCheckpoint(folder.path()).value();
  const auto outside = FitForms(released, {{{1, 29}}, {}}, kSmallFit);
  EXPECT_EQ(outside.error().message, "token 29 outside the vocabulary of 29");
  const auto longer = FitForms(released, {RandomTokens(29, 1, 20, 1), {}}, kSmallFit);
  EXPECT_EQ(longer.error().message, "21 tokens > context 20");
  const auto prefixed = FitForms(released, {{{1, 2}}, {}, std::vector<int>(65, 1)}, kSmallFit);
  EXPECT_EQ(prefixed.error().message, "forms.prefix: 65 tokens > 64");
}

}  // namespace
}  // namespace polyveil::model
