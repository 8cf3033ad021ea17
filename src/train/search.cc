#include "train/search.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/output_file.h"
#include "base/system.h"
#include "model/bundle.h"
#include "train/draws.h"

namespace polyveil::train {
namespace {

using torch::Tensor;

constexpr int kSwapPatience = 24;  // rounds of swaps without a gain, then another start
constexpr double kTenth = 1.1;
// Products in bfloat16 move a ratio by less than a hundredth; what they put this near an end, or
// beyond it, is measured again in float32.
constexpr double kScreened = 0.9;
constexpr std::size_t kComparedRows = 16;  // of a batch: their logits stand in memory
constexpr std::size_t kStarts = 4;         // rows kept an end, to start swaps from
constexpr std::size_t kNear = 32;          // rows reported an end
constexpr double kNearRatio = 0.8;

// Ratios beyond an end: [rows] from values [rows, ...].
Tensor Beyond(const Tensor& values, const IntervalEnd& end) {
  const Tensor flat = values.detach().reshape({values.size(0), -1});
  const Tensor extreme = end.high ? flat.amax(1) : flat.amin(1);
  Tensor ratio;
  if (end.high || end.bound < 0) {
    ratio = extreme / end.bound;
  } else {
    ratio = end.bound / extreme;
    ratio = torch::where(extreme > 0, ratio, torch::full_like(ratio, INFINITY));
  }
  return torch::nan_to_num(ratio, INFINITY, INFINITY, 0.0);
}

void Add(OutputChange& sum, const OutputChange& part) {
  const double all = static_cast<double>(sum.positions + part.positions);
  if (all > 0)
    sum.mean_kl = (sum.mean_kl * static_cast<double>(sum.positions) +
                   part.mean_kl * static_cast<double>(part.positions)) /
                  all;
  sum.worst_kl = std::max(sum.worst_kl, part.worst_kl);
  sum.positions += part.positions;
  sum.other_argmax += part.other_argmax;
}

void AddNear(std::vector<WorstInput>& near, const WorstInput& next) {
  near.push_back(next);
  std::sort(near.begin(), near.end(),
            [](const WorstInput& a, const WorstInput& b) { return a.ratio > b.ratio; });
  if (near.size() > kNear) near.pop_back();
}

// Sums of counts, the worse of finds.
void Add(SearchReport& sum, const SearchReport& part) {
  sum.candidates += part.candidates;
  sum.positions += part.positions;
  sum.outside += part.outside;
  sum.beyond_tenth += part.beyond_tenth;
  sum.worst_ratio = std::max(sum.worst_ratio, part.worst_ratio);
  Add(sum.effect_outside, part.effect_outside);
  for (const auto& [name, kind] : part.kinds) {
    KindReport& here = sum.kinds[name];
    here.candidates += kind.candidates;
    here.outside += kind.outside;
    here.beyond_tenth += kind.beyond_tenth;
    here.worst = std::max(here.worst, kind.worst);
    Add(here.against_exact, kind.against_exact);
  }
  if (sum.ends.empty())
    for (const EndReport& end : part.ends) sum.ends.push_back({end.end, 0, {}, {}});
  for (std::size_t e = 0; e < part.ends.size(); ++e) {
    sum.ends[e].inputs_outside += part.ends[e].inputs_outside;
    for (const WorstInput& near : part.ends[e].near) AddNear(sum.ends[e].near, near);
    if (part.ends[e].worst.ratio > sum.ends[e].worst.ratio) sum.ends[e].worst = part.ends[e].worst;
  }
}

class Search {
 public:
  Search(const Transformer& model, const HardInputs& inputs, const SearchOptions& options,
         std::uint64_t worker)
      : worker_(worker),
        seed_(options.seed + 7907 * worker),
        model_(model),
        screen_(model),
        inputs_(inputs),
        options_(options),
        ends_(IntervalEnds(model, options.residual_bound)),
        starts_(ends_.size()) {
    for (const IntervalEnd& end : ends_) report_.ends.push_back({end, 0, {}, {}});
    screen_.precision = Precision::kBf16;
  }

  SearchReport Run() {
    const auto swaps = static_cast<std::int64_t>(options_.swap_share * static_cast<double>(share_));
    const std::int64_t room = share_ - swaps, vocabulary = inputs_.vocab_size();
    if (worker_ == 0) Repeat(vocabulary <= room ? vocabulary : room / 2);
    Draw(share_ - swaps - report_.candidates);
    Swap();
    FinishEffect();
    return std::move(report_);
  }

