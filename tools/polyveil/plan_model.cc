#include "polyveil/plan_model.h"

#include <filesystem>

#include "model/client_files.h"
#include "model/formats/checkpoint.h"
#include "model/import/block_source.h"
#include "model/import/decoder_files.h"
#include "model/known_shapes.h"

namespace polyveil::tools {
namespace {

class NominalModel {
 public:
  NominalModel(const std::string& name, int context, const BlockDegrees& degrees)
      : decoder_(std::make_shared<model::Decoder>()), degrees_(degrees) {
    decoder_->name = name;
    decoder_->context = context > 0 ? context : model::kUsualContext;
  }

  void Add(model::Block block) {
    if (!block.forms.activation)
      block.forms =
          model::NominalForms(block.shape, degrees_.norm, degrees_.divisor, degrees_.activation);
    decoder_->blocks.push_back(std::move(block));
  }
  PlannedModel Finish(std::int64_t parameters) const { return {decoder_, parameters, true}; }

 private:
  std::shared_ptr<model::Decoder> decoder_;
  BlockDegrees degrees_;
};

PlannedModel OfShape(const model::ModelShape& shape, NominalModel result) {
  model::Block block;
  block.shape = shape.block;
  block.weights = std::make_shared<const model::RandomWeights>(shape.block, 1);
  for (int layer = 0; layer < shape.n_layers; ++layer) {
    block.shape.norm_outside = block.shape.post_norm && layer == shape.n_layers - 1;
    result.Add(block);
  }
  return result.Finish(shape.parameters());
}

Result<PlannedModel> OfCheckpoint(const std::shared_ptr<const model::Checkpoint>& checkpoint,
                                  NominalModel result) {
  for (int layer = 0; layer < checkpoint->architecture.n_layers; ++layer) {
    PV_ASSIGN_OR_RETURN(model::Block block, model::MakeBlock(checkpoint, layer));
    result.Add(std::move(block));
  }
  return result.Finish(static_cast<std::int64_t>(model::CountParameters(checkpoint->architecture)));
}

}  // namespace

void AddDegrees(Options& app, BlockDegrees& degrees) {
  using model::kMaxDegree;
  AddNumber(app, "--norm-degree", degrees.norm, {1, kMaxDegree}, "of 1/sqrt(v)");
  AddNumber(app, "--divisor-degree", degrees.divisor, {1, kMaxDegree},
            "of attention's 1/(eps + y)");
  AddNumber(app, "--activation-degree", degrees.activation, {1, kMaxDegree}, "of SiLU or GELU");
}

Result<PlannedModel> LoadPlanned(const std::string& what, int context,
                                 const BlockDegrees& degrees) {
  const NominalModel nominal(model::NameOfModel(what), context, degrees);
  if (!std::filesystem::exists(what)) {
    PV_ASSIGN_OR_RETURN(const model::ModelShape shape, model::FindModelShape(what));
    return OfShape(shape, nominal);
  }
  PlannedModel planned;
  if (model::IsBundle(what)) {
    PV_ASSIGN_OR_RETURN(planned.decoder, model::LoadDecoder(what, {.context = context}));
    return planned;
  }
  PV_ASSIGN_OR_RETURN(const auto checkpoint, model::LoadCheckpoint(what));
  if (!checkpoint->forms || checkpoint->forms->stage != model::FormStage::kPolynomial)
    return OfCheckpoint(checkpoint, nominal);
  planned.parameters = static_cast<std::int64_t>(model::CountParameters(checkpoint->architecture));
  PV_ASSIGN_OR_RETURN(
      planned.decoder,
      model::DecoderOfCheckpoint(checkpoint, model::NameOfModel(what), {.context = context}));
  return planned;
}

}  // namespace polyveil::tools
