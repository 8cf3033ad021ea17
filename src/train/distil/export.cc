#include "train/distil/export.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/output_file.h"
#include "train/export.h"

namespace polyveil::train {
namespace {

using torch::Tensor;
namespace fs = std::filesystem;
using Named = std::vector<std::pair<std::string, Tensor>>;

// Blocks of heads back to the order of the source's fused columns.
Tensor SourceRows(const model::Architecture& a, const Tensor& rows) {
  if (!rows.defined() || a.qkv_order != model::QkvOrder::kPerHead) return rows;
  const std::int64_t width = rows.dim() == 2 ? rows.size(1) : 1;
  return rows.reshape({3, a.n_heads, a.d_head, width}).transpose(0, 1).reshape(rows.sizes());
}

// Adds name.weight and name.bias to a list, in the layout of the source's file.
class Collector {
 public:
  explicit Collector(const model::WeightNames& names) : names_(names) {}

  void Vector(const std::string& name, const Tensor& weight, const Tensor& bias) {
    Put(name + ".weight", weight);
    Put(name + ".bias", bias);
  }
  void Matrix(const std::string& name, const Tensor& weight, const Tensor& bias) {
    Put(name + ".weight", names_.transposed ? weight.t() : weight);
    Put(name + ".bias", bias);
  }
  // Rows of weight one below the other, a part for every name.
  void Parts(const std::vector<std::string>& names, const std::vector<std::int64_t>& rows,
             const Tensor& weight, const Tensor& bias) {
    std::int64_t at = 0;
    for (std::size_t i = 0; i < names.size(); ++i) {
      Matrix(names[i], weight.narrow(0, at, rows[i]),
             bias.defined() ? bias.narrow(0, at, rows[i]) : Tensor());
      at += rows[i];
    }
  }
  // Outside of the model's prefix, as heads are.
  void PutBare(const std::string& name, const Tensor& tensor) {
    if (tensor.defined()) tensors_.emplace_back(name, tensor.detach());
  }
  void Put(const std::string& name, const Tensor& tensor) {
    PutBare(names_.prefixes.front() + name, tensor);
  }

  Named Take() { return std::move(tensors_); }

 private:
  const model::WeightNames& names_;
  Named tensors_;
};

std::string At(const std::string& name, int layer) {
  return fmt::format(fmt::runtime(name), layer);
}

void CollectLayer(const Transformer& model, const model::Architecture& source,
                  const model::WeightNames& names, int index, Collector& out) {
  const Weights::Layer& layer = model.weights.layers[static_cast<std::size_t>(index)];
  out.Vector(At(names.attention_norm, index), layer.norm1, layer.norm1_bias);
  out.Vector(At(names.ffn_norm, index), layer.norm2, layer.norm2_bias);
  std::vector<std::string> qkv;
  for (const std::string& name : names.qkv) qkv.push_back(At(name, index));
  std::vector<std::int64_t> rows = {source.qkv_width()};
  if (qkv.size() == 3) rows = {source.q_width(), source.kv_width(), source.kv_width()};
  out.Parts(qkv, rows, SourceRows(source, layer.wqkv), SourceRows(source, layer.bqkv));
  out.Matrix(At(names.out, index), layer.wo, layer.bo);
  std::vector<std::string> in = {At(names.up, index)};
  if (source.gated) in.insert(in.begin(), At(names.gate, index));
  out.Parts(in, std::vector<std::int64_t>(in.size(), source.d_ff), layer.w12, layer.b12);
  out.Matrix(At(names.down, index), layer.wdown, layer.bdown);
}

Status WriteFloats(const Named& tensors, const std::string& path) {
  nlohmann::ordered_json header = {{"__metadata__", {{"format", "pt"}}}};
  std::uint64_t at = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::uint64_t bytes = static_cast<std::uint64_t>(tensor.numel()) * sizeof(float);
    header[name] = {
        {"dtype", "F32"}, {"shape", tensor.sizes().vec()}, {"data_offsets", {at, at + bytes}}};
    at += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data are aligned
  std::ofstream out(path, std::ios::binary);
  const std::uint64_t length = text.size();
  out.write(reinterpret_cast<const char*>(&length), sizeof length);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  for (const auto& [name, tensor] : tensors) {
    const Tensor floats = tensor.to(torch::kFloat32).contiguous();
    out.write(reinterpret_cast<const char*>(floats.data_ptr<float>()),
              static_cast<std::streamsize>(floats.nbytes()));
  }
  out.close();
  if (!out) return MakeError(ErrorCode::kIo, "cannot write {} bytes to {}", at, path);
  return {};
}

// Small files beside the weights: configuration and tokenizer as they are, or made from a GGUF
// file.
Status WriteCompanions(const model::Checkpoint& source, const std::string& folder) {
  if (source.gguf) {
    if (!source.weights.rotary_factors.empty())
      return MakeError(ErrorCode::kMismatch, "{} frequencies stand in the GGUF file alone",
                       source.weights.rotary_factors.size());
    PV_ASSIGN_OR_RETURN(const std::string config, model::FormatLlamaConfig(source.architecture));
    PV_RETURN_IF_ERROR(WriteFile(folder + "/config.json", config));
    const auto tokenizer = source.gguf->MetadataOnly();
    return WriteFile(folder + "/tokenizer.gguf", BytesOf(tokenizer));
  }
  std::error_code error;
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer.gguf",
                           "tokenizer_config.json", "special_tokens_map.json"}) {
    const fs::path from = fs::path(source.directory) / name;
    if (!fs::exists(from, error)) continue;
    fs::copy_file(from, fs::path(folder) / name, fs::copy_options::overwrite_existing, error);
    if (error)
      return MakeError(ErrorCode::kIo, "cannot copy {}: {}", from.string(), error.message());
  }
  return {};
}

}  // namespace