 private:
  struct Start {
    double ratio;
    TokenRow row;
  };

  // So many tokens of the vocabulary, evenly apart.
  void Repeat(std::int64_t count) {
    std::vector<TokenRow> rows;
    for (std::int64_t i = 0; i < count; ++i) {
      rows.push_back(inputs_.Repeated(i * inputs_.vocab_size() / count));
      if (static_cast<int>(rows.size()) == options_.rows || i + 1 == count) {
        Judge("every token repeated", rows);
        rows.clear();
      }
    }
  }

  void Draw(std::int64_t count) {
    for (std::int64_t batch = 0; batch * options_.rows < count; ++batch) {
      const InputKind kind = kInputKinds[static_cast<std::size_t>(batch) % std::size(kInputKinds)];
      std::vector<TokenRow> rows;
      const std::int64_t first = batch * options_.rows;
      for (std::int64_t i = first; i < std::min(count, first + options_.rows); ++i)
        rows.push_back(inputs_.Row(kind, seed_, static_cast<std::uint64_t>(i)));
      Judge(InputKindName(kind), rows);
    }
  }

  // Every end in turn: neighbours of its best start until none gains, then of the next one.
  void Swap() {
    std::mt19937_64 random = Generator(~seed_, 0);
    std::vector<std::size_t> at(ends_.size()), idle(ends_.size());
    for (std::size_t e = 0; report_.candidates < share_; e = (e + 1) % ends_.size()) {
      std::vector<Start>& starts = starts_[e];
      if (starts.empty()) {
        if (std::all_of(starts_.begin(), starts_.end(), [](const auto& s) { return s.empty(); }))
          return;
        continue;
      }
      const int count =
          static_cast<int>(std::min<std::int64_t>(options_.rows, share_ - report_.candidates));
      Start& start = starts[at[e] % starts.size()];
      const auto rows = SwapTokens(model_, start.row, ends_[e], count, random, inputs_.fixed());
      const Tensor ratios = Judge("swaps", rows)[static_cast<std::int64_t>(e)];
      const std::int64_t best = ratios.argmax().item<std::int64_t>();
      const double ratio = ratios[best].item<double>();
      if (ratio > start.ratio && std::isfinite(ratio)) {
        start = {ratio, rows[static_cast<std::size_t>(best)]};
        idle[e] = 0;
      } else if (++idle[e] >= kSwapPatience) {
        idle[e] = 0;
        ++at[e];
      }
    }
  }

  Tensor Judge(const std::string& kind, const std::vector<TokenRow>& rows) {
    torch::NoGradGuard no_grad;
    const Tensor ratios = Measure(rows);
    KindReport& here = report_.kinds[kind];
    const Tensor worst = ratios.amax(0);
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const double ratio = worst[static_cast<std::int64_t>(r)].item<double>();
      here.worst = std::max(here.worst, ratio);
      here.outside += ratio > 1;
      here.beyond_tenth += ratio > kTenth;
      if (ratio > 1 && outside_.size() < kMaxCompared) outside_.push_back(rows[r]);
    }
    here.candidates += static_cast<std::int64_t>(rows.size());
    report_.candidates += static_cast<std::int64_t>(rows.size());
    report_.positions += static_cast<std::int64_t>(rows.size() * rows.front().size());
    for (std::size_t e = 0; e < ends_.size(); ++e) Keep(e, kind, rows, ratios);
    if (judged_[kind]++ % options_.compare_every == 0)
      Add(here.against_exact, MeasureEffect(model_, {Part(rows, 0)}).all);
    Tell();
    return ratios;
  }

  Tensor Measure(const std::vector<TokenRow>& rows) const {
    Tensor ratios = MeasureEnds(screen_, ends_, RowsToBatch(rows)).to(torch::kFloat64);
    const Tensor worst = ratios.amax(0);
    std::vector<std::int64_t> near;
    std::vector<TokenRow> again;
    for (std::size_t r = 0; r < rows.size(); ++r) {
      if (worst[static_cast<std::int64_t>(r)].item<double>() < kScreened) continue;
      near.push_back(static_cast<std::int64_t>(r));
      again.push_back(rows[r]);
    }
    if (!near.empty())
      ratios.index_copy_(1, torch::tensor(near),
                         MeasureEnds(model_, ends_, RowsToBatch(again)).to(torch::kFloat64));
    return ratios;
  }

