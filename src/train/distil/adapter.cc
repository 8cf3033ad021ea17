#include "train/distil/adapter.h"

#include <cmath>
#include <filesystem>

#include "base/output_file.h"
#include "model/formats/adapter.h"
#include "train/distil/load.h"

namespace polyveil::train {
namespace {

using torch::Tensor;
namespace fs = std::filesystem;

model::Tensor Values(const Tensor& x) {
  const Tensor wide = x.detach().to(torch::kFloat64).contiguous();
  const auto* data = wide.data_ptr<double>();
  return {wide.sizes().vec(), {data, data + wide.numel()}};
}

// Rows in the file's order; rows[i]: the file's row of row i.
Tensor InFile(const Tensor& x, const Tensor& rows) {
  return torch::empty_like(x).index_copy_(0, rows, x.detach());
}

// The tensors of adapter.safetensors, under the base's names.
class Collected {
 public:
  explicit Collected(const model::Checkpoint& source)
      : source_(source),
        names_(source.gguf ? model::GgufNames(source.architecture)
                           : model::HuggingFaceNames(source.architecture)) {}

  void Layer(const Transformer& model, int index) {
    const model::LayerWeights& w = source_.weights.layers[static_cast<std::size_t>(index)];
    const Weights::Layer& layer = model.weights.layers[static_cast<std::size_t>(index)];
    Qkv(model, w, index);
    Update(w.out, model.UpdateOf(index, {{AdapterSite::kOut, layer.wo.size(0)}}));
    if (!w.gate.empty()) Update(w.gate, model.UpdateOf(index, {{AdapterSite::kGate, w.gate.out}}));
    Update(w.up, model.UpdateOf(index, {{AdapterSite::kUp, w.up.out}}));
    Update(w.down, model.UpdateOf(index, {{AdapterSite::kDown, layer.wdown.size(0)}}));
    SetPrefix(w.out.weight.name, At(names_.out, index) + ".weight");
    Norm(At(names_.attention_norm, index), layer.norm1, layer.norm1_bias);
    Norm(At(names_.ffn_norm, index), layer.norm2, layer.norm2_bias);
  }
  void Norm(const std::string& name, const Tensor& gain, const Tensor& bias) {
    for (const auto& [suffix, tensor] : {std::pair{".weight", gain}, std::pair{".bias", bias}}) {
      if (!tensor.defined()) continue;
      tensors_[prefix_ + name + suffix] = Values(tensor);
      types_[prefix_ + name + suffix] = model::ElementType::kF32;
    }
  }
  std::vector<std::uint8_t> Bytes() const {
    return model::FormatSafetensors(tensors_, model::ElementType::kF16,
                                    {{"format", "polyveil-adapter/1"}}, types_);
  }
  const model::WeightNames& names() const { return names_; }

 private:
  static std::string At(const std::string& name, int layer) {
    return fmt::format(fmt::runtime(name), layer);
  }
  // What stands before all names of the file.
  void SetPrefix(const std::string& full, const std::string& name) {
    prefix_ = full.substr(0, full.size() - name.size());
  }

  void Qkv(const Transformer& model, const model::LayerWeights& w, int index) {
    const Tensor rows = QkvRowsInFile(source_.architecture);
    const auto sites = model.QkvSites();
    if (w.qkv.size() == 1) return Update(w.qkv[0], model.UpdateOf(index, sites), rows);
    std::int64_t first = 0;
    for (std::size_t i = 0; i < sites.size(); ++i) {
      Update(w.qkv[i], model.UpdateOf(index, {sites[i]}),
             rows.narrow(0, first, sites[i].rows) - first);
      first += sites[i].rows;
    }
  }

  void Update(const model::Linear& linear, const LowRank& update, const Tensor& rows = {}) {
    if (!update.a.defined()) return;
    Tensor right = update.a, left = rows.defined() ? InFile(update.b, rows) : update.b;
    if (linear.transposed) std::tie(right, left) = std::pair(left.t(), right.t());
    tensors_[linear.weight.name + model::kRightSuffix] = Values(right);
    tensors_[linear.weight.name + model::kLeftSuffix] = Values(left);
  }

