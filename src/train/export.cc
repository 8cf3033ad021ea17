#include "train/export.h"

#include <cmath>
#include <filesystem>

#include "base/output_file.h"
#include "model/ngram.h"
#include "runtime/client/predicted_error.h"
#include "train/hard_inputs.h"
#include "train/trainer.h"

namespace polyveil::train {
namespace {

using torch::Tensor;
constexpr double kMargin = 1.25;

model::Tensor ToModelTensor(const Tensor& tensor) {
  const Tensor wide = tensor.detach().to(torch::kFloat64).contiguous();
  const double* begin = wide.data_ptr<double>();
  return {wide.sizes().vec(), {begin, begin + wide.numel()}};
}

Tensor Wide(const Transformer& model, const std::string& name) {
  return model.Get(name).detach().to(torch::kFloat64);
}

std::vector<double> Values(const Tensor& tensor) { return ToModelTensor(tensor).values; }

double Largest(const SiteRanges& ranges, int layer, const std::string& rest) {
  const auto it = ranges.find(fmt::format("layer {} / {}", layer, rest));
  if (it == ranges.end()) return 0;
  return std::max(std::abs(it->second.lo), std::abs(it->second.hi));
}

model::ObservedInterval Seen(const SiteRanges& ranges, int layer, const std::string& rest) {
  const auto it = ranges.find(fmt::format("layer {} / {}", layer, rest));
  return it == ranges.end() ? model::ObservedInterval{}
                            : model::ObservedInterval{it->second.lo, it->second.hi};
}

model::LayerBounds Bounds(const SiteRanges& ranges, int layer) {
  const auto at = [&](const std::string& rest) { return Largest(ranges, layer, rest); };
  model::LayerBounds b;
  b.query = at("attention / query");
  b.key = at("attention / key");
  b.value = at("attention / value");
  b.query_raw = at("attention / query raw");
  b.key_raw = at("attention / key raw");
  b.value_raw = at("attention / value raw");
  b.score = at("attention / scores");
  b.power = at("attention / powers");
  b.weight = at("attention / weights");
  b.head_out = at("attention / head output");
  b.attn_out = at("attention / projection");
  b.hidden = at("feed-forward / hidden");
  b.product = at("feed-forward / product");
  b.ffn_raw = at("feed-forward / down");
  b.ffn_out = at("feed-forward / output");
  b.residual_in = at("attention / input");
  b.residual_mid = at("attention / residual");
  b.residual_out = at("feed-forward / residual");
  b.inverse_root = at("attention / inverse root");
  b.divisor_inverse = at("attention / divisor inverse");
  b.ffn_scale = at("feed-forward / scale");
  return b;
}

model::AttentionForm MakeForm(const Transformer& model, int layer) {
  const Shape& shape = model.shape();
  model::AttentionForm form;
  if (model.attention(layer) == AttentionForm::kPointwise)
    form.kind = model::AttentionKind::kPointwise;
  form.mean = shape.length_agnostic;
  if (!shape.layer_powers.empty()) form.powers = shape.HeadPowers(layer);
  if (shape.qk_norm && model.polynomials) {
    const LayerPolynomials& fit = (*model.polynomials)[static_cast<std::size_t>(layer)];
    const Tensor gain = Wide(model, fmt::format("layers.{}.qk_gain", layer));
    form.qk_norm = model::QkNorm{*fit.query_root, *fit.key_root,
                                 Values(gain / std::sqrt(static_cast<double>(shape.d_head())))};
  }
  return form;
}

// How a bundle's tensors are stored.
struct Storage {
  model::TensorType type = model::TensorType::kF32;
  std::map<std::string, model::TensorType> types{};
};

// Tables to bytes with a scale a row; the model takes what they stand for, so that what is measured
// of it is the bundle's.
Storage StoreTables(const Transformer& model, model::TensorMap& tensors) {
  Storage storage;
  torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < model.shape().ngram_rows.size(); ++i) {
    const std::string name = model::NgramName(i);
    Tensor table = model.Get(name).detach();
    const Tensor scale = (table.abs().amax(1, true) / 127).clamp_min(1e-30);
    const Tensor whole = (table / scale).round();
    table.copy_(whole * scale);
    tensors[name] = ToModelTensor(whole);
    tensors[name + ".scale"] = ToModelTensor(scale.squeeze(1));
    storage.types[name] = model::TensorType::kI8;
    storage.types[name + ".scale"] = model::TensorType::kF32;
    storage.type = model::TensorType::kF16;
  }
  return storage;
}

Status CheckExportable(const Transformer& model, const std::string& checkpoint) {
  if (!model.polynomials)
    return MakeError(ErrorCode::kMismatch,
                     "{} has no polynomials: convert it, or train a polynomial "
                     "stage, first",
                     checkpoint);
  for (int layer = 0; layer < model.shape().n_layers; ++layer)
    if (model.attention(layer) == AttentionForm::kSoftmax)
      return MakeError(ErrorCode::kMismatch, "{}: layer {} is softmax, no polynomial", checkpoint,
                       layer);
  return {};
}

model::Certificate MakeCertificate(const Transformer& model, const Observation& training,
                                   const Observation& heldout) {
  model::Certificate out;
  out.worst_outside = std::max(training.first.worst_ratio, heldout.first.worst_ratio);
  out.least_margin =
      std::min(training.LeastMargin(*model.polynomials), heldout.LeastMargin(*model.polynomials));
  out.heldout_positions = heldout.first.positions;
  out.heldout_out_of_range = heldout.out_of_range;
  out.left_out_positions = training.left_out + heldout.left_out;
  return out;
}

// What a model that was trained on hard inputs must carry too: every token repeated, and some of
// every kind.
std::vector<Batch> HardBatches(const TrainConfig& config, const model::Tokenizer& tokenizer) {
  constexpr std::uint64_t kSeed = 15, kOfAKind = 256;
  const HardInputs inputs(RowTokensOf(tokenizer), {}, config.shape.context);
  std::vector<std::vector<std::int64_t>> rows;
  for (std::int64_t token = 0; token < inputs.vocab_size(); ++token)
    rows.push_back(inputs.Repeated(token));
  for (const InputKind kind : kInputKinds)
    for (std::uint64_t i = 0; i < kOfAKind; ++i) rows.push_back(inputs.Row(kind, kSeed, i));
  std::vector<Batch> batches;
  const auto size = static_cast<std::ptrdiff_t>(config.batch);
  for (auto at = rows.begin(); at < rows.end(); at += std::min(size, rows.end() - at))
    batches.push_back(RowsToBatch({at, at + std::min(size, rows.end() - at)}));
  return batches;
}

// The program of the bundle as it will be read, with the noise that ciphertexts would have.
Status Predict(model::ModelConfig& config, const std::vector<std::uint8_t>& tensors,
               const ExportOptions& options) {
  config.certificate->predicted_logit_error = 0;  // a bundle has one; until it is known
  const std::string json = model::FormatModelConfig(config);
  PV_ASSIGN_OR_RETURN(model::BodyBundle body, model::ParseBodyBundle(json, tensors));
  PV_ASSIGN_OR_RETURN(const model::ClientBundle client, model::ParseClientBundle(json, tensors));
  PV_ASSIGN_OR_RETURN(const ckks::ParametersSpec spec, ckks::FindParameters(options.parameters));
  PV_ASSIGN_OR_RETURN(const ckks::ParametersPtr params, ckks::Parameters::Create(spec));
  const auto decoder =
      std::make_shared<const model::Decoder>(model::DecoderOfBundle(std::move(body)));
  PV_ASSIGN_OR_RETURN(config.certificate->predicted_logit_error,
                      runtime::PredictLogitError(decoder, client, params));
  return model::CheckPredictedError(config.certificate, options.largest_error);
}

}  // namespace