Named HuggingFaceTensors(const Transformer& model, const model::Architecture& source) {
  const model::WeightNames names = model::HuggingFaceNames(source);
  const Weights& w = model.weights;
  Collector out(names);
  out.Put(names.token_embedding + ".weight", w.embed);
  if (w.pos.defined()) out.Put(names.position_embedding + ".weight", w.pos);
  if (w.type.defined()) out.Put(names.type_embedding + ".weight", w.type);
  if (source.embedding_norm)
    out.Vector(names.embedding_norm, w.embedding_norm, w.embedding_norm_bias);
  for (int i = 0; i < source.n_layers; ++i) CollectLayer(model, source, names, i, out);
  if (source.final_norm) out.Vector(names.final_norm, w.final_norm, w.final_norm_bias);
  out.PutBare(names.head + ".weight", w.head);
  return out.Take();
}

model::ConvertedForms MakeForms(const Transformer& model, const std::vector<int>& prefix,
                                const DistilCalibration& calibration) {
  model::ConvertedForms forms;
  forms.stage = model.polynomials ? model::FormStage::kPolynomial : model::FormStage::kPower;
  forms.power = model.shape().power;
  forms.attention_eps = model.shape().attention_eps;
  if (model.shape().causal) forms.prefix = prefix;
  forms.calibration = {calibration.tokens, calibration.margin};
  forms.left_out = calibration.left_out;
  for (int i = 0; i < model.shape().n_layers; ++i) {
    forms.layers.push_back(MakeLayer(model, calibration.ranges, i));
    forms.residual_bound = std::max(forms.residual_bound,
                                    ResidualBound(forms.layers.back().bounds, calibration.margin));
  }
  return forms;
}

Status WriteForms(const model::ConvertedForms& forms, const model::Architecture& architecture,
                  const std::string& folder) {
  PV_ASSIGN_OR_RETURN(const std::string text, model::FormatCheckedForms(forms, architecture));
  return WriteFile(folder + "/forms.json", text);
}

Status WriteReleasedFolder(const Transformer& model, const model::Checkpoint& source,
                           const std::vector<int>& prefix, const DistilCalibration& calibration,
                           const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return MakeError(ErrorCode::kIo, "cannot make {}: {}", folder, error.message());
  PV_RETURN_IF_ERROR(WriteCompanions(source, folder));
  PV_RETURN_IF_ERROR(
      WriteFloats(HuggingFaceTensors(model, source.architecture), folder + "/model.safetensors"));
  if (model.attention(0) == AttentionForm::kSoftmax) return {};
  return WriteForms(MakeForms(model, prefix, calibration), source.architecture, folder);
}

}  // namespace polyveil::train
