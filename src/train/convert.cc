#include "train/convert.h"

#include <cmath>
#include <map>

#include "approx/remez.h"
#include "base/output_file.h"
#include "train/activation.h"

namespace polyveil::train {
namespace {

using approx::Budget;
using approx::Candidate;
using approx::Target;
using torch::Tensor;

std::string SiteName(int layer, const char* rest) {
  return fmt::format("layer {} / {}", layer, rest);
}

Result<SiteChoice> Start(const SiteRanges& ranges, const std::string& site) {
  const auto it = ranges.find(site);
  if (it == ranges.end()) return MakeError(ErrorCode::kOutOfRange, "{}: never seen", site);
  SiteChoice choice;
  choice.site = site;
  choice.seen = it->second;
  return choice;
}

Status Decide(SiteChoice& choice, const Budget& budget, const std::string& family) {
  for (const Candidate& c : choice.candidates) {
    if (c.method != family) continue;
    choice.chosen = c;
    return {};
  }
  const auto chosen = approx::Choose(choice.candidates, choice.a, choice.b, budget);
  if (!chosen.ok())
    return MakeError(chosen.error().code, "{}: {}", choice.site, chosen.error().message);
  choice.chosen = *chosen;
  return {};
}

// What more training would change: it is the trainer's range penalties that narrow an input.
Error WithRemedy(const Error& error) {
  return MakeError(
      error.code,
      "{}; train longer with range penalties on it (\"range\" of the config), or allow more levels "
      "(--depth, or \"max_depth\" of a stage's fit)",
      error.message);
}

class Chooser {
 public:
  // Of `kept` every site is taken over that `ranges` lack.
  Chooser(const Transformer& model, const SiteRanges& ranges, const ConvertOptions& options,
          const Conversion* kept = nullptr)
      : model_(model), ranges_(ranges), options_(options) {
    if (kept)
      for (const SiteChoice& choice : kept->choices)
        if (!ranges.count(choice.site)) kept_.emplace(choice.site, choice);
  }

  Result<Conversion> Run() {
    for (int layer = 0; layer < model_.shape().n_layers; ++layer) PV_RETURN_IF_ERROR(Layer(layer));
    return std::move(out_);
  }

 private:
  Status Layer(int layer) {
    LayerPolynomials fits = UnfittedPolynomials(model_.shape());
    Status status;
    VisitPolynomials(fits, [&](const std::string& key, const char* site, approx::Approximant& p) {
      const std::string name = SiteName(layer, site);
      if (!status.ok() || (key == "divisor_inverse" && !Divides(layer))) return;
      const auto choice = Site(key, name);
      if (!choice.ok()) return (void)(status = WithRemedy(choice.error()));
      p = choice->chosen.polynomial;
      out_.choices.push_back(*choice);
    });
    out_.polynomials.push_back(std::move(fits));
    return status;
  }

  bool Divides(int layer) const {
    return model_.attention(layer) == AttentionForm::kPowerMean ||
           model_.attention(layer) == AttentionForm::kPowerStable;
  }

  Result<SiteChoice> Site(const std::string& key, const std::string& name) const {
    if (const auto it = kept_.find(name); it != kept_.end()) return it->second;
    const Shape& shape = model_.shape();
    const ExactSite exact = ExactSiteOf(shape, key);
    if (exact.order == 0)
      return ChooseActivation(ranges_, name, ExactActivation(shape.activation), options_);
    const double error = key == "divisor_inverse" ? options_.divisor_error : options_.norm_error;
    return ChooseInverse(ranges_, name, exact.order == 1 ? Target::kInverse : Target::kInverseRoot,
                         exact.shift, error, options_);
  }

