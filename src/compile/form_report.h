// What a form of attention costs: depths, operations, bootstraps and estimated latency, from the
// compiler's own program of a model. For tables that compare forms.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "compile/cost_model.h"
#include "compile/graph.h"
#include "model/decoder.h"

namespace polyveil::compile {

struct FormLatency {
  int keys = 0;                  // that a token sees
  double attention_seconds = 0;  // scores to head outputs, bootstraps inside included
  double token_seconds = 0;      // the whole step, all layers
  int bootstraps = 0;            // of the whole step
};

struct FormReport {
  int nonlinearity_depth =
      0;                    // levels from the scores to the normalised head outputs, A x V included
  int attention_depth = 0;  // from the block's input to the residual after attention
  int block_depth = 0;      // longest path through one layer
  int bootstraps = 0;       // of a step, all layers
  // Of one layer outside bootstraps; a series' products by Paterson-Stockmeyer.
  int products = 0, plain_products = 0, rotations = 0;
  std::vector<FormLatency> latency;
};

// Names of a step's operations from the scores to the head outputs, with the bootstraps of their
// results. plan: with bootstraps.
std::set<std::string> AttentionOperations(const Graph& plan);

// Depths and operations: of the program at the last position of the context. lengths: contexts to
// estimate for, bootstraps placed for each. Errors: those of BlockLayout::Create and
// PlaceBootstraps.
Result<FormReport> ReportForm(const model::Decoder& decoder, const ckks::ParametersPtr& params,
                              const MachineSpeed& speed, const std::vector<int>& lengths);

}  // namespace polyveil::compile
