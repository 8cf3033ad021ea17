// What the interpreter tells of a running step.
#pragma once

#include "compile/compiled_program.h"
#include "runtime/decoder_session.h"

namespace polyveil::runtime {

// Reports progress and component times, stops on cancellation.
class StepListener {
 public:
  StepListener(const compile::CompiledProgram& model, const compile::Graph& graph,
               const StepOptions& options)
      : model_(model), options_(options) {
    for (const compile::Node& node : graph.nodes) total_ += model.EstimateSeconds(node);
  }

  Status Before(const compile::Node& node) {
    if (options_.cancel != nullptr && options_.cancel->load()) {
      return MakeError(ErrorCode::kCancelled, "cancelled before {}", node.name);
    }
    if (options_.on_progress) options_.on_progress({total_ > 0 ? done_ / total_ : 0, &node.name});
    return {};
  }

  void After(const compile::Node& node, double seconds) {
    done_ += model_.EstimateSeconds(node);
    if (options_.latency != nullptr)
      options_.latency->AddComponent(compile::ComponentName(node.component), seconds);
  }

 private:
  const compile::CompiledProgram& model_;
  const StepOptions& options_;
  double done_ = 0, total_ = 0;
};

// What enters a program is at its level and that level's scale. Errors: kMismatch.
Status CheckInput(const compile::CompiledProgram& model, const ckks::Ciphertext& token);

}  // namespace polyveil::runtime