  static Batch Part(const std::vector<TokenRow>& rows, std::size_t first) {
    const auto at = rows.begin() + static_cast<std::ptrdiff_t>(first);
    const std::size_t size = std::min(kComparedRows, rows.size() - first);
    return RowsToBatch({at, at + static_cast<std::ptrdiff_t>(size)});
  }

  void Keep(std::size_t e, const std::string& kind, const std::vector<TokenRow>& rows,
            const Tensor& all) {
    const Tensor ratios = all[static_cast<std::int64_t>(e)];
    EndReport& end = report_.ends[e];
    end.inputs_outside += static_cast<std::uint64_t>((ratios > 1).sum().item<std::int64_t>());
    const std::int64_t best = ratios.argmax().item<std::int64_t>();
    const double ratio = ratios[best].item<double>();
    const TokenRow& row = rows[static_cast<std::size_t>(best)];
    if (ratio > kNearRatio) AddNear(end.near, {ratio, kind, row});
    if (ratio > end.worst.ratio) end.worst = {ratio, kind, row};
    if (kind == "swaps" || !std::isfinite(ratio)) return;
    std::vector<Start>& starts = starts_[e];
    if (starts.size() < kStarts || ratio > starts.back().ratio) {
      starts.push_back({ratio, row});
      std::sort(starts.begin(), starts.end(),
                [](const Start& a, const Start& b) { return a.ratio > b.ratio; });
      if (starts.size() > kStarts) starts.pop_back();
    }
  }

  void FinishEffect() {
    for (const auto& [name, kind] : report_.kinds) {
      report_.outside += kind.outside;
      report_.beyond_tenth += kind.beyond_tenth;
      report_.worst_ratio = std::max(report_.worst_ratio, kind.worst);
    }
    Transformer clamped = model_;
    clamped.clamp = 1;
    for (std::size_t first = 0; first < outside_.size(); first += kComparedRows)
      Add(report_.effect_outside, MeasureEffect(model_, clamped, {Part(outside_, first)}).all);
  }

  void Tell() {
    if (worker_ != 0 || !options_.progress || report_.candidates < told_ + share_ / 20) return;
    told_ = report_.candidates;
    double worst = 0;
    for (const EndReport& end : report_.ends) worst = std::max(worst, end.worst.ratio);
    options_.progress(fmt::format("{} of {} inputs, worst {:.4f} of an interval's end",
                                  report_.candidates, share_, worst));
  }

  static constexpr std::size_t kMaxCompared = 1024;

  const std::uint64_t worker_, seed_;
  const Transformer& model_;
  Transformer screen_;  // the same weights
  const HardInputs& inputs_;
  const SearchOptions& options_;
  const std::vector<IntervalEnd> ends_;
  std::vector<std::vector<Start>> starts_;
  const std::int64_t share_ =
      options_.inputs / options_.workers +
      (static_cast<std::int64_t>(worker_) < options_.inputs % options_.workers);
  std::vector<TokenRow> outside_;
  std::map<std::string, int> judged_;
  std::int64_t told_ = 0;
  SearchReport report_;
};

std::string Text(const TokenRow& row, const RowTokens& tokens) {
  std::string text;
  for (const std::int64_t token : row) text += tokens.piece(token);
  return text;
}

}  // namespace

std::vector<IntervalEnd> IntervalEnds(const Transformer& model, double residual_bound) {
  PV_CHECK(model.polynomials.has_value(), "ends of a model without polynomials");
  std::vector<IntervalEnd> ends;
  const auto add = [&](std::size_t layer, const char* rest, double a, double b) {
    const std::string site = fmt::format("layer {} / {}", layer, rest);
    ends.push_back({site, false, a});
    ends.push_back({site, true, b});
  };
  for (std::size_t layer = 0; layer < model.polynomials->size(); ++layer) {
    VisitPolynomials((*model.polynomials)[layer],
                     [&](const char*, const char* rest, const approx::Approximant& p) {
                       add(layer, rest, p.a, p.b);
                     });
    if (residual_bound == 0) continue;
    for (const char* rest : {"attention / residual", "feed-forward / residual"})
      add(layer, rest, -residual_bound, residual_bound);
  }
  return ends;
}

