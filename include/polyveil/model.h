/// @file
/// A polynomial model in the clear: what it is, what a token of it will cost on ciphertexts, what
/// it says, and what noise would do to that.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "polyveil/export.h"
#include "polyveil/result.h"

namespace polyveil {

/// How a model is run on ciphertexts.
struct ProgramOptions {
  std::string parameters;        ///< Set by name; empty: the usual one.
  bool prompts_at_once = false;  ///< A second program, for prompts.
};

/// What a token will cost on this machine.
struct Plan {
  std::string parameters;                                  ///< Their description, with security.
  double seconds_per_token = 0;                            ///< As the server keeps its keys.
  std::vector<std::pair<std::string, double>> components;  ///< Seconds by part of a token.
  int levels = 0;                                          ///< Longest path of a token.
  int bootstraps = 0;                                      ///< Of a token.
  int rotations = 0;                                       ///< Of a token.
  std::uint64_t key_bytes_sent = 0;                        ///< Once, by a client.
  std::uint64_t server_bytes = 0;                          ///< Peak with one client.
  std::uint64_t token_bytes_up = 0;                        ///< Of every token.
  std::uint64_t token_bytes_down = 0;                      ///< Of its result.
};

/// A simulated run with the noise of ciphertexts beside the float64 model.
struct Simulation {
  std::uint64_t tokens = 0;        ///< Compared.
  std::uint64_t equal_tokens = 0;  ///< Whose next token is the float64 model's.
  double largest_logit_error = 0;  ///< Of any.
};

/// A decoder whose functions are polynomials, with its tokenizer.
class POLYVEIL_API Model {
 public:
  /// A bundle, a converted folder, or a *.gguf with forms.json beside it. context: 0 for the
  /// model's own. Errors: kNotFound, kCorrupt, kInvalidArgument (a model that is still softmax,
  /// with the command that converts it).
  static Result<Model> Load(const std::string& path, int context = 0);

  std::string name() const;  ///< Of the model.
  int context() const;       ///< Tokens that a text may have.
  int layers() const;        ///< Blocks.
  int width() const;         ///< Features of a token.

  /// Compiles it. Errors: kNotFound (the set), kSecurity, kInvalidArgument (what has no program).
  Result<polyveil::Plan> Plan(const ProgramOptions& options = {}) const;
  /// Greedy tokens of the float64 polynomial model behind `prompt`, as text.
  Result<std::string> Generate(std::string_view prompt, int tokens) const;
  /// The same on simulated slots with noise.
  Result<Simulation> Simulate(std::string_view prompt, int tokens,
                              const ProgramOptions& options = {}) const;

 private:
  struct Impl;
  explicit Model(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

}  // namespace polyveil
