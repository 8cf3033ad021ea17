#include "polyveil/block_inputs.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "model/client/text/text_tokenizer.h"
#include "model/float32/reference.h"
#include "model/import/block_source.h"
#include "model/import/constant_prefix.h"
#include "model/known_shapes.h"
#include "polyveil/progress_bar.h"
#include "polyveil/terminal.h"

namespace polyveil::tools {
namespace {

using Tokens = std::vector<std::vector<double>>;
using TokenIds = std::vector<std::int32_t>;

constexpr int kCalibrationTexts = 32, kCalibrationTokens = 48;
constexpr int kRandomTexts = 4, kRandomTokens = 16;
constexpr double kRandomProducts = 1e10;  // of a layer: some seconds
constexpr size_t kTextBytes = 1 << 18;
constexpr const char* kSentences =
    "The harbour was quiet in the early morning, and the fishing boats had not yet come back. An "
    "old man sat on the wall and mended a net with careful hands. Behind him the town was waking "
    "up: a baker carried bread across the square, two children ran to school, and a dog slept "
    "in the sun. Scientists have measured the tides here for more than a hundred years. Their "
    "records show that the sea has risen by about twenty centimetres, and that storms come more "
    "often in winter than they used to. \"What will you do when the water reaches the houses?\" "
    "asked the girl. The man laughed and said that houses, like boats, can be moved. In 1987 the "
    "council built a second wall, which cost four million and took three years to finish. It "
    "protects the lower streets, but not the market. When a program reads a file, it first asks "
    "the system for a handle; the handle is closed at the end, even if something goes wrong. "
    "For every number n there is a prime between n and 2n, a fact that was proved by Chebyshev. "
    "They sold apples, pears and plums in the market, and in autumn also mushrooms from the forest "
    "beyond the hill. Nobody knew who had planted the first tree. Mix the flour with the eggs, add "
    "a little milk, and let the dough rest for half an hour before you bake it. The train to the "
    "north leaves at nine and arrives shortly after noon. Our results suggest that the effect is "
    "smaller than earlier studies claimed, although the sample was limited.";

Tokens RandomTokens(int d_model, int count, std::uint64_t seed, bool centred) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  Tokens tokens(static_cast<size_t>(count), std::vector<double>(static_cast<size_t>(d_model)));
  for (auto& token : tokens) {
    for (double& v : token) v = normal(random);
    if (centred) model::RemoveMean(token);
  }
  return tokens;
}

bool IsPolynomial(const model::Checkpoint& checkpoint) {
  return checkpoint.forms && checkpoint.forms->stage == model::FormStage::kPolynomial;
}

// Tokens before every text: the converted model's, or the begin token.
TokenIds PrefixOf(const model::Checkpoint& checkpoint) {
  if (checkpoint.forms) return checkpoint.forms->prefix;
  const auto begin = checkpoint.architecture.begin_token;
  return begin ? TokenIds{*begin} : TokenIds{};
}

void Advance(ProgressBar& bar, int done, int all, const char* what) {
  bar.Update(static_cast<double>(done) / all, fmt::format("{} {} of {}", what, done + 1, all));
}

// The first `count` windows of the text behind the prefix, as layer `layer` reads them.
Result<model::BlockTexts> LayerTexts(const model::Checkpoint& checkpoint, int layer,
                                     const TokenIds& ids, int window, int count) {
  const TokenIds prefix = PrefixOf(checkpoint);
  ProgressBar bar("read", 0);
  model::BlockTexts texts;
  for (int i = 0; i < count; ++i) {
    Advance(bar, i, count, "text");
    TokenIds part = prefix;
    part.insert(part.end(), ids.begin() + i * window, ids.begin() + (i + 1) * window);
    PV_ASSIGN_OR_RETURN(Tokens inputs, model::InputsOfLayer(checkpoint, layer, part));
    inputs.erase(inputs.begin(), inputs.begin() + static_cast<std::ptrdiff_t>(prefix.size()));
    texts.push_back(std::move(inputs));
  }
  return texts;
}

std::string LikeliestToken(const model::Checkpoint& checkpoint,
                           const model::TextTokenizer& tokenizer, std::span<const double> x) {
  model::FloatMatrix residual(1, static_cast<int>(x.size()));
  std::copy(x.begin(), x.end(), residual.row(0).begin());
  const auto logits = model::FloatReference(checkpoint).LogitsOfResidual(std::move(residual));
  const auto best = std::max_element(logits.values.begin(), logits.values.end());
  const TokenIds id = {static_cast<std::int32_t>(best - logits.values.begin())};
  return tokenizer.Decode(id).value();  // a row of the head is a token
}

// The text's last window is what will run, the others calibrate.
Result<BlockText> FromCheckpoint(const std::string& path, BlockRange layers, int tokens,
                                 const std::string& text_path, const BlockDegrees& degrees,
                                 double margin) {
  PV_ASSIGN_OR_RETURN(const auto checkpoint, model::LoadCheckpoint(path));
  PV_ASSIGN_OR_RETURN(const auto tokenizer, model::TextTokenizer::Load(*checkpoint));
  PV_ASSIGN_OR_RETURN(const std::string text, CalibrationText(text_path));
  const TokenIds ids = tokenizer.Encode(text);
  const int window = std::max(kCalibrationTokens, tokens);
  // A converted model has polynomials and bounds of its own: its one window runs.
  const bool calibrates = !IsPolynomial(*checkpoint);
  const int windows =
      std::min<int>(calibrates ? kCalibrationTexts : 1, static_cast<int>(ids.size()) / window);
  if (windows < 1 + calibrates)
    return MakeError(ErrorCode::kOutOfRange, "the text has {} tokens, {} are needed", ids.size(),
                     (1 + calibrates) * window);
  PV_ASSIGN_OR_RETURN(model::BlockTexts texts,
                      LayerTexts(*checkpoint, layers.first, ids, window, windows));
  BlockText result{{}, std::move(texts.back()), checkpoint->architecture.family};
  result.inputs.resize(static_cast<size_t>(tokens));
  texts.pop_back();
  const TokenIds prefix = PrefixOf(*checkpoint);
  Tokens constant;
  if (!prefix.empty()) {
    PV_ASSIGN_OR_RETURN(constant, model::InputsOfLayer(*checkpoint, layers.first, prefix));
  }
  model::LayerFitter fitter({std::move(texts), {}, constant}, ToFit(degrees, margin));
  ProgressBar bar("calibrate", 0);
  for (int layer = layers.first; layer < layers.first + layers.count; ++layer) {
    Advance(bar, layer - layers.first, layers.count, "layer");
    PV_ASSIGN_OR_RETURN(model::Block block, model::MakeBlock(checkpoint, layer));
    if (calibrates) {
      PV_RETURN_IF_ERROR(fitter.Fit(block));
    } else if (!prefix.empty()) {
      PV_RETURN_IF_ERROR(model::SetPrefix(block, constant));
      PV_RETURN_IF_ERROR(model::AdvancePrefix(block, constant));
    }
    result.blocks.push_back(std::move(block));
  }
  if (checkpoint->forms) result.name += ", converted";
  if (checkpoint->architecture.head == model::HeadKind::kCausalLm &&
      layers.first + layers.count == checkpoint->architecture.n_layers)
    result.next_token = [checkpoint, tokenizer](std::span<const double> x) {
      return LikeliestToken(*checkpoint, tokenizer, x);
    };
  return result;
}

Result<BlockText> FromShape(const model::ModelShape& shape, BlockRange layers, int tokens,
                            const BlockDegrees& degrees, double margin) {
  const auto text = [&](int count, int seed) {
    return RandomTokens(shape.block.d_model, count, static_cast<std::uint64_t>(seed),
                        shape.block.centred);
  };
  // As long as the text that runs, where that is quick: large shapes take a second a token.
  const double most =
      kRandomProducts / kRandomTexts / static_cast<double>(shape.block.parameters());
  const int length = std::max(kRandomTokens, static_cast<int>(std::min<double>(most, tokens)));
  model::BlockTexts texts;
  for (int i = 0; i < kRandomTexts; ++i) texts.push_back(text(length, 10 + i));
  BlockText result{{}, text(tokens, 20), shape.name + ", random weights"};
  model::LayerFitter fitter({std::move(texts), {}, {}}, ToFit(degrees, margin));
  for (int layer = layers.first; layer < layers.first + layers.count; ++layer) {
    model::Block block;
    block.shape = shape.block;
    block.weights = std::make_shared<const model::RandomWeights>(shape.block,
                                                                 static_cast<std::uint64_t>(layer));
    PV_RETURN_IF_ERROR(fitter.Fit(block));
    result.blocks.push_back(std::move(block));
  }
  return result;
}

}  // namespace

model::BlockFit ToFit(const BlockDegrees& degrees, double margin) {
  return {margin, degrees.norm, degrees.divisor, degrees.activation};
}

Result<std::string> CalibrationText(const std::string& path) {
  if (path.empty()) return std::string(kSentences);
  std::ifstream in(path, std::ios::binary);
  if (!in) return MakeError(ErrorCode::kNotFound, "cannot read {}", path);
  std::string text(kTextBytes, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  return text;
}

Result<BlockText> CalibratedLayers(const std::string& what, BlockRange layers, int tokens,
                                   const std::string& text, const BlockDegrees& degrees,
                                   double margin) {
  if (std::filesystem::exists(what))
    return FromCheckpoint(what, layers, tokens, text, degrees, margin);
  PV_ASSIGN_OR_RETURN(const model::ModelShape shape, model::FindModelShape(what));
  return FromShape(shape, layers, tokens, degrees, margin);
}

}  // namespace polyveil::tools