Tensor MeasureEnds(const Transformer& model, const std::vector<IntervalEnd>& ends,
                   const Batch& batch) {
  torch::NoGradGuard no_grad;
  std::map<std::string, Tensor> seen;
  model.Forward(
      batch.inputs, {}, [&](const std::string& site, const Tensor& values) { seen[site] = values; },
      Detail::kIntervals);
  std::vector<Tensor> ratios;
  for (const IntervalEnd& end : ends) {
    const auto it = seen.find(end.site);
    ratios.push_back(it == seen.end() ? torch::zeros({batch.inputs.size(0)})
                                      : Beyond(it->second, end).to(torch::kCPU, torch::kFloat32));
  }
  return torch::stack(ratios);
}

namespace {

// Exchanges as position vocabulary + token, the best first, by the end value's gradient.
std::vector<std::int64_t> PromisingSwaps(const Transformer& model, const TokenRow& row,
                                         const IntervalEnd& end, std::int64_t count,
                                         std::int64_t fixed) {
  const Tensor in = model.Embed(RowsToBatch({row}).inputs).detach().set_requires_grad(true);
  Tensor target;
  Transformer::Pass pass(
      model, {},
      [&](const std::string& site, const Tensor& values) {
        if (site == end.site) target = end.high ? values.amax() : -values.amin();
      },
      Detail::kIntervals);
  Tensor x = in;
  for (int layer = 0; layer < model.shape().n_layers && !target.defined(); ++layer)
    x = model.Block(layer, x, pass);
  if (!target.defined() || !target.requires_grad()) return {};
  const Tensor slope = torch::autograd::grad({target}, {in}, {}, {}, false, true)[0];
  if (!slope.defined()) return {};
  torch::NoGradGuard no_grad;
  const Tensor gain = torch::matmul(slope[0], model.Get("embed").t());  // [context, vocabulary]
  const Tensor now = gain.gather(1, torch::tensor(row).to(gain.device()).unsqueeze(1));
  Tensor score = (gain - now).nan_to_num(0.0);
  score.narrow(0, 0, fixed).fill_(-INFINITY);
  const Tensor top = std::get<1>(score.flatten().topk(count)).cpu().contiguous();
  return {top.data_ptr<std::int64_t>(), top.data_ptr<std::int64_t>() + top.numel()};
}

}  // namespace

std::vector<TokenRow> SwapTokens(const Transformer& model, const TokenRow& row,
                                 const IntervalEnd& end, int count, std::mt19937_64& random,
                                 std::size_t fixed) {
  const auto vocabulary = static_cast<std::uint64_t>(model.shape().vocab_size);
  const std::vector<std::int64_t> promising =
      PromisingSwaps(model, row, end, 8 * count, static_cast<std::int64_t>(fixed));
  const auto place = [&] { return fixed + Below(random, row.size() - fixed); };
  std::vector<TokenRow> out;
  for (int i = 0; i < count; ++i) {
    TokenRow next = row;
    for (std::uint64_t swaps = 1 + Below(random, 3); swaps > 0; --swaps) {
      if (!promising.empty() && i % 2 == 0) {
        const std::int64_t pick = promising[Below(random, promising.size())];
        next[static_cast<std::size_t>(pick) / vocabulary] =
            pick % static_cast<std::int64_t>(vocabulary);
      } else {
        const std::size_t to = place();
        next[to] = Below(random, 2) == 0 ? static_cast<std::int64_t>(Below(random, vocabulary))
                                         : row[place()];
      }
    }
    out.push_back(std::move(next));
  }
  return out;
}

Result<SearchReport> SearchInputs(const Transformer& model, const HardInputs& inputs,
                                  const SearchOptions& options) {
  if (!model.polynomials)
    return MakeError(ErrorCode::kMismatch, "the model has no polynomials: nothing to leave");
  if (inputs.vocab_size() > model.shape().vocab_size)
    return MakeError(ErrorCode::kMismatch, "tokenizer of {} tokens, model of {}",
                     inputs.vocab_size(), model.shape().vocab_size);
  const Timer timer;
  std::vector<SearchReport> parts(static_cast<std::size_t>(options.workers));
  std::vector<std::thread> threads;
  for (std::size_t w = 0; w < parts.size(); ++w)
    threads.emplace_back([&, w] {
      torch::set_num_threads(1);
      parts[w] = Search(model, inputs, options, w).Run();
    });
  for (std::thread& thread : threads) thread.join();
  SearchReport report;
  for (const SearchReport& part : parts) Add(report, part);
  report.seed = options.seed;
  report.seconds = timer.Seconds();
  return report;
}

