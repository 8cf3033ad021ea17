#include "compile/compiled_decoder.h"

#include <algorithm>
#include <utility>

#include "base/digest.h"
#include "compile/block_maps.h"
#include "compile/known_caches.h"
#include "compile/levels.h"
#include "compile/lower_block.h"
#include "compile/texts.h"
#include "model/layer_json.h"

namespace polyveil::compile {
namespace {

// What the layout is made from.
std::string Sizes(const model::BlockShape& s) {
  return fmt::format("d_model = {}, {} heads of {}, d_ff = {}", s.d_model, s.n_heads, s.d_head,
                     s.d_ff);
}

std::string DescribePrefix(const model::Block& block) {
  Hasher hasher("polyveil prefix");
  for (const auto* values : {&block.prefix_keys, &block.prefix_values})
    hasher.UpdateField(
        {reinterpret_cast<const char*>(values->data()), values->size() * sizeof(double)});
  return ToHex(hasher.Final());
}

std::string DescribeHead(const model::EncoderHead& head) {
  Hasher hasher("polyveil head");
  for (const auto* values : {&head.pooler.values, &head.pooler_bias, &head.classifier.values,
                             &head.classifier_bias, &head.forms.pooler.coeffs})
    hasher.UpdateField(
        {reinterpret_cast<const char*>(values->data()), values->size() * sizeof(double)});
  return fmt::format("head of {} labels in {} {} {} {}\n", head.labels(), head.forms.pooler.a,
                     head.forms.pooler.b, head.forms.bound, ToHex(hasher.Final()));
}

Status CheckHead(const model::Decoder& decoder) {
  if (!decoder.head) return {};
  const model::EncoderHead& head = *decoder.head;
  const model::BlockShape& shape = decoder.blocks.back().shape;
  if (!shape.post_norm)
    return MakeError(ErrorCode::kInvalidArgument, "{}: a classification head of no encoder",
                     decoder.name);
  for (const auto& [field, value] :
       {std::pair{"pooler.cols", head.pooler.cols}, std::pair{"pooler.rows", head.pooler.rows},
        std::pair{"classifier.cols", head.classifier.cols}})
    if (value != shape.d_model)
      return MakeError(ErrorCode::kMismatch, "head: {} = {}, d_model = {}", field, value,
                       shape.d_model);
  if (head.labels() < 1 || head.labels() > shape.d_model)
    return MakeError(ErrorCode::kOutOfRange, "head: {} labels, not in 1..{}", head.labels(),
                     shape.d_model);
  return model::ValidateHead(head.forms, "head");
}

Status CheckBlocks(const model::Decoder& decoder) {
  if (decoder.blocks.empty() || decoder.context < 1)
    return MakeError(ErrorCode::kInvalidArgument, "{}: a program of {} blocks, context {}",
                     decoder.name, decoder.blocks.size(), decoder.context);
  const model::Block& first = decoder.blocks.front();
  for (size_t i = 0; i < decoder.blocks.size(); ++i) {
    const model::Block& block = decoder.blocks[i];
    PV_RETURN_IF_ERROR(model::ValidateBlock(block, fmt::format("block {}", i)));
    if (block.prefix() != first.prefix())
      return MakeError(ErrorCode::kMismatch, "block {}: a prefix of {} tokens, block 0 has {}", i,
                       block.prefix(), first.prefix());
    if (Sizes(block.shape) != Sizes(first.shape))
      return MakeError(ErrorCode::kMismatch, "block {}: {}, block 0: {}", i, Sizes(block.shape),
                       Sizes(first.shape));
  }
  return {};
}

bool Divides(const model::Decoder& decoder) {
  return std::ranges::any_of(
      decoder.blocks, [](const model::Block& block) { return block.forms.attention.divides(); });
}

Status CheckKnown(const model::PublicContext& known, const model::Decoder& decoder, int most) {
  if (known.tokens < 0 || known.tokens > most)
    return MakeError(ErrorCode::kOutOfRange,
                     "public context: of {} tokens, the program has room for {}", known.tokens,
                     most);
  if (known.blocks.size() != decoder.blocks.size())
    return MakeError(ErrorCode::kMismatch, "public context: of {} blocks, the model has {}",
                     known.blocks.size(), decoder.blocks.size());
  const size_t values = static_cast<size_t>(decoder.prefix() + known.tokens) *
                        static_cast<size_t>(decoder.blocks.front().shape.kv_width());
  for (const auto& [keys, block_values] : known.blocks)
    if (keys.size() != values || block_values.size() != values)
      return MakeError(ErrorCode::kMismatch, "public context: a block of {} keys' numbers, not {}",
                       keys.size(), values);
  return {};
}

}  // namespace

CompiledDecoder::CompiledDecoder(std::shared_ptr<const model::Decoder> decoder,
                                 ckks::ParametersPtr params, const MachineSpeed& speed)
    : CompiledProgram(std::move(params), speed, MakeResidualUnits(*decoder)),
      decoder_(std::move(decoder)) {}

Result<std::shared_ptr<const CompiledDecoder>> CompiledDecoder::Create(
    std::shared_ptr<const model::Decoder> decoder, ckks::ParametersPtr params,
    const MachineSpeed& speed, const CircuitKeys& circuits, const DecoderPrograms& programs) {
  PV_RETURN_IF_ERROR(CheckBlocks(*decoder));
  PV_RETURN_IF_ERROR(CheckHead(*decoder));
  PV_RETURN_IF_ERROR(model::CheckPublicTokens(programs.known, decoder->context));
  if (programs.texts > 1 && (programs.prompts || !decoder->causal()))
    return MakeError(ErrorCode::kInvalidArgument, "texts = {}: {}", programs.texts,
                     programs.prompts ? "decoded together they read no prompts at once"
                                      : "an encoder's stand one behind another");
  if (programs.choice && (programs.texts > 1 || !decoder->causal()))
    return MakeError(ErrorCode::kInvalidArgument, "tokens chosen by the server: {}",
                     decoder->causal() ? fmt::format("of {} texts together", programs.texts)
                                       : "an encoder writes none");
  PV_ASSIGN_OR_RETURN(
      const BlockLayout layout,
      BlockLayout::Create(decoder->blocks.front().shape, decoder->context + decoder->prefix(),
                          params->log_slots(), programs.known, programs.texts));
  const bool causal = decoder->causal(), divides = Divides(*decoder);
  const auto plan = [&](bool divisor_apart,
                        bool roots_moved = false) -> Result<std::shared_ptr<CompiledDecoder>> {
    std::shared_ptr<CompiledDecoder> result(new CompiledDecoder(decoder, params, speed));
    result->layout_ = layout;
    result->layout_.divisor_apart = divisor_apart;
    result->layout_.roots_moved = roots_moved;
    result->known_ = programs.known;
    result->chooses_ = programs.choice != nullptr;
    if (causal && programs.prompts) PV_RETURN_IF_ERROR(result->BoundCaches());
    PV_RETURN_IF_ERROR(causal ? result->Plan(circuits) : result->PlanEncoder(circuits));
    return result;
  };
  auto result = plan(programs.divisor_apart.value_or(false));
  if (causal && divides && !programs.divisor_apart) {
    auto apart = plan(true);
    if (apart.ok() && (!result.ok() || (*apart)->usual_seconds() < (*result)->usual_seconds()))
      result = std::move(apart);
  }
  if (!result.ok()) return result.error();
  if ((*result)->most_cache_level_ < params->working_level()) {  // prompts in blocks
    auto moved = plan((*result)->layout_.divisor_apart, true);
    if (moved.ok() && (*moved)->usual_seconds() <= (*result)->usual_seconds())
      result = std::move(moved);
  }
  if (causal) PV_RETURN_IF_ERROR((*result)->FillStateLevels());
  if (causal && programs.prompts) PV_RETURN_IF_ERROR((*result)->AddPrompts(circuits));
  if (programs.choice) PV_RETURN_IF_ERROR((*result)->AddChoice(*programs.choice, circuits));
  PV_RETURN_IF_ERROR((*result)->PlanAllWeights());
  return std::shared_ptr<const CompiledDecoder>(std::move(*result));
}

Status CompiledDecoder::AddChoice(const Choice& choice, const CircuitKeys& circuits) {
  const ChoosingDecoder place{units().result(),  units().input,      input_level(),
                              decoder_->context, decoder_->prefix(), width()};
  PV_ASSIGN_OR_RETURN(choice_, ChoiceProgram::Create(choice, place, params(), speed(), circuits));
  ServeBeside(*choice_);
  return {};
}

Status CompiledDecoder::PlanAllWeights() {
  std::vector<CompiledProgram*> prompts;
  for (const auto& prompt : prompts_) prompts.push_back(prompt.get());
  PV_RETURN_IF_ERROR(PlanWeights(WeightRoom(), prompts));
  if (!choice_) return {};
  PV_RETURN_IF_ERROR(choice_->PlanAllWeights(WeightRoom()));
  KeepBeside(*choice_);
  return {};
}

Status CompiledDecoder::FillStateLevels() {
  PV_ASSIGN_OR_RETURN(const Graph plan, Program(0));
  state_levels_.resize(static_cast<size_t>(state_count()));
  for (const Node& node : plan.nodes)
    if (node.kind == OpKind::kState) state_levels_[static_cast<size_t>(node.state)] = node.level;
  return {};
}

Status CompiledDecoder::PlanEncoder(const CircuitKeys& circuits) {
  PV_RETURN_IF_ERROR(CheckPrompt(*decoder_, layout_));
  if (known_ > 0)
    return MakeError(ErrorCode::kOutOfRange, "public tokens = {}, an encoder takes 0", known_);
  room_ = PromptRoom{0, TokenCiphertexts(*decoder_, layout_)};
  PV_RETURN_IF_ERROR(Plan(circuits));
  return AddPromptsInBlocks(circuits);
}

Status CompiledDecoder::BoundCaches() {
  PV_ASSIGN_OR_RETURN(const PromptForm form, CheckPrompt(*decoder_, layout_));
  if (form == PromptForm::kRows) return {};
  const std::vector<int> any_level(static_cast<size_t>(state_count()));
  PV_ASSIGN_OR_RETURN(const Graph graph, LowerPrompt(*decoder_, layout_, 1, {}, any_level));
  most_cache_level_ = params()->working_level() - DepthOfStates(graph);
  return {};
}

Status CompiledDecoder::AddPrompts(const CircuitKeys& circuits) {
  PV_ASSIGN_OR_RETURN(const PromptForm form, CheckPrompt(*decoder_, layout_));
  if (form == PromptForm::kBlocks) return AddPromptsInBlocks(circuits);
  const int most = std::min(layout_.keys(), decoder_->context);
  for (int groups = 1; prompts_.empty() || prompts_.back()->prompt_tokens() < most; groups *= 2)
    PV_RETURN_IF_ERROR(AddPrompt(circuits, {groups}));
  return {};
}

Status CompiledDecoder::AddPromptsInBlocks(const CircuitKeys& circuits) {
  for (int ciphertexts = 1; ciphertexts <= TokenCiphertexts(*decoder_, layout_); ++ciphertexts)
    PV_RETURN_IF_ERROR(AddPrompt(circuits, {0, ciphertexts}));
  return {};
}

Status CompiledDecoder::AddPrompt(const CircuitKeys& circuits, PromptRoom room) {
  std::shared_ptr<CompiledDecoder> prompt(new CompiledDecoder(decoder_, params(), speed()));
  prompt->layout_ = layout_;
  prompt->room_ = room;
  prompt->state_levels_ = state_levels_;
  PV_RETURN_IF_ERROR(prompt->Plan(circuits));
  ServeBeside(*prompt);
  prompts_.push_back(std::move(prompt));
  return {};
}

size_t CompiledDecoder::PromptFor(int tokens) const {
  const auto fits = [&](const auto& prompt) { return prompt->prompt_tokens() >= tokens; };
  return static_cast<size_t>(std::ranges::find_if(prompts_, fits) - prompts_.begin());
}

int CompiledDecoder::prompt_tokens() const {
  return room_ ? PromptTokens(*decoder_, layout_, *room_) : 0;
}

int CompiledDecoder::ContextBehind(int known) const {
  if (!decoder_->causal()) return context();
  const int cached = layout_.chunks * layout_.keys() - decoder_->prefix();
  return std::min(decoder_->context, layout_.InMatrices(known) + cached);
}

MapDiagonals CompiledDecoder::Diagonals(const LinearMap& map) const {
  if (map.kind == MatrixKind::kPooler || map.kind == MatrixKind::kClassifier)
    return MapDiagonals(
        [this, map](int term) { return HeadDiagonal(map, *decoder_->head, layout_, term); });
  return {map, decoder_->blocks[static_cast<size_t>(map.layer)], layout_};
}

int CompiledDecoder::state_count() const {
  return decoder_->causal() ? static_cast<int>(decoder_->blocks.size()) * layout_.chunks : 0;
}

Result<std::vector<std::vector<Complex>>> CompiledDecoder::KnownStates(
    const model::PublicContext* known) const {
  const std::vector<model::Block>& blocks = decoder_->blocks;
  if (known != nullptr) PV_RETURN_IF_ERROR(CheckKnown(*known, *decoder_, most_known()));
  std::vector<std::vector<Complex>> states;
  for (size_t i = 0; i < blocks.size() && decoder_->causal(); ++i) {
    const model::PublicContext::KeyValues prefix{blocks[i].prefix_keys, blocks[i].prefix_values};
    for (auto& chunk : KnownCaches(blocks[i], layout_, known ? known->blocks[i] : prefix))
      states.push_back(Repeated(std::move(chunk), texts()));
  }
  return states;
}

Result<Graph> CompiledDecoder::Lower(int position,
                                     const std::shared_ptr<const model::PublicContext>& known,
                                     std::span<const int> texts) const {
  if (room_) return LowerPrompt(*decoder_, layout_, position + 1, *room_, state_levels_, texts);
  if (known) PV_RETURN_IF_ERROR(CheckKnown(*known, *decoder_, most_known()));
  PV_ASSIGN_OR_RETURN(Graph step,
                      LowerStep(*decoder_, layout_, position, known, most_cache_level_));
  if (chooses_) step.nodes[step.outputs.front()].least_level = params()->bootstrap_level();
  return Interleaved(std::move(step), layout_.texts);
}

// What is known of the program (its name, its certificate) is no part of it.
std::string CompiledDecoder::Description() const {
  const model::Decoder& d = *decoder_;
  std::string text =
      fmt::format("{} {} {} {} {}\n", d.digest, d.context, d.margin, d.residual_bound, known_);
  if (texts() > 1) text += fmt::format("{} texts\n", texts());
  if (room_ && !room_->in_blocks()) text += fmt::format("prompts of {} groups\n", room_->groups);
  if (room_ && room_->in_blocks()) text += "prompts in blocks\n";
  if (room_ && room_->ciphertexts > 1) text += fmt::format("{} ciphertexts\n", room_->ciphertexts);
  if (d.head) text += DescribeHead(*d.head);
  for (const model::Block& block : d.blocks) {
    text += model::DescribeShape(block.shape) + " " + DescribePrefix(block) + "\n";
    text += model::LayerToJson(block.forms, model::LayerFields::kAll).dump() + "\n";
  }
  return text;
}

}  // namespace polyveil::compile
