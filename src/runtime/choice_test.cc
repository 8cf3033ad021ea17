#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/worst.h"
#include "model/decoder_reference.h"
#include "runtime/choice_session.h"
#include "runtime/compile_model.h"
#include "runtime/simulator.h"
#include "support/encrypted_run.h"
#include "support/random_choice.h"

namespace polyveil::runtime {
namespace {

struct Chooser {
  std::shared_ptr<const model::Decoder> decoder;
  std::shared_ptr<const compile::Choice> choice;
  std::shared_ptr<const compile::CompiledDecoder> program;

  const model::ChoiceTables& tables() const { return *choice->tables; }
};

Chooser CompileChooser(int vocabulary, std::uint64_t seed, const model::ChoiceFit& fit = {},
                       const char* parameters = "test10") {
  Chooser s;
  s.decoder = testing::RandomDecoder({}, seed);
  s.choice = std::make_shared<const compile::Choice>(
      testing::RandomChoice(*s.decoder, vocabulary, seed, fit));
  auto program = CompileModel(s.decoder, testing::TestParams(parameters), compile::MachineSpeed{},
                              {.choice = s.choice});
  EXPECT_TRUE(program.ok()) << program.error().message;
  s.program = *program;
  return s;
}

size_t Largest(const std::vector<double>& values) {
  return static_cast<size_t>(std::ranges::max_element(values) - values.begin());
}

double Gap(std::vector<double> logits) {
  std::ranges::nth_element(logits, logits.begin() + 1, std::greater<>());
  return std::abs(logits[0] - logits[1]);
}

// The embedding that bits give, at a position.
std::vector<double> Mixed(const model::ChoiceTables& tables, const std::vector<double>& bits,
                          int position) {
  std::vector<double> x(static_cast<size_t>(tables.width));
  for (int v = 0; v < tables.vocabulary; ++v) {
    const auto row = tables.EmbeddingRow(v);
    double left = 1;
    for (size_t i = 0; i < bits.size(); ++i)
      left *= (1 + bits[i] * model::TokenBit(v, static_cast<int>(i))) / 2;
    for (size_t c = 0; c < x.size(); ++c) x[c] += left * row[c];
  }
  const size_t at = static_cast<size_t>(position * tables.width);
  for (size_t c = 0; c < x.size(); ++c) x[c] += tables.positions[at + c];
  return x;
}

// Without noise a choice is the definition's, in one part of the slots and in both; padded or not.
TEST(Choice, EqualsItsDefinitionWithoutNoise) {
  for (const int vocabulary : {64, 50, 300, 512, 700, 1024}) {
    SCOPED_TRACE(vocabulary);
    const Chooser s = CompileChooser(vocabulary, 5);
    Simulator simulator(s.program, NoiseModel::Zero(), 1);
    model::DecoderReference reference(*s.decoder);
    std::vector<double> input = testing::EmbeddingOf(s.tables(), 3, 0);
    auto simulated = simulator.Step(input).value();
    for (int position = 0; position + 1 < s.decoder->context; ++position) {
      const auto residual = reference.Step(input).value();
      EXPECT_LT(LargestDifference(residual, simulated), 1e-6);
      const auto logits = model::CentredLogits(s.tables(), residual);
      const auto chosen = model::Choose(s.choice->forms, logits);
      const auto weights = model::ChoiceWeights(s.choice->forms, logits);
      ASSERT_TRUE(simulator.Choose(*s.program->choice()).ok());
      const auto read =
          compile::UnpackChoice(s.program->choice()->layout(), simulator.pages()[0], position);
      ASSERT_TRUE(read.ok()) << read.error().message;
      EXPECT_NEAR(read->certainty, chosen.certainty, 1e-3);
      if (read->decided()) {
        EXPECT_EQ(static_cast<size_t>(read->token), Largest(logits));
      }
      input = Mixed(s.tables(), model::ChoiceBits(s.choice->forms, weights), position + 1);
      const auto next = compile::UnpackText(simulator.chosen_slots(), 1, s.decoder->width(), 0,
                                            s.program->units().input);
      EXPECT_LT(LargestDifference(input, next), 2e-3) << position;
      simulated = simulator.StepOnChosen().value();
    }
    double worst = 0;
    for (const auto& [name, read] : simulator.escapes()) worst = Worse(worst, read.worst);
    EXPECT_LT(worst, 1.05);  // a tie lies below an interval, where nothing grows
  }
}

// The residuals in a page are what a client's guard reads: some periods of each.
TEST(Choice, KeepsResiduals) {
  const Chooser s = CompileChooser(64, 6);
  Simulator simulator(s.program, NoiseModel::Zero(), 1);
  const auto& layout = s.program->choice()->layout();
  auto residual = simulator.Step(testing::EmbeddingOf(s.tables(), 7, 0)).value();
  for (int position = 0; position + 1 < s.decoder->context; ++position) {
    ASSERT_TRUE(simulator.Choose(*s.program->choice()).ok());
    const auto kept = compile::UnpackResidual(layout, simulator.pages()[1], position);
    ASSERT_GE(kept.size(), static_cast<size_t>(compile::kPageCopies * layout.width));
    for (size_t i = 0; i < kept.size(); ++i)
      EXPECT_NEAR(kept[i].real() * s.program->units().result(), residual[i % 16], 1e-9);
    residual = simulator.StepOnChosen().value();
  }
}

// Draws are the softmax's: a chi-squared test of cells that all expect some.
TEST(Choice, SamplesTheSoftmax) {
  const Chooser s = CompileChooser(64, 8, {.temperature = 1});
  Simulator simulator(s.program, NoiseModel::ForParameters(*s.program->params()), 2);
  const auto residual = simulator.Step(testing::EmbeddingOf(s.tables(), 9, 0)).value();
  const auto logits = model::CentredLogits(s.tables(), residual);
  std::vector<double> expected(logits.size());
  std::ranges::transform(logits, expected.begin(), [](double l) { return std::exp(l); });
  const double sum = std::accumulate(expected.begin(), expected.end(), 0.0);
  constexpr int kDraws = 600;
  int undecided = 0;
  std::vector<double> seen(expected.size());
  for (int draw = 0; draw < kDraws; ++draw) {
    const auto noise = model::ChoiceNoise(Seed{1}, static_cast<std::uint64_t>(draw), 64, 1);
    ASSERT_TRUE(simulator.Choose(*s.program->choice(), noise).ok());
    const auto read = compile::UnpackChoice(s.program->choice()->layout(), simulator.pages()[0], 0);
    if (!read.ok() || !read->decided()) {
      ++undecided;
      continue;
    }
    ++seen[static_cast<size_t>(read->token)];
    std::vector<double> noisy = logits;
    for (size_t v = 0; v < noisy.size(); ++v) noisy[v] += noise[v];
    EXPECT_TRUE(static_cast<size_t>(read->token) == Largest(noisy) || Gap(noisy) < 0.05);
  }
  EXPECT_LE(undecided, kDraws / 20);
  double chi = 0, rest_seen = 0, rest_expected = 0;
  int cells = 0;
  for (size_t v = 0; v < seen.size(); ++v) {
    const double e = expected[v] / sum * (kDraws - undecided);
    if (e < 8) {
      rest_seen += seen[v];
      rest_expected += e;
      continue;
    }
    chi += (seen[v] - e) * (seen[v] - e) / e;
    ++cells;
  }
  chi += (rest_seen - rest_expected) * (rest_seen - rest_expected) / std::max(1.0, rest_expected);
  // Four standard deviations above the mean of as many degrees of freedom.
  EXPECT_LT(chi, cells + 4 * std::sqrt(2.0 * cells)) << cells << " cells";
}

// A prompt's tokens from their bits are the embedding's rows at their positions, in one part of the
// slots and in both; padded or not.
TEST(Choice, EmbedsTokensFromBits) {
  for (const int vocabulary : {3, 64, 50, 512, 700, 1024}) {
    SCOPED_TRACE(vocabulary);
    const Chooser s = CompileChooser(vocabulary, 5);
    const compile::ChoiceProgram& choice = *s.program->choice();
    Simulator simulator(s.program, NoiseModel::ForParameters(*s.program->params()), 1);
    for (int position = 0; position < s.decoder->context; ++position) {
      const int token = position == 0 ? vocabulary - 1 : (7 * position) % vocabulary;
      ASSERT_TRUE(simulator.Embed(choice, token).ok());
      const auto fed = compile::UnpackText(simulator.chosen_slots(), 1, s.decoder->width(), 0,
                                           s.program->units().input);
      EXPECT_LT(LargestDifference(testing::EmbeddingOf(s.tables(), token, position), fed), 1e-2);
      ASSERT_TRUE(simulator.StepOnChosen().ok());
    }
    EXPECT_EQ(simulator.Embed(choice, vocabulary).error().code, ErrorCode::kOutOfRange);
    EXPECT_EQ(simulator.Embed(choice, -1).error().code, ErrorCode::kOutOfRange);
  }
}

// Messages hold tokens by their positions: what begins behind a public part fills the first one
// less.
TEST(Choice, PromptsFillMessagesByPosition) {
  const auto layout = compile::ChoiceLayout::Create(128, 4, 200, 40).value();
  ASSERT_EQ(layout.bits, 8);
  ASSERT_EQ(layout.message(), 16);
  EXPECT_EQ(layout.Messages(0, 16), 1);
  EXPECT_EQ(layout.Messages(0, 17), 2);
  EXPECT_EQ(layout.Messages(15, 2), 2);
  EXPECT_EQ(layout.Messages(15, 18), 3);
  EXPECT_EQ(layout.MessageBegin(15, 0), 15);
  EXPECT_EQ(layout.MessageBegin(15, 1), 16);
  EXPECT_EQ(layout.MessageAt(15, 32), 2);
  const std::vector<std::int32_t> tokens = {5, 130, 199};
  const auto slots = compile::PackTokenBits(layout, 14, tokens).value();
  for (int i = 0; i < 2; ++i)  // the third one is the next message's
    for (int bit = 0; bit < 8; ++bit)
      EXPECT_EQ(slots[static_cast<size_t>(8 * (14 + i) + bit)],
                compile::Complex((tokens[static_cast<size_t>(i)] >> bit) % 2 ? -1 : 1));
  EXPECT_TRUE(std::all_of(slots.begin(), slots.begin() + 112, [](auto v) { return v == 0.0; }));
  EXPECT_EQ(compile::PackTokenBits(layout, 0, std::vector<std::int32_t>{200}).error().code,
            ErrorCode::kOutOfRange);
}

// On ciphertexts: some tokens in a row are the greedy ones of float64.
TEST(Choice, RunsOnCiphertexts) {
  for (const int vocabulary : {64, 600}) {
    SCOPED_TRACE(vocabulary);
    const Chooser s = CompileChooser(vocabulary, 11);
    const auto& program = s.program->choice();
    testing::EncryptedRun run(s.program);
    const auto engines =
        ChoiceEngines::Create(std::make_shared<WeightStore>(program),
                              std::make_shared<const ckks::EvaluationKeys>(run.keys()), program);
    ASSERT_TRUE(engines.ok()) << engines.error().message;
    ChoiceSession chooses(*engines);
    model::DecoderReference reference(*s.decoder);
    std::vector<double> input = testing::EmbeddingOf(s.tables(), 3, 0);
    const auto bits = compile::PackTokenBits(program->layout(), 0, std::vector<std::int32_t>{3});
    auto first = chooses.Embed(run.EncryptSlots(*bits, program->prompt()->input_level()), 0, {});
    ASSERT_TRUE(first.ok()) << first.error().message;
    ckks::Ciphertext next = *std::move(first);
    for (int position = 0; position + 1 < 5; ++position) {
      const auto residual = run.session().Step(next, {});
      ASSERT_TRUE(residual.ok()) << residual.error().message;
      const auto chosen = chooses.Choose(*residual, position, {}, {});
      ASSERT_TRUE(chosen.ok()) << chosen.error().message;
      next = *chosen;
      const auto logits = model::CentredLogits(s.tables(), reference.Step(input).value());
      const auto read = compile::UnpackChoice(program->layout(),
                                              run.Slots(chooses.pages().back().bits), position);
      ASSERT_TRUE(read.ok()) << read.error().message;
      if (Gap(logits) > 0.2) {
        EXPECT_TRUE(read->decided()) << position << " certainty " << read->certainty << " rounding "
                                     << read->rounding << " spread " << read->spread;
        EXPECT_EQ(static_cast<size_t>(read->token), Largest(logits));
      }
      input = testing::EmbeddingOf(s.tables(), static_cast<int>(Largest(logits)), position + 1);
      const auto fed =
          compile::UnpackText(run.Slots(next), 1, s.decoder->width(), 0, s.program->units().input);
      if (Gap(logits) > 0.2) {
        EXPECT_LT(LargestDifference(input, fed), 0.01) << position;
      }
    }
  }
}

TEST(Choice, IsRefusedWhereItCannotBe) {
  const auto decoder = testing::RandomDecoder({}, 3);
  const auto choice =
      std::make_shared<const compile::Choice>(testing::RandomChoice(*decoder, 64, 3));
  const auto refused = [&](std::shared_ptr<const compile::Choice> c, int texts) {
    return CompileModel(decoder, testing::TestParams(), compile::MachineSpeed{},
                        {.texts = texts, .choice = std::move(c)})
        .error();
  };
  EXPECT_EQ(refused(choice, 2).code, ErrorCode::kInvalidArgument);
  auto narrow = std::make_shared<compile::Choice>(*choice);
  narrow->tables = testing::RandomTables(64, 8, 8, 1);
  EXPECT_EQ(refused(narrow, 1).code, ErrorCode::kMismatch);
  auto many = std::make_shared<compile::Choice>(*choice);
  many->tables = testing::RandomTables(1025, 16, 8, 1);
  EXPECT_EQ(refused(many, 1).code, ErrorCode::kOutOfRange);
}

}  // namespace
}  // namespace polyveil::runtime
