// The processes of one data-parallel run on one machine, over LibTorch's Gloo. For machines of many
// cores: every process repeats the optimiser's step, so that on two cores two threads of one
// process are faster (docs/decisions/0013).
#pragma once

#include <sys/types.h>
#include <torch/torch.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace polyveil::train {

class Processes {
 public:
  // Forks count - 1 processes, which return from here too, as ranks 1 .. count - 1 with a standard
  // output that goes nowhere. Must come before anything that starts threads. Requires count >= 1.
  // Errors: kIo where no process or no meeting place can be had.
  static Result<std::unique_ptr<Processes>> Start(int count);

  // Rank 0 waits for the others to end, which they do by themselves or when it closes the group.
  ~Processes();

  int rank() const { return rank_; }
  int count() const { return count_; }

  // Replaces every process's tensors (the same shapes of one type everywhere) by their sums. With
  // two processes the sums are those of one that adds its parts in order. Errors: kIo when another
  // process is gone.
  Status Sum(const std::vector<torch::Tensor>& tensors) const;

 private:
  Processes() = default;

  struct Group;  // keeps Gloo's headers out of here
  std::unique_ptr<Group> group_;
  std::vector<pid_t> others_;
  int rank_ = 0, count_ = 1;
};

}  // namespace polyveil::train