Status Certify(const std::string& bundle_folder, const SearchReport& report) {
  const std::string path = bundle_folder + "/model.json";
  PV_ASSIGN_OR_RETURN(const auto bytes, model::ReadBundleFile(path, 4 << 20));
  PV_ASSIGN_OR_RETURN(
      model::ModelConfig config,
      model::ParseModelConfig({reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
  if (!config.certificate)
    return MakeError(ErrorCode::kMismatch, "{} has no certificate: export writes one", path);
  model::Certificate& c = *config.certificate;
  c.searched_inputs = static_cast<std::uint64_t>(report.candidates);
  c.searched_positions = static_cast<std::uint64_t>(report.positions);
  c.out_of_range = static_cast<std::uint64_t>(report.outside);
  c.changed_tokens = report.effect_outside.other_argmax;
  const double worst = std::clamp(report.worst_ratio, 1e-30, model::kOverflowRatio);
  c.worst_outside = std::max(c.worst_outside, worst);
  c.least_margin = std::min(c.least_margin, 1 / worst);
  PV_RETURN_IF_ERROR(model::ValidateModelConfig(config));
  return WriteFile(path, model::FormatModelConfig(config));
}

std::string ToJsonText(const SearchReport& report, const RowTokens& tokens) {
  nlohmann::ordered_json ends = nlohmann::ordered_json::array(),
                         kinds = nlohmann::ordered_json::object();
  for (const EndReport& end : report.ends) {
    nlohmann::ordered_json near = nlohmann::ordered_json::array();
    for (const WorstInput& other : end.near) near.push_back(other.row);
    ends.push_back({{"site", end.end.site},
                    {"end", end.end.high ? "high" : "low"},
                    {"bound", end.end.bound},
                    {"inputs_outside", end.inputs_outside},
                    {"worst_ratio", end.worst.ratio},
                    {"found_by", end.worst.found_by},
                    {"tokens", end.worst.row},
                    {"text", Text(end.worst.row, tokens)},
                    {"near", near}});
  }
  for (const auto& [name, kind] : report.kinds)
    kinds[name] = {{"candidates", kind.candidates},
                   {"outside", kind.outside},
                   {"beyond_a_tenth", kind.beyond_tenth},
                   {"worst_ratio", kind.worst},
                   {"against_exact", ToJson(kind.against_exact)}};
  const nlohmann::ordered_json out = {{"seed", report.seed},
                                      {"candidates", report.candidates},
                                      {"positions", report.positions},
                                      {"outside", report.outside},
                                      {"beyond_a_tenth", report.beyond_tenth},
                                      {"worst_ratio", report.worst_ratio},
                                      {"least_margin", report.least_margin()},
                                      {"seconds", report.seconds},
                                      {"effect_outside", ToJson(report.effect_outside)},
                                      {"kinds", kinds},
                                      {"ends", ends}};
  return out.dump(1, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string ToText(const SearchReport& report, const RowTokens& tokens) {
  std::string text = fmt::format(
      "{} inputs, {} positions, seed {}, {:.0f} s\n{} with a value outside, {} by more than 10%; "
      "worst {:.4f} of an interval's end, least margin {:.3f}\n",
      report.candidates, report.positions, report.seed, report.seconds, report.outside,
      report.beyond_tenth, report.worst_ratio, report.least_margin());
  if (report.outside > 0)
    text += fmt::format("next tokens of those against clamped polynomials: {} of {} differ\n",
                        report.effect_outside.other_argmax, report.effect_outside.positions);
  for (const auto& [name, kind] : report.kinds)
    text += fmt::format(
        "  {:22} {:8} inputs, {:6} outside, worst {:8.4g}; exact functions: {:.2f}% of {} next "
        "tokens differ\n",
        name, kind.candidates, kind.outside, kind.worst,
        100.0 * static_cast<double>(kind.against_exact.other_argmax) /
            std::max(1.0, static_cast<double>(kind.against_exact.positions)),
        kind.against_exact.positions);
  for (const EndReport& end : report.ends)
    text += fmt::format("  {:34} {:4} {:8.4g}: worst {:8.4g}, {:6} outside, {}: {}\n", end.end.site,
                        end.end.high ? "high" : "low", end.end.bound, end.worst.ratio,
                        end.inputs_outside, end.worst.found_by,
                        nlohmann::json(Text(end.worst.row, tokens).substr(0, 60))
                            .dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  return text;
}

}  // namespace polyveil::train
