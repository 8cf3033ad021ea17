// The tensors of the client's half, taken out of its files one by one.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/client_config.h"
#include "model/client_files.h"
#include "model/formats/row_table.h"

namespace polyveil::model {

// A norm of the client's half, with its gain.
struct GainedNorm {
  ClientNorm spec;
  std::vector<double> gain, bias;  // bias may be empty

  void Apply(std::vector<double>& x) const;
};

// Remembers what was taken, so that a file which no part asks for is found. Both outlive it.
class ClientTensors {
 public:
  ClientTensors(const ClientConfig& config, const ClientFiles& files)
      : config_(config), files_(files) {}

  // rows: exactly so many, or where negative at least -rows. Errors: kNotFound, kMismatch; the
  // tensor named.
  Result<RowTable> Take(const std::string& name, std::int64_t rows, std::int64_t cols);
  Result<std::optional<GainedNorm>> TakeNorm(const std::optional<ClientNorm>& spec,
                                             const char* gain, const char* bias);
  // Errors: kMismatch names a tensor that was not taken.
  Status CheckNoneLeft() const;

 private:
  const ClientConfig& config_;
  const ClientFiles& files_;
  std::vector<std::string> taken_;
};

}  // namespace polyveil::model
