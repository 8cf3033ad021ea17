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

// Names an adapter's tensors as the base's file does and meets each with the model's own.
class Walk {
 public:
  explicit Walk(const model::Checkpoint& source)
      : source_(source),
        names_(source.gguf ? model::GgufNames(source.architecture)
                           : model::HuggingFaceNames(source.architecture)) {}
  virtual ~Walk() = default;

  void All(const Transformer& model) {
    for (int i = 0; i < source_.architecture.n_layers; ++i) Layer(model, i);
    if (source_.architecture.final_norm)
      Norm(names_.final_norm, model.weights.final_norm, model.weights.final_norm_bias);
  }

 private:
  using Sites = std::vector<Transformer::SiteRows>;
  // The update of a matrix whose rows are those of the sites; rows[i]: the file's row of row i,
  // undefined: i.
  virtual void Update(const Transformer& model, int layer, const Sites& sites,
                      const model::Linear& linear, const Tensor& rows) = 0;
  virtual void Vector(const std::string& name, const Tensor& value) = 0;

  void Layer(const Transformer& model, int index) {
    const model::LayerWeights& w = source_.weights.layers[static_cast<std::size_t>(index)];
    const Weights::Layer& layer = model.weights.layers[static_cast<std::size_t>(index)];
    Qkv(model, w, index);
    Update(model, index, {{AdapterSite::kOut, layer.wo.size(0)}}, w.out, {});
    if (!w.gate.empty()) Update(model, index, {{AdapterSite::kGate, w.gate.out}}, w.gate, {});
    Update(model, index, {{AdapterSite::kUp, w.up.out}}, w.up, {});
    Update(model, index, {{AdapterSite::kDown, layer.wdown.size(0)}}, w.down, {});
    // What stands before all names of the file.
    const std::string full = w.out.weight.name, own = At(names_.out, index) + ".weight";
    prefix_ = full.substr(0, full.size() - own.size());
    Norm(At(names_.attention_norm, index), layer.norm1, layer.norm1_bias);
    Norm(At(names_.ffn_norm, index), layer.norm2, layer.norm2_bias);
  }
  void Qkv(const Transformer& model, const model::LayerWeights& w, int index) {
    const Tensor rows = QkvRowsInFile(source_.architecture);
    const auto sites = model.QkvSites();
    if (w.qkv.size() == 1) return Update(model, index, sites, w.qkv[0], rows);
    std::int64_t first = 0;
    for (std::size_t i = 0; i < sites.size(); ++i) {
      Update(model, index, {sites[i]}, w.qkv[i], rows.narrow(0, first, sites[i].rows) - first);
      first += sites[i].rows;
    }
  }
  void Norm(const std::string& name, const Tensor& gain, const Tensor& bias) {
    for (const auto& [suffix, tensor] : {std::pair{".weight", gain}, std::pair{".bias", bias}})
      if (tensor.defined()) Vector(prefix_ + name + suffix, tensor);
  }
  static std::string At(const std::string& name, int layer) {
    return fmt::format(fmt::runtime(name), layer);
  }

  const model::Checkpoint& source_;
  const model::WeightNames names_;
  std::string prefix_;
};

// The tensors of adapter.safetensors.
class Collected : public Walk {
 public:
  using Walk::Walk;
  std::vector<std::uint8_t> Bytes() const {
    return model::FormatSafetensors(tensors_, model::ElementType::kF16,
                                    {{"format", "polyveil-adapter/1"}}, types_);
  }

 private:
  void Vector(const std::string& name, const Tensor& value) override {
    tensors_[name] = Values(value);
    types_[name] = model::ElementType::kF32;
  }
  void Update(const Transformer& model, int layer, const std::vector<Transformer::SiteRows>& sites,
              const model::Linear& linear, const Tensor& rows) override {
    const LowRank update = model.UpdateOf(layer, sites);
    if (!update.a.defined()) return;
    Tensor right = update.a, left = update.b;
    if (rows.defined()) left = torch::empty_like(left).index_copy_(0, rows, left);
    if (linear.transposed) std::tie(right, left) = std::pair(left.t(), right.t());
    tensors_[linear.weight.name + model::kRightSuffix] = Values(right);
    tensors_[linear.weight.name + model::kLeftSuffix] = Values(left);
  }

  model::TensorMap tensors_;
  std::map<std::string, model::ElementType> types_;
};

// The other way round: the file's values go to the model's tensors. Keeps the first fault.
class Restored : public Walk {
 public:
  Restored(const model::Checkpoint& source, const model::Adapter& adapter)
      : Walk(source), adapter_(adapter) {}
  const Status& status() const { return status_; }

