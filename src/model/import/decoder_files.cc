#include "model/import/decoder_files.h"

#include <algorithm>

#include "model/client_files.h"
#include "model/formats/checkpoint.h"
#include "model/import/block_source.h"
#include "model/import/constant_prefix.h"
#include "model/sha256.h"

namespace polyveil::model {
namespace {

Result<std::shared_ptr<const Decoder>> LoadBundle(const std::string& path,
                                                  const DecoderOptions& options) {
  if (!options.adapter.empty())
    return MakeError(ErrorCode::kInvalidArgument, "adapter {}: a bundle takes none",
                     options.adapter);
  PV_ASSIGN_OR_RETURN(BodyBundle body, LoadBodyBundle(path));
  if (options.head)
    return MakeError(ErrorCode::kInvalidArgument, "head: {} is a bundle, which has no classifier",
                     path);
  if (options.context > body.config.context)
    return MakeError(ErrorCode::kInvalidArgument, "context = {}, the bundle's is {}",
                     options.context, body.config.context);
  Decoder decoder = DecoderOfBundle(std::move(body), NameOfModel(path));
  if (options.context > 0) decoder.context = options.context;
  return std::make_shared<const Decoder>(std::move(decoder));
}

Status CheckStage(const Checkpoint& checkpoint, const std::string& name) {
  const auto& forms = checkpoint.forms;
  if (forms && forms->stage == FormStage::kPolynomial) return {};
  if (forms)
    return MakeError(ErrorCode::kInvalidArgument,
                     "{}: forms.stage is power: norms, division and activation are no polynomials; "
                     "'polyveil-train distil' goes on to stage polynomial",
                     name);
  return MakeError(ErrorCode::kInvalidArgument,
                   "{}: attention is softmax, which ciphertexts cannot compute; 'polyveil fit "
                   "MODEL --text FILE --out FOLDER' makes every function a polynomial without "
                   "training, 'polyveil-train distil' with it",
                   name);
}

Result<int> ContextOf(const Checkpoint& checkpoint, int wanted) {
  const ConvertedForms& forms = *checkpoint.forms;
  const int largest = checkpoint.architecture.context - forms.prefix_length();
  if (wanted > largest)
    return MakeError(ErrorCode::kOutOfRange, "context = {} > {}, the model's behind {} tokens",
                     wanted, largest, forms.prefix_length());
  if (wanted > 0) return wanted;
  return std::min(largest, forms.context > 0 ? forms.context : kUsualContext);
}

// What is known of the forms is no part of what they compute.
std::string DigestOf(const ConvertedForms& forms, const BlockShape& shape,
                     const std::string& weights_sha256, const std::string& adapter_sha256) {
  ConvertedForms computed = forms;
  computed.certificate.reset();
  computed.weights.reset();
  computed.context = 0;
  Sha256 hasher;
  hasher.UpdateField("polyveil decoder");
  hasher.UpdateField(FormatForms(computed));
  hasher.UpdateField(DescribeShape(shape));
  hasher.UpdateField(weights_sha256);
  if (!adapter_sha256.empty()) hasher.UpdateField(adapter_sha256);
  return hasher.Hex();
}

Status AddBlocks(const std::shared_ptr<const Checkpoint>& checkpoint, Decoder& decoder) {
  const std::vector<int>& prefix = checkpoint->forms->prefix;
  PV_ASSIGN_OR_RETURN(auto inputs, EmbedTokens(*checkpoint, prefix));
  for (int layer = 0; layer < checkpoint->architecture.n_layers; ++layer) {
    PV_ASSIGN_OR_RETURN(Block block, MakeBlock(checkpoint, layer));
    if (!prefix.empty()) {
      PV_RETURN_IF_ERROR(SetPrefix(block, inputs));
      PV_RETURN_IF_ERROR(AdvancePrefix(block, inputs));
    }
    decoder.blocks.push_back(std::move(block));
  }
  return {};
}

}  // namespace

namespace {

Status AddHead(const Checkpoint& checkpoint, Decoder& decoder) {
  PV_ASSIGN_OR_RETURN(EncoderHead head, MakeHead(checkpoint));
  if (!checkpoint.forms->head)
    return MakeError(ErrorCode::kNotFound,
                     "{}: forms.head is not there: 'polyveil fit {} --text FILE --out FOLDER' adds "
                     "the polynomial of the classification head",
                     decoder.name, decoder.name);
  decoder.head = std::make_shared<const EncoderHead>(std::move(head));
  return {};
}

}  // namespace

std::string DecoderOptions::NameOf(const std::string& path) const {
  return NameOfModel(adapter.empty() ? path : adapter);
}

Result<std::shared_ptr<const Decoder>> DecoderOfCheckpoint(
    std::shared_ptr<const Checkpoint> checkpoint, const std::string& name,
    const DecoderOptions& options) {
  PV_ASSIGN_OR_RETURN(const BlockShape shape, ShapeOfBlocks(checkpoint->architecture));
  PV_RETURN_IF_ERROR(CheckStage(*checkpoint, name));
  const ConvertedForms& forms = *checkpoint->forms;
  auto decoder = std::make_shared<Decoder>();
  decoder->name = name;
  PV_ASSIGN_OR_RETURN(decoder->context, ContextOf(*checkpoint, options.context));
  const std::string weights = WeightsSha256(*checkpoint);
  PV_RETURN_IF_ERROR(CheckWeightsDigest(forms, weights));
  decoder->digest = DigestOf(forms, shape, weights, checkpoint->adapter_sha256);
  decoder->margin = forms.calibration.margin;
  decoder->residual_bound = forms.residual_bound;
  decoder->certificate = forms.certificate;
  for (const auto& file : checkpoint->files) decoder->mapped_bytes += file->bytes().size();
  PV_RETURN_IF_ERROR(AddBlocks(checkpoint, *decoder));
  if (options.head) PV_RETURN_IF_ERROR(AddHead(*checkpoint, *decoder));
  return std::shared_ptr<const Decoder>(std::move(decoder));
}

Result<std::shared_ptr<const Decoder>> LoadDecoder(const std::string& path,
                                                   const DecoderOptions& options) {
  if (IsBundle(path)) return LoadBundle(path, options);
  PV_ASSIGN_OR_RETURN(auto checkpoint, LoadCheckpoint(path, options.adapter));
  return DecoderOfCheckpoint(std::move(checkpoint), options.NameOf(path), options);
}

}  // namespace polyveil::model