  const model::Checkpoint& source_;
  const model::WeightNames names_;
  std::string prefix_;
  model::TensorMap tensors_;
  std::map<std::string, model::ElementType> types_;
};

// The base under its name in the folder, where it can be linked.
Status Link(const std::string& base, const fs::path& link) {
  std::error_code error;
  fs::remove(link, error);
  fs::create_symlink(fs::absolute(fs::canonical(base, error)), link, error);
  if (!error) return {};
  return MakeError(ErrorCode::kIo, "cannot link {}: {}", link.string(), error.message());
}

std::string Card(const model::Checkpoint& source, const model::ConvertedForms& forms) {
  const bool polynomial = forms.stage == model::FormStage::kPolynomial;
  return fmt::format(
      "# Adapter of {0}\n\nBase: `{0}` ({1}), SHA-256 of its weights `{2}`.\nStage: {3}.\n\n"
      "    polyveil-server --model BASE --adapter THIS_FOLDER\n",
      forms.weights->file, model::Describe(source.architecture), forms.weights->sha256,
      polynomial ? "polynomial, which can be served" : "powers; training goes on to polynomials");
}

}  // namespace

TensorRole RoleOf(const std::string& name, bool adapter) {
  const std::string last = name.substr(name.find_last_of('.') + 1);
  if (last == "shift" || last == "log_kappa" || last.starts_with("centre"))
    return TensorRole::kForm;
  const bool inside = name.starts_with("layers.") || name.starts_with("final_norm");
  if (!inside) return TensorRole::kFrozen;
  if (!adapter || last.starts_with("lora_")) return TensorRole::kWeight;
  return last.find("norm") != std::string::npos ? TensorRole::kGain : TensorRole::kFrozen;
}

Transformer AdaptedStudent(const Transformer& teacher, const Shape& forms,
                           const AdapterOptions& options, std::uint64_t seed) {
  Transformer out = teacher.Share(forms, AttentionForm::kPowerMean);
  Weights::Visit(out.weights, [](const std::string& name, Tensor& value) {
    if (RoleOf(name, true) != TensorRole::kFrozen) value = value.detach().clone();
  });
  out.adapter_scale = options.alpha / options.rank;
  torch::Generator random = at::make_generator<at::CPUGeneratorImpl>(seed);
  const auto wide = torch::TensorOptions().dtype(torch::kFloat64);
  for (int i = 0; i < forms.n_layers; ++i) {
    Weights::Layer& layer = out.weights.layers[static_cast<std::size_t>(i)];
    const auto add = [&](const std::vector<Transformer::SiteRows>& sites, std::int64_t in) {
      for (const auto& [site, rows] : sites) {
        if (!std::ranges::count(options.sites, site)) continue;
        layer.adapter(site) = {
            (torch::randn({options.rank, in}, random, wide) / std::sqrt(in)).to(out.type()),
            torch::zeros({rows, options.rank}, torch::TensorOptions().dtype(out.type()))};
      }
    };
    add(out.QkvSites(), forms.d_model);
    add({{AdapterSite::kOut, forms.d_model}}, forms.q_width());
    add(out.InSites(), forms.d_model);
    add({{AdapterSite::kDown, forms.d_model}}, forms.d_ff);
  }
  return out;
}

Status WriteAdapterFolder(const Transformer& model, const model::Checkpoint& source,
                          const std::vector<int>& prefix, const DistilCalibration& calibration,
                          const std::string& folder) {
  torch::NoGradGuard no_grad;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return MakeError(ErrorCode::kIo, "cannot make {}: {}", folder, error.message());
  Collected out(source);
  for (int i = 0; i < source.architecture.n_layers; ++i) out.Layer(model, i);
  if (source.architecture.final_norm)
    out.Norm(out.names().final_norm, model.weights.final_norm, model.weights.final_norm_bias);
  const auto bytes = out.Bytes();
  PV_RETURN_IF_ERROR(WriteFile(folder + "/" + model::kAdapterName, BytesOf(bytes)));
  model::ConvertedForms forms = MakeForms(model, prefix, calibration);
  const std::string name = fs::path(source.path).lexically_normal().filename().empty()
                               ? fs::path(source.path).parent_path().filename().string()
                               : fs::path(source.path).filename().string();
  forms.weights = {ToFileName(name), model::WeightsSha256(source)};
  PV_RETURN_IF_ERROR(WriteForms(forms, source.architecture, folder));
  PV_RETURN_IF_ERROR(WriteFile(folder + "/README.md", Card(source, forms)));
  return Link(source.path, fs::path(folder) / forms.weights->file);
}

}  // namespace polyveil::train
