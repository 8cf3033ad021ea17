#include "polyveil/text_options.h"

namespace polyveil::tools {

void AddTextOptions(Options& app, model::TextOptions& options) {
  model::SamplingOptions& sampling = options.sampling;
  AddNumber(app, "--temperature", sampling.temperature, {0, 1000}, "0 is greedy");
  AddNumber(app, "--top-p", sampling.top_p, {1e-9, 1}, "nucleus");
  AddNumber(app, "--top-k", sampling.top_k, {0, 1 << 20}, "of so many tokens; 0: of all");
  AddNumber(app, "--repetition-penalty", sampling.repetition_penalty, {1e-3, 100},
            "divides positive logits of tokens that the text has, multiplies negative ones");
  AddSeed(app, sampling.seed, "of sampling");
  app.add_option("--stop", options.stops, "end the text before this text (repeatable)")
      ->one_value();
}

}  // namespace polyveil::tools