Status CheckRanges(const Observation& training, const Observation& heldout, bool leave_out) {
  for (const Observation* seen : {&training, &heldout}) PV_RETURN_IF_ERROR(seen->CheckFinite());
  Observation all = training;
  all.Merge(heldout);
  if (all.left_out == all.first.positions)
    return MakeError(ErrorCode::kOutOfRange, "no calibration position is inside every interval: {}",
                     all.Sites());
  if (all.out_of_range == 0 || leave_out) return {};
  return MakeError(ErrorCode::kOutOfRange,
                   "{} of {} positions of training text and {} of {} of held-out text are out of "
                   "range: {}; convert again (it widens the intervals), train the polynomial stage "
                   "longer, or leave them out of the bounds (--leave-out)",
                   training.out_of_range, training.first.positions, heldout.out_of_range,
                   heldout.first.positions, all.Sites());
}

model::LayerConfig MakeLayer(const Transformer& model, const SiteRanges& ranges, int layer) {
  const std::string at = fmt::format("layers.{}.", layer);
  model::LayerConfig out;
  out.kappa = Values(Wide(model, at + "log_kappa").exp());
  out.shift = Values(Wide(model, at + "shift"));
  out.attention = MakeForm(model, layer);
  if (!model.polynomials) return out;
  const LayerPolynomials& fit = (*model.polynomials)[static_cast<std::size_t>(layer)];
  out.norm1 = fit.norm1;
  out.divisor_inverse = fit.divisor_inverse;
  out.norm2 = fit.norm2;
  out.activation = fit.activation;
  out.bounds = Bounds(ranges, layer);
  out.norm1_seen = Seen(ranges, layer, "attention / variance");
  out.divisor_seen = Seen(ranges, layer, "attention / divisor");
  out.norm2_seen = Seen(ranges, layer, "feed-forward / variance");
  return out;
}