 private:
  void Vector(const std::string& name, const Tensor& value) override {
    if (const Tensor found = Find(name); found.defined()) Copy(name, found, value);
  }
  void Update(const Transformer& model, int layer, const std::vector<Transformer::SiteRows>& sites,
              const model::Linear& linear, const Tensor& rows) override {
    const std::string name = linear.weight.name;
    Tensor right = Find(name + model::kRightSuffix), left = Find(name + model::kLeftSuffix);
    if (!status_.ok()) return;
    if (right.defined() != left.defined()) {
      status_ = MakeError(ErrorCode::kMismatch, "{}: {} without {}", name,
                          right.defined() ? model::kRightSuffix : model::kLeftSuffix,
                          right.defined() ? model::kLeftSuffix : model::kRightSuffix);
      return;
    }
    const LowRank whole = model.UpdateOf(layer, sites);
    if (right.defined() != whole.a.defined()) {
      status_ = MakeError(ErrorCode::kMismatch, "{}: the adapter {} an update, the config {}", name,
                          right.defined() ? "has" : "has not",
                          whole.a.defined() ? "has one" : "has none");
      return;
    }
    if (!right.defined()) return;
    if (linear.transposed) std::tie(right, left) = std::pair(left.t(), right.t());
    const std::int64_t updated = Updated(model, layer, sites), rank = right.size(0) / updated;
    if (right.size(0) % updated != 0 || right.size(0) > whole.a.size(0) ||
        right.size(1) != whole.a.size(1) || left.size(0) != whole.b.size(0) ||
        left.size(1) != right.size(0)) {
      status_ =
          MakeError(ErrorCode::kMismatch,
                    "{}: the adapter's update has rank {} of [{}, {}], the config's {} of [{}, {}]",
                    name, right.size(0), left.size(0), right.size(1), whole.a.size(0),
                    whole.b.size(0), whole.a.size(1));
      return;
    }
    if (rows.defined()) left = left.index_select(0, rows);
    std::int64_t from = 0, at = 0;
    for (const auto& [site, count] : sites) {
      const LowRank& own = model.weights.layers[static_cast<std::size_t>(layer)].adapter(site);
      if (own.a.defined()) {
        // What a larger rank has more stays as it begins: a at random, b 0.
        own.a.narrow(0, 0, rank).copy_(right.narrow(0, from, rank));
        own.b.zero_()
            .narrow(1, 0, rank)
            .copy_(left.narrow(0, at, count).narrow(1, from, rank) / model.adapter_scale);
        from += rank;
      }
      at += count;
    }
  }
  static std::int64_t Updated(const Transformer& model, int layer,
                              const std::vector<Transformer::SiteRows>& sites) {
    return std::ranges::count_if(sites, [&](const Transformer::SiteRows& each) {
      return model.weights.layers[static_cast<std::size_t>(layer)].adapter(each.site).a.defined();
    });
  }
  Tensor Find(const std::string& name) {
    const auto found = adapter_.tensors.find(name);
    if (found == adapter_.tensors.end()) return {};
    const Tensor values = torch::tensor(model::DecodeAll(found->second));
    if (!values.isfinite().all().item<bool>() && status_.ok())
      status_ = MakeError(ErrorCode::kCorrupt, "{}: values that are not finite", name);
    return values.reshape(found->second.shape);
  }
  void Copy(const std::string& name, const Tensor& from, const Tensor& to) {
    if (from.sizes() == to.sizes()) {
      to.copy_(from);
    } else if (status_.ok()) {
      status_ = MakeError(ErrorCode::kMismatch, "{}: {} values, the model's has {}", name,
                          from.numel(), to.numel());
    }
  }

  const model::Adapter& adapter_;
  Status status_;
};

Status RestoreForms(const model::ConvertedForms& forms, const Transformer& model) {
  const Shape& shape = model.shape();
  if (forms.power != shape.power || forms.layers.size() != static_cast<std::size_t>(shape.n_layers))
    return MakeError(ErrorCode::kMismatch, "forms: power {} of {} layers, the config's is {} of {}",
                     forms.power, forms.layers.size(), shape.power, shape.n_layers);
  for (std::size_t i = 0; i < forms.layers.size(); ++i) {
    const Weights::Layer& layer = model.weights.layers[i];
    layer.shift.copy_(torch::tensor(forms.layers[i].shift));
    layer.log_kappa.copy_(torch::tensor(forms.layers[i].kappa).log());
  }
  return {};
}

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
  const auto options_of = torch::TensorOptions(out.device()).dtype(out.type());
  for (int i = 0; i < forms.n_layers; ++i) {
    Weights::Layer& layer = out.weights.layers[static_cast<std::size_t>(i)];
    const auto add = [&](const std::vector<Transformer::SiteRows>& sites, std::int64_t in) {
      for (const auto& [site, rows] : sites) {
        if (!std::ranges::count(options.sites, site)) continue;
        layer.adapter(site) = {
            (torch::randn({options.rank, in}, random, wide) / std::sqrt(in)).to(options_of),
            torch::zeros({rows, options.rank}, options_of)};
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
  out.All(model);
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

Status ReadAdapterFolder(const std::string& folder, const model::Checkpoint& source,
                         const Transformer& student) {
  torch::NoGradGuard no_grad;
  PV_ASSIGN_OR_RETURN(const model::Adapter adapter, model::LoadAdapter(folder));
  const std::string base = model::WeightsSha256(source);
  if (adapter.forms.weights->sha256 != base)
    return MakeError(ErrorCode::kMismatch, "{}: weights of SHA-256 {}, the model's are {}", folder,
                     adapter.forms.weights->sha256, base);
  Restored walk(source, adapter);
  walk.All(student);
  PV_RETURN_IF_ERROR(walk.status());
  return RestoreForms(adapter.forms, student);
}

}  // namespace polyveil::train