  const Transformer& model_;
  const SiteRanges& ranges_;
  const ConvertOptions& options_;
  std::map<std::string, SiteChoice> kept_;
  Conversion out_;
};

nlohmann::ordered_json ToJson(const Candidate& c) {
  return {{"method", c.method},
          {"degree", c.polynomial.degree()},
          {"steps", c.polynomial.steps},
          {"depth", c.depth},
          {"products", c.products},
          {"error", c.error},
          {"error_a_quarter_beyond", c.beyond}};
}

constexpr std::int64_t kLogitRows = 256;  // of logits at a time

// Some positions' states by exact functions and by polynomials; how many had a target.
double AddPositions(const Tensor& head, const Tensor& exact, const Tensor& actual,
                    const Tensor& targets, const Tensor& escaped, ConversionEffect& effect) {
  const Tensor kept = (targets >= 0).nonzero().view(-1);
  const auto distribution = [&](const Tensor& states) {
    const Tensor logits = torch::linear(states.index_select(0, kept), head);
    return torch::log_softmax(logits.to(torch::kFloat64), 1);
  };
  const Tensor p = distribution(exact), q = distribution(actual);
  const Tensor index = targets.index_select(0, kept).unsqueeze(1);
  effect.parent_nats -= p.gather(1, index).sum().item<double>();
  effect.polynomial_nats -= q.gather(1, index).sum().item<double>();
  const Tensor kl = (p.exp() * (p - q)).sum(1), differs = p.argmax(1) != q.argmax(1);
  AddChange(effect.all, kl, differs);
  const Tensor there = escaped.index_select(0, kept).nonzero().view(-1);
  AddChange(effect.at_escapes, kl.index_select(0, there), differs.index_select(0, there));
  return static_cast<double>(kept.numel());
}

std::string ToText(const char* where, const OutputChange& change) {
  return fmt::format(
      "  {:22} {:8} positions: KL {:.2e} mean, {:.2e} worst; "
      "another argmax at {}\n",
      where, change.positions, change.mean_kl, change.worst_kl, change.other_argmax);
}

}  // namespace

void AddChange(OutputChange& change, const Tensor& kl, const Tensor& differs) {
  const auto count = kl.numel();
  if (count == 0) return;
  const double before = change.mean_kl * static_cast<double>(change.positions);
  change.positions += static_cast<std::uint64_t>(count);
  change.mean_kl = (before + kl.sum().item<double>()) / static_cast<double>(change.positions);
  change.worst_kl = std::max(change.worst_kl, kl.max().item<double>());
  change.other_argmax += static_cast<std::uint64_t>(differs.sum().item<std::int64_t>());
}

Result<SiteChoice> ChooseInverse(const SiteRanges& ranges, const std::string& site, Target target,
                                 double shift, double error, const ConvertOptions& options) {
  PV_ASSIGN_OR_RETURN(SiteChoice choice, Start(ranges, site));
  if (!(choice.seen.lo > 0) || !std::isfinite(choice.seen.hi))
    return MakeError(ErrorCode::kOutOfRange, "{}: range [{}, {}] is not positive and finite", site,
                     choice.seen.lo, choice.seen.hi);
  const approx::Range interval = approx::WithRatioMargin(choice.seen, options.margin);
  choice.a = interval.lo;
  choice.b = interval.hi;
  const Budget budget{error, options.max_depth};
  choice.candidates = approx::Candidates(target, choice.a, choice.b, shift, budget);
  PV_RETURN_IF_ERROR(Decide(choice, budget, options.family));
  return choice;
}

Result<SiteChoice> ChooseActivation(const SiteRanges& ranges, const std::string& site,
                                    const approx::Function& activation,
                                    const ConvertOptions& options) {
  PV_ASSIGN_OR_RETURN(SiteChoice choice, Start(ranges, site));
  choice.b = options.margin * std::max(std::abs(choice.seen.lo), std::abs(choice.seen.hi));
  choice.a = -choice.b;
  for (int degree = 3; degree <= 127; degree = 2 * degree + 1) {
    const auto fit = approx::Minimax(
        activation, [](double) { return 1.0; }, choice.a, choice.b, degree);
    if (!fit.ok() || fit->error > options.activation_error) continue;
    Candidate c{"remez", fit->series, fit->error};
    c.depth = c.polynomial.LevelDepth();
    c.products = c.polynomial.Products();
    c.beyond = std::abs(c.polynomial(1.25 * choice.b) - activation(1.25 * choice.b));
    choice.candidates.push_back(std::move(c));
    break;
  }
  const Budget budget{options.activation_error, options.max_depth};
  PV_RETURN_IF_ERROR(Decide(choice, budget, ""));
  return choice;
}

Result<Conversion> ChoosePolynomials(const Transformer& model, const SiteRanges& ranges,
                                     const ConvertOptions& options) {
  return Chooser(model, ranges, options).Run();
}

Result<Conversion> RenewPolynomials(const Transformer& model, const Conversion& conversion,
                                    const SiteRanges& ranges, const ConvertOptions& options) {
  return Chooser(model, ranges, options, &conversion).Run();
}

ConversionEffect MeasureEffect(const Transformer& model, const std::vector<Batch>& batches) {
  Transformer parent = model;  // shares the weights
  parent.polynomials.reset();
  return MeasureEffect(model, parent, batches);
}

ConversionEffect MeasureEffect(const Transformer& model, const Transformer& parent,
                               const std::vector<Batch>& batches) {
  torch::NoGradGuard no_grad;
  ConversionEffect effect;
  double counted = 0;
  const std::int64_t prefix = model.shape().prefix;
  const auto mark_options = torch::TensorOptions(model.device()).dtype(torch::kBool);
  for (const Batch& batch : batches) {
    Tensor escaped = torch::zeros(batch.inputs.sizes(), mark_options);
    const auto mark = [&](const std::string& site, const Tensor& outside) {
      Tensor behind = escaped.narrow(1, prefix, escaped.size(1) - prefix);
      behind.logical_or_(MarkedPositions(site, outside));
    };
    const Tensor hidden = ForwardCountingEscapes(model, batch, effect.escapes, mark);
    if (!model.shape().predicts) continue;
    const Tensor exact = parent.Forward(batch.inputs, {}).hidden;
    const Tensor targets = batch.targets.reshape({-1}).to(model.device());
    for (std::int64_t at = 0; at < targets.numel(); at += kLogitRows) {
      const std::int64_t rows = std::min(kLogitRows, targets.numel() - at);
      const auto part = [&](const Tensor& x) { return x.narrow(0, at, rows); };
      counted += AddPositions(model.HeadMatrix(), part(exact), part(hidden), part(targets),
                              part(escaped.view(-1)), effect);
    }
  }
  effect.parent_nats /= std::max(1.0, counted);
  effect.polynomial_nats /= std::max(1.0, counted);
  return effect;
}

nlohmann::ordered_json ToJson(const EscapeReport& report) {
  nlohmann::ordered_json sites = nlohmann::ordered_json::object();
  for (const auto& [site, escapes] : report.by_site)
    sites[site] = {{"escapes", escapes.count}, {"worst_ratio", escapes.worst_ratio}};
  return {{"positions", report.positions},
          {"evaluations", report.evaluations},
          {"escapes", report.escapes},
          {"worst_ratio", report.worst_ratio},
          {"by_site", sites}};
}

nlohmann::ordered_json ToJson(const ConversionEffect& effect) {
  return {{"parent_nats", effect.parent_nats},
          {"parent_perplexity", std::exp(effect.parent_nats)},
          {"polynomial_nats", effect.polynomial_nats},
          {"polynomial_perplexity", std::exp(effect.polynomial_nats)},
          {"all_positions", ToJson(effect.all)},
          {"positions_with_escapes", ToJson(effect.at_escapes)},
          {"escapes", ToJson(effect.escapes)}};
}

nlohmann::ordered_json ToJson(const OutputChange& change) {
  return {{"positions", change.positions},
          {"mean_kl", change.mean_kl},
          {"worst_kl", change.worst_kl},
          {"other_argmax", change.other_argmax}};
}

nlohmann::ordered_json ToJson(const SiteChoice& choice) {
  nlohmann::ordered_json candidates = nlohmann::ordered_json::array();
  for (const Candidate& c : choice.candidates) candidates.push_back(ToJson(c));
  return {{"site", choice.site},
          {"seen", {choice.seen.lo, choice.seen.hi}},
          {"interval", {choice.a, choice.b}},
          {"chosen", ToJson(choice.chosen)},
          {"candidates", candidates}};
}

nlohmann::ordered_json ToJson(const Conversion& conversion) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const SiteChoice& choice : conversion.choices) out.push_back(ToJson(choice));
  return out;
}