double ResidualBound(const model::LayerBounds& bounds, double margin) {
  return margin * std::max({bounds.residual_in, bounds.residual_mid, bounds.residual_out});
}

double EmbeddingBound(const Transformer& model) {
  const auto largest = [&](double sign) {
    torch::Tensor sum = (sign * Wide(model, "embed")).amax(0) + (sign * Wide(model, "pos")).amax(0);
    for (std::size_t i = 0; i < model.shape().ngram_rows.size(); ++i)
      sum = sum + (sign * Wide(model, model::NgramName(i))).amax(0).clamp_min(0);
    return sum.amax().item<double>();
  };
  return std::max(largest(1), largest(-1));
}

model::TensorMap FoldTensors(const Transformer& model) {
  const Shape& shape = model.shape();
  model::TensorMap out;
  out["embed"] = ToModelTensor(model.Get("embed"));
  out["pos"] = ToModelTensor(model.Get("pos"));
  out["final_gamma"] = ToModelTensor(model.Get("final_norm"));
  for (std::size_t i = 0; i < shape.ngram_rows.size(); ++i)
    out[model::NgramName(i)] = ToModelTensor(model.Get(model::NgramName(i)));
  for (int layer = 0; layer < shape.n_layers; ++layer) {
    const std::string at = fmt::format("layers.{}.", layer);
    const auto qkv = (Wide(model, at + "wqkv") * Wide(model, at + "norm1")).chunk(3, 0);
    out[at + "wq"] = ToModelTensor(qkv[0] * shape.QueryFold());
    out[at + "wk"] = ToModelTensor(qkv[1]);
    out[at + "wv"] = ToModelTensor(qkv[2]);
    out[at + "wo"] = ToModelTensor(model.Get(at + "wo"));
    const Tensor hidden = Wide(model, at + "w12") * Wide(model, at + "norm2");
    out[at + "w1"] = ToModelTensor(hidden.narrow(0, 0, shape.d_ff));
    if (shape.ffn == model::FeedForwardKind::kBilinear)
      out[at + "w2"] = ToModelTensor(hidden.narrow(0, shape.d_ff, shape.d_ff));
    out[at + "wdown"] = ToModelTensor(model.Get(at + "wdown"));
  }
  return out;
}

