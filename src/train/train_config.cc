#include "train/train_config.h"

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>

namespace polyveil::train {
namespace {

using Json = nlohmann::ordered_json;

// Reads or writes fields of one object, by the direction; collects what was not asked for.
class Fields {
 public:
  Fields(Json& json, bool reading, std::string where, std::string& error)
      : json_(json), reading_(reading), where_(std::move(where)), error_(error) {
    if (reading_ && !json_.is_object()) Fail("is no object");
  }
  ~Fields() {
    if (!reading_ || !json_.is_object()) return;
    for (const auto& [key, value] : json_.items())
      if (!known_.count(key)) Fail("has an unknown field \"" + key + "\"");
  }

  template <typename T>
  void Field(const char* key, T& value) {
    known_.insert(key);
    if (!reading_) {
      json_[key] = value;
    } else if (json_.is_object() && json_.contains(key)) {
      Read(key, value);
    }
  }

  void Choice(const char* key, const std::vector<std::string>& names, int& value) {
    std::string name = names[static_cast<std::size_t>(value)];
    Field(key, name);
    for (std::size_t i = 0; i < names.size(); ++i)
      if (names[i] == name) {
        value = static_cast<int>(i);
        return;
      }
    Fail(std::string(key) + " = \"" + name + "\" is no known choice");
  }

  void Object(const char* key, const std::function<void(Fields&)>& body) {
    known_.insert(key);
    if (reading_ && !(json_.is_object() && json_.contains(key))) return;
    Fields inner(json_[key], reading_, where_ + "." + key, error_);
    body(inner);
  }

  bool Has(const char* key) const { return json_.is_object() && json_.contains(key); }
  bool reading() const { return reading_; }

 private:
  template <typename T>
  void Read(const char* key, T& value) {
    const Json& field = json_[key];
    if constexpr (std::is_same_v<T, bool>) {
      if (!field.is_boolean()) return Fail(std::string(key) + " is no boolean");
    } else if constexpr (std::is_same_v<T, std::uint64_t>) {
      if (!field.is_number_unsigned()) return Fail(std::string(key) + " is no count");
    } else if constexpr (std::is_integral_v<T>) {
      if (!field.is_number_integer()) return Fail(std::string(key) + " is no integer");
    } else if constexpr (std::is_floating_point_v<T>) {
      if (!field.is_number()) return Fail(std::string(key) + " is no number");
    } else if constexpr (std::is_same_v<T, std::string>) {
      if (!field.is_string()) return Fail(std::string(key) + " is no string");
    } else {
      if (!field.is_object()) return Fail(std::string(key) + " is no object");
      for (const auto& entry : field)
        if (!entry.is_number()) return Fail(std::string(key) + " holds a value that is no number");
    }
    value = field.get<T>();
  }

  void Fail(const std::string& what) {
    if (error_.empty()) error_ = where_ + ": " + what;
  }