std::string ToText(const Conversion& conversion) {
  std::string text =
      fmt::format("{:34} {:>21} {:>7} {:11} {:>6} {:>5} {:>8} {:>9} {:>9}\n", "site", "interval",
                  "ratio", "method", "degree", "depth", "products", "error", "beyond");
  for (const SiteChoice& choice : conversion.choices) {
    const Candidate& c = choice.chosen;
    text += fmt::format("{:34} [{:9.4g},{:9.4g}] {:7.3g} {:11} {:6} {:5} {:8} {:9.2e} {:9.2e}\n",
                        choice.site, choice.a, choice.b, choice.a > 0 ? choice.b / choice.a : 0,
                        c.method, c.polynomial.degree(), c.depth, c.products, c.error, c.beyond);
  }
  return text;
}

std::string ToText(const ConversionEffect& effect) {
  std::string text = fmt::format("held-out perplexity {:.4f} -> {:.4f} ({:+.3f}%)\n",
                                 std::exp(effect.parent_nats), std::exp(effect.polynomial_nats),
                                 100 * (std::exp(effect.polynomial_nats - effect.parent_nats) - 1));
  text += ToText("everywhere", effect.all) + ToText("where an input escaped", effect.at_escapes);
  text += fmt::format("  escapes: {} of {} evaluations at {} positions, worst ratio {:.3f}\n",
                      effect.escapes.escapes, effect.escapes.evaluations, effect.escapes.positions,
                      effect.escapes.worst_ratio);
  for (const auto& [site, escapes] : effect.escapes.by_site)
    text += fmt::format("    {:34} {:6}, worst ratio {:.3f}\n", site, escapes.count,
                        escapes.worst_ratio);
  return text;
}

}  // namespace polyveil::train