model::ModelConfig MakeModelConfig(const Transformer& model, const SiteRanges& ranges,
                                   double margin) {
  const Shape& shape = model.shape();
  PV_CHECK(model.polynomials.has_value(), "a bundle needs polynomials");
  model::ModelConfig config;
  config.n_layers = shape.n_layers;
  config.d_model = shape.d_model;
  config.n_heads = shape.n_heads;
  config.d_head = shape.d_head();
  config.d_ff = shape.d_ff;
  config.ffn = shape.ffn;
  config.vocab_size = shape.vocab_size;
  config.context = shape.context;
  config.ngram_rows = shape.ngram_rows;
  config.power = shape.power;
  config.attention_eps = shape.attention_eps;
  config.norm_eps = shape.norm_eps;
  config.final_norm_eps = shape.norm_eps;
  config.calibration.margin = margin;
  for (int layer = 0; layer < shape.n_layers; ++layer) {
    config.layers.push_back(MakeLayer(model, ranges, layer));
    model::LayerBounds& b = config.layers.back().bounds;
    // Calibration sees few of the tokens that may follow each other: with tables the first input is
    // bounded by what any could add up to.
    if (layer == 0 && !shape.ngram_rows.empty())
      b.residual_in = std::max(b.residual_in, EmbeddingBound(model) / margin);
    config.residual_bound = std::max(config.residual_bound, ResidualBound(b, margin));
  }
  return config;
}

Result<ExportSummary> ExportBundle(const std::string& checkpoint, const std::string& data_folder,
                                   const std::string& out, const ExportOptions& options) {
  PV_ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(checkpoint));
  PV_ASSIGN_OR_RETURN(const Dataset data, LoadDataset(data_folder));
  PV_ASSIGN_OR_RETURN(const auto tokenizer,
                      model::ReadBundleFile(data_folder + "/tokenizer.json", 4 << 20));
  PV_ASSIGN_OR_RETURN(
      const model::Tokenizer parsed,
      model::Tokenizer::Parse({reinterpret_cast<const char*>(tokenizer.data()), tokenizer.size()}));
  PV_RETURN_IF_ERROR(CheckExportable(*loaded.model, checkpoint));
  model::TensorMap folded = FoldTensors(*loaded.model);
  const Storage storage = StoreTables(*loaded.model, folded);
  const Observation training = Observe(*loaded.model, ExportBatches(loaded.config, data));
  const Observation heldout = Observe(
      *loaded.model, HeldoutBatches(data, loaded.config.batch, loaded.config.shape.context));
  PV_RETURN_IF_ERROR(CheckRanges(training, heldout, options.leave_out));
  Observation all = training;
  all.Merge(heldout);
  if (loaded.config.polynomial && loaded.config.polynomial->hard_rows > 0)
    all.Merge(Observe(*loaded.model, HardBatches(loaded.config, parsed)));
  model::ModelConfig config = MakeModelConfig(*loaded.model, all.ranges, kMargin);
  config.calibration.tokens = all.first.positions - all.left_out;
  const auto tensors = model::FormatSafetensors(folded, storage.type, {}, storage.types);
  config.tensors_sha256 = model::Sha256Hex(tensors);
  PV_RETURN_IF_ERROR(model::ValidateModelConfig(config));
  config.certificate = MakeCertificate(*loaded.model, training, heldout);
  PV_RETURN_IF_ERROR(Predict(config, tensors, options));
  const std::string json = model::FormatModelConfig(config);
  PV_RETURN_IF_ERROR(model::ValidateModelConfig(config));
  std::filesystem::create_directories(out);
  PV_RETURN_IF_ERROR(WriteFile(out + "/model.json", json));
  PV_RETURN_IF_ERROR(WriteFile(out + "/model.safetensors", BytesOf(tensors)));
  PV_RETURN_IF_ERROR(WriteFile(out + "/tokenizer.json", BytesOf(tokenizer)));
  return ExportSummary{json.size() + tensors.size() + tokenizer.size(), config.calibration.tokens,
                       *config.certificate};
}

}  // namespace polyveil::train