  Json& json_;
  bool reading_;
  std::string where_;
  std::string& error_;
  std::set<std::string> known_;
};

void Hinge(Fields& at, const char* key, HingeOptions& hinge) {
  at.Object(key, [&](Fields& f) {
    f.Field("weight", hinge.weight);
    f.Field("peak_weight", hinge.peak_weight);
    f.Field("window", hinge.window);
  });
}

void VisitShape(Fields& f, Shape& shape) {
  int ffn = static_cast<int>(shape.ffn);
  f.Field("n_layers", shape.n_layers);
  f.Field("d_model", shape.d_model);
  f.Field("n_heads", shape.n_heads);
  f.Field("d_ff", shape.d_ff);
  f.Choice("ffn", {"bilinear", "gelu"}, ffn);
  f.Field("vocab_size", shape.vocab_size);
  f.Field("context", shape.context);
  f.Field("power", shape.power);
  f.Field("attention_eps", shape.attention_eps);
  f.Field("norm_eps", shape.norm_eps);
  shape.ffn = static_cast<model::FeedForwardKind>(ffn);
}

void VisitOptimizer(Fields& f, OptimizerOptions& o) {
  f.Field("muon_lr", o.muon_lr);
  f.Field("adam_lr", o.adam_lr);
  f.Field("weight_decay", o.weight_decay);
  f.Field("grad_clip", o.grad_clip);
  f.Field("warmup", o.warmup);
  f.Field("decay_fraction", o.decay_fraction);
  f.Field("final_fraction", o.final_fraction);
}

void VisitPolynomial(Fields& f, PolynomialOptions& o) {
  f.Field("norm1_degree", o.norm1_degree);
  f.Field("divisor_degree", o.divisor_degree);
  f.Field("norm2_degree", o.norm2_degree);
  f.Field("activation_degree", o.activation_degree);
  f.Field("margin", o.margin);
  f.Field("calibration_batches", o.calibration_batches);
}

void Visit(Fields& f, TrainConfig& c) {
  int attention = static_cast<int>(c.attention);
  f.Field("name", c.name);
  f.Field("seed", c.seed);
  f.Field("threads", c.threads);
  f.Field("float64", c.float64);
  f.Object("shape", [&](Fields& inner) { VisitShape(inner, c.shape); });
  f.Choice("attention", {"softmax", "power-mean", "power-stable"}, attention);
  f.Field("batch", c.batch);
  f.Field("steps", c.steps);
  f.Object("optimizer", [&](Fields& inner) { VisitOptimizer(inner, c.optimizer); });
  f.Object("range", [&](Fields& inner) {
    Hinge(inner, "divisor", c.range.divisor);
    Hinge(inner, "variance", c.range.variance);
    Hinge(inner, "residual", c.range.residual);
    Hinge(inner, "activation", c.range.activation);
    inner.Field("interval_margin", c.range.interval_margin);
  });
  if (f.reading() && f.Has("polynomial")) c.polynomial.emplace();
  if (c.polynomial)
    f.Object("polynomial", [&](Fields& inner) { VisitPolynomial(inner, *c.polynomial); });
  f.Field("source_weights", c.source_weights);
  f.Field("init_from", c.init_from);
  f.Field("log_every", c.log_every);
  f.Field("eval_every", c.eval_every);
  f.Field("checkpoint_every", c.checkpoint_every);
  c.attention = static_cast<AttentionForm>(attention);
}

Status Check(const TrainConfig& c) {
  const Shape& s = c.shape;
  if (s.n_layers < 1 || s.n_heads < 1 || s.d_ff < 1 || s.context < 2 || s.d_model < s.n_heads ||
      s.d_model % s.n_heads != 0)
    return MakeError(ErrorCode::kMismatch,
                     "config.shape: {} layers, width {}, {} heads, ff {}, context {} do not fit",
                     s.n_layers, s.d_model, s.n_heads, s.d_ff, s.context);
  if (s.power < 2 || s.power > 12 || s.power % 2 != 0)
    return MakeError(ErrorCode::kOutOfRange, "config.shape.power = {}, not even in 2..12", s.power);
  if (c.batch < 1 || c.steps < 0 || c.threads < 1)
    return MakeError(ErrorCode::kOutOfRange, "config: batch {}, steps {}, threads {}", c.batch,
                     c.steps, c.threads);
  if (c.polynomial && c.attention == AttentionForm::kPowerStable)
    return MakeError(ErrorCode::kInvalidArgument,
                     "config: the polynomial stage needs power-mean, not power-stable");
  return {};
}

}  // namespace

Result<TrainConfig> ParseTrainConfig(std::string_view text) {
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return MakeError(ErrorCode::kCorrupt, "config: no JSON");
  TrainConfig config;
  std::string error;
  {
    Fields fields(json, true, "config", error);
    Visit(fields, config);
  }
  if (!error.empty()) return MakeError(ErrorCode::kInvalidArgument, "{}", error);
  PV_RETURN_IF_ERROR(Check(config));
  return config;
}

std::string FormatTrainConfig(const TrainConfig& config) {
  Json json = Json::object();
  std::string error;
  TrainConfig copy = config;
  {
    Fields fields(json, false, "config", error);
    Visit(fields, copy);
  }
  return json.dump(2) + "\n";
}

}  // namespace polyveil::train
